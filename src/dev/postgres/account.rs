//! As whom the private cluster runs. Postgres refuses to run as root, so a payoutd started as root hands the
//! server, and every file the server writes, to an unprivileged account. Used by the rest of `postgres` only.

use std::ffi::OsStr;
use std::os::unix::fs::lchown;
use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use super::PostgresError;

/// Accounts tried in this order when started as root: the distribution's own, then the one every system has.
const UNPRIVILEGED: [&str; 2] = ["postgres", "nobody"];

/// The account the server runs as.
#[derive(Debug)]
pub(super) enum Account {
    /// Ours: we are not root.
    Ours,
    /// Another one: we are root.
    Other { uid: u32, gid: u32 },
}

impl Account {
    /// Ours, or an unprivileged one if we are root.
    pub(super) async fn choose() -> Result<Self, PostgresError> {
        // The standard library does not tell our own user id; every system has `id`.
        let id = Command::new("id").arg("-u").stdin(Stdio::null()).output().await;
        let id = id.map_err(PostgresError::io("run `id -u`"))?;
        if id.stdout.trim_ascii() != b"0" {
            return Ok(Self::Ours);
        }
        let passwd = std::fs::read_to_string("/etc/passwd").map_err(PostgresError::io("read /etc/passwd"))?;
        UNPRIVILEGED
            .into_iter()
            .find_map(|name| {
                let (uid, gid) = ids(&passwd, name)?;
                Some(Self::Other { uid, gid })
            })
            .ok_or(PostgresError::NoAccount)
    }

    /// A command that runs as this account, in `dir`, without the caller's libpq settings and language.
    pub(super) fn command(&self, program: impl AsRef<OsStr>, dir: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(dir).stdin(Stdio::null()).env("LC_ALL", "C");
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        if let Self::Other { uid, gid } = self {
            // The standard library also drops root's supplementary groups when a uid is given.
            command.uid(*uid).gid(*gid);
        }
        command
    }

    /// Hands a file or directory of ours to this account.
    pub(super) fn give(&self, path: &Path) -> Result<(), PostgresError> {
        match self {
            Self::Ours => Ok(()),
            Self::Other { uid, gid } => lchown(path, Some(*uid), Some(*gid))
                .map_err(PostgresError::io("hand over the data directory")),
        }
    }

    /// Whether this account can work in `dir`. Tried, not computed: every parent directory has a say.
    pub(super) async fn can_enter(&self, dir: &Path) -> Result<bool, PostgresError> {
        let mut command = self.command("sh", Path::new("/"));
        command.args(["-c", "cd -- \"$1\" && test -w .", "sh"]).arg(dir).stderr(Stdio::null());
        let status = command.status().await.map_err(PostgresError::io("run `sh`"))?;
        Ok(status.success())
    }

    /// Whether a directory with this owner may be trusted with a cluster of ours.
    pub(super) fn trusts(&self, owner: u32) -> bool {
        match self {
            // A foreign directory could not be entered and written by us anyway.
            Self::Ours => true,
            Self::Other { uid, .. } => owner == 0 || owner == *uid,
        }
    }
}

/// User and group id of `name` in the text of a passwd file.
fn ids(passwd: &str, name: &str) -> Option<(u32, u32)> {
    let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    let uid = fields.next()?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    Some((uid, gid))
}

#[cfg(test)]
mod tests {
    use super::ids;

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        let passwd =
            "root:x:0:0::/root:/bin/sh\npostgresql:x:7:7::/:/bin/sh\npostgres:x:101:104:,,,:/var:/bin/sh\n";
        assert_eq!(ids(passwd, "postgres"), Some((101, 104)));
        assert_eq!(ids(passwd, "nobody"), None);
        assert_eq!(ids("nobody:*:-2:-2:Unprivileged User:/var/empty:/usr/bin/false\n", "nobody"), None);
    }
}
