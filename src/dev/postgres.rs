//! A private Postgres cluster: real server programs, a directory of its own, a loopback port, gone when we
//! are. `binaries` finds the programs, `account` decides as whom they run, `home` keeps the directory, and a
//! small shell (`keeper.sh`) holds the server on a pipe to us. Never installs anything, never used by
//! `payoutd serve`.

mod account;
mod binaries;
mod home;

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection};
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::{Instant, sleep, timeout};

use self::account::Account;
use self::binaries::Binaries;
use self::home::Home;

const KEEPER: &str = include_str!("postgres/keeper.sh");

/// From nothing to the first connection. Takes one second on an idle machine; a crowded one, or one that
/// replays a long log after a crash, may need far more.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How long a fast shutdown may write before we stop waiting; the server goes on and ends by itself.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// Between two looks at something that is about to happen.
const POLL: Duration = Duration::from_millis(20);

/// A free port may be taken by someone else between our look and the server's start.
const PORT_ATTEMPTS: u32 = 5;

/// Whether a commit survives a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// As in production.
    Full,
    /// Nothing is forced to disk. Only for data that nobody will miss.
    None,
}

/// What becomes of the data when the cluster stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// The next start finds it.
    Kept,
    /// The directory is removed.
    Temporary,
}

/// What kind of cluster to start, and where.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// The cluster's own directory: data, password, log and lock are inside.
    pub data_dir: PathBuf,
    /// See [`Durability`].
    pub durability: Durability,
    /// See [`Lifetime`].
    pub lifetime: Lifetime,
    /// The loopback port; a free one when `None`.
    pub port: Option<u16>,
    /// The server's limit on connections.
    pub max_connections: u16,
}

impl ClusterOptions {
    /// A cluster that lasts, as durable as production.
    #[must_use]
    pub fn kept(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            durability: Durability::Full,
            lifetime: Lifetime::Kept,
            port: None,
            max_connections: 100,
        }
    }

    /// A cluster for tests: fast, forgetful, with room for many tests at once.
    #[must_use]
    pub fn temporary() -> Self {
        let name = format!("payoutd-{}", uuid::Uuid::now_v7().simple());
        Self {
            data_dir: std::env::temp_dir().join(name),
            durability: Durability::None,
            lifetime: Lifetime::Temporary,
            port: None,
            max_connections: 400,
        }
    }

    fn settings(&self, port: u16) -> Vec<String> {
        let mut settings = vec![
            "listen_addresses=127.0.0.1".to_owned(),
            "unix_socket_directories=".to_owned(),
            format!("port={port}"),
            format!("max_connections={}", self.max_connections),
            "timezone=UTC".to_owned(),
            "log_timezone=UTC".to_owned(),
            // Our statements are short; compiling them costs more than running them.
            "jit=off".to_owned(),
        ];
        if self.durability == Durability::None {
            settings.extend(["fsync=off", "full_page_writes=off", "max_wal_size=4GB"].map(str::to_owned));
        }
        settings.into_iter().flat_map(|setting| ["-c".to_owned(), setting]).collect()
    }

    fn initdb_option(&self) -> &'static str {
        match self.durability {
            Durability::Full => "",
            Durability::None => "--no-sync",
        }
    }

    fn keeper_word(&self) -> &'static str {
        match self.lifetime {
            Lifetime::Kept => "kept",
            Lifetime::Temporary => "temporary",
        }
    }
}

/// Why there is no cluster.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    #[error(
        "no PostgreSQL server found. Looked in:\n  {places}\n\
         Run scripts/ensure-postgres, which gets one, or name the directory of `postgres` and `initdb` in \
         PAYOUTD_PG_BIN."
    )]
    NotFound { places: String },
    #[error(
        "the data directory was made by PostgreSQL {major}, and no such server was found. Looked in:\n  \
         {places}\n\
         Install PostgreSQL {major}, name its directory in PAYOUTD_PG_BIN, or remove the data directory."
    )]
    OtherVersion { major: u32, places: String },
    #[error("started as root, and neither `postgres` nor `nobody` is in /etc/passwd to run the server as")]
    NoAccount,
    #[error("{} is not ours to use: another account owns it", dir.display())]
    ForeignDirectory { dir: PathBuf },
    #[error("{} is not a cluster of ours and not empty; name another directory", dir.display())]
    NotACluster { dir: PathBuf },
    #[error("{} is in use by another running payoutd", dir.display())]
    InUse { dir: PathBuf },
    #[error("an earlier run's server still runs on {}; stop it: kill -INT {pid}", dir.display())]
    StillRunning { pid: u32, dir: PathBuf },
    #[error("{} holds data but no password file; restore the file or remove the directory", dir.display())]
    PasswordMissing { dir: PathBuf },
    #[error("PostgreSQL did not start ({how}). The end of its log:\n{tail}")]
    Start { how: String, tail: String },
    #[error("PostgreSQL did not stop within {STOP_LIMIT:?}; it will end when it has written everything")]
    Stop,
    #[error("no random bytes for the server's password")]
    Random,
    #[error("could not {doing}: {source}")]
    Io { doing: &'static str, source: io::Error },
}

impl PostgresError {
    fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }
}

