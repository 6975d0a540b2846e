//! What a node knows: heads, copies, snapshots, operations.

use std::path::Path;

use cove_types::{Digest, EntryId, OperationId, VolumeId};
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use crate::DatabaseError;
use crate::connections::{
    Connections, Schema, bytes, integer, integer_or_null, parsed, parsed_or_null, stored, text,
    text_of, text_or_null, unsigned,
};
use crate::error::{exists_or_failed, failed};

mod held;

const SCHEMA: Schema = Schema {
    name: "node",
    migrations: &[
        include_str!("../migrations/node/0001.sql"),
        include_str!("../migrations/node/0002.sql"),
    ],
};

/// A head, as last acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadRow {
    /// The volume.
    pub volume: VolumeId,
    /// What the object store calls this version of it (its etag).
    pub version: String,
    /// The object's bytes.
    pub body: Vec<u8>,
    /// When it was acknowledged.
    pub saved_us: i64,
}

/// The completion record of a volume's copy here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyRow {
    /// The volume.
    pub volume: VolumeId,
    /// `stored/<volume>.<base>` is the snapshot whose tree is the last commit.
    pub base: OperationId,
    /// The tree of the last commit.
    pub tree: Digest,
    /// The head's seq at the last commit.
    pub seq: u32,
    /// The subvolume's generation at the last look.
    pub generation: u64,
    /// Plain bytes changed since the last commit, as of the last look; absent where nobody counted.
    pub unsaved_bytes: Option<u64>,
    /// When that look was.
    pub looked_us: i64,
}

/// A read-only snapshot below `stored/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRow {
    /// The volume.
    pub volume: VolumeId,
    /// The operation it was made for; with the volume, its name.
    pub operation: OperationId,
    /// The entry that it is.
    pub entry: Option<EntryId>,
    /// The digest of the tree, as text; absent until it is stored.
    pub root: Option<String>,
    /// When it was made.
    pub captured_us: i64,
}

/// An operation whose end is not known yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingRow {
    /// Its id.
    pub operation: OperationId,
    /// The volume that it changes.
    pub volume: VolumeId,
    /// Which call.
    pub kind: String,
    /// Who asks.
    pub principal: String,
    /// What the id is bound to.
    pub request: Vec<u8>,
    /// What is needed to go on with it, as JSON.
    pub body: String,
    /// Since when.
    pub created_us: i64,
}

/// What an operation came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultRow {
    /// Its id.
    pub operation: OperationId,
    /// The volume that it changed.
    pub volume: VolumeId,
    /// What the id is bound to.
    pub request: Vec<u8>,
    /// The result, as JSON.
    pub result: String,
    /// The head's seq with it.
    pub seq: u32,
    /// When.
    pub at_us: i64,
}

/// A subvolume that a restore swapped out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscardedRow {
    /// The restore.
    pub operation: OperationId,
    /// The volume it was of.
    pub volume: VolumeId,
    /// Its generation at the last look.
    pub generation: u64,
    /// The rescue entry that holds what was written late.
    pub entry: Option<EntryId>,
    /// When it was swapped out.
    pub moved_us: i64,
}

/// What is written together when an operation ends.
#[derive(Debug, Clone, Default)]
pub struct Finished {
    /// Operations that are not pending any more.
    pub operations: Vec<OperationId>,
    /// Operations that are pending from now on.
    pub pending: Vec<PendingRow>,
    /// The head as acknowledged.
    pub heads: Vec<HeadRow>,
    /// The copies' completion records.
    pub copies: Vec<CopyRow>,
    /// Snapshots, new or with their root.
    pub stored: Vec<StoredRow>,
    /// Swapped-out subvolumes.
    pub discarded: Vec<DiscardedRow>,
    /// What the operations came to.
    pub results: Vec<ResultRow>,
    /// Volumes whose heads are none any more.
    pub heads_gone: Vec<VolumeId>,
    /// Volumes of which no copy is here any more.
    pub copies_gone: Vec<VolumeId>,
}

