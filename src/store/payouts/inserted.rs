//! A payout as it is when it has just been ordered.

use super::{NewPayout, Stored};
use crate::domain::{payout::Payout, provider::ProviderFacts, state::State};
use std::collections::BTreeSet;
use time::OffsetDateTime;

/// As it stands in its row.
pub(in crate::store) fn accepted(
    new: &NewPayout,
    created_at: OffsetDateTime,
    next_check_at: Option<OffsetDateTime>,
) -> Stored {
    let payout = Payout {
        id: new.id,
        project: new.project.clone(),
        order: new.order.clone(),
        version: 1,
        attempt: 1,
        past: vec![],
        state: State::Accepted,
        since: created_at,
        permit: None,
        anomaly: None,
        raised: BTreeSet::new(),
        facts: ProviderFacts::default(),
    };
    let metadata = new.metadata.clone();
    Stored { payout, metadata, created_at, updated_at: created_at, next_check_at }
}
