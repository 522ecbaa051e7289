//! Keys and secrets as files: making new ones, and reading PEM text into keys that can sign and verify. It
//! never overwrites a file, and no error of it carries what a file contains. `config` reads through it, the
//! command line writes through it; it imports nothing of ours.

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der},
    rand,
    rsa::{KeyPair, KeySize},
    signature::{KeyPair as _, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustix::process::{Resource, Rlimit, setrlimit};
use secrecy::{ExposeSecret, SecretString};
use std::{
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// What a Standard Webhooks secret begins with.
pub const NOTIFY_SECRET_PREFIX: &str = "whsec_";
/// Random bytes in a secret: as many as HMAC-SHA256 puts out; more would add nothing.
const SECRET_BYTES: usize = 32;
/// Only the owner may read a private key or a secret.
const PRIVATE_MODE: u32 = 0o600;
const PUBLIC_MODE: u32 = 0o644;
/// A directory made for keys is its owner's alone.
const DIRECTORY_MODE: u32 = 0o700;

/// Whether the sandbox needs a key pair of its own: it then plays Pike and signs webhooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForSandbox {
    Yes,
    No,
}

/// Keys could not be made or written.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error(
        "{} exists and is never overwritten: move it away, or generate into another directory; \
         nothing was written",
        file.display()
    )]
    Exists { file: PathBuf },
    #[error("{} cannot be written: {source}", file.display())]
    Io { file: PathBuf, source: io::Error },
    #[error("the cryptographic library could not make a key or random bytes")]
    Crypto,
}

/// Why a PEM text is not the key that is wanted. Never says what the text contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    #[error("is not PEM text")]
    NotPem,
    #[error("holds more than one PEM block")]
    Several,
    #[error("is an encrypted private key, and there is nobody here to ask for its passphrase")]
    Encrypted,
    #[error("holds a public key where the private key is wanted")]
    PublicForPrivate,
    #[error("holds a private key where the public key is wanted")]
    PrivateForPublic,
    #[error("holds PEM of another kind")]
    OtherLabel,
    #[error("does not hold an RSA key of 2048 to 8192 bits")]
    NotRsa,
}

/// Has the system write no image of this process's memory, which holds keys, however it ends.
///
/// # Errors
/// The system's.
pub fn leave_no_core_file() -> io::Result<()> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    Ok(setrlimit(Resource::Core, none)?)
}

/// A fresh RSA pair as PEM text: PKCS#8 and SPKI.
#[derive(Debug)]
pub struct PemPair {
    pub private: SecretString,
    pub public: String,
}

/// A new RSA-2048 pair: the size that Pike's own examples use, and the cheapest to sign with that is safe.
///
/// # Errors
/// [`KeysError::Crypto`] when the library has no randomness.
pub fn new_pair() -> Result<PemPair, KeysError> {
    let pair = KeyPair::generate(KeySize::Rsa2048).map_err(|_| KeysError::Crypto)?;
    let private: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| KeysError::Crypto)?;
    let public: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(|_| KeysError::Crypto)?;
    Ok(PemPair {
        private: SecretString::from(to_pem("PRIVATE KEY", private.as_ref())),
        public: to_pem("PUBLIC KEY", public.as_ref()),
    })
}

fn to_pem(label: &str, der: &[u8]) -> String {
    let block = pem::Pem::new(label, der);
    pem::encode_config(&block, pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF))
}

/// A new secret for signing notifications, in the form of Standard Webhooks.
///
/// # Errors
/// [`KeysError::Crypto`] when there is no randomness.
pub fn new_notify_secret() -> Result<SecretString, KeysError> {
    let encoded = STANDARD.encode(random()?);
    Ok(SecretString::from(format!("{NOTIFY_SECRET_PREFIX}{encoded}")))
}

/// A new secret for webhooks that a gateway signs with HMAC: 64 hexadecimal digits. The text itself, not the
/// bytes that it spells, is the key.
///
/// # Errors
/// [`KeysError::Crypto`] when there is no randomness.
pub fn new_webhook_secret() -> Result<SecretString, KeysError> {
    let mut text = String::with_capacity(2 * SECRET_BYTES);
    for byte in random()? {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
    }
    Ok(SecretString::from(text))
}

fn random() -> Result<[u8; SECRET_BYTES], KeysError> {
    let mut bytes = [0; SECRET_BYTES];
    rand::fill(&mut bytes).map_err(|_| KeysError::Crypto)?;
    Ok(bytes)
}

