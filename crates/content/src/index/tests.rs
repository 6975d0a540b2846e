use std::collections::BTreeMap;

use expect_test::expect;
use proptest::prelude::*;

use super::*;
use crate::sample::{hex, refuses_every_other};

fn pack(n: u8) -> PackEntry {
    PackEntry { id: PackId([n; 16]), bytes: 1 << 20, blake3: Digest([n; 32]) }
}

fn location(name: u32, pack: u8) -> Location {
    let digest = Digest::of(&name.to_le_bytes());
    let row = IndexRow { digest, frame_offset: 144, frame_bytes: 50, position: 2, bytes: 4 };
    Location { pack: PackId([pack; 16]), row }
}

fn sorted(mut locations: Vec<Location>) -> Vec<Location> {
    locations.sort_by_key(|location| location.row.digest);
    locations
}

fn index(packs: &[PackEntry], locations: &[Location]) -> (Vec<u8>, IndexRef) {
    let id = IndexId([0x33; 16]);
    let mut writer = IndexWriter::new(Vec::new(), id, packs.to_vec()).unwrap();
    locations.iter().for_each(|location| writer.push(location).unwrap());
    writer.finish().unwrap()
}

fn decode_whole(bytes: &[u8]) -> Result<(IndexTable, Vec<Location>), DecodeError> {
    let table = check_whole(bytes)?;
    let rows = rows(&table, bytes).collect::<Result<_, _>>()?;
    Ok((table, rows))
}

fn find(bytes: &[u8], table: &IndexTable, digest: &Digest) -> Option<Location> {
    let page = table.page_of(digest)?;
    let range = page.range();
    table.lookup_page(&page, &bytes[range.start as usize..range.end as usize], digest).unwrap()
}

