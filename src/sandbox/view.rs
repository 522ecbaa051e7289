//! How things look on the wire: sessions in both versions, webhooks, errors. Writes only; what is shown is
//! decided in `session` and `machine`.

use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};

use super::code::Code;
use super::machine::WebhookKind;
use super::scalars::{Amount, At, Digest};
use super::session::{Card, Payout, PayoutStatus, Session, Stage, Version};
use super::settings::ConfirmShows;

/// The merchant's fee: one per cent, as in the documented examples.
const FEE_DIVISOR: i64 = 100;

/// What a payout costs on top, minor units.
#[must_use]
pub fn fee(amount: &Amount) -> i64 {
    amount.minor / FEE_DIVISOR
}

/// Who looks: some destinations show one amount to the call that starts them and another one later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// The answer to a call that changed something.
    Answer,
    /// The answer to a confirm.
    Confirm(ConfirmShows),
    /// Status and webhooks.
    Report,
}

/// The answer to a call that was accepted.
#[must_use]
pub fn answer(session: &Session, version: Version, look: Look) -> Vec<u8> {
    #[derive(Serialize)]
    struct Body<'a> {
        status: &'static str,
        session: SessionView<'a>,
    }
    to_json(&Body { status: "ok", session: SessionView { session, version, look } })
}

/// The answer to a call that was refused.
#[must_use]
pub fn refusal(code: Code) -> Vec<u8> {
    explained(code, code.description())
}

/// The same with a description of its own.
#[must_use]
pub fn explained(code: Code, description: &str) -> Vec<u8> {
    #[derive(Serialize)]
    struct Body<'a> {
        status: &'static str,
        error: Said<'a>,
    }
    #[derive(Serialize)]
    struct Said<'a> {
        code: &'static str,
        description: &'a str,
    }
    to_json(&Body { status: "error", error: Said { code: code.name(), description } })
}

/// A webhook's body.
#[must_use]
pub fn webhook(session: &Session, kind: WebhookKind, version: Version) -> Vec<u8> {
    #[derive(Serialize)]
    struct Body<'a> {
        r#type: &'static str,
        session: SessionView<'a>,
    }
    let view = SessionView { session, version, look: Look::Report };
    to_json(&Body { r#type: kind.name(), session: view })
}

fn to_json<T: Serialize>(body: &T) -> Vec<u8> {
    // A session with a payout fits, so that the text does not move while it grows.
    let mut text = Vec::with_capacity(1024);
    serde_json::to_writer(&mut text, body).expect("string keys, no failing parts, and memory does not fail");
    text
}

#[derive(Clone, Copy)]
struct SessionView<'a> {
    session: &'a Session,
    version: Version,
    look: Look,
}

impl Serialize for SessionView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let session = self.session;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &session.id)?;
        map.serialize_entry("status", session.status.name())?;
        map.serialize_entry("created_at", &Shown(session.created_at))?;
        map.serialize_entry("updated_at", &Shown(session.updated_at))?;
        if session.awaits_confirm() {
            map.serialize_entry("next_action", "confirm")?;
        }
        if let Some(code) = session.error {
            map.serialize_entry("error", &ErrorView(code))?;
        }
        if !session.payouts.is_empty() {
            let name = match self.version {
                Version::V1 => "payments",
                Version::V2 => "payout_list",
            };
            map.serialize_entry(name, &PayoutList(*self))?;
        }
        map.end()
    }
}

struct PayoutList<'a>(SessionView<'a>);

impl Serialize for PayoutList<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let payouts = &self.0.session.payouts;
        let mut list = serializer.serialize_seq(Some(payouts.len()))?;
        for payout in payouts {
            list.serialize_element(&PayoutView { payout, version: self.0.version, look: self.0.look })?;
        }
        list.end()
    }
}

struct PayoutView<'a> {
    payout: &'a Payout,
    version: Version,
    look: Look,
}

