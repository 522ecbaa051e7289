//! New rows of `payouts`, each with the beginning of its history and its first call: one statement however
//! many, one array for each column. A batch as one JSON text would cost the server several times as much to
//! read.

use super::{NewPayout, Stored};
use crate::{
    domain::{payout::Payout, provider::ProviderFacts, state::State},
    store::{
        StoreError,
        effects::{Claimed, EffectClaim},
        encoding::Code,
        steps::Writer,
    },
};
use sqlx::PgConnection;
use std::collections::{BTreeMap, BTreeSet};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

const INSERT: &str = "
    WITH n AS (
        SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[], $5::bigint[], $6::text[],
            $7::text[], $8::text[], $9::bytea[], $10::text[], $11::text[], $12::text[], $13::text[],
            $14::text[], $15::float8[])
        AS n(id, project_id, idempotency_key, request_fingerprint, amount_minor, currency, destination_kind,
            destination_secret, destination_fingerprint, recipient_name, customer_reference, reference,
            metadata, created_by, lease)),
    inserted AS (
        INSERT INTO payouts (id, project_id, idempotency_key, request_fingerprint, amount_minor, currency,
            destination_kind, destination_secret, destination_fingerprint, recipient_name,
            customer_reference, reference, metadata, created_by, created_at, version, attempt, state, status,
            since, updated_at, next_check_at)
        SELECT id, project_id, idempotency_key, request_fingerprint, amount_minor, currency,
            destination_kind, destination_secret, destination_fingerprint, recipient_name,
            customer_reference, reference, metadata, created_by, now(), 1, 1, 'accepted', 'accepted', now(),
            now(), now() + make_interval(secs => $16)
        FROM n ORDER BY project_id, idempotency_key
        ON CONFLICT DO NOTHING RETURNING id, project_id, created_by, created_at, next_check_at),
    told AS (
        INSERT INTO history (payout_id, seq, at, event, decision, reason, to_state, actor)
        SELECT id, 1, created_at, 'created', 'move', 'created', 'accepted', created_by FROM inserted),
    wanted AS (
        INSERT INTO effects (payout_id, kind, project_id, fence, lease_until)
        SELECT i.id, 'create_session', i.project_id, (n.lease IS NOT NULL)::integer,
            clock_timestamp() + make_interval(secs => n.lease)
        FROM inserted i JOIN n ON n.id = i.id RETURNING id, fence, payout_id)
    SELECT i.id, i.created_at, i.next_check_at, w.id, w.fence, pg_current_xact_id()::xid::text::bigint
    FROM inserted i JOIN wanted w ON w.payout_id = i.id";

type Row = (Uuid, OffsetDateTime, OffsetDateTime, i64, i32, i64);

/// What was stored, and by whom.
pub struct Inserted {
    pub stored: Vec<Stored>,
    /// Their first calls, as far as they were to be claimed.
    pub claimed: Vec<Claimed>,
    pub by: Option<Writer>,
}

/// Stores what is free to be stored.
pub(super) async fn insert(
    db: &mut PgConnection,
    new: &[NewPayout],
    leases: &[Option<std::time::Duration>],
    first_look: Duration,
) -> Result<Inserted, StoreError> {
    let rows: Vec<Row> = sqlx::query_as(INSERT)
        .bind(column(new, |new| new.id.0))
        .bind(column(new, |new| new.project.0.as_str()))
        .bind(column(new, |new| new.idempotency_key.as_str()))
        .bind(column(new, |new| new.request_fingerprint.as_slice()))
        .bind(column(new, |new| new.order.amount.minor()))
        .bind(column(new, |new| new.order.amount.currency().code()))
        .bind(column(new, |new| new.order.destination.code()))
        .bind(column(new, |new| new.destination_secret.as_str()))
        .bind(column(new, |new| new.order.destination_fingerprint.as_slice()))
        .bind(column(new, |new| new.order.recipient_name.as_str()))
        .bind(column(new, |new| new.order.customer_reference.as_str()))
        .bind(column(new, |new| new.order.reference.as_deref()))
        .bind(column(new, |new| new.metadata.as_str()))
        .bind(column(new, |new| new.order.created_by.as_str()))
        .bind(leases.iter().map(|lease| lease.map(|lease| lease.as_secs_f64())).collect::<Vec<_>>())
        .bind(first_look.as_seconds_f64())
        .fetch_all(db)
        .await?;
    let orders: BTreeMap<Uuid, &NewPayout> = new.iter().map(|new| (new.id.0, new)).collect();
    let by = rows.first().map(|(.., by)| Writer::of(*by));
    let mut inserted = Inserted { stored: vec![], claimed: vec![], by };
    for (id, created_at, next_check_at, effect, fence, _) in rows {
        let Some(order) = orders.get(&id) else { continue };
        let stored = accepted(order, created_at, next_check_at);
        if fence > 0 {
            let claim = EffectClaim { id: effect, fence };
            inserted.claimed.push(Claimed::first(&stored, claim, order.destination_secret.clone()));
        }
        inserted.stored.push(stored);
    }
    Ok(inserted)
}

/// As it stands in its row.
fn accepted(new: &NewPayout, created_at: OffsetDateTime, next_check_at: OffsetDateTime) -> Stored {
    let payout = Payout {
        id: new.id,
        project: new.project.clone(),
        order: new.order.clone(),
        version: 1,
        attempt: 1,
        past: vec![],
        state: State::Accepted,
        since: created_at,
        permit: None,
        anomaly: None,
        raised: BTreeSet::new(),
        facts: ProviderFacts::default(),
    };
    let metadata = new.metadata.clone();
    Stored { payout, metadata, created_at, updated_at: created_at, next_check_at: Some(next_check_at) }
}

fn column<'a, C>(new: &'a [NewPayout], of: impl Fn(&'a NewPayout) -> C) -> Vec<C> {
    new.iter().map(of).collect()
}
