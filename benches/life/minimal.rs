//! pgbench on the least SQL of a life: no HTTP, no signatures, no program of anybody's.

use crate::measure::{Postgres, Used};
use sqlx::{Connection, PgConnection};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::process::Command;

const TABLES: &str = include_str!("by_hand.sql");
/// pgbench has numbers only.
const LIFE: &str = "CREATE FUNCTION life(n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE RETURN lpad(to_hex(n), 32, '0')::uuid";

/// Makes the tables that the service by hand and pgbench use.
pub async fn prepare(url: &str) {
    let mut db = PgConnection::connect(url).await.unwrap();
    for statements in [TABLES, LIFE] {
        sqlx::raw_sql(statements).execute(&mut db).await.unwrap();
    }
}

/// pgbench, if it is here: beside the server, or in the path.
pub fn program() -> Option<PathBuf> {
    let beside = std::env::var_os("PAYOUTD_PG_BIN").map(PathBuf::from).into_iter();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let packaged = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let packaged = packaged.map(|version| version.path().join("bin"));
    beside.chain(path).chain(packaged).map(|dir| dir.join("pgbench")).find(|program| program.is_file())
}

/// Lives per second, and what the server used for how many.
pub async fn run(
    program: &Path,
    url: &str,
    clients: u32,
    time: Duration,
    server: &mut Postgres,
) -> (f64, f64, Used) {
    let script = std::env::temp_dir().join(format!("payoutd-life-{}.sql", std::process::id()));
    std::fs::write(&script, include_str!("minimal.sql")).unwrap();
    let before = server.used().await;
    let output = Command::new(program)
        .args(["--no-vacuum", "--protocol", "prepared", "--jobs", "2", "--client", &clients.to_string()])
        .args(["--define", "i=0"])
        .args(["--time", &time.as_secs().to_string(), "--file"])
        .arg(&script)
        .arg(url)
        .output()
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let read = |name: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()?.split('/').next()?.parse().ok())
            .unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)))
    };
    let used = server.used().await - before;
    std::fs::remove_file(script).unwrap();
    (read("tps = "), read("number of transactions actually processed: "), used)
}
