//! Indexes: where many chunks lie, in one immutable object.
//!
//! All integers are little-endian. The tables are at the end, so that an index is
//! written in one pass and its tables are read by one range read of the tail.
//!
//! ```text
//! header   0  magic         8 bytes   "coveindx"
//!          8  format        u32       1
//!         12  reserved      u32       0
//! pages   16                          1,260 rows each (65,520 bytes), the last with the rest
//! packs      id            16 bytes   56 each, ascending by id
//!            bytes          u64
//!            content       32 bytes   as in the pack's trailer
//! fences     first digest  32 bytes   64 each, one a page
//!            content       32 bytes   BLAKE3 of the page
//! trailer  0  rows          u64
//!          8  packs         u32
//!         12  format        u32       1
//!         16  must          u64       features that a reader has to know
//!         24  may           u64       features that it may ignore
//!         32  index id     16 bytes
//!         48  tables       32 bytes   BLAKE3 of packs, fences and trailer up to here
//!         80  magic         8 bytes   "indxends"
//!
//! row      0  digest       32 bytes   ascending; each digest once
//!         32  frame offset  u32       from the start of the pack
//!         36  frame bytes   u32
//!         40  position      u32       where the chunk begins in the frame's plain bytes
//!         44  bytes         u32       of the chunk
//!         48  pack          u32       its place in the table of packs, from 0
//! ```

use std::collections::BinaryHeap;
use std::io::{self, Write};
use std::ops::Range;

use cove_types::{Digest, IndexId, PackId};

use crate::DecodeError;
use crate::decode::{Fields, check_features};
use crate::locations::IndexRef;
use crate::pack::IndexRow;

/// The format that this version writes, and the only one that it reads.
pub const FORMAT: u32 = 1;

/// The rows of a page that is not the last: as many as 64 KiB hold.
pub const PAGE_ROWS: usize = 1260;

/// The bytes of a row.
pub const ROW_BYTES: usize = 52;

/// The bytes of the trailer.
pub const TRAILER_BYTES: usize = 88;

/// The bytes of the header, after which the pages begin.
const HEADER_BYTES: usize = 16;

/// The bytes of a pack in the table of packs, and of a page in the fence table.
const PACK_BYTES: usize = 56;
const FENCE_BYTES: usize = 64;

/// The features that this version knows: none.
const KNOWN_FEATURES: u64 = 0;

const WHAT: &str = "index";
const MAGIC: &[u8; 8] = b"coveindx";
const MAGIC_END: &[u8; 8] = b"indxends";

/// A pack in the table of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PackEntry {
    /// Its name.
    pub id: PackId,
    /// Its length.
    pub bytes: u64,
    /// BLAKE3 of its header and frames, as in its trailer.
    pub blake3: Digest,
}

/// Where a chunk lies, in which pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// The pack.
    pub pack: PackId,
    /// The place in it.
    pub row: IndexRow,
}

/// Writes an index in one pass. What it holds in memory is the fence table: 51 KiB
/// for a million chunks.
#[derive(Debug)]
pub struct IndexWriter<W> {
    out: W,
    id: IndexId,
    packs: Vec<PackEntry>,
    page: Vec<u8>,
    first: Digest,
    last: Digest,
    fences: Vec<u8>,
    rows: u64,
}

/// Why an index was not written.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The rows come in another order than that of their digests.
    #[error("chunk {digest} does not come after the one before it")]
    NotAscending { digest: Digest },
    /// A row names a pack that the table does not.
    #[error("chunk {digest} lies in pack {pack}, which the index does not name")]
    NoSuchPack { digest: Digest, pack: PackId },
    /// The bytes could not be written.
    #[error("failed to write index {index}")]
    Io { index: IndexId, source: io::Error },
}

impl cove_types::Classify for WriteError {
    fn kind(&self) -> cove_types::ErrorKind {
        use cove_types::ErrorKind;
        match self {
            Self::NotAscending { .. } | Self::NoSuchPack { .. } => ErrorKind::Internal,
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                ErrorKind::Exhausted
            }
            Self::Io { .. } => ErrorKind::Unavailable,
        }
    }
}

