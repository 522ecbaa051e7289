//! The figures "Duplicates" and "Storm" of faults.md: webhooks that come a hundred times, at three
//! instances at once, forged, late or never; and a day's backlog within moments. What is counted is
//! asserted, what is timed is printed.

use crate::{
    collector::{self, Letter},
    oracle,
    scene::{Scene, Setup},
    seed::{self, chance},
    support::{http_client, rest::order, unique, until},
    traffic,
};
use fastrand::Rng;
use futures_util::{StreamExt, future::join_all, stream};
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};
use tokio::sync::mpsc::UnboundedReceiver;

/// Deliveries at once.
const AT_ONCE: usize = 20;
/// How often a webhook comes.
const TIMES: [usize; 4] = [1, 2, 5, 100];
const PAYOUTS: usize = 40;

/// Webhooks of a storm; the figure itself is 50,000.
const STORM_VARIABLE: &str = "PAYOUTD_TEST_STORM";
const STORM: usize = 3_000;
const STORM_AT_ONCE: usize = 200;
/// One in so many webhooks of a storm is new.
const NEW_ONE_IN: usize = 10;

/// One delivery: to which instance, and whether it is genuine.
struct Delivery {
    to: usize,
    letter: Letter,
    forged: bool,
}

#[derive(Default)]
struct Count {
    delivered: usize,
    forged: usize,
    dropped: usize,
    delayed: usize,
    told_to_come_back: usize,
    kept: BTreeSet<Vec<u8>>,
}

/// Brings webhooks to the instances.
struct Postman {
    http: reqwest::Client,
    urls: Vec<String>,
    chance: Rng,
    count: Count,
    late: Vec<Letter>,
}

impl Postman {
    fn new(scene: &Scene, seed: u64) -> Self {
        let urls =
            scene.running.iter().map(|running| format!("http://{}/pike/shop", running.webhook)).collect();
        Self { http: http_client(), urls, chance: chance(seed, 3), count: Count::default(), late: vec![] }
    }

    /// What becomes of a webhook: dropped, kept for later, or brought so often, and sometimes forged as well.
    fn plan(&mut self, letter: Letter) -> Vec<Delivery> {
        match self.chance.usize(0..10) {
            0 => {
                self.count.dropped += 1;
                return vec![];
            }
            1 => {
                self.count.delayed += 1;
                self.late.push(letter);
                return vec![];
            }
            2.. => {}
        }
        self.copies(&letter)
    }

    fn copies(&mut self, letter: &Letter) -> Vec<Delivery> {
        let times = *self.chance.choice(&TIMES).unwrap();
        let mut copies = vec![];
        for _ in 0..times {
            let to = self.chance.usize(0..self.urls.len());
            copies.push(Delivery { to, letter: letter.clone(), forged: false });
            if self.chance.usize(0..20) == 0 {
                copies.push(Delivery { to, letter: self.forge(letter), forged: true });
            }
        }
        copies
    }

    fn forge(&mut self, letter: &Letter) -> Letter {
        let mut forged = letter.clone();
        match self.chance.usize(0..3) {
            // Another amount, perhaps.
            0 => *forged.body.iter_mut().find(|byte| byte.is_ascii_digit()).unwrap() ^= 1,
            1 => forged.signature = crate::support::keys::rsa("payoutd.key.pem", &forged.body),
            _ => forged.signature.clear(),
        }
        forged
    }

    async fn bring(&mut self, mut deliveries: Vec<Delivery>) {
        self.chance.shuffle(&mut deliveries);
        let (http, urls) = (&self.http, &self.urls);
        let brought: Vec<_> = deliveries
            .into_iter()
            .map(|delivery| async move {
                let come_back = bring(http, &urls[delivery.to], &delivery).await;
                (delivery, come_back)
            })
            .collect();
        for (delivery, come_back) in stream::iter(brought).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await
        {
            self.count.told_to_come_back += come_back;
            if delivery.forged {
                self.count.forged += 1;
            } else {
                self.count.delivered += 1;
                self.count.kept.insert(Sha256::digest(&delivery.letter.body).to_vec());
            }
        }
    }
}

