//! What this turn of the checker has looked at: webhooks tell of most payouts that have changed as well.

use crate::{domain::id::PayoutId, store::checks::Change};
use std::collections::HashMap;

/// Whoever is forgotten is looked at again.
const MOST: usize = 100_000;

/// Payouts by the version that was looked at. Only within a turn: the next looks again at what changed within
/// the last minute, and finds what had not been committed, was not worked off yet, or was changed past us.
#[derive(Debug, Default)]
pub(super) struct Seen(HashMap<PayoutId, i64>);

impl Seen {
    pub(super) fn add(&mut self, versions: Vec<(PayoutId, i64)>) {
        if self.0.len() >= MOST {
            self.0.clear();
        }
        self.0.extend(versions);
    }

    /// Those among these changes that were not looked at since.
    pub(super) fn not_yet(&self, changes: &[Change]) -> Vec<PayoutId> {
        let since = |change: &&Change| self.0.get(&change.payout).is_none_or(|seen| *seen < change.version);
        changes.iter().filter(since).map(|change| change.payout).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::OffsetDateTime;
    use uuid::Uuid;

    fn payout(number: u128) -> PayoutId {
        PayoutId(Uuid::from_u128(number))
    }

    fn change(number: u128, version: i64) -> Change {
        Change { payout: payout(number), version, at: OffsetDateTime::UNIX_EPOCH }
    }

    #[test]
    fn a_version_is_looked_at_once_and_a_later_one_again() {
        let mut seen = Seen::default();
        let changes = [change(1, 2), change(2, 5)];
        assert_eq!(seen.not_yet(&changes), [payout(1), payout(2)]);
        seen.add(vec![(payout(1), 3), (payout(2), 5)]);
        assert_eq!(seen.not_yet(&changes), []);
        assert_eq!(seen.not_yet(&[change(1, 3), change(2, 6)]), [payout(2)]);
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let mut seen = Seen::default();
        let many = u128::try_from(MOST).unwrap();
        seen.add((0..many).map(|number| (payout(number), 1)).collect());
        seen.add(vec![(payout(many), 1)]);
        assert_eq!(seen.not_yet(&[change(0, 1), change(many, 1)]), [payout(0)]);
    }
}
