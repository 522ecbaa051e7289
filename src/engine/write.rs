//! What a batch of decisions writes, collected first and written in few statements.

mod written;

use super::{
    announce::{self, Line},
    hands::{Handed, Hands},
    line::{self, StoppedLine},
    together::Along,
};
use crate::{
    crash_point,
    domain::{
        decide::{Decision, Reason, Step},
        effect::EffectKind,
        event::{Command, Event, Observation},
        id::{PayoutId, SessionId},
        payout::{Alarm, Anomaly, PastAttempt, PastEnd},
        permit::{Permit, PermitKind},
        policy::{Policy, StopLine},
        rules::Verdict,
        state::State,
    },
    store::{
        StoreError,
        anomalies::{self, NewAnomaly},
        attempts,
        encoding::Code,
        history,
        notifications::NewNotification,
        payouts::{Stored, state_name},
        permits::{self, NewPermit},
        rules::NewDecision,
        steps::{self, Orders, Stands, Steps, Writer, Written},
    },
};
use sqlx::PgConnection;
use std::collections::{BTreeMap, BTreeSet};
use time::OffsetDateTime;

/// How an event was taken, as the history names it.
#[derive(Clone, Copy, Debug)]
enum How {
    Moved,
    Flagged(Anomaly),
    Absorbed,
    Refused,
}

impl How {
    fn code(self) -> &'static str {
        match self {
            Self::Moved => "move",
            Self::Flagged(_) => "flag",
            Self::Absorbed => "absorb",
            Self::Refused => "refuse",
        }
    }

    fn anomaly(self) -> Option<Anomaly> {
        if let Self::Flagged(anomaly) = self { Some(anomaly) } else { None }
    }
}

/// The writes of one transaction, with the instant and the settings that it was decided under.
#[derive(Debug)]
pub(super) struct Writes<'a> {
    now: OffsetDateTime,
    policy: &'a Policy,
    rule_set: &'a str,
    touched: BTreeSet<PayoutId>,
    history: Vec<history::Entry>,
    effects: Vec<(PayoutId, EffectKind)>,
    voids: Vec<(PayoutId, EffectKind)>,
    permits: Vec<NewPermit>,
    renewed: Vec<NewPermit>,
    released: Vec<PayoutId>,
    ended: Vec<(PayoutId, PastAttempt)>,
    learnt: Vec<(PayoutId, SessionId, PastEnd)>,
    decisions: Vec<NewDecision>,
    anomalies: Vec<NewAnomaly>,
    notifications: Vec<NewNotification>,
    pub(super) stopped: Vec<StoppedLine>,
    pub(super) lines: Vec<Line>,
    pub(super) handed: Handed,
    /// The effects that these steps have made unwanted.
    pub(super) over: Vec<i64>,
}

impl<'a> Writes<'a> {
    pub(super) fn new(now: OffsetDateTime, policy: &'a Policy, rule_set: &'a str) -> Self {
        Self {
            now,
            policy,
            rule_set,
            touched: BTreeSet::new(),
            history: vec![],
            effects: vec![],
            voids: vec![],
            permits: vec![],
            renewed: vec![],
            released: vec![],
            ended: vec![],
            learnt: vec![],
            decisions: vec![],
            anomalies: vec![],
            notifications: vec![],
            stopped: vec![],
            lines: vec![],
            handed: Handed::default(),
            over: vec![],
        }
    }

    /// Notes what `decision` asks for and brings `stored` up to date. True when money was permitted to move.
    pub(super) fn take(&mut self, stored: &mut Stored, event: &Event, decision: Decision) -> bool {
        let now = self.now;
        let id = stored.payout.id;
        self.touched.insert(id);
        let queued = decision.wants(EffectKind::CreateSession);
        let permitted = match decision {
            Decision::Move(step) => self.step(stored, event, None, step),
            Decision::Flag(anomaly, step) => self.step(stored, event, Some(anomaly), step),
            Decision::Absorb(reason) => {
                let state = state_name(&stored.payout.state);
                self.record(stored, event, How::Absorbed, reason, state);
                false
            }
            Decision::Schedule(calls) => {
                self.want(id, &calls);
                false
            }
            Decision::Refuse(_) => false,
        };
        let payout = &stored.payout;
        // Whoever has looked plans the next look, whatever time had been planned.
        let planned = stored.next_check_at.filter(|_| *event != Event::Observed(Observation::Due));
        stored.next_check_at = match queued {
            true => Some(now + self.policy.polling.of_queued()),
            false => self.policy.polling.plan(planned, &payout.state, payout.since, now),
        };
        permitted
    }

