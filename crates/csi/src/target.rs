//! A place where a volume is mounted, or is to be.
//!
//! Callers name places in directories that others write to. The directory is opened once and the last name resolved
//! in it, and that name is never followed: a link in its place is refused, and nothing is mounted or made elsewhere.
//! A path with `..` in it is none, since where it leads depends on links.
//!
//! Nothing is mounted over files, nor where Cove keeps its own.
//!
//! A volume is mounted here with one step of the kernel's, and whoever sees the mount, in whichever namespace, sees it
//! as it was asked for.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use cove_btrfs::add_mount_flags;
use cove_types::VolumeId;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};

use crate::capability::Access;
use crate::mounts::{self, Content, Mount, Place, hidden, id_at, path_of, shown, under};
use crate::status::{CallError, excerpt, excerpt_path};
use crate::thing::Thing;

/// The permissions of directories that are made here.
const DIRECTORY_MODE: Mode = Mode::RWXU.union(Mode::RGRP).union(Mode::XGRP);

/// The longest path and the longest name that the kernel takes, in bytes ("PATH_MAX" and "NAME_MAX" in
/// `include/uapi/linux/limits.h`; a path's last byte is 0).
const TARGET_BYTES_MAX: usize = 4095;
const NAME_BYTES_MAX: usize = 255;

/// A name in a directory.
#[derive(Debug)]
pub(crate) struct Target {
    directory: OwnedFd,
    name: OsString,
    /// Its path without links, as `/proc/self/mountinfo` has it.
    point: PathBuf,
}

/// What is at a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    Directory,
    Other,
}

