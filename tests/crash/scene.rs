//! The processes of one run: one sandbox, one or more payoutds on one database, each with settings and ports
//! of its own, and what can be done to them from outside: signals, and a crash point that is armed from
//! within.

use crate::{
    pace::Pace,
    support::{Scratch, database::Database, http_client, keys, rest::Api, until},
};
use payoutd::{api::auth, api::auth::Scope, crash_point, domain::id::ProjectId, store::api_keys};
use rustix::process::{Pid, Signal, kill_process};
use secrecy::ExposeSecret;
use sqlx::PgPool;
use std::{
    fs::File,
    net::{SocketAddr, TcpListener},
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::atomic::{AtomicU16, Ordering},
};
use tokio::process::{Child, Command};

const PROGRAM: &str = env!("CARGO_BIN_EXE_payoutd");

const RULES: &str = "version = \"crash\"\n[amounts.RUB]\nmin = 1\nmax = 1_000_000\nhold_above = 500_000\n";

/// What a scene is made of.
#[derive(Clone)]
pub struct Staging {
    pub replicas: usize,
    pub pace: Pace,
    /// `add`: the unkind Pike, with whom a second start on a session is a second payout.
    pub second_start: &'static str,
    /// Rules for the sandbox's faults, as TOML.
    pub faults: String,
    /// Who is told of final statuses.
    pub told: Option<SocketAddr>,
}

pub struct Scene {
    pub db: Database,
    pub pool: PgPool,
    pub sandbox: String,
    /// For everybody in the scene.
    pub http: reqwest::Client,
    pub dir: Scratch,
    /// Of a caller, and of a desk that approves and throws the switch.
    pub keys: [String; 2],
    staging: Staging,
    pike: u16,
    replicas: Vec<Replica>,
    _sandbox: Option<Child>,
}

struct Replica {
    config: PathBuf,
    log: PathBuf,
    api: u16,
    webhook: u16,
    admin: u16,
    process: Option<Child>,
}

impl Scene {
    /// Everything on stage but the replicas, and the sandbox only if it is to be there from the start.
    pub async fn build(staging: &Staging, db: Database, with_sandbox: bool) -> Self {
        let (dir, pool) = (Scratch::new(), db.pool());
        keys::write_into(&dir.file("keys"));
        std::fs::write(dir.file("rules.toml"), RULES).unwrap();
        std::fs::write(dir.file("faults.toml"), &staging.faults).unwrap();
        let pike = free_port();
        let replicas = (0..staging.replicas).map(|n| Replica::new(&dir, n, staging)).collect();
        let caller = api_key(&pool, "caller", &[Scope::Read, Scope::Write]).await;
        let desk = api_key(&pool, "desk", &[Scope::Read, Scope::Approve, Scope::Operate]).await;
        let mut scene = Self {
            db,
            pool,
            http: http_client(),
            sandbox: format!("http://127.0.0.1:{pike}"),
            dir,
            keys: [caller, desk],
            staging: staging.clone(),
            pike,
            replicas,
            _sandbox: None,
        };
        if with_sandbox {
            scene.start_sandbox().await;
        }
        scene
    }

    pub async fn open(staging: &Staging) -> Self {
        let mut scene = Self::build(staging, Database::new().await, true).await;
        for n in 0..staging.replicas {
            scene.start(n).await;
        }
        scene
    }

    /// A caller's client for each replica.
    pub fn callers(&self) -> Vec<Api> {
        self.clients(&self.keys[0])
    }

    /// The same for whoever approves.
    pub fn desks(&self) -> Vec<Api> {
        self.clients(&self.keys[1])
    }

    fn clients(&self, key: &str) -> Vec<Api> {
        let base = |replica: &Replica| format!("http://127.0.0.1:{}", replica.api);
        let client = |replica| Api::sharing(&self.http, base(replica), key);
        self.replicas.iter().map(client).collect()
    }

    /// Starts a replica and waits until it is ready.
    pub async fn start(&mut self, n: usize) {
        self.spawn(n, None);
        if let Some(status) = self.ready_or_ended(n).await {
            panic!("replica {n} did not start: {status}\n{}", self.log(n));
        }
    }

    /// Starts a replica, armed with a crash point if there is one, and waits for nothing.
    pub fn spawn(&mut self, n: usize, crash_at: Option<&str>) {
        let url = self.db.url().to_owned();
        let replica = &mut self.replicas[n];
        let log = File::options().append(true).create(true).open(&replica.log).unwrap();
        let mut command = Command::new(PROGRAM);
        command
            .args(["serve", "--config"])
            .arg(&replica.config)
            .env("DATABASE_URL", url)
            .env("PAYOUTD_PIKE_BASE_URL", &self.sandbox)
            .env_remove(crash_point::VARIABLE)
            .current_dir(&self.dir.0)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .kill_on_drop(true);
        if let Some(point) = crash_at {
            command.env(crash_point::VARIABLE, point);
        }
        replica.process = Some(command.spawn().unwrap());
    }

