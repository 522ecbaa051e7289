//! What the checker looks for, by name, and what a webhook told about a session. Which of its findings stop a
//! project's confirms is decided here; finding them is the store's and the worker's business.

use super::{
    id::{PayoutId, ProjectId},
    session::{PayoutReport, PayoutStatus, SessionReport, SessionStatus},
};

/// A promise that is checked from the database and from what Pike told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Check {
    /// Pike paid for one payout more than once.
    PaidTwice,
    /// More than one session of a payout waits at Pike or was paid.
    SeveralSessions,
    /// A session that is not the payout's, though it carries its metadata, waits at Pike or was paid.
    UnknownSession,
    /// The same, and we do not even have the payout: a restore has forgotten it.
    UnknownPayout,
    /// Pike paid more than was asked.
    PaidMoreThanAsked,
    /// Money moves, or moved, without a permit.
    ConfirmWithoutPermit,
    /// Permit and stored payout are not about the same.
    PermitAltered,
    /// No decision of the rules stands behind the permit.
    PermitUndecided,
    /// A confirm or cancel waits to be sent without its permit, or about something else than it.
    EffectUnpermitted,
    /// The destination is not the one that was asked for.
    DestinationAltered,
    /// Pike said paid; the payout is failed or cancelled, and nobody was alarmed.
    PaidButUnpaidHere,
    /// Pike said closed unpaid and never paid; the payout is paid, and nobody was alarmed.
    UnpaidButPaidHere,
    /// Pike shows another amount or currency, and nobody was alarmed.
    OtherAmount,
    /// Pike shows other metadata, and nobody was alarmed.
    OtherMetadata,
    /// Money was paid in a session that nothing leads from to us.
    PaidForNobody,
    /// Pike has told the end long ago, and the payout goes on.
    EndedAtPike,
    /// What permits say of a recipient's total is not what the payouts say.
    RecipientTotal,
    /// The history is not numbered 1, 2, … to the payout's version.
    HistoryGap,
    /// The history does not end in the payout's state.
    StateUntold,
    /// A final status without its notification, a notification without its reason, or out of order.
    NotificationGap,
    /// Not final, and without a time at which somebody looks again.
    NoDueTime,
    /// Due for long.
    Overdue,
    /// The lease of a call has ended long ago, and nobody took it over.
    EffectAbandoned,
    /// A call is still wanted for a payout that ended long ago.
    EffectAfterEnd,
    /// A webhook is kept and not worked on.
    WebhookWaiting,
    /// A notification has not reached its receiver for long.
    NotificationWaiting,
    /// A row that no code of ours could have written.
    ImpossibleRow,
    /// Paid or returned by our books, and in no report of Pike's.
    ReportMissing,
    /// In Pike's report as paid or returned, and not ours or not so by our books.
    ReportExtra,
    /// Pike's report has another amount or currency.
    ReportAmount,
    /// In Pike's reports more than once.
    ReportTwice,
}

impl Check {
    pub const ALL: [Self; 31] = [
        Self::PaidTwice,
        Self::SeveralSessions,
        Self::UnknownSession,
        Self::UnknownPayout,
        Self::PaidMoreThanAsked,
        Self::ConfirmWithoutPermit,
        Self::PermitAltered,
        Self::PermitUndecided,
        Self::EffectUnpermitted,
        Self::DestinationAltered,
        Self::PaidButUnpaidHere,
        Self::UnpaidButPaidHere,
        Self::OtherAmount,
        Self::OtherMetadata,
        Self::PaidForNobody,
        Self::EndedAtPike,
        Self::RecipientTotal,
        Self::HistoryGap,
        Self::StateUntold,
        Self::NotificationGap,
        Self::NoDueTime,
        Self::Overdue,
        Self::EffectAbandoned,
        Self::EffectAfterEnd,
        Self::WebhookWaiting,
        Self::NotificationWaiting,
        Self::ImpossibleRow,
        Self::ReportMissing,
        Self::ReportExtra,
        Self::ReportAmount,
        Self::ReportTwice,
    ];

    /// Those that come from comparing Pike's report with our books, which a person begins. The checker in the
    /// background neither finds them nor forgets them.
    pub const OF_REPORTS: [Self; 4] =
        [Self::ReportMissing, Self::ReportExtra, Self::ReportAmount, Self::ReportTwice];