/// The database of a node, `node.db`. Cloning shares its connections.
#[derive(Debug, Clone)]
pub struct NodeDatabase(Connections);

impl NodeDatabase {
    /// Opens or creates it.
    ///
    /// # Errors
    ///
    /// A database of a newer version is refused untouched (`Precondition`).
    pub async fn open(path: &Path) -> Result<Self, DatabaseError> {
        Connections::open(path, &SCHEMA).await.map(Self)
    }

    /// Waits for running statements and closes the file.
    pub async fn close(&self) {
        self.0.close().await;
    }

    /// Writes all of it in one transaction and takes the operations off the pending ones.
    ///
    /// Rows that are there already are replaced, so a repetition changes nothing.
    ///
    /// # Errors
    ///
    /// Nothing of it was written; so too when an operation that is to begin is pending already
    /// (`AlreadyExists`).
    pub async fn finish(&self, finished: &Finished) -> Result<(), DatabaseError> {
        let failed = || failed("write the end of an operation");
        let mut transaction = self.0.writer.begin().await.map_err(failed())?;
        for row in &finished.heads {
            put_head(&mut transaction, row).await?;
        }
        for row in &finished.copies {
            put_copy(&mut transaction, row).await?;
        }
        for row in &finished.stored {
            put_stored(&mut transaction, row).await?;
        }
        for row in &finished.discarded {
            put_discarded(&mut transaction, row).await?;
        }
        for row in &finished.results {
            put_result(&mut transaction, row).await?;
        }
        for volume in &finished.heads_gone {
            let gone = sqlx::query("DELETE FROM heads WHERE volume = $1").bind(volume.as_str());
            gone.execute(&mut *transaction).await.map_err(failed())?;
        }
        for volume in &finished.copies_gone {
            let gone = sqlx::query("DELETE FROM copies WHERE volume = $1").bind(volume.as_str());
            gone.execute(&mut *transaction).await.map_err(failed())?;
        }
        for operation in &finished.operations {
            delete_pending(&mut transaction, operation).await?;
        }
        for row in &finished.pending {
            insert_pending(&mut transaction, row).await?;
        }
        transaction.commit().await.map_err(failed())
    }

    /// Writes a head, in place of an older one.
    pub async fn put_head(&self, row: &HeadRow) -> Result<(), DatabaseError> {
        let mut writer = self.0.writer.acquire().await.map_err(failed("write a head"))?;
        put_head(&mut writer, row).await
    }

    /// The head of `volume`.
    pub async fn find_head(&self, volume: &VolumeId) -> Result<Option<HeadRow>, DatabaseError> {
        let row = sqlx::query("SELECT * FROM heads WHERE volume = $1")
            .bind(volume.as_str())
            .fetch_optional(&self.0.readers)
            .await
            .map_err(failed("read a head"))?;
        row.as_ref().map(head).transpose()
    }

    /// All heads, by volume.
    pub async fn heads(&self) -> Result<Vec<HeadRow>, DatabaseError> {
        let rows = sqlx::query("SELECT * FROM heads ORDER BY volume")
            .fetch_all(&self.0.readers)
            .await
            .map_err(failed("read the heads"))?;
        rows.iter().map(head).collect()
    }

    /// Forgets the head of `volume`.
    pub async fn delete_head(&self, volume: &VolumeId) -> Result<(), DatabaseError> {
        self.delete("DELETE FROM heads WHERE volume = $1", volume.as_str(), "delete a head").await
    }

    /// Writes a completion record, in place of an older one.
    pub async fn put_copy(&self, row: &CopyRow) -> Result<(), DatabaseError> {
        let mut writer = self.0.writer.acquire().await.map_err(failed("write a copy"))?;
        put_copy(&mut writer, row).await
    }

