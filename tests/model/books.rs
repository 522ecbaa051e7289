//! What the engine and the store keep of one payout, without a database: the payout, its live effects with
//! lease and fence, its permits, its next check. The decisions are the real ones.

use crate::{
    again,
    bug::Bug,
    mutant::{self, Broken},
};
use payoutd::domain::{
    decide::{Decision, Reason, Step, World, needs_verdict},
    effect::EffectKind,
    event::{Event, Observation, Outcome},
    id::{PayoutId, ProjectId, SessionId},
    money::Money,
    payout::{DestinationKind, Order, Payout},
    permit::{Permit, PermitKind},
    policy::Policy,
    provider::ProviderFacts,
    rules::RuleSet,
    session::{SessionReport, SessionStatus},
    state::State,
};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

pub const EPOCH: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;
pub const LEASE: Duration = Duration::seconds(60);
/// Of whoever created the payout.
pub const CREATOR: &str = "key-1";
/// Of the payout as it was ordered.
const RECIPIENT: &str = "Anna";
#[derive(Clone, Debug)]
pub struct Effect {
    pub id: u64,
    pub kind: EffectKind,
    pub fence: u32,
    pub lease: Option<OffsetDateTime>,
    /// The hash of the permit that it was wanted under.
    pub carried: Option<[u8; 32]>,
    asked_at: OffsetDateTime,
}

/// A permit as it stands in its own table.
#[derive(Clone, Debug)]
pub struct Standing {
    pub permit: Permit,
    pub rule_set: String,
    pub renewed_at: OffsetDateTime,
}

#[derive(Debug)]
pub struct Books<'a> {
    pub payout: Payout,
    pub policy: &'a Policy,
    pub rules: &'a RuleSet,
    pub bug: Option<Bug>,
    pub confirms_on: bool,
    pub effects: Vec<Effect>,
    pub next_check: Option<OffsetDateTime>,
    /// Every permit ever given, with whether confirms were on.
    pub permits: Vec<(Permit, SessionId, bool)>,
    /// The permit in its own table.
    pub standing: Option<Standing>,
    /// Permits that might be confirmed under: bound to the order as it was created.
    bound: Vec<[u8; 32]>,
    /// Effects whose outcome was recorded.
    pub recorded: Vec<u64>,
    /// We were told that the session of an attempt before was paid.
    pub told_old: bool,
    /// When the call whose answer is recorded was asked for.
    asked_at: OffsetDateTime,
    /// The first decision that broke a promise.
    pub broken: Option<Broken>,
    effects_made: u64,
}

impl<'a> Books<'a> {
    pub fn open(minor: i64, policy: &'a Policy, rules: &'a RuleSet, bug: Option<Bug>) -> Self {
        let order = Order {
            amount: Money::new(minor, "RUB".parse().unwrap()).unwrap(),
            destination: DestinationKind::TokenizedCard,
            destination_fingerprint: [1; 32],
            recipient_name: RECIPIENT.to_owned(),
            customer_reference: "user-1".to_owned(),
            reference: None,
            created_by: CREATOR.to_owned(),
        };
        let payout = Payout {
            id: PayoutId(Uuid::from_u128(7)),
            project: ProjectId("demo".to_owned()),
            order,
            version: 1,
            attempt: 1,
            past: vec![],
            state: State::Accepted,
            since: EPOCH,
            permit: None,
            anomaly: None,
            raised: Default::default(),
            facts: ProviderFacts::default(),
        };
        let mut books = Self {
            payout,
            policy,
            rules,
            bug,
            confirms_on: true,
            effects: vec![],
            next_check: Some(EPOCH + policy.polling.of_queued()),
            permits: vec![],
            standing: None,
            bound: vec![],
            recorded: vec![],
            told_old: false,
            asked_at: EPOCH,
            broken: None,
            effects_made: 0,
        };
        books.want(&[EffectKind::CreateSession], EPOCH);
        books
    }

    pub fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// Takes the lease of an effect that may run. Says whether a former try was interrupted.
    pub fn claim(&mut self, at: usize, now: OffsetDateTime) -> (Effect, bool) {
        let effect = &mut self.effects[at];
        let interrupted = effect.lease.is_some();
        effect.fence += 1;
        effect.lease = Some(now + LEASE);
        (effect.clone(), interrupted)
    }

    pub fn runnable(&self, now: OffsetDateTime) -> Vec<usize> {
        let free = |(at, effect): (usize, &Effect)| effect.lease.is_none_or(|end| end < now).then_some(at);
        self.effects.iter().enumerate().filter_map(free).collect()
    }

