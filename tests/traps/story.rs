//! Several events of one payout in one transaction: decided one after the other, written in that order.

use crate::support::{Database, is_done, paid, ready, rules, webhook};

#[tokio::test]
async fn a_batch_about_one_payout_is_written_in_order() {
    let database = Database::fresh().await;
    let engine = database.engine(rules(None)).await;
    let id = database.processing(&engine, "user-1", 1).await[0];
    let claims = database.claim_webhooks(5).await;
    let reports = [ready(id), ready(id), paid(id), ready(id), paid(id)];
    let batch = reports.into_iter().zip(claims).map(|(report, claim)| webhook(id, report, claim)).collect();
    assert!(engine.apply(batch).await.iter().all(is_done));

    let story = database.story(id).await;
    let told: Vec<_> = story.iter().map(|(seq, why, to)| (*seq, why.as_str(), to.as_str())).collect();
    assert_eq!(
        told,
        [
            (1, "created", "accepted"),
            (2, "session_created", "starting"),
            (3, "start_accepted", "processing"),
            (4, "rules_confirm", "confirming"),
            (5, "nothing_new", "confirming"),
            (6, "paid", "succeeded"),
            (7, "stale", "succeeded"),
            (8, "nothing_new", "succeeded"),
        ]
    );
    assert_eq!(database.number("SELECT version FROM payouts").await, 8);
    for (sql, count) in [
        ("SELECT count(*) FROM permits WHERE kind = 'confirm' AND released_at IS NULL", 1),
        ("SELECT count(*) FROM effects", 0),
        ("SELECT count(*) FROM notifications", 1),
        ("SELECT count(*) FROM decisions WHERE seq = 4", 1),
        ("SELECT count(*) FROM inbox WHERE done_at IS NOT NULL", 5),
        ("SELECT count(*) FROM payouts WHERE destination_secret IS NULL", 1),
    ] {
        assert_eq!(database.number(sql).await, count, "{sql}");
    }
}

/// What is polled and alarmed by how long it has been where it is.
#[tokio::test]
async fn a_phase_lasts_since_it_was_entered() {
    let database = Database::fresh().await;
    let engine = database.engine(rules(None)).await;
    let id = database.processing(&engine, "user-1", 1).await[0];
    let since = "SELECT extract(epoch FROM since - created_at)::float8 > 0 FROM payouts WHERE id = $1";
    let later: bool = sqlx::query_scalar(since).bind(id.0).fetch_one(&database.pool).await.unwrap();
    assert!(later, "it has moved on since it was created");
    let entered = "SELECT count(*) FROM payouts p JOIN history h ON h.payout_id = p.id AND h.at = p.since
        WHERE h.to_state = 'processing' AND h.from_state <> 'processing'";
    assert_eq!(database.number(entered).await, 1);
}
