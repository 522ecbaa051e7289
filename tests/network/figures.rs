//! The figures "Retry amplification" and "Recovery" of faults.md. Printed; what is asserted is that money is
//! right and that the faults struck.

use crate::{
    fault::Call,
    oracle,
    scene::{Scene, Setup},
    seed,
    support::{http_client, rest::order, until},
    traffic,
};
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::time::Duration;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio_util::sync::CancellationToken;

const PAYOUTS: u64 = 60;
/// What a payout costs when nothing fails: create, start, and one of confirm and cancel. All that comes on
/// top is amplification, status reads included.
const CALLS_OF_A_PAYOUT: u64 = 3;

/// So many failed calls later Pike is well again: a payout that is unlucky to the end takes minutes.
const FAILURES: u64 = 2 * PAYOUTS;

/// Calls that Pike saw for each that the payouts need, and its report.
async fn amplification(scene: &Scene) -> (f64, Value) {
    let url = format!("http://{}/_sandbox/report", scene.sandbox);
    let report: Value =
        serde_json::from_slice(&http_client().get(url).send().await.unwrap().bytes().await.unwrap()).unwrap();
    let calls = report["calls"].as_object().unwrap();
    let all: u64 = calls.values().map(|count| count.as_u64().unwrap()).sum();
    let wanted = u32::try_from(PAYOUTS * CALLS_OF_A_PAYOUT).unwrap();
    (f64::from(u32::try_from(all).unwrap()) / f64::from(wanted), report)
}

/// The proportions of the default settings, at a fifth of their length.
fn fifth(seed: u64) -> Setup {
    Setup::usual(seed)
        .set("polling.first", "1s")
        .set("polling.steady", "6s")
        .set("polling.longest", "180s")
        .set("pike.reads_per_second", "25")
        .set("breaker.pause", "1s")
        .set("breaker.longest_pause", "12s")
        .set("pike.start_unresolved_after", "12s")
        .set("pike.stale_read_grace", "12s")
}

async fn run(what: &str, at_most: &str, faults: Value) -> Value {
    let scene = Scene::open(fifth(seed::seed(what))).await;
    let url = format!("http://{}/_sandbox/scenario", scene.sandbox);
    let request = http_client().post(url).header("content-type", "application/json");
    assert!(request.body(faults.to_string()).send().await.unwrap().status().is_success());
    let api = scene.caller();
    let creating = (0..PAYOUTS).map(|_| async { traffic::create(&api, &order("tok_success")).await });
    let ids = join_all(creating).await;
    let failing = faults["fault"].as_array().is_some_and(|rules| !rules.is_empty());
    let meanwhile = if failing { failing_enough(&scene).await } else { 0.0 };
    oracle::settle(&scene).await;
    let payouts = oracle::judge(&scene, &ids).await;
    let paid = payouts.values().filter(|payout| payout["status"] == "succeeded").count();
    let (ratio, report) = amplification(&scene).await;
    println!(
        "retry amplification, {what}: {ratio:.2} in all (wanted: at most {at_most}), {meanwhile:.2} of it \
         while calls failed, {paid} of {PAYOUTS} paid, \
         calls {}, faults {}",
        report["calls"], report["faults"]
    );
    scene.close().await;
    report
}

/// Lets calls fail until enough have, then no more; what was called until then.
async fn failing_enough(scene: &Scene) -> f64 {
    let enough = || async {
        let (ratio, report) = amplification(scene).await;
        (report["faults"]["error_before"].as_u64().unwrap_or(0) >= FAILURES).then_some(ratio)
    };
    let ratio = until("enough failures", enough).await;
    let url = format!("http://{}/_sandbox/faults", scene.sandbox);
    assert!(http_client().delete(url).send().await.unwrap().status().is_success());
    ratio
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_healthy_pike_is_called_as_often_as_needed() {
    let report = run("healthy", "1.1", json!({ "fault": [] })).await;
    assert_eq!(report["faults"], json!({}));
}

/// Every second call of any kind, reads included, is answered 503 and has no effect.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pike_that_fails_half_the_time_is_not_flooded() {
    let fault = json!({ "fault": "error_before", "status": 503, "rate": 0.5 });
    let report = run("half failing", "2.0", json!({ "seed": 7, "fault": [fault] })).await;
    assert!(report["faults"]["error_before"].as_u64().unwrap() > PAYOUTS, "{}", report["faults"]);
}

/// Between two orders of a load that never changes.
const ORDER_EVERY: Duration = Duration::from_millis(100);
/// How long the load runs before Pike fails, and while it does.
const SPELL: Duration = Duration::from_secs(6);
/// A fifth of a minute, as all of these settings.
const MINUTE: Duration = Duration::from_secs(12);

