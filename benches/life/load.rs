//! The load: orders, and the notifications that end them. A payout's time runs from its order's first byte
//! to the arrival of the notification that tells its final status.

use crate::text::{Told, order};
use axum::{Router, body::Bytes, extract::State, routing::post};
use std::{
    collections::HashMap,
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{net::TcpListener, sync::oneshot, task::JoinSet};

/// Between two tries of an order that was not taken.
const AGAIN: Duration = Duration::from_millis(20);

type Waiting = Mutex<HashMap<String, oneshot::Sender<()>>>;

/// Takes notifications and ends the waits for them.
pub struct Collector {
    waiting: Waiting,
    pub taken: AtomicU64,
}

impl Collector {
    pub async fn start() -> (Arc<Self>, SocketAddr) {
        let collector = Arc::new(Self { waiting: Mutex::default(), taken: AtomicU64::new(0) });
        let router = Router::new().route("/told", post(take)).with_state(Arc::clone(&collector));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        (collector, address)
    }
}

async fn take(State(collector): State<Arc<Collector>>, body: Bytes) {
    let told: Told<'_> = serde_json::from_slice(&body).unwrap();
    assert_eq!(told.data.status, "succeeded", "{}", told.data.reference);
    collector.taken.fetch_add(1, Ordering::Relaxed);
    // A second delivery is nobody's.
    if let Some(waiting) = collector.waiting.lock().unwrap().remove(told.data.reference) {
        let _ = waiting.send(());
    }
}

/// How the load comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shape {
    /// So many payouts under way at once.
    InFlight(u32),
    /// So many orders a second, whatever becomes of them.
    PerSecond(u32),
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InFlight(count) => write!(f, "{count} in flight"),
            Self::PerSecond(rate) => write!(f, "{rate} a second"),
        }
    }
}

/// Where a service takes orders, and as whom.
#[derive(Clone)]
pub struct Door {
    pub orders: String,
    pub key: String,
}

/// Orders to one service.
#[derive(Clone)]
pub struct Load {
    http: reqwest::Client,
    doors: Arc<[Door]>,
    collector: Arc<Collector>,
    next: Arc<AtomicUsize>,
    run: Arc<str>,
    /// Whether keys are in the order of time.
    pub ordered_keys: bool,
}

/// What came of a stretch of load.
#[derive(Clone, Debug, Default)]
pub struct Ran {
    /// From the order to the notification.
    pub times: Vec<Duration>,
    /// From the order to its acceptance.
    pub accepted: Vec<Duration>,
}

impl Load {
    /// `run` keeps references apart from those of other runs.
    pub fn new(doors: Vec<Door>, collector: Arc<Collector>, run: &str) -> Self {
        let http = reqwest::Client::builder().no_proxy().tcp_nodelay(true).build().unwrap();
        let (doors, next) = (doors.into(), Arc::default());
        Self { http, doors, collector, next, run: run.into(), ordered_keys: false }
    }

    /// One payout, from the order to the notification.
    async fn one(&self) -> (Duration, Duration) {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        let reference = format!("{}-{n}", self.run);
        let door = &self.doors[n % self.doors.len()];
        let (told, waiting) = oneshot::channel();
        self.collector.waiting.lock().unwrap().insert(reference.clone(), told);
        let began = Instant::now();
        self.order(door, &reference).await;
        let accepted = began.elapsed();
        waiting.await.unwrap();
        (began.elapsed(), accepted)
    }

    /// Until it is taken: who finds all connections taken comes again, under the same key.
    async fn order(&self, door: &Door, reference: &str) {
        let key = uuid::Uuid::now_v7().simple().to_string();
        // As callers' keys mostly are: without an order.
        let key = if self.ordered_keys { key } else { key.chars().rev().collect() };
        loop {
            let request = self
                .http
                .post(&door.orders)
                .header("authorization", format!("Bearer {}", door.key))
                .header("content-type", "application/json")
                .header("idempotency-key", &key)
                .body(order(reference));
            if let Ok(answer) = request.send().await
                && answer.status().as_u16() != 503
            {
                let status = answer.status();
                let body = answer.text().await.unwrap();
                assert!(status.is_success(), "{status} {body}");
                return;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Gives so many orders, `at_once` under way, and does not wait for what becomes of them.
    pub async fn orders(&self, count: u32, at_once: u32) {
        let left = Arc::new(AtomicI64::new(i64::from(count)));
        let mut tasks = JoinSet::new();
        for _ in 0..at_once {
            let (load, left) = (self.clone(), Arc::clone(&left));
            tasks.spawn(async move {
                while left.fetch_sub(1, Ordering::Relaxed) > 0 {
                    let n = load.next.fetch_add(1, Ordering::Relaxed);
                    load.order(&load.doors[n % load.doors.len()], &format!("{}-{n}", load.run)).await;
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
    }

    /// This load for so long; each payout that was begun is finished.
    pub async fn run(&self, shape: Shape, time: Duration) -> Ran {
        match shape {
            Shape::InFlight(count) => self.closed(count, time).await,
            Shape::PerSecond(rate) => self.open(rate, time).await,
        }
    }

    async fn closed(&self, in_flight: u32, time: Duration) -> Ran {
        let over = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for _ in 0..in_flight {
            let (load, over) = (self.clone(), Arc::clone(&over));
            tasks.spawn(async move {
                let mut ran = Ran::default();
                while !over.load(Ordering::Relaxed) {
                    let (took, accepted) = load.one().await;
                    ran.times.push(took);
                    ran.accepted.push(accepted);
                }
                ran
            });
        }
        tokio::time::sleep(time).await;
        over.store(true, Ordering::Relaxed);
        gather(tasks).await
    }

    async fn open(&self, per_second: u32, time: Duration) -> Ran {
        evenly(per_second, time, || {
            let load = self.clone();
            async move {
                let (took, accepted) = load.one().await;
                Ran { times: vec![took], accepted: vec![accepted] }
            }
        })
        .await
    }

    /// Posts a body so many times a second, for the time that each answer takes.
    pub async fn posts(&self, url: &str, body: &str, per_second: u32, time: Duration) -> Vec<Duration> {
        let ran = evenly(per_second, time, || {
            let request = self.http.post(url).body(body.to_owned());
            async move {
                let began = Instant::now();
                request.send().await.unwrap().error_for_status().unwrap();
                Ran { times: vec![began.elapsed()], accepted: vec![] }
            }
        });
        ran.await.times
    }
}

/// Begins so many a second, however long each takes.
async fn evenly<F>(per_second: u32, time: Duration, begin: impl Fn() -> F) -> Ran
where
    F: Future<Output = Ran> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    let (began, mut count) = (tokio::time::Instant::now(), 0_u32);
    loop {
        let due = Duration::from_secs_f64(f64::from(count) / f64::from(per_second));
        if due >= time {
            return gather(tasks).await;
        }
        tokio::time::sleep_until(began + due).await;
        count += 1;
        tasks.spawn(begin());
    }
}

async fn gather(mut tasks: JoinSet<Ran>) -> Ran {
    let mut all = Ran::default();
    while let Some(ran) = tasks.join_next().await {
        let ran = ran.unwrap();
        all.times.extend(ran.times);
        all.accepted.extend(ran.accepted);
    }
    all
}
