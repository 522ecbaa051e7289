//! A fault rule: which fault, where it strikes, how often, and with which figures. The same form stands in
//! scenario files and in the control API; the request header has a shorter one.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::code::Code;
use super::super::machine::WebhookKind;
use super::super::magic::Magic;
use super::super::request::Method;
use super::super::session::{Shows, Version};
use super::kind::{FaultKind, Scope};

/// The longest wait a fault may cause.
const LONGEST_DELAY: Duration = Duration::from_secs(3600);
/// The largest body a fault may cause.
const LARGEST_BODY: u64 = 1 << 30;
/// The most copies of one webhook.
const MOST_COPIES: u8 = 100;

/// Figures of a fault. Those left out have a default where they are used; those that it does not use change
/// nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Figures {
    /// HTTP status of `error_before`, `error_after`, `redirect`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Error code in the body of `error_before`, `error_after`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// `Retry-After` of `error_before`, `error_after`, as it is to be sent: however odd.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<String>,
    /// How long `delay_*`, `webhook_delay`, `webhook_reorder`, `webhook_replay` and `webhook_before_answer`
    /// wait; from chunk to chunk for `drip`.
    #[serde(with = "humantime_serde::option", skip_serializing_if = "Option::is_none")]
    pub delay: Option<Duration>,
    /// After how many bytes of the answer `reset` and `truncated` strike; bytes a chunk for `drip`; size for
    /// `huge`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// How often `webhook_duplicate` sends it in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copies: Option<u8>,
    /// Where `redirect` points; the same address when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// What `stale_status` and `status_backwards` show.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shows: Option<Shows>,
    /// The magic token whose story `story` tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub story: Option<String>,
}

/// What must fit for a rule to apply; what is left out always fits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Target {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// A part of the metadata's JSON text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<String>,
    /// Minor units.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amount: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookKind>,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    pub fault: FaultKind,
    #[serde(flatten)]
    pub target: Target,
    /// How often it strikes where it fits, from 0 to 1.
    #[serde(default = "always")]
    pub rate: f64,
    /// How often it fits before it can strike.
    #[serde(default)]
    pub skip: u64,
    /// After so many strikes it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
    #[serde(flatten)]
    pub figures: Figures,
}

fn always() -> f64 {
    1.0
}

/// Fields of a rule: flattened structs cannot refuse unknown ones themselves.
const FIELDS: &[&str] = &[
    "fault",
    "project",
    "method",
    "version",
    "session",
    "metadata",
    "amount",
    "webhook",
    "rate",
    "skip",
    "times",
    "status",
    "code",
    "retry_after",
    "delay",
    "bytes",
    "copies",
    "location",
    "shows",
    "story",
];

impl Rule {
    /// A rule that strikes wherever its fault can.
    #[must_use]
    pub fn plain(fault: FaultKind) -> Self {
        let (target, figures) = (Target::default(), Figures::default());
        Self { fault, target, rate: 1.0, skip: 0, times: None, figures }
    }

    /// Reads a rule and checks it.
    ///
    /// # Errors
    /// A sentence that names the field and what is allowed.
    pub fn read(value: serde_json::Value) -> Result<Self, String> {
        let object = value.as_object().ok_or("a rule is an object")?;
        if let Some(unknown) = object.keys().find(|key| !FIELDS.contains(&key.as_str())) {
            return Err(format!("`{unknown}` is not a field of a rule; there are {}", FIELDS.join(", ")));
        }
        let name = object.get("fault").and_then(serde_json::Value::as_str);
        if name.and_then(FaultKind::named).is_none() {
            let names: Vec<_> = FaultKind::ALL.iter().map(|kind| kind.name()).collect();
            return Err(format!("`fault` must be one of {}", names.join(", ")));
        }
        for (field, value) in object {
            // One at a time: flattened structs do not say where they failed.
            let alone = serde_json::json!({ "fault": name, field.as_str(): value });
            serde_json::from_value::<Self>(alone).map_err(|error| format!("`{field}`: {error}"))?;
        }
        let rule: Self = serde_json::from_value(value).map_err(|error| error.to_string())?;
        rule.check().map(|()| rule)
    }

    /// Reads the short form: the fault's name, then `;field=value`.
    ///
    /// # Errors
    /// As for [`Rule::read`].
    pub fn read_short(text: &str) -> Result<Self, String> {
        let mut parts = text.split(';').map(str::trim);
        let mut object = serde_json::Map::new();
        object.insert("fault".to_owned(), parts.next().unwrap_or_default().into());
        for part in parts {
            let (field, value) =
                part.split_once('=').ok_or_else(|| format!("`{part}` is not field=value"))?;
            let (field, value) = (field.trim(), value.trim());
            let number = value.parse::<i64>().ok().filter(|_| field != "retry_after");
            let value = number.map_or_else(|| value.into(), serde_json::Value::from);
            object.insert(field.to_owned(), value);
        }
        Self::read(object.into())
    }

