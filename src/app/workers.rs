//! Starts the workers of a process and lets the engine hand over to them.

use super::Parts;
use crate::{
    clock::Clock,
    config::{self, Config},
    domain::id::ProjectId,
    engine::{Callers, Hands, Tellers},
    notify::{Endpoint, Notifier, PrivateAddresses, Secret},
    worker::{
        checker::{Checker, CheckerSettings},
        effects::Effects,
        inbox::{Inbox, InboxSettings},
        notify::{Notifications, NotifySettings},
        pulse, repeat,
        sweep::{PaidLooks, Sweep},
    },
};
use anyhow::{Context, Result};
use secrecy::ExposeSecret;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{sync::Notify, task::JoinSet};
use tokio_util::sync::CancellationToken;

/// How often the figures of unfinished payouts are read.
const BACKLOG_EVERY: Duration = Duration::from_secs(5);
/// How often the sweeper looks for due payouts: what a lost webhook should have told is asked for a poll
/// interval later, and at most this much more. A look that finds nothing reads two indexes.
const SWEEP_EVERY: Duration = Duration::from_millis(250);
/// How often, in the time from turn to turn, a process tries to take the checker's turn.
const CHECKER_TRIES: u32 = 4;

impl Parts {
    pub(super) fn inbox(&self, config: &Config, wake: &Arc<Notify>) -> Inbox {
        let settings = InboxSettings {
            lease: config.inbox.lease,
            orphan_for: config.inbox.orphan_for,
            park_after: config.inbox.park_after,
        };
        Inbox::new(self.pool.clone(), self.engine.clone(), settings, Arc::clone(wake))
    }

    pub(super) fn workers(
        &self,
        config: &Config,
        effects: &Effects,
        (inbox, inbox_wake): (Inbox, Arc<Notify>),
        stop: &CancellationToken,
    ) -> Result<JoinSet<&'static str>> {
        let projects = config.projects.keys().cloned().map(ProjectId).collect();
        let paid = PaidLooks::new(projects, config.pike.reads_per_second);
        let sweep = Sweep::new(self.pool.clone(), self.engine.clone(), paid);
        let notifications = self.notifications(config)?;
        let callers: Arc<dyn Callers> = Arc::new(effects.clone());
        let tellers: Arc<dyn Tellers> = Arc::new(notifications.clone());
        let hands = Hands { callers: Arc::downgrade(&callers), tellers: Arc::downgrade(&tellers) };
        self.engine.hand_over_to(hands);
        let idle = config.effects.idle_poll;
        let mut workers = JoinSet::new();
        let effects_for_figures = effects.clone();
        let (effects, wake, token) = (effects.clone(), Arc::clone(&self.wake.effects), stop.clone());
        workers.spawn(async move {
            repeat(idle, wake, token, || effects.start_some()).await;
            drop(callers);
            "effects"
        });
        let (wake, token) = (inbox_wake, stop.clone());
        workers.spawn(async move {
            repeat(idle, wake, token, || inbox.run_once()).await;
            inbox.finish().await;
            "inbox"
        });
        let (wake, token) = (Arc::clone(&self.wake.notifications), stop.clone());
        workers.spawn(async move {
            repeat(idle, wake, token, || notifications.start_some()).await;
            drop(tellers);
            notifications.finish().await;
            "notifications"
        });
        let (sweeper, token) = (sweep.clone(), stop.clone());
        workers.spawn(async move {
            repeat(SWEEP_EVERY, Arc::default(), token, || sweeper.round()).await;
            "sweep"
        });
        let (checker, token) = (self.checker(config, stop), stop.clone());
        let often = config.checker.every / CHECKER_TRIES;
        workers.spawn(async move {
            repeat(often, Arc::default(), token, || checker.round()).await;
            "checker"
        });
        let token = stop.clone();
        workers.spawn(async move {
            pulse::run(token).await;
            "pulse"
        });
        let (metrics, token) = (self.metrics.clone(), stop.clone());
        let effects = effects_for_figures;
        workers.spawn(async move {
            let round = || {
                effects.export_pace();
                // Samples pile up until somebody folds them, and nobody may ever ask for the metrics page.
                metrics.run_upkeep();
                sweep.export_backlog()
            };
            repeat(BACKLOG_EVERY, Arc::default(), token, round).await;
            "backlog"
        });
        Ok(workers)
    }

    fn checker(&self, config: &Config, stop: &CancellationToken) -> Checker {
        let config::Checker { every, patience, sweep } = config.checker;
        let settings = CheckerSettings { every, patience, sweep };
        Checker::new(self.pool.clone(), self.engine.clone(), settings, stop.clone())
    }

    fn notifications(&self, config: &Config) -> Result<Notifications> {
        let settings = &config.notifications;
        let private = match settings.allow_private_addresses {
            true => PrivateAddresses::Allowed,
            false => PrivateAddresses::Refused,
        };
        let mut endpoints = BTreeMap::new();
        for (name, project) in &config.projects {
            let Some(target) = &project.notify else { continue };
            let secret = Secret::parse(target.secret.expose_secret())
                .with_context(|| format!("projects.{name}.notify_secret_file"))?;
            endpoints.insert(ProjectId(name.clone()), Endpoint { url: target.url.clone(), secret });
        }
        let notifier = Notifier::new(endpoints, settings.timeout, private)?;
        let settings = NotifySettings {
            // A delivery is bounded by its time-out, so a lease of three is never lost by a live worker.
            lease: settings.timeout * 3,
            retry_first: settings.retry_first,
            retry_longest: settings.retry_longest,
            give_up_after: settings.give_up_after,
        };
        let wake = Arc::clone(&self.wake.notifications);
        Ok(Notifications::new(
            self.pool.clone(),
            self.engine.clone(),
            Arc::new(notifier),
            Clock,
            settings,
            wake,
        ))
    }
}
