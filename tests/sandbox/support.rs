//! A partner with its own signing, a webhook receiver with its own verification, and a sandbox in the test's
//! process. Nothing here is shared with the sandbox or with our client.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, UnparsedPublicKey};
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use payoutd::sandbox::{Project, SandboxError, Settings};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const DEADLINE: Duration = Duration::from_secs(20);

/// Asks until there is an answer; panics when there is none in time.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

pub struct Keys {
    pub private_pem: String,
    pub public_pem: String,
    pair: KeyPair,
}

impl Keys {
    pub fn generate() -> Self {
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let private = pair.as_der().unwrap();
        let public = pair.public_key().as_der().unwrap();
        Self {
            private_pem: pem::encode(&pem::Pem::new("PRIVATE KEY", private.as_ref())),
            public_pem: pem::encode(&pem::Pem::new("PUBLIC KEY", public.as_ref())),
            pair,
        }
    }

    pub fn sign(&self, body: &[u8]) -> String {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), body, &mut signature).unwrap();
        STANDARD.encode(signature)
    }

    pub fn verifies(&self, body: &[u8], signature: &str) -> bool {
        let public = self.pair.public_key().as_ref();
        let signature = STANDARD.decode(signature).unwrap_or_default();
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public).verify(body, &signature).is_ok()
    }
}

pub fn partner_keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(Keys::generate)
}

pub fn pike_keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(Keys::generate)
}

/// A webhook receiver that believes nobody.
#[derive(Default)]
pub struct Sink {
    accepted: Mutex<Vec<Value>>,
    pub refuse_next: AtomicUsize,
    pub refused: AtomicUsize,
    pub forged: AtomicUsize,
    url: OnceLock<String>,
}

impl Sink {
    pub async fn open() -> Arc<Self> {
        let sink = Arc::new(Self::default());
        let router =
            axum::Router::new().route("/hook", axum::routing::post(receive)).with_state(Arc::clone(&sink));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        sink.url.set(format!("http://{}/hook", listener.local_addr().unwrap())).unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        sink
    }

    pub fn url(&self) -> String {
        self.url.get().unwrap().clone()
    }

    /// The webhooks about a session, in the order in which they came.
    pub fn about(&self, session: &str) -> Vec<Value> {
        let accepted = self.accepted.lock().unwrap();
        accepted.iter().filter(|hook| hook["session"]["id"] == session).cloned().collect()
    }