impl Target {
    /// The place that a field names; none when its directory does not exist.
    pub(crate) fn find(field: &'static str, path: &str) -> Result<Option<Self>, CallError> {
        let invalid = |why: &str| CallError::Invalid {
            field,
            why: format!("{why}, found \"{}\"", excerpt(path)),
        };
        let name = Path::new(path).file_name().filter(|_| !path.ends_with("/."));
        let (Some(parent), Some(name)) = (Path::new(path).parent(), name) else {
            return Err(invalid("a path names something in a directory"));
        };
        if !path.starts_with('/') || path.contains('\0') {
            return Err(invalid("a path is absolute"));
        }
        if Path::new(path).components().any(|part| part == Component::ParentDir) {
            return Err(invalid("a path has no .. in it"));
        }
        if path.len() > TARGET_BYTES_MAX || name.len() > NAME_BYTES_MAX {
            return Err(invalid("a path has at most 4095 bytes, and 255 in each name"));
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = match rustix::fs::open(parent, flags, Mode::empty()) {
            Ok(directory) => directory,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(Errno::NAMETOOLONG) => return Err(invalid("a name has at most 255 bytes")),
            Err(Errno::LOOP) => return Err(invalid("a path leads through too many links")),
            Err(error) => return Err(failed("open", parent)(error)),
        };
        let point =
            path_of(&directory).map_err(|source| io_failed("look up", parent, source))?.join(name);
        Ok(Some(Self { directory, name: name.to_owned(), point }))
    }

    /// The place that a field names, whose directory the caller has made.
    pub(crate) fn get(field: &'static str, path: &str) -> Result<Self, CallError> {
        Self::find(field, path)?.ok_or_else(|| CallError::Precondition {
            what: format!("the directory of {} does not exist", excerpt(path)),
        })
    }

    /// Looks what is there, without following it.
    fn look(&self) -> Result<Found, CallError> {
        match rustix::fs::statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) if FileType::from_raw_mode(found.st_mode) == FileType::Directory => {
                Ok(Found::Directory)
            }
            Ok(_) => Ok(Found::Other),
            Err(Errno::NOENT) => Ok(Found::Nothing),
            Err(error) => Err(failed("look up", &self.point)(error)),
        }
    }

    /// Whether a directory is there.
    pub(crate) fn is_directory(&self) -> Result<bool, CallError> {
        Ok(self.look()? == Found::Directory)
    }

    /// Makes the directory; whether it was not there.
    pub(crate) fn ensure_directory(&self, field: &'static str) -> Result<bool, CallError> {
        let made = rustix::fs::mkdirat(&self.directory, &self.name, DIRECTORY_MODE);
        match made {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => match self.look()? {
                Found::Directory => Ok(false),
                Found::Nothing | Found::Other => Err(CallError::Invalid {
                    field,
                    why: format!("{} is not a directory", excerpt_path(&self.point)),
                }),
            },
            // a file system of the kernel's, one that is read-only, a directory that was removed
            Err(error @ (Errno::NOENT | Errno::PERM | Errno::ACCESS | Errno::ROFS)) => {
                let what = "no directory can be made at";
                Err(unfit(field, &format!("{what} {}: {error}", excerpt_path(&self.point))))
            }
            Err(error) => Err(failed("create", &self.point)(error)),
        }
    }

    /// Refuses a place in one of Cove's own directories, by whichever path or mount it is reached.
    pub(crate) fn refuse_within(
        &self,
        field: &'static str,
        own: &[&Path],
    ) -> Result<(), CallError> {
        let mounts = self.mounts()?;
        let place = self.place(&mounts)?;
        for directory in own {
            let Some((path, own)) = opened(&mounts, directory)? else { continue };
            let is_in_it = place.as_ref().zip(own).is_some_and(|(at, own)| at.is_within(&own));
            if is_in_it || self.point.starts_with(&path) {
                let (point, path) = (excerpt_path(&self.point), excerpt_path(&path));
                let why = format!("{point} is in {path}, where Cove keeps its own");
                return Err(CallError::Invalid { field, why });
            }
        }
        Ok(())
    }

    /// Refuses a place in the files of a volume, of whichever pool and by whichever mount they are reached.
    fn refuse_in_volume(&self, field: &'static str) -> Result<(), CallError> {
        let is_in_one = self.place(&self.mounts()?)?.is_some_and(|place| place.is_in_volume());
        match is_in_one {
            true => {
                let why = format!("{} is in a volume", excerpt_path(&self.point));
                Err(CallError::Invalid { field, why })
            }
            false => Ok(()),
        }
    }

    /// Where this is; none when no mount of this namespace leads there.
    fn place(&self, mounts: &[Mount]) -> Result<Option<Place>, CallError> {
        let directory = self.point.parent().unwrap_or(&self.point);
        let place = Place::of(mounts, &self.directory, directory)
            .map_err(|source| io_failed("look up", &self.point, source))?;
        Ok(place.map(|place| place.join(Path::new(&self.name))))
    }

    /// Refuses a directory with files, which nobody would see while something is mounted there.
    fn refuse_files(&self, field: &'static str) -> Result<(), CallError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = rustix::fs::openat(&self.directory, &self.name, flags, Mode::empty())
            .and_then(Dir::new)
            .map_err(failed("open", &self.point))?;
        for entry in found {
            let entry = entry.map_err(failed("list", &self.point))?;
            if ![&b"."[..], b".."].contains(&entry.file_name().to_bytes()) {
                let point = excerpt_path(&self.point);
                return Err(unfit(
                    field,
                    &format!("{point} has files, and a volume is mounted on an empty directory"),
                ));
            }
        }
        Ok(())
    }

    /// Mounts the files of a volume here. What is mounted so already is success. `own` are directories of Cove's.
    ///
    /// Interrupted, it leaves an empty directory or the mount as it was asked for; repeated, it succeeds.
    pub(crate) fn publish(
        &self,
        field: &'static str,
        volume: &VolumeId,
        files: &Path,
        access: Access,
        own: &[&Path],
    ) -> Result<(), CallError> {
        self.refuse_within(field, own)?;
        let mounts = self.mounts()?;
        // deleted since the Hub told where they are
        let gone = || CallError::no_volume(volume.as_str());
        let place = place_of(&mounts, files)?.ok_or_else(gone)?;
        let shown = self.shown(&mounts)?;
        if is_published(&mounts, shown, &self.point, volume, &place, access)? {
            return Ok(());
        }
        let is_new = self.ensure_directory(field)?;
        if !is_new {
            self.refuse_files(field)?;
        }
        let mounted = self.mount(volume, files, access.flags);
        let mounted = mounted.and_then(|mount| self.confirm(volume, &place, mount));
        if mounted.is_err() && is_new {
            // it was empty a moment ago; a directory that is not stays
            let _ = rustix::fs::unlinkat(&self.directory, &self.name, AtFlags::REMOVEDIR);
        }
        mounted
    }

    /// Looks whether what was mounted just now is the volume's still. A restore or a deletion that looked for mounts
    /// before this one was there may have moved it away; then it is unmounted, and the call to be repeated.
    fn confirm(&self, volume: &VolumeId, files: &Place, mount: u64) -> Result<(), CallError> {
        let mounts = self.mounts()?;
        if mounts.iter().any(|found| found.id == mount && found.is_at(files)) {
            return Ok(());
        }
        if self.shown(&mounts)?.is_some_and(|top| top.id == mount) {
            self.unmount()?;
        }
        Err(CallError::Busy { what: format!("volume {volume}") })
    }

    /// Attaches a mount that has its flags already, and tells its id. To change it afterwards would be too late: where
    /// the place is shared, attaching makes copies of the mount for others, which would keep what it had.
    fn mount(&self, volume: &VolumeId, files: &Path, flags: MountFlags) -> Result<u64, CallError> {
        let clone = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
        let tree = rustix::mount::open_tree(CWD, files, clone).map_err(|errno| match errno {
            // deleted since the Hub told where they are
            Errno::NOENT => CallError::no_volume(volume.as_str()),
            errno => failed("open", files)(errno),
        })?;
        add_mount_flags(&tree, flags)
            .map_err(failed("set the flags of a mount for", &self.point))?;
        let open = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let at = rustix::fs::openat(&self.directory, &self.name, open, Mode::empty())
            .map_err(failed("open", &self.point))?;
        let both =
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        let about = rustix::fs::statx(&tree, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)
            .map_err(failed("look up a mount for", &self.point))?;
        rustix::mount::move_mount(&tree, "", &at, "", both)
            .map_err(failed("mount", &self.point))?;
        Ok(about.stx_mnt_id)
    }

    fn mounts(&self) -> Result<Vec<Mount>, CallError> {
        let place = Path::new("/proc/self/mountinfo");
        mounts::read().map_err(|source| io_failed("read", place, source))
    }

    /// What is mounted here and shows: whoever goes to this path ends in it.
    fn shown<'a>(&self, mounts: &'a [Mount]) -> Result<Option<&'a Mount>, CallError> {
        let id = id_at(&self.directory, Path::new(&self.name))
            .map_err(|source| io_failed("look up", &self.point, source))?;
        Ok(id.and_then(|id| shown(mounts, id, &self.point)))
    }

    /// Says what holds the directory although nothing is mounted here that shows.
    fn held(&self) -> Result<Option<String>, CallError> {
        let mounts = self.mounts()?;
        let above = id_at(&self.directory, Path::new("."))
            .map_err(|source| io_failed("look up", &self.point, source))?;
        let (Some(above), Some(place)) = (above, self.place(&mounts)?) else { return Ok(None) };
        let cover = mounts.iter().find(|mount| mount.id == above);
        Ok(hidden(&mounts, above, &place).map(|mount| {
            let what = match &mount.content {
                Content::Volume(volume) => format!("volume {volume}"),
                Content::Replaced | Content::Other => "something".to_owned(),
            };
            match cover {
                Some(cover) if mount.point == self.point => {
                    let cover = excerpt_path(&cover.point);
                    format!("{what} is mounted there under the mount at {cover}")
                }
                _ => format!("{what} is mounted on it at {}", excerpt_path(&mount.point)),
            }
        }))
    }

    /// Whether these files show here; none when nothing is mounted.
    pub(crate) fn shows(&self, files: &Path) -> Result<Option<bool>, CallError> {
        let mounts = self.mounts()?;
        let Some(mount) = self.shown(&mounts)? else { return Ok(None) };
        let place = place_of(&mounts, files)?;
        Ok(Some(place.is_some_and(|place| mount.is_at(&place))))
    }

    /// Takes the mount of the topmost file system away, as long as nobody uses it.
    fn unmount(&self) -> Result<(), CallError> {
        let place = through(&self.directory).join(&self.name);
        match rustix::mount::unmount(place, UnmountFlags::NOFOLLOW) {
            Ok(()) => Ok(()),
            Err(Errno::BUSY) => Err(CallError::Precondition {
                what: format!("the mount at {} is in use", excerpt_path(&self.point)),
            }),
            Err(error) => Err(failed("unmount", &self.point)(error)),
        }
    }

    /// Takes the mounts of a volume away, however often it is mounted here, and those of states that a restore has
    /// replaced; then the directory. Something else that is here stays, and so does what is in a directory. With no
    /// volume, an id that is none was named: then nothing is unmounted. A directory in a volume, or in one of `own`,
    /// those of Cove, is not removed unless a volume was mounted there. What is mounted on the directory without
    /// showing here is none of these; while it holds the directory, that is refused.
    pub(crate) fn unpublish(
        &self,
        field: &'static str,
        volume: Option<&VolumeId>,
        own: &[&Path],
    ) -> Result<(), CallError> {
        let mut was_mounted = false;
        loop {
            let mounts = self.mounts()?;
            match step(&mounts, self.shown(&mounts)?, volume)? {
                Step::Unmount => self.unmount()?,
                Step::Remove => break,
                Step::Leave => return Ok(()),
            }
            was_mounted = true;
        }
        if !was_mounted && self.is_directory()? {
            self.refuse_within(field, own)?;
            self.refuse_in_volume(field)?;
        }
        match rustix::fs::unlinkat(&self.directory, &self.name, AtFlags::REMOVEDIR) {
            // of what is no directory nothing was made here
            Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST) => Err(CallError::Precondition {
                what: format!("{} has files that are of no volume", excerpt_path(&self.point)),
            }),
            // a file system of the kernel's, one that is read-only, a place where something is mounted
            Err(error @ (Errno::PERM | Errno::ACCESS | Errno::ROFS | Errno::BUSY)) => {
                let held = if error == Errno::BUSY { self.held()? } else { None };
                let why = held.unwrap_or_else(|| error.to_string());
                let point = excerpt_path(&self.point);
                Err(unfit(field, &format!("{point} cannot be removed: {why}")))
            }
            Err(error) => Err(failed("remove", &self.point)(error)),
        }
    }
}

