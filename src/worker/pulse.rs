//! How late timers fire: whatever blocks the threads that everything runs on, or starves them, shows here
//! before callers notice. It only measures; decides nothing and touches no payout.

use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// Between two beats: often enough to see a stall of a call's length, seldom enough to cost nothing.
const EVERY: Duration = Duration::from_millis(250);

/// Beats until told to stop, and exports by how much each beat was late.
pub async fn run(stop: CancellationToken) {
    while !stop.is_cancelled() {
        let late = beat().await;
        metrics::histogram!("payoutd_runtime_late_seconds").record(late.as_secs_f64());
    }
}

/// Waits for the next beat; by how much it came late.
async fn beat() -> Duration {
    let due = Instant::now() + EVERY;
    sleep_until(due).await;
    due.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_blocks_a_thread_shows() {
        let block = async { std::thread::sleep(EVERY * 5) };
        let (late, ()) = tokio::join!(beat(), block);
        assert!(late >= EVERY * 3, "{late:?} although nothing else could run");
    }
}
