//! Entries out of a tar stream, each checked as a whole before it is given out.

use std::io::{self, Read};

use cove_types::{FileTime, escape_bytes};

use super::extract::ExtractError;
use super::header::{BLOCK, Block, Header, Type, name_of};
use super::pax;

/// What an entry makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// A regular file; its bytes follow.
    File,
    Directory,
    Symlink(Vec<u8>),
    /// Another name for the entry of this name.
    HardLink(Vec<u8>),
    Fifo,
    Socket,
}

/// One entry, its extended headers and long names taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// As it is in the archive, unchecked.
    pub name: Vec<u8>,
    pub what: What,
    /// The lowest 12 bits.
    pub mode: u32,
    pub mtime: FileTime,
    /// Bytes of content; 0 for all but files.
    pub size: u64,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Whether it has an ACL as text or attributes of another program's, which are not read.
    pub has_foreign_attributes: bool,
}

impl Entry {
    /// Its name, safe to print.
    pub fn shown(&self) -> String {
        shown(&self.name)
    }

    /// Refuses it.
    pub fn refused(&self, why: impl Into<String>) -> ExtractError {
        ExtractError::Refused { entry: self.shown(), why: why.into() }
    }
}

/// The first bytes of a name, safe to print.
fn shown(name: &[u8]) -> String {
    const SHOWN_BYTES_MAX: usize = 200;
    if name.len() > SHOWN_BYTES_MAX {
        return format!("{}…", escape_bytes(&name[..SHOWN_BYTES_MAX]));
    }
    escape_bytes(name)
}

/// How many extended headers may stand before one entry.
///
/// A real archive has one, or a name and a target, and a global one at its beginning. Without a
/// bound an archive of such headers alone would be read for ever and hold no entry to count.
const HEADERS_BEFORE_ENTRY_MAX: usize = 4;

/// How many bytes of zeros after the end are read; programs fill the last 10 KiB or so.
const PADDING_BYTES_MAX: u64 = 1 << 20;

/// Reads a stream once, in order.
pub(super) struct Reader<'a> {
    from: &'a mut dyn Read,
    /// Content of the present entry that is not read yet, and zeros after it.
    content: u64,
    padding: u64,
    /// The present entry, to name it when the stream ends within it.
    at: Vec<u8>,
}

/// What stood before an entry about it.
#[derive(Default)]
struct Before {
    pax: Option<Vec<u8>>,
    name: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
}

impl<'a> Reader<'a> {
    pub fn new(from: &'a mut dyn Read) -> Self {
        Self { from, content: 0, padding: 0, at: Vec::new() }
    }

    /// The next entry, after whatever is left of the one before; `None` at the archive's end.
    ///
    /// # Errors
    ///
    /// The archive is refused at this entry, or cannot be read. Nothing is to be read after that.
    pub fn next(&mut self) -> Result<Option<Entry>, ExtractError> {
        let mut scratch = [0; 8 * BLOCK];
        while self.content > 0 {
            self.read(&mut scratch)?;
        }
        self.skip_padding()?;
        let mut before = Before::default();
        for _ in 0..=HEADERS_BEFORE_ENTRY_MAX {
            let block = self.block()?;
            let header = Header::decode(&block);
            let header = header.map_err(|why| {
                // the real name may have come before
                let name = before.name.clone().unwrap_or_else(|| name_of(&block));
                ExtractError::Refused { entry: shown(&name), why }
            })?;
            let Some(header) = header else {
                if before.pax.is_some() || before.name.is_some() || before.target.is_some() {
                    return Err(self.refused("the archive ends after an extended header"));
                }
                self.end()?;
                return Ok(None);
            };
            self.at.clone_from(&header.name);
            let slot = match header.kind {
                Type::Pax => &mut before.pax,
                Type::LongName => &mut before.name,
                Type::LongTarget => &mut before.target,
                Type::GlobalPax => {
                    let records = self.long(header.size)?;
                    self.check_global(&records)?;
                    continue;
                }
                Type::File | Type::HardLink | Type::Symlink | Type::Directory | Type::Fifo => {
                    return self.entry(header, before).map(Some);
                }
            };
            if slot.is_some() {
                return Err(self.refused("it has two extended headers of one kind"));
            }
            *slot = Some(self.long(header.size)?);
        }
        Err(self.refused(format!(
            "more than {HEADERS_BEFORE_ENTRY_MAX} extended headers stand before one entry"
        )))
    }

