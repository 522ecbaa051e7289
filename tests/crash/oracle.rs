//! What must hold in the end, O1 to O9: the provider's own record against our database and against what
//! callers were told. Never computed from what payoutd says about itself alone. (O10, that every fault
//! struck, is asked of all runs together: `report`.)

use crate::{
    evidence::{AUTOMATIC, Evidence, Session, SwitchChange, instant},
    leaks,
    load::{SwitchedOff, Told},
    scene::Scene,
    sink::Sink,
    support::until_within,
};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};
use time::OffsetDateTime;

const CONFIRM: &str = "session/confirm";
/// After the last trouble: a lease, some polls, a webhook's retries, and a crowded machine.
const SETTLED_WITHIN: Duration = Duration::from_secs(120);
/// What comes later than the end of everything: a return, a stale read that is corrected.
const AFTERWARDS: Duration = Duration::from_secs(4);

/// A promise, by its number in `faults.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    PaidOnce,
    StartedOnce,
    PermittedExactly,
    NeverAfterNo,
    AcknowledgedIsKept,
    EverythingEnds,
    EndsAsPikeSays,
    ToldWithoutGaps,
    NoSecretAnywhere,
    /// By the checker that runs in production.
    NothingFoundInside,
    /// Of the harness: a run that did not happen has shown nothing.
    RunHappened,
}

#[derive(Clone, Debug)]
pub struct Finding {
    pub promise: Promise,
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.promise, self.text)
    }
}

/// What was said and told in a run.
#[derive(Clone, Default)]
pub struct Book {
    pub told: Vec<Told>,
    pub off: Vec<SwitchedOff>,
    pub sink: Option<Arc<Sink>>,
}

/// How many payouts are not final and not waiting for a person.
pub async fn under_way(scene: &Scene) -> i64 {
    let open = "SELECT count(*) FROM payouts
        WHERE next_check_at IS NOT NULL AND state <> 'succeeded' AND anomaly IS NULL";
    scene.count(open).await
}

/// Waits until nothing is left to do: payouts, calls, webhooks, notifications, Pike's own deliveries.
pub async fn settle(scene: &Scene) {
    let left = "SELECT (SELECT count(*) FROM payouts
            WHERE next_check_at IS NOT NULL AND state <> 'succeeded' AND anomaly IS NULL)
        + (SELECT count(*) FROM effects e JOIN payouts p ON p.id = e.payout_id WHERE p.anomaly IS NULL)
        + (SELECT count(*) FROM inbox i JOIN payouts p
            ON p.session_id = convert_from(i.body, 'UTF8')::jsonb->'session'->>'id' WHERE i.done_at IS NULL)
        + (SELECT count(*) FROM notifications WHERE due_at IS NOT NULL)";
    until_within(SETTLED_WITHIN, "everything to settle", || async {
        let done = scene.count(left).await == 0 && webhooks_under_way(scene).await == 0;
        if !done {
            // Not to be in the way of what is waited for.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        done.then_some(())
    })
    .await;
}

async fn webhooks_under_way(scene: &Scene) -> u64 {
    let url = format!("{}/_sandbox/ledger?limit=1", scene.sandbox);
    let answer = scene.http.get(url).send().await.unwrap().bytes().await.unwrap();
    let page: Value = serde_json::from_slice(&answer).unwrap();
    page["totals"]["webhooks_under_way"].as_u64().unwrap()
}

/// Everything that is not as promised, and what it was judged by.
pub async fn judge(scene: &Scene, book: &Book) -> (Vec<Finding>, Evidence) {
    let begun = std::time::Instant::now();
    loop {
        let evidence = Evidence::gather(scene).await;
        let mut findings = weigh(&evidence, book);
        keys_lead_where_they_led(scene, book, &mut findings).await;
        leaks::look(scene, &mut findings).await;
        let later =
            |finding: &Finding| matches!(finding.promise, Promise::EndsAsPikeSays | Promise::ToldWithoutGaps);
        if findings.is_empty() || !findings.iter().all(later) || begun.elapsed() > AFTERWARDS {
            return (findings, evidence);
        }
        settle(scene).await;
    }
}

/// The part of it that is reading alone.
pub fn weigh(evidence: &Evidence, book: &Book) -> Vec<Finding> {
    let mut findings = vec![];
    paid_once(evidence, &mut findings);
    started_once(evidence, &mut findings);
    permitted_exactly(evidence, book, &mut findings);
    never_after_no(evidence, book, &mut findings);
    acknowledged_is_kept(evidence, book, &mut findings);
    everything_ends(evidence, &mut findings);
    ends_as_pike_says(evidence, &mut findings);
    told_without_gaps(evidence, book, &mut findings);
    findings
}

