//! §2.2 to §2.7: what each session method answers, in both versions. Whether every field is one of its
//! version and of its type, `Partner::ok` looks at each time.

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::{Rfc2822, Rfc3339};

use super::partner::{Partner, Version, id_of, named, token};
use super::shape;
use crate::raw;
use crate::support::World;

/// That nothing in the answer is called as in the other version, and nothing is without a value.
fn assert_names(session: &Value, version: Version) {
    let text = session.to_string();
    let other = version.other();
    for name in [other.destination(), other.payouts(), other.incoming()] {
        assert!(!text.contains(&format!("\"{name}\":")), "{name} in {text}");
    }
    assert!(!text.contains(":null"), "{text}");
}

fn assert_just_started(partner: &Partner, session: &Value) {
    assert_eq!(session["status"], "in_progress");
    assert!(session.get("next_action").is_none() && session.get("error").is_none(), "{session}");
    let payout = partner.payout(session);
    assert_eq!(payout["status"], "in_progress", "§2.3: not pending");
    assert_eq!(payout["amount_details"], json!({ "amount": 125_050, "currency": "rub" }));
    assert_eq!(
        payout["customer"],
        json!({ "reference": "user-77", "contacts": [{ "email": "anna@example.org" }] })
    );
    assert_eq!(payout["participant_details"], json!({ "recipient": { "full_name": "Anna Petrova" } }));
    assert_eq!(payout["metadata"], "wd-2025-000417");
    assert_eq!(payout[partner.version.destination()]["card"]["brand"], "visa");
    assert!(payout.get("transaction_info").is_none() && payout.get("refunds").is_none(), "{payout}");
    assert_names(session, partner.version);
}

#[tokio::test]
async fn create_answers_a_session_without_a_payout() {
    let world = World::open().await;
    for version in Version::BOTH {
        let partner = Partner::of(&world, version);
        let full = partner.init(&token("tok_success"));
        for body in [json!({}), json!({ "metadata": "wd-1" }), full] {
            let session = partner.ok("create", &body).await;
            assert_eq!(session["status"], "created");
            assert_eq!(session["created_at"], session["updated_at"], "§2.2");
            for absent in [version.payouts(), version.incoming(), "next_action", "error", "finished_at"] {
                assert!(session.get(absent).is_none(), "{absent} in {session}");
            }
            assert_names(&session, version);
        }
    }
}

#[tokio::test]
async fn start_answers_the_session_in_progress_with_its_payout() {
    let world = World::open_with(|settings| settings.timing.ready_delay = HOUR).await;
    for version in Version::BOTH {
        let partner = Partner::of(&world, version);
        let created = partner.ok("create", &json!({})).await;
        let id = id_of(&created);
        let started = partner.ok("start/payout", &partner.start(&id, &token("tok_success"))).await;
        assert_eq!((&started["id"], &started["created_at"]), (&created["id"], &created["created_at"]));
        assert!(started["updated_at"].as_str() > created["created_at"].as_str(), "§2.3: {started}");
        assert!(partner.payout(&started)["created_at"].as_str() >= created["created_at"].as_str());
        assert_just_started(&partner, &started);
        assert_eq!(partner.status(&id).await, started, "a status changes nothing and hides nothing");
    }
}

#[tokio::test]
async fn init_answers_what_create_and_start_would() {
    let world = World::open_with(|settings| settings.timing.ready_delay = HOUR).await;
    for version in Version::BOTH {
        let partner = Partner::of(&world, version);
        let session = partner.ok("init/payout", &partner.init(&token("tok_success"))).await;
        assert_just_started(&partner, &session);
        assert_eq!(partner.status(&id_of(&session)).await, session);
    }
}

#[tokio::test]
async fn confirm_answers_the_session_in_progress_that_waits_no_more() {
    let world = World::open_with(|settings| settings.timing.settle_delay = HOUR).await;
    for version in Version::BOTH {
        let partner = Partner::of(&world, version);
        let id = partner.started(&token("tok_success")).await;
        let ready = partner.wait_ready(&id).await;
        assert_eq!(partner.payout(&ready)["status"], "pending");
        assert!(ready["updated_at"].as_str() >= partner.payout(&ready)["created_at"].as_str());
        let session = partner.ok("confirm", &named(&id)).await;
        assert_eq!(session["status"], "in_progress");
        // The documents' example says pending, the vendor's live test in_progress (§12, 5).
        let payout = partner.payout(&session);
        assert!(payout["status"] == "in_progress" || payout["status"] == "pending", "{payout}");
        assert!(session.get("next_action").is_none(), "{session}");
        assert_names(&session, version);
    }
}

#[tokio::test]
async fn cancel_answers_the_session_still_in_progress() {
    let world = World::open_with(|settings| settings.timing.settle_delay = HOUR).await;
    for version in Version::BOTH {
        let partner = Partner::of(&world, version);
        let id = partner.started(&token("tok_success")).await;
        partner.wait_ready(&id).await;
        let session = partner.ok("cancel", &named(&id)).await;
        assert_eq!(session["status"], "in_progress", "§2.6: cancelling takes its time");
        let payout = partner.payout(&session);
        assert!(payout["status"] == "in_progress" || payout["status"] == "pending", "{payout}");
        assert_names(&session, version);
    }
}