impl<W: Write> IndexWriter<W> {
    /// Begins an index over `packs`, in any order; a pack that is there twice counts once.
    ///
    /// # Errors
    ///
    /// [`WriteError::Io`]; what was written is to be thrown away.
    pub fn new(mut out: W, id: IndexId, mut packs: Vec<PackEntry>) -> Result<Self, WriteError> {
        packs.sort_unstable();
        packs.dedup_by_key(|pack| pack.id);
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&FORMAT.to_le_bytes());
        header.extend_from_slice(&[0; 4]);
        out.write_all(&header).map_err(|source| WriteError::Io { index: id, source })?;
        Ok(Self {
            out,
            id,
            packs,
            page: Vec::with_capacity(PAGE_ROWS * ROW_BYTES),
            first: Digest::HOLE,
            last: Digest::HOLE,
            fences: Vec::new(),
            rows: 0,
        })
    }

    /// Appends a row, whose digest comes after that of the one before.
    ///
    /// # Errors
    ///
    /// [`WriteError`]; what was written is to be thrown away.
    pub fn push(&mut self, location: &Location) -> Result<(), WriteError> {
        let digest = location.row.digest;
        if digest <= self.last {
            return Err(WriteError::NotAscending { digest });
        }
        let no_such_pack = || WriteError::NoSuchPack { digest, pack: location.pack };
        let pack = self.packs.binary_search_by_key(&location.pack, |pack| pack.id);
        let pack = pack.ok().and_then(|n| u32::try_from(n).ok()).ok_or_else(no_such_pack)?;
        if self.page.is_empty() {
            self.first = digest;
        }
        self.last = digest;
        self.page.extend_from_slice(&digest.0);
        location.row.encode_place(&mut self.page);
        self.page.extend_from_slice(&pack.to_le_bytes());
        self.rows += 1;
        if self.page.len() == PAGE_ROWS * ROW_BYTES { self.end_page() } else { Ok(()) }
    }

    /// Ends the index; gives back what it was written to, and how a head names it.
    ///
    /// # Errors
    ///
    /// [`WriteError::Io`]; what was written is to be thrown away.
    pub fn finish(mut self) -> Result<(W, IndexRef), WriteError> {
        self.end_page()?;
        let mut tables = Vec::new();
        for pack in &self.packs {
            tables.extend_from_slice(&pack.id.0);
            tables.extend_from_slice(&pack.bytes.to_le_bytes());
            tables.extend_from_slice(&pack.blake3.0);
        }
        tables.extend_from_slice(&self.fences);
        tables.extend_from_slice(&self.rows.to_le_bytes());
        let packs = u32::try_from(self.packs.len()).expect("a table of packs fits in memory");
        tables.extend_from_slice(&packs.to_le_bytes());
        tables.extend_from_slice(&FORMAT.to_le_bytes());
        tables.extend_from_slice(&KNOWN_FEATURES.to_le_bytes());
        tables.extend_from_slice(&[0; 8]);
        tables.extend_from_slice(&self.id.0);
        let blake3 = Digest::of(&tables);
        tables.extend_from_slice(&blake3.0);
        tables.extend_from_slice(MAGIC_END);
        let index = self.id;
        let io = |source| WriteError::Io { index, source };
        self.out.write_all(&tables).and_then(|()| self.out.flush()).map_err(io)?;
        let written = reference(self.id, self.packs.len(), self.rows);
        debug_assert_eq!(written.table_bytes as usize, tables.len());
        Ok((self.out, written))
    }

    fn end_page(&mut self) -> Result<(), WriteError> {
        if self.page.is_empty() {
            return Ok(());
        }
        self.fences.extend_from_slice(&self.first.0);
        self.fences.extend_from_slice(&Digest::of(&self.page).0);
        let index = self.id;
        self.out.write_all(&self.page).map_err(|source| WriteError::Io { index, source })?;
        self.page.clear();
        Ok(())
    }
}

/// How a head names the index of so many rows over so many packs: known before it is written.
#[must_use]
pub fn reference(id: IndexId, packs: usize, rows: u64) -> IndexRef {
    let table_bytes = packs as u64 * PACK_BYTES as u64
        + rows.div_ceil(PAGE_ROWS as u64) * FENCE_BYTES as u64
        + TRAILER_BYTES as u64;
    IndexRef {
        id,
        bytes: HEADER_BYTES as u64 + rows * ROW_BYTES as u64 + table_bytes,
        rows,
        table_bytes: u32::try_from(table_bytes).expect("64 bytes for 1,260 chunks fit u32"),
    }
}

/// The tables of an index: with them one range read answers one digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexTable {
    /// The index's name.
    pub id: IndexId,
    /// How many chunks it places.
    pub rows: u64,
    packs: Vec<PackEntry>,
    fences: Vec<(Digest, Digest)>,
}

