//! How payoutd treats a Pike that is busy, limited or down: it waits when asked, holds its rates, pauses when
//! nothing answers, and comes back without a rush. Nothing is lost, paid twice or overtaken by it.

use crate::{
    outcomes::{assert_paid, assert_unpaid},
    relay::{Exchange, Trouble},
    support::{
        rest::{order, order_of},
        until,
    },
    world::{PIKE_SHOP, World},
};
use futures_util::future::join_all;
use serde_json::json;
use std::time::Duration;

/// Most exchanges whose beginnings lie within a second.
fn most_in_a_second(exchanges: &[Exchange]) -> usize {
    let mut times: Vec<_> = exchanges.iter().map(|exchange| exchange.at).collect();
    times.sort_unstable();
    let within = |first: usize| {
        times[first..].iter().take_while(|at| **at - times[first] < Duration::from_millis(990)).count()
    };
    (0..times.len()).map(within).max().unwrap_or(0)
}

#[tokio::test]
async fn a_wait_that_pike_asks_for_holds_for_the_project_and_costs_nobody_a_place() {
    for calls_per_second in ["0", "20"] {
        a_wait_costs_nobody_a_place(calls_per_second).await;
    }
}

async fn a_wait_costs_nobody_a_place(calls_per_second: &str) {
    let world = World::with(|setup| setup.set("pike.calls_per_second", calls_per_second)).await;
    world
        .fault(json!({ "fault": "error_before", "status": 429, "retry_after": "2", "times": 1,
            "method": "session/create", "project": PIKE_SHOP }))
        .await;
    let (api, stranger) = (world.caller(), world.api("stranger"));
    let first = api.create(&order("tok_success")).await;
    let refused = || async { world.pike.seen().iter().find(|seen| seen.status == 429).cloned() };
    let refused = until("the refusal", refused).await;
    // An answer takes a moment to be understood.
    let waits = || async { world.admin("/readyz").await.1.contains("shop (asked_to_wait)").then_some(()) };
    until("the wait", waits).await;
    let later = join_all((0..5).map(|_| async { api.create(&order("tok_success")).await })).await;
    // Nobody else's wait.
    stranger.run(&order("tok_success"), "succeeded").await;
    for id in later.iter().chain([&first]) {
        let payout = api.wait_status(id, "succeeded").await;
        assert_paid(&world.ledger().await, &payout);
    }
    let shop: Vec<Exchange> = (world.pike.seen().into_iter())
        .filter(|seen| seen.headers["x-partner-project"] == PIKE_SHOP && seen.at > refused.at)
        .collect();
    let next = shop.iter().map(|seen| seen.at).min().unwrap();
    assert!(next - refused.at >= Duration::from_secs(2), "{:?}", next - refused.at);
    // The create is what kept its place. Sessions are numbered by time.
    let by_session = "SELECT id::text FROM payouts WHERE project_id = 'shop' ORDER BY session_id LIMIT 1";
    let next: String = sqlx::query_scalar(by_session).fetch_one(&world.pool).await.unwrap();
    assert_eq!(next.replace('-', ""), first.trim_start_matches("payout_"), "another create overtook it");
    // So does its start, if calls are far enough from each other that each has been written down before the
    // next: those that are under way together have no order.
    let starts: Vec<_> = shop.iter().filter(|seen| seen.path.ends_with("session/start/payout")).collect();
    let its = starts.iter().position(|seen| String::from_utf8_lossy(&seen.body).contains(&first)).unwrap();
    assert!(its == 0 || calls_per_second == "0", "{its} starts overtook it");
    assert!(world.admin("/readyz").await.1 == "ready\n");
}

/// Nobody says that a 503 had no effect: a confirm is looked up and said again, a start is not.
#[tokio::test]
async fn a_busy_answer_to_a_call_that_moves_money_is_unknown() {
    let world = World::open().await;
    let api = world.caller();
    for (method, ends, unknown) in [
        ("session/confirm", "succeeded", "confirm_unknown"),
        ("session/start/payout", "failed", "start_unknown"),
    ] {
        world
            .fault(json!({ "fault": "error_before", "status": 503, "retry_after": "-7", "times": 1,
                "method": method }))
            .await;
        let payout = api.run(&order("tok_success"), ends).await;
        let id = payout["id"].as_str().unwrap();
        assert!(api.reasons(id).await.iter().any(|reason| reason == unknown), "{method}");
        let ledger = world.ledger().await;
        if ends == "succeeded" { assert_paid(&ledger, &payout) } else { assert_unpaid(&ledger, &payout) }
    }
    assert_eq!(world.pike.seen_on("session/confirm").len(), 2, "a busy one and a good one");
    assert_eq!(world.pike.seen_on("session/start/payout").len(), 2, "one for each payout");
}

