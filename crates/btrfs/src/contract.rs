//! What every pool keeps, the fake and the real ones.

use std::io::Read;
use std::os::unix::fs::FileExt;

use cove_types::{Classify, ErrorKind, FileTime, OperationId, TreePath, VolumeId};

use crate::{Access, ChangesError, Content, FileKind, Pool, PoolError, SubvolumePath};

pub fn volume(name: &str) -> VolumeId {
    name.parse().unwrap()
}

pub fn live(name: &str) -> SubvolumePath {
    SubvolumePath::Volume(volume(name))
}

pub fn stored(name: &str, n: u8) -> SubvolumePath {
    SubvolumePath::Stored(volume(name), OperationId([n; 16]))
}

pub fn path(text: &str) -> TreePath {
    TreePath::parse(text).unwrap()
}

fn write(pool: &impl Pool, place: &SubvolumePath, name: &str, content: &str) {
    pool.open(place).unwrap().write_file(&path(name), None, &mut content.as_bytes()).unwrap();
}

fn read(pool: &impl Pool, place: &SubvolumePath, name: &str) -> String {
    let mut text = String::new();
    let dir = pool.open(place).unwrap();
    dir.open_file(&path(name)).unwrap().read_to_string(&mut text).unwrap();
    text
}

/// Everything, on a fresh pool.
pub fn all(pool: &impl Pool) {
    absence_is_an_answer(pool);
    a_snapshot_is_a_copy_of_an_instant(pool);
    a_snapshot_outlives_its_source(pool);
    nothing_takes_a_place_that_is_taken(pool);
    an_exchange_swaps_two_subvolumes(pool);
    a_read_only_subvolume_stays_in_its_directory(pool);
    a_subvolume_without_change_keeps_its_generation(pool);
    a_limit_is_told_back(pool);
    what_changed_is_told(pool);
    changes_between_forks_are_told(pool);
    what_takes_writes_is_not_compared(pool);
    a_local_restore_descends_from_its_snapshot(pool);
    all_names_of_an_inode_are_found(pool);
}

