//! The example is good; every kind of mistake is named, several at once; versions follow the bytes.

use super::*;
use crate::config::scratch::Scratch;

const EXAMPLE: &str = include_str!("../../../config/rules.example.toml");
const GOOD: &str = "version = \"v1\"\n[amounts.RUB]\nmin = 100\nmax = 1000\n";

fn lines(body: &str) -> Vec<String> {
    let mut problems = Problems::of("rules.toml");
    read(body, &mut problems);
    problems.done().0.iter().map(ToString::to_string).collect()
}

fn strings(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn the_example_is_good_and_complete() {
    let scratch = Scratch::new();
    let file = scratch.file("rules.toml", EXAMPLE, 0o644);
    let (rules, body) = load(&file).unwrap();
    assert_eq!(body, EXAMPLE);
    let currencies: Vec<&str> = rules.amounts.keys().map(|currency| currency.code()).collect();
    assert_eq!(currencies, ["AMD", "EUR", "KZT", "RUB", "USD"]);
    assert!(rules.amounts.values().all(|limits| limits.hold_above.is_some_and(|above| above > limits.min)));
    assert_eq!(rules.recipient_daily_cap.keys().count(), 5);
    assert_eq!(rules.brand, CardList { allow: strings(&["visa", "mastercard"]), deny: strings(&[]) });
    assert_eq!(rules.country, CardList { allow: strings(&[]), deny: strings(&["prk"]) });
    assert_eq!((&rules.bin, &rules.card_id), (&CardList::default(), &CardList::default()));
    // Every key that a rules file can have is shown in the example.
    let tree: Table = EXAMPLE.parse().unwrap();
    assert_eq!(tree.keys().collect::<BTreeSet<_>>().len(), SECTIONS.len());
    for rule in LIST_RULES {
        assert!(EXAMPLE.contains(&format!("[card.{}]\n", rule.name)), "{}", rule.name);
    }
    for key in AMOUNT_KEYS {
        assert!(tree["amounts"]["RUB"].get(key).is_some(), "{key}");
    }
}

#[test]
fn the_version_is_the_authors_and_the_hash_of_the_file() {
    let version = |body: &str| read(body, &mut Problems::of("r")).version;
    // Computed with sha256sum.
    assert_eq!(version(GOOD), "v1#86f67254373c");
    assert_ne!(version(&format!("{GOOD}# a comment\n")), version(GOOD));
    assert_eq!(lines(&format!("{GOOD}# a comment\n")), Vec::<String>::new());
}

#[test]
fn lists_are_lower_cased() {
    let body = format!(
        "{GOOD}[card.brand]\nallow = [\"VISA\", \"Visa\"]\n[card.country]\ndeny = [\"prk\", \"IRN\"]\n"
    );
    let rules = read(&body, &mut Problems::of("r"));
    assert_eq!(rules.brand.allow, strings(&["visa"]));
    assert_eq!(rules.country.deny, strings(&["irn", "prk"]));
}

#[test]
fn each_mistake_is_named() {
    let rest = |text: &str| format!("{GOOD}{text}");
    for (body, expected) in [
        (String::new(), "rules.toml: is empty; rules as in config/rules.example.toml: without limits"),
        ("# only a comment\n".to_owned(), "rules.toml: is empty; "),
        ("version = ".to_owned(), "rules.toml: is not TOML at line 1, column "),
        ("version = \"v\"".to_owned(), "amounts: is missing or empty; at least one [amounts.<currency>]"),
        (GOOD.replace("\"v1\"", "1"), "version: is a whole number, not a text in quotes; a text of 1 to 64"),
        (GOOD.replace("v1", "a#b"), "version: does not fit; a text of 1 to 64"),
        (GOOD.replace("version = \"v1\"", ""), "version: is missing; a text of 1 to 64"),
        (GOOD.replace("RUB", "RUR2"), "amounts.RUR2: is not an ISO 4217 currency code with minor units; RUB"),
        (GOOD.replace("RUB", "XAU"), "amounts.XAU: is not an ISO 4217 currency code"),
        (GOOD.replace("RUB", "rub"), "amounts.rub: is in lower case; upper case: RUB"),
        (GOOD.replace("min = 100\n", ""), "amounts.RUB.min: is missing; 1 to 1000000000000 minor units"),
        (GOOD.replace("min = 100", "min = 0"), "amounts.RUB.min: 0 is out of range; 1 to "),
        (GOOD.replace("min = 100", "min = 1.5"), "amounts.RUB.min: is a number with a fraction, not a whole"),
        (GOOD.replace("min = 100", "min = 1001"), "amounts.RUB.min: 1001 is above max; at most max, 1000"),
        (rest("hold_above = 1000"), "amounts.RUB.hold_above: 1000 leaves nothing to hold"),
        (
            rest("hold_abov = 1"),
            "amounts.RUB.hold_abov: is not a known key; did you mean hold_above? known here: min",
        ),
        (
            rest("[amount.EUR]\nmin = 1"),
            "amount: is not a known key; did you mean amounts? known here: version",
        ),
        (rest("[card.brnd]"), "card.brnd: is not a known key; did you mean brand?"),
        (rest("[card]\nbrand = 1"), "card.brand: is a whole number, not a section; a section [card.brand]"),
        (rest("[card.bin]\nalow = []"), "card.bin.alow: is not a known key; did you mean allow?"),
        (
            rest("[card.bin]\nallow = \"424242\""),
            "card.bin.allow: is a text, not a list; a list, each exactly 6",
        ),
        (
            rest("[card.bin]\nallow = [424242]"),
            "card.bin.allow[0]: is a whole number, not a text in quotes; exactly",
        ),
        (
            rest("[card.country]\ndeny = [\"PRK\", \"RPK\"]"),
            "card.country.deny[1]: does not fit; a country's three",
        ),
        (rest("[card.country]\ndeny = [\"RU\"]"), "card.country.deny[0]: does not fit; "),
        (
            rest("[card.brand]\nallow = [\"visa\"]\ndeny = [\"mir\", \"VISA\"]"),
            "card.brand.deny[1]: is also in card.brand.allow; each value in one of the lists",
        ),
        (rest("[recipient]\ncap = 1"), "recipient.cap: is not a known key; known here: daily_cap"),
        (rest("[recipient.daily_cap]\nRUB = 99"), "recipient.daily_cap.RUB: 99 is below amounts.RUB.min"),
        (
            rest("[recipient.daily_cap]\nRUB = \"9\""),
            "recipient.daily_cap.RUB: is a text, not a whole number; ",
        ),
        (rest("[recipient.daily_cap]\nABC = 9"), "recipient.daily_cap.ABC: is not an ISO 4217 currency code"),
    ] {
        let lines = lines(&body);
        assert_eq!(lines.len(), 1, "{body}\n{lines:#?}");
        let expected = if expected.starts_with("rules.toml") {
            expected.to_owned()
        } else {
            format!("rules.toml: {expected}")
        };
        assert!(lines[0].starts_with(&expected), "{}\nshould begin with\n{expected}", lines[0]);
    }
}

#[test]
fn all_mistakes_are_named_at_once_and_card_numbers_never() {
    let body = "[amounts.RUB]\nmin = 5\nmax = 2\n[card.bin]\ndeny = [\"4242424242424242\"]\n[cards]\n";
    let lines = lines(body);
    assert_eq!(lines.len(), 4, "{lines:#?}");
    assert!(lines.iter().all(|line| !line.contains("4242424")), "{lines:#?}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let scratch = Scratch::new();
    let missing = load(&scratch.path().join("no.toml")).unwrap_err().to_string();
    assert!(missing.contains("no.toml: does not exist; a readable file"), "{missing}");
    let directory = load(scratch.path()).unwrap_err().to_string();
    assert!(directory.contains("is not a regular file"), "{directory}");
    let large = "#".repeat(usize::try_from(MOST_FILE_BYTES).unwrap() + 1);
    let large = load(&scratch.file("large.toml", &large, 0o644)).unwrap_err().to_string();
    assert!(large.contains("is larger than 1048576 bytes"), "{large}");
}
