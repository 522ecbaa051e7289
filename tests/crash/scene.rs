//! The processes: one sandbox, one or two payoutds on one database, each with settings and ports of its own.

use crate::support::{Scratch, database::Database, http_client, keys, rest::Api, until};
use payoutd::{api::auth, api::auth::Scope, domain::id::ProjectId, store::api_keys};
use secrecy::ExposeSecret;
use sqlx::PgPool;
use std::{fs::File, net::TcpListener, path::PathBuf, process::Stdio};
use tokio::process::{Child, Command};

const PROGRAM: &str = env!("CARGO_BIN_EXE_payoutd");

const RULES: &str = "version = \"crash\"\n[amounts.RUB]\nmin = 1\nmax = 1_000_000\n";

pub struct Scene {
    pub db: Database,
    pub pool: PgPool,
    pub sandbox: String,
    dir: Scratch,
    key: String,
    replicas: Vec<Replica>,
    _sandbox: Child,
}

struct Replica {
    config: PathBuf,
    log: PathBuf,
    api: u16,
    admin: u16,
    process: Option<Child>,
}

impl Scene {
    pub async fn open(replicas: usize) -> Self {
        let db = Database::new().await;
        let (dir, pool) = (Scratch::new(), db.pool());
        keys::write_into(&dir.file("keys"));
        std::fs::write(dir.file("rules.toml"), RULES).unwrap();
        let mut ports = Ports::new();
        let (pike, webhook) = (ports.next(), ports.next());
        let replicas = (0..replicas)
            .map(|n| {
                let webhook = if n == 0 { webhook } else { ports.next() };
                Replica::new(&dir, n, pike, [ports.next(), webhook, ports.next()])
            })
            .collect();
        let sandbox = format!("http://127.0.0.1:{pike}");
        let process = start_sandbox(&dir, pike, webhook);
        let health = format!("{sandbox}/_sandbox/health");
        until("the sandbox to answer", || answers(&health)).await;
        let key = api_key(&pool).await;
        let mut scene = Self { db, pool, sandbox, dir, key, replicas, _sandbox: process };
        for n in 0..scene.replicas.len() {
            scene.start(n).await;
        }
        scene
    }

    /// A caller's client for each replica.
    pub fn callers(&self) -> Vec<Api> {
        let base = |replica: &Replica| format!("http://127.0.0.1:{}", replica.api);
        self.replicas.iter().map(|replica| Api::new(base(replica), &self.key)).collect()
    }

    /// Starts a replica and waits until it is ready.
    pub async fn start(&mut self, n: usize) {
        let url = self.db.url().to_owned();
        let replica = &mut self.replicas[n];
        let log = File::options().append(true).create(true).open(&replica.log).unwrap();
        let process = Command::new(PROGRAM)
            .args(["serve", "--config"])
            .arg(&replica.config)
            .env("DATABASE_URL", url)
            .current_dir(&self.dir.0)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let process = replica.process.insert(process);
        let ready = format!("http://127.0.0.1:{}/readyz", replica.admin);
        until("payoutd to be ready", || {
            let ended = process.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}: {}", std::fs::read_to_string(&replica.log).unwrap());
            answers(&ready)
        })
        .await;
    }

    /// SIGKILL.
    pub async fn kill(&mut self, n: usize) {
        let mut process = self.replicas[n].process.take().expect("it runs");
        assert!(process.try_wait().unwrap().is_none(), "it ended before it was killed");
        process.kill().await.unwrap();
    }

    pub async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }
}

impl Replica {
    fn new(dir: &Scratch, n: usize, pike: u16, [api, webhook, admin]: [u16; 3]) -> Self {
        let config = dir.file(&format!("replica-{n}.toml"));
        let text = format!(
            r#"
api.listen = "127.0.0.1:{api}"
webhook.listen = "127.0.0.1:{webhook}"
admin.listen = "127.0.0.1:{admin}"
database.max_connections = 10
log.level = "error"
rules.file = "rules.toml"
inbox.lease = "2s"
[pike]
base_url = "http://127.0.0.1:{pike}"
connect_timeout = "500ms"
total_timeout = "2s"
reads_per_second = 0
start_unresolved_after = "1s"
stale_read_grace = "1s"
[breaker]
pause = "100ms"
longest_pause = "500ms"
[polling]
first = "300ms"
steady = "1s"
longest = "2s"
[effects]
# Hardly more than the calls may take: what a dead process held comes back after this.
lease = "4600ms"
idle_poll = "50ms"
retry_first = "50ms"
retry_longest = "500ms"
[projects.shop]
pike_project = "pike-shop"
signing_key_file = "keys/payoutd.key.pem"
pike_public_key_files = ["keys/pike.pub.pem"]
"#
        );
        std::fs::write(&config, text).unwrap();
        Self { config, log: dir.file(&format!("replica-{n}.log")), api, admin, process: None }
    }
}

/// Webhooks go to the first replica; the others hear of them through the database.
fn start_sandbox(dir: &Scratch, port: u16, webhook: u16) -> Child {
    let project = format!(
        "id=pike-shop,key={},webhook=http://127.0.0.1:{webhook}/pike/shop",
        dir.file("keys/payoutd.pub.pem").display()
    );
    Command::new(PROGRAM)
        .args(["sandbox", "--listen", &format!("127.0.0.1:{port}"), "--project", &project])
        .arg("--signing-key")
        .arg(dir.file("keys/pike.key.pem"))
        // The unkind Pike: a second start on a session would be a second payout.
        .args(["--second-start", "add"])
        .args(["--ready-delay", "20ms", "--settle-delay", "20ms", "--slow-delay", "500ms"])
        .args(["--webhook-retry", "0s,200ms,500ms,1s,2s,4s,8s", "--webhook-timeout", "2s"])
        .env("PAYOUTD_LOG", "error")
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

async fn answers(url: &str) -> Option<()> {
    let answer = http_client().get(url).send().await.ok()?;
    answer.status().is_success().then_some(())
}

async fn api_key(pool: &PgPool) -> String {
    let scopes = [Scope::Read, Scope::Write].into();
    let (key, secret) = auth::generate(&ProjectId("shop".to_owned()), "caller", &scopes);
    api_keys::insert(&mut pool.acquire().await.unwrap(), &key).await.unwrap();
    secret.expose_secret().to_owned()
}

/// Ports that are free and that the system does not hand out by itself: a port of a killed payoutd must still
/// be free when it comes back.
struct Ports(u16);

impl Ports {
    fn new() -> Self {
        let spread = u16::try_from(std::process::id() % 1_000).unwrap();
        Self(20_000 + spread * 10)
    }

    fn next(&mut self) -> u16 {
        loop {
            self.0 += 1;
            if TcpListener::bind(("127.0.0.1", self.0)).is_ok() {
                return self.0;
            }
        }
    }
}
