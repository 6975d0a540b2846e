//! Frames: compressed chunks.
//!
//! A frame is exactly one zstd frame (RFC 8878) without dictionary, with a
//! window of at most 128 KiB, and nothing after it. There is no other kind:
//! bytes that do not compress are a zstd frame of raw blocks, 3 bytes longer a
//! block, so that no reader needs a second path.
//!
//! - A chunk of 128 KiB or more has a frame of its own. One of exactly 128 KiB can
//!   come from the kernel (encoded read of a compressed extent) and go to it
//!   (encoded write) as it is.
//! - Shorter chunks are gathered, one after another without gaps, up to 128 KiB
//!   of plain bytes.
//!
//! Which frame a chunk lies in is part of no digest; another compressor or level
//! gives other frames and the same tree.

use std::cell::RefCell;

use cove_types::Digest;
use zstd::zstd_safe;

use crate::DecodeError;
use crate::chunk::{CHUNK_BYTES_MAX, GRID_BYTES};

/// The longest frame: [`CHUNK_BYTES_MAX`] bytes that do not compress, and zstd's
/// own bytes around them. A longer length is a damaged index.
pub const FRAME_BYTES_MAX: u32 = CHUNK_BYTES_MAX + (4 << 10);

/// The level at which we compress: measured, the level costs more time than the
/// bytes that it saves take to send.
const LEVEL: i32 = 1;

/// log2 of the largest window, 128 KiB: what the kernel accepts of an encoded write.
const WINDOW_LOG: u32 = 17;

const WHAT: &str = "frame";

/// A chunk's place in its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameChunk {
    /// The chunk's name.
    pub digest: Digest,
    /// Where it begins in the frame's plain bytes.
    pub position: u32,
    /// How many bytes it has.
    pub bytes: u32,
}

/// Chunks that go into one frame, not yet compressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlainFrame {
    /// The chunks' bytes, one after another.
    pub plain: Vec<u8>,
    /// Where each lies.
    pub chunks: Vec<FrameChunk>,
}

/// Gathers short chunks into frames, in the order in which they come.
#[derive(Debug, Default)]
pub struct Gatherer {
    plain: Vec<u8>,
    chunks: Vec<FrameChunk>,
}

impl Gatherer {
    /// A gatherer that holds nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the chunk `digest` with the content `plain`; gives back a frame when one is full.
    ///
    /// A chunk of [`GRID_BYTES`] or more comes back at once in a frame of its own,
    /// and what was gathered goes on being gathered.
    pub fn push(&mut self, digest: Digest, plain: &[u8]) -> Option<PlainFrame> {
        let bytes = u32::try_from(plain.len()).unwrap_or(u32::MAX);
        if bytes >= GRID_BYTES {
            let chunks = vec![FrameChunk { digest, position: 0, bytes }];
            return Some(PlainFrame { plain: plain.to_vec(), chunks });
        }
        let gathered = u32::try_from(self.plain.len()).unwrap_or(u32::MAX);
        let full = if gathered + bytes > GRID_BYTES { self.finish() } else { None };
        let position = u32::try_from(self.plain.len()).unwrap_or(u32::MAX);
        self.plain.extend_from_slice(plain);
        self.chunks.push(FrameChunk { digest, position, bytes });
        full
    }

    /// The plain bytes that are gathered and in no frame yet.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.plain.len()
    }

    /// What is gathered so far, as a last frame.
    pub fn finish(&mut self) -> Option<PlainFrame> {
        if self.chunks.is_empty() {
            return None;
        }
        let plain = std::mem::take(&mut self.plain);
        Some(PlainFrame { plain, chunks: std::mem::take(&mut self.chunks) })
    }
}

thread_local! {
    // A context is 100 to 600 KiB that zstd clears at each creation.
    static COMPRESSOR: RefCell<Option<zstd::bulk::Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<zstd::bulk::Decompressor<'static>>> =
        const { RefCell::new(None) };
}

fn compressor() -> std::io::Result<zstd::bulk::Compressor<'static>> {
    let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
    compressor.set_parameter(zstd_safe::CParameter::WindowLog(WINDOW_LOG))?;
    Ok(compressor)
}

/// Compresses `plain`, at most [`CHUNK_BYTES_MAX`] bytes, into a frame.
///
/// # Panics
///
/// When there is no memory for zstd's context.
#[must_use]
pub fn compress(plain: &[u8]) -> Vec<u8> {
    COMPRESSOR.with_borrow_mut(|slot| {
        let compressor = slot
            .get_or_insert_with(|| compressor().expect("zstd takes level 1 and window 128 KiB"));
        compressor.compress(plain).expect("the buffer has zstd's own bound for these bytes")
    })
}

