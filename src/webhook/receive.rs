//! The receiver: one path per project, since Pike's payload names none. Cheap refusals come first, the one
//! insert comes last, and only a committed insert is answered 200.

use super::verify::Verifier;
use crate::{
    batch::{Batcher, Busy},
    crash_point,
    domain::{checking, id::ProjectId, session::SessionReport},
    http::{BodyError, read_body},
    store::{
        StoreError,
        inbox::{self, Claimed, InboxClaim, Incoming},
        retry,
        writer::Writer,
    },
};
use axum::{
    Router,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
    routing::post,
};
use futures_util::future::BoxFuture;
use serde::{Deserialize, de::IgnoredAny};
use sha2::{Digest, Sha256};
use sqlx::PgPool;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Largest webhook read. Pike's are about 1 KiB; parsed JSON can take many times its text.
pub const MAX_BODY: usize = 64 * 1024;
/// Longest a webhook's body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Most webhooks in one insert.
const MAX_BATCH: usize = 128;
/// Most webhooks waiting for their insert; beyond it Pike is told to come back.
const MAX_WAITING: usize = 2048;

/// Writes webhooks in groups; says for each whether it was new.
pub type Intake = Batcher<Incoming, Result<bool, Arc<StoreError>>>;

/// What the receiver works with.
#[derive(Clone)]
pub struct WebhookState {
    pub verifiers: Arc<BTreeMap<ProjectId, Verifier>>,
    pub intake: Intake,
    pub workers: Arc<dyn Workers>,
}

/// Begins with webhooks that were kept and claimed.
pub type Begin = Box<dyn FnOnce(Vec<Claimed>) + Send>;

/// Whoever works on webhooks in this process.
pub trait Workers: Send + Sync {
    /// How long a claim lasts.
    fn lease(&self) -> Duration;
    /// Room for so many at once, if there is.
    fn room(&self, webhooks: usize) -> Option<Begin>;
    /// There was no room for what is in the database now.
    fn wake(&self);
    /// What these bytes tell of a session, if that is what they do.
    fn read(&self, body: &[u8]) -> Option<SessionReport>;
    /// Keeps a webhook together with what it shows. Says whether it was new, once that is committed; nothing
    /// if it has to be kept first.
    fn keep(&self, webhook: &Arc<Incoming>, shows: SessionReport) -> BoxFuture<'_, Option<bool>>;
}

/// Starts the writer of webhooks on a connection of its own, so that a busy API cannot keep Pike waiting.
#[must_use]
pub fn intake(pool: PgPool, workers: Arc<dyn Workers>) -> Intake {
    let shared = Arc::new((Writer::new(pool), workers));
    Batcher::spawn(MAX_BATCH, MAX_WAITING, move |batch: Vec<Incoming>| {
        let shared = Arc::clone(&shared);
        async move {
            match retry::repeatable(|| keep(&shared.0, &batch, &*shared.1)).await {
                Ok(fresh) => fresh.into_iter().map(Ok).collect(),
                Err(error) => {
                    tracing::error!(%error, webhooks = batch.len(), "webhooks could not be stored");
                    let error = Arc::new(error);
                    batch.iter().map(|_| Err(Arc::clone(&error))).collect()
                }
            }
        }
    })
}

async fn keep(writer: &Writer, batch: &[Incoming], workers: &dyn Workers) -> Result<Vec<bool>, StoreError> {
    let begin = workers.room(batch.len());
    let lease = begin.is_some().then(|| workers.lease());
    let mut db = writer.hold().await?;
    // The statement commits by itself: dying within it is dying before or after it.
    begin.iter().flat_map(|_| batch).for_each(|_| crash_point::pass("inbox.claiming"));
    let kept = inbox::insert(&mut db, batch, lease).await?;
    db.done();
    crash_point::pass("webhook.committed");
    match begin {
        Some(begin) => begin(batch.iter().zip(&kept).filter_map(claimed).collect()),
        None => workers.wake(),
    }
    Ok(kept.iter().map(Option::is_some).collect())
}

/// A webhook that has just been kept, as whoever keeps it has claimed it.
fn claimed((incoming, kept): (&Incoming, &Option<InboxClaim>)) -> Option<Claimed> {
    Some(Claimed {
        claim: (*kept)?,
        project: incoming.project.clone(),
        body: incoming.body.clone(),
        age: Duration::ZERO,
        failures: 0,
    })
}

