//! The block of 512 bytes before each entry.
//!
//!   0  name      100   155..  ends at the first NUL
//! 100  mode      8     108  uid 8     116  gid 8
//! 124  size      12    136  mtime 12
//! 148  checksum  8     the sum of all bytes, this field as spaces
//! 156  type      1     157  link target 100
//! 257  magic     8     "ustar\0" "00", or "ustar  \0" of GNU tar, or anything (v7)
//! 265  user 32  297 group 32  329 device 16
//! 345  prefix    155   goes before the name with a slash; only with the first magic
//!
//! Numbers are octal text, or in base 256 when the first bit is set (GNU).
//!
//! Source: POSIX.1-2017 `pax`, "ustar Interchange Format"; GNU tar 1.34 `src/tar.h`.

/// Bytes of a block.
pub(super) const BLOCK: usize = 512;

/// What a block holds.
pub(super) type Block = [u8; BLOCK];

/// The longest name and the longest target that a header can hold.
pub(super) const NAME_BYTES_MAX: usize = 100;
/// The largest size and time in octal, `8^11 - 1`.
pub(super) const OCTAL_MAX: u64 = (1 << 33) - 1;
/// The largest owner in octal.
pub(super) const OWNER_MAX: u32 = (1 << 21) - 1;

/// What an entry is, or what it says of the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    File,
    HardLink,
    Symlink,
    Directory,
    Fifo,
    /// Extended headers of the next entry.
    Pax,
    /// Extended headers of all that follow.
    GlobalPax,
    /// The next entry's name, GNU.
    LongName,
    /// The next entry's target, GNU.
    LongTarget,
}

impl Type {
    fn from_byte(byte: u8) -> Result<Self, String> {
        Ok(match byte {
            0 | b'0' | b'7' => Self::File,
            b'1' => Self::HardLink,
            b'2' => Self::Symlink,
            b'5' => Self::Directory,
            b'6' => Self::Fifo,
            b'x' => Self::Pax,
            b'g' => Self::GlobalPax,
            b'L' => Self::LongName,
            b'K' => Self::LongTarget,
            b'3' | b'4' => return Err("it is a device".into()),
            b'S' => return Err("it is a sparse file of the GNU format".into()),
            b'M' => return Err("it is the rest of a file in another volume".into()),
            other => return Err(format!("its type is byte {other}, which is not known")),
        })
    }

    fn byte(self) -> u8 {
        match self {
            Self::File => b'0',
            Self::HardLink => b'1',
            Self::Symlink => b'2',
            Self::Directory => b'5',
            Self::Fifo => b'6',
            Self::Pax => b'x',
            Self::GlobalPax => b'g',
            Self::LongName => b'L',
            Self::LongTarget => b'K',
        }
    }
}

/// A header in plain terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub kind: Type,
    /// With the prefix before it.
    pub name: Vec<u8>,
    pub target: Vec<u8>,
    /// The lowest 12 bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    pub mtime: i64,
}

impl Header {
    /// Reads a header; `None` for a block of zeros.
    ///
    /// # Errors
    ///
    /// What is wrong with it, to go after its name.
    pub fn decode(block: &Block) -> Result<Option<Self>, String> {
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let claimed = number(&block[148..156]);
        let (unsigned, signed) = checksums(block);
        if claimed.is_none_or(|claimed| claimed != unsigned && claimed != signed) {
            return Err("its header does not match its checksum".into());
        }
        let field = |name: &str, range: std::ops::Range<usize>| {
            number(&block[range]).ok_or_else(|| format!("its {name} is no number"))
        };
        let size = field("size", 124..136)?;
        Ok(Some(Self {
            kind: Type::from_byte(block[156])?,
            name: name_of(block),
            target: until_nul(&block[157..257]).to_vec(),
            mode: u32::try_from(field("mode", 100..108)? & 0o7777).unwrap_or(0),
            // owners are read for nothing: a broken one is no reason to refuse
            uid: number(&block[108..116]).and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
            gid: number(&block[116..124]).and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
            size: u64::try_from(size).map_err(|_| "its size is negative".to_owned())?,
            mtime: field("time", 136..148)?,
        }))
    }

