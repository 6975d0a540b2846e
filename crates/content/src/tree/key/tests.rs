use proptest::prelude::*;

use super::*;

fn path(text: &str) -> TreePath {
    TreePath::parse(text).unwrap()
}

#[test]
fn a_key_is_the_parent_then_two_nuls_then_the_name() {
    assert_eq!(Key::entry(&path("a/b/name")).as_bytes(), b"a\0b\0\0name");
    assert_eq!(Key::entry(&path("name")).as_bytes(), b"\0\0name");
    let chunks = Key::chunks(&path("a/f"), 0x0102_0304_0506);
    assert_eq!(chunks.as_bytes(), b"a\0\0f\0\0\0\x01\x02\x03\x04\x05\x06");
}

#[test]
fn a_key_of_another_form_is_refused() {
    for key in [
        &b""[..],
        b"a",
        b"a\0b",
        b"\0\0",
        b"a\0\0",
        b"\0\0a/b",
        b"a/b\0\0c",
        b"\0\0..",
        b"\0a\0\0b",
        b"a\0\0\0b",
        b"\0\0a\0",
        b"\0\0a\x001234567",
        b"\0\0a\x00123456789",
    ] {
        let key = Key::from_bytes(key.to_vec());
        assert!(key.parse().is_err(), "{key}");
    }
}

/// Names that are prefixes of each other and have the bytes next to those of the form.
fn a_name() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![Just(1_u8), Just(b'a'), Just(b'b'), Just(b'.'), Just(0xff)];
    prop::collection::vec(byte, 1..4)
        .prop_filter("a name", |name| !matches!(name.as_slice(), b"." | b".."))
}

fn a_path() -> impl Strategy<Value = TreePath> {
    prop::collection::vec(a_name(), 1..5)
        .prop_map(|names| TreePath::from_bytes(&names.join(&b'/')).unwrap())
}

/// Adds a path with all directories above it, then sorted children of each directory
/// before what is below the first of them.
fn walk(all: &std::collections::BTreeSet<TreePath>, directory: &TreePath, keys: &mut Vec<Key>) {
    let mut children: Vec<&TreePath> =
        all.iter().filter(|path| path.parent().as_ref() == Some(directory)).collect();
    children.sort_by_key(|path| path.name().map(<[u8]>::to_vec));
    for child in &children {
        keys.push(Key::entry(child));
        keys.push(Key::chunks(child, 0));
        keys.push(Key::chunks(child, 1 << 23));
    }
    for child in children {
        walk(all, child, keys);
    }
}

proptest! {
    #[test]
    fn what_a_key_says_comes_back(path in a_path(), offset: u64) {
        let parts = KeyParts { path: path.clone(), offset: None };
        prop_assert_eq!(Key::entry(&path).parse().unwrap(), parts);
        let parts = KeyParts { path: path.clone(), offset: Some(offset) };
        prop_assert_eq!(Key::chunks(&path, offset).parse().unwrap(), parts);
    }

    #[test]
    fn bytes_that_parse_are_the_key_of_what_they_say(bytes in prop::collection::vec(0_u8..4, 0..16)) {
        let key = Key::from_bytes(bytes);
        if let Ok(KeyParts { path, offset }) = key.parse() {
            let again = offset.map_or_else(|| Key::entry(&path), |at| Key::chunks(&path, at));
            prop_assert_eq!(again, key);
        }
    }

    #[test]
    fn ranges_hold_what_they_say_and_nothing_else(directory in a_path(), path in a_path(), at: u64) {
        for directory in [directory, TreePath::top()] {
            let is_child = path.parent().unwrap() == directory;
            let is_below = path != directory && path.below(&directory).is_some();
            for key in [Key::entry(&path), Key::chunks(&path, at)] {
                prop_assert_eq!(Key::children_range(&directory).contains(&key), is_child);
                prop_assert_eq!(Key::subtree_range(&directory).contains(&key), is_below);
                prop_assert_eq!(Key::file_range(&directory).contains(&key), path == directory);
                prop_assert!(Key::all().contains(&key));
            }
        }
    }

    #[test]
    fn a_walk_that_emits_the_sorted_children_and_then_goes_down_is_in_key_order(
        paths in prop::collection::vec(a_path(), 0..30),
    ) {
        let mut all = std::collections::BTreeSet::new();
        for path in paths {
            let mut at = Some(path);
            while let Some(path) = at.filter(|path| !path.is_top()) {
                at = path.parent();
                all.insert(path);
            }
        }
        let mut keys = Vec::new();
        walk(&all, &TreePath::top(), &mut keys);
        prop_assert_eq!(keys.len(), 3 * all.len());
        prop_assert!(keys.is_sorted(), "{:?}", keys);
    }
}
