//! Pike's error codes: their names, what the sandbox says about them, and the HTTP status of a refused call.
//! The list is open on Pike's side; here are those the sandbox can produce.

use serde::{Deserialize, Serialize};

/// An error of a call or of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    IdentificationError,
    AuthenticationError,
    AuthorizationError,
    InvalidRequest,
    InternalError,
    IdempotencyKeyAlreadyExists,
    SessionWrongState,
    SessionCancelledByPartner,
    ConfirmTimeout,
    OperationRejected,
    DeclinedByIssuerBank,
    BankCardExpired,
    CardNumberDoesNotExist,
    ProviderTimeout,
    InsufficientWalletBalance,
}

impl Code {
    /// The name on the wire, in the ledger and in the state file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::IdentificationError => "identification_error",
            Self::AuthenticationError => "authentication_error",
            Self::AuthorizationError => "authorization_error",
            Self::InvalidRequest => "invalid_request",
            Self::InternalError => "internal_error",
            Self::IdempotencyKeyAlreadyExists => "idempotency_key_already_exists",
            Self::SessionWrongState => "session_wrong_state",
            Self::SessionCancelledByPartner => "session_cancelled_by_partner",
            Self::ConfirmTimeout => "confirm_timeout",
            Self::OperationRejected => "operation_rejected",
            Self::DeclinedByIssuerBank => "declined_by_issuer_bank",
            Self::BankCardExpired => "bank_card_expired",
            Self::CardNumberDoesNotExist => "card_number_does_not_exist",
            Self::ProviderTimeout => "provider_timeout",
            Self::InsufficientWalletBalance => "insufficient_wallet_balance",
        }
    }

    /// The text that goes with the code; callers must not match on it.
    #[must_use]
    pub fn description(self) -> &'static str {
        match self {
            Self::IdentificationError => "No project with this identifier",
            Self::AuthenticationError => "The signature does not fit the body",
            Self::AuthorizationError => "The project may not do this",
            Self::InvalidRequest => "The request is malformed or names something unknown",
            Self::InternalError => "Something went wrong on our side",
            Self::IdempotencyKeyAlreadyExists => "A request with this key is under way or done",
            Self::SessionWrongState => "The session's state does not allow this",
            Self::SessionCancelledByPartner => "The partner cancelled the session",
            Self::ConfirmTimeout => "The session was not confirmed in time",
            Self::OperationRejected => "The operation was refused for security reasons",
            Self::DeclinedByIssuerBank => "The issuing bank declined the operation",
            Self::BankCardExpired => "The card has expired",
            Self::CardNumberDoesNotExist => "There is no such card",
            Self::ProviderTimeout => "The provider has not answered in time",
            Self::InsufficientWalletBalance => "The wallet does not cover the payout",
        }
    }

    /// The HTTP status of a call refused with this code.
    #[must_use]
    pub fn http_status(self) -> u16 {
        match self {
            Self::IdentificationError | Self::AuthenticationError => 401,
            Self::AuthorizationError => 403,
            Self::InternalError => 500,
            Self::InvalidRequest
            | Self::IdempotencyKeyAlreadyExists
            | Self::SessionWrongState
            | Self::SessionCancelledByPartner
            | Self::ConfirmTimeout
            | Self::OperationRejected
            | Self::DeclinedByIssuerBank
            | Self::BankCardExpired
            | Self::CardNumberDoesNotExist
            | Self::ProviderTimeout
            | Self::InsufficientWalletBalance => 400,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_name_is_the_name_on_the_wire() {
        for code in [Code::InvalidRequest, Code::IdempotencyKeyAlreadyExists, Code::ConfirmTimeout] {
            assert_eq!(serde_json::to_value(code).unwrap(), code.name());
        }
    }
}
