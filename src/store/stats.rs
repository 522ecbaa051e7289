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
         FROM payouts WHERE destination_secret IS NOT NULL GROUP BY state",
    )
    .fetch_all(db)
    .await?)
}

/// How many payouts have an open flag, by each anomaly that was raised on them since it was last taken off.
///
/// # Errors
/// Database errors only.
pub async fn flagged(db: &mut PgConnection) -> Result<BTreeMap<String, i64>, StoreError> {
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "SELECT flag, count(*) FROM payouts p CROSS JOIN LATERAL (
            SELECT DISTINCT flag FROM unnest(p.raised || p.anomaly) AS flag) f
         WHERE p.anomaly IS NOT NULL GROUP BY flag",
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().collect())
}

/// The switches of confirms: the scope, and whether it is off.
///
/// # Errors
/// Database errors only.
pub async fn confirms_off(db: &mut PgConnection) -> Result<BTreeMap<String, bool>, StoreError> {
    let rows: Vec<(String, bool)> =
        sqlx::query_as("SELECT scope, NOT confirms FROM switches").fetch_all(db).await?;
    Ok(rows.into_iter().collect())
}

/// What keeps old versions of rows from being cleaned up, and how many there are.
#[derive(Clone, Debug)]
pub struct Upkeep {
    pub oldest_transaction_seconds: f64,
    /// Dead rows of the tables in which rows die all the time.
    pub dead_rows: Vec<(String, i64)>,
}

/// How old the oldest transaction in this database is, as far as we may know, and the dead rows of the
/// queues.
///
/// # Errors
/// Database errors only.
pub async fn upkeep(db: &mut PgConnection) -> Result<Upkeep, StoreError> {
    let oldest_transaction_seconds = sqlx::query_scalar(
        "SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0)::float8
         FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    .fetch_one(&mut *db)
    .await?;
    let dead_rows = sqlx::query_as(
        "SELECT relname::text, n_dead_tup FROM pg_stat_user_tables
         WHERE relname IN ('effects', 'inbox', 'notifications', 'payouts', 'told_sessions')
         ORDER BY relname",
    )
    .fetch_all(db)
    .await?;
    Ok(Upkeep { oldest_transaction_seconds, dead_rows })
}
