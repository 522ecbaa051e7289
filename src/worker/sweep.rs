//! The guarantee behind every wake-up and every webhook: looks for payouts whose time has come by the
//! database's clock and tells the engine so. What to do about it is decided there.

use crate::{
    crash_point,
    domain::{
        effect::EffectKind,
        event::{Event, Observation},
        payout::Anomaly,
    },
    engine::{Cause, Engine, EngineError, Envelope, MAX_BATCH},
    store::{StoreError, encoding::Code, payouts, retry, stats},
};
use sqlx::PgPool;
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

#[derive(Clone)]
pub struct Sweep {
    pool: PgPool,
    engine: Engine,
    /// Scopes of switches that were exported before: one that is gone must not stay off on the page.
    scopes: Arc<Mutex<BTreeSet<String>>>,
}

impl Sweep {
    #[must_use]
    pub fn new(pool: PgPool, engine: Engine) -> Self {
        Self { pool, engine, scopes: Arc::default() }
    }

    /// [`Self::run_once`] for the loop: a round that was not full has seen all there is, and the next one
    /// waits. What is due again at once (or cannot be applied at all) must not keep the loop spinning.
    ///
    /// # Errors
    /// As `run_once`.
    pub async fn round(&self) -> Result<usize, EngineError> {
        let due = self.run_once().await?;
        Ok(if due < MAX_BATCH { 0 } else { due })
    }

    /// One round. Says how many payouts were due.
    ///
    /// # Errors
    /// Database errors; what was due is still due.
    pub async fn run_once(&self) -> Result<usize, EngineError> {
        let limit = i64::try_from(MAX_BATCH).unwrap_or(i64::MAX);
        let due = retry::bounded(async {
            let mut db = self.pool.acquire().await?;
            payouts::due(&mut db, limit).await
        })
        .await?;
        let count = due.len();
        if count == 0 {
            return Ok(0);
        }
        crash_point::pass("sweep.found");
        let batch = due
            .into_iter()
            .map(|(payout, seen)| Envelope {
                payout,
                event: Event::Observed(Observation::Due),
                cause: Cause::Due(seen),
            })
            .collect();
        let applied = self.engine.apply(batch).await;
        // One that cannot be applied has been logged; it must not keep the others waiting. All of them
        // failing is the database's trouble, and the next round waits.
        if applied.iter().all(Result::is_err) {
            applied.into_iter().collect::<Result<Vec<_>, _>>()?;
        }
        Ok(count)
    }

    /// Exports how many payouts are unfinished per state and for how long the oldest has been.
    ///
    /// # Errors
    /// Database errors.
    pub async fn export_backlog(&self) -> Result<usize, StoreError> {
        let (backlog, waiting, parked) = retry::bounded::<_, StoreError>(async {
            let mut db = self.pool.acquire().await?;
            export_upkeep(&stats::upkeep(&mut db).await?);
            let backlog = stats::backlog(&mut db).await?;
            Ok((backlog, stats::effects(&mut db).await?, stats::parked(&mut db).await?))
        })
        .await?;
        metrics::gauge!("payoutd_inbox_parked").set(f64::from(u32::try_from(parked).unwrap_or(u32::MAX)));
        for kind in EffectKind::ALL {
            let count = waiting.get(kind.code()).copied().unwrap_or(0);
            let count = f64::from(u32::try_from(count).unwrap_or(u32::MAX));
            metrics::gauge!("payoutd_effects_waiting", "kind" => kind.code()).set(count);
        }
        for state in crate::store::payouts::UNFINISHED {
            let found = backlog.iter().find(|backlog| backlog.state == state);
            let (count, oldest) = found.map_or((0, 0.0), |found| (found.count, found.oldest_seconds));
            let count = f64::from(u32::try_from(count).unwrap_or(u32::MAX));
            metrics::gauge!("payoutd_unfinished_payouts", "state" => state).set(count);
            metrics::gauge!("payoutd_oldest_unfinished_seconds", "state" => state).set(oldest);
        }
        self.export_alarms().await?;
        Ok(0)
    }

    /// The alarms that are open, from the database: whoever raised one may have died right after, before its
    /// log and counters could tell.
    async fn export_alarms(&self) -> Result<(), StoreError> {
        let (flagged, off) = retry::bounded::<_, StoreError>(async {
            let mut db = self.pool.acquire().await?;
            Ok((stats::flagged(&mut db).await?, stats::confirms_off(&mut db).await?))
        })
        .await?;
        for anomaly in Anomaly::ALL {
            let count = flagged.get(anomaly.code()).copied().unwrap_or(0);
            let count = f64::from(u32::try_from(count).unwrap_or(u32::MAX));
            metrics::gauge!("payoutd_flagged", "anomaly" => anomaly.code()).set(count);
        }
        let mut scopes = self.scopes.lock().unwrap_or_else(PoisonError::into_inner);
        scopes.extend(off.keys().cloned());
        for scope in scopes.iter() {
            let off = off.get(scope).copied().unwrap_or(false);
            metrics::gauge!("payoutd_confirms_off", "scope" => scope.clone()).set(f64::from(u8::from(off)));
        }
        Ok(())
    }
}

fn export_upkeep(upkeep: &stats::Upkeep) {
    metrics::gauge!("payoutd_oldest_transaction_seconds").set(upkeep.oldest_transaction_seconds);
    for (table, dead) in &upkeep.dead_rows {
        let dead = f64::from(u32::try_from(*dead).unwrap_or(u32::MAX));
        metrics::gauge!("payoutd_dead_rows", "table" => table.clone()).set(dead);
    }
}
