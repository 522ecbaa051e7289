//! A webhook that cannot be worked on is parked, others go on, and a person replays it. And the other thing
//! that a person does: take the flag off a payout.

use crate::{
    faults::anomaly,
    outcomes::{assert_paid, assert_story},
    support::{rest::order, until},
    world::World,
};
use std::process::{Command, Output};

pub async fn payoutd(world: &World, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_payoutd"));
    command.env("DATABASE_URL", world.db.url()).env("PAYOUTD_CONFIG", world.dir.file("payoutd.toml"));
    command.args(arguments);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn text(output: &Output) -> String {
    let bytes = if output.status.success() { &output.stdout } else { &output.stderr };
    String::from_utf8(bytes.clone()).unwrap()
}

#[tokio::test]
async fn a_poisoned_webhook_is_parked_and_replayed() {
    let world = World::with(|setup| {
        setup.set("inbox.park_after", "2");
        // The net under webhooks must not do their work here.
        for key in ["polling.first", "polling.steady", "polling.longest"] {
            setup.set(key, "5m");
        }
    })
    .await;
    let api = world.caller();
    // Whatever would make this payout ready cannot be written.
    let poison = "ALTER TABLE history ADD CONSTRAINT poison CHECK (reason <> 'rules_confirm') NOT VALID";
    sqlx::query(poison).execute(&world.pool).await.unwrap();
    let id = api.create(&order("tok_success")).await;
    let parked = "SELECT count(*) FROM inbox WHERE parked_at IS NOT NULL AND failures = 2";
    until("the webhook to be parked", || async { (world.count(parked).await == 1).then_some(()) }).await;
    assert_eq!(api.payout(&id).await["status"], "processing");

    let (status, listed) = world.admin("/parked").await;
    assert!(status == 200 && listed.contains("poison") && listed.contains("\"shop\""), "{listed}");
    let told = text(&payoutd(&world, &["inbox", "parked"]).await);
    assert!(told.contains("2 failures") && told.contains("database error 23514 poison"), "{told}");
    let figure =
        || async { world.admin("/metrics").await.1.contains("payoutd_inbox_parked 1").then_some(()) };
    until("the figure", figure).await;

    sqlx::query("ALTER TABLE history DROP CONSTRAINT poison").execute(&world.pool).await.unwrap();
    // Others go on while it is parked.
    api.run(&order("tok_success"), "succeeded").await;
    assert_eq!(api.payout(&id).await["status"], "processing");
    let number = told.split('\t').next().unwrap();
    let replayed = payoutd(&world, &["inbox", "replay", number]).await;
    assert!(replayed.status.success() && text(&replayed).starts_with("1 "), "{}", text(&replayed));
    let payout = api.wait_status(&id, "succeeded").await;
    assert_paid(&world.ledger().await, &payout);
    let again = payoutd(&world, &["inbox", "replay", number]).await;
    assert!(!again.status.success() && text(&again).contains("is not parked"), "{}", text(&again));
}

#[tokio::test]
async fn a_person_takes_the_flag_off_and_says_why() {
    let world = World::open().await;
    let api = world.caller();
    let payout = api.run(&order("tok_wrong_amount"), "cancelled").await;
    let id = payout["id"].as_str().unwrap();
    assert_eq!(anomaly(&world, id).await.as_deref(), Some("other_amount"));
    let unflag = async |reason: &str| payoutd(&world, &["payouts", "unflag", id, "--reason", reason]).await;
    let empty = unflag(" ").await;
    assert!(!empty.status.success() && text(&empty).contains("--reason"), "{}", text(&empty));
    let done = unflag("compared with the report of Monday").await;
    assert!(done.status.success(), "{}", text(&done));
    assert_eq!(anomaly(&world, id).await, None);
    let history = api.history(id).await;
    let last = history.last().unwrap();
    assert_eq!(
        (last["reason"].as_str(), last["actor"].as_str()),
        (Some("flag_cleared"), Some("command line"))
    );
    assert!(last["detail"].as_str().unwrap().contains("report of Monday"), "{last}");
    assert_story(&api, &api.payout(id).await).await;
    let again = unflag("twice").await;
    assert!(!again.status.success() && text(&again).contains("no flag"), "{}", text(&again));
}