pub fn router(state: WebhookState) -> Router {
    Router::new().route("/pike/{project}", post(receive)).with_state(state)
}

/// How a webhook was received: a word for the metrics, a status for Pike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receipt {
    Stored,
    Duplicate,
    UnknownProject,
    Forged,
    TooLarge,
    TooSlow,
    Broken,
    Malformed,
    Busy,
    NotStored,
}

impl Receipt {
    fn answer(self) -> (&'static str, StatusCode) {
        match self {
            Self::Stored => ("stored", StatusCode::OK),
            Self::Duplicate => ("duplicate", StatusCode::OK),
            Self::UnknownProject => ("unknown_project", StatusCode::NOT_FOUND),
            Self::Forged => ("forged", StatusCode::UNAUTHORIZED),
            Self::TooLarge => ("too_large", StatusCode::PAYLOAD_TOO_LARGE),
            Self::TooSlow => ("too_slow", StatusCode::REQUEST_TIMEOUT),
            Self::Broken => ("broken", StatusCode::BAD_REQUEST),
            Self::Malformed => ("malformed", StatusCode::BAD_REQUEST),
            Self::Busy => ("busy", StatusCode::SERVICE_UNAVAILABLE),
            Self::NotStored => ("not_stored", StatusCode::SERVICE_UNAVAILABLE),
        }
    }
}

async fn receive(
    State(state): State<WebhookState>,
    Path(project): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let project = ProjectId(project);
    let receipt = handle(&state, &project, &headers, body).await;
    let (verdict, status) = receipt.answer();
    // Only configured names become labels: a path can be anything.
    let label = if receipt == Receipt::UnknownProject { "?".to_owned() } else { project.0 };
    metrics::counter!("payoutd_webhooks_total", "project" => label, "verdict" => verdict).increment(1);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        return (status, [(RETRY_AFTER, "5")]).into_response();
    }
    status.into_response()
}

async fn handle(state: &WebhookState, project: &ProjectId, headers: &HeaderMap, body: Body) -> Receipt {
    let Some(verifier) = state.verifiers.get(project) else { return Receipt::UnknownProject };
    let body = match read_body(body, MAX_BODY, BODY_TIMEOUT).await {
        Ok(body) => body,
        Err(BodyError::TooLarge { .. }) => return Receipt::TooLarge,
        Err(BodyError::TooSlow { .. }) => return Receipt::TooSlow,
        Err(BodyError::Broken(_)) => return Receipt::Broken,
    };
    crash_point::pass("webhook.body_read");
    if verifier.verify(headers, &body).is_err() {
        return Receipt::Forged;
    }
    let report = state.workers.read(&body);
    if report.is_none() && !is_an_event(&body) {
        tracing::error!(%project, bytes = body.len(), "a genuine webhook is malformed");
        return Receipt::Malformed;
    }
    crash_point::pass("webhook.verified");
    let (body, body_hash) = (body.to_vec(), Sha256::digest(&body).into());
    // The payout that it names, whether or not we have one of that name.
    let about = report.as_ref().and_then(checking::names);
    let incoming = Arc::new(Incoming { project: project.clone(), body, body_hash, about });
    let kept = match report {
        Some(report) => state.workers.keep(&incoming, report).await,
        None => None,
    };
    let receipt = match kept {
        Some(true) => Receipt::Stored,
        Some(false) => Receipt::Duplicate,
        None => match state.intake.try_submit(Arc::unwrap_or_clone(incoming)).await {
            Ok(Ok(true)) => Receipt::Stored,
            Ok(Ok(false)) => Receipt::Duplicate,
            Err(Busy::Full) => Receipt::Busy,
            Ok(Err(_)) | Err(Busy::Gone(_)) => Receipt::NotStored,
        },
    };
    if receipt == Receipt::Stored {
        crash_point::pass_soon("webhook.answered");
    }
    receipt
}

/// A JSON object with a type (an array would pass for one whose fields come in order). Types and fields that
/// we do not know are kept all the same.
fn is_an_event(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Event {
        #[serde(rename = "type")]
        _type: String,
        #[serde(rename = "session")]
        _session: Option<IgnoredAny>,
    }
    body.trim_ascii_start().starts_with(b"{") && serde_json::from_slice::<Event>(body).is_ok()
}
