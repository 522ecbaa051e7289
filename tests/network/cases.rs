//! The 360 cases of layer L5: six calls, twelve faults, five places. Each case has a payout of its own, all
//! of them run at the same time in one world, and each has to prove that its fault struck.

use crate::{
    fault::{Call, Case, Fault},
    oracle::{self, Payouts},
    scene::{Scene, Setup},
    seed::{self, chance},
    support::rest::order,
    support::until,
    traffic::create,
    wire::{Plan, marked},
};
use futures_util::{StreamExt, stream};
use payoutd::sandbox::SecondStart;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Callers at once.
const CALLERS: usize = 32;
/// How often the long form runs the whole table.
const ROUNDS_VARIABLE: &str = "PAYOUTD_TEST_NETWORK_ROUNDS";

#[test]
fn the_table_is_complete() {
    let all = Case::all();
    assert_eq!(all.len(), 360);
    let mut impossible: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for case in &all {
        if let Some(why) = case.impossible() {
            impossible.entry(why).or_default().push(case.to_string());
        }
    }
    for (why, cases) in &impossible {
        println!("impossible, because {why}: {} cases\n  {}", cases.len(), cases.join("\n  "));
    }
    assert_eq!(impossible.values().map(Vec::len).sum::<usize>(), 30);
}

/// Everything but doubles and refusals, against the unkind Pike: there a second start is a second payout.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_fails_on_the_way_is_paid_once() {
    for round in 0..rounds() {
        let seed = seed::seed(&format!("cases, round {round}"));
        let wanted = |case: &Case| !matches!(case.fault, Fault::Duplicate | Fault::Refused);
        run(Setup::usual(seed), wanted, 294).await;
    }
}

/// The network delivers a call twice, which nobody can tell from a second one of ours. So Pike must be the
/// one that refuses a second start, as it is assumed to (ADR 3).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_delivered_twice_is_paid_once() {
    for round in 0..rounds() {
        let seed = seed::seed(&format!("doubles, round {round}"));
        let setup = Setup { second_start: SecondStart::Reject, ..Setup::usual(seed) };
        run(setup, |case| case.fault == Fault::Duplicate, 30).await;
    }
}

fn rounds() -> usize {
    let given = std::env::var(ROUNDS_VARIABLE).ok().and_then(|text| text.parse().ok());
    given.unwrap_or(1)
}

async fn run(setup: Setup, wanted: impl Fn(&Case) -> bool, expected: usize) {
    let begun = Instant::now();
    let mut cases: Vec<Case> =
        Case::all().into_iter().filter(|case| case.impossible().is_none() && wanted(case)).collect();
    assert_eq!(cases.len(), expected);
    chance(setup.seed, 0).shuffle(&mut cases);
    let scene = Scene::open(setup).await;
    for (mark, case) in cases.iter().enumerate() {
        scene.wire.plan(mark, Plan::Strike(*case));
    }
    let api = scene.caller();
    let ask = |(mark, case): (usize, &Case)| {
        let (api, token) = (api.clone(), marked(token(case.call), mark));
        async move { create(&api, &order(&token)).await }
    };
    // Collected, because a stream cannot borrow from this function's own loop.
    let asked: Vec<_> = cases.iter().enumerate().map(ask).collect();
    let ids: Vec<String> = stream::iter(asked).buffered(CALLERS).collect().await;
    oracle::settle(&scene).await;
    let payouts = oracle::judge(&scene, &ids).await;
    ended_as_they_should(&scene, &cases, &ids, &payouts);
    all_struck(&scene, &cases, &ids, &payouts);
    report(&scene, &payouts, begun);
    scene.close().await;
}

/// What kind of payout comes by a call.
fn token(call: Call) -> &'static str {
    match call {
        Call::Create | Call::Start | Call::Confirm | Call::Webhook => "tok_success",
        // Our rules forbid it, so it is cancelled.
        Call::Cancel => "tok_country_PRK",
        // Whatever comes of it has to be asked for.
        Call::Status => "tok_no_webhooks",
    }
}

/// A fault that never struck has tested nothing.
fn all_struck(scene: &Scene, cases: &[Case], ids: &[String], payouts: &Payouts) {
    let (struck, log) = (scene.wire.struck(), scene.wire.log());
    for (case, id) in cases.iter().zip(ids) {
        let times = struck.get(case).copied().unwrap_or(0);
        let session = payouts[id]["provider"]["session_id"].as_str().unwrap();
        assert_eq!(times, 1, "{case}: {}\n{:#?}", payouts[id], oracle::of_session(&log, session));
    }
}

