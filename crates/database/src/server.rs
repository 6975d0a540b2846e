//! What a server knows: projects, calls, the audit log.

mod named;

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use cove_types::{Digest, EntryId, OperationId, ParseError, ProjectId, Slug, VolumeId};
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use crate::DatabaseError;
use crate::connections::{
    Connections, Schema, bytes, integer, integer_or_null, parsed, parsed_or_null, text,
    text_or_null,
};
use crate::error::{exists_or_failed, failed};
use crate::reserve::Reserve;
use crate::server::named::Named;

const SCHEMA: Schema = Schema {
    name: "server",
    migrations: &[
        include_str!("../migrations/server/0001.sql"),
        include_str!("../migrations/server/0002.sql"),
    ],
};

/// Defines a state that a column holds as a word.
macro_rules! state {
    ($(#[$doc:meta])* $name:ident, $what:literal { $($(#[$each:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$each])* $variant,)*
        }

        impl $name {
            /// The word.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }

        impl FromStr for $name {
            type Err = ParseError;

            fn from_str(text: &str) -> Result<Self, ParseError> {
                match text {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(ParseError(concat!($what, " is none of the words for it").into())),
                }
            }
        }
    };
}

state! {
    /// How far a project is in its life.
    ProjectState, "a project's state" {
        /// Its name is reserved; its volume may not be there.
        Creating = "creating",
        /// It is there.
        Live = "live",
        /// It is in the trash; its name is free.
        Trashed = "trashed",
    }
}

state! {
    /// How far a call is.
    OperationState, "an operation's state" {
        /// It works, or was interrupted while it did.
        Running = "running",
        /// Its result is on this node and being saved.
        Captured = "captured",
        /// Its result is final.
        Done = "done",
        /// It came to an error that is final.
        Failed = "failed",
    }
}

/// A project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectRow {
    /// Its identifier.
    pub id: ProjectId,
    /// Its name in commands; unique among those that are not trashed.
    pub slug: Slug,
    /// What people call it.
    pub name: String,
    /// Its volume.
    pub volume: VolumeId,
    /// How far it is.
    pub state: ProjectState,
    /// When it was created.
    pub created_us: i64,
    /// When it was moved to the trash.
    pub trashed_us: Option<i64>,
    /// The project document, as JSON.
    pub document: String,
    /// What the last check found.
    pub verified: Option<Verified>,
}

/// What a check of a project found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// When.
    pub at_us: i64,
    /// How many problems.
    pub problems: u64,
    /// How deep it looked, 0 to 2.
    pub level: u32,
    /// Which part of how many was read, where it read: `(1, 1)` is everything.
    pub part: Option<(u32, u32)>,
}

/// A call under its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationRow {
    /// The idempotency key.
    pub key: String,
    /// Who asks; keys of different principals are different.
    pub principal: String,
    /// The operation id that the key is bound to.
    pub operation: OperationId,
    /// The digest of the request that the key is bound to.
    pub request: Vec<u8>,
    /// Which call.
    pub kind: String,
    /// The volume that it is about, decided when it was bound.
    pub volume: Option<VolumeId>,
    /// The entry that it is about, decided before it took effect.
    pub entry: Option<EntryId>,
    /// How far it is.
    pub state: OperationState,
    /// The reply, as JSON.
    pub result: Option<String>,
    /// The error, as JSON.
    pub error: Option<String>,
    /// When it was first asked for.
    pub created_us: i64,
    /// When its state last changed.
    pub updated_us: i64,
}

/// How far a call is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationUpdate {
    /// The state.
    pub state: OperationState,
    /// The reply, as JSON.
    pub result: Option<String>,
    /// The error, as JSON.
    pub error: Option<String>,
    /// When.
    pub at_us: i64,
    /// What the audit log tells of it.
    pub audit: Option<AuditRecord>,
}

/// What an audit record tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// When.
    pub at_us: i64,
    /// Who.
    pub principal: String,
    /// What was asked for, such as `project.restore`.
    pub action: String,
    /// Of what.
    pub resource: String,
    /// `ok` or the kind of the error.
    pub outcome: String,
    /// The request, as in the log.
    pub request_id: String,
}

