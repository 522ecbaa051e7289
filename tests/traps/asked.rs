//! Pike asks for a wait while calls that were claimed before are still waiting for their turn.

use crate::{
    egress::pike,
    peer::{Conduct, Peer, answer},
    support::{Database, order, project, rules},
};
use payoutd::{
    domain::policy::Mode,
    worker::{
        confirm::ConfirmSettings,
        effects::{EffectSettings, Effects},
        pace::PaceSettings,
    },
};
use std::{sync::Arc, time::Duration};

#[tokio::test]
async fn a_call_that_waits_for_its_turn_waits_for_what_pike_asked_too() {
    let database = Database::fresh().await;
    let engine = database.engine(rules(None)).await;
    let busy = answer("429 Too Many Requests\r\nretry-after: 30", "{}");
    let peer = Peer::start(|_| Conduct::Say(busy)).await;
    let settings = EffectSettings {
        lease: Duration::from_secs(60),
        retry_first: Duration::from_secs(60),
        retry_longest: Duration::from_secs(60),
        max_in_flight: 8,
        pace: PaceSettings {
            // The second call of a round has its turn a fifth of a second after the first.
            calls_per_second: 5,
            reads_per_second: 0,
            width: 8,
            breaker_failures: 1_000,
            breaker_pause: Duration::from_secs(1),
            breaker_longest: Duration::from_secs(1),
        },
        confirm: ConfirmSettings { rule_set: "test".to_owned(), max_age: Duration::from_secs(60) },
        mode: Mode::Everything,
        projects: vec![project()],
    };
    let pike = Arc::new(pike(&peer.url, Duration::from_secs(10)));
    let worker = Effects::new(database.pool.clone(), engine.clone(), pike, settings);
    for user in ["user-1", "user-2"] {
        engine.create(order(user)).await.unwrap();
    }
    assert_eq!(worker.run_once().await.unwrap(), 2, "both are claimed");
    assert_eq!(peer.heard(), 1, "the other was sent although Pike had asked for a wait");
    let waiting = "SELECT count(*) FROM effects WHERE lease_until IS NULL AND not_sent = 0";
    assert_eq!(database.number(waiting).await, 2, "both keep their places");
    assert_eq!(worker.run_once().await.unwrap(), 0, "and nothing is claimed meanwhile");
}
