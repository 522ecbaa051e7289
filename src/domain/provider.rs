//! What Pike has told us about a payout: identifiers, the masked card, bank references, errors and their
//! meaning. Facts accumulate; a later report that leaves something out erases nothing.

/// An error as Pike reports it. Codes are an open set and may change without notice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProviderError {
    pub code: String,
    pub description: String,
}

/// The masked destination card. Every field is optional and every value an open set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CardFacts {
    pub brand: Option<String>,
    pub last4: Option<String>,
    pub bin: Option<String>,
    pub card_id: Option<String>,
    /// ISO 3166 alpha-3.
    pub country: Option<String>,
}

/// Everything recorded about a payout from Pike's answers and webhooks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProviderFacts {
    /// Pike's id of the payout (`po_…`).
    pub payout_id: Option<String>,
    pub card: CardFacts,
    pub rrn: Option<String>,
    pub auth_code: Option<String>,
    /// Fee in minor units of `fee_currency`.
    pub fee_minor: Option<i64>,
    pub fee_currency: Option<String>,
    pub error: Option<ProviderError>,
}

impl ProviderFacts {
    /// These facts, updated with whatever `newer` states.
    #[must_use]
    pub fn updated_with(&self, newer: &Self) -> Self {
        let pick = |new: &Option<String>, old: &Option<String>| new.clone().or_else(|| old.clone());
        Self {
            payout_id: pick(&newer.payout_id, &self.payout_id),
            card: CardFacts {
                brand: pick(&newer.card.brand, &self.card.brand),
                last4: pick(&newer.card.last4, &self.card.last4),
                bin: pick(&newer.card.bin, &self.card.bin),
                card_id: pick(&newer.card.card_id, &self.card.card_id),
                country: pick(&newer.card.country, &self.card.country),
            },
            rrn: pick(&newer.rrn, &self.rrn),
            auth_code: pick(&newer.auth_code, &self.auth_code),
            fee_minor: newer.fee_minor.or(self.fee_minor),
            fee_currency: pick(&newer.fee_currency, &self.fee_currency),
            error: newer.error.clone().or_else(|| self.error.clone()),
        }
    }
}

/// What an error code means to the people involved, in our words. `None` for codes we have not met.
#[must_use]
pub fn meaning(code: &str) -> Option<&'static str> {
    Some(match code {
        "declined_by_issuer_bank" => "The recipient's bank declined the payout.",
        "not_permitted_by_issuer_bank" => "The recipient's bank does not permit payouts to this card.",
        "operation_rejected" => "Pike refused the payout for security reasons.",
        "bank_card_expired" => "The recipient's card has expired.",
        "card_number_does_not_exist" => "The card number does not exist.",
        "account_not_found" => "The recipient's account was not found.",
        "activity_count_exceeded" => "The card has reached its limit of operations; it may work later.",
        "amount_less_allowed_provider" => "The amount is below the provider's minimum.",
        "provider_exceeds_amount_limit" => "The amount is above the provider's limit.",
        "provider_foreign_transfer_prohibited" => "Payouts to foreign cards are not allowed.",
        "provider_issuer_unavailable" => "The recipient's bank could not be reached; it may work later.",
        "provider_internal_error" => "The payment network reported an internal error.",
        "provider_timeout" => "The payment network did not answer in time.",
        "wallet_internal_error" => "Pike could not charge the prefunded balance.",
        "routing_internal_error" => "Pike could not route the payout.",
        "insufficient_wallet_balance" => "The prefunded balance at Pike is too low; top it up.",
        "confirm_timeout" => "Pike cancelled the payout because it was not confirmed in time.",
        "session_cancelled" => "Pike cancelled the session.",
        "session_cancelled_by_partner" => "We cancelled the session.",
        "start_unresolved" => "Pike never showed a started payout; the session was closed unpaid.",
        _ => return None,
    })
}

/// Codes with which Pike refuses `session/start/payout` for good: the card or the amount will not do, and
/// repeating the same request cannot help. Any code that is not on this list is *unknown*, never *declined*.
#[must_use]
pub fn is_final_start_refusal(code: &str) -> bool {
    matches!(
        code,
        "operation_rejected"
            | "declined_by_issuer_bank"
            | "not_permitted_by_issuer_bank"
            | "bank_card_expired"
            | "card_number_does_not_exist"
            | "account_not_found"
            | "amount_less_allowed_provider"
            | "provider_exceeds_amount_limit"
            | "provider_foreign_transfer_prohibited"
            | "insufficient_wallet_balance"
    )
}

/// Codes with which Pike says, asked for a session's status, that it has no such session: the request itself
/// is always the same.
#[must_use]
pub fn denies_session(code: &str) -> bool {
    matches!(code, "invalid_request" | "session_not_found")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_erases_nothing() {
        let old = ProviderFacts { rrn: Some("1".into()), fee_minor: Some(5), ..ProviderFacts::default() };
        let newer = ProviderFacts { auth_code: Some("2".into()), ..ProviderFacts::default() };
        let both = old.updated_with(&newer);
        assert_eq!(
            (both.rrn.as_deref(), both.auth_code.as_deref(), both.fee_minor),
            (Some("1"), Some("2"), Some(5))
        );
    }

    #[test]
    fn every_code_that_pike_documents_has_words_of_its_own() {
        let codes = [
            "declined_by_issuer_bank",
            "not_permitted_by_issuer_bank",
            "operation_rejected",
            "bank_card_expired",
            "card_number_does_not_exist",
            "account_not_found",
            "activity_count_exceeded",
            "amount_less_allowed_provider",
            "provider_exceeds_amount_limit",
            "provider_foreign_transfer_prohibited",
            "provider_issuer_unavailable",
            "provider_internal_error",
            "provider_timeout",
            "wallet_internal_error",
            "routing_internal_error",
            "insufficient_wallet_balance",
            "confirm_timeout",
            "session_cancelled",
            "session_cancelled_by_partner",
            "start_unresolved",
        ];
        let words: std::collections::BTreeSet<_> = codes.iter().filter_map(|code| meaning(code)).collect();
        assert_eq!(words.len(), codes.len());
        assert!(words.iter().all(|words| words.ends_with('.')) && meaning("something_new").is_none());
        // Refusals of a start that nobody needs to doubt.
        let final_ones = codes.iter().filter(|code| is_final_start_refusal(code)).count();
        assert_eq!(final_ones, 10);
    }

    #[test]
    fn ambiguous_codes_are_never_final_refusals() {
        for code in [
            "internal_error",
            "provider_timeout",
            "session_wrong_state",
            "idempotency_key_already_exists",
            "invalid_request",
            "authentication_error",
            "something_new",
            "",
        ] {
            assert!(!is_final_start_refusal(code), "{code}");
        }
    }
}
