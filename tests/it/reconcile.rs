//! The mode for the time after a restore: it looks, takes webhooks, and sends nothing that moves anything.

use crate::{
    faults::anomaly,
    outcomes::assert_paid,
    support::{
        http_client,
        rest::{order, order_of},
        unique, until,
    },
    world::World,
};
use serde_json::json;

async fn sandbox_does(world: &World, session: &str, action: &str, body: &'static str) {
    let url = format!("http://{}/_sandbox/sessions/{session}/{action}", world.sandbox);
    let request = http_client().post(url).header("content-type", "application/json").body(body);
    let answer = request.send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
}

async fn run(world: &World, sql: &'static str) -> u64 {
    sqlx::query(sql).execute(&world.pool).await.unwrap().rows_affected()
}

#[tokio::test]
async fn it_only_looks() {
    let mut world = World::open().await;
    let api = world.caller();
    let paid = api.run(&order("tok_success"), "succeeded").await;
    let held = api.create(&order_of("tok_success", 600_000)).await;
    let held = api.wait_status(&held, "on_hold").await;
    // These two would need calls: one waits for its create, one for its confirm.
    world.pike.lead_to(None);
    let waiting = api.create(&order("tok_success")).await;
    world.stop().await;
    world.pike.lead_to(Some(world.sandbox));
    // As if restored from before the payout was paid: it is recorded as cancelled, final, on no schedule.
    let forgotten = "UPDATE payouts SET state = 'cancelled', status = 'cancelled', permit_kind = 'cancel',
        cancel_cause = 'requested' WHERE state = 'succeeded'";
    assert_eq!(run(&world, forgotten).await, 1);

    let before = world.pike.seen().len();
    world.settings("reconcile.only", "true");
    world.start().await;
    let (status, ready) = world.admin("/readyz").await;
    assert!(status == 200 && ready.contains("reconciling only"), "{ready}");
    let api = world.caller();
    for answer in [
        api.create_with_key(&unique(), &order("tok_success")).await,
        api.act(&waiting, "cancel").await,
        world.api("approver").act(held["id"].as_str().unwrap(), "approve").await,
    ] {
        assert_eq!(answer.problem(), (503, "reconcile_only", ""), "{}", answer.text);
        assert!(answer.headers.contains_key("retry-after"));
    }
    let id = paid["id"].as_str().unwrap();
    let flagged = || async { anomaly(&world, id).await };
    assert_eq!(until("the contradiction", flagged).await, "paid_after_final");
    // A webhook and what it shows are facts: Pike closes the one on hold.
    let session = held["provider"]["session_id"].as_str().unwrap();
    sandbox_does(&world, session, "fail", r#"{"code":"confirm_timeout"}"#).await;
    api.wait_status(held["id"].as_str().unwrap(), "failed").await;
    let figures =
        || async { world.admin("/metrics").await.1.contains("payoutd_reconcile_only 1").then_some(()) };
    until("the figure", figures).await;
    let seen = world.pike.seen();
    assert!(seen.len() > before && seen[before..].iter().all(|seen| seen.path.ends_with("session/status")));
    assert_eq!(api.payout(&waiting).await["status"], "accepted");

    // Back to everything.
    world.stop().await;
    world.settings("reconcile.only", "false");
    world.start().await;
    let payout = world.caller().wait_status(&waiting, "succeeded").await;
    assert_paid(&world.ledger().await, &payout);
}

/// What becomes ready while it only looks is not permitted; it waits, and goes on afterwards.
#[tokio::test]
async fn nothing_is_permitted_while_it_only_looks() {
    let mut world = World::open().await;
    let id = world.caller().create(&order("tok_slow")).await;
    let started = || async { (!world.pike.seen_on("session/start/payout").is_empty()).then_some(()) };
    until("the start", started).await;
    world.stop().await;
    world.settings("reconcile.only", "true");
    world.start().await;
    let payout = world.caller().wait_status(&id, "on_hold").await;
    assert_eq!(world.count("SELECT count(*) FROM permits").await, 0);
    assert_eq!(payout["final"], json!(false));
    world.stop().await;
    world.settings("reconcile.only", "false");
    world.start().await;
    let payout = world.caller().wait_status(&id, "succeeded").await;
    assert_paid(&world.ledger().await, &payout);
}

/// Every payout that counts is asked about, also where one page does not hold them.
#[tokio::test]
async fn what_became_final_long_ago_is_left_alone() {
    let mut world = World::with(|setup| setup.set("reconcile.recent", "1h")).await;
    let api = world.caller();
    let old = api.run(&order("tok_success"), "succeeded").await;
    let new = api.run(&order("tok_success"), "succeeded").await;
    world.stop().await;
    let aged = "UPDATE payouts SET since = since - interval '2 hours'
        WHERE id = (SELECT id FROM payouts ORDER BY id LIMIT 1)";
    assert_eq!(run(&world, aged).await, 1);
    let before = world.pike.seen().len();
    world.settings("reconcile.only", "true");
    world.start().await;
    let asked = |payout: &serde_json::Value| {
        let session = payout["provider"]["session_id"].as_str().unwrap().to_owned();
        let seen = world.pike.seen()[before..].to_vec();
        seen.iter().filter(|seen| String::from_utf8_lossy(&seen.body).contains(&session)).count()
    };
    until("the read", || async { (asked(&new) == 1).then_some(()) }).await;
    let none = "SELECT count(*) FROM effects";
    until("all reads", || async { (world.count(none).await == 0).then_some(()) }).await;
    assert_eq!((asked(&old), asked(&new)), (0, 1));
}

/// What Pike says of a session that it does not know will not change by asking again.
#[tokio::test]
async fn a_session_that_pike_denies_is_asked_about_once() {
    let mut world = World::open().await;
    let api = world.caller();
    let paid = api.run(&order("tok_success"), "succeeded").await;
    let held = api.create(&order_of("tok_success", 600_000)).await;
    api.wait_status(&held, "on_hold").await;
    world.stop().await;
    let renamed =
        "UPDATE payouts SET session_id = 'ps_nobody_' || version, since = since - interval '1 hour'";
    assert_eq!(run(&world, renamed).await, 2);
    let before = world.pike.seen().len();
    world.settings("reconcile.only", "true");
    world.start().await;
    let flagged = || async { anomaly(&world, &held).await };
    assert_eq!(until("the flag", flagged).await, "session_unknown");
    let session = world.caller().payout(paid["id"].as_str().unwrap()).await["provider"]["session_id"].clone();
    let read = "SELECT count(*) FROM effects e JOIN payouts p ON p.id = e.payout_id
        WHERE p.state = 'succeeded'";
    until("the read of the paid one", || async { (world.count(read).await == 0).then_some(()) }).await;
    let seen = world.pike.seen()[before..].to_vec();
    let asked = |seen: &[u8]| String::from_utf8_lossy(seen).contains(session.as_str().unwrap());
    assert_eq!(seen.iter().filter(|seen| asked(&seen.body)).count(), 1);
}
