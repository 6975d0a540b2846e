use expect_test::expect;

use super::*;
use crate::sample::root;

fn path(path: &str) -> NotCapturedPath {
    NotCapturedPath { path: path.into(), what: "device".into() }
}

fn round_trip(root: &Root) -> Root {
    serde_json::from_slice(&root.canonical_bytes()).unwrap()
}

#[test]
fn the_bytes_and_the_name_of_a_root_are_these() {
    let mut root = root(1);
    root.parents = vec![Digest([9; 32])];
    root.not_captured = NotCaptured::new(vec![path("files/b"), path("files/a")]).0;
    expect![[r#"{"counts":{"data_bytes":60000,"depth":3,"entries":7,"logical_bytes":70000},"document":"d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0","level":1,"not_captured":{"count":2,"list":[["files/a","device"],["files/b","device"]]},"parents":["0909090909090909090909090909090909090909090909090909090909090909"],"tree":"0101010101010101010101010101010101010101010101010101010101010101"}"#]].assert_eq(std::str::from_utf8(&root.canonical_bytes()).unwrap());
    expect!["72c0a251e62181e9ee9166588813937817e775bb21dc85a736352db4689efd61"]
        .assert_eq(&root.digest().to_string());
    assert_eq!(round_trip(&root), root);
}

#[test]
fn what_a_newer_version_added_is_kept_and_named_by_the_digest() {
    let mut newer = root(1);
    newer.unknown.insert("aa".into(), Value::from(3));
    newer.may = 1 << 40;
    assert_eq!(round_trip(&newer).digest(), newer.digest());
    assert_ne!(newer.digest(), root(1).digest());
    newer.check().unwrap();
}

#[test]
fn a_root_that_must_be_understood_and_is_not_is_refused() {
    let newer = Root { must: 2, ..root(1) };
    expect!["the root needs features 0x2, which this version of cove does not know"]
        .assert_eq(&newer.check().unwrap_err().to_string());
}

#[test]
fn what_is_not_captured_is_the_same_in_whatever_order_it_was_found() {
    let one = NotCaptured::new(vec![path("b"), path("a"), path("a")]);
    assert_eq!(one, NotCaptured::new(vec![path("a"), path("b")]));
    assert_eq!((one.0.count, one.0.all), (2, None));
}

#[test]
fn beyond_twenty_paths_a_chunk_lists_all() {
    let all: Vec<_> = (10..31).map(|n| path(&format!("f{n}"))).collect();
    let (record, chunk) = NotCaptured::new(all.clone());
    let chunk = chunk.unwrap();
    assert_eq!((record.count, record.list.len()), (21, 20));
    assert_eq!(record.all, Some(Digest::of(&chunk)));
    assert_eq!(NotCaptured::decode_all(&chunk).unwrap(), all);
    Root { not_captured: record, ..root(1) }.check().unwrap();
}

#[test]
fn long_paths_are_listed_as_far_as_there_is_room() {
    let all = vec![path(&"a".repeat(300)), path(&"b".repeat(300))];
    let (record, chunk) = NotCaptured::new(all.clone());
    assert_eq!(record.list, all[..1]);
    assert!(chunk.is_some());
    Root { not_captured: record, ..root(1) }.check().unwrap();
}

#[test]
fn the_list_of_all_ends_at_a_chunk_and_the_count_is_exact() {
    let all = (0..400_000).map(|n| path(&format!("files/{n}"))).collect();
    let (record, chunk) = NotCaptured::new(all);
    let chunk = chunk.unwrap();
    assert_eq!(record.count, 400_000);
    assert!(chunk.len() <= 1 << 20 && chunk.len() > 1_000_000);
    assert!(NotCaptured::decode_all(&chunk).unwrap().len() > 30_000);
}

#[test]
fn a_path_that_is_too_long_to_be_listed_leaves_room_for_those_after_it() {
    let mut all: Vec<NotCapturedPath> = (0..3).map(|n| path(&format!("files/b{n}"))).collect();
    all.push(path(&format!("files/a{}", "x".repeat(600))));
    let (record, chunk) = NotCaptured::new(all);
    let listed: Vec<&str> = record.list.iter().map(|missing| missing.path.as_str()).collect();
    assert_eq!((record.count, listed), (4, vec!["files/b0", "files/b1", "files/b2"]));
    assert_eq!(NotCaptured::decode_all(&chunk.unwrap()).unwrap().len(), 4);
}
