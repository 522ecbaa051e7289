//! Our enums as stored text, both ways, exhaustively. A stored string is never renamed, only added.

use crate::domain::{
    checking::{Check, Newest},
    decide::Reason,
    effect::EffectKind,
    environment::Environment,
    payout::{Anomaly, DestinationKind, PastEnd},
    permit::PermitKind,
    report::LineKind,
    rules::RuleOutcome,
    state::{HoldCause, Status},
};

/// Text that is stored for a value.
pub trait Code: Sized {
    fn code(&self) -> &'static str;
    fn from_code(code: &str) -> Option<Self>;
}

macro_rules! codes {
    ($type:ty { $($variant:ident => $code:literal),+ $(,)? }) => {
        impl Code for $type {
            fn code(&self) -> &'static str {
                match self { $(Self::$variant => $code),+ }
            }

            fn from_code(code: &str) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

codes!(DestinationKind {
    TokenizedCard => "tokenized_card",
    EncryptedCard => "encrypted_card",
    Recurrent => "recurrent",
});

codes!(Status {
    Accepted => "accepted",
    Processing => "processing",
    OnHold => "on_hold",
    Unknown => "unknown",
    Succeeded => "succeeded",
    Failed => "failed",
    Cancelled => "cancelled",
    Returned => "returned",
});

codes!(Environment { Live => "live", Demo => "demo", Elsewhere => "elsewhere" });

codes!(HoldCause { Approval => "approval", Switch => "switch" });

codes!(PermitKind { Confirm => "confirm", Cancel => "cancel" });

codes!(EffectKind {
    CreateSession => "create_session",
    StartPayout => "start_payout",
    Confirm => "confirm",
    Cancel => "cancel",
    ReadStatus => "read_status",
});

codes!(RuleOutcome { Confirm => "confirm", Cancel => "cancel", Hold => "hold", Wait => "wait" });

codes!(Anomaly {
    OtherSession => "other_session",
    SeveralPayouts => "several_payouts",
    OtherAmount => "other_amount",
    OtherMetadata => "other_metadata",
    PaidWithoutPermit => "paid_without_permit",
    PaidAfterFinal => "paid_after_final",
    FailedAfterPaid => "failed_after_paid",
    Contradiction => "contradiction",
    PermitAltered => "permit_altered",
    PermitOutdated => "permit_outdated",
    SessionUnknown => "session_unknown",
    StatusUnknown => "status_unknown",
    OldSessionPaid => "old_session_paid",
    PaidTwice => "paid_twice",
    AttemptUnsure => "attempt_unsure",
});

codes!(Check {
    PaidTwice => "paid_twice",
    SeveralSessions => "several_sessions",
    UnknownSession => "unknown_session",
    UnknownPayout => "unknown_payout",
    PaidMoreThanAsked => "paid_more_than_asked",
    ConfirmWithoutPermit => "confirm_without_permit",
    PermitAltered => "permit_altered",
    PermitUndecided => "permit_undecided",
    EffectUnpermitted => "effect_unpermitted",
    DestinationAltered => "destination_altered",
    PaidButUnpaidHere => "paid_but_unpaid_here",
    UnpaidButPaidHere => "unpaid_but_paid_here",
    OtherAmount => "other_amount",
    OtherMetadata => "other_metadata",
    PaidForNobody => "paid_for_nobody",
    EndedAtPike => "ended_at_pike",
    RecipientTotal => "recipient_total",
    HistoryGap => "history_gap",
    StateUntold => "state_untold",
    NotificationGap => "notification_gap",
    NoDueTime => "no_due_time",
    Overdue => "overdue",
    EffectAbandoned => "effect_abandoned",
    EffectAfterEnd => "effect_after_end",
    WebhookWaiting => "webhook_waiting",
    NotificationWaiting => "notification_waiting",
    ImpossibleRow => "impossible_row",
    ReportMissing => "report_missing",
    ReportExtra => "report_extra",
    ReportAmount => "report_amount",
    ReportTwice => "report_twice",
});

codes!(Newest {
    Working => "working",
    Ready => "ready",
    Paid => "paid",
    Returned => "returned",
    Unpaid => "unpaid",
    Error => "error",
    Unreadable => "unreadable",
});

codes!(PastEnd { Unpaid => "unpaid", Paid => "paid", Returned => "returned" });

codes!(LineKind { Paid => "paid", Returned => "returned" });

codes!(Reason {
    SessionCreated => "session_created",
    StartAccepted => "start_accepted",
    StartUnknown => "start_unknown",
    StartRefused => "start_refused",
    StartResent => "start_resent",
    StartUnresolved => "start_unresolved",
    RulesConfirm => "rules_confirm",
    RulesCancel => "rules_cancel",
    RulesHold => "rules_hold",
    WaitsForSwitch => "waits_for_switch",
    Approved => "approved",
    Rejected => "rejected",
    CancelRequested => "cancel_requested",
    HoldExpired => "hold_expired",
    ConfirmAccepted => "confirm_accepted",
    ConfirmUnknown => "confirm_unknown",
    ConfirmResent => "confirm_resent",
    PermitStale => "permit_stale",
    CancelAccepted => "cancel_accepted",
    CancelUnknown => "cancel_unknown",
    CancelResent => "cancel_resent",
    Paid => "paid",
    Returned => "returned",
    NotPaid => "not_paid",
    SessionError => "session_error",
    Contradicted => "contradicted",
    NothingNew => "nothing_new",
    Overtaken => "overtaken",
    Stale => "stale",
    OrphanSession => "orphan_session",
    Unreadable => "unreadable",
    Flagged => "flagged",
    FactsLearned => "facts_learned",
    ApprovalRefused => "approval_refused",
    FlagCleared => "flag_cleared",
    RetryPlanned => "retry_planned",
    NextAttempt => "next_attempt",
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_come_back() {
        assert!(EffectKind::ALL.iter().all(|kind| EffectKind::from_code(kind.code()) == Some(*kind)));
        assert!(Status::ALL.iter().all(|status| Status::from_code(status.code()) == Some(*status)));
        assert!(Check::ALL.iter().all(|check| Check::from_code(check.code()) == Some(*check)));
        assert!(Anomaly::ALL.iter().all(|anomaly| Anomaly::from_code(anomaly.code()) == Some(*anomaly)));
        assert_eq!(Anomaly::from_code("no such thing"), None);
    }
}
