//! The decisions, with a deliberate mistake if one is asked for; and the promises that every single decision
//! keeps, whatever came before. Both runs of the model decide through here.

use crate::{again, books::CREATOR, bug::Bug};
use payoutd::domain::{
    decide::{self, Decision, Reason, Refusal, Step, World},
    effect::EffectKind,
    event::{Command, Event, Observation, Outcome},
    id::SessionId,
    owner::People,
    payout::{Anomaly, Payout},
    permit::{Permit, PermitKind, Unfit},
    rules::{Inputs, RuleOutcome, RuleSet},
    session::{SessionReport, Shows},
    state::State,
};

/// A broken promise.
pub type Broken = &'static str;

pub fn decide(bug: Option<Bug>, payout: &Payout, event: &Event, world: &World<'_>) -> Decision {
    let Some(bug) = bug else { return decide::decide(payout, event, world) };
    let approval = matches!(event, Event::Command(Command::Approve { .. }));
    if bug == Bug::FlagsIgnored {
        return decide::decide(&Payout { anomaly: None, ..payout.clone() }, event, world);
    }
    if bug == Bug::OwnApproval && approval {
        let by = "somebody else".to_owned();
        let approve = Command::Approve { by, people: People::Two };
        return decide::decide(payout, &Event::Command(approve), world);
    }
    if let (Bug::AlteredIsStale, Event::Observed(Observation::Withheld(_))) = (bug, event) {
        return decide::decide(payout, &Event::Observed(Observation::Withheld(Unfit::Stale)), world);
    }
    if bug == Bug::RulesSkipped || (bug == Bug::ApprovalOverRules && approval) {
        return lenient(payout, event, world);
    }
    if let Some(decision) = again::asked_wrongly(bug, payout, event, world) {
        return decision;
    }
    let right = decide::decide(payout, event, world);
    let right = again::answered_wrongly(bug, payout, event, world, right);
    match payout.state.session().cloned() {
        None => right,
        Some(session) => {
            let right = wrong_look(bug, payout, world, right);
            wrong_end(bug, payout, &session, wrong_permit(bug, payout, world, right))
        }
    }
}

fn lenient(payout: &Payout, event: &Event, world: &World<'_>) -> Decision {
    let mut rules = RuleSet { recipient_daily_cap: [].into(), ..world.rules.clone() };
    for limits in rules.amounts.values_mut() {
        limits.max = i64::MAX;
        limits.hold_above = None;
    }
    decide::decide(payout, event, &World { rules: &rules, ..world.clone() })
}

