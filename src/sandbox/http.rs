//! HTTP in: the routes of both versions, who calls (project and signature over the raw body), and the way to
//! `World::call` and back, through whatever fault strikes. Bad input of any kind gets an answer in Pike's
//! shape.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures_util::stream::{self, StreamExt as _};

use super::Sandbox;
use super::calls::{Answer, Arrival, Carried};
use super::code::Code;
use super::faults::{Deed, Dressed, Flow, Of, Rule, Strike, Wait, dress};
use super::keys::PartnerKey;
use super::ledger::{Event, What};
use super::request::{self, Method, Reader, Request as Wanted};
use super::scalars::{At, Digest, SessionId};
use super::session::Version;
use super::tokens::wish::Wish;
use super::tokens::{widget, wish};
use super::wire::Wire;
use super::world::World;
use super::{console, control, report, view};

pub const SIGNATURE_HEADER: &str = "x-partner-sign";
const PROJECT_HEADER: &str = "x-partner-project";
const SUBMERCHANT_HEADER: &str = "x-partner-submerchant";
const IDEMPOTENCY_HEADER: &str = "x-partner-idempotency-key";
/// Ours: a fault for this one call, in the short form of a rule.
const FAULT_HEADER: &str = "x-sandbox-fault";

/// No call of the API comes near this.
const BODY_LIMIT: usize = 1024 * 1024;
/// How long a caller may take to send its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a call waits unless a figure says so: longer than clients do.
const LONG_DELAY: Duration = Duration::from_secs(60);
/// How long an answer waits for the webhook that is to go before it.
const WEBHOOK_FIRST: Duration = Duration::from_secs(5);
/// Bytes of an endless body made at a time.
const PIECE: &[u8] = &[b'a'; 64 * 1024];

/// The sandbox's routes: the API in both versions, and its own ones under `/_sandbox`.
pub fn router(sandbox: Arc<Sandbox>, start_alias: bool) -> Router {
    let mut router = Router::new();
    for (prefix, version) in [("/api/v1/", Version::V1), ("/api/v2/", Version::V2)] {
        let alias = start_alias.then_some(("session/start", Method::StartPayout));
        let methods = Method::ALL.into_iter().filter(|method| method.exists_in(version));
        let methods = methods.map(|method| (method.path(), method));
        for (path, method) in methods.chain(alias) {
            let handler = move |State(sandbox): State<Arc<Sandbox>>, request: Request| {
                handle(sandbox, version, method, request)
            };
            router = router.route(&format!("{prefix}{path}"), post(handler));
        }
    }
    router
        .merge(report::routes())
        .merge(control::routes())
        .merge(console::routes())
        .merge(widget::routes())
        .fallback(|State(sandbox): State<Arc<Sandbox>>, request: Request| async move {
            stray(&sandbox, &request.into_parts().0, StatusCode::NOT_FOUND)
        })
        .method_not_allowed_fallback(|State(sandbox): State<Arc<Sandbox>>, request: Request| async move {
            stray(&sandbox, &request.into_parts().0, StatusCode::METHOD_NOT_ALLOWED)
        })
        .with_state(sandbox)
}

async fn handle(sandbox: Arc<Sandbox>, version: Version, method: Method, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let read = tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, BODY_LIMIT)).await;
    let Ok(Ok(body)) = read else {
        let status = sandbox.world().refusal(Code::InvalidRequest).status;
        return stray(&sandbox, &parts, StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST));
    };
    let asked = match parts.headers.get(FAULT_HEADER).map(|value| asked_for(value, method)) {
        None => None,
        Some(Ok(strike)) => Some(strike),
        Some(Err(reason)) => {
            stray(&sandbox, &parts, StatusCode::BAD_REQUEST);
            let body = view::explained(Code::InvalidRequest, &format!("{FAULT_HEADER}: {reason}"));
            return respond(StatusCode::BAD_REQUEST, body);
        }
    };
    let call = Call { version, method, body };
    let (answer, strike) = call.make(&sandbox, &parts, asked).await;
    let dressed = dress(answer, strike.as_ref(), parts.uri.path());
    tracing::debug!(method = method.path(), status = dressed.status, ?strike, "answered a call");
    send(dressed, &parts)
}

/// A request that is no call; the ledger has it all the same.
fn stray(sandbox: &Sandbox, parts: &Parts, status: StatusCode) -> Response {
    let what = What::stray(parts.method.as_str(), parts.uri.path());
    let mut world = sandbox.world();
    if !world.closed {
        world.dirty = true;
        world.state.ledger.append_loose(Event { at: sandbox.now(), what });
    }
    respond(status, view::refusal(Code::InvalidRequest))
}

