//! All sides by turns, round after round, so that whatever slows the machine slows each of them.

use crate::{
    floor::{self, Floor},
    load::{Collector, Door, Load, Ran, Shape},
    measure::{self, Postgres, float, quantile},
    minimal, ours,
    pike::{Pike, Scheme},
    service::{self, Service, Stage},
    table::{self, Sample},
};
use clap::{Args, ValueEnum};
use payoutd::{
    dev::postgres::{Cluster, ClusterOptions},
    keys::{self, ForSandbox},
    store::pool,
};
use sqlx::{Connection, PgConnection};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

/// About what the stub's have.
const WEBHOOK_BYTES: usize = 700;

#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Times that every side has its turn.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds that are measured in a turn.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Seconds of load before.
    #[arg(long, default_value_t = 3)]
    warm: u64,
    /// Payouts under way at once.
    #[arg(long, value_delimiter = ',', default_value = "64,256")]
    in_flight: Vec<u32>,
    /// Besides, orders a second, whatever becomes of them: for latencies.
    #[arg(long, value_delimiter = ',')]
    per_second: Vec<u32>,
    /// Which sides.
    #[arg(long, value_delimiter = ',', default_value = "ours,by-hand,minimal,rsa,bare")]
    sides: Vec<Side>,
    /// Connections of the service by hand.
    #[arg(long, default_value_t = 40)]
    pub connections: u32,
    /// A line of payoutd's settings, to see what a part costs: checker.every = "1h"
    #[arg(long)]
    set: Vec<String>,
    /// A statement for payoutd's database before it starts, for the same purpose.
    #[arg(long)]
    sql: Vec<String>,
}

impl Options {
    /// Turns that measure for so many seconds.
    pub fn turns_of(seconds: u64) -> Self {
        Self { seconds, ..Self::short() }
    }

    /// A look that takes a minute.
    pub fn short() -> Self {
        let sides = vec![Side::Ours, Side::ByHand, Side::Minimal];
        Self {
            rounds: 1,
            seconds: 5,
            warm: 2,
            in_flight: vec![64],
            per_second: vec![],
            sides,
            connections: 40,
            set: vec![],
            sql: vec![],
        }
    }
}

#[derive(Clone, Debug, Args)]
pub struct Hold {
    /// Which side; not pgbench.
    #[arg(long, default_value = "ours")]
    side: Side,
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    #[arg(long, default_value_t = 64)]
    in_flight: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Side {
    /// payoutd, webhooks signed by a gateway (HMAC).
    Ours,
    /// The service by hand, one transaction for each step.
    ByHand,
    /// pgbench, one statement for each step.
    Minimal,
    /// payoutd, webhooks signed by Pike (RSA).
    Rsa,
    /// One insert for each webhook, nothing else; for latencies at a fixed rate.
    Bare,
}

impl Side {
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "payoutd",
            Self::ByHand => "by hand, one transaction per step",
            Self::Minimal => "pgbench, one statement per step",
            Self::Rsa => "payoutd, RSA webhooks",
            Self::Bare => "one insert a webhook",
        }
    }
}

/// What all turns share.
pub struct Ground {
    cluster: Cluster,
    pub server: Postgres,
    pub stage: Stage,
    pub pike: Arc<Pike>,
    pub collector: Arc<Collector>,
    /// Whether callers' keys are in the order of time.
    pub ordered_keys: bool,
    databases: u32,
    runs: AtomicU32,
    set: String,
    sql: Vec<String>,
}

