//! How fast things go: settings of payoutd and of the sandbox that belong together.

use std::time::Duration;

#[derive(Clone)]
pub struct Pace {
    /// What dead processes held comes back after this.
    pub lease: Duration,
    /// Of payoutd, as TOML.
    pub settings: &'static str,
    pub delay: &'static str,
    pub slow_delay: &'static str,
    pub webhook_retry: &'static str,
    pub webhook_timeout: &'static str,
}

/// For a thousand payouts on a busy machine.
pub const LONG: Pace = Pace {
    lease: Duration::from_millis(4_600),
    settings: r#"
database.max_connections = 10
log.level = "error"
inbox.lease = "2s"
[pike]
connect_timeout = "500ms"
total_timeout = "2s"
start_unresolved_after = "1s"
stale_read_grace = "1s"
reads_per_second = 0
[breaker]
pause = "100ms"
longest_pause = "500ms"
[polling]
first = "300ms"
steady = "1s"
longest = "2s"
[effects]
# Hardly more than the calls may take: what a dead process held comes back after this.
lease = "4600ms"
idle_poll = "50ms"
retry_first = "50ms"
retry_longest = "500ms"
"#,
    delay: "20ms",
    slow_delay: "500ms",
    webhook_retry: "0s,200ms,500ms,1s,2s,4s,8s",
    webhook_timeout: "2s",
};

/// For a few dozen payouts, thousands of times. A lease must outlive a call by two seconds, so a run in which
/// somebody dies while calling cannot take less.
pub const SHORT: Pace = Pace {
    lease: Duration::from_millis(2_600),
    settings: r#"
database.max_connections = 4
log.level = "info"
inbox.lease = "1s"
[pike]
connect_timeout = "200ms"
total_timeout = "400ms"
start_unresolved_after = "1s"
stale_read_grace = "1s"
reads_per_second = 0
[breaker]
pause = "100ms"
longest_pause = "500ms"
[polling]
first = "200ms"
steady = "400ms"
longest = "800ms"
[effects]
lease = "2600ms"
# Wake-ups do the rest; ten processes that look for work all the time keep each other from it.
idle_poll = "150ms"
retry_first = "50ms"
retry_longest = "400ms"
[notifications]
timeout = "300ms"
retry_first = "30ms"
retry_longest = "300ms"
give_up_after = "1h"
allow_private_addresses = true
[shutdown]
grace = "1s"
"#,
    delay: "10ms",
    slow_delay: "300ms",
    webhook_retry: "0s,150ms,400ms,1s,2s,4s,8s",
    webhook_timeout: "1s",
};
