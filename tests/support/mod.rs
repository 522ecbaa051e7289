//! What the integration and the crash tests stand on: a database each on one shared Postgres, keys, a caller,
//! receivers that believe nobody, and waiting that ends. Verifies with its own code, not the program's.

#![allow(dead_code, reason = "each test program uses its part")]

pub mod database;
pub mod hidden;
pub mod keys;
pub mod ledger;
pub mod rest;

use std::time::{Duration, Instant};

/// Generous, because nothing here asserts speed: only that a condition comes true at all.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks until there is an answer; panics when there is none in time.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, ask: impl FnMut() -> F) -> T {
    until_within(PATIENCE, what, ask).await
}

/// As [`until`], with another patience.
pub async fn until_within<T, F: Future<Output = Option<T>>>(
    patience: Duration,
    what: &str,
    mut ask: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A text that no other test has.
pub fn unique() -> String {
    uuid::Uuid::now_v7().simple().to_string()
}

/// An HTTP client that does what it is told and nothing else.
pub fn http_client() -> reqwest::Client {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .timeout(Duration::from_secs(30))
        .build()
        .unwrap()
}

/// A directory in the temporary place that goes with the value.
pub struct Scratch(pub std::path::PathBuf);

impl Scratch {
    pub fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("payoutd-test-{}", unique()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    pub fn file(&self, name: &str) -> std::path::PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Rubbish in the temporary directory at worst; a failure here would hide the test's own.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
