//! What the steps of many payouts write: one statement for all of it, however many there are, made of a
//! part for each table that gets rows, one array for each column. Each statement more would cost a round
//! trip, and a batch as one JSON text several times as much to read. The payouts are locked, or known to be
//! as they were.

mod parts;
mod text;

use super::{
    StoreError,
    effects::{Claimed, EffectClaim, NewEffect},
    encoding::Code,
    history::Entry,
    inbox::{InboxClaim, Incoming},
    notifications::{Delivery, NewNotification, Settled},
    payouts::{NewPayout, Stored, inserted, state_columns},
    permits::NewPermit,
    rules::{self, NewDecision},
};
use crate::domain::{effect::EffectKind, id::PayoutId, payout::Payout};
use sqlx::{
    Arguments, AssertSqlSafe, Encode, PgConnection, Postgres, Type, error::BoxDynError, postgres::PgArguments,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use time::OffsetDateTime;
use uuid::Uuid;

/// Everything that one transaction writes, but for what is rare. No `Debug`: orders carry secrets and names.
#[derive(Default)]
pub struct Steps<'a> {
    /// The payouts that moved. The destination's secret goes when one is final.
    pub moved: Vec<&'a Stored>,
    /// A number that is taken already means that two writers worked on one payout.
    pub history: &'a [Entry],
    /// A second one for a payout violates the primary key, which is the point of it.
    pub permits: &'a [NewPermit],
    pub decisions: &'a [NewDecision],
    pub notifications: &'a [NewNotification],
    /// Effects that are no longer wanted, claimed or not.
    pub voided: &'a [(PayoutId, EffectKind)],
    /// One that is live already is not doubled. A confirm or cancel without its permit violates a constraint.
    pub wanted: &'a [NewEffect<'a>],
    pub orders: Orders<'a>,
    /// Deliveries that have ended: those whose claims are still good are recorded, each once.
    pub settled: &'a [Settled],
}

/// Payouts to store if their idempotency keys and references are both free, each with the beginning of its
/// history and the call that creates its session. Under unique indexes: there is no moment between looking
/// and inserting.
#[derive(Clone, Copy, Default)]
pub struct Orders<'a> {
    pub new: &'a [NewPayout],
    /// For each how long its call is claimed, if it is.
    pub leases: &'a [Option<Duration>],
    /// They are to be looked at after this long.
    pub first_look: time::Duration,
}

/// What steps stand on that were decided without locking: each payout's row as this process wrote or read it,
/// and what the events came from. Steps with this are a transaction of their own. What goes with a payout
/// that is not as it was is left out.
#[derive(Debug, Default)]
pub struct Stands {
    pub moved: BTreeMap<PayoutId, Writer>,
    pub effects: Vec<(PayoutId, EffectClaim)>,
    pub inbox: Vec<(PayoutId, InboxClaim)>,
    /// Not there yet, and each but once: kept with what they show.
    pub fresh: Vec<(PayoutId, Arc<Incoming>)>,
    /// The switches of confirms that the rules were asked under ([`rules::in_one_word`]); held, and looked
    /// at, before anything is locked. What is permitted then bears the time of the database after that.
    pub switches: Option<String>,
}

/// The database transaction that wrote a row. Whoever else touches the row leaves another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writer(i64);

impl Writer {
    /// As it is read with the row.
    pub(super) fn read(xmin: i64) -> Self {
        Self(xmin)
    }
}

/// What was written.
#[derive(Default)]
pub struct Written {
    /// The effects that were claimed.
    pub claimed: Vec<Claimed>,
    /// The numbers of the effects that are no longer wanted. No effect will ever have one of them again.
    pub voided: Vec<i64>,
    /// The orders that were stored, as they are now.
    pub inserted: Vec<Stored>,
    /// The payouts that are not as they were, for which nothing was written.
    pub gone: BTreeSet<PayoutId>,
    /// The switches were not as they were thought to be, or could not be held at once.
    pub switched: bool,
    /// Whoever wrote: `None` if there was nothing to write.
    pub by: Option<Writer>,
}

type Row =
    (i64, i32, Option<Uuid>, Option<String>, Option<String>, Option<OffsetDateTime>, Option<OffsetDateTime>);

