//! The real pools, on loop devices. Needs root; without it each test says so and passes.

mod edits;

use std::io::Write;
use std::os::unix::fs::FileExt;

use cove_types::{Classify, ErrorKind};

use crate::changes::SendError;
use crate::contract::{self, live, path, stored, volume};
use crate::{Access, Encoded, LoopPool, Pool, read_encoded, write_encoded};

/// A pool in a directory of its own, taken down when the test ends, however it ends.
struct Live {
    pool: Option<LoopPool>,
    home: tempfile::TempDir,
}

impl Live {
    fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: a live test needs root");
            return None;
        }
        let home = tempfile::tempdir().unwrap();
        let pool = Some(LoopPool::open(home.path(), 0).unwrap());
        Some(Self { pool, home })
    }

    fn pool(&self) -> &LoopPool {
        self.pool.as_ref().unwrap()
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take()
            && let Err(error) = pool.close()
        {
            eprintln!("{error:?}");
        }
    }
}

#[test]
fn a_loop_pool_keeps_the_contract() {
    let Some(live) = Live::new() else { return };
    contract::all(live.pool());
}

#[test]
fn a_pool_that_was_killed_is_found_again_mounted_attached_or_half_made() {
    let Some(mut test) = Live::new() else { return };
    test.pool().create(&live("v"), &volume("v")).unwrap();
    test.pool().flush().unwrap();
    // As after kill -9: all is mounted and attached, nobody holds it.
    drop(test.pool.take());
    test.pool = Some(LoopPool::open(test.home.path(), 0).unwrap());
    assert!(test.pool().find(&live("v")).unwrap().is_some());
    // Attached, not mounted.
    drop(test.pool.take());
    let mount = test.home.path().join("pool");
    // a child that another test has just forked has it open until it becomes another program
    while let Err(errno) = rustix::mount::unmount(&mount, rustix::mount::UnmountFlags::empty()) {
        assert_eq!(errno, rustix::io::Errno::BUSY);
        std::thread::yield_now();
    }
    test.pool = Some(LoopPool::open(test.home.path(), 0).unwrap());
    assert!(test.pool().find(&live("v")).unwrap().is_some());
    // Neither, and an image half made beside it.
    test.pool.take().unwrap().close().unwrap();
    std::fs::write(test.home.path().join("pool.img.new"), b"half").unwrap();
    test.pool = Some(LoopPool::open(test.home.path(), 0).unwrap());
    assert!(test.pool().find(&live("v")).unwrap().is_some());
    test.pool.take().unwrap().close().unwrap();
    std::fs::remove_file(test.home.path().join("pool.img")).unwrap();
    test.pool = Some(LoopPool::open(test.home.path(), 0).unwrap());
    assert!(test.pool().find(&live("v")).unwrap().is_none());
}

#[test]
fn a_pool_that_was_made_read_only_is_told_so_and_is_mounted_again_by_the_next_open() {
    let Some(mut test) = Live::new() else { return };
    test.pool().create(&live("v"), &volume("v")).unwrap();
    assert!(!test.pool().space().unwrap().is_read_only);
    let mount = test.home.path().join("pool");
    let read_only = rustix::mount::MountFlags::RDONLY;
    rustix::mount::mount_remount(&mount, read_only, "").unwrap();
    assert!(test.pool().space().unwrap().is_read_only);
    let refused = test.pool().create(&live("w"), &volume("w")).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    // As after kill -9; somebody uses it.
    drop(test.pool.take());
    let user = std::fs::File::open(&mount).unwrap();
    let refused = LoopPool::open(test.home.path(), 0).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Precondition);
    assert!(refused.to_string().contains("programs use it"), "{refused}");
    drop(user);
    test.pool = Some(LoopPool::open(test.home.path(), 0).unwrap());
    assert!(!test.pool().space().unwrap().is_read_only);
    assert!(test.pool().find(&live("v")).unwrap().is_some());
    test.pool().create(&live("w"), &volume("w")).unwrap();
    // One that has turned so can be let go of.
    rustix::mount::mount_remount(&mount, read_only, "").unwrap();
    test.pool.take().unwrap().close().unwrap();
    assert!(!mount.join("volumes").exists(), "it is not mounted any more");
}

