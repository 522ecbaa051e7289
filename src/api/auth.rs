//! Who calls. A key is `pk_<id>_<secret>`; the store keeps the id and the SHA-256 of the secret, which is
//! enough because the secret is random. Every refusal looks the same, and a key that does not exist costs the
//! same comparison as one that does.

use super::{ApiState, codes::Code, problem::Problem};
use crate::{
    crash_point,
    domain::{id::ProjectId, owner::Owner},
    store::api_keys::ApiKey,
};
use axum::{
    extract::{FromRequestParts, Request, State},
    http::{HeaderMap, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::SecretString;
use sha2::{Digest, Sha256};
use std::{collections::BTreeSet, fmt::Write};
use subtle::ConstantTimeEq;

const PREFIX: &str = "pk_";
/// Random bytes in a key's id, which is written in hexadecimal: enough that two keys never share one.
const ID_BYTES: usize = 8;
const ID_CHARS: usize = ID_BYTES * 2;
/// Random bytes in a secret: with 256 bits a plain hash cannot be searched.
const SECRET_BYTES: usize = 32;
/// The same in base64 without padding.
const SECRET_CHARS: usize = 43;

/// What a key may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// See payouts and their history.
    Read,
    /// Create payouts and cancel them.
    Write,
    /// Approve or reject payouts on hold.
    Approve,
    /// Throw the switch for confirms.
    Operate,
}

impl Scope {
    pub const ALL: [Self; 4] = [Self::Read, Self::Write, Self::Approve, Self::Operate];

    /// As it is stored and shown; never renamed.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Approve => "approve",
            Self::Operate => "operate",
        }
    }

    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.code() == code)
    }
}

/// A new key, nobody's yet: the row to store, and the text to show once and never again.
///
/// # Panics
/// When the operating system has no random bytes.
#[must_use]
pub fn generate(project: &ProjectId, name: &str, scopes: &BTreeSet<Scope>) -> (ApiKey, SecretString) {
    let id = random::<ID_BYTES>().iter().fold(String::with_capacity(ID_CHARS), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        text
    });
    let secret = URL_SAFE_NO_PAD.encode(random::<SECRET_BYTES>());
    let key = ApiKey {
        id: id.clone(),
        project: project.clone(),
        name: name.to_owned(),
        secret_hash: Sha256::digest(secret.as_bytes()).to_vec(),
        scopes: scopes.iter().map(|scope| scope.code().to_owned()).collect(),
        owner: None,
    };
    (key, SecretString::from(format!("{PREFIX}{id}_{secret}")))
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the operating system has random bytes");
    bytes
}

/// Whoever sent this request: a good key of a configured project.
#[derive(Clone, Debug)]
pub struct Caller {
    pub key_id: String,
    pub project: ProjectId,
    pub scopes: BTreeSet<Scope>,
    /// Who that is, if the key says.
    pub owner: Option<Owner>,
}

/// Fails closed: a handler that was reached around the authentication has no caller.
impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(unauthenticated)
    }
}

/// The project that a response was made for: for the log.
#[derive(Clone, Debug)]
pub(super) struct SeenProject(pub ProjectId);

/// Runs before anything else of a request is looked at, for every path.
pub(super) async fn authenticate(
    State(state): State<ApiState>,
    mut request: Request,
    next: Next,
) -> Response {
    match identify(&state, request.headers()).await {
        Ok(caller) => {
            let project = SeenProject(caller.project.clone());
            request.extensions_mut().insert(caller);
            let mut response = next.run(request).await;
            response.extensions_mut().insert(project);
            response
        }
        Err(problem) => problem.into_response(),
    }
}

/// Lets a request pass that has the route's scope.
pub(super) async fn require(
    State(scope): State<Scope>,
    caller: Caller,
    request: Request,
    next: Next,
) -> Response {
    if caller.scopes.contains(&scope) {
        return next.run(request).await;
    }
    let detail = format!("This route asks for the scope {}.", scope.code());
    Problem::new(Code::MissingScope, detail).required_scope(scope).into_response()
}

async fn identify(state: &ApiState, headers: &HeaderMap) -> Result<Caller, Problem> {
    let presented = presented(headers).ok_or_else(unauthenticated)?;
    let stored = state.keys.find(presented.id).await?;
    crash_point::pass("auth.looked_up");
    verify(stored, presented.secret)
        .filter(|caller| state.projects.contains(&caller.project))
        .ok_or_else(unauthenticated)
}

