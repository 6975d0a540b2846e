//! What a tree says of one name.

use bytes::Bytes;
use cove_types::{Digest, FileTime, NAME_BYTES_MAX, ParseError, TreePath, escape_bytes};

use super::varint::{Reader, put_piece, put_varint};

/// The user and group that are not written down: those of a workspace's first user.
pub const OWNER_DEFAULT: u32 = 1000;
/// The longest list of extended attributes that an entry holds itself, in bytes as encoded.
pub const XATTRS_INLINE_BYTES_MAX: usize = 1024;
/// The longest list of extended attributes at all, in bytes as encoded; it fits in a chunk.
pub const XATTRS_BYTES_MAX: usize = 128 << 10;
/// The longest value of an item, in bytes. The known fields come to less than 10 KiB; this
/// bounds the unknown ones.
pub const VALUE_BYTES_MAX: usize = 32 << 10;
/// The largest mode: permissions and the sticky bit, neither setuid nor setgid.
pub const MODE_MAX: u16 = 0o1777;
/// The largest file, in bytes, as in the kernel.
pub const SIZE_MAX: u64 = i64::MAX as u64;

/// The length of a file's chunks; every one but the last has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Grid {
    /// 128 KiB.
    #[default]
    Large,
    /// 16 KiB, for files made of pages.
    Small,
}

impl Grid {
    /// The length of a chunk.
    #[must_use]
    pub fn bytes(self) -> u64 {
        1 << self.log2()
    }

    /// The bytes of a file that one chunk list is about.
    #[must_use]
    pub fn group_bytes(self) -> u64 {
        self.bytes() * super::GROUP_CHUNKS as u64
    }

    /// How many chunks a file of `size` bytes has.
    #[must_use]
    pub fn chunks(self, size: u64) -> u64 {
        size.div_ceil(self.bytes())
    }

    /// 17 or 14, as on the wire.
    #[must_use]
    pub fn log2(self) -> u8 {
        match self {
            Self::Large => 17,
            Self::Small => 14,
        }
    }
}

/// What kind of thing a name names, with what only this kind has.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Content {
    /// A directory.
    Directory,
    /// A file.
    File {
        /// The length in bytes, holes included.
        size: u64,
        /// How it is cut into chunks.
        grid: Grid,
        /// Its chunk, when it has one only (`size` is 1 to one grid) and that is no hole. A
        /// longer file has chunk lists instead.
        chunk: Option<Digest>,
    },
    /// A symbolic link: 1 to 4,095 bytes without NUL, uninterpreted.
    Symlink(Vec<u8>),
    /// A FIFO, as a marker.
    Fifo,
    /// A socket, as a marker.
    Socket,
}

impl Content {
    /// 1 to 5, as on the wire.
    #[must_use]
    pub fn number(&self) -> u8 {
        match self {
            Self::Directory => 1,
            Self::File { .. } => 2,
            Self::Symlink(_) => 3,
            Self::Fifo => 4,
            Self::Socket => 5,
        }
    }

    /// The word, as in JSON.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::File { .. } => "file",
            Self::Symlink(_) => "symlink",
            Self::Fifo => "fifo",
            Self::Socket => "socket",
        }
    }
}

/// Extended attributes: names and values, sorted by name, no name twice.
///
/// Names are `user.*`, `system.posix_acl_access` or `system.posix_acl_default`; others are
/// not captured when storing and refused here.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct XattrList(Vec<(Vec<u8>, Vec<u8>)>);

