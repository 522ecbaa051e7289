//! The checker: asks again and again whether what is stored, and what Pike told, keep the promises. One
//! process at a time does it, in small steps: webhooks that came since, payouts that changed since, those
//! with findings, and some more in turn, so that all come round. It changes no payout: what it finds goes to
//! the engine, which keeps it and stops the line. Pike is not asked.

use crate::{
    domain::{
        checking::{Check, Finding, Told},
        id::{PayoutId, ProjectId, SessionId},
    },
    engine::{Engine, EngineError},
    pike::{Webhook, read_webhook},
    store::{
        StoreError, checks,
        encoding::Code,
        findings::{self, Looked, Turn},
        pool,
        told::{self, Kept, NewTold},
    },
};
use sqlx::{PgConnection, PgPool};
use std::{panic, time::Duration};

/// Payouts in one step. Bounds how long one view of the database is held open.
const PAGE: i64 = 500;
/// Webhooks in one step.
const WEBHOOKS: i64 = 500;
/// Steps in one turn over what is new: what is left, after a long pause, is for the next turns.
const MOST_STEPS: usize = 200;
/// Payouts with findings that are looked at again in each turn.
const SUSPECTS: i64 = 2_000;
/// A step takes a fraction of a second; a process that died leaves the turn after this.
const LEASE: Duration = Duration::from_secs(60);
/// Longer than a transaction can stay open: what it changed is dated before its commit.
const OVERLAP: time::Duration = time::Duration::minutes(1);

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
}

impl Checker {
    #[must_use]
    pub fn new(pool: PgPool, engine: Engine, settings: CheckerSettings) -> Self {
        Self { pool, engine, settings }
    }

