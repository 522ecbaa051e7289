//! Performs effects: the calls to Pike. Claim under a lease as many as the project's pace allows, call once,
//! hand the outcome to the engine, which closes the claim in the transaction that records it.

use super::{
    backoff,
    confirm::{ConfirmSettings, Look, Looks},
    pace::PaceSettings,
    paces::{Paces, Turn},
};
use crate::{
    crash_point,
    domain::{
        effect::EffectKind,
        event::{Event, Observation, Outcome},
        id::ProjectId,
        policy::Mode,
        provider::{ProviderError, denies_session},
    },
    engine::{Applied, Callers, Cause, Engine, Envelope, Place},
    pike::{Answer, Call, Condition, Pike, Reply},
    store::{
        StoreError,
        effects::{self, Claimed, Which},
        retry,
    },
};
use sqlx::PgPool;
use std::{sync::Arc, time::Duration};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

/// How effects are worked off.
#[derive(Clone, Debug)]
pub struct EffectSettings {
    /// Longer than any call may take, so that a live worker never loses its claim.
    pub lease: Duration,
    pub retry_first: Duration,
    pub retry_longest: Duration,
    /// Calls under way at once.
    pub max_in_flight: usize,
    /// Of each project.
    pub pace: PaceSettings,
    /// What a confirm must fulfil right before it is sent.
    pub confirm: ConfirmSettings,
    /// Whether anything but status reads is done at all.
    pub mode: Mode,
    /// Whose effects are worked on.
    pub projects: Vec<ProjectId>,
}

/// The worker. Cheap to clone.
#[derive(Clone)]
pub struct Effects {
    pool: PgPool,
    engine: Engine,
    pike: Arc<Pike>,
    settings: EffectSettings,
    paces: Arc<Paces>,
    slots: Arc<Semaphore>,
    looks: Looks,
    under_way: TaskTracker,
}

/// A slot and a turn, taken before it is certain that there will be a call. Dropped, both are free again.
struct Reserved {
    paces: Arc<Paces>,
    turn: Option<Turn>,
    slot: Option<OwnedSemaphorePermit>,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if let Some(turn) = self.turn.take() {
            self.paces.ended(turn, Condition::NotTried);
        }
    }
}

impl Callers for Effects {
    fn lease(&self) -> Duration {
        self.settings.lease
    }

    fn place(&self, project: &ProjectId, kind: EffectKind) -> Option<Place<Claimed>> {
        if self.settings.mode == Mode::ReconcileOnly && Which::of(kind) != Which::Reads {
            return None;
        }
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            self.paces.leave(project, kind);
            return None;
        };
        let slot = Some(slot);
        let turn = Some(self.paces.try_take(project, kind)?);
        let mut reserved = Reserved { paces: Arc::clone(&self.paces), turn, slot };
        let worker = self.clone();
        Some(Box::new(move |effect| {
            let (turn, slot) = (reserved.turn.take(), reserved.slot.take());
            let Some(turn) = turn else { return };
            let tracker = worker.under_way.clone();
            tracker.spawn(async move {
                if worker.slots.is_closed() {
                    // Stopping: somebody else can begin with it at once.
                    worker.paces.ended(turn, Condition::NotTried);
                    worker.put_back(&effect).await;
                } else {
                    worker.perform(effect, turn).await;
                }
                drop(slot);
            });
        }))
    }
}

impl Effects {
    #[must_use]
    pub fn new(pool: PgPool, engine: Engine, pike: Arc<Pike>, settings: EffectSettings) -> Self {
        let slots = Arc::new(Semaphore::new(settings.max_in_flight));
        let paces = Arc::new(Paces::new(&settings.pace, &settings.projects));
        let looks = Looks::start(pool.clone(), settings.confirm.clone(), settings.max_in_flight);
        Self { pool, engine, pike, settings, paces, slots, looks, under_way: TaskTracker::new() }
    }

    /// The projects whose calls to Pike pause, with why: for operators.
    #[must_use]
    pub fn paused(&self) -> Vec<(ProjectId, &'static str)> {
        self.paces.paused()
    }

    /// Exports each project's pace.
    pub fn export_pace(&self) {
        self.paces.export();
    }

