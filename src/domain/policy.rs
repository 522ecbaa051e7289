//! Time limits and assumptions about Pike that decisions depend on. They come from the settings.

use super::state::{Ending, State};
use time::{Duration, OffsetDateTime};

/// Whether a start whose outcome is unknown may be sent again on the same session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResendStart {
    /// Never: Pike might add a second payout. The session is closed unpaid instead.
    Never,
    /// On the same session with the same key: only where Pike is known to refuse a second start.
    SameSession,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub resend_start: ResendStart,
    /// How long an unknown start is watched before it is resolved actively.
    pub start_unresolved_after: Duration,
    /// How long Pike may go on showing the old picture after it accepted a confirm or a cancel.
    pub stale_read_grace: Duration,
    /// How long Pike waits for a confirm before it cancels by itself.
    pub confirm_window: Duration,
    /// How long before the end of that window an unanswered hold is cancelled.
    pub hold_margin: Duration,
    pub polling: Polling,
}

/// What payoutd does at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    #[default]
    Everything,
    /// Only looks: after a restore nobody knows what the database has forgotten. No order or command is
    /// taken, nothing is permitted, and Pike gets nothing but status reads.
    ReconcileOnly,
}

/// When anomalies of the money kind stop a project's confirms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopLine {
    /// So many within `window`; money that nobody permitted does at once.
    pub anomalies: i64,
    pub window: Duration,
}

impl Default for StopLine {
    fn default() -> Self {
        Self { anomalies: 3, window: Duration::HOUR }
    }
}

/// When to ask Pike without having been told anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Polling {
    /// The shortest pause: right after something happened.
    pub first: Duration,
    /// The longest pause within the first hour.
    pub steady: Duration,
    /// The longest pause ever.
    pub longest: Duration,
    /// How long after a payout was paid it is first looked at again, for money that came back.
    pub paid_first: Duration,
    /// The last look at a paid payout; zero for none at all.
    pub paid_until: Duration,
}

/// How much older a paid payout is at each further look.
const OLDER: i32 = 6;

impl Polling {
    /// The next time to look at a payout that has been in `state` since `since`; `None` when nothing can be
    /// expected any more.
    #[must_use]
    pub fn next(&self, state: &State, since: OffsetDateTime, now: OffsetDateTime) -> Option<OffsetDateTime> {
        match state.ending() {
            None => {}
            Some(Ending::Succeeded) => return self.next_when_paid(since, now),
            Some(Ending::Returned | Ending::Failed(_) | Ending::Cancelled(_)) => return None,
        }
        let waited = (now - since).max(Duration::ZERO);
        let ceiling = if waited < Duration::HOUR { self.steady } else { self.longest };
        let due = now + (waited / 4_i32).clamp(self.first.min(ceiling), ceiling);
        Some(state.hold_until().map_or(due, |until| due.min(until.max(now + self.first))))
    }

    /// At `paid_first`, at six times that age and so on, and at `paid_until`.
    fn next_when_paid(&self, since: OffsetDateTime, now: OffsetDateTime) -> Option<OffsetDateTime> {
        let mut age = self.paid_first.min(self.paid_until);
        while age > Duration::ZERO {
            if since + age > now {
                return Some(since + age);
            }
            if age >= self.paid_until {
                return None;
            }
            age = (age * OLDER).min(self.paid_until);
        }
        None
    }
}

#[cfg(test)]
mod tests;
