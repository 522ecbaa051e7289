//! Every decision about a payout, and nothing else: pure, synchronous, total. No clock, no I/O, no
//! randomness, no serialisation. `engine` feeds it and writes down what it says; every other room only
//! borrows its words. Start with `state` (what a payout can be) and `decide` (what may happen to it).

pub mod checking;
pub mod decide;
pub mod effect;
pub mod environment;
pub mod event;
pub mod id;
pub mod money;
pub mod owner;
pub mod payout;
pub mod permit;
pub mod policy;
pub mod provider;
pub mod report;
pub mod rules;
pub mod session;
pub mod state;
