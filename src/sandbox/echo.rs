//! What a caller says that is only handed back: participants, customer, metadata. Kept as written, but only
//! when every reader can take it back, and when the parts that have a shape have it.

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::code::Code;

/// The fields of a participant that are strings; `identity_document` is an object of strings.
const PARTICIPANT: &[&str] = &[
    "full_name",
    "first_name",
    "last_name",
    "middle_name",
    "company_name",
    "reference",
    "tax_reference",
    "country_iso2",
    "country_iso3",
    "city",
    "state",
    "street",
    "building",
    "flat",
    "postal_code",
    "address_line",
    "ipv4",
    "ipv6",
    "document",
    "date_of_birth",
    "citizenship_country_iso_3",
    "account",
    "currency",
    "bank_name",
    "registration_number",
    "date_of_incorporation",
    "msisdn",
    "email",
    "code",
    "swift_bic_code",
    "description",
    "beneficiary_id",
    "wallet_id",
];
const DOCUMENT: &[&str] =
    &["id_type", "id_number", "id_expiration_date", "issue_date", "division_code", "issued_by"];

type Raw = Option<Box<RawValue>>;

/// Any JSON that every reader can read: no half characters, no numbers without an end, no bottomless depth.
pub fn metadata(raw: Raw) -> Result<Raw, Code> {
    if let Some(raw) = &raw {
        parse(raw)?;
    }
    Ok(raw)
}

/// `{"recipient": P, "sender": P}`.
pub fn participants(raw: Raw) -> Result<Raw, Code> {
    if let Some(raw) = &raw {
        let parties = object(parse(raw)?)?;
        for party in ["recipient", "sender"] {
            let Some(party) = part(&parties, party) else { continue };
            let party = party.as_object().ok_or(Code::InvalidRequest)?;
            strings(party, PARTICIPANT)?;
            if let Some(document) = part(party, "identity_document") {
                strings(document.as_object().ok_or(Code::InvalidRequest)?, DOCUMENT)?;
            }
        }
    }
    Ok(raw)
}

/// `{"reference": "…", "contacts": [{"email": "…"}, {"phone": "…"}]}`.
pub fn customer(raw: Raw) -> Result<Raw, Code> {
    if let Some(raw) = &raw {
        let customer = object(parse(raw)?)?;
        strings(&customer, &["reference"])?;
        if let Some(contacts) = part(&customer, "contacts") {
            for contact in contacts.as_array().ok_or(Code::InvalidRequest)? {
                strings(contact.as_object().ok_or(Code::InvalidRequest)?, &["email", "phone"])?;
            }
        }
    }
    Ok(raw)
}

fn parse(raw: &RawValue) -> Result<Value, Code> {
    serde_json::from_str(raw.get()).map_err(|_| Code::InvalidRequest)
}

fn object(value: Value) -> Result<Map<String, Value>, Code> {
    match value {
        Value::Object(object) => Ok(object),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(Code::InvalidRequest)
        }
    }
}

/// A field that is there; null is not.
fn part<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    object.get(name).filter(|value| !value.is_null())
}

fn strings(object: &Map<String, Value>, names: &[&str]) -> Result<(), Code> {
    let wrong = |name: &&str| part(object, name).is_some_and(|value| !value.is_string());
    if names.iter().any(wrong) { Err(Code::InvalidRequest) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Raw {
        Some(RawValue::from_string(text.to_owned()).unwrap())
    }

    #[test]
    fn shapes_are_checked_and_texts_kept() {
        for text in [r#"{"recipient":{"full_name":"A","later":7,"city":null},"other":1}"#, "{}"] {
            assert_eq!(participants(raw(text)).unwrap().unwrap().get(), text);
        }
        let document = r#"{"sender":{"identity_document":{"id_number":5}}}"#;
        for text in ["7", "[]", r#"{"recipient":"A"}"#, r#"{"sender":{"full_name":17}}"#, document] {
            assert!(participants(raw(text)).is_err(), "{text}");
        }
        let good = r#"{"reference":"u", "contacts":[{"email":"a@example.org"},{"phone":"1"}]}"#;
        assert_eq!(customer(raw(good)).unwrap().unwrap().get(), good);
        for text in ["\"u\"", r#"{"reference":7}"#, r#"{"contacts":"a"}"#, r#"{"contacts":["a"]}"#] {
            assert!(customer(raw(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn metadata_is_any_json_that_can_be_read_back() {
        for text in ["7", "\"a\"", "[1.50, {}]", "{\"a\":null}", "12345678901234567890"] {
            assert_eq!(metadata(raw(text)).unwrap().unwrap().get(), text);
        }
        let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
        for text in ["\"\\ud800\"", "1e400", deep.as_str()] {
            assert!(metadata(raw(text)).is_err(), "{text}");
        }
    }
}
