//! The only loops. Each wraps a `run_once` that tests can step: claim what is due, do it, hand what was seen
//! to the engine. No transaction is ever open across a network call; what a dead worker leaves behind comes
//! back when its lease ends.

mod backoff;
pub mod checker;
pub mod confirm;
pub mod effects;
pub mod inbox;
pub mod notify;
pub mod pace;
mod paces;
pub mod pulse;
pub mod sweep;

use std::{future::Future, sync::Arc, time::Duration};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Pause after a failed round, so that a database that is down is not hammered.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Runs rounds until told to stop. A round that found nothing waits for a wake-up or for `idle` to pass; the
/// wake-up only saves waiting.
pub async fn repeat<F, Fut, E>(idle: Duration, wake: Arc<Notify>, stop: CancellationToken, mut round: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<usize, E>>,
    E: std::fmt::Display,
{
    while !stop.is_cancelled() {
        let pause = match round().await {
            Ok(0) => idle,
            Ok(_) => continue,
            Err(error) => {
                tracing::error!(%error, "a worker's round failed");
                AFTER_FAILURE
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = wake.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}
