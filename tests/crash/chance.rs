//! Seeded randomness: the same seed, the same choices.

use std::hash::{BuildHasher, RandomState};

/// SplitMix64: enough to choose moments and victims.
pub struct Chance {
    pub seed: u64,
    state: u64,
}

impl Chance {
    /// From PAYOUTD_TEST_SEED, or a seed nobody has seen.
    pub fn from_environment() -> Self {
        let given = std::env::var("PAYOUTD_TEST_SEED").ok().map(|text| text.parse().expect("a number"));
        let seed = given.unwrap_or_else(|| RandomState::new().hash_one(std::process::id()));
        Self { seed, state: seed }
    }

    #[allow(dead_code, reason = "not everybody who uses this file has a seed of its own")]
    pub fn of(seed: u64) -> Self {
        Self { seed, state: seed }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// At least `least`, less than `most`.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.next() % (most - least)
    }

    pub fn below(&mut self, count: usize) -> usize {
        usize::try_from(self.between(0, u64::try_from(count).unwrap())).unwrap()
    }
}
