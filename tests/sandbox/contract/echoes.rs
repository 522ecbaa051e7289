//! §3.4 to §3.8: what of a request comes back, and what never does.

use serde_json::{Value, json};

use super::partner::{Partner, Version, bank_card, id_of, token};
use super::receiver::Receiver;
use crate::support::World;

/// A card's number and what belongs to it, of which only the first six and the last four digits may be seen.
const NUMBER: &str = "4242429876514242";
const SECRETS: [&str; 5] = [NUMBER, "2424298765", "9876514", "ZAPHOD", "hush"];

#[tokio::test]
async fn metadata_of_every_kind_comes_back_unchanged() {
    let receiver = Receiver::open(&[]).await;
    let world = receiver.world(|_| {}).await;
    let deep = (0..60).fold(json!("deep"), |inner, _| json!({ "in": [inner] }));
    let kinds = [
        json!("wd-2025-000417"),
        json!(""),
        json!("\"quoted\" / \\ ünïcödé 🦀 \u{0}\u{1f}\u{2028}"),
        json!(7),
        json!(-7),
        json!(9_007_199_254_740_993_i64),
        json!(1.5),
        json!(true),
        json!({}),
        json!([]),
        json!([1, "two", null, { "three": 3 }]),
        json!({ "payments": [1], "payment_list": {}, "token": "mine", "next_action": "confirm", "": null }),
        deep,
    ];
    for version in Version::BOTH {
        let partner = Partner::of(&world, version);
        for metadata in &kinds {
            let mut body = partner.init(&token("tok_success"));
            body["metadata"] = metadata.clone();
            let session = partner.ok("init/payout", &body).await;
            assert_eq!(&partner.payout(&session)["metadata"], metadata);
            let id = id_of(&session);
            assert_eq!(&partner.payout(&partner.status(&id).await)["metadata"], metadata);
            let hook = receiver.wait(&id, "ready_to_confirm", 1).await.hook;
            assert_eq!(&partner.payout(&hook["session"])["metadata"], metadata);
        }
    }
}

#[tokio::test]
async fn a_number_larger_than_any_type_comes_back_unchanged_too() {
    let receiver = Receiver::open(&[]).await;
    let world = receiver.world(|_| {}).await;
    let partner = Partner::of(&world, Version::V2);
    for number in ["18446744073709551617", "123456789012345678901234567890", "0.12345678901234567890123"] {
        let body = format!(
            "{{\"metadata\":{number},\"amount_details\":{{\"amount\":1,\"currency\":\"rub\"}},\
             \"payout_details\":{}}}",
            token("tok_success")
        );
        let answer = partner.signed("session/init/payout", &[], body.as_bytes()).await;
        let text = String::from_utf8(answer.body.clone()).unwrap();
        assert_eq!(answer.http(), 200, "{text}");
        assert!(text.contains(&format!("\"metadata\":{number}")), "{text}");
        let id = id_of(&answer.json()["session"]);
        let hook = receiver.wait(&id, "ready_to_confirm", 1).await.request.body;
        let text = String::from_utf8(hook).unwrap();
        assert!(text.contains(&format!("\"metadata\":{number}")), "{text}");
    }
}

#[tokio::test]
async fn metadata_may_be_long() {
    let world = World::open().await;
    let partner = Partner::of(&world, Version::V2);
    let mut body = partner.init(&token("tok_success"));
    body["metadata"] = json!({ "long": "ж".repeat(30_000), "wide": vec![1; 10_000] });
    let session = partner.ok("init/payout", &body).await;
    assert_eq!(partner.payout(&session)["metadata"], body["metadata"]);
}

#[tokio::test]
async fn null_and_no_metadata_are_no_metadata() {
    let world = World::open().await;
    for version in Version::BOTH {
        let partner = Partner::of(&world, version);
        let mut body = partner.init(&token("tok_success"));
        for metadata in [Some(Value::Null), None] {
            drop(body.as_object_mut().unwrap().remove("metadata"));
            if let Some(metadata) = metadata {
                body["metadata"] = metadata;
            }
            let session = partner.ok("init/payout", &body).await;
            // §1.2: who serialises may leave null fields out.
            assert_eq!(partner.payout(&session).get("metadata").unwrap_or(&Value::Null), &Value::Null);
        }
    }
}

#[tokio::test]
async fn customer_and_participants_come_back_as_they_were_sent() {
    let world = World::open().await;
    let person = json!({
        "full_name": "Anna Petrova", "first_name": "Anna", "last_name": "Petrova", "middle_name": "I.",
        "company_name": "c", "reference": "r", "tax_reference": "t", "country_iso2": "GE",
        "country_iso3": "GEO", "city": "Tbilisi", "state": "s", "street": "s", "building": "1", "flat": "2",
        "postal_code": "0100", "address_line": "a", "ipv4": "192.0.2.1", "ipv6": "2001:db8::1",
        "document": "d", "identity_document": { "id_type": "passport", "id_number": "12AB",
            "id_expiration_date": "2031-01-31", "issue_date": "2021-01-31", "division_code": "770-001",
            "issued_by": "i" },
        "date_of_birth": "1990-05-06", "citizenship_country_iso_3": "GEO", "account": "a",
        "currency": "gel", "bank_name": "b", "registration_number": "r",
        "date_of_incorporation": "2001-02-03", "msisdn": "995555000000", "email": "a@example.org",
        "code": "c", "swift_bic_code": "s", "description": "d", "beneficiary_id": "b", "wallet_id": "w",
    });
    let customer = json!({ "reference": "user-77",
        "contacts": [{ "email": "anna@example.org" }, { "phone": "995555000000" }] });
    for version in Version::BOTH {
        let partner = Partner::of(&world, version);
        for participants in [
            json!({ "recipient": person, "sender": person }),
            json!({ "recipient": { "full_name": "Анна Петрова" } }),
            json!({ "sender": { "company_name": "We" }, "recipient": { "full_name": "A P" } }),
        ] {
            let mut body = partner.init(&token("tok_success"));
            body["participant_details"] = participants.clone();
            body["customer"] = customer.clone();
            let session = partner.ok("init/payout", &body).await;
            let payout = partner.payout(&session);
            assert_eq!((&payout["participant_details"], &payout["customer"]), (&participants, &customer));
        }
    }
}