/// The shell that runs the server, and the pipe that keeps both alive.
#[derive(Debug)]
struct Keeper {
    shell: Child,
    lifeline: ChildStdin,
}

impl Keeper {
    /// Lets go of the server and waits until it has ended.
    async fn stop(self) -> Result<(), PostgresError> {
        let Self { mut shell, lifeline } = self;
        drop(lifeline);
        let ended = timeout(STOP_LIMIT, shell.wait()).await.map_err(|_| PostgresError::Stop)?;
        ended.map(drop).map_err(PostgresError::io("wait for the server's end"))
    }
}

/// A running private server. Stops when it is dropped, when [`Cluster::stop`] is called, or when we are
/// killed.
#[derive(Debug)]
pub struct Cluster {
    keeper: Keeper,
    home: Home,
    lifetime: Lifetime,
    port: u16,
}

impl Cluster {
    /// Starts the server, making the cluster first if there is none, and returns when it answers.
    pub async fn start(options: &ClusterOptions) -> Result<Self, PostgresError> {
        let account = Account::choose().await?;
        let home = Home::open(&account, &options.data_dir).await?;
        let started = Self::start_in(&home, &account, options).await;
        if started.is_err() && options.lifetime == Lifetime::Temporary {
            home.remove();
        }
        let (keeper, port) = started?;
        Ok(Self { keeper, home, lifetime: options.lifetime, port })
    }

    async fn start_in(
        home: &Home,
        account: &Account,
        options: &ClusterOptions,
    ) -> Result<(Keeper, u16), PostgresError> {
        let binaries = binaries::find(account, home.version()).await?;
        home.wait_for_predecessor().await?;
        let begun = Instant::now();
        let mut attempt = 1;
        loop {
            let port = options.port.map_or_else(free_port, Ok)?;
            match launch(home, account, &binaries, options, port).await {
                Ok(keeper) => {
                    let (dir, version) = (home.path().display(), binaries.major);
                    tracing::info!(%dir, port, version, took = ?begun.elapsed(), "private Postgres is up");
                    return Ok((keeper, port));
                }
                Err(PostgresError::Start { tail, .. })
                    if options.port.is_none() && attempt < PORT_ATTEMPTS && port_was_taken(&tail) =>
                {
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The address of a database in this cluster, with the superuser's name and password in it.
    #[must_use]
    pub fn url(&self, db: &str) -> String {
        url(&self.home, self.port, db)
    }

    /// Where the cluster really is: not `data_dir` if the server's account could not reach that.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.home.path()
    }

    /// Ends every connection, writes everything, and returns when the server is gone.
    pub async fn stop(self) -> Result<(), PostgresError> {
        self.keeper.stop().await?;
        if self.lifetime == Lifetime::Temporary {
            // Normally the keeper has done so. It cannot when the parent directory is not the server
            // account's.
            self.home.remove();
        }
        Ok(())
    }
}

fn url(home: &Home, port: u16, db: &str) -> String {
    // No TLS on the loopback: asking for it would cost every connection a round trip.
    format!("postgres://postgres:{}@127.0.0.1:{port}/{db}?sslmode=disable", home.password())
}

fn free_port() -> Result<u16, PostgresError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(PostgresError::io("find a free port"))
}

fn port_was_taken(log: &str) -> bool {
    // The server speaks English here: `account` sets LC_ALL=C.
    log.contains("could not bind")
}

/// Starts the keeper and waits until the server answers.
async fn launch(
    home: &Home,
    account: &Account,
    binaries: &Binaries,
    options: &ClusterOptions,
    port: u16,
) -> Result<Keeper, PostgresError> {
    home.fresh_log()?;
    let mut command: Command = account.command("sh", home.path());
    command
        .args(["-c", KEEPER, "payoutd-postgres"])
        .args([&binaries.dir, home.path()])
        .args([options.keeper_word(), options.initdb_option()])
        .args(options.settings(port))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Ctrl-C in a terminal goes to the whole foreground group: the server must outlive our own shutdown.
        .process_group(0);
    let mut shell = command.spawn().map_err(PostgresError::io("run `sh`"))?;
    // Taken out of the child, because waiting for a child closes its input.
    let lifeline = shell.stdin.take().expect("the input was asked for as a pipe");
    let mut keeper = Keeper { shell, lifeline };
    let url = url(home, port, "postgres");
    let how = tokio::select! {
        () = answers(&url) => return Ok(keeper),
        ended = keeper.shell.wait() => match ended {
            Ok(status) => format!("it ended: {status}"),
            Err(error) => format!("it cannot be watched: {error}"),
        },
        () = sleep(START_LIMIT) => format!("no answer within {START_LIMIT:?}"),
    };
    let error = PostgresError::Start { how, tail: home.log_tail() };
    // The failed start is the error to report, not that its remains end slowly.
    let _ = keeper.stop().await;
    Err(error)
}

/// Returns when the server takes a connection.
async fn answers(url: &str) {
    let options =
        PgConnectOptions::from_str(url).expect("our own URL is well-formed").disable_statement_logging();
    loop {
        if let Ok(connection) = options.connect().await {
            // The answer was all we wanted; how the connection ends does not matter.
            let _ = connection.close().await;
            return;
        }
        sleep(POLL).await;
    }
}
