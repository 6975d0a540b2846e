//! What has no content of its own: links, and names that stand for pipes and sockets.

use std::os::fd::OwnedFd;

use cove_btrfs::{FileKind, Metadata};
use cove_types::{TreePath, escape_bytes};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::spot::Spot;
use super::xattr::set_xattr;
use super::{ExtractError, Extraction};
use crate::archive::names;
use crate::archive::place::{self, Obstacle, failed};
use crate::archive::reader::Entry;

/// What a hard link is to be another name of.
pub(super) struct LinkSource {
    parent: OwnedFd,
    name: Vec<u8>,
    /// Device and inode.
    inode: (u64, u64),
}

impl Extraction<'_> {
    pub(super) fn symlink(
        &mut self,
        entry: &Entry,
        spot: &Spot<'_>,
        target: &[u8],
    ) -> Result<(), ExtractError> {
        if target.is_empty() || target.len() >= 4096 || target.contains(&0) {
            return Err(entry.refused("its target is no path of 1 to 4095 bytes"));
        }
        self.put(spot, FileKind::Symlink, |parent, name| {
            rustix::fs::symlinkat(target, parent, name)
        })?;
        self.finish_node(entry, spot, FileKind::Symlink)
    }

    pub(super) fn node(
        &mut self,
        entry: &Entry,
        spot: &Spot<'_>,
        kind: FileType,
    ) -> Result<(), ExtractError> {
        let is = if kind == FileType::Fifo { FileKind::Fifo } else { FileKind::Socket };
        self.put(spot, is, |parent, name| {
            rustix::fs::mknodat(parent, name, kind, Mode::RUSR | Mode::WUSR, 0)
        })?;
        self.finish_node(entry, spot, is)
    }

    /// Sets what remains of something that was just made and cannot be opened.
    fn finish_node(
        &mut self,
        entry: &Entry,
        spot: &Spot<'_>,
        kind: FileKind,
    ) -> Result<(), ExtractError> {
        let path = &spot.path;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&spot.parent, spot.name, flags, Mode::empty())
            .map_err(|e| failed("look up", path, e))?;
        let stat = rustix::fs::fstat(&fd).map_err(|e| failed("look up", path, e))?;
        let found = Metadata::from(&stat);
        if found.kind != kind || found.links != 1 {
            // somebody else's, put there this moment: not to be given away
            return Err(failed("create", path, Errno::BUSY).into());
        }
        self.made.insert((found.device, found.inode));
        place::set_owner(&fd, self.options.owner)
            .map_err(|e| failed("set the owner of", path, e))?;
        if kind != FileKind::Symlink {
            place::set_mode(&fd, entry.mode).map_err(|e| failed("set the mode of", path, e))?;
            for (name, value) in &entry.xattrs {
                set_xattr(&fd, entry, path, name, value, &mut self.remarks)?;
            }
        }
        let times = place::times(entry.mtime);
        rustix::fs::utimensat(&spot.parent, spot.name, &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| failed("set the time of", path, e))?;
        Ok(())
    }

    /// The directory and name of what a hard link points to, made by this archive.
    pub(super) fn made_before(
        &mut self,
        entry: &Entry,
        below: &TreePath,
        target: &[u8],
    ) -> Result<LinkSource, ExtractError> {
        let refused = |why: &str| {
            let shown = escape_bytes(&target[..target.len().min(200)]);
            entry.refused(format!("it is a hard link to \"{shown}\", {why}"))
        };
        let target = names::parse(target, self.options.limits.depth)
            .map_err(|_| refused("which is no name in an archive"))?;
        if target == *below {
            return Err(refused("itself"));
        }
        let (Some(parent), Some(name)) = (target.parent(), target.name()) else {
            return Err(refused("the top"));
        };
        const NOT_MADE: &str = "which this archive has not made before";
        let parent = self.place.enter(&parent).map_err(|obstacle| match obstacle {
            Obstacle::Absent | Obstacle::Kind(..) => refused(NOT_MADE),
            Obstacle::Path(error) => error.into(),
        })?;
        let found = place::stat(parent, name).map_err(|e| failed("look up", &target, e))?;
        let inode = found.map(|found| (found.device, found.inode));
        match inode.filter(|inode| self.made.contains(inode)) {
            Some(inode) => {
                let parent = parent.try_clone_to_owned().map_err(|e| failed("open", &target, e))?;
                Ok(LinkSource { parent, name: name.to_vec(), inode })
            }
            None => Err(refused(NOT_MADE)),
        }
    }

    pub(super) fn hard_link(
        &mut self,
        spot: &Spot<'_>,
        source: Option<&LinkSource>,
    ) -> Result<(), ExtractError> {
        let Some(source) = source else { return Ok(()) };
        let found = place::stat(&spot.parent, spot.name)
            .map_err(|errno| failed("look up", &spot.path, errno))?;
        if found.is_some_and(|found| (found.device, found.inode) == source.inode) {
            return Ok(());
        }
        self.put(spot, FileKind::File, |parent, name| {
            let from = source.name.as_slice();
            rustix::fs::linkat(&source.parent, from, parent, name, AtFlags::empty())
        })
    }
}
