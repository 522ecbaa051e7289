//! How many connections there may be, and who goes when there are more: the one that has been without a
//! request for longest. A flood of clients that never finish a header then pushes out itself; one that has
//! finished its header is busy and stays. Used by the accept loop only; touches no socket.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

/// When all connections are busy: how often to look for one that has become idle.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// All connections of one listener.
pub(super) struct Crowd {
    seats: Arc<Semaphore>,
    waiting: Mutex<Waiting>,
}

/// Connections without a request, by the order in which they began to wait.
#[derive(Default)]
struct Waiting {
    next_ticket: u64,
    by_ticket: BTreeMap<u64, CancellationToken>,
}

impl Crowd {
    pub(super) fn new(connections: usize) -> Arc<Self> {
        Arc::new(Self { seats: Arc::new(Semaphore::new(connections)), waiting: Mutex::default() })
    }

    /// A place for a new connection. When all are taken, asks the longest-waiting connection to leave; when
    /// all are busy, waits for one to end or to become idle.
    pub(super) async fn enter(self: &Arc<Self>) -> Place {
        let seat = loop {
            if self.seats.available_permits() == 0
                && let Some((_, leave)) = self.waiting().by_ticket.pop_first()
            {
                leave.cancel();
            }
            let seat = Arc::clone(&self.seats).acquire_owned();
            if let Ok(seat) = timeout(LOOK_AGAIN, seat).await {
                break seat.expect("the semaphore is never closed");
            }
        };
        let place = Place {
            crowd: Arc::clone(self),
            leave: CancellationToken::new(),
            ticket: Mutex::default(),
            _seat: seat,
        };
        place.wait();
        place
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Nothing that can panic runs under the lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection's place.
pub(super) struct Place {
    crowd: Arc<Crowd>,
    leave: CancellationToken,
    /// Set while it waits.
    ticket: Mutex<Option<u64>>,
    _seat: OwnedSemaphorePermit,
}

impl Place {
    /// Ends when the place is needed for someone else.
    pub(super) fn asked_to_leave(&self) -> WaitForCancellationFuture<'_> {
        self.leave.cancelled()
    }

    /// A request has arrived: the connection is not asked to leave until the value is dropped.
    pub(super) fn begin(self: Arc<Self>) -> Busy {
        self.stop_waiting();
        Busy(self)
    }

    fn wait(&self) {
        let mut waiting = self.crowd.waiting();
        let ticket = waiting.next_ticket;
        waiting.next_ticket += 1;
        waiting.by_ticket.insert(ticket, self.leave.clone());
        *self.ticket() = Some(ticket);
    }

    fn stop_waiting(&self) {
        let mut waiting = self.crowd.waiting();
        if let Some(ticket) = self.ticket().take() {
            waiting.by_ticket.remove(&ticket);
        }
    }

    fn ticket(&self) -> MutexGuard<'_, Option<u64>> {
        self.ticket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.stop_waiting();
    }
}

/// A request under way.
pub(super) struct Busy(Arc<Place>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.wait();
    }
}

/// An answer's body that keeps its connection busy until it is written or given up.
pub(super) struct Busily {
    body: Body,
    _busy: Busy,
}

impl Busily {
    pub(super) fn new(body: Body, busy: Busy) -> Self {
        Self { body, _busy: busy }
    }
}

impl HttpBody for Busily {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