    /// Keeps what the rules said against an approval: refused, but decided.
    pub(super) fn approval_refused(&mut self, stored: &mut Stored, event: &Event, verdict: &Verdict) {
        self.touched.insert(stored.payout.id);
        let state = state_name(&stored.payout.state);
        self.record(stored, event, How::Refused, Reason::ApprovalRefused, state);
        self.verdict(stored, verdict.clone());
    }

    fn verdict(&mut self, stored: &Stored, verdict: Verdict) {
        let payout = &stored.payout;
        self.decisions.push(NewDecision { payout: payout.id, seq: payout.version, at: self.now, verdict });
    }

    fn step(&mut self, stored: &mut Stored, event: &Event, anomaly: Option<Anomaly>, step: Step) -> bool {
        let now = self.now;
        let payout = &mut stored.payout;
        let (id, from) = (payout.id, state_name(&payout.state));
        let status_before = payout.status();
        if !payout.state.same_phase(&step.to) {
            payout.since = now;
        }
        payout.state = step.to;
        match anomaly {
            Some(anomaly) => payout.raise(anomaly),
            None if step.clears_flag => payout.unflag(),
            None => {}
        }
        if let Some(facts) = step.facts {
            payout.facts = facts;
        }
        if let Some(past) = step.ends {
            self.end(stored, past);
        }
        self.learn(stored, step.learnt);
        self.unwant(id, &step.voids);
        self.want(id, &step.effects);
        let confirms = step.effects.contains(&EffectKind::Confirm);
        let permitted = step.permit.is_some_and(|permit| self.permit(stored, permit));
        if confirms && !permitted {
            self.renew(stored);
        }
        self.record(stored, event, anomaly.map_or(How::Moved, How::Flagged), step.why, from);
        if let Some(verdict) = step.verdict {
            self.verdict(stored, verdict);
        }
        let payout = &stored.payout;
        if payout.state.is_closed_unpaid() && payout.permit.is_some() {
            self.released.push(id);
        }
        let status = payout.status();
        if payout.state.is_final() && status != status_before {
            self.notifications.push(announce::final_status(stored, now));
        }
        permitted
    }

    /// The present attempt is over, and its permit with it.
    fn end(&mut self, stored: &mut Stored, past: PastAttempt) {
        let payout = &mut stored.payout;
        payout.permit = None;
        payout.past.push(past.clone());
        if payout.state == State::Accepted {
            payout.attempt += 1;
        }
        self.ended.push((payout.id, past));
    }

    fn learn(&mut self, stored: &mut Stored, learnt: Option<(SessionId, PastEnd)>) {
        let Some((session, ended)) = learnt else { return };
        let payout = &mut stored.payout;
        if let Some(past) = payout.past.iter_mut().find(|past| past.session == session) {
            past.ended = ended;
        }
        self.learnt.push((payout.id, session, ended));
    }

    fn permit(&mut self, stored: &mut Stored, permit: Permit) -> bool {
        let confirm = permit.kind == PermitKind::Confirm;
        if stored.payout.permit.replace(permit.clone()).is_some_and(|before| before.kind == permit.kind) {
            self.renew(stored);
            return confirm;
        }
        let new = self.new_permit(stored, permit);
        self.permits.push(new);
        confirm
    }

    /// The confirm was decided again, under a permit that the payout has.
    fn renew(&mut self, stored: &Stored) {
        let Some(permit) = stored.payout.permit.clone() else { return };
        let renewed = self.new_permit(stored, permit);
        self.renewed.push(renewed);
    }

    fn new_permit(&self, stored: &Stored, permit: Permit) -> NewPermit {
        let (payout, rule_set) = (stored.payout.clone(), self.rule_set.to_owned());
        NewPermit { payout, permit, rule_set, decided_at: self.now }
    }

    fn record(&mut self, stored: &mut Stored, event: &Event, how: How, reason: Reason, from: &'static str) {
        stored.updated_at = self.now;
        let payout = &mut stored.payout;
        payout.version += 1;
        let entry = history::Entry {
            payout: payout.id,
            seq: payout.version,
            at: self.now,
            event: announce::event_name(event),
            decision: how.code(),
            reason: reason.code(),
            from_state: Some(from),
            to_state: state_name(&payout.state),
            actor: actor(event),
            detail: announce::detail(event, payout, how.anomaly()),
        };
        if let Some(anomaly) = how.anomaly() {
            let (id, project) = (payout.id, payout.project.clone());
            let (seq, at) = (payout.version, self.now);
            self.anomalies.push(NewAnomaly { payout: id, seq, project, anomaly, at });
        }
        self.lines.push(Line::of(stored, &entry, how.anomaly()));
        self.history.push(entry);
    }

    fn want(&mut self, id: PayoutId, calls: &[EffectKind]) {
        for call in calls {
            if !self.effects.contains(&(id, *call)) {
                self.effects.push((id, *call));
            }
        }
    }

