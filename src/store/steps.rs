//! What the steps of many payouts write: one statement for all of it, however many there are, made of a
//! part for each table that gets rows, one array of rows for each. Each statement more would cost a round
//! trip, and a batch as one JSON text several times as much to read. The payouts are locked, or known to be
//! as they were.

mod parts;
mod rows;
mod text;

use super::{
    StoreError,
    effects::{Claimed, EffectClaim, NewEffect},
    encoding::Code,
    history::Entry,
    inbox::{InboxClaim, Incoming},
    notifications::{NewNotification, Settled},
    payouts::{NewPayout, Stored, inserted},
    permits::NewPermit,
    rules::NewDecision,
};
use crate::domain::{effect::EffectKind, id::PayoutId};
use rows::{Claim, Ended, Judged, Kept, Moved, Noted, Ordered, Permitted, Told, Voided, Wanted};
use sqlx::{Arguments, AssertSqlSafe, PgConnection, error::BoxDynError, postgres::PgArguments};
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
    /// The switches of confirms that the rules were asked under ([`super::rules::in_one_word`]); held, and
    /// looked at, before anything is locked. What is permitted then bears the database's time after that.
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
    let mut arguments = PgArguments::default();
    if let Some(switches) = stands.and_then(|on| on.switches.as_deref()) {
        arguments.add(switches)?;
    }
    if moved {
        arguments.add(each(&steps.moved, |stored| Moved::of(stored, stands)))?;
    }
    if let Some(stands) = stands {
        if called {
            arguments
                .add(each(&stands.effects, |(payout, claim)| Claim::of(*payout, claim.id, claim.fence)))?;
        }
        if read {
            arguments
                .add(each(&stands.inbox, |(payout, claim)| Claim::of(*payout, claim.id, claim.fence)))?;
        }
        if kept {
            arguments.add(each(&stands.fresh, |(payout, webhook)| Kept::of(*payout, webhook)))?;
        }
    }
    if told {
        arguments.add(each(steps.history, Told::of))?;
    }
    if permitted {
        arguments.add(each(steps.permits, Permitted::of))?;
    }
    if judged {
        arguments.add(each(steps.decisions, Judged::of))?;
    }
    if noted {
        arguments.add(each(steps.notifications, Noted::of))?;
    }
    if voided {
        arguments.add(each(steps.voided, |(payout, kind)| Voided::of(*payout, *kind)))?;
    }
    if wanted {
        arguments.add(each(steps.wanted, Wanted::of))?;
    }
    if ordered {
        let orders = &steps.orders;
        // One that has no lease is stored all the same, for whoever claims its call.
        let mut leases = orders.leases.iter().copied();
        let new = orders.new.iter().map(|new| Ordered::of(new, leases.next().flatten()));
        arguments.add(new.collect::<Vec<_>>())?;
        arguments.add(orders.first_look.as_seconds_f64())?;
    }
    if settled {
        arguments.add(each(steps.settled, Ended::of))?;
    }
    Ok(arguments)
}

fn each<'a, T, R>(of: &'a [T], row: impl Fn(&'a T) -> R) -> Vec<R> {
    of.iter().map(row).collect()
}

#[cfg(test)]
mod tests;
