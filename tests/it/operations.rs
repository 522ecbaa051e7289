//! What operators rely on: health, readiness, figures, and stopping without losing anything.

use crate::{
    outcomes::{assert_paid, assert_story},
    relay::Trouble,
    support::{rest::order, until},
    world::World,
};
use futures_util::future::join_all;
use std::time::{Duration, Instant};

#[tokio::test]
async fn the_figures_are_there() {
    let world = World::open().await;
    let api = world.caller();
    let payout = api.run(&order("tok_success"), "succeeded").await;
    world.sink.wait(payout["id"].as_str().unwrap(), 1).await;
    world.signed_webhook("shop", "{").await;
    assert_eq!(world.admin("/healthz").await.0, 200);
    assert_eq!(world.admin("/readyz").await.0, 200);
    let names = [
        "payoutd_payouts_created_total",
        "payoutd_transitions_total{from=\"settling\",to=\"succeeded\"",
        "payoutd_effects_total{kind=\"confirm\",outcome=\"accepted\"}",
        "payoutd_effect_lag_seconds_bucket",
        "payoutd_runtime_late_seconds_bucket",
        "payoutd_provider_seconds_bucket{call=\"session/start/payout\"",
        "payoutd_provider_calls_total",
        "payoutd_webhooks_total{project=\"shop\",verdict=\"stored\"}",
        "payoutd_webhooks_total{project=\"shop\",verdict=\"malformed\"}",
        "payoutd_inbox_total{outcome=\"applied\"}",
        "payoutd_notifications_total{outcome=\"delivered\"}",
        "payoutd_unfinished_payouts{state=\"on_hold\"}",
        "payoutd_oldest_unfinished_seconds{state=\"settling\"}",
    ];
    let complete = || async {
        let (_, text) = world.admin("/metrics").await;
        names.iter().all(|name| text.contains(name)).then_some(()).ok_or(text).ok()
    };
    until(&format!("all of {names:?}"), complete).await;
}

#[tokio::test]
async fn while_stopping_it_is_alive_but_not_ready_and_takes_nothing_new() {
    let mut world = World::open().await;
    let held = world.pike.plan("session/start/payout", Trouble::Hold, 1);
    let api = world.caller();
    let id = api.create(&order("tok_success")).await;
    held.struck().await;
    assert_eq!(world.admin("/readyz").await, (200, "ready\n".to_owned()));
    world.running().stopper().cancel();
    assert_eq!(world.admin("/readyz").await, (503, "stopping\n".to_owned()));
    assert_eq!(world.admin("/healthz").await.0, 200);
    assert_eq!(world.admin("/metrics").await.0, 200);
    let refused = || async { api.try_send(api.creating("late", order("t").to_string())).await.err() };
    until("new callers to be turned away", refused).await;
    held.release();
    world.stop().await;
    world.start().await;
    world.caller().wait_status(&id, "succeeded").await;
}

/// Whoever sends it traffic learns that it is not ready while it still takes orders.
#[tokio::test]
async fn while_draining_it_still_takes_orders() {
    let mut world = World::with(|setup| setup.set("shutdown.drain", "2s")).await;
    let api = world.caller();
    world.running().stopper().cancel();
    assert_eq!(world.admin("/readyz").await, (503, "stopping\n".to_owned()));
    let id = api.create(&order("tok_success")).await;
    world.stop().await;
    world.start().await;
    world.caller().wait_status(&id, "succeeded").await;
}

#[tokio::test]
async fn a_stop_waits_for_calls_that_are_under_way() {
    let mut world = World::open().await;
    let held = world.pike.plan("session/start/payout", Trouble::Hold, 1);
    let id = world.caller().create(&order("tok_success")).await;
    held.struck().await;
    let stopper = world.running().stopper();
    stopper.cancel();
    held.release();
    world.stop().await;
    let answered = "SELECT count(*) FROM history WHERE event = 'start_payout_accepted'";
    assert_eq!(world.count(answered).await, 1, "its answer was waited for and recorded");
    world.start().await;
    let payout = world.caller().wait_status(&id, "succeeded").await;
    assert_eq!(world.pike.seen_on("session/start/payout").len(), 1);
    assert_paid(&world.ledger().await, &payout);
    assert_story(&world.caller(), &payout).await;
}

#[tokio::test]
async fn a_stop_does_not_wait_for_ever_and_nothing_is_lost() {
    let mut world = World::with(|setup| {
        setup.set("shutdown.grace", "1s");
        setup.set("pike.total_timeout", "5s");
        setup.set("effects.lease", "8s");
    })
    .await;
    let start = world.pike.plan("session/start/payout", Trouble::Hold, 1);
    let id = world.caller().create(&order("tok_success")).await;
    start.struck().await;
    let begun = Instant::now();
    world.stop().await;
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(4), "stopping took {took:?} with a grace of 1s");
    world.start().await;
    start.release();
    // What became of the call that was given up is found out by asking, after its lease; it is not repeated.
    let payout = world.caller().wait(&id, "final", |payout| payout["final"] == true).await;
    assert_eq!(world.pike.seen_on("session/start/payout").len(), 1);
    let paid = u64::from(payout["status"] == "succeeded");
    assert_eq!(world.ledger().await.times_paid(&id), paid);
    assert_story(&world.caller(), &payout).await;
}

#[tokio::test]
async fn payouts_go_on_where_a_restart_left_them() {
    let mut world = World::with(|setup| setup.timing.slow_delay = Duration::from_millis(300)).await;
    let api = world.caller();
    let orders: Vec<_> = ["tok_slow", "tok_success", "tok_decline"].iter().cycle().take(24).collect();
    let ids = join_all(orders.iter().map(|token| {
        let (api, order) = (api.clone(), order(token));
        async move { api.create(&order).await }
    }))
    .await;
    for _ in 0..3 {
        world.restart().await;
    }
    let api = world.caller();
    for (id, token) in ids.iter().zip(orders) {
        let status = if *token == "tok_decline" { "failed" } else { "succeeded" };
        let payout = api.wait_status(id, status).await;
        assert_eq!(world.ledger().await.times_paid(id), u64::from(status == "succeeded"));
        assert_story(&api, &payout).await;
    }
}

#[tokio::test]
async fn a_database_behind_the_program_is_refused() {
    let db = crate::support::database::Database::bare().await;
    let world = World::open().await;
    let mut config = world.config();
    config.database.url = db.url().to_owned().into();
    let refused = payoutd::app::start(config).await.map(|_| ()).unwrap_err();
    assert!(format!("{refused:#}").contains("payoutd migrate"), "{refused:#}");
}
