//! The life of a session: one step from what is and what comes in to what is then, and which webhooks and
//! movements of money follow. Pure: the instant, the rules and the ids are given; nothing is sent here.

use std::time::Duration;

use super::code::Code;
use super::magic::{Magic, Outcome, Resolution, Script};
use super::scalars::{Amount, At, PayoutId};
use super::session::{Order, Payout, Session, SessionStatus, Stage, Version};
use super::settings::{DeclinedSession, SecondStart, Timing};

/// What can happen to a session.
#[derive(Debug)]
pub enum Input {
    Start(Box<Start>),
    Confirm,
    Cancel,
    /// Time has passed: the earliest due thing happens, if one is due.
    Tick,
    /// Somebody at the sandbox's own controls says what happens.
    Hand(Hand),
}

/// A payout that is to be started.
#[derive(Debug)]
pub struct Start {
    pub payout: PayoutId,
    pub version: Version,
    pub order: Order,
    /// What happens when the session was started before.
    pub second: SecondStart,
}

/// What a person can make happen to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hand {
    /// What would happen next by itself happens now.
    Advance,
    /// It fails, wherever it stands.
    Fail(Code),
    /// Nobody knows any more.
    Doubt,
    /// It is paid, confirmed or not.
    Pay,
    /// What was paid comes back.
    Return,
}

/// What a step may depend on besides the session.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    pub timing: &'a Timing,
    pub auto_confirm: bool,
    pub declined_session: DeclinedSession,
}

/// What the wallet of a project can pay.
pub trait Funds {
    /// Whether this much is there.
    fn cover(&self, amount: &Amount) -> bool;
}

/// The webhooks about payouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WebhookKind {
    ReadyToConfirm,
    PaymentFinished,
    PaymentRefunded,
}

impl WebhookKind {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ReadyToConfirm => "ready_to_confirm",
            Self::PaymentFinished => "payment_finished",
            Self::PaymentRefunded => "payment_refunded",
        }
    }
}

/// Which way money went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    Out,
    Back,
}

/// What follows from a step. `payout` is a place in `Session::payouts`; none means the session as such.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    Changed { payout: Option<usize> },
    Money { payout: usize, direction: Direction },
    Webhook { payout: Option<usize>, kind: WebhookKind },
}

/// Takes one step. A refusal leaves the session as it was.
///
/// # Errors
/// The code Pike refuses the call with; `Input::Tick` is never refused.
pub fn step(
    session: &mut Session,
    input: Input,
    rules: Rules<'_>,
    funds: &dyn Funds,
    now: At,
) -> Result<Vec<Effect>, Code> {
    let effects = match input {
        Input::Start(order) => start(session, *order, rules, now)?,
        Input::Confirm => confirm(session, rules, now)?,
        Input::Cancel => cancel(session, rules, now)?,
        Input::Tick => tick(session, rules, funds, now),
        Input::Hand(hand) => by_hand(session, hand, rules, funds, now)?,
    };
    if !effects.is_empty() {
        summarise(session, rules.declined_session);
        // Readers order what they see by this field, so two states never share a value.
        session.updated_at = now.max(At(session.updated_at.0.saturating_add(1)));
    }
    Ok(effects)
}

fn start(session: &mut Session, start: Start, rules: Rules<'_>, now: At) -> Result<Vec<Effect>, Code> {
    let Start { payout: id, version, order, second } = start;
    let open = session.cancel_due.is_none();
    let allowed = match (session.status, second) {
        (SessionStatus::Created, _) => open,
        (SessionStatus::InProgress | SessionStatus::Accepted, SecondStart::Add) => open,
        (SessionStatus::InProgress | SessionStatus::Accepted, SecondStart::Reject)
        | (SessionStatus::Cancelled | SessionStatus::Error, _) => false,
    };
    if !allowed {
        return Err(Code::SessionWrongState);
    }
    let order = order.over(&session.draft);
    let (Some(mut destination), Some(amount)) = (order.destination, order.amount) else {
        return Err(Code::InvalidRequest);
    };
    if destination.magic == Magic::Success {
        destination.magic = Magic::of_amount(amount.minor).unwrap_or(Magic::Success);
    }
    let script = destination.magic.script();
    if let Some(code) = script.refusal {
        return Err(code);
    }
    session.version = version;
    session.payouts.push(Payout {
        id,
        stage: Stage::Preparing,
        due: Some(now.after(delay(rules.timing.ready_delay, script, rules))),
        created_at: now,
        destination,
        amount,
        participants: order.participants,
        customer: order.customer,
        metadata: order.metadata,
    });
    Ok(vec![Effect::Changed { payout: Some(session.payouts.len() - 1) }])
}

