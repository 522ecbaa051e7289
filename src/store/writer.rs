//! A connection that one writer keeps, for the few statements that it makes over and over: they are planned
//! once, not each time. A plan made while a table was small may be a bad one when it has grown (it reads the
//! whole table), so plans are thrown away whenever the connection is twice as old as when they were made, and
//! every minute in any case. One transaction at a time; whoever gives one up gives up the connection with it.

use super::{StoreError, pool};
use sqlx::{Connection, Executor, PgConnection, PgPool, Row, postgres::PgRow};
use std::{
    collections::BTreeMap,
    ops::{Deref, DerefMut},
    time::{Duration, Instant},
};
use time::OffsetDateTime;
use tokio::sync::{Mutex, MutexGuard};

/// The youngest age at which plans are thrown away: until then, next to nothing can have been written.
const FIRST_PLANS: Duration = Duration::from_millis(100);
/// No plan is older.
const OLDEST_PLANS: Duration = Duration::from_secs(60);

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
        let options = options.options([("plan_cache_mode", "force_generic_plan")]);
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
            None => Kept::open(&self.pool).await?,
            Some(mut kept) => match kept.lives().await {
                true => kept,
                false => Kept::open(&self.pool).await?,
            },
        };
        if kept.has_old_plans() {
            match kept.db.execute("DISCARD PLANS").await {
                Ok(_) => kept.planned = Instant::now(),
                Err(_) => kept = Kept::open(&self.pool).await?,
            }
        }
        Ok(Held { place, kept })
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

    /// As [`Self::begin_holding_switches`], with what they are, by the same round trip.
    ///
    /// # Errors
    /// Database errors.
    pub async fn begin_reading_switches(&self) -> Result<(Transaction<'_>, Switches), StoreError> {
        let (tx, rows) = self.begin_with(READING_SWITCHES).await?;
        Ok((tx, Switches::of(&rows)?))
    }

    /// As [`Self::begin_holding_switches`], for whoever may throw one: alone.
    ///
    /// # Errors
    /// Database errors.
    pub async fn begin_to_switch(&self) -> Result<Transaction<'_>, StoreError> {
        self.begin_by("BEGIN; LOCK TABLE switches IN EXCLUSIVE MODE").await
    }

    async fn begin_by(&self, statements: &'static str) -> Result<Transaction<'_>, StoreError> {
        Ok(self.begin_with(statements).await?.0)
    }

    async fn begin_with(
        &self,
        statements: &'static str,
    ) -> Result<(Transaction<'_>, Vec<PgRow>), StoreError> {
        let mut held = self.hold().await?;
        match sqlx::raw_sql(statements).fetch_all(&mut *held).await.map_err(StoreError::from) {
            Ok(rows) => return Ok((Transaction(held), rows)),
            Err(error) if error.is_of_the_connection() => drop(held),
            Err(error) => return Err(error),
        }
        // It had been lost since it was used; nothing was done.
        let mut held = self.hold().await?;
        let rows = sqlx::raw_sql(statements).fetch_all(&mut *held).await?;
        Ok((Transaction(held), rows))
    }
}

/// Without a parameter, so that it can be sent with what it comes after.
const READING_SWITCHES: &str = "BEGIN; LOCK TABLE switches IN ROW SHARE MODE;
    SELECT scope, confirms, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
    FROM (SELECT) AS now LEFT JOIN switches ON true";

/// The switches of confirms, as they are as long as a transaction holds them.
#[derive(Debug)]
pub struct Switches {
    /// Whether confirms are on, per scope that has a row.
    pub confirms: BTreeMap<String, bool>,
    /// By the database's clock, once they were held.
    pub now: OffsetDateTime,
}

impl Switches {
    fn of(rows: &[PgRow]) -> Result<Self, StoreError> {
        let (mut confirms, mut now) = (BTreeMap::new(), None);
        for row in rows {
            if let Some(scope) = row.try_get(0)? {
                confirms.insert(scope, row.try_get(1)?);
            }
            let micros: i64 = row.try_get(2)?;
            now = Some(OffsetDateTime::UNIX_EPOCH + time::Duration::microseconds(micros));
        }
        Ok(Self { confirms, now: now.ok_or(sqlx::Error::RowNotFound)? })
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
    /// Since when its connection has been to the same server.
    #[must_use]
    pub fn opened(&self) -> Instant {
        self.0.opened()
    }

    /// # Errors
    /// Database errors: it may or may not have been committed.
    pub async fn commit(self) -> Result<(), StoreError> {
        self.end("COMMIT").await
    }

    /// # Errors
    /// Database errors: it was not committed.
    pub async fn give_up(self) -> Result<(), StoreError> {
        self.end("ROLLBACK").await
    }

    async fn end(mut self, how: &'static str) -> Result<(), StoreError> {
        self.0.execute(how).await?;
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
