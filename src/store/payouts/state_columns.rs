//! A state and its evidence as columns, both ways.

use crate::{
    domain::{
        id::SessionId,
        state::{CancelCause, HoldCause, State},
    },
    store::encoding::Code,
};
use time::OffsetDateTime;

pub(in crate::store) struct StateColumns<'a> {
    pub state: &'static str,
    pub session_id: Option<&'a str>,
    pub retry_at: Option<OffsetDateTime>,
    pub hold_until: Option<OffsetDateTime>,
    pub hold_cause: Option<&'static str>,
    pub cancel_cause: Option<String>,
    pub failure_code: Option<&'a str>,
}

#[derive(sqlx::FromRow)]
pub(super) struct StateRow {
    state: String,
    session_id: Option<String>,
    retry_at: Option<OffsetDateTime>,
    hold_until: Option<OffsetDateTime>,
    hold_cause: Option<String>,
    cancel_cause: Option<String>,
    failure_code: Option<String>,
}

/// The stored name of a state.
pub fn name(state: &State) -> &'static str {
    match state {
        State::Accepted => "accepted",
        State::Starting { .. } => "starting",
        State::StartUnknown { .. } => "start_unknown",
        State::Processing { .. } => "processing",
        State::OnHold { .. } => "on_hold",
        State::Confirming { .. } => "confirming",
        State::ConfirmUnknown { .. } => "confirm_unknown",
        State::Settling { .. } => "settling",
        State::Cancelling { .. } => "cancelling",
        State::CancelUnknown { .. } => "cancel_unknown",
        State::CancelSent { .. } => "cancel_sent",
        State::Unknown { .. } => "unknown",
        State::Retrying { .. } => "retrying",
        State::Succeeded { .. } => "succeeded",
        State::Returned { .. } => "returned",
        State::Failed { .. } => "failed",
        State::Cancelled { .. } => "cancelled",
    }
}

pub(in crate::store) fn encode(state: &State) -> StateColumns<'_> {
    let (hold_cause, failure_code) = match state {
        State::OnHold { cause, .. } => (Some(cause.code()), None),
        State::Failed { code, .. } | State::Retrying { code, .. } => (None, Some(code.as_str())),
        State::Accepted
        | State::Starting { .. }
        | State::StartUnknown { .. }
        | State::Processing { .. }
        | State::Confirming { .. }
        | State::ConfirmUnknown { .. }
        | State::Settling { .. }
        | State::Cancelling { .. }
        | State::CancelUnknown { .. }
        | State::CancelSent { .. }
        | State::Unknown { .. }
        | State::Succeeded { .. }
        | State::Returned { .. }
        | State::Cancelled { .. } => (None, None),
    };
    StateColumns {
        state: name(state),
        session_id: state.session().map(|session| session.0.as_str()),
        retry_at: state.retry_at(),
        hold_until: state.hold_until(),
        hold_cause,
        cancel_cause: state.cancel_cause().map(encode_cause),
        failure_code,
    }
}

/// `None` when the columns do not belong together.
pub(super) fn decode(row: StateRow) -> Option<State> {
    let cause = match row.cancel_cause.as_deref() {
        None => None,
        Some(text) => Some(decode_cause(text)?),
    };
    let session = row.session_id.map(SessionId);
    Some(match row.state.as_str() {
        "accepted" => State::Accepted,
        "starting" => State::Starting { session: session? },
        "start_unknown" => State::StartUnknown { session: session? },
        "processing" => State::Processing { session: session? },
        "on_hold" => State::OnHold {
            session: session?,
            until: row.hold_until?,
            cause: HoldCause::from_code(row.hold_cause.as_deref()?)?,
        },
        "confirming" => State::Confirming { session: session? },
        "confirm_unknown" => State::ConfirmUnknown { session: session? },
        "settling" => State::Settling { session: session? },
        "cancelling" => State::Cancelling { session: session?, cause: cause? },
        "cancel_unknown" => State::CancelUnknown { session: session?, cause: cause? },
        "cancel_sent" => State::CancelSent { session: session?, cause: cause? },
        "unknown" => State::Unknown { session: session?, cause },
        "retrying" => State::Retrying { session: session?, code: row.failure_code?, at: row.retry_at? },
        "succeeded" => State::Succeeded { session: session? },
        "returned" => State::Returned { session: session? },
        "failed" => State::Failed { session: session?, code: row.failure_code? },
        "cancelled" => State::Cancelled { session, cause: cause? },
        _ => return None,
    })
}

const START_REFUSED: &str = "start_refused:";

fn encode_cause(cause: &CancelCause) -> String {
    match cause {
        CancelCause::StartRefused { code } => format!("{START_REFUSED}{code}"),
        CancelCause::Requested
        | CancelCause::Rules
        | CancelCause::Rejected
        | CancelCause::HoldExpired
        | CancelCause::Mismatch
        | CancelCause::StartUnresolved => cause.code().to_owned(),
    }
}

fn decode_cause(text: &str) -> Option<CancelCause> {
    if let Some(code) = text.strip_prefix(START_REFUSED) {
        return Some(CancelCause::StartRefused { code: code.to_owned() });
    }
    [
        CancelCause::Requested,
        CancelCause::Rules,
        CancelCause::Rejected,
        CancelCause::HoldExpired,
        CancelCause::Mismatch,
        CancelCause::StartUnresolved,
    ]
    .into_iter()
    .find(|cause| cause.code() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_come_back() {
        for cause in [
            CancelCause::Requested,
            CancelCause::Rules,
            CancelCause::Rejected,
            CancelCause::HoldExpired,
            CancelCause::Mismatch,
            CancelCause::StartUnresolved,
            CancelCause::StartRefused { code: "bank_card_expired".to_owned() },
        ] {
            assert_eq!(decode_cause(&encode_cause(&cause)), Some(cause));
        }
        assert_eq!(decode_cause("never heard"), None);
    }
}
