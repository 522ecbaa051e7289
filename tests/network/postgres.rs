//! Postgres behind a network that fails. Whatever it does, what was acknowledged is in the database,
//! nothing is paid twice, and the service goes on by itself once the database can be reached.

use crate::{
    oracle,
    pg_line::{AtCommit, PgLine},
    proxy::Proxy,
    scene::{Scene, Setup},
    seed,
    support::{
        database::Database,
        http_client, keys,
        rest::{Api, order},
        unique, until,
    },
    traffic,
};
use futures_util::{StreamExt, stream};
use payoutd::sandbox::SecondStart;
use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::JoinHandle;

const TOKENS: [&str; 6] =
    ["tok_success", "tok_decline", "tok_country_PRK", "tok_no_webhooks", "tok_confirm_lost", "tok_success"];

/// Callers at once.
const CALLERS: usize = 8;

struct Stage {
    scene: Scene,
    line: Arc<PgLine>,
    door: Proxy,
}

impl Stage {
    async fn open(seed: u64) -> Self {
        let db = Database::new().await;
        let mut url = reqwest::Url::parse(db.url()).unwrap();
        let real = SocketAddr::from(([127, 0, 0, 1], url.port().unwrap()));
        let line = Arc::new(PgLine::new(seed));
        let door = Proxy::open(real, Arc::clone(&line)).await;
        url.set_port(Some(door.addr.port())).unwrap();
        let setup = Setup { second_start: SecondStart::Add, ..Setup::usual(seed) };
        let scene = Scene::on(db, url.as_str(), setup).await;
        Self { scene, line, door }
    }

    /// Orders one after another from several callers, as long as the test lets them.
    fn send(&self, count: usize) -> JoinHandle<Vec<traffic::Told>> {
        let api = self.scene.caller();
        tokio::spawn(async move {
            let orders = stream::iter(0..count).map(|n| {
                let (api, order) = (api.clone(), order(TOKENS[n % TOKENS.len()]));
                async move { traffic::send(&api, &order).await }
            });
            orders.buffer_unordered(CALLERS).collect().await
        })
    }

