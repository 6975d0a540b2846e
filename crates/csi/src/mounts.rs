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
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use cove_types::{OperationId, VolumeId};
use rustix::mount::MountFlags;

use crate::capability::flag;

/// What a mount shows.
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
    pub(crate) point: PathBuf,
    pub(crate) content: Content,
    /// Those of its options that a caller may ask for.
    pub(crate) flags: MountFlags,
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

/// The mounts that there are, the oldest first.
pub(crate) fn read() -> io::Result<Vec<Mount>> {
    std::fs::read("/proc/self/mountinfo").map(|text| parse(&text))
}

/// What shows at `point`: of several mounts the last one.
pub(crate) fn shown<'a>(mounts: &'a [Mount], point: &Path) -> Option<&'a Mount> {
    mounts.iter().rev().find(|mount| mount.point == point)
}

/// Reads the lines; those that are none are left out.
pub(crate) fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|byte| *byte == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ').skip(3);
    let (root, point, options) = (fields.next()?, fields.next()?, fields.next()?);
    let options = std::str::from_utf8(options).ok()?;
    Some(Mount {
        point: PathBuf::from(OsString::from_vec(unescape(point))),
        content: Content::of(&unescape(root)),
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
    fn the_last_mount_of_a_place_is_what_shows() {
        let text = b"1 2 0:1 /volumes/a/files /p rw - btrfs d rw\n\
            2 1 0:1 /volumes/b/files /p rw - btrfs d rw\n";
        let mounts = parse(text);
        assert_eq!(shown(&mounts, Path::new("/p")).unwrap().content, volume("b"));
        assert_eq!(shown(&mounts, Path::new("/q")), None);
    }
}
