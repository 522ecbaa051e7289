//! The sandbox's own record of what happened, append-only: every call, change, webhook attempt and movement
//! of money. Counts are exact for ever; raw events are capped, because memory is not endless. Nothing here is
//! ever computed from what a partner says about itself.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::code::Code;
use super::faults::FaultKind;
use super::machine::{Direction, WebhookKind};
use super::request::Method;
use super::scalars::{Amount, At, Digest, PayoutId};
use super::session::{PayoutStatus, SessionStatus};

/// Looks kept of one session; the rest of a poller's are counted.
pub const LOOKS_PER_SESSION: u32 = 100;
/// Calls kept of one session: some ten belong to a payout, the rest is for retries. What calls do, changes
/// and money, and what is sent about it, is always kept.
pub const EVENTS_PER_SESSION: usize = 2_000;
/// Raw events kept of calls that belong to no session, the youngest ones.
pub const LOOSE_EVENTS: usize = 10_000;
/// Characters kept of an idempotency key and of a submerchant.
const KEY_LENGTH: usize = 64;
/// Characters of `/api/v1/`.
const VERSION_ENDS: usize = 8;
/// Of them for the mark of a text that was cut.
const CUT_MARK: usize = 17;
/// Idempotency keys kept of one session: three belong to a payout, the rest is for those made anew.
pub const KEYS_PER_SESSION: usize = 16;

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Accepted,
    Refused(Code),
    /// It had its effect; the answer was a 500.
    AnswerLost,
    /// A 500 without effect.
    Broken,
}

/// How a webhook attempt went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reception {
    Http(u16),
    TimedOut,
    Unreachable,
}

/// One entry.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Event {
    pub at: At,
    pub what: What,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    Request {
        project: Box<str>,
        method: Method,
        body_sha256: Digest,
        verdict: Verdict,
        idempotency_key: Option<Box<str>>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        submerchant: Option<Box<str>>,
    },
    /// A request that is no call of the API, or whose body could not be read.
    Stray {
        verb: Box<str>,
        path: Box<str>,
    },
    /// A fault on command struck the call before, or the webhook that follows.
    Fault {
        fault: FaultKind,
    },
    Change {
        session_status: SessionStatus,
        payout: Option<(PayoutId, PayoutStatus)>,
        error: Option<Code>,
    },
    Webhook {
        kind: WebhookKind,
        attempt: u32,
        reception: Reception,
        /// Not as Pike would send it: the receiver must not have accepted it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        forged: bool,
    },
    Money {
        payout: PayoutId,
        direction: Direction,
        amount: Amount,
    },
}

impl What {
    /// A stray request. Its path is cut, and loses the digits that a version does not need, for anything may
    /// stand in it.
    #[must_use]
    pub fn stray(verb: &str, path: &str) -> Self {
        let hide = |(place, letter): (usize, char)| {
            if place >= VERSION_ENDS && letter.is_ascii_digit() { '#' } else { letter }
        };
        let path: String = path.chars().take(KEY_LENGTH).enumerate().map(hide).collect();
        Self::Stray { verb: verb.into(), path: path.into() }
    }

    /// A call; the key is cut to a bounded length.
    #[must_use]
    pub fn request(
        project: &str,
        method: Method,
        body_sha256: Digest,
        verdict: Verdict,
        idempotency_key: Option<&str>,
        submerchant: Option<&str>,
    ) -> Self {
        let (idempotency_key, submerchant) = (idempotency_key.map(cut), submerchant.map(cut));
        Self::Request { project: project.into(), method, body_sha256, verdict, idempotency_key, submerchant }
    }
}

/// A text of bounded length. What is cut off still tells two of them apart.
fn cut(text: &str) -> Box<str> {
    if text.chars().nth(KEY_LENGTH).is_none() {
        return text.into();
    }
    let begin: String = text.chars().take(KEY_LENGTH - CUT_MARK).collect();
    let mut mark = format!("~{}", Digest::of(text.as_bytes()));
    mark.truncate(mark.char_indices().nth(CUT_MARK).map_or(mark.len(), |(end, _)| end));
    format!("{begin}{mark}").into()
}

