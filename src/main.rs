//! The command line: which part of payoutd this process is.

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use payoutd::{
    api::auth::{self, Scope},
    app,
    config::{self, Config},
    dev::{self, DevArgs},
    domain::id::{PayoutId, ProjectId},
    keys::{self, ForSandbox},
    sandbox,
    store::{
        api_keys, inbox,
        migrate::{self, Patience},
        pool,
        rules::{self, Switch},
    },
    telemetry::{self, LogFormat},
};
use secrecy::ExposeSecret;
use std::{collections::BTreeSet, ffi::OsString, path::PathBuf, process::ExitCode};
use tokio_util::sync::CancellationToken;

/// A payout is some thousand allocations on a few threads, which the system's allocator has wait for each
/// other.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Pays out to people's cards through Pike: never twice, never lost, never against the rules.
#[derive(Parser)]
#[command(name = "payoutd", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the service: REST API, webhooks, workers, administration
    Serve {
        /// Settings file; config/default.toml lists every setting
        #[arg(long, env = "PAYOUTD_CONFIG")]
        config: PathBuf,
        /// Only look: no orders, nothing sent to Pike but status reads (after a restore; see the runbook)
        #[arg(long)]
        reconcile_only: bool,
    },
    /// Everything on this machine: private Postgres, sandbox, service, sample payouts
    Dev(DevArgs),
    /// Run Pike's sandbox
    Sandbox(Box<sandbox::Args>),
    /// Bring the database up to date
    Migrate {
        #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
        database_url: String,
    },
    /// Check settings, rules and key files; name everything that is wrong
    CheckConfig {
        #[arg(long, env = "PAYOUTD_CONFIG")]
        config: PathBuf,
    },
    /// Keys and secrets
    Keys {
        #[command(subcommand)]
        command: KeysCommand,
    },
    /// Throw the switch for confirms, for everybody or for one project; effective with this command's return
    Confirms {
        #[arg(value_enum)]
        position: Position,
        /// Why; kept with the change
        #[arg(long)]
        reason: String,
        /// Only this project
        #[arg(long)]
        project: Option<String>,
        #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
        database_url: String,
    },
    /// Webhooks that could not be worked on
    Inbox {
        #[command(subcommand)]
        command: InboxCommand,
    },
    /// Payouts
    Payouts {
        #[command(subcommand)]
        command: PayoutsCommand,
    },
    /// Ask of every payout whether the promises are kept; exit code 3 if something is found
    Check {
        #[arg(long, env = "PAYOUTD_CONFIG")]
        config: PathBuf,
    },
    /// Compare Pike's daily report with our books; exit code 3 if they differ
    ReconcileReport(app::ReportArgs),
    /// What a running payoutd has found
    Findings {
        #[command(subcommand)]
        command: FindingsCommand,
    },
    /// Ask a running payoutd whether it is ready; exit code 0 if so
    Health {
        #[arg(long, default_value = "http://127.0.0.1:8082/readyz")]
        url: String,
    },
    /// Run a command with a temporary Postgres in PAYOUTD_TEST_POSTGRES
    #[command(hide = true)]
    WithPostgres {
        #[arg(trailing_var_arg = true, required = true)]
        command: Vec<OsString>,
    },
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Position {
    On,
    Off,
}

#[derive(Subcommand)]
enum InboxCommand {
    /// List the parked webhooks
    Parked {
        #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
        database_url: String,
    },
    /// Work on a parked webhook again, or on all of them
    Replay {
        /// The number that `parked` lists; all of them if there is none
        id: Option<i64>,
        #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
        database_url: String,
    },
}

#[derive(Subcommand)]
enum PayoutsCommand {
    /// Take the flag off a payout after a person has looked; it goes on by itself
    Unflag {
        /// payout_ and 32 hexadecimal digits
        payout: PayoutId,
        /// What was found; kept in the payout's history
        #[arg(long)]
        reason: String,
        #[arg(long, env = "PAYOUTD_CONFIG")]
        config: PathBuf,
    },
}

