//! Whole trees: built, edited, read and compared against a plain map.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;

use bytes::Bytes;
use cove_types::{Classify, Digest, ErrorKind, FileTime, TreePath};
use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

type Map = BTreeMap<Key, Bytes>;

fn path(text: &str) -> TreePath {
    TreePath::parse(text).unwrap()
}

fn time(seconds: i64) -> FileTime {
    FileTime { seconds, nanoseconds: 5 }
}

fn digest(seed: u64) -> Digest {
    Digest::of(&seed.to_le_bytes())
}

fn directory() -> Entry {
    Entry::new(Content::Directory, 0o755, time(1))
}

/// A file of `size` bytes and its digests, which `seed` decides.
fn file(size: u64, seed: u64) -> (Entry, Vec<Digest>) {
    let grid = Grid::Large;
    let digests = (0..grid.chunks(size)).map(|index| digest(seed * 1_000_003 + index)).collect();
    (Entry::new(Content::File { size, grid, chunk: None }, 0o644, time(2)), digests)
}

fn put_file(edits: &mut Edits, at: &str, size: u64, seed: u64) {
    let (entry, digests) = file(size, seed);
    edits.put_file(&path(at), &entry, &digests).unwrap();
}

fn build(map: &Map, nodes: &mut MemoryNodes) -> Root {
    let mut builder = Builder::new(nodes);
    for (key, value) in map {
        builder.push(Item { key: key.clone(), value: value.clone() }).unwrap();
    }
    builder.finish().unwrap()
}

fn tree(edits: Edits, nodes: &mut MemoryNodes) -> Root {
    let old = nodes.clone();
    edits.apply(&old, None, nodes).unwrap()
}

fn items(nodes: &MemoryNodes, root: &Root) -> Map {
    let all = range(nodes, &root.digest, Key::all());
    all.map(|item| item.map(|item| (item.key, item.value)).unwrap()).collect()
}

/// A map of `directories` directories with `files` small files each.
fn large_map(directories: u64, files: u64) -> Map {
    map_of(directories, files, "")
}

/// What makes keys long, so that a tree of few items is tall.
const LONG: &str = "-a-name-that-is-so-long-that-inner-nodes-have-few-children-and-more-of-them-are-\
                    needed-which-gives-a-tree-of-three-levels-from-some-ten-thousand-items-on";

/// The same with long names of the directories.
fn tall_map(directories: u64, files: u64) -> Map {
    map_of(directories, files, LONG)
}

fn map_of(directories: u64, files: u64, more: &str) -> Map {
    let mut map = Map::new();
    let mut put = |item: Item| map.insert(item.key, item.value);
    for d in 0..directories {
        let at = path(&format!("dir-{d}{more}"));
        put(Item { key: Key::entry(&at), value: directory().encode().unwrap() });
        for f in 0..files {
            let at = at.join(format!("file-{f}.txt").as_bytes()).unwrap();
            let (entry, digests) = file(100 + f, d * files + f);
            file_items(&at, &entry, &digests).unwrap().into_iter().for_each(|item| {
                put(item);
            });
        }
    }
    map
}

/// A source that counts what is read from it.
struct Counted<'a> {
    nodes: &'a MemoryNodes,
    read: Cell<usize>,
}

impl<'a> Counted<'a> {
    fn new(nodes: &'a MemoryNodes) -> Self {
        Self { nodes, read: Cell::new(0) }
    }
}

impl Nodes for Counted<'_> {
    fn node(&self, digest: &Digest) -> Result<Bytes, ReadError> {
        self.read.set(self.read.get() + 1);
        self.nodes.node(digest)
    }
}

// Building

#[test]
fn the_empty_tree_is_one_leaf_without_items() {
    let mut nodes = MemoryNodes::default();
    let root = build(&Map::new(), &mut nodes);
    assert_eq!(root, Root::empty());
    assert_eq!(nodes.node(&root.digest).unwrap(), EMPTY_NODE);
    assert!(items(&nodes, &root).is_empty());
}

