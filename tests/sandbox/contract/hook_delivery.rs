//! §5.2, §5.3, §5.5: which webhooks come, how often, until what.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::partner::{Partner, Version, named, token};
use super::receiver::{Delivery, Receiver, Reply};
use crate::support::{World, until};

fn bodies(deliveries: &[Delivery]) -> Vec<&[u8]> {
    deliveries.iter().map(|it| it.request.body.as_slice()).collect()
}

async fn given_up(world: &World) -> Value {
    let all = async || {
        let totals = world.get("/_sandbox/ledger").await["totals"].clone();
        (totals["webhooks_given_up"] == 1).then_some(totals)
    };
    until("giving up", all).await
}

#[tokio::test]
async fn every_answer_but_200_leads_to_a_repeat_of_the_same_bytes() {
    let refusals = [
        Reply::Http(201),
        Reply::Http(202),
        Reply::Http(204),
        Reply::MovedTo("/elsewhere"),
        Reply::Http(302),
        Reply::Http(400),
        Reply::Http(401),
        Reply::Http(404),
        Reply::Http(410),
        Reply::Http(429),
        Reply::Http(500),
        Reply::Http(503),
        Reply::HangUp,
        Reply::NotHttp,
    ];
    for version in Version::BOTH {
        let receiver = Receiver::open(&refusals).await;
        let world = receiver.world(|settings| {
            settings.timing.webhook_retry = vec![Duration::ZERO; refusals.len() + 3];
        });
        let world = world.await;
        let partner = Partner::of(&world, version);
        let id = partner.started(&token("tok_success")).await;
        receiver.wait(&id, "ready_to_confirm", refusals.len() + 1).await;
        partner.ok("confirm", &named(&id)).await;
        receiver.wait(&id, "payment_finished", 1).await;

        let all = receiver.all();
        assert_eq!(all.len(), refusals.len() + 2, "nothing was followed and nothing repeated after a 200");
        let (repeated, finished) = all.split_at(refusals.len() + 1);
        assert!(bodies(repeated).iter().all(|body| *body == repeated[0].request.body), "§5.3: resends");
        for again in repeated {
            assert_eq!(again.request, repeated[0].request, "the same headers too");
        }
        assert_eq!(finished[0].hook["type"], "payment_finished");
    }
}

#[tokio::test]
async fn no_answer_in_time_leads_to_a_repeat() {
    let receiver = Receiver::open(&[Reply::Silence, Reply::Silence]).await;
    let world = receiver.world(|settings| {
        settings.timing.webhook_timeout = Duration::from_millis(300);
        settings.timing.clock_factor = 1000.0;
    });
    let world = world.await;
    let partner = Partner::of(&world, Version::V2);
    let begun = Instant::now();
    let id = partner.started(&token("tok_success")).await;
    receiver.wait(&id, "ready_to_confirm", 3).await;
    let all = receiver.about(&id);
    assert!(begun.elapsed() >= Duration::from_millis(600), "each silence was waited for");
    assert!(bodies(&all).iter().all(|body| *body == all[0].request.body));
}

#[tokio::test]
async fn the_schedule_is_kept_and_ends_after_half_an_hour() {
    let receiver = Receiver::open(&[Reply::Http(500); 20]).await;
    // 27 minutes in half a second.
    let factor = 3000.0;
    let world = receiver.world(|settings| settings.timing.clock_factor = factor).await;
    let schedule = payoutd::sandbox::Timing::default().webhook_retry;
    let documented = [0, 15, 45, 2 * 60, 5 * 60, 12 * 60, 27 * 60].map(Duration::from_secs);
    assert_eq!(schedule, documented, "§5.3");
    let partner = Partner::of(&world, Version::V2);
    let begun = Instant::now();
    let id = partner.started(&token("tok_success")).await;
    let totals = given_up(&world).await;
    assert_eq!(totals["webhook_attempts"], documented.len());
    let all = receiver.about(&id);
    assert_eq!(all.len(), documented.len());
    for (delivery, after) in all.iter().zip(documented) {
        let since = delivery.at.duration_since(begun).mul_f64(factor);
        assert!(since >= after, "the attempt for {after:?} came after {since:?}");
        assert_eq!(delivery.request.body, all[0].request.body);
    }
    // A lost webhook loses nothing else (§5.1): the status says what it would have said.
    assert_eq!(partner.status(&id).await["next_action"], "confirm");
    partner.ok("confirm", &named(&id)).await;
    assert_eq!(partner.wait_status(&id, "accepted").await["status"], "accepted");
    assert!(receiver.types(&id).iter().filter(|kind| *kind == "ready_to_confirm").count() == 7);
}

