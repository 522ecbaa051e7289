//! Bad input against the running program: the right 4xx with the field named, nothing stored, never a 5xx.

use crate::{
    support::{
        rest::{Answer, Api, order},
        unique,
    },
    world::World,
};
use reqwest::Method;
use serde_json::{Value, json};

/// A good order with one place changed.
fn with(place: &str, value: Value) -> String {
    let mut order = order("tok_success");
    *order.pointer_mut(place).unwrap_or_else(|| panic!("no {place}")) = value;
    order.to_string()
}

/// A good order with something added to an object.
fn plus(object: &str, name: &str, value: Value) -> String {
    let mut order = order("tok_success");
    order.pointer_mut(object).unwrap()[name] = value;
    order.to_string()
}

fn without(object: &str, name: &str) -> String {
    let mut order = order("tok_success");
    order.pointer_mut(object).unwrap().as_object_mut().unwrap().remove(name).unwrap();
    order.to_string()
}

/// A good order as text, with one piece replaced: for what no JSON writer writes.
fn text(from: &str, to: &str) -> String {
    let good = order("tok_success").to_string();
    assert!(good.contains(from), "{from} is not in {good}");
    good.replace(from, to)
}

/// Body, status, code, field.
type Case = (String, u16, &'static str, &'static str);

fn amounts() -> Vec<Case> {
    let range = |value: &str| (text("125050", value), 422, "amount_out_of_range", "amount");
    let kind = |value: &str| (text("125050", value), 422, "wrong_type", "amount");
    vec![
        range("0"),
        range("-1"),
        range("1000000000001"),
        range("9223372036854775807"),
        range("9223372036854775808"),
        range("-9223372036854775808"),
        kind("1.5"),
        kind("100.0"),
        kind("1e2"),
        kind("\"100\""),
        kind("null"),
        kind("true"),
        kind("[100]"),
    ]
}

fn shapes() -> Vec<Case> {
    vec![
        (String::new(), 400, "malformed_json", ""),
        ("{".to_owned(), 400, "malformed_json", ""),
        ("nonsense".to_owned(), 400, "malformed_json", ""),
        (order("t").to_string() + "x", 400, "malformed_json", ""),
        (order("t").to_string() + "{}", 400, "malformed_json", ""),
        ("\u{feff}".to_owned() + &order("t").to_string(), 400, "malformed_json", ""),
        (text("\"RUB\"", "NaN"), 400, "malformed_json", ""),
        (text("Anna", "\\ud800"), 400, "malformed_json", ""),
        ("[]".to_owned(), 422, "wrong_type", ""),
        ("null".to_owned(), 422, "wrong_type", ""),
        ("\"text\"".to_owned(), 422, "wrong_type", ""),
        ("{}".to_owned(), 422, "missing_field", "amount"),
        (without("", "currency"), 422, "missing_field", "currency"),
        (without("", "destination"), 422, "missing_field", "destination"),
        (without("", "recipient"), 422, "missing_field", "recipient"),
        (without("", "customer_reference"), 422, "missing_field", "customer_reference"),
        (without("/recipient", "name"), 422, "missing_field", "recipient.name"),
        (without("/destination", "type"), 422, "missing_field", "destination.type"),
        (without("/destination", "token"), 422, "missing_field", "destination.token"),
        (plus("", "colour", json!("red")), 422, "unknown_field", "colour"),
        (plus("/recipient", "age", json!(7)), 422, "unknown_field", "recipient.age"),
        (plus("/destination", "number_hash", json!("a")), 422, "unknown_field", "destination.number_hash"),
        (text("{\"amount\"", "{\"amount\":1,\"amount\""), 422, "duplicate_field", "amount"),
        (text("{\"amount\"", "{\"\\u0061mount\":1,\"amount\""), 422, "duplicate_field", "amount"),
        (text("{\"name\"", "{\"name\":\"A\",\"name\""), 422, "duplicate_field", "recipient.name"),
        (with("/recipient", json!(["Anna"])), 422, "wrong_type", "recipient"),
        (with("/destination", json!("tok")), 422, "wrong_type", "destination"),
        (with("/currency", json!(643)), 422, "wrong_type", "currency"),
        (with("/recipient/name", json!(null)), 422, "wrong_type", "recipient.name"),
    ]
}

