//! The listener against clients that are slow, greedy, silent or many. Raw sockets, because a proper HTTP
//! client would not misbehave; short limits, because nobody wants to wait; and deadlines far beyond them,
//! because only whether the server lets go is asserted, not how fast this machine is.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use payoutd::http::{BodyError, Limits, read_body, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(30);
/// Long enough never to be what ends a test.
const FAR: Duration = Duration::from_secs(600);
const SOON: Duration = Duration::from_millis(300);
const BODY_LIMIT: usize = 64 * 1024;
const HELLO: &str = "GET /hello HTTP/1.1\r\nhost: x\r\n\r\n";

/// What the test's handlers and the test itself share.
#[derive(Default)]
struct Stage {
    entered: Notify,
    released: Notify,
    answer_given_up: AtomicBool,
}

/// A body without end that says when nobody wants it any more.
struct Endless(Arc<Stage>);

impl Drop for Endless {
    fn drop(&mut self) {
        self.0.answer_given_up.store(true, Ordering::SeqCst);
    }
}

async fn upload(body: Body) -> Response {
    match read_body(body, BODY_LIMIT, SOON).await {
        Ok(bytes) => bytes.len().to_string().into_response(),
        Err(error @ BodyError::TooLarge { .. }) => {
            (StatusCode::PAYLOAD_TOO_LARGE, error.to_string()).into_response()
        }
        Err(error @ BodyError::TooSlow { .. }) => {
            (StatusCode::REQUEST_TIMEOUT, error.to_string()).into_response()
        }
        Err(error @ BodyError::Broken(_)) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    }
}

async fn hold(State(stage): State<Arc<Stage>>) -> &'static str {
    stage.entered.notify_one();
    stage.released.notified().await;
    "held"
}

async fn endless(State(stage): State<Arc<Stage>>) -> Body {
    let endless = Endless(stage);
    Body::from_stream(futures_util::stream::repeat_with(move || {
        let _ = &endless;
        Ok::<_, std::convert::Infallible>(Bytes::from_static(&[b'x'; 16 * 1024]))
    }))
}

struct Server {
    address: SocketAddr,
    stage: Arc<Stage>,
    shutdown: CancellationToken,
    task: JoinHandle<std::io::Result<()>>,
}

