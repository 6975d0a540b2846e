//! Any history of edits, against a plain map.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Change {
    File { place: u16, size: u64, seed: u64 },
    Touch { place: u16 },
    Delete { place: u16 },
    DeleteAll { directory: u16 },
    DeleteSpan { from: u16, to: u16 },
}

/// One of some paths; when `deep`, so long that nodes have some ten parts and a tree of
/// a thousand items has four levels.
fn place(number: u16, deep: bool) -> TreePath {
    let (d, f) = (number / 97 % 40, number % 97);
    let between = if deep { format!("{d:0>250}/").repeat(6) } else { String::new() };
    path(&format!("d{d}/{between}sub-{}/a-file-with-a-long-name-{f}", d % 3))
}

fn a_change() -> impl Strategy<Value = Change> {
    let size = prop_oneof![Just(0), 1_u64..5000, Just(Grid::Large.bytes() * 70 + 1)];
    prop_oneof![
        6 => (any::<u16>(), size, 0..50_u64)
            .prop_map(|(place, size, seed)| Change::File { place, size, seed }),
        3 => any::<u16>().prop_map(|place| Change::Touch { place }),
        3 => any::<u16>().prop_map(|place| Change::Delete { place }),
        1 => any::<u16>().prop_map(|directory| Change::DeleteAll { directory }),
        1 => (any::<u16>(), any::<u16>()).prop_map(|(from, to)| Change::DeleteSpan { from, to }),
    ]
}

fn delete(map: &mut Map, range: Range<Key>) {
    if range.start < range.end {
        let keys: Vec<Key> = map.range(range).map(|(key, _)| key.clone()).collect();
        keys.iter().for_each(|key| {
            map.remove(key);
        });
    }
}

/// Makes the same change in a map and in edits.
fn make(change: &Change, deep: bool, map: &mut Map, edits: &mut Edits) {
    let place = |number: u16| place(number, deep);
    match change {
        Change::File { place: number, size, seed } => {
            let (entry, digests) = file(*size, *seed);
            delete(map, Key::file_range(&place(*number)));
            let items = file_items(&place(*number), &entry, &digests).unwrap();
            map.extend(items.into_iter().map(|item| (item.key, item.value)));
            edits.put_file(&place(*number), &entry, &digests).unwrap();
        }
        Change::Touch { place: number } => {
            let key = Key::entry(&place(*number));
            if let Some(value) = map.get(&key) {
                let mut entry = Entry::decode(value).unwrap();
                entry.mtime.seconds += 1;
                map.insert(key, entry.encode().unwrap());
                edits.put_entry(&place(*number), &entry).unwrap();
            }
        }
        Change::Delete { place: number } => {
            map.remove(&Key::entry(&place(*number)));
            edits.delete(Key::entry(&place(*number)));
        }
        Change::DeleteAll { directory } => {
            let at = place(*directory).parent().unwrap();
            delete(map, Key::file_range(&at));
            delete(map, Key::subtree_range(&at));
            edits.delete_all(&at);
        }
        Change::DeleteSpan { from, to } => {
            let range = Key::entry(&place(*from))..Key::entry(&place(*to));
            delete(map, range.clone());
            edits.delete_range(range);
        }
    }
}

/// What a plain comparison of two maps says.
pub(super) fn plain_diff(a: &Map, b: &Map) -> Vec<Difference> {
    let keys: std::collections::BTreeSet<&Key> = a.keys().chain(b.keys()).collect();
    keys.into_iter()
        .filter(|key| a.get(key) != b.get(key))
        .map(|key| Difference {
            key: key.clone(),
            before: a.get(key).cloned(),
            after: b.get(key).cloned(),
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_history_of_edits_gives_the_tree_of_a_bulk_build(
        start in 0..3000_u16,
        deep: bool,
        history in prop::collection::vec(prop::collection::vec(a_change(), 1..30), 1..8),
    ) {
        let mut map = Map::new();
        for number in 0..start {
            make(&Change::File { place: number.wrapping_mul(7919), size: 10, seed: 1 }, deep, &mut map, &mut Edits::new());
        }
        let mut nodes = MemoryNodes::default();
        let mut root = build(&map, &mut nodes);
        for round in history {
            let (before, old) = (map.clone(), root);
            let mut edits = Edits::new();
            round.iter().for_each(|change| make(change, deep, &mut map, &mut edits));
            let mut fresh = MemoryNodes::default();
            root = edits.apply(&nodes, Some(&root.digest), &mut fresh).unwrap();
            for (digest, bytes) in fresh.iter() {
                nodes.put(*digest, bytes.clone()).unwrap();
            }
            prop_assert_eq!(root, build(&map, &mut MemoryNodes::default()));
            prop_assert_eq!(&items(&nodes, &root), &map);
            let found: Result<Vec<Difference>, ReadError> =
                diff(&nodes, &old.digest, &nodes, &root.digest).collect();
            prop_assert_eq!(found.unwrap(), plain_diff(&before, &map));
        }
    }

    #[test]
    fn a_range_gives_what_is_in_it_wherever_it_begins_and_ends(
        from: u16, to: u16, seek: u16,
    ) {
        let map = large_map(40, 97);
        let mut nodes = MemoryNodes::default();
        let root = build(&map, &mut nodes);
        let key = |number: u16| {
            let key = map.keys().nth(usize::from(number) % map.len()).unwrap().clone();
            if number.is_multiple_of(2) { key } else { Key::from_bytes([key.as_bytes(), &[1]].concat()) }
        };
        let (from, to, seek) = (key(from), key(to), key(seek));
        let mut cursor = range(&nodes, &root.digest, from.clone()..to.clone());
        let first = cursor.next().map(|item| item.unwrap().key);
        cursor.seek(seek.clone());
        let rest: Vec<Key> = cursor.map(|item| item.unwrap().key).collect();
        let mut expected = map.keys().filter(|key| **key >= from && **key < to).cloned();
        prop_assert_eq!(first, expected.next());
        prop_assert_eq!(rest, expected.filter(|key| *key >= seek).collect::<Vec<_>>());
    }
}
