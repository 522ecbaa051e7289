//! The one source of the current time. Decisions receive an instant taken here once; leases and due times
//! are compared by the database with its own clock instead.

use time::OffsetDateTime;

/// Reads the machine's clock. The only place that may.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock;

impl Clock {
    /// The current instant, UTC.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn now(self) -> OffsetDateTime {
        OffsetDateTime::now_utc()
    }
}
