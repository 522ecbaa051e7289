//! Lost webhooks, lost answers, answers that lie: whatever is not known is asked for, never guessed, and
//! nothing is paid twice. Every test makes sure that its fault struck.

use crate::{
    outcomes::{assert_paid, assert_story, assert_unpaid},
    relay::Trouble,
    support::rest::{order, order_of},
    world::World,
};
use serde_json::json;

#[tokio::test]
async fn lost_webhooks_are_made_up_for_by_asking() {
    let world = World::open().await;
    let api = world.caller();
    let payout = api.run(&order("tok_no_webhooks"), "succeeded").await;
    assert!(world.hooks.seen().is_empty(), "there were webhooks after all");
    assert_eq!(world.count("SELECT count(*) FROM inbox").await, 0);
    assert_paid(&world.ledger().await, &payout);
    let history = api.history(payout["id"].as_str().unwrap()).await;
    assert!(history.iter().any(|entry| entry["event"] == "read_status_accepted"), "{history:#?}");
    assert_story(&api, &payout).await;
}

#[tokio::test]
async fn webhooks_that_come_three_times_count_once() {
    let world = World::open().await;
    let payout = world.caller().run(&order("tok_duplicate"), "succeeded").await;
    let delivered = || async { (world.hooks.seen().len() == 6).then_some(()) };
    crate::support::until("all six webhooks", delivered).await;
    assert!(world.hooks.seen().iter().all(|hook| hook.status == 200));
    assert_eq!(world.count("SELECT count(*) FROM inbox").await, 2);
    assert_paid(&world.ledger().await, &payout);
    let told = world.sink.wait(payout["id"].as_str().unwrap(), 1).await;
    assert_eq!(told.body["type"], "payout.succeeded");
    assert_story(&world.caller(), &payout).await;
}

#[tokio::test]
async fn webhooks_that_payoutd_could_not_take_come_again() {
    let world = World::open().await;
    let refused = world.hooks.plan("/pike/shop", Trouble::Refuse(503), 3);
    let payout = world.caller().run(&order("tok_success"), "succeeded").await;
    refused.struck().await;
    assert_paid(&world.ledger().await, &payout);
}

#[tokio::test]
async fn a_lost_answer_to_a_start_or_confirm_is_looked_up() {
    for (token, milestone) in [("tok_start_lost", "start_unknown"), ("tok_confirm_lost", "confirm_unknown")] {
        let world = World::open().await;
        let api = world.caller();
        let payout = api.run(&order(token), "succeeded").await;
        let ledger = world.ledger().await;
        assert_eq!(ledger.total("answers_lost"), 1, "{token} lost no answer");
        assert_paid(&ledger, &payout);
        let reasons = api.reasons(payout["id"].as_str().unwrap()).await;
        assert!(reasons.iter().any(|reason| reason == milestone), "{token}: {reasons:?}");
        assert_story(&api, &payout).await;
    }
}

#[tokio::test]
async fn a_lost_answer_to_a_cancel_is_looked_up() {
    let world = World::open().await;
    let api = world.caller();
    let id = api.create(&order_of("tok_cancel_lost", 600_000)).await;
    api.wait_status(&id, "on_hold").await;
    assert_eq!(api.act(&id, "cancel").await.status, 200);
    let payout = api.wait_status(&id, "cancelled").await;
    let ledger = world.ledger().await;
    assert_eq!(ledger.total("answers_lost"), 1);
    assert_unpaid(&ledger, &payout);
    assert!(api.reasons(&id).await.iter().any(|reason| reason == "cancel_unknown"));
    assert_story(&api, &payout).await;
}

#[tokio::test]
async fn a_lost_answer_to_a_create_leaves_an_orphan_and_nothing_else() {
    let world = World::open().await;
    let api = world.caller();
    let lost = world.pike.plan("session/create", Trouble::LoseAnswer, 1);
    let payout = api.run(&order("tok_success"), "succeeded").await;
    assert_eq!(lost.met(), 1);
    let ledger = world.ledger().await;
    assert_eq!(ledger.sessions().len(), 2, "the lost session and the used one");
    assert_paid(&ledger, &payout);
    assert_story(&api, &payout).await;
}

#[tokio::test]
async fn answers_through_a_broken_gateway_are_unknown_not_failures() {
    for call in ["session/start/payout", "session/confirm"] {
        let world = World::open().await;
        let lost = world.pike.plan(call, Trouble::LoseAnswer, 1);
        let payout = world.caller().run(&order("tok_success"), "succeeded").await;
        assert_eq!(lost.met(), 1, "{call}");
        assert_paid(&world.ledger().await, &payout);
        assert_eq!(world.pike.seen_on(call).len(), 1, "{call} was sent again");
    }
}

#[tokio::test]
async fn an_answer_that_comes_too_late_is_unknown() {
    let world = World::with(|setup| {
        setup.set("pike.connect_timeout", "300ms");
        setup.set("pike.total_timeout", "300ms");
    })
    .await;
    let held = world.pike.plan("session/start/payout", Trouble::HoldAnswer, 1);
    let payout = world.caller().run(&order("tok_success"), "succeeded").await;
    assert_eq!(held.met(), 1);
    held.release();
    assert_paid(&world.ledger().await, &payout);
}

