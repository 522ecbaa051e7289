//! Another attempt: off unless asked for, in a new session, only after the old one was closed unpaid and
//! stayed so, and never paid twice whatever the old one turns out to be.

use crate::{
    faults::anomaly,
    outcomes::{assert_story, assert_unpaid},
    relay::Trouble,
    support::{
        rest::{order, order_of},
        until,
    },
    world::{RULES, Setup, World},
};
use payoutd::{app, domain::checking::Check, worker::checker};
use serde_json::{Value, json};
use std::time::Duration;

const CODE: &str = "provider_timeout";
/// Longer than any test.
const FOR_EVER: &str = "1day";

fn on(setup: &mut Setup) {
    setup.set("attempts.max", "3");
    setup.set("attempts.codes", r#"["provider_timeout"]"#);
    setup.set("attempts.pause", "1s");
}

/// The next start's payout fails with the code after its confirm, or before it.
async fn fail_next(world: &World, early: bool) {
    let story = if early { "tok_fail_early_provider_timeout" } else { "tok_fail_provider_timeout" };
    world.fault(json!({ "fault": "story", "story": story, "times": 1 })).await;
}

/// Of each session that was started for a payout: metadata, confirms, payments.
async fn tries(world: &World, id: &str) -> Vec<(String, u64, u64)> {
    let ledger = world.ledger().await;
    let count = |line: &Value, name: &str| line[name].as_u64().unwrap();
    let line = |line: &&Value| {
        let tag = line["metadata"].as_str().unwrap().split_once('/').unwrap().1.to_owned();
        (tag, count(line, "confirms_accepted"), count(line, "paid_times"))
    };
    let mut tries: Vec<_> = ledger.started(id).iter().map(line).collect();
    tries.sort();
    tries
}

fn tried(expected: &[(&str, u64, u64)]) -> Vec<(String, u64, u64)> {
    expected.iter().map(|(tag, confirms, paid)| ((*tag).to_owned(), *confirms, *paid)).collect()
}

/// Pike reports the session of the first attempt as paid, genuinely signed.
async fn report_first_as_paid(world: &World, id: &str) -> String {
    let tag = format!("{id}/1");
    let told = || async {
        let of_first = |body: &Value| body["type"] == "payment_finished" && body.to_string().contains(&tag);
        let bodies =
            world.hooks.seen().into_iter().filter_map(|hook| serde_json::from_slice(&hook.body).ok());
        bodies.into_iter().find(of_first)
    };
    let mut body = until("the first attempt's webhook", told).await;
    let session = body["session"].as_object_mut().unwrap();
    session.insert("status".to_owned(), json!("accepted"));
    session.remove("error");
    for (_, list) in session.iter_mut() {
        for shown in list.as_array_mut().into_iter().flatten() {
            shown["status"] = json!("succeeded");
            shown.as_object_mut().unwrap().remove("error");
        }
    }
    let session = body["session"]["id"].as_str().unwrap().to_owned();
    assert_eq!(world.signed_webhook("shop", &body.to_string()).await, 200);
    session
}

async fn stopped(world: &World, id: &str) {
    until("the flag", || async { anomaly(world, id).await.filter(|code| code == "old_session_paid") }).await;
    let off = "SELECT count(*) FROM switches WHERE scope = 'shop' AND NOT confirms";
    assert_eq!(world.count(off).await, 1, "the premise of all attempts is wrong: nothing more is confirmed");
}

/// What the background checker would raise.
async fn nothing_is_found(world: &World) {
    let found = checker::everything(&world.pool, Duration::ZERO).await.unwrap();
    let late = |check| matches!(check, Check::NotificationWaiting | Check::WebhookWaiting | Check::Overdue);
    let found: Vec<_> = found.iter().filter(|found| !late(found.check)).collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[tokio::test]
async fn off_by_default() {
    let world = World::open().await;
    let payout = world.caller().run(&order("tok_fail_provider_timeout"), "failed").await;
    assert_eq!((&payout["error"]["code"], &payout["attempt"]), (&json!(CODE), &json!(1)));
    assert_eq!(tries(&world, payout["id"].as_str().unwrap()).await, tried(&[("1", 1, 0)]));
    assert_eq!(world.count("SELECT count(*) FROM attempts").await, 0);
}

#[tokio::test]
async fn a_code_that_is_not_listed_is_final() {
    let world = World::with(on).await;
    let api = world.caller();
    let payout = api.run(&order("tok_decline"), "failed").await;
    assert_eq!(payout["attempt"], 1);
    assert_eq!(tries(&world, payout["id"].as_str().unwrap()).await.len(), 1);
}

#[tokio::test]
async fn the_second_attempt_pays_once() {
    let world = World::with(on).await;
    let api = world.caller();
    fail_next(&world, false).await;
    let id = api.create(&order("tok_success")).await;
    let waiting = api.wait_details(&id, "waiting_to_retry").await;
    assert_eq!((&waiting["status"], &waiting["attempt"]), (&json!("processing"), &json!(1)));
    assert_eq!(waiting["error"]["code"], CODE, "callers see why");
    let first = waiting["provider"]["session_id"].clone();
    nothing_is_found(&world).await;

    let payout = api.wait_status(&id, "succeeded").await;
    assert_eq!((&payout["attempt"], &payout["error"]), (&json!(2), &Value::Null));
    assert_ne!(payout["provider"]["session_id"], first);
    assert_eq!(tries(&world, &id).await, tried(&[("1", 1, 0), ("2", 1, 1)]));
    assert_story(&api, &payout).await;
    let history = api.history(&id).await;
    let place = |reason: &str| history.iter().position(|entry| entry["reason"] == reason).unwrap();
    assert!(place("retry_planned") < place("next_attempt"), "{history:#?}");
    assert_eq!(history[place("next_attempt")]["event"], "read_status_accepted", "asked once more");
    assert_eq!(world.sink.wait(&id, 1).await.body["type"], "payout.succeeded");
    assert_eq!(world.sink.about(&id).len(), 1, "callers are told of the end alone");

    // A key of its own for each attempt, and each permit kept.
    let keys: Vec<_> = world.pike.seen_on("session/start/payout");
    let keys: Vec<_> = keys.iter().map(|start| start.headers["x-partner-idempotency-key"].clone()).collect();
    assert_eq!(keys, [format!("{id}/1/start"), format!("{id}/2/start")]);
    let past = "SELECT count(*) FROM past_permits WHERE kind = 'confirm' AND attempt = 1
                AND released_at IS NOT NULL";
    assert_eq!(world.count(past).await, 1);
    let live = "SELECT count(*) FROM permits WHERE kind = 'confirm' AND released_at IS NULL";
    assert_eq!(world.count(live).await, 1);
    nothing_is_found(&world).await;
}

#[tokio::test]
async fn the_limit_ends_it_with_the_last_code() {
    let world = World::with(on).await;
    let api = world.caller();
    let payout = api.run(&order("tok_fail_provider_timeout"), "failed").await;
    assert_eq!((&payout["error"]["code"], &payout["attempt"]), (&json!(CODE), &json!(3)));
    let id = payout["id"].as_str().unwrap();
    assert_eq!(tries(&world, id).await, tried(&[("1", 1, 0), ("2", 1, 0), ("3", 1, 0)]));
    assert_eq!(world.count("SELECT count(*) FROM attempts WHERE ended_as = 'unpaid'").await, 2);
    assert_story(&api, &payout).await;
}

/// Refused at the start: the session is closed behind it first, and that is what must be proven.
#[tokio::test]
async fn a_refused_start_is_tried_again_once_its_session_is_closed() {
    let world = World::with(|setup| {
        on(setup);
        setup.set("attempts.codes", r#"["insufficient_wallet_balance"]"#);
    })
    .await;
    let story = "tok_refuse_insufficient_wallet_balance";
    world.fault(json!({ "fault": "story", "story": story, "times": 1 })).await;
    let api = world.caller();
    let payout = api.run(&order("tok_success"), "succeeded").await;
    assert_eq!(payout["attempt"], 2);
    let id = payout["id"].as_str().unwrap();
    assert_eq!(world.ledger().await.times_paid(id), 1);
    assert_eq!(world.count("SELECT count(*) FROM past_permits WHERE kind = 'cancel'").await, 1);
    assert_story(&api, &payout).await;
}

#[tokio::test]
async fn a_cancel_between_two_attempts_is_the_end() {
    let world = World::with(|setup| {
        on(setup);
        setup.set("attempts.pause", FOR_EVER);
    })
    .await;
    let api = world.caller();
    let id = api.create(&order("tok_fail_provider_timeout")).await;
    api.wait_details(&id, "waiting_to_retry").await;
    assert_eq!(api.act(&id, "cancel").await.status, 200);
    let payout = api.wait_status(&id, "cancelled").await;
    assert_eq!(payout["status_details"]["code"], "cancelled_on_request");
    assert_eq!(world.pike.seen_on("session/create").len(), 1);
    assert_unpaid(&world.ledger().await, &payout);
    assert_story(&api, &payout).await;
}

/// The pause is over, and Pike shows an old picture: nothing is begun until it shows the end again.
#[tokio::test]
async fn without_fresh_proof_there_is_no_new_session() {
    let world = World::with(on).await;
    let api = world.caller();
    fail_next(&world, false).await;
    world.fault(json!({ "fault": "status_backwards", "shows": "in_progress", "times": 3 })).await;
    let payout = api.run(&order("tok_success"), "succeeded").await;
    let id = payout["id"].as_str().unwrap();
    assert_eq!(tries(&world, id).await, tried(&[("1", 1, 0), ("2", 1, 1)]));
    assert!(world.pike.seen_on("session/status").len() > 3, "three looks that proved nothing");
    let rules = world.ledger().await;
    assert_eq!(rules.times_paid(id), 1);
}

#[tokio::test]
async fn a_hold_is_decided_anew() {
    let world = World::with(on).await;
    let api = world.caller();
    fail_next(&world, false).await;
    let id = api.create(&order_of("tok_success", 600_000)).await;
    for attempt in [1, 2] {
        api.wait(&id, "on hold", |payout| payout["status"] == "on_hold" && payout["attempt"] == attempt)
            .await;
        assert_eq!(world.api("approver").act(&id, "approve").await.status, 200);
    }
    let payout = api.wait_status(&id, "succeeded").await;
    assert_eq!(tries(&world, &id).await, tried(&[("1", 1, 0), ("2", 1, 1)]));
    assert_story(&api, &payout).await;
}

#[tokio::test]
async fn a_daily_cap_counts_what_may_be_paid_once() {
    let world = World::with(|setup| {
        on(setup);
        setup.rules = RULES.replace("RUB = 2_000_000", "RUB = 200_000");
    })
    .await;
    let api = world.caller();
    fail_next(&world, false).await;
    let order = order("tok_success");
    let payout = api.run(&order, "succeeded").await;
    assert_eq!(payout["attempt"], 2, "the permit of the first does not stand against the second");
    let second = api.run(&order, "cancelled").await;
    assert_eq!(second["status_details"]["code"], "forbidden_by_rules", "that of the second counts");
}

#[tokio::test]
async fn a_stop_in_between_loses_nothing_and_doubles_nothing() {
    let mut world = World::with(on).await;
    fail_next(&world, false).await;
    let id = world.caller().create(&order("tok_success")).await;
    world.caller().wait_details(&id, "waiting_to_retry").await;
    world.stop().await;
    let retrying = "SELECT count(*) FROM payouts WHERE state = 'retrying' AND next_check_at IS NOT NULL";
    assert_eq!(world.count(retrying).await, 1);
    tokio::time::sleep(Duration::from_millis(1200)).await;
    world.start().await;
    let payout = world.caller().wait_status(&id, "succeeded").await;
    assert_eq!(tries(&world, &id).await, tried(&[("1", 1, 0), ("2", 1, 1)]));
    assert_story(&world.caller(), &payout).await;
}

/// Twelve payouts fail at once, and two replicas look after them: one new attempt each.
#[tokio::test]
async fn two_replicas_make_one_attempt() {
    let world = World::with(on).await;
    let other = app::start(world.config()).await.unwrap();
    world.fault(json!({ "fault": "story", "story": "tok_fail_provider_timeout", "times": 12 })).await;
    let api = world.caller();
    let mut ids = vec![];
    for _ in 0..12 {
        ids.push(api.create(&order("tok_success")).await);
    }
    let mut attempts = 0;
    for id in &ids {
        let payout = api.wait_status(id, "succeeded").await;
        // A rule strikes a start, whoever's it is: one payout may have met it twice and another never.
        let last = payout["attempt"].as_u64().unwrap();
        let expected = (1..=last).map(|n| (n.to_string(), 1, u64::from(n == last))).collect::<Vec<_>>();
        assert_eq!(tries(&world, id).await, expected);
        assert_story(&api, &payout).await;
        attempts += last;
    }
    assert_eq!(attempts, 24);
    other.stopper().cancel();
    other.wait().await.unwrap();
}

/// The new session is being opened.
#[tokio::test]
async fn an_old_session_paid_before_the_new_one_is_opened_ends_it() {
    let world = World::with(on).await;
    let api = world.caller();
    fail_next(&world, true).await;
    let id = api.create(&order("tok_success")).await;
    api.wait_details(&id, "waiting_to_retry").await;
    let held = world.pike.plan("session/create", Trouble::Hold, 9);
    held.struck().await;
    let old = report_first_as_paid(&world, &id).await;
    let payout = api.wait_status(&id, "succeeded").await;
    assert_eq!(payout["provider"]["session_id"], json!(old), "it was this one that paid");
    held.release();
    stopped(&world, &id).await;
    assert_eq!(world.pike.seen_on("session/start/payout").len(), 1, "the new one was never started");
    assert_story(&api, &api.payout(&id).await).await;
}

/// The new one's start is on its way.
#[tokio::test]
async fn an_old_session_paid_before_the_new_one_is_confirmed_cancels_it() {
    let world = World::with(on).await;
    let api = world.caller();
    fail_next(&world, true).await;
    let id = api.create(&order("tok_success")).await;
    api.wait_details(&id, "waiting_to_retry").await;
    let held = world.pike.plan("session/start/payout", Trouble::Hold, 9);
    held.struck().await;
    let old = report_first_as_paid(&world, &id).await;
    stopped(&world, &id).await;
    held.release();
    let payout = api.wait_status(&id, "succeeded").await;
    assert_eq!(payout["provider"]["session_id"], json!(old));
    let confirms: u64 = tries(&world, &id).await.iter().map(|(_, confirms, _)| *confirms).sum();
    assert_eq!(confirms, 0);
    assert_eq!(world.count("SELECT count(*) FROM attempts WHERE ended_as = 'paid'").await, 1);
    assert_eq!(world.count("SELECT count(*) FROM attempts WHERE ended_as = 'unpaid'").await, 1);
    assert_story(&api, &api.payout(&id).await).await;
}

/// Nothing can be taken back: it is recorded, and the line stops.
#[tokio::test]
async fn an_old_session_paid_after_the_new_one_was_confirmed_stops_the_line() {
    let world = World::with(|setup| {
        on(setup);
        setup.timing.settle_delay = Duration::from_secs(3);
    })
    .await;
    let api = world.caller();
    fail_next(&world, true).await;
    let id = api.create(&order("tok_success")).await;
    let settling = |payout: &Value| payout["status_details"]["code"] == "settling" && payout["attempt"] == 2;
    api.wait(&id, "settling again", settling).await;
    report_first_as_paid(&world, &id).await;
    stopped(&world, &id).await;
    let payout = api.wait_status(&id, "succeeded").await;
    assert_eq!(payout["attempt"], 2);
    assert_eq!(tries(&world, &id).await, tried(&[("1", 0, 0), ("2", 1, 1)]));
    assert!(payout["status_details"]["next"].as_str().unwrap().contains("person"), "{payout}");
    assert_story(&api, &payout).await;
}

/// Pike repeats a webhook of the old session in the middle of the new one.
#[tokio::test]
async fn a_late_repetition_about_the_old_session_is_nothing() {
    let world = World::with(on).await;
    let api = world.caller();
    fail_next(&world, false).await;
    let id = api.create(&order_of("tok_success", 600_000)).await;
    for attempt in [1, 2] {
        api.wait(&id, "on hold", |payout| payout["status"] == "on_hold" && payout["attempt"] == attempt)
            .await;
        if attempt == 2 {
            // The same bytes are one webhook; other bytes about the same are absorbed.
            let seen = world.hooks.seen();
            let old = seen.iter().find(|hook| {
                let body = String::from_utf8_lossy(&hook.body);
                body.contains("payment_finished") && body.contains(&format!("{id}/1"))
            });
            let body = String::from_utf8(old.unwrap().body.to_vec()).unwrap() + " ";
            assert_eq!(world.signed_webhook("shop", &body).await, 200);
            let absorbed = || async {
                let history = api.history(&id).await;
                let last = history.last().unwrap().clone();
                (last["decision"] == "absorb" && last["reason"] == "nothing_new").then_some(())
            };
            until("it to be absorbed", absorbed).await;
        }
        assert_eq!(world.api("approver").act(&id, "approve").await.status, 200);
    }
    let payout = api.wait_status(&id, "succeeded").await;
    assert_eq!(anomaly(&world, &id).await, None);
    assert_eq!(tries(&world, &id).await, tried(&[("1", 1, 0), ("2", 1, 1)]));
    assert_story(&api, &payout).await;
}
