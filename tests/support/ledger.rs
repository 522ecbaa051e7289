//! What really happened, as the sandbox books it. Never computed from what payoutd says about itself.

use super::http_client;
use serde_json::Value;
use std::collections::BTreeMap;

/// A look into the sandbox's ledger.
pub struct Ledger(pub Value);

impl Ledger {
    /// Asks the sandbox at `base`.
    pub async fn read(base: &str) -> Self {
        Self::read_by(&http_client(), base).await
    }

    /// The same with a client that is there already.
    pub async fn read_by(http: &reqwest::Client, base: &str) -> Self {
        let url = format!("{base}/_sandbox/ledger");
        let answer = http.get(url).send().await.unwrap().bytes().await.unwrap();
        Self(serde_json::from_slice(&answer).unwrap())
    }

    /// The lines of all sessions that were started for a payout; `session/create` alone names none.
    pub fn started(&self, payout: &str) -> Vec<&Value> {
        self.by_payout().remove(payout).unwrap_or_default()
    }

    /// The one session that was started for a payout.
    pub fn session(&self, payout: &str) -> &Value {
        let mut lines = self.started(payout);
        assert_eq!(lines.len(), 1, "sessions of {payout}: {lines:?}");
        lines.remove(0)
    }

    pub fn sessions(&self) -> &Vec<Value> {
        self.0["sessions"].as_array().unwrap()
    }

    /// The lines of started sessions by the payout in their metadata, `<payout>/<attempt>`.
    pub fn by_payout(&self) -> BTreeMap<&str, Vec<&Value>> {
        let mut by_payout: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
        for line in self.sessions() {
            let tag = line["metadata"].as_str().and_then(|tag| tag.split_once('/'));
            if let Some((payout, _)) = tag {
                by_payout.entry(payout).or_default().push(line);
            }
        }
        by_payout
    }

    pub fn total(&self, name: &str) -> u64 {
        self.0["totals"][name].as_u64().unwrap()
    }

    /// Minor units paid out.
    pub fn money_out(&self) -> i64 {
        let money = self.0["totals"]["money"].as_array().unwrap();
        money.iter().map(|line| line["out"].as_i64().unwrap()).sum()
    }

    /// Minor units that left for one payout and stayed away or came back: money moved at all.
    pub fn times_paid(&self, payout: &str) -> u64 {
        self.started(payout).iter().map(|line| line["paid_times"].as_u64().unwrap()).sum()
    }
}
