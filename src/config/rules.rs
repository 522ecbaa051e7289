//! The rules file: TOML to the domain's [`RuleSet`]. As strict as the settings: an unknown key, an unknown
//! currency or two lists that contradict each other are refused, because a rule that is misread is worse than
//! one that is missing.

use super::{
    ConfigProblems, countries, files,
    problem::Problems,
    schema::mistyped,
    walk::{self, MOST_FILE_BYTES},
};
use crate::domain::{
    money::{Currency, MAX_MINOR},
    rules::{AmountLimits, CardList, RuleSet},
};
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::Path,
};
use toml::{Table, Value};

const SECTIONS: &[&str] = &["version", "amounts", "card", "recipient"];
const AMOUNT_KEYS: &[&str] = &["min", "max", "hold_above"];
const LIST_KEYS: &[&str] = &["allow", "deny"];
/// A day's cap may be many payouts; the sum still has room to spare in an `i64`.
const MOST_DAILY: i64 = 1_000 * MAX_MINOR;
/// As much of the file's hash as tells two versions apart and can still be read out.
const HASH_BYTES: usize = 6;

/// A list rule: its name, and what its entries look like.
struct ListRule {
    name: &'static str,
    allowed: &'static str,
    fits: fn(&str) -> bool,
}

const LIST_RULES: &[ListRule] = &[
    ListRule { name: "brand", allowed: "a brand's name, like \"visa\"", fits: is_word },
    ListRule {
        name: "country",
        allowed: "a country's three letters from ISO 3166-1, like \"ARM\"",
        fits: countries::is_country,
    },
    ListRule {
        name: "bin",
        allowed: "exactly 6 digits in quotes, like \"424242\"",
        fits: |text| text.len() == 6 && text.bytes().all(|byte| byte.is_ascii_digit()),
    },
    ListRule { name: "card_id", allowed: "Pike's identifier of a card", fits: is_word },
];

