//! The floor: what a life costs if nothing is paid for but its two signatures, its HTTP exchanges and its SQL
//! in batches, each measured alone, here and now.

use crate::{
    measure::{Postgres, own_cpu},
    text,
};
use axum::{Router, body::Bytes, http::StatusCode, routing::post};
use sqlx::{Connection, PgConnection};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{net::TcpListener, task::JoinSet};
use uuid::Uuid;

/// Signatures of a life that are not the same as another's: start, and the one of confirm and status.
const SIGNATURES: f64 = 2.0;
/// Exchanges of a life: the order, three calls to Pike, two webhooks, one notification.
const EXCHANGES: f64 = 7.0;
/// Lives in one batch of SQL.
const LIVES: u32 = 50;
const IN_FLIGHT: usize = 64;

/// Microseconds of CPU of a life's parts.
#[derive(Clone, Copy, Debug)]
pub struct Floor {
    pub signature: f64,
    pub exchange: f64,
    pub sql_server: f64,
    pub sql_client: f64,
}

impl Floor {
    /// Microseconds of CPU of a life.
    pub fn life(&self) -> f64 {
        SIGNATURES * self.signature + EXCHANGES * self.exchange + self.sql_server + self.sql_client
    }

    /// Lives per second if these processors do nothing else.
    pub fn rate(&self) -> f64 {
        let processors = std::thread::available_parallelism().unwrap().get();
        f64::from(u32::try_from(processors).unwrap()) * 1e6 / self.life()
    }
}

/// Measures each for about this time. The database is one of [`crate::minimal::prepare`].
pub async fn measure(url: &str, server: &mut Postgres, time: Duration) -> Floor {
    let signature = signature(time);
    let exchange = exchange(time).await;
    let (sql_server, sql_client) = sql(url, server, time).await;
    Floor { signature, exchange, sql_server, sql_client }
}

fn signature(time: Duration) -> f64 {
    let pair = payoutd::keys::new_pair().unwrap();
    let key = payoutd::keys::signing_key(secrecy::ExposeSecret::expose_secret(&pair.private)).unwrap();
    let (began, before, mut count) = (Instant::now(), own_cpu(), 0_u32);
    while began.elapsed() < time {
        std::hint::black_box(text::rsa(&key, text::order("r-1").as_bytes()));
        count += 1;
    }
    (own_cpu() - before) * 1e6 / f64::from(count)
}

