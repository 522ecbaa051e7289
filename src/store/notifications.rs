//! The table `notifications`: messages to callers, written with the change they tell about, delivered later.

use super::StoreError;
use crate::domain::id::{PayoutId, ProjectId};
use sqlx::PgConnection;
use std::time::Duration;
use time::OffsetDateTime;
use uuid::Uuid;

/// A message to a caller.
#[derive(Clone, Debug)]
pub struct NewNotification {
    pub id: Uuid,
    pub project: ProjectId,
    pub payout: PayoutId,
    /// The payout's version: messages about one payout are ordered by it.
    pub seq: i64,
    /// `payout.succeeded`, …
    pub kind: String,
    /// The exact body to be sent.
    pub payload: String,
    pub at: OffsetDateTime,
}

/// A claimed message.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Claimed {
    pub id: Uuid,
    pub fence: i32,
    pub project_id: String,
    pub payload: String,
    /// Deliveries tried before this one.
    pub attempts: i32,
    pub created_at: OffsetDateTime,
}

/// Stores messages.
///
/// # Errors
/// Database errors only.
pub async fn insert(tx: &mut PgConnection, new: &[NewNotification]) -> Result<(), StoreError> {
    for message in new {
        sqlx::query(
            "INSERT INTO notifications (id, project_id, payout_id, seq, kind, payload, created_at, due_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, now())",
        )
        .bind(message.id)
        .bind(&message.project.0)
        .bind(message.payout.0)
        .bind(message.seq)
        .bind(&message.kind)
        .bind(&message.payload)
        .bind(message.at)
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}

/// Claims up to `limit` messages that are due, of projects that are not in `busy`.
///
/// # Errors
/// Database errors only.
pub async fn claim(
    tx: &mut PgConnection,
    limit: i64,
    lease: Duration,
    busy: &[String],
) -> Result<Vec<Claimed>, StoreError> {
    Ok(sqlx::query_as(
        "WITH picked AS (
            SELECT id FROM notifications
            WHERE due_at <= now() AND (lease_until IS NULL OR lease_until < now())
              AND project_id <> ALL($3)
            ORDER BY due_at LIMIT $1 FOR UPDATE SKIP LOCKED)
         UPDATE notifications n SET fence = n.fence + 1, lease_until = now() + make_interval(secs => $2)
         FROM picked WHERE n.id = picked.id
         RETURNING n.id, n.fence, n.project_id, n.payload, n.attempts, n.created_at",
    )
    .bind(limit)
    .bind(lease.as_secs_f64())
    .bind(busy)
    .fetch_all(tx)
    .await?)
}

/// What became of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    Delivered,
    /// Try again after this long.
    Retry(Duration, String),
    /// Tried long enough; a person has to look.
    GaveUp(String),
}

/// Records a delivery, if the claim is still good.
///
/// # Errors
/// Database errors only.
pub async fn settle(
    tx: &mut PgConnection,
    id: Uuid,
    fence: i32,
    delivery: &Delivery,
) -> Result<(), StoreError> {
    let (delivered, retry_after, error) = match delivery {
        Delivery::Delivered => (true, None, None),
        Delivery::Retry(after, error) => (false, Some(after.as_secs_f64()), Some(error)),
        Delivery::GaveUp(error) => (false, None, Some(error)),
    };
    sqlx::query(
        "UPDATE notifications SET attempts = attempts + 1, lease_until = NULL, last_error = $5,
            delivered_at = CASE WHEN $3 THEN now() END, due_at = now() + make_interval(secs => $4)
         WHERE id = $1 AND fence = $2 AND delivered_at IS NULL",
    )
    .bind(id)
    .bind(fence)
    .bind(delivered)
    .bind(retry_after)
    .bind(error)
    .execute(tx)
    .await?;
    Ok(())
}
