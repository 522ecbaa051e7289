//! Events of payouts that this process has written last: decided without looking, and written in one
//! statement that says what they were decided upon. That is most of them: a transaction that locks and
//! looks first is four round trips more. Webhooks that come meanwhile are kept in the same statement.
//! Whatever is not as it was, or needs more than one statement, is left to [`super::apply`].

use super::{
    Applied, Cause, Core, Envelope,
    apply::{self, RuleFacts},
    together::Along,
    write::Writes,
};
use crate::{
    crash_point,
    domain::{decide, id::PayoutId},
    store::{
        StoreError,
        causes::Closed,
        payouts::Stored,
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

/// What events may be decided upon without looking.
pub(super) struct Known {
    payouts: BTreeMap<PayoutId, Stored>,
    /// The claims that the events come from, as if they were closed.
    causes: Closed,
    /// What says, when it is written, whether all of that is so.
    stands: Stands,
    /// Before all of it was written: no connection that is younger is asked.
    before: Instant,
    /// As they were when somebody last looked; empty if the rules are not asked.
    switches: BTreeMap<String, bool>,
}

impl Core {
    /// Nothing, and nothing written, if somebody has to look first. All of the batch is [`Self::known`]. With
    /// what became of it come the orders that were stored along with it.
    pub(super) async fn at_once(
        &self,
        writer: &Writer,
        batch: &[Envelope],
        known: Known,
        along: Along<'_>,
    ) -> Option<(Vec<Applied>, Vec<Stored>)> {
        match retry::bounded(self.in_one_statement(writer, batch, known, along)).await {
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
        along: Along<'_>,
    ) -> Result<Option<(Vec<Applied>, Vec<Stored>)>, StoreError> {
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
        let Some(Written { inserted, by: Some(by), .. }) = written else { return Ok(None) };
        if !along.orders.is_empty() {
            self.begun(&inserted, Some(by), before);
        }
        along.pass_settled();
        self.committed(batch, &known.payouts, (Some(by), before), &mut writes);
        Ok(Some((applied, inserted)))
    }

    /// Nothing if that takes more than one statement.
    fn decided<'a>(&'a self, batch: &[Envelope], known: &mut Known) -> Option<(Vec<Applied>, Writes<'a>)> {
        let mut facts = RuleFacts::of_switches(std::mem::take(&mut known.switches));
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
        let switches = self.remembered.switches();
        for (_, envelope) in batch {
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
        let before = known.values().map(|known| known.before).min()?;
        let switches = switches.filter(|_| judged).unwrap_or_default();
        let stands = Stands {
            payouts: known.iter().map(|(id, known)| (*id, known.by)).collect(),
            switches: judged.then(|| rules::in_one_word(&switches)),
            ..Stands::default()
        };
        let payouts = known.into_iter().map(|(id, known)| (id, known.stored)).collect();
        let mut known = Known { payouts, causes: Closed::none(now), stands, before, switches };
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
