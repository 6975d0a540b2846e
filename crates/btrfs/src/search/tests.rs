use super::*;

/// The items of one side, written down as a person thinks of them.
#[derive(Default)]
struct Tree(Vec<Item>);

const FILE: u32 = 0o100_644;
const DIR: u32 = 0o040_755;

impl Tree {
    fn new() -> Self {
        Self::default().inode(TOP, DIR, 0, &[])
    }

    fn push(mut self, objectid: u64, kind: u32, offset: u64, bytes: Vec<u8>) -> Self {
        self.0.push(Item { objectid, kind, offset, bytes });
        self
    }

    fn inode(self, number: u64, mode: u32, size: u64, names: &[(u64, &str)]) -> Self {
        let mut item = vec![0; 160];
        item[16..24].copy_from_slice(&size.to_le_bytes());
        item[52..56].copy_from_slice(&mode.to_le_bytes());
        let mut tree = self.push(number, INODE_ITEM, 0, item);
        for (directory, name) in names {
            let length = u16::try_from(name.len()).unwrap().to_le_bytes();
            let bytes = [&[0; 8][..], &length, name.as_bytes()].concat();
            tree = tree.push(number, INODE_REF, *directory, bytes);
        }
        tree
    }

    /// A regular extent: where in the file, how long, and where on the disk, skipping some.
    fn extent(self, number: u64, at: u64, length: u64, disk: u64, skipped: u64) -> Self {
        let mut bytes = vec![0; 53];
        bytes[20] = 1;
        bytes[21..29].copy_from_slice(&disk.to_le_bytes());
        bytes[37..45].copy_from_slice(&skipped.to_le_bytes());
        bytes[45..53].copy_from_slice(&length.to_le_bytes());
        self.push(number, EXTENT_DATA, at, bytes)
    }

    fn items(self) -> impl Iterator<Item = Result<Item, Errno>> {
        self.0.into_iter().map(Ok)
    }
}

/// The changes as a person reads them.
fn shown(old: Tree, new: Tree) -> Vec<String> {
    let changes = compare(old.items(), new.items()).unwrap();
    let text = |path: &[u8]| String::from_utf8(path.to_vec()).unwrap();
    let gone = changes.gone.iter().map(|path| format!("gone {}", text(path)));
    let moved = changes.moved.iter().map(|(a, b)| format!("moved {} to {}", text(a), text(b)));
    let touched = changes.touched.iter().map(|touched| {
        let origin = touched.origin.as_deref().map_or("new".to_owned(), text);
        format!("touched {} from {origin}: {:?}", text(&touched.path), touched.content)
    });
    gone.chain(moved).chain(touched).collect()
}

#[test]
fn what_has_the_same_items_did_not_change() {
    let tree = || Tree::new().inode(257, FILE, 9, &[(TOP, "a")]).extent(257, 0, 4096, 7, 0);
    assert!(shown(tree(), tree()).is_empty());
}

#[test]
fn when_it_was_read_is_no_change_and_when_it_was_written_is() {
    let tree = |at: usize| {
        let mut tree = Tree::new().inode(257, FILE, 9, &[(TOP, "a")]);
        tree.0[1].bytes[at] = 1;
        tree
    };
    assert!(shown(tree(112), tree(123)).is_empty());
    for at in [0, 8, 44, 64, 111, 124, 136, 159] {
        assert_eq!(shown(tree(112), tree(at)), ["touched a from a: Same"], "byte {at}");
    }
}

#[test]
fn one_number_of_two_kinds_is_two_things() {
    let old = Tree::new().inode(257, DIR, 0, &[(TOP, "a")]).inode(258, FILE, 0, &[(257, "b")]);
    let new = Tree::new().inode(257, FILE, 5, &[(TOP, "a")]).inode(258, FILE, 0, &[(TOP, "b")]);
    assert_eq!(
        shown(old, new),
        ["gone a", "touched a from new: Whole", "touched b from a/b: Same"]
    );
}

