//! What a person makes happen, and the settings for what Pike's documents leave open.

use payoutd::sandbox::{Code, ConfirmShows, DeclinedSession, Method};
use serde_json::{Value, json};

use crate::support::{World, assert_error, start_body};

impl World {
    pub async fn act(&self, id: &str, action: &str, details: Value) -> Value {
        let (status, answer) = self.control(&format!("sessions/{id}/{action}"), &details).await;
        assert_eq!(status, 200, "{answer}");
        answer["session"].clone()
    }
}

#[tokio::test]
async fn a_person_advances_fails_doubts_resolves_returns_and_resends() {
    let world =
        World::open_with(|settings| settings.timing.ready_delay = std::time::Duration::from_secs(600)).await;
    let id = world.started("tok_success").await;
    assert_eq!(world.act(&id, "advance", json!({})).await["next_action"], "confirm");
    world.sink.wait(&id, "ready_to_confirm", 1).await;
    world.act(&id, "resend", json!({})).await;
    world.sink.wait(&id, "ready_to_confirm", 2).await;
    let doubtful = world.act(&id, "error", json!({})).await;
    assert_eq!(
        (&doubtful["status"], &doubtful["payout_list"][0]["status"]),
        (&json!("error"), &json!("failed"))
    );
    let paid = world.act(&id, "resolve", json!({ "as": "paid" })).await;
    assert_eq!((&paid["status"], paid.get("error")), (&json!("accepted"), None));
    let back = world.act(&id, "return", json!({})).await;
    assert_eq!(back["payout_list"][0]["refunds"][0]["status"], "accepted");
    world.sink.wait(&id, "payment_refunded", 1).await;
    let line = world.line(&id).await;
    assert_eq!((&line["paid_times"], &line["confirmed"]), (&json!(1), &json!(false)));

    let id = world.started("tok_success").await;
    world.act(&id, "error", json!({})).await;
    let failed = world.act(&id, "resolve", json!({ "as": "failed", "code": "account_not_found" })).await;
    assert_eq!(
        (&failed["status"], &failed["error"]["code"]),
        (&json!("cancelled"), &json!("account_not_found"))
    );
    let id = world.created().await;
    let failed = world.act(&id, "fail", json!({ "code": "session_cancelled" })).await;
    assert_eq!(
        (&failed["status"], &failed["error"]["code"]),
        (&json!("cancelled"), &json!("session_cancelled"))
    );
    for action in ["advance", "fail", "error", "resolve", "return"] {
        let (status, answer) = world.control(&format!("sessions/{id}/{action}"), &json!({})).await;
        assert_error(status, &answer, 409, "session_wrong_state");
    }
    let (status, answer) = world.control(&format!("sessions/{id}/explode"), &json!({})).await;
    assert_error(status, &answer, 400, "invalid_request");
    let (status, answer) = world.control("sessions/ps_1/fail", &json!({})).await;
    assert_error(status, &answer, 404, "invalid_request");
}

#[tokio::test]
async fn what_is_advanced_happens_now() {
    let world = World::open().await;
    let id = world.started("tok_success").await;
    let ready = world.wait_ready(&id).await;
    let timed_out = world.act(&id, "advance", json!({})).await;
    assert_eq!(timed_out["error"]["code"], "confirm_timeout");
    let finished = timed_out["payout_list"][0]["finished_at"].as_str().unwrap();
    assert_eq!(finished[..13], ready["updated_at"].as_str().unwrap()[..13], "not in four hours");
    assert!(finished <= timed_out["updated_at"].as_str().unwrap());
}

#[tokio::test]
async fn sums_beyond_sixty_four_bits_are_shown() {
    let world = World::open().await;
    for n in 0..3 {
        let id = world.created().await;
        let mut body = start_body(&id, &format!("tok_success_{n}"));
        body["amount_details"]["amount"] = i64::MAX.into();
        world.ok("start/payout", body).await;
        world.act(&id, "resolve", json!({})).await;
    }
    let text = world.http.get(format!("{}/_sandbox/summary", world.base)).send().await.unwrap();
    assert!(text.text().await.unwrap().contains("27670116110564327421"));
    assert_eq!(world.get("/_sandbox/health").await["status"], "ok");
}