/// Both webhooks come before the answers to the calls that they follow from; nothing is found out by asking.
#[tokio::test]
async fn webhooks_that_overtake_an_answer_are_believed() {
    let mut world = World::with(|setup| {
        for (key, value) in [("pike.total_timeout", "1m"), ("effects.lease", "5m")] {
            setup.set(key, value);
        }
        for key in ["polling.first", "polling.steady", "polling.longest"] {
            setup.set(key, "5m");
        }
    })
    .await;
    let start = world.pike.plan("session/start/payout", Trouble::HoldAnswer, 1);
    let confirm = world.pike.plan("session/confirm", Trouble::HoldAnswer, 1);
    let payout = world.caller().run(&order("tok_success"), "succeeded").await;
    assert_eq!((start.met(), confirm.met()), (1, 1));
    assert!(world.pike.seen_on("session/status").is_empty());
    start.release();
    confirm.release();
    world.stop().await;
    assert_eq!(world.pike.seen_on("session/confirm").len(), 1, "its answer came after all");
    world.start().await;
    let id = payout["id"].as_str().unwrap();
    assert_eq!(world.caller().payout(id).await, payout, "what comes late changes nothing");
    assert_paid(&world.ledger().await, &payout);
    assert_story(&world.caller(), &payout).await;
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let world = World::open().await;
    let redirect = world.pike.plan("session/start/payout", Trouble::Refuse(307), 1);
    let payout = world.caller().run(&order("tok_success"), "failed").await;
    assert_eq!(redirect.met(), 1);
    assert_eq!(world.pike.seen_on("session/start/payout").len(), 1);
    assert_eq!(payout["error"]["code"], "start_unresolved", "{payout}");
    assert_unpaid(&world.ledger().await, &payout);
}

#[tokio::test]
async fn a_start_that_broke_is_never_sent_again_by_default() {
    let world = World::open().await;
    let api = world.caller();
    let payout = api.run(&order("tok_start_500"), "failed").await;
    assert_eq!(payout["error"]["code"], "start_unresolved", "{payout}");
    let ledger = world.ledger().await;
    assert_eq!((ledger.total("calls_broken"), ledger.money_out()), (1, 0));
    assert_eq!(world.pike.seen_on("session/start/payout").len(), 1);
    let session =
        ledger.sessions().iter().find(|line| line["id"] == payout["provider"]["session_id"]).unwrap();
    assert_eq!(session["status"], "cancelled", "closed unpaid before it is called failed");
    assert_story(&api, &payout).await;
}

#[tokio::test]
async fn a_start_that_broke_is_sent_again_where_pike_refuses_a_second() {
    let world = World::with(|setup| setup.set("pike.second_start_refused", "true")).await;
    let api = world.caller();
    let payout = api.run(&order("tok_start_500"), "succeeded").await;
    assert_eq!(world.ledger().await.total("calls_broken"), 1);
    let starts = world.pike.seen_on("session/start/payout");
    assert_eq!(starts.len(), 2);
    assert_eq!(starts[0].body, starts[1].body, "the same session, the same order");
    let key = |place: usize| starts[place].headers.get("x-partner-idempotency-key").unwrap();
    assert_eq!(key(0), key(1));
    assert_paid(&world.ledger().await, &payout);
    assert_story(&api, &payout).await;
}

#[tokio::test]
async fn a_pike_that_cannot_be_reached_costs_only_time() {
    let world = World::open().await;
    let api = world.caller();
    // A gateway answers without a Pike behind it: unknown outcomes of creates, which move no money.
    world.pike.lead_to(None);
    let id = api.create(&order("tok_success")).await;
    let tried = || async { (world.pike.seen_on("session/create").len() >= 2).then_some(()) };
    crate::support::until("two tries", tried).await;
    assert_eq!(api.payout(&id).await["status"], "accepted");
    world.pike.lead_to(Some(world.sandbox));
    let payout = api.wait_status(&id, "succeeded").await;
    assert_paid(&world.ledger().await, &payout);
}

/// What waits for its session is looked at rarely, because its call waits in the database; this one does not.
#[tokio::test]
async fn a_create_that_was_refused_is_tried_again_soon() {
    let world = World::with(|setup| setup.set("polling.longest", "1h")).await;
    let api = world.caller();
    world
        .fault(json!({ "fault": "error_before", "method": "session/create", "times": 2,
        "status": 400, "code": "invalid_request" }))
        .await;
    let payout = api.run(&order("tok_success"), "succeeded").await;
    assert_eq!(world.pike.seen_on("session/create").len(), 3);
    assert_paid(&world.ledger().await, &payout);
}

