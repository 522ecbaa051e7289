//! Where calls begin: in a slot, or in the queue for one. What is handed over after a commit takes its seat
//! before it is certain that there will be a call.

use super::{Effects, PLACES_PER_SLOT};
use crate::{
    domain::{effect::EffectKind, id::ProjectId, policy::Mode},
    engine::{Callers, Place},
    pike::Condition,
    store::effects::{Claimed, Which},
    worker::paces::{Paces, Queued, Turn},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::OwnedSemaphorePermit;

/// Bytes that a call under way may take. What it needs only once in a while is to be boxed.
const MOST_OF_A_CALL: usize = 4096;

/// What a call begins from.
pub(super) enum Seat {
    /// It may be sent when its turn comes.
    Slot(OwnedSemaphorePermit, Turn),
    /// It waits for a slot first.
    Queue(Queued),
}

/// A place and a seat, taken before it is certain that there will be a call. Dropped, both are free again.
struct Reserved {
    paces: Arc<Paces>,
    seat: Option<Seat>,
    place: Option<OwnedSemaphorePermit>,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if let Some(Seat::Slot(_, turn)) = self.seat.take() {
            self.paces.ended(turn, Condition::NotTried);
        }
    }
}

impl Callers for Effects {
    fn place(&self, project: &ProjectId, kind: EffectKind) -> Option<(Duration, Place<Claimed>)> {
        if self.settings.mode == Mode::ReconcileOnly && Which::of(kind) != Which::Reads {
            return None;
        }
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            self.paces.leave(project, kind);
            return None;
        };
        let (lease, seat) = match Arc::clone(&self.slots).try_acquire_owned() {
            Ok(slot) => (self.settings.lease, Seat::Slot(slot, self.paces.try_take(project, kind)?)),
            Err(_) => {
                let most = self.settings.max_in_flight * (PLACES_PER_SLOT - 1);
                (
                    self.settings.lease + self.settings.slot_within,
                    Seat::Queue(self.paces.try_queue(project, kind, most)?),
                )
            }
        };
        let mut reserved = Reserved { paces: Arc::clone(&self.paces), seat: Some(seat), place: Some(place) };
        let worker = self.clone();
        let begin = move |effect| {
            if let (Some(seat), Some(place)) = (reserved.seat.take(), reserved.place.take()) {
                worker.begin(effect, seat, place);
            }
        };
        Some((lease, Box::new(begin)))
    }
}

impl Effects {
    pub(super) fn begin(&self, effect: Claimed, seat: Seat, place: OwnedSemaphorePermit) {
        let (worker, claimed) = (self.clone(), Instant::now());
        let call = async move {
            match worker.sit_down(seat, &effect).await {
                Some((slot, turn)) => {
                    let lag = effect.lag + claimed.elapsed();
                    metrics::histogram!("payoutd_effect_lag_seconds").record(lag.as_secs_f64());
                    worker.perform(effect, turn, slot).await;
                }
                None => {
                    worker.paces.leave(&effect.project, effect.kind);
                    worker.put_back(&effect).await;
                    worker.engine.wake().effects.notify_one();
                }
            }
            drop(place);
        };
        // Each call has such a task, from its claim to its record, and it is made anew each time.
        debug_assert!(size_of_val(&call) <= MOST_OF_A_CALL, "a call takes {} bytes", size_of_val(&call));
        self.under_way.spawn(call);
    }

    /// None if the process stops, if a slot takes too long, or if the project's calls were slowed down
    /// meanwhile: whoever claims the call next begins with it when it may begin. One that somebody may have
    /// sent already never goes back: nobody would know any more.
    async fn sit_down(&self, seat: Seat, effect: &Claimed) -> Option<(OwnedSemaphorePermit, Turn)> {
        match seat {
            Seat::Slot(_, turn) if self.slots.is_closed() && !effect.interrupted => {
                self.paces.ended(turn, Condition::NotTried);
                None
            }
            Seat::Slot(slot, turn) => Some((slot, turn)),
            Seat::Queue(queued) => {
                let waiting = Arc::clone(&self.slots).acquire_owned();
                let slot = tokio::time::timeout(self.settings.slot_within, waiting).await.ok()?.ok()?;
                Some((slot, queued.turn()?))
            }
        }
    }
}
