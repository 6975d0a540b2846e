//! The attributes that an archive may set.

use std::os::fd::AsFd;

use cove_btrfs::FileKind;
use cove_types::{TreePath, escape_bytes};
use rustix::fs::XattrFlags;
use rustix::io::Errno;

use super::ExtractError;
use crate::archive::place::{self, failed};
use crate::archive::reader::{Entry, What};
use crate::archive::remarks::Remarks;

/// The longest name and value of an xattr that the kernel takes.
const XATTR_NAME_BYTES_MAX: usize = 255;
const XATTR_BYTES_MAX: usize = 64 << 10;
/// How the value of an ACL begins (`POSIX_ACL_XATTR_VERSION`); entries of 8 bytes follow.
const ACL_VERSION: [u8; 4] = 2_u32.to_le_bytes();
/// How large an attribute every file system takes that has any.
const XATTR_BYTES_SURE: usize = 2 << 10;

/// Why an attribute was not set.
pub(super) enum Fault {
    /// It is none that an archive may set.
    NotTaken,
    /// The file system has none of this kind.
    Unsupported,
    /// The kernel takes no such value, or not so large a one.
    Malformed,
    Failed(Errno),
}

impl Fault {
    pub(super) fn settle(
        self,
        path: &TreePath,
        name: &[u8],
        remarks: &mut Remarks,
        refused: impl FnOnce() -> ExtractError,
    ) -> Result<(), ExtractError> {
        match self {
            Self::NotTaken => {
                remarks.push(|| format!("{path}: attribute {} is left out", escape_bytes(name)));
                Ok(())
            }
            Self::Unsupported => {
                remarks.push(|| {
                    let name = escape_bytes(name);
                    format!("{path}: attribute {name} is left out: the file system takes none such")
                });
                Ok(())
            }
            Self::Malformed => Err(refused()),
            Self::Failed(errno) => Err(failed("set an attribute of", path, errno).into()),
        }
    }
}

/// Sets an attribute that an archive may set; names it in a remark when it may not.
pub(super) fn set_xattr(
    fd: &impl AsFd,
    entry: &Entry,
    path: &TreePath,
    name: &[u8],
    value: &[u8],
    remarks: &mut Remarks,
) -> Result<(), ExtractError> {
    let kind = match entry.what {
        What::Directory => FileKind::Directory,
        What::File => FileKind::File,
        _ => FileKind::Fifo,
    };
    apply_xattr(fd, name, value, kind).or_else(|fault| {
        fault.settle(path, name, remarks, || {
            let name = escape_bytes(&name[..name.len().min(XATTR_NAME_BYTES_MAX)]);
            entry.refused(format!("attribute {name} is malformed or too large"))
        })
    })
}

pub(super) fn apply_xattr(
    fd: &impl AsFd,
    name: &[u8],
    value: &[u8],
    kind: FileKind,
) -> Result<(), Fault> {
    let is_taken = match name {
        b"system.posix_acl_access" => true,
        b"system.posix_acl_default" => kind == FileKind::Directory,
        // the kernel keeps these on files and directories only
        _ => name.starts_with(b"user.") && matches!(kind, FileKind::File | FileKind::Directory),
    };
    if !is_taken {
        return Err(Fault::NotTaken);
    }
    if name.len() > XATTR_NAME_BYTES_MAX || name.contains(&0) || value.len() > XATTR_BYTES_MAX {
        return Err(Fault::Malformed);
    }
    // the kernel says of another version that the file system has no ACLs
    let is_acl = name.starts_with(b"system.");
    if is_acl && !(value.starts_with(&ACL_VERSION) && value.len() % 8 == 4) {
        return Err(Fault::Malformed);
    }
    match rustix::fs::setxattr(place::by_descriptor(fd), name, value, XattrFlags::empty()) {
        Ok(()) => Ok(()),
        Err(Errno::OPNOTSUPP) => Err(Fault::Unsupported),
        Err(Errno::INVAL | Errno::RANGE | Errno::TOOBIG) => Err(Fault::Malformed),
        // the same answer as for a full disk: a value over what a leaf of the tree holds
        Err(Errno::NOSPC) if name.len() + value.len() > XATTR_BYTES_SURE => Err(Fault::Malformed),
        Err(errno) => Err(Fault::Failed(errno)),
    }
}