#[test]
fn a_directory_that_moves_takes_along_what_stays_in_it() {
    let tree =
        |name| {
            Tree::new()
                .inode(257, FILE, 0, &[(258, "file")])
                .inode(258, DIR, 0, &[(259, name)])
                .inode(259, DIR, 0, &[(TOP, "above")])
        };
    assert_eq!(
        shown(tree("from"), tree("to")),
        [
            "gone above/from",
            "moved above/from to above/to",
            "touched above/to from above/from: Same"
        ]
    );
}

#[test]
fn of_a_directory_that_went_only_itself_is_told_and_what_left_it() {
    let old = Tree::new()
        .inode(257, DIR, 0, &[(TOP, "d")])
        .inode(258, FILE, 0, &[(257, "gone")])
        .inode(259, DIR, 0, &[(257, "kept")]);
    let new = Tree::new().inode(259, DIR, 0, &[(TOP, "kept")]);
    assert_eq!(
        shown(old, new),
        ["gone d", "gone d/kept", "moved d/kept to kept", "touched kept from d/kept: Same"]
    );
}

#[test]
fn each_name_of_a_file_is_told_with_one_that_it_had() {
    let old = Tree::new().inode(257, FILE, 0, &[(TOP, "a"), (TOP, "b")]);
    let new = Tree::new().inode(257, FILE, 0, &[(TOP, "b"), (TOP, "c")]);
    assert_eq!(shown(old, new), ["gone a", "touched b from b: Same", "touched c from b: Same"]);
}

#[test]
fn extents_are_the_same_where_they_lie_in_the_same_place_however_they_are_cut() {
    let k = 4096;
    let file = || Tree::new().inode(257, FILE, 16 * k, &[(TOP, "a")]);
    let whole = || file().extent(257, 0, 16 * k, 7, 0);
    // A piece in the middle was written again, and then one of those that were left cut.
    let new = file()
        .extent(257, 0, 4 * k, 7, 0)
        .extent(257, 4 * k, k, 9, 0)
        .extent(257, 5 * k, k, 7, 5 * k)
        .extent(257, 6 * k, 10 * k, 7, 6 * k);
    let told = |ranges: &[(u64, u64)]| {
        let ranges: Vec<Range<u64>> = ranges.iter().map(|(from, to)| *from..*to).collect();
        vec![format!("touched a from a: Ranges({ranges:?})")]
    };
    assert_eq!(shown(whole(), new), told(&[(4 * k, 5 * k)]));
    // The same bytes of the disk in another place of the file.
    let shifted = file().extent(257, 0, 8 * k, 7, 0).extent(257, 8 * k, 8 * k, 7, 0);
    assert_eq!(shown(whole(), shifted), told(&[(8 * k, 16 * k)]));
    // A hole where there was data, and data where there was a hole.
    let holed = || file().extent(257, 2 * k, 2 * k, 7, 2 * k).extent(257, 4 * k, k, 0, 0);
    assert_eq!(shown(whole(), holed()), told(&[(0, 2 * k), (4 * k, 16 * k)]));
    assert_eq!(shown(holed(), whole()), told(&[(0, 2 * k), (4 * k, 16 * k)]));
}

#[test]
fn a_tree_that_makes_no_sense_is_refused() {
    let cut = Tree::default().push(TOP, INODE_ITEM, 0, vec![0; 20]);
    assert!(matches!(compare(cut.items(), Tree::new().items()), Err(SearchError::Form(_))));
    let nowhere = Tree::new().inode(257, FILE, 0, &[(300, "a")]);
    assert!(matches!(compare(Tree::new().items(), nowhere.items()), Err(SearchError::Form(_))));
    let circle = || Tree::new().inode(257, DIR, 0, &[(258, "a")]).inode(258, DIR, 0, &[(257, "b")]);
    assert!(matches!(compare(Tree::new().items(), circle().items()), Err(SearchError::Form(_))));
}
