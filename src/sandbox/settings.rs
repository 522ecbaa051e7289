//! What a sandbox is told before it starts: projects, its own key, delays, limits. Built from the command
//! line by `args`, or in code by whoever runs a sandbox inside its own process.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

use super::code::HttpStatuses;
use super::faults::Scenario;
use super::request::Method;

/// One partner project.
#[derive(Clone, Debug)]
pub struct Project {
    /// The value of `X-PARTNER-PROJECT`.
    pub id: String,
    /// The partner's RSA public key, PEM (SPKI or PKCS#1).
    pub partner_public_key_pem: String,
    /// Where this project's webhooks go.
    pub webhook_url: String,
    /// Payouts of this project need no `session/confirm`.
    pub auto_confirm: bool,
    /// Values of `X-PARTNER-SUBMERCHANT` that the project may send; any, when empty.
    pub submerchants: Vec<String>,
    /// The project must send one.
    pub submerchant_required: bool,
    /// Methods that its manager has not enabled.
    pub denied: Vec<Method>,
}

impl Project {
    /// A project with webhooks that confirms its payouts and may call everything.
    #[must_use]
    pub fn new(id: &str, partner_public_key_pem: String, webhook_url: String) -> Self {
        Self {
            id: id.to_owned(),
            partner_public_key_pem,
            webhook_url,
            auto_confirm: false,
            submerchants: Vec::new(),
            submerchant_required: false,
            denied: Vec::new(),
        }
    }
}

/// How the session of a declined payout ends. Not documented.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DeclinedSession {
    #[default]
    Cancelled,
    Accepted,
}

/// How a payout shows in the answer to its confirm: documents and observation differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ConfirmShows {
    #[default]
    InProgress,
    Pending,
}

/// Which version's names webhooks use. Not documented.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum WebhookVersion {
    /// Those of the call that started the session.
    #[default]
    Start,
    V1,
    V2,
}

/// What a second `session/start/payout` on a session that was started does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum SecondStart {
    /// `session_wrong_state`.
    #[default]
    Reject,
    /// One more payout in the same session.
    Add,
}

/// What an idempotency key is about: where it can be used once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum IdempotencyScope {
    /// One method of one project.
    #[default]
    Method,
    /// One project.
    Project,
    /// The whole sandbox.
    Global,
}

/// Which calls use their idempotency key up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum IdempotencyBurn {
    /// Refused ones too.
    #[default]
    Always,
    /// Only those that had an effect.
    Accepted,
}

/// How long things take.
#[derive(Clone, Debug)]
pub struct Timing {
    /// From start until the payout waits for its confirmation.
    pub ready_delay: Duration,
    /// From confirm or cancel until the outcome.
    pub settle_delay: Duration,
    /// In place of both for slow destinations; also how long a session stays in `error`.
    pub slow_delay: Duration,
    /// How long a payout waits for its confirmation.
    pub confirm_window: Duration,
    /// When a webhook is attempted, counted from its first attempt. The last entry is the last attempt.
    pub webhook_retry: Vec<Duration>,
    /// How long a webhook's answer is waited for.
    pub webhook_timeout: Duration,
    /// How long a used idempotency key is remembered.
    pub idempotency_lifetime: Duration,
    /// Divides `confirm_window`, `webhook_retry` and `idempotency_lifetime`; must be a positive number.
    pub clock_factor: f64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            ready_delay: Duration::from_millis(50),
            settle_delay: Duration::from_millis(50),
            slow_delay: Duration::from_secs(5),
            confirm_window: Duration::from_secs(240 * 60),
            webhook_retry: [0, 15, 45, 120, 300, 720, 1620].map(Duration::from_secs).to_vec(),
            webhook_timeout: Duration::from_secs(10),
            idempotency_lifetime: Duration::from_secs(24 * 60 * 60),
            clock_factor: 1.0,
        }
    }
}

impl Timing {
    /// `duration` on the accelerated clock. What does not fit a duration any more never comes.
    #[must_use]
    pub fn scaled(&self, duration: Duration) -> Duration {
        Duration::try_from_secs_f64(duration.as_secs_f64() / self.clock_factor).unwrap_or(Duration::MAX)
    }
}

/// A sandbox, before it runs.
#[derive(Clone, Debug)]
pub struct Settings {
    pub projects: Vec<Project>,
    /// The sandbox's own RSA private key, PEM (PKCS#8 or PKCS#1); signs the webhooks.
    pub signing_key_pem: String,
    /// Where the state survives a restart; none keeps it in memory only.
    pub state_file: Option<PathBuf>,
    pub timing: Timing,
    /// Prefunding of each project per upper-case currency, minor units; a currency not named is unlimited.
    pub balances: BTreeMap<String, i64>,
    pub second_start: SecondStart,
    pub declined_session: DeclinedSession,
    pub confirm_shows: ConfirmShows,
    pub webhook_version: WebhookVersion,
    /// `session/start` means `session/start/payout`, as some examples have it.
    pub start_alias: bool,
    pub http_statuses: HttpStatuses,
    /// Faults from the start on.
    pub scenario: Scenario,
    pub idempotency_scope: IdempotencyScope,
    pub idempotency_burn: IdempotencyBurn,
    /// How many sessions stay in memory, the youngest; older ones go into the archive when nothing happens to
    /// them any more. The archive is `<state_file>.archive`, or a temporary file without a name.
    pub keep_sessions: usize,
    /// Where the report on the whole run goes at the end; `-` is the standard output.
    pub report: Option<PathBuf>,
}

/// Some tens of megabytes.
pub(super) const KEEP_SESSIONS: usize = 10_000;

impl Settings {
    /// Default timing, unlimited balances, no state file.
    #[must_use]
    pub fn new(projects: Vec<Project>, signing_key_pem: String) -> Self {
        Self {
            projects,
            signing_key_pem,
            state_file: None,
            timing: Timing::default(),
            balances: BTreeMap::new(),
            second_start: SecondStart::default(),
            declined_session: DeclinedSession::default(),
            confirm_shows: ConfirmShows::default(),
            webhook_version: WebhookVersion::default(),
            start_alias: false,
            http_statuses: HttpStatuses::default(),
            scenario: Scenario::default(),
            idempotency_scope: IdempotencyScope::default(),
            idempotency_burn: IdempotencyBurn::default(),
            keep_sessions: KEEP_SESSIONS,
            report: None,
        }
    }
}
