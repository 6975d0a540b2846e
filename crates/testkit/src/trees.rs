//! Trees that are awkward to store, and a comparison that says what was lost.
//!
//! A tree is described from what the kernel says of it ([`describe`]), not from what
//! was meant when it was built, so that the same comparison holds a real project.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use cove_types::escape_bytes;
use rustix::fs::{AtFlags, CWD, FallocateFlags, FileType, Mode, Timespec, Timestamps, XattrFlags};

use crate::proof::Chance;

/// What a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the words of stat(2)")]
pub enum Kind {
    File,
    Directory,
    Symlink,
    Fifo,
    Socket,
    Other,
}

/// All that a tree says of one path and that a restored tree must say again.
///
/// Where holes are is not described: a hole reads as zeros, and a file system may make
/// some or fill some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// What it is.
    pub kind: Kind,
    /// Permission bits with set-id and sticky bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of a file, else 0.
    pub size: u64,
    /// Seconds and nanoseconds of the last modification.
    pub mtime: (i64, u32),
    /// BLAKE3 of a file's bytes.
    pub content: Option<[u8; 32]>,
    /// Where a symlink points.
    pub target: Option<Vec<u8>>,
    /// Extended attributes of the user, and POSIX ACLs as the kernel has them.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The smallest of the paths in the tree that are the same file, when there are several.
    pub linked: Option<Vec<u8>>,
}

/// Sizes at the borders of pages, inline data, extents and chunks.
const BORDERS: [u64; 6] = [0, 512, 4 << 10, 16 << 10, 64 << 10, 128 << 10];

/// Makes an awkward tree below `dir`, which exists: the same for the same `seed` and
/// `files`, except for owners.
///
/// There are `files` plain files of sizes around borders, in directories up to five
/// deep, and always: a file that is all hole, one with holes in it and at its end, a
/// preallocated range in and behind a file, a sparse file of 64 MiB, equal files,
/// something that begins as a SQLite database does, hard links across directories, a
/// FIFO, a socket, symlinks that dangle, loop, are long or point at directories, user
/// attributes of files and directories (empty ones too), names that are not UTF-8, have
/// 255 bytes, newlines or a leading dash, empty directories, a deep chain, modes 0000
/// to 7777, and times with nanoseconds, before 1970 and in 2500 (ext4 makes 2446 of it).
///
/// Attributes are left out where the file system has none (tmpfs before Linux 6.6); a
/// caller who must have them compares `describe`.
///
/// # Errors
///
/// The file system refuses something else.
pub fn build_awkward_tree(dir: &Path, seed: u64, files: usize) -> io::Result<()> {
    let mut chance = Chance::new(seed);
    let mut directories = vec![dir.to_owned()];
    for n in 0..files.div_ceil(8).clamp(3, 2_000) {
        let above = directories[chance.index(directories.len())].clone();
        let depth = above.strip_prefix(dir).map_or(0, |below| below.components().count());
        let above = if depth >= 5 { dir.to_owned() } else { above };
        let made = above.join(format!("dir-{n:04}"));
        fs::create_dir(&made)?;
        directories.push(made);
    }
    let mut plain = Vec::new();
    for n in 0..files {
        let above = &directories[chance.index(directories.len())];
        let path = above.join(format!("file-{n:05}"));
        let border = BORDERS[chance.index(6)];
        let size = (border + chance.below(3)).saturating_sub(1);
        let bytes = match chance.below(4) {
            // Compressible, and often equal to another.
            0 => b"the same line again\n".repeat(size.div_ceil(20) as usize)[..size as usize]
                .to_vec(),
            _ => chance.bytes(size as usize),
        };
        fs::write(&path, bytes)?;
        plain.push(path);
    }

    build_contents(&dir.join("contents"), &mut chance)?;
    build_names(&dir.join("names"))?;
    build_kinds(&dir.join("kinds"))?;
    for (n, path) in plain.iter().enumerate().filter(|(n, _)| n % 7 == 3) {
        fs::hard_link(path, dir.join("kinds").join(format!("link-{n}")))?;
        if n % 2 == 1 {
            fs::hard_link(path, dir.join("names").join(format!("link-{n}")))?;
        }
    }
    build_xattrs(&dir.join("xattrs"), &mut chance)?;
    build_modes(&dir.join("modes"))?;
    // Last, since whatever is made in a directory changes its time.
    set_times(dir, &mut chance)
}

