//! Everything for working on one machine: a private Postgres, and `payoutd dev`, which puts it, Pike's
//! sandbox and payoutd together and sends sample payouts through the real API. Used by `main` and the tests
//! only; nothing of the service may depend on it.

mod home;
pub mod postgres;
mod receiver;
mod run;
mod sample;
mod table;
mod with_postgres;

pub use run::{DevArgs, run};
pub use with_postgres::{ADDRESS_VARIABLE, with_postgres};
