//! §6: the codes that refuse a call, with their status (§6.2) and shape, and those that end a payout.

use serde_json::{Value, json};

use super::partner::{Partner, Version, id_of, named, token};
use super::shape;
use crate::raw::Message;
use crate::support::{World, pike_keys};

/// A call that must be refused, and how.
struct Refusal {
    code: &'static str,
    http: u16,
    call: for<'a> fn(&'a Partner) -> std::pin::Pin<Box<dyn Future<Output = Message> + Send + 'a>>,
}

const REFUSALS: [Refusal; 8] = [
    Refusal {
        code: "identification_error",
        http: 401,
        call: |partner| {
            Box::pin(async { partner.project("nobody").call("session/create", &json!({})).await })
        },
    },
    Refusal {
        code: "authentication_error",
        http: 401,
        call: |partner| {
            Box::pin(async {
                let signature = pike_keys().sign(b"{}");
                let headers = [("X-PARTNER-PROJECT", "shop"), ("X-PARTNER-SIGN", signature.as_str())];
                partner.send("session/create", &headers, b"{}").await
            })
        },
    },
    Refusal {
        code: "invalid_request",
        http: 400,
        call: |partner| Box::pin(async { partner.call("session/status", &json!({})).await }),
    },
    Refusal {
        code: "session_wrong_state",
        http: 400,
        call: |partner| {
            Box::pin(async {
                let id = partner.created().await;
                partner.call("session/confirm", &named(&id)).await
            })
        },
    },
    Refusal {
        code: "idempotency_key_already_exists",
        http: 400,
        call: |partner| {
            Box::pin(async {
                let key = [("X-PARTNER-IDEMPOTENCY-KEY", partner.version.path())];
                partner.signed("session/create", &key, b"{}").await;
                partner.signed("session/create", &key, b"{}").await
            })
        },
    },
    Refusal {
        code: "card_number_does_not_exist",
        http: 400,
        call: |partner| {
            Box::pin(async {
                let id = partner.created().await;
                let start = partner.start(&id, &token("tok_start_refused"));
                partner.call("session/start/payout", &start).await
            })
        },
    },
    Refusal {
        code: "internal_error",
        http: 500,
        call: |partner| {
            Box::pin(async {
                let id = partner.created().await;
                partner.call("session/start/payout", &partner.start(&id, &token("tok_start_500"))).await
            })
        },
    },
    Refusal {
        code: "internal_error",
        http: 500,
        call: |partner| {
            Box::pin(async {
                let id = partner.started(&token("tok_confirm_lost")).await;
                partner.wait_ready(&id).await;
                partner.call("session/confirm", &named(&id)).await
            })
        },
    },
];

#[tokio::test]
async fn every_refusal_has_its_code_its_status_and_nothing_but_an_error() {
    let world = World::open().await;
    for version in Version::BOTH {
        let partner = Partner::of(&world, version);
        for refusal in &REFUSALS {
            let answer = (refusal.call)(&partner).await;
            shape::refusal(&answer, refusal.http, refusal.code);
            let json = answer.json();
            // An answer carries no reject_reasons of its own accord, and no session.
            let fields: Vec<_> = json["error"].as_object().unwrap().keys().collect();
            assert_eq!(fields, ["code", "description"], "{json}");
        }
    }
}

#[tokio::test]
async fn a_description_is_for_people_and_names_no_secret() {
    let world = World::open().await;
    let partner = Partner::of(&world, Version::V2);
    let secrets = ["4242429876504242", "hush-hush"];
    let spoilt: [Value; 3] = [
        json!({ "type": "card", "card": { "type": "bank_card", "bank_card": { "number": secrets[0], "a": 1 },
            "b": secrets[1] }, "c": [secrets[0]] }),
        json!({ "type": secrets[0], secrets[0]: secrets[1] }),
        json!({ "type": "card", "card": { "type": "tokenized_card", "tokenized_card": secrets[1] } }),
    ];
    for destination in spoilt {
        let mut body = partner.init(&destination);
        body["amount_details"]["amount"] = json!(secrets[0]);
        let answer = partner.call("session/init/payout", &body).await;
        shape::refusal(&answer, 400, "invalid_request");
        let text = answer.json().to_string();
        assert!(!secrets.iter().any(|secret| text.contains(secret)), "{text}");
    }
}

#[tokio::test]
async fn after_an_answer_that_was_lost_the_status_tells_what_happened() {
    let world = World::open().await;
    for version in Version::BOTH {
        let partner = Partner::of(&world, version);
        // §6.4: the effect was there before the 500.
        let id = partner.created().await;
        let start = partner.start(&id, &token("tok_start_lost"));
        partner.refused("start/payout", &start, 500, "internal_error").await;
        partner.wait_ready(&id).await;
        partner.refused("start/payout", &start, 400, "session_wrong_state").await;

        let id = partner.started(&token("tok_confirm_lost")).await;
        partner.wait_ready(&id).await;
        partner.refused("confirm", &named(&id), 500, "internal_error").await;
        partner.refused("confirm", &named(&id), 400, "session_wrong_state").await;
        partner.wait_status(&id, "accepted").await;

        let id = partner.started(&token("tok_cancel_lost")).await;
        partner.wait_ready(&id).await;
        partner.refused("cancel", &named(&id), 500, "internal_error").await;
        partner.wait_status(&id, "cancelled").await;

        // And here it was not: the same start is good again.
        let id = partner.created().await;
        let start = partner.start(&id, &token("tok_start_500"));
        partner.refused("start/payout", &start, 500, "internal_error").await;
        let session = partner.status(&id).await;
        assert_eq!((&session["status"], session.get(version.payouts())), (&json!("created"), None));
        partner.ok("start/payout", &start).await;
    }
}

#[tokio::test]
async fn a_refused_start_leaves_the_session_to_be_started() {
    let world = World::open().await;
    for version in Version::BOTH {
        let partner = Partner::of(&world, version);
        let before = partner.ok("create", &json!({})).await;
        let id = id_of(&before);
        let start = partner.start(&id, &token("tok_start_refused"));
        partner.refused("start/payout", &start, 400, "card_number_does_not_exist").await;
        assert_eq!(partner.status(&id).await, before);
        partner.ok("start/payout", &partner.start(&id, &token("tok_success"))).await;
    }
}