    /// The completion record of `volume`.
    pub async fn find_copy(&self, volume: &VolumeId) -> Result<Option<CopyRow>, DatabaseError> {
        let row = sqlx::query("SELECT * FROM copies WHERE volume = $1")
            .bind(volume.as_str())
            .fetch_optional(&self.0.readers)
            .await
            .map_err(failed("read a copy"))?;
        row.as_ref().map(copy).transpose()
    }

    /// All completion records, by volume.
    pub async fn copies(&self) -> Result<Vec<CopyRow>, DatabaseError> {
        let rows = sqlx::query("SELECT * FROM copies ORDER BY volume")
            .fetch_all(&self.0.readers)
            .await
            .map_err(failed("read the copies"))?;
        rows.iter().map(copy).collect()
    }

    /// Forgets the completion record of `volume`.
    pub async fn delete_copy(&self, volume: &VolumeId) -> Result<(), DatabaseError> {
        self.delete("DELETE FROM copies WHERE volume = $1", volume.as_str(), "delete a copy").await
    }

    /// Writes a snapshot's row, in place of an older one.
    pub async fn put_stored(&self, row: &StoredRow) -> Result<(), DatabaseError> {
        let mut writer = self.0.writer.acquire().await.map_err(failed("write a snapshot"))?;
        put_stored(&mut writer, row).await
    }

    /// The snapshots of `volume`, oldest first.
    pub async fn stored(&self, volume: &VolumeId) -> Result<Vec<StoredRow>, DatabaseError> {
        let rows =
            sqlx::query("SELECT * FROM stored WHERE volume = $1 ORDER BY captured_us, operation")
                .bind(volume.as_str())
                .fetch_all(&self.0.readers)
                .await
                .map_err(failed("read the snapshots"))?;
        rows.iter().map(stored_row).collect()
    }

    /// All snapshots, by volume, oldest first.
    pub async fn all_stored(&self) -> Result<Vec<StoredRow>, DatabaseError> {
        let rows = sqlx::query("SELECT * FROM stored ORDER BY volume, captured_us, operation")
            .fetch_all(&self.0.readers)
            .await
            .map_err(failed("read the snapshots"))?;
        rows.iter().map(stored_row).collect()
    }

    /// Says which tree a snapshot is: its digest, as text.
    ///
    /// # Errors
    ///
    /// The snapshot has no row (`NotFound`).
    pub async fn set_root(
        &self,
        volume: &VolumeId,
        operation: &OperationId,
        root: &str,
    ) -> Result<(), DatabaseError> {
        let done = sqlx::query("UPDATE stored SET root = $3 WHERE volume = $1 AND operation = $2")
            .bind(volume.as_str())
            .bind(operation.to_string())
            .bind(root)
            .execute(&self.0.writer)
            .await
            .map_err(failed("write a snapshot's root"))?;
        present(done.rows_affected(), || format!("snapshot {volume}.{operation}"))
    }

    /// Forgets a snapshot.
    pub async fn delete_stored(
        &self,
        volume: &VolumeId,
        operation: &OperationId,
    ) -> Result<(), DatabaseError> {
        sqlx::query("DELETE FROM stored WHERE volume = $1 AND operation = $2")
            .bind(volume.as_str())
            .bind(operation.to_string())
            .execute(&self.0.writer)
            .await
            .map_err(failed("delete a snapshot"))?;
        Ok(())
    }

    /// Writes down that an operation begins.
    ///
    /// # Errors
    ///
    /// The operation is pending already (`AlreadyExists`).
    pub async fn insert_pending(&self, row: &PendingRow) -> Result<(), DatabaseError> {
        let what = "write a pending operation";
        let mut writer = self.0.writer.acquire().await.map_err(failed(what))?;
        insert_pending(&mut writer, row).await
    }

    /// The pending operation `operation`.
    pub async fn find_pending(
        &self,
        operation: &OperationId,
    ) -> Result<Option<PendingRow>, DatabaseError> {
        let row = sqlx::query("SELECT * FROM pending WHERE operation = $1")
            .bind(operation.to_string())
            .fetch_optional(&self.0.readers)
            .await
            .map_err(failed("read a pending operation"))?;
        row.as_ref().map(pending).transpose()
    }

