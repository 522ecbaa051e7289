//! Webhooks: signed, repeated until 200, given up at the end of the schedule.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;

use crate::support::{World, until};

#[tokio::test]
async fn only_two_hundred_counts() {
    let world = World::open_with(|settings| settings.timing.clock_factor = 2000.0).await;
    world.sink.refuse_next.store(3, Ordering::SeqCst);
    let id = world.started("tok_success_1").await;
    world.sink.wait(&id, "ready_to_confirm", 1).await;
    assert_eq!(world.sink.refused.load(Ordering::SeqCst), 3);
    assert_eq!(world.sink.forged.load(Ordering::SeqCst), 0);
    let attempts = until("the fourth attempt in the ledger", || async {
        let events = world.get(&format!("/_sandbox/ledger/events?session={id}")).await;
        let events = events["events"].as_array().unwrap().clone();
        let receptions: Vec<_> = events
            .iter()
            .filter_map(|event| event["event"].get("webhook"))
            .map(|webhook| webhook["reception"]["http"].as_u64().unwrap())
            .collect();
        (receptions.len() == 4).then_some(receptions)
    });
    assert_eq!(attempts.await, [202, 202, 202, 200]);
}

#[tokio::test]
async fn the_schedule_ends() {
    let world = World::open_with(|settings| {
        settings.timing.webhook_retry = vec![Duration::ZERO, Duration::from_millis(5)];
    });
    let world = world.await;
    world.sink.refuse_next.store(2, Ordering::SeqCst);
    let id = world.started("tok_success_1").await;
    let totals = until("giving up", || async {
        let totals = world.get("/_sandbox/ledger").await["totals"].clone();
        (totals["webhooks_given_up"] == 1).then_some(totals)
    });
    assert_eq!(totals.await["webhook_attempts"], 2);
    // A lost webhook does not hold the session up.
    world.ok("confirm", json!({ "session_id": id })).await;
    world.sink.wait(&id, "payment_finished", 1).await;
}

#[tokio::test]
async fn duplicates_are_the_same_to_the_byte() {
    let world = World::open().await;
    let id = world.confirmed("tok_duplicate_1").await;
    world.sink.wait(&id, "ready_to_confirm", 3).await;
    world.sink.wait(&id, "payment_finished", 3).await;
    let all = world.sink.about(&id);
    let finished: Vec<_> = all.iter().filter(|hook| hook["type"] == "payment_finished").collect();
    assert_eq!((finished.len(), finished[0], finished[1]), (3, finished[1], finished[2]));
    assert_eq!(world.line(&id).await["paid_times"], 1);
}

#[tokio::test]
async fn a_receiver_that_never_answers_keeps_no_other_project_waiting() {
    let deaf = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", deaf.local_addr().unwrap());
    let world = World::open_with(|settings| {
        settings.projects[1].webhook_url = url;
        settings.timing.webhook_timeout = Duration::from_secs(600);
    });
    let world = world.await;
    let body = json!({ "payout_details": crate::support::card("tok_success"),
        "amount_details": { "amount": 5, "currency": "rub" } });
    for _ in 0..80 {
        let (status, answer) = world.call_as("other", "v2", "init/payout", &body, None).await;
        assert_eq!(status, 200, "{answer}");
    }
    let id = world.started("tok_success_1").await;
    world.sink.wait(&id, "ready_to_confirm", 1).await;
}