    /// Writes a header. What does not fit its field is cut or 0; whoever writes it says it in an
    /// extended header before.
    pub fn encode(&self) -> Block {
        let mut block = [0; BLOCK];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.name[..self.name.len().min(NAME_BYTES_MAX)]);
        put(100, format!("{:07o}\0", self.mode & 0o7777).as_bytes());
        put(108, format!("{:07o}\0", fitting(self.uid.into(), OWNER_MAX.into())).as_bytes());
        put(116, format!("{:07o}\0", fitting(self.gid.into(), OWNER_MAX.into())).as_bytes());
        put(124, format!("{:011o}\0", fitting(self.size, OCTAL_MAX)).as_bytes());
        let mtime = u64::try_from(self.mtime).unwrap_or(0).min(OCTAL_MAX);
        put(136, format!("{mtime:011o}\0").as_bytes());
        put(148, b"        ");
        put(156, &[self.kind.byte()]);
        put(157, &self.target[..self.target.len().min(NAME_BYTES_MAX)]);
        put(257, b"ustar\x0000");
        let (sum, _) = checksums(&block);
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }
}

fn fitting(number: u64, max: u64) -> u64 {
    if number > max { 0 } else { number }
}

/// The name that a header says, good enough to name it in an error.
pub(super) fn name_of(block: &Block) -> Vec<u8> {
    let name = until_nul(&block[..100]);
    let prefix = until_nul(&block[345..500]);
    if &block[257..265] == b"ustar\x0000" && !prefix.is_empty() {
        return [prefix, name].join(&b'/');
    }
    name.to_vec()
}

fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or(field)
}

/// The sums over unsigned bytes and, as some old programs took it, over signed ones.
fn checksums(block: &Block) -> (i64, i64) {
    let mut sums = (0, 0);
    for (at, byte) in block.iter().enumerate() {
        let byte = if (148..156).contains(&at) { b' ' } else { *byte };
        sums.0 += i64::from(byte);
        sums.1 += i64::from(byte.cast_signed());
    }
    sums
}

/// Reads a number; empty is 0.
fn number(field: &[u8]) -> Option<i64> {
    let (first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        // 7 bits of two's complement, then 8 each; 12 bytes are 95 bits
        let start = i128::from((first << 1).cast_signed() >> 1);
        let value = rest.iter().fold(start, |value, byte| (value << 8) | i128::from(*byte));
        return i64::try_from(value).ok();
    }
    let text = std::str::from_utf8(field).ok()?.trim_matches([' ', '\0']);
    if text.is_empty() {
        return Some(0);
    }
    if !text.bytes().all(|byte| matches!(byte, b'0'..=b'7')) {
        return None;
    }
    i64::from_str_radix(text, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            kind: Type::File,
            name: b"a/b".to_vec(),
            target: Vec::new(),
            mode: 0o644,
            uid: 1000,
            gid: 1000,
            size: OCTAL_MAX,
            mtime: 1_700_000_000,
        }
    }

    #[test]
    fn a_header_comes_back() {
        assert_eq!(Header::decode(&header().encode()), Ok(Some(header())));
    }

    #[test]
    fn a_flipped_byte_is_found_by_the_checksum() {
        let block = header().encode();
        for at in 0..BLOCK {
            let mut flipped = block;
            flipped[at] ^= 1;
            let changed = Header::decode(&flipped);
            // a bit of the checksum's own padding says nothing
            assert!(changed.is_err() || changed == Ok(Some(header())), "byte {at}");
        }
    }

    #[test]
    fn numbers_in_base_256_have_a_sign() {
        assert_eq!(number(&[0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]), Some(2 << 32));
        assert_eq!(number(&[0xff; 12]), Some(-1));
        assert_eq!(number(&[0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), None);
        assert_eq!(number(b" 17 \0"), Some(15));
        assert_eq!(number(b"1 7\0"), None);
        assert_eq!(number(b"-7\0"), None);
    }
}
