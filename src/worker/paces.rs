//! The paces of all projects, with a clock: what may be claimed now, when a claimed call has its turn, and
//! what its end means for the next. Says in the log when a project's calls pause and when they go on.

use super::pace::{Calls, Lane, Left, Pace, PaceSettings, Paused};
use crate::{
    domain::{effect::EffectKind, id::ProjectId},
    pike::Condition,
    store::effects::{self, Which},
};
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

pub(super) struct Paces(Mutex<BTreeMap<ProjectId, Pace>>);

/// A call's turn. Given back by [`Paces::ended`], whatever became of the call.
pub(super) struct Turn {
    project: ProjectId,
    lane: Lane,
    at: Instant,
}

impl Turn {
    /// Waits until it has come: a quarter of a second at most.
    pub(super) async fn wait(&self) {
        tokio::time::sleep_until(self.at.into()).await;
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
        for (project, pace) in self.locked().iter() {
            let grant = pace.grant(now);
            let calls = match grant.calls_are {
                Calls::Any => Which::Calls,
                Calls::Harmless => Which::HarmlessCalls,
            };
            for (which, most) in [(calls, grant.calls), (Which::Reads, grant.reads)] {
                if most > 0 {
                    lanes.push(effects::Lane { project: project.clone(), which, most });
                }
            }
        }
        lanes
    }

    /// A turn for a call that may begin now, if there is one and nobody is known to wait for it already.
    pub(super) fn try_take(&self, project: &ProjectId, kind: EffectKind) -> Option<Turn> {
        let now = Instant::now();
        let mut paces = self.locked();
        let pace = paces.get_mut(project)?;
        let grant = pace.grant(now);
        let (lane, harmless) = (lane(kind), kind == EffectKind::CreateSession);
        let room = match lane {
            Lane::Calls => grant.calls > 0 && (grant.calls_are == Calls::Any || harmless),
            Lane::Reads => grant.reads > 0,
        };
        if !room || pace.has_waiting(lane) {
            pace.leave(lane);
            return None;
        }
        Some(Turn { project: project.clone(), lane, at: pace.take(lane, now) })
    }

    /// A call was left to wait in the database: what comes later must not overtake it.
    pub(super) fn leave(&self, project: &ProjectId, kind: EffectKind) {
        if let Some(pace) = self.locked().get_mut(project) {
            pace.leave(lane(kind));
        }
    }

    /// How many calls were left so far, for [`Self::claimed`].
    pub(super) fn left(&self) -> BTreeMap<ProjectId, Left> {
        self.locked().iter().map(|(project, pace)| (project.clone(), pace.left())).collect()
    }

    /// A round has claimed all that these lanes have, or as much as it could take. `left` is from before it.
    pub(super) fn claimed(
        &self,
        lanes: &[effects::Lane],
        limit: usize,
        claimed: &[effects::Claimed],
        left: &BTreeMap<ProjectId, Left>,
    ) {
        let mut paces = self.locked();
        for of in lanes {
            let (Some(pace), Some(left)) = (paces.get_mut(&of.project), left.get(&of.project)) else {
                continue;
            };
            let which = match of.which {
                Which::Reads => Lane::Reads,
                Which::Calls | Which::HarmlessCalls => Lane::Calls,
            };
            let mine =
                |claimed: &&effects::Claimed| claimed.project == of.project && lane(claimed.kind) == which;
            let count = claimed.iter().filter(mine).count();
            let all = count < of.most && claimed.len() < limit && of.which != Which::HarmlessCalls;
            pace.looked(which, left, all);
        }
    }

    /// A claimed call takes its turn.
    pub(super) fn take(&self, project: &ProjectId, kind: EffectKind) -> Turn {
        let now = Instant::now();
        let lane = lane(kind);
        let at = self.locked().get_mut(project).map_or(now, |pace| pace.take(lane, now));
        Turn { project: project.clone(), lane, at }
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
        let (after, narrow) = (pace.paused(now), pace.is_narrow(turn.lane));
        drop(paces);
        if before != after {
            tell(&turn.project, after, condition);
        }
        narrow
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
