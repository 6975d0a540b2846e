//! Trees: the entries of a workspace as one ordered map, stored in small nodes.
mod build;
mod changes;
mod chunk_list;
mod diff;
mod edit;
mod entry;
mod item;
mod key;
mod node;
mod read;
mod varint;

pub use build::{
    BORDER_BYTES_MAX, BORDER_BYTES_MIN, BORDER_BYTES_SPREAD, Builder, CHILD_BYTES, WriteError,
};
pub use changes::{ChangeKind, PathChange, changes};
pub use chunk_list::{ChunkList, GROUP_CHUNKS, file_items};
pub use diff::{Diff, Difference, diff};
pub use edit::{Edit, Edits, edit};
pub use entry::{
    Content, Entry, Grid, MODE_MAX, OWNER_DEFAULT, SIZE_MAX, VALUE_BYTES_MAX, XATTRS_BYTES_MAX,
    XATTRS_INLINE_BYTES_MAX, XattrList, Xattrs, is_kept,
};
pub use item::{Child, Counts, Item, Root, Value};
pub use key::{KEY_BYTES_MAX, Key, KeyParts};
pub use node::{
    EMPTY_NODE, LEVEL_MAX, MemoryNodes, NODE_BYTES_MAX, NODE_MAGIC, Node, NodeSink, Nodes, Parts,
    ReadError, SinkError,
};
pub use read::{
    Cursor, Entries, Listing, Piece, chunks_of, find, find_entry, list_directory, list_subtree,
    range,
};

#[cfg(test)]
mod tests;
