//! What callers see of a state, and which states are one wait.

use super::*;
use crate::domain::decide::fixtures::states;

#[test]
fn sending_a_word_and_not_knowing_of_it_are_one_wait() {
    let states = states();
    let name = |state: &State| format!("{state:?}").split([' ', '{']).next().unwrap().to_owned();
    for before in &states {
        for after in &states {
            let pair = [name(before), name(after)];
            let one = |a: &str, b: &str| pair.iter().all(|name| name == a || name == b);
            let expected = pair[0] == pair[1]
                || one("Confirming", "ConfirmUnknown")
                || one("Cancelling", "CancelUnknown");
            assert_eq!(before.same_phase(after), expected, "{pair:?}");
        }
    }
}

#[test]
fn nothing_can_be_paid_any_more_in_what_ended_unpaid_or_waits_for_another_attempt() {
    for state in states() {
        let ended = matches!(state, State::Failed { .. } | State::Cancelled { .. });
        assert_eq!(state.is_unpaid(), ended, "{state:?}");
        let closed = ended || matches!(state, State::Retrying { .. });
        assert_eq!(state.is_closed_unpaid(), closed, "{state:?}");
    }
}

#[test]
fn a_flag_makes_unknown_of_what_is_open_and_of_nothing_else() {
    for state in states() {
        let (plain, flagged) = (state.status(false), state.status(true));
        assert_eq!(flagged, if state.is_final() { plain } else { Status::Unknown }, "{state:?}");
        let known = matches!(
            state,
            State::StartUnknown { .. } | State::ConfirmUnknown { .. } | State::Unknown { .. }
        );
        assert_eq!(plain == Status::Unknown, known, "{state:?}");
    }
}

#[test]
fn causes_have_codes_of_their_own() {
    let refused = CancelCause::StartRefused { code: "bank_card_expired".into() };
    let causes = [
        CancelCause::Requested,
        CancelCause::Rules,
        CancelCause::Rejected,
        CancelCause::HoldExpired,
        CancelCause::Mismatch,
        CancelCause::StartUnresolved,
        refused,
    ];
    let codes = causes.each_ref().map(CancelCause::code);
    let different: std::collections::BTreeSet<_> = codes.iter().collect();
    assert_eq!(different.len(), codes.len());
    assert!(
        codes.iter().all(|code| code.chars().all(|c| c.is_ascii_lowercase() || c == '_') && !code.is_empty())
    );
}