impl XattrList {
    /// Sorts and checks.
    ///
    /// # Errors
    ///
    /// A name is not one of those above, is there twice or is over 255 bytes; or all
    /// together are over [`XATTRS_BYTES_MAX`].
    pub fn new(mut list: Vec<(Vec<u8>, Vec<u8>)>) -> Result<Self, ParseError> {
        list.sort();
        if let Some(pair) = list.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            let name = escape_bytes(&pair[0].0);
            return Err(ParseError(format!("extended attribute \"{name}\" is there twice")));
        }
        for (name, _) in &list {
            let shown = || escape_bytes(&name[..name.len().min(120)]);
            if name.len() > NAME_BYTES_MAX || name.contains(&0) {
                return Err(ParseError(format!(
                    "the name of extended attribute \"{}\" has a NUL or is over {NAME_BYTES_MAX} bytes",
                    shown()
                )));
            }
            if !is_kept(name) {
                return Err(ParseError(format!(
                    "extended attribute \"{}\" is neither user.* nor a POSIX ACL",
                    shown()
                )));
            }
        }
        let list = Self(list);
        let bytes = list.encode().len();
        if bytes > XATTRS_BYTES_MAX {
            return Err(ParseError(format!(
                "extended attributes have up to {XATTRS_BYTES_MAX} bytes, found {bytes}"
            )));
        }
        Ok(list)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The names and values.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(name, value)| (name.as_slice(), value.as_slice()))
    }

    /// The bytes of field 8, and of the chunk that field 9 names: for each attribute the
    /// length of its name, its name, the length of its value and its value.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, value) in &self.0 {
            put_piece(&mut bytes, name);
            put_piece(&mut bytes, value);
        }
        bytes
    }

    /// How many of these bytes one attribute takes.
    #[must_use]
    pub fn encoded_bytes(name: &[u8], value: &[u8]) -> usize {
        let mut lengths = Vec::with_capacity(8);
        put_varint(&mut lengths, name.len() as u64);
        put_varint(&mut lengths, value.len() as u64);
        lengths.len() + name.len() + value.len()
    }

    /// Reads what [`encode`](Self::encode) wrote, and nothing else.
    ///
    /// # Errors
    ///
    /// The bytes are not its.
    pub fn decode(bytes: &[u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new(bytes);
        let mut list = Vec::new();
        while !reader.is_empty() {
            list.push((reader.piece()?.to_vec(), reader.piece()?.to_vec()));
        }
        if !list.is_sorted() {
            return Err(ParseError("extended attributes are not in order".into()));
        }
        Self::new(list)
    }
}

/// The attributes that are POSIX ACLs.
pub const ACLS: [&[u8]; 2] = [b"system.posix_acl_access", b"system.posix_acl_default"];

/// Whether an extended attribute of this name belongs into a tree.
#[must_use]
pub fn is_kept(xattr: &[u8]) -> bool {
    ACLS.contains(&xattr) || xattr.strip_prefix(b"user.").is_some_and(|rest| !rest.is_empty())
}

/// The extended attributes of an entry, or where they are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Xattrs {
    /// Up to [`XATTRS_INLINE_BYTES_MAX`] bytes as encoded, or none.
    Inline(XattrList),
    /// More: the digest of the chunk that is the encoded list.
    Chunk(Digest),
}

impl Default for Xattrs {
    fn default() -> Self {
        Self::Inline(XattrList::default())
    }
}

impl Xattrs {
    /// Where `list` goes, with the chunk to store when it does not go into the entry.
    #[must_use]
    pub fn place(list: XattrList) -> (Self, Option<Vec<u8>>) {
        let bytes = list.encode();
        if bytes.len() <= XATTRS_INLINE_BYTES_MAX {
            (Self::Inline(list), None)
        } else {
            (Self::Chunk(Digest::of(&bytes)), Some(bytes))
        }
    }

    /// The chunk that is the list, when it is not in the entry.
    #[must_use]
    pub fn chunk(&self) -> Option<Digest> {
        match self {
            Self::Inline(_) => None,
            Self::Chunk(digest) => Some(*digest),
        }
    }
}

