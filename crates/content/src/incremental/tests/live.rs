//! On a real pool.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use cove_btrfs::{Access, LoopPool, Pool};
use cove_env::Env;
use cove_testkit::proof::{self, Chance};
use cove_types::FileTime;
use rustix::fs::{CWD, IFlags, Mode};

use super::*;

/// A pool that is taken down when the test ends, however it ends.
struct Live {
    pool: Option<LoopPool>,
    _home: tempfile::TempDir,
}

impl Live {
    fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: a live test needs root");
            return None;
        }
        let home = tempfile::tempdir().unwrap();
        let pool = Some(LoopPool::open(home.path(), 512 << 20).unwrap());
        Some(Self { pool, _home: home })
    }

    fn pool(&self) -> &LoopPool {
        self.pool.as_ref().unwrap()
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _starting = STARTING.read();
        if let Some(pool) = self.pool.take()
            && let Err(error) = pool.close()
        {
            eprintln!("{error:?}");
        }
    }
}

#[test]
fn random_edits_stored_incrementally_give_the_tree_of_a_full_store() {
    let Some(live) = Live::new() else { return };
    let test = "random_edits_stored_incrementally_give_the_tree_of_a_full_store";
    let (rounds, seed) = (proof::rounds(40, 150), proof::seed(test));
    let mut seeded = Seeded(Chance::new(seed));
    let mut both = Both::searched(live.pool());
    for name in ["files", "files/src", "services", "services/db"] {
        std::fs::create_dir(both.at().join(name)).unwrap();
    }
    let mut refused = Vec::new();
    for round in 0..rounds {
        if seeded.next(6) == 0 {
            both.restore(&mut seeded);
        }
        let dir = live.pool().open(&super::live()).unwrap();
        for _ in 0..1 + seeded.next(12) {
            let _ = edit(&dir, &both.at(), &mut seeded);
        }
        if let Some(why) = both.store() {
            refused.push(format!("round {round}: {why}"));
        }
    }
    let counts = both.old.as_ref().unwrap().root.counts;
    let lacking = both.old.as_ref().unwrap().not_captured.len();
    eprintln!("{counts:?}, {lacking} paths not captured\n{}", refused.join("\n"));
    let in_full = refused.len();
    proof::figure(
        "random edits, incremental trees equal to full ones",
        format!("{rounds} rounds, {in_full} of them stored in full, seed {seed}"),
    );
    // a refusal is often followed by others, until its files go: a sample may have more than its part of them
    let most = if proof::is_full() { rounds / 4 } else { rounds / 2 };
    assert!(refused.len() <= most, "most changes can be stored as changes");
}

/// A path of more than 4,095 bytes, which no call takes whole: the innermost directory.
fn too_long(top: &Path) -> File {
    let mut at = File::open(top).unwrap();
    let name = "n".repeat(250);
    for _ in 0..18 {
        rustix::fs::mkdirat(&at, &name, Mode::from_raw_mode(0o755)).unwrap();
        let flags = rustix::fs::OFlags::DIRECTORY;
        let below = rustix::fs::openat(&at, &name, flags, Mode::empty()).unwrap();
        at = File::from(below);
    }
    at
}

#[test]
fn beside_a_path_that_the_kernel_cannot_send_changes_are_stored_as_changes() {
    let Some(live) = Live::new() else { return };
    let mut both = Both::searched(live.pool());
    write(&both, "files/a", b"a");
    write(&both, "files/large", &vec![7; 3 << 20]);
    both.store();
    let innermost = too_long(&both.at().join("files"));
    assert_eq!(both.store(), None);
    let rows = both.old.as_ref().unwrap().not_captured.clone();
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(rows[0].what, lack::LONG);
    // In the path itself, and elsewhere.
    let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::RDWR;
    let mode = Mode::from_raw_mode(0o600);
    let file = rustix::fs::openat(&innermost, "f", flags, mode).map(File::from).unwrap();
    file.write_all_at(b"not captured", 0).unwrap();
    write(&both, "files/a", b"b");
    assert_eq!(both.store(), None);
    let large = File::options().write(true).open(both.at().join("files/large")).unwrap();
    large.write_all_at(b"changed", 1 << 20).unwrap();
    std::fs::rename(both.at().join("files/a"), both.at().join("files/b")).unwrap();
    assert_eq!(both.store(), None);
    // One of two names of a file is too long.
    let at = both.at().join("files/b");
    rustix::fs::linkat(CWD, &at, &innermost, "link", rustix::fs::AtFlags::empty()).unwrap();
    assert_eq!(both.store(), None);
    assert_eq!(both.old.as_ref().unwrap().not_captured, rows);
}

