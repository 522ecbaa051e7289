//! The permit: the one decision that lets money move, or forbids it for good. A payout gets at most one,
//! of one kind, bound to exactly what was decided about.

use super::{id::SessionId, payout::Payout, state::State};
use sha2::{Digest, Sha256};
use time::Duration;

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

/// Why a permitted confirm may not be sent as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unfit {
    /// What is stored is not what was decided about.
    Altered,
    /// Decided too long ago, or under other rules: the present has to be looked at first.
    Stale,
}

/// What lies beside a payout whose confirm is about to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The hash that the intention to confirm carries; an older release stored none.
    pub carried: Option<[u8; 32]>,
    /// The permit as it stands in its own table.
    pub permit: Permit,
    /// The rule set that it was decided under.
    pub rule_set: String,
    /// Since it was decided, or decided again.
    pub age: Duration,
}

/// Whether a confirm may be sent for this payout: permit, intention and payout must still be about the same,
/// and the decision must be young and of the rules in force.
///
/// # Errors
/// [`Unfit`] says what has to happen instead.
pub fn check(payout: &Payout, seen: &Evidence, rule_set: &str, max_age: Duration) -> Result<(), Unfit> {
    let now = payout
        .state
        .session()
        .map(|session| Permit::bind(PermitKind::Confirm, payout, session, &seen.rule_set));
    let same = now.as_ref() == Some(&seen.permit) && payout.permit.as_ref() == Some(&seen.permit);
    if !same || seen.carried.is_some_and(|carried| carried != seen.permit.bound_to) {
        return Err(Unfit::Altered);
    }
    // Something happened since the effect was made: whoever decided about that has not seen this confirm go.
    let waits = matches!(payout.state, State::Confirming { .. }) && payout.anomaly.is_none();
    if !waits || seen.carried.is_none() || seen.rule_set != rule_set || seen.age > max_age {
        return Err(Unfit::Stale);
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{decide::fixtures::payout_in, payout::Anomaly};

    const HOUR: Duration = Duration::HOUR;

    fn confirming() -> (Payout, Evidence) {
        let payout = payout_in(State::Confirming { session: SessionId("ps_1".into()) });
        let permit = payout.permit.clone().unwrap();
        let carried = Some(permit.bound_to);
        (payout, Evidence { carried, permit, rule_set: "test".into(), age: HOUR })
    }

    #[test]
    fn a_young_permit_about_the_same_is_good_to_its_last_moment() {
        let (payout, seen) = confirming();
        assert_eq!(check(&payout, &seen, "test", HOUR), Ok(()));
        let older = Evidence { age: HOUR + Duration::NANOSECOND, ..seen };
        assert_eq!(check(&payout, &older, "test", HOUR), Err(Unfit::Stale));
    }

    #[test]
    fn other_rules_or_an_intention_without_a_hash_are_stale() {
        let (payout, seen) = confirming();
        assert_eq!(check(&payout, &seen, "other", HOUR), Err(Unfit::Stale));
        assert_eq!(check(&payout, &Evidence { carried: None, ..seen }, "test", HOUR), Err(Unfit::Stale));
    }

    #[test]
    fn a_payout_that_no_longer_waits_for_its_confirm_is_looked_at_first() {
        let (payout, seen) = confirming();
        let flagged = Payout { anomaly: Some(Anomaly::Contradiction), ..payout.clone() };
        let session = SessionId("ps_1".into());
        let elsewhere = [
            State::ConfirmUnknown { session: session.clone() },
            State::Settling { session: session.clone() },
            State::Unknown { session, cause: None },
        ];
        let moved = elsewhere.map(|state| Payout { state, ..payout.clone() });
        for payout in moved.into_iter().chain([flagged]) {
            assert_eq!(check(&payout, &seen, "test", HOUR), Err(Unfit::Stale), "{payout:?}");
        }
    }

    /// However old it is: a difference is never merely stale.
    #[test]
    fn any_difference_is_an_alteration() {
        let (payout, seen) = confirming();
        let other = Permit { bound_to: [7; 32], ..seen.permit.clone() };
        let cancel = Permit { kind: PermitKind::Cancel, ..seen.permit.clone() };
        let mut renamed = payout.clone();
        renamed.order.recipient_name = "Mallory".into();
        let elsewhere =
            Payout { state: State::Confirming { session: SessionId("ps_2".into()) }, ..payout.clone() };
        let unpermitted = Payout { permit: None, ..payout.clone() };
        let nowhere = Payout { state: State::Accepted, ..payout.clone() };
        for (payout, seen) in [
            (payout.clone(), Evidence { carried: Some([7; 32]), ..seen.clone() }),
            (payout.clone(), Evidence { permit: other, ..seen.clone() }),
            (payout.clone(), Evidence { permit: cancel, ..seen.clone() }),
            (payout, Evidence { rule_set: "older".into(), ..seen.clone() }),
            (renamed, seen.clone()),
            (elsewhere, seen.clone()),
            (unpermitted, seen.clone()),
            (nowhere, seen),
        ] {
            for age in [Duration::ZERO, HOUR * 2] {
                let seen = Evidence { age, ..seen.clone() };
                assert_eq!(check(&payout, &seen, "test", HOUR), Err(Unfit::Altered), "{payout:?}");
            }
        }
    }
}
