//! Pike's names. Requests are written in the names of the configured version; everything read (answers and
//! webhooks) is accepted in either, because which one a webhook uses is not promised. Unknown fields are
//! ignored, unknown values kept, duplicate keys refused. What decisions rest on (ids, statuses, amounts) is
//! read strictly; a fact in an odd shape (an RRN as a number, `[]` for an object) is merely not known.

use crate::domain::{
    id::SessionId,
    money::Money,
    payout::DestinationKind,
    provider::{CardFacts, ProviderError, ProviderFacts},
    session::{PayoutReport, PayoutStatus, SessionReport, SessionStatus},
};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::{Map, Value, json, value::RawValue};
use std::panic;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Which of Pike's two APIs is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiVersion {
    V1,
    V2,
}

impl ApiVersion {
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        }
    }

    /// The name of a payout's destination in a request.
    fn destination(self) -> &'static str {
        match self {
            Self::V1 => "payment_method",
            Self::V2 => "payout_details",
        }
    }
}

/// The constant body of `session/create`: amount, destination and metadata all come with the start.
pub(super) const CREATE_BODY: &[u8] = b"{}";

/// The one body that confirm, cancel and status share for a session.
pub(super) fn session_body(session: &SessionId) -> Vec<u8> {
    json!({ "session_id": session.0 }).to_string().into_bytes()
}

/// What a start says. Debug is not derived: the secret must not end up in a log.
pub(super) struct Start<'a> {
    pub session: &'a SessionId,
    pub amount: Money,
    pub destination: DestinationKind,
    pub destination_secret: &'a str,
    pub recipient_name: &'a str,
    pub customer_reference: &'a str,
    pub metadata_tag: &'a str,
}

pub(super) fn start_body(version: ApiVersion, start: &Start<'_>) -> Vec<u8> {
    let secret = start.destination_secret;
    let destination = match start.destination {
        DestinationKind::TokenizedCard => card("tokenized_card", json!({"token": secret})),
        DestinationKind::EncryptedCard => card("encrypted_card", json!({"number_hash": secret})),
        DestinationKind::Recurrent => json!({"type": "recurrent", "recurrent": {"token": secret}}),
    };
    let currency = start.amount.currency().code().to_ascii_lowercase();
    let mut body = Map::new();
    body.insert("session_id".to_owned(), json!(start.session.0));
    body.insert(version.destination().to_owned(), destination);
    body.insert("amount_details".to_owned(), json!({"amount": start.amount.minor(), "currency": currency}));
    body.insert("participant_details".to_owned(), json!({"recipient": {"full_name": start.recipient_name}}));
    body.insert("customer".to_owned(), json!({"reference": start.customer_reference}));
    body.insert("metadata".to_owned(), json!(start.metadata_tag));
    Value::Object(body).to_string().into_bytes()
}

