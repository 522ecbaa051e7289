//! What this process has just written: payouts as they are until somebody else writes them, and what time
//! it was for the database. Whoever decides by it says so when it writes, and is refused if it is not so
//! any more.

use crate::{
    domain::id::PayoutId,
    store::{payouts::Stored, steps::Writer},
};
use quick_cache::sync::Cache;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};
use time::OffsetDateTime;

/// More than are under way at one time but in a backlog, where it is of no use: about two kilobytes each.
const KEPT: usize = 1024;
/// Calls that are on their way when a webhook makes them unwanted, many times over.
const KEPT_OVER: usize = 4096;
/// So long the clocks of two machines run alike.
const ALIKE: Duration = Duration::from_secs(10);

/// A payout, and the transaction that wrote it so.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub stored: Stored,
    pub by: Writer,
    /// When that transaction had not begun yet. Good only over a connection that was there already: another
    /// server, or one that was set back, may use the transaction's number once more.
    pub before: Instant,
}

/// Empty to begin with, bounded.
#[derive(Debug)]
pub struct Remembered {
    /// Boxed: the cache makes room for as many entries as it may have at once.
    payouts: Cache<PayoutId, Box<Known>>,
    /// Effects that are no longer there, by their numbers, and since when: a server gives none again, but
    /// another one, or one that was set back, may.
    over: Cache<i64, Instant>,
    /// A time of the database, and when it came.
    told: Mutex<Option<(OffsetDateTime, Instant)>>,
    /// The switches of confirms, as whoever looked last has seen them.
    switches: Mutex<Option<BTreeMap<String, bool>>>,
}

impl Default for Remembered {
    fn default() -> Self {
        let (payouts, over) = (Cache::new(KEPT), Cache::new(KEPT_OVER));
        Self { payouts, over, told: Mutex::default(), switches: Mutex::default() }
    }
}

impl Remembered {
    /// Those of these payouts that are known. Taken out: whatever becomes of them, nobody else decides by
    /// what they were.
    pub(super) fn take(&self, ids: &BTreeSet<PayoutId>) -> BTreeMap<PayoutId, Known> {
        let known = ids.iter().filter_map(|id| self.payouts.remove(id));
        known.map(|(id, known)| (id, *known)).collect()
    }

    /// These were committed, by somebody who began after `before`. What is final needs nobody any more.
    pub(super) fn keep<'a>(
        &self,
        payouts: impl Iterator<Item = &'a Stored>,
        by: Option<Writer>,
        before: Instant,
    ) {
        for stored in payouts {
            match by {
                Some(by) if !stored.payout.state.is_final() => {
                    let known = Known { stored: stored.clone(), by, before };
                    self.payouts.insert(stored.payout.id, Box::new(known));
                }
                Some(_) | None => drop(self.payouts.remove(&stored.payout.id)),
            }
        }
    }

    /// It is committed that these effects are no longer wanted.
    pub(super) fn are_over(&self, effects: &[i64]) {
        let now = Instant::now();
        effects.iter().for_each(|effect| self.over.insert(*effect, now));
    }

    /// Since when this effect is known to be gone: an answer to it comes too late, and nobody has to look, as
    /// long as there is a connection that is older.
    pub(super) fn over_since(&self, effect: i64) -> Option<Instant> {
        self.over.get(&effect)
    }

    /// The database has said what time it is. It was on its way for a while, so that what follows from it is
    /// never ahead; of two the one that is later says more.
    pub(super) fn told(&self, now: OffsetDateTime, came: Instant) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.as_ref().and_then(|told| since(told, came)).is_none_or(|before| before < now) {
            *told = Some((now, came));
        }
    }

    /// Somebody has looked at the switches.
    pub(super) fn saw(&self, switches: &BTreeMap<String, bool>) {
        *self.switches.lock().unwrap_or_else(PoisonError::into_inner) = Some(switches.clone());
    }

    /// As they were seen; whoever decides by them has it compared.
    pub(super) fn switches(&self) -> Option<BTreeMap<String, bool>> {
        self.switches.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The time of the database, or a little before, in whole microseconds; nothing if it has not been heard
    /// lately.
    pub(super) fn now(&self, at: Instant) -> Option<OffsetDateTime> {
        since(self.told.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?, at)
    }
}

fn since((now, came): &(OffsetDateTime, Instant), at: Instant) -> Option<OffsetDateTime> {
    let passed = at.saturating_duration_since(*came);
    let micros = u64::try_from(passed.as_micros()).ok()?;
    (passed < ALIKE).then(|| *now + Duration::from_micros(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: OffsetDateTime = time::macros::datetime!(2026-03-01 12:00 UTC);

    #[test]
    fn the_later_time_counts_and_none_for_long() {
        let (seen, start) = (Remembered::default(), Instant::now());
        let second = Duration::from_secs(1);
        assert_eq!(seen.now(start), None);
        seen.told(NOON, start);
        // Came two seconds later, though it was said one second later.
        seen.told(NOON + second, start + 2 * second);
        assert_eq!(seen.now(start + 3 * second), Some(NOON + 3 * second));
        seen.told(NOON + 5 * second, start + 4 * second);
        assert_eq!(seen.now(start + 4 * second), Some(NOON + 5 * second));
        assert_eq!(seen.now(start + 14 * second), None);
        // A clock that was set back, once the former time is too old.
        seen.told(NOON, start + 14 * second);
        assert_eq!(seen.now(start + 14 * second), Some(NOON));
    }
}
