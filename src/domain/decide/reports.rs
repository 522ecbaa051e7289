//! What Pike shows of the session, from a webhook or a status read. Reports may be late, repeated or stale,
//! so every branch asks what the report adds to what we know, never whether it was expected.

use super::*;
use crate::domain::policy::ResendStart;

/// After how many times the watching time a start that may be sent again is given up as well: a Pike that has
/// used up its key and started nothing refuses every repetition, for ever.
const RESENDING: i32 = 5;

pub(super) fn decide(payout: &Payout, report: &SessionReport, source: Source, world: &World<'_>) -> Decision {
    if let Some(past) = payout.past_in(&report.session)
        && payout.state.session() != Some(&report.session)
    {
        return match source {
            Source::Webhook => attempts::late(payout, past, report, world),
            // We asked about another one.
            Source::Answer => wrong(payout, Anomaly::OtherSession, false, true, world),
        };
    }
    let shows = report.shows(payout);
    if source == Source::Answer && stays_open(payout, &shows, world) {
        let stay = Step::to(payout.state.clone(), Reason::Contradicted);
        return flag_once(payout, Anomaly::Contradiction, stay);
    }
    match shows {
        Shows::NotStarted => not_started(payout, world),
        Shows::Working => working(payout),
        Shows::AwaitsConfirm => awaits_confirm(payout, report, source, world),
        Shows::Paid => paid(payout, &report.session),
        Shows::Returned => returned(payout, &report.session),
        Shows::NotPaid { code } => not_paid(payout, &report.session, code, source, world),
        Shows::SessionError => session_error(payout, &report.session),
        Shows::Wrong { anomaly, awaits_confirm } => {
            let present = source == Source::Answer;
            wrong(payout, anomaly, awaits_confirm, present, world)
        }
        Shows::Unreadable => unreadable(payout, world),
    }
}

/// Pike had closed the session unpaid, and for as long as it waits for anything has shown it open since.
fn stays_open(payout: &Payout, shows: &Shows, world: &World<'_>) -> bool {
    let open = match shows {
        Shows::NotStarted | Shows::Working | Shows::AwaitsConfirm | Shows::SessionError => true,
        Shows::Paid | Shows::Returned | Shows::NotPaid { .. } | Shows::Wrong { .. } | Shows::Unreadable => {
            false
        }
    };
    open && payout.state.retry_at().is_some_and(|at| world.now - at >= world.policy.over_after())
}

/// A status nobody has met may pass. It is raised when no confirm can be waiting for it any more: raised
/// sooner, a new word of Pike's would stop every payout that it is said of.
fn unreadable(payout: &Payout, world: &World<'_>) -> Decision {
    if payout.state.is_final() || world.now - payout.since < world.policy.over_after() {
        return Decision::Absorb(Reason::Unreadable);
    }
    let stay = Step::to(payout.state.clone(), Reason::Unreadable);
    flag_once(payout, Anomaly::StatusUnknown, stay.void(EffectKind::StartPayout).void(EffectKind::Confirm))
}

/// The session is there and empty. That a start is missing now does not prove that it will not arrive later,
/// so an unknown start is closed (or sent again on the very same session), never replaced.
fn not_started(payout: &Payout, world: &World<'_>) -> Decision {
    match &payout.state {
        State::StartUnknown { session } => {
            let (waited, watched) = (world.now - payout.since, world.policy.start_unresolved_after);
            if waited < watched || payout.anomaly.is_some() {
                return Decision::Absorb(Reason::NothingNew);
            }
            match world.policy.resend_start {
                // It stays unknown, so that the waiting counts on.
                ResendStart::SameSession if waited < watched * RESENDING => {
                    let to = State::StartUnknown { session: session.clone() };
                    Decision::Move(Step::to(to, Reason::StartResent).effect(EffectKind::StartPayout))
                }
                ResendStart::SameSession | ResendStart::Never => {
                    cancel(payout, session, CancelCause::StartUnresolved, Reason::StartUnresolved, world)
                }
            }
        }
        State::CancelUnknown { session, cause } => resend_cancel(session, cause),
        State::CancelSent { session, cause } => stale_or_resend_cancel(payout, session, cause, world),
        State::Accepted | State::Starting { .. } | State::Cancelling { .. } => {
            Decision::Absorb(Reason::NothingNew)
        }
        State::Processing { .. }
        | State::OnHold { .. }
        | State::Confirming { .. }
        | State::ConfirmUnknown { .. }
        | State::Settling { .. }
        | State::Unknown { .. }
        | State::Retrying { .. }
        | State::Succeeded { .. }
        | State::Returned { .. }
        | State::Failed { .. }
        | State::Cancelled { .. } => Decision::Absorb(Reason::Stale),
    }
}

