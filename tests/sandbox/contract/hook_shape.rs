//! §5.6: each webhook about a payout, field by field, against the documents' examples.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::partner::{Partner, Version, id_of, named, token};
use super::receiver::Receiver;
use super::shape;
use crate::support::World;

/// A type of webhook in one outcome.
struct Hook {
    kind: &'static str,
    /// Which destination leads to it.
    token: &'static str,
    session: &'static str,
    payout: &'static str,
    error: Option<&'static str>,
    /// Fields of the session and of the payout beyond those that every webhook has.
    session_has: &'static [&'static str],
    payout_has: &'static [&'static str],
    payout_may_have: &'static [&'static str],
}

const READY: Hook = Hook {
    kind: "ready_to_confirm",
    token: "tok_success",
    session: "in_progress",
    payout: "pending",
    error: None,
    session_has: &["next_action"],
    payout_has: &[],
    payout_may_have: &[],
};

const PAID: Hook = Hook {
    kind: "payment_finished",
    session: "accepted",
    payout: "succeeded",
    session_has: &[],
    payout_has: &["finished_at", "transaction_info"],
    payout_may_have: &["amounts"],
    ..READY
};

const DECLINED: Hook = Hook {
    token: "tok_decline",
    session: "cancelled",
    payout: "failed",
    error: Some("declined_by_issuer_bank"),
    session_has: &["error"],
    payout_has: &["finished_at", "error"],
    payout_may_have: &[],
    ..PAID
};

const IN_DOUBT: Hook = Hook {
    token: "tok_session_error",
    session: "error",
    payout: "failed",
    error: Some("provider_timeout"),
    payout_has: &["error"],
    payout_may_have: &["finished_at"],
    ..DECLINED
};

const RETURNED: Hook = Hook {
    kind: "payment_refunded",
    token: "tok_returned",
    payout_has: &["refunds"],
    payout_may_have: &["finished_at", "transaction_info", "amounts"],
    ..PAID
};

/// Every webhook that a payout can lead to after its confirm.
const CONFIRMED: [Hook; 9] = [
    READY,
    PAID,
    DECLINED,
    Hook { token: "tok_insufficient", error: Some("insufficient_wallet_balance"), ..DECLINED },
    IN_DOUBT,
    Hook { token: "tok_session_error", ..PAID },
    Hook { token: "tok_returned", ..PAID },
    RETURNED,
    Hook { token: "tok_mastercard", ..READY },
];