/// A page of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRef {
    /// Its number, from 0.
    pub number: usize,
    /// Where it begins in the object.
    pub offset: u64,
    /// How long it is.
    pub bytes: usize,
    /// BLAKE3 of it.
    pub blake3: Digest,
}

impl PageRef {
    /// The bytes of the object that it lies in.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        self.offset..self.offset + self.bytes as u64
    }
}

impl IndexTable {
    /// How long the tables are of the index of `index_bytes` that ends with `tail` (at
    /// least [`TRAILER_BYTES`] of it), for when no head tells.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when it is not the end of such an index.
    pub fn table_bytes(tail: &[u8], index_bytes: u64) -> Result<usize, DecodeError> {
        Trailer::decode(tail, index_bytes).map(|trailer| trailer.table_bytes)
    }

    /// Reads the tables of an index of `index_bytes` from its last bytes; `tail` may be
    /// longer than they are.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] on any byte that is not as written; the memory taken is bounded by the
    /// length of `tail`.
    pub fn decode_tail(tail: &[u8], index_bytes: u64) -> Result<Self, DecodeError> {
        let damaged = |reason: &str| DecodeError::damaged(WHAT, reason);
        let trailer = Trailer::decode(tail, index_bytes)?;
        let start = tail.len().checked_sub(trailer.table_bytes);
        let tables = &tail[start.ok_or_else(|| damaged("only a part of its tables is here"))?..];
        let (covered, end) = tables.split_at(tables.len() - 40);
        if Digest::of(covered).0 != end[..32] {
            return Err(damaged("its tables are not what was written"));
        }
        // only now: a flipped bit is damage, and no format or feature of the future
        if trailer.format != FORMAT {
            let found = trailer.format;
            return Err(DecodeError::UnknownFormat { what: WHAT, found, known: FORMAT });
        }
        check_features(WHAT, trailer.must, KNOWN_FEATURES)?;
        let mut fields = Fields::new(WHAT, covered);
        let mut packs: Vec<PackEntry> = Vec::with_capacity(trailer.packs);
        for _ in 0..trailer.packs {
            let id = PackId(fields.array()?);
            let pack = PackEntry { id, bytes: fields.u64()?, blake3: fields.digest()? };
            if packs.last().is_some_and(|last| last.id >= id) {
                return Err(damaged("its packs are not in ascending order"));
            }
            packs.push(pack);
        }
        let mut fences: Vec<(Digest, Digest)> = Vec::with_capacity(trailer.pages);
        for _ in 0..trailer.pages {
            let fence = (fields.digest()?, fields.digest()?);
            if fences.last().is_some_and(|last| last.0 >= fence.0) {
                return Err(damaged("its pages are not in ascending order"));
            }
            fences.push(fence);
        }
        Ok(Self { id: trailer.id, rows: trailer.rows, packs, fences })
    }

    /// The packs that its chunks lie in, ascending by id.
    #[must_use]
    pub fn packs(&self) -> &[PackEntry] {
        &self.packs
    }

    /// How many pages it has.
    #[must_use]
    pub fn page_count(&self) -> usize {
        self.fences.len()
    }

    /// The page `number`, from 0.
    #[must_use]
    pub fn page(&self, number: usize) -> Option<PageRef> {
        let (_, blake3) = *self.fences.get(number)?;
        let before = number * PAGE_ROWS;
        let rows = usize::try_from(self.rows).unwrap_or(usize::MAX) - before;
        Some(PageRef {
            number,
            offset: (HEADER_BYTES + before * ROW_BYTES) as u64,
            bytes: rows.min(PAGE_ROWS) * ROW_BYTES,
            blake3,
        })
    }

    /// The page that holds `digest` if the index does.
    #[must_use]
    pub fn page_of(&self, digest: &Digest) -> Option<PageRef> {
        let after = self.fences.partition_point(|(first, _)| first <= digest);
        self.page(after.checked_sub(1)?)
    }

    /// All rows of a page, checked.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when `bytes` are not that page, or place a chunk where none can lie.
    pub fn decode_page(&self, page: &PageRef, bytes: &[u8]) -> Result<Vec<Location>, DecodeError> {
        check_page(page, bytes)?;
        let (rows, _) = bytes.as_chunks::<ROW_BYTES>();
        let mut last = Digest::HOLE;
        rows.iter()
            .map(|row| {
                let location = self.decode_row(row)?;
                if location.row.digest <= last {
                    return Err(DecodeError::damaged(WHAT, "its rows are not in ascending order"));
                }
                last = location.row.digest;
                Ok(location)
            })
            .collect()
    }

