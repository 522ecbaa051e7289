//! A Pike of a few lines: sessions that start, wait for a confirm, pay, fail, err and expire. It refuses what
//! the real one is documented to refuse, and what it paid and was asked is the truth that histories are
//! judged by.

use crate::{rng::Rng, terms};
use payoutd::domain::{
    event::Outcome,
    id::SessionId,
    payout::Payout,
    provider::{ProviderError, ProviderFacts},
    session::{PayoutReport, PayoutStatus, SessionReport, SessionStatus},
};
use std::collections::BTreeSet;
use time::{Duration, OffsetDateTime};

/// How long Pike waits for a confirm.
pub const WINDOW: Duration = Duration::minutes(240);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Created,
    Working,
    Awaiting,
    /// Confirmed: the money is moving.
    Settling,
    /// A cancel was taken and is being carried out.
    Closing,
    /// Pike's support has to settle it; confirmed or not.
    Error {
        confirmed: bool,
    },
    Accepted,
    Cancelled,
}

impl Stage {
    pub fn is_final(self) -> bool {
        matches!(self, Self::Accepted | Self::Cancelled)
    }
}

#[derive(Clone, Debug)]
pub struct Session {
    pub id: SessionId,
    pub stage: Stage,
    /// The amount of every payout in it.
    pub payouts: Vec<i64>,
    pub paid: bool,
    pub returned: bool,
    /// It was paid after it had been closed unpaid: Pike's own word broken, and not ours to prevent.
    pub reopened: bool,
    /// Metadata as received with the start.
    tag: String,
    /// Pike closed it for a reason that may pass.
    passes: bool,
    /// It has asked for a confirm at least once.
    pub asked: bool,
    asking_since: OffsetDateTime,
}

/// What differs between one Pike and another.
#[derive(Clone, Copy, Debug)]
pub struct Manners {
    /// A second start adds a second payout instead of being refused.
    pub second_start_adds: bool,
    /// A start's key is honoured: whatever became of the first, a second one is refused.
    pub keys: bool,
    /// A cancel is taken while Pike still works.
    pub early_cancel: bool,
    /// Pike gets amounts wrong.
    pub misreads: bool,
    /// Pike tells why it closed a session.
    pub tells_why: bool,
}

#[derive(Debug)]
pub struct Pike {
    pub manners: Manners,
    pub sessions: Vec<Session>,
    /// Keys of starts: one for each attempt.
    keys: BTreeSet<String>,
}

fn refused(code: &str) -> Outcome {
    Outcome::Unknown(ProviderError { code: code.to_owned(), description: String::new() })
}

fn wrong_state() -> Outcome {
    refused("session_wrong_state")
}

impl Pike {
    pub fn new(manners: Manners) -> Self {
        Self { manners, sessions: vec![], keys: BTreeSet::new() }
    }

    pub fn session(&self, id: &SessionId) -> Option<&Session> {
        self.sessions.iter().find(|session| session.id == *id)
    }

    /// Payouts that were paid, over all sessions that it did not reopen.
    pub fn paid(&self) -> usize {
        let paid = |session: &&Session| session.paid && !session.reopened;
        self.sessions.iter().filter(paid).map(|session| session.payouts.len()).sum()
    }

    /// Payouts that were started and not closed unpaid, over all sessions.
    pub fn alive(&self) -> usize {
        let alive = |session: &&Session| (session.paid && !session.reopened) || !session.stage.is_final();
        self.sessions.iter().filter(alive).map(|session| session.payouts.len()).sum()
    }

    pub fn create(&mut self, now: OffsetDateTime) -> Outcome {
        let session = Session {
            id: SessionId(format!("ps_{}", self.sessions.len())),
            stage: Stage::Created,
            payouts: vec![],
            paid: false,
            returned: false,
            reopened: false,
            tag: String::new(),
            passes: false,
            asked: false,
            asking_since: now,
        };
        self.sessions.push(session);
        Outcome::Accepted(self.report(self.sessions.len() - 1))
    }