    fn check(&self) -> Result<(), String> {
        let Self { fault, target, figures, .. } = self;
        if !(0.0..=1.0).contains(&self.rate) {
            return Err("`rate` goes from 0 to 1".to_owned());
        }
        if self.times == Some(0) {
            return Err("`times` is at least 1; leave it out for no limit".to_owned());
        }
        match fault.scope() {
            Scope::Webhook if target.method.is_some() => {
                return Err(format!("`{}` is about webhooks: `method` does not go with it", fault.name()));
            }
            Scope::Call | Scope::Status | Scope::Start if target.webhook.is_some() => {
                return Err(format!("`{}` is about calls: `webhook` does not go with it", fault.name()));
            }
            Scope::Webhook | Scope::Call | Scope::Status | Scope::Start => {}
        }
        figures.check(*fault)
    }
}

impl Figures {
    fn check(&self, fault: FaultKind) -> Result<(), String> {
        if self.status.is_some_and(|status| !(300..=599).contains(&status)) {
            return Err("`status` goes from 300 to 599".to_owned());
        }
        if self.delay.is_some_and(|delay| delay > LONGEST_DELAY) {
            return Err("`delay` is an hour at most".to_owned());
        }
        if self.bytes.is_some_and(|bytes| bytes > LARGEST_BODY) {
            return Err(format!("`bytes` is {LARGEST_BODY} at most"));
        }
        if self.copies.is_some_and(|copies| !(1..=MOST_COPIES).contains(&copies)) {
            return Err(format!("`copies` goes from 1 to {MOST_COPIES}"));
        }
        let header = |text: &Option<String>| {
            text.as_deref().is_none_or(|text| axum::http::HeaderValue::from_str(text).is_ok())
        };
        if !header(&self.retry_after) || !header(&self.location) {
            return Err("`retry_after` and `location` must fit into a header".to_owned());
        }
        match (&self.story, fault == FaultKind::Story) {
            (None, true) => Err("`story` must name a magic token, such as tok_decline".to_owned()),
            (Some(_), false) => Err("`story` goes with the fault `story` only".to_owned()),
            (Some(token), true) if Magic::listed(token).is_none() => {
                Err(format!("`story`: `{token}` is not a magic token"))
            }
            (Some(_), true) | (None, false) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reads_both_forms() {
        let long = json!({ "fault": "error_before", "status": 503, "retry_after": "-5" });
        let rule = Rule::read(long).unwrap();
        assert_eq!(rule, Rule::read_short("error_before; status=503;retry_after=-5").unwrap());
        assert_eq!((rule.figures.status, rule.figures.retry_after.as_deref()), (Some(503), Some("-5")));
        let rule = Rule::read_short("delay_before;delay=40s").unwrap();
        assert_eq!(rule.figures.delay, Some(Duration::from_secs(40)));
        let rule = Rule::read(json!({ "fault": "answer_lost", "method": "session/confirm", "rate": 0.25 }));
        let rule = rule.unwrap();
        assert_eq!((rule.target.method, rule.rate), (Some(Method::Confirm), 0.25));
    }

    #[test]
    fn a_refusal_names_the_field() {
        for (rule, field) in [
            (json!([]), "object"),
            (json!({}), "fault"),
            (json!({ "fault": "flood" }), "answer_lost"),
            (json!({ "fault": "html", "colour": 1 }), "colour"),
            (json!({ "fault": "html", "rate": 1.5 }), "rate"),
            (json!({ "fault": "html", "times": 0 }), "times"),
            (json!({ "fault": "html", "method": "session/start" }), "method"),
            (json!({ "fault": "html", "webhook": "payment_finished" }), "webhook"),
            (json!({ "fault": "webhook_drop", "method": "session/create" }), "method"),
            (json!({ "fault": "error_after", "status": 200 }), "status"),
            (json!({ "fault": "error_after", "retry_after": "a\nb" }), "retry_after"),
            (json!({ "fault": "delay_after", "delay": "2h" }), "delay"),
            (json!({ "fault": "huge", "bytes": 2_000_000_000 }), "bytes"),
            (json!({ "fault": "webhook_duplicate", "copies": 0 }), "copies"),
            (json!({ "fault": "story" }), "story"),
            (json!({ "fault": "story", "story": "nonsense" }), "story"),
            (json!({ "fault": "html", "story": "tok_decline" }), "story"),
        ] {
            let refusal = Rule::read(rule.clone()).unwrap_err();
            assert!(refusal.contains(field), "{rule}: {refusal}");
        }
        assert!(Rule::read_short("html;bytes").is_err());
    }
}
