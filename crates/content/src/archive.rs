//! A path with everything below as one tar stream, and back.
//!
//! The stream is POSIX pax: a header of 512 bytes before each entry's bytes, an
//! extended header before that where the plain one cannot say it (times in ns, names
//! over 100 bytes, sizes over 8 GiB, xattrs as `SCHILY.xattr.*`), and two blocks of
//! zeros at the end. A socket is an empty file with `COVE.kind=socket`, which only
//! [`extract()`] knows. Other programs' archives (GNU, ustar, v7) are read too.
//!
//! The tar crate is not used for reading: here every field, length and order is
//! checked before anything is made of it, and what one reader could take otherwise
//! than another (content behind a hard link, a path in a global header) is refused.
//!
//! **Invariant:** [`extract()`] reaches names one at a time, below directories that it has
//! opened, and never goes through a symbolic link, whoever made it and when.

mod extract;
mod header;
mod names;
mod pack;
mod pax;
mod place;
mod reader;
mod remarks;
#[cfg(test)]
mod tests;

pub use extract::{ExtractError, ExtractOptions, Extracted, Limits, extract};
pub use pack::{PackError, PackOptions, pack};
