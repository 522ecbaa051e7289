//! What Pike knows of a session: plain data with its derived statuses. What may follow what is `machine`'s
//! business, how it looks on the wire is `view`'s.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::code::Code;
use super::machine::WebhookKind;
use super::magic::{Magic, Script};
use super::scalars::{Amount, At, Digest, PayoutId, SessionId};
use super::tokens::Mark;

/// The two dialects of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Version {
    V1,
    V2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionStatus {
    Created,
    InProgress,
    Accepted,
    Cancelled,
    Error,
}

/// A look of the past that a lagging reader shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shows {
    /// Not started.
    Created,
    /// Started, nothing to confirm.
    InProgress,
    /// Waiting for a confirm.
    Pending,
}

impl SessionStatus {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::InProgress => "in_progress",
            Self::Accepted => "accepted",
            Self::Cancelled => "cancelled",
            Self::Error => "error",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PayoutStatus {
    InProgress,
    Pending,
    Succeeded,
    Failed,
}

impl PayoutStatus {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Pending => "pending",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }
}

/// A destination as it is shown: masked. The number or token is not kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    pub brand: Box<str>,
    pub bin: Box<str>,
    pub last4: Box<str>,
    pub card_id: Digest,
    pub country_iso3: Box<str>,
}

/// Where a payout goes: the card, and the story its token tells.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Destination {
    pub magic: Magic,
    pub card: Card,
    /// The recurrent token that named it: it may be disabled before it is paid to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recurrent: Option<Mark>,
}

/// What a create or a start brings along. All of it may be missing; a start completes what create left out.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Order {
    pub destination: Option<Destination>,
    pub amount: Option<Amount>,
    /// The caller's JSON, verbatim, as are the next two.
    pub participants: Option<Box<RawValue>>,
    pub customer: Option<Box<RawValue>>,
    pub metadata: Option<Box<RawValue>>,
}

impl Order {
    /// `self` with its gaps filled from `earlier`: what is said later counts.
    #[must_use]
    pub fn over(self, earlier: &Self) -> Self {
        Self {
            destination: self.destination.or_else(|| earlier.destination.clone()),
            amount: self.amount.or_else(|| earlier.amount.clone()),
            participants: self.participants.or_else(|| earlier.participants.clone()),
            customer: self.customer.or_else(|| earlier.customer.clone()),
            metadata: self.metadata.or_else(|| earlier.metadata.clone()),
        }
    }
}

/// Where a payout stands. Each open stage waits for `Payout::due`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Started; Pike is getting ready.
    Preparing,
    /// Waits for confirm or cancel; due is the end of the window.
    AwaitingConfirm,
    /// Confirmed; the outcome is on its way.
    Settling,
    /// Cancelled by the partner; takes effect when due.
    Cancelling,
    /// Shown as failed in a session in `error`; resolved when due.
    Doubtful {
        since: At,
    },
    Failed {
        at: At,
        code: Code,
    },
    Paid {
        at: At,
        returned: Option<At>,
    },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Payout {
    pub id: PayoutId,
    pub stage: Stage,
    /// When the stage ends by itself.
    pub due: Option<At>,
    pub created_at: At,
    pub destination: Destination,
    pub amount: Amount,
    pub participants: Option<Box<RawValue>>,
    pub customer: Option<Box<RawValue>>,
    pub metadata: Option<Box<RawValue>>,
}

impl Payout {
    #[must_use]
    pub fn script(&self) -> Script {
        self.destination.magic.script()
    }

    #[must_use]
    pub fn status(&self) -> PayoutStatus {
        match self.stage {
            Stage::Preparing | Stage::Settling => PayoutStatus::InProgress,
            // A cancel is asynchronous: until it takes effect the payout shows as before.
            Stage::AwaitingConfirm | Stage::Cancelling => PayoutStatus::Pending,
            Stage::Doubtful { .. } | Stage::Failed { .. } => PayoutStatus::Failed,
            Stage::Paid { .. } => PayoutStatus::Succeeded,
        }
    }

    #[must_use]
    pub fn finished_at(&self) -> Option<At> {
        match self.stage {
            Stage::Preparing | Stage::AwaitingConfirm | Stage::Settling | Stage::Cancelling => None,
            Stage::Doubtful { since: at } | Stage::Failed { at, .. } | Stage::Paid { at, .. } => Some(at),
        }
    }

