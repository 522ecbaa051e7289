//! HTTP in from Pike. Verify the raw bytes, keep them, answer exactly 200; whatever they mean is found out
//! later by `worker::inbox`. Nothing unverified is ever stored.

mod receive;
mod verify;

pub use receive::{Begin, WebhookState, Workers, intake, router};
pub use verify::{BadVerifier, Verifier};
