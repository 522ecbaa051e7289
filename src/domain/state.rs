//! What a payout can be. Each variant carries what must be known in it; what callers see is the coarser
//! [`Status`], which stays stable while the inner states may grow.

use super::id::SessionId;
use time::OffsetDateTime;

/// The inner state of a payout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Stored; Pike knows nothing yet.
    Accepted,
    /// Pike gave us a session; the start is on its way.
    Starting { session: SessionId },
    /// The start's outcome is unknown.
    StartUnknown { session: SessionId },
    /// Pike works on it and will ask whether to go on.
    Processing { session: SessionId },
    /// Pike waits for our word, we wait for a person or a switch.
    OnHold { session: SessionId, until: OffsetDateTime, cause: HoldCause },
    /// Permitted; the confirm is on its way.
    Confirming { session: SessionId },
    /// The confirm's outcome is unknown.
    ConfirmUnknown { session: SessionId },
    /// Pike accepted the confirm and moves the money.
    Settling { session: SessionId },
    /// Forbidden; the cancel is on its way.
    Cancelling { session: SessionId, cause: CancelCause },
    /// The cancel's outcome is unknown.
    CancelUnknown { session: SessionId, cause: CancelCause },
    /// Pike accepted the cancel and closes the session.
    CancelSent { session: SessionId, cause: CancelCause },
    /// Pike's session is in `error`: the result is unknown, at Pike too. `cause` is set if we had cancelled.
    Unknown { session: SessionId, cause: Option<CancelCause> },
    /// Pike closed the session unpaid, with a code after which the payout may be tried again in a new one:
    /// not before `at`, and not before Pike has shown the same once more.
    Retrying { session: SessionId, code: String, at: OffsetDateTime },
    /// Final: paid.
    Succeeded { session: SessionId },
    /// Final: paid, and later returned.
    Returned { session: SessionId },
    /// Final: not paid, against our will.
    Failed { session: SessionId, code: String },
    /// Final: not paid, by decision.
    Cancelled { session: Option<SessionId>, cause: CancelCause },
}

/// How a payout ended, with why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending<'a> {
    Succeeded,
    Returned,
    /// Pike's code.
    Failed(&'a str),
    Cancelled(&'a CancelCause),
}

/// What a payout on hold waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HoldCause {
    /// A person's approval.
    Approval,
    /// Confirms to be switched on again.
    Switch,
}

/// Why a payout was cancelled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CancelCause {
    /// The caller asked for it.
    Requested,
    /// The rules forbid the payout.
    Rules,
    /// A person rejected it.
    Rejected,
    /// Nobody answered in time.
    HoldExpired,
    /// What Pike shows is not what was asked.
    Mismatch,
    /// Pike refused the start for good; the session is closed behind it.
    StartRefused { code: String },
    /// The start's outcome stayed unknown; the session is closed unpaid.
    StartUnresolved,
}

/// What callers see. Never renamed, only added to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    Accepted,
    Processing,
    OnHold,
    Unknown,
    Succeeded,
    Failed,
    Cancelled,
    Returned,
}

impl Status {
    pub const ALL: [Self; 8] = [
        Self::Accepted,
        Self::Processing,
        Self::OnHold,
        Self::Unknown,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::Returned,
    ];
}

