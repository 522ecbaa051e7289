//! Attempts: when a payout gets a new session, and what a fact about an old one means. A new session follows
//! only on proof that nothing is and nothing will be paid in the old one, and the proof is asked for twice:
//! what closed the session, and a status read after the pause.

use super::*;

/// Where a payout goes that Pike has closed unpaid: failed, or to wait for another attempt.
pub(super) fn failed(payout: &Payout, session: &SessionId, code: String, world: &World<'_>) -> Decision {
    let session = session.clone();
    // Somebody's no, of which only the permit is left.
    let forbidden = payout.permit.as_ref().is_some_and(|permit| permit.kind == PermitKind::Cancel)
        && payout.state.cancel_cause().is_none();
    let known = payout.state.session().is_some();
    if forbidden || !known || !may_follow(payout, &session, &code, world) {
        return Decision::Move(Step::to(State::Failed { session, code }, Reason::NotPaid));
    }
    let at = world.now + world.policy.attempts.pause;
    let step = Step::to(State::Retrying { session, code, at }, Reason::RetryPlanned);
    let step = Step { voids: EffectKind::ALL.to_vec(), ..step };
    if world.policy.attempts.unsure {
        return Decision::Flag(Anomaly::AttemptUnsure, step);
    }
    Decision::Move(step)
}

/// What was permitted must be what is stored still: the next permit will be bound to whatever that is, and
/// there is nothing then to show that somebody wrote into it. Whether it is can be told of a permit under the
/// rules in force; one under others is not followed by another attempt.
fn may_follow(payout: &Payout, session: &SessionId, code: &str, world: &World<'_>) -> bool {
    let bind = |kind| Permit::bind(kind, payout, session, &world.rules.version);
    let same = payout.permit.as_ref().is_none_or(|permit| *permit == bind(permit.kind));
    same && payout.anomaly.is_none() && world.policy.attempts.another(payout.attempt, code)
}

/// Pike shows the old session closed unpaid once more. Only an answer counts, and only after the pause: a
/// webhook may be from before. The settings may have changed since the first time.
pub(super) fn proven(
    payout: &Payout,
    session: &SessionId,
    (code, at): (&str, OffsetDateTime),
    source: Source,
    world: &World<'_>,
) -> Decision {
    if payout.anomaly.is_some() {
        return Decision::Absorb(Reason::Flagged);
    }
    if source == Source::Webhook || world.now < at {
        return Decision::Absorb(Reason::NothingNew);
    }
    if world.policy.attempts.unsure {
        let stay = Step::to(payout.state.clone(), Reason::Contradicted);
        return reports::flag_once(payout, Anomaly::AttemptUnsure, stay);
    }
    if !may_follow(payout, session, code, world) {
        let to = State::Failed { session: session.clone(), code: code.to_owned() };
        return Decision::Move(Step::to(to, Reason::NotPaid));
    }
    let step = Step { voids: EffectKind::ALL.to_vec(), ..Step::to(State::Accepted, Reason::NextAttempt) };
    Decision::Move(ending(payout, session, step).effect(EffectKind::CreateSession))
}

/// The present attempt ends unpaid with this step. What Pike told about it is not told about the payout.
fn ending(payout: &Payout, session: &SessionId, step: Step) -> Step {
    let past = PastAttempt { attempt: payout.attempt, session: session.clone(), ended: PastEnd::Unpaid };
    Step { ends: Some(past), facts: Some(ProviderFacts::default()), ..step }
}

/// The present session is closed unpaid, and one before it was paid: that is how the payout ended.
pub(super) fn paid_by_another(payout: &Payout, session: &SessionId, past: &PastAttempt) -> Decision {
    Decision::Move(ending(payout, session, Step::to(paid_state(past), Reason::Paid)))
}

fn paid_state(past: &PastAttempt) -> State {
    let session = past.session.clone();
    match past.ended {
        PastEnd::Returned => State::Returned { session },
        PastEnd::Paid | PastEnd::Unpaid => State::Succeeded { session },
    }
}