fn build_contents(dir: &Path, chance: &mut Chance) -> io::Result<()> {
    fs::create_dir(dir)?;
    let create =
        |name: &str| File::options().read(true).write(true).create_new(true).open(dir.join(name));
    create("empty")?;
    create("all-hole")?.set_len(300_001)?;

    let holes = create("holes")?;
    for at in [0, 64 << 10, 200_000, 1 << 20] {
        holes.write_all_at(&chance.bytes(5_000), at)?;
    }
    holes.set_len(2 << 20)?;

    let starts_with_hole = create("hole-first")?;
    starts_with_hole.write_all_at(&chance.bytes(10), (128 << 10) - 5)?;

    let zeros = create("written-zeros")?;
    zeros.write_all_at(&vec![0; 150_000], 0)?;

    let reserved = create("reserved-inside")?;
    reserved.write_all_at(&chance.bytes(4_096), 0)?;
    reserve(&reserved, FallocateFlags::empty(), 4_096, 200_000)?;
    reserved.write_all_at(&chance.bytes(100), 100_000)?;

    let behind = create("reserved-behind")?;
    behind.write_all_at(&chance.bytes(10_000), 0)?;
    reserve(&behind, FallocateFlags::KEEP_SIZE, 10_000, 1 << 20)?;

    let punched = create("punched")?;
    punched.write_all_at(&chance.bytes(400_000), 0)?;
    reserve(&punched, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 50_000, 200_000)?;

    let sparse = create("sparse-64m")?;
    sparse.write_all_at(b"near the start", 12_345)?;
    sparse.write_all_at(b"in the middle", 33 << 20)?;
    sparse.set_len(64 << 20)?;

    let twin = chance.bytes(300_000);
    fs::write(dir.join("twin-a"), &twin)?;
    fs::write(dir.join("twin-b"), &twin)?;
    let mut longer = twin;
    longer.extend_from_slice(&chance.bytes(1));
    fs::write(dir.join("twin-and-one"), &longer)?;

    let mut database = b"SQLite format 3\0".to_vec();
    database.extend_from_slice(&chance.bytes(32_768 - 16));
    fs::write(dir.join("database.sqlite"), database)?;
    fs::write(dir.join("database.sqlite-wal"), chance.bytes(4_152))?;
    for border in BORDERS {
        for size in border.saturating_sub(1)..=border + 1 {
            let path = dir.join(format!("border-{size}"));
            if !path.exists() {
                fs::write(path, chance.bytes(size as usize))?;
            }
        }
    }
    Ok(())
}

