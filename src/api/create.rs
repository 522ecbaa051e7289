//! The request for a payout: its form on the wire, the checks of its values, and its fingerprint. Every wrong
//! value is reported at once. Nothing of a request is ever logged.

use super::{
    body::{self, Object},
    codes::Code,
    problem::{FieldError, Problem, shown},
    text::{self, METADATA_ENTRIES, METADATA_KEY, METADATA_VALUE, RECIPIENT_NAME, REFERENCE, Rule, TOKEN},
};
use crate::{
    domain::{
        money::{Currency, MAX_MINOR, Money},
        payout::DestinationKind,
    },
    store::encoding::Code as _,
};
use secrecy::{ExposeSecret, SecretString};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error as _, MapAccess, Visitor},
};
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, fmt};

/// The request as it travels.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wire {
    #[serde(deserialize_with = "body::integer")]
    amount: i64,
    currency: String,
    destination: Object<WireDestination>,
    recipient: Object<WireRecipient>,
    customer_reference: String,
    reference: Option<String>,
    metadata: Option<Metadata>,
}

/// Flat rather than an enum: serde would buffer a tagged enum, and with that lose the path to what is wrong.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireDestination {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default, deserialize_with = "secret")]
    token: Option<SecretString>,
    #[serde(default, deserialize_with = "secret")]
    number_hash: Option<SecretString>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireRecipient {
    name: String,
}

fn secret<'de, D: Deserializer<'de>>(source: D) -> Result<Option<SecretString>, D::Error> {
    Ok(Option::<String>::deserialize(source)?.map(SecretString::from))
}

/// A map that refuses the same key twice; serde's own keeps the last.
struct Metadata(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Metadata;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object whose values are strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metadata, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<String, String>()? {
                    if entries.contains_key(&key) {
                        return Err(A::Error::custom(format_args!("duplicate field `{key}`")));
                    }
                    entries.insert(key, value);
                }
                Ok(Metadata(entries))
            }
        }
        source.deserialize_map(Entries)
    }
}

/// A request whose every value is known to be good.
pub(super) struct Asked {
    pub amount: Money,
    pub destination: DestinationKind,
    pub secret: SecretString,
    pub recipient_name: String,
    pub customer_reference: String,
    pub reference: Option<String>,
    pub metadata: BTreeMap<String, String>,
}

/// Without the recipient's name and whatever callers put into free text.
impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked")
            .field("amount", &self.amount)
            .field("destination", &self.destination)
            .finish_non_exhaustive()
    }
}

impl Asked {
    /// Checks every value of a request.
    pub(super) fn check(wire: Wire) -> Result<Self, Problem> {
        let mut errors = vec![];
        let amount = amount(&wire, &mut errors);
        let Object(recipient) = wire.recipient;
        let destination = destination(wire.destination.0, &mut errors);
        let metadata = wire.metadata.map(|metadata| metadata.0).unwrap_or_default();
        let mut check = |field: &str, text: &str, rule: &Rule| errors.extend(rule.check(field, text));
        check("recipient.name", &recipient.name, &RECIPIENT_NAME);
        check("customer_reference", &wire.customer_reference, &REFERENCE);
        if let Some(reference) = &wire.reference {
            check("reference", reference, &REFERENCE);
        }
        check_metadata(&metadata, &mut errors);
        match (amount, destination) {
            (Some(amount), Some((destination, secret))) if errors.is_empty() => Ok(Self {
                amount,
                destination,
                secret,
                recipient_name: recipient.name,
                customer_reference: wire.customer_reference,
                reference: wire.reference,
                metadata,
            }),
            _ => Err(Problem::of_fields(errors)),
        }
    }

