//! Every key of the settings file with what it may hold. `walk` compares a file with this table, and tests
//! compare the table with `default.toml` (keys, defaults, what its comments say is allowed) and with the
//! structs of `config`. What depends on more than one key is in `cross`.

use super::forms;
use std::{fmt, time::Duration};
use toml::Value;

/// A key and what it may hold.
#[derive(Debug)]
pub(super) struct Key {
    pub section: &'static str,
    pub name: &'static str,
    pub kind: Kind,
}

/// What a key may hold.
#[derive(Debug)]
pub(super) enum Kind {
    Duration { least: Duration, most: Duration },
    Integer { least: i64, most: i64 },
    Flag,
    OneOf(&'static [&'static str]),
    Text(Form),
    Texts { form: Form, most: usize },
}

/// What a text may look like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    pub allowed: &'static str,
    pub fits: fn(&str) -> bool,
    pub repeat: Repeat,
}

/// Whether a problem may repeat the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    Plainly,
    /// It may be, or contain, a secret.
    Never,
}

impl fmt::Display for Kind {
    /// What is allowed, as `default.toml` and the problems say it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duration { least, most } => {
                write!(f, "{} to {}", humantime::format_duration(*least), humantime::format_duration(*most))
            }
            Self::Integer { least, most } => write!(f, "{least} to {most}"),
            Self::Flag => f.write_str("true or false"),
            Self::OneOf(words) => {
                let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
                f.write_str(&quoted.join(" or "))
            }
            Self::Text(form) => f.write_str(form.allowed),
            Self::Texts { form, most } => write!(f, "a list of up to {most}, each {}", form.allowed),
        }
    }
}

impl Kind {
    /// Says what is wrong with a value, or nothing.
    pub(super) fn judge(&self, value: &Value) -> Option<String> {
        match self {
            Self::Duration { least, most } => judge_duration(value, *least, *most),
            Self::Integer { least, most } => match value.as_integer() {
                Some(number) if (*least..=*most).contains(&number) => None,
                Some(number) => Some(format!("{number} is out of range")),
                None => Some(mistyped(value, "a whole number")),
            },
            Self::Flag => (!value.is_bool()).then(|| mistyped(value, "true or false without quotes")),
            Self::OneOf(words) => match value.as_str() {
                Some(word) if words.contains(&word) => None,
                Some(word) => Some(format!("{word:?} is not one of the words")),
                None => Some(mistyped(value, "a text in quotes")),
            },
            Self::Text(form) => judge_text(value, form),
            Self::Texts { form, most } => match value.as_array() {
                Some(entries) if entries.len() > *most => {
                    Some(format!("{} entries are too many", entries.len()))
                }
                Some(entries) => entries.iter().find_map(|entry| judge_text(entry, form)),
                None => Some(mistyped(value, "a list of texts")),
            },
        }
    }
}

fn judge_duration(value: &Value, least: Duration, most: Duration) -> Option<String> {
    let Some(text) = value.as_str() else {
        return Some(mistyped(value, "a duration in quotes, like \"30s\""));
    };
    match humantime::parse_duration(text) {
        Ok(duration) if (least..=most).contains(&duration) => None,
        Ok(_) => Some(format!("{text:?} is out of range")),
        Err(_) => Some(format!("{text:?} is not a duration like \"30s\" or \"5m\"")),
    }
}

fn judge_text(value: &Value, form: &Form) -> Option<String> {
    let Some(text) = value.as_str() else { return Some(mistyped(value, "a text in quotes")) };
    if (form.fits)(text) {
        return None;
    }
    if text.is_empty() {
        return Some("is empty".to_owned());
    }
    match form.repeat {
        Repeat::Plainly => Some(format!("{text:?} does not fit")),
        Repeat::Never => Some("the value, not repeated here, does not fit".to_owned()),
    }
}

/// Says which type was found and which is wanted; the value itself is not repeated.
pub(super) fn mistyped(found: &Value, wanted: &str) -> String {
    let found = match found {
        Value::String(_) => "a text",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number with a fraction",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date or time",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    };
    format!("is {found}, not {wanted}")
}

const fn key(section: &'static str, name: &'static str, kind: Kind) -> Key {
    Key { section, name, kind }
}

const fn between(least: Duration, most: Duration) -> Kind {
    Kind::Duration { least, most }
}

const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

const MINUTE: Duration = secs(60);
const HOUR: Duration = secs(3600);
const DAY: Duration = secs(24 * 3600);
const WEEK: Duration = secs(7 * 24 * 3600);
const MONTH: Duration = secs(30 * 24 * 3600);