    /// Claims as many effects as there are free slots and starts them; waits for a slot when there is none.
    /// Says how many were started: none once claiming was stopped.
    ///
    /// # Errors
    /// Database errors while claiming; nothing was started.
    pub async fn start_some(&self) -> Result<usize, StoreError> {
        let Ok(first) = Arc::clone(&self.slots).acquire_owned().await else { return Ok(0) };
        let mut slots = vec![first];
        // Not all: what is handed over meanwhile needs some too, or it waits for the next round.
        for _ in 0..self.slots.available_permits().div_ceil(2) {
            let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else { break };
            slots.push(slot);
        }
        let claimed = self.claim(slots.len()).await?;
        let started = claimed.len();
        for (effect, slot) in claimed.into_iter().zip(slots) {
            let turn = self.paces.take(&effect.project, effect.kind);
            let worker = self.clone();
            self.under_way.spawn(async move {
                worker.perform(effect, turn).await;
                drop(slot);
            });
        }
        Ok(started)
    }

    /// One round to its end, for tests: claims, performs, waits for all outcomes to be recorded.
    ///
    /// # Errors
    /// Database errors while claiming.
    pub async fn run_once(&self) -> Result<usize, StoreError> {
        let started = self.start_some().await?;
        let everything = u32::try_from(self.settings.max_in_flight).unwrap_or(u32::MAX);
        drop(self.slots.acquire_many(everything).await);
        Ok(started)
    }

    /// From now on nothing is claimed, not even by a round that is waiting for a slot.
    pub fn stop_claiming(&self) {
        self.slots.close();
    }

    /// Waits until every call that is under way has been recorded. Claiming must have been stopped.
    pub async fn finish(&self) {
        self.under_way.close();
        self.under_way.wait().await;
    }

    async fn claim(&self, limit: usize) -> Result<Vec<Claimed>, StoreError> {
        let mut lanes = self.paces.lanes();
        match self.settings.mode {
            Mode::Everything => {}
            Mode::ReconcileOnly => lanes.retain(|lane| lane.which == Which::Reads),
        }
        if lanes.is_empty() {
            return Ok(vec![]);
        }
        let (most, left) = (limit, self.paces.left());
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let claimed: Vec<Claimed> = retry::bounded(async {
            let mut tx = self.pool.begin().await?;
            let claimed = effects::claim(&mut tx, limit, self.settings.lease, &lanes).await?;
            claimed.iter().for_each(|effect| crash_point::pass_of(effect.kind, "claiming"));
            tx.commit().await?;
            claimed.iter().for_each(|effect| crash_point::pass_of(effect.kind, "claimed"));
            Ok::<_, StoreError>(claimed)
        })
        .await?;
        self.paces.claimed(&lanes, most, &claimed, &left);
        Ok(claimed)
    }

    async fn perform(&self, effect: Claimed, turn: Turn) {
        metrics::histogram!("payoutd_effect_lag_seconds").record(effect.lag.as_secs_f64());
        if effect.interrupted {
            crash_point::pass("lease.taken_over");
        }
        let reply = if effect.interrupted && !effect.kind.repeatable() {
            // Somebody may have sent it and died. What came of it is found out by reading, not by sending.
            let description = "the worker that was making the call did not come back".to_owned();
            let error = ProviderError { code: "interrupted".to_owned(), description };
            Reply { answer: Answer::Came(Outcome::Unknown(error)), condition: Condition::NotTried }
        } else {
            turn.wait().await;
            if self.paces.must_wait(&turn) {
                self.put_back(&effect).await;
                self.paces.ended(turn, Condition::NotTried);
                return;
            }
            if effect.kind == EffectKind::Confirm && !self.may_confirm(&effect).await {
                self.paces.ended(turn, Condition::NotTried);
                return;
            }
            self.pike.call(&call(&effect)).await
        };
        let kind = effect.kind;
        crash_point::pass_of(kind, "answered");
        metrics::counter!("payoutd_effects_total", "kind" => label(kind), "outcome" => reply.answer.label())
            .increment(1);
        if self.paces.ended(turn, reply.condition) {
            self.engine.wake().effects.notify_one();
        }
        match (reply.answer, reply.condition) {
            // Nothing is known now that was not known before: what may be repeated is, from its place.
            (Answer::Came(Outcome::Unknown(_)), Condition::Busy(_) | Condition::AsksToWait(_))
                if kind.repeatable() =>
            {
                self.put_back(&effect).await;
            }
            (Answer::Came(Outcome::Unknown(error)), Condition::Ill) if kind.repeatable() => {
                self.give_back(&effect, &error.code).await;
            }
            // Most final payouts are on no schedule: this read is the one that they get. That Pike does not
            // know the session is what it tells, however often it is asked.
            (Answer::Came(Outcome::Unknown(error)), _)
                if self.settings.mode == Mode::ReconcileOnly && !denies_session(&error.code) =>
            {
                self.give_back(&effect, &error.code).await;
            }
            (Answer::Came(outcome), _) => self.record(&effect, outcome).await,
            (Answer::NotSent(why), _) => self.give_back(&effect, &why).await,
        }
    }

