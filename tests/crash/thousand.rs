//! A thousand payouts at once through kills: as many under way as there can be, on one replica or two.

use crate::{
    TURN,
    chance::Chance,
    evidence::Evidence,
    oracle::{self, Book},
    pace::LONG,
    scene::{Scene, Staging},
    traffic::Traffic,
};
use std::time::{Duration, Instant};

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

fn staging(replicas: usize) -> Staging {
    Staging { replicas, pace: LONG, second_start: "add", faults: String::new(), told: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_payouts_without_trouble() {
    let _turn = TURN.lock().await;
    let scene = Scene::open(&staging(1)).await;
    let begun = Instant::now();
    let traffic = Traffic::send(scene.callers(), PAYOUTS, CALLERS, Duration::ZERO).await;
    let sent = begun.elapsed();
    oracle::settle(&scene).await;
    report("no kills", 0, sent, begun.elapsed());
    judge(&scene, traffic).await;
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
    let mut scene = Scene::open(&staging(replicas)).await;
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
    oracle::settle(&scene).await;
    report(what, kills, sent, begun.elapsed());
    assert!(kills >= LEAST_KILLS, "only {kills} kills while there was work");
    assert!(traffic.retries() > 0, "no caller noticed a kill");
    let interrupted = "SELECT count(*) FROM history WHERE detail LIKE '%interrupted%'";
    println!(
        "{what}: {} tries more, {} calls interrupted",
        traffic.retries(),
        scene.count(interrupted).await
    );
    judge(&scene, traffic).await;
}

/// For information; a machine's speed is no matter of right or wrong.
fn report(what: &str, kills: usize, sent: Duration, finished: Duration) {
    let rate = u128::try_from(PAYOUTS).unwrap() * 1000 / finished.as_millis().max(1);
    println!(
        "{what}: {kills} kills, all sent after {sent:.1?}, all final after {finished:.1?}, {rate} payouts/s"
    );
}

/// The oracle, and what these runs promise beyond it: nothing is odd here, so all ends well or declined.
async fn judge(scene: &Scene, traffic: Traffic) {
    assert_eq!(traffic.told.len(), PAYOUTS);
    let book = Book { told: traffic.told, ..Book::default() };
    let (findings, evidence) = oracle::judge(scene, &book).await;
    assert!(findings.is_empty(), "{} findings, the first: {}", findings.len(), findings[0]);
    assert_eq!(evidence.payouts.len(), PAYOUTS, "as many payouts as keys");
    for (payout, row) in &evidence.payouts {
        assert!(matches!(row["state"].as_str(), Some("succeeded" | "failed")), "{payout}: {row}");
        assert!(row["anomaly"].is_null(), "nothing here is out of order: {row}");
    }
    faults_struck(&evidence, &book);
}

/// A fault that never struck has tested nothing.
fn faults_struck(evidence: &Evidence, book: &Book) {
    let total = |name: &str| evidence.totals[name].as_u64().unwrap();
    assert!(total("answers_lost") > 50, "{}", evidence.totals);
    assert!(total("webhooks_delivered") > 1_000, "{}", evidence.totals);
    for story in ["tok_decline", "tok_slow", "tok_no_webhooks", "tok_duplicate"] {
        assert!(book.told.iter().any(|told| told.story == story), "{story} was never sent");
    }
    for (story, method) in
        [("tok_start_lost", "session/start/payout"), ("tok_confirm_lost", "session/confirm")]
    {
        let told = book.told.iter().filter(|told| told.story == story);
        let sessions = told.flat_map(|told| evidence.started(&told.payout));
        let lost = sessions.flat_map(|session| &session.events).any(|event| {
            let call = &event["event"]["request"];
            call["method"] == method && call["verdict"] == "answer_lost"
        });
        assert!(lost, "{story} never lost an answer");
    }
}
