//! The command line of `payoutd sandbox`, and its way into `Settings`. Reads the key files; starts nothing.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use super::SandboxError;
use super::code::{Code, HttpStatuses};
use super::faults::Scenario;
use super::request::Method;
use super::settings::{
    ConfirmShows, DeclinedSession, IdempotencyBurn, IdempotencyScope, KEEP_SESSIONS, Project, SecondStart,
    Settings, Timing, WebhookVersion,
};

/// Runs a fake Pike.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1:8090")]
    pub listen: SocketAddr,
    /// A partner project (repeatable): id=ID,key=PATH_TO_PARTNER_PUBLIC_PEM,webhook=URL, then if you like
    /// auto_confirm, submerchants=A|B, submerchant_required, deny=METHOD|METHOD
    #[arg(long = "project", value_name = "SPEC", required = true)]
    pub projects: Vec<ProjectSpec>,
    /// The sandbox's own RSA private key, PEM; signs the webhooks
    #[arg(long, value_name = "PATH")]
    pub signing_key: PathBuf,
    /// Keep the state here, so that it survives a restart
    #[arg(long, value_name = "PATH")]
    pub state_file: Option<PathBuf>,
    /// From start until a payout waits for its confirmation
    #[arg(long, default_value = "50ms", value_parser = humantime::parse_duration)]
    pub ready_delay: Duration,
    /// From confirm or cancel until the outcome
    #[arg(long, default_value = "50ms", value_parser = humantime::parse_duration)]
    pub settle_delay: Duration,
    /// In place of both for slow destinations
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
    pub slow_delay: Duration,
    /// How long a payout waits for its confirmation before it is cancelled
    #[arg(long, default_value = "240m", value_parser = humantime::parse_duration)]
    pub confirm_window: Duration,
    /// When a webhook is attempted, counted from its first attempt
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "0s,15s,45s,2m,5m,12m,27m",
        value_parser = humantime::parse_duration
    )]
    pub webhook_retry: Vec<Duration>,
    /// How long a webhook's answer is waited for
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    pub webhook_timeout: Duration,
    /// How long a used idempotency key is remembered
    #[arg(long, default_value = "24h", value_parser = humantime::parse_duration)]
    pub idempotency_lifetime: Duration,
    /// Divides the confirmation window, the webhook retry intervals and the life of idempotency keys
    #[arg(long, default_value = "1.0", value_parser = parse_factor)]
    pub clock_factor: f64,
    /// Prefunding per currency (repeatable): CUR=MINOR; a currency not named is unlimited
    #[arg(long = "balance", value_name = "CUR=MINOR", value_parser = parse_balance)]
    pub balances: Vec<(String, i64)>,
    /// What a second start on one session does
    #[arg(long, value_enum, default_value_t = SecondStart::Reject)]
    pub second_start: SecondStart,
    /// How the session of a declined payout ends
    #[arg(long, value_enum, default_value_t = DeclinedSession::Cancelled)]
    pub declined_session: DeclinedSession,
    /// How a payout shows in the answer to its confirm
    #[arg(long, value_enum, default_value_t = ConfirmShows::InProgress)]
    pub confirm_shows: ConfirmShows,
    /// Which version's names webhooks use
    #[arg(long, value_enum, default_value_t = WebhookVersion::Start)]
    pub webhook_version: WebhookVersion,
    /// Accept session/start for session/start/payout
    #[arg(long)]
    pub start_alias: bool,
    /// HTTP status of an error (repeatable): CODE=STATUS, or all=STATUS
    #[arg(long = "http-status", value_name = "CODE=STATUS", value_parser = parse_status)]
    pub http_statuses: Vec<(Option<Code>, u16)>,
    /// Faults: a TOML file, see docs/sandbox.md
    #[arg(long, value_name = "PATH")]
    pub scenario: Option<PathBuf>,
    /// Where the dice of faults start, unless the scenario says
    #[arg(long)]
    pub seed: Option<u64>,
    /// Where an idempotency key can be used once
    #[arg(long, value_enum, default_value_t = IdempotencyScope::Method)]
    pub idempotency_scope: IdempotencyScope,
    /// Which calls use their idempotency key up
    #[arg(long, value_enum, default_value_t = IdempotencyBurn::Always)]
    pub idempotency_burn: IdempotencyBurn,
    /// Sessions kept in memory; older ones go into a file beside the state file, or a temporary one
    #[arg(long, value_name = "N", default_value_t = KEEP_SESSIONS)]
    pub keep_sessions: usize,
    /// Write a report on the whole run here at the end, as JSON; `-` is the standard output
    #[arg(long, value_name = "PATH")]
    pub report: Option<PathBuf>,
}

