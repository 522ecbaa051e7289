//! A payout as callers see it. The destination's secret has no place in it.

use super::{
    details::{self, Details},
    problem::Problem,
};
use crate::{
    domain::{
        payout::Payout,
        provider::{self, CardFacts, ProviderFacts},
        state::Ending,
    },
    store::{StoreError, encoding::Code as _, payouts::Stored},
};
use serde::Serialize;
use serde_json::value::RawValue;
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

#[derive(Serialize)]
pub struct PayoutView<'a> {
    id: String,
    project: &'a str,
    status: &'static str,
    status_details: Details,
    attempt: i32,
    #[serde(rename = "final")]
    is_final: bool,
    amount: i64,
    currency: &'static str,
    destination: Destination,
    recipient: Recipient<'a>,
    customer_reference: &'a str,
    reference: Option<&'a str>,
    metadata: &'a RawValue,
    provider: Provider<'a>,
    error: Option<Failure<'a>>,
    created_at: String,
    updated_at: String,
    version: i64,
}

#[derive(Serialize)]
struct Destination {
    #[serde(rename = "type")]
    kind: &'static str,
}

#[derive(Serialize)]
struct Recipient<'a> {
    name: &'a str,
}

#[derive(Serialize)]
struct Provider<'a> {
    session_id: Option<&'a str>,
    payout_id: Option<&'a str>,
    card: Option<Card<'a>>,
    rrn: Option<&'a str>,
    auth_code: Option<&'a str>,
    fee: Option<Fee<'a>>,
}

#[derive(Serialize)]
struct Card<'a> {
    brand: Option<&'a str>,
    last4: Option<&'a str>,
    bin: Option<&'a str>,
    card_id: Option<&'a str>,
    country: Option<&'a str>,
}

#[derive(Serialize)]
struct Fee<'a> {
    amount: i64,
    currency: Option<&'a str>,
}

#[derive(Serialize)]
struct Failure<'a> {
    code: &'a str,
    meaning: Option<&'static str>,
    description: Option<&'a str>,
}

impl<'a> PayoutView<'a> {
    /// # Errors
    /// When the stored metadata are not JSON, which no code of ours could have written.
    pub fn of(stored: &'a Stored) -> Result<Self, Problem> {
        let Stored { payout, metadata, created_at, updated_at, next_check_at: _ } = stored;
        let order = &payout.order;
        let metadata = serde_json::from_str(metadata).map_err(|_| StoreError::ImpossibleRow {
            table: "payouts",
            column: "metadata",
            id: payout.id.to_string(),
        })?;
        Ok(Self {
            id: payout.id.to_string(),
            project: &payout.project.0,
            status: payout.status().code(),
            status_details: details::of(payout),
            attempt: payout.attempt,
            is_final: payout.state.is_final(),
            amount: order.amount.minor(),
            currency: order.amount.currency().code(),
            destination: Destination { kind: order.destination.code() },
            recipient: Recipient { name: &order.recipient_name },
            customer_reference: &order.customer_reference,
            reference: order.reference.as_deref(),
            metadata,
            provider: Provider::of(payout),
            error: failure(payout),
            created_at: instant(*created_at),
            updated_at: instant(*updated_at),
            version: payout.version,
        })
    }
}

impl<'a> Provider<'a> {
    fn of(payout: &'a Payout) -> Self {
        let ProviderFacts { payout_id, card, rrn, auth_code, fee_minor, fee_currency, error: _ } =
            &payout.facts;
        Self {
            session_id: payout.state.session().map(|session| session.0.as_str()),
            payout_id: payout_id.as_deref(),
            card: (*card != CardFacts::default()).then(|| Card::of(card)),
            rrn: rrn.as_deref(),
            auth_code: auth_code.as_deref(),
            fee: fee_minor.map(|amount| Fee { amount, currency: fee_currency.as_deref() }),
        }
    }
}

