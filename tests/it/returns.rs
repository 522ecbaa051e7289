//! Money that came back, and nobody told: a paid payout is looked at a few more times.

use crate::{
    outcomes::{assert_paid, assert_story},
    support::{http_client, rest::order, until},
    world::World,
};
use serde_json::json;

async fn give_back(world: &World, id: &str) {
    let session = world.ledger().await.session(id)["id"].as_str().unwrap().to_owned();
    let url = format!("http://{}/_sandbox/sessions/{session}/return", world.sandbox);
    let request = http_client().post(url).header("content-type", "application/json").body("{}");
    assert!(request.send().await.unwrap().status().is_success());
}

#[tokio::test]
async fn a_return_is_found_without_its_webhook() {
    let world = World::with(|setup| {
        setup.set("polling.paid_first", "2s");
        setup.set("polling.paid_until", "1h");
    })
    .await;
    let api = world.caller();
    world.fault(json!({ "fault": "webhook_drop", "webhook": "payment_refunded" })).await;
    let payout = api.run(&order("tok_success"), "succeeded").await;
    let id = payout["id"].as_str().unwrap();
    assert_paid(&world.ledger().await, &payout);
    give_back(&world, id).await;
    let returned = api.wait(id, "returned", |payout| payout["status"] == "returned").await;
    assert_eq!(returned["final"], true);
    let last = api.history(id).await.pop().unwrap();
    assert_eq!((&last["event"], &last["reason"]), (&json!("read_status_accepted"), &json!("returned")));
    let told = world.sink.wait(id, 2).await;
    assert_eq!(told.body["type"], "payout.returned");
    assert!(world.hooks.seen().len() <= 2, "the webhook came after all");
    assert_eq!(world.count("SELECT count(*) FROM payouts WHERE next_check_at IS NOT NULL").await, 0);
    assert_story(&api, &returned).await;
}

/// Looks at a paid payout are few, tell nothing while there is nothing to tell, and end.
#[tokio::test]
async fn a_paid_payout_that_stays_paid_is_left_alone_in_the_end() {
    let world = World::with(|setup| {
        setup.set("polling.paid_first", "1s");
        setup.set("polling.paid_until", "3s");
    })
    .await;
    let api = world.caller();
    let payout = api.run(&order("tok_success"), "succeeded").await;
    let looks = |world: &World| world.pike.seen_on("session/status").len();
    let before = looks(&world);
    let open = "SELECT count(*) FROM payouts WHERE next_check_at IS NOT NULL";
    assert_eq!(world.count(open).await, 1);
    let over = || async {
        let effects = world.count("SELECT count(*) FROM effects").await;
        (world.count(open).await + effects == 0).then_some(())
    };
    until("the last look", over).await;
    assert!((1..=2).contains(&(looks(&world) - before)), "{} looks", looks(&world) - before);
    let after = api.payout(payout["id"].as_str().unwrap()).await;
    assert_eq!((&after["version"], &after["status"]), (&payout["version"], &payout["status"]));
}

#[tokio::test]
async fn looking_at_paid_payouts_can_be_switched_off() {
    let world = World::with(|setup| setup.set("polling.paid_until", "0s")).await;
    world.caller().run(&order("tok_success"), "succeeded").await;
    assert_eq!(world.count("SELECT count(*) FROM payouts WHERE next_check_at IS NOT NULL").await, 0);
}
