//! Our own accept loop for axum routers: HTTP/1.1 with every wait bounded. `axum::serve` installs no timer,
//! so a client that sends half a header or never reads its answer would stay for ever. `stream` bounds
//! writing, `body` bounds reading a request's body, `crowd` decides who goes when there are too many. Knows
//! nothing of payouts.

mod body;
mod crowd;
mod stream;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

pub use self::body::{BodyError, read_body};
use self::crowd::{Crowd, Place};
use self::stream::Guarded;

/// A header fits one packet or a few. Also the longest that a kept-alive connection may idle.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// Several times what our callers and Pike send; less than what makes many connections expensive.
pub const HEADER_BYTES: usize = 16 * 1024;

/// As above, counted.
pub const HEADERS: usize = 64;

/// Below the 1,024 open files that many systems grant a process by default, with room for the database's and
/// the other listeners' connections; a deployment that grants more can set more.
pub const CONNECTIONS: usize = 512;

/// How long a client may leave our answer unread once the kernel's buffers are full.
pub const WRITE_STALL: Duration = Duration::from_secs(10);

/// The least that hyper accepts as a buffer.
const SMALLEST_BUFFER: usize = 8 * 1024;

/// After a failure to accept that will not go away by itself at once, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What one listener grants its clients.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From the moment we wait for a request to the end of its header.
    pub header_timeout: Duration,
    /// Size of a request's line and header together.
    pub header_bytes: usize,
    /// Number of header lines.
    pub headers: usize,
    /// Connections open at once. Beyond it, the one that has been without a request for longest goes.
    pub connections: usize,
    /// Longest time without progress while we write.
    pub write_stall: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_timeout: HEADER_TIMEOUT,
            header_bytes: HEADER_BYTES,
            headers: HEADERS,
            connections: CONNECTIONS,
            write_stall: WRITE_STALL,
        }
    }
}

/// Serves `router` until `shutdown`, then finishes the requests under way, for `grace` at most. Handlers find
/// the client's address in `ConnectInfo<SocketAddr>`. A handler's own time and the reading of a body are not
/// bounded here: use [`read_body`].
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    shutdown: CancellationToken,
    grace: Duration,
) -> io::Result<()> {
    let server = Arc::new(Server { router, limits, shutdown, abandon: CancellationToken::new() });
    let crowd = Crowd::new(limits.connections);
    let tasks = TaskTracker::new();
    while let Some((stream, peer, place)) = server.next(&listener, &crowd).await {
        let server = Arc::clone(&server);
        tasks.spawn(async move { server.talk(stream, peer, place).await });
    }
    // Refuse, rather than leave waiting, whoever comes now.
    drop(listener);
    tasks.close();
    if timeout(grace, tasks.wait()).await.is_err() {
        tracing::warn!(connections = tasks.len(), ?grace, "closing connections that did not finish in time");
        server.abandon.cancel();
        tasks.wait().await;
    }
    Ok(())
}

struct Server {
    router: Router,
    limits: Limits,
    shutdown: CancellationToken,
    /// The grace period is over.
    abandon: CancellationToken,
}

impl Server {
    /// The next connection and its place in the crowd; none once we shut down.
    async fn next(
        &self,
        listener: &TcpListener,
        crowd: &Arc<Crowd>,
    ) -> Option<(TcpStream, SocketAddr, Place)> {
        let next = async {
            let (stream, peer) = accept(listener).await;
            // While we wait here, newcomers wait in the kernel's queue.
            (stream, peer, crowd.enter().await)
        };
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => None,
            next = next => Some(next),
        }
    }

    /// Serves one connection to its end.
    async fn talk(&self, stream: TcpStream, peer: SocketAddr, place: Place) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection went away before its first byte");
            return;
        }
        let place = Arc::new(place);
        let service = service_fn(|request| answer(self.router.clone(), request, peer, Arc::clone(&place)));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.header_timeout)
            .max_headers(self.limits.headers)
            .max_buf_size(self.limits.header_bytes.max(SMALLEST_BUFFER))
            .serve_connection(TokioIo::new(Guarded::new(stream, self.limits.write_stall)), service);
        let mut connection = std::pin::pin!(connection);
        let mut leaving = false;
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, %peer, "connection ended early");
                    }
                    return;
                }
                () = place.asked_to_leave() => return,
                () = self.abandon.cancelled() => return,
                () = self.shutdown.cancelled(), if !leaving => {
                    leaving = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

/// One request through the router. The connection counts as busy until the answer is written.
async fn answer(
    router: Router,
    mut request: Request<Incoming>,
    peer: SocketAddr,
    place: Arc<Place>,
) -> Result<Response<Body>, Infallible> {
    let busy = place.begin();
    request.extensions_mut().insert(ConnectInfo(peer));
    let response = router.oneshot(request.map(Body::new)).await?;
    Ok(response.map(|body| Body::new(crowd::Busily::new(body, busy))))
}

/// The next connection, however long it takes. Failures of a single connection are its own; a failure of
/// ours, such as too many open files, would come back at once, so we pause.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_the_clients(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_the_clients(error: &io::Error) -> bool {
    [io::ErrorKind::ConnectionAborted, io::ErrorKind::ConnectionReset, io::ErrorKind::ConnectionRefused]
        .contains(&error.kind())
}
