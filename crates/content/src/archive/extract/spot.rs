//! The place of an entry, where something else may be and may come.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use cove_btrfs::{FileKind, Metadata};
use cove_types::TreePath;
use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::{ExtractError, Extraction};
use crate::archive::place::{self, failed};

/// How often a name that comes and goes is tried again.
const TRIES: usize = 16;

/// An entry's place: the open directory in which its name is to be.
pub(super) struct Spot<'a> {
    pub(super) parent: OwnedFd,
    pub(super) name: &'a [u8],
    /// From the top of the `Dir`, for errors.
    pub(super) path: TreePath,
}

impl Extraction<'_> {
    /// Makes something under a name with `make`, which fails when the name is taken; what
    /// has the name and is no directory goes.
    pub(super) fn put<T>(
        &self,
        spot: &Spot<'_>,
        wanted: FileKind,
        make: impl Fn(BorrowedFd<'_>, &[u8]) -> Result<T, Errno>,
    ) -> Result<T, ExtractError> {
        for _ in 0..TRIES {
            match make(spot.parent.as_fd(), spot.name) {
                Ok(made) => return Ok(made),
                Err(Errno::EXIST) => self.check_replaceable(spot, wanted)?,
                Err(errno) => return Err(failed("create", &spot.path, errno).into()),
            }
            match rustix::fs::unlinkat(&spot.parent, spot.name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(failed("replace", &spot.path, errno).into()),
            }
        }
        Err(failed("replace", &spot.path, Errno::BUSY).into())
    }

    pub(super) fn check_replaceable(
        &self,
        spot: &Spot<'_>,
        wanted: FileKind,
    ) -> Result<(), ExtractError> {
        let found = place::stat(&spot.parent, spot.name)
            .map_err(|errno| failed("look up", &spot.path, errno))?;
        match found {
            Some(Metadata { kind: found @ FileKind::Directory, .. }) => {
                Err(ExtractError::Conflict { path: spot.path.clone(), found, wanted })
            }
            _ => Ok(()),
        }
    }
}