fn absence_is_an_answer(pool: &impl Pool) {
    assert_eq!(pool.find(&live("absent")).unwrap(), None);
    assert!(!pool.delete(&live("absent")).unwrap());
    assert_eq!(pool.open(&live("absent")).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(pool.list().unwrap().is_empty());
}

fn a_snapshot_is_a_copy_of_an_instant(pool: &impl Pool) {
    let (source, target) = (live("instant"), stored("instant", 1));
    pool.create(&source, &volume("instant")).unwrap();
    let dir = pool.open(&source).unwrap();
    dir.create_dirs(&path("files/src"), 0o755).unwrap();
    write(pool, &source, "files/src/a", "first");
    dir.set_mode(&path("files/src/a"), 0o4750).unwrap();
    dir.hard_link(&path("files/src/a"), &path("files/b")).unwrap();
    dir.symlink(&path("files/link"), b"../../outside").unwrap();
    dir.mkfifo(&path("files/fifo"), 0o640).unwrap();
    dir.mksocket(&path("files/socket"), 0o600).unwrap();
    dir.set_xattr(&path("files/src"), b"user.note", b"\xff\0").unwrap();
    let time = FileTime { seconds: -5, nanoseconds: 999_999_999 };
    dir.set_times(&path("files/src"), time).unwrap();

    pool.snapshot(&source, &target, Access::ReadOnly, &volume("instant")).unwrap();
    write(pool, &source, "files/src/a", "second");

    assert_eq!(read(pool, &target, "files/src/a"), "first");
    let copy = pool.open(&target).unwrap();
    let file = copy.metadata(&path("files/src/a")).unwrap();
    assert_eq!((file.mode, file.links), (0o4750, 2));
    assert_eq!(file.inode, copy.metadata(&path("files/b")).unwrap().inode);
    assert_eq!(copy.read_link(&path("files/link")).unwrap(), b"../../outside");
    assert_eq!(copy.metadata(&path("files/fifo")).unwrap().kind, FileKind::Fifo);
    assert_eq!(copy.metadata(&path("files/socket")).unwrap().kind, FileKind::Socket);
    let note = copy.find_xattr(&path("files/src"), b"user.note").unwrap();
    assert_eq!(note.as_deref(), Some(&b"\xff\0"[..]));
    assert_eq!(copy.metadata(&path("files/src")).unwrap().mtime, time);

    let (old, new) = (pool.find(&source).unwrap().unwrap(), pool.find(&target).unwrap().unwrap());
    assert_eq!(new.parent_uuid, Some(old.uuid));
    assert!(new.read_only && !old.read_only);
}

fn a_snapshot_outlives_its_source(pool: &impl Pool) {
    let (source, target) = (live("short"), stored("short", 1));
    pool.create(&source, &volume("short")).unwrap();
    write(pool, &source, "a", "kept");
    pool.snapshot(&source, &target, Access::ReadOnly, &volume("short")).unwrap();
    assert!(pool.delete(&source).unwrap());
    assert_eq!(pool.find(&source).unwrap(), None);
    assert_eq!(read(pool, &target, "a"), "kept");
    assert!(pool.list().unwrap().contains(&target));
    assert!(pool.delete(&target).unwrap());
}

fn nothing_takes_a_place_that_is_taken(pool: &impl Pool) {
    let (a, b) = (live("taken-a"), live("taken-b"));
    pool.create(&a, &volume("taken-a")).unwrap();
    pool.create(&b, &volume("taken-b")).unwrap();
    let exists = |error: PoolError| error.kind() == ErrorKind::AlreadyExists;
    assert!(exists(pool.create(&a, &volume("taken-a")).unwrap_err()));
    let snapshot = pool.snapshot(&a, &b, Access::ReadWrite, &volume("taken-b"));
    assert!(exists(snapshot.unwrap_err()));
    assert!(exists(pool.rename(&a, &b).unwrap_err()));
    let absent = pool.rename(&live("absent"), &live("absent-too")).unwrap_err();
    assert_eq!(absent.kind(), ErrorKind::NotFound);
}

fn an_exchange_swaps_two_subvolumes(pool: &impl Pool) {
    let (a, b) = (live("swap"), SubvolumePath::Incoming(OperationId([9; 16])));
    pool.create(&a, &volume("swap")).unwrap();
    pool.create(&b, &volume("swap")).unwrap();
    write(pool, &a, "name", "a");
    write(pool, &b, "name", "b");
    let (old_a, old_b) = (pool.find(&a).unwrap().unwrap(), pool.find(&b).unwrap().unwrap());
    pool.exchange(&a, &b).unwrap();
    assert_eq!((read(pool, &a, "name"), read(pool, &b, "name")), ("b".into(), "a".into()));
    assert_eq!(pool.find(&a).unwrap().unwrap().uuid, old_b.uuid);
    assert_eq!(pool.find(&b).unwrap().unwrap().uuid, old_a.uuid);
    let trash = SubvolumePath::Trash(OperationId([9; 16]));
    pool.rename(&b, &trash).unwrap();
    assert_eq!(pool.find(&trash).unwrap().unwrap().uuid, old_a.uuid);
    assert_eq!(pool.exchange(&a, &b).unwrap_err().kind(), ErrorKind::NotFound);
}

fn a_read_only_subvolume_stays_in_its_directory(pool: &impl Pool) {
    pool.create(&live("fixed"), &volume("fixed")).unwrap();
    let (from, to) = (stored("fixed", 1), stored("fixed", 2));
    pool.snapshot(&live("fixed"), &from, Access::ReadOnly, &volume("fixed")).unwrap();
    let trash = SubvolumePath::Trash(OperationId([1; 16]));
    assert_eq!(pool.rename(&from, &trash).unwrap_err().kind(), ErrorKind::Precondition);
    let refused = pool.exchange(&live("fixed"), &from).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Precondition);
    pool.rename(&from, &to).unwrap();
    assert!(pool.find(&from).unwrap().is_none() && pool.find(&to).unwrap().is_some());
}

fn a_subvolume_without_change_keeps_its_generation(pool: &impl Pool) {
    let place = live("still");
    let generation = || {
        pool.flush().unwrap();
        pool.find(&place).unwrap().unwrap().generation
    };
    pool.create(&place, &volume("still")).unwrap();
    write(pool, &place, "a", "first");
    let before = generation();
    read(pool, &place, "a");
    assert_eq!(generation(), before);
    write(pool, &place, "a", "second");
    assert!(generation() > before);
}

fn a_limit_is_told_back(pool: &impl Pool) {
    let v = volume("limited");
    assert_eq!(pool.usage(&v).unwrap(), crate::Usage::default());
    pool.create(&live("limited"), &v).unwrap();
    pool.set_limit(&v, Some(64 << 20)).unwrap();
    write(pool, &live("limited"), "a", &"text".repeat(5000));
    pool.flush().unwrap();
    let usage = pool.usage(&v).unwrap();
    assert_eq!(usage.limit_bytes, Some(64 << 20));
    assert!(usage.charged_bytes > 0, "{usage:?}");
    pool.set_limit(&v, None).unwrap();
    pool.flush().unwrap();
    assert_eq!(pool.usage(&v).unwrap().limit_bytes, None);
    let space = pool.space().unwrap();
    assert!(space.free > 0 && space.free <= space.total);
}

