//! What a tree cannot hold comes back by no way: four copies of one state are equal.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use cove_content::volumes::{Moment, Progress, VerifyLevel, Volumes};
use cove_objects::Fault;
use cove_testkit::trees::{Description, describe, difference};
use rustix::fs::{CWD, FileType, IFlags, Mode, XattrFlags};

use crate::world::{World, is_root, memory};

type Tree = BTreeMap<Vec<u8>, Description>;

/// A capability set, as `setcap` writes it (`VFS_CAP_REVISION_2` with `cap_net_raw`).
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Makes files with parts that no tree holds. `nested`: also what only btrfs has.
fn build(files: &Path, nested: bool) {
    let dir = files.join("dir");
    fs::create_dir_all(dir.join("deep")).unwrap();
    for name in ["plain", "set-id", "capable", "trusted", "immutable", "deep/file"] {
        fs::write(dir.join(name), name.repeat(5_000)).unwrap();
    }
    fs::hard_link(dir.join("plain"), dir.join("deep/linked")).unwrap();
    std::os::unix::fs::symlink("plain", dir.join("link")).unwrap();
    let set = |name: &str, key: &str, value: &[u8]| {
        rustix::fs::setxattr(dir.join(name), key, value, XattrFlags::empty()).unwrap();
    };
    set("plain", "user.kept", b"kept");
    set("capable", "security.capability", &CAPABILITY);
    set("trusted", "trusted.secret", b"of root");
    set("deep", "trusted.secret", b"of root");
    fs::set_permissions(dir.join("set-id"), fs::Permissions::from_mode(0o6755)).unwrap();
    let null = rustix::fs::makedev(1, 3);
    let mode = Mode::from_raw_mode(0o666);
    rustix::fs::mknodat(CWD, dir.join("device"), FileType::CharacterDevice, mode, null).unwrap();
    if nested {
        #[expect(clippy::disallowed_methods, reason = "as a user makes one")]
        let made = std::process::Command::new("btrfs")
            .args(["subvolume", "create"])
            .arg(dir.join("nested"))
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        flag(&dir.join("immutable"), IFlags::IMMUTABLE);
    }
}

fn flag(path: &Path, flags: IFlags) {
    let file = fs::File::open(path).unwrap();
    rustix::fs::ioctl_setflags(&file, flags).unwrap();
}

/// Every part below `path` that no tree holds, in words.
fn parts(path: &Path, found: &mut Vec<String>) {
    let metadata = fs::symlink_metadata(path).unwrap();
    let mut say = |what: &str| found.push(format!("{}: {what}", path.display()));
    let kind = metadata.file_type();
    if kind.is_char_device() || kind.is_block_device() {
        return say("a device");
    }
    if metadata.mode() & 0o6000 != 0 {
        say("a set-id bit");
    }
    let mut names = vec![0; 4096];
    if let Ok(length) = rustix::fs::llistxattr(path, &mut names) {
        for name in names[..length].split(|byte| *byte == 0) {
            if name.starts_with(b"trusted.") || name == b"security.capability" {
                say(&String::from_utf8_lossy(name));
            }
        }
    }
    if kind.is_file() || kind.is_dir() {
        let flags = rustix::fs::ioctl_getflags(fs::File::open(path).unwrap());
        if flags.is_ok_and(|flags| flags.intersects(IFlags::IMMUTABLE | IFlags::APPEND)) {
            say("a flag");
        }
    }
    if kind.is_dir() {
        if path.file_name().is_some_and(|name| name.as_bytes() == b"nested") {
            found.push(format!("{}: a nested subvolume", path.display()));
        }
        for entry in fs::read_dir(path).unwrap() {
            parts(&entry.unwrap().path(), found);
        }
    }
}

#[track_caller]
fn same(what: &str, wanted: &Tree, files: &Path) {
    let lines = difference(wanted, &describe(files).unwrap());
    assert!(lines.is_empty(), "{what}:\n{}", lines.join("\n"));
    let mut found = Vec::new();
    parts(files, &mut found);
    assert!(found.is_empty(), "{what} has what no tree holds: {found:#?}");
}