#[test]
fn items_out_of_order_are_refused() {
    let mut builder = Builder::new(MemoryNodes::default());
    let value = directory().encode().unwrap();
    let item = |text: &str| Item { key: Key::entry(&path(text)), value: value.clone() };
    builder.push(item("b")).unwrap();
    assert!(matches!(builder.push(item("b")), Err(WriteError::Order { .. })));
    assert!(matches!(builder.push(item("a")), Err(WriteError::Order { .. })));
}

#[test]
fn an_item_of_no_form_is_refused() {
    let mut builder = Builder::new(MemoryNodes::default());
    let item = Item { key: Key::entry(&path("a")), value: Bytes::from_static(b"?") };
    let error = builder.push(item).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[test]
fn nodes_are_about_16_kib_and_counts_add_up_to_the_top() {
    let map = large_map(60, 200);
    let mut nodes = MemoryNodes::default();
    let root = build(&map, &mut nodes);
    let bytes: usize = nodes.iter().map(|(_, bytes)| bytes.len()).sum();
    let mean = bytes / nodes.len();
    assert!((8 << 10..24 << 10).contains(&mean), "{mean} bytes a node");
    assert!(bytes / map.len() < 110, "{} bytes an entry", bytes / map.len());
    assert_eq!(root.counts.entries, 60 + 60 * 200);
    assert_eq!(root.counts.logical_bytes, 60 * (0..200).map(|f| 100 + f).sum::<u64>());
    assert_eq!(root.counts.data_bytes, root.counts.logical_bytes);
    assert_eq!(root.counts.depth, 2);
    assert_eq!(items(&nodes, &root), map);
}

#[test]
fn a_hard_linked_file_counts_its_size_once() {
    let mut edits = Edits::new();
    for name in ["b", "a"] {
        let (mut entry, digests) = file(1000, 1);
        entry.link = Some(path("a"));
        edits.put_file(&path(name), &entry, &digests).unwrap();
    }
    let root = tree(edits, &mut MemoryNodes::default());
    assert_eq!((root.counts.entries, root.counts.logical_bytes), (2, 1000));
}

#[test]
fn a_hole_counts_as_size_and_not_as_data() {
    let grid = Grid::Large;
    let size = 200 * grid.bytes() + 5;
    let mut digests = vec![Digest::HOLE; 201];
    digests[3] = digest(3);
    digests[200] = digest(200);
    let entry = Entry::new(Content::File { size, grid, chunk: None }, 0o644, time(2));
    let mut edits = Edits::new();
    edits.put_file(&path("disk"), &entry, &digests).unwrap();
    let mut nodes = MemoryNodes::default();
    let root = tree(edits, &mut nodes);
    assert_eq!(root.counts.logical_bytes, size);
    assert_eq!(root.counts.data_bytes, grid.bytes() + 5);
    let offsets: Vec<Option<u64>> =
        items(&nodes, &root).keys().map(|key| key.parse().unwrap().offset).collect();
    assert_eq!(offsets, [None, Some(0), Some(3 * grid.group_bytes())], "hole groups have no key");
}

// Editing

#[test]
fn touching_one_file_writes_one_node_a_level() {
    let map = tall_map(100, 200);
    let mut nodes = MemoryNodes::default();
    let root = build(&map, &mut nodes);
    assert!(root.level >= 2, "{}", root.level);
    for (d, f) in [(0, 0), (50, 100), (99, 199), (7, 3)] {
        let at = path(&format!("dir-{d}{LONG}/file-{f}.txt"));
        let mut entry = find_entry(&nodes, &root.digest, &at).unwrap().unwrap();
        entry.mtime = time(99);
        let mut edits = Edits::new();
        edits.put_entry(&at, &entry).unwrap();
        let counted = Counted::new(&nodes);
        let mut fresh = MemoryNodes::default();
        let changed = edits.apply(&counted, Some(&root.digest), &mut fresh).unwrap();
        assert_ne!(changed.digest, root.digest);
        assert_eq!(fresh.len(), usize::from(root.level) + 1, "a touch moves no border");
        assert!(counted.read.get() <= usize::from(root.level) + 2, "{}", counted.read.get());
    }
}

#[test]
fn adding_one_file_writes_few_nodes() {
    let map = tall_map(100, 200);
    let mut nodes = MemoryNodes::default();
    let root = build(&map, &mut nodes);
    let mut most = 0;
    for n in 0..40 {
        let mut edits = Edits::new();
        put_file(&mut edits, &format!("dir-{}{LONG}/file-{n}.new", n * 2), 1, n);
        let mut fresh = MemoryNodes::default();
        edits.apply(&nodes, Some(&root.digest), &mut fresh).unwrap();
        most = most.max(fresh.len());
    }
    assert!(most <= usize::from(root.level) + 1 + 8, "{most}");
}

#[test]
fn an_edit_that_changes_nothing_writes_nothing() {
    let map = large_map(50, 100);
    let mut nodes = MemoryNodes::default();
    let root = build(&map, &mut nodes);
    let (key, value) = map.iter().nth(777).unwrap();
    let mut edits = Edits::new();
    edits.put(Item { key: key.clone(), value: value.clone() });
    edits.delete(Key::entry(&path("nowhere")));
    edits.delete_all(&path("no/where"));
    let mut fresh = MemoryNodes::default();
    assert_eq!(edits.apply(&nodes, Some(&root.digest), &mut fresh).unwrap(), root);
    assert!(fresh.is_empty());
}

#[test]
fn a_deleted_directory_is_not_read() {
    let map = large_map(3, 20_000);
    let mut nodes = MemoryNodes::default();
    let root = build(&map, &mut nodes);
    let mut edits = Edits::new();
    edits.delete_all(&path("dir-1"));
    let counted = Counted::new(&nodes);
    let mut fresh = MemoryNodes::default();
    let changed = edits.apply(&counted, Some(&root.digest), &mut fresh).unwrap();
    assert_eq!(changed.counts.entries, 2 * 20_001);
    assert!(counted.read.get() < 30, "{}", counted.read.get());
    assert!(fresh.len() < 20, "{}", fresh.len());
}

#[test]
fn a_tree_of_which_only_the_end_is_left_has_no_chain_of_only_children() {
    let map = tall_map(100, 200);
    let mut nodes = MemoryNodes::default();
    let root = build(&map, &mut nodes);
    for left in [1, 2, 10, 100, 300, 1000] {
        let rest: Map = map.clone().into_iter().skip(map.len() - left).collect();
        let start = rest.keys().next().unwrap().clone();
        let mut edits = Edits::new();
        edits.delete_range(Key::default()..start);
        let mut fresh = nodes.clone();
        let changed = edits.apply(&nodes, Some(&root.digest), &mut fresh).unwrap();
        assert_eq!(changed, build(&rest, &mut MemoryNodes::default()), "{left} left");
        assert_eq!(items(&fresh, &changed), rest);
    }
}

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
fn plain_diff(a: &Map, b: &Map) -> Vec<Difference> {
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

// Reading

#[test]
fn a_lookup_reads_one_node_a_level() {
    let map = large_map(100, 200);
    let mut nodes = MemoryNodes::default();
    let root = build(&map, &mut nodes);
    let counted = Counted::new(&nodes);
    let entry = find_entry(&counted, &root.digest, &path("dir-50/file-7.txt")).unwrap().unwrap();
    assert_eq!(entry.size(), Some(107));
    assert_eq!(counted.read.get(), usize::from(root.level) + 1);
    for missing in ["dir-50/file-7", "dir-50/x", "0", "zzz", ""] {
        assert_eq!(find_entry(&nodes, &root.digest, &path(missing)).unwrap(), None, "{missing}");
    }
}

#[test]
fn a_directory_is_listed_without_reading_others_or_its_files_chunks() {
    let mut edits = Edits::new();
    edits.put_entry(&path("d"), &directory()).unwrap();
    put_file(&mut edits, "d/a", 3, 1);
    put_file(&mut edits, "d/big", 40 << 30, 2);
    put_file(&mut edits, "d/c", 3, 3);
    put_file(&mut edits, "d/sub/below", 3, 4);
    put_file(&mut edits, "d.txt", 3, 4);
    let mut nodes = MemoryNodes::default();
    let root = tree(edits, &mut nodes);
    assert!(nodes.len() > 100, "{}", nodes.len());
    let counted = Counted::new(&nodes);
    let names: Vec<(Vec<u8>, Entry)> =
        list_directory(&counted, &root.digest, &path("d")).map(Result::unwrap).collect();
    let names: Vec<&[u8]> = names.iter().map(|(name, _)| name.as_slice()).collect();
    assert_eq!(names, [b"a".as_slice(), b"big", b"c"]);
    assert!(counted.read.get() < 10, "{}", counted.read.get());
    let below: Vec<String> = list_subtree(&nodes, &root.digest, &path("d"))
        .map(|entry| entry.unwrap().0.to_string())
        .collect();
    assert_eq!(below, ["d/a", "d/big", "d/c", "d/sub/below"]);
    assert_eq!(list_directory(&nodes, &root.digest, &path("nowhere")).count(), 0);
    let top: Vec<Vec<u8>> =
        list_directory(&nodes, &root.digest, &TreePath::top()).map(|e| e.unwrap().0).collect();
    assert_eq!(top, [b"d".to_vec(), b"d.txt".to_vec()]);
}

#[test]
fn a_walk_asks_for_the_next_nodes_before_it_reads_them() {
    struct Asked<'a>(&'a MemoryNodes, std::cell::RefCell<Vec<Digest>>, Cell<usize>);
    impl Nodes for Asked<'_> {
        fn node(&self, digest: &Digest) -> Result<Bytes, ReadError> {
            if !self.1.borrow().contains(digest) {
                self.2.set(self.2.get() + 1);
            }
            self.0.node(digest)
        }
        fn prefetch(&self, digests: &[Digest]) {
            self.1.borrow_mut().extend(digests);
        }
    }
    let map = large_map(30, 200);
    let mut nodes = MemoryNodes::default();
    let root = build(&map, &mut nodes);
    let asked = Asked(&nodes, Default::default(), Cell::new(0));
    assert_eq!(range(&asked, &root.digest, Key::all()).count(), map.len());
    assert!(asked.2.get() <= 3, "{} of {} nodes were not asked for", asked.2.get(), nodes.len());
}