/// Something is told about the session of an attempt before.
pub(super) fn late(
    payout: &Payout,
    past: &PastAttempt,
    report: &SessionReport,
    world: &World<'_>,
) -> Decision {
    let ended = match report.shows(payout) {
        Shows::NotPaid { .. } => return Decision::Absorb(Reason::NothingNew),
        // From before it was closed.
        Shows::NotStarted | Shows::Working | Shows::AwaitsConfirm | Shows::SessionError => {
            return Decision::Absorb(Reason::Stale);
        }
        Shows::Unreadable => return Decision::Absorb(Reason::Unreadable),
        Shows::Paid => PastEnd::Paid,
        Shows::Returned => PastEnd::Returned,
        Shows::Wrong { anomaly, .. } => {
            return reports::flag_once(payout, anomaly, stopped(payout, Reason::Contradicted, world));
        }
    };
    let learnt = Some((past.session.clone(), ended));
    match (past.ended, ended) {
        (PastEnd::Unpaid, PastEnd::Paid | PastEnd::Returned) => {
            let past = PastAttempt { ended, ..past.clone() };
            let step = paid_after_all(payout, &past, report, world);
            Decision::Flag(Anomaly::OldSessionPaid, Step { learnt, ..step })
        }
        (PastEnd::Paid, PastEnd::Returned) => {
            let stay = Step::to(payout.state.clone(), Reason::Returned);
            Decision::Move(Step { learnt, ..stay })
        }
        (PastEnd::Paid | PastEnd::Returned, _) | (PastEnd::Unpaid, PastEnd::Unpaid) => {
            Decision::Absorb(Reason::NothingNew)
        }
    }
}

/// The money went out by the old session. Where nothing can go out by the new one, that is the end of it.
fn paid_after_all(payout: &Payout, past: &PastAttempt, report: &SessionReport, world: &World<'_>) -> Step {
    let why = if past.ended == PastEnd::Returned { Reason::Returned } else { Reason::Paid };
    let ended = |step: Step| Step { facts: Some(report.facts()), ..step };
    match &payout.state {
        State::Accepted => ended(Step::to(paid_state(past), why)),
        // Their own session is closed unpaid, and remembered as such.
        State::Retrying { session, .. }
        | State::Failed { session, .. }
        | State::Cancelled { session: Some(session), .. } => {
            ended(ending(payout, session, Step::to(paid_state(past), why)))
        }
        State::Cancelled { session: None, .. } => ended(Step::to(paid_state(past), why)),
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
        | State::Succeeded { .. }
        | State::Returned { .. } => stopped(payout, why, world),
    }
}

/// Whatever has not gone out in the present session shall not. What was permitted may be on its way: then it
/// is not sent again, and the rest is for a person.
fn stopped(payout: &Payout, why: Reason, world: &World<'_>) -> Step {
    let stay = |why| Step::to(payout.state.clone(), why);
    match &payout.state {
        State::Starting { session }
        | State::StartUnknown { session }
        | State::Processing { session }
        | State::OnHold { session, .. } => cancel_step(payout, session, CancelCause::Mismatch, why, world),
        State::Confirming { session } => {
            Step::to(State::ConfirmUnknown { session: session.clone() }, why).void(EffectKind::Confirm)
        }
        State::ConfirmUnknown { .. } | State::Settling { .. } | State::Unknown { .. } => {
            stay(why).void(EffectKind::Confirm)
        }
        State::Accepted => stay(why).void(EffectKind::CreateSession),
        State::Retrying { .. }
        | State::Cancelling { .. }
        | State::CancelUnknown { .. }
        | State::CancelSent { .. }
        | State::Succeeded { .. }
        | State::Returned { .. }
        | State::Failed { .. }
        | State::Cancelled { .. } => stay(why),
    }
}

/// Pike waits for our word in a session although one before was paid: the word is no, or nothing where it was
/// yes already, whoever took the flag off.
pub(super) fn asked_again(payout: &Payout, report: &SessionReport, world: &World<'_>) -> Decision {
    match payout.permit.as_ref().map(|permit| permit.kind) {
        None => cancel(payout, &report.session, CancelCause::Mismatch, Reason::Contradicted, world),
        Some(PermitKind::Confirm | PermitKind::Cancel) => Decision::Absorb(Reason::Flagged),
    }
}

#[cfg(test)]
mod doubts;
#[cfg(test)]
mod tests;
