//! What becomes of the cost when many payouts are there already: the same load on a database with few and on
//! one with many, by turns. The many are copies of payouts that were really made, further back in time, under
//! ids and keys of their own.

use crate::{
    load::Shape,
    ours,
    rounds::{Ground, Side},
    table::Sample,
};
use clap::Args;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use std::{
    collections::BTreeMap,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

#[derive(Clone, Debug, Args)]
pub struct Grown {
    /// How many payouts the larger database has, about.
    #[arg(long, default_value_t = 1_000_000)]
    payouts: u32,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    #[arg(long, default_value_t = 64)]
    in_flight: u32,
    /// Postgres' own settings meanwhile: `wal_compression = on`.
    #[arg(long)]
    postgres: Vec<String>,
}

/// The tables that get rows with each payout, and how a copy differs: `k` is its number.
const TABLES: [(&str, &[(&str, &str)]); 6] = [
    (
        "payouts",
        &[
            ("id", "moved(id, k)"),
            ("idempotency_key", "md5(idempotency_key || k)"),
            ("reference", "reference || '-' || k"),
            // As the stub's, which have twenty digits.
            (
                "session_id",
                "'ps_' || lpad((abs(hashtextextended(session_id, k)) * 2::numeric)::text, 20, '0')",
            ),
            ("provider_payout_id", "md5(provider_payout_id || k)"),
            // Those that are really so old have been looked at for returns.
            ("next_check_at", "next_check_at"),
        ],
    ),
    ("history", &[("payout_id", "moved(payout_id, k)")]),
    ("permits", &[("payout_id", "moved(payout_id, k)")]),
    ("decisions", &[("payout_id", "moved(payout_id, k)")]),
    ("notifications", &[("id", "moved(id, k)"), ("payout_id", "moved(payout_id, k)")]),
    (
        "inbox",
        &[
            ("id", "-id - k * 1000000::bigint"),
            (
                "body_hash",
                "uuid_send(moved(encode(substr(body_hash, 1, 16), 'hex')::uuid, k))
                    || sha256(substr(body_hash, 17) || k::text::bytea)",
            ),
        ],
    ),
];

/// How callers' keys and Pike's sessions are named: whether each in the order of time.
const KINDS: [(&str, bool, bool); 3] = [
    ("keys and sessions in the order of time", true, true),
    ("keys in the order of time, sessions in none", true, false),
    ("keys and sessions in no order", false, false),
];

/// An id as it would have been so much earlier. Copies are ten minutes apart.
const MOVED: &str = "CREATE FUNCTION moved(id uuid, k integer) RETURNS uuid IMMUTABLE LANGUAGE sql RETURN
    (lpad(to_hex(('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint - k * 600000::bigint), 12, '0')
        || substr(replace(id::text, '-', ''), 13))::uuid";
const EARLIER: &str = "- make_interval(mins => 10 * k)";

/// A database with this many copies of the payouts that it has, as if they had been made one after the other.
async fn multiply(url: &str, copies: i64) {
    let mut db = PgConnection::connect(url).await.unwrap();
    let run = async |db: &mut PgConnection, sql: String| {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(db).await.unwrap();
    };
    run(&mut db, format!("SET synchronous_commit = off; SET maintenance_work_mem = '1GB'; {MOVED}")).await;
    for (table, differs) in TABLES.iter().filter(|_| copies > 0) {
        let differs: BTreeMap<&str, &str> = differs.iter().copied().collect();
        let columns: Vec<(String, String)> = sqlx::query_as(
            "SELECT column_name::text, data_type::text FROM information_schema.columns WHERE table_name = $1",
        )
        .bind(table)
        .fetch_all(&mut db)
        .await
        .unwrap();
        let copied = columns.iter().map(|(name, r#type)| match differs.get(name.as_str()) {
            Some(differs) => (*differs).to_owned(),
            None if r#type.starts_with("timestamp") => format!("{name} {EARLIER}"),
            None => name.clone(),
        });
        let copied = copied.collect::<Vec<_>>().join(", ");
        let names = columns.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
        // Without the indexes first: row by row they would take hours.
        run(
            &mut db,
            format!(
                "CREATE TABLE copied AS TABLE {table};
                 UPDATE pg_index SET indisready = false WHERE indrelid = '{table}'::regclass;
                 INSERT INTO {table} ({names}) OVERRIDING SYSTEM VALUE
                     SELECT {copied} FROM generate_series({copies}, 1, -1) AS k, copied;
                 DROP TABLE copied;
                 UPDATE pg_index SET indisready = true WHERE indrelid = '{table}'::regclass"
            ),
        )
        .await;
        run(&mut db, format!("REINDEX TABLE {table}")).await;
    }
    // The checker would find that nobody permitted the copies, and stop the line.
    run(&mut db, "UPDATE checker SET due_at = now() + interval '1 day'".to_owned()).await;
    run(&mut db, "VACUUM (ANALYZE)".to_owned()).await;
}

/// A prepared database, its caller's key, how many payouts it has.
pub async fn filled(ground: &mut Ground, wanted: u32) -> (String, String) {
    let url = ground.database().await;
    let key = ours::prepare(&url, &[]).await;
    let began = Instant::now();
    let service = ours::start(&ground.stage, &url, &key, &ours::Settings::default()).await;
    ground.pike.send_to(vec![service.hook.clone()]);
    ground.pike.sign_with(ground.scheme(Side::Ours));
    let load = ground.load(vec![service.door.clone()]);
    let mut real = 0;
    while real < 10_000 {
        real += load.run(Shape::InFlight(256), Duration::from_secs(2)).await.times.len();
    }
    service.stop().await;
    let real = i64::try_from(real).unwrap();
    multiply(&url, i64::from(wanted) / real - 1).await;
    let mut db = PgConnection::connect(&url).await.unwrap();
    let sizes = "SELECT count(*), pg_size_pretty(pg_database_size(current_database())) FROM payouts";
    let (payouts, size): (i64, String) = sqlx::query_as(sizes).fetch_one(&mut db).await.unwrap();
    eprintln!("{payouts} payouts, {size}, after {:.0} s", began.elapsed().as_secs_f64());
    (url, key)
}

pub async fn grown(options: Grown) {
    let mut ground = Ground::open(40, &[], &[]).await;
    ground.server.set(&options.postgres).await;
    let mut sides = vec![];
    for wanted in [10_000, options.payouts] {
        sides.push(filled(&mut ground, wanted).await);
    }
    let (shape, time) = (Shape::InFlight(options.in_flight), Duration::from_secs(options.seconds));
    // By kind, then by size.
    let mut samples: [[Vec<Sample>; 2]; KINDS.len()] = Default::default();
    for round in 0..options.rounds {
        for (samples, (name, keys, sessions)) in samples.iter_mut().zip(KINDS) {
            ground.ordered_keys = keys;
            ground.pike.counts_up.store(sessions, Ordering::Relaxed);
            for n in 0..sides.len() {
                let side = (n + round) % sides.len();
                let (url, key) = &sides[side];
                let service = ours::start(&ground.stage, url, key, &ours::Settings::default()).await;
                ground.pike.send_to(vec![service.hook.clone()]);
                ground.server.checkpoint().await;
                let sample = ground.sample(&service, shape, Duration::from_secs(3), time).await;
                eprintln!("round {round}, side {side}, {name}: {:.0}/s", sample.rate);
                samples[side].push(sample);
                service.stop().await;
            }
        }
    }
    ground.close().await;
    for ((name, ..), samples) in KINDS.iter().zip(&samples) {
        println!("\n{name}:");
        report(samples);
    }
}

fn report([few, many]: &[Vec<Sample>; 2]) {
    type Column = (&'static str, fn(&Sample) -> f64);
    let columns: [Column; 7] = [
        ("payouts/s", |s| s.rate),
        ("service µs", |s| s.service_us),
        ("Postgres µs", |s| s.postgres_us),
        ("WAL bytes", |s| s.wal),
        ("whole pages in it", |s| s.pages),
        ("p50 ms", |s| s.p50),
        ("p99 ms", |s| s.p99),
    ];
    println!("\n| | few | many | many by few, each round's |\n| --- | --- | --- | --- |");
    for (name, of) in columns {
        let middle = |mut values: Vec<f64>| {
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        let each = |samples: &[Sample]| middle(samples.iter().map(of).collect());
        let ratios = few.iter().zip(many).map(|(few, many)| of(many) / of(few)).collect();
        println!("| {name} | {:.2} | {:.2} | {:.2} |", each(few), each(many), middle(ratios));
    }
}