async fn copies_are_equal(a: World, nested: bool) {
    let store = std::sync::Arc::clone(&a.store);
    let volume = a.create().await;
    let files = a.files(&volume).await;
    build(&files, nested);

    // stored in the same operation, so that what is missing is not known before
    let of_now = a.fork(&volume, Moment::Now).await;
    let entry = a.snapshot(&volume).await;
    let status = a.node.status(&volume).await.unwrap();
    assert!(status.not_captured_count >= 5, "{:?}", status.not_captured);
    let of_entry = a.fork(&volume, Moment::Entry(entry)).await;
    let mut left = Vec::new();
    parts(&files, &mut left);
    assert!(left.len() >= 5, "the source keeps what it has: {left:?}");
    if nested {
        flag(&files.join("dir/immutable"), IFlags::empty());
    }

    // a restore of paths goes into no other subvolume
    if nested {
        let Err(error) = a.restore_as(&a.call(), &volume, &entry, &["dir"]).await else {
            panic!("restored")
        };
        assert!(error.to_string().contains("dir/nested"), "{error}");
        #[expect(clippy::disallowed_methods, reason = "as a user removes one")]
        let removed = std::process::Command::new("btrfs")
            .args(["subvolume", "delete"])
            .arg(files.join("dir/nested"))
            .output()
            .unwrap();
        assert!(removed.status.success(), "{removed:?}");
    }

    // paths from the local snapshot, with the store away
    fs::write(files.join("dir/plain"), "changed").unwrap();
    fs::write(files.join("dir/deep/new"), "new").unwrap();
    store.fail_when(|_| Some(Fault::BeforeEffect));
    let restored = a.restore_as(&a.call(), &volume, &entry, &["dir"]).await.unwrap();
    let by_paths = describe(&files).unwrap();
    store.heal();
    restored.saved.await.unwrap();
    // whole, from the local snapshot
    fs::write(files.join("dir/plain"), "changed").unwrap();
    a.restore(&volume, &entry).await;
    let local = a.files(&volume).await;
    a.look(&of_now).await;
    a.look(&of_entry).await;
    a.look(&volume).await;
    for volume in [&volume, &of_now, &of_entry] {
        let status = a.node.status(volume).await.unwrap();
        assert_eq!(status.not_captured_count, 0, "{:?}", status.not_captured);
        let level = VerifyLevel::Read { part: 1, of: 1 };
        let problems = a.node.verify(volume, level).await.unwrap().problems;
        assert!(problems.is_empty(), "{problems:?}");
    }
    let forks = [a.files(&of_now).await, a.files(&of_entry).await];

    // from the store, on an emptied node
    let b = World::on_loop("b", &store).await;
    b.node.recover(true, Progress::default()).await.unwrap();
    b.restore(&volume, &entry).await;
    let wanted = describe(&b.files(&volume).await).unwrap();
    same("a restore from the store", &wanted, &b.files(&volume).await);
    same("a local restore", &wanted, &local);
    same("a fork of now", &wanted, &forks[0]);
    same("a fork of an entry", &wanted, &forks[1]);
    same("a fork of now, from the store", &wanted, &b.files(&of_now).await);
    same("a fork of an entry, from the store", &wanted, &b.files(&of_entry).await);
    let below_top = |tree: &Tree| -> Tree {
        // the directory that a path was put into has another time
        tree.iter()
            .filter(|(path, _)| !path.is_empty())
            .map(|(p, d)| (p.clone(), d.clone()))
            .collect()
    };
    let lines = difference(&below_top(&wanted), &below_top(&by_paths));
    assert!(lines.is_empty(), "paths from a local snapshot:\n{}", lines.join("\n"));
    let there = b.files(&volume).await;
    fs::write(there.join("dir/plain"), "changed").unwrap();
    b.restore_as(&b.call(), &volume, &entry, &["dir"]).await.unwrap().saved.await.unwrap();
    let lines = difference(&below_top(&wanted), &below_top(&describe(&there).unwrap()));
    assert!(lines.is_empty(), "paths from the store:\n{}", lines.join("\n"));
    a.node.stop().await;
    b.node.stop().await;
}

mod live {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn what_no_tree_holds_is_in_no_copy() {
        if is_root("what_no_tree_holds_is_in_no_copy") {
            copies_are_equal(World::on_loop("a", &memory()).await, true).await;
        }
    }
}
