//! Entries that get other names.

use std::os::fd::OwnedFd;

use cove_types::TreePath;
use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::{Dir, failed};
use crate::locks::Place;
use crate::{Metadata, PathError};

impl Dir {
    /// Renames an entry, replacing a file (or an empty directory by a directory) that is
    /// at `to`. Durable on return.
    ///
    /// # Errors
    ///
    /// `from` is not there, a parent is not, or `to` is a directory with entries.
    pub fn rename(&self, from: &TreePath, to: &TreePath) -> Result<(), PathError> {
        const VERB: &str = "rename";
        let (from_parent, from_name) = self.parent_to_change(from, VERB)?;
        let (to_parent, to_name) = self.parent_to_change(to, VERB)?;
        let places: [Place<'_>; 4] = [
            (&from_parent, from_name),
            (&from_parent, b"."),
            (&to_parent, to_name),
            (&to_parent, b"."),
        ];
        self.unlocked(&places, || {
            rustix::fs::renameat(&from_parent, from_name, &to_parent, to_name)
        })
        .map_err(failed(VERB, from))?;
        rustix::fs::fsync(&to_parent).map_err(failed(VERB, to))?;
        rustix::fs::fsync(&from_parent).map_err(failed(VERB, from))
    }

    /// Renames an entry to a place; what is there already takes the place of the entry, in the same
    /// moment, and nobody finds neither of them. Whether that was so. Durable on return.
    ///
    /// A directory that stands for a nested subvolume in a snapshot goes from `to` and is not exchanged:
    /// it has no reference that the kernel could take back, and an exchange with it ends the transaction
    /// and leaves the whole filesystem read-only (`btrfs_rename_exchange`, Linux 6.18).
    ///
    /// # Errors
    ///
    /// `from` is not there or stands for a nested subvolume, or a parent is not there; nothing has moved.
    pub fn rename_or_exchange(&self, from: &TreePath, to: &TreePath) -> Result<bool, PathError> {
        use rustix::fs::RenameFlags;
        const VERB: &str = "rename";
        let (from_parent, from_name) = self.parent_to_change(from, VERB)?;
        let (to_parent, to_name) = self.parent_to_change(to, VERB)?;
        let places: [Place<'_>; 4] = [
            (&from_parent, from_name),
            (&from_parent, b"."),
            (&to_parent, to_name),
            (&to_parent, b"."),
        ];
        let rename = |flags| {
            self.unlocked(&places, || {
                rustix::fs::renameat_with(&from_parent, from_name, &to_parent, to_name, flags)
            })
        };
        let stands_for_subvolume = |parent: &OwnedFd, name: &[u8]| {
            rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|found| Metadata::from(&found).stands_for_subvolume())
        };
        if stands_for_subvolume(&from_parent, from_name) {
            return Err(failed(VERB, from)(Errno::INVAL));
        }
        let is_exchanged = loop {
            match rename(RenameFlags::NOREPLACE) {
                Ok(()) => break false,
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(failed(VERB, from)(errno)),
            }
            if stands_for_subvolume(&to_parent, to_name) {
                self.unlocked(&places, || {
                    rustix::fs::unlinkat(&to_parent, to_name, AtFlags::REMOVEDIR)
                })
                .map_err(failed(VERB, to))?;
                continue;
            }
            match rename(RenameFlags::EXCHANGE) {
                Ok(()) => break true,
                // one of them went meanwhile: the other call tells which
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(failed(VERB, from)(errno)),
            }
        };
        rustix::fs::fsync(&to_parent).map_err(failed(VERB, to))?;
        rustix::fs::fsync(&from_parent).map_err(failed(VERB, from))?;
        Ok(is_exchanged)
    }
}
