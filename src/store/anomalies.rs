//! The table `anomalies`: what contradicted what we hold, and how often that happened to a project lately.

use super::{StoreError, encoding::Code};
use crate::domain::{
    id::{PayoutId, ProjectId},
    payout::{Alarm, Anomaly},
};
use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};

/// An anomaly to keep. `seq` is the history entry that tells it.
#[derive(Clone, Debug)]
pub struct NewAnomaly {
    pub payout: PayoutId,
    pub seq: i64,
    pub project: ProjectId,
    pub anomaly: Anomaly,
    pub at: OffsetDateTime,
}

/// Keeps anomalies.
///
/// # Errors
/// Database errors only.
pub async fn insert(tx: &mut PgConnection, new: &[NewAnomaly]) -> Result<(), StoreError> {
    for new in new {
        sqlx::query(
            "INSERT INTO anomalies (payout_id, seq, project_id, anomaly, counts, at)
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(new.payout.0)
        .bind(new.seq)
        .bind(&new.project.0)
        .bind(new.anomaly.code())
        .bind(new.anomaly.alarm() != Alarm::None)
        .bind(new.at)
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}

/// How many counted anomalies a project had within `window` and since its switch was thrown last: whoever
/// switched the confirms on again had seen those before. Includes what this transaction has written.
///
/// # Errors
/// Database errors only.
pub async fn counted(
    tx: &mut PgConnection,
    project: &ProjectId,
    now: OffsetDateTime,
    window: Duration,
) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar(
        "SELECT count(*) FROM anomalies WHERE counts AND project_id = $1 AND at > $2
           AND at > coalesce((SELECT changed_at FROM switches WHERE scope = $1), '-infinity')",
    )
    .bind(&project.0)
    .bind(now - window)
    .fetch_one(tx)
    .await?)
}
