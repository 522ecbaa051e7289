//! A fake Pike: the provider's payout API with its asynchronous life of a session, signed webhooks, faults on
//! command by magic tokens, and a ledger that says what really happened.
//!
//! Reading order: `http` (who calls) → `request` (what they want) → `calls` (what it does) → `machine` (what
//! may follow what; pure) → `world` (books what follows) → `post` (time and webhooks) → `report` (the truth).
//! `magic` is the table of destinations, `tokens` what names them, with the methods about that; `faults` are
//! the troubles on command. What is young or under way is in memory (`sessions`), the rest in the `archive`;
//! both survive a restart by `state_file` when asked to.
//!
//! The sandbox is the oracle of the safety tests, so it shares no code with the client or the webhook
//! receiver: a mistake on one side must show on the other.

mod accept;
mod archive;
mod args;
mod calls;
mod code;
mod console;
mod control;
mod daily;
mod echo;
mod faults;
mod groups;
mod http;
mod idempotency;
mod keys;
mod ledger;
mod machine;
mod magic;
mod mail;
mod parameters;
mod pieces;
mod post;
mod report;
mod request;
mod scalars;
mod scan;
#[cfg(test)]
mod scene;
mod session;
mod sessions;
mod settings;
mod state_file;
mod strikes;
mod survey;
mod tokens;
mod view;
mod wire;
mod world;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use args::{Args, ProjectSpec};
pub use code::{Code, HttpStatuses};
pub use faults::{Rule, Scenario};
pub use request::Method;
pub use settings::{
    ConfirmShows, DeclinedSession, IdempotencyBurn, IdempotencyScope, Project, SecondStart, Settings, Timing,
    WebhookVersion,
};

use crate::clock::Clock;
use faults::Book;
use keys::{PartnerKey, SigningKey};
use scalars::At;
use tokens::Seal;
use world::{Constitution, State, World};

/// How long calls under way may take to end at shutdown.
const SHUTDOWN_GRACE: Duration = Duration::from_millis(500);

/// Where the dice of faults start unless told otherwise.
const DEFAULT_SEED: u64 = 1;

/// Why a sandbox did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    #[error("cannot read {}", path.display())]
    ReadFile { path: PathBuf, source: std::io::Error },
    #[error("the state in {} cannot be understood", path.display())]
    StateUnreadable { path: PathBuf, source: serde_json::Error },
    #[error("cannot use the archive {}", path.display())]
    Archive { path: PathBuf, source: std::io::Error },
    #[error("cannot write the state to {}", path.display())]
    WriteState { path: PathBuf, source: std::io::Error },
    #[error("cannot make the report {}", path.display())]
    Report { path: PathBuf, source: std::io::Error },
    #[error("the sandbox's signing key cannot be used: {reason}")]
    SigningKey { reason: String },
    #[error("the public key of project `{project}` cannot be used: {reason}")]
    PartnerKey { project: String, reason: String },
    #[error("the webhook address of project `{project}` is not a URL")]
    WebhookUrl { project: String },
    #[error("project `{project}` is given twice")]
    DuplicateProject { project: String },
    #[error("the scenario in {} cannot be used: {reason}", path.display())]
    Scenario { path: PathBuf, reason: String },
    #[error("the clock factor must be a number above zero")]
    ClockFactor,
    #[error("cannot listen on {address}")]
    Listen { address: std::net::SocketAddr, source: std::io::Error },
    #[error("cannot set up the client for webhooks")]
    WebhookClient(#[source] reqwest::Error),
}

/// A running sandbox, as its parts see it.
#[derive(Debug)]
struct Sandbox {
    clock: Clock,
    partners: HashMap<String, PartnerKey>,
    signing_key: SigningKey,
    /// Somebody else's, made when it is first asked for.
    foreign_key: OnceLock<SigningKey>,
    seal: Seal,
    world: Mutex<World>,
    /// Something is due earlier than it was.
    agenda_changed: Notify,
}

