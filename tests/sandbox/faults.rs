//! Faults that strike calls: what the caller gets, what happened all the same, and that the ledger
//! knows both.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{World, assert_error, card, partner_keys, start_body, until};

/// What came back, if anything.
struct Got {
    status: u16,
    headers: reqwest::header::HeaderMap,
    body: Result<Vec<u8>, reqwest::Error>,
}

impl World {
    /// A call whose answer may be anything; `fault` is asked for in the header.
    async fn rude(&self, method: &str, body: &Value, fault: &str) -> Result<Got, reqwest::Error> {
        let body = serde_json::to_vec(body).unwrap();
        let signature = partner_keys().sign(&body);
        let plain = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        let request = plain.build().unwrap().post(format!("{}/api/v2/session/{method}", self.base));
        let request = request.header("X-PARTNER-PROJECT", "shop").header("X-PARTNER-SIGN", signature);
        let request = if fault.is_empty() { request } else { request.header("X-SANDBOX-FAULT", fault) };
        let response = request.body(body).send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Got { status, headers, body: response.bytes().await.map(|bytes| bytes.to_vec()) })
    }

    /// Starts a payout while a fault strikes; the session's id and what came back.
    async fn start_struck(&self, fault: &str) -> (String, Result<Got, reqwest::Error>) {
        let id = self.created().await;
        let got = self.rude("start/payout", &start_body(&id, "tok_success"), fault).await;
        (id, got)
    }

    async fn payouts(&self, id: &str) -> usize {
        self.status(id).await["payout_list"].as_array().map_or(0, Vec::len)
    }

    pub async fn rule(&self, rule: Value) -> u64 {
        let (status, answer) = self.control("faults", &rule).await;
        assert_eq!(status, 200, "{answer}");
        answer["id"].as_u64().unwrap()
    }

    pub async fn control(&self, path: &str, body: &Value) -> (u16, Value) {
        let headers = [("Content-Type", "application/json")];
        self.post(&format!("/_sandbox/{path}"), &headers, serde_json::to_vec(body).unwrap()).await
    }

    pub async fn struck(&self, fault: &str) -> u64 {
        self.get("/_sandbox/ledger").await["totals"]["faults"][fault].as_u64().unwrap_or(0)
    }
}

#[tokio::test]
async fn errors_before_the_effect_and_after_it() {
    let world = World::open().await;
    let (id, got) = world.start_struck("error_before;status=503;retry_after=-5").await;
    let got = got.unwrap();
    assert_eq!((got.status, got.headers["retry-after"].to_str().unwrap()), (503, "-5"));
    assert_eq!(world.payouts(&id).await, 0);
    let (id, got) = world.start_struck("error_after;status=502").await;
    assert_eq!(got.unwrap().status, 502);
    assert_eq!(world.payouts(&id).await, 1);
    let (id, got) =
        world.start_struck("error_before;status=429;retry_after=Fri, 31 Dec 9999 23:59:59 GMT").await;
    assert_eq!((got.unwrap().status, world.payouts(&id).await), (429, 0));
    let (id, got) = world.start_struck("error_before;status=400;code=provider_exceeds_amount_limit").await;
    let body: Value = serde_json::from_slice(&got.unwrap().body.unwrap()).unwrap();
    assert_error(400, &body, 400, "provider_exceeds_amount_limit");
    assert_eq!(world.payouts(&id).await, 0);
    assert_eq!((world.struck("error_before").await, world.struck("error_after").await), (3, 1));
}

#[tokio::test]
async fn an_answer_is_lost_after_its_effect() {
    let world = World::open().await;
    for fault in ["answer_lost", "reset", "reset;bytes=20"] {
        let (id, got) = world.start_struck(fault).await;
        assert!(got.is_err(), "{fault}");
        assert_eq!(world.payouts(&id).await, 1, "{fault}");
        assert_eq!(world.line(&id).await["starts"], 1);
    }
    // Beyond the header: the status arrives, the body does not.
    let (id, got) = world.start_struck("reset;bytes=250").await;
    assert!(got.unwrap().body.is_err());
    assert_eq!(world.payouts(&id).await, 1);
    let (id, got) = world.start_struck("reset_before").await;
    assert!(got.is_err());
    assert_eq!(world.payouts(&id).await, 0);
    assert_eq!(world.get("/_sandbox/ledger").await["totals"]["answers_lost"], 4);
}