fn confirm(session: &mut Session, rules: Rules<'_>, now: At) -> Result<Vec<Effect>, Code> {
    answer_waiting(session, Stage::Settling, rules, now)
}

fn cancel(session: &mut Session, rules: Rules<'_>, now: At) -> Result<Vec<Effect>, Code> {
    if session.status == SessionStatus::Created {
        session.cancel_due = Some(now.after(rules.timing.settle_delay));
        return Ok(vec![Effect::Changed { payout: None }]);
    }
    answer_waiting(session, Stage::Cancelling, rules, now)
}

/// Moves every payout that waits for the partner on to `next`. Confirm and cancel name the session only, so
/// they are for all of its payouts.
fn answer_waiting(
    session: &mut Session,
    next: Stage,
    rules: Rules<'_>,
    now: At,
) -> Result<Vec<Effect>, Code> {
    let mut effects = Vec::new();
    for (place, payout) in session.payouts.iter_mut().enumerate() {
        if payout.stage == Stage::AwaitingConfirm {
            payout.stage = next;
            payout.due = Some(now.after(delay(rules.timing.settle_delay, payout.script(), rules)));
            effects.push(Effect::Changed { payout: Some(place) });
        }
    }
    if effects.is_empty() { Err(Code::SessionWrongState) } else { Ok(effects) }
}

fn tick(session: &mut Session, rules: Rules<'_>, funds: &dyn Funds, now: At) -> Vec<Effect> {
    if session.cancel_due.is_some_and(|due| due <= now) {
        session.cancel_due = None;
        session.status = SessionStatus::Cancelled;
        session.error = Some(Code::SessionCancelledByPartner);
        let kind = WebhookKind::PaymentFinished;
        return vec![Effect::Changed { payout: None }, Effect::Webhook { payout: None, kind }];
    }
    let waiting = session.payouts.iter_mut().enumerate().filter(|(_, p)| p.due.is_some_and(|d| d <= now));
    match waiting.min_by_key(|(_, payout)| payout.due) {
        Some((place, payout)) => ripen(place, payout, rules, funds, now),
        None => Vec::new(),
    }
}

/// The end of a stage that nobody ended.
fn ripen(place: usize, payout: &mut Payout, rules: Rules<'_>, funds: &dyn Funds, now: At) -> Vec<Effect> {
    let script = payout.script();
    match payout.stage {
        Stage::Preparing => ready(place, payout, script, rules, now),
        Stage::AwaitingConfirm if script.paid_unasked => pay(place, payout, rules, now),
        Stage::AwaitingConfirm => fail(place, payout, Code::ConfirmTimeout, now),
        Stage::Cancelling => fail(place, payout, Code::SessionCancelledByPartner, now),
        Stage::Doubtful { .. } => match script.outcome {
            Outcome::Doubt(Resolution::Failed) => fail(place, payout, Code::ProviderTimeout, now),
            Outcome::Doubt(Resolution::Paid | Resolution::ByHand)
            | Outcome::Paid
            | Outcome::Returned
            | Outcome::Failed(_) => pay(place, payout, rules, now),
        },
        Stage::Settling => match script.outcome {
            Outcome::Failed(code) => fail(place, payout, code, now),
            Outcome::Paid | Outcome::Returned | Outcome::Doubt(_) if !funds.cover(&payout.amount) => {
                fail(place, payout, Code::InsufficientWalletBalance, now)
            }
            Outcome::Paid | Outcome::Returned => pay(place, payout, rules, now),
            Outcome::Doubt(resolution) => {
                let due = (resolution != Resolution::ByHand).then(|| now.after(rules.timing.slow_delay));
                become_stage(place, payout, Stage::Doubtful { since: now }, due, WebhookKind::PaymentFinished)
            }
        },
        Stage::Paid { at, returned: None } => give_back(place, payout, at, now),
        Stage::Paid { returned: Some(_), .. } | Stage::Failed { .. } => {
            payout.due = None;
            Vec::new()
        }
    }
}

fn give_back(place: usize, payout: &mut Payout, paid: At, now: At) -> Vec<Effect> {
    let stage = Stage::Paid { at: paid, returned: Some(now) };
    let mut effects = become_stage(place, payout, stage, None, WebhookKind::PaymentRefunded);
    effects.insert(1, Effect::Money { payout: place, direction: Direction::Back });
    effects
}