/// One `--project`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectSpec {
    pub id: String,
    pub key: PathBuf,
    pub webhook: String,
    pub auto_confirm: bool,
    pub submerchants: Vec<String>,
    pub submerchant_required: bool,
    pub denied: Vec<Method>,
}

impl FromStr for ProjectSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (mut id, mut key, mut webhook) = (None, None, None);
        let (mut auto_confirm, mut submerchant_required) = (false, false);
        let (mut submerchants, mut denied) = (Vec::new(), Vec::new());
        for part in text.split(',') {
            match part.split_once('=') {
                Some(("id", value)) if !value.is_empty() => id = Some(value.to_owned()),
                Some(("key", value)) if !value.is_empty() => key = Some(PathBuf::from(value)),
                Some(("webhook", value)) if !value.is_empty() => webhook = Some(value.to_owned()),
                Some(("submerchants", value)) => {
                    submerchants = value.split('|').map(str::to_owned).collect();
                }
                Some(("deny", value)) => {
                    denied = value.split('|').map(parse_method).collect::<Result<_, _>>()?;
                }
                None if part == "auto_confirm" => auto_confirm = true,
                None if part == "submerchant_required" => submerchant_required = true,
                Some(_) | None => return Err(format!("`{part}` is not part of a project")),
            }
        }
        let missing = |field: &str| format!("a project needs {field}=…");
        Ok(Self {
            id: id.ok_or_else(|| missing("id"))?,
            key: key.ok_or_else(|| missing("key"))?,
            webhook: webhook.ok_or_else(|| missing("webhook"))?,
            auto_confirm,
            submerchants,
            submerchant_required,
            denied,
        })
    }
}

fn parse_method(path: &str) -> Result<Method, String> {
    Method::ALL
        .iter()
        .copied()
        .find(|method| method.path() == path)
        .ok_or_else(|| format!("`{path}` is not a method"))
}

fn parse_status(text: &str) -> Result<(Option<Code>, u16), String> {
    let (code, status) = text.split_once('=').ok_or("expected CODE=STATUS")?;
    let status = status.parse().ok().filter(|status| (400..=599).contains(status));
    let status = status.ok_or("a status goes from 400 to 599")?;
    match (code, Code::named(code)) {
        ("all", _) => Ok((None, status)),
        (_, Some(code)) => Ok((Some(code), status)),
        (_, None) => Err(format!("`{code}` is not an error code")),
    }
}

fn parse_factor(text: &str) -> Result<f64, String> {
    let factor: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if factor.is_finite() && factor > 0.0 { Ok(factor) } else { Err("must be above zero".to_owned()) }
}

fn parse_balance(text: &str) -> Result<(String, i64), String> {
    let (currency, minor) = text.split_once('=').ok_or("expected CUR=MINOR")?;
    if currency.len() != 3 || !currency.bytes().all(|b| b.is_ascii_alphabetic()) {
        return Err(format!("`{currency}` is not a currency code"));
    }
    let minor: i64 = minor.parse().map_err(|error| format!("`{minor}`: {error}"))?;
    if minor < 0 {
        Err("must not be negative".to_owned())
    } else {
        Ok((currency.to_ascii_uppercase(), minor))
    }
}

impl TryFrom<Args> for Settings {
    type Error = SandboxError;

