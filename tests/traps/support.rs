//! A database per test with the migrations applied, engines on it, payouts brought to where a test begins.
//! Uses the shared cluster of `payoutd with-postgres` if there is one, else a temporary one for this process.

use payoutd::{
    dev::postgres::{Cluster, ClusterOptions},
    domain::{
        effect::EffectKind,
        event::{Event, Observation, Outcome},
        id::{PayoutId, ProjectId, SessionId},
        money::Money,
        payout::{DestinationKind, Order, metadata_tag},
        policy::{Approvals, Attempts, Mode, Policy, Polling, ResendStart, StopLine},
        provider::ProviderFacts,
        rules::{AmountLimits, RuleSet},
        session::{PayoutReport, PayoutStatus, SessionReport, SessionStatus},
    },
    engine::{Applied, Cause, Core, Created, Engine, EngineError, Envelope, Remembered, Sessions, Wake},
    store::{
        effects::{self, Claimed, Lane, Which},
        inbox::{self, InboxClaim, Incoming},
        payouts::NewPayout,
        pool::{self, MIGRATIONS},
    },
};
use sqlx::{Connection, PgConnection, PgPool};
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};
use tokio::sync::OnceCell;
use uuid::Uuid;

/// Generous: nothing here asserts speed, only that a condition comes true at all.
const PATIENCE: Duration = Duration::from_secs(60);
const LEASE: Duration = Duration::from_secs(600);
pub const AMOUNT: i64 = 1_000;

pub fn project() -> ProjectId {
    ProjectId("demo".to_owned())
}

