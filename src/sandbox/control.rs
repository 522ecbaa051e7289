//! The sandbox's controls: fault rules and scenarios, and what a person makes happen to a session. Only what
//! the machine allows can be made to happen; everything is booked as if it had come by itself.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use axum::routing::{delete, get, post};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Sandbox;
use super::code::Code;
use super::faults::{Book, Rule, Scenario};
use super::http::respond;
use super::machine::{Hand, Input};
use super::scalars::SessionId;
use super::view;

pub fn routes() -> Router<Arc<Sandbox>> {
    Router::new()
        .route("/_sandbox/faults", get(list).post(add).delete(clear))
        .route("/_sandbox/faults/{id}", delete(remove))
        .route("/_sandbox/scenario", post(replace))
        .route("/_sandbox/sessions/{id}/{action}", post(act))
}

fn done(body: &Value) -> Response {
    respond(StatusCode::OK, body.to_string().into_bytes())
}

fn refuse(reason: &str) -> Response {
    respond(StatusCode::BAD_REQUEST, view::explained(Code::InvalidRequest, reason))
}

/// Reads a body that is JSON and says so. A page of another site can send a form, but not this, so a browser
/// that happens to run beside the sandbox cannot be talked into using it.
fn read(headers: &HeaderMap, body: &Bytes) -> Result<Value, String> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !kind.starts_with("application/json") {
        return Err("send JSON, with `Content-Type: application/json`".to_owned());
    }
    if body.is_empty() {
        return Ok(json!({}));
    }
    serde_json::from_slice(body).map_err(|error| format!("not JSON: {error}"))
}

async fn list(State(sandbox): State<Arc<Sandbox>>) -> Response {
    let world = sandbox.world();
    done(&json!({ "seed": world.faults.seed(), "faults": world.faults.entries() }))
}

async fn add(State(sandbox): State<Arc<Sandbox>>, headers: HeaderMap, body: Bytes) -> Response {
    let rule = read(&headers, &body).and_then(Rule::read);
    match rule.and_then(|rule| sandbox.world().faults.add(rule)) {
        Ok(id) => done(&json!({ "id": id })),
        Err(reason) => refuse(&reason),
    }
}

async fn clear(State(sandbox): State<Arc<Sandbox>>) -> Response {
    sandbox.world().faults.clear();
    done(&json!({}))
}

async fn remove(State(sandbox): State<Arc<Sandbox>>, Path(id): Path<String>) -> Response {
    if id.parse().is_ok_and(|id| sandbox.world().faults.remove(id)) {
        return done(&json!({}));
    }
    respond(StatusCode::NOT_FOUND, view::explained(Code::InvalidRequest, "there is no such rule"))
}

async fn replace(State(sandbox): State<Arc<Sandbox>>, headers: HeaderMap, body: Bytes) -> Response {
    match read(&headers, &body).and_then(Scenario::read) {
        Ok(Scenario { seed, rules }) => {
            let mut world = sandbox.world();
            let seed = seed.unwrap_or_else(|| world.faults.seed());
            world.faults = Book::new(seed, rules);
            done(&json!({ "seed": seed, "faults": world.faults.entries() }))
        }
        Err(reason) => refuse(&reason),
    }
}

/// What may go with an action.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Details {
    /// Why it fails.
    code: Option<Code>,
    /// How an open question is resolved.
    #[serde(rename = "as")]
    outcome: Option<Resolved>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Resolved {
    Paid,
    Failed,
}

const ACTIONS: &str = "advance, fail, error, resolve, return, resend";

async fn act(
    State(sandbox): State<Arc<Sandbox>>,
    Path((id, action)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let details = read(&headers, &body)
        .and_then(|value| serde_json::from_value(value).map_err(|error| error.to_string()));
    let Details { code, outcome } = match details {
        Ok(details) => details,
        Err(reason) => return refuse(&reason),
    };
    let hand = match (action.as_str(), outcome) {
        ("advance", _) => Some(Hand::Advance),
        ("fail", _) | ("resolve", Some(Resolved::Failed)) => {
            Some(Hand::Fail(code.unwrap_or(Code::ProviderInternalError)))
        }
        ("resolve", None | Some(Resolved::Paid)) => Some(Hand::Pay),
        ("error", _) => Some(Hand::Doubt),
        ("return", _) => Some(Hand::Return),
        ("resend", _) => None,
        (_, _) => return refuse(&format!("`{action}` is not an action; there are {ACTIONS}")),
    };
    let mut world = sandbox.world();
    let known = SessionId::parse(&id).filter(|id| world.recall(*id));
    let Some(id) = known else {
        return respond(StatusCode::NOT_FOUND, view::explained(Code::InvalidRequest, "no such session"));
    };
    let now = sandbox.now();
    let happened = match hand {
        Some(hand) => world.step(id, Input::Hand(hand), now),
        None => world.resend(id, now).map(|_| ()).ok_or(Code::SessionWrongState),
    };
    world.dirty = true;
    sandbox.agenda_changed.notify_one();
    match (happened, world.state.sessions.get(&id)) {
        (Ok(()), Some(record)) => {
            let version = record.session.version;
            respond(StatusCode::OK, view::answer(&record.session, version, view::Look::Report))
        }
        (Err(code), _) => respond(StatusCode::CONFLICT, view::refusal(code)),
        (Ok(()), None) => respond(StatusCode::NOT_FOUND, view::refusal(Code::InvalidRequest)),
    }
}