/// What a person says happens to the payout that was started last and for which it can happen.
fn by_hand(
    session: &mut Session,
    hand: Hand,
    rules: Rules<'_>,
    funds: &dyn Funds,
    now: At,
) -> Result<Vec<Effect>, Code> {
    if hand == Hand::Advance {
        let next = session.next_due().ok_or(Code::SessionWrongState)?;
        let dues = session.payouts.iter_mut().map(|payout| &mut payout.due);
        let due = dues.chain([&mut session.cancel_due]).find(|due| **due == Some(next));
        due.into_iter().for_each(|due| *due = Some(now.min(next)));
        return Ok(tick(session, rules, funds, now));
    }
    if let (Hand::Fail(code), SessionStatus::Created) = (hand, session.status) {
        session.cancel_due = None;
        session.status = SessionStatus::Cancelled;
        session.error = Some(code);
        let kind = WebhookKind::PaymentFinished;
        return Ok(vec![Effect::Changed { payout: None }, Effect::Webhook { payout: None, kind }]);
    }
    for (place, payout) in session.payouts.iter_mut().enumerate().rev() {
        match (hand, payout.stage) {
            (Hand::Return, Stage::Paid { at, returned: None }) => {
                return Ok(give_back(place, payout, at, now));
            }
            (Hand::Return | Hand::Advance, _) | (_, Stage::Paid { .. } | Stage::Failed { .. }) => {}
            (Hand::Doubt, Stage::Doubtful { .. }) => {}
            (Hand::Fail(code), _) => return Ok(fail(place, payout, code, now)),
            (Hand::Pay, _) => return Ok(pay(place, payout, rules, now)),
            (Hand::Doubt, _) => {
                let stage = Stage::Doubtful { since: now };
                return Ok(become_stage(place, payout, stage, None, WebhookKind::PaymentFinished));
            }
        }
    }
    Err(Code::SessionWrongState)
}

fn ready(place: usize, payout: &mut Payout, script: Script, rules: Rules<'_>, now: At) -> Vec<Effect> {
    if let Some(code) = script.early_failure {
        return fail(place, payout, code, now);
    }
    let settle = delay(rules.timing.settle_delay, script, rules);
    if rules.auto_confirm {
        payout.stage = Stage::Settling;
        payout.due = Some(now.after(settle));
        return vec![Effect::Changed { payout: Some(place) }];
    }
    let window = rules.timing.scaled(rules.timing.confirm_window);
    let due = now.after(if script.paid_unasked { settle } else { window });
    become_stage(place, payout, Stage::AwaitingConfirm, Some(due), WebhookKind::ReadyToConfirm)
}

fn pay(place: usize, payout: &mut Payout, rules: Rules<'_>, now: At) -> Vec<Effect> {
    let script = payout.script();
    let comes_back = script.outcome == Outcome::Returned;
    let due = comes_back.then(|| now.after(delay(rules.timing.settle_delay, script, rules)));
    let stage = Stage::Paid { at: now, returned: None };
    let mut effects = become_stage(place, payout, stage, due, WebhookKind::PaymentFinished);
    effects.insert(1, Effect::Money { payout: place, direction: Direction::Out });
    effects
}

fn fail(place: usize, payout: &mut Payout, code: Code, now: At) -> Vec<Effect> {
    become_stage(place, payout, Stage::Failed { at: now, code }, None, WebhookKind::PaymentFinished)
}

fn become_stage(
    place: usize,
    payout: &mut Payout,
    stage: Stage,
    due: Option<At>,
    kind: WebhookKind,
) -> Vec<Effect> {
    payout.stage = stage;
    payout.due = due;
    vec![Effect::Changed { payout: Some(place) }, Effect::Webhook { payout: Some(place), kind }]
}

fn delay(usual: Duration, script: Script, rules: Rules<'_>) -> Duration {
    if script.slow { rules.timing.slow_delay } else { usual }
}

/// Derives the session's status and error from its payouts.
fn summarise(session: &mut Session, declined: DeclinedSession) {
    let Some(last) = session.payouts.last() else {
        if session.cancel_due.is_some() {
            session.status = SessionStatus::InProgress;
        }
        return;
    };
    let (mut open, mut doubtful, mut paid) = (false, false, false);
    for payout in &session.payouts {
        match payout.stage {
            Stage::Preparing | Stage::AwaitingConfirm | Stage::Settling | Stage::Cancelling => open = true,
            Stage::Doubtful { .. } => doubtful = true,
            Stage::Paid { .. } => paid = true,
            Stage::Failed { .. } => {}
        }
    }
    (session.status, session.error) = match (open, doubtful, paid) {
        (true, _, _) => (SessionStatus::InProgress, None),
        (false, true, _) => (SessionStatus::Error, Some(Code::ProviderTimeout)),
        (false, false, true) => (SessionStatus::Accepted, None),
        (false, false, false) => match (declined, last.error()) {
            (DeclinedSession::Accepted, Some(code)) if !code.ends_the_session() => {
                (SessionStatus::Accepted, None)
            }
            (DeclinedSession::Accepted | DeclinedSession::Cancelled, error) => {
                (SessionStatus::Cancelled, error)
            }
        },
    };
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
