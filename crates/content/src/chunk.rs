//! Files as chunks on a fixed grid.
//!
//! Chunk `n` of a file holds its bytes from `n * grid` up to `(n + 1) * grid` or
//! its end. The grid is a function of the state (path, size, first bytes), never
//! of how the state came about, so that a full and an incremental store of one
//! state give one tree. A chunk of zeros is not stored: it is a hole.

use cove_types::TreePath;

use crate::tree::Grid;

/// Bytes of a chunk of most files; the kernel's largest compressed extent.
pub const GRID_BYTES: u32 = 128 << 10;

/// Bytes of a chunk of page-structured files.
///
/// A database changes single pages: with chunks of 128 KiB a changed 8 KiB page
/// would store sixteen times its bytes.
pub const PAGE_GRID_BYTES: u32 = 16 << 10;

/// The largest file on the page grid; beyond it the lists of digests would cost
/// more than the smaller chunks save.
pub const PAGE_FILE_BYTES_MAX: u64 = 1 << 30;

/// The largest chunk of any kind: metadata (tree nodes, documents, older
/// entries) may exceed the grid, up to this.
pub const CHUNK_BYTES_MAX: u32 = 1 << 20;

/// What an `SQLite` database file begins with.
const SQLITE_MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// The grid of the file at `path` from the volume's top (`files/…`,
/// `services/<name>/…`), of `size` bytes, that begins with `first_bytes`
/// (its first 16, or all when it is shorter).
#[must_use]
pub fn grid_for(path: &TreePath, size: u64, first_bytes: &[u8]) -> Grid {
    let of_a_service = path.parent().is_some_and(|parent| !parent.is_top())
        && path.names().next() == Some(b"services".as_slice());
    let paged = of_a_service || first_bytes.starts_with(SQLITE_MAGIC);
    if paged && size <= PAGE_FILE_BYTES_MAX { Grid::Small } else { Grid::Large }
}

/// Whether `bytes` are zeros only, so that they are a hole; costs about 30 µs a MiB.
#[must_use]
pub fn is_zeros(bytes: &[u8]) -> bool {
    // Blocks of a fixed size compile to vector instructions; a search for the first
    // non-zero byte does not.
    let (blocks, rest) = bytes.as_chunks::<64>();
    blocks.iter().all(|block| block.iter().fold(0, |all, byte| all | byte) == 0)
        && rest.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests;
