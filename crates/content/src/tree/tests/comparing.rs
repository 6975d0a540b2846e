//! What two trees differ in.

use expect_test::{Expect, expect};

use super::random::plain_diff;
use super::*;

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
