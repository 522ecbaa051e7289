//! Time limits and assumptions about Pike that decisions depend on. They come from the settings.

use super::{
    provider,
    state::{Ending, State},
};
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
    pub attempts: Attempts,
    pub approvals: Approvals,
}

/// What must be known before one key approves what another one created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Approvals {
    /// Where an owner is not known, two keys count as two people.
    ByKey,
    /// Both keys must have owners.
    ByOwner,
}

impl Policy {
    /// After this no confirm of a payout can be waited for any more, whatever Pike shows of it.
    #[must_use]
    pub fn over_after(&self) -> Duration {
        self.confirm_window + self.hold_margin
    }
}

/// Whether a payout that Pike closed unpaid may be tried again in a new session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempts {
    /// Sessions in which a payout may be started, the first included: 1 is never again.
    pub most: i32,
    /// The failure codes after which it may.
    pub codes: Vec<String>,
    /// Between the failure and the next session.
    pub pause: Duration,
    /// None is begun now, and what would wait for one is for a person.
    pub unsure: bool,
}

/// Codes that say that somebody closed the session on purpose, or nothing at all. Trying again after them
/// would be against somebody's will, or a guess.
const NEVER_AGAIN: [&str; 2] = ["session_cancelled", "session_cancelled_by_partner"];

impl Attempts {
    pub const OFF: Self = Self { most: 1, codes: vec![], pause: Duration::MINUTE, unsure: false };

    /// Whether a code can be one of `codes`: one whose meaning we know, as a misspelt one would never match.
    #[must_use]
    pub fn can_list(code: &str) -> bool {
        provider::meaning(code).is_some() && !NEVER_AGAIN.contains(&code)
    }

    /// Whether another attempt may follow the one with this number, which failed with this code.
    #[must_use]
    pub fn another(&self, after: i32, code: &str) -> bool {
        after < self.most && self.codes.iter().any(|listed| listed == code) && Self::can_list(code)
    }
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
    /// The longest pause within the first hour, but for [`Self::of_queued`].
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
        if let Some(at) = state.retry_at().filter(|at| *at > now) {
            return Some(at);
        }
        let waited = (now - since).max(Duration::ZERO);
        let ceiling = if waited < Duration::HOUR { self.steady } else { self.longest };
        let due = now + (waited / 4_i32).clamp(self.first.min(ceiling), ceiling);
        Some(state.hold_until().map_or(due, |until| due.min(until.max(now + self.first))))
    }

    /// The pause after a payout's call to create its session was written down. Pike knows nothing of it yet,
    /// and while that call waits in the database a look changes nothing. After an outage many wait, and for
    /// long. Whoever takes the call without getting a session plans the next look as for anything else.
    #[must_use]
    pub fn of_queued(&self) -> Duration {
        self.longest
    }

    /// As [`Self::next`], for a payout that is already to be looked at: where that comes first, it stays.
    /// So a payout that moves on quickly keeps its one time, and whoever looks then plans the next.
    #[must_use]
    pub fn plan(
        &self,
        planned: Option<OffsetDateTime>,
        state: &State,
        since: OffsetDateTime,
        now: OffsetDateTime,
    ) -> Option<OffsetDateTime> {
        let next = self.next(state, since, now);
        let waits = state.ending().is_none() && state.hold_until().is_none() && state.retry_at().is_none();
        match (planned, next) {
            (Some(planned), Some(next)) if waits && planned > now && planned < next => Some(planned),
            _ => next,
        }
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
