//! Events that are decided without locking, and written in one statement that says what they were decided
//! upon: payouts as this process wrote them last, or else as it has just read them. That is most of them: a
//! transaction that locks and looks first is three round trips more. Webhooks that come meanwhile are kept
//! in the same statement. What is not as it was is left out, and tried once more as it is by then. Whatever
//! needs more than one statement is left to [`super::apply`].

use super::{
    Applied, Cause, Core, Envelope,
    apply::{self, RuleFacts},
    remembered,
    together::Along,
    write::Writes,
};
use crate::{
    crash_point,
    domain::{decide, id::PayoutId},
    store::{
        StoreError,
        causes::Closed,
        effects::EffectClaim,
        payouts::{self, Stored},
        retry, rules,
        steps::{Stands, Written},
        writer::Writer,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering},
    time::Instant,
};
use time::OffsetDateTime;

/// What events may be decided upon without locking.
pub(super) struct Known {
    payouts: BTreeMap<PayoutId, Stored>,
    /// The claims that the events come from, as if they were closed.
    causes: Closed,
    /// What says, when it is written, whether all of that is so.
    stands: Stands,
    /// Before all of it was written or read: no connection that is younger is asked.
    before: Instant,
    /// As they were when somebody last looked; empty if the rules are not asked.
    switches: BTreeMap<String, bool>,
}

/// What was written at once.
pub(super) struct AtOnce {
    /// What became of each event; nothing, and nothing written, if its payout is not as it was.
    pub applied: Vec<Option<Applied>>,
    /// The orders that were stored along with it.
    pub inserted: Vec<Stored>,
    /// Somebody has to look at the switches before what is left can be decided.
    pub switched: bool,
}

impl Core {
    /// Nothing, and nothing written, if somebody has to look at all of it. All of the batch is in
    /// [`Known::has`].
    pub(super) async fn at_once(
        &self,
        writer: &Writer,
        batch: &[Envelope],
        known: Known,
        along: Along<'_>,
    ) -> Option<AtOnce> {
        match retry::bounded(self.in_one_statement(writer, batch, known, along)).await {
            // Whoever looks finds out what was written, and who is to blame.
            Err(error) => {
                tracing::warn!(%error, events = batch.len(), "events may have been written: looking");
                None
            }
            Ok(written) => written,
        }
    }

    async fn in_one_statement(
        &self,
        writer: &Writer,
        batch: &[Envelope],
        mut known: Known,
        along: Along<'_>,
    ) -> Result<Option<AtOnce>, StoreError> {
        if known.stands.switches.is_some() {
            crash_point::pass("verdict.due");
        }
        let Some((applied, mut writes)) = self.decided(batch, &mut known) else { return Ok(None) };
        let mut db = writer.hold().await?;
        if db.opened() > known.before {
            db.done();
            return Ok(None);
        }
        let before = Instant::now();
        apply::pass_recording(batch);
        along.pass_begun();
        let stands = (&known.stands, along);
        let written = match writes.run_at_once(&mut db, &known.payouts, stands, self.hands.get()).await {
            // No trouble of the connection's: whoever looks tries again, one by one if need be.
            Err(error) if error.is_stale() || error.is_transient() || error.blames_the_data() => None,
            written => Some(written?),
        };
        db.done();
        let Some(Written { inserted, by: Some(by), gone, switched, .. }) = written else { return Ok(None) };
        if !along.orders.is_empty() {
            self.begun(&inserted, Some(by), before);
        }
        along.pass_settled();
        known.payouts.retain(|id, _| !gone.contains(id));
        self.committed(batch, &known.payouts, (Some(by), before), &mut writes);
        let stood =
            |(applied, envelope): (Applied, &Envelope)| (!gone.contains(&envelope.payout)).then_some(applied);
        let applied = applied.into_iter().zip(batch).map(stood).collect();
        Ok(Some(AtOnce { applied, inserted, switched }))
    }

