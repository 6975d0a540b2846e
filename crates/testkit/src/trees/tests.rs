use super::*;

fn built(seed: u64) -> (tempfile::TempDir, BTreeMap<Vec<u8>, Description>) {
    let directory = tempfile::tempdir().unwrap();
    build_awkward_tree(directory.path(), seed, 60).unwrap();
    let tree = describe(directory.path()).unwrap();
    (directory, tree)
}

#[test]
fn a_seed_builds_the_same_tree_again_and_another_another() {
    let ((_a, a), (_b, b), (_c, c)) = (built(1), built(1), built(2));
    assert_eq!(difference(&a, &b), Vec::<String>::new());
    assert!(!difference(&a, &c).is_empty());
}

#[test]
fn an_awkward_tree_has_what_is_awkward() {
    let (_directory, tree) = built(7);
    for kind in [Kind::File, Kind::Directory, Kind::Symlink, Kind::Fifo, Kind::Socket] {
        assert!(tree.values().any(|there| there.kind == kind), "{kind:?}");
    }
    let any = |has: fn(&Description) -> bool| tree.values().any(has);
    assert!(any(|there| there.mtime.0 > 15_000_000_000));
    assert!(any(|there| there.mtime.0 < -2_000_000_000));
    assert!(any(|there| there.mtime.1 == 999_999_999));
    assert!(any(|there| there.size == 64 << 20));
    assert!(any(|there| there.mode == 0o7777));
    assert!(any(|there| there.linked.is_some()));
    assert!(tree.keys().any(|path| std::str::from_utf8(path).is_err()));
    assert_eq!(tree[&b"kinds/three"[..]].linked.as_deref(), Some(&b"kinds/a/b/two"[..]));
    assert_eq!(tree[&b"kinds/loop"[..]].target.as_deref(), Some(&b"loop"[..]));
}

#[test]
fn every_change_is_named() {
    let (directory, before) = built(3);
    let at = |path: &str| directory.path().join(path);
    let set = |path: &str, time: i64| {
        let time = Timespec { tv_sec: time, tv_nsec: 1 };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(CWD, at(path), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    };
    let changes: [(&str, &str, &dyn Fn()); 9] = [
        ("contents/twin-a", "content", &|| {
            let file = File::options().write(true).open(at("contents/twin-a")).unwrap();
            let mut byte = [0];
            File::open(at("contents/twin-a")).unwrap().read_exact_at(&mut byte, 150_000).unwrap();
            file.write_all_at(&[!byte[0]], 150_000).unwrap();
        }),
        ("contents/empty", "size", &|| fs::write(at("contents/empty"), "x").unwrap()),
        ("kinds/dangling", "mtime", &|| set("kinds/dangling", 5)),
        ("modes/file-0444", "mode", &|| {
            fs::set_permissions(at("modes/file-0444"), fs::Permissions::from_mode(0o445)).unwrap();
        }),
        ("kinds/three", "linked to", &|| {
            fs::remove_file(at("kinds/three")).unwrap();
            fs::write(at("kinds/three"), "linked thrice").unwrap();
        }),
        ("kinds/absolute", "target", &|| {
            fs::remove_file(at("kinds/absolute")).unwrap();
            symlink("/etc/other", at("kinds/absolute")).unwrap();
        }),
        ("kinds/to-directory", "kind", &|| {
            fs::remove_file(at("kinds/to-directory")).unwrap();
            fs::create_dir(at("kinds/to-directory")).unwrap();
        }),
        ("kinds/empty-directory", "is missing in the second", &|| {
            fs::remove_dir(at("kinds/empty-directory")).unwrap();
        }),
        ("names/new", "is only in the second", &|| fs::write(at("names/new"), "").unwrap()),
    ];
    let mut last = before;
    for (path, what, change) in changes {
        change();
        let now = describe(directory.path()).unwrap();
        let lines = difference(&last, &now);
        let is_said = |line: &String| line.starts_with(&format!("{path}: ")) && line.contains(what);
        assert!(lines.iter().any(is_said), "{path} {what}: {lines:?}");
        last = now;
    }
}

#[test]
fn attributes_are_described_where_the_file_system_has_them() {
    let (_directory, tree) = built(4);
    let file = &tree[&b"xattrs/file"[..]].xattrs;
    if file.is_empty() {
        eprintln!("SKIPPED: the file system of the temporary directory has no user attributes");
        return;
    }
    assert_eq!(file.len(), 4);
    assert_eq!(file[&b"user.empty"[..]], b"");
    assert_eq!(file[&b"user.large"[..]].len(), 2_000);
    let mut other = tree.clone();
    other.get_mut(&b"xattrs/file"[..]).unwrap().xattrs.remove(&b"user.empty"[..]);
    assert_eq!(difference(&tree, &other), ["xattrs/file: attribute user.empty \"\" became none"]);
}

#[test]
fn access_lists_are_described_where_the_file_system_has_them() {
    let (directory, before) = built(5);
    // Version 2: owner rw-, user 1234 r--, group r--, mask r--, other ---.
    let entries: [(u16, u16, u32); 5] =
        [(1, 6, !0), (2, 4, 1234), (4, 4, !0), (16, 4, !0), (32, 0, !0)];
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, id) in entries {
        list.extend_from_slice(&tag.to_le_bytes());
        list.extend_from_slice(&rights.to_le_bytes());
        list.extend_from_slice(&id.to_le_bytes());
    }
    let path = directory.path().join("contents/twin-a");
    let name = "system.posix_acl_access";
    if let Err(error) = rustix::fs::setxattr(path, name, &list, XattrFlags::empty()) {
        assert_eq!(error, rustix::io::Errno::OPNOTSUPP);
        eprintln!("SKIPPED: the file system of the temporary directory has no access lists");
        return;
    }
    let lines = difference(&before, &describe(directory.path()).unwrap());
    let is_said = |line: &String| line.starts_with(&format!("contents/twin-a: attribute {name}"));
    assert!(lines.iter().any(is_said), "{lines:?}");
}
