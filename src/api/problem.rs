//! Errors as callers see them: `application/problem+json` (RFC 9457) with a stable `code`. A problem never
//! repeats what the caller sent: a card number in the wrong place must not come back in an answer or a log.

use super::{auth::Scope, codes::Code};
use crate::{
    domain::{id::PayoutId, rules::Hit},
    engine::EngineError,
    store::{StoreError, encoding::Code as _},
};
use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use std::borrow::Cow;

/// How long a caller should wait before it tries again, in seconds: the next commit is milliseconds away.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// What is wrong with one field. `field` is a JSON path such as `destination.token`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    pub field: String,
    pub code: Code,
    pub detail: Cow<'static, str>,
    pub limit: Option<i64>,
}

impl FieldError {
    pub fn new(field: impl Into<String>, code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { field: field.into(), code, detail: detail.into(), limit: None }
    }

    #[must_use]
    pub fn limit(mut self, limit: i64) -> Self {
        self.limit = Some(limit);
        self
    }
}

/// An answer that is not what the caller hoped for.
#[derive(Clone, Debug)]
pub struct Problem(Box<Parts>);

#[derive(Clone, Debug)]
struct Parts {
    code: Code,
    detail: Cow<'static, str>,
    field: Option<String>,
    limit: Option<i64>,
    errors: Vec<FieldError>,
    payout: Option<PayoutId>,
    required_scope: Option<Scope>,
    reasons: Vec<Hit>,
}

impl Problem {
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Parts {
            code,
            detail: detail.into(),
            field: None,
            limit: None,
            errors: vec![],
            payout: None,
            required_scope: None,
            reasons: vec![],
        }))
    }

    /// The top level is the first error, so that a caller may stop reading there; card numbers come first.
    /// All of them are listed when there are several.
    ///
    /// # Panics
    /// Without any error.
    #[must_use]
    pub fn of_fields(mut errors: Vec<FieldError>) -> Self {
        errors.sort_by_key(|error| error.code != Code::RawCardRefused);
        let first = errors.first().expect("a problem with fields has at least one error").clone();
        let mut problem = Self::new(first.code, first.detail);
        // The path of the body as a whole is empty.
        problem.0.field = Some(first.field).filter(|field| !field.is_empty());
        problem.0.limit = first.limit;
        if errors.len() > 1 {
            problem.0.errors = errors;
        }
        problem
    }

    #[must_use]
    pub fn no_such_payout() -> Self {
        Self::new(Code::NoSuchPayout, "The project has no payout with this id.")
    }

    #[must_use]
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.0.field = Some(field.into());
        self
    }

    #[must_use]
    pub fn limit(mut self, limit: i64) -> Self {
        self.0.limit = Some(limit);
        self
    }

    #[must_use]
    pub fn payout(mut self, id: PayoutId) -> Self {
        self.0.payout = Some(id);
        self
    }

    #[must_use]
    pub fn required_scope(mut self, scope: Scope) -> Self {
        self.0.required_scope = Some(scope);
        self
    }

    #[must_use]
    pub fn reasons(mut self, reasons: Vec<Hit>) -> Self {
        self.0.reasons = reasons;
        self
    }

    /// A write that was not acknowledged. Nothing was wrong with the request, and trying again is safe.
    #[must_use]
    pub fn unavailable() -> Self {
        Self::new(
            Code::TemporarilyUnavailable,
            "It is not known whether the request took effect. Send it again unchanged (a payout under the \
             same Idempotency-Key) to find out; nothing happens twice.",
        )
    }
}

/// A limit as it is shown.
#[must_use]
pub fn shown(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    code: &'static str,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Item<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payout: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    required_scope: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<ReasonItem<'a>>,
}

#[derive(Serialize)]
struct Item<'a> {
    field: &'a str,
    code: &'static str,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<i64>,
}

#[derive(Serialize)]
struct ReasonItem<'a> {
    rule: &'a str,
    outcome: &'static str,
    detail: &'a str,
}

impl<'a> Item<'a> {
    fn of(error: &'a FieldError) -> Self {
        let FieldError { field, code, detail, limit } = error;
        Self { field, code: code.text(), detail, limit: *limit }
    }
}

impl<'a> ReasonItem<'a> {
    fn of(hit: &'a Hit) -> Self {
        Self { rule: &hit.rule, outcome: hit.outcome.code(), detail: &hit.detail }
    }
}

impl Parts {
    fn body(&self) -> Body<'_> {
        Body {
            kind: format!("/problems/{}", self.code.text()),
            title: self.code.title(),
            status: self.code.status().as_u16(),
            code: self.code.text(),
            detail: &self.detail,
            field: self.field.as_deref(),
            limit: self.limit,
            errors: self.errors.iter().map(Item::of).collect(),
            payout: self.payout.map(|id| id.to_string()),
            required_scope: self.required_scope.map(Scope::code),
            reasons: self.reasons.iter().map(ReasonItem::of).collect(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.0.code.status(), Json(self.0.body())).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match self.0.code.status() {
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, RETRY_AFTER);
            }
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            // The rest of the body stays unread, so the connection is of no more use.
            StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response
    }
}

