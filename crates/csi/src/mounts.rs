//! What is mounted where, as `/proc/self/mountinfo` tells.
//!
//! It is read for each call: a driver that was killed knows afterwards what it had mounted.
//!
//! ```text
//! 36 35 0:42 /volumes/vol-a/files /pods/a/mount rw,noatime shared:1 - btrfs /dev/loop0 rw
//! id |  dev  root                 point         options    optional   type  source     of the file system
//!    parent
//! ```
//!
//! `root` is what of the file system is mounted. Blanks, tabs, line feeds and backslashes are written as a backslash
//! and three octal digits, and what was removed meanwhile ends in `//deleted`.
//!
//! Source: proc_pid_mountinfo(5); `fs/proc_namespace.c` and `seq_path_root` in Linux 6.12.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use cove_types::{OperationId, VolumeId};
use rustix::fs::{AtFlags, StatxFlags};
use rustix::io::Errno;
use rustix::mount::MountFlags;

use crate::capability::flag;

/// What a mount shows, as far as its root tells: of which pool it is, that of the file system does not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    /// The files of a volume.
    Volume(VolumeId),
    /// The files of a state that a restore has replaced since.
    Replaced,
    /// Something else.
    Other,
}

/// A mount of this process's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) id: u64,
    /// The mount on whose directory this one is.
    parent: u64,
    /// The file system: two mounts of one have the same.
    device: String,
    /// What of the file system is mounted.
    root: PathBuf,
    pub(crate) point: PathBuf,
    pub(crate) content: Content,
    /// Those of its options that a caller may ask for.
    pub(crate) flags: MountFlags,
}

impl Mount {
    /// Whether this shows what is at a place now. What was moved away from there since, or removed, is elsewhere.
    pub(crate) fn is_at(&self, place: &Place) -> bool {
        self.device == place.device && self.root == place.path
    }

    /// Whether this is mounted on a directory, by whichever mount that is reached.
    fn is_on(&self, mounts: &[Mount], directory: &Place) -> bool {
        Place::through(mounts, self.parent, &self.point).as_ref() == Some(directory)
    }
}

impl Content {
    /// What a root within a file system is.
    fn of(root: &[u8]) -> Self {
        let root = root.strip_suffix(b"//deleted").unwrap_or(root);
        let mut names = root.rsplit(|byte| *byte == b'/');
        let last = (names.next(), names.next(), names.next());
        let (Some(b"files"), Some(name), Some(directory)) = last else { return Self::Other };
        let Ok(name) = std::str::from_utf8(name) else { return Self::Other };
        match directory {
            b"volumes" => name.parse().map_or(Self::Other, Self::Volume),
            b"trash" if name.parse::<OperationId>().is_ok() => Self::Replaced,
            _ => Self::Other,
        }
    }
}

/// A place in a file system, through whichever mount it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    device: String,
    path: PathBuf,
}

impl Place {
    /// Where an open directory is, of which `path` is the path without links; none when no mount of this namespace
    /// leads there.
    pub(crate) fn of(
        mounts: &[Mount],
        directory: &OwnedFd,
        path: &Path,
    ) -> io::Result<Option<Self>> {
        let about = rustix::fs::statx(directory, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
        Ok(Self::through(mounts, about.stx_mnt_id, path))
    }

    /// Where what is at `path` through the mount of an id is.
    pub(crate) fn through(mounts: &[Mount], id: u64, path: &Path) -> Option<Self> {
        let mount = mounts.iter().find(|mount| mount.id == id)?;
        let inside = path.strip_prefix(&mount.point).ok()?;
        let path = match inside.as_os_str().is_empty() {
            true => mount.root.clone(),
            false => mount.root.join(inside),
        };
        Some(Self { device: mount.device.clone(), path })
    }

    /// What is called so in this directory.
    pub(crate) fn join(mut self, name: &Path) -> Self {
        self.path.push(name);
        self
    }

    /// Whether this is the files of a volume, or below them, as pools are laid out; another directory that is laid out
    /// so is taken for one.
    pub(crate) fn is_in_volume(&self) -> bool {
        self.path.ancestors().any(|at| Content::of(at.as_os_str().as_bytes()) != Content::Other)
    }

    /// Whether this is `other`, or below it.
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        self.device == other.device && self.path.starts_with(&other.path)
    }
}

/// The path, without links, of what a descriptor is open on.
pub(crate) fn path_of(directory: &OwnedFd) -> io::Result<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{}", directory.as_raw_fd()))
}

/// The mounts that there are, the oldest first.
pub(crate) fn read() -> io::Result<Vec<Mount>> {
    std::fs::read("/proc/self/mountinfo").map(|text| parse(&text))
}

