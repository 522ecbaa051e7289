//! The platform's system that is told about final statuses. Believes no signature that it has not computed
//! itself.

use crate::support::{keys, until};
use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use payoutd::clock::Clock;
use serde_json::Value;
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Standard Webhooks asks receivers to refuse what is older; so does this one.
const TOLERANCE_SECONDS: i64 = 300;

#[derive(Default)]
pub struct Sink {
    messages: Mutex<Vec<Message>>,
    refuse_next: AtomicUsize,
    pub refused: AtomicUsize,
    pub forged: AtomicUsize,
}

/// A genuine notification.
#[derive(Clone, Debug)]
pub struct Message {
    pub id: String,
    pub text: String,
    pub body: Value,
}

impl Sink {
    pub async fn open() -> (SocketAddr, Arc<Self>) {
        let sink = Arc::new(Self::default());
        let router = Router::new().route("/told", post(receive)).with_state(Arc::clone(&sink));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        (addr, sink)
    }

    /// Answers the next `n` genuine messages with a 500.
    pub fn refuse(&self, n: usize) {
        self.refuse_next.store(n, Ordering::SeqCst);
    }

    pub fn all(&self) -> Vec<Message> {
        self.messages.lock().unwrap().clone()
    }

    /// The accepted messages about a payout.
    pub fn about(&self, payout: &str) -> Vec<Message> {
        self.all().into_iter().filter(|message| message.body["data"]["id"] == payout).collect()
    }

    /// Waits for the `n`th message (from 1) about a payout.
    pub async fn wait(&self, payout: &str, n: usize) -> Message {
        let what = format!("notification {n} of {payout}");
        until(&what, || async { self.about(payout).into_iter().nth(n - 1) }).await
    }
}

async fn receive(State(sink): State<Arc<Sink>>, headers: HeaderMap, text: String) -> StatusCode {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (id, timestamp) = (header("webhook-id").to_owned(), header("webhook-timestamp"));
    let age = Clock.now().unix_timestamp() - timestamp.parse::<i64>().unwrap_or_default();
    let genuine = header("webhook-signature") == keys::standard_webhook(&id, timestamp, &text);
    if !genuine || age.abs() > TOLERANCE_SECONDS || header("content-type") != "application/json" {
        sink.forged.fetch_add(1, Ordering::SeqCst);
        return StatusCode::UNAUTHORIZED;
    }
    let lower = |n: usize| n.checked_sub(1);
    if sink.refuse_next.fetch_update(Ordering::SeqCst, Ordering::SeqCst, lower).is_ok() {
        sink.refused.fetch_add(1, Ordering::SeqCst);
        return StatusCode::INTERNAL_SERVER_ERROR;
    }
    let body = serde_json::from_str(&text).unwrap();
    sink.messages.lock().unwrap().push(Message { id, text, body });
    StatusCode::NO_CONTENT
}