/// A read that failed is logged here; nobody else has seen it.
impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "a request could not be answered from the database");
        of_store(&error, || {
            Self::new(Code::TemporarilyUnavailable, "The request cannot be answered just now.")
        })
    }
}

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        StoreError::from(error).into()
    }
}

/// The engine has logged its own failures.
impl From<EngineError> for Problem {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Store(error) => of_store(&error, Self::unavailable),
            EngineError::Gone(_) | EngineError::NotKept => Self::unavailable(),
            EngineError::Busy => Self::new(
                Code::TemporarilyUnavailable,
                "Too many requests are waiting; this one was not begun.",
            ),
            EngineError::ReconcileOnly => Self::new(
                Code::ReconcileOnly,
                "payoutd is comparing its records with Pike's and takes neither orders nor commands. Nothing \
                 was done; send the request again, unchanged, later.",
            ),
        }
    }
}

/// Trying again cannot help against data that the database refuses or that we cannot read.
fn of_store(error: &StoreError, unavailable: fn() -> Problem) -> Problem {
    if error.blames_the_data() {
        return Problem::new(Code::InternalError, "The mistake is ours and has been reported.");
    }
    unavailable()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{batch::Gone, domain::rules::RuleOutcome};
    use uuid::Uuid;

    /// What the room's tests look at.
    impl Problem {
        pub fn code(&self) -> Code {
            self.0.code
        }

        pub fn detail(&self) -> &str {
            &self.0.detail
        }

        pub fn named_field(&self) -> Option<&str> {
            self.0.field.as_deref()
        }

        pub fn errors(&self) -> &[FieldError] {
            &self.0.errors
        }
    }

    fn json(problem: &Problem) -> serde_json::Value {
        serde_json::to_value(problem.0.body()).unwrap()
    }

    #[test]
    fn the_shape_is_the_documented_one() {
        let one = FieldError::new("recipient.name", Code::InvalidLength, "Too long.").limit(140);
        assert_eq!(
            json(&Problem::of_fields(vec![one.clone()])),
            serde_json::json!({
                "type": "/problems/invalid_length", "title": "A text is too short or too long",
                "status": 422, "code": "invalid_length", "detail": "Too long.",
                "field": "recipient.name", "limit": 140,
            })
        );
        let card = FieldError::new("reference", Code::RawCardRefused, "Tokenise it.");
        let several = json(&Problem::of_fields(vec![one, card]));
        assert_eq!((&several["code"], &several["field"]), (&"raw_card_refused".into(), &"reference".into()));
        assert_eq!(several["errors"][1]["field"], "recipient.name");
        assert_eq!(several["errors"][1]["limit"], 140);
    }

    #[test]
    fn extras_appear_only_where_they_belong() {
        let id = PayoutId(Uuid::from_u128(7));
        assert_eq!(json(&Problem::new(Code::ReferenceTaken, "").payout(id))["payout"], id.to_string());
        let scope = Problem::new(Code::MissingScope, "").required_scope(Scope::Approve);
        assert_eq!(json(&scope)["required_scope"], "approve");
        let hit = Hit { rule: "amount.max".into(), outcome: RuleOutcome::Cancel, detail: "too much".into() };
        assert_eq!(
            json(&Problem::new(Code::RulesForbid, "").reasons(vec![hit]))["reasons"],
            serde_json::json!([{ "rule": "amount.max", "outcome": "cancel", "detail": "too much" }])
        );
        assert_eq!(json(&Problem::no_such_payout()).as_object().unwrap().len(), 5);
    }

    #[test]
    fn headers_follow_the_status() {
        let unavailable = Problem::unavailable().into_response();
        assert_eq!(unavailable.status(), 503);
        assert_eq!(unavailable.headers()["retry-after"], "1");
        assert_eq!(unavailable.headers()["content-type"], "application/problem+json");
        let who = Problem::new(Code::Unauthenticated, "").into_response();
        assert_eq!(who.headers()["www-authenticate"], "Bearer");
        assert_eq!(Problem::new(Code::BodyTooSlow, "").into_response().headers()["connection"], "close");
    }

    #[test]
    fn trouble_with_the_database_is_temporary_unless_the_data_are_at_fault() {
        for error in [EngineError::Busy, EngineError::Gone(Gone), sqlx::Error::PoolTimedOut.into()] {
            assert_eq!(Problem::from(error).code(), Code::TemporarilyUnavailable);
        }
        let impossible = StoreError::ImpossibleRow { table: "payouts", column: "state", id: "1".into() };
        assert_eq!(Problem::from(impossible).code(), Code::InternalError);
    }
}
