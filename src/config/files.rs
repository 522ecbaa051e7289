//! Reads the small files that the settings name: whole, bounded, and private ones only when they are private.
//! What it says about a file never includes a byte of it.

use super::problem::Problems;
use crate::keys::{self, KeyFault, NOTIFY_SECRET_PREFIX};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret, SecretString};
use std::{
    fs,
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::Path,
};

/// A key file is a few kilobytes; something larger was named by mistake.
const MOST_KEY_FILE_BYTES: u64 = 65_536;
/// Everybody but the owner.
const OTHERS: u32 = 0o077;
/// Standard Webhooks: a secret has 24 to 64 bytes.
const NOTIFY_SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// Fewer characters than this can be guessed; more than HMAC uses only hints at the wrong file.
const WEBHOOK_SECRET_CHARS: std::ops::RangeInclusive<usize> = 32..=1024;

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readers {
    OwnerOnly,
    Anyone,
}

/// Reads a text file of at most `most` bytes. The error is the end of a sentence that begins with the file.
pub(super) fn read_text(file: &Path, most: u64) -> Result<String, String> {
    let unreadable = |error: io::Error| {
        let kind = error.kind();
        if kind == io::ErrorKind::NotFound {
            "does not exist".to_owned()
        } else {
            format!("cannot be read: {kind}")
        }
    };
    // Asked before opening: opening a pipe would wait for somebody to write into it.
    if !fs::metadata(file).map_err(unreadable)?.is_file() {
        return Err("is not a regular file".to_owned());
    }
    let mut bytes = vec![];
    let opened = fs::File::open(file).map_err(unreadable)?;
    opened.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(unreadable)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > most) {
        return Err(format!("is larger than {most} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "is not UTF-8 text".to_owned())
}

fn read_key_file(key: &str, file: &Path, readers: Readers, problems: &mut Problems) -> Option<SecretString> {
    let shown = file.display();
    let text = match read_text(file, MOST_KEY_FILE_BYTES) {
        Ok(text) => SecretString::from(text),
        Err(wrong) => {
            problems.push(
                key,
                format!("{shown} {wrong}"),
                "a readable file; `payoutd keys generate` makes keys",
            );
            return None;
        }
    };
    let mode = fs::metadata(file).map_or(0, |metadata| metadata.permissions().mode() & 0o777);
    if readers == Readers::OwnerOnly && mode & OTHERS != 0 {
        let wrong = format!("{shown} can be read or changed by others (mode {mode:04o})");
        problems.push(key, wrong, format!("only its owner may have access: chmod 600 {shown}"));
    }
    Some(text)
}

fn key_problem(key: &str, file: &Path, fault: KeyFault, wanted: &str, problems: &mut Problems) {
    problems.push(key, format!("{} {fault}", file.display()), wanted);
}

/// The PEM text of a private key that can sign.
pub(super) fn signing_key(key: &str, file: &Path, problems: &mut Problems) -> Option<SecretString> {
    let text = read_key_file(key, file, Readers::OwnerOnly, problems)?;
    let wanted = "one unencrypted PEM block, PRIVATE KEY or RSA PRIVATE KEY, RSA of 2048 to 8192 bits";
    match keys::signing_key(text.expose_secret()) {
        Ok(_) => Some(text),
        Err(fault) => {
            key_problem(key, file, fault, wanted, problems);
            None
        }
    }
}

/// The PEM text of a public key that can verify.
pub(super) fn public_key(key: &str, file: &Path, problems: &mut Problems) -> Option<String> {
    let text = read_key_file(key, file, Readers::Anyone, problems)?;
    let wanted = "one PEM block, PUBLIC KEY or RSA PUBLIC KEY, RSA of 2048 to 8192 bits";
    match keys::verifying_key(text.expose_secret()) {
        Ok(_) => Some(text.expose_secret().to_owned()),
        Err(fault) => {
            key_problem(key, file, fault, wanted, problems);
            None
        }
    }
}

/// The secret that a gateway signs webhooks with: one line, whose characters are the key.
pub(super) fn webhook_secret(key: &str, file: &Path, problems: &mut Problems) -> Option<SecretString> {
    let fits = |secret: &str| {
        WEBHOOK_SECRET_CHARS.contains(&secret.len()) && secret.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let allowed = "one line of 32 to 1024 visible ASCII characters, such as 64 hexadecimal digits";
    secret_line(key, file, problems, fits, allowed)
}

/// The secret that notifications are signed with, in the form of Standard Webhooks.
pub(super) fn notify_secret(key: &str, file: &Path, problems: &mut Problems) -> Option<SecretString> {
    let fits = |secret: &str| {
        let decoded = secret.strip_prefix(NOTIFY_SECRET_PREFIX).and_then(|text| STANDARD.decode(text).ok());
        decoded.is_some_and(|bytes| NOTIFY_SECRET_BYTES.contains(&bytes.len()))
    };
    secret_line(key, file, problems, fits, "one line: whsec_ and the base64 of 24 to 64 bytes")
}

fn secret_line(
    key: &str,
    file: &Path,
    problems: &mut Problems,
    fits: impl Fn(&str) -> bool,
    allowed: &str,
) -> Option<SecretString> {
    let text = read_key_file(key, file, Readers::OwnerOnly, problems)?;
    let secret = text.expose_secret().trim_end_matches(['\r', '\n']);
    if fits(secret) {
        return Some(SecretString::from(secret));
    }
    problems.push(key, format!("{} does not hold such a secret", file.display()), allowed);
    None
}
