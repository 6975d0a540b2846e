use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use cove_types::Durability;

use super::*;

fn status() -> VolumeStatus {
    let problem = wire::Problem {
        what: "its store is out of reach".into(),
        since: "2026-01-01T00:00:00Z".into(),
        who_acts: "nobody".into(),
        hint: None,
    };
    let not_captured = wire::NotCaptured { path: "a/\\xff".into(), what: "device".into() };
    let document = serde_json::json!({
        "id": "prj-1", "name": "Shop", "slug": "shop", "created_at": "2026-01-01T00:00:00Z",
        "config": {"a": 1.5}, "graph": {"b": [null]}, "newer": {"c": true},
    });
    let spec = serde_json::json!({"quota_bytes": 1 << 20, "labels": {"a": "b"}, "newer": 7});
    VolumeStatus {
        volume: "vol-1".parse().unwrap(),
        document: serde_json::from_value(document).unwrap(),
        spec: serde_json::from_value(spec).unwrap(),
        epoch: u64::MAX,
        seq: u32::MAX,
        path: Some(OsStr::from_bytes(b"/pool/\xff").into()),
        is_deleted: true,
        trashed_at: Some("1969-12-31T23:59:59.9Z".parse().unwrap()),
        saved_at: Some("2026-01-01T00:00:00.000000001Z".parse().unwrap()),
        durability: Durability::Saved,
        unsaved_bytes: Some(0),
        bytes: wire::Bytes { logical: 1, unique: 2, shared: 3 },
        entries: 4,
        unread_entries: 5,
        not_captured: vec![not_captured],
        not_captured_count: 6,
        problems: vec![problem],
        store: "unreachable".into(),
    }
}

#[test]
fn a_volume_comes_back_as_it_was() {
    let bare = VolumeStatus {
        spec: Default::default(),
        path: None,
        trashed_at: None,
        saved_at: None,
        durability: Durability::OnThisNode,
        unsaved_bytes: None,
        not_captured: Vec::new(),
        problems: Vec::new(),
        ..status()
    };
    for status in [status(), bare] {
        let wire = pb::VolumeStatus::try_from(status.clone()).unwrap();
        let back = VolumeStatus::try_from(wire).unwrap();
        assert_eq!(format!("{back:?}"), format!("{status:?}"));
    }
}

#[test]
fn a_file_comes_back_as_it_was() {
    let kinds = ["file", "directory", "symlink", "fifo", "socket", "device"];
    for (kind, target) in kinds.into_iter().zip([None, Some(b"\xff/x".to_vec())].iter().cycle()) {
        let view = FileView {
            path: cove_types::TreePath::from_bytes(b"a/\xff").unwrap(),
            kind,
            bytes: u64::MAX,
            mode: 0o7777,
            modified: FileTime { seconds: i64::MIN, nanoseconds: 999_999_999 },
            target: target.clone(),
        };
        let wire = pb::File::try_from(view.clone()).unwrap();
        assert_eq!(FileView::try_from(wire).unwrap(), view);
    }
}

#[test]
fn a_file_that_is_unlawful_is_named_by_its_field() {
    let lawful = pb::File { path: b"a".to_vec().into(), kind: 1, ..Default::default() };
    assert!(FileView::try_from(lawful.clone()).is_ok());
    for (file, told) in [
        (pb::File { kind: 0, ..lawful.clone() }, "field \"kind\" is missing"),
        (pb::File { kind: 77, ..lawful.clone() }, "field \"kind\": "),
        (pb::File { path: b"/a".to_vec().into(), ..lawful.clone() }, "field \"path\": "),
        (
            pb::File { modified_nanoseconds: 1_000_000_000, ..lawful },
            "field \"modified_nanoseconds\": a second has 1,000,000,000, found 1000000000",
        ),
    ] {
        let error = FileView::try_from(file).unwrap_err().to_string();
        assert!(error.starts_with(told), "{error}");
    }
}
