//! The guarantee behind every wake-up and every webhook: looks for payouts whose time has come by the
//! database's clock and tells the engine so. What to do about it is decided there. Open payouts go first:
//! paid ones are looked at once more when there is room for their reads. It never writes itself.

use crate::{
    crash_point,
    domain::{
        effect::EffectKind,
        event::{Event, Observation},
        id::{PayoutId, ProjectId},
        payout::Anomaly,
    },
    engine::{Cause, Engine, EngineError, Envelope, MAX_BATCH},
    store::{StoreError, encoding::Code, payouts, retry, stats, writer::Writer},
    telemetry::figure,
};
use sqlx::PgPool;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use time::OffsetDateTime;

/// So many seconds' worth of a project's reads may wait when a paid payout's read joins them.
const PAID_BEHIND_SECONDS: u32 = 2;
/// How long a payout that cannot be applied is left aside, so that those behind it have their turn.
const ASIDE: Duration = Duration::from_secs(60);

/// Whose paid payouts are looked at again, and how many reads may wait in a project that has some.
#[derive(Clone, Debug)]
pub struct PaidLooks {
    pub projects: Vec<ProjectId>,
    pub most_waiting: i64,
}

impl PaidLooks {
    /// For so many reads per second of each project; 0 is no limit.
    #[must_use]
    pub fn new(projects: Vec<ProjectId>, reads_per_second: u32) -> Self {
        let most = i64::from(reads_per_second.saturating_mul(PAID_BEHIND_SECONDS));
        let full = i64::try_from(MAX_BATCH).unwrap_or(i64::MAX);
        Self { projects, most_waiting: if most == 0 { full } else { most.min(full) } }
    }
}

#[derive(Clone)]
pub struct Sweep {
    /// For figures: they may take long, and nobody waits for them.
    pool: PgPool,
    /// For what is due: asked several times a second, whatever else there is to do.
    reader: Arc<Writer>,
    engine: Engine,
    /// Scopes of switches that were exported before: one that is gone must not stay off on the page.
    scopes: Arc<Mutex<BTreeSet<String>>>,
    paid: PaidLooks,
    /// Payouts that could not be applied, and until when each is left alone. Not in the database: what cannot
    /// be written cannot be pushed back there either.
    aside: Arc<Mutex<BTreeMap<PayoutId, Instant>>>,
}

impl Sweep {
    #[must_use]
    pub fn new(pool: PgPool, engine: Engine, paid: PaidLooks) -> Self {
        let reader = Arc::new(Writer::new(pool.clone()));
        Self { pool, reader, engine, paid, scopes: Arc::default(), aside: Arc::default() }
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
        let due = self.due().await?;
        let count = due.len();
        if count == 0 {
            return Ok(0);
        }
        crash_point::pass("sweep.found");
        let ids: Vec<PayoutId> = due.iter().map(|(payout, _)| *payout).collect();
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
        // failing for another reason is the database's trouble, and the next round waits.
        let put_aside = self.put_aside(&ids, &applied);
        if put_aside == 0 && applied.iter().all(Result::is_err) {
            applied.into_iter().collect::<Result<Vec<_>, _>>()?;
        }
        Ok(count)
    }

    /// Open payouts, and behind them paid ones if all that is open was found.
    async fn due(&self) -> Result<Vec<(PayoutId, OffsetDateTime)>, EngineError> {
        let aside: Vec<PayoutId> = {
            let (now, mut aside) = (Instant::now(), self.locked());
            aside.retain(|_, until| *until > now);
            aside.keys().copied().collect()
        };
        let due = retry::reading(async || {
            let mut db = self.reader.hold().await?;
            let limit = i64::try_from(MAX_BATCH).unwrap_or(i64::MAX);
            let mut due = payouts::due(&mut db, limit, &aside).await?;
            let room = limit - i64::try_from(due.len()).unwrap_or(limit);
            if room > 0 {
                let PaidLooks { projects, most_waiting } = &self.paid;
                due.extend(payouts::due_paid(&mut db, room, &aside, projects, *most_waiting).await?);
            }
            db.done();
            Ok(due)
        });
        Ok(due.await?)
    }

    /// Leaves alone for a while what cannot be applied whatever the others do; says how many these are.
    fn put_aside<T>(&self, ids: &[PayoutId], applied: &[Result<T, EngineError>]) -> usize {
        let poisoned = |applied: &Result<T, EngineError>| {
            matches!(applied, Err(EngineError::Store(error))
            if error.blames_the_data())
        };
        let until = Instant::now() + ASIDE;
        let poisoned = ids.iter().zip(applied).filter(|(_, applied)| poisoned(applied));
        let poisoned: Vec<PayoutId> = poisoned.map(|(id, _)| *id).collect();
        let count = poisoned.len();
        self.locked().extend(poisoned.into_iter().map(|id| (id, until)));
        count
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<PayoutId, Instant>> {
        self.aside.lock().unwrap_or_else(PoisonError::into_inner)
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
        metrics::gauge!("payoutd_inbox_parked").set(figure(parked));
        for kind in EffectKind::ALL {
            let count = waiting.get(kind.code()).copied().unwrap_or(0);
            metrics::gauge!("payoutd_effects_waiting", "kind" => kind.code()).set(figure(count));
        }
        for state in crate::store::payouts::UNFINISHED {
            let found = backlog.iter().find(|backlog| backlog.state == state);
            let (count, oldest) = found.map_or((0, 0.0), |found| (found.count, found.oldest_seconds));
            metrics::gauge!("payoutd_unfinished_payouts", "state" => state).set(figure(count));
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
            metrics::gauge!("payoutd_flagged", "anomaly" => anomaly.code()).set(figure(count));
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
        metrics::gauge!("payoutd_dead_rows", "table" => table.clone()).set(figure(*dead));
    }
}
