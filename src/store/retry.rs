//! Running a transaction again, and not waiting for one for ever. No call to Pike is ever inside one, so both
//! are always safe: given up in the middle it is rolled back, or was committed and its lease or key tells.

use super::StoreError;
use std::{future::Future, time::Duration};

/// How often a transaction is run before its deadlock or lock time-out is the caller's trouble.
const TRIES: u32 = 3;
/// The pause before the second run; the third waits twice as long.
const PAUSE: Duration = Duration::from_millis(5);

/// Longest that a piece of work with the database may take: twice what it grants a statement. A connection
/// that a router on the way has forgotten gives neither answer nor error, and without this its user would
/// wait for ever.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Runs `work`, but not for ever.
///
/// # Errors
/// That of `work`, or [`StoreError::Silent`]: then it is not known whether it was done.
pub fn bounded<T, E: From<StoreError>>(
    work: impl Future<Output = Result<T, E>>,
) -> impl Future<Output = Result<T, E>> {
    within(ANSWER_WITHIN, work)
}

/// [`bounded`], for work that has less time than that.
///
/// # Errors
/// As [`bounded`].
pub fn within<T, E: From<StoreError>>(
    time: Duration,
    work: impl Future<Output = Result<T, E>>,
) -> impl Future<Output = Result<T, E>> {
    // Kept aside, as it is large: beginning a transaction takes 12 KiB, and whoever may have to do so once in
    // a while would be that large all the time, several times over. Each call under way was 45 KiB.
    let work = Box::pin(work);
    async move { tokio::time::timeout(time, work).await.unwrap_or(Err(StoreError::Silent(time).into())) }
}

/// Reads, [`bounded`], once more if the connection turned out to be lost.
///
/// # Errors
/// That of the last `read`.
pub async fn reading<T, F, Fut>(mut read: F) -> Result<T, StoreError>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, StoreError>>,
{
    match bounded(read()).await {
        Err(error) if error.is_of_the_connection() => bounded(read()).await,
        other => other,
    }
}

/// As [`transient`], for work that may be run twice: once more, too, if the connection turned out to be lost,
/// when it may have been committed already.
///
/// # Errors
/// The last run's error.
pub async fn repeatable<T, F, Fut>(mut work: F) -> Result<T, StoreError>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, StoreError>>,
{
    match transient(&mut work).await {
        Err(error) if error.is_of_the_connection() => transient(work).await,
        other => other,
    }
}

/// Runs `transaction`, [`bounded`], again if it met a deadlock, a serialisation failure or a lock time-out.
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
        match bounded(transaction()).await {
            Err(error) if error.is_transient() && tried < TRIES => {
                metrics::counter!("payoutd_transactions_retried_total").increment(1);
                tokio::time::sleep(PAUSE * tried).await;
                tried += 1;
            }
            other => return other,
        }
    }
}
