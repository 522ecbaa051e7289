//! What histories are played and paths are explored under: our settings and our rules.

use payoutd::domain::{
    policy::{Approvals, Attempts, Policy, Polling, ResendStart},
    rules::{AmountLimits, RuleSet},
};
use std::collections::BTreeMap;
use time::Duration;

/// Between a failure and another attempt.
pub const PAUSE: Duration = Duration::seconds(50);
/// Codes with which Pike closes a session, or refuses a start, that may be tried again.
pub const PASSES: &str = "provider_issuer_unavailable";
pub const REFUSED: &str = "bank_card_expired";

/// Everything that is the same in all histories but for one setting.
#[derive(Debug)]
pub struct Terms {
    /// Whether starts are sent again, and then whether payouts are tried again.
    policies: [[Policy; 2]; 2],
    pub rules: RuleSet,
    /// The same limits by another name: what was permitted under the others is decided again.
    pub other_rules: RuleSet,
}

impl Terms {
    pub fn new() -> Self {
        let never = Policy {
            resend_start: ResendStart::Never,
            start_unresolved_after: Duration::seconds(60),
            stale_read_grace: Duration::seconds(60),
            confirm_window: crate::pike::WINDOW,
            hold_margin: Duration::minutes(15),
            polling: Polling {
                first: Duration::seconds(5),
                steady: Duration::seconds(30),
                longest: Duration::minutes(15),
                paid_first: Duration::days(1),
                paid_until: Duration::days(30),
            },
            attempts: Attempts::OFF,
            approvals: Approvals::ByKey,
        };
        let limits = AmountLimits { min: 1, max: 1_000_000, hold_above: Some(500_000) };
        let rub = "RUB".parse().unwrap();
        let rules = |version: &str| RuleSet {
            version: version.to_owned(),
            amounts: BTreeMap::from([(rub, limits)]),
            ..RuleSet::default()
        };
        let codes = [PASSES, REFUSED, "start_unresolved"].map(str::to_owned).to_vec();
        let twice = Attempts { most: 2, codes, pause: PAUSE, unsure: false };
        let policies = [ResendStart::Never, ResendStart::SameSession].map(|resend_start| {
            let once = Policy { resend_start, ..never.clone() };
            [once.clone(), Policy { attempts: twice.clone(), ..once }]
        });
        Self { policies, rules: rules("model"), other_rules: rules("other") }
    }
}

impl Terms {
    pub fn policy(&self, resend: bool, attempts: bool) -> &Policy {
        &self.policies[usize::from(resend)][usize::from(attempts)]
    }
}
