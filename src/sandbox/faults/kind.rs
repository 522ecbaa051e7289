//! The faults there are: their names, where each can strike and what it does then. Done is it elsewhere: in
//! `dress` and `lies` for answers, in `calls` and `http` for effects and waiting, in `mail` for webhooks.

use serde::{Deserialize, Serialize};

use super::super::machine::WebhookKind;
use super::super::request::Method;
use super::lies::Lie;

/// Where a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Any call.
    Call,
    /// `session/status` only.
    Status,
    /// Starts and inits only.
    Start,
    /// A webhook, when it is made.
    Webhook,
}

/// What a fault does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Another answer, or none.
    Dress(Garb),
    /// The body says what is not so.
    Lie(Lie),
    /// The reader is shown the past.
    Past,
    Wait(Wait),
    /// The start does what nobody asked for.
    Start(Twist),
    /// Webhooks come other than once and at once.
    Mail(Manner),
    /// The webhook's signature does not fit.
    Seal(Seal),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Garb {
    Failure,
    Close,
    Reset,
    Redirect,
    Html,
    Truncated,
    Empty,
    Huge,
    Utf16,
    Drip,
}

/// When a call waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    BeforeEffect,
    BeforeAnswer,
    ForWebhook,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Twist {
    Twice,
    Story,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    Duplicate,
    Drop,
    Delay,
    Reorder,
    Replay,
}

/// Who seems to have signed a webhook. Only the first attempt is other than genuine: the trouble is on the
/// way, and a receiver that refuses it gets the real one next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seal {
    #[default]
    Genuine,
    /// A bit of the body was flipped after signing.
    Corrupt,
    /// The signature of another body.
    WrongSignature,
    /// Signed with a key that is not the sandbox's.
    ForeignKey,
    /// No signature at all.
    Unsigned,
}

/// Declares the kinds once: variant, name, where, what.
macro_rules! kinds {
    ($($variant:ident $name:literal $scope:ident $deed:expr;)*) => {
        /// A kind of fault. The name is that of scenarios, the control API and the ledger.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum FaultKind {
            $(#[serde(rename = $name)] $variant,)*
        }

        impl FaultKind {
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            #[must_use]
            pub fn scope(self) -> Scope {
                match self {
                    $(Self::$variant => Scope::$scope,)*
                }
            }

            #[must_use]
            pub fn deed(self) -> Deed {
                match self {
                    $(Self::$variant => $deed,)*
                }
            }
        }
    };
}

