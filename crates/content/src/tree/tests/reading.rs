//! What a look at a tree reads.

use expect_test::{Expect, expect};

use super::*;

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
