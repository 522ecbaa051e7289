//! How the checker leaves room for the payouts that it looks after: it rests between its steps, as long as
//! there is time for that, and stops between two of them when the process does.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// After each step it rests for so many times as long as that took: when much is new, that is when much is
/// paid out, it takes a quarter of one connection's time, and not all of it. A slow step is a sign of load,
/// and gets a longer rest.
const REST: u32 = 3;
/// And no longer than this, as the turn is kept by a lease.
const LONGEST: Duration = Duration::from_secs(10);
/// Of the time from turn to turn, the part in which it may rest, and the longest: who is late by then goes on
/// without.
const MAY_REST: u32 = 2;
const MAY_REST_AT_MOST: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Rests {
    stop: CancellationToken,
    every: Duration,
    /// Nothing before its first turn.
    times: Mutex<Option<Times>>,
}

/// When its last turn and its last step began.
#[derive(Clone, Copy, Debug)]
struct Times {
    turn: Instant,
    step: Instant,
}

impl Rests {
    pub(super) fn new(every: Duration, stop: CancellationToken) -> Self {
        Self { stop, every, times: Mutex::default() }
    }

    /// A turn begins, and its first step.
    pub(super) fn begin(&self) {
        let now = Instant::now();
        *self.locked() = Some(Times { turn: now, step: now });
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// A step has ended: rests until the next one. False if there is to be none.
    pub(super) async fn rest(&self) -> bool {
        let pause = self
            .locked()
            .map_or(Duration::ZERO, |times| pause(times.turn.elapsed(), times.step.elapsed(), self.every));
        let goes_on = self.sleep(pause).await;
        if let Some(times) = self.locked().as_mut() {
            times.step = Instant::now();
        }
        goes_on
    }

    /// Waits until the next turn is due, if the last one was ours: it remembers what it need not look at
    /// again, and nobody else does. False if there is to be none.
    pub(super) async fn until_due(&self) -> bool {
        let since = self.locked().map(|times| times.turn.elapsed());
        let left = since.map_or(Duration::ZERO, |since| self.every.saturating_sub(since));
        self.sleep(left).await
    }

    /// False if it is told to stop.
    async fn sleep(&self, pause: Duration) -> bool {
        if pause.is_zero() {
            return !self.is_stopped();
        }
        self.stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some()
    }

    fn locked(&self) -> MutexGuard<'_, Option<Times>> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long to rest after a step, so long after the turn began; never beyond the time for that.
fn pause(turn: Duration, step: Duration, every: Duration) -> Duration {
    let may_rest = (every / MAY_REST).min(MAY_REST_AT_MOST);
    (step * REST).min(LONGEST).min(may_rest.saturating_sub(turn))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(60);

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn it_rests_in_the_first_half_of_its_time_only() {
        assert_eq!(pause(millis(40), millis(40), EVERY), millis(120));
        assert_eq!(pause(millis(9_000), millis(9_000), EVERY), LONGEST);
        assert_eq!(pause(millis(29_900), millis(40), EVERY), millis(100), "no further than half of it");
        assert_eq!(pause(millis(30_000), millis(40), EVERY), Duration::ZERO);
        assert_eq!(pause(millis(90_000), millis(40), EVERY), Duration::ZERO, "who is late does not rest");
        assert_eq!(pause(millis(61_000), millis(40), 60 * EVERY), Duration::ZERO, "however seldom it looks");
    }

    #[tokio::test]
    async fn who_is_to_stop_does_not_rest() {
        let (stop, hour) = (CancellationToken::new(), Duration::from_secs(3_600));
        let rests = Rests::new(hour, stop.clone());
        assert!(rests.until_due().await, "its first turn is due");
        rests.begin();
        assert!(rests.rest().await, "it goes on");
        let (due, ()) = tokio::join!(rests.until_due(), async { stop.cancel() });
        assert!(!due, "it waits for no turn either");
        assert!(!rests.rest().await && rests.is_stopped());
    }
}
