//! Files of one subvolume made again in another, as a restore from the store would make them.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use cove_btrfs::{Dir, FileKind, Metadata};
use cove_types::TreePath;
use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::RestoreError;
use super::attributes::kept;
use crate::store::SET_ID_BITS;
use crate::volumes::Progress;

/// Bytes copied at once where the file system shares no extents.
const COPY_BYTES: usize = 1 << 20;

/// Whether a tree has an entry for what `metadata` describes, in a read-only snapshot.
#[must_use]
pub fn is_captured(metadata: &Metadata) -> bool {
    metadata.kind != FileKind::Device && !metadata.stands_for_subvolume()
}

/// Makes everything that `source`, the top of a read-only snapshot, holds at `from` again at
/// the place `to` in `dir`, where nothing is yet but perhaps `to` itself as an empty directory.
///
/// What a tree does not hold is left out, so that the result is that of storing the snapshot and
/// restoring it. Content is shared where the file system can, else copied with its holes. Not
/// durable until the caller flushes. After an error a part is there, for the caller to throw
/// away.
///
/// # Errors
///
/// [`RestoreError`], which names the path.
pub fn copy_tree(
    source: &Dir,
    from: &TreePath,
    dir: &Dir,
    to: &TreePath,
    progress: &Progress,
) -> Result<(), RestoreError> {
    let metadata = source.metadata(from)?;
    Copying { source, dir, firsts: HashMap::new(), progress }.entry(from, to, &metadata)
}

struct Copying<'a> {
    source: &'a Dir,
    dir: &'a Dir,
    /// Where the first name of an inode with several that was met is now.
    firsts: HashMap<u64, TreePath>,
    progress: &'a Progress,
}

impl Copying<'_> {
    fn entry(
        &mut self,
        from: &TreePath,
        to: &TreePath,
        metadata: &Metadata,
    ) -> Result<(), RestoreError> {
        if !is_captured(metadata) {
            return Ok(());
        }
        self.progress.update(|progress| progress.done_files += 1);
        if metadata.links > 1 && metadata.kind != FileKind::Directory {
            if let Some(first) = self.firsts.get(&metadata.inode) {
                self.dir.hard_link(first, to)?;
                return Ok(());
            }
            self.firsts.insert(metadata.inode, to.clone());
        }
        match metadata.kind {
            FileKind::Directory => self.directory(from, to)?,
            FileKind::File => self.file(from, to, metadata.size)?,
            FileKind::Symlink => self.dir.symlink(to, &self.source.read_link(from)?)?,
            FileKind::Fifo => self.dir.mkfifo(to, 0o600)?,
            FileKind::Socket => self.dir.mksocket(to, 0o600)?,
            FileKind::Device => return Ok(()),
        }
        self.dress(from, to, metadata)
    }

    fn directory(&mut self, from: &TreePath, to: &TreePath) -> Result<(), RestoreError> {
        // the target itself may be there, empty
        if self.dir.find(to)?.is_none() {
            self.dir.create_dir(to, 0o700)?;
        }
        for (name, metadata) in self.source.list(from)? {
            // a path that is too long is in no tree
            let Ok(child) = from.join(&name) else { continue };
            self.entry(&child, &to.join(&name)?, &metadata)?;
        }
        Ok(())
    }

    fn file(&self, from: &TreePath, to: &TreePath, size: u64) -> Result<(), RestoreError> {
        let (source, target) = (self.source.open_file(from)?, self.dir.create_file(to, 0o600)?);
        let copied = match rustix::fs::ioctl_ficlone(&target, &source) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOTTY | Errno::XDEV | Errno::INVAL | Errno::NOSYS) => {
                copy_content(&source, &target, size)
            }
            Err(error) => Err(error.into()),
        };
        copied.map_err(|source| RestoreError::Write { path: from.clone(), source })?;
        self.progress.update(|progress| progress.done_bytes += size);
        Ok(())
    }

    /// Owner, then mode, attributes and, last, the time, of what a tree keeps.
    fn dress(
        &self,
        from: &TreePath,
        to: &TreePath,
        metadata: &Metadata,
    ) -> Result<(), RestoreError> {
        self.dir.set_owner(to, metadata.uid, metadata.gid)?;
        if metadata.kind != FileKind::Symlink {
            self.dir.set_mode(to, metadata.mode & !SET_ID_BITS)?;
        }
        let attributes = self.source.attributes(from)?;
        let kept = kept(&attributes, metadata.kind)
            .map_err(|source| RestoreError::Write { path: from.clone(), source })?;
        for (name, value) in kept {
            self.dir.set_xattr(to, &name, &value)?;
        }
        self.dir.set_times(to, metadata.mtime)?;
        Ok(())
    }
}

/// Copies the data of a file and leaves its holes holes.
fn copy_content(source: &File, target: &File, size: u64) -> io::Result<()> {
    target.set_len(size)?;
    let mut buffer = vec![0; COPY_BYTES];
    let mut at = 0;
    while at < size {
        let data = match rustix::fs::seek(source, SeekFrom::Data(at)) {
            Ok(data) => data,
            Err(Errno::NXIO) => return Ok(()),
            // a file system that knows no holes
            Err(Errno::INVAL) => at,
            Err(error) => return Err(error.into()),
        };
        let hole = match rustix::fs::seek(source, SeekFrom::Hole(data)) {
            Ok(hole) => hole.min(size),
            Err(Errno::INVAL | Errno::NXIO) => size,
            Err(error) => return Err(error.into()),
        };
        at = data;
        while at < hole {
            let wanted = usize::try_from(hole - at).unwrap_or(COPY_BYTES).min(COPY_BYTES);
            source.read_exact_at(&mut buffer[..wanted], at)?;
            target.write_all_at(&buffer[..wanted], at)?;
            at += wanted as u64;
        }
    }
    Ok(())
}
