//! Attempts: deliberate mistakes about them, what the store keeps of those that are over, and what every
//! decision about them owes. Both runs of the model come through here.

use crate::{bug::Bug, mutant::Broken};
use payoutd::domain::{
    decide::{self, Decision, Reason, Step, World},
    effect::EffectKind,
    event::{Event, Observation, Outcome},
    id::SessionId,
    payout::{Anomaly, PastAttempt, PastEnd, Payout},
    permit::{Permit, PermitKind},
    policy::{Attempts, Policy},
    provider::ProviderFacts,
    session::{SessionReport, Shows},
    state::{CancelCause, State},
};

pub const UNPROVEN: Broken =
    "a new attempt without a status read after the pause that shows the old session closed unpaid";

/// As `engine::write` does: the attempt that is over joins those before, and what is learnt of one is kept.
pub fn end(
    bug: Option<Bug>,
    payout: &mut Payout,
    ends: Option<PastAttempt>,
    learnt: Option<(SessionId, PastEnd)>,
) {
    if let Some(past) = ends {
        if bug != Some(Bug::OldPermitLives) {
            payout.permit = None;
        }
        payout.past.push(past);
        if payout.state == State::Accepted && bug != Some(Bug::AttemptNotCounted) {
            payout.attempt += 1;
        }
    }
    if let Some((session, ended)) = learnt.filter(|_| bug != Some(Bug::LearntForgotten))
        && let Some(past) = payout.past.iter_mut().find(|past| past.session == session)
    {
        past.ended = ended;
    }
}

/// How many attempts were begun.
pub fn begun(payout: &Payout) -> usize {
    let present = payout.state.session().is_none_or(|session| payout.past_in(session).is_none());
    payout.past.len() + usize::from(present)
}

/// Whether the present attempt goes by the number of one before.
pub fn doubled(payout: &Payout) -> bool {
    let taken = payout.past.iter().any(|past| past.attempt == payout.attempt);
    taken && !payout.state.is_final()
}

/// Mistakes of whoever looks at something other than what is there.
pub fn asked_wrongly(bug: Bug, payout: &Payout, event: &Event, world: &World<'_>) -> Option<Decision> {
    let shown = report(event);
    match (bug, &payout.state) {
        (Bug::WebhookProves, State::Retrying { .. }) => {
            let Event::Observed(Observation::Reported(report)) = event else { return None };
            let outcome = Outcome::Accepted(report.clone());
            let read = Observation::Answered { call: EffectKind::ReadStatus, outcome };
            Some(decide::decide(payout, &Event::Observed(read), world))
        }
        (Bug::PauseIgnored, State::Retrying { at, .. }) => {
            Some(decide::decide(payout, event, &World { now: world.now.max(*at), ..world.clone() }))
        }
        (Bug::AttemptsEndless, _) => {
            let attempts = Attempts { most: 99, ..world.policy.attempts.clone() };
            let policy = Policy { attempts, ..world.policy.clone() };
            Some(decide::decide(payout, event, &World { policy: &policy, ..world.clone() }))
        }
        (Bug::OldPaymentForgotten, _) if shown.is_some_and(|report| report.awaits_confirm) => {
            let mut payout = payout.clone();
            payout.past.iter_mut().for_each(|past| past.ended = PastEnd::Unpaid);
            Some(decide::decide(&payout, event, world))
        }
        (Bug::FlaggedRetried, _) => {
            let closed = matches!(shown?.shows(payout), Shows::NotPaid { .. });
            let unflagged = || Payout { anomaly: None, ..payout.clone() };
            closed.then(|| decide::decide(&unflagged(), event, world))
        }
        (Bug::AlteredRetried, _) => {
            let closed = matches!(shown?.shows(payout), Shows::NotPaid { .. });
            let confirm = payout.permit.as_ref().is_some_and(|permit| permit.kind == PermitKind::Confirm);
            let unbound = || Payout { permit: None, ..payout.clone() };
            (closed && confirm).then(|| decide::decide(&unbound(), event, world))
        }
        (_, _) => None,
    }
}

