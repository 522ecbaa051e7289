//! Random histories of one payout on the real decisions: does every promise hold whatever the network, the
//! workers, Pike and the callers do? No database, no clock, no threads inside a history; a seed tells it all.
//!
//! `PAYOUTD_MODEL_HISTORIES` sets how many, `PAYOUTD_MODEL_SEED` where to begin; one history again:
//! `PAYOUTD_MODEL_HISTORIES=1 PAYOUTD_MODEL_SEED=<seed>`.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod books;
mod bug;
mod calm;
mod pike;
mod rng;
mod scene;
mod tally;

use books::Terms;
use bug::Bug;
use scene::{Broken, Scene};
use tally::{FAULTS, STATES, Tally};

/// Under twenty seconds of one core in a debug build.
const HISTORIES: u64 = 100_000;
/// Most lines told of a history that broke a promise.
const TOLD: usize = 200;
/// Most histories until a seeded bug must have been noticed.
const UNTIL_CAUGHT: u64 = 20_000;

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

/// Plays histories from `first`; the first that breaks a promise, and what happened in all of them.
fn play(first: u64, count: u64, bug: Option<Bug>) -> (Option<(u64, Broken)>, Tally) {
    let (terms, mut tally) = (Terms::new(), Tally::default());
    for seed in first..first + count {
        let mut scene = Scene::new(seed, &terms, bug);
        let ended = scene.play();
        tally.add(&scene.tally);
        if let Err(broken) = ended {
            return (Some((seed, broken)), tally);
        }
    }
    (None, tally)
}

/// The same history again, told.
fn tell(seed: u64, bug: Option<Bug>) -> String {
    let terms = Terms::new();
    let mut scene = Scene::new(seed, &terms, bug);
    scene.trace = Some(vec![format!("{:?}, {:?}", scene.books.payout.order.amount, scene.pike.manners)]);
    let _ = scene.play();
    let lines = scene.trace.unwrap();
    let shown: Vec<_> = lines.iter().take(TOLD).map(String::as_str).collect();
    format!("{}\n({} lines in all)", shown.join("\n"), lines.len())
}

#[test]
fn every_promise_holds_in_every_history() {
    let first = setting("PAYOUTD_MODEL_SEED", 1);
    let count = setting("PAYOUTD_MODEL_HISTORIES", HISTORIES);
    let (broken, tally) = play(first, count, None);
    if let Some((seed, broken)) = broken {
        panic!("{broken}; PAYOUTD_MODEL_SEED={seed} PAYOUTD_MODEL_HISTORIES=1\n{}", tell(seed, None));
    }
    println!("{count} histories, {} events\n{:?}", tally.events, tally.faults);
    println!("{:?}\n{:?}", tally.states, tally.reasons);
    // A handful of histories, asked for by hand, cannot visit everything.
    if count >= HISTORIES {
        for fault in FAULTS {
            assert!(tally.faults.contains_key(&fault), "never happened: {fault:?}");
        }
        assert_eq!(tally.states.len(), STATES, "not every state was visited: {:?}", tally.states);
    }
}

#[test]
fn every_seeded_bug_is_caught() {
    let mut missed = vec![];
    for bug in Bug::ALL {
        match play(1, UNTIL_CAUGHT, Some(bug)).0 {
            Some((seed, broken)) => println!("{bug:?}: {broken} (seed {seed})"),
            None => missed.push(bug),
        }
    }
    assert!(missed.is_empty(), "not caught within {UNTIL_CAUGHT} histories: {missed:?}");
}
