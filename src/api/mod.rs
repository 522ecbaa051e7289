//! HTTP in from our callers: authenticates, turns requests into commands for the engine or reads of the
//! store, and answers in JSON. It decides nothing about a payout and changes nothing itself. Start with
//! `routes` (what there is), then `create` (what a payout may be asked to be); `problem` and `codes` are
//! every other answer.

pub mod auth;
mod body;
mod codes;
mod confirms;
mod create;
mod details;
mod history;
mod keys;
mod list;
mod observe;
mod pan;
mod payouts;
mod problem;
pub mod routes;
mod text;
mod view;

pub use codes::Code;
pub use keys::Keys;

use crate::{domain::id::ProjectId, engine::Engine};
use axum::{
    Router,
    middleware::{from_fn, from_fn_with_state},
};
use sqlx::PgPool;
use std::{collections::BTreeSet, sync::Arc};

/// What the API works with.
#[derive(Clone)]
pub struct ApiState {
    pub engine: Engine,
    /// For reading only; whatever writes goes through the engine.
    pub pool: PgPool,
    pub keys: Keys,
    /// The configured projects. Keys of any other are not accepted.
    pub projects: Arc<BTreeSet<ProjectId>>,
}

/// The whole API. Nobody gets past the authentication, not even to learn which paths exist.
pub fn router(state: ApiState) -> Router {
    routes::router()
        .layer(from_fn_with_state(state.clone(), auth::authenticate))
        .layer(from_fn(observe::observe))
        .with_state(state)
}

#[cfg(test)]
mod tests;
