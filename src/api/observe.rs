//! One log line and two metrics per request. Labels come from the route table and a fixed list of methods, so
//! that no caller can make new ones; bodies, names and keys appear nowhere.

use super::{auth::SeenProject, routes};
use axum::{
    extract::{MatchedPath, Request},
    http::{HeaderValue, Method, header},
    middleware::Next,
    response::Response,
};
use std::time::Instant;

/// The route of a request that matched none.
const UNMATCHED: &str = "unmatched";

pub(super) async fn observe(request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let route = label(request.extensions().get::<MatchedPath>().map(MatchedPath::as_str));
    let method = method(request.method());
    let mut response = next.run(request).await;
    let (elapsed, status) = (begun.elapsed(), response.status());
    let project = response.extensions().get::<SeenProject>().map(|SeenProject(project)| project.0.as_str());
    tracing::debug!(
        method,
        route,
        status = status.as_u16(),
        project,
        latency_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
        "API request answered"
    );
    metrics::counter!("payoutd_api_requests_total",
        "route" => route, "method" => method, "status" => status.as_u16().to_string())
    .increment(1);
    metrics::histogram!("payoutd_api_seconds", "route" => route).record(elapsed.as_secs_f64());
    // Answers are about money and change at any moment.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn label(path: Option<&str>) -> &'static str {
    routes::ALL.iter().find(|route| Some(route.path) == path).map_or(UNMATCHED, |route| route.path)
}

fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_bounded() {
        assert_eq!(label(Some("/v1/payouts/{payout}")), "/v1/payouts/{payout}");
        assert_eq!(label(Some("/v1/secret")), UNMATCHED);
        assert_eq!(label(None), UNMATCHED);
        assert_eq!(method(&Method::from_bytes(b"EXPLODE").unwrap()), "other");
    }
}
