//! The accept loop: HTTP/1.1 on connections whose end can be ordered by whoever answers on them. Bounded in
//! time and number, because a test's client may be as rude as it likes. Knows no routes.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::wire::{Wire, Wired};

/// Connections open at once; further ones wait in the kernel's queue.
const CONNECTIONS: usize = 2048;
/// How long a client may take to send a header, and how long it may idle.
const HEADER_TIMEOUT: Duration = Duration::from_secs(90);
/// After a failure to accept that will not go away by itself at once, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves `router` until `shutdown`; calls under way get `grace` to end.
pub async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken, grace: Duration) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let (tasks, abandon) = (TaskTracker::new(), CancellationToken::new());
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await.expect("never closed");
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            next = next => next,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (router, shutdown, abandon) = (router.clone(), shutdown.clone(), abandon.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = talk(stream, router, shutdown) => {}
                () = abandon.cancelled() => {}
            }
            drop(place);
        });
    }
    drop(listener);
    tasks.close();
    if tokio::time::timeout(grace, tasks.wait()).await.is_err() {
        abandon.cancel();
        tasks.wait().await;
    }
}

/// Serves one connection to its end.
async fn talk(stream: TcpStream, router: Router, shutdown: CancellationToken) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let wire = Wire::default();
    let service = service_fn(|request| answer(router.clone(), wire.clone(), request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(Wired::new(stream, wire.clone())), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn answer(
    router: Router,
    wire: Wire,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    request.extensions_mut().insert(wire);
    router.oneshot(request.map(Body::new)).await
}