#[test]
fn a_read_only_pool_of_which_volumes_are_mounted_is_left_as_it_is() {
    let Some(mut test) = Live::new() else { return };
    test.pool().create(&live("v"), &volume("v")).unwrap();
    let mount = test.home.path().join("pool");
    let pod = tempfile::tempdir().unwrap();
    rustix::mount::mount_bind(test.pool().absolute(&live("v")), pod.path()).unwrap();
    rustix::mount::mount_remount(&mount, rustix::mount::MountFlags::RDONLY, "").unwrap();
    drop(test.pool.take());
    let refused = LoopPool::open(test.home.path(), 0).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Precondition);
    assert!(refused.to_string().contains(pod.path().to_str().unwrap()), "{refused}");
    assert!(mount.join("volumes").exists(), "it is mounted still");
    rustix::mount::unmount(pod.path(), rustix::mount::UnmountFlags::empty()).unwrap();
    test.pool = Some(LoopPool::open(test.home.path(), 0).unwrap());
    assert!(!test.pool().space().unwrap().is_read_only);
}

#[test]
fn an_image_that_is_attached_twice_is_not_used() {
    let Some(mut test) = Live::new() else { return };
    test.pool.take().unwrap().close().unwrap();
    let image = std::fs::File::options()
        .read(true)
        .write(true)
        .open(test.home.path().join("pool.img"))
        .unwrap();
    let devices = [(); 2].map(|()| crate::loop_pool::attach(&image, test.home.path()).unwrap());
    let refused = LoopPool::open(test.home.path(), 0).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Precondition);
    for device in &devices {
        assert!(refused.to_string().contains(device.path.to_str().unwrap()), "{refused}");
    }
    assert!(!test.home.path().join("pool/volumes").exists(), "nothing is mounted");
    let [one, other] = devices;
    crate::ioctl::detach_loop_device(&one.fd).unwrap();
    drop((one, image));
    let used = other.path.clone();
    drop(other);
    test.pool = Some(LoopPool::open(test.home.path(), 0).unwrap());
    let table = crate::MountTable::read().unwrap();
    let mount = std::fs::canonicalize(test.home.path().join("pool")).unwrap();
    assert_eq!(table.find_at(&mount).unwrap().from, used);
}

#[test]
fn what_is_written_and_in_memory_alone_is_promised_room() {
    let Some(test) = Live::new() else { return };
    test.pool().create(&live("v"), &volume("v")).unwrap();
    test.pool().flush().unwrap();
    let before = test.pool().space().unwrap();
    let place = test.pool().absolute(&live("v")).join("large");
    // what other programs make the kernel write at this moment may be on the disk already
    let mut tries = 0;
    let written = loop {
        std::fs::write(&place, vec![7; 32 << 20]).unwrap();
        let written = test.pool().space().unwrap();
        if written.promised >= before.promised + (16 << 20) {
            break written;
        }
        tries += 1;
        assert!(tries < 5, "{before:?}, {written:?}");
    };
    assert!(written.unpromised() + (16 << 20) <= before.unpromised(), "{before:?}, {written:?}");
    test.pool().flush().unwrap();
    let flushed = test.pool().space().unwrap();
    assert!(flushed.promised < written.promised, "{written:?}, {flushed:?}");
}

#[test]
fn a_pool_grows_while_it_is_in_use() {
    let Some(test) = Live::new() else { return };
    let before = test.pool().space().unwrap().total;
    test.pool().create(&live("v"), &volume("v")).unwrap();
    let bytes = test.pool().grow(100 << 20).unwrap();
    assert_eq!(bytes, 356 << 20);
    assert_eq!(test.pool().space().unwrap().total, before + (100 << 20));
    let refused = test.pool().grow(1 << 50).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Exhausted);
}