fn asked_for(value: &HeaderValue, method: Method) -> Result<Strike, String> {
    let rule = Rule::read_short(value.to_str().map_err(|_| "not ASCII".to_owned())?)?;
    if rule != (Rule { figures: rule.figures.clone(), ..Rule::plain(rule.fault) }) {
        return Err("only figures go with a fault for one call".to_owned());
    }
    if rule.fault.can_strike(Of::Call(method), true) {
        return Ok(Strike::ordered(&rule));
    }
    Err(format!("`{}` cannot strike {}", rule.fault.name(), method.path()))
}

/// A call as it came, read to its end.
struct Call {
    version: Version,
    method: Method,
    body: Bytes,
}

/// What a body says.
enum Read {
    Session(Result<Wanted, Code>),
    Desk(Result<Wish, Code>),
}

impl Read {
    fn request(&self) -> Option<&Wanted> {
        match self {
            Self::Session(request) => request.as_ref().ok(),
            Self::Desk(_) => None,
        }
    }

    fn carry_out(self, world: &mut World, arrival: Arrival<'_>, strike: Option<&Strike>, now: At) -> Carried {
        match self {
            Self::Session(request) => world.call(arrival, request, strike, now),
            Self::Desk(wish) => {
                let answer = world.attend(arrival, wish, strike, now);
                Carried { answer, session: None, struck: strike.is_some() }
            }
        }
    }
}

/// How far a call came at once.
enum Step {
    Refused(Answer),
    /// Carried out, perhaps on a session, perhaps struck.
    Done(Answer, Option<SessionId>, Option<Strike>),
    /// To be carried out later.
    Wait {
        project: String,
        strike: Strike,
    },
}

impl Call {
    /// Carries the call out; the answer, and the fault that strikes it.
    async fn make(
        self,
        sandbox: &Arc<Sandbox>,
        parts: &Parts,
        asked: Option<Strike>,
    ) -> (Answer, Option<Strike>) {
        let (project, strike) = match self.step(sandbox, &parts.headers, asked) {
            Step::Refused(answer) => return (answer, None),
            Step::Done(answer, session, strike) => {
                hold_back(sandbox, session, strike.as_ref()).await;
                return (answer, strike);
            }
            Step::Wait { project, strike } => (project, strike),
        };
        let (sandbox, headers, waited) = (Arc::clone(sandbox), parts.headers.clone(), strike.clone());
        // On its own, so that it has its effect although the caller has gone.
        let late = tokio::spawn(async move {
            tokio::time::sleep(waited.figures.delay.unwrap_or(LONG_DELAY)).await;
            let arrival = Arrival { project: &project, ..self.arrival(&headers) };
            let read = self.read(&sandbox, &project);
            let carried = read.carry_out(&mut sandbox.world(), arrival, Some(&waited), sandbox.now());
            sandbox.agenda_changed.notify_one();
            carried.answer
        });
        let lost = || Answer { status: 500, body: view::refusal(Code::InternalError) };
        (late.await.unwrap_or_else(|_| lost()), Some(strike))
    }

    /// All a call needs besides its transport. What costs time (hash, RSA, JSON) is done before the lock.
    fn step(&self, sandbox: &Sandbox, headers: &HeaderMap, asked: Option<Strike>) -> Step {
        let arrival = self.arrival(headers);
        let (project, key) = match sandbox.identify(headers) {
            Ok(known) => known,
            Err(code) => return Step::Refused(sandbox.world().turn_away(arrival, code, sandbox.now())),
        };
        let arrival = Arrival { project, ..arrival };
        if !signed(key, headers, &self.body) {
            let code = Code::AuthenticationError;
            return Step::Refused(sandbox.world().turn_away(arrival, code, sandbox.now()));
        }
        // A header that cannot be read must not pass for one that is not there.
        if [IDEMPOTENCY_HEADER, SUBMERCHANT_HEADER].iter().any(|name| is_odd(headers, name)) {
            let code = Code::InvalidRequest;
            return Step::Refused(sandbox.world().turn_away(arrival, code, sandbox.now()));
        }
        let read = self.read(sandbox, project);
        let mut world = sandbox.world();
        let strike = match world.strike(arrival, read.request(), asked) {
            Some(strike) if strike.kind.deed() == Deed::Wait(Wait::BeforeEffect) => {
                return Step::Wait { project: project.to_owned(), strike };
            }
            strike => strike,
        };
        let due_before = world.next_due();
        let carried = read.carry_out(&mut world, arrival, strike.as_ref(), sandbox.now());
        if world.next_due() != due_before {
            sandbox.agenda_changed.notify_one();
        }
        let Carried { answer, session, struck } = carried;
        Step::Done(answer, session, strike.filter(|_| struck))
    }

