//! Effects: durable intentions to call Pike. A decision asks for them, the store keeps them, a worker
//! performs them and comes back with an answer.

/// One call to Pike. Each payout has at most one live effect of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EffectKind {
    /// `session/create`: moves no money, may be repeated.
    CreateSession,
    /// `session/start/payout`: never repeated blindly.
    StartPayout,
    /// `session/confirm`: the money moves. Exists only under a confirm permit.
    Confirm,
    /// `session/cancel`. Exists only under a cancel permit.
    Cancel,
    /// `session/status`: a read, may be repeated.
    ReadStatus,
}

impl EffectKind {
    pub const ALL: [Self; 5] =
        [Self::CreateSession, Self::StartPayout, Self::Confirm, Self::Cancel, Self::ReadStatus];

    /// Whether a try whose outcome was never recorded (the worker died) may simply be made again. For the
    /// others the outcome is unknown, and the next thing to do is to read the status.
    #[must_use]
    pub fn repeatable(self) -> bool {
        match self {
            Self::CreateSession | Self::ReadStatus => true,
            Self::StartPayout | Self::Confirm | Self::Cancel => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_money_is_never_simply_made_again() {
        let again = EffectKind::ALL.into_iter().filter(|kind| kind.repeatable()).collect::<Vec<_>>();
        assert_eq!(again, [EffectKind::CreateSession, EffectKind::ReadStatus]);
    }
}
