//! Reads what a partner wants of the methods that are not about sessions: public tokens, what a token stands
//! for, recurrent tokens, the wallet. All that needs no memory is answered here, before the world is locked;
//! the rest is `desk`'s.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use time::format_description::well_known::Iso8601;
use time::{OffsetDateTime, PrimitiveDateTime};

use super::super::code::Code;
use super::super::request::{Method, Reader, body_object, object};
use super::super::scalars::At;
use super::super::session::Card;
use super::desk::accepted;
use super::destination::{self, Named};
use super::face::{CardData, Face};
use super::seal::{Access, Kind, Pass, Sealed};

/// When a recurrent token that someone made up was made: the start of 2020.
const MADE_UP: At = At(1_577_836_800_000_000);

/// A call that was read.
#[derive(Debug)]
pub enum Wish {
    /// Nothing has to be asked for: the answer.
    Known(Vec<u8>),
    PublicInfo {
        token: String,
        pass: Pass,
    },
    Recurrent {
        token: String,
        made: At,
        wanted: Wanted,
    },
    Balance,
}

/// What is wanted of a recurrent token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Info,
    Status,
    Disabling,
}

/// Reads the body of a call.
///
/// # Errors
/// `invalid_request` for anything that is not the documented shape, or names a token of another kind.
pub fn read(method: Method, body: &[u8], reader: Reader<'_>) -> Result<Wish, Code> {
    match method {
        Method::Token => public_token(body, reader),
        Method::TokenInfo => token_info(body, reader),
        Method::TokenizeElements => tokenize_elements(body, reader),
        Method::RecurrentStatus => recurrent(body, Wanted::Status, reader),
        Method::RecurrentDisable => recurrent(body, Wanted::Disabling, reader),
        Method::WalletBalance => wallet_balance(body),
        Method::Create
        | Method::InitPayout
        | Method::StartPayout
        | Method::Confirm
        | Method::Cancel
        | Method::Status => Err(Code::InvalidRequest),
    }
}

fn public_token(body: &[u8], reader: Reader<'_>) -> Result<Wish, Code> {
    #[derive(Default, Deserialize)]
    struct Body<'a> {
        #[serde(borrow)]
        tokenize_widget: Option<&'a RawValue>,
        #[serde(borrow)]
        acquiring_widget: Option<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct Widget {
        access: Option<bool>,
    }
    #[derive(Serialize)]
    struct Said {
        public_token: String,
    }
    let body: Body<'_> = body_object(body)?;
    let asked = |widget: Option<&RawValue>| -> Result<bool, Code> {
        let Some(raw) = widget else { return Ok(false) };
        let widget: Widget = object(raw.get())?;
        Ok(widget.access != Some(false))
    };
    let access = Access { tokenize: asked(body.tokenize_widget)?, acquire: asked(body.acquiring_widget)? };
    if access == Access::default() {
        return Err(Code::InvalidRequest);
    }
    let public_token = reader.seal.public(access, reader.project, reader.now);
    Ok(Wish::Known(accepted(&Said { public_token })))
}

#[derive(Deserialize)]
struct Token {
    token: String,
}

fn token_info(body: &[u8], reader: Reader<'_>) -> Result<Wish, Code> {
    #[derive(Default, Deserialize)]
    struct Body<'a> {
        r#type: String,
        #[serde(borrow)]
        card: Option<&'a RawValue>,
        #[serde(borrow)]
        public_token: Option<&'a RawValue>,
        #[serde(borrow)]
        recurrent_token: Option<&'a RawValue>,
    }
    let body: Body<'_> = body_object(body)?;
    let part = |raw: Option<&'_ RawValue>| raw.map(|raw| raw.get().to_owned()).ok_or(Code::InvalidRequest);
    match body.r#type.as_str() {
        "card" => match destination::named_card(&part(body.card)?)? {
            Named::Token(kind, token) => card_info(kind, &token, reader),
            Named::Data(_) => Err(Code::InvalidRequest),
        },
        "public_token" => {
            let Token { token } = object(&part(body.public_token)?)?;
            match reader.seal.open(&token) {
                // One project's permission is none of another's business.
                Some(Sealed::Public(pass)) if pass.project == reader.seal.project(reader.project) => {
                    Ok(Wish::PublicInfo { token, pass })
                }
                Some(Sealed::Public(_) | Sealed::Card { .. }) | None => Err(Code::InvalidRequest),
            }
        }
        "recurrent_token" => {
            let Token { token } = object(&part(body.recurrent_token)?)?;
            named_recurrent(token, Wanted::Info, reader)
        }
        _ => Err(Code::InvalidRequest),
    }
}

