//! Trees that are built in one pass.

use super::*;

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