/// Mistakes of whoever draws the wrong conclusion.
pub fn answered_wrongly(
    bug: Bug,
    payout: &Payout,
    event: &Event,
    world: &World<'_>,
    right: Decision,
) -> Decision {
    let Some(session) = payout.state.session().cloned() else { return right };
    let old = report(event).is_some_and(|report| report.session != session);
    match (bug, right) {
        (Bug::OldCallsStay, Decision::Move(step))
            if matches!(step.why, Reason::RetryPlanned | Reason::NextAttempt) =>
        {
            Decision::Move(Step { voids: vec![], ..step })
        }
        (Bug::UnknownStartsAnew, Decision::Move(step)) if step.why == Reason::StartUnresolved => {
            begin_anew(payout, session, step.why)
        }
        (Bug::SilenceProves, Decision::Schedule(_) | Decision::Absorb(_))
            if payout.state.retry_at().is_some_and(|at| at <= world.now) && is_silence(event) =>
        {
            begin_anew(payout, session, Reason::NextAttempt)
        }
        (Bug::ErrorRetried, Decision::Move(step)) if step.why == Reason::SessionError => {
            Decision::Move(plan(session, world))
        }
        (Bug::StoppedRetried, Decision::Move(Step { to: State::Cancelled { cause, .. }, .. }))
            if cause == CancelCause::Requested && payout.past.is_empty() && report(event).is_some() =>
        {
            Decision::Move(plan(session, world))
        }
        (Bug::OldPaidIgnored, Decision::Flag(Anomaly::OldSessionPaid, _)) if old => {
            Decision::Absorb(Reason::NothingNew)
        }
        (Bug::OldPaidUnflagged, Decision::Flag(Anomaly::OldSessionPaid, step)) if old => Decision::Move(step),
        (Bug::OldPaidGoesOn, Decision::Flag(Anomaly::OldSessionPaid, step)) if old => {
            let stay = blank(payout.state.clone(), step.why);
            Decision::Flag(Anomaly::OldSessionPaid, Step { learnt: step.learnt, ..stay })
        }
        (Bug::OldPaidFails, Decision::Move(step)) if step.why == Reason::Paid && step.ends.is_some() => {
            let to = State::Failed { session, code: "mistake".to_owned() };
            Decision::Move(Step { ends: None, ..blank(to, Reason::NotPaid) })
        }
        (_, right) => right,
    }
}

fn begin_anew(payout: &Payout, session: SessionId, why: Reason) -> Decision {
    let past = PastAttempt { attempt: payout.attempt, session, ended: PastEnd::Unpaid };
    Decision::Move(Step {
        ends: Some(past),
        effects: vec![EffectKind::CreateSession],
        voids: EffectKind::ALL.to_vec(),
        permit: None,
        facts: Some(ProviderFacts::default()),
        ..blank(State::Accepted, why)
    })
}

fn plan(session: SessionId, world: &World<'_>) -> Step {
    let at = world.now + world.policy.attempts.pause;
    let to = State::Retrying { session, code: "mistake".to_owned(), at };
    Step { voids: EffectKind::ALL.to_vec(), ..blank(to, Reason::RetryPlanned) }
}

fn blank(to: State, why: Reason) -> Step {
    Step {
        voids: if to.is_final() { EffectKind::ALL.to_vec() } else { vec![] },
        to,
        why,
        effects: vec![],
        permit: None,
        verdict: None,
        clears_flag: false,
        facts: None,
        ends: None,
        learnt: None,
    }
}

fn is_silence(event: &Event) -> bool {
    let Event::Observed(Observation::Answered { call, outcome }) = event else { return false };
    *call == EffectKind::ReadStatus && matches!(outcome, Outcome::Unknown(_))
}

fn report(event: &Event) -> Option<&SessionReport> {
    match event {
        Event::Observed(
            Observation::Reported(report) | Observation::Answered { outcome: Outcome::Accepted(report), .. },
        ) => Some(report),
        Event::Observed(Observation::Answered { .. } | Observation::Due | Observation::Withheld(_))
        | Event::Command(_) => None,
    }
}

