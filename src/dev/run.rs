//! `payoutd dev`: the whole path on one machine, with one command, until Ctrl-C.

use super::{
    home::{Home, PROJECT},
    postgres::{Cluster, ClusterOptions},
    receiver::{self, Received},
    sample, table,
};
use crate::{
    api::auth::Scope,
    app::{self, Running},
    config::Config,
    sandbox::{self, Project, Settings},
    store::{
        migrate::{self, Patience},
        pool,
    },
    telemetry::{self, LogFormat},
};
use anyhow::{Context, Result};
use secrecy::{ExposeSecret, SecretString};
use sqlx::{Connection, PgConnection, PgPool};
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

const DATABASE: &str = "payoutd";
/// How long to wait for the notifications of finished payouts before the table is printed.
const NOTIFICATIONS_WITHIN: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
pub struct DevArgs {
    /// Where data, keys and settings are kept between starts
    #[arg(long, default_value = ".payoutd")]
    pub dir: PathBuf,
    /// Port of the REST API; the next three serve webhooks, administration and the sandbox. Taken ports are
    /// replaced by free ones
    #[arg(long, default_value_t = 8080)]
    pub port: u16,
    /// Stop after the table instead of staying up
    #[arg(long)]
    pub once: bool,
}

/// Where everything listens.
pub(super) struct Ports {
    pub api: SocketAddr,
    pub webhook: SocketAddr,
    pub admin: SocketAddr,
    pub sandbox: SocketAddr,
    pub receiver: SocketAddr,
}

/// Runs until stopped, and leaves nothing running.
///
/// # Errors
/// Whatever kept a part from starting.
pub async fn run(args: DevArgs, stop: CancellationToken) -> Result<()> {
    telemetry::start_logs(LogFormat::Text, "warn");
    let home = Home::open(&args.dir)?;
    say("starting a private Postgres");
    let cluster = Cluster::start(&ClusterOptions::kept(home.postgres())).await?;
    let ended = on_cluster(&args, &home, &cluster, &stop).await;
    stop.cancel();
    say("stopping Postgres");
    cluster.stop().await?;
    ended
}

async fn on_cluster(args: &DevArgs, home: &Home, cluster: &Cluster, stop: &CancellationToken) -> Result<()> {
    let url = prepare_database(cluster).await?;
    let sandbox_stop = CancellationToken::new();
    let (receiver, received) = receiver::start(&home.read_key("notify.secret")?, stop.clone()).await?;
    let (ports, sandbox) = claim_ports(args.port, receiver).await?;
    say("starting the Pike sandbox and payoutd");
    let sandbox = start_sandbox(home, &ports, sandbox, sandbox_stop.clone())?;
    let path = home.write_config(&ports)?;
    let env = |name: &str| (name == "DATABASE_URL").then(|| url.expose_secret().to_owned());
    let running = app::start(Config::load(Some(&path), &env)?).await?;
    let app_stop = running.stopper();
    let pool = pool::connect(url.expose_secret(), 2).await?;
    let shown = tokio::select! {
        () = stop.cancelled() => Ok(()),
        shown = show(args, home, &pool, &ports, &received) => shown,
    };
    if shown.is_ok() && !args.once {
        stop.cancelled().await;
    }
    say("stopping payoutd and the sandbox");
    app_stop.cancel();
    Running::wait(running).await?;
    pool.close().await;
    sandbox_stop.cancel();
    sandbox.await.context("the sandbox died")??;
    shown
}

/// Makes the database at the first start and brings it up to date.
async fn prepare_database(cluster: &Cluster) -> Result<SecretString> {
    let mut admin = PgConnection::connect(&cluster.url("postgres")).await?;
    pool::create_database(&mut admin, DATABASE).await?;
    admin.close().await?;
    let url = cluster.url(DATABASE);
    let migrated = migrate::run(&url, &Patience::default(), |waits| tracing::warn!(waits, "migrating")).await;
    migrated.context("applying the migrations")?;
    Ok(SecretString::from(url))
}

/// Finds ports: the wished one and those after it, or free ones. Only the sandbox's is kept bound; payoutd
/// binds its own from the settings.
async fn claim_ports(first: u16, receiver: SocketAddr) -> Result<(Ports, TcpListener)> {
    let mut bound = Vec::new();
    for offset in 0..4 {
        let wished = SocketAddr::from((Ipv4Addr::LOCALHOST, first.checked_add(offset).unwrap_or(0)));
        let listener = match TcpListener::bind(wished).await {
            Ok(listener) => listener,
            Err(_) => TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("finding a free port")?,
        };
        bound.push((listener.local_addr()?, listener));
    }
    let addrs: Vec<SocketAddr> = bound.iter().map(|(addr, _)| *addr).collect();
    let (_, sandbox) = bound.pop().context("four ports were bound")?;
    let ports = Ports { api: addrs[0], webhook: addrs[1], admin: addrs[2], sandbox: addrs[3], receiver };
    Ok((ports, sandbox))
}

fn start_sandbox(
    home: &Home,
    ports: &Ports,
    listener: TcpListener,
    stop: CancellationToken,
) -> Result<JoinHandle<Result<(), sandbox::SandboxError>>> {
    let webhook_url = format!("http://{}/pike/{PROJECT}", ports.webhook);
    let project = Project::new(PROJECT, home.read_key("payoutd.pub.pem")?, webhook_url);
    let mut settings = Settings::new(vec![project], home.read_key("pike.key.pem")?);
    // Long enough to watch, short enough not to wait for.
    settings.timing.ready_delay = Duration::from_millis(150);
    settings.timing.settle_delay = Duration::from_millis(200);
    settings.timing.slow_delay = Duration::from_secs(2);
    settings.state_file = Some(home.sandbox_state());
    Ok(tokio::spawn(sandbox::serve(settings, listener, stop)))
}

/// Sends the sample, follows it to the end, prints the table and what to do next.
async fn show(
    args: &DevArgs,
    home: &Home,
    pool: &PgPool,
    ports: &Ports,
    received: &Arc<Received>,
) -> Result<()> {
    let all = [Scope::Read, Scope::Write, Scope::Operate];
    let caller = home.api_key(pool, "caller", &all).await?;
    let approver = home.api_key(pool, "approver", &[Scope::Read, Scope::Approve]).await?;
    let sample = sample::Sample::new(ports.api, &caller)?;
    let orders = sample.orders()?;
    say(&format!("sending {} sample payouts through the API", orders.len()));
    let sent = sample.send(&orders).await?;
    if sent.existing > 0 {
        say(&format!(
            "{} of them were here already: the data of the last start is still there",
            sent.existing
        ));
    }
    let payouts = sample.follow(&sent.ids).await?;
    let finished = payouts.iter().filter(|payout| payout.is_final).count();
    println!("\n{}", table::render(&payouts));
    if sent.existing == 0 {
        let told = wait_for_notifications(received, finished).await;
        say(&format!("{told} signed notifications received for {finished} final payouts"));
    }
    if !args.once {
        table::print_next_steps(ports, &caller, &approver, &payouts);
    }
    Ok(())
}

async fn wait_for_notifications(received: &Received, wanted: usize) -> u64 {
    let wanted = u64::try_from(wanted).unwrap_or(u64::MAX);
    let enough = async {
        while received.counts().0 < wanted {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    // What is missing after this is in the database and still being delivered.
    let _ = tokio::time::timeout(NOTIFICATIONS_WITHIN, enough).await;
    received.counts().0
}

pub(super) fn say(what: &str) {
    eprintln!("payoutd dev: {what}");
}
