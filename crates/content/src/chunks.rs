//! Chunks by their digests, wherever a volume's locations say that they are.
//!
//! **Invariant:** a chunk that is given out has the digest that was asked for.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use cove_objects::{Key, ReadError};
use cove_types::{Classify, Digest, ErrorKind, PackId};

use crate::chunk::CHUNK_BYTES_MAX;
use crate::decode::DecodeError;
use crate::frame;
use crate::index::{self, IndexTable, PageRef};
use crate::locations::{IndexRef, Locations, PackRef};
use crate::pack::{IndexRow, PackIndex};
use crate::remote::Remote;
use crate::tree::{self, Nodes};

mod cache_dir;
mod frames;
mod kept;
mod pack_cache;

use pack_cache::lock;

pub(crate) use frames::Checked;
pub(crate) use kept::Kept;
pub use pack_cache::PackCache;

/// Encoded frames kept in memory, in bytes.
const FRAMES_BYTES_MAX: usize = 48 << 20;
/// Decoded frames kept in memory, in bytes: neighbours in a gathered frame are asked for in a row.
const DECODED_BYTES_MAX: usize = 2 << 20;
/// Requests for frames and for pages under way at once.
const PARALLEL: usize = 8;
/// Requests for footers and tables under way at once: all that a head names, so that they cost one
/// round trip.
const PARALLEL_SMALL: usize = 72;
/// The longest request for frames or pages.
const REQUEST_BYTES_MAX: u64 = 4 << 20;
/// An index up to this length is fetched whole: with its 20,000 chunks in one request.
const WHOLE_INDEX_BYTES: u64 = 1 << 20;
/// Whoever asked for so many pages of an index asks for more, in any order: digests have none.
const FEW_PAGES: usize = 16;
/// The neighbours that come with a page then.
const PAGES_AT_ONCE: usize = 16;

/// Where a chunk lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The pack.
    pub pack: PackId,
    /// The frame and the place in it.
    pub row: IndexRow,
}

/// Reads the chunks that one set of locations names. Blocks; use it on blocking threads.
pub struct Chunks {
    remote: Remote,
    cache: Arc<PackCache>,
    locations: Locations,
    tables: Mutex<Option<Arc<Tables>>>,
    frames: Mutex<Kept<FrameAt, Bytes>>,
    decoded: Mutex<Kept<FrameAt, Arc<Vec<u8>>>>,
    /// The frames that were lost or damaged once and were asked for again, and whether they were given then.
    read_again: Mutex<HashMap<FrameAt, bool>>,
}

/// A frame: its pack and where it begins there.
type FrameAt = (PackId, u32);

/// What tells where chunks lie: the footers of young packs and the tables of indexes.
struct Tables {
    footers: Vec<Arc<PackIndex>>,
    indexes: Vec<Arc<IndexTable>>,
    /// Why some of them are missing here; a chunk that is nowhere else may be in those.
    damaged: Vec<ChunkError>,
}

/// Whether a chunk has a place. An error is damage that keeps it from being known.
pub(crate) type Located = Result<Option<Place>, ChunkError>;

impl Chunks {
    /// A reader of what `locations` name.
    #[must_use]
    pub fn new(remote: Remote, cache: Arc<PackCache>, locations: Locations) -> Self {
        Self {
            remote,
            cache,
            locations,
            tables: Mutex::default(),
            frames: Mutex::new(Kept::new(FRAMES_BYTES_MAX)),
            decoded: Mutex::new(Kept::new(DECODED_BYTES_MAX)),
            read_again: Mutex::default(),
        }
    }

    /// The store it reads from.
    #[must_use]
    pub fn remote(&self) -> &Remote {
        &self.remote
    }

    /// The cache it shares.
    #[must_use]
    pub fn cache(&self) -> &Arc<PackCache> {
        &self.cache
    }

    /// What it reads.
    #[must_use]
    pub fn locations(&self) -> &Locations {
        &self.locations
    }

