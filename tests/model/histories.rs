//! Playing random histories: a seed tells all of one, and it is the same on every machine.

use crate::{bug::Bug, mutant::Broken, scene::Scene, tally::Tally, terms::Terms};

/// Seeds of histories that once broke a promise, and what was wrong: played before all others. A seed loses
/// its story when what histories are made of changes; the unit test that came with the repair does not.
pub const ONCE_BROKEN: &[(u64, &str)] = &[
    (979, "a start that was accepted and did not show waited for ever in processing"),
    (674, "a start was sent again for ever to a Pike that had used up its key"),
];

/// Most lines told of a history that broke a promise.
const TOLD: usize = 200;
/// More do not make it faster on the machines that run this.
const TOGETHER: usize = 4;

/// Plays histories from `first`; the first that breaks a promise, and what happened in all of them.
pub fn play(first: u64, count: u64, bug: Option<Bug>) -> (Option<(u64, Broken)>, Tally) {
    every_nth((first..first + count).step_by(1), bug)
}

fn every_nth(seeds: impl Iterator<Item = u64>, bug: Option<Bug>) -> (Option<(u64, Broken)>, Tally) {
    let (terms, mut tally) = (Terms::new(), Tally::default());
    for seed in seeds {
        let mut scene = Scene::new(seed, &terms, bug, tally);
        let ended = scene.play();
        tally = scene.tally;
        if let Err(broken) = ended {
            return (Some((seed, broken)), tally);
        }
    }
    (None, tally)
}

/// The same on all cores. Of several that break a promise the one with the smallest seed.
pub fn play_together(first: u64, count: u64) -> (Option<(u64, Broken)>, Tally) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from).min(TOGETHER);
    let played: Vec<_> = std::thread::scope(|scope| {
        let seeds = (0..cores).map(|core| (first..first + count).skip(core).step_by(cores));
        let playing: Vec<_> = seeds.map(|seeds| scope.spawn(|| every_nth(seeds, None))).collect();
        playing.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let mut tally = Tally::default();
    played.iter().for_each(|(_, one)| tally.add(one));
    (played.into_iter().filter_map(|(broken, _)| broken).min_by_key(|(seed, _)| *seed), tally)
}

/// The same history again, told.
pub fn tell(seed: u64) -> String {
    let terms = Terms::new();
    let mut scene = Scene::new(seed, &terms, None, Tally::default());
    scene.trace = Some(vec![format!("{:?}, {:?}", scene.books.payout.order.amount, scene.pike.manners)]);
    let _ = scene.play();
    let lines = scene.trace.unwrap();
    let shown: Vec<_> = lines.iter().take(TOLD).map(String::as_str).collect();
    format!("{}\n({} lines in all)", shown.join("\n"), lines.len())
}
