//! The table `api_keys`: who may call. Only hashes of secrets are stored.

use super::StoreError;
use crate::domain::{
    id::{PayoutId, ProjectId},
    owner::Owner,
};
use sqlx::PgConnection;
use std::{collections::BTreeMap, sync::Arc};

/// A stored key.
#[derive(Clone, Debug)]
pub struct ApiKey {
    pub id: String,
    pub project: ProjectId,
    pub name: String,
    /// SHA-256 of the secret part.
    pub secret_hash: Vec<u8>,
    pub scopes: Vec<String>,
    /// A person or a team, if it was said.
    pub owner: Option<Owner>,
}

/// Stores a new key.
///
/// # Errors
/// Database errors; unknown scopes violate a constraint.
pub async fn insert(db: &mut PgConnection, key: &ApiKey) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO api_keys (id, project_id, name, secret_hash, scopes, owner) \
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(&key.id)
    .bind(&key.project.0)
    .bind(&key.name)
    .bind(&key.secret_hash)
    .bind(&key.scopes)
    .bind(key.owner.as_ref().map(Owner::name))
    .execute(db)
    .await?;
    Ok(())
}

/// A key as the table has it.
type Row = (String, String, String, Vec<u8>, Vec<String>, Option<String>);

/// The live keys among these ids. One whose owner cannot be read is an error of its own: it keeps no other
/// caller out.
///
/// # Errors
/// Database errors only.
pub async fn find(
    db: &mut PgConnection,
    ids: &[String],
) -> Result<BTreeMap<String, Result<ApiKey, Arc<StoreError>>>, StoreError> {
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT id, project_id, name, secret_hash, scopes, owner FROM api_keys \
         WHERE id = ANY($1) AND revoked_at IS NULL",
    )
    .bind(ids)
    .fetch_all(db)
    .await?;
    let read = |(id, project, name, secret_hash, scopes, owner): Row| {
        let key = owner.map(|name| read_owner(&name, &id)).transpose().map(|owner| ApiKey {
            id: id.clone(),
            project: ProjectId(project),
            name,
            secret_hash,
            scopes,
            owner,
        });
        (id, key.map_err(Arc::new))
    };
    Ok(rows.into_iter().map(read).collect())
}

/// Whose the key is that created this payout, revoked or not: a key that is no good any more was still
/// somebody's. None as well when there is no such payout or key.
///
/// # Errors
/// Database errors, or an owner that is no name.
pub async fn creators_owner(
    db: &mut PgConnection,
    project: &ProjectId,
    payout: PayoutId,
) -> Result<Option<Owner>, StoreError> {
    let row: Option<(String, Option<String>)> = sqlx::query_as(
        "SELECT k.id, k.owner FROM payouts p JOIN api_keys k ON k.id = p.created_by \
         WHERE p.id = $1 AND p.project_id = $2",
    )
    .bind(payout.0)
    .bind(&project.0)
    .fetch_optional(db)
    .await?;
    let Some((id, Some(name))) = row else { return Ok(None) };
    read_owner(&name, &id).map(Some)
}

/// An owner that cannot be read is not the same as none: nobody approves by mistake.
fn read_owner(name: &str, id: &str) -> Result<Owner, StoreError> {
    name.parse().map_err(|_| StoreError::ImpossibleRow {
        table: "api_keys",
        column: "owner",
        id: id.to_owned(),
    })
}

/// Whether a key has ever been made for this project.
///
/// # Errors
/// Database errors only.
pub async fn is_known(db: &mut PgConnection, project: &ProjectId) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar("SELECT EXISTS (SELECT FROM api_keys WHERE project_id = $1)")
        .bind(&project.0)
        .fetch_one(db)
        .await?)
}

/// Revokes a key at once and for good; false when there is no such live key.
///
/// # Errors
/// Database errors only.
pub async fn revoke(db: &mut PgConnection, id: &str) -> Result<bool, StoreError> {
    let done = sqlx::query("UPDATE api_keys SET revoked_at = now() WHERE id = $1 AND revoked_at IS NULL")
        .bind(id)
        .execute(db)
        .await?;
    Ok(done.rows_affected() == 1)
}
