//! HTTP out to Pike: the client, its signatures, both naming schemes of the API, and what an answer means.
//! Knows nothing of a database; a call goes in, one of four outcomes comes out.

mod client;
mod outcome;
mod report;
pub mod sign;
mod wait;
mod wire;

pub use client::{Call, Pike, PikeError, PikeProject, PikeSettings};
pub use outcome::{Answer, Condition, Reply};
pub use report::{DailyReport, NoHeader, read_report};
pub use wire::{ApiVersion, Webhook, read_webhook};
