//! New rows of `payouts`: one statement however many, one array for each column. A batch as one JSON text
//! would cost the server several times as much to read.

use super::{
    NewPayout, Stored,
    rows::{PayoutRow, columns},
};
use crate::store::{StoreError, encoding::Code};
use sqlx::PgConnection;
use time::Duration;

const INSERT: &str = concat!(
    "
    INSERT INTO payouts (id, project_id, idempotency_key, request_fingerprint, amount_minor, currency,
        destination_kind, destination_secret, destination_fingerprint, recipient_name, customer_reference,
        reference, metadata, created_by, created_at, version, attempt, state, status, since, updated_at,
        next_check_at)
    SELECT id, project_id, idempotency_key, request_fingerprint, amount_minor, currency,
        destination_kind, destination_secret, destination_fingerprint, recipient_name,
        customer_reference, reference, metadata, created_by, now(), 1, 1, 'accepted', 'accepted', now(),
        now(), now() + make_interval(secs => $15)
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[], $5::bigint[], $6::text[], $7::text[],
        $8::text[], $9::bytea[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[])
        AS n(id, project_id, idempotency_key, request_fingerprint, amount_minor, currency, destination_kind,
            destination_secret, destination_fingerprint, recipient_name, customer_reference, reference,
            metadata, created_by)
    ORDER BY project_id, idempotency_key
    ON CONFLICT DO NOTHING RETURNING ",
    columns!()
);

/// Stores what is free to be stored.
pub(super) async fn insert(
    tx: &mut PgConnection,
    new: &[NewPayout],
    first_look: Duration,
) -> Result<Vec<Stored>, StoreError> {
    let rows: Vec<PayoutRow> = sqlx::query_as(INSERT)
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
        .bind(first_look.as_seconds_f64())
        .fetch_all(tx)
        .await?;
    rows.into_iter().map(PayoutRow::into_stored).collect()
}

fn column<'a, C>(new: &'a [NewPayout], of: impl Fn(&'a NewPayout) -> C) -> Vec<C> {
    new.iter().map(of).collect()
}
