//! `GET /v1/payouts`: the newest first, filtered, a page at a time. A cursor names the last payout of a
//! page, so that pages neither skip nor repeat when new payouts arrive in between.

use super::{ApiState, auth::Caller, codes::Code, problem::Problem, text::REFERENCE, view::PayoutView};
use crate::{
    domain::{
        id::{PayoutId, ProjectId},
        state::Status,
    },
    store::{
        encoding::Code as _,
        payouts::{self, Filter},
        retry,
    },
};
use axum::{
    Json,
    extract::{Query, State},
    http::Uri,
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Serialize;
use std::collections::BTreeSet;
use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};
use uuid::Uuid;

/// Payouts on a page when nothing is said.
pub const DEFAULT_LIMIT: usize = 50;
/// The most payouts on a page: a few hundred kilobytes of answer.
pub const MOST_LIMIT: usize = 200;
/// First byte of a cursor, for a form to come.
const CURSOR_VERSION: u8 = 1;

#[derive(Serialize)]
struct Page<'a> {
    data: Vec<PayoutView<'a>>,
    next_cursor: Option<String>,
}

pub(super) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    uri: Uri,
) -> Result<Response, Problem> {
    let wanted = Wanted::parse(&uri, caller.project)?;
    let mut found = retry::bounded(async {
        let mut db = state.pool.acquire().await?;
        payouts::list(&mut db, &wanted.filter).await
    })
    .await?;
    let more = found.len() > wanted.limit;
    found.truncate(wanted.limit);
    let next_cursor = found.last().filter(|_| more).map(|last| cursor(last.payout.id));
    let data = found.iter().map(PayoutView::of).collect::<Result<_, _>>()?;
    Ok(Json(Page { data, next_cursor }).into_response())
}

/// What a query asks for. The filter's own limit is one higher, to see whether there is another page.
#[derive(Debug)]
struct Wanted {
    filter: Filter,
    limit: usize,
}

impl Wanted {
    fn parse(uri: &Uri, project: ProjectId) -> Result<Self, Problem> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|_| Problem::new(Code::InvalidParameter, "The query cannot be read."))?;
        let mut wanted = Self::everything(project);
        let mut seen = BTreeSet::new();
        for (name, value) in &pairs {
            wanted.take(name, value)?;
            if !seen.insert(name) {
                let detail = "Each parameter may occur once; several statuses are separated by commas.";
                return Err(Problem::new(Code::DuplicateParameter, detail).field(name.clone()));
            }
        }
        wanted.filter.limit = super::problem::shown(wanted.limit + 1);
        Ok(wanted)
    }

    fn everything(project: ProjectId) -> Self {
        let filter = Filter {
            project,
            statuses: vec![],
            reference: None,
            created_from: None,
            created_before: None,
            before: None,
            limit: 0,
        };
        Self { filter, limit: DEFAULT_LIMIT }
    }

    fn take(&mut self, name: &str, value: &str) -> Result<(), Problem> {
        match name {
            "status" => self.filter.statuses = statuses(value)?,
            "reference" => self.filter.reference = Some(reference(value)?),
            "created_from" => self.filter.created_from = Some(time("created_from", value)?),
            "created_before" => self.filter.created_before = Some(time("created_before", value)?),
            "limit" => self.limit = limit(value)?,
            "cursor" => self.filter.before = Some(after_cursor(value)?),
            "project" if value == self.filter.project.0 => {}
            "project" => {
                let detail = "The key's own project is the only one it can see.";
                return Err(Problem::new(Code::UnknownProject, detail).field("project"));
            }
            other => {
                let detail = "The parameters are status, reference, created_from, created_before, project, \
                              limit and cursor.";
                return Err(
                    Problem::new(Code::UnknownParameter, detail).field(super::body::shown_name(other))
                );
            }
        }
        Ok(())
    }
}

fn invalid(field: &str, detail: String) -> Problem {
    Problem::new(Code::InvalidParameter, detail).field(field)
}

fn statuses(value: &str) -> Result<Vec<Status>, Problem> {
    value.split(',').map(Status::from_code).collect::<Option<_>>().ok_or_else(|| {
        let known: Vec<&str> = Status::ALL.iter().map(|status| status.code()).collect();
        invalid("status", format!("It must be one or more of {}, separated by commas.", known.join(", ")))
    })
}

fn reference(value: &str) -> Result<String, Problem> {
    match REFERENCE.check("reference", value) {
        None => Ok(value.to_owned()),
        Some(error) if error.code == Code::RawCardRefused => Err(Problem::of_fields(vec![error])),
        Some(error) => Err(invalid("reference", error.detail.into_owned())),
    }
}

fn time(field: &str, value: &str) -> Result<OffsetDateTime, Problem> {
    OffsetDateTime::parse(value, &Rfc3339)
        .ok()
        .and_then(|at| at.checked_to_offset(UtcOffset::UTC))
        .ok_or_else(|| {
            let detail = "It must be an RFC 3339 time such as 2025-06-01T00:00:00Z (a + is written %2B).";
            invalid(field, detail.to_owned())
        })
}