fn working(payout: &Payout) -> Decision {
    match &payout.state {
        State::Starting { session } | State::StartUnknown { session } => Decision::Move(
            Step::to(State::Processing { session: session.clone() }, Reason::StartAccepted)
                .void(EffectKind::StartPayout),
        ),
        // Pike no longer waits for the confirm whose answer was lost: it was taken.
        State::ConfirmUnknown { session } => {
            Decision::Move(Step::to(State::Settling { session: session.clone() }, Reason::ConfirmAccepted))
        }
        State::Accepted
        | State::Processing { .. }
        | State::Confirming { .. }
        | State::Settling { .. }
        | State::Cancelling { .. }
        | State::CancelUnknown { .. }
        | State::CancelSent { .. }
        | State::Unknown { .. } => Decision::Absorb(Reason::NothingNew),
        State::OnHold { .. }
        | State::Retrying { .. }
        | State::Succeeded { .. }
        | State::Returned { .. }
        | State::Failed { .. }
        | State::Cancelled { .. } => Decision::Absorb(Reason::Stale),
    }
}

fn awaits_confirm(payout: &Payout, report: &SessionReport, source: Source, world: &World<'_>) -> Decision {
    if payout.anomaly.is_some() && payout.state.cancel_cause().is_none() && !payout.state.is_final() {
        return Decision::Absorb(Reason::Flagged);
    }
    if payout.paid_before().is_some() && payout.state.cancel_cause().is_none() && !payout.state.is_final() {
        return attempts::asked_again(payout, report, world);
    }
    match &payout.state {
        State::Starting { session } | State::StartUnknown { session } | State::Processing { session } => {
            judge(payout, session, report, world)
        }
        State::OnHold { session, cause: HoldCause::Switch, .. } if world.confirms_on => {
            judge(payout, session, report, world)
        }
        // A webhook that waited to be delivered shows the time before the error, or before our word: ask for
        // the present.
        State::Unknown { .. } | State::ConfirmUnknown { .. } | State::CancelUnknown { .. }
            if source == Source::Webhook =>
        {
            Decision::Schedule(vec![EffectKind::ReadStatus])
        }
        State::Settling { .. } | State::CancelSent { .. } if source == Source::Webhook => {
            Decision::Absorb(Reason::Stale)
        }
        State::Unknown { session, cause } => {
            after_session_error(payout, session, cause.as_ref(), report, world)
        }
        State::ConfirmUnknown { session } => resend_confirm(payout, session, report, world),
        State::Settling { session } if world.now - payout.since >= world.policy.stale_read_grace => {
            resend_confirm(payout, session, report, world)
        }
        State::CancelUnknown { session, cause } => resend_cancel(session, cause),
        State::CancelSent { session, cause } => stale_or_resend_cancel(payout, session, cause, world),
        State::Accepted | State::OnHold { .. } | State::Confirming { .. } | State::Cancelling { .. } => {
            Decision::Absorb(Reason::NothingNew)
        }
        State::Settling { .. }
        | State::Retrying { .. }
        | State::Succeeded { .. }
        | State::Returned { .. }
        | State::Failed { .. }
        | State::Cancelled { .. } => Decision::Absorb(Reason::Stale),
    }
}

/// Pike recovered from an error and waits for our word: what was decided before still holds.
fn after_session_error(
    payout: &Payout,
    session: &SessionId,
    cause: Option<&CancelCause>,
    report: &SessionReport,
    world: &World<'_>,
) -> Decision {
    match (payout.permit.as_ref().map(|permit| permit.kind), cause) {
        (None, _) => judge(payout, session, report, world),
        (Some(PermitKind::Confirm), _) => resend_confirm(payout, session, report, world),
        (Some(PermitKind::Cancel), Some(cause)) => resend_cancel(session, cause),
        (Some(PermitKind::Cancel), None) => resend_cancel(session, &CancelCause::Requested),
    }
}