/// A record in its place in the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    /// Its number, from 1, without gaps.
    pub seq: i64,
    /// What it tells.
    pub record: AuditRecord,
    /// The digest of the record before; 32 zero bytes before the first.
    pub previous: Digest,
    /// The digest of this record and of `previous`.
    pub digest: Digest,
}

impl AuditRow {
    /// The record after `previous`.
    ///
    /// The digest is over the fields in the order of the table, each text with its length
    /// (8 bytes, big-endian) before it and each number as 8 bytes, big-endian.
    fn after(previous: Option<(i64, Digest)>, record: AuditRecord) -> Self {
        let (last, previous) = previous.unwrap_or((0, Digest::HOLE));
        let seq = last + 1;
        let mut told = Vec::new();
        told.extend_from_slice(&previous.0);
        told.extend_from_slice(&seq.to_be_bytes());
        told.extend_from_slice(&record.at_us.to_be_bytes());
        for text in [
            &record.principal,
            &record.action,
            &record.resource,
            &record.outcome,
            &record.request_id,
        ] {
            told.extend_from_slice(&(text.len() as u64).to_be_bytes());
            told.extend_from_slice(text.as_bytes());
        }
        Self { seq, record, previous, digest: Digest::of(&told) }
    }
}

/// The database of a server, `server.db`, and beside it some room for removals. Cloning shares its
/// connections.
#[derive(Debug, Clone)]
pub struct ServerDatabase(Connections, Arc<Named>, Reserve);

impl ServerDatabase {
    /// Opens or creates it.
    ///
    /// # Errors
    ///
    /// A database of a newer version is refused untouched (`Precondition`).
    pub async fn open(path: &Path) -> Result<Self, DatabaseError> {
        let reserve = Reserve::at(path.with_extension("reserve"));
        let lent = reserve.lend();
        let connections = Connections::open(path, &SCHEMA).await?;
        drop(lent);
        Ok(Self(connections, Arc::default(), reserve))
    }

    /// The room beside it that is kept for removals.
    #[must_use]
    pub fn reserve(&self) -> &Reserve {
        &self.2
    }

    /// Waits for running statements and closes the file.
    pub async fn close(&self) {
        self.0.close().await;
    }

    /// Adds projects, all or none.
    ///
    /// # Errors
    ///
    /// A slug is taken by a project that is not trashed, or an id or volume is there
    /// (`AlreadyExists`); none was added.
    pub async fn insert_projects(&self, rows: &[ProjectRow]) -> Result<(), DatabaseError> {
        let _changing = self.1.changing();
        let failed = || failed("add projects");
        let mut transaction = self.0.writer.begin().await.map_err(failed())?;
        for row in rows {
            insert_project(&mut transaction, row).await?;
        }
        transaction.commit().await.map_err(failed())
    }

    /// Writes projects as they are now, all or none; what is not there is added.
    ///
    /// # Errors
    ///
    /// A slug is taken by another project that is not trashed (`AlreadyExists`); none was written.
    pub async fn put_projects(&self, rows: &[ProjectRow]) -> Result<(), DatabaseError> {
        let _changing = self.1.changing();
        let failed = || failed("write projects");
        let mut transaction = self.0.writer.begin().await.map_err(failed())?;
        for row in rows {
            put_project(&mut transaction, row).await?;
        }
        transaction.commit().await.map_err(failed())
    }

    /// Makes `rows` the whole table.
    ///
    /// # Errors
    ///
    /// Two of them have one slug (`AlreadyExists`); the table is as it was.
    pub async fn replace_projects(&self, rows: &[ProjectRow]) -> Result<(), DatabaseError> {
        let _changing = self.1.changing();
        let failed = || failed("replace the projects");
        let mut transaction = self.0.writer.begin().await.map_err(failed())?;
        sqlx::query("DELETE FROM projects").execute(&mut *transaction).await.map_err(failed())?;
        for row in rows {
            insert_project(&mut transaction, row).await?;
        }
        transaction.commit().await.map_err(failed())
    }

    /// All projects, by slug, the trashed ones included.
    pub async fn projects(&self) -> Result<Vec<ProjectRow>, DatabaseError> {
        let rows = sqlx::query("SELECT * FROM projects ORDER BY slug, created_us, id")
            .fetch_all(&self.0.readers)
            .await
            .map_err(failed("read the projects"))?;
        rows.iter().map(project).collect()
    }

