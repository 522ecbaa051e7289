//! The same service as a competent team writes it first: axum and sqlx, one transaction for each step, work
//! carried on in the task that learnt of it. It keeps what it promises while it lives: durable before
//! acknowledged, each webhook once, a rule before each confirm, history, one notification. It has no
//! recovery, no retries, no metrics and one API key; all of that would make it slower.

use crate::text;
use aws_lc_rs::rsa::KeyPair;
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::Args;
use hmac::{Hmac, Mac};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use sqlx::{PgConnection, PgPool, postgres::PgPoolOptions};
use std::{path::PathBuf, sync::Arc};
use tokio::net::TcpListener;
use uuid::Uuid;

/// The highest amount that is confirmed.
const LIMIT: i64 = 1_000_000;

#[derive(Args)]
pub struct Options {
    #[arg(long)]
    listen: String,
    #[arg(long)]
    pike: String,
    #[arg(long)]
    notify: String,
    #[arg(long)]
    key: PathBuf,
    #[arg(long)]
    secret: PathBuf,
    #[arg(long)]
    api_key: String,
    #[arg(long)]
    connections: u32,
}

struct Service {
    pool: PgPool,
    http: reqwest::Client,
    key: KeyPair,
    create_signature: String,
    secret: Hmac<Sha256>,
    bearer: String,
    pike: String,
    notify: String,
}

type Handled<T> = Result<T, StatusCode>;

/// Serves until it is killed. The database comes in `DATABASE_URL`, with its tables.
pub async fn serve(options: Options) {
    let url = std::env::var("DATABASE_URL").unwrap();
    let key = payoutd::keys::signing_key(&std::fs::read_to_string(&options.key).unwrap()).unwrap();
    let service = Arc::new(Service {
        pool: PgPoolOptions::new().max_connections(options.connections).connect(&url).await.unwrap(),
        http: reqwest::Client::builder().no_proxy().tcp_nodelay(true).build().unwrap(),
        create_signature: text::rsa(&key, b"{}"),
        key,
        secret: text::hmac_key(std::fs::read_to_string(&options.secret).unwrap().trim().as_bytes()),
        bearer: format!("Bearer {}", options.api_key),
        pike: options.pike,
        notify: options.notify,
    });
    let router = Router::new()
        .route("/v1/payouts", post(order))
        .route("/pike", post(webhook))
        .route("/bare", post(bare))
        .with_state(service);
    let listener = TcpListener::bind(options.listen).await.unwrap();
    axum::serve(listener, router).await.unwrap();
}

#[derive(Deserialize)]
struct Order {
    amount: i64,
    currency: String,
    destination: Destination,
    recipient: Recipient,
    customer_reference: String,
    reference: String,
}

#[derive(Deserialize)]
struct Destination {
    token: String,
}

#[derive(Deserialize)]
struct Recipient {
    name: String,
}

async fn order(
    State(service): State<Arc<Service>>,
    headers: HeaderMap,
    body: Bytes,
) -> Handled<(StatusCode, String)> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if header("authorization") != Some(&service.bearer) {
        return Err(StatusCode::UNAUTHORIZED);
    }
    let idempotency_key = header("idempotency-key").ok_or(StatusCode::BAD_REQUEST)?.to_owned();
    let order: Order = serde_json::from_slice(&body).map_err(|_| StatusCode::BAD_REQUEST)?;
    let id = Uuid::now_v7();
    let mut tx = service.pool.begin().await.unwrap();
    sqlx::query(
        "INSERT INTO payouts (id, idempotency_key, amount, currency, token, recipient_name,
            customer_reference, reference, status, step)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'accepted', 1)",
    )
    .bind(id)
    .bind(idempotency_key)
    .bind(order.amount)
    .bind(&order.currency)
    .bind(&order.destination.token)
    .bind(&order.recipient.name)
    .bind(&order.customer_reference)
    .bind(&order.reference)
    .execute(&mut *tx)
    .await
    .map_err(|_| StatusCode::CONFLICT)?;
    remember(&mut tx, id, 1, "accepted", None).await;
    tx.commit().await.unwrap();
    tokio::spawn(service.start(id, order));
    Ok((StatusCode::CREATED, json!({ "id": id, "status": "accepted" }).to_string()))
}

