//! What the engine and the store keep of one payout, without a database: the payout, its live effects with
//! lease and fence, its permits, its next check. The decisions are the real ones.

use crate::{
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
    policy::{Policy, Polling, ResendStart},
    provider::ProviderFacts,
    rules::{AmountLimits, RuleSet},
    session::{SessionReport, SessionStatus},
    state::State,
};
use std::collections::BTreeMap;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

pub const EPOCH: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;
pub const LEASE: Duration = Duration::seconds(60);
/// Of whoever created the payout.
pub const CREATOR: &str = "key-1";

#[derive(Clone, Debug)]
pub struct Effect {
    pub id: u64,
    pub kind: EffectKind,
    pub fence: u32,
    pub lease: Option<OffsetDateTime>,
}

/// Everything that is the same in all histories but for one setting.
#[derive(Debug)]
pub struct Terms {
    pub never: Policy,
    pub same_session: Policy,
    pub rules: RuleSet,
}

impl Terms {
    pub fn new() -> Self {
        let never = Policy {
            resend_start: ResendStart::Never,
            start_unresolved_after: Duration::seconds(60),
            stale_read_grace: Duration::seconds(60),
            confirm_window: crate::pike::WINDOW,
            hold_margin: Duration::minutes(15),
            polling: Polling {
                first: Duration::seconds(5),
                steady: Duration::seconds(30),
                longest: Duration::minutes(15),
            },
        };
        let limits = AmountLimits { min: 1, max: 1_000_000, hold_above: Some(500_000) };
        let rub = "RUB".parse().unwrap();
        Self {
            same_session: Policy { resend_start: ResendStart::SameSession, ..never.clone() },
            never,
            rules: RuleSet {
                version: "model".to_owned(),
                amounts: BTreeMap::from([(rub, limits)]),
                ..RuleSet::default()
            },
        }
    }
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
    /// Effects whose outcome was recorded.
    pub recorded: Vec<u64>,
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
            recipient_name: "Anna".to_owned(),
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
            state: State::Accepted,
            since: EPOCH,
            permit: None,
            anomaly: None,
            facts: ProviderFacts::default(),
        };
        let mut books = Self {
            payout,
            policy,
            rules,
            bug,
            confirms_on: true,
            effects: vec![],
            next_check: Some(EPOCH + policy.polling.steady),
            permits: vec![],
            recorded: vec![],
            broken: None,
            effects_made: 0,
        };
        books.want(&[EffectKind::CreateSession]);
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

    /// Records the outcome of an effect, if its claim is still good.
    pub fn record(&mut self, claim: &Effect, outcome: Outcome, now: OffsetDateTime) -> Option<Reason> {
        let held =
            self.effects.iter().position(|effect| effect.id == claim.id && effect.fence == claim.fence);
        match held {
            Some(at) => drop(self.effects.swap_remove(at)),
            None if self.has(Bug::FenceDropped) => {}
            None => return None,
        }
        self.recorded.push(claim.id);
        let unknown = matches!(outcome, Outcome::Unknown(_));
        if unknown && claim.kind == EffectKind::StartPayout {
            if self.has(Bug::ResendAfterTimeout) {
                self.want(&[EffectKind::StartPayout]);
                return None;
            }
            if self.has(Bug::NewSessionOnUnknown) && matches!(self.payout.state, State::Starting { .. }) {
                self.payout.state = State::Accepted;
                self.want(&[EffectKind::CreateSession]);
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
        if self.has(Bug::ErrorIsFinal) && report.status == SessionStatus::Error {
            report.status = SessionStatus::Cancelled;
        }
        report
    }

    pub fn apply(&mut self, event: &Event, now: OffsetDateTime) -> Option<Reason> {
        // As the engine does: what the rules need is read only if they may be asked.
        let judged = needs_verdict(&self.payout, event);
        let world = World {
            now,
            policy: self.policy,
            rules: self.rules,
            recipient_today: judged.then_some(0),
            confirms_on: judged && self.confirms_on,
        };
        let blind = judged && self.has(Bug::SwitchIgnored);
        let seen = World { confirms_on: world.confirms_on || blind, ..world.clone() };
        let decision = mutant::decide(self.bug, &self.payout, event, &seen);
        self.broken = self.broken.or(mutant::judge(&self.payout, event, &world, &decision));
        let why = match decision {
            Decision::Move(step) => self.step(step, now),
            Decision::Flag(anomaly, step) => {
                let why = self.step(step, now);
                if !self.has(Bug::AnomalyForgotten) {
                    self.payout.anomaly = self.payout.anomaly.or(Some(anomaly));
                }
                why
            }
            Decision::Absorb(reason) => {
                self.payout.version += 1;
                Some(reason)
            }
            Decision::Schedule(calls) => {
                self.want(&calls);
                None
            }
            Decision::Refuse(_) => {
                if self.has(Bug::CancelAnyway) {
                    self.want(&[EffectKind::Cancel]);
                }
                return None;
            }
        };
        if self.has(Bug::SinceReset) {
            self.payout.since = now;
        }
        let payout = &self.payout;
        self.next_check = self.policy.polling.next(&payout.state, payout.since, now);
        if self.has(Bug::NextCheckLost) && why == Some(Reason::NothingNew) {
            self.next_check = None;
        }
        why
    }

    fn step(&mut self, step: Step, now: OffsetDateTime) -> Option<Reason> {
        let payout = &mut self.payout;
        if !payout.state.same_phase(&step.to) {
            payout.since = now;
        }
        payout.state = step.to;
        payout.version += 1;
        if let Some(facts) = step.facts {
            payout.facts = facts;
        }
        if self.bug != Some(Bug::VoidsIgnored) {
            self.effects.retain(|effect| !step.voids.contains(&effect.kind));
        }
        if let Some(permit) = step.permit {
            let session = self.payout.state.session().cloned().unwrap();
            self.permits.push((permit.clone(), session, self.confirms_on));
            if !self.has(Bug::PermitForgotten) {
                self.payout.permit = Some(permit);
            }
        }
        self.want(&step.effects);
        Some(step.why)
    }

    fn want(&mut self, kinds: &[EffectKind]) {
        for &kind in kinds {
            if kind == EffectKind::ReadStatus && self.has(Bug::StatusNeverRead) {
                continue;
            }
            if self.effects.iter().all(|effect| effect.kind != kind) {
                self.effects_made += 1;
                self.effects.push(Effect { id: self.effects_made, kind, fence: 0, lease: None });
            }
        }
    }

    /// Whether this session was permitted to be confirmed, with exactly what is bound by the permit.
    pub fn may_confirm(&self, session: &SessionId) -> bool {
        let bound = Permit::bind(PermitKind::Confirm, &self.payout, session, &self.rules.version);
        self.permits.iter().any(|(permit, _, _)| *permit == bound)
    }

    pub fn permitted(&self, kind: PermitKind) -> usize {
        self.permits.iter().filter(|(permit, _, _)| permit.kind == kind).count()
    }
}