/// Reserves or punches a range; file systems that cannot keep what they have.
fn reserve(file: &File, flags: FallocateFlags, at: u64, bytes: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, flags, at, bytes) {
        Err(rustix::io::Errno::OPNOTSUPP) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn build_names(dir: &Path) -> io::Result<()> {
    fs::create_dir(dir)?;
    let names: [&[u8]; 15] = [
        b"not-utf8-\xff\xfe",
        b"half-a-character-\xc3",
        b"new\nline",
        b"tab\tand\x1bescape\x7f",
        b" leading and trailing ",
        b"-rf",
        b"back\\slash",
        b"quote\"'`$(x)*?",
        b"...",
        b".hidden",
        "ü".as_bytes(),
        // The same to the eye, composed of two.
        "u\u{308}".as_bytes(),
        "right-to-left-\u{202e}txt.exe".as_bytes(),
        b"CASE",
        b"case",
    ];
    for name in names {
        fs::write(dir.join(OsStr::from_bytes(name)), name)?;
    }
    let long = |byte: u8| dir.join(OsString::from_vec(vec![byte; 255]));
    fs::write(long(b'l'), "255 bytes")?;
    fs::create_dir(long(0xfe))?;
    fs::write(long(0xfe).join(OsString::from_vec(vec![b'm'; 255])), "below 255 bytes")?;
    let mut deep = dir.join("deep");
    for n in 0..40 {
        deep.push(format!("d{n}"));
    }
    fs::create_dir_all(&deep)?;
    fs::write(deep.join("bottom"), "40 down")
}

fn build_kinds(dir: &Path) -> io::Result<()> {
    fs::create_dir(dir)?;
    fs::create_dir(dir.join("empty-directory"))?;
    fs::create_dir_all(dir.join("empty/in/empty"))?;
    rustix::fs::mknodat(CWD, dir.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o640), 0)?;
    // A socket's address is short, so it is made where it is not long and moved.
    let short = tempfile::Builder::new().prefix("cove-s").tempdir_in("/tmp")?;
    drop(UnixListener::bind(short.path().join("s"))?);
    match fs::rename(short.path().join("s"), dir.join("socket")) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            let mode = Mode::from_raw_mode(0o755);
            rustix::fs::mknodat(CWD, dir.join("socket"), FileType::Socket, mode, 0)?;
        }
        other => other?,
    }
    symlink("nowhere/at/all", dir.join("dangling"))?;
    symlink("loop", dir.join("loop"))?;
    symlink("empty-directory", dir.join("to-directory"))?;
    symlink("/etc/hostname", dir.join("absolute"))?;
    symlink("../../../../../../etc", dir.join("outside"))?;
    symlink(OsStr::from_bytes(b"not-utf8-\xff"), dir.join("to-not-utf8"))?;
    symlink("x/".repeat(2_000), dir.join("long-target"))?;
    fs::hard_link(dir.join("dangling"), dir.join("dangling-again"))?;
    fs::hard_link(dir.join("fifo"), dir.join("fifo-again"))?;
    fs::create_dir_all(dir.join("a/b"))?;
    fs::write(dir.join("a/one"), "linked thrice")?;
    fs::hard_link(dir.join("a/one"), dir.join("a/b/two"))?;
    fs::hard_link(dir.join("a/one"), dir.join("three"))
}

fn build_xattrs(dir: &Path, chance: &mut Chance) -> io::Result<()> {
    fs::create_dir(dir)?;
    let set = |path: &Path, name: &str, value: &[u8]| match rustix::fs::lsetxattr(
        path,
        name,
        value,
        XattrFlags::empty(),
    ) {
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
        Err(error) => Err(io::Error::from(error)),
    };
    let file = dir.join("file");
    fs::write(&file, "has attributes")?;
    set(&file, "user.text", b"value")?;
    set(&file, "user.empty", b"")?;
    set(&file, "user.binary", b"\0\xff\n=")?;
    set(&file, "user.large", &chance.bytes(2_000))?;
    let below = dir.join("directory");
    fs::create_dir(&below)?;
    set(&below, "user.of-a-directory", b"1")
}