#[tokio::test]
async fn an_ordinary_payout_has_two_webhooks() {
    let receiver = Receiver::open(&[]).await;
    let world = receiver.world(|_| {}).await;
    for version in Version::BOTH {
        let partner = Partner::of(&world, version);
        for name in ["tok_success", "tok_decline", "tok_mastercard"] {
            let id = partner.confirmed(&token(name)).await;
            partner.wait_final(&id).await;
            receiver.wait_types(&id, &["payment_finished", "ready_to_confirm"]).await;
        }
    }
}

#[tokio::test]
async fn a_return_has_a_third() {
    let receiver = Receiver::open(&[]).await;
    let world = receiver.world(|_| {}).await;
    let partner = Partner::of(&world, Version::V1);
    let id = partner.confirmed(&token("tok_returned")).await;
    receiver.wait_types(&id, &["payment_finished", "payment_refunded", "ready_to_confirm"]).await;
}

#[tokio::test]
async fn doubt_has_two_payment_finished_of_which_the_second_is_final() {
    let receiver = Receiver::open(&[]).await;
    let world = receiver.world(|_| {}).await;
    for version in Version::BOTH {
        let partner = Partner::of(&world, version);
        let id = partner.confirmed(&token("tok_session_error")).await;
        let first = receiver.wait_saying(&id, "payment_finished", "error").await.hook;
        let second = receiver.wait_saying(&id, "payment_finished", "accepted").await.hook;
        let list = version.payouts();
        assert_eq!(first["session"]["error"]["code"], "provider_timeout", "§5.6");
        assert_eq!(
            (&second["session"]["status"], &second["session"][list][0]["status"]),
            (&json!("accepted"), &json!("succeeded"))
        );
        for same in ["id", "created_at"] {
            assert_eq!(first["session"][same], second["session"][same]);
            assert_eq!(first["session"][list][0][same], second["session"][list][0][same]);
        }
        assert!(first["session"]["updated_at"].as_str() < second["session"]["updated_at"].as_str());
        receiver.wait_types(&id, &["payment_finished", "payment_finished", "ready_to_confirm"]).await;
    }
}

#[tokio::test]
async fn webhooks_of_one_session_can_be_put_in_order_by_their_time() {
    let receiver = Receiver::open(&[]).await;
    let world = receiver.world(|_| {}).await;
    let partner = Partner::of(&world, Version::V2);
    let id = partner.confirmed(&token("tok_returned")).await;
    let mut times = Vec::new();
    for kind in ["ready_to_confirm", "payment_finished", "payment_refunded"] {
        let hook = receiver.wait(&id, kind, 1).await.hook;
        times.push(hook["session"]["updated_at"].as_str().unwrap().to_owned());
    }
    // §5.5: there is no other order to go by.
    assert!(times.is_sorted_by(|one, two| one < two), "{times:?}");
}

#[tokio::test]
async fn a_webhook_comes_to_its_own_projects_address() {
    let (shop, other) = (Receiver::open(&[]).await, Receiver::open(&[]).await);
    let elsewhere = other.url();
    let world = shop.world(|settings| settings.projects[1].webhook_url = elsewhere).await;
    let partner = Partner::of(&world, Version::V2);
    let here = partner.confirmed(&token("tok_success")).await;
    let there = partner.project("other").confirmed(&token("tok_success")).await;
    shop.wait(&here, "payment_finished", 1).await;
    other.wait(&there, "payment_finished", 1).await;
    assert!(shop.about(&there).is_empty() && other.about(&here).is_empty());
}

#[tokio::test]
async fn a_session_that_was_only_created_has_no_webhook() {
    let receiver = Receiver::open(&[]).await;
    let world = receiver.world(|_| {}).await;
    let partner = Partner::of(&world, Version::V2);
    let idle = partner.created().await;
    let id = partner.confirmed(&token("tok_success")).await;
    receiver.wait(&id, "payment_finished", 1).await;
    assert!(receiver.about(&idle).is_empty());
}
