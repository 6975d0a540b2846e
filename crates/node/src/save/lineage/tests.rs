use cove_content::entry::EntryRecord;
use cove_content::head::{
    BACKGROUND, Commit, Create, Head, Nonce, Op, OpResult, RequestHash, Stamp,
};
use cove_content::locations::Locations;
use cove_content::root::Root;
use cove_types::{Consistency, Digest, EntryKind, EntryState, OperationId, ProjectId, VolumeId};

use super::{Lineage, lineage};
use crate::save::rescue::{Cause, rescue_id};
use crate::volume::unknown_root;

fn id(number: u8) -> OperationId {
    OperationId([number; 16])
}

fn stamp(number: u8) -> Stamp {
    Stamp { time: jiff::Timestamp::UNIX_EPOCH, nonce: Nonce([number; 8]) }
}

fn op(number: u8) -> Op {
    Op {
        id: id(number),
        request: RequestHash([number; 8]),
        kind: "snapshot".into(),
        result: OpResult::Done { entries: Vec::new(), tree: None },
    }
}

fn root(tree: u8) -> Root {
    Root { tree: Digest::of(&[tree]), ..unknown_root() }
}

/// A head whose state is `tree`.
fn first(tree: u8) -> Head {
    let create = Create {
        volume: VolumeId::derive("tester", &id(0), 0),
        project: ProjectId::derive("tester", &id(0), 0),
        holder: "node-a".parse().unwrap(),
        now: root(tree),
        entries: Vec::new(),
        locations: Locations::default(),
        root_frame: None,
    };
    Head::create(create, op(0), stamp(0))
}

/// `head` after `number` has saved `tree`.
fn saved(head: &Head, tree: u8, number: u8) -> Head {
    let root = Root { parents: vec![head.now.digest()], ..root(tree) };
    let commit = Commit {
        root,
        locations: Locations::default(),
        root_frame: None,
        add: Vec::new(),
        trash: Vec::new(),
    };
    head.commit(commit, Some(op(number)), stamp(number)).unwrap()
}

/// `head` with its state kept as another copy's.
fn kept(head: &Head) -> Head {
    let record = EntryRecord {
        id: rescue_id(&head.now, Cause::AnotherCopy),
        kind: EntryKind::Rescue,
        author: "cove".into(),
        cause: None,
        message: None,
        label: None,
        pinned: false,
        time: jiff::Timestamp::UNIX_EPOCH,
        captured_ms: 0,
        saved_ms: None,
        consistency: Consistency::Instant,
        state: EntryState::Live,
        trashed_at: None,
        volume_snapshot: None,
        quota_bytes: None,
        root: head.now.clone(),
        unknown: serde_json::Map::new(),
    };
    head.add_entry(record, &[], None, stamp(99)).unwrap()
}

const FOREIGN: Lineage = Lineage::Foreign { is_kept: false };

#[test]
fn the_head_that_is_remembered_is_our_own() {
    let head = first(1);
    assert_eq!(lineage(&head, &head, Some(&id(5))), Lineage::Own);
}

#[test]
fn a_lost_answer_is_found_as_the_newest_change() {
    let head = first(1);
    assert_eq!(lineage(&head, &saved(&head, 2, 5), Some(&id(5))), Lineage::Own);
}

#[test]
fn a_lost_answer_on_which_another_copy_has_saved_is_not_our_state_any_more() {
    let head = first(1);
    let ours = saved(&head, 2, 5);
    assert_eq!(lineage(&head, &saved(&ours, 3, 6), Some(&id(5))), FOREIGN);
}

#[test]
fn a_lost_background_answer_is_found_too() {
    let head = first(1);
    let mut background = op(5);
    BACKGROUND.clone_into(&mut background.kind);
    let commit = Commit {
        root: Root { parents: vec![head.now.digest()], ..root(2) },
        locations: Locations::default(),
        root_frame: None,
        add: Vec::new(),
        trash: Vec::new(),
    };
    let found = head.commit(commit, Some(background), stamp(5)).unwrap();
    assert_eq!(lineage(&head, &found, Some(&id(5))), Lineage::Own);
}

#[test]
fn what_nobody_here_saved_is_another_copys() {
    let head = first(1);
    assert_eq!(lineage(&head, &saved(&head, 2, 6), Some(&id(5))), FOREIGN);
    assert_eq!(lineage(&head, &saved(&head, 2, 6), None), FOREIGN);
}

#[test]
fn a_head_that_only_names_other_places_or_entries_keeps_our_state() {
    let head = first(1);
    let relocated = head.relocate(Locations::default(), None, stamp(7)).unwrap();
    assert_eq!(lineage(&head, &relocated, Some(&id(5))), Lineage::Own);
    assert_eq!(lineage(&head, &kept(&head), None), Lineage::Own);
    assert_eq!(
        lineage(&head, &head.seal("node-a".parse().unwrap(), stamp(8)).unwrap(), None),
        Lineage::Own
    );
}

#[test]
fn another_copy_that_came_to_the_same_files_has_lost_nothing() {
    let head = first(1);
    let away = saved(&saved(&head, 2, 6), 1, 7);
    assert_eq!(lineage(&head, &away, None), Lineage::Own);
}

#[test]
fn a_state_that_is_kept_already_is_not_kept_twice() {
    let head = first(1);
    let found = kept(&saved(&head, 2, 6));
    assert_eq!(lineage(&head, &found, Some(&id(5))), Lineage::Foreign { is_kept: true });
    // what follows it is another state
    assert_eq!(lineage(&head, &saved(&found, 3, 7), Some(&id(5))), FOREIGN);
}