fn what_changed_is_told(pool: &impl Pool) {
    let (source, v) = (live("edited"), volume("edited"));
    pool.create(&source, &v).unwrap();
    for name in ["same", "edited", "removed"] {
        write(pool, &source, name, name);
    }
    pool.snapshot(&source, &stored("edited", 1), Access::ReadOnly, &v).unwrap();
    pool.snapshot(&source, &stored("edited", 2), Access::ReadOnly, &v).unwrap();
    assert!(pool.changes(&stored("edited", 1), &stored("edited", 2)).unwrap().is_empty());

    let dir = pool.open(&source).unwrap();
    let file = dir.open_file_writable(&path("edited")).unwrap();
    file.write_all_at(b"EDI", 0).unwrap();
    write(pool, &source, "added", "new");
    assert!(dir.remove(&path("removed"), false).unwrap());
    pool.snapshot(&source, &stored("edited", 3), Access::ReadOnly, &v).unwrap();
    let changes = pool.changes(&stored("edited", 1), &stored("edited", 3)).unwrap();
    assert_eq!(changes.gone, [b"removed"]);
    assert!(changes.moved.is_empty());
    let touched = |name: &[u8]| changes.touched.iter().find(|t| t.path == name);
    assert_eq!(touched(b"edited").unwrap().origin.as_deref(), Some(&b"edited"[..]));
    assert_ne!(touched(b"edited").unwrap().content, Content::Same);
    assert_eq!(touched(b"added").unwrap().origin, None);
    assert_eq!(touched(b"added").unwrap().content, Content::Whole);
    assert!(touched(b"same").is_none() && touched(b"removed").is_none());
    assert!(touched(b"").is_some(), "the top's time has changed");
}

fn changes_between_forks_are_told(pool: &impl Pool) {
    pool.create(&live("origin"), &volume("origin")).unwrap();
    write(pool, &live("origin"), "same", "same");
    for fork in ["fork-a", "fork-b"] {
        pool.snapshot(&live("origin"), &live(fork), Access::ReadWrite, &volume(fork)).unwrap();
        // The same inode number, and most likely the same generation, of another thing.
        match fork {
            "fork-a" => write(pool, &live(fork), "x", "a file"),
            _ => pool.open(&live(fork)).unwrap().create_dir(&path("x"), 0o755).unwrap(),
        }
        write(pool, &live(fork), "y", fork);
        pool.snapshot(&live(fork), &stored(fork, 1), Access::ReadOnly, &volume(fork)).unwrap();
    }
    let changes = pool.changes(&stored("fork-a", 1), &stored("fork-b", 1)).unwrap();
    let touched = |name: &[u8]| changes.touched.iter().find(|touched| touched.path == name);
    assert!(touched(b"same").is_none());
    assert_eq!(touched(b"x").unwrap().origin, None);
    assert_ne!(touched(b"y").unwrap().content, Content::Same);
    assert!(changes.gone.contains(&b"x".to_vec()));
}

fn what_takes_writes_is_not_compared(pool: &impl Pool) {
    pool.create(&live("open"), &volume("open")).unwrap();
    pool.snapshot(&live("open"), &stored("open", 1), Access::ReadOnly, &volume("open")).unwrap();
    let refused = pool.changes(&stored("open", 1), &live("open")).unwrap_err();
    assert!(matches!(refused, ChangesError::Writable { .. }), "{refused}");
}

fn a_local_restore_descends_from_its_snapshot(pool: &impl Pool) {
    let v = volume("restored");
    pool.create(&live("restored"), &v).unwrap();
    write(pool, &live("restored"), "a", "old");
    pool.snapshot(&live("restored"), &stored("restored", 1), Access::ReadOnly, &v).unwrap();
    pool.delete(&live("restored")).unwrap();
    pool.snapshot(&stored("restored", 1), &live("restored"), Access::ReadWrite, &v).unwrap();
    write(pool, &live("restored"), "b", "new");
    pool.snapshot(&live("restored"), &stored("restored", 2), Access::ReadOnly, &v).unwrap();
    let changes = pool.changes(&stored("restored", 1), &stored("restored", 2)).unwrap();
    assert!(changes.touched.iter().any(|touched| touched.path == b"b"));
    assert!(!changes.touched.iter().any(|touched| touched.path == b"a"));
}

fn all_names_of_an_inode_are_found(pool: &impl Pool) {
    let place = live("names");
    pool.create(&place, &volume("names")).unwrap();
    write(pool, &place, "a", "a");
    let dir = pool.open(&place).unwrap();
    dir.create_dirs(&path("d/e"), 0o755).unwrap();
    dir.hard_link(&path("a"), &path("d/e/z")).unwrap();
    dir.hard_link(&path("a"), &path("d/y")).unwrap();
    pool.flush().unwrap();
    let inode = dir.metadata(&path("a")).unwrap().inode;
    let names = pool.names_of_inode(&place, inode).unwrap();
    assert_eq!(names, [&b"a"[..], b"d/e/z", b"d/y"]);
    assert!(pool.names_of_inode(&place, u64::from(u32::MAX)).unwrap().is_empty());
}
