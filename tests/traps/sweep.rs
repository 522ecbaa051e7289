//! What is due at once must not keep what is more urgent waiting: neither paid payouts the open ones, nor
//! payouts that cannot be applied those that can.

use crate::support::{Database, is_done, paid, project, ready, rules, webhook};
use payoutd::{
    domain::id::PayoutId,
    engine::{Engine, MAX_BATCH},
    store::payouts,
    worker::sweep::{PaidLooks, Sweep},
};

const PER_SECOND: u32 = 5;
/// Two seconds' worth of reads.
const FEW: i64 = 10;
const READS: &str = "SELECT count(*) FROM effects WHERE kind = 'read_status'";

fn sweep(database: &Database, engine: &Engine) -> Sweep {
    Sweep::new(database.pool.clone(), engine.clone(), PaidLooks::new(vec![project()], PER_SECOND))
}

/// Copies a payout so many times, each under names of its own; all of them have been due for an hour.
async fn copies(database: &Database, id: PayoutId, count: i32) {
    let sql = "INSERT INTO payouts SELECT (jsonb_populate_record(p, jsonb_build_object(
            'id', gen_random_uuid(), 'idempotency_key', 'copy ' || gen_random_uuid(),
            'session_id', 'ps_' || gen_random_uuid(), 'next_check_at', now() - interval '1 hour'))).*
        FROM payouts p, generate_series(1, $2) WHERE p.id = $1";
    sqlx::query(sql).bind(id.0).bind(count).execute(&mut database.observer().await).await.unwrap();
    sqlx::raw_sql("ANALYZE payouts").execute(&database.pool).await.unwrap();
}

async fn becomes_due(database: &Database, id: PayoutId) {
    database.run("UPDATE payouts SET next_check_at = now() WHERE id = $1", id).await.unwrap();
}

async fn read_waits(database: &Database, id: PayoutId) -> bool {
    let sql = "SELECT exists(SELECT FROM effects WHERE payout_id = $1 AND kind = 'read_status')";
    sqlx::query_scalar(sql).bind(id.0).fetch_one(&database.pool).await.unwrap()
}

/// A paid payout with so many copies, and an open one that is due after all of them.
async fn many_paid(database: &Database, engine: &Engine, count: i32) -> PayoutId {
    let ids = database.processing(engine, "user-1", 2).await;
    let claims = database.claim_webhooks(2).await;
    for (report, claim) in [ready(ids[0]), paid(ids[0])].into_iter().zip(claims) {
        assert!(is_done(&engine.apply(vec![webhook(ids[0], report, claim)]).await[0]));
    }
    copies(database, ids[0], count).await;
    becomes_due(database, ids[1]).await;
    ids[1]
}

#[tokio::test]
async fn an_open_payout_does_not_wait_behind_paid_ones() {
    let database = Database::fresh().await;
    let engine = database.engine(rules(None)).await;
    let open = many_paid(&database, &engine, 1_000).await;
    let sweep = sweep(&database, &engine);
    sweep.run_once().await.unwrap();
    assert!(read_waits(&database, open).await);
    // However often it looks: no more paid ones join while so many reads wait.
    for _ in 0..5 {
        assert_eq!(database.number(READS).await, FEW + 1);
        sweep.run_once().await.unwrap();
    }
    // And they do go on when there is room again.
    sqlx::raw_sql("DELETE FROM effects").execute(&database.pool).await.unwrap();
    sweep.run_once().await.unwrap();
    assert!((FEW..=FEW + 1).contains(&database.number(READS).await));
    let looked = "SELECT count(*) FROM payouts WHERE idempotency_key LIKE 'copy %' AND next_check_at > now()";
    assert_eq!(database.number(looked).await, 2 * FEW);
}

/// This is asked every second, so it must not pass over what it does not take.
#[tokio::test]
async fn looking_for_what_is_due_touches_few_rows() {
    let database = Database::fresh().await;
    let engine = database.engine(rules(None)).await;
    let open = many_paid(&database, &engine, 4_000).await;
    copies(&database, open, 4_000).await;
    // Many that are open and not due, and many paid ones of another project that have been due for longer.
    let others = "UPDATE payouts SET next_check_at = now() + interval '1 hour'
        WHERE state = 'processing' AND idempotency_key LIKE 'copy %';
        UPDATE payouts SET project_id = 'other', next_check_at = next_check_at - interval '1 hour'
        WHERE state = 'succeeded' AND idempotency_key BETWEEN 'copy 0' AND 'copy 8';
        ANALYZE payouts";
    sqlx::raw_sql(others).execute(&mut database.observer().await).await.unwrap();
    let touched =
        "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'payouts'";
    let mut tx = database.pool.begin().await.unwrap();
    let due = payouts::due(&mut tx, 128, &[]).await.unwrap();
    let paid = payouts::due_paid(&mut tx, 127, &[], &[project()], FEW).await.unwrap();
    assert_eq!(due.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [open]);
    assert_eq!(paid.len(), 10);
    let touched: i64 = sqlx::query_scalar(touched).fetch_one(&mut *tx).await.unwrap();
    assert!(touched < 200, "{touched} rows");
}

/// Rows that no code of ours could have written, more of them than a batch holds.
#[tokio::test]
async fn payouts_that_cannot_be_applied_let_the_others_through() {
    let database = Database::fresh().await;
    let engine = database.engine(rules(None)).await;
    let ids = database.processing(&engine, "user-1", 2).await;
    let later = "UPDATE payouts SET next_check_at = now() + interval '1 hour' WHERE id = $1";
    database.run(later, ids[0]).await.unwrap();
    copies(&database, ids[0], i32::try_from(MAX_BATCH).unwrap() + 5).await;
    let poison = "UPDATE payouts SET anomaly = 'never heard' WHERE idempotency_key LIKE 'copy %'";
    sqlx::raw_sql(poison).execute(&database.pool).await.unwrap();
    becomes_due(&database, ids[1]).await;
    let sweep = sweep(&database, &engine);
    assert_eq!(sweep.run_once().await.unwrap(), MAX_BATCH, "these fail");
    assert!(!read_waits(&database, ids[1]).await);
    assert_eq!(sweep.run_once().await.unwrap(), 6);
    assert!(read_waits(&database, ids[1]).await);
    database.run(later, ids[1]).await.unwrap();
    assert_eq!(sweep.run_once().await.unwrap(), 0, "and they are left alone for a while");
}