fn card_info(kind: Kind, token: &str, reader: Reader<'_>) -> Result<Wish, Code> {
    #[derive(Serialize)]
    struct Said<'a> {
        info: Info<'a>,
    }
    #[derive(Serialize)]
    struct Info<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        number_hash: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        token: Option<&'a str>,
        brand: &'a str,
        last4: &'a str,
        country_iso3: &'a str,
        r#type: &'static str,
    }
    let Card { brand, last4, country_iso3, .. } = &destination::of_token(kind, token, reader)?.card;
    let (number_hash, token) = if kind == Kind::Hash { (Some(token), None) } else { (None, Some(token)) };
    let info = Info { number_hash, token, brand, last4, country_iso3, r#type: "card" };
    Ok(Wish::Known(accepted(&Said { info })))
}

/// No source shows the shape of this method's body or answer: both are ours. The card comes as it does in
/// a payout (`{"type":"card","card":{"type":"bank_card","bank_card":{…}}}`) or as the browser's end point has
/// it (`{"card":{"number",…}}`).
fn tokenize_elements(body: &[u8], reader: Reader<'_>) -> Result<Wish, Code> {
    #[derive(Default, Deserialize)]
    struct Body<'a> {
        #[serde(borrow)]
        card: Option<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct Shape<'a> {
        #[serde(borrow, rename = "type")]
        kind: Option<&'a RawValue>,
    }
    #[derive(Serialize)]
    struct Said {
        token: String,
    }
    let body: Body<'_> = body_object(body)?;
    let card = body.card.ok_or(Code::InvalidRequest)?.get();
    let shape: Shape<'_> = object(card)?;
    let data: CardData = match shape.kind {
        None => object(card)?,
        Some(_) => match destination::named_card(card)? {
            Named::Data(data) => data,
            Named::Token(..) => return Err(Code::InvalidRequest),
        },
    };
    let face = Face::of(&data, reader.seal, reader.now)?;
    Ok(Wish::Known(accepted(&Said { token: reader.seal.card(Kind::Token, &face, reader.now) })))
}

fn recurrent(body: &[u8], wanted: Wanted, reader: Reader<'_>) -> Result<Wish, Code> {
    #[derive(Default, Deserialize)]
    struct Body<'a> {
        #[serde(borrow)]
        recurrent: Option<&'a RawValue>,
    }
    let body: Body<'_> = body_object(body)?;
    let Token { token } = object(body.recurrent.ok_or(Code::InvalidRequest)?.get())?;
    named_recurrent(token, wanted, reader)
}

/// A recurrent token; like a payout, this takes one that someone made up for a good one.
fn named_recurrent(token: String, wanted: Wanted, reader: Reader<'_>) -> Result<Wish, Code> {
    let made = match reader.seal.open(&token) {
        Some(Sealed::Card { kind: Kind::Recurrent, made, .. }) => made,
        Some(Sealed::Card { .. } | Sealed::Public(_)) => return Err(Code::InvalidRequest),
        None if token.is_empty() => return Err(Code::InvalidRequest),
        None => MADE_UP,
    };
    Ok(Wish::Recurrent { token, made, wanted })
}

fn wallet_balance(body: &[u8]) -> Result<Wish, Code> {
    #[derive(Default, Deserialize)]
    struct Body {
        request_datetime: String,
    }
    let Body { request_datetime } = body_object(body)?;
    // The balance is that of now whatever it says: the instant is the request's, not the balance's.
    if is_instant(&request_datetime) { Ok(Wish::Balance) } else { Err(Code::InvalidRequest) }
}

/// Whether a text is a date and time of ISO 8601, with an offset or without.
fn is_instant(text: &str) -> bool {
    OffsetDateTime::parse(text, &Iso8601::DEFAULT).is_ok()
        || PrimitiveDateTime::parse(text, &Iso8601::DEFAULT).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_forms_of_a_date_and_time_are_iso_8601() {
        for text in [
            "2025-03-04T10:15:30.120000Z",
            "2025-03-04T10:15:30+03:00",
            "2025-03-04T10:15:30+0300",
            "2025-03-04T10:15:30",
            "2025-03-04T10:15Z",
            "20250304T101530Z",
        ] {
            assert!(is_instant(text), "{text}");
        }
        for text in ["", "now", "2025-03-04", "2025-13-04T10:15:30Z", "1741083330", "2025-03-04 10:15:30"] {
            assert!(!is_instant(text), "{text}");
        }
    }
}
