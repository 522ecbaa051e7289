//! Reads the body of a call: names per version, unknown fields ignored, an empty body in all the shapes in
//! which clients send one. Knows nothing of sessions that exist.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::code::Code;
use super::magic::{self, Magic};
use super::scalars::{Amount, Currency, SessionId};
use super::session::{Destination, Order, Version};

/// The methods about payout sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, Deserialize)]
pub enum Method {
    #[serde(rename = "session/create")]
    Create,
    #[serde(rename = "session/init/payout")]
    InitPayout,
    #[serde(rename = "session/start/payout")]
    StartPayout,
    #[serde(rename = "session/confirm")]
    Confirm,
    #[serde(rename = "session/cancel")]
    Cancel,
    #[serde(rename = "session/status")]
    Status,
}

impl Method {
    pub const ALL: [Self; 6] =
        [Self::Create, Self::InitPayout, Self::StartPayout, Self::Confirm, Self::Cancel, Self::Status];

    /// The path after `/api/v{n}/`, also the name in the ledger.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::Create => "session/create",
            Self::InitPayout => "session/init/payout",
            Self::StartPayout => "session/start/payout",
            Self::Confirm => "session/confirm",
            Self::Cancel => "session/cancel",
            Self::Status => "session/status",
        }
    }
}

/// What a call says, whichever method it is for.
#[derive(Debug, Default)]
pub struct Request {
    /// `None` when it is missing, and when it cannot be the id of any session.
    pub session: Option<SessionId>,
    pub order: Order,
}

#[derive(Default, Deserialize)]
struct Body<'a> {
    session_id: Option<String>,
    #[serde(borrow)]
    payment_method: Option<&'a RawValue>,
    #[serde(borrow)]
    payout_details: Option<&'a RawValue>,
    #[serde(borrow)]
    amount_details: Option<&'a RawValue>,
    participant_details: Option<Box<RawValue>>,
    customer: Option<Box<RawValue>>,
    metadata: Option<Box<RawValue>>,
}

/// Reads a body.
///
/// # Errors
/// `invalid_request` for anything that is not the documented shape.
pub fn read(body: &[u8], project: &str, version: Version) -> Result<Request, Code> {
    let text = std::str::from_utf8(body).map_err(|_| Code::InvalidRequest)?;
    if is_empty(text) {
        return Ok(Request::default());
    }
    let body: Body<'_> = object(text)?;
    let details = match version {
        Version::V1 => body.payment_method,
        Version::V2 => body.payout_details,
    };
    Ok(Request {
        session: body.session_id.as_deref().and_then(SessionId::parse),
        order: Order {
            destination: details.map(|raw| destination(raw, project)).transpose()?,
            amount: body.amount_details.map(amount).transpose()?,
            participants: body.participant_details,
            customer: body.customer,
            metadata: body.metadata,
        },
    })
}

/// Nothing, or an empty array: a client in a language whose empty map is an empty list sends that.
fn is_empty(text: &str) -> bool {
    let mut rest = text.bytes().filter(|byte| !byte.is_ascii_whitespace());
    matches!((rest.next(), rest.next(), rest.next()), (None, ..) | (Some(b'['), Some(b']'), None))
}

/// Reads a JSON object. An array will not do, although serde would fill a struct from one.
fn object<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Code> {
    if !text.trim_start().starts_with('{') {
        return Err(Code::InvalidRequest);
    }
    serde_json::from_str(text).map_err(|_| Code::InvalidRequest)
}

#[derive(Deserialize)]
struct AmountDetails {
    amount: i64,
    currency: String,
}

fn amount(raw: &RawValue) -> Result<Amount, Code> {
    let details: AmountDetails = object(raw.get())?;
    let currency = Currency::parse(&details.currency).ok_or(Code::InvalidRequest)?;
    if details.amount > 0 {
        Ok(Amount { minor: details.amount, currency })
    } else {
        Err(Code::InvalidRequest)
    }
}

/// `{"type": T, T: {…}}`: the sub-object is named by the type.
#[derive(Deserialize)]
struct Typed<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(borrow)]
    card: Option<&'a RawValue>,
    #[serde(borrow)]
    recurrent: Option<&'a RawValue>,
    #[serde(borrow)]
    bank_card: Option<&'a RawValue>,
    #[serde(borrow)]
    encrypted_card: Option<&'a RawValue>,
    #[serde(borrow)]
    tokenized_card: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Number {
    number: String,
}

#[derive(Deserialize)]
struct NumberHash {
    number_hash: String,
}