    /// Whether one is enough to stop the project's confirms: money moved, or may move, as nobody decided, or
    /// what decides about it was altered.
    #[must_use]
    pub fn stops_the_line(self) -> bool {
        match self {
            Self::PaidTwice
            | Self::SeveralSessions
            | Self::UnknownSession
            | Self::UnknownPayout
            | Self::PaidMoreThanAsked
            | Self::ConfirmWithoutPermit
            | Self::PermitAltered
            | Self::PermitUndecided
            | Self::EffectUnpermitted
            | Self::DestinationAltered
            | Self::PaidButUnpaidHere
            | Self::OtherAmount
            | Self::ReportExtra
            | Self::ReportAmount
            | Self::ReportTwice => true,
            // Money of a session without our metadata may be somebody else's, who uses the same Pike project.
            Self::PaidForNobody
            | Self::UnpaidButPaidHere
            | Self::OtherMetadata
            | Self::EndedAtPike
            | Self::RecipientTotal
            | Self::HistoryGap
            | Self::StateUntold
            | Self::NotificationGap
            | Self::NoDueTime
            | Self::Overdue
            | Self::EffectAbandoned
            | Self::EffectAfterEnd
            | Self::WebhookWaiting
            | Self::NotificationWaiting
            | Self::ImpossibleRow
            // Nobody has too much, and a part of the report may be on its way.
            | Self::ReportMissing => false,
        }
    }
}

/// Something that is not as promised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub check: Check,
    pub project: ProjectId,
    /// The payout it is about, if there is one.
    pub payout: Option<PayoutId>,
    /// What it is about in one word; with the check's name, what makes a finding the same one again.
    pub subject: String,
    pub words: String,
}

/// The newest thing that Pike told about a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Newest {
    Working,
    /// It waits for our word.
    Ready,
    Paid,
    Returned,
    /// Closed without payment.
    Unpaid,
    Error,
    Unreadable,
}

impl Newest {
    /// Of two things told of the same instant, the later one here is taken: what is final outlasts what is
    /// not, and money what is without.
    pub const IN_ORDER: [Self; 7] =
        [Self::Unreadable, Self::Working, Self::Ready, Self::Error, Self::Unpaid, Self::Paid, Self::Returned];
}

/// What one webhook told about its session, whatever we hold of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub tag: Option<String>,
    /// The payout that the tag names.
    pub names: Option<PayoutId>,
    pub payouts: usize,
    pub amount_minor: Option<i64>,
    pub currency: Option<String>,
    pub newest: Newest,
    pub paid_payouts: usize,
    pub paid_minor: i64,
}

impl Told {
    #[must_use]
    pub fn of(report: &SessionReport) -> Self {
        let tag = tag(report).map(str::to_owned);
        let first = report.payouts.first();
        let closed = report.status == SessionStatus::Accepted;
        let paid: Vec<&PayoutReport> = report
            .payouts
            .iter()
            .filter(|payout| closed && payout.status == PayoutStatus::Succeeded)
            .collect();
        Self {
            names: tag.as_deref().and_then(named),
            payouts: report.payouts.len(),
            amount_minor: first.and_then(|payout| payout.amount_minor),
            currency: first.and_then(|payout| payout.currency.as_ref()).map(|code| code.to_ascii_uppercase()),
            newest: newest(report, &paid),
            paid_payouts: paid.len(),
            // Wide enough for what one session can hold; an absurd sum stays absurd.
            paid_minor: paid.iter().filter_map(|payout| payout.amount_minor).fold(0, i64::saturating_add),
            tag,
        }
    }
}

fn newest(report: &SessionReport, paid: &[&PayoutReport]) -> Newest {
    let failed = report.payouts.iter().all(|payout| payout.status == PayoutStatus::Failed);
    match &report.status {
        SessionStatus::Created | SessionStatus::InProgress if report.awaits_confirm => Newest::Ready,
        SessionStatus::Created | SessionStatus::InProgress => Newest::Working,
        SessionStatus::Error => Newest::Error,
        SessionStatus::Cancelled if failed => Newest::Unpaid,
        SessionStatus::Accepted if !paid.is_empty() && paid.iter().all(|payout| payout.returned) => {
            Newest::Returned
        }
        SessionStatus::Accepted if !paid.is_empty() => Newest::Paid,
        SessionStatus::Accepted if failed && !report.payouts.is_empty() => Newest::Unpaid,
        SessionStatus::Accepted | SessionStatus::Cancelled | SessionStatus::Other(_) => Newest::Unreadable,
    }
}