    pub fn start(&mut self, id: &SessionId, minor: i64, tag: &str, rng: &mut Rng) -> Outcome {
        let Some(at) = self.at(id) else { return refused("session_not_found") };
        if self.manners.keys && !self.keys.insert(tag.to_owned()) {
            return refused("idempotency_key_already_exists");
        }
        let before = self.report(at);
        let (manners, session) = (self.manners, &mut self.sessions[at]);
        let open = match session.stage {
            Stage::Created => true,
            Stage::Working | Stage::Awaiting | Stage::Settling => manners.second_start_adds,
            Stage::Closing | Stage::Error { .. } | Stage::Accepted | Stage::Cancelled => false,
        };
        if !open {
            return wrong_state();
        }
        if session.stage == Stage::Created {
            if rng.percent(5) {
                let code = terms::REFUSED.to_owned();
                return Outcome::Declined(ProviderError { code, description: String::new() });
            }
            session.stage = Stage::Working;
        }
        let off_by = i64::from(manners.misreads && rng.percent(50));
        session.payouts.push(minor + off_by);
        tag.clone_into(&mut session.tag);
        Outcome::Accepted(if rng.percent(10) { before } else { self.report(at) })
    }

    /// Says yes to a start and does nothing.
    pub fn promise(&self, id: &SessionId, rng: &mut Rng) -> Outcome {
        let Some(at) = self.at(id) else { return refused("session_not_found") };
        let mut report = self.report(at);
        if rng.percent(50) {
            report.status = SessionStatus::Other("strange".to_owned());
        }
        Outcome::Accepted(report)
    }

    /// Answers with the picture from before or after: both are documented.
    pub fn confirm(&mut self, id: &SessionId, rng: &mut Rng) -> Outcome {
        self.word(id, rng, |stage, _| (stage == Stage::Awaiting).then_some(Stage::Settling))
    }

    pub fn cancel(&mut self, id: &SessionId, rng: &mut Rng) -> Outcome {
        self.word(id, rng, |stage, manners| match stage {
            Stage::Created => Some(Stage::Cancelled),
            Stage::Awaiting => Some(Stage::Closing),
            Stage::Working if manners.early_cancel => Some(Stage::Closing),
            Stage::Working
            | Stage::Settling
            | Stage::Closing
            | Stage::Error { .. }
            | Stage::Accepted
            | Stage::Cancelled => None,
        })
    }

    fn word(
        &mut self,
        id: &SessionId,
        rng: &mut Rng,
        next: impl Fn(Stage, Manners) -> Option<Stage>,
    ) -> Outcome {
        let Some(at) = self.at(id) else { return refused("session_not_found") };
        let before = self.report(at);
        let Some(stage) = next(self.sessions[at].stage, self.manners) else { return wrong_state() };
        self.sessions[at].stage = stage;
        Outcome::Accepted(if rng.percent(50) { before } else { self.report(at) })
    }

    pub fn status(&self, id: &SessionId) -> Outcome {
        self.at(id).map_or_else(|| refused("session_not_found"), |at| Outcome::Accepted(self.report(at)))
    }

    fn at(&self, id: &SessionId) -> Option<usize> {
        self.sessions.iter().position(|session| session.id == *id)
    }

