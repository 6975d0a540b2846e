//! Which extended attributes of an entry its tree holds.

use std::io;

use cove_btrfs::{Attributes, FileKind};

use crate::tree::{self, XattrList};

/// Names and values that a tree holds, in the order of names: as [`store_tree`](crate::store::store_tree)
/// takes them, those that still fit.
pub(super) fn kept(
    attributes: &Attributes<'_>,
    kind: FileKind,
) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    if kind == FileKind::Symlink {
        return Ok(Vec::new());
    }
    let all = || tree::ACLS.iter().map(|name| name.to_vec()).collect();
    let names = attributes.names()?.unwrap_or_else(all);
    let (mut kept, mut bytes) = (Vec::new(), 0);
    for name in names.into_iter().filter(|name| tree::is_kept(name)) {
        let Some(value) = attributes.find(&name)? else { continue };
        let more = XattrList::encoded_bytes(&name, &value);
        if bytes + more <= tree::XATTRS_BYTES_MAX {
            bytes += more;
            kept.push((name, value));
        }
    }
    Ok(kept)
}

/// Whether an attribute is one that a restore from the tree would not have set. What a file system or
/// SELinux keeps for itself is none of ours.
pub(super) fn needs_removal(name: &[u8], kept: &[(Vec<u8>, Vec<u8>)]) -> bool {
    let is_ours = tree::is_kept(name)
        || name.starts_with(b"trusted.")
        || (name.starts_with(b"security.") && name != b"security.selinux");
    is_ours && !kept.iter().any(|(other, _)| other == name)
}
