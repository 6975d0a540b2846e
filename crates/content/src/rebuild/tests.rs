use std::convert::Infallible;

use cove_types::{EntryKind, PackId};

use super::*;
use crate::sample::{self, index_ref, pack_ref, stamp};

/// A record of the volume of [`sample::head`] at `epoch` and `seq`, whose own pack is `n`.
fn record(epoch: u64, seq: u32, n: u8) -> Record {
    let head = Head { epoch, seq, ..sample::head() };
    Record { pack: pack_ref(n, 5000), session: SessionId([n; 16]), head }
}

fn remains(records: &[Record]) -> Remains {
    let mut remains = Remains::default();
    records.iter().cloned().for_each(|record| remains.add_record(record));
    remains
}

/// The own pack of the record that is chosen when those of packs `lost` cannot be read.
fn chosen(records: &[Record], lost: &[u8]) -> Option<u8> {
    let is_readable =
        |record: &Record, _: &Locations| Ok::<_, Infallible>(!lost.contains(&record.pack.id.0[0]));
    let remains = remains(records);
    let Ok(chosen) = remains.choose(is_readable);
    chosen.map(|record| record.pack.id.0[0])
}

#[test]
fn the_newest_record_is_that_of_the_last_owner_and_of_its_last_change() {
    let records = [record(1, 9, 2), record(2, 3, 3), record(2, 4, 4), record(1, 30, 5)];
    assert_eq!(chosen(&records, &[]), Some(4));
    let mut turned = records.to_vec();
    turned.reverse();
    assert_eq!(chosen(&turned, &[]), Some(4), "in whatever order they are found");
}

#[test]
fn of_two_attempts_at_one_change_the_later_is_chosen() {
    let mut later = record(1, 9, 2);
    later.head.time = sample::time(90);
    assert_eq!(chosen(&[later, record(1, 9, 3)], &[]), Some(2));
}

#[test]
fn a_record_whose_state_cannot_be_read_gives_way_to_the_one_before() {
    let records = [record(1, 3, 2), record(1, 4, 3), record(1, 5, 4)];
    assert_eq!(chosen(&records, &[4]), Some(3));
    assert_eq!(chosen(&records, &[4, 3]), Some(2));
    assert_eq!(chosen(&records, &[4, 3, 2]), Some(4), "its timeline at least");
    assert_eq!(chosen(&[], &[]), None);
}

#[test]
fn no_more_records_are_kept_than_are_worth_trying_and_they_are_the_newest() {
    let all: Vec<Record> = (1..=100).map(|seq| record(1, seq, seq as u8)).collect();
    let remains = remains(&all);
    assert_eq!(remains.records.len(), RECORDS_MAX);
    assert_eq!(remains.records[RECORDS_MAX - 1].head.seq, 100 - RECORDS_MAX as u32 + 1);
}

#[test]
fn what_a_session_wrote_before_its_last_pack_belongs_to_its_record() {
    let mut record = record(1, 2, 7);
    record.head.locations.indexes = vec![index_ref(9, 10)];
    let mut remains = remains(std::slice::from_ref(&record));
    remains.add_pack(record.session, pack_ref(5, 9000));
    remains.add_pack(SessionId([8; 16]), pack_ref(6, 9000));
    // a long session has had it listed
    remains.add_pack(record.session, pack_ref(1, 4000));
    let locations = remains.locations(&record);
    locations.check().unwrap();
    let packs: Vec<PackId> = locations.packs.iter().map(|pack| pack.id).collect();
    assert_eq!(packs, [1, 5, 7].map(|n| PackId([n; 16])));
    assert_eq!(locations.indexes, record.head.locations.indexes);
}

#[test]
fn a_rebuilt_head_is_a_lawful_one_of_another_volume_and_project() {
    let mut record = record(4, 17, 7).head;
    let op = crate::head::OpRecord {
        id: sample::operation_id(1, 3),
        request: crate::head::RequestHash([3; 8]),
        kind: "snapshot".into(),
        result: crate::head::OpResult::Done { entries: Vec::new(), tree: None },
        seq: 17,
    };
    record.ops.push(op);
    let mut before = sample::entry(2, EntryKind::Manual);
    before.saved_ms = Some(810);
    record.entries = vec![sample::entry(3, EntryKind::Manual), before];
    record.time = sample::time(5);
    record.document = Some(ProjectDocument {
        id: record.project.clone(),
        name: "Shop".into(),
        slug: "shop".parse().unwrap(),
        config: serde_json::Map::new(),
        graph: serde_json::Map::new(),
        forked_from: None,
        created_at: sample::time(0),
        unknown: serde_json::Map::new(),
    });
    let locations = record.locations.clone();
    let rebuilt = head(&record, locations.clone(), sample::node("b"), stamp(60));
    let read = Head::decode(&rebuilt.encode().unwrap()).unwrap();
    assert_eq!(read, rebuilt);
    assert_ne!((&read.volume, &read.project), (&record.volume, &record.project));
    assert_eq!(read.volume.rebuilt_from(&record.volume), Some((4, 17)));
    assert_eq!((read.epoch, read.seq, &read.ops[..], read.ops_from), (1, 1, &[][..], 0));
    assert_eq!(read.now.tree, record.now.tree);
    assert_eq!(read.now.parents, [record.now.digest()]);
    // the record was written before it could say how long its own entry took
    let took: Vec<Option<u64>> = read.entries.iter().map(|entry| entry.saved_ms).collect();
    assert_eq!(took, [Some(2000), Some(810)]);
    let as_recorded = |entry: &EntryRecord| EntryRecord { saved_ms: None, ..entry.clone() };
    assert!(read.entries.iter().map(as_recorded).eq(record.entries.iter().map(as_recorded)));
    assert_eq!(read.locations, locations);
    let document = read.document.unwrap();
    assert_eq!((document.id, document.slug.as_str()), (read.project, "shop"));
    assert!(document.created_at > sample::time(0), "the lost one keeps its name if it comes back");
    assert!(crate::verify::contradictions(&rebuilt).is_empty());
    assert_eq!(names(&record), (rebuilt.volume, rebuilt.project), "again");
}
