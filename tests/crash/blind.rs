//! Whether the oracle sees: the evidence of a clean run, falsified in one place at a time, must be found
//! false.

use crate::{
    TURN,
    evidence::{AUTOMATIC, Evidence, SwitchChange},
    load::{CARD_NUMBER, SwitchedOff, Voices, Wish, spread},
    oracle::{self, Book, Promise},
    pace::SHORT,
    scene::{Scene, Staging},
    sink::Sink,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;
use std::time::Duration;
use time::OffsetDateTime;

type Lie = fn(&mut Evidence, &mut Book, &str);

/// What is falsified about a payout that was paid, and which promise then is broken.
const LIES: [(&str, Promise, Lie); 18] = [
    ("a second payment", Promise::PaidOnce, |evidence, _, payout| line(evidence, payout, "paid_times", 2)),
    ("a second confirm", Promise::PaidOnce, |evidence, _, payout| {
        line(evidence, payout, "confirms_accepted", 2);
    }),
    ("money for nobody", Promise::PaidOnce, |evidence, _, payout| session(evidence, payout).tag = None),
    ("a second payout in the session", Promise::StartedOnce, |evidence, _, payout| {
        line(evidence, payout, "payouts", 2);
    }),
    ("a second session", Promise::StartedOnce, |evidence, _, payout| {
        let mut twin = session(evidence, payout).clone();
        twin.id.push('2');
        evidence.sessions.push(twin);
    }),
    ("no permit", Promise::PermittedExactly, |evidence, _, payout| drop(evidence.permits.remove(payout))),
    ("a permit for a cancel", Promise::PermittedExactly, |evidence, _, payout| {
        evidence.permits.get_mut(payout).unwrap()["kind"] = json!("cancel");
    }),
    ("a permit that came later", Promise::PermittedExactly, |evidence, _, payout| {
        evidence.permits.get_mut(payout).unwrap()["decided_at"] = json!("2999-01-01T00:00:00Z");
    }),
    ("a permit for something else", Promise::PermittedExactly, |_, book, payout| {
        let told = book.told.iter_mut().find(|told| told.payout == payout).unwrap();
        told.order["recipient"]["name"] = json!("Mallory");
    }),
    ("a confirm after a reject", Promise::NeverAfterNo, |_, book, payout| {
        book.told.iter_mut().find(|told| told.payout == payout).unwrap().granted = Some("reject");
    }),
    ("a permit while off", Promise::NeverAfterNo, |_, book, _| {
        let (from, to) =
            (OffsetDateTime::UNIX_EPOCH, OffsetDateTime::UNIX_EPOCH + Duration::from_secs(1 << 34));
        book.off.push(SwitchedOff { reason: "drill".to_owned(), from, to });
    }),
    ("a payout that is gone", Promise::AcknowledgedIsKept, |evidence, _, payout| {
        evidence.payouts.remove(payout);
    }),
    ("a webhook that is gone", Promise::AcknowledgedIsKept, |evidence, _, payout| {
        let id = session(evidence, payout).id.clone();
        evidence.inbox.retain(|(_, session)| *session != id);
    }),
    ("a payout that does not end", Promise::EverythingEnds, |evidence, _, payout| {
        evidence.payouts.get_mut(payout).unwrap()["state"] = json!("settling");
    }),
    ("a gap in a history", Promise::EverythingEnds, |evidence, _, payout| {
        evidence.history.get_mut(payout).unwrap().remove(1);
    }),
    ("paid, and called failed", Promise::EndsAsPikeSays, |evidence, _, payout| {
        evidence.payouts.get_mut(payout).unwrap()["state"] = json!("failed");
    }),
    ("a message that was not written", Promise::ToldWithoutGaps, |evidence, _, payout| {
        evidence.notifications.retain(|row| crate::evidence::payout_of(row) != payout);
    }),
    ("a message that was not delivered", Promise::ToldWithoutGaps, |evidence, _, payout| {
        let of_payout = |row: &&mut serde_json::Value| crate::evidence::payout_of(row) == payout;
        evidence.notifications.iter_mut().find(of_payout).unwrap()["delivered_at"] = json!(null);
    }),
];

fn session<'a>(evidence: &'a mut Evidence, payout: &str) -> &'a mut crate::evidence::Session {
    evidence.sessions.iter_mut().find(|session| session.payout() == Some(payout)).unwrap()
}

