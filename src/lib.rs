//! payoutd pays out to people's cards through Pike. The rooms, in the order in which data flows, are
//! described in `ARCHITECTURE.md`; `tests/tidy.rs` checks which room may use which.

pub mod admin;
pub mod api;
pub mod app;
pub mod batch;
pub mod clock;
pub mod config;
pub mod crash_point;
pub mod dev;
pub mod domain;
pub mod engine;
pub mod http;
pub mod keys;
pub mod notify;
pub mod pike;
pub mod sandbox;
pub mod store;
pub mod telemetry;
pub mod webhook;
pub mod worker;
