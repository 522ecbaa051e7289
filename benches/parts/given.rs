//! What is decided and written in measurements: one payout that Pike is ready to pay, and a batch of them.

use payoutd::{
    domain::{
        decide::{self, Decision, World},
        effect::EffectKind,
        event::{Event, Observation},
        id::{PayoutId, ProjectId, SessionId},
        money::Money,
        payout::{DestinationKind, Order, Payout, metadata_tag},
        policy::{Approvals, Attempts, Policy, Polling, ResendStart},
        provider::ProviderFacts,
        rules::{AmountLimits, RuleSet},
        session::{PayoutReport, PayoutStatus, SessionReport, SessionStatus},
        state::State,
    },
    store::{
        effects::NewEffect,
        history::Entry,
        payouts::Stored,
        steps::{self, Steps},
    },
};
use std::{collections::BTreeMap, hint::black_box, time::Duration as StdDuration};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;
pub const WEBHOOK: &str = r#"{"type":"ready_to_confirm","session":{"id":"ps_00000000000000000001","status":"in_progress","created_at":"2026-01-01T10:00:00.000000Z","updated_at":"2026-01-01T10:00:01.000000Z","next_action":"confirm","payout_list":[{"id":"po_1","status":"pending","created_at":"2026-01-01T10:00:00.000000Z","amount":1000,"currency":"RUB","metadata":"m","account":{"type":"bank_card","brand":"visa","last4":"4242"}}]}}"#;

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

pub fn rules() -> RuleSet {
    let limits = AmountLimits { min: 1, max: 1_000_000, hold_above: None };
    let amounts = BTreeMap::from([("RUB".parse().unwrap(), limits)]);
    RuleSet { version: "bench".to_owned(), amounts, ..RuleSet::default() }
}

pub fn amount() -> Money {
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

/// The decision to confirm, with all that it needs.
pub struct Deciding {
    payout: Payout,
    policy: Policy,
    rules: RuleSet,
    event: Event,
}

impl Deciding {
    pub fn new() -> Self {
        let payout = payout();
        let event = ready(&payout);
        Self { payout, policy: policy(), rules: rules(), event }
    }

    pub fn decide(&self) -> Decision {
        let world = World {
            now: NOW,
            policy: &self.policy,
            rules: &self.rules,
            recipient_today: None,
            confirms_on: true,
            permitted_under: None,
        };
        decide::decide(black_box(&self.payout), black_box(&self.event), black_box(&world))
    }
}

/// What so many payouts write in one step.
pub struct Batch {
    stored: Vec<Stored>,
    history: Vec<Entry>,
}

impl Batch {
    pub fn new(count: usize) -> Self {
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
        Self { stored, history }
    }

    /// As it goes to Postgres.
    pub fn encode(&self) -> bool {
        let lease = Some(StdDuration::from_secs(30));
        let wanted: Vec<_> = (self.stored.iter())
            .map(|stored| NewEffect { stored, kind: EffectKind::StartPayout, lease })
            .collect();
        let moved = self.stored.iter().collect();
        let steps = Steps { moved, history: &self.history, wanted: &wanted, ..Steps::default() };
        steps::arguments(black_box(&steps), None).is_ok()
    }
}
