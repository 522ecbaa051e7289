//! The ground the other tests stand on: the private Postgres starts, keeps what it was given, and never
//! outlives the process it belongs to, however that process ends.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use payoutd::dev::postgres::{Cluster, ClusterOptions, Durability, Lifetime, PostgresError};
use sqlx::{Connection, PgConnection};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// Generous, because nothing here asserts speed: only that a condition comes true at all.
const PATIENCE: Duration = Duration::from_secs(60);

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A cluster that is kept but, being a test's, not forced to disk. The directory goes with the value.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        Self(ClusterOptions::temporary().data_dir)
    }

    fn options(&self) -> ClusterOptions {
        ClusterOptions { durability: Durability::None, ..ClusterOptions::kept(&self.0) }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Rubbish in the temporary directory at worst; a failure here would hide the test's own.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn text(url: &str, sql: &'static str) -> String {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let value = sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    value
}

async fn run(url: &str, sql: &'static str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::query(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// Whether a server still runs on `dir`, by its pid file.
fn server_runs(dir: &Path) -> bool {
    let Ok(file) = std::fs::read_to_string(dir.join("data/postmaster.pid")) else { return false };
    let pid = file.lines().next().unwrap_or_default().to_owned();
    let status = std::process::Command::new("kill").args(["-0", &pid]).stderr(Stdio::null()).status();
    status.unwrap().success()
}

#[tokio::test]
async fn a_second_start_finds_the_data() {
    let scratch = Scratch::new();
    let first = Cluster::start(&scratch.options()).await.unwrap();
    run(&first.url("postgres"), "CREATE TABLE kept (word text)").await;
    run(&first.url("postgres"), "INSERT INTO kept VALUES ('still here')").await;
    let dir = first.dir().to_path_buf();
    first.stop().await.unwrap();
    assert!(!server_runs(&dir));

    let second = Cluster::start(&scratch.options()).await.unwrap();
    assert_eq!(text(&second.url("postgres"), "SELECT word FROM kept").await, "still here");
    second.stop().await.unwrap();
}

#[tokio::test]
async fn a_start_right_after_a_drop_waits_for_the_old_server() {
    let scratch = Scratch::new();
    let first = Cluster::start(&scratch.options()).await.unwrap();
    run(&first.url("postgres"), "CREATE TABLE kept (word text)").await;
    drop(first);
    let second = Cluster::start(&scratch.options()).await.unwrap();
    assert_eq!(text(&second.url("postgres"), "SELECT count(*)::text FROM kept").await, "0");
    second.stop().await.unwrap();
}

#[tokio::test]
async fn two_cannot_share_a_directory() {
    let scratch = Scratch::new();
    let first = Cluster::start(&scratch.options()).await.unwrap();
    let second = Cluster::start(&scratch.options()).await.unwrap_err();
    assert!(matches!(second, PostgresError::InUse { .. }), "{second}");
    first.stop().await.unwrap();
}

#[tokio::test]
async fn a_directory_with_something_else_in_it_is_left_alone() {
    let scratch = Scratch::new();
    std::fs::create_dir(&scratch.0).unwrap();
    std::fs::write(scratch.0.join("letter"), "private").unwrap();
    let error = Cluster::start(&scratch.options()).await.unwrap_err();
    assert!(matches!(error, PostgresError::NotACluster { .. }), "{error}");
}

/// Root's home is closed to the account that root's server runs as; anyone else's own directories are not.
#[tokio::test]
async fn a_place_that_the_server_cannot_reach_is_replaced_by_the_same_other_one() {
    use std::os::unix::fs::PermissionsExt;
    let closed = Scratch::new();
    std::fs::create_dir(&closed.0).unwrap();
    std::fs::set_permissions(&closed.0, std::fs::Permissions::from_mode(0o700)).unwrap();
    let wanted = closed.0.join("inside");
    let options = ClusterOptions { durability: Durability::None, ..ClusterOptions::kept(&wanted) };

    let first = Cluster::start(&options).await.unwrap();
    let really = Scratch(first.dir().to_path_buf());
    run(&first.url("postgres"), "CREATE TABLE kept (word text)").await;
    first.stop().await.unwrap();
    let second = Cluster::start(&options).await.unwrap();
    assert_eq!(second.dir(), really.0);
    assert_eq!(text(&second.url("postgres"), "SELECT count(*)::text FROM kept").await, "0");
    second.stop().await.unwrap();
}

#[tokio::test]
async fn a_failed_start_shows_the_servers_own_words() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let scratch = Scratch::new();
    let error = Cluster::start(&ClusterOptions { port: Some(port), ..scratch.options() }).await.unwrap_err();
    assert!(matches!(error, PostgresError::Start { .. }), "{error}");
    assert!(error.to_string().contains("could not bind"), "{error}");
}