    /// Lets a session go on by itself; the webhook about it, if it is worth one.
    pub fn proceed(&mut self, at: usize, now: OffsetDateTime, rng: &mut Rng) -> Option<SessionReport> {
        let session = &mut self.sessions[at];
        let dice = rng.below(100);
        let next = match session.stage {
            Stage::Working if dice < 80 => Stage::Awaiting,
            Stage::Working if dice < 90 => Stage::Error { confirmed: false },
            Stage::Working | Stage::Closing if dice < 95 => Stage::Cancelled,
            Stage::Working | Stage::Closing => Stage::Error { confirmed: false },
            Stage::Settling if dice < 60 => Stage::Accepted,
            Stage::Settling if dice < 85 => Stage::Error { confirmed: true },
            Stage::Settling => Stage::Cancelled,
            Stage::Error { confirmed: true } if dice < 70 => Stage::Accepted,
            Stage::Error { confirmed: false } if dice < 50 => Stage::Awaiting,
            Stage::Error { .. } => Stage::Cancelled,
            Stage::Awaiting if now - session.asking_since >= WINDOW => Stage::Cancelled,
            Stage::Accepted if session.paid && !session.returned && dice < 10 => {
                session.returned = true;
                return Some(self.report(at));
            }
            Stage::Created | Stage::Awaiting | Stage::Accepted | Stage::Cancelled => return None,
        };
        if next == Stage::Awaiting {
            session.asked = true;
            session.asking_since = now;
        }
        // A failure can also be a completed session over a failed payout.
        session.paid = next == Stage::Accepted && dice % 8 != 7;
        session.passes = session.stage != Stage::Closing && dice.is_multiple_of(2);
        session.stage = next;
        Some(self.report(at))
    }

    /// Pays a session that it had closed unpaid.
    pub fn reopen(&mut self, at: usize) -> Option<SessionReport> {
        let session = &mut self.sessions[at];
        if !session.stage.is_final() || session.paid || session.payouts.is_empty() {
            return None;
        }
        session.stage = Stage::Accepted;
        (session.paid, session.reopened) = (true, true);
        Some(self.report(at))
    }

    /// When a session that waits gives up.
    pub fn next_expiry(&self) -> Option<OffsetDateTime> {
        let waits = self.sessions.iter().filter(|session| session.stage == Stage::Awaiting);
        waits.map(|session| session.asking_since + WINDOW).min()
    }

    /// Another session that shows a paid payout just like ours.
    pub fn foreign(&self, payout: &Payout) -> SessionReport {
        let paid = PayoutReport {
            status: PayoutStatus::Succeeded,
            amount_minor: Some(payout.order.amount.minor()),
            currency: Some("RUB".to_owned()),
            metadata: Some(payout.metadata_tag()),
            returned: false,
            facts: ProviderFacts::default(),
        };
        SessionReport {
            session: SessionId("ps_other".to_owned()),
            status: SessionStatus::Accepted,
            awaits_confirm: false,
            payouts: vec![paid],
            error: None,
            updated_at: None,
        }
    }

    fn report(&self, at: usize) -> SessionReport {
        let session = &self.sessions[at];
        let (status, payout) = match session.stage {
            Stage::Created => (SessionStatus::Created, PayoutStatus::InProgress),
            Stage::Working | Stage::Settling => (SessionStatus::InProgress, PayoutStatus::InProgress),
            Stage::Awaiting | Stage::Closing => (SessionStatus::InProgress, PayoutStatus::Pending),
            Stage::Error { .. } => (SessionStatus::Error, PayoutStatus::Failed),
            Stage::Accepted if session.paid => (SessionStatus::Accepted, PayoutStatus::Succeeded),
            Stage::Accepted => (SessionStatus::Accepted, PayoutStatus::Failed),
            Stage::Cancelled => (SessionStatus::Cancelled, PayoutStatus::Failed),
        };
        let why = self.manners.tells_why && session.stage.is_final() && !session.paid;
        let code = if session.passes { terms::PASSES } else { "session_cancelled" };
        let one = |minor: &i64| PayoutReport {
            status: payout.clone(),
            amount_minor: Some(*minor),
            currency: Some("rub".to_owned()),
            metadata: Some(session.tag.clone()),
            returned: session.returned,
            facts: ProviderFacts::default(),
        };
        SessionReport {
            session: session.id.clone(),
            status,
            awaits_confirm: session.stage == Stage::Awaiting,
            payouts: session.payouts.iter().map(one).collect(),
            error: why.then(|| ProviderError { code: code.to_owned(), description: String::new() }),
            updated_at: None,
        }
    }
}