    /// The footers and tables, fetched together the first time (one round trip).
    fn tables(&self) -> Result<Arc<Tables>, ChunkError> {
        let mut slot = lock(&self.tables);
        if let Some(tables) = slot.as_ref() {
            return Ok(Arc::clone(tables));
        }
        let mut tables = Tables { footers: Vec::new(), indexes: Vec::new(), damaged: Vec::new() };
        let (footers, indexes) = self.read(&self.locations.packs, &self.locations.indexes)?;
        for footer in footers {
            match footer {
                Ok(footer) => tables.footers.push(footer),
                Err(damage) => tables.damaged.push(damage),
            }
        }
        for index in indexes {
            match index {
                Ok(index) => tables.indexes.push(index),
                Err(damage) => tables.damaged.push(damage),
            }
        }
        let tables = Arc::new(tables);
        *slot = Some(Arc::clone(&tables));
        Ok(tables)
    }

    /// Footers and tables, in the order asked for; those that are not cached are fetched together.
    fn read(&self, packs: &[PackRef], indexes: &[IndexRef]) -> Result<ReadTables, ChunkError> {
        let mut footers: Vec<_> = packs.iter().map(|pack| self.cache.find(pack).map(Ok)).collect();
        let mut tables: Vec<_> =
            indexes.iter().map(|index| self.cache.find_table(index).map(Ok)).collect();
        let mut wanted: Vec<(Key, Range<u64>)> = Vec::new();
        for (pack, _) in packs.iter().zip(&footers).filter(|(_, found)| found.is_none()) {
            let from = pack.bytes.saturating_sub(u64::from(pack.footer_bytes));
            wanted.push((self.remote.pack_key(&pack.id), from..pack.bytes));
        }
        for (index, _) in indexes.iter().zip(&tables).filter(|(_, found)| found.is_none()) {
            let is_small = index.bytes <= WHOLE_INDEX_BYTES;
            let from = index.bytes.saturating_sub(u64::from(index.table_bytes));
            let from = if is_small { 0 } else { from };
            wanted.push((self.remote.index_key(&index.id), from..index.bytes));
        }
        let fetched = self.remote.get_each(&wanted, PARALLEL_SMALL);
        let mut fetched = wanted.iter().zip(fetched);
        for (pack, slot) in packs.iter().zip(&mut footers).filter(|(_, slot)| slot.is_none()) {
            let Some((wanted, bytes)) = fetched.next() else { break };
            *slot = Some(self.read_twice(wanted, bytes, |bytes| self.cache.keep(pack, bytes))?);
        }
        for (index, slot) in indexes.iter().zip(&mut tables).filter(|(_, slot)| slot.is_none()) {
            let Some((wanted, bytes)) = fetched.next() else { break };
            let keep = |bytes: &Bytes| self.cache.keep_index(index, bytes);
            *slot = Some(self.read_twice(wanted, bytes, keep)?);
        }
        Ok((footers.into_iter().flatten().collect(), tables.into_iter().flatten().collect()))
    }

    /// What `keep` makes of a part of an object that was read. That it is lost or damaged is believed when
    /// a second read says so: a store, or who passes its answers on, may be wrong once.
    fn read_twice<T>(
        &self,
        (key, range): &(Key, Range<u64>),
        bytes: Result<Bytes, ReadError>,
        keep: impl Fn(&Bytes) -> Result<T, DecodeError>,
    ) -> Result<Result<T, ChunkError>, ChunkError> {
        match damage_only(key, bytes, &keep)? {
            Ok(kept) => Ok(Ok(kept)),
            Err(_) => damage_only(key, self.remote.get_range(key, range.clone()), keep),
        }
    }

    /// The footers of `packs`, in their order; one that is lost or damaged says so.
    ///
    /// # Errors
    ///
    /// The store did not give them for another reason.
    pub fn footers_of(&self, packs: &[PackRef]) -> Result<Vec<Read<PackIndex>>, ChunkError> {
        self.read(packs, &[]).map(|(footers, _)| footers)
    }

    /// All packs that the locations name, by themselves or through an index.
    ///
    /// # Errors
    ///
    /// The store did not give an index for another reason.
    pub fn packs(&self) -> Result<NamedPacks, ChunkError> {
        let mut packs: Vec<(PackId, u64)> =
            self.locations.packs.iter().map(|pack| (pack.id, pack.bytes)).collect();
        let mut damaged = Vec::new();
        for index in self.read(&[], &self.locations.indexes)?.1 {
            match index {
                Ok(index) => packs.extend(index.packs().iter().map(|pack| (pack.id, pack.bytes))),
                Err(damage) => damaged.push(damage),
            }
        }
        packs.sort_unstable();
        packs.dedup();
        Ok(NamedPacks { packs, damaged })
    }