impl Sandbox {
    fn new(settings: &Settings, state: State) -> Result<Self, SandboxError> {
        if !(settings.timing.clock_factor.is_finite() && settings.timing.clock_factor > 0.0) {
            return Err(SandboxError::ClockFactor);
        }
        let signing_key = SigningKey::from_pem(&settings.signing_key_pem)
            .map_err(|reason| SandboxError::SigningKey { reason })?;
        let mut partners = HashMap::new();
        for Project { id: project, partner_public_key_pem, webhook_url, .. } in &settings.projects {
            let project = project.clone();
            let key = match PartnerKey::from_pem(partner_public_key_pem) {
                Ok(key) => key,
                Err(reason) => return Err(SandboxError::PartnerKey { project, reason }),
            };
            if reqwest::Url::parse(webhook_url).is_err() {
                return Err(SandboxError::WebhookUrl { project });
            }
            if partners.insert(project.clone(), key).is_some() {
                return Err(SandboxError::DuplicateProject { project });
            }
        }
        let Scenario { seed, rules } = settings.scenario.clone();
        let faults = Book::new(seed.unwrap_or(DEFAULT_SEED), rules);
        let world = Mutex::new(World::new(Constitution::of(settings), faults, state));
        let (foreign_key, seal) = (OnceLock::new(), Seal::of(settings));
        let agenda_changed = Notify::new();
        Ok(Self { clock: Clock, partners, signing_key, foreign_key, seal, world, agenda_changed })
    }

    fn now(&self) -> At {
        At::from(self.clock.now())
    }

    /// The world, locked. A panic elsewhere leaves it usable: every step books its effects before it ends.
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs `payoutd sandbox` until `shutdown`.
///
/// # Errors
/// When a key or the state cannot be read, the address cannot be had, or the state or the report cannot
/// be written.
pub async fn run(args: Args, shutdown: CancellationToken) -> Result<(), SandboxError> {
    let address = args.listen;
    let settings = Settings::try_from(args)?;
    let refused = |source| SandboxError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    let projects: Vec<&str> = settings.projects.iter().map(|project| project.id.as_str()).collect();
    tracing::info!(
        ?projects,
        "a sandbox of Pike at http://{address}/api/v2/, its page at http://{address}/_sandbox/"
    );
    serve(settings, listener, shutdown).await
}

/// Serves on `listener` until `shutdown`; then stops at once, whatever is still due, saves the state and
/// writes the report.
///
/// # Errors
/// As for [`run`].
pub async fn serve(
    settings: Settings,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), SandboxError> {
    let state = match settings.state_file.as_deref() {
        Some(path) => state_file::load(path, At::from(Clock.now()))?,
        None => State::default(),
    };
    let client = post::webhook_client(&settings.timing).map_err(SandboxError::WebhookClient)?;
    let sandbox = Arc::new(Sandbox::new(&settings, state)?);

    let mut loops = JoinSet::new();
    let (letters, due_letters) = mpsc::unbounded_channel();
    loops.spawn(post::pass_time(Arc::clone(&sandbox), letters));
    loops.spawn(post::carry(Arc::clone(&sandbox), client, due_letters));
    let (mut saver, stop_saving) = (JoinSet::new(), CancellationToken::new());
    if let Some(path) = settings.state_file.clone() {
        saver.spawn(state_file::keep_saving(Arc::clone(&sandbox), path, stop_saving.clone()));
    }

    let router = http::router(Arc::clone(&sandbox), settings.start_alias);
    accept::serve(listener, router, shutdown, SHUTDOWN_GRACE).await;
    loops.shutdown().await;
    stop_saving.cancel();
    saver.join_all().await;
    // A connection may outlive its server for a moment; what it still asks for must not get lost unseen.
    sandbox.world().closed = true;
    let saved = match &settings.state_file {
        Some(path) => state_file::save_last(&sandbox, path),
        None => Ok(()),
    };
    let reported = match settings.report {
        Some(path) => report_to(sandbox, path).await,
        None => Ok(()),
    };
    saved.and(reported)
}

async fn report_to(sandbox: Arc<Sandbox>, path: PathBuf) -> Result<(), SandboxError> {
    let target = path.clone();
    let written = tokio::task::spawn_blocking(move || survey::write(&sandbox, &target)).await;
    let written = written.unwrap_or_else(|panic| Err(std::io::Error::other(panic)));
    written.map_err(|source| SandboxError::Report { path, source })
}
