//! What the parts of a payout's life cost on their own: `cargo bench --bench parts`.

#![allow(clippy::unwrap_used, reason = "a failed unwrap ends the measurement")]

use divan::{Bencher, black_box};
use payoutd::{
    domain::{
        decide::{self, World},
        effect::EffectKind,
        event::{Event, Observation},
        id::{PayoutId, ProjectId, SessionId},
        money::Money,
        payout::{DestinationKind, Order, Payout, metadata_tag},
        policy::{Approvals, Attempts, Policy, Polling, ResendStart},
        provider::{CardFacts, ProviderFacts},
        rules::{AmountLimits, Inputs, RuleSet},
        session::{PayoutReport, PayoutStatus, SessionReport, SessionStatus},
        state::State,
    },
    keys,
    pike::{read_webhook, sign::Signer},
    store::{
        effects::NewEffect,
        history::Entry,
        payouts::Stored,
        steps::{self, Steps},
    },
};
use secrecy::ExposeSecret;
use std::{collections::BTreeMap, time::Duration as StdDuration};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

fn main() {
    divan::main();
}

const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;
const WEBHOOK: &str = r#"{"type":"ready_to_confirm","session":{"id":"ps_00000000000000000001","status":"in_progress","created_at":"2026-01-01T10:00:00.000000Z","updated_at":"2026-01-01T10:00:01.000000Z","next_action":"confirm","payout_list":[{"id":"po_1","status":"pending","created_at":"2026-01-01T10:00:00.000000Z","amount":1000,"currency":"RUB","metadata":"m","account":{"type":"bank_card","brand":"visa","last4":"4242"}}]}}"#;

fn policy() -> Policy {
    Policy {
        resend_start: ResendStart::Never,
        start_unresolved_after: Duration::minutes(1),
        stale_read_grace: Duration::minutes(1),
        confirm_window: Duration::hours(4),
        hold_margin: Duration::minutes(15),
        polling: Polling {
            first: Duration::seconds(5),
            steady: Duration::seconds(30),
            longest: Duration::minutes(15),
            paid_first: Duration::days(1),
            paid_until: Duration::days(30),
        },
        attempts: Attempts::OFF,
        approvals: Approvals::ByKey,
    }
}

fn rules() -> RuleSet {
    let limits = AmountLimits { min: 1, max: 1_000_000, hold_above: None };
    let amounts = BTreeMap::from([("RUB".parse().unwrap(), limits)]);
    RuleSet { version: "bench".to_owned(), amounts, ..RuleSet::default() }
}

fn amount() -> Money {
    Money::new(1_000, "RUB".parse().unwrap()).unwrap()
}

fn payout() -> Payout {
    Payout {
        id: PayoutId(Uuid::now_v7()),
        project: ProjectId("shop".to_owned()),
        order: Order {
            amount: amount(),
            destination: DestinationKind::TokenizedCard,
            destination_fingerprint: [1; 32],
            recipient_name: "Anna Example".to_owned(),
            customer_reference: "user-1".to_owned(),
            reference: None,
            created_by: "key-1".to_owned(),
        },
        version: 3,
        attempt: 1,
        past: vec![],
        state: State::Processing { session: SessionId("ps_1".to_owned()) },
        since: NOW,
        permit: None,
        anomaly: None,
        raised: Default::default(),
        facts: ProviderFacts::default(),
    }
}

fn ready(payout: &Payout) -> Event {
    let pending = PayoutReport {
        status: PayoutStatus::Pending,
        amount_minor: Some(1_000),
        currency: Some("RUB".to_owned()),
        metadata: Some(metadata_tag(payout.id, 1)),
        returned: false,
        facts: ProviderFacts::default(),
    };
    Event::Observed(Observation::Reported(SessionReport {
        session: SessionId("ps_1".to_owned()),
        status: SessionStatus::InProgress,
        awaits_confirm: true,
        payouts: vec![pending],
        error: None,
        updated_at: None,
    }))
}

/// The decision to confirm, rules and permit included.
#[divan::bench]
fn decide_ready(bencher: Bencher) {
    let (payout, policy, rules) = (payout(), policy(), rules());
    let event = ready(&payout);
    let world = World {
        now: NOW,
        policy: &policy,
        rules: &rules,
        recipient_today: None,
        confirms_on: true,
        permitted_under: None,
    };
    bencher.bench(|| decide::decide(black_box(&payout), black_box(&event), black_box(&world)));
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
#[divan::bench(max_time = StdDuration::from_secs(2))]
fn sign(bencher: Bencher) {
    let pair = keys::new_pair().unwrap();
    let signer = Signer::from_pem(pair.private.expose_secret()).unwrap();
    bencher.bench(|| signer.sign(black_box(WEBHOOK.as_bytes())));
}

/// What so many payouts write in one step, as it goes to Postgres.
#[divan::bench(args = [1, 50])]
fn encode_steps(bencher: Bencher, count: usize) {
    let stored: Vec<Stored> = (0..count)
        .map(|_| Stored {
            payout: payout(),
            metadata: "{}".to_owned(),
            created_at: NOW,
            updated_at: NOW,
            next_check_at: Some(NOW),
        })
        .collect();
    let history: Vec<Entry> = stored
        .iter()
        .map(|stored| Entry {
            payout: stored.payout.id,
            seq: 4,
            at: NOW,
            event: "webhook".to_owned(),
            decision: "move",
            reason: "awaits_confirm",
            from_state: Some("processing"),
            to_state: "confirming",
            actor: None,
            detail: None,
        })
        .collect();
    let lease = Some(StdDuration::from_secs(30));
    let wanted: Vec<_> =
        stored.iter().map(|stored| NewEffect { stored, kind: EffectKind::StartPayout, lease }).collect();
    bencher.bench(|| {
        let steps =
            Steps { moved: stored.iter().collect(), history: &history, wanted: &wanted, ..Steps::default() };
        steps::arguments(black_box(&steps)).is_ok()
    });
}