#[tokio::test]
async fn an_error_that_stays_and_one_that_ends_badly() {
    let world = World::open().await;
    let open = world.confirmed("tok_session_error_open").await;
    let failed = world.confirmed("tok_session_error_failed").await;
    world.sink.wait(&failed, "payment_finished", 2).await;
    let session = world.status(&failed).await;
    assert_eq!(
        (&session["status"], &session["payout_list"][0]["status"]),
        (&json!("cancelled"), &json!("failed"))
    );
    assert_eq!(world.line(&failed).await["paid_times"], 0);
    world.wait_status(&open, "error").await;
    world.act(&open, "resolve", json!({})).await;
    assert_eq!(world.status(&open).await["status"], "accepted");
}

#[tokio::test]
async fn every_documented_code_can_be_the_answer_the_early_and_the_late_end() {
    let world = World::open().await;
    for code in Code::ALL {
        let name = code.name();
        let id = world.created().await;
        let (status, answer) =
            world.call("start/payout", &start_body(&id, &format!("tok_refuse_{name}"))).await;
        assert_eq!((&answer["error"]["code"], status >= 400), (&json!(name), true));
        let early = world.started(&format!("tok_fail_early_{name}")).await;
        let late = world.confirmed(&format!("tok_fail_{name}")).await;
        for id in [early, late] {
            let session = world.wait_status(&id, "cancelled").await;
            let payout = &session["payout_list"][0];
            assert_eq!((&payout["error"]["code"], &session["error"]["code"]), (&json!(name), &json!(name)));
        }
    }
}

#[tokio::test]
async fn http_statuses_are_a_table_that_can_be_changed() {
    let world = World::open_with(|settings| {
        settings.http_statuses.all = Some(400);
        settings.http_statuses.by_code.insert(Code::SessionWrongState, 409);
    });
    let world = world.await;
    let (status, answer) = world.post("/api/v2/session/create", &[], b"{}".to_vec()).await;
    assert_error(status, &answer, 400, "identification_error");
    let id = world.created().await;
    world.refused("confirm", json!({ "session_id": id }), 409, "session_wrong_state").await;
}

#[tokio::test]
async fn readings_of_what_the_documents_leave_open() {
    let world = World::open_with(|settings| {
        settings.declined_session = DeclinedSession::Accepted;
        settings.confirm_shows = ConfirmShows::Pending;
        settings.start_alias = true;
    });
    let world = world.await;
    let id = world.created().await;
    world.ok("start", start_body(&id, "tok_decline")).await;
    world.wait_ready(&id).await;
    let answer = world.ok("confirm", json!({ "session_id": id })).await;
    assert_eq!((&answer["payout_list"][0]["status"], answer.get("next_action")), (&json!("pending"), None));
    let session = world.wait_status(&id, "accepted").await;
    assert_eq!((&session["payout_list"][0]["status"], session.get("error")), (&json!("failed"), None));
    // A cancel is a cancel all the same.
    let id = world.started("tok_success").await;
    world.wait_ready(&id).await;
    world.ok("cancel", json!({ "session_id": id })).await;
    world.wait_status(&id, "cancelled").await;
    let plain = World::open().await;
    let id = plain.created().await;
    plain.refused("start", start_body(&id, "tok_success"), 404, "invalid_request").await;
}

#[tokio::test]
async fn what_a_project_may_do_is_settled_before() {
    let world = World::open_with(|settings| {
        settings.projects[0].denied = vec![Method::InitPayout];
        settings.projects[1].submerchants = vec!["m-1".to_owned()];
        settings.projects[1].submerchant_required = true;
    });
    let world = world.await;
    world.refused("init/payout", json!({}), 403, "authorization_error").await;
    let signature = crate::support::partner_keys().sign(b"{}");
    for (name, status) in [(None, 403), (Some("m-2"), 403), (Some("m-1"), 200)] {
        let mut headers = vec![("X-PARTNER-PROJECT", "other"), ("X-PARTNER-SIGN", signature.as_str())];
        headers.extend(name.map(|name| ("X-PARTNER-SUBMERCHANT", name)));
        assert_eq!(
            world.post("/api/v2/session/create", &headers, b"{}".to_vec()).await.0,
            status,
            "{name:?}"
        );
    }
}
