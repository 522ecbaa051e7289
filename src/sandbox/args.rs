//! The command line of `payoutd sandbox`, and its way into `Settings`. Reads the key files; starts nothing.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use super::SandboxError;
use super::settings::{
    IdempotencyBurn, IdempotencyScope, KEEP_SESSIONS, Project, SecondStart, Settings, Timing,
};

/// Runs a fake Pike.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1:8090")]
    pub listen: SocketAddr,
    /// A partner project (repeatable): id=ID,key=PATH_TO_PARTNER_PUBLIC_PEM,webhook=URL[,auto_confirm]
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
}

impl FromStr for ProjectSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (mut id, mut key, mut webhook, mut auto_confirm) = (None, None, None, false);
        for part in text.split(',') {
            match part.split_once('=') {
                Some(("id", value)) if !value.is_empty() => id = Some(value.to_owned()),
                Some(("key", value)) if !value.is_empty() => key = Some(PathBuf::from(value)),
                Some(("webhook", value)) if !value.is_empty() => webhook = Some(value.to_owned()),
                None if part == "auto_confirm" => auto_confirm = true,
                Some(_) | None => return Err(format!("`{part}` is not part of a project")),
            }
        }
        let missing = |field: &str| format!("a project needs {field}=…");
        Ok(Self {
            id: id.ok_or_else(|| missing("id"))?,
            key: key.ok_or_else(|| missing("key"))?,
            webhook: webhook.ok_or_else(|| missing("webhook"))?,
            auto_confirm,
        })
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
            });
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
            idempotency_scope: args.idempotency_scope,
            idempotency_burn: args.idempotency_burn,
            keep_sessions: args.keep_sessions,
            report: args.report,
        })
    }
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
        let line = "sandbox --project id=p1,key=k.pem,webhook=http://h/w?a=b,auto_confirm \
                    --signing-key s.pem --webhook-retry 0s,1s --balance rub=500 --clock-factor 60 \
                    --second-start add --keep-sessions 7 --idempotency-lifetime 1h \
                    --idempotency-scope global --idempotency-burn accepted";
        let args = <Line as clap::Parser>::try_parse_from(line.split_whitespace()).unwrap().args;
        assert_eq!(args.projects[0].webhook, "http://h/w?a=b");
        assert!(args.projects[0].auto_confirm);
        assert_eq!(args.webhook_retry, [Duration::ZERO, Duration::from_secs(1)]);
        assert_eq!(args.balances, [("RUB".to_owned(), 500)]);
        assert_eq!(args.second_start, SecondStart::Add);
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
        assert!(parse_factor("0").is_err() && parse_factor("NaN").is_err() && parse_factor("inf").is_err());
        assert!(parse_balance("RUB=-1").is_err() && parse_balance("RUBL=1").is_err());
    }
}
