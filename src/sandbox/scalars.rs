//! The small values of the sandbox: instants, digests, ids, currencies and amounts, with their stored and
//! shown forms. They know nothing of sessions, HTTP or files.

use std::fmt;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use uuid::Uuid;

/// An instant in microseconds since the Unix epoch, the precision in which Pike shows time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct At(pub i64);

impl At {
    /// `self + delay`; an absurd delay means never.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(delay.as_micros()).unwrap_or(i64::MAX)))
    }

    /// How long from `now` until `self`; zero when it is past.
    #[must_use]
    pub fn since(self, now: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(now.0)).unwrap_or(0))
    }

    /// As a date and time; the epoch for what is beyond the calendar.
    #[must_use]
    pub fn utc(self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000)
            .unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

impl From<OffsetDateTime> for At {
    fn from(instant: OffsetDateTime) -> Self {
        Self(i64::try_from(instant.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = self.utc();
        let (year, month, day) = (t.year(), u8::from(t.month()), t.day());
        let (hour, minute, second, micros) = (t.hour(), t.minute(), t.second(), t.microsecond());
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
    }
}

/// A SHA-256, shown and stored as hex.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest of several parts; each is preceded by its length, so that parts cannot run together.
    #[must_use]
    pub fn of_parts(parts: &[&str]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update(part.len().to_le_bytes());
            hash.update(part.as_bytes());
        }
        Self(hash.finalize().into())
    }

    /// Reads the shown form, lower-case, and nothing else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digit = |byte: &u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
        let bytes = pairs.iter().map(|[high, low]| Some(digit(high)? << 4 | digit(low)?));
        bytes.collect::<Option<Vec<u8>>>()?.try_into().ok().map(Self)
    }

    /// A number of `digits` decimal digits that follows from the digest from byte `from` on.
    #[must_use]
    pub fn digits(&self, from: usize, digits: usize) -> String {
        let bytes = self.0.iter().cycle().skip(from);
        bytes.take(digits).map(|byte| char::from(b'0' + byte % 10)).collect()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0_u8; 64];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair.copy_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("a digest has 64 lower-case hex digits"))
    }
}

/// The id of a session (`ps_…`). Version 7 UUIDs, so that ids never repeat, not even after a restart
/// without a state file, and sort by age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(Uuid);

/// The id of a payout (`po_…`); its return, of which there is one at most, is `rf_…` with the same digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PayoutId(Uuid);

impl PayoutId {
    /// The id of the payout's return.
    #[must_use]
    pub fn refund_id(&self) -> String {
        format!("rf_{}", self.0.simple())
    }
}

macro_rules! prefixed_id {
    ($name:ident, $prefix:literal) => {
        impl $name {
            /// A new id, different from all others.
            #[must_use]
            pub fn fresh() -> Self {
                Self(Uuid::now_v7())
            }

            /// Reads the shown form and nothing else.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                let digits = text.strip_prefix($prefix)?;
                let plain = digits.len() == 32 && !digits.bytes().any(|b| b.is_ascii_uppercase());
                plain.then(|| Uuid::try_parse(digits).ok()).flatten().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut digits = Uuid::encode_buffer();
                f.write_str($prefix)?;
                f.write_str(self.0.simple().encode_lower(&mut digits))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(&text).ok_or_else(|| D::Error::custom(concat!("not a ", $prefix, " id")))
            }
        }
    };
}

prefixed_id!(SessionId, "ps_");
prefixed_id!(PayoutId, "po_");

/// A currency of ISO 4217, kept in the case in which the caller wrote them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Currency(Box<str>);

impl Currency {
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let known = iso_currency::Currency::from_code(&text.to_ascii_uppercase()).is_some();
        known.then(|| Self(text.into()))
    }

    /// The form of fees, reports and of the ledger's totals.
    #[must_use]
    pub fn upper(&self) -> String {
        self.0.to_ascii_uppercase()
    }
}

/// Minor units with their currency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    #[serde(rename = "amount")]
    pub minor: i64,
    pub currency: Currency,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_time_in_utc_with_microseconds() {
        assert_eq!(At(1_741_083_330_120_000).to_string(), "2025-03-04T10:15:30.120000Z");
        assert_eq!(At(7).to_string(), "1970-01-01T00:00:00.000007Z");
        assert_eq!(At(i64::MAX).to_string(), "1970-01-01T00:00:00.000000Z");
        assert_eq!(At(5).after(Duration::MAX), At(i64::MAX));
        assert_eq!(At(5).since(At(9)), Duration::ZERO);
    }

    #[test]
    fn ids_and_digests_survive_their_shown_form() {
        let id = SessionId::fresh();
        assert_eq!(SessionId::parse(&id.to_string()), Some(id));
        assert_eq!(SessionId::parse(&id.to_string().replace("ps_", "po_")), None);
        assert_eq!(SessionId::parse("ps_1"), None);
        let digest = Digest::of(b"");
        let json = serde_json::to_string(&digest).unwrap();
        assert_eq!(json, "\"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"");
        assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), digest);
        let shown = digest.to_string();
        for other in [&shown[1..], &shown[2..], &shown.to_uppercase(), &format!("{shown}00"), &"é".repeat(32)]
        {
            assert_eq!(Digest::parse(other), None, "{other}");
        }
        assert_ne!(Digest::of_parts(&["ab", "c"]), Digest::of_parts(&["a", "bc"]));
        assert_eq!(digest.digits(0, 12).len(), 12);
    }
}
