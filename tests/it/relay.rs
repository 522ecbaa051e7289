//! A relay on the wire between payoutd and Pike, either way: passes HTTP on byte by byte, remembers it, and
//! can hold a request back, lose an answer or say something itself. Its address outlives payoutd.

use crate::support::{http_client, until};
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};
use tokio::sync::watch;

pub struct Relay {
    pub addr: SocketAddr,
    wire: Arc<Wire>,
}

struct Wire {
    http: reqwest::Client,
    target: Mutex<Option<SocketAddr>>,
    plans: Mutex<Vec<Arc<Plan>>>,
    seen: Mutex<Vec<Exchange>>,
}

/// What passed, with the status that was given back.
#[derive(Clone, Debug)]
pub struct Exchange {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub status: u16,
    /// When it arrived.
    pub at: Instant,
}

/// What came back over the wire.
struct Passed {
    status: u16,
    /// `Retry-After`.
    wait: Option<HeaderValue>,
    body: Bytes,
}

impl Passed {
    fn of(status: u16, body: Bytes) -> Self {
        Self { status, wait: None, body }
    }
}

/// What goes wrong on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The request waits until released.
    Hold,
    /// The request passes at once, its answer waits until released.
    HoldAnswer,
    /// The request passes, its answer is replaced by a gateway's page.
    LoseAnswer,
    /// The request does not pass.
    Refuse(u16),
}

/// A trouble for the requests whose path ends in something, a number of times.
pub struct Plan {
    path: &'static str,
    trouble: Trouble,
    left: AtomicUsize,
    met: AtomicUsize,
    open: watch::Sender<bool>,
}

impl Plan {
    /// How often it struck. A fault that never fired has tested nothing.
    pub fn met(&self) -> usize {
        self.met.load(Ordering::SeqCst)
    }

    /// Waits until it has struck.
    pub async fn struck(&self) {
        let what = format!("{:?} on {}", self.trouble, self.path);
        until(&what, || async { (self.met() > 0).then_some(()) }).await;
    }

    /// Strikes no more.
    pub fn end(&self) {
        self.left.store(0, Ordering::SeqCst);
    }

    /// Lets go whatever is held now and later.
    pub fn release(&self) {
        self.open.send_replace(true);
    }

    async fn released(&self) {
        self.open.subscribe().wait_for(|open| *open).await.unwrap();
    }
}

impl Relay {
    pub async fn open() -> Self {
        let wire = Arc::new(Wire {
            http: http_client(),
            target: Mutex::default(),
            plans: Mutex::default(),
            seen: Mutex::default(),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let router = Router::new().fallback(pass).with_state(Arc::clone(&wire));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { addr, wire }
    }

    /// Where requests go; nowhere is answered 503.
    pub fn lead_to(&self, target: Option<SocketAddr>) {
        *self.wire.target.lock().unwrap() = target;
    }

    /// Plans trouble for the next `times` requests to paths that end in `path`.
    pub fn plan(&self, path: &'static str, trouble: Trouble, times: usize) -> Arc<Plan> {
        let (left, met) = (AtomicUsize::new(times), AtomicUsize::new(0));
        let plan = Arc::new(Plan { path, trouble, left, met, open: watch::Sender::new(false) });
        self.wire.plans.lock().unwrap().push(Arc::clone(&plan));
        plan
    }

    /// Everything that passed and was answered, in order.
    pub fn seen(&self) -> Vec<Exchange> {
        self.wire.seen.lock().unwrap().clone()
    }

    /// The exchanges on paths that end in `path`.
    pub fn seen_on(&self, path: &str) -> Vec<Exchange> {
        self.seen().into_iter().filter(|exchange| exchange.path.ends_with(path)).collect()
    }
}

impl Wire {
    fn planned(&self, path: &str) -> Option<Arc<Plan>> {
        let plans = self.plans.lock().unwrap();
        let lower = |n: usize| n.checked_sub(1);
        let fits = |plan: &&Arc<Plan>| {
            path.ends_with(plan.path)
                && plan.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, lower).is_ok()
        };
        let plan = plans.iter().find(fits).cloned()?;
        plan.met.fetch_add(1, Ordering::SeqCst);
        Some(plan)
    }

    async fn forward(&self, method: Method, uri: &Uri, headers: HeaderMap, body: Bytes) -> Passed {
        let target = *self.target.lock().unwrap();
        let Some(target) = target else { return Passed::of(503, Bytes::new()) };
        let url = format!("http://{target}{uri}");
        let mut request = self.http.request(method, url).body(body);
        for (name, value) in &headers {
            if !matches!(name.as_str(), "host" | "content-length" | "connection") {
                request = request.header(name, value);
            }
        }
        let Ok(answer) = request.send().await else { return Passed::of(503, Bytes::new()) };
        let (status, wait) = (answer.status().as_u16(), answer.headers().get("retry-after").cloned());
        Passed { status, wait, body: answer.bytes().await.unwrap_or_default() }
    }
}

async fn pass(
    State(wire): State<Arc<Wire>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let at = Instant::now();
    let plan = wire.planned(uri.path());
    let trouble = plan.as_ref().map(|plan| plan.trouble);
    if let (Some(plan), Some(Trouble::Hold)) = (&plan, trouble) {
        plan.released().await;
    }
    let passed = match trouble {
        Some(Trouble::Refuse(status)) => Passed::of(status, Bytes::new()),
        Some(Trouble::Hold | Trouble::HoldAnswer | Trouble::LoseAnswer) | None => {
            wire.forward(method, &uri, headers.clone(), body.clone()).await
        }
    };
    if let (Some(plan), Some(Trouble::HoldAnswer)) = (&plan, trouble) {
        plan.released().await;
    }
    let lost = trouble == Some(Trouble::LoseAnswer);
    let passed = if lost { Passed::of(502, Bytes::from("<html>Bad gateway")) } else { passed };
    let status = passed.status;
    let exchange = Exchange { path: uri.path().to_owned(), headers, body, status, at };
    wire.seen.lock().unwrap().push(exchange);
    let mut answer =
        (StatusCode::from_u16(status).unwrap(), [("content-type", "application/json")], passed.body)
            .into_response();
    answer.headers_mut().extend(passed.wait.map(|wait| (RETRY_AFTER, wait)));
    answer
}
