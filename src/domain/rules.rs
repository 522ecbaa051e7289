//! The confirm rules: whether a payout that Pike is ready to pay may be paid. Evaluation is total and errs on
//! the side of not paying: a rule that cannot be evaluated holds the payout, it never confirms it.

use super::{money::Currency, money::Money, provider::CardFacts};
use std::collections::{BTreeMap, BTreeSet};

/// One version of the rules, as loaded from the rules file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleSet {
    /// The author's version and the file's hash: recorded with every decision.
    pub version: String,
    /// A currency that is not here cannot be judged and is held.
    pub amounts: BTreeMap<Currency, AmountLimits>,
    pub brand: CardList,
    pub country: CardList,
    pub bin: CardList,
    pub card_id: CardList,
    /// The most that one recipient may be sent per UTC day, in minor units.
    pub recipient_daily_cap: BTreeMap<Currency, i64>,
}

/// Limits for one payout, in minor units, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AmountLimits {
    pub min: i64,
    pub max: i64,
    /// Amounts above this wait for a person.
    pub hold_above: Option<i64>,
}

/// What a card may or must not be. An empty `allow` allows everything that is not denied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CardList {
    pub allow: BTreeSet<String>,
    pub deny: BTreeSet<String>,
}

/// Everything an evaluation depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inputs {
    pub amount: Money,
    pub card: CardFacts,
    /// Minor units already permitted to this recipient today; `None` when that could not be read.
    pub recipient_today: Option<i64>,
    /// The switch for all confirms.
    pub confirms_on: bool,
    /// A person approved the payout.
    pub approved: bool,
}

/// What the rules say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RuleOutcome {
    Confirm,
    Cancel,
    /// Wait for a person.
    Hold,
    /// Wait for the switch.
    Wait,
}

/// One rule that did not simply agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    pub rule: String,
    pub outcome: RuleOutcome,
    pub detail: String,
}

/// The result of an evaluation, stored as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub outcome: RuleOutcome,
    pub hits: Vec<Hit>,
    pub rule_set: String,
    pub inputs: Inputs,
}

impl RuleSet {
    /// Judges one payout. The strictest hit decides: cancel, then hold, then wait, then confirm. Approval by
    /// a person lifts holds, never anything else.
    #[must_use]
    pub fn evaluate(&self, inputs: Inputs) -> Verdict {
        let mut hits = Vec::new();
        if !inputs.confirms_on {
            hits.push(hit("confirms_switch", RuleOutcome::Wait, "confirms are switched off".to_owned()));
        }
        self.judge_amount(&inputs, &mut hits);
        let card = &inputs.card;
        judge_card("card.brand", &self.brand, card.brand.as_deref(), &mut hits);
        judge_card("card.country", &self.country, card.country.as_deref(), &mut hits);
        judge_card("card.bin", &self.bin, card.bin.as_deref(), &mut hits);
        judge_card("card.card_id", &self.card_id, card.card_id.as_deref(), &mut hits);
        self.judge_recipient(&inputs, &mut hits);
        let outcome = strictest(&hits, inputs.approved);
        Verdict { outcome, hits, rule_set: self.version.clone(), inputs }
    }

    fn judge_amount(&self, inputs: &Inputs, hits: &mut Vec<Hit>) {
        let (minor, currency) = (inputs.amount.minor(), inputs.amount.currency());
        let Some(limits) = self.amounts.get(&currency) else {
            hits.push(hit("amount", RuleOutcome::Hold, format!("no limits are set for {currency}")));
            return;
        };
        if minor < limits.min {
            hits.push(hit("amount.min", RuleOutcome::Cancel, format!("{minor} is below {}", limits.min)));
        }
        if minor > limits.max {
            hits.push(hit("amount.max", RuleOutcome::Cancel, format!("{minor} is above {}", limits.max)));
        }
        if let Some(above) = limits.hold_above.filter(|above| minor > *above) {
            hits.push(hit("amount.hold_above", RuleOutcome::Hold, format!("{minor} is above {above}")));
        }
    }

    fn judge_recipient(&self, inputs: &Inputs, hits: &mut Vec<Hit>) {
        let Some(cap) = self.recipient_daily_cap.get(&inputs.amount.currency()) else { return };
        match inputs.recipient_today.map(|today| today.checked_add(inputs.amount.minor())) {
            Some(Some(total)) if total <= *cap => {}
            Some(Some(total)) => {
                let detail = format!("{total} today would be above {cap}");
                hits.push(hit("recipient.daily_cap", RuleOutcome::Cancel, detail));
            }
            Some(None) | None => {
                let detail = "today's total could not be read".to_owned();
                hits.push(hit("recipient.daily_cap", RuleOutcome::Hold, detail));
            }
        }
    }
}

fn hit(rule: &str, outcome: RuleOutcome, detail: String) -> Hit {
    Hit { rule: rule.to_owned(), outcome, detail }
}

fn judge_card(rule: &str, list: &CardList, value: Option<&str>, hits: &mut Vec<Hit>) {
    if list.allow.is_empty() && list.deny.is_empty() {
        return;
    }
    let Some(value) = value.map(str::to_ascii_lowercase) else {
        hits.push(hit(rule, RuleOutcome::Hold, "Pike did not tell".to_owned()));
        return;
    };
    if list.deny.contains(&value) {
        hits.push(hit(&format!("{rule}.deny"), RuleOutcome::Cancel, format!("{value} is denied")));
    } else if !list.allow.is_empty() && !list.allow.contains(&value) {
        hits.push(hit(&format!("{rule}.allow"), RuleOutcome::Cancel, format!("{value} is not allowed")));
    }
}

fn strictest(hits: &[Hit], approved: bool) -> RuleOutcome {
    let any = |outcome| hits.iter().any(|hit| hit.outcome == outcome);
    if any(RuleOutcome::Cancel) {
        RuleOutcome::Cancel
    } else if any(RuleOutcome::Hold) && !approved {
        RuleOutcome::Hold
    } else if any(RuleOutcome::Wait) {
        RuleOutcome::Wait
    } else {
        RuleOutcome::Confirm
    }
}

#[cfg(test)]
mod tests;
