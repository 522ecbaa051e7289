//! Several processes on one database, and a backlog: who does how much, and how fast what has waited goes.

use crate::{
    load::{Load, Ran, Shape},
    measure::{self, float, quantile},
    ours,
    rounds::{Ground, Side},
    service::Service,
};
use clap::Args;
use std::{
    fmt::Write,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

/// How many processes are tried.
const PROCESSES: [usize; 3] = [1, 2, 4];
/// Calls to Pike that a payout takes when nobody does anything twice.
const CALLS: f64 = 3.0;

#[derive(Clone, Debug, Args)]
pub struct Replicas {
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Payouts under way at once, in all processes together.
    #[arg(long, default_value_t = 128)]
    in_flight: u32,
}

#[derive(Clone, Debug, Args)]
pub struct Backlog {
    /// Payouts that wait when Pike comes back.
    #[arg(long, default_value_t = 100_000)]
    payouts: u32,
    /// New orders a second meanwhile.
    #[arg(long, default_value_t = 10)]
    fresh: u32,
    /// A line of payoutd's settings: pike.calls_per_second = 300
    #[arg(long)]
    set: Vec<String>,
}

async fn processes(ground: &mut Ground, count: usize, set: &str) -> Vec<Service> {
    let url = ground.database().await;
    let key = ours::prepare(&url, &[]).await;
    let settings = ours::Settings { more: set.to_owned(), ..ours::Settings::default() };
    let mut services = vec![];
    for _ in 0..count {
        services.push(ours::start(&ground.stage, &url, &key, &settings).await);
    }
    ground.pike.send_to(services.iter().map(|service| service.hook.clone()).collect());
    ground.pike.sign_with(ground.scheme(Side::Ours));
    services
}

fn doors(ground: &Ground, services: &[Service]) -> Load {
    ground.load(services.iter().map(|service| service.door.clone()).collect())
}

pub async fn replicas(options: Replicas) {
    let mut ground = Ground::open(40, &[], &[]).await;
    let mut text = String::from(
        "\n| processes | payouts/s | µs each, services | µs each, Postgres | calls each | least and most of a process's share |\
         \n| --- | --- | --- | --- | --- | --- |\n",
    );
    for round in 0..options.rounds {
        for n in 0..PROCESSES.len() {
            let count = PROCESSES[(n + round) % PROCESSES.len()];
            let services = processes(&mut ground, count, "").await;
            let load = doors(&ground, &services);
            let shape = Shape::InFlight(options.in_flight);
            load.run(shape, Duration::from_secs(2)).await;
            let cpu = || -> Vec<f64> { services.iter().map(|service| measure::cpu(service.pid())).collect() };
            let (cpu_before, calls) = (cpu(), ground.pike.calls.load(Ordering::Relaxed));
            let (before, began) = (ground.server.used().await, Instant::now());
            let ran = load.run(shape, Duration::from_secs(options.seconds)).await;
            let took = began.elapsed().as_secs_f64();
            let used: Vec<f64> =
                cpu().iter().zip(&cpu_before).map(|(after, before)| after - before).collect();
            let postgres = (ground.server.used().await - before).cpu;
            let payouts = float(i64::try_from(ran.times.len()).unwrap());
            let calls = ground.pike.calls.load(Ordering::Relaxed) - calls;
            let calls = float(i64::try_from(calls).unwrap()) / payouts;
            assert!(calls < CALLS * 1.02, "{calls} calls for each payout: somebody worked twice");
            let sum: f64 = used.iter().sum();
            let share = |pick: fn(f64, f64) -> f64| used.iter().copied().reduce(pick).unwrap() / sum;
            writeln!(
                text,
                "| {count} | {:.0} | {:.0} | {:.0} | {calls:.3} | {:.2} {:.2} |",
                payouts / took,
                sum * 1e6 / payouts,
                postgres * 1e6 / payouts,
                share(f64::min),
                share(f64::max),
            )
            .unwrap();
            for service in services {
                service.stop().await;
            }
        }
    }
    ground.close().await;
    print!("{text}");
}

/// Fills up while Pike is away, lets it come back, and times how the backlog goes.
pub async fn backlog(options: Backlog) {
    let mut ground = Ground::open(40, &[], &[]).await;
    let services = processes(&mut ground, 1, &options.set.join("\n")).await;
    let load = doors(&ground, &services);
    let peak = load.run(Shape::InFlight(256), Duration::from_secs(10)).await;
    let peak = float(i64::try_from(peak.times.len()).unwrap()) / 10.0;
    ground.pike.away.store(true, Ordering::Relaxed);
    let began = Instant::now();
    load.orders(options.payouts, 64).await;
    eprintln!(
        "{} orders taken in {:.0} s while Pike was away",
        options.payouts,
        began.elapsed().as_secs_f64()
    );
    let before = ground.collector.taken.load(Ordering::Relaxed);
    ground.pike.away.store(false, Ordering::Relaxed);
    let back = Instant::now();
    let taken = || ground.collector.taken.load(Ordering::Relaxed) - before;
    while taken() == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let fresh = tokio::spawn({
        let load = load.clone();
        async move { load.run(Shape::PerSecond(options.fresh), Duration::from_secs(20)).await }
    });
    let (first, calls) = (back.elapsed(), ground.pike.calls.load(Ordering::Relaxed));
    let wanted = u64::from(options.payouts);
    let mut fastest = 0;
    let (mut second, mut last) = (Instant::now(), calls);
    while taken() < wanted {
        tokio::time::sleep(Duration::from_millis(10)).await;
        if second.elapsed() >= Duration::from_secs(1) {
            let now = ground.pike.calls.load(Ordering::Relaxed);
            fastest = fastest.max(now - last);
            (second, last) = (Instant::now(), now);
        }
    }
    let took = back.elapsed().as_secs_f64();
    let Ran { mut times, .. } = fresh.await.unwrap();
    let drained = |seconds: f64| f64::from(options.payouts) / seconds;
    let (since, from_then) = (drained(took), drained(took - first.as_secs_f64()));
    println!(
        "peak: {peak:.0} payouts/s; first final status {:.1} s after Pike was back",
        first.as_secs_f64()
    );
    println!(
        "drained at {from_then:.0} payouts/s from then on: {:.2} of the peak; the breaker's pause included \
         {since:.0}: {:.2}",
        from_then / peak,
        since / peak
    );
    println!("most calls in a second: {fastest}");
    println!(
        "new orders meanwhile: p50 {:.1} s, p99 {:.1} s",
        quantile(&mut times, 0.5) / 1e3,
        quantile(&mut times, 0.99) / 1e3
    );
    println!("memory at most: {:.0} MiB", measure::most_memory(services[0].pid()));
    for service in services {
        service.stop().await;
    }
    ground.close().await;
}
