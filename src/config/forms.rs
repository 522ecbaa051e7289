//! What the texts among the settings must look like. Pure checks of one text each; whether a file exists or
//! two texts fit together is asked elsewhere.

use super::schema::{Form, Repeat};
use crate::domain::policy;
use reqwest::Url;
use std::net::SocketAddr;

/// Longer than any real path, address or name; keeps a pasted file out of messages and headers.
const MOST_CHARS: usize = 1000;
/// Project identifiers and header names of Pike's kind are short.
const MOST_HEADER_CHARS: usize = 100;
const LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];
/// How a secret that was pasted in place of a file's name begins.
const SECRET_BEGINNINGS: &[&str] = &["whsec_", "-----BEGIN"];

const fn form(allowed: &'static str, fits: fn(&str) -> bool) -> Form {
    Form { allowed, fits, repeat: Repeat::Plainly }
}

pub(super) const DATABASE_URL: Form = Form {
    allowed: "postgres://user:password@host:port/database, or empty when DATABASE_URL is set",
    fits: |text| text.is_empty() || is_database_url(text),
    repeat: Repeat::Never,
};
pub(super) const LISTEN: Form = form("an IP address and a port, like 127.0.0.1:8080 or [::1]:8080", |text| {
    text.parse::<SocketAddr>().is_ok()
});
pub(super) const LOG_LEVEL: Form =
    form("off, error, warn, info, debug or trace, also per module: info,sqlx=warn", is_log_level);
pub(super) const PIKE_URL: Form = Form {
    allowed: "https://host or https://host:port; http:// only for 127.0.0.1, localhost and the host named \
              sandbox; no path, no user",
    fits: is_pike_url,
    repeat: Repeat::Never,
};
pub(super) const NOTIFY_URL: Form = Form {
    allowed: "an http(s):// address without user and fragment, or empty for no notifications",
    fits: |text| text.is_empty() || is_notify_url(text),
    repeat: Repeat::Never,
};
pub(super) const FAILURE_CODE: Form = form(
    "a failure code that payoutd knows, other than session_cancelled and session_cancelled_by_partner",
    policy::Attempts::can_list,
);
pub(super) const FILE: Form =
    Form { allowed: "the name of a file, not its contents", fits: is_file_name, repeat: Repeat::Never };
pub(super) const OPTIONAL_FILE: Form = Form {
    allowed: "the name of a file, not its contents, or empty",
    fits: |text| text.is_empty() || is_file_name(text),
    repeat: Repeat::Never,
};
pub(super) const HEADER_VALUE: Form = form("1 to 100 visible ASCII characters", is_header_value);
pub(super) const OPTIONAL_HEADER_VALUE: Form =
    form("up to 100 visible ASCII characters, or empty", |text| text.is_empty() || is_header_value(text));
pub(super) const HEADER_NAME: Form =
    form("the name of an HTTP header: 1 to 100 letters, digits and hyphens", is_header_name);
pub(super) const PROJECT_NAME: Form =
    form("a name of 1 to 40 lower-case letters, digits and hyphens", is_project_name);

fn is_database_url(text: &str) -> bool {
    let scheme = text.starts_with("postgres://") || text.starts_with("postgresql://");
    scheme && text.len() <= MOST_CHARS && !text.contains(|c: char| c.is_control() || c.is_whitespace())
}

/// A bare word must be a level: otherwise a slip (`inof`) would quietly name a module.
fn is_log_level(text: &str) -> bool {
    let module = |name: &str| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '-'))
    };
    text.len() <= MOST_CHARS
        && text.split(',').all(|item| match item.split_once('=') {
            Some((name, level)) => module(name) && LEVELS.contains(&level),
            None => LEVELS.contains(&item),
        })
}

fn parsed(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok().filter(|_| text.len() <= MOST_CHARS)?;
    let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    (plain && url.has_host()).then_some(url)
}

/// Unencrypted only within this machine and to the sandbox of docker-compose.yml: requests carry names and
/// card tokens.
fn is_pike_url(text: &str) -> bool {
    parsed(text).is_some_and(|url| {
        let transport = match url.scheme() {
            "https" => true,
            "http" => matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "sandbox")),
            _ => false,
        };
        transport && url.path() == "/" && url.query().is_none()
    })
}

fn is_notify_url(text: &str) -> bool {
    parsed(text).is_some_and(|url| matches!(url.scheme(), "https" | "http"))
}

fn is_file_name(text: &str) -> bool {
    let sized = (1..=MOST_CHARS).contains(&text.len());
    sized
        && !text.contains(char::is_control)
        && !SECRET_BEGINNINGS.iter().any(|start| text.starts_with(start))
}

fn is_header_value(text: &str) -> bool {
    (1..=MOST_HEADER_CHARS).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_header_name(text: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=MOST_HEADER_CHARS).contains(&text.len()) && text.bytes().all(token)
}

fn is_project_name(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=40).contains(&text.len()) && text.bytes().all(letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(form: Form, good: &[&str], bad: &[&str]) {
        for text in good {
            assert!((form.fits)(text), "{text:?} should fit: {}", form.allowed);
        }
        for text in bad {
            assert!(!(form.fits)(text), "{text:?} should not fit: {}", form.allowed);
        }
    }

    #[test]
    fn addresses() {
        table(
            LISTEN,
            &["127.0.0.1:8080", "[::1]:0", "0.0.0.0:1"],
            &["", "8080", "localhost:8080", "127.0.0.1"],
        );
        table(
            PIKE_URL,
            &[
                "https://pike.example",
                "https://pike.example:444/",
                "http://127.0.0.1:9000",
                "http://localhost",
            ],
            &["", "http://pike.example", "https://u:p@pike.example", "https://pike.example/api", "ftp://x"],
        );
        table(
            PIKE_URL,
            &[],
            &["https://pike.example?a=1", "https://pike.example#a", "http://127.0.0.1.example"],
        );
        table(
            NOTIFY_URL,
            &["", "https://a.example/x?y=1", "http://127.0.0.1:1/h"],
            &["a.example", "file:///x"],
        );
        table(NOTIFY_URL, &[], &["https://u@a.example/", "https://a.example/#x"]);
        table(
            DATABASE_URL,
            &["", "postgres://u:p@h/d", "postgresql:///d?host=/run"],
            &["mysql://h", "postgres:// h"],
        );
    }

    #[test]
    fn levels_are_words_not_modules() {
        table(
            LOG_LEVEL,
            &["info", "info,sqlx=warn", "payoutd::worker=debug,off"],
            &["", "inof", "info,", "a=b"],
        );
    }

    #[test]
    fn names_and_headers() {
        table(
            FILE,
            &["a.pem", "/run/secrets/x y"],
            &["", "a\nb", "whsec_AAAA", "-----BEGIN PRIVATE KEY-----"],
        );
        table(OPTIONAL_FILE, &["", "a"], &["a\0b"]);
        table(HEADER_VALUE, &["shop-1"], &["", "a b", "ключ", &"a".repeat(101)]);
        table(OPTIONAL_HEADER_VALUE, &["", "x"], &["a\tb"]);
        table(HEADER_NAME, &["X-PARTNER-SIGN"], &["", "X SIGN", "X:SIGN"]);
        table(PROJECT_NAME, &["main", "a-1", &"a".repeat(40)], &["", "Main", "a_b", &"a".repeat(41)]);
    }
}