    /// Waits until a replica is ready; its status if it ends before that.
    pub async fn ready_or_ended(&mut self, n: usize) -> Option<ExitStatus> {
        let ready = format!("http://127.0.0.1:{}/readyz", self.replicas[n].admin);
        let process = self.replicas[n].process.as_mut().expect("it was started");
        until("payoutd to be ready", || {
            let ended = process.try_wait().unwrap();
            let (http, ready) = (&self.http, &ready);
            async move {
                if ended.is_some() { Some(ended) } else { answers(http, ready).await.map(|()| None) }
            }
        })
        .await
    }

    /// How a replica ended, if it has.
    pub fn ended(&mut self, n: usize) -> Option<ExitStatus> {
        self.replicas[n].process.as_mut().and_then(|process| process.try_wait().unwrap())
    }

    /// Whether a replica died by SIGKILL at this crash point.
    pub fn died_at(&self, n: usize, status: ExitStatus, point: &str) -> bool {
        let said = format!("crash point {point}");
        status.signal() == Some(9) && self.log(n).lines().any(|line| line == said)
    }

    pub fn log(&self, n: usize) -> String {
        std::fs::read_to_string(&self.replicas[n].log).unwrap_or_default()
    }

    /// SIGKILL.
    pub async fn kill(&mut self, n: usize) {
        let mut process = self.replicas[n].process.take().expect("it runs");
        assert!(process.try_wait().unwrap().is_none(), "it ended before it was killed\n{}", self.log(n));
        process.kill().await.unwrap();
    }

    pub fn signal(&self, n: usize, signal: Signal) {
        let id = self.replicas[n].process.as_ref().and_then(Child::id).expect("it runs");
        kill_process(Pid::from_raw(i32::try_from(id).unwrap()).unwrap(), signal).unwrap();
    }

    /// Webhooks go to the first replica; the others hear of them through the database.
    pub async fn start_sandbox(&mut self) {
        let pace = &self.staging.pace;
        let project = format!(
            "id=pike-shop,key={},webhook=http://127.0.0.1:{}/pike/shop",
            self.dir.file("keys/payoutd.pub.pem").display(),
            self.replicas[0].webhook
        );
        let process = Command::new(PROGRAM)
            .args(["sandbox", "--listen", &format!("127.0.0.1:{}", self.pike), "--project", &project])
            .arg("--signing-key")
            .arg(self.dir.file("keys/pike.key.pem"))
            .arg("--scenario")
            .arg(self.dir.file("faults.toml"))
            .args(["--second-start", self.staging.second_start])
            .args([
                "--ready-delay",
                pace.delay,
                "--settle-delay",
                pace.delay,
                "--slow-delay",
                pace.slow_delay,
            ])
            .args(["--webhook-retry", pace.webhook_retry, "--webhook-timeout", pace.webhook_timeout])
            .env("PAYOUTD_LOG", "error")
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        self._sandbox = Some(process);
        let health = format!("{}/_sandbox/health", self.sandbox);
        until("the sandbox to answer", || answers(&self.http, &health)).await;
    }

    pub async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }
}

impl Replica {
    fn new(dir: &Scratch, n: usize, staging: &Staging) -> Self {
        let [api, webhook, admin] = [free_port(), free_port(), free_port()];
        let config = dir.file(&format!("replica-{n}.toml"));
        let told = staging.told.map(|told| {
            format!("notify_url = \"http://{told}/told\"\nnotify_secret_file = \"keys/notify.secret\"\n")
        });
        let text = format!(
            r#"
api.listen = "127.0.0.1:{api}"
webhook.listen = "127.0.0.1:{webhook}"
admin.listen = "127.0.0.1:{admin}"
rules.file = "rules.toml"
{}
[projects.shop]
pike_project = "pike-shop"
signing_key_file = "keys/payoutd.key.pem"
pike_public_key_files = ["keys/pike.pub.pem"]
{}"#,
            staging.pace.settings,
            told.unwrap_or_default()
        );
        std::fs::write(&config, text).unwrap();
        let log = dir.file(&format!("replica-{n}.log"));
        Self { config, log, api, webhook, admin, process: None }
    }
}

async fn answers(http: &reqwest::Client, url: &str) -> Option<()> {
    let answer = http.get(url).send().await.ok()?;
    answer.status().is_success().then_some(())
}

async fn api_key(pool: &PgPool, name: &str, scopes: &[Scope]) -> String {
    let scopes = scopes.iter().copied().collect();
    let (key, secret) = auth::generate(&ProjectId("shop".to_owned()), name, &scopes);
    api_keys::insert(&mut pool.acquire().await.unwrap(), &key).await.unwrap();
    secret.expose_secret().to_owned()
}

/// A port that is free and that the system does not hand out by itself: a port of a killed payoutd must still
/// be free when it comes back. Counted for all scenes of this process, which are many at once.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    /// Below what Linux hands out.
    const PORTS: (u16, u16) = (18_000, 32_000);
    let spread = u16::try_from(std::process::id() % 1_000).unwrap() * 10;
    loop {
        let count = NEXT.fetch_add(1, Ordering::SeqCst);
        let port = PORTS.0 + spread.wrapping_add(count) % (PORTS.1 - PORTS.0);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
