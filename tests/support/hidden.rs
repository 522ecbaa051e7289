//! Whether a secret is in a text, also in a form that somebody may have given it on the way.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use std::fmt::Write as _;

/// Pieces of less are in everything.
const LEAST: usize = 12;

pub fn is_in(text: &str, secret: &str) -> bool {
    text.contains(secret) || forms(secret).iter().any(|form| text.contains(form))
}

/// Encoded, in whatever stands before and behind it, or written in groups.
pub fn forms(secret: &str) -> Vec<String> {
    let mut forms = vec![];
    if secret.len() < LEAST {
        return forms;
    }
    for before in 0..3 {
        let bytes = [&[0].repeat(before), secret.as_bytes()].concat();
        // Characters that hold bits of a neighbour are anything.
        let own = |encoded: String| encoded[before + usize::from(before > 0)..encoded.len() - 1].to_owned();
        forms.extend([own(STANDARD_NO_PAD.encode(&bytes)), own(URL_SAFE_NO_PAD.encode(&bytes))]);
    }
    let each = |write: fn(&mut String, u8)| {
        let mut text = String::new();
        secret.bytes().for_each(|byte| write(&mut text, byte));
        text
    };
    forms.push(each(|text, byte| write!(text, "{byte:02x}").unwrap()));
    forms.push(each(|text, byte| write!(text, "{byte:02X}").unwrap()));
    forms.push(each(|text, byte| write!(text, "%{byte:02X}").unwrap()));
    forms.push(each(|text, byte| write!(text, "\\u{byte:04x}").unwrap()));
    if secret.bytes().all(|byte| byte.is_ascii_digit()) {
        let groups: Vec<&str> =
            (0..secret.len()).step_by(4).map(|at| &secret[at..secret.len().min(at + 4)]).collect();
        forms.extend([groups.join(" "), groups.join("-")]);
    }
    forms
}
