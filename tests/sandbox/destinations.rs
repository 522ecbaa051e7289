//! The magic destinations, over HTTP.

use serde_json::json;

use crate::support::{World, assert_error, card, start_body};

#[tokio::test]
async fn declines_late_and_early() {
    let world = World::open().await;
    for (token, code) in
        [("tok_decline_1", "declined_by_issuer_bank"), ("tok_insufficient_1", "insufficient_wallet_balance")]
    {
        let id = world.confirmed(token).await;
        let session = world.sink.wait(&id, "payment_finished", 1).await["session"].clone();
        assert_eq!((&session["status"], &session["error"]["code"]), (&json!("cancelled"), &json!(code)));
        let payout = &session["payout_list"][0];
        assert_eq!((&payout["status"], &payout["error"]["code"]), (&json!("failed"), &json!(code)));
        assert!(payout.get("amounts").is_none() && payout["finished_at"].is_string());
    }
    for (token, code) in
        [("tok_decline_early_1", "operation_rejected"), ("tok_expired_1", "bank_card_expired")]
    {
        let id = world.started(token).await;
        let session = world.wait_status(&id, "cancelled").await;
        assert_eq!(session["payout_list"][0]["error"]["code"], code);
        world.sink.wait(&id, "payment_finished", 1).await;
        assert_eq!(world.sink.types(&id), ["payment_finished"]);
    }
}

#[tokio::test]
async fn a_refused_start_leaves_the_session_as_it_was() {
    let world = World::open().await;
    let id = world.created().await;
    let body = start_body(&id, "tok_start_refused_1");
    world.refused("start/payout", body, 400, "card_number_does_not_exist").await;
    assert_eq!(world.status(&id).await["status"], "created");
    let body = json!({ "payout_details": card("tok_start_refused"),
        "amount_details": { "amount": 5, "currency": "rub" } });
    world.refused("init/payout", body, 400, "card_number_does_not_exist").await;
    assert_eq!(world.get("/_sandbox/ledger").await["totals"]["sessions"], 1);
    world.ok("start/payout", start_body(&id, "tok_success")).await;
}

#[tokio::test]
async fn doubt_then_paid() {
    let world = World::open().await;
    let id = world.confirmed("tok_session_error_1").await;
    let first = world.sink.wait(&id, "payment_finished", 1).await["session"].clone();
    assert_eq!((&first["status"], &first["error"]["code"]), (&json!("error"), &json!("provider_timeout")));
    assert_eq!(first["payout_list"][0]["status"], "failed");
    let second = world.sink.wait(&id, "payment_finished", 2).await["session"].clone();
    assert_eq!((&second["status"], second.get("error")), (&json!("accepted"), None));
    assert_eq!(second["payout_list"][0]["status"], "succeeded");
    assert_eq!(world.line(&id).await["paid_times"], 1);
}

#[tokio::test]
async fn returned() {
    let world = World::open().await;
    let id = world.confirmed("tok_returned_1").await;
    let session = world.sink.wait(&id, "payment_refunded", 1).await["session"].clone();
    assert_eq!(session["status"], "accepted");
    let payout = &session["payout_list"][0];
    assert_eq!(payout["status"], "succeeded");
    let refund = &payout["refunds"][0];
    assert!(refund["id"].as_str().unwrap().starts_with("rf_"));
    assert_eq!((&refund["status"], &refund["is_chargeback"]), (&json!("accepted"), &json!(false)));
    assert_eq!(refund["amount_details"], payout["amount_details"]);
    let money = world.get("/_sandbox/ledger").await["totals"]["money"].clone();
    assert_eq!((&money[0]["out"], &money[0]["back"]), (&json!(125_050), &json!(125_050)));
}

