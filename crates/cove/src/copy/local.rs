//! A local path as the name in a directory that it is.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use cove_btrfs::{Dir, FileKind, Metadata};
use cove_types::{Classify, ErrorKind, TreePath};

use super::{LINKS_MAX, Target, shown};
use crate::failure::Failure;

/// A local path as a directory and one name in it, and what is there.
pub(super) struct Local {
    pub dir: Dir,
    /// The directory, for messages and to say what was made.
    pub parent: PathBuf,
    pub name: TreePath,
    pub ends_with_slash: bool,
    pub found: Option<Metadata>,
}

impl Local {
    /// Splits `path`; links in its parents are followed, they are the caller's own.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let failed =
            |error: &std::io::Error| Failure::io(format!("failed to open {}", shown(path)), error);
        let bytes = path.as_os_str().as_bytes();
        let ends_with_slash = bytes.ends_with(b"/") || bytes.ends_with(b"/.") || bytes == b".";
        let ends_with_parent = bytes == b".." || bytes.ends_with(b"/..");
        let whole = match ends_with_parent {
            true => std::fs::canonicalize(path).map_err(|error| failed(&error))?,
            false => std::path::absolute(path).map_err(|error| failed(&error))?,
        };
        let (parent, name) = match (whole.parent(), whole.file_name()) {
            (Some(parent), Some(name)) => {
                (parent.to_owned(), TreePath::from_bytes(name.as_bytes())?)
            }
            _ => (whole.clone(), TreePath::top()),
        };
        let dir = Dir::from_path(&parent).map_err(|error| match error.is_absent() {
            true => absent_directory(written_parent(path).unwrap_or(&parent)),
            false => {
                Failure::caused(format!("failed to open {}", shown(&parent)), &error, error.kind())
            }
        })?;
        let mut found = dir.find(&name).map_err(|error| {
            Failure::caused(format!("failed to look at {}", shown(path)), &error, error.kind())
        })?;
        // A slash after a link asks for the directory behind it.
        let is_link = found.as_ref().is_some_and(|found| found.kind == FileKind::Symlink);
        if is_link && ends_with_slash {
            let behind = std::fs::canonicalize(path).map_err(|error| failed(&error))?;
            return Self::open(&behind).map(|local| Self { ends_with_slash, ..local });
        }
        if name.is_top() {
            found = Some(dir.metadata(&name).map_err(|error| {
                Failure::caused(format!("failed to look at {}", shown(path)), &error, error.kind())
            })?);
        }
        Ok(Self { dir, parent, name, ends_with_slash, found })
    }

    /// The same, where `path` is a link that to which it points, also when nothing is there.
    pub fn open_behind(path: &Path) -> Result<Self, Failure> {
        let mut local = Self::open(path)?;
        let ends_with_slash = local.ends_with_slash;
        for _ in 0..LINKS_MAX {
            if local.found.as_ref().is_none_or(|found| found.kind != FileKind::Symlink) {
                return Ok(Self { ends_with_slash, ..local });
            }
            let target = local.dir.read_link(&local.name).map_err(|error| {
                Failure::caused(format!("failed to look at {}", shown(path)), &error, error.kind())
            })?;
            local = Self::open(&local.parent.join(OsStr::from_bytes(&target)))?;
        }
        let what = format!("{} leads through more than {LINKS_MAX} symbolic links", shown(path));
        Err(Failure::new(ErrorKind::Precondition, what))
    }

    pub fn is_directory(&self) -> bool {
        self.found.as_ref().is_some_and(|found| found.kind == FileKind::Directory)
    }

    /// What is there for a copy.
    pub fn target(&self) -> Target {
        match &self.found {
            None => Target::Missing,
            Some(_) if self.is_directory() => Target::Directory,
            Some(_) => Target::File,
        }
    }

    /// Its path.
    pub fn path(&self) -> PathBuf {
        self.parent.join(OsStr::from_bytes(self.name.as_bytes()))
    }
}

fn absent_directory(path: &Path) -> Failure {
    Failure::new(ErrorKind::NotFound, format!("directory {} does not exist", shown(path)))
}

/// The directory above a path, as it was written.
fn written_parent(path: &Path) -> Option<&Path> {
    path.parent().filter(|parent| !parent.as_os_str().is_empty())
}

/// How many entries and bytes a copy of `path` has, without what `leave_out` names, sockets, devices and
/// what is on other file systems. What cannot be looked at does not count: packing says why.
pub(super) fn measure(path: &Path, leave_out: &[(u64, u64)]) -> (u64, u64) {
    let Ok(top) = std::fs::symlink_metadata(path) else { return (0, 0) };
    let (mut entries, mut bytes) = (0, 0);
    let mut directories = Vec::new();
    let mut linked = std::collections::HashSet::new();
    let mut meet = |path: PathBuf, metadata: &std::fs::Metadata, further: &mut Vec<PathBuf>| {
        let inode = (metadata.dev(), metadata.ino());
        let kind = metadata.file_type();
        let is_packed = !kind.is_socket() && !kind.is_block_device() && !kind.is_char_device();
        if metadata.dev() != top.dev() || leave_out.contains(&inode) || !is_packed {
            return;
        }
        entries += 1;
        if metadata.is_dir() {
            further.push(path);
        } else if metadata.is_file() && (metadata.nlink() == 1 || linked.insert(inode)) {
            bytes += metadata.len();
        }
    };
    meet(path.to_owned(), &top, &mut directories);
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
            if let Ok(metadata) = entry.metadata() {
                meet(entry.path(), &metadata, &mut directories);
            }
        }
    }
    (entries, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hard_links_count_once_and_what_is_left_out_not_at_all() {
        let home = tempfile::tempdir().unwrap();
        let path = |name: &str| home.path().join(name);
        std::fs::create_dir(path("out")).unwrap();
        std::fs::write(path("out/huge"), [0; 9_000]).unwrap();
        std::fs::write(path("a"), [0; 100]).unwrap();
        std::fs::hard_link(path("a"), path("b")).unwrap();
        std::os::unix::fs::symlink("a", path("link")).unwrap();
        std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        assert_eq!(measure(home.path(), &[]), (6, 9_100));
        let out = std::fs::metadata(path("out")).unwrap();
        assert_eq!(measure(home.path(), &[(out.dev(), out.ino())]), (4, 100));
        assert_eq!(measure(&path("no-such"), &[]), (0, 0));
    }

    #[test]
    fn a_link_is_what_it_points_to_also_when_nothing_is_there() {
        let home = tempfile::tempdir().unwrap();
        let path = |name: &str| home.path().join(name);
        std::fs::create_dir(path("dir")).unwrap();
        std::os::unix::fs::symlink("dir", path("one")).unwrap();
        std::os::unix::fs::symlink("one", path("two")).unwrap();
        std::os::unix::fs::symlink("dir/new", path("dangling")).unwrap();
        std::os::unix::fs::symlink("round", path("round")).unwrap();
        assert!(Local::open_behind(&path("two")).unwrap().is_directory());
        let dangling = Local::open_behind(&path("dangling")).unwrap();
        assert_eq!((dangling.path(), dangling.target()), (path("dir/new"), Target::Missing));
        assert!(Local::open_behind(&path("round")).is_err());
        let absent = Local::open(&path("none/x")).err().unwrap().to_string();
        assert_eq!(absent, format!("directory {} does not exist", path("none").display()));
    }
}
