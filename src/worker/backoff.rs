//! Growing pauses between tries of the same thing.

use std::time::Duration;

/// `first`, doubled for every try before this one, at most `longest`.
pub(super) fn pause(first: Duration, longest: Duration, tries_before: i32) -> Duration {
    let doublings = u32::try_from(tries_before).unwrap_or(0).min(30);
    first.saturating_mul(2_u32.saturating_pow(doublings)).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit() {
        let pause = |tries| pause(Duration::from_secs(1), Duration::from_secs(60), tries).as_secs();
        assert_eq!([0, 1, 2, 5, 6, i32::MAX, -1].map(pause), [1, 2, 4, 32, 60, 60, 1]);
    }
}
