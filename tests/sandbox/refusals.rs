//! Calls that are turned away, and input that is not a call at all.

use serde_json::json;

use crate::support::{World, assert_error, partner_keys, start_body};

const CREATE: &str = "/api/v2/session/create";

#[tokio::test]
async fn who_calls_must_be_known_and_must_have_signed_these_bytes() {
    let world = World::open().await;
    let good = partner_keys().sign(b"{}");
    let cases: [(&[(&str, &str)], &str); 6] = [
        (&[("X-PARTNER-SIGN", &good)], "identification_error"),
        (&[("X-PARTNER-PROJECT", "nobody"), ("X-PARTNER-SIGN", &good)], "identification_error"),
        (&[("X-PARTNER-PROJECT", "shop")], "authentication_error"),
        (&[("X-PARTNER-PROJECT", "shop"), ("X-PARTNER-SIGN", "AAAA")], "authentication_error"),
        (&[("X-PARTNER-PROJECT", "shop"), ("X-PARTNER-SIGN", &good[..342])], "authentication_error"),
        (&[("X-PARTNER-PROJECT", "shop"), ("X-PARTNER-SIGN", &format!("{good}="))], "authentication_error"),
    ];
    for (headers, code) in cases {
        let (status, answer) = world.post(CREATE, headers, b"{}".to_vec()).await;
        assert_error(status, &answer, 401, code);
    }
    let headers = [("x-partner-project", "shop"), ("x-partner-sign", good.as_str())];
    let (status, answer) = world.post(CREATE, &headers, b"{ }".to_vec()).await;
    assert_error(status, &answer, 401, "authentication_error");
    assert_eq!(world.post(CREATE, &headers, b"{}".to_vec()).await.0, 200);
}

#[tokio::test]
async fn empty_bodies_come_in_three_shapes() {
    let world = World::open().await;
    for body in ["", "{}", "[]"] {
        let signature = partner_keys().sign(body.as_bytes());
        let headers = [("X-PARTNER-PROJECT", "shop"), ("X-PARTNER-SIGN", signature.as_str())];
        let (status, answer) = world.post(CREATE, &headers, body.into()).await;
        assert_eq!(status, 200, "{answer}");
    }
}

#[tokio::test]
async fn what_is_not_a_request_is_an_invalid_one() {
    let world = World::open().await;
    let huge = format!("{{\"metadata\":\"{}\"}}", "x".repeat(1024 * 1024));
    for body in
        ["{", "null", "[1]", "\"\"", "{\"amount_details\":{\"amount\":\"5\",\"currency\":\"rub\"}}", &huge]
    {
        let signature = partner_keys().sign(body.as_bytes());
        let headers = [("X-PARTNER-PROJECT", "shop"), ("X-PARTNER-SIGN", signature.as_str())];
        let (status, answer) = world.post(CREATE, &headers, body.into()).await;
        assert_error(status, &answer, 400, "invalid_request");
    }
    let (status, answer) = world.post("/api/v3/session/create", &[], Vec::new()).await;
    assert_error(status, &answer, 404, "invalid_request");
    let answer = world.get(CREATE).await;
    assert_eq!(answer["error"]["code"], "invalid_request");
    let loose = world.get("/_sandbox/ledger/events").await["events"].clone();
    let strays: Vec<_> =
        loose.as_array().unwrap().iter().map(|event| event["event"]["stray"].clone()).collect();
    assert!(strays.contains(&json!({ "verb": "POST", "path": "/api/v3/session/create" })), "{strays:?}");
    assert!(strays.contains(&json!({ "verb": "GET", "path": CREATE })), "{strays:?}");
}

#[tokio::test]
async fn a_session_belongs_to_its_project() {
    let world = World::open().await;
    let id = world.created().await;
    let body = json!({ "session_id": id });
    let (status, answer) = world.call_as("other", "v2", "status", &body, None).await;
    assert_error(status, &answer, 400, "invalid_request");
    for body in [json!({}), json!({ "session_id": "ps_1" }), json!({ "session_id": "" })] {
        world.refused("status", body, 400, "invalid_request").await;
    }
}

#[tokio::test]
async fn every_call_has_its_states() {
    let world = World::open().await;
    let id = world.created().await;
    let named = json!({ "session_id": id });
    world.refused("confirm", named.clone(), 400, "session_wrong_state").await;
    world.refused("start/payout", named.clone(), 400, "invalid_request").await;
    world.ok("start/payout", start_body(&id, "tok_success")).await;
    world.refused("start/payout", start_body(&id, "tok_success"), 400, "session_wrong_state").await;
    world.wait_ready(&id).await;
    world.ok("confirm", named.clone()).await;
    world.refused("confirm", named.clone(), 400, "session_wrong_state").await;
    world.wait_status(&id, "accepted").await;
    world.refused("confirm", named.clone(), 400, "session_wrong_state").await;
    world.refused("cancel", named, 400, "session_wrong_state").await;
}

#[tokio::test]
async fn an_idempotency_key_rejects_and_does_not_replay() {
    let world = World::open().await;
    let call = |project, method, key| {
        let world = &world;
        async move { world.call_as(project, "v2", method, &json!({}), Some(key)).await }
    };
    assert_eq!(call("shop", "create", "k1").await.0, 200);
    let (status, answer) = call("shop", "create", "k1").await;
    assert_error(status, &answer, 400, "idempotency_key_already_exists");
    // One key per project and method.
    assert_eq!(call("other", "create", "k1").await.0, 200);
    let (status, answer) = call("shop", "status", "k1").await;
    assert_error(status, &answer, 400, "invalid_request");
    // A call that nobody signed uses no key up.
    let headers = [("X-PARTNER-PROJECT", "shop"), ("X-PARTNER-IDEMPOTENCY-KEY", "k2")];
    assert_eq!(world.post(CREATE, &headers, b"{}".to_vec()).await.0, 401);
    assert_eq!(call("shop", "create", "k2").await.0, 200);
    let ledger = world.get("/_sandbox/ledger?project=shop").await;
    assert_eq!(ledger["totals"]["sessions"], 2);
    let keys: Vec<_> =
        ledger["sessions"].as_array().unwrap().iter().map(|s| &s["idempotency_keys"]).collect();
    assert_eq!(keys, [&json!(["k1"]), &json!(["k2"])]);
}
