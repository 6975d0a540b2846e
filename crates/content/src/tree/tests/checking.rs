//! What is wrong with a tree.

use expect_test::expect;

use super::*;

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