/// The page of one session.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Page {
    pub starts: u32,
    pub confirms_accepted: u32,
    pub cancels_accepted: u32,
    pub paid_times: u32,
    #[serde(default)]
    pub webhook_attempts: u32,
    #[serde(default)]
    looks: u32,
    /// The idempotency keys that it was called with, but for looks.
    #[serde(default)]
    pub keys: Vec<Box<str>>,
    pub events: Vec<Event>,
    pub events_dropped: u64,
}

impl Page {
    /// Remembers an idempotency key once, cut to a bounded length; when there are too many, the later ones
    /// are in the raw events only.
    pub fn note_key(&mut self, key: &str) {
        let key = cut(key);
        if self.keys.len() < KEYS_PER_SESSION && !self.keys.contains(&key) {
            self.keys.push(key);
        }
    }

    /// Adds an entry, or counts it when there are too many of its kind.
    pub fn append(&mut self, event: Event) {
        let keep = match &event.what {
            What::Request { method: Method::Status, .. } => {
                self.looks = self.looks.saturating_add(1);
                self.looks <= LOOKS_PER_SESSION
            }
            What::Request { .. } | What::Fault { .. } | What::Stray { .. } => {
                self.events.len() < EVENTS_PER_SESSION
            }
            What::Change { .. } | What::Webhook { .. } | What::Money { .. } => true,
        };
        if keep {
            self.events.push(event);
        } else {
            self.events_dropped += 1;
        }
    }
}

/// A page without its raw events.
#[derive(Clone, Debug, Deserialize)]
pub struct Tally {
    pub starts: u32,
    pub confirms_accepted: u32,
    pub cancels_accepted: u32,
    pub paid_times: u32,
    #[serde(default)]
    pub keys: Vec<Box<str>>,
}

impl Tally {
    #[must_use]
    pub fn of(page: &Page) -> Self {
        Self {
            starts: page.starts,
            confirms_accepted: page.confirms_accepted,
            cancels_accepted: page.cancels_accepted,
            paid_times: page.paid_times,
            keys: page.keys.clone(),
        }
    }
}

/// Money of one project in one currency, minor units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    pub out: i128,
    pub back: i128,
    pub payouts_paid: u64,
}

/// The sums of one project.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Totals {
    pub sessions: u64,
    pub confirmed_sessions: u64,
    pub paid_sessions: u64,
    pub calls: BTreeMap<Method, u64>,
    pub refusals: BTreeMap<Code, u64>,
    pub answers_lost: u64,
    pub calls_broken: u64,
    pub webhook_attempts: u64,
    pub webhooks_delivered: u64,
    pub webhooks_given_up: u64,
    /// Attempts with a signature that does not fit.
    #[serde(default)]
    pub forgeries: u64,
    /// Those of them that a receiver answered with 200.
    #[serde(default)]
    pub forgeries_accepted: u64,
    #[serde(default)]
    pub faults: BTreeMap<FaultKind, u64>,
    /// By upper-case currency.
    pub money: BTreeMap<String, Flow>,
}

impl Totals {
    /// Counts a call and what came of it.
    pub fn count_call(&mut self, method: Method, verdict: Verdict) {
        *self.calls.entry(method).or_default() += 1;
        match verdict {
            Verdict::Accepted => {}
            Verdict::Refused(code) => *self.refusals.entry(code).or_default() += 1,
            Verdict::AnswerLost => self.answers_lost += 1,
            Verdict::Broken => self.calls_broken += 1,
        }
    }

    /// Counts a fault that struck.
    pub fn count_fault(&mut self, fault: FaultKind) {
        *self.faults.entry(fault).or_default() += 1;
    }

    /// Counts a movement of money.
    pub fn count_money(&mut self, direction: Direction, amount: &Amount) {
        let flow = self.money.entry(amount.currency.upper()).or_default();
        match direction {
            Direction::Out => {
                flow.out += i128::from(amount.minor);
                flow.payouts_paid += 1;
            }
            Direction::Back => flow.back += i128::from(amount.minor),
        }
    }

    /// Money that is gone from the wallet in this currency (upper case).
    #[must_use]
    pub fn spent(&self, currency: &str) -> i128 {
        self.money.get(currency).map_or(0, |flow| flow.out - flow.back)
    }

