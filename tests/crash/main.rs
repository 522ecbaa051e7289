//! payoutd as real processes on a real Postgres, against the sandbox as a process of its own: a thousand
//! payouts while it is killed with SIGKILL at random moments. Whatever happens, the sandbox's ledger and what
//! callers were told must agree. The seed is printed; PAYOUTD_TEST_SEED repeats it.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../support/mod.rs"]
mod support;

mod chance;
mod oracle;
mod scene;
mod traffic;

use chance::Chance;
use scene::Scene;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use traffic::Traffic;

/// Payouts of one run, and how many callers send them at once.
const PAYOUTS: usize = 1_000;
const CALLERS: usize = 64;
/// Between two orders of one caller, so that there are always some under way to be hit.
const PAUSE: Duration = Duration::from_millis(10);
/// Fewer kills than this have tested too little.
const LEAST_KILLS: usize = 5;
/// Enough of them; in the end it has to settle.
const MOST_KILLS: usize = 20;
/// A replica lives this long, in milliseconds, before it is killed.
const LIVES: (u64, u64) = (30, 300);

/// The runs take turns: each wants the whole machine.
static TURN: Mutex<()> = Mutex::const_new(());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_payouts_without_trouble() {
    let _turn = TURN.lock().await;
    let scene = Scene::open(1).await;
    let begun = Instant::now();
    let traffic = Traffic::send(scene.callers(), PAYOUTS, CALLERS, Duration::ZERO).await;
    let sent = begun.elapsed();
    oracle::all_final(&scene).await;
    report("no kills", 0, sent, begun.elapsed());
    oracle::judge(&scene, &traffic).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_payouts_through_kills() {
    run_with_kills("one replica", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_payouts_through_kills_of_one_of_two() {
    run_with_kills("two replicas", 2).await;
}

async fn run_with_kills(what: &str, replicas: usize) {
    let _turn = TURN.lock().await;
    let mut chance = Chance::from_environment();
    println!("{what}: PAYOUTD_TEST_SEED={}", chance.seed);
    let mut scene = Scene::open(replicas).await;
    let begun = Instant::now();
    let sending = tokio::spawn(Traffic::send(scene.callers(), PAYOUTS, CALLERS, PAUSE));
    let mut kills = 0;
    while kills < MOST_KILLS {
        // The moment is what this test varies, not something it waits for.
        tokio::time::sleep(Duration::from_millis(chance.between(LIVES.0, LIVES.1))).await;
        if sending.is_finished() && oracle::under_way(&scene).await == 0 {
            break;
        }
        let victim = chance.below(replicas);
        scene.kill(victim).await;
        kills += 1;
        scene.start(victim).await;
    }
    let traffic = sending.await.unwrap();
    let sent = begun.elapsed();
    oracle::all_final(&scene).await;
    report(what, kills, sent, begun.elapsed());
    assert!(kills >= LEAST_KILLS, "only {kills} kills while there was work");
    assert!(traffic.retries() > 0, "no caller noticed a kill");
    let interrupted = "SELECT count(*) FROM history WHERE detail LIKE '%interrupted%'";
    println!(
        "{what}: {} tries more, {} calls interrupted",
        traffic.retries(),
        scene.count(interrupted).await
    );
    oracle::judge(&scene, &traffic).await;
}

/// For information; a machine's speed is no matter of right or wrong.
fn report(what: &str, kills: usize, sent: Duration, finished: Duration) {
    let rate = u128::try_from(PAYOUTS).unwrap() * 1000 / finished.as_millis().max(1);
    println!(
        "{what}: {kills} kills, all sent after {sent:.1?}, all final after {finished:.1?}, {rate} payouts/s"
    );
}
