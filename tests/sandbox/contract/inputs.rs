//! §3.4 to §3.6, §0.3: which fields a payout needs, of what kind, and by whose names.

use serde_json::{Value, json};

use super::partner::{Partner, Version, bank_card, id_of, token};
use super::shape;
use crate::support::World;

/// Starts and inits with one thing wrong must be invalid requests that leave the session startable.
async fn assert_invalid(partner: &Partner, spoil: impl Fn(&mut Value)) {
    let id = partner.created().await;
    let mut body = partner.start(&id, &token("tok_success"));
    spoil(&mut body);
    partner.refused("start/payout", &body, 400, "invalid_request").await;
    partner.refused("init/payout", &body, 400, "invalid_request").await;
    let after = partner.status(&id).await;
    assert_eq!((&after["status"], after.get(partner.version.payouts())), (&json!("created"), None), "{body}");
}

async fn assert_valid(partner: &Partner, change: impl Fn(&mut Value)) -> Value {
    let mut body = partner.init(&token("tok_success"));
    change(&mut body);
    let session = partner.ok("init/payout", &body).await;
    partner.payout(&session).clone()
}

#[tokio::test]
async fn a_payout_needs_a_destination_and_an_amount() {
    let world = World::open().await;
    for version in Version::BOTH {
        let partner = Partner::of(&world, version);
        for field in [version.destination(), "amount_details"] {
            let remove = |body: &mut Value| drop(body.as_object_mut().unwrap().remove(field));
            assert_invalid(&partner, remove).await;
            assert_invalid(&partner, |body| body[field] = json!(null)).await;
            assert_invalid(&partner, |body| body[field] = json!({})).await;
        }
        for field in ["customer", "metadata"] {
            assert_valid(&partner, |body| drop(body.as_object_mut().unwrap().remove(field))).await;
        }
    }
}

#[tokio::test]
async fn the_other_versions_name_of_the_destination_is_no_name() {
    let world = World::open().await;
    for version in Version::BOTH {
        let partner = Partner::of(&world, version);
        let (own, other) = (version.destination(), version.other().destination());
        let rename = |body: &mut Value| {
            let destination = body.as_object_mut().unwrap().remove(own).unwrap();
            body[other] = destination;
        };
        assert_invalid(&partner, rename).await;
        // Beside its own name it is an unknown field, and those are ignored (§3.12).
        for ignored in [token("tok_mastercard"), json!("nonsense")] {
            let payout = assert_valid(&partner, |body| body[other] = ignored.clone()).await;
            assert_eq!(payout[own]["card"]["brand"], "visa");
            assert!(payout.get(other).is_none(), "{payout}");
        }
        // What create was told by a foreign name was not told.
        let mut foreign = partner.init(&json!(null));
        rename(&mut foreign);
        foreign[other] = token("tok_success");
        let id = id_of(&partner.ok("create", &foreign).await);
        let start = json!({ "session_id": id });
        partner.refused("start/payout", &start, 400, "invalid_request").await;
    }
}

#[tokio::test]
async fn unknown_fields_are_ignored_everywhere() {
    let world = World::open().await;
    for version in Version::BOTH {
        let partner = Partner::of(&world, version);
        let destination = version.destination();
        for place in [
            String::new(),
            format!("/{destination}"),
            format!("/{destination}/card"),
            format!("/{destination}/card/tokenized_card"),
            "/amount_details".to_owned(),
            "/participant_details".to_owned(),
            "/participant_details/recipient".to_owned(),
            "/customer".to_owned(),
            "/customer/contacts/0".to_owned(),
        ] {
            let add = |body: &mut Value| {
                let object = body.pointer_mut(&place).unwrap();
                object["new_in_2031"] = json!({ "type": "card", "amount": [-1], "session_id": "ps_0" });
            };
            let payout = assert_valid(&partner, add).await;
            assert_eq!(payout["amount_details"], json!({ "amount": 125_050, "currency": "rub" }), "{place}");
            let id = partner.created().await;
            let mut start = partner.start(&id, &token("tok_success"));
            add(&mut start);
            partner.ok("start/payout", &start).await;
        }
        let id = partner.created().await;
        for method in ["status", "cancel"] {
            let body = json!({ "session_id": id, "new_in_2031": true, "payments": 1, "payout_list": 2 });
            partner.ok(method, &body).await;
        }
    }
}