#[derive(Subcommand)]
enum FindingsCommand {
    /// Let a finding stand after a person has looked: it is counted and printed no more
    Accept {
        /// The check's name, like `paid_twice`
        check: String,
        /// What `payoutd check` prints behind it
        subject: String,
        /// What was found out; kept with the finding
        #[arg(long)]
        reason: String,
        #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
        database_url: String,
    },
}

#[derive(Subcommand)]
enum KeysCommand {
    /// Generate the RSA key pair for Pike and the notification secret
    Generate {
        /// Directory to write into; existing files are never overwritten
        #[arg(long)]
        out: PathBuf,
        /// Also what the sandbox needs to play Pike
        #[arg(long)]
        sandbox: bool,
    },
    /// Make the secret that a gateway signs webhooks with (scheme hmac-sha256)
    WebhookSecret {
        /// File to write; never overwritten
        #[arg(long)]
        out: PathBuf,
    },
    /// Create an API key for a project; its secret is shown once
    Api {
        #[arg(long)]
        project: String,
        /// What the key is for
        #[arg(long)]
        name: String,
        /// read, write, approve, operate
        #[arg(long, value_delimiter = ',', required = true)]
        scopes: Vec<String>,
        /// Whose it is, a person or a team; no key of theirs approves what this one creates
        #[arg(long)]
        owner: Option<payoutd::domain::owner::Owner>,
        #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
        database_url: String,
    },
    /// Revoke an API key at once and for good
    Revoke {
        /// The part between the two underscores of the key
        id: String,
        #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
        database_url: String,
    },
}

fn main() -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("payoutd: the runtime cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(Cli::parse().command)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("payoutd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Serve { config, reconcile_only } => serve(&config, reconcile_only).await?,
        Command::Dev(args) => dev::run(args, stop_on_signal()?).await?,
        Command::Sandbox(args) => {
            // For people, and beside what `--report -` writes.
            telemetry::start_logs(LogFormat::Text, &log_filter());
            sandbox::run(*args, stop_on_signal()?).await?;
        }
        Command::Migrate { database_url } => migrate(&database_url).await?,
        Command::CheckConfig { config } => println!("{}", config::check(Some(&config), &environment)?),
        Command::Keys { command } => run_keys(command).await?,
        Command::Confirms { position, reason, project, database_url } => {
            confirms(position, &reason, project, &database_url).await?;
        }
        Command::Inbox { command } => run_inbox(command).await?,
        Command::Payouts { command: PayoutsCommand::Unflag { payout, reason, config } } => {
            app::unflag(&Config::load(Some(&config), &environment)?, payout, &reason).await?;
            println!("the flag was taken off {payout}");
        }
        Command::Check { config } => return check(&Config::load(Some(&config), &environment)?).await,
        Command::Findings { command: FindingsCommand::Accept { check, subject, reason, database_url } } => {
            app::accept(&database_url, &check, &subject, &reason).await?;
            println!("{check} of {subject} is accepted");
        }
        Command::ReconcileReport(args) => return app::reconcile_report(&args, &environment).await,
        Command::Health { url } if app::is_ready(&url).await? => {}
        Command::Health { .. } => return Ok(ExitCode::FAILURE),
        Command::WithPostgres { command } => return dev::with_postgres(command).await,
    }
    Ok(ExitCode::SUCCESS)
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn log_filter() -> String {
    environment("PAYOUTD_LOG").unwrap_or_else(|| "info".to_owned())
}

async fn serve(path: &std::path::Path, reconcile_only: bool) -> Result<()> {
    keys::leave_no_core_file().context("switching core files off")?;
    let mut config = Config::load(Some(path), &environment)?;
    config.reconcile.only |= reconcile_only;
    let format = match config.log.format {
        config::LogFormat::Json => LogFormat::Json,
        config::LogFormat::Text => LogFormat::Text,
    };
    telemetry::start_logs(format, &config.log.level);
    let stop = stop_on_signal()?;
    let running = app::start(config).await?;
    let stopper = running.stopper();
    tokio::spawn(async move {
        stop.cancelled().await;
        stopper.cancel();
    });
    running.wait().await
}

async fn migrate(url: &str) -> Result<()> {
    let migrated = migrate::run(url, &Patience::default(), |waits| eprintln!("{waits}")).await;
    migrated.context("applying the migrations")?;
    println!("the database is up to date");
    Ok(())
}

