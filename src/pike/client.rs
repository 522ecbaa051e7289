//! The HTTP client. Each call is sent at most once: no redirects, no retries, no proxies; both time-outs set,
//! the answer's size capped, nothing decompressed.

use super::{
    outcome::{self, Answer, Condition, Reply},
    sign::{Signer, SigningFailed},
    wait,
    wire::{self, ApiVersion},
};
use crate::{
    crash_point,
    domain::{
        effect::EffectKind,
        event::Outcome,
        id::{ProjectId, SessionId},
        money::Money,
        payout::DestinationKind,
    },
};
use quick_cache::sync::Cache;
use reqwest::{Client, Response, Url, header::CONTENT_TYPE, redirect::Policy};
use std::{
    collections::BTreeMap,
    error::Error,
    sync::Arc,
    time::{Duration, Instant},
};

/// Sessions whose one signature (confirm, cancel and status share a body) is kept. About 0.5 KiB each.
const KEPT_SIGNATURES: usize = 10_000;

/// How Pike is reached.
#[derive(Clone, Debug)]
pub struct PikeSettings {
    /// Scheme, host and port; `/api/v…` is added.
    pub base_url: String,
    pub version: ApiVersion,
    pub connect_timeout: Duration,
    /// For the whole call, answer included.
    pub total_timeout: Duration,
    pub max_response_bytes: usize,
}

/// A project's identity at Pike.
#[derive(Debug)]
pub struct PikeProject {
    /// `X-PARTNER-PROJECT`.
    pub pike_project: String,
    /// `X-PARTNER-SUBMERCHANT`, where the contract asks for one.
    pub submerchant: Option<String>,
    pub signer: Signer,
}

/// One call to make. No `Debug`: it carries the destination's secret.
pub struct Call {
    pub project: ProjectId,
    pub kind: EffectKind,
    /// `None` only for `CreateSession`.
    pub session: Option<SessionId>,
    pub amount: Money,
    pub destination: DestinationKind,
    pub destination_secret: Option<String>,
    pub recipient_name: String,
    pub customer_reference: String,
    pub metadata_tag: String,
    /// `X-PARTNER-IDEMPOTENCY-KEY`: Pike refuses a repeated one. Safety never depends on it.
    pub idempotency_key: Option<String>,
}

/// The client for all projects.
#[derive(Debug)]
pub struct Pike {
    http: Client,
    settings: PikeSettings,
    /// What a method's name is added to.
    url: Url,
    projects: BTreeMap<ProjectId, Signed>,
    signatures: Cache<(ProjectId, SessionId), Arc<str>>,
}

#[derive(Debug)]
struct Signed {
    project: PikeProject,
    /// The signature over the constant create body.
    create: Arc<str>,
}

