//! What the checker has looked at and heard, so that a payout is looked at once, and not once for each
//! webhook and again in the next turn. It only saves work: whoever has none looks at all that may be new.

use crate::{
    domain::id::PayoutId,
    store::checks::{Change, LookedAt},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, Instant},
};

/// Payouts remembered, in some 3 MB; those beyond are looked at again. As many as a table of a power of two
/// takes.
const MOST_PAYOUTS: usize = (1 << 17) / 8 * 7;
/// Numbers remembered that no webhook had when its neighbours were heard; with more, all is heard again.
const MOST_MISSING: usize = 10_000;

/// Payouts to look at once more: as many as a turn hears of. Those beyond come round with the sweep. Hearing
/// does not wait for them: they may be on hold for long.
const MOST_RESTLESS: usize = 300_000;
/// By then what was heard has been worked on, or it is late.
const WORKED_ON: Duration = Duration::from_secs(60);

/// Kept from turn to turn as long as each goes well, finds the same server, and follows the one before: what
/// others have heard meanwhile is not known here.
#[derive(Debug, Default)]
pub(super) struct Memory {
    server: String,
    fence: i64,
    turn: u8,
    payouts: HashMap<PayoutId, Remembered>,
    hearing: Hearing,
    /// Those of which something was heard that may not have been worked on yet.
    restless: BTreeMap<PayoutId, Restless>,
}

#[derive(Debug)]
struct Restless {
    heard: Instant,
    /// It was looked at when that should have been worked on.
    looked_at: bool,
}

/// Small, as there are many of them.
#[derive(Debug)]
struct Remembered {
    version: u32,
    at_rest: bool,
    /// The last turn in which it was looked at or had changed.
    turn: u8,
}

#[derive(Debug, Default)]
struct Hearing {
    /// Everything up to this number has been heard, but for what was missing.
    upto: i64,
    missing: BTreeSet<i64>,
    /// Whether it was asked, in this turn, if those are there by now.
    late_asked: bool,
    /// More were missing than are remembered.
    lost_count: bool,
}

/// Which webhooks to hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unheard {
    /// Those of these numbers that are there by now, where all others between `settled` and `upto` are heard.
    Late { missing: Vec<i64>, settled: i64, upto: i64 },
    /// Those after this one.
    After(i64),
}

impl Memory {
    /// A turn begins. Of those before, only payouts at rest are remembered: at others, time that passes alone
    /// can show something.
    pub(super) fn begin(&mut self, server: &str, fence: i64) {
        if self.server != server || self.fence + 1 != fence {
            *self = Self { server: server.to_owned(), ..Self::default() };
        }
        self.fence = fence;
        let last = self.turn;
        self.payouts.retain(|_, payout| payout.at_rest && payout.turn == last);
        self.payouts.shrink_to(2 * self.payouts.len());
        self.turn = self.turn.wrapping_add(1);
        if self.hearing.lost_count {
            self.hearing = Hearing::default();
        }
        self.hearing.late_asked = false;
    }

    /// Whom to look at once more because of what was heard in the turns before, as long as they are not at
    /// rest: until it should have been worked on, and a last time when it was heard so long ago.
    pub(super) fn again(&mut self, now: Instant, so_long: Duration) -> Vec<PayoutId> {
        let payouts = &self.payouts;
        let mut again = vec![];
        self.restless.retain(|id, restless| {
            let age = now.duration_since(restless.heard);
            let (rests, last) = (rests(payouts, id), age >= so_long);
            if !rests && (last || !restless.looked_at) {
                again.push(*id);
                restless.looked_at = age >= WORKED_ON;
            }
            !rests && !last
        });
        again
    }

    pub(super) fn add(&mut self, looked_at: &[LookedAt]) {
        for &LookedAt { payout, version, at_rest } in looked_at {
            let Ok(version) = u32::try_from(version) else { continue };
            if self.payouts.len() < MOST_PAYOUTS || self.payouts.contains_key(&payout) {
                self.payouts.insert(payout, Remembered { version, at_rest, turn: self.turn });
            }
        }
    }

    /// Something was heard of these, and they were looked at.
    pub(super) fn concerned(&mut self, payouts: &[PayoutId], now: Instant) {
        if self.restless.len() + payouts.len() > MOST_RESTLESS {
            self.restless.retain(|_, restless| !restless.looked_at);
        }
        for id in payouts.iter().filter(|id| !rests(&self.payouts, id)) {
            if self.restless.len() < MOST_RESTLESS || self.restless.contains_key(id) {
                self.restless.insert(*id, Restless { heard: now, looked_at: false });
            }
        }
    }

    /// Those among these changes that were not looked at since.
    pub(super) fn not_yet(&mut self, changes: &[Change]) -> Vec<PayoutId> {
        let turn = self.turn;
        let mut unseen = vec![];
        for change in changes {
            match self.payouts.get_mut(&change.payout) {
                Some(remembered) if i64::from(remembered.version) >= change.version => remembered.turn = turn,
                _ => unseen.push(change.payout),
            }
        }
        unseen
    }

