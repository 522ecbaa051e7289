//! payoutd on a network that fails: a TCP proxy of our own stands between payoutd and Pike, and between
//! payoutd and Postgres, and delays, cuts, resets, swallows, drips, doubles and refuses. `cases` runs the
//! table of six calls, twelve faults and five places; `postgres` does the same to the database; `figures`
//! measures what duplicates, storms and a failing Pike cost. The witness is the sandbox's ledger and what was
//! seen on the wire. Seeds are printed; PAYOUTD_TEST_SEED repeats one.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../support/mod.rs"]
mod support;

mod cases;
mod collector;
mod duplicates;
mod fault;
mod figures;
mod http_line;
mod oracle;
mod pg_line;
mod postgres;
mod proxy;
mod scene;
mod seed;
mod traffic;
mod wire;