    /// The project `id`.
    pub async fn find_project(&self, id: &ProjectId) -> Result<Option<ProjectRow>, DatabaseError> {
        let row = sqlx::query("SELECT * FROM projects WHERE id = $1")
            .bind(id.as_str())
            .fetch_optional(&self.0.readers)
            .await
            .map_err(failed("read a project"))?;
        row.as_ref().map(project).transpose()
    }

    /// The project whose volume is `volume`.
    pub async fn find_volume(
        &self,
        volume: &VolumeId,
    ) -> Result<Option<ProjectRow>, DatabaseError> {
        let row = sqlx::query("SELECT * FROM projects WHERE volume = $1")
            .bind(volume.as_str())
            .fetch_optional(&self.0.readers)
            .await
            .map_err(failed("read a project"))?;
        row.as_ref().map(project).transpose()
    }

    /// The project that has the name `slug` and is not trashed.
    pub async fn find_named(&self, slug: &Slug) -> Result<Option<ProjectRow>, DatabaseError> {
        let row = sqlx::query("SELECT * FROM projects WHERE slug = $1 AND state <> 'trashed'")
            .bind(slug.as_str())
            .fetch_optional(&self.0.readers)
            .await
            .map_err(failed("read a project"))?;
        row.as_ref().map(project).transpose()
    }

    /// The same, from memory when it was asked for since the projects last changed: for who only reads.
    ///
    /// Changes that were made through this value, or a clone of it, are seen once they have returned.
    pub async fn look_up(&self, slug: &Slug) -> Result<Option<ProjectRow>, DatabaseError> {
        let changes = match self.1.find(slug) {
            Ok(row) => return Ok(Some(row)),
            Err(changes) => changes,
        };
        let row = self.find_named(slug).await?;
        if let Some(row) = &row {
            self.1.keep(row, changes);
        }
        Ok(row)
    }

    /// The trashed projects that had the name `slug`, the one trashed last first.
    pub async fn trashed(&self, slug: &Slug) -> Result<Vec<ProjectRow>, DatabaseError> {
        let rows = sqlx::query(
            "SELECT * FROM projects WHERE slug = $1 AND state = 'trashed' \
             ORDER BY trashed_us DESC, id",
        )
        .bind(slug.as_str())
        .fetch_all(&self.0.readers)
        .await
        .map_err(failed("read the trashed projects"))?;
        rows.iter().map(project).collect()
    }

    /// Says how a project's last check ended.
    pub async fn set_verified(
        &self,
        id: &ProjectId,
        verified: &Verified,
    ) -> Result<(), DatabaseError> {
        let _changing = self.1.changing();
        sqlx::query(
            "UPDATE projects SET verified_us = $2, verified_problems = $3, verified_level = $4, \
             verified_part = $5, verified_of = $6 WHERE id = $1",
        )
        .bind(id.as_str())
        .bind(verified.at_us)
        .bind(crate::connections::stored(verified.problems))
        .bind(i64::from(verified.level))
        .bind(verified.part.map(|(part, _)| i64::from(part)))
        .bind(verified.part.map(|(_, of)| i64::from(of)))
        .execute(&self.0.writer)
        .await
        .map_err(failed("write the end of a check"))?;
        Ok(())
    }

    /// Drops projects that never came to be, or are gone.
    pub async fn delete_projects(&self, ids: &[ProjectId]) -> Result<(), DatabaseError> {
        let _changing = self.1.changing();
        let failed = || failed("drop projects");
        let mut transaction = self.0.writer.begin().await.map_err(failed())?;
        for id in ids {
            sqlx::query("DELETE FROM projects WHERE id = $1")
                .bind(id.as_str())
                .execute(&mut *transaction)
                .await
                .map_err(failed())?;
        }
        transaction.commit().await.map_err(failed())
    }