    /// What to hear next, where no webhook up to `settled` can be new.
    pub(super) fn unheard(&mut self, settled: i64) -> Unheard {
        let hearing = &mut self.hearing;
        // Somebody else may have had the turn in between.
        hearing.missing.retain(|id| *id > settled);
        hearing.upto = hearing.upto.max(settled);
        if hearing.upto > settled && !hearing.late_asked {
            let missing = hearing.missing.iter().copied().collect();
            return Unheard::Late { missing, settled, upto: hearing.upto };
        }
        Unheard::After(hearing.upto)
    }

    /// Notes that these were there, in order, of those that were to be heard; `settled` is the last one
    /// behind which no other could appear any more when they were read. Says behind which none can by now.
    pub(super) fn heard(&mut self, unheard: &Unheard, webhooks: &[i64], settled: i64) -> i64 {
        let hearing = &mut self.hearing;
        // Nobody knows any more what is missing behind it: the next turn hears all again.
        let settled = if hearing.lost_count { 0 } else { settled };
        match unheard {
            Unheard::Late { .. } => {
                hearing.late_asked = true;
                hearing.missing.retain(|id| *id > settled);
                for id in webhooks {
                    hearing.missing.remove(id);
                }
                settled
            }
            Unheard::After(after) => {
                hearing.late_asked = true;
                // What was missing before was not asked for now.
                let open = hearing.missing.first().copied();
                let mut upto = *after;
                for &id in webhooks {
                    let gap = settled.max(upto) + 1..id;
                    if hearing.missing.len().saturating_add(gap.clone().count()) > MOST_MISSING {
                        hearing.lost_count = true;
                    } else {
                        hearing.missing.extend(gap);
                    }
                    upto = id;
                }
                hearing.upto = upto;
                open.map_or(settled, |open| settled.min(open - 1))
            }
        }
    }
}

