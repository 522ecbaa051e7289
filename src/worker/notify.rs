//! Delivers notifications. At least once, from the database, with growing pauses over days; then it is given
//! up visibly, never silently.

use super::backoff;
use crate::{
    clock::Clock,
    domain::id::ProjectId,
    notify::{Notifier, SendFailed},
    store::{
        StoreError,
        notifications::{self, Claimed, Delivery},
    },
};
use futures_util::future::join_all;
use sqlx::PgPool;
use std::{sync::Arc, time::Duration};

/// Most messages in one round.
const BATCH: i64 = 64;

#[derive(Clone, Debug)]
pub struct NotifySettings {
    /// Longer than a delivery may take.
    pub lease: Duration,
    pub retry_first: Duration,
    pub retry_longest: Duration,
    /// A message older than this that cannot be delivered is given up.
    pub give_up_after: Duration,
}

#[derive(Clone)]
pub struct Notifications {
    pool: PgPool,
    notifier: Arc<Notifier>,
    clock: Clock,
    settings: NotifySettings,
}

impl Notifications {
    #[must_use]
    pub fn new(pool: PgPool, notifier: Arc<Notifier>, clock: Clock, settings: NotifySettings) -> Self {
        Self { pool, notifier, clock, settings }
    }

    /// One round. Says how many messages were claimed.
    ///
    /// # Errors
    /// Database errors; what was claimed comes back when its lease ends.
    pub async fn run_once(&self) -> Result<usize, StoreError> {
        let mut tx = self.pool.begin().await?;
        let claimed = notifications::claim(&mut tx, BATCH, self.settings.lease).await?;
        tx.commit().await?;
        let count = claimed.len();
        let delivered = join_all(claimed.into_iter().map(|message| self.deliver(message))).await;
        delivered.into_iter().collect::<Result<(), _>>()?;
        Ok(count)
    }

    async fn deliver(&self, message: Claimed) -> Result<(), StoreError> {
        let project = ProjectId(message.project_id.clone());
        let id = format!("msg_{}", message.id.simple());
        let now = self.clock.now().unix_timestamp();
        let delivery = match self.notifier.send(&project, &id, now, &message.payload).await {
            Ok(()) => Delivery::Delivered,
            Err(error) => self.failed(&message, &error),
        };
        let outcome = match &delivery {
            Delivery::Delivered => "delivered",
            Delivery::Retry(..) => "retry",
            Delivery::GaveUp(error) if *error == SendFailed::NoEndpoint.to_string() => "no_endpoint",
            Delivery::GaveUp(_) => "gave_up",
        };
        metrics::counter!("payoutd_notifications_total", "outcome" => outcome).increment(1);
        let mut tx = self.pool.begin().await?;
        notifications::settle(&mut tx, message.id, message.fence, &delivery).await?;
        tx.commit().await?;
        Ok(())
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
