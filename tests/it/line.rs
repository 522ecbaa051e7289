//! Anomalies of the money kind stop their project's confirms, until a person has looked.

use crate::{
    faults::anomaly,
    outcomes::assert_story,
    support::{
        rest::{order, order_of},
        until,
    },
    world::World,
};
use serde_json::{Value, json};
use std::time::Duration;

async fn position(world: &World) -> Value {
    world.api("operator").get("/v1/confirms").await.body
}

async fn audit(world: &World) -> Vec<(String, bool, String, String)> {
    sqlx::query_as("SELECT scope, confirms, changed_by, reason FROM switch_changes ORDER BY id")
        .fetch_all(&world.pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn money_that_nobody_permitted_stops_the_project_at_once_and_no_other() {
    let world = World::with(|setup| setup.timing.settle_delay = Duration::from_millis(300)).await;
    let api = world.caller();
    // Held, so that it is paid before anybody could have permitted it.
    let unasked = api.run(&order_of("tok_paid_unasked", 600_000), "succeeded").await;
    let id = unasked["id"].as_str().unwrap();
    assert_eq!(anomaly(&world, id).await.as_deref(), Some("paid_without_permit"));
    let shown = position(&world).await;
    assert_eq!(shown["switches"], json!({ "everywhere": "on", "project": "off" }), "{shown}");
    let changes = audit(&world).await;
    let [(scope, false, by, reason)] = &changes[..] else { panic!("{changes:?}") };
    assert_eq!((scope.as_str(), by.as_str()), ("shop", "payoutd"));
    assert!(reason.contains(id) && reason.contains("paid_without_permit"), "{reason}");
    let history = api.history(id).await;
    let flag = history.iter().find(|entry| entry["decision"] == "flag").unwrap();
    assert!(flag["detail"].as_str().unwrap().ends_with("switched off"), "{flag}");
    assert_story(&api, &unasked).await;

    // No confirm is permitted now: the next one waits for the switch, another project's does not.
    let waiting = api.create(&order("tok_success")).await;
    api.wait_status(&waiting, "on_hold").await;
    world.api("stranger").run(&order("tok_success"), "succeeded").await;
    assert_eq!(world.ledger().await.session(&waiting)["confirms_accepted"], 0);
    let figure = "payoutd_line_stopped_total{project=\"shop\",anomaly=\"paid_without_permit\"} ";
    let (_, metrics) = world.admin("/metrics").await;
    assert!(metrics.contains(figure), "{metrics}");

    // A second one is no second throw; a person ends it.
    api.run(&order_of("tok_paid_unasked", 600_000), "succeeded").await;
    assert_eq!(audit(&world).await.len(), 1);
    let on = world.api("operator").put("/v1/confirms", &json!({ "confirms": "on", "reason": "seen" })).await;
    assert_eq!(on.status, 200, "{}", on.text);
    api.wait_status(&waiting, "succeeded").await;
}

#[tokio::test]
async fn wrong_amounts_stop_the_project_when_there_are_enough_of_them() {
    let world = World::with(|setup| setup.set("stop_line.anomalies", "2")).await;
    let api = world.caller();
    let wrong = || async { api.run(&order("tok_wrong_amount"), "cancelled").await };
    let on = || async {
        let body = json!({ "confirms": "on", "reason": "seen" });
        assert_eq!(world.api("operator").put("/v1/confirms", &body).await.status, 200);
    };
    wrong().await;
    assert_eq!(position(&world).await["confirms"], "on", "one is not enough");
    wrong().await;
    until("the stop", || async { (position(&world).await["confirms"] == "off").then_some(()) }).await;
    let last = audit(&world).await.pop().unwrap();
    assert!(last.3.contains("other_amount (2 within 1h)"), "{last:?}");
    // Whoever switched on again had seen those: it takes as many new ones.
    on().await;
    wrong().await;
    assert_eq!(position(&world).await["confirms"], "on");
    wrong().await;
    until("the second stop", || async { (position(&world).await["confirms"] == "off").then_some(()) }).await;
}

/// Old ones are forgotten.
#[tokio::test]
async fn anomalies_outside_the_window_do_not_count() {
    let world = World::with(|setup| {
        setup.set("stop_line.anomalies", "2");
        setup.set("stop_line.window", "1s");
    })
    .await;
    let api = world.caller();
    api.run(&order("tok_wrong_amount"), "cancelled").await;
    let old = "SELECT count(*) FROM anomalies WHERE at < now() - interval '1 second'";
    until("time to pass", || async { (world.count(old).await == 1).then_some(()) }).await;
    api.run(&order("tok_wrong_amount"), "cancelled").await;
    assert_eq!(position(&world).await["confirms"], "on");
    assert_eq!(world.count("SELECT count(*) FROM anomalies WHERE counts").await, 2);
}

/// Whoever raised an alarm may have been killed before it could count or log it: the figures that are alarmed
/// on are read from the database, as here from what no process of this test has done.
#[tokio::test]
async fn alarms_that_are_open_are_read_from_the_database() {
    let world = World::open().await;
    world.caller().run(&order("tok_success"), "succeeded").await;
    let set = |sql: &'static str| {
        let world = &world;
        async move { sqlx::raw_sql(sql).execute(&world.pool).await.unwrap() }
    };
    let shown = |lines: &'static [&'static str]| {
        let world = &world;
        async move {
            let page = world.admin("/metrics").await.1;
            lines.iter().all(|line| page.lines().any(|shown| shown == *line)).then_some(())
        }
    };
    const CALM: &[&str] = &[
        "payoutd_flagged{anomaly=\"other_amount\"} 0",
        "payoutd_flagged{anomaly=\"other_metadata\"} 0",
        "payoutd_confirms_off{scope=\"*\"} 0",
    ];
    until("figures", || shown(CALM)).await;
    set("UPDATE payouts SET anomaly = 'other_amount', raised = '{other_amount,other_metadata}';
         INSERT INTO switches (scope, confirms, changed_by, reason) VALUES ('shop', false, 'test', 'test')")
    .await;
    const RAISED: &[&str] = &[
        "payoutd_flagged{anomaly=\"other_amount\"} 1",
        "payoutd_flagged{anomaly=\"other_metadata\"} 1",
        "payoutd_confirms_off{scope=\"*\"} 0",
        "payoutd_confirms_off{scope=\"shop\"} 1",
    ];
    until("the alarms", || shown(RAISED)).await;
    set("UPDATE payouts SET raised = '{}'").await;
    until("the second one to be gone", || {
        shown(&[
            "payoutd_flagged{anomaly=\"other_amount\"} 1",
            "payoutd_flagged{anomaly=\"other_metadata\"} 0",
        ])
    })
    .await;
    set("UPDATE payouts SET anomaly = NULL; DELETE FROM switches WHERE scope = 'shop'").await;
    until("the end of both", || shown(CALM)).await;
    until("and of the switch", || shown(&["payoutd_confirms_off{scope=\"shop\"} 0"])).await;
}