kinds! {
    // Without effect.
    ErrorBefore "error_before" Call Deed::Dress(Garb::Failure);
    ResetBefore "reset_before" Call Deed::Dress(Garb::Reset);
    Redirect "redirect" Call Deed::Dress(Garb::Redirect);
    // With effect; the caller learns nothing or too little.
    AnswerLost "answer_lost" Call Deed::Dress(Garb::Close);
    ErrorAfter "error_after" Call Deed::Dress(Garb::Failure);
    Reset "reset" Call Deed::Dress(Garb::Reset);
    Html "html" Call Deed::Dress(Garb::Html);
    Truncated "truncated" Call Deed::Dress(Garb::Truncated);
    Empty "empty" Call Deed::Dress(Garb::Empty);
    Huge "huge" Call Deed::Dress(Garb::Huge);
    WrongCharset "wrong_charset" Call Deed::Dress(Garb::Utf16);
    // With effect; the answer comes when it comes.
    DelayBefore "delay_before" Call Deed::Wait(Wait::BeforeEffect);
    DelayAfter "delay_after" Call Deed::Wait(Wait::BeforeAnswer);
    Drip "drip" Call Deed::Dress(Garb::Drip);
    WebhookBeforeAnswer "webhook_before_answer" Call Deed::Wait(Wait::ForWebhook);
    // With effect; the answer lies, or says more than is documented.
    WrongSession "wrong_session" Call Deed::Lie(Lie::Session);
    WrongAmount "wrong_amount" Call Deed::Lie(Lie::Amount);
    WrongCurrency "wrong_currency" Call Deed::Lie(Lie::Currency);
    UnknownFields "unknown_fields" Call Deed::Lie(Lie::UnknownFields);
    UnknownValues "unknown_values" Call Deed::Lie(Lie::UnknownValues);
    StaleStatus "stale_status" Status Deed::Past;
    StatusBackwards "status_backwards" Status Deed::Past;
    // The provider's own mistakes.
    StartTwice "start_twice" Start Deed::Start(Twist::Twice);
    Story "story" Start Deed::Start(Twist::Story);
    // Webhooks: how often and when.
    WebhookDuplicate "webhook_duplicate" Webhook Deed::Mail(Manner::Duplicate);
    WebhookDrop "webhook_drop" Webhook Deed::Mail(Manner::Drop);
    WebhookDelay "webhook_delay" Webhook Deed::Mail(Manner::Delay);
    WebhookReorder "webhook_reorder" Webhook Deed::Mail(Manner::Reorder);
    WebhookReplay "webhook_replay" Webhook Deed::Mail(Manner::Replay);
    // Webhooks: not to be believed.
    WebhookCorrupt "webhook_corrupt" Webhook Deed::Seal(Seal::Corrupt);
    WebhookWrongSignature "webhook_wrong_signature" Webhook Deed::Seal(Seal::WrongSignature);
    WebhookForeignKey "webhook_foreign_key" Webhook Deed::Seal(Seal::ForeignKey);
    WebhookUnsigned "webhook_unsigned" Webhook Deed::Seal(Seal::Unsigned);
    // Webhooks: genuine, and odd.
    WebhookWrongSession "webhook_wrong_session" Webhook Deed::Lie(Lie::Session);
    WebhookWrongAmount "webhook_wrong_amount" Webhook Deed::Lie(Lie::Amount);
    WebhookWrongCurrency "webhook_wrong_currency" Webhook Deed::Lie(Lie::Currency);
    WebhookUnknownFields "webhook_unknown_fields" Webhook Deed::Lie(Lie::UnknownFields);
    WebhookUnknownValues "webhook_unknown_values" Webhook Deed::Lie(Lie::UnknownValues);
    // One more webhook, of a type that is not about payouts, or of none that anybody knows.
    WebhookUnknownType "webhook_unknown_type" Webhook Deed::Lie(Lie::Type("payout_enriched"));
    WebhookActionRequired "webhook_action_required" Webhook Deed::Lie(Lie::Type("action_required"));
    WebhookReadyToCapture "webhook_ready_to_capture" Webhook Deed::Lie(Lie::Type("ready_to_capture"));
}

impl FaultKind {
    /// The kind with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }

    /// The call has no effect.
    #[must_use]
    pub fn prevents(self) -> bool {
        matches!(self, Self::ErrorBefore | Self::ResetBefore | Self::Redirect)
    }

    /// The call had its effect, and its answer does not say so.
    #[must_use]
    pub fn loses_the_answer(self) -> bool {
        let arrives = self == Self::Drip;
        matches!(self.deed(), Deed::Dress(_)) && !self.prevents() && !arrives
    }
}

/// What a fault can be tied to: one method, or one type of webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Point {
    Call(Method),
    Webhook(WebhookKind),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_lead_back() {
        for kind in FaultKind::ALL {
            assert_eq!(FaultKind::named(kind.name()), Some(*kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
            assert_eq!(
                kind.name().starts_with("webhook_") && *kind != FaultKind::WebhookBeforeAnswer,
                kind.scope() == Scope::Webhook,
                "{kind:?}"
            );
        }
        assert_eq!(FaultKind::named("nothing"), None);
    }

    #[test]
    fn the_page_for_users_names_every_fault_and_its_figures() {
        let page = include_str!("../../../docs/sandbox.md");
        for kind in FaultKind::ALL {
            assert!(page.contains(&format!("`{}`", kind.name())), "{}", kind.name());
        }
        for figure in ["status", "code", "retry_after", "delay", "bytes", "copies", "location", "shows"] {
            assert!(page.contains(&format!("`{figure}`")), "{figure}");
        }
    }
}