    fn read(&self, sandbox: &Sandbox, project: &str) -> Read {
        let (version, seal, now) = (self.version, &sandbox.seal, sandbox.now());
        let reader = Reader { project, version, seal, now };
        if self.method.is_about_sessions() {
            Read::Session(request::read(&self.body, reader))
        } else {
            Read::Desk(wish::read(self.method, &self.body, reader))
        }
    }

    fn arrival<'a>(&self, headers: &'a HeaderMap) -> Arrival<'a> {
        Arrival {
            project: "",
            method: self.method,
            version: self.version,
            body_sha256: Digest::of(&self.body),
            idempotency_key: text(headers, IDEMPOTENCY_HEADER).filter(|key| !key.is_empty()),
            submerchant: text(headers, SUBMERCHANT_HEADER).filter(|name| !name.is_empty()),
        }
    }
}

impl Sandbox {
    /// The one project that the headers name.
    fn identify(&self, headers: &HeaderMap) -> Result<(&str, &PartnerKey), Code> {
        if is_odd(headers, PROJECT_HEADER) {
            return Err(Code::IdentificationError);
        }
        let named = text(headers, PROJECT_HEADER).and_then(|name| self.partners.get_key_value(name));
        named.map(|(project, key)| (project.as_str(), key)).ok_or(Code::IdentificationError)
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// More than one value, or one that is not text.
fn is_odd(headers: &HeaderMap, name: &str) -> bool {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    first.is_some_and(|value| value.to_str().is_err()) || values.next().is_some()
}

/// Exactly one signature, and it fits.
fn signed(key: &PartnerKey, headers: &HeaderMap, body: &[u8]) -> bool {
    let mut signatures = headers.get_all(SIGNATURE_HEADER).iter();
    match (signatures.next(), signatures.next()) {
        (Some(signature), None) => key.verifies(body, signature.as_bytes()),
        (None, _) | (Some(_), Some(_)) => false,
    }
}

/// Waits as the fault wants it, after the effect and before the answer.
async fn hold_back(sandbox: &Sandbox, session: Option<SessionId>, strike: Option<&Strike>) {
    let Some(Strike { kind, figures, .. }) = strike else { return };
    if kind.deed() == Deed::Wait(Wait::BeforeAnswer) {
        tokio::time::sleep(figures.delay.unwrap_or(LONG_DELAY)).await;
    }
    let (Deed::Wait(Wait::ForWebhook), Some(id)) = (kind.deed(), session) else { return };
    let attempts = || sandbox.world().state.sessions.get(&id).map(|record| record.page.webhook_attempts);
    let (before, begun) = (attempts(), Instant::now());
    while attempts() == before && begun.elapsed() < figures.delay.unwrap_or(WEBHOOK_FIRST) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// What goes over the wire.
fn send(dressed: Dressed, parts: &Parts) -> Response {
    let mut headers = dressed.headers;
    if let (Some(cut), Some(wire)) = (dressed.cut, parts.extensions.get::<Wire>()) {
        wire.cut(cut);
        // An answer that is shorter than the cut ends the connection too: the next call is not to suffer.
        headers.push((header::CONNECTION, HeaderValue::from_static("close")));
    }
    let body = match dressed.flow {
        Flow::AtOnce(body) => Body::from(body),
        Flow::Drip { body, chunk, pause } => {
            let chunks: Vec<Bytes> = body.chunks(chunk).map(Bytes::copy_from_slice).collect();
            Body::from_stream(stream::iter(chunks).then(move |chunk| async move {
                tokio::time::sleep(pause).await;
                Ok::<_, Infallible>(chunk)
            }))
        }
        Flow::Endless { bytes } => {
            let pieces = bytes.div_ceil(u64::try_from(PIECE.len()).unwrap_or(u64::MAX));
            let head = stream::iter([Bytes::from_static(b"{\"status\":\"ok\",\"padding\":\"")]);
            let rest = stream::iter(0..pieces).map(|_| Bytes::from_static(PIECE));
            Body::from_stream(head.chain(rest).map(Ok::<_, Infallible>))
        }
    };
    let status = StatusCode::from_u16(dressed.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, [(header::CONTENT_TYPE, dressed.content_type)], body).into_response();
    response.headers_mut().extend(headers);
    response
}

/// A JSON answer.
pub fn respond(status: StatusCode, body: Vec<u8>) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], Body::from(body)).into_response()
}
