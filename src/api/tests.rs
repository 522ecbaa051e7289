//! The router as a whole, without a database: whatever is refused before one is needed, and what happens when
//! there is none.

use super::{
    auth::{Caller, Scope},
    *,
};
use crate::{
    domain::{
        policy::{Approvals, Attempts, Mode, Policy, Polling, ResendStart, StopLine},
        rules::RuleSet,
    },
    engine::{Core, Remembered, Sessions, Wake},
};
use axum::{
    Extension,
    body::Body,
    http::{Method, Request, Response},
};
use http_body_util::BodyExt;
use sqlx::postgres::PgPoolOptions;
use std::time::Duration;
use tower::ServiceExt;

const PAYOUT: &str = "payout_0191d2c47a3b7c5d8e9f0a1b2c3d4e5f";

/// A state whose database does not exist.
fn state() -> ApiState {
    let pool = PgPoolOptions::new()
        .acquire_timeout(Duration::from_millis(50))
        .connect_lazy("postgres://nobody@127.0.0.1:1/nothing")
        .unwrap();
    let policy = Policy {
        resend_start: ResendStart::Never,
        start_unresolved_after: time::Duration::minutes(5),
        stale_read_grace: time::Duration::seconds(30),
        confirm_window: time::Duration::minutes(10),
        hold_margin: time::Duration::minutes(1),
        polling: Polling {
            first: time::Duration::seconds(1),
            steady: time::Duration::seconds(30),
            longest: time::Duration::hours(1),
            paid_first: time::Duration::days(1),
            paid_until: time::Duration::days(30),
        },
        attempts: Attempts::OFF,
        approvals: Approvals::ByKey,
    };
    let engine = Engine::start(Core {
        pool: pool.clone(),
        policy,
        rules: RuleSet::default(),
        stop_line: StopLine::default(),
        mode: Mode::default(),
        wake: Wake::default(),
        hands: std::sync::OnceLock::default(),
        sessions: Sessions::default(),
        remembered: Remembered::default(),
    });
    let keys = Keys::start(pool.clone());
    ApiState { engine, pool, keys, projects: Arc::new(BTreeSet::from([ProjectId("shop".into())])) }
}

/// The routes for a caller who is past the authentication.
fn known(scopes: &[Scope]) -> Router {
    let caller = Caller {
        key_id: "0123456789abcdef".into(),
        project: ProjectId("shop".into()),
        scopes: scopes.iter().copied().collect(),
        owner: None,
    };
    routes::router().layer(Extension(caller)).layer(from_fn(observe::observe)).with_state(state())
}

fn request(method: &Method, path: &str) -> axum::http::request::Builder {
    Request::builder().method(method).uri(path.replace("{payout}", PAYOUT))
}

fn create(body: impl Into<Body>) -> Request<Body> {
    request(&Method::POST, "/v1/payouts")
        .header("content-type", "application/json")
        .header("idempotency-key", "k-1")
        .body(body.into())
        .unwrap()
}

async fn send(router: Router, request: Request<Body>) -> Response<Body> {
    router.oneshot(request).await.unwrap()
}

async fn json(response: Response<Body>) -> serde_json::Value {
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
}

const GOOD: &str = r#"{"amount":100,"currency":"RUB","destination":{"type":"recurrent","token":"t"},
    "recipient":{"name":"Anna"},"customer_reference":"c"}"#;

#[tokio::test]
async fn every_route_wants_its_own_scope() {
    for route in &routes::ALL {
        let others: Vec<Scope> = Scope::ALL.into_iter().filter(|scope| *scope != route.scope).collect();
        let answer =
            send(known(&others), request(&route.method, route.path).body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status(), 403, "{} {}", route.method, route.path);
        let problem = json(answer).await;
        assert_eq!(problem["code"], "missing_scope");
        assert_eq!(problem["required_scope"], route.scope.code());

        let own =
            send(known(&[route.scope]), request(&route.method, route.path).body(Body::empty()).unwrap());
        assert_ne!(own.await.status(), 403, "{} {}", route.method, route.path);
    }
}

#[tokio::test]
async fn the_table_is_what_was_agreed() {
    let table: Vec<String> = routes::ALL
        .iter()
        .map(|route| format!("{} {} {}", route.method, route.path, route.scope.code()))
        .collect();
    assert_eq!(
        table,
        [
            "POST /v1/payouts write",
            "GET /v1/payouts read",
            "GET /v1/payouts/{payout} read",
            "GET /v1/payouts/{payout}/history read",
            "POST /v1/payouts/{payout}/cancel write",
            "POST /v1/payouts/{payout}/approve approve",
            "POST /v1/payouts/{payout}/reject approve",
            "GET /v1/confirms operate",
            "PUT /v1/confirms operate",
        ]
    );
}