    /// Reads content of the present entry into the whole of `buffer` or to the content's end, and
    /// says how much that was; 0 at the end.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ExtractError> {
        let wanted = usize::try_from(self.content).unwrap_or(usize::MAX).min(buffer.len());
        self.fill(&mut buffer[..wanted])?;
        self.content -= wanted as u64;
        Ok(wanted)
    }

    fn entry(&mut self, header: Header, before: Before) -> Result<Entry, ExtractError> {
        let mut entry = Entry {
            name: before.name.clone().map_or(header.name, until_nul),
            what: What::File,
            mode: header.mode,
            mtime: FileTime { seconds: header.mtime, nanoseconds: 0 },
            size: header.size,
            xattrs: Vec::new(),
            has_foreign_attributes: false,
        };
        let mut target = before.target.clone().map_or(header.target, until_nul);
        let mut kind = None;
        for (key, value) in pax::parse(before.pax.as_deref().unwrap_or_default())
            .map_err(|why| entry.refused(why))?
        {
            match key {
                b"path" if before.name.is_some() => return Err(entry.refused("it has two names")),
                b"path" => entry.name = value.to_vec(),
                b"linkpath" if before.target.is_some() => {
                    return Err(entry.refused("it has two targets"));
                }
                b"linkpath" => target = value.to_vec(),
                b"size" => {
                    entry.size = pax::decimal(value)
                        .ok_or_else(|| entry.refused("the size in its extended header is none"))?;
                }
                b"mtime" => {
                    entry.mtime = pax::parse_time(value)
                        .ok_or_else(|| entry.refused("the time in its extended header is none"))?;
                }
                pax::KIND => kind = Some(value.to_vec()),
                _ if key.starts_with(b"GNU.sparse.") || key == b"SCHILY.realsize" => {
                    return Err(entry.refused("it is a sparse file of the GNU format"));
                }
                _ if key.starts_with(b"SCHILY.acl.") || key.starts_with(b"LIBARCHIVE.xattr.") => {
                    entry.has_foreign_attributes = true;
                }
                _ => {
                    if let Some(name) = pax::xattr_name(key) {
                        entry.xattrs.retain(|(known, _)| *known != name);
                        entry.xattrs.push((name, value.to_vec()));
                    }
                }
            }
        }
        self.at.clone_from(&entry.name);
        entry.what =
            what(header.kind, target, kind.as_deref(), &entry).map_err(|why| entry.refused(why))?;
        if entry.what != What::File && entry.size != 0 {
            // programs disagree whether such content follows: each would read other entries
            return Err(entry.refused("it has content and is not a regular file"));
        }
        self.begin(entry.size);
        Ok(entry)
    }

    /// A global header may say what concerns nobody, such as the commit that `git archive` names.
    fn check_global(&self, records: &[u8]) -> Result<(), ExtractError> {
        for (key, _) in pax::parse(records).map_err(|why| self.refused(why))? {
            let concerns_files = matches!(key, b"path" | b"linkpath" | b"size" | pax::KIND)
                || key.starts_with(b"GNU.sparse.")
                || key.starts_with(pax::XATTR);
            if concerns_files {
                let key = escape_bytes(key);
                return Err(self.refused(format!("a global header sets {key} for all entries")));
            }
        }
        Ok(())
    }

    /// The bytes of an extended header.
    fn long(&mut self, size: u64) -> Result<Vec<u8>, ExtractError> {
        if size > pax::HEADER_BYTES_MAX {
            return Err(self.refused(format!(
                "its extended header has {size} bytes, and at most {} are read",
                pax::HEADER_BYTES_MAX
            )));
        }
        self.begin(size);
        let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
        self.read(&mut bytes)?;
        self.skip_padding()?;
        Ok(bytes)
    }

    fn begin(&mut self, size: u64) {
        self.content = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
    }

    fn skip_padding(&mut self) -> Result<(), ExtractError> {
        let mut padding = [0; BLOCK];
        let length = usize::try_from(std::mem::take(&mut self.padding)).unwrap_or_default();
        self.fill(&mut padding[..length])
    }

    fn block(&mut self) -> Result<Block, ExtractError> {
        let mut block = [0; BLOCK];
        self.fill(&mut block)?;
        Ok(block)
    }

    /// The second block of zeros, and zeros until the stream's end.
    fn end(&mut self) -> Result<(), ExtractError> {
        self.at = b"its end".to_vec();
        let mut block = self.block()?;
        let mut read = 0;
        loop {
            if block.iter().any(|byte| *byte != 0) {
                return Err(self.refused("something follows after the end"));
            }
            if read > PADDING_BYTES_MAX {
                return Err(self.refused("too many zeros follow after the end"));
            }
            block = [0; BLOCK];
            match self.from.read(&mut block) {
                Ok(0) => return Ok(()),
                Ok(more) => read += more as u64,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(ExtractError::Stream { source }),
            }
        }
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), ExtractError> {
        self.from.read_exact(buffer).map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => self.refused("the archive ends early"),
            _ => ExtractError::Stream { source },
        })
    }

    fn refused(&self, why: impl Into<String>) -> ExtractError {
        ExtractError::Refused { entry: shown(&self.at), why: why.into() }
    }
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
        bytes.truncate(end);
    }
    bytes
}

fn what(kind: Type, target: Vec<u8>, ours: Option<&[u8]>, entry: &Entry) -> Result<What, String> {
    let what = match kind {
        // as v7 wrote directories
        Type::File if entry.name.ends_with(b"/") => What::Directory,
        Type::File => What::File,
        Type::Directory => What::Directory,
        Type::Fifo => What::Fifo,
        Type::Symlink => What::Symlink(target),
        Type::HardLink => What::HardLink(target),
        Type::Pax | Type::GlobalPax | Type::LongName | Type::LongTarget => {
            return Err("it is an extended header".into());
        }
    };
    match (ours, what) {
        (None, what) => Ok(what),
        (Some(b"socket"), What::File) => Ok(What::Socket),
        (Some(_), _) => Err("its kind is not known".into()),
    }
}
