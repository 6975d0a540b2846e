//! A file of an archive: its content with its holes, then all else that is said of it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use cove_btrfs::{FileKind, Metadata, write_encoded};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use super::spot::Spot;
use super::xattr::set_xattr;
use super::{ExtractError, Extraction};
use crate::archive::place::{self, KEPT_MODE, failed};
use crate::archive::reader::{Entry, Reader};
use crate::chunk::is_zeros;
use crate::frame;

/// What of a file is a hole when it is all zeros: a block of every file system in use.
const HOLE_BYTES: usize = 4096;

impl Extraction<'_> {
    pub(super) fn file(
        &mut self,
        entry: &Entry,
        spot: &Spot<'_>,
        reader: &mut Reader<'_>,
        buffer: &mut [u8],
    ) -> Result<(), ExtractError> {
        let length = reader.read(buffer)?;
        let (file, is_unnamed) = self.create(spot)?;
        let filled = self.fill(entry, spot, reader, buffer, length, &file);
        if let (Err(_), false) = (&filled, is_unnamed) {
            // half a file is none, and a full disk gets its room back
            let same = |found: &Metadata| {
                rustix::fs::fstat(&file).is_ok_and(|own| own.st_ino == found.inode)
            };
            let found = place::stat(&spot.parent, spot.name).ok().flatten();
            if found.as_ref().is_some_and(same)
                && let Err(errno) = rustix::fs::unlinkat(&spot.parent, spot.name, AtFlags::empty())
            {
                tracing::warn!(path = %spot.path, %errno, "a part of a file stays behind");
            }
        }
        filled?;
        let path = &spot.path;
        if is_unnamed {
            let replaced = match self.place.replace(&file, &spot.parent, spot.name) {
                // a directory came there meanwhile
                Err(Errno::ISDIR) => Ok(false),
                other => other,
            };
            if !replaced.map_err(|e| failed("replace", path, e))? {
                self.put(spot, FileKind::File, |parent, name| {
                    let file = place::by_descriptor(&file);
                    rustix::fs::linkat(CWD, file, parent, name, AtFlags::SYMLINK_FOLLOW)
                })?;
            }
        }
        Ok(())
    }

    /// Writes a file's content, attributes, mode and times.
    fn fill(
        &mut self,
        entry: &Entry,
        spot: &Spot<'_>,
        reader: &mut Reader<'_>,
        buffer: &mut [u8],
        mut length: usize,
        file: &File,
    ) -> Result<(), ExtractError> {
        let path = &spot.path;
        let (mut offset, mut written) = (0, 0);
        while length > 0 {
            let piece = &buffer[..length];
            // what is refused is written plainly, which says why if that fails too
            let is_written = self.takes_frames
                && write_frame(file, offset, piece).unwrap_or_else(|_| {
                    self.takes_frames = false;
                    false
                });
            let end = match is_written {
                true => Some(offset + length as u64),
                false => write_around_zeros(file, offset, piece)
                    .map_err(|source| failed("write", path, source))?,
            };
            written = end.unwrap_or(written);
            offset += length as u64;
            (self.progress)(self.extracted.entries, self.extracted.bytes + offset);
            length = reader.read(buffer)?;
        }
        if written != offset {
            file.set_len(offset).map_err(|source| failed("write", path, source))?;
        }
        place::set_owner(file, self.options.owner)
            .map_err(|e| failed("set the owner of", path, e))?;
        // attributes need the right to write, which the mode may take; an ACL changes the mode
        for (name, value) in entry.xattrs.iter().filter(|(name, _)| !name.starts_with(b"system.")) {
            set_xattr(file, entry, path, name, value, &mut self.remarks)?;
        }
        rustix::fs::fchmod(file, Mode::from_raw_mode(entry.mode & KEPT_MODE))
            .map_err(|e| failed("set the mode of", path, e))?;
        for (name, value) in entry.xattrs.iter().filter(|(name, _)| name.starts_with(b"system.")) {
            set_xattr(file, entry, path, name, value, &mut self.remarks)?;
        }
        rustix::fs::futimens(file, &place::times(entry.mtime))
            .map_err(|e| failed("set the time of", path, e))?;
        let stat = rustix::fs::fstat(file).map_err(|e| failed("look up", path, e))?;
        self.made.insert((stat.st_dev, stat.st_ino));
        Ok(())
    }

    /// A new file for writing: under its name where that is free, else without a name.
    ///
    /// Without one the old file stays whole until the new one is, and nothing temporary is
    /// in the workspace. Where the file system has no such files, the old file goes first.
    fn create(&self, spot: &Spot<'_>) -> Result<(File, bool), ExtractError> {
        let (parent, path) = (&spot.parent, &spot.path);
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let new = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        match rustix::fs::openat(parent, spot.name, new, mode) {
            Ok(fd) => return Ok((File::from(fd), false)),
            Err(Errno::EXIST) => self.check_replaceable(spot, FileKind::File)?,
            Err(errno) => return Err(failed("create", path, errno).into()),
        };
        match rustix::fs::openat(parent, c".", flags | OFlags::TMPFILE, mode) {
            Ok(fd) => Ok((File::from(fd), true)),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => {
                let fd = self.put(spot, FileKind::File, |parent, name| {
                    rustix::fs::openat(parent, name, new, mode)
                })?;
                Ok((File::from(fd), false))
            }
            Err(errno) => Err(failed("create", path, errno).into()),
        }
    }
}

/// Writes `bytes` compressed, if that is shorter and there are no holes in them; says whether it has.
///
/// # Errors
///
/// The disk does not take it; nothing of it is written.
fn write_frame(file: &File, offset: u64, bytes: &[u8]) -> io::Result<bool> {
    let is_at_block = offset.is_multiple_of(HOLE_BYTES as u64);
    if !is_at_block || bytes.chunks(HOLE_BYTES).any(is_zeros) {
        return Ok(false);
    }
    match frame::for_disk(bytes) {
        Some(frame) => write_encoded(file, offset, &frame, bytes.len()).map(|()| true),
        None => Ok(false),
    }
}

/// Writes what is not zeros, by whole blocks; says where the last of it ended.
fn write_around_zeros(file: &File, offset: u64, bytes: &[u8]) -> io::Result<Option<u64>> {
    let mut end = None;
    let mut run = 0..0;
    let mut write = |run: &std::ops::Range<usize>| {
        if run.is_empty() {
            return Ok(());
        }
        end = Some(offset + run.end as u64);
        file.write_all_at(&bytes[run.clone()], offset + run.start as u64)
    };
    for (index, block) in bytes.chunks(HOLE_BYTES).enumerate() {
        let start = index * HOLE_BYTES;
        if is_zeros(block) {
            write(&run)?;
            run = 0..0;
        } else if run.is_empty() {
            run = start..start + block.len();
        } else {
            run.end = start + block.len();
        }
    }
    write(&run)?;
    Ok(end)
}
