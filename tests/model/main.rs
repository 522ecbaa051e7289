//! One payout on the real decisions, twice: every path with few faults (`explore/`), and long random
//! histories with as many as they like (`scene.rs`). Does every promise hold whatever the network, the
//! workers, Pike and the callers do? No database, no clock, no threads inside a path or a history.
//!
//! `PAYOUTD_MODEL_FAULTS` sets how many faults a path may have: otherwise two, and one with attempts.
//! `PAYOUTD_MODEL_HISTORIES` sets how many histories, `PAYOUTD_MODEL_SEED` where to begin; one history again:
//! `PAYOUTD_MODEL_HISTORIES=1 PAYOUTD_MODEL_SEED=<seed>`. `docs/model.md` is the output of the seeded bugs'
//! test: after a wanted change run it with `UPDATE_DOCS=1` and review the difference.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod again;
mod books;
mod bug;
mod calm;
mod explore;
mod histories;
mod lies;
mod look;
mod mutant;
mod pike;
mod promises;
mod report;
mod rng;
mod scene;
mod tally;
mod terms;

use bug::Bug;
use histories::{ONCE_BROKEN, play, play_together, tell};
use report::{Catch, document};
use std::{collections::BTreeSet, time::Instant};
use tally::{FAULTS, STATES};

/// About two and a half minutes of one core in a debug build; shared among the cores there are.
const HISTORIES: u64 = 1_000_000;
/// Most histories until a seeded bug must have been noticed, where histories can notice it.
const UNTIL_CAUGHT: u64 = 5_000;

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

#[test]
fn every_promise_holds_in_every_history() {
    for (seed, what) in ONCE_BROKEN {
        if let Some((_, broken)) = play(*seed, 1, None).0 {
            panic!("{what} is back: {broken}\n{}", tell(*seed));
        }
    }
    let first = setting("PAYOUTD_MODEL_SEED", 1);
    let count = setting("PAYOUTD_MODEL_HISTORIES", HISTORIES);
    let began = Instant::now();
    let (broken, tally) = play_together(first, count);
    if let Some((seed, broken)) = broken {
        panic!("{broken}; PAYOUTD_MODEL_SEED={seed} PAYOUTD_MODEL_HISTORIES=1\n{}", tell(seed));
    }
    let last = first + count - 1;
    println!("{count} histories, seeds {first} to {last}, {} events, {:?}", tally.events, began.elapsed());
    println!("{:?}\n{:?}\n{:?}", tally.faults, tally.states, tally.reasons);
    // A handful of histories, asked for by hand, cannot visit everything.
    if count >= 100_000 {
        for fault in FAULTS {
            assert!(tally.faults.contains_key(&fault), "never happened: {fault:?}");
        }
        assert_eq!(tally.states.len(), STATES, "not every state was visited: {:?}", tally.states);
    }
}

#[test]
fn every_path_with_few_faults_keeps_every_promise() {
    let asked: Option<usize> = std::env::var("PAYOUTD_MODEL_FAULTS").ok().map(|text| text.parse().unwrap());
    let (mut states, mut steps) = (BTreeSet::new(), BTreeSet::new());
    for reading in explore::READINGS {
        let began = Instant::now();
        let faults = asked.unwrap_or(reading.few());
        let seen = explore::every_path(reading, faults, None);
        println!("Pike {}: {}; {:?}", reading.name, seen.in_words(), began.elapsed());
        if let Some(breach) = seen.breach {
            panic!("{}", breach.told);
        }
        states.extend(seen.states);
        steps.extend(seen.steps);
    }
    println!("states: {states:?}\nsteps: {steps:?}");
    assert_eq!(states.len(), STATES, "not every state was visited");
    if asked != Some(0) {
        for fault in explore::FAULTS {
            assert!(steps.contains(fault), "never happened: {fault}");
        }
    }
}

/// Forgetting what cannot matter must not hide anything.
#[test]
fn what_is_taken_as_alike_hides_nothing() {
    for (reading, faults) in [(explore::READINGS[3], 1), (explore::READINGS[5], 0)] {
        let (short, long) = explore::outcomes(reading, faults);
        assert!(!short.is_empty());
        let hidden: Vec<_> = long.difference(&short).take(5).collect();
        assert!(hidden.is_empty(), "{}: {hidden:?}", reading.name);
    }
}

#[test]
fn every_seeded_bug_is_caught() {
    let mut catches = vec![];
    for &bug in Bug::ALL {
        let began = Instant::now();
        let by_exploring = explore::catch(bug);
        let by_playing = bug.in_histories().then(|| play(1, UNTIL_CAUGHT, Some(bug)).0).flatten();
        let catch = Catch { bug, by_exploring, by_playing };
        println!("{} {:?}", catch.row(), began.elapsed());
        catches.push(catch);
    }
    let missed: Vec<_> = catches.iter().filter(|catch| catch.missed()).map(|catch| catch.bug).collect();
    assert!(missed.is_empty(), "not caught: {missed:?}");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/model.md");
    let now = document(&catches);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &now).unwrap();
    }
    let reviewed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(reviewed == now, "docs/model.md is not what the model finds: run this test with UPDATE_DOCS=1");
}
