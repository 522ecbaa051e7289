//! The tables `attempts` and `past_permits`: what a payout was tried in before, and what was permitted there.
//! A row is written when an attempt ends and another follows; nothing is ever taken away.

use super::{StoreError, encoding::Code, payouts::Stored};
use crate::domain::{
    id::{PayoutId, SessionId},
    payout::{PastAttempt, PastEnd},
};
use sqlx::PgConnection;
use uuid::Uuid;

/// Reads the past attempts of locked payouts. Nearly all have none: then nothing is asked.
///
/// # Errors
/// Database errors, or an impossible row.
pub(super) async fn fill_in(db: &mut PgConnection, locked: &mut [Stored]) -> Result<(), StoreError> {
    let again = locked.iter().filter(|stored| stored.payout.attempt > 1);
    let ids: Vec<Uuid> = again.map(|stored| stored.payout.id.0).collect();
    if ids.is_empty() {
        return Ok(());
    }
    let rows: Vec<(Uuid, i32, String, String)> = sqlx::query_as(
        "SELECT payout_id, attempt, session_id, ended_as FROM attempts WHERE payout_id = ANY($1)
         ORDER BY payout_id, attempt",
    )
    .bind(ids)
    .fetch_all(db)
    .await?;
    for (id, attempt, session, ended) in rows {
        let ended = PastEnd::from_code(&ended).ok_or_else(|| StoreError::ImpossibleRow {
            table: "attempts",
            column: "ended_as",
            id: id.to_string(),
        })?;
        let past = PastAttempt { attempt, session: SessionId(session), ended };
        if let Some(stored) = locked.iter_mut().find(|stored| stored.payout.id.0 == id) {
            stored.payout.past.push(past);
        }
    }
    Ok(())
}

/// Remembers attempts that are over, and makes their permits history: the payout may get another one. Effects
/// that stood on those permits must be gone.
///
/// # Errors
/// Database errors, the constraints included.
pub async fn end(tx: &mut PgConnection, ended: &[(PayoutId, PastAttempt)]) -> Result<(), StoreError> {
    for (payout, past) in ended {
        sqlx::query(
            "WITH old AS (DELETE FROM permits WHERE payout_id = $1 RETURNING
                payout_id, kind, bound_to, rule_set, decided_at, renewed_at, released_at),
             kept AS (
                INSERT INTO past_permits
                    (payout_id, attempt, kind, bound_to, rule_set, decided_at, renewed_at, released_at)
                SELECT payout_id, $2, kind, bound_to, rule_set, decided_at, renewed_at, released_at FROM old)
             INSERT INTO attempts (payout_id, attempt, session_id, ended_as) VALUES ($1, $2, $3, $4)",
        )
        .bind(payout.0)
        .bind(past.attempt)
        .bind(&past.session.0)
        .bind(past.ended.code())
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}

/// Writes down what has become known of attempts before.
///
/// # Errors
/// Database errors only.
pub async fn learn(
    tx: &mut PgConnection,
    learnt: &[(PayoutId, SessionId, PastEnd)],
) -> Result<(), StoreError> {
    for (payout, session, ended) in learnt {
        sqlx::query("UPDATE attempts SET ended_as = $3 WHERE payout_id = $1 AND session_id = $2")
            .bind(payout.0)
            .bind(&session.0)
            .bind(ended.code())
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}
