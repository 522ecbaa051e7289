//! What the ledger says, against what was done.

use serde_json::json;

use crate::support::{World, assert_error, until};

#[tokio::test]
async fn the_ledger_tells_the_truth() {
    let world = World::open().await;
    assert_eq!(world.get("/_sandbox/health").await["status"], "ok");
    let paid = world.confirmed("tok_success_1").await;
    let declined = world.confirmed("tok_decline_1").await;
    let idle = world.created().await;
    world.wait_status(&paid, "accepted").await;
    world.wait_status(&declined, "cancelled").await;
    let (status, answer) = world.call_as("other", "v1", "create", &json!({}), None).await;
    assert_eq!(status, 200, "{answer}");

    let line = world.line(&paid).await;
    for (field, value) in [
        ("project", json!("shop")),
        ("status", json!("accepted")),
        ("payout_status", json!("succeeded")),
        ("metadata", json!({ "attempt": "tok_success_1" })),
        ("amount", json!(125_050)),
        ("currency", json!("RUB")),
        ("starts", json!(1)),
        ("confirms_accepted", json!(1)),
        ("cancels_accepted", json!(0)),
        ("paid_times", json!(1)),
        ("confirmed", json!(true)),
    ] {
        assert_eq!(line[field], value, "{field}");
    }
    let line = world.line(&declined).await;
    assert_eq!((&line["paid_times"], &line["confirmed"]), (&json!(0), &json!(true)));
    assert_eq!(world.line(&idle).await["payout_status"], json!(null));

    let all = world.get("/_sandbox/ledger").await;
    assert_eq!(all["totals"]["sessions"], 4);
    let shop = world.get("/_sandbox/ledger?project=shop").await;
    assert_eq!(shop["sessions"].as_array().unwrap().len(), 3);
    let totals = &shop["totals"];
    assert_eq!((&totals["paid_sessions"], &totals["confirmed_sessions"]), (&json!(1), &json!(2)));
    let money =
        json!([{ "project": "shop", "currency": "RUB", "out": 125_050, "back": 0, "payouts_paid": 1 }]);
    assert_eq!(totals["money"], money);
    assert_eq!(totals["calls"]["session/create"], 3);
    assert_eq!(totals["calls"]["session/confirm"], 2);
}

#[tokio::test]
async fn raw_events_name_the_call_and_hash_its_body() {
    let world = World::open().await;
    let id = world.confirmed("tok_success_secret").await;
    world.sink.wait(&id, "payment_finished", 1).await;
    let events = until("both webhooks in the ledger", || async {
        let page = world.get(&format!("/_sandbox/ledger/events?session={id}")).await;
        (page.to_string().matches("\"webhook\"").count() == 2).then_some(page)
    });
    let events = events.await;
    let first = &events["events"][0]["event"]["request"];
    assert_eq!((&first["method"], &first["verdict"]), (&json!("session/create"), &json!("accepted")));
    assert_eq!(first["body_sha256"], "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a");
    let text = events.to_string();
    assert!(text.contains("\"money\"") && text.contains("\"change\"") && !text.contains("secret"));

    world.refused("status", json!({ "session_id": "ps_0" }), 400, "invalid_request").await;
    let (status, answer) = world.post("/api/v1/session/confirm", &[], b"{}".to_vec()).await;
    assert_error(status, &answer, 401, "identification_error");
    let loose = world.get("/_sandbox/ledger/events").await;
    assert_eq!(loose["events"][0]["event"]["request"]["verdict"]["refused"], "invalid_request");
    assert_eq!(loose["events"][1]["event"]["request"]["verdict"]["refused"], "identification_error");
    assert_eq!(world.get("/_sandbox/ledger/events?session=ps_0").await["status"], "error");
}
