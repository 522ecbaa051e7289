//! Pike asks for a wait while calls that were claimed before are still waiting for their turn.

use crate::{
    interrupted::paced_worker,
    peer::{Conduct, Peer, answer},
    support::{Database, order, rules},
};
use payoutd::worker::effects::Effects;

/// The second call of a round has its turn a fifth of a second after the first.
const PER_SECOND: u32 = 5;

async fn two_claimed(status: &str) -> (Database, Effects, Peer) {
    let database = Database::fresh().await;
    let engine = database.engine(rules(None)).await;
    let busy = Conduct::Say(answer(status, "{}"));
    let (worker, peer) = paced_worker(&database, &engine, busy, 8, PER_SECOND).await;
    for user in ["user-1", "user-2"] {
        engine.create(order(user)).await.unwrap();
    }
    assert_eq!(worker.run_once().await.unwrap(), 2, "both are claimed");
    (database, worker, peer)
}

#[tokio::test]
async fn a_call_that_waits_for_its_turn_waits_for_what_pike_asked_too() {
    let (database, worker, peer) = two_claimed("429 Too Many Requests\r\nretry-after: 30").await;
    assert_eq!(peer.heard(), 1, "the other was sent although Pike had asked for a wait");
    let waiting = "SELECT count(*) FROM effects WHERE lease_until IS NULL AND not_sent = 0";
    assert_eq!(database.number(waiting).await, 2, "both keep their places");
    assert_eq!(worker.run_once().await.unwrap(), 0, "and nothing is claimed meanwhile");
}

/// Where Pike fails half of the time, most calls would never have their turn.
#[tokio::test]
async fn what_it_did_not_ask_for_holds_only_for_what_is_claimed_later() {
    let (_database, _worker, peer) = two_claimed("503 Service Unavailable").await;
    assert_eq!(peer.heard(), 2);
}
