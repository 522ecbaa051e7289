//! Deliberate mistakes in what surrounds the decisions. A model that does not notice them proves nothing.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A start whose worker died is sent again.
    ResendAfterCrash,
    /// A start that timed out counts as never sent, so it is sent again.
    ResendAfterTimeout,
    /// An unknown outcome of a confirm is recorded as a failure.
    UnknownMeansFailed,
    /// Calls that are no longer wanted stay.
    VoidsIgnored,
    /// An outcome is recorded whoever holds the effect by now.
    FenceDropped,
    /// Any session in progress is taken to wait for our word.
    ConfirmBlindly,
    /// The amount that Pike shows is not compared.
    AmountNotRead,
    /// A report about another session is taken for ours.
    ForeignAccepted,
    /// An unknown start is answered with a new session.
    NewSessionOnUnknown,
    /// The permit is forgotten, so that a second one can be given.
    PermitForgotten,
    /// A failed payout in a session that Pike has yet to settle counts as final.
    ErrorIsFinal,
    /// What changes nothing forgets the next check.
    NextCheckLost,
    /// Every event starts the waiting anew.
    SinceReset,
    /// The switch is not asked.
    SwitchIgnored,
    /// The due check asks nobody.
    StatusNeverRead,
    /// A cancel that came too late is sent all the same.
    CancelAnyway,
}

impl Bug {
    pub const ALL: [Self; 16] = [
        Self::ResendAfterCrash,
        Self::ResendAfterTimeout,
        Self::UnknownMeansFailed,
        Self::VoidsIgnored,
        Self::FenceDropped,
        Self::ConfirmBlindly,
        Self::AmountNotRead,
        Self::ForeignAccepted,
        Self::NewSessionOnUnknown,
        Self::PermitForgotten,
        Self::ErrorIsFinal,
        Self::NextCheckLost,
        Self::SinceReset,
        Self::SwitchIgnored,
        Self::StatusNeverRead,
        Self::CancelAnyway,
    ];
}