/// The id of the mount in which whoever goes to a name in a directory ends; none when nothing is called so. Of a link,
/// where the link is. Keeps nothing open, which would be in the way of unmounting it, and waits for no file system.
pub(crate) fn id_at(directory: &OwnedFd, name: &Path) -> io::Result<Option<u64>> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    match rustix::fs::statx(directory, name, flags, StatxFlags::MNT_ID) {
        Ok(about) => Ok(Some(about.stx_mnt_id)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What is mounted at `point`, where the mount of an id shows. None when `point` is only in that: other mounts that
/// have the same point do not show, because something is mounted over a directory above them.
pub(crate) fn shown<'a>(mounts: &'a [Mount], id: u64, point: &Path) -> Option<&'a Mount> {
    mounts.iter().find(|mount| mount.id == id && mount.point == point)
}

/// The mounts that lie at the same place under one, the next one first.
pub(crate) fn under<'a>(mounts: &'a [Mount], top: &'a Mount) -> impl Iterator<Item = &'a Mount> {
    let next = |mount: &&Mount| {
        let (parent, point) = (mount.parent, &mount.point);
        mounts.iter().find(|below| below.id == parent && below.point == *point)
    };
    // the topmost mount of a namespace may be its own parent
    std::iter::successors(next(&top), next).take(mounts.len())
}

/// What is mounted on a directory without showing where that is in the mount of an id: it was mounted before something
/// was mounted over a directory above, or is seen where the directory is mounted too.
pub(crate) fn hidden<'a>(mounts: &'a [Mount], id: u64, directory: &Place) -> Option<&'a Mount> {
    mounts.iter().find(|mount| mount.parent != id && mount.is_on(mounts, directory))
}

/// Reads the lines; those that are none are left out.
pub(crate) fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|byte| *byte == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let parent = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let device = std::str::from_utf8(fields.next()?).ok()?.to_owned();
    let (root, point, options) = (fields.next()?, fields.next()?, fields.next()?);
    let options = std::str::from_utf8(options).ok()?;
    let root = unescape(root);
    Some(Mount {
        id,
        parent,
        device,
        content: Content::of(&root),
        root: PathBuf::from(OsString::from_vec(root)),
        point: PathBuf::from(OsString::from_vec(unescape(point))),
        flags: options.split(',').filter_map(flag).collect(),
    })
}

