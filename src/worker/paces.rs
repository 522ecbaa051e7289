//! The paces of all projects, with a clock: what may be claimed now, when a claimed call has its turn, and
//! what its end means for the next. Says in the log when a project's calls pause and when they go on.

use super::pace::{Calls, Lane, Pace, PaceSettings, Paused};
use crate::{
    domain::{effect::EffectKind, id::ProjectId},
    pike::Condition,
    store::effects::{self, Which},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

pub(super) struct Paces(Mutex<BTreeMap<ProjectId, Pace>>);

/// A call's turn. Given back by [`Paces::ended`], whatever became of the call.
pub(super) struct Turn {
    project: ProjectId,
    lane: Lane,
    at: Instant,
}

/// A place in the queue for a turn. Dropped, it is free again.
pub(super) struct Queued {
    paces: Option<Arc<Paces>>,
    project: ProjectId,
    lane: Lane,
}

impl Queued {
    /// One of those under way has ended. None if the project's calls were slowed down meanwhile; then this
    /// one waits in the database again, and others behind it.
    pub(super) fn turn(mut self) -> Option<Turn> {
        let paces = self.paces.take()?;
        let mut paces = paces.locked();
        let pace = paces.get_mut(&self.project)?;
        let now = Instant::now();
        let at = pace.leave_queue(self.lane, now);
        if at.is_none() {
            // Of which kind it is, is told by whoever puts it back.
            pace.leave(self.lane, false, now);
        }
        Some(Turn { project: self.project.clone(), lane: self.lane, at: at? })
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        if let Some(paces) = &self.paces
            && let Some(pace) = paces.locked().get_mut(&self.project)
        {
            pace.give_up_queue(self.lane);
        }
    }
}

impl Turn {
    /// Waits until it has come: a quarter of a second at most.
    pub(super) async fn wait(&self) {
        sleep_until(self.at).await;
    }
}

impl Paces {
    pub(super) fn new(settings: &PaceSettings, projects: &[ProjectId]) -> Self {
        let paces = projects.iter().map(|project| (project.clone(), Pace::new(settings.clone())));
        Self(Mutex::new(paces.collect()))
    }

    /// What may be claimed now, by project.
    pub(super) fn lanes(&self) -> Vec<effects::Lane> {
        let now = Instant::now();
        let mut lanes = vec![];
        for (project, pace) in self.locked().iter_mut() {
            let (grant, narrow, round) = (pace.grant(now), pace.further_wait(), pace.next_round());
            let calls = match grant.calls_are {
                Calls::Any => Which::Calls,
                Calls::Harmless => Which::HarmlessCalls,
            };
            for (which, most) in [(calls, grant.calls), (Which::Reads, grant.reads)] {
                if most > 0 {
                    lanes.push(effects::Lane { project: project.clone(), which, most, narrow, round });
                }
            }
        }
        lanes
    }

    /// A turn for a call that may begin now, unless it goes behind others that are known to wait already.
    pub(super) fn try_take(&self, project: &ProjectId, kind: EffectKind) -> Option<Turn> {
        let now = Instant::now();
        let mut paces = self.locked();
        let pace = paces.get_mut(project)?;
        let lane = lane(kind);
        if pace.goes_behind(lane, takes_further(kind))
            || !pace.has_room(lane, kind == EffectKind::CreateSession, now)
        {
            pace.leave(lane, takes_further(kind), now);
            return None;
        }
        Some(Turn { project: project.clone(), lane, at: pace.take(lane, now) })
    }

    /// A place among the `most` that wait in this process for those under way, unless it goes behind others
    /// that wait already.
    pub(super) fn try_queue(
        self: &Arc<Self>,
        project: &ProjectId,
        kind: EffectKind,
        most: usize,
    ) -> Option<Queued> {
        let mut paces = self.locked();
        let pace = paces.get_mut(project)?;
        let lane = lane(kind);
        let now = Instant::now();
        if pace.goes_behind(lane, takes_further(kind)) || !pace.queue(lane, most, now) {
            pace.leave(lane, takes_further(kind), now);
            return None;
        }
        Some(Queued { paces: Some(Arc::clone(self)), project: project.clone(), lane })
    }

    /// A call was left to wait in the database: what comes later goes behind it, see [`Pace::goes_behind`].
    pub(super) fn leave(&self, project: &ProjectId, kind: EffectKind) {
        if let Some(pace) = self.locked().get_mut(project) {
            pace.leave(lane(kind), takes_further(kind), Instant::now());
        }
    }

    /// A claimed call goes back to the database, for so long at least.
    pub(super) fn goes_back(&self, project: &ProjectId, kind: EffectKind, pause: Duration) {
        if takes_further(kind)
            && let Some(pace) = self.locked().get_mut(project)
        {
            pace.further_left(Instant::now() + pause);
        }
    }

    /// A round has claimed all that these lanes have, or as much as it could take.
    pub(super) fn claimed(&self, lanes: &[effects::Lane], limit: usize, claimed: &[effects::Claimed]) {
        let now = Instant::now();
        let mut paces = self.locked();
        for of in lanes {
            let Some(pace) = paces.get_mut(&of.project) else { continue };
            let which = match of.which {
                Which::Reads => Lane::Reads,
                Which::Calls | Which::HarmlessCalls => Lane::Calls,
            };
            let mine =
                |claimed: &&effects::Claimed| claimed.project == of.project && lane(claimed.kind) == which;
            let count = claimed.iter().filter(mine).count();
            let all = count < of.most && claimed.len() < limit && of.which != Which::HarmlessCalls;
            pace.looked(which, all, now);
            if which == Lane::Calls {
                let further = claimed.iter().filter(mine).any(|effect| takes_further(effect.kind));
                pace.claimed_calls(count, further, all, now);
            }
        }
    }

    /// A claimed call takes its turn.
    pub(super) fn take(&self, project: &ProjectId, kind: EffectKind) -> Turn {
        let now = Instant::now();
        let lane = lane(kind);
        let at = self.locked().get_mut(project).map_or(now, |pace| pace.take(lane, now));
        Turn { project: project.clone(), lane, at }
    }

    /// Waits until this call may be made, a quarter of a second at most. False if it must not be made now.
    pub(super) async fn begin(&self, turn: &Turn) -> bool {
        let at = match self.locked().get_mut(&turn.project) {
            Some(pace) => pace.begin(turn.lane, Instant::now()),
            None => return true,
        };
        let Some(at) = at else { return false };
        sleep_until(at).await;
        !self.must_wait(turn)
    }

    /// Whether Pike has asked for a wait since this call was claimed.
    pub(super) fn must_wait(&self, turn: &Turn) -> bool {
        self.locked().get(&turn.project).is_some_and(|pace| pace.must_wait(Instant::now()))
    }

    /// A call has ended. Says whether there may be room now that the last round did not see.
    pub(super) fn ended(&self, turn: Turn, condition: Condition) -> bool {
        let now = Instant::now();
        let mut paces = self.locked();
        let Some(pace) = paces.get_mut(&turn.project) else { return false };
        let before = pace.paused(now);
        pace.ended(turn.lane, condition, turn.at, now);
        let after = pace.paused(now);
        let missed = pace.is_narrow(turn.lane) || pace.has_waiting(turn.lane);
        drop(paces);
        if before != after {
            tell(&turn.project, after, condition);
        }
        missed
    }

    pub(super) fn paused(&self) -> Vec<(ProjectId, &'static str)> {
        let now = Instant::now();
        let paces = self.locked();
        let paused = paces.iter().filter_map(|(project, pace)| Some((project.clone(), pace.paused(now)?)));
        paused.map(|(project, why)| (project, label(why))).collect()
    }

    pub(super) fn export(&self) {
        let now = Instant::now();
        for (project, pace) in self.locked().iter() {
            let paused = pace.paused(now);
            for why in [Paused::Asked, Paused::Breaker] {
                let value = if paused == Some(why) { 1.0 } else { 0.0 };
                metrics::gauge!("payoutd_pike_paused", "project" => project.0.clone(), "why" => label(why))
                    .set(value);
            }
        }
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<ProjectId, Pace>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Not at all if it is time already: the timer counts in milliseconds, and takes one or two even then.
async fn sleep_until(at: Instant) {
    if at > Instant::now() {
        tokio::time::sleep_until(at.into()).await;
    }
}

/// Whether this call takes a payout further that has begun already.
fn takes_further(kind: EffectKind) -> bool {
    match kind {
        EffectKind::StartPayout | EffectKind::Confirm | EffectKind::Cancel => true,
        EffectKind::CreateSession | EffectKind::ReadStatus => false,
    }
}

fn lane(kind: EffectKind) -> Lane {
    match Which::of(kind) {
        Which::Reads => Lane::Reads,
        Which::Calls | Which::HarmlessCalls => Lane::Calls,
    }
}

fn label(why: Paused) -> &'static str {
    match why {
        Paused::Asked => "asked_to_wait",
        Paused::Breaker => "breaker",
    }
}

fn tell(project: &ProjectId, paused: Option<Paused>, condition: Condition) {
    let Some(why) = paused else {
        tracing::warn!(%project, "calls to Pike go on");
        return;
    };
    let why = label(why);
    metrics::counter!("payoutd_pike_pauses_total", "project" => project.0.clone(), "why" => why).increment(1);
    tracing::warn!(%project, why, ?condition, "calls to Pike pause");
}
