//! The magic destinations: which story a token tells, and what its card looks like. Ours, not Pike's; the
//! service under test must not know them. A token is recognised by its prefix, so that every test can make
//! its own; anything not listed is a good Visa card.

use serde::{Deserialize, Serialize};

use super::code::Code;
use super::faults::{FaultKind, Point};
use super::machine::WebhookKind;
use super::request::Method;
use super::scalars::Digest;
use super::session::Card;

/// A row of the table. Stored with the payout in place of the token, which is never kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Magic {
    Success,
    Mastercard,
    Country,
    Decline,
    DeclineEarly,
    Expired,
    Insufficient,
    StartRefused,
    Slow,
    NoWebhooks,
    Duplicate,
    SessionError,
    SessionErrorFailed,
    SessionErrorOpen,
    Returned,
    StartLost,
    ConfirmLost,
    CancelLost,
    Start500,
    WrongAmount,
    PaidUnasked,
    /// Fails with this code after the confirm.
    Fail(Code),
    /// Fails with this code before the confirm.
    FailEarly(Code),
    /// The start is refused with this code.
    Refuse(Code),
    /// A fault, once in the session's life, wherever it can strike or at one point only.
    Fault(FaultKind, Option<Point>),
    NoSuchCard,
    Disabled,
}

/// How a confirmed payout ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Paid,
    /// Paid, and sent back by the recipient's bank later.
    Returned,
    Failed(Code),
    /// First `error` at session level, which settles nothing; later one or the other, or neither.
    Doubt(Resolution),
}

/// What becomes of a session in `error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    Paid,
    Failed,
    /// Nothing until somebody says so.
    ByHand,
}

/// What a destination makes happen.
#[derive(Clone, Copy, Debug)]
pub struct Script {
    /// The start itself is refused; the session stays as it was.
    pub refusal: Option<Code>,
    /// The payout fails before it would wait for its confirmation.
    pub early_failure: Option<Code>,
    pub outcome: Outcome,
    /// The slow delay takes the place of the others.
    pub slow: bool,
    /// How often each webhook is sent.
    pub webhook_copies: u8,
    /// Strikes once in a session's life.
    pub fault: Option<(FaultKind, Option<Point>)>,
    /// Added to the amount shown by status and webhooks.
    pub shown_excess: i64,
    /// Paid although nobody confirmed.
    pub paid_unasked: bool,
}

const PLAIN: Script = Script {
    refusal: None,
    early_failure: None,
    outcome: Outcome::Paid,
    slow: false,
    webhook_copies: 1,
    fault: None,
    shown_excess: 0,
    paid_unasked: false,
};

/// Prefixes and their rows; the longest prefix that fits wins, wherever it stands. The number is the row's
/// for ever: its card number and its amount are made of it, and tokens of that card carry it.
pub(super) const TABLE: [(&str, Magic, u16); 23] = [
    ("tok_success", Magic::Success, 101),
    ("tok_mastercard", Magic::Mastercard, 102),
    ("tok_country_", Magic::Country, 103),
    ("tok_decline", Magic::Decline, 104),
    ("tok_decline_early", Magic::DeclineEarly, 105),
    ("tok_expired", Magic::Expired, 106),
    ("tok_insufficient", Magic::Insufficient, 107),
    ("tok_start_refused", Magic::StartRefused, 108),
    ("tok_slow", Magic::Slow, 109),
    ("tok_no_webhooks", Magic::NoWebhooks, 110),
    ("tok_duplicate", Magic::Duplicate, 111),
    ("tok_session_error", Magic::SessionError, 112),
    ("tok_returned", Magic::Returned, 113),
    ("tok_start_lost", Magic::StartLost, 114),
    ("tok_confirm_lost", Magic::ConfirmLost, 115),
    ("tok_cancel_lost", Magic::CancelLost, 116),
    ("tok_start_500", Magic::Start500, 117),
    ("tok_wrong_amount", Magic::WrongAmount, 118),
    ("tok_paid_unasked", Magic::PaidUnasked, 119),
    ("tok_no_such_card", Magic::NoSuchCard, 120),
    ("tok_disabled", Magic::Disabled, 121),
    ("tok_session_error_failed", Magic::SessionErrorFailed, 122),
    ("tok_session_error_open", Magic::SessionErrorOpen, 123),
];

const START: Point = Point::Call(Method::StartPayout);

/// How tokens name the points where a fault can strike.
const POINTS: [(&str, Point); 8] = [
    ("create", Point::Call(Method::Create)),
    ("start", START),
    ("confirm", Point::Call(Method::Confirm)),
    ("cancel", Point::Call(Method::Cancel)),
    ("status", Point::Call(Method::Status)),
    ("ready_to_confirm", Point::Webhook(WebhookKind::ReadyToConfirm)),
    ("payment_finished", Point::Webhook(WebhookKind::PaymentFinished)),
    ("payment_refunded", Point::Webhook(WebhookKind::PaymentRefunded)),
];

/// Minor units to which a row's number is added.
const MAGIC_AMOUNTS: i64 = 9_990_000;

