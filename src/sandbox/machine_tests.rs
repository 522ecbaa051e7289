//! The table of transitions, driven by hand.

use super::super::magic::{Magic, card_of_token};
use super::super::scalars::{Currency, SessionId};
use super::super::session::{Destination, PayoutStatus};
use super::*;

struct Wallet(i64);

impl Funds for Wallet {
    fn cover(&self, amount: &Amount) -> bool {
        amount.minor <= self.0
    }
}

struct World {
    timing: Timing,
    second_start: SecondStart,
    auto_confirm: bool,
    declined: DeclinedSession,
    wallet: Wallet,
    now: At,
    session: Session,
    effects: Vec<Effect>,
}

impl World {
    fn new() -> Self {
        let session = Session::created(SessionId::fresh(), "p", Version::V2, Order::default(), At(0));
        Self {
            timing: Timing::default(),
            second_start: SecondStart::Reject,
            auto_confirm: false,
            declined: DeclinedSession::Cancelled,
            wallet: Wallet(i64::MAX),
            now: At(0),
            session,
            effects: Vec::new(),
        }
    }

    fn take(&mut self, input: Input) -> Result<(), Code> {
        let rules =
            Rules { timing: &self.timing, auto_confirm: self.auto_confirm, declined_session: self.declined };
        let before = self.session.updated_at;
        let effects = step(&mut self.session, input, rules, &self.wallet, self.now)?;
        assert!(effects.is_empty() || self.session.updated_at > before);
        self.effects.extend(effects);
        Ok(())
    }

    fn start(&mut self, token: &str) -> Result<(), Code> {
        let order = Order {
            destination: Some(Destination {
                magic: Magic::of(token),
                card: card_of_token("p", token),
                recurrent: None,
            }),
            amount: Some(Amount { minor: 500, currency: Currency::parse("rub").unwrap() }),
            ..Order::default()
        };
        let (payout, version, second) = (PayoutId::fresh(), Version::V2, self.second_start);
        self.take(Input::Start(Box::new(Start { payout, version, order, second })))
    }

    /// Lets the next due thing happen; how long that took.
    fn wait(&mut self) -> Duration {
        let due = self.session.next_due().expect("something is due");
        let waited = due.since(self.now);
        self.now = self.now.max(due);
        self.take(Input::Tick).unwrap();
        waited
    }

    fn shown(&self) -> (SessionStatus, Option<PayoutStatus>, bool, Option<Code>) {
        let payout = self.session.payouts.last().map(Payout::status);
        (self.session.status, payout, self.session.awaits_confirm(), self.session.error)
    }

    fn webhooks(&self) -> Vec<WebhookKind> {
        let kind = |effect: &Effect| match effect {
            Effect::Webhook { kind, .. } => Some(*kind),
            Effect::Changed { .. } | Effect::Money { .. } => None,
        };
        self.effects.iter().filter_map(kind).collect()
    }

    fn money(&self) -> Vec<Direction> {
        let direction = |effect: &Effect| match effect {
            Effect::Money { direction, .. } => Some(*direction),
            Effect::Changed { .. } | Effect::Webhook { .. } => None,
        };
        self.effects.iter().filter_map(direction).collect()
    }
}

use PayoutStatus::{Failed, Pending, Succeeded};
use SessionStatus::{Accepted, Cancelled, Created, InProgress};
use WebhookKind::{PaymentFinished, PaymentRefunded, ReadyToConfirm};

#[test]
fn a_good_payout_passes_every_state() {
    let mut world = World::new();
    assert_eq!(world.shown(), (Created, None, false, None));
    world.start("tok_success").unwrap();
    assert_eq!(world.shown(), (InProgress, Some(PayoutStatus::InProgress), false, None));
    assert_eq!(world.take(Input::Confirm), Err(Code::SessionWrongState));
    assert_eq!(world.take(Input::Cancel), Err(Code::SessionWrongState));
    assert_eq!(world.wait(), world.timing.ready_delay);
    assert_eq!(world.shown(), (InProgress, Some(Pending), true, None));
    world.take(Input::Confirm).unwrap();
    assert_eq!(world.shown(), (InProgress, Some(PayoutStatus::InProgress), false, None));
    assert_eq!(world.wait(), world.timing.settle_delay);
    assert_eq!(world.shown(), (Accepted, Some(Succeeded), false, None));
    assert_eq!(world.webhooks(), [ReadyToConfirm, PaymentFinished]);
    assert_eq!(world.money(), [Direction::Out]);
    assert_eq!(world.session.next_due(), None);
    for input in [Input::Confirm, Input::Cancel] {
        assert_eq!(world.take(input), Err(Code::SessionWrongState));
    }
    assert_eq!(world.start("tok_success"), Err(Code::SessionWrongState));
}

#[test]
fn failures_carry_their_code_on_both_levels() {
    for (token, confirmed, code) in [
        ("tok_decline", true, Code::DeclinedByIssuerBank),
        ("tok_insufficient", true, Code::InsufficientWalletBalance),
        ("tok_decline_early", false, Code::OperationRejected),
        ("tok_expired", false, Code::BankCardExpired),
    ] {
        let mut world = World::new();
        world.start(token).unwrap();
        world.wait();
        if confirmed {
            world.take(Input::Confirm).unwrap();
            world.wait();
        }
        assert_eq!(world.shown(), (Cancelled, Some(Failed), false, Some(code)), "{token}");
        assert_eq!(world.session.payouts[0].error(), Some(code));
        assert_eq!(world.webhooks().last(), Some(&PaymentFinished));
        assert!(world.money().is_empty());
    }
}

