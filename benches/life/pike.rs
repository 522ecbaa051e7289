//! An instant Pike: answers at once, is ready at once, pays at once. Knows what it was told long enough to
//! repeat it, and nothing else; whether a service behaves is for the tests, here only what it costs.

use crate::text;
use aws_lc_rs::rsa::KeyPair;
use axum::{Router, body::Bytes, extract::State, routing::post};
use hmac::Hmac;
use payoutd::clock::Clock;
use serde::Deserialize;
use sha2::Sha256;
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use time::format_description::well_known::Rfc3339;
use tokio::net::TcpListener;

/// Between two tries of a webhook that was not taken.
const AGAIN: Duration = Duration::from_millis(20);

/// How webhooks are signed.
pub enum Scheme {
    Hmac(Hmac<Sha256>),
    Rsa(Box<KeyPair>),
}

pub struct Pike {
    sessions: Mutex<HashMap<u64, Started>>,
    next: AtomicU64,
    http: reqwest::Client,
    /// Where webhooks go, by turns; set once the service is there.
    hooks: Mutex<Vec<String>>,
    scheme: Mutex<Scheme>,
    /// From sending a webhook to its acknowledgement.
    pub acknowledged: Mutex<Vec<Duration>>,
    pub calls: AtomicU64,
    /// While it is, every call is answered 503.
    pub away: AtomicBool,
    /// Whether sessions' ids are counted up.
    pub counts_up: AtomicBool,
}

/// What a start said.
#[derive(Clone)]
struct Started {
    metadata: String,
    customer: String,
    amount: i64,
    currency: String,
}

#[derive(Deserialize)]
struct Start {
    session_id: String,
    metadata: String,
    amount_details: Amount,
    customer: Customer,
}

#[derive(Deserialize)]
struct Amount {
    amount: i64,
    currency: String,
}

#[derive(Deserialize)]
struct Customer {
    reference: String,
}

#[derive(Deserialize)]
struct Named {
    session_id: String,
}

/// How a session looks.
#[derive(Clone, Copy)]
enum Look {
    Working,
    Ready,
    Paid,
}

impl Pike {
    /// Starts listening.
    pub async fn start(secret: &[u8]) -> (Arc<Self>, SocketAddr) {
        let http = reqwest::Client::builder().no_proxy().tcp_nodelay(true).build().unwrap();
        let pike = Arc::new(Self {
            sessions: Mutex::default(),
            next: AtomicU64::new(1),
            http,
            hooks: Mutex::default(),
            scheme: Mutex::new(Scheme::Hmac(text::hmac_key(secret))),
            acknowledged: Mutex::default(),
            calls: AtomicU64::new(0),
            away: AtomicBool::new(false),
            counts_up: AtomicBool::new(false),
        });
        let router = Router::new()
            .route("/api/v2/session/create", post(create))
            .route("/api/v2/session/start/payout", post(start))
            .route("/api/v2/session/confirm", post(confirm))
            .route("/api/v2/session/status", post(status))
            .with_state(Arc::clone(&pike));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        (pike, address)
    }

    /// From now on webhooks go there.
    pub fn send_to(&self, hooks: Vec<String>) {
        *self.hooks.lock().unwrap() = hooks;
    }

    /// Each of several has its turn.
    fn hook(&self, session: &str) -> String {
        let hooks = self.hooks.lock().unwrap();
        let turn = usize::try_from(number(session)).unwrap();
        hooks[turn % hooks.len()].clone()
    }

    pub fn sign_with(&self, scheme: Scheme) {
        *self.scheme.lock().unwrap() = scheme;
    }

