//! The admin listener: is the process alive, is it ready for work, and what has it counted. It belongs on an
//! inner network: it asks for no credentials and shows no payout.

use crate::store::{StoreError, inbox, pool};
use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use metrics_exporter_prometheus::PrometheusHandle;
use sqlx::PgPool;
use std::{sync::Arc, time::Duration};
use time::format_description::well_known::Rfc3339;
use tokio_util::sync::CancellationToken;

/// Longest a readiness check may take before it counts as no.
const READY_WITHIN: Duration = Duration::from_secs(2);

/// Parked webhooks listed at most; what is behind them is usually one and the same.
const MOST_PARKED: i64 = 100;

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
        .route("/parked", get(parked))
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

/// Webhooks that wait for a person: which and why, not what is in them.
async fn parked(State(state): State<AdminState>) -> Response {
    let read = async {
        let mut db = state.pool.acquire().await?;
        inbox::parked(&mut db, MOST_PARKED).await
    };
    let rows: Result<Vec<inbox::Parked>, StoreError> = read.await;
    match rows {
        Ok(rows) => {
            let shown = rows.iter().map(|row| {
                serde_json::json!({
                    "id": row.id,
                    "project": row.project_id,
                    "received_at": row.received_at.format(&Rfc3339).unwrap_or_default(),
                    "parked_at": row.parked_at.format(&Rfc3339).unwrap_or_default(),
                    "failures": row.failures,
                    "reason": row.last_error,
                })
            });
            Json(serde_json::json!({ "parked": shown.collect::<Vec<_>>() })).into_response()
        }
        Err(error) => {
            tracing::warn!(%error, "the parked webhooks cannot be listed");
            (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer as it should\n").into_response()
        }
    }
}

async fn metrics(State(state): State<AdminState>) -> Response {
    state.metrics.run_upkeep();
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], state.metrics.render()).into_response()
}
