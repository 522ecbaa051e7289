//! `GET /v1/payouts/{payout}/history`: everything that happened to a payout, in order, with what the rules
//! said and what they looked at beside the entry that came of it.

use super::{ApiState, auth::Caller, payouts::Named, problem::Problem, view::instant};
use crate::{
    domain::id::PayoutId,
    store::{
        StoreError,
        history::{self, Told},
        payouts, retry,
        rules::{self, Recorded},
    },
};
use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// The most entries in one answer. A payout has a dozen; one that Pike repeats itself about has hundreds.
pub const MOST_ENTRIES: usize = 1000;

#[derive(Serialize)]
struct Story<'a> {
    data: Vec<Entry<'a>>,
    /// There is more than fits an answer.
    truncated: bool,
}

#[derive(Serialize)]
struct Entry<'a> {
    seq: i64,
    at: String,
    event: &'a str,
    decision: &'a str,
    reason: &'a str,
    from_state: Option<&'a str>,
    to_state: &'a str,
    actor: Option<&'a str>,
    detail: Option<&'a str>,
    rules: Option<Verdict<'a>>,
}

#[derive(Serialize)]
struct Verdict<'a> {
    rule_set: &'a str,
    outcome: &'a str,
    hits: &'a RawValue,
    inputs: &'a RawValue,
}

pub(super) async fn history(
    State(state): State<ApiState>,
    caller: Caller,
    Named(id): Named,
) -> Result<Response, Problem> {
    let (told, verdicts) = retry::bounded(async {
        let mut db = state.pool.acquire().await?;
        payouts::get(&mut db, &caller.project, id).await?.ok_or_else(Problem::no_such_payout)?;
        let told = history::of(&mut db, id, super::problem::shown(MOST_ENTRIES + 1)).await?;
        // Read after the entries: whatever was decided in between belongs to none of them.
        let verdicts = rules::decisions_of(&mut db, id).await?;
        Ok::<_, Problem>((told, verdicts))
    })
    .await?;
    Ok(Json(story(id, &told, &verdicts)?).into_response())
}

fn story<'a>(id: PayoutId, told: &'a [Told], verdicts: &'a [Recorded]) -> Result<Story<'a>, Problem> {
    let mut verdicts: BTreeMap<i64, &Recorded> =
        verdicts.iter().map(|verdict| (verdict.seq, verdict)).collect();
    let data = told.iter().take(MOST_ENTRIES);
    let data = data.map(|told| entry(id, told, verdicts.remove(&told.seq))).collect::<Result<_, _>>()?;
    Ok(Story { data, truncated: told.len() > MOST_ENTRIES })
}

fn entry<'a>(id: PayoutId, told: &'a Told, verdict: Option<&'a Recorded>) -> Result<Entry<'a>, Problem> {
    let Told { seq, at, event, decision, reason, from_state, to_state, actor, detail } = told;
    Ok(Entry {
        seq: *seq,
        at: instant(*at),
        event,
        decision,
        reason,
        from_state: from_state.as_deref(),
        to_state,
        actor: actor.as_deref(),
        detail: detail.as_deref(),
        rules: verdict.map(|recorded| of_rules(id, recorded)).transpose()?,
    })
}

fn of_rules(id: PayoutId, recorded: &Recorded) -> Result<Verdict<'_>, StoreError> {
    let Recorded { seq: _, at: _, rule_set, outcome, hits, inputs } = recorded;
    let bad = |column| StoreError::ImpossibleRow { table: "decisions", column, id: id.to_string() };
    Ok(Verdict {
        rule_set,
        outcome,
        hits: serde_json::from_str(hits).map_err(|_| bad("hits"))?,
        inputs: serde_json::from_str(inputs).map_err(|_| bad("inputs"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::OffsetDateTime;
    use uuid::Uuid;

    const ID: PayoutId = PayoutId(Uuid::nil());

    fn told(seq: i64) -> Told {
        Told {
            seq,
            at: OffsetDateTime::UNIX_EPOCH,
            event: "webhook".into(),
            decision: "move".into(),
            reason: "rules_confirm".into(),
            from_state: Some("processing".into()),
            to_state: "confirming".into(),
            actor: None,
            detail: None,
        }
    }

    fn recorded(seq: i64, hits: &str) -> Recorded {
        Recorded {
            seq,
            at: OffsetDateTime::UNIX_EPOCH,
            rule_set: "2025-06-01#ab".into(),
            outcome: "confirm".into(),
            hits: hits.into(),
            inputs: r#"{"approved":false}"#.into(),
        }
    }

    #[test]
    fn a_verdict_stands_beside_its_entry() {
        let (told, verdicts) = ([told(1), told(2)], [recorded(2, "[]"), recorded(3, "[]")]);
        let json = serde_json::to_value(story(ID, &told, &verdicts).map_err(|_| ()).unwrap()).unwrap();
        assert!(json["data"][0]["rules"].is_null());
        assert_eq!(
            json["data"][1],
            serde_json::json!({
                "seq": 2, "at": "1970-01-01T00:00:00Z", "event": "webhook", "decision": "move",
                "reason": "rules_confirm", "from_state": "processing", "to_state": "confirming",
                "actor": null, "detail": null,
                "rules": {
                    "rule_set": "2025-06-01#ab", "outcome": "confirm", "hits": [],
                    "inputs": { "approved": false },
                },
            })
        );
        assert_eq!(json["truncated"], false);
    }

    #[test]
    fn a_story_ends_at_its_limit() {
        for (entries, truncated) in [(MOST_ENTRIES, false), (MOST_ENTRIES + 1, true)] {
            let told = vec![told(1); entries];
            let story = story(ID, &told, &[]).map_err(|_| ()).unwrap();
            assert_eq!((story.data.len(), story.truncated), (MOST_ENTRIES, truncated));
        }
    }

    #[test]
    fn a_verdict_that_is_not_json_is_our_mistake() {
        let (told, verdicts) = ([told(1)], [recorded(1, "[")]);
        assert!(story(ID, &told, &verdicts).is_err_and(|p| p.code() == crate::api::Code::InternalError));
    }
}