fn find(findings: &mut Vec<Finding>, promise: Promise, text: impl Into<String>) {
    findings.push(Finding { promise, text: text.into() });
}

/// O1: one accepted confirm and one payment per payout at most, over all its sessions; nobody's money.
fn paid_once(evidence: &Evidence, findings: &mut Vec<Finding>) {
    for payout in evidence.payouts.keys() {
        let sum = |name: &str| evidence.started(payout).map(|session| session.count(name)).sum::<u64>();
        for name in ["confirms_accepted", "paid_times"] {
            if sum(name) > 1 {
                let story = evidence.story(payout);
                find(findings, Promise::PaidOnce, format!("{payout}: {name} {}{story}", sum(name)));
            }
        }
    }
    for session in evidence.sessions.iter().filter(|session| session.count("paid_times") > 0) {
        if session.payout().is_none_or(|payout| !evidence.payouts.contains_key(payout)) {
            find(findings, Promise::PaidOnce, format!("paid for nobody: {}", session.line));
        }
    }
}

/// O2: a payout has one started session ever (it gets no second attempt by itself), and one payout in it.
fn started_once(evidence: &Evidence, findings: &mut Vec<Finding>) {
    for payout in evidence.payouts.keys() {
        let started: Vec<&Session> = evidence.started(payout).collect();
        if started.len() > 1 {
            find(findings, Promise::StartedOnce, format!("{payout} in {} sessions", started.len()));
        }
        for session in started.iter().filter(|session| !session.had_fault(&["start_twice"])) {
            let asked = session.calls("session/start/payout").len();
            if session.count("payouts") > 1 || asked > 1 {
                let story = evidence.story(payout);
                find(findings, Promise::StartedOnce, format!("{payout} was sent {asked} starts{story}"));
            }
        }
    }
}

/// O3: whoever saw a confirm can be shown the permit that was there before it, for exactly that.
fn permitted_exactly(evidence: &Evidence, book: &Book, findings: &mut Vec<Finding>) {
    let orders: BTreeMap<&str, &Told> = book.told.iter().map(|told| (told.payout.as_str(), told)).collect();
    for session in &evidence.sessions {
        let Some(first) = session.calls(CONFIRM).into_iter().min() else { continue };
        let why = why_not_permitted(evidence, session, first, &orders);
        if let Some(why) = why {
            find(findings, Promise::PermittedExactly, format!("{}: {why}", session.line));
        }
    }
}

fn why_not_permitted(
    evidence: &Evidence,
    session: &Session,
    first: time::OffsetDateTime,
    orders: &BTreeMap<&str, &Told>,
) -> Option<String> {
    let payout = session.payout()?;
    let Some(permit) = evidence.permits.get(payout) else { return Some("there is no permit".to_owned()) };
    // That a payout is gone is another promise's finding.
    let row = evidence.payouts.get(payout)?;
    let approved = evidence.history[payout]
        .iter()
        .any(|entry| matches!(entry["reason"].as_str(), Some("rules_confirm" | "approved")));
    let facts = [
        (permit["kind"] == "confirm", "the permit is not for a confirm"),
        (approved, "nobody approved it"),
        (instant(&permit["decided_at"]) <= first, "the permit came later"),
        (row["session_id"] == session.id.as_str(), "it is another session"),
        (permit["amount_minor"] == session.line["amount"], "the amount is another"),
        (permit["currency"] == session.line["currency"], "the currency is another"),
        (permit["bound_to"] == row["permit_hash"], "the payout holds another permit"),
    ];
    if let Some((_, why)) = facts.into_iter().find(|(holds, _)| !holds) {
        return Some(why.to_owned());
    }
    let told = orders.get(payout)?;
    let wanted = binding(told, session, permit["rule_set"].as_str().unwrap());
    (permit["bound_to"] != wanted.as_str()).then(|| "the permit is bound to something else".to_owned())
}

