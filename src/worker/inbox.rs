//! Works off stored webhooks: read them, find their payout, hand what they show to the engine. A webhook is a
//! fact about a session; one for a session that we do not know waits, because it may have overtaken us.

use super::backoff;
use crate::{
    crash_point,
    domain::{
        event::{Event, Observation},
        id::{PayoutId, ProjectId, SessionId},
        session::SessionReport,
    },
    engine::{Applied, Cause, Engine, EngineError, Envelope},
    pike::{Webhook, read_webhook},
    store::{
        StoreError,
        inbox::{self, Claimed, Incoming},
        payouts, retry,
        writer::Writer,
    },
    webhook::{Begin, Workers},
};
use futures_util::future::{BoxFuture, join_all};
use sqlx::PgPool;
use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};
use tokio::sync::{Notify, Semaphore};
use tokio_util::task::TaskTracker;

/// Most webhooks in one round.
const BATCH: i64 = 128;
/// Most webhooks worked on without having been claimed in a round.
const ROOM: usize = 1024;
/// Pauses between looks for an unknown session: a quarter of the webhook's age within these.
const ORPHAN_PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// Pauses after failures, doubling.
const POISON_PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

#[derive(Clone, Debug)]
pub struct InboxSettings {
    pub lease: Duration,
    /// How long an unknown session is looked for before its webhook is set aside with an alarm.
    pub orphan_for: Duration,
    /// After so many failures a webhook is parked.
    pub park_after: u32,
}

#[derive(Clone)]
pub struct Inbox {
    pool: PgPool,
    engine: Engine,
    settings: InboxSettings,
    /// Finds out whose sessions webhooks are about.
    reader: Arc<Writer>,
    /// Wakes the loop that claims.
    wake: Arc<Notify>,
    /// Room for webhooks that are worked on as soon as they have been kept.
    room: Arc<Semaphore>,
    under_way: TaskTracker,
}

impl Workers for Inbox {
    fn lease(&self) -> Duration {
        self.settings.lease
    }

    fn room(&self, webhooks: usize) -> Option<Begin> {
        let places = u32::try_from(webhooks).ok()?;
        let place = Arc::clone(&self.room).try_acquire_many_owned(places).ok()?;
        let inbox = self.clone();
        Some(Box::new(move |claimed: Vec<Claimed>| {
            let tracker = inbox.under_way.clone();
            tracker.spawn(async move {
                // What could not be worked off comes back when its lease ends.
                if let Err(error) = inbox.work(claimed).await {
                    tracing::error!(%error, "webhooks could not be worked on");
                }
                drop(place);
            });
        }))
    }

    fn wake(&self) {
        self.wake.notify_one();
    }

    fn read(&self, body: &[u8]) -> Option<SessionReport> {
        match read_webhook(body) {
            Webhook::Session(report) => Some(report),
            Webhook::OtherType(_) | Webhook::Unreadable => None,
        }
    }

    fn keep(&self, webhook: &Arc<Incoming>, report: SessionReport) -> BoxFuture<'_, Option<bool>> {
        let webhook = Arc::clone(webhook);
        Box::pin(async move {
            let payout = self.engine.whose(&webhook.project, &report.session)?;
            if !self.engine.has_waiting(payout) {
                // A small commit of its own is answered sooner.
                return None;
            }
            let event = Event::Observed(Observation::Reported(report));
            let new = self.engine.keep(webhook, payout, event).await?;
            if new {
                count("applied");
            }
            Some(new)
        })
    }
}

impl Inbox {
    #[must_use]
    pub fn new(pool: PgPool, engine: Engine, settings: InboxSettings, wake: Arc<Notify>) -> Self {
        let (room, under_way) = (Arc::new(Semaphore::new(ROOM)), TaskTracker::new());
        let reader = Arc::new(Writer::new(pool.clone()));
        Self { pool, engine, settings, reader, wake, room, under_way }
    }

    /// From now on nothing is worked on that is not claimed by a round; waits for what is under way.
    pub async fn finish(&self) {
        self.room.close();
        self.under_way.close();
        self.under_way.wait().await;
    }