#[tokio::test]
async fn bodies_of_every_wrong_kind() {
    let world = World::open().await;
    let body = async |fault: &str| {
        let (id, got) = world.start_struck(fault).await;
        let got = got.unwrap();
        assert_eq!((got.status, world.payouts(&id).await), (200, 1), "{fault}");
        (got.headers["content-type"].to_str().unwrap().to_owned(), got.body.unwrap())
    };
    let (kind, page) = body("html").await;
    assert!(kind == "text/html" && page.starts_with(b"<!DOCTYPE html>"));
    let (_, half) = body("truncated;bytes=30").await;
    assert!(half.len() == 30 && serde_json::from_slice::<Value>(&half).is_err());
    assert_eq!(body("empty").await.1, b"");
    let (_, huge) = body("huge;bytes=3000000").await;
    assert!(huge.len() >= 3_000_000 && huge.starts_with(b"{\"status\":\"ok\""));
    let (kind, utf16) = body("wrong_charset").await;
    assert!(kind.contains("utf-16") && utf16.starts_with(&[0xfe, 0xff, 0, b'{']));
    let (_, dripped) = body("drip;bytes=200;delay=1ms").await;
    assert_eq!(serde_json::from_slice::<Value>(&dripped).unwrap()["status"], "ok");
}

#[tokio::test]
async fn a_redirect_has_no_effect_and_points_back() {
    let world = World::open().await;
    let (id, got) = world.start_struck("redirect;status=308").await;
    let got = got.unwrap();
    assert_eq!(
        (got.status, &got.headers["location"]),
        (308, &"/api/v2/session/start/payout".parse().unwrap())
    );
    let (_, got) = world.start_struck("redirect;location=http://192.0.2.1/").await;
    let got = got.unwrap();
    assert_eq!((got.status, &got.headers["location"]), (307, &"http://192.0.2.1/".parse().unwrap()));
    assert_eq!(world.payouts(&id).await, 0);
}

#[tokio::test]
async fn a_late_call_has_its_effect_after_its_caller_has_gone() {
    let world = World::open().await;
    let id = world.created().await;
    let body = start_body(&id, "tok_success");
    let call = world.rude("start/payout", &body, "delay_before;delay=400ms");
    assert!(tokio::time::timeout(Duration::from_millis(100), call).await.is_err());
    assert_eq!(world.payouts(&id).await, 0);
    until("the late start", || async { (world.payouts(&id).await == 1).then_some(()) }).await;
    // And one that is answered late.
    let begun = Instant::now();
    let (id, got) = world.start_struck("delay_after;delay=150ms").await;
    assert!(got.unwrap().status == 200 && begun.elapsed() >= Duration::from_millis(150));
    assert_eq!(world.payouts(&id).await, 1);
}

#[tokio::test]
async fn a_webhook_overtakes_the_answer_to_its_call() {
    let world = World::open().await;
    let (id, got) = world.start_struck("webhook_before_answer").await;
    assert_eq!(got.unwrap().status, 200);
    assert_eq!(world.sink.types(&id), ["ready_to_confirm"]);
    let got = world.rude("confirm", &json!({ "session_id": id }), "webhook_before_answer").await;
    let answer: Value = serde_json::from_slice(&got.unwrap().body.unwrap()).unwrap();
    assert_eq!(answer["session"]["status"], "in_progress");
    assert_eq!(world.sink.types(&id), ["ready_to_confirm", "payment_finished"]);
}

#[tokio::test]
async fn answers_that_lie() {
    let world = World::open().await;
    let said = async |fault: &str| -> Value {
        let (id, got) = world.start_struck(fault).await;
        let answer: Value = serde_json::from_slice(&got.unwrap().body.unwrap()).unwrap();
        assert_eq!(answer["session"]["id"] == id.as_str(), fault != "wrong_session");
        // Only this answer: what is kept is right.
        let kept = world.status(&id).await;
        assert_eq!(kept["payout_list"][0]["amount_details"], json!({ "amount": 125_050, "currency": "rub" }));
        answer["session"].clone()
    };
    said("wrong_session").await;
    assert_eq!(said("wrong_amount").await["payout_list"][0]["amount_details"]["amount"], 1_250_500);
    assert_eq!(said("wrong_currency").await["payout_list"][0]["amount_details"]["currency"], "usd");
    assert!(said("unknown_fields").await["payout_list"][0]["risk_score"].is_number());
    assert_eq!(said("unknown_values").await["status"], "under_review");
}

