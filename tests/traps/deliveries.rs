//! An endpoint that answers slowly delays its own project's notifications only; what one never takes is given
//! up, visibly.

use crate::{
    peer::{Conduct, Peer, answer},
    support::{Database, order, rules, until},
};
use payoutd::{
    clock::Clock,
    domain::id::ProjectId,
    engine::{Created, Engine},
    keys,
    notify::{Endpoint, Notifier, PrivateAddresses, Secret},
    store::{
        notifications::{self, Delivery, NewNotification, Settled},
        steps::{self, Steps},
    },
    worker::notify::{Notifications, NotifySettings},
};
use secrecy::ExposeSecret;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::sync::Notify;
use uuid::Uuid;

const LONG: Duration = Duration::from_secs(300);
/// How long a delivery may take that nobody answers.
const PATIENCE: Duration = Duration::from_secs(5);
/// More than are claimed in one round.
const SLOW_MESSAGES: i64 = 100;

async fn tell(database: &Database, engine: &Engine, project: &str, messages: i64) {
    let project = ProjectId(project.to_owned());
    let mut new = order("user-1");
    new.project = project.clone();
    let Created::New(stored) = engine.create(new).await.unwrap() else { panic!() };
    let message = |seq| NewNotification {
        id: Uuid::now_v7(),
        project: project.clone(),
        payout: stored.payout.id,
        seq,
        kind: "payout.succeeded".to_owned(),
        payload: "{}".to_owned(),
        at: stored.created_at,
        lease: None,
    };
    let messages: Vec<_> = (0..messages).map(message).collect();
    let mut tx = database.pool.begin().await.unwrap();
    steps::write(&mut tx, &Steps { notifications: &messages, ..Steps::default() }, None).await.unwrap();
    tx.commit().await.unwrap();
}

/// A worker with one endpoint.
fn worker(database: &Database, engine: &Engine, peer: &Peer, give_up_after: Duration) -> Notifications {
    let secret = Secret::parse(keys::new_notify_secret().unwrap().expose_secret()).unwrap();
    let endpoint = Endpoint { url: peer.url.clone(), secret };
    let endpoints = BTreeMap::from([(ProjectId("deaf".to_owned()), endpoint)]);
    let notifier = Notifier::new(endpoints, LONG, PrivateAddresses::Allowed).unwrap();
    let settings = NotifySettings { lease: LONG, retry_first: LONG, retry_longest: LONG, give_up_after };
    Notifications::new(
        database.pool.clone(),
        engine.clone(),
        Arc::new(notifier),
        Clock,
        settings,
        Arc::default(),
    )
}

/// For as long as it is not old it comes back; then it stays, undelivered and with the reason.
#[tokio::test]
async fn what_nobody_takes_is_given_up_visibly() {
    for (give_up_after, coming_back) in [(LONG, 1), (Duration::ZERO, 0)] {
        let database = Database::fresh().await;
        let engine = database.engine(rules(None)).await;
        let peer = Peer::start(|_| Conduct::Say(answer("500 Oops", ""))).await;
        tell(&database, &engine, "deaf", 1).await;
        let worker = worker(&database, &engine, &peer, give_up_after);
        assert_eq!(worker.start_some().await.unwrap(), 1);
        worker.finish().await;
        for (sql, count) in [
            ("SELECT count(*) FROM notifications WHERE due_at IS NOT NULL", coming_back),
            ("SELECT count(*) FROM notifications WHERE delivered_at IS NOT NULL", 0),
            ("SELECT count(*) FROM notifications WHERE last_error LIKE '%500%' AND attempts = 1", 1),
        ] {
            assert_eq!(database.number(sql).await, count, "{give_up_after:?}: {sql}");
        }
        assert_eq!((worker.start_some().await.unwrap(), peer.heard()), (0, 1));
    }
}

#[tokio::test]
async fn a_slow_endpoint_delays_nobody_elses_notifications() {
    let database = Database::fresh().await;
    let engine = database.engine(rules(None)).await;
    let slow = Peer::start(|_| Conduct::Drip(b"HTTP/1.1 200 OK\r\nx: ".to_vec())).await;
    let good = Peer::start(|_| Conduct::Say(answer("200 OK", ""))).await;
    let secret = Secret::parse(keys::new_notify_secret().unwrap().expose_secret()).unwrap();
    let endpoint = |peer: &Peer| Endpoint { url: peer.url.clone(), secret: secret.clone() };
    let endpoints = BTreeMap::from([
        (ProjectId("slow".to_owned()), endpoint(&slow)),
        (ProjectId("good".to_owned()), endpoint(&good)),
    ]);
    let notifier = Notifier::new(endpoints, PATIENCE, PrivateAddresses::Allowed).unwrap();
    let settings =
        NotifySettings { lease: LONG, retry_first: LONG, retry_longest: LONG, give_up_after: LONG };
    let wake = Arc::new(Notify::new());
    let worker = Notifications::new(
        database.pool.clone(),
        engine.clone(),
        Arc::new(notifier),
        Clock,
        settings,
        wake.clone(),
    );
    tell(&database, &engine, "slow", SLOW_MESSAGES).await;
    tell(&database, &engine, "good", 1).await;
    until("the good endpoint was told", async || {
        worker.start_some().await.unwrap();
        let told =
            "SELECT count(*) FROM notifications WHERE project_id = 'good' AND delivered_at IS NOT NULL";
        database.number(told).await == 1
    })
    .await;
    let claimed = "SELECT count(*) FROM notifications WHERE project_id = 'slow' AND lease_until IS NOT NULL";
    let waiting = database.number(claimed).await;
    assert!(waiting > 0 && waiting < SLOW_MESSAGES, "{waiting} are with the slow endpoint");
    tokio::time::timeout(LONG, wake.notified()).await.expect("the delivery's end wakes the loop");
}

/// A lost connection has it written down twice.
#[tokio::test]
async fn a_delivery_is_written_down_once() {
    let database = Database::fresh().await;
    let engine = database.engine(rules(None)).await;
    tell(&database, &engine, "deaf", 1).await;
    let mut db = database.pool.acquire().await.unwrap();
    let claimed = notifications::claim(&mut db, 1, LONG, &[]).await.unwrap().remove(0);
    let delivery = Delivery::Retry(LONG, "a 500".to_owned());
    let settled = [Settled { id: claimed.id, fence: claimed.fence, delivery }];
    for _ in 0..2 {
        steps::write(&mut db, &Steps { settled: &settled, ..Steps::default() }, None).await.unwrap();
        assert_eq!(database.number("SELECT sum(attempts) FROM notifications").await, 1);
    }
}
