//! The rows of the statement's parts as the database is given them: an array of composites for each part
//! (`migrations/0028_rows.sql`). An array for each column instead is unfolded into a store of its own, which
//! for two dozen rows of the widest part takes Postgres five times as long.

use super::{
    super::{
        encoding::Code,
        history::Entry,
        inbox::Incoming,
        notifications::{Delivery, NewNotification, Settled},
        payouts::{NewPayout, Stored, state_columns},
        permits::NewPermit,
        rules::{self, NewDecision},
    },
    NewEffect, Stands,
};
use crate::domain::{effect::EffectKind, id::PayoutId};
use sqlx::{
    Postgres, Type,
    postgres::{PgHasArrayType, PgTypeInfo},
};
use std::time::Duration;
use time::OffsetDateTime;
use uuid::Uuid;

/// A row, the composite that it is, and its columns in order. Postgres compares their number and their types;
/// a test, their names.
macro_rules! row {
    ($row:ident $(<$life:lifetime>)?, $composite:literal, { $($column:ident: $type:ty),+ $(,)? }) => {
        #[cfg(test)]
        impl $(<$life>)? $row $(<$life>)? {
            pub(super) const COMPOSITE: (&'static str, &'static [&'static str]) =
                ($composite, &[$(stringify!($column)),+]);
        }

        #[derive(sqlx::Encode)]
        pub(super) struct $row $(<$life>)? {
            $($column: $type),+
        }

        impl $(<$life>)? Type<Postgres> for $row $(<$life>)? {
            fn type_info() -> PgTypeInfo {
                PgTypeInfo::with_name($composite)
            }
        }

        impl $(<$life>)? PgHasArrayType for $row $(<$life>)? {
            fn array_type_info() -> PgTypeInfo {
                PgTypeInfo::array_of($composite)
            }
        }
    };
}

row!(Moved<'a>, "moved_row", {
    payout_id: Uuid,
    version: i64,
    attempt: i32,
    state: &'static str,
    status: &'static str,
    since: OffsetDateTime,
    updated_at: OffsetDateTime,
    next_check_at: Option<OffsetDateTime>,
    session_id: Option<&'a str>,
    retry_at: Option<OffsetDateTime>,
    hold_until: Option<OffsetDateTime>,
    hold_cause: Option<&'static str>,
    cancel_cause: Option<String>,
    failure_code: Option<&'a str>,
    permit_kind: Option<&'static str>,
    permit_hash: Option<&'a [u8]>,
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
    is_final: bool,
    written_by: Option<i64>,
});

impl<'a> Moved<'a> {
    pub(super) fn of(stored: &'a Stored, stands: Option<&Stands>) -> Self {
        let payout = &stored.payout;
        let (state, facts) = (state_columns::encode(&payout.state), &payout.facts);
        let (permit, error) = (payout.permit.as_ref(), facts.error.as_ref());
        Self {
            payout_id: payout.id.0,
            version: payout.version,
            attempt: payout.attempt,
            state: state.state,
            status: payout.status().code(),
            since: payout.since,
            updated_at: stored.updated_at,
            next_check_at: stored.next_check_at,
            session_id: state.session_id,
            retry_at: state.retry_at,
            hold_until: state.hold_until,
            hold_cause: state.hold_cause,
            cancel_cause: state.cancel_cause,
            failure_code: state.failure_code,
            permit_kind: permit.map(|permit| permit.kind.code()),
            permit_hash: permit.map(|permit| permit.bound_to.as_slice()),
            anomaly: payout.anomaly.as_ref().map(Code::code),
            raised: payout.raised.iter().map(Code::code).collect(),
            provider_payout_id: facts.payout_id.as_deref(),
            card_brand: facts.card.brand.as_deref(),
            card_last4: facts.card.last4.as_deref(),
            card_bin: facts.card.bin.as_deref(),
            card_id: facts.card.card_id.as_deref(),
            card_country: facts.card.country.as_deref(),
            rrn: facts.rrn.as_deref(),
            auth_code: facts.auth_code.as_deref(),
            fee_minor: facts.fee_minor,
            fee_currency: facts.fee_currency.as_deref(),
            error_code: error.map(|error| error.code.as_str()),
            error_description: error.map(|error| error.description.as_str()),
            is_final: payout.state.is_final(),
            // No transaction has the number 0: what stands on nothing is not written.
            written_by: stands.map(|on| on.moved.get(&payout.id).map_or(0, |writer| writer.0)),
        }
    }
}

row!(Claim, "claim_row", { payout_id: Uuid, id: i64, fence: i32 });

impl Claim {
    pub(super) fn of(payout: PayoutId, id: i64, fence: i32) -> Self {
        Self { payout_id: payout.0, id, fence }
    }
}

row!(Kept<'a>, "kept_row", {
    payout_id: Uuid,
    project_id: &'a str,
    known_by: Vec<u8>,
    body: &'a [u8],
    hash_alone: &'a [u8],
});

impl<'a> Kept<'a> {
    pub(super) fn of(payout: PayoutId, new: &'a Incoming) -> Self {
        Self {
            payout_id: payout.0,
            project_id: &new.project.0,
            known_by: new.known_by(),
            body: &new.body,
            hash_alone: &new.body_hash,
        }
    }
}

row!(Told<'a>, "told_row", {
    payout_id: Uuid,
    seq: i64,
    at: OffsetDateTime,
    event: &'a str,
    decision: &'static str,
    reason: &'static str,
    from_state: Option<&'static str>,
    to_state: &'static str,
    actor: Option<&'a str>,
    detail: Option<&'a str>,
});

