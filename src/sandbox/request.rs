//! Reads the body of a call: names per version, unknown fields ignored, an empty body in all the shapes in
//! which clients send one. Knows nothing of sessions that exist. The methods about tokens and the wallet have
//! bodies of their own, which `tokens::wish` reads with what is here.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::code::Code;
use super::echo;
use super::scalars::{Amount, At, Currency, SessionId};
use super::session::{Order, Version};
use super::tokens::{Seal, destination};

/// The methods of the API.
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
    #[serde(rename = "token")]
    Token,
    #[serde(rename = "token/info")]
    TokenInfo,
    #[serde(rename = "tokenize/elements")]
    TokenizeElements,
    #[serde(rename = "recurrent/status")]
    RecurrentStatus,
    #[serde(rename = "recurrent/disable")]
    RecurrentDisable,
    #[serde(rename = "wallet/balance")]
    WalletBalance,
}

impl Method {
    pub const ALL: [Self; 12] = [
        Self::Create,
        Self::InitPayout,
        Self::StartPayout,
        Self::Confirm,
        Self::Cancel,
        Self::Status,
        Self::Token,
        Self::TokenInfo,
        Self::TokenizeElements,
        Self::RecurrentStatus,
        Self::RecurrentDisable,
        Self::WalletBalance,
    ];

    /// Whether it is about payout sessions, rather than about what stands around them.
    #[must_use]
    pub fn is_about_sessions(self) -> bool {
        match self {
            Self::Create
            | Self::InitPayout
            | Self::StartPayout
            | Self::Confirm
            | Self::Cancel
            | Self::Status => true,
            Self::Token
            | Self::TokenInfo
            | Self::TokenizeElements
            | Self::RecurrentStatus
            | Self::RecurrentDisable
            | Self::WalletBalance => false,
        }
    }

    /// Whether a version of the API has it: only the sessions got a second version.
    #[must_use]
    pub fn exists_in(self, version: Version) -> bool {
        self.is_about_sessions() || version == Version::V1
    }

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
            Self::Token => "token",
            Self::TokenInfo => "token/info",
            Self::TokenizeElements => "tokenize/elements",
            Self::RecurrentStatus => "recurrent/status",
            Self::RecurrentDisable => "recurrent/disable",
            Self::WalletBalance => "wallet/balance",
        }
    }
}

/// Who says it, and what it takes to understand them.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    pub project: &'a str,
    pub version: Version,
    pub seal: &'a Seal,
    pub now: At,
}

/// What a call about a session says, whichever method it is for.
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

/// Reads the body of a call about a session.
///
/// # Errors
/// `invalid_request` for anything that is not the documented shape.
pub fn read(body: &[u8], reader: Reader<'_>) -> Result<Request, Code> {
    let body: Body<'_> = body_object(body)?;
    let details = match reader.version {
        Version::V1 => body.payment_method,
        Version::V2 => body.payout_details,
    };
    Ok(Request {
        session: body.session_id.as_deref().and_then(SessionId::parse),
        order: Order {
            destination: details.map(|raw| destination::read(raw, reader)).transpose()?,
            amount: body.amount_details.map(amount).transpose()?,
            participants: echo::participants(body.participant_details)?,
            customer: echo::customer(body.customer)?,
            metadata: echo::metadata(body.metadata)?,
        },
    })
}

/// Reads a body as a JSON object; an empty one in any of its shapes has no fields.
///
/// # Errors
/// `invalid_request` when it is something else.
pub fn body_object<'a, T: Default + Deserialize<'a>>(body: &'a [u8]) -> Result<T, Code> {
    let text = std::str::from_utf8(body).map_err(|_| Code::InvalidRequest)?;
    if is_empty(text) { Ok(T::default()) } else { object(text) }
}

/// Nothing, or an empty array: a client in a language whose empty map is an empty list sends that.
fn is_empty(text: &str) -> bool {
    let mut rest = text.bytes().filter(|byte| !byte.is_ascii_whitespace());
    matches!((rest.next(), rest.next(), rest.next()), (None, ..) | (Some(b'['), Some(b']'), None))
}

/// Reads a JSON object. An array will not do, although serde would fill a struct from one.
///
/// # Errors
/// `invalid_request` when it is something else.
pub fn object<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Code> {
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

#[cfg(test)]
mod tests {
    use super::super::magic::Magic;
    use super::super::settings::Settings;
    use super::*;

    fn order(body: impl AsRef<[u8]>, version: Version) -> Result<Order, Code> {
        let seal = Seal::of(&Settings::new(Vec::new(), "key".to_owned()));
        let reader = Reader { project: "p", version, seal: &seal, now: At(0) };
        read(body.as_ref(), reader).map(|request| request.order)
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
        assert!(order([0xff, 0xfe], Version::V1).is_err());
        let deep = "[".repeat(100_000);
        assert!(order(format!("{{\"metadata\":{deep}"), Version::V1).is_err());
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