fn rests(payouts: &HashMap<PayoutId, Remembered>, id: &PayoutId) -> bool {
    payouts.get(id).is_some_and(|payout| payout.at_rest)
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

    fn looked_at(number: u128, version: i64, at_rest: bool) -> LookedAt {
        LookedAt { payout: payout(number), version, at_rest }
    }

    const LONG: Duration = Duration::from_secs(960);

    fn next(memory: &mut Memory, server: &str) {
        memory.begin(server, memory.fence + 1);
    }

    fn memory() -> Memory {
        let mut memory = Memory::default();
        next(&mut memory, "one");
        memory
    }

    #[test]
    fn a_version_is_looked_at_once_in_a_turn_and_a_later_one_again() {
        let mut memory = memory();
        let changes = [change(1, 2), change(2, 5)];
        assert_eq!(memory.not_yet(&changes), [payout(1), payout(2)]);
        memory.add(&[looked_at(1, 3, false), looked_at(2, 5, true)]);
        assert_eq!(memory.not_yet(&changes), []);
        assert_eq!(memory.not_yet(&[change(1, 3), change(2, 6)]), [payout(2)]);
    }

    #[test]
    fn what_is_at_rest_is_not_looked_at_in_the_next_turns_as_long_as_it_comes_up_in_each() {
        let mut memory = memory();
        memory.add(&[looked_at(1, 3, false), looked_at(2, 5, true)]);
        for _ in 0..3 {
            next(&mut memory, "one");
            assert_eq!(memory.not_yet(&[change(1, 3), change(2, 5)]), [payout(1)]);
        }
        next(&mut memory, "one");
        next(&mut memory, "one");
        assert_eq!(memory.not_yet(&[change(2, 5)]), [payout(2)], "forgotten");
    }

    #[test]
    fn what_something_was_heard_of_is_looked_at_again_until_it_is_at_rest_or_long_ago() {
        let (mut memory, now, second) = (memory(), Instant::now(), Duration::from_secs(1));
        memory.add(&[looked_at(1, 3, false), looked_at(2, 5, true)]);
        memory.concerned(&[payout(1), payout(2), payout(3)], now - second);
        memory.concerned(&[payout(3), payout(1)], now);
        let mut after = |age, at_rest: &[LookedAt]| {
            next(&mut memory, "one");
            let again = memory.again(now + age, LONG);
            memory.add(at_rest);
            again
        };
        assert_eq!(after(second, &[]), [payout(1), payout(3)]);
        assert_eq!(after(WORKED_ON - second, &[]), [payout(1), payout(3)]);
        assert_eq!(after(WORKED_ON, &[looked_at(1, 3, true)]), [payout(1), payout(3)]);
        assert_eq!(after(LONG - second, &[]), []);
        assert_eq!(after(LONG, &[]), [payout(3)], "the last time");
        assert_eq!(after(2 * LONG, &[]), []);
    }

    #[test]
    fn with_too_many_restless_those_that_were_looked_at_again_go_first_and_hearing_goes_on() {
        let (mut memory, now) = (memory(), Instant::now());
        let many = u128::try_from(MOST_RESTLESS).unwrap();
        memory.concerned(&(0..many).map(payout).collect::<Vec<_>>(), now);
        memory.concerned(&[payout(0), payout(many)], now);
        let unheard = memory.unheard(5);
        assert_eq!(memory.heard(&unheard, &[6], 6), 6);
        next(&mut memory, "one");
        assert_eq!(memory.again(now, LONG).len(), MOST_RESTLESS, "and no more");
        memory.again(now + WORKED_ON, LONG);
        memory.concerned(&[payout(many)], now + WORKED_ON);
        next(&mut memory, "one");
        assert_eq!(memory.again(now + WORKED_ON, LONG), [payout(many)]);
    }

    #[test]
    fn what_others_had_a_turn_after_is_not_known() {
        let mut memory = memory();
        memory.add(&[looked_at(1, 3, true)]);
        memory.concerned(&[payout(2)], Instant::now());
        memory.begin("one", memory.fence + 2);
        assert_eq!(memory.not_yet(&[change(1, 3)]), [payout(1)]);
        assert_eq!(memory.again(Instant::now(), LONG), []);
    }

    #[test]
    fn another_server_has_been_neither_looked_at_nor_heard() {
        let mut memory = memory();
        memory.add(&[looked_at(2, 5, true)]);
        memory.heard(&Unheard::After(0), &[1, 2], 0);
        next(&mut memory, "two");
        assert_eq!(memory.not_yet(&[change(2, 5)]), [payout(2)]);
        assert_eq!(memory.unheard(0), Unheard::After(0));
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let mut memory = memory();
        let most = u128::try_from(MOST_PAYOUTS).unwrap();
        memory.add(&(0..=most).map(|number| looked_at(number, 1, true)).collect::<Vec<_>>());
        assert_eq!(memory.not_yet(&[change(0, 1), change(most, 1)]), [payout(most)]);
    }

    #[test]
    fn webhooks_are_heard_once_and_those_that_were_missing_when_they_come() {
        let mut memory = memory();
        assert_eq!(memory.unheard(10), Unheard::After(10));
        // 11 and 12 are settled, and 15 and 17 may be on their way.
        assert_eq!(memory.heard(&Unheard::After(10), &[12, 13, 14, 16, 18], 12), 12);
        assert_eq!(memory.unheard(12), Unheard::After(18));
        assert_eq!(memory.heard(&Unheard::After(18), &[], 12), 12);

        next(&mut memory, "one");
        let late = Unheard::Late { missing: vec![15, 17], settled: 12, upto: 18 };
        assert_eq!(memory.unheard(12), late);
        assert_eq!(memory.heard(&late, &[17], 14), 14);
        assert_eq!(memory.unheard(14), Unheard::After(18));

        next(&mut memory, "one");
        let late = Unheard::Late { missing: vec![15], settled: 14, upto: 18 };
        assert_eq!(memory.unheard(14), late);
        assert_eq!(memory.heard(&late, &[], 18), 18, "15 never comes");
        next(&mut memory, "one");
        assert_eq!(memory.unheard(18), Unheard::After(18));
    }

    /// Between two steps of one turn time passes: what is settled by then does not settle what was missing
    /// before and was not asked for again.
    #[test]
    fn nothing_is_settled_past_what_was_missing_and_has_not_been_asked_for_since() {
        let mut memory = memory();
        assert_eq!(memory.heard(&Unheard::After(0), &[1, 2, 4], 2), 2);
        assert_eq!(memory.heard(&Unheard::After(4), &[5, 6], 6), 2);
        next(&mut memory, "one");
        assert_eq!(memory.unheard(2), Unheard::Late { missing: vec![3], settled: 2, upto: 6 });
    }

    #[test]
    fn where_somebody_else_has_heard_more_we_go_on_from_there() {
        let mut memory = memory();
        memory.heard(&Unheard::After(0), &[1, 3], 1);
        next(&mut memory, "one");
        assert_eq!(memory.unheard(9), Unheard::After(9));
        assert_eq!(memory.heard(&Unheard::After(9), &[10], 10), 10);
    }

    #[test]
    fn with_too_many_missing_all_is_heard_again() {
        let mut memory = memory();
        assert_eq!(memory.heard(&Unheard::After(0), &[1, i64::MAX - 1], 1), 1);
        let unheard = memory.unheard(1);
        assert_eq!(unheard, Unheard::After(i64::MAX - 1));
        assert_eq!(memory.heard(&unheard, &[], i64::MAX - 1), 0, "nor is what was missing settled");
        next(&mut memory, "one");
        assert_eq!(memory.unheard(1), Unheard::After(1));
    }
}
