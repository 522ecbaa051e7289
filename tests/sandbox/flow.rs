//! The ordinary lives of a session, in both versions.

use serde_json::{Value, json};

use crate::support::{World, card, start_body};

/// `2025-03-04T10:15:30.120000Z`
fn is_instant(value: &Value) -> bool {
    let text = value.as_str().unwrap_or_default();
    text.len() == 27 && text.ends_with('Z') && text.as_bytes()[10] == b'T' && text.as_bytes()[19] == b'.'
}

#[tokio::test]
async fn a_payout_in_version_two() {
    let world = World::open().await;
    let created = world
        .ok("create", json!({ "metadata": "wd-1", "amount_details": { "amount": 1, "currency": "usd" } }));
    let created = created.await;
    let id = created["id"].as_str().unwrap();
    assert!(id.starts_with("ps_") && created["status"] == "created");
    assert!(is_instant(&created["created_at"]) && is_instant(&created["updated_at"]));
    assert!(created.get("payout_list").is_none() && created.get("next_action").is_none());

    let started = world.ok("start/payout", start_body(id, "tok_success_1")).await;
    assert_eq!(started["status"], "in_progress");
    assert!(started["updated_at"].as_str() > created["updated_at"].as_str());
    let payout = &started["payout_list"][0];
    assert!(payout["id"].as_str().unwrap().starts_with("po_"));
    assert_eq!(payout["status"], "in_progress");
    assert_eq!(payout["amount_details"], json!({ "amount": 125_050, "currency": "rub" }));
    assert_eq!(payout["metadata"], json!({ "attempt": "tok_success_1" }));
    assert_eq!(payout["customer"], json!({ "reference": "user-77" }));
    assert_eq!(payout["participant_details"]["recipient"]["full_name"], "Anna Petrova");
    let shown = &payout["payout_details"]["card"];
    assert_eq!((&shown["brand"], &shown["bin"]), (&json!("visa"), &json!("424242")));
    assert!(shown.get("type").is_none() && !started.to_string().contains("token"));

    let hook = world.sink.wait(id, "ready_to_confirm", 1).await;
    assert_eq!(hook["session"]["next_action"], "confirm");
    assert_eq!(hook["session"]["payout_list"][0]["status"], "pending");
    let confirmed = world.ok("confirm", json!({ "session_id": id })).await;
    assert_eq!((&confirmed["status"], confirmed.get("next_action")), (&json!("in_progress"), None));
    assert_eq!(confirmed["payout_list"][0]["status"], "in_progress");

    let hook = world.sink.wait(id, "payment_finished", 1).await;
    let finished = world.status(id).await;
    assert_eq!(hook["session"], finished);
    assert_eq!(finished["status"], "accepted");
    let payout = &finished["payout_list"][0];
    assert_eq!(payout["status"], "succeeded");
    assert!(is_instant(&payout["finished_at"]));
    assert_eq!(payout["amounts"]["fee"]["merchant_fee"], json!({ "amount": 1250, "currency": "RUB" }));
    assert_eq!(payout["transaction_info"]["rrn"].as_str().unwrap().len(), 12);
    assert_eq!(payout["transaction_info"]["auth_code"].as_str().unwrap().len(), 6);
    world.stop().await;
}

#[tokio::test]
async fn a_payout_in_version_one() {
    let world = World::open().await;
    let body = json!({ "payment_method": card("tok_mastercard_1"), "metadata": 7,
        "amount_details": { "amount": 5, "currency": "EUR" } });
    let (status, answer) = world.call_as("shop", "v1", "init/payout", &body, None).await;
    assert_eq!(status, 200, "{answer}");
    let payout = &answer["session"]["payments"][0];
    assert_eq!(payout["payment_method"]["card"]["brand"], "mastercard");
    assert_eq!((&payout["metadata"], &payout["amount_details"]["currency"]), (&json!(7), &json!("EUR")));
    let id = answer["session"]["id"].as_str().unwrap();

    let hook = world.sink.wait(id, "ready_to_confirm", 1).await;
    assert_eq!(hook["session"]["payments"][0]["payment_method"]["card"]["bin"], "555555");
    // The version of an answer is that of its call, the version of a webhook that of the start.
    world.ok("confirm", json!({ "session_id": id })).await;
    let hook = world.sink.wait(id, "payment_finished", 1).await;
    assert_eq!(hook["session"]["payments"][0]["status"], "succeeded");
    assert!(hook["session"].get("payout_list").is_none());
    assert!(world.status(id).await.get("payments").is_none());
}

