//! The table `api_keys`: who may call. Only hashes of secrets are stored.

use super::StoreError;
use crate::domain::id::ProjectId;
use sqlx::PgConnection;

/// A stored key.
#[derive(Clone, Debug)]
pub struct ApiKey {
    pub id: String,
    pub project: ProjectId,
    pub name: String,
    /// SHA-256 of the secret part.
    pub secret_hash: Vec<u8>,
    pub scopes: Vec<String>,
}

/// Stores a new key.
///
/// # Errors
/// Database errors; unknown scopes violate a constraint.
pub async fn insert(db: &mut PgConnection, key: &ApiKey) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO api_keys (id, project_id, name, secret_hash, scopes) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(&key.id)
    .bind(&key.project.0)
    .bind(&key.name)
    .bind(&key.secret_hash)
    .bind(&key.scopes)
    .execute(db)
    .await?;
    Ok(())
}

/// The live key with this id.
///
/// # Errors
/// Database errors only.
pub async fn find(db: &mut PgConnection, id: &str) -> Result<Option<ApiKey>, StoreError> {
    let row: Option<(String, String, String, Vec<u8>, Vec<String>)> = sqlx::query_as(
        "SELECT id, project_id, name, secret_hash, scopes FROM api_keys WHERE id = $1 AND revoked_at IS NULL",
    )
    .bind(id)
    .fetch_optional(db)
    .await?;
    Ok(row.map(|(id, project, name, secret_hash, scopes)| ApiKey {
        id,
        project: ProjectId(project),
        name,
        secret_hash,
        scopes,
    }))
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
