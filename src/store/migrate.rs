//! Brings the schema up to date in a database that is in use, on a connection of its own: building an index
//! may take as long as it takes, but a migration that waits for a lock has everybody else waiting behind it.
//! So it waits for a moment, lets go and tries again, and in the end says who was in its way. Each migration
//! is one transaction: what is given up has changed nothing. It never looks at what is in the tables.

use super::{StoreError, pool::MIGRATIONS};
use sqlx::{Connection, PgConnection, migrate::MigrateError, postgres::PgConnectOptions};
use std::time::Duration;

/// How long a migration waits for locks that others hold.
#[derive(Clone, Debug)]
pub struct Patience {
    /// For one lock; so long does everybody wait who wants the table meanwhile.
    pub lock_timeout: Duration,
    pub tries: u32,
    /// Between two tries, for those who have waited behind it.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { lock_timeout: Duration::from_secs(2), tries: 10, pause: Duration::from_secs(5) }
    }
}

/// The database is not up to date.
#[derive(Debug, thiserror::Error)]
pub enum NotMigrated {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Failed(#[from] MigrateError),
    #[error("{waited}; given up after {tries} tries. Migrating again goes on from there")]
    Locked { waited: String, tries: u32 },
    /// `IF NOT EXISTS` would take it for a good one.
    #[error("index {0} is not valid: wait while somebody builds it, else `DROP INDEX CONCURRENTLY {0}`")]
    InvalidIndex(String),
}

/// Applies what is missing. `tell` hears what is waited for after each try that met a lock.
///
/// # Errors
/// [`NotMigrated`]. Migrations before the one that failed are applied.
pub async fn run(url: &str, patience: &Patience, mut tell: impl FnMut(&str)) -> Result<(), NotMigrated> {
    let mut tried = 1;
    loop {
        // A new one each time: with the old one goes the lock by which only one migrates at a time.
        let mut connection = connect(url, patience.lock_timeout).await?;
        refuse_invalid_indexes(&mut connection).await?;
        let waited = match MIGRATIONS.run_direct(None, &mut connection, false).await {
            Ok(()) => return Ok(connection.close().await.map_err(StoreError::from)?),
            Err(error) => waited(error)?,
        };
        let waited = match oldest(&mut connection).await? {
            Some(holder) => format!("{waited}; open for longest: {holder}"),
            None => waited,
        };
        connection.close().await.map_err(StoreError::from)?;
        if tried >= patience.tries {
            return Err(NotMigrated::Locked { waited, tries: tried });
        }
        tell(&format!("{waited}; try {tried} of {}", patience.tries));
        tokio::time::sleep(patience.pause).await;
        tried += 1;
    }
}

/// The connection that migrations are applied on: no statement is too long, no lock is waited for for long.
///
/// # Errors
/// When the URL is unusable or the server cannot be reached.
pub async fn connect(url: &str, lock_timeout: Duration) -> Result<PgConnection, StoreError> {
    let options: PgConnectOptions = url.parse()?;
    let lock_timeout = format!("{}ms", lock_timeout.as_millis());
    let options = options.application_name("payoutd migrate").options([
        ("synchronous_commit", "on"),
        ("statement_timeout", "0"),
        ("lock_timeout", lock_timeout.as_str()),
        ("client_min_messages", "error"),
    ]);
    Ok(PgConnection::connect_with(&options).await?)
}

/// What a failed try has waited for, if that is all that was wrong.
fn waited(error: MigrateError) -> Result<String, MigrateError> {
    if let MigrateError::ExecuteMigration(cause, number) = &error
        && is_lock(cause)
    {
        return Ok(format!("migration {number} waits for a lock"));
    }
    if let MigrateError::Execute(cause) = &error
        && is_lock(cause)
    {
        return Ok("another migration is at work".to_owned());
    }
    Err(error)
}

/// A lock time-out, or a deadlock that ended here.
fn is_lock(cause: &sqlx::Error) -> bool {
    let code = cause.as_database_error().and_then(sqlx::error::DatabaseError::code);
    matches!(code.as_deref(), Some("55P03" | "40P01"))
}

/// Who has had a transaction open for longest: nearly always the one that holds the lock.
async fn oldest(connection: &mut PgConnection) -> Result<Option<String>, StoreError> {
    Ok(sqlx::query_scalar(
        "SELECT format('pid %s (%s, %s, %s)', pid, coalesce(nullif(application_name, ''), backend_type),
                state, date_trunc('second', clock_timestamp() - xact_start))
         FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL
         ORDER BY xact_start LIMIT 1",
    )
    .fetch_optional(connection)
    .await?)
}

/// One that was built by hand, without keeping anybody waiting, may have been given up half way.
async fn refuse_invalid_indexes(connection: &mut PgConnection) -> Result<(), NotMigrated> {
    let invalid: Option<String> = sqlx::query_scalar(
        "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
         WHERE NOT i.indisvalid AND c.relnamespace = current_schema()::regnamespace ORDER BY 1 LIMIT 1",
    )
    .fetch_optional(connection)
    .await
    .map_err(StoreError::from)?;
    invalid.map_or(Ok(()), |index| Err(NotMigrated::InvalidIndex(index)))
}