    fn try_from(args: Args) -> Result<Self, SandboxError> {
        let mut projects = Vec::with_capacity(args.projects.len());
        for spec in args.projects {
            projects.push(Project {
                partner_public_key_pem: read(&spec.key)?,
                id: spec.id,
                webhook_url: spec.webhook,
                auto_confirm: spec.auto_confirm,
                submerchants: spec.submerchants,
                submerchant_required: spec.submerchant_required,
                denied: spec.denied,
            });
        }
        let mut scenario = args.scenario.as_deref().map(read_scenario).transpose()?.unwrap_or_default();
        scenario.seed = scenario.seed.or(args.seed);
        let mut http_statuses = HttpStatuses::default();
        for (code, status) in args.http_statuses {
            match code {
                Some(code) => drop(http_statuses.by_code.insert(code, status)),
                None => http_statuses.all = Some(status),
            }
        }
        Ok(Self {
            projects,
            signing_key_pem: read(&args.signing_key)?,
            state_file: args.state_file,
            timing: Timing {
                ready_delay: args.ready_delay,
                settle_delay: args.settle_delay,
                slow_delay: args.slow_delay,
                confirm_window: args.confirm_window,
                webhook_retry: args.webhook_retry,
                webhook_timeout: args.webhook_timeout,
                idempotency_lifetime: args.idempotency_lifetime,
                clock_factor: args.clock_factor,
            },
            balances: args.balances.into_iter().collect(),
            second_start: args.second_start,
            declined_session: args.declined_session,
            confirm_shows: args.confirm_shows,
            webhook_version: args.webhook_version,
            start_alias: args.start_alias,
            http_statuses,
            scenario,
            idempotency_scope: args.idempotency_scope,
            idempotency_burn: args.idempotency_burn,
            keep_sessions: args.keep_sessions,
            report: args.report,
        })
    }
}

fn read_scenario(path: &Path) -> Result<Scenario, SandboxError> {
    Scenario::from_toml(&read(path)?)
        .map_err(|reason| SandboxError::Scenario { path: path.to_owned(), reason })
}

fn read(path: &Path) -> Result<String, SandboxError> {
    std::fs::read_to_string(path).map_err(|source| SandboxError::ReadFile { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn reads_a_command_line() {
        let line = "sandbox --project id=p1,key=k.pem,webhook=http://h/w?a=b,auto_confirm,\
                    submerchants=a|b,submerchant_required,deny=session/init/payout \
                    --http-status all=400 --http-status authorization_error=403 \
                    --signing-key s.pem --webhook-retry 0s,1s --balance rub=500 --clock-factor 60 \
                    --second-start add --keep-sessions 7 --idempotency-lifetime 1h \
                    --idempotency-scope global --idempotency-burn accepted";
        let args = <Line as clap::Parser>::try_parse_from(line.split_whitespace()).unwrap().args;
        assert_eq!(args.projects[0].webhook, "http://h/w?a=b");
        assert!(args.projects[0].auto_confirm);
        assert_eq!(args.webhook_retry, [Duration::ZERO, Duration::from_secs(1)]);
        assert_eq!(args.balances, [("RUB".to_owned(), 500)]);
        assert_eq!(args.second_start, SecondStart::Add);
        assert_eq!(args.http_statuses, [(None, 400), (Some(Code::AuthorizationError), 403)]);
        assert_eq!(args.projects[0].submerchants, ["a", "b"]);
        assert_eq!(args.projects[0].denied, [Method::InitPayout]);
        assert_eq!((args.keep_sessions, args.idempotency_lifetime), (7, Duration::from_secs(3_600)));
        assert_eq!(args.idempotency_scope, IdempotencyScope::Global);
        assert_eq!(args.idempotency_burn, IdempotencyBurn::Accepted);
        assert_eq!(args.confirm_window, Timing::default().confirm_window);
    }

    #[test]
    fn refuses_what_it_cannot_use() {
        for spec in ["", "id=a", "id=a,key=k", "id=a,key=k,webhook=u,colour=red", "id=,key=k,webhook=u"] {
            assert!(spec.parse::<ProjectSpec>().is_err(), "{spec}");
        }
        assert!(parse_status("all=200").is_err() && parse_status("nothing=400").is_err());
        assert!("id=a,key=k,webhook=u,deny=session/start".parse::<ProjectSpec>().is_err());
        assert!(parse_factor("0").is_err() && parse_factor("NaN").is_err() && parse_factor("inf").is_err());
        assert!(parse_balance("RUB=-1").is_err() && parse_balance("RUBL=1").is_err());
    }
}
