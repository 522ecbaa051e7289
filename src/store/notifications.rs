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
    /// Claimed at once for whoever stores it, if they can deliver it at once.
    pub lease: Option<Duration>,
}

impl NewNotification {
    /// The message as whoever stores it with a lease has claimed it.
    #[must_use]
    pub fn claimed(&self) -> Claimed {
        Claimed {
            id: self.id,
            fence: 1,
            project_id: self.project.0.clone(),
            payload: self.payload.clone(),
            attempts: 0,
            created_at: self.at,
        }
    }
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

/// A claimed message and what became of its delivery.
#[derive(Clone, Debug)]
pub struct Settled {
    pub id: Uuid,
    pub fence: i32,
    pub delivery: Delivery,
}

/// Records deliveries whose claims are still good, each once.
///
/// # Errors
/// Database errors only.
pub async fn settle(tx: &mut PgConnection, settled: &[Settled]) -> Result<(), StoreError> {
    let (mut delivered, mut retry_after, mut errors) = (vec![], vec![], vec![]);
    for settled in settled {
        let (done, after, error) = match &settled.delivery {
            Delivery::Delivered => (true, None, None),
            Delivery::Retry(after, error) => (false, Some(after.as_secs_f64()), Some(error.as_str())),
            Delivery::GaveUp(error) => (false, None, Some(error.as_str())),
        };
        delivered.push(done);
        retry_after.push(after);
        errors.push(error);
    }
    sqlx::query(
        "UPDATE notifications n SET attempts = n.attempts + 1, lease_until = NULL, last_error = s.error,
            delivered_at = CASE WHEN s.delivered THEN now() END,
            due_at = now() + make_interval(secs => s.retry_after)
         FROM unnest($1::uuid[], $2::integer[], $3::boolean[], $4::float8[], $5::text[])
            AS s(id, fence, delivered, retry_after, error)
         WHERE n.id = s.id AND n.fence = s.fence AND n.lease_until IS NOT NULL",
    )
    .bind(settled.iter().map(|settled| settled.id).collect::<Vec<_>>())
    .bind(settled.iter().map(|settled| settled.fence).collect::<Vec<_>>())
    .bind(delivered)
    .bind(retry_after)
    .bind(errors)
    .execute(tx)
    .await?;
    Ok(())
}