/// Asks until the answer is yes.
pub async fn until<F: Future<Output = bool>>(what: &str, mut ask: impl FnMut() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !ask().await {
        assert!(Instant::now() < deadline, "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn admin_url() -> String {
    // Its server ends with this process, which keeps the one end of a pipe for as long as it lives.
    static OWN: OnceCell<Cluster> = OnceCell::const_new();
    if let Ok(url) = std::env::var("PAYOUTD_TEST_POSTGRES") {
        return url;
    }
    let start = async || Cluster::start(&ClusterOptions::temporary()).await.unwrap();
    OWN.get_or_init(start).await.url("postgres")
}

/// A fresh database.
pub struct Database {
    pub url: String,
    pub pool: PgPool,
}

impl Database {
    pub async fn fresh() -> Self {
        Self::at(i64::MAX).await
    }

    /// With the migrations up to this one.
    pub async fn at(version: i64) -> Self {
        let database = Self::empty().await;
        MIGRATIONS.run_to(version, &database.pool).await.unwrap();
        database
    }

    /// Without a table.
    pub async fn empty() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let admin = admin_url().await;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("traps_{}_{number}", std::process::id());
        let mut connection = PgConnection::connect(&admin).await.unwrap();
        pool::create_database(&mut connection, &name).await.unwrap();
        connection.close().await.unwrap();
        let url = admin.replacen("/postgres?", &format!("/{name}?"), 1);
        assert_ne!(url, admin, "the address ends in the name of the database");
        let pool = pool::connect(&url, 8).await.unwrap();
        Self { url, pool }
    }

    /// An engine on a pool of its own, as another replica would be.
    pub async fn engine(&self, rules: RuleSet) -> Engine {
        engine_on(pool::connect(&self.url, 8).await.unwrap(), rules)
    }

    /// A connection outside every pool.
    pub async fn observer(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.unwrap()
    }

    pub async fn number(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }

    pub async fn run(&self, sql: &'static str, id: PayoutId) -> Result<(), sqlx::Error> {
        sqlx::query(sql).bind(id.0).execute(&self.pool).await.map(drop)
    }

    /// Claims this many effects for so long that nobody else gets them, or not at all (`Duration::ZERO`).
    pub async fn claim_effects(&self, lease: Duration) -> Vec<Claimed> {
        let mut tx = self.pool.begin().await.unwrap();
        let claimed = effects::claim(&mut tx, 1_000, lease, &lanes()).await.unwrap();
        tx.commit().await.unwrap();
        claimed
    }

    /// Stores this many webhooks and claims them. What is in them does not matter here.
    pub async fn claim_webhooks(&self, count: usize) -> Vec<InboxClaim> {
        let webhook = |_| {
            let id = Uuid::now_v7().as_u128().to_be_bytes();
            let mut body_hash = [0; 32];
            body_hash[..16].copy_from_slice(&id);
            Incoming { project: project(), body: id.to_vec(), body_hash, about: None }
        };
        let incoming: Vec<_> = (0..count).map(webhook).collect();
        let mut tx = self.pool.begin().await.unwrap();
        inbox::insert(&mut tx, &incoming, None).await.unwrap();
        let claimed = inbox::claim(&mut tx, 10_000, LEASE).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(claimed.len(), count);
        claimed.into_iter().map(|webhook| webhook.claim).collect()
    }

    /// New payouts whose start Pike has taken.
    pub async fn processing(&self, engine: &Engine, recipient: &str, count: usize) -> Vec<PayoutId> {
        let mut ids = vec![];
        for _ in 0..count {
            let Created::New(stored) = engine.create(order(recipient)).await.unwrap() else { panic!() };
            ids.push(stored.payout.id);
        }
        for stage in [SessionStatus::Created, SessionStatus::InProgress] {
            self.answer(engine, &ids, &stage).await;
        }
        ids
    }

    /// Brings a new payout to where its start is to be sent.
    pub async fn starting(&self, engine: &Engine, id: PayoutId) {
        self.answer(engine, &[id], &SessionStatus::Created).await;
    }

    /// Pike accepts the one call that each of these payouts waits for, and shows this.
    async fn answer(&self, engine: &Engine, ids: &[PayoutId], shown: &SessionStatus) {
        let answered = |effect: Claimed| {
            let outcome = Outcome::Accepted(report(effect.payout, shown.clone(), None));
            let event = Event::Observed(Observation::Answered { call: effect.kind, outcome });
            Envelope { payout: effect.payout, event, cause: Cause::Effect(effect.claim) }
        };
        let claimed = self.claim_effects(LEASE).await.into_iter();
        let batch: Vec<_> = claimed.filter(|effect| ids.contains(&effect.payout)).map(answered).collect();
        assert_eq!(batch.len(), ids.len());
        for applied in engine.apply(batch).await {
            assert!(matches!(applied, Ok(Applied::Done(_))), "{applied:?}");
        }
    }

    pub async fn story(&self, id: PayoutId) -> Vec<(i64, String, String)> {
        sqlx::query_as("SELECT seq, reason, to_state FROM history WHERE payout_id = $1 ORDER BY seq")
            .bind(id.0)
            .fetch_all(&self.pool)
            .await
            .unwrap()
    }

    pub async fn state(&self, id: PayoutId) -> String {
        sqlx::query_scalar("SELECT state FROM payouts WHERE id = $1")
            .bind(id.0)
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }
}

/// Everything that the project may do.
pub fn lanes() -> [Lane; 2] {
    [Which::Calls, Which::Reads].map(|which| Lane {
        project: project(),
        which,
        most: 1_000,
        narrow: false,
        round: 0,
    })
}

pub fn engine_on(pool: PgPool, rules: RuleSet) -> Engine {
    let policy = Policy {
        resend_start: ResendStart::Never,
        start_unresolved_after: time::Duration::seconds(60),
        stale_read_grace: time::Duration::seconds(60),
        confirm_window: time::Duration::minutes(240),
        hold_margin: time::Duration::minutes(15),
        polling: Polling {
            first: time::Duration::seconds(5),
            steady: time::Duration::seconds(30),
            longest: time::Duration::minutes(15),
            paid_first: time::Duration::days(1),
            paid_until: time::Duration::days(30),
        },
        attempts: Attempts::OFF,
        approvals: Approvals::ByKey,
    };
    Engine::start(Core {
        pool,
        policy,
        rules,
        stop_line: StopLine::default(),
        mode: Mode::default(),
        wake: Wake::default(),
        hands: std::sync::OnceLock::default(),
        sessions: Sessions::default(),
        remembered: Remembered::default(),
    })
}

/// Rules that confirm every payout of a test, unless a cap per recipient and day stands against it.
pub fn rules(daily_cap: Option<i64>) -> RuleSet {
    let rub = "RUB".parse().unwrap();
    RuleSet {
        version: "test".to_owned(),
        amounts: BTreeMap::from([(rub, AmountLimits { min: 1, max: 1_000_000, hold_above: None })]),
        recipient_daily_cap: daily_cap.map(|cap| (rub, cap)).into_iter().collect(),
        ..RuleSet::default()
    }
}

/// A new order under a key of its own.
pub fn order(recipient: &str) -> NewPayout {
    let id = PayoutId(Uuid::now_v7());
    NewPayout {
        id,
        project: project(),
        order: Order {
            amount: Money::new(AMOUNT, "RUB".parse().unwrap()).unwrap(),
            destination: DestinationKind::TokenizedCard,
            destination_fingerprint: [1; 32],
            recipient_name: "Anna".to_owned(),
            customer_reference: recipient.to_owned(),
            reference: None,
            created_by: "key-1".to_owned(),
        },
        destination_secret: "token".to_owned(),
        idempotency_key: id.to_string(),
        request_fingerprint: [7; 32],
        metadata: "{}".to_owned(),
    }
}

/// What Pike shows of this payout's session.
pub fn report(id: PayoutId, status: SessionStatus, payout: Option<PayoutStatus>) -> SessionReport {
    let payouts = payout.into_iter().map(|status| PayoutReport {
        status,
        amount_minor: Some(AMOUNT),
        currency: Some("RUB".to_owned()),
        metadata: Some(metadata_tag(id, 1)),
        returned: false,
        facts: ProviderFacts::default(),
    });
    SessionReport {
        session: SessionId(format!("ps_{}", id.0.simple())),
        status,
        awaits_confirm: false,
        payouts: payouts.collect(),
        error: None,
        updated_at: None,
    }
}

pub fn ready(id: PayoutId) -> SessionReport {
    let pending = report(id, SessionStatus::InProgress, Some(PayoutStatus::Pending));
    SessionReport { awaits_confirm: true, ..pending }
}

pub fn paid(id: PayoutId) -> SessionReport {
    report(id, SessionStatus::Accepted, Some(PayoutStatus::Succeeded))
}

pub fn not_paid(id: PayoutId) -> SessionReport {
    report(id, SessionStatus::Cancelled, Some(PayoutStatus::Failed))
}

/// A webhook with this report, under this claim.
pub fn webhook(id: PayoutId, report: SessionReport, claim: InboxClaim) -> Envelope {
    let event = Event::Observed(Observation::Reported(report));
    Envelope { payout: id, event, cause: Cause::Inbox(claim) }
}

/// An answer to a status read, under this claim.
pub fn read(claimed: &Claimed, report: SessionReport) -> Envelope {
    assert_eq!(claimed.kind, EffectKind::ReadStatus);
    let outcome = Outcome::Accepted(report);
    let event = Event::Observed(Observation::Answered { call: claimed.kind, outcome });
    Envelope { payout: claimed.payout, event, cause: Cause::Effect(claimed.claim) }
}

pub fn due(id: PayoutId, seen: time::OffsetDateTime) -> Envelope {
    Envelope { payout: id, event: Event::Observed(Observation::Due), cause: Cause::Due(seen) }
}

pub fn is_done(applied: &Result<Applied, EngineError>) -> bool {
    matches!(applied, Ok(Applied::Done(_)))
}

pub fn is_superseded(applied: &Result<Applied, EngineError>) -> bool {
    matches!(applied, Ok(Applied::Superseded))
}
