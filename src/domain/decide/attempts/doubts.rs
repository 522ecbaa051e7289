//! When it is not known whether another attempt may follow: then it is for a person. And money that an old
//! session paid and that came back before anybody heard of it.

use super::{super::fixtures::*, tests::*, *};
use crate::domain::policy::Attempts;
use time::Duration;

/// After a restore nobody knows whether another attempt was begun, and paid.
#[test]
fn while_payoutd_only_looks_another_attempt_is_for_a_person() {
    let looking = Policy { attempts: Attempts { unsure: true, ..on().attempts }, ..on() };
    let settling = payout_in(State::Settling { session: session() });
    let unpaid = read(not_paid());
    let Decision::Flag(Anomaly::AttemptUnsure, step) =
        under(&looking, &settling, &unpaid, EPOCH + Duration::HOUR)
    else {
        panic!()
    };
    assert!(step.to.retry_at().is_some() && step.effects.is_empty(), "callers are not told that it failed");
    let decision = under(&looking, &retrying(), &unpaid, EPOCH + Duration::HOUR);
    let Decision::Flag(Anomaly::AttemptUnsure, step) = decision else { panic!("{decision:?}") };
    assert_eq!((&step.to, &step.effects[..]), (&retrying().state, &[][..]));
    let flagged = Payout { anomaly: Some(Anomaly::AttemptUnsure), ..retrying() };
    let later = under(&on(), &flagged, &unpaid, EPOCH + Duration::HOUR);
    assert_eq!(later, Decision::Schedule(vec![]), "nor when all is as usual again");
}

#[test]
fn what_an_old_session_paid_and_got_back_is_returned() {
    for state in [State::Accepted, State::Failed { session: session(), code: "x".into() }] {
        for (report, why, to) in [
            (paid(), Reason::Paid, State::Succeeded { session: old() }),
            (returned(), Reason::Returned, State::Returned { session: old() }),
        ] {
            let facts = Some(report.facts());
            let decision = under(&on(), &second(state.clone()), &heard(of_old(report)), EPOCH);
            let (anomaly, step) = step_of(decision);
            assert_eq!(step.facts, facts, "{state:?}");
            assert_eq!((anomaly, step.why, step.to), (Some(Anomaly::OldSessionPaid), why, to), "{state:?}");
        }
    }
}

#[test]
fn a_session_that_was_closed_and_stays_open_is_raised() {
    let window = policy().confirm_window + policy().hold_margin;
    let at = retrying().state.retry_at().unwrap();
    for open in [not_started(), working(), awaits_confirm(), session_error()] {
        let before = under(&on(), &retrying(), &read(open.clone()), at + window - Duration::SECOND);
        assert!(!matches!(before, Decision::Flag(..)), "{before:?}");
        let decision = under(&on(), &retrying(), &read(open.clone()), at + window);
        let Decision::Flag(Anomaly::Contradiction, step) = decision else { panic!("{decision:?}") };
        assert!(step.effects.is_empty() && step.to == retrying().state);
        let told = under(&on(), &retrying(), &heard(open), at + window);
        assert!(!matches!(told, Decision::Flag(..)), "a webhook may be old: {told:?}");
    }
}