    /// A whole index from the store, past all caches, each byte checked.
    ///
    /// # Errors
    ///
    /// It could not be read, or is lost or damaged.
    pub fn whole_index(&self, index: &IndexRef) -> Result<(IndexTable, Bytes), ChunkError> {
        let key = self.remote.index_key(&index.id);
        // its length is known; another is another index
        let object = self
            .remote
            .get_at_most(&key, index.bytes)
            .map_err(|source| ChunkError::Read { source })?;
        let check = || {
            let table = index::check_whole(&object.bytes)?;
            match table.id == index.id && object.bytes.len() as u64 == index.bytes {
                true => Ok(table),
                false => Err(DecodeError::damaged("index", "it is another index")),
            }
        };
        let table =
            check().map_err(|source| ChunkError::Damaged { object: key.to_string(), source })?;
        Ok((table, object.bytes))
    }

    /// Where a chunk lies; `None` when the locations do not have it.
    ///
    /// # Errors
    ///
    /// A footer or an index could not be read, or one that is lost or damaged may have it.
    pub fn locate(&self, digest: &Digest) -> Result<Option<Place>, ChunkError> {
        self.locate_all(&[*digest])?.pop().unwrap_or(Ok(None))
    }

    /// Whether a chunk need not be stored again. One that only a lost or damaged object may
    /// have is stored again: so damage ends with the next change of a file.
    ///
    /// # Errors
    ///
    /// A footer or an index could not be read for another reason.
    pub fn has(&self, digest: &Digest) -> Result<bool, ChunkError> {
        match self.locate(digest) {
            Ok(place) => Ok(place.is_some()),
            Err(error) if error.is_damage() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Where chunks lie, in the order asked for. The pages of all indexes that are needed for
    /// it are fetched together (one round trip for up to 8 of them).
    pub(crate) fn locate_all(&self, digests: &[Digest]) -> Result<Vec<Located>, ChunkError> {
        let tables = self.tables()?;
        let young = |digest: &Digest| {
            let found = |footer: &Arc<PackIndex>| Some((footer.id, *footer.find(digest)?));
            // what was stored again lies in a younger pack, and the older one may be damaged
            let youngest = tables.footers.iter().rev().find_map(found);
            youngest.map(|(pack, row)| Place { pack, row })
        };
        let mut located: Vec<Located> = digests.iter().map(|digest| Ok(young(digest))).collect();
        let mut wanted: Vec<(usize, PageRef)> = Vec::new();
        for (digest, _) in digests.iter().zip(&located).filter(|(_, place)| is_nowhere(place)) {
            let pages = tables.indexes.iter().map(|table| table.page_of(digest)).enumerate();
            wanted.extend(pages.filter_map(|(number, page)| Some((number, page?))));
        }
        let pages = self.pages(&tables.indexes, wanted)?;
        for (digest, slot) in digests.iter().zip(&mut located) {
            if is_nowhere(slot) {
                *slot = self.locate_in(&tables, &pages, digest);
            }
        }
        Ok(located)
    }

    /// Where the indexes say that a chunk lies.
    fn locate_in(&self, tables: &Tables, pages: &Pages, digest: &Digest) -> Located {
        let mut damage = tables.damaged.first().map(ChunkError::said_again);
        for (number, table) in tables.indexes.iter().enumerate().rev() {
            let Some(page) = table.page_of(digest) else { continue };
            match pages.get(&(number, page.number)) {
                Some(Ok(bytes)) => match table.lookup_checked_page(bytes, digest) {
                    Ok(Some(location)) => {
                        return Ok(Some(Place { pack: location.pack, row: location.row }));
                    }
                    Ok(None) => {}
                    // an older index may know another place
                    Err(source) => {
                        let object = self.remote.index_key(&table.id).to_string();
                        damage = damage.or(Some(ChunkError::Damaged { object, source }));
                    }
                },
                Some(Err(error)) => damage = damage.or_else(|| Some(error.said_again())),
                None => {}
            }
        }
        damage.map_or(Ok(None), Err)
    }

    /// Pages by the place of their index and their number, from the cache or fetched.
    fn pages(
        &self,
        indexes: &[Arc<IndexTable>],
        mut wanted: Vec<(usize, PageRef)>,
    ) -> Result<Pages, ChunkError> {
        wanted.sort_unstable_by_key(|(index, page)| (*index, page.number));
        wanted.dedup_by_key(|(index, page)| (*index, page.number));
        let mut pages = Pages::new();
        let mut missing: Vec<(usize, PageRef)> = Vec::new();
        for (index, page) in wanted {
            match self.cache.find_page(indexes[index].id, &page) {
                Some(bytes) => {
                    pages.insert((index, page.number), Ok(bytes));
                }
                None => missing.extend(self.with_neighbours(indexes, index, page)),
            }
        }
        missing.dedup_by_key(|(index, page)| (*index, page.number));
        let mut requests: Vec<(usize, Range<u64>, Vec<PageRef>)> = Vec::new();
        for (index, page) in missing {
            match requests.last_mut() {
                Some((last, whole, parts))
                    if *last == index
                        && page.offset == whole.end
                        && whole.end - whole.start < REQUEST_BYTES_MAX =>
                {
                    whole.end = page.range().end;
                    parts.push(page);
                }
                _ => requests.push((index, page.range(), vec![page])),
            }
        }
        let ranges: Vec<(Key, Range<u64>)> = requests
            .iter()
            .map(|(index, whole, _)| (self.remote.index_key(&indexes[*index].id), whole.clone()))
            .collect();
        let fetched = self.remote.get_each(&ranges, PARALLEL);
        for (((index, whole, parts), (key, _)), bytes) in requests.iter().zip(&ranges).zip(fetched)
        {
            let id = indexes[*index].id;
            let keep = |page: &PageRef, bytes: &Bytes| {
                self.cache.keep_page(id, page, bytes).map(|()| bytes.clone())
            };
            for page in parts {
                let kept = match &bytes {
                    Ok(bytes) => {
                        let from = (page.offset - whole.start) as usize;
                        let bytes = Bytes::copy_from_slice(&bytes[from..from + page.bytes]);
                        let wanted = (key.clone(), page.range());
                        self.read_twice(&wanted, Ok(bytes), |bytes| keep(page, bytes))?
                    }
                    // an object that ends among them has those before its end
                    Err(_) => {
                        let bytes = self.remote.get_range(key, page.range());
                        damage_only(key, bytes, |bytes| keep(page, bytes))?
                    }
                };
                pages.insert((*index, page.number), kept);
            }
        }
        Ok(pages)
    }

    /// A page, and those around it when many of its index were asked for.
    fn with_neighbours(
        &self,
        indexes: &[Arc<IndexTable>],
        index: usize,
        page: PageRef,
    ) -> Vec<(usize, PageRef)> {
        let table = &indexes[index];
        if self.cache.count_fetched(table.id, 1) < FEW_PAGES {
            return vec![(index, page)];
        }
        let first = page.number - page.number % PAGES_AT_ONCE;
        (first..first + PAGES_AT_ONCE)
            .filter_map(|number| table.page(number))
            .filter(|other| {
                other.number == page.number || self.cache.find_page(table.id, other).is_none()
            })
            .map(|other| (index, other))
            .collect()
    }

    /// The plain bytes of a chunk.
    ///
    /// # Errors
    ///
    /// It is in no location, could not be read, or is damaged.
    pub fn chunk(&self, digest: &Digest) -> Result<Bytes, ChunkError> {
        let place = self.locate(digest)?.ok_or(ChunkError::Missing { digest: *digest })?;
        self.chunk_at(&place, digest).or_else(|error| self.elsewhere(digest, &place, error))
    }

    /// The plain bytes of a chunk that was lost or damaged at `first`: from there, where a second read gives
    /// them, or from another place: what was put anew lies twice, and either may be lost afterwards. Costs a
    /// request once for each frame, and one for each index and place.
    ///
    /// # Errors
    ///
    /// `error` itself, when it tells of no damage or no other place has the chunk; that the store did not
    /// answer, when it is not known.
    fn elsewhere(
        &self,
        digest: &Digest,
        first: &Place,
        error: ChunkError,
    ) -> Result<Bytes, ChunkError> {
        if !error.is_damage() {
            return Err(error);
        }
        match self.again(digest, first) {
            Err(error) if error.is_damage() => {}
            read => return read,
        }
        for place in self.places(digest)?.iter().filter(|place| place.pack != first.pack) {
            match self.chunk_at(place, digest) {
                Err(error) if error.is_damage() => {}
                read => return read,
            }
        }
        Err(error)
    }

    /// The plain bytes of a chunk from its frame, which is read again once, past what is kept of it. Who needs the
    /// same frame meanwhile waits for that read, and has what it gave.
    ///
    /// # Errors
    ///
    /// It is lost or damaged as before, or the store did not answer: then it is not known, and asked for
    /// another time.
    fn again(&self, digest: &Digest, place: &Place) -> Result<Bytes, ChunkError> {
        let at = (place.pack, place.row.frame_offset);
        let mut asked = lock(&self.read_again);
        let is_given = match asked.get(&at) {
            Some(is_given) => *is_given,
            None => {
                let key = self.remote.pack_key(&place.pack);
                let read = self.remote.get_range(&key, place.row.frame());
                let frame = damage_only(&key, read, |frame| Ok(frame.clone()))?.ok();
                asked.insert(at, frame.is_some());
                frame.is_some_and(|frame| {
                    lock(&self.decoded).forget(&at);
                    let bytes = frame.len();
                    lock(&self.frames).keep(at, frame, bytes);
                    true
                })
            }
        };
        drop(asked);
        match is_given {
            true => self.chunk_at(place, digest),
            false => Err(self.damaged(place, "a second read does not give it either")),
        }
    }

    /// All places of a chunk that are known, the youngest first.
    fn places(&self, digest: &Digest) -> Result<Vec<Place>, ChunkError> {
        let tables = self.tables()?;
        let young = tables.footers.iter().rev();
        let young = young.filter_map(|footer| Some((footer.id, *footer.find(digest)?)));
        let mut places: Vec<Place> = young.map(|(pack, row)| Place { pack, row }).collect();
        let wanted = tables.indexes.iter().map(|table| table.page_of(digest)).enumerate();
        let wanted = wanted.filter_map(|(number, page)| Some((number, page?))).collect();
        let pages = self.pages(&tables.indexes, wanted)?;
        for (number, table) in tables.indexes.iter().enumerate().rev() {
            let page = table.page_of(digest).and_then(|page| pages.get(&(number, page.number)));
            let Some(Ok(page)) = page else { continue };
            // a damaged page tells of no place
            if let Ok(Some(location)) = table.lookup_checked_page(page, digest) {
                places.push(Place { pack: location.pack, row: location.row });
            }
        }
        Ok(places)
    }

    fn chunk_at(&self, place: &Place, digest: &Digest) -> Result<Bytes, ChunkError> {
        let plain = self.decoded(place)?;
        let from = place.row.position as usize;
        let chunk = plain
            .get(from..from + place.row.bytes as usize)
            .filter(|chunk| Digest::of(chunk) == *digest)
            .ok_or_else(|| self.damaged(place, "its bytes have another digest"))?;
        Ok(Bytes::copy_from_slice(chunk))
    }

    fn damaged_frame(&self, place: &Place, source: DecodeError) -> ChunkError {
        ChunkError::Damaged { object: self.remote.pack_key(&place.pack).to_string(), source }
    }

    fn damaged(&self, place: &Place, reason: &str) -> ChunkError {
        self.damaged_frame(place, DecodeError::damaged("frame", reason))
    }

    fn decoded(&self, place: &Place) -> Result<Arc<Vec<u8>>, ChunkError> {
        let at = (place.pack, place.row.frame_offset);
        if let Some(plain) = lock(&self.decoded).find(&at) {
            return Ok(plain);
        }
        let frame = self.frame(place)?;
        let plain = frame::decompress(&frame, CHUNK_BYTES_MAX)
            .map_err(|source| self.damaged_frame(place, source))?;
        let plain = Arc::new(plain);
        lock(&self.decoded).keep(at, Arc::clone(&plain), plain.len());
        Ok(plain)
    }
}

/// The packs that a set of locations names.
pub struct NamedPacks {
    /// Their names and lengths, ascending.
    pub packs: Vec<(PackId, u64)>,
    /// What of the indexes is lost or damaged, whose packs are not among them.
    pub damaged: Vec<ChunkError>,
}

/// Footers and tables, in the order asked for.
type ReadTables = (Vec<Read<PackIndex>>, Vec<Read<IndexTable>>);

/// What was read of an object, or how it is lost or damaged.
pub type Read<T> = Result<Arc<T>, ChunkError>;

/// Pages by the place of their index and their number.
type Pages = HashMap<(usize, usize), Result<Bytes, ChunkError>>;

fn is_nowhere(place: &Located) -> bool {
    matches!(place, Ok(None))
}

/// What `keep` makes of an object's bytes. That they are lost or damaged is an answer; that the
/// store did not give them is an error.
fn damage_only<T>(
    key: &Key,
    bytes: Result<Bytes, ReadError>,
    keep: impl FnOnce(&Bytes) -> Result<T, DecodeError>,
) -> Result<Result<T, ChunkError>, ChunkError> {
    let kept = bytes.map_err(|source| ChunkError::Read { source }).and_then(|bytes| {
        keep(&bytes).map_err(|source| ChunkError::Damaged { object: key.to_string(), source })
    });
    match kept {
        Err(error) if !error.is_damage() => Err(error),
        kept => Ok(kept),
    }
}

impl Nodes for Chunks {
    fn node(&self, digest: &Digest) -> Result<Bytes, tree::ReadError> {
        // what everybody knows needs no pack: the head of a new volume names it
        if *digest == tree::Root::empty().digest {
            return Ok(Bytes::from_static(tree::EMPTY_NODE));
        }
        if let Some(node) = self.cache.find_node(digest) {
            return Ok(node);
        }
        let node = self.chunk(digest).map_err(|error| match error {
            ChunkError::Missing { digest } => tree::ReadError::Missing { digest },
            other => tree::ReadError::Source {
                digest: *digest,
                kind: other.kind(),
                source: Box::new(other),
            },
        })?;
        self.cache.keep_node(*digest, &node);
        Ok(node)
    }

    fn prefetch(&self, digests: &[Digest]) {
        let unknown = digests.iter().filter(|digest| self.cache.find_node(digest).is_none());
        self.fetch(&unknown.copied().collect::<Vec<_>>());
    }
}

/// Why a chunk was not read.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum ChunkError {
    /// No location has it: content is lost.
    #[error("chunk {digest} is in none of the volume's packs")]
    Missing { digest: Digest },
    /// An object is not what was written.
    #[error("object {object} is damaged")]
    Damaged { object: String, source: DecodeError },
    /// The store did not give it.
    #[error("failed to read from the store")]
    Read { source: ReadError },
}

impl ChunkError {
    /// The object that is damaged or missing, when it is known.
    #[must_use]
    pub fn object(&self) -> Option<String> {
        match self {
            Self::Missing { .. } => None,
            Self::Damaged { object, .. } => Some(object.clone()),
            Self::Read {
                source:
                    ReadError::NotFound { key }
                    | ReadError::Cut { key, .. }
                    | ReadError::TooLong { key, .. },
            } => Some(key.clone()),
            Self::Read { .. } => None,
        }
    }

