//! Performs effects: the calls to Pike. Claim under a lease, call once, hand the outcome to the engine, which
//! closes the claim in the transaction that records it.

use super::backoff;
use crate::{
    crash_point,
    domain::{
        effect::EffectKind,
        event::{Event, Observation, Outcome},
        provider::ProviderError,
    },
    engine::{Applied, Cause, Engine, Envelope},
    pike::{Answer, Call, Pike},
    store::{
        StoreError,
        effects::{self, Claimed},
    },
};
use sqlx::PgPool;
use std::{sync::Arc, time::Duration};
use tokio::sync::Semaphore;
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
}

/// The worker. Cheap to clone.
#[derive(Clone)]
pub struct Effects {
    pool: PgPool,
    engine: Engine,
    pike: Arc<Pike>,
    settings: EffectSettings,
    slots: Arc<Semaphore>,
    under_way: TaskTracker,
}

impl Effects {
    #[must_use]
    pub fn new(pool: PgPool, engine: Engine, pike: Arc<Pike>, settings: EffectSettings) -> Self {
        let slots = Arc::new(Semaphore::new(settings.max_in_flight));
        Self { pool, engine, pike, settings, slots, under_way: TaskTracker::new() }
    }

    /// Claims as many effects as there are free slots and starts them; waits for a slot when there is none.
    /// Says how many were started: none once claiming was stopped.
    ///
    /// # Errors
    /// Database errors while claiming; nothing was started.
    pub async fn start_some(&self) -> Result<usize, StoreError> {
        let Ok(first) = Arc::clone(&self.slots).acquire_owned().await else { return Ok(0) };
        let mut slots = vec![first];
        while let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
            slots.push(slot);
        }
        let claimed = self.claim(slots.len()).await?;
        let started = claimed.len();
        for (effect, slot) in claimed.into_iter().zip(slots) {
            let worker = self.clone();
            self.under_way.spawn(async move {
                worker.perform(effect).await;
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
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut tx = self.pool.begin().await?;
        let claimed = effects::claim(&mut tx, limit, self.settings.lease).await?;
        claimed.iter().for_each(|effect| crash_point::pass_of(effect.kind, "claiming"));
        tx.commit().await?;
        claimed.iter().for_each(|effect| crash_point::pass_of(effect.kind, "claimed"));
        Ok(claimed)
    }

    async fn perform(&self, effect: Claimed) {
        metrics::histogram!("payoutd_effect_lag_seconds").record(effect.lag.as_secs_f64());
        if effect.interrupted {
            crash_point::pass("lease.taken_over");
        }
        let answer = if effect.interrupted && !effect.kind.repeatable() {
            // Somebody may have sent it and died. What came of it is found out by reading, not by sending.
            let description = "the worker that was making the call did not come back".to_owned();
            Answer::Came(Outcome::Unknown(ProviderError { code: "interrupted".to_owned(), description }))
        } else {
            self.pike.call(&call(&effect)).await
        };
        let kind = effect.kind;
        crash_point::pass_of(kind, "answered");
        metrics::counter!("payoutd_effects_total", "kind" => label(kind), "outcome" => answer.label())
            .increment(1);
        match answer {
            Answer::Came(outcome) => self.record(&effect, outcome).await,
            Answer::NotSent(why) => self.give_back(&effect, &why).await,
        }
    }

    async fn record(&self, effect: &Claimed, outcome: Outcome) {
        let event = Event::Observed(Observation::Answered { call: effect.kind, outcome });
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

    async fn give_back(&self, effect: &Claimed, why: &str) {
        let after = backoff::pause(self.settings.retry_first, self.settings.retry_longest, effect.not_sent);
        tracing::warn!(payout = %effect.payout, kind = label(effect.kind), why, retry_in = ?after,
            "a request could not be sent");
        let back = async {
            let mut tx = self.pool.begin().await?;
            effects::retry_later(&mut tx, effect.claim, after).await?;
            crash_point::pass("effect.giving_back");
            tx.commit().await?;
            crash_point::pass("effect.given_back");
            Ok::<_, StoreError>(())
        };
        if let Err(error) = back.await {
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
