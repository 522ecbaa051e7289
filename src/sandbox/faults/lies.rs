//! Bodies that do not say what is so: another session, amount or currency, fields and values that nobody has
//! documented. Works on the JSON of an answer or a webhook; a body without a session stays as it is.

use serde_json::{Map, Value, json};

/// What a body says wrongly, or beyond what is documented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    Session,
    Amount,
    Currency,
    UnknownFields,
    UnknownValues,
    /// Another type of webhook.
    Type(&'static str),
}

/// The body with the lie in it.
#[must_use]
pub fn tell(lie: Lie, body: &[u8]) -> Vec<u8> {
    let Ok(Value::Object(mut body_object)) = serde_json::from_slice(body) else { return body.to_vec() };
    match lie {
        Lie::Type(name) => {
            body_object.insert("type".to_owned(), name.into());
        }
        Lie::UnknownFields => add_fields(&mut body_object),
        Lie::Session | Lie::Amount | Lie::Currency | Lie::UnknownValues => {}
    }
    if let Some(Value::Object(session)) = body_object.get_mut("session") {
        bend_session(lie, session);
    }
    serde_json::to_vec(&body_object).unwrap_or_else(|_| body.to_vec())
}

fn bend_session(lie: Lie, session: &mut Map<String, Value>) {
    match lie {
        Lie::Session => {
            // Well-formed, and nobody's.
            session.insert("id".to_owned(), "ps_00000000000070008000000000000000".into());
        }
        Lie::UnknownValues => {
            session.insert("status".to_owned(), "under_review".into());
            session.insert("next_action".to_owned(), "verify_recipient".into());
        }
        Lie::UnknownFields => add_fields(session),
        Lie::Amount | Lie::Currency | Lie::Type(_) => {}
    }
    for list in ["payments", "payout_list"] {
        let payouts = session.get_mut(list).and_then(Value::as_array_mut);
        for payout in payouts.into_iter().flatten().filter_map(Value::as_object_mut) {
            bend_payout(lie, payout);
        }
    }
}

fn bend_payout(lie: Lie, payout: &mut Map<String, Value>) {
    match lie {
        Lie::UnknownValues => {
            payout.insert("status".to_owned(), "reviewing".into());
        }
        Lie::UnknownFields => add_fields(payout),
        Lie::Session | Lie::Amount | Lie::Currency | Lie::Type(_) => {}
    }
    let Some(Value::Object(amount)) = payout.get_mut("amount_details") else { return };
    match lie {
        Lie::Amount => {
            let right = amount.get("amount").and_then(Value::as_i64).unwrap_or(0);
            amount.insert("amount".to_owned(), right.checked_mul(10).unwrap_or(right / 10).into());
        }
        Lie::Currency => {
            let usd =
                amount.get("currency").and_then(Value::as_str).is_some_and(|c| c.eq_ignore_ascii_case("usd"));
            amount.insert("currency".to_owned(), if usd { "eur" } else { "usd" }.into());
        }
        Lie::Session | Lie::UnknownFields | Lie::UnknownValues | Lie::Type(_) => {}
    }
}

fn add_fields(object: &mut Map<String, Value>) {
    object.insert("sandbox_new_field".to_owned(), json!({ "since": "v3", "values": [1, null, "é"] }));
    object.insert("risk_score".to_owned(), json!(0.25));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_lie_changes_its_own_part_in_both_versions() {
        for list in ["payments", "payout_list"] {
            let body = json!({ "type": "payment_finished", "session": { "id": "ps_1", "status": "accepted",
                list: [{ "status": "succeeded", "amount_details": { "amount": 5, "currency": "rub" } }] } });
            let told = |lie| -> Value {
                serde_json::from_slice(&tell(lie, &serde_json::to_vec(&body).unwrap())).unwrap()
            };
            assert_ne!(told(Lie::Session)["session"]["id"], "ps_1");
            let payout = |lie| told(lie)["session"][list][0].clone();
            assert_eq!(payout(Lie::Amount)["amount_details"], json!({ "amount": 50, "currency": "rub" }));
            assert_eq!(payout(Lie::Currency)["amount_details"], json!({ "amount": 5, "currency": "usd" }));
            assert_eq!(told(Lie::UnknownValues)["session"]["status"], "under_review");
            assert_eq!(told(Lie::Type("action_required"))["type"], "action_required");
            let richer = told(Lie::UnknownFields);
            assert!(richer["session"][list][0]["risk_score"].is_number() && richer["risk_score"].is_number());
            assert_eq!(richer["session"]["status"], "accepted");
        }
        assert_eq!(tell(Lie::Session, b"<html>"), b"<html>");
    }
}
