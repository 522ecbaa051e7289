//! A sandbox that keeps four sessions in memory: whoever asks it cannot tell.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::{Sink, StateFile, World, settings, start_body, until};

/// Four sessions in memory, and no webhook that could keep one there.
async fn forgetful() -> World {
    World::open_with(|settings| {
        settings.keep_sessions = 4;
        settings.timing.webhook_retry.clear();
    })
    .await
}

/// Creates sessions until those before have left.
async fn push_out(world: &World) {
    for _ in 0..6 {
        world.created().await;
    }
}

async fn paid(world: &World, token: &str) -> String {
    let id = world.confirmed(token).await;
    world.wait_status(&id, "accepted").await;
    id
}

async fn requests(world: &World, id: &str) -> Vec<(String, Value)> {
    let page = world.get(&format!("/_sandbox/ledger/events?session={id}")).await;
    let events = page["events"].as_array().unwrap().clone();
    let requests = events.iter().filter_map(|event| event["event"].get("request"));
    requests
        .map(|request| (request["method"].as_str().unwrap().to_owned(), request["verdict"].clone()))
        .collect()
}

#[tokio::test]
async fn an_archived_session_answers_as_before() {
    let world = forgetful().await;
    let id = paid(&world, "tok_success_1").await;
    let before = world.status(&id).await;
    let calls = requests(&world, &id).await.len();
    push_out(&world).await;
    assert_eq!(world.status(&id).await, before);
    assert_eq!(requests(&world, &id).await.len(), calls, "a look at the archive is nobody's event");
    let loose = world.get("/_sandbox/ledger/events").await;
    let last = loose["events"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(last["event"]["request"]["method"], "session/status");

    world.refused("confirm", json!({ "session_id": id }), 400, "session_wrong_state").await;
    push_out(&world).await;
    let (method, verdict) = requests(&world, &id).await.pop().unwrap();
    assert_eq!((method.as_str(), &verdict["refused"]), ("session/confirm", &json!("session_wrong_state")));
    let (status, answer) = world.call_as("other", "v2", "status", &json!({ "session_id": id }), None).await;
    assert_eq!((status, &answer["error"]["code"]), (400, &json!("invalid_request")));
}

#[tokio::test]
async fn an_archived_session_goes_on_when_it_is_called() {
    let world = forgetful().await;
    let (created, cancelled) = (world.created().await, world.created().await);
    // It waits for its confirmation, so it does not leave at all.
    let started = world.started("tok_success_1").await;
    push_out(&world).await;
    world.ok("start/payout", start_body(&created, "tok_success_2")).await;
    world.ok("cancel", json!({ "session_id": cancelled })).await;
    for id in [&created, &started] {
        world.wait_ready(id).await;
        world.ok("confirm", json!({ "session_id": id })).await;
        world.wait_status(id, "accepted").await;
    }
    world.wait_status(&cancelled, "cancelled").await;
    push_out(&world).await;
    let line = world.line(&created).await;
    assert_eq!((&line["starts"], &line["paid_times"]), (&json!(1), &json!(1)));
    let calls = requests(&world, &created).await;
    let methods: Vec<_> = calls
        .iter()
        .map(|(method, _)| method.as_str())
        .filter(|method| *method != "session/status")
        .collect();
    assert_eq!(methods, ["session/create", "session/start/payout", "session/confirm"]);
}

/// What was done, against every line and sum of the ledger, read whole and in pages.
#[tokio::test]
async fn the_ledger_is_whole_and_so_are_its_pages() {
    let world = forgetful().await;
    let mut done = BTreeMap::new();
    for n in 0..15 {
        done.insert(paid(&world, &format!("tok_success_{n}")).await, json!([1, 1, "accepted"]));
        done.insert(world.created().await, json!([0, 0, "created"]));
        let declined = world.confirmed("tok_decline").await;
        world.wait_status(&declined, "cancelled").await;
        done.insert(declined, json!([1, 0, "cancelled"]));
    }
    let (_, other) = world.call_as("other", "v2", "create", &json!({}), None).await;
    let other = other["session"]["id"].as_str().unwrap();
    let told = |line: &Value| {
        let facts = json!([line["confirms_accepted"], line["paid_times"], line["status"]]);
        (line["id"].as_str().unwrap().to_owned(), facts)
    };

    let ledger = world.get("/_sandbox/ledger?project=shop").await;
    let lines = ledger["sessions"].as_array().unwrap();
    assert_eq!((lines.len(), &ledger["next"]), (45, &Value::Null));
    assert_eq!(lines.iter().map(told).collect::<BTreeMap<_, _>>(), done);
    let totals = &ledger["totals"];
    for (name, count) in [("sessions", 45), ("paid_sessions", 15), ("confirmed_sessions", 30)] {
        assert_eq!(totals[name], count, "{name}");
    }
    assert_eq!(totals["money"][0]["out"], 15 * 125_050);

    let mut paged = Vec::new();
    let mut after = String::new();
    loop {
        let page = world.get(&format!("/_sandbox/ledger?project=shop&limit=20{after}")).await;
        let lines = page["sessions"].as_array().unwrap();
        assert!(lines.len() == 20 || page["next"].is_null());
        paged.extend(lines.iter().cloned());
        assert_eq!(page["totals"]["money"], totals["money"]);
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
        // What moves between two pages is neither lost nor told twice.
        world.refused("confirm", json!({ "session_id": paged[3]["id"] }), 400, "session_wrong_state").await;
        let named = json!({ "session_id": other });
        world.call_as("other", "v2", "confirm", &named, None).await;
    }
    assert_eq!(paged, *lines);
    let full = world.get("/_sandbox/ledger?project=shop&limit=45").await;
    assert_eq!((full["sessions"].as_array().unwrap().len(), &full["next"]), (45, &Value::Null));
    assert_eq!(world.get("/_sandbox/ledger").await["sessions"].as_array().unwrap().len(), 46);
    for (query, name) in [("limit=0", "limit"), ("limit=x", "limit"), ("after=ps_1", "after")] {
        let answer = world.get(&format!("/_sandbox/ledger?{query}")).await;
        assert_eq!(answer["error"]["code"], "invalid_request");
        let description = answer["error"]["description"].as_str().unwrap();
        assert!(description.starts_with(&format!("`{name}` must be ")), "{description}");
    }
}

#[tokio::test]
async fn the_archive_survives_a_restart() {
    let file = StateFile::new("archived");
    let sink = Sink::open().await;
    let mut settings = settings(&sink);
    settings.state_file = Some(file.0.clone());
    settings.keep_sessions = 4;
    settings.timing.webhook_retry.clear();
    let world = World::start(settings.clone(), sink.clone()).await;
    let mut all = Vec::new();
    for n in 0..10 {
        all.push(paid(&world, &format!("tok_success_{n}")).await);
    }
    let created = world.created().await;
    push_out(&world).await;
    let before = world.get("/_sandbox/ledger").await;
    let status = world.status(&all[0]).await;
    world.stop().await;

    let world = World::start(settings, sink).await;
    assert_eq!(world.get("/_sandbox/ledger").await["sessions"], before["sessions"]);
    assert_eq!(world.status(&all[0]).await, status);
    world.ok("start/payout", start_body(&created, "tok_success")).await;
    world.wait_ready(&created).await;
    world.ok("confirm", json!({ "session_id": created })).await;
    until("the money of the second life", || async {
        let totals = world.get("/_sandbox/ledger").await["totals"].clone();
        (totals["paid_sessions"] == 11).then_some(())
    })
    .await;
    push_out(&world).await;
    assert_eq!(world.line(&created).await["paid_times"], 1);
    assert_eq!(requests(&world, &all[9]).await[0].0, "session/create");
}

#[tokio::test]
async fn what_a_caller_wrote_over_several_lines_comes_back_from_the_archive() {
    let world = World::open_with(|settings| settings.keep_sessions = 4).await;
    let body = b"{\n  \"metadata\": {\r\n    \"order\": 1\n  }\n}".to_vec();
    let signature = crate::support::partner_keys().sign(&body);
    let headers = [("X-PARTNER-PROJECT", "shop"), ("X-PARTNER-SIGN", signature.as_str())];
    let (status, answer) = world.post("/api/v2/session/create", &headers, body).await;
    assert_eq!(status, 200, "{answer}");
    let id = answer["session"]["id"].as_str().unwrap();
    for _ in 0..60 {
        world.created().await;
    }
    assert_eq!(world.status(id).await["status"], "created");
    assert_eq!(world.line(id).await["metadata"], serde_json::json!({ "order": 1 }));
    assert_eq!(world.get("/_sandbox/report").await["sessions"]["created"], 61);
    world.ok("start/payout", crate::support::start_body(id, "tok_success")).await;
}
