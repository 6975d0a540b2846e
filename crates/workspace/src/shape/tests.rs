use cove_content::volumes::VerifyLevel;
use cove_types::{FileTime, TreePath, wire::Problem};

use super::*;
use crate::workspaces::tests::Server;

async fn known() -> (ProjectRow, VolumeStatus) {
    let server = Server::new().await;
    server.create("shop", "a=1").await;
    let row = server.database.projects().await.unwrap().remove(0);
    let volumes: &dyn cove_content::volumes::Volumes = &server.fake;
    let status = volumes.status(&row.volume).await.unwrap();
    (row, status)
}

fn place() -> Place {
    Place { node: "n1".parse().unwrap(), saved_to: "this_disk".into() }
}

fn problem() -> Problem {
    Problem {
        what: "a swap file is active".into(),
        since: "2026-11-25T12:00:00Z".into(),
        who_acts: "you".into(),
        hint: None,
    }
}

#[tokio::test]
async fn a_saved_project_without_problems_is_well() {
    let (row, status) = known().await;
    assert_eq!(project(&row, &status, &[], &place()).health.state, "ok");
}

#[tokio::test]
async fn what_is_not_captured_is_no_problem() {
    let (row, mut status) = known().await;
    status.not_captured =
        vec![wire::NotCaptured { path: "dev/null".into(), what: "device".into() }];
    status.not_captured_count = 1;
    let shown = project(&row, &status, &[], &place());
    assert_eq!((shown.health.state.as_str(), shown.health.not_captured.len()), ("ok", 1));
}

#[tokio::test]
async fn a_problem_wants_attention() {
    let (row, mut status) = known().await;
    let what = format!("not looked at: volumes/{} holds an active swap file", status.volume);
    status.problems = vec![Problem { what, ..problem() }];
    let health = project(&row, &status, &[], &place()).health;
    assert_eq!(health.state, "attention");
    assert_eq!(health.problems[0].what, "not looked at: shop holds an active swap file");
}

#[tokio::test]
async fn unsaved_work_without_a_store_is_at_risk() {
    let (row, mut status) = known().await;
    status.store = "unreachable".into();
    assert_eq!(project(&row, &status, &[], &place()).health.state, "attention");
    status.durability = Durability::OnThisNode;
    assert_eq!(project(&row, &status, &[], &place()).health.state, "at_risk");
}

#[tokio::test]
async fn a_project_that_verify_found_damaged_is_at_risk() {
    let (mut row, status) = known().await;
    row.verified = Some(verification::verified(VerifyLevel::Located, 0, 1));
    let shown = project(&row, &status, &[], &place());
    assert_eq!(shown.health.state, "at_risk");
    let problem = &shown.health.problems[0];
    assert_eq!(problem.what, "the last verify found 1 problem");
    assert_eq!(problem.hint.as_deref(), Some("`cove verify shop --level 1` names them"));
    assert_eq!(shown.health.last_verify.unwrap().at, "1970-01-01T00:00:00Z");
}

#[tokio::test]
async fn projects_are_where_their_node_came_last() {
    let server = Server::new().await;
    let made = server.create("shop", "a=1").await;
    let place = |project: &wire::Project| {
        (project.health.node.clone(), project.saved_to.clone(), server.workspaces.saved_to())
    };
    let [store, disk] = ["s3://bucket/cove", "this_disk"].map(str::to_owned);
    assert_eq!(place(&made), ("n1".into(), store.clone(), store));
    server.workspaces.put_place("n2".parse().unwrap(), disk.clone());
    let shown = server.workspaces.list(false).await.unwrap().projects.remove(0);
    assert_eq!(place(&shown), ("n2".into(), disk.clone(), disk));
}

#[tokio::test]
async fn a_live_project_was_never_trashed() {
    let (mut row, status) = known().await;
    row.trashed_us = Some(1);
    assert_eq!(project(&row, &status, &[], &place()).trashed_at, None);
}

#[test]
fn a_file_shows_its_permission_bits_and_a_safe_path() {
    let view = FileView {
        path: TreePath::from_bytes(b"a\x1b\xff").unwrap(),
        kind: "symlink",
        bytes: 7,
        mode: 0o100_777,
        modified: FileTime { seconds: i64::MAX, nanoseconds: 0 },
        target: Some(b"\n".to_vec()),
    };
    let shown = file(&view);
    assert_eq!((shown.path.as_str(), shown.mode.as_str()), ("a\\x1b\\xff", "0777"));
    assert_eq!((shown.bytes, shown.target.as_deref()), (0, Some("\\x0a")));
    assert_eq!(shown.modified, "9999-12-31T23:59:59.999999999Z");
}
