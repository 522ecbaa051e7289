//! The rules in force, and the dice. The same seed and the same calls in the same order strike in the same
//! places: each rule throws its own dice, one throw a fit.

use serde::Serialize;

use super::super::machine::WebhookKind;
use super::super::request::Method;
use super::super::session::Version;
use super::kind::{FaultKind, Scope};
use super::rule::{Figures, Rule, Target};

/// More would only be a mistake, and each call looks at all of them.
pub(super) const MOST_RULES: usize = 1000;

/// A fault that strikes.
#[derive(Clone, Debug, PartialEq)]
pub struct Strike {
    pub kind: FaultKind,
    pub figures: Figures,
    /// It stands in the session's own story, and strikes there once.
    pub own: bool,
}

impl Strike {
    /// The fault of a session's own story.
    #[must_use]
    pub fn own(kind: FaultKind) -> Self {
        Self { kind, figures: Figures::default(), own: true }
    }

    /// A fault that somebody has ordered.
    #[must_use]
    pub fn ordered(rule: &Rule) -> Self {
        Self { kind: rule.fault, figures: rule.figures.clone(), own: false }
    }
}

/// What a rule is held against.
#[derive(Clone, Copy, Debug)]
pub struct Occasion<'a> {
    pub project: &'a str,
    pub version: Option<Version>,
    pub session: Option<&'a str>,
    /// JSON text.
    pub metadata: Option<&'a str>,
    pub amount: Option<i64>,
    /// The session has ended: only then can its status go backwards.
    pub ended: bool,
    pub of: Of,
}

/// A call or a webhook.
#[derive(Clone, Copy, Debug)]
pub enum Of {
    Call(Method),
    Webhook(WebhookKind),
}

impl Target {
    fn fits(&self, occasion: &Occasion<'_>) -> bool {
        let of = match occasion.of {
            Of::Call(method) => self.webhook.is_none() && self.method.is_none_or(|wanted| wanted == method),
            Of::Webhook(kind) => self.method.is_none() && self.webhook.is_none_or(|wanted| wanted == kind),
        };
        let same = |wanted: &Option<String>, given: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| given == Some(wanted))
        };
        of && same(&self.project, Some(occasion.project))
            && self.version.is_none_or(|version| occasion.version == Some(version))
            && same(&self.session, occasion.session)
            && self.amount.is_none_or(|amount| occasion.amount == Some(amount))
            && (self.metadata.as_deref())
                .is_none_or(|part| occasion.metadata.is_some_and(|text| text.contains(part)))
    }
}

impl FaultKind {
    /// Whether the fault can strike there at all.
    #[must_use]
    pub fn can_strike(self, of: Of, ended: bool) -> bool {
        // Nothing goes back that has not been somewhere.
        if self == Self::StatusBackwards && !ended {
            return false;
        }
        match (self.scope(), of) {
            (Scope::Call, Of::Call(_)) | (Scope::Webhook, Of::Webhook(_)) => true,
            (Scope::Status, Of::Call(method)) => method == Method::Status,
            (Scope::Start, Of::Call(method)) => matches!(method, Method::StartPayout | Method::InitPayout),
            (Scope::Webhook, Of::Call(_)) | (Scope::Call | Scope::Status | Scope::Start, Of::Webhook(_)) => {
                false
            }
        }
    }
}

/// A rule in force, with what became of it.
#[derive(Debug, Serialize)]
pub struct Entry {
    pub id: u64,
    #[serde(flatten)]
    pub rule: Rule,
    /// How often it fitted.
    pub fitted: u64,
    /// How often it struck.
    pub struck: u64,
    #[serde(skip)]
    dice: fastrand::Rng,
}

/// The rules in force.
#[derive(Debug)]
pub struct Book {
    seed: u64,
    next_id: u64,
    entries: Vec<Entry>,
}

impl Book {
    #[must_use]
    pub fn new(seed: u64, rules: Vec<Rule>) -> Self {
        let mut book = Self { seed, next_id: 1, entries: Vec::new() };
        for rule in rules.into_iter().take(MOST_RULES) {
            book.push(rule);
        }
        book
    }

    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Adds a rule.
    ///
    /// # Errors
    /// When there are too many.
    pub fn add(&mut self, rule: Rule) -> Result<u64, String> {
        if self.entries.len() >= MOST_RULES {
            return Err(format!("there are {MOST_RULES} rules already; delete some"));
        }
        Ok(self.push(rule))
    }

    fn push(&mut self, rule: Rule) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        // Apart, so that one rule's throws do not move another's.
        let dice = fastrand::Rng::with_seed(self.seed ^ id.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        self.entries.push(Entry { id, rule, fitted: 0, struck: 0, dice });
        id
    }