#[test]
fn the_pieces_of_a_file_cover_what_is_asked_for_and_join_holes() {
    let grid = Grid::Small;
    let g = grid.bytes();
    let size = 200 * g + 7;
    let mut digests = vec![Digest::HOLE; 201];
    for index in [0, 1, 63, 130, 200] {
        digests[index] = digest(index as u64);
    }
    let entry = Entry::new(Content::File { size, grid, chunk: None }, 0o644, time(2));
    let mut edits = Edits::new();
    edits.put_file(&path("base.db"), &entry, &digests).unwrap();
    put_file(&mut edits, "base.db2", 10, 1);
    let mut nodes = MemoryNodes::default();
    let root = tree(edits, &mut nodes);
    let check = |bytes: Range<u64>, expect: Expect| {
        let mut text = String::new();
        for piece in chunks_of(&nodes, &root.digest, &path("base.db"), &entry, bytes).unwrap() {
            let what = match piece.digest {
                Some(found) => (0..201).find(|i| digest(*i) == found).unwrap().to_string(),
                None => "hole".into(),
            };
            let (start, rest) = (piece.offset / g, piece.bytes % g);
            let _ = write!(text, "{start}+{}", piece.bytes / g);
            let _ = write!(
                text,
                "{}={what} ",
                if rest > 0 { format!(".{rest}") } else { String::new() }
            );
        }
        expect.assert_eq(&text);
    };
    check(
        0..u64::MAX,
        expect!["0+1=0 1+1=1 2+61=hole 63+1=63 64+66=hole 130+1=130 131+69=hole 200+0.7=200 "],
    );
    check(1..2, expect!["0+1=0 "]);
    check(g..g + 1, expect!["1+1=1 "]);
    check(64 * g..100 * g + 1, expect!["64+37=hole "]);
    check(129 * g + 5..131 * g, expect!["129+1=hole 130+1=130 "]);
    check(size - 1..size + 1, expect!["200+0.7=200 "]);
    check(size..size + 1, expect![""]);
    check(5..5, expect![""]);
    let (mut one, _) = file(10, 1);
    if let Content::File { chunk, .. } = &mut one.content {
        *chunk = Some(digest(1));
    }
    let pieces = chunks_of(&nodes, &root.digest, &path("base.db2"), &one, 3..4).unwrap();
    assert_eq!(pieces, [Piece { offset: 0, bytes: 10, digest: Some(digest(1)) }]);
}

