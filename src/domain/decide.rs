//! What may follow what. [`decide`] is total: for every state and every event there is an answer, written out
//! without catch-alls, so that a new state or event breaks the build wherever someone has to think.
//!
//! Read next: `decide/commands.rs` (wishes), `decide/answers.rs` (our calls came back), `decide/reports.rs`
//! (what Pike shows), `decide/attempts.rs` (new sessions, and old ones that are heard of again).
//! `docs/state-machine.md` is generated from this code by its test.

mod answers;
mod attempts;
mod commands;
mod reports;

use super::{
    effect::EffectKind,
    event::{Command, Event, Observation, Outcome},
    id::SessionId,
    owner::{Party, People},
    payout::{Anomaly, PastAttempt, PastEnd, Payout},
    permit::{Permit, PermitKind, Unfit},
    policy::{Approvals, Policy},
    provider::ProviderFacts,
    rules::{Inputs, RuleOutcome, RuleSet, Verdict},
    session::{SessionReport, Shows},
    state::{CancelCause, Ending, HoldCause, State},
};
use time::OffsetDateTime;

/// Everything outside the payout that a decision may depend on.
#[derive(Clone, Debug)]
pub struct World<'a> {
    pub now: OffsetDateTime,
    pub policy: &'a Policy,
    pub rules: &'a RuleSet,
    /// Minor units permitted to the same recipient today in the payout's currency, if it was read.
    pub recipient_today: Option<i64>,
    /// The switch for all confirms.
    pub confirms_on: bool,
    /// The rules that the payout's permit was decided under, if it has one and that was read.
    pub permitted_under: Option<&'a str>,
}

/// What follows from an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The next state, with new intentions.
    Move(Step),
    /// The event contradicts what we hold: recorded, raised, and nothing more is sent on its own.
    Flag(Anomaly, Step),
    /// True, but changes nothing: recorded only.
    Absorb(Reason),
    /// Nothing worth recording: at most a call to make, and a later look.
    Schedule(Vec<EffectKind>),
    /// The wish cannot be granted. Only ever an answer to a command.
    Refuse(Refusal),
}

impl Decision {
    /// Whether this call is to be made.
    #[must_use]
    pub fn wants(&self, call: EffectKind) -> bool {
        match self {
            Self::Move(step) | Self::Flag(_, step) => step.effects.contains(&call),
            Self::Schedule(calls) => calls.contains(&call),
            Self::Absorb(_) | Self::Refuse(_) => false,
        }
    }
}

/// A change of a payout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub to: State,
    pub why: Reason,
    /// Calls to make.
    pub effects: Vec<EffectKind>,
    /// Calls no longer wanted. One that is under way already cannot be recalled; its answer is ignored.
    pub voids: Vec<EffectKind>,
    pub permit: Option<Permit>,
    pub verdict: Option<Verdict>,
    /// Whether a person takes the anomaly off the payout.
    pub clears_flag: bool,
    /// The facts after this step, when the event brought some.
    pub facts: Option<ProviderFacts>,
    /// The attempt that this step ends: from now on it is one of those before, and its permit history.
    pub ends: Option<PastAttempt>,
    /// What has become known of an attempt before.
    pub learnt: Option<(SessionId, PastEnd)>,
}

/// Why a payout moved or did not. Stored; never renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    SessionCreated,
    StartAccepted,
    StartUnknown,
    StartRefused,
    StartResent,
    StartUnresolved,
    RulesConfirm,
    RulesCancel,
    RulesHold,
    WaitsForSwitch,
    Approved,
    Rejected,
    CancelRequested,
    HoldExpired,
    ConfirmAccepted,
    ConfirmUnknown,
    ConfirmResent,
    PermitStale,
    CancelAccepted,
    CancelUnknown,
    CancelResent,
    Paid,
    Returned,
    NotPaid,
    SessionError,
    Contradicted,
    NothingNew,
    Overtaken,
    Stale,
    OrphanSession,
    Unreadable,
    Flagged,
    FactsLearned,
    ApprovalRefused,
    FlagCleared,
    RetryPlanned,
    NextAttempt,
}

/// Why a command is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The confirm was permitted; the money may be moving.
    AlreadyConfirmed,
    /// The payout has its final status.
    AlreadyFinal,
    /// Pike itself does not know the outcome.
    OutcomeUnknown,
    NotOnHold,
    /// Whoever created a payout may not approve it, with no key of theirs.
    OwnPayout,
    /// Owners must be known, and this key has none.
    OwnerUnknown(Party),
    /// Confirms are switched off.
    ConfirmsOff,
    /// An anomaly is open on the payout.
    Flagged,
    /// There is no flag to take off.
    NotFlagged,
    /// The rules forbid it, approval or not. Recorded with the verdict.
    RulesForbid(Box<Verdict>),
}

