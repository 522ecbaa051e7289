//! Wishes of callers. The only decisions that may be refusals.

use super::*;

pub(super) fn decide(payout: &Payout, command: &Command, world: &World<'_>) -> Decision {
    match command {
        Command::Cancel { .. } => cancel_wanted(payout, world),
        Command::Approve { by, people } => approve(payout, by, *people, world),
        Command::Reject { .. } => reject(payout, world),
        Command::ClearFlag { .. } => clear_flag(payout),
    }
}

fn cancel_wanted(payout: &Payout, world: &World<'_>) -> Decision {
    match &payout.state {
        // Without a started session no money can move, so nobody has to be asked.
        State::Accepted => Decision::Move(Step::to(
            State::Cancelled { session: None, cause: CancelCause::Requested },
            Reason::CancelRequested,
        )),
        // Closed unpaid, and the next one is not open yet.
        State::Retrying { session, .. } => Decision::Move(Step::to(
            State::Cancelled { session: Some(session.clone()), cause: CancelCause::Requested },
            Reason::CancelRequested,
        )),
        State::Starting { session }
        | State::StartUnknown { session }
        | State::Processing { session }
        | State::OnHold { session, .. } => {
            cancel(payout, session, CancelCause::Requested, Reason::CancelRequested, world)
        }
        State::Cancelling { .. }
        | State::CancelUnknown { .. }
        | State::CancelSent { .. }
        | State::Cancelled { .. } => Decision::Absorb(Reason::NothingNew),
        State::Confirming { .. } | State::ConfirmUnknown { .. } | State::Settling { .. } => {
            Decision::Refuse(Refusal::AlreadyConfirmed)
        }
        State::Unknown { .. } => Decision::Refuse(Refusal::OutcomeUnknown),
        State::Succeeded { .. } | State::Returned { .. } | State::Failed { .. } => {
            Decision::Refuse(Refusal::AlreadyFinal)
        }
    }
}

/// The rules are asked again at approval: limits and switches may have changed since the hold began.
fn approve(payout: &Payout, by: &str, people: People, world: &World<'_>) -> Decision {
    let State::OnHold { session, until, .. } = &payout.state else {
        return Decision::Refuse(Refusal::NotOnHold);
    };
    if payout.anomaly.is_some() {
        return Decision::Refuse(Refusal::Flagged);
    }
    if let Some(refusal) = not_by(payout, by, people, world) {
        return Decision::Refuse(refusal);
    }
    if world.now >= *until {
        return Decision::Refuse(Refusal::NotOnHold);
    }
    let verdict = evaluate(payout, &payout.facts, world, true);
    match verdict.outcome {
        RuleOutcome::Confirm => {
            let mut step = confirm_step(payout, session, Reason::Approved, world);
            step.verdict = Some(verdict);
            Decision::Move(step)
        }
        RuleOutcome::Wait => Decision::Refuse(Refusal::ConfirmsOff),
        RuleOutcome::Cancel | RuleOutcome::Hold => Decision::Refuse(Refusal::RulesForbid(Box::new(verdict))),
    }
}

/// Why this key is not the one to approve, if it is not.
fn not_by(payout: &Payout, by: &str, people: People, world: &World<'_>) -> Option<Refusal> {
    if payout.order.created_by == by {
        return Some(Refusal::OwnPayout);
    }
    match (people, world.policy.approvals) {
        (People::One, Approvals::ByKey | Approvals::ByOwner) => Some(Refusal::OwnPayout),
        (People::Unknown(party), Approvals::ByOwner) => Some(Refusal::OwnerUnknown(party)),
        (People::Unknown(_), Approvals::ByKey) | (People::Two, Approvals::ByKey | Approvals::ByOwner) => None,
    }
}

fn reject(payout: &Payout, world: &World<'_>) -> Decision {
    if let State::OnHold { session, .. } = &payout.state {
        return cancel(payout, session, CancelCause::Rejected, Reason::Rejected, world);
    }
    match payout.state.cancel_cause() {
        Some(CancelCause::Rejected) => Decision::Absorb(Reason::NothingNew),
        Some(_) | None => Decision::Refuse(Refusal::NotOnHold),
    }
}

/// A person has looked. What was held back goes on from what Pike shows now: the call that the state waits
/// for was taken back by the flag, or its answer is what raised it, so what became of it is not known.
fn clear_flag(payout: &Payout) -> Decision {
    if payout.anomaly.is_none() {
        return Decision::Refuse(Refusal::NotFlagged);
    }
    let to = match payout.state.clone() {
        State::Starting { session } => State::StartUnknown { session },
        State::Confirming { session } => State::ConfirmUnknown { session },
        State::Cancelling { session, cause } => State::CancelUnknown { session, cause },
        same @ (State::Accepted
        | State::StartUnknown { .. }
        | State::Processing { .. }
        | State::OnHold { .. }
        | State::ConfirmUnknown { .. }
        | State::Settling { .. }
        | State::CancelUnknown { .. }
        | State::CancelSent { .. }
        | State::Unknown { .. }
        | State::Retrying { .. }
        | State::Succeeded { .. }
        | State::Returned { .. }
        | State::Failed { .. }
        | State::Cancelled { .. }) => same,
    };
    let step = Step { clears_flag: true, ..Step::to(to, Reason::FlagCleared) };
    // A read asked for before the pause is over would be taken for the look after it: the due check asks.
    let rests = payout.state.retry_at().is_some();
    let open = payout.state.session().is_some() && !payout.state.is_final() && !rests;
    Decision::Move(if open { step.effect(EffectKind::ReadStatus) } else { step })
}
