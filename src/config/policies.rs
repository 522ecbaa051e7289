//! What decisions depend on, as the settings say it: each setting in the words of the domain. Reads nothing
//! and checks nothing; that has been done when there is a [`Config`].

use super::{Attempts, Config, StopLine};
use crate::domain::{
    environment::Environment,
    policy::{self, Mode, Policy, ResendStart},
};
use std::time::Duration;

impl Config {
    /// The limits and assumptions that decisions depend on.
    #[must_use]
    pub fn policy(&self) -> Policy {
        Policy {
            resend_start: match self.pike.second_start_refused {
                true => ResendStart::SameSession,
                false => ResendStart::Never,
            },
            start_unresolved_after: signed(self.pike.start_unresolved_after),
            stale_read_grace: signed(self.pike.stale_read_grace),
            confirm_window: signed(self.pike.confirm_window),
            hold_margin: signed(self.holds.margin),
            polling: policy::Polling {
                first: signed(self.polling.first),
                steady: signed(self.polling.steady),
                longest: signed(self.polling.longest),
                paid_first: signed(self.polling.paid_first),
                paid_until: signed(self.polling.paid_until),
            },
            attempts: self.attempts(),
            approvals: if self.approvals.need_owner {
                policy::Approvals::ByOwner
            } else {
                policy::Approvals::ByKey
            },
        }
    }

    /// What payoutd does at all.
    #[must_use]
    pub fn mode(&self) -> Mode {
        if self.reconcile.only { Mode::ReconcileOnly } else { Mode::Everything }
    }

    /// Begun by nobody while payoutd only looks.
    fn attempts(&self) -> policy::Attempts {
        let Attempts { max, codes, pause } = &self.attempts;
        let (most, unsure) = (*max, self.reconcile.only);
        policy::Attempts { most, codes: codes.clone(), pause: signed(*pause), unsure }
    }

    /// Where `pike.base_url` leads to.
    #[must_use]
    pub fn environment(&self) -> Environment {
        let url = reqwest::Url::parse(&self.pike.base_url).ok();
        url.and_then(|url| url.host_str().map(Environment::of_host)).unwrap_or(Environment::Elsewhere)
    }

    /// When anomalies stop a project's confirms.
    #[must_use]
    pub fn stop_line(&self) -> policy::StopLine {
        let StopLine { anomalies, window } = self.stop_line;
        policy::StopLine { anomalies, window: signed(window) }
    }
}

fn signed(duration: Duration) -> time::Duration {
    time::Duration::try_from(duration).expect("the schema's ranges end long before this overflows")
}