    fn unwant(&mut self, id: PayoutId, calls: &[EffectKind]) {
        self.effects.retain(|(payout, call)| *payout != id || !calls.contains(call));
        self.voids.extend(calls.iter().map(|call| (id, *call)));
    }

    /// Writes everything. Permits that are over go after the effects that stood on them.
    pub(super) async fn run(
        &mut self,
        tx: &mut PgConnection,
        locked: &BTreeMap<PayoutId, Stored>,
        stop_line: &StopLine,
        hands: Option<&Hands>,
    ) -> Result<Option<Writer>, StoreError> {
        if self.touched.is_empty() {
            return Ok(None);
        }
        anomalies::insert(tx, &self.anomalies).await?;
        self.stopped = line::stop(tx, &self.anomalies, stop_line, self.now).await?;
        for stopped in &self.stopped {
            let told =
                |entry: &&mut history::Entry| entry.payout == stopped.payout && entry.seq == stopped.seq;
            if let Some(entry) = self.history.iter_mut().find(told) {
                let before = entry.detail.take().unwrap_or_default();
                entry.detail = Some(format!("{before}; confirms of the project were switched off"));
            }
        }
        let by = self.steps(tx, locked, (None, Along::default()), hands).await?.by;
        permits::renew(tx, &self.renewed).await?;
        attempts::end(tx, &self.ended).await?;
        attempts::learn(tx, &self.learnt).await?;
        permits::release(tx, &self.released).await?;
        Ok(by)
    }

    /// Whether one statement writes everything, and there is something to write.
    pub(super) fn are_one_statement(&self) -> bool {
        !self.touched.is_empty()
            && self.anomalies.is_empty()
            && self.renewed.is_empty()
            && self.ended.is_empty()
            && self.learnt.is_empty()
            && self.released.is_empty()
    }

    /// Writes everything in that one statement, if what was decided upon still stands, and with it what is
    /// written along.
    pub(super) async fn run_at_once(
        &mut self,
        db: &mut PgConnection,
        payouts: &BTreeMap<PayoutId, Stored>,
        (stands, along): (&Stands, Along<'_>),
        hands: Option<&Hands>,
    ) -> Result<Written, StoreError> {
        self.steps(db, payouts, (Some(stands), along), hands).await
    }

    async fn steps(
        &mut self,
        db: &mut PgConnection,
        payouts: &BTreeMap<PayoutId, Stored>,
        (stands, along): (Option<&Stands>, Along<'_>),
        hands: Option<&Hands>,
    ) -> Result<Written, StoreError> {
        let wanted = self.effects.iter().filter_map(|(id, kind)| Some((payouts.get(id)?, *kind)));
        let wanted = self.handed.calls(hands, wanted);
        self.handed.messages(hands, &mut self.notifications);
        let leases = self.handed.first_calls(hands, along.orders);
        let first_look = self.policy.polling.of_queued();
        let steps = Steps {
            moved: self.touched.iter().filter_map(|id| payouts.get(id)).collect(),
            history: &self.history,
            permits: &self.permits,
            decisions: &self.decisions,
            notifications: &self.notifications,
            voided: &self.voids,
            wanted: &wanted,
            orders: Orders { new: along.orders, leases: &leases, first_look },
            settled: along.settled,
        };
        let mut written = steps::write(db, &steps, stands).await?;
        self.leave(&written.gone);
        self.handed.claimed(std::mem::take(&mut written.claimed));
        self.over = std::mem::take(&mut written.voided);
        if !self.permits.is_empty() {
            crash_point::pass("permit.written");
        }
        Ok(written)
    }

    /// Whether something is raised for which the line may have to be stopped.
    pub(super) fn has_alarms(&self) -> bool {
        self.anomalies.iter().any(|new| new.anomaly.alarm() != Alarm::None)
    }

    /// Whether a call of this kind was voided before, in this very batch: its answer comes too late.
    pub(super) fn has_voided(&self, id: PayoutId, call: EffectKind) -> bool {
        self.voids.contains(&(id, call))
    }

    /// The crash points of what is now committed.
    pub(super) fn pass_committed(&self) {
        if !self.decisions.is_empty() {
            crash_point::pass("verdict.recorded");
        }
        for new in &self.permits {
            match new.permit.kind {
                PermitKind::Confirm => crash_point::pass("permit.confirm_committed"),
                PermitKind::Cancel => crash_point::pass("permit.cancel_committed"),
            }
        }
    }
}

fn actor(event: &Event) -> Option<String> {
    match event {
        Event::Command(
            Command::Cancel { by }
            | Command::Approve { by, .. }
            | Command::Reject { by }
            | Command::ClearFlag { by, .. },
        ) => Some(by.clone()),
        Event::Observed(_) => None,
    }
}
