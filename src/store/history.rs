//! The table `history`: a payout's story, appended in the transaction that makes it true, never changed.

use super::StoreError;
use crate::domain::id::PayoutId;
use serde::Serialize;
use sqlx::PgConnection;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

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

#[derive(Serialize)]
struct Row<'a> {
    payout_id: Uuid,
    seq: i64,
    at: String,
    event: &'a str,
    decision: &'a str,
    reason: &'a str,
    from_state: Option<&'a str>,
    to_state: &'a str,
    actor: Option<&'a str>,
    detail: Option<&'a str>,
}

/// Appends entries.
///
/// # Errors
/// Database errors; a number that is taken already means that two writers worked on one payout.
pub async fn append(tx: &mut PgConnection, entries: &[Entry]) -> Result<(), StoreError> {
    if entries.is_empty() {
        return Ok(());
    }
    let rows: Vec<Row<'_>> = entries
        .iter()
        .map(|entry| Row {
            payout_id: entry.payout.0,
            seq: entry.seq,
            at: entry.at.format(&Rfc3339).expect("an instant of our time has an RFC 3339 form"),
            event: &entry.event,
            decision: entry.decision,
            reason: entry.reason,
            from_state: entry.from_state,
            to_state: entry.to_state,
            actor: entry.actor.as_deref(),
            detail: entry.detail.as_deref(),
        })
        .collect();
    let rows = serde_json::to_string(&rows).expect("rows of strings and numbers always serialise");
    sqlx::query(
        "INSERT INTO history
            (payout_id, seq, at, event, decision, reason, from_state, to_state, actor, detail)
         SELECT payout_id, seq, at, event, decision, reason, from_state, to_state, actor, detail
         FROM jsonb_to_recordset($1::jsonb) AS n(payout_id uuid, seq bigint, at timestamptz, event text,
            decision text, reason text, from_state text, to_state text, actor text, detail text)",
    )
    .bind(rows)
    .execute(tx)
    .await?;
    Ok(())
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