fn line(evidence: &mut Evidence, payout: &str, name: &str, count: u64) {
    session(evidence, payout).line[name] = json!(count);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_oracle_sees_what_is_wrong() {
    let _turn = TURN.lock().await;
    let (told, sink) = Sink::open().await;
    let staging =
        Staging { replicas: 1, pace: SHORT, second_start: "reject", faults: String::new(), told: Some(told) };
    let scene = Scene::open(&staging).await;
    let voices = Voices { callers: scene.callers(), desks: scene.desks(), first: 0 };
    let stories = [(Wish::Pay, "tok_success"), (Wish::Reject, "tok_success"), (Wish::Approve, "tok_success")];
    let errands = spread(&stories, Duration::ZERO, &mut crate::Chance::of(1));
    let told = voices.send(errands).await.unwrap();
    oracle::settle(&scene).await;
    let book = Book { told, off: vec![], sink: Some(sink) };
    let (findings, evidence) = oracle::judge(&scene, &book).await;
    assert!(findings.is_empty(), "{}", findings[0]);
    let paid = book.told.iter().find(|told| evidence.payouts[&told.payout]["state"] == "succeeded").unwrap();
    for (what, promise, lie) in LIES {
        let (mut evidence, mut book) = (evidence.clone(), book.clone());
        lie(&mut evidence, &mut book, &paid.payout);
        let findings = oracle::weigh(&evidence, &book);
        let seen = findings.iter().any(|finding| finding.promise == promise);
        assert!(seen, "{what} was not seen: {findings:?}");
    }
    whoever_switches_on_in_between_is_no_lie(evidence, book.clone());
    logged_secrets_are_seen(&scene, &book).await;
}

fn whoever_switches_on_in_between_is_no_lie(mut evidence: Evidence, mut book: Book) {
    let from = OffsetDateTime::UNIX_EPOCH;
    let to = from + Duration::from_secs(1 << 34);
    book.off.push(SwitchedOff { reason: "drill".to_owned(), from, to });
    let mut is_a_lie_after = |reason: &str, by: &str, confirms| {
        let (reason, by) = (reason.to_owned(), by.to_owned());
        evidence.switches.push(SwitchChange { reason, by, confirms, at: from });
        let findings = oracle::weigh(&evidence, &book);
        findings.iter().any(|finding| finding.promise == Promise::NeverAfterNo)
    };
    assert!(is_a_lie_after("drill", "desk", false), "nobody has");
    assert!(is_a_lie_after("an alarm", AUTOMATIC, true), "payoutd itself never may");
    assert!(!is_a_lie_after("an alarm", "desk", true));
}

async fn logged_secrets_are_seen(scene: &Scene, book: &Book) {
    let token = book.told[0].order["destination"]["token"].as_str().unwrap();
    let card = CARD_NUMBER;
    let forms = [
        token.to_owned(),
        format!("card {} {} {} {}", &card[..4], &card[4..8], &card[8..12], &card[12..]),
        STANDARD.encode(format!("card={card};")),
        STANDARD.encode(format!("the card={card};")),
        card.bytes().map(|byte| format!("%{byte:02X}")).collect(),
    ];
    for form in forms {
        let leak = sqlx::query("UPDATE notifications SET last_error = $1").bind(&form);
        leak.execute(&scene.pool).await.unwrap();
        let (findings, _) = oracle::judge(scene, book).await;
        let seen = findings.iter().any(|finding| finding.promise == Promise::NoSecretAnywhere);
        assert!(seen, "{form}: {findings:?}");
    }
}