    /// Whether something is lost or damaged, which asking again does not change.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        self.kind() == ErrorKind::Corrupt
    }

    /// Whether asking again is of no use: what is lost, damaged or kept from us stays as it is, so
    /// that nothing is unsavable because of it.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        self.is_damage() || self.kind() == ErrorKind::Denied
    }

    /// The same as an error of its own.
    fn said_again(&self) -> Self {
        match self {
            Self::Missing { digest } => Self::Missing { digest: *digest },
            Self::Damaged { object, source } => {
                Self::Damaged { object: object.clone(), source: source.clone() }
            }
            Self::Read { source } => Self::Read {
                source: match source {
                    ReadError::NotFound { key } => ReadError::NotFound { key: key.clone() },
                    ReadError::Cut { key, size, end } => {
                        ReadError::Cut { key: key.clone(), size: *size, end: *end }
                    }
                    ReadError::TooLong { key, size, bytes_max } => {
                        let (key, size, bytes_max) = (key.clone(), *size, *bytes_max);
                        ReadError::TooLong { key, size, bytes_max }
                    }
                    ReadError::Unknown { key, source } => {
                        let source = source.to_string().into();
                        ReadError::Unknown { key: key.clone(), source }
                    }
                    ReadError::Denied { key, source } => {
                        let source = source.to_string().into();
                        ReadError::Denied { key: key.clone(), source }
                    }
                },
            },
        }
    }
}

impl Classify for ChunkError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Missing { .. } => ErrorKind::Corrupt,
            Self::Damaged { source, .. } => source.kind(),
            // a pack that a head names and the store does not have
            Self::Read { source: ReadError::NotFound { .. } } => ErrorKind::Corrupt,
            Self::Read { source } => source.kind(),
        }
    }
}

#[cfg(test)]
mod tests;
