//! Edits of a tree: what they write and what they leave.

use super::*;

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
