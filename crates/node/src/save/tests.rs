use cove_content::head::Create;
use cove_content::locations::Locations;
use cove_types::{Consistency, EntryKind, EntryState, OperationId, ProjectId, VolumeId};

use super::*;
use crate::volume::unknown_root;

const ID: OperationId = OperationId([1; 16]);

fn root(tree: u8) -> Root {
    Root { tree: Digest::of(&[tree]), ..unknown_root() }
}

fn entry(name: &str, tree: u8, state: EntryState) -> EntryRecord {
    EntryRecord {
        id: EntryId::derive(&ID, name),
        kind: EntryKind::Manual,
        author: "tester".into(),
        cause: None,
        message: None,
        label: None,
        pinned: false,
        time: jiff::Timestamp::UNIX_EPOCH,
        captured_ms: 0,
        saved_ms: None,
        consistency: Consistency::Instant,
        state,
        trashed_at: None,
        volume_snapshot: None,
        quota_bytes: None,
        root: root(tree),
        unknown: serde_json::Map::new(),
    }
}

/// Whether a rescue of state 2 brings nothing to a volume with `entries` whose present state is `now`, and whose
/// files descend from `here`.
fn is_kept(entries: &[EntryRecord], now: u8, here: u8) -> bool {
    let create = Create {
        volume: VolumeId::derive("tester", &ID, 0),
        project: ProjectId::derive("tester", &ID, 0),
        holder: "node-a".parse().unwrap(),
        now: root(now),
        entries: entries.to_vec(),
        locations: Locations::default(),
        root_frame: None,
    };
    let op = Op {
        id: ID,
        request: RequestHash([1; 8]),
        kind: "create".into(),
        result: OpResult::Done { entries: Vec::new(), tree: None },
    };
    let stamp = Stamp { time: jiff::Timestamp::UNIX_EPOCH, nonce: Nonce([1; 8]) };
    let head = Head::create(create, op, stamp);
    keeps(&head, &EntryId::derive(&ID, "rescue"), Some(root(here).tree), &root(2))
}

#[test]
fn a_rescue_brings_nothing_only_where_its_state_stays() {
    use EntryState::{Live, Trashed};
    assert!(!is_kept(&[], 1, 1));
    assert!(!is_kept(&[entry("other", 3, Live)], 1, 1));
    assert!(is_kept(&[entry("other", 2, Live)], 1, 1));
    assert!(!is_kept(&[entry("other", 2, Trashed)], 1, 1), "it goes with the trash");
    assert!(is_kept(&[entry("rescue", 2, Live)], 1, 1));
    assert!(is_kept(&[entry("rescue", 2, Trashed)], 1, 1), "somebody has put it there");
    assert!(!is_kept(&[entry("rescue", 3, Trashed)], 1, 1), "not this state");
    assert!(is_kept(&[], 2, 2));
    assert!(!is_kept(&[], 2, 1), "the files are others than the head's");
}
