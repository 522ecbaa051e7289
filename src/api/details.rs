//! What a payout is doing, in words for people: what is happening now and what happens next. Derived from the
//! inner state alone, so that the same state always reads the same.

use crate::domain::{
    payout::Payout,
    provider,
    state::{CancelCause, HoldCause, State},
};
use serde::Serialize;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Details {
    /// Finer than the status, and stable; new ones may be added.
    pub code: &'static str,
    pub message: &'static str,
    pub next: &'static str,
}

const NOTHING: &str = "Nothing more: this is final.";
const ASKED_AGAIN: &str = "Pike is asked until it tells. Do not pay the recipient another way meanwhile.";

/// The details of a payout's status.
#[must_use]
pub fn of(payout: &Payout) -> Details {
    let details = if payout.state == State::Accepted && payout.attempt > 1 {
        details_of(
            "trying_again",
            "The payout is tried again. No money has moved.",
            "A new session is opened at Pike within moments.",
        )
    } else {
        of_state(&payout.state)
    };
    if payout.anomaly.is_none() {
        return details;
    }
    if payout.state.is_final() {
        let next = "A person has to look: what Pike reports contradicts what was recorded before.";
        return Details { next, ..details };
    }
    details_of(
        "under_review",
        "What Pike reports contradicts what was asked for.",
        "Nothing but a cancel is sent on its own; a person has to look.",
    )
}

fn details_of(code: &'static str, message: &'static str, next: &'static str) -> Details {
    Details { code, message, next }
}

fn of_state(state: &State) -> Details {
    match state {
        State::Accepted => {
            details_of("queued", "The payout is stored.", "A session is opened at Pike within moments.")
        }
        State::Starting { .. } => {
            details_of("starting", "The payout is being started at Pike.", "Pike prepares it.")
        }
        State::StartUnknown { .. } => {
            details_of("start_unknown", "It is not known whether Pike received the start.", ASKED_AGAIN)
        }
        State::Processing { .. } => details_of(
            "preparing",
            "Pike prepares the payout. No money has moved.",
            "When Pike is ready the rules decide whether it is confirmed.",
        ),
        State::OnHold { cause, .. } => on_hold(*cause),
        State::Confirming { .. } => {
            details_of("confirming", "The payout is permitted and being confirmed.", "Pike moves the money.")
        }
        State::ConfirmUnknown { .. } => {
            details_of("confirm_unknown", "It is not known whether Pike received the confirm.", ASKED_AGAIN)
        }
        State::Settling { .. } => details_of(
            "settling",
            "Pike is moving the money.",
            "Pike reports whether the recipient was paid.",
        ),
        State::Cancelling { .. } | State::CancelUnknown { .. } | State::CancelSent { .. } => details_of(
            "cancelling",
            "The payout will not be made and is being cancelled at Pike.",
            "It is final once Pike has closed its session.",
        ),
        State::Unknown { .. } => {
            details_of("unknown_at_pike", "Pike itself does not know whether the money moved.", ASKED_AGAIN)
        }
        State::Retrying { .. } => details_of(
            "waiting_to_retry",
            "Pike closed this attempt unpaid. No money has moved.",
            "After a pause Pike is asked once more, and then the payout is tried again.",
        ),
        State::Succeeded { .. } => details_of("paid", "The recipient was paid.", NOTHING),
        State::Returned { .. } => {
            details_of("returned", "The recipient was paid, and the money came back.", NOTHING)
        }
        State::Failed { code, .. } => failed(code),
        State::Cancelled { cause, .. } => cancelled(cause),
    }
}

fn on_hold(cause: HoldCause) -> Details {
    match cause {
        HoldCause::Approval => details_of(
            "waiting_for_approval",
            "The rules want a person to look at this payout.",
            "Somebody approves or rejects it; if nobody does in time, it is cancelled.",
        ),
        HoldCause::Switch => details_of(
            "waiting_for_confirms",
            "Confirms are switched off.",
            "It goes on when they are switched on again; if that takes too long, it is cancelled.",
        ),
    }
}

fn failed(code: &str) -> Details {
    let message = provider::meaning(code).unwrap_or("Pike could not make the payout.");
    details_of("failed", message, "Nothing more: no money moved. To try again, create a new payout.")
}

fn cancelled(cause: &CancelCause) -> Details {
    let (code, message) = match cause {
        CancelCause::Requested => ("cancelled_on_request", "Cancelled because the caller asked for it."),
        CancelCause::Rules => ("forbidden_by_rules", "Cancelled because the rules forbid it."),
        CancelCause::Rejected => ("rejected", "Cancelled because a person rejected it."),
        CancelCause::HoldExpired => ("hold_expired", "Cancelled because nobody decided in time."),
        CancelCause::Mismatch => {
            ("mismatch", "Cancelled because Pike showed something else than was asked for.")
        }
        CancelCause::StartRefused { code } => {
            ("start_refused", provider::meaning(code).unwrap_or("Cancelled because Pike refused it."))
        }
        CancelCause::StartUnresolved => {
            ("start_unresolved", "Cancelled because it never became known whether Pike had started it.")
        }
    };
    details_of(code, message, "Nothing more: no money moved.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::view::tests::{every_state, payout};
    use crate::domain::payout::Anomaly;
    use std::collections::BTreeSet;

    #[test]
    fn every_state_has_words() {
        for state in every_state() {
            for anomaly in [None, Some(Anomaly::Contradiction)] {
                let payout = Payout { state: state.clone(), anomaly, ..payout() };
                let details = of(&payout);
                assert!(details.code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{state:?}");
                assert!(details.message.ends_with('.') && details.next.ends_with('.'), "{state:?}");
                let says_final = details.next.starts_with("Nothing more:");
                assert_eq!(says_final, state.is_final() && anomaly.is_none(), "{state:?} {anomaly:?}");
            }
        }
    }

    #[test]
    fn only_the_stages_of_a_cancel_share_words() {
        let states = every_state();
        let codes: BTreeSet<&str> = states.iter().map(|state| of_state(state).code).collect();
        // Each of the three stages of a cancel is one state here.
        assert_eq!(codes.len(), states.len() - 2);
    }

    #[test]
    fn a_flag_keeps_a_final_code_and_hides_any_other() {
        let flagged = |state: State| of(&Payout { state, anomaly: Some(Anomaly::OtherAmount), ..payout() });
        let session = crate::domain::id::SessionId("ps_1".into());
        assert_eq!(flagged(State::Succeeded { session: session.clone() }).code, "paid");
        assert_eq!(flagged(State::Settling { session }).code, "under_review");
    }
}
