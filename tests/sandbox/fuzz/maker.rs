//! What the generators draw from: chance, whole signed requests, full bodies of every method.

use serde_json::{Value, json};

use crate::chance::Chance;
use crate::contract::partner::Version;
use crate::raw;
use crate::support::partner_keys;

pub enum Expects {
    /// The bytes are so many whole requests, of which the last asks to close.
    Answers(usize),
    /// Who knows; the sending side hangs up.
    Anything,
}

pub struct Case {
    pub bytes: Vec<u8>,
    pub expects: Expects,
    /// Whether it is a call of Pike's API, so that its answer is one of Pike's.
    pub is_call: bool,
}

impl Case {
    /// A whole call.
    pub fn call(bytes: Vec<u8>) -> Self {
        Self { bytes, expects: Expects::Answers(1), is_call: true }
    }

    pub fn anything(bytes: Vec<u8>) -> Self {
        Self { bytes, expects: Expects::Anything, is_call: false }
    }
}

/// A method, and a body with every field that the documents know for it.
#[derive(Clone)]
pub struct Template {
    pub path: String,
    pub body: Value,
}

pub struct Maker {
    pub chance: Chance,
    /// Sessions that can be named: one not started, one started.
    pub sessions: Vec<String>,
    /// Every field of every method, and whose turn it is to be of a wrong type.
    fields: Vec<(Template, String)>,
    turn: usize,
}

const LARGE: [&str; 3] = ["create", "start/payout", "init/payout"];
const SMALL: [&str; 3] = ["status", "confirm", "cancel"];
/// How many kinds of destinations there are.
const DESTINATIONS: usize = 4;

impl Maker {
    pub fn new() -> Self {
        let chance = Chance::from_environment();
        Self { chance, sessions: Vec::new(), fields: every_field(), turn: 0 }
    }

    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.chance.below(from.len())].clone()
    }

    pub fn byte(&mut self) -> u8 {
        u8::try_from(self.chance.below(256)).unwrap()
    }

    /// Up to `most` random bytes.
    pub fn noise(&mut self, most: usize) -> Vec<u8> {
        (0..self.chance.below(most + 1)).map(|_| self.byte()).collect()
    }

    /// Up to `most` characters that HTTP allows in a header's value.
    pub fn printable(&mut self, most: usize) -> String {
        let printable = |byte: u8| char::from(b' ' + byte % 95);
        (0..self.chance.below(most + 1)).map(|_| printable(self.byte())).collect()
    }

    /// A whole call with good headers.
    pub fn signed(&mut self, path: &str, body: &[u8]) -> Vec<u8> {
        let signature = partner_keys().sign(body);
        let project = ("X-PARTNER-PROJECT", "shop");
        raw::post(path, &[project, ("X-PARTNER-SIGN", &signature)], body)
    }

    /// A call that is good, more or less: its session may be in another state by now.
    pub fn good(&mut self) -> Vec<u8> {
        let template = self.template();
        let body = serde_json::to_vec(&template.body).unwrap();
        self.signed(&template.path, &body)
    }

    pub fn template(&mut self) -> Template {
        let version = self.pick(&Version::BOTH);
        if self.chance.below(7) == 0 {
            let (method, session) = (self.pick(&SMALL), self.pick(&self.sessions.clone()));
            return template(version, method, 0).of(&session);
        }
        let (method, destination) = (self.pick(&LARGE), self.chance.below(DESTINATIONS));
        template(version, method, destination).of(&self.sessions[0])
    }

    /// The next field in turn.
    pub fn next_field(&mut self) -> (Template, String) {
        let (template, field) = self.fields[self.turn % self.fields.len()].clone();
        self.turn += 1;
        (template.of(&self.sessions[0]), field)
    }

    pub fn has_tried_every_field(&self) -> bool {
        self.turn >= self.fields.len()
    }
}

impl Template {
    /// About this session, if it is about one.
    fn of(mut self, session: &str) -> Self {
        if let Some(id) = self.body.get_mut("session_id") {
            *id = json!(session);
        }
        self
    }
}

fn template(version: Version, method: &str, destination: usize) -> Template {
    let mut body = if SMALL.contains(&method) { json!({}) } else { full_body(version, destination) };
    if method != "create" && method != "init/payout" {
        body["session_id"] = json!("");
    }
    Template { path: format!("{}session/{method}", version.path()), body }
}

/// Each field of each method in each version; what does not depend on the kind of destination, once.
fn every_field() -> Vec<(Template, String)> {
    let mut found = Vec::new();
    for version in Version::BOTH {
        let own = format!("/{}", version.destination());
        for method in [LARGE, SMALL].concat() {
            for destination in 0..if SMALL.contains(&method) { 1 } else { DESTINATIONS } {
                let template = template(version, method, destination);
                for field in fields_of(&template.body) {
                    if destination == 0 || field.starts_with(&own) {
                        found.push((template.clone(), field));
                    }
                }
            }
        }
    }
    found
}

/// Where in a body there is something: JSON pointers, the root left out.
pub fn fields_of(body: &Value) -> Vec<String> {
    fn collect(value: &Value, at: &str, found: &mut Vec<String>) {
        let members: Vec<(String, &Value)> = match value {
            Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), value)).collect(),
            Value::Array(list) => list.iter().enumerate().map(|(n, value)| (n.to_string(), value)).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
        };
        for (name, value) in members {
            let at = format!("{at}/{name}");
            found.push(at.clone());
            collect(value, &at, found);
        }
    }
    let mut found = Vec::new();
    collect(body, "", &mut found);
    found
}

fn full_body(version: Version, destination: usize) -> Value {
    let card = |kind: &str, fields: Value| json!({ "type": "card", "card": { "type": kind, kind: fields } });
    let destination = match destination {
        0 => card(
            "bank_card",
            json!({ "number": "4242424242424242", "expiration_month": "07", "expiration_year": "31",
                "security_code": "123", "cardholder_name": "A P" }),
        ),
        1 => card(
            "encrypted_card",
            json!({ "number_hash": "3c6c", "expiration_date_hash": "aa", "security_code_hash": "bb",
                "cardholder_name_hash": "cc" }),
        ),
        2 => card("tokenized_card", json!({ "token": "759c" })),
        _ => json!({ "type": "recurrent",
            "recurrent": { "token": "9741", "initiator": "merchant", "security_code": "123" } }),
    };
    let person = json!({ "full_name": "Anna Petrova", "country_iso3": "GEO", "date_of_birth": "1990-05-06",
        "identity_document": { "id_type": "passport", "id_number": "1" }, "msisdn": "995555000000" });
    json!({
        version.destination(): destination,
        "amount_details": { "amount": 125_050, "currency": "rub" },
        "participant_details": { "recipient": person, "sender": person },
        "customer": { "reference": "user-77", "contacts": [{ "email": "a@example.org" }, { "phone": "1" }] },
        "metadata": { "attempt": ["wd-1", 1, null] },
        "custom_routing": { "tags": [{ "root_tag": "r", "values": ["v"] }] },
        "payment_options": { "return_url": "https://example.org" },
        "payment_details": { "type": "card" },
        "fiscalization_details": {},
        "confirm_information": { "a": 1 },
    })
}
