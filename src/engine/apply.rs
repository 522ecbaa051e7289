//! One batch of events, one transaction: at once if that can be, else with its payouts locked and looked at.

use super::{Applied, Cause, Core, EngineError, Envelope, write::Writes};
use crate::{
    crash_point,
    domain::{
        decide::{self, Decision, Refusal, World},
        effect::EffectKind,
        event::{Command, Event, Observation},
        id::{PayoutId, ProjectId},
        money::Currency,
        payout::Alarm,
        policy::Mode,
    },
    store::{
        StoreError,
        causes::{self, Closed},
        payouts::{self, Stored},
        permits::{self, Recipient},
        retry, rules, steps,
        writer::{Transaction, Writer},
    },
};
use sqlx::PgConnection;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};
use time::OffsetDateTime;

/// Whether a transaction holds the switches so that it may throw one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MayStopTheLine {
    Yes,
    No,
}

/// What was read under lock for the rules.
#[derive(Debug, Default)]
pub(super) struct RuleFacts {
    switches: BTreeMap<String, bool>,
    permitted: BTreeMap<(ProjectId, String, Currency), i64>,
    /// What payouts that have a permit already add to these totals themselves.
    own: BTreeMap<PayoutId, i64>,
    /// The rules that their permits were decided under.
    rule_sets: BTreeMap<PayoutId, String>,
    /// Totals are complete for these recipients only.
    read: BTreeSet<Recipient>,
}

impl RuleFacts {
    /// For rules that ask for nothing else.
    pub(super) fn of_switches(switches: BTreeMap<String, bool>) -> Self {
        Self { switches, ..Self::default() }
    }
}

impl Core {
    /// Applies these with their payouts locked and looked at.
    pub(super) async fn looking(
        &self,
        writer: &Writer,
        batch: Vec<Envelope>,
    ) -> Vec<Result<Applied, EngineError>> {
        match self.apply_together(writer, &batch).await {
            Ok(applied) => applied.into_iter().map(Ok).collect(),
            // One of them is poisoned: let the others through.
            Err(error) if error.blames_the_data() && batch.len() > 1 => {
                let mut answers = Vec::with_capacity(batch.len());
                for envelope in batch {
                    let alone = self.apply_together(writer, std::slice::from_ref(&envelope)).await;
                    if let Err(error) = &alone {
                        tracing::error!(%error, payout = %envelope.payout, "an event cannot be applied");
                        metrics::counter!("payoutd_poisoned_events_total").increment(1);
                    }
                    answers.push(alone.map(|mut one| one.remove(0)).map_err(EngineError::from));
                }
                answers
            }
            Err(error) => {
                tracing::error!(%error, events = batch.len(), "events could not be applied");
                let error = EngineError::from(error);
                batch.iter().map(|_| Err(error.clone())).collect()
            }
        }
    }

    async fn apply_together(&self, writer: &Writer, batch: &[Envelope]) -> Result<Vec<Applied>, StoreError> {
        retry::transient(|| self.transaction(writer, batch)).await
    }

    async fn transaction(&self, writer: &Writer, batch: &[Envelope]) -> Result<Vec<Applied>, StoreError> {
        let may_be_judged = batch.iter().any(|envelope| decide::may_need_verdict(&envelope.event));
        let tx = if may_be_judged { writer.begin_holding_switches().await } else { writer.begin().await }?;
        if let Some(applied) = self.attempt(tx, batch, MayStopTheLine::No).await? {
            return Ok(applied);
        }
        let tx = writer.begin_to_switch().await?;
        Ok(self.attempt(tx, batch, MayStopTheLine::Yes).await?.unwrap_or_default())
    }

    /// Nothing, and nothing written, if the line may have to be stopped and that must be done alone: of two
    /// transactions that count at the same time neither would see what the other adds.
    async fn attempt(
        &self,
        mut tx: Transaction<'_>,
        batch: &[Envelope],
        may: MayStopTheLine,
    ) -> Result<Option<Vec<Applied>>, StoreError> {
        let before = Instant::now();
        let mut ids: Vec<PayoutId> = batch.iter().map(|envelope| envelope.payout).collect();
        ids.sort_unstable();
        ids.dedup();
        let locked = payouts::lock(&mut tx, &ids).await?;
        crash_point::pass("engine.locked");
        let mut locked: BTreeMap<PayoutId, Stored> =
            locked.into_iter().map(|stored| (stored.payout.id, stored)).collect();
        let mut ours = close_causes(&mut tx, batch).await?;
        let now = ours.now;
        self.remembered.told(now, Instant::now());
        self.remembered.saw(&ours.switches);
        let switches = std::mem::take(&mut ours.switches);
        let mut facts = self.rule_facts(&mut tx, batch, &locked, now, switches).await?;
        let mut writes = Writes::new(now, &self.policy, &self.rules.version);
        let applied = self.decide(batch, &mut locked, &mut ours, &mut facts, &mut writes);
        if may == MayStopTheLine::No && writes.has_alarms() {
            return Ok(None);
        }
        let by = writes.run(&mut tx, &locked, &self.stop_line, self.hands.get()).await?;
        pass_recording(batch);
        tx.commit().await?;
        self.committed(batch, &locked, (by, before), &mut writes);
        Ok(Some(applied))
    }

