//! Events of payouts that this process has written last: decided without looking, and written in one
//! statement that says what they were decided upon. That is most of them: a transaction that locks and
//! looks first is four round trips more. Webhooks that come meanwhile are kept in the same statement.
//! Whatever is not as it was, or needs more than one statement, is left to [`super::apply`].

use super::{
    Applied, Cause, Core, Envelope,
    apply::{self, RuleFacts},
    write::Writes,
};
use crate::{
    crash_point,
    domain::{decide, id::PayoutId},
    store::{
        StoreError,
        causes::Closed,
        payouts::Stored,
        steps::{self, Stands},
        writer::Writer,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering},
    time::Instant,
};
use time::OffsetDateTime;

/// What events may be decided upon without looking.
pub(super) struct Known {
    payouts: BTreeMap<PayoutId, Stored>,
    /// The claims that the events come from, as if they were closed.
    causes: Closed,
    /// What says, when it is written, whether all of that is so.
    stands: Stands,
    /// Before all of it was written: no connection that is younger is asked.
    before: Instant,
    /// Whether the rules are asked.
    judged: bool,
}

impl Core {
    /// Nothing, and nothing written, if somebody has to look first. All of the batch is [`Self::known`].
    pub(super) async fn at_once(
        &self,
        writer: &Writer,
        batch: &[Envelope],
        known: Known,
    ) -> Option<Vec<Applied>> {
        let written = match known.judged {
            false => self.in_one_statement(writer, batch, known).await,
            true => self.holding_switches(writer, batch, known).await,
        };
        match written {
            // Whoever looks finds out what was written, and who is to blame.
            Err(error) => {
                tracing::warn!(%error, events = batch.len(), "events may have been written: looking");
                None
            }
            Ok(applied) => applied,
        }
    }

    async fn in_one_statement(
        &self,
        writer: &Writer,
        batch: &[Envelope],
        mut known: Known,
    ) -> Result<Option<Vec<Applied>>, StoreError> {
        let facts = RuleFacts::default();
        let Some((applied, mut writes)) = self.decided(batch, &mut known, facts) else { return Ok(None) };
        let mut db = writer.hold().await?;
        if db.opened() > known.before {
            db.done();
            return Ok(None);
        }
        let before = Instant::now();
        apply::pass_recording(batch);
        let by = writes.run_at_once(&mut db, &known.payouts, &known.stands, self.hands.get()).await;
        let by = unless_stale(by)?;
        db.done();
        Ok(by.map(|by| {
            self.committed(batch, &known.payouts, (Some(by), before), &mut writes);
            applied
        }))
    }

    /// The switches are held before they are read, and until what they allow is committed.
    async fn holding_switches(
        &self,
        writer: &Writer,
        batch: &[Envelope],
        mut known: Known,
    ) -> Result<Option<Vec<Applied>>, StoreError> {
        let (mut tx, switches) = writer.begin_reading_switches().await?;
        if tx.opened() > known.before {
            tx.give_up().await?;
            return Ok(None);
        }
        let before = Instant::now();
        self.remembered.told(switches.now, Instant::now());
        if known.not_before_the_last(switches.now) != switches.now {
            // A permit bears the time of the database, whatever it says.
            tx.give_up().await?;
            return Ok(None);
        }
        known.causes.now = switches.now;
        crash_point::pass("verdict.due");
        let facts = RuleFacts::of_switches(switches.confirms);
        let Some((applied, mut writes)) = self.decided(batch, &mut known, facts) else {
            tx.give_up().await?;
            return Ok(None);
        };
        let by = writes.run_at_once(&mut tx, &known.payouts, &known.stands, self.hands.get()).await;
        let by = unless_stale(by)?;
        if by.is_none() {
            tx.give_up().await?;
            return Ok(None);
        }
        apply::pass_recording(batch);
        tx.commit().await?;
        self.committed(batch, &known.payouts, (by, before), &mut writes);
        Ok(Some(applied))
    }

