//! Trees: the entries of a workspace as one ordered map, stored in small nodes.
//!
//! This is the format, version 1, from which another program can be written; the bytes
//! of the examples are in the tests. Numbers called *varint* are unsigned, 7 bits a byte,
//! lowest first, the top bit set when more follow, in the shortest form and of up to 64
//! bits. A *piece* is a length (varint) and as many bytes. All digests are BLAKE3-256.
//!
//! **The map.** [`Key`]s are bytes and ordered as such; a value is an [`Entry`] or a
//! [`ChunkList`].
//!
//! ```text
//! entry       parent's names joined by 00, 00 00, name   a\0b\0\0name; top level: \0\0name
//! chunk list  entry key, 00, offset (8 bytes, big-endian)
//! ```
//!
//! The top has no entry. Parent first, because then the children of a directory lie
//! together however much is below each of them: a listing reads one node and not one a
//! child, and a whole subtree is one range that can be deleted, compared and skipped.
//! A walk that emits the sorted children of a directory, each followed by its chunk lists,
//! and then goes down into the sorted subdirectories is in key order.
//!
//! **Files.** A file of up to one grid has its chunk's digest in its entry. A longer one has
//! a chunk list for each 64 grids of its bytes, except where all of them are holes. A chunk
//! of zeros is a hole and is nowhere stored; `size` is always exact. Each name of a
//! hard-linked file has the whole entry and chunk lists; `link` joins them again.
//!
//! **Values.** [`Entry`] and [`ChunkList`] say how they look as bytes. One value has one form
//! and a reader refuses any other, so equal trees have equal bytes whoever wrote them.
//!
//! **Nodes.** [`Node`] says how one looks as bytes. Leaves, level 0, hold the items in
//! order; a node of the level above holds for each node of the level below its first key, its
//! digest and what is in it ([`Counts`]). The topmost level is the lowest that has one
//! node; it is the root, and its digest names the tree. The empty tree is one leaf
//! without items ([`EMPTY_NODE`]).
//!
//! **Borders.** On each level a node ends after a part when, with `bytes` the weight of all
//! parts since the last border and `weight` that of this one,
//!
//! ```text
//! bytes >= 64 KiB, or
//! bytes >= 12 KiB and hash * 12 KiB < weight * 2^32
//!
//! weight  of an item: bytes of its key and its value; of a child: bytes of its key + 48
//! hash    the first 4 bytes, little-endian, of the digest of the level (u8) and the key
//! ```
//!
//! and after the last part. A node so depends on the items alone and on no history: the
//! same content is the same tree, whether it was built at once or edited ten thousand times,
//! and two trees share the nodes of what they share.
//!
//! - A border falls with a chance of `weight` in 12 KiB, whatever sort the items are, so
//!   nodes are 12 KiB and on average 12 KiB more before prefixes are shared, about 16 KiB after.
//! - The hash is of the key and not of the value, so that touching a file (its time, its
//!   chunk) moves no border and rewrites one node a level. A value of another
//!   length can move one; the next border that both trees have ends the difference.
//! - A child weighs a constant beside its key, because its counts change with every file below.
//! - Without the least length, nodes would often be tiny; without the greatest, a run of
//!   unlucky keys would make one that is larger than a chunk.
//!
//! **Counts** are a function of single items, so equal nodes have equal counts and may
//! be shared between trees. That is why a chunk list repeats its file's grid and the
//! length of its last chunk: its data bytes would otherwise hang on an entry in another node.
//!
//! **Invariant:** whatever is read is checked: a node against its digest, its form and what
//! its parent says of it. No function here does I/O; nodes come and go through
//! [`Nodes`] and [`NodeSink`].

mod build;
mod changes;
mod check;
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
pub use changes::{ChangeKind, PathChange, State, changes};
pub use check::{Fault, check};
pub use chunk_list::{ChunkList, GROUP_CHUNKS, file_items};
pub use diff::{Diff, Difference, diff};
pub use edit::{Edit, Edits, edit};
pub use entry::{
    ACLS, Content, Entry, Grid, MODE_MAX, OWNER_DEFAULT, SIZE_MAX, VALUE_BYTES_MAX,
    XATTRS_BYTES_MAX, XATTRS_INLINE_BYTES_MAX, XattrList, Xattrs, is_kept,
};
pub use item::{Child, Counts, Item, Root, Value};
pub use key::{KEY_BYTES_MAX, Key, KeyParts};
pub use node::{
    EMPTY_NODE, LEVEL_MAX, MemoryNodes, NODE_BYTES_MAX, NODE_MAGIC, Node, NodeSink, Nodes, Parts,
    ReadError, SinkError,
};
pub use read::{
    Cursor, Entries, Gap, Listing, Piece, chunks_of, fetch_leaves, find, find_entry,
    list_directory, list_subtree, range,
};

#[cfg(test)]
mod tests;