    pub fn types(&self, session: &str) -> Vec<String> {
        self.about(session).iter().map(|hook| hook["type"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits for the `n`th webhook (from 1) of a type about a session.
    pub async fn wait(&self, session: &str, kind: &str, n: usize) -> Value {
        until(&format!("{kind} number {n}"), || async {
            self.about(session).into_iter().filter(|hook| hook["type"] == kind).nth(n - 1)
        })
        .await
    }
}

async fn receive(State(sink): State<Arc<Sink>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let genuine = pike_keys().verifies(&body, text("x-partner-sign"));
    if !genuine || text("content-type") != "application/json" {
        sink.forged.fetch_add(1, Ordering::SeqCst);
        return StatusCode::UNAUTHORIZED;
    }
    let lower = |n: usize| n.checked_sub(1);
    if sink.refuse_next.fetch_update(Ordering::SeqCst, Ordering::SeqCst, lower).is_ok() {
        // Not 200 is not enough, even when it sounds like it.
        sink.refused.fetch_add(1, Ordering::SeqCst);
        return StatusCode::ACCEPTED;
    }
    sink.accepted.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
    StatusCode::OK
}

/// A sandbox under test, with a webhook receiver.
pub struct World {
    pub base: String,
    pub http: reqwest::Client,
    pub sink: Arc<Sink>,
    shutdown: CancellationToken,
    served: JoinHandle<Result<(), SandboxError>>,
}

pub fn project(id: &str, sink: &Sink) -> Project {
    let project = Project::new(id, partner_keys().public_pem.clone(), sink.url());
    Project { auto_confirm: id == "auto", ..project }
}

/// Three projects (`shop`, `other`, `auto`) and delays of a few milliseconds.
pub fn settings(sink: &Sink) -> Settings {
    let projects = ["shop", "other", "auto"].map(|id| project(id, sink)).to_vec();
    let mut settings = Settings::new(projects, pike_keys().private_pem.clone());
    settings.timing.ready_delay = Duration::from_millis(5);
    settings.timing.settle_delay = Duration::from_millis(5);
    settings.timing.slow_delay = Duration::from_millis(100);
    settings
}

impl World {
    pub async fn open() -> Self {
        Self::open_with(|_| {}).await
    }

    pub async fn open_with(change: impl FnOnce(&mut Settings)) -> Self {
        let sink = Sink::open().await;
        let mut settings = settings(&sink);
        change(&mut settings);
        Self::start(settings, sink).await
    }

    pub async fn start(settings: Settings, sink: Arc<Sink>) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let shutdown = CancellationToken::new();
        let served = tokio::spawn(payoutd::sandbox::serve(settings, listener, shutdown.clone()));
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { base, http, sink, shutdown, served }
    }

    pub async fn stop(self) {
        self.shutdown.cancel();
        let begun = Instant::now();
        self.served.await.unwrap().unwrap();
        assert!(begun.elapsed() < Duration::from_secs(3), "a shutdown waits for nothing");
    }

    pub async fn post(&self, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> (u16, Value) {
        let mut request = self.http.post(format!("{}{path}", self.base)).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.headers()["content-type"], "application/json");
        (response.status().as_u16(), serde_json::from_slice(&response.bytes().await.unwrap()).unwrap())
    }

    /// A call with good headers of project `shop`.
    pub async fn call(&self, method: &str, body: &Value) -> (u16, Value) {
        self.call_as("shop", "v2", method, body, None).await
    }

    pub async fn call_as(
        &self,
        project: &str,
        version: &str,
        method: &str,
        body: &Value,
        key: Option<&str>,
    ) -> (u16, Value) {
        self.signed(project, &format!("/api/{version}/session/{method}"), body, key).await
    }

    /// A call of any method with good headers.
    pub async fn signed(&self, project: &str, path: &str, body: &Value, key: Option<&str>) -> (u16, Value) {
        let body = serde_json::to_vec(body).unwrap();
        let signature = partner_keys().sign(&body);
        let mut headers = vec![("X-PARTNER-PROJECT", project), ("X-PARTNER-SIGN", signature.as_str())];
        headers.extend(key.map(|key| ("X-PARTNER-IDEMPOTENCY-KEY", key)));
        self.post(path, &headers, body).await
    }

    /// A call that must be accepted; its session.
    pub async fn ok(&self, method: &str, body: Value) -> Value {
        let (status, answer) = self.call(method, &body).await;
        assert_eq!((status, &answer["status"]), (200, &json!("ok")), "{answer}");
        answer["session"].clone()
    }

    /// A call that must be refused with this status and code.
    pub async fn refused(&self, method: &str, body: Value, status: u16, code: &str) {
        let (got, answer) = self.call(method, &body).await;
        assert_error(got, &answer, status, code);
    }

    /// Creates and starts a payout of 1250.50 to `token`; the session's id.
    pub async fn started(&self, token: &str) -> String {
        let id = self.created().await;
        self.ok("start/payout", start_body(&id, token)).await;
        id
    }

    pub async fn created(&self) -> String {
        self.ok("create", json!({})).await["id"].as_str().unwrap().to_owned()
    }

    pub async fn status(&self, id: &str) -> Value {
        self.ok("status", json!({ "session_id": id })).await
    }

    pub async fn wait_for(&self, id: &str, what: &str, test: impl Fn(&Value) -> bool) -> Value {
        until(what, || async { Some(self.status(id).await).filter(&test) }).await
    }

    pub async fn wait_ready(&self, id: &str) -> Value {
        self.wait_for(id, "next_action", |session| session["next_action"] == "confirm").await
    }

    pub async fn wait_status(&self, id: &str, status: &str) -> Value {
        self.wait_for(id, status, |session| session["status"] == status).await
    }

    /// Waits until the payout can be confirmed and confirms it.
    pub async fn confirmed(&self, token: &str) -> String {
        let id = self.started(token).await;
        self.wait_ready(&id).await;
        self.ok("confirm", json!({ "session_id": id })).await;
        id
    }

    pub async fn get(&self, path: &str) -> Value {
        let response = self.http.get(format!("{}{path}", self.base)).send().await.unwrap();
        serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
    }

    /// The ledger's line about a session.
    pub async fn line(&self, id: &str) -> Value {
        let ledger = self.get("/_sandbox/ledger").await;
        let lines = ledger["sessions"].as_array().unwrap();
        lines.iter().find(|line| line["id"] == id).unwrap().clone()
    }
}

pub fn assert_error(got: u16, answer: &Value, status: u16, code: &str) {
    assert_eq!((got, &answer["error"]["code"]), (status, &json!(code)), "{answer}");
    assert_eq!(answer["status"], "error");
    assert!(answer["error"]["description"].is_string());
}

pub fn start_body(id: &str, token: &str) -> Value {
    json!({
        "session_id": id,
        "payout_details": card(token),
        "amount_details": { "amount": 125_050, "currency": "rub" },
        "participant_details": { "recipient": { "full_name": "Anna Petrova" } },
        "customer": { "reference": "user-77" },
        "metadata": { "attempt": token },
    })
}

pub fn card(token: &str) -> Value {
    json!({ "type": "card", "card": { "type": "tokenized_card", "tokenized_card": { "token": token } } })
}

/// A file of this test alone, gone when the test is, with the archive beside it.
pub struct StateFile(pub PathBuf);

impl StateFile {
    pub fn new(name: &str) -> Self {
        let unique = format!("payoutd-sandbox-{name}-{}.json", uuid::Uuid::now_v7());
        Self(std::env::temp_dir().join(unique))
    }
}

impl Drop for StateFile {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
        drop(std::fs::remove_file(self.0.with_extension("json.archive")));
    }
}
