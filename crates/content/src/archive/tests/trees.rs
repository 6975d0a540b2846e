//! Trees to pack, and a comparison.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use cove_types::escape_bytes;
use proptest::prelude::*;
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};

/// Calls for every path, a directory after all below it.
pub(super) fn each(top: &Path, visit: &mut dyn FnMut(&Path)) {
    if fs::symlink_metadata(top).unwrap().is_dir() {
        let mut below: Vec<PathBuf> =
            fs::read_dir(top).unwrap().map(|entry| entry.unwrap().path()).collect();
        below.sort();
        for path in below {
            each(&path, visit);
        }
    }
    visit(top);
}

/// A line for every path with all that must come back.
pub(super) fn describe(top: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut inodes: HashMap<u64, usize> = HashMap::new();
    each(top, &mut |path| {
        let metadata = fs::symlink_metadata(path).unwrap();
        let kind = metadata.file_type();
        let name = escape_bytes(path.strip_prefix(top).unwrap().as_os_str().as_bytes());
        let mut what = if kind.is_file() {
            format!("file {} {}", metadata.len(), blake3::hash(&fs::read(path).unwrap()))
        } else if kind.is_dir() {
            "directory".to_owned()
        } else if kind.is_symlink() {
            let target = fs::read_link(path).unwrap();
            format!("link to {}", escape_bytes(target.as_os_str().as_bytes()))
        } else if kind.is_fifo() {
            "fifo".to_owned()
        } else if kind.is_socket() {
            "socket".to_owned()
        } else {
            "other".to_owned()
        };
        if !kind.is_dir() && metadata.nlink() > 1 {
            let next = inodes.len();
            what.push_str(&format!(" links {}", inodes.entry(metadata.ino()).or_insert(next)));
        }
        if !kind.is_symlink() {
            what.push_str(&format!(" {:o}", metadata.mode() & 0o7777));
            let mut names = vec![0; 64 << 10];
            let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
            let mut names: Vec<&[u8]> =
                names[..length].split(|b| *b == 0).filter(|name| !name.is_empty()).collect();
            names.sort();
            for xattr in names {
                let mut value = vec![0; 64 << 10];
                let length = rustix::fs::lgetxattr(path, xattr, &mut value[..]).unwrap();
                let (xattr, value) = (escape_bytes(xattr), escape_bytes(&value[..length]));
                what.push_str(&format!(" {xattr}={value}"));
            }
        }
        lines.push(format!("{name}: {what} at {} {}", metadata.mtime(), metadata.mtime_nsec()));
    });
    lines
}

pub(super) fn set_times_of(path: &Path, seconds: i64, nanoseconds: u32) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
}

/// An ACL as the kernel takes it: version 2, then tag, permissions and id of each entry.
pub(super) fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        acl.extend_from_slice(&tag.to_le_bytes());
        acl.extend_from_slice(&permissions.to_le_bytes());
        acl.extend_from_slice(&id.to_le_bytes());
    }
    acl
}

/// Owner, user 1234, group, mask, others.
pub(super) fn some_acl() -> Vec<u8> {
    const NONE: u32 = u32::MAX;
    acl(&[(1, 7, NONE), (2, 5, 1234), (4, 4, NONE), (0x10, 5, NONE), (0x20, 4, NONE)])
}

/// One path of a random tree.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    kind: u8,
    parent: prop::sample::Index,
    name: Vec<u8>,
    /// Runs of zeros and of other bytes, in turn.
    runs: Vec<u16>,
    seconds: i64,
    nanoseconds: u32,
    mode: u32,
    xattr: Option<(String, Vec<u8>)>,
    has_acl: bool,
}

pub(super) fn shapes() -> impl Strategy<Value = Vec<Shape>> {
    let name = prop::collection::vec(
        any::<u8>().prop_map(|b| if matches!(b, 0 | b'/') { b'_' } else { b }),
        1..=255,
    )
    .prop_filter("not a name", |name| !matches!(&name[..], b"." | b".."));
    let xattr =
        prop::option::of(("user\\.[a-z=%235D]{1,20}", prop::collection::vec(any::<u8>(), 0..300)));
    let shape = (
        0..10_u8,
        any::<prop::sample::Index>(),
        name,
        prop::collection::vec(0..20_000_u16, 0..6),
        -(1_i64 << 31)..(1 << 33) + 1000,
        0..1_000_000_000_u32,
        0..0o2000_u32,
        (xattr, any::<bool>()),
    );
    let shape = shape.prop_map(|(kind, parent, name, runs, seconds, nanoseconds, mode, rest)| {
        // set-group-id is not kept
        let (mode, (xattr, has_acl)) = (mode & 0o1777, rest);
        Shape { kind, parent, name, runs, seconds, nanoseconds, mode, xattr, has_acl }
    });
    prop::collection::vec(shape, 0..40)
}

