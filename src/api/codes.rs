//! The stable codes of problems, with the HTTP status and the title that belong to each.

use axum::http::StatusCode;

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $variant:ident => $code:literal, $status:ident, $title:literal;)+) => {
        /// What went wrong. A code is never renamed or given another meaning, only added.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[doc = $doc])+ $variant),+ }

        impl Code {
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            #[must_use]
            pub fn text(self) -> &'static str {
                match self { $(Self::$variant => $code),+ }
            }

            #[must_use]
            pub fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status),+ }
            }

            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Self::$variant => $title),+ }
            }
        }
    };
}

codes! {
    /// No API key, or none that is good. Always the same answer, whatever was wrong with it.
    Unauthenticated => "unauthenticated", UNAUTHORIZED, "A valid API key is needed";
    /// The key is good but lacks the scope that the route asks for (`required_scope`).
    MissingScope => "missing_scope", FORBIDDEN, "The API key lacks a scope";
    /// The key that created a payout may not approve it, nor may another one of its owner's.
    OwnPayout => "own_payout", FORBIDDEN, "Somebody else must approve";
    /// Whether creator and approver are two people is not known, and here it must be.
    OwnerUnknown => "owner_unknown", FORBIDDEN, "The API key has no owner";
    /// There is nothing at this path.
    NoSuchRoute => "no_such_route", NOT_FOUND, "No such route";
    /// There is something at this path, but not for this method; `Allow` lists the methods.
    MethodNotAllowed => "method_not_allowed", METHOD_NOT_ALLOWED, "Method not allowed";
    /// No payout of the key's project has this id.
    NoSuchPayout => "no_such_payout", NOT_FOUND, "No such payout";
    /// The project is not the key's.
    UnknownProject => "unknown_project", NOT_FOUND, "Unknown project";
    /// The body is not plain `application/json`.
    UnsupportedMediaType => "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, "The body must be JSON";
    /// The body is larger than `limit` bytes.
    BodyTooLarge => "body_too_large", PAYLOAD_TOO_LARGE, "The body is too large";
    /// The body did not arrive in time.
    BodyTooSlow => "body_too_slow", REQUEST_TIMEOUT, "The body came too slowly";
    /// The body ended before it was complete.
    BodyBroken => "body_broken", BAD_REQUEST, "The body broke off";
    /// The body is not JSON; `detail` has line and column.
    MalformedJson => "malformed_json", BAD_REQUEST, "The body is not valid JSON";
    /// The request needs exactly one `Idempotency-Key` header.
    IdempotencyKeyMissing => "idempotency_key_missing", BAD_REQUEST, "An Idempotency-Key is needed";
    /// The idempotency key is empty, too long, has characters that are not allowed, or came several times.
    IdempotencyKeyInvalid => "idempotency_key_invalid", BAD_REQUEST, "The Idempotency-Key is not usable";
    /// The key was used for a different request; `payout` is what came of that one.
    IdempotencyKeyReused => "idempotency_key_reused", UNPROCESSABLE_ENTITY,
        "The Idempotency-Key was used before";
    /// Another payout of the project has this reference (`payout`).
    ReferenceTaken => "reference_taken", CONFLICT, "The reference is taken";
    /// A field that must be there is not.
    MissingField => "missing_field", UNPROCESSABLE_ENTITY, "A field is missing";
    /// A field that this API does not know.
    UnknownField => "unknown_field", UNPROCESSABLE_ENTITY, "A field is unknown";
    /// A field occurs twice in one object.
    DuplicateField => "duplicate_field", UNPROCESSABLE_ENTITY, "A field occurs twice";
    /// A value of another type than the field's.
    WrongType => "wrong_type", UNPROCESSABLE_ENTITY, "A value has the wrong type";
    /// The amount is not between 1 and `limit` minor units.
    AmountOutOfRange => "amount_out_of_range", UNPROCESSABLE_ENTITY, "The amount is out of range";
    /// Not an ISO 4217 currency that can be paid out.
    UnknownCurrency => "unknown_currency", UNPROCESSABLE_ENTITY, "The currency is unknown";
    /// Not one of the destination types.
    UnknownDestinationType => "unknown_destination_type", UNPROCESSABLE_ENTITY,
        "The destination type is unknown";
    /// The value is not one of the few that are allowed.
    UnknownValue => "unknown_value", UNPROCESSABLE_ENTITY, "The value is not one of those allowed";
    /// A text has characters that are not allowed in it.
    InvalidText => "invalid_text", UNPROCESSABLE_ENTITY, "A text has characters that are not allowed";
    /// A text is empty or longer than `limit` characters.
    InvalidLength => "invalid_length", UNPROCESSABLE_ENTITY, "A text is too short or too long";
    /// An object has more than `limit` entries.
    TooManyEntries => "too_many_entries", UNPROCESSABLE_ENTITY, "An object has too many entries";
    /// A card number in the clear. Nothing of it was kept.
    RawCardRefused => "raw_card_refused", UNPROCESSABLE_ENTITY, "Card numbers are not accepted";
    /// A query parameter that this route does not know.
    UnknownParameter => "unknown_parameter", BAD_REQUEST, "A query parameter is unknown";
    /// A query parameter occurs twice.
    DuplicateParameter => "duplicate_parameter", BAD_REQUEST, "A query parameter occurs twice";
    /// A query parameter's value cannot be used.
    InvalidParameter => "invalid_parameter", BAD_REQUEST, "A query parameter is not usable";
    /// Too late to cancel: the confirm was permitted and the money may be moving.
    AlreadyConfirmed => "already_confirmed", CONFLICT, "The payout is confirmed already";
    /// The payout has its final status.
    AlreadyFinal => "already_final", CONFLICT, "The payout is final";
    /// Pike itself does not know the outcome yet.
    OutcomeUnknown => "outcome_unknown", CONFLICT, "The outcome is unknown";
    /// The payout does not wait for anybody's word.
    NotOnHold => "not_on_hold", CONFLICT, "The payout is not on hold";
    /// Confirms are switched off.
    ConfirmsOff => "confirms_off", CONFLICT, "Confirms are switched off";
    /// The payout contradicts what is known about it; a person has to look first.
    Flagged => "flagged", CONFLICT, "The payout is flagged";
    /// There is no flag that could be taken off.
    NotFlagged => "not_flagged", CONFLICT, "The payout is not flagged";
    /// The rules forbid the payout, approval or not (`reasons`).
    RulesForbid => "rules_forbid", CONFLICT, "The rules forbid the payout";
    /// Nothing is wrong with the request; try again after `Retry-After`.
    TemporarilyUnavailable => "temporarily_unavailable", SERVICE_UNAVAILABLE, "Temporarily unavailable";
    /// payoutd compares its records with Pike's and takes no orders meanwhile; nothing was done.
    ReconcileOnly => "reconcile_only", SERVICE_UNAVAILABLE, "Only reconciling";
    /// A mistake of ours; trying again will not help before it is mended.
    InternalError => "internal_error", INTERNAL_SERVER_ERROR, "Internal error";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_lists_every_code() {
        let documentation = include_str!("../../docs/api.md");
        for code in Code::ALL {
            assert!(documentation.contains(&format!("`{}`", code.text())), "{}", code.text());
        }
    }

    use std::collections::BTreeSet;

    #[test]
    fn every_code_is_one_of_a_kind_and_an_error() {
        let texts: BTreeSet<&str> = Code::ALL.iter().map(|code| code.text()).collect();
        assert_eq!(texts.len(), Code::ALL.len());
        for code in Code::ALL {
            assert!(code.text().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{code:?}");
            assert!(code.status().is_client_error() || code.status().is_server_error(), "{code:?}");
            assert!(!code.title().is_empty(), "{code:?}");
        }
    }
}
