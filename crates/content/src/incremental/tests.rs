//! The law: an incremental store gives what a full store of the same snapshot gives.

mod live;
mod model;

use std::os::unix::fs::FileExt;

use cove_btrfs::{Access, FakePool, Touched};
use proptest::prelude::*;

use self::model::*;
use super::files::dirty_chunks;
use super::*;

/// A volume of a fake pool, whose changes know of no moves.
fn fake(test: impl FnOnce(&mut Both<'_>)) {
    let home = tempfile::tempdir().unwrap();
    let pool = FakePool::open(home.path()).unwrap();
    test(&mut Both::new(&pool));
}

fn write(both: &Both<'_>, name: &str, content: &[u8]) {
    let at = both.at().join(name);
    std::fs::create_dir_all(at.parent().unwrap()).unwrap();
    std::fs::write(at, content).unwrap();
}

/// Stores the volume as it is, given changes made by hand in place of the pool's.
fn by_hand(both: &mut Both<'_>, changes: &Changes) -> Result<(), String> {
    both.round += 1;
    let new = stored(both.round);
    both.pool.snapshot(&live(), &new, Access::ReadOnly, &volume()).unwrap();
    let full = both.full.full(&both.pool.open(&new).unwrap());
    let old = both.old.take().unwrap();
    match both.incremental.changed(both.pool, &new, changes, &old) {
        Ok(tree) => {
            let found = differences((&both.incremental, &tree), (&both.full, &full));
            assert_eq!((tree.root, &tree.not_captured), (full.root, &full.not_captured), "{found}");
            both.old = Some(tree);
            Ok(())
        }
        Err(IncrementalError::NeedsFullStore { why }) => Err(why),
        Err(error) => panic!("{error:?}"),
    }
}

fn touched(path: &str, origin: Option<&str>, content: Reread) -> Touched {
    let origin = origin.map(|origin| origin.as_bytes().to_vec());
    Touched { path: path.as_bytes().to_vec(), origin, content }
}

fn moved(pairs: &[(&str, &str)], touched: Vec<Touched>) -> Changes {
    let bytes = |text: &str| text.as_bytes().to_vec();
    Changes {
        gone: pairs.iter().map(|(old, _)| bytes(old)).collect(),
        moved: pairs
            .iter()
            .filter(|(_, new)| !new.is_empty())
            .map(|(old, new)| (bytes(old), bytes(new)))
            .collect(),
        touched,
        plain_bytes: 0,
    }
}

#[test]
fn nothing_changed_is_the_same_tree() {
    fake(|both| {
        write(both, "files/a", b"a");
        both.store();
        assert_eq!(by_hand(both, &Changes::default()), Ok(()));
    });
}

#[test]
fn what_a_fake_compares_is_stored_as_in_full() {
    fake(|both| {
        write(both, "files/a", &[1; 300_000]);
        write(both, "files/b/c", b"c");
        both.store();
        write(both, "files/a", &[2; 200_000]);
        std::fs::remove_dir_all(both.at().join("files/b")).unwrap();
        write(both, "files/b", b"a file now");
        write(both, "services/db/data", &[3; 40_000]);
        std::fs::hard_link(both.at().join("files/a"), both.at().join("services/db/a")).unwrap();
        assert_eq!(both.store(), None);
        std::fs::remove_file(both.at().join("files/a")).unwrap();
        assert_eq!(both.store(), None);
        std::fs::remove_dir_all(both.at().join("files")).unwrap();
        std::fs::remove_dir_all(both.at().join("services")).unwrap();
        assert_eq!(both.store(), None);
        assert_eq!(both.old.as_ref().unwrap().root.counts.entries, 0);
    });
}

#[test]
fn a_directory_that_moves_takes_its_chunk_lists_along_and_only_the_grid_is_read() {
    fake(|both| {
        write(both, "files/d/large", &[7; 9 << 20]);
        write(both, "files/d/x/small", b"x");
        std::fs::create_dir(both.at().join("services")).unwrap();
        both.store();
        let (from, to) = (both.at().join("files/d"), both.at().join("services/d"));
        std::fs::rename(&from, &to).unwrap();
        let parents = || {
            vec![
                touched("files", Some("files"), Reread::Same),
                touched("services", Some("services"), Reread::Same),
            ]
        };
        assert_eq!(by_hand(both, &moved(&[("files/d", "services/d")], parents())), Ok(()));
        std::fs::rename(&to, &from).unwrap();
        assert_eq!(by_hand(both, &moved(&[("services/d", "files/d")], parents())), Ok(()));
    });
}

#[test]
fn the_first_name_is_first_in_the_order_of_keys_when_a_directory_moves() {
    fake(|both| {
        write(both, "a/b/one", b"linked");
        write(both, "z", b"");
        std::fs::remove_file(both.at().join("z")).unwrap();
        std::fs::hard_link(both.at().join("a/b/one"), both.at().join("a/two")).unwrap();
        std::fs::create_dir(both.at().join("m")).unwrap();
        both.store();
        // As text a/b/one comes before a/two, as a key after it.
        let old = both.old.as_ref().unwrap();
        let chunks = both.incremental.chunks();
        let entry = tree::find_entry(&chunks, &old.root.digest, &path("a/b/one")).unwrap().unwrap();
        assert_eq!(entry.link, Some(path("a/two")));
        std::fs::rename(both.at().join("a"), both.at().join("m/a")).unwrap();
        std::fs::rename(both.at().join("m/a/b"), both.at().join("b")).unwrap();
        let tops = vec![
            touched("", Some(""), Reread::Same),
            touched("m", Some("m"), Reread::Same),
            touched("m/a", Some("a"), Reread::Same),
        ];
        assert_eq!(by_hand(both, &moved(&[("a", "m/a"), ("a/b", "b")], tops)), Ok(()));
    });
}

#[test]
fn changes_that_do_not_fit_the_old_tree_are_refused() {
    fn check(changes: &Changes, expect: &str) {
        fake(|both| {
            write(both, "files/a", b"a");
            write(both, "files/b", b"b");
            both.store();
            assert_eq!(by_hand(both, changes), Err(expect.to_owned()));
        });
    }
    let one = |touched| Changes { touched: vec![touched], ..Changes::default() };
    check(
        &one(touched("files/a", Some("files/x"), Reread::Same)),
        "files/x, of which files/a is made, was not stored",
    );
    check(&one(touched("files/x", None, Reread::Whole)), "files/x was touched and is not there");
    check(
        &one(touched("files/a", Some("files"), Reread::Same)),
        "files/a is of another kind than files was",
    );
    check(&one(touched("files", None, Reread::Same)), "files is not the directory that was stored");
    check(&moved(&[("files/x", "")], Vec::new()), "files/x is gone and was never stored");
    check(
        &moved(&[("files/a", "")], vec![touched("files", Some("files"), Reread::Same)]),
        "\"a\" in \"files\" is not accounted for",
    );
    check(
        &moved(&[("files/a", "files/b")], Vec::new()),
        "something moved to files/b, where something else is",
    );
    check(
        &Changes { moved: vec![(b"files/a".to_vec(), b"files/c".to_vec())], ..Changes::default() },
        "the list of what moved contradicts itself",
    );
}

#[test]
fn a_directory_moves_to_its_own_path_when_the_one_around_it_is_another() {
    fake(|both| {
        write(both, "a/x/f", b"f");
        write(both, "a/y", b"y");
        both.store();
        // What was around it goes, and something of the same name comes around it.
        std::fs::rename(both.at().join("a"), both.at().join("b")).unwrap();
        std::fs::create_dir(both.at().join("a")).unwrap();
        std::fs::rename(both.at().join("b/x"), both.at().join("a/x")).unwrap();
        let tops = vec![
            touched("", Some(""), Reread::Same),
            touched("a", None, Reread::Whole),
            touched("b", Some("a"), Reread::Same),
        ];
        assert_eq!(by_hand(both, &moved(&[("a", "b"), ("a/x", "a/x")], tops)), Ok(()));
    });
}

proptest! {
    #[test]
    fn a_path_is_cut_where_a_tree_can_hold_no_more_of_it(
        names in prop::collection::vec("[a-b]{1,3}|\\.\\.|[a-b]{0,20}|[a-b]{200,300}", 0..400),
    ) {
        let path = names.join("/").into_bytes();
        let lawful = |prefix: &[u8]| TreePath::from_bytes(prefix).ok();
        let expected = prefixes(&path).find_map(lawful).unwrap_or_default();
        prop_assert_eq!(cut(&path), expected);
        let plain = vec![&b"ab"[..]; names.len()].join(&b'/');
        let expected = prefixes(&plain).find_map(lawful).unwrap_or_default();
        prop_assert_eq!(cut(&plain), expected);
    }
}

#[test]
fn a_path_knows_where_it_went_and_whence_it_came() {
    let changes = moved(&[("a", "b"), ("a/x", "y"), ("b", "a"), ("c", "")], Vec::new());
    let paths = Paths::of(&changes).ok().unwrap();
    let now = |old: &str| paths.now(old.as_bytes()).map(|new| String::from_utf8(new).unwrap());
    let before =
        |new: &str| paths.before(new.as_bytes()).map(|old| String::from_utf8(old).unwrap());
    assert_eq!(now("a/k").as_deref(), Some("b/k"));
    assert_eq!(now("a/x/k").as_deref(), Some("y/k"));
    assert_eq!(now("b/k").as_deref(), Some("a/k"));
    assert_eq!(now("c/k"), None);
    assert_eq!(now("ab").as_deref(), Some("ab"));
    assert_eq!(before("b/k").as_deref(), Some("a/k"));
    assert_eq!(before("b/x"), None);
    assert_eq!(before("y/k").as_deref(), Some("a/x/k"));
    assert_eq!(before("").as_deref(), Some(""));
}

#[test]
fn chunks_at_the_old_and_at_the_new_end_are_read_again() {
    let c = 128 << 10;
    let dirty = |ranges: &[(u64, u64)], old, new| {
        let ranges: Vec<Range<u64>> = ranges.iter().map(|(from, to)| *from..*to).collect();
        let dirty = dirty_chunks(Grid::Large, &ranges, old, new);
        dirty.into_iter().map(|range| (range.start, range.end)).collect::<Vec<_>>()
    };
    assert_eq!(dirty(&[], 3 * c, 3 * c), []);
    assert_eq!(dirty(&[], 3 * c, 2 * c), []);
    assert_eq!(dirty(&[], 3 * c, 2 * c + 1), [(2, 3)]);
    assert_eq!(dirty(&[], 3 * c, 3 * c + 1), [(3, 4)]);
    assert_eq!(dirty(&[], 3 * c - 1, 3 * c + 1), [(2, 4)]);
    assert_eq!(dirty(&[(0, 1), (c - 1, c + 1), (9 * c, 10 * c)], 3 * c, 3 * c), [(0, 2)]);
    assert_eq!(dirty(&[(5 * c, u64::MAX)], 7 * c, 7 * c), [(5, 7)]);
    // Group by group and to beyond the end.
    assert_eq!(dirty(&[(0, c)], c, 0), []);
}

#[test]
fn of_a_file_only_what_is_said_to_differ_is_read() {
    fake(|both| {
        let chunk = 128 << 10;
        write(both, "files/large", &vec![7; 70 * chunk]);
        both.store();
        let file =
            std::fs::OpenOptions::new().write(true).open(both.at().join("files/large")).unwrap();
        for number in [3, 5, 66] {
            file.write_all_at(b"changed", (number * chunk) as u64).unwrap();
        }
        both.pool.snapshot(&live(), &stored(2), Access::ReadOnly, &volume()).unwrap();
        let told = |number: u64| number * chunk as u64 + 1..number * chunk as u64 + 2;
        let ranges = Reread::Ranges(vec![told(3), told(66)]);
        let changes = moved(&[], vec![touched("files/large", Some("files/large"), ranges)]);
        let old = both.old.take().unwrap();
        let tree = both.incremental.changed(both.pool, &stored(2), &changes, &old).unwrap();
        let chunks = both.incremental.chunks();
        let at = path("files/large");
        let digests = |root: &Digest| -> Vec<Option<Digest>> {
            let entry = tree::find_entry(&chunks, root, &at).unwrap().unwrap();
            let size = entry.size().unwrap();
            let pieces = tree::chunks_of(&chunks, root, &at, &entry, 0..size).unwrap();
            pieces.iter().map(|piece| piece.digest).collect()
        };
        let (before, after) = (digests(&old.root.digest), digests(&tree.root.digest));
        let other: Vec<usize> = (0..70).filter(|n| before[*n] != after[*n]).collect();
        assert_eq!(other, [3, 66]);
    });
}
