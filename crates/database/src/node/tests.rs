use super::*;
use cove_types::{Classify, ErrorKind};

async fn open(directory: &tempfile::TempDir) -> NodeDatabase {
    NodeDatabase::open(&directory.path().join("node.db")).await.unwrap()
}

fn volume(name: &str) -> VolumeId {
    name.parse().unwrap()
}

fn operation(n: u8) -> OperationId {
    OperationId([n; 16])
}

fn head_of(name: &str) -> HeadRow {
    HeadRow { volume: volume(name), version: "\"e1\"".into(), body: vec![1, 2], saved_us: 7 }
}

fn copy_of(name: &str) -> CopyRow {
    CopyRow {
        volume: volume(name),
        base: operation(1),
        tree: Digest::of(b"tree"),
        seq: u32::MAX,
        generation: 9,
        unsaved_bytes: None,
        looked_us: 8,
    }
}

fn stored_of(name: &str, n: u8) -> StoredRow {
    StoredRow {
        volume: volume(name),
        operation: operation(n),
        entry: Some(EntryId::derive(&operation(n), "snapshot")),
        root: None,
        captured_us: i64::from(n),
    }
}

fn pending_of(name: &str, n: u8) -> PendingRow {
    PendingRow {
        operation: operation(n),
        volume: volume(name),
        kind: "snapshot".into(),
        principal: "owner".into(),
        request: vec![3; 8],
        body: "{}".into(),
        created_us: i64::from(n),
    }
}

fn result_of(name: &str, n: u8, text: &str) -> ResultRow {
    ResultRow {
        operation: operation(n),
        volume: volume(name),
        request: vec![3; 8],
        result: text.into(),
        seq: 4,
        at_us: 5,
    }
}

#[tokio::test]
async fn what_was_written_survives_a_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let database = open(&directory).await;
    database.put_head(&head_of("a")).await.unwrap();
    database.put_copy(&copy_of("a")).await.unwrap();
    database.put_stored(&stored_of("a", 1)).await.unwrap();
    database.insert_pending(&pending_of("a", 2)).await.unwrap();
    let discarded = DiscardedRow {
        operation: operation(3),
        volume: volume("a"),
        generation: 5,
        entry: None,
        moved_us: 6,
    };
    database.put_discarded(&discarded).await.unwrap();
    database.put_setting("node", "n1").await.unwrap();
    database.close().await;

    let database = open(&directory).await;
    assert_eq!(database.find_head(&volume("a")).await.unwrap(), Some(head_of("a")));
    assert_eq!(database.find_copy(&volume("a")).await.unwrap(), Some(copy_of("a")));
    assert_eq!(database.stored(&volume("a")).await.unwrap(), [stored_of("a", 1)]);
    assert_eq!(database.pending().await.unwrap(), [pending_of("a", 2)]);
    assert_eq!(database.discarded().await.unwrap(), [discarded]);
    assert_eq!(database.find_setting("node").await.unwrap().as_deref(), Some("n1"));
}

#[tokio::test]
async fn an_acknowledged_write_survives_a_power_cut() {
    let directory = tempfile::tempdir().unwrap();
    let database = open(&directory).await;
    assert_eq!(database.0.pragma("PRAGMA journal_mode").await, "wal");
    // 2 is FULL: the log is synced at each commit.
    assert_eq!(database.0.pragma("PRAGMA synchronous").await, "2");
    assert_eq!(database.0.pragma("PRAGMA foreign_keys").await, "1");
    assert_eq!(database.0.pragma("PRAGMA busy_timeout").await, "10000");
}