#[tokio::test]
async fn status_answers_in_the_names_of_its_call_whatever_the_start_spoke() {
    let world = World::open().await;
    for version in Version::BOTH {
        let partner = Partner::of(&world, version);
        let id = partner.confirmed(&token("tok_returned")).await;
        let returned = async || {
            let session = partner.wait_status(&id, "accepted").await;
            Some(session).filter(|it| it[version.payouts()][0].get("refunds").is_some())
        };
        let here = crate::support::until("the return", returned).await;
        let there = partner.version(version.other()).status(&id).await;
        assert_names(&here, version);
        assert_names(&there, version.other());
        let renamed = here
            .to_string()
            .replace(version.payouts(), version.other().payouts())
            .replace(version.destination(), version.other().destination());
        assert_eq!(serde_json::from_str::<Value>(&renamed).unwrap(), there);
    }
}

#[tokio::test]
async fn the_whole_life_of_a_payout_keeps_its_times_in_order() {
    let world = World::open().await;
    for version in Version::BOTH {
        let partner = Partner::of(&world, version);
        let id = partner.confirmed(&token("tok_success")).await;
        let session = partner.wait_status(&id, "accepted").await;
        let payout = partner.payout(&session);
        assert_eq!(payout["status"], "succeeded");
        let times =
            [&session["created_at"], &payout["created_at"], &payout["finished_at"], &session["updated_at"]];
        times.iter().for_each(|time| shape::instant(time, "time"));
        assert!(times.is_sorted_by_key(|time| time.as_str()), "{session}");
        let transaction = &payout["transaction_info"];
        assert!(transaction["rrn"].is_string() && transaction["auth_code"].is_string(), "§3.10: {payout}");
        assert!(session.get("error").is_none() && session.get("next_action").is_none(), "{session}");
    }
}

#[tokio::test]
async fn times_are_told_in_utc() {
    let world = World::open().await;
    let partner = Partner::of(&world, Version::V2);
    let answer = partner.call("session/create", &json!({})).await;
    let created = answer.json()["session"]["created_at"].as_str().unwrap().to_owned();
    let created = OffsetDateTime::parse(&created, &Rfc3339).unwrap();
    let answered = OffsetDateTime::parse(answer.all("date")[0], &Rfc2822).unwrap();
    assert!((answered - created).abs() < time::Duration::minutes(5), "{answered} and {created}");
}

#[tokio::test]
async fn ids_are_never_given_twice() {
    let world = World::open().await;
    let mut seen = std::collections::HashSet::new();
    for version in Version::BOTH {
        let partner = Partner::of(&world, version);
        for project in ["shop", "other"] {
            let session =
                partner.project(project).ok("init/payout", &partner.init(&token("tok_success"))).await;
            assert!(seen.insert(id_of(&session)) && seen.insert(id_of(partner.payout(&session))));
        }
    }
}

#[tokio::test]
async fn what_is_no_method_is_refused_in_the_shape_of_an_error() {
    let world = World::open().await;
    let partner = Partner::of(&world, Version::V2);
    let id = partner.created().await;
    // The short form is sloppiness of the examples (§12, 1); payments and other kinds are not payouts.
    let methods =
        ["session/start", "session/refund", "session/capture", "session/chargeback", "session", "sessions"];
    for method in [&methods[..], &["", "session/status/", "Session/status", "session//status"]].concat() {
        let answer = partner.call(method, &named(&id)).await;
        assert!((400..500).contains(&answer.http()), "{method}: {answer:?}");
        shape::any_refusal(&answer.json());
    }
    for path in
        ["/api/v3/session/status", "/api/session/status", "/session/status", "/api/v02/session/status"]
    {
        let body = serde_json::to_vec(&named(&id)).unwrap();
        let signature = crate::support::partner_keys().sign(&body);
        let headers = [("X-PARTNER-PROJECT", "shop"), ("X-PARTNER-SIGN", signature.as_str())];
        let answer = raw::answer(partner.address, &raw::post(path, &headers, &body)).await;
        assert!((400..500).contains(&answer.http()), "{path}: {answer:?}");
        shape::any_refusal(&answer.json());
    }
    assert_eq!(partner.status(&id).await["status"], "created");
}

#[tokio::test]
async fn a_method_is_posted_and_nothing_else() {
    let world = World::open().await;
    let partner = Partner::of(&world, Version::V2);
    for verb in ["GET", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        let request =
            format!("{verb} /api/v2/session/status HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        let answer = raw::answer(partner.address, request.as_bytes()).await;
        assert!((400..500).contains(&answer.http()), "{verb}: {answer:?}");
        shape::any_refusal(&answer.json());
    }
}

const HOUR: std::time::Duration = std::time::Duration::from_secs(3600);