/// Good by its status, and no answer: it says nothing about the payout, and somebody has to know.
#[tokio::test]
async fn an_answer_in_a_strange_shape_is_unknown_and_raised() {
    let world = World::open().await;
    let api = world.caller();
    for fault in ["html", "empty", "truncated"] {
        world.fault(json!({ "fault": fault, "method": "session/confirm", "times": 1 })).await;
        let payout = api.run(&order("tok_success"), "succeeded").await;
        assert_paid(&world.ledger().await, &payout);
        let reasons = api.reasons(payout["id"].as_str().unwrap()).await;
        assert!(reasons.iter().any(|reason| reason == "confirm_unknown"), "{fault}: {reasons:?}");
    }
    let figure = "payoutd_answers_malformed_total{call=\"session/confirm\"} 3";
    let (_, metrics) = world.admin("/metrics").await;
    assert!(metrics.contains(figure), "{metrics}");
}

/// It changes nothing, and somebody has to know.
#[tokio::test]
async fn a_status_that_nobody_has_met_is_kept_and_raised() {
    let world = World::open().await;
    let api = world.caller();
    world.fault(json!({ "fault": "unknown_values", "method": "session/status", "times": 1 })).await;
    let payout = api.run(&order("tok_no_webhooks"), "succeeded").await;
    assert_paid(&world.ledger().await, &payout);
    world.fault(json!({ "fault": "webhook_unknown_values", "times": 1 })).await;
    let payout = api.run(&order("tok_success"), "succeeded").await;
    assert_paid(&world.ledger().await, &payout);
    let history = api.history(payout["id"].as_str().unwrap()).await;
    let odd = history.iter().find(|entry| entry["reason"] == "unreadable").unwrap();
    assert_eq!((&odd["decision"], &odd["from_state"]), (&json!("absorb"), &odd["to_state"]));
    assert!(odd["detail"].as_str().unwrap().ends_with("(under_review, reviewing)"), "{odd}");
    let (_, metrics) = world.admin("/metrics").await;
    for from in ["answer", "webhook"] {
        assert!(
            metrics.contains(&format!("payoutd_unknown_statuses_total{{from=\"{from}\"}} 1")),
            "{metrics}"
        );
    }
    assert_story(&api, &payout).await;
}

#[tokio::test]
async fn a_wrong_amount_is_never_confirmed() {
    let world = World::open().await;
    let api = world.caller();
    let id = api.create(&order("tok_wrong_amount")).await;
    let payout = api.wait(&id, "cancelled", |payout| payout["final"] == true).await;
    assert_eq!(payout["status_details"]["code"], "mismatch", "{payout}");
    let ledger = world.ledger().await;
    assert_eq!(ledger.session(&id)["confirms_accepted"], 0);
    assert_eq!(world.pike.seen_on("session/confirm").len(), 0, "no confirm was even sent");
    assert_unpaid(&ledger, &payout);
    assert_eq!(anomaly(&world, &id).await.as_deref(), Some("other_amount"));
    let history = api.history(&id).await;
    assert!(history.iter().any(|entry| entry["decision"] == "flag"), "{history:#?}");
    assert_story(&api, &payout).await;
}

/// Pike pays although nobody confirmed: the money's truth is recorded, and the alarm is raised.
#[tokio::test]
async fn a_payment_that_nobody_permitted_is_recorded_and_flagged() {
    let world = World::with(|setup| setup.timing.settle_delay = std::time::Duration::from_millis(300)).await;
    let api = world.caller();
    let id = api.create(&order_of("tok_paid_unasked", 600_000)).await;
    api.wait_status(&id, "on_hold").await;
    let payout = api.wait_status(&id, "succeeded").await;
    flagged_as_paid_without_permit(&world, &payout).await;
}

#[tokio::test]
async fn an_account_that_needs_no_confirm_is_flagged() {
    let world = World::with(|setup| setup.auto_confirm = true).await;
    let payout = world.caller().run(&order("tok_success"), "succeeded").await;
    flagged_as_paid_without_permit(&world, &payout).await;
    assert!(world.pike.seen_on("session/confirm").is_empty());
}

async fn flagged_as_paid_without_permit(world: &World, payout: &serde_json::Value) {
    let id = payout["id"].as_str().unwrap();
    let ledger = world.ledger().await;
    let session = ledger.session(id);
    assert_eq!((&session["paid_times"], &session["confirms_accepted"]), (&json!(1), &json!(0)));
    assert_eq!(anomaly(world, id).await.as_deref(), Some("paid_without_permit"));
    assert!(payout["status_details"]["next"].as_str().unwrap().contains("person"), "{payout}");
    let api = world.caller();
    let history = api.history(id).await;
    assert!(history.iter().any(|entry| entry["decision"] == "flag"), "{history:#?}");
    let (_, metrics) = world.admin("/metrics").await;
    assert!(metrics.contains("payoutd_anomalies_total{anomaly=\"paid_without_permit\"}"), "{metrics}");
    assert_story(&api, payout).await;
}

pub async fn anomaly(world: &World, id: &str) -> Option<String> {
    let id = uuid::Uuid::parse_str(id.trim_start_matches("payout_")).unwrap();
    let query = sqlx::query_scalar("SELECT anomaly FROM payouts WHERE id = $1").bind(id);
    query.fetch_one(&world.pool).await.unwrap()
}