    /// Binds a key to a request.
    ///
    /// # Errors
    ///
    /// The principal has used the key (`AlreadyExists`).
    pub async fn insert_operation(&self, row: &OperationRow) -> Result<(), DatabaseError> {
        sqlx::query(
            "INSERT INTO operations (key, principal, operation, request, kind, volume, state, \
             result, error, created_us, updated_us, entry) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        )
        .bind(row.key.as_str())
        .bind(row.principal.as_str())
        .bind(row.operation.to_string())
        .bind(row.request.as_slice())
        .bind(row.kind.as_str())
        .bind(row.volume.as_ref().map(VolumeId::as_str))
        .bind(row.state.as_str())
        .bind(row.result.as_deref())
        .bind(row.error.as_deref())
        .bind(row.created_us)
        .bind(row.updated_us)
        .bind(row.entry.map(|entry| entry.to_string()))
        .execute(&self.0.writer)
        .await
        .map_err(exists_or_failed("write an operation", || format!("operation {}", row.key)))?;
        Ok(())
    }

    /// Says which entry a call is about.
    ///
    /// # Errors
    ///
    /// The key is bound to nothing (`NotFound`).
    pub async fn bind_entry(
        &self,
        principal: &str,
        key: &str,
        entry: EntryId,
    ) -> Result<(), DatabaseError> {
        let done =
            sqlx::query("UPDATE operations SET entry = $3 WHERE principal = $1 AND key = $2")
                .bind(principal)
                .bind(key)
                .bind(entry.to_string())
                .execute(&self.0.writer)
                .await
                .map_err(failed("write an operation"))?;
        match done.rows_affected() {
            0 => Err(DatabaseError::Absent { what: format!("operation {key}") }),
            _ => Ok(()),
        }
    }

    /// Changes how far a call is, together with the audit record that tells of its end.
    ///
    /// # Errors
    ///
    /// The key is bound to nothing (`NotFound`).
    pub async fn update_operation(
        &self,
        principal: &str,
        key: &str,
        update: OperationUpdate,
    ) -> Result<(), DatabaseError> {
        let failed = || failed("write an operation");
        let mut transaction = self.0.writer.begin().await.map_err(failed())?;
        let done = sqlx::query(
            "UPDATE operations SET state = $3, result = $4, error = $5, updated_us = $6 \
             WHERE principal = $1 AND key = $2",
        )
        .bind(principal)
        .bind(key)
        .bind(update.state.as_str())
        .bind(update.result)
        .bind(update.error)
        .bind(update.at_us)
        .execute(&mut *transaction)
        .await
        .map_err(failed())?;
        if done.rows_affected() == 0 {
            return Err(DatabaseError::Absent { what: format!("operation {key}") });
        }
        append(&mut transaction, update.audit).await?;
        transaction.commit().await.map_err(failed())
    }

    /// What `principal` bound to `key`.
    pub async fn find_operation(
        &self,
        principal: &str,
        key: &str,
    ) -> Result<Option<OperationRow>, DatabaseError> {
        let row = sqlx::query("SELECT * FROM operations WHERE principal = $1 AND key = $2")
            .bind(principal)
            .bind(key)
            .fetch_optional(&self.0.readers)
            .await
            .map_err(failed("read an operation"))?;
        row.as_ref().map(operation).transpose()
    }

    /// The call with the operation id `id`, the latest when several principals chose it.
    pub async fn find_operation_by_id(
        &self,
        id: &OperationId,
    ) -> Result<Option<OperationRow>, DatabaseError> {
        let row = sqlx::query(
            "SELECT * FROM operations WHERE operation = $1 ORDER BY created_us DESC LIMIT 1",
        )
        .bind(id.to_string())
        .fetch_optional(&self.0.readers)
        .await
        .map_err(failed("read an operation"))?;
        row.as_ref().map(operation).transpose()
    }

    /// The calls that are running or captured, oldest first.
    pub async fn unfinished_operations(&self) -> Result<Vec<OperationRow>, DatabaseError> {
        let rows = sqlx::query(
            "SELECT * FROM operations WHERE state IN ('running', 'captured') \
             ORDER BY created_us, key",
        )
        .fetch_all(&self.0.readers)
        .await
        .map_err(failed("read the operations"))?;
        rows.iter().map(operation).collect()
    }

    /// Forgets the calls that ended before `before_us`.
    pub async fn delete_operations(&self, before_us: i64) -> Result<(), DatabaseError> {
        sqlx::query("DELETE FROM operations WHERE state IN ('done', 'failed') AND updated_us < $1")
            .bind(before_us)
            .execute(&self.0.writer)
            .await
            .map_err(failed("delete operations"))?;
        Ok(())
    }

    /// Forgets the calls that were interrupted before `before_us`, and were not asked for again. Only
    /// while none runs.
    pub async fn delete_interrupted_operations(&self, before_us: i64) -> Result<(), DatabaseError> {
        sqlx::query("DELETE FROM operations WHERE state = 'running' AND updated_us < $1")
            .bind(before_us)
            .execute(&self.0.writer)
            .await
            .map_err(failed("delete operations"))?;
        Ok(())
    }

    /// Adds records to the end of the audit log, all or none, in one transaction.
    pub async fn append_audit(&self, records: Vec<AuditRecord>) -> Result<(), DatabaseError> {
        let failed = || failed("write the audit log");
        let mut transaction = self.0.writer.begin().await.map_err(failed())?;
        append(&mut transaction, records).await?;
        transaction.commit().await.map_err(failed())
    }

    /// At most `count` records after the one numbered `after`, in order.
    pub async fn audit(&self, after: i64, count: u32) -> Result<Vec<AuditRow>, DatabaseError> {
        let rows = sqlx::query("SELECT * FROM audit WHERE seq > $1 ORDER BY seq LIMIT $2")
            .bind(after)
            .bind(i64::from(count))
            .fetch_all(&self.0.readers)
            .await
            .map_err(failed("read the audit log"))?;
        rows.iter().map(audit).collect()
    }

    /// Checks that every record continues the one before it, and says how many there are.
    ///
    /// # Errors
    ///
    /// [`DatabaseError::BrokenChain`] names the first record that does not.
    pub async fn verify_audit(&self) -> Result<u64, DatabaseError> {
        let mut last = None;
        let mut count = 0;
        loop {
            let rows = self.audit(last.map_or(0, |(seq, _)| seq), 1_000).await?;
            if rows.is_empty() {
                return Ok(count);
            }
            for row in rows {
                let expected = AuditRow::after(last, row.record.clone());
                if row != expected {
                    return Err(DatabaseError::BrokenChain { seq: expected.seq });
                }
                last = Some((row.seq, row.digest));
                count += 1;
            }
        }
    }
}

/// The columns of `projects`, as every statement names them.
const PROJECT_INSERT: &str = "INSERT INTO projects (id, slug, name, volume, state, created_us, \
     trashed_us, document, verified_us, verified_problems, verified_level, verified_part, \
     verified_of) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";

/// A project that is there already takes all but its check's end from the row.
const PROJECT_PUT: &str = "INSERT INTO projects (id, slug, name, volume, state, created_us, \
     trashed_us, document, verified_us, verified_problems, verified_level, verified_part, \
     verified_of) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) \
     ON CONFLICT (id) DO UPDATE SET slug = excluded.slug, name = excluded.name, \
     volume = excluded.volume, state = excluded.state, created_us = excluded.created_us, \
     trashed_us = excluded.trashed_us, document = excluded.document";

async fn insert_project(
    writer: &mut SqliteConnection,
    row: &ProjectRow,
) -> Result<(), DatabaseError> {
    write_project(writer, PROJECT_INSERT, row).await
}

async fn put_project(writer: &mut SqliteConnection, row: &ProjectRow) -> Result<(), DatabaseError> {
    write_project(writer, PROJECT_PUT, row).await
}

async fn write_project(
    writer: &mut SqliteConnection,
    statement: &'static str,
    row: &ProjectRow,
) -> Result<(), DatabaseError> {
    sqlx::query(statement)
        .bind(row.id.as_str())
        .bind(row.slug.as_str())
        .bind(row.name.as_str())
        .bind(row.volume.as_str())
        .bind(row.state.as_str())
        .bind(row.created_us)
        .bind(row.trashed_us)
        .bind(row.document.as_str())
        .bind(row.verified.map(|verified| verified.at_us))
        .bind(row.verified.map(|verified| crate::connections::stored(verified.problems)))
        .bind(row.verified.map(|verified| i64::from(verified.level)))
        .bind(row.verified.and_then(|verified| Some(i64::from(verified.part?.0))))
        .bind(row.verified.and_then(|verified| Some(i64::from(verified.part?.1))))
        .execute(writer)
        .await
        .map_err(exists_or_failed("write a project", || format!("project {}", row.slug)))?;
    Ok(())
}

/// Continues the chain.
async fn append(
    writer: &mut SqliteConnection,
    records: impl IntoIterator<Item = AuditRecord>,
) -> Result<(), DatabaseError> {
    let last = sqlx::query("SELECT * FROM audit ORDER BY seq DESC LIMIT 1")
        .fetch_optional(&mut *writer)
        .await
        .map_err(failed("read the audit log"))?;
    let last = last.as_ref().map(audit).transpose()?;
    let mut last = last.map(|row| (row.seq, row.digest));
    for record in records {
        let row = AuditRow::after(last, record);
        insert_audit(writer, &row).await?;
        last = Some((row.seq, row.digest));
    }
    Ok(())
}

async fn insert_audit(writer: &mut SqliteConnection, row: &AuditRow) -> Result<(), DatabaseError> {
    sqlx::query(
        "INSERT INTO audit (seq, at_us, principal, action, resource, outcome, request_id, \
         previous, digest) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(row.seq)
    .bind(row.record.at_us)
    .bind(row.record.principal.as_str())
    .bind(row.record.action.as_str())
    .bind(row.record.resource.as_str())
    .bind(row.record.outcome.as_str())
    .bind(row.record.request_id.as_str())
    .bind(row.previous.to_string())
    .bind(row.digest.to_string())
    .execute(writer)
    .await
    .map_err(failed("write the audit log"))?;
    Ok(())
}

fn project(row: &SqliteRow) -> Result<ProjectRow, DatabaseError> {
    Ok(ProjectRow {
        id: parsed(row, "projects", "id")?,
        slug: parsed(row, "projects", "slug")?,
        name: text(row, "projects", "name")?,
        volume: parsed(row, "projects", "volume")?,
        state: parsed(row, "projects", "state")?,
        created_us: integer(row, "projects", "created_us")?,
        trashed_us: integer_or_null(row, "projects", "trashed_us")?,
        document: text(row, "projects", "document")?,
        verified: verified(row)?,
    })
}

fn verified(row: &SqliteRow) -> Result<Option<Verified>, DatabaseError> {
    let number = |column| {
        let value = integer_or_null(row, "projects", column)?;
        Ok(value.and_then(|value| u32::try_from(value).ok()))
    };
    let at_us = integer_or_null(row, "projects", "verified_us")?;
    let problems = integer_or_null(row, "projects", "verified_problems")?;
    let problems = problems.and_then(|count| u64::try_from(count).ok());
    let part = number("verified_part")?.zip(number("verified_of")?);
    let level = number("verified_level")?;
    let known = at_us.zip(problems).zip(level);
    Ok(known.map(|((at_us, problems), level)| Verified { at_us, problems, level, part }))
}

fn operation(row: &SqliteRow) -> Result<OperationRow, DatabaseError> {
    Ok(OperationRow {
        key: text(row, "operations", "key")?,
        principal: text(row, "operations", "principal")?,
        operation: parsed(row, "operations", "operation")?,
        request: bytes(row, "operations", "request")?,
        kind: text(row, "operations", "kind")?,
        volume: parsed_or_null(row, "operations", "volume")?,
        entry: parsed_or_null(row, "operations", "entry")?,
        state: parsed(row, "operations", "state")?,
        result: text_or_null(row, "operations", "result")?,
        error: text_or_null(row, "operations", "error")?,
        created_us: integer(row, "operations", "created_us")?,
        updated_us: integer(row, "operations", "updated_us")?,
    })
}

fn audit(row: &SqliteRow) -> Result<AuditRow, DatabaseError> {
    Ok(AuditRow {
        seq: integer(row, "audit", "seq")?,
        record: AuditRecord {
            at_us: integer(row, "audit", "at_us")?,
            principal: text(row, "audit", "principal")?,
            action: text(row, "audit", "action")?,
            resource: text(row, "audit", "resource")?,
            outcome: text(row, "audit", "outcome")?,
            request_id: text(row, "audit", "request_id")?,
        },
        previous: parsed(row, "audit", "previous")?,
        digest: parsed(row, "audit", "digest")?,
    })
}

#[cfg(test)]
mod tests;