#[derive(Deserialize)]
struct Token {
    token: String,
}

fn destination(raw: &RawValue, project: &str) -> Result<Destination, Code> {
    let outer: Typed<'_> = object(raw.get())?;
    match outer.kind.as_str() {
        "card" => card(sub_object(outer.card)?, project),
        "recurrent" => {
            let recurrent: Token = object(sub_object(outer.recurrent)?)?;
            of_token(&recurrent.token, project)
        }
        _ => Err(Code::InvalidRequest),
    }
}

fn card(text: &str, project: &str) -> Result<Destination, Code> {
    let card: Typed<'_> = object(text)?;
    match card.kind.as_str() {
        "bank_card" => {
            let Number { number } = object(sub_object(card.bank_card)?)?;
            let masked = magic::card_of_number(project, &number).ok_or(Code::InvalidRequest)?;
            Ok(Destination { magic: Magic::of(&number), card: masked })
        }
        "encrypted_card" => {
            let NumberHash { number_hash } = object(sub_object(card.encrypted_card)?)?;
            of_token(&number_hash, project)
        }
        "tokenized_card" => {
            let Token { token } = object(sub_object(card.tokenized_card)?)?;
            of_token(&token, project)
        }
        _ => Err(Code::InvalidRequest),
    }
}

fn sub_object(raw: Option<&RawValue>) -> Result<&str, Code> {
    raw.map(RawValue::get).ok_or(Code::InvalidRequest)
}

fn of_token(token: &str, project: &str) -> Result<Destination, Code> {
    if token.is_empty() {
        return Err(Code::InvalidRequest);
    }
    Ok(Destination { magic: Magic::of(token), card: magic::card_of_token(project, token) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(body: &str, version: Version) -> Result<Order, Code> {
        read(body.as_bytes(), "p", version).map(|request| request.order)
    }

    #[test]
    fn an_empty_body_has_many_shapes() {
        for body in ["", "{}", "[]", " [ ] \n", "{\"later\":{\"a\":[1]}}"] {
            let order = order(body, Version::V2).unwrap();
            assert!(order.destination.is_none() && order.amount.is_none(), "{body}");
        }
    }

    #[test]
    fn what_is_not_a_body_is_refused() {
        let amount = |text: &str| format!("{{\"amount_details\":{text}}}");
        let card = |text: &str| format!("{{\"payout_details\":{{\"type\":\"card\",\"card\":{text}}}}}");
        for body in [
            "null".to_owned(),
            "[\"ps_1\"]".to_owned(),
            "{".to_owned(),
            "{} {}".to_owned(),
            "{\"session_id\":7}".to_owned(),
            amount("[5,\"rub\"]"),
            amount("{\"amount\":0,\"currency\":\"rub\"}"),
            amount("{\"amount\":1.5,\"currency\":\"rub\"}"),
            amount("{\"amount\":9223372036854775808,\"currency\":\"rub\"}"),
            amount("{\"amount\":1,\"currency\":\"rubl\"}"),
            card("{\"type\":\"tokenized_card\"}"),
            card("{\"type\":\"tokenized_card\",\"tokenized_card\":{\"token\":\"\"}}"),
            card("{\"type\":\"bank_card\",\"bank_card\":{\"number\":\"12\"}}"),
            "{\"payout_details\":{\"type\":\"wallet\",\"wallet\":{}}}".to_owned(),
        ] {
            assert_eq!(order(&body, Version::V2).map(|_| ()), Err(Code::InvalidRequest), "{body}");
        }
        assert!(read(&[0xff, 0xfe], "p", Version::V1).is_err());
        let deep = "[".repeat(100_000);
        assert!(read(format!("{{\"metadata\":{deep}").as_bytes(), "p", Version::V1).is_err());
    }

    #[test]
    fn names_follow_the_version_and_metadata_stays_as_written() {
        let body = r#"{"payment_method":{"type":"recurrent","recurrent":{"token":"tok_slow1"}},
            "amount_details":{"amount":7,"currency":"Usd"},"metadata":{"b":1.50, "a":[]}}"#;
        let v1 = order(body, Version::V1).unwrap();
        assert_eq!(v1.destination.unwrap().magic, Magic::Slow);
        assert_eq!(v1.amount.unwrap().currency.upper(), "USD");
        assert_eq!(v1.metadata.unwrap().get(), "{\"b\":1.50, \"a\":[]}");
        assert!(order(body, Version::V2).unwrap().destination.is_none());
    }
}
