//! Delivers notifications. At least once, from the database, with growing pauses over days; then it is given
//! up visibly, never silently.

use super::backoff;
use crate::{
    clock::Clock,
    crash_point,
    domain::id::ProjectId,
    notify::{Notifier, SendFailed},
    store::{
        StoreError,
        notifications::{self, Claimed, Delivery},
        retry,
    },
};
use sqlx::PgPool;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

/// Most messages claimed in one round.
const BATCH: i64 = 32;
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
    /// Woken when a delivery ends: its project may have more.
    wake: Arc<Notify>,
    under_way: TaskTracker,
}

type Busy = Arc<Mutex<BTreeMap<String, usize>>>;

/// A delivery's place among those of its project; given back however the delivery ends.
struct Place {
    busy: Busy,
    project: String,
    wake: Arc<Notify>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(count) = locked(&self.busy).get_mut(&self.project) {
            *count = count.saturating_sub(1);
        }
        self.wake.notify_one();
    }
}

fn locked(busy: &Busy) -> MutexGuard<'_, BTreeMap<String, usize>> {
    busy.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Notifications {
    #[must_use]
    pub fn new(
        pool: PgPool,
        notifier: Arc<Notifier>,
        clock: Clock,
        settings: NotifySettings,
        wake: Arc<Notify>,
    ) -> Self {
        Self { pool, notifier, clock, settings, busy: Arc::default(), wake, under_way: TaskTracker::new() }
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
        let claimed = retry::bounded(async {
            let mut tx = self.pool.begin().await?;
            let claimed = notifications::claim(&mut tx, BATCH, self.settings.lease, &full).await?;
            claimed.iter().for_each(|_| crash_point::pass("notification.claiming"));
            tx.commit().await?;
            claimed.iter().for_each(|_| crash_point::pass("notification.claimed"));
            Ok::<_, StoreError>(claimed)
        })
        .await?;
        let started = claimed.len();
        for message in claimed {
            let (worker, place) = (self.clone(), self.place(&message.project_id));
            self.under_way.spawn(async move {
                if let Err(error) = worker.deliver(message).await {
                    // Its lease ends and it is delivered again: at least once.
                    tracing::error!(%error, "a delivery could not be recorded");
                }
                drop(place);
            });
        }
        Ok(started)
    }

    /// Waits until every delivery that is under way has been recorded. Nothing may be started meanwhile.
    pub async fn finish(&self) {
        self.under_way.close();
        self.under_way.wait().await;
    }

    fn place(&self, project: &str) -> Place {
        *locked(&self.busy).entry(project.to_owned()).or_default() += 1;
        Place { busy: Arc::clone(&self.busy), project: project.to_owned(), wake: Arc::clone(&self.wake) }
    }

    async fn deliver(&self, message: Claimed) -> Result<(), StoreError> {
        let project = ProjectId(message.project_id.clone());
        let id = format!("msg_{}", message.id.simple());
        let now = self.clock.now().unix_timestamp();
        let delivery = match self.notifier.send(&project, &id, now, &message.payload).await {
            Ok(()) => Delivery::Delivered,
            Err(error) => self.failed(&message, &error),
        };
        crash_point::pass("notification.sent");
        let outcome = match &delivery {
            Delivery::Delivered => "delivered",
            Delivery::Retry(..) => "retry",
            Delivery::GaveUp(error) if *error == SendFailed::NoEndpoint.to_string() => "no_endpoint",
            Delivery::GaveUp(_) => "gave_up",
        };
        metrics::counter!("payoutd_notifications_total", "outcome" => outcome).increment(1);
        retry::bounded(async {
            let mut tx = self.pool.begin().await?;
            notifications::settle(&mut tx, message.id, message.fence, &delivery).await?;
            crash_point::pass("notification.marking");
            tx.commit().await?;
            crash_point::pass("notification.marked");
            Ok(())
        })
        .await
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
