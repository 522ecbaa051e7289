//! Exhaustive exploration of one payout on the real decisions: two workers, a Pike that may be read in
//! several ways, and a network, callers and a clock that do whatever they like.

mod alike;
mod desk;
mod look;
mod moves;
mod partner;
mod point;
mod promises;
mod search;
mod told;
mod wire;
mod words;

use crate::{bug::Bug, mutant::Broken};
use moves::Moves;
use search::Search;
use std::collections::{BTreeSet, HashSet};

pub use partner::{READINGS, Reading};
pub use wire::FAULTS;

/// What an exploration saw.
pub struct Seen {
    /// Moments that need this many faults.
    pub moments: Vec<usize>,
    transitions: u64,
    depth: usize,
    pub breach: Option<Breach>,
    pub states: BTreeSet<String>,
    /// Names of the steps that were taken.
    pub steps: BTreeSet<&'static str>,
}

/// A broken promise, with the shortest path of fewest faults to it as readable steps.
pub struct Breach {
    broken: Broken,
    faults: usize,
    steps: usize,
    pub told: String,
}

/// How a seeded bug was caught.
pub struct Caught {
    pub broken: Broken,
    pub faults: usize,
    pub steps: usize,
    /// Explored until then, over all readings.
    pub moments: usize,
}

impl Seen {
    pub fn in_words(&self) -> String {
        let Self { moments, transitions, depth, .. } = self;
        let all: usize = moments.iter().sum();
        format!("{all} moments ({moments:?} by faults), {transitions} transitions, {depth} steps deep")
    }
}

/// Takes every path with so many faults, or until a promise breaks.
pub fn every_path(reading: Reading, faults: usize, bug: Option<Bug>) -> Seen {
    let mut moves = Moves::new(reading, bug);
    let found = Search::new(&mut moves).run(faults);
    let breach = found.breach.as_ref().map(|breach| Breach {
        broken: breach.broken,
        faults: breach.faults,
        steps: breach.path.len() - 1,
        told: words::tell(&mut moves, breach),
    });
    let states = moves.desk.facts.iter().map(|facts| facts.state.to_owned()).collect();
    let (moments, transitions) = (found.moments, found.transitions);
    Seen { moments, transitions, depth: found.depth, breach, states, steps: found.steps }
}

/// The first reading of Pike under which a bug breaks a promise.
pub fn catch(bug: Bug) -> Option<Caught> {
    let mut moments = 0;
    let telling = |reading: &Reading| reading.attempts == bug.needs_attempts();
    READINGS.into_iter().filter(telling).find_map(|reading| {
        let seen = every_path(reading, reading.few(), Some(bug));
        moments += seen.moments.iter().sum::<usize>();
        let Breach { broken, faults, steps, .. } = seen.breach?;
        Some(Caught { broken, faults, steps, moments })
    })
}

/// Everything that a payout and its sessions can come to, with and without taking moments as alike.
pub fn outcomes(reading: Reading, faults: usize) -> (BTreeSet<String>, BTreeSet<String>) {
    let reached = |alike| {
        let mut moves = Moves::new(reading, None);
        moves.alike = alike;
        let points = Search::new(&mut moves).points(faults);
        let rough: HashSet<_> = points.iter().map(|point| words::rough(&moves, point)).collect();
        rough.into_iter().map(|rough| words::outcome(&moves, rough)).collect()
    };
    (reached(true), reached(false))
}
