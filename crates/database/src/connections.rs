//! Opening: one writer, few readers, the version looked at first.

use std::fmt::Display;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteRow, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection, Row};

use crate::DatabaseError;
use crate::error::{failed, is_damage, open_failed};

/// How long a statement waits for another process's lock, such as a backup's.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// How many statements read at a time.
const READERS: u32 = 4;

/// The tables of one kind of database, as they came to be.
pub(crate) struct Schema {
    /// `node` or `server`.
    pub(crate) name: &'static str,
    /// The text of version 1, 2, …; a released one is never changed.
    pub(crate) migrations: &'static [&'static str],
}

/// The connections to one database. Cloning shares them.
#[derive(Debug, Clone)]
pub(crate) struct Connections {
    /// One connection, so that writers wait for each other here and never meet SQLITE_BUSY.
    pub(crate) writer: SqlitePool,
    /// Read what was committed before they began.
    pub(crate) readers: SqlitePool,
}

impl Connections {
    /// Opens or creates the database at `path` and brings it to the newest version.
    ///
    /// # Errors
    ///
    /// A database of a newer version, of another kind, or unreadable; none of them is written to.
    pub(crate) async fn open(path: &Path, schema: &Schema) -> Result<Self, DatabaseError> {
        let open_failed = |source| open_failed(path, source);
        let is_there = path.try_exists().map_err(|error| open_failed(sqlx::Error::Io(error)))?;
        match is_there {
            true => refuse_newer(path, schema).await?,
            false => {
                create_private(path).map_err(|error| open_failed(sqlx::Error::Io(error)))?;
            }
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT)
            .disable_statement_logging();
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(options.clone())
            .await
            .map_err(open_failed)?;
        migrate(&writer, schema).await.map_err(|error| match error {
            DatabaseError::Failed { source, .. } if is_damage(&source) => open_failed(source),
            error => error,
        })?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(options.read_only(true).create_if_missing(false))
            .await
            .map_err(open_failed)?;
        Ok(Self { writer, readers })
    }

    /// Waits for running statements and closes the file.
    pub(crate) async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    /// A pragma's value, as the writer sees it.
    #[cfg(test)]
    pub(crate) async fn pragma(&self, pragma: &'static str) -> String {
        let row = sqlx::query(pragma).fetch_one(&self.writer).await.unwrap();
        row.try_get::<String, _>(0)
            .unwrap_or_else(|_| row.try_get::<i64, _>(0).unwrap().to_string())
    }
}

/// Makes the empty file, which its owner alone may read; the log beside it gets the same mode.
fn create_private(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let created = options.write(true).create_new(true).mode(0o600).open(path);
    match created {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        created => created.map(|_| ()),
    }
}

/// Looks at the version, and then at the pages, through a connection that cannot write.
async fn refuse_newer(path: &Path, schema: &Schema) -> Result<(), DatabaseError> {
    let open_failed = |source| open_failed(path, source);
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .read_only(true)
        .busy_timeout(BUSY_TIMEOUT)
        .disable_statement_logging();
    let mut connection = SqliteConnection::connect_with(&options).await.map_err(open_failed)?;
    let tables = sqlx::query("SELECT name FROM sqlite_master WHERE type = 'table'")
        .fetch_all(&mut connection)
        .await
        .map_err(open_failed)?;
    let mut is_versioned = false;
    for row in &tables {
        is_versioned |= text(row, "schema", "name")? == "schema";
    }
    let known = version_known(schema);
    let found = if is_versioned {
        let versions = sqlx::query("SELECT name, version FROM schema")
            .fetch_all(&mut connection)
            .await
            .map_err(open_failed)?;
        let mut newest = 0;
        for row in &versions {
            if text(row, "schema", "name")? != schema.name {
                return Err(DatabaseError::Foreign { path: path.to_owned(), wanted: schema.name });
            }
            newest = newest.max(integer(row, "schema", "version")?);
        }
        newest
    } else if tables.is_empty() {
        0
    } else {
        return Err(DatabaseError::Foreign { path: path.to_owned(), wanted: schema.name });
    };
    if found > known {
        return Err(DatabaseError::Newer { path: path.to_owned(), found, known });
    }
    refuse_damaged(path, &mut connection).await?;
    connection.close().await.map_err(open_failed)?;
    Ok(())
}