#[tokio::test]
async fn nobody_gets_in_without_a_key() {
    let mut bodies = BTreeSet::new();
    for route in &routes::ALL {
        let bare = request(&route.method, route.path).body(Body::from("x")).unwrap();
        let answer = send(router(state()), bare).await;
        assert_eq!(answer.status(), 401, "{} {}", route.method, route.path);
        bodies.insert(json(answer).await.to_string());
    }
    for (method, path) in [(Method::GET, "/"), (Method::GET, "/v2"), (Method::DELETE, "/v1/payouts")] {
        let keyed =
            request(&method, path).header("authorization", "Bearer pk_x").body(Body::empty()).unwrap();
        let answer = send(router(state()), keyed).await;
        assert_eq!(answer.status(), 401, "{method} {path}");
        bodies.insert(json(answer).await.to_string());
    }
    assert_eq!(bodies.len(), 1, "all refusals look the same");
}

#[tokio::test]
async fn unknown_routes_and_methods_are_told_apart() {
    for path in ["/", "/v1", "/v1/payouts/", "/v1/payouts/x/y", "/v2/payouts"] {
        let answer = send(known(&Scope::ALL), request(&Method::GET, path).body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status(), 404, "{path}");
        assert_eq!(json(answer).await["code"], "no_such_route", "{path}");
    }
    for (method, path, allow) in [
        (Method::DELETE, "/v1/payouts", "POST,GET,HEAD"),
        (Method::PUT, "/v1/payouts/{payout}", "GET,HEAD"),
        (Method::GET, "/v1/payouts/{payout}/cancel", "POST"),
    ] {
        let answer = send(known(&[]), request(&method, path).body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status(), 405, "{method} {path}");
        assert_eq!(answer.headers()["allow"], allow, "{method} {path}");
        assert_eq!(json(answer).await["code"], "method_not_allowed");
    }
}

#[tokio::test]
async fn malformed_ids_are_unknown_ids() {
    for id in ["x", "payout_", "%00", "%ff", "payout_0191D2C47A3B7C5D8E9F0A1B2C3D4E5F", "..%2f"] {
        for (method, path) in [
            (Method::GET, "/v1/payouts/{payout}"),
            (Method::GET, "/v1/payouts/{payout}/history"),
            (Method::POST, "/v1/payouts/{payout}/cancel"),
        ] {
            let path = path.replace("{payout}", id);
            let answer = send(known(&Scope::ALL), request(&method, &path).body(Body::empty()).unwrap()).await;
            assert_eq!(answer.status(), 404, "{path}");
            assert_eq!(json(answer).await["code"], "no_such_payout", "{path}");
        }
    }
}

#[tokio::test]
async fn bad_creates_are_answered_without_a_database() {
    let bare = |header: &str, value: &str| {
        let builder = request(&Method::POST, "/v1/payouts").header(header, value);
        builder.body(Body::from(GOOD)).unwrap()
    };
    for (request, status, code) in [
        (bare("content-type", "application/json"), 400, "idempotency_key_missing"),
        (bare("idempotency-key", "k-1"), 415, "unsupported_media_type"),
        (bare("idempotency-key", "4111111111111111"), 422, "raw_card_refused"),
        (create("{"), 400, "malformed_json"),
        (create(" ".repeat(64 * 1024 + 1)), 413, "body_too_large"),
        (create(GOOD.replace("100", "0")), 422, "amount_out_of_range"),
        (create(GOOD.replace("RUB", "ZZZ")), 422, "unknown_currency"),
        (create(GOOD.replace("recurrent", "bank_card")), 422, "raw_card_refused"),
    ] {
        let answer = send(known(&[Scope::Write]), request).await;
        assert_eq!(answer.status(), status, "{code}");
        assert_eq!(answer.headers()["cache-control"], "no-store");
        assert_eq!(json(answer).await["code"], code);
    }
}

#[tokio::test]
async fn without_a_database_good_requests_are_asked_to_come_again() {
    let get = |path| request(&Method::GET, path).body(Body::empty()).unwrap();
    for request in [create(GOOD), get("/v1/payouts"), get("/v1/payouts/{payout}"), get("/v1/confirms")] {
        let path = request.uri().clone();
        let answer = send(known(&Scope::ALL), request).await;
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["retry-after"]),
            (503, &"1".parse().unwrap()),
            "{path}"
        );
        assert_eq!(json(answer).await["code"], "temporarily_unavailable", "{path}");
    }
}