#[tokio::test]
async fn status_lags_and_goes_backwards() {
    let world = World::open().await;
    let id = world.started("tok_success").await;
    world.wait_ready(&id).await;
    let named = json!({ "session_id": id });
    let read = async |fault: &str| -> Value {
        let got = world.rude("status", &named, fault).await.unwrap();
        serde_json::from_slice::<Value>(&got.body.unwrap()).unwrap()["session"].clone()
    };
    let stale = read("stale_status").await;
    assert_eq!((&stale["payout_list"][0]["status"], stale.get("next_action")), (&json!("in_progress"), None));
    let older = read("stale_status;shows=created").await;
    assert_eq!((&older["status"], older.get("payout_list")), (&json!("created"), None));
    // Nothing goes back before it has ended.
    assert_eq!(read("status_backwards").await["next_action"], "confirm");
    world.ok("confirm", named.clone()).await;
    world.wait_status(&id, "accepted").await;
    let back = read("status_backwards;shows=pending").await;
    assert_eq!((&back["status"], &back["next_action"]), (&json!("in_progress"), &json!("confirm")));
    assert_eq!(read("").await["status"], "accepted");
    assert_eq!((world.struck("stale_status").await, world.struck("status_backwards").await), (2, 1));
}

#[tokio::test]
async fn the_provider_starts_twice() {
    let world = World::open().await;
    let (id, _) = world.start_struck("start_twice").await;
    assert_eq!(world.payouts(&id).await, 2);
    let line = world.line(&id).await;
    assert_eq!((&line["starts"], &line["payouts"]), (&json!(1), &json!(2)));
    until("both ready", || async {
        let session = world.status(&id).await;
        let pending = session["payout_list"].as_array().unwrap().iter().all(|p| p["status"] == "pending");
        pending.then_some(())
    })
    .await;
    world.ok("confirm", json!({ "session_id": id })).await;
    world.wait_status(&id, "accepted").await;
    assert_eq!(world.line(&id).await["paid_times"], 2);
}

#[tokio::test]
async fn rules_strike_by_session_metadata_amount_and_share() {
    let world = World::open().await;
    let one = world.created().await;
    let id = world
        .rule(json!({ "fault": "error_before", "session": one, "method": "session/start/payout" }))
        .await;
    world.refused("start/payout", start_body(&one, "tok_success"), 500, "internal_error").await;
    world.started("tok_success").await;
    let removed = world.http.delete(format!("{}/_sandbox/faults/{id}", world.base)).send().await.unwrap();
    assert_eq!(removed.status(), 200);
    world.ok("start/payout", start_body(&one, "tok_success")).await;

    world.rule(json!({ "fault": "story", "story": "tok_decline_early", "metadata": "wd-9" })).await;
    world.rule(json!({ "fault": "story", "story": "tok_paid_unasked", "amount": 777 })).await;
    let init = async |metadata: &str, amount: i64| {
        let amount = json!({ "amount": amount, "currency": "rub" });
        let body = json!({ "payout_details": card("tok_x"), "amount_details": amount, "metadata": metadata });
        world.ok("init/payout", body).await["id"].as_str().unwrap().to_owned()
    };
    let (declined, unasked, plain) =
        (init("wd-9/1", 5).await, init("wd-8", 777).await, init("wd-8", 5).await);
    world.wait_status(&declined, "cancelled").await;
    world.wait_status(&unasked, "accepted").await;
    world.wait_ready(&plain).await;
    assert_eq!(world.line(&unasked).await["confirms_accepted"], 0);

    world.http.delete(format!("{}/_sandbox/faults", world.base)).send().await.unwrap();
    world.rule(json!({ "fault": "error_before", "method": "session/create", "rate": 0.5 })).await;
    let mut failed = 0;
    for _ in 0..60 {
        failed += usize::from(world.call("create", &json!({})).await.0 == 500);
    }
    assert!((10..50).contains(&failed), "{failed} of 60");
    let listed = world.get("/_sandbox/faults").await;
    assert_eq!(
        (&listed["faults"][0]["fitted"], &listed["faults"][0]["struck"]),
        (&json!(60), &json!(failed))
    );
}

