//! What the sandbox costs: CPU of its process per payout, apart from RSA, and its memory over many sessions.
//!
//! `cargo bench --bench sandbox` runs both, small. `-- cost 5000` and `-- memory 1000000` run one of them with
//! that many payouts a round or sessions. The sandbox is a process of its own; this one drives it and receives
//! its webhooks, and its own work is not counted.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on should stop")]

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256};
use axum::body::Bytes;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::sync::oneshot;

/// Payouts under way at once.
const IN_FLIGHT: usize = 64;
/// What the rest of the work may cost, µs of CPU per payout.
const LIMIT_US: f64 = 150.0;
const SIGNS: u32 = 1_000;
const ROUNDS: usize = 5;

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let what = args.next().unwrap_or_else(|| "all".to_owned());
    let number = args.next().map(|number| number.replace('_', "").parse::<usize>().expect("a number"));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        if what == "all" || what == "cost" {
            cost(number.unwrap_or(2_000)).await;
        }
        if what == "all" || what == "memory" {
            memory(number.unwrap_or(20_000)).await;
        }
    });
}

/// Waiting for a webhook: session and type.
type Waiting = Arc<Mutex<HashMap<(String, String), oneshot::Sender<()>>>>;

struct Bench {
    http: reqwest::Client,
    base: String,
    partner: KeyPair,
    waiting: Waiting,
    sandbox: Child,
    dir: PathBuf,
}

impl Bench {
    async fn open(options: &[&str]) -> Self {
        let dir = std::env::temp_dir().join(format!("payoutd-bench-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir(&dir).unwrap();
        let (partner, pike) = (generate(), generate());
        let (public, private) = (dir.join("partner.pub.pem"), dir.join("pike.key.pem"));
        let der = partner.public_key().as_der().unwrap();
        std::fs::write(&public, pem::encode(&pem::Pem::new("PUBLIC KEY", der.as_ref()))).unwrap();
        let der = pike.as_der().unwrap();
        std::fs::write(&private, pem::encode(&pem::Pem::new("PRIVATE KEY", der.as_ref()))).unwrap();

        let waiting = Waiting::default();
        let router = axum::Router::new().route("/hook", axum::routing::post(receive));
        let hooks = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let hook = format!("http://{}/hook", hooks.local_addr().unwrap());
        let service = router.with_state(Arc::clone(&waiting));
        tokio::spawn(async move { axum::serve(hooks, service).await });

        let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let project =
            |id: &str, more: &str| format!("--project=id={id},key={},webhook={hook}{more}", public.display());
        let sandbox = Command::new(env!("CARGO_BIN_EXE_payoutd"))
            .args(["sandbox", "--listen", &free.to_string(), "--signing-key"])
            .arg(&private)
            .args([project("shop", ""), project("auto", ",auto_confirm")])
            .args(["--ready-delay", "0s", "--settle-delay", "0s"])
            .args(options)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().unwrap();
        let base = format!("http://{free}");
        while http.get(format!("{base}/_sandbox/health")).send().await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Self { http, base, partner, waiting, sandbox, dir }
    }

    fn sign(&self, body: &[u8]) -> String {
        let mut signature = vec![0; self.partner.public_modulus_len()];
        self.partner.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), body, &mut signature).unwrap();
        STANDARD.encode(signature)
    }

    async fn post(&self, project: &str, method: &str, body: Vec<u8>, signature: &str) -> Value {
        let url = format!("{}/api/v2/session/{method}", self.base);
        let request = self.http.post(url).header("X-PARTNER-PROJECT", project);
        let response = request.header("X-PARTNER-SIGN", signature).body(body).send().await.unwrap();
        let answer: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
        assert_eq!(answer["status"], "ok", "{answer}");
        answer
    }

    /// A payout of the project that confirms by itself.
    async fn paid(&self, number: usize) {
        let body = json!({ "metadata": format!("bench-{number}/1"),
            "amount_details": { "amount": 125_050, "currency": "rub" },
            "payout_details": { "type": "card", "card": { "type": "tokenized_card",
                "tokenized_card": { "token": format!("{number:064x}") } } } });
        let body = serde_json::to_vec(&body).unwrap();
        let signature = self.sign(&body);
        let request = self.http.post(format!("{}/api/v2/session/init/payout", self.base));
        let request = request.header("X-PARTNER-PROJECT", "auto").header("X-PARTNER-SIGN", signature);
        let request = request.header("X-PARTNER-IDEMPOTENCY-KEY", format!("bench-{number}"));
        let response = request.body(body).send().await.unwrap();
        assert_eq!(response.status(), 200);
        drop(response.bytes().await);
    }