    /// Sends a webhook until it is taken.
    async fn tell(self: Arc<Self>, r#type: &'static str, session: String, started: Started, look: Look) {
        let body = format!(r#"{{"type":"{type}","session":{}}}"#, shown(&session, &started, look));
        let signature = match &*self.scheme.lock().unwrap() {
            Scheme::Hmac(key) => text::hmac(key, body.as_bytes()),
            Scheme::Rsa(key) => text::rsa(key, body.as_bytes()),
        };
        let hook = self.hook(&session);
        loop {
            let began = Instant::now();
            let request = self.http.post(&hook).header("content-type", "application/json");
            let sent = request.header("x-partner-sign", &signature).body(body.clone()).send().await;
            if sent.is_ok_and(|answer| answer.status().is_success()) {
                self.acknowledged.lock().unwrap().push(began.elapsed());
                return;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    fn is_away(&self) -> bool {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.away.load(Ordering::Relaxed)
    }
}

type Answer = Result<String, axum::http::StatusCode>;

const AWAY: Answer = Err(axum::http::StatusCode::SERVICE_UNAVAILABLE);

async fn create(State(pike): State<Arc<Pike>>, _body: Bytes) -> Answer {
    if pike.is_away() {
        return AWAY;
    }
    let number = pike.next.fetch_add(1, Ordering::Relaxed);
    // Each once, in no order as a rule: nobody's index is to grow at its end because of us.
    let id = match pike.counts_up.load(Ordering::Relaxed) {
        true => number,
        false => number.wrapping_mul(0x9e37_79b9_7f4a_7c15),
    };
    let now = now();
    Ok(format!(
        r#"{{"status":"ok","session":{{"id":"ps_{id:020}","status":"created","created_at":"{now}","updated_at":"{now}"}}}}"#
    ))
}

async fn start(State(pike): State<Arc<Pike>>, body: Bytes) -> Answer {
    if pike.is_away() {
        return AWAY;
    }
    let start: Start = serde_json::from_slice(&body).unwrap();
    let started = Started {
        metadata: start.metadata,
        customer: start.customer.reference,
        amount: start.amount_details.amount,
        currency: start.amount_details.currency,
    };
    pike.sessions.lock().unwrap().insert(number(&start.session_id), started.clone());
    let answer = answer(&start.session_id, &started, Look::Working);
    tokio::spawn(Arc::clone(&pike).tell("ready_to_confirm", start.session_id, started, Look::Ready));
    Ok(answer)
}

async fn confirm(State(pike): State<Arc<Pike>>, body: Bytes) -> Answer {
    if pike.is_away() {
        return AWAY;
    }
    let Named { session_id } = serde_json::from_slice(&body).unwrap();
    let started = pike.sessions.lock().unwrap().remove(&number(&session_id)).unwrap();
    let answer = answer(&session_id, &started, Look::Working);
    tokio::spawn(Arc::clone(&pike).tell("payment_finished", session_id, started, Look::Paid));
    Ok(answer)
}

/// Only while a service asks before its webhook has come, which is rare.
async fn status(State(pike): State<Arc<Pike>>, body: Bytes) -> Answer {
    if pike.is_away() {
        return AWAY;
    }
    let Named { session_id } = serde_json::from_slice(&body).unwrap();
    let started = pike.sessions.lock().unwrap().get(&number(&session_id)).cloned();
    started.map(|started| answer(&session_id, &started, Look::Ready)).ok_or(axum::http::StatusCode::NOT_FOUND)
}

fn number(session: &str) -> u64 {
    session.trim_start_matches("ps_").parse().unwrap()
}

fn now() -> String {
    Clock.now().format(&Rfc3339).unwrap()
}

fn answer(session: &str, started: &Started, look: Look) -> String {
    format!(r#"{{"status":"ok","session":{}}}"#, shown(session, started, look))
}

/// A session with its one payout, as long as Pike's are.
fn shown(session: &str, started: &Started, look: Look) -> String {
    let Started { metadata, customer, amount, currency } = started;
    let now = now();
    let (status, next, payout) = match look {
        Look::Working => ("in_progress", "", "in_progress"),
        Look::Ready => ("in_progress", r#""next_action":"confirm","#, "in_progress"),
        Look::Paid => ("accepted", "", "succeeded"),
    };
    let end = match look {
        Look::Working | Look::Ready => String::new(),
        Look::Paid => format!(
            r#","finished_at":"{now}","amounts":{{"fee":{{"merchant_fee":{{"amount":1250,"currency":"RUB"}}}}}},"transaction_info":{{"rrn":"123456789012","auth_code":"123456"}}"#
        ),
    };
    let number = session.trim_start_matches("ps_");
    format!(
        r#"{{"id":"{session}","status":"{status}","created_at":"{now}","updated_at":"{now}",{next}"payout_list":[{{"id":"po_{number}","status":"{payout}","created_at":"{now}","customer":{{"reference":"{customer}"}},"payout_details":{{"type":"card","card":{{"type":"tokenized_card","brand":"visa","bin":"411111","last4":"1111","card_id":"card_{number}","country_iso3":"RUS"}}}},"amount_details":{{"amount":{amount},"currency":"{currency}"}},"participant_details":{{"recipient":{{"full_name":"Anna Petrova"}}}},"metadata":"{metadata}"{end}}}]}}"#
    )
}