#[tokio::test]
async fn magic_tokens_strike_once() {
    let world = World::open().await;
    let id = world.created().await;
    let body = start_body(&id, "tok_fault_error_before_on_start_1");
    world.refused("start/payout", body.clone(), 500, "internal_error").await;
    world.ok("start/payout", body).await;
    let id = world.started("tok_fault_answer_lost_on_confirm_2").await;
    world.wait_ready(&id).await;
    assert!(world.rude("confirm", &json!({ "session_id": id }), "").await.is_err());
    world.wait_status(&id, "accepted").await;
    let id = world.started("tok_fault_stale_status_3").await;
    assert_eq!(world.status(&id).await["status"], "created");
    assert_eq!(world.status(&id).await["status"], "in_progress");
    let id = world.confirmed("tok_fail_activity_count_exceeded_4").await;
    let session = world.wait_status(&id, "cancelled").await;
    assert_eq!(session["payout_list"][0]["error"]["code"], "activity_count_exceeded");
}

#[tokio::test]
async fn a_story_strikes_one_call_that_is_not_refused_anyway() {
    // Nothing gets ready by itself, so that it is clear what comes too early.
    let hour = std::time::Duration::from_secs(3600);
    let world = World::open_with(|settings| settings.timing.ready_delay = hour).await;
    let id = world.started("tok_confirm_lost_1").await;
    world.refused("confirm", json!({ "session_id": id }), 400, "session_wrong_state").await;
    world.act(&id, "advance", json!({})).await;
    world.refused("confirm", json!({ "session_id": id }), 500, "internal_error").await;
    world.wait_status(&id, "accepted").await;

    let body = json!({ "payout_details": card("tok_fault_unknown_fields_3"),
        "amount_details": { "amount": 5, "currency": "rub" } });
    let created = world.ok("create", body.clone()).await;
    assert!(created.get("risk_score").is_some());
    let started = world.ok("start/payout", json!({ "session_id": created["id"] })).await;
    assert!(started.get("risk_score").is_none());
    let session = world.ok("init/payout", body).await;
    assert!(session.get("risk_score").is_some());
    assert!(world.status(session["id"].as_str().unwrap()).await.get("risk_score").is_none());

    let id = world.started("tok_fault_status_backwards_4").await;
    world.act(&id, "advance", json!({})).await;
    world.ok("confirm", json!({ "session_id": id })).await;
    until("a step back after the end", || async {
        (world.struck("status_backwards").await == 1).then_some(()).or({
            world.status(&id).await;
            None
        })
    })
    .await;
    assert_eq!(world.status(&id).await["status"], "accepted");
}

#[tokio::test]
async fn a_cut_strikes_its_own_answer_only() {
    let world = World::open().await;
    let id = world.created().await;
    let body = serde_json::to_vec(&json!({ "session_id": id })).unwrap();
    let signature = partner_keys().sign(&body);
    for (fault, calls) in [("reset;bytes=5000", 1), ("", 5)] {
        for _ in 0..calls {
            let request = world.http.post(format!("{}/api/v2/session/status", world.base));
            let request = request.header("X-PARTNER-PROJECT", "shop").header("X-PARTNER-SIGN", &signature);
            let request = if fault.is_empty() { request } else { request.header("X-SANDBOX-FAULT", fault) };
            let answer = request.body(body.clone()).send().await;
            assert!(!fault.is_empty() || answer.unwrap().bytes().await.is_ok());
        }
    }
}

#[tokio::test]
async fn a_fault_nobody_knows_is_refused_with_its_reason() {
    let world = World::open().await;
    let got = world.rude("create", &json!({}), "flood").await.unwrap();
    let answer: Value = serde_json::from_slice(&got.body.unwrap()).unwrap();
    assert_error(got.status, &answer, 400, "invalid_request");
    assert!(answer["error"]["description"].as_str().unwrap().contains("answer_lost"));
    for odd in ["html;rate=0.5", "webhook_drop", "start_twice"] {
        assert_eq!(world.rude("create", &json!({}), odd).await.unwrap().status, 400, "{odd}");
    }
    let (status, answer) = world.control("faults", &json!({ "fault": "html", "rate": 7 })).await;
    assert_error(status, &answer, 400, "invalid_request");
    assert!(answer["error"]["description"].as_str().unwrap().contains("`rate`"));
    // A page of another site cannot send this.
    let (status, answer) =
        world.post("/_sandbox/faults", &[("Content-Type", "text/plain")], b"{}".to_vec()).await;
    assert_error(status, &answer, 400, "invalid_request");
}