    /// Gives a claimed effect back: the request never left.
    pub fn give_back(&mut self, claim: &Effect) {
        let ours = |effect: &&mut Effect| effect.id == claim.id && effect.fence == claim.fence;
        if let Some(effect) = self.effects.iter_mut().find(ours) {
            effect.lease = None;
        }
    }

    /// Closes an effect, if its claim is still good.
    pub fn close(&mut self, claim: &Effect) -> bool {
        let held =
            self.effects.iter().position(|effect| effect.id == claim.id && effect.fence == claim.fence);
        match held {
            Some(at) => drop(self.effects.swap_remove(at)),
            None if self.has(Bug::FenceDropped) => {}
            None => return false,
        }
        self.recorded.push(claim.id);
        true
    }

    /// Records the outcome of an effect, if its claim is still good.
    pub fn record(&mut self, claim: &Effect, outcome: Outcome, now: OffsetDateTime) -> Option<Reason> {
        if !self.close(claim) {
            return None;
        }
        self.asked_at = claim.asked_at;
        let unknown = matches!(outcome, Outcome::Unknown(_));
        if unknown && claim.kind == EffectKind::StartPayout {
            if self.has(Bug::ResendAfterTimeout) {
                self.want(&[EffectKind::StartPayout], now);
                return None;
            }
            if self.has(Bug::NewSessionOnUnknown) && matches!(self.payout.state, State::Starting { .. }) {
                self.payout.state = State::Accepted;
                self.want(&[EffectKind::CreateSession], now);
                return None;
            }
        }
        if unknown && claim.kind == EffectKind::Confirm && self.has(Bug::UnknownMeansFailed) {
            if let Some(session) = self.payout.state.session().cloned() {
                self.payout.state = State::Failed { session, code: "unknown".to_owned() };
                self.next_check = None;
            }
            return None;
        }
        let outcome = match outcome {
            Outcome::Accepted(report) => Outcome::Accepted(self.as_read(claim.kind, report)),
            other @ (Outcome::Declined(_) | Outcome::Unknown(_)) => other,
        };
        self.apply(&Event::Observed(Observation::Answered { call: claim.kind, outcome }), now)
    }

    /// A report as the adapter hands it on: unchanged, without a bug.
    pub fn as_read(&self, call: EffectKind, mut report: SessionReport) -> SessionReport {
        if self.has(Bug::ConfirmBlindly) {
            report.awaits_confirm |= report.status == SessionStatus::InProgress;
        }
        if self.has(Bug::AmountNotRead) {
            for payout in &mut report.payouts {
                payout.amount_minor = Some(self.payout.order.amount.minor());
            }
        }
        if self.has(Bug::ForeignAccepted) && call != EffectKind::CreateSession {
            report.session = self.payout.state.session().cloned().unwrap_or(report.session);
        }
        if self.has(Bug::PresentTag) && self.payout.past_in(&report.session).is_some() {
            let present = self.payout.metadata_tag();
            report.payouts.iter_mut().for_each(|payout| payout.metadata = Some(present.clone()));
        }
        if self.has(Bug::ErrorIsFinal) && report.status == SessionStatus::Error {
            report.status = SessionStatus::Cancelled;
        }
        report
    }

    pub fn apply(&mut self, event: &Event, now: OffsetDateTime) -> Option<Reason> {
        // As the engine does: what the rules need is read only if they may be asked.
        let judged = needs_verdict(&self.payout, event);
        let under = self.standing.as_ref().map(|standing| standing.rule_set.clone());
        let world = World {
            now,
            policy: self.policy,
            rules: self.rules,
            recipient_today: judged.then_some(0),
            confirms_on: judged && self.confirms_on,
            permitted_under: under.as_deref().filter(|_| judged),
        };
        let blind = judged && self.has(Bug::SwitchIgnored);
        let seen = World { confirms_on: world.confirms_on || blind, ..world.clone() };
        let decision = mutant::decide(self.bug, &self.payout, event, &seen);
        self.broken = self.broken.or(mutant::judge(&self.payout, event, &world, &decision));
        self.told_old |= again::tells_old(&self.payout, event);
        let queued = decision.wants(EffectKind::CreateSession);
        let why = match decision {
            Decision::Move(step) => self.step(step, now),
            Decision::Flag(anomaly, step) => {
                let why = self.step(step, now);
                if !self.has(Bug::AnomalyForgotten) {
                    self.payout.raise(anomaly);
                }
                why
            }
            Decision::Absorb(reason) => {
                self.payout.version += 1;
                Some(reason)
            }
            Decision::Schedule(calls) => {
                self.want(&calls, now);
                None
            }
            Decision::Refuse(_) => {
                if self.has(Bug::CancelAnyway) {
                    self.want(&[EffectKind::Cancel], now);
                }
                return None;
            }
        };
        if self.has(Bug::SinceReset) {
            self.payout.since = now;
        }
        let payout = &self.payout;
        let polling = &self.policy.polling;
        self.next_check = match queued {
            true => Some(now + polling.of_queued()),
            false => polling.next(&payout.state, payout.since, now),
        };
        if self.has(Bug::NextCheckLost) && why == Some(Reason::NothingNew) {
            self.next_check = None;
        }
        why
    }

