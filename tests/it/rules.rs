//! The confirm rules: what they forbid is never confirmed, what they hold waits for a person who is not its
//! creator, and a rule that cannot be evaluated confirms nothing.

use crate::{
    outcomes::{assert_paid, assert_story, assert_unpaid},
    support::rest::{Api, order, order_of},
    world::{RULES, World},
};
use futures_util::future::join_all;
use serde_json::{Value, json};

/// The rules that spoke in the last verdict.
async fn hits(api: &Api, id: &str) -> Vec<String> {
    let history = api.history(id).await;
    let verdict = history.iter().rev().find(|entry| !entry["rules"].is_null());
    let hits = verdict.unwrap_or_else(|| panic!("no verdict: {history:#?}"))["rules"]["hits"].clone();
    hits.as_array().unwrap().iter().map(|hit| hit["rule"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn what_the_rules_forbid_is_cancelled_unconfirmed() {
    let world = World::open().await;
    let api = world.caller();
    for (order, rule) in [
        (order_of("tok_success", 9_999), "amount.min"),
        (order_of("tok_success", 1_000_001), "amount.max"),
        (order("tok_country_PRK"), "card.country.deny"),
    ] {
        let payout = api.run(&order, "cancelled").await;
        let id = payout["id"].as_str().unwrap();
        assert_eq!(payout["status_details"]["code"], "forbidden_by_rules");
        assert!(hits(&api, id).await.iter().any(|hit| hit == rule), "{rule}: {:?}", hits(&api, id).await);
        let ledger = world.ledger().await;
        assert_eq!(ledger.session(id)["confirms_accepted"], 0);
        assert_unpaid(&ledger, &payout);
        assert_story(&api, &payout).await;
    }
    assert!(world.pike.seen_on("session/confirm").is_empty());
}

#[tokio::test]
async fn the_limits_themselves_are_allowed() {
    let world = World::open().await;
    let api = world.caller();
    for amount in [10_000, 500_000] {
        let payout = api.run(&order_of("tok_success", amount), "succeeded").await;
        assert_paid(&world.ledger().await, &payout);
    }
    let mut largest = order_of("tok_success", 1_000_000);
    largest["currency"] = json!("EUR");
    api.run(&largest, "succeeded").await;
}

#[tokio::test]
async fn a_daily_cap_holds_against_twenty_at_once() {
    let world = World::open().await;
    let api = world.caller();
    let (amount, cap) = (300_000, 2_000_000);
    let mut order = order_of("tok_success", amount);
    order["customer_reference"] = json!("one-customer");
    let ids = join_all((0..20).map(|_| api.create(&order))).await;
    let mut paid = 0;
    for id in &ids {
        let payout = api.wait(id, "final", |payout| payout["final"] == true).await;
        match payout["status"].as_str().unwrap() {
            "succeeded" => paid += 1,
            "cancelled" => assert_eq!(hits(&api, id).await, ["recipient.daily_cap"]),
            other => panic!("{id} is {other}"),
        }
    }
    let out = world.ledger().await.money_out();
    assert_eq!(out, paid * amount, "the ledger agrees");
    assert!(out <= cap, "{out} went out, {cap} were allowed");
    assert!(out > cap - amount, "{out}: the cap must be used as far as it goes");
    order["customer_reference"] = json!("another-customer");
    api.run(&order, "succeeded").await;
}

#[tokio::test]
async fn a_payout_that_failed_gives_its_share_of_the_cap_back() {
    let rules = RULES.replace("RUB = 2_000_000", "RUB = 200_000");
    let world = World::with(|setup| setup.rules = rules).await;
    let api = world.caller();
    let mut order = order("tok_decline");
    order["customer_reference"] = json!("one-customer");
    api.run(&order, "failed").await;
    order["destination"]["token"] = json!("tok_success");
    api.run(&order, "succeeded").await;
    api.run(&order, "cancelled").await;
    assert_eq!(world.ledger().await.money_out(), 125_050);
}

async fn held(api: &Api) -> String {
    let id = api.create(&order_of("tok_success", 600_000)).await;
    let payout = api.wait_status(&id, "on_hold").await;
    assert_eq!(payout["status_details"]["code"], "waiting_for_approval");
    assert_eq!(hits(api, &id).await, ["amount.hold_above"]);
    id
}

#[tokio::test]
async fn another_key_may_approve_what_is_held() {
    let world = World::open().await;
    let api = world.caller();
    let id = held(&api).await;
    assert!(world.pike.seen_on("session/confirm").is_empty(), "a hold confirms nothing");
    let answer = world.api("approver").act(&id, "approve").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let payout = api.wait_status(&id, "succeeded").await;
    assert_paid(&world.ledger().await, &payout);
    let history = api.history(&id).await;
    let approved = history.iter().find(|entry| entry["reason"] == "approved").unwrap();
    assert_eq!(approved["actor"].as_str(), world.keys["approver"].split('_').nth(1));
    assert_eq!(world.api("approver").act(&id, "approve").await.problem(), (409, "not_on_hold", ""));
    assert_story(&api, &payout).await;
}

#[tokio::test]
async fn nobody_approves_a_payout_of_their_own() {
    let world = World::open().await;
    let owner = world.api("owner");
    let id = held(&owner).await;
    assert_eq!(owner.act(&id, "approve").await.problem(), (403, "own_payout", ""));
    assert_eq!(owner.payout(&id).await["status"], "on_hold");
    assert_eq!(world.api("approver").act(&id, "approve").await.status, 200);
    owner.wait_status(&id, "succeeded").await;
}

#[tokio::test]
async fn a_rejected_payout_is_cancelled() {
    let world = World::open().await;
    let api = world.caller();
    let id = held(&api).await;
    let approver = world.api("approver");
    assert_eq!(approver.act(&id, "reject").await.status, 200);
    let payout = api.wait_status(&id, "cancelled").await;
    assert_eq!(payout["status_details"]["code"], "rejected");
    assert_eq!(approver.act(&id, "reject").await.status, 200, "saying it twice is fine");
    assert_eq!(approver.act(&id, "approve").await.problem(), (409, "not_on_hold", ""));
    assert_unpaid(&world.ledger().await, &payout);
    assert_story(&api, &api.payout(&id).await).await;
}

/// Ten people answer at once, half yes and half no: one answer counts.
#[tokio::test]
async fn approve_against_reject_exactly_one_wins() {
    let world = World::open().await;
    let api = world.caller();
    let id = held(&api).await;
    let approver = world.api("approver");
    let answers = join_all((0..10).map(|n| {
        let (approver, id) = (approver.clone(), id.clone());
        async move { approver.act(&id, if n % 2 == 0 { "approve" } else { "reject" }).await.status }
    }))
    .await;
    let payout = api.wait(&id, "final", |payout| payout["final"] == true).await;
    let yes = answers.iter().step_by(2).filter(|status| **status == 200).count();
    let no = answers.iter().skip(1).step_by(2).filter(|status| **status == 200).count();
    match payout["status"].as_str().unwrap() {
        "succeeded" => assert_eq!((yes, no), (1, 0), "{answers:?}"),
        "cancelled" => assert!(yes == 0 && no >= 1, "{answers:?}"),
        other => panic!("{other}"),
    }
    let paid = u64::from(payout["status"] == "succeeded");
    assert_eq!(world.ledger().await.times_paid(&id), paid);
}

#[tokio::test]
async fn an_unanswered_hold_is_cancelled_before_pikes_window_ends() {
    let world = World::with(|setup| {
        setup.set("pike.confirm_window", "10s");
        setup.set("holds.margin", "9s");
        setup.timing.confirm_window = std::time::Duration::from_secs(10);
    })
    .await;
    let api = world.caller();
    let id = held(&api).await;
    let payout = api.wait_status(&id, "cancelled").await;
    assert_eq!(payout["status_details"]["code"], "hold_expired");
    let ledger = world.ledger().await;
    assert_eq!(ledger.session(&id)["cancels_accepted"], 1, "ours, not Pike's own");
    assert_unpaid(&ledger, &payout);
    assert_story(&api, &payout).await;
}

#[tokio::test]
async fn a_rule_without_its_data_holds() {
    let world = World::open().await;
    let api = world.caller();
    let mut order = order("tok_success");
    order["currency"] = json!("KZT");
    let payout = api.run(&order, "on_hold").await;
    assert_eq!(hits(&api, payout["id"].as_str().unwrap()).await, ["amount"]);
    assert!(world.pike.seen_on("session/confirm").is_empty());
}

async fn switch(world: &World, confirms: &str) -> Value {
    let wanted = json!({ "confirms": confirms, "reason": "drill" });
    let answer = world.api("operator").put("/v1/confirms", &wanted).await;
    assert_eq!((answer.status, &answer.body["confirms"]), (200, &json!(confirms)), "{}", answer.text);
    answer.body
}

#[tokio::test]
async fn the_switch_stops_confirms_and_lets_them_go_on() {
    let world = World::open().await;
    let api = world.caller();
    switch(&world, "off").await;
    let id = api.create(&order("tok_success")).await;
    let waiting = api.wait_status(&id, "on_hold").await;
    assert_eq!(waiting["status_details"]["code"], "waiting_for_confirms");
    let large = api.create(&order_of("tok_success", 600_000)).await;
    api.wait_status(&large, "on_hold").await;
    assert_eq!(world.api("approver").act(&large, "approve").await.problem(), (409, "confirms_off", ""));
    assert!(world.pike.seen_on("session/confirm").is_empty());
    assert_eq!(world.api("operator").get("/v1/confirms").await.body["switches"]["project"], "off");
    switch(&world, "on").await;
    let payout = api.wait_status(&id, "succeeded").await;
    assert_paid(&world.ledger().await, &payout);
    assert_eq!(api.payout(&large).await["status"], "on_hold", "a hold for a person stays one");
    assert_eq!(world.api("approver").act(&large, "approve").await.status, 200);
    api.wait_status(&large, "succeeded").await;
    assert_story(&api, &payout).await;
}

#[tokio::test]
async fn one_projects_switch_is_not_anothers() {
    let world = World::open().await;
    switch(&world, "off").await;
    world.api("stranger").run(&order("tok_success"), "succeeded").await;
    let id = world.caller().create(&order("tok_success")).await;
    world.caller().wait_status(&id, "on_hold").await;
}