#[test]
fn a_missing_and_a_damaged_node_are_told_apart_from_a_silent_source() {
    let mut nodes = MemoryNodes::default();
    let root = build(&large_map(10, 200), &mut nodes);
    let error = find_entry(&MemoryNodes::default(), &root.digest, &path("a")).unwrap_err();
    assert!(matches!(error, ReadError::Missing { .. }));
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let mut bytes = nodes.node(&root.digest).unwrap().to_vec();
    bytes[9] ^= 1;
    nodes.put(root.digest, bytes.into()).unwrap();
    let error = find_entry(&nodes, &root.digest, &path("a")).unwrap_err();
    assert!(matches!(error, ReadError::Corrupt { .. }), "{error}");
    assert_eq!(range(&nodes, &root.digest, Key::all()).count(), 1, "a walk ends after its error");
}

#[test]
fn a_child_that_is_not_what_its_parent_says_is_refused() {
    let mut nodes = MemoryNodes::default();
    let root = build(&large_map(10, 200), &mut nodes);
    let node = Node::read(&nodes, &root.digest).unwrap();
    let Parts::Children(children) = node.into_parts() else { panic!("the root is a leaf") };
    let lie = |change: fn(&mut Child)| {
        let mut children = children.clone();
        change(&mut children[0]);
        let bytes = node::encode_node(root.level, &Parts::Children(children));
        let mut nodes = nodes.clone();
        let digest = Digest::of(&bytes);
        nodes.put(digest, bytes).unwrap();
        range(&nodes, &digest, Key::all()).next().unwrap().unwrap_err().to_string()
    };
    assert!(lie(|child| child.counts.entries += 1).contains("its counts"));
    assert!(
        lie(|child| child.key = Key::entry(&TreePath::parse("!").unwrap())).contains("first key")
    );
    assert!(lie(|child| child.digest = Root::empty().digest).contains("is missing"));
}

