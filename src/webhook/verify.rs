//! Whether a webhook is genuine. The scheme and the keys come from the project's settings; nothing in the
//! message can choose them. Base64 is read strictly: the standard alphabet, with padding, nothing around it.

use crate::keys::{KeyFault, verifying_key};
use aws_lc_rs::signature::ParsedPublicKey;
use axum::http::{HeaderMap, HeaderName};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;

/// Longest signature header looked at: a 8192-bit RSA signature is 1368 characters.
pub const MAX_SIGNATURE_CHARS: usize = 2048;
/// Fewest bytes of an HMAC secret: as many as the hash is long.
const MIN_SECRET_BYTES: usize = 32;

/// How a project's webhooks are verified.
pub enum Verifier {
    /// Pike's own scheme. Several keys while one is being replaced.
    PikeRsa { header: HeaderName, keys: Vec<ParsedPublicKey> },
    /// A gateway in front of us has verified Pike's signature and signs anew.
    Hmac { header: HeaderName, key: Hmac<Sha256> },
}

/// The key cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadVerifier {
    #[error("the public key {0}")]
    Key(#[from] KeyFault),
    #[error("the secret is shorter than {MIN_SECRET_BYTES} bytes")]
    ShortSecret,
    #[error("the header name is not a valid one")]
    BadHeader,
}

/// The webhook is not genuine. Which part is wrong stays here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Forged;

impl Verifier {
    /// # Errors
    /// [`BadVerifier`] when one of the PEM texts is not a usable public key.
    pub fn pike_rsa(header: &str, pems: &[String]) -> Result<Self, BadVerifier> {
        let keys = pems.iter().map(|text| verifying_key(text)).collect::<Result<_, _>>()?;
        Ok(Self::PikeRsa { header: header_name(header)?, keys })
    }

    /// # Errors
    /// [`BadVerifier`] when the secret is too short.
    pub fn hmac(header: &str, secret: &[u8]) -> Result<Self, BadVerifier> {
        if secret.len() < MIN_SECRET_BYTES {
            return Err(BadVerifier::ShortSecret);
        }
        let key = Hmac::new_from_slice(secret).map_err(|_| BadVerifier::ShortSecret)?;
        Ok(Self::Hmac { header: header_name(header)?, key })
    }

    /// Checks the signature over exactly these bytes.
    pub(super) fn verify(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), Forged> {
        match self {
            Self::PikeRsa { header, keys } => {
                let signature = signature(headers, header)?;
                let genuine = keys.iter().any(|key| key.verify_sig(body, &signature).is_ok());
                if genuine { Ok(()) } else { Err(Forged) }
            }
            Self::Hmac { header, key } => {
                let signature = signature(headers, header)?;
                key.clone().chain_update(body).verify_slice(&signature).map_err(|_| Forged)
            }
        }
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PikeRsa { keys, .. } => write!(f, "PikeRsa({} keys)", keys.len()),
            Self::Hmac { .. } => f.write_str("Hmac(..)"),
        }
    }
}

fn header_name(name: &str) -> Result<HeaderName, BadVerifier> {
    name.parse().map_err(|_| BadVerifier::BadHeader)
}

