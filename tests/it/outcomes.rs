//! What may come of a payout when nobody interferes: paid, declined, refused, doubtful, returned.

use crate::{
    support::{
        ledger::Ledger,
        rest::{Api, order},
        until,
    },
    world::World,
};
use serde_json::{Value, json};
use std::time::Duration;

/// The story has no gaps, begins at the beginning and hangs together. A late answer may still add to it.
pub async fn assert_story(api: &Api, payout: &Value) {
    let id = payout["id"].as_str().unwrap();
    let history = until("a story as long as the payout's version", || async {
        let history = api.history(id).await;
        (api.payout(id).await["version"] == json!(history.len())).then_some(history)
    })
    .await;
    let mut state = Value::Null;
    for (place, entry) in history.iter().enumerate() {
        assert_eq!(entry["seq"], json!(place + 1), "{history:#?}");
        assert_eq!(entry["from_state"], state, "{history:#?}");
        state = entry["to_state"].clone();
    }
}

/// Paid once, by one session, confirmed once.
pub fn assert_paid(ledger: &Ledger, payout: &Value) {
    let session = ledger.session(payout["id"].as_str().unwrap());
    assert_eq!(session["id"], payout["provider"]["session_id"]);
    assert_eq!(session["amount"], payout["amount"]);
    assert_eq!(session["currency"], payout["currency"]);
    let counts = ["starts", "confirms_accepted", "paid_times"].map(|name| session[name].as_u64().unwrap());
    assert_eq!(counts, [1, 1, 1], "{session}");
}

/// No money moved.
pub fn assert_unpaid(ledger: &Ledger, payout: &Value) {
    assert_eq!(ledger.times_paid(payout["id"].as_str().unwrap()), 0, "{payout}");
}

#[tokio::test]
async fn every_destination_type_is_paid_over_either_version() {
    for version in ["v2", "v1"] {
        let world = World::with(|setup| setup.set("pike.api_version", version)).await;
        let api = world.caller();
        for destination in [
            json!({ "type": "tokenized_card", "token": "tok_success_1" }),
            json!({ "type": "encrypted_card", "number_hash": "9f0c21ab" }),
            json!({ "type": "recurrent", "token": "tok_mastercard_2" }),
        ] {
            let mut order = order("");
            order["destination"] = destination.clone();
            let payout = api.run(&order, "succeeded").await;
            assert_eq!(payout["destination"], json!({ "type": destination["type"] }));
            assert_paid(&world.ledger().await, &payout);
            assert_story(&api, &payout).await;
        }
        assert_eq!(world.ledger().await.money_out(), 3 * 125_050);
        let named = "SELECT count(*) FROM inbox i JOIN payouts p
            ON i.body_hash = uuid_send(p.id) || sha256(i.body)";
        assert_eq!(world.count(named).await, world.count("SELECT count(*) FROM inbox").await);
        let path = format!("/api/{version}/session/start/payout");
        assert_eq!(world.pike.seen_on(&path).len(), 3, "{version} was not spoken");
    }
}

#[tokio::test]
async fn the_history_tells_the_whole_story() {
    let world = World::open().await;
    let api = world.caller();
    let payout = api.run(&order("tok_success"), "succeeded").await;
    let id = payout["id"].as_str().unwrap();
    assert_story(&api, &payout).await;
    let reasons = api.reasons(id).await;
    let milestones = ["created", "session_created", "start_accepted", "rules_confirm", "paid"];
    let mut rest = reasons.iter();
    for milestone in milestones {
        assert!(rest.any(|reason| reason == milestone), "{milestone} is missing or late in {reasons:?}");
    }
    let history = api.history(id).await;
    assert_eq!(history[0]["actor"].as_str().unwrap(), world.keys["caller"].split('_').nth(1).unwrap());
    let judged = history.iter().find(|entry| entry["reason"] == "rules_confirm").unwrap();
    let rules = &judged["rules"];
    assert!(rules["rule_set"].as_str().unwrap().starts_with("it-1#"), "{judged}");
    assert_eq!((&rules["outcome"], &rules["hits"]), (&json!("confirm"), &json!([])));
    assert!(rules["inputs"].is_object(), "the inputs are kept: {judged}");
}

#[tokio::test]
async fn what_pike_tells_is_recorded() {
    let world = World::open().await;
    let payout = world.caller().run(&order("tok_success_facts"), "succeeded").await;
    let provider = &payout["provider"];
    let card = &provider["card"];
    assert_eq!(
        (&card["brand"], &card["bin"], &card["country"]),
        (&json!("visa"), &json!("424242"), &json!("ARM"))
    );
    assert_eq!(card["last4"].as_str().unwrap().len(), 4);
    for (what, value) in [
        ("card_id", &card["card_id"]),
        ("rrn", &provider["rrn"]),
        ("auth_code", &provider["auth_code"]),
        ("payout_id", &provider["payout_id"]),
    ] {
        assert!(value.as_str().is_some_and(|text| !text.is_empty()), "{what} is missing: {provider}");
    }
    assert_eq!(provider["fee"], json!({ "amount": 1250, "currency": "RUB" }));
    assert_eq!(payout["error"], Value::Null);
}