async fn run_keys(command: KeysCommand) -> Result<()> {
    match command {
        KeysCommand::Generate { out, sandbox } => {
            let whom = if sandbox { ForSandbox::Yes } else { ForSandbox::No };
            for file in keys::generate(&out, whom)? {
                println!("wrote {}", file.display());
            }
        }
        KeysCommand::WebhookSecret { out } => {
            keys::write_secret(&out, &keys::new_webhook_secret()?)?;
            println!("wrote {}", out.display());
        }
        KeysCommand::Api { project, name, scopes, owner, database_url } => {
            let unknown = |scope: &str| format!("{scope} is not a scope: read, write, approve or operate");
            let scopes = scopes
                .iter()
                .map(|scope| Scope::from_code(scope).with_context(|| unknown(scope)))
                .collect::<Result<BTreeSet<_>>>()?;
            let (key, secret) = auth::generate(&ProjectId(project), &name, &scopes);
            let mut tx = pool::connect(&database_url, 1).await?.begin().await?;
            api_keys::insert(&mut tx, &api_keys::ApiKey { owner, ..key }).await?;
            tx.commit().await?;
            println!("{}", secret.expose_secret());
            eprintln!("shown once: only its hash is stored");
        }
        KeysCommand::Revoke { id, database_url } => {
            let mut tx = pool::connect(&database_url, 1).await?.begin().await?;
            let revoked = api_keys::revoke(&mut tx, &id).await?;
            tx.commit().await?;
            anyhow::ensure!(revoked, "there is no live API key {id}");
            println!("revoked {id}");
        }
    }
    Ok(())
}

async fn confirms(position: Position, reason: &str, project: Option<String>, url: &str) -> Result<()> {
    let scope = project.as_deref().unwrap_or(rules::EVERYWHERE);
    let (switch, word) = match position {
        Position::On => (Switch::On, "on"),
        Position::Off => (Switch::Off, "off"),
    };
    let mut tx = pool::connect(url, 1).await?.begin().await?;
    if let Some(project) = project.as_ref().map(|name| ProjectId(name.clone())) {
        let known = api_keys::is_known(&mut tx, &project).await?;
        anyhow::ensure!(known, "no API key has ever been made for a project {project}: nothing was switched");
    }
    rules::set_confirms(&mut tx, scope, switch, "command line", reason).await?;
    tx.commit().await?;
    println!("confirms are {word} for {}", project.as_deref().unwrap_or("everybody"));
    Ok(())
}

/// Parked webhooks listed at most.
const MOST_PARKED: i64 = 1_000;

async fn run_inbox(command: InboxCommand) -> Result<()> {
    match command {
        InboxCommand::Parked { database_url } => {
            let mut db = pool::connect(&database_url, 1).await?.acquire().await?;
            for row in inbox::parked(&mut db, MOST_PARKED).await? {
                let why = row.last_error.unwrap_or_default();
                println!(
                    "{}\t{}\t{}\t{} failures\t{why}",
                    row.id, row.project_id, row.parked_at, row.failures
                );
            }
        }
        InboxCommand::Replay { id, database_url } => {
            let mut tx = pool::connect(&database_url, 1).await?.begin().await?;
            let replayed = inbox::replay(&mut tx, id).await?;
            tx.commit().await?;
            if let (Some(id), 0) = (id, replayed) {
                anyhow::bail!("webhook {id} is not parked: nothing was changed");
            }
            println!("{replayed} parked webhooks will be worked on again");
        }
    }
    Ok(())
}

/// The exit code of `check` when something is not as promised; 1 is for not having been able to look.
const FOUND: u8 = 3;

async fn check(config: &Config) -> Result<ExitCode> {
    let found = app::check(config).await?;
    found.iter().for_each(|line| println!("{line}"));
    eprintln!("{} findings", found.len());
    Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FOUND) })
}

/// A token that SIGINT and SIGTERM cancel.
fn stop_on_signal() -> Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let stop = CancellationToken::new();
    let token = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        token.cancel();
    });
    Ok(stop)
}