/// One POST of an order's size between reqwest and axum, both ends.
async fn exchange(time: Duration) -> f64 {
    let router =
        Router::new().route("/", post(async |_: Bytes| (StatusCode::CREATED, text::order("answer"))));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });
    let http = reqwest::Client::builder().no_proxy().tcp_nodelay(true).build().unwrap();
    let (over, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let before = own_cpu();
    let mut tasks = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let (http, url, over, count) = (http.clone(), url.clone(), Arc::clone(&over), Arc::clone(&count));
        tasks.spawn(async move {
            while !over.load(Ordering::Relaxed) {
                let request = http.post(&url).header("content-type", "application/json");
                let answer = request.body(text::order("order")).send().await.unwrap();
                std::hint::black_box(answer.bytes().await.unwrap());
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    tokio::time::sleep(time).await;
    over.store(true, Ordering::Relaxed);
    while tasks.join_next().await.is_some() {}
    serving.abort();
    (own_cpu() - before) * 1e6 / f64::from(count.load(Ordering::Relaxed))
}

/// The steps of fifty lives at a time, each step one statement and one commit.
const STEPS: [&str; 9] = [
    "WITH n AS (SELECT * FROM unnest($1::uuid[], $2::text[]) AS n(id, name)),
          p AS (INSERT INTO payouts (id, idempotency_key, amount, currency, token, recipient_name,
                customer_reference, reference, status, step)
             SELECT id, 'key-' || name, 125050, 'RUB', 'tok_' || name, 'Anna Petrova', 'customer-' || name,
                name, 'accepted', 1 FROM n)
     INSERT INTO history (payout_id, step, status) SELECT id, 1, 'accepted' FROM n",
    "WITH p AS (UPDATE payouts p SET session_id = 'ps_' || n.name, status = 'starting', step = 2,
             updated_at = now() FROM unnest($1::uuid[], $2::text[]) AS n(id, name)
             WHERE p.id = n.id RETURNING p.id)
     INSERT INTO history (payout_id, step, status) SELECT id, 2, 'starting' FROM p",
    "WITH p AS (UPDATE payouts p SET status = 'processing', step = 3, updated_at = now()
             FROM unnest($1::uuid[], $2::text[]) AS n(id, name) WHERE p.id = n.id RETURNING p.id)
     INSERT INTO history (payout_id, step, status) SELECT id, 3, 'processing' FROM p",
    "INSERT INTO inbox (body_hash, body)
     SELECT sha256(('ready' || name)::bytea), convert_to(repeat('x', 800), 'UTF8')
     FROM unnest($1::uuid[], $2::text[]) AS n(id, name) ON CONFLICT DO NOTHING",
    "WITH n AS (SELECT * FROM unnest($1::uuid[], $2::text[]) AS n(id, name)),
          p AS (UPDATE payouts p SET status = 'confirming', step = 4, updated_at = now()
             FROM n WHERE p.id = n.id RETURNING p.id),
          m AS (INSERT INTO permits (payout_id, rule) SELECT id, 'amount' FROM p),
          i AS (UPDATE inbox i SET done_at = now() FROM n
             WHERE i.body_hash = sha256(('ready' || n.name)::bytea))
     INSERT INTO history (payout_id, step, status) SELECT id, 4, 'confirming' FROM p",
    "WITH p AS (UPDATE payouts p SET status = 'settling', step = 5, updated_at = now()
             FROM unnest($1::uuid[], $2::text[]) AS n(id, name) WHERE p.id = n.id RETURNING p.id)
     INSERT INTO history (payout_id, step, status) SELECT id, 5, 'settling' FROM p",
    "INSERT INTO inbox (body_hash, body)
     SELECT sha256(('paid' || name)::bytea), convert_to(repeat('x', 900), 'UTF8')
     FROM unnest($1::uuid[], $2::text[]) AS n(id, name) ON CONFLICT DO NOTHING",
    "WITH n AS (SELECT * FROM unnest($1::uuid[], $2::text[]) AS n(id, name)),
          p AS (UPDATE payouts p SET status = 'succeeded', step = 6, token = NULL, rrn = '123456789012',
             updated_at = now() FROM n WHERE p.id = n.id RETURNING p.id),
          m AS (INSERT INTO notifications (payout_id, payload) SELECT id, repeat('x', 200) FROM p),
          i AS (UPDATE inbox i SET done_at = now() FROM n
             WHERE i.body_hash = sha256(('paid' || n.name)::bytea))
     INSERT INTO history (payout_id, step, status) SELECT id, 6, 'succeeded' FROM p",
    "UPDATE notifications m SET delivered_at = now() FROM unnest($1::uuid[], $2::text[]) AS n(id, name)
     WHERE m.payout_id = n.id",
];

async fn sql(url: &str, server: &mut Postgres, time: Duration) -> (f64, f64) {
    let mut db = PgConnection::connect(url).await.unwrap();
    // Else a plan made for an empty table stays.
    sqlx::query("SET plan_cache_mode = force_custom_plan").execute(&mut db).await.unwrap();
    let (used, own, began, mut batches) = (server.used().await, own_cpu(), Instant::now(), 0_u32);
    while began.elapsed() < time {
        let ids: Vec<Uuid> = (0..LIVES).map(|_| Uuid::now_v7()).collect();
        let names: Vec<String> = ids.iter().map(|id| id.simple().to_string()).collect();
        for step in STEPS {
            sqlx::query(step).bind(&ids).bind(&names).execute(&mut db).await.unwrap();
        }
        batches += 1;
    }
    let own = own_cpu() - own;
    let used = server.used().await - used;
    let lives = f64::from(batches * LIVES);
    (used.cpu * 1e6 / lives, own * 1e6 / lives)
}
