//! Requests good and bad: what is accepted, what is refused, and with which field and code.

use super::*;
use crate::api::codes::Code;
use serde_json::json;

/// A good request with every optional part.
fn good() -> serde_json::Value {
    json!({
        "amount": 125_050,
        "currency": "RUB",
        "destination": { "type": "tokenized_card", "token": "9f0c21ab" },
        "recipient": { "name": "Anna Petrova" },
        "customer_reference": "customer-7",
        "reference": "wd-2025-000417",
        "metadata": { "order": "7" },
    })
}

fn parse(body: impl AsRef<[u8]>) -> Result<Asked, Problem> {
    Asked::check(body::parse(body.as_ref())?)
}

/// The good request with the value at `pointer` replaced (or added).
fn with(pointer: &str, value: serde_json::Value) -> String {
    let mut request = good();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    request.pointer_mut(parent).unwrap()[key] = value;
    request.to_string()
}

fn without(pointer: &str) -> String {
    let mut request = good();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    request.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(key).unwrap();
    request.to_string()
}

#[track_caller]
fn refused(body: impl AsRef<[u8]>, code: Code, field: &str) {
    let problem = parse(&body).unwrap_err();
    let shown = String::from_utf8_lossy(body.as_ref());
    assert_eq!((problem.code(), problem.named_field().unwrap_or("")), (code, field), "{shown:.200}");
}