#[tokio::test]
async fn only_the_password_opens_and_only_its_account_can_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let cluster = Cluster::start(&ClusterOptions::temporary()).await.unwrap();
    let url = cluster.url("postgres");
    let (before, rest) = url.split_once("//postgres:").unwrap();
    let after = rest.split_once('@').unwrap().1;
    assert!(PgConnection::connect(&format!("{before}//postgres:wrong@{after}")).await.is_err());
    for (name, mode) in [("password", 0o600), (".", 0o700)] {
        let found = std::fs::metadata(cluster.dir().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{name}");
    }
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn the_default_is_durable_and_a_temporary_cluster_is_not() {
    let kept = ClusterOptions::kept("somewhere");
    assert_eq!((kept.durability, kept.lifetime), (Durability::Full, Lifetime::Kept));

    let cluster = Cluster::start(&ClusterOptions::temporary()).await.unwrap();
    assert_eq!(text(&cluster.url("postgres"), "SELECT current_setting('fsync')").await, "off");
    assert_eq!(text(&cluster.url("postgres"), "SELECT current_setting('max_connections')").await, "400");
    assert_eq!(text(&cluster.url("postgres"), "SELECT current_setting('server_encoding')").await, "UTF8");
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_temporary_cluster_leaves_no_directory() {
    let stopped = Cluster::start(&ClusterOptions::temporary()).await.unwrap();
    let dir = stopped.dir().to_path_buf();
    stopped.stop().await.unwrap();
    assert!(!dir.exists());

    let dropped = Cluster::start(&ClusterOptions::temporary()).await.unwrap();
    let dir = dropped.dir().to_path_buf();
    drop(dropped);
    until("the dropped cluster's directory is gone", || !dir.exists()).await;
}

/// `payoutd with-postgres` around a command that says the address and then waits for its input to end.
struct Running {
    child: Child,
    url: String,
    dir: PathBuf,
}

impl Running {
    async fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_payoutd"))
            .args([
                "with-postgres",
                "--",
                "sh",
                "-c",
                "echo \"$PAYOUTD_TEST_POSTGRES\"; read -r code; exit $code",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).await.unwrap();
        let url = url.trim().to_owned();
        let data = PathBuf::from(text(&url, "SELECT current_setting('data_directory')").await);
        Self { child, url, dir: data.parent().unwrap().to_path_buf() }
    }

    async fn end_with(mut self, code: &str) -> (ExitStatus, PathBuf) {
        use tokio::io::AsyncWriteExt;
        let mut input = self.child.stdin.take().unwrap();
        input.write_all(format!("{code}\n").as_bytes()).await.unwrap();
        (self.child.wait().await.unwrap(), self.dir)
    }
}

#[tokio::test]
async fn with_postgres_ends_as_its_command_ended() {
    for code in ["0", "7"] {
        let (status, dir) = Running::start().await.end_with(code).await;
        assert_eq!(status.code().unwrap().to_string(), code);
        assert!(!dir.exists());
    }
}

#[tokio::test]
async fn a_killed_process_leaves_no_server() {
    let mut running = Running::start().await;
    assert!(server_runs(&running.dir));
    running.child.kill().await.unwrap();
    until("the directory of the killed process is gone", || !running.dir.exists()).await;
    assert!(PgConnection::connect(&running.url).await.is_err());
}
