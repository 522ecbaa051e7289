//! The rows of `payouts` as they travel. Batches go to the server as one JSON array: one parameter, one
//! statement, however many payouts.

use super::{NewPayout, Stored, state_columns};
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
use serde::Serialize;
use std::collections::BTreeSet;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
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
pub(super) use columns;

pub(super) const INSERT: &str = "
    INSERT INTO payouts (id, project_id, idempotency_key, request_fingerprint, amount_minor, currency,
        destination_kind, destination_secret, destination_fingerprint, recipient_name, customer_reference,
        reference, metadata, created_by, created_at, version, attempt, state, status, since, updated_at,
        next_check_at)
    SELECT id, project_id, idempotency_key, decode(request_fingerprint, 'hex'), amount_minor, currency,
        destination_kind, destination_secret, decode(destination_fingerprint, 'hex'), recipient_name,
        customer_reference, reference, metadata, created_by, now, 1, 1, 'accepted', 'accepted', now, now,
        next_check_at
    FROM jsonb_to_recordset($1::jsonb) AS n(id uuid, project_id text, idempotency_key text,
        request_fingerprint text, amount_minor bigint, currency text, destination_kind text,
        destination_secret text, destination_fingerprint text, recipient_name text, customer_reference text,
        reference text, metadata text, created_by text, now timestamptz, next_check_at timestamptz)
    ORDER BY project_id, idempotency_key
    ON CONFLICT DO NOTHING RETURNING id";

pub(super) const UPDATE: &str = "
    UPDATE payouts p SET version = n.version, attempt = n.attempt, state = n.state, status = n.status,
        since = n.since, updated_at = n.updated_at, next_check_at = n.next_check_at,
        session_id = n.session_id, retry_at = n.retry_at,
        hold_until = n.hold_until, hold_cause = n.hold_cause,
        cancel_cause = n.cancel_cause, failure_code = n.failure_code, permit_kind = n.permit_kind,
        permit_hash = decode(n.permit_hash, 'hex'), anomaly = n.anomaly, raised = n.raised,
        provider_payout_id = n.provider_payout_id, card_brand = n.card_brand, card_last4 = n.card_last4,
        card_bin = n.card_bin, card_id = n.card_id, card_country = n.card_country, rrn = n.rrn,
        auth_code = n.auth_code, fee_minor = n.fee_minor, fee_currency = n.fee_currency,
        error_code = n.error_code, error_description = n.error_description,
        destination_secret = CASE WHEN n.final THEN NULL ELSE p.destination_secret END
    FROM jsonb_to_recordset($1::jsonb) AS n(id uuid, version bigint, attempt integer, state text, status text,
        since timestamptz, updated_at timestamptz, next_check_at timestamptz, session_id text,
        retry_at timestamptz, hold_until timestamptz, hold_cause text, cancel_cause text, failure_code text,
        permit_kind text, permit_hash text, anomaly text, raised text[], provider_payout_id text,
        card_brand text, card_last4 text, card_bin text, card_id text, card_country text, rrn text,
        auth_code text, fee_minor bigint, fee_currency text, error_code text, error_description text,
        final boolean)
    WHERE p.id = n.id";

/// A batch as one parameter.
pub(super) fn json<T: Serialize>(rows: &[T]) -> String {
    serde_json::to_string(rows).expect("rows of strings and numbers always serialise")
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        text
    })
}

fn instant(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).expect("an instant of our time has an RFC 3339 form")
}

#[derive(Serialize)]
pub(super) struct InsertRow<'a> {
    id: Uuid,
    project_id: &'a str,
    idempotency_key: &'a str,
    request_fingerprint: String,
    amount_minor: i64,
    currency: &'static str,
    destination_kind: &'static str,
    destination_secret: &'a str,
    destination_fingerprint: String,
    recipient_name: &'a str,
    customer_reference: &'a str,
    reference: Option<&'a str>,
    metadata: &'a str,
    created_by: &'a str,
    now: String,
    next_check_at: String,
}

impl<'a> InsertRow<'a> {
    pub(super) fn of(new: &'a NewPayout, now: OffsetDateTime, next_check_at: OffsetDateTime) -> Self {
        Self {
            id: new.id.0,
            project_id: &new.project.0,
            idempotency_key: &new.idempotency_key,
            request_fingerprint: hex(&new.request_fingerprint),
            amount_minor: new.order.amount.minor(),
            currency: new.order.amount.currency().code(),
            destination_kind: new.order.destination.code(),
            destination_secret: &new.destination_secret,
            destination_fingerprint: hex(&new.order.destination_fingerprint),
            recipient_name: &new.order.recipient_name,
            customer_reference: &new.order.customer_reference,
            reference: new.order.reference.as_deref(),
            metadata: &new.metadata,
            created_by: &new.order.created_by,
            now: instant(now),
            next_check_at: instant(next_check_at),
        }
    }
}

#[derive(Serialize)]
pub(super) struct MovingRow<'a> {
    id: Uuid,
    version: i64,
    attempt: i32,
    #[serde(flatten)]
    state: state_columns::StateColumns,
    status: &'static str,
    since: String,
    updated_at: String,
    next_check_at: Option<String>,
    permit_kind: Option<&'static str>,
    permit_hash: Option<String>,
    anomaly: Option<&'static str>,
    raised: Vec<&'static str>,
    provider_payout_id: Option<&'a str>,
    card_brand: Option<&'a str>,
    card_last4: Option<&'a str>,
    card_bin: Option<&'a str>,
    card_id: Option<&'a str>,
    card_country: Option<&'a str>,
    rrn: Option<&'a str>,
    auth_code: Option<&'a str>,
    fee_minor: Option<i64>,
    fee_currency: Option<&'a str>,
    error_code: Option<&'a str>,
    error_description: Option<&'a str>,
    #[serde(rename = "final")]
    is_final: bool,
}

impl<'a> MovingRow<'a> {
    pub(super) fn of(stored: &'a Stored) -> Self {
        let payout = &stored.payout;
        let (facts, card) = (&payout.facts, &payout.facts.card);
        Self {
            id: payout.id.0,
            version: payout.version,
            attempt: payout.attempt,
            state: state_columns::encode(&payout.state),
            status: payout.status().code(),
            since: instant(payout.since),
            updated_at: instant(stored.updated_at),
            next_check_at: stored.next_check_at.map(instant),
            permit_kind: payout.permit.as_ref().map(|permit| permit.kind.code()),
            permit_hash: payout.permit.as_ref().map(|permit| hex(&permit.bound_to)),
            anomaly: payout.anomaly.as_ref().map(Code::code),
            raised: payout.raised.iter().map(Code::code).collect(),
            provider_payout_id: facts.payout_id.as_deref(),
            card_brand: card.brand.as_deref(),
            card_last4: card.last4.as_deref(),
            card_bin: card.bin.as_deref(),
            card_id: card.card_id.as_deref(),
            card_country: card.country.as_deref(),
            rrn: facts.rrn.as_deref(),
            auth_code: facts.auth_code.as_deref(),
            fee_minor: facts.fee_minor,
            fee_currency: facts.fee_currency.as_deref(),
            error_code: facts.error.as_ref().map(|error| error.code.as_str()),
            error_description: facts.error.as_ref().map(|error| error.description.as_str()),
            is_final: payout.state.is_final(),
        }
    }
}

/// A whole row as read.
#[derive(sqlx::FromRow)]
pub(super) struct PayoutRow {
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
    pub(super) fn into_stored(self) -> Result<Stored, StoreError> {
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