// Comparing

#[test]
fn the_difference_of_two_large_trees_costs_what_they_differ_in() {
    let map = tall_map(100, 200);
    let mut nodes = MemoryNodes::default();
    let root = build(&map, &mut nodes);
    let mut edits = Edits::new();
    put_file(&mut edits, &format!("dir-7{LONG}/new"), 5, 5);
    edits.delete_all(&path(&format!("dir-50{LONG}/file-3.txt")));
    let old = nodes.clone();
    let changed = edits.apply(&old, Some(&root.digest), &mut nodes).unwrap();
    let counted = Counted::new(&nodes);
    let found: Vec<Difference> =
        diff(&counted, &root.digest, &counted, &changed.digest).map(Result::unwrap).collect();
    assert_eq!(found.len(), 2);
    assert!(counted.read.get() < 40, "{} of {}", counted.read.get(), nodes.len());
}

#[test]
fn trees_of_different_height_share_what_they_share() {
    let small = tall_map(4, 200);
    let mut large = small.clone();
    for (key, value) in tall_map(100, 200).into_iter().filter(|(key, _)| !small.contains_key(key)) {
        large.insert(key, value);
    }
    let mut nodes = MemoryNodes::default();
    let (a, b) = (build(&small, &mut nodes), build(&large, &mut nodes));
    assert!(a.level < b.level);
    let found: Vec<Difference> =
        diff(&nodes, &a.digest, &nodes, &b.digest).map(Result::unwrap).collect();
    assert_eq!(found, plain_diff(&small, &large));
    let same = Counted::new(&nodes);
    assert_eq!(diff(&same, &b.digest, &same, &b.digest).count(), 0);
    assert_eq!(same.read.get(), 0);
    let empty = build(&Map::new(), &mut nodes);
    assert_eq!(diff(&nodes, &empty.digest, &nodes, &a.digest).count(), small.len());
    assert_eq!(diff(&nodes, &a.digest, &nodes, &empty.digest).count(), small.len());
}

