use super::*;
use cove_types::{Classify, ErrorKind};

async fn open(directory: &tempfile::TempDir) -> ServerDatabase {
    ServerDatabase::open(&directory.path().join("server.db")).await.unwrap()
}

fn project_of(n: u8, slug: &str, state: ProjectState) -> ProjectRow {
    ProjectRow {
        id: format!("prj-{n}").parse().unwrap(),
        slug: slug.parse().unwrap(),
        name: slug.into(),
        volume: format!("vol-{n}").parse().unwrap(),
        state,
        created_us: i64::from(n),
        trashed_us: (state == ProjectState::Trashed).then_some(i64::from(n)),
        document: "{}".into(),
        verified: None,
    }
}

fn operation_of(principal: &str, key: &str) -> OperationRow {
    OperationRow {
        key: key.into(),
        principal: principal.into(),
        operation: OperationId([1; 16]),
        request: vec![2; 8],
        kind: "project.create".into(),
        volume: Some("vol-1".parse().unwrap()),
        entry: None,
        state: OperationState::Running,
        result: None,
        error: None,
        created_us: 1,
        updated_us: 1,
    }
}

fn record(n: i64) -> AuditRecord {
    AuditRecord {
        at_us: n,
        principal: "owner".into(),
        action: "project.create".into(),
        resource: format!("shop-{n}"),
        outcome: "ok".into(),
        request_id: "r".into(),
    }
}

#[tokio::test]
async fn what_was_written_survives_a_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let database = open(&directory).await;
    let rows = [
        project_of(1, "blog", ProjectState::Live),
        project_of(2, "shop", ProjectState::Creating),
        project_of(3, "shop", ProjectState::Trashed),
    ];
    database.insert_projects(&rows).await.unwrap();
    database.insert_operation(&operation_of("owner", "k")).await.unwrap();
    database.append_audit(vec![record(1), record(2)]).await.unwrap();
    database.close().await;

    let database = open(&directory).await;
    assert_eq!(database.projects().await.unwrap(), rows);
    let found = database.find_operation("owner", "k").await.unwrap();
    assert_eq!(found, Some(operation_of("owner", "k")));
    assert_eq!(database.verify_audit().await.unwrap(), 2);
}

#[tokio::test]
async fn an_acknowledged_write_survives_a_power_cut() {
    let directory = tempfile::tempdir().unwrap();
    let database = open(&directory).await;
    assert_eq!(database.0.pragma("PRAGMA journal_mode").await, "wal");
    assert_eq!(database.0.pragma("PRAGMA synchronous").await, "2");
}

#[tokio::test]
async fn a_name_belongs_to_one_project_outside_the_trash() {
    let directory = tempfile::tempdir().unwrap();
    let database = open(&directory).await;
    database.insert_projects(&[project_of(1, "shop", ProjectState::Creating)]).await.unwrap();
    let trashed = project_of(2, "shop", ProjectState::Trashed);
    database.insert_projects(std::slice::from_ref(&trashed)).await.unwrap();
    let both =
        [project_of(3, "blog", ProjectState::Live), project_of(4, "shop", ProjectState::Live)];
    let error = database.insert_projects(&both).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!(database.find_named(&"blog".parse().unwrap()).await.unwrap(), None);
    assert_eq!(database.trashed(&"shop".parse().unwrap()).await.unwrap(), [trashed]);
}

#[tokio::test]
async fn a_project_is_changed_in_place_and_keeps_the_end_of_its_check() {
    let directory = tempfile::tempdir().unwrap();
    let database = open(&directory).await;
    let row = project_of(1, "shop", ProjectState::Creating);
    database.insert_projects(std::slice::from_ref(&row)).await.unwrap();
    let verified = Verified { at_us: 9, problems: 2, level: 2, part: Some((3, 8)) };
    database.set_verified(&row.id, &verified).await.unwrap();
    let changed = ProjectRow { state: ProjectState::Live, ..row.clone() };
    database.put_projects(std::slice::from_ref(&changed)).await.unwrap();
    let found = database.find_project(&row.id).await.unwrap().unwrap();
    assert_eq!((found.state, found.verified), (ProjectState::Live, Some(verified)));
    database.replace_projects(std::slice::from_ref(&found)).await.unwrap();
    assert_eq!(database.projects().await.unwrap(), [found]);
}

