//! HTTP in: the routes of both versions, who calls (project and signature over the raw body), and the way to
//! `World::call`. Bad input of any kind gets an answer in Pike's shape.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;

use super::Sandbox;
use super::calls::{Answer, Arrival};
use super::code::Code;
use super::report;
use super::request::{self, Method, Reader};
use super::scalars::Digest;
use super::session::Version;
use super::tokens::{widget, wish};

pub const SIGNATURE_HEADER: &str = "x-partner-sign";
const PROJECT_HEADER: &str = "x-partner-project";
const IDEMPOTENCY_HEADER: &str = "x-partner-idempotency-key";

/// No call of the API comes near this.
const BODY_LIMIT: usize = 1024 * 1024;
/// How long a caller may take to send its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// The sandbox's routes: the API in both versions, and its own ones under `/_sandbox`.
pub fn router(sandbox: Arc<Sandbox>) -> Router {
    let mut router = Router::new();
    for (prefix, version) in [("/api/v1/", Version::V1), ("/api/v2/", Version::V2)] {
        for method in Method::ALL.into_iter().filter(|method| method.exists_in(version)) {
            let handler = move |State(sandbox): State<Arc<Sandbox>>, request: Request| {
                handle(sandbox, version, method, request)
            };
            router = router.route(&format!("{prefix}{}", method.path()), post(handler));
        }
    }
    router
        .merge(report::routes())
        .merge(widget::routes())
        .fallback(|| async { respond(StatusCode::NOT_FOUND, Answer::error(Code::InvalidRequest).body) })
        .method_not_allowed_fallback(|| async {
            respond(StatusCode::METHOD_NOT_ALLOWED, Answer::error(Code::InvalidRequest).body)
        })
        .with_state(sandbox)
}

async fn handle(sandbox: Arc<Sandbox>, version: Version, method: Method, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let read = tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, BODY_LIMIT)).await;
    let answer = match read {
        Ok(Ok(body)) => answer(&sandbox, version, method, &parts.headers, &body),
        Ok(Err(_)) | Err(_) => Answer::error(Code::InvalidRequest),
    };
    tracing::debug!(method = method.path(), status = answer.status, "answered a call");
    respond(StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), answer.body)
}

/// All a call needs besides its transport. What costs time (hash, RSA, JSON) is done before the lock.
fn answer(sandbox: &Sandbox, version: Version, method: Method, headers: &HeaderMap, body: &[u8]) -> Answer {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let named = text(PROJECT_HEADER).and_then(|name| sandbox.partners.get_key_value(name));
    let arrival = Arrival {
        project: named.map_or("", |(project, _)| project),
        method,
        version,
        body_sha256: Digest::of(body),
        idempotency_key: text(IDEMPOTENCY_HEADER).filter(|key| !key.is_empty()),
    };
    let Some((project, key)) = named else {
        return sandbox.world().turn_away(arrival, Code::IdentificationError, sandbox.now());
    };
    let signature = headers.get(SIGNATURE_HEADER).map(|value| value.as_bytes());
    if !signature.is_some_and(|signature| key.verifies(body, signature)) {
        return sandbox.world().turn_away(arrival, Code::AuthenticationError, sandbox.now());
    }
    let reader = Reader { project, version, seal: &sandbox.seal, now: sandbox.now() };
    if !method.is_about_sessions() {
        let wanted = wish::read(method, body, reader);
        return sandbox.world().attend(arrival, wanted, sandbox.now());
    }
    let request = request::read(body, reader);
    let mut world = sandbox.world();
    let due_before = world.next_due();
    let answer = world.call(arrival, request, sandbox.now());
    if world.next_due() != due_before {
        sandbox.agenda_changed.notify_one();
    }
    answer
}

/// A JSON answer.
pub fn respond(status: StatusCode, body: Vec<u8>) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], Body::from(body)).into_response()
}
