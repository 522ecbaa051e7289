//! HTTP out to our callers: signed the Standard Webhooks way, sent where the project's settings say and
//! nowhere else. Knows nothing of a database.

mod guard;
mod send;
mod sign;

pub use send::{Endpoint, Notifier, NotifierError, PrivateAddresses, SendFailed};
pub use sign::{BadSecret, Secret};
