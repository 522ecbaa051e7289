//! Deadlocks and lock time-outs end a transaction, not the event: it is applied again, and not for ever.

use crate::support::{Database, engine_on, is_done, ready, rules, until, webhook};
use payoutd::{
    domain::id::PayoutId,
    engine::{Engine, EngineError},
};
use sqlx::{PgConnection, PgPool, Row, postgres::PgPoolOptions};
use std::collections::BTreeSet;

/// An engine that waits for a lock only this long.
async fn impatient(database: &Database, lock_timeout: &'static str) -> Engine {
    let options: sqlx::postgres::PgConnectOptions = database.url.parse().unwrap();
    let options = options.application_name("impatient").options([("lock_timeout", lock_timeout)]);
    let pool: PgPool = PgPoolOptions::new().max_connections(2).connect_with(options).await.unwrap();
    engine_on(pool, rules(None))
}

async fn lock(holder: &mut PgConnection, id: PayoutId) {
    sqlx::query("SELECT 1 FROM payouts WHERE id = $1 FOR UPDATE").bind(id.0).execute(holder).await.unwrap();
}

/// The transaction of the impatient engine that waits for a lock now.
async fn waiting(db: &PgPool) -> Option<time::OffsetDateTime> {
    sqlx::query(
        "SELECT xact_start FROM pg_stat_activity WHERE datname = current_database()
         AND application_name = 'impatient' AND wait_event_type = 'Lock'",
    )
    .fetch_optional(db)
    .await
    .unwrap()
    .map(|row| row.get(0))
}

/// Whoever waited for a payout does not date its entry before the end of what it waited for.
#[tokio::test]
async fn an_entry_is_dated_after_the_lock_was_won() {
    let database = Database::fresh().await;
    let id = database.processing(&database.engine(rules(None)).await, "user-1", 1).await[0];
    let claim = database.claim_webhooks(1).await[0];
    let engine = impatient(&database, "60s").await;
    let mut holder = database.observer().await;
    sqlx::query("BEGIN").execute(&mut holder).await.unwrap();
    lock(&mut holder, id).await;
    let applying = tokio::spawn(async move { engine.apply(vec![webhook(id, ready(id), claim)]).await });
    until("it waits for the lock", async || waiting(&database.pool).await.is_some()).await;
    let held_until: time::OffsetDateTime =
        sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(&mut holder).await.unwrap();
    sqlx::query("ROLLBACK").execute(&mut holder).await.unwrap();
    assert!(is_done(&applying.await.unwrap()[0]));
    let dated: time::OffsetDateTime =
        sqlx::query_scalar("SELECT max(at) FROM history").fetch_one(&mut holder).await.unwrap();
    assert!(dated > held_until, "{dated} is before {held_until}");
}

#[tokio::test]
async fn a_lock_time_out_is_tried_again() {
    let database = Database::fresh().await;
    let id = database.processing(&database.engine(rules(None)).await, "user-1", 1).await[0];
    let claim = database.claim_webhooks(1).await[0];
    let engine = impatient(&database, "1s").await;
    let mut holder = database.observer().await;
    sqlx::query("BEGIN").execute(&mut holder).await.unwrap();
    lock(&mut holder, id).await;

    let applying = tokio::spawn(async move { engine.apply(vec![webhook(id, ready(id), claim)]).await });
    let seen = std::cell::RefCell::new(BTreeSet::new());
    until("a second transaction waits for the lock", async || {
        let now = waiting(&database.pool).await;
        let mut seen = seen.borrow_mut();
        seen.extend(now);
        seen.len() == 2
    })
    .await;
    sqlx::query("ROLLBACK").execute(&mut holder).await.unwrap();
    let applied = applying.await.unwrap();
    assert!(is_done(&applied[0]), "{applied:?}");
    assert_eq!(database.state(id).await, "confirming");
}

#[tokio::test]
async fn a_lock_that_is_never_given_up_ends_in_an_error_and_harms_nothing() {
    let database = Database::fresh().await;
    let id = database.processing(&database.engine(rules(None)).await, "user-1", 1).await[0];
    let claim = database.claim_webhooks(1).await[0];
    let engine = impatient(&database, "20ms").await;
    let mut holder = database.observer().await;
    sqlx::query("BEGIN").execute(&mut holder).await.unwrap();
    lock(&mut holder, id).await;
    let before = database.story(id).await;

    let refused = engine.apply(vec![webhook(id, ready(id), claim)]).await;
    let [Err(EngineError::Store(error))] = &refused[..] else { panic!("{refused:?}") };
    assert!(error.is_transient(), "{error}");
    assert_eq!(database.story(id).await, before);
    sqlx::query("ROLLBACK").execute(&mut holder).await.unwrap();
    assert!(is_done(&engine.apply(vec![webhook(id, ready(id), claim)]).await[0]));
}

#[tokio::test]
async fn a_deadlock_is_tried_again() {
    let database = Database::fresh().await;
    let mut ids = database.processing(&database.engine(rules(None)).await, "user-1", 2).await;
    ids.sort_unstable();
    let claims = database.claim_webhooks(2).await;
    let engine = impatient(&database, "30s").await;
    let mut holder = database.observer().await;
    // Whoever looks first for a circle is its victim: not the holder.
    sqlx::raw_sql("BEGIN; SET LOCAL deadlock_timeout = '60s'").execute(&mut holder).await.unwrap();
    lock(&mut holder, ids[1]).await;

    let batch: Vec<_> = ids.iter().zip(&claims).map(|(id, claim)| webhook(*id, ready(*id), *claim)).collect();
    let applying = tokio::spawn(async move { engine.apply(batch).await });
    until("the engine waits for the second payout", async || waiting(&database.pool).await.is_some()).await;
    // Closes the circle; granted when the engine's transaction has been ended as its victim.
    lock(&mut holder, ids[0]).await;
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    sqlx::query("COMMIT").execute(&mut holder).await.unwrap();

    let applied = applying.await.unwrap();
    assert!(applied.iter().all(is_done), "{applied:?}");
    // The victim's backend reports its statistics when it is idle again.
    until("the deadlock was counted", async || database.number(deadlocks).await == 1).await;
}
