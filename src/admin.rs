//! The admin listener: is the process alive, is it ready for work, and what has it counted. It belongs on an
//! inner network: it asks for no credentials and shows no payout.

use crate::store::pool;
use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use metrics_exporter_prometheus::PrometheusHandle;
use sqlx::PgPool;
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// Longest a readiness check may take before it counts as no.
const READY_WITHIN: Duration = Duration::from_secs(2);

#[derive(Clone)]
pub struct AdminState {
    pub pool: PgPool,
    pub metrics: PrometheusHandle,
    /// Cancelled as soon as the process is to stop.
    pub stopping: CancellationToken,
    /// What a person should know of a process that is ready all the same.
    pub notes: Notes,
}

pub type Notes = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

pub fn router(state: AdminState) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(state)
}

async fn ready(State(state): State<AdminState>) -> Response {
    if state.stopping.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response();
    }
    match tokio::time::timeout(READY_WITHIN, pool::check_schema(&state.pool)).await {
        Ok(Ok(())) => {
            let notes = (state.notes)().into_iter().map(|note| note + "\n");
            ("ready\n".to_owned() + &notes.collect::<String>()).into_response()
        }
        Ok(Err(error)) => {
            tracing::warn!(%error, "not ready");
            (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer as it should\n").into_response()
        }
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n").into_response(),
    }
}

async fn metrics(State(state): State<AdminState>) -> Response {
    state.metrics.run_upkeep();
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], state.metrics.render()).into_response()
}
