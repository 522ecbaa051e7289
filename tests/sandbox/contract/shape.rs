//! What the objects of §3 may look like: which fields must be there, which may, of what type. Anything else
//! is a difference.

use serde_json::{Value, json};

use super::partner::Version;
use crate::raw::Message;

/// Panics, naming the place, when a value is not what it should be.
type Test = fn(&Value, &str);
type Fields = [(&'static str, Test)];

/// An object with all of `must`, some of `may`, nothing else.
fn object(value: &Value, at: &str, must: &Fields, may: &Fields) {
    let fields = value.as_object().unwrap_or_else(|| panic!("{at} is not an object: {value}"));
    for (name, _) in must {
        assert!(fields.contains_key(*name), "{at} lacks `{name}`: {value}");
    }
    for (name, value) in fields {
        let test = must.iter().chain(may).find(|(known, _)| known == name);
        let (_, test) = test.unwrap_or_else(|| panic!("{at} has `{name}`, which no document knows: {value}"));
        test(value, &format!("{at}.{name}"));
    }
}

fn list(value: &Value, at: &str, test: impl Fn(&Value, &str)) {
    let elements = value.as_array().unwrap_or_else(|| panic!("{at} is not a list: {value}"));
    for (index, element) in elements.iter().enumerate() {
        test(element, &format!("{at}[{index}]"));
    }
}

fn one_of(value: &Value, at: &str, known: &[&str]) {
    assert!(value.as_str().is_some_and(|text| known.contains(&text)), "{at} is {value}, not of {known:?}");
}

pub fn text(value: &Value, at: &str) {
    assert!(value.as_str().is_some_and(|text| !text.is_empty()), "{at} is no text: {value}");
}

fn flag(value: &Value, at: &str) {
    assert!(value.is_boolean(), "{at} is no flag: {value}");
}

fn any(_: &Value, _: &str) {}

fn echo(value: &Value, at: &str) {
    assert!(value.is_object(), "{at} is not an object: {value}");
}

fn digits(value: &Value, at: &str, count: usize) {
    let fine = |text: &str| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    assert!(value.as_str().is_some_and(fine), "{at} is not {count} digits: {value}");
}

/// `2024-05-27T02:03:00.000000Z` (§3.1).
pub fn instant(value: &Value, at: &str) {
    let pattern = "dddd-dd-ddTdd:dd:dd.ddddddZ";
    let fits = |(have, want): (char, char)| if want == 'd' { have.is_ascii_digit() } else { have == want };
    let fine = |text: &str| text.len() == pattern.len() && text.chars().zip(pattern.chars()).all(fits);
    assert!(value.as_str().is_some_and(fine), "{at} is not an instant: {value}");
}

fn id(value: &Value, at: &str, prefix: &str) {
    let fine = |text: &str| text.len() > prefix.len() && text.starts_with(prefix);
    assert!(value.as_str().is_some_and(fine), "{at} does not begin with {prefix}: {value}");
}

/// §3.1
pub fn session(value: &Value, version: Version) {
    object(
        value,
        "session",
        &[
            ("id", |value, at| id(value, at, "ps_")),
            ("status", |value, at| {
                one_of(value, at, &["created", "in_progress", "accepted", "cancelled", "error"]);
            }),
            ("created_at", instant),
            ("updated_at", instant),
        ],
        &[
            ("finished_at", instant),
            (
                version.payouts(),
                match version {
                    Version::V1 => |value, at| list(value, at, |value, at| payout(value, at, Version::V1)),
                    Version::V2 => |value, at| list(value, at, |value, at| payout(value, at, Version::V2)),
                },
            ),
            (version.incoming(), |value, at| {
                assert_eq!(value, &json!([]), "{at}: nobody pays in here");
            }),
            ("next_action", |value, at| one_of(value, at, &["confirm"])),
            ("error", error),
        ],
    );
    assert!(value["updated_at"].as_str() >= value["created_at"].as_str(), "{value}");
    let waits = value["next_action"] == "confirm";
    assert!(!waits || value["status"] == "in_progress", "it waits only while in progress: {value}");
}

/// §3.2
fn payout(value: &Value, at: &str, version: Version) {
    object(
        value,
        at,
        &[
            ("id", |value, at| id(value, at, "po_")),
            ("status", |value, at| {
                one_of(value, at, &["in_progress", "pending", "succeeded", "failed"]);
            }),
            ("created_at", instant),
            (version.destination(), destination),
            ("amount_details", amount),
        ],
        &[
            ("finished_at", instant),
            ("customer", echo),
            ("amounts", amounts),
            ("participant_details", echo),
            ("transaction_info", transaction),
            ("refunds", |value, at| list(value, at, refund)),
            ("metadata", any),
            ("error", error),
        ],
    );
    let is_final = ["succeeded", "failed"].map(Value::from).contains(&value["status"]);
    assert!(is_final || value.get("finished_at").is_none(), "{at} has finished before its end: {value}");
    assert_eq!(value.get("error").is_some(), value["status"] == "failed", "{at}: {value}");
}

/// §3.4.2: masked, whatever it was in the request.
fn destination(value: &Value, at: &str) {
    object(
        value,
        at,
        &[
            ("type", |value, at| one_of(value, at, &["card"])),
            ("card", |value, at| {
                object(
                    value,
                    at,
                    &[("brand", text), ("last4", |value, at| digits(value, at, 4))],
                    &[
                        ("bin", |value, at| digits(value, at, 6)),
                        ("card_id", text),
                        ("country_iso3", |value, at| {
                            assert_eq!(value.as_str().unwrap_or_default().len(), 3, "{at}: {value}");
                        }),
                    ],
                );
            }),
        ],
        &[],
    );
}

/// §3.5
pub fn amount(value: &Value, at: &str) {
    object(
        value,
        at,
        &[
            ("amount", |value, at| assert!(value.is_i64(), "{at} is not minor units: {value}")),
            ("currency", |value, at| {
                assert_eq!(value.as_str().unwrap_or_default().len(), 3, "{at}: {value}");
            }),
        ],
        &[],
    );
}

fn amounts(value: &Value, at: &str) {
    let fee: Test = |value, at| object(value, at, &[], &[("merchant_fee", amount)]);
    object(value, at, &[], &[("net", amount), ("gross", amount), ("fee", fee)]);
}

/// §3.10
fn transaction(value: &Value, at: &str) {
    let known: [&str; 6] =
        ["rrn", "auth_code", "arn", "fp_message_id", "external_subscription_token", "bank_account_ru_token"];
    let test: Test = text;
    object(value, at, &[], &known.map(|name| (name, test)));
}

/// §3.11
fn refund(value: &Value, at: &str) {
    object(
        value,
        at,
        &[
            ("id", |value, at| id(value, at, "rf_")),
            ("status", |value, at| {
                one_of(value, at, &["in_progress", "accepted", "declined", "error"]);
            }),
            ("created_at", instant),
            ("amount_details", amount),
        ],
        &[
            ("finished_at", instant),
            ("metadata", any),
            ("is_chargeback", flag),
            ("amounts", amounts),
            ("transaction_info", transaction),
        ],
    );
}

/// §3.9
pub fn error(value: &Value, at: &str) {
    let reasons: Test = |value, at| list(value, at, echo);
    object(value, at, &[("code", text), ("description", text)], &[("reject_reasons", reasons)]);
}

/// §1.2, §6.1 (a): an answer that refuses a call.
pub fn refusal(answer: &Message, http: u16, code: &str) {
    let json = answer.json();
    assert_eq!((answer.http(), &json["error"]["code"]), (http, &json!(code)), "{json}");
    any_refusal(&json);
}

pub fn any_refusal(json: &Value) {
    let status: Test = |value, at| one_of(value, at, &["error"]);
    object(json, "answer", &[("status", status), ("error", error)], &[]);
}

#[test]
fn what_no_document_knows_is_caught() {
    let good = json!({ "id": "ps_1", "status": "in_progress", "created_at": "2025-03-04T10:15:30.120000Z",
        "updated_at": "2025-03-04T10:15:31.480000Z", "next_action": "confirm",
        "payout_list": [{ "id": "po_1", "status": "pending", "created_at": "2025-03-04T10:15:31.470000Z",
            "payout_details": { "type": "card", "card": { "brand": "visa", "last4": "4242" } },
            "amount_details": { "amount": 1, "currency": "rub" }, "metadata": null }] });
    session(&good, Version::V2);
    let spoils: [(&str, &str, Value); 12] = [
        ("", "payments", json!([])),
        ("", "finished_at", json!("2025-03-04")),
        ("", "next_action", json!("capture")),
        ("", "status", json!("canceled")),
        ("", "id", json!("ps_")),
        ("", "created_at", json!("2025-03-04T10:15:30Z")),
        ("/payout_list/0", "payment_method", json!({})),
        ("/payout_list/0", "error", json!({ "code": "c", "description": "d" })),
        ("/payout_list/0", "customer", json!(null)),
        ("/payout_list/0/amount_details", "amount", json!("1")),
        ("/payout_list/0/payout_details/card", "number", json!("4242424242424242")),
        ("/payout_list/0/payout_details/card", "last4", json!("42")),
    ];
    for (place, field, value) in spoils {
        let mut bad = good.clone();
        bad.pointer_mut(place).unwrap()[field] = value;
        let caught = std::panic::catch_unwind(|| session(&bad, Version::V2)).is_err();
        assert!(caught, "{bad}");
    }
    for missing in ["id", "updated_at"] {
        let mut bad = good.clone();
        drop(bad.as_object_mut().unwrap().remove(missing));
        assert!(std::panic::catch_unwind(|| session(&bad, Version::V2)).is_err(), "{bad}");
    }
    assert!(std::panic::catch_unwind(|| session(&good, Version::V1)).is_err(), "the other version");
}
