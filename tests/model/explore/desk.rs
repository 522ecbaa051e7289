//! Our side of the explored world: the real payouts, each kept once under a number, and what the real
//! decisions make of each event. Deciding is pure, so each question is asked once and its answers kept.
//!
//! Time is not counted: every decision is taken as if it came at once, after every waiting time, and after
//! the end of every hold. What differs is kept, so the model waits and does not wait at every step.

use super::{
    partner::Reading,
    point::{Answer, Picture, Quick, SLOTS, Slot, place},
    told::slot,
};
use crate::{
    again,
    books::{Books, EPOCH},
    bug::Bug,
    mutant::{self, Broken},
    terms::{PAUSE, Terms},
};
use payoutd::domain::{
    decide::{Decision, Step, World, needs_verdict},
    effect::EffectKind,
    event::Event,
    payout::{Anomaly, Payout},
    permit::{self, Evidence, Permit, PermitKind, Unfit},
    policy::Policy,
    provider::ProviderFacts,
    rules::RuleSet,
    state::State,
};
use std::{collections::HashMap, hash::BuildHasherDefault};
use time::{Duration, OffsetDateTime};

pub const MINOR: i64 = 1_000;
/// The most a recipient may get in a day: whether that is used up differs from decision to decision.
const CAP: i64 = 10_000;
const HOLD_ENDS: Duration = Duration::hours(3);
/// At once; after every waiting time; after the end of a hold.
const WAITED: [Duration; 3] = [Duration::seconds(1), Duration::seconds(100), Duration::hours(4)];

/// What can happen to a payout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ev {
    Due,
    Cancel,
    Approve { own: bool },
    Reject,
    ClearFlag,
    Webhook(Picture),
    Answered(EffectKind, Answer),
}

/// One thing that may follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Follows {
    pub to: u16,
    /// The same without the permit that it gives: what a crash leaves that should not be possible.
    pub unpermitted: u16,
    pub wants: [bool; 5],
    pub voids: [bool; 5],
    pub permit: Option<(PermitKind, Option<Slot>)>,
    pub watched: bool,
    /// Another attempt begins.
    pub again: bool,
    /// The status read that it wants is asked for before the pause is over.
    pub early: bool,
    /// It may follow when one has waited long enough.
    pub waited: bool,
    pub broken: Option<Broken>,
    pub why: String,
}

/// What promises are judged by.
#[derive(Clone, Debug)]
pub struct Facts {
    pub state: &'static str,
    /// The anomaly, in words.
    pub flag: String,
    pub is_final: bool,
    pub unpaid: bool,
    pub returned: bool,
    pub flagged: bool,
    pub ours: Option<Slot>,
    /// Sessions of the attempts before.
    pub past: [bool; SLOTS],
    /// Attempts that were begun.
    pub begun: usize,
    /// Another attempt has the number of the present one.
    pub doubled: bool,
    pub retrying: bool,
    pub permit: Option<PermitKind>,
    /// The last look finds another payout than the one whose confirm was permitted.
    pub altered: bool,
}

type Question = (u16, Ev, bool);

#[derive(Debug)]
pub struct Desk {
    payouts: Vec<Payout>,
    pub facts: Vec<Facts>,
    asked: HashMap<Question, usize, BuildHasherDefault<Quick>>,
    pub answers: Vec<Vec<Follows>>,
    pub policy: Policy,
    rules: RuleSet,
    bug: Option<Bug>,
}

impl Desk {
    pub fn open(reading: Reading, bug: Option<Bug>) -> Self {
        let terms = Terms::new();
        let policy = terms.policy(reading.resend, reading.attempts).clone();
        let cap = [("RUB".parse().unwrap(), CAP)];
        let rules = RuleSet { recipient_daily_cap: cap.into(), ..terms.rules };
        let first = Books::open(MINOR, &policy, &rules, None).payout;
        let mut desk = Self {
            payouts: vec![],
            facts: vec![],
            asked: HashMap::default(),
            answers: vec![],
            policy,
            rules,
            bug,
        };
        desk.number(first);
        desk
    }

    pub fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// The number of a payout, freed of what does not matter for any later decision.
    fn number(&mut self, mut payout: Payout) -> u16 {
        payout.version = 1;
        payout.since = EPOCH;
        payout.facts = ProviderFacts::default();
        if let State::OnHold { until, .. } = &mut payout.state {
            *until = EPOCH + HOLD_ENDS;
        } else if let State::Retrying { at, .. } = &mut payout.state {
            *at = EPOCH + PAUSE;
        }
        let at = self.payouts.iter().position(|known| *known == payout).unwrap_or_else(|| {
            self.facts.push(facts(&payout, &self.rules.version));
            self.payouts.push(payout);
            self.payouts.len() - 1
        });
        at.try_into().unwrap()
    }