/// Writes them: in a transaction in which the payouts are locked, or, with what they stand on, at once.
/// Orders and ended deliveries stand on nothing, alone or with others.
///
/// # Errors
/// Database errors; constraints are named above. [`StoreError::is_stale`] if a payout is as it was and yet a
/// claim that it stands on is gone: nothing was written.
pub async fn write(
    db: &mut PgConnection,
    steps: &Steps<'_>,
    stands: Option<&Stands>,
) -> Result<Written, StoreError> {
    let parts = parts::parts(steps, stands);
    let mut written = Written::default();
    if parts.iter().all(|(_, taken)| !taken) {
        return Ok(written);
    }
    let arguments = arguments(steps, stands).map_err(sqlx::Error::Encode)?;
    let statement = AssertSqlSafe(text::statement(&parts));
    let rows: Vec<Row> = sqlx::query_as_with(statement, arguments).fetch_all(db).await?;
    let wanted: BTreeMap<(Uuid, &str), &NewEffect<'_>> =
        steps.wanted.iter().map(|new| ((new.stored.payout.id.0, new.kind.code()), new)).collect();
    let orders: BTreeMap<Uuid, &NewPayout> = steps.orders.new.iter().map(|new| (new.id.0, new)).collect();
    for (id, fence, payout, kind, secret, created_at, next_check_at) in rows {
        let claim = EffectClaim { id, fence };
        match (payout, kind, created_at) {
            (None, None, _) => written.by = Some(Writer(id)),
            (None, Some(_), _) => written.voided.push(id),
            (Some(payout), _, Some(created_at)) => {
                let Some(order) = orders.get(&payout) else { continue };
                let stored = inserted::accepted(order, created_at, next_check_at);
                if fence > 0 {
                    written.claimed.push(Claimed::first(&stored, claim, order.destination_secret.clone()));
                }
                written.inserted.push(stored);
            }
            (Some(payout), Some(kind), None) => {
                let Some(new) = wanted.get(&(payout, kind.as_str())) else { continue };
                written.claimed.push(Claimed::new(new.stored, new.kind, claim, secret));
            }
            (Some(payout), None, None) => {
                written.gone.insert(PayoutId(payout));
                written.switched |= fence > 0;
            }
        }
    }
    Ok(written)
}

/// The arguments of the statement, in order.
///
/// # Errors
/// None that any of these types is known to make.
pub fn arguments(steps: &Steps<'_>, stands: Option<&Stands>) -> Result<PgArguments, BoxDynError> {
    let [_, moved, called, read, kept, told, permitted, judged, noted, voided, wanted, ordered, settled] =
        parts::parts(steps, stands).map(|(_, taken)| taken);
    let mut columns = Columns::default();
    if let Some(switches) = stands.and_then(|on| on.switches.as_deref()) {
        columns = columns.bind(switches);
    }
    if moved {
        columns = bind_moved(columns, &steps.moved, stands);
    }
    if let Some(stands) = stands {
        columns = bind_stands(columns, stands, [called, read, kept]);
    }
    if told {
        columns = bind_history(columns, steps.history);
    }
    if permitted {
        columns = bind_permits(columns, steps.permits);
    }
    if judged {
        columns = bind_decisions(columns, steps.decisions);
    }
    if noted {
        columns = bind_notifications(columns, steps.notifications);
    }
    if voided {
        columns = bind_voided(columns, steps.voided);
    }
    if wanted {
        columns = bind_wanted(columns, steps.wanted);
    }
    if ordered {
        columns = bind_orders(columns, &steps.orders);
    }
    if settled {
        columns = bind_settled(columns, steps.settled);
    }
    columns.error.map_or(Ok(columns.arguments), Err)
}

#[derive(Default)]
struct Columns {
    arguments: PgArguments,
    error: Option<BoxDynError>,
}

impl Columns {
    fn bind<'t, T: Encode<'t, Postgres> + Type<Postgres>>(mut self, column: T) -> Self {
        if let Err(error) = self.arguments.add(column) {
            self.error.get_or_insert(error);
        }
        self
    }
}

/// The column of a batch.
fn column<'a, T, C>(rows: &'a [T], of: impl Fn(&'a T) -> C) -> Vec<C> {
    rows.iter().map(of).collect()
}

fn bind_stands(mut columns: Columns, on: &Stands, [called, read, kept]: [bool; 3]) -> Columns {
    if called {
        columns = columns
            .bind(column(&on.effects, |(payout, _)| payout.0))
            .bind(column(&on.effects, |(_, claim)| claim.id))
            .bind(column(&on.effects, |(_, claim)| claim.fence));
    }
    if read {
        columns = columns
            .bind(column(&on.inbox, |(payout, _)| payout.0))
            .bind(column(&on.inbox, |(_, claim)| claim.id))
            .bind(column(&on.inbox, |(_, claim)| claim.fence));
    }
    if kept {
        columns = columns
            .bind(column(&on.fresh, |(payout, _)| payout.0))
            .bind(column(&on.fresh, |(_, new)| new.project.0.as_str()))
            .bind(column(&on.fresh, |(_, new)| new.known_by()))
            .bind(column(&on.fresh, |(_, new)| new.body.as_slice()))
            .bind(column(&on.fresh, |(_, new)| new.body_hash.as_slice()));
    }
    columns
}

