//! §2.1, §4.3, §4.4: confirmation: its window, projects that need none, and outcomes at both levels.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::partner::{Partner, Version, id_of, named, token};
use super::receiver::Receiver;
use crate::support::{World, until};

#[tokio::test]
async fn the_window_for_confirming_is_on_the_fast_clock() {
    // §4.4: 240 minutes, of which 24,000 fit into one of ours.
    let world = World::open_with(|settings| settings.timing.clock_factor = 24_000.0).await;
    assert_eq!(payoutd::sandbox::Timing::default().confirm_window, Duration::from_secs(240 * 60), "§4.4");
    for version in Version::BOTH {
        let partner = Partner::of(&world, version);
        let begun = Instant::now();
        let id = partner.started(&token("tok_success")).await;
        let session = partner.wait_status(&id, "cancelled").await;
        assert!(begun.elapsed() >= Duration::from_millis(600), "too early");
        assert_failed(&partner, &session, "confirm_timeout");
        partner.refused("confirm", &named(&id), 400, "session_wrong_state").await;
    }
}

#[tokio::test]
async fn a_confirm_closes_the_window() {
    // The outcome comes long after the window's end, and is not a time-out.
    let world = World::open_with(|settings| {
        settings.timing.confirm_window = Duration::from_secs(1);
        settings.timing.slow_delay = Duration::from_millis(1200);
    });
    let world = world.await;
    let partner = Partner::of(&world, Version::V2);
    let id = partner.started(&token("tok_slow")).await;
    let open_or_over = |it: &Value| it["next_action"] == "confirm" || it["status"] == "cancelled";
    until("the window", async || Some(partner.status(&id).await).filter(open_or_over)).await;
    let answer = partner.call("session/confirm", &named(&id)).await;
    if answer.http() == 200 {
        let session = partner.wait_status(&id, "accepted").await;
        assert_eq!(partner.payout(&session)["status"], "succeeded");
    } else {
        // On a machine that was away for a second the window has closed, and that is right too.
        assert_eq!(answer.json()["error"]["code"], "session_wrong_state");
    }
}

#[tokio::test]
async fn a_session_that_is_not_started_never_times_out() {
    let world = World::open_with(|settings| {
        settings.timing.confirm_window = Duration::from_millis(1);
        settings.timing.clock_factor = 1000.0;
    });
    let world = world.await;
    let partner = Partner::of(&world, Version::V2);
    let idle = partner.created().await;
    // Others come and go meanwhile (§12, 31: no expiry).
    for _ in 0..3 {
        let id = partner.started(&token("tok_success")).await;
        partner.wait_status(&id, "cancelled").await;
    }
    assert_eq!(partner.status(&idle).await["status"], "created");
    partner.ok("start/payout", &partner.start(&idle, &token("tok_success"))).await;
}

fn assert_failed(partner: &Partner, session: &Value, code: &str) {
    assert_eq!(session["status"], "cancelled");
    assert_eq!(session["error"]["code"], code, "{session}");
    let payout = partner.payout(session);
    assert_eq!((&payout["status"], &payout["error"]["code"]), (&json!("failed"), &json!(code)));
    assert!(payout["finished_at"].is_string(), "{payout}");
    assert!(session.get("next_action").is_none() && payout.get("transaction_info").is_none(), "{session}");
}

#[tokio::test]
async fn whatever_fails_says_so_for_the_session_and_for_its_payout() {
    let world = World::open_with(|settings| {
        settings.balances.insert("GEL".to_owned(), 1);
    });
    let world = world.await;
    for version in Version::BOTH {
        let partner = Partner::of(&world, version);
        for (name, code) in
            [("tok_decline", "declined_by_issuer_bank"), ("tok_insufficient", "insufficient_wallet_balance")]
        {
            let id = partner.confirmed(&token(name)).await;
            assert_failed(&partner, &partner.wait_status(&id, "cancelled").await, code);
        }
        for (name, code) in
            [("tok_decline_early", "operation_rejected"), ("tok_expired", "bank_card_expired")]
        {
            let id = partner.started(&token(name)).await;
            assert_failed(&partner, &partner.wait_status(&id, "cancelled").await, code);
            partner.refused("confirm", &named(&id), 400, "session_wrong_state").await;
        }
        let id = partner.started(&token("tok_success")).await;
        partner.wait_ready(&id).await;
        partner.ok("cancel", &named(&id)).await;
        let session = partner.wait_status(&id, "cancelled").await;
        assert_failed(&partner, &session, "session_cancelled_by_partner");
        // The prefunding itself, not a magic token (§2.13).
        let mut body = partner.init(&token("tok_success"));
        body["amount_details"] = json!({ "amount": 2, "currency": "gel" });
        let id = id_of(&partner.ok("init/payout", &body).await);
        partner.wait_ready(&id).await;
        partner.ok("confirm", &named(&id)).await;
        let session = partner.wait_status(&id, "cancelled").await;
        assert_failed(&partner, &session, "insufficient_wallet_balance");
    }
}