fn limit(value: &str) -> Result<usize, Problem> {
    let number = value.bytes().all(|b| b.is_ascii_digit()).then(|| value.parse().ok()).flatten();
    number.filter(|limit| (1..=MOST_LIMIT).contains(limit)).ok_or_else(|| {
        invalid("limit", format!("It must be 1 to {MOST_LIMIT}.")).limit(super::problem::shown(MOST_LIMIT))
    })
}

fn cursor(last: PayoutId) -> String {
    let mut bytes = vec![CURSOR_VERSION];
    bytes.extend(last.0.as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

fn after_cursor(value: &str) -> Result<PayoutId, Problem> {
    let bytes = URL_SAFE_NO_PAD.decode(value).ok();
    match bytes.as_deref() {
        Some([CURSOR_VERSION, id @ ..]) => Uuid::from_slice(id).ok().map(PayoutId),
        Some([..]) | None => None,
    }
    .ok_or_else(|| invalid("cursor", "It must be the `next_cursor` of an earlier answer.".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> Result<Wanted, Problem> {
        let uri = format!("/v1/payouts?{query}").parse().unwrap();
        Wanted::parse(&uri, ProjectId("shop".into()))
    }

    #[test]
    fn cursors_come_back() {
        for id in [0, 7, u128::MAX].map(|id| PayoutId(Uuid::from_u128(id))) {
            assert_eq!(after_cursor(&cursor(id)).unwrap(), id);
        }
        let other_version = URL_SAFE_NO_PAD.encode([2; 17]);
        let short = URL_SAFE_NO_PAD.encode([CURSOR_VERSION; 16]);
        for bad in ["", "AQ", "?", &other_version, &short, &format!("{}A", cursor(PayoutId(Uuid::nil())))] {
            assert_eq!(after_cursor(bad).unwrap_err().code(), Code::InvalidParameter, "{bad}");
        }
    }

    #[test]
    fn everything_can_be_asked_for_at_once() {
        let id = PayoutId(Uuid::from_u128(7));
        let wanted = parse(&format!(
            "status=accepted,on_hold&reference=a%2Fb&created_from=2025-06-01T03:00:00%2B03:00\
             &created_before=2025-06-02T00:00:00Z&project=shop&limit=200&cursor={}",
            cursor(id)
        ))
        .unwrap();
        let filter = wanted.filter;
        assert_eq!(filter.statuses, [Status::Accepted, Status::OnHold]);
        assert_eq!(filter.reference.as_deref(), Some("a/b"));
        assert_eq!(filter.created_from, Some(time::macros::datetime!(2025-06-01 00:00 UTC)));
        assert_eq!(filter.created_before, Some(time::macros::datetime!(2025-06-02 00:00 UTC)));
        assert_eq!((wanted.limit, filter.limit, filter.before), (200, 201, Some(id)));
    }

    #[test]
    fn nothing_asked_is_the_newest_page() {
        let wanted = parse("").unwrap();
        assert_eq!((wanted.limit, wanted.filter.limit), (DEFAULT_LIMIT, 51));
        assert!(wanted.filter.statuses.is_empty() && wanted.filter.before.is_none());
    }

    #[test]
    fn wrong_parameters_are_named() {
        for (query, code, field) in [
            ("status=", Code::InvalidParameter, "status"),
            ("status=paid", Code::InvalidParameter, "status"),
            ("status=accepted,,failed", Code::InvalidParameter, "status"),
            ("reference=", Code::InvalidParameter, "reference"),
            ("reference=a%00b", Code::InvalidParameter, "reference"),
            ("reference=4111111111111111", Code::RawCardRefused, "reference"),
            ("created_from=yesterday", Code::InvalidParameter, "created_from"),
            ("created_from=2025-06-01T03:00:00+03:00", Code::InvalidParameter, "created_from"),
            ("created_before=2025-06-01", Code::InvalidParameter, "created_before"),
            ("limit=0", Code::InvalidParameter, "limit"),
            ("limit=201", Code::InvalidParameter, "limit"),
            ("limit=-1", Code::InvalidParameter, "limit"),
            ("limit=%2B1", Code::InvalidParameter, "limit"),
            ("limit=99999999999999999999", Code::InvalidParameter, "limit"),
            ("cursor=x", Code::InvalidParameter, "cursor"),
            ("project=other", Code::UnknownProject, "project"),
            ("tenant=shop", Code::UnknownParameter, "tenant"),
            ("limit=1&limit=1", Code::DuplicateParameter, "limit"),
        ] {
            let problem = parse(query).unwrap_err();
            assert_eq!((problem.code(), problem.named_field()), (code, Some(field)), "{query}");
        }
    }
}
