//! What waits at the same time is written together: events, new orders, deliveries that have ended. In one
//! statement if the events are decided without locking, else one after the other.

use super::{Applied, Cause, Core, Created, EngineError, Envelope, at_once::AtOnce};
use crate::{
    crash_point,
    store::{
        StoreError,
        notifications::Settled,
        payouts::{NewPayout, Stored},
        retry,
        steps::{self, Steps},
        writer::Writer,
    },
};
use std::collections::BTreeMap;

/// One thing to be written.
pub(super) enum Item {
    Event(Envelope),
    Order(Box<NewPayout>),
    Delivery(Settled),
}

/// What became of it.
pub(super) enum Done {
    Event(Result<Applied, EngineError>),
    Order(Result<Created, EngineError>),
    Delivery(Result<(), EngineError>),
}

/// What events take along, if they are written in one statement.
#[derive(Clone, Copy, Default)]
pub(super) struct Along<'a> {
    pub orders: &'a [NewPayout],
    pub settled: &'a [Settled],
}

impl Along<'_> {
    pub(super) fn pass_begun(self) {
        self.orders.iter().for_each(|_| crash_point::pass("intake.begun"));
    }

    pub(super) fn pass_settled(self) {
        self.settled.iter().for_each(|_| crash_point::pass("notification.marked"));
    }
}

type Answers = BTreeMap<usize, Result<Applied, EngineError>>;

/// Events half applied: what became of some, by their places, and those that somebody has to look at.
struct Half {
    answers: Answers,
    left: Vec<(usize, Envelope)>,
    /// Whether some of them can be tried again: somebody else has written their payouts meanwhile.
    again: bool,
}

impl Half {
    fn superseded(&mut self, places: Vec<usize>) {
        self.answers.extend(places.into_iter().map(|place| (place, Ok(Applied::Superseded))));
    }
}

/// Where an item went.
#[derive(Clone, Copy)]
enum Kind {
    Event,
    Order,
    Delivery,
}

impl Core {
    /// Answers each, in order.
    pub(super) async fn write(&self, writer: &Writer, items: Vec<Item>) -> Vec<Done> {
        let (mut events, mut orders, mut settled) = (vec![], vec![], vec![]);
        let sort = |item| match item {
            Item::Event(event) => {
                events.push(event);
                Kind::Event
            }
            Item::Order(new) => {
                orders.push(*new);
                Kind::Order
            }
            Item::Delivery(delivery) => {
                settled.push(delivery);
                Kind::Delivery
            }
        };
        let kinds: Vec<Kind> = items.into_iter().map(sort).collect();
        let along = Along { orders: &orders, settled: &settled };
        let (half, inserted) = self.apply_at_once(writer, events, along).await;
        // Before anybody looks: that may wait for rows that somebody holds.
        let (created, deliveries) = match inserted {
            Some(inserted) => (self.written_along(writer, &orders, inserted).await, Ok(())),
            None => (self.create_all(writer, &orders).await, self.settle(writer, &settled).await),
        };
        let applied = self.apply_the_rest(writer, half).await;
        let (mut applied, mut created) = (applied.into_iter(), created.into_iter());
        let answer = |kind| match kind {
            Kind::Event => applied.next().map(Done::Event),
            Kind::Order => created.next().map(Done::Order),
            Kind::Delivery => Some(Done::Delivery(deliveries.clone())),
        };
        kinds.into_iter().map_while(answer).collect()
    }

    /// Applies these events: at once those that can be, the others with their payouts locked and looked at.
    pub(super) async fn apply(
        &self,
        writer: &Writer,
        batch: Vec<Envelope>,
    ) -> Vec<Result<Applied, EngineError>> {
        let (half, _) = self.apply_at_once(writer, batch, Along::default()).await;
        self.apply_the_rest(writer, half).await
    }

    /// Applies those for which nobody has to look. If what is `along` was written with them, the orders of it
    /// that were stored come with it.
    async fn apply_at_once(
        &self,
        writer: &Writer,
        batch: Vec<Envelope>,
        along: Along<'_>,
    ) -> (Half, Option<Vec<Stored>>) {
        let (late, left) = self.too_late(writer, batch).await;
        let mut half = Half { answers: Answers::new(), left, again: false };
        half.superseded(late);
        let inserted = self.try_at_once(writer, &mut half, along).await;
        (half, inserted)
    }

