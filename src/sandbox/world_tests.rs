//! The world without HTTP and without a clock: who is in memory and who is not, and that nobody can tell.

use std::time::{Duration, Instant};

use super::super::request::Method;
use super::super::scene::Scene;
use super::*;

#[test]
fn old_sessions_leave_and_come_back_when_called() {
    let mut scene = Scene::new(|settings| settings.keep_sessions = 4);
    let (paid, idle) = (scene.pay(), scene.create());
    (0..10).for_each(|_| _ = scene.pay());
    assert!(!scene.is_in_memory(paid) && !scene.is_in_memory(idle));
    assert!(scene.in_memory() <= 5);

    // A look does not bring it back and is counted all the same.
    let events = scene.record(paid).page.events.len();
    assert_eq!(scene.named(Method::Status, paid), 200);
    assert!(!scene.is_in_memory(paid));
    assert_eq!(scene.world.state.ledger.loose.len(), 1);
    assert_eq!(scene.world.state.ledger.totals["p"].calls[&Method::Status], 1);
    // A refused call is on its page, as it would have been in memory.
    assert_eq!(scene.named(Method::Confirm, paid), 400);
    assert_eq!(scene.record(paid).page.events.len(), events + 1);
    assert!(scene.is_in_memory(paid));
    (0..10).for_each(|_| _ = scene.create());
    assert!(!scene.is_in_memory(paid));
    assert_eq!(scene.record(paid).page.events.len(), events + 1);

    assert_eq!(scene.start(idle, "tok_success"), 200);
    scene.settle();
    assert_eq!(scene.named(Method::Confirm, idle), 200);
    scene.settle();
    assert_eq!(scene.record(idle).page.paid_times, 1);
    assert_eq!(scene.world.state.ledger.totals["p"].paid_sessions, 12);
}

#[test]
fn who_waits_for_something_stays_until_it_has_come() {
    let mut scene = Scene::new(|settings| {
        settings.keep_sessions = 2;
        settings.timing.webhook_retry = vec![Duration::ZERO];
    });
    let (waiting, silent) = (scene.create(), scene.create());
    scene.start(waiting, "tok_success");
    scene.start(silent, "tok_no_webhooks");
    scene.settle();
    (0..10).for_each(|_| _ = scene.create());
    assert!(scene.is_in_memory(waiting) && scene.is_in_memory(silent));
    // Its webhook is still under way when the confirmation window closes, the other one has none.
    scene.wait(Timing::default().confirm_window);
    scene.create();
    assert!(scene.is_in_memory(waiting) && !scene.is_in_memory(silent));
    let deliveries: Vec<u64> = scene.world.state.deliveries.keys().copied().collect();
    assert_eq!(deliveries.len(), 2);
    deliveries.iter().for_each(|id| scene.world.end_delivery(*id));
    assert!(!scene.is_in_memory(waiting));
    assert_eq!(scene.in_memory(), 2);
    let (sessions, listed) = scene.world.state.sessions.entries();
    assert_eq!(sessions, listed);
}

#[test]
fn a_disk_that_fails_keeps_everything_in_memory() {
    let directory = tempfile::tempdir().unwrap();
    let mut scene = Scene::new(|settings| settings.keep_sessions = 2);
    scene.world.state.archive.find(directory.path().join("not/there/yet")).unwrap();
    let ids: Vec<_> = (0..100).map(|_| scene.pay()).collect();
    assert!(ids.iter().all(|id| scene.is_in_memory(*id)));
    std::fs::create_dir_all(directory.path().join("not/there")).unwrap();
    let more: Vec<_> = (0..200).map(|_| scene.pay()).collect();
    assert!(scene.in_memory() < 10, "{}", scene.in_memory());
    for id in ids.iter().chain(&more) {
        assert_eq!(scene.record(*id).page.paid_times, 1);
    }
}