/// The changes from one tree to another, one a line.
fn check_changes(before: impl Fn(&mut Edits), after: impl Fn(&mut Edits), expect: &Expect) {
    let mut nodes = MemoryNodes::default();
    let (mut a, mut b) = (Edits::new(), Edits::new());
    before(&mut a);
    after(&mut b);
    let (a, b) = (tree(a, &mut nodes), tree(b, &mut nodes));
    let mut text = String::new();
    for change in changes(&nodes, &a.digest, &nodes, &b.digest).unwrap() {
        let _ = match &change.kind {
            ChangeKind::Renamed { from } => writeln!(text, "{} renamed from {from}", change.path),
            kind => writeln!(text, "{} {}", change.path, format!("{kind:?}").to_lowercase()),
        };
        let (is_before, is_after) = (change.before.is_some(), change.after.is_some());
        assert_eq!(is_before, change.kind != ChangeKind::Added, "{text}");
        assert_eq!(is_after, change.kind != ChangeKind::Removed, "{text}");
    }
    expect.assert_eq(&text);
}

#[test]
fn changes_are_added_removed_modified_and_metadata_sorted_by_path() {
    check_changes(
        |edits| {
            put_file(edits, "gone", 5, 1);
            put_file(edits, "same", 5, 2);
            put_file(edits, "a/other", 5, 3);
            put_file(edits, "mode", 5, 4);
        },
        |edits| {
            put_file(edits, "same", 5, 2);
            put_file(edits, "a/other", 5, 33);
            put_file(edits, "a.new", 5, 6);
            let (mut entry, digests) = file(5, 4);
            entry.mode = 0o600;
            edits.put_file(&path("mode"), &entry, &digests).unwrap();
        },
        &expect![[r#"
            a.new added
            a/other modified
            gone removed
            mode metadata
        "#]],
    );
}

#[test]
fn a_difference_in_chunks_is_one_of_the_file_even_when_its_entry_is_the_same() {
    let size = Grid::Large.bytes() * 100;
    check_changes(
        |edits| put_file(edits, "big", size, 1),
        |edits| put_file(edits, "big", size, 2),
        &expect![[r#"
            big modified
        "#]],
    );
}

#[test]
fn a_file_that_becomes_a_directory_is_removed_and_added() {
    check_changes(
        |edits| put_file(edits, "x", 5, 1),
        |edits| edits.put_entry(&path("x"), &directory()).unwrap(),
        &expect![[r#"
            x removed
            x added
        "#]],
    );
}

#[test]
fn a_directory_of_which_the_time_differs_and_a_link_that_differs_are_no_change() {
    check_changes(
        |edits| {
            edits.put_entry(&path("d"), &directory()).unwrap();
            put_file(edits, "f", 5, 1);
        },
        |edits| {
            let mut entry = directory();
            entry.mtime = time(77);
            edits.put_entry(&path("d"), &entry).unwrap();
            let (mut entry, digests) = file(5, 1);
            entry.link = Some(path("e"));
            edits.put_file(&path("f"), &entry, &digests).unwrap();
        },
        &expect![""],
    );
}

#[test]
fn a_moved_directory_is_removed_and_added_and_its_files_are_renamed() {
    let big = Grid::Large.bytes() * 100 + 1;
    let put = |edits: &mut Edits, top: &str| {
        edits.put_entry(&path(top), &directory()).unwrap();
        put_file(edits, &format!("{top}/one"), 5, 1);
        put_file(edits, &format!("{top}/two"), 5, 1);
        put_file(edits, &format!("{top}/big"), big, 2);
        put_file(edits, &format!("{top}/empty"), 0, 3);
    };
    check_changes(
        |edits| put(edits, "old"),
        |edits| put(edits, "new"),
        &expect![[r#"
            new added
            new/big renamed from old/big
            new/empty added
            new/one renamed from old/one
            new/two renamed from old/two
            old removed
            old/empty removed
        "#]],
    );
}

#[test]
fn a_file_that_moved_and_left_a_symlink_is_renamed() {
    check_changes(
        |edits| put_file(edits, "a", 5, 1),
        |edits| {
            put_file(edits, "b", 5, 1);
            let link = Entry::new(Content::Symlink(b"b".to_vec()), 0o777, time(3));
            edits.put_entry(&path("a"), &link).unwrap();
        },
        &expect![[r#"
            a added
            b renamed from a
        "#]],
    );
}

// The whole

#[test]
fn a_tree_of_this_crate_has_no_fault() {
    let mut nodes = MemoryNodes::default();
    let root = build(&tall_map(30, 200), &mut nodes);
    assert_eq!(check(&nodes, &root.digest).unwrap(), []);
    let root = tree(a_bit_of_everything(), &mut nodes);
    assert_eq!(check(&nodes, &root.digest).unwrap(), []);
}

#[test]
fn what_is_wrong_with_a_tree_is_named_by_path() {
    let mut edits = Edits::new();
    put_file(&mut edits, "no/parent", 1, 1);
    put_file(&mut edits, "file", 1, 1);
    put_file(&mut edits, "file/below", 1, 1);
    let (mut entry, digests) = file(1, 1);
    entry.link = Some(path("z"));
    edits.put_file(&path("linked"), &entry, &digests).unwrap();
    put_file(&mut edits, "long", 300 << 10, 1);
    edits.put_entry(&path("long"), &file(301 << 10, 1).0).unwrap();
    put_file(&mut edits, "without", 300 << 10, 1);
    edits.delete(Key::entry(&path("without")));
    let mut nodes = MemoryNodes::default();
    let root = tree(edits, &mut nodes);
    let faults: String = check(&nodes, &root.digest)
        .unwrap()
        .iter()
        .map(|fault| format!("{}: {}\n", fault.path, fault.why))
        .collect();
    expect![[r#"
        linked: the first of its names is not one before it
        long: its chunks are not those of a file of its size and grid
        without: it has chunks and is no file
        file/below: its parent is not a directory of the tree
        no/parent: its parent is not a directory of the tree
    "#]]
    .assert_eq(&faults);
}

#[test]
fn a_tree_with_borders_elsewhere_is_a_fault() {
    let map = large_map(2, 3);
    let all = map.iter().map(|(key, value)| Item { key: key.clone(), value: value.clone() });
    let all: Vec<Item> = all.collect();
    let mut nodes = MemoryNodes::default();
    let mut children = Vec::new();
    for items in all.chunks(4) {
        let bytes = node::encode_node(0, &Parts::Items(items.to_vec()));
        let counts = Node::decode(&bytes).unwrap().counts();
        children.push(Child { key: items[0].key.clone(), digest: Digest::of(&bytes), counts });
        nodes.put(Digest::of(&bytes), bytes).unwrap();
    }
    let bytes = node::encode_node(1, &Parts::Children(children));
    let digest = Digest::of(&bytes);
    nodes.put(digest, bytes).unwrap();
    let faults = check(&nodes, &digest).unwrap();
    assert_eq!(faults.len(), 1);
    assert!(faults[0].path.is_top());
}

/// A small tree of every kind of value.
fn a_bit_of_everything() -> Edits {
    let mut edits = Edits::new();
    let mut put = |at: &str, entry: &Entry, digests: &[Digest]| {
        edits.put_file(&path(at), entry, digests).unwrap();
    };
    let at = |content: Content, mode: u16| {
        Entry::new(content, mode, FileTime { seconds: 1_700_000_000, nanoseconds: 1 })
    };
    let of = |size: u64, grid: Grid| at(Content::File { size, grid, chunk: None }, 0o644);
    put("src", &at(Content::Directory, 0o755), &[]);
    put("src/empty", &of(0, Grid::Large), &[]);
    put("src/main.rs", &of(300, Grid::Large), &[digest(1)]);
    put("src/zeros", &of(300, Grid::Large), &[Digest::HOLE]);
    put("services", &at(Content::Directory, 0o1777), &[]);
    let mut pages = vec![Digest::HOLE; 66];
    pages[0] = digest(2);
    pages[65] = digest(3);
    put("services/db", &of((65 << 14) + 100, Grid::Small), &pages);
    put("link", &at(Content::Symlink(b"src/main.rs".to_vec()), 0o777), &[]);
    put("fifo", &at(Content::Fifo, 0o600), &[]);
    put("socket", &at(Content::Socket, 0o600), &[]);
    let mut owned = of(2, Grid::Large);
    (owned.uid, owned.gid) = (0, 5);
    let list = XattrList::new(vec![(b"user.note".to_vec(), b"hello".to_vec())]).unwrap();
    owned.xattrs = Xattrs::Inline(list);
    owned.link = Some(path("one"));
    put("one", &owned, &[digest(4)]);
    put("src/other", &owned, &[digest(4)]);
    let mut xattrs = of(0, Grid::Large);
    xattrs.xattrs = Xattrs::Chunk(digest(5));
    put("xattrs", &xattrs, &[]);
    let mut newer = of(0, Grid::Large);
    newer.unknown = vec![(128, b"newer".to_vec())];
    put("newer", &newer, &[]);
    edits
}

// Golden: these bytes are the format. A difference here is a new version of it.

#[test]
fn the_node_of_a_small_tree_is_these_bytes() {
    let mut nodes = MemoryNodes::default();
    let root = tree(a_bit_of_everything(), &mut nodes);
    expect![[r#"
        Root {
            digest: Digest(e4c90f9c7c05afc87d9e2f7f67055278a87fe035b8ccdd934e2ed0280b20a31e),
            level: 0,
            counts: Counts {
                entries: 13,
                logical_bytes: 1065662,
                data_bytes: 16788,
                depth: 2,
            },
        }
    "#]]
    .assert_debug_eq(&root);
    let bytes = nodes.node(&root.digest).unwrap();
    let mut lines: Vec<String> = bytes
        .chunks(32)
        .map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect())
        .collect();
    lines.dedup();
    assert_eq!((bytes.len(), lines.len()), (2774, 26), "lines that repeat are there once");
    expect![[r#"
        43565401000f000600006669666f1501010402028001050c00f1536500000000
        0100000002046c696e6b220101030202ff01050c00f153650000000001000000
        070b7372632f6d61696e2e727302056e657765721f0101020202a401050c00f1
        5365000000000100000006010080056e6577657202036f6e65570101020202a4
        01030100040105050c00f153650000000001000000060102081009757365722e
        6e6f74650568656c6c6f0b20846333980f613b6bffc8021457063c938c56ae0c
        ee82eb27c27cc625c2ca116a0c036f6e65020873657276696365731501010102
        02ff03050c00f15365000000000100000003056f636b65741501010502028001
        050c00f15365000000000100000003027263150101010202ed01050c00f15365
        000000000100000002067861747472733a0101020202a401050c00f153650000
        00000100000006010009207670a5a683b5119971841294a5291a339464be45d6
        12a0e0e083dc6b09de86f3000c7365727669636573000064621d0101020202a4
        01050c00f1536500000000010000000603e480410a010e0c0900000000000000
        00008110c0ea21c7b3c885cf2fb547bb51016c8bbbaca21db264cc9f332769ad
        8dd895f0a3000000000000000000000000000000000000000000000000000000
        0000000000000000000000000000000000000000000000000000000000000000
        0000000000120310000042820000000000000000000000000000000000000000
        000000000000000000000000e3d5003ead1a936380020220637f7b8e1c281299
        2da64345e823b227195fb97c64010972630000656d707479180101020202a401
        050c00f15365000000000100000006010005076d61696e2e72733b0101020202
        a401050c00f1536500000000010000000602ac020b201a0d12016999e47689da
        e5744d2b8c1903faf7ca2886a658150083100ef2c8ee05056f74686572570101
        020202a401030100040105050c00f15365000000000100000006010208100975
        7365722e6e6f74650568656c6c6f0b20846333980f613b6bffc8021457063c93
        8c56ae0cee82eb27c27cc625c2ca116a0c036f6e6505057a65726f7319010102
        0202a401050c00f1536500000000010000000602ac02"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn the_roots_of_larger_trees_are_these() {
    let root = |map: &Map| {
        let root = build(map, &mut MemoryNodes::default());
        format!("{} level {}", root.digest, root.level)
    };
    expect!["4405568de47f6f11b33cdac95b19e75dc770aa99feed1358d7488a9cb61c338d level 0"]
        .assert_eq(&root(&Map::new()));
    expect!["a3aa49cc411a9520232e9162790c7a32b5423799d5067daf71d1d6d3971749a5 level 1"]
        .assert_eq(&root(&large_map(10, 200)));
    expect!["b680d3e0192780eea832b2814f32966fa313ca5d7b89d11eb2a6a3976f90c24b level 2"]
        .assert_eq(&root(&tall_map(100, 200)));
}
