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
