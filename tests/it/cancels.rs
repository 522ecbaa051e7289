//! A caller's cancel in every phase of a payout. Either it wins and no money moves, or it is refused; the
//! ledger agrees with the answer.

use crate::{
    outcomes::{assert_paid, assert_story, assert_unpaid},
    relay::Trouble,
    support::rest::{order, order_of},
    world::World,
};
use futures_util::future::join_all;
use serde_json::json;
use std::time::Duration;

#[tokio::test]
async fn before_pike_knows_of_it() {
    let world = World::open().await;
    let api = world.caller();
    let held = world.pike.plan("session/create", Trouble::Hold, 1);
    let id = api.create(&order("tok_success")).await;
    held.struck().await;
    let answer = api.act(&id, "cancel").await;
    assert_eq!((answer.status, &answer.body["status"]), (200, &json!("cancelled")), "{}", answer.text);
    held.release();
    let created = || async { (world.pike.seen_on("session/create").len() == 1).then_some(()) };
    crate::support::until("the held create", created).await;
    let again = api.act(&id, "cancel").await;
    assert_eq!((again.status, &again.body["status"]), (200, &json!("cancelled")), "asking twice is fine");
    assert!(world.pike.seen_on("session/start/payout").is_empty());
    assert_unpaid(&world.ledger().await, &again.body);
}

#[tokio::test]
async fn while_the_start_is_on_the_wire() {
    let world = World::open().await;
    let api = world.caller();
    let held = world.pike.plan("session/start/payout", Trouble::Hold, 1);
    let id = api.create(&order("tok_success")).await;
    held.struck().await;
    let answer = api.act(&id, "cancel").await;
    assert_eq!(answer.body["status_details"]["code"], "cancelling", "{}", answer.text);
    let payout = api.wait_status(&id, "cancelled").await;
    held.release();
    let late = || async { (world.pike.seen_on("session/start/payout").len() == 1).then_some(()) };
    crate::support::until("the late start", late).await;
    assert_unpaid(&world.ledger().await, &payout);
    assert_story(&api, &api.payout(&id).await).await;
}

/// Pike refuses to cancel what it prepares; it is told again as soon as it waits for our word.
#[tokio::test]
async fn while_pike_prepares_it() {
    let world = World::with(|setup| setup.timing.slow_delay = Duration::from_millis(400)).await;
    let api = world.caller();
    let id = api.create(&order("tok_slow")).await;
    api.wait_details(&id, "preparing").await;
    assert_eq!(api.act(&id, "cancel").await.status, 200);
    let payout = api.wait_status(&id, "cancelled").await;
    assert_eq!(payout["status_details"]["code"], "cancelled_on_request");
    let ledger = world.ledger().await;
    assert_eq!(ledger.session(&id)["confirms_accepted"], 0);
    assert_unpaid(&ledger, &payout);
    assert_story(&api, &payout).await;
}

#[tokio::test]
async fn while_it_is_on_hold() {
    let world = World::open().await;
    let api = world.caller();
    let id = api.create(&order_of("tok_success", 600_000)).await;
    api.wait_status(&id, "on_hold").await;
    assert_eq!(api.act(&id, "cancel").await.status, 200);
    let payout = api.wait_status(&id, "cancelled").await;
    let ledger = world.ledger().await;
    assert_eq!(ledger.session(&id)["cancels_accepted"], 1);
    assert_unpaid(&ledger, &payout);
    assert_eq!(world.api("approver").act(&id, "approve").await.problem(), (409, "not_on_hold", ""));
}

#[tokio::test]
async fn once_it_is_permitted_or_final_it_is_too_late() {
    let world = World::open().await;
    let api = world.caller();
    let held = world.pike.plan("session/confirm", Trouble::Hold, 1);
    let id = api.create(&order("tok_success")).await;
    held.struck().await;
    assert_eq!(api.act(&id, "cancel").await.problem(), (409, "already_confirmed", ""));
    held.release();
    let payout = api.wait_status(&id, "succeeded").await;
    assert_eq!(api.act(&id, "cancel").await.problem(), (409, "already_final", ""));
    assert_paid(&world.ledger().await, &payout);
    let failed = api.run(&order("tok_decline"), "failed").await;
    assert_eq!(api.act(failed["id"].as_str().unwrap(), "cancel").await.problem(), (409, "already_final", ""));
}

/// Cancels at moments spread over a payout's life, wider each round until both sides have won some: exactly
/// one of cancel and confirm wins each.
#[tokio::test]
async fn against_the_confirm_exactly_one_wins() {
    let world = World::with(|setup| setup.timing.ready_delay = Duration::from_millis(30)).await;
    let api = world.caller();
    let (mut cancelled, mut confirmed) = (0, 0);
    for round in 0..12_u64 {
        if round >= 3 && cancelled > 0 && confirmed > 0 {
            break;
        }
        let races = (0..10).map(|racer| {
            let (api, order) = (api.clone(), order(&format!("tok_success_{round}_{racer}")));
            async move {
                let id = api.create(&order).await;
                // The moment is what this test varies, not something it waits for.
                tokio::time::sleep(Duration::from_millis(racer * 12 * (round + 1))).await;
                (id.clone(), api.act(&id, "cancel").await)
            }
        });
        for (id, answer) in join_all(races).await {
            let payout = api.wait(&id, "final", |payout| payout["final"] == true).await;
            let ledger = world.ledger().await;
            if answer.status == 200 {
                cancelled += 1;
                assert_eq!(payout["status"], "cancelled", "{payout}");
                assert_unpaid(&ledger, &payout);
            } else {
                confirmed += 1;
                assert_eq!(answer.status, 409, "{}", answer.text);
                assert_eq!(payout["status"], "succeeded", "{payout}");
                assert_paid(&ledger, &payout);
            }
            assert_story(&api, &payout).await;
        }
    }
    assert!(cancelled > 0 && confirmed > 0, "no race: {cancelled} cancelled, {confirmed} confirmed");
    assert_eq!(world.ledger().await.money_out(), confirmed * 125_050);
}
