//! The sample payouts of `config/sample-payouts.jsonl`, sent and followed through the REST API like any
//! caller would. Their idempotency keys are fixed: a second start finds the first one's payouts.

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::{Client, StatusCode, redirect::Policy};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;
use std::{collections::BTreeMap, io::IsTerminal, net::SocketAddr, time::Duration};

const SAMPLE: &str = include_str!("../../config/sample-payouts.jsonl");
/// How long the sample may take; the slowest of it needs some seconds.
const FOLLOW_AT_MOST: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(150);

/// One line of the sample: a key and the request it stands for.
#[derive(Debug, Deserialize)]
pub(super) struct Order {
    key: String,
    request: Value,
}

/// What became of sending.
pub(super) struct Sent {
    pub ids: Vec<String>,
    /// How many the service had already.
    pub existing: usize,
}

/// A payout as the API shows it, as far as the table needs it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Shown {
    pub id: String,
    pub status: String,
    pub reference: Option<String>,
    pub amount: i64,
    pub currency: String,
    pub destination: Destination,
    pub status_details: Details,
    pub error: Option<ErrorShown>,
    /// What the rules said, where they stopped it.
    #[serde(skip)]
    pub because: Option<String>,
    #[serde(rename = "final")]
    pub is_final: bool,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Destination {
    pub r#type: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct ErrorShown {
    code: String,
}

impl Shown {
    /// The most telling code: Pike's for a failure, ours for the rest.
    pub(super) fn reason(&self) -> &str {
        match &self.error {
            Some(error) if self.status == "failed" => &error.code,
            Some(_) | None => &self.status_details.code,
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Details {
    pub code: String,
    pub message: String,
}

pub(super) struct Sample {
    http: Client,
    base: String,
    key: SecretString,
}

impl Sample {
    pub(super) fn new(api: SocketAddr, key: &SecretString) -> Result<Self> {
        let http =
            Client::builder().redirect(Policy::none()).no_proxy().timeout(Duration::from_secs(10)).build()?;
        Ok(Self { http, base: format!("http://{api}/v1/payouts"), key: key.clone() })
    }

    #[expect(clippy::unused_self, reason = "the sample is this struct's")]
    pub(super) fn orders(&self) -> Result<Vec<Order>> {
        let lines = SAMPLE.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
        lines.map(|line| serde_json::from_str(line).with_context(|| format!("sample line {line}"))).collect()
    }

    pub(super) async fn send(&self, orders: &[Order]) -> Result<Sent> {
        let mut sent = Sent { ids: vec![], existing: 0 };
        for order in orders {
            let response = self
                .http
                .post(&self.base)
                .bearer_auth(self.key.expose_secret())
                .header("Idempotency-Key", &order.key)
                .header("Content-Type", "application/json")
                .body(order.request.to_string())
                .send()
                .await?;
            let status = response.status();
            let body: Value = serde_json::from_slice(&response.bytes().await?)?;
            match status {
                StatusCode::CREATED => {}
                StatusCode::OK => sent.existing += 1,
                refused => bail!("the API refused sample payout {}: {refused} {body}", order.key),
            }
            sent.ids.push(body["id"].as_str().context("a payout without an id")?.to_owned());
        }
        Ok(sent)
    }

    /// Shows progress until nothing moves any more without a person.
    pub(super) async fn follow(&self, ids: &[String]) -> Result<Vec<Shown>> {
        let bar = ProgressBar::new(ids.len().try_into().unwrap_or(u64::MAX));
        bar.set_style(ProgressStyle::with_template("  {bar:30} {pos}/{len} settled   {msg}")?);
        let began = tokio::time::Instant::now();
        let mut last = String::new();
        loop {
            let payouts = self.look(ids).await?;
            let settled = payouts.iter().filter(|payout| settled(payout)).count();
            let counts = counts(&payouts);
            bar.set_position(settled.try_into().unwrap_or(u64::MAX));
            bar.set_message(counts.clone());
            if counts != last && !std::io::stderr().is_terminal() {
                eprintln!("  {settled}/{} settled   {counts}", ids.len());
            }
            last = counts;
            if settled == ids.len() || began.elapsed() > FOLLOW_AT_MOST {
                bar.finish();
                return self.explain(payouts).await;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Adds what the rules said about the payouts that they stopped.
    async fn explain(&self, mut payouts: Vec<Shown>) -> Result<Vec<Shown>> {
        for payout in &mut payouts {
            if !matches!(payout.status.as_str(), "on_hold" | "cancelled") {
                continue;
            }
            let history: Value = self.get(&format!("{}/{}/history", self.base, payout.id)).await?;
            let entries = history["data"].as_array().into_iter().flatten();
            let hits = entries.filter_map(|entry| entry["rules"]["hits"].as_array()).flatten();
            let details = hits.filter_map(|hit| hit["detail"].as_str());
            let because = details.collect::<Vec<_>>().join(", ");
            payout.because =
                (!because.is_empty()).then(|| format!("{} ({because})", payout.status_details.message));
        }
        Ok(payouts)
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, url: &str) -> Result<T> {
        let response = self.http.get(url).bearer_auth(self.key.expose_secret()).send().await?;
        Ok(serde_json::from_slice(&response.error_for_status()?.bytes().await?)?)
    }

    async fn look(&self, ids: &[String]) -> Result<Vec<Shown>> {
        let mut payouts = Vec::with_capacity(ids.len());
        for id in ids {
            payouts.push(self.get(&format!("{}/{id}", self.base)).await?);
        }
        Ok(payouts)
    }
}

fn settled(payout: &Shown) -> bool {
    payout.is_final || payout.status == "on_hold" || payout.status_details.code == "under_review"
}

fn counts(payouts: &[Shown]) -> String {
    let mut by_status = BTreeMap::new();
    for payout in payouts {
        *by_status.entry(payout.status.as_str()).or_insert(0_u32) += 1;
    }
    by_status.iter().map(|(status, count)| format!("{status} {count}")).collect::<Vec<_>>().join(" · ")
}
