//! What happened, counted: a history in which nothing went wrong proves nothing.

use payoutd::domain::{decide::Reason, state::State};
use std::collections::{BTreeMap, HashMap};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    NotSent,
    RequestLost,
    LateRequest,
    AnswerLost,
    TimedOut,
    Crash,
    Interrupted,
    FrozenWorker,
    WebhookLost,
    WebhookRepeated,
    ForeignReport,
    ClosedPaid,
    EmptyPromise,
    Command,
    PermitStale,
    PermitAltered,
    PayoutAltered,
    OtherRules,
    FlagTakenOff,
}

pub const FAULTS: [Fault; 19] = [
    Fault::NotSent,
    Fault::RequestLost,
    Fault::LateRequest,
    Fault::AnswerLost,
    Fault::TimedOut,
    Fault::Crash,
    Fault::Interrupted,
    Fault::FrozenWorker,
    Fault::WebhookLost,
    Fault::WebhookRepeated,
    Fault::ForeignReport,
    Fault::ClosedPaid,
    Fault::EmptyPromise,
    Fault::Command,
    Fault::PermitStale,
    Fault::PermitAltered,
    Fault::PayoutAltered,
    Fault::OtherRules,
    Fault::FlagTakenOff,
];

pub const STATES: usize = 17;

#[derive(Debug, Default)]
pub struct Tally {
    pub events: u64,
    pub faults: BTreeMap<Fault, u64>,
    pub states: BTreeMap<&'static str, u64>,
    pub reasons: HashMap<Reason, u64>,
}

impl Tally {
    pub fn fault(&mut self, fault: Fault) {
        *self.faults.entry(fault).or_default() += 1;
    }

    pub fn state(&mut self, state: &State) {
        self.events += 1;
        *self.states.entry(payoutd::store::payouts::state_name(state)).or_default() += 1;
    }

    pub fn reason(&mut self, reason: Reason) {
        *self.reasons.entry(reason).or_default() += 1;
    }

    pub fn add(&mut self, other: &Self) {
        self.events += other.events;
        for (fault, count) in &other.faults {
            *self.faults.entry(*fault).or_default() += count;
        }
        for (state, count) in &other.states {
            *self.states.entry(state).or_default() += count;
        }
        for (reason, count) in &other.reasons {
            *self.reasons.entry(*reason).or_default() += count;
        }
    }
}
