//! The receiver among clients who hang up at any moment: whatever was answered 200 is in the table.

use crate::support::{Database, project, until};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::future::BoxFuture;
use hmac::{Hmac, KeyInit, Mac};
use payoutd::{
    domain::session::SessionReport,
    http::{self, Limits},
    store::{inbox::Incoming, pool},
    webhook::{self, Verifier, WebhookState},
};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const RUDE: u64 = 400;
const POLITE: u64 = 200;
const AT_ONCE: u64 = 20;

fn request(number: u64) -> (Vec<u8>, Vec<u8>) {
    let body = format!(r#"{{"type":"ready_to_confirm","session":{{"id":"ps_{number}"}}}}"#);
    let mac = Hmac::<Sha256>::new_from_slice(SECRET).unwrap().chain_update(&body).finalize();
    let signature = STANDARD.encode(mac.into_bytes());
    let request = format!(
        "POST /pike/{} HTTP/1.1\r\nhost: payoutd\r\nconnection: close\r\nx-signature: {signature}\r\n\
         content-length: {}\r\n\r\n{body}",
        project(),
        body.len()
    );
    (request.into_bytes(), Sha256::digest(&body).to_vec())
}

/// Waits for so long and no longer, without a timer's coarseness.
async fn pass(microseconds: u64) {
    let began = Instant::now();
    while began.elapsed() < Duration::from_micros(microseconds) {
        tokio::task::yield_now().await;
    }
}

/// Sends a webhook, or most of it, and hangs up.
async fn rude(at: SocketAddr, number: u64) {
    let (request, _) = request(number);
    let mut stream = TcpStream::connect(at).await.unwrap();
    let sent = if number.is_multiple_of(10) { request.len() / 2 } else { request.len() };
    // Whoever hangs up does not mind whether it was sent.
    let _ = stream.write_all(&request[..sent]).await;
    pass(number.wrapping_mul(7_919) % 3_000).await;
}

/// Sends a webhook and waits for the answer. The body's hash, if that was 200.
async fn polite(at: SocketAddr, number: u64) -> Option<Vec<u8>> {
    let (request, hash) = request(number);
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(&request).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.starts_with("HTTP/1.1 200").then_some(hash)
}

/// What is kept is not worked on here.
struct Nobody;

impl webhook::Workers for Nobody {
    fn lease(&self) -> Duration {
        Duration::ZERO
    }

    fn room(&self, _: usize) -> Option<webhook::Begin> {
        None
    }

    fn wake(&self) {}

    fn read(&self, _: &[u8]) -> Option<SessionReport> {
        None
    }

    fn keep(&self, _: &Arc<Incoming>, _: SessionReport) -> BoxFuture<'_, Option<bool>> {
        Box::pin(async { None })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_was_answered_200_is_in_the_table() {
    let database = Database::fresh().await;
    let verifiers = BTreeMap::from([(project(), Verifier::hmac("x-signature", SECRET).unwrap())]);
    let router = webhook::router(WebhookState {
        verifiers: Arc::new(verifiers),
        intake: webhook::intake(pool::connect(&database.url, 4).await.unwrap(), Arc::new(Nobody)),
        workers: Arc::new(Nobody),
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (at, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
    let serving =
        tokio::spawn(http::serve(listener, router, Limits::default(), stop.clone(), Duration::ZERO));

    let clients = (0..AT_ONCE).map(|client| {
        tokio::spawn(async move {
            let mut acknowledged = vec![];
            for number in (0..RUDE + POLITE).filter(|number| number % AT_ONCE == client) {
                if number % 3 == 0 {
                    acknowledged.push(polite(at, number).await.expect("a good webhook is taken"));
                } else {
                    rude(at, number).await;
                }
            }
            acknowledged
        })
    });
    let mut acknowledged = vec![];
    for client in clients.collect::<Vec<_>>() {
        acknowledged.extend(client.await.unwrap());
    }
    assert_eq!(u64::try_from(acknowledged.len()).unwrap(), POLITE);
    let kept: Vec<Vec<u8>> =
        sqlx::query_scalar("SELECT sha256(body) FROM inbox").fetch_all(&database.pool).await.unwrap();
    let lost = acknowledged.iter().filter(|hash| !kept.contains(hash)).count();
    assert_eq!(lost, 0, "answered 200 and lost");
    assert!(kept.len() > acknowledged.len(), "no rude client was early enough to be heard at all");
    // Nobody who went away holds a connection or a lock.
    until("no transaction is left open", async || {
        database
            .number(
                "SELECT count(*) FROM pg_stat_activity
                 WHERE datname = current_database() AND state LIKE 'idle in transaction%'",
            )
            .await
            == 0
    })
    .await;
    stop.cancel();
    serving.await.unwrap().unwrap();
}
