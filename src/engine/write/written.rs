//! The payouts that are written, and those that turned out not to be as they were: nothing was written for
//! them, so nobody is told of it.

use super::Writes;
use crate::{domain::id::PayoutId, store::payouts::Stored};
use std::collections::{BTreeMap, BTreeSet};

impl Writes<'_> {
    /// Whether this payout's row is written.
    pub(in crate::engine) fn moves(&self, id: PayoutId) -> bool {
        self.touched.contains(&id)
    }

    /// Those of the payouts that are written.
    pub(in crate::engine) fn touched<'b>(
        &self,
        payouts: &'b BTreeMap<PayoutId, Stored>,
    ) -> impl Iterator<Item = &'b Stored> {
        self.touched.iter().filter_map(|id| payouts.get(id))
    }

    /// Forgets all that was noted for these.
    pub(super) fn leave(&mut self, gone: &BTreeSet<PayoutId>) {
        if gone.is_empty() {
            return;
        }
        let stands = |id: &PayoutId| !gone.contains(id);
        self.touched.retain(stands);
        self.history.retain(|entry| stands(&entry.payout));
        self.lines.retain(|line| stands(&line.payout));
        self.effects.retain(|(id, _)| stands(id));
        self.voids.retain(|(id, _)| stands(id));
        self.permits.retain(|new| stands(&new.payout.id));
        self.decisions.retain(|decision| stands(&decision.payout));
        let messages = self.notifications.extract_if(.., |message| !stands(&message.payout));
        self.handed.forget(messages.map(|message| message.id).collect());
    }
}