/// What a permit must be bound to, computed from what the caller asked and what Pike was told.
fn binding(told: &Told, session: &Session, rule_set: &str) -> String {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let destination =
        sha(&[text(&told.order["destination"]["type"]), text(&told.order["destination"]["token"])]
            .map(Vec::from));
    let parts = [
        session.id.clone().into_bytes(),
        session.tag.clone().unwrap().into_bytes(),
        told.order["amount"].to_string().into_bytes(),
        text(&told.order["currency"]).into_bytes(),
        text(&told.order["recipient"]["name"]).into_bytes(),
        text(&told.order["customer_reference"]).into_bytes(),
        destination,
        rule_set.as_bytes().to_vec(),
    ];
    sha(&parts).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sha(parts: &[Vec<u8>]) -> Vec<u8> {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(format!("{}:", part.len()));
        hash.update(part);
    }
    hash.finalize().to_vec()
}

/// O4: after a reject or a cancel that was granted there is no confirm; while the switch is known to be off
/// nobody is permitted to.
fn never_after_no(evidence: &Evidence, book: &Book, findings: &mut Vec<Finding>) {
    for told in book.told.iter().filter(|told| matches!(told.granted, Some("reject" | "cancel"))) {
        if evidence.started(&told.payout).any(|session| !session.calls(CONFIRM).is_empty()) {
            let story = evidence.story(&told.payout);
            find(findings, Promise::NeverAfterNo, format!("{} was called off{story}", told.payout));
        }
    }
    for off in &book.off {
        let to = in_force_until(evidence, off);
        let confirms = evidence.permits.iter().filter(|(_, permit)| permit["kind"] == "confirm");
        for (payout, permit) in confirms {
            let at = instant(&permit["decided_at"]);
            if (off.from..to).contains(&at) {
                let audit = &evidence.switches;
                let text = format!("{payout} was permitted at {at} while off: {off:?}; audit {audit:?}");
                find(findings, Promise::NeverAfterNo, text);
            }
        }
    }
}

/// Until when the switch stayed off: somebody else at the desk may have thrown it on, for a reason of theirs,
/// before whoever had thrown it off did. The audit has it, in order.
fn in_force_until(evidence: &Evidence, off: &SwitchedOff) -> OffsetDateTime {
    let its_own =
        |change: &SwitchChange| !change.confirms && change.reason == off.reason && change.at <= off.from;
    let later = evidence.switches.iter().rposition(its_own).map_or(&[][..], |n| &evidence.switches[n..]);
    let thrown_on = |change: &&SwitchChange| change.confirms && change.by != AUTOMATIC;
    later.iter().find(thrown_on).map_or(off.to, |on| on.at.min(off.to))
}

/// O5: every 2xx, to callers and to Pike, is in the database.
fn acknowledged_is_kept(evidence: &Evidence, book: &Book, findings: &mut Vec<Finding>) {
    let mut lost = |text: String| find(findings, Promise::AcknowledgedIsKept, text);
    for told in &book.told {
        let Some(row) = evidence.payouts.get(&told.payout) else {
            lost(format!("{} was acknowledged and is gone", told.payout));
            continue;
        };
        if row["amount_minor"] != told.order["amount"]
            || row["customer_reference"] != told.order["customer_reference"]
        {
            lost(format!("{} is not what was ordered: {row}", told.payout));
        }
        let events = evidence.history[&told.payout].iter();
        let written = |name: &str| events.clone().any(|entry| entry["event"] == name);
        match told.granted {
            Some("cancel") if !written("cancel_requested") => lost(format!("{}: no cancel", told.payout)),
            Some("approve") if !written("approved") => lost(format!("{}: no approval", told.payout)),
            Some("reject") if !written("rejected") => lost(format!("{}: no rejection", told.payout)),
            Some(_) | None => {}
        }
    }
    let distinct: std::collections::BTreeSet<_> = book.told.iter().map(|told| &told.payout).collect();
    if distinct.len() != book.told.len() {
        lost("two keys led to one payout".to_owned());
    }
    for off in &book.off {
        if evidence.switches.iter().filter(|change| change.reason == off.reason).count() < 2 {
            lost(format!("the switch was not thrown twice: {off:?}"));
        }
    }
    for session in &evidence.sessions {
        if session.had_fault(&["webhook_wrong_session", "webhook_unknown_type"]) {
            continue;
        }
        for kind in session.acknowledged() {
            if !evidence.inbox.contains(&(kind.to_owned(), session.id.clone())) {
                lost(format!("{kind} of {} was answered 200 and is gone", session.id));
            }
        }
    }
}