fn build_modes(dir: &Path) -> io::Result<()> {
    fs::create_dir(dir)?;
    for mode in [0o0000, 0o0200, 0o0400, 0o0444, 0o0600, 0o0711, 0o0777, 0o2755, 0o4755, 0o7777] {
        let (file, below) =
            (dir.join(format!("file-{mode:04o}")), dir.join(format!("dir-{mode:04o}")));
        fs::write(&file, "x")?;
        fs::create_dir(&below)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(mode))?;
        // Who is not root must still come in.
        let mode = if rustix::process::geteuid().is_root() { mode } else { mode | 0o700 };
        fs::set_permissions(&below, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// Sets the times of everything, what is below a directory before the directory.
fn set_times(dir: &Path, chance: &mut Chance) -> io::Result<()> {
    let mut paths = walk(dir)?;
    paths.reverse();
    for path in paths {
        let seconds = match chance.below(12) {
            0 => 16_725_225_600, // 2500-01-01
            1 => -1,             // a moment before 1970
            2 => -2_208_988_800, // 1900-01-01
            3 => 4_294_967_296,  // 2106, behind 32 bits
            4 => 0,
            _ => 1_600_000_000 + chance.below(100_000_000) as i64,
        };
        let nanoseconds = match chance.below(4) {
            0 => 0,
            1 => 999_999_999,
            _ => chance.below(1_000_000_000) as i64,
        };
        let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
        let times = Timestamps { last_access: time, last_modification: time };
        let path = dir.join(OsStr::from_bytes(&path));
        rustix::fs::utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

/// All paths below `dir`, relative to it, each directory before what is in it; first
/// the empty path, which is `dir`.
fn walk(dir: &Path) -> io::Result<Vec<Vec<u8>>> {
    fn below(dir: &Path, relative: &[u8], paths: &mut Vec<Vec<u8>>) -> io::Result<()> {
        let mut entries = fs::read_dir(dir)?.collect::<Result<Vec<_>, _>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let name = entry.file_name();
            let path = match relative {
                [] => name.as_bytes().to_vec(),
                above => [above, b"/", name.as_bytes()].concat(),
            };
            paths.push(path.clone());
            if entry.file_type()?.is_dir() {
                below(&dir.join(&name), &path, paths)?;
            }
        }
        Ok(())
    }
    let mut paths = vec![Vec::new()];
    below(dir, &[], &mut paths)?;
    Ok(paths)
}

/// Describes every path below `dir`, and `dir` itself as the empty path. Reads every
/// file; follows no symlink.
///
/// # Errors
///
/// Something cannot be read; the message names it.
pub fn describe(dir: &Path) -> io::Result<BTreeMap<Vec<u8>, Description>> {
    let mut tree = BTreeMap::new();
    let mut first_of: BTreeMap<(u64, u64), Vec<u8>> = BTreeMap::new();
    let mut inodes: BTreeMap<Vec<u8>, (u64, u64)> = BTreeMap::new();
    for relative in walk(dir)? {
        // `dir.join("")` would end with a slash and follow a symlink.
        let path = match &relative[..] {
            [] => dir.to_owned(),
            below => dir.join(OsStr::from_bytes(below)),
        };
        let named = |error: io::Error| {
            let shown = escape_bytes(path.as_os_str().as_bytes());
            io::Error::new(error.kind(), format!("{shown}: {error}"))
        };
        let (description, inode) = describe_one(&path).map_err(named)?;
        if description.kind != Kind::Directory {
            let first = first_of.entry(inode).or_insert_with(|| relative.clone());
            if relative < *first {
                first.clone_from(&relative);
            }
            inodes.insert(relative.clone(), inode);
        }
        tree.insert(relative, description);
    }
    let mut counts: BTreeMap<(u64, u64), u64> = BTreeMap::new();
    for inode in inodes.values() {
        *counts.entry(*inode).or_default() += 1;
    }
    for (path, inode) in &inodes {
        if counts[inode] > 1
            && let Some(description) = tree.get_mut(path)
        {
            description.linked = first_of.get(inode).cloned();
        }
    }
    Ok(tree)
}

/// One path without its links, and its device and inode.
fn describe_one(path: &Path) -> io::Result<(Description, (u64, u64))> {
    let metadata = fs::symlink_metadata(path)?;
    let file_type = metadata.file_type();
    let kind = match () {
        () if file_type.is_file() => Kind::File,
        () if file_type.is_dir() => Kind::Directory,
        () if file_type.is_symlink() => Kind::Symlink,
        () if file_type.is_fifo() => Kind::Fifo,
        () if file_type.is_socket() => Kind::Socket,
        () => Kind::Other,
    };
    let content = match kind {
        Kind::File => Some(hash(path)?),
        _ => None,
    };
    let target = match kind {
        Kind::Symlink => Some(fs::read_link(path)?.into_os_string().into_vec()),
        _ => None,
    };
    let description = Description {
        kind,
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
        size: if kind == Kind::File { metadata.size() } else { 0 },
        mtime: (metadata.mtime(), u32::try_from(metadata.mtime_nsec()).unwrap_or(0)),
        content,
        target,
        xattrs: xattrs(path)?,
        linked: None,
    };
    Ok((description, (metadata.dev(), metadata.ino())))
}

fn hash(path: &Path) -> io::Result<[u8; 32]> {
    let mut file = File::open(path)?;
    let mut hasher = blake3::Hasher::new();
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(*hasher.finalize().as_bytes()),
            count => hasher.update(&piece[..count]),
        };
    }
}

fn xattrs(path: &Path) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut names = vec![0; 64 << 10];
    let count = match rustix::fs::llistxattr(path, &mut names[..]) {
        Ok(count) => count,
        Err(rustix::io::Errno::OPNOTSUPP) => 0,
        Err(error) => return Err(error.into()),
    };
    let mut xattrs = BTreeMap::new();
    let mut value = vec![0; 64 << 10];
    let is_described =
        |name: &&[u8]| name.starts_with(b"user.") || name.starts_with(b"system.posix_acl_");
    for name in names[..count].split(|byte| *byte == 0).filter(is_described) {
        let count = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value[..])?;
        xattrs.insert(name.to_vec(), value[..count].to_vec());
    }
    Ok(xattrs)
}