#[tokio::test]
async fn cancelling_before_and_after_the_start() {
    let world = World::open().await;
    let unstarted = world.created().await;
    world.ok("cancel", json!({ "session_id": unstarted })).await;
    let session = world.wait_status(&unstarted, "cancelled").await;
    assert_eq!(session["error"]["code"], "session_cancelled_by_partner");

    let id = world.started("tok_success").await;
    world.wait_ready(&id).await;
    let answer = world.ok("cancel", json!({ "session_id": id })).await;
    assert_eq!(
        (&answer["status"], &answer["payout_list"][0]["status"]),
        (&json!("in_progress"), &json!("pending"))
    );
    let session = world.wait_status(&id, "cancelled").await;
    assert_eq!(session["error"]["code"], "session_cancelled_by_partner");
    assert_eq!(session["payout_list"][0]["status"], "failed");
    assert_eq!(session["payout_list"][0]["error"]["code"], "session_cancelled_by_partner");
    let hook = world.sink.wait(&id, "payment_finished", 1).await;
    assert_eq!(hook["session"]["status"], "cancelled");
    world.refused("confirm", json!({ "session_id": id }), 400, "session_wrong_state").await;
}

#[tokio::test]
async fn nobody_confirms() {
    let world = World::open_with(|settings| {
        settings.timing.confirm_window = std::time::Duration::from_secs(240);
        settings.timing.clock_factor = 6000.0;
    });
    let world = world.await;
    let id = world.started("tok_success").await;
    let session = world.wait_status(&id, "cancelled").await;
    assert_eq!(session["error"]["code"], "confirm_timeout");
    world.sink.wait(&id, "payment_finished", 1).await;
    world.refused("confirm", json!({ "session_id": id }), 400, "session_wrong_state").await;
}

#[tokio::test]
async fn an_auto_confirm_project_has_no_confirm() {
    let world = World::open().await;
    let body = json!({ "payout_details": card("tok_success"),
        "amount_details": { "amount": 5, "currency": "rub" } });
    let (_, answer) = world.call_as("auto", "v2", "init/payout", &body, None).await;
    let id = answer["session"]["id"].as_str().unwrap();
    let hook = world.sink.wait(id, "payment_finished", 1).await;
    assert_eq!(hook["session"]["status"], "accepted");
    assert_eq!(world.sink.types(id), ["payment_finished"]);
}

#[tokio::test]
async fn what_create_said_counts_until_start_says_otherwise() {
    let world = World::open().await;
    let body = json!({ "payout_details": card("tok_success"), "metadata": "early",
        "amount_details": { "amount": 5, "currency": "rub" } });
    let session = world.ok("create", body).await;
    let started = world.ok("start/payout", json!({ "session_id": session["id"], "metadata": "late" })).await;
    assert_eq!(started["payout_list"][0]["amount_details"]["amount"], 5);
    assert_eq!(started["payout_list"][0]["metadata"], "late");
}

#[tokio::test]
async fn the_wallet_runs_dry() {
    let world = World::open_with(|settings| {
        settings.balances.insert("RUB".to_owned(), 200_000);
    });
    let world = world.await;
    let first = world.confirmed("tok_success_1").await;
    world.wait_status(&first, "accepted").await;
    let second = world.confirmed("tok_success_2").await;
    let session = world.wait_status(&second, "cancelled").await;
    assert_eq!(session["payout_list"][0]["error"]["code"], "insufficient_wallet_balance");
}

#[tokio::test]
async fn a_second_start_adds_a_payout_when_told_to() {
    let world = World::open_with(|settings| settings.second_start = payoutd::sandbox::SecondStart::Add).await;
    let id = world.started("tok_success_1").await;
    let session = world.ok("start/payout", start_body(&id, "tok_success_2")).await;
    assert_eq!(session["payout_list"].as_array().unwrap().len(), 2);
}
