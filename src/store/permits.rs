//! The tables `permits` and `recipients`: the one decision about a payout's money, and what a recipient has
//! been permitted today, read and added to under a lock on the recipient.

use super::{StoreError, encoding::Code};
use crate::domain::{
    id::{PayoutId, ProjectId},
    money::Currency,
    payout::Payout,
    permit::Permit,
};
use sqlx::PgConnection;
use std::collections::{BTreeMap, BTreeSet};
use time::OffsetDateTime;

/// A permit to store, with the payout it is for.
#[derive(Clone, Debug)]
pub struct NewPermit {
    pub payout: Payout,
    pub permit: Permit,
    pub rule_set: String,
    pub decided_at: OffsetDateTime,
}

/// Notes that permits were decided again: of the same kind, perhaps under other rules.
///
/// # Errors
/// Database errors only.
pub async fn renew(tx: &mut PgConnection, permits: &[NewPermit]) -> Result<(), StoreError> {
    if permits.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "UPDATE permits m SET bound_to = n.bound_to, rule_set = n.rule_set, renewed_at = n.at
         FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::text[], $5::timestamptz[])
            AS n(payout_id, kind, bound_to, rule_set, at)
         WHERE m.payout_id = n.payout_id AND m.kind = n.kind",
    )
    .bind(permits.iter().map(|new| new.payout.id.0).collect::<Vec<_>>())
    .bind(permits.iter().map(|new| new.permit.kind.code()).collect::<Vec<_>>())
    .bind(permits.iter().map(|new| new.permit.bound_to.as_slice()).collect::<Vec<_>>())
    .bind(permits.iter().map(|new| new.rule_set.as_str()).collect::<Vec<_>>())
    .bind(permits.iter().map(|new| new.decided_at).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}

/// The rules under which these payouts' confirms were permitted.
///
/// # Errors
/// Database errors only.
pub async fn rule_sets(
    tx: &mut PgConnection,
    payouts: &[PayoutId],
) -> Result<BTreeMap<PayoutId, String>, StoreError> {
    let ids: Vec<uuid::Uuid> = payouts.iter().map(|id| id.0).collect();
    let rows: Vec<(uuid::Uuid, String)> = sqlx::query_as(
        "SELECT payout_id, rule_set FROM permits WHERE payout_id = ANY($1) AND kind = 'confirm'",
    )
    .bind(ids)
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(|(id, rule_set)| (PayoutId(id), rule_set)).collect())
}

/// What these payouts themselves add to what their recipients were permitted since `since`.
///
/// # Errors
/// Database errors only.
pub async fn own_since(
    tx: &mut PgConnection,
    payouts: &[PayoutId],
    since: OffsetDateTime,
) -> Result<BTreeMap<PayoutId, i64>, StoreError> {
    let ids: Vec<uuid::Uuid> = payouts.iter().map(|id| id.0).collect();
    let rows: Vec<(uuid::Uuid, i64)> = sqlx::query_as(
        "SELECT payout_id, amount_minor FROM permits WHERE payout_id = ANY($1)
           AND kind = 'confirm' AND released_at IS NULL AND decided_at >= $2",
    )
    .bind(ids)
    .bind(since)
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(|(id, amount)| (PayoutId(id), amount)).collect())
}

/// Takes provably unpaid payouts out of their recipients' totals.
///
/// # Errors
/// Database errors only.
pub async fn release(tx: &mut PgConnection, unpaid: &[PayoutId]) -> Result<(), StoreError> {
    if unpaid.is_empty() {
        return Ok(());
    }
    let ids: Vec<uuid::Uuid> = unpaid.iter().map(|id| id.0).collect();
    sqlx::query("UPDATE permits SET released_at = now() WHERE payout_id = ANY($1) AND released_at IS NULL")
        .bind(ids)
        .execute(tx)
        .await?;
    Ok(())
}

/// A recipient within a project.
pub type Recipient = (ProjectId, String);

/// Locks recipients, in order, until the transaction ends, so that two payouts that fit one by one but not
/// together cannot both be let through.
///
/// # Errors
/// Database errors only.
pub async fn lock_recipients(
    tx: &mut PgConnection,
    recipients: &BTreeSet<Recipient>,
) -> Result<(), StoreError> {
    let (projects, references): (Vec<&str>, Vec<&str>) =
        recipients.iter().map(|(project, reference)| (project.0.as_str(), reference.as_str())).unzip();
    sqlx::query(
        "INSERT INTO recipients SELECT * FROM unnest($1::text[], $2::text[]) AS n(project_id, reference)
         ORDER BY 1, 2 ON CONFLICT DO NOTHING",
    )
    .bind(&projects)
    .bind(&references)
    .execute(&mut *tx)
    .await?;
    sqlx::query(
        "SELECT 1 FROM recipients r JOIN unnest($1::text[], $2::text[]) AS n(project_id, reference)
            ON r.project_id = n.project_id AND r.customer_reference = n.reference
         ORDER BY r.project_id, r.customer_reference FOR UPDATE OF r",
    )
    .bind(&projects)
    .bind(&references)
    .execute(tx)
    .await?;
    Ok(())
}

/// What these locked recipients have been permitted since `since`, by currency, without released permits.
///
/// # Errors
/// Database errors only.
pub async fn permitted_since(
    tx: &mut PgConnection,
    recipients: &BTreeSet<Recipient>,
    since: OffsetDateTime,
) -> Result<BTreeMap<(ProjectId, String, Currency), i64>, StoreError> {
    let (projects, references): (Vec<&str>, Vec<&str>) =
        recipients.iter().map(|(project, reference)| (project.0.as_str(), reference.as_str())).unzip();
    let rows: Vec<(String, String, String, i64)> = sqlx::query_as(
        "SELECT m.project_id, m.customer_reference, m.currency, sum(m.amount_minor)::bigint
         FROM permits m JOIN unnest($1::text[], $2::text[]) AS n(project_id, reference)
           ON m.project_id = n.project_id AND m.customer_reference = n.reference
         WHERE m.kind = 'confirm' AND m.released_at IS NULL AND m.decided_at >= $3
         GROUP BY 1, 2, 3",
    )
    .bind(&projects)
    .bind(&references)
    .bind(since)
    .fetch_all(tx)
    .await?;
    rows.into_iter()
        .map(|(project, reference, currency, total)| {
            let currency = currency.parse().map_err(|_| StoreError::ImpossibleRow {
                table: "permits",
                column: "currency",
                id: reference.clone(),
            })?;
            Ok(((ProjectId(project), reference, currency), total))
        })
        .collect()
}