    /// The place of `digest` according to a page, which is checked whole first: about 20 µs.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when `bytes` are not that page, or place the chunk where none can lie.
    pub fn lookup_page(
        &self,
        page: &PageRef,
        bytes: &[u8],
        digest: &Digest,
    ) -> Result<Option<Location>, DecodeError> {
        check_page(page, bytes)?;
        self.lookup_checked_page(bytes, digest)
    }

    /// As [`lookup_page`](Self::lookup_page), in a page that was checked before and was
    /// in memory since.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when the page places the chunk where none can lie.
    pub fn lookup_checked_page(
        &self,
        bytes: &[u8],
        digest: &Digest,
    ) -> Result<Option<Location>, DecodeError> {
        let (rows, _) = bytes.as_chunks::<ROW_BYTES>();
        match rows.binary_search_by(|row| row[..32].cmp(&digest.0)) {
            Ok(at) => self.decode_row(&rows[at]).map(Some),
            Err(_) => Ok(None),
        }
    }

    fn decode_row(&self, row: &[u8; ROW_BYTES]) -> Result<Location, DecodeError> {
        let mut fields = Fields::new(WHAT, row);
        let digest = fields.digest()?;
        let row = IndexRow::decode_place(WHAT, digest, &mut fields)?;
        let number = usize::try_from(fields.u32()?).unwrap_or(usize::MAX);
        let damaged = |reason: &str| DecodeError::damaged(WHAT, reason);
        let pack = self.packs.get(number).ok_or_else(|| damaged("a row names no pack"))?;
        if row.frame().end > pack.bytes {
            return Err(damaged("a frame ends past its pack"));
        }
        Ok(Location { pack: pack.id, row })
    }
}

/// Refuses bytes that are not those of `page`.
///
/// # Errors
///
/// [`DecodeError`].
pub fn check_page(page: &PageRef, bytes: &[u8]) -> Result<(), DecodeError> {
    if bytes.len() != page.bytes || Digest::of(bytes) != page.blake3 {
        let reason = format!("page {} is not what was written", page.number);
        return Err(DecodeError::damaged(WHAT, reason));
    }
    Ok(())
}

/// Refuses bytes that an index does not begin with.
///
/// # Errors
///
/// [`DecodeError`].
pub fn check_header(bytes: &[u8]) -> Result<(), DecodeError> {
    let mut fields = Fields::new(WHAT, bytes);
    fields.literal(MAGIC, "it does not begin as an index")?;
    fields.literal(&FORMAT.to_le_bytes(), "its header has another format than its trailer")?;
    fields.literal(&[0; 4], "a reserved field is used")
}

/// Checks a whole index, its header, its tables and every row, one page at a time; gives its
/// tables.
///
/// # Errors
///
/// [`DecodeError`] on any byte that is not as written.
pub fn check_whole(bytes: &[u8]) -> Result<IndexTable, DecodeError> {
    let table = IndexTable::decode_tail(bytes, bytes.len() as u64)?;
    check_header(bytes)?;
    let mut last: Option<Digest> = None;
    for page in (0..table.page_count()).filter_map(|number| table.page(number)) {
        let rows = table.decode_page(&page, page_of(bytes, &page)?)?;
        let first = rows.first().map(|row| row.row.digest);
        let ascending = last.is_none_or(|last| Some(last) < first);
        if !ascending || first != Some(table.fences[page.number].0) {
            return Err(DecodeError::damaged(WHAT, "a page begins elsewhere than its fence"));
        }
        last = rows.last().map(|row| row.row.digest);
    }
    Ok(table)
}

/// The rows of an index, of which `bytes` are the whole object, ascending by digest; one page at
/// a time is decoded.
pub fn rows<'a>(
    table: &'a IndexTable,
    bytes: &'a [u8],
) -> impl Iterator<Item = Result<Location, DecodeError>> + 'a {
    (0..table.page_count()).filter_map(|number| table.page(number)).flat_map(move |page| {
        let rows = page_of(bytes, &page).and_then(|bytes| table.decode_page(&page, bytes));
        let (rows, error) = match rows {
            Ok(rows) => (rows, None),
            Err(error) => (Vec::new(), Some(Err(error))),
        };
        rows.into_iter().map(Ok).chain(error)
    })
}

