//! Signing requests: RSASSA-PKCS1-v1_5 with SHA-256 over exactly the bytes that are sent, as standard base64.
//! The scheme is Pike's; the padding is deterministic, so equal bodies have equal signatures.

use crate::keys::{self, KeyFault};
use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeyPair,
    signature::{KeyPair as _, RSA_PKCS1_SHA256},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};
use std::fmt;

/// A parsed private key. Its `Debug` says nothing about it.
pub struct Signer {
    key: KeyPair,
}

/// Signing failed. With a parsed key this means that the cryptographic library is out of resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request could not be signed")]
pub struct SigningFailed;

impl Signer {
    /// Reads an unencrypted PEM key, PKCS#8 or PKCS#1.
    ///
    /// # Errors
    /// [`KeyFault`] says what is wrong with the text, never what is in it.
    pub fn from_pem(pem: &str) -> Result<Self, KeyFault> {
        keys::signing_key(pem).map(|key| Self { key })
    }

    /// The signature over these bytes, as it goes into the header.
    ///
    /// # Errors
    /// [`SigningFailed`].
    pub fn sign(&self, body: &[u8]) -> Result<String, SigningFailed> {
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), body, &mut signature)
            .map_err(|_| SigningFailed)?;
        Ok(STANDARD.encode(signature))
    }

    /// A short name of the key, the same wherever it is used: how its public half's SHA-256 begins.
    #[must_use]
    pub fn key_id(&self) -> String {
        Sha256::digest(self.public_key()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// The public half, DER (PKCS#1).
    #[must_use]
    pub fn public_key(&self) -> &[u8] {
        self.key.public_key().as_ref()
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
    use secrecy::ExposeSecret;

    #[test]
    fn a_signature_verifies_and_repeats() {
        let signer = Signer::from_pem(crate::keys::new_pair().unwrap().private.expose_secret()).unwrap();
        let header = signer.sign(b"{}").unwrap();
        assert_eq!(header.len(), 344, "2048 bits in base64");
        assert_eq!(header, signer.sign(b"{}").unwrap(), "deterministic padding");
        let signature = STANDARD.decode(&header).unwrap();
        let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, signer.public_key());
        assert!(public.verify(b"{}", &signature).is_ok());
        assert!(public.verify(b"{ }", &signature).is_err());
    }

    #[test]
    fn a_key_has_a_short_name_of_its_own() {
        let name = || {
            let pair = crate::keys::new_pair().unwrap();
            Signer::from_pem(pair.private.expose_secret()).unwrap().key_id()
        };
        let (one, other) = (name(), name());
        assert!(one.len() == 16 && other.len() == 16 && one != other, "{one} {other}");
    }

    #[test]
    fn a_key_never_shows_itself() {
        assert_eq!(
            format!(
                "{:?}",
                Signer::from_pem(crate::keys::new_pair().unwrap().private.expose_secret()).unwrap()
            ),
            "Signer(..)"
        );
    }
}