fn values() -> Vec<Case> {
    let mut many = serde_json::Map::new();
    (0..21).for_each(|n| drop(many.insert(format!("k{n}"), json!("v"))));
    vec![
        (with("/currency", json!("XXX")), 422, "unknown_currency", "currency"),
        (with("/currency", json!("RU")), 422, "unknown_currency", "currency"),
        (with("/currency", json!("")), 422, "unknown_currency", "currency"),
        (with("/recipient/name", json!("")), 422, "invalid_length", "recipient.name"),
        (with("/recipient/name", json!("x".repeat(141))), 422, "invalid_length", "recipient.name"),
        (with("/recipient/name", json!("Anna\0")), 422, "invalid_text", "recipient.name"),
        (with("/recipient/name", json!("A\nB")), 422, "invalid_text", "recipient.name"),
        (with("/customer_reference", json!("a b")), 422, "invalid_text", "customer_reference"),
        (with("/customer_reference", json!("c".repeat(65))), 422, "invalid_length", "customer_reference"),
        (plus("", "reference", json!("\0")), 422, "invalid_text", "reference"),
        (plus("", "reference", json!("")), 422, "invalid_length", "reference"),
        (plus("", "metadata", json!({ "a": "\0" })), 422, "invalid_text", "metadata.a"),
        (plus("", "metadata", json!({ "a": 1 })), 422, "wrong_type", "metadata.a"),
        (plus("", "metadata", json!(many)), 422, "too_many_entries", "metadata"),
        (with("/destination/token", json!("t".repeat(513))), 422, "invalid_length", "destination.token"),
        (with("/destination/token", json!("t k")), 422, "invalid_text", "destination.token"),
        (with("/destination/type", json!("iban")), 422, "unknown_destination_type", "destination.type"),
        (with("/destination/type", json!("bank_card")), 422, "raw_card_refused", "destination.type"),
        (with("/destination/token", json!("4111111111111111")), 422, "raw_card_refused", "destination.token"),
        (with("/recipient/name", json!("4111 1111 1111 1111")), 422, "raw_card_refused", "recipient.name"),
        (plus("/destination", "pan", json!("4")), 422, "raw_card_refused", "destination.pan"),
    ]
}

fn assert_problem(answer: &Answer, (body, status, code, field): &Case) {
    let shown: String = body.chars().take(200).collect();
    assert_eq!(answer.problem(), (*status, *code, *field), "{shown}\n{}", answer.text);
    assert_eq!(answer.headers["content-type"], "application/problem+json");
    assert_eq!(answer.body["status"], *status);
    assert!(!answer.text.contains("4111"), "a problem repeats nothing: {}", answer.text);
}

#[tokio::test]
async fn bad_bodies_are_refused_with_their_field_and_nothing_is_stored() {
    let world = World::open().await;
    let api = world.caller();
    let cases = [amounts(), shapes(), values()].concat();
    for case in &cases {
        let answer = api.send(api.creating(&unique(), case.0.clone())).await;
        assert_problem(&answer, case);
    }
    let depth = "[".repeat(60_000);
    let deep = api.send(api.creating(&unique(), depth)).await;
    assert!((400..500).contains(&deep.status), "{}", deep.text);
    nothing_stored(&world).await;
    // The same connection and key are still good for a good order.
    api.create(&order("tok_success")).await;
}

async fn nothing_stored(world: &World) {
    for table in [
        "SELECT count(*) FROM payouts",
        "SELECT count(*) FROM effects",
        "SELECT count(*) FROM history",
        "SELECT count(*) FROM notifications",
    ] {
        assert_eq!(world.count(table).await, 0, "{table}");
    }
    assert!(world.ledger().await.sessions().is_empty());
}

