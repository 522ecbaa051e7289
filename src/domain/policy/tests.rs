//! When Pike is asked without having told anything.

use super::*;
use crate::domain::{id::SessionId, state::HoldCause};

const BEGAN: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

fn polling() -> Polling {
    Polling { first: Duration::seconds(5), steady: Duration::seconds(30), longest: Duration::minutes(15) }
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
    assert_eq!(polling().next(&State::Succeeded { session: session() }, BEGAN, BEGAN), None);
}

#[test]
fn a_hold_is_looked_at_when_it_ends_but_never_without_a_pause() {
    let hold = |until| State::OnHold { session: session(), until: BEGAN + until, cause: HoldCause::Approval };
    assert_eq!(pause(&hold(Duration::seconds(12)), Duration::seconds(4)), Duration::seconds(5));
    assert_eq!(pause(&hold(Duration::seconds(47)), Duration::seconds(40)), Duration::seconds(7));
    assert_eq!(pause(&hold(Duration::seconds(10)), Duration::seconds(40)), Duration::seconds(5), "over");
}
