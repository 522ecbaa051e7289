//! A sandbox, one database, payoutds in this process, and proxies between them all.

use crate::{
    http_line::HttpLine,
    proxy::Proxy,
    support::{Scratch, database::Database, keys, ledger::Ledger, rest::Api},
    wire::Wire,
};
use payoutd::{
    api::auth::{self, Scope},
    app::{self, Running},
    config::Config,
    domain::id::ProjectId,
    sandbox::{self, Project, SecondStart, Settings, Timing},
    store::api_keys,
};
use secrecy::ExposeSecret;
use sqlx::PgPool;
use std::{collections::BTreeMap, fmt::Write, net::SocketAddr, sync::Arc, time::Duration};
use tokio_util::sync::{CancellationToken, DropGuard};

const PIKE_SHOP: &str = "pike-shop";

const RULES: &str =
    "version = \"network\"\n[amounts.RUB]\nmin = 1\nmax = 1_000_000\n[card.country]\ndeny = [\"PRK\"]\n";

/// How a scene differs from the usual one.
pub struct Setup {
    pub seed: u64,
    pub timing: Timing,
    pub second_start: SecondStart,
    pub instances: usize,
    /// Who gets Pike's webhooks instead of the first instance.
    pub webhooks_to: Option<SocketAddr>,
    pub settings: BTreeMap<&'static str, String>,
}

impl Setup {
    pub fn usual(seed: u64) -> Self {
        let ms = Duration::from_millis;
        let timing = Timing {
            ready_delay: ms(5),
            settle_delay: ms(5),
            slow_delay: ms(500),
            webhook_retry: [0, 100, 300, 700, 1_500, 3_000, 6_000].map(ms).to_vec(),
            webhook_timeout: Duration::from_secs(2),
            ..Timing::default()
        };
        let settings = [
            ("api.listen", "127.0.0.1:0"),
            ("webhook.listen", "127.0.0.1:0"),
            ("admin.listen", "127.0.0.1:0"),
            ("database.max_connections", "8"),
            ("log.level", "error"),
            ("pike.connect_timeout", "500ms"),
            ("pike.total_timeout", "2s"),
            ("pike.max_in_flight", "400"),
            ("pike.reads_per_second", "0"),
            ("breaker.pause", "100ms"),
            ("breaker.longest_pause", "200ms"),
            ("pike.start_unresolved_after", "1s"),
            ("pike.stale_read_grace", "1s"),
            ("polling.first", "200ms"),
            ("polling.steady", "500ms"),
            ("polling.longest", "1s"),
            ("effects.lease", "5s"),
            ("effects.idle_poll", "50ms"),
            ("effects.retry_first", "50ms"),
            ("effects.retry_longest", "200ms"),
            ("inbox.lease", "2s"),
            ("rules.file", "rules.toml"),
            ("notifications.allow_private_addresses", "true"),
            ("shutdown.grace", "5s"),
        ];
        let settings = settings.into_iter().map(|(key, value)| (key, value.to_owned())).collect();
        Self { seed, timing, second_start: SecondStart::Add, instances: 1, webhooks_to: None, settings }
    }

    /// Sets `section.key` of payoutd's settings.
    pub fn set(mut self, key: &'static str, value: &str) -> Self {
        self.settings.insert(key, value.to_owned());
        self
    }

    /// Asks Pike seldom: whatever is found out is found out by webhooks.
    pub fn polling(self, every: &str) -> Self {
        self.set("polling.first", every).set("polling.steady", every).set("polling.longest", every)
    }

    fn toml(&self, pike: SocketAddr) -> String {
        let mut text = String::new();
        for (key, value) in &self.settings {
            let plain = value == "true" || value == "false" || value.parse::<i64>().is_ok();
            let value = if plain { value.clone() } else { format!("{value:?}") };
            writeln!(text, "{key} = {value}").unwrap();
        }
        format!(
            "{text}pike.base_url = \"http://{pike}\"\n[projects.shop]\npike_project = \"{PIKE_SHOP}\"\n\
             signing_key_file = \"keys/payoutd.key.pem\"\npike_public_key_files = [\"keys/pike.pub.pem\"]\n"
        )
    }
}

