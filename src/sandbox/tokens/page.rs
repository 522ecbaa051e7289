//! The widget as a page for people: one HTML file with everything in it. Here its gaps are filled and its
//! headers written; what it does is `widget`'s business.

use std::sync::{Arc, LazyLock};

use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::super::Sandbox;
use super::super::scalars::Digest;
use super::numbers::MagicCard;
use super::widget;

const PAGE: &str = include_str!("../pages/widget.html");

/// The script and the style of the file itself may run, and nothing else: no other origin, nothing that
/// slipped into the page.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    format!(
        "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; form-action 'self'; \
         base-uri 'none'; frame-ancestors 'none'",
        hash_of("<script>", "</script>"),
        hash_of("<style>", "</style>"),
    )
});

/// The only block between these tags, as the policy names it.
fn hash_of(start: &str, end: &str) -> String {
    let block =
        PAGE.split_once(start).and_then(|(_, rest)| rest.split_once(end)).map_or("", |(block, _)| block);
    format!("'sha256-{}'", STANDARD.encode(Digest::of(block.as_bytes()).0))
}

#[derive(Deserialize)]
pub struct PageQuery {
    public_token: Option<String>,
}

pub async fn show(State(sandbox): State<Arc<Sandbox>>, Query(query): Query<PageQuery>) -> Response {
    let public_token = query.public_token.unwrap_or_default();
    let (state, reason) = match widget::permission(&sandbox, public_token.trim(), sandbox.now()) {
        Ok(_) => ("ready", ""),
        Err(_) if public_token.is_empty() => ("closed", ""),
        Err(refusal) => ("closed", refusal.description()),
    };
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY.as_str()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // The address has the public token in it.
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, page(public_token.trim(), state, reason)).into_response()
}

fn page(public_token: &str, state: &str, reason: &str) -> String {
    let cards: String = MagicCard::all().map(button).collect();
    // What the caller sent comes last, so that nothing is filled into it.
    PAGE.replace("{{cards}}", &cards)
        .replace("{{state}}", state)
        .replace("{{reason}}", &escaped(reason))
        .replace("{{public_token}}", &escaped(public_token))
}

fn button(card: MagicCard) -> String {
    let story = card.prefix.trim_start_matches("tok_").trim_end_matches('_').replace('_', " ");
    let number = card.number();
    format!(
        "<li><button type=\"button\" data-number=\"{}\"><b>{}</b> <span>{}</span></button></li>\n",
        escaped(&number),
        escaped(&story),
        escaped(&number),
    )
}

/// Text as it may stand in HTML, also between quotes.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_complete_and_lists_every_card() {
        let page = page("abc", "ready", "");
        assert!(!page.contains("{{") && !page.contains("http:") && !page.contains("https:"));
        for card in MagicCard::all() {
            assert!(page.contains(&format!("data-number=\"{}\"", card.number())), "{}", card.prefix);
        }
    }

    #[test]
    fn what_a_caller_sent_is_text_and_never_a_gap() {
        let page = page("\"><script>alert('&')</script>{{cards}}", "closed", "<b>");
        assert!(!page.contains("<script>alert") && page.contains("&lt;script&gt;alert(&#39;&amp;&#39;)"));
        assert!(page.contains("{{cards}}") && page.contains("&lt;b&gt;"));
    }

    #[test]
    fn the_policy_names_the_one_script_and_the_one_style() {
        for tag in ["<script", "<style"] {
            assert_eq!(PAGE.matches(tag).count(), 1);
        }
        for forbidden in ["style=\"", "onclick=", "onsubmit=", "innerHTML"] {
            assert!(!PAGE.contains(forbidden), "{forbidden}");
        }
        let empty = STANDARD.encode(Digest::of(b"").0);
        assert!(POLICY.matches("'sha256-").count() == 2 && !POLICY.contains(&empty));
    }
}