/// The country of cards whose token names none.
pub(super) const HOME_COUNTRY: &str = "ARM";
const VISA_BIN: &str = "424242";
const MASTERCARD_BIN: &str = "555555";

impl Magic {
    /// The row of a token or hash that someone made up. Card numbers have theirs in `tokens::numbers`.
    #[must_use]
    pub fn of(secret: &str) -> Self {
        Self::listed(secret).unwrap_or(Self::Success)
    }

    /// The same; `None` for what is in no table.
    #[must_use]
    pub fn listed(secret: &str) -> Option<Self> {
        let fitting = TABLE.iter().filter(|(prefix, ..)| secret.starts_with(prefix));
        let row = fitting.max_by_key(|(prefix, ..)| prefix.len()).map(|(_, magic, _)| *magic);
        row.or_else(|| Self::composed(secret))
    }

    /// Tokens made of names: `tok_fail_CODE`, `tok_fail_early_CODE`, `tok_refuse_CODE`,
    /// `tok_fault_KIND` and `tok_fault_KIND_on_POINT`. One that is misspelt is refused, not taken for good.
    fn composed(secret: &str) -> Option<Self> {
        if !["tok_fault_", "tok_fail_", "tok_refuse_"].iter().any(|prefix| secret.starts_with(prefix)) {
            return None;
        }
        Some(Self::spelt(secret).unwrap_or(Self::Refuse(Code::InvalidRequest)))
    }

    /// The story that a token of names spells; a name that nobody knows spells none.
    fn spelt(secret: &str) -> Option<Self> {
        let codes = || Code::ALL.iter().map(|code| (code.name(), *code));
        if let Some(rest) = secret.strip_prefix("tok_fault_") {
            let (kind, rest) = longest(rest, FaultKind::ALL.iter().map(|kind| (kind.name(), *kind)))?;
            let point =
                rest.strip_prefix("_on_").and_then(|rest| longest(rest, POINTS)).map(|(point, _)| point);
            return Some(Self::Fault(kind, point));
        }
        let early = secret.strip_prefix("tok_fail_early_").and_then(|rest| longest(rest, codes()));
        let late = secret.strip_prefix("tok_fail_").and_then(|rest| longest(rest, codes()));
        let refused = secret.strip_prefix("tok_refuse_").and_then(|rest| longest(rest, codes()));
        let early = early.map(|(code, _)| Self::FailEarly(code));
        let late = late.map(|(code, _)| Self::Fail(code));
        early.or(late).or_else(|| refused.map(|(code, _)| Self::Refuse(code)))
    }

    /// The story of an amount of so many minor units: 9,990,104 tells that of row 104.
    #[must_use]
    pub fn of_amount(minor: i64) -> Option<Self> {
        let row = minor.checked_sub(MAGIC_AMOUNTS)?;
        TABLE.iter().find(|(_, _, number)| i64::from(*number) == row).map(|(_, magic, _)| *magic)
    }

    /// What the row makes happen.
    #[must_use]
    pub fn script(self) -> Script {
        match self {
            Self::Success | Self::Mastercard | Self::Country => PLAIN,
            Self::Decline => failing(Code::DeclinedByIssuerBank),
            Self::Insufficient => failing(Code::InsufficientWalletBalance),
            Self::DeclineEarly => Script { early_failure: Some(Code::OperationRejected), ..PLAIN },
            Self::Expired => Script { early_failure: Some(Code::BankCardExpired), ..PLAIN },
            Self::StartRefused => Script { refusal: Some(Code::CardNumberDoesNotExist), ..PLAIN },
            Self::Slow => Script { slow: true, ..PLAIN },
            Self::NoWebhooks => Script { webhook_copies: 0, ..PLAIN },
            Self::Duplicate => Script { webhook_copies: 3, ..PLAIN },
            Self::SessionError => doubtful(Resolution::Paid),
            Self::SessionErrorFailed => doubtful(Resolution::Failed),
            Self::SessionErrorOpen => doubtful(Resolution::ByHand),
            Self::Returned => Script { outcome: Outcome::Returned, ..PLAIN },
            Self::StartLost => striking(FaultKind::ErrorAfter, START),
            Self::ConfirmLost => striking(FaultKind::ErrorAfter, Point::Call(Method::Confirm)),
            Self::CancelLost => striking(FaultKind::ErrorAfter, Point::Call(Method::Cancel)),
            Self::Start500 => striking(FaultKind::ErrorBefore, START),
            Self::WrongAmount => Script { shown_excess: 1, ..PLAIN },
            Self::PaidUnasked => Script { paid_unasked: true, ..PLAIN },
            Self::Fail(code) => failing(code),
            Self::FailEarly(code) => Script { early_failure: Some(code), ..PLAIN },
            Self::Refuse(code) => Script { refusal: Some(code), ..PLAIN },
            Self::Fault(kind, point) => Script { fault: Some((kind, point)), ..PLAIN },
            Self::NoSuchCard => Script { early_failure: Some(Code::CardNumberDoesNotExist), ..PLAIN },
            Self::Disabled => Script { refusal: Some(Code::InvalidRequest), ..PLAIN },
        }
    }
}

