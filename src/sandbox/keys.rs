//! Signatures: RSA PKCS#1 v1.5 with SHA-256 over the exact bytes of a body, in standard base64. Own code, on
//! purpose: a mistake made here and in the client of the service under test would cancel out.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A partner's public keys: one, or two while the partner changes its key.
#[derive(Debug)]
pub struct PartnerKey(Vec<ParsedPublicKey>);

impl PartnerKey {
    /// Reads SPKI or PKCS#1, PEM, one block after the other.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn from_pem(text: &str) -> Result<Self, String> {
        let blocks = pem::parse_many(text).map_err(|error| error.to_string())?;
        if blocks.is_empty() {
            return Err("not a PEM file".to_owned());
        }
        let key = |block: &pem::Pem| {
            ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, block.contents())
                .map_err(|error| format!("not an RSA public key: {error}"))
        };
        Ok(Self(blocks.iter().map(key).collect::<Result<_, _>>()?))
    }

    /// Whether `signature`, the header as it came, is this partner's for `body`.
    #[must_use]
    pub fn verifies(&self, body: &[u8], signature: &[u8]) -> bool {
        let Ok(signature) = STANDARD.decode(signature) else { return false };
        self.0.iter().any(|key| key.verify_sig(body, &signature).is_ok())
    }
}

/// The sandbox's own key.
pub struct SigningKey(KeyPair);

impl SigningKey {
    /// Reads PKCS#8 or PKCS#1, PEM.
    ///
    /// # Errors
    /// A sentence for the operator; nothing of the key is in it.
    pub fn from_pem(text: &str) -> Result<Self, String> {
        let pem = pem::parse(text).map_err(|_| "not a PEM file".to_owned())?;
        let pair = match pem.tag() {
            "RSA PRIVATE KEY" => KeyPair::from_der(pem.contents()),
            "PRIVATE KEY" => KeyPair::from_pkcs8(pem.contents()),
            other => return Err(format!("expected an RSA private key, found `{other}`")),
        };
        pair.map(Self).map_err(|error| error.to_string())
    }

    /// A new key, of nobody's.
    #[must_use]
    pub fn generate() -> Self {
        Self(KeyPair::generate(KeySize::Rsa2048).expect("the system has randomness"))
    }

    /// Signs a body; the result is the header's value.
    #[must_use]
    pub fn sign(&self, body: &[u8]) -> String {
        let mut signature = vec![0; self.0.public_modulus_len()];
        self.0
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), body, &mut signature)
            .expect("the buffer has the modulus' length, and a SHA-256 fits every accepted modulus");
        STANDARD.encode(signature)
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNATURE_OF_EMPTY_OBJECT: &str =
        include_str!("../../tests/sandbox/vector/signature_of_empty_object.txt");

    /// The vector is OpenSSL's work; this padding leaves no choice, so every signer gets the same bytes.
    #[test]
    fn signs_and_verifies_what_openssl_signed() {
        for private in [
            include_str!("../../tests/sandbox/vector/pkcs1.pem"),
            include_str!("../../tests/sandbox/vector/pkcs8.pem"),
        ] {
            let key = SigningKey::from_pem(private).unwrap();
            assert_eq!(key.sign(b"{}"), SIGNATURE_OF_EMPTY_OBJECT);
        }
        for public in [
            include_str!("../../tests/sandbox/vector/spki.pem"),
            include_str!("../../tests/sandbox/vector/pkcs1_public.pem"),
        ] {
            let key = PartnerKey::from_pem(public).unwrap();
            assert!(key.verifies(b"{}", SIGNATURE_OF_EMPTY_OBJECT.as_bytes()));
            assert!(!key.verifies(b"[]", SIGNATURE_OF_EMPTY_OBJECT.as_bytes()));
            assert!(!key.verifies(b"{}", format!("{SIGNATURE_OF_EMPTY_OBJECT}\n").as_bytes()));
            assert!(!key.verifies(b"{}", b""));
        }
    }
}