#[tokio::test]
async fn an_amount_is_a_positive_integer_of_minor_units() {
    let world = World::open().await;
    for version in Version::BOTH {
        let partner = Partner::of(&world, version);
        let wrong = [
            json!(0),
            json!(-1),
            json!(1.5),
            json!("100"),
            json!(""),
            json!(true),
            json!(null),
            json!([1]),
            json!({}),
            json!(1e300),
        ];
        for amount in &wrong {
            assert_invalid(&partner, |body| body["amount_details"]["amount"] = amount.clone()).await;
        }
        assert_invalid(&partner, |body| body["amount_details"] = json!({ "currency": "rub" })).await;
        for amount in [1, 99, 100, 1_000_000_007] {
            let payout =
                assert_valid(&partner, |body| body["amount_details"]["amount"] = json!(amount)).await;
            assert_eq!(payout["amount_details"]["amount"], amount);
        }
    }
}

#[tokio::test]
async fn a_currency_is_a_code_in_any_case() {
    let world = World::open().await;
    for version in Version::BOTH {
        let partner = Partner::of(&world, version);
        for wrong in [
            json!(""),
            json!("ru"),
            json!("rubl"),
            json!("r b"),
            json!(" rub"),
            json!("643"),
            json!("руб"),
            json!(643),
            json!(null),
            json!(["rub"]),
        ] {
            assert_invalid(&partner, |body| body["amount_details"]["currency"] = wrong.clone()).await;
        }
        assert_invalid(&partner, |body| body["amount_details"] = json!({ "amount": 1 })).await;
        for currency in ["rub", "RUB", "Rub", "usd", "eur", "gel"] {
            let payout =
                assert_valid(&partner, |body| body["amount_details"]["currency"] = json!(currency)).await;
            let shown = payout["amount_details"]["currency"].as_str().unwrap();
            assert!(shown.eq_ignore_ascii_case(currency), "§3.5: {shown} for {currency}");
        }
    }
}

#[tokio::test]
async fn a_currency_that_iso_does_not_know_is_none() {
    let world = World::open().await;
    let partner = Partner::of(&world, Version::V2);
    assert_invalid(&partner, |body| body["amount_details"]["currency"] = json!("zzz")).await;
}

/// Destinations as §3.4.1 has them.
fn good_destinations() -> Vec<Value> {
    let card = |kind: &str, fields: Value| json!({ "type": "card", "card": { "type": kind, kind: fields } });
    vec![
        card("bank_card", json!({ "number": "4242424242424242" })),
        card(
            "bank_card",
            json!({ "number": "4242424242424242", "expiration_month": "07", "expiration_year": "31",
                "security_code": "123", "cardholder_name": "A B" }),
        ),
        card("encrypted_card", json!({ "number_hash": "3c6c00" })),
        card("tokenized_card", json!({ "token": "759c00" })),
        json!({ "type": "recurrent", "recurrent": { "token": "974100" } }),
        json!({ "type": "recurrent", "recurrent": { "token": "974100", "initiator": "merchant" } }),
    ]
}

#[tokio::test]
async fn a_destination_is_a_card_in_one_of_three_forms_or_a_recurrent_token_beside_it() {
    let world = World::open().await;
    for version in Version::BOTH {
        let partner = Partner::of(&world, version);
        for destination in good_destinations() {
            assert_valid(&partner, |body| body[version.destination()] = destination.clone()).await;
        }
    }
}

#[tokio::test]
async fn a_destination_without_what_its_type_needs_is_invalid() {
    let world = World::open().await;
    let mut wrong = vec![
        json!("card"),
        json!(["card"]),
        json!({ "type": "card" }),
        json!({ "type": null }),
        json!({ "card": token("t")["card"] }),
        json!({ "type": "card", "recurrent": { "token": "t" } }),
        json!({ "type": "recurrent", "card": token("t")["card"] }),
        // §12, 26: beside the card, not in it.
        json!({ "type": "card", "card": { "type": "recurrent", "recurrent": { "token": "t" } } }),
        json!({ "type": "card", "card": { "token": "t" } }),
        json!({ "type": "card", "card": { "type": "gift_card", "gift_card": { "token": "t" } } }),
        json!({ "type": "card", "card": { "type": "bank_card", "tokenized_card": { "token": "t" } } }),
        // One example of a sibling, which is an error of that documentation (§3.4.2).
        json!({ "type": "card", "card": { "brand": "visa", "last4": "4242" } }),
        // What siblings have and Pike has not.
        json!({ "type": "bank_account", "bank_account": { "system_type": "upi", "upi": {} } }),
        json!({ "type": "wallet", "wallet": { "type": "steam", "steam": { "account": "1" } } }),
        json!({ "type": "crypto_wallet", "crypto_wallet": {} }),
    ];
    for (kind, field) in
        [("bank_card", "number"), ("encrypted_card", "number_hash"), ("tokenized_card", "token")]
    {
        for value in [None, Some(json!(null)), Some(json!(4242)), Some(json!("")), Some(json!(["t"]))] {
            let mut fields = json!({ "unknown": 1 });
            if let Some(value) = value {
                fields[field] = value;
            }
            wrong.push(json!({ "type": "card", "card": { "type": kind, kind: fields } }));
        }
    }
    wrong.extend(
        [json!({}), json!({ "token": 1 }), json!({ "token": "" })]
            .map(|recurrent| json!({ "type": "recurrent", "recurrent": recurrent })),
    );
    for version in Version::BOTH {
        let partner = Partner::of(&world, version);
        for destination in &wrong {
            assert_invalid(&partner, |body| body[version.destination()] = destination.clone()).await;
        }
    }
}

