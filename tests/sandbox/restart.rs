//! A state file carries timers, webhooks, keys and the ledger over a restart; the signing of other tools.

use std::sync::atomic::Ordering;
use std::time::Duration;

use payoutd::sandbox::SandboxError;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::support::{Sink, StateFile, World, assert_error, settings, start_body, until};

#[tokio::test]
async fn what_is_pending_goes_on_after_a_restart() {
    let file = StateFile::new("pending");
    let sink = Sink::open().await;
    let mut settings = settings(&sink);
    settings.state_file = Some(file.0.clone());
    settings.timing.clock_factor = 60.0;
    settings.timing.slow_delay = Duration::from_millis(600);

    let world = World::start(settings.clone(), sink.clone()).await;
    let paid = world.confirmed("tok_success_1").await;
    sink.wait(&paid, "payment_finished", 1).await;
    let slow = world.started("tok_slow_1").await;
    sink.refuse_next.store(1, Ordering::SeqCst);
    let retried = world.started("tok_success_2").await;
    until("a refused webhook", || async { (sink.refused.load(Ordering::SeqCst) == 1).then_some(()) }).await;
    let created = world.call_as("shop", "v2", "create", &json!({}), Some("once")).await.1;
    let created = created["session"]["id"].as_str().unwrap();
    let before = world.get("/_sandbox/ledger").await;
    world.stop().await;
    assert!(sink.about(&slow).is_empty() && sink.about(&retried).is_empty());

    let world = World::start(settings, sink).await;
    let after = world.get("/_sandbox/ledger").await;
    assert_eq!(after["totals"]["money"], before["totals"]["money"]);
    assert_eq!(after["totals"]["calls"], before["totals"]["calls"]);
    assert_eq!(after["sessions"].as_array().unwrap().len(), 4);
    assert_eq!(world.line(&paid).await["paid_times"], 1);
    // The retry and the slow timer come due in the second life.
    world.sink.wait(&retried, "ready_to_confirm", 1).await;
    world.sink.wait(&slow, "ready_to_confirm", 1).await;
    world.ok("confirm", json!({ "session_id": slow })).await;
    world.sink.wait(&slow, "payment_finished", 1).await;
    let (status, answer) = world.call_as("shop", "v2", "create", &json!({}), Some("once")).await;
    assert_error(status, &answer, 400, "idempotency_key_already_exists");
    let started = world.ok("start/payout", start_body(created, "tok_success_3")).await;
    assert_eq!(started["payout_list"][0]["metadata"], json!({ "attempt": "tok_success_3" }));
    assert_eq!(world.sink.types(&paid), ["ready_to_confirm", "payment_finished"]);
}

#[tokio::test]
async fn the_state_is_saved_while_running() {
    let file = StateFile::new("running");
    let world = World::open_with(|settings| settings.state_file = Some(file.0.clone())).await;
    let id = world.created().await;
    until("the session in the file", || async {
        std::fs::read_to_string(&file.0).ok().filter(|text| text.contains(&id))
    })
    .await;
}

#[tokio::test]
async fn a_sandbox_that_cannot_start_says_why() {
    let sink = Sink::open().await;
    let attempt = |change: fn(&mut payoutd::sandbox::Settings)| {
        let mut settings = settings(&sink);
        change(&mut settings);
        async move {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            payoutd::sandbox::serve(settings, listener, CancellationToken::new()).await.unwrap_err()
        }
    };
    let error = attempt(|settings| settings.signing_key_pem.clear()).await;
    assert!(matches!(error, SandboxError::SigningKey { .. }));
    let error = attempt(|settings| settings.projects[1].id = "shop".into()).await;
    assert!(matches!(error, SandboxError::DuplicateProject { .. }));
    let error = attempt(|settings| settings.projects[0].webhook_url = "nowhere".into()).await;
    assert!(matches!(error, SandboxError::WebhookUrl { .. }));
    let error = attempt(|settings| settings.projects[0].partner_public_key_pem = "x".into()).await;
    assert!(matches!(error, SandboxError::PartnerKey { .. }));
    let error = attempt(|settings| settings.timing.clock_factor = 0.0).await;
    assert!(matches!(error, SandboxError::ClockFactor));

    let file = StateFile::new("broken");
    std::fs::write(&file.0, "{").unwrap();
    let mut settings = settings(&sink);
    settings.state_file = Some(file.0.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let error = payoutd::sandbox::serve(settings, listener, CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, SandboxError::StateUnreadable { .. }));
}
