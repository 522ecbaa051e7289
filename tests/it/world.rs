//! A world of its own for a test: database, sandbox, payoutd, a receiver of notifications, and a relay on
//! both wires between payoutd and Pike. payoutd is started from a written settings file, as in production.

use crate::{
    relay::Relay,
    sink::Sink,
    support::{Scratch, database::Database, http_client, keys, ledger::Ledger, rest::Api},
};
use payoutd::{
    api::auth::{self, Scope},
    app::{self, Running},
    config::Config,
    domain::id::ProjectId,
    sandbox::{self, Project, Settings, Timing},
    store::api_keys,
};
use secrecy::ExposeSecret;
use sqlx::PgPool;
use std::{collections::BTreeMap, fmt::Write, net::SocketAddr, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// What the sandbox calls the two projects.
pub const PIKE_SHOP: &str = "pike-shop";
pub const PIKE_OTHER: &str = "pike-other";

/// Roubles in every outcome of the rules; euros without a hold; anything else is not known.
pub const RULES: &str = r#"
version = "it-1"
[amounts.RUB]
min = 10_000
max = 1_000_000
hold_above = 500_000
[amounts.EUR]
min = 100
max = 1_000_000
[card.country]
deny = ["PRK"]
[recipient.daily_cap]
RUB = 2_000_000
"#;

/// How a world differs from the usual one.
pub struct Setup {
    pub timing: Timing,
    pub auto_confirm: bool,
    pub rules: String,
    settings: BTreeMap<&'static str, String>,
    /// Lines added to `[projects.shop]`.
    pub project: String,
    /// More files in `keys`, for their owner alone.
    pub secrets: Vec<(&'static str, String)>,
    /// More files in `keys`.
    pub files: Vec<(&'static str, String)>,
    /// The file with Pike's key in `[projects.other]`.
    pub other_pike_key: &'static str,
    /// Whose signatures Pike accepts.
    pub partner_keys: String,
}

impl Setup {
    fn usual() -> Self {
        let ms = Duration::from_millis;
        let timing = Timing {
            ready_delay: ms(5),
            settle_delay: ms(5),
            slow_delay: ms(700),
            webhook_retry: [0, 50, 100, 200, 400, 800, 1600, 3200].map(ms).to_vec(),
            webhook_timeout: Duration::from_secs(5),
            ..Timing::default()
        };
        let settings = BTreeMap::from([
            ("api.listen", "127.0.0.1:0"),
            ("webhook.listen", "127.0.0.1:0"),
            ("admin.listen", "127.0.0.1:0"),
            ("database.max_connections", "8"),
            ("pike.connect_timeout", "500ms"),
            ("pike.total_timeout", "2s"),
            ("pike.reads_per_second", "0"),
            ("breaker.pause", "100ms"),
            ("breaker.longest_pause", "200ms"),
            ("pike.start_unresolved_after", "1s"),
            ("pike.stale_read_grace", "1s"),
            ("polling.first", "100ms"),
            ("polling.steady", "200ms"),
            ("polling.longest", "1s"),
            ("effects.lease", "5s"),
            ("effects.idle_poll", "20ms"),
            ("effects.retry_first", "20ms"),
            ("effects.retry_longest", "200ms"),
            ("inbox.lease", "2s"),
            ("rules.file", "rules.toml"),
            ("notifications.timeout", "1s"),
            ("notifications.retry_first", "20ms"),
            ("notifications.retry_longest", "100ms"),
            ("notifications.give_up_after", "1m"),
            ("notifications.allow_private_addresses", "true"),
            ("shutdown.grace", "5s"),
        ]);
        let settings = settings.into_iter().map(|(key, value)| (key, value.to_owned())).collect();
        Self {
            timing,
            auto_confirm: false,
            rules: RULES.to_owned(),
            settings,
            project: String::new(),
            secrets: vec![],
            files: vec![],
            other_pike_key: "pike.pub.pem",
            partner_keys: keys::text("payoutd.pub.pem").to_owned(),
        }
    }

    /// Sets `section.key` of payoutd's settings.
    pub fn set(&mut self, key: &'static str, value: &str) {
        self.settings.insert(key, value.to_owned());
    }

    fn toml(&self, pike: SocketAddr, sink: SocketAddr) -> String {
        let mut text = String::new();
        for (key, value) in &self.settings {
            let (section, name) = key.split_once('.').unwrap();
            let plain = value == "true" || value == "false" || value.parse::<i64>().is_ok();
            let plain = plain || value.starts_with('[');
            let value = if plain { value.clone() } else { format!("{value:?}") };
            writeln!(text, "{section}.{name} = {value}").unwrap();
        }
        writeln!(text, "pike.base_url = \"http://{pike}\"").unwrap();
        for (name, pike_project) in [("shop", PIKE_SHOP), ("other", PIKE_OTHER)] {
            let extra = if name == "shop" { self.project.as_str() } else { "" };
            let pike_key = if name == "shop" { "pike.pub.pem" } else { self.other_pike_key };
            write!(
                text,
                "[projects.{name}]\npike_project = \"{pike_project}\"\n\
                 signing_key_file = \"keys/payoutd.key.pem\"\n\
                 pike_public_key_files = [\"keys/{pike_key}\"]\n\
                 notify_url = \"http://{sink}/told\"\nnotify_secret_file = \"keys/notify.secret\"\n{extra}\n"
            )
            .unwrap();
        }
        text
    }
}

pub struct World {
    pub db: Database,
    /// For looking, past payoutd.
    pub pool: PgPool,
    pub sink: Arc<Sink>,
    /// From payoutd to Pike.
    pub pike: Relay,
    /// From Pike to payoutd.
    pub hooks: Relay,
    pub dir: Scratch,
    /// API keys by name: caller, approver, operator, stranger (another project's), nobody (no scope).
    pub keys: BTreeMap<&'static str, String>,
    pub sandbox: SocketAddr,
    running: Option<Running>,
    _sandbox_stop: tokio_util::sync::DropGuard,
}

const KEYS: &[(&str, &str, &[Scope])] = &[
    ("caller", "shop", &[Scope::Read, Scope::Write]),
    ("second_caller", "shop", &[Scope::Read, Scope::Write]),
    ("approver", "shop", &[Scope::Read, Scope::Approve]),
    ("owner", "shop", &Scope::ALL),
    ("operator", "shop", &[Scope::Operate]),
    ("stranger", "other", &Scope::ALL),
    ("nobody", "shop", &[]),
    ("homeless", "unconfigured", &Scope::ALL),
];

impl World {
    pub async fn open() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut Setup)) -> Self {
        let mut setup = Setup::usual();
        change(&mut setup);
        Self::on(Database::new().await, setup).await
    }

    /// A usual world on this database.
    pub async fn on_database(db: Database) -> Self {
        Self::on(db, Setup::usual()).await
    }

    async fn on(db: Database, setup: Setup) -> Self {
        let (pike, hooks) = (Relay::open().await, Relay::open().await);
        let (told, sink) = Sink::open().await;
        let stop = CancellationToken::new();
        let sandbox = start_sandbox(&setup, hooks.addr, stop.clone()).await;
        pike.lead_to(Some(sandbox));
        let dir = Scratch::new();
        keys::write_into(&dir.file("keys"));
        for (name, text) in &setup.secrets {
            payoutd::keys::write_secret(&dir.file("keys").join(name), &text.clone().into()).unwrap();
        }
        for (name, text) in &setup.files {
            std::fs::write(dir.file("keys").join(name), text).unwrap();
        }
        std::fs::write(dir.file("rules.toml"), &setup.rules).unwrap();
        std::fs::write(dir.file("payoutd.toml"), setup.toml(pike.addr, told)).unwrap();
        let pool = db.pool();
        let mut keys = BTreeMap::new();
        for (name, project, scopes) in KEYS {
            keys.insert(*name, api_key(&pool, project, name, scopes).await);
        }
        let _sandbox_stop = stop.drop_guard();
        let mut world =
            Self { db, pool, sink, pike, hooks, dir, keys, sandbox, running: None, _sandbox_stop };
        world.start().await;
        world
    }

    pub fn config(&self) -> Config {
        let env = |name: &str| (name == "DATABASE_URL").then(|| self.db.url().to_owned());
        Config::load(Some(&self.dir.file("payoutd.toml")), &env).unwrap_or_else(|wrong| panic!("{wrong}"))
    }

    /// Starts payoutd, which must not be running.
    pub async fn start(&mut self) {
        assert!(self.running.is_none());
        let running = app::start(self.config()).await.unwrap();
        self.hooks.lead_to(Some(running.webhook));
        self.running = Some(running);
    }

    /// Stops payoutd as a signal would.
    pub async fn stop(&mut self) {
        let running = self.running.take().expect("payoutd runs");
        running.stopper().cancel();
        running.wait().await.unwrap();
    }

    /// Stops payoutd and starts it on the same database.
    pub async fn restart(&mut self) {
        self.stop().await;
        self.start().await;
    }

    pub fn running(&self) -> &Running {
        self.running.as_ref().expect("payoutd runs")
    }

    /// A client with one of the keys.
    pub fn api(&self, name: &str) -> Api {
        Api::new(format!("http://{}", self.running().api), &self.keys[name])
    }

    /// The secret parts of all API keys; they may have underscores of their own.
    pub fn api_secrets(&self) -> impl Iterator<Item = &str> {
        self.keys.values().map(|key| key.splitn(3, '_').nth(2).unwrap())
    }

    pub fn caller(&self) -> Api {
        self.api("caller")
    }

    pub async fn ledger(&self) -> Ledger {
        Ledger::read(&format!("http://{}", self.sandbox)).await
    }

    /// Changes a setting for the next start.
    pub fn settings(&self, key: &str, value: &str) {
        let file = self.dir.file("payoutd.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        let others = text.lines().filter(|line| !line.starts_with(&format!("{key} =")));
        let text: String = others.map(|line| format!("{line}\n")).collect();
        std::fs::write(&file, format!("{key} = {value}\n{text}")).unwrap();
    }

    /// Orders a fault of the sandbox.
    pub async fn fault(&self, rule: serde_json::Value) {
        let url = format!("http://{}/_sandbox/faults", self.sandbox);
        let request = http_client().post(url).header("content-type", "application/json");
        let answer = request.body(rule.to_string()).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    }

    /// A page of the admin listener: status and text.
    pub async fn admin(&self, path: &str) -> (u16, String) {
        let url = format!("http://{}{path}", self.running().admin);
        let answer = http_client().get(url).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// A number from the database.
    pub async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }

    /// Posts to the webhook listener and says the status.
    pub async fn webhook(&self, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> u16 {
        let url = format!("http://{}{path}", self.running().webhook);
        let mut request = http_client().post(url).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap().status().as_u16()
    }

    /// Posts a webhook as Pike would sign it.
    pub async fn signed_webhook(&self, project: &str, body: &str) -> u16 {
        let signature = keys::rsa("pike.key.pem", body.as_bytes());
        let path = format!("/pike/{project}");
        self.webhook(&path, &[("X-PARTNER-SIGN", signature.as_str())], body.into()).await
    }
}

async fn start_sandbox(setup: &Setup, hooks: SocketAddr, stop: CancellationToken) -> SocketAddr {
    let project = |id: &str, path: &str| {
        let project = Project::new(id, setup.partner_keys.clone(), format!("http://{hooks}/pike/{path}"));
        Project { auto_confirm: setup.auto_confirm, ..project }
    };
    let projects = vec![project(PIKE_SHOP, "shop"), project(PIKE_OTHER, "other")];
    let mut settings = Settings::new(projects, keys::text("pike.key.pem").to_owned());
    settings.timing = setup.timing.clone();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(sandbox::serve(settings, listener, stop));
    addr
}

async fn api_key(pool: &PgPool, project: &str, name: &str, scopes: &[Scope]) -> String {
    let scopes = scopes.iter().copied().collect();
    let (key, secret) = auth::generate(&ProjectId(project.to_owned()), name, &scopes);
    api_keys::insert(&mut pool.acquire().await.unwrap(), &key).await.unwrap();
    secret.expose_secret().to_owned()
}