#[test]
fn what_is_odd_of_an_entry_is_kept_or_named_and_keeps_nothing_from_being_stored() {
    let Some(live) = Live::new() else { return };
    let mut both = Both::searched(live.pool());
    let top = both.at();
    let dir = live.pool().open(&super::live()).unwrap();
    write(&both, "files/plain", b"plain");
    let target = vec![b't'; 4095];
    dir.symlink(&path("files/link"), &target).unwrap();
    dir.mkfifo(&path("files/fifo"), 0o600).unwrap();
    dir.mksocket(&path("files/socket"), 0o600).unwrap();
    let name = [&b"\xff\x1b"[..], &[b'n'; 253]].concat();
    let unreadable = path("files").join(&name).unwrap();
    dir.create_file(&unreadable, 0o600).unwrap();
    let sparse = dir.create_file(&path("files/sparse"), 0o600).unwrap();
    sparse.set_len(i64::MAX as u64).unwrap();
    sparse.write_all_at(b"end", i64::MAX as u64 - 3).unwrap();
    sparse.write_all_at(b"middle", 1 << 40).unwrap();
    for (name, seconds) in [("early", i64::MIN), ("late", i64::MAX)] {
        let at = path("files").join(name.as_bytes()).unwrap();
        dir.create_file(&at, 0o600).unwrap();
        dir.set_times(&at, FileTime { seconds, nanoseconds: 999_999_999 }).unwrap();
    }
    let attributes = [&b"user."[..], &[b'x'; 250]].concat();
    dir.set_xattr(&path("files/plain"), &attributes, b"").unwrap();
    for n in 0..5000 {
        std::fs::hard_link(top.join("files/plain"), top.join(format!("files/link-{n}"))).unwrap();
    }
    for what in ["large", "many"] {
        write(&both, &format!("files/{what}"), what.as_bytes());
        std::fs::create_dir(top.join(format!("files/{what}-dir"))).unwrap();
    }
    for at in ["files/large", "files/large-dir"].map(path) {
        for n in 0..12 {
            dir.set_xattr(&at, format!("user.{n:02}").as_bytes(), &[n; 15_000]).unwrap();
        }
    }
    for at in ["files/many", "files/many-dir", "files/fifo"].map(path) {
        for n in 0..300 {
            let name = format!("user.{n:03}{}", "x".repeat(247));
            if at != path("files/fifo") {
                dir.set_xattr(&at, name.as_bytes(), b"").unwrap();
            }
        }
        // An access list, which is found without the names too.
        let user = [2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255];
        let list = [&user[..], &[2, 0, 4, 0, 7, 0, 0, 0], &[4, 0, 4, 0, 255, 255, 255, 255]];
        let rest = [&[16, 0, 4, 0, 255, 255, 255, 255][..], &[32, 0, 4, 0, 255, 255, 255, 255]];
        let list = [list.concat(), rest.concat()].concat();
        dir.set_xattr(&at, b"system.posix_acl_access", &list).unwrap();
    }
    both.store();
    let stored = both.old.clone().unwrap();
    let chunks = both.full.chunks();
    let entry =
        |at: &TreePath| tree::find_entry(&chunks, &stored.root.digest, at).unwrap().unwrap();
    assert_eq!(entry(&path("files/link")).content, tree::Content::Symlink(target));
    assert_eq!(entry(&path("files/sparse")).size(), Some(i64::MAX as u64));
    assert_eq!(entry(&path("files/early")).mtime.seconds, i64::MIN);
    assert_eq!(entry(&path("files/late")).mtime.seconds, i64::MAX);
    assert_eq!(entry(&unreadable).size(), Some(0));
    let tree::Xattrs::Inline(list) = entry(&path("files/plain")).xattrs else { panic!() };
    assert!(list.iter().eq([(&attributes[..], &b""[..])]));
    for name in ["files/many", "files/fifo"] {
        let tree::Xattrs::Inline(list) = entry(&path(name)).xattrs else { panic!() };
        assert_eq!(list.iter().len(), 1, "{name}");
    }
    let tree::Xattrs::Chunk(digest) = entry(&path("files/large-dir")).xattrs else { panic!() };
    let list = tree::XattrList::decode(&chunks.chunk(&digest).unwrap()).unwrap();
    assert_eq!(list.iter().len(), 8);
    let rows = |both: &Both<'_>| {
        let rows = &both.old.as_ref().unwrap().not_captured;
        rows.iter().map(|row| format!("{}: {}", row.path, row.what)).collect::<Vec<_>>()
    };
    let too_many = |names: &[&str]| {
        names.iter().map(|name| format!("files/{name}: {}", lack::XATTRS)).collect::<Vec<_>>()
    };
    assert_eq!(rows(&both), too_many(&["large", "large-dir", "many", "many-dir"]));

    // All of it is stored as changes too, and what is mended is not named any more.
    for at in ["files/large", "files/many-dir", "files/sparse"].map(path) {
        dir.set_mode(&at, 0o700).unwrap();
    }
    sparse.write_all_at(b"other", 1 << 41).unwrap();
    for n in 8..12 {
        let name = format!("user.{n:02}");
        dir.remove_xattr(&path("files/large-dir"), name.as_bytes()).unwrap();
    }
    assert_eq!(both.store(), None);
    assert_eq!(rows(&both), too_many(&["large", "many", "many-dir"]));
}

