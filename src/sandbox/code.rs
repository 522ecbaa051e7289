//! Pike's error codes: their names, what the sandbox says about them, and the HTTP status of a refused call.
//! The list is open on Pike's side; here are those that are documented for one of its brands, and one that
//! nobody has documented.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Declares the codes once: variant, name on the wire, sentence.
macro_rules! codes {
    ($($variant:ident $name:literal $description:literal)*) => {
        /// An error of a call or of an operation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Code {
            $(#[serde(rename = $name)] $variant,)*
        }

        impl Code {
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name on the wire, in the ledger and in the state file.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// The text that goes with the code; callers must not match on it.
            #[must_use]
            pub fn description(self) -> &'static str {
                match self {
                    $(Self::$variant => $description,)*
                }
            }
        }
    };
}

codes! {
    IdentificationError "identification_error" "No project with this identifier"
    AuthenticationError "authentication_error" "The signature does not fit the body"
    AuthorizationError "authorization_error" "The project may not do this"
    InvalidRequest "invalid_request" "The request is malformed or names something unknown"
    InternalError "internal_error" "Something went wrong on our side"
    IdempotencyKeyAlreadyExists "idempotency_key_already_exists" "A request with this key was made before"
    SessionWrongState "session_wrong_state" "The session's state does not allow this"
    SessionCancelled "session_cancelled" "The session was cancelled"
    SessionCancelledByPartner "session_cancelled_by_partner" "The partner cancelled the session"
    ConfirmTimeout "confirm_timeout" "The session was not confirmed in time"
    CaptureTimeout "capture_timeout" "The session was not captured in time"
    OperationRejected "operation_rejected" "The operation was refused for security reasons"
    DeclinedByIssuerBank "declined_by_issuer_bank" "The issuing bank declined the operation"
    NotPermittedByIssuerBank "not_permitted_by_issuer_bank" "The issuing bank does not permit the operation"
    BankCardExpired "bank_card_expired" "The card has expired"
    CardNumberDoesNotExist "card_number_does_not_exist" "There is no such card"
    AccountNotFound "account_not_found" "There is no such account"
    ActivityCountExceeded "activity_count_exceeded" "The card has reached its limit of operations"
    AmountLessAllowedProvider "amount_less_allowed_provider" "The amount is below the provider's minimum"
    ProviderExceedsAmountLimit "provider_exceeds_amount_limit" "The amount is above the provider's limit"
    ProviderForeignTransferProhibited "provider_foreign_transfer_prohibited" "Foreign cards are not allowed"
    ProviderIssuerUnavailable "provider_issuer_unavailable" "The issuing bank cannot be reached"
    ProviderInternalError "provider_internal_error" "Something went wrong at the provider"
    ProviderTimeout "provider_timeout" "The provider has not answered in time"
    WalletInternalError "wallet_internal_error" "The balance operation failed"
    RoutingInternalError "routing_internal_error" "No route could be found for the operation"
    InsufficientWalletBalance "insufficient_wallet_balance" "The wallet does not cover the payout"
    InsufficientFunds "insufficient_funds" "The card does not cover the payment"
    RefundAmountTooLarge "refund_amount_too_large" "More would be refunded than was paid"
    ThreeDsError "3DS_error" "The cardholder was not authenticated"
    BindingIsDeactivated "binding_is_deactivated" "The binding was switched off"
    NpdServiceInternalError "npd_service_internal_error" "The tax service failed"
    // A code of tomorrow: clients are told to expect some.
    Undocumented "sandbox_undocumented_code" "A code that stands in no list"
}

impl Code {
    /// The code with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.name() == name)
    }

    /// The session itself was ended, not its payout declined.
    #[must_use]
    pub fn ends_the_session(self) -> bool {
        let cancelled = matches!(self, Self::SessionCancelled | Self::SessionCancelledByPartner);
        cancelled || matches!(self, Self::ConfirmTimeout | Self::CaptureTimeout)
    }

    /// The HTTP status of a call refused with this code, unless the settings say otherwise.
    fn usual_http_status(self) -> u16 {
        if matches!(self, Self::IdentificationError | Self::AuthenticationError) {
            401
        } else if self == Self::AuthorizationError {
            403
        } else if self == Self::InternalError {
            500
        } else {
            400
        }
    }
}

/// Which HTTP status goes with which code. Pike documents none, so all of them can be changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpStatuses {
    /// In place of every usual status.
    pub all: Option<u16>,
    /// In place of both.
    pub by_code: BTreeMap<Code, u16>,
}

impl HttpStatuses {
    #[must_use]
    pub fn of(&self, code: Code) -> u16 {
        let chosen = self.by_code.get(&code).copied().or(self.all);
        chosen.unwrap_or_else(|| code.usual_http_status())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_name_is_the_name_on_the_wire() {
        for code in Code::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.name());
            assert_eq!(Code::named(code.name()), Some(*code));
        }
        assert_eq!(Code::named("3ds_error"), None);
    }

    #[test]
    fn statuses_can_be_changed_one_by_one_and_all_at_once() {
        let mut statuses = HttpStatuses::default();
        let four = |s: &HttpStatuses| {
            [Code::AuthenticationError, Code::AuthorizationError, Code::InternalError, Code::ConfirmTimeout]
                .map(|code| s.of(code))
        };
        assert_eq!(four(&statuses), [401, 403, 500, 400]);
        statuses.all = Some(400);
        assert_eq!(four(&statuses), [400; 4]);
        statuses.by_code.insert(Code::AuthorizationError, 404);
        assert_eq!(four(&statuses), [400, 404, 400, 400]);
    }
}
