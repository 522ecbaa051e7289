//! The recipient's side: a card number goes in, a token comes out, and no partner sees the number. A public
//! token permits it, once. The routes are ours, but for one that has the shape in which browsers call a
//! sibling of Pike's. Nothing of this is a call of the API, so the ledger does not count it.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::super::code::{Code, HttpStatuses};
use super::super::http::respond;
use super::super::request::object;
use super::super::scalars::At;
use super::super::{Sandbox, view};
use super::desk::accepted;
use super::face::{CardData, Face};
use super::page;
use super::seal::{Kind, Mark, Pass, Sealed};

const PUBLIC_TOKEN_HEADER: &str = "x-public-token";
/// A card with all its fields is a fraction of this.
const BODY_LIMIT: usize = 16 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Front ends of any origin may call the browser's end point: the public token is all it asks for.
const ANY_ORIGIN: (HeaderName, HeaderValue) =
    (header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));

/// The widget's routes.
pub fn routes() -> Router<Arc<Sandbox>> {
    Router::new()
        .route("/_sandbox/widget", get(page::show))
        .route("/_sandbox/widget/tokenize", post(tokenize))
        .route("/cds/v1/tokenize/card", post(tokenize_card).options(preflight))
}

/// Why the widget does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    Malformed,
    NotOurs,
    NotForThis,
    Expired,
    Used,
    Closed,
}

impl Refusal {
    fn code(self) -> Code {
        match self {
            Self::Malformed => Code::InvalidRequest,
            Self::NotOurs | Self::NotForThis | Self::Expired | Self::Used => Code::AuthorizationError,
            Self::Closed => Code::InternalError,
        }
    }

    /// The reason, for the one who looks at the widget.
    #[must_use]
    pub fn description(self) -> &'static str {
        match self {
            Self::Malformed => "The card's number or date cannot be read",
            Self::NotOurs => "The public token is missing, or is none of this sandbox",
            Self::NotForThis => "The public token was not made for tokenising",
            Self::Expired => "The public token has expired",
            Self::Used => "The public token has been used",
            Self::Closed => "The sandbox is shutting down",
        }
    }
}

impl From<Code> for Refusal {
    fn from(_: Code) -> Self {
        Self::Malformed
    }
}

/// A card's new token, and the card.
#[derive(Debug)]
pub struct Tokenized {
    pub token: String,
    pub face: Face,
}

/// Reads a public token that can still be used.
///
/// # Errors
/// Why it cannot.
pub fn permission(sandbox: &Sandbox, public_token: &str, now: At) -> Result<Pass, Refusal> {
    let Some(Sealed::Public(pass)) = sandbox.seal.open(public_token) else { return Err(Refusal::NotOurs) };
    if !pass.access.tokenize {
        return Err(Refusal::NotForThis);
    }
    if pass.ends() <= now {
        return Err(Refusal::Expired);
    }
    let used = sandbox.world().state.tokens.is_used(&pass, Mark::of(public_token));
    if used { Err(Refusal::Used) } else { Ok(pass) }
}

/// Makes a token of a card, and uses the public token up. Card data that cannot be read do not.
///
/// # Errors
/// Why nothing was made.
pub fn tokenized(
    sandbox: &Sandbox,
    public_token: &str,
    card: &CardData,
    kind: Kind,
) -> Result<Tokenized, Refusal> {
    let now = sandbox.now();
    let pass = permission(sandbox, public_token, now)?;
    let face = Face::of(card, &sandbox.seal, now)?;
    let mut world = sandbox.world();
    if world.closed {
        return Err(Refusal::Closed);
    }
    // Another call may have come in between.
    if !world.state.tokens.use_up(&pass, Mark::of(public_token), now) {
        return Err(Refusal::Used);
    }
    world.dirty = true;
    Ok(Tokenized { token: sandbox.seal.card(kind, &face, now), face })
}

#[derive(Deserialize)]
struct Form<'a> {
    #[serde(default)]
    public_token: String,
    #[serde(borrow)]
    card: &'a RawValue,
    r#as: Option<Kind>,
}

async fn tokenize(State(sandbox): State<Arc<Sandbox>>, body: Body) -> Response {
    answer(read(body).await.and_then(|body| filled_in(&sandbox, &body)))
}

/// The widget's own form.
fn filled_in(sandbox: &Sandbox, body: &[u8]) -> Result<Vec<u8>, Refusal> {
    #[derive(Serialize)]
    struct Said {
        #[serde(skip_serializing_if = "Option::is_none")]
        number_hash: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        token: Option<String>,
        brand: &'static str,
        last4: String,
    }
    let form: Form<'_> = object(text(body)?)?;
    let card: CardData = object(form.card.get())?;
    let kind = form.r#as.unwrap_or(Kind::Hash);
    let Tokenized { token, face } = tokenized(sandbox, &form.public_token, &card, kind)?;
    let (number_hash, token) = match kind {
        Kind::Hash => (Some(token), None),
        Kind::Token | Kind::Recurrent => (None, Some(token)),
    };
    Ok(accepted(&Said { number_hash, token, brand: face.brand(), last4: face.last4() }))
}

#[derive(Deserialize)]
struct CardForm<'a> {
    #[serde(borrow)]
    card: &'a RawValue,
}

async fn tokenize_card(State(sandbox): State<Arc<Sandbox>>, headers: HeaderMap, body: Body) -> Response {
    let public_token = headers.get(PUBLIC_TOKEN_HEADER).and_then(|value| value.to_str().ok());
    let sent = |body: Bytes| sent_by_browser(&sandbox, public_token.unwrap_or_default(), &body);
    let response = answer(read(body).await.and_then(sent));
    ([ANY_ORIGIN], response).into_response()
}

/// The browser's end point. Its token is one for `tokenized_card`.
fn sent_by_browser(sandbox: &Sandbox, public_token: &str, body: &[u8]) -> Result<Vec<u8>, Refusal> {
    #[derive(Serialize)]
    struct Said {
        data: Data,
    }
    #[derive(Serialize)]
    struct Data {
        token: String,
    }
    let form: CardForm<'_> = object(text(body)?)?;
    let card: CardData = object(form.card.get())?;
    let Tokenized { token, .. } = tokenized(sandbox, public_token, &card, Kind::Token)?;
    Ok(accepted(&Said { data: Data { token } }))
}

/// What a browser asks before it sends a header of our own to another origin.
async fn preflight() -> Response {
    let methods = (header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
    let headers =
        (header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("content-type, x-public-token"));
    (StatusCode::NO_CONTENT, [ANY_ORIGIN, methods, headers]).into_response()
}

async fn read(body: Body) -> Result<Bytes, Refusal> {
    match tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, BODY_LIMIT)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) | Err(_) => Err(Refusal::Malformed),
    }
}

fn text(body: &[u8]) -> Result<&str, Refusal> {
    std::str::from_utf8(body).map_err(|_| Refusal::Malformed)
}

fn answer(said: Result<Vec<u8>, Refusal>) -> Response {
    let refusal = match said {
        Ok(body) => return respond(StatusCode::OK, body),
        Err(refusal) => refusal,
    };
    let body = view::explained(refusal.code(), refusal.description());
    let status = StatusCode::from_u16(HttpStatuses::default().of(refusal.code()));
    respond(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), body)
}