/// What a tree says of one name.
///
/// As bytes it is fields in ascending order of their numbers, each a number (one byte), a
/// length and as many bytes:
///
/// ```text
///  1  kind           u8      1 directory, 2 file, 3 symlink, 4 FIFO, 5 socket
///  2  mode           u16     little-endian, 0 to 0o1777
///  3  uid            varint  absent when 1000
///  4  gid            varint  absent when 1000
///  5  mtime          i64 seconds, u32 nanoseconds, little-endian
///  6  size           varint  of files, always there
///  7  target         bytes   of symlinks, always there
///  8  xattrs         list    absent when empty
///  9  xattr chunk    digest  instead of 8, when the list is over 1 KiB
/// 10  grid           u8      of files: 14; absent when 17
/// 11  chunk          digest  of files of 1 to one grid of bytes; absent when all are zeros
/// 12  link           bytes   the path of the first of the file's names in key order, with slashes
/// ```
///
/// Numbers under 128 must be understood; 0 and those from 128 on that nobody knows are told
/// apart by that: the first are refused, the second kept as they are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Entry {
    /// The kind and what only it has.
    pub content: Content,
    /// Permissions and the sticky bit, up to [`MODE_MAX`].
    pub mode: u16,
    /// The owner.
    pub uid: u32,
    /// The owner's group.
    pub gid: u32,
    /// When the content was last changed.
    pub mtime: FileTime,
    /// The extended attributes.
    pub xattrs: Xattrs,
    /// For a file with several names, the first of them in key order, which has it too.
    /// Directories have none.
    pub link: Option<TreePath>,
    /// Fields from 128 on, ascending, from a newer writer.
    pub unknown: Vec<(u8, Vec<u8>)>,
}

impl Entry {
    /// An entry of the default owner without extended attributes.
    #[must_use]
    pub fn new(content: Content, mode: u16, mtime: FileTime) -> Self {
        Self {
            content,
            mode,
            uid: OWNER_DEFAULT,
            gid: OWNER_DEFAULT,
            mtime,
            xattrs: Xattrs::default(),
            link: None,
            unknown: Vec::new(),
        }
    }

