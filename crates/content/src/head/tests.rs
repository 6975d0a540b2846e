use cove_types::{EntryKind, IndexId};
use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;
use crate::entry::{MESSAGE_BYTES_MAX, TRASH_TIME, room};
use crate::locations::{IndexRef, PackRef};
use crate::root::{NotCaptured, NotCapturedPath};
use crate::sample::{
    entry, entry_id, head, index_ref, node, op, operation_id, pack_ref, refuses_every_other, root,
    root_after, stamp,
};
use crate::spec::{SPEC_BYTES_MAX, SpecSource, VolumeSpec};

fn commit_of(root: Root) -> Commit {
    Commit { root, locations: head().locations, root_frame: None, add: vec![], trash: vec![] }
}

fn with_entries(numbers: std::ops::Range<u32>) -> Head {
    let mut head = head();
    for n in numbers {
        head = head.add_entry(entry(n, EntryKind::Manual), &[], None, stamp(2)).unwrap();
    }
    head
}

fn refused<T: std::fmt::Debug>(result: Result<T, TransitionError>, expected: &Expect) {
    expected.assert_eq(&result.unwrap_err().to_string());
}

// ---- the format

#[test]
fn the_bytes_of_a_head_are_these() {
    let mut head = head();
    head.locations.indexes.push(index_ref(3, 12));
    head.root_frame = Some(RootFrame { pack: PackId([1; 16]), offset: 144, bytes: 99 });
    let mut head =
        head.add_entry(entry(1, EntryKind::Manual), &[], Some(op(1, 2)), stamp(2)).unwrap();
    head.older = Some(Older { digest: Digest([4; 32]), count: 3 });
    head.unread = vec![Older { digest: Digest([5; 32]), count: 2 }];
    let failed =
        OpResult::Failed { kind: ErrorKind::Exhausted, message: "the pool is full".into() };
    let head = head.record_op(Op { result: failed, ..op(2, 3) }, stamp(3)).unwrap();
    let bytes = head.encode().unwrap();
    expect![[r#"{"check":"8ef19732474e6d9e86e52620c1243ea2","entries":[{"author":"ada","captured_ms":12,"consistency":"instant","id":"ihoxftkksedb","kind":"manual","root":{"counts":{"data_bytes":60000,"depth":3,"entries":7,"logical_bytes":70000},"document":"d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0","level":1,"tree":"0101010101010101010101010101010101010101010101010101010101010101"},"state":"live","time":"2026-11-01T00:00:01Z"}],"epoch":1,"format":1,"holder":"a","locations":{"indexes":[["03030303030303030303030303030303",728,12,88]],"packs":[["01010101010101010101010101010101",4000,608]]},"nonce":"0303030303030303","now":{"counts":{"data_bytes":60000,"depth":3,"entries":7,"logical_bytes":70000},"document":"d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0","level":1,"tree":"0101010101010101010101010101010101010101010101010101010101010101"},"older":{"count":3,"digest":"0404040404040404040404040404040404040404040404040404040404040404"},"ops":[{"id":"00000000010101010101010101010101","kind":"snapshot","request":"0101010101010101","result":{"done":{}},"seq":1},{"id":"00000001020202020202020202020202","kind":"snapshot","request":"0202020202020202","result":{"done":{}},"seq":2},{"id":"00000002030303030303030303030303","kind":"snapshot","request":"0303030303030303","result":{"failed":{"kind":"exhausted","message":"the pool is full"}},"seq":3}],"ops_from":0,"project":"prj-1","root_frame":["01010101010101010101010101010101",144,99],"seq":3,"state":"live","time":"2026-11-01T00:00:03Z","unread":[{"count":2,"digest":"0505050505050505050505050505050505050505050505050505050505050505"}],"volume":"vol-1"}"#]].assert_eq(std::str::from_utf8(&bytes).unwrap());
    assert_eq!(Head::decode(&bytes).unwrap(), head);
}

#[test]
fn any_other_bytes_are_no_head() {
    refuses_every_other(&head().encode().unwrap(), HeadObject::decode);
}

#[test]
fn the_bytes_of_a_tombstone_are_these_and_fewer_than_300() {
    let volume = VolumeId::derive("principal", &operation_id(0, 1), 0);
    let tombstone = Tombstone {
        epoch: u64::from(u32::MAX),
        seq: u32::MAX,
        lived: true,
        ..Tombstone::of_failed_create(volume, operation_id(0, 1), stamp(1))
    };
    let bytes = tombstone.encode();
    expect![[r#"{"check":"673cdade46f12bb558239306e31b9553","epoch":4294967295,"format":1,"lived":true,"nonce":"0101010101010101","op":"00000000010101010101010101010101","seq":4294967295,"state":"deleted","time":"2026-11-01T00:00:01Z","volume":"vol-t56crtcwr744uitnzsxhv5cq"}"#]].assert_eq(std::str::from_utf8(&bytes).unwrap());
    assert!(bytes.len() < 300);
    assert_eq!(HeadObject::decode(&bytes).unwrap(), HeadObject::Tombstone(tombstone));
    assert!(Head::decode(&bytes).is_err());
    refuses_every_other(&bytes, HeadObject::decode);
}

#[test]
fn what_a_newer_version_added_is_kept() {
    let mut newer = head();
    newer.unknown.insert("labels".into(), serde_json::json!({"team": "a"}));
    newer.may = 8;
    let read = Head::decode(&newer.encode().unwrap()).unwrap();
    let next = read.record_op(op(1, 2), stamp(2)).unwrap();
    assert_eq!(next.unknown, newer.unknown);
    assert_eq!(next.may, 8);
}

#[test]
fn a_head_that_must_be_understood_and_is_not_is_refused_by_name() {
    let bytes = json::seal(&Head { must: 4, ..head() });
    let error = HeadObject::decode(&bytes).unwrap_err();
    assert_eq!(error, DecodeError::UnknownFeatures { what: "head", features: 4 });
    let bytes = json::seal(&Head { format: 2, ..head() });
    let error = HeadObject::decode(&bytes).unwrap_err();
    assert_eq!(error, DecodeError::UnknownFormat { what: "head", found: 2, known: 1 });
}

#[test]
fn the_head_of_another_volume_is_damage() {
    let head = with_entries(0..1);
    let other: VolumeId = "vol-other".parse().unwrap();
    let bytes = head.encode().unwrap();
    assert_eq!(Head::decode_of(&head.volume, &bytes).unwrap(), head);
    let error = Head::decode_of(&other, &bytes).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let tombstone = Tombstone::of_failed_create(other, OperationId([7; 16]), stamp(1));
    assert!(HeadObject::decode_of(&head.volume, &tombstone.encode()).is_err());
}

#[test]
fn a_head_of_another_format_need_not_be_readable() {
    let error = HeadObject::decode(br#"{"format": 7, "what": "else"}"#).unwrap_err();
    assert_eq!(error, DecodeError::UnknownFormat { what: "head", found: 7, known: 1 });
}

#[test]
fn a_head_over_64_kib_is_not_looked_at() {
    let error = HeadObject::decode(&vec![b' '; HEAD_BYTES_READ_MAX + 1]).unwrap_err();
    expect!["the head is damaged: it has 65537 bytes, more than 65536"]
        .assert_eq(&error.to_string());
}

#[test]
fn an_unlawful_head_is_neither_written_nor_read() {
    let twice = head().ops[0].clone();
    for unlawful in [
        Head { seq: 0, ..head() },
        Head { epoch: 0, ..head() },
        Head { trashed_at: Some(stamp(1).time), ..head() },
        Head { state: HeadState::Trashed, ..head() },
        Head { entries: vec![entry(1, EntryKind::Manual), entry(1, EntryKind::Manual)], ..head() },
        Head { entries: (0..17).map(|n| entry(n, EntryKind::Manual)).collect(), ..head() },
        Head { older: Some(Older { digest: Digest([1; 32]), count: 257 }), ..head() },
        Head { older: Some(Older { digest: Digest([1; 32]), count: 0 }), ..head() },
        Head { unread: vec![Older { digest: Digest([1; 32]), count: 0 }], ..head() },
        Head { unread: vec![Older { digest: Digest([1; 32]), count: 200 }; 2], ..head() },
        Head { ops: vec![twice.clone(), twice], ..head() },
        Head { ops: vec![OpRecord { seq: 2, ..head().ops[0].clone() }], ..head() },
        Head { locations: Locations { packs: vec![pack_ref(1, 1)], ..head().locations }, ..head() },
        Head { now: Root { must: 1, ..root(1) }, ..head() },
    ] {
        assert!(matches!(unlawful.encode(), Err(EncodeError::Unlawful { .. })), "{unlawful:?}");
        assert!(HeadObject::decode(&json::seal(&unlawful)).is_err(), "{unlawful:?}");
    }
}

// ---- room

/// A head with the most of everything, at the greatest lengths.
fn largest() -> Head {
    let mut head = head();
    let large = u64::MAX;
    let path = NotCapturedPath { path: "\"".repeat(200), what: "nested subvolume".into() };
    let mut root = root(1);
    root.counts =
        crate::root::Counts { entries: large, logical_bytes: large, data_bytes: large, depth: 256 };
    root.not_captured = NotCaptured::new(vec![path]).0;
    root.not_captured.all = Some(Digest([1; 32]));
    root.parents = vec![Digest([1; 32]), Digest([2; 32])];
    head.volume = "v".repeat(63).parse().unwrap();
    head.project = "p".repeat(63).parse().unwrap();
    head.holder = "n".repeat(63).parse().unwrap();
    head.now = root.clone();
    head.epoch = large;
    head.locations.packs = (0..64)
        .map(|n| PackRef { id: PackId([n; 16]), bytes: 33_000_000, footer_bytes: 10_000_000 })
        .collect();
    head.locations.indexes = (0..8)
        .map(|n| IndexRef {
            id: IndexId([n; 16]),
            bytes: 1 << 40,
            rows: 1 << 34,
            table_bytes: u32::MAX,
        })
        .collect();
    for n in 0..16 {
        let mut entry = entry(n, EntryKind::BeforeRestore);
        entry.message = Some("\"".repeat(MESSAGE_BYTES_MAX));
        entry.author = "\"".repeat(200);
        entry.cause = Some("\"".repeat(200));
        entry.label = Some(format!("{n:064}").parse().unwrap());
        entry.root = root.clone();
        head.entries.push(entry);
    }
    head.seq = 4_000_000_000;
    head.ops = (0..32)
        .map(|n| OpRecord {
            id: operation_id(u32::MAX, n),
            request: RequestHash([n; 8]),
            kind: "k".repeat(16),
            result: OpResult::Done { entries: vec![entry_id(1), entry_id(2)], tree: None },
            seq: 4_000_000_000,
        })
        .collect();
    head
}

fn any_result() -> impl Strategy<Value = OpResult> {
    let failed = "[\\x00-\\x7fé]{0,250}"
        .prop_map(|message| OpResult::Failed { kind: ErrorKind::Precondition, message });
    let done = (0..256_u32)
        .prop_map(|n| OpResult::Done { entries: (0..n).map(entry_id).collect(), tree: None });
    prop_oneof![failed, done]
}

/// A spec to which no label can be added.
fn largest_spec() -> VolumeSpec {
    let mut spec = VolumeSpec {
        name: Some("\"".repeat(128).parse().unwrap()),
        quota_bytes: Some(1 << 60),
        source: Some(SpecSource::Snapshot("v".repeat(63).parse().unwrap(), entry_id(1))),
        asked: Some(RequestHash([0xff; 8])),
        stands_alone: true,
        ..VolumeSpec::default()
    };
    for n in 0..128 {
        // the longest that is lawful; half of them are labels
        let lawful = (0..=8).rev().find_map(|marks| {
            let mut more = spec.clone();
            let map = if n % 2 == 0 { &mut more.labels } else { &mut more.parameters };
            map.insert(format!("{n:03}"), "\"".repeat(marks));
            more.check().is_ok().then_some(more)
        });
        spec = lawful.unwrap_or(spec);
    }
    let bytes = spec.encode().len();
    assert!((SPEC_BYTES_MAX - 16..=SPEC_BYTES_MAX).contains(&bytes), "{bytes}");
    spec
}

/// A document to which nothing can be added beside this spec.
fn largest_document(spec: &VolumeSpec) -> ProjectDocument {
    let mut document = ProjectDocument {
        id: "p".repeat(63).parse().unwrap(),
        name: "\"".repeat(200),
        slug: "s".repeat(40).parse().unwrap(),
        config: Map::new(),
        graph: Map::new(),
        forked_from: None,
        created_at: stamp(1).time,
        unknown: Map::new(),
    };
    document.graph.insert("g".into(), "".into());
    let room = DESCRIBED_BYTES_MAX - document.encode().len() - spec.encode().len();
    document.graph.insert("g".into(), "g".repeat(room).into());
    check_described(&document, spec).unwrap();
    document
}

/// A head with the most of everything and these operations.
fn largest_after(results: &[OpResult]) -> Head {
    let mut head = Head { ops: Vec::new(), ..largest() };
    head.state = HeadState::Trashed;
    head.trashed_at = Some(stamp(1).time);
    head.spec = largest_spec();
    head.document = Some(largest_document(&head.spec));
    for (n, result) in results.iter().enumerate() {
        let op = Op { kind: "k".repeat(32), result: result.clone(), ..op(head.seq, n as u8) };
        head = head.record_op(op, stamp(1)).unwrap();
    }
    let _ = head.spill(OlderEntries::default());
    head
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn no_head_is_too_long_whatever_its_operations_say(
        results in prop::collection::vec(any_result(), 1..70),
    ) {
        let head = largest_after(&results);
        prop_assert!(head.encode().is_ok(), "{:?}", head.encode());
        // the last one is told whole, as far as a text goes
        let (last, told) = (results.last().unwrap(), &head.ops.last().unwrap().result);
        match (last, told) {
            (OpResult::Failed { message, .. }, OpResult::Failed { message: told, .. }) => {
                prop_assert!(message.starts_with(told) && (message.len() < 33 || told.len() >= 33));
            }
            (last, told) => prop_assert_eq!(last, told),
        }
    }
}

#[test]
fn of_the_oldest_failures_the_texts_go_first_and_then_the_operations() {
    let failed =
        |text: &str| OpResult::Failed { kind: ErrorKind::Precondition, message: text.repeat(200) };
    let head = largest_after(&vec![failed("\u{1}"); 40]);
    let texts: Vec<usize> = head
        .ops
        .iter()
        .map(|op| match &op.result {
            OpResult::Failed { message, .. } => message.len(),
            OpResult::Done { .. } => panic!("none succeeded"),
        })
        .collect();
    assert_eq!((texts.len(), texts[0], texts[31]), (32, 0, 33));
    assert!(texts.is_sorted(), "{texts:?}");
    let all = OpResult::Done { entries: (0..256).map(entry_id).collect(), tree: None };
    let head = largest_after(&[all.clone(), all.clone(), all]);
    assert_eq!((head.ops.len(), head.ops_from), (1, 4_000_000_002));
    head.encode().unwrap();
}

#[test]
fn the_largest_head_fits_once_its_entries_are_moved_out() {
    let mut head = largest();
    assert!(matches!(head.encode(), Err(EncodeError::TooLong { .. })));
    let older = head.spill(OlderEntries::default()).unwrap();
    assert_eq!(Head::decode_older(&older).unwrap().len(), head.entry_count() - head.entries.len());
    assert!(head.encode().unwrap().len() <= HEAD_BYTES_MAX);
}

#[test]
fn document_and_spec_have_as_much_together_as_any_head_has_room_for() {
    let spec = largest_spec();
    let mut document = largest_document(&spec);
    document.name.push('x');
    let error = check_described(&document, &spec).unwrap_err();
    expect!["the project document and what is asked of its volume have 3073 bytes together as JSON, more than 3072"].assert_eq(&error.to_string());
    // what a newer version asks for takes room too
    let mut newer = VolumeSpec::default();
    check_described(&document, &newer).unwrap();
    newer.unknown.insert("new".into(), "x".repeat(2_200).into());
    assert!(check_described(&document, &newer).is_err());
}

#[test]
fn the_largest_entries_are_a_chunk() {
    let mut entries = Vec::new();
    for n in 0..256 {
        entries.push(EntryRecord { id: entry_id(n), ..largest().entries[0].clone() });
    }
    assert!(json::canonical(&entries).len() <= crate::chunk::CHUNK_BYTES_MAX as usize);
}

#[test]
fn sixteen_entries_lie_in_the_head_and_the_seventeenth_moves_the_oldest_out() {
    let mut head = with_entries(0..16);
    assert_eq!(head.spill(OlderEntries::default()), None);
    head.encode().unwrap();
    let mut head = with_entries(0..17);
    assert!(head.needs_spill());
    let chunk = head.spill(OlderEntries::default()).unwrap();
    let older = Head::decode_older(&chunk).unwrap();
    let numbers = |entries: &[EntryRecord]| {
        entries.iter().map(|e| e.time.as_second() % 86_400).collect::<Vec<_>>()
    };
    assert_eq!(numbers(&head.entries), [16, 15, 14, 13, 12, 11, 10, 9]);
    assert_eq!(numbers(&older), [8, 7, 6, 5, 4, 3, 2, 1, 0]);
    assert_eq!(head.older, Some(Older { digest: Digest::of(&chunk), count: 9 }));
    assert!(!head.needs_spill());
    head.encode().unwrap();
}

#[test]
fn of_a_head_with_all_its_packs_and_operations_one_snapshot_in_four_moves_entries_out() {
    let packs = |n| PackRef { id: PackId([n; 16]), bytes: 17_803, footer_bytes: 10_481 };
    let mut head = head();
    head.locations.packs = (0..63).map(packs).collect();
    let (mut older, mut moves) = (OlderEntries::default(), 0);
    for n in 0..200 {
        let mut new = entry(n, EntryKind::Manual);
        new.root.parents = vec![Digest([7; 32])];
        // one of those that stay rolls off, as of a project that keeps five
        let rolled_off = head.entries.iter().find(|entry| entry.id == entry_id(n.wrapping_sub(5)));
        let rolled_off: Vec<EntryId> = rolled_off.map(|entry| entry.id).into_iter().collect();
        assert_eq!(rolled_off.len(), usize::from(n >= 5), "it is in the head at {n}");
        let result =
            OpResult::Done { entries: [vec![new.id], rolled_off.clone()].concat(), tree: None };
        let op = Op { result, ..op(head.seq, n as u8) };
        head = head.add_entry(new, &rolled_off, Some(op), stamp(2)).unwrap();
        if head.needs_spill() {
            moves += 1;
            older = moved(&mut head, older);
        }
        head.locations.packs.push(packs(64));
        assert!(head.encode().unwrap().len() <= HEAD_BYTES_MAX);
        head.locations.packs.pop();
    }
    assert!(moves <= 50, "{moves} of 200");
}

#[test]
fn entries_that_move_out_come_before_those_that_did() {
    let mut head = with_entries(0..17);
    let first = moved(&mut head, OlderEntries::default());
    for n in 17..26 {
        head = head.add_entry(entry(n, EntryKind::Manual), &[], None, stamp(2)).unwrap();
    }
    let second = moved(&mut head, first.clone());
    assert!(second.entries.ends_with(&first.entries));
    let all = head.join(&second).unwrap();
    assert_eq!(all.entries, with_entries(0..26).entries);
    assert_eq!((all.older, all.entry_count()), (None, 26));
    assert!(head.join(&first).is_err());
}

#[test]
fn a_list_that_did_not_change_is_named_again_and_one_that_did_is_not() {
    let mut head = with_entries(0..17);
    let older = moved(&mut head, OlderEntries::default());
    let joined = head.join(&older).unwrap();
    let mut next = joined.add_entry(entry(17, EntryKind::Manual), &[], None, stamp(2)).unwrap();
    assert_eq!(next.name_again(head.older.as_ref()), older);
    assert_eq!((next.older, next.entries.len()), (head.older, head.entries.len() + 1));
    assert!(!next.needs_spill());
    next.encode().unwrap();
    assert_eq!(next.join(&older).unwrap().entries, with_entries(0..18).entries);

    let edit = EntryEdit { pinned: Some(true), ..EntryEdit::default() };
    let mut edited = joined.edit_entry(&entry_id(0), edit, None, stamp(2)).unwrap();
    let before = edited.clone();
    assert_eq!(edited.name_again(head.older.as_ref()), OlderEntries::default());
    assert_eq!(edited, before, "an entry of it changed");
    let mut short = with_entries(0..3);
    assert_eq!(short.name_again(head.older.as_ref()), OlderEntries::default());
    assert_eq!(short.name_again(None), OlderEntries::default());
}

/// Moves entries out of `head`; gives what it only names then.
fn moved(head: &mut Head, older: OlderEntries) -> OlderEntries {
    let chunk = head.spill(older).unwrap();
    let entries = Head::decode_list(&head.older.unwrap(), &chunk).unwrap();
    OlderEntries { entries, unread: head.unread.clone() }
}

/// The entries of `head` and those that were read, and the lists that were not.
fn all_of(head: &Head, older: &OlderEntries) -> (Vec<EntryRecord>, Vec<Older>) {
    let joined = head.join(older).unwrap();
    (joined.entries, joined.unread)
}

#[test]
fn a_list_that_cannot_be_read_stays_named_while_others_come_and_joins_again_when_it_can() {
    let mut head = with_entries(0..17);
    let lost = moved(&mut head, OlderEntries::default());
    let lists = vec![head.older.unwrap()];
    let mut older = OlderEntries { entries: vec![], unread: lists.clone() };
    for n in 17..60 {
        head = head.join(&older).unwrap();
        head = head.add_entry(entry(n, EntryKind::Manual), &[], None, stamp(2)).unwrap();
        older = match head.needs_spill() {
            true => moved(&mut head, OlderEntries { entries: vec![], ..older }),
            false => OlderEntries { entries: vec![], ..older },
        };
        let bytes = head.encode().unwrap();
        assert_eq!(Head::decode(&bytes).unwrap(), head);
        assert_eq!(head.unread, lists, "at {n}");
        assert_eq!(head.entry_count(), n as usize + 1);
    }
    assert_eq!(all_of(&head, &older), (with_entries(9..60).entries, lists));
    older = OlderEntries { entries: [older.entries, lost.entries].concat(), unread: vec![] };
    assert_eq!(all_of(&head, &older), (with_entries(0..60).entries, vec![]));
}

#[test]
fn an_entry_that_comes_back_leaves_its_label_to_a_newer_one_and_is_there_once() {
    let label: Label = "v1".parse().unwrap();
    let labelled = |n| EntryRecord { label: Some(label.clone()), ..entry(n, EntryKind::Manual) };
    let mut head = head();
    head.entries = vec![labelled(5), entry(4, EntryKind::Manual)];
    head.unread = vec![Older { digest: Digest([1; 32]), count: 3 }];
    let mut trashed = labelled(2);
    trash(&mut trashed);
    let back = vec![entry(4, EntryKind::Rescue), labelled(3), trashed.clone()];
    let joined = head.join(&OlderEntries { entries: back, unread: vec![] }).unwrap();
    let expected = [head.entries, vec![entry(3, EntryKind::Manual), trashed]].concat();
    assert_eq!(joined.entries, expected);
    joined.encode().unwrap();
}

fn trash(entry: &mut EntryRecord) {
    (entry.state, entry.trashed_at) = (EntryState::Trashed, Some(stamp(9).time));
}

#[test]
fn nothing_is_decided_of_an_entry_that_may_be_in_a_list_which_cannot_be_read() {
    let mut head = with_entries(0..3);
    head.unread = vec![Older { digest: Digest([1; 32]), count: 3 }];
    let unknown = expect![
        "whether volume vol-1 has entry gqam4yywiome is not known: a list of its older entries is lost or damaged"
    ];
    let edited = head.edit_entry(&entry_id(5), EntryEdit::default(), None, stamp(3));
    assert_eq!(edited.as_ref().unwrap_err().kind(), ErrorKind::Corrupt);
    refused(edited, &unknown);
    // what needs none of them goes on
    head.edit_entry(&entry_id(1), EntryEdit::default(), None, stamp(3)).unwrap();
    head.commit(commit_of(head.now.clone()), None, stamp(3)).unwrap();
}

#[test]
fn other_bytes_are_no_older_entries() {
    let chunk = with_entries(0..17).spill(OlderEntries::default()).unwrap();
    assert!(Head::decode_older(&[chunk.as_slice(), b" "].concat()).is_err());
    assert!(Head::decode_older(&chunk[..chunk.len() - 1]).is_err());
    assert!(Head::decode_older(b"[{}]").is_err());
}

// ---- operations

#[test]
fn an_operation_that_took_effect_gives_its_first_result() {
    let done = OpResult::Done { entries: vec![entry_id(1)], tree: None };
    let head = head().record_op(Op { result: done.clone(), ..op(1, 2) }, stamp(2)).unwrap();
    assert_eq!(head.find_op(&operation_id(1, 2), &RequestHash([2; 8])), OpAnswer::First(done));
    assert_eq!(head.find_op(&operation_id(1, 2), &RequestHash([3; 8])), OpAnswer::OtherRequest);
    assert_eq!(head.find_op(&operation_id(1, 4), &RequestHash([2; 8])), OpAnswer::New);
}

#[test]
fn an_operation_that_may_have_been_forgotten_is_neither_new_nor_failed() {
    let mut head = head();
    for n in 2..=33 {
        head = head.record_op(op(head.seq, n), stamp(n)).unwrap();
    }
    // the create, of seq 1, is forgotten: who had seen seq 0 may have asked for it
    assert_eq!((head.ops.len(), head.ops_from), (32, 1));
    assert_eq!(head.find_op(&operation_id(0, 1), &RequestHash([1; 8])), OpAnswer::TooOld);
    assert_eq!(head.find_op(&operation_id(0, 99), &RequestHash([1; 8])), OpAnswer::TooOld);
    assert_eq!(head.find_op(&operation_id(1, 99), &RequestHash([1; 8])), OpAnswer::New);
    head.encode().unwrap();
}

#[test]
fn background_commits_share_one_slot_and_make_nothing_be_forgotten() {
    let mut head = head();
    for n in 0..100 {
        let background = Op { kind: BACKGROUND.into(), ..op(head.seq, n + 100) };
        head = head.record_op(background, stamp(n)).unwrap();
    }
    assert_eq!((head.ops.len(), head.ops_from, head.seq), (2, 0, 101));
}

#[test]
fn the_seal_keeps_the_operations() {
    let head = head();
    let sealed = head.seal(node("b"), stamp(2)).unwrap();
    assert_eq!((sealed.epoch, sealed.seq, sealed.holder.as_str()), (2, 2, "b"));
    assert_eq!(sealed.ops, head.ops);
    assert_eq!(sealed.now, head.now);
}

proptest! {
    #[test]
    fn no_operation_is_run_twice_however_many_come_between(
        seen in 0u32..60, between in 0u8..90, background in prop::collection::vec(any::<bool>(), 90),
    ) {
        // a caller that had seen `seen` asks, its answer is lost, others come, it asks again
        let mut head = head();
        let step = |head: &Head, n: u8| {
            let kind = if background[usize::from(n)] { BACKGROUND } else { "snapshot" };
            head.record_op(Op { kind: kind.into(), ..op(head.seq, n + 100) }, stamp(n)).unwrap()
        };
        for n in 0..u8::try_from(seen).unwrap() {
            head = step(&head, n);
        }
        let mine = op(seen.min(head.seq), 1);
        let mine = Op { id: operation_id(mine.id.seq(), 250), ..mine };
        head = head.record_op(mine.clone(), stamp(1)).unwrap();
        for n in 0..between {
            head = step(&head, n);
        }
        prop_assert_ne!(head.find_op(&mine.id, &mine.request), OpAnswer::New);
    }
}

// ---- transitions

#[test]
fn each_change_raises_the_seq_by_one() {
    let head = head();
    let commit = commit_of(root_after(2, &head.now));
    let next = head.commit(commit, Some(op(1, 2)), stamp(2)).unwrap();
    assert_eq!((next.seq, next.nonce, next.ops.last().unwrap().seq), (2, Nonce([2; 8]), 2));
    let next = next.relocate(Locations::default(), None, stamp(3)).unwrap();
    assert_eq!((next.seq, next.epoch), (3, 1));
    let last = Head { seq: u32::MAX, ..next };
    refused(
        last.seal(node("b"), stamp(4)),
        &expect!["volume vol-1 has changed as often as is possible"],
    );
}

#[test]
fn a_commit_descends_from_the_present_state() {
    let head = head();
    refused(
        head.commit(commit_of(root(2)), None, stamp(2)),
        &expect!["the new state of volume vol-1 does not descend from its present one"],
    );
    head.commit(commit_of(head.now.clone()), None, stamp(2)).unwrap();
}

#[test]
fn a_commit_brings_its_entry_and_rolls_another_off() {
    let head = with_entries(0..2);
    let commit = Commit {
        add: vec![entry(2, EntryKind::Manual)],
        trash: vec![entry_id(0)],
        ..commit_of(root_after(2, &head.now))
    };
    let next = head.commit(commit, None, stamp(9)).unwrap();
    let ids: Vec<_> = next.entries.iter().map(|entry| entry.id).collect();
    assert_eq!(ids, [entry_id(2), entry_id(1), entry_id(0)]);
    let rolled_off = next.find_entry(&entry_id(0)).unwrap();
    assert_eq!((rolled_off.is_live(), rolled_off.trashed_at), (false, Some(stamp(9).time)));
    assert_eq!(next.seq, head.seq + 1);
}

#[test]
fn an_entry_that_is_there_is_said_to_be_there() {
    let again = with_entries(0..2).add_entry(entry(1, EntryKind::Manual), &[], None, stamp(2));
    assert_eq!(again.unwrap_err(), TransitionError::EntryIsThere { entry: entry_id(1) });
}

#[test]
fn a_restore_keeps_the_present_state() {
    let head = head();
    let replace = Replace {
        root: root(5),
        locations: head.locations.clone(),
        root_frame: None,
        before: EntryRecord { root: head.now.clone(), ..entry(1, EntryKind::BeforeRestore) },
        trash: vec![],
    };
    let next = head.restore_to(replace.clone(), Some(op(1, 2)), stamp(2)).unwrap();
    assert_eq!(next.now, root(5));
    assert_eq!(next.find_entry(&entry_id(1)).unwrap().root, head.now);
    refused(
        next.restore_to(replace, None, stamp(3)),
        &expect!["entry ihoxftkksedb does not hold the present state of volume vol-1"],
    );
}

#[test]
fn the_state_before_a_restore_gets_the_last_write() {
    let head = with_entries(0..1);
    let next = head
        .replace_entry_root(&entry_id(0), root(8), head.locations.clone(), None, stamp(3))
        .unwrap();
    assert_eq!(next.find_entry(&entry_id(0)).unwrap().root, root(8));
    assert_eq!(next.now, head.now);
}

#[test]
fn a_pinned_entry_does_not_go_to_the_trash() {
    let pin = |pinned| EntryEdit { pinned: Some(pinned), ..EntryEdit::default() };
    let trash = EntryEdit { state: Some(EntryState::Trashed), ..EntryEdit::default() };
    let head = with_entries(0..1).edit_entry(&entry_id(0), pin(true), None, stamp(3)).unwrap();
    assert_eq!(
        head.edit_entry(&entry_id(0), trash.clone(), None, stamp(4)).unwrap_err(),
        TransitionError::EntryPinned { entry: entry_id(0) }
    );
    let unpinned = head.edit_entry(&entry_id(0), pin(false), None, stamp(4)).unwrap();
    unpinned.edit_entry(&entry_id(0), trash, None, stamp(5)).unwrap();
}

#[test]
fn an_entry_in_the_trash_comes_back_when_its_files_change() {
    let mut head = with_entries(0..2);
    let label: Option<Label> = Some("name".parse().unwrap());
    head.entries[0].label = label.clone();
    (head.entries[1].label, head.entries[1].state) = (label, EntryState::Trashed);
    head.entries[1].trashed_at = Some(stamp(2).time);
    let id = head.entries[1].id;
    let replaced = |head: &Head, root: Root| {
        head.replace_entry_root(&id, root, head.locations.clone(), None, stamp(3)).unwrap()
    };
    let same = replaced(&head, head.entries[1].root.clone());
    assert_eq!(same.entries, head.entries, "nothing was written");
    let next = replaced(&head, root(8));
    let back = next.find_entry(&id).unwrap();
    assert_eq!((back.is_live(), back.trashed_at, &back.label), (true, None, &None));
    assert!(next.find_entry(&head.entries[0].id).unwrap().label.is_some());
}

#[test]
fn an_entry_goes_to_the_trash_and_comes_back() {
    let head = with_entries(0..1);
    let state = |state| EntryEdit { state: Some(state), ..EntryEdit::default() };
    let trashed =
        head.edit_entry(&entry_id(0), state(EntryState::Trashed), None, stamp(3)).unwrap();
    assert_eq!(trashed.entries[0].trashed_at, Some(stamp(3).time));
    let again =
        trashed.edit_entry(&entry_id(0), state(EntryState::Trashed), None, stamp(4)).unwrap();
    assert_eq!(again.entries[0].trashed_at, Some(stamp(3).time));
    let back = again.edit_entry(&entry_id(0), state(EntryState::Live), None, stamp(5)).unwrap();
    assert_eq!(back.entries, head.entries);
}

#[test]
fn two_live_entries_never_have_one_label() {
    let label = |text: &str| Some(Some(text.parse().unwrap()));
    let named = |text| EntryEdit { label: label(text), ..EntryEdit::default() };
    let head = with_entries(0..2).edit_entry(&entry_id(0), named("v1"), None, stamp(3)).unwrap();
    refused(
        head.edit_entry(&entry_id(1), named("v1"), None, stamp(4)),
        &expect![[r#"label "v1" is taken by another entry"#]],
    );
    let new = EntryRecord { label: Some("v1".parse().unwrap()), ..entry(2, EntryKind::Manual) };
    refused(
        head.add_entry(new.clone(), &[], None, stamp(4)),
        &expect![[r#"label "v1" is taken by another entry"#]],
    );
    // once the first is in the trash its label is free, and it cannot come back with it
    let head = head.add_entry(new, &[entry_id(0)], None, stamp(4)).unwrap();
    let back = EntryEdit { state: Some(EntryState::Live), ..EntryEdit::default() };
    refused(
        head.edit_entry(&entry_id(0), back, None, stamp(5)),
        &expect![[r#"label "v1" is taken by another entry"#]],
    );
}

#[test]
fn what_needs_all_entries_asks_for_them() {
    let mut head = with_entries(0..17);
    let older = moved(&mut head, OlderEntries::default());
    let pin = EntryEdit { pinned: Some(true), ..EntryEdit::default() };
    refused(
        head.edit_entry(&entry_id(0), pin.clone(), None, stamp(3)),
        &expect!["the older entries of volume vol-1 are not loaded"],
    );
    let mut pinned =
        head.join(&older).unwrap().edit_entry(&entry_id(0), pin, None, stamp(3)).unwrap();
    let older = moved(&mut pinned, OlderEntries::default());
    assert!(older.entries.last().unwrap().pinned);
    let missing = with_entries(0..1).edit_entry(&entry_id(5), EntryEdit::default(), None, stamp(3));
    refused(missing, &expect!["volume vol-1 has no entry gqam4yywiome"]);
}

#[test]
fn a_volume_in_the_trash_takes_no_commits_and_comes_back_whole() {
    let head = head();
    let trashed = head.set_trashed(true, Some(op(1, 2)), stamp(2)).unwrap();
    assert_eq!((trashed.state, trashed.trashed_at), (HeadState::Trashed, Some(stamp(2).time)));
    trashed.encode().unwrap();
    refused(
        trashed.commit(commit_of(trashed.now.clone()), None, stamp(3)),
        &expect!["volume vol-1 is in the trash"],
    );
    let back = trashed.set_trashed(false, None, stamp(3)).unwrap();
    assert_eq!((back.state, back.trashed_at, &back.now), (HeadState::Live, None, &head.now));
}

#[test]
fn a_deleted_volume_is_a_tombstone() {
    let HeadObject::Tombstone(tombstone) =
        with_entries(0..2).delete(&[], Some(op(3, 9)), stamp(9)).unwrap()
    else {
        panic!("nothing is held")
    };
    assert_eq!((tombstone.lived, tombstone.seq, tombstone.epoch), (true, 4, 1));
    assert_eq!(tombstone.op, Some(operation_id(3, 9)));
}

#[test]
fn a_deleted_volume_keeps_the_entries_that_are_held() {
    let mut head = with_entries(0..3);
    head.entries[1].root = root(6);
    let HeadObject::Head(left) = head.delete(&[entry_id(1)], None, stamp(9)).unwrap() else {
        panic!("an entry is held")
    };
    assert_eq!((left.state, left.entries.len(), &left.now), (HeadState::Deleted, 1, &root(6)));
    left.encode().unwrap();
    refused(
        left.commit(commit_of(root(6)), None, stamp(9)),
        &expect!["volume vol-1 is in the trash"],
    );
    assert!(left.set_trashed(false, None, stamp(9)).is_err());
    assert!(matches!(left.delete(&[], None, stamp(9)).unwrap(), HeadObject::Tombstone(_)));
}

fn in_trash(head: &Head, n: u32, since: u8) -> Head {
    let trash = EntryEdit { state: Some(EntryState::Trashed), ..EntryEdit::default() };
    head.edit_entry(&entry_id(n), trash, None, stamp(since)).unwrap()
}

fn after(since: u8, passed: jiff::SignedDuration) -> Stamp {
    Stamp { time: stamp(since).time + passed, nonce: stamp(since).nonce }
}

#[test]
fn what_was_in_the_trash_for_seven_days_leaves_the_list_at_a_commit() {
    let head = in_trash(&in_trash(&with_entries(0..3), 1, 10), 2, 11);
    let at = |passed| head.commit(commit_of(head.now.clone()), None, after(10, passed)).unwrap();
    assert_eq!(at(TRASH_TIME).entry_count(), 3);
    let left = at(TRASH_TIME + jiff::SignedDuration::from_millis(1));
    assert_eq!(left.entries.iter().map(|e| e.id).collect::<Vec<_>>(), [entry_id(2), entry_id(0)]);
    // a head that names older ones is left as it is: they are part of the count
    let mut short = with_entries(0..20);
    short = in_trash(&short, 19, 10);
    short.spill(OlderEntries::default()).unwrap();
    let late = after(10, TRASH_TIME * 2);
    let kept = short.commit(commit_of(short.now.clone()), None, late).unwrap();
    assert_eq!(kept.entry_count(), 20);
}

#[test]
fn in_a_full_list_the_trash_gives_way_and_no_live_entry_does() {
    let full = with_entries(0..256);
    assert_eq!(room(&full.entries, &[]), 0);
    assert_eq!(room(&full.entries, &[entry_id(7)]), 1);
    let new = |n| entry(n, EntryKind::Manual);
    refused(
        full.add_entry(new(300), &[], None, stamp(9)),
        &expect!["volume vol-1 has 256 entries in its timeline, the most that are possible"],
    );
    // 5 was put there before 9
    let trashed = in_trash(&in_trash(&full, 5, 3), 9, 4);
    assert_eq!(room(&trashed.entries, &[]), 2);
    let one = trashed.add_entry(new(300), &[], None, stamp(9)).unwrap();
    assert_eq!((one.entry_count(), one.find_entry(&entry_id(5))), (256, None));
    let two = one.add_entry(new(301), &[], None, stamp(9)).unwrap();
    assert_eq!((two.entry_count(), two.find_entry(&entry_id(9))), (256, None));
    assert!(two.add_entry(new(302), &[], None, stamp(9)).is_err());
    // what rolls off with it makes room for it
    let rolled = two.add_entry(new(302), &[entry_id(0)], None, stamp(9)).unwrap();
    assert_eq!((rolled.entry_count(), rolled.find_entry(&entry_id(0))), (256, None));
    // a head that does not hold all of them asks for the others first
    let mut spilled = trashed;
    spilled.spill(OlderEntries::default()).unwrap();
    refused(
        spilled.add_entry(new(300), &[], None, stamp(9)),
        &expect!["the older entries of volume vol-1 are not loaded"],
    );
}
