//! The last look before money moves: what a claimed confirm stands on, read again right before it is sent.

use crate::{
    domain::permit::{self, Unfit},
    store::{StoreError, effects::Claimed, payouts, permits},
};
use sqlx::PgPool;
use std::time::Duration;

/// What a confirm must still fulfil.
#[derive(Clone, Debug)]
pub struct ConfirmSettings {
    /// The version of the rules in force.
    pub rule_set: String,
    /// A permit older than this is decided again, after a look at Pike.
    pub max_age: Duration,
}

/// Longest that the last look may take. It comes out of what the lease leaves beside the call itself: later
/// than that, somebody else may hold the effect, and the confirm is not sent.
pub const LOOK_WITHIN: Duration = Duration::from_secs(1);

/// Whether a confirm may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Good,
    /// The claim is somebody else's now: whoever holds it goes on.
    NotOurs,
    /// Confirms were switched off since it was claimed.
    SwitchedOff,
    Unfit(Unfit),
}

/// Reads what the confirm stands on, in the present.
///
/// # Errors
/// Database errors: nothing is known, so nothing may be sent.
pub(super) async fn look(
    pool: &PgPool,
    effect: &Claimed,
    settings: &ConfirmSettings,
) -> Result<Look, StoreError> {
    let mut db = pool.acquire().await?;
    let Some(standing) = permits::standing(&mut db, effect.claim).await? else { return Ok(Look::NotOurs) };
    if !standing.confirms_on {
        return Ok(Look::SwitchedOff);
    }
    let Some(stored) = payouts::read(&mut db, &[effect.payout]).await?.pop() else {
        return Ok(Look::NotOurs);
    };
    let max_age = time::Duration::try_from(settings.max_age).unwrap_or(time::Duration::MAX);
    let checked = permit::check(&stored.payout, &standing.evidence, &settings.rule_set, max_age);
    Ok(checked.map_or_else(Look::Unfit, |()| Look::Good))
}
