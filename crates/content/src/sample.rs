//! Values for the tests of this crate.

pub(crate) mod volume;

use cove_types::{
    Consistency, Digest, EntryId, EntryKind, EntryState, IndexId, NodeId, OperationId, PackId,
};
use jiff::Timestamp;
use serde_json::Map;

use crate::entry::EntryRecord;
use crate::head::{Create, Head, Nonce, Op, OpResult, RequestHash, Stamp};
use crate::locations::{IndexRef, Locations, PackRef};
use crate::root::{Counts, NotCaptured, Root};

/// Midnight of 2026-11-01 in UTC, and then `seconds`.
pub(crate) fn time(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_793_491_200 + seconds).unwrap()
}

pub(crate) fn stamp(n: u8) -> Stamp {
    Stamp { time: time(i64::from(n)), nonce: Nonce([n; 8]) }
}

pub(crate) fn root(n: u8) -> Root {
    Root {
        tree: Digest([n; 32]),
        level: 1,
        counts: Counts { entries: 7, logical_bytes: 70_000, data_bytes: 60_000, depth: 3 },
        not_captured: NotCaptured::default(),
        document: Digest([0xd0; 32]),
        parents: Vec::new(),
        must: 0,
        may: 0,
        unknown: Map::new(),
    }
}

/// A state with tree `n` that comes from `parent`.
pub(crate) fn root_after(n: u8, parent: &Root) -> Root {
    Root { parents: vec![parent.digest()], ..root(n) }
}

pub(crate) fn operation_id(seq: u32, n: u8) -> OperationId {
    OperationId::new(seq, [n; 12])
}

pub(crate) fn op(seq: u32, n: u8) -> Op {
    Op {
        id: operation_id(seq, n),
        request: RequestHash([n; 8]),
        kind: "snapshot".into(),
        result: OpResult::Done { entries: Vec::new(), tree: None },
    }
}

pub(crate) fn entry_id(n: u32) -> EntryId {
    EntryId::derive(&OperationId::new(n, [7; 12]), "entry")
}

pub(crate) fn entry(n: u32, kind: EntryKind) -> EntryRecord {
    EntryRecord {
        id: entry_id(n),
        kind,
        author: "ada".into(),
        cause: None,
        message: None,
        label: None,
        pinned: false,
        time: time(i64::from(n)),
        captured_ms: 12,
        saved_ms: None,
        consistency: Consistency::Instant,
        state: EntryState::Live,
        trashed_at: None,
        volume_snapshot: None,
        quota_bytes: None,
        root: root(1),
        unknown: Map::new(),
    }
}

pub(crate) fn pack_ref(n: u8, bytes: u64) -> PackRef {
    PackRef { id: PackId([n; 16]), bytes, footer_bytes: 128 + 48 * 10 }
}

pub(crate) fn index_ref(n: u8, rows: u64) -> IndexRef {
    IndexRef { id: IndexId([n; 16]), bytes: 104 + rows * 52, rows, table_bytes: 88 }
}

pub(crate) fn node(name: &str) -> NodeId {
    name.parse().unwrap()
}

/// A volume at seq 1 whose tree is 1, held by node a.
pub(crate) fn head() -> Head {
    let create = Create {
        volume: "vol-1".parse().unwrap(),
        project: "prj-1".parse().unwrap(),
        holder: node("a"),
        now: root(1),
        entries: Vec::new(),
        locations: Locations { indexes: Vec::new(), packs: vec![pack_ref(1, 4000)] },
        root_frame: None,
    };
    Head::create(create, op(0, 1), stamp(1))
}

/// Checks that `decode` refuses `bytes` with any one bit of them flipped, cut at any
/// place, and with a byte more.
pub(crate) fn refuses_every_other<T, E>(bytes: &[u8], decode: impl Fn(&[u8]) -> Result<T, E>) {
    assert!(decode(bytes).is_ok());
    for at in 0..bytes.len() {
        assert!(decode(&bytes[..at]).is_err(), "cut at {at}");
        for bit in 0..8 {
            let mut other = bytes.to_vec();
            other[at] ^= 1 << bit;
            assert!(decode(&other).is_err(), "bit {bit} of byte {at} is flipped");
        }
    }
    let longer = [bytes, &[0]].concat();
    assert!(decode(&longer).is_err(), "a byte more");
}

/// Bytes as lines of hexadecimal digits, for golden vectors.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let line = |line: &[u8]| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    bytes.chunks(32).map(line).collect::<Vec<_>>().join("\n")
}
