//! Deliberate mistakes: in the decisions, in what the engine and the workers promise around them, in how an
//! answer is read, and in what is assumed about Pike. A model that does not notice them proves nothing.

/// Where a mistake sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seat {
    /// `domain::decide` says something else.
    Decision,
    /// The engine, the store or a worker breaks its contract.
    Engine,
    /// An answer or a webhook is read wrongly.
    Reading,
    /// Pike is not what the model assumes.
    Assumption,
}

impl Seat {
    pub fn words(self) -> &'static str {
        match self {
            Self::Decision => "decision",
            Self::Engine => "engine",
            Self::Reading => "reading",
            Self::Assumption => "assumption",
        }
    }
}

impl Bug {
    /// Whether it can only be made where payouts are tried again.
    pub fn needs_attempts(self) -> bool {
        matches!(
            self,
            Self::WebhookProves
                | Self::SilenceProves
                | Self::PauseIgnored
                | Self::AttemptsEndless
                | Self::UnknownStartsAnew
                | Self::ErrorRetried
                | Self::StoppedRetried
                | Self::FlaggedRetried
                | Self::AlteredRetried
                | Self::OldCallsStay
                | Self::OldPaidIgnored
                | Self::OldPaidUnflagged
                | Self::OldPaidGoesOn
                | Self::OldPaidFails
                | Self::OldPaymentForgotten
                | Self::OldPermitLives
                | Self::AttemptNotCounted
                | Self::LearntForgotten
                | Self::PresentTag
        )
    }

    /// Whether the random histories know how to make it. The exploration can make every one.
    pub fn in_histories(self) -> bool {
        let also = [
            Self::ResendAfterCrash,
            Self::ResendAfterTimeout,
            Self::UnknownMeansFailed,
            Self::NewSessionOnUnknown,
            Self::VoidsIgnored,
            Self::FenceDropped,
            Self::PermitForgotten,
            Self::AnomalyForgotten,
            Self::NextCheckLost,
            Self::SinceReset,
            Self::SwitchIgnored,
            Self::StatusNeverRead,
            Self::CancelAnyway,
            Self::ConfirmBlindly,
            Self::AmountNotRead,
            Self::ForeignAccepted,
            Self::ErrorIsFinal,
            Self::LookSkipped,
            Self::StaleSent,
            Self::AlteredUnseen,
            Self::WithheldSent,
            Self::PermitNotRenewed,
            Self::OldPermitLives,
            Self::AttemptNotCounted,
            Self::LearntForgotten,
            Self::PresentTag,
        ];
        self.seat() == Seat::Decision || also.contains(&self)
    }
}

/// Writes the list once: the variants, all of them in order, and what each breaks.
macro_rules! bugs {
    ($($seat:ident { $($name:ident: $what:literal,)+ })+) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Bug { $($($name,)+)+ }

        impl Bug {
            pub const ALL: &[Self] = &[$($(Self::$name,)+)+];

            pub fn seat(self) -> Seat {
                match self { $($(Self::$name)|+ => Seat::$seat,)+ }
            }

            pub fn what(self) -> &'static str {
                match self { $($(Self::$name => $what,)+)+ }
            }
        }
    };
}