#[tokio::test]
async fn bad_envelopes_are_refused() {
    let world = World::open().await;
    let api = world.caller();
    let key = &world.keys["caller"];
    let body = || order("tok_success").to_string();
    let bare = || api.request(Method::POST, "/v1/payouts").bearer_auth(key);
    let json = || bare().header("content-type", "application/json");
    let with_key = |value: &str| json().header("idempotency-key", value).body(body());
    for (request, expected) in [
        (json().body(body()), (400, "idempotency_key_missing", "Idempotency-Key")),
        (with_key(""), (400, "idempotency_key_invalid", "Idempotency-Key")),
        (with_key("two words"), (400, "idempotency_key_invalid", "Idempotency-Key")),
        (with_key(&"k".repeat(129)), (400, "idempotency_key_invalid", "Idempotency-Key")),
        (with_key("a").header("idempotency-key", "a"), (400, "idempotency_key_invalid", "Idempotency-Key")),
        (with_key("4111111111111111"), (400, "raw_card_refused", "Idempotency-Key")),
        (bare().header("idempotency-key", "a").body(body()), (415, "unsupported_media_type", "")),
        (
            bare().header("idempotency-key", "a").header("content-type", "text/plain").body(body()),
            (415, "unsupported_media_type", ""),
        ),
        (with_key("a").header("content-encoding", "gzip"), (415, "unsupported_media_type", "")),
        (api.creating("a", " ".repeat(64 * 1024 + 1)), (413, "body_too_large", "")),
    ] {
        let answer = api.send(request).await;
        let (status, code, field) = answer.problem();
        let status = if expected.1 == "raw_card_refused" { expected.0 } else { status };
        assert_eq!((status, code, field), expected, "{}", answer.text);
        assert!((400..500).contains(&answer.status));
    }
    nothing_stored(&world).await;
}

#[tokio::test]
async fn wrong_paths_methods_ids_and_bodies_of_commands_are_refused() {
    let world = World::open().await;
    let (api, owner) = (world.caller(), world.api("owner"));
    let unknown = "/v1/payouts/payout_0191d2c47a3b7c5d8e9f0a1b2c3d4e5f";
    for path in [unknown, "/v1/payouts/payout_1", "/v1/payouts/%00", "/v1/payouts/..%2f..", "/v1/payouts/ü"]
    {
        for rest in ["", "/history"] {
            assert_eq!(
                api.get(&format!("{path}{rest}")).await.problem(),
                (404, "no_such_payout", ""),
                "{path}"
            );
        }
        for action in ["cancel", "approve", "reject"] {
            let answer = owner.post(&format!("{path}/{action}")).await;
            assert_eq!(answer.problem(), (404, "no_such_payout", ""), "{path}/{action}");
        }
    }
    assert_eq!(api.get("/v1/nothing").await.problem(), (404, "no_such_route", ""));
    let put = owner.put("/v1/payouts", &json!({})).await;
    assert_eq!(put.problem(), (405, "method_not_allowed", ""));
    assert!(put.headers.contains_key("allow"));
    let id = api.create(&order("tok_success")).await;
    bad_switches(&owner).await;
    let cancel = |body: &'static str| {
        let request = api.request(Method::POST, &format!("/v1/payouts/{id}/cancel"));
        api.send(
            request.bearer_auth(&world.keys["caller"]).header("content-type", "application/json").body(body),
        )
    };
    assert_eq!(cancel("{").await.problem(), (400, "malformed_json", ""));
    assert_eq!(cancel(r#"{"why":"x"}"#).await.problem(), (422, "unknown_field", "why"));
    api.wait_status(&id, "succeeded").await;
}

async fn bad_switches(owner: &Api) {
    for (body, expected) in [
        (json!({}), (422, "missing_field", "confirms")),
        (json!({ "confirms": "maybe", "reason": "x" }), (422, "unknown_value", "confirms")),
        (json!({ "confirms": "off", "reason": "" }), (422, "invalid_length", "reason")),
        (json!({ "confirms": "off", "reason": "a\u{0}" }), (422, "invalid_text", "reason")),
    ] {
        assert_eq!(owner.put("/v1/confirms", &body).await.problem(), expected);
    }
}

#[tokio::test]
async fn bad_queries_are_refused() {
    let world = World::open().await;
    let api = world.caller();
    for (query, status, code, field) in [
        ("status=paid", 400, "invalid_parameter", "status"),
        ("limit=0", 400, "invalid_parameter", "limit"),
        ("limit=201", 400, "invalid_parameter", "limit"),
        ("cursor=abc", 400, "invalid_parameter", "cursor"),
        ("created_from=yesterday", 400, "invalid_parameter", "created_from"),
        ("reference=a%00", 400, "invalid_parameter", "reference"),
        ("colour=red", 400, "unknown_parameter", "colour"),
        ("limit=1&limit=1", 400, "duplicate_parameter", "limit"),
        ("project=other", 404, "unknown_project", "project"),
    ] {
        let answer = api.get(&format!("/v1/payouts?{query}")).await;
        assert_eq!(answer.problem(), (status, code, field), "{query}: {}", answer.text);
    }
}
