//! The stream in which the kernel tells what changed between two snapshots.
//!
//! A stream is a header and then commands until an `END` command. All integers are
//! little-endian.
//!
//! ```text
//! header     0  magic     13 bytes  "btrfs-stream\0"
//!           13  version   u32       1: what we ask for
//! command    0  length    u32       bytes of payload; the header is not counted
//!            4  command   u16       1 = SUBVOL ... 22 = UPDATE_EXTENT
//!            6  checksum  u32       CRC-32C of header and payload, this field as 0
//!           10  payload   length bytes of attributes
//! attribute  0  type      u16
//!            2  length    u16
//!            4  value     length bytes
//! ```
//!
//! Source: `fs/btrfs/send.h` in Linux 6.18 (`struct btrfs_stream_header`,
//! `struct btrfs_cmd_header`, `struct btrfs_tlv_header`). The kernel's CRC-32C starts from
//! 0 and is not inverted at the end, unlike the one in iSCSI and in most libraries.

const MAGIC: &[u8; 13] = b"btrfs-stream\0";
const VERSION: u32 = 1;
/// Bytes of the stream's header.
pub const HEADER_BYTES: usize = 17;
/// Bytes of a command's header.
const COMMAND_BYTES: usize = 10;

/// The longest payload we accept, in bytes.
///
/// The kernel builds each command in one buffer: 64 KiB for version 1, 144 KiB for version
/// 2 (`BTRFS_SEND_BUF_SIZE_V1`, `_V2`). A longer length is a damaged header, and believing
/// it would have us wait for, or allocate, up to 4 GiB.
const PAYLOAD_BYTES_MAX: usize = 144 << 10;

/// What a command does to the tree; those that only differ in metadata are one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Says which subvolumes the stream is about.
    Begin,
    /// Makes a new inode.
    Make { path: Vec<u8> },
    /// Moves a name; nothing is at the new one.
    Rename { from: Vec<u8>, to: Vec<u8> },
    /// Gives the inode at `existing` another name.
    Link { existing: Vec<u8>, path: Vec<u8> },
    /// Removes a name, or a directory that is empty by now.
    Remove { path: Vec<u8> },
    /// Changes mode, owner, times or xattrs.
    Metadata { path: Vec<u8> },
    /// Sets the size.
    Truncate { path: Vec<u8> },
    /// Changes content.
    Extent { path: Vec<u8>, offset: u64, length: u64 },
    /// Ends the stream.
    End,
}

impl Command {
    /// The paths that it names.
    pub fn paths(&self) -> impl Iterator<Item = &[u8]> {
        let (first, second) = match self {
            Self::Begin | Self::End => (None, None),
            Self::Rename { from: path, to: other } | Self::Link { existing: path, path: other } => {
                (Some(path), Some(other))
            }
            Self::Make { path }
            | Self::Remove { path }
            | Self::Metadata { path }
            | Self::Truncate { path }
            | Self::Extent { path, .. } => (Some(path), None),
        };
        first.into_iter().chain(second).map(Vec::as_slice)
    }
}

/// What the first bytes of a rest of a stream are.
#[derive(Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A command, and how many bytes it took.
    Command(Command, usize),
    /// A part of a command, which has at least so many bytes.
    Partial(usize),
}

/// Checks the header of a stream.
///
/// # Errors
///
/// Why it is none that we read.
pub fn decode_header(bytes: &[u8; HEADER_BYTES]) -> Result<(), String> {
    let (magic, version) = bytes.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err("it does not begin as a stream".into());
    }
    match u32::from_le_bytes([version[0], version[1], version[2], version[3]]) {
        VERSION => Ok(()),
        other => Err(format!("its version is {other}, not {VERSION}")),
    }
}

/// Reads the command at the beginning of `bytes`.
///
/// # Errors
///
/// Why it is none: too long, its checksum differs, unknown, or an attribute is missing.
pub fn decode(bytes: &[u8]) -> Result<Decoded, String> {
    let Some((header, after)) = bytes.split_first_chunk::<COMMAND_BYTES>() else {
        return Ok(Decoded::Partial(COMMAND_BYTES));
    };
    let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
    let number = u16::from_le_bytes([header[4], header[5]]);
    let checksum = u32::from_le_bytes([header[6], header[7], header[8], header[9]]);
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > PAYLOAD_BYTES_MAX {
        return Err(format!("a command is {length} bytes long, over {PAYLOAD_BYTES_MAX}"));
    }
    let Some(payload) = after.get(..length) else {
        return Ok(Decoded::Partial(COMMAND_BYTES + length));
    };
    let mut zeroed = *header;
    zeroed[6..].fill(0);
    if kernel_crc(&[&zeroed, payload]) != checksum {
        return Err("the checksum of a command differs".into());
    }
    let command = Attributes::decode(payload)?.command(number)?;
    Ok(Decoded::Command(command, COMMAND_BYTES + length))
}

