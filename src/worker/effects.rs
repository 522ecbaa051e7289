//! Performs effects: the calls to Pike. Claim under a lease as many as the project's pace allows, call once,
//! hand the outcome to the engine, which closes the claim in the transaction that records it.

mod seats;

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
    engine::{Applied, Cause, Engine, Envelope},
    pike::{Answer, Call, Condition, Pike, Reply},
    store::{
        StoreError,
        effects::{self, Claimed, Which},
        retry,
        writer::Writer,
    },
};
use seats::Seat;
use sqlx::PgPool;
use std::{sync::Arc, time::Duration};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

/// Claimed calls for each that may be under way: what waits for a slot, is called, or is written down.
const PLACES_PER_SLOT: usize = 8;
/// How often what was not sent is put back, and the first pause between two tries, which doubles.
const PUT_BACK_TRIES: u32 = 6;
const PUT_BACK_AGAIN: Duration = Duration::from_millis(100);

/// How effects are worked off.
#[derive(Clone, Debug)]
pub struct EffectSettings {
    /// Longer than any call may take, so that a live worker never loses its claim.
    pub lease: Duration,
    /// Longest that a claimed call waits for a slot. Its lease is longer by as much.
    pub slot_within: Duration,
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
    claims: Arc<Writer>,
    engine: Engine,
    pike: Arc<Pike>,
    settings: Arc<EffectSettings>,
    paces: Arc<Paces>,
    /// Calls from being claimed to being recorded.
    places: Arc<Semaphore>,
    /// Calls under way.
    slots: Arc<Semaphore>,
    looks: Looks,
    under_way: TaskTracker,
}

impl Effects {
    #[must_use]
    pub fn new(pool: PgPool, engine: Engine, pike: Arc<Pike>, settings: EffectSettings) -> Self {
        let slots = Arc::new(Semaphore::new(settings.max_in_flight));
        let places = Arc::new(Semaphore::new(settings.max_in_flight * PLACES_PER_SLOT));
        let paces = Arc::new(Paces::new(&settings.pace, &settings.projects));
        let looks = Looks::start(pool.clone(), settings.confirm.clone(), settings.max_in_flight);
        let claims = Arc::new(Writer::new(pool.clone()));
        let (settings, under_way) = (Arc::new(settings), TaskTracker::new());
        Self { pool, claims, engine, pike, settings, paces, places, slots, looks, under_way }
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

    /// Claims as many effects as there are free slots and starts them; waits for a slot when there is none,
    /// behind whatever waits for one already. Says how many were started: none once claiming was stopped.
    ///
    /// # Errors
    /// Database errors while claiming; nothing was started.
    pub async fn start_some(&self) -> Result<usize, StoreError> {
        let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { return Ok(0) };
        let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await else { return Ok(0) };
        let mut seats = vec![(place, slot)];
        // Not all: what is handed over meanwhile needs some too, or it waits for the next round.
        for _ in 0..self.slots.available_permits().div_ceil(2) {
            let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else { break };
            let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else { break };
            seats.push((place, slot));
        }
        let claimed = self.claim(seats.len()).await?;
        let started = claimed.len();
        for (effect, (place, slot)) in claimed.into_iter().zip(seats) {
            let turn = self.paces.take(&effect.project, effect.kind);
            self.begin(effect, Seat::Slot(slot, turn), place);
        }
        Ok(started)
    }

    /// One round to its end, for tests: claims, performs, waits for all outcomes to be recorded.
    ///
    /// # Errors
    /// Database errors while claiming.
    pub async fn run_once(&self) -> Result<usize, StoreError> {
        let started = self.start_some().await?;
        let everything = self.settings.max_in_flight * PLACES_PER_SLOT;
        drop(self.places.acquire_many(u32::try_from(everything).unwrap_or(u32::MAX)).await);
        Ok(started)
    }

    /// From now on nothing is claimed, not even by a round that is waiting for a place; what waits for a slot
    /// goes back.
    pub fn stop_claiming(&self) {
        self.places.close();
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
        let most = i64::try_from(limit).unwrap_or(i64::MAX);
        let claimed: Vec<Claimed> = retry::bounded(async {
            let mut tx = self.claims.begin().await?;
            let claimed = effects::claim(&mut tx, most, self.settings.lease, &lanes).await?;
            claimed.iter().for_each(|effect| crash_point::pass_of(effect.kind, "claiming"));
            tx.commit().await?;
            claimed.iter().for_each(|effect| crash_point::pass_of(effect.kind, "claimed"));
            Ok::<_, StoreError>(claimed)
        })
        .await?;
        self.paces.claimed(&lanes, limit, &claimed);
        Ok(claimed)
    }

    /// The call itself. None if it was not to be made.
    async fn call(&self, effect: &Claimed, turn: &Turn) -> Option<Reply> {
        if effect.interrupted {
            crash_point::pass("lease.taken_over");
        }
        if effect.interrupted && !effect.kind.repeatable() {
            // Somebody may have sent it and died. What came of it is found out by reading, not by sending.
            let description = "the worker that was making the call did not come back".to_owned();
            let error = ProviderError { code: "interrupted".to_owned(), description };
            let answer = Answer::Came(Outcome::Unknown(error));
            return Some(Reply { answer, condition: Condition::NotTried });
        }
        turn.wait().await;
        if self.paces.must_wait(turn) {
            self.put_back(effect).await;
            return None;
        }
        if effect.kind == EffectKind::Confirm && !self.may_confirm(effect).await {
            return None;
        }
        if !self.paces.begin(turn).await {
            self.put_back(effect).await;
            return None;
        }
        Some(self.pike.call(&call(effect)).await)
    }

    async fn perform(&self, effect: Claimed, turn: Turn, slot: OwnedSemaphorePermit) {
        let reply = self.call(&effect, &turn).await;
        let condition = reply.as_ref().map_or(Condition::NotTried, |reply| reply.condition);
        let missed = self.paces.ended(turn, condition);
        // Who waits for it must find that this call has ended.
        drop(slot);
        if missed {
            self.engine.wake().effects.notify_one();
        }
        let Some(reply) = reply else { return };
        let kind = effect.kind;
        crash_point::pass_of(kind, "answered");
        metrics::counter!("payoutd_effects_total", "kind" => label(kind), "outcome" => reply.answer.label())
            .increment(1);
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

    /// Not sent, or of no effect: it keeps its place, and the project's pace keeps it waiting. Tried again
    /// and again, because without it a start that was never sent would count as one that may have been.
    async fn put_back(&self, effect: &Claimed) {
        if effect.interrupted && !effect.kind.repeatable() {
            // It may have been sent, and put back it would look as if not: its lease ends by itself.
            return;
        }
        self.paces.goes_back(&effect.project, effect.kind, Duration::ZERO);
        let mut pause = PUT_BACK_AGAIN;
        for left in (0..PUT_BACK_TRIES).rev() {
            let back = async {
                let mut tx = self.pool.begin().await?;
                effects::put_back(&mut tx, effect.claim).await?;
                tx.commit().await?;
                Ok::<_, StoreError>(())
            };
            let Err(error) = retry::bounded(back).await else { return };
            if left == 0 {
                tracing::error!(payout = %effect.payout, %error, "an effect could not be put back");
                return;
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    async fn give_back(&self, effect: &Claimed, why: &str) {
        let after = backoff::pause(self.settings.retry_first, self.settings.retry_longest, effect.not_sent);
        self.paces.goes_back(&effect.project, effect.kind, after);
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
