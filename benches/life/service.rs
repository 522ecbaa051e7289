//! The services that are measured, each started as a process of its own on a database of its own.

use crate::load::Door;
use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// What every service is told.
pub struct Stage {
    /// Keys, settings and logs.
    pub dir: PathBuf,
    pub pike: String,
    pub told: String,
    /// The connections of the service by hand.
    pub connections: u32,
}

/// A service that takes orders. Stopped when it is dropped.
pub struct Service {
    process: Child,
    pub door: Door,
    /// Where Pike's webhooks go.
    pub hook: String,
    /// From the start of the process until it was ready.
    pub ready_after: Duration,
}

impl Service {
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Waits until `ready` says yes.
    pub async fn spawn(mut command: Command, door: Door, hook: String, ready: &str) -> Self {
        let began = Instant::now();
        let process = command.stdin(Stdio::null()).spawn().unwrap();
        let mut service = Self { process, door, hook, ready_after: Duration::ZERO };
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        while !http.get(ready).send().await.is_ok_and(|answer| answer.status().as_u16() < 500) {
            if let Some(ended) = service.process.try_wait().unwrap() {
                panic!("{command:?} ended: {ended}");
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        service.ready_after = began.elapsed();
        service
    }

    /// As an operator would stop it.
    pub async fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        for _ in 0..500 {
            if self.process.try_wait().unwrap().is_some() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The service by hand: this program, called otherwise.
pub async fn by_hand(stage: &Stage, url: &str) -> Service {
    crate::minimal::prepare(url).await;
    let port = free_port();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["by-hand", "--listen", &format!("127.0.0.1:{port}"), "--api-key", "key-of-one-caller"])
        .args(["--pike", &stage.pike, "--notify", &stage.told])
        .args(["--connections", &stage.connections.to_string()])
        .arg("--key")
        .arg(keys(&stage.dir).join("payoutd.key.pem"))
        .arg("--secret")
        .arg(stage.dir.join("webhook.secret"))
        .env("DATABASE_URL", url);
    let door =
        Door { orders: format!("http://127.0.0.1:{port}/v1/payouts"), key: "key-of-one-caller".to_owned() };
    let (hook, ready) = (format!("http://127.0.0.1:{port}/pike"), format!("http://127.0.0.1:{port}/"));
    Service::spawn(command, door, hook, &ready).await
}

pub fn keys(dir: &Path) -> PathBuf {
    dir.join("keys")
}