    /// One round: claims what is due and works it off. Says how many webhooks were claimed.
    ///
    /// # Errors
    /// Database errors; what was claimed comes back when its lease ends.
    pub async fn run_once(&self) -> Result<usize, StoreError> {
        let claimed = retry::bounded(async {
            let mut tx = self.pool.begin().await?;
            let claimed = inbox::claim(&mut tx, BATCH, self.settings.lease).await?;
            claimed.iter().for_each(|_| crash_point::pass("inbox.claiming"));
            tx.commit().await?;
            Ok::<_, StoreError>(claimed)
        })
        .await?;
        let count = claimed.len();
        self.work(claimed).await?;
        Ok(count)
    }

    /// Works these webhooks off.
    async fn work(&self, claimed: Vec<Claimed>) -> Result<(), StoreError> {
        if claimed.is_empty() {
            return Ok(());
        }
        crash_point::pass("inbox.claimed");
        let read: Vec<(Claimed, Webhook)> = claimed
            .into_iter()
            .map(|webhook| {
                let read = read_webhook(&webhook.body);
                (webhook, read)
            })
            .collect();
        let payouts = self.payouts(read.iter().filter_map(session)).await?;
        crash_point::pass("inbox.matched");
        let whose = |pair: &(Claimed, Webhook)| {
            let (project, session) = session(pair)?;
            payouts.get(&(project.clone(), session.clone())).copied()
        };
        let work = read.into_iter().map(|pair| (whose(&pair), pair));
        let outcomes =
            join_all(work.map(|(payout, (webhook, read))| self.work_off(webhook, read, payout))).await;
        outcomes.into_iter().collect()
    }

    /// Whose sessions these are: as this process knows, or as the database does.
    async fn payouts(
        &self,
        sessions: impl Iterator<Item = (&ProjectId, &SessionId)>,
    ) -> Result<BTreeMap<(ProjectId, SessionId), PayoutId>, StoreError> {
        let (mut known, mut others) = (BTreeMap::new(), vec![]);
        for (project, session) in sessions {
            match self.engine.whose(project, session) {
                Some(payout) => drop(known.insert((project.clone(), session.clone()), payout)),
                None => others.push((project, session)),
            }
        }
        if !others.is_empty() {
            let read = retry::reading(|| async {
                let mut db = self.reader.hold().await?;
                let payouts = payouts::by_sessions(&mut db, &others).await?;
                db.done();
                Ok(payouts)
            });
            known.extend(read.await?);
        }
        Ok(known)
    }