fn bind_moved(columns: Columns, moved: &[&Stored], stands: Option<&Stands>) -> Columns {
    let payouts: Vec<&Payout> = moved.iter().map(|stored| &stored.payout).collect();
    let states = column(&payouts, |payout| state_columns::encode(&payout.state));
    let raised = |payout: &Payout| payout.raised.iter().map(Code::code).collect::<Vec<_>>().join(",");
    let facts = column(&payouts, |payout| &payout.facts);
    // No transaction has the number 0: what stands on nothing is not written.
    let writer = |payout: &Payout| stands.map(|on| on.moved.get(&payout.id).map_or(0, |writer| writer.0));
    columns
        .bind(column(&payouts, |payout| payout.id.0))
        .bind(column(&payouts, |payout| payout.version))
        .bind(column(&payouts, |payout| payout.attempt))
        .bind(column(&states, |state| state.state))
        .bind(column(&payouts, |payout| payout.status().code()))
        .bind(column(&payouts, |payout| payout.since))
        .bind(column(moved, |stored| stored.updated_at))
        .bind(column(moved, |stored| stored.next_check_at))
        .bind(column(&states, |state| state.session_id))
        .bind(column(&states, |state| state.retry_at))
        .bind(column(&states, |state| state.hold_until))
        .bind(column(&states, |state| state.hold_cause))
        .bind(column(&states, |state| state.cancel_cause.clone()))
        .bind(column(&states, |state| state.failure_code))
        .bind(column(&payouts, |payout| payout.permit.as_ref().map(|permit| permit.kind.code())))
        .bind(column(&payouts, |payout| payout.permit.as_ref().map(|permit| permit.bound_to.as_slice())))
        .bind(column(&payouts, |payout| payout.anomaly.as_ref().map(Code::code)))
        .bind(column(&payouts, |payout| raised(payout)))
        .bind(column(&facts, |facts| facts.payout_id.as_deref()))
        .bind(column(&facts, |facts| facts.card.brand.as_deref()))
        .bind(column(&facts, |facts| facts.card.last4.as_deref()))
        .bind(column(&facts, |facts| facts.card.bin.as_deref()))
        .bind(column(&facts, |facts| facts.card.card_id.as_deref()))
        .bind(column(&facts, |facts| facts.card.country.as_deref()))
        .bind(column(&facts, |facts| facts.rrn.as_deref()))
        .bind(column(&facts, |facts| facts.auth_code.as_deref()))
        .bind(column(&facts, |facts| facts.fee_minor))
        .bind(column(&facts, |facts| facts.fee_currency.as_deref()))
        .bind(column(&facts, |facts| facts.error.as_ref().map(|error| error.code.as_str())))
        .bind(column(&facts, |facts| facts.error.as_ref().map(|error| error.description.as_str())))
        .bind(column(&payouts, |payout| payout.state.is_final()))
        .bind(column(&payouts, |payout| writer(payout)))
}

fn bind_history(columns: Columns, entries: &[Entry]) -> Columns {
    columns
        .bind(column(entries, |entry| entry.payout.0))
        .bind(column(entries, |entry| entry.seq))
        .bind(column(entries, |entry| entry.at))
        .bind(column(entries, |entry| entry.event.as_str()))
        .bind(column(entries, |entry| entry.decision))
        .bind(column(entries, |entry| entry.reason))
        .bind(column(entries, |entry| entry.from_state))
        .bind(column(entries, |entry| entry.to_state))
        .bind(column(entries, |entry| entry.actor.as_deref()))
        .bind(column(entries, |entry| entry.detail.as_deref()))
}

fn bind_permits(columns: Columns, permits: &[NewPermit]) -> Columns {
    columns
        .bind(column(permits, |new| new.payout.id.0))
        .bind(column(permits, |new| new.permit.kind.code()))
        .bind(column(permits, |new| new.permit.bound_to.as_slice()))
        .bind(column(permits, |new| new.rule_set.as_str()))
        .bind(column(permits, |new| new.decided_at))
        .bind(column(permits, |new| new.payout.project.0.as_str()))
        .bind(column(permits, |new| new.payout.order.customer_reference.as_str()))
        .bind(column(permits, |new| new.payout.order.amount.currency().code()))
        .bind(column(permits, |new| new.payout.order.amount.minor()))
}

