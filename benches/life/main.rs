//! What a payout's life costs: ours, the same service by hand with one transaction for each step, and the
//! least SQL that such a life needs, side by side in one go.
//!
//! `scripts/bench` runs it in full. `cargo bench --bench life -- run --rounds 1 --seconds 3` is a short look.
//! The driver, an instant Pike and the collector of notifications live in this process, each service in one
//! of its own, on a private Postgres with fsync on; what this process costs is not counted to anybody.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on should stop")]

mod by_hand;
mod floor;
mod gate;
mod grown;
mod load;
mod long;
mod many;
mod measure;
mod minimal;
mod ours;
mod pike;
mod rounds;
mod service;
mod table;
mod text;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(bin_name = "life")]
struct Arguments {
    /// Given by cargo.
    #[arg(long, hide = true, global = true)]
    bench: bool,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Subcommand)]
enum What {
    /// Throughput and cost, all sides by turns.
    Run(rounds::Options),
    /// One side under load until it is stopped, for a profiler.
    Hold(rounds::Hold),
    /// One, two and four processes on one database.
    Replicas(many::Replicas),
    /// What has waited while Pike was away.
    Backlog(many::Backlog),
    /// The same load on few payouts and on many that are finished.
    Grown(grown::Grown),
    /// A fixed rate for long: memory, dead rows, sizes.
    Long(long::Long),
    /// Fails if a payout costs more than it did.
    Gate(gate::Gate),
    /// The service by hand: started by the others.
    #[command(hide = true)]
    ByHand(by_hand::Options),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        match arguments.what {
            None => rounds::run(rounds::Options::short()).await,
            Some(What::Run(options)) => rounds::run(options).await,
            Some(What::Hold(options)) => rounds::hold(options).await,
            Some(What::Replicas(options)) => many::replicas(options).await,
            Some(What::Backlog(options)) => many::backlog(options).await,
            Some(What::Grown(options)) => grown::grown(options).await,
            Some(What::Long(options)) => long::long(options).await,
            Some(What::Gate(options)) => return gate::gate(options).await,
            Some(What::ByHand(options)) => by_hand::serve(options).await,
        }
        ExitCode::SUCCESS
    })
}
