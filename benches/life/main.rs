//! What a payout's life costs: ours, the same service by hand with one transaction for each step, and the
//! least SQL that such a life needs, side by side in one go.
//!
//! `scripts/bench` runs it in full. `cargo bench --bench life -- run --rounds 1 --seconds 3` is a short look.
//! The driver, an instant Pike and the collector of notifications live in this process, each service in one
//! of its own, on a private Postgres with fsync on; what this process costs is not counted to anybody.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on should stop")]

mod by_hand;
mod floor;
mod load;
mod measure;
mod minimal;
mod ours;
mod pike;
mod rounds;
mod service;
mod table;
mod text;

use clap::{Parser, Subcommand};

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
    /// The service by hand: started by the others.
    #[command(hide = true)]
    ByHand(by_hand::Options),
}

fn main() {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        match arguments.what {
            None => rounds::run(rounds::Options::short()).await,
            Some(What::Run(options)) => rounds::run(options).await,
            Some(What::Hold(options)) => rounds::hold(options).await,
            Some(What::ByHand(options)) => by_hand::serve(options).await,
        }
    });
}