    /// Nothing if that takes more than one statement.
    fn decided<'a>(&'a self, batch: &[Envelope], known: &mut Known) -> Option<(Vec<Applied>, Writes<'a>)> {
        let mut facts = RuleFacts::of_switches(std::mem::take(&mut known.switches));
        let mut writes = Writes::new(known.causes.now, &self.policy, &self.rules.version);
        let applied = self.decide(batch, &mut known.payouts, &mut known.causes, &mut facts, &mut writes);
        // A payout that is not written would not be looked at either.
        let all = known.stands.moved.keys().all(|id| writes.moves(*id));
        (all && writes.are_one_statement()).then_some((applied, writes))
    }

    /// What can be decided upon without locking, of all that this batch is about; nothing if that is nothing.
    /// Events whose call is no longer theirs are taken out of the batch: their places are the other half.
    pub(super) async fn known(
        &self,
        writer: &Writer,
        batch: &mut Vec<(usize, Envelope)>,
    ) -> (Option<Known>, Vec<usize>) {
        let mut ids: BTreeSet<PayoutId> = batch.iter().map(|(_, envelope)| envelope.payout).collect();
        for (_, envelope) in batch.iter() {
            match &envelope.cause {
                Cause::Effect(_) | Cause::Inbox(_) | Cause::Fresh(_) => {}
                // Whoever orders something waits for what is so now, and a time that was seen is no claim.
                Cause::Command(_) | Cause::Due(_) => drop(ids.remove(&envelope.payout)),
            }
        }
        let mut known = self.remembered.take(&ids);
        if self.remembered.now(Instant::now()).is_none() {
            known.clear();
        }
        ids.retain(|id| !known.contains_key(id));
        let (read, open) = self.read(writer, &ids).await;
        let lost = |(_, envelope): &(usize, Envelope)| match &envelope.cause {
            Cause::Effect(claim) => read.contains_key(&envelope.payout) && !open.contains(claim),
            Cause::Inbox(_) | Cause::Fresh(_) | Cause::Command(_) | Cause::Due(_) => false,
        };
        let lost: Vec<usize> = batch.extract_if(.., |placed| lost(placed)).map(|(place, _)| place).collect();
        known.extend(read);
        (self.known_of(batch, known), lost)
    }

    /// Reads payouts as they are now, and which calls are open for them. None that had an attempt before;
    /// nothing if the database does not answer: whoever looks tells.
    async fn read(
        &self,
        writer: &Writer,
        ids: &BTreeSet<PayoutId>,
    ) -> (BTreeMap<PayoutId, remembered::Known>, BTreeSet<EffectClaim>) {
        if ids.is_empty() {
            return Default::default();
        }
        let reading = retry::bounded(async {
            let mut db = writer.hold().await?;
            let before = Instant::now();
            let read = payouts::as_they_are(&mut db, ids).await;
            match &read {
                Ok(_) | Err(StoreError::ImpossibleRow { .. }) => db.done(),
                Err(_) => drop(db),
            }
            Ok::<_, StoreError>((read?, before))
        });
        let (read, before) = match reading.await {
            Ok(read) => read,
            Err(error) => {
                tracing::warn!(%error, payouts = ids.len(), "payouts could not be read: looking");
                return Default::default();
            }
        };
        if let Some(now) = read.iter().map(|read| read.now).max() {
            self.remembered.told(now, Instant::now());
        }
        let open = read.iter().flat_map(|read| read.open.iter().copied()).collect();
        let known = read.into_iter().filter(|read| read.stored.payout.attempt == 1).map(|read| {
            let known = remembered::Known { stored: read.stored, by: read.by, before };
            (known.stored.payout.id, known)
        });
        (known.collect(), open)
    }

    fn known_of(
        &self,
        batch: &[(usize, Envelope)],
        mut known: BTreeMap<PayoutId, remembered::Known>,
    ) -> Option<Known> {
        let now = self.remembered.now(Instant::now())?;
        let (mut judged, caps) = (false, &self.rules.recipient_daily_cap);
        let switches = self.remembered.switches();
        let taken = batch.iter().map(|(_, envelope)| envelope).filter(|envelope| is_wanted(envelope));
        let taken: Vec<&Envelope> = taken.collect();
        for envelope in &taken {
            let Some(stored) = known.get(&envelope.payout).map(|known| &known.stored) else { continue };
            if decide::needs_verdict(&stored.payout, &envelope.event) {
                // The rules need to know more than the switches, or nobody has seen these yet.
                let capped = caps.contains_key(&stored.payout.order.amount.currency());
                if stored.payout.permit.is_some() || capped || switches.is_none() {
                    known.remove(&envelope.payout);
                } else {
                    judged = true;
                }
            }
        }
        known.retain(|id, _| taken.iter().any(|envelope| envelope.payout == *id));
        let before = known.values().map(|known| known.before).min()?;
        let switches = switches.filter(|_| judged).unwrap_or_default();
        let stands = Stands {
            moved: known.iter().map(|(id, known)| (*id, known.by)).collect(),
            switches: judged.then(|| rules::in_one_word(&switches)),
            ..Stands::default()
        };
        let payouts = known.into_iter().map(|(id, known)| (id, known.stored)).collect();
        let mut known = Known { payouts, causes: Closed::none(now), stands, before, switches };
        known.close(taken.into_iter());
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
        let (mut effects, mut inbox, mut fresh) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for envelope in batch.filter(|envelope| self.payouts.contains_key(&envelope.payout)) {
            let payout = envelope.payout;
            match &envelope.cause {
                Cause::Effect(claim) => drop(effects.insert(*claim, payout)),
                Cause::Inbox(claim) => drop(inbox.insert(*claim, payout)),
                Cause::Fresh(new) => {
                    drop(fresh.insert(new.webhook.key(), (payout, Arc::clone(&new.webhook))));
                }
                Cause::Command(_) | Cause::Due(_) => {}
            }
        }
        self.causes.effects = effects.keys().copied().collect();
        self.causes.inbox = inbox.keys().copied().collect();
        self.causes.fresh = fresh.keys().cloned().collect();
        self.stands.effects = effects.into_iter().map(|(claim, payout)| (payout, claim)).collect();
        self.stands.inbox = inbox.into_iter().map(|(claim, payout)| (payout, claim)).collect();
        self.stands.fresh = fresh.into_values().collect();
    }

    /// No step is before the one before it.
    fn not_before_the_last(&self, now: OffsetDateTime) -> OffsetDateTime {
        self.payouts.values().map(|stored| stored.updated_at).fold(now, OffsetDateTime::max)
    }
}

/// Whether somebody still waits for it: a webhook that is given up is kept by itself.
fn is_wanted(envelope: &Envelope) -> bool {
    match &envelope.cause {
        Cause::Fresh(new) => !new.given_up.load(Ordering::Relaxed),
        Cause::Effect(_) | Cause::Inbox(_) | Cause::Command(_) | Cause::Due(_) => true,
    }
}
