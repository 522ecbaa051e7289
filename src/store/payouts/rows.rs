//! The rows of `payouts` as they are read.

use super::{Stored, state_columns};
use crate::{
    domain::{
        id::{PayoutId, ProjectId},
        money::Money,
        payout::{Anomaly, DestinationKind, Order, Payout},
        permit::{Permit, PermitKind},
        provider::{CardFacts, ProviderError, ProviderFacts},
    },
    store::{StoreError, encoding::Code},
};
use std::collections::BTreeSet;
use time::OffsetDateTime;
use uuid::Uuid;

/// Every column a payout is read from, for `concat!`: SQL here is always a constant.
macro_rules! columns {
    () => {
        "id, project_id, amount_minor, currency, destination_kind, destination_fingerprint, \
         recipient_name, customer_reference, reference, metadata, created_by, created_at, version, attempt, \
         state, since, updated_at, next_check_at, session_id, retry_at, hold_until, hold_cause, \
         cancel_cause, failure_code, permit_kind, permit_hash, anomaly, raised, provider_payout_id, \
         card_brand, card_last4, card_bin, card_id, card_country, rrn, auth_code, fee_minor, fee_currency, \
         error_code, \
         error_description"
    };
}
pub(in crate::store) use columns;

/// A whole row as read.
#[derive(sqlx::FromRow)]
pub(in crate::store) struct PayoutRow {
    id: Uuid,
    project_id: String,
    amount_minor: i64,
    currency: String,
    destination_kind: String,
    destination_fingerprint: Vec<u8>,
    recipient_name: String,
    customer_reference: String,
    reference: Option<String>,
    metadata: String,
    created_by: String,
    created_at: OffsetDateTime,
    version: i64,
    attempt: i32,
    #[sqlx(flatten)]
    state: state_columns::StateRow,
    since: OffsetDateTime,
    updated_at: OffsetDateTime,
    next_check_at: Option<OffsetDateTime>,
    permit_kind: Option<String>,
    permit_hash: Option<Vec<u8>>,
    anomaly: Option<String>,
    raised: Vec<String>,
    provider_payout_id: Option<String>,
    card_brand: Option<String>,
    card_last4: Option<String>,
    card_bin: Option<String>,
    card_id: Option<String>,
    card_country: Option<String>,
    rrn: Option<String>,
    auth_code: Option<String>,
    fee_minor: Option<i64>,
    fee_currency: Option<String>,
    error_code: Option<String>,
    error_description: Option<String>,
}

impl PayoutRow {
    pub(in crate::store) fn into_stored(self) -> Result<Stored, StoreError> {
        let id = PayoutId(self.id);
        let bad =
            |column: &'static str| StoreError::ImpossibleRow { table: "payouts", column, id: id.to_string() };
        let currency = self.currency.parse().map_err(|_| bad("currency"))?;
        let order = Order {
            amount: Money::new(self.amount_minor, currency).map_err(|_| bad("amount_minor"))?,
            destination: DestinationKind::from_code(&self.destination_kind)
                .ok_or_else(|| bad("destination_kind"))?,
            destination_fingerprint: exactly_32(&self.destination_fingerprint)
                .ok_or_else(|| bad("destination_fingerprint"))?,
            recipient_name: self.recipient_name,
            customer_reference: self.customer_reference,
            reference: self.reference,
            created_by: self.created_by,
        };
        let permit = permit(self.permit_kind.as_deref(), self.permit_hash.as_deref())
            .ok_or_else(|| bad("permit_kind"))?;
        let anomaly = match self.anomaly.as_deref() {
            None => None,
            Some(code) => Some(Anomaly::from_code(code).ok_or_else(|| bad("anomaly"))?),
        };
        let raised = self.raised.iter().map(|code| Anomaly::from_code(code));
        let raised: BTreeSet<Anomaly> = raised.collect::<Option<_>>().ok_or_else(|| bad("raised"))?;
        // The release before takes a flag off without knowing what else was raised.
        let raised = if anomaly.is_some() { raised } else { BTreeSet::new() };
        let facts = ProviderFacts {
            payout_id: self.provider_payout_id,
            card: CardFacts {
                brand: self.card_brand,
                last4: self.card_last4,
                bin: self.card_bin,
                card_id: self.card_id,
                country: self.card_country,
            },
            rrn: self.rrn,
            auth_code: self.auth_code,
            fee_minor: self.fee_minor,
            fee_currency: self.fee_currency,
            error: self
                .error_code
                .map(|code| ProviderError { code, description: self.error_description.unwrap_or_default() }),
        };
        let payout = Payout {
            id,
            project: ProjectId(self.project_id),
            order,
            version: self.version,
            attempt: self.attempt,
            past: vec![],
            state: state_columns::decode(self.state).ok_or_else(|| bad("state"))?,
            since: self.since,
            permit,
            anomaly,
            raised,
            facts,
        };
        Ok(Stored {
            payout,
            metadata: self.metadata,
            created_at: self.created_at,
            updated_at: self.updated_at,
            next_check_at: self.next_check_at,
        })
    }
}

fn exactly_32(bytes: &[u8]) -> Option<[u8; 32]> {
    bytes.try_into().ok()
}

/// Outer `None`: the columns contradict each other.
fn permit(kind: Option<&str>, hash: Option<&[u8]>) -> Option<Option<Permit>> {
    match (kind, hash) {
        (None, None) => Some(None),
        (Some(kind), Some(hash)) => {
            Some(Some(Permit { kind: PermitKind::from_code(kind)?, bound_to: exactly_32(hash)? }))
        }
        (Some(_), None) | (None, Some(_)) => None,
    }
}