    /// All pending operations, in the order in which they were written down, whatever the clock said.
    pub async fn pending(&self) -> Result<Vec<PendingRow>, DatabaseError> {
        let rows = sqlx::query("SELECT * FROM pending ORDER BY rowid")
            .fetch_all(&self.0.readers)
            .await
            .map_err(failed("read the pending operations"))?;
        rows.iter().map(pending).collect()
    }

    /// Replaces what is needed to go on with an operation (JSON).
    ///
    /// # Errors
    ///
    /// The operation is not pending (`NotFound`).
    pub async fn update_pending(
        &self,
        operation: &OperationId,
        body: &str,
    ) -> Result<(), DatabaseError> {
        let done = sqlx::query("UPDATE pending SET body = $2 WHERE operation = $1")
            .bind(operation.to_string())
            .bind(body)
            .execute(&self.0.writer)
            .await
            .map_err(failed("write a pending operation"))?;
        present(done.rows_affected(), || format!("operation {operation}"))
    }

    /// Takes an operation off the pending ones without a result.
    pub async fn delete_pending(&self, operation: &OperationId) -> Result<(), DatabaseError> {
        let what = "delete a pending operation";
        let mut writer = self.0.writer.acquire().await.map_err(failed(what))?;
        delete_pending(&mut writer, operation).await
    }

    /// What `operation` came to.
    pub async fn find_result(
        &self,
        operation: &OperationId,
    ) -> Result<Option<ResultRow>, DatabaseError> {
        let row = sqlx::query("SELECT * FROM results WHERE operation = $1")
            .bind(operation.to_string())
            .fetch_optional(&self.0.readers)
            .await
            .map_err(failed("read a result"))?;
        row.as_ref().map(result).transpose()
    }

    /// Forgets the results of before `before_us`.
    pub async fn delete_results(&self, before_us: i64) -> Result<(), DatabaseError> {
        sqlx::query("DELETE FROM results WHERE at_us < $1")
            .bind(before_us)
            .execute(&self.0.writer)
            .await
            .map_err(failed("delete results"))?;
        Ok(())
    }

    /// Writes the row of a swapped-out subvolume, in place of an older one.
    pub async fn put_discarded(&self, row: &DiscardedRow) -> Result<(), DatabaseError> {
        let what = "write a swapped-out subvolume";
        let mut writer = self.0.writer.acquire().await.map_err(failed(what))?;
        put_discarded(&mut writer, row).await
    }

    /// All swapped-out subvolumes, oldest first.
    pub async fn discarded(&self) -> Result<Vec<DiscardedRow>, DatabaseError> {
        let rows = sqlx::query("SELECT * FROM discarded ORDER BY moved_us, operation")
            .fetch_all(&self.0.readers)
            .await
            .map_err(failed("read the swapped-out subvolumes"))?;
        rows.iter().map(discarded).collect()
    }

    /// Forgets a swapped-out subvolume.
    pub async fn delete_discarded(&self, operation: &OperationId) -> Result<(), DatabaseError> {
        let statement = "DELETE FROM discarded WHERE operation = $1";
        self.delete(statement, &operation.to_string(), "delete a swapped-out subvolume").await
    }

