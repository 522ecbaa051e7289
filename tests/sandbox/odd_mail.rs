//! Faults that strike webhooks, and a scenario that strikes from the start.

use std::sync::atomic::Ordering;
use std::time::Duration;

use payoutd::sandbox::Scenario;
use serde_json::json;

use crate::support::{World, until};

/// A sandbox with these faults from the start; a refused webhook comes again soon.
async fn struck_by(rules: &str) -> World {
    let scenario = Scenario::from_toml(rules).unwrap();
    World::open_with(move |settings| {
        settings.scenario = scenario;
        let retry = [Duration::ZERO, Duration::from_millis(20), Duration::from_millis(80)];
        settings.timing.webhook_retry = retry.to_vec();
    })
    .await
}

#[tokio::test]
async fn forged_webhooks_are_followed_by_genuine_ones() {
    for kind in ["webhook_corrupt", "webhook_wrong_signature", "webhook_foreign_key", "webhook_unsigned"] {
        let world =
            struck_by(&format!("[[fault]]\nfault = \"{kind}\"\nwebhook = \"ready_to_confirm\"\n")).await;
        let id = world.started("tok_success").await;
        world.sink.wait(&id, "ready_to_confirm", 1).await;
        assert_eq!(world.sink.forged.load(Ordering::SeqCst), 1, "{kind}");
        assert_eq!(world.sink.types(&id), ["ready_to_confirm"]);
        let totals = until("both attempts in the ledger", || async {
            let totals = world.get("/_sandbox/ledger").await["totals"].clone();
            (totals["webhook_attempts"] == 2).then_some(totals)
        })
        .await;
        assert_eq!((&totals["forgeries"], &totals["forgeries_accepted"]), (&json!(1), &json!(0)));
        assert_eq!(totals["faults"][kind], 1);
    }
}

#[tokio::test]
async fn webhooks_get_lost_doubled_delayed_and_replayed() {
    let world = struck_by(
        "[[fault]]\nfault = \"webhook_drop\"\nwebhook = \"ready_to_confirm\"\ntimes = 1\n\
         [[fault]]\nfault = \"webhook_duplicate\"\nwebhook = \"payment_finished\"\ntimes = 1\ncopies = 5\n\
         [[fault]]\nfault = \"webhook_replay\"\nwebhook = \"payment_finished\"\ntimes = 1\ndelay = \"30ms\"\n\
         [[fault]]\nfault = \"webhook_delay\"\nwebhook = \"payment_finished\"\ndelay = \"100ms\"\n",
    )
    .await;
    let first = world.confirmed("tok_success_1").await;
    world.sink.wait(&first, "payment_finished", 5).await;
    assert_eq!(world.sink.types(&first), ["payment_finished"; 5]);
    let second = world.confirmed("tok_success_2").await;
    world.sink.wait(&second, "payment_finished", 2).await;
    let hooks = world.sink.about(&second);
    assert_eq!(hooks[1], hooks[2], "a replay is the same to the byte");
    let third = world.confirmed("tok_success_3").await;
    world.wait_status(&third, "accepted").await;
    assert_eq!(world.sink.types(&third), ["ready_to_confirm"]);
    world.sink.wait(&third, "payment_finished", 1).await;
}

#[tokio::test]
async fn a_webhook_is_overtaken_by_the_next_one() {
    let world = struck_by("[[fault]]\nfault = \"webhook_reorder\"\nwebhook = \"ready_to_confirm\"\n").await;
    let id = world.confirmed("tok_success").await;
    world.sink.wait(&id, "ready_to_confirm", 1).await;
    assert_eq!(world.sink.types(&id), ["payment_finished", "ready_to_confirm"]);
    let hooks = world.sink.about(&id);
    assert!(hooks[0]["session"]["updated_at"].as_str() > hooks[1]["session"]["updated_at"].as_str());
}

#[tokio::test]
async fn genuine_webhooks_that_say_odd_things() {
    let world = struck_by(
        "[[fault]]\nfault = \"webhook_wrong_amount\"\nmetadata = \"tok_a\"\n\
         [[fault]]\nfault = \"webhook_wrong_currency\"\nmetadata = \"tok_b\"\n\
         [[fault]]\nfault = \"webhook_unknown_fields\"\nmetadata = \"tok_c\"\n\
         [[fault]]\nfault = \"webhook_unknown_type\"\nmetadata = \"tok_d\"\ntimes = 1\n\
         [[fault]]\nfault = \"webhook_unknown_values\"\nmetadata = \"tok_e\"\n\
         [[fault]]\nfault = \"webhook_wrong_session\"\nmetadata = \"tok_f\"\n",
    )
    .await;
    let hook = async |token: &str| {
        let id = world.started(token).await;
        world.sink.wait(&id, "ready_to_confirm", 1).await["session"].clone()
    };
    assert_eq!(hook("tok_a").await["payout_list"][0]["amount_details"]["amount"], 1_250_500);
    assert_eq!(hook("tok_b").await["payout_list"][0]["amount_details"]["currency"], "usd");
    assert!(hook("tok_c").await["sandbox_new_field"].is_object());
    let id = hook("tok_d").await["id"].as_str().unwrap().to_owned();
    world.sink.wait(&id, "payout_enriched", 1).await;
    assert_eq!(hook("tok_e").await["status"], "under_review");
    world.started("tok_f").await;
    until("a webhook about nobody's session", || async {
        let nobody = "ps_00000000000070008000000000000000";
        world.sink.about(nobody).pop()
    })
    .await;
    assert_eq!(world.sink.forged.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn webhooks_speak_the_version_that_was_set() {
    let world = World::open_with(|settings| {
        settings.webhook_version = payoutd::sandbox::WebhookVersion::V1;
    });
    let world = world.await;
    let id = world.started("tok_success").await;
    let hook = world.sink.wait(&id, "ready_to_confirm", 1).await;
    assert!(hook["session"]["payments"].is_array() && hook["session"].get("payout_list").is_none());
}
