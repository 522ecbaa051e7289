//! The sandbox's own pages: what the ledger says, for tests and people. Reads only.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::Sandbox;
use super::code::Code;
use super::faults::FaultKind;
use super::http::respond;
use super::ledger::{Event, Totals};
use super::request::Method;
use super::scalars::{At, SessionId};
use super::view::{self, Shown};
use super::world::{Record, World};

pub fn routes() -> Router<Arc<Sandbox>> {
    Router::new()
        .route("/_sandbox/health", get(|| async { respond(StatusCode::OK, b"{\"status\":\"ok\"}".to_vec()) }))
        .route("/_sandbox/ledger", get(ledger))
        .route("/_sandbox/ledger/events", get(events))
}

#[derive(Deserialize)]
struct LedgerQuery {
    project: Option<String>,
}

async fn ledger(State(sandbox): State<Arc<Sandbox>>, Query(query): Query<LedgerQuery>) -> Response {
    let body = summary(&sandbox.world(), query.project.as_deref());
    respond(StatusCode::OK, body)
}

#[derive(Serialize)]
struct Summary<'a> {
    sessions: Vec<Line<'a>>,
    totals: Sums<'a>,
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
}

impl<'a> Line<'a> {
    fn of(record: &'a Record) -> Self {
        let Record { session, page } = record;
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
            starts: page.starts,
            confirms_accepted: page.confirms_accepted,
            cancels_accepted: page.cancels_accepted,
            paid_times: page.paid_times,
            confirmed: page.confirms_accepted > 0,
        }
    }
}

#[derive(Serialize)]
struct Sums<'a> {
    sessions: u64,
    confirmed_sessions: u64,
    paid_sessions: u64,
    money: Vec<Money<'a>>,
    calls: BTreeMap<Method, u64>,
    refusals: BTreeMap<Code, u64>,
    answers_lost: u64,
    calls_broken: u64,
    webhook_attempts: u64,
    webhooks_delivered: u64,
    webhooks_given_up: u64,
    webhooks_under_way: usize,
    forgeries: u64,
    forgeries_accepted: u64,
    faults: BTreeMap<FaultKind, u64>,
}

#[derive(Serialize)]
struct Money<'a> {
    project: &'a str,
    currency: &'a str,
    out: i128,
    back: i128,
    payouts_paid: u64,
}

fn summary(world: &World, project: Option<&str>) -> Vec<u8> {
    let asked = |name: &str| project.is_none_or(|project| project == name);
    let records = world.state.sessions.values().filter(|record| asked(&record.session.project));
    let mut sessions: Vec<Line<'_>> = records.map(Line::of).collect();
    sessions.sort_by_key(|line| line.id);
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
    let totals = Sums {
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
    };
    serde_json::to_vec(&Summary { sessions, totals }).expect("string keys and no failing parts")
}

#[derive(Deserialize)]
struct EventsQuery {
    session: Option<String>,
}

/// The raw events of a session, or of the calls that belong to none.
async fn events(State(sandbox): State<Arc<Sandbox>>, Query(query): Query<EventsQuery>) -> Response {
    let world = sandbox.world();
    let body = match query.session.as_deref() {
        None => {
            let ledger = &world.state.ledger;
            page(ledger.loose.iter(), ledger.loose_dropped)
        }
        Some(text) => {
            let record = SessionId::parse(text).and_then(|id| world.state.sessions.get(&id));
            let Some(record) = record else {
                return respond(StatusCode::NOT_FOUND, view::refusal(Code::InvalidRequest));
            };
            page(record.page.events.iter(), record.page.events_dropped)
        }
    };
    respond(StatusCode::OK, body.to_string().into_bytes())
}

fn page<'a>(events: impl Iterator<Item = &'a Event>, dropped: u64) -> Value {
    let shown = |at: At| at.to_string();
    let events: Vec<Value> =
        events.map(|event| json!({ "at": shown(event.at), "event": event.what })).collect();
    json!({ "events": events, "dropped": dropped })
}
