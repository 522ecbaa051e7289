//! The promises as questions to the database: each check is one, answered by what is not as promised.
//! `of_payouts` asks about given payouts, by keys alone; `of_queue` about what waits, by small indexes;
//! `of_reports` compares with Pike's report. Nothing here changes a row, and nothing is concluded from a flag
//! that payoutd has set itself, save that a person knows already.

mod of_payouts;
mod of_queues;
mod of_reports;
mod permits;

use super::{StoreError, encoding::Code};
use crate::domain::{
    checking::{Check, Finding},
    id::{PayoutId, ProjectId},
    report::Day,
};
use sqlx::{AssertSqlSafe, PgConnection};
use std::{
    collections::{BTreeSet, HashSet},
    time::Duration,
};
use time::OffsetDateTime;
use uuid::Uuid;

/// Findings of one check over the queues at most: what is behind more of them is one and the same.
pub const MOST_OF_A_QUEUE: i64 = 1000;

#[derive(sqlx::FromRow)]
struct Row {
    payout_id: Option<Uuid>,
    project_id: String,
    subject: Option<String>,
    words: String,
}

#[derive(sqlx::FromRow)]
struct OfPayouts {
    place: i32,
    version: Option<i64>,
    #[sqlx(flatten)]
    row: Row,
}

impl Row {
    fn into_finding(self, check: Check) -> Finding {
        let payout = self.payout_id.map(PayoutId);
        let subject = self.subject.or_else(|| payout.map(|id| id.to_string())).unwrap_or_default();
        Finding { check, project: ProjectId(self.project_id), payout, subject, words: self.words }
    }
}

/// What was found about some payouts.
#[derive(Debug)]
pub struct Found {
    pub findings: Vec<Finding>,
    /// Those that we have and can read.
    pub looked_at: Vec<LookedAt>,
}

/// A payout as it was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookedAt {
    pub payout: PayoutId,
    pub version: i64,
    /// Nothing was found, and nothing will be for as long as it stays at this version and Pike tells nothing
    /// of it.
    pub at_rest: bool,
}

/// Everything that is not as promised about these payouts, those we do not have included. What a normal
/// course of events explains for a while is found after `patience`. Expects a transaction with one view of
/// the database.
///
/// # Errors
/// Database errors only.
pub async fn of_payouts(
    db: &mut PgConnection,
    ids: &[PayoutId],
    patience: Duration,
) -> Result<Found, StoreError> {
    // Sums are made of what is asked about: whoever is named twice must not seem to be paid twice.
    let ids: Vec<PayoutId> = ids.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
    let uuids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows: Vec<OfPayouts> = sqlx::query_as(AssertSqlSafe(of_payouts::ALL.as_str()))
        .bind(&uuids)
        .bind(patience.as_secs_f64())
        .fetch_all(&mut *db)
        .await?;
    let (at_rest, findings): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.version.is_some());
    let finding = |OfPayouts { place, row, .. }: OfPayouts| {
        let check = usize::try_from(place).ok().and_then(|place| of_payouts::CHECKS.get(place));
        let unknown =
            || StoreError::ImpossibleRow { table: "findings", column: "check_name", id: place.to_string() };
        Ok::<_, StoreError>(row.into_finding(check.ok_or_else(unknown)?.0))
    };
    let findings = findings.into_iter().map(finding).collect::<Result<_, _>>()?;
    let mut found = Found { findings, looked_at: vec![] };
    permits::altered(db, &ids, &mut found).await?;
    let mut at_rest: HashSet<_> = at_rest.into_iter().filter_map(|row| row.row.payout_id).collect();
    for payout in found.findings.iter().filter_map(|finding| finding.payout) {
        at_rest.remove(&payout.0);
    }
    for looked_at in &mut found.looked_at {
        looked_at.at_rest = at_rest.contains(&looked_at.payout.0);
    }
    Ok(found)
}

/// The checks that [`of_queue`] makes.
pub fn queues() -> impl Iterator<Item = Check> {
    of_queues::CHECKS.iter().map(|(check, _)| *check)
}

/// One check of what waits: what has waited for longer than `patience`, or is wanted without its permit. At
/// most [`MOST_OF_A_QUEUE`].
///
/// # Errors
/// Database errors only.
pub async fn of_queue(
    db: &mut PgConnection,
    check: Check,
    patience: Duration,
) -> Result<Vec<Finding>, StoreError> {
    let mut findings = vec![];
    for (check, sql) in of_queues::CHECKS.iter().filter(|(listed, _)| *listed == check) {
        let rows: Vec<Row> = sqlx::query_as(*sql)
            .bind(patience.as_secs_f64())
            .bind(MOST_OF_A_QUEUE)
            .fetch_all(&mut *db)
            .await?;
        findings.extend(rows.into_iter().map(|row| row.into_finding(*check)));
    }
    Ok(findings)
}

/// Where a report, which is complete, and our books differ, and what is still open from other reports.
///
/// # Errors
/// Database errors only.
pub async fn of_report(
    db: &mut PgConnection,
    project: &ProjectId,
    report: i64,
    day: Day,
) -> Result<Vec<Finding>, StoreError> {
    of_reports::ask(db, project, report, day).await
}

/// The stored names of the checks that [`of_report`] makes.
#[must_use]
pub fn names_of_reports() -> Vec<&'static str> {
    Check::OF_REPORTS.iter().map(Code::code).collect()
}

/// The stored names of the checks that [`of_queue`] makes.
#[must_use]
pub fn names_of_queues() -> Vec<&'static str> {
    queues().map(|check| check.code()).collect()
}

/// A payout that has changed.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    pub payout: PayoutId,
    pub version: i64,
    pub at: OffsetDateTime,
}

/// Payouts that have changed at `since` or later, first changed first, each with its last change among the
/// first `limit` changes; and whether there may be more of those.
///
/// # Errors
/// Database errors only.
pub async fn changed(
    db: &mut PgConnection,
    since: OffsetDateTime,
    limit: i64,
) -> Result<(Vec<Change>, bool), StoreError> {
    let rows: Vec<(Uuid, i64, OffsetDateTime, i64)> = sqlx::query_as(
        "SELECT payout_id, max(seq), max(at), count(*) FROM (
            SELECT payout_id, seq, at FROM history WHERE at >= $1 ORDER BY at LIMIT $2) AS changes
         GROUP BY payout_id ORDER BY 3",
    )
    .bind(since)
    .bind(limit)
    .fetch_all(db)
    .await?;
    let full = rows.iter().map(|(.., changes)| changes).sum::<i64>() == limit;
    let changes = rows.into_iter().map(|(id, version, at, _)| Change { payout: PayoutId(id), version, at });
    Ok((changes.collect(), full))
}

/// The next payouts in the order of their ids.
///
/// # Errors
/// Database errors only.
pub async fn next(
    db: &mut PgConnection,
    after: Option<PayoutId>,
    limit: i64,
) -> Result<Vec<PayoutId>, StoreError> {
    let rows: Vec<Uuid> = sqlx::query_scalar("SELECT id FROM payouts WHERE id > $1 ORDER BY id LIMIT $2")
        .bind(after.map_or(Uuid::nil(), |id| id.0))
        .bind(limit)
        .fetch_all(db)
        .await?;
    Ok(rows.into_iter().map(PayoutId).collect())
}