#[tokio::test]
async fn answers_get_lost_after_their_effect() {
    let world = World::open().await;
    let id = world.created().await;
    let named = json!({ "session_id": id });
    world.refused("start/payout", start_body(&id, "tok_start_lost_1"), 500, "internal_error").await;
    assert_eq!(world.status(&id).await["payout_list"].as_array().unwrap().len(), 1);
    world.wait_ready(&id).await;
    world.ok("confirm", named).await;

    let id = world.started("tok_confirm_lost_1").await;
    world.wait_ready(&id).await;
    world.refused("confirm", json!({ "session_id": id }), 500, "internal_error").await;
    world.wait_status(&id, "accepted").await;
    let line = world.line(&id).await;
    assert_eq!((&line["confirms_accepted"], &line["confirmed"]), (&json!(1), &json!(true)));

    let id = world.started("tok_cancel_lost_1").await;
    world.wait_ready(&id).await;
    world.refused("cancel", json!({ "session_id": id }), 500, "internal_error").await;
    world.wait_status(&id, "cancelled").await;
    assert_eq!(world.get("/_sandbox/ledger").await["totals"]["answers_lost"], 3);
}

#[tokio::test]
async fn a_start_that_breaks_can_be_repeated_with_its_key() {
    let world = World::open().await;
    let id = world.created().await;
    let body = start_body(&id, "tok_start_500_1");
    let (status, answer) = world.call_as("shop", "v2", "start/payout", &body, Some("k")).await;
    assert_error(status, &answer, 500, "internal_error");
    assert_eq!(world.status(&id).await["status"], "created");
    let (status, answer) = world.call_as("shop", "v2", "start/payout", &body, Some("k")).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(world.line(&id).await["starts"], 1);
}

#[tokio::test]
async fn a_wrong_amount_is_shown_but_not_by_the_start() {
    let world = World::open().await;
    let id = world.created().await;
    let started = world.ok("start/payout", start_body(&id, "tok_wrong_amount_1")).await;
    assert_eq!(started["payout_list"][0]["amount_details"]["amount"], 125_050);
    assert_eq!(world.status(&id).await["payout_list"][0]["amount_details"]["amount"], 125_051);
    let hook = world.sink.wait(&id, "ready_to_confirm", 1).await;
    assert_eq!(hook["session"]["payout_list"][0]["amount_details"]["amount"], 125_051);
}

#[tokio::test]
async fn slow_silent_and_unasked() {
    let world = World::open().await;
    let slow = world.started("tok_slow_1").await;
    let silent = world.confirmed("tok_no_webhooks_1").await;
    let unasked = world.started("tok_paid_unasked_1").await;
    world.wait_status(&silent, "accepted").await;
    world.wait_status(&unasked, "accepted").await;
    world.wait_ready(&slow).await;
    let line = world.line(&unasked).await;
    assert_eq!((&line["confirmed"], &line["paid_times"]), (&json!(false), &json!(1)));
    world.sink.wait(&slow, "ready_to_confirm", 1).await;
    assert!(world.sink.about(&silent).is_empty());
}

#[tokio::test]
async fn a_card_looks_the_same_by_whatever_name_it_is_called() {
    let world = World::open().await;
    let shown = |details: serde_json::Value, project: &'static str| {
        let body = json!({ "payout_details": details, "amount_details": { "amount": 5, "currency": "rub" } });
        let world = &world;
        async move {
            let (status, answer) = world.call_as(project, "v2", "init/payout", &body, None).await;
            assert_eq!(status, 200, "{answer}");
            answer["session"]["payout_list"][0]["payout_details"]["card"].clone()
        }
    };
    let token = shown(card("tok_country_GEO_1"), "shop").await;
    assert_eq!(token["country_iso3"], "GEO");
    let hash = json!({ "type": "card", "card": { "type": "encrypted_card",
        "encrypted_card": { "number_hash": "tok_country_GEO_1", "expiration_date_hash": "aa" } } });
    assert_eq!(shown(hash, "shop").await, token);
    let recurrent = json!({ "type": "recurrent", "recurrent": { "token": "tok_country_GEO_1" } });
    assert_eq!(shown(recurrent.clone(), "shop").await, token);
    let elsewhere = shown(recurrent, "other").await;
    assert_eq!(elsewhere["last4"], token["last4"]);
    assert_ne!(elsewhere["card_id"], token["card_id"]);
    let number = json!({ "type": "card", "card": { "type": "bank_card",
        "bank_card": { "number": "4242424242424242" } } });
    let number = shown(number, "shop").await;
    assert_eq!((&number["last4"], &number["bin"]), (&json!("4242"), &json!("424242")));
}