fn names(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// Exactly these names, and some of those.
fn assert_names(value: &Value, at: &str, must: &[&str], may: &[&str]) {
    let have = names(value);
    for name in must {
        assert!(have.contains(name), "{at} lacks `{name}`: {value}");
    }
    for name in have {
        assert!(must.contains(&name) || may.contains(&name), "{at} must not have `{name}`: {value}");
    }
}

/// What came, against what this webhook is.
fn assert_hook(hook: &Value, what: &Hook, version: Version, echoed: &[&str]) {
    assert_names(hook, "webhook", &["type", "session"], &[]);
    let session = &hook["session"];
    shape::session(session, version);
    let list = version.payouts();
    let must = [&["id", "status", "created_at", "updated_at", list], what.session_has].concat();
    assert_names(session, "session", &must, &[]);
    assert_eq!((&hook["type"], &session["status"]), (&json!(what.kind), &json!(what.session)), "{hook}");
    assert_eq!(session[list].as_array().unwrap().len(), 1);

    let payout = &session[list][0];
    let own = ["id", "status", "created_at", version.destination(), "amount_details"];
    assert_names(payout, "payout", &[&own, what.payout_has, echoed].concat(), what.payout_may_have);
    assert_eq!(payout["status"], what.payout, "{hook}");
    let destination = &payout[version.destination()];
    assert_names(destination, "destination", &["type", "card"], &[]);
    let card = &destination["card"];
    assert_names(card, "card", &["brand", "last4"], &["bin", "card_id", "country_iso3"]);
    for error in [&session["error"], &payout["error"]] {
        assert_eq!(error["code"].as_str(), what.error, "{hook}");
    }
    if what.payout_has.contains(&"transaction_info") {
        assert_names(&payout["transaction_info"], "transaction", &["rrn", "auth_code"], &[]);
    }
    if what.payout_has.contains(&"refunds") {
        assert_refund(payout);
    }
}

fn assert_refund(payout: &Value) {
    assert_eq!(payout["refunds"].as_array().unwrap().len(), 1);
    let refund = &payout["refunds"][0];
    let must = ["id", "status", "created_at", "finished_at", "is_chargeback", "amount_details"];
    assert_names(refund, "refund", &must, &[]);
    assert_eq!((&refund["status"], &refund["is_chargeback"]), (&json!("accepted"), &json!(false)));
    assert_eq!(refund["amount_details"], payout["amount_details"]);
    assert!(refund["created_at"].as_str() <= refund["finished_at"].as_str(), "{refund}");
    assert!(payout["created_at"].as_str() <= refund["created_at"].as_str(), "{payout}");
}

/// Names that a full request leads to.
const ECHOED: [&str; 3] = ["customer", "metadata", "participant_details"];

#[tokio::test]
async fn every_webhook_about_a_confirmed_payout_has_its_fields_and_no_others() {
    let receiver = Receiver::open(&[]).await;
    let world = receiver.world(|_| {}).await;
    for version in Version::BOTH {
        let partner = Partner::of(&world, version);
        for what in &CONFIRMED {
            let id = partner.confirmed(&token(what.token)).await;
            let hook = receiver.wait_saying(&id, what.kind, what.session).await.hook;
            assert_hook(&hook, what, version, &ECHOED);
            let payout = &hook["session"][version.payouts()][0];
            let sent = partner.init(&token(what.token));
            for echoed in ECHOED {
                assert_eq!(payout[echoed], sent[echoed]);
            }
        }
    }
}

#[tokio::test]
async fn a_payout_that_fails_before_its_confirm_is_finished_and_was_never_ready() {
    let receiver = Receiver::open(&[]).await;
    let world = receiver.world(|_| {}).await;
    for version in Version::BOTH {
        let partner = Partner::of(&world, version);
        for (token_name, code) in
            [("tok_decline_early", "operation_rejected"), ("tok_expired", "bank_card_expired")]
        {
            let id = partner.started(&token(token_name)).await;
            let hook = receiver.wait(&id, "payment_finished", 1).await.hook;
            assert_hook(&hook, &Hook { error: Some(code), ..DECLINED }, version, &ECHOED);
            assert_eq!(receiver.types(&id), ["payment_finished"]);
        }
    }
}

#[tokio::test]
async fn a_cancel_and_a_missed_window_are_finished_with_their_codes() {
    let receiver = Receiver::open(&[]).await;
    let patient = receiver.world(|_| {}).await;
    let hasty = |settings: &mut payoutd::sandbox::Settings| {
        settings.timing.confirm_window = Duration::from_millis(5);
    };
    let hasty = receiver.world(hasty).await;
    for version in Version::BOTH {
        let partner = Partner::of(&patient, version);
        let id = partner.started(&token("tok_success")).await;
        partner.wait_ready(&id).await;
        partner.ok("cancel", &named(&id)).await;
        let hook = receiver.wait(&id, "payment_finished", 1).await.hook;
        let cancelled = Hook { error: Some("session_cancelled_by_partner"), ..DECLINED };
        assert_hook(&hook, &cancelled, version, &ECHOED);

        let id = Partner::of(&hasty, version).started(&token("tok_success")).await;
        let hook = receiver.wait(&id, "payment_finished", 1).await.hook;
        assert_hook(&hook, &Hook { error: Some("confirm_timeout"), ..DECLINED }, version, &ECHOED);
    }
}

#[tokio::test]
async fn what_was_not_sent_is_not_in_a_webhook() {
    let receiver = Receiver::open(&[]).await;
    let world = receiver.world(|_| {}).await;
    for version in Version::BOTH {
        let partner = Partner::of(&world, version);
        let mut body = json!({ "amount_details": { "amount": 1, "currency": "rub" },
            "participant_details": { "recipient": { "full_name": "A P" } } });
        body[version.destination()] = token("tok_success");
        let id = id_of(&partner.ok("init/payout", &body).await);
        let hook = receiver.wait(&id, "ready_to_confirm", 1).await.hook;
        assert_hook(&hook, &READY, version, &["participant_details"]);
        partner.ok("confirm", &named(&id)).await;
        let hook = receiver.wait(&id, "payment_finished", 1).await.hook;
        assert_hook(&hook, &PAID, version, &["participant_details"]);
    }
}

#[tokio::test]
async fn a_webhook_speaks_the_version_of_the_start_whatever_the_other_calls_spoke() {
    let receiver = Receiver::open(&[]).await;
    let world = receiver.world(|_| {}).await;
    for version in Version::BOTH {
        let (partner, other) = (Partner::of(&world, version), Partner::of(&world, version.other()));
        let id = other.created().await;
        partner.ok("start/payout", &partner.start(&id, &token("tok_returned"))).await;
        receiver.wait(&id, "ready_to_confirm", 1).await;
        other.status(&id).await;
        other.ok("confirm", &named(&id)).await;
        for kind in ["ready_to_confirm", "payment_finished", "payment_refunded"] {
            let hook = receiver.wait(&id, kind, 1).await.hook;
            shape::session(&hook["session"], version);
        }
    }
}

#[tokio::test]
async fn a_webhook_says_what_a_status_says() {
    let receiver = Receiver::open(&[]).await;
    let world = receiver.world(|_| {}).await;
    for version in Version::BOTH {
        let partner = Partner::of(&world, version);
        let id = partner.started(&token("tok_success")).await;
        let hook = receiver.wait(&id, "ready_to_confirm", 1).await.hook;
        assert_eq!(hook["session"], partner.status(&id).await);
        partner.ok("confirm", &named(&id)).await;
        let hook = receiver.wait(&id, "payment_finished", 1).await.hook;
        assert_eq!(hook["session"], partner.status(&id).await);
    }
}

#[tokio::test]
async fn a_webhook_does_not_say_whose_project_it_is_about() {
    const PROJECT: &str = "zx81-spectrum";
    let receiver = Receiver::open(&[]).await;
    let world = receiver.world(|settings| settings.projects[0].id = PROJECT.to_owned());
    let world: World = world.await;
    let partner = Partner::of(&world, Version::V2).project(PROJECT);
    let id = partner.confirmed(&token("tok_returned")).await;
    for kind in ["ready_to_confirm", "payment_finished", "payment_refunded"] {
        let request = receiver.wait(&id, kind, 1).await.request;
        assert!(!format!("{:?}", request.headers).contains(PROJECT), "{request:?}");
        assert!(!String::from_utf8(request.body).unwrap().contains(PROJECT));
        let partners: Vec<_> =
            request.headers.iter().filter(|(name, _)| name.starts_with("x-partner")).collect();
        assert_eq!(partners.len(), 1, "only the signature: {partners:?}");
    }
}
