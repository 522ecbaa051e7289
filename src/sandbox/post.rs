//! The sandbox's own motion: lets due things happen and brings webhooks to their receivers, a bounded number
//! at a time. Only HTTP 200 counts; anything else is tried again on the schedule until that ends.

use std::collections::HashMap;
use std::sync::Arc;

use reqwest::header::CONTENT_TYPE;
use tokio::sync::{Semaphore, mpsc};

use super::Sandbox;
use super::faults::Seal;
use super::http::SIGNATURE_HEADER;
use super::keys::SigningKey;
use super::ledger::{Event, Reception, What};
use super::scalars::At;
use super::settings::Timing;
use super::world::{Job, World};

/// Webhooks of one project on the wire at one time: enough for a fast receiver, too few to drown a slow one.
const WEBHOOKS_AT_ONCE: usize = 64;
/// Due things handled per turn of the lock, so that calls get in between.
const JOBS_PER_TURN: usize = 64;
/// An answer's body up to this length is read, so that its connection can be used again.
const ANSWER_BODY_LIMIT: u64 = 16 * 1024;

/// A webhook, ready to be attempted.
struct Letter {
    url: Arc<str>,
    body: Box<str>,
    signature: Option<String>,
    seal: Seal,
}

/// How a webhook left.
struct Attempt {
    signature: Option<String>,
    seal: Seal,
}

impl Sandbox {
    /// The bytes and the signature that go out.
    fn seal(&self, mut body: Vec<u8>, known: Option<String>, seal: Seal) -> (Vec<u8>, Option<String>) {
        let genuine = |body: &[u8]| known.unwrap_or_else(|| self.signing_key.sign(body));
        match seal {
            Seal::Genuine => {
                let signature = genuine(&body);
                (body, Some(signature))
            }
            Seal::Corrupt => {
                let signature = genuine(&body);
                let middle = body.len() / 2;
                body.iter_mut().skip(middle).take(1).for_each(|byte| *byte ^= 1);
                (body, Some(signature))
            }
            Seal::WrongSignature => {
                let signature = self.signing_key.sign(b"{\"type\":\"another\"}");
                (body, Some(signature))
            }
            Seal::ForeignKey => {
                let signature = self.foreign_key.get_or_init(SigningKey::generate).sign(&body);
                (body, Some(signature))
            }
            Seal::Unsigned => (body, None),
        }
    }
}

impl World {
    /// The project whose webhook this is. One of a project that is served no more is given up.
    fn addressee(&mut self, id: u64) -> Option<Box<str>> {
        let project = self.state.deliveries.get(&id)?.project.clone();
        if self.constitution.webhook_url(&project).is_some() {
            return Some(project);
        }
        self.state.ledger.totals_of(&project).webhooks_given_up += 1;
        self.end_delivery(id);
        None
    }

    fn letter(&self, id: u64) -> Option<Letter> {
        let delivery = self.state.deliveries.get(&id)?;
        let url = self.constitution.webhook_url(&delivery.project)?;
        let seal = if delivery.failures == 0 { delivery.seal } else { Seal::Genuine };
        Some(Letter { url, body: delivery.body.clone(), signature: delivery.signature.clone(), seal })
    }

    /// Books an attempt: done, due again, or given up.
    fn book_attempt(&mut self, id: u64, attempt: Attempt, reception: Reception, now: At) {
        if self.closed {
            return;
        }
        let Some(delivery) = self.state.deliveries.get_mut(&id) else { return };
        self.dirty = true;
        let forged = attempt.seal != Seal::Genuine;
        let what = What::Webhook { kind: delivery.kind, attempt: delivery.failures + 1, reception, forged };
        if let Some(record) = self.state.sessions.get_mut(&delivery.session) {
            record.page.webhook_attempts += 1;
            record.page.append(Event { at: now, what });
        }
        let totals = self.state.ledger.totals_of(&delivery.project);
        totals.webhook_attempts += 1;
        let delivered = reception == Reception::Http(200);
        totals.forgeries += u64::from(forged);
        totals.forgeries_accepted += u64::from(forged && delivered);
        delivery.failures += u32::from(!delivered);
        match self.constitution.attempt_due(delivery.born, delivery.failures) {
            Some(due) if !delivered => {
                delivery.signature = attempt.signature.filter(|_| !forged);
                delivery.due = due;
                self.agenda.insert((due, Job::Delivery(id)));
            }
            Some(_) | None => {
                totals.webhooks_delivered += u64::from(delivered);
                totals.webhooks_given_up += u64::from(!delivered);
                self.end_delivery(id);
            }
        }
    }
}

