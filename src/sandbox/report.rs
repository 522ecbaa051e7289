//! The sandbox's own pages: what the ledger says, for tests and people. Reads only, and holds no more of the
//! ledger than a batch at a time.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::Sandbox;
use super::code::Code;
use super::daily;
use super::faults::FaultKind;
use super::http::respond;
use super::ledger::{Event, Totals};
use super::parameters::{Parameters, Refusal};
use super::pieces;
use super::request::Method;
use super::scalars::{At, SessionId};
use super::scan::{Outline, Scan};
use super::survey;
use super::view::{self, Shown};
use super::world::World;

pub fn routes() -> Router<Arc<Sandbox>> {
    Router::new()
        .route("/_sandbox/report", get(survey::page))
        .route("/_sandbox/reports/payouts.csv", get(daily::page))
        .route("/_sandbox/health", get(|| async { respond(StatusCode::OK, b"{\"status\":\"ok\"}".to_vec()) }))
        .route("/_sandbox/ledger", get(ledger))
        .route("/_sandbox/ledger/events", get(events))
}

pub const JSON: &str = "application/json";

async fn ledger(State(sandbox): State<Arc<Sandbox>>, parameters: Parameters) -> Response {
    match LedgerText::asked(&parameters) {
        Ok(mut text) => pieces::send(sandbox, JSON, move |sandbox| text.next(sandbox)).await,
        Err(refusal) => refusal.into_response(),
    }
}

/// The ledger as text: the lines of the sessions by age, the sums as they are when the last line is written,
/// and behind which session the next page begins.
struct LedgerText {
    scan: Scan,
    project: Option<Box<str>>,
    /// Lines that may be written yet; none stands for all.
    left: Option<u64>,
    last: Option<SessionId>,
    begun: bool,
    ended: bool,
}

impl LedgerText {
    fn asked(parameters: &Parameters) -> Result<Self, Refusal> {
        let project = parameters.text("project");
        let after = parameters.read("after", "the `next` of the page before", SessionId::parse)?;
        Ok(Self {
            scan: Scan::new(project, after),
            project: project.map(Box::from),
            left: parameters.count("limit")?,
            last: None,
            begun: false,
            ended: false,
        })
    }

    fn next(&mut self, sandbox: &Sandbox) -> io::Result<Option<Vec<u8>>> {
        if self.ended {
            return Ok(None);
        }
        let mut text = if self.begun { Vec::new() } else { b"{\"sessions\":[".to_vec() };
        self.begun = true;
        let outlines = self.scan.next(sandbox)?;
        self.ended = outlines.is_none();
        for outline in outlines.iter().flatten() {
            if self.left == Some(0) {
                self.ended = true;
                break;
            }
            self.left = self.left.map(|left| left - 1);
            if self.last.replace(outline.session.id).is_some() {
                text.push(b',');
            }
            serde_json::to_writer(&mut text, &Line::of(outline))?;
        }
        if self.ended {
            // Only a page that is full goes on, and only when there was one more session.
            let next = self.last.filter(|_| outlines.is_some());
            text.extend_from_slice(b"],\"totals\":");
            serde_json::to_writer(&mut text, &Sums::of(&sandbox.world(), self.project.as_deref()))?;
            text.extend_from_slice(b",\"next\":");
            serde_json::to_writer(&mut text, &next)?;
            text.push(b'}');
        }
        Ok(Some(text))
    }
}

/// What the ledger says of one session.
#[derive(Serialize)]
struct Line<'a> {
    id: SessionId,
    project: &'a str,
    status: &'static str,
    /// That of the latest payout.
    payout_status: Option<&'static str>,
    payouts: usize,
    metadata: Option<&'a RawValue>,
    amount: Option<i64>,
    currency: Option<String>,
    created_at: Shown,
    starts: u32,
    confirms_accepted: u32,
    cancels_accepted: u32,
    paid_times: u32,
    confirmed: bool,
    paid: bool,
    /// Those of its calls, but for looks.
    idempotency_keys: &'a [Box<str>],
}

