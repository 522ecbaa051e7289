//! Creating once, whatever the network does to the request; and finding what was created.

use crate::{
    support::{
        rest::{Api, order, order_of},
        unique,
    },
    world::World,
};
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::collections::BTreeSet;

#[tokio::test]
async fn fifty_at_once_with_one_key_are_one_payout() {
    let world = World::open().await;
    let api = world.caller();
    let order = order("tok_success");
    let answers = join_all((0..50).map(|_| api.create_with_key("the-key", &order))).await;
    let created = answers.iter().filter(|answer| answer.status == 201).count();
    let replayed: Vec<_> = answers.iter().filter(|answer| answer.status == 200).collect();
    assert_eq!((created, replayed.len()), (1, 49));
    assert!(replayed.iter().all(|answer| answer.headers["idempotent-replayed"] == "true"));
    let ids: BTreeSet<String> = answers.iter().map(crate::support::rest::Answer::id).collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(world.count("SELECT count(*) FROM payouts").await, 1);
    let id = ids.first().unwrap();
    api.wait_status(id, "succeeded").await;
    assert_eq!(world.ledger().await.times_paid(id), 1);
    let late = api.create_with_key("the-key", &order).await;
    assert_eq!((late.status, late.body["status"].as_str()), (200, Some("succeeded")), "no expiry");
}

#[tokio::test]
async fn one_key_means_one_request() {
    let world = World::open().await;
    let api = world.caller();
    let mut order = order("tok_success");
    let first = api.create_with_key("the-key", &order).await;
    assert_eq!(first.headers["location"], format!("/v1/payouts/{}", first.id()).as_str());
    for (place, value) in [
        ("/amount", json!(125_051)),
        ("/currency", json!("EUR")),
        ("/recipient/name", json!("Anna Petrov")),
        ("/destination/token", json!("tok_other")),
        ("/destination/type", json!("recurrent")),
        ("/customer_reference", json!("someone-else")),
    ] {
        let mut other = order.clone();
        *other.pointer_mut(place).unwrap() = value;
        let answer = api.create_with_key("the-key", &other).await;
        assert_eq!(answer.problem(), (422, "idempotency_key_reused", "Idempotency-Key"), "{place}");
        assert_eq!(answer.body["payout"], first.body["id"]);
    }
    // Spelling is not content.
    let spelled = serde_json::to_string_pretty(&order).unwrap();
    assert_eq!(api.send(api.creating("the-key", spelled)).await.status, 200);
    assert_eq!(world.api("second_caller").create_with_key("the-key", &order).await.status, 200);
    assert_eq!(world.count("SELECT count(*) FROM payouts").await, 1);
    order["metadata"] = json!({ "a": "b" });
    assert_eq!(api.create_with_key("the-key", &order).await.status, 422);
}

/// Whatever became of the payout: who wants to try again says so with another key.
#[tokio::test]
async fn a_key_outlives_the_end_of_its_payout() {
    let world = World::open().await;
    let api = world.caller();
    for (key, order, status) in
        [("one", order_of("tok_success", 1), "cancelled"), ("two", order("tok_decline"), "failed")]
    {
        let id = api.create_with_key(key, &order).await.id();
        let payout = api.wait_status(&id, status).await;
        let again = api.create_with_key(key, &order).await;
        assert_eq!((again.status, &again.body), (200, &payout));
    }
    assert_eq!(world.count("SELECT count(*) FROM payouts").await, 2);
    assert_eq!(world.ledger().await.sessions().len(), 2);
}

#[tokio::test]
async fn a_reference_belongs_to_one_payout() {
    let world = World::open().await;
    let api = world.caller();
    let mut order = order("tok_success");
    order["reference"] = json!("wd-1");
    let first = api.create(&order).await;
    let answers = join_all((0..10).map(|_| async { api.create_with_key(&unique(), &order).await })).await;
    for answer in answers {
        assert_eq!(answer.problem(), (409, "reference_taken", "reference"));
        assert_eq!(answer.body["payout"], first.as_str());
    }
    assert_eq!(world.count("SELECT count(*) FROM payouts").await, 1);
}