/// O5 as well: a key still leads where it led.
async fn keys_lead_where_they_led(scene: &Scene, book: &Book, findings: &mut Vec<Finding>) {
    let api = &scene.callers()[0];
    for told in book.told.iter().step_by(10) {
        let again = api.create_with_key(&told.key, &told.order).await;
        if (again.status, again.body["id"].as_str()) != (200, Some(told.payout.as_str())) {
            let text = format!("the key of {} leads elsewhere: {}", told.payout, again.text);
            find(findings, Promise::AcknowledgedIsKept, text);
        }
    }
}

/// O6: what is not final has a due time, and in the end only what waits for a person is not final.
fn everything_ends(evidence: &Evidence, findings: &mut Vec<Finding>) {
    for (payout, row) in &evidence.payouts {
        let ended = is_final(row);
        if ended == row["due"].as_bool().unwrap() || !(ended || row["anomaly"].is_string()) {
            let story = evidence.story(payout);
            find(findings, Promise::EverythingEnds, format!("{payout}: {row}{story}"));
        }
        let history = &evidence.history[payout];
        let numbered = (1..).zip(history).all(|(n, entry)| entry["seq"] == n);
        if !numbered || row["version"] != history.len() {
            find(findings, Promise::EverythingEnds, format!("{payout}: a history with gaps"));
        }
    }
}

fn is_final(row: &Value) -> bool {
    matches!(row["state"].as_str(), Some("succeeded" | "returned" | "failed" | "cancelled"))
}

/// O7: a final status is the provider's truth, and one that says "unpaid" can never become paid.
fn ends_as_pike_says(evidence: &Evidence, findings: &mut Vec<Finding>) {
    for (payout, row) in evidence.payouts.iter().filter(|(_, row)| is_final(row)) {
        let out: Vec<i64> = evidence.started(payout).flat_map(|session| session.money("out")).collect();
        let back = evidence.started(payout).flat_map(|session| session.money("back")).count();
        let closed = evidence
            .started(payout)
            .all(|session| matches!(session.line["status"].as_str(), Some("accepted" | "cancelled")));
        let true_to_pike = match row["state"].as_str().unwrap() {
            "succeeded" => out == [row["amount_minor"].as_i64().unwrap()] && back == 0,
            "returned" => out.len() == 1 && back == 1,
            _ => out.is_empty() && closed,
        };
        if !true_to_pike {
            let story = evidence.story(payout);
            find(findings, Promise::EndsAsPikeSays, format!("{payout}: {row}{story}"));
        }
    }
}

/// O8: each final status is one message with its number, delivered; the same number never says two things.
fn told_without_gaps(evidence: &Evidence, book: &Book, findings: &mut Vec<Finding>) {
    let mut gap = |text: String| find(findings, Promise::ToldWithoutGaps, text);
    let key = |row: &Value| (crate::evidence::payout_of(row), row["seq"].as_i64().unwrap());
    let rows: BTreeMap<_, _> = evidence.notifications.iter().map(|row| (key(row), row)).collect();
    for (payout, history) in &evidence.history {
        let finals = history.iter().filter(|entry| {
            let ends = |name: &str| matches!(entry[name].as_str(), Some(state) if is_final_state(state));
            ends("to_state") && entry["from_state"] != entry["to_state"]
        });
        let wanted: Vec<i64> = finals.map(|entry| entry["seq"].as_i64().unwrap()).collect();
        let found: Vec<i64> = rows.keys().filter(|(id, _)| id == payout).map(|(_, seq)| *seq).collect();
        if wanted != found {
            gap(format!("{payout}: ended in {wanted:?}, told of {found:?}{}", evidence.story(payout)));
        }
    }
    let Some(sink) = &book.sink else { return };
    let mut received: BTreeMap<(String, i64), String> = BTreeMap::new();
    for message in sink.all() {
        let data = &message.body["data"];
        let key = (data["id"].as_str().unwrap().to_owned(), data["sequence"].as_i64().unwrap());
        let said = format!("{} {}", message.id, message.text);
        let before = received.entry(key).or_insert_with(|| said.clone());
        if *before != said {
            gap(format!("one number, two messages: {before} and {said}"));
        }
    }
    for ((payout, seq), row) in &rows {
        if row["delivered_at"].is_null() || !received.contains_key(&(payout.clone(), *seq)) {
            gap(format!("nobody received {row}"));
        }
    }
    if received.len() > rows.len() {
        gap(format!("{} messages received, {} written", received.len(), rows.len()));
    }
}

fn is_final_state(state: &str) -> bool {
    matches!(state, "succeeded" | "returned" | "failed" | "cancelled")
}