#[test]
fn a_state_is_taken_up_with_its_archive() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("archive");
    let mut scene = Scene::new(|settings| settings.keep_sessions = 4);
    scene.world.state.archive.find(path.clone()).unwrap();
    let ids: Vec<_> = (0..30).map(|_| scene.pay()).collect();
    let back = ids[3];
    scene.named(Method::Confirm, back);
    let saved = serde_json::to_string(&scene.world.state).unwrap();
    // Archived after the save: cut off, for the save has them in memory.
    (0..10).for_each(|_| _ = scene.pay());

    let mut state: State = serde_json::from_str(&saved).unwrap();
    state.archive.find(path).unwrap();
    let mut scene = Scene::new(|settings| settings.keep_sessions = 4);
    scene.world =
        World::new(Constitution { keep_sessions: 4, ..scene.world.constitution }, scene.world.faults, state);
    assert!(scene.is_in_memory(back));
    (0..10).for_each(|_| _ = scene.pay());
    assert!(!scene.is_in_memory(back));
    for id in ids {
        assert_eq!(scene.record(id).page.paid_times, 1);
    }
    assert_eq!(scene.world.state.ledger.totals["p"].paid_sessions, 40);
}

#[test]
fn an_old_state_is_taken_up_too() {
    let old = r#"{"sessions":{},"deliveries":{},"next_delivery":7,"used_keys":[],
        "ledger":{"totals":{},"loose":[],"loose_dropped":0,"eventful":[]}}"#;
    let state: State = serde_json::from_str(old).unwrap();
    assert_eq!(state.next_delivery, 7);
}

/// Plays this many sessions and keeps so many of them.
fn play(sessions: usize, keep: usize) -> (Scene, Duration) {
    let mut scene = Scene::new(|settings| settings.keep_sessions = keep);
    let begun = Instant::now();
    for n in 0..sessions {
        if n % 50 == 0 {
            scene.create()
        } else {
            scene.pay()
        };
    }
    (scene, begun.elapsed())
}

/// Counts what is left in memory of many sessions.
fn assert_bounded(scene: &Scene, sessions: usize, keep: usize) {
    let State { sessions: kept, archive, deliveries, ledger, .. } = &scene.world.state;
    let (in_memory, listed) = kept.entries();
    assert!(in_memory == listed && in_memory <= keep + 64, "{in_memory} sessions, {listed} in the lists");
    let entries = archive.entries();
    assert!(entries <= (sessions - in_memory) / 30 + 1, "{entries} entries of the archive's index");
    assert!(scene.world.agenda.is_empty() && deliveries.is_empty() && ledger.loose.is_empty());
    assert_eq!(ledger.totals["p"].sessions, u64::try_from(sessions).unwrap());
}

#[test]
fn memory_is_bounded() {
    let (scene, _) = play(5_000, 1_000);
    assert_bounded(&scene, 5_000, 1_000);
}

#[test]
#[ignore = "takes long, and its figures are for --release: --nocapture shows them"]
fn memory_is_bounded_for_many() {
    let sessions = 200_000;
    let (_, without) = play(sessions, sessions);
    let (scene, with) = play(sessions, 10_000);
    assert_bounded(&scene, sessions, 10_000);
    let begun = Instant::now();
    let mut scan = super::super::scan::Scan::new(None, None);
    let met: usize =
        std::iter::from_fn(|| scan.next_of(&scene.world).unwrap()).map(|batch| batch.len()).sum();
    assert_eq!(met, sessions);
    println!(
        "{sessions} sessions: {without:?} in memory, {with:?} with the archive, read in {:?}",
        begun.elapsed()
    );
    let archive = &scene.world.state.archive;
    println!("archive: {} bytes, {} entries in the index", archive.length(), archive.entries());
    let begun = Instant::now();
    let saved = serde_json::to_vec(&scene.world.state).unwrap().len();
    println!("the saved state: {saved} bytes in {:?}", begun.elapsed());
}
