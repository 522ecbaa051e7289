//! Figures for the metrics page, read aside from the money.

use super::StoreError;
use sqlx::PgConnection;
use std::collections::BTreeMap;

/// Unfinished payouts of one state.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Backlog {
    pub state: String,
    pub count: i64,
    pub oldest_seconds: f64,
}

/// How many effects of each kind wait or are under way.
///
/// # Errors
/// Database errors only.
pub async fn effects(db: &mut PgConnection) -> Result<BTreeMap<String, i64>, StoreError> {
    let rows: Vec<(String, i64)> =
        sqlx::query_as("SELECT kind, count(*) FROM effects GROUP BY kind").fetch_all(db).await?;
    Ok(rows.into_iter().collect())
}

/// How many webhooks are parked.
///
/// # Errors
/// Database errors only.
pub async fn parked(db: &mut PgConnection) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar("SELECT count(*) FROM inbox WHERE parked_at IS NOT NULL").fetch_one(db).await?)
}

/// How many payouts are unfinished per state, and for how long the oldest has been in it.
///
/// # Errors
/// Database errors only.
pub async fn backlog(db: &mut PgConnection) -> Result<Vec<Backlog>, StoreError> {
    Ok(sqlx::query_as(
        "SELECT state, count(*) AS count, extract(epoch FROM now() - min(since))::float8 AS oldest_seconds
         FROM payouts WHERE state NOT IN ('succeeded', 'returned', 'failed', 'cancelled') GROUP BY state",
    )
    .fetch_all(db)
    .await?)
}
