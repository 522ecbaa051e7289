//! Notifications of final statuses: signed, complete, delivered until accepted, one for each status. And what
//! no sink may ever see.

use crate::{
    support::{
        hidden,
        rest::{order, order_of},
        until,
    },
    world::{Setup, World},
};
use serde_json::json;
use std::{sync::atomic::Ordering, time::Duration};

#[tokio::test]
async fn a_final_status_is_told_once_with_all_that_matters() {
    let world = World::open().await;
    let api = world.caller();
    let mut order = order("tok_success");
    order["reference"] = json!("wd-7");
    let payout = api.run(&order, "succeeded").await;
    let id = payout["id"].as_str().unwrap();
    let message = world.sink.wait(id, 1).await;
    assert!(message.id.starts_with("msg_"), "{}", message.id);
    assert_eq!(message.body["type"], "payout.succeeded");
    // A late answer may be recorded behind it.
    let history = api.history(id).await;
    let paid = history.iter().find(|entry| entry["to_state"] == "succeeded").unwrap();
    assert_eq!(
        message.body["data"],
        json!({
            "id": id, "project": "shop", "sequence": paid["seq"], "status": "succeeded",
            "reason": null, "reference": "wd-7", "customer_reference": order["customer_reference"],
            "amount": 125_050, "currency": "RUB",
        })
    );
    let declined = api.run(&crate::support::rest::order("tok_decline"), "failed").await;
    let message = world.sink.wait(declined["id"].as_str().unwrap(), 1).await;
    assert_eq!(message.body["data"]["reason"], "declined_by_issuer_bank");
    let cancelled = api.run(&order_of("tok_success", 1), "cancelled").await;
    let message = world.sink.wait(cancelled["id"].as_str().unwrap(), 1).await;
    assert_eq!(message.body["type"], "payout.cancelled");
    settled(&world, 3).await;
    assert_eq!(world.sink.all().len(), 3, "one for each final status");
    assert_eq!(world.sink.forged.load(Ordering::SeqCst), 0);
}

/// Waits until that many messages are there and all are delivered.
async fn settled(world: &World, messages: i64) {
    let sql = "SELECT count(*) FROM notifications WHERE delivered_at IS NOT NULL";
    let delivered = || async { (world.count(sql).await == messages).then_some(()) };
    until("all notifications delivered", delivered).await;
    assert_eq!(world.count("SELECT count(*) FROM notifications").await, messages);
}

#[tokio::test]
async fn a_receiver_that_fails_is_told_again_with_the_same_words() {
    let world = World::open().await;
    world.sink.refuse(3);
    let payout = world.caller().run(&order("tok_success"), "succeeded").await;
    let message = world.sink.wait(payout["id"].as_str().unwrap(), 1).await;
    assert_eq!(world.sink.refused.load(Ordering::SeqCst), 3);
    settled(&world, 1).await;
    assert_eq!(world.count("SELECT sum(attempts)::bigint FROM notifications").await, 4);
    let (id, stored): (uuid::Uuid, String) =
        sqlx::query_as("SELECT id, payload FROM notifications").fetch_one(&world.pool).await.unwrap();
    assert_eq!((message.id, message.text), (format!("msg_{}", id.simple()), stored));
    assert_eq!(world.sink.all().len(), 1);
}

/// The money comes back so much later that the two cannot overtake each other on the way.
fn later(setup: &mut Setup) {
    setup.timing.settle_delay = Duration::from_millis(300);
}

#[tokio::test]
async fn money_that_comes_back_is_a_second_message() {
    let world = World::with(later).await;
    let api = world.caller();
    let id = api.create(&order("tok_returned")).await;
    world.sink.wait(&id, 2).await;
    settled(&world, 2).await;
    let mut messages = world.sink.about(&id);
    messages.sort_by_key(|message| message.body["data"]["sequence"].as_i64());
    let types: Vec<_> = messages.iter().map(|message| message.body["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["payout.succeeded", "payout.returned"]);
    assert_ne!(messages[0].id, messages[1].id);
}

#[tokio::test]
async fn what_was_not_delivered_before_a_restart_is_delivered_after_it() {
    let mut world = World::open().await;
    world.sink.refuse(usize::MAX);
    let payout = world.caller().run(&order("tok_success"), "succeeded").await;
    let refused = || async { (world.sink.refused.load(Ordering::SeqCst) > 0).then_some(()) };
    until("a refusal", refused).await;
    world.stop().await;
    world.sink.refuse(0);
    world.start().await;
    world.sink.wait(payout["id"].as_str().unwrap(), 1).await;
    settled(&world, 1).await;
}

#[tokio::test]
async fn secrets_stay_where_they_belong() {
    let world = World::open().await;
    let api = world.caller();
    let (token, name) = ("tok_success_canary_a7c1", "Canary Birdsong");
    let mut captured = String::new();
    for (amount, token) in
        [(125_050, token), (1, "tok_success_canary_b2"), (600_000, "tok_success_canary_c3")]
    {
        let mut order = order_of(token, amount);
        order["recipient"]["name"] = json!(name);
        let id = api.create(&order).await;
        if amount == 600_000 {
            api.wait_status(&id, "on_hold").await;
            assert_eq!(api.act(&id, "cancel").await.status, 200);
        }
        api.wait(&id, "final", |payout| payout["final"] == true).await;
        captured += &world.sink.wait(&id, 1).await.text;
        captured += &api.get(&format!("/v1/payouts/{id}/history")).await.text;
        let shown = api.get(&format!("/v1/payouts/{id}")).await.text;
        assert!(!shown.contains("canary"), "the destination is write-only: {shown}");
    }
    captured += &api.get("/v1/payouts?status=paid").await.text;
    captured += &world.admin("/metrics").await.1;
    let leftover = "SELECT count(*) FROM payouts WHERE destination_secret IS NOT NULL";
    assert_eq!(world.count(leftover).await, 0, "the secret is erased once it is of no more use");
    for canary in ["canary", "Birdsong", "whsec_", "PRIVATE KEY"].into_iter().chain(world.api_secrets()) {
        assert!(!hidden::is_in(&captured, canary), "{canary} leaked");
    }
    assert!(captured.len() > 5_000, "there was something to look at");
    let stored =
        "SELECT count(*) FROM history WHERE history::text LIKE '%canary%' OR history::text LIKE '%Birdsong%'";
    assert_eq!(world.count(stored).await, 0);
}
