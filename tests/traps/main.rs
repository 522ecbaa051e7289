//! The measured traps, each with the test that would fail if it opened again: transactions half begun by
//! callers who went away, answers that point elsewhere, looking before inserting, claims that were lost, one
//! bad event among good ones, caps and switches under concurrency. Slow clients are in `tests/http_edge`,
//! NOTIFY in `tests/tidy.rs`.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod along;
mod asked;
mod at_once;
mod begin;
mod caps;
mod claims;
mod create;
mod deliveries;
mod egress;
mod flags;
mod fresh;
mod handed;
mod inside;
mod interrupted;
mod migrate;
mod old_reads;
mod orphans;
mod peer;
mod plans;
mod poison;
mod receiver;
mod releases;
mod retries;
mod rude;
mod schema;
mod settings;
mod story;
mod support;
mod sweep;
mod switch;
mod tls;
mod together;
mod wakes;
