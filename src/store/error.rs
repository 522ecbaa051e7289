//! What can go wrong with the database, by what the caller should do about it.

/// A failure of a store function.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
    /// No answer for longer than the database's own limits allow: the connection is dead and nobody said so.
    #[error("database: no answer within {0:?}")]
    Silent(std::time::Duration),
    /// A row that no code of ours could have written.
    #[error("impossible row: {table}.{column} of {id}")]
    ImpossibleRow { table: &'static str, column: &'static str, id: String },
}

/// What `steps_stale()` raises (migration 24).
const STALE: &str = "PO001";

impl StoreError {
    /// Whether steps that were decided without locking were refused, because something was not as it had
    /// been. Nothing was written; whoever looks first can go on.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        match self {
            Self::Database(sqlx::Error::Database(error)) => error.code().as_deref() == Some(STALE),
            Self::Database(_) | Self::Silent(_) | Self::ImpossibleRow { .. } => false,
        }
    }

    /// Whether the whole transaction may simply be run again: serialisation failure, deadlock, lock time-out.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Database(sqlx::Error::Database(error)) => {
                matches!(error.code().as_deref(), Some("40001" | "40P01" | "55P03"))
            }
            Self::Database(_) | Self::Silent(_) | Self::ImpossibleRow { .. } => false,
        }
    }

    /// Whether the connection is gone, or was taken away: another one may do.
    #[must_use]
    pub fn is_of_the_connection(&self) -> bool {
        match self {
            Self::Database(sqlx::Error::Database(error)) => {
                error.code().is_some_and(|code| code.starts_with("57P"))
            }
            Self::Database(error) => matches!(error, sqlx::Error::Io(_) | sqlx::Error::WorkerCrashed),
            Self::Silent(_) | Self::ImpossibleRow { .. } => false,
        }
    }

    /// What went wrong without a word of the data: a code and a constraint, or a column.
    #[must_use]
    pub fn brief(&self) -> String {
        match self {
            Self::Database(sqlx::Error::Database(error)) => {
                let code = error.code().unwrap_or_default();
                format!("database error {code} {}", error.constraint().unwrap_or_default()).trim().to_owned()
            }
            Self::Database(_) | Self::Silent(_) => "the database does not answer as it should".to_owned(),
            Self::ImpossibleRow { table, column, .. } => format!("impossible row: {table}.{column}"),
        }
    }

    /// Whether the rows themselves are at fault (a constraint, bad data), as opposed to the connection.
    #[must_use]
    pub fn blames_the_data(&self) -> bool {
        match self {
            Self::Database(sqlx::Error::Database(error)) => error
                .code()
                .is_some_and(|code| ["22", "23", "54"].iter().any(|class| code.starts_with(class))),
            Self::Database(_) | Self::Silent(_) => false,
            Self::ImpossibleRow { .. } => true,
        }
    }
}