/// The client cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum PikeError {
    #[error("the HTTP client for Pike: {0}")]
    Http(#[from] reqwest::Error),
    #[error("pike.base_url: give scheme and host, as in https://pike.example")]
    BadUrl,
    #[error(transparent)]
    Signing(#[from] SigningFailed),
}

/// A call that cannot be put together; it is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Unsendable {
    #[error("the payout's project is not in the settings")]
    NoProject,
    #[error("there is no session to call about")]
    NoSession,
    #[error("the destination has been erased")]
    NoDestination,
    #[error(transparent)]
    Signing(#[from] SigningFailed),
}

impl Pike {
    /// # Errors
    /// [`PikeError`].
    pub fn new(
        settings: PikeSettings,
        projects: BTreeMap<ProjectId, PikeProject>,
    ) -> Result<Self, PikeError> {
        let http = Client::builder()
            .redirect(Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .http1_only()
            .connect_timeout(settings.connect_timeout)
            .timeout(settings.total_timeout)
            .tcp_nodelay(true)
            .build()?;
        let url = format!("{}/api/{}", settings.base_url, settings.version.path());
        let url = Url::parse(&url).ok().filter(Url::has_host).ok_or(PikeError::BadUrl)?;
        let projects = projects
            .into_iter()
            .map(|(id, project)| {
                let create = project.signer.sign(wire::CREATE_BODY)?.into();
                Ok((id, Signed { project, create }))
            })
            .collect::<Result<_, SigningFailed>>()?;
        Ok(Self { http, settings, url, projects, signatures: Cache::new(KEPT_SIGNATURES) })
    }

    /// Makes one call, once.
    pub async fn call(&self, call: &Call) -> Reply {
        let began = Instant::now();
        let reply = self.send(call).await;
        let name = method(call.kind);
        metrics::histogram!("payoutd_provider_seconds", "call" => name).record(began.elapsed().as_secs_f64());
        metrics::counter!("payoutd_provider_calls_total", "call" => name, "outcome" => reply.answer.label())
            .increment(1);
        reply
    }

    async fn send(&self, call: &Call) -> Reply {
        let (project, body, signature) = match self.prepare(call) {
            Ok(prepared) => prepared,
            Err(problem) => {
                let answer = Answer::NotSent(problem.to_string());
                return Reply { answer, condition: Condition::NotTried };
            }
        };
        let mut request = self
            .http
            .post(self.url_of(call.kind))
            .header(CONTENT_TYPE, "application/json")
            .header("X-PARTNER-PROJECT", &project.pike_project)
            .header("X-PARTNER-SIGN", &*signature)
            .body(body);
        if let Some(submerchant) = &project.submerchant {
            request = request.header("X-PARTNER-SUBMERCHANT", submerchant);
        }
        if let Some(key) = &call.idempotency_key {
            request = request.header("X-PARTNER-IDEMPOTENCY-KEY", key);
        }
        crash_point::pass_of(call.kind, "sending");
        match request.send().await {
            Ok(response) => {
                crash_point::pass_of(call.kind, "sent");
                self.receive(call.kind, response).await
            }
            // Connecting failed or the request could not even be built: not a byte of it has left.
            Err(error) if error.is_connect() || error.is_builder() => {
                Reply::ill(Answer::NotSent(cause(&error)))
            }
            Err(error) if error.is_timeout() => lost("timeout", cause(&error)),
            Err(error) => lost("connection_lost", cause(&error)),
        }
    }

    fn url_of(&self, call: EffectKind) -> Url {
        // Not parsed anew: the name is all that differs.
        let mut url = self.url.clone();
        url.set_path(&format!("{}/{}", url.path(), method(call)));
        url
    }

    fn prepare(&self, call: &Call) -> Result<(&PikeProject, Vec<u8>, Arc<str>), Unsendable> {
        let signed = self.projects.get(&call.project).ok_or(Unsendable::NoProject)?;
        let project = &signed.project;
        let session = || call.session.as_ref().ok_or(Unsendable::NoSession);
        let (body, signature) = match call.kind {
            EffectKind::CreateSession => (wire::CREATE_BODY.to_vec(), Arc::clone(&signed.create)),
            EffectKind::StartPayout => {
                let start = wire::Start {
                    session: session()?,
                    amount: call.amount,
                    destination: call.destination,
                    destination_secret: call
                        .destination_secret
                        .as_deref()
                        .ok_or(Unsendable::NoDestination)?,
                    recipient_name: &call.recipient_name,
                    customer_reference: &call.customer_reference,
                    metadata_tag: &call.metadata_tag,
                };
                let body = wire::start_body(self.settings.version, &start);
                let signature = project.signer.sign(&body)?.into();
                (body, signature)
            }
            EffectKind::Confirm | EffectKind::Cancel | EffectKind::ReadStatus => {
                let body = wire::session_body(session()?);
                let key = (call.project.clone(), session()?.clone());
                let signature =
                    self.signatures.get_or_insert_with(&key, || project.signer.sign(&body).map(Arc::from))?;
                (body, signature)
            }
        };
        Ok((project, body, signature))
    }

    async fn receive(&self, call: EffectKind, response: Response) -> Reply {
        let http = response.status().as_u16();
        let asked = wait::is_asked_for(http).then(|| wait::wait(response.headers()));
        let reply = self.read(call, response).await;
        match asked {
            Some(condition) => Reply { condition, ..reply },
            None => reply,
        }
    }

    async fn read(&self, call: EffectKind, mut response: Response) -> Reply {
        let http = response.status().as_u16();
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() <= self.settings.max_response_bytes => {
                    body.extend_from_slice(&chunk);
                }
                Ok(Some(_)) => {
                    let limit = self.settings.max_response_bytes;
                    return lost("answer_too_large", format!("over {limit} bytes"));
                }
                Ok(None) => {
                    let outcome = outcome::read(call, http, &body);
                    let condition = outcome::condition(http, &outcome);
                    raise(call, http, &outcome);
                    return Reply { answer: Answer::Came(outcome), condition };
                }
                Err(error) => return lost("answer_cut_off", cause(&error)),
            }
        }
    }
}

/// Tells people about what no decision is made of: an answer that is none, a status that we have not met.
fn raise(call: EffectKind, http: u16, outcome: &Outcome) {
    let name = method(call);
    if outcome::is_malformed(http, outcome) {
        metrics::counter!("payoutd_answers_malformed_total", "call" => name).increment(1);
        tracing::error!(call = name, "an answer does not have the documented shape");
    }
    if let Outcome::Accepted(report) = outcome
        && let words = report.unknown_words()
        && !words.is_empty()
    {
        metrics::counter!("payoutd_unknown_statuses_total", "from" => "answer").increment(1);
        tracing::error!(call = name, session = %report.session, ?words, "statuses that we do not know");
    }
}

/// The request may have arrived, its answer did not.
fn lost(code: &str, description: String) -> Reply {
    Reply::ill(Answer::Came(outcome::unknown(code, description)))
}

/// The method's path behind the version, which is also its name in the metrics.
fn method(call: EffectKind) -> &'static str {
    match call {
        EffectKind::CreateSession => "session/create",
        EffectKind::StartPayout => "session/start/payout",
        EffectKind::Confirm => "session/confirm",
        EffectKind::Cancel => "session/cancel",
        EffectKind::ReadStatus => "session/status",
    }
}

/// The innermost cause, without the URL: enough to act on, nothing to leak.
fn cause(error: &reqwest::Error) -> String {
    let Some(mut innermost) = error.source() else { return "request failed".to_owned() };
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
