//! A payout as the decisions see it: what was asked, where it stands, what Pike has told us.

use super::{
    id::{PayoutId, ProjectId, SessionId},
    money::Money,
    permit::Permit,
    provider::ProviderFacts,
    state::{State, Status},
};
use std::collections::BTreeSet;
use time::OffsetDateTime;

/// Where the money goes. The secret itself (token or hash) is not part of a decision and stays in the store;
/// what identifies it here is its fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DestinationKind {
    /// `tokenize/elements` gave a token.
    TokenizedCard,
    /// The tokenisation widget gave a hash of the number.
    EncryptedCard,
    /// A token for repeated payouts.
    Recurrent,
}

/// What the caller asked for. Never changes after creation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    pub amount: Money,
    pub destination: DestinationKind,
    /// SHA-256 over kind and secret.
    pub destination_fingerprint: [u8; 32],
    pub recipient_name: String,
    /// The caller's stable id of the person who is paid: what limits per recipient count by.
    pub customer_reference: String,
    /// The caller's own id of this payout, unique within the project.
    pub reference: Option<String>,
    /// The API key that created it: neither it nor another one of its owner's may approve it.
    pub created_by: String,
}

/// Something contradicts what we hold. It stays on the payout until a person has looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Anomaly {
    /// Pike shows a session other than the one asked about.
    OtherSession,
    /// Pike shows more than one payout in our session.
    SeveralPayouts,
    /// Pike shows another amount or currency.
    OtherAmount,
    /// Pike shows metadata that are not ours.
    OtherMetadata,
    /// Money moved although we never permitted it.
    PaidWithoutPermit,
    /// Money moved after we had recorded a final status without payment.
    PaidAfterFinal,
    /// A session that Pike had shown closed unpaid, so that the payout was tried again, is paid after all.
    OldSessionPaid,
    /// The present session is paid, and one before it was as well.
    PaidTwice,
    /// It could be tried again, but payoutd only looks: the database may have forgotten that it was.
    AttemptUnsure,
    /// Pike reports failure after it had reported success.
    FailedAfterPaid,
    /// Pike's session status and its payout status exclude each other.
    Contradiction,
    /// The stored payout is not the one whose confirm was permitted.
    PermitAltered,
    /// The rules in force forbid what was permitted under older ones, and a confirm may be on its way.
    PermitOutdated,
    /// Pike does not know the session that it gave us.
    SessionUnknown,
    /// Pike goes on showing a status that we do not know.
    StatusUnknown,
}

/// What an anomaly means for the other payouts of its project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Alarm {
    /// Money moved that nobody had let move, or nearly: one is enough to stop the project's confirms.
    AtOnce,
    /// Money may be moving wrongly: several within a time stop them.
    Counted,
    /// A matter of this payout alone.
    None,
}

impl Anomaly {
    pub const ALL: [Self; 13] = [
        Self::OtherSession,
        Self::SeveralPayouts,
        Self::OtherAmount,
        Self::OtherMetadata,
        Self::PaidWithoutPermit,
        Self::PaidAfterFinal,
        Self::OldSessionPaid,
        Self::FailedAfterPaid,
        Self::Contradiction,
        Self::PermitAltered,
        Self::PermitOutdated,
        Self::SessionUnknown,
        Self::StatusUnknown,
    ];

    #[must_use]
    pub fn alarm(self) -> Alarm {
        match self {
            Self::PaidWithoutPermit | Self::PermitAltered | Self::OldSessionPaid | Self::PaidTwice => {
                Alarm::AtOnce
            }
            Self::SeveralPayouts | Self::OtherAmount | Self::PaidAfterFinal => Alarm::Counted,
            Self::OtherSession
            | Self::OtherMetadata
            | Self::FailedAfterPaid
            | Self::Contradiction
            | Self::PermitOutdated
            | Self::SessionUnknown
            | Self::AttemptUnsure
            | Self::StatusUnknown => Alarm::None,
        }
    }
}

/// An attempt that is over: its session was closed unpaid before the next one began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastAttempt {
    pub attempt: i32,
    pub session: SessionId,
    pub ended: PastEnd,
}

