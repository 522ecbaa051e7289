//! Where a payout goes, in all the ways in which a caller can name a card: its number, a hash, a token, a
//! recurrent token. One card looks the same in a project whichever of them is used.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::code::Code;
use super::super::magic::{self, Magic};
use super::super::request::{Reader, object};
use super::super::session::Destination;
use super::face::{CardData, Face};
use super::seal::{Kind, Mark, Sealed};

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
struct NumberHash {
    number_hash: String,
}

#[derive(Deserialize)]
struct Token {
    token: String,
}

/// How a caller names a card.
pub enum Named {
    Data(CardData),
    Token(Kind, String),
}

/// Reads a destination.
///
/// # Errors
/// `invalid_request` for anything that is not the documented shape.
pub fn read(raw: &RawValue, reader: Reader<'_>) -> Result<Destination, Code> {
    let outer: Typed<'_> = object(raw.get())?;
    match outer.kind.as_str() {
        "card" => match named_card(sub_object(outer.card)?)? {
            Named::Data(data) => {
                let face = Face::of(&data, reader.seal, reader.now)?;
                Ok(Destination { magic: face.magic, card: face.card(reader.project), recurrent: None })
            }
            Named::Token(kind, token) => of_token(kind, &token, reader),
        },
        "recurrent" => {
            let recurrent: Token = object(sub_object(outer.recurrent)?)?;
            of_token(Kind::Recurrent, &recurrent.token, reader)
        }
        _ => Err(Code::InvalidRequest),
    }
}

/// Reads a `card` object.
///
/// # Errors
/// `invalid_request` when it names no card.
pub fn named_card(text: &str) -> Result<Named, Code> {
    let card: Typed<'_> = object(text)?;
    match card.kind.as_str() {
        "bank_card" => Ok(Named::Data(object(sub_object(card.bank_card)?)?)),
        "encrypted_card" => {
            let NumberHash { number_hash } = object(sub_object(card.encrypted_card)?)?;
            Ok(Named::Token(Kind::Hash, number_hash))
        }
        "tokenized_card" => {
            let Token { token } = object(sub_object(card.tokenized_card)?)?;
            Ok(Named::Token(Kind::Token, token))
        }
        _ => Err(Code::InvalidRequest),
    }
}

fn sub_object(raw: Option<&RawValue>) -> Result<&str, Code> {
    raw.map(RawValue::get).ok_or(Code::InvalidRequest)
}

/// What a token stands for where one of `kind` is expected. A token that is none of ours is someone's own
/// invention, and as good as any.
///
/// # Errors
/// `invalid_request` for nothing, and for a token of ours that is for something else.
pub fn of_token(kind: Kind, token: &str, reader: Reader<'_>) -> Result<Destination, Code> {
    let recurrent = (kind == Kind::Recurrent).then(|| Mark::of(token));
    match reader.seal.open(token) {
        Some(Sealed::Card { kind: sealed, face, .. }) if sealed == kind => {
            Ok(Destination { magic: face.magic, card: face.card(reader.project), recurrent })
        }
        Some(Sealed::Card { .. } | Sealed::Public(_)) => Err(Code::InvalidRequest),
        None if token.is_empty() => Err(Code::InvalidRequest),
        None => Ok(Destination {
            magic: Magic::of(token),
            card: magic::card_of_token(reader.project, token),
            recurrent,
        }),
    }
}