#[test]
fn a_good_request_is_understood() {
    let asked = parse(good().to_string()).unwrap();
    assert_eq!((asked.amount.minor(), asked.amount.currency().code()), (125_050, "RUB"));
    assert_eq!(asked.destination, DestinationKind::TokenizedCard);
    assert_eq!(asked.secret.expose_secret(), "9f0c21ab");
    assert_eq!(asked.metadata_json(), r#"{"order":"7"}"#);
    for (kind, field) in [("encrypted_card", "number_hash"), ("recurrent", "token")] {
        let destination = json!({ "type": kind, field: "9f0c21ab" });
        assert_eq!(parse(with("/destination", destination)).unwrap().destination.code(), kind);
    }
}

#[test]
fn optional_parts_are_optional() {
    for pointer in ["/reference", "/metadata"] {
        assert!(parse(without(pointer)).is_ok(), "{pointer}");
        assert!(parse(with(pointer, json!(null))).is_ok(), "{pointer}");
    }
}

#[test]
fn every_missing_field_is_named() {
    for pointer in [
        "/amount",
        "/currency",
        "/destination",
        "/destination/type",
        "/destination/token",
        "/recipient",
        "/recipient/name",
        "/customer_reference",
    ] {
        refused(without(pointer), Code::MissingField, &pointer[1..].replace('/', "."));
    }
}

#[test]
fn every_wrong_type_is_named() {
    for (pointer, values) in [
        ("/amount", vec![json!("100"), json!(100.0), json!(1.5), json!(1e2), json!(null), json!([1])]),
        ("/currency", vec![json!(643), json!(null)]),
        ("/destination", vec![json!("token"), json!(["recurrent", "token"]), json!(null)]),
        ("/destination/type", vec![json!(1), json!(null)]),
        ("/destination/token", vec![json!(1), json!({})]),
        ("/recipient", vec![json!("Anna"), json!(["Anna"]), json!(null)]),
        ("/recipient/name", vec![json!(7), json!(null), json!(["Anna"])]),
        ("/customer_reference", vec![json!(7), json!(null)]),
        ("/reference", vec![json!(7), json!({})]),
        ("/metadata", vec![json!("x"), json!([]), json!(7)]),
        ("/metadata/order", vec![json!(7), json!(null), json!({}), json!(true)]),
    ] {
        for value in values {
            refused(with(pointer, value), Code::WrongType, &pointer[1..].replace('/', "."));
        }
    }
    let array = r#"[125050, "RUB", {"type":"recurrent","token":"t"}, {"name":"Anna"}, "customer-7"]"#;
    for body in ["[]", "7", "null", "\"text\"", "true", array] {
        refused(body, Code::WrongType, "");
    }
    let deep = "[".repeat(30_000);
    refused(&deep, Code::WrongType, "");
    refused(format!("{{\"metadata\":{{\"a\":{deep}"), Code::WrongType, "metadata.a");
}

#[test]
fn amounts_are_whole_and_in_range() {
    for literal in
        ["0", "-1", "1000000000001", "9223372036854775807", "-9223372036854775808", "9223372036854775808"]
    {
        let body = good().to_string().replace("125050", literal);
        refused(body, Code::AmountOutOfRange, "amount");
    }
    for literal in ["-0", "1e2", "100.0", "0.1", "18446744073709551616", "1e400", "-1e400"] {
        let body = good().to_string().replace("125050", literal);
        refused(body, Code::WrongType, "amount");
    }
    for literal in ["01", "+1", "0x10", "NaN", "1_000", ".5", "1."] {
        let body = good().to_string().replace("125050", literal);
        assert_eq!(parse(&body).unwrap_err().code(), Code::MalformedJson, "{literal}");
    }
    for literal in ["1", "1000000000000"] {
        assert!(parse(good().to_string().replace("125050", literal)).is_ok(), "{literal}");
    }
}

#[test]
fn unknown_currencies_are_refused() {
    for code in ["", "RU", "RUBLE", "ZZZ", "XAU", "₽", "RUB ", "R\u{0}B"] {
        refused(with("/currency", json!(code)), Code::UnknownCurrency, "currency");
    }
    assert_eq!(parse(with("/currency", json!("rub"))).unwrap().amount.currency().code(), "RUB");
}

#[test]
fn unknown_fields_are_named() {
    for pointer in
        ["/status", "/approved", "/fee", "/tenant", "/Amount", "/recipient/email", "/destination/id"]
    {
        refused(with(pointer, json!("x")), Code::UnknownField, &pointer[1..].replace('/', "."));
    }
    let both = json!({ "type": "tokenized_card", "token": "a", "number_hash": "b" });
    refused(with("/destination", both), Code::UnknownField, "destination.number_hash");
    let nul = with("/amount\u{0}", json!(1));
    refused(nul, Code::UnknownField, "?");
}

#[test]
fn duplicates_are_refused_however_they_are_spelt() {
    let good = good().to_string();
    for (from, to, field) in [
        (r#""amount":125050"#, r#""amount":125050,"amount":1"#, "amount"),
        (r#""amount":125050"#, r#""amount":125050,"\u0061mount":1"#, "amount"),
        (r#""token":"9f0c21ab""#, r#""token":"9f0c21ab","token":"b""#, "destination.token"),
        (r#""name":"Anna Petrova""#, r#""name":"A","name":"B""#, "recipient.name"),
        (r#""order":"7""#, r#""order":"7","order":"7""#, "metadata.order"),
        (r#""order":"7""#, r#""order":"7","\u006frder":"8""#, "metadata.order"),
    ] {
        assert!(good.contains(from), "{from}");
        refused(good.replace(from, to), Code::DuplicateField, field);
    }
}

#[test]
fn malformed_json_is_refused_with_its_place() {
    let trailing = format!("{} x", good());
    let bom = format!("\u{feff}{}", good());
    let lone = good().to_string().replace("Anna", r"\ud800");
    let control = good().to_string().replace("Anna", "A\nnna");
    for body in
        ["", " ", "{", "{\"amount\":", "{'amount':1}", "{\"amount\":1,}", &trailing, &bom, &lone, &control]
    {
        let problem = parse(body).unwrap_err();
        assert_eq!(problem.code(), Code::MalformedJson, "{body:.40}");
        assert!(problem.detail().contains("line ") && problem.detail().contains("column "));
    }
    let mut invalid = good().to_string().into_bytes();
    let at = invalid.iter().position(|b| *b == b'A').unwrap();
    invalid[at] = 0xff;
    assert_eq!(parse(invalid).unwrap_err().code(), Code::MalformedJson);
}

#[test]
fn texts_have_limits_and_no_control_characters() {
    for (pointer, longest) in [
        ("/recipient/name", 140),
        ("/customer_reference", 64),
        ("/reference", 64),
        ("/destination/token", 512),
        ("/metadata/order", 500),
    ] {
        let field = pointer[1..].replace('/', ".");
        assert!(parse(with(pointer, json!("x".repeat(longest)))).is_ok(), "{field}");
        refused(with(pointer, json!("x".repeat(longest + 1))), Code::InvalidLength, &field);
        refused(with(pointer, json!("a\u{0}b")), Code::InvalidText, &field);
    }
    for pointer in ["/recipient/name", "/customer_reference", "/reference", "/destination/token"] {
        refused(with(pointer, json!("")), Code::InvalidLength, &pointer[1..].replace('/', "."));
    }
    refused(with("/metadata/bad key", json!("x")), Code::InvalidText, "metadata.?");
    refused(with("/metadata/", json!("x")), Code::InvalidLength, "metadata.?");
}

#[test]
fn metadata_end_at_their_limit() {
    let entries = |n: usize| -> serde_json::Value { (0..n).map(|i| (format!("k{i}"), "v")).collect() };
    assert!(parse(with("/metadata", entries(METADATA_ENTRIES))).is_ok());
    refused(with("/metadata", entries(METADATA_ENTRIES + 1)), Code::TooManyEntries, "metadata");
}

#[test]
fn card_numbers_are_refused_wherever_they_are() {
    let card = "4111 1111 1111 1111";
    for pointer in
        ["/recipient/name", "/customer_reference", "/reference", "/destination/token", "/metadata/order"]
    {
        refused(with(pointer, json!(card)), Code::RawCardRefused, &pointer[1..].replace('/', "."));
    }
    refused(with("/metadata/4111111111111111", json!("x")), Code::RawCardRefused, "metadata.?");
    for destination in [
        json!({ "type": "bank_card" }),
        json!({ "type": "bank_card", "number": "4111111111111111" }),
        json!({ "type": "bank_card", "bank_card": { "number": "4111111111111111" } }),
        json!({ "type": "tokenized_card", "token": "x", "number": 4_111_111_111_111_111_i64 }),
        json!({ "number": null }),
        json!({ "type": "tokenized_card", "token": "x", "security_code": "123" }),
    ] {
        let problem = parse(with("/destination", destination.clone())).unwrap_err();
        assert_eq!(problem.code(), Code::RawCardRefused, "{destination}");
        assert!(problem.named_field().unwrap().starts_with("destination."), "{destination}");
    }
    refused(with("/number", json!("4111111111111111")), Code::RawCardRefused, "number");
}

#[test]
fn unknown_destinations_are_refused() {
    for kind in ["", "iban", "Tokenized_Card", "tokenized_card ", "4111111111111111"] {
        let destination = json!({ "type": kind, "token": "x" });
        refused(with("/destination", destination), Code::UnknownDestinationType, "destination.type");
    }
}

#[test]
fn several_problems_are_told_at_once() {
    let problem = parse(
        json!({
            "amount": 0,
            "currency": "ZZZ",
            "destination": { "type": "recurrent" },
            "recipient": { "name": "4111111111111111" },
            "customer_reference": "two words",
            "reference": "",
            "metadata": { "k": "\u{0}" },
        })
        .to_string(),
    )
    .unwrap_err();
    let fields: Vec<&str> = problem.errors().iter().map(|error| error.field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "recipient.name",
            "currency",
            "amount",
            "destination.token",
            "customer_reference",
            "reference",
            "metadata.k"
        ],
        "the card number first"
    );
    assert_eq!(problem.code(), Code::RawCardRefused);
}

#[test]
fn no_problem_repeats_a_value() {
    const SECRET: &str = "4111111111111111";
    for pointer in [
        "/amount",
        "/currency",
        "/destination",
        "/destination/type",
        "/destination/token",
        "/recipient",
        "/recipient/name",
        "/customer_reference",
        "/reference",
        "/metadata",
        "/metadata/order",
        "/4111111111111111",
        "/destination/4111111111111111",
        "/metadata/4111111111111111",
        "/metadata/x, expected 4111111111111111",
    ] {
        for value in [
            json!(SECRET),
            json!([SECRET]),
            json!({ SECRET: SECRET }),
            json!({ SECRET: 7 }),
            json!(4_111_111_111_111_111_i64),
            json!(format!("{SECRET}, expected {SECRET}")),
        ] {
            let problem = parse(with(pointer, value.clone())).unwrap_err();
            assert!(!format!("{problem:?}").contains("4111"), "{pointer} {value}: {problem:?}");
        }
    }
}

#[test]
fn the_fingerprint_is_of_what_was_understood() {
    let base = parse(good().to_string()).unwrap().fingerprint();
    let reordered = r#" { "metadata":{"order":"\u0037"}, "reference":"wd-2025-000417",
        "customer_reference":"customer-7", "recipient":{"name":"Anna Petrova"}, "currency":"rub",
        "destination":{"token":"9f0c21ab","type":"tokenized_card"}, "amount":125050 } "#;
    assert_eq!(parse(reordered).unwrap().fingerprint(), base);
    let mut seen = vec![base];
    for (pointer, value) in [
        ("/amount", json!(1)),
        ("/currency", json!("EUR")),
        ("/destination/token", json!("other")),
        ("/destination/type", json!("recurrent")),
        ("/recipient/name", json!("Anna")),
        ("/customer_reference", json!("customer-8")),
        ("/reference", json!(null)),
        ("/metadata", json!({})),
        ("/metadata/order", json!("8")),
    ] {
        let other = parse(with(pointer, value)).unwrap().fingerprint();
        assert!(!seen.contains(&other), "{pointer}");
        seen.push(other);
    }
}

#[test]
fn fingerprints_never_change() {
    let hex = |bytes: [u8; 32]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let asked = parse(good().to_string()).unwrap();
    // Stored for ever: a request sent again years later must still be recognised.
    assert_eq!(hex(asked.fingerprint()), "619211bfd30786fb411c5d4e9df58cd6b9beaba508087948b07ab5bc1f73dedb");
    assert_eq!(
        hex(asked.destination_fingerprint()),
        "e8a4603c202be99d594cd3457b06e959036ecb1f63749f02c04d2a11e3285ede"
    );
}

#[test]
fn nothing_secret_is_in_the_debug_form() {
    let shown = format!("{:?}", parse(good().to_string()).unwrap());
    assert!(!shown.contains("9f0c21ab") && !shown.contains("Anna"), "{shown}");
}
