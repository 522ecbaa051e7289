//! What Pike tells that is not so, or does against its own word, in the random histories.

use crate::{scene::Scene, tally::Fault};
use payoutd::domain::{
    effect::EffectKind,
    event::{Event, Observation},
};

impl Scene<'_> {
    /// A status answer or a webhook shows another session, paid: somebody's mistake, never ours to adopt.
    pub fn lie(&mut self) {
        if !self.liar || self.books.payout.state.session().is_none() {
            return;
        }
        self.lied = true;
        let manners = self.pike.manners;
        // Paid with a wrong amount as well, it would be for a person, and without an end of its own.
        if manners.tells_why && !manners.misreads && self.rng().percent(70) {
            return self.reopen();
        }
        self.tally.fault(Fault::ForeignReport);
        let report = self.pike.foreign(&self.books.payout);
        self.note("foreign", &report.status);
        let report = self.books.as_read(EffectKind::ReadStatus, report);
        self.apply(&Event::Observed(Observation::Reported(report)));
    }

    /// Pike pays a session that it had closed.
    fn reopen(&mut self) {
        let sessions = self.pike.sessions.len();
        let Some(at) = self.rng().place(sessions) else { return };
        if let Some(report) = self.pike.reopen(at) {
            self.tally.fault(Fault::ClosedPaid);
            self.note("reopened", &report.session);
            self.webhooks.push(report);
        }
    }
}
