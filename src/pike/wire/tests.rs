//! Both naming schemes read and written, and what must not be read.

use super::*;

const V1: &str = r#"{"type":"payment_finished","session":{"id":"ps_1","status":"accepted","x":{"new":1},
  "payments":[{"id":"po_1","status":"succeeded",
    "payment_method":{"type":"card","card":{"last4":"4242","brand":"visa","bin":"424242","card_id":"c"}},
    "amount_details":{"amount":125050,"currency":"rub"},
    "amounts":{"fee":{"merchant_fee":{"amount":1250,"currency":"RUB"}}},
    "transaction_info":{"rrn":"5063","auth_code":"0311"},"metadata":"payout_x/1"}]}}"#;

fn report(body: &str) -> SessionReport {
    let Webhook::Session(report) = read_webhook(body.as_bytes()) else { panic!("not a session: {body}") };
    report
}

#[test]
fn both_naming_schemes_say_the_same() {
    let v2 = V1.replace("payments", "payout_list").replace("payment_method", "payout_details");
    assert_eq!(report(V1), report(&v2));
    let read = report(V1);
    assert_eq!(read.status, SessionStatus::Accepted);
    let payout = &read.payouts[0];
    assert_eq!((payout.amount_minor, payout.metadata.as_deref()), (Some(125_050), Some("payout_x/1")));
    assert_eq!(payout.facts.rrn.as_deref(), Some("5063"));
    assert_eq!((payout.facts.fee_minor, payout.facts.fee_currency.as_deref()), (Some(1250), Some("RUB")));
}

#[test]
fn a_payment_list_is_not_a_list_of_payouts() {
    assert!(report(&V1.replace("payments", "payment_list")).payouts.is_empty());
}