/// A card destination: the type names the object that follows it, twice.
fn card(r#type: &str, content: Value) -> Value {
    json!({"type": "card", "card": {"type": r#type, r#type: content}})
}

/// Longest text of Pike's that is kept; its ids are a few dozen characters.
const MOST_CHARS: usize = 500;
/// Longest session id that can be one.
const MOST_ID_CHARS: usize = 200;

/// The value if it has the wanted shape, else as if it were not there. Duplicate keys are the wrong shape.
fn if_readable<'de, D: Deserializer<'de>, T: DeserializeOwned>(from: D) -> Result<Option<T>, D::Error> {
    let raw = Option::<&RawValue>::deserialize(from)?;
    Ok(raw.and_then(|raw| serde_json::from_str::<Option<T>>(raw.get()).ok().flatten()))
}

/// A text of Pike's as it is kept: without control characters, not endless.
fn clean(text: String) -> String {
    if text.len() <= MOST_CHARS && !text.contains(char::is_control) {
        return text;
    }
    text.chars().filter(|c| !c.is_control()).take(MOST_CHARS).collect()
}

/// An answer's envelope.
#[derive(Deserialize)]
pub(super) struct Envelope {
    pub status: Option<String>,
    pub session: Option<Session>,
    #[serde(default, deserialize_with = "if_readable")]
    pub error: Option<ErrorBody>,
}

#[derive(Deserialize)]
pub(super) struct ErrorBody {
    pub code: Option<String>,
    pub description: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Session {
    id: String,
    status: String,
    next_action: Option<String>,
    payments: Option<Vec<Payout>>,
    payout_list: Option<Vec<Payout>>,
    #[serde(default, deserialize_with = "if_readable")]
    error: Option<ErrorBody>,
    #[serde(default, deserialize_with = "if_readable")]
    updated_at: Option<String>,
}

#[derive(Deserialize)]
struct Payout {
    id: Option<String>,
    status: String,
    amount_details: Option<Amount>,
    #[serde(default, deserialize_with = "if_readable")]
    amounts: Option<Amounts>,
    metadata: Option<Box<RawValue>>,
    #[serde(default, deserialize_with = "if_readable")]
    payment_method: Option<Destination>,
    #[serde(default, deserialize_with = "if_readable")]
    payout_details: Option<Destination>,
    #[serde(default, deserialize_with = "if_readable")]
    transaction_info: Option<TransactionInfo>,
    #[serde(default, deserialize_with = "if_readable")]
    refunds: Option<Vec<Refund>>,
    #[serde(default, deserialize_with = "if_readable")]
    error: Option<ErrorBody>,
}

#[derive(Deserialize)]
struct Amount {
    amount: i64,
    currency: String,
}

#[derive(Deserialize)]
struct Amounts {
    fee: Option<Fee>,
}

#[derive(Deserialize)]
struct Fee {
    merchant_fee: Option<Amount>,
}

#[derive(Deserialize)]
struct Destination {
    #[serde(default, deserialize_with = "if_readable")]
    card: Option<Card>,
}

#[derive(Deserialize)]
struct Card {
    #[serde(default, deserialize_with = "if_readable")]
    brand: Option<String>,
    #[serde(default, deserialize_with = "if_readable")]
    last4: Option<String>,
    #[serde(default, deserialize_with = "if_readable")]
    bin: Option<String>,
    #[serde(default, deserialize_with = "if_readable")]
    card_id: Option<String>,
    #[serde(default, deserialize_with = "if_readable")]
    country_iso3: Option<String>,
}

#[derive(Deserialize)]
struct TransactionInfo {
    #[serde(default, deserialize_with = "if_readable")]
    rrn: Option<String>,
    #[serde(default, deserialize_with = "if_readable")]
    auth_code: Option<String>,
}

#[derive(Deserialize)]
struct Refund {
    status: Option<String>,
    amount_details: Option<Amount>,
}

impl ErrorBody {
    pub(super) fn into_error(self) -> ProviderError {
        ProviderError {
            code: self.code.map_or_else(|| "unnamed_error".to_owned(), clean),
            description: clean(self.description.unwrap_or_default()),
        }
    }
}

impl Session {
    /// `None` when the id cannot be one.
    pub(super) fn into_report(self) -> Option<SessionReport> {
        if self.id.is_empty() || self.id.len() > MOST_ID_CHARS || self.id.contains(char::is_control) {
            return None;
        }
        let payouts = self.payments.into_iter().chain(self.payout_list).flatten();
        Some(SessionReport {
            session: SessionId(self.id),
            status: match self.status.as_str() {
                "created" => SessionStatus::Created,
                "in_progress" => SessionStatus::InProgress,
                "accepted" => SessionStatus::Accepted,
                "cancelled" | "canceled" => SessionStatus::Cancelled,
                "error" => SessionStatus::Error,
                _ => SessionStatus::Other(self.status),
            },
            awaits_confirm: self.next_action.as_deref() == Some("confirm"),
            payouts: payouts.map(Payout::into_report).collect(),
            error: self.error.map(ErrorBody::into_error),
            updated_at: self.updated_at.and_then(|at| OffsetDateTime::parse(&at, &Rfc3339).ok()),
        })
    }
}

impl Payout {
    fn into_report(self) -> PayoutReport {
        let returned = self.is_returned();
        let card = self.payout_details.or(self.payment_method).and_then(|destination| destination.card);
        let fee = self.amounts.and_then(|amounts| amounts.fee).and_then(|fee| fee.merchant_fee);
        let (rrn, auth_code) = self.transaction_info.map_or((None, None), |info| (info.rrn, info.auth_code));
        let (amount_minor, currency) =
            self.amount_details.map_or((None, None), |amount| (Some(amount.amount), Some(amount.currency)));
        let facts = ProviderFacts {
            payout_id: self.id.map(clean),
            card: card.map_or_else(CardFacts::default, |card| CardFacts {
                brand: card.brand.map(clean),
                last4: card.last4.map(clean),
                bin: card.bin.map(clean),
                card_id: card.card_id.map(clean),
                country: card.country_iso3.map(clean),
            }),
            rrn: rrn.map(clean),
            auth_code: auth_code.map(clean),
            fee_minor: fee.as_ref().map(|fee| fee.amount),
            fee_currency: fee.map(|fee| clean(fee.currency.to_ascii_uppercase())),
            error: self.error.map(ErrorBody::into_error),
        };
        PayoutReport {
            status: match self.status.as_str() {
                "in_progress" => PayoutStatus::InProgress,
                "pending" => PayoutStatus::Pending,
                "succeeded" => PayoutStatus::Succeeded,
                "failed" => PayoutStatus::Failed,
                _ => PayoutStatus::Other(self.status),
            },
            amount_minor,
            currency,
            metadata: self.metadata.and_then(|raw| serde_json::from_str::<String>(raw.get()).ok()),
            returned,
            facts,
        }
    }

    /// Accepted refunds that add up to the whole amount; one that names no amount is taken for the whole. The
    /// sum is taken wide: a refund is Pike's number.
    fn is_returned(&self) -> bool {
        let Some(amount) = &self.amount_details else { return false };
        let accepted =
            self.refunds.iter().flatten().filter(|refund| refund.status.as_deref() == Some("accepted"));
        let whole = i128::from(amount.amount);
        let back: i128 = accepted
            .map(|refund| refund.amount_details.as_ref().map_or(whole, |back| i128::from(back.amount)))
            .sum();
        whole > 0 && back >= whole
    }
}

/// What a verified webhook says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Webhook {
    /// One of the types that concern payouts, with the session as it was then.
    Session(SessionReport),
    /// A type that we do not act on.
    OtherType(String),
    /// Not of the documented shape.
    Unreadable,
}

#[derive(Deserialize)]
struct WebhookType {
    r#type: String,
}

#[derive(Deserialize)]
struct WebhookBody {
    session: Session,
}

/// Reads a webhook's body. The signature is the receiver's business and has been checked. A body that makes
/// reading panic takes nobody with it.
#[must_use]
pub fn read_webhook(body: &[u8]) -> Webhook {
    panic::catch_unwind(|| read(body)).unwrap_or(Webhook::Unreadable)
}

fn read(body: &[u8]) -> Webhook {
    let Ok(WebhookType { r#type }) = serde_json::from_slice(body) else { return Webhook::Unreadable };
    match r#type.as_str() {
        "ready_to_confirm" | "payment_finished" | "payment_refunded" => {
            let read = serde_json::from_slice::<WebhookBody>(body).ok();
            read.and_then(|webhook| webhook.session.into_report())
                .map_or(Webhook::Unreadable, Webhook::Session)
        }
        _ => Webhook::OtherType(clean(r#type)),
    }
}

#[cfg(test)]
mod tests;
