//! payoutd as a whole: real Postgres, real HTTP, the sandbox behind it. Every test has a world of its own and
//! asks three witnesses: the sandbox's ledger, the API, and the payout's history.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../support/mod.rs"]
mod support;

mod access;
mod attempts;
mod bad_input;
mod cancels;
mod checker;
mod commands;
mod creating;
mod faults;
mod lies;
mod line;
mod notifications;
mod odd_answers;
mod operations;
mod outcomes;
mod owners;
mod pace;
mod parked;
mod permits;
mod planted;
mod postgres;
mod process;
mod receiver;
mod reconcile;
mod relay;
mod report;
mod returns;
mod rotation;
mod rules;
mod sink;
mod turns;
mod world;