impl<'a> Told<'a> {
    pub(super) fn of(entry: &'a Entry) -> Self {
        Self {
            payout_id: entry.payout.0,
            seq: entry.seq,
            at: entry.at,
            event: &entry.event,
            decision: entry.decision,
            reason: entry.reason,
            from_state: entry.from_state,
            to_state: entry.to_state,
            actor: entry.actor.as_deref(),
            detail: entry.detail.as_deref(),
        }
    }
}

row!(Permitted<'a>, "permitted_row", {
    payout_id: Uuid,
    kind: &'static str,
    bound_to: &'a [u8],
    rule_set: &'a str,
    at: OffsetDateTime,
    project_id: &'a str,
    customer_reference: &'a str,
    currency: &'static str,
    amount_minor: i64,
});

impl<'a> Permitted<'a> {
    pub(super) fn of(new: &'a NewPermit) -> Self {
        let order = &new.payout.order;
        Self {
            payout_id: new.payout.id.0,
            kind: new.permit.kind.code(),
            bound_to: &new.permit.bound_to,
            rule_set: &new.rule_set,
            at: new.decided_at,
            project_id: &new.payout.project.0,
            customer_reference: &order.customer_reference,
            currency: order.amount.currency().code(),
            amount_minor: order.amount.minor(),
        }
    }
}

row!(Judged<'a>, "judged_row", {
    payout_id: Uuid,
    seq: i64,
    at: OffsetDateTime,
    rule_set: &'a str,
    outcome: &'static str,
    hits: String,
    inputs: String,
});

impl<'a> Judged<'a> {
    pub(super) fn of(decision: &'a NewDecision) -> Self {
        let verdict = &decision.verdict;
        Self {
            payout_id: decision.payout.0,
            seq: decision.seq,
            at: decision.at,
            rule_set: &verdict.rule_set,
            outcome: verdict.outcome.code(),
            hits: rules::hits(verdict).to_string(),
            inputs: rules::inputs(verdict).to_string(),
        }
    }
}

row!(Noted<'a>, "noted_row", {
    id: Uuid,
    project_id: &'a str,
    payout_id: Uuid,
    seq: i64,
    kind: &'a str,
    payload: &'a str,
    at: OffsetDateTime,
    lease: Option<f64>,
});

impl<'a> Noted<'a> {
    pub(super) fn of(message: &'a NewNotification) -> Self {
        Self {
            id: message.id,
            project_id: &message.project.0,
            payout_id: message.payout.0,
            seq: message.seq,
            kind: &message.kind,
            payload: &message.payload,
            at: message.at,
            lease: seconds(message.lease),
        }
    }
}

row!(Voided, "voided_row", { payout_id: Uuid, kind: &'static str });

impl Voided {
    pub(super) fn of(payout: PayoutId, kind: EffectKind) -> Self {
        Self { payout_id: payout.0, kind: kind.code() }
    }
}

row!(Wanted<'a>, "wanted_row", {
    payout_id: Uuid,
    kind: &'static str,
    permit_kind: Option<&'static str>,
    project_id: &'a str,
    bound_to: Option<&'a [u8]>,
    lease: Option<f64>,
});

impl<'a> Wanted<'a> {
    pub(super) fn of(new: &NewEffect<'a>) -> Self {
        let (payout, kind) = (&new.stored.payout, new.kind.code());
        let needs_permit = matches!(new.kind, EffectKind::Confirm | EffectKind::Cancel);
        let permit = payout.permit.as_ref().filter(|permit| permit.kind.code() == kind);
        Self {
            payout_id: payout.id.0,
            kind,
            permit_kind: needs_permit.then_some(kind),
            project_id: &payout.project.0,
            bound_to: permit.map(|permit| permit.bound_to.as_slice()),
            lease: seconds(new.lease),
        }
    }
}

row!(Ordered<'a>, "ordered_row", {
    id: Uuid,
    project_id: &'a str,
    idempotency_key: &'a str,
    request_fingerprint: &'a [u8],
    amount_minor: i64,
    currency: &'static str,
    destination_kind: &'static str,
    destination_secret: &'a str,
    destination_fingerprint: &'a [u8],
    recipient_name: &'a str,
    customer_reference: &'a str,
    reference: Option<&'a str>,
    metadata: &'a str,
    created_by: &'a str,
    lease: Option<f64>,
});

impl<'a> Ordered<'a> {
    pub(super) fn of(new: &'a NewPayout, lease: Option<Duration>) -> Self {
        let order = &new.order;
        Self {
            id: new.id.0,
            project_id: &new.project.0,
            idempotency_key: &new.idempotency_key,
            request_fingerprint: &new.request_fingerprint,
            amount_minor: order.amount.minor(),
            currency: order.amount.currency().code(),
            destination_kind: order.destination.code(),
            destination_secret: &new.destination_secret,
            destination_fingerprint: &order.destination_fingerprint,
            recipient_name: &order.recipient_name,
            customer_reference: &order.customer_reference,
            reference: order.reference.as_deref(),
            metadata: &new.metadata,
            created_by: &order.created_by,
            lease: seconds(lease),
        }
    }
}

row!(Ended<'a>, "settled_row", {
    id: Uuid,
    fence: i32,
    delivered: bool,
    retry_after: Option<f64>,
    error: Option<&'a str>,
});

impl<'a> Ended<'a> {
    pub(super) fn of(settled: &'a Settled) -> Self {
        let (delivered, retry_after, error) = match &settled.delivery {
            Delivery::Delivered => (true, None, None),
            Delivery::Retry(after, error) => (false, Some(*after), Some(error.as_str())),
            Delivery::GaveUp(error) => (false, None, Some(error.as_str())),
        };
        Self { id: settled.id, fence: settled.fence, delivered, retry_after: seconds(retry_after), error }
    }
}

fn seconds(duration: Option<Duration>) -> Option<f64> {
    duration.map(|duration| duration.as_secs_f64())
}