#[tokio::test]
async fn work_that_begins_with_what_it_is_of_is_written_whole_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let database = open(&directory).await;
    let finished = Finished {
        heads: vec![head_of("a")],
        stored: vec![stored_of("a", 1)],
        pending: vec![pending_of("a", 1), pending_of("a", 2)],
        ..Finished::default()
    };
    database.insert_pending(&pending_of("a", 2)).await.unwrap();
    let error = database.finish(&finished).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!(database.heads().await.unwrap(), []);
    assert_eq!(database.pending().await.unwrap(), [pending_of("a", 2)]);
    database.delete_pending(&operation(2)).await.unwrap();
    database.finish(&finished).await.unwrap();
    assert_eq!(database.pending().await.unwrap(), [pending_of("a", 1), pending_of("a", 2)]);
    assert_eq!(database.heads().await.unwrap(), [head_of("a")]);
}

#[tokio::test]
async fn an_operation_that_is_pending_is_not_begun_again() {
    let directory = tempfile::tempdir().unwrap();
    let database = open(&directory).await;
    database.insert_pending(&pending_of("a", 1)).await.unwrap();
    let error = database.insert_pending(&pending_of("b", 1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!(database.find_pending(&operation(1)).await.unwrap(), Some(pending_of("a", 1)));
}

#[tokio::test]
async fn the_end_of_an_operation_is_written_whole() {
    let directory = tempfile::tempdir().unwrap();
    let database = open(&directory).await;
    database.insert_pending(&pending_of("a", 1)).await.unwrap();
    let finished = Finished {
        pending: Vec::new(),
        operations: vec![operation(1)],
        heads: vec![head_of("a")],
        copies: vec![copy_of("a")],
        stored: vec![StoredRow { root: Some("{}".into()), ..stored_of("a", 1) }],
        discarded: Vec::new(),
        results: vec![result_of("a", 1, "\"first\"")],
        heads_gone: Vec::new(),
        copies_gone: Vec::new(),
    };
    database.finish(&finished).await.unwrap();
    database.finish(&finished).await.unwrap();
    assert_eq!(database.pending().await.unwrap(), []);
    assert_eq!(database.heads().await.unwrap(), [head_of("a")]);
    assert_eq!(database.copies().await.unwrap(), [copy_of("a")]);
    assert_eq!(database.all_stored().await.unwrap(), finished.stored);

    database.put_head(&head_of("b")).await.unwrap();
    let gone = vec![volume("a")];
    let finished = Finished { heads_gone: gone.clone(), copies_gone: gone, ..Finished::default() };
    database.finish(&finished).await.unwrap();
    assert_eq!(database.heads().await.unwrap(), [head_of("b")]);
    assert_eq!(database.copies().await.unwrap(), []);
}

#[tokio::test]
async fn the_first_result_of_an_operation_stays() {
    let directory = tempfile::tempdir().unwrap();
    let database = open(&directory).await;
    for text in ["\"first\"", "\"second\""] {
        let results = vec![result_of("a", 1, text)];
        database.finish(&Finished { results, ..Finished::default() }).await.unwrap();
    }
    let found = database.find_result(&operation(1)).await.unwrap().unwrap();
    assert_eq!(found.result, "\"first\"");
}

#[tokio::test]
async fn deleting_what_is_gone_succeeds_and_changing_it_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let database = open(&directory).await;
    database.delete_head(&volume("a")).await.unwrap();
    database.delete_copy(&volume("a")).await.unwrap();
    database.delete_stored(&volume("a"), &operation(1)).await.unwrap();
    database.delete_pending(&operation(1)).await.unwrap();
    database.delete_discarded(&operation(1)).await.unwrap();
    let error = database
        .set_root(&volume("a"), &operation(1), &Digest::of(b"tree").to_string())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let error = database.update_pending(&operation(1), "{}").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused_untouched() {
    let directory = tempfile::tempdir().unwrap();
    let database = open(&directory).await;
    sqlx::query("INSERT INTO schema (name, version) VALUES ('node', 99)")
        .execute(&database.0.writer)
        .await
        .unwrap();
    database.close().await;
    let path = directory.path().join("node.db");
    let before = std::fs::read(&path).unwrap();
    let error = NodeDatabase::open(&path).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Precondition);
    assert!(error.to_string().contains("version 99"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn what_is_no_database_of_a_node_is_refused_untouched() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("node.db");
    crate::ServerDatabase::open(&path).await.unwrap().close().await;
    let error = NodeDatabase::open(&path).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Precondition);

    let other = directory.path().join("notes.txt");
    std::fs::write(&other, "these are my notes, and no database at all".repeat(50)).unwrap();
    let error = NodeDatabase::open(&other).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(std::fs::read_to_string(&other).unwrap().starts_with("these"));
}

#[tokio::test]
async fn many_writers_wait_for_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let database = open(&directory).await;
    let writers: Vec<_> = (0..20)
        .map(|n| {
            let database = database.clone();
            tokio::spawn(async move { database.put_stored(&stored_of("a", n)).await })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap().unwrap();
    }
    assert_eq!(database.all_stored().await.unwrap().len(), 20);
}

#[tokio::test]
async fn nobody_else_reads_the_database() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let database = open(&directory).await;
    database.put_setting("node", "n1").await.unwrap();
    for name in ["node.db", "node.db-wal", "node.db-shm"] {
        let mode = std::fs::metadata(directory.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_the_callers_to_make() {
    let directory = tempfile::tempdir().unwrap();
    let error = NodeDatabase::open(&directory.path().join("no/node.db")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Precondition);
}

#[tokio::test]
async fn a_file_that_is_no_database_is_named_and_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("node.db");
    let bytes = b"this is no database at all".repeat(400);
    std::fs::write(&path, &bytes).unwrap();
    let error = NodeDatabase::open(&path).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_eq!(error.to_string(), format!("database {} is damaged", path.display()));
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[tokio::test]
async fn a_database_that_is_cut_is_found_damaged() {
    let directory = tempfile::tempdir().unwrap();
    let database = open(&directory).await;
    for n in 0..200 {
        database.put_stored(&stored_of("vol-1", n)).await.unwrap();
    }
    database.close().await;
    let path = directory.path().join("node.db");
    let bytes = std::fs::read(&path).unwrap();
    // within pages and between them; SQLite takes a file of no byte and of one for an empty database
    let cuts = (1..40).map(|part| bytes.len() * part / 40);
    for cut in cuts.chain([2, 100, 4095, 4096, bytes.len() - 4096, bytes.len() - 1]) {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        let read = match NodeDatabase::open(&path).await {
            Ok(database) => {
                let read = database.all_stored().await.map(drop);
                database.close().await;
                read
            }
            Err(error) => Err(error),
        };
        for log in ["node.db-wal", "node.db-shm"] {
            let _ = std::fs::remove_file(directory.path().join(log));
        }
        let kind = read.map_err(|error| error.kind());
        assert_eq!(kind, Err(ErrorKind::Corrupt), "cut to {cut} of {}", bytes.len());
    }
}

#[tokio::test]
async fn a_database_with_a_damaged_page_is_refused_before_anything_is_read_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let database = open(&directory).await;
    for n in 0..200 {
        database.put_stored(&stored_of("vol-1", n)).await.unwrap();
    }
    database.close().await;
    let path = directory.path().join("node.db");
    let mut bytes = std::fs::read(&path).unwrap();
    // the kind of the last page
    let at = bytes.len() - 4096;
    bytes[at] ^= 0x7f;
    std::fs::write(&path, &bytes).unwrap();
    let error = NodeDatabase::open(&path).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_eq!(error.to_string(), format!("database {} is damaged", path.display()));
    assert!(std::fs::read(&path).unwrap() == bytes, "it is left as it is");
}

#[tokio::test]
async fn a_store_that_was_held_is_remembered_for_ever() {
    let directory = tempfile::tempdir().unwrap();
    let (here, other) = ("file:///srv/objects", "s3://bucket/a");
    let database = open(&directory).await;
    assert!(!database.was_held(here).await.unwrap());
    database.put_held(here, 1).await.unwrap();
    database.put_held(here, 2).await.unwrap();
    database.close().await;
    let database = open(&directory).await;
    assert!(database.was_held(here).await.unwrap());
    assert!(!database.was_held(other).await.unwrap());
}
