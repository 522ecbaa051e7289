//! The composition root: settings in, a running payoutd out. Puts the rooms together and takes them apart
//! again in the right order; decides nothing.

mod calls;
mod check;
mod health;
mod report;
mod unflag;
mod workers;

pub use check::{accept, check};
pub use health::is_ready;
pub use report::{ReportArgs, reconcile_report};
pub use unflag::unflag;

use crate::{
    admin::{self, AdminState},
    api::{self, ApiState},
    config::{self, Config, WebhookScheme},
    crash_point,
    domain::{id::ProjectId, policy::Mode},
    engine::{Core, Engine, Remembered, Sessions, Wake},
    http::{self, Limits},
    store::{pool, rules},
    telemetry,
    webhook::{self, Verifier, WebhookState},
    worker::{effects::Effects, inbox::Inbox},
};
use anyhow::{Context, Result};
use axum::Router;
use metrics_exporter_prometheus::PrometheusHandle;
use secrecy::ExposeSecret;
use sqlx::PgPool;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::TcpListener,
    sync::Notify,
    task::{JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;

/// Connections kept for what callers read, so that slow lists cannot keep outcomes from being recorded.
const READ_CONNECTIONS: u32 = 8;
/// How long answers about a process that has stopped otherwise may take.
const ADMIN_GRACE: Duration = Duration::from_secs(1);

/// What readiness says in that mode.
const RECONCILING: &str = "reconciling only: no order is taken, Pike gets nothing but status reads";

/// A running payoutd.
pub struct Running {
    pub api: SocketAddr,
    pub webhook: SocketAddr,
    pub admin: SocketAddr,
    stop: CancellationToken,
    whole: JoinHandle<Result<()>>,
}

impl Running {
    /// Asks it to stop; `wait` tells when it has.
    #[must_use]
    pub fn stopper(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Waits until it has stopped, by request or because a part of it failed.
    ///
    /// # Errors
    /// The part's failure.
    pub async fn wait(self) -> Result<()> {
        self.whole.await.context("the main task died")?
    }
}

/// Connects, checks, binds and starts everything. Returns once it is ready for work.
///
/// # Errors
/// Whatever keeps it from running: said before anything is accepted.
pub async fn start(config: Config) -> Result<Running> {
    let metrics = telemetry::start_metrics().context("metrics")?;
    let url = config.database.url.expose_secret();
    let pool = pool::connect(url, config.database.max_connections).await.context("connecting to Postgres")?;
    let read_pool = pool::connect(url, READ_CONNECTIONS).await.context("connecting to Postgres")?;
    pool::check(&pool).await?;
    pool::check_environment(&pool, config.environment()).await?;
    let (rule_set, rule_text) = config::rules::load(&config.rules.file)?;
    let mut tx = pool.begin().await?;
    rules::remember(&mut tx, &rule_set.version, &rule_text).await.context("storing the rule set")?;
    crash_point::pass("startup.rules_stored");
    tx.commit().await?;

    let rule_version = rule_set.version.clone();
    let wake = Wake::default();
    let core = Core {
        pool: pool.clone(),
        policy: config.policy(),
        rules: rule_set,
        stop_line: config.stop_line(),
        mode: config.mode(),
        wake: wake.clone(),
        hands: std::sync::OnceLock::default(),
        sessions: Sessions::default(),
        remembered: Remembered::default(),
    };
    let parts = Parts { engine: Engine::start(core), pool, read_pool, wake, metrics };
    let listeners = Listeners::bind(&config).await?;
    crash_point::pass("startup.listening");
    let (api, webhook, admin) = (listeners.api.addr, listeners.webhook.addr, listeners.admin.addr);
    let stop = CancellationToken::new();
    let mode = config.mode();
    if mode == Mode::ReconcileOnly {
        let asked = parts.engine.ask_about_everything(config.reconcile.recent).await?;
        tracing::warn!(asked, "reconciling only: nothing is sent to Pike but status reads");
    }
    let effects = calls::effects(&config, &parts.pool, &parts.engine, rule_version, mode)?;
    let (inbox_wake, admin_router) = (Arc::new(Notify::new()), parts.admin(&effects, mode, &stop));
    let inbox = parts.inbox(&config, &inbox_wake);
    let routers = [
        (listeners.api.listener, parts.api(&config)),
        (listeners.webhook.listener, parts.webhook(&config, &inbox)?),
        (listeners.admin.listener, admin_router),
    ];
    let halt = CancellationToken::new();
    let workers = parts.workers(&config, &effects, (inbox, inbox_wake), &halt)?;
    tracing::info!(%api, %webhook, %admin, "payoutd is ready");
    let whole = tokio::spawn(run(
        routers,
        workers,
        effects,
        Stopping { asked: stop.clone(), halt, config: config.shutdown },
    ));
    Ok(Running { api, webhook, admin, stop, whole })
}

/// How it stops: `asked` ends readiness; after the drain `halt` ends claiming and accepting.
struct Stopping {
    asked: CancellationToken,
    halt: CancellationToken,
    config: config::Shutdown,
}

/// Serves until stopped. Readiness ends first, then claiming and accepting; then what is under way gets
/// `grace` to finish, and what does not is left to its lease. The admin listener stays to the end, so that
/// operators can see a process that is stopping, and why it takes long.
async fn run(
    [api, webhook, admin]: [(TcpListener, Router); 3],
    mut workers: JoinSet<&'static str>,
    effects: Effects,
    stopping: Stopping,
) -> Result<()> {
    let Stopping { asked, halt, config: config::Shutdown { drain, grace } } = stopping;
    let mut servers = JoinSet::new();
    for (listener, router) in [api, webhook] {
        servers.spawn(http::serve(listener, router, Limits::default(), halt.clone(), grace));
    }
    let (admin_stop, (listener, router)) = (CancellationToken::new(), admin);
    let mut admin =
        tokio::spawn(http::serve(listener, router, Limits::default(), admin_stop.clone(), ADMIN_GRACE));
    let failure = tokio::select! {
        biased;
        () = asked.cancelled() => None,
        Some(ended) = workers.join_next() => Some(format!("a worker ended: {ended:?}")),
        Some(ended) = servers.join_next() => Some(format!("a listener ended: {ended:?}")),
        ended = &mut admin => Some(format!("the admin listener ended: {ended:?}")),
    };
    asked.cancel();
    crash_point::pass("shutdown.not_ready");
    if failure.is_none() {
        tokio::time::sleep(drain).await;
    }
    halt.cancel();
    effects.stop_claiming();
    crash_point::pass("shutdown.halted");
    tracing::info!(grace = ?grace, "stopping: finishing what is under way");
    let finished = tokio::time::timeout(grace, async {
        while workers.join_next().await.is_some() {}
        effects.finish().await;
        while servers.join_next().await.is_some() {}
    });
    if finished.await.is_err() {
        tracing::warn!("not everything finished in time; the rest is left to its leases");
    }
    crash_point::pass("shutdown.finished");
    admin_stop.cancel();
    if !admin.is_finished() {
        // Whatever it has to say now, nobody depends on it.
        let _ = admin.await;
    }
    tracing::info!("payoutd has stopped");
    failure.map_or(Ok(()), |why| Err(anyhow::anyhow!(why)))
}

struct Bound {
    listener: TcpListener,
    addr: SocketAddr,
}

struct Listeners {
    api: Bound,
    webhook: Bound,
    admin: Bound,
}

impl Listeners {
    async fn bind(config: &Config) -> Result<Self> {
        let bind = async |key: &str, addr: SocketAddr| {
            let listener = TcpListener::bind(addr)
                .await
                .with_context(|| format!("{key}.listen: {addr} cannot be listened on"))?;
            let addr = listener.local_addr()?;
            Ok::<_, anyhow::Error>(Bound { listener, addr })
        };
        Ok(Self {
            api: bind("api", config.api.listen).await?,
            webhook: bind("webhook", config.webhook.listen).await?,
            admin: bind("admin", config.admin.listen).await?,
        })
    }
}

/// What the rooms share.
struct Parts {
    engine: Engine,
    pool: PgPool,
    read_pool: PgPool,
    wake: Wake,
    metrics: PrometheusHandle,
}

impl Parts {
    fn api(&self, config: &Config) -> Router {
        let projects: BTreeSet<ProjectId> = config.projects.keys().cloned().map(ProjectId).collect();
        api::router(ApiState {
            engine: self.engine.clone(),
            pool: self.read_pool.clone(),
            keys: api::Keys::start(self.read_pool.clone()),
            projects: Arc::new(projects),
        })
    }

    fn admin(&self, effects: &Effects, mode: Mode, stop: &CancellationToken) -> Router {
        let effects = effects.clone();
        let reconciling = match mode {
            Mode::Everything => None,
            Mode::ReconcileOnly => Some(RECONCILING.to_owned()),
        };
        metrics::gauge!("payoutd_reconcile_only").set(if reconciling.is_some() { 1.0 } else { 0.0 });
        let notes = move || {
            let paused = effects.paused().into_iter();
            let paused = paused.map(|(project, why)| format!("calls to Pike pause: {project} ({why})"));
            reconciling.clone().into_iter().chain(paused).collect()
        };
        admin::router(AdminState {
            pool: self.pool.clone(),
            metrics: self.metrics.clone(),
            stopping: stop.clone(),
            notes: Arc::new(notes),
        })
    }

    fn webhook(&self, config: &Config, inbox: &Inbox) -> Result<Router> {
        let mut verifiers = BTreeMap::new();
        for (name, project) in &config.projects {
            let header = &project.webhook_signature_header;
            let verifier = match &project.webhook {
                WebhookScheme::PikeRsaSha256 { public_keys } => Verifier::pike_rsa(header, public_keys),
                WebhookScheme::HmacSha256 { secret } => {
                    Verifier::hmac(header, secret.expose_secret().as_bytes())
                }
            };
            let verifier = verifier.with_context(|| format!("projects.{name}: webhook keys"))?;
            verifiers.insert(ProjectId(name.clone()), verifier);
        }
        let workers: Arc<dyn webhook::Workers> = Arc::new(inbox.clone());
        let intake = webhook::intake(self.pool.clone(), Arc::clone(&workers));
        Ok(webhook::router(WebhookState { verifiers: Arc::new(verifiers), intake, workers }))
    }
}