/// Where a report comes from: an answer shows the present, a webhook the time it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Answer,
    Webhook,
}

/// Decides what follows from one event.
#[must_use]
pub fn decide(payout: &Payout, event: &Event, world: &World<'_>) -> Decision {
    let decision = match event {
        Event::Command(command) => commands::decide(payout, command, world),
        Event::Observed(Observation::Due) => due(payout, world),
        Event::Observed(Observation::Withheld(unfit)) => answers::withheld(payout, *unfit),
        Event::Observed(Observation::Reported(report)) => {
            reports::decide(payout, report, Source::Webhook, world)
        }
        Event::Observed(Observation::Answered { call, outcome }) => {
            answers::decide(payout, *call, outcome, world)
        }
    };
    with_facts(decision, payout, event)
}

/// Whether deciding needs today's total of the recipient and the switch: true whenever the rules may be
/// evaluated, also if other events of the same batch come first.
#[must_use]
pub fn needs_verdict(payout: &Payout, event: &Event) -> bool {
    match event {
        Event::Command(Command::Approve { .. }) => true,
        Event::Command(Command::Cancel { .. } | Command::Reject { .. } | Command::ClearFlag { .. })
        | Event::Observed(Observation::Due | Observation::Withheld(_)) => false,
        Event::Observed(Observation::Reported(_) | Observation::Answered { .. }) => {
            !payout.state.is_final()
                && report_of(event).is_some_and(|report| report.shows(payout) == Shows::AwaitsConfirm)
        }
    }
}

fn due(payout: &Payout, world: &World<'_>) -> Decision {
    match &payout.state {
        // A session that nobody would start anything in.
        State::Accepted if payout.anomaly.is_some() => Decision::Schedule(vec![]),
        State::Accepted => Decision::Schedule(vec![EffectKind::CreateSession]),
        State::OnHold { session, until, .. } if world.now >= *until => {
            cancel(payout, session, CancelCause::HoldExpired, Reason::HoldExpired, world)
        }
        // Money may have come back, and nobody told.
        State::Succeeded { .. } => Decision::Schedule(vec![EffectKind::ReadStatus]),
        State::Returned { .. } | State::Failed { .. } | State::Cancelled { .. } => Decision::Schedule(vec![]),
        State::Retrying { at, .. } if world.now < *at => Decision::Schedule(vec![]),
        State::Starting { .. }
        | State::StartUnknown { .. }
        | State::Processing { .. }
        | State::OnHold { .. }
        | State::Confirming { .. }
        | State::ConfirmUnknown { .. }
        | State::Settling { .. }
        | State::Cancelling { .. }
        | State::CancelUnknown { .. }
        | State::CancelSent { .. }
        | State::Unknown { .. }
        | State::Retrying { .. } => Decision::Schedule(vec![EffectKind::ReadStatus]),
    }
}

impl Step {
    fn to(to: State, why: Reason) -> Self {
        let voids = if to.is_final() { EffectKind::ALL.to_vec() } else { vec![] };
        Self {
            to,
            why,
            effects: vec![],
            voids,
            permit: None,
            verdict: None,
            clears_flag: false,
            facts: None,
            ends: None,
            learnt: None,
        }
    }

    fn effect(mut self, effect: EffectKind) -> Self {
        self.effects.push(effect);
        self
    }

    fn void(mut self, effect: EffectKind) -> Self {
        self.voids.push(effect);
        self
    }

    fn permit(mut self, permit: Permit) -> Self {
        self.permit = Some(permit);
        self
    }
}

/// Forbids the payout for good and closes its session. The callers see to it that there is no permit yet.
fn cancel(
    payout: &Payout,
    session: &SessionId,
    cause: CancelCause,
    why: Reason,
    world: &World<'_>,
) -> Decision {
    Decision::Move(cancel_step(payout, session, cause, why, world))
}

fn cancel_step(
    payout: &Payout,
    session: &SessionId,
    cause: CancelCause,
    why: Reason,
    world: &World<'_>,
) -> Step {
    Step::to(State::Cancelling { session: session.clone(), cause }, why)
        .effect(EffectKind::Cancel)
        .void(EffectKind::StartPayout)
        .permit(Permit::bind(PermitKind::Cancel, payout, session, &world.rules.version))
}

