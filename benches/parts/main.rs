//! What the parts of a payout's life cost on their own: `cargo bench --bench parts`.

#![allow(clippy::unwrap_used, reason = "a failed unwrap ends the measurement")]

mod given;

use divan::{Bencher, black_box};
use given::{Batch, Deciding, WEBHOOK, amount, rules};
use payoutd::{
    domain::{provider::CardFacts, rules::Inputs},
    keys,
    pike::{read_webhook, sign::Signer},
};
use secrecy::ExposeSecret;
use std::time::Duration;

fn main() {
    divan::main();
}

/// The decision to confirm, rules and permit included.
#[divan::bench]
fn decide_ready(bencher: Bencher) {
    let deciding = Deciding::new();
    bencher.bench(|| deciding.decide());
}

#[divan::bench]
fn rules_alone(bencher: Bencher) {
    let rules = rules();
    let inputs = Inputs {
        amount: amount(),
        card: CardFacts::default(),
        recipient_today: None,
        confirms_on: true,
        approved: false,
    };
    bencher.bench(|| rules.evaluate(black_box(&inputs).clone()));
}

#[divan::bench]
fn read_a_webhook() {
    black_box(read_webhook(black_box(WEBHOOK.as_bytes())));
}

/// RSA-2048, as every new call to Pike.
#[divan::bench(max_time = Duration::from_secs(2))]
fn sign(bencher: Bencher) {
    let pair = keys::new_pair().unwrap();
    let signer = Signer::from_pem(pair.private.expose_secret()).unwrap();
    bencher.bench(|| signer.sign(black_box(WEBHOOK.as_bytes())));
}

/// What so many payouts write in one step, as it goes to Postgres.
#[divan::bench(args = [1, 50])]
fn encode_steps(bencher: Bencher, count: usize) {
    let batch = Batch::new(count);
    bencher.bench(|| batch.encode());
}
