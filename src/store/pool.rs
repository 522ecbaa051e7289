//! The connection pool and what every connection must be like before money depends on it.

use super::{StoreError, encoding::Code, environment};
use crate::domain::environment::Environment;
use sqlx::{
    AssertSqlSafe, Connection, Executor, PgConnection, PgPool,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use std::time::Duration;
use time::OffsetDateTime;

/// The migrations, compiled in.
pub static MIGRATIONS: Migrator = sqlx::migrate!();

/// How long a request may wait for a connection before it is told to come back later.
pub(super) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an idle connection may take to show that it lives, and one that was used to come to rest. Less
/// than waiting for a connection may take, so that a new one can be made in place of a dead one.
const ALIVE_WITHIN: Duration = Duration::from_secs(1);
/// No statement of ours takes long; one that does is holding locks that others wait for.
const STATEMENT_TIMEOUT: &str = "5s";
const LOCK_TIMEOUT: &str = "2s";
/// A transaction that a frozen process forgot must not pin rows for ever.
const IDLE_IN_TRANSACTION_TIMEOUT: &str = "10s";
/// Opens a pool. Every connection comes with the session settings that the promises rely on.
///
/// # Errors
/// When the URL is unusable or the server cannot be reached.
pub async fn connect(url: &str, max_connections: u32) -> Result<PgPool, StoreError> {
    let options: PgConnectOptions = url.parse()?;
    let options = options.application_name("payoutd").options([
        ("synchronous_commit", "on"),
        ("statement_timeout", STATEMENT_TIMEOUT),
        ("lock_timeout", LOCK_TIMEOUT),
        ("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION_TIMEOUT),
        // A plan made while a table was empty would be kept and scan it whole once it has grown.
        ("plan_cache_mode", "force_custom_plan"),
        // No statement of ours runs for long enough to be compiled first.
        ("jit", "off"),
        // The guard's rollback mostly finds nothing to roll back, which is no news.
        ("client_min_messages", "error"),
    ]);
    let pool = guarded(PgPoolOptions::new())
        .max_connections(max_connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        // Ours in its place, because sqlx's own waits for as long as the connection is silent.
        .test_before_acquire(false)
        .before_acquire(|connection, _| Box::pin(async move { Ok(lives(connection).await) }))
        .connect_with(options)
        .await?;
    Ok(pool)
}

/// The database's clock at this moment. Due times, leases and deadlines are all counted by it, so that
/// replicas with clocks of their own agree. Asked after rows were locked, it never goes back for a row: a
/// transaction that waited for the lock does not date its entry before the one that held it.
///
/// # Errors
/// Database errors.
pub async fn now(tx: &mut PgConnection) -> Result<OffsetDateTime, StoreError> {
    Ok(sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(tx).await?)
}

/// Lets a transaction that has asked nothing yet see the database as of one moment, and change nothing.
///
/// # Errors
/// Database errors.
pub async fn one_view(tx: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY").execute(tx).await?;
    Ok(())
}

/// Makes a database unless it is there. The name must be one of ours: it becomes part of the statement.
///
/// # Errors
/// Database errors.
///
/// # Panics
/// When the name is not made of lower-case letters, digits and underscores.
pub async fn create_database(admin: &mut PgConnection, name: &str) -> Result<(), StoreError> {
    assert!(name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_')), "a name of our own making");
    let there: bool = sqlx::query_scalar("SELECT exists(SELECT 1 FROM pg_database WHERE datname = $1)")
        .bind(name)
        .fetch_one(&mut *admin)
        .await?;
    if !there {
        sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(admin).await?;
    }
    Ok(())
}

/// Adds the guard against half-begun transactions: a future dropped inside `begin()` gives its connection
/// back with a transaction open, and the next borrower's acknowledged write would vanish with it. A
/// rollback on the way back into the pool costs nobody a round trip that they wait for. A connection that
/// is silent then is closed: sqlx would wait for it for ever, and with it keep its place in the pool.
pub fn guarded(options: PgPoolOptions) -> PgPoolOptions {
    options.after_release(|connection, _| {
        Box::pin(async move {
            alive(connection.execute("ROLLBACK")).await?;
            Ok(true)
        })
    })
}

/// Whether a connection that was idle can be used.
pub(super) async fn lives(connection: &mut PgConnection) -> bool {
    alive(connection.ping()).await.is_ok()
}

/// An error closes the connection.
async fn alive<T>(sign: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    let silent = || sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
    tokio::time::timeout(ALIVE_WITHIN, sign).await.unwrap_or_else(|_| Err(silent()))
}

/// A start-up check failed.
#[derive(Debug, thiserror::Error)]
pub enum NotFit {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the database's {setting} is {found}, but must be {wanted}: acknowledged payouts could be lost")]
    Setting { setting: &'static str, found: String, wanted: &'static str },
    #[error("the database is at migration {found}, this program needs {wanted}: run `payoutd migrate`")]
    Schema { found: i64, wanted: i64 },
    #[error("this database has payouts of the environment {found}, and pike.base_url leads to {wanted}")]
    Environment { found: String, wanted: &'static str },
}

/// Refuses a database that would lose acknowledged writes or lacks migrations. Newer migrations are fine:
/// they are made so that the previous release can live with them.
///
/// # Errors
/// [`NotFit`] names the setting or migration.
pub async fn check(pool: &PgPool) -> Result<(), NotFit> {
    for (setting, wanted) in [("synchronous_commit", "on"), ("full_page_writes", "on"), ("fsync", "on")] {
        let found: String = sqlx::query_scalar("SELECT current_setting($1)")
            .bind(setting)
            .fetch_one(pool)
            .await
            .map_err(StoreError::from)?;
        if found != wanted {
            return Err(NotFit::Setting { setting, found, wanted });
        }
    }
    check_schema(pool).await
}

/// Refuses a database whose payouts belong to another of Pike's environments; an empty one is bound to this.
///
/// # Errors
/// [`NotFit::Environment`] names both.
pub async fn check_environment(pool: &PgPool, wanted: Environment) -> Result<(), NotFit> {
    let mut tx = pool.begin().await.map_err(StoreError::from)?;
    let other = environment::bind(&mut tx, wanted).await?;
    tx.commit().await.map_err(StoreError::from)?;
    other.map_or(Ok(()), |found| Err(NotFit::Environment { found, wanted: wanted.code() }))
}

/// Only the migrations part of [`check`].
///
/// # Errors
/// [`NotFit::Schema`] when migrations are missing.
pub async fn check_schema(pool: &PgPool) -> Result<(), NotFit> {
    let wanted = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0);
    let known: bool = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
        .fetch_one(pool)
        .await
        .map_err(StoreError::from)?;
    let found = if known {
        sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM _sqlx_migrations WHERE success")
            .fetch_one(pool)
            .await
            .map_err(StoreError::from)?
    } else {
        0
    };
    if found < wanted { Err(NotFit::Schema { found, wanted }) } else { Ok(()) }
}
