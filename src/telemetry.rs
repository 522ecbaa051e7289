//! Logs and metrics: JSON lines on standard output, Prometheus figures for the admin listener. Both are set
//! up once per process; everything else only uses the `tracing` and `metrics` macros.

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use std::sync::{Mutex, PoisonError};
use tracing_subscriber::{EnvFilter, fmt};

/// Upper bounds of the latency histograms, in seconds.
const SECONDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

static RECORDER: Mutex<Option<PrometheusHandle>> = Mutex::new(None);

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Json,
    Text,
}

/// A count from the database as a figure; more than a metric can hold is the most that it can.
#[must_use]
pub fn figure(count: i64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// Starts logging. `filter` is a level or a list of `target=level`. Starting twice is harmless: the first
/// stays.
pub fn start_logs(format: LogFormat, filter: &str) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let logs = fmt().with_env_filter(filter).with_target(false);
    let started = match format {
        LogFormat::Json => logs.json().flatten_event(true).with_current_span(false).try_init(),
        LogFormat::Text => logs.compact().with_writer(std::io::stderr).try_init(),
    };
    if started.is_err() {
        tracing::debug!("logging was started before");
    }
}

/// Starts counting and returns the handle that the metrics page is rendered from. Starting twice, even at the
/// same time, is harmless: there is one recorder.
///
/// # Errors
/// When a recorder of someone else's is installed already.
pub fn start_metrics() -> Result<PrometheusHandle, BuildError> {
    let mut recorder = RECORDER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = recorder.as_ref() {
        return Ok(handle.clone());
    }
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .install_recorder()?;
    Ok(recorder.insert(handle).clone())
}
