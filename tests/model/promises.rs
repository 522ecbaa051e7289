//! The promises that hold at every moment of a history. Those about single decisions are in `mutant.rs`,
//! those about what is sent and what reaches Pike in `scene.rs`, those about the end in `calm.rs`.

use crate::{again, mutant::Broken, scene::Scene};
use payoutd::domain::{
    id::SessionId,
    payout::Anomaly,
    permit::{Permit, PermitKind},
    state::State,
};

impl Scene<'_> {
    /// The promises that hold at every moment.
    pub fn judge(&self) -> Result<(), Broken> {
        let (payout, pike) = (&self.books.payout, &self.pike);
        let open = payout.state.session().and_then(|id| pike.session(id)).filter(|s| !s.stage.is_final());
        let unpaid = payout.state.is_unpaid();
        // One after the other: this is asked after every step of every history.
        let broken = if self.broken.is_some() || self.books.broken.is_some() {
            self.broken.or(self.books.broken).unwrap()
        } else if pike.paid() > 1 {
            "paid twice"
        } else if pike.alive() > 1 {
            "two payouts alive at Pike"
        } else if self.books.permitted_twice() {
            "a second permit"
        } else if payout.anomaly.is_some_and(|anomaly| !self.expected(anomaly)) {
            "an alarm although nobody lied"
        } else if !payout.state.is_final() && self.books.next_check.is_none() {
            "nobody will ever look again"
        } else if unpaid && pike.paid() > 0 {
            "paid, and recorded as not paid"
        } else if unpaid && open.is_some() {
            "final, while Pike may still pay"
        } else if unpaid && self.books.told_old {
            "paid in an old session, and recorded as not paid"
        } else if again::begun(payout) > usize::try_from(self.books.policy.attempts.most).unwrap() {
            "more attempts than allowed"
        } else if again::doubled(payout) {
            "two attempts with one number"
        } else if succeeded(&payout.state) && pike.paid() != 1 && !self.by_reopened() {
            "recorded as paid, and not paid"
        } else if !self.books.permits.iter().all(permit_was_open) {
            "a confirm permitted against the switch"
        } else {
            return Ok(());
        };
        Err(broken)
    }
}

impl Scene<'_> {
    /// Whether the payout was paid in a session that Pike had closed.
    pub fn by_reopened(&self) -> bool {
        let session = self.books.payout.state.session().and_then(|id| self.pike.session(id));
        session.is_some_and(|session| session.reopened)
    }

    /// Whether somebody lied, or the rules were changed under a permit.
    fn expected(&self, anomaly: Anomaly) -> bool {
        let deployed = self.books.rules.version != self.terms.rules.version;
        self.lied || (deployed && anomaly == Anomaly::PermitOutdated)
    }
}

pub fn succeeded(state: &State) -> bool {
    matches!(state, State::Succeeded { .. } | State::Returned { .. })
}

fn permit_was_open((permit, _, confirms_on): &(Permit, SessionId, bool)) -> bool {
    permit.kind == PermitKind::Cancel || *confirms_on
}
