//! A commit wakes whoever has to do with what it left, and nobody else. Wake-ups only save waiting, but
//! without them every step of every payout would wait for the next poll.

use crate::support::{Database, is_done, order, paid, ready, rules, webhook};
use futures_util::FutureExt;
use payoutd::engine::Engine;

/// Who was woken since this was asked last: callers of Pike, tellers of messages.
fn woken(engine: &Engine) -> (bool, bool) {
    let wake = engine.wake();
    let was = |notify: &tokio::sync::Notify| notify.notified().now_or_never().is_some();
    (was(&wake.effects), was(&wake.notifications))
}

#[tokio::test]
async fn a_commit_wakes_whoever_has_something_to_do() {
    let database = Database::fresh().await;
    let engine = database.engine(rules(None)).await;
    assert_eq!(woken(&engine), (false, false));
    let new = order("user-1");
    engine.create(new.clone()).await.unwrap();
    assert_eq!(woken(&engine), (true, false));
    engine.create(new).await.unwrap();
    assert_eq!(woken(&engine), (false, false), "it was there already");

    let id = database.processing(&engine, "user-2", 1).await[0];
    let claims = database.claim_webhooks(3).await;
    woken(&engine);
    let steps = [(ready(id), (true, false)), (ready(id), (false, false)), (paid(id), (false, true))];
    for ((report, expected), claim) in steps.into_iter().zip(claims) {
        assert!(is_done(&engine.apply(vec![webhook(id, report, claim)]).await[0]));
        assert_eq!(woken(&engine), expected);
    }
}
