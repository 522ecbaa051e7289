//! A fixed rate for long: what grows, and what does not. Memory of the process, rows that wait for their
//! vacuum, sizes, cost, a line for each stretch.

use crate::{
    grown,
    load::Shape,
    measure::{float, memory},
    ours,
    rounds::{Ground, Side},
};
use clap::Args;
use sqlx::{Connection, PgConnection};
use std::time::Duration;

#[derive(Clone, Debug, Args)]
pub struct Long {
    #[arg(long, default_value_t = 60)]
    minutes: u64,
    /// Orders a second.
    #[arg(long, default_value_t = 200)]
    per_second: u32,
    /// About how many finished payouts there are already; none if it is not said.
    #[arg(long)]
    payouts: Option<u32>,
    /// Minutes for each line.
    #[arg(long, default_value_t = 5)]
    every: u64,
}

/// Dead rows of the tables whose rows change, and the megabytes of those and of all tables.
const TABLES: &str = "SELECT relname::text, n_dead_tup, pg_total_relation_size(relid) / 1048576
    FROM pg_stat_user_tables
    WHERE relname IN ('payouts', 'effects', 'inbox', 'notifications', 'told_sessions') ORDER BY 1";

pub async fn long(options: Long) {
    let mut ground = Ground::open(40, &[], &[]).await;
    let (url, key) = match options.payouts {
        None => {
            let url = ground.database().await;
            let key = ours::prepare(&url, &[]).await;
            (url, key)
        }
        Some(payouts) => grown::filled(&mut ground, payouts).await,
    };
    let service = ours::start(&ground.stage, &url, &key, &ours::Settings::default()).await;
    ground.pike.send_to(vec![service.hook.clone()]);
    ground.pike.sign_with(ground.scheme(Side::Ours));
    let mut db = PgConnection::connect(&url).await.unwrap();
    println!("minutes, payouts/s, service µs, Postgres µs, p50 and p99 ms, RSS (most) MiB; dead rows, MB");
    let (mut minutes, stretch) = (0, Duration::from_secs(60 * options.every));
    while minutes < options.minutes {
        let shape = Shape::PerSecond(options.per_second);
        let sample = ground.sample(&service, shape, Duration::ZERO, stretch).await;
        minutes += options.every;
        let [most, now] = memory(service.pid());
        let tables: Vec<(String, i64, i64)> = sqlx::query_as(TABLES).fetch_all(&mut db).await.unwrap();
        let tables = tables.iter().map(|(name, dead, size)| format!("{name} {dead}, {size}"));
        println!(
            "{minutes}, {:.0}, {:.0}, {:.0}, {:.0} {:.0}, {now:.1} ({most:.1}); {}",
            sample.rate,
            sample.service_us,
            sample.postgres_us,
            sample.p50,
            sample.p99,
            tables.collect::<Vec<_>>().join("; ")
        );
    }
    let orders = "SELECT count(*), count(*) FILTER (WHERE state = 'succeeded') FROM payouts";
    let (all, paid): (i64, i64) = sqlx::query_as(orders).fetch_one(&mut db).await.unwrap();
    println!("{:.0} payouts, {:.0} of them paid", float(all), float(paid));
    service.stop().await;
    ground.close().await;
}
