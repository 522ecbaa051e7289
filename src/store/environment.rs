//! The table `environment`: to which of Pike's worlds the rows of this database belong. Sessions, keys and
//! payouts of one mean nothing in another.

use super::{StoreError, encoding::Code};
use crate::domain::environment::Environment;
use sqlx::PgConnection;

/// Binds the database to an environment, unless a payout has bound it to another: then says to which, in the
/// stored word.
///
/// # Errors
/// Database errors only.
pub async fn bind(tx: &mut PgConnection, wanted: Environment) -> Result<Option<String>, StoreError> {
    sqlx::query(
        "INSERT INTO environment (name) VALUES ($1) ON CONFLICT (one) DO UPDATE
         SET name = excluded.name, since = now() WHERE NOT EXISTS (SELECT FROM payouts)",
    )
    .bind(wanted.code())
    .execute(&mut *tx)
    .await?;
    let name: String = sqlx::query_scalar("SELECT name FROM environment").fetch_one(tx).await?;
    Ok(Some(name).filter(|name| name != wanted.code()))
}
