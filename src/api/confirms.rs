//! `/v1/confirms`: the switch for the confirms of the key's project. Off anywhere is off: a project cannot
//! switch itself on against the general switch.

use super::{
    ApiState,
    auth::Caller,
    body,
    codes::Code,
    payouts::within,
    problem::{FieldError, Problem},
    text::REASON,
};
use crate::{
    crash_point,
    domain::id::ProjectId,
    store::{
        retry,
        rules::{self, EVERYWHERE, Switch},
    },
};
use axum::{
    Json,
    body::Body,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    confirms: String,
    reason: String,
}

#[derive(Serialize)]
struct View<'a> {
    project: &'a str,
    /// Whether the project's payouts are confirmed: both switches are on.
    confirms: &'static str,
    switches: Switches,
}

#[derive(Serialize)]
struct Switches {
    everywhere: &'static str,
    project: &'static str,
}

pub(super) async fn get(State(state): State<ApiState>, caller: Caller) -> Result<Response, Problem> {
    show(&state, &caller.project).await
}

pub(super) async fn put(
    State(state): State<ApiState>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let (switch, reason) = check(body::json(&headers, body).await?)?;
    within(state.engine.set_confirms(&caller.project.0, switch, &caller.key_id, &reason)).await?;
    crash_point::pass_soon("switch.answered");
    show(&state, &caller.project).await
}

fn check(wire: Wire) -> Result<(Switch, String), Problem> {
    let mut errors: Vec<FieldError> = REASON.check("reason", &wire.reason).into_iter().collect();
    let switch = match wire.confirms.as_str() {
        "on" => Some(Switch::On),
        "off" => Some(Switch::Off),
        _ => {
            errors.push(FieldError::new("confirms", Code::UnknownValue, "It must be on or off."));
            None
        }
    };
    match switch {
        Some(switch) if errors.is_empty() => Ok((switch, wire.reason)),
        Some(_) | None => Err(Problem::of_fields(errors)),
    }
}

async fn show(state: &ApiState, project: &ProjectId) -> Result<Response, Problem> {
    let switches = retry::bounded(async {
        let mut db = state.pool.acquire().await?;
        rules::switches(&mut db).await
    })
    .await?;
    Ok(Json(view(&switches, project)).into_response())
}

fn view<'a>(switches: &BTreeMap<String, bool>, project: &'a ProjectId) -> View<'a> {
    let text = |on| if on { "on" } else { "off" };
    View {
        project: &project.0,
        confirms: text(rules::confirms_on(switches, project)),
        switches: Switches {
            everywhere: text(switches.get(EVERYWHERE).copied().unwrap_or(false)),
            project: text(switches.get(&project.0).copied().unwrap_or(true)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<(Switch, String), Problem> {
        check(body::parse(body.as_bytes())?)
    }

    #[test]
    fn the_switch_has_two_positions_and_wants_a_reason() {
        assert_eq!(parse(r#"{"confirms":"off","reason":"drill"}"#).unwrap(), (Switch::Off, "drill".into()));
        assert_eq!(parse(r#"{"confirms":"on","reason":"done"}"#).unwrap().0, Switch::On);
        for (body, code, field) in [
            (r#"{"confirms":"OFF","reason":"drill"}"#, Code::UnknownValue, "confirms"),
            (r#"{"confirms":true,"reason":"drill"}"#, Code::WrongType, "confirms"),
            (r#"{"confirms":"off"}"#, Code::MissingField, "reason"),
            (r#"{"confirms":"off","reason":""}"#, Code::InvalidLength, "reason"),
            (r#"{"confirms":"off","reason":"x","project":"other"}"#, Code::UnknownField, "project"),
        ] {
            let problem = parse(body).unwrap_err();
            assert_eq!((problem.code(), problem.named_field()), (code, Some(field)), "{body}");
        }
    }

    #[test]
    fn off_anywhere_is_off() {
        let shop = ProjectId("shop".into());
        for (everywhere, own, effective) in [
            (Some(true), None, "on"),
            (Some(true), Some(false), "off"),
            (Some(false), Some(true), "off"),
            (None, Some(true), "off"),
        ] {
            let rows = [(EVERYWHERE, everywhere), ("shop", own)];
            let switches = rows.into_iter().filter_map(|(scope, on)| Some((scope.to_owned(), on?))).collect();
            assert_eq!(view(&switches, &shop).confirms, effective, "{everywhere:?} {own:?}");
        }
    }
}