impl State {
    /// How it ended; `None` while something is still expected.
    #[must_use]
    pub fn ending(&self) -> Option<Ending<'_>> {
        match self {
            Self::Succeeded { .. } => Some(Ending::Succeeded),
            Self::Returned { .. } => Some(Ending::Returned),
            Self::Failed { code, .. } => Some(Ending::Failed(code)),
            Self::Cancelled { cause, .. } => Some(Ending::Cancelled(cause)),
            Self::Accepted
            | Self::Starting { .. }
            | Self::StartUnknown { .. }
            | Self::Processing { .. }
            | Self::OnHold { .. }
            | Self::Confirming { .. }
            | Self::ConfirmUnknown { .. }
            | Self::Settling { .. }
            | Self::Cancelling { .. }
            | Self::CancelUnknown { .. }
            | Self::CancelSent { .. }
            | Self::Unknown { .. }
            | Self::Retrying { .. } => None,
        }
    }

    /// Nothing more is expected of Pike. A later contradiction is still recorded.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.ending().is_some()
    }

    /// Final and provably without money moved.
    #[must_use]
    pub fn is_unpaid(&self) -> bool {
        matches!(self, Self::Failed { .. } | Self::Cancelled { .. })
    }

    /// Whatever was permitted in this session, nothing of it can be paid any more: what a reservation under a
    /// limit waits for.
    #[must_use]
    pub fn is_closed_unpaid(&self) -> bool {
        self.is_unpaid() || matches!(self, Self::Retrying { .. })
    }

    #[must_use]
    pub fn session(&self) -> Option<&SessionId> {
        match self {
            Self::Accepted => None,
            Self::Cancelled { session, .. } => session.as_ref(),
            Self::Starting { session }
            | Self::StartUnknown { session }
            | Self::Processing { session }
            | Self::OnHold { session, .. }
            | Self::Confirming { session }
            | Self::ConfirmUnknown { session }
            | Self::Settling { session }
            | Self::Cancelling { session, .. }
            | Self::CancelUnknown { session, .. }
            | Self::CancelSent { session, .. }
            | Self::Unknown { session, .. }
            | Self::Retrying { session, .. }
            | Self::Succeeded { session }
            | Self::Returned { session }
            | Self::Failed { session, .. } => Some(session),
        }
    }

    #[must_use]
    pub fn hold_until(&self) -> Option<OffsetDateTime> {
        if let Self::OnHold { until, .. } = self { Some(*until) } else { None }
    }

    /// When a payout that is to be tried again may be, at the earliest.
    #[must_use]
    pub fn retry_at(&self) -> Option<OffsetDateTime> {
        if let Self::Retrying { at, .. } = self { Some(*at) } else { None }
    }

    #[must_use]
    pub fn cancel_cause(&self) -> Option<&CancelCause> {
        if let Self::Cancelling { cause, .. }
        | Self::CancelUnknown { cause, .. }
        | Self::CancelSent { cause, .. }
        | Self::Cancelled { cause, .. } = self
        {
            Some(cause)
        } else if let Self::Unknown { cause, .. } = self {
            cause.as_ref()
        } else {
            None
        }
    }

    /// Whether `next` continues what we are doing now, so that waiting times count on.
    #[must_use]
    pub fn same_phase(&self, next: &Self) -> bool {
        let confirming = |s: &Self| matches!(s, Self::Confirming { .. } | Self::ConfirmUnknown { .. });
        let cancelling = |s: &Self| matches!(s, Self::Cancelling { .. } | Self::CancelUnknown { .. });
        std::mem::discriminant(self) == std::mem::discriminant(next)
            || (confirming(self) && confirming(next))
            || (cancelling(self) && cancelling(next))
    }

    /// What callers see. A flagged payout that is not final is *unknown*: a person has to look at it.
    #[must_use]
    pub fn status(&self, flagged: bool) -> Status {
        if flagged && !self.is_final() {
            return Status::Unknown;
        }
        match self {
            Self::Accepted => Status::Accepted,
            Self::OnHold { .. } => Status::OnHold,
            Self::Starting { .. }
            | Self::Processing { .. }
            | Self::Confirming { .. }
            | Self::Settling { .. }
            | Self::Cancelling { .. }
            | Self::CancelUnknown { .. }
            | Self::CancelSent { .. }
            | Self::Retrying { .. } => Status::Processing,
            // Whether the payout was started, or the money is moving, is not known now.
            Self::StartUnknown { .. } | Self::ConfirmUnknown { .. } | Self::Unknown { .. } => Status::Unknown,
            Self::Succeeded { .. } => Status::Succeeded,
            Self::Returned { .. } => Status::Returned,
            Self::Failed { .. } => Status::Failed,
            Self::Cancelled { .. } => Status::Cancelled,
        }
    }
}

impl CancelCause {
    /// A stable code for callers.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Requested => "requested",
            Self::Rules => "rules",
            Self::Rejected => "rejected",
            Self::HoldExpired => "hold_expired",
            Self::Mismatch => "mismatch",
            Self::StartRefused { code } => code,
            Self::StartUnresolved => "start_unresolved",
        }
    }
}

#[cfg(test)]
mod tests;