/// Puts the payout before the rules and acts on what they say.
fn judge(payout: &Payout, session: &SessionId, report: &SessionReport, world: &World<'_>) -> Decision {
    let facts = payout.facts.updated_with(&report.facts());
    let verdict = evaluate(payout, &facts, world, false);
    let mut step = match verdict.outcome {
        RuleOutcome::Confirm => confirm_step(payout, session, Reason::RulesConfirm, world),
        RuleOutcome::Cancel => cancel_step(payout, session, CancelCause::Rules, Reason::RulesCancel, world),
        RuleOutcome::Hold => hold_step(payout, report, HoldCause::Approval, Reason::RulesHold, world),
        RuleOutcome::Wait => hold_step(payout, report, HoldCause::Switch, Reason::WaitsForSwitch, world),
    };
    step.voids.push(EffectKind::StartPayout);
    step.verdict = Some(verdict);
    Decision::Move(step)
}

fn evaluate(payout: &Payout, facts: &ProviderFacts, world: &World<'_>, approved: bool) -> Verdict {
    world.rules.evaluate(Inputs {
        amount: payout.order.amount,
        card: facts.card.clone(),
        recipient_today: world.recipient_today,
        confirms_on: world.confirms_on,
        approved,
    })
}

fn confirm_step(payout: &Payout, session: &SessionId, why: Reason, world: &World<'_>) -> Step {
    Step::to(State::Confirming { session: session.clone() }, why)
        .effect(EffectKind::Confirm)
        .permit(Permit::bind(PermitKind::Confirm, payout, session, &world.rules.version))
}

/// A hold ends before Pike's window does, and that began when Pike began to wait, which may be some time ago.
/// A hold that goes on keeps its end.
fn hold_step(
    payout: &Payout,
    report: &SessionReport,
    cause: HoldCause,
    why: Reason,
    world: &World<'_>,
) -> Step {
    let policy = world.policy;
    let began = report.updated_at.map_or(world.now, |at| at.min(world.now));
    let until = payout.state.hold_until().unwrap_or(began + policy.confirm_window - policy.hold_margin);
    Step::to(State::OnHold { session: report.session.clone(), until, cause }, why)
}

/// Whether an event can be judged by the rules at all, whatever its payout is.
#[must_use]
pub fn may_need_verdict(event: &Event) -> bool {
    report_of(event).is_some() || matches!(event, Event::Command(Command::Approve { .. }))
}

fn report_of(event: &Event) -> Option<&SessionReport> {
    match event {
        Event::Observed(
            Observation::Reported(report) | Observation::Answered { outcome: Outcome::Accepted(report), .. },
        ) => Some(report),
        Event::Observed(Observation::Answered { .. } | Observation::Due | Observation::Withheld(_))
        | Event::Command(_) => None,
    }
}

/// Adds what the event told about the payout, unless it told about something else. A report that changes
/// nothing may still tell what was not known yet (a card's country, an RRN): that is kept, but as it may be
/// an old report it overrides nothing.
fn with_facts(decision: Decision, payout: &Payout, event: &Event) -> Decision {
    let Some(told) = told(payout, event) else { return decision };
    let changed = |facts: ProviderFacts| (facts != payout.facts).then_some(facts);
    match decision {
        // What was told is about the attempt that ends with this.
        Decision::Move(Step { ends: Some(_), .. }) => decision,
        Decision::Move(step) => {
            Decision::Move(Step { facts: changed(payout.facts.updated_with(&told)), ..step })
        }
        Decision::Flag(anomaly, step) => {
            Decision::Flag(anomaly, Step { facts: changed(payout.facts.updated_with(&told)), ..step })
        }
        Decision::Absorb(_) | Decision::Schedule(_) => {
            // An error that changed nothing when it came is not this payout's story.
            let told = ProviderFacts { error: None, ..told };
            let Some(facts) = changed(told.updated_with(&payout.facts)) else { return decision };
            let effects = if let Decision::Schedule(effects) = decision { effects } else { vec![] };
            let stay = Step { effects, ..Step::to(payout.state.clone(), Reason::FactsLearned) };
            Decision::Move(Step { facts: Some(facts), ..stay })
        }
        Decision::Refuse(_) => decision,
    }
}

fn told(payout: &Payout, event: &Event) -> Option<ProviderFacts> {
    match event {
        Event::Observed(Observation::Answered { outcome: Outcome::Declined(error), .. }) => {
            Some(ProviderFacts { error: Some(error.clone()), ..ProviderFacts::default() })
        }
        Event::Observed(_) | Event::Command(_) => {
            let report = report_of(event)?;
            let ours = payout.state.session() == Some(&report.session);
            let right = ours && !matches!(report.shows(payout), Shows::Wrong { .. });
            right.then(|| report.facts())
        }
    }
}

#[cfg(test)]
pub(in crate::domain) mod fixtures;
#[cfg(test)]
mod flags;
#[cfg(test)]
mod learning;
#[cfg(test)]
mod table;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod waits;