    /// The payout with somebody else's name in it, if its confirm was permitted and it is not final.
    pub fn altered(&mut self, payout: u16) -> Option<u16> {
        let facts = &self.facts[usize::from(payout)];
        let mut payout = self.payouts[usize::from(payout)].clone();
        let permitted = facts.permit == Some(PermitKind::Confirm) && !facts.is_final;
        (permitted && !facts.altered).then(|| {
            "Mallory".clone_into(&mut payout.order.recipient_name);
            self.number(payout)
        })
    }

    /// Where the answers to a question are.
    pub fn ask(&mut self, payout: u16, ev: Ev, confirms_on: bool) -> usize {
        if let Some(&known) = self.asked.get(&(payout, ev, confirms_on)) {
            return known;
        }
        let follows = self.think(payout, ev, confirms_on);
        self.answers.push(follows);
        self.asked.insert((payout, ev, confirms_on), self.answers.len() - 1);
        self.answers.len() - 1
    }

    fn think(&mut self, number: u16, ev: Ev, confirms_on: bool) -> Vec<Follows> {
        let mut found: Vec<Follows> = vec![];
        if let Some(follows) = self.without_asking(number, ev) {
            return vec![follows];
        }
        let payout = self.payouts[usize::from(number)].clone();
        let event = self.event(&payout, ev);
        // As the engine does: what the rules need is read only if they may be asked.
        let judged = needs_verdict(&payout, &event);
        let totals: &[Option<i64>] = if judged { &[Some(0), None, Some(CAP)] } else { &[None] };
        for waited in WAITED {
            for today in totals {
                let follows = self.follow(&payout, &event, (waited, *today, judged && confirms_on));
                let same =
                    |known: &&mut Follows| **known == Follows { waited: known.waited, ..follows.clone() };
                match found.iter_mut().find(same) {
                    Some(known) => known.waited |= follows.waited,
                    None => found.push(follows),
                }
            }
        }
        found
    }

    fn follow(
        &mut self,
        payout: &Payout,
        event: &Event,
        (waited, recipient_today, confirms_on): (Duration, Option<i64>, bool),
    ) -> Follows {
        let now: OffsetDateTime = EPOCH + waited;
        let mut payout = payout.clone();
        if self.has(Bug::SinceReset) {
            payout.since = now - WAITED[0];
        }
        let (policy, rules) = (self.policy.clone(), self.rules.clone());
        let permitted_under = Some(rules.version.as_str());
        let world =
            World { now, policy: &policy, rules: &rules, recipient_today, confirms_on, permitted_under };
        let seen = World { confirms_on: confirms_on || self.has(Bug::SwitchIgnored), ..world.clone() };
        let decision = mutant::decide(self.bug, &payout, event, &seen);
        let broken = mutant::judge(&payout, event, &world, &decision);
        let mut follows = self.carry_out(payout, decision, now);
        follows.waited = waited > WAITED[0];
        follows.broken = follows.broken.or(broken);
        follows
    }

    /// As `engine::write` does.
    fn carry_out(&mut self, before: Payout, decision: Decision, now: OffsetDateTime) -> Follows {
        let polling = self.policy.polling.clone();
        let mut follows = self.stays(before.clone());
        let (step, anomaly) = match decision {
            Decision::Move(step) => (step, None),
            Decision::Flag(anomaly, step) => (step, Some(anomaly)),
            Decision::Absorb(reason) => {
                follows.watched = polling.next(&before.state, before.since, now).is_some();
                if self.has(Bug::NextCheckLost) && reason == payoutd::domain::decide::Reason::NothingNew {
                    follows.watched = false;
                }
                follows.why = format!("absorbed: {reason:?}");
                return follows;
            }
            Decision::Schedule(calls) => {
                follows.watched = polling.next(&before.state, before.since, now).is_some();
                follows.wants = self.wanted(&calls);
                follows.why = format!("scheduled: {calls:?}");
                return follows;
            }
            Decision::Refuse(refusal) => {
                if self.has(Bug::CancelAnyway) {
                    follows.wants = mask(&[EffectKind::Cancel]);
                }
                follows.why = format!("refused: {refusal:?}").split('(').next().unwrap().to_owned();
                return follows;
            }
        };
        self.step(before, step, anomaly, now)
    }

