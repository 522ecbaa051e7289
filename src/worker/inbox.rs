//! Works off stored webhooks: read them, find their payout, hand what they show to the engine. A webhook is a
//! fact about a session; one for a session that we do not know waits, because it may have overtaken us.

use crate::{
    crash_point,
    domain::{
        event::{Event, Observation},
        id::{PayoutId, ProjectId, SessionId},
        session::SessionReport,
    },
    engine::{Applied, Cause, Engine, Envelope},
    pike::{Webhook, read_webhook},
    store::{
        StoreError,
        inbox::{self, Claimed},
        payouts,
    },
};
use futures_util::future::join_all;
use sqlx::PgPool;
use std::time::Duration;

/// Most webhooks in one round.
const BATCH: i64 = 128;
/// Pauses between looks for an unknown session: a quarter of the webhook's age within these.
const ORPHAN_PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

#[derive(Clone, Debug)]
pub struct InboxSettings {
    pub lease: Duration,
    /// How long an unknown session is looked for before its webhook is set aside with an alarm.
    pub orphan_for: Duration,
}

#[derive(Clone)]
pub struct Inbox {
    pool: PgPool,
    engine: Engine,
    settings: InboxSettings,
}

impl Inbox {
    #[must_use]
    pub fn new(pool: PgPool, engine: Engine, settings: InboxSettings) -> Self {
        Self { pool, engine, settings }
    }

    /// One round: claims what is due and works it off. Says how many webhooks were claimed.
    ///
    /// # Errors
    /// Database errors; what was claimed comes back when its lease ends.
    pub async fn run_once(&self) -> Result<usize, StoreError> {
        let mut tx = self.pool.begin().await?;
        let claimed = inbox::claim(&mut tx, BATCH, self.settings.lease).await?;
        claimed.iter().for_each(|_| crash_point::pass("inbox.claiming"));
        tx.commit().await?;
        let count = claimed.len();
        if count == 0 {
            return Ok(0);
        }
        crash_point::pass("inbox.claimed");
        let read: Vec<(Claimed, Webhook)> = claimed
            .into_iter()
            .map(|webhook| {
                let read = read_webhook(&webhook.body);
                (webhook, read)
            })
            .collect();
        let sessions: Vec<(&ProjectId, &SessionId)> = read.iter().filter_map(session).collect();
        let mut db = self.pool.acquire().await?;
        let payouts = payouts::by_sessions(&mut db, &sessions).await?;
        drop(db);
        crash_point::pass("inbox.matched");
        let whose = |pair: &(Claimed, Webhook)| {
            let (project, session) = session(pair)?;
            payouts.get(&(project.clone(), session.clone())).copied()
        };
        let work = read.into_iter().map(|pair| (whose(&pair), pair));
        let outcomes =
            join_all(work.map(|(payout, (webhook, read))| self.work_off(webhook, read, payout))).await;
        outcomes.into_iter().collect::<Result<(), _>>()?;
        Ok(count)
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
        match self.engine.submit(envelope).await {
            Ok(Applied::Done(_) | Applied::Refused(_)) => count("applied"),
            Ok(Applied::Superseded | Applied::NoSuchPayout) => count("superseded"),
            // Still claimed: it comes back when the lease ends.
            Err(error) => tracing::error!(%payout, %error, "a webhook could not be applied"),
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
        let mut tx = self.pool.begin().await?;
        inbox::postpone(&mut tx, webhook.claim, pause).await?;
        crash_point::pass("inbox.postponing");
        tx.commit().await?;
        count("postponed");
        Ok(())
    }

    async fn set_aside(&self, webhook: &Claimed, outcome: &'static str) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        inbox::close(&mut tx, &[webhook.claim], outcome).await?;
        crash_point::pass("inbox.setting_aside");
        tx.commit().await?;
        count(outcome);
        Ok(())
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
