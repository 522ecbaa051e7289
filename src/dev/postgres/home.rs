//! The directory of a private cluster: `data`, `password`, `postgres.log`, and a lock that says whose it is.
//! Belongs to the account the server runs as. Used by the rest of `postgres` only; knows nothing of programs.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::rand;
use sha2::{Digest, Sha256};
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use super::account::Account;
use super::{POLL, PostgresError};

/// Where a cluster goes when the server's account cannot reach the wanted place (root's home, usually).
const REACHABLE_BY_ALL: &str = "/var/tmp";

/// How long the server of a killed run may take to write everything and end.
const PREDECESSOR_LIMIT: Duration = Duration::from_secs(60);

/// Enough of the log to see why a start failed.
const TAIL_LINES: usize = 30;

/// An opened and locked cluster directory.
#[derive(Debug)]
pub(super) struct Home {
    path: PathBuf,
    password: String,
    /// Held while we live; the kernel releases it however we end.
    _lock: File,
}

impl Home {
    /// Makes the directory if need be, hands it to `account`, and takes the lock.
    pub(super) async fn open(account: &Account, wanted: &Path) -> Result<Self, PostgresError> {
        let path = reachable(account, wanted).await?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join("lock"))
            .map_err(PostgresError::io("open the lock file"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(PostgresError::InUse { dir: path }),
            Err(TryLockError::Error(source)) => {
                return Err(PostgresError::io("lock the data directory")(source));
            }
        }
        let password = password(account, &path)?;
        Ok(Self { path, password, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn password(&self) -> &str {
        &self.password
    }

    /// The major version of the server that made the data; none if there is no data yet.
    pub(super) fn version(&self) -> Option<u32> {
        fs::read_to_string(self.path.join("data/PG_VERSION")).ok()?.trim().parse().ok()
    }

    /// Waits for the server of a run that was killed: its keeper is stopping it.
    pub(super) async fn wait_for_predecessor(&self) -> Result<(), PostgresError> {
        let deadline = Instant::now() + PREDECESSOR_LIMIT;
        let mut told = false;
        while let Some(pid) = self.running_server().await {
            if Instant::now() > deadline {
                return Err(PostgresError::StillRunning { pid, dir: self.path.clone() });
            }
            if !told {
                tracing::info!(pid, "waiting for the Postgres of an earlier run to end");
                told = true;
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    /// The process id in `postmaster.pid`, if it still is a server on this directory. After a power cut the
    /// file is stale and the number may be anyone's.
    async fn running_server(&self) -> Option<u32> {
        let data = self.path.join("data");
        let text = fs::read_to_string(data.join("postmaster.pid")).ok()?;
        let pid: u32 = text.lines().next()?.trim().parse().ok()?;
        let line = command_line(pid).await?;
        line.contains(data.to_str()?).then_some(pid)
    }

    /// Puts the last run's log aside, so that the end of the log is about this run.
    pub(super) fn fresh_log(&self) -> Result<(), PostgresError> {
        match fs::rename(self.log(), self.path.join("postgres.log.old")) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(PostgresError::io("put the old log aside")(error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    pub(super) fn log_tail(&self) -> String {
        let Ok(bytes) = fs::read(self.log()) else { return "(no log)".to_owned() };
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(TAIL_LINES)..).unwrap_or_default().join("\n")
    }

    /// Removes what is left of a temporary cluster. Failure leaves rubbish in a temporary directory, no more.
    pub(super) fn remove(&self) {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                let dir = self.path.display();
                tracing::warn!(%dir, %error, "could not remove a temporary cluster");
            }
            Ok(()) | Err(_) => {}
        }
    }

    fn log(&self) -> PathBuf {
        self.path.join("postgres.log")
    }
}

/// `wanted`, or a place that `account` can reach if it cannot reach that one.
async fn reachable(account: &Account, wanted: &Path) -> Result<PathBuf, PostgresError> {
    let wanted = std::path::absolute(wanted).map_err(PostgresError::io("read the working directory"))?;
    let is_new = !wanted.exists();
    prepare(account, &wanted)?;
    if account.can_enter(&wanted).await? {
        return canonical(&wanted);
    }
    if is_new {
        // Best effort: an empty directory left behind harms nobody.
        let _ = fs::remove_dir(&wanted);
    }
    let digest = Sha256::digest(wanted.as_os_str().as_encoded_bytes());
    let short: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let instead = Path::new(REACHABLE_BY_ALL).join(format!("payoutd-{short}"));
    prepare(account, &instead)?;
    if !account.can_enter(&instead).await? {
        return Err(PostgresError::ForeignDirectory { dir: wanted });
    }
    tracing::info!(
        wanted = %wanted.display(),
        dir = %instead.display(),
        "the account that Postgres runs as cannot reach the data directory; using another place"
    );
    Ok(instead)
}

/// The path as the server will see it, links followed, so that the server's command line can be recognised.
fn canonical(path: &Path) -> Result<PathBuf, PostgresError> {
    path.canonicalize().map_err(PostgresError::io("resolve the data directory"))
}

/// Makes `dir` a directory that only `account` (and root) can read.
fn prepare(account: &Account, dir: &Path) -> Result<(), PostgresError> {
    if let Some(parent) = dir.parent() {
        fs::create_dir_all(parent).map_err(PostgresError::io("make the parent of the data directory"))?;
    }
    match DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => account.give(dir),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => adopt(account, dir),
        Err(error) => Err(PostgresError::io("make the data directory")(error)),
    }
}

/// Takes a directory that was there before us: not a link or a stranger's, which in a directory that everyone
/// may write to would be a trap.
fn adopt(account: &Account, dir: &Path) -> Result<(), PostgresError> {
    let found = fs::symlink_metadata(dir).map_err(PostgresError::io("look at the data directory"))?;
    if !found.is_dir() || !account.trusts(found.uid()) {
        return Err(PostgresError::ForeignDirectory { dir: dir.to_path_buf() });
    }
    let mut entries = fs::read_dir(dir).map_err(PostgresError::io("look into the data directory"))?;
    if entries.next().is_some() && !dir.join("lock").is_file() {
        // Someone's directory, named by mistake. Closing it to its owner would be a poor answer.
        return Err(PostgresError::NotACluster { dir: dir.to_path_buf() });
    }
    account.give(dir)?;
    fs::set_permissions(dir, Permissions::from_mode(0o700))
        .map_err(PostgresError::io("close the data directory"))
}

/// The superuser's password: made with the cluster, kept beside it, readable by its account only.
fn password(account: &Account, home: &Path) -> Result<String, PostgresError> {
    let path = home.join("password");
    match fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(PostgresError::io("read the password file")(error));
        }
        Ok(_) | Err(_) => {}
    }
    if home.join("data").exists() {
        return Err(PostgresError::PasswordMissing { dir: home.to_path_buf() });
    }
    let mut secret = [0_u8; 24];
    rand::fill(&mut secret).map_err(|_| PostgresError::Random)?;
    let text: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    write_secret(&path, &text).map_err(PostgresError::io("write the password file"))?;
    account.give(&path)?;
    Ok(text)
}

fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// The command line of a process; none if it does not exist.
async fn command_line(pid: u32) -> Option<String> {
    if Path::new("/proc/self/cmdline").exists() {
        let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        return Some(String::from_utf8_lossy(&bytes).replace('\0', " "));
    }
    let output = Command::new("ps").args(["-o", "args=", "-p", &pid.to_string()]).output().await.ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