/// All sections but `[projects.…]`. The reason for each range is in `default.toml`, next to the key.
pub(super) const SETTINGS: &[Key] = &[
    key("database", "url", Kind::Text(forms::DATABASE_URL)),
    key("database", "max_connections", Kind::Integer { least: 2, most: 200 }),
    key("api", "listen", Kind::Text(forms::LISTEN)),
    key("webhook", "listen", Kind::Text(forms::LISTEN)),
    key("admin", "listen", Kind::Text(forms::LISTEN)),
    key("log", "format", Kind::OneOf(&["json", "text"])),
    key("log", "level", Kind::Text(forms::LOG_LEVEL)),
    key("pike", "base_url", Kind::Text(forms::PIKE_URL)),
    key("pike", "api_version", Kind::OneOf(&["v2", "v1"])),
    key("pike", "connect_timeout", between(millis(100), secs(30))),
    key("pike", "total_timeout", between(millis(100), MINUTE)),
    key("pike", "max_response_bytes", Kind::Integer { least: 4096, most: 16_777_216 }),
    key("pike", "max_in_flight", Kind::Integer { least: 1, most: 1024 }),
    key("pike", "calls_per_second", Kind::Integer { least: 0, most: 10_000 }),
    key("pike", "reads_per_second", Kind::Integer { least: 0, most: 10_000 }),
    key("pike", "confirm_window", between(secs(10), WEEK)),
    key("pike", "second_start_refused", Kind::Flag),
    key("pike", "start_unresolved_after", between(secs(1), HOUR)),
    key("pike", "stale_read_grace", between(secs(1), HOUR)),
    key("breaker", "failures", Kind::Integer { least: 1, most: 10_000 }),
    key("breaker", "pause", between(millis(10), MINUTE)),
    key("breaker", "longest_pause", between(millis(10), HOUR)),
    key("polling", "first", between(millis(100), secs(5 * 60))),
    key("polling", "steady", between(millis(100), HOUR)),
    key("polling", "longest", between(millis(100), DAY)),
    key("polling", "paid_first", between(secs(1), MONTH)),
    key("polling", "paid_until", between(secs(0), MONTH)),
    key("effects", "lease", between(secs(1), secs(10 * 60))),
    key("effects", "idle_poll", between(millis(10), secs(10))),
    key("effects", "retry_first", between(millis(10), MINUTE)),
    key("effects", "retry_longest", between(millis(10), HOUR)),
    key("inbox", "lease", between(secs(1), secs(10 * 60))),
    key("inbox", "orphan_for", between(MINUTE, MONTH)),
    key("inbox", "park_after", Kind::Integer { least: 1, most: 100 }),
    key("holds", "margin", between(secs(1), DAY)),
    key("rules", "file", Kind::Text(forms::FILE)),
    key("permit", "max_age", between(secs(1), HOUR)),
    key("attempts", "max", Kind::Integer { least: 1, most: 5 }),
    key("attempts", "codes", Kind::Texts { form: forms::FAILURE_CODE, most: MOST_CODES }),
    key("attempts", "pause", between(secs(1), DAY)),
    key("approvals", "need_owner", Kind::Flag),
    key("reconcile", "only", Kind::Flag),
    key("reconcile", "recent", between(secs(0), MONTH)),
    key("stop_line", "anomalies", Kind::Integer { least: 1, most: 1000 }),
    key("stop_line", "window", between(secs(1), WEEK)),
    key("checker", "every", between(secs(1), HOUR)),
    key("checker", "patience", between(secs(1), DAY)),
    key("checker", "sweep", Kind::Integer { least: 0, most: 100_000 }),
    key("notifications", "timeout", between(millis(100), secs(30))),
    key("notifications", "retry_first", between(millis(10), secs(10 * 60))),
    key("notifications", "retry_longest", between(millis(10), DAY)),
    key("notifications", "give_up_after", between(MINUTE, MONTH)),
    key("notifications", "allow_private_addresses", Kind::Flag),
    key("shutdown", "drain", between(secs(0), secs(60))),
    key("shutdown", "grace", between(secs(1), secs(5 * 60))),
];

/// There are not more failure codes that we know.
const MOST_CODES: usize = 30;

/// The most of Pike's public keys one project can hold: the current one, the next one during a change of
/// keys, and as many again for a gateway; each costs a failed verification of every forged webhook.
const MOST_PIKE_KEYS: usize = 4;

/// The keys of one `[projects.<name>]`.
pub(super) const PROJECT: &[Key] = &[
    key("projects", "pike_project", Kind::Text(forms::HEADER_VALUE)),
    key("projects", "submerchant", Kind::Text(forms::OPTIONAL_HEADER_VALUE)),
    key("projects", "signing_key_file", Kind::Text(forms::FILE)),
    key("projects", "pike_public_key_files", Kind::Texts { form: forms::FILE, most: MOST_PIKE_KEYS }),
    key("projects", "webhook_scheme", Kind::OneOf(&["pike-rsa-sha256", "hmac-sha256"])),
    key("projects", "webhook_secret_file", Kind::Text(forms::OPTIONAL_FILE)),
    key("projects", "webhook_signature_header", Kind::Text(forms::HEADER_NAME)),
    key("projects", "notify_url", Kind::Text(forms::NOTIFY_URL)),
    key("projects", "notify_secret_file", Kind::Text(forms::OPTIONAL_FILE)),
];

/// What a project has to say; everything else has a default.
pub(super) const PROJECT_REQUIRED: &[&str] = &["pike_project", "signing_key_file"];

/// The key with this full name.
pub(super) fn setting(section: &str, name: &str) -> Option<&'static Key> {
    SETTINGS.iter().find(|key| key.section == section && key.name == name)
}

/// The sections of the file, each once, `projects` last.
pub(super) fn sections() -> Vec<&'static str> {
    let mut sections: Vec<_> = SETTINGS.iter().map(|key| key.section).collect();
    sections.dedup();
    sections.push("projects");
    sections
}
