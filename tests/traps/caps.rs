//! A cap across payouts holds however many of them become ready at once, on however many replicas.

use crate::support::{AMOUNT, Database, is_done, not_paid, ready, rules, webhook};
use payoutd::{domain::id::PayoutId, engine::Engine};

const CAP: i64 = 5 * AMOUNT + 1;
const PAYOUTS: usize = 20;
/// Each has a cap of his own, and each is another chance for two transactions to meet.
const RECIPIENTS: [&str; 4] = ["user-1", "user-2", "user-3", "user-4"];
const PERMITTED: &str = "SELECT coalesce(sum(amount_minor), 0)::bigint FROM permits
                         WHERE kind = 'confirm' AND released_at IS NULL";

async fn in_state(database: &Database, ids: &[PayoutId], state: &str) -> Vec<PayoutId> {
    let mut found = vec![];
    for id in ids {
        if database.state(*id).await == state {
            found.push(*id);
        }
    }
    found
}

/// All payouts of one recipient become ready at once, over two replicas. Those that were permitted.
async fn rush(database: &Database, engines: &[Engine; 2], recipient: &str) -> Vec<PayoutId> {
    let ids = database.processing(&engines[0], recipient, PAYOUTS).await;
    let claims = database.claim_webhooks(PAYOUTS).await;
    let all_at_once: Vec<_> = ids
        .iter()
        .zip(claims)
        .enumerate()
        .map(|(number, (&id, claim))| {
            let engine = engines[number % 2].clone();
            // Not `submit`: that would make one transaction of many.
            tokio::spawn(async move { engine.apply(vec![webhook(id, ready(id), claim)]).await })
        })
        .collect();
    for applied in all_at_once {
        assert!(is_done(&applied.await.unwrap()[0]));
    }
    let permitted = in_state(database, &ids, "confirming").await;
    assert_eq!(permitted.len(), 5, "as many as fit and no more");
    assert_eq!(in_state(database, &ids, "cancelling").await.len(), PAYOUTS - 5);
    permitted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daily_cap_holds_over_replicas_and_is_given_back() {
    let database = Database::fresh().await;
    let engines = [database.engine(rules(Some(CAP))).await, database.engine(rules(Some(CAP))).await];
    let mut permitted = vec![];
    for recipient in RECIPIENTS {
        permitted = rush(&database, &engines, recipient).await;
    }
    assert_eq!(database.number(PERMITTED).await, 4 * 5 * AMOUNT);

    // What ended unpaid counts no longer; what may still be paid does.
    let (unpaid, claim) = (permitted[0], database.claim_webhooks(1).await[0]);
    assert!(is_done(&engines[0].apply(vec![webhook(unpaid, not_paid(unpaid), claim)]).await[0]));
    assert_eq!(database.state(unpaid).await, "failed");
    assert_eq!(database.number(PERMITTED).await, (4 * 5 - 1) * AMOUNT);

    // Both in one transaction: the first of them fills the cap for the second.
    let next = database.processing(&engines[0], RECIPIENTS[3], 2).await;
    let claims = database.claim_webhooks(2).await;
    let batch = next.iter().zip(claims).map(|(&id, claim)| webhook(id, ready(id), claim)).collect();
    assert!(engines[1].apply(batch).await.iter().all(is_done));
    assert_eq!(database.state(next[0]).await, "confirming");
    assert_eq!(database.state(next[1]).await, "cancelling");
    assert_eq!(database.number(PERMITTED).await, 4 * 5 * AMOUNT);
}

/// What was not permitted takes nothing of what may be.
#[tokio::test]
async fn a_payout_that_is_flagged_leaves_the_cap_to_the_next_of_its_batch() {
    let database = Database::fresh().await;
    let engine = database.engine(rules(Some(AMOUNT))).await;
    let ids = database.processing(&engine, "user-1", 2).await;
    let claims = database.claim_webhooks(2).await;
    let mut other_amount = ready(ids[0]);
    other_amount.payouts[0].amount_minor = Some(AMOUNT + 1);
    let batch = vec![webhook(ids[0], other_amount, claims[0]), webhook(ids[1], ready(ids[1]), claims[1])];
    assert!(engine.apply(batch).await.iter().all(is_done));
    assert_eq!(database.state(ids[1]).await, "confirming");
}