bugs! {
    Decision {
        ConfirmUnpermitted: "a confirm is asked for, and no permit is given with it",
        BoundElsewhere: "a permit is bound to another session than the one that waits",
        HoldNeverEnds: "a hold that nobody answers goes on for ever",
        ExpiryConfirms: "a hold that nobody answered is confirmed",
        RejectedConfirms: "a rejection is taken for an approval",
        RejectionSendsConfirm: "a rejection is recorded, and the confirm is sent",
        CancelAfterConfirm: "a cancel is granted although the confirm was permitted",
        OwnApproval: "whoever created a payout may approve it",
        RulesSkipped: "the rules are not asked",
        ApprovalOverRules: "an approval lifts what the rules forbid",
        FlagsIgnored: "an open anomaly stops nothing",
        StartRefusedFails: "a refused start fails the payout and leaves its session open",
        EmptyFails: "an unknown start whose session is still empty counts as failed",
        StartNotClosed: "an unknown start that does not show is watched for ever",
        ConfirmNotRepeated: "a confirm whose answer was lost is not sent again",
        CancelNotRepeated: "a cancel whose answer was lost is not sent again",
        AcceptedIsPaid: "a confirm that was taken counts as paid",
        ErrorFails: "a session in error fails the payout",
        PaidAfterFinalIgnored: "money that moves after a final status without payment is not news",
        PaidAfterFinalUnflagged: "money that moves after a final status without payment raises nothing",
        PaidUnpermittedUnflagged: "money that moves without a permit raises nothing",
        FailureBelieved: "a failure after a success replaces it",
        FailureUnnoticed: "a failure after a success raises nothing",
        PaidIsReturned: "a payment is recorded as returned",
        FinalReopens: "an old report opens a final payout again",
        FactRefused: "an answer that comes too late is refused",
        ReturnIgnored: "money that comes back is not news",
        PaidNotReread: "a paid payout is not read again",
        WithheldFails: "a confirm that was withheld fails the payout",
        WithheldWaits: "a confirm that was withheld is waited for as if it had been sent",
        WithheldResent: "a confirm that was withheld as stale is sent again without a look at Pike",
        AlteredIsStale: "an altered payout counts as permitted too long ago",
        AlteredAnew: "an altered payout is permitted anew, as it is now",
        ClearFlagPermits: "taking a flag off permits the confirm",
        ClearFlagConfirms: "taking a flag off sends the confirm that was permitted before",
        ClearFlagWaits: "taking a flag off leaves the payout waiting for a call that the flag took back",
        WebhookProves: "a webhook is taken as the second proof that the old session is closed",
        SilenceProves: "a status read without an answer is taken as the second proof",
        PauseIgnored: "another attempt does not wait for the pause",
        AttemptsEndless: "attempts are not limited",
        UnknownStartsAnew: "an unknown start gets a new session instead of having its own closed",
        ErrorRetried: "a session in error is tried again",
        StoppedRetried: "a payout that its caller cancelled is tried again",
        FlaggedRetried: "a payout with an open anomaly is tried again",
        AlteredRetried: "a payout that was altered after it was permitted is tried again",
        OldCallsStay: "the calls of the attempt before stay",
        OldPaidIgnored: "a payment by an old session is not news",
        OldPaidUnflagged: "a payment by an old session raises nothing",
        OldPaidGoesOn: "a payment by an old session does not stop the present one",
        OldPaidFails: "a payout paid by an old session fails with the present one",
        OldPaymentForgotten: "a confirm goes on after the flag of an old session's payment was taken off",
    }
    Engine {
        ResendAfterCrash: "a start whose worker died is sent again",
        ResendAfterTimeout: "a start that timed out counts as never sent, so it is sent again",
        UnknownMeansFailed: "an unknown outcome of a confirm is recorded as a failure",
        NewSessionOnUnknown: "an unknown start is answered with a new session",
        VoidsIgnored: "calls that are no longer wanted stay",
        StartStays: "a start that is no longer wanted stays",
        FenceDropped: "an outcome is recorded whoever holds the effect by now",
        LeaseIgnored: "an effect that somebody holds is claimed by somebody else, as if it were new",
        LapsedForgotten: "an effect whose lease ran out is never claimed again",
        PermitForgotten: "the permit is forgotten, so that a second one can be given",
        PermitLater: "the permit is written in a transaction of its own, after the effect",
        EffectsLater: "effects are written in a transaction of their own, after the state",
        ClosedFirst: "an effect is closed in a transaction of its own, before its outcome is recorded",
        AnomalyForgotten: "an anomaly is raised and not kept",
        NextCheckLost: "what changes nothing forgets the next check",
        SinceReset: "every event starts the waiting anew",
        SwitchIgnored: "the switch is not read for the rules",
        SwitchNotAsked: "a confirm is claimed whatever the switch says",
        StatusNeverRead: "the due check asks nobody",
        CancelAnyway: "a cancel that came too late is sent all the same",
        LookSkipped: "there is no last look before a confirm is sent",
        StaleSent: "the last look does not see a permit that is too old",
        AlteredUnseen: "the last look does not see that the payout was altered",
        WithheldSent: "a confirm is sent, and recorded as withheld",
        PermitNotRenewed: "a permit that was decided again keeps its old date",
        OldPermitLives: "the permit of the attempt before stays in force",
        AttemptNotCounted: "the number of the attempt is not raised",
        LearntForgotten: "what is learnt about an old session is not kept",
    }
    Reading {
        PresentTag: "an old session is held against the present attempt's metadata",
        ConfirmBlindly: "any session in progress is taken to wait for our word",
        AmountNotRead: "the amount that Pike shows is not compared",
        ForeignAccepted: "a report about another session is taken for ours",
        ErrorIsFinal: "a failed payout in a session that Pike has yet to settle counts as final",
        StrangeIsCancelled: "a status nobody has met counts as closed unpaid",
    }
    Assumption {
        AddsWhileResending: "we send starts again, and Pike adds a payout each time",
        StartDoubled: "the network doubles a start at a Pike that adds payouts and keeps no keys",
        KeyForgotten: "the network doubles a start at a Pike that has forgotten its key",
        ClosedRestarts: "Pike starts a payout in a session that it has closed",
        PaysUnasked: "Pike pays without a confirm",
        PaysClosed: "Pike pays a session that it has shown closed unpaid",
        UnstartedStays: "Pike refuses to cancel a session that was never started",
        ErrorForEver: "Pike never settles a session in error",
        StatusSilent: "Pike never answers a status read",
    }
}
