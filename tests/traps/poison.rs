//! One event that cannot be written must not take the others of its batch with it.

use crate::support::{Database, is_done, ready, rules, webhook};
use payoutd::{
    domain::{id::PayoutId, session::SessionReport},
    engine::{Engine, EngineError},
    worker::sweep::{PaidLooks, Sweep},
};

/// Applies a batch of five in which the middle one was poisoned by hand.
async fn batch_with(poison: &'static str, constraint: &str) {
    let database = Database::fresh().await;
    let engine = database.engine(rules(None)).await;
    let ids = database.processing(&engine, "user-1", 5).await;
    database.run(poison, ids[2]).await.unwrap();
    let reports = ids.iter().map(|id| ready(*id)).collect();
    the_middle_fails(&database, &engine, &ids, reports, constraint).await;
}

async fn the_middle_fails(
    database: &Database,
    engine: &Engine,
    ids: &[PayoutId],
    reports: Vec<SessionReport>,
    why: &str,
) {
    let claims = database.claim_webhooks(5).await;
    let told = ids.iter().zip(reports).zip(&claims);
    let batch = told.map(|((id, report), claim)| webhook(*id, report, *claim)).collect();
    let applied = engine.apply(batch).await;
    for (at, (id, applied)) in ids.iter().zip(&applied).enumerate() {
        if at == 2 {
            let Err(EngineError::Store(error)) = applied else { panic!("{applied:?}") };
            assert!(error.to_string().contains(why), "{error}");
            untouched(database, *id, claims[2].id).await;
        } else {
            assert!(is_done(applied), "{applied:?}");
            assert_eq!(database.state(*id).await, "confirming");
        }
    }
    let done = "SELECT count(*) FROM inbox WHERE done_at IS NOT NULL";
    assert_eq!(database.number(done).await, 4);
    assert_eq!(database.number("SELECT count(*) FROM permits WHERE kind = 'confirm'").await, 4);
}

/// Nothing of it was written, and its webhook will come back.
async fn untouched(database: &Database, id: PayoutId, inbox: i64) {
    assert_eq!(database.state(id).await, "processing");
    let open: bool = sqlx::query_scalar("SELECT done_at IS NULL FROM inbox WHERE id = $1")
        .bind(inbox)
        .fetch_one(&database.pool)
        .await
        .unwrap();
    assert!(open);
}

#[tokio::test]
async fn a_history_number_that_is_taken_harms_no_other_event() {
    let taken = "INSERT INTO history (payout_id, seq, at, event, decision, reason, to_state)
                 SELECT id, version + 1, now(), 'by hand', 'move', 'by_hand', state
                 FROM payouts WHERE id = $1";
    batch_with(taken, "history_pkey").await;
}

#[tokio::test]
async fn a_permit_that_is_given_already_harms_no_other_event() {
    let given = "INSERT INTO permits (payout_id, kind, bound_to, rule_set, decided_at, project_id,
                     customer_reference, currency, amount_minor)
                 SELECT id, 'cancel', '', 'by hand', now(), project_id, customer_reference, currency,
                     amount_minor FROM payouts WHERE id = $1";
    batch_with(given, "permits_pkey").await;
}

/// No constraint, and no row yet: Postgres refuses the whole batch's rows while it reads them. (Reading what
/// Pike tells takes this sign out.)
#[tokio::test]
async fn a_row_that_postgres_cannot_read_harms_no_other_event() {
    let database = Database::fresh().await;
    let engine = database.engine(rules(None)).await;
    let ids = database.processing(&engine, "user-1", 5).await;
    let mut reports: Vec<SessionReport> = ids.iter().map(|id| ready(*id)).collect();
    reports[2].payouts[0].facts.rrn = Some("50\u{0}63".to_owned());
    the_middle_fails(&database, &engine, &ids, reports, "invalid byte sequence").await;
}

/// Nor does one that cannot even be read keep others from being looked at, or the sweeper busy.
#[tokio::test]
async fn a_due_payout_that_cannot_be_read_keeps_nobody_waiting() {
    let database = Database::fresh().await;
    let engine = database.engine(rules(None)).await;
    let ids = database.processing(&engine, "user-1", 3).await;
    let poison = "UPDATE payouts SET currency = 'QQQ' WHERE id = $1";
    database.run(poison, ids[1]).await.unwrap();
    sqlx::query("UPDATE payouts SET next_check_at = now()").execute(&database.pool).await.unwrap();
    let sweep = Sweep::new(database.pool.clone(), engine, PaidLooks::new(vec![], 0));
    assert_eq!(sweep.round().await.unwrap(), 0, "and the next round waits");
    assert_eq!(database.number("SELECT count(*) FROM effects WHERE kind = 'read_status'").await, 2);
    let due = "SELECT count(*) FROM payouts WHERE next_check_at <= now() AND currency = 'QQQ'";
    assert_eq!(database.number(due).await, 1, "it is not forgotten");
    assert_eq!(sweep.round().await.unwrap(), 0, "it is left aside for a while");
}