    /// Adds the sums of another project.
    pub fn add(&mut self, other: &Self) {
        self.sessions += other.sessions;
        self.confirmed_sessions += other.confirmed_sessions;
        self.paid_sessions += other.paid_sessions;
        self.answers_lost += other.answers_lost;
        self.calls_broken += other.calls_broken;
        self.webhook_attempts += other.webhook_attempts;
        self.webhooks_delivered += other.webhooks_delivered;
        self.webhooks_given_up += other.webhooks_given_up;
        self.forgeries += other.forgeries;
        self.forgeries_accepted += other.forgeries_accepted;
        for (fault, count) in &other.faults {
            *self.faults.entry(*fault).or_default() += count;
        }
        for (method, count) in &other.calls {
            *self.calls.entry(*method).or_default() += count;
        }
        for (code, count) in &other.refusals {
            *self.refusals.entry(*code).or_default() += count;
        }
    }
}

/// What the ledger holds outside the sessions' pages.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Ledger {
    /// By project; calls of unknown projects are under the empty name.
    pub totals: BTreeMap<Box<str>, Totals>,
    /// Calls that belong to no session.
    pub loose: VecDeque<Event>,
    pub loose_dropped: u64,
}

impl Ledger {
    /// The sums of a project, to add to.
    pub fn totals_of(&mut self, project: &str) -> &mut Totals {
        if !self.totals.contains_key(project) {
            self.totals.insert(project.into(), Totals::default());
        }
        self.totals.get_mut(project).expect("inserted above")
    }

    /// Adds a call that belongs to no session; the oldest one makes room.
    pub fn append_loose(&mut self, event: Event) {
        if self.loose.len() == LOOSE_EVENTS {
            self.loose.pop_front();
            self.loose_dropped += 1;
        }
        self.loose.push_back(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        let what = What::request(
            "p",
            Method::Status,
            Digest::of(b""),
            Verdict::Accepted,
            Some(&"k".repeat(99)),
            None,
        );
        Event { at: At(1), what }
    }

    #[test]
    fn raw_events_are_capped_and_counted() {
        let mut page = Page::default();
        (0..LOOKS_PER_SESSION + 3).for_each(|_| page.append(event()));
        assert_eq!(page.events_dropped, 3);
        let what = What::stray("GET", "/");
        (0..EVENTS_PER_SESSION).for_each(|_| page.append(Event { at: At(2), what: what.clone() }));
        assert_eq!(page.events.len(), EVENTS_PER_SESSION);
        // Whatever else is dropped, what happened is not.
        let what = What::Change { session_status: SessionStatus::Accepted, payout: None, error: None };
        page.append(Event { at: At(3), what });
        assert_eq!(page.events.len(), EVENTS_PER_SESSION + 1);
        let mut ledger = Ledger::default();
        (0..LOOSE_EVENTS + 2).for_each(|_| ledger.append_loose(event()));
        assert_eq!((ledger.loose.len(), ledger.loose_dropped), (LOOSE_EVENTS, 2));
    }

    #[test]
    fn a_stray_path_is_cut_and_loses_its_digits() {
        let What::Stray { path, .. } = What::stray("POST", "/api/v2/pay/4242424242424242") else {
            panic!("a stray")
        };
        assert_eq!(&*path, "/api/v2/pay/################");
        let What::Stray { path, .. } = What::stray("POST", &"é".repeat(500)) else { panic!("a stray") };
        assert_eq!(path.chars().count(), KEY_LENGTH);
    }

    #[test]
    fn a_long_key_is_cut() {
        let What::Request { idempotency_key: Some(key), .. } = event().what else { panic!("a request") };
        assert_eq!(key.len(), KEY_LENGTH);
        assert_ne!(cut(&format!("{}a", "k".repeat(99))), cut(&format!("{}b", "k".repeat(99))));
        assert_eq!(&*cut(&"k".repeat(64)), "k".repeat(64));
        let mut page = Page::default();
        (0..9).for_each(|_| page.note_key(&"k".repeat(99)));
        assert_eq!(page.keys, [key]);
        (0..99).for_each(|n| page.note_key(&format!("{n}")));
        assert_eq!(page.keys.len(), KEYS_PER_SESSION);
    }
}
