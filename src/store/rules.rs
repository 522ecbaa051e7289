//! The tables `rule_sets`, `decisions`, `switches` and `switch_changes`: what the rules were, what they said,
//! and whether anything may be confirmed at all.

use super::{StoreError, encoding::Code};
use crate::domain::{
    id::{PayoutId, ProjectId},
    rules::Verdict,
};
use sqlx::PgConnection;
use std::collections::BTreeMap;
use time::OffsetDateTime;

/// Keeps the text of a rule set under its version, so that every decision can be explained later.
///
/// # Errors
/// Database errors only.
pub async fn remember(db: &mut PgConnection, version: &str, body: &str) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO rule_sets (version, body) VALUES ($1, $2) ON CONFLICT DO NOTHING")
        .bind(version)
        .bind(body)
        .execute(db)
        .await?;
    Ok(())
}

/// A verdict to keep. `seq` is the history entry it belongs to.
#[derive(Clone, Debug)]
pub struct NewDecision {
    pub payout: PayoutId,
    pub seq: i64,
    pub at: OffsetDateTime,
    pub verdict: Verdict,
}

pub(super) fn hits(verdict: &Verdict) -> serde_json::Value {
    verdict
        .hits
        .iter()
        .map(|hit| {
            serde_json::json!({ "rule": hit.rule, "outcome": hit.outcome.code(), "detail": hit.detail })
        })
        .collect()
}

pub(super) fn inputs(verdict: &Verdict) -> serde_json::Value {
    let inputs = &verdict.inputs;
    serde_json::json!({
        "amount": inputs.amount.minor(),
        "currency": inputs.amount.currency().code(),
        "card": {
            "brand": inputs.card.brand,
            "last4": inputs.card.last4,
            "bin": inputs.card.bin,
            "card_id": inputs.card.card_id,
            "country": inputs.card.country,
        },
        "recipient_today": inputs.recipient_today,
        "confirms_on": inputs.confirms_on,
        "approved": inputs.approved,
    })
}

/// A verdict as read back; `hits` and `inputs` are JSON texts.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Recorded {
    pub seq: i64,
    pub at: OffsetDateTime,
    pub rule_set: String,
    pub outcome: String,
    pub hits: String,
    pub inputs: String,
}

/// What the rules said about a payout, in order.
///
/// # Errors
/// Database errors only.
pub async fn decisions_of(db: &mut PgConnection, payout: PayoutId) -> Result<Vec<Recorded>, StoreError> {
    Ok(sqlx::query_as(
        "SELECT seq, at, rule_set, outcome, hits, inputs FROM decisions WHERE payout_id = $1 ORDER BY seq",
    )
    .bind(payout.0)
    .fetch_all(db)
    .await?)
}

/// The scope of a switch that holds for every project.
pub const EVERYWHERE: &str = "*";

/// Whether confirms are on, per scope that has a row, at this moment.
///
/// # Errors
/// Database errors only.
pub async fn switches(db: &mut PgConnection) -> Result<BTreeMap<String, bool>, StoreError> {
    let rows: Vec<(String, bool)> =
        sqlx::query_as("SELECT scope, confirms FROM switches").fetch_all(db).await?;
    Ok(rows.into_iter().collect())
}

/// Whether a project's confirms are on: only if no switch says otherwise, and the general one exists.
#[must_use]
pub fn confirms_on(switches: &BTreeMap<String, bool>, project: &ProjectId) -> bool {
    switches.get(EVERYWHERE).copied().unwrap_or(false) && switches.get(&project.0).copied().unwrap_or(true)
}

/// The switches as `switches_held()` compares them (migration 25).
#[must_use]
pub fn in_one_word(switches: &BTreeMap<String, bool>) -> String {
    let words = switches.iter().map(|(scope, confirms)| format!("{scope} {confirms}"));
    words.collect::<Vec<_>>().join(",")
}

/// Throws a switch and keeps who did it and why. The table's lock waits for everybody who has read the
/// switches and makes later readers wait.
///
/// # Errors
/// Database errors only.
pub async fn set_confirms(
    tx: &mut PgConnection,
    scope: &str,
    confirms: Switch,
    by: &str,
    reason: &str,
) -> Result<(), StoreError> {
    let confirms = confirms == Switch::On;
    sqlx::query("LOCK TABLE switches IN EXCLUSIVE MODE").execute(&mut *tx).await?;
    sqlx::query(
        "WITH changed AS (
            INSERT INTO switches (scope, confirms, changed_by, reason) VALUES ($1, $2, $3, $4)
            ON CONFLICT (scope) DO UPDATE SET confirms = $2, changed_by = $3, reason = $4, changed_at = now())
         INSERT INTO switch_changes (scope, confirms, changed_by, reason) VALUES ($1, $2, $3, $4)",
    )
    .bind(scope)
    .bind(confirms)
    .bind(by)
    .bind(reason)
    .execute(tx)
    .await?;
    Ok(())
}

/// Switches a project's confirms off unless they are. Says whether it did. Takes the same lock as
/// [`set_confirms`], so that whoever permits a confirm afterwards finds them off.
///
/// # Errors
/// Database errors only.
pub async fn stop_confirms(
    tx: &mut PgConnection,
    project: &ProjectId,
    by: &str,
    reason: &str,
) -> Result<bool, StoreError> {
    sqlx::query("LOCK TABLE switches IN EXCLUSIVE MODE").execute(&mut *tx).await?;
    let off: bool =
        sqlx::query_scalar("SELECT exists(SELECT FROM switches WHERE scope = $1 AND NOT confirms)")
            .bind(&project.0)
            .fetch_one(&mut *tx)
            .await?;
    if !off {
        set_confirms(tx, &project.0, Switch::Off, by, reason).await?;
    }
    Ok(!off)
}

/// The two positions of a switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    On,
    Off,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_that_is_not_there_is_off() {
        let project = ProjectId("shop".to_owned());
        let on = |rows: &[(&str, bool)]| {
            let rows = rows.iter().map(|(scope, confirms)| ((*scope).to_owned(), *confirms)).collect();
            confirms_on(&rows, &project)
        };
        assert!(on(&[("*", true)]) && on(&[("*", true), ("shop", true), ("other", false)]));
        for rows in
            [&[][..], &[("shop", true)], &[("*", false), ("shop", true)], &[("*", true), ("shop", false)]]
        {
            assert!(!on(rows), "{rows:?}");
        }
    }
}
