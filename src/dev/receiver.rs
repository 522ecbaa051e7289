//! Stands for the platform's system that is told about final statuses: checks every signature, counts, and
//! answers 204.

use crate::notify::Secret;
use anyhow::{Context, Result};
use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What has been received so far.
#[derive(Debug)]
pub(super) struct Received {
    secret: Secret,
    genuine: AtomicU64,
    forged: AtomicU64,
}

impl Received {
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.genuine.load(Ordering::Relaxed), self.forged.load(Ordering::Relaxed))
    }
}

/// Starts receiving on a free port, until stopped.
pub(super) async fn start(secret: &str, stop: CancellationToken) -> Result<(SocketAddr, Arc<Received>)> {
    let received = Arc::new(Received {
        secret: Secret::parse(secret)?,
        genuine: AtomicU64::new(0),
        forged: AtomicU64::new(0),
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.context("listening for notifications")?;
    let addr = listener.local_addr()?;
    let router = Router::new().route("/notifications", post(receive)).with_state(Arc::clone(&received));
    tokio::spawn(crate::http::serve(
        listener,
        router,
        crate::http::Limits::default(),
        stop,
        Duration::from_secs(1),
    ));
    Ok((addr, received))
}

async fn receive(State(received): State<Arc<Received>>, headers: HeaderMap, body: String) -> StatusCode {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let timestamp = header("webhook-timestamp").parse().unwrap_or(0);
    let wanted = received.secret.sign(header("webhook-id"), timestamp, &body);
    if wanted == header("webhook-signature") {
        received.genuine.fetch_add(1, Ordering::Relaxed);
        StatusCode::NO_CONTENT
    } else {
        received.forged.fetch_add(1, Ordering::Relaxed);
        StatusCode::UNAUTHORIZED
    }
}
