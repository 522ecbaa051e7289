//! What must hold when the network is whole again: the sandbox's ledger, our database, what callers and Pike
//! were told, and what was seen on the wire.

use crate::{
    fault::Call,
    scene::Scene,
    support::{ledger::Ledger, rest::Api, until},
    wire::Seen,
};
use serde_json::Value;
use sqlx::PgPool;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

/// Generous: polls, leases, and a crowded machine.
const SETTLED_WITHIN: Duration = Duration::from_secs(90);

/// Payouts by id, as the API shows them.
pub type Payouts = BTreeMap<String, Value>;

/// Waits until no payout is under way any more and nothing is left to be called.
pub async fn settle(scene: &Scene) {
    let open = "SELECT (SELECT count(*) FROM payouts
                         WHERE next_check_at IS NOT NULL AND state <> 'succeeded')
                     + (SELECT count(*) FROM effects)";
    let deadline = Instant::now() + SETTLED_WITHIN;
    while scene.count(open).await > 0 {
        if Instant::now() > deadline {
            panic!("still under way: {:#?}", under_way(scene).await);
        }
        // Not to be in the way of what is waited for.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What is not final, with what is wanted next, for whoever has to find out why.
async fn under_way(scene: &Scene) -> Vec<String> {
    let sql = "SELECT concat_ws(' ', p.id, p.state, p.anomaly, 'due', p.next_check_at, e.kind, e.run_at,
                   'lease', e.lease_until, 'now', now(), (SELECT string_agg(concat_ws(' ', h.at, h.event,
                   h.decision, h.reason, h.detail), E'\n' ORDER BY seq) FROM history h
                   WHERE h.payout_id = p.id))
               FROM payouts p LEFT JOIN effects e ON e.payout_id = p.id
               WHERE (p.next_check_at IS NOT NULL AND p.state <> 'succeeded') OR e.id IS NOT NULL LIMIT 20";
    sqlx::query_scalar(sql).fetch_all(&scene.pool).await.unwrap()
}

/// Everything at once; `acknowledged` are the payouts that a caller was given a 2xx for.
pub async fn judge(scene: &Scene, acknowledged: &[String]) -> Payouts {
    let payouts = payouts(&scene.caller()).await;
    for id in acknowledged {
        assert!(payouts.contains_key(id), "{id} was acknowledged and is lost");
    }
    let ledger = scene.ledger().await;
    money_is_right(&payouts, &ledger);
    let log = scene.wire.log();
    nothing_is_sent_blindly(&log);
    webhooks_are_kept(&scene.pool, &log).await;
    stories_are_whole(scene).await;
    payouts
}

/// Everything that the API lists.
pub async fn payouts(api: &Api) -> Payouts {
    let (mut all, mut cursor) = (BTreeMap::new(), String::new());
    loop {
        let path = format!("/v1/payouts?limit=200{cursor}");
        // A crowded machine may say 503, and then it says so again until it does not.
        let ask = || async { Some(api.get(&path).await).filter(|page| page.status != 503) };
        let page = until("the list of payouts", ask).await;
        assert_eq!(page.status, 200, "{}", page.text);
        for payout in page.body["data"].as_array().unwrap() {
            all.insert(payout["id"].as_str().unwrap().to_owned(), payout.clone());
        }
        let Some(next) = page.body["next_cursor"].as_str() else { return all };
        cursor = format!("&cursor={next}");
    }
}

/// What was seen of a session, for whoever has to find out why.
pub fn of_session<'a>(log: &'a [Seen], session: &str) -> Vec<&'a Seen> {
    let is_of_it = |seen: &&Seen| match seen {
        Seen::Sent(_, of) | Seen::Through(_, of) | Seen::Answered(_, of, ..) | Seen::Back(_, of) => {
            of.as_deref() == Some(session)
        }
    };
    log.iter().filter(is_of_it).collect()
}

fn number(line: &Value, name: &str) -> u64 {
    line[name].as_u64().unwrap()
}

