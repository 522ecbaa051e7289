//! All SQL. Functions over a connection, one file per table; no decisions, no HTTP. Whoever needs several of
//! them to be true together opens the transaction and passes it along.

pub mod anomalies;
pub mod api_keys;
pub mod attempts;
pub mod causes;
pub mod checks;
pub mod effects;
pub mod encoding;
pub mod environment;
mod error;
pub mod findings;
pub mod history;
pub mod inbox;
pub mod migrate;
pub mod notifications;
pub mod payouts;
pub mod permits;
pub mod pool;
pub mod reports;
pub mod retry;
pub mod rules;
pub mod standing;
pub mod stats;
pub mod steps;
pub mod told;
pub mod writer;

pub use error::StoreError;
