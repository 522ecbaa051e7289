//! Runs a command beside a temporary Postgres: what `scripts/test` wraps `cargo test` in, so that all test
//! programs share one cluster. The command learns the address from its environment.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};

use anyhow::{Context, bail};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use super::postgres::{Cluster, ClusterOptions, Durability};

/// The variable that holds the address of the cluster's `postgres` database, superuser and password included.
pub const ADDRESS_VARIABLE: &str = "PAYOUTD_TEST_POSTGRES";

/// Starts a temporary cluster, runs `cmd`, stops the cluster, and ends as `cmd` ended.
pub async fn with_postgres(cmd: Vec<OsString>) -> anyhow::Result<ExitCode> {
    let Some((program, arguments)) = cmd.split_first() else { bail!("no command given") };
    // payoutd refuses to run on a server that could lose what it acknowledged, so this one must not either.
    let options = ClusterOptions { durability: Durability::Full, ..ClusterOptions::temporary() };
    let cluster = Cluster::start(&options).await?;
    let child = Command::new(program).args(arguments).env(ADDRESS_VARIABLE, cluster.url("postgres")).spawn();
    let ended = match child.with_context(|| format!("could not run {}", program.to_string_lossy())) {
        Ok(child) => wait(child).await,
        Err(error) => Err(error),
    };
    cluster.stop().await?;
    Ok(exit_code(ended?))
}

/// Waits for the command, whatever is asked of us meanwhile: the server must not go before its user does.
async fn wait(mut child: Child) -> anyhow::Result<ExitStatus> {
    // Ctrl-C reaches the command too, being in the same group; ours is only to stay. SIGTERM comes to us
    // alone.
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut terminations = signal(SignalKind::terminate())?;
    loop {
        tokio::select! {
            status = child.wait() => return Ok(status?),
            _ = interrupts.recv() => {}
            _ = terminations.recv() => {
                if let Some(pid) = child.id() {
                    Command::new("kill").args(["-TERM", &pid.to_string()]).status().await?;
                }
            }
        }
    }
}

/// The command's own code; 128 and the signal's number if it was killed, as shells do.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX))
}