#[test]
fn the_bytes_of_an_index_are_these() {
    let rows = sorted(vec![location(1, 1), location(2, 2)]);
    let (bytes, written) = index(&[pack(2), pack(1)], &rows);
    expect![[r#"
        636f7665696e64780100000000000000c610e85212d0697cb161d4ba431ba603
        f273feee7dcb7927c9ff5d74ae6cbfa390000000320000000200000004000000
        00000000f03bf86f79d121cbfd774dec4a65912e99f5f17c33852bbc45e81916
        0e62b53b90000000320000000200000004000000010000000101010101010101
        0101010101010101000010000000000001010101010101010101010101010101
        0101010101010101010101010101010102020202020202020202020202020202
        0000100000000000020202020202020202020202020202020202020202020202
        0202020202020202c610e85212d0697cb161d4ba431ba603f273feee7dcb7927
        c9ff5d74ae6cbfa339070bf2ed5e9946f3371ff544e4a057cb13fad2d0408c87
        73029a60765c38f0020000000000000002000000010000000000000000000000
        000000000000000033333333333333333333333333333333a7e050391478f555
        ac01390c9e80d7d2d7768fab6759d937827dc1fe57727c09696e6478656e6473"#]]
    .assert_eq(&hex(&bytes));
    expect![[r#"
        (
            384,
            2,
            264,
        )
    "#]]
    .assert_debug_eq(&(written.bytes, written.rows, written.table_bytes));
}

#[test]
fn any_other_bytes_are_no_index() {
    let rows = sorted(vec![location(1, 1), location(2, 2)]);
    let (bytes, _) = index(&[pack(1), pack(2)], &rows);
    refuses_every_other(&bytes, |bytes| {
        let (table, locations) = decode_whole(bytes)?;
        assert_eq!((table.rows, locations.len()), (2, 2));
        Ok::<_, DecodeError>(())
    });
}

#[test]
fn any_other_bytes_are_no_tables() {
    let (bytes, written) = index(&[pack(1)], &[location(1, 1)]);
    let start = bytes.len() - written.table_bytes as usize;
    let tail = |tail: &[u8]| IndexTable::decode_tail(tail, written.bytes);
    refuses_every_other(&bytes[start..], tail);
    assert_eq!(tail(&bytes).unwrap(), tail(&bytes[start..]).unwrap());
    assert!(IndexTable::decode_tail(&bytes[start..], written.bytes + 52).is_err());
    let table_bytes = IndexTable::table_bytes(&bytes[start + 20..], written.bytes).unwrap();
    assert_eq!(table_bytes, written.table_bytes as usize);
}

#[test]
fn an_index_of_nothing_finds_nothing() {
    let (bytes, written) = index(&[], &[]);
    assert_eq!((bytes.len(), written.rows), (104, 0));
    let (table, rows) = decode_whole(&bytes).unwrap();
    assert!(rows.is_empty());
    assert_eq!(table.page_of(&Digest([5; 32])), None);
}

#[test]
fn each_chunk_is_found_by_one_page() {
    let count = 3 * u32::try_from(PAGE_ROWS).unwrap() + 1;
    let rows = sorted(
        (0..count).map(|name| location(name, 1 + u8::try_from(name % 3).unwrap())).collect(),
    );
    let (bytes, written) = index(&[pack(1), pack(2), pack(3)], &rows);
    assert_eq!(written.bytes, bytes.len() as u64);
    let table = IndexTable::decode_tail(&bytes, written.bytes).unwrap();
    assert_eq!((table.page_count(), table.page(3).unwrap().bytes), (4, ROW_BYTES));
    assert_eq!(table.page(0).unwrap().bytes, 65_520);
    for row in &rows {
        assert_eq!(find(&bytes, &table, &row.row.digest), Some(*row));
    }
    for name in count..count + 1000 {
        assert_eq!(find(&bytes, &table, &Digest::of(&name.to_le_bytes())), None);
    }
    assert_eq!(decode_whole(&bytes).unwrap().1, rows);
}

#[test]
fn a_page_that_is_another_is_refused() {
    let (bytes, written) = index(&[pack(1)], &[location(1, 1)]);
    let table = IndexTable::decode_tail(&bytes, written.bytes).unwrap();
    let page = table.page(0).unwrap();
    let mut other = bytes[16..68].to_vec();
    other[40] ^= 1;
    assert!(table.lookup_page(&page, &other, &location(1, 1).row.digest).is_err());
    assert!(table.decode_page(&page, &other).is_err());
}

#[test]
fn rows_come_in_ascending_order_and_lie_in_known_packs() {
    let rows = sorted(vec![location(1, 1), location(2, 1)]);
    let mut writer = IndexWriter::new(Vec::new(), IndexId([1; 16]), vec![pack(1)]).unwrap();
    writer.push(&rows[1]).unwrap();
    assert!(matches!(writer.push(&rows[1]), Err(WriteError::NotAscending { .. })));
    assert!(matches!(writer.push(&rows[0]), Err(WriteError::NotAscending { .. })));
    let mut writer = IndexWriter::new(Vec::new(), IndexId([1; 16]), vec![pack(1)]).unwrap();
    assert!(matches!(writer.push(&location(1, 2)), Err(WriteError::NoSuchPack { .. })));
}

#[test]
fn a_chunk_in_several_sources_lies_where_the_first_one_says() {
    let sources = [vec![location(1, 1)], vec![location(1, 2)], vec![location(1, 3)]];
    let sources = sources.map(|rows| rows.into_iter().map(Ok));
    let merged: Result<Vec<_>, _> = merge(sources.into()).collect();
    assert_eq!(merged.unwrap(), [location(1, 1)]);
}

#[test]
fn a_damaged_source_ends_the_merge() {
    let damaged = || Err(DecodeError::damaged("index", "x"));
    let rows = sorted(vec![location(1, 1), location(2, 1), location(3, 1)]);
    let good = rows.into_iter().map(Ok).collect::<Vec<_>>().into_iter();
    let mut merged = merge(vec![good, vec![damaged()].into_iter()]);
    assert_eq!(merged.next(), Some(damaged()));
    assert_eq!(merged.next(), None);
}

proptest! {
    #[test]
    fn a_merge_is_the_union_in_order(sources in prop::collection::vec(prop::collection::btree_set(0u32..60, 0..30), 0..6)) {
        let runs: Vec<_> = sources.iter().enumerate().map(|(n, names)| {
            let pack = u8::try_from(n).unwrap();
            sorted(names.iter().map(|name| location(*name, pack)).collect()).into_iter().map(Ok)
        }).collect();
        let merged: Result<Vec<Location>, DecodeError> = merge(runs).collect();
        let mut expected = BTreeMap::new();
        for (n, names) in sources.iter().enumerate() {
            for name in names {
                let location = location(*name, u8::try_from(n).unwrap());
                expected.entry(location.row.digest).or_insert(location);
            }
        }
        prop_assert_eq!(merged.unwrap(), expected.into_values().collect::<Vec<_>>());
    }

    #[test]
    fn any_bytes_are_tables_or_an_error(bytes: Vec<u8>, length: u64) {
        let _ = IndexTable::decode_tail(&bytes, length);
        let _ = IndexTable::decode_tail(&bytes, bytes.len() as u64);
    }
}
