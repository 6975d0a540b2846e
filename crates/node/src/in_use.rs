//! Who has files of a volume open.
//!
//! Two ways. `/proc` names processes, by whatever mount they reached a file: what they have open is known
//! by the device of its subvolume and its inode, never by the text of a path alone. It cannot show a
//! descriptor on its way through a socket, one that only a thread has, or a loop device; of one file a
//! lease tells for certain whether anybody has it open for writing ([`cove_btrfs::has_writers`]).
//!
//! And who has them mounted by themselves, as pods have: that says the table of mounts.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use cove_btrfs::{Dir, FileKind, MountTable, Pool, SubvolumePath};
use cove_content::volumes::VolumeError;
use cove_types::{ErrorKind, TreePath, VolumeId, escape_bytes};
use rustix::fs::{AtFlags, CWD, StatxFlags};

use crate::capture::pool_failed;

/// `O_WRONLY` and `O_RDWR` in the octal `flags:` of `/proc/<pid>/fdinfo/<fd>` (`fcntl.h`).
const WRITABLE: u32 = 0o3;
/// The inode of a subvolume's top (`BTRFS_FIRST_FREE_OBJECTID` in `linux/btrfs_tree.h`).
const SUBVOLUME_TOP: u64 = 256;

/// Refuses while something of a volume is mounted by itself, in this process's mount namespace: whoever uses it there
/// would lose it, or go on with what is the volume's no more. `but` says what of it, and `or` what else helps.
///
/// Costs a pass over all mounts.
///
/// # Errors
///
/// [`VolumeError::Refused`] names the first place.
pub(crate) fn refuse_mounts(
    pool: &dyn Pool,
    volume: &VolumeId,
    but: &str,
    or: &str,
) -> Result<(), VolumeError> {
    refuse_mounts_of(pool, volume, &SubvolumePath::Volume(volume.clone()), but, or)
}

/// The same of what was a volume's: a state that a restore has swapped out.
pub(crate) fn refuse_mounts_of(
    pool: &dyn Pool,
    volume: &VolumeId,
    place: &SubvolumePath,
    but: &str,
    or: &str,
) -> Result<(), VolumeError> {
    let mounts = pool.mounts(place).map_err(pool_failed("failed to look for mounts"))?;
    let Some(first) = mounts.first() else { return Ok(()) };
    let at = escape_bytes(first.as_os_str().as_bytes());
    Err(VolumeError::Refused {
        kind: ErrorKind::Precondition,
        what: format!(
            "volume {volume} is in use: it is mounted at {at}{but}; unmount it there first (if by a pod, end the \
             pod){or}"
        ),
    })
}

/// Whether this machine may be swapping to a file, wherever that is.
pub(crate) fn may_swap_to_files() -> bool {
    fs::read_to_string("/proc/swaps").map_or(true, |swaps| has_swap_files(&swaps))
}

/// Whether one of the areas of `/proc/swaps` (proc_swaps(5)) is no partition.
fn has_swap_files(swaps: &str) -> bool {
    swaps.lines().skip(1).any(|area| area.split_ascii_whitespace().nth(1) != Some("partition"))
}

/// Refuses when a process has a file below `top` open for writing or mapped shared and writable.
///
/// Looks through `/proc` once; a process that ends or starts meanwhile may be missed, and so may a
/// descriptor that `/proc` does not show, which a later look at the replaced files makes good.
///
/// # Errors
///
/// [`VolumeError::InUse`] names the first that was found.
pub(crate) fn refuse_writers(top: &Path) -> Result<(), VolumeError> {
    let place = Place::of(top);
    let found = place.find(|usage| {
        (usage.is_writable && usage.is_file && usage.is_there(&place))
            .then(|| (usage.process.to_owned(), place.shown(usage.path)))
    });
    let Some((process, path)) = found else { return Ok(()) };
    let program = fs::read(process.join("comm")).unwrap_or_default();
    Err(VolumeError::InUse {
        pid: pid(&process).unwrap_or(0),
        program: escape_bytes(program.trim_ascii()),
        path,
    })
}