fn is_word(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Reads a rules file; also returns its text, to be stored beside the decisions it leads to.
///
/// # Errors
/// Everything that is wrong, at once.
pub fn load(path: &Path) -> Result<(RuleSet, String), ConfigProblems> {
    let mut problems = Problems::of(path.display().to_string());
    let body = match files::read_text(path, MOST_FILE_BYTES) {
        Ok(body) => body,
        Err(wrong) => {
            problems.push("", wrong, "a readable file like config/rules.example.toml");
            return Err(problems.done());
        }
    };
    let rules = read(&body, &mut problems);
    if problems.is_empty() { Ok((rules, body)) } else { Err(problems.done()) }
}

/// Reads the text. The result counts only when there are no problems.
fn read(body: &str, problems: &mut Problems) -> RuleSet {
    let Some(mut tree) = walk::parse(body, problems) else { return RuleSet::default() };
    if tree.is_empty() {
        problems.push(
            "",
            "is empty",
            "rules as in config/rules.example.toml: without limits nothing can be paid",
        );
        return RuleSet::default();
    }
    only_known("", &tree, SECTIONS, problems);
    let version = version(tree.remove("version"), body, problems);
    let amounts = amounts(section("amounts", &mut tree, problems), problems);
    let mut card = section("card", &mut tree, problems).unwrap_or_default();
    let names: Vec<&str> = LIST_RULES.iter().map(|rule| rule.name).collect();
    only_known("card.", &card, &names, problems);
    let mut lists: BTreeMap<&str, CardList> =
        LIST_RULES.iter().map(|rule| (rule.name, card_list(rule, &mut card, problems))).collect();
    let mut list = |name| lists.remove(name).unwrap_or_default();
    let mut recipient = section("recipient", &mut tree, problems).unwrap_or_default();
    only_known("recipient.", &recipient, &["daily_cap"], problems);
    let caps = table("recipient.daily_cap", recipient.remove("daily_cap"), problems);
    let recipient_daily_cap = daily_caps(caps.unwrap_or_default(), &amounts, problems);
    RuleSet {
        version,
        brand: list("brand"),
        country: list("country"),
        bin: list("bin"),
        card_id: list("card_id"),
        amounts,
        recipient_daily_cap,
    }
}

fn only_known(path: &str, table: &Table, known: &[&str], problems: &mut Problems) {
    for name in table.keys().filter(|name| !known.contains(&name.as_str())) {
        problems.unknown(&format!("{path}{}", name.escape_debug()), known);
    }
}

fn section(name: &str, tree: &mut Table, problems: &mut Problems) -> Option<Table> {
    table(name, tree.remove(name), problems)
}

fn table(key: &str, value: Option<Value>, problems: &mut Problems) -> Option<Table> {
    let value = value?;
    let Value::Table(table) = value else {
        problems.push(key, mistyped(&value, "a section"), format!("a section [{key}]"));
        return None;
    };
    Some(table)
}

/// The author's version and the beginning of the file's hash: two files that differ never share a version.
fn version(value: Option<Value>, body: &str, problems: &mut Problems) -> String {
    let allowed = "a text of 1 to 64 visible ASCII characters without #, like \"2026-11-01\"";
    let good = |text: &str| text.len() <= 64 && is_word(text) && !text.contains('#');
    match value {
        Some(Value::String(text)) if good(&text) => {
            let mut version = format!("{text}#");
            for byte in Sha256::digest(body.as_bytes()).iter().take(HASH_BYTES) {
                write!(version, "{byte:02x}").expect("writing to a string cannot fail");
            }
            return version;
        }
        Some(Value::String(_)) => problems.push("version", "does not fit", allowed),
        Some(other) => problems.push("version", mistyped(&other, "a text in quotes"), allowed),
        None => problems.push("version", "is missing", allowed),
    }
    String::new()
}

fn currency(path: &str, code: &str, problems: &mut Problems) -> Option<Currency> {
    match code.parse::<Currency>() {
        Ok(currency) if currency.code() == code => return Some(currency),
        Ok(currency) => problems.push(path, "is in lower case", format!("upper case: {currency}")),
        Err(unknown) => problems.push(path, format!("is {unknown}"), "RUB, EUR, USD and the like"),
    }
    None
}

fn amounts(section: Option<Table>, problems: &mut Problems) -> BTreeMap<Currency, AmountLimits> {
    let mut amounts = BTreeMap::new();
    let section = section.unwrap_or_default();
    if section.is_empty() && !problems.mention("amounts") {
        problems.push("amounts", "is missing or empty", "at least one [amounts.<currency>]: others are held");
    }
    for (code, value) in section {
        let path = format!("amounts.{}", code.escape_debug());
        let currency = currency(&path, &code, problems);
        let Some(limits) = table(&path, Some(value), problems) else { continue };
        if let (Some(currency), Some(limits)) = (currency, amount_limits(&path, &limits, problems)) {
            amounts.insert(currency, limits);
        }
    }
    amounts
}

fn amount_limits(path: &str, table: &Table, problems: &mut Problems) -> Option<AmountLimits> {
    only_known(&format!("{path}."), table, AMOUNT_KEYS, problems);
    for required in ["min", "max"] {
        if !table.contains_key(required) {
            problems.push(&format!("{path}.{required}"), "is missing", minor_units(1, MAX_MINOR));
        }
    }
    let mut read = |name: &str, least| {
        let value = table.get(name)?;
        minor(&format!("{path}.{name}"), value, least, MAX_MINOR, problems)
    };
    let (min, max, hold_above) = (read("min", 1), read("max", 1), read("hold_above", 0));
    let (min, max) = (min?, max?);
    if min > max {
        problems.push(&format!("{path}.min"), format!("{min} is above max"), format!("at most max, {max}"));
    }
    if let Some(above) = hold_above.filter(|above| *above >= max) {
        let wrong = format!("{above} leaves nothing to hold, as payouts above max are cancelled");
        problems.push(
            &format!("{path}.hold_above"),
            wrong,
            format!("less than max, {max}, or no hold_above"),
        );
    }
    Some(AmountLimits { min, max, hold_above })
}

fn minor_units(least: i64, most: i64) -> String {
    format!("{least} to {most} minor units, without quotes and fraction")
}

fn minor(key: &str, value: &Value, least: i64, most: i64, problems: &mut Problems) -> Option<i64> {
    let wrong = match value.as_integer() {
        Some(number) if (least..=most).contains(&number) => return Some(number),
        Some(number) => format!("{number} is out of range"),
        None => mistyped(value, "a whole number"),
    };
    problems.push(key, wrong, minor_units(least, most));
    None
}

fn card_list(rule: &ListRule, card: &mut Table, problems: &mut Problems) -> CardList {
    let path = format!("card.{}", rule.name);
    let table = table(&path, card.remove(rule.name), problems).unwrap_or_default();
    only_known(&format!("{path}."), &table, LIST_KEYS, problems);
    let allow = entries(&format!("{path}.allow"), rule, table.get("allow"), problems);
    let deny = entries(&format!("{path}.deny"), rule, table.get("deny"), problems);
    if allow.intersection(&deny).next().is_some() {
        for (position, entry) in texts(table.get("deny")).enumerate() {
            if allow.contains(&entry.to_ascii_lowercase()) {
                let key = format!("{path}.deny[{position}]");
                problems.push(&key, format!("is also in {path}.allow"), "each value in one of the lists");
            }
        }
    }
    CardList { allow, deny }
}

fn texts(list: Option<&Value>) -> impl Iterator<Item = &str> {
    list.and_then(Value::as_array).into_iter().flatten().map(|entry| entry.as_str().unwrap_or_default())
}

/// Entries are named by their position and never repeated: somebody may have pasted a card number.
fn entries(key: &str, rule: &ListRule, list: Option<&Value>, problems: &mut Problems) -> BTreeSet<String> {
    let mut good = BTreeSet::new();
    let Some(list) = list else { return good };
    let Some(list) = list.as_array() else {
        problems.push(key, mistyped(list, "a list"), format!("a list, each {}", rule.allowed));
        return good;
    };
    for (position, entry) in list.iter().enumerate() {
        let key = format!("{key}[{position}]");
        match entry.as_str() {
            Some(text) if (rule.fits)(text) => drop(good.insert(text.to_ascii_lowercase())),
            Some(_) => problems.push(&key, "does not fit", rule.allowed),
            None => problems.push(&key, mistyped(entry, "a text in quotes"), rule.allowed),
        }
    }
    good
}

fn daily_caps(
    caps: Table,
    amounts: &BTreeMap<Currency, AmountLimits>,
    problems: &mut Problems,
) -> BTreeMap<Currency, i64> {
    let mut good = BTreeMap::new();
    for (code, value) in caps {
        let key = format!("recipient.daily_cap.{}", code.escape_debug());
        let currency = currency(&key, &code, problems);
        let (Some(currency), Some(cap)) = (currency, minor(&key, &value, 1, MOST_DAILY, problems)) else {
            continue;
        };
        if let Some(limits) = amounts.get(&currency).filter(|limits| cap < limits.min) {
            let wrong = format!("{cap} is below amounts.{currency}.min, so nothing could be paid");
            problems.push(&key, wrong, format!("at least {}", limits.min));
        }
        good.insert(currency, cap);
    }
    good
}

#[cfg(test)]
mod tests;
