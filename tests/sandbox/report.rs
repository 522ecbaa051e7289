//! The report on a run, made of sessions most of which are archived.

use payoutd::sandbox::{SecondStart, Settings};
use serde_json::{Value, json};

use crate::support::{StateFile, World, card, start_body, until};

fn few_in_memory(settings: &mut Settings) {
    settings.keep_sessions = 4;
    settings.timing.webhook_retry.clear();
    settings.second_start = SecondStart::Add;
}

/// Creates, starts and confirms a payout, each call with its key if there is one; the session's id.
async fn pay(world: &World, token: &str, metadata: Value, key: Option<&str>) -> String {
    let call = |method: &'static str, body: Value| async move {
        let (status, answer) = world.call_as("shop", "v2", method, &body, key).await;
        assert_eq!(status, 200, "{answer}");
        answer["session"]["id"].as_str().unwrap().to_owned()
    };
    let id = call("create", json!({})).await;
    let mut body = start_body(&id, token);
    body["metadata"] = metadata;
    call("start/payout", body).await;
    world.wait_ready(&id).await;
    call("confirm", json!({ "session_id": id })).await;
    id
}

async fn settled(world: &World, id: &str) {
    world.wait_for(id, "an end", |session| session["status"] != "in_progress").await;
}

#[tokio::test]
async fn what_was_paid_twice_stands_out() {
    let world = World::open_with(few_in_memory).await;
    let mut ids = Vec::new();
    for n in 0..6 {
        ids.push(pay(&world, "tok_success", json!(format!("wd-{n}/1")), Some(&format!("key-{n}"))).await);
    }
    let declined = pay(&world, "tok_decline", json!("wd-6/1"), Some("key-6")).await;
    settled(&world, &declined).await;
    ids.push(pay(&world, "tok_success", json!("wd-6/2"), Some("key-6b")).await);
    let again = pay(&world, "tok_success", json!("wd-2/1"), Some("key-2b")).await;
    let unasked = world.started("tok_paid_unasked").await;
    for id in ids.iter().chain([&again, &unasked]) {
        settled(&world, id).await;
    }
    world.created().await;

    let report = world.get("/_sandbox/report?project=shop").await;
    let kinds = json!({ "created": 11, "started": 10, "confirmed": 9, "paid": 9, "returned": 0, "open": 1 });
    assert_eq!(report["sessions"], kinds);
    assert_eq!(report["money"][0]["payouts_paid"], 9);
    assert_eq!((&report["calls"]["session/create"], &report["answers_lost"]), (&json!(11), &json!(0)));
    assert_eq!(report["calls_per_payout"]["session/create"], 1.1);
    assert!(report["calls_per_payout"]["all"].as_f64().unwrap() > 3.0);
    let webhooks = json!({ "attempts": 0, "delivered": 0, "given_up": 0, "under_way": 0 });
    assert_eq!((&report["webhooks"], &report["faults"]), (&webhooks, &json!({})));
    assert_eq!(report["forgeries"], json!({ "sent": 0, "accepted": 0 }));
    let by = &report["by_metadata"];
    assert_eq!(by["distinct"], 9);
    assert_eq!(by["paid"], json!({ "0": 1, "1": 7, "2": 1 }));
    assert_eq!(by["confirmed"], json!({ "0": 1, "1": 7, "2": 1 }));
    let expected = json!([{ "metadata": "wd-2/1", "sessions": [ids[2], again], "sessions_total": 2,
        "confirmed": 2, "paid": 2 }]);
    assert_eq!((&by["more_than_once"], &by["more_than_once_total"]), (&expected, &json!(1)));
    let by = &report["by_idempotency_key"];
    assert_eq!((&by["distinct"], &by["more_than_once"]), (&json!(9), &json!([])));
    assert_eq!(by["paid"], json!({ "0": 1, "1": 8 }));
    assert_eq!(
        (&report["paid_without_confirm"], &report["paid_more_than_once"]),
        (&json!([unasked]), &json!([]))
    );

    // The attempts of a payout are one payout: confirmed twice, paid once.
    let cut = world.get("/_sandbox/report?cut=/").await["by_metadata"].clone();
    assert_eq!((&cut["distinct"], &cut["more_than_once_total"]), (&json!(8), &json!(2)));
    let second = &cut["more_than_once"][1];
    assert_eq!((&second["metadata"], &second["sessions"]), (&json!("wd-6"), &json!([declined, ids[6]])));
    assert_eq!((&second["confirmed"], &second["paid"]), (&json!(2), &json!(1)));
    assert_eq!(world.get("/_sandbox/report?project=other").await["sessions"]["created"], 0);
}