    #[must_use]
    pub fn error(&self) -> Option<Code> {
        match self.stage {
            Stage::Doubtful { .. } => Some(Code::ProviderTimeout),
            Stage::Failed { code, .. } => Some(code),
            Stage::Preparing
            | Stage::AwaitingConfirm
            | Stage::Settling
            | Stage::Cancelling
            | Stage::Paid { .. } => None,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Session {
    pub id: SessionId,
    pub project: Box<str>,
    /// That of the call which started it, or created it when nothing did; webhooks speak it.
    pub version: Version,
    pub status: SessionStatus,
    pub created_at: At,
    pub updated_at: At,
    pub error: Option<Code>,
    /// What create said; later starts build on it.
    pub draft: Order,
    pub payouts: Vec<Payout>,
    /// When the cancel of a session without a payout takes effect.
    pub cancel_due: Option<At>,
    /// The fault of its destination has struck; it does not again.
    #[serde(default, alias = "start_broke")]
    pub struck: bool,
}

impl Session {
    #[must_use]
    pub fn created(id: SessionId, project: &str, version: Version, draft: Order, now: At) -> Self {
        Self {
            id,
            project: project.into(),
            version,
            status: SessionStatus::Created,
            created_at: now,
            updated_at: now,
            error: None,
            draft,
            payouts: Vec::new(),
            cancel_due: None,
            struck: false,
        }
    }

    /// Pike waits for a confirm or a cancel.
    #[must_use]
    pub fn awaits_confirm(&self) -> bool {
        self.payouts.iter().any(|payout| payout.stage == Stage::AwaitingConfirm)
    }

    /// The session as it may have looked earlier: how a reader is served by a copy that lags.
    #[must_use]
    pub fn as_it_was(&self, shows: Shows) -> Self {
        let mut past = self.clone();
        past.error = None;
        past.updated_at = past.created_at;
        let stage = match shows {
            Shows::Created => {
                past.status = SessionStatus::Created;
                past.payouts.clear();
                return past;
            }
            Shows::InProgress => Stage::Preparing,
            Shows::Pending => Stage::AwaitingConfirm,
        };
        past.status = SessionStatus::InProgress;
        past.payouts.iter_mut().for_each(|payout| payout.stage = stage);
        past
    }

    /// One step back from what is.
    #[must_use]
    pub fn step_back(&self) -> Shows {
        match self.payouts.last().map(|payout| payout.stage) {
            None | Some(Stage::Preparing) => Shows::Created,
            Some(Stage::AwaitingConfirm) => Shows::InProgress,
            Some(Stage::Settling | Stage::Cancelling) => Shows::Pending,
            Some(Stage::Doubtful { .. } | Stage::Failed { .. } | Stage::Paid { .. }) => Shows::InProgress,
        }
    }

    /// The webhook that its state calls for.
    #[must_use]
    pub fn news(&self) -> Option<WebhookKind> {
        match self.payouts.last().map(|payout| payout.stage) {
            Some(Stage::AwaitingConfirm) => Some(WebhookKind::ReadyToConfirm),
            Some(Stage::Paid { returned: Some(_), .. }) => Some(WebhookKind::PaymentRefunded),
            Some(Stage::Doubtful { .. } | Stage::Failed { .. } | Stage::Paid { returned: None, .. }) => {
                Some(WebhookKind::PaymentFinished)
            }
            Some(Stage::Preparing | Stage::Settling | Stage::Cancelling) => None,
            None => (self.status == SessionStatus::Cancelled).then_some(WebhookKind::PaymentFinished),
        }
    }

    /// A payout was started in it.
    #[must_use]
    pub fn was_started(&self) -> bool {
        !self.payouts.is_empty()
    }

    /// It has ended, one way or the other.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self.status, SessionStatus::Accepted | SessionStatus::Cancelled)
    }

    /// When something happens by itself next.
    #[must_use]
    pub fn next_due(&self) -> Option<At> {
        self.payouts.iter().filter_map(|payout| payout.due).chain(self.cancel_due).min()
    }
}
