//! What is measured in a run. Times are reported, never asserted: machines differ.

use crate::{
    evidence::{Evidence, instant},
    oracle::Book,
};
use sqlx::PgPool;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// A take-over that takes longer has its own finding: nothing settles.
const WATCHED_FOR: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(20);

#[derive(Debug, Default)]
pub struct Figures {
    pub took: Duration,
    /// When each part of the run was over, from its beginning.
    pub phases: Vec<(&'static str, Duration)>,
    pub payouts: usize,
    pub tries_again: usize,
    pub hang_ups: usize,
    pub kills: usize,
    pub freezes: usize,
    pub database_crashes: usize,
    pub deaths: Vec<Instant>,
    /// From a death until somebody else had taken over what may have been the dead one's.
    pub takeovers: Vec<Duration>,
    /// How long Postgres took to come back, and how long payoutd took from then on to take an order.
    pub database_back: Vec<(Duration, Duration)>,
    /// From a change at Pike that no webhook told of until we knew.
    pub learnt_by_asking: Vec<Duration>,
    pub faults: BTreeMap<String, u64>,
    pub statuses: BTreeMap<String, u64>,
    pub flagged: u64,
    pub interrupted: usize,
    pub calls: u64,
    /// How often payoutd itself stopped the confirms of the project.
    pub lines_stopped: usize,
}

/// How long it took, if there was anything to take over.
pub struct Takeover(pub Option<Duration>);

impl Takeover {
    /// What was claimed at this moment may be the dead one's: until each of these is done, or another's.
    pub async fn watch(pool: PgPool) -> Self {
        let begun = Instant::now();
        let held = "SELECT id, fence FROM effects WHERE lease_until > now()";
        let Ok(held) = sqlx::query_as::<_, (i64, i32)>(held).fetch_all(&pool).await else {
            return Self(None);
        };
        if held.is_empty() {
            return Self(None);
        }
        let (ids, fences): (Vec<i64>, Vec<i32>) = held.into_iter().unzip();
        while begun.elapsed() < WATCHED_FOR {
            let left = sqlx::query_scalar::<_, i64>(
                "SELECT count(*) FROM effects e JOIN unnest($1::bigint[], $2::integer[]) AS h(id, fence)
                    ON h.id = e.id AND h.fence = e.fence",
            )
            .bind(&ids)
            .bind(&fences)
            .fetch_one(&pool)
            .await;
            if left.is_ok_and(|left| left == 0) {
                return Self(Some(begun.elapsed()));
            }
            tokio::time::sleep(LOOK).await;
        }
        Self(None)
    }
}

impl Figures {
    pub fn read(&mut self, evidence: &Evidence, book: &Book) {
        self.payouts = evidence.payouts.len();
        self.tries_again = book.told.iter().map(|told| told.tries - 1).sum();
        for (fault, count) in evidence.totals["faults"].as_object().into_iter().flatten() {
            *self.faults.entry(fault.clone()).or_default() += count.as_u64().unwrap();
        }
        let calls = evidence.totals["calls"].as_object().into_iter().flatten();
        self.calls = calls.map(|(_, count)| count.as_u64().unwrap()).sum();
        for row in evidence.payouts.values() {
            *self.statuses.entry(row["state"].as_str().unwrap().to_owned()).or_default() += 1;
            self.flagged += u64::from(row["anomaly"].is_string());
        }
        let entries = evidence.history.values().flatten();
        let interrupted = |entry: &&serde_json::Value| {
            entry["detail"].as_str().is_some_and(|detail| detail.contains("interrupted"))
        };
        self.interrupted = entries.filter(interrupted).count();
        for told in book.told.iter().filter(|told| told.story == "tok_no_webhooks") {
            let Some(changed) =
                evidence.started(&told.payout).filter_map(|session| session.changed_at()).max()
            else {
                continue;
            };
            let known = evidence.history.get(&told.payout).and_then(|history| history.last());
            let known = known.map(|entry| instant(&entry["at"]) - changed);
            self.learnt_by_asking.extend(known.and_then(|time| Duration::try_from(time).ok()));
        }
    }
}
