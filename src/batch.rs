//! Group commit: items that arrive while one batch is being written form the next. An idle batcher writes at
//! once; nothing ever waits for a timer. The writing runs in a task of its own, so that a caller who goes
//! away in the middle (a client that hangs up) cancels only its own waiting, never the transaction.

use std::{future::Future, sync::Arc, time::Duration};
use tokio::sync::{Semaphore, mpsc, oneshot};

/// Longest a batch may take. Far above what the database's own time-outs allow: what is still running then
/// hangs on a connection that is dead without knowing it.
const BATCH_WITHIN: Duration = Duration::from_secs(30);

type Job<T, R> = (T, oneshot::Sender<R>);

/// Collects items of type `T` and answers each with an `R`.
#[derive(Debug)]
pub struct Batcher<T, R> {
    queue: mpsc::Sender<Job<T, R>>,
}

impl<T, R> Clone for Batcher<T, R> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone() }
    }
}

/// Lets so many batches be written at once, whosever they are: while one waits for its turn it grows. Many
/// small transactions at the same time would cost the database, and with it everybody, far more than a few
/// large ones.
#[derive(Clone, Debug)]
pub struct Gate(Arc<Semaphore>);

impl Gate {
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Semaphore::new(most)))
    }

    /// Whether a batch that is to be written now would have to wait, and so grow.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.0.available_permits() == 0
    }
}

/// The batcher has stopped, or its work died before answering: nothing is known about the item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the writer is gone")]
pub struct Gone;

/// The queue is full: try again later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Busy {
    #[error("too many writes are waiting")]
    Full,
    #[error(transparent)]
    Gone(#[from] Gone),
}

impl<T: Send + 'static, R: Send + 'static> Batcher<T, R> {
    /// Starts a batcher that writes up to `most` items at once and lets `depth` wait. `work` must answer
    /// every item, in order. The task ends when the last handle is dropped.
    pub fn spawn<F, Fut>(most: usize, depth: usize, work: F) -> Self
    where
        F: Fn(Vec<T>) -> Fut + Send + 'static,
        Fut: Future<Output = Vec<R>> + Send + 'static,
    {
        // A gate of its own is never in the way: its batches come one after the other.
        Self::spawn_behind(&Gate::new(1), most, depth, work)
    }

    /// As [`Self::spawn`], with a gate that others share.
    pub fn spawn_behind<F, Fut>(gate: &Gate, most: usize, depth: usize, work: F) -> Self
    where
        F: Fn(Vec<T>) -> Fut + Send + 'static,
        Fut: Future<Output = Vec<R>> + Send + 'static,
    {
        let (queue, mut jobs) = mpsc::channel::<Job<T, R>>(depth);
        let gate = Arc::clone(&gate.0);
        tokio::spawn(async move {
            let mut batch = Vec::with_capacity(most);
            while let Some(first) = jobs.recv().await {
                let turn = gate.acquire().await;
                batch.push(first);
                while batch.len() < most
                    && let Ok(job) = jobs.try_recv()
                {
                    batch.push(job);
                }
                let (items, waiting): (Vec<T>, Vec<_>) = batch.drain(..).unzip();
                let writing = tokio::spawn(tokio::time::timeout(BATCH_WITHIN, work(items)));
                let written = writing.await;
                drop(turn);
                let answers = match written {
                    Ok(Ok(answers)) => answers,
                    Ok(Err(_)) => lost("hung", waiting.len()),
                    Err(_) => lost("panicked", waiting.len()),
                };
                for (answer, waiting) in answers.into_iter().zip(waiting) {
                    // Whoever asked may have gone away; the work is done all the same.
                    let _ = waiting.send(answer);
                }
            }
        });
        Self { queue }
    }

    /// Waits for a place in the queue, then for the answer.
    ///
    /// # Errors
    /// [`Gone`] when the batcher stopped.
    pub async fn submit(&self, item: T) -> Result<R, Gone> {
        let (answer, waiting) = oneshot::channel();
        self.queue.send((item, answer)).await.map_err(|_| Gone)?;
        waiting.await.map_err(|_| Gone)
    }

    /// Like [`Self::submit`], but does not wait for a place: pressure goes back to the caller.
    ///
    /// # Errors
    /// [`Busy::Full`] at once when the queue is full.
    pub async fn try_submit(&self, item: T) -> Result<R, Busy> {
        let (answer, waiting) = oneshot::channel();
        self.queue.try_send((item, answer)).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => Busy::Full,
            mpsc::error::TrySendError::Closed(_) => Busy::Gone(Gone),
        })?;
        waiting.await.map_err(|_| Busy::Gone(Gone))
    }
}

/// Nobody is answered: what became of the items is not known.
fn lost<R>(how: &'static str, items: usize) -> Vec<R> {
    tracing::error!(how, items, "a batch was lost");
    metrics::counter!("payoutd_lost_batches_total", "how" => how).increment(1);
    vec![]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use tokio::sync::Notify;

    #[tokio::test]
    async fn what_arrives_during_a_batch_forms_the_next() {
        let sizes = Arc::new(Mutex::new(vec![]));
        let (entered, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let batcher = {
            let (sizes, entered, release) = (sizes.clone(), entered.clone(), release.clone());
            Batcher::spawn(10, 10, move |items: Vec<i32>| {
                let (sizes, entered, release) = (sizes.clone(), entered.clone(), release.clone());
                async move {
                    sizes.lock().unwrap().push(items.len());
                    entered.notify_one();
                    release.notified().await;
                    items.into_iter().map(|item| item * 2).collect()
                }
            })
        };
        let first = tokio::spawn({
            let batcher = batcher.clone();
            async move { batcher.submit(1).await }
        });
        entered.notified().await;
        let later: Vec<_> = (2..5)
            .map(|item| {
                let batcher = batcher.clone();
                tokio::spawn(async move { batcher.submit(item).await })
            })
            .collect();
        tokio::task::yield_now().await;
        release.notify_one();
        assert_eq!(first.await.unwrap(), Ok(2));
        release.notify_one();
        for (item, task) in (2..5).zip(later) {
            assert_eq!(task.await.unwrap(), Ok(item * 2));
        }
        assert_eq!(*sizes.lock().unwrap(), vec![1, 3]);
    }

    #[tokio::test]
    async fn a_full_queue_says_so() {
        let batcher = Batcher::spawn(1, 1, |_: Vec<()>| std::future::pending::<Vec<()>>());
        let mut waiting = vec![];
        let mut refused = false;
        for _ in 0..3 {
            let batcher = batcher.clone();
            let task = tokio::spawn(async move { batcher.try_submit(()).await });
            tokio::task::yield_now().await;
            refused |= task.is_finished();
            waiting.push(task);
        }
        assert!(refused, "the third finds one in work and one waiting");
    }

    #[tokio::test]
    async fn a_batch_that_panics_takes_nobody_with_it() {
        let batcher = Batcher::spawn(1, 10, |items: Vec<i32>| async move {
            assert!(items != [1], "as intended");
            items
        });
        assert_eq!(batcher.submit(1).await, Err(Gone));
        assert_eq!(batcher.submit(2).await, Ok(2));
    }
}
