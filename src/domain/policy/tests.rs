//! When Pike is asked without having told anything.

use super::*;
use crate::domain::{decide::fixtures::policy, id::SessionId, state::HoldCause};

const BEGAN: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

fn polling() -> Polling {
    policy().polling
}

/// The pause after having waited for so long.
fn pause(state: &State, waited: Duration) -> Duration {
    let now = BEGAN + waited;
    polling().next(state, BEGAN, now).unwrap() - now
}

fn session() -> SessionId {
    SessionId("ps_1".into())
}

#[test]
fn pauses_grow_with_the_wait_and_have_two_ceilings() {
    let state = State::Processing { session: session() };
    let seconds = Duration::seconds;
    for (waited, expected) in [
        (seconds(-9), seconds(5)),
        (seconds(0), seconds(5)),
        (seconds(40), seconds(10)),
        (seconds(3_599), seconds(30)),
        (seconds(3_600), seconds(900)),
        (seconds(7 * 86_400), seconds(900)),
    ] {
        assert_eq!(pause(&state, waited), expected, "after {waited}");
    }
}

/// At the moment itself the wait is over: the next look is an ordinary one.
#[test]
fn what_waits_for_another_attempt_is_looked_at_when_it_may_begin() {
    let at = BEGAN + Duration::minutes(10);
    let waiting = State::Retrying { session: session(), code: "provider_timeout".into(), at };
    assert_eq!(pause(&waiting, Duration::minutes(4)), Duration::minutes(6));
    assert_eq!(pause(&waiting, Duration::minutes(10)), Duration::seconds(30));
}

#[test]
fn a_hold_is_looked_at_when_it_ends_but_never_without_a_pause() {
    let hold = |until| State::OnHold { session: session(), until: BEGAN + until, cause: HoldCause::Approval };
    assert_eq!(pause(&hold(Duration::seconds(12)), Duration::seconds(4)), Duration::seconds(5));
    assert_eq!(pause(&hold(Duration::seconds(47)), Duration::seconds(40)), Duration::seconds(7));
    assert_eq!(pause(&hold(Duration::seconds(10)), Duration::seconds(40)), Duration::seconds(5), "over");
}

fn looks(polling: &Polling) -> Vec<i64> {
    let state = State::Succeeded { session: SessionId("ps_1".into()) };
    let since = OffsetDateTime::UNIX_EPOCH;
    let (mut now, mut looks) = (since, vec![]);
    while let Some(next) = polling.next(&state, since, now) {
        looks.push((next - since).whole_days());
        now = next;
    }
    looks
}

#[test]
fn a_paid_payout_is_looked_at_a_few_times_and_no_more() {
    let days = Duration::days;
    let polling = |first, until| Polling { paid_first: first, paid_until: until, ..policy().polling };
    assert_eq!(looks(&polling(days(1), days(30))), [1, 6, 30]);
    assert_eq!(looks(&polling(days(2), days(30))), [2, 12, 30]);
    assert_eq!(looks(&polling(days(30), days(30))), [30]);
    assert!(looks(&polling(days(1), Duration::ZERO)).is_empty());
}

#[test]
fn whoever_was_down_looks_once_for_all_that_was_missed() {
    let polling = Polling { paid_first: Duration::DAY, paid_until: Duration::days(30), ..policy().polling };
    let (state, since) = (State::Succeeded { session: SessionId("ps_1".into()) }, OffsetDateTime::UNIX_EPOCH);
    let next = polling.next(&state, since, since + Duration::days(10));
    assert_eq!(next, Some(since + Duration::days(30)));
    assert_eq!(polling.next(&state, since, since + Duration::days(30)), None);
}

#[test]
fn nothing_is_expected_of_what_was_not_paid_or_came_back() {
    let session = SessionId("ps_1".into());
    let now = OffsetDateTime::UNIX_EPOCH;
    for state in [State::Returned { session: session.clone() }, State::Failed { session, code: "x".into() }] {
        assert_eq!(policy().polling.next(&state, now, now), None);
    }
}

#[test]
fn what_moves_on_before_its_look_keeps_the_time_of_it() {
    let state = State::Processing { session: session() };
    let at = |seconds| BEGAN + Duration::seconds(seconds);
    let plan = |planned, now| polling().plan(planned, &state, BEGAN, now);
    assert_eq!(plan(None, at(1)), Some(at(6)));
    assert_eq!(plan(Some(at(5)), at(1)), Some(at(5)));
    assert_eq!(plan(Some(at(9)), at(1)), Some(at(6)), "pulled in");
    assert_eq!(plan(Some(at(5)), at(5)), Some(at(10)), "that was the look");
    let hold = State::OnHold { session: session(), until: at(60), cause: HoldCause::Approval };
    assert_eq!(polling().plan(Some(at(2)), &hold, BEGAN, at(1)), polling().next(&hold, BEGAN, at(1)));
    let paid = State::Succeeded { session: session() };
    assert_eq!(polling().plan(Some(at(2)), &paid, BEGAN, at(1)), polling().next(&paid, BEGAN, at(1)));
}