impl Ground {
    pub async fn open(connections: u32, set: &[String], sql: &[String]) -> Self {
        let dir = std::env::temp_dir().join(format!("payoutd-bench-{}", uuid::Uuid::now_v7().simple()));
        let mut options = ClusterOptions::kept(dir.join("postgres"));
        // pgbench has one for each life in flight.
        options.max_connections = 320;
        std::fs::create_dir(&dir).unwrap();
        // The server may run as somebody else.
        let reachable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&dir, reachable).unwrap();
        let cluster = Cluster::start(&options).await.unwrap();
        keys::generate(&service::keys(&dir), ForSandbox::Yes).unwrap();
        let secret = keys::new_webhook_secret().unwrap();
        keys::write_secret(&dir.join("webhook.secret"), &secret).unwrap();
        let secret = secrecy::ExposeSecret::expose_secret(&secret).trim().to_owned();
        let (pike, pike_at) = Pike::start(secret.as_bytes()).await;
        let (collector, told_at) = Collector::start().await;
        let server = Postgres::open(&cluster.url("postgres")).await;
        let stage = Stage {
            dir,
            pike: format!("http://{pike_at}"),
            told: format!("http://{told_at}/told"),
            connections,
        };
        Self {
            cluster,
            server,
            stage,
            pike,
            collector,
            ordered_keys: false,
            databases: 0,
            runs: AtomicU32::new(0),
            set: set.join("\n"),
            sql: sql.to_vec(),
        }
    }

    pub async fn database(&mut self) -> String {
        self.databases += 1;
        let name = format!("life_{}", self.databases);
        let mut admin = PgConnection::connect(&self.cluster.url("postgres")).await.unwrap();
        pool::create_database(&mut admin, &name).await.unwrap();
        self.cluster.url(&name)
    }

    pub async fn service(&mut self, side: Side) -> Service {
        let url = self.database().await;
        let service = match side {
            Side::ByHand | Side::Bare => service::by_hand(&self.stage, &url).await,
            Side::Ours | Side::Rsa | Side::Minimal => {
                let key = ours::prepare(&url, &self.sql).await;
                let settings = ours::Settings { rsa_webhooks: side == Side::Rsa, more: self.set.clone() };
                ours::start(&self.stage, &url, &key, &settings).await
            }
        };
        self.pike.send_to(vec![service.hook.clone()]);
        self.pike.sign_with(self.scheme(side));
        service
    }

    pub fn scheme(&self, side: Side) -> Scheme {
        let read = |name: &str| std::fs::read_to_string(self.stage.dir.join(name)).unwrap();
        match side {
            Side::Rsa => Scheme::Rsa(Box::new(keys::signing_key(&read("keys/pike.key.pem")).unwrap())),
            Side::Ours | Side::ByHand | Side::Minimal | Side::Bare => {
                Scheme::Hmac(crate::text::hmac_key(read("webhook.secret").trim().as_bytes()))
            }
        }
    }

    pub fn load(&self, doors: Vec<Door>) -> Load {
        let run = self.runs.fetch_add(1, Ordering::Relaxed);
        let mut load = Load::new(doors, Arc::clone(&self.collector), &format!("run{run}"));
        load.ordered_keys = self.ordered_keys;
        load
    }

    pub async fn turn(&mut self, side: Side, shape: Shape, options: &Options) -> Sample {
        let (warm, time) = (Duration::from_secs(options.warm), Duration::from_secs(options.seconds));
        let service = self.service(side).await;
        self.server.checkpoint().await;
        let sample = self.sample(&service, shape, warm, time).await;
        service.stop().await;
        sample
    }

    /// This load on a service that is ready.
    pub async fn sample(
        &mut self,
        service: &Service,
        shape: Shape,
        warm: Duration,
        time: Duration,
    ) -> Sample {
        let load = self.load(vec![service.door.clone()]);
        load.run(shape, warm).await;
        self.pike.acknowledged.lock().unwrap().clear();
        let before = self.server.used().await;
        let (service_cpu, own_cpu) = (measure::cpu(service.pid()), measure::own_cpu());
        let began = std::time::Instant::now();
        let Ran { mut times, mut accepted } = load.run(shape, time).await;
        let took = began.elapsed().as_secs_f64();
        let service_cpu = measure::cpu(service.pid()) - service_cpu;
        let own_cpu = measure::own_cpu() - own_cpu;
        let used = self.server.used().await - before;
        let mut acknowledged = std::mem::take(&mut *self.pike.acknowledged.lock().unwrap());
        let count = float(i64::try_from(times.len()).unwrap());
        let rss = measure::most_memory(service.pid());
        Sample {
            rate: count / took,
            service_us: service_cpu * 1e6 / count,
            postgres_us: used.cpu * 1e6 / count,
            driver_us: own_cpu * 1e6 / count,
            fsyncs: used.fsyncs / count,
            wal: used.wal / count,
            pages: used.pages / count,
            commits: used.commits / count,
            p50: quantile(&mut times, 0.5),
            p99: quantile(&mut times, 0.99),
            order50: quantile(&mut accepted, 0.5),
            order99: quantile(&mut accepted, 0.99),
            ack50: quantile(&mut acknowledged, 0.5),
            ack99: quantile(&mut acknowledged, 0.99),
            rss,
            ready: service.ready_after.as_secs_f64() * 1e3,
        }
    }

    async fn minimal(&mut self, program: &Path, clients: u32, options: &Options) -> Sample {
        let url = self.database().await;
        minimal::prepare(&url).await;
        self.server.checkpoint().await;
        let time = Duration::from_secs(options.seconds);
        let (rate, count, used) = minimal::run(program, &url, clients, time, &mut self.server).await;
        Sample {
            rate,
            postgres_us: used.cpu * 1e6 / count,
            fsyncs: used.fsyncs / count,
            wal: used.wal / count,
            commits: used.commits / count,
            ..Sample::nothing()
        }
    }

    /// As many webhooks as payouts at this rate have, each kept by one insert.
    async fn bare(&mut self, payouts_per_second: u32, options: &Options) -> Sample {
        let service = self.service(Side::Bare).await;
        let url = service.door.orders.replace("/v1/payouts", "/bare");
        let load = self.load(vec![service.door.clone()]);
        let body = "{}".repeat(WEBHOOK_BYTES / 2);
        let rate = payouts_per_second * 2;
        load.posts(&url, &body, rate, Duration::from_secs(options.warm)).await;
        let mut times = load.posts(&url, &body, rate, Duration::from_secs(options.seconds)).await;
        service.stop().await;
        let (ack50, ack99) = (quantile(&mut times, 0.5), quantile(&mut times, 0.99));
        Sample { rate: f64::from(payouts_per_second), ack50, ack99, ..Sample::nothing() }
    }

    async fn floor(&mut self) -> Floor {
        let url = self.database().await;
        minimal::prepare(&url).await;
        floor::measure(&url, &mut self.server, Duration::from_secs(2)).await
    }

    pub async fn close(self) {
        drop(self.server);
        self.cluster.stop().await.unwrap();
        let _ = std::fs::remove_dir_all(&self.stage.dir);
    }
}

