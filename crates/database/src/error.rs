//! Why a table did not do its part.

use std::io;
use std::path::{Path, PathBuf};

use cove_types::{Classify, ErrorKind};

/// Why a call on a database failed. The database is as it was before the call.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// A later Cove wrote it; it was not touched.
    #[error("database {path} has version {found}, and this Cove knows versions up to {known}", path = path.display())]
    Newer { path: PathBuf, found: i64, known: i64 },
    /// The file is a database of something else; it was not touched.
    #[error("database {path} is not one of a {wanted}", path = path.display())]
    Foreign { path: PathBuf, wanted: &'static str },
    /// The file is not what was written there; it was not touched.
    #[error("database {path} is damaged", path = path.display())]
    Broken { path: PathBuf, source: sqlx::Error },
    #[error("failed to open database {path}", path = path.display())]
    Open { path: PathBuf, source: sqlx::Error },
    #[error("{what} exists already")]
    Exists { what: String },
    #[error("{what} is not in the database")]
    Absent { what: String },
    #[error("table {table} holds a {column} that is none")]
    Damaged {
        table: &'static str,
        column: &'static str,
        source: Box<dyn std::error::Error + Send + Sync + 'static>,
    },
    #[error("the audit log does not continue at record {seq}")]
    BrokenChain { seq: i64 },
    #[error("failed to {what}")]
    Failed { what: &'static str, source: sqlx::Error },
}

impl Classify for DatabaseError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Newer { .. } | Self::Foreign { .. } => ErrorKind::Precondition,
            Self::Exists { .. } => ErrorKind::AlreadyExists,
            Self::Absent { .. } => ErrorKind::NotFound,
            Self::Broken { .. } | Self::Damaged { .. } | Self::BrokenChain { .. } => {
                ErrorKind::Corrupt
            }
            Self::Open { source, .. } | Self::Failed { source, .. } => kind_of(source),
        }
    }
}

/// SQLite's "the file ends within a page": it was cut, and the disk did what it should.
const IOERR_SHORT_READ: i32 = 10 | 2 << 8;

/// The result code of SQLite; the extended ones carry the primary one in their low byte.
///
/// Source: `sqlite3.h`, "Result Codes".
fn result_code(error: &sqlx::Error) -> Option<i32> {
    error.as_database_error()?.code()?.parse().ok()
}

fn kind_of(error: &sqlx::Error) -> ErrorKind {
    let code = result_code(error);
    if code == Some(IOERR_SHORT_READ) {
        return ErrorKind::Corrupt;
    }
    match code.map(|code| code & 0xff) {
        // BUSY, LOCKED, IOERR: the disk has failed, and not the program
        Some(5 | 6 | 10) => ErrorKind::Unavailable,
        // PERM, READONLY, CANTOPEN
        Some(3 | 8 | 14) => ErrorKind::Precondition,
        // CORRUPT, NOTADB
        Some(11 | 26) => ErrorKind::Corrupt,
        // FULL
        Some(13) => ErrorKind::Exhausted,
        _ => match error {
            sqlx::Error::PoolTimedOut => ErrorKind::Unavailable,
            sqlx::Error::Io(error) => match error.kind() {
                io::ErrorKind::NotFound
                | io::ErrorKind::PermissionDenied
                | io::ErrorKind::NotADirectory
                | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::Precondition,
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::Exhausted,
                _ => ErrorKind::Internal,
            },
            _ => ErrorKind::Internal,
        },
    }
}

/// Why the database at `path` did not open.
pub(crate) fn open_failed(path: &Path, source: sqlx::Error) -> DatabaseError {
    let path = path.to_owned();
    match is_damage(&source) {
        true => DatabaseError::Broken { path, source },
        false => DatabaseError::Open { path, source },
    }
}

/// Whether a file is not what a database wrote.
pub(crate) fn is_damage(error: &sqlx::Error) -> bool {
    kind_of(error) == ErrorKind::Corrupt
}

/// Names a failed statement for [`DatabaseError::Failed`].
pub(crate) fn failed(what: &'static str) -> impl FnOnce(sqlx::Error) -> DatabaseError {
    move |source| DatabaseError::Failed { what, source }
}

/// [`DatabaseError::Exists`] when a primary key or unique index refused the row.
pub(crate) fn exists_or_failed(
    what: &'static str,
    thing: impl FnOnce() -> String,
) -> impl FnOnce(sqlx::Error) -> DatabaseError {
    move |source| match source.as_database_error() {
        Some(error) if error.is_unique_violation() => DatabaseError::Exists { what: thing() },
        _ => DatabaseError::Failed { what, source },
    }
}