impl Server {
    async fn start(limits: Limits) -> Self {
        let stage = Arc::new(Stage::default());
        let router = Router::new()
            .route("/hello", get(|| async { "hello" }))
            .route("/peer", get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.to_string() }))
            .route("/upload", post(upload))
            .route("/hold", get(hold))
            .route("/endless", get(endless))
            .with_state(Arc::clone(&stage));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(serve(listener, router, limits, shutdown.clone(), FAR));
        Self { address, stage, shutdown, task }
    }

    /// Limits under which only the limit in question can end a connection.
    async fn patient() -> Self {
        Self::start(Limits { header_timeout: FAR, write_stall: FAR, ..Limits::default() }).await
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn send(&self, text: &str) -> TcpStream {
        let mut stream = self.connect().await;
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    async fn assert_healthy(&self) {
        let mut stream = self.send("GET /hello HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        assert!(until_closed(&mut stream).await.ends_with("hello"));
    }
}

/// Everything the server sends until it closes; panics if it never does. A reset counts as closing.
async fn until_closed(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("the server closes");
    drop(read);
    String::from_utf8(bytes).unwrap()
}

/// The first bytes of an answer on a connection that stays open.
async fn first_bytes(stream: &mut TcpStream) -> String {
    let mut bytes = [0_u8; 1024];
    let length = timeout(PATIENCE, stream.read(&mut bytes)).await.expect("the server answers").unwrap();
    String::from_utf8(bytes[..length].to_vec()).unwrap()
}

fn upload_head(header: &str) -> String {
    format!("POST /upload HTTP/1.1\r\nhost: x\r\n{header}\r\n\r\n")
}

#[tokio::test]
async fn half_a_header_is_closed_and_others_are_served_meanwhile() {
    let server = Server::start(Limits { header_timeout: SOON, ..Limits::default() }).await;
    let mut silent = server.connect().await;
    let mut half = server.send("GET /hello HTTP/1.1\r\nhost: ").await;
    server.assert_healthy().await;
    assert!(!until_closed(&mut half).await.contains("200"));
    assert_eq!(until_closed(&mut silent).await, "");
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_answer() {
    let server = Server::start(Limits { header_timeout: SOON, ..Limits::default() }).await;
    let mut stream = server.send(HELLO).await;
    assert!(until_closed(&mut stream).await.ends_with("hello"));
}

#[tokio::test]
async fn half_a_body_gets_an_answer_and_is_closed() {
    let server = Server::patient().await;
    let mut stream = server.send(&format!("{}half", upload_head("content-length: 10"))).await;
    server.assert_healthy().await;
    assert!(until_closed(&mut stream).await.starts_with("HTTP/1.1 408"));
}

#[tokio::test]
async fn a_dripping_body_is_closed_by_its_total_time() {
    let server = Server::patient().await;
    let stream = server.send(&upload_head("transfer-encoding: chunked")).await;
    let (mut reading, mut writing) = stream.into_split();
    // Each drop comes well within any time that a limit per chunk would grant.
    let drip = tokio::spawn(async move {
        while writing.write_all(b"1\r\nx\r\n").await.is_ok() {
            tokio::time::sleep(SOON / 10).await;
        }
    });
    let mut answer = Vec::new();
    drop(timeout(PATIENCE, reading.read_to_end(&mut answer)).await.expect("the server closes"));
    assert!(answer.starts_with(b"HTTP/1.1 408"));
    timeout(PATIENCE, drip).await.expect("the server stops taking drops").unwrap();
}

#[tokio::test]
async fn a_body_at_the_limit_is_taken() {
    let server = Server::patient().await;
    let body = "x".repeat(BODY_LIMIT);
    let mut stream =
        server.send(&format!("{}{body}", upload_head(&format!("content-length: {BODY_LIMIT}")))).await;
    assert!(first_bytes(&mut stream).await.ends_with(&format!("\r\n\r\n{BODY_LIMIT}")));
}

#[tokio::test]
async fn a_body_that_announces_too_much_is_refused_unread() {
    let server = Server::patient().await;
    let head = upload_head(&format!("content-length: {}\r\nexpect: 100-continue", BODY_LIMIT + 1));
    let answer = until_closed(&mut server.send(&head).await).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test]
async fn a_client_that_sends_far_too_much_still_reads_its_refusal() {
    let server = Server::patient().await;
    let size = 4 * 1024 * 1024;
    let mut stream = server.send(&upload_head(&format!("content-length: {size}"))).await;
    stream.write_all(&vec![b'x'; size]).await.expect("the server reads on until we have said everything");
    assert!(until_closed(&mut stream).await.starts_with("HTTP/1.1 413"));
}

#[tokio::test]
async fn a_body_that_announces_nothing_is_counted() {
    let server = Server::patient().await;
    let chunk = format!("4000\r\n{}\r\n", "x".repeat(0x4000));
    let body = chunk.repeat(5) + "0\r\n\r\n";
    let mut stream = server.send(&(upload_head("transfer-encoding: chunked") + &body)).await;
    assert!(until_closed(&mut stream).await.starts_with("HTTP/1.1 413"));
}

#[tokio::test]
async fn too_large_a_header_is_refused() {
    let server = Server::patient().await;
    let large = format!("GET /hello HTTP/1.1\r\nhost: x\r\nx-large: {}\r\n\r\n", "x".repeat(64 * 1024));
    let many = format!("GET /hello HTTP/1.1\r\nhost: x\r\n{}\r\n", "x-many: 1\r\n".repeat(65));
    for head in [large, many] {
        let answer = until_closed(&mut server.send(&head).await).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
    server.assert_healthy().await;
}

#[tokio::test]
async fn a_handler_knows_its_peer() {
    let server = Server::patient().await;
    let mut stream = server.send("GET /peer HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    let own = stream.local_addr().unwrap().to_string();
    assert!(until_closed(&mut stream).await.ends_with(&own));
}

#[tokio::test]
async fn an_answer_that_nobody_reads_is_given_up() {
    let server = Server::start(Limits { header_timeout: FAR, write_stall: SOON, ..Limits::default() }).await;
    let stream = server.send("GET /endless HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let deadline = Instant::now() + PATIENCE;
    while !server.stage.answer_given_up.load(Ordering::SeqCst) {
        assert!(Instant::now() < deadline, "the server still holds the answer");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(stream);
}

#[tokio::test]
async fn a_flood_of_half_headers_does_not_keep_a_client_out() {
    // Nothing times out here: only making room can let anyone in.
    let limits = Limits { connections: 4, header_timeout: FAR, ..Limits::default() };
    let server = Server::start(limits).await;
    let mut held = server.send("GET /hold HTTP/1.1\r\nhost: x\r\n\r\n").await;
    server.stage.entered.notified().await;
    let mut flood = Vec::new();
    for _ in 0..20 {
        flood.push(server.send("GET /hello HTTP/1.1\r\nhost: ").await);
        timeout(PATIENCE, server.assert_healthy()).await.expect("there is room");
    }
    // The longest-waiting went; the one in the middle of a request did not.
    until_closed(flood.first_mut().unwrap()).await;
    server.stage.released.notify_one();
    assert!(first_bytes(&mut held).await.ends_with("held"));
}

#[tokio::test]
async fn a_shutdown_finishes_what_is_under_way_and_takes_nothing_new() {
    let server = Server::patient().await;
    let mut idle = server.send(HELLO).await;
    assert!(first_bytes(&mut idle).await.ends_with("hello"));
    let mut held = server.send("GET /hold HTTP/1.1\r\nhost: x\r\n\r\n").await;
    server.stage.entered.notified().await;

    server.shutdown.cancel();
    assert_eq!(until_closed(&mut idle).await, "");
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(server.address).await.is_ok() {
        assert!(Instant::now() < deadline, "the listener is still open");
    }
    assert!(!server.task.is_finished());
    server.stage.released.notify_one();
    assert!(until_closed(&mut held).await.ends_with("held"));
    timeout(PATIENCE, server.task).await.expect("the server ends").unwrap().unwrap();
}

#[tokio::test]
async fn a_shutdown_does_not_wait_beyond_its_grace() {
    let stage = Arc::new(Stage::default());
    let router = Router::new().route("/hold", get(hold)).with_state(Arc::clone(&stage));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(serve(listener, router, Limits::default(), shutdown.clone(), SOON));
    let mut held = TcpStream::connect(address).await.unwrap();
    held.write_all(b"GET /hold HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    stage.entered.notified().await;
    shutdown.cancel();
    timeout(PATIENCE, task).await.expect("the server ends").unwrap().unwrap();
    assert_eq!(until_closed(&mut held).await, "");
}