#[tokio::test]
async fn doubt_is_not_final_and_ends_in_payment() {
    let world = World::open().await;
    for version in Version::BOTH {
        let partner = Partner::of(&world, version);
        let id = partner.confirmed(&token("tok_session_error")).await;
        let session = partner.wait_status(&id, "accepted").await;
        assert!(session.get("error").is_none() && partner.payout(&session).get("error").is_none());
        assert_eq!(partner.payout(&session)["status"], "succeeded");
    }
}

#[tokio::test]
async fn a_project_that_needs_no_confirm_goes_straight_to_the_end() {
    let receiver = Receiver::open(&[]).await;
    let world = receiver.world(|_| {}).await;
    for version in Version::BOTH {
        let partner = Partner::of(&world, version).project("auto");
        for (destination, status) in [("tok_success", "accepted"), ("tok_decline", "cancelled")] {
            let id = partner.started(&token(destination)).await;
            let finished = receiver.wait(&id, "payment_finished", 1).await.hook;
            assert_eq!(finished["session"]["status"], status);
            let session = partner.status(&id).await;
            assert_eq!(session["status"], status);
            for method in ["confirm", "cancel"] {
                partner.refused(method, &named(&id), 400, "session_wrong_state").await;
            }
            assert_eq!(receiver.types(&id), ["payment_finished"]);
        }
    }
}

#[tokio::test]
async fn a_project_that_needs_no_confirm_never_waits_for_one() {
    let world = World::open_with(|settings| {
        settings.timing.ready_delay = Duration::from_secs(3600);
        settings.timing.settle_delay = Duration::from_secs(3600);
    });
    let world = world.await;
    for version in Version::BOTH {
        let partner = Partner::of(&world, version).project("auto");
        let session = partner.ok("init/payout", &partner.init(&token("tok_success"))).await;
        assert_eq!(partner.payout(&session)["status"], "in_progress", "§4.3, 3'");
        assert!(session.get("next_action").is_none(), "{session}");
        partner.refused("confirm", &named(&id_of(&session)), 400, "session_wrong_state").await;
    }
}

#[tokio::test]
async fn a_cancel_and_a_confirm_at_once_have_one_winner() {
    let world = World::open().await;
    let partner = Partner::of(&world, Version::V2);
    for _ in 0..10 {
        let id = partner.started(&token("tok_success")).await;
        partner.wait_ready(&id).await;
        let body = named(&id);
        let (confirm, cancel) =
            tokio::join!(partner.call("session/confirm", &body), partner.call("session/cancel", &body));
        let (confirmed, cancelled) = (confirm.http() == 200, cancel.http() == 200);
        assert!(confirmed ^ cancelled, "{confirm:?} {cancel:?}");
        partner.wait_status(&id, if confirmed { "accepted" } else { "cancelled" }).await;
    }
}

#[tokio::test]
async fn of_many_confirms_at_once_one_is_accepted() {
    let world = World::open().await;
    let partner = Partner::of(&world, Version::V2);
    let id = partner.started(&token("tok_success")).await;
    partner.wait_ready(&id).await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (partner, body) = (partner.clone(), named(&id));
        calls.spawn(async move { partner.call("session/confirm", &body).await.http() });
    }
    let accepted = calls.join_all().await.into_iter().filter(|http| *http == 200).count();
    assert_eq!(accepted, 1);
    partner.wait_status(&id, "accepted").await;
}