/// The bytes that are written as a backslash and three octal digits, and the others as they are.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        let escaped = match tail {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] if *first == b'\\' => {
                Some((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'))
            }
            _ => None,
        };
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &tail[3..] } else { tail };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(id: &str) -> Content {
        Content::Volume(id.parse().unwrap())
    }

    #[test]
    fn a_mount_is_what_it_shows_and_where_and_how() {
        let text =
            b"36 35 0:42 /volumes/vol-a/files /pods/a rw,noatime shared:1 - btrfs /dev/loop0 rw\n\
            37 35 0:42 /pool/volumes/vol-b/files /pods/b ro,nosuid,relatime - btrfs /dev/loop0 rw\n\
            38 35 8:1 / / rw - ext4 /dev/vda rw\n\
            broken\n";
        let mounts = parse(text);
        let seen: Vec<_> =
            mounts.iter().map(|mount| (mount.point.to_str().unwrap(), &mount.content)).collect();
        assert_eq!(
            seen,
            [("/pods/a", &volume("vol-a")), ("/pods/b", &volume("vol-b")), ("/", &Content::Other)]
        );
        assert_eq!(mounts[0].flags, MountFlags::NOATIME);
        let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::RELATIME;
        assert_eq!(mounts[1].flags, flags);
    }

    #[test]
    fn escaped_bytes_come_back() {
        let text = b"1 2 0:1 /a\\040b/volumes/v/files /x\\011y\\134z\\0 rw - btrfs d rw";
        let mounts = parse(text);
        assert_eq!(mounts[0].point, Path::new("/x\ty\\z\\0"));
        assert_eq!(mounts[0].content, volume("v"));
        assert_eq!(unescape(b"\\012\\777\\"), b"\n\\777\\");
    }

    #[test]
    fn what_is_removed_or_replaced_is_known_still() {
        assert_eq!(Content::of(b"/volumes/vol-a/files//deleted"), volume("vol-a"));
        let replaced = b"/trash/00000000000000000000000000000001/files";
        assert_eq!(Content::of(replaced), Content::Replaced);
    }

    #[test]
    fn other_roots_are_other_things() {
        for root in [
            &b"/"[..],
            b"/volumes/vol-a",
            b"/volumes/vol-a/files/sub",
            b"/volumes/NOT/files",
            b"/volumes/\xff/files",
            b"/trash/x/files",
            b"files",
        ] {
            assert_eq!(Content::of(root), Content::Other, "{}", root.escape_ascii());
        }
    }

    #[test]
    fn a_place_is_the_same_through_each_of_its_mounts() {
        let text = b"1 0 8:1 / / rw - ext4 /dev/vda rw\n\
            2 1 0:42 / /cove/pool rw - btrfs /dev/loop0 rw\n\
            3 1 0:42 /volumes/a/files /pods/a rw - btrfs /dev/loop0 rw\n\
            4 1 8:1 /cove /seen rw - ext4 /dev/vda rw\n";
        let mounts = parse(text);
        let place = |id, path: &str| Place::through(&mounts, id, Path::new(path));
        let (home, pool) = (place(1, "/cove").unwrap(), place(2, "/cove/pool").unwrap());
        for (id, path, in_home, in_pool) in [
            (1, "/pods", false, false),
            (1, "/cove/state", true, false),
            (1, "/cover", false, false),
            (4, "/seen/state", true, false),
            (2, "/cove/pool/trash", false, true),
            (3, "/pods/a", false, true),
            (3, "/pods/a/sub", false, true),
        ] {
            let found = place(id, path).unwrap();
            assert_eq!(
                (found.is_within(&home), found.is_within(&pool)),
                (in_home, in_pool),
                "{path}"
            );
        }
        // a file system of which the pool is a part has room for others
        let part = place(2, "/cove/pool").unwrap().join(Path::new("below"));
        assert!(!place(3, "/pods/a").unwrap().is_within(&part));
        assert_eq!(place(9, "/pods"), None);
        assert_eq!(place(3, "/elsewhere"), None);
    }

    #[test]
    fn a_mount_shows_the_files_of_one_pool_for_as_long_as_they_are_there() {
        let mounts = |device: &str, root: &str| {
            let line = format!(
                "1 0 8:1 / / rw - ext4 d rw\n2 1 0:42 / /pool rw - btrfs d rw\n3 1 {device} {root} /p rw - btrfs d rw\n"
            );
            parse(line.as_bytes())
        };
        let is_at = |device: &str, root: &str| {
            let mounts = mounts(device, root);
            let files = Place::through(&mounts, 2, Path::new("/pool/volumes/a/files")).unwrap();
            mounts[2].is_at(&files)
        };
        assert!(is_at("0:42", "/volumes/a/files"));
        assert!(!is_at("0:43", "/volumes/a/files"), "another pool");
        assert!(!is_at("0:42", "/old/volumes/a/files"), "another pool of the file system");
        assert!(!is_at("0:42", "/volumes/b/files"));
        assert!(!is_at("0:42", "/volumes/a/files//deleted"));
        assert!(!is_at("0:42", "/trash/00000000000000000000000000000001/files"));
        for (root, expected) in [
            ("/volumes/a/files", true),
            ("/volumes/a/files/sub/more", true),
            ("/trash/00000000000000000000000000000001/files/sub", true),
            ("/volumes/a", false),
            ("/pods/volumes/kubernetes.io~csi/pvc-1/mount", false),
        ] {
            let mounts = mounts("0:42", root);
            let place = Place::through(&mounts, 3, Path::new("/p")).unwrap();
            assert_eq!(place.is_in_volume(), expected, "{root}");
        }
    }

    #[test]
    fn what_shows_is_what_a_walk_ends_in_and_what_is_under_it_is_told() {
        let text = b"1 1 8:1 / / rw - ext4 d rw\n\
            2 1 0:1 /volumes/a/files /k/p rw - btrfs d rw\n\
            3 2 0:1 /volumes/b/files /k/p rw - btrfs d rw\n\
            4 1 8:1 /k /k rw - ext4 d rw\n\
            5 4 0:1 /volumes/c/files /k/p rw - btrfs d rw\n\
            6 1 8:1 /k /seen rw - ext4 d rw\n\
            7 6 0:1 /volumes/d/files /seen/q rw - btrfs d rw\n";
        let mounts = parse(text);
        let at = |id| shown(&mounts, id, Path::new("/k/p")).map(|mount| &mount.content);
        assert_eq!(at(3), Some(&volume("b")));
        assert_eq!(at(5), Some(&volume("c")));
        // of what is mounted over /k, /k/p is a directory
        assert_eq!(at(4), None);
        assert_eq!(at(9), None);
        let below = |id: u64| {
            let top = mounts.iter().find(|mount| mount.id == id).unwrap();
            under(&mounts, top).map(|mount| mount.id).collect::<Vec<_>>()
        };
        assert_eq!(below(3), [2]);
        assert_eq!(below(5), [0; 0]);
        assert_eq!(below(1).len(), 7, "it ends");

        let holds = |id, path: &str| {
            let directory = Place::through(&mounts, id, Path::new(path)).unwrap();
            hidden(&mounts, id, &directory).map(|mount| mount.id)
        };
        assert_eq!(holds(4, "/k/p"), Some(2));
        assert_eq!(holds(1, "/k/p"), Some(5), "mounted where the directory is seen, too");
        assert_eq!(holds(4, "/k/q"), Some(7));
        assert_eq!(holds(6, "/seen/q"), None, "it shows");
        assert_eq!(holds(4, "/k/r"), None);
    }
}