/// Exactly one header, not too long, strict base64.
fn signature(headers: &HeaderMap, name: &HeaderName) -> Result<Vec<u8>, Forged> {
    let mut values = headers.get_all(name).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Err(Forged) };
    if value.is_empty() || value.len() > MAX_SIGNATURE_CHARS {
        return Err(Forged);
    }
    STANDARD.decode(value.as_bytes()).map_err(|_| Forged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::{
        encoding::{AsDer, PublicKeyX509Der},
        rand::SystemRandom,
        rsa::{KeyPair, KeySize},
        signature::{KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RSA_PSS_SHA256},
    };
    use axum::http::HeaderValue;

    const BODY: &[u8] = br#"{"type":"ready_to_confirm"}"#;

    fn key() -> (KeyPair, String) {
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let der: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        let text = pem::encode(&pem::Pem::new("PUBLIC KEY", der.as_ref().to_vec()));
        (pair, text)
    }

    fn signed(pair: &KeyPair, body: &[u8]) -> Vec<u8> {
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), body, &mut signature).unwrap();
        signature
    }

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("x-partner-sign", HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn genuine_webhooks_pass_under_any_live_key() {
        let ((old, old_pem), (new, new_pem)) = (key(), key());
        let verifier = Verifier::pike_rsa("X-PARTNER-SIGN", &[old_pem, new_pem.clone()]).unwrap();
        for pair in [&old, &new] {
            assert_eq!(verifier.verify(&headers(&[&STANDARD.encode(signed(pair, BODY))]), BODY), Ok(()));
        }
        let rotated = Verifier::pike_rsa("X-PARTNER-SIGN", &[new_pem]).unwrap();
        let by_old = headers(&[&STANDARD.encode(signed(&old, BODY))]);
        assert_eq!(rotated.verify(&by_old, BODY), Err(Forged), "a removed key stops at once");
    }

    #[test]
    fn everything_else_is_forged() {
        let (pair, text) = key();
        let verifier = Verifier::pike_rsa("X-PARTNER-SIGN", &[text]).unwrap();
        let good = STANDARD.encode(signed(&pair, BODY));
        let mut flipped = signed(&pair, BODY);
        flipped[100] ^= 1;
        let mut pss = vec![0; pair.public_modulus_len()];
        pair.sign(&RSA_PSS_SHA256, &SystemRandom::new(), BODY, &mut pss).unwrap();
        let mut other_hash = vec![0; pair.public_modulus_len()];
        pair.sign(&RSA_PKCS1_SHA512, &SystemRandom::new(), BODY, &mut other_hash).unwrap();
        // The last character before the padding has four bits to spare; a lenient reader drops them.
        let mut spare_bit = good.clone().into_bytes();
        let last = spare_bit.len() - 3;
        spare_bit[last] += 1;
        let bad: Vec<Vec<String>> = vec![
            vec![],
            vec![String::new()],
            vec![" ".to_owned()],
            vec![good.clone(), good.clone()],
            vec![format!("{good}, {good}")],
            vec![good.trim_end_matches('=').to_owned()],
            vec![good.replace('+', "-").replace('/', "_").replace('=', "")],
            vec![format!("{good}\t")],
            vec![format!(" {good}")],
            vec![format!("{} {}", &good[..64], &good[64..])],
            vec![String::from_utf8(spare_bit).unwrap()],
            vec![STANDARD.encode(other_hash)],
            vec![STANDARD.encode(flipped)],
            vec![STANDARD.encode(pss)],
            vec!["A".repeat(MAX_SIGNATURE_CHARS + 4)],
        ];
        for values in bad {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            assert_eq!(verifier.verify(&headers(&values), BODY), Err(Forged), "{values:?}");
        }
        let mut body = BODY.to_vec();
        body[0] ^= 1;
        assert_eq!(verifier.verify(&headers(&[&good]), &body), Err(Forged));
    }

    /// Signatures over [`BODY`] under one key, each made by its owner, all but the first not as the scheme
    /// has it: what a reader that looks for a hash somewhere in the block would accept.
    #[test]
    fn what_only_nearly_is_pkcs1_is_forged() {
        let mut blocks = include_str!("../../tests/vectors/pkcs1.txt").split("\n\n");
        let key = blocks.next().unwrap().to_owned();
        let verifier = Verifier::pike_rsa("X-PARTNER-SIGN", &[key]).unwrap();
        let mut genuine = vec![];
        let mut tried = 0;
        for block in blocks {
            let (what, signature) = block.split_once('\n').unwrap();
            let signature = signature.replace('\n', "");
            if verifier.verify(&headers(&[&signature]), BODY).is_ok() {
                genuine.push(what);
            }
            tried += 1;
        }
        assert_eq!((genuine, tried), (vec!["genuine"], 30));
    }

    #[test]
    fn a_gateway_signs_with_hmac() {
        let secret = [7; 32];
        let verifier = Verifier::hmac("X-PARTNER-SIGN", &secret).unwrap();
        let mac = |key: &[u8]| {
            let mac = Hmac::<Sha256>::new_from_slice(key).unwrap().chain_update(BODY);
            STANDARD.encode(mac.finalize().into_bytes())
        };
        assert_eq!(verifier.verify(&headers(&[&mac(&secret)]), BODY), Ok(()));
        assert_eq!(verifier.verify(&headers(&[&mac(&[8; 32])]), BODY), Err(Forged));
        assert_eq!(Verifier::hmac("X-PARTNER-SIGN", &[7; 31]).unwrap_err(), BadVerifier::ShortSecret);
        let (pair, _) = key();
        let rsa = headers(&[&STANDARD.encode(signed(&pair, BODY))]);
        assert_eq!(verifier.verify(&rsa, BODY), Err(Forged), "the other scheme's signature is no use");
    }
}