#[test]
fn flags_and_attributes_of_the_system_are_named_and_the_entry_is_stored_without() {
    let Some(live) = Live::new() else { return };
    let mut both = Both::searched(live.pool());
    let dir = live.pool().open(&super::live()).unwrap();
    let rows = |both: &Both<'_>| {
        let rows = &both.old.as_ref().unwrap().not_captured;
        rows.iter().map(|row| format!("{}: {}", row.path, row.what)).collect::<Vec<_>>()
    };
    let chattr = |name: &str, flags: IFlags| {
        let file = File::open(live.pool().absolute(&super::live()).join(name)).unwrap();
        rustix::fs::ioctl_setflags(&file, flags).unwrap();
    };
    for name in ["files/a", "files/b", "files/d/c"] {
        write(&both, name, name.as_bytes());
    }
    dir.hard_link(&path("files/a"), &path("files/d/again")).unwrap();
    dir.symlink(&path("files/link"), b"a").unwrap();
    both.store();
    assert!(rows(&both).is_empty());
    chattr("files/a", IFlags::IMMUTABLE);
    chattr("files/b", IFlags::APPEND | IFlags::NODUMP | IFlags::NOATIME | IFlags::SYNC);
    chattr("files/d", IFlags::IMMUTABLE);
    assert_eq!(both.store(), None);
    let mut expected = vec![
        "files/a: immutable flag",
        "files/b: append-only flag",
        "files/b: no-dump flag",
        "files/d: immutable flag",
        "files/d/again: immutable flag",
    ];
    assert_eq!(rows(&both), expected);
    // They follow what moves, and go when the flag does.
    dir.create_dir(&path("files/e"), 0o755).unwrap();
    chattr("files/d", IFlags::empty());
    dir.rename(&path("files/d"), &path("files/e/d")).unwrap();
    expected[3] = "files/e/d/again: immutable flag";
    expected.pop();
    assert_eq!(both.store(), None);
    assert_eq!(rows(&both), expected);
    chattr("files/a", IFlags::empty());
    dir.set_xattr(&path("files/e/d/c"), b"trusted.t", b"t").unwrap();
    dir.set_xattr(&path("files/e"), b"security.cove", b"s").unwrap();
    let at = live.pool().absolute(&super::live()).join("files/link");
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::lsetxattr(&at, "trusted.of-link", b"t", flags).unwrap();
    assert_eq!(both.store(), None);
    let expected = [
        "files/b: append-only flag",
        "files/b: no-dump flag",
        "files/e: security.* attribute",
        "files/e/d/c: trusted.* attribute",
        "files/link: trusted.* attribute",
    ];
    assert_eq!(rows(&both), expected);
}