    /// The last look before money moves. A confirm that may not go is dealt with here.
    async fn may_confirm(&self, effect: &Claimed) -> bool {
        match self.looks.look(effect).await {
            Ok(Look::Good) => {
                crash_point::pass("confirm.looked");
                return true;
            }
            Ok(Look::NotOurs) => {
                metrics::counter!("payoutd_effects_superseded_total").increment(1);
                tracing::warn!(payout = %effect.payout, "a confirm was not sent: its claim had been lost");
            }
            Ok(Look::SwitchedOff) => self.put_back(effect).await,
            Ok(Look::Unfit(unfit)) => {
                metrics::counter!("payoutd_confirms_withheld_total").increment(1);
                tracing::warn!(payout = %effect.payout, ?unfit, "a confirm was not sent");
                self.submit(effect, Observation::Withheld(unfit)).await;
            }
            Err(error) => {
                tracing::error!(payout = %effect.payout, %error, "a confirm's permit could not be read");
                self.give_back(effect, "its permit could not be read").await;
            }
        }
        false
    }

    async fn record(&self, effect: &Claimed, outcome: Outcome) {
        self.submit(effect, Observation::Answered { call: effect.kind, outcome }).await;
    }

    async fn submit(&self, effect: &Claimed, observation: Observation) {
        let event = Event::Observed(observation);
        let envelope = Envelope { payout: effect.payout, event, cause: Cause::Effect(effect.claim) };
        match self.engine.submit(envelope).await {
            Ok(Applied::Done(_) | Applied::Refused(_)) => {}
            Ok(Applied::Superseded | Applied::NoSuchPayout) => {
                metrics::counter!("payoutd_effects_superseded_total").increment(1);
                tracing::info!(payout = %effect.payout, kind = label(effect.kind),
                    "an answer came after its effect had been settled otherwise");
            }
            // Not recorded: the claim ends with its lease and the outcome counts as unknown.
            Err(error) => {
                tracing::error!(payout = %effect.payout, kind = label(effect.kind), %error,
                    "an outcome could not be recorded");
            }
        }
    }

    /// Pike was busy: the effect keeps its place, and the project's pace keeps it waiting.
    async fn put_back(&self, effect: &Claimed) {
        let back = async {
            let mut tx = self.pool.begin().await?;
            effects::put_back(&mut tx, effect.claim).await?;
            tx.commit().await?;
            Ok::<_, StoreError>(())
        };
        if let Err(error) = retry::bounded(back).await {
            tracing::error!(payout = %effect.payout, %error, "an effect could not be put back");
        }
    }

    async fn give_back(&self, effect: &Claimed, why: &str) {
        let after = backoff::pause(self.settings.retry_first, self.settings.retry_longest, effect.not_sent);
        tracing::warn!(payout = %effect.payout, kind = label(effect.kind), why, retry_in = ?after,
            "a request did not get through and is made again");
        let back = async {
            let mut tx = self.pool.begin().await?;
            effects::retry_later(&mut tx, effect.claim, after).await?;
            crash_point::pass("effect.giving_back");
            tx.commit().await?;
            crash_point::pass("effect.given_back");
            Ok::<_, StoreError>(())
        };
        if let Err(error) = retry::bounded(back).await {
            tracing::error!(payout = %effect.payout, %error, "an effect could not be given back");
        }
    }
}

fn label(kind: EffectKind) -> &'static str {
    use crate::store::encoding::Code;
    kind.code()
}

fn call(effect: &Claimed) -> Call {
    Call {
        project: effect.project.clone(),
        kind: effect.kind,
        session: effect.session.clone(),
        amount: effect.amount,
        destination: effect.destination,
        destination_secret: effect.destination_secret.clone(),
        recipient_name: effect.recipient_name.clone(),
        customer_reference: effect.customer_reference.clone(),
        metadata_tag: effect.metadata_tag.clone(),
        idempotency_key: idempotency_key(effect),
    }
}

/// Known before the call is made, because it is derived from what is stored. A start keeps its key for the
/// whole attempt: two starts on one session must look the same to Pike. A confirm or cancel is a new
/// intention each time it is decided anew, so it carries its effect's number. Creating carries none: a
/// repeated create must not be refused, it moves no money.
fn idempotency_key(effect: &Claimed) -> Option<String> {
    let (tag, id) = (&effect.metadata_tag, effect.claim.id);
    match effect.kind {
        EffectKind::StartPayout => Some(format!("{tag}/start")),
        EffectKind::Confirm => Some(format!("{tag}/confirm/{id}")),
        EffectKind::Cancel => Some(format!("{tag}/cancel/{id}")),
        EffectKind::CreateSession | EffectKind::ReadStatus => None,
    }
}
