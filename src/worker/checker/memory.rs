//! What the checker's own turn before has looked at. The last minute of each turn is read again in the next,
//! because a number or a date is given before its commit; nearly all of it was seen already. A payout at a
//! version that was looked at has nothing new, whoever took the turns between. What is forgotten is looked at
//! again.

use crate::{domain::id::PayoutId, store::checks::Change};
use std::collections::{HashMap, HashSet};
use time::OffsetDateTime;

#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Webhooks of the turn before, in order.
    heard_before: Vec<i64>,
    heard: Vec<i64>,
    /// Payouts by the version that was looked at.
    looked: HashMap<PayoutId, i64>,
    /// Those of them that the next turn will be told of again.
    recent: HashSet<PayoutId>,
}

impl Memory {
    /// Whether what this webhook told has been kept, and its payout looked at.
    pub(super) fn has_heard(&self, webhook: i64) -> bool {
        self.heard_before.binary_search(&webhook).is_ok()
    }

    /// These were read, in the order of their numbers, and may come again.
    pub(super) fn heard(&mut self, webhooks: impl IntoIterator<Item = i64>) {
        self.heard.extend(webhooks);
    }

    /// These were looked at.
    pub(super) fn looked(&mut self, versions: Vec<(PayoutId, i64)>) {
        self.looked.extend(versions);
    }

    /// Those among these changes that were not seen yet; those from `again` on will come once more.
    pub(super) fn unseen(&mut self, changes: &[Change], again: OffsetDateTime) -> Vec<PayoutId> {
        let mut unseen = vec![];
        for change in changes {
            let seen = self.looked.get(&change.payout).is_some_and(|version| *version >= change.version);
            if !seen {
                unseen.push(change.payout);
            }
            if change.at >= again {
                self.recent.insert(change.payout);
            }
        }
        unseen
    }

    /// The turn is over.
    pub(super) fn end(self) -> Self {
        let recent = self.recent.into_iter();
        let looked = recent.filter_map(|payout| Some((payout, *self.looked.get(&payout)?))).collect();
        Self { heard_before: self.heard, heard: vec![], looked, recent: HashSet::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::Duration;
    use uuid::Uuid;

    fn payout(number: u128) -> PayoutId {
        PayoutId(Uuid::from_u128(number))
    }

    fn change(number: u128, version: i64, second: i64) -> Change {
        let at = OffsetDateTime::UNIX_EPOCH + Duration::seconds(second);
        Change { payout: payout(number), version, at }
    }

    const AGAIN: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    #[test]
    fn a_version_is_looked_at_once_and_a_later_one_again() {
        let mut memory = Memory::default();
        let changes = [change(1, 2, 1), change(2, 5, 2)];
        assert_eq!(memory.unseen(&changes, AGAIN), [payout(1), payout(2)]);
        memory.looked(vec![(payout(1), 3), (payout(2), 5)]);
        assert_eq!(memory.unseen(&changes, AGAIN), []);
        assert_eq!(memory.unseen(&[change(1, 3, 3), change(2, 6, 3)], AGAIN), [payout(2)]);
    }

    #[test]
    fn what_comes_again_in_the_next_turn_is_remembered_until_then_and_nothing_else() {
        let mut memory = Memory::default();
        memory.unseen(&[change(1, 1, -1), change(2, 1, 0), change(3, 1, 1)], AGAIN);
        memory.looked(vec![(payout(1), 1), (payout(2), 1)]);
        let mut memory = memory.end();
        let all = [change(1, 1, -1), change(2, 1, 0), change(3, 1, 1)];
        assert_eq!(
            memory.unseen(&all, AGAIN + Duration::HOUR),
            [payout(1), payout(3)],
            "3 could not be read"
        );
        let mut memory = memory.end();
        assert_eq!(memory.unseen(&all, AGAIN).len(), 3, "none was to come again");
    }

    #[test]
    fn webhooks_are_remembered_for_one_turn() {
        let mut memory = Memory::default();
        memory.heard([3, 4, 9]);
        assert!(!memory.has_heard(4), "its payout has not been looked at yet");
        let mut memory = memory.end();
        assert!(memory.has_heard(4) && memory.has_heard(9) && !memory.has_heard(5));
        memory.heard([9, 12]);
        let memory = memory.end();
        assert!(!memory.has_heard(4) && memory.has_heard(12));
    }
}
