//! What Pike's documentation promises, read without a look at the sandbox's code: by raw HTTP, method by
//! method, header by header, field by field. A § in here is one of that documentation, pike-api.md. Where it
//! leaves something open, every reading that it offers is accepted.

mod bodies;
mod confirming;
mod echoes;
mod errors;
mod hook_delivery;
mod hook_shape;
mod idempotency;
mod inputs;
mod methods;
pub mod partner;
pub mod receiver;
mod shape;
mod signatures;
mod states;
mod token_methods;