    /// Waits for all that was sent and judges everything; how often callers were told to come back.
    async fn end(self, sending: JoinHandle<Vec<traffic::Told>>) -> usize {
        let told = sending.await.unwrap();
        let ids: Vec<String> = told.iter().map(|told| told.answer.id()).collect();
        for told in &told {
            assert!(matches!(told.answer.status, 200 | 201), "{}", told.answer.text);
        }
        oracle::settle(&self.scene).await;
        let payouts = oracle::judge(&self.scene, &ids).await;
        assert_eq!(payouts.len(), told.len(), "one payout for each key");
        assert!(payouts.values().any(|payout| payout["status"] == "succeeded"));
        self.scene.close().await;
        told.iter().map(|told| told.unavailable).sum()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_way_to_postgres_costs_only_time() {
    let stage = Stage::open(seed::seed("latency")).await;
    stage.line.delay(Duration::from_millis(15));
    let begun = Instant::now();
    let sending = stage.send(60);
    let refused = stage.end(sending).await;
    println!("latency: 60 payouts in {:.1?}, {refused} answers 503", begun.elapsed());
}

async fn commits_are_struck(what: &str, faults: &[AtCommit], one_in: usize) {
    let stage = Stage::open(seed::seed(what)).await;
    stage.line.strike_commits(faults, one_in);
    let begun = Instant::now();
    let sending = stage.send(60);
    let struck = || async {
        let struck = stage.line.struck();
        faults.iter().all(|fault| struck.get(fault).is_some_and(|times| *times >= 3)).then_some(struck)
    };
    let struck = until("enough COMMITs to be struck", struck).await;
    stage.line.strike_commits(&[], 1);
    let whole = Instant::now();
    let refused = stage.end(sending).await;
    println!(
        "{what}: {struck:?}, {refused} answers 503, settled {:.1?} after the last fault, {:.1?} in all",
        whole.elapsed(),
        begun.elapsed()
    );
}

/// D3: neither side of a lost COMMIT is taken for the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_is_cut_happened_or_did_not() {
    commits_are_struck("cut commits", &[AtCommit::LoseRequest, AtCommit::LoseAnswer], 6).await;
}

/// D7 in the middle of a COMMIT: the connection is dead and nobody says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_is_swallowed_stops_nobody_for_ever() {
    commits_are_struck("swallowed commits", &[AtCommit::HoleBefore, AtCommit::HoleBehind], 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resets_at_random_lose_nothing() {
    let seed = seed::seed("resets");
    let stage = Stage::open(seed).await;
    let (mut chance, sending) = (seed::chance(seed, 2), stage.send(150));
    let mut resets = 0;
    while resets < 15 || stage.line.broken() < 30 {
        // The moment is what this test varies, not something it waits for.
        tokio::time::sleep(Duration::from_millis(chance.u64(5..120))).await;
        stage.line.reset_all();
        resets += 1;
    }
    let broken = stage.line.broken();
    let refused = stage.end(sending).await;
    println!("resets: {resets} of all, {broken} connections broken, {refused} answers 503");
}

/// D7: every connection is dead at once, idle or in the middle of something, and nobody says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_die_silently_stop_nobody_for_ever() {
    let stage = Stage::open(seed::seed("silence")).await;
    let sending = stage.send(200);
    let begun = Instant::now();
    for round in 1..=3 {
        let under_way = || async { (stage.scene.wire.log().len() > 150 * round).then_some(()) };
        until("traffic", under_way).await;
        stage.line.silence_all();
        let silenced = Instant::now();
        let api = stage.scene.caller();
        traffic::create(&api, &order("tok_success")).await;
        println!("silence {round}: the next order was acknowledged after {:.1?}", silenced.elapsed());
    }
    assert!(stage.line.broken() > 10, "{} connections went silent", stage.line.broken());
    let sent = sending.await.unwrap();
    let ids: Vec<String> = sent.iter().map(|told| told.answer.id()).collect();
    oracle::settle(&stage.scene).await;
    println!("silence: everything was final {:.1?} after the first order", begun.elapsed());
    assert_eq!(oracle::judge(&stage.scene, &ids).await.len(), ids.len() + 3);
    stage.scene.close().await;
}

/// D6, D11, B18: while Postgres cannot be reached callers and Pike are told to come back, nothing is
/// acknowledged, and nobody has to help afterwards.
async fn unreachable(stage: &mut Stage, api: &Api) -> (usize, usize) {
    let hook = http_client();
    let (mut orders, mut webhooks) = (0, 0);
    while orders < 3 || webhooks < 3 {
        let answer = api.create_with_key(&unique(), &order("tok_success")).await;
        assert_eq!(answer.status, 503, "{}", answer.text);
        orders += 1;
        let body = format!(r#"{{"type":"ready_to_confirm","session":{{"id":"ps_{}"}}}}"#, unique());
        let signature = keys::rsa("pike.key.pem", body.as_bytes());
        let url = format!("http://{}/pike/shop", stage.scene.running[0].webhook);
        let request = hook.post(url).header("X-PARTNER-SIGN", signature).body(body);
        assert_eq!(request.send().await.unwrap().status(), 503);
        webhooks += 1;
    }
    (orders, webhooks)
}

async fn comes_back(mut stage: Stage, what: &str, refused: bool) {
    let api = stage.scene.caller();
    let sending = stage.send(30);
    let under_way = || async { (stage.scene.wire.log().len() > 40).then_some(()) };
    until("traffic", under_way).await;
    if refused {
        stage.door.refuse().await;
        stage.line.reset_all();
    } else {
        stage.line.part(true);
    }
    let (orders, webhooks) = unreachable(&mut stage, &api).await;
    if refused {
        stage.door.accept().await;
    } else {
        stage.line.part(false);
    }
    let back = Instant::now();
    traffic::create(&api, &order("tok_success")).await;
    let served = back.elapsed();
    let told = sending.await.unwrap();
    let ids: Vec<String> = told.iter().map(|told| told.answer.id()).collect();
    oracle::settle(&stage.scene).await;
    println!(
        "{what}: {orders} orders and {webhooks} webhooks answered 503; serving {served:.1?} after, all final \
         {:.1?} after",
        back.elapsed()
    );
    assert_eq!(oracle::judge(&stage.scene, &ids).await.len(), 31);
    stage.scene.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_refuses_is_waited_for() {
    comes_back(Stage::open(seed::seed("refusing")).await, "refusing Postgres", true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_is_silent_is_waited_for() {
    comes_back(Stage::open(seed::seed("parted")).await, "silent Postgres", false).await;
}
