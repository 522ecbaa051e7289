//! Payouts that share a transaction share nothing else.

use crate::support::{AMOUNT, Database, is_done, not_paid, order, paid, project, ready, rules, webhook};
use futures_util::future::join_all;
use payoutd::{
    domain::id::ProjectId,
    engine::{CreateRefusal, Created, EngineError},
};

/// Orders that come at the same time are stored together, unless one of them cannot be stored at all.
#[tokio::test]
async fn an_order_that_cannot_be_stored_harms_no_other() {
    let database = Database::fresh().await;
    let engine = database.engine(rules(None)).await;
    let mut orders: Vec<_> = (0..5).map(|n| order(&format!("user-{n}"))).collect();
    // No text in Postgres holds it; whoever takes orders from outside refuses it by name.
    orders[2].order.recipient_name = "An\0na".to_owned();
    let created = join_all(orders.into_iter().map(|order| engine.create(order))).await;
    for (at, created) in created.iter().enumerate() {
        match created {
            Ok(Created::New(_)) => assert_ne!(at, 2),
            Err(EngineError::Store(_)) => assert_eq!(at, 2),
            other => panic!("{other:?}"),
        }
    }
    let later = "SELECT count(*) FROM payouts WHERE next_check_at > now()";
    assert_eq!(database.number(later).await, 4, "nobody has to look at them yet");
}

/// What one payout does not want any more another may.
#[tokio::test]
async fn the_end_of_one_payout_takes_no_call_of_another() {
    let database = Database::fresh().await;
    let engine = database.engine(rules(None)).await;
    let ids = database.processing(&engine, "user-1", 2).await;
    let claims = database.claim_webhooks(2).await;
    let batch = vec![webhook(ids[0], ready(ids[0]), claims[0]), webhook(ids[1], not_paid(ids[1]), claims[1])];
    assert!(engine.apply(batch).await.iter().all(is_done));
    assert_eq!(database.state(ids[0]).await, "confirming");
    assert_eq!(database.state(ids[1]).await, "failed");
    assert_eq!(database.number("SELECT count(*) FROM effects WHERE kind = 'confirm'").await, 1);
}

/// Each caller is told who has the reference that they asked for, not who has another one.
#[tokio::test]
async fn a_reference_that_is_taken_names_the_payout_that_has_it() {
    let database = Database::fresh().await;
    let engine = database.engine(rules(None)).await;
    let with = |reference: &str| {
        let mut new = order("user-1");
        new.order.reference = Some(reference.to_owned());
        new
    };
    let first = [with("a"), with("b")];
    let holders = [first[0].id, first[1].id];
    assert!(join_all(first.map(|new| engine.create(new))).await.iter().all(Result::is_ok));
    let again = join_all([with("a"), with("b")].map(|new| engine.create(new))).await;
    for (created, holder) in again.into_iter().zip(holders) {
        let Ok(Created::Refused(CreateRefusal::ReferenceTaken(named))) = created else {
            panic!("{created:?}")
        };
        assert_eq!(named, holder);
    }
}

/// One that is only counted must not hide one that is enough by itself.
#[tokio::test]
async fn the_worst_anomaly_of_a_batch_stops_the_line() {
    let database = Database::fresh().await;
    let engine = database.engine(rules(None)).await;
    let ids = database.processing(&engine, "user-1", 2).await;
    let claims = database.claim_webhooks(2).await;
    let mut other_amount = ready(ids[0]);
    other_amount.payouts[0].amount_minor = Some(AMOUNT + 1);
    let batch = vec![webhook(ids[0], other_amount, claims[0]), webhook(ids[1], paid(ids[1]), claims[1])];
    assert!(engine.apply(batch).await.iter().all(is_done));
    let off = "SELECT count(*) FROM switches WHERE scope = 'demo' AND NOT confirms";
    assert_eq!(database.number(off).await, 1);
    let told = "SELECT payout_id FROM history WHERE detail LIKE '%switched off%'";
    let told: Vec<uuid::Uuid> = sqlx::query_scalar(told).fetch_all(&database.pool).await.unwrap();
    assert_eq!(told, [ids[1].0], "the one that did it says so");
}

/// A session that was created here is known without asking, in its own project and once it is committed.
#[tokio::test]
async fn a_session_is_known_once_its_payout_has_it() {
    let database = Database::fresh().await;
    let engine = database.engine(rules(None)).await;
    let Created::New(stored) = engine.create(order("user-1")).await.unwrap() else { panic!() };
    let id = stored.payout.id;
    let session = ready(id).session;
    assert_eq!(engine.whose(&project(), &session), None);
    database.starting(&engine, id).await;
    assert_eq!(engine.whose(&project(), &session), Some(id));
    assert_eq!(engine.whose(&ProjectId("other".to_owned()), &session), None);
    assert_eq!(database.engine(rules(None)).await.whose(&project(), &session), None, "another process");
}