/// The processes that have a file below `top` open for writing or mapped shared and writable, as far as `/proc`
/// shows them. Costs a look through it.
pub(crate) fn writers(top: &Path) -> Vec<u32> {
    let place = Place::of(top);
    let mut pids = Vec::new();
    place.find(|usage| {
        if usage.is_writable && usage.is_file && usage.is_there(&place) {
            pids.extend(pid(usage.process));
        }
        None::<()>
    });
    pids
}

/// Whether anybody has something at or below `replaced` of a volume at `top`: a process has it open in
/// whatever way, mapped, or as its directory, or a file has a writer that no process shows.
///
/// Costs a look through `/proc`, and, where that finds nobody, an open of each file. A file that cannot be
/// looked at counts as held; a process, and an entry whose path is too long, as nothing.
pub(crate) fn is_held(dir: &Dir, top: &Path, replaced: &TreePath) -> bool {
    let place = Place::of(top);
    let below = top.join(OsStr::from_bytes(replaced.as_bytes()));
    let Ok(entries) = entries(dir, replaced) else { return true };
    let inodes: HashSet<u64> = entries.iter().map(|entry| entry.inode).collect();
    let by_process = place.find(|usage| {
        let is_one = match usage.inode {
            Some(inode) if place.device.is_some() => {
                usage.is_there(&place) && inodes.contains(&inode)
            }
            _ => usage.path.starts_with(&below),
        };
        is_one.then_some(())
    });
    by_process.is_some()
        || entries.iter().filter(|entry| entry.is_file).any(|entry| {
            let held = || cove_btrfs::has_writers(&dir.open_file(&entry.path).ok()?).ok();
            held().unwrap_or(true)
        })
}

/// One thing of a replaced tree.
struct Entry {
    path: TreePath,
    inode: u64,
    is_file: bool,
}

/// All that is at and below a path, in this subvolume.
fn entries(dir: &Dir, path: &TreePath) -> Result<Vec<Entry>, cove_btrfs::PathError> {
    let mut entries = Vec::new();
    let mut open = Vec::new();
    if let Some(found) = dir.find(path)? {
        open.push(path.clone());
        entries.push(Entry { path: path.clone(), inode: found.inode, is_file: false });
    }
    while let Some(at) = open.pop() {
        for (name, found) in dir.list(&at)? {
            let Ok(path) = at.join(&name) else { continue };
            if found.device != dir.device() {
                continue;
            }
            if found.kind == FileKind::Directory {
                open.push(path.clone());
            }
            let is_file = found.kind == FileKind::File;
            entries.push(Entry { path, inode: found.inode, is_file });
        }
    }
    Ok(entries)
}

/// A subvolume, as processes can be seen to use it.
struct Place {
    top: PathBuf,
    /// Its device; none where `top` is no subvolume and has no device of its own.
    device: Option<u64>,
    /// The file system as `/proc/<pid>/mountinfo` and `maps` name it; empty when it is not known.
    filesystem: Vec<u8>,
}

/// How a process uses something.
struct Usage<'u> {
    process: &'u Path,
    /// As the kernel writes it for this process, which another mount may have changed.
    path: &'u Path,
    device: Option<u64>,
    inode: Option<u64>,
    is_file: bool,
    is_writable: bool,
}

impl Usage<'_> {
    fn is_there(&self, place: &Place) -> bool {
        match place.device {
            Some(device) if self.device.is_some() => self.device == Some(device),
            _ => self.path.starts_with(&place.top),
        }
    }
}

impl Place {
    fn of(top: &Path) -> Self {
        // the kernel writes paths without links
        let canonical = fs::canonicalize(top).unwrap_or_else(|_| top.to_owned());
        let device = fs::metadata(top)
            .ok()
            .filter(|found| found.ino() == SUBVOLUME_TOP)
            .map(|found| found.dev());
        let mount = rustix::fs::statx(CWD, top, AtFlags::empty(), StatxFlags::MNT_ID)
            .map(|found| found.stx_mnt_id);
        let mounts = MountTable::read().ok();
        let mount = mounts.as_ref().and_then(|mounts| mounts.find(mount.ok()?));
        let filesystem = mount.map(|mount| mount.device.clone().into_bytes());
        Self { top: canonical, device, filesystem: filesystem.unwrap_or_default() }
    }