    fn step(&mut self, step: Step, now: OffsetDateTime) -> Option<Reason> {
        self.broken = self.broken.or(self.unfounded(&step));
        let payout = &mut self.payout;
        if !payout.state.same_phase(&step.to) {
            payout.since = now;
        }
        payout.state = step.to;
        payout.version += 1;
        if step.clears_flag {
            payout.unflag();
        }
        if let Some(facts) = step.facts {
            payout.facts = facts;
        }
        if step.ends.is_some() && !self.has(Bug::OldPermitLives) {
            self.standing = None;
        }
        again::end(self.bug, &mut self.payout, step.ends, step.learnt);
        if self.bug != Some(Bug::VoidsIgnored) {
            self.effects.retain(|effect| !step.voids.contains(&effect.kind));
        }
        self.permit(step.permit, step.effects.contains(&EffectKind::Confirm), now);
        self.want(&step.effects, now);
        Some(step.why)
    }

    /// What a step owes to what came before it.
    fn unfounded(&self, step: &Step) -> Option<Broken> {
        let again = step.ends.is_some() && step.to == State::Accepted;
        let early = self.payout.state.retry_at().is_some_and(|at| self.asked_at < at);
        let confirms = step.effects.contains(&EffectKind::Confirm);
        let promises = [
            (again && early, again::UNPROVEN),
            (confirms && self.told_old, "a confirm was asked for after an old session had been paid"),
        ];
        promises.into_iter().find_map(|(broken, what)| broken.then_some(what))
    }

    /// A permit is given, or one that the payout has is decided again.
    fn permit(&mut self, permit: Option<Permit>, confirms: bool, now: OffsetDateTime) {
        if let Some(permit) = permit {
            let session = self.payout.state.session().cloned().unwrap();
            let before = self.payout.permit.as_ref().filter(|before| before.kind == permit.kind);
            if before.is_some() {
                self.permits.pop();
            }
            self.permits.push((permit.clone(), session.clone(), self.confirms_on));
            let mut asked = self.payout.clone();
            asked.order.recipient_name = RECIPIENT.to_owned();
            self.bound.push(Permit::bind(permit.kind, &asked, &session, &self.rules.version).bound_to);
            let rule_set = self.rules.version.clone();
            self.standing = Some(Standing { permit: permit.clone(), rule_set, renewed_at: now });
            if !self.has(Bug::PermitForgotten) {
                self.payout.permit = Some(permit);
            }
        } else if let Some(standing) = &mut self.standing
            && confirms
            && self.bug != Some(Bug::PermitNotRenewed)
        {
            standing.renewed_at = now;
        }
    }

    fn want(&mut self, kinds: &[EffectKind], now: OffsetDateTime) {
        for &kind in kinds {
            if kind == EffectKind::ReadStatus && self.has(Bug::StatusNeverRead) {
                continue;
            }
            if self.effects.iter().all(|effect| effect.kind != kind) {
                self.effects_made += 1;
                let carried = self.standing.as_ref().map(|standing| standing.permit.bound_to);
                let (id, lease) = (self.effects_made, None);
                self.effects.push(Effect { id, kind, fence: 0, lease, carried, asked_at: now });
            }
        }
    }

    /// Whether this session was permitted to be confirmed, with exactly what is bound by the permit.
    pub fn may_confirm(&self, session: &SessionId) -> bool {
        self.permits.iter().any(|(permit, about, _)| {
            permit.kind == PermitKind::Confirm && about == session && self.bound.contains(&permit.bound_to)
        })
    }

    pub fn may_cancel(&self, session: &SessionId) -> bool {
        let permits = &self.permits;
        permits.iter().any(|(permit, about, _)| permit.kind == PermitKind::Cancel && about == session)
    }

    /// Whether a session was permitted about twice.
    pub fn permitted_twice(&self) -> bool {
        let about = |at: usize| &self.permits[at].1;
        (1..self.permits.len()).any(|at| (0..at).any(|before| about(before) == about(at)))
    }
}
