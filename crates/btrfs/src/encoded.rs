//! Reading and writing compressed extents as they lie on the disk.

use std::fs::File;
use std::io;

/// The longest plain content of one encoded extent, in bytes; btrfs compresses no more at once.
pub const ENCODED_PLAIN_BYTES_MAX: usize = 128 << 10;

/// What lies at a place of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Encoded {
    /// Exactly the chunk asked for, as one zstd frame; it carries no content size.
    Zstd {
        /// The frame, without the padding behind it.
        frame: Vec<u8>,
    },
    /// Plain bytes, in the caller's buffer.
    Plain {
        /// How many; 0 at the end of the file.
        len: usize,
    },
    /// Only a hole, as long as asked for or up to the end of the file.
    Hole,
}

/// Reads `want` bytes at `offset`.
///
/// # Errors
///
/// What the kernel says.
pub fn read_encoded(_file: &File, _offset: u64, _want: usize, _buffer: &mut [u8]) -> io::Result<Encoded> {
    todo!()
}

/// Writes a zstd frame as an extent, without compressing anything.
///
/// # Errors
///
/// What the kernel says.
pub fn write_encoded(_file: &File, _offset: u64, _frame: &[u8], _plain_len: usize) -> io::Result<()> {
    todo!()
}