/// O1, O2, O3, O7: started once, confirmed before it was paid, paid once, called paid if and only if it was.
pub fn money_is_right(payouts: &Payouts, ledger: &Ledger) {
    let sessions = ledger.by_payout();
    let mut out = 0;
    for (id, payout) in payouts {
        let none = vec![];
        let lines = sessions.get(id.as_str()).unwrap_or(&none);
        assert!(lines.len() <= 1, "{id} was started in several sessions: {lines:?}");
        let paid: Vec<_> = lines.iter().filter(|line| number(line, "paid_times") > 0).collect();
        assert_eq!(payout["final"], true, "{payout}");
        assert_eq!(payout["status"] == "succeeded", paid.len() == 1, "{payout}\n{lines:?}");
        if let Some(line) = paid.first() {
            assert_eq!(line["id"], payout["provider"]["session_id"]);
            assert_eq!(line["amount"], payout["amount"]);
            assert_eq!(number(line, "confirms_accepted"), 1, "paid without a confirm: {line}");
            out += line["amount"].as_i64().unwrap();
        }
    }
    for line in ledger.sessions() {
        for name in ["starts", "payouts", "confirms_accepted", "paid_times"] {
            assert!(number(line, name) <= 1, "{name}: {line}");
        }
        let (confirms, cancels) = (number(line, "confirms_accepted"), number(line, "cancels_accepted"));
        assert!(confirms == 0 || cancels == 0, "both words were said: {line}");
    }
    assert_eq!(ledger.money_out(), out, "money left for nobody");
}

/// A start leaves payoutd once. A confirm or cancel leaves it again only after something was heard about the
/// session in between. Counted where the bytes passed, so Pike's own refusals save nobody.
pub fn nothing_is_sent_blindly(log: &[Seen]) {
    let mut starts: BTreeMap<&str, usize> = BTreeMap::new();
    // Whether something was heard since the word was last said.
    let mut said: BTreeMap<(Call, &str), bool> = BTreeMap::new();
    for seen in log {
        match seen {
            Seen::Sent(Call::Start, Some(session)) => {
                let times = starts.entry(session).or_default();
                *times += 1;
                assert!(*times == 1, "{session} was started {times} times");
            }
            Seen::Sent(call @ (Call::Confirm | Call::Cancel), Some(session)) => {
                let heard = said.insert((*call, session), false);
                let story = || of_session(log, session);
                assert!(heard != Some(false), "{call:?} of {session} was sent again blindly: {:#?}", story());
            }
            Seen::Answered(Call::Status, Some(session), 200, _)
            | Seen::Through(Call::Webhook, Some(session)) => {
                for call in [Call::Confirm, Call::Cancel] {
                    said.entry((call, session)).and_modify(|heard| *heard = true);
                }
            }
            Seen::Sent(..) | Seen::Through(..) | Seen::Answered(..) | Seen::Back(..) => {}
        }
    }
}

/// O5: every webhook that was answered 200 is in the inbox.
async fn webhooks_are_kept(pool: &PgPool, log: &[Seen]) {
    let kept: Vec<Vec<u8>> =
        sqlx::query_scalar("SELECT sha256(body) FROM inbox").fetch_all(pool).await.unwrap();
    let kept: BTreeSet<Vec<u8>> = kept.into_iter().collect();
    for seen in log {
        if let Seen::Answered(Call::Webhook, session, 200, hash) = seen {
            assert!(kept.contains(hash.as_slice()), "a webhook of {session:?} was acknowledged and is lost");
        }
    }
}

/// O6, O8: each history is gap-free and ends where its payout stands, nothing is flagged, nothing is left.
async fn stories_are_whole(scene: &Scene) {
    for (what, sql) in [
        (
            "histories with gaps",
            "SELECT count(*) FROM payouts p
             WHERE p.version IS DISTINCT FROM (SELECT max(seq) FROM history h WHERE h.payout_id = p.id)
                OR p.version <> (SELECT count(*) FROM history h WHERE h.payout_id = p.id)",
        ),
        ("payouts with an anomaly", "SELECT count(*) FROM payouts WHERE anomaly IS NOT NULL"),
        ("secrets kept", "SELECT count(*) FROM payouts WHERE destination_secret IS NOT NULL"),
        ("effects left", "SELECT count(*) FROM effects"),
        (
            "confirms without a permit",
            "SELECT count(*) FROM payouts p WHERE p.state = 'succeeded' AND NOT EXISTS
             (SELECT FROM permits m WHERE m.payout_id = p.id AND m.kind = 'confirm')",
        ),
    ] {
        assert_eq!(scene.count(sql).await, 0, "{what}");
    }
}
