//! Our calls came back. An answer is only evidence about one call: if the payout has moved on meanwhile
//! (webhooks overtake answers), what the answer *shows* still counts, that it *came* does not.

use super::*;
use crate::domain::provider::denies_session;

pub(super) fn decide(payout: &Payout, call: EffectKind, outcome: &Outcome, world: &World<'_>) -> Decision {
    match outcome {
        Outcome::Accepted(report) => accepted(payout, call, report, world),
        Outcome::Declined(error) => declined(payout, call, &error.code, world),
        Outcome::Unknown(error) if call == EffectKind::ReadStatus && denies_session(&error.code) => {
            session_denied(payout, world)
        }
        Outcome::Unknown(_) => unknown(payout, call),
    }
}

/// After how many times the watching time a session that Pike denies is raised. The words for it are also
/// those for a request that was spoilt on its way: one of those must not stop a payout that is getting on.
const DENIED: i32 = 5;

/// Pike has answered, and does not know the session. Right after it was created that may be Pike's own delay;
/// after that nothing will ever be learnt by asking on: the answer that named the session was wrong.
fn session_denied(payout: &Payout, world: &World<'_>) -> Decision {
    let watched = world.policy.start_unresolved_after * DENIED;
    let denied = !payout.state.is_final() && world.now - payout.since >= watched;
    if !denied {
        return unknown(payout, EffectKind::ReadStatus);
    }
    let stay = Step::to(payout.state.clone(), Reason::Contradicted);
    let stay = stay.void(EffectKind::StartPayout).void(EffectKind::Confirm);
    quietly(reports::flag_once(payout, Anomaly::SessionUnknown, stay))
}

fn accepted(payout: &Payout, call: EffectKind, report: &SessionReport, world: &World<'_>) -> Decision {
    if call == EffectKind::CreateSession {
        return created(payout, &report.session);
    }
    let shows = report.shows(payout);
    if call == EffectKind::ReadStatus || brings_news(&shows) {
        return quietly(reports::decide(payout, report, Source::Answer, world));
    }
    // A start that was taken shows. Taking Pike's word for one that does not would wait for ever if it is
    // not there: nothing but an unknown start is ever looked after.
    if call == EffectKind::StartPayout && matches!(shows, Shows::NotStarted | Shows::Unreadable) {
        return unknown(payout, call);
    }
    let session = report.session.clone();
    match (call, &payout.state) {
        (EffectKind::StartPayout, State::Starting { .. } | State::StartUnknown { .. }) => {
            Decision::Move(Step::to(State::Processing { session }, Reason::StartAccepted))
        }
        (EffectKind::Confirm, State::Confirming { .. } | State::ConfirmUnknown { .. }) => {
            Decision::Move(Step::to(State::Settling { session }, Reason::ConfirmAccepted))
        }
        (EffectKind::Cancel, State::Cancelling { cause, .. } | State::CancelUnknown { cause, .. }) => {
            let cause = cause.clone();
            Decision::Move(Step::to(State::CancelSent { session, cause }, Reason::CancelAccepted))
        }
        (
            EffectKind::StartPayout
            | EffectKind::Confirm
            | EffectKind::Cancel
            | EffectKind::CreateSession
            | EffectKind::ReadStatus,
            _,
        ) => Decision::Absorb(Reason::Overtaken),
    }
}

/// A confirm was not sent. What Pike shows now decides: under a permit that is too old it may have closed the
/// session since, or somebody else may have confirmed.
pub(super) fn withheld(payout: &Payout, unfit: Unfit) -> Decision {
    let State::Confirming { session } = &payout.state else { return Decision::Absorb(Reason::Overtaken) };
    let to = State::ConfirmUnknown { session: session.clone() };
    let step = |why| Step::to(to, why).void(EffectKind::ReadStatus).effect(EffectKind::ReadStatus);
    match unfit {
        Unfit::Stale => Decision::Move(step(Reason::PermitStale)),
        Unfit::Altered => Decision::Flag(Anomaly::PermitAltered, step(Reason::Contradicted)),
    }
}

/// A session moves no money, so a second one is only recorded; the first to be stored is the one.
fn created(payout: &Payout, session: &SessionId) -> Decision {
    if payout.anomaly.is_some() {
        return Decision::Absorb(Reason::Flagged);
    }
    // A session that is over cannot be a new one.
    if payout.state == State::Accepted && payout.past_in(session).is_none() {
        let to = State::Starting { session: session.clone() };
        return Decision::Move(Step::to(to, Reason::SessionCreated).effect(EffectKind::StartPayout));
    }
    Decision::Absorb(Reason::OrphanSession)
}

/// Whether the answer shows more than that the call was taken. What an answer to confirm or cancel shows of
/// the waiting state may be the picture from before the call.
fn brings_news(shows: &Shows) -> bool {
    match shows {
        Shows::Paid | Shows::Returned | Shows::NotPaid { .. } | Shows::SessionError | Shows::Wrong { .. } => {
            true
        }
        Shows::NotStarted | Shows::Working | Shows::AwaitsConfirm | Shows::Unreadable => false,
    }
}

/// Pike refused for good. The session is closed behind it, so that nothing can be started in it later; only
/// then is the payout failed.
fn declined(payout: &Payout, call: EffectKind, code: &str, world: &World<'_>) -> Decision {
    match (call, &payout.state) {
        (EffectKind::StartPayout, State::Starting { session } | State::StartUnknown { session }) => {
            let cause = CancelCause::StartRefused { code: code.to_owned() };
            cancel(payout, session, cause, Reason::StartRefused, world)
        }
        (EffectKind::StartPayout, _) => Decision::Absorb(Reason::Overtaken),
        (
            EffectKind::CreateSession | EffectKind::Confirm | EffectKind::Cancel | EffectKind::ReadStatus,
            _,
        ) => unknown(payout, call),
    }
}

/// Nobody knows whether it happened: the due check asks Pike. Creating and reading are simply due again. A
/// read that is under way may have been answered before our word arrived, so it is no answer to that
/// question.
fn unknown(payout: &Payout, call: EffectKind) -> Decision {
    match (call, &payout.state) {
        (EffectKind::StartPayout, State::Starting { session }) => {
            Decision::Move(Step::to(State::StartUnknown { session: session.clone() }, Reason::StartUnknown))
        }
        (EffectKind::Confirm, State::Confirming { session }) => {
            let to = State::ConfirmUnknown { session: session.clone() };
            Decision::Move(Step::to(to, Reason::ConfirmUnknown).void(EffectKind::ReadStatus))
        }
        (EffectKind::Cancel, State::Cancelling { session, cause }) => {
            let to = State::CancelUnknown { session: session.clone(), cause: cause.clone() };
            Decision::Move(Step::to(to, Reason::CancelUnknown).void(EffectKind::ReadStatus))
        }
        (EffectKind::CreateSession | EffectKind::ReadStatus, _) => Decision::Schedule(vec![]),
        (EffectKind::StartPayout | EffectKind::Confirm | EffectKind::Cancel, _) => {
            Decision::Absorb(Reason::Overtaken)
        }
    }
}

/// We asked, so an answer without news is not worth a history entry.
fn quietly(decision: Decision) -> Decision {
    match decision {
        Decision::Absorb(Reason::NothingNew | Reason::Stale | Reason::Flagged | Reason::Unreadable) => {
            Decision::Schedule(vec![])
        }
        other @ (Decision::Absorb(_)
        | Decision::Move(_)
        | Decision::Flag(..)
        | Decision::Schedule(_)
        | Decision::Refuse(_)) => other,
    }
}