/// The differences between two trees, one line each, in the order of paths; none when
/// they are equal.
#[must_use]
pub fn difference(
    a: &BTreeMap<Vec<u8>, Description>,
    b: &BTreeMap<Vec<u8>, Description>,
) -> Vec<String> {
    let mut lines = Vec::new();
    let paths: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
    for path in paths {
        let shown = if path.is_empty() { "(top)".into() } else { escape_bytes(path) };
        match (a.get(path), b.get(path)) {
            (Some(a), Some(b)) => differ(&shown, a, b, &mut lines),
            (Some(a), None) => {
                lines.push(format!("{shown}: {:?} is missing in the second", a.kind));
            }
            (None, Some(b)) => lines.push(format!("{shown}: {:?} is only in the second", b.kind)),
            (None, None) => {}
        }
    }
    lines
}

fn differ(shown: &str, a: &Description, b: &Description, lines: &mut Vec<String>) {
    let mut say = |what: &str, a: String, b: String| {
        if a != b {
            lines.push(format!("{shown}: {what} {a} became {b}"));
        }
    };
    let text = |bytes: &Option<Vec<u8>>| match bytes {
        Some(bytes) => format!("\"{}\"", escape_bytes(bytes)),
        None => "none".into(),
    };
    say("kind", format!("{:?}", a.kind), format!("{:?}", b.kind));
    say("mode", format!("{:04o}", a.mode), format!("{:04o}", b.mode));
    say("uid", a.uid.to_string(), b.uid.to_string());
    say("gid", a.gid.to_string(), b.gid.to_string());
    say("size", a.size.to_string(), b.size.to_string());
    let time = |(s, ns): (i64, u32)| format!("{s} s {ns} ns");
    say("mtime", time(a.mtime), time(b.mtime));
    let content = |content: &Option<[u8; 32]>| match content {
        Some(hash) => hash[..8].iter().map(|byte| format!("{byte:02x}")).collect(),
        None => "none".to_owned(),
    };
    say("content", content(&a.content), content(&b.content));
    say("target", text(&a.target), text(&b.target));
    say("linked to", text(&a.linked), text(&b.linked));
    let names: std::collections::BTreeSet<_> = a.xattrs.keys().chain(b.xattrs.keys()).collect();
    for name in names {
        let what = format!("attribute {}", escape_bytes(name));
        let value = |of: &Description| text(&of.xattrs.get(name).cloned());
        say(&what, value(a), value(b));
    }
}

#[cfg(test)]
mod tests;