    async fn work_off(
        &self,
        webhook: Claimed,
        read: Webhook,
        payout: Option<PayoutId>,
    ) -> Result<(), StoreError> {
        match (read, payout) {
            (Webhook::Session(report), Some(payout)) => {
                self.report(webhook, report, payout).await;
                Ok(())
            }
            (Webhook::Session(report), None) => self.orphan(&webhook, &report).await,
            (Webhook::OtherType(name), _) => {
                tracing::warn!(project = %webhook.project, r#type = name, "another type of webhook");
                self.set_aside(&webhook, "other_type").await
            }
            (Webhook::Unreadable, _) => {
                tracing::error!(project = %webhook.project, inbox = webhook.claim.id,
                    "a genuine webhook does not have the documented shape");
                self.set_aside(&webhook, "unreadable").await
            }
        }
    }

    async fn report(&self, webhook: Claimed, report: SessionReport, payout: PayoutId) {
        let event = Event::Observed(Observation::Reported(report));
        let envelope = Envelope { payout, event, cause: Cause::Inbox(webhook.claim) };
        // One that has failed before goes alone, so that it spoils nobody else's batch; so does one whose
        // batch was lost, to find out whether it was the one.
        let together = match webhook.failures {
            0 => Some(self.engine.submit(envelope.clone()).await),
            _ => None,
        };
        let applied = match together {
            None | Some(Err(EngineError::Gone(_))) => alone(self.engine.clone(), envelope).await,
            Some(applied) => applied.map_err(Trouble::of),
        };
        match applied {
            Ok(Applied::Done(_) | Applied::Refused(_)) => count("applied"),
            Ok(Applied::Superseded | Applied::NoSuchPayout) => count("superseded"),
            Err(Trouble::Poison(why)) => self.poisoned(&webhook, payout, &why).await,
            // Still claimed: it comes back when the lease ends.
            Err(Trouble::Away(error)) => tracing::error!(%payout, error, "a webhook could not be applied"),
        }
    }

    /// The webhook itself is at fault, or how we handle it: some more tries, then it is parked for a person.
    async fn poisoned(&self, webhook: &Claimed, payout: PayoutId, why: &str) {
        let pause = backoff::pause(POISON_PAUSE.0, POISON_PAUSE.1, webhook.failures);
        let noted = async {
            let mut tx = self.pool.begin().await?;
            let parked = inbox::failed(&mut tx, webhook.claim, why, pause, self.settings.park_after).await?;
            tx.commit().await?;
            Ok::<_, StoreError>(parked)
        };
        match retry::bounded(noted).await {
            Ok(parked) => {
                count(if parked { "parked" } else { "failed" });
                let inbox = webhook.claim.id;
                tracing::error!(%payout, inbox, why, parked, "a webhook cannot be worked on");
            }
            Err(error) => tracing::error!(%payout, %error, "a webhook's failure could not be noted"),
        }
    }

    async fn orphan(&self, webhook: &Claimed, report: &SessionReport) -> Result<(), StoreError> {
        if webhook.age >= self.settings.orphan_for {
            tracing::error!(project = %webhook.project, session = %report.session,
                "a webhook's session was never found");
            return self.set_aside(webhook, "orphan").await;
        }
        let (shortest, longest) = ORPHAN_PAUSE;
        let pause = (webhook.age / 4).clamp(shortest, longest);
        retry::bounded(async {
            let mut tx = self.pool.begin().await?;
            inbox::postpone(&mut tx, webhook.claim, pause).await?;
            crash_point::pass("inbox.postponing");
            tx.commit().await?;
            Ok::<_, StoreError>(())
        })
        .await?;
        count("postponed");
        Ok(())
    }

    async fn set_aside(&self, webhook: &Claimed, outcome: &'static str) -> Result<(), StoreError> {
        retry::bounded(async {
            let mut tx = self.pool.begin().await?;
            inbox::close(&mut tx, &[webhook.claim], outcome).await?;
            crash_point::pass("inbox.setting_aside");
            tx.commit().await?;
            Ok::<_, StoreError>(())
        })
        .await?;
        count(outcome);
        Ok(())
    }
}

/// Why a webhook was not applied.
enum Trouble {
    /// Trying again as it is cannot help.
    Poison(String),
    /// The database was away, or too busy: not the webhook's fault.
    Away(String),
}

impl Trouble {
    fn of(error: EngineError) -> Self {
        match &error {
            EngineError::Store(store) if store.blames_the_data() => Self::Poison(store.brief()),
            EngineError::Store(_)
            | EngineError::Gone(_)
            | EngineError::Busy
            | EngineError::ReconcileOnly
            | EngineError::NotKept => Self::Away(error.to_string()),
        }
    }
}

/// Applies one event in a transaction and a task of its own: a panic is its own and nobody else's.
async fn alone(engine: Engine, envelope: Envelope) -> Result<Applied, Trouble> {
    isolated(async move { engine.apply(vec![envelope]).await.pop() }).await
}

async fn isolated<F>(work: F) -> Result<Applied, Trouble>
where
    F: Future<Output = Option<Result<Applied, EngineError>>> + Send + 'static,
{
    match tokio::spawn(work).await {
        Ok(Some(applied)) => applied.map_err(Trouble::of),
        Ok(None) => Err(Trouble::Away("no answer".to_owned())),
        Err(error) if error.is_panic() => Err(Trouble::Poison("panic while it was applied".to_owned())),
        Err(error) => Err(Trouble::Away(error.to_string())),
    }
}

/// The session that a webhook is about, within its project.
fn session((webhook, read): &(Claimed, Webhook)) -> Option<(&ProjectId, &SessionId)> {
    match read {
        Webhook::Session(report) => Some((&webhook.project, &report.session)),
        Webhook::OtherType(_) | Webhook::Unreadable => None,
    }
}

fn count(outcome: &'static str) {
    metrics::counter!("payoutd_inbox_total", "outcome" => outcome).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_the_webhooks_fault_and_a_missing_database_is_not() {
        let panics = isolated(async { panic!("as intended") }).await;
        assert!(matches!(panics, Err(Trouble::Poison(why)) if why.contains("panic")));
        for error in [EngineError::Busy, sqlx::Error::PoolTimedOut.into()] {
            let away = isolated(async { Some(Err(error)) }).await;
            assert!(matches!(away, Err(Trouble::Away(_))));
        }
        let row = StoreError::ImpossibleRow { table: "payouts", column: "state", id: "1".to_owned() };
        let poison = isolated(async { Some(Err(row.into())) }).await;
        assert!(matches!(poison, Err(Trouble::Poison(why)) if why == "impossible row: payouts.state"));
    }
}