    /// Whether it is a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.content == Content::Directory
    }

    /// The length of a file; `None` for every other kind.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        match self.content {
            Content::File { size, .. } => Some(size),
            _ => None,
        }
    }

    /// Whether its chunks are in chunk lists: a file longer than one chunk.
    #[must_use]
    pub fn has_chunk_lists(&self) -> bool {
        matches!(self.content, Content::File { size, grid, .. } if size > grid.bytes())
    }

    /// The bytes.
    ///
    /// # Errors
    ///
    /// What [`decode`](Self::decode) would refuse, such as a mode over [`MODE_MAX`].
    pub fn encode(&self) -> Result<Bytes, ParseError> {
        self.check()?;
        let mut bytes = Vec::with_capacity(64);
        let mut field = |number: u8, value: &[u8]| {
            bytes.push(number);
            put_piece(&mut bytes, value);
        };
        let varint = |number: u64| {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, number);
            bytes
        };
        field(1, &[self.content.number()]);
        field(2, &self.mode.to_le_bytes());
        if self.uid != OWNER_DEFAULT {
            field(3, &varint(self.uid.into()));
        }
        if self.gid != OWNER_DEFAULT {
            field(4, &varint(self.gid.into()));
        }
        let mut mtime = [0; 12];
        mtime[..8].copy_from_slice(&self.mtime.seconds.to_le_bytes());
        mtime[8..].copy_from_slice(&self.mtime.nanoseconds.to_le_bytes());
        field(5, &mtime);
        match &self.content {
            Content::File { size, .. } => field(6, &varint(*size)),
            Content::Symlink(target) => field(7, target),
            _ => {}
        }
        match &self.xattrs {
            Xattrs::Inline(list) if list.is_empty() => {}
            Xattrs::Inline(list) => field(8, &list.encode()),
            Xattrs::Chunk(digest) => field(9, &digest.0),
        }
        if let Content::File { grid, chunk, .. } = &self.content {
            if *grid != Grid::default() {
                field(10, &[grid.log2()]);
            }
            if let Some(chunk) = chunk {
                field(11, &chunk.0);
            }
        }
        if let Some(link) = &self.link {
            field(12, link.as_bytes());
        }
        for (number, value) in &self.unknown {
            field(*number, value);
        }
        if bytes.len() > VALUE_BYTES_MAX {
            return Err(ParseError(format!(
                "an entry has up to {VALUE_BYTES_MAX} bytes, found {}",
                bytes.len()
            )));
        }
        Ok(bytes.into())
    }

    /// Reads what [`encode`](Self::encode) wrote, and nothing else: one entry has one form.
    ///
    /// # Errors
    ///
    /// The bytes break the form above in any way.
    pub fn decode(bytes: &[u8]) -> Result<Self, ParseError> {
        let mut fields = Fields::read(bytes)?;
        let kind = one_byte(fields.need(1, "kind")?, "kind")?;
        let mode = fields.need(2, "mode")?;
        let mode = u16::from_le_bytes(sized(mode, "mode")?);
        let uid = fields.owner(3, "uid")?;
        let gid = fields.owner(4, "gid")?;
        let mtime: [u8; 12] = sized(fields.need(5, "mtime")?, "mtime")?;
        let mut mtime = Reader::new(&mtime);
        let mtime = FileTime {
            seconds: i64::from_le_bytes(mtime.array()?),
            nanoseconds: u32::from_le_bytes(mtime.array()?),
        };
        let content = match kind {
            1 => Content::Directory,
            2 => Content::File {
                size: number(fields.need(6, "size")?, "size")?,
                grid: match fields.find(10) {
                    None => Grid::Large,
                    Some([14]) => Grid::Small,
                    Some(_) => return Err(ParseError("field grid is not 14".into())),
                },
                chunk: fields.digest(11, "chunk")?,
            },
            3 => Content::Symlink(fields.need(7, "target")?.to_vec()),
            4 => Content::Fifo,
            5 => Content::Socket,
            other => return Err(ParseError(format!("a kind is 1 to 5, found {other}"))),
        };
        let xattrs = match (fields.find(8), fields.digest(9, "xattr chunk")?) {
            (None, None) => Xattrs::default(),
            (Some([]), None) => return Err(ParseError("field xattrs is empty".into())),
            (Some(list), None) => Xattrs::Inline(XattrList::decode(list)?),
            (None, Some(digest)) => Xattrs::Chunk(digest),
            (Some(_), Some(_)) => {
                return Err(ParseError("fields xattrs and xattr chunk are both there".into()));
            }
        };
        let link = fields.find(12).map(TreePath::from_bytes).transpose()?;
        let unknown = fields.rest()?;
        let entry = Self { content, mode, uid, gid, mtime, xattrs, link, unknown };
        entry.check()?;
        Ok(entry)
    }

    /// What the types alone do not keep.
    fn check(&self) -> Result<(), ParseError> {
        let refused = |why: String| Err(ParseError(why));
        if self.mode > MODE_MAX {
            return refused(format!("a mode is 0 to 0o{MODE_MAX:o}, found 0o{:o}", self.mode));
        }
        if self.mtime.nanoseconds > 999_999_999 {
            return refused(format!(
                "nanoseconds are 0 to 999999999, found {}",
                self.mtime.nanoseconds
            ));
        }
        match &self.content {
            Content::File { size, .. } if *size > SIZE_MAX => {
                return refused(format!("a file has up to {SIZE_MAX} bytes, found {size}"));
            }
            Content::File { size, grid, chunk: Some(chunk) } => {
                if !(1..=grid.bytes()).contains(size) {
                    return refused(format!(
                        "a file of one chunk has 1 to {} bytes, found {size}",
                        grid.bytes()
                    ));
                }
                if chunk.is_hole() {
                    return refused("field chunk is a hole, which is not written down".into());
                }
            }
            Content::Symlink(target)
                if target.is_empty()
                    || target.len() > cove_types::PATH_BYTES_MAX
                    || target.contains(&0) =>
            {
                return refused("a symlink's target has 1 to 4095 bytes and no NUL".into());
            }
            _ => {}
        }
        match &self.xattrs {
            Xattrs::Inline(list) if list.encode().len() > XATTRS_INLINE_BYTES_MAX => {
                return refused(format!(
                    "extended attributes over {XATTRS_INLINE_BYTES_MAX} bytes are a chunk of their own"
                ));
            }
            Xattrs::Chunk(digest) if digest.is_hole() => {
                return refused("field xattr chunk is a hole".into());
            }
            _ => {}
        }
        match &self.link {
            Some(_) if self.is_directory() => return refused("a directory has a link".into()),
            Some(link) if link.is_top() => return refused("field link is empty".into()),
            _ => {}
        }
        let ascending = self.unknown.windows(2).all(|pair| pair[0].0 < pair[1].0);
        if !ascending || self.unknown.iter().any(|(number, _)| *number < 128) {
            return refused("unknown fields are not ascending from 128".into());
        }
        Ok(())
    }
}

