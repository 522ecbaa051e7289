//! Looking at everything there is at once, for the command `payoutd check` and for tests: the same webhooks
//! and the same checks as in the turns of the worker, from the first to the last. Throws no switch.

use super::{PAGE, hearing::hear, memory::Unheard};
use crate::{
    domain::{checking::Finding, id::PayoutId},
    store::{StoreError, checks, encoding::Code, findings, pool, told},
};
use sqlx::{PgConnection, PgPool};
use std::time::Duration;

/// Where somebody stands who looks at everything there is.
#[derive(Clone, Copy)]
enum Place {
    Queues,
    Payouts(Option<PayoutId>),
    /// Payouts that Pike named and that are not here.
    Strangers(Option<PayoutId>),
}

async fn step(
    tx: &mut PgConnection,
    place: Place,
    patience: Duration,
) -> Result<(Vec<Finding>, Option<Place>), StoreError> {
    let (page, next): (_, fn(Option<PayoutId>) -> Place) = match place {
        Place::Queues => {
            let mut found = vec![];
            for check in checks::queues() {
                found.extend(checks::of_queue(tx, check, patience).await?);
            }
            return Ok((found, Some(Place::Payouts(None))));
        }
        Place::Payouts(after) => (checks::next(tx, after, PAGE).await?, Place::Payouts),
        Place::Strangers(after) => (told::strangers(tx, after, PAGE).await?, Place::Strangers),
    };
    let next = match (page.last(), place) {
        (Some(last), _) => Some(next(Some(*last))),
        (None, Place::Strangers(_)) => None,
        (None, Place::Queues | Place::Payouts(_)) => Some(Place::Strangers(None)),
    };
    Ok((checks::of_payouts(tx, &page, patience).await?.findings, next))
}

async fn without_accepted(
    db: &mut PgConnection,
    mut found: Vec<Finding>,
) -> Result<Vec<Finding>, StoreError> {
    let accepted = findings::accepted(db).await?;
    found.retain(|finding| {
        !accepted.iter().any(|(check, subject)| check == finding.check.code() && *subject == finding.subject)
    });
    Ok(found)
}

/// Looks at everything there is, from the first webhook to the last payout, in small steps; keeps nothing but
/// what the webhooks told. What persons have accepted is left out.
///
/// # Errors
/// Database errors only.
pub async fn everything(pool: &PgPool, patience: Duration) -> Result<Vec<Finding>, StoreError> {
    let mut after = 0;
    loop {
        let mut tx = pool.begin().await?;
        let heard = hear(&mut tx, &Unheard::After(after)).await?;
        tx.commit().await?;
        let Some(last) = heard.webhooks.last() else { break };
        after = *last;
    }
    let (mut found, mut place) = (vec![], Some(Place::Queues));
    while let Some(at) = place {
        let mut tx = pool.begin().await?;
        pool::one_view(&mut tx).await?;
        let (more, next) = step(&mut tx, at, patience).await?;
        tx.rollback().await?;
        found.extend(more);
        place = next;
    }
    without_accepted(&mut *pool.acquire().await?, found).await
}

/// As [`everything`], within the caller's transaction: what it has changed is looked at as well.
///
/// # Errors
/// Database errors only.
pub async fn everything_within(
    tx: &mut PgConnection,
    patience: Duration,
) -> Result<Vec<Finding>, StoreError> {
    let mut after = 0;
    while let Some(last) = hear(tx, &Unheard::After(after)).await?.webhooks.last() {
        after = *last;
    }
    let (mut found, mut place) = (vec![], Some(Place::Queues));
    while let Some(at) = place {
        let (more, next) = step(tx, at, patience).await?;
        found.extend(more);
        place = next;
    }
    without_accepted(tx, found).await
}