    /// Takes a rule out; whether it was there.
    pub fn remove(&mut self, id: u64) -> bool {
        let before = self.entries.len();
        self.entries.retain(|entry| entry.id != id);
        self.entries.len() < before
    }

    /// Takes all rules out.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// No rule can strike, so nobody has to ask.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The fault of the first rule that fits and whose dice say so. Rules before it have had their throw.
    pub fn throw(&mut self, occasion: &Occasion<'_>) -> Option<Strike> {
        let fitting = self.entries.iter_mut().filter(|entry| {
            entry.rule.fault.can_strike(occasion.of, occasion.ended) && entry.rule.target.fits(occasion)
        });
        for entry in fitting {
            let over = entry.rule.times.is_some_and(|times| entry.struck >= times);
            entry.fitted += 1;
            let strikes = entry.dice.f64() < entry.rule.rate;
            if !over && strikes && entry.fitted > entry.rule.skip {
                entry.struck += 1;
                return Some(Strike::ordered(&entry.rule));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn occasion(of: Of) -> Occasion<'static> {
        let (session, metadata) = (Some("ps_1"), Some("\"wd-7/1\""));
        let (version, amount) = (Some(Version::V2), Some(500));
        Occasion { project: "shop", version, session, metadata, amount, ended: false, of }
    }

    fn book(rules: &[serde_json::Value]) -> Book {
        Book::new(7, rules.iter().map(|rule| Rule::read(rule.clone()).unwrap()).collect())
    }

    fn strikes(book: &mut Book, of: Of) -> Option<FaultKind> {
        book.throw(&occasion(of)).map(|strike| strike.kind)
    }

    #[test]
    fn a_rule_strikes_where_everything_fits() {
        let confirm = Of::Call(Method::Confirm);
        for (target, fits) in [
            (json!({}), true),
            (json!({ "method": "session/confirm", "version": "v2", "project": "shop" }), true),
            (json!({ "session": "ps_1", "metadata": "wd-7", "amount": 500 }), true),
            (json!({ "method": "session/cancel" }), false),
            (json!({ "version": "v1" }), false),
            (json!({ "project": "other" }), false),
            (json!({ "session": "ps_2" }), false),
            (json!({ "metadata": "wd-8" }), false),
            (json!({ "amount": 501 }), false),
        ] {
            let mut rule = target.clone();
            rule["fault"] = "html".into();
            assert_eq!(strikes(&mut book(&[rule]), confirm).is_some(), fits, "{target}");
        }
        let mut webhooks = book(&[json!({ "fault": "webhook_drop", "webhook": "payment_finished" })]);
        assert_eq!(strikes(&mut webhooks, confirm), None);
        assert_eq!(strikes(&mut webhooks, Of::Webhook(WebhookKind::ReadyToConfirm)), None);
        let finished = Of::Webhook(WebhookKind::PaymentFinished);
        assert_eq!(strikes(&mut webhooks, finished), Some(FaultKind::WebhookDrop));
        let mut stale = book(&[json!({ "fault": "stale_status" }), json!({ "fault": "start_twice" })]);
        assert_eq!(strikes(&mut stale, confirm), None);
        assert_eq!(strikes(&mut stale, Of::Call(Method::Status)), Some(FaultKind::StaleStatus));
        assert_eq!(strikes(&mut stale, Of::Call(Method::InitPayout)), Some(FaultKind::StartTwice));
    }

    #[test]
    fn rules_are_skipped_used_up_and_removed() {
        let mut book = book(&[
            json!({ "fault": "html", "skip": 1, "times": 2 }),
            json!({ "fault": "empty", "times": 1 }),
        ]);
        let thrown: Vec<_> = (0..5).map(|_| strikes(&mut book, Of::Call(Method::Create))).collect();
        let (html, empty) = (Some(FaultKind::Html), Some(FaultKind::Empty));
        assert_eq!(thrown, [empty, html, html, None, None]);
        assert_eq!((book.entries()[0].fitted, book.entries()[0].struck), (5, 2));
        assert!(book.remove(1) && !book.remove(1));
        book.clear();
        assert!(book.is_empty());
    }

    #[test]
    fn one_seed_is_one_sequence() {
        let sequence = |seed| {
            let rule = Rule::read(json!({ "fault": "html", "rate": 0.3 })).unwrap();
            let mut book = Book::new(seed, vec![rule]);
            (0..1000).map(|_| strikes(&mut book, Of::Call(Method::Create)).is_some()).collect::<Vec<_>>()
        };
        let struck = sequence(1).iter().filter(|struck| **struck).count();
        assert!((200..400).contains(&struck), "{struck}");
        assert_eq!(sequence(1), sequence(1));
        assert_ne!(sequence(1), sequence(2));
    }
}