impl<'a> Card<'a> {
    fn of(card: &'a CardFacts) -> Self {
        let CardFacts { brand, last4, bin, card_id, country } = card;
        Self {
            brand: brand.as_deref(),
            last4: last4.as_deref(),
            bin: bin.as_deref(),
            card_id: card_id.as_deref(),
            country: country.as_deref(),
        }
    }
}

/// Why it went wrong: the code that made the payout fail, or what Pike complained of last. A payout that was
/// paid has nothing to explain.
fn failure(payout: &Payout) -> Option<Failure<'_>> {
    let told = payout.facts.error.as_ref();
    let (code, description) = match payout.state.ending() {
        Some(Ending::Succeeded | Ending::Returned) => return None,
        Some(Ending::Failed(code)) => {
            let told = told.filter(|error| error.code == code);
            (code, told.map(|error| error.description.as_str()))
        }
        Some(Ending::Cancelled(_)) | None => {
            (told?.code.as_str(), told.map(|error| error.description.as_str()))
        }
    };
    let description = description.filter(|text| !text.is_empty());
    Some(Failure { code, meaning: provider::meaning(code), description })
}

/// An instant as callers see it: to the microsecond, as the database keeps it, so that the answer to a
/// command and a later read show the same.
pub(super) fn instant(at: OffsetDateTime) -> String {
    let nanos = i64::from(at.nanosecond());
    let at = at - Duration::nanoseconds(nanos) + Duration::microseconds((nanos + 500) / 1000);
    at.format(&Rfc3339).expect("an instant of our time has an RFC 3339 form")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::domain::{
        id::{PayoutId, ProjectId, SessionId},
        money::Money,
        payout::{DestinationKind, Order},
        provider::ProviderError,
        state::{CancelCause, HoldCause, State},
    };
    use uuid::Uuid;

    const NOW: OffsetDateTime = time::macros::datetime!(2025-06-01 12:00 UTC);

    pub(in crate::api) fn payout() -> Payout {
        Payout {
            id: PayoutId(Uuid::from_u128(0x0191_d2c4)),
            project: ProjectId("shop".into()),
            order: Order {
                amount: Money::new(125_050, "RUB".parse().unwrap()).unwrap(),
                destination: DestinationKind::TokenizedCard,
                destination_fingerprint: [7; 32],
                recipient_name: "Anna Petrova".into(),
                customer_reference: "customer-7".into(),
                reference: Some("wd-2025-000417".into()),
                created_by: "0123456789abcdef".into(),
            },
            version: 3,
            attempt: 1,
            past: vec![],
            state: State::Accepted,
            since: NOW,
            permit: None,
            anomaly: None,
            raised: Default::default(),
            facts: ProviderFacts::default(),
        }
    }

    /// One of each state, hold cause and cancel cause. A new state breaks the build here.
    pub(in crate::api) fn every_state() -> Vec<State> {
        let session = || SessionId("ps_1".into());
        let cause = || CancelCause::Requested;
        let mut states = vec![
            State::Accepted,
            State::Starting { session: session() },
            State::StartUnknown { session: session() },
            State::Processing { session: session() },
            State::Confirming { session: session() },
            State::ConfirmUnknown { session: session() },
            State::Settling { session: session() },
            State::Cancelling { session: session(), cause: cause() },
            State::CancelUnknown { session: session(), cause: cause() },
            State::CancelSent { session: session(), cause: cause() },
            State::Unknown { session: session(), cause: None },
            State::Retrying { session: session(), code: "provider_timeout".into(), at: NOW },
            State::Succeeded { session: session() },
            State::Returned { session: session() },
            State::Failed { session: session(), code: "bank_card_expired".into() },
        ];
        for cause in [HoldCause::Approval, HoldCause::Switch] {
            states.push(State::OnHold { session: session(), until: NOW, cause });
        }
        for cause in [
            CancelCause::Requested,
            CancelCause::Rules,
            CancelCause::Rejected,
            CancelCause::HoldExpired,
            CancelCause::Mismatch,
            CancelCause::StartRefused { code: "operation_rejected".into() },
            CancelCause::StartUnresolved,
        ] {
            states.push(State::Cancelled { session: None, cause });
        }
        states
    }

    fn shown(payout: Payout, metadata: &str) -> serde_json::Value {
        let stored = Stored {
            payout,
            metadata: metadata.into(),
            created_at: NOW,
            updated_at: NOW,
            next_check_at: None,
        };
        serde_json::to_value(PayoutView::of(&stored).map_err(|_| ()).unwrap()).unwrap()
    }

    #[test]
    fn a_fresh_payout_looks_like_this() {
        assert_eq!(
            shown(payout(), r#"{"order":"7"}"#),
            serde_json::json!({
                "id": "payout_0000000000000000000000000191d2c4",
                "project": "shop",
                "status": "accepted",
                "status_details": {
                    "code": "queued",
                    "message": "The payout is stored.",
                    "next": "A session is opened at Pike within moments.",
                },
                "attempt": 1,
                "final": false,
                "amount": 125_050,
                "currency": "RUB",
                "destination": { "type": "tokenized_card" },
                "recipient": { "name": "Anna Petrova" },
                "customer_reference": "customer-7",
                "reference": "wd-2025-000417",
                "metadata": { "order": "7" },
                "provider": {
                    "session_id": null, "payout_id": null, "card": null,
                    "rrn": null, "auth_code": null, "fee": null,
                },
                "error": null,
                "created_at": "2025-06-01T12:00:00Z",
                "updated_at": "2025-06-01T12:00:00Z",
                "version": 3,
            })
        );
    }

    #[test]
    fn instants_are_rounded_as_the_database_does() {
        for (nanos, shown) in [
            (474_231_386, "2025-06-01T12:00:00.474231Z"),
            (477_326_563, "2025-06-01T12:00:00.477327Z"),
            (999_999_999, "2025-06-01T12:00:01Z"),
        ] {
            assert_eq!(instant(NOW + Duration::nanoseconds(nanos)), shown);
        }
    }

    #[test]
    fn every_state_can_be_shown() {
        for state in every_state() {
            let (is_final, session) = (state.is_final(), state.session().is_some());
            let json = shown(Payout { state, ..payout() }, "{}");
            assert_eq!(json["final"], is_final);
            assert_eq!(json["provider"]["session_id"].is_string(), session);
        }
    }

    #[test]
    fn what_pike_told_is_passed_on() {
        let mut known = payout();
        known.state = State::Failed { session: SessionId("ps_1".into()), code: "bank_card_expired".into() };
        known.facts = ProviderFacts {
            payout_id: Some("po_9".into()),
            card: CardFacts {
                brand: Some("visa".into()),
                last4: Some("0037".into()),
                ..CardFacts::default()
            },
            fee_minor: Some(150),
            fee_currency: Some("RUB".into()),
            error: Some(ProviderError { code: "bank_card_expired".into(), description: "expired".into() }),
            ..ProviderFacts::default()
        };
        let json = shown(known.clone(), "{}");
        assert_eq!(json["provider"]["card"]["last4"], "0037");
        assert_eq!(json["provider"]["fee"], serde_json::json!({ "amount": 150, "currency": "RUB" }));
        assert_eq!(
            json["error"],
            serde_json::json!({
                "code": "bank_card_expired",
                "meaning": "The recipient's card has expired.",
                "description": "expired",
            })
        );
        known.state = State::Succeeded { session: SessionId("ps_1".into()) };
        assert!(shown(known, "{}")["error"].is_null(), "an old complaint does not outlive success");
    }

    #[test]
    fn metadata_that_nobody_could_have_stored_are_our_mistake() {
        let stored = Stored {
            payout: payout(),
            metadata: "{".into(),
            created_at: NOW,
            updated_at: NOW,
            next_check_at: None,
        };
        assert!(
            PayoutView::of(&stored).is_err_and(|problem| problem.code() == crate::api::Code::InternalError)
        );
    }
}