#[tokio::test]
async fn callers_who_hang_up_cost_nobody_anything() {
    let world = World::open().await;
    let api = world.caller();
    let orders: Vec<(String, Value)> = (0..60).map(|_| (unique(), order("tok_success"))).collect();
    for (n, (key, order)) in (0_u64..).zip(&orders) {
        let request = api.send(api.creating(key, order.to_string()));
        // Each hangs up at another moment of its request.
        let _ = tokio::time::timeout(std::time::Duration::from_micros(n * 150), request).await;
    }
    let mut ids = BTreeSet::new();
    for (key, order) in &orders {
        let answer = api.create_with_key(key, order).await;
        assert!(matches!(answer.status, 200 | 201), "{}", answer.text);
        ids.insert(answer.id());
    }
    assert_eq!(ids.len(), orders.len());
    assert_eq!(world.count("SELECT count(*) FROM payouts").await, 60, "every answered one is stored, once");
    for id in &ids {
        api.wait_status(id, "succeeded").await;
    }
    assert_eq!(world.ledger().await.money_out(), 60 * 125_050);
}

/// All pages of a query, as ids.
async fn pages(api: &Api, query: &str) -> Vec<String> {
    let (mut ids, mut cursor) = (vec![], String::new());
    loop {
        let page = api.get(&format!("/v1/payouts?{query}{cursor}")).await;
        assert_eq!(page.status, 200, "{}", page.text);
        let data = page.body["data"].as_array().unwrap();
        ids.extend(data.iter().map(|payout| payout["id"].as_str().unwrap().to_owned()));
        let Some(next) = page.body["next_cursor"].as_str() else { return ids };
        assert!(!data.is_empty());
        cursor = format!("&cursor={next}");
    }
}

#[tokio::test]
async fn lists_have_no_gaps_and_no_repetitions() {
    let world = World::open().await;
    let api = world.caller();
    let mut created = vec![];
    for _ in 0..23 {
        created.push(api.create(&order("tok_success")).await);
    }
    world.api("stranger").create(&order("tok_success")).await;
    created.reverse();
    for limit in [1, 7, 23, 24, 200] {
        assert_eq!(pages(&api, &format!("limit={limit}")).await, created, "pages of {limit}");
    }
    let first = api.get("/v1/payouts?limit=5").await;
    let cursor = first.body["next_cursor"].as_str().unwrap().to_owned();
    api.create(&order("tok_success")).await;
    let second = api.get(&format!("/v1/payouts?limit=5&cursor={cursor}")).await;
    let ids = second.body["data"].as_array().unwrap().iter().map(|payout| payout["id"].as_str().unwrap());
    assert!(ids.eq(created[5..10].iter().map(String::as_str)), "what is new does not shift the pages");
}

#[tokio::test]
async fn lists_can_be_narrowed() {
    let world = World::open().await;
    let api = world.caller();
    let mut with_reference = order("tok_success");
    with_reference["reference"] = json!("wd/1#a");
    let good = api.run(&with_reference, "succeeded").await;
    let bad = api.run(&order("tok_decline_early"), "failed").await;
    let id = |payout: &Value| payout["id"].as_str().unwrap().to_owned();
    let created = |payout: &Value| payout["created_at"].as_str().unwrap().to_owned();
    let only_good = vec![id(&good)];
    let both = vec![id(&bad), id(&good)];
    assert_eq!(pages(&api, "status=succeeded").await, only_good);
    assert_eq!(pages(&api, "status=failed,succeeded").await, both);
    assert_eq!(pages(&api, "status=on_hold").await, Vec::<String>::new());
    assert_eq!(pages(&api, "reference=wd%2F1%23a").await, only_good);
    assert_eq!(pages(&api, "reference=other").await, Vec::<String>::new());
    assert_eq!(pages(&api, &format!("created_before={}", created(&bad))).await, only_good);
    assert_eq!(pages(&api, &format!("created_from={}", created(&good))).await, both);
    assert_eq!(pages(&api, &format!("created_from={}&project=shop", created(&bad))).await, [id(&bad)]);
    let listed = api.get("/v1/payouts?status=succeeded").await.body["data"][0].clone();
    assert_eq!(listed, good, "a list shows what a get shows");
}
