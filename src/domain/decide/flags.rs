//! Flags: what raises them, once, and what follows when a person takes them off.

use super::{fixtures::*, *};
use crate::domain::provider::ProviderError;
use time::Duration;

fn seen(report: SessionReport) -> Event {
    Event::Observed(Observation::Reported(report))
}

#[test]
fn a_flag_is_taken_off_once_and_what_is_open_is_asked_about() {
    let clear = Event::Command(Command::ClearFlag { by: "someone".into(), reason: "seen".into() });
    for (state, asks) in [
        (State::ConfirmUnknown { session: session() }, true),
        (State::Succeeded { session: session() }, false),
        (State::Accepted, false),
    ] {
        let mut payout = payout_in(state);
        payout.anomaly = Some(Anomaly::Contradiction);
        let Decision::Move(step) = later(&payout, &clear) else { panic!() };
        assert!(step.clears_flag && step.to == payout.state && step.permit.is_none());
        assert_eq!(step.effects.contains(&EffectKind::ReadStatus), asks);
        payout.anomaly = None;
        assert_eq!(later(&payout, &clear), Decision::Refuse(Refusal::NotFlagged));
    }
}

/// The flag took the start or the confirm back: waiting for its answer would have no end.
#[test]
fn a_flag_taken_off_leaves_nobody_waiting_for_a_call_that_was_taken_back() {
    let clear = Event::Command(Command::ClearFlag { by: "someone".into(), reason: "seen".into() });
    for (state, next) in [
        (State::Starting { session: session() }, State::StartUnknown { session: session() }),
        (State::Confirming { session: session() }, State::ConfirmUnknown { session: session() }),
        (
            State::Cancelling { session: session(), cause: CancelCause::Requested },
            State::CancelUnknown { session: session(), cause: CancelCause::Requested },
        ),
    ] {
        let payout = Payout { anomaly: Some(Anomaly::OtherSession), ..payout_in(state) };
        let Decision::Move(step) = later(&payout, &clear) else { panic!() };
        assert_eq!((step.to, &step.effects[..]), (next, &[EffectKind::ReadStatus][..]));
    }
}

/// Asked for before the pause is over, it would be taken for the look after it: the due check asks.
#[test]
fn a_flag_taken_off_between_two_attempts_asks_nothing_before_the_pause_is_over() {
    let clear = Event::Command(Command::ClearFlag { by: "someone".into(), reason: "seen".into() });
    let at = EPOCH + time::Duration::MINUTE;
    let mut payout = payout_in(State::Retrying { session: session(), code: "failed".into(), at });
    payout.raise(Anomaly::OtherSession);
    let Decision::Move(step) = at_once(&payout, &clear) else { panic!() };
    assert!(step.clears_flag && step.to == payout.state);
    assert_eq!(step.effects, []);
}

/// Somebody wrote into the payout after it was permitted: no rules are asked about what they wrote.
#[test]
fn an_altered_payout_is_not_permitted_anew() {
    let (policy, rules, now) = (policy(), rules(), EPOCH + Duration::HOUR);
    let mut payout = payout_in(State::ConfirmUnknown { session: session() });
    let outcome = Outcome::Accepted(awaits_confirm());
    let event = Event::Observed(Observation::Answered { call: EffectKind::ReadStatus, outcome });
    payout.order.recipient_name = "Mallory".into();
    for permitted_under in [Some("test"), Some("other"), None] {
        let world = World { permitted_under, ..world(now, &policy, &rules) };
        let Decision::Flag(Anomaly::PermitAltered, step) = decide(&payout, &event, &world) else {
            panic!("{permitted_under:?}")
        };
        assert!(step.effects.is_empty() && step.permit.is_none() && step.to == payout.state);
    }
}

#[test]
fn a_session_that_pike_denies_is_raised_once_it_cannot_be_a_delay() {
    let error = |code: &str| ProviderError { code: code.into(), description: String::new() };
    let denied = |code| {
        let outcome = Outcome::Unknown(error(code));
        Event::Observed(Observation::Answered { call: EffectKind::ReadStatus, outcome })
    };
    let mut payout = payout_in(State::StartUnknown { session: session() });
    assert_eq!(at_once(&payout, &denied("invalid_request")), Decision::Schedule(vec![]), "just created");
    assert_eq!(
        later(&payout, &denied("internal_error")),
        Decision::Schedule(vec![]),
        "not about the session"
    );
    let soon = decide_at(&payout, &denied("invalid_request"), EPOCH + Duration::seconds(299));
    assert_eq!(soon, Decision::Schedule(vec![]), "a request may have been spoilt on its way");
    let raised = decide_at(&payout, &denied("invalid_request"), EPOCH + Duration::seconds(300));
    assert!(matches!(raised, Decision::Flag(Anomaly::SessionUnknown, _)));
    let Decision::Flag(Anomaly::SessionUnknown, step) = later(&payout, &denied("invalid_request")) else {
        panic!()
    };
    assert!(step.to == payout.state && step.voids.contains(&EffectKind::StartPayout));
    payout.raise(Anomaly::SessionUnknown);
    assert_eq!(later(&payout, &denied("invalid_request")), Decision::Schedule(vec![]), "told once");
    let paid = payout_in(State::Succeeded { session: session() });
    assert_eq!(later(&paid, &denied("invalid_request")), Decision::Schedule(vec![]), "it was there");
}

/// Whichever of them is shown: what has been raised is no news until a person has taken the flag off.
#[test]
fn anomalies_that_take_turns_are_told_once_each() {
    let read = |report| {
        let outcome = Outcome::Accepted(report);
        Event::Observed(Observation::Answered { call: EffectKind::ReadStatus, outcome })
    };
    let mut payout = payout_in(State::Settling { session: session() });
    let mut amount = working();
    amount.payouts[0].amount_minor = Some(1001);
    let other = SessionReport { session: SessionId("ps_2".into()), ..working() };
    for (report, anomaly) in [(&amount, Anomaly::OtherAmount), (&other, Anomaly::OtherSession)] {
        assert!(
            matches!(later(&payout, &read(report.clone())), Decision::Flag(raised, _) if raised == anomaly)
        );
        payout.raise(anomaly);
    }
    for report in [&amount, &other, &amount] {
        assert_eq!(later(&payout, &read(report.clone())), Decision::Schedule(vec![]));
    }
    assert_eq!(payout.anomaly, Some(Anomaly::OtherAmount), "the first is what it is flagged with");
    payout.unflag();
    assert!(matches!(later(&payout, &read(other)), Decision::Flag(Anomaly::OtherSession, _)));
}

#[test]
fn a_status_that_stays_unknown_is_raised_when_the_window_is_over() {
    let payout = payout_in(State::Processing { session: session() });
    let at = |waited| decide_at(&payout, &seen(unreadable()), EPOCH + waited);
    assert_eq!(at(Duration::minutes(254)), Decision::Absorb(Reason::Unreadable));
    let Decision::Flag(Anomaly::StatusUnknown, step) = at(Duration::minutes(255)) else { panic!() };
    assert_eq!(step.voids, [EffectKind::StartPayout, EffectKind::Confirm], "nothing is sent on its own");
}