#[tokio::test]
async fn what_create_was_given_carries_over_to_the_payout() {
    let world = World::open().await;
    for version in Version::BOTH {
        let partner = Partner::of(&world, version);
        let full = partner.init(&token("tok_mastercard"));
        let all_at_start = partner.ok("init/payout", &full).await;
        for early in [version.destination(), "amount_details", "participant_details", "customer", "metadata"]
        {
            let mut rest = full.clone();
            let mut first = json!({});
            first[early] = rest.as_object_mut().unwrap().remove(early).unwrap();
            let id = id_of(&partner.ok("create", &first).await);
            rest["session_id"] = json!(id);
            let session = partner.ok("start/payout", &rest).await;
            let (payout, like) = (partner.payout(&session), partner.payout(&all_at_start));
            for field in full.as_object().unwrap().keys() {
                assert_eq!(payout[field], like[field], "{field}, {early} given at create");
            }
        }
    }
}

#[tokio::test]
async fn where_create_and_start_disagree_start_wins() {
    let world = World::open().await;
    for version in Version::BOTH {
        let partner = Partner::of(&world, version);
        let early = json!({
            version.destination(): token("tok_success"), "metadata": "early",
            "amount_details": { "amount": 1, "currency": "usd" }, "customer": { "reference": "early" },
            "participant_details": { "recipient": { "full_name": "Early Bird" } },
        });
        let id = id_of(&partner.ok("create", &early).await);
        let session = partner.ok("start/payout", &partner.start(&id, &token("tok_mastercard"))).await;
        let payout = partner.payout(&session);
        assert_eq!(payout[version.destination()]["card"]["brand"], "mastercard");
        assert_eq!(payout["metadata"], "wd-2025-000417");
        assert!(!session.to_string().contains("arly"), "{session}");
    }
}

#[tokio::test]
async fn no_card_comes_back_in_clear_from_anywhere() {
    let receiver = Receiver::open(&[]).await;
    let world = receiver.world(|_| {}).await;
    let card = |kind: &str, fields: Value| json!({ "type": "card", "card": { "type": kind, kind: fields } });
    let destinations = [
        card(
            "bank_card",
            json!({ "number": NUMBER, "expiration_month": "07", "expiration_year": "2031",
                "security_code": "hush", "cardholder_name": "ZAPHOD B" }),
        ),
        card(
            "encrypted_card",
            json!({ "number_hash": "hush1", "expiration_date_hash": "hush2",
                "security_code_hash": "hush3", "cardholder_name_hash": "hush4" }),
        ),
        card("tokenized_card", json!({ "token": "hush" })),
        json!({ "type": "recurrent", "recurrent": { "token": "hush", "initiator": "merchant",
            "security_code": "hush" } }),
    ];
    for version in Version::BOTH {
        let partner = Partner::of(&world, version);
        for destination in &destinations {
            let id = id_of(&partner.ok("create", &partner.init(destination)).await);
            let started = partner.ok("start/payout", &partner.start(&id, destination)).await;
            let ready = receiver.wait(&id, "ready_to_confirm", 1).await.hook;
            let confirmed = partner.ok("confirm", &json!({ "session_id": id })).await;
            let finished = receiver.wait(&id, "payment_finished", 1).await.hook;
            let status = partner.status(&id).await;
            for seen in [started, ready, confirmed, finished, status] {
                let seen = seen.to_string();
                assert!(!SECRETS.iter().any(|secret| seen.contains(secret)), "{destination}: {seen}");
            }
        }
        let session = partner.ok("init/payout", &partner.init(&destinations[0])).await;
        let shown = &partner.payout(&session)[version.destination()]["card"];
        assert_eq!((&shown["last4"], &shown["brand"]), (&json!("4242"), &json!("visa")));
        assert_eq!(shown.get("bin").unwrap_or(&json!("424242")), "424242");
    }
}

#[tokio::test]
async fn a_card_id_tells_cards_apart_within_a_project_only() {
    let world = World::open().await;
    let partner = Partner::of(&world, Version::V2);
    let card_of = async |project: &str, destination: Value| {
        let session = partner.project(project).ok("init/payout", &partner.init(&destination)).await;
        partner.payout(&session)["payout_details"]["card"]["card_id"].as_str().unwrap().to_owned()
    };
    let mut seen = std::collections::HashSet::new();
    for destination in [bank_card(NUMBER), bank_card("5555555555554444"), token("tok_a"), token("tok_b")] {
        let id = card_of("shop", destination.clone()).await;
        assert_eq!(card_of("shop", destination.clone()).await, id, "the same card, the same id");
        let elsewhere = card_of("other", destination).await;
        assert_ne!(elsewhere, id, "§10: unique per project");
        assert!(seen.insert(id) && seen.insert(elsewhere), "another card, another id");
    }
}