#[tokio::test]
async fn one_session_or_one_key_can_be_paid_twice_too() {
    let world = World::open_with(few_in_memory).await;
    let added = world.started("tok_success_1").await;
    world.ok("start/payout", start_body(&added, "tok_success_1")).await;
    world
        .wait_for(&added, "both ready", |session| {
            session["payout_list"].as_array().unwrap().iter().all(|payout| payout["status"] == "pending")
        })
        .await;
    world.ok("confirm", json!({ "session_id": added })).await;
    // A key is used again with another method, which Pike may allow.
    let body = json!({ "payout_details": card("tok_success"),
        "amount_details": { "amount": 5, "currency": "rub" }, "metadata": 7 });
    let (_, answer) = world.call_as("shop", "v2", "init/payout", &body, Some("key")).await;
    let first = answer["session"]["id"].as_str().unwrap().to_owned();
    world.wait_ready(&first).await;
    world.ok("confirm", json!({ "session_id": first })).await;
    let second = pay(&world, "tok_success", json!(null), Some("key")).await;
    for id in [&added, &first, &second] {
        settled(&world, id).await;
    }
    let report = world.get("/_sandbox/report").await;
    assert_eq!(report["paid_more_than_once"], json!([added]));
    let by = &report["by_metadata"]["more_than_once"];
    assert_eq!((&by[0]["metadata"], &by[0]["paid"]), (&json!({ "attempt": "tok_success_1" }), &json!(2)));
    assert_eq!((&by[0]["confirmed"], &by[1]), (&json!(1), &Value::Null));
    let by = &report["by_idempotency_key"]["more_than_once"][0];
    assert_eq!((&by["key"], &by["sessions"]), (&json!("key"), &json!([first, second])));
    let (status, answer) = world.call_as("auto", "v2", "init/payout", &body, None).await;
    assert_eq!(status, 200, "{answer}");
    until("the payout that needs no confirm", || async {
        let kinds = world.get("/_sandbox/report?project=auto").await["sessions"].clone();
        (kinds["paid"] == 1).then_some(())
    })
    .await;
    let report = world.get("/_sandbox/report").await;
    assert_eq!(report["paid_without_confirm"], json!([]), "where nobody is to confirm, nobody has to");
}

#[tokio::test]
async fn the_report_is_written_at_the_end() {
    let file = StateFile::new("report");
    let world = World::open_with(|settings| {
        few_in_memory(settings);
        settings.report = Some(file.0.clone());
    })
    .await;
    for _ in 0..9 {
        world.created().await;
    }
    assert!(!file.0.exists());
    world.stop().await;
    let text = std::fs::read_to_string(&file.0).unwrap();
    assert!(text.starts_with("{\n  \"sessions\": {\n    \"created\": 9,") && text.ends_with("}\n"), "{text}");
}

#[tokio::test]
async fn a_key_counts_for_what_it_did_not_for_what_it_was_refused() {
    let world = World::open().await;
    let start = async |id: &str, key: &str| {
        let body = crate::support::start_body(id, "tok_success");
        world.call_as("shop", "v2", "start/payout", &body, Some(key)).await.0
    };
    let (first, second) = (world.created().await, world.created().await);
    assert_eq!(start(&first, "k1").await, 200);
    assert_eq!(start(&second, "k1").await, 400);
    assert_eq!(start(&second, "k2").await, 200);
    for id in [&first, &second] {
        world.wait_ready(id).await;
        world.ok("confirm", json!({ "session_id": id })).await;
        world.wait_status(id, "accepted").await;
    }
    let keys = world.get("/_sandbox/report").await["by_idempotency_key"].clone();
    assert_eq!((&keys["distinct"], &keys["paid"]), (&json!(2), &json!({ "1": 2 })));
}
