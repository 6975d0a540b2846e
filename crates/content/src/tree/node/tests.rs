use cove_types::{FileTime, TreePath};
use proptest::prelude::*;

use super::*;
use crate::tree::{Content, Entry};

fn item(text: &str) -> Item {
    let entry = Entry::new(Content::Directory, 0o755, FileTime::default());
    Item { key: Key::entry(&TreePath::parse(text).unwrap()), value: entry.encode().unwrap() }
}

fn leaf() -> Bytes {
    encode_node(0, &Parts::Items(vec![item("aa"), item("ab"), item("b"), item("b/c")]))
}

fn refuses(bytes: &[u8], why: &str) {
    let error = Node::decode(&Bytes::copy_from_slice(bytes)).unwrap_err();
    assert!(error.0.contains(why), "expected \"{why}\", found \"{error}\"");
}

/// A leaf whose keys are written as given: shared, rest.
fn keys(keys: &[(u64, &[u8])]) -> Vec<u8> {
    let mut bytes = [&NODE_MAGIC[..], &[0]].concat();
    put_varint(&mut bytes, keys.len() as u64);
    for (shared, rest) in keys {
        put_varint(&mut bytes, *shared);
        put_piece(&mut bytes, rest);
        put_piece(&mut bytes, &item("x").value);
    }
    bytes
}

#[test]
fn a_node_comes_back_with_its_counts() {
    let node = Node::decode(&leaf()).unwrap();
    assert_eq!((node.counts().entries, node.counts().depth), (4, 2));
    assert_eq!(encode_node(0, node.parts()), leaf());
    let child = |text: &str| Child {
        key: item(text).key,
        digest: Digest::of(text.as_bytes()),
        counts: Counts { entries: 300, logical_bytes: 1 << 40, data_bytes: 7, depth: 3 },
    };
    let parts = Parts::Children(vec![child("a"), child("b/c")]);
    let node = Node::decode(&encode_node(1, &parts)).unwrap();
    assert_eq!(node.parts(), &parts);
    assert_eq!(node.counts().entries, 600);
}

#[test]
fn keys_that_are_not_in_their_only_form_are_refused() {
    assert!(Node::decode(&keys(&[(0, b"\0\0a"), (2, b"b")]).into()).is_ok());
    refuses(&keys(&[(0, b"\0\0b"), (2, b"a")]), "ascending");
    refuses(&keys(&[(0, b"\0\0b"), (3, b"")]), "ascending");
    refuses(&keys(&[(0, b"\0\0ab"), (3, b"")]), "ascending");
    refuses(&keys(&[(0, b"\0\0a"), (1, b"\0b")]), "share all");
    refuses(&keys(&[(0, b"\0\0a"), (4, b"b")]), "shares more");
    refuses(&keys(&[(1, b"\0a")]), "shares more");
    refuses(&keys(&[(0, &[b'a'; KEY_BYTES_MAX + 1])]), "a key is over");
    refuses(&keys(&[(0, b"a")]), "has no end of a parent");
}

#[test]
fn a_header_that_is_not_one_is_refused() {
    refuses(b"", "announced");
    refuses(b"CVT\x02\0\0", "version 1");
    refuses(b"CVT\x01\x11\x01", "a level is");
    refuses(b"CVT\x01\x01\0", "no children");
    refuses(b"CVT\x01\0\x05", "do not fit");
    refuses(b"CVT\x01\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "do not fit");
    refuses(&[leaf().as_ref(), &[0]].concat(), "follow the last part");
    refuses(&vec![0; NODE_BYTES_MAX + 1], "a node has up to");
}

#[test]
fn a_node_that_is_cut_anywhere_is_refused() {
    let bytes = leaf();
    for end in 0..bytes.len() {
        assert!(Node::decode(&bytes.slice(..end)).is_err(), "cut at {end}");
    }
}

proptest! {
    #[test]
    fn bytes_that_are_a_node_are_its_only_form(at: prop::sample::Index, flip in 1_u8..) {
        let mut bytes = leaf().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(node) = Node::decode(&bytes.clone().into()) {
            prop_assert_eq!(encode_node(node.level(), node.parts()), bytes);
        }
    }
}
