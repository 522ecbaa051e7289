//! The tables `reports` and `report_lines`: Pike's daily reports, as read. Of a day there is one; what is
//! read later takes its place. The questions about them are in `checks`.

use super::{StoreError, encoding::Code};
use crate::domain::{checking::Check, id::ProjectId, report::Line};
use sqlx::PgConnection;
use time::{Date, OffsetDateTime};
use uuid::Uuid;

/// A report about to be kept.
#[derive(Clone, Debug)]
pub struct NewReport {
    pub project: ProjectId,
    pub day: Date,
    /// Of the files' bytes: the same ones again are the same report.
    pub content_hash: Vec<u8>,
    pub lines: i64,
    pub unreadable: i64,
}

/// Waits for whoever else keeps a report, until the end of the transaction: each must see the others' lines.
///
/// # Errors
/// Database errors only.
pub async fn lock(tx: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query("LOCK TABLE reports IN SHARE ROW EXCLUSIVE MODE").execute(&mut *tx).await?;
    // A report can have a few hundred thousand lines, and a person waits for it, not a payout.
    sqlx::query("SET LOCAL statement_timeout = '5min'").execute(tx).await?;
    Ok(())
}

/// The report of these very bytes, if it is what we have for its day.
///
/// # Errors
/// Database errors only.
pub async fn known(db: &mut PgConnection, new: &NewReport) -> Result<Option<i64>, StoreError> {
    Ok(sqlx::query_scalar(
        "SELECT id FROM reports WHERE complete AND project_id = $1 AND day = $2 AND content_hash = $3",
    )
    .bind(&new.project.0)
    .bind(new.day)
    .bind(&new.content_hash)
    .fetch_optional(db)
    .await?)
}

/// Begins a report that counts for nothing before it is complete. What somebody left half done goes.
///
/// # Errors
/// Database errors only.
pub async fn begin(tx: &mut PgConnection, new: &NewReport) -> Result<i64, StoreError> {
    sqlx::query("DELETE FROM reports WHERE NOT complete AND project_id = $1 AND day = $2")
        .bind(&new.project.0)
        .bind(new.day)
        .execute(&mut *tx)
        .await?;
    Ok(sqlx::query_scalar(
        "INSERT INTO reports (project_id, day, content_hash, lines, unreadable) VALUES ($1, $2, $3, $4, $5)
         RETURNING id",
    )
    .bind(&new.project.0)
    .bind(new.day)
    .bind(&new.content_hash)
    .bind(new.lines)
    .bind(new.unreadable)
    .fetch_one(tx)
    .await?)
}

/// Adds lines, each with the payout whose session it is, or else whom it names.
///
/// # Errors
/// Database errors only.
pub async fn add(
    tx: &mut PgConnection,
    report: i64,
    project: &ProjectId,
    part: i32,
    lines: &[Line],
) -> Result<(), StoreError> {
    let texts = |of: fn(&Line) -> &str| lines.iter().map(of).collect::<Vec<&str>>();
    sqlx::query(
        "INSERT INTO report_lines (report_id, part, line, project_id, operation_id, session_id, kind, tag,
            payout_id, amount_minor, currency)
         SELECT $1, $2, n.line, $3, n.operation_id, n.session_id, n.kind, n.tag,
            coalesce(p.id, past.id, n.names), n.amount_minor, n.currency
         FROM unnest($4::bigint[], $5::text[], $6::text[], $7::text[], $8::text[], $9::uuid[], $10::bigint[],
            $11::text[]) AS n(line, operation_id, session_id, kind, tag, names, amount_minor, currency)
         LEFT JOIN payouts p ON p.session_id = n.session_id AND p.project_id = $3
         LEFT JOIN attempts a ON a.session_id = n.session_id
         LEFT JOIN payouts past ON past.id = a.payout_id AND past.project_id = $3",
    )
    .bind(report)
    .bind(part)
    .bind(&project.0)
    .bind(lines.iter().map(|line| i64::try_from(line.number).unwrap_or(i64::MAX)).collect::<Vec<_>>())
    .bind(texts(|line| &line.operation))
    .bind(texts(|line| &line.session))
    .bind(texts(|line| line.kind.code()))
    .bind(lines.iter().map(|line| line.tag.as_deref()).collect::<Vec<Option<&str>>>())
    .bind(lines.iter().map(|line| line.names().map(|id| id.0)).collect::<Vec<Option<Uuid>>>())
    .bind(lines.iter().map(|line| line.amount_minor).collect::<Vec<i64>>())
    .bind(texts(|line| line.currency))
    .execute(tx)
    .await?;
    Ok(())
}

/// After many lines were added: the comparison is planned for as many as there are.
///
/// # Errors
/// Database errors only.
pub async fn analyze(db: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query("ANALYZE report_lines").execute(db).await?;
    Ok(())
}

/// Makes it the report of its day; whatever else there is for that day goes.
///
/// # Errors
/// Database errors only.
pub async fn complete(tx: &mut PgConnection, report: i64, new: &NewReport) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM reports WHERE project_id = $1 AND day = $2 AND id <> $3")
        .bind(&new.project.0)
        .bind(new.day)
        .bind(report)
        .execute(&mut *tx)
        .await?;
    sqlx::query("UPDATE reports SET complete = true WHERE id = $1").bind(report).execute(tx).await?;
    Ok(())
}

/// Lines of the report about which no break is open, accepted ones included.
///
/// # Errors
/// Database errors only.
pub async fn matched(db: &mut PgConnection, report: i64) -> Result<i64, StoreError> {
    let about_lines = [Check::ReportExtra, Check::ReportAmount, Check::ReportTwice].map(|check| check.code());
    Ok(sqlx::query_scalar(
        "SELECT count(*) FROM report_lines l WHERE l.report_id = $1 AND NOT EXISTS (
            SELECT FROM findings f WHERE f.gone_at IS NULL AND f.check_name = ANY($2)
               AND f.project_id = l.project_id AND f.payout_id = l.payout_id)
         AND NOT EXISTS (
            SELECT FROM findings f WHERE f.gone_at IS NULL AND f.check_name = ANY($2)
               AND f.project_id = l.project_id AND f.payout_id IS NULL AND f.subject = l.session_id)",
    )
    .bind(report)
    .bind(about_lines)
    .fetch_one(db)
    .await?)
}

/// Whether the report of a day was read.
///
/// # Errors
/// Database errors only.
pub async fn is_read(db: &mut PgConnection, project: &ProjectId, day: Date) -> Result<bool, StoreError> {
    let sql = "SELECT EXISTS (SELECT FROM reports WHERE complete AND project_id = $1 AND day = $2)";
    Ok(sqlx::query_scalar(sql).bind(&project.0).bind(day).fetch_one(db).await?)
}

/// A difference between reports and books that is open.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Break {
    pub check_name: String,
    pub subject: String,
    pub payout_id: Option<Uuid>,
    pub words: String,
    pub found_at: OffsetDateTime,
    /// A person has looked and lets it stand.
    pub accepted: bool,
}

/// All open differences of a project, oldest first.
///
/// # Errors
/// Database errors only.
pub async fn breaks(db: &mut PgConnection, project: &ProjectId) -> Result<Vec<Break>, StoreError> {
    Ok(sqlx::query_as(
        "SELECT check_name, subject, payout_id, words, found_at, accepted_at IS NOT NULL AS accepted
         FROM findings WHERE gone_at IS NULL AND project_id = $1 AND check_name = ANY($2)
         ORDER BY found_at, check_name, subject",
    )
    .bind(&project.0)
    .bind(super::checks::names_of_reports())
    .fetch_all(db)
    .await?)
}