#[test]
fn unknown_values_are_kept_and_unknown_types_named() {
    let odd = V1.replace("accepted", "pondering");
    assert_eq!(report(&odd).status, SessionStatus::Other("pondering".to_owned()));
    assert_eq!(report(&odd).unknown_words(), ["pondering"]);
    for no_word in ["4111111111111111", "Anna Petrova", &"a".repeat(41)] {
        assert!(report(&V1.replace("accepted", no_word)).unknown_words().is_empty(), "{no_word}");
    }
    assert_eq!(read_webhook(br#"{"type":"new_thing"}"#), Webhook::OtherType("new_thing".to_owned()));
    assert_eq!(
        report(&V1.replace("accepted", "canceled")).status,
        SessionStatus::Cancelled,
        "both spellings"
    );
}

#[test]
fn what_is_not_exact_is_not_read() {
    for (good, bad) in [
        ("125050", "125050.0"),
        ("125050", "1e5"),
        ("125050", "\"125050\""),
        ("125050", "9223372036854775808"),
        (r#""id":"ps_1""#, r#""id":"ps_1","id":"ps_2""#),
        (r#""status":"accepted""#, r#""status":"accepted","st\u0061tus":"error""#),
    ] {
        assert!(V1.contains(good));
        assert_eq!(read_webhook(V1.replacen(good, bad, 1).as_bytes()), Webhook::Unreadable, "{bad}");
    }
    for body in ["", "[]", "null", "{", r#"{"type":1}"#, r#"{"type":"payment_finished"}"#] {
        assert_eq!(read_webhook(body.as_bytes()), Webhook::Unreadable, "{body}");
    }
}

#[test]
fn a_fact_in_an_odd_shape_is_not_known_and_spoils_nothing() {
    for (good, odd) in [
        (r#""rrn":"5063""#, r#""rrn":5063"#),
        (r#"{"rrn":"5063","auth_code":"0311"}"#, "[]"),
        (
            r#""fee":{"merchant_fee":{"amount":1250,"currency":"RUB"}}"#,
            r#""fee":{"merchant_fee":{"amount":12.5}}"#,
        ),
        (r#""brand":"visa""#, r#""brand":"visa","brand":"mir""#),
        (r#""bin":"424242""#, r#""bin":424242"#),
        (r#""status":"accepted""#, r#""status":"accepted","error":[]"#),
    ] {
        assert!(V1.contains(good), "{good}");
        let odd = report(&V1.replacen(good, odd, 1));
        assert_eq!(odd.payouts[0].amount_minor, Some(125_050), "{good}");
        assert_eq!(odd.payouts[0].facts.rrn.is_none(), good.contains("rrn"), "{good}");
    }
    let twice = report(&V1.replace(r#""brand":"visa""#, r#""brand":"visa","brand":"mir""#));
    assert_eq!(twice.payouts[0].facts.card.brand, None, "a card that is told twice is not told");
}

#[test]
fn texts_are_fit_to_be_stored() {
    let nul = report(&V1.replace("5063", "50\\u000063"));
    assert_eq!(nul.payouts[0].facts.rrn.as_deref(), Some("5063"));
    let long = report(&V1.replace("5063", &"9".repeat(10_000)));
    assert_eq!(long.payouts[0].facts.rrn.as_ref().map(String::len), Some(500));
    for id in ["", "ps\\u00001", &"9".repeat(201)] {
        let odd = V1.replace("ps_1", id);
        assert_eq!(read_webhook(odd.as_bytes()), Webhook::Unreadable, "{id}");
    }
}

#[test]
fn metadata_that_are_not_a_string_are_not_ours() {
    for other in ["17", "null", r#"{"a":1}"#, r#"["payout_x/1"]"#] {
        assert_eq!(report(&V1.replace("\"payout_x/1\"", other)).payouts[0].metadata, None);
    }
}

#[test]
fn only_a_whole_accepted_refund_is_a_return() {
    let with = |refunds: &str| {
        report(&V1.replace("\"metadata\"", &format!("\"refunds\":{refunds},\"metadata\""))).payouts[0]
            .returned
    };
    let refund = |status: &str, amount: i64| {
        format!(
            r#"[{{"id":"rf_1","status":"{status}","amount_details":{{"amount":{amount},"currency":"rub"}}}}]"#
        )
    };
    assert!(with(&refund("accepted", 125_050)));
    assert!(!with(&refund("accepted", 125_049)));
    assert!(!with(&refund("in_progress", 125_050)));
    assert!(with(r#"[{"id":"rf_1","status":"accepted"}]"#), "without an amount it is the whole");
    assert!(!with("[]"));
}

#[test]
fn a_start_is_written_in_the_names_of_its_version() {
    let start = Start {
        session: &SessionId("ps_1".to_owned()),
        amount: Money::new(5, "RUB".parse().unwrap()).unwrap(),
        destination: DestinationKind::TokenizedCard,
        destination_secret: "tok",
        recipient_name: "Anna",
        customer_reference: "user-1",
        metadata_tag: "payout_x/1",
    };
    let v2: Value = serde_json::from_slice(&start_body(ApiVersion::V2, &start)).unwrap();
    assert_eq!(v2["payout_details"]["card"]["tokenized_card"]["token"], "tok");
    assert_eq!(v2["amount_details"], json!({"amount": 5, "currency": "rub"}));
    assert_eq!(v2["participant_details"]["recipient"]["full_name"], "Anna");
    let v1: Value = serde_json::from_slice(&start_body(ApiVersion::V1, &start)).unwrap();
    assert_eq!(v1["payment_method"], v2["payout_details"]);
    assert!(v1.get("payout_details").is_none());
    let recurrent = Start { destination: DestinationKind::Recurrent, ..start };
    let body: Value = serde_json::from_slice(&start_body(ApiVersion::V2, &recurrent)).unwrap();
    assert_eq!(body["payout_details"], json!({"type": "recurrent", "recurrent": {"token": "tok"}}));
}

/// Whoever signs is believed about payouts, not about JSON. What is deep or long where nobody looks harms
/// nothing; what is broken is not read.
#[test]
fn deep_long_and_broken_bodies_harm_nobody() {
    let deep = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
    let deeper = format!("{}1{}", "{\"a\":".repeat(10_000), "}".repeat(10_000));
    let long = format!("[{}0]", "0,".repeat(30_000));
    for odd in [&deep, &deeper, &long] {
        assert_eq!(report(&V1.replace("{\"new\":1}", odd)), report(V1));
        let fact = report(&V1.replace("{\"rrn\":\"5063\",\"auth_code\":\"0311\"}", odd));
        assert_eq!((fact.payouts[0].facts.rrn.as_ref(), fact.payouts.len()), (None, 1));
        assert_eq!(read_webhook(V1.replacen("125050", odd, 1).as_bytes()), Webhook::Unreadable);
        assert_eq!(read_webhook(odd.as_bytes()), Webhook::Unreadable);
    }
    for broken in [
        V1.to_owned() + "}",
        "\u{feff}".to_owned() + V1,
        V1.replacen("accepted", "\\ud800", 1),
        V1.replace("{\"new\":1}", &"[".repeat(30_000)),
    ] {
        assert_eq!(read_webhook(broken.as_bytes()), Webhook::Unreadable);
    }
    let mut latin = V1.as_bytes().to_vec();
    latin[2] = 0xff;
    assert_eq!(read_webhook(&latin), Webhook::Unreadable);
}
