//! Reading and writing compressed extents as they lie on the disk.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use crate::ioctl;

/// The longest plain content of one encoded extent, in bytes; btrfs compresses no more at once.
pub const ENCODED_PLAIN_BYTES_MAX: usize = 128 << 10;
/// The sector to which btrfs pads what it compressed, in bytes, at most.
const SECTOR_BYTES_MAX: usize = 64 << 10;

/// What lies at a place of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Encoded {
    /// Exactly the 128 KiB asked for, as one zstd frame. The frame need not carry its
    /// content's size, and nobody has checked its content: decompress it once.
    Zstd {
        /// The frame, without the padding behind it.
        frame: Vec<u8>,
    },
    /// Plain bytes, in the caller's buffer.
    Plain {
        /// How many; fewer than asked for only at the end of the file.
        len: usize,
    },
    /// Only a hole.
    Hole {
        /// How many zero bytes of those asked for the file has there.
        len: usize,
    },
}

/// Reads `want` bytes (at most 128 KiB) at `offset` into `buffer`, or says that they are
/// a hole, or takes the compressed extent as it is where it is exactly these bytes.
///
/// Works on any file system; frames come only from btrfs, as root, of what is written out
/// (a snapshot's files are).
///
/// # Errors
///
/// What the kernel says to a read.
///
/// # Panics
///
/// `buffer` is shorter than `want`, or `want` over 128 KiB.
pub fn read_encoded(
    file: &File,
    offset: u64,
    want: usize,
    buffer: &mut [u8],
) -> io::Result<Encoded> {
    assert!(want <= ENCODED_PLAIN_BYTES_MAX, "a chunk is at most 128 KiB");
    let buffer = &mut buffer[..want];
    if let Some(len) = hole(file, offset, want)? {
        return Ok(Encoded::Hole { len });
    }
    if want == ENCODED_PLAIN_BYTES_MAX
        && let Some(frame) = frame_at(file, offset)
    {
        return Ok(Encoded::Zstd { frame });
    }
    let mut len = 0;
    while len < want {
        match file.read_at(&mut buffer[len..], offset + len as u64) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Encoded::Plain { len })
}

/// How long the hole is, of what is asked for, when there is nothing but a hole.
fn hole(file: &File, offset: u64, want: usize) -> io::Result<Option<usize>> {
    match rustix::fs::seek(file, SeekFrom::Data(offset)) {
        Ok(data) if data >= offset + want as u64 => Ok(Some(want)),
        Ok(_) => Ok(None),
        // No data up to the end of the file.
        Err(Errno::NXIO) => {
            let rest = file.metadata()?.len().saturating_sub(offset);
            Ok(match usize::try_from(rest).unwrap_or(usize::MAX).min(want) {
                0 => None,
                len => Some(len),
            })
        }
        // The file system cannot tell.
        Err(_) => Ok(None),
    }
}

/// The zstd frame that is exactly the 128 KiB at `offset`. Whatever keeps it from being
/// one is no error: the bytes are then read plainly, and that says what is wrong.
fn frame_at(file: &File, offset: u64) -> Option<Vec<u8>> {
    let chunk = ENCODED_PLAIN_BYTES_MAX as u64;
    let mut frame = vec![0; ENCODED_PLAIN_BYTES_MAX + SECTOR_BYTES_MAX];
    let extent = ioctl::read_encoded(file, offset, &mut frame).ok()?;
    if !extent.is_zstd
        || extent.unencoded_offset != 0
        || extent.len != chunk
        || extent.unencoded_len != chunk
    {
        return None;
    }
    frame.truncate(extent.encoded);
    let length = zstd::zstd_safe::find_frame_compressed_size(&frame).ok()?;
    frame.truncate(length);
    frame.shrink_to_fit();
    Some(frame)
}

/// Writes a zstd frame as one extent of `plain_len` bytes, without compressing anything.
///
/// `offset` is on a sector; `plain_len` is at most 128 KiB, and a multiple of the sector
/// (4 KiB) unless it ends at the end of the file; the frame is shorter than that and has a
/// window of at most 128 KiB. The kernel does not look into the frame: a bad one fails
/// only when it is read, so the caller has decompressed it and checked the digest.
///
/// # Errors
///
/// What the kernel says, among it that the above does not hold or that the file system
/// has no encoded extents; the file is unchanged then and is to be written plainly.
pub fn write_encoded(file: &File, offset: u64, frame: &[u8], plain_len: usize) -> io::Result<()> {
    let written = ioctl::write_encoded(file, offset, frame, plain_len as u64)?;
    if written == frame.len() || written == plain_len {
        return Ok(());
    }
    Err(io::Error::other(format!("{written} of {} encoded bytes were written", frame.len())))
}
