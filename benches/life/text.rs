//! The texts that both services and the instant Pike exchange.

use aws_lc_rs::{rand::SystemRandom, rsa::KeyPair, signature::RSA_PKCS1_SHA256};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha2::Sha256;

/// Everybody's amount, minor units.
pub const AMOUNT: i64 = 125_050;

/// An order with a reference and customer of its own.
pub fn order(reference: &str) -> String {
    format!(
        r#"{{"amount":{AMOUNT},"currency":"RUB","destination":{{"type":"tokenized_card","token":"tok_{reference}"}},"recipient":{{"name":"Anna Petrova"}},"customer_reference":"customer-{reference}","reference":"{reference}"}}"#
    )
}

/// What a notification says, as far as the collector reads it.
#[derive(Deserialize)]
pub struct Told<'a> {
    #[serde(borrow)]
    pub data: ToldData<'a>,
}

#[derive(Deserialize)]
pub struct ToldData<'a> {
    pub reference: &'a str,
    pub status: &'a str,
}

/// Signs as Pike or its partner does.
pub fn rsa(key: &KeyPair, body: &[u8]) -> String {
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), body, &mut signature).unwrap();
    STANDARD.encode(signature)
}

/// Signs as a gateway does.
pub fn hmac(key: &Hmac<Sha256>, body: &[u8]) -> String {
    STANDARD.encode(key.clone().chain_update(body).finalize().into_bytes())
}

pub fn hmac_key(secret: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(secret).unwrap()
}
