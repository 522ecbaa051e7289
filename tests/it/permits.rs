//! The last look before money moves: a confirm whose permit has become old, or whose payout is not what was
//! permitted, is not sent.

use crate::{
    faults::anomaly,
    outcomes::{assert_paid, assert_story, assert_unpaid},
    support::{rest::order, until},
    world::{RULES, World},
};

/// A confirm that is wanted but not picked up, as if payoutd had stopped in between: its effect is written
/// with a time that has not come.
async fn permitted_and_stopped(world: &mut World) -> String {
    let statements = [
        "CREATE FUNCTION later() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN NEW.run_at := now() + interval '1 hour'; NEW.lease_until := NULL; NEW.fence := 0; RETURN NEW;
         END $$",
        "CREATE TRIGGER later BEFORE INSERT ON effects FOR EACH ROW
         WHEN (NEW.kind = 'confirm') EXECUTE FUNCTION later()",
    ];
    for statement in statements {
        sqlx::query(statement).execute(&world.pool).await.unwrap();
    }
    let id = world.caller().create(&order("tok_success")).await;
    let wanted = "SELECT count(*) FROM effects WHERE kind = 'confirm'";
    until("the permit", || async { (world.count(wanted).await == 1).then_some(()) }).await;
    world.stop().await;
    run(world, "DROP TRIGGER later ON effects").await;
    run(world, "UPDATE effects SET run_at = now() WHERE kind = 'confirm'").await;
    id
}

async fn run(world: &World, statement: &'static str) {
    let done = sqlx::query(statement).execute(&world.pool).await.unwrap();
    assert!(statement.starts_with("DROP") || done.rows_affected() == 1, "{statement}");
}

fn calls(world: &World, since: usize) -> Vec<String> {
    world.pike.seen()[since..].iter().map(|seen| seen.path.replace("/api/v2/session/", "")).collect()
}

#[tokio::test]
async fn a_young_permit_is_acted_on_at_once() {
    let mut world = World::open().await;
    let id = permitted_and_stopped(&mut world).await;
    world.start().await;
    let payout = world.caller().wait_status(&id, "succeeded").await;
    let reasons = world.caller().reasons(&id).await;
    assert!(reasons.iter().all(|reason| reason != "permit_stale"), "{reasons:?}");
    assert_paid(&world.ledger().await, &payout);
}

#[tokio::test]
async fn after_a_downtime_pike_is_asked_before_anything_is_confirmed() {
    let mut world = World::open().await;
    let id = permitted_and_stopped(&mut world).await;
    run(&world, "UPDATE permits SET decided_at = decided_at - interval '6 minutes'").await;
    let before = world.pike.seen().len();
    world.start().await;
    let payout = world.caller().wait_status(&id, "succeeded").await;
    assert_eq!(calls(&world, before)[0], "status", "never a blind confirm");
    assert_paid(&world.ledger().await, &payout);
    let api = world.caller();
    let reasons = api.reasons(&id).await;
    assert!(reasons.iter().any(|reason| reason == "permit_stale"), "{reasons:?}");
    assert_story(&api, &payout).await;
}

/// Pike's window ended meanwhile: nothing is confirmed on old data.
#[tokio::test]
async fn what_pike_closed_during_a_downtime_is_not_confirmed() {
    let mut world = World::open().await;
    let id = permitted_and_stopped(&mut world).await;
    run(&world, "UPDATE permits SET decided_at = decided_at - interval '6 minutes'").await;
    let session = world.ledger().await.session(&id)["id"].as_str().unwrap().to_owned();
    let url = format!("http://{}/_sandbox/sessions/{session}/fail", world.sandbox);
    let body = r#"{"code":"confirm_timeout"}"#;
    let request = crate::support::http_client().post(url).header("content-type", "application/json");
    assert!(request.body(body).send().await.unwrap().status().is_success());
    world.start().await;
    let payout = world.caller().wait_status(&id, "failed").await;
    assert_eq!(payout["error"]["code"], "confirm_timeout");
    assert!(world.pike.seen_on("session/confirm").is_empty());
    assert_unpaid(&world.ledger().await, &payout);
}

#[tokio::test]
async fn what_is_not_what_was_permitted_is_not_confirmed() {
    for alteration in [
        "UPDATE payouts SET recipient_name = 'Mallory'",
        "UPDATE payouts SET amount_minor = amount_minor + 1",
        "UPDATE payouts SET destination_fingerprint = sha256('other')",
        "UPDATE payouts SET permit_hash = sha256('other')",
        "UPDATE permits SET bound_to = sha256('other')",
        "UPDATE effects SET bound_to = sha256('other') WHERE kind = 'confirm'",
    ] {
        let mut world = World::open().await;
        let id = permitted_and_stopped(&mut world).await;
        run(&world, alteration).await;
        // A look at Pike would find another amount, too, and may come first.
        run(&world, "UPDATE payouts SET next_check_at = now() + interval '1 hour'").await;
        world.start().await;
        let flagged = || async { anomaly(&world, &id).await };
        assert_eq!(until("the flag", flagged).await, "permit_altered", "{alteration}");
        world.caller().wait_details(&id, "under_review").await;
        assert!(world.pike.seen_on("session/confirm").is_empty(), "{alteration}");
        let off = "SELECT count(*) FROM switches WHERE scope = 'shop' AND NOT confirms";
        assert_eq!(world.count(off).await, 1, "one such is enough to stop the project");
    }
}

#[tokio::test]
async fn a_permit_of_other_rules_is_decided_again() {
    // What the payout itself was permitted before does not stand against it.
    let tight = RULES.replace("RUB = 2_000_000", "RUB = 125_050");
    let stricter = RULES.replace("max = 1_000_000\nhold_above = 500_000", "max = 100_000");
    for (rules, ends) in [(tight, None), (stricter, Some("permit_outdated"))] {
        let mut world = World::open().await;
        let id = permitted_and_stopped(&mut world).await;
        std::fs::write(world.dir.file("rules.toml"), rules.replace("it-1", "it-2")).unwrap();
        world.start().await;
        let api = world.caller();
        match ends {
            None => {
                let payout = api.wait_status(&id, "succeeded").await;
                assert_paid(&world.ledger().await, &payout);
                let again =
                    "SELECT count(*) FROM permits WHERE rule_set LIKE 'it-2#%' AND renewed_at IS NOT NULL";
                assert_eq!(world.count(again).await, 1, "bound to the rules that let it go");
            }
            Some(expected) => {
                let flagged = || async { anomaly(&world, &id).await };
                assert_eq!(until("the flag", flagged).await, expected);
                assert!(world.pike.seen_on("session/confirm").is_empty());
            }
        }
    }
}