    /// SHA-256 of the request as understood: two requests have the same one if and only if they ask for the
    /// same. Kept for ever beside the idempotency key, so this form may never change.
    pub(super) fn fingerprint(&self) -> [u8; 32] {
        #[derive(Serialize)]
        struct Canonical<'a> {
            amount: i64,
            currency: &'static str,
            destination: [&'a str; 2],
            recipient_name: &'a str,
            customer_reference: &'a str,
            reference: Option<&'a str>,
            metadata: &'a BTreeMap<String, String>,
        }
        let canonical = Canonical {
            amount: self.amount.minor(),
            currency: self.amount.currency().code(),
            destination: [self.destination.code(), self.secret.expose_secret()],
            recipient_name: &self.recipient_name,
            customer_reference: &self.customer_reference,
            reference: self.reference.as_deref(),
            metadata: &self.metadata,
        };
        Sha256::digest(serde_json::to_vec(&canonical).expect("strings and numbers always serialise")).into()
    }

    /// SHA-256 over kind and secret, each preceded by its length.
    pub(super) fn destination_fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for part in [self.destination.code(), self.secret.expose_secret()] {
            hash.update(part.len().to_string());
            hash.update(":");
            hash.update(part);
        }
        hash.finalize().into()
    }

    /// The metadata as they are stored and given back.
    pub(super) fn metadata_json(&self) -> String {
        serde_json::to_string(&self.metadata).expect("strings always serialise")
    }
}

fn amount(wire: &Wire, errors: &mut Vec<FieldError>) -> Option<Money> {
    let currency: Option<Currency> = wire.currency.parse().ok();
    if currency.is_none() {
        let detail = "It must be an ISO 4217 code such as RUB.";
        errors.push(FieldError::new("currency", Code::UnknownCurrency, detail));
    }
    if !(1..=MAX_MINOR).contains(&wire.amount) {
        let detail = format!("It must be 1 to {MAX_MINOR} minor units (cents, kopecks).");
        errors.push(FieldError::new("amount", Code::AmountOutOfRange, detail).limit(MAX_MINOR));
    }
    Money::new(wire.amount, currency?).ok()
}

fn destination(
    wire: WireDestination,
    errors: &mut Vec<FieldError>,
) -> Option<(DestinationKind, SecretString)> {
    let WireDestination { kind, token, number_hash } = wire;
    if matches!(kind.as_str(), "bank_card" | "card") {
        errors.push(text::raw_card("destination.type"));
        return None;
    }
    let Some(kind) = DestinationKind::from_code(&kind) else {
        let detail = "It must be tokenized_card, encrypted_card or recurrent.";
        errors.push(FieldError::new("destination.type", Code::UnknownDestinationType, detail));
        return None;
    };
    let (token, hash) = (("destination.token", token), ("destination.number_hash", number_hash));
    let (wanted, other) = match kind {
        DestinationKind::TokenizedCard | DestinationKind::Recurrent => (token, hash),
        DestinationKind::EncryptedCard => (hash, token),
    };
    if other.1.is_some() {
        let detail = format!("It does not belong to a destination of type {}.", kind.code());
        errors.push(FieldError::new(other.0, Code::UnknownField, detail));
    }
    let Some(secret) = wanted.1 else {
        errors.push(FieldError::new(wanted.0, Code::MissingField, "It must be there."));
        return None;
    };
    errors.extend(TOKEN.check(wanted.0, secret.expose_secret()));
    Some((kind, secret))
}

fn check_metadata(metadata: &BTreeMap<String, String>, errors: &mut Vec<FieldError>) {
    if metadata.len() > METADATA_ENTRIES {
        let detail = format!("It has more than {METADATA_ENTRIES} entries.");
        errors.push(FieldError::new("metadata", Code::TooManyEntries, detail).limit(shown(METADATA_ENTRIES)));
        return;
    }
    for (key, value) in metadata {
        let field = format!("metadata.{}", body::shown_name(key));
        errors.extend(METADATA_KEY.check(&field, key));
        errors.extend(METADATA_VALUE.check(&field, value));
    }
}

#[cfg(test)]
mod tests;