fn unauthenticated() -> Problem {
    Problem::new(
        Code::Unauthenticated,
        "Send `Authorization: Bearer pk_…` with a key of a configured project.",
    )
}

/// A key as it came in; not known to be good.
struct Presented<'a> {
    id: &'a str,
    secret: &'a str,
}

fn presented(headers: &HeaderMap) -> Option<Presented<'_>> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let (id, secret) = key.strip_prefix(PREFIX)?.split_once('_')?;
    let good_id = id.len() == ID_CHARS && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let good_secret = secret.len() == SECRET_CHARS
        && secret.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    (good_id && good_secret).then_some(Presented { id, secret })
}

/// The caller, if `stored` is a key and the secret is its own. Compares in any case.
fn verify(stored: Option<ApiKey>, secret: &str) -> Option<Caller> {
    const NOBODY: [u8; 32] = [0; 32];
    let hash = Sha256::digest(secret.as_bytes());
    let expected = stored.as_ref().map_or(NOBODY.as_slice(), |key| key.secret_hash.as_slice());
    let same = bool::from(hash.as_slice().ct_eq(expected));
    let key = stored.filter(|_| same)?;
    let scopes = key.scopes.iter().filter_map(|code| Scope::from_code(code)).collect();
    Some(Caller { key_id: key.id, project: key.project, scopes, owner: key.owner })
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use secrecy::ExposeSecret;

    fn headers(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap())])
    }

    fn key() -> (ApiKey, String) {
        let scopes = BTreeSet::from([Scope::Read, Scope::Approve]);
        let (key, text) = generate(&ProjectId("shop".into()), "back office", &scopes);
        (key, text.expose_secret().to_owned())
    }

    #[test]
    fn a_generated_key_is_accepted_and_no_other() {
        let (stored, text) = key();
        let headers = headers(&format!("Bearer {text}"));
        let presented = presented(&headers).unwrap();
        assert_eq!(presented.id, stored.id);
        let caller = verify(Some(stored.clone()), presented.secret).unwrap();
        assert_eq!(caller.scopes, BTreeSet::from([Scope::Read, Scope::Approve]));
        assert_eq!((caller.key_id, caller.project), (stored.id.clone(), stored.project.clone()));

        let (other, _) = key();
        assert!(verify(Some(other), presented.secret).is_none(), "another key's secret");
        assert!(verify(None, presented.secret).is_none(), "no such key");
        let damaged = ApiKey { secret_hash: vec![], ..stored };
        assert!(verify(Some(damaged), "").is_none(), "an empty hash matches nothing");
    }

    #[test]
    fn the_secret_is_not_in_the_row() {
        let (stored, text) = key();
        let secret = text.rsplit_once(&format!("{}_", stored.id)).unwrap().1;
        assert_eq!(secret.len(), SECRET_CHARS);
        assert!(!format!("{stored:?}").contains(secret));
    }

    #[test]
    fn anything_else_is_not_a_key() {
        let (stored, text) = key();
        let secret = text.rsplit_once(&format!("{}_", stored.id)).unwrap().1;
        let upper = text.replace(&stored.id, &"A".repeat(ID_CHARS));
        for value in [
            "",
            "Bearer",
            "Bearer ",
            "Basic cGF5b3V0ZA==",
            &text,
            &format!("Bearer  {text}"),
            &format!("Bearer {text} "),
            &format!("Bearer {text}x"),
            &format!("Bearer {}", &text[..text.len() - 1]),
            &format!("Bearer {upper}"),
            &format!("Bearer {PREFIX}{secret}"),
            &format!("Bearer sk_{}_{secret}", stored.id),
        ] {
            assert!(presented(&headers(value)).is_none(), "{value}");
        }
        assert!(presented(&HeaderMap::new()).is_none());
        let mut twice = headers(&format!("bearer {text}"));
        assert!(presented(&twice).is_some(), "the scheme's case does not matter");
        twice.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer x"));
        assert!(presented(&twice).is_none(), "two headers are none");
    }

    #[test]
    fn scopes_come_back() {
        assert!(Scope::ALL.iter().all(|scope| Scope::from_code(scope.code()) == Some(*scope)));
        assert_eq!(Scope::from_code("everything"), None);
    }
}