#[tokio::test]
async fn rates_are_held() {
    let world = World::with(|setup| {
        setup.set("pike.calls_per_second", "20");
        setup.set("pike.reads_per_second", "4");
    })
    .await;
    let api = world.caller();
    let tokens = (0..24).map(|n| if n < 4 { "tok_no_webhooks" } else { "tok_success" });
    join_all(tokens.map(|token| {
        let api = api.clone();
        async move { api.run(&order(token), "succeeded").await }
    }))
    .await;
    let (reads, calls): (Vec<Exchange>, Vec<Exchange>) =
        world.pike.seen().into_iter().partition(|seen| seen.path.ends_with("session/status"));
    assert_eq!(calls.len(), 72, "three each");
    // They are sent exactly apart (`worker::pace`); one may arrive late and stand next to the others.
    assert!(most_in_a_second(&calls) <= 21, "{}", most_in_a_second(&calls));
    assert!(reads.len() >= 8 && most_in_a_second(&reads) <= 5, "{}", most_in_a_second(&reads));
    // Those that wait for nothing but their turn: some confirms wait for a read, and those for each other.
    let at_once = |seen: &&Exchange| !seen.path.ends_with("session/confirm");
    let times: Vec<_> = calls.iter().filter(at_once).map(|seen| seen.at).collect();
    assert_eq!(times.len(), 48, "two each");
    let took = *times.iter().max().unwrap() - *times.iter().min().unwrap();
    assert!(took < Duration::from_secs(8), "the rate is also used: {took:?} for calls at 20 a second");
}

/// Pike is down: orders are taken, hardly anything is sent, one read at a time finds out when it is back, and
/// then everything is paid once.
#[tokio::test]
async fn while_pike_is_down_calls_pause_and_orders_are_taken() {
    let world = World::with(|setup| {
        setup.set("breaker.failures", "5");
        setup.set("breaker.pause", "200ms");
        setup.set("breaker.longest_pause", "500ms");
    })
    .await;
    let api = world.caller();
    let held = api.create(&order_of("tok_success", 600_000)).await;
    api.wait_status(&held, "on_hold").await;
    let down = world.pike.plan("", Trouble::Refuse(500), usize::MAX);
    let paused = || async { world.admin("/readyz").await.1.contains("shop (breaker)").then_some(()) };
    until("the breaker", paused).await;
    let (at, before) = (std::time::Instant::now(), down.met());
    let ids = join_all((0..200).map(|_| async { api.create(&order("tok_success")).await })).await;
    let figure = || async {
        let (_, text) = world.admin("/metrics").await;
        text.contains("payoutd_pike_paused{project=\"shop\",why=\"breaker\"} 1").then_some(())
    };
    until("the figure", figure).await;
    let probes = down.met() - before;
    let most = usize::try_from(at.elapsed().as_millis() / 200).unwrap() + 2;
    assert!((1..=most).contains(&probes), "{probes} probes in {:?}", at.elapsed());
    down.end();
    for id in &ids {
        api.wait_status(id, "succeeded").await;
    }
    let ledger = world.ledger().await;
    assert!(ids.iter().all(|id| ledger.times_paid(id) == 1));
    let seen = world.pike.seen();
    let spoiled: Vec<_> = seen.iter().filter(|seen| seen.status == 500).collect();
    assert!(spoiled.iter().all(|seen| seen.path.ends_with("session/status")), "only reads probe");
    assert!(spoiled.len() * 10 <= seen.len(), "{} of {} calls were in vain", spoiled.len(), seen.len());
    assert_eq!(world.admin("/readyz").await.1, "ready\n");
}

/// Without a session to ask about, a create finds out.
#[tokio::test]
async fn a_pike_that_was_down_from_the_beginning_is_found_again() {
    let world = World::with(|setup| setup.set("breaker.failures", "3")).await;
    let api = world.caller();
    let down = world.pike.plan("", Trouble::Refuse(500), usize::MAX);
    let ids = join_all((0..50).map(|_| async { api.create(&order("tok_success")).await })).await;
    let paused = || async { world.admin("/readyz").await.1.contains("shop (breaker)").then_some(()) };
    until("the breaker", paused).await;
    // Every payout may have had its one call under way when the breaker opened, and none a second one.
    assert!(down.met() < 100, "{} calls although nothing answers", down.met());
    down.end();
    for id in &ids {
        api.wait_status(id, "succeeded").await;
    }
    assert_eq!(world.ledger().await.money_out(), 50 * 125_050);
}
