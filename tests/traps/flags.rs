//! A flag that was taken off is off, whoever did it: what comes again after that is told again.

use crate::support::{AMOUNT, Database, is_done, ready, rules, webhook};
use payoutd::{
    domain::{id::PayoutId, session::SessionReport},
    store::payouts,
};

fn wrong_amount(id: PayoutId) -> SessionReport {
    let mut report = ready(id);
    report.payouts[0].amount_minor = Some(AMOUNT + 1);
    report
}

/// The release before knows nothing of `raised`, and leaves it behind.
#[tokio::test]
async fn what_an_older_release_took_off_is_raised_again() {
    let database = Database::fresh().await;
    let engine = database.engine(rules(None)).await;
    let id = database.processing(&engine, "user-1", 1).await[0];
    let claims = database.claim_webhooks(3).await;
    let anomalies = async || database.number("SELECT count(*) FROM anomalies").await;
    for claim in &claims[..2] {
        assert!(is_done(&engine.apply(vec![webhook(id, wrong_amount(id), *claim)]).await[0]));
    }
    assert_eq!(anomalies().await, 1, "told once, however often it is shown");

    database.run("UPDATE payouts SET anomaly = NULL WHERE id = $1", id).await.unwrap();
    assert_eq!(database.number("SELECT count(*) FROM payouts WHERE raised <> '{}'").await, 1);
    let mut db = database.pool.acquire().await.unwrap();
    assert!(payouts::read(&mut db, &[id]).await.unwrap()[0].payout.raised.is_empty());
    assert!(is_done(&engine.apply(vec![webhook(id, wrong_amount(id), claims[2])]).await[0]));
    assert_eq!(anomalies().await, 2);
    assert_eq!(database.number("SELECT count(*) FROM payouts WHERE anomaly IS NOT NULL").await, 1);
}