    /// Decides about all events, in order.
    pub(super) fn decide(
        &self,
        batch: &[Envelope],
        payouts: &mut BTreeMap<PayoutId, Stored>,
        causes: &mut Closed,
        facts: &mut RuleFacts,
        writes: &mut Writes<'_>,
    ) -> Vec<Applied> {
        let now = causes.now;
        let decided = batch.iter().map(|envelope| match payouts.get_mut(&envelope.payout) {
            None => Applied::NoSuchPayout,
            Some(stored) if foreign(envelope, stored) => Applied::NoSuchPayout,
            Some(stored) if !take(causes, envelope, stored) => Applied::Superseded,
            Some(_) if overtaken(envelope, writes) => Applied::Superseded,
            Some(stored) => self.step(stored, envelope, facts, now, writes),
        });
        decided.collect()
    }

    /// What is known, begun and said once a batch is committed.
    pub(super) fn committed(
        &self,
        batch: &[Envelope],
        payouts: &BTreeMap<PayoutId, Stored>,
        (by, before): (Option<steps::Writer>, Instant),
        writes: &mut Writes<'_>,
    ) {
        self.sessions.learn(batch, payouts);
        self.remembered.are_over(&writes.over);
        self.remembered.keep(writes.touched(payouts), by, before);
        writes.pass_committed();
        pass_recorded(batch.iter().filter(|envelope| payouts.contains_key(&envelope.payout)));
        writes.handed.over();
        self.announce(writes);
    }

    /// Decides about one event and notes what is to be written.
    fn step(
        &self,
        stored: &mut Stored,
        envelope: &Envelope,
        facts: &mut RuleFacts,
        now: OffsetDateTime,
        writes: &mut Writes<'_>,
    ) -> Applied {
        let recipient = recipient(stored);
        let total_key = (recipient.0.clone(), recipient.1.clone(), stored.payout.order.amount.currency());
        let own = facts.own.get(&stored.payout.id).copied();
        let total = facts.permitted.get(&total_key).copied().unwrap_or(0) - own.unwrap_or(0);
        let recipient_today = facts.read.contains(&recipient).then_some(total);
        let world = World {
            now,
            policy: &self.policy,
            rules: &self.rules,
            recipient_today,
            confirms_on: self.mode == Mode::Everything
                && rules::confirms_on(&facts.switches, &stored.payout.project),
            permitted_under: facts.rule_sets.get(&stored.payout.id).map(String::as_str),
        };
        let decision = decide::decide(&stored.payout, &envelope.event, &world);
        if let Decision::Refuse(refusal) = decision {
            if let Refusal::RulesForbid(verdict) = &refusal {
                writes.approval_refused(stored, &envelope.event, verdict);
            }
            return Applied::Refused(refusal);
        }
        if let Decision::Flag(anomaly, _) = &decision
            && anomaly.alarm() == Alarm::AtOnce
        {
            // What is written below holds for the rest of this batch already.
            facts.switches.insert(stored.payout.project.0.clone(), false);
        }
        if writes.take(stored, &envelope.event, decision) && own.is_none() {
            *facts.permitted.entry(total_key).or_default() += stored.payout.order.amount.minor();
        }
        Applied::Done(Box::new(stored.clone()))
    }

    /// Reads, under lock, what the rules will need: only when an event of the batch is to be judged.
    async fn rule_facts(
        &self,
        tx: &mut PgConnection,
        batch: &[Envelope],
        locked: &BTreeMap<PayoutId, Stored>,
        now: OffsetDateTime,
        switches: BTreeMap<String, bool>,
    ) -> Result<RuleFacts, StoreError> {
        let judged: Vec<&Stored> = batch
            .iter()
            .filter_map(|envelope| locked.get(&envelope.payout).map(|stored| (envelope, stored)))
            .filter(|(envelope, stored)| decide::needs_verdict(&stored.payout, &envelope.event))
            .map(|(_, stored)| stored)
            .collect();
        if judged.is_empty() {
            return Ok(RuleFacts::default());
        }
        let capped: BTreeSet<Recipient> = judged
            .iter()
            .filter(|stored| {
                self.rules.recipient_daily_cap.contains_key(&stored.payout.order.amount.currency())
            })
            .map(|stored| recipient(stored))
            .collect();
        let mut facts = RuleFacts { switches, ..RuleFacts::default() };
        let permitted = judged.iter().filter(|stored| stored.payout.permit.is_some());
        let permitted: Vec<PayoutId> = permitted.map(|stored| stored.payout.id).collect();
        if !permitted.is_empty() {
            facts.rule_sets = permits::rule_sets(tx, &permitted).await?;
        }
        if !capped.is_empty() {
            permits::lock_recipients(tx, &capped).await?;
            let midnight = now.replace_time(time::Time::MIDNIGHT);
            facts.permitted = permits::permitted_since(tx, &capped, midnight).await?;
            if !permitted.is_empty() {
                facts.own = permits::own_since(tx, &permitted, midnight).await?;
            }
            facts.read = capped;
        }
        crash_point::pass("verdict.due");
        Ok(facts)
    }
}