#[test]
fn what_lies_very_deep_is_compared_and_the_kernel_is_not_waited_for() {
    use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
    let Some(test) = Live::new() else { return };
    let (pool, v) = (test.pool(), volume("v"));
    pool.create(&live("v"), &v).unwrap();
    let snapshot = |n| pool.snapshot(&live("v"), &stored("v", n), Access::ReadOnly, &v).unwrap();
    snapshot(1);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut innermost = openat(CWD, pool.absolute(&live("v")), flags, Mode::empty()).unwrap();
    for _ in 0..600 {
        mkdirat(&innermost, "d", Mode::RWXU).unwrap();
        innermost = openat(&innermost, "d", flags, Mode::empty()).unwrap();
    }
    snapshot(2);
    let id = |n| pool.find(&stored("v", n)).unwrap().unwrap().id;
    let refused = pool.inner().changes_by_send(&stored("v", 1), &stored("v", 2), id(1));
    let refused = refused.map(|told| told.touched.len());
    let Err(SendError::Stream(why)) = refused else { panic!("{refused:?}") };
    assert_eq!(why, "much of it lies very deep");
    let changes = pool.changes(&stored("v", 1), &stored("v", 2)).unwrap();
    assert_eq!(changes.touched.len(), 601, "the top and each directory");
    // a change of little is told by the kernel, however deep
    let file = openat(&innermost, "f", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap();
    std::fs::File::from(file).write_all(b"deep").unwrap();
    snapshot(3);
    let changes = pool.inner().changes_by_send(&stored("v", 2), &stored("v", 3), id(2)).unwrap();
    assert_eq!(changes.touched.len(), 2, "the file and its directory");
}

#[test]
fn a_quota_holds_for_the_volume_and_its_snapshots() {
    let Some(test) = Live::new() else { return };
    let (pool, v) = (test.pool(), volume("v"));
    pool.create(&live("v"), &v).unwrap();
    pool.set_limit(&v, Some(16 << 20)).unwrap();
    pool.snapshot(&live("v"), &stored("v", 1), Access::ReadWrite, &v).unwrap();
    let noise: Vec<u8> =
        (0u32..8 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let fill = |place: &crate::SubvolumePath, name: &str| {
        let dir = pool.open(place).unwrap();
        dir.write_file(&path(name), None, &mut &*noise)
    };
    fill(&live("v"), "a").unwrap();
    let failed = fill(&stored("v", 1), "b").and_then(|()| fill(&stored("v", 1), "c")).unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Exhausted, "{failed:?}");
}

#[test]
fn what_sysfs_says_of_a_group_is_what_the_tree_says_after_a_commit() {
    let Some(test) = Live::new() else { return };
    let (pool, v) = (test.pool(), volume("v"));
    let both = || {
        pool.reclaim().unwrap();
        (pool.inner().usage_by_sysfs(&v), pool.inner().usage_by_tree(&v).unwrap())
    };
    assert_eq!(both(), (None, crate::Usage::default()), "there is no group yet");
    assert_eq!(pool.usage(&v).unwrap(), crate::Usage::default());
    pool.create(&live("v"), &v).unwrap();
    for limit_bytes in [None, Some(64 << 20), Some(1 << 62), None, Some(8 << 20)] {
        pool.set_limit(&v, limit_bytes).unwrap();
        let name = path(&format!("{limit_bytes:?}"));
        pool.open(&live("v")).unwrap().write_file(&name, None, &mut &[7; 100_000][..]).unwrap();
        let (now, kept) = both();
        assert_eq!(now, Some(kept));
        assert_eq!(kept.limit_bytes, limit_bytes);
        assert!(kept.charged_bytes > 0, "{kept:?}");
        assert_eq!(pool.usage(&v).unwrap(), kept);
    }
    // a limit of 0 may be one that is just being taken away: there the tree has the word
    pool.set_limit(&v, Some(0)).unwrap();
    let (now, kept) = both();
    assert_eq!((now, kept.limit_bytes), (None, Some(0)));
    assert_eq!(pool.usage(&v).unwrap(), kept);
}

#[test]
fn what_is_deleted_and_waited_for_is_charged_no_longer() {
    let Some(test) = Live::new() else { return };
    let (pool, v) = (test.pool(), volume("v"));
    for place in [live("v"), stored("v", 1)] {
        pool.create(&place, &v).unwrap();
    }
    pool.set_limit(&v, Some(16 << 20)).unwrap();
    let noise: Vec<u8> =
        (0u32..8 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let fill = |place: &crate::SubvolumePath, name: &str| {
        pool.open(place).unwrap().write_file(&path(name), None, &mut &*noise)
    };
    fill(&stored("v", 1), "a").unwrap();
    fill(&stored("v", 1), "b").unwrap_err();
    assert!(pool.usage(&v).unwrap().charged_bytes > 8 << 20);
    assert!(pool.delete_and_wait(&stored("v", 1)).unwrap());
    assert!(pool.usage(&v).unwrap().charged_bytes < 1 << 20, "{:?}", pool.usage(&v));
    fill(&live("v"), "a").unwrap();
    assert!(!pool.delete_and_wait(&stored("v", 1)).unwrap(), "it was gone");
}

#[test]
fn what_two_share_is_free_when_both_are_waited_for_in_either_order() {
    let Some(test) = Live::new() else { return };
    let (pool, v) = (test.pool(), volume("v"));
    pool.create(&live("v"), &v).unwrap();
    pool.set_limit(&v, Some(16 << 20)).unwrap();
    let noise: Vec<u8> =
        (0u32..8 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let (built, base) = (stored("v", 1), stored("v", 2));
    for order in [[&base, &built], [&built, &base]] {
        pool.create(&built, &v).unwrap();
        pool.open(&built).unwrap().write_file(&path("a"), None, &mut &*noise).unwrap();
        pool.snapshot(&built, &base, Access::ReadOnly, &v).unwrap();
        pool.flush().unwrap();
        assert!(pool.usage(&v).unwrap().charged_bytes > 8 << 20);
        assert!(pool.delete_and_wait(order[0]).unwrap());
        assert!(pool.usage(&v).unwrap().charged_bytes > 8 << 20, "the other has it");
        assert!(pool.delete_and_wait(order[1]).unwrap());
        assert!(pool.usage(&v).unwrap().charged_bytes < 1 << 20, "{:?}", pool.usage(&v));
    }
}

#[test]
fn a_subvolume_that_a_user_nested_is_seen_and_deleted_with_its_volume() {
    let Some(test) = Live::new() else { return };
    let pool = test.pool();
    pool.create(&live("v"), &volume("v")).unwrap();
    let dir = pool.open(&live("v")).unwrap();
    dir.create_dirs(&path("files/x"), 0o755).unwrap();
    let above = std::fs::File::open(pool.absolute(&live("v")).join("files/x")).unwrap();
    crate::ioctl::create_subvolume(&above, b"nested", None).unwrap();
    let above = std::fs::File::open(pool.absolute(&live("v")).join("files/x/nested")).unwrap();
    crate::ioctl::create_subvolume(&above, b"deeper", None).unwrap();
    drop(above);
    assert_eq!(pool.nested(&live("v")).unwrap(), [b"files/x/nested"]);
    assert!(dir.list(&path("files/x/nested")).is_err());
    assert!(dir.metadata(&path("files/x/nested/deeper")).is_err());
    assert!(pool.delete(&live("v")).unwrap());
    assert!(pool.find(&live("v")).unwrap().is_none());
}

#[test]
fn an_extent_on_the_grid_is_read_and_written_as_its_frame() {
    let Some(test) = Live::new() else { return };
    let (pool, v) = (test.pool(), volume("v"));
    pool.create(&live("v"), &v).unwrap();
    let dir = pool.open(&live("v")).unwrap();
    let text: Vec<u8> =
        (0u32..).flat_map(|n| format!("line {n}\n").into_bytes()).take(300_000).collect();
    let mut file = dir.create_file(&path("a"), 0o644).unwrap();
    file.write_all(&text).unwrap();
    file.set_len(1 << 20).unwrap();
    file.sync_all().unwrap();

    let chunk = 128 << 10;
    let mut buffer = vec![0; chunk];
    let read = |file, offset, buffer: &mut [u8]| read_encoded(file, offset, chunk, buffer).unwrap();
    let Encoded::Zstd { frame } = read(&file, 0, &mut buffer) else { panic!("it is compressed") };
    assert_eq!(zstd::bulk::decompress(&frame, chunk).unwrap(), text[..chunk]);
    assert_eq!(read(&file, 4096, &mut buffer), Encoded::Plain { len: chunk });
    assert_eq!(buffer, text[4096..4096 + chunk]);
    assert_eq!(read(&file, 512 << 10, &mut buffer), Encoded::Hole { len: chunk });
    assert_eq!(read(&file, (1 << 20) - 4096, &mut buffer), Encoded::Hole { len: 4096 });
    assert_eq!(read(&file, 1 << 20, &mut buffer), Encoded::Plain { len: 0 });

    let copy = dir.create_file(&path("b"), 0o644).unwrap();
    write_encoded(&copy, 0, &frame, chunk).unwrap();
    let own = zstd::bulk::compress(&text[chunk..2 * chunk], 1).unwrap();
    write_encoded(&copy, chunk as u64, &own, chunk).unwrap();
    let tail = zstd::bulk::compress(&text[2 * chunk..], 1).unwrap();
    write_encoded(&copy, 2 * chunk as u64, &tail, text.len() - 2 * chunk).unwrap();
    copy.sync_all().unwrap();
    let mut back = vec![0; text.len()];
    copy.read_exact_at(&mut back, 0).unwrap();
    assert_eq!(back, text);
    assert_eq!(copy.metadata().unwrap().len(), text.len() as u64);
    let Encoded::Zstd { frame: again } = read(&copy, 0, &mut buffer) else { panic!("a frame") };
    assert_eq!(again, frame);
}

#[test]
fn a_path_that_the_kernel_cannot_send_is_found_by_comparing() {
    let Some(test) = Live::new() else { return };
    let (pool, v) = (test.pool(), volume("v"));
    pool.create(&live("v"), &v).unwrap();
    pool.snapshot(&live("v"), &stored("v", 1), Access::ReadOnly, &v).unwrap();
    let deepest = deep(&pool.absolute(&live("v")));
    let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::openat(&deepest, "file", flags, mode).unwrap();
    rustix::fs::linkat(&deepest, "file", &deepest, "link", rustix::fs::AtFlags::empty()).unwrap();
    let inode = rustix::fs::statat(&deepest, "file", rustix::fs::AtFlags::empty()).unwrap().st_ino;
    drop(deepest);
    pool.snapshot(&live("v"), &stored("v", 2), Access::ReadOnly, &v).unwrap();
    let changes = pool.changes(&stored("v", 1), &stored("v", 2)).unwrap();
    let longest = [vec!["n".repeat(250); 18], vec!["link".into()]].concat().join("/");
    assert!(changes.gone.is_empty() && changes.moved.is_empty());
    let touched: Vec<_> = changes.touched.iter().map(|touched| touched.path.as_slice()).collect();
    assert_eq!(touched.len(), 21, "the top, 18 directories and two names");
    assert!(touched.contains(&longest.as_bytes()));
    let names = pool.names_of_inode(&stored("v", 2), inode).unwrap();
    assert_eq!(names.len(), 2);
    assert_eq!(names[1], longest.as_bytes());
}

/// Makes 18 nested directories with names of 250 bytes; the innermost.
fn deep(top: &std::path::Path) -> std::fs::File {
    let mut at = std::fs::File::open(top).unwrap();
    let name = "n".repeat(250);
    for _ in 0..18 {
        rustix::fs::mkdirat(&at, &name, rustix::fs::Mode::from_raw_mode(0o755)).unwrap();
        let flags = rustix::fs::OFlags::DIRECTORY;
        let below = rustix::fs::openat(&at, &name, flags, rustix::fs::Mode::empty()).unwrap();
        at = std::fs::File::from(below);
    }
    at
}

/// Sets flags as `chattr` does.
fn chattr(path: &std::path::Path, flags: rustix::fs::IFlags) {
    let file = std::fs::File::open(path).unwrap();
    let now = rustix::fs::ioctl_getflags(&file).unwrap();
    rustix::fs::ioctl_setflags(&file, now | flags).unwrap();
}

#[test]
fn a_nested_subvolume_is_deleted_however_deep_and_whatever_flags_it_has() {
    let Some(test) = Live::new() else { return };
    let (pool, v) = (test.pool(), volume("v"));
    pool.create(&live("v"), &v).unwrap();
    let deepest = deep(&pool.absolute(&live("v")));
    crate::ioctl::create_subvolume(&deepest, b"nested", None).unwrap();
    drop(deepest);
    let top = pool.absolute(&live("v"));
    std::fs::create_dir(top.join("d")).unwrap();
    let above = std::fs::File::open(top.join("d")).unwrap();
    crate::ioctl::create_subvolume(&above, b"locked", None).unwrap();
    let locked = std::fs::File::open(top.join("d/locked")).unwrap();
    crate::ioctl::create_subvolume(&locked, b"inner", None).unwrap();
    chattr(&top.join("d/locked"), rustix::fs::IFlags::IMMUTABLE);
    crate::ioctl::create_snapshot(&above, b"read-only", &locked, true, None).unwrap();
    drop((above, locked));
    chattr(&top.join("d"), rustix::fs::IFlags::IMMUTABLE);
    chattr(&top, rustix::fs::IFlags::IMMUTABLE);
    let nested = pool.nested(&live("v")).unwrap();
    assert_eq!(nested.len(), 3);
    assert!(nested.iter().any(|path| path.len() > 4095));
    pool.snapshot(&live("v"), &stored("v", 1), Access::ReadOnly, &v).unwrap();
    let trash = crate::SubvolumePath::Trash(cove_types::OperationId([3; 16]));
    pool.rename(&live("v"), &trash).unwrap();
    assert!(pool.delete(&trash).unwrap());
    assert!(pool.delete(&stored("v", 1)).unwrap());
}

#[test]
fn a_file_without_copy_on_write_is_seen_to_change_however_often_it_is_written_to() {
    let Some(test) = Live::new() else { return };
    let (pool, v) = (test.pool(), volume("v"));
    pool.create(&live("v"), &v).unwrap();
    let at = pool.absolute(&live("v")).join("pages");
    let mut file = std::fs::File::create_new(&at).unwrap();
    chattr(&at, rustix::fs::IFlags::NOCOW);
    file.write_all(&[1; 64 << 10]).unwrap();
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 64 << 10, 64 << 10).unwrap();
    pool.snapshot(&live("v"), &stored("v", 1), Access::ReadOnly, &v).unwrap();
    for n in 2..5 {
        // Twice between two snapshots, of which the second is in place; and what was
        // preallocated is filled in.
        for value in [n, n + 10] {
            file.write_all_at(&[value; 4096], 8192).unwrap();
            file.write_all_at(&[value; 4096], (64 << 10) + u64::from(n) * 4096).unwrap();
            file.sync_all().unwrap();
        }
        pool.snapshot(&live("v"), &stored("v", n), Access::ReadOnly, &v).unwrap();
        let (before, after) = (stored("v", n - 1), stored("v", n));
        let changes = pool.inner().changes_by_search(&before, &after).unwrap();
        let [touched] = changes.touched.as_slice() else { panic!("{changes:?}") };
        let filled = (64 << 10) + u64::from(n) * 4096;
        let ranges = vec![8192..12_288, filled..filled + 4096];
        assert_eq!(touched.content, crate::Content::Ranges(ranges));
        let read = |place| {
            let mut bytes = vec![0; 128 << 10];
            let dir = pool.open(place).unwrap();
            dir.open_file(&path("pages")).unwrap().read_exact_at(&mut bytes, 0).unwrap();
            bytes
        };
        let (mut old, new) = (read(&before), read(&after));
        old[8192..12_288].fill(n + 10);
        old[filled as usize..filled as usize + 4096].fill(n + 10);
        assert!(old == new, "elsewhere nothing differs");
    }
}

#[test]
fn what_flags_forbid_is_done_nevertheless() {
    let Some(test) = Live::new() else { return };
    let pool = test.pool();
    pool.create(&live("v"), &volume("v")).unwrap();
    let dir = pool.open(&live("v")).unwrap();
    let top = pool.absolute(&live("v"));
    let lock = |names: &[&str]| {
        for (n, name) in names.iter().enumerate() {
            let flags = [rustix::fs::IFlags::IMMUTABLE, rustix::fs::IFlags::APPEND];
            chattr(&top.join(name), flags[n % 2]);
        }
    };
    let make = |name: &str| dir.write_file(&path(name), None, &mut &b"text"[..]).unwrap();
    dir.create_dirs(&path("d/e/f"), 0o755).unwrap();
    for name in ["d/a", "d/e/b", "d/e/f/c", "outside"] {
        make(name);
    }
    dir.symlink(&path("d/link"), b"../outside").unwrap();
    lock(&["outside"]);
    let flags = dir.metadata(&path("outside")).unwrap().flags;
    assert!(flags.is_immutable && !flags.is_append_only);

    // Each change, once with the entry and once with its directory locked.
    lock(&["d/a", "d/e", "d"]);
    make("d/a");
    assert_eq!(std::fs::read(top.join("d/a")).unwrap(), b"text");
    lock(&["d/a", "d"]);
    dir.rename(&path("d/a"), &path("d/e/a")).unwrap();
    lock(&["d/e/a", "d/e"]);
    dir.hard_link(&path("d/e/a"), &path("d/e/again")).unwrap();
    lock(&["d/e/a", "d/e"]);
    dir.set_mode(&path("d/e/a"), 0o600).unwrap();
    lock(&["d/e/a"]);
    dir.set_owner(&path("d/e/a"), 7, 7).unwrap();
    lock(&["d/e/a"]);
    dir.set_times(&path("d/e/a"), cove_types::FileTime { seconds: 1, nanoseconds: 1 }).unwrap();
    lock(&["d/e/a"]);
    dir.set_xattr(&path("d/e/a"), b"user.a", b"").unwrap();
    lock(&["d/e/a"]);
    assert!(dir.remove_xattr(&path("d/e/a"), b"user.a").unwrap());
    lock(&["d/e/a"]);
    dir.open_file_writable(&path("d/e/a")).unwrap();
    lock(&["d/e"]);
    dir.create_file(&path("d/e/new"), 0o600).unwrap();
    lock(&["d/e"]);
    dir.create_dir(&path("d/e/newdir"), 0o700).unwrap();
    lock(&["d/e"]);
    dir.symlink(&path("d/e/newlink"), b"x").unwrap();
    lock(&["d/e"]);
    dir.mkfifo(&path("d/e/fifo"), 0o600).unwrap();
    lock(&["d/e"]);
    make("d/e/newfile");

    // All of it at once, and nothing through the link.
    lock(&["d/e/f/c", "d/e/f", "d/e/b", "d/e", "d/e/newdir", "d"]);
    dir.set_mode(&path("d/link"), 0o600).unwrap_err();
    assert!(dir.remove(&path("d"), true).unwrap());
    assert!(dir.metadata(&path("outside")).unwrap().flags.is_immutable);
    assert!(dir.remove(&path("outside"), false).unwrap());
}

#[test]
fn an_active_swap_file_keeps_a_snapshot_from_being_made_and_is_named() {
    let Some(test) = Live::new() else { return };
    let (pool, v) = (test.pool(), volume("v"));
    pool.create(&live("v"), &v).unwrap();
    let swap = pool.absolute(&live("v")).join("swap");
    let run = |program: &str, arguments: &[&str]| {
        #[expect(clippy::disallowed_methods, reason = "swapping has no other safe interface")]
        let output = std::process::Command::new(program).args(arguments).arg(&swap).output();
        output.is_ok_and(|output| output.status.success())
    };
    std::fs::write(&swap, b"").unwrap();
    let is_on = run("chattr", &["+C"])
        && run("fallocate", &["-l", "4M"])
        && run("chmod", &["600"])
        && run("/usr/sbin/mkswap", &[])
        && run("/usr/sbin/swapon", &[]);
    if !is_on {
        eprintln!("skipped: this machine lets nobody swap to a file");
        return;
    }
    let refused = pool.snapshot(&live("v"), &stored("v", 1), Access::ReadOnly, &v);
    assert!(run("/usr/sbin/swapoff", &[]));
    let refused = refused.unwrap_err();
    assert!(matches!(refused, crate::PoolError::SwapFile { .. }), "{refused:?}");
    assert_eq!(refused.kind(), ErrorKind::Precondition);
}

#[test]
fn what_stands_for_a_nested_subvolume_gives_way_and_the_pool_stays_writable() {
    let Some(test) = Live::new() else { return };
    let pool = test.pool();
    pool.create(&live("v"), &volume("v")).unwrap();
    let above = std::fs::File::open(pool.absolute(&live("v"))).unwrap();
    crate::ioctl::create_subvolume(&above, b"nested", None).unwrap();
    pool.snapshot(&live("v"), &live("fork"), Access::ReadWrite, &volume("v")).unwrap();
    let dir = pool.open(&live("fork")).unwrap();
    assert!(dir.metadata(&path("nested")).unwrap().stands_for_subvolume());
    dir.create_dirs(&path("new"), 0o755).unwrap();
    assert!(dir.rename_or_exchange(&path("nested"), &path("new")).is_err());
    assert!(!dir.rename_or_exchange(&path("new"), &path("nested")).unwrap());
    assert!(!dir.metadata(&path("nested")).unwrap().stands_for_subvolume());
    assert!(dir.find(&path("new")).unwrap().is_none());
    dir.write_file(&path("file"), None, &mut &b"written"[..]).unwrap();
}

#[test]
fn what_changed_is_counted_and_what_lies_beside_it_is_not() {
    let Some(live_pool) = Live::new() else { return };
    let pool = live_pool.pool();
    let v = volume("counted");
    pool.create(&live("counted"), &v).unwrap();
    let dir = pool.open(&live("counted")).unwrap();
    for n in 0..1000 {
        dir.create_file(&path(&format!("f{n}")), 0o644).unwrap();
    }
    pool.snapshot(&live("counted"), &stored("counted", 1), Access::ReadOnly, &v).unwrap();
    dir.open_file_writable(&path("f7")).unwrap().write_all_at(b"x", 0).unwrap();
    dir.create_file(&path("new"), 0o644).unwrap();
    assert!(dir.remove(&path("f8"), false).unwrap());
    pool.snapshot(&live("counted"), &stored("counted", 2), Access::ReadOnly, &v).unwrap();
    let count = |from, most| {
        pool.count_changed(&stored("counted", from), &stored("counted", 2), most).unwrap()
    };
    assert_eq!(count(1, 100), 3, "a file, a new one, and the directory of it");
    assert_eq!(count(1, 2), 2);
    assert_eq!(count(2, 100), 0);
}

#[test]
fn what_is_in_memory_is_read_at_once_and_nothing_that_is_no_file() {
    let Some(live_pool) = Live::new() else { return };
    let pool = live_pool.pool();
    pool.create(&live("cached"), &volume("cached")).unwrap();
    let dir = pool.open(&live("cached")).unwrap();
    dir.create_dirs(&path("d"), 0o755).unwrap();
    let mut file = dir.create_file(&path("d/file"), 0o640).unwrap();
    file.write_all(b"content").unwrap();
    dir.symlink(&path("link"), b"d/file").unwrap();
    dir.symlink(&path("out"), b"/").unwrap();
    dir.mkfifo(&path("fifo"), 0o600).unwrap();
    let dir = pool.open_cached(&live("cached")).unwrap();
    let read = |at: &str, range, most| dir.read_cached(&path(at), range, most).map(|(_, b)| b);
    // names that were just made are in the kernel's memory, and so are pages that were just written
    assert_eq!(read("d/file", None, 7).as_deref(), Some(&b"content"[..]));
    assert_eq!(read("d/file", Some(3..100), 7).as_deref(), Some(&b"tent"[..]));
    assert_eq!(read("d/file", Some(50..60), 7).as_deref(), Some(&b""[..]));
    let (metadata, _) = dir.read_cached(&path("d/file"), None, 7).unwrap();
    assert_eq!((metadata.size, metadata.mode), (7, 0o640));
    assert_eq!(read("d/file", None, 6), None, "it is longer than what may be read at once");
    for other in ["d", "link", "out", "out/etc/passwd", "fifo", "missing", "d/file/below"] {
        assert_eq!(read(other, None, 100), None, "{other}");
    }
    assert!(pool.open_cached(&live("missing")).is_none());
}

#[test]
fn what_is_in_memory_is_what_is_there() {
    let Some(live_pool) = Live::new() else { return };
    let pool = live_pool.pool();
    let names = |place: &crate::SubvolumePath| {
        let dir = pool.open_cached(place)?;
        Some(["a", "b"].map(|name| dir.open_file(&path(name)).is_ok()))
    };
    for name in ["a", "b"] {
        pool.create(&live(name), &volume(name)).unwrap();
        pool.open(&live(name)).unwrap().create_file(&path(name), 0o600).unwrap();
    }
    assert_eq!(names(&live("a")), Some([true, false]));
    pool.exchange(&live("a"), &live("b")).unwrap();
    assert_eq!(names(&live("a")), Some([false, true]));
    pool.rename(&live("a"), &live("c")).unwrap();
    assert_eq!((names(&live("a")), names(&live("c"))), (None, Some([false, true])));
    pool.delete(&live("c")).unwrap();
    assert_eq!(names(&live("c")), None);
}

#[test]
fn a_replaced_file_leaves_no_name_behind() {
    let Some(test) = Live::new() else { return };
    let pool = test.pool();
    pool.create(&live("v"), &volume("v")).unwrap();
    let dir = pool.open(&live("v")).unwrap();
    dir.create_dirs(&path("files"), 0o755).unwrap();
    for n in 0..3 {
        dir.write_file(&path("files/a"), None, &mut format!("{n}").as_bytes()).unwrap();
    }
    let metadata = dir.metadata(&path("files/a")).unwrap();
    assert_eq!((metadata.uid, metadata.gid, metadata.mode), (1000, 1000, 0o644));
    assert_eq!(dir.list(&path("files")).unwrap().len(), 1);
    assert_eq!(dir.list(&path("")).unwrap().len(), 1);
}

/// Records `stream/golden.bin` anew; small enough for the pipe to hold it.
#[test]
#[ignore = "run by hand to record a stream of the kernel at hand"]
fn record_a_stream() {
    let Some(test) = Live::new() else { return };
    let (pool, v) = (test.pool(), volume("v"));
    pool.create(&live("v"), &v).unwrap();
    let dir = pool.open(&live("v")).unwrap();
    dir.create_dirs(&path("d/e"), 0o755).unwrap();
    for name in ["a", "b", "d/x"] {
        dir.write_file(&path(name), None, &mut &vec![7; 9000][..]).unwrap();
    }
    pool.snapshot(&live("v"), &stored("v", 1), Access::ReadOnly, &v).unwrap();
    dir.rename(&path("d"), &path("f")).unwrap();
    dir.rename(&path("b"), &path("f/e/b")).unwrap();
    dir.remove(&path("a"), false).unwrap();
    dir.symlink(&path("a"), b"target").unwrap();
    dir.open_file_writable(&path("f/x")).unwrap().write_all_at(b"new", 4096).unwrap();
    dir.hard_link(&path("f/x"), &path("y")).unwrap();
    dir.set_xattr(&path("y"), b"user.note", b"n").unwrap();
    pool.snapshot(&live("v"), &stored("v", 2), Access::ReadOnly, &v).unwrap();
    let parent = pool.find(&stored("v", 1)).unwrap().unwrap().id;
    let child = std::fs::File::open(pool.absolute(&stored("v", 2))).unwrap();
    let (mut reader, writer) = std::io::pipe().unwrap();
    crate::ioctl::send_changes(&child, parent, &writer).unwrap();
    drop(writer);
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut reader, &mut bytes).unwrap();
    std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/stream/golden.bin"), bytes).unwrap();
}