#[test]
fn a_cancel_takes_effect_later() {
    let mut unstarted = World::new();
    unstarted.take(Input::Cancel).unwrap();
    assert_eq!(unstarted.shown(), (InProgress, None, false, None));
    assert_eq!(unstarted.start("tok_success"), Err(Code::SessionWrongState));
    assert_eq!(unstarted.take(Input::Cancel), Err(Code::SessionWrongState));
    unstarted.wait();
    assert_eq!(unstarted.shown(), (Cancelled, None, false, Some(Code::SessionCancelledByPartner)));
    assert_eq!(unstarted.webhooks(), [PaymentFinished]);

    let mut waiting = World::new();
    waiting.start("tok_success").unwrap();
    waiting.wait();
    waiting.take(Input::Cancel).unwrap();
    assert_eq!(waiting.shown(), (InProgress, Some(Pending), false, None));
    assert_eq!(waiting.take(Input::Confirm), Err(Code::SessionWrongState));
    waiting.wait();
    assert_eq!(waiting.shown(), (Cancelled, Some(Failed), false, Some(Code::SessionCancelledByPartner)));
}

#[test]
fn the_window_closes_on_the_accelerated_clock() {
    let mut world = World::new();
    world.timing.clock_factor = 60.0;
    world.start("tok_success").unwrap();
    world.wait();
    assert_eq!(world.wait(), Duration::from_secs(240));
    assert_eq!(world.shown(), (Cancelled, Some(Failed), false, Some(Code::ConfirmTimeout)));
}

#[test]
fn doubt_is_resolved_by_a_second_finish() {
    let mut world = World::new();
    world.start("tok_session_error").unwrap();
    world.wait();
    world.take(Input::Confirm).unwrap();
    world.wait();
    let doubt = (SessionStatus::Error, Some(Failed), false, Some(Code::ProviderTimeout));
    assert_eq!(world.shown(), doubt);
    assert!(world.money().is_empty());
    assert_eq!(world.wait(), world.timing.slow_delay);
    assert_eq!(world.shown(), (Accepted, Some(Succeeded), false, None));
    assert_eq!(world.webhooks(), [ReadyToConfirm, PaymentFinished, PaymentFinished]);
    assert_eq!(world.money(), [Direction::Out]);
}

#[test]
fn money_can_come_back_and_go_out_unasked() {
    let mut returned = World::new();
    returned.start("tok_returned").unwrap();
    returned.wait();
    returned.take(Input::Confirm).unwrap();
    returned.wait();
    returned.wait();
    assert_eq!(returned.shown(), (Accepted, Some(Succeeded), false, None));
    assert_eq!(returned.webhooks(), [ReadyToConfirm, PaymentFinished, PaymentRefunded]);
    assert_eq!(returned.money(), [Direction::Out, Direction::Back]);

    let mut unasked = World::new();
    unasked.start("tok_paid_unasked").unwrap();
    unasked.wait();
    assert!(unasked.session.awaits_confirm());
    unasked.wait();
    assert_eq!(unasked.money(), [Direction::Out]);
}

#[test]
fn an_auto_confirm_project_is_never_asked() {
    let mut world = World::new();
    world.auto_confirm = true;
    world.start("tok_slow").unwrap();
    assert_eq!(world.wait() + world.wait(), 2 * world.timing.slow_delay);
    assert_eq!(world.shown(), (Accepted, Some(Succeeded), false, None));
    assert_eq!(world.webhooks(), [PaymentFinished]);
}

#[test]
fn a_start_may_be_refused_or_incomplete_and_changes_nothing() {
    let mut world = World::new();
    assert_eq!(world.start("tok_start_refused"), Err(Code::CardNumberDoesNotExist));
    let (version, order, second) = (Version::V1, Order::default(), SecondStart::Reject);
    let bare = Input::Start(Box::new(Start { payout: PayoutId::fresh(), version, order, second }));
    assert_eq!(world.take(bare), Err(Code::InvalidRequest));
    assert_eq!(world.shown(), (Created, None, false, None));
    assert!(world.effects.is_empty() && world.session.updated_at == At(0));
}

#[test]
fn the_wallet_must_cover_the_payout() {
    let mut world = World::new();
    world.wallet = Wallet(499);
    world.start("tok_success").unwrap();
    world.wait();
    world.take(Input::Confirm).unwrap();
    world.wait();
    assert_eq!(world.session.error, Some(Code::InsufficientWalletBalance));
}

#[test]
fn a_second_start_can_add_a_payout() {
    let mut world = World::new();
    world.second_start = SecondStart::Add;
    world.start("tok_success").unwrap();
    world.start("tok_decline").unwrap();
    world.wait();
    world.wait();
    world.take(Input::Confirm).unwrap();
    world.wait();
    assert_eq!(world.session.status, InProgress);
    world.wait();
    assert_eq!(world.shown(), (Accepted, Some(Failed), false, None));
    assert_eq!(world.session.payouts[0].status(), Succeeded);
    world.start("tok_success").unwrap();
    assert_eq!(world.session.status, InProgress);
}