fn failing(code: Code) -> Script {
    Script { outcome: Outcome::Failed(code), ..PLAIN }
}

fn doubtful(resolution: Resolution) -> Script {
    Script { outcome: Outcome::Doubt(resolution), ..PLAIN }
}

fn striking(kind: FaultKind, point: Point) -> Script {
    Script { fault: Some((kind, Some(point))), ..PLAIN }
}

/// The longest of the names that `text` begins with, and what follows it.
fn longest<T>(text: &str, names: impl IntoIterator<Item = (&'static str, T)>) -> Option<(T, &str)> {
    let fitting = names.into_iter().filter(|(name, _)| text.starts_with(name));
    fitting.max_by_key(|(name, _)| name.len()).map(|(name, value)| (value, &text[name.len()..]))
}

/// The card behind a token or hash: made up, but always the same one.
#[must_use]
pub fn card_of_token(project: &str, token: &str) -> Card {
    let mastercard = Magic::of(token) == Magic::Mastercard;
    let (brand, bin) = if mastercard { ("mastercard", MASTERCARD_BIN) } else { ("visa", VISA_BIN) };
    Card {
        brand: brand.into(),
        bin: bin.into(),
        last4: Digest::of_parts(&["last4", token]).digits(0, 4).into(),
        card_id: card_id(project, token),
        country_iso3: country_of(token).into(),
    }
}

/// One card is another `card_id` in every project.
pub(super) fn card_id(project: &str, identity: &str) -> Digest {
    Digest::of_parts(&["card_id", project, identity])
}

fn country_of(token: &str) -> String {
    let named = token.strip_prefix("tok_country_").and_then(|rest| {
        let (country, rest) = (rest.get(..3)?, rest.get(3..)?);
        let letters = country.bytes().all(|b| b.is_ascii_alphabetic());
        let ends = !rest.starts_with(|next: char| next.is_alphanumeric());
        (letters && ends).then(|| country.to_ascii_uppercase())
    });
    named.unwrap_or_else(|| HOME_COUNTRY.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prefix_finds_its_row() {
        for (prefix, magic, _) in TABLE {
            assert_eq!(Magic::of(prefix), magic);
            assert_eq!(Magic::of(&format!("{prefix}_7f3a")), magic);
        }
        assert_eq!(Magic::of("tok_decline_early_1"), Magic::DeclineEarly);
        assert_eq!(Magic::of("tok_decline_1"), Magic::Decline);
        assert_eq!(Magic::of("9f0c21ab"), Magic::Success);
        assert_eq!(Magic::of(""), Magic::Success);
    }

    #[test]
    fn composed_tokens_name_codes_faults_and_points() {
        for code in Code::ALL {
            assert_eq!(Magic::of(&format!("tok_fail_{}_1", code.name())), Magic::Fail(*code));
            assert_eq!(Magic::of(&format!("tok_fail_early_{}", code.name())), Magic::FailEarly(*code));
            assert_eq!(Magic::of(&format!("tok_refuse_{}-x", code.name())), Magic::Refuse(*code));
        }
        for kind in FaultKind::ALL {
            assert_eq!(Magic::of(&format!("tok_fault_{}_9", kind.name())), Magic::Fault(*kind, None));
            for (name, point) in POINTS {
                let token = format!("tok_fault_{}_on_{name}_9", kind.name());
                assert_eq!(Magic::of(&token), Magic::Fault(*kind, Some(point)));
            }
        }
        for misspelt in ["tok_fail_nothing", "tok_fault_", "tok_refuse_account_lost"] {
            assert_eq!(Magic::of(misspelt), Magic::Refuse(Code::InvalidRequest), "{misspelt}");
        }
    }

    #[test]
    fn amounts_tell_the_same_stories() {
        assert_eq!(Magic::of_amount(9_990_000), None);
        assert_eq!(Magic::of_amount(9_990_104), Some(Magic::Decline));
        for (_, magic, number) in TABLE {
            assert_eq!(Magic::of_amount(9_990_000 + i64::from(number)), Some(magic));
        }
        assert_eq!(Magic::of_amount(i64::MIN), None);
    }

    #[test]
    fn a_card_follows_from_its_token_and_its_id_from_the_project_too() {
        let card = card_of_token("p1", "tok_mastercard_1");
        assert_eq!((&*card.brand, &*card.bin, card.last4.len()), ("mastercard", "555555", 4));
        assert_eq!(card, card_of_token("p1", "tok_mastercard_1"));
        let elsewhere = card_of_token("p2", "tok_mastercard_1");
        assert_eq!(card.last4, elsewhere.last4);
        assert_ne!(card.card_id, elsewhere.card_id);
    }

    #[test]
    fn a_token_may_name_its_country() {
        assert_eq!(&*card_of_token("p", "tok_country_GEO_1").country_iso3, "GEO");
        assert_eq!(&*card_of_token("p", "tok_country_kaz").country_iso3, "KAZ");
        for other in ["tok_country_", "tok_country_GEOR", "tok_country_é1", "tok_success"] {
            assert_eq!(&*card_of_token("p", other).country_iso3, HOME_COUNTRY, "{other}");
        }
    }
}