fn bind_decisions(columns: Columns, decisions: &[NewDecision]) -> Columns {
    columns
        .bind(column(decisions, |decision| decision.payout.0))
        .bind(column(decisions, |decision| decision.seq))
        .bind(column(decisions, |decision| decision.at))
        .bind(column(decisions, |decision| decision.verdict.rule_set.as_str()))
        .bind(column(decisions, |decision| decision.verdict.outcome.code()))
        .bind(column(decisions, |decision| rules::hits(&decision.verdict).to_string()))
        .bind(column(decisions, |decision| rules::inputs(&decision.verdict).to_string()))
}

fn bind_notifications(columns: Columns, new: &[NewNotification]) -> Columns {
    columns
        .bind(column(new, |message| message.id))
        .bind(column(new, |message| message.project.0.as_str()))
        .bind(column(new, |message| message.payout.0))
        .bind(column(new, |message| message.seq))
        .bind(column(new, |message| message.kind.as_str()))
        .bind(column(new, |message| message.payload.as_str()))
        .bind(column(new, |message| message.at))
        .bind(column(new, |message| message.lease.map(|lease| lease.as_secs_f64())))
}

fn bind_voided(columns: Columns, voided: &[(PayoutId, EffectKind)]) -> Columns {
    columns.bind(column(voided, |(payout, _)| payout.0)).bind(column(voided, |(_, kind)| kind.code()))
}

fn bind_wanted(columns: Columns, wanted: &[NewEffect<'_>]) -> Columns {
    let stored = wanted.iter().map(|new| (new.stored, new.kind));
    let permits = stored.map(|(stored, kind)| {
        let permit = stored.payout.permit.as_ref();
        permit.filter(|permit| permit.kind.code() == kind.code()).map(|permit| permit.bound_to.as_slice())
    });
    let needs_permit = |kind: EffectKind| matches!(kind, EffectKind::Confirm | EffectKind::Cancel);
    columns
        .bind(column(wanted, |new| new.stored.payout.id.0))
        .bind(column(wanted, |new| new.kind.code()))
        .bind(column(wanted, |new| needs_permit(new.kind).then(|| new.kind.code())))
        .bind(column(wanted, |new| new.stored.payout.project.0.as_str()))
        .bind(permits.collect::<Vec<_>>())
        .bind(column(wanted, |new| new.lease.map(|lease| lease.as_secs_f64())))
}

fn bind_orders(columns: Columns, orders: &Orders<'_>) -> Columns {
    let new = orders.new;
    columns
        .bind(column(new, |new| new.id.0))
        .bind(column(new, |new| new.project.0.as_str()))
        .bind(column(new, |new| new.idempotency_key.as_str()))
        .bind(column(new, |new| new.request_fingerprint.as_slice()))
        .bind(column(new, |new| new.order.amount.minor()))
        .bind(column(new, |new| new.order.amount.currency().code()))
        .bind(column(new, |new| new.order.destination.code()))
        .bind(column(new, |new| new.destination_secret.as_str()))
        .bind(column(new, |new| new.order.destination_fingerprint.as_slice()))
        .bind(column(new, |new| new.order.recipient_name.as_str()))
        .bind(column(new, |new| new.order.customer_reference.as_str()))
        .bind(column(new, |new| new.order.reference.as_deref()))
        .bind(column(new, |new| new.metadata.as_str()))
        .bind(column(new, |new| new.order.created_by.as_str()))
        .bind(column(orders.leases, |lease| lease.map(|lease| lease.as_secs_f64())))
        .bind(orders.first_look.as_seconds_f64())
}

fn bind_settled(columns: Columns, settled: &[Settled]) -> Columns {
    let told = |settled: &Settled| match &settled.delivery {
        Delivery::Delivered => (true, None),
        Delivery::Retry(after, _) => (false, Some(after.as_secs_f64())),
        Delivery::GaveUp(_) => (false, None),
    };
    columns
        .bind(column(settled, |settled| settled.id))
        .bind(column(settled, |settled| settled.fence))
        .bind(column(settled, |settled| told(settled).0))
        .bind(column(settled, |settled| told(settled).1))
        .bind(column(settled, |settled| match &settled.delivery {
            Delivery::Delivered => None,
            Delivery::Retry(_, error) | Delivery::GaveUp(error) => Some(error.as_str()),
        }))
}

#[cfg(test)]
mod tests;
