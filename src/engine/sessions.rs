//! Whose sessions those are that this process has had created: webhooks about them follow within moments, and
//! a session never changes hands. Only what is committed is here; whatever is not is looked up.

use super::Envelope;
use crate::{
    domain::{
        effect::EffectKind,
        event::{Event, Observation},
        id::{PayoutId, ProjectId, SessionId},
    },
    store::payouts::Stored,
};
use quick_cache::sync::Cache;
use std::collections::BTreeMap;

/// Far more than are between a create and its last webhook at one time; a few hundred bytes each.
const KEPT: usize = 4096;

/// Empty to begin with, bounded.
#[derive(Debug)]
pub struct Sessions(Cache<(ProjectId, SessionId), PayoutId>);

impl Default for Sessions {
    fn default() -> Self {
        Self(Cache::new(KEPT))
    }
}

impl Sessions {
    pub(super) fn whose(&self, project: &ProjectId, session: &SessionId) -> Option<PayoutId> {
        self.0.get(&(project.clone(), session.clone()))
    }

    /// These events are committed, and their payouts are now like this.
    pub(super) fn learn(&self, batch: &[Envelope], payouts: &BTreeMap<PayoutId, Stored>) {
        for envelope in batch {
            if let Event::Observed(Observation::Answered { call: EffectKind::CreateSession, .. }) =
                envelope.event
                && let Some(payout) = payouts.get(&envelope.payout).map(|stored| &stored.payout)
                && let Some(session) = payout.state.session()
            {
                self.0.insert((payout.project.clone(), session.clone()), payout.id);
            }
        }
    }
}