fn page_of<'a>(bytes: &'a [u8], page: &PageRef) -> Result<&'a [u8], DecodeError> {
    let start = usize::try_from(page.offset).unwrap_or(usize::MAX);
    bytes
        .get(start..start.saturating_add(page.bytes))
        .ok_or_else(|| DecodeError::damaged(WHAT, "it ends too early"))
}

/// The last bytes of an index, with bounds that hold among them.
#[derive(Debug)]
struct Trailer {
    id: IndexId,
    format: u32,
    must: u64,
    rows: u64,
    packs: usize,
    pages: usize,
    table_bytes: usize,
}

impl Trailer {
    fn decode(tail: &[u8], index_bytes: u64) -> Result<Self, DecodeError> {
        let damaged = |reason: &str| DecodeError::damaged(WHAT, reason);
        if tail.len() as u64 > index_bytes {
            return Err(damaged("its tail is longer than it is"));
        }
        let start = tail.len().checked_sub(TRAILER_BYTES);
        let mut fields =
            Fields::new(WHAT, &tail[start.ok_or_else(|| damaged("it ends too early"))?..]);
        let rows = fields.u64()?;
        let packs = u64::from(fields.u32()?);
        let format = fields.u32()?;
        let must = fields.u64()?;
        let _may = fields.u64()?;
        let id = IndexId(fields.array()?);
        let _tables = fields.digest()?;
        fields.literal(MAGIC_END, "it does not end as an index")?;
        let pages = rows.div_ceil(PAGE_ROWS as u64);
        let table_bytes =
            packs * PACK_BYTES as u64 + pages * FENCE_BYTES as u64 + TRAILER_BYTES as u64;
        let bytes = rows
            .checked_mul(ROW_BYTES as u64)
            .and_then(|rows| rows.checked_add(table_bytes + HEADER_BYTES as u64));
        if bytes != Some(index_bytes) {
            return Err(damaged("its parts do not add up to its length"));
        }
        let too_long = |_| damaged("it is too long for this machine");
        Ok(Self {
            id,
            format,
            must,
            rows,
            packs: usize::try_from(packs).map_err(too_long)?,
            pages: usize::try_from(pages).map_err(too_long)?,
            table_bytes: usize::try_from(table_bytes).map_err(too_long)?,
        })
    }
}

/// Rows of several sources as one ascending run, each digest once.
///
/// Each source is ascending. Of a chunk that several place, the first source's place
/// is taken: pass the youngest sources first, and leave out rows of packs that were rewritten.
/// A source's error ends the run.
#[derive(Debug)]
pub struct Merge<I: Iterator> {
    sources: Vec<I>,
    heads: BinaryHeap<Waiting>,
    failed: Option<DecodeError>,
    last: Option<Digest>,
}

/// The next row of a source; the greatest of a heap is the smallest digest.
#[derive(Debug, PartialEq, Eq)]
struct Waiting {
    location: Location,
    source: usize,
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let key = |waiting: &Self| (waiting.location.row.digest, waiting.source);
        key(other).cmp(&key(self))
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Merges ascending sources; see [`Merge`].
pub fn merge<I>(sources: Vec<I>) -> Merge<I>
where
    I: Iterator<Item = Result<Location, DecodeError>>,
{
    let count = sources.len();
    let mut merge =
        Merge { sources, heads: BinaryHeap::with_capacity(count), failed: None, last: None };
    (0..count).for_each(|source| merge.advance(source));
    merge
}

impl<I> Merge<I>
where
    I: Iterator<Item = Result<Location, DecodeError>>,
{
    fn advance(&mut self, source: usize) {
        match self.sources[source].next() {
            Some(Ok(location)) => self.heads.push(Waiting { location, source }),
            Some(Err(error)) => self.failed = Some(error),
            None => {}
        }
    }
}

impl<I> Iterator for Merge<I>
where
    I: Iterator<Item = Result<Location, DecodeError>>,
{
    type Item = Result<Location, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(error) = self.failed.take() {
                self.heads.clear();
                return Some(Err(error));
            }
            let Waiting { location, source } = self.heads.pop()?;
            self.advance(source);
            if self.last != Some(location.row.digest) {
                self.last = Some(location.row.digest);
                return Some(Ok(location));
            }
        }
    }
}

#[cfg(test)]
mod tests;
