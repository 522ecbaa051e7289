//! A partner who speaks one version of the API for one project, and looks at every answer for what the
//! documentation does not allow.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::shape;
use crate::raw::{self, Message};
use crate::support::{World, partner_keys, until};

/// Which names a call uses (§0.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V1,
    V2,
}

impl Version {
    pub const BOTH: [Self; 2] = [Self::V1, Self::V2];

    pub fn other(self) -> Self {
        match self {
            Self::V1 => Self::V2,
            Self::V2 => Self::V1,
        }
    }

    pub fn path(self) -> &'static str {
        match self {
            Self::V1 => "/api/v1/",
            Self::V2 => "/api/v2/",
        }
    }

    /// What the payout's destination is called.
    pub fn destination(self) -> &'static str {
        match self {
            Self::V1 => "payment_method",
            Self::V2 => "payout_details",
        }
    }

    /// What a session's list of payouts is called.
    pub fn payouts(self) -> &'static str {
        match self {
            Self::V1 => "payments",
            Self::V2 => "payout_list",
        }
    }

    /// What a session's list of incoming payments is called.
    pub fn incoming(self) -> &'static str {
        match self {
            Self::V1 => "acquiring_payments",
            Self::V2 => "payment_list",
        }
    }
}

#[derive(Clone)]
pub struct Partner {
    pub address: SocketAddr,
    pub project: String,
    pub version: Version,
}

impl Partner {
    /// Of project `shop`.
    pub fn of(world: &World, version: Version) -> Self {
        let address = world.base.strip_prefix("http://").unwrap().parse().unwrap();
        Self { address, project: "shop".to_owned(), version }
    }

    pub fn project(&self, project: &str) -> Self {
        Self { project: project.to_owned(), ..self.clone() }
    }

    pub fn version(&self, version: Version) -> Self {
        Self { version, ..self.clone() }
    }

    /// A call with exactly these headers and no others that mean anything.
    pub async fn send(&self, method: &str, headers: &[(&str, &str)], body: &[u8]) -> Message {
        let headers = [&[("Content-Type", "application/json")], headers].concat();
        let request = raw::post(&format!("{}{method}", self.version.path()), &headers, body);
        let answer = raw::answer(self.address, &request).await;
        assert_eq!(answer.all("content-type"), ["application/json"], "§1.2");
        assert!(answer.all("x-partner-sign").is_empty(), "§1.4: answers are not signed");
        answer
    }

    /// A signed call with these bytes for its body, and more headers.
    pub async fn signed(&self, method: &str, more: &[(&str, &str)], body: &[u8]) -> Message {
        let signature = partner_keys().sign(body);
        let own = [("X-PARTNER-PROJECT", self.project.as_str()), ("X-PARTNER-SIGN", signature.as_str())];
        self.send(method, &[&own, more].concat(), body).await
    }

    pub async fn call(&self, method: &str, body: &Value) -> Message {
        self.signed(method, &[], &serde_json::to_vec(body).unwrap()).await
    }

    /// A session method that must be accepted; its session, which looks as §3 says.
    pub async fn ok(&self, method: &str, body: &Value) -> Value {
        self.session(&self.call(&format!("session/{method}"), body).await)
    }

    /// The session in an answer that must be one of success.
    pub fn session(&self, answer: &Message) -> Value {
        let json = answer.json();
        assert_eq!((answer.http(), &json["status"]), (200, &json!("ok")), "{json}");
        let fields: Vec<_> = json.as_object().unwrap().keys().collect();
        assert_eq!(fields, ["session", "status"], "{json}");
        shape::session(&json["session"], self.version);
        json["session"].clone()
    }

    /// A session method that must be refused like this.
    pub async fn refused(&self, method: &str, body: &Value, http: u16, code: &str) {
        let answer = self.call(&format!("session/{method}"), body).await;
        shape::refusal(&answer, http, code);
    }

    pub async fn created(&self) -> String {
        id_of(&self.ok("create", &json!({})).await)
    }

    /// What §2.3's example sends, with this destination.
    pub fn start(&self, id: &str, destination: &Value) -> Value {
        let mut body = self.init(destination);
        body["session_id"] = json!(id);
        body
    }

    /// What §2.3's example sends, without a session.
    pub fn init(&self, destination: &Value) -> Value {
        let mut body = json!({
            "participant_details": { "recipient": { "full_name": "Anna Petrova" } },
            "amount_details": { "amount": 125_050, "currency": "rub" },
            "customer": { "reference": "user-77", "contacts": [{ "email": "anna@example.org" }] },
            "metadata": "wd-2025-000417",
        });
        body[self.version.destination()] = destination.clone();
        body
    }

    pub async fn started(&self, destination: &Value) -> String {
        let id = self.created().await;
        self.ok("start/payout", &self.start(&id, destination)).await;
        id
    }

    pub async fn confirmed(&self, destination: &Value) -> String {
        let id = self.started(destination).await;
        self.wait_ready(&id).await;
        self.ok("confirm", &named(&id)).await;
        id
    }

    pub async fn status(&self, id: &str) -> Value {
        self.ok("status", &named(id)).await
    }

    pub async fn wait_ready(&self, id: &str) -> Value {
        let ready = async || Some(self.status(id).await).filter(|it| it["next_action"] == "confirm");
        until("next_action", ready).await
    }

    pub async fn wait_status(&self, id: &str, status: &str) -> Value {
        until(status, async || Some(self.status(id).await).filter(|it| it["status"] == status)).await
    }

    pub async fn wait_final(&self, id: &str) -> Value {
        let is_final = |it: &Value| it["status"] == "accepted" || it["status"] == "cancelled";
        until("a final status", async || Some(self.status(id).await).filter(is_final)).await
    }

    /// The only payout of a session.
    pub fn payout<'a>(&self, session: &'a Value) -> &'a Value {
        let payouts = session[self.version.payouts()].as_array().unwrap();
        assert_eq!(payouts.len(), 1, "{session}");
        &payouts[0]
    }
}

pub fn id_of(session: &Value) -> String {
    session["id"].as_str().unwrap().to_owned()
}

pub fn named(id: &str) -> Value {
    json!({ "session_id": id })
}

/// A `bank_card` destination of this number (§3.4.1).
pub fn bank_card(number: &str) -> Value {
    json!({ "type": "card", "card": { "type": "bank_card", "bank_card": { "number": number } } })
}

/// A `tokenized_card` destination (§3.4.1).
pub fn token(token: &str) -> Value {
    json!({ "type": "card", "card": { "type": "tokenized_card", "tokenized_card": { "token": token } } })
}
