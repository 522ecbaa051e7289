//! The sandbox over raw HTTP: a partner with its own signing and a webhook receiver with its own
//! verification against the contract. None of our client's code is in here.

#![expect(clippy::unwrap_used, reason = "a test may; clippy does not see that its support is part of it")]

mod archive;
#[path = "../crash/chance.rs"]
mod chance;
mod contract;
mod control;
mod daily;
mod destinations;
mod faults;
mod flow;
mod fuzz;
mod ledger;
mod odd_mail;
mod pages;
mod raw;
mod refusals;
mod report;
mod restart;
mod support;
mod tokens;
mod webhooks;
mod widget;