    /// Writes a setting.
    pub async fn put_setting(&self, name: &str, value: &str) -> Result<(), DatabaseError> {
        sqlx::query(
            "INSERT INTO settings (name, value) VALUES ($1, $2) \
             ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        )
        .bind(name)
        .bind(value)
        .execute(&self.0.writer)
        .await
        .map_err(failed("write a setting"))?;
        Ok(())
    }

    /// A setting.
    pub async fn find_setting(&self, name: &str) -> Result<Option<String>, DatabaseError> {
        let row = sqlx::query("SELECT value FROM settings WHERE name = $1")
            .bind(name)
            .fetch_optional(&self.0.readers)
            .await
            .map_err(failed("read a setting"))?;
        row.map(|row| text(&row, "settings", "value")).transpose()
    }

    async fn delete(
        &self,
        statement: &'static str,
        key: &str,
        what: &'static str,
    ) -> Result<(), DatabaseError> {
        sqlx::query(statement).bind(key).execute(&self.0.writer).await.map_err(failed(what))?;
        Ok(())
    }
}

/// An update that met no row.
fn present(rows: u64, what: impl FnOnce() -> String) -> Result<(), DatabaseError> {
    if rows == 0 { Err(DatabaseError::Absent { what: what() }) } else { Ok(()) }
}

async fn put_head(writer: &mut SqliteConnection, row: &HeadRow) -> Result<(), DatabaseError> {
    sqlx::query(
        "INSERT INTO heads (volume, version, body, saved_us) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (volume) DO UPDATE SET version = excluded.version, body = excluded.body, \
         saved_us = excluded.saved_us",
    )
    .bind(row.volume.as_str())
    .bind(row.version.as_str())
    .bind(row.body.as_slice())
    .bind(row.saved_us)
    .execute(writer)
    .await
    .map_err(failed("write a head"))?;
    Ok(())
}

async fn put_copy(writer: &mut SqliteConnection, row: &CopyRow) -> Result<(), DatabaseError> {
    sqlx::query(
        "INSERT INTO copies (volume, base, tree, seq, generation, unsaved_bytes, looked_us) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) \
         ON CONFLICT (volume) DO UPDATE SET base = excluded.base, tree = excluded.tree, \
         seq = excluded.seq, generation = excluded.generation, \
         unsaved_bytes = excluded.unsaved_bytes, looked_us = excluded.looked_us",
    )
    .bind(row.volume.as_str())
    .bind(row.base.to_string())
    .bind(row.tree.to_string())
    .bind(i64::from(row.seq))
    .bind(stored(row.generation))
    .bind(row.unsaved_bytes.map(stored))
    .bind(row.looked_us)
    .execute(writer)
    .await
    .map_err(failed("write a copy"))?;
    Ok(())
}

async fn put_stored(writer: &mut SqliteConnection, row: &StoredRow) -> Result<(), DatabaseError> {
    sqlx::query(
        "INSERT INTO stored (volume, operation, entry, root, captured_us) \
         VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (volume, operation) DO UPDATE SET entry = excluded.entry, \
         root = excluded.root, captured_us = excluded.captured_us",
    )
    .bind(row.volume.as_str())
    .bind(row.operation.to_string())
    .bind(text_of(row.entry.as_ref()))
    .bind(row.root.as_deref())
    .bind(row.captured_us)
    .execute(writer)
    .await
    .map_err(failed("write a snapshot"))?;
    Ok(())
}

async fn put_discarded(
    writer: &mut SqliteConnection,
    row: &DiscardedRow,
) -> Result<(), DatabaseError> {
    sqlx::query(
        "INSERT INTO discarded (operation, volume, generation, entry, moved_us) \
         VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (operation) DO UPDATE SET volume = excluded.volume, \
         generation = excluded.generation, entry = excluded.entry, moved_us = excluded.moved_us",
    )
    .bind(row.operation.to_string())
    .bind(row.volume.as_str())
    .bind(stored(row.generation))
    .bind(text_of(row.entry.as_ref()))
    .bind(row.moved_us)
    .execute(writer)
    .await
    .map_err(failed("write a swapped-out subvolume"))?;
    Ok(())
}

/// The first result of an operation stays: a second one is not written.
async fn put_result(writer: &mut SqliteConnection, row: &ResultRow) -> Result<(), DatabaseError> {
    sqlx::query(
        "INSERT INTO results (operation, volume, request, result, seq, at_us) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (operation) DO NOTHING",
    )
    .bind(row.operation.to_string())
    .bind(row.volume.as_str())
    .bind(row.request.as_slice())
    .bind(row.result.as_str())
    .bind(i64::from(row.seq))
    .bind(row.at_us)
    .execute(writer)
    .await
    .map_err(failed("write a result"))?;
    Ok(())
}

async fn insert_pending(
    writer: &mut SqliteConnection,
    row: &PendingRow,
) -> Result<(), DatabaseError> {
    sqlx::query(
        "INSERT INTO pending (operation, volume, kind, principal, request, body, created_us) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(row.operation.to_string())
    .bind(row.volume.as_str())
    .bind(row.kind.as_str())
    .bind(row.principal.as_str())
    .bind(row.request.as_slice())
    .bind(row.body.as_str())
    .bind(row.created_us)
    .execute(writer)
    .await
    .map_err(exists_or_failed("write a pending operation", || {
        format!("operation {}", row.operation)
    }))?;
    Ok(())
}

async fn delete_pending(
    writer: &mut SqliteConnection,
    operation: &OperationId,
) -> Result<(), DatabaseError> {
    sqlx::query("DELETE FROM pending WHERE operation = $1")
        .bind(operation.to_string())
        .execute(writer)
        .await
        .map_err(failed("delete a pending operation"))?;
    Ok(())
}

fn head(row: &SqliteRow) -> Result<HeadRow, DatabaseError> {
    Ok(HeadRow {
        volume: parsed(row, "heads", "volume")?,
        version: text(row, "heads", "version")?,
        body: bytes(row, "heads", "body")?,
        saved_us: integer(row, "heads", "saved_us")?,
    })
}

fn copy(row: &SqliteRow) -> Result<CopyRow, DatabaseError> {
    let unsaved = integer_or_null(row, "copies", "unsaved_bytes")?;
    Ok(CopyRow {
        volume: parsed(row, "copies", "volume")?,
        base: parsed(row, "copies", "base")?,
        tree: parsed(row, "copies", "tree")?,
        seq: unsigned(row, "copies", "seq")?,
        generation: unsigned(row, "copies", "generation")?,
        unsaved_bytes: unsaved.and_then(|bytes| u64::try_from(bytes).ok()),
        looked_us: integer(row, "copies", "looked_us")?,
    })
}

fn stored_row(row: &SqliteRow) -> Result<StoredRow, DatabaseError> {
    Ok(StoredRow {
        volume: parsed(row, "stored", "volume")?,
        operation: parsed(row, "stored", "operation")?,
        entry: parsed_or_null(row, "stored", "entry")?,
        root: text_or_null(row, "stored", "root")?,
        captured_us: integer(row, "stored", "captured_us")?,
    })
}

fn pending(row: &SqliteRow) -> Result<PendingRow, DatabaseError> {
    Ok(PendingRow {
        operation: parsed(row, "pending", "operation")?,
        volume: parsed(row, "pending", "volume")?,
        kind: text(row, "pending", "kind")?,
        principal: text(row, "pending", "principal")?,
        request: bytes(row, "pending", "request")?,
        body: text(row, "pending", "body")?,
        created_us: integer(row, "pending", "created_us")?,
    })
}

fn result(row: &SqliteRow) -> Result<ResultRow, DatabaseError> {
    Ok(ResultRow {
        operation: parsed(row, "results", "operation")?,
        volume: parsed(row, "results", "volume")?,
        request: bytes(row, "results", "request")?,
        result: text(row, "results", "result")?,
        seq: unsigned(row, "results", "seq")?,
        at_us: integer(row, "results", "at_us")?,
    })
}

fn discarded(row: &SqliteRow) -> Result<DiscardedRow, DatabaseError> {
    Ok(DiscardedRow {
        operation: parsed(row, "discarded", "operation")?,
        volume: parsed(row, "discarded", "volume")?,
        generation: unsigned(row, "discarded", "generation")?,
        entry: parsed_or_null(row, "discarded", "entry")?,
        moved_us: integer(row, "discarded", "moved_us")?,
    })
}

#[cfg(test)]
mod tests;