/// The calls of the busiest second within `span`.
async fn busiest_second(scene: &Scene, span: Duration) -> usize {
    let calls = || -> usize {
        Call::ALL.into_iter().filter(|call| *call != Call::Webhook).map(|call| scene.wire.through(call)).sum()
    };
    let (mut before, mut most) = (calls(), 0);
    for _ in 0..span.as_secs() {
        // A second is what is measured here, not something that is waited for.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = calls();
        most = most.max(now - before);
        before = now;
    }
    most
}

/// Under a steady load Pike fails altogether and is well again: what was held up follows.
async fn comes_back(limit: &str) {
    let setup = fifth(seed::seed("Pike back")).set("pike.calls_per_second", limit);
    let scene = Scene::open(setup).await;
    let (api, enough) = (scene.caller(), CancellationToken::new());
    let until = enough.clone();
    let load = tokio::spawn(async move {
        let mut ids = vec![];
        while !until.is_cancelled() {
            ids.push(traffic::create(&api, &order("tok_success")).await);
            tokio::time::sleep(ORDER_EVERY).await;
        }
        ids
    });
    let normal = busiest_second(&scene, SPELL).await;
    let (http, url) = (http_client(), format!("http://{}/_sandbox/faults", scene.sandbox));
    let fault = json!({ "fault": "error_before", "status": 500 }).to_string();
    let request = http.post(&url).header("content-type", "application/json").body(fault);
    assert!(request.send().await.unwrap().status().is_success());
    let failing = busiest_second(&scene, SPELL).await;
    assert!(http.delete(&url).send().await.unwrap().status().is_success());
    let after = busiest_second(&scene, MINUTE).await;
    enough.cancel();
    let ids = load.await.unwrap();
    oracle::settle(&scene).await;
    let payouts = oracle::judge(&scene, &ids).await;
    let paid = payouts.values().filter(|payout| payout["status"] == "succeeded").count();
    let (_, report) = amplification(&scene).await;
    assert!(report["faults"]["error_before"].as_u64().is_some_and(|struck| struck > 0), "{report}");
    println!(
        "retry amplification, Pike back, at most {limit} calls a second (0: no limit): {} orders, {paid} \
         paid; calls in the busiest second: {normal} before, {failing} while it failed, {after} in the \
         {MINUTE:?} after (wanted: at most twice what was before)",
        ids.len()
    );
    scene.close().await;
}

/// Without a limit only the number of calls under way keeps Pike from being rushed; so a contract that names
/// a rate belongs into the settings.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_held_up_follows_when_pike_is_back() {
    for limit in ["0", "35"] {
        comes_back(limit).await;
    }
}

/// Without any webhook, what Pike is waiting for is found out by the next poll. Pike is ready in the middle
/// between two polls: that is where a webhook is lost on the average.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_webhook_is_made_up_for_by_the_next_poll() {
    const INTERVAL: Duration = Duration::from_secs(2);
    const READY_AFTER: Duration = Duration::from_secs(1);
    let mut setup = Setup::usual(seed::seed("recovery")).polling("2s");
    setup.timing.ready_delay = READY_AFTER;
    setup.timing.settle_delay = READY_AFTER;
    let scene = Scene::open(setup).await;
    let api = scene.caller();
    let creating = (0..20).map(|_| async { traffic::create(&api, &order("tok_no_webhooks")).await });
    let ids = join_all(creating).await;
    oracle::settle(&scene).await;
    oracle::judge(&scene, &ids).await;
    assert_eq!(scene.count("SELECT count(*) FROM inbox").await, 0, "a webhook came after all");
    let mut waits = vec![];
    for id in &ids {
        let history = api.history(id).await;
        waits.push(at(&history, "rules_confirm") - at(&history, "start_accepted") - READY_AFTER);
        waits.push(at(&history, "paid") - at(&history, "confirm_accepted") - READY_AFTER);
    }
    waits.sort_unstable();
    println!(
        "recovery: a lost webhook was made up for after {} (median), {} (longest) of {} waits (wanted: at \
         most the interval, {INTERVAL:?})",
        waits[waits.len() / 2],
        waits[waits.len() - 1],
        waits.len()
    );
    scene.close().await;
}

fn at(history: &[Value], reason: &str) -> OffsetDateTime {
    let entry = history.iter().find(|entry| entry["reason"] == reason);
    let entry = entry.unwrap_or_else(|| panic!("no {reason} in {history:#?}"));
    OffsetDateTime::parse(entry["at"].as_str().unwrap(), &Rfc3339).unwrap()
}
