//! One Postgres for all tests, one database for each. The server is the one in `PAYOUTD_TEST_POSTGRES` or a
//! temporary one of this process; databases are copies of a template that is migrated once per server.

use std::sync::{OnceLock, mpsc};

use payoutd::dev::ADDRESS_VARIABLE;
use payoutd::dev::postgres::{Cluster, ClusterOptions, Durability};
use payoutd::store::pool::{self, MIGRATIONS};
use rustix::process::{Pid, Signal, kill_process};
use sha2::{Digest, Sha256};
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio::sync::OnceCell;

/// Guards the making of the template against other processes on the same server.
const TEMPLATE_LOCK: i64 = 0x7061_796f;

/// As durable as production: payoutd refuses to run on anything less.
pub fn cluster_options() -> ClusterOptions {
    ClusterOptions { durability: Durability::Full, ..ClusterOptions::temporary() }
}

fn admin_url() -> &'static str {
    static URL: OnceLock<String> = OnceLock::new();
    URL.get_or_init(|| std::env::var(ADDRESS_VARIABLE).unwrap_or_else(|_| cluster_of_this_process()))
}

/// Lives on a thread of its own, because each test's runtime ends with its test.
fn cluster_of_this_process() -> String {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let cluster = Cluster::start(&cluster_options()).await.unwrap();
            tell.send(cluster.url("postgres")).unwrap();
            std::future::pending::<()>().await;
        });
    });
    told.recv().expect("Postgres did not start: see the panic above")
}

fn url_of(database: &str) -> String {
    with_database(admin_url(), database)
}

fn with_database(url: &str, database: &str) -> String {
    let mut url = reqwest::Url::parse(url).unwrap();
    url.set_path(database);
    url.into()
}

async fn template() -> &'static str {
    static NAME: OnceCell<String> = OnceCell::const_new();
    NAME.get_or_init(make_template).await
}

/// Named after the migrations, so that a server that is kept never serves an old one; renamed last, so that
/// half a template is none.
async fn make_template() -> String {
    let mut hash = Sha256::new();
    MIGRATIONS.iter().for_each(|migration| hash.update(&migration.checksum));
    let short: String = hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let name = format!("template_{short}");
    let mut admin = PgConnection::connect(admin_url()).await.unwrap();
    sqlx::query("SELECT pg_advisory_lock($1)").bind(TEMPLATE_LOCK).execute(&mut admin).await.unwrap();
    let there = sqlx::query("SELECT FROM pg_database WHERE datname = $1").bind(&name);
    if there.fetch_optional(&mut admin).await.unwrap().is_none() {
        let draft = format!("{name}_draft");
        run(&mut admin, format!("DROP DATABASE IF EXISTS {draft}")).await;
        run(&mut admin, format!("CREATE DATABASE {draft}")).await;
        migrate(&url_of(&draft)).await;
        run(&mut admin, format!("ALTER DATABASE {draft} RENAME TO {name}")).await;
    }
    admin.close().await.unwrap();
    name
}

async fn run(connection: &mut PgConnection, sql: String) {
    connection.execute(AssertSqlSafe(sql)).await.unwrap();
}

async fn migrate(url: &str) {
    let pool = pool::connect(url, 1).await.unwrap();
    MIGRATIONS.run(&pool).await.unwrap();
    pool.close().await;
}

/// A database of one test. Gone with the value, however the test ends.
pub struct Database {
    name: Option<String>,
    url: String,
    own: Option<Own>,
}

/// A cluster of one test.
struct Own {
    options: ClusterOptions,
    cluster: Option<Cluster>,
}

impl Database {
    /// Up to date and empty.
    pub async fn new() -> Self {
        Self::copy_of(template().await).await
    }

    /// Without a table.
    pub async fn bare() -> Self {
        Self::copy_of("template1").await
    }

    async fn copy_of(template: &str) -> Self {
        let name = format!("test_{}", super::unique());
        let mut admin = PgConnection::connect(admin_url()).await.unwrap();
        run(&mut admin, format!("CREATE DATABASE {name} TEMPLATE {template}")).await;
        admin.close().await.unwrap();
        Self { url: url_of(&name), name: Some(name), own: None }
    }

    /// On a server of its own, which the test may stop.
    pub async fn on_own_cluster(options: &ClusterOptions) -> Self {
        let cluster = Cluster::start(options).await.unwrap();
        let url = cluster.url("postgres");
        migrate(&url).await;
        // It comes back where its clients look for it.
        let port = reqwest::Url::parse(&url).unwrap().port();
        let options = ClusterOptions { port, ..options.clone() };
        Self { name: None, url, own: Some(Own { options, cluster: Some(cluster) }) }
    }

    pub async fn stop_cluster(&mut self) {
        let own = self.own.as_mut().expect("the cluster is the test's own");
        own.cluster.take().expect("it runs").stop().await.unwrap();
    }

    /// As by a power cut: nothing is written any more. The server is gone when this returns.
    pub async fn crash_cluster(&mut self) {
        let own = self.own.as_mut().expect("the cluster is the test's own");
        let cluster = own.cluster.take().expect("it runs");
        let file = std::fs::read_to_string(cluster.dir().join("data/postmaster.pid")).unwrap();
        let id = file.lines().next().unwrap().trim().parse().unwrap();
        kill_process(Pid::from_raw(id).unwrap(), Signal::QUIT).unwrap();
        // Its keeper notices and ends as well.
        cluster.stop().await.unwrap();
    }

    pub async fn start_cluster(&mut self) {
        let own = self.own.as_mut().expect("the cluster is the test's own");
        own.cluster = Some(Cluster::start(&own.options).await.unwrap());
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// For looking, past payoutd.
    pub fn pool(&self) -> PgPool {
        PgPoolOptions::new().max_connections(2).connect_lazy(&self.url).unwrap()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Some(name) = self.name.take() {
            // What is not dropped by the end of the process goes with the server.
            let _ = janitor().send(name);
        }
    }
}

/// Drops databases on a thread of its own. A test must not wait for that: the server waits for connections
/// that are just being made, and those are the test's own.
fn janitor() -> mpsc::Sender<String> {
    static JANITOR: OnceLock<mpsc::Sender<String>> = OnceLock::new();
    let start = || {
        let (sender, names) = mpsc::channel::<String>();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            for name in names {
                let sql = AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)"));
                runtime
                    .block_on(async {
                        let mut admin = PgConnection::connect(admin_url()).await?;
                        admin.execute(sql).await
                    })
                    .unwrap();
            }
        });
        sender
    };
    JANITOR.get_or_init(start).clone()
}