    fn expect(&self, session: &str, kind: &str) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().unwrap().insert((session.to_owned(), kind.to_owned()), sender);
        receiver
    }

    /// One payout's whole life, as a careful client leads it.
    async fn payout(&self, number: usize, create: &str) {
        let created = self.post("shop", "create", b"{}".to_vec(), create).await;
        let id = created["session"]["id"].as_str().unwrap();
        let (ready, finished) = (self.expect(id, "ready_to_confirm"), self.expect(id, "payment_finished"));
        let body = json!({ "session_id": id, "metadata": format!("bench-{number}/1"),
            "amount_details": { "amount": 125_050, "currency": "rub" },
            "participant_details": { "recipient": { "full_name": "Anna Petrova" } },
            "payout_details": { "type": "card", "card": { "type": "tokenized_card",
                "tokenized_card": { "token": format!("{number:064x}") } } } });
        let body = serde_json::to_vec(&body).unwrap();
        let signature = self.sign(&body);
        self.post("shop", "start/payout", body, &signature).await;
        ready.await.unwrap();
        let body = serde_json::to_vec(&json!({ "session_id": id })).unwrap();
        let signature = self.sign(&body);
        self.post("shop", "confirm", body, &signature).await;
        finished.await.unwrap();
    }

    /// CPU time of the sandbox's threads so far, µs.
    fn cpu_us(&self) -> f64 {
        let mut ns = 0.0;
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.sandbox.id())).unwrap() {
            let stat = std::fs::read_to_string(thread.unwrap().path().join("schedstat")).unwrap();
            ns += stat.split_whitespace().next().unwrap().parse::<f64>().unwrap();
        }
        ns / 1000.0
    }

    /// Memory of the sandbox now, MiB.
    fn rss_mib(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.sandbox.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1024.0
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        drop(self.sandbox.kill());
        drop(self.sandbox.wait());
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

fn generate() -> KeyPair {
    KeyPair::generate(KeySize::Rsa2048).unwrap()
}

async fn receive(State(waiting): State<Waiting>, body: Bytes) {
    let hook: Value = serde_json::from_slice(&body).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let key = (text(&hook["session"]["id"]), text(&hook["type"]));
    if let Some(sender) = waiting.lock().unwrap().remove(&key) {
        // Whoever waited may have given up.
        let _given_up = sender.send(());
    }
}

/// CPU time of this thread so far, µs: what others do on the machine meanwhile does not count.
fn own_cpu_us() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1000.0
}

/// What one signature and one verification take on this machine now, µs of CPU.
fn rsa_us() -> (f64, f64) {
    let key = generate();
    let public = key.public_key().as_der().unwrap();
    let public = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public.as_ref()).unwrap();
    let mut signature = vec![0; key.public_modulus_len()];
    let body = [b'x'; 500];
    let begun = own_cpu_us();
    for _ in 0..SIGNS {
        key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), &body, &mut signature).unwrap();
    }
    let between = own_cpu_us();
    for _ in 0..SIGNS {
        public.verify_sig(&body, &signature).unwrap();
    }
    let count = f64::from(SIGNS);
    ((between - begun) / count, (own_cpu_us() - between) / count)
}

fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap())
}

async fn cost(payouts: usize) {
    let bench = Bench::open(&[]).await;
    let create = bench.sign(b"{}");
    let run = async |from: usize, count: usize| {
        let lives = (from..from + count).map(|number| bench.payout(number, &create));
        futures_util::stream::iter(lives).buffer_unordered(IN_FLIGHT).collect::<Vec<()>>().await;
    };
    run(0, 500).await;
    println!("cost: {ROUNDS} rounds of {payouts} payouts, {IN_FLIGHT} in flight; CPU µs a payout");
    let mut rest = Vec::new();
    for round in 0..ROUNDS {
        // Before and after, because what else runs on the machine changes what a signature takes.
        let (sign_before, verify_before) = rsa_us();
        let (begun, before) = (Instant::now(), bench.cpu_us());
        run(500 + round * payouts, payouts).await;
        let (elapsed, spent) = (begun.elapsed(), (bench.cpu_us() - before) / number(payouts));
        let (sign_after, verify_after) = rsa_us();
        let (sign, verify) = ((sign_before + sign_after) / 2.0, (verify_before + verify_after) / 2.0);
        let rsa = 2.0 * sign + 3.0 * verify;
        let rate = number(payouts) / elapsed.as_secs_f64();
        println!("  {rate:5.0}/s: {spent:.0} in all, {rsa:.0} of it two signatures and three checks");
        rest.push(spent - rsa);
    }
    rest.sort_by(f64::total_cmp);
    let (least, median, most) = (rest[0], rest[ROUNDS / 2], rest[ROUNDS - 1]);
    println!(
        "  everything else: {median:.0} (from {least:.0} to {most:.0}), of which {LIMIT_US:.0} are allowed"
    );
    println!("  memory: {:.1} MiB", bench.rss_mib());
    assert!(least > 0.0, "the machine is too busy to tell RSA from the rest: run it again");
    if median > LIMIT_US {
        println!("  TOO MUCH, unless the machine was busy");
        std::process::exit(1);
    }
}

/// Each session has metadata, a card and an idempotency key of its own, and a webhook that is delivered.
async fn memory(sessions: usize) {
    let bench = Bench::open(&[]).await;
    println!("memory: {sessions} sessions, each paid, with its own metadata, key and webhook");
    let step = sessions.div_ceil(10);
    for done in (0..sessions).step_by(step) {
        let calls = (done..done + step).map(|number| bench.paid(number));
        futures_util::stream::iter(calls).buffer_unordered(IN_FLIGHT).for_each(|()| async {}).await;
        println!("  after {:9} {:7.1} MiB", done + step, bench.rss_mib());
    }
}
