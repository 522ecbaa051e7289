//! The sandbox's page in the browser and what it asks for: sessions newest first, one session, the totals.
//! Reads only; what its buttons do is in `control`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::Sandbox;
use super::code::Code;
use super::http::respond;
use super::parameters::{Parameters, Refusal};
use super::report::Sums;
use super::scalars::SessionId;
use super::session::Session;
use super::view::{self, Shown};

/// Sessions listed when the asker does not say how many, and at most.
const LISTED: (usize, usize) = (50, 500);

/// Nothing from elsewhere, and nothing in somebody else's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub fn routes() -> Router<Arc<Sandbox>> {
    let file = |kind: &'static str, text: &'static str| get(move || async move { serve_file(kind, text) });
    Router::new()
        .route("/_sandbox", get(|| async { Redirect::permanent("/_sandbox/") }))
        .route("/_sandbox/", file("text/html; charset=utf-8", include_str!("pages/console.html")))
        .route("/_sandbox/console.css", file("text/css; charset=utf-8", include_str!("pages/console.css")))
        .route(
            "/_sandbox/console.js",
            file("text/javascript; charset=utf-8", include_str!("pages/console.js")),
        )
        .route("/_sandbox/sessions", get(list))
        .route("/_sandbox/sessions/{id}", get(show))
        .route("/_sandbox/summary", get(summary))
}

fn serve_file(kind: &'static str, text: &'static str) -> Response {
    let headers: [(HeaderName, &str); 4] = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, text).into_response()
}

struct Wanted {
    project: Option<String>,
    status: Option<String>,
    /// A part of the metadata's JSON text.
    metadata: Option<String>,
    limit: Option<usize>,
}

impl Wanted {
    fn of(parameters: &Parameters) -> Result<Self, Refusal> {
        let text = |name| parameters.text(name).map(str::to_owned);
        let limit = parameters.count("limit")?;
        Ok(Self { project: text("project"), status: text("status"), metadata: text("metadata"), limit })
    }

    fn includes(&self, session: &Session) -> bool {
        let same = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|wanted| wanted == is);
        same(&self.project, &session.project)
            && same(&self.status, session.status.name())
            && self
                .metadata
                .as_deref()
                .is_none_or(|part| metadata(session).is_some_and(|metadata| metadata.get().contains(part)))
    }
}

fn metadata(session: &Session) -> Option<&RawValue> {
    let started = session.payouts.last().map(|payout| payout.metadata.as_deref());
    started.unwrap_or(session.draft.metadata.as_deref())
}

#[derive(Serialize)]
struct Row<'a> {
    id: SessionId,
    project: &'a str,
    status: &'static str,
    payout_status: Option<&'static str>,
    amount: Option<i64>,
    currency: Option<String>,
    card: Option<String>,
    metadata: Option<&'a RawValue>,
    created_at: Shown,
}

impl<'a> Row<'a> {
    fn of(session: &'a Session) -> Self {
        let payout = session.payouts.last();
        let amount = payout.map(|payout| &payout.amount).or(session.draft.amount.as_ref());
        let card = payout.map(|payout| &payout.destination.card);
        Self {
            id: session.id,
            project: &session.project,
            status: session.status.name(),
            payout_status: payout.map(|payout| payout.status().name()),
            amount: amount.map(|amount| amount.minor),
            currency: amount.map(|amount| amount.currency.upper()),
            card: card.map(|card| format!("{} {}", card.brand, card.last4)),
            metadata: metadata(session),
            created_at: Shown(session.created_at),
        }
    }
}

/// The youngest sessions that are in memory.
async fn list(State(sandbox): State<Arc<Sandbox>>, parameters: Parameters) -> Result<Response, Refusal> {
    let wanted = Wanted::of(&parameters)?;
    let world = sandbox.world();
    let sessions = world.state.sessions.iter().rev().map(|(_, record)| &record.session);
    let fitting = sessions.filter(|session| wanted.includes(session));
    let rows: Vec<_> = fitting.take(wanted.limit.unwrap_or(LISTED.0).min(LISTED.1)).map(Row::of).collect();
    let body = serde_json::to_vec(&json!({ "sessions": rows }));
    Ok(respond(StatusCode::OK, body.expect("string keys and no failing parts")))
}

/// One session, as `session/status` shows it in the version of its start.
async fn show(State(sandbox): State<Arc<Sandbox>>, Path(id): Path<String>) -> Response {
    let world = sandbox.world();
    let id = SessionId::parse(&id);
    let archived = id.and_then(|id| world.state.archive.read(id).ok().flatten());
    let here = id.and_then(|id| world.state.sessions.get(&id));
    let Some(record) = here.or(archived.as_ref()) else {
        return respond(StatusCode::NOT_FOUND, view::explained(Code::InvalidRequest, "no such session"));
    };
    let version = record.session.version;
    respond(StatusCode::OK, view::answer(&record.session, version, view::Look::Report))
}

/// The totals of all projects: cheap enough to be asked for every second.
async fn summary(State(sandbox): State<Arc<Sandbox>>) -> Response {
    let body = serde_json::to_vec(&Sums::of(&sandbox.world(), None));
    respond(StatusCode::OK, body.expect("string keys and no failing parts"))
}
