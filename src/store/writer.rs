//! A connection that one writer keeps, for the few statements that it makes over and over: they are planned
//! once, not each time. A plan made while a table was small would be a bad one when it has grown (it reads
//! the whole table), so these connections look into an index for each row that is asked for, whatever the
//! tables hold; and as an index may be read from end to end as well, plans are thrown away when they are as
//! old as their connection was, and every minute. One transaction at a time; whoever gives one up gives up
//! the connection with it.

use super::{StoreError, pool};
use futures_util::future::BoxFuture;
use sqlx::{Connection, Executor, PgConnection, PgPool};
use std::{
    ops::{Deref, DerefMut},
    time::{Duration, Instant},
};
use tokio::sync::{Mutex, MutexGuard};

/// The youngest age at which plans are thrown away.
const FIRST_PLANS: Duration = Duration::from_secs(5);
/// No plan is older.
const OLDEST_PLANS: Duration = Duration::from_secs(60);
/// Statements that a connection keeps prepared: one for each choice of parts that comes often.
const STATEMENTS: usize = 200;
/// What is asked for is always named by a key, or little. A bitmap would be made for each row, and making one
/// does not note which entries of the index are dead: what is due would be looked for among all that was open
/// since the last cleaning, several times a second.
const PLANS: [(&str, &str); 5] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("enable_bitmapscan", "off"),
];

/// A connection that was used within this time is taken without a sign of life: under load that is always,
/// and a sign costs as much as a statement.
const SURELY_ALIVE: Duration = Duration::from_millis(500);

/// Makes transactions on a connection of its own.
#[derive(Debug)]
pub struct Writer {
    /// Only says where the database is, and what its connections must be like.
    pool: PgPool,
    kept: Mutex<Option<Kept>>,
}

#[derive(Debug)]
struct Kept {
    db: PgConnection,
    since: Instant,
    planned: Instant,
    used: Instant,
}

impl Kept {
    async fn open(pool: &PgPool) -> Result<Self, StoreError> {
        let options = pool.connect_options().as_ref().clone();
        let options = options.options(PLANS).statement_cache_capacity(STATEMENTS);
        let opening = tokio::time::timeout(pool::ACQUIRE_TIMEOUT, PgConnection::connect_with(&options));
        let db = opening.await.unwrap_or(Err(sqlx::Error::PoolTimedOut))?;
        let now = Instant::now();
        Ok(Self { db, since: now, planned: now, used: now })
    }

    async fn lives(&mut self) -> bool {
        self.used.elapsed() < SURELY_ALIVE || pool::lives(&mut self.db).await
    }

    fn has_old_plans(&self) -> bool {
        let age = self.planned.elapsed();
        age >= OLDEST_PLANS || age >= (self.planned - self.since).max(FIRST_PLANS)
    }
}

impl Writer {
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        Self { pool, kept: Mutex::new(None) }
    }

    /// Waits for whoever has the connection, and takes it. What is one statement needs no transaction around
    /// it, and no round trips to begin and to commit one.
    ///
    /// # Errors
    /// Database errors.
    pub async fn hold(&self) -> Result<Held<'_>, StoreError> {
        let mut place = self.kept.lock().await;
        // Out of its place while it is used: who is dropped in the middle takes it along.
        let mut kept = match place.take() {
            None => self.anew().await?,
            Some(mut kept) => match kept.lives().await {
                true => kept,
                false => self.anew().await?,
            },
        };
        if kept.has_old_plans() {
            match kept.db.execute("DISCARD PLANS").await {
                Ok(_) => kept.planned = Instant::now(),
                Err(_) => kept = self.anew().await?,
            }
        }
        Ok(Held { place, kept })
    }

    /// Boxed: it is rare, and larger than all that is done with the connection.
    fn anew(&self) -> BoxFuture<'_, Result<Kept, StoreError>> {
        Box::pin(Kept::open(&self.pool))
    }

    /// Since when its connection has been to the same server; nothing if there is none that lives.
    pub async fn opened(&self) -> Option<Instant> {
        let held = self.hold().await.ok()?;
        let opened = held.opened();
        held.done();
        Some(opened)
    }

    /// Waits for whoever has the connection, and begins a transaction.
    ///
    /// # Errors
    /// Database errors.
    pub async fn begin(&self) -> Result<Transaction<'_>, StoreError> {
        self.begin_by("BEGIN").await
    }

    /// As [`Self::begin`], with the switches locked against a change until the transaction ends: whoever
    /// throws one knows that no confirm is permitted after the switch's own commit. On the table, because
    /// locks on its rows would be written into them, and because a first throw has no row yet.
    ///
    /// # Errors
    /// Database errors.
    pub async fn begin_holding_switches(&self) -> Result<Transaction<'_>, StoreError> {
        self.begin_by("BEGIN; LOCK TABLE switches IN ROW SHARE MODE").await
    }

    /// As [`Self::begin_holding_switches`], for whoever may throw one: alone.
    ///
    /// # Errors
    /// Database errors.
    pub async fn begin_to_switch(&self) -> Result<Transaction<'_>, StoreError> {
        self.begin_by("BEGIN; LOCK TABLE switches IN EXCLUSIVE MODE").await
    }

    async fn begin_by(&self, statements: &'static str) -> Result<Transaction<'_>, StoreError> {
        let mut held = self.hold().await?;
        match held.execute(statements).await.map_err(StoreError::from) {
            Ok(_) => return Ok(Transaction(held)),
            Err(error) if error.is_of_the_connection() => drop(held),
            Err(error) => return Err(error),
        }
        // It had been lost since it was used; nothing was done.
        let mut held = self.hold().await?;
        held.execute(statements).await?;
        Ok(Transaction(held))
    }
}

/// The connection, outside of a transaction. Closed unless it is given back.
pub struct Held<'a> {
    place: MutexGuard<'a, Option<Kept>>,
    kept: Kept,
}

impl Held<'_> {
    /// Since when it has been to the same server.
    #[must_use]
    pub fn opened(&self) -> Instant {
        self.kept.since
    }

    /// Gives it back.
    pub fn done(self) {
        let Self { mut place, mut kept } = self;
        kept.used = Instant::now();
        *place = Some(kept);
    }
}

impl Deref for Held<'_> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.kept.db
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.kept.db
    }
}

/// An open transaction. Rolled back, with its connection closed, unless it is committed.
pub struct Transaction<'a>(Held<'a>);

impl Transaction<'_> {
    /// # Errors
    /// Database errors: it may or may not have been committed.
    pub async fn commit(mut self) -> Result<(), StoreError> {
        self.0.execute("COMMIT").await?;
        self.0.done();
        Ok(())
    }
}

impl Deref for Transaction<'_> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.0
    }
}

impl DerefMut for Transaction<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.0
    }
}
