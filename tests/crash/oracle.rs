//! What must hold in the end: the sandbox's ledger against what payoutd says and what callers were told.

use crate::{
    scene::Scene,
    support::{http_client, ledger::Ledger, rest::Api, until, until_within},
    traffic::Traffic,
};
use futures_util::{StreamExt, stream};
use serde_json::Value;
use std::{collections::BTreeMap, time::Duration};

const START: &str = "session/start/payout";
const CONFIRM: &str = "session/confirm";
/// After the last kill: a lease, some polls, and a crowded machine.
const SETTLED_WITHIN: Duration = Duration::from_secs(120);

/// How many payouts are not final.
pub async fn under_way(scene: &Scene) -> i64 {
    scene.count("SELECT count(*) FROM payouts WHERE next_check_at IS NOT NULL").await
}

/// Waits until no payout is under way any more.
pub async fn all_final(scene: &Scene) {
    until_within(SETTLED_WITHIN, "every payout to be final", || async {
        let open = under_way(scene).await;
        if open > 0 {
            // Not to be in the way of what is waited for.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        (open == 0).then_some(())
    })
    .await;
}

pub async fn judge(scene: &Scene, traffic: &Traffic) {
    let api = &scene.callers()[0];
    let payouts = payouts(api).await;
    let ledger = Ledger::read(&scene.sandbox).await;
    told_is_kept(api, &payouts, traffic).await;
    money_is_right(&payouts, &ledger);
    stories_are_whole(scene, &payouts).await;
    let events = events(scene, &ledger).await;
    starts_are_sent_once(&events);
    faults_fired(traffic, &ledger, &events);
}

/// Everything that the API lists, by id.
async fn payouts(api: &Api) -> BTreeMap<String, Value> {
    let (mut all, mut cursor) = (BTreeMap::new(), String::new());
    loop {
        let page = api.get(&format!("/v1/payouts?limit=200{cursor}")).await;
        assert_eq!(page.status, 200, "{}", page.text);
        for payout in page.body["data"].as_array().unwrap() {
            let twice = all.insert(payout["id"].as_str().unwrap().to_owned(), payout.clone());
            assert!(twice.is_none(), "listed twice: {payout}");
        }
        let Some(next) = page.body["next_cursor"].as_str() else { return all };
        cursor = format!("&cursor={next}");
    }
}

/// Every 2xx a caller ever got is in the API, one payout for each key, and the key still leads there.
async fn told_is_kept(api: &Api, payouts: &BTreeMap<String, Value>, traffic: &Traffic) {
    assert_eq!(traffic.asked.len(), traffic.keys, "two keys led to one payout");
    assert_eq!(payouts.len(), traffic.keys, "as many payouts as keys");
    for (id, asked) in &traffic.asked {
        let payout = payouts.get(id).unwrap_or_else(|| panic!("{id} was acknowledged and is lost"));
        assert_eq!(payout["customer_reference"], asked.order["customer_reference"]);
        assert_eq!(payout["final"], true, "{payout}");
    }
    for asked in traffic.asked.values().step_by(10) {
        let again = api.create_with_key(&asked.key, &asked.order).await;
        assert_eq!((again.status, again.id()), (200, asked.payout.clone()));
    }
}

/// Paid in the ledger if and only if succeeded; once; by one session, confirmed once.
fn money_is_right(payouts: &BTreeMap<String, Value>, ledger: &Ledger) {
    let sessions = ledger.by_payout();
    let count = |line: &Value, name: &str| line[name].as_u64().unwrap();
    let mut out = 0;
    for (id, payout) in payouts {
        let none = vec![];
        let lines = sessions.get(id.as_str()).unwrap_or(&none);
        let paid: Vec<_> = lines.iter().filter(|line| count(line, "paid_times") > 0).collect();
        assert!(paid.len() <= 1 && paid.iter().all(|line| count(line, "paid_times") == 1), "{id}: {lines:?}");
        let succeeded = payout["status"] == "succeeded";
        assert_eq!(paid.len() == 1, succeeded, "{payout}\n{lines:?}");
        assert!(matches!(payout["status"].as_str(), Some("succeeded" | "failed")), "{payout}");
        if let Some(line) = paid.first() {
            assert_eq!(line["id"], payout["provider"]["session_id"]);
            assert_eq!(line["amount"], payout["amount"]);
            out += line["amount"].as_i64().unwrap();
        }
    }
    for line in ledger.sessions() {
        for name in ["confirms_accepted", "starts", "payouts", "paid_times"] {
            assert!(count(line, name) <= 1, "{name}: {line}");
        }
        let tag = line["metadata"].as_str().and_then(|tag| tag.split_once('/'));
        assert!(tag.is_none_or(|(id, _)| payouts.contains_key(id)), "nobody's session: {line}");
    }
    assert_eq!(ledger.money_out(), out, "money left for nobody");
}

/// Each history is gap-free and ends where its payout stands; one message for each; nothing is left to do.
async fn stories_are_whole(scene: &Scene, payouts: &BTreeMap<String, Value>) {
    let broken = "SELECT count(*) FROM payouts p
         WHERE p.version IS DISTINCT FROM (SELECT max(seq) FROM history h WHERE h.payout_id = p.id)
            OR p.version <> (SELECT count(*) FROM history h WHERE h.payout_id = p.id)";
    assert_eq!(scene.count(broken).await, 0, "histories with gaps");
    let expected = i64::try_from(payouts.len()).unwrap();
    for messages in
        ["SELECT count(*) FROM notifications", "SELECT count(DISTINCT payout_id) FROM notifications"]
    {
        assert_eq!(scene.count(messages).await, expected);
    }
    let flagged = "SELECT count(*) FROM payouts WHERE anomaly IS NOT NULL";
    assert_eq!(scene.count(flagged).await, 0, "nothing here is out of order");
    let secrets = "SELECT count(*) FROM payouts WHERE destination_secret IS NOT NULL";
    assert_eq!(scene.count(secrets).await, 0);
    let idle = || async { (scene.count("SELECT count(*) FROM effects").await == 0).then_some(()) };
    until("no call left to make", idle).await;
}

/// What the ledger saw of each session, by its id.
type Events = BTreeMap<String, Vec<Value>>;

async fn events(scene: &Scene, ledger: &Ledger) -> Events {
    let ids = ledger.sessions().iter().map(|line| line["id"].as_str().unwrap().to_owned());
    let http = http_client();
    let read = ids.map(|id| {
        let request = http.get(format!("{}/_sandbox/ledger/events?session={id}", scene.sandbox));
        async move {
            let answer = request.send().await.unwrap().bytes().await.unwrap();
            let page: Value = serde_json::from_slice(&answer).unwrap();
            (id, page["events"].as_array().unwrap().clone())
        }
    });
    stream::iter(read).buffer_unordered(16).collect().await
}

/// How often a session saw a call, with this verdict if one is given.
fn calls(events: &[Value], method: &str, verdict: Option<&str>) -> usize {
    let requests = events.iter().map(|event| &event["event"]["request"]);
    let fits = |request: &&Value| {
        request["method"] == method && verdict.is_none_or(|verdict| request["verdict"] == verdict)
    };
    requests.filter(fits).count()
}

/// Not even refused: Pike's own checks must never be what saves us.
fn starts_are_sent_once(events: &Events) {
    for (session, events) in events {
        assert!(calls(events, START, None) <= 1, "{session} was started again: {events:#?}");
    }
}

/// A fault that never fired has tested nothing.
fn faults_fired(traffic: &Traffic, ledger: &Ledger, events: &Events) {
    let sessions = ledger.by_payout();
    for (token, method) in [("tok_start_lost", START), ("tok_confirm_lost", CONFIRM)] {
        let of_token = traffic.asked.values().filter(|asked| asked.token == token);
        let sessions = of_token.filter_map(|asked| sessions.get(asked.payout.as_str())).flatten();
        let lost =
            |line: &&&Value| calls(&events[line["id"].as_str().unwrap()], method, Some("answer_lost")) > 0;
        assert!(sessions.filter(lost).count() > 0, "{token} never lost an answer");
    }
    assert!(ledger.total("answers_lost") > 50, "{}", ledger.0["totals"]);
    assert!(ledger.total("webhooks_delivered") > 1_000, "{}", ledger.0["totals"]);
    for token in ["tok_decline", "tok_slow", "tok_no_webhooks", "tok_duplicate"] {
        assert!(traffic.asked.values().any(|asked| asked.token == token), "{token} was never sent");
    }
}