/// The client for webhooks: what Pike would not do on its own is switched off.
///
/// # Errors
/// When TLS cannot be set up.
pub fn webhook_client(timing: &Timing) -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .timeout(timing.webhook_timeout)
        .pool_max_idle_per_host(WEBHOOKS_AT_ONCE)
        .build()
}

/// Lets time pass, until cancelled.
pub async fn pass_time(sandbox: Arc<Sandbox>, letters: mpsc::UnboundedSender<u64>) {
    loop {
        let now = sandbox.now();
        let (due_letters, next_due) = {
            let mut world = sandbox.world();
            (world.pass(now, JOBS_PER_TURN), world.next_due())
        };
        if due_letters.into_iter().any(|letter| letters.send(letter).is_err()) {
            return;
        }
        match next_due {
            Some(due) if due <= now => tokio::task::yield_now().await,
            Some(due) => {
                let wait = due.since(sandbox.now());
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = sandbox.agenda_changed.notified() => {}
                }
            }
            None => sandbox.agenda_changed.notified().await,
        }
    }
}

/// Attempts the webhooks that are due, until cancelled. The queue between the two loops holds numbers only;
/// the webhooks themselves are in the state.
pub async fn carry(
    sandbox: Arc<Sandbox>,
    client: reqwest::Client,
    mut letters: mpsc::UnboundedReceiver<u64>,
) {
    let mut permits: HashMap<Box<str>, Arc<Semaphore>> = HashMap::new();
    let mut under_way = tokio::task::JoinSet::new();
    while let Some(id) = letters.recv().await {
        while under_way.try_join_next().is_some() {}
        let Some(project) = sandbox.world().addressee(id) else { continue };
        // Each project waits for its own receiver only.
        let permits = permits.entry(project).or_insert_with(|| Arc::new(Semaphore::new(WEBHOOKS_AT_ONCE)));
        let (sandbox, client, permits) = (Arc::clone(&sandbox), client.clone(), Arc::clone(permits));
        under_way.spawn(async move {
            let _permit = permits.acquire_owned().await.expect("never closed");
            attempt(&sandbox, &client, id).await;
        });
    }
}

async fn attempt(sandbox: &Sandbox, client: &reqwest::Client, id: u64) {
    let Some(letter) = sandbox.world().letter(id) else {
        tracing::debug!(delivery = id, "a webhook has no receiver any more");
        return;
    };
    let Letter { url, body, signature, seal } = letter;
    let (body, signature) = sandbox.seal(body.into_string().into_bytes(), signature, seal);
    let mut request = client.post(&*url).header(CONTENT_TYPE, "application/json").body(body);
    if let Some(signature) = &signature {
        request = request.header(SIGNATURE_HEADER, signature);
    }
    let reception = match request.send().await {
        Ok(response) => {
            let status = response.status().as_u16();
            if response.content_length().is_some_and(|length| length <= ANSWER_BODY_LIMIT) {
                // The status has said it all; a body that breaks off changes nothing.
                drop(response.bytes().await);
            }
            Reception::Http(status)
        }
        Err(error) if error.is_timeout() => Reception::TimedOut,
        Err(_) => Reception::Unreachable,
    };
    tracing::debug!(delivery = id, ?reception, "attempted a webhook");
    sandbox.world().book_attempt(id, Attempt { signature, seal }, reception, sandbox.now());
    if reception != Reception::Http(200) {
        sandbox.agenda_changed.notify_one();
    }
}
