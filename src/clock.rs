//! The one source of the current time. Decisions receive an instant taken here once; leases and due times
//! are compared by the database with its own clock instead.

use time::OffsetDateTime;

/// Reads the machine's clock. The only place that may.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock;

impl Clock {
    /// The current instant, UTC, in whole microseconds: what the database keeps of it, so that an instant is
    /// the same before and after it was stored.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn now(self) -> OffsetDateTime {
        let now = OffsetDateTime::now_utc();
        now.replace_nanosecond(now.microsecond() * 1000).unwrap_or(now)
    }
}