/// The fields of an entry that have not been taken yet.
struct Fields<'a>(Vec<(u8, &'a [u8])>);

impl<'a> Fields<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, ParseError> {
        if bytes.len() > VALUE_BYTES_MAX {
            return Err(ParseError(format!(
                "an entry has up to {VALUE_BYTES_MAX} bytes, found {}",
                bytes.len()
            )));
        }
        let mut reader = Reader::new(bytes);
        let mut fields: Vec<(u8, &[u8])> = Vec::with_capacity(8);
        while !reader.is_empty() {
            let number = reader.byte()?;
            if fields.last().is_some_and(|(last, _)| *last >= number) {
                return Err(ParseError(format!("field {number} is not in ascending order")));
            }
            fields.push((number, reader.piece()?));
        }
        Ok(Self(fields))
    }

    fn find(&mut self, number: u8) -> Option<&'a [u8]> {
        let index = self.0.iter().position(|(found, _)| *found == number)?;
        Some(self.0.remove(index).1)
    }

    fn need(&mut self, number: u8, name: &str) -> Result<&'a [u8], ParseError> {
        self.find(number).ok_or_else(|| ParseError(format!("field {name} is missing")))
    }

    fn digest(&mut self, number: u8, name: &str) -> Result<Option<Digest>, ParseError> {
        self.find(number).map(|bytes| sized(bytes, name).map(Digest)).transpose()
    }

    fn owner(&mut self, number: u8, name: &str) -> Result<u32, ParseError> {
        let Some(bytes) = self.find(number) else { return Ok(OWNER_DEFAULT) };
        match u32::try_from(self::number(bytes, name)?) {
            Ok(OWNER_DEFAULT) => Err(ParseError(format!("field {name} is its default"))),
            Ok(owner) => Ok(owner),
            Err(_) => Err(ParseError(format!("field {name} is over 32 bits"))),
        }
    }

    /// What nobody took, which must be fields that may be ignored.
    fn rest(self) -> Result<Vec<(u8, Vec<u8>)>, ParseError> {
        if let Some((number, _)) = self.0.iter().find(|(number, _)| *number < 128) {
            return Err(ParseError(format!("field {number} is unknown or of another kind")));
        }
        Ok(self.0.into_iter().map(|(number, value)| (number, value.to_vec())).collect())
    }
}

fn sized<const N: usize>(bytes: &[u8], name: &str) -> Result<[u8; N], ParseError> {
    bytes
        .try_into()
        .map_err(|_| ParseError(format!("field {name} has {N} bytes, found {}", bytes.len())))
}

fn one_byte(bytes: &[u8], name: &str) -> Result<u8, ParseError> {
    sized::<1>(bytes, name).map(|[byte]| byte)
}

fn number(bytes: &[u8], name: &str) -> Result<u64, ParseError> {
    let mut reader = Reader::new(bytes);
    let number = reader.varint()?;
    if !reader.is_empty() {
        return Err(ParseError(format!("field {name} goes on after its number")));
    }
    Ok(number)
}

#[cfg(test)]
mod tests;
