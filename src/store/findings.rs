//! The tables `findings` and `checker`: what is not as promised, since when, and whose turn it is to look. A
//! finding is new once: it is known again by its check and its subject until it is gone.

use super::{StoreError, encoding::Code};
use crate::domain::{
    checking::{Check, Finding},
    id::{PayoutId, ProjectId},
};
use sqlx::PgConnection;
use std::{collections::BTreeMap, time::Duration};
use time::OffsetDateTime;
use uuid::Uuid;

/// The right to look, and how far those before have come.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Turn {
    pub fence: i64,
    pub inbox_after: i64,
    pub changed_since: OffsetDateTime,
    pub sweep_after: Option<Uuid>,
    pub started_at: OffsetDateTime,
    /// The server and the table that were looked at: after a failover or a restore it is another one, and
    /// what was seen on this one says nothing about it.
    pub server: String,
}

/// Which server this is, by the moment when it was started, which database, and which table it has: one of
/// them changes when another takes its place.
macro_rules! server {
    () => {
        " concat(extract(epoch FROM pg_postmaster_start_time()), ' ',
            (SELECT oid FROM pg_database WHERE datname = current_database()), ' ', 'history'::regclass::oid) "
    };
}

/// Takes the turn if it is due and nobody has it.
///
/// # Errors
/// Database errors only.
pub async fn take_turn(
    tx: &mut PgConnection,
    every: Duration,
    lease: Duration,
) -> Result<Option<Turn>, StoreError> {
    Ok(sqlx::query_as(concat!(
        "UPDATE checker SET fence = fence + 1, lease_until = now() + make_interval(secs => $2),
            due_at = now() + make_interval(secs => $1)
         WHERE due_at <= now() AND (lease_until IS NULL OR lease_until < now())
         RETURNING fence, inbox_after, changed_since, sweep_after, now() AS started_at,",
        server!(),
        "AS server"
    ))
    .bind(every.as_secs_f64())
    .bind(lease.as_secs_f64())
    .fetch_optional(tx)
    .await?)
}

/// Whether the turn is still ours, and on this server; if so it stays so until the transaction ends. Whoever
/// woke up too late must not write.
///
/// # Errors
/// Database errors only.
pub async fn hold_turn(tx: &mut PgConnection, turn: &Turn) -> Result<bool, StoreError> {
    let ours = concat!("SELECT fence = $1 AND", server!(), "= $2 FROM checker FOR UPDATE");
    Ok(sqlx::query_scalar(ours).bind(turn.fence).bind(&turn.server).fetch_one(tx).await?)
}

/// Notes how far the turn has come and keeps it for another `lease`. Says whether it is still ours.
///
/// # Errors
/// Database errors only.
pub async fn keep_turn(tx: &mut PgConnection, turn: &Turn, lease: Duration) -> Result<bool, StoreError> {
    let kept = sqlx::query(concat!(
        "UPDATE checker SET inbox_after = $2, changed_since = $3, sweep_after = $4,
            swept_at = CASE WHEN $4::uuid IS NULL AND sweep_after IS NOT NULL THEN now() ELSE swept_at END,
            lease_until = now() + make_interval(secs => $5)
         WHERE fence = $1 AND",
        server!(),
        "= $6"
    ))
    .bind(turn.fence)
    .bind(turn.inbox_after)
    .bind(turn.changed_since)
    .bind(turn.sweep_after)
    .bind(lease.as_secs_f64())
    .bind(&turn.server)
    .execute(tx)
    .await?;
    Ok(kept.rows_affected() == 1)
}

/// Ends the turn.
///
/// # Errors
/// Database errors only.
pub async fn end_turn(tx: &mut PgConnection, turn: &Turn) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE checker SET lease_until = NULL, finished_at = clock_timestamp(),
            took_seconds = extract(epoch FROM clock_timestamp() - $2)::float8
         WHERE fence = $1",
    )
    .bind(turn.fence)
    .bind(turn.started_at)
    .execute(tx)
    .await?;
    Ok(())
}

/// Leaves the turn before its end: whoever comes when the next is due goes on from here.
///
/// # Errors
/// Database errors only.
pub async fn leave_turn(tx: &mut PgConnection, turn: &Turn) -> Result<(), StoreError> {
    let left = "UPDATE checker SET lease_until = NULL WHERE fence = $1";
    sqlx::query(left).bind(turn.fence).execute(tx).await?;
    Ok(())
}

/// What was looked at, so that what is not found there any more is gone.
#[derive(Clone, Copy, Debug)]
pub enum Looked<'a> {
    /// These payouts, with every check of payouts.
    Payouts(&'a [PayoutId]),
    /// Everything that these checks are about.
    Checks(&'a [&'static str]),
    /// All that is open between this project's books and Pike's reports.
    Reports(&'a ProjectId),
}