pub async fn run(options: Options) {
    let program = minimal::program();
    if program.is_none() && options.sides.contains(&Side::Minimal) {
        println!("pgbench was not found (PAYOUTD_PG_BIN, PATH): its rows are missing.");
    }
    let mut ground = Ground::open(options.connections, &options.set, &options.sql).await;
    let (mut floors, mut samples) = (vec![], vec![]);
    for round in 0..options.rounds {
        floors.push(ground.floor().await);
        let closed = options.in_flight.iter().map(|count| Shape::InFlight(*count));
        for shape in closed.chain(options.per_second.iter().map(|rate| Shape::PerSecond(*rate))) {
            // Who goes first changes.
            for n in 0..options.sides.len() {
                let side = options.sides[(n + round) % options.sides.len()];
                let sample = match (side, &program, shape) {
                    (Side::Minimal, Some(program), Shape::InFlight(clients)) => {
                        ground.minimal(program, clients, &options).await
                    }
                    (Side::Bare, _, Shape::PerSecond(rate)) => ground.bare(rate, &options).await,
                    (Side::Minimal | Side::Bare, ..) => continue,
                    (Side::Ours | Side::ByHand | Side::Rsa, ..) => ground.turn(side, shape, &options).await,
                };
                eprintln!("round {round}, {shape}, {}: {:.0}/s", side.name(), sample.rate);
                samples.push((side, shape, sample));
            }
        }
    }
    ground.close().await;
    print!("{}", table::report(&samples, &floors));
}

/// Loads one side until the time is up.
pub async fn hold(options: Hold) {
    if options.side == Side::Minimal {
        eprintln!("pgbench has no service to hold: choose ours, by-hand or rsa.");
        return;
    }
    let mut ground = Ground::open(40, &[], &[]).await;
    let service = ground.service(options.side).await;
    eprintln!("pid {}", service.pid());
    let load = ground.load(vec![service.door.clone()]);
    let ran = load.run(Shape::InFlight(options.in_flight), Duration::from_secs(options.seconds)).await;
    println!("{} payouts in {} s", ran.times.len(), options.seconds);
    service.stop().await;
    ground.close().await;
}
