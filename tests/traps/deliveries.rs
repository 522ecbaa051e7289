//! An endpoint that answers slowly delays its own project's notifications only.

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
    store::notifications::{self, NewNotification},
    worker::notify::{Notifications, NotifySettings},
};
use secrecy::ExposeSecret;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::sync::Notify;
use uuid::Uuid;

const LONG: Duration = Duration::from_secs(300);
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
    };
    let messages: Vec<_> = (0..messages).map(message).collect();
    let mut tx = database.pool.begin().await.unwrap();
    notifications::insert(&mut tx, &messages).await.unwrap();
    tx.commit().await.unwrap();
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
    let notifier = Notifier::new(endpoints, LONG, PrivateAddresses::Allowed).unwrap();
    let settings =
        NotifySettings { lease: LONG, retry_first: LONG, retry_longest: LONG, give_up_after: LONG };
    let wake = Arc::new(Notify::new());
    let worker = Notifications::new(database.pool.clone(), Arc::new(notifier), Clock, settings, wake.clone());
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