/// CRC-32C as the kernel's send computes it: seed 0, not inverted.
fn kernel_crc(parts: &[&[u8]]) -> u32 {
    !parts.iter().fold(!0, |crc, part| crc32c::crc32c_append(crc, part))
}

/// The attributes of a command that say what we need.
#[derive(Default)]
struct Attributes<'p> {
    size: Option<u64>,
    path: Option<&'p [u8]>,
    path_to: Option<&'p [u8]>,
    path_link: Option<&'p [u8]>,
    offset: Option<u64>,
    clone_length: Option<u64>,
    data_bytes: Option<u64>,
}

impl<'p> Attributes<'p> {
    fn decode(mut payload: &'p [u8]) -> Result<Self, String> {
        let mut found = Self::default();
        while !payload.is_empty() {
            let (header, after) =
                payload.split_first_chunk::<4>().ok_or("an attribute is cut off")?;
            let kind = u16::from_le_bytes([header[0], header[1]]);
            let length = usize::from(u16::from_le_bytes([header[2], header[3]]));
            let (value, after) = after.split_at_checked(length).ok_or("an attribute is cut off")?;
            payload = after;
            let number = || {
                let bytes = value.try_into().map_err(|_| "a number is not 8 bytes long")?;
                Ok::<_, String>(Some(u64::from_le_bytes(bytes)))
            };
            match kind {
                4 => found.size = number()?,
                15 => found.path = Some(value),
                16 => found.path_to = Some(value),
                17 => found.path_link = Some(value),
                18 => found.offset = number()?,
                19 => found.data_bytes = Some(length as u64),
                24 => found.clone_length = number()?,
                _ => {}
            }
        }
        Ok(found)
    }

    fn command(self, number: u16) -> Result<Command, String> {
        let path = || {
            let path = self.path.ok_or_else(|| format!("command {number} has no path"))?;
            checked(path)
        };
        let other = |path: Option<&[u8]>| {
            checked(path.ok_or_else(|| format!("command {number} has no second path"))?)
        };
        let extent = |length: Option<u64>| {
            let length = length.ok_or_else(|| format!("command {number} has no length"))?;
            let offset = self.offset.ok_or_else(|| format!("command {number} has no offset"))?;
            Ok::<_, String>(Command::Extent { path: path()?, offset, length })
        };
        Ok(match number {
            1 | 2 => Command::Begin,
            3..=8 => Command::Make { path: path()? },
            9 => Command::Rename { from: path()?, to: other(self.path_to)? },
            10 => Command::Link { path: path()?, existing: other(self.path_link)? },
            11 | 12 => Command::Remove { path: path()? },
            13 | 14 | 18..=20 => Command::Metadata { path: path()? },
            15 => extent(self.data_bytes)?,
            16 => extent(self.clone_length)?,
            17 => Command::Truncate { path: path()? },
            21 => Command::End,
            22 => extent(self.size)?,
            other => return Err(format!("command {other} is unknown")),
        })
    }
}

/// A path without names that lead elsewhere; the empty one is the top.
fn checked(path: &[u8]) -> Result<Vec<u8>, String> {
    let is_name = |name: &[u8]| !matches!(name, b"" | b"." | b"..") && !name.contains(&0);
    if path.is_empty() || path.split(|b| *b == b'/').all(is_name) {
        return Ok(path.to_vec());
    }
    Err(format!("it has the path \"{}\"", cove_types::escape_bytes(path)))
}

/// Reads a whole stream.
///
/// # Errors
///
/// Why it is none.
#[cfg(test)]
pub fn decode_all(bytes: &[u8]) -> Result<Vec<Command>, String> {
    let (header, mut rest) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or("it is cut off")?;
    decode_header(header)?;
    let mut commands = Vec::new();
    loop {
        match decode(rest)? {
            Decoded::Partial(_) => return Err("it is cut off".into()),
            Decoded::Command(Command::End, used) if used == rest.len() => return Ok(commands),
            Decoded::Command(command, used) => {
                commands.push(command);
                rest = &rest[used..];
            }
        }
    }
}

#[cfg(test)]
mod tests;