impl From<&Target> for Thing {
    fn from(target: &Target) -> Self {
        Self::Point(target.point.clone())
    }
}

/// A directory: its path without links, and where that is, unless no mount of this namespace leads there. None when
/// it does not exist.
fn opened(
    mounts: &[Mount],
    directory: &Path,
) -> Result<Option<(PathBuf, Option<Place>)>, CallError> {
    let look = |source| io_failed("look up", directory, source);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = match rustix::fs::open(directory, flags, Mode::empty()) {
        Ok(opened) => opened,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(error) => return Err(failed("open", directory)(error)),
    };
    let path = path_of(&opened).map_err(look)?;
    let place = Place::of(mounts, &opened, &path).map_err(look)?;
    Ok(Some((path, place)))
}

/// Where the files of a volume are; none when they do not exist.
fn place_of(mounts: &[Mount], files: &Path) -> Result<Option<Place>, CallError> {
    let unseen = || io_failed("look up", files, io::Error::other("no mount leads there"));
    let found = opened(mounts, files)?;
    found.map(|(_, place)| place.ok_or_else(unseen)).transpose()
}

/// The path of what a descriptor is open on.
fn through(directory: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()))
}

/// What is to be done next for a volume to be mounted no longer at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// What shows is the volume's.
    Unmount,
    /// Nothing is mounted there; the directory is in the way.
    Remove,
    /// What is there is somebody else's.
    Leave,
}