impl<'a> Line<'a> {
    fn of(outline: &'a Outline) -> Self {
        let Outline { session, tally } = outline;
        let payout = session.payouts.last();
        let amount = payout.map(|payout| &payout.amount).or(session.draft.amount.as_ref());
        let metadata = payout.map_or(session.draft.metadata.as_deref(), |payout| payout.metadata.as_deref());
        Self {
            id: session.id,
            project: &session.project,
            status: session.status.name(),
            payout_status: payout.map(|payout| payout.status().name()),
            payouts: session.payouts.len(),
            metadata,
            amount: amount.map(|amount| amount.minor),
            currency: amount.map(|amount| amount.currency.upper()),
            created_at: Shown(session.created_at),
            starts: tally.starts,
            confirms_accepted: tally.confirms_accepted,
            cancels_accepted: tally.cancels_accepted,
            paid_times: tally.paid_times,
            confirmed: tally.confirms_accepted > 0,
            paid: tally.paid_times > 0,
            idempotency_keys: &tally.keys,
        }
    }
}

/// The sums of one project, or of all.
#[derive(Serialize)]
pub struct Sums<'a> {
    pub sessions: u64,
    pub confirmed_sessions: u64,
    pub paid_sessions: u64,
    pub money: Vec<Money<'a>>,
    pub calls: BTreeMap<Method, u64>,
    pub refusals: BTreeMap<Code, u64>,
    pub answers_lost: u64,
    pub calls_broken: u64,
    pub webhook_attempts: u64,
    pub webhooks_delivered: u64,
    pub webhooks_given_up: u64,
    pub webhooks_under_way: usize,
    pub forgeries: u64,
    pub forgeries_accepted: u64,
    pub faults: BTreeMap<FaultKind, u64>,
}

#[derive(Serialize)]
pub struct Money<'a> {
    project: &'a str,
    currency: &'a str,
    out: i128,
    back: i128,
    payouts_paid: u64,
}

impl<'a> Sums<'a> {
    #[must_use]
    pub fn of(world: &'a World, project: Option<&str>) -> Self {
        let asked = |name: &str| project.is_none_or(|project| project == name);
        let mut sum = Totals::default();
        let mut money = Vec::new();
        for (name, totals) in world.state.ledger.totals.iter().filter(|(name, _)| asked(name)) {
            sum.add(totals);
            money.extend(totals.money.iter().map(|(currency, flow)| Money {
                project: name,
                currency,
                out: flow.out,
                back: flow.back,
                payouts_paid: flow.payouts_paid,
            }));
        }
        Self {
            sessions: sum.sessions,
            confirmed_sessions: sum.confirmed_sessions,
            paid_sessions: sum.paid_sessions,
            money,
            calls: sum.calls,
            refusals: sum.refusals,
            answers_lost: sum.answers_lost,
            calls_broken: sum.calls_broken,
            webhook_attempts: sum.webhook_attempts,
            webhooks_delivered: sum.webhooks_delivered,
            webhooks_given_up: sum.webhooks_given_up,
            forgeries: sum.forgeries,
            forgeries_accepted: sum.forgeries_accepted,
            faults: sum.faults,
            webhooks_under_way: world.state.deliveries.values().filter(|d| asked(&d.project)).count(),
        }
    }
}

/// The raw events of a session, or of the calls that belong to none.
async fn events(State(sandbox): State<Arc<Sandbox>>, parameters: Parameters) -> Response {
    let world = sandbox.world();
    let Some(text) = parameters.text("session") else {
        let ledger = &world.state.ledger;
        return events_page(ledger.loose.iter(), ledger.loose_dropped);
    };
    let id = SessionId::parse(text);
    if let Some(record) = id.and_then(|id| world.state.sessions.get(&id)) {
        return events_page(record.page.events.iter(), record.page.events_dropped);
    }
    match id.map(|id| world.state.archive.read(id)) {
        Some(Ok(Some(record))) => events_page(record.page.events.iter(), record.page.events_dropped),
        Some(Ok(None)) | None => respond(StatusCode::NOT_FOUND, view::refusal(Code::InvalidRequest)),
        Some(Err(error)) => {
            tracing::warn!(%error, session = text, "could not read a session from the archive");
            respond(StatusCode::INTERNAL_SERVER_ERROR, view::refusal(Code::InternalError))
        }
    }
}

fn events_page<'a>(events: impl Iterator<Item = &'a Event>, dropped: u64) -> Response {
    let shown = |at: At| at.to_string();
    let events: Vec<Value> =
        events.map(|event| json!({ "at": shown(event.at), "event": event.what })).collect();
    let body = json!({ "events": events, "dropped": dropped });
    respond(StatusCode::OK, body.to_string().into_bytes())
}
