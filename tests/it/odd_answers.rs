//! Answers that are never right, one call at a time: whatever they make of a payout, it ends or somebody is
//! told. And anomalies that take turns, which are told once each.

use crate::{
    faults::anomaly,
    support::{
        rest::{Api, order, order_of},
        until,
    },
    world::World,
};
use serde_json::{Value, json};

const FAULTS: [&str; 4] = ["wrong_session", "wrong_amount", "wrong_currency", "unknown_values"];

/// The calls about a started payout, each with an amount that only its payout has.
const CALLS: [(&str, i64); 4] = [
    ("session/start/payout", 100_001),
    ("session/confirm", 100_002),
    ("session/status", 100_003),
    // Held for approval, so that it can be cancelled.
    ("session/cancel", 600_004),
];

/// It ended, or a person is asked to look.
async fn told(api: &Api, id: &str) -> Value {
    let raised = |payout: &Value| payout["status_details"]["code"] == "under_review";
    api.wait(id, "final or under review", |payout| payout["final"] == true || raised(payout)).await
}

fn outcome(payout: &Value) -> &str {
    let details = payout["status_details"]["code"].as_str().unwrap();
    if details == "under_review" { details } else { payout["status"].as_str().unwrap() }
}

async fn struck(world: &World) -> Vec<u64> {
    let url = format!("http://{}/_sandbox/faults", world.sandbox);
    let text = crate::support::http_client().get(url).send().await.unwrap().text().await.unwrap();
    let rules: Value = serde_json::from_str(&text).unwrap();
    let rules = rules.as_array().or_else(|| rules["faults"].as_array()).unwrap();
    rules.iter().map(|rule| rule["struck"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn a_payout_whose_answers_are_always_odd_ends_or_is_raised() {
    for fault in FAULTS {
        let world = World::with(|setup| {
            setup.set("pike.confirm_window", "10s");
            setup.set("holds.margin", "1s");
        })
        .await;
        let api = world.caller();
        for (method, amount) in CALLS {
            world.fault(json!({ "fault": fault, "method": method, "amount": amount })).await;
        }
        let mut ids = vec![];
        for (method, amount) in CALLS {
            // Without webhooks nothing but reads can tell.
            let reads = method == "session/status";
            let token = if reads { "tok_no_webhooks" } else { "tok_success" };
            let id = api.create(&order_of(token, amount)).await;
            if method == "session/cancel" {
                api.wait_status(&id, "on_hold").await;
                assert_eq!(api.act(&id, "cancel").await.status, 200);
            }
            ids.push(id);
        }
        for ((method, _), id) in CALLS.iter().zip(&ids) {
            let payout = told(&api, id).await;
            println!("{fault} on {method}: {} {:?}", outcome(&payout), anomaly(&world, id).await);
            assert!(world.ledger().await.times_paid(id) <= 1);
        }
        let struck = struck(&world).await;
        assert!(struck.iter().all(|times| *times > 0), "{fault} did not strike everywhere: {struck:?}");
    }
}

/// Nothing was started in a session that Pike does not know; what the answer says beside its name is not
/// needed yet.
#[tokio::test]
async fn a_session_that_pike_does_not_know_is_raised() {
    for fault in FAULTS {
        let world = World::open().await;
        let api = world.caller();
        world.fault(json!({ "fault": fault, "method": "session/create" })).await;
        let id = api.create(&order("tok_success")).await;
        let payout = told(&api, &id).await;
        let expected = if fault == "wrong_session" { "under_review" } else { "succeeded" };
        assert_eq!(outcome(&payout), expected, "{fault}");
        assert_eq!(struck(&world).await, [1], "{fault}");
        if fault == "wrong_session" {
            assert_eq!(anomaly(&world, &id).await.as_deref(), Some("session_unknown"));
        }
    }
}

/// Each read shows another thing that is wrong, in turn.
#[tokio::test]
async fn anomalies_that_take_turns_are_recorded_once_each() {
    let world = World::open().await;
    let api = world.caller();
    let id = api.create(&order_of("tok_session_error_open", 100_005)).await;
    api.wait_details(&id, "unknown_at_pike").await;
    for fault in ["wrong_session", "wrong_amount"] {
        let rule = json!({ "fault": fault, "method": "session/status", "amount": 100_005, "rate": 0.5 });
        world.fault(rule).await;
    }
    let both = "SELECT count(DISTINCT anomaly) FROM anomalies";
    until("both anomalies", || async { (world.count(both).await >= 2).then_some(()) }).await;
    let version = api.payout(&id).await["version"].clone();
    let reads = world.pike.seen_on("session/status").len();
    let more = || async { (world.pike.seen_on("session/status").len() > reads + 12).then_some(()) };
    until("a dozen more reads", more).await;
    let before: Vec<u64> = struck(&world).await;
    assert!(before.iter().all(|times| *times > 1), "{before:?}");
    assert_eq!(api.payout(&id).await["version"], version, "{:#?}", api.history(&id).await);
    assert_eq!(world.count("SELECT count(*) FROM anomalies").await, 2);
}
