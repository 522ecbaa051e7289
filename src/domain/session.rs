//! What Pike shows about a session, in our words, and what that says about our one payout in it. The
//! classification is strict where money depends on it: anything that does not fit is an anomaly or
//! unreadable, never a guess.

use super::{
    id::SessionId,
    payout::{Anomaly, Payout, metadata_tag},
    provider::{ProviderError, ProviderFacts},
};
use time::OffsetDateTime;

/// Pike's session statuses. Unknown values are kept verbatim and never treated as final.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionStatus {
    Created,
    InProgress,
    Accepted,
    Cancelled,
    /// The result is unknown and will be settled by Pike's support.
    Error,
    Other(String),
}

/// Pike's payout statuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PayoutStatus {
    InProgress,
    Pending,
    Succeeded,
    Failed,
    Other(String),
}

/// One payout as Pike shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayoutReport {
    pub status: PayoutStatus,
    pub amount_minor: Option<i64>,
    /// In whatever case Pike wrote it.
    pub currency: Option<String>,
    /// The metadata if they are a JSON string; anything else is not ours.
    pub metadata: Option<String>,
    /// The whole amount came back (an accepted refund).
    pub returned: bool,
    pub facts: ProviderFacts,
}

/// A status is a word or a few; something longer is no status.
const MOST_WORD_CHARS: usize = 40;

/// A session as Pike shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionReport {
    pub session: SessionId,
    pub status: SessionStatus,
    /// `next_action` is `confirm`.
    pub awaits_confirm: bool,
    pub payouts: Vec<PayoutReport>,
    pub error: Option<ProviderError>,
    /// When Pike last changed the session, by Pike's clock. While it waits for our word: since when.
    pub updated_at: Option<OffsetDateTime>,
}

/// What a report says about our payout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shows {
    /// The session exists, nothing was started in it.
    NotStarted,
    Working,
    AwaitsConfirm,
    Paid,
    Returned,
    /// Closed without payment, with the code why.
    NotPaid {
        code: String,
    },
    /// Pike itself does not know.
    SessionError,
    /// Not what was asked. `awaits_confirm` tells whether a cancel would still stop it.
    Wrong {
        anomaly: Anomaly,
        awaits_confirm: bool,
    },
    /// A status value we have not met.
    Unreadable,
}

impl PayoutReport {
    fn failed(&self) -> bool {
        self.status == PayoutStatus::Failed
    }
}

impl SessionReport {
    /// Facts about our payout in this report, with the session's error where the payout has none.
    #[must_use]
    pub fn facts(&self) -> ProviderFacts {
        let mut facts = self.payouts.first().map(|payout| payout.facts.clone()).unwrap_or_default();
        facts.error = facts.error.or_else(|| self.error.clone());
        facts
    }

    /// The statuses in it that we have not met, each only if it looks like one: no digits, not long.
    #[must_use]
    pub fn unknown_words(&self) -> Vec<&str> {
        let mut words = vec![];
        if let SessionStatus::Other(word) = &self.status {
            words.push(word.as_str());
        }
        for payout in &self.payouts {
            if let PayoutStatus::Other(word) = &payout.status {
                words.push(word.as_str());
            }
        }
        let is_one = |word: &&str| {
            word.len() <= MOST_WORD_CHARS
                && word.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        };
        words.into_iter().filter(is_one).collect()
    }

    /// What this report says about `payout`.
    #[must_use]
    pub fn shows(&self, payout: &Payout) -> Shows {
        let wrong = |anomaly| Shows::Wrong { anomaly, awaits_confirm: self.awaits_confirm };
        let Some(attempt) = payout.attempt_in(&self.session) else {
            return Shows::Wrong { anomaly: Anomaly::OtherSession, awaits_confirm: false };
        };
        // Closed with nothing paid in it, whatever else it shows: no money has moved and none will.
        if self.status == SessionStatus::Cancelled && self.payouts.iter().all(PayoutReport::failed) {
            return Shows::NotPaid { code: self.code("session_cancelled") };
        }
        let ours = match self.payouts.as_slice() {
            [] => return self.without_payout(),
            [one] => one,
            [..] => return wrong(Anomaly::SeveralPayouts),
        };
        if let Some(anomaly) = mismatch(payout, attempt, ours) {
            return wrong(anomaly);
        }
        self.with_payout(ours)
    }