    fn step(&mut self, before: Payout, step: Step, anomaly: Option<Anomaly>, now: OffsetDateTime) -> Follows {
        let mut payout = before;
        let watched = self.policy.polling.next(&step.to, now, now).is_some();
        let why =
            format!("{:?}{}", step.why, anomaly.map_or(String::new(), |anomaly| format!(", {anomaly:?}")));
        payout.state = step.to;
        let again = step.ends.is_some() && payout.state == State::Accepted;
        let early = step.effects.contains(&EffectKind::ReadStatus)
            && payout.state.retry_at().is_some_and(|at| now < at);
        if !self.has(Bug::AnomalyForgotten) {
            anomaly.into_iter().for_each(|anomaly| payout.raise(anomaly));
            if step.clears_flag {
                payout.unflag();
            }
        }
        let second = payout.permit.is_some() && step.permit.is_some();
        again::end(self.bug, &mut payout, step.ends, step.learnt);
        let unpermitted = self.number(payout.clone());
        let ours = payout.state.session().and_then(slot);
        let given = step.permit.as_ref().map(|permit| (permit.kind, ours));
        if let Some(permit) = step.permit.filter(|_| !self.has(Bug::PermitForgotten)) {
            payout.permit = Some(permit);
        }
        let mut voids = if self.has(Bug::VoidsIgnored) { [false; 5] } else { mask(&step.voids) };
        voids[place(EffectKind::StartPayout)] &= !self.has(Bug::StartStays);
        Follows {
            to: self.number(payout),
            unpermitted,
            wants: self.wanted(&step.effects),
            voids,
            permit: given,
            watched,
            again,
            early,
            waited: true,
            broken: second.then_some("a second permit"),
            why,
        }
    }

    fn stays(&mut self, payout: Payout) -> Follows {
        let watched = self.policy.polling.next(&payout.state, payout.since, payout.since).is_some();
        let to = self.number(payout);
        Follows {
            to,
            unpermitted: to,
            wants: [false; 5],
            voids: [false; 5],
            permit: None,
            watched,
            again: false,
            early: false,
            waited: true,
            broken: None,
            why: String::new(),
        }
    }

    fn wanted(&self, calls: &[EffectKind]) -> [bool; 5] {
        let mut wants = mask(calls);
        if self.has(Bug::StatusNeverRead) {
            wants[place(EffectKind::ReadStatus)] = false;
        }
        wants
    }

    /// An engine that does not ask the decisions at all.
    fn without_asking(&mut self, number: u16, ev: Ev) -> Option<Follows> {
        let Ev::Answered(kind, Answer::Unknown) = ev else { return None };
        let payout = self.payouts[usize::from(number)].clone();
        let session = payout.state.session().cloned()?;
        let (to, wants) = match kind {
            EffectKind::StartPayout if self.has(Bug::ResendAfterTimeout) => {
                (payout.state.clone(), mask(&[EffectKind::StartPayout]))
            }
            EffectKind::StartPayout if self.has(Bug::NewSessionOnUnknown) => {
                matches!(payout.state, State::Starting { .. })
                    .then(|| (State::Accepted, mask(&[EffectKind::CreateSession])))?
            }
            EffectKind::Confirm if self.has(Bug::UnknownMeansFailed) => {
                (State::Failed { session, code: "unknown".to_owned() }, [false; 5])
            }
            EffectKind::CreateSession
            | EffectKind::StartPayout
            | EffectKind::Confirm
            | EffectKind::Cancel
            | EffectKind::ReadStatus => return None,
        };
        let follows = self.stays(Payout { state: to, ..payout });
        Some(Follows { wants, why: "not asked".to_owned(), ..follows })
    }
}

fn mask(calls: &[EffectKind]) -> [bool; 5] {
    EffectKind::ALL.map(|kind| calls.contains(&kind))
}

fn facts(payout: &Payout, rule_set: &str) -> Facts {
    let state = &payout.state;
    let permit = payout.permit.as_ref().map(|permit: &Permit| permit.kind);
    let flag = payout.anomaly.map_or(String::new(), |anomaly| format!(" flagged {anomaly:?}"));
    Facts {
        state: payoutd::store::payouts::state_name(state),
        flag,
        is_final: state.is_final(),
        unpaid: state.is_unpaid(),
        returned: matches!(state, State::Returned { .. }),
        flagged: payout.anomaly.is_some(),
        ours: state.session().and_then(slot),
        past: Slot::OURS.map(|ours| payout.past.iter().any(|past| slot(&past.session) == Some(ours))),
        begun: again::begun(payout),
        doubled: again::doubled(payout),
        retrying: state.retry_at().is_some(),
        permit,
        altered: payout.permit.as_ref().is_some_and(|permit| altered(payout, permit, rule_set)),
    }
}

/// What the real last look finds, age apart.
fn altered(payout: &Payout, permit: &Permit, rule_set: &str) -> bool {
    let seen = Evidence {
        carried: Some(permit.bound_to),
        permit: permit.clone(),
        rule_set: rule_set.to_owned(),
        age: Duration::ZERO,
    };
    permit.kind == PermitKind::Confirm
        && permit::check(payout, &seen, rule_set, Duration::ZERO) == Err(Unfit::Altered)
}