#[test]
fn a_fork_is_stored_as_what_differs_from_another() {
    let Some(live) = Live::new() else { return };
    let mut both = Both::searched(live.pool());
    write(&both, "files/a", &[7; 300_000]);
    both.store();
    write(&both, "files/new", b"of the first");
    both.store();
    // Back to the first state, from which another file gets the same inode number.
    let pool = live.pool();
    pool.delete(&super::live()).unwrap();
    pool.snapshot(&stored(1), &super::live(), Access::ReadWrite, &volume()).unwrap();
    std::fs::create_dir(both.at().join("files/new")).unwrap();
    write(&both, "files/new/b", b"of the second");
    assert_eq!(both.store(), None);
}

#[test]
fn what_moves_too_deep_is_listed_and_what_comes_back_is_stored_in_full() {
    let Some(live) = Live::new() else { return };
    let mut both = Both::new(live.pool());
    let deep =
        |first: &str| ["x"; 140].iter().fold(both.at().join(first), |path, name| path.join(name));
    let (a, b) = (deep("a"), deep("b"));
    for at in [&a, &b] {
        std::fs::create_dir_all(at).unwrap();
        std::fs::write(at.join("file"), b"deep").unwrap();
    }
    both.store();
    let (home, below) = (both.at().join("b"), a.join("b"));
    std::fs::rename(&home, &below).unwrap();
    assert_eq!(both.store(), None);
    let lacking = both.old.as_ref().unwrap().not_captured.len();
    assert_eq!(lacking, 1);
    // Beside it, nothing of it has to be known.
    std::fs::write(a.join("other"), b"other").unwrap();
    assert_eq!(both.store(), None);
    std::fs::rename(&below, &home).unwrap();
    assert!(both.store().is_some());
    assert!(both.old.as_ref().unwrap().not_captured.is_empty());
    // A hard link of which one name is too deep.
    std::fs::hard_link(b.join("file"), both.at().join("link")).unwrap();
    assert_eq!(both.store(), None);
    std::fs::rename(&home, &below).unwrap();
    assert!(both.store().is_some());
    std::fs::remove_file(both.at().join("link")).unwrap();
    assert_eq!(both.store(), None);
    // Gone with all that was too deep.
    std::fs::remove_dir_all(both.at().join("a")).unwrap();
    assert_eq!(both.store(), None);
    assert!(both.old.as_ref().unwrap().not_captured.is_empty());
}

#[test]
fn what_one_file_of_many_costs() {
    let Some(live) = Live::new() else { return };
    let mut both = Both::new(live.pool());
    for directory in 0..200 {
        let at = both.at().join(format!("files/{directory}"));
        std::fs::create_dir_all(&at).unwrap();
        for file in 0..100 {
            std::fs::write(at.join(format!("{file}.rs")), format!("{directory} {file}")).unwrap();
        }
    }
    assert_eq!(both.store(), None);
    std::fs::write(both.at().join("files/77/7.rs"), "changed").unwrap();
    both.pool.snapshot(&super::live(), &stored(9), Access::ReadOnly, &volume()).unwrap();
    let env = Env::system();
    let begun = env.since_boot();
    let changes = both.pool.changes(&stored(1), &stored(9)).unwrap();
    let told = env.since_boot();
    let searched = live.pool().inner().changes_by_search(&stored(1), &stored(9)).unwrap();
    let found = env.since_boot();
    assert_eq!(searched, changes);
    let old = both.old.take().unwrap();
    let tree = both.incremental.changed(both.pool, &stored(9), &changes, &old).unwrap();
    let changed = env.since_boot();
    let full = both.full.full(&both.pool.open(&stored(9)).unwrap());
    let ended = env.since_boot();
    assert_eq!(tree.root, full.root);
    let (told_in, found_in) = (told - begun, found - told);
    let (changed_in, full_in) = (changed - found, ended - changed);
    proof::figure(
        "1 changed file of 20,000",
        format!(
            "changes {told_in:?}, by search {found_in:?}, incremental {changed_in:?}, full {full_in:?}"
        ),
    );
}