    fn without_payout(&self) -> Shows {
        match &self.status {
            SessionStatus::Created => Shows::NotStarted,
            SessionStatus::InProgress => Shows::Working,
            SessionStatus::Error => Shows::SessionError,
            // Completed successfully with nothing to see: not something to guess about.
            SessionStatus::Accepted | SessionStatus::Cancelled | SessionStatus::Other(_) => Shows::Unreadable,
        }
    }

    fn with_payout(&self, ours: &PayoutReport) -> Shows {
        match (&self.status, &ours.status) {
            (SessionStatus::Other(_), _) | (_, PayoutStatus::Other(_)) => Shows::Unreadable,
            (SessionStatus::Error, _) => Shows::SessionError,
            (SessionStatus::Accepted, PayoutStatus::Succeeded) if ours.returned => Shows::Returned,
            (SessionStatus::Accepted, PayoutStatus::Succeeded) => Shows::Paid,
            (SessionStatus::Accepted | SessionStatus::Cancelled, PayoutStatus::Failed) => {
                Shows::NotPaid { code: self.code("failed") }
            }
            (SessionStatus::Cancelled, PayoutStatus::Succeeded) => {
                Shows::Wrong { anomaly: Anomaly::Contradiction, awaits_confirm: false }
            }
            // A final session over a payout that is not: one of the two is stale.
            (
                SessionStatus::Accepted | SessionStatus::Cancelled,
                PayoutStatus::InProgress | PayoutStatus::Pending,
            ) => Shows::Unreadable,
            (SessionStatus::InProgress, PayoutStatus::InProgress | PayoutStatus::Pending)
                if self.awaits_confirm =>
            {
                Shows::AwaitsConfirm
            }
            // Neither a payout's success nor its failure counts before the session is final.
            (SessionStatus::Created | SessionStatus::InProgress, _) => Shows::Working,
        }
    }

    fn code(&self, otherwise: &str) -> String {
        self.facts().error.map_or_else(|| otherwise.to_owned(), |error| error.code)
    }
}

fn mismatch(payout: &Payout, attempt: i32, ours: &PayoutReport) -> Option<Anomaly> {
    let amount = payout.order.amount;
    let same_currency =
        ours.currency.as_deref().is_some_and(|shown| shown.eq_ignore_ascii_case(amount.currency().code()));
    if ours.amount_minor != Some(amount.minor()) || !same_currency {
        return Some(Anomaly::OtherAmount);
    }
    if ours.metadata.as_deref() != Some(metadata_tag(payout.id, attempt).as_str()) {
        return Some(Anomaly::OtherMetadata);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::decide::fixtures::report;

    #[test]
    fn what_looks_like_a_status_and_is_none_of_ours_is_named() {
        let word = |text: &str| report(SessionStatus::Other(text.into()), None);
        let named = |report: &SessionReport| report.unknown_words().join(" ");
        let longest = "a".repeat(40);
        for good in ["pondering", "on_its_way", &longest] {
            assert_eq!(named(&word(good)), good);
        }
        for bad in ["step 2", "4111111111111111", "a-b", &format!("{longest}a")] {
            assert_eq!(named(&word(bad)), "", "{bad}");
        }
        let both =
            report(SessionStatus::Other("pondering".into()), Some(PayoutStatus::Other("flying".into())));
        assert_eq!(named(&both), "pondering flying");
        assert_eq!(named(&report(SessionStatus::InProgress, Some(PayoutStatus::Pending))), "");
    }
}
