//! The checker: asks again and again whether what is stored, and what Pike told, keep the promises. One
//! process at a time does it, in small steps: webhooks that came since, payouts that changed since, those
//! with findings, and some more in turn, so that all come round. It remembers from turn to turn whom it need
//! not look at again. It changes no payout: what it finds goes to
//! the engine, which keeps it and stops the line. Pike is not asked.

mod everything;
mod hearing;
mod memory;
mod rest;

pub use everything::{everything, everything_within};

use crate::{
    domain::{checking::Check, id::PayoutId},
    engine::{Engine, EngineError},
    store::{
        StoreError, checks,
        encoding::Code,
        findings::{self, Looked, Turn},
        pool, retry,
    },
    telemetry::figure,
};
use hearing::hear;
use memory::{Memory, Unheard};
use rest::Rests;
use sqlx::PgPool;
use std::{
    mem,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// Payouts in one step. Bounds how long one view of the database is held open.
const PAGE: i64 = 500;
/// Changes in one step: a payout has some seven, mostly within moments.
const CHANGES: i64 = 10_000;
/// Steps in one turn over what is new: what is left, after a long pause, is for the next turns.
const MOST_STEPS: usize = 300;
/// Payouts with findings that are looked at again in each turn.
const SUSPECTS: i64 = 2_000;
/// A step takes a fraction of a second; a process that died leaves the turn after this.
const LEASE: Duration = Duration::from_secs(60);
/// Longer than a transaction can stay open: what it changed is dated before its commit.
const OVERLAP: Duration = Duration::from_secs(60);

#[derive(Clone, Debug)]
pub struct CheckerSettings {
    pub every: Duration,
    /// What a normal course of events explains for so long is no finding yet.
    pub patience: Duration,
    /// Payouts that are looked at in each turn though nothing happened to them.
    pub sweep: i64,
}

#[derive(Clone)]
pub struct Checker {
    pool: PgPool,
    engine: Engine,
    settings: CheckerSettings,
    memory: Arc<Mutex<Memory>>,
    rests: Arc<Rests>,
}

impl Checker {
    /// Until told to stop it looks when it is its turn.
    #[must_use]
    pub fn new(pool: PgPool, engine: Engine, settings: CheckerSettings, stop: CancellationToken) -> Self {
        let rests = Arc::new(Rests::new(settings.every, stop));
        Self { pool, engine, settings, memory: Arc::default(), rests }
    }

    /// Looks if it is our turn, and exports the figures, whoever looked. Always nothing more to do at once.
    /// Who had the last turn waits for the next one here.
    ///
    /// # Errors
    /// Database errors; the next turn begins where this one got to.
    pub async fn round(&self) -> Result<usize, EngineError> {
        if !self.rests.until_due().await {
            return Ok(0);
        }
        let looked = self.run_once().await;
        if looked.is_err() {
            metrics::counter!("payoutd_checker_failures_total").increment(1);
        }
        self.export().await?;
        looked.map(|_| 0)
    }

    /// One turn, if it is due and nobody else's. Says whether it was ours to the end.
    ///
    /// # Errors
    /// As `round`.
    pub async fn run_once(&self) -> Result<bool, EngineError> {
        let turn = retry::bounded::<_, StoreError>(async {
            let mut tx = self.pool.begin().await?;
            let turn = findings::take_turn(&mut tx, self.settings.every, LEASE).await?;
            tx.commit().await?;
            Ok(turn)
        })
        .await?;
        let Some(mut turn) = turn else { return Ok(false) };
        self.rests.begin();
        // Put back when all has gone well; otherwise all is looked at again.
        let mut memory = mem::take(&mut *self.memory.lock().unwrap_or_else(PoisonError::into_inner));
        memory.begin(&turn.server, turn.fence);
        let mut failed = None;
        // Known findings first, and one check of the queues by itself: what fails keeps nothing else from
        // being looked at.
        for part in parts() {
            match self.look(part, &mut turn, &mut memory).await {
                Ok(true) => {}
                Ok(false) if self.rests.is_stopped() => return self.leave(&turn).await,
                Ok(false) => return Ok(false),
                // Nor will anything else be answered.
                Err(EngineError::Store(error)) if matches!(*error, StoreError::Silent(_)) => {
                    return Err(EngineError::Store(error));
                }
                Err(error) => {
                    tracing::warn!(?part, %error, "a part of the checker's turn failed");
                    failed = Some(error);
                    // Whom it would have looked at is to be found by all that may be new.
                    memory = Memory::default();
                }
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        retry::bounded::<_, StoreError>(async {
            let mut tx = self.pool.begin().await?;
            findings::end_turn(&mut tx, &turn).await?;
            Ok(tx.commit().await?)
        })
        .await?;
        *self.memory.lock().unwrap_or_else(PoisonError::into_inner) = memory;
        Ok(true)
    }

    /// Looks at a part of what there is. Says whether the turn goes on: it is still ours, and nobody has told
    /// us to stop.
    async fn look(&self, part: Part, turn: &mut Turn, memory: &mut Memory) -> Result<bool, EngineError> {
        match part {
            Part::Suspects => self.suspects(turn, memory).await,
            Part::Restless => {
                let again = memory.again(Instant::now(), self.settings.patience + OVERLAP);
                self.look_at_all(turn, &again, memory).await
            }
            Part::Webhooks => self.hear(turn, memory).await,
            Part::Changed => self.changed(turn, memory).await,
            Part::Sweep => self.sweep(turn, memory).await,
            Part::Queue(check) => self.queue(turn, check).await,
        }
    }

    async fn suspects(&self, turn: &Turn, memory: &mut Memory) -> Result<bool, EngineError> {
        let suspects = retry::bounded::<_, StoreError>(async {
            let mut db = self.pool.acquire().await?;
            findings::suspects(&mut db, SUSPECTS).await
        })
        .await?;
        self.look_at_all(turn, &suspects, memory).await
    }

    /// Reads the webhooks that came since, and looks at the payouts that they concern before it goes on:
    /// whoever takes over reads them again.
    async fn hear(&self, turn: &mut Turn, memory: &mut Memory) -> Result<bool, EngineError> {
        for _ in 0..MOST_STEPS {
            let unheard = memory.unheard(turn.inbox_after);
            let heard = retry::bounded::<_, StoreError>(async {
                let mut tx = self.pool.begin().await?;
                if !findings::hold_turn(&mut tx, turn).await? {
                    return Ok(None);
                }
                let heard = hear(&mut tx, &unheard).await?;
                tx.commit().await?;
                Ok(Some(heard))
            })
            .await?;
            let Some(heard) = heard else { return Ok(false) };
            if !self.look_at_all(turn, &heard.concerned, memory).await? {
                return Ok(false);
            }
            memory.concerned(&heard.concerned, Instant::now());
            let settled = heard.settled.unwrap_or(turn.inbox_after).max(turn.inbox_after);
            turn.inbox_after = memory.heard(&unheard, &heard.webhooks, settled).max(turn.inbox_after);
            if !self.keep(turn).await? {
                return Ok(false);
            }
            if !heard.full && matches!(unheard, Unheard::After(_)) {
                break;
            }
        }
        Ok(true)
    }

    async fn changed(&self, turn: &mut Turn, memory: &mut Memory) -> Result<bool, EngineError> {
        let mut since = turn.changed_since;
        for _ in 0..MOST_STEPS {
            let (page, full) = retry::bounded::<_, StoreError>(async {
                let mut db = self.pool.acquire().await?;
                checks::changed(&mut db, since, CHANGES).await
            })
            .await?;
            let unseen = memory.not_yet(&page);
            if !self.look_at_all(turn, &unseen, memory).await? {
                return Ok(false);
            }
            let last = page.last().map_or(since, |change| change.at);
            // Many can have changed in one instant: more than a page of them come round with the sweep.
            since = if full && last == since { since + time::Duration::MICROSECOND } else { last };
            let upto = if full { since } else { turn.started_at };
            turn.changed_since = upto.min(turn.started_at - OVERLAP).max(turn.changed_since);
            if !self.keep(turn).await? {
                return Ok(false);
            }
            if !full {
                break;
            }
        }
        Ok(true)
    }

    async fn sweep(&self, turn: &mut Turn, memory: &mut Memory) -> Result<bool, EngineError> {
        let mut left = self.settings.sweep;
        while left > 0 {
            let page = retry::bounded::<_, StoreError>(async {
                let mut db = self.pool.acquire().await?;
                checks::next(&mut db, turn.sweep_after.map(PayoutId), left.min(PAGE)).await
            })
            .await?;
            if !self.look_at_all(turn, &page, memory).await? {
                return Ok(false);
            }
            turn.sweep_after = page.last().map(|id| id.0);
            left -= PAGE;
            if !self.keep(turn).await? {
                return Ok(false);
            }
            if page.is_empty() {
                break;
            }
        }
        Ok(true)
    }

    async fn queue(&self, turn: &Turn, check: Check) -> Result<bool, EngineError> {
        let found = retry::bounded::<_, StoreError>(async {
            let mut db = self.pool.acquire().await?;
            checks::of_queue(&mut db, check, self.settings.patience).await
        })
        .await?;
        // If there may be more of them, none is gone for not being among these.
        let full = i64::try_from(found.len()).is_ok_and(|count| count >= checks::MOST_OF_A_QUEUE);
        let whole = [check.code()];
        let looked = Looked::Checks(if full { &[] } else { &whole });
        Ok(self.engine.keep_findings(turn, &found, looked).await? && self.keep(turn).await?)
    }

    /// Notes how far the turn has come, and rests. Says whether it goes on.
    async fn keep(&self, turn: &Turn) -> Result<bool, EngineError> {
        let ours = retry::bounded::<_, StoreError>(async {
            let mut tx = self.pool.begin().await?;
            let ours = findings::keep_turn(&mut tx, turn, LEASE).await?;
            tx.commit().await?;
            Ok(ours)
        });
        Ok(ours.await? && self.rests.rest().await)
    }

    /// Whoever has the next turn goes on where this one got to, and need not wait for its lease to end.
    async fn leave(&self, turn: &Turn) -> Result<bool, EngineError> {
        retry::bounded::<_, StoreError>(async {
            let mut tx = self.pool.begin().await?;
            findings::leave_turn(&mut tx, turn).await?;
            Ok(tx.commit().await?)
        })
        .await?;
        Ok(false)
    }

    async fn look_at_all(
        &self,
        turn: &Turn,
        ids: &[PayoutId],
        memory: &mut Memory,
    ) -> Result<bool, EngineError> {
        for page in ids.chunks(usize::try_from(PAGE).unwrap_or(usize::MAX)) {
            let looked = retry::bounded::<_, StoreError>(async {
                let mut tx = self.pool.begin().await?;
                pool::one_view(&mut tx).await?;
                let looked = checks::of_payouts(&mut tx, page, self.settings.patience).await?;
                tx.rollback().await?;
                Ok(looked)
            })
            .await?;
            if !self.engine.keep_findings(turn, &looked.findings, Looked::Payouts(page)).await? {
                return Ok(false);
            }
            memory.add(&looked.looked_at);
            // Each page takes a while when the database does.
            if !self.keep(turn).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn export(&self) -> Result<(), EngineError> {
        let figures = retry::bounded::<_, StoreError>(async {
            let mut db = self.pool.acquire().await?;
            findings::figures(&mut db).await
        })
        .await?;
        for check in Check::ALL {
            let count = figures.open.get(check.code()).copied().unwrap_or(0);
            metrics::gauge!("payoutd_checker_findings", "check" => check.code()).set(figure(count));
        }
        if let (Some(at), Some(took)) = (figures.finished_at, figures.took_seconds) {
            metrics::gauge!("payoutd_checker_last_run_timestamp_seconds").set(at);
            metrics::gauge!("payoutd_checker_run_duration_seconds").set(took);
        }
        Ok(())
    }
}

/// What a turn goes over.
#[derive(Clone, Copy, Debug)]
enum Part {
    Suspects,
    Restless,
    Webhooks,
    Changed,
    Sweep,
    Queue(Check),
}

fn parts() -> impl Iterator<Item = Part> {
    let payouts = [Part::Suspects, Part::Restless, Part::Webhooks, Part::Changed, Part::Sweep];
    payouts.into_iter().chain(checks::queues().map(Part::Queue))
}