/// Makes a random tree; what a name that is taken or too long makes impossible is not made.
pub(super) fn build(top: &Path, shapes: &[Shape]) {
    fs::create_dir_all(top).unwrap();
    let mut directories = vec![top.to_path_buf()];
    let mut others: Vec<PathBuf> = Vec::new();
    let mut times = vec![(top.to_path_buf(), 1, 1, 0o755)];
    for shape in shapes {
        let path = shape.parent.get(&directories).join(OsStr::from_bytes(&shape.name));
        if path.as_os_str().len() > 3500 || fs::symlink_metadata(&path).is_ok() {
            continue;
        }
        match shape.kind {
            0..4 => {
                let mut content = Vec::new();
                for (index, run) in shape.runs.iter().enumerate() {
                    content.resize(content.len() + usize::from(*run), (index % 2) as u8);
                }
                fs::write(&path, content).unwrap();
            }
            4..6 => {
                fs::create_dir(&path).unwrap();
                directories.push(path.clone());
            }
            6 => symlink(OsStr::from_bytes(&shape.name.repeat(9)), &path).unwrap(),
            7 => rustix::fs::mkfifoat(CWD, &path, Mode::RUSR).unwrap(),
            8 => rustix::fs::mknodat(CWD, &path, FileType::Socket, Mode::RUSR, 0).unwrap(),
            _ if others.is_empty() => continue,
            _ => {
                fs::hard_link(shape.parent.get(&others), &path).unwrap();
                continue;
            }
        }
        if shape.kind < 6 {
            if let Some((name, value)) = &shape.xattr {
                set_xattr(&path, name, value);
            }
            if shape.has_acl {
                set_xattr(&path, "system.posix_acl_access", &some_acl());
            }
        }
        if !(4..6).contains(&shape.kind) {
            others.push(path.clone());
        }
        times.push((path, shape.seconds, shape.nanoseconds, shape.mode));
    }
    for (path, seconds, nanoseconds, mode) in times.into_iter().rev() {
        if !fs::symlink_metadata(&path).unwrap().is_symlink() {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        set_times_of(&path, seconds, nanoseconds);
    }
}

/// Everything that has been trouble, once.
pub(super) fn build_awkward(top: &Path) {
    fs::create_dir_all(top).unwrap();
    let at = |name: &str| top.join(name);
    let raw = |name: &[u8]| top.join(OsStr::from_bytes(name));
    for size in [0, 1, 511, 512, 513, 4095, 4096, 4097, 131_071, 131_072, 131_073, 1_000_000] {
        let content: Vec<u8> = (0..size).map(|n: u32| (n % 251) as u8 | 1).collect();
        fs::write(at(&format!("size-{size}")), content).unwrap();
    }
    fs::write(raw(b"not-utf-8-\xff\xfe"), "x").unwrap();
    fs::write(raw(&[b'\xe9'; 255]), "255 bytes").unwrap();
    fs::write(raw(b"line\nbreak \x1b[31m"), "x").unwrap();
    fs::write(at("a=b"), "x").unwrap();
    fs::write(at(&"h".repeat(100)), "x").unwrap();
    fs::write(at(&"i".repeat(101)), "x").unwrap();

    let mut deep = top.to_path_buf();
    for level in 0..14 {
        deep.push(format!("{level}-{}", "d".repeat(200)));
    }
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("file"), "deep").unwrap();

    let sparse = fs::File::create(at("sparse")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    sparse.write_all_at(b"middle", (32 << 20) + 123).unwrap();
    sparse.write_all_at(b"end", (64 << 20) - 3).unwrap();
    fs::File::create(at("only-a-hole")).unwrap().set_len(5_000_001).unwrap();

    fs::create_dir(at("empty")).unwrap();
    fs::create_dir(at("forbidden")).unwrap();
    fs::write(at("forbidden/file"), "x").unwrap();
    fs::set_permissions(at("forbidden/file"), fs::Permissions::from_mode(0o400)).unwrap();
    fs::set_permissions(at("forbidden"), fs::Permissions::from_mode(0o500)).unwrap();
    fs::create_dir(at("sticky")).unwrap();
    fs::set_permissions(at("sticky"), fs::Permissions::from_mode(0o1777)).unwrap();

    fs::write(at("linked"), "one file").unwrap();
    fs::hard_link(at("linked"), at("empty/other-name")).unwrap();
    fs::hard_link(at("linked"), at(&"l".repeat(120))).unwrap();
    symlink("nowhere", at("link")).unwrap();
    fs::hard_link(at("link"), at("link-again")).unwrap();
    symlink("/etc/passwd", at("absolute-link")).unwrap();
    symlink(OsStr::from_bytes(&[b'\xf0'; 1000]), at("long-link")).unwrap();
    symlink("../../..", at("climbing-link")).unwrap();
    rustix::fs::mkfifoat(CWD, at("fifo"), Mode::from_raw_mode(0o600)).unwrap();
    fs::hard_link(at("fifo"), at("fifo-again")).unwrap();
    rustix::fs::mknodat(CWD, at("socket"), FileType::Socket, Mode::from_raw_mode(0o600), 0)
        .unwrap();

    set_xattr(&at("size-1"), "user.plain", b"value");
    set_xattr(&at("size-1"), "user.a=b%3D%25", b"\0\xff=\n");
    set_xattr(&at("size-1"), "user.empty", b"");
    set_xattr(&at("forbidden/file"), "user.of.a.read-only-file", b"x");
    set_xattr(&at("empty"), "user.of-a-directory", &[b'v'; 1000]);
    set_xattr(&at("size-4096"), "system.posix_acl_access", &some_acl());
    set_xattr(&at("sticky"), "system.posix_acl_default", &some_acl());
    set_xattr(&at("sticky"), "system.posix_acl_access", &some_acl());
    set_xattr(top, "user.of-the-top", b"x");

    set_times_of(&at("size-0"), -1, 500_000_000);
    set_times_of(&at("size-1"), -1_000_000_000, 1);
    set_times_of(&at("size-511"), 0, 999_999_999);
    set_times_of(&at("size-512"), (1 << 33) + 1, 1);
    set_times_of(&at("link"), 12345, 678);
    set_times_of(&at("fifo"), 12345, 678);
    set_times_of(&at("socket"), 12345, 678);
    set_times_of(&at("empty"), 12345, 678);
    set_times_of(top, 1_700_000_000, 5);
}
