//! §2.9 to §2.13, §9, §10: the methods that there are in version 1 only: tokens, what they stand for, and
//! the prefunding.

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::partner::{Partner, Version, bank_card, id_of, named, token};
use super::shape;
use crate::raw::Message;
use crate::support::{World, partner_keys, pike_keys};

const NUMBER: &str = "5555555555554444";
const NOW: &str = "2025-03-04T10:15:30.120000Z";

/// Each method with a body that it has to take; that of `tokenize/elements` is in no document.
fn methods() -> [(&'static str, Value); 6] {
    [
        ("token", json!({ "tokenize_widget": { "access": true, "locale": "en" } })),
        ("token/info", card_info("tokenized_card", "token", "tok_success")),
        ("tokenize/elements", clear_card()),
        ("recurrent/status", recurrent("tok_success_status")),
        ("recurrent/disable", recurrent("tok_success_disable")),
        ("wallet/balance", json!({ "request_datetime": NOW })),
    ]
}

fn card_info(kind: &str, field: &str, value: &str) -> Value {
    json!({ "type": "card", "card": { "type": kind, kind: { field: value } } })
}

fn recurrent(token: &str) -> Value {
    json!({ "recurrent": { "token": token } })
}

/// A card as it comes in the clear. How `tokenize/elements` takes it is in no document (§12, 17): here it is
/// as in a payout's destination (§3.4.1) and as on the browser's side of a sibling (§9) in one, and whoever
/// reads one ignores the other (§3.12).
fn clear_card() -> Value {
    let fields = json!({ "number": NUMBER, "expiration_month": "07", "expiration_year": "31",
        "security_code": "123" });
    let mut card = fields.clone();
    card["type"] = json!("bank_card");
    card["bank_card"] = fields;
    json!({ "type": "card", "card": card })
}

fn names(value: &Value) -> Vec<&str> {
    value.as_object().unwrap_or_else(|| panic!("no object: {value}")).keys().map(String::as_str).collect()
}

/// An answer of success that holds one thing beside its status; that thing.
fn only(answer: &Message, field: &str) -> Value {
    let json = answer.json();
    assert_eq!((answer.http(), &json["status"]), (200, &json!("ok")), "{json}");
    let mut expected = ["status", field];
    expected.sort_unstable();
    assert_eq!(names(&json), expected, "{json}");
    json[field].clone()
}

fn assert_hex(value: &Value, length: usize) {
    let text = value.as_str().unwrap_or_else(|| panic!("no text: {value}"));
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    assert!(text.len() == length && text.bytes().all(is_hex), "not {length} hex digits: {value}");
}

async fn refused(partner: &Partner, method: &str, body: &Value) {
    let answer = partner.call(method, body).await;
    assert_eq!(answer.http(), 400, "{method} {body}: {answer:?}");
    shape::refusal(&answer, 400, "invalid_request");
}

#[tokio::test]
async fn every_token_method_wants_a_known_project_and_its_signature() {
    let world = World::open().await;
    let partner = Partner::of(&world, Version::V1);
    for (method, body) in methods() {
        let body = serde_json::to_vec(&body).unwrap();
        let (good, others) = (partner_keys().sign(&body), pike_keys().sign(&body));
        let unknown = [("X-PARTNER-PROJECT", "nobody"), ("X-PARTNER-SIGN", good.as_str())];
        shape::refusal(&partner.send(method, &unknown, &body).await, 401, "identification_error");
        shape::refusal(&partner.send(method, &unknown[1..], &body).await, 401, "identification_error");
        let forged = [("X-PARTNER-PROJECT", "shop"), ("X-PARTNER-SIGN", others.as_str())];
        shape::refusal(&partner.send(method, &forged, &body).await, 401, "authentication_error");
        shape::refusal(&partner.send(method, &forged[..1], &body).await, 401, "authentication_error");
        assert_eq!(partner.signed(method, &[], &body).await.http(), 200, "{method}");
    }
}

#[tokio::test]
async fn the_token_methods_are_in_version_one_only() {
    let world = World::open().await;
    let partner = Partner::of(&world, Version::V2);
    for (method, body) in methods() {
        let answer = partner.call(method, &body).await;
        assert!((400..500).contains(&answer.http()), "{method}: {answer:?}");
        shape::any_refusal(&answer.json());
    }
}

#[tokio::test]
async fn the_token_methods_have_fields_that_they_need() {
    let world = World::open().await;
    let partner = Partner::of(&world, Version::V1);
    for (method, body) in methods() {
        for nothing in ["{}", "[]", "null", "{", "\"text\"", "{\"other\":1}"] {
            let answer = partner.signed(method, &[], nothing.as_bytes()).await;
            shape::refusal(&answer, 400, "invalid_request");
        }
        // §3.12
        let mut more = body;
        more["new_in_2031"] = json!({ "token": 1 });
        assert_eq!(partner.call(method, &more).await.http(), 200, "{method}");
    }
}

#[tokio::test]
async fn a_public_token_is_64_hex_digits_and_each_is_another() {
    let world = World::open().await;
    let partner = Partner::of(&world, Version::V1);
    let mut seen = std::collections::BTreeSet::new();
    for widget in [json!({ "access": true }), json!({ "access": true, "locale": "en" })] {
        for _ in 0..2 {
            let body = json!({ "tokenize_widget": widget });
            let public_token = only(&partner.call("token", &body).await, "public_token");
            assert_hex(&public_token, 64);
            assert!(seen.insert(public_token.to_string()));
        }
    }
    for wrong in [json!("yes"), json!([1]), json!(true), json!({ "access": "yes" })] {
        refused(&partner, "token", &json!({ "tokenize_widget": wrong })).await;
    }
}

#[tokio::test]
async fn a_public_token_can_be_asked_about() {
    let world = World::open().await;
    let partner = Partner::of(&world, Version::V1);
    let body = json!({ "tokenize_widget": { "access": true } });
    let public_token = only(&partner.call("token", &body).await, "public_token");
    let body = json!({ "type": "public_token", "public_token": { "token": public_token } });
    let info = only(&partner.call("token/info", &body).await, "info");
    // §2.10 says what there is, and not what the times are called.
    assert_eq!((&info["is_active"], &info["type"]), (&json!(true), &json!("public_token")), "{info}");
    let times = info.as_object().unwrap().values().filter_map(Value::as_str);
    let mut times: Vec<_> = times.filter_map(|text| OffsetDateTime::parse(text, &Rfc3339).ok()).collect();
    times.sort_unstable();
    assert_eq!(times.len(), 2, "creation and expiry: {info}");
    assert_eq!(times[1] - times[0], time::Duration::hours(24), "§2.9");
}

#[tokio::test]
async fn a_recurrent_token_can_be_asked_about() {
    let world = World::open().await;
    let partner = Partner::of(&world, Version::V1);
    let body = json!({ "type": "recurrent_token", "recurrent_token": { "token": "tok_success" } });
    let info = only(&partner.call("token/info", &body).await, "info");
    assert_eq!((&info["is_active"], &info["type"]), (&json!(true), &json!("recurrent_token")), "{info}");
}

#[tokio::test]
async fn a_card_can_be_asked_about_by_its_token_or_its_hash() {
    let world = World::open().await;
    let partner = Partner::of(&world, Version::V1);
    for (kind, field) in [("tokenized_card", "token"), ("encrypted_card", "number_hash")] {
        for name in ["tok_success_1", "tok_mastercard_1", "tok_country_GEO_1"] {
            let info = only(&partner.call("token/info", &card_info(kind, field, name)).await, "info");
            let mut expected = vec!["brand", "last4", "type", field];
            if info.get("country_iso3").is_some() {
                expected.push("country_iso3");
            }
            expected.sort_unstable();
            assert_eq!(names(&info), expected, "§2.10: {info}");
            assert_eq!((&info["type"], &info[field]), (&json!("card"), &json!(name)));

            // What the recipient is shown beforehand is what is paid to.
            let destination = json!({ "type": "card", "card": { "type": kind, kind: { field: name } } });
            let session = partner.ok("init/payout", &partner.init(&destination)).await;
            let paid = &partner.payout(&session)["payment_method"]["card"];
            assert_eq!((&info["brand"], &info["last4"]), (&paid["brand"], &paid["last4"]));
            if let (Some(told), Some(paid)) = (info.get("country_iso3"), paid.get("country_iso3")) {
                assert_eq!(told, paid);
            }
        }
    }
}

#[tokio::test]
async fn what_is_asked_about_is_named_by_its_type() {
    let world = World::open().await;
    let partner = Partner::of(&world, Version::V1);
    let card = &card_info("tokenized_card", "token", "t")["card"];
    for body in [
        json!({ "card": card }),
        json!({ "type": null, "card": card }),
        json!({ "type": "cheque", "card": card }),
        json!({ "type": "card" }),
        json!({ "type": "card", "public_token": { "token": "t" } }),
        json!({ "type": "card", "card": "t" }),
        json!({ "type": "card", "card": { "type": "tokenized_card" } }),
        json!({ "type": "card", "card": { "type": "tokenized_card", "tokenized_card": { "token": 1 } } }),
        json!({ "type": "card", "card": { "type": "encrypted_card", "tokenized_card": { "token": "t" } } }),
        json!({ "type": "public_token", "card": card }),
        json!({ "type": "public_token", "public_token": {} }),
        json!({ "type": "recurrent_token" }),
        json!({ "type": "recurrent_token", "recurrent_token": { "token": null } }),
    ] {
        refused(&partner, "token/info", &body).await;
    }
}

/// The token that an answer of `tokenize/elements` holds, wherever it does.
fn token_in(value: &Value) -> Option<&str> {
    let fields = value.as_object()?;
    let own = fields.iter().find(|(name, _)| *name == "token").and_then(|(_, value)| value.as_str());
    own.or_else(|| fields.values().find_map(token_in))
}

#[tokio::test]
async fn a_card_turned_into_a_token_is_paid_to_as_that_card() {
    let world = World::open().await;
    let partner = Partner::of(&world, Version::V1);
    let answer = partner.call("tokenize/elements", &clear_card()).await;
    assert_eq!(answer.http(), 200, "{answer:?}");
    let answer = answer.json();
    assert_eq!(answer["status"], "ok");
    assert!(!answer.to_string().contains(NUMBER), "{answer}");
    let own = token_in(&answer).unwrap_or_else(|| panic!("no token in {answer}"));
    assert!(!own.contains(&NUMBER[6..12]), "a token is not the number: {own}");

    let shown = async |partner: &Partner, destination: &Value| {
        let session = partner.ok("init/payout", &partner.init(destination)).await;
        partner.payout(&session)["payment_method"].clone()
    };
    let by_number = shown(&partner, &bank_card(NUMBER)).await;
    let by_token = shown(&partner, &token(own)).await;
    for field in ["brand", "last4", "bin"] {
        assert_eq!(by_token["card"][field], by_number["card"][field], "{field}");
    }
    // §10: the number with its expiry, in this project.
    let by_dated_number = shown(&partner, &clear_card()).await;
    assert_eq!(by_token["card"]["card_id"], by_dated_number["card"]["card_id"]);
    // §3.4.1: a token is good in any project; §10: there it is another card_id.
    let elsewhere = shown(&partner.project("other"), &token(own)).await;
    assert_eq!(elsewhere["card"]["last4"], by_token["card"]["last4"]);
    assert_ne!(elsewhere["card"]["card_id"], by_token["card"]["card_id"]);

    let info = card_info("tokenized_card", "token", own);
    let info = only(&partner.call("token/info", &info).await, "info");
    assert_eq!((&info["brand"], &info["last4"]), (&json!("mastercard"), &json!("4444")));
}

/// `2020-07-14T13:17:11+03:00`: an offset and no fraction (§2.12).
fn assert_offset_time(value: &Value) {
    let text = value.as_str().unwrap_or_else(|| panic!("no time: {value}"));
    assert!(OffsetDateTime::parse(text, &Rfc3339).is_ok(), "{text}");
    assert!(text.len() == 25 && !text.contains(['.', 'Z']), "{text}");
}

fn assert_recurrent(value: &Value, name: &str, is_active: bool) {
    for field in names(value) {
        assert!(["token", "created_at", "finished_at", "is_active", "type"].contains(&field), "{value}");
    }
    assert_eq!(value["token"], name);
    assert_eq!((&value["is_active"], &value["type"]), (&json!(is_active), &json!("recurrent_token")));
    assert_offset_time(&value["created_at"]);
    if let Some(finished) = value.get("finished_at").filter(|finished| !finished.is_null()) {
        assert_offset_time(finished);
    }
}

#[tokio::test]
async fn a_recurrent_token_is_active_until_it_is_disabled() {
    let world = World::open().await;
    let partner = Partner::of(&world, Version::V1);
    let (name, other) = ("tok_success_recurrent", "tok_success_kept");
    let ask =
        async |method: &str, name: &str| only(&partner.call(method, &recurrent(name)).await, "recurrent");
    let destination = |name: &str| json!({ "type": "recurrent", "recurrent": { "token": name } });
    let first = ask("recurrent/status", name).await;
    assert_recurrent(&first, name, true);
    partner.ok("init/payout", &partner.init(&destination(name))).await;

    let disabled = ask("recurrent/disable", name).await;
    assert_recurrent(&disabled, name, false);
    let after = ask("recurrent/status", name).await;
    assert_recurrent(&after, name, false);
    assert_eq!(after["created_at"], first["created_at"]);
    assert_recurrent(&ask("recurrent/status", other).await, other, true);

    // §2.12: further payouts with it fail, be it at once or in the end.
    let answer = partner.call("session/init/payout", &partner.init(&destination(name))).await;
    if answer.http() == 200 {
        let id = id_of(&partner.session(&answer));
        let ready = |it: &Value| it["next_action"] == "confirm" || it["status"] == "cancelled";
        let rest = async || Some(partner.status(&id).await).filter(ready);
        if crate::support::until("a rest", rest).await["status"] != "cancelled" {
            partner.ok("confirm", &named(&id)).await;
            partner.wait_status(&id, "cancelled").await;
        }
    } else {
        assert_eq!(answer.http(), 400);
        shape::any_refusal(&answer.json());
    }
    partner.ok("init/payout", &partner.init(&destination(other))).await;
}

#[tokio::test]
async fn a_recurrent_token_is_named_in_its_object() {
    let world = World::open().await;
    let partner = Partner::of(&world, Version::V1);
    for method in ["recurrent/status", "recurrent/disable"] {
        for wrong in [json!("t"), json!(null), json!({}), json!({ "token": null }), json!({ "token": 7 })] {
            refused(&partner, method, &json!({ "recurrent": wrong })).await;
        }
        refused(&partner, method, &json!({ "token": "t" })).await;
    }
}

/// What a wallet of this currency holds.
async fn balance(partner: &Partner, currency: &str) -> i64 {
    let wallets = only(&partner.call("wallet/balance", &json!({ "request_datetime": NOW })).await, "wallets");
    for wallet in wallets.as_array().unwrap() {
        assert_eq!(names(wallet), ["amount_details", "id"], "{wallet}");
        shape::text(&wallet["id"], "wallet.id");
        shape::amount(&wallet["amount_details"], "wallet.amount_details");
    }
    let is_meant = |wallet: &&Value| {
        wallet["amount_details"]["currency"].as_str().unwrap().eq_ignore_ascii_case(currency)
    };
    let found: Vec<_> = wallets.as_array().unwrap().iter().filter(is_meant).collect();
    assert_eq!(found.len(), 1, "{currency} in {wallets}");
    found[0]["amount_details"]["amount"].as_i64().unwrap()
}

#[tokio::test]
async fn the_balance_is_what_payouts_have_left_of_the_prefunding() {
    let world = World::open_with(|settings| {
        settings.balances.insert("RUB".to_owned(), 200_000);
        settings.balances.insert("USD".to_owned(), 7);
    });
    let world = world.await;
    let partner = Partner::of(&world, Version::V1);
    assert_eq!((balance(&partner, "rub").await, balance(&partner, "usd").await), (200_000, 7));
    let declined = partner.confirmed(&token("tok_decline")).await;
    partner.wait_final(&declined).await;
    assert_eq!(balance(&partner, "rub").await, 200_000, "nothing was paid");

    let paid = partner.confirmed(&token("tok_success")).await;
    let session = partner.wait_status(&paid, "accepted").await;
    // §4.8: a fee may come on top.
    let fee = partner.payout(&session)["amounts"]["fee"]["merchant_fee"]["amount"].as_i64().unwrap_or(0);
    let left = balance(&partner, "rub").await;
    assert!(left == 200_000 - 125_050 || left == 200_000 - 125_050 - fee, "{left}");
    assert_eq!(balance(&partner, "usd").await, 7);

    // §2.13: what exceeds it can not be completed.
    let second = partner.confirmed(&token("tok_success")).await;
    let session = partner.wait_final(&second).await;
    assert_eq!(session["error"]["code"], "insufficient_wallet_balance");
    assert_eq!(balance(&partner, "rub").await, left);
}

#[tokio::test]
async fn a_balance_is_asked_for_at_a_time() {
    let world = World::open().await;
    let partner = Partner::of(&world, Version::V1);
    for fine in [NOW, "2025-03-04T10:15:30Z", "2025-03-04T13:15:30+03:00"] {
        let answer = partner.call("wallet/balance", &json!({ "request_datetime": fine })).await;
        assert!(only(&answer, "wallets").is_array());
    }
    for wrong in
        [json!(null), json!(""), json!("yesterday"), json!("2025-13-41T99:00:00Z"), json!(17), json!({})]
    {
        refused(&partner, "wallet/balance", &json!({ "request_datetime": wrong })).await;
    }
}
