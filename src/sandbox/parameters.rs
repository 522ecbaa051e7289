//! The query parameters of the sandbox's own pages. One that cannot be used is refused by name, with what
//! would do, in Pike's shape of an error.

use std::collections::HashMap;
use std::str::FromStr;

use axum::extract::{FromRequestParts, Query};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};

use super::code::Code;
use super::http::respond;
use super::view;

/// What stands behind the question mark. An empty value counts as none.
#[derive(Debug, Default)]
pub struct Parameters(HashMap<String, String>);

/// A sentence that names the parameter and says what is allowed.
#[derive(Debug)]
pub struct Refusal(String);

impl Refusal {
    #[must_use]
    pub fn of(name: &str, allowed: &str) -> Self {
        Self(format!("`{name}` must be {allowed}"))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        respond(StatusCode::BAD_REQUEST, view::explained(Code::InvalidRequest, &self.0))
    }
}

impl Parameters {
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// A parameter that may be missing, read by `read`.
    ///
    /// # Errors
    /// When `read` cannot use it.
    pub fn read<T>(
        &self,
        name: &str,
        allowed: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Refusal> {
        let Some(text) = self.text(name) else { return Ok(None) };
        read(text).map(Some).ok_or_else(|| Refusal::of(name, allowed))
    }

    /// A number above zero that may be missing.
    ///
    /// # Errors
    /// When it is something else.
    pub fn count<T: FromStr + PartialOrd + From<u8>>(&self, name: &str) -> Result<Option<T>, Refusal> {
        self.read(name, "a whole number above zero", |text| text.parse().ok().filter(|n| *n >= T::from(1)))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        match Query::<HashMap<String, String>>::from_request_parts(parts, state).await {
            Ok(Query(values)) => Ok(Self(values)),
            Err(_) => Err(Refusal("the query must be a list of name=value".to_owned())),
        }
    }
}