fn tag(report: &SessionReport) -> Option<&str> {
    report.payouts.iter().find_map(|payout| payout.metadata.as_deref())
}

/// The payout that a report names, whether or not we have one of that name. Webhooks are known by it for
/// ever (`store::inbox`): were another one found in the same bytes, their replay would be new.
#[must_use]
pub fn names(report: &SessionReport) -> Option<PayoutId> {
    tag(report).and_then(named)
}

/// The payout that a metadata tag names: its id, a slash, and the number of the attempt.
pub(super) fn named(tag: &str) -> Option<PayoutId> {
    let (id, attempt) = tag.split_once('/')?;
    attempt.parse::<i32>().ok()?;
    id.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{id::SessionId, provider::ProviderFacts};

    /// Stopping a project's confirms for a gap in a history would cost more than the gap.
    #[test]
    fn what_is_about_money_stops_the_line_and_nothing_else_does() {
        let stopping = Check::ALL.into_iter().filter(|check| check.stops_the_line());
        let expected = [
            Check::PaidTwice,
            Check::SeveralSessions,
            Check::UnknownSession,
            Check::UnknownPayout,
            Check::PaidMoreThanAsked,
            Check::ConfirmWithoutPermit,
            Check::PermitAltered,
            Check::PermitUndecided,
            Check::EffectUnpermitted,
            Check::DestinationAltered,
            Check::PaidButUnpaidHere,
            Check::OtherAmount,
            Check::ReportExtra,
            Check::ReportAmount,
            Check::ReportTwice,
        ];
        assert!(stopping.eq(expected));
    }

    const TAG: &str = "payout_00000000000000000123456789abcdef/1";

    fn report(status: SessionStatus, payout: PayoutStatus, returned: bool) -> SessionReport {
        let payout = PayoutReport {
            status: payout,
            amount_minor: Some(500),
            currency: Some("rub".into()),
            metadata: Some(TAG.into()),
            returned,
            facts: ProviderFacts::default(),
        };
        SessionReport {
            session: SessionId("ps_1".into()),
            status,
            awaits_confirm: false,
            payouts: vec![payout],
            error: None,
            updated_at: None,
        }
    }

    #[test]
    fn what_is_told_is_read_without_knowing_the_payout() {
        let told = Told::of(&report(SessionStatus::Accepted, PayoutStatus::Succeeded, false));
        assert_eq!((told.newest, told.paid_payouts, told.paid_minor), (Newest::Paid, 1, 500));
        assert_eq!(told.names.map(|id| format!("{id}/1")).as_deref(), Some(TAG));
        assert_eq!(told.currency.as_deref(), Some("RUB"));
        let cases = [
            (SessionStatus::Accepted, PayoutStatus::Succeeded, true, Newest::Returned),
            (SessionStatus::Accepted, PayoutStatus::Failed, false, Newest::Unpaid),
            (SessionStatus::Cancelled, PayoutStatus::Failed, false, Newest::Unpaid),
            (SessionStatus::Cancelled, PayoutStatus::Succeeded, false, Newest::Unreadable),
            (SessionStatus::Accepted, PayoutStatus::Pending, false, Newest::Unreadable),
            (SessionStatus::InProgress, PayoutStatus::Succeeded, false, Newest::Working),
            (SessionStatus::Error, PayoutStatus::Failed, false, Newest::Error),
        ];
        for (status, payout, returned, newest) in cases {
            assert_eq!(Told::of(&report(status.clone(), payout, returned)).newest, newest, "{status:?}");
        }
        let waiting = SessionReport {
            awaits_confirm: true,
            ..report(SessionStatus::InProgress, PayoutStatus::Pending, false)
        };
        assert_eq!(Told::of(&waiting).newest, Newest::Ready);
    }

    #[test]
    fn only_a_tag_of_ours_names_a_payout() {
        assert!(named(TAG).is_some());
        for other in ["payout_00000000000000000123456789abcdef", "order 17/1", "/1", &format!("{TAG}x"), ""] {
            assert_eq!(named(other), None, "{other}");
        }
    }

    #[test]
    fn every_check_is_listed_once() {
        let listed: std::collections::BTreeSet<Check> = Check::ALL.into_iter().collect();
        assert_eq!(listed.len(), Check::ALL.len());
    }
}