/// Brings it until it is not told to come back; how often it was.
async fn bring(http: &reqwest::Client, url: &str, delivery: &Delivery) -> usize {
    for told_to_come_back in 0..1_000 {
        let request = http.post(url).header("X-PARTNER-SIGN", &delivery.letter.signature);
        let answer = request.body(delivery.letter.body.clone()).send().await.unwrap();
        match answer.status().as_u16() {
            503 => tokio::time::sleep(Duration::from_millis(20)).await,
            401 if delivery.forged => return told_to_come_back,
            200 if !delivery.forged => return told_to_come_back,
            other => panic!("a webhook (forged: {}) was answered {other}", delivery.forged),
        }
    }
    panic!("nothing but 503");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webhooks_that_come_a_hundred_times_have_one_effect() {
    let seed = seed::seed("duplicates");
    let (collector, mut letters) = collector::open().await;
    let setup = Setup { instances: 3, webhooks_to: Some(collector), ..Setup::usual(seed) };
    let scene = Scene::open(setup.polling("2s")).await;
    let begun = Instant::now();
    let api = scene.caller();
    let ids =
        join_all((0..PAYOUTS).map(|_| async { traffic::create(&api, &order("tok_success")).await })).await;
    let mut postman = Postman::new(&scene, seed);
    bring_all(&scene, &mut postman, &mut letters).await;
    let before = oracle::payouts(&api).await;
    while let Ok(letter) = letters.try_recv() {
        postman.count.delayed += 1;
        postman.late.push(letter);
    }
    let late = std::mem::take(&mut postman.late);
    let deliveries = late.iter().flat_map(|letter| postman.copies(letter)).collect();
    postman.bring(deliveries).await;
    one_effect(&scene, &postman.count).await;
    let after = oracle::judge(&scene, &ids).await;
    for (id, payout) in &after {
        assert_eq!(payout["status"], before[id]["status"], "what came late changed {id}");
    }
    let Count { delivered, forged, dropped, delayed, told_to_come_back, kept } = postman.count;
    assert!(delivered > 100 && forged > 0 && dropped > 0 && delayed > 0, "a fault never struck");
    println!(
        "duplicates: {PAYOUTS} payouts, {} webhooks delivered {delivered} times, {forged} forgeries, \
         {dropped} dropped, {delayed} delayed past the end, {told_to_come_back} answers 503, {:.1?}: one \
         effect each, 0 forged accepted, 0 genuine refused",
        kept.len(),
        begun.elapsed()
    );
    scene.close().await;
}

/// Brings what Pike sends until every payout is final.
async fn bring_all(scene: &Scene, postman: &mut Postman, letters: &mut UnboundedReceiver<Letter>) {
    let mut settled = std::pin::pin!(oracle::settle(scene));
    let mut batch = vec![];
    loop {
        tokio::select! {
            () = &mut settled => return,
            _ = letters.recv_many(&mut batch, 64) => {
                let deliveries = batch.drain(..).flat_map(|letter| postman.plan(letter)).collect();
                postman.bring(deliveries).await;
            }
        }
    }
}

async fn one_effect(scene: &Scene, count: &Count) {
    let waiting = "SELECT count(*) FROM inbox WHERE done_at IS NULL";
    until("the inbox to be worked off", || async { (scene.count(waiting).await == 0).then_some(()) }).await;
    let kept: Vec<Vec<u8>> =
        sqlx::query_scalar("SELECT sha256(body) FROM inbox").fetch_all(&scene.pool).await.unwrap();
    assert_eq!(kept.len(), count.kept.len(), "each webhook is kept once");
    assert_eq!(kept.into_iter().collect::<BTreeSet<_>>(), count.kept);
    let twice = "SELECT count(*) FROM (SELECT payout_id FROM history
                 WHERE reason IN ('rules_confirm', 'confirm_accepted', 'paid')
                 GROUP BY payout_id, reason HAVING count(*) > 1) AS doubled";
    assert_eq!(scene.count(twice).await, 0, "decided twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_a_storm_was_told_is_kept_is_absent() {
    let seed = seed::seed("storm");
    let given = std::env::var(STORM_VARIABLE).ok().and_then(|text| text.parse().ok());
    let count: usize = given.unwrap_or(STORM);
    let scene = Scene::open(Setup::usual(seed)).await;
    let api = scene.caller();
    let calm = creating(&api, 20).await;
    let new: Vec<Letter> = (0..count / NEW_ONE_IN)
        .map(|_| {
            let session = format!(r#"{{"id":"ps_{}","status":"accepted"}}"#, unique());
            Letter::signed(format!(r#"{{"type":"payment_finished","session":{session}}}"#))
        })
        .collect();
    let mut chance = chance(seed, 4);
    let url = format!("http://{}/pike/shop", scene.running[0].webhook);
    let http = http_client();
    let begun = Instant::now();
    let storm = (0..count).map(|n| {
        // Each at least once, the rest by chance.
        let letter = new.get(n).unwrap_or_else(|| chance.choice(&new).unwrap()).clone();
        let request = http.post(&url).header("X-PARTNER-SIGN", &letter.signature).body(letter.body.clone());
        async move {
            let sent = Instant::now();
            let status = request.send().await.unwrap().status().as_u16();
            (status, sent.elapsed(), Sha256::digest(&letter.body).to_vec())
        }
    });
    // Collected first, because what makes them borrows.
    let storm: Vec<_> = storm.collect();
    let storm = stream::iter(storm).buffer_unordered(STORM_AT_ONCE).collect::<Vec<_>>();
    let (answers, under_way) = tokio::join!(storm, creating(&api, 20));
    let took = begun.elapsed();
    let looked_at = "SELECT count(*) FROM inbox WHERE fence = 0";
    until("the backlog to be looked at", || async { (scene.count(looked_at).await == 0).then_some(()) })
        .await;
    let drained = begun.elapsed() - took;
    oracle::settle(&scene).await;
    let kept: Vec<Vec<u8>> =
        sqlx::query_scalar("SELECT sha256(body) FROM inbox").fetch_all(&scene.pool).await.unwrap();
    let kept: BTreeSet<Vec<u8>> = kept.into_iter().collect();
    let mut statuses: BTreeMap<u16, usize> = BTreeMap::new();
    let mut times: Vec<Duration> = vec![];
    for (status, time, hash) in answers {
        assert!(matches!(status, 200 | 503), "answered {status}");
        assert!(status == 503 || kept.contains(&hash), "acknowledged and absent");
        *statuses.entry(status).or_default() += 1;
        times.push(time);
    }
    println!(
        "storm: {count} webhooks in {took:.1?}, answers {statuses:?}, p99 {:.0?}, looked at {drained:.1?} \
         after; 0 acknowledged but absent; orders: slowest {:.0?} before, {:.0?} meanwhile",
        p99(times),
        calm,
        under_way
    );
    let payouts = oracle::payouts(&api).await;
    assert!(payouts.values().all(|payout| payout["status"] == "succeeded"));
    scene.close().await;
}

/// Creates so many payouts one after another; the slowest.
async fn creating(api: &crate::support::rest::Api, count: usize) -> Duration {
    let mut slowest = Duration::ZERO;
    for _ in 0..count {
        let sent = Instant::now();
        traffic::create(api, &order("tok_success")).await;
        slowest = slowest.max(sent.elapsed());
    }
    slowest
}

fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() * 99 / 100]
}