/// A step that nobody but a mistake takes.
fn wrong_step(to: State, why: Reason) -> Step {
    let voids = if to.is_final() { EffectKind::ALL.to_vec() } else { vec![] };
    Step {
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

fn wrong_word(kind: PermitKind, to: State, payout: &Payout, world: &World<'_>) -> Decision {
    let session = payout.state.session().unwrap();
    let call = match kind {
        PermitKind::Confirm => EffectKind::Confirm,
        PermitKind::Cancel => EffectKind::Cancel,
    };
    let permit = Permit::bind(kind, payout, session, &world.rules.version);
    let step = wrong_step(to, Reason::Approved);
    Decision::Move(Step { permit: Some(permit), effects: vec![call], ..step })
}

/// Mistakes about who may let the money move.
fn wrong_permit(bug: Bug, payout: &Payout, world: &World<'_>, right: Decision) -> Decision {
    let Some(session) = payout.state.session().cloned() else { return right };
    let confirming = || State::Confirming { session: session.clone() };
    match (bug, right) {
        (Bug::ConfirmUnpermitted, Decision::Move(step)) if permits(&step, PermitKind::Confirm) => {
            Decision::Move(Step { permit: None, ..step })
        }
        (Bug::BoundElsewhere, Decision::Move(step)) if permits(&step, PermitKind::Confirm) => {
            let permit = Permit { kind: PermitKind::Confirm, bound_to: [0; 32] };
            Decision::Move(Step { permit: Some(permit), ..step })
        }
        (Bug::HoldNeverEnds, Decision::Move(step)) if step.why == Reason::HoldExpired => {
            Decision::Schedule(vec![EffectKind::ReadStatus])
        }
        (Bug::ExpiryConfirms, Decision::Move(step)) if step.why == Reason::HoldExpired => {
            wrong_word(PermitKind::Confirm, confirming(), payout, world)
        }
        (Bug::RejectedConfirms, Decision::Move(step)) if step.why == Reason::Rejected => {
            wrong_word(PermitKind::Confirm, confirming(), payout, world)
        }
        (Bug::RejectionSendsConfirm, Decision::Move(step)) if step.why == Reason::Rejected => {
            Decision::Move(Step { effects: vec![EffectKind::Confirm], ..step })
        }
        (Bug::CancelAfterConfirm, Decision::Refuse(Refusal::AlreadyConfirmed)) => {
            let cause = payoutd::domain::state::CancelCause::Requested;
            let to = State::Cancelling { session: session.clone(), cause };
            wrong_word(PermitKind::Cancel, to, payout, world)
        }
        (_, right) => right,
    }
}

/// Mistakes about the last look, and about taking a flag off.
fn wrong_look(bug: Bug, payout: &Payout, world: &World<'_>, right: Decision) -> Decision {
    let Some(session) = payout.state.session().cloned() else { return right };
    let confirming = || State::Confirming { session: session.clone() };
    let permitted = payout.permit.as_ref().is_some_and(|permit| permit.kind == PermitKind::Confirm);
    match (bug, right) {
        (Bug::PaidNotReread, Decision::Schedule(_)) if payout.state.is_final() => Decision::Schedule(vec![]),
        (Bug::WithheldFails, Decision::Move(step)) if step.why == Reason::PermitStale => {
            let code = "mistake".to_owned();
            Decision::Move(wrong_step(State::Failed { session: session.clone(), code }, step.why))
        }
        (Bug::WithheldWaits, Decision::Move(step)) if step.why == Reason::PermitStale => {
            Decision::Absorb(Reason::NothingNew)
        }
        (Bug::WithheldResent, Decision::Move(step)) if step.why == Reason::PermitStale => {
            Decision::Move(Step { to: confirming(), effects: vec![EffectKind::Confirm], ..step })
        }
        (Bug::AlteredAnew, Decision::Flag(Anomaly::PermitAltered, step)) if step.effects.is_empty() => {
            wrong_word(PermitKind::Confirm, confirming(), payout, world)
        }
        (Bug::ClearFlagPermits, Decision::Move(step)) if step.clears_flag && payout.permit.is_none() => {
            let Decision::Move(permitted) = wrong_word(PermitKind::Confirm, confirming(), payout, world)
            else {
                return Decision::Move(step);
            };
            Decision::Move(Step { clears_flag: true, ..permitted })
        }
        (Bug::ClearFlagConfirms, Decision::Move(step)) if step.clears_flag && permitted => {
            Decision::Move(Step { to: confirming(), effects: vec![EffectKind::Confirm], ..step })
        }
        (Bug::ClearFlagWaits, Decision::Move(step)) if step.clears_flag => {
            Decision::Move(Step { to: payout.state.clone(), ..step })
        }
        (_, right) => right,
    }
}

/// Mistakes about how it ends.
fn wrong_end(bug: Bug, payout: &Payout, session: &SessionId, right: Decision) -> Decision {
    let session = session.clone();
    let failed = || State::Failed { session: session.clone(), code: "mistake".to_owned() };
    match (bug, right) {
        (Bug::FinalReopens, Decision::Absorb(Reason::Stale)) if payout.state.is_final() => {
            Decision::Move(wrong_step(State::Processing { session }, Reason::StartAccepted))
        }
        (Bug::FactRefused, Decision::Absorb(Reason::Overtaken)) => Decision::Refuse(Refusal::AlreadyFinal),
        (Bug::PaidIsReturned, Decision::Move(step)) if step.why == Reason::Paid => {
            Decision::Move(wrong_step(State::Returned { session }, Reason::Returned))
        }
        (Bug::PaidAfterFinalUnflagged, Decision::Flag(Anomaly::PaidAfterFinal, step)) => Decision::Move(step),
        (Bug::FailureUnnoticed, Decision::Flag(Anomaly::FailedAfterPaid, _)) => {
            Decision::Absorb(Reason::NothingNew)
        }
        (Bug::StartRefusedFails, Decision::Move(step)) if step.why == Reason::StartRefused => {
            Decision::Move(wrong_step(failed(), step.why))
        }
        (Bug::EmptyFails, Decision::Move(step)) if step.why == Reason::StartUnresolved => {
            Decision::Move(wrong_step(failed(), step.why))
        }
        (Bug::StartNotClosed, Decision::Move(step)) if step.why == Reason::StartUnresolved => {
            Decision::Absorb(Reason::NothingNew)
        }
        (Bug::ConfirmNotRepeated, Decision::Move(step)) if step.why == Reason::ConfirmResent => {
            Decision::Absorb(Reason::NothingNew)
        }
        (Bug::CancelNotRepeated, Decision::Move(step)) if step.why == Reason::CancelResent => {
            Decision::Absorb(Reason::NothingNew)
        }
        (Bug::AcceptedIsPaid, Decision::Move(step)) if step.why == Reason::ConfirmAccepted => {
            Decision::Move(wrong_step(State::Succeeded { session: session.clone() }, step.why))
        }
        (Bug::ErrorFails, Decision::Move(step)) if step.why == Reason::SessionError => {
            Decision::Move(wrong_step(failed(), step.why))
        }
        (Bug::PaidAfterFinalIgnored, Decision::Flag(Anomaly::PaidAfterFinal, _)) => {
            Decision::Absorb(Reason::NothingNew)
        }
        (Bug::PaidUnpermittedUnflagged, Decision::Flag(Anomaly::PaidWithoutPermit, step)) => {
            Decision::Move(step)
        }
        (Bug::FailureBelieved, Decision::Flag(Anomaly::FailedAfterPaid, _)) => {
            Decision::Move(wrong_step(failed(), Reason::NotPaid))
        }
        (Bug::ReturnIgnored, Decision::Move(step))
            if step.why == Reason::Returned && payout.state.is_final() =>
        {
            Decision::Absorb(Reason::NothingNew)
        }
        (_, right) => right,
    }
}

fn permits(step: &Step, kind: PermitKind) -> bool {
    step.permit.as_ref().is_some_and(|permit| permit.kind == kind)
}

/// What every decision owes, judged under the world as it really is.
pub fn judge(payout: &Payout, event: &Event, world: &World<'_>, decision: &Decision) -> Option<Broken> {
    if let (Event::Observed(_), Decision::Refuse(_)) = (event, decision) {
        return Some("a fact was refused");
    }
    let step = match decision {
        Decision::Move(step) | Decision::Flag(_, step) => Some(step),
        Decision::Absorb(_) | Decision::Schedule(_) | Decision::Refuse(_) => None,
    };
    if let Some(step) = step
        && permits(step, PermitKind::Confirm)
        && let Some(broken) = unfounded(payout, event, world, step)
    {
        return Some(broken);
    }
    if let Some(step) = step
        && let Some(broken) = unlooked(payout, event, world, step)
    {
        return Some(broken);
    }
    if let Some(broken) = again::judge(payout, event, world, decision) {
        return Some(broken);
    }
    let flags = matches!(decision, Decision::Flag(..)) || payout.anomaly.is_some();
    let altered = matches!(event, Event::Observed(Observation::Withheld(Unfit::Altered)));
    if altered && !flags && matches!(payout.state, State::Confirming { .. }) {
        return Some("an altered payout's confirm was withheld, and nobody is told");
    }
    if again::is_old(payout, event) {
        return None;
    }
    truth(payout, event, step.map_or(&payout.state, |step| &step.to), flags)
}

/// A confirm is asked for, the first time or again, when Pike shows that it waits or a person approves; never
/// by taking a flag off, and never under a permit for something else than what is stored.
fn unlooked(payout: &Payout, event: &Event, world: &World<'_>, step: &Step) -> Option<Broken> {
    if !step.effects.contains(&EffectKind::Confirm) {
        return None;
    }
    let approved = matches!(event, Event::Command(Command::Approve { .. }));
    if !approved && !report(event).is_some_and(|report| report.awaits_confirm) {
        return Some("a confirm that nobody asked for");
    }
    let before = payout.permit.as_ref().filter(|permit| permit.kind == PermitKind::Confirm);
    let bind = |rules| Permit::bind(PermitKind::Confirm, payout, step.to.session()?, rules).into();
    let under = world.permitted_under.and_then(bind);
    (before.is_some() && before != under.as_ref()).then_some("an altered payout was confirmed again")
}

/// A confirm is permitted by the rules or a second person, about what Pike waits for, and by nobody else.
fn unfounded(payout: &Payout, event: &Event, world: &World<'_>, step: &Step) -> Option<Broken> {
    let approved = match event {
        Event::Command(Command::Approve { by, .. }) if by == CREATOR => {
            return Some("a payout was approved by who created it");
        }
        Event::Command(Command::Approve { .. }) => true,
        Event::Observed(_) if report(event).is_some_and(|report| report.awaits_confirm) => false,
        Event::Command(Command::Cancel { .. } | Command::Reject { .. } | Command::ClearFlag { .. })
        | Event::Observed(_) => {
            return Some("a confirm permitted by neither the rules nor a person");
        }
    };
    if !world.confirms_on {
        return Some("a confirm permitted against the switch");
    }
    if payout.anomaly.is_some() {
        return Some("a confirm permitted for a flagged payout");
    }
    let verdict = world.rules.evaluate(Inputs {
        amount: payout.order.amount,
        card: payout.facts.card.clone(),
        recipient_today: world.recipient_today,
        confirms_on: world.confirms_on,
        approved,
    });
    if verdict.outcome != RuleOutcome::Confirm {
        return Some("a confirm permitted against the rules");
    }
    let session = step.to.session()?;
    let right = Permit::bind(PermitKind::Confirm, payout, session, &world.rules.version);
    (step.permit.as_ref() != Some(&right)).then_some("a permit bound to something else")
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

/// What Pike tells about the money is believed, and what contradicts a final status is raised.
fn truth(payout: &Payout, event: &Event, to: &State, flagged: bool) -> Option<Broken> {
    let paid = |state: &State| state.is_final() && !state.is_unpaid();
    if payout.state.is_final() && !to.is_final() {
        return Some("a final payout became open");
    }
    if paid(&payout.state) && to.is_unpaid() {
        return Some("a paid payout became unpaid");
    }
    let create =
        matches!(event, Event::Observed(Observation::Answered { call: EffectKind::CreateSession, .. }));
    let told = report(event).filter(|_| !create)?.shows(payout);
    let permitted = payout.permit.as_ref().is_some_and(|permit| permit.kind == PermitKind::Confirm);
    match told {
        Shows::Paid | Shows::Returned if !paid(to) => Some("Pike told of a payment, and it is not recorded"),
        Shows::Paid | Shows::Returned if payout.state.is_unpaid() && !flagged => {
            Some("paid after the end, and nobody is told")
        }
        // A person may have seen it meanwhile and taken the flag off.
        Shows::Paid | Shows::Returned if !permitted && !flagged && !paid(&payout.state) => {
            Some("paid without a permit, and nobody is told")
        }
        Shows::Returned if !matches!(to, State::Returned { .. }) => {
            Some("money came back, and nobody is told")
        }
        Shows::NotPaid { .. } if paid(&payout.state) && !flagged => {
            Some("failed after a success, and nobody is told")
        }
        Shows::Paid
        | Shows::Returned
        | Shows::NotPaid { .. }
        | Shows::NotStarted
        | Shows::Working
        | Shows::AwaitsConfirm
        | Shows::SessionError
        | Shows::Wrong { .. }
        | Shows::Unreadable => None,
    }
}