/// Writes a new set of keys into `dir`, which is made if need be, and returns the files in the order written.
/// When any of them exists, nothing is written at all.
///
/// # Errors
/// [`KeysError`] names the file.
pub fn generate(dir: &Path, sandbox: ForSandbox) -> Result<Vec<PathBuf>, KeysError> {
    let ours = new_pair()?;
    let mut files = vec![
        (dir.join("payoutd.key.pem"), ours.private, PRIVATE_MODE),
        (dir.join("payoutd.pub.pem"), SecretString::from(ours.public), PUBLIC_MODE),
        (dir.join("notify.secret"), line(&new_notify_secret()?), PRIVATE_MODE),
    ];
    match sandbox {
        ForSandbox::No => {}
        ForSandbox::Yes => {
            let pike = new_pair()?;
            files.push((dir.join("pike.key.pem"), pike.private, PRIVATE_MODE));
            files.push((dir.join("pike.pub.pem"), SecretString::from(pike.public), PUBLIC_MODE));
        }
    }
    for (file, ..) in &files {
        // A dangling link counts as existing: writing through it would put a key where nobody looks.
        if file.symlink_metadata().is_ok() {
            return Err(KeysError::Exists { file: file.clone() });
        }
    }
    make_directory(dir)?;
    for (file, text, mode) in &files {
        write_new(file, text, *mode)?;
    }
    Ok(files.into_iter().map(|(file, ..)| file).collect())
}

/// Writes one secret to a new file that only its owner can read.
///
/// # Errors
/// [`KeysError`] names the file.
pub fn write_secret(file: &Path, secret: &SecretString) -> Result<(), KeysError> {
    write_new(file, &line(secret), PRIVATE_MODE)
}

fn line(secret: &SecretString) -> SecretString {
    SecretString::from(format!("{}\n", secret.expose_secret()))
}

fn make_directory(dir: &Path) -> Result<(), KeysError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY_MODE)
        .create(dir)
        .map_err(|source| KeysError::Io { file: dir.to_owned(), source })
}

fn write_new(file: &Path, text: &SecretString, mode: u32) -> Result<(), KeysError> {
    let failed = |source: io::Error| match source.kind() == io::ErrorKind::AlreadyExists {
        true => KeysError::Exists { file: file.to_owned() },
        false => KeysError::Io { file: file.to_owned(), source },
    };
    let mut new =
        fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(file).map_err(failed)?;
    new.write_all(text.expose_secret().as_bytes()).and_then(|()| new.sync_all()).map_err(failed)
}

/// Reads a private key, PKCS#8 or PKCS#1, for signing.
///
/// # Errors
/// [`KeyFault`] says what the text is instead.
pub fn signing_key(text: &str) -> Result<KeyPair, KeyFault> {
    let block = only_block(text)?;
    match block.tag() {
        "PRIVATE KEY" => KeyPair::from_pkcs8(block.contents()),
        "RSA PRIVATE KEY" => KeyPair::from_der(block.contents()),
        "PUBLIC KEY" | "RSA PUBLIC KEY" => return Err(KeyFault::PublicForPrivate),
        _ => return Err(KeyFault::OtherLabel),
    }
    .map_err(|_| KeyFault::NotRsa)
}

/// Reads a public key, SPKI or PKCS#1, for verifying RSA-SHA256 signatures.
///
/// # Errors
/// [`KeyFault`] says what the text is instead.
pub fn verifying_key(text: &str) -> Result<ParsedPublicKey, KeyFault> {
    let block = only_block(text)?;
    match block.tag() {
        "PUBLIC KEY" | "RSA PUBLIC KEY" => {}
        "PRIVATE KEY" | "RSA PRIVATE KEY" => return Err(KeyFault::PrivateForPublic),
        _ => return Err(KeyFault::OtherLabel),
    }
    ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, block.contents()).map_err(|_| KeyFault::NotRsa)
}

fn only_block(text: &str) -> Result<pem::Pem, KeyFault> {
    // An encrypted PKCS#1 key says so in a header, not in its label.
    if text.contains("Proc-Type: 4,ENCRYPTED") || text.contains("BEGIN ENCRYPTED PRIVATE KEY") {
        return Err(KeyFault::Encrypted);
    }
    let mut blocks = pem::parse_many(text).map_err(|_| KeyFault::NotPem)?;
    match (blocks.pop(), blocks.is_empty()) {
        (Some(block), true) => Ok(block),
        (Some(_), false) => Err(KeyFault::Several),
        (None, _) => Err(KeyFault::NotPem),
    }
}

#[cfg(test)]
mod tests;