/// What every decision owes where payouts are tried again.
pub fn judge(payout: &Payout, event: &Event, world: &World<'_>, decision: &Decision) -> Option<Broken> {
    let step = match decision {
        Decision::Move(step) | Decision::Flag(_, step) => Some(step),
        Decision::Absorb(_) | Decision::Schedule(_) | Decision::Refuse(_) => None,
    };
    if let Some(old) = old_report(payout, event) {
        return about_old(payout, old, decision, step);
    }
    let step = step?;
    let plans = payout.state.retry_at().is_none() && step.to.retry_at().is_some();
    let begins = payout.state.session().is_some() && step.to == State::Accepted;
    if !plans && !begins {
        return None;
    }
    if payout.anomaly.is_some() {
        return Some("a flagged payout is tried again");
    }
    let session = payout.state.session()?;
    let bind = |kind| Permit::bind(kind, payout, session, &world.rules.version);
    if payout.permit.as_ref().is_some_and(|permit| *permit != bind(permit.kind)) {
        return Some("what is tried again is not what was permitted");
    }
    if payout.past.len() + 1 >= usize::try_from(world.policy.attempts.most).unwrap() {
        return Some("tried again more often than allowed");
    }
    let shown = report(event).filter(|report| Some(&report.session) == payout.state.session());
    let closed = shown.is_some_and(|report| matches!(report.shows(payout), Shows::NotPaid { .. }));
    if begins {
        let read =
            matches!(event, Event::Observed(Observation::Answered { call: EffectKind::ReadStatus, .. }));
        let rested = payout.state.retry_at().is_some_and(|at| at <= world.now);
        return (!closed || !read || !rested || step.ends.is_none()).then_some(UNPROVEN);
    }
    if !closed {
        return Some("to be tried again without having been shown closed unpaid");
    }
    let by_itself = match payout.state.cancel_cause() {
        None => payout.permit.as_ref().is_none_or(|permit| permit.kind == PermitKind::Confirm),
        Some(CancelCause::StartRefused { .. } | CancelCause::StartUnresolved) => true,
        Some(
            CancelCause::Requested
            | CancelCause::Rules
            | CancelCause::Rejected
            | CancelCause::HoldExpired
            | CancelCause::Mismatch,
        ) => false,
    };
    if !by_itself {
        return Some("a payout that was stopped is tried again");
    }
    let at = step.to.retry_at()?;
    (at < world.now + world.policy.attempts.pause).then_some("tried again without a pause")
}

/// A webhook about the session of an attempt before.
fn old_report<'a>(payout: &Payout, event: &'a Event) -> Option<&'a SessionReport> {
    let Event::Observed(Observation::Reported(report)) = event else { return None };
    let old = payout.state.session() != Some(&report.session);
    (old && payout.past_in(&report.session).is_some()).then_some(report)
}

/// Whether a webhook tells that an attempt before was paid.
pub fn tells_old(payout: &Payout, event: &Event) -> bool {
    let shown = old_report(payout, event).map(|report| report.shows(payout));
    matches!(shown, Some(Shows::Paid | Shows::Returned))
}

pub fn is_old(payout: &Payout, event: &Event) -> bool {
    old_report(payout, event).is_some()
}

fn about_old(
    payout: &Payout,
    old: &SessionReport,
    decision: &Decision,
    step: Option<&Step>,
) -> Option<Broken> {
    let before = payout.past_in(&old.session)?;
    match old.shows(payout) {
        Shows::Paid | Shows::Returned if before.ended == PastEnd::Unpaid => {
            let told = matches!(decision, Decision::Flag(Anomaly::OldSessionPaid, _));
            let learnt = step.and_then(|step| step.learnt.as_ref()).is_some();
            (!told || !learnt).then_some("an old session was paid, and nobody is told")
        }
        Shows::Returned if before.ended == PastEnd::Paid => {
            let learnt = step.and_then(|step| step.learnt.as_ref()).is_some();
            (!learnt).then_some("money came back by an old session, and that is not kept")
        }
        Shows::Wrong { .. } => None,
        Shows::Paid
        | Shows::Returned
        | Shows::NotPaid { .. }
        | Shows::NotStarted
        | Shows::Working
        | Shows::AwaitsConfirm
        | Shows::SessionError
        | Shows::Unreadable => {
            let moved = step.is_some_and(|step| step.to != payout.state || !step.effects.is_empty());
            moved.then_some("an old session's report moved the present attempt")
        }
    }
}