/// Confirming again is harmless: it is the same session under the same permit. If the permit is one of older
/// rules, those in force are asked, and an approval under the old ones is none under these. They cannot
/// cancel any more, because the first confirm may still arrive: a no is a matter for a person. A permit that
/// does not fit the payout under its own rules either is no permit for what is stored now.
fn resend_confirm(
    payout: &Payout,
    session: &SessionId,
    report: &SessionReport,
    world: &World<'_>,
) -> Decision {
    let to = State::Confirming { session: session.clone() };
    let step = Step::to(to, Reason::ConfirmResent).effect(EffectKind::Confirm);
    let permit = Permit::bind(PermitKind::Confirm, payout, session, &world.rules.version);
    if payout.permit.as_ref() == Some(&permit) {
        return Decision::Move(step);
    }
    let same_under = |rules| Permit::bind(PermitKind::Confirm, payout, session, rules);
    if world.permitted_under.map(same_under) != payout.permit {
        let stay = Step::to(payout.state.clone(), Reason::Contradicted);
        return Decision::Flag(Anomaly::PermitAltered, stay);
    }
    let verdict = evaluate(payout, &payout.facts.updated_with(&report.facts()), world, false);
    let forbidden = |why| {
        let stay = Step::to(payout.state.clone(), why);
        Decision::Flag(Anomaly::PermitOutdated, Step { verdict: Some(verdict.clone()), ..stay })
    };
    match verdict.outcome {
        RuleOutcome::Confirm => {
            let step = Step { verdict: Some(verdict), ..step };
            Decision::Move(step.permit(permit))
        }
        RuleOutcome::Wait => Decision::Absorb(Reason::NothingNew),
        RuleOutcome::Cancel => forbidden(Reason::RulesCancel),
        RuleOutcome::Hold => forbidden(Reason::RulesHold),
    }
}

fn resend_cancel(session: &SessionId, cause: &CancelCause) -> Decision {
    let to = State::Cancelling { session: session.clone(), cause: cause.clone() };
    Decision::Move(Step::to(to, Reason::CancelResent).effect(EffectKind::Cancel))
}

fn stale_or_resend_cancel(
    payout: &Payout,
    session: &SessionId,
    cause: &CancelCause,
    world: &World<'_>,
) -> Decision {
    if world.now - payout.since < world.policy.stale_read_grace {
        return Decision::Absorb(Reason::Stale);
    }
    resend_cancel(session, cause)
}

/// Money moved. That is recorded whatever we expected; without our permit, or after a final status without
/// payment, it is an alarm as well.
fn paid(payout: &Payout, session: &SessionId) -> Decision {
    let step = Step::to(State::Succeeded { session: session.clone() }, Reason::Paid);
    match payout.state.ending() {
        None => while_open(payout, step),
        Some(Ending::Succeeded) => Decision::Absorb(Reason::NothingNew),
        Some(Ending::Returned) => Decision::Absorb(Reason::Stale),
        Some(Ending::Failed(_) | Ending::Cancelled(_)) => Decision::Flag(Anomaly::PaidAfterFinal, step),
    }
}

fn returned(payout: &Payout, session: &SessionId) -> Decision {
    let step = Step::to(State::Returned { session: session.clone() }, Reason::Returned);
    match payout.state.ending() {
        None => while_open(payout, step),
        Some(Ending::Succeeded) => Decision::Move(step),
        Some(Ending::Returned) => Decision::Absorb(Reason::NothingNew),
        Some(Ending::Failed(_) | Ending::Cancelled(_)) => Decision::Flag(Anomaly::PaidAfterFinal, step),
    }
}

/// Money moved in the session of an open payout: once, if it was not paid in one before.
fn while_open(payout: &Payout, step: Step) -> Decision {
    if payout.paid_before().is_some() {
        return Decision::Flag(Anomaly::PaidTwice, step);
    }
    if payout.state.retry_at().is_some() {
        return Decision::Flag(Anomaly::OldSessionPaid, step);
    }
    with_permit(payout, step)
}

