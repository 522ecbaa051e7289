//! Every rule: met, broken, at its limit, and impossible to evaluate.

use super::*;

fn rub() -> Currency {
    "RUB".parse().unwrap()
}

fn rules() -> RuleSet {
    let list = |allow: &[&str], deny: &[&str]| CardList {
        allow: allow.iter().map(|text| (*text).to_owned()).collect(),
        deny: deny.iter().map(|text| (*text).to_owned()).collect(),
    };
    RuleSet {
        version: "test".to_owned(),
        amounts: BTreeMap::from([(rub(), AmountLimits { min: 100, max: 1000, hold_above: Some(900) })]),
        brand: list(&["visa"], &[]),
        country: list(&[], &["prk"]),
        bin: list(&[], &["400000"]),
        card_id: list(&[], &["stolen"]),
        recipient_daily_cap: BTreeMap::from([(rub(), 1500)]),
    }
}

fn good() -> Inputs {
    Inputs {
        amount: Money::new(500, rub()).unwrap(),
        card: CardFacts {
            brand: Some("visa".to_owned()),
            last4: Some("4242".to_owned()),
            bin: Some("424242".to_owned()),
            card_id: Some("c1".to_owned()),
            country: Some("ARM".to_owned()),
        },
        recipient_today: Some(0),
        confirms_on: true,
        approved: false,
    }
}

fn outcome(change: impl FnOnce(&mut Inputs)) -> (RuleOutcome, Vec<String>) {
    let mut inputs = good();
    change(&mut inputs);
    let verdict = rules().evaluate(inputs);
    (verdict.outcome, verdict.hits.into_iter().map(|hit| hit.rule).collect())
}

fn amount(minor: i64) -> Money {
    Money::new(minor, rub()).unwrap()
}

#[test]
fn a_payout_within_all_rules_is_confirmed() {
    assert_eq!(outcome(|_| {}), (RuleOutcome::Confirm, vec![]));
}

#[test]
fn amounts_are_limited_at_both_ends() {
    assert_eq!(outcome(|i| i.amount = amount(100)).0, RuleOutcome::Confirm);
    assert_eq!(outcome(|i| i.amount = amount(99)), (RuleOutcome::Cancel, vec!["amount.min".to_owned()]));
    assert_eq!(outcome(|i| i.amount = amount(900)).0, RuleOutcome::Confirm);
    assert_eq!(
        outcome(|i| i.amount = amount(901)),
        (RuleOutcome::Hold, vec!["amount.hold_above".to_owned()])
    );
    let at_most = outcome(|i| i.amount = amount(1000));
    assert_eq!(at_most, (RuleOutcome::Hold, vec!["amount.hold_above".to_owned()]), "the maximum is allowed");
    assert_eq!(outcome(|i| i.amount = amount(1001)).0, RuleOutcome::Cancel);
}

#[test]
fn a_currency_without_limits_is_held() {
    let usd = Money::new(500, "USD".parse().unwrap()).unwrap();
    assert_eq!(outcome(|i| i.amount = usd), (RuleOutcome::Hold, vec!["amount".to_owned()]));
}

#[test]
fn cards_are_judged_by_every_list() {
    let cases: [(&str, fn(&mut Inputs)); 4] = [
        ("card.brand.allow", |i| i.card.brand = Some("mir".to_owned())),
        ("card.country.deny", |i| i.card.country = Some("PRK".to_owned())),
        ("card.bin.deny", |i| i.card.bin = Some("400000".to_owned())),
        ("card.card_id.deny", |i| i.card.card_id = Some("stolen".to_owned())),
    ];
    for (rule, change) in cases {
        assert_eq!(outcome(change), (RuleOutcome::Cancel, vec![rule.to_owned()]));
    }
}

#[test]
fn what_pike_does_not_tell_is_never_confirmed() {
    let cases: [fn(&mut Inputs); 5] = [
        |i| i.card.brand = None,
        |i| i.card.country = None,
        |i| i.card.bin = None,
        |i| i.card.card_id = None,
        |i| i.recipient_today = None,
    ];
    for change in cases {
        assert_eq!(outcome(change).0, RuleOutcome::Hold);
    }
}

#[test]
fn the_daily_cap_counts_this_payout_too() {
    assert_eq!(outcome(|i| i.recipient_today = Some(1000)).0, RuleOutcome::Confirm);
    assert_eq!(outcome(|i| i.recipient_today = Some(1001)).0, RuleOutcome::Cancel);
    assert_eq!(
        outcome(|i| i.recipient_today = Some(i64::MAX)).0,
        RuleOutcome::Hold,
        "overflow is not evaluated"
    );
}

#[test]
fn approval_lifts_holds_and_nothing_else() {
    assert_eq!(outcome(|i| (i.amount, i.approved) = (amount(950), true)).0, RuleOutcome::Confirm);
    assert_eq!(outcome(|i| (i.amount, i.approved) = (amount(1001), true)).0, RuleOutcome::Cancel);
    assert_eq!(outcome(|i| (i.confirms_on, i.approved) = (false, true)).0, RuleOutcome::Wait);
}

#[test]
fn the_switch_stops_everything_and_loses_to_stricter_rules() {
    assert_eq!(outcome(|i| i.confirms_on = false).0, RuleOutcome::Wait);
    assert_eq!(outcome(|i| (i.confirms_on, i.amount) = (false, amount(950))).0, RuleOutcome::Hold);
}
