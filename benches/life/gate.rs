//! What may not get worse unnoticed: what a payout costs and how much memory that takes, each by the best of a
//! few short turns. Times of processors go by those of the service by hand beside it, so that a slow machine
//! is not mistaken for slow code. Each limit is what the last full run had (docs/performance.md) and some 30 %,
//! for fsyncs 50 %; for memory a tenth or what is wanted, for the time to be ready what is wanted.

use crate::{
    load::Shape,
    rounds::{Ground, Options, Side},
    table::Sample,
};
use clap::Args;
use std::process::ExitCode;

const FEW: Shape = Shape::InFlight(64);
const MANY: Shape = Shape::InFlight(1_024);

#[derive(Clone, Debug, Args)]
pub struct Gate {
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    #[arg(long, default_value_t = 4)]
    seconds: u64,
}

/// The turns of one round.
struct Round {
    ours: Sample,
    by_hand: Sample,
    many: Sample,
}

struct Limit {
    what: &'static str,
    of: fn(&Round) -> f64,
    most: f64,
}

const LIMITS: [Limit; 7] = [
    Limit {
        what: "the service's CPU, times that of the service by hand",
        of: |round| round.ours.service_us / round.by_hand.service_us,
        most: 0.68,
    },
    Limit {
        what: "Postgres's CPU, times that of the service by hand",
        of: |round| round.ours.postgres_us / round.by_hand.postgres_us,
        most: 0.31,
    },
    Limit { what: "fsyncs for each payout", of: |round| round.ours.fsyncs, most: 0.45 },
    Limit { what: "bytes of WAL for each payout", of: |round| round.ours.wal, most: 14_500.0 },
    Limit { what: "MiB at 64 in flight", of: |round| round.ours.rss, most: 34.0 },
    Limit { what: "MiB at 1,024 in flight", of: |round| round.many.rss, most: 64.0 },
    Limit { what: "milliseconds from the start to ready", of: |round| round.ours.ready, most: 300.0 },
];

pub async fn gate(gate: Gate) -> ExitCode {
    let options = Options::turns_of(gate.seconds);
    let mut ground = Ground::open(options.connections, &[], &[]).await;
    let mut rounds = vec![];
    for _ in 0..gate.rounds {
        rounds.push(Round {
            ours: ground.turn(Side::Ours, FEW, &options).await,
            by_hand: ground.turn(Side::ByHand, FEW, &options).await,
            many: ground.turn(Side::Ours, MANY, &options).await,
        });
    }
    ground.close().await;
    let mut code = ExitCode::SUCCESS;
    for limit in LIMITS {
        let best = rounds.iter().map(limit.of).fold(f64::INFINITY, f64::min);
        println!("{}: {best:.2}, at most {} allowed", limit.what, limit.most);
        let within = best <= limit.most;
        if !within {
            eprintln!("that is too much");
            code = ExitCode::FAILURE;
        }
    }
    code
}
