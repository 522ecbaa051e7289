//! Where chance comes from: a seed that is printed, and that the environment can repeat.

use fastrand::Rng;

/// The variable that repeats a run.
const VARIABLE: &str = "PAYOUTD_TEST_SEED";

/// A seed, said aloud.
pub fn seed(what: &str) -> u64 {
    let given = std::env::var(VARIABLE).ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    println!("{what}: {VARIABLE}={seed}");
    seed
}

/// Chance of its own for the `n`th of something, so that the order in which things happen does not matter.
pub fn chance(seed: u64, n: usize) -> Rng {
    Rng::with_seed(seed ^ u64::try_from(n).unwrap().wrapping_mul(0x9e37_79b9_7f4a_7c15))
}