    /// Shows each use of something that may be of this subvolume, by processes other than this one, until
    /// `wanted` has found what it looks for.
    fn find<T>(&self, mut wanted: impl FnMut(&Usage<'_>) -> Option<T>) -> Option<T> {
        let own = std::process::id();
        let mut namespaces = HashMap::new();
        let processes = fs::read_dir("/proc").ok()?;
        processes.flatten().map(|process| process.path()).find_map(|process| {
            if pid(&process).is_none_or(|pid| pid == own) {
                return None;
            }
            let namespace = fs::read_link(process.join("ns/mnt")).unwrap_or_default();
            let mounts = namespaces
                .entry(namespace)
                .or_insert_with(|| Mounts::of(&process, &self.filesystem));
            self.find_open(&process, mounts, &mut wanted)
                .or_else(|| self.find_mapped(&process, &mut wanted))
        })
    }

    fn find_open<T>(
        &self,
        process: &Path,
        mounts: &Mounts,
        wanted: &mut impl FnMut(&Usage<'_>) -> Option<T>,
    ) -> Option<T> {
        for link in ["cwd", "root"].map(|name| process.join(name)) {
            let Ok(path) = fs::read_link(&link) else { continue };
            if path.starts_with(&self.top) || mounts.points.iter().any(|at| path.starts_with(at)) {
                let usage = usage(process, &link, &path, false);
                if let Some(found) = wanted(&usage) {
                    return Some(found);
                }
            }
        }
        for descriptor in fs::read_dir(process.join("fd")).ok()?.flatten() {
            let link = descriptor.path();
            let Ok(path) = fs::read_link(&link) else { continue };
            // pipes, sockets and the like have no path
            if !path.is_absolute() {
                continue;
            }
            let about = fs::read(process.join("fdinfo").join(descriptor.file_name()));
            let about = about.unwrap_or_default();
            // a mount that hangs is never asked for anything
            let is_candidate = path.starts_with(&self.top)
                || number(&about, b"mnt_id:", 10).is_some_and(|id| mounts.may_be_ours(id));
            if !is_candidate {
                continue;
            }
            let flags = number(&about, b"flags:", 8).and_then(|flags| u32::try_from(flags).ok());
            let is_writable = flags.is_some_and(|flags| flags & WRITABLE != 0);
            if let Some(found) = wanted(&usage(process, &link, &path, is_writable)) {
                return Some(found);
            }
        }
        None
    }

    fn find_mapped<T>(
        &self,
        process: &Path,
        wanted: &mut impl FnMut(&Usage<'_>) -> Option<T>,
    ) -> Option<T> {
        let maps = fs::read(process.join("maps")).ok()?;
        maps.split(|byte| *byte == b'\n').filter_map(Mapping::parse).find_map(|mapping| {
            let path = Path::new(OsStr::from_bytes(mapping.path));
            // of btrfs the kernel names the file system here and not the subvolume
            if mapping.filesystem != self.filesystem && !path.starts_with(&self.top) {
                return None;
            }
            let link = process.join("map_files").join(OsStr::from_bytes(mapping.range));
            wanted(&usage(process, &link, path, mapping.is_shared_writable))
        })
    }

    /// A path as a message shows it: within the workspace where it is known to be in it.
    fn shown(&self, path: &Path) -> String {
        let below = path.strip_prefix(&self.top).unwrap_or(path);
        let below = below.strip_prefix("files").unwrap_or(below);
        escape_bytes(below.as_os_str().as_bytes())
    }
}

fn usage<'u>(process: &'u Path, link: &Path, path: &'u Path, is_writable: bool) -> Usage<'u> {
    let found = fs::metadata(link).ok();
    Usage {
        process,
        path,
        device: found.as_ref().map(MetadataExt::dev),
        inode: found.as_ref().map(MetadataExt::ino),
        // what is not told apart is rather a file
        is_file: found.as_ref().is_none_or(fs::Metadata::is_file),
        is_writable,
    }
}

fn pid(process: &Path) -> Option<u32> {
    process.file_name()?.to_str()?.parse().ok()
}

/// The number behind a word at the start of a line.
fn number(text: &[u8], word: &[u8], radix: u32) -> Option<u64> {
    let value = text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(word))?;
    u64::from_str_radix(std::str::from_utf8(value.trim_ascii()).ok()?, radix).ok()
}

/// The mounts of one namespace.
struct Mounts {
    /// Whether each shows the file system that is asked for.
    ours: HashMap<u64, bool>,
    /// Where those are that do.
    points: Vec<PathBuf>,
}

impl Mounts {
    fn of(process: &Path, filesystem: &[u8]) -> Self {
        let text = fs::read(process.join("mountinfo")).unwrap_or_default();
        let mut mounts = Self { ours: HashMap::new(), points: Vec::new() };
        for mount in MountTable::parse(&text).mounts() {
            let is_ours = !filesystem.is_empty() && mount.device.as_bytes() == filesystem;
            mounts.ours.insert(mount.id, is_ours);
            if is_ours {
                mounts.points.push(mount.point.clone());
            }
        }
        mounts
    }

    /// Whether a file of that mount may be of the file system: one that nobody lists was unmounted
    /// while the file stayed open.
    fn may_be_ours(&self, id: u64) -> bool {
        self.ours.get(&id).copied().unwrap_or(true)
    }
}

/// A line of `/proc/<pid>/maps` that shows a file (proc_pid_maps(5)).
#[derive(Debug, PartialEq, Eq)]
struct Mapping<'l> {
    range: &'l [u8],
    is_shared_writable: bool,
    /// As in mountinfo, `major:minor` in decimal.
    filesystem: Vec<u8>,
    path: &'l [u8],
}

impl<'l> Mapping<'l> {
    fn parse(line: &'l [u8]) -> Option<Self> {
        // range rights offset major:minor inode path
        let mut fields = line.splitn(6, |byte| *byte == b' ');
        let (range, rights) = (fields.next()?, fields.next()?);
        let device = std::str::from_utf8(fields.nth(1)?).ok()?;
        let (major, minor) = device.split_once(':')?;
        let hexadecimal = |text| u32::from_str_radix(text, 16).ok();
        let filesystem = format!("{}:{}", hexadecimal(major)?, hexadecimal(minor)?).into_bytes();
        let path = fields.nth(1)?.trim_ascii_start();
        path.starts_with(b"/").then_some(Self {
            range,
            is_shared_writable: rights.get(1) == Some(&b'w') && rights.get(3) == Some(&b's'),
            filesystem,
            path,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_of_a_file_is_told_apart_from_memory() {
        let line = b"7f00-7f10 rw-s 00001000 00:2d 261                        /pool/v/files/a b";
        assert_eq!(
            Mapping::parse(line),
            Some(Mapping {
                range: b"7f00-7f10",
                is_shared_writable: true,
                filesystem: b"0:45".to_vec(),
                path: b"/pool/v/files/a b",
            })
        );
        assert_eq!(Mapping::parse(b"7f00-7f10 rw-p 00000000 00:00 0 "), None);
        assert_eq!(Mapping::parse(b"7f00-7f10 rw-p 00000000 00:00 0        [heap]"), None);
        let private = Mapping::parse(b"7f00-7f10 rw-p 0 00:2d 261 /a").unwrap();
        assert!(!private.is_shared_writable);
    }

    #[test]
    fn a_swap_file_is_told_apart_from_a_partition() {
        let head = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";
        let partition = "/dev/vda2                               partition\t8188\t\t0\t\t-2\n";
        let file = "/pool/volumes/v/files/a\\040b             file\t\t8188\t\t0\t\t-3\n";
        assert!(!has_swap_files(head));
        assert!(!has_swap_files(&[head, partition].concat()));
        assert!(has_swap_files(&[head, partition, file].concat()));
    }

    #[test]
    fn what_the_kernel_says_of_a_descriptor_is_read_by_its_word() {
        let about = b"pos:\t0\nflags:\t0100002\nmnt_id:\t36\nino:\t261\n";
        assert_eq!(number(about, b"flags:", 8), Some(0o100_002));
        assert_eq!(number(about, b"mnt_id:", 10), Some(36));
        assert_eq!(number(about, b"inode:", 10), None);
    }
}
