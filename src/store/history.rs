//! The table `history`: a payout's story, appended in the transaction that makes it true, never changed.

use super::StoreError;
use crate::domain::id::PayoutId;
use sqlx::PgConnection;
use time::OffsetDateTime;

/// One recorded event.
#[derive(Clone, Debug)]
pub struct Entry {
    pub payout: PayoutId,
    /// The payout's version after the event.
    pub seq: i64,
    pub at: OffsetDateTime,
    pub event: String,
    pub decision: &'static str,
    pub reason: &'static str,
    pub from_state: Option<&'static str>,
    pub to_state: &'static str,
    /// The API key behind a command.
    pub actor: Option<String>,
    /// A sentence-like detail, free of secrets.
    pub detail: Option<String>,
}

/// One entry as read back.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Told {
    pub seq: i64,
    pub at: OffsetDateTime,
    pub event: String,
    pub decision: String,
    pub reason: String,
    pub from_state: Option<String>,
    pub to_state: String,
    pub actor: Option<String>,
    pub detail: Option<String>,
}

/// A payout's story in order.
///
/// # Errors
/// Database errors only.
pub async fn of(db: &mut PgConnection, payout: PayoutId, limit: i64) -> Result<Vec<Told>, StoreError> {
    Ok(sqlx::query_as(
        "SELECT seq, at, event, decision, reason, from_state, to_state, actor, detail
         FROM history WHERE payout_id = $1 ORDER BY seq LIMIT $2",
    )
    .bind(payout.0)
    .bind(limit)
    .fetch_all(db)
    .await?)
}
