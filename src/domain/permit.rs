//! The permit: the one decision that lets money move, or forbids it for good. A payout gets at most one,
//! of one kind, bound to exactly what was decided about.

use super::{id::SessionId, payout::Payout};
use sha2::{Digest, Sha256};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PermitKind {
    Confirm,
    Cancel,
}

/// A payout's permit. `bound_to` is the hash of what was in front of whoever decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    pub kind: PermitKind,
    pub bound_to: [u8; 32],
}

impl Permit {
    /// A permit for this payout in this session under this rule set.
    #[must_use]
    pub fn bind(kind: PermitKind, payout: &Payout, session: &SessionId, rule_set: &str) -> Self {
        Self { kind, bound_to: binding(payout, session, rule_set) }
    }
}

/// Hash of session, amount, currency, recipient, destination and rule-set version. Every part is preceded by
/// its length, so that no two different sets of parts have the same bytes.
#[must_use]
pub fn binding(payout: &Payout, session: &SessionId, rule_set: &str) -> [u8; 32] {
    let order = &payout.order;
    let minor = order.amount.minor().to_string();
    let tag = payout.metadata_tag();
    let mut hash = Sha256::new();
    for part in [
        session.0.as_bytes(),
        tag.as_bytes(),
        minor.as_bytes(),
        order.amount.currency().code().as_bytes(),
        order.recipient_name.as_bytes(),
        order.customer_reference.as_bytes(),
        &order.destination_fingerprint,
        rule_set.as_bytes(),
    ] {
        hash.update(part.len().to_string().as_bytes());
        hash.update(b":");
        hash.update(part);
    }
    hash.finalize().into()
}
