//! What is mounted where, as this process sees it.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Its number, while it is there.
    pub id: u64,
    /// The file system: two mounts of one have the same.
    pub device: String,
    /// Which directory of the file system it shows, from the file system's top.
    pub root: PathBuf,
    /// Where it is mounted.
    pub point: PathBuf,
    /// Whether nothing can be written through it.
    pub is_read_only: bool,
    /// The device, image or word that it was mounted from.
    pub from: PathBuf,
}

/// The mounts of this process's namespace, in the order in which they were made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountTable {
    mounts: Vec<Mount>,
}

impl MountTable {
    /// Reads `/proc/self/mountinfo`. Costs a pass over all mounts, some 2 µs each.
    ///
    /// # Errors
    ///
    /// It could not be read.
    pub fn read() -> io::Result<Self> {
        std::fs::read("/proc/self/mountinfo").map(|text| Self::parse(&text))
    }

    /// Reads a table; lines of another shape are left out.
    ///
    /// ```text
    /// 36 35 98:0 /root /mount/point ro,noatime shared:1 - type /dev/device rw
    /// ```
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        Self { mounts: text.split(|byte| *byte == b'\n').filter_map(parse_line).collect() }
    }

    /// All of them.
    #[must_use]
    pub fn mounts(&self) -> &[Mount] {
        &self.mounts
    }

    /// The uppermost mount at exactly this place.
    #[must_use]
    pub fn find_at(&self, point: &Path) -> Option<&Mount> {
        self.mounts.iter().rfind(|mount| mount.point == point)
    }

    /// The mounts of the file system of `of` that show `directory`, or something below it, from the top of the file
    /// system; what a mount shows was deleted meanwhile, too.
    pub fn showing<'t>(
        &'t self,
        of: &'t Mount,
        directory: &'t Path,
    ) -> impl Iterator<Item = &'t Mount> {
        let is_one =
            move |mount: &&Mount| mount.device == of.device && mount.root.starts_with(directory);
        self.mounts.iter().filter(is_one)
    }

    /// The mount of this number.
    #[must_use]
    pub fn find(&self, id: u64) -> Option<&Mount> {
        self.mounts.iter().find(|mount| mount.id == id)
    }
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let device = std::str::from_utf8(fields.nth(1)?).ok()?.to_owned();
    let (root, point) = (unescape(fields.next()?), unescape(fields.next()?));
    let is_read_only = fields.next()?.split(|byte| *byte == b',').any(|option| option == b"ro");
    // any number of tags, then a dash, the type and what it was mounted from
    let from = fields.skip_while(|field| *field != b"-").nth(2).map_or_else(PathBuf::new, unescape);
    Some(Mount { id, device, root, point, is_read_only, from })
}

/// Reads a path in which blanks, tabs, newlines and backslashes are three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|digits| byte == b'\\' && is_octal_byte(digits));
        match digits {
            Some(digits) => {
                path.push(digits.iter().fold(0, |value, digit| value << 3 | (digit - b'0')));
                rest = &after[3..];
            }
            None => {
                path.push(byte);
                rest = after;
            }
        }
    }
    PathBuf::from(OsStr::from_bytes(&path))
}

fn is_octal_byte(digits: &[u8]) -> bool {
    digits[0] <= b'3' && digits.iter().all(|digit| (b'0'..=b'7').contains(digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_the_kernel_writes_them() {
        let text = b"36 35 0:98 /volumes/a/files /mnt/a\\040b\\134\\011 rw,noatime shared:1 master:2 - btrfs /dev/loop0 ro\n\
            nonsense\n\
            37 35 0:98 / /mnt ro,noatime - btrfs /pool.img\\040x rw\n";
        let table = MountTable::parse(text);
        assert_eq!(table.mounts().len(), 2);
        let first = table.find(36).unwrap();
        assert_eq!((first.device.as_str(), first.is_read_only), ("0:98", false));
        assert_eq!(first.root, Path::new("/volumes/a/files"));
        assert_eq!(first.point, Path::new("/mnt/a b\\\t"));
        assert_eq!(first.from, Path::new("/dev/loop0"));
        let second = table.find_at(Path::new("/mnt")).unwrap();
        assert!(second.is_read_only);
        assert_eq!(second.from, Path::new("/pool.img x"));
        assert_eq!(table.find_at(Path::new("/")), None);
    }

    #[test]
    fn the_uppermost_of_several_mounts_at_a_place_is_found() {
        let table = MountTable::parse(b"1 0 8:1 / /m rw - a b c\n2 1 8:2 / /m rw - a b c\n");
        assert_eq!(table.find_at(Path::new("/m")).unwrap().id, 2);
    }

    #[test]
    fn a_directory_is_shown_by_mounts_of_it_and_of_what_is_below_it() {
        let text = b"1 0 0:9 / /pool rw - btrfs l rw\n\
            2 1 0:9 /volumes/v/files /pods/a rw - btrfs l rw\n\
            3 1 0:9 /volumes/v/files/sub /pods/b rw - btrfs l rw\n\
            4 1 0:9 /volumes/v/files/old//deleted /pods/c rw - btrfs l rw\n\
            5 1 0:9 /volumes/vv/files /pods/d rw - btrfs l rw\n\
            6 1 0:9 /trash/v/files /pods/e rw - btrfs l rw\n\
            7 1 0:8 /volumes/v/files /pods/f rw - btrfs m rw\n";
        let table = MountTable::parse(text);
        let pool = table.find(1).unwrap();
        let shown: Vec<_> =
            table.showing(pool, Path::new("/volumes/v")).map(|mount| mount.id).collect();
        assert_eq!(shown, [2, 3, 4]);
    }

    #[test]
    fn what_is_no_escape_stays_as_it_is() {
        for (written, read) in [("\\400", "\\400"), ("\\04", "\\04"), ("\\", "\\"), ("a\\", "a\\")]
        {
            assert_eq!(unescape(written.as_bytes()), Path::new(read), "{written}");
        }
    }
}