/// Only a start that was lost may end a good payout, and only a forbidden one may be cancelled.
fn ended_as_they_should(scene: &Scene, cases: &[Case], ids: &[String], payouts: &Payouts) {
    let log = scene.wire.log();
    for (case, id) in cases.iter().zip(ids) {
        let payout = &payouts[id];
        let status = payout["status"].as_str().unwrap();
        let allowed: &[&str] = match case.call {
            Call::Create | Call::Confirm | Call::Status | Call::Webhook => &["succeeded"],
            Call::Start => &["succeeded", "failed"],
            Call::Cancel => &["cancelled"],
        };
        let session = payout["provider"]["session_id"].as_str().unwrap();
        let seen = oracle::of_session(&log, session);
        assert!(allowed.contains(&status), "{case}: {payout}\n{seen:#?}");
        if status == "failed" {
            assert_eq!(payout["error"]["code"], "start_unresolved", "{case}: {payout}");
        }
    }
}

fn report(scene: &Scene, payouts: &Payouts, begun: Instant) {
    let mut statuses: BTreeMap<&str, usize> = BTreeMap::new();
    for payout in payouts.values() {
        *statuses.entry(payout["status"].as_str().unwrap()).or_default() += 1;
    }
    println!("{} cases in {:.1?}: {statuses:?}", scene.wire.struck().len(), begun.elapsed());
    println!("struck: {:?}", scene.wire.struck_by_fault());
    let through = Call::ALL.map(|call| (call, scene.wire.through(call)));
    println!("whole POSTs that got through: {through:?}, connections: {}", scene.pike.accepted());
}

/// Nobody listens at the moment of a call: it provably was not sent, and is sent when somebody does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_is_sent_later() {
    let seed = seed::seed("refusals");
    // Asked for late and given up late, so that the payouts stay where they are held.
    let mut setup = Setup::usual(seed).polling("4s").set("pike.total_timeout", "30s");
    setup = setup.set("effects.lease", "40s");
    setup.timing.webhook_timeout = Duration::from_secs(30);
    let mut scene = Scene::open(setup).await;
    let api = scene.caller();
    // Each payout is held by what comes just before its call.
    scene.wire.plan(0, Plan::Hold(Call::Create));
    let mut ids = vec![create(&api, &order(&marked("tok_success", 0))).await];
    scene.wire.held(1).await;
    for (mark, token, before) in [
        (1, "tok_success", Call::Webhook),
        (2, "tok_country_PRK", Call::Webhook),
        (3, "tok_no_webhooks", Call::Start),
    ] {
        scene.wire.plan(mark, Plan::Hold(before));
        ids.push(create(&api, &order(&marked(token, mark))).await);
    }
    scene.wire.held(4).await;
    scene.pike.refuse().await;
    ids.push(create(&api, &order("tok_success")).await);
    scene.wire.release();
    for kind in ["create_session", "start_payout", "confirm", "cancel", "read_status"] {
        let refused = || async {
            let sql = "SELECT count(*) FROM effects WHERE kind = $1 AND not_sent > 0";
            let count: i64 = sqlx::query_scalar(sql).bind(kind).fetch_one(&scene.pool).await.unwrap();
            (count > 0).then_some(())
        };
        until(&format!("a refused {kind}"), refused).await;
    }
    scene.pike.accept().await;
    oracle::settle(&scene).await;

    // And the sixth: Pike finds nobody to tell.
    scene.hooks.refuse().await;
    let before = unreachable(&scene).await;
    ids.push(create(&api, &order("tok_success")).await);
    let refused = || async { (unreachable(&scene).await > before).then_some(()) };
    until("a webhook that reached nobody", refused).await;
    scene.hooks.accept().await;
    oracle::settle(&scene).await;

    let payouts = oracle::judge(&scene, &ids).await;
    let cancelled = payouts.values().filter(|payout| payout["status"] == "cancelled").count();
    let succeeded = payouts.values().filter(|payout| payout["status"] == "succeeded").count();
    assert_eq!((succeeded, cancelled), (5, 1));
    for call in [Call::Start, Call::Confirm, Call::Cancel] {
        let wanted = match call {
            Call::Start => 6,
            Call::Cancel => 1,
            Call::Create | Call::Confirm | Call::Status | Call::Webhook => 5,
        };
        assert_eq!(scene.wire.through(call), wanted, "{call:?}");
    }
    println!("6 cases: each call was refused, and then made once");
    scene.close().await;
}

/// Attempts of webhooks that were not delivered.
async fn unreachable(scene: &Scene) -> u64 {
    let ledger = scene.ledger().await;
    ledger.total("webhook_attempts") - ledger.total("webhooks_delivered")
}
