//! A caller of the REST API.

use super::{http_client, unique, until};
use reqwest::{Method, header::HeaderMap};
use serde_json::{Value, json};

/// A caller with one API key.
#[derive(Clone)]
pub struct Api {
    http: reqwest::Client,
    base: String,
    key: String,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
    pub body: Value,
}

impl Answer {
    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    pub fn id(&self) -> String {
        self.body["id"]
            .as_str()
            .unwrap_or_else(|| panic!("no payout: {} {}", self.status, self.text))
            .to_owned()
    }

    /// Status, code and field of a problem, all at once for comparing.
    pub fn problem(&self) -> (u16, &str, &str) {
        (self.status, self.code(), self.body["field"].as_str().unwrap_or_default())
    }
}

/// An order of 1250.50 roubles to `token`, for a customer of its own.
pub fn order(token: &str) -> Value {
    json!({
        "amount": 125_050,
        "currency": "RUB",
        "destination": { "type": "tokenized_card", "token": token },
        "recipient": { "name": "Anna Petrova" },
        "customer_reference": format!("customer-{}", unique()),
    })
}

/// The same with another amount.
pub fn order_of(token: &str, amount: i64) -> Value {
    let mut order = order(token);
    order["amount"] = json!(amount);
    order
}

impl Api {
    pub fn new(base: impl Into<String>, key: &str) -> Self {
        Self { http: http_client(), base: base.into(), key: key.to_owned() }
    }

    /// The same with a client that others use as well: making one costs milliseconds.
    pub fn sharing(http: &reqwest::Client, base: impl Into<String>, key: &str) -> Self {
        Self { http: http.clone(), base: base.into(), key: key.to_owned() }
    }

    /// A request that may lack anything.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    pub async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        self.try_send(request).await.unwrap()
    }

    pub async fn try_send(&self, request: reqwest::RequestBuilder) -> Result<Answer, reqwest::Error> {
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = String::from_utf8(response.bytes().await?.to_vec()).unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Ok(Answer { status, headers, text, body })
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.get_request(path)).await
    }

    pub fn get_request(&self, path: &str) -> reqwest::RequestBuilder {
        self.request(Method::GET, path).bearer_auth(&self.key)
    }

    /// A POST without a body.
    pub async fn post(&self, path: &str) -> Answer {
        self.send(self.post_request(path)).await
    }

    pub fn post_request(&self, path: &str) -> reqwest::RequestBuilder {
        self.request(Method::POST, path).bearer_auth(&self.key)
    }

    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(self.put_request(path, body)).await
    }

    pub fn put_request(&self, path: &str, body: &Value) -> reqwest::RequestBuilder {
        let request = self.request(Method::PUT, path).bearer_auth(&self.key);
        request.header("content-type", "application/json").body(body.to_string())
    }

    /// A create with everything it needs, and any body.
    pub fn creating(&self, idempotency_key: &str, body: impl Into<reqwest::Body>) -> reqwest::RequestBuilder {
        self.request(Method::POST, "/v1/payouts")
            .bearer_auth(&self.key)
            .header("idempotency-key", idempotency_key)
            .header("content-type", "application/json")
            .body(body)
    }

    pub async fn create_with_key(&self, idempotency_key: &str, order: &Value) -> Answer {
        self.send(self.creating(idempotency_key, order.to_string())).await
    }

    /// Creates a payout that must be accepted; its id.
    pub async fn create(&self, order: &Value) -> String {
        let answer = self.create_with_key(&unique(), order).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        answer.id()
    }

    pub async fn payout(&self, id: &str) -> Value {
        let answer = self.get(&format!("/v1/payouts/{id}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.body
    }

    pub async fn act(&self, id: &str, action: &str) -> Answer {
        self.post(&format!("/v1/payouts/{id}/{action}")).await
    }

    pub async fn history(&self, id: &str) -> Vec<Value> {
        let answer = self.get(&format!("/v1/payouts/{id}/history")).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.body["data"].as_array().unwrap().clone()
    }

    /// The reasons in a payout's history, in order.
    pub async fn reasons(&self, id: &str) -> Vec<String> {
        let reason = |entry: &Value| entry["reason"].as_str().unwrap().to_owned();
        self.history(id).await.iter().map(reason).collect()
    }

    /// Waits until the payout passes the test.
    pub async fn wait(&self, id: &str, what: &str, test: impl Fn(&Value) -> bool) -> Value {
        let wanted = format!("{id} to be {what}");
        until(&wanted, || async { Some(self.payout(id).await).filter(&test) }).await
    }

    /// Waits for a status; no other final one may come in its place.
    pub async fn wait_status(&self, id: &str, status: &str) -> Value {
        let payout =
            self.wait(id, status, |payout| payout["status"] == status || payout["final"] == true).await;
        if payout["status"] != status {
            panic!("{id} ended otherwise: {payout}\n{:#?}", self.history(id).await);
        }
        payout
    }

    /// Waits for the inner state that `status_details` tells.
    pub async fn wait_details(&self, id: &str, code: &str) -> Value {
        self.wait(id, code, |payout| payout["status_details"]["code"] == code).await
    }

    /// Creates and waits for a status.
    pub async fn run(&self, order: &Value, status: &str) -> Value {
        let id = self.create(order).await;
        self.wait_status(&id, status).await
    }
}