#[tokio::test]
async fn declines_fail_with_their_code() {
    let world = World::open().await;
    let api = world.caller();
    for (token, code, confirms) in [
        ("tok_decline", "declined_by_issuer_bank", 1),
        ("tok_insufficient", "insufficient_wallet_balance", 1),
        ("tok_decline_early", "operation_rejected", 0),
        ("tok_expired", "bank_card_expired", 0),
    ] {
        let payout = api.run(&order(token), "failed").await;
        assert_eq!(payout["error"]["code"], code, "{payout}");
        assert!(payout["error"]["meaning"].is_string(), "{payout}");
        let ledger = world.ledger().await;
        assert_unpaid(&ledger, &payout);
        let session = ledger.session(payout["id"].as_str().unwrap());
        assert_eq!(session["confirms_accepted"], confirms, "{token}: {session}");
        assert_story(&api, &payout).await;
    }
    assert_eq!(world.ledger().await.money_out(), 0);
}

#[tokio::test]
async fn a_refused_start_fails_and_leaves_a_closed_session() {
    let world = World::open().await;
    let api = world.caller();
    let payout = api.run(&order("tok_start_refused"), "failed").await;
    assert_eq!(payout["error"]["code"], "card_number_does_not_exist");
    let ledger = world.ledger().await;
    let session =
        ledger.sessions().iter().find(|line| line["id"] == payout["provider"]["session_id"]).unwrap();
    assert_eq!((&session["status"], &session["starts"]), (&json!("cancelled"), &json!(0)), "{session}");
    assert_eq!(world.pike.seen_on("session/start/payout").len(), 1, "a final refusal is not tried again");
    assert_story(&api, &payout).await;
}

/// A code that nobody has met, and one that may pass: neither says that the start had no effect.
#[tokio::test]
async fn a_refusal_that_is_on_no_list_is_looked_up_and_closed() {
    let world = World::open().await;
    let api = world.caller();
    for code in ["sandbox_undocumented_code", "activity_count_exceeded"] {
        let payout = api.run(&order(&format!("tok_refuse_{code}")), "failed").await;
        assert_eq!(payout["error"]["code"], "start_unresolved", "{payout}");
        let reasons = api.reasons(payout["id"].as_str().unwrap()).await;
        assert!(reasons.iter().any(|reason| reason == "start_unknown"), "{code}: {reasons:?}");
        let ledger = world.ledger().await;
        let session = payout["provider"]["session_id"].clone();
        let session = ledger.sessions().iter().find(|line| line["id"] == session).unwrap();
        assert_eq!(session["status"], "cancelled", "closed unpaid before it is called failed");
        assert_story(&api, &payout).await;
    }
    assert_eq!(world.pike.seen_on("session/start/payout").len(), 2, "one for each payout");
}

#[tokio::test]
async fn a_session_error_is_unknown_until_pike_settles_it() {
    let world = World::open().await;
    let api = world.caller();
    let id = api.create(&order("tok_session_error")).await;
    let doubtful = api.wait_status(&id, "unknown").await;
    assert_eq!(
        (&doubtful["final"], &doubtful["status_details"]["code"]),
        (&json!(false), &json!("unknown_at_pike"))
    );
    assert_eq!(api.act(&id, "cancel").await.problem(), (409, "outcome_unknown", ""));
    let payout = api.wait_status(&id, "succeeded").await;
    let history = api.history(&id).await;
    assert!(history.iter().all(|entry| entry["to_state"] != "failed"), "{history:#?}");
    assert_paid(&world.ledger().await, &payout);
    assert_story(&api, &payout).await;
}

#[tokio::test]
async fn money_that_comes_back_makes_it_returned() {
    // So much later that the two webhooks cannot overtake each other on the way.
    let world = World::with(|setup| setup.timing.settle_delay = Duration::from_millis(300)).await;
    let api = world.caller();
    let id = api.create(&order("tok_returned")).await;
    let payout = api.wait(&id, "returned", |payout| payout["status"] == "returned").await;
    assert_eq!(payout["final"], true);
    let history = api.history(&id).await;
    let last = history.last().unwrap();
    assert_eq!(
        (&last["from_state"], &last["to_state"]),
        (&json!("succeeded"), &json!("returned")),
        "{history:#?}"
    );
    let money = &world.ledger().await.0["totals"]["money"][0];
    assert_eq!((&money["out"], &money["back"]), (&json!(125_050), &json!(125_050)));
    assert_story(&api, &payout).await;
}