/// Keeps what was found and says which findings are new.
///
/// # Errors
/// Database errors only.
pub async fn keep<'a>(tx: &mut PgConnection, found: &'a [Finding]) -> Result<Vec<&'a Finding>, StoreError> {
    let mut new = vec![];
    for finding in found {
        let fresh: bool = sqlx::query_scalar(
            "INSERT INTO findings AS f (check_name, subject, payout_id, project_id, words)
             VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (check_name, subject) DO UPDATE SET words = excluded.words, seen_at = now(),
                found_at = CASE WHEN f.gone_at IS NULL THEN f.found_at ELSE now() END,
                accepted_at = CASE WHEN f.gone_at IS NULL THEN f.accepted_at END,
                gone_at = NULL
             RETURNING found_at = now()",
        )
        .bind(finding.check.code())
        .bind(&finding.subject)
        .bind(finding.payout.map(|id| id.0))
        .bind(&finding.project.0)
        .bind(&finding.words)
        .fetch_one(&mut *tx)
        .await?;
        if fresh {
            new.push(finding);
        }
    }
    Ok(new)
}

/// Notes which findings are gone: looked for in this transaction, and not found in it. Goes after [`keep`].
///
/// # Errors
/// Database errors only.
pub async fn forget(tx: &mut PgConnection, looked: Looked<'_>) -> Result<(), StoreError> {
    // Those kept by this transaction were seen now.
    match looked {
        Looked::Payouts(ids) => {
            let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
            sqlx::query(
                "UPDATE findings SET gone_at = now()
                 WHERE gone_at IS NULL AND seen_at < now() AND payout_id = ANY($1) AND check_name <> ALL($2)",
            )
            .bind(ids)
            .bind([super::checks::names_of_queues(), super::checks::names_of_reports()].concat())
            .execute(tx)
            .await?;
        }
        Looked::Checks(names) => {
            sqlx::query(
                "UPDATE findings SET gone_at = now()
                 WHERE gone_at IS NULL AND seen_at < now() AND check_name = ANY($1)",
            )
            .bind(names)
            .execute(tx)
            .await?;
        }
        Looked::Reports(project) => {
            sqlx::query(
                "UPDATE findings SET gone_at = now()
                 WHERE gone_at IS NULL AND seen_at < now() AND project_id = $1 AND check_name = ANY($2)",
            )
            .bind(&project.0)
            .bind(super::checks::names_of_reports())
            .execute(tx)
            .await?;
        }
    }
    Ok(())
}

/// Payouts with findings that are not gone, seen longest ago first; those that looking again could not undo
/// are left out.
///
/// # Errors
/// Database errors only.
pub async fn suspects(db: &mut PgConnection, limit: i64) -> Result<Vec<PayoutId>, StoreError> {
    let rows: Vec<Uuid> = sqlx::query_scalar(
        "SELECT payout_id FROM findings
         WHERE gone_at IS NULL AND payout_id IS NOT NULL AND check_name <> ALL($2)
         GROUP BY payout_id ORDER BY min(seen_at) LIMIT $1",
    )
    .bind(limit)
    .bind(super::checks::names_of_reports())
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(PayoutId).collect())
}

/// How many findings there are by check, and when and for how long was looked last.
#[derive(Clone, Debug)]
pub struct Figures {
    pub open: BTreeMap<String, i64>,
    /// In seconds since 1970.
    pub finished_at: Option<f64>,
    pub took_seconds: Option<f64>,
}

/// Figures for the metrics page. What a person has accepted does not count.
///
/// # Errors
/// Database errors only.
pub async fn figures(db: &mut PgConnection) -> Result<Figures, StoreError> {
    let open: Vec<(String, i64)> = sqlx::query_as(
        "SELECT check_name, count(*) FROM findings WHERE gone_at IS NULL AND accepted_at IS NULL
         GROUP BY check_name",
    )
    .fetch_all(&mut *db)
    .await?;
    let (finished_at, took_seconds) =
        sqlx::query_as("SELECT extract(epoch FROM finished_at)::float8, took_seconds FROM checker")
            .fetch_one(db)
            .await?;
    Ok(Figures { open: open.into_iter().collect(), finished_at, took_seconds })
}

/// Notes that a person has looked at a finding and lets it stand. Says whether there was one.
///
/// # Errors
/// Database errors only.
pub async fn accept(
    tx: &mut PgConnection,
    check: Check,
    subject: &str,
    reason: &str,
) -> Result<bool, StoreError> {
    let accepted = sqlx::query(
        "UPDATE findings SET accepted_at = now(), accepted_reason = $3
         WHERE check_name = $1 AND subject = $2 AND gone_at IS NULL",
    )
    .bind(check.code())
    .bind(subject)
    .bind(reason)
    .execute(tx)
    .await?;
    Ok(accepted.rows_affected() == 1)
}

/// The findings that persons have accepted, as check and subject.
///
/// # Errors
/// Database errors only.
pub async fn accepted(db: &mut PgConnection) -> Result<Vec<(String, String)>, StoreError> {
    Ok(sqlx::query_as(
        "SELECT check_name, subject FROM findings WHERE gone_at IS NULL AND accepted_at IS NOT NULL",
    )
    .fetch_all(db)
    .await?)
}
