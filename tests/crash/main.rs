//! payoutd as real processes on a real Postgres, against the sandbox as a process of its own, while they are
//! killed: by themselves at every named crash point, and from outside at random moments. Whatever happens,
//! the sandbox's ledger, the database and what callers were told must agree (`oracle`). Seeds are printed;
//! PAYOUTD_TEST_SEED repeats one. `scripts/demonstrate` runs the long version and writes a report.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../support/mod.rs"]
mod support;

#[allow(dead_code, reason = "the integration tests use the rest")]
#[path = "../it/sink.rs"]
mod sink;

mod blind;
mod chance;
mod evidence;
mod inside;
mod lanes;
mod leaks;
mod load;
mod measure;
mod operator;
mod oracle;
mod pace;
mod plan;
mod report;
mod run;
mod scene;
mod thousand;
mod traffic;
mod violence;

use chance::Chance;
use plan::{Plan, Trouble, Weather};
use report::Tally;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// Runs at once. Each waits most of the time; more than these would wait for processors.
const LANES: usize = 5;

/// The tests take turns: each wants the whole machine.
static TURN: Mutex<()> = Mutex::const_new(());

/// Nothing broken, and everything that was to happen has happened.
fn nothing_broken(tally: &Tally) {
    let findings = &tally.findings;
    assert!(
        findings.is_empty(),
        "{} findings, the first: {} {}",
        findings.len(),
        findings[0].0,
        findings[0].1
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_crash_point_once() {
    let _turn = TURN.lock().await;
    let seed = Chance::from_environment().seed;
    println!("every crash point once: PAYOUTD_TEST_SEED={seed}");
    let begun = Instant::now();
    let only = std::env::var("PAYOUTD_TEST_POINT").ok();
    let plans = Plan::each_point_once(seed).into_iter();
    let wanted = |plan: &Plan| only.as_ref().is_none_or(|only| plan.to_string().contains(only));
    let mut plans = plans.filter(wanted).collect::<Vec<_>>().into_iter();
    let tally = lanes::all(LANES, move || plans.next()).await;
    println!("{}", tally.markdown(begun.elapsed(), seed));
    nothing_broken(&tally);
    if only.is_none() {
        assert_eq!(tally.points_never_died_at(None), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_a_freeze_and_a_lost_postgres() {
    let _turn = TURN.lock().await;
    let seed = Chance::from_environment().seed;
    println!("violence from outside: PAYOUTD_TEST_SEED={seed}");
    let begun = Instant::now();
    let troubles = [Trouble::Database, Trouble::Kills, Trouble::Freeze, Trouble::Kills];
    let mut plans = (0..).zip(troubles).map(move |(number, trouble)| {
        let weather = Weather::ALL[usize::try_from(number).unwrap() % 3];
        Plan { number, seed: seed.wrapping_add(number), weather, trouble }
    });
    let tally = lanes::all(LANES, move || plans.next()).await;
    println!("{}", tally.markdown(begun.elapsed(), seed));
    nothing_broken(&tally);
}

/// Release builds have none of it: `scripts/demonstrate --release-check` looks into one.
#[test]
fn a_debug_build_has_the_points_and_calls_are_named_as_they_print() {
    let program = std::fs::read(env!("CARGO_BIN_EXE_payoutd")).unwrap();
    let has = |text: &str| program.windows(text.len()).any(|window| window == text.as_bytes());
    assert_eq!(has(payoutd::crash_point::VARIABLE), cfg!(debug_assertions));
    let kinds = payoutd::domain::effect::EffectKind::ALL.map(|kind| format!("{kind:?}"));
    assert_eq!(kinds, payoutd::crash_point::CALLS);
}

/// The long version: every point in every weather, then violence and points by turns, until the time is up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes as long as it is given; run by scripts/demonstrate"]
async fn demonstration() {
    let _turn = TURN.lock().await;
    let minutes =
        std::env::var("PAYOUTD_DEMONSTRATE_MINUTES").ok().map(|text| text.parse().expect("minutes"));
    let time = Duration::from_secs(60 * minutes.unwrap_or(10));
    let seed = Chance::from_environment().seed;
    println!("demonstration of {time:?}: PAYOUTD_TEST_SEED={seed}");
    let begun = Instant::now();
    let mut plans = plan::endless(seed);
    let until_time_is_up = move || (begun.elapsed() < time).then(|| plans.next()).flatten();
    let tally = lanes::all(LANES, until_time_is_up).await;
    let report = tally.markdown(begun.elapsed(), seed);
    println!("{report}");
    if let Ok(path) = std::env::var("PAYOUTD_DEMONSTRATE_REPORT") {
        std::fs::write(&path, report).unwrap();
        println!("The report is in {path}");
    }
    nothing_broken(&tally);
    assert_eq!(tally.faults_that_never_struck(), Vec::<&str>::new());
    // A short demonstration says in its table what it has not come to.
    for weather in Weather::ALL.into_iter().filter(|_| tally.runs >= plan::every_point_in_every_weather()) {
        assert_eq!(tally.points_never_died_at(Some(weather)), Vec::<String>::new(), "{weather:?}");
    }
}