/// What is known of an attempt that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PastEnd {
    Unpaid,
    /// Against all that Pike had shown.
    Paid,
    Returned,
}

/// One payout with everything a decision may depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payout {
    pub id: PayoutId,
    pub project: ProjectId,
    pub order: Order,
    /// Number of history entries; the next entry is `version + 1`.
    pub version: i64,
    /// Counts Pike sessions tried for this payout, from 1. Part of the metadata Pike sees.
    pub attempt: i32,
    /// The attempts before, in order.
    pub past: Vec<PastAttempt>,
    pub state: State,
    /// When the present state was entered.
    pub since: OffsetDateTime,
    pub permit: Option<Permit>,
    /// The first that was raised since a person last took the flag off.
    pub anomaly: Option<Anomaly>,
    /// All that were: each is news once.
    pub raised: BTreeSet<Anomaly>,
    pub facts: ProviderFacts,
}

impl Payout {
    /// Keeps an anomaly on the payout.
    pub fn raise(&mut self, anomaly: Anomaly) {
        self.anomaly.get_or_insert(anomaly);
        self.raised.insert(anomaly);
    }

    /// Takes the flag off.
    pub fn unflag(&mut self) {
        self.anomaly = None;
        self.raised.clear();
    }

    /// Whether it was raised since the flag was last taken off.
    #[must_use]
    pub fn has_raised(&self, anomaly: Anomaly) -> bool {
        self.anomaly == Some(anomaly) || self.raised.contains(&anomaly)
    }

    /// The only key of ours that travels with the money: payout and attempt, in metadata and in Pike's
    /// report.
    #[must_use]
    pub fn metadata_tag(&self) -> String {
        metadata_tag(self.id, self.attempt)
    }

    /// What callers see. A payout that is tried again does not go back to *accepted*.
    #[must_use]
    pub fn status(&self) -> Status {
        let again = self.state == State::Accepted && self.attempt > 1 && self.anomaly.is_none();
        if again { Status::Processing } else { self.state.status(self.anomaly.is_some()) }
    }

    /// The attempt that this session belongs to; `None` when it is none of this payout's. Before there is a
    /// session, any new one may become the present attempt's.
    #[must_use]
    pub fn attempt_in(&self, session: &SessionId) -> Option<i32> {
        if let Some(past) = self.past_in(session) {
            return Some(past.attempt);
        }
        match self.state.session() {
            Some(ours) if ours != session => None,
            Some(_) | None => Some(self.attempt),
        }
    }

    /// The attempt before, if this session was its.
    #[must_use]
    pub fn past_in(&self, session: &SessionId) -> Option<&PastAttempt> {
        self.past.iter().find(|past| past.session == *session)
    }

    /// The attempt before that was paid after all.
    #[must_use]
    pub fn paid_before(&self) -> Option<&PastAttempt> {
        self.past.iter().find(|past| past.ended != PastEnd::Unpaid)
    }
}

/// See [`Payout::metadata_tag`].
#[must_use]
pub fn metadata_tag(id: PayoutId, attempt: i32) -> String {
    format!("{id}/{attempt}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::decide::fixtures::payout_in;

    /// Pike repeats it in its reports and webhooks for ever: it may not change.
    #[test]
    fn payout_and_attempt_travel_with_the_money() {
        let mut payout = payout_in(State::Accepted);
        payout.attempt = 2;
        assert_eq!(payout.metadata_tag(), format!("{}/2", payout.id));
    }

    #[test]
    fn what_is_tried_again_is_not_shown_as_new() {
        let mut payout = payout_in(State::Accepted);
        assert_eq!(payout.status(), Status::Accepted);
        payout.attempt = 2;
        assert_eq!(payout.status(), Status::Processing);
        payout.anomaly = Some(Anomaly::Contradiction);
        assert_eq!(payout.status(), Status::Unknown);
        let mut paid = payout_in(State::Succeeded { session: SessionId("ps_1".into()) });
        paid.attempt = 2;
        assert_eq!(paid.status(), Status::Succeeded);
    }
}