#[tokio::test]
async fn a_card_number_that_is_none_is_refused_or_declined() {
    let world = World::open().await;
    let partner = Partner::of(&world, Version::V2);
    // When it is looked at is not documented: a start that is refused, or a payout that fails.
    for number in ["4242", "4242 4242 4242 4242x", "abcdabcdabcdabcd", "42424242424242424242"] {
        let answer = partner.call("session/init/payout", &partner.init(&bank_card(number))).await;
        if answer.http() == 200 {
            let id = id_of(&partner.session(&answer));
            partner.wait_status(&id, "cancelled").await;
        } else {
            let code = answer.json()["error"]["code"].clone();
            assert!(code == "invalid_request" || code == "card_number_does_not_exist", "{number}: {code}");
            shape::refusal(&answer, 400, code.as_str().unwrap());
        }
    }
}

/// What is not an object, for a field that is one.
async fn assert_object(field: impl Fn(Version) -> &'static str) {
    let world = World::open().await;
    for version in Version::BOTH {
        let partner = Partner::of(&world, version);
        for wrong in [json!("text"), json!(17), json!(true), json!([1])] {
            assert_invalid(&partner, |body| body[field(version)] = wrong.clone()).await;
            let create = json!({ field(version): wrong });
            partner.refused("create", &create, 400, "invalid_request").await;
        }
    }
}

#[tokio::test]
async fn a_destination_is_an_object() {
    assert_object(Version::destination).await;
}

#[tokio::test]
async fn amount_details_are_an_object() {
    assert_object(|_| "amount_details").await;
}

#[tokio::test]
async fn participant_details_are_an_object() {
    assert_object(|_| "participant_details").await;
}

#[tokio::test]
async fn a_customer_is_an_object() {
    assert_object(|_| "customer").await;
}

#[tokio::test]
async fn names_and_references_are_strings() {
    let world = World::open().await;
    let mut taken = Vec::new();
    for version in Version::BOTH {
        let partner = Partner::of(&world, version);
        for (place, wrong) in [
            ("/participant_details/recipient", json!("Anna Petrova")),
            ("/participant_details/recipient/full_name", json!(17)),
            ("/customer/reference", json!(17)),
            ("/customer/contacts", json!("anna@example.org")),
            ("/customer/contacts/0", json!("anna@example.org")),
        ] {
            let mut body = partner.init(&token("tok_success"));
            *body.pointer_mut(place).unwrap() = wrong;
            let answer = partner.call("session/init/payout", &body).await;
            if answer.http() == 200 {
                taken.push((version, place));
            } else {
                shape::refusal(&answer, 400, "invalid_request");
            }
        }
    }
    assert!(taken.is_empty(), "{taken:?}");
}

#[tokio::test]
async fn a_recipient_may_be_named_in_parts() {
    let world = World::open().await;
    for version in Version::BOTH {
        let partner = Partner::of(&world, version);
        assert_valid(&partner, |body| {
            body["participant_details"] =
                json!({ "recipient": { "first_name": "Anna", "last_name": "Petrova" } });
        })
        .await;
        // Whether it needs a name at all is open (§12, 18): either answer, in its shape.
        let mut body = partner.init(&token("tok_success"));
        drop(body.as_object_mut().unwrap().remove("participant_details"));
        let answer = partner.call("session/init/payout", &body).await;
        if answer.http() == 200 {
            partner.session(&answer);
        } else {
            shape::refusal(&answer, 400, "invalid_request");
        }
    }
}
