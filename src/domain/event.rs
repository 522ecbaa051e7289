//! Everything that can happen to a payout. A command is a wish and may be refused; an observation is a fact
//! and never is.

use super::{
    effect::EffectKind, owner::People, permit::Unfit, provider::ProviderError, session::SessionReport,
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Command(Command),
    Observed(Observation),
}

/// What a caller wants. `by` is the API key's id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Cancel {
        by: String,
    },
    Approve {
        by: String,
        /// Who is behind `by` and the key that created the payout, looked up by whoever asks.
        people: People,
    },
    Reject {
        by: String,
    },
    /// A person has looked at an anomaly and takes the flag off.
    ClearFlag {
        by: String,
        reason: String,
    },
}

/// What the world did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// A call of ours came back, or is known to be lost.
    Answered { call: EffectKind, outcome: Outcome },
    /// A permitted confirm was not sent: its permit did not hold any more right before it.
    Withheld(Unfit),
    /// Pike told us of its own accord: a verified webhook.
    Reported(SessionReport),
    /// The time noted on the payout has come.
    Due,
}

/// How a call to Pike ended. A request that provably never left is not an outcome: it is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Pike accepted the call and shows this session.
    Accepted(SessionReport),
    /// Pike refused, with a code from the explicit list of final ones.
    Declined(ProviderError),
    /// Time-out, 5xx, unreadable answer, a code not on the list: it may or may not have happened.
    Unknown(ProviderError),
}
