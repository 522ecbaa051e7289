//! Group commit: items that arrive while one batch is being written form the next. An idle batcher writes at
//! once; nothing ever waits for a timer. The writing runs in a task of its own, so that a caller who goes
//! away in the middle (a client that hangs up) cancels only its own waiting, never the transaction.

use std::{future::Future, time::Duration};
use tokio::sync::{mpsc, oneshot};

/// Longest a batch may take. Above what all that is tried for it may take one after the other, each of which
/// is bounded by itself: a batch that is given up is nobody's any more.
const BATCH_WITHIN: Duration = Duration::from_secs(90);

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
        let (queue, mut jobs) = mpsc::channel::<Job<T, R>>(depth);
        tokio::spawn(async move {
            let mut batch = Vec::with_capacity(most);
            while let Some(first) = jobs.recv().await {
                batch.push(first);
                // Whoever is about to submit something gets to it first: what comes from one commit comes at
                // the same time. With nobody there this costs nothing.
                // Again as long as somebody does: larger batches cost the database less for each item.
                let mut before = 0;
                while before < batch.len() && batch.len() < most {
                    before = batch.len();
                    tokio::task::yield_now().await;
                    while batch.len() < most
                        && let Ok(job) = jobs.try_recv()
                    {
                        batch.push(job);
                    }
                }
                let (items, waiting): (Vec<T>, Vec<_>) = batch.drain(..).unzip();
                let writing = tokio::spawn(tokio::time::timeout(BATCH_WITHIN, work(items)));
                let written = writing.await;
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

    /// Whether something waits already for the batch that is being written: what is submitted now shares the
    /// next one with it.
    #[must_use]
    pub fn has_waiting(&self) -> bool {
        self.queue.capacity() < self.queue.max_capacity()
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

    /// Each comes up when the one before has been taken, as tasks do that follow from each other.
    #[tokio::test]
    async fn whoever_is_about_to_submit_something_is_waited_for() {
        let sizes = Arc::new(Mutex::new(vec![]));
        let batcher = {
            let sizes = sizes.clone();
            Batcher::spawn(10, 10, move |items: Vec<u32>| {
                sizes.lock().unwrap().push(items.len());
                async move { items }
            })
        };
        // The last one gets its turn after the second has been taken.
        let submitting = [(1, false), (2, false), (3, true)].map(|(item, later)| {
            let batcher = batcher.clone();
            tokio::spawn(async move {
                if later {
                    tokio::task::yield_now().await;
                }
                batcher.submit(item).await
            })
        });
        for (item, task) in (1..).zip(submitting) {
            assert_eq!(task.await.unwrap(), Ok(item));
        }
        assert_eq!(*sizes.lock().unwrap(), vec![3]);
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
