//! The life of a session: one step from what is and what comes in to what is then, and which webhooks and
//! movements of money follow. Pure: the instant, the rules and the ids are given; nothing is sent here.

use std::time::Duration;

use super::code::Code;
use super::magic::{Outcome, Script};
use super::scalars::{Amount, At, PayoutId};
use super::session::{Order, Payout, Session, SessionStatus, Stage, Version};
use super::settings::{SecondStart, Timing};

/// What can happen to a session.
#[derive(Debug)]
pub enum Input {
    Start {
        payout: PayoutId,
        version: Version,
        order: Box<Order>,
    },
    Confirm,
    Cancel,
    /// Time has passed: the earliest due thing happens, if one is due.
    Tick,
}

/// What a step may depend on besides the session.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    pub timing: &'a Timing,
    pub second_start: SecondStart,
    pub auto_confirm: bool,
}

/// What the wallet of a project can pay.
pub trait Funds {
    /// Whether this much is there.
    fn cover(&self, amount: &Amount) -> bool;
}

/// The webhooks about payouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
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
        Input::Start { payout, version, order } => start(session, payout, version, *order, rules, now)?,
        Input::Confirm => confirm(session, rules, now)?,
        Input::Cancel => cancel(session, rules, now)?,
        Input::Tick => tick(session, rules, funds, now),
    };
    if !effects.is_empty() {
        summarise(session);
        // Readers order what they see by this field, so two states never share a value.
        session.updated_at = now.max(At(session.updated_at.0.saturating_add(1)));
    }
    Ok(effects)
}

fn start(
    session: &mut Session,
    id: PayoutId,
    version: Version,
    order: Order,
    rules: Rules<'_>,
    now: At,
) -> Result<Vec<Effect>, Code> {
    let open = session.cancel_due.is_none();
    let allowed = match (session.status, rules.second_start) {
        (SessionStatus::Created, _) => open,
        (SessionStatus::InProgress | SessionStatus::Accepted, SecondStart::Add) => open,
        (SessionStatus::InProgress | SessionStatus::Accepted, SecondStart::Reject)
        | (SessionStatus::Cancelled | SessionStatus::Error, _) => false,
    };
    if !allowed {
        return Err(Code::SessionWrongState);
    }
    let order = order.over(&session.draft);
    let (Some(destination), Some(amount)) = (order.destination, order.amount) else {
        return Err(Code::InvalidRequest);
    };
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
        Stage::Doubtful { .. } => pay(place, payout, rules, now),
        Stage::Settling => match script.outcome {
            Outcome::Failed(code) => fail(place, payout, code, now),
            Outcome::Paid | Outcome::Returned | Outcome::DoubtThenPaid if !funds.cover(&payout.amount) => {
                fail(place, payout, Code::InsufficientWalletBalance, now)
            }
            Outcome::Paid | Outcome::Returned => pay(place, payout, rules, now),
            Outcome::DoubtThenPaid => {
                let due = Some(now.after(rules.timing.slow_delay));
                become_stage(place, payout, Stage::Doubtful { since: now }, due, WebhookKind::PaymentFinished)
            }
        },
        Stage::Paid { at, returned: None } => {
            let stage = Stage::Paid { at, returned: Some(now) };
            let mut effects = become_stage(place, payout, stage, None, WebhookKind::PaymentRefunded);
            effects.insert(1, Effect::Money { payout: place, direction: Direction::Back });
            effects
        }
        Stage::Paid { returned: Some(_), .. } | Stage::Failed { .. } => {
            payout.due = None;
            Vec::new()
        }
    }
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
fn summarise(session: &mut Session) {
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
        (false, false, false) => (SessionStatus::Cancelled, last.error()),
    };
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