/// What btrfs rounds an extent up to on most machines, in bytes.
const SECTOR_BYTES: usize = 4 << 10;
/// What btrfs keeps beside the metadata of a file, in bytes.
const INLINE_BYTES_MAX: usize = 2 << 10;

/// A frame that a disk which compresses may take in place of `plain`; `None` where it would need as
/// much room for it, or `plain` is longer than the grid.
///
/// The kernel compresses as well, at three times the cost for short files (9,200 files of 9 KB a
/// second against 31,000, measured on Linux 6.18): it sets up a compressor for each.
#[must_use]
pub fn for_disk(plain: &[u8]) -> Option<Vec<u8>> {
    if plain.len() > GRID_BYTES as usize {
        return None;
    }
    let frame = compress(plain);
    let is_shorter = frame.len().div_ceil(SECTOR_BYTES) < plain.len().div_ceil(SECTOR_BYTES)
        || (frame.len() < plain.len() && frame.len() <= INLINE_BYTES_MAX);
    is_shorter.then_some(frame)
}

/// The plain bytes of `frame`, at most `plain_bytes_max` of them.
///
/// # Errors
///
/// [`DecodeError`] when it is not one whole frame with a lawful window, or longer.
pub fn decompress(frame: &[u8], plain_bytes_max: u32) -> Result<Vec<u8>, DecodeError> {
    check_header(frame)?;
    if frame_bytes(frame)? != frame.len() {
        return Err(DecodeError::damaged(WHAT, "it has bytes after its end"));
    }
    let bound = plain_bytes_max.min(CHUNK_BYTES_MAX);
    let capacity = usize::try_from(bound).unwrap_or(usize::MAX);
    DECOMPRESSOR.with_borrow_mut(|slot| {
        let decompressor = match slot {
            Some(decompressor) => decompressor,
            None => slot.insert(
                zstd::bulk::Decompressor::new()
                    .map_err(|error| DecodeError::damaged(WHAT, error.to_string()))?,
            ),
        };
        decompressor.decompress(frame, capacity).map_err(|_| {
            DecodeError::damaged(WHAT, format!("it does not decompress into {bound} bytes"))
        })
    })
}

/// How long the frame is that `bytes` begin with.
///
/// What the kernel gives for a compressed extent is a frame and zeros up to the
/// next sector; the frame without them is what is stored.
///
/// # Errors
///
/// [`DecodeError`] when they do not begin with a whole frame.
pub fn frame_bytes(bytes: &[u8]) -> Result<usize, DecodeError> {
    zstd_safe::find_frame_compressed_size(bytes)
        .map_err(|_| DecodeError::damaged(WHAT, "it is not a whole zstd frame"))
}

/// Whether `frame` can be stored as it is: a zstd frame without dictionary, with a
/// window of at most 128 KiB.
///
/// # Errors
///
/// [`DecodeError`] that says what is wrong.
pub fn check_header(frame: &[u8]) -> Result<(), DecodeError> {
    // RFC 8878, section 3.1.1.1: magic, descriptor, window descriptor, dictionary
    // id, content size. zstd's one-pass decompression does not bound the window.
    let damaged = |reason| DecodeError::damaged(WHAT, reason);
    let (Some(magic), Some(descriptor)) = (frame.first_chunk::<4>(), frame.get(4)) else {
        return Err(damaged("it ends too early"));
    };
    if u32::from_le_bytes(*magic) != zstd_safe::MAGICNUMBER {
        return Err(damaged("it is not zstd"));
    }
    if descriptor & 0b11 != 0 {
        return Err(damaged("it needs a dictionary"));
    }
    if descriptor & 0b1000 != 0 {
        return Err(damaged("it sets a reserved bit"));
    }
    let single_segment = descriptor & 0b10_0000 != 0;
    if single_segment {
        // The window is the content, whose size the decompression bounds.
        return Ok(());
    }
    let window = *frame.get(5).ok_or_else(|| damaged("it ends too early"))?;
    let (exponent, mantissa) = (u32::from(window >> 3), u32::from(window & 7));
    let log = 10 + exponent;
    if log > WINDOW_LOG || (log == WINDOW_LOG && mantissa > 0) {
        return Err(damaged("its window is larger than 128 KiB"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