#[tokio::test]
async fn a_table_that_cannot_be_replaced_stays() {
    let directory = tempfile::tempdir().unwrap();
    let database = open(&directory).await;
    let before = [project_of(1, "shop", ProjectState::Live)];
    database.insert_projects(&before).await.unwrap();
    let clash =
        [project_of(2, "blog", ProjectState::Live), project_of(3, "blog", ProjectState::Live)];
    assert!(database.replace_projects(&clash).await.is_err());
    assert_eq!(database.projects().await.unwrap(), before);
}

#[tokio::test]
async fn a_key_is_bound_once_for_each_principal() {
    let directory = tempfile::tempdir().unwrap();
    let database = open(&directory).await;
    database.insert_operation(&operation_of("a", "k")).await.unwrap();
    database.insert_operation(&operation_of("b", "k")).await.unwrap();
    let error = database.insert_operation(&operation_of("a", "k")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
}

#[tokio::test]
async fn a_call_ends_together_with_its_record() {
    let directory = tempfile::tempdir().unwrap();
    let database = open(&directory).await;
    database.insert_operation(&operation_of("a", "k")).await.unwrap();
    let update = OperationUpdate {
        state: OperationState::Done,
        result: Some("1".into()),
        error: None,
        at_us: 5,
        audit: Some(record(5)),
    };
    let error = database.update_operation("a", "other", update.clone()).await.unwrap_err();
    assert_eq!((error.kind(), database.verify_audit().await.unwrap()), (ErrorKind::NotFound, 0));
    database.update_operation("a", "k", update).await.unwrap();
    assert_eq!(database.verify_audit().await.unwrap(), 1);
    assert_eq!(database.unfinished_operations().await.unwrap(), []);
    database.delete_operations(6).await.unwrap();
    assert_eq!(database.find_operation("a", "k").await.unwrap(), None);
}

#[tokio::test]
async fn the_entry_of_a_call_is_kept_with_its_key() {
    let directory = tempfile::tempdir().unwrap();
    let database = open(&directory).await;
    let row = operation_of("a", "k");
    database.insert_operation(&row).await.unwrap();
    let entry = EntryId::derive(&row.operation, "snapshot");
    database.bind_entry("a", "k", entry).await.unwrap();
    let error = database.bind_entry("b", "k", entry).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let found = database.find_operation("a", "k").await.unwrap();
    assert_eq!(found, Some(OperationRow { entry: Some(entry), ..row }));
}

#[tokio::test]
async fn a_call_that_was_interrupted_long_ago_is_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let database = open(&directory).await;
    database.insert_operation(&operation_of("a", "k")).await.unwrap();
    database.delete_operations(6).await.unwrap();
    database.delete_interrupted_operations(1).await.unwrap();
    assert!(database.find_operation("a", "k").await.unwrap().is_some());
    database.delete_interrupted_operations(2).await.unwrap();
    assert_eq!(database.find_operation("a", "k").await.unwrap(), None);
}

#[tokio::test]
async fn a_record_that_was_changed_or_taken_out_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let database = open(&directory).await;
    database.append_audit((1..=4).map(record).collect()).await.unwrap();
    sqlx::query("UPDATE audit SET outcome = 'denied' WHERE seq = 2")
        .execute(&database.0.writer)
        .await
        .unwrap();
    let error = database.verify_audit().await.unwrap_err();
    assert_eq!(error.to_string(), "the audit log does not continue at record 2");
    sqlx::query("UPDATE audit SET outcome = 'ok' WHERE seq = 2")
        .execute(&database.0.writer)
        .await
        .unwrap();
    assert_eq!(database.verify_audit().await.unwrap(), 4);
    sqlx::query("DELETE FROM audit WHERE seq = 3").execute(&database.0.writer).await.unwrap();
    assert_eq!(database.verify_audit().await.unwrap_err().kind(), ErrorKind::Corrupt);
}