    /// Nothing if that takes more than one statement.
    fn decided<'a>(
        &'a self,
        batch: &[Envelope],
        known: &mut Known,
        mut facts: RuleFacts,
    ) -> Option<(Vec<Applied>, Writes<'a>)> {
        let mut writes = Writes::new(known.causes.now, &self.policy, &self.rules.version);
        let applied = self.decide(batch, &mut known.payouts, &mut known.causes, &mut facts, &mut writes);
        writes.are_one_statement().then_some((applied, writes))
    }

    /// What can be decided upon without looking, of all that this batch is about; nothing if that is nothing.
    pub(super) fn known(&self, batch: &[(usize, Envelope)]) -> Option<Known> {
        let now = self.remembered.now(Instant::now())?;
        let mut ids: BTreeSet<PayoutId> = batch.iter().map(|(_, envelope)| envelope.payout).collect();
        for (_, envelope) in batch {
            match &envelope.cause {
                Cause::Effect(_) | Cause::Inbox(_) | Cause::Fresh(_) => {}
                // Whoever orders something waits for what is so now, and a time that was seen is no claim.
                Cause::Command(_) | Cause::Due(_) => drop(ids.remove(&envelope.payout)),
            }
        }
        let mut known = self.remembered.take(&ids);
        let (mut judged, caps) = (false, &self.rules.recipient_daily_cap);
        for (_, envelope) in batch {
            let Some(stored) = known.get(&envelope.payout).map(|known| &known.stored) else { continue };
            if decide::needs_verdict(&stored.payout, &envelope.event) {
                // The rules need to know more than the switches.
                if stored.payout.permit.is_some() || caps.contains_key(&stored.payout.order.amount.currency())
                {
                    known.remove(&envelope.payout);
                } else {
                    judged = true;
                }
            }
        }
        let before = known.values().map(|known| known.before).min()?;
        let stands = Stands {
            payouts: known.iter().map(|(id, known)| (*id, known.by)).collect(),
            ..Stands::default()
        };
        let payouts = known.into_iter().map(|(id, known)| (id, known.stored)).collect();
        let mut known = Known { payouts, causes: Closed::none(now), stands, before, judged };
        known.close(batch.iter().map(|(_, envelope)| envelope));
        // It is a guess.
        known.causes.now = known.not_before_the_last(now);
        Some(known)
    }
}

impl Known {
    /// Whether this event is among those that are decided upon it.
    pub(super) fn has(&self, envelope: &Envelope) -> bool {
        self.payouts.contains_key(&envelope.payout)
            && match &envelope.cause {
                // Not whether it is given up by now: it would be kept without its event.
                Cause::Fresh(new) => self.causes.fresh.contains(&new.webhook.key()),
                Cause::Effect(_) | Cause::Inbox(_) | Cause::Command(_) | Cause::Due(_) => true,
            }
    }

    fn close<'a>(&mut self, batch: impl Iterator<Item = &'a Envelope>) {
        let mut fresh = BTreeMap::new();
        for envelope in batch.filter(|envelope| self.payouts.contains_key(&envelope.payout)) {
            match &envelope.cause {
                Cause::Effect(claim) => drop(self.causes.effects.insert(*claim)),
                Cause::Inbox(claim) => drop(self.causes.inbox.insert(*claim)),
                Cause::Fresh(new) if !new.given_up.load(Ordering::Relaxed) => {
                    drop(fresh.insert(new.webhook.key(), Arc::clone(&new.webhook)));
                }
                Cause::Fresh(_) | Cause::Command(_) | Cause::Due(_) => {}
            }
        }
        self.stands.effects = self.causes.effects.iter().copied().collect();
        self.stands.inbox = self.causes.inbox.iter().copied().collect();
        self.causes.fresh = fresh.keys().cloned().collect();
        self.stands.fresh = fresh.into_values().collect();
    }

    /// No step is before the one before it.
    fn not_before_the_last(&self, now: OffsetDateTime) -> OffsetDateTime {
        self.payouts.values().map(|stored| stored.updated_at).fold(now, OffsetDateTime::max)
    }
}

/// That something is not as it was is no trouble of the connection's: it is kept.
fn unless_stale(by: Result<Option<steps::Writer>, StoreError>) -> Result<Option<steps::Writer>, StoreError> {
    match by {
        Err(error) if error.is_stale() => Ok(None),
        by => by,
    }
}
