//! The receiver of webhooks on its own, with a writer behind it that never comes back.

use crate::support::{Database, project};
use axum::{
    body::Body,
    http::{Request, Response, StatusCode},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::future::BoxFuture;
use hmac::{Hmac, KeyInit, Mac};
use http_body_util::BodyExt;
use payoutd::{
    batch::Batcher,
    domain::{id::PayoutId, session::SessionReport},
    store::inbox::Incoming,
    webhook::{self, Begin, Verifier, WebhookState, Workers},
};
use sha2::Sha256;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tower::ServiceExt;
use uuid::Uuid;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

/// One webhook can be written, one can wait.
fn receiver() -> axum::Router {
    let verifiers = BTreeMap::from([(project(), Verifier::hmac("x-signature", SECRET).unwrap())]);
    webhook::router(WebhookState {
        verifiers: Arc::new(verifiers),
        intake: Batcher::spawn(1, 1, |_: Vec<Incoming>| std::future::pending()),
        workers: Arc::new(Nobody),
    })
}

fn signature(secret: &[u8], body: &str) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(secret).unwrap().chain_update(body);
    STANDARD.encode(mac.finalize().into_bytes())
}

async fn send(router: axum::Router, signatures: &[&str], body: String) -> Response<Body> {
    let mut request = Request::post(format!("/pike/{}", project()));
    for signature in signatures {
        request = request.header("x-signature", *signature);
    }
    router.oneshot(request.body(Body::from(body)).unwrap()).await.unwrap()
}

#[tokio::test]
async fn a_receiver_with_too_much_to_do_says_come_back() {
    let router = receiver();
    let sending = (0..3).map(|number| {
        let (router, body) = (router.clone(), format!(r#"{{"type":"a","n":{number}}}"#));
        Box::pin(async move { send(router, &[&signature(SECRET, &body)], body.clone()).await })
    });
    // The others wait for a writer; whoever finds no place to wait is answered at once.
    let (answer, ..) = futures_util::future::select_all(sending).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.headers()["retry-after"], "5");
}

#[tokio::test]
async fn a_forgery_is_not_told_what_is_wrong_with_it() {
    let body = r#"{"type":"a"}"#;
    let (good, foreign) = (signature(SECRET, body), signature(&[9; 32], body));
    let altered = signature(SECRET, "{}");
    let none: &[&str] = &[];
    let cases = [none, &[""], &["%%%"], &["AAAA"], &[&good[..20]], &[&foreign], &[&altered], &[&good, &good]];
    let mut told = vec![];
    for signatures in cases {
        let answer = send(receiver(), signatures, body.to_owned()).await;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{signatures:?}");
        let headers = format!("{:?}", answer.headers());
        told.push((headers, answer.into_body().collect().await.unwrap().to_bytes()));
    }
    told.dedup();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].1.is_empty());
}

struct Nobody;

impl Workers for Nobody {
    fn lease(&self) -> Duration {
        Duration::ZERO
    }

    fn room(&self, _webhooks: usize) -> Option<Begin> {
        None
    }

    fn wake(&self) {}

    fn read(&self, _: &[u8]) -> Option<SessionReport> {
        None
    }

    fn keep(&self, _: &Arc<Incoming>, _: SessionReport) -> BoxFuture<'_, Option<bool>> {
        Box::pin(async { None })
    }
}

/// The connection that webhooks are written on is lost between two of them.
#[tokio::test]
async fn a_lost_connection_costs_no_webhook() {
    let database = Database::fresh().await;
    let intake = webhook::intake(database.pool.clone(), Arc::new(Nobody));
    let webhook = |n: u8| Incoming { project: project(), body: vec![n], body_hash: [n; 32], about: None };
    assert!(intake.submit(webhook(1)).await.unwrap().unwrap());
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = current_database() AND query LIKE 'INSERT INTO inbox%'";
    assert_eq!(database.number(cut).await, 1);
    assert!(intake.submit(webhook(2)).await.unwrap().unwrap());
    assert!(!intake.submit(webhook(1)).await.unwrap().unwrap(), "a duplicate is one still");
    assert_eq!(database.number("SELECT count(*) FROM inbox").await, 2);
}

/// The index over all webhooks there ever were grows where the payouts do. One that was kept by its hash
/// alone, as all were before, is known still.
#[tokio::test]
async fn a_webhook_is_known_by_the_payout_that_it_names_or_by_its_hash_alone() {
    let database = Database::fresh().await;
    let intake = webhook::intake(database.pool.clone(), Arc::new(Nobody));
    let webhook = |n: u8, about| Incoming { project: project(), body: vec![n], body_hash: [n; 32], about };
    let payout = PayoutId(Uuid::now_v7());
    for (n, before, now) in [(1, None, Some(payout)), (2, Some(payout), Some(payout)), (3, None, None)] {
        assert!(intake.submit(webhook(n, before)).await.unwrap().unwrap());
        assert!(!intake.submit(webhook(n, now)).await.unwrap().unwrap(), "{n} was kept already");
    }
    let known_by: Vec<Vec<u8>> = sqlx::query_scalar("SELECT body_hash FROM inbox ORDER BY id")
        .fetch_all(&database.pool)
        .await
        .unwrap();
    let named = [payout.0.as_bytes().as_slice(), &[2; 32]].concat();
    assert_eq!(known_by, [vec![1; 32], named, vec![3; 32]]);
}
