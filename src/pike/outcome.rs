//! What an answer means. Four values and no more: accepted, declined (by an explicit list), not sent,
//! unknown. Everything that is not provably something else is unknown.

use super::wire::{Envelope, ErrorBody};
use crate::domain::{
    effect::EffectKind,
    event::Outcome,
    provider::{ProviderError, is_final_start_refusal},
};
use std::time::Duration;

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Came(Outcome),
    /// The request provably never left: it may simply be sent again.
    NotSent(String),
}

impl Answer {
    /// A word for the metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Came(Outcome::Accepted(_)) => "accepted",
            Self::Came(Outcome::Declined(_)) => "declined",
            Self::Came(Outcome::Unknown(_)) => "unknown",
            Self::NotSent(_) => "not_sent",
        }
    }
}

/// What a call told about Pike itself and the way to it, whatever it told about the payout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It answers: a refusal that can be read is an answer too.
    Well,
    /// It does not: no connection, no answer, one that cannot be read, 5xx.
    Ill,
    /// It is overloaded and does not say for how long: we stay away for this long.
    Busy(Duration),
    /// It asks us to stay away for so long.
    AsksToWait(Duration),
    /// The call was not even tried.
    NotTried,
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub answer: Answer,
    pub condition: Condition,
}

impl Reply {
    pub(super) fn ill(answer: Answer) -> Self {
        Self { answer, condition: Condition::Ill }
    }
}

/// No usable answer, for a reason of ours.
pub(super) fn unknown(code: &str, description: String) -> Outcome {
    Outcome::Unknown(ProviderError { code: code.to_owned(), description })
}

/// Codes of ours for answers that are none.
const UNREADABLE: [&str; 2] = ["unreadable_answer", "unexpected_answer"];

/// Reads an answer. Success needs both a 2xx and `"status":"ok"` with a session in it.
pub(super) fn read(call: EffectKind, http: u16, body: &[u8]) -> Outcome {
    let Ok(envelope) = serde_json::from_slice::<Envelope>(body) else {
        return unknown(UNREADABLE[0], format!("HTTP {http}"));
    };
    let ok = (200..300).contains(&http);
    match (envelope.status.as_deref(), envelope.session, envelope.error) {
        (Some("ok"), Some(session), None) if ok => match session.into_report() {
            Some(report) => Outcome::Accepted(report),
            None => unknown(UNREADABLE[0], "the session's id cannot be one".to_owned()),
        },
        (_, _, Some(error)) => refused(call, http, error),
        (_, _, None) => unknown(UNREADABLE[1], format!("HTTP {http} without session or error")),
    }
}

/// What an answer with this status, which could be read so, says about Pike.
pub(super) fn condition(http: u16, outcome: &Outcome) -> Condition {
    match outcome {
        Outcome::Accepted(_) | Outcome::Declined(_) => Condition::Well,
        Outcome::Unknown(error) if http >= 500 || http == 408 || is_none(error) => Condition::Ill,
        Outcome::Unknown(_) => Condition::Well,
    }
}

/// Whether it came as a good answer and is none: Pike has changed what it says, or somebody else answers in
/// its place. A gateway's own pages come with other statuses.
pub(super) fn is_malformed(http: u16, outcome: &Outcome) -> bool {
    (200..300).contains(&http) && matches!(outcome, Outcome::Unknown(error) if is_none(error))
}

fn is_none(error: &ProviderError) -> bool {
    UNREADABLE.contains(&error.code.as_str())
}

/// A 429 or a 503 is no exception, with or without `Retry-After`. Pike documents neither, so nobody says that
/// whoever answers so had not passed the call on before: a gateway may give up on an upstream that goes on.
/// For start, confirm and cancel it is therefore as unknown as any other lost answer; creating and reading
/// are harmless and keep their place (`worker::effects`).
fn refused(call: EffectKind, http: u16, error: ErrorBody) -> Outcome {
    let error = error.into_error();
    let definite = !(500..600).contains(&http) && !matches!(http, 408 | 429);
    if call == EffectKind::StartPayout && definite && is_final_start_refusal(&error.code) {
        return Outcome::Declined(error);
    }
    Outcome::Unknown(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: &str = r#"{"status":"ok","session":{"id":"ps_1","status":"created"}}"#;

    fn code(call: EffectKind, http: u16, body: &str) -> (&'static str, String) {
        match read(call, http, body.as_bytes()) {
            Outcome::Accepted(report) => ("accepted", report.session.0),
            Outcome::Declined(error) => ("declined", error.code),
            Outcome::Unknown(error) => ("unknown", error.code),
        }
    }

    fn error(code: &str) -> String {
        format!(r#"{{"status":"error","error":{{"code":"{code}","description":"d"}}}}"#)
    }

    #[test]
    fn success_needs_everything() {
        use EffectKind::CreateSession as Create;
        assert_eq!(code(Create, 200, OK), ("accepted", "ps_1".to_owned()));
        for (http, body) in [
            (500, OK.to_owned()),
            (307, OK.to_owned()),
            (200, OK.replace("ok", "fine")),
            (200, r#"{"status":"ok"}"#.to_owned()),
            (200, String::new()),
            (200, "<html>".to_owned()),
            (200, OK[..20].to_owned()),
            (200, format!("{OK}x")),
        ] {
            assert_eq!(code(Create, http, &body).0, "unknown", "{http} {body}");
        }
    }

    #[test]
    fn a_refusal_that_can_be_read_is_a_sign_of_life() {
        use EffectKind::{Confirm, StartPayout};
        for (http, body, expected) in [
            (200, OK.to_owned(), Condition::Well),
            (400, error("session_wrong_state"), Condition::Well),
            (400, error("bank_card_expired"), Condition::Well),
            (400, "<html>".to_owned(), Condition::Ill),
            (200, "{}".to_owned(), Condition::Ill),
            (408, error("x"), Condition::Ill),
            (500, error("internal_error"), Condition::Ill),
            (502, String::new(), Condition::Ill),
        ] {
            for call in [StartPayout, Confirm] {
                let outcome = read(call, http, body.as_bytes());
                assert_eq!(condition(http, &outcome), expected, "{http} {body}");
                assert_eq!(is_malformed(http, &outcome), body == "{}", "{http} {body}");
            }
        }
    }

    #[test]
    fn only_listed_codes_of_a_start_decline() {
        use EffectKind::{Confirm, StartPayout};
        assert_eq!(code(StartPayout, 400, &error("bank_card_expired")).0, "declined");
        assert_eq!(code(StartPayout, 200, &error("bank_card_expired")).0, "declined");
        for busy in [408, 429, 502, 503] {
            assert_eq!(code(StartPayout, busy, &error("bank_card_expired")).0, "unknown", "{busy}");
        }
        assert_eq!(code(Confirm, 400, &error("bank_card_expired")).0, "unknown");
        for other in ["session_wrong_state", "idempotency_key_already_exists", "invalid_request", "nonsense"]
        {
            assert_eq!(code(StartPayout, 400, &error(other)), ("unknown", other.to_owned()));
        }
    }
}
