//! The settings: `config/default.toml` is the complete list and is compiled in; a file of the user overlays
//! it, the environment overlays that. Everything that is wrong is reported at once, before anything starts.
//! `app` reads the result; no other room sees it. Nothing here connects, listens or logs.

mod check;
mod countries;
mod cross;
mod files;
mod forms;
mod policies;
mod problem;
mod project;
pub mod rules;
mod schema;
#[cfg(test)]
pub(crate) mod scratch;
mod walk;

pub use check::check;
pub use cross::LEASE_MARGIN;
pub use problem::{ConfigProblems, Problem};
pub use project::{NotifyTarget, Project, WebhookScheme};

use problem::Problems;
use project::PrivateAddresses;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};
use toml::{Table, Value};

/// All settings, checked. `config/default.toml` explains each.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub database: Database,
    /// REST, for our callers.
    pub api: Listener,
    /// Webhooks, from Pike.
    pub webhook: Listener,
    /// Health and metrics, for operators.
    pub admin: Listener,
    pub log: Log,
    pub pike: Pike,
    pub breaker: Breaker,
    pub polling: Polling,
    pub effects: Effects,
    pub inbox: Inbox,
    pub holds: Holds,
    pub rules: Rules,
    pub permit: Permit,
    pub attempts: Attempts,
    pub approvals: Approvals,
    pub reconcile: Reconcile,
    pub stop_line: StopLine,
    pub checker: Checker,
    pub notifications: Notifications,
    pub shutdown: Shutdown,
    /// At least one, by our own name.
    #[serde(skip)]
    pub projects: BTreeMap<String, Project>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// Holds a password.
    #[serde(deserialize_with = "secret")]
    pub url: SecretString,
    pub max_connections: u32,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    pub listen: SocketAddr,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    pub format: LogFormat,
    /// A level, or a comma-separated filter of `module=level`.
    pub level: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Json,
    Text,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pike {
    /// Scheme, host and port; no slash at the end.
    pub base_url: String,
    pub api_version: ApiVersion,
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    #[serde(with = "humantime_serde")]
    pub total_timeout: Duration,
    pub max_response_bytes: usize,
    pub max_in_flight: usize,
    /// For each project; 0 for no limit.
    pub calls_per_second: u32,
    /// The same for `session/status` alone.
    pub reads_per_second: u32,
    #[serde(with = "humantime_serde")]
    pub confirm_window: Duration,
    pub second_start_refused: bool,
    #[serde(with = "humantime_serde")]
    pub start_unresolved_after: Duration,
    #[serde(with = "humantime_serde")]
    pub stale_read_grace: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ApiVersion {
    V2,
    V1,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Breaker {
    pub failures: u32,
    #[serde(with = "humantime_serde")]
    pub pause: Duration,
    #[serde(with = "humantime_serde")]
    pub longest_pause: Duration,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Polling {
    #[serde(with = "humantime_serde")]
    pub first: Duration,
    #[serde(with = "humantime_serde")]
    pub steady: Duration,
    #[serde(with = "humantime_serde")]
    pub longest: Duration,
    #[serde(with = "humantime_serde")]
    pub paid_first: Duration,
    #[serde(with = "humantime_serde")]
    pub paid_until: Duration,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Effects {
    #[serde(with = "humantime_serde")]
    pub lease: Duration,
    #[serde(with = "humantime_serde")]
    pub idle_poll: Duration,
    #[serde(with = "humantime_serde")]
    pub retry_first: Duration,
    #[serde(with = "humantime_serde")]
    pub retry_longest: Duration,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inbox {
    #[serde(with = "humantime_serde")]
    pub lease: Duration,
    #[serde(with = "humantime_serde")]
    pub orphan_for: Duration,
    pub park_after: u32,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holds {
    #[serde(with = "humantime_serde")]
    pub margin: Duration,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// For [`rules::load`].
    pub file: PathBuf,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Permit {
    #[serde(with = "humantime_serde")]
    pub max_age: Duration,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attempts {
    /// Sessions for one payout; 1 is off.
    pub max: i32,
    pub codes: Vec<String>,
    #[serde(with = "humantime_serde")]
    pub pause: Duration,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approvals {
    pub need_owner: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reconcile {
    pub only: bool,
    #[serde(with = "humantime_serde")]
    pub recent: Duration,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopLine {
    pub anomalies: i64,
    #[serde(with = "humantime_serde")]
    pub window: Duration,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checker {
    #[serde(with = "humantime_serde")]
    pub every: Duration,
    #[serde(with = "humantime_serde")]
    pub patience: Duration,
    pub sweep: i64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notifications {
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    #[serde(with = "humantime_serde")]
    pub retry_first: Duration,
    #[serde(with = "humantime_serde")]
    pub retry_longest: Duration,
    #[serde(with = "humantime_serde")]
    pub give_up_after: Duration,
    pub allow_private_addresses: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shutdown {
    /// Between "not ready" and accepting nothing more.
    #[serde(with = "humantime_serde")]
    pub drain: Duration,
    #[serde(with = "humantime_serde")]
    pub grace: Duration,
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    String::deserialize(deserializer).map(SecretString::from)
}

impl Config {
    /// Reads the settings: the defaults, over them the file, over it the environment. Relative paths begin
    /// where the file is.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn load(path: Option<&Path>, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigProblems> {
        let reading = Reading::of(path, env);
        if reading.problems.is_empty() { Ok(reading.config) } else { Err(reading.problems.done()) }
    }
}

/// The settings as far as they are good, and what is wrong. Defaults stand in for wrong values, so the
/// settings are usable only when there are no problems.
struct Reading {
    config: Config,
    problems: Problems,
}

impl Reading {
    fn of(path: Option<&Path>, env: &dyn Fn(&str) -> Option<String>) -> Self {
        let label = path.map_or_else(|| "built-in defaults".to_owned(), |path| path.display().to_string());
        let mut problems = Problems::of(label);
        let base = path.and_then(Path::parent).unwrap_or(Path::new(""));
        let user = path.and_then(|path| read(path, &mut problems));
        let nothing_read = path.is_some() && user.is_none();
        let mut tree = walk::defaults();
        let projects = walk::overlay(&mut tree, user.unwrap_or_default(), &mut problems);
        walk::environment(&mut tree, env, &mut problems);
        let mut config: Config = Value::Table(tree).try_into().expect("good values fit the structs: a test");
        config.rules.file = base.join(&config.rules.file);
        config.pike.base_url.truncate(config.pike.base_url.trim_end_matches('/').len());
        if nothing_read {
            return Self { config, problems };
        }
        require_database(&config, &mut problems);
        cross::check(&config, &mut problems);
        if projects.is_empty() && !problems.mention("projects") {
            problems.push("projects", "none is set up", "at least one section [projects.<name>]");
        }
        let private = match config.notifications.allow_private_addresses {
            true => PrivateAddresses::Allowed,
            false => PrivateAddresses::Refused,
        };
        for (name, values) in projects {
            if let Some(project) = project::complete(&name, values, base, private, &mut problems) {
                config.projects.insert(name, project);
            }
        }
        Self { config, problems }
    }
}

fn read(path: &Path, problems: &mut Problems) -> Option<Table> {
    match files::read_text(path, walk::MOST_FILE_BYTES) {
        Ok(text) => walk::parse(&text, problems),
        Err(wrong) => {
            problems.push("", wrong, "a readable file like config/default.toml");
            None
        }
    }
}

fn require_database(config: &Config, problems: &mut Problems) {
    let reported = problems.mention("database.url") || problems.mention("DATABASE_URL");
    if config.database.url.expose_secret().is_empty() && !reported {
        let allowed = "postgres://user:password@host:port/database here or in DATABASE_URL";
        problems.push("database.url", "is empty, and DATABASE_URL is not set", allowed);
    }
}

#[cfg(test)]
mod tests;