impl PayoutView<'_> {
    fn shown_status(&self) -> PayoutStatus {
        match (self.look, self.payout.stage) {
            (Look::Confirm(ConfirmShows::Pending), Stage::Settling) => PayoutStatus::Pending,
            (Look::Answer | Look::Confirm(_) | Look::Report, _) => self.payout.status(),
        }
    }

    fn shown_amount(&self) -> Amount {
        let mut amount = self.payout.amount.clone();
        if self.look == Look::Report {
            let excess = self.payout.script().shown_excess;
            amount.minor = amount.minor.checked_add(excess).unwrap_or(amount.minor - excess);
        }
        amount
    }
}

impl Serialize for PayoutView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let payout = self.payout;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &payout.id)?;
        map.serialize_entry("status", self.shown_status().name())?;
        map.serialize_entry("created_at", &Shown(payout.created_at))?;
        if let Some(at) = payout.finished_at() {
            map.serialize_entry("finished_at", &Shown(at))?;
        }
        if let Some(customer) = &payout.customer {
            map.serialize_entry("customer", customer)?;
        }
        let destination = match self.version {
            Version::V1 => "payment_method",
            Version::V2 => "payout_details",
        };
        map.serialize_entry(
            destination,
            &DestinationView { r#type: "card", card: &payout.destination.card },
        )?;
        map.serialize_entry("amount_details", &self.shown_amount())?;
        if let Some(participants) = &payout.participants {
            map.serialize_entry("participant_details", participants)?;
        }
        if let Stage::Paid { returned, .. } = payout.stage {
            map.serialize_entry("amounts", &Amounts::of(payout))?;
            map.serialize_entry("transaction_info", &TransactionInfo::of(payout))?;
            if let Some(at) = returned {
                map.serialize_entry("refunds", &[RefundView::of(payout, at)])?;
            }
        }
        if let Some(metadata) = &payout.metadata {
            map.serialize_entry("metadata", metadata)?;
        }
        if let Some(code) = payout.error() {
            map.serialize_entry("error", &ErrorView(code))?;
        }
        map.end()
    }
}

#[derive(Serialize)]
struct DestinationView<'a> {
    r#type: &'static str,
    card: &'a Card,
}

#[derive(Serialize)]
struct Amounts {
    fee: Fee,
}

#[derive(Serialize)]
struct Fee {
    merchant_fee: FeeAmount,
}

#[derive(Serialize)]
struct FeeAmount {
    amount: i64,
    currency: String,
}

impl Amounts {
    fn of(payout: &Payout) -> Self {
        let amount = fee(&payout.amount);
        Self { fee: Fee { merchant_fee: FeeAmount { amount, currency: payout.amount.currency.upper() } } }
    }
}

/// The bank's references, made up from the payout's id.
#[derive(Serialize)]
struct TransactionInfo {
    rrn: String,
    auth_code: String,
}

impl TransactionInfo {
    fn of(payout: &Payout) -> Self {
        let digest = Digest::of(payout.id.to_string().as_bytes());
        Self { rrn: digest.digits(0, 12), auth_code: digest.digits(12, 6) }
    }
}

#[derive(Serialize)]
struct RefundView<'a> {
    id: String,
    status: &'static str,
    created_at: Shown,
    finished_at: Shown,
    is_chargeback: bool,
    amount_details: &'a Amount,
}

impl<'a> RefundView<'a> {
    fn of(payout: &'a Payout, at: At) -> Self {
        Self {
            id: payout.id.refund_id(),
            status: "accepted",
            created_at: Shown(at),
            finished_at: Shown(at),
            is_chargeback: false,
            amount_details: &payout.amount,
        }
    }
}

/// An instant as text.
pub struct Shown(pub At);

impl Serialize for Shown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

struct ErrorView(Code);

impl Serialize for ErrorView {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Reason {
            rule_alias: &'static str,
        }
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("code", self.0.name())?;
        map.serialize_entry("description", self.0.description())?;
        if self.0 == Code::OperationRejected {
            map.serialize_entry("reject_reasons", &[Reason { rule_alias: "sandbox_rule" }])?;
        }
        map.end()
    }
}