async fn remember(tx: &mut PgConnection, id: Uuid, step: i32, status: &str, detail: Option<&str>) {
    sqlx::query("INSERT INTO history (payout_id, step, status, detail) VALUES ($1, $2, $3, $4)")
        .bind(id)
        .bind(step)
        .bind(status)
        .bind(detail)
        .execute(tx)
        .await
        .unwrap();
}

/// Moves a payout on; what came later already stays.
async fn advance(tx: &mut PgConnection, id: Uuid, step: i32, status: &str) {
    sqlx::query("UPDATE payouts SET status = $3, step = $2, updated_at = now() WHERE id = $1 AND step < $2")
        .bind(id)
        .bind(step)
        .bind(status)
        .execute(tx)
        .await
        .unwrap();
}

/// The least that a receiver can do: one insert, and 200 once it is committed.
async fn bare(State(service): State<Arc<Service>>, body: Bytes) -> StatusCode {
    let kept = sqlx::query("INSERT INTO bare (body) VALUES ($1)").bind(body.as_ref());
    kept.execute(&service.pool).await.unwrap();
    StatusCode::OK
}

async fn webhook(State(service): State<Arc<Service>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let signature = headers.get("x-partner-sign").and_then(|value| STANDARD.decode(value).ok());
    let genuine = signature
        .is_some_and(|signature| service.secret.clone().chain_update(&body).verify_slice(&signature).is_ok());
    if !genuine {
        return StatusCode::UNAUTHORIZED;
    }
    let mut tx = service.pool.begin().await.unwrap();
    let id: Option<i64> = sqlx::query_scalar(
        "INSERT INTO inbox (body_hash, body) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING id",
    )
    .bind(Sha256::digest(&body).as_slice())
    .bind(body.as_ref())
    .fetch_optional(&mut *tx)
    .await
    .unwrap();
    tx.commit().await.unwrap();
    if let Some(inbox) = id {
        tokio::spawn(service.work_off(inbox, body));
    }
    StatusCode::OK
}

#[derive(Deserialize)]
struct Answer {
    session: Session,
}

#[derive(Deserialize)]
struct Webhook {
    r#type: String,
    session: Session,
}

#[derive(Deserialize)]
struct Session {
    id: String,
    #[serde(default)]
    payout_list: Vec<Payout>,
}

#[derive(Deserialize)]
struct Payout {
    status: String,
    amount_details: Amount,
    transaction_info: Option<TransactionInfo>,
}

#[derive(Deserialize)]
struct Amount {
    amount: i64,
}

#[derive(Deserialize)]
struct TransactionInfo {
    rrn: String,
}

impl Service {
    async fn call(&self, method: &str, body: String, signature: String) -> Answer {
        let request = self.http.post(format!("{}/api/v2/session/{method}", self.pike));
        let request = request.header("x-partner-project", "shop").header("x-partner-sign", signature);
        let answer = request.header("content-type", "application/json").body(body).send().await.unwrap();
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
    }

    async fn start(self: Arc<Self>, id: Uuid, order: Order) {
        let answer = self.call("create", "{}".to_owned(), self.create_signature.clone()).await;
        let session = answer.session.id;
        let mut tx = self.pool.begin().await.unwrap();
        sqlx::query("UPDATE payouts SET session_id = $2, updated_at = now() WHERE id = $1")
            .bind(id)
            .bind(&session)
            .execute(&mut *tx)
            .await
            .unwrap();
        advance(&mut tx, id, 2, "starting").await;
        remember(&mut tx, id, 2, "starting", Some(&session)).await;
        tx.commit().await.unwrap();
        let body = json!({
            "session_id": session,
            "payout_details": {
                "type": "card",
                "card": { "type": "tokenized_card", "tokenized_card": { "token": order.destination.token } },
            },
            "amount_details": { "amount": order.amount, "currency": order.currency.to_ascii_lowercase() },
            "participant_details": { "recipient": { "full_name": order.recipient.name } },
            "customer": { "reference": order.customer_reference },
            "metadata": format!("{id}/1"),
        })
        .to_string();
        let signature = text::rsa(&self.key, body.as_bytes());
        self.call("start/payout", body, signature).await;
        let mut tx = self.pool.begin().await.unwrap();
        advance(&mut tx, id, 3, "processing").await;
        remember(&mut tx, id, 3, "processing", None).await;
        tx.commit().await.unwrap();
    }

