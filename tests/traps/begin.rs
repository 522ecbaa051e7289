//! A future dropped inside `pool.begin()` leaves a transaction open on a connection that goes back into the
//! pool; what the next borrower writes is acknowledged and then lost. The pool's guard ends it.

use crate::support::Database;
use payoutd::store::pool::guarded;
use sqlx::{PgConnection, PgPool, postgres::PgPoolOptions};
use std::{future::poll_fn, task::Poll};

/// Without the guard the first loss comes within the first few rounds.
const ROUNDS: i32 = 300;
/// From before the connection is there to after the transaction has begun.
const POLLS: i32 = 6;

/// Begins a transaction and goes away after so many looks at it, like a handler whose client hangs up.
async fn begin_and_go(pool: &PgPool, polls: i32) {
    let mut begin = Box::pin(pool.begin());
    let mut left = polls;
    poll_fn(|context| {
        if left == 0 || begin.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        left -= 1;
        if left == 0 { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// How many of the rows that the pool acknowledged nobody else can see. Stops at `enough`.
async fn lost(pool: &PgPool, observer: &mut PgConnection, enough: usize) -> usize {
    let mut lost = 0;
    for round in 0..ROUNDS {
        begin_and_go(pool, round % POLLS).await;
        sqlx::query("INSERT INTO kept VALUES ($1)").bind(round).execute(pool).await.unwrap();
        let seen: bool = sqlx::query_scalar("SELECT exists(SELECT 1 FROM kept WHERE id = $1)")
            .bind(round)
            .fetch_one(&mut *observer)
            .await
            .unwrap();
        lost += usize::from(!seen);
        if lost == enough {
            break;
        }
    }
    lost
}

#[tokio::test]
async fn a_cancelled_begin_loses_nothing_with_the_guard_and_something_without() {
    let database = Database::fresh().await;
    sqlx::query("CREATE TABLE kept (id integer)").execute(&database.pool).await.unwrap();
    let mut observer = database.observer().await;

    // One connection, so that the next borrower is sure to get the one that was left.
    let plain = PgPoolOptions::new().max_connections(1).connect(&database.url).await.unwrap();
    let without = lost(&plain, &mut observer, 1).await;
    plain.close().await;
    assert!(without > 0, "the trap is gone: this test no longer shows that the guard is needed");

    sqlx::query("TRUNCATE kept").execute(&mut observer).await.unwrap();
    let safe = guarded(PgPoolOptions::new()).max_connections(1).connect(&database.url).await.unwrap();
    let with = lost(&safe, &mut observer, usize::MAX).await;
    assert_eq!(with, 0, "acknowledged, and lost");
}