/// Looks whether the pages hold together, before anything is believed of them or written beside them: a
/// damaged one that is met later fails some call, and does not say what to do. Reads the whole file.
async fn refuse_damaged(
    path: &Path,
    connection: &mut SqliteConnection,
) -> Result<(), DatabaseError> {
    let open_failed = |source| open_failed(path, source);
    let row = sqlx::query("PRAGMA quick_check(1)").fetch_one(connection).await;
    let said: String = row.and_then(|row| row.try_get(0)).map_err(open_failed)?;
    match said.as_str() {
        "ok" => Ok(()),
        _ => {
            let source = sqlx::Error::Protocol(said);
            Err(DatabaseError::Broken { path: path.to_owned(), source })
        }
    }
}

fn version_known(schema: &Schema) -> i64 {
    i64::try_from(schema.migrations.len()).unwrap_or(i64::MAX)
}

/// Runs what is missing, each version in one transaction with the row that says so.
async fn migrate(writer: &SqlitePool, schema: &Schema) -> Result<(), DatabaseError> {
    let failed = || failed("bring the database to the newest version");
    sqlx::query(
        "CREATE TABLE IF NOT EXISTS schema \
         (name TEXT NOT NULL, version BIGINT NOT NULL, PRIMARY KEY (name, version))",
    )
    .execute(writer)
    .await
    .map_err(failed())?;
    let row = sqlx::query("SELECT COALESCE(MAX(version), 0) AS version FROM schema")
        .fetch_one(writer)
        .await
        .map_err(failed())?;
    let found = integer(&row, "schema", "version")?;
    for (migration, version) in schema.migrations.iter().zip(1i64..) {
        if version <= found {
            continue;
        }
        let mut transaction = writer.begin().await.map_err(failed())?;
        sqlx::raw_sql(*migration).execute(&mut *transaction).await.map_err(failed())?;
        sqlx::query("INSERT INTO schema (name, version) VALUES ($1, $2)")
            .bind(schema.name)
            .bind(version)
            .execute(&mut *transaction)
            .await
            .map_err(failed())?;
        transaction.commit().await.map_err(failed())?;
    }
    Ok(())
}

/// A value that is no such value.
fn damaged<E>(table: &'static str, column: &'static str) -> impl FnOnce(E) -> DatabaseError
where
    E: std::error::Error + Send + Sync + 'static,
{
    move |source| DatabaseError::Damaged { table, column, source: Box::new(source) }
}

pub(crate) fn text(
    row: &SqliteRow,
    table: &'static str,
    column: &'static str,
) -> Result<String, DatabaseError> {
    row.try_get(column).map_err(damaged(table, column))
}

pub(crate) fn text_or_null(
    row: &SqliteRow,
    table: &'static str,
    column: &'static str,
) -> Result<Option<String>, DatabaseError> {
    row.try_get(column).map_err(damaged(table, column))
}

pub(crate) fn integer(
    row: &SqliteRow,
    table: &'static str,
    column: &'static str,
) -> Result<i64, DatabaseError> {
    row.try_get(column).map_err(damaged(table, column))
}

pub(crate) fn integer_or_null(
    row: &SqliteRow,
    table: &'static str,
    column: &'static str,
) -> Result<Option<i64>, DatabaseError> {
    row.try_get(column).map_err(damaged(table, column))
}

/// An integer that was never negative or too large when it was written.
pub(crate) fn unsigned<T>(
    row: &SqliteRow,
    table: &'static str,
    column: &'static str,
) -> Result<T, DatabaseError>
where
    T: TryFrom<i64, Error = std::num::TryFromIntError>,
{
    T::try_from(integer(row, table, column)?).map_err(damaged(table, column))
}

pub(crate) fn bytes(
    row: &SqliteRow,
    table: &'static str,
    column: &'static str,
) -> Result<Vec<u8>, DatabaseError> {
    row.try_get(column).map_err(damaged(table, column))
}

/// Text that is a value of `T`.
pub(crate) fn parsed<T>(
    row: &SqliteRow,
    table: &'static str,
    column: &'static str,
) -> Result<T, DatabaseError>
where
    T: FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    text(row, table, column)?.parse().map_err(damaged(table, column))
}

pub(crate) fn parsed_or_null<T>(
    row: &SqliteRow,
    table: &'static str,
    column: &'static str,
) -> Result<Option<T>, DatabaseError>
where
    T: FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    match text_or_null(row, table, column)? {
        Some(text) => text.parse().map(Some).map_err(damaged(table, column)),
        None => Ok(None),
    }
}

/// A count as the table keeps it; what is larger than the largest (9.2 exabytes) is that.
pub(crate) fn stored(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// An identifier's text, for an optional column.
pub(crate) fn text_of<T: Display>(value: Option<&T>) -> Option<String> {
    value.map(ToString::to_string)
}