    /// Looks if it is our turn, and exports the figures, whoever looked. Always nothing more to do at once.
    ///
    /// # Errors
    /// Database errors; the next turn begins where this one got to.
    pub async fn round(&self) -> Result<usize, EngineError> {
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
        let mut tx = self.pool.begin().await?;
        let turn = findings::take_turn(&mut tx, self.settings.every, LEASE).await?;
        tx.commit().await?;
        let Some(mut turn) = turn else { return Ok(false) };
        let ours =
            self.hear(&mut turn).await? && self.changed(&mut turn).await? && self.sweep(&mut turn).await?;
        if !ours {
            return Ok(false);
        }
        let mut db = self.pool.acquire().await?;
        let suspects = findings::suspects(&mut db, SUSPECTS).await?;
        let found = checks::of_queues(&mut db, self.settings.patience).await?;
        drop(db);
        self.look_at_all(&suspects).await?;
        self.engine.keep_findings(&found, Looked::Checks(&checks::names_of_queues())).await?;
        let mut tx = self.pool.begin().await?;
        findings::end_turn(&mut tx, &turn).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Reads the webhooks that came since, and looks at the payouts that they concern before it goes on:
    /// whoever takes over reads them again.
    async fn hear(&self, turn: &mut Turn) -> Result<bool, EngineError> {
        let mut after = turn.inbox_after;
        for _ in 0..MOST_STEPS {
            let mut tx = self.pool.begin().await?;
            let heard = hear(&mut tx, after).await?;
            tx.commit().await?;
            let Some(last) = heard.last else { break };
            self.look_at_all(&heard.concerned).await?;
            after = last;
            turn.inbox_after = turn.inbox_after.max(heard.settled);
            if !self.keep(turn).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn changed(&self, turn: &mut Turn) -> Result<bool, EngineError> {
        let mut since = turn.changed_since;
        for _ in 0..MOST_STEPS {
            let mut db = self.pool.acquire().await?;
            let page = checks::changed(&mut db, since, PAGE).await?;
            drop(db);
            let ids: Vec<PayoutId> = page.iter().map(|(id, _)| *id).collect();
            self.look_at_all(&ids).await?;
            let full = i64::try_from(page.len()).is_ok_and(|count| count == PAGE);
            let last = page.last().map_or(since, |(_, at)| *at);
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

    async fn sweep(&self, turn: &mut Turn) -> Result<bool, EngineError> {
        let mut left = self.settings.sweep;
        while left > 0 {
            let mut db = self.pool.acquire().await?;
            let page = checks::next(&mut db, turn.sweep_after.map(PayoutId), left.min(PAGE)).await?;
            drop(db);
            self.look_at_all(&page).await?;
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

    async fn keep(&self, turn: &Turn) -> Result<bool, EngineError> {
        let mut tx = self.pool.begin().await?;
        let ours = findings::keep_turn(&mut tx, turn, LEASE).await?;
        tx.commit().await?;
        Ok(ours)
    }

    async fn look_at_all(&self, ids: &[PayoutId]) -> Result<(), EngineError> {
        for page in ids.chunks(usize::try_from(PAGE).unwrap_or(usize::MAX)) {
            let mut tx = self.pool.begin().await?;
            pool::one_view(&mut tx).await?;
            let found = checks::of_payouts(&mut tx, page, self.settings.patience).await?;
            tx.rollback().await?;
            self.engine.keep_findings(&found, Looked::Payouts(page)).await?;
        }
        Ok(())
    }

    async fn export(&self) -> Result<(), EngineError> {
        let mut db = self.pool.acquire().await?;
        let figures = findings::figures(&mut db).await?;
        for check in Check::ALL {
            let count = figures.open.get(check.code()).copied().unwrap_or(0);
            let count = f64::from(u32::try_from(count).unwrap_or(u32::MAX));
            metrics::gauge!("payoutd_checker_findings", "check" => check.code()).set(count);
        }
        if let (Some(at), Some(took)) = (figures.finished_at, figures.took_seconds) {
            metrics::gauge!("payoutd_checker_last_run_timestamp_seconds").set(at);
            metrics::gauge!("payoutd_checker_run_duration_seconds").set(took);
        }
        Ok(())
    }
}

/// What a step over the webhooks has heard.
struct Heard {
    concerned: Vec<PayoutId>,
    /// The last webhook read; `None` if there was none.
    last: Option<i64>,
    /// The last one behind which no other can appear any more.
    settled: i64,
}

async fn hear(tx: &mut PgConnection, after: i64) -> Result<Heard, StoreError> {
    let kept = told::webhooks(tx, after, WEBHOOKS).await?;
    let settled = kept.iter().filter(|webhook| webhook.settled).map(|webhook| webhook.id).max();
    let new: Vec<NewTold> = kept.iter().filter_map(read).collect();
    told::add(tx, &new).await?;
    let sessions: Vec<(ProjectId, SessionId)> =
        new.into_iter().map(|told| (told.project, told.session)).collect();
    let concerned = told::concerned(tx, &sessions).await?;
    Ok(Heard { concerned, last: kept.last().map(|webhook| webhook.id), settled: settled.unwrap_or(after) })
}

/// A body that cannot be read tells nothing; that it came is counted where it is worked on.
fn read(webhook: &Kept) -> Option<NewTold> {
    let read = panic::catch_unwind(|| read_webhook(&webhook.body));
    match read.unwrap_or(Webhook::Unreadable) {
        Webhook::Session(report) => Some(NewTold {
            project: ProjectId(webhook.project_id.clone()),
            told: Told::of(&report),
            at: report.updated_at.unwrap_or(webhook.received_at),
            session: report.session,
            inbox_id: webhook.id,
            received_at: webhook.received_at,
        }),
        Webhook::OtherType(_) | Webhook::Unreadable => None,
    }
}

/// Where somebody stands who looks at everything there is.
#[derive(Clone, Copy)]
enum Place {
    Queues,
    Payouts(Option<PayoutId>),
    /// Payouts that Pike named and that are not here.
    Strangers(Option<PayoutId>),
}

async fn step(
    tx: &mut PgConnection,
    place: Place,
    patience: Duration,
) -> Result<(Vec<Finding>, Option<Place>), StoreError> {
    let (page, next): (_, fn(Option<PayoutId>) -> Place) = match place {
        Place::Queues => {
            return Ok((checks::of_queues(tx, patience).await?, Some(Place::Payouts(None))));
        }
        Place::Payouts(after) => (checks::next(tx, after, PAGE).await?, Place::Payouts),
        Place::Strangers(after) => (told::strangers(tx, after, PAGE).await?, Place::Strangers),
    };
    let next = match (page.last(), place) {
        (Some(last), _) => Some(next(Some(*last))),
        (None, Place::Strangers(_)) => None,
        (None, Place::Queues | Place::Payouts(_)) => Some(Place::Strangers(None)),
    };
    Ok((checks::of_payouts(tx, &page, patience).await?, next))
}

async fn without_accepted(
    db: &mut PgConnection,
    mut found: Vec<Finding>,
) -> Result<Vec<Finding>, StoreError> {
    let accepted = findings::accepted(db).await?;
    found.retain(|finding| {
        !accepted.iter().any(|(check, subject)| check == finding.check.code() && *subject == finding.subject)
    });
    Ok(found)
}

/// Looks at everything there is, from the first webhook to the last payout, in small steps; keeps nothing but
/// what the webhooks told. What persons have accepted is left out.
///
/// # Errors
/// Database errors only.
pub async fn everything(pool: &PgPool, patience: Duration) -> Result<Vec<Finding>, StoreError> {
    let mut after = 0;
    loop {
        let mut tx = pool.begin().await?;
        let heard = hear(&mut tx, after).await?;
        tx.commit().await?;
        let Some(last) = heard.last else { break };
        after = last;
    }
    let (mut found, mut place) = (vec![], Some(Place::Queues));
    while let Some(at) = place {
        let mut tx = pool.begin().await?;
        pool::one_view(&mut tx).await?;
        let (more, next) = step(&mut tx, at, patience).await?;
        tx.rollback().await?;
        found.extend(more);
        place = next;
    }
    without_accepted(&mut *pool.acquire().await?, found).await
}

/// As [`everything`], within the caller's transaction: what it has changed is looked at as well.
///
/// # Errors
/// Database errors only.
pub async fn everything_within(
    tx: &mut PgConnection,
    patience: Duration,
) -> Result<Vec<Finding>, StoreError> {
    let mut after = 0;
    while let Some(last) = hear(tx, after).await?.last {
        after = last;
    }
    let (mut found, mut place) = (vec![], Some(Place::Queues));
    while let Some(at) = place {
        let (more, next) = step(tx, at, patience).await?;
        found.extend(more);
        place = next;
    }
    without_accepted(tx, found).await
}
