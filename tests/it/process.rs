//! `payoutd serve` as a process: what it logs, what it never logs, and how it ends.

use crate::{
    support::{
        hidden,
        rest::{Api, order, order_of},
        until,
    },
    world::World,
};
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    process::Stdio,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    task::JoinHandle,
};

/// A running process with the lines it has written.
struct Served {
    process: Child,
    lines: Arc<Mutex<Vec<String>>>,
    reading: JoinHandle<()>,
    api: SocketAddr,
}

impl Served {
    /// Takes the place of a world's payoutd.
    async fn start(world: &World) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_payoutd"))
            .args(["serve", "--config"])
            .arg(world.dir.file("payoutd.toml"))
            .env("DATABASE_URL", world.db.url())
            .env_remove("PAYOUTD_LOG")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = Arc::new(Mutex::new(vec![]));
        let (mut source, sink) = (BufReader::new(process.stdout.take().unwrap()).lines(), Arc::clone(&lines));
        let reading = tokio::spawn(async move {
            while let Some(line) = source.next_line().await.unwrap() {
                sink.lock().unwrap().push(line);
            }
        });
        let ready = || async { lines.lock().unwrap().iter().find(|line| line.contains("is ready")).cloned() };
        let ready: Value = serde_json::from_str(&until("payoutd to be ready", ready).await).unwrap();
        let address = |name: &str| ready[name].as_str().unwrap().parse().unwrap();
        world.hooks.lead_to(Some(address("webhook")));
        Self { process, lines, reading, api: address("api") }
    }

    /// SIGTERM; then everything it has written, parsed.
    async fn stop(mut self) -> Vec<Value> {
        let pid = self.process.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
        let ended = self.process.wait().await.unwrap();
        assert!(ended.success(), "{ended}");
        self.reading.await.unwrap();
        let lines = self.lines.lock().unwrap();
        lines.iter().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
    }
}

#[tokio::test]
async fn each_transition_is_one_line_and_no_line_tells_a_secret() {
    let mut world = World::open().await;
    world.stop().await;
    let served = Served::start(&world).await;
    let api = Api::new(format!("http://{}", served.api), &world.keys["caller"]);
    let mut good = order("tok_success_canary");
    good["recipient"]["name"] = json!("Canary Birdsong");
    good["metadata"] = json!({ "note": "canary" });
    let paid = api.run(&good, "succeeded").await;
    let id = api.create(&order_of("tok_wrong_amount_canary", 125_050)).await;
    api.wait(&id, "final", |payout| payout["final"] == true).await;
    let card = json!({ "amount": 1, "destination": { "type": "bank_card", "pan": "4111111111111111" } });
    assert_eq!(api.create_with_key("k", &card).await.status, 422);
    let history = api.history(paid["id"].as_str().unwrap()).await;
    let lines = served.stop().await;
    let transitions: Vec<_> = lines
        .iter()
        .filter(|line| line["payout"] == paid["id"] && line["message"] == "payout event recorded")
        .collect();
    assert_eq!(transitions.len(), history.len() - 1, "all but the creation: {transitions:#?}");
    for (line, entry) in transitions.iter().zip(&history[1..]) {
        for name in ["seq", "event", "decision", "reason"] {
            assert_eq!(line[name], entry[name], "{line}");
        }
        assert_eq!((&line["from"], &line["to"]), (&entry["from_state"], &entry["to_state"]));
        assert_eq!((&line["level"], &line["project"]), (&json!("INFO"), &json!("shop")));
    }
    let alarm = lines.iter().find(|line| line["level"] == "ERROR" && line["payout"] == id.as_str());
    assert_eq!(alarm.expect("an alarm for the wrong amount")["anomaly"], "other_amount");
    let everything = format!("{lines:?}");
    for secret in
        ["tok_success_canary", "Canary Birdsong", "4111111111111111"].into_iter().chain(world.api_secrets())
    {
        assert!(!hidden::is_in(&everything, secret), "{secret} was logged");
    }
    let everything = everything.to_lowercase();
    let secrets = world.api_secrets().map(str::to_lowercase);
    let canaries = ["canary", "birdsong", "anna", "4111", "whsec_", "private key"].map(str::to_owned);
    for secret in canaries.into_iter().chain(secrets) {
        assert!(!everything.contains(&secret), "{secret} was logged");
    }
    assert!(everything.contains("payoutd has stopped"));
}

/// Its memory holds keys and tokens: whatever becomes of it, no image of that is written.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn it_leaves_no_core_file() {
    let mut world = World::open().await;
    world.stop().await;
    let served = Served::start(&world).await;
    let limits = format!("/proc/{}/limits", served.process.id().unwrap());
    let limits = std::fs::read_to_string(limits).unwrap();
    let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().collect::<Vec<_>>(), ["0", "0", "bytes"], "now and for ever");
    served.stop().await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let world = World::open().await;
    let taken = world.running().api.to_string();
    let config = std::fs::read_to_string(world.dir.file("payoutd.toml")).unwrap();
    let other = world.dir.file("other.toml");
    std::fs::write(
        &other,
        config.replace("api.listen = \"127.0.0.1:0\"", &format!("api.listen = {taken:?}")),
    )
    .unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_payoutd"))
        .args(["serve", "--config"])
        .arg(other)
        .env("DATABASE_URL", world.db.url())
        .output()
        .await
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && told.contains("api.listen") && told.contains(&taken), "{told}");
}