/// The crash points of a transaction that is about to be committed, by what caused it.
pub(super) fn pass_recording(batch: &[Envelope]) {
    for envelope in batch {
        match &envelope.event {
            Event::Command(_) => crash_point::pass("command.recording"),
            Event::Observed(Observation::Reported(_)) => crash_point::pass("inbox.recording"),
            Event::Observed(Observation::Due) => crash_point::pass("sweep.recording"),
            Event::Observed(Observation::Answered { call, .. }) => crash_point::pass_of(call, "recording"),
            // As the answer to a confirm that never left.
            Event::Observed(Observation::Withheld(_)) => {
                crash_point::pass_of(EffectKind::Confirm, "recording");
            }
        }
    }
}

/// The same once it is committed.
fn pass_recorded<'a>(batch: impl Iterator<Item = &'a Envelope>) {
    for envelope in batch {
        if let Cause::Fresh(_) = envelope.cause {
            crash_point::pass("webhook.committed");
        }
        match &envelope.event {
            Event::Command(_) => crash_point::pass("command.recorded"),
            Event::Observed(Observation::Reported(_)) => crash_point::pass("inbox.recorded"),
            Event::Observed(Observation::Due) => crash_point::pass("sweep.recorded"),
            Event::Observed(Observation::Answered { call, .. }) => crash_point::pass_of(call, "recorded"),
            // As the answer to a confirm that never left.
            Event::Observed(Observation::Withheld(_)) => {
                crash_point::pass_of(EffectKind::Confirm, "recorded");
            }
        }
    }
}

fn recipient(stored: &Stored) -> Recipient {
    (stored.payout.project.clone(), stored.payout.order.customer_reference.clone())
}

/// A command about somebody else's payout: it does not exist for them.
fn foreign(envelope: &Envelope, stored: &Stored) -> bool {
    match (&envelope.cause, &envelope.event) {
        (
            Cause::Command(project),
            Event::Command(
                Command::Cancel { .. }
                | Command::Approve { .. }
                | Command::Reject { .. }
                | Command::ClearFlag { .. },
            ),
        ) => *project != stored.payout.project,
        (Cause::Command(_) | Cause::Effect(_) | Cause::Inbox(_) | Cause::Fresh(_) | Cause::Due(_), _) => {
            false
        }
    }
}

/// An answer to a call that an earlier event of the same batch made unwanted. In a batch of its own it would
/// have lost its claim.
fn overtaken(envelope: &Envelope, writes: &Writes<'_>) -> bool {
    match &envelope.event {
        Event::Observed(Observation::Answered { call, .. }) => writes.has_voided(envelope.payout, *call),
        Event::Observed(Observation::Reported(_) | Observation::Due | Observation::Withheld(_))
        | Event::Command(_) => false,
    }
}

/// Each cause is good for one event: a lost claim, or the same one again, in the same batch is not.
fn take(closed: &mut Closed, envelope: &Envelope, stored: &Stored) -> bool {
    match &envelope.cause {
        Cause::Command(_) => true,
        Cause::Effect(claim) => closed.effects.remove(claim),
        Cause::Inbox(claim) => closed.inbox.remove(claim),
        Cause::Fresh(new) => closed.fresh.remove(&new.webhook.key()),
        Cause::Due(seen) => stored.next_check_at == Some(*seen),
    }
}

async fn close_causes(tx: &mut PgConnection, batch: &[Envelope]) -> Result<Closed, StoreError> {
    let (mut effects, mut inbox) = (vec![], vec![]);
    for envelope in batch {
        match &envelope.cause {
            Cause::Effect(claim) => effects.push(*claim),
            Cause::Inbox(claim) => inbox.push(*claim),
            Cause::Fresh(_) | Cause::Command(_) | Cause::Due(_) => {}
        }
    }
    causes::close(tx, &effects, &inbox).await
}
