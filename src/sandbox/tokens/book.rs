//! The little that has to be remembered of tokens although they speak for themselves: which public ones were
//! used, and which recurrent ones are disabled. Both lists have an end, so that memory has one.

use std::collections::{BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::super::magic::Magic;
use super::super::scalars::At;
use super::super::session::Destination;
use super::seal::{Mark, Pass};

/// Used public tokens remembered at a time. More than these within a day, and the oldest are judged by age.
const USED: usize = 20_000;
/// Disabled recurrent tokens remembered. The oldest is good again when there are more.
const DISABLED: usize = 10_000;

/// Part of the state.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Book {
    /// By age. One that has ended needs no entry any more.
    used: BTreeSet<(At, Mark)>,
    /// Public tokens no younger than this count as used: the entries that would know were given up.
    used_through: Option<At>,
    /// Oldest first.
    disabled: VecDeque<Mark>,
}

impl Book {
    /// Whether a public token was used.
    #[must_use]
    pub fn is_used(&self, pass: &Pass, mark: Mark) -> bool {
        self.used_through.is_some_and(|through| pass.made <= through)
            || self.used.contains(&(pass.made, mark))
    }

    /// Uses a public token up; false when that was done before.
    #[must_use]
    pub fn use_up(&mut self, pass: &Pass, mark: Mark, now: At) -> bool {
        if self.is_used(pass, mark) {
            return false;
        }
        while self.used.first().is_some_and(|(made, _)| made.after(pass.life) <= now) {
            self.used.pop_first();
        }
        self.used.insert((pass.made, mark));
        if self.used.len() > USED {
            self.used_through = self.used.pop_first().map(|(made, _)| made);
        }
        true
    }

    /// Whether a recurrent token is disabled. A walk, but only payouts to recurrent tokens ask.
    #[must_use]
    pub fn is_disabled(&self, mark: Mark) -> bool {
        self.disabled.contains(&mark)
    }

    /// A destination as it is to be paid to: one that was named by a token disabled since is refused.
    #[must_use]
    pub fn as_it_is_now(&self, destination: &Destination) -> Destination {
        let disabled = destination.recurrent.is_some_and(|mark| self.is_disabled(mark));
        let magic = if disabled { Magic::Disabled } else { destination.magic };
        Destination { magic, ..destination.clone() }
    }

    /// Disables a recurrent token; a second time changes nothing.
    pub fn disable(&mut self, mark: Mark) {
        if self.is_disabled(mark) {
            return;
        }
        if self.disabled.len() == DISABLED {
            self.disabled.pop_front();
        }
        self.disabled.push_back(mark);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::seal::Access;
    use super::*;

    fn pass(made: i64) -> Pass {
        Pass { made: At(made), access: Access::default(), project: [0; 8], life: Duration::from_secs(1) }
    }

    fn mark(number: usize) -> Mark {
        Mark::of(&number.to_string())
    }

    #[test]
    fn a_public_token_is_used_once_and_forgotten_at_its_end() {
        let mut book = Book::default();
        assert!(book.use_up(&pass(5), mark(1), At(6)) && book.use_up(&pass(5), mark(2), At(6)));
        assert!(!book.use_up(&pass(5), mark(1), At(7)));
        assert!(!book.is_used(&pass(5), mark(3)));
        assert!(book.use_up(&pass(1_000_000), mark(4), At(1_000_005)));
        assert_eq!(book.used.len(), 1);
    }

    #[test]
    fn a_full_book_lets_no_token_be_used_twice() {
        let mut book = Book::default();
        for number in 0..USED + 2 {
            assert!(book.use_up(&pass(i64::try_from(number).unwrap()), mark(number), At(0)));
        }
        assert_eq!(book.used.len(), USED);
        assert!(!book.use_up(&pass(0), mark(0), At(0)) && !book.use_up(&pass(1), mark(1), At(0)));
        let read: Book = serde_json::from_str(&serde_json::to_string(&book).unwrap()).unwrap();
        assert!(read.is_used(&pass(0), mark(0)) && read.is_used(&pass(9), mark(9)));
        assert!(!read.is_used(&pass(9), mark(8)));
    }

    #[test]
    fn disabled_tokens_are_capped() {
        let mut book = Book::default();
        book.disable(mark(0));
        book.disable(mark(0));
        assert_eq!(book.disabled.len(), 1);
        (1..=DISABLED).for_each(|number| book.disable(mark(number)));
        assert_eq!(book.disabled.len(), DISABLED);
        assert!(!book.is_disabled(mark(0)) && book.is_disabled(mark(1)));
    }
}
