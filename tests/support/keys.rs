//! Keys and secrets of a test: made once per process, written into each test's directory.

use super::Scratch;
use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    rsa::KeyPair,
    signature::{self, RSA_PKCS1_SHA256},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use payoutd::keys::{self, ForSandbox};
use secrecy::SecretString;
use std::{collections::BTreeMap, fs, path::Path, sync::OnceLock};

/// The files that `payoutd keys generate --sandbox` makes, by name, and their texts.
pub fn files() -> &'static BTreeMap<String, String> {
    static FILES: OnceLock<BTreeMap<String, String>> = OnceLock::new();
    FILES.get_or_init(|| {
        let scratch = Scratch::new();
        let made = keys::generate(&scratch.file("keys"), ForSandbox::Yes).unwrap();
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        made.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
    })
}

pub fn text(name: &str) -> &'static str {
    files().get(name).unwrap_or_else(|| panic!("{name} was not generated"))
}

/// Writes them all, each for its owner alone.
pub fn write_into(dir: &Path) {
    fs::create_dir_all(dir).unwrap();
    for (name, text) in files() {
        keys::write_secret(&dir.join(name), &SecretString::from(text.clone())).unwrap();
    }
}

/// Signs as the owner of a private key does: the base64 of `X-PARTNER-SIGN`.
pub fn rsa(private: &str, body: &[u8]) -> String {
    let block = pem::parse(text(private)).unwrap();
    let pair = KeyPair::from_pkcs8(block.contents()).unwrap();
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), body, &mut signature).unwrap();
    STANDARD.encode(signature)
}

/// Whether a signature over `body` is the key owner's.
pub fn rsa_verifies(public: &str, body: &[u8], base64: &str) -> bool {
    let block = pem::parse(text(public)).unwrap();
    let key = signature::ParsedPublicKey::new(&signature::RSA_PKCS1_2048_8192_SHA256, block.contents());
    STANDARD.decode(base64).is_ok_and(|signature| key.unwrap().verify_sig(body, &signature).is_ok())
}

/// HMAC-SHA256, in base64.
pub fn hmac_sha256(secret: &[u8], body: &[u8]) -> String {
    STANDARD.encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), body))
}

/// What `webhook-signature` of a genuine notification is, by the text of Standard Webhooks.
pub fn standard_webhook(id: &str, timestamp: &str, body: &str) -> String {
    let encoded = text("notify.secret").trim().strip_prefix("whsec_").unwrap();
    let secret = STANDARD.decode(encoded).unwrap();
    format!("v1,{}", hmac_sha256(&secret, format!("{id}.{timestamp}.{body}").as_bytes()))
}