pub struct Scene {
    _db: Database,
    /// For looking, past payoutd and every proxy.
    pub pool: PgPool,
    pub wire: Arc<Wire>,
    /// From payoutd to Pike.
    pub pike: Proxy,
    /// From Pike to payoutd: to the first instance.
    pub hooks: Proxy,
    pub sandbox: SocketAddr,
    pub running: Vec<Running>,
    key: String,
    dir: Scratch,
    _sandbox_stop: DropGuard,
}

impl Scene {
    /// With payoutd on the database itself.
    pub async fn open(setup: Setup) -> Self {
        let db = Database::new().await;
        let url = db.url().to_owned();
        Self::on(db, &url, setup).await
    }

    /// With payoutd on the database at `url`, which leads to `db`.
    pub async fn on(db: Database, url: &str, setup: Setup) -> Self {
        let wire = Arc::new(Wire::new(setup.seed));
        let line = Arc::new(HttpLine(Arc::clone(&wire)));
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
        let hooks = Proxy::open(nowhere, Arc::clone(&line)).await;
        let stop = CancellationToken::new();
        let sandbox = start_sandbox(&setup, setup.webhooks_to.unwrap_or(hooks.addr), stop.clone()).await;
        let pike = Proxy::open(sandbox, line).await;
        let (dir, pool) = (Scratch::new(), db.pool());
        keys::write_into(&dir.file("keys"));
        std::fs::write(dir.file("rules.toml"), RULES).unwrap();
        std::fs::write(dir.file("payoutd.toml"), setup.toml(pike.addr)).unwrap();
        let key = api_key(&pool).await;
        let _sandbox_stop = stop.drop_guard();
        let running = vec![];
        let mut scene = Self { _db: db, pool, wire, pike, hooks, sandbox, running, key, dir, _sandbox_stop };
        for _ in 0..setup.instances {
            let running = app::start(scene.config(url)).await.unwrap();
            scene.running.push(running);
        }
        scene.hooks.lead_to(scene.running[0].webhook);
        scene
    }

    fn config(&self, url: &str) -> Config {
        let env = |name: &str| (name == "DATABASE_URL").then(|| url.to_owned());
        Config::load(Some(&self.dir.file("payoutd.toml")), &env).unwrap_or_else(|wrong| panic!("{wrong}"))
    }

    /// A caller of the first instance.
    pub fn caller(&self) -> Api {
        Api::new(format!("http://{}", self.running[0].api), &self.key)
    }

    pub async fn ledger(&self) -> Ledger {
        Ledger::read(&format!("http://{}", self.sandbox)).await
    }

    /// A number from the database.
    pub async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }

    /// Stops what runs in this process, as a signal would.
    pub async fn close(self) {
        for running in self.running {
            running.stopper().cancel();
            running.wait().await.unwrap();
        }
    }
}

async fn start_sandbox(setup: &Setup, hooks: SocketAddr, stop: CancellationToken) -> SocketAddr {
    let key = keys::text("payoutd.pub.pem").to_owned();
    let project = Project::new(PIKE_SHOP, key, format!("http://{hooks}/pike/shop"));
    let mut settings = Settings::new(vec![project], keys::text("pike.key.pem").to_owned());
    settings.timing = setup.timing.clone();
    settings.second_start = setup.second_start;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(sandbox::serve(settings, listener, stop));
    addr
}

async fn api_key(pool: &PgPool) -> String {
    let scopes = [Scope::Read, Scope::Write].into();
    let (key, secret) = auth::generate(&ProjectId("shop".to_owned()), "caller", &scopes);
    api_keys::insert(&mut pool.acquire().await.unwrap(), &key).await.unwrap();
    secret.expose_secret().to_owned()
}