    /// Tries what is left.
    async fn try_at_once(&self, writer: &Writer, half: &mut Half, along: Along<'_>) -> Option<Vec<Stored>> {
        half.again = false;
        let (known, lost) = self.known(writer, &mut half.left).await;
        half.superseded(lost);
        let known = known?;
        let left = std::mem::take(&mut half.left);
        let (chosen, mut left): (Vec<_>, Vec<_>) = left.into_iter().partition(|(_, event)| known.has(event));
        let (places, events): (Vec<usize>, Vec<Envelope>) = chosen.into_iter().unzip();
        let written = self.at_once(writer, &events, known, along).await;
        let (mut applied, inserted, switched) = match written {
            Some(AtOnce { applied, inserted, switched }) => (applied.into_iter(), Some(inserted), switched),
            None => (vec![].into_iter(), None, false),
        };
        let (mut done, mut gone) = (0, 0);
        for (place, event) in places.into_iter().zip(events) {
            if let Some(applied) = applied.next().flatten() {
                half.answers.insert(place, Ok(applied));
                done += 1;
            } else {
                left.push((place, event));
                gone += 1;
            }
        }
        count("at_once", done);
        count("stale", gone);
        half.again = inserted.is_some() && gone > 0 && !switched;
        left.sort_unstable_by_key(|(place, _)| *place);
        half.left = left;
        inserted
    }

    async fn apply_the_rest(&self, writer: &Writer, mut half: Half) -> Vec<Result<Applied, EngineError>> {
        if half.again {
            self.try_at_once(writer, &mut half, Along::default()).await;
        }
        let Half { mut answers, left, .. } = half;
        let (fresh, left): (Vec<_>, Vec<_>) =
            left.into_iter().partition(|(_, envelope)| matches!(envelope.cause, Cause::Fresh(_)));
        answers.extend(fresh.into_iter().map(|(place, _)| (place, Err(EngineError::NotKept))));
        if !left.is_empty() {
            let (places, events): (Vec<usize>, Vec<Envelope>) = left.into_iter().unzip();
            count("looked", events.len());
            answers.extend(places.into_iter().zip(self.looking(writer, events).await));
        }
        answers.into_values().collect()
    }

    /// The places of answers to calls that this process itself has made unwanted, and the other events.
    async fn too_late(&self, writer: &Writer, batch: Vec<Envelope>) -> (Vec<usize>, Vec<(usize, Envelope)>) {
        let over_since = |envelope: &Envelope| match &envelope.cause {
            Cause::Effect(claim) => self.remembered.over_since(claim.id),
            Cause::Command(_) | Cause::Inbox(_) | Cause::Fresh(_) | Cause::Due(_) => None,
        };
        let opened = match batch.iter().any(|envelope| over_since(envelope).is_some()) {
            true => writer.opened().await,
            false => None,
        };
        let late = |(_, envelope): &(usize, Envelope)| {
            over_since(envelope).is_some_and(|since| opened.is_some_and(|opened| opened < since))
        };
        let (late, left): (Vec<_>, Vec<_>) = batch.into_iter().enumerate().partition(late);
        (late.into_iter().map(|(place, _)| place).collect(), left)
    }

    async fn create_all(&self, writer: &Writer, orders: &[NewPayout]) -> Vec<Result<Created, EngineError>> {
        if orders.is_empty() { vec![] } else { self.create(writer, orders).await }
    }

    /// Records deliveries by themselves. Safe to run again: each claim is good for one record.
    async fn settle(&self, writer: &Writer, settled: &[Settled]) -> Result<(), EngineError> {
        if settled.is_empty() {
            return Ok(());
        }
        let recorded = retry::repeatable(|| async {
            let mut db = writer.hold().await?;
            steps::write(&mut db, &Steps { settled, ..Steps::default() }, None).await?;
            db.done();
            Ok::<_, StoreError>(())
        });
        recorded.await.inspect_err(|error| {
            tracing::error!(%error, count = settled.len(), "deliveries could not be recorded");
        })?;
        settled.iter().for_each(|_| crash_point::pass("notification.marked"));
        Ok(())
    }
}

/// How batches of events are written, and how large they are.
fn count(how: &'static str, events: usize) {
    if events == 0 {
        return;
    }
    metrics::counter!("payoutd_batches_total", "how" => how).increment(1);
    let events = events.try_into().unwrap_or(u64::MAX);
    metrics::counter!("payoutd_batched_events_total", "how" => how).increment(events);
}
