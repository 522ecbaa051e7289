//! Identifiers. Ours are time-ordered (UUID v7) so that new rows land next to each other in the indexes;
//! Pike's are opaque text of unspecified length and stay exactly as received.

use std::{fmt, str::FromStr};
use uuid::Uuid;

const PAYOUT_PREFIX: &str = "payout_";

/// A payout of ours: `payout_` and 32 hexadecimal digits outside, a UUID v7 inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PayoutId(pub Uuid);

impl fmt::Display for PayoutId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PAYOUT_PREFIX}{}", self.0.simple())
    }
}

/// The text is not an id that we could have issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a payout id: expected payout_ and 32 hexadecimal digits")]
pub struct BadPayoutId;

impl FromStr for PayoutId {
    type Err = BadPayoutId;

    fn from_str(text: &str) -> Result<Self, BadPayoutId> {
        let hex = text.strip_prefix(PAYOUT_PREFIX).ok_or(BadPayoutId)?;
        let exact = hex.len() == 32 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !exact {
            return Err(BadPayoutId);
        }
        Uuid::try_parse(hex).map(PayoutId).map_err(|_| BadPayoutId)
    }
}

/// A tenant of ours: the name of its table in the settings. It owns its payouts, API keys and webhook path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProjectId(pub String);

impl fmt::Display for ProjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Pike's session id (`ps_…`), opaque.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub String);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_its_text() {
        let id = PayoutId(Uuid::from_u128(0x0123_4567_89ab_cdef));
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn names_are_shown_as_they_are() {
        assert_eq!(ProjectId("shop".into()).to_string(), "shop");
        assert_eq!(SessionId("ps_1".into()).to_string(), "ps_1");
    }

    #[test]
    fn other_texts_are_refused() {
        for text in
            ["", "payout_", "po_00000000000000000123456789abcdef", "payout_0000000000000000012345678-abcdef"]
        {
            assert_eq!(text.parse::<PayoutId>(), Err(BadPayoutId), "{text}");
        }
        assert!("payout_00000000000000000123456789ABCDEF".parse::<PayoutId>().is_err(), "one spelling only");
    }
}