/// Decides by what shows there. A state that a restore has replaced does not tell of which volume it was: it is taken
/// for that of whoever asks. Refused while the volume lies there under something else.
fn step(
    mounts: &[Mount],
    shown: Option<&Mount>,
    volume: Option<&VolumeId>,
) -> Result<Step, CallError> {
    let is_its = |mount: &Mount| match &mount.content {
        Content::Volume(found) => Some(found) == volume,
        Content::Replaced | Content::Other => false,
    };
    let Some(mount) = shown else { return Ok(Step::Remove) };
    if is_its(mount) || (mount.content == Content::Replaced && volume.is_some()) {
        return Ok(Step::Unmount);
    }
    match (volume, under(mounts, mount).any(is_its)) {
        (Some(volume), true) => Err(CallError::Precondition {
            what: format!(
                "volume {volume} is mounted at {} under something else",
                excerpt_path(&mount.point)
            ),
        }),
        _ => Ok(Step::Leave),
    }
}

/// Whether a volume, whose files are at `files`, is what shows at `point`, mounted as is asked; refused when something
/// else shows, when it is mounted otherwise, and when it may be in one place alone and is in another. A volume of its
/// id that is of another pool is something else: what is written there is not saved here.
fn is_published(
    mounts: &[Mount],
    shown: Option<&Mount>,
    point: &Path,
    volume: &VolumeId,
    files: &Place,
    access: Access,
) -> Result<bool, CallError> {
    let place = excerpt_path(point);
    match shown {
        Some(mount) if !mount.is_at(files) => Err(CallError::Exists {
            what: format!("something other than volume {volume} is mounted at {place}"),
        }),
        Some(mount) => {
            let is_so = mount.flags.contains(access.flags)
                && mount.flags.contains(MountFlags::RDONLY)
                    == access.flags.contains(MountFlags::RDONLY);
            let what = || format!("volume {volume} is mounted at {place} with other options");
            is_so.then_some(true).ok_or_else(|| CallError::Exists { what: what() })
        }
        None => match mounts.iter().find(|mount| mount.is_at(files)) {
            Some(mount) if access.is_exclusive => {
                let other = excerpt_path(&mount.point);
                let what = format!("volume {volume} is for one workload and is mounted at {other}");
                Err(CallError::Precondition { what })
            }
            _ => Ok(false),
        },
    }
}

/// A refusal of a place at which something is to be changed first.
fn unfit(field: &'static str, why: &str) -> CallError {
    CallError::Precondition { what: format!("field \"{field}\": {why}") }
}

fn io_failed(verb: &'static str, path: &Path, source: io::Error) -> CallError {
    CallError::Io { verb, path: excerpt_path(path), source }
}

/// Makes a refusal of the kernel an error about a path.
fn failed(verb: &'static str, path: &Path) -> impl Fn(Errno) -> CallError {
    move |errno| io_failed(verb, path, errno.into())
}

#[cfg(test)]
mod tests;
