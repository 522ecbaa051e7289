//! Running a transaction again. No call to Pike is ever inside one, so that is always safe.

use super::StoreError;
use std::{future::Future, time::Duration};

/// How often a transaction is run before its deadlock or lock time-out is the caller's trouble.
const TRIES: u32 = 3;
/// The pause before the second run; the third waits twice as long.
const PAUSE: Duration = Duration::from_millis(5);

/// Runs `transaction`, again if it met a deadlock, a serialisation failure or a lock time-out.
///
/// # Errors
/// The last run's error.
pub async fn transient<T, F, Fut>(mut transaction: F) -> Result<T, StoreError>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, StoreError>>,
{
    let mut tried = 1;
    loop {
        match transaction().await {
            Err(error) if error.is_transient() && tried < TRIES => {
                metrics::counter!("payoutd_transactions_retried_total").increment(1);
                tokio::time::sleep(PAUSE * tried).await;
                tried += 1;
            }
            other => return other,
        }
    }
}