fn with_permit(payout: &Payout, step: Step) -> Decision {
    match payout.permit.as_ref().map(|permit| permit.kind) {
        Some(PermitKind::Confirm) => Decision::Move(step),
        Some(PermitKind::Cancel) | None => Decision::Flag(Anomaly::PaidWithoutPermit, step),
    }
}

/// Closed without payment, and the session's status is final: only now may a payout be called failed, or be
/// tried again.
fn not_paid(
    payout: &Payout,
    session: &SessionId,
    code: String,
    source: Source,
    world: &World<'_>,
) -> Decision {
    match payout.state.ending() {
        Some(Ending::Failed(_) | Ending::Cancelled(_)) => return Decision::Absorb(Reason::NothingNew),
        Some(Ending::Succeeded | Ending::Returned) => {
            let step = Step::to(payout.state.clone(), Reason::Contradicted);
            return flag_once(payout, Anomaly::FailedAfterPaid, step);
        }
        None => {}
    }
    if let Some(past) = payout.paid_before() {
        return attempts::paid_by_another(payout, session, past);
    }
    if let State::Retrying { code, at, .. } = &payout.state {
        return attempts::proven(payout, session, (code, *at), source, world);
    }
    let cause = match payout.state.cancel_cause().cloned() {
        None => return attempts::failed(payout, session, code, world),
        Some(CancelCause::StartRefused { code }) => return attempts::failed(payout, session, code, world),
        Some(CancelCause::StartUnresolved) => {
            let code = CancelCause::StartUnresolved.code().to_owned();
            return attempts::failed(payout, session, code, world);
        }
        Some(
            cause @ (CancelCause::Requested
            | CancelCause::Rules
            | CancelCause::Rejected
            | CancelCause::HoldExpired
            | CancelCause::Mismatch),
        ) => cause,
    };
    let to = State::Cancelled { session: Some(session.clone()), cause };
    Decision::Move(Step::to(to, Reason::NotPaid))
}

/// Pike does not know either. Nothing is sent until it does; the due check keeps asking. An error that was
/// settled since is an old webhook come late (Pike repeats them for half an hour), not a contradiction.
fn session_error(payout: &Payout, session: &SessionId) -> Decision {
    if payout.state.is_final() {
        return Decision::Absorb(Reason::Stale);
    }
    if matches!(payout.state, State::Unknown { .. }) {
        return Decision::Absorb(Reason::NothingNew);
    }
    // From before it was closed; and if not, nothing new is begun on it.
    if payout.state.retry_at().is_some() {
        return Decision::Absorb(Reason::Stale);
    }
    let cause = payout.state.cancel_cause().cloned();
    let step = Step::to(State::Unknown { session: session.clone(), cause }, Reason::SessionError);
    // A read that is under way may have been answered before the error.
    let calls = [EffectKind::StartPayout, EffectKind::Confirm, EffectKind::Cancel, EffectKind::ReadStatus];
    Decision::Move(calls.into_iter().fold(step, Step::void))
}

/// Pike shows something that is not what we asked for. If it still waits for our word the word is no.
fn wrong(
    payout: &Payout,
    anomaly: Anomaly,
    awaits_confirm: bool,
    present: bool,
    world: &World<'_>,
) -> Decision {
    let stay = Step::to(payout.state.clone(), Reason::Contradicted);
    if payout.state.is_final() || payout.state.retry_at().is_some() {
        return flag_once(payout, anomaly, stay);
    }
    if let (true, None, Some(session)) = (awaits_confirm, &payout.permit, payout.state.session()) {
        let step = cancel_step(payout, session, CancelCause::Mismatch, Reason::Contradicted, world);
        return Decision::Flag(anomaly, step);
    }
    if let State::CancelUnknown { session, cause } = &payout.state
        && awaits_confirm
        && present
    {
        return resend_cancel(session, cause);
    }
    flag_once(payout, anomaly, stay.void(EffectKind::StartPayout).void(EffectKind::Confirm))
}

/// Hearing of an anomaly again is no news, whichever others there were since: each read would tell it anew.
pub(super) fn flag_once(payout: &Payout, anomaly: Anomaly, step: Step) -> Decision {
    if payout.has_raised(anomaly) {
        return Decision::Absorb(Reason::NothingNew);
    }
    Decision::Flag(anomaly, step)
}
