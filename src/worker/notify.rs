//! Delivers notifications. At least once, from the database, with growing pauses over days; then it is given
//! up visibly, never silently.

use super::backoff;
use crate::{
    clock::Clock,
    crash_point,
    domain::id::ProjectId,
    engine::{self, Engine, Tellers},
    notify::{Notifier, SendFailed},
    store::{
        StoreError,
        notifications::{self, Claimed, Delivery, Settled},
        retry,
    },
};
use sqlx::PgPool;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

/// Most messages claimed in one round.
const BATCH: usize = 32;
/// Messages that may be between claim and record at once: what a slow database makes wait.
const MOST_UNSETTLED: usize = 1024;
/// Deliveries under way for one project beyond which no more of its messages are claimed: an endpoint that
/// answers slowly delays nobody else's.
const PER_PROJECT: usize = 32;

#[derive(Clone, Debug)]
pub struct NotifySettings {
    /// Longer than a delivery may take.
    pub lease: Duration,
    pub retry_first: Duration,
    pub retry_longest: Duration,
    /// A message older than this that cannot be delivered is given up.
    pub give_up_after: Duration,
}

/// The worker. Cheap to clone.
#[derive(Clone)]
pub struct Notifications {
    pool: PgPool,
    notifier: Arc<Notifier>,
    clock: Clock,
    settings: NotifySettings,
    /// Deliveries under way, by project.
    busy: Busy,
    /// Room for messages from being claimed to being written down.
    unsettled: Arc<Semaphore>,
    /// Writes down what became of deliveries.
    engine: Engine,
    /// Woken when a delivery of a project ends that had no more room: it may have more.
    wake: Arc<Notify>,
    under_way: TaskTracker,
}

type Busy = Arc<Mutex<BTreeMap<String, usize>>>;

/// A delivery's place among those of its project; given back however the delivery ends.
struct Place {
    /// Held by whoever has it until the delivery is written down.
    unsettled: Option<OwnedSemaphorePermit>,
    busy: Busy,
    project: String,
    wake: Arc<Notify>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let was_full = locked(&self.busy).get_mut(&self.project).is_some_and(|count| {
            *count = count.saturating_sub(1);
            *count + 1 >= PER_PROJECT
        });
        if was_full {
            self.wake.notify_one();
        }
    }
}

fn locked(busy: &Busy) -> MutexGuard<'_, BTreeMap<String, usize>> {
    busy.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tellers for Notifications {
    fn lease(&self) -> Duration {
        self.settings.lease
    }

    fn place(&self, project: &ProjectId) -> Option<engine::Place<Claimed>> {
        let full = locked(&self.busy).get(&project.0).is_some_and(|count| *count >= PER_PROJECT);
        if full || self.under_way.is_closed() {
            return None;
        }
        let unsettled = Arc::clone(&self.unsettled).try_acquire_owned().ok()?;
        let (worker, place) = (self.clone(), self.seat(&project.0, unsettled));
        Some(Box::new(move |message| worker.begin(message, place)))
    }
}

impl Notifications {
    #[must_use]
    pub fn new(
        pool: PgPool,
        engine: Engine,
        notifier: Arc<Notifier>,
        clock: Clock,
        settings: NotifySettings,
        wake: Arc<Notify>,
    ) -> Self {
        let (busy, under_way) = (Arc::default(), TaskTracker::new());
        let unsettled = Arc::new(Semaphore::new(MOST_UNSETTLED));
        Self { pool, notifier, clock, settings, busy, unsettled, engine, wake, under_way }
    }

    /// Claims what is due for projects that are not busy and starts delivering it. Says how many it started.
    ///
    /// # Errors
    /// Database errors; nothing was started.
    pub async fn start_some(&self) -> Result<usize, StoreError> {
        let full: Vec<String> = {
            let busy = locked(&self.busy);
            busy.iter()
                .filter(|(_, count)| **count >= PER_PROJECT)
                .map(|(project, _)| project.clone())
                .collect()
        };
        let Ok(first) = Arc::clone(&self.unsettled).acquire_owned().await else { return Ok(0) };
        let mut room = vec![first];
        while room.len() < BATCH
            && let Ok(another) = Arc::clone(&self.unsettled).try_acquire_owned()
        {
            room.push(another);
        }
        let most = i64::try_from(room.len()).unwrap_or(i64::MAX);
        let claimed = retry::bounded(async {
            let mut tx = self.pool.begin().await?;
            let claimed = notifications::claim(&mut tx, most, self.settings.lease, &full).await?;
            claimed.iter().for_each(|_| crash_point::pass("notification.claiming"));
            tx.commit().await?;
            claimed.iter().for_each(|_| crash_point::pass("notification.claimed"));
            Ok::<_, StoreError>(claimed)
        })
        .await?;
        let started = claimed.len();
        for (message, unsettled) in claimed.into_iter().zip(room) {
            let place = self.seat(&message.project_id, unsettled);
            self.begin(message, place);
        }
        Ok(started)
    }

    fn begin(&self, message: Claimed, place: Place) {
        let worker = self.clone();
        self.under_way.spawn(async move {
            worker.deliver(message, place).await;
        });
    }

    /// Waits until every delivery that is under way has been recorded. Nothing may be started meanwhile.
    pub async fn finish(&self) {
        self.under_way.close();
        self.under_way.wait().await;
    }

    fn seat(&self, project: &str, unsettled: OwnedSemaphorePermit) -> Place {
        *locked(&self.busy).entry(project.to_owned()).or_default() += 1;
        let (busy, wake) = (Arc::clone(&self.busy), Arc::clone(&self.wake));
        Place { unsettled: Some(unsettled), busy, project: project.to_owned(), wake }
    }

    async fn deliver(&self, message: Claimed, mut place: Place) {
        let project = ProjectId(message.project_id.clone());
        let id = format!("msg_{}", message.id.simple());
        let now = self.clock.now().unix_timestamp();
        let delivery = match self.notifier.send(&project, &id, now, &message.payload).await {
            Ok(()) => Delivery::Delivered,
            Err(error) => self.failed(&message, &error),
        };
        crash_point::pass("notification.sent");
        // Others for this endpoint do not wait for our database.
        let _unsettled = place.unsettled.take();
        drop(place);
        let outcome = match &delivery {
            Delivery::Delivered => "delivered",
            Delivery::Retry(..) => "retry",
            Delivery::GaveUp(error) if *error == SendFailed::NoEndpoint.to_string() => "no_endpoint",
            Delivery::GaveUp(_) => "gave_up",
        };
        metrics::counter!("payoutd_notifications_total", "outcome" => outcome).increment(1);
        // A failure has been logged. The lease ends and it is delivered again: at least once.
        let _ = self.engine.settle(Settled { id: message.id, fence: message.fence, delivery }).await;
    }

    fn failed(&self, message: &Claimed, error: &SendFailed) -> Delivery {
        let age = self.clock.now() - message.created_at;
        let too_old = age >= self.settings.give_up_after;
        if too_old || *error == SendFailed::NoEndpoint {
            if *error != SendFailed::NoEndpoint {
                tracing::error!(message = %message.id, project = message.project_id, %error,
                    "a notification was given up");
            }
            return Delivery::GaveUp(error.to_string());
        }
        let settings = &self.settings;
        let pause = backoff::pause(settings.retry_first, settings.retry_longest, message.attempts);
        Delivery::Retry(pause, error.to_string())
    }
}
