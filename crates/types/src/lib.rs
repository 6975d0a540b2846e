//! The words of Cove.
//!
//! Identifiers, digests, sizes, states, error kinds and the bodies of the HTTP
//! API. Every other crate speaks in these types; this one does no I/O, knows no
//! clock and is not async.
//!
//! **Invariant:** a value that exists is valid. What comes from outside becomes
//! one of these types through `parse` (text) or `decode` (bytes) and is refused
//! there, once, with the reason.

mod digest;
mod entry;
mod error;
mod file_time;
mod id;
mod operation;
mod path;
mod reference;
mod slug;
mod snapshot_id;
mod volume_name;
pub mod wire;

pub use digest::Digest;
pub use entry::{At, Consistency, Durability, EntryId, EntryKind, EntryState, Label};
pub use error::{Classify, ErrorKind, chain};
pub use file_time::FileTime;
pub use id::{NodeId, ProjectId, StoreHolderId, TeamId, VolumeId};
pub use operation::{IndexId, OperationId, PackId, SessionId};
pub use path::{DEPTH_MAX, NAME_BYTES_MAX, PATH_BYTES_MAX, TreePath, escape_bytes, unescape_text};
pub use reference::{FileReference, ProjectReference};
pub use slug::Slug;
pub use snapshot_id::SnapshotId;
pub use volume_name::VolumeName;

/// Why a text or some bytes are not a value of the type asked for.
///
/// The text states the fact in one line, naming the thing and its law; it never
/// carries control characters of the input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(pub String);

impl Classify for ParseError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}