    async fn work_off(self: Arc<Self>, inbox: i64, body: Bytes) {
        let webhook: Webhook = serde_json::from_slice(&body).unwrap();
        match webhook.r#type.as_str() {
            "ready_to_confirm" => self.confirm(inbox, webhook.session).await,
            "payment_finished" => self.finish(inbox, webhook.session).await,
            other => panic!("{other}"),
        }
    }

    async fn confirm(&self, inbox: i64, session: Session) {
        let mut tx = self.pool.begin().await.unwrap();
        let (id, amount): (Uuid, i64) =
            sqlx::query_as("SELECT id, amount FROM payouts WHERE session_id = $1 FOR UPDATE")
                .bind(&session.id)
                .fetch_one(&mut *tx)
                .await
                .unwrap();
        assert!(amount <= LIMIT && session.payout_list[0].amount_details.amount == amount);
        sqlx::query("INSERT INTO permits (payout_id, rule) VALUES ($1, 'amount')")
            .bind(id)
            .execute(&mut *tx)
            .await
            .unwrap();
        advance(&mut tx, id, 4, "confirming").await;
        remember(&mut tx, id, 4, "confirming", None).await;
        close(&mut tx, inbox).await;
        tx.commit().await.unwrap();
        let body = json!({ "session_id": session.id }).to_string();
        let signature = text::rsa(&self.key, body.as_bytes());
        self.call("confirm", body, signature).await;
        let mut tx = self.pool.begin().await.unwrap();
        advance(&mut tx, id, 5, "settling").await;
        remember(&mut tx, id, 5, "settling", None).await;
        tx.commit().await.unwrap();
    }

    async fn finish(&self, inbox: i64, session: Session) {
        let payout = &session.payout_list[0];
        assert_eq!(payout.status, "succeeded");
        let mut tx = self.pool.begin().await.unwrap();
        let (id, reference): (Uuid, String) = sqlx::query_as(
            "UPDATE payouts SET status = 'succeeded', step = 6, token = NULL, rrn = $2, updated_at = now()
             WHERE session_id = $1 RETURNING id, reference",
        )
        .bind(&session.id)
        .bind(payout.transaction_info.as_ref().map(|info| &info.rrn))
        .fetch_one(&mut *tx)
        .await
        .unwrap();
        remember(&mut tx, id, 6, "succeeded", None).await;
        close(&mut tx, inbox).await;
        let data = json!({ "id": id, "reference": reference, "status": "succeeded" });
        let payload = json!({ "type": "payout.succeeded", "data": data }).to_string();
        sqlx::query("INSERT INTO notifications (payout_id, payload) VALUES ($1, $2)")
            .bind(id)
            .bind(&payload)
            .execute(&mut *tx)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        let signature = text::hmac(&self.secret, payload.as_bytes());
        let request = self.http.post(&self.notify).header("webhook-signature", signature).body(payload);
        assert!(request.send().await.unwrap().status().is_success());
        let mut tx = self.pool.begin().await.unwrap();
        sqlx::query("UPDATE notifications SET delivered_at = now() WHERE payout_id = $1")
            .bind(id)
            .execute(&mut *tx)
            .await
            .unwrap();
        tx.commit().await.unwrap();
    }
}

async fn close(tx: &mut PgConnection, inbox: i64) {
    sqlx::query("UPDATE inbox SET done_at = now() WHERE id = $1").bind(inbox).execute(tx).await.unwrap();
}
