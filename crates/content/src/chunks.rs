//! Chunks by their digests, wherever a volume's locations say that they are.
//!
//! **Invariant:** a chunk that is given out has the digest that was asked for.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use cove_objects::{Key, ReadError};
use cove_types::{Classify, Digest, ErrorKind, IndexId, PackId};

use crate::chunk::CHUNK_BYTES_MAX;
use crate::decode::DecodeError;
use crate::frame;
use crate::index::IndexTable;
use crate::locations::{IndexRef, Locations, PackRef};
use crate::pack::{IndexRow, PackIndex};
use crate::remote::Remote;
use crate::tree::{self, Nodes};

/// Encoded frames kept in memory, in bytes.
const FRAMES_BYTES_MAX: usize = 48 << 20;
/// Decoded frames kept in memory; neighbours in a gathered frame are asked for in a row.
const DECODED_MAX: usize = 8;
/// Nodes of trees that a node keeps in memory for all its volumes, in bytes: those of a few
/// hundred thousand files.
const NODES_BYTES_MAX: usize = 32 << 20;
/// Requests for frames under way at once.
const PARALLEL: usize = 8;
/// Frames of one pack that are no further apart are fetched by one request.
const GAP_BYTES: u64 = 64 << 10;
/// The longest request for frames.
const REQUEST_BYTES_MAX: u64 = 4 << 20;
/// Footers of packs kept in memory.
const FOOTERS_MAX: usize = 256;

/// The indexes and nodes of trees that were read or written here, in memory and the indexes on
/// disk too: a small change reads none of them again.
pub struct PackCache {
    dir: Option<PathBuf>,
    packs: Mutex<HashMap<PackId, Arc<PackIndex>>>,
    indexes: Mutex<HashMap<IndexId, Arc<IndexTable>>>,
    nodes: Mutex<KeptNodes>,
}

/// Nodes by digest, the oldest of which go first.
#[derive(Default)]
struct KeptNodes {
    nodes: HashMap<Digest, Bytes>,
    order: VecDeque<Digest>,
    bytes: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl PackCache {
    /// A cache that keeps footers below `dir`, which exists; without one, only in memory.
    #[must_use]
    pub fn new(dir: Option<PathBuf>) -> Self {
        Self { dir, packs: Mutex::default(), indexes: Mutex::default(), nodes: Mutex::default() }
    }

    /// Keeps a pack's footer.
    ///
    /// # Errors
    ///
    /// The footer is not one of this pack; nothing is kept then.
    pub fn keep(&self, pack: &PackRef, footer: &[u8]) -> Result<Arc<PackIndex>, DecodeError> {
        let index = Arc::new(PackIndex::decode_tail(footer, pack.bytes)?);
        if let Some(dir) = &self.dir {
            // a cache: what cannot be kept, or is cut by a crash, is fetched again
            let place = dir.join(pack.id.to_string());
            if !place.exists() {
                let fresh = dir.join(format!("{}.tmp", pack.id));
                if std::fs::write(&fresh, footer).is_ok() {
                    let _ = std::fs::rename(&fresh, &place);
                }
            }
        }
        let mut packs = lock(&self.packs);
        if packs.len() >= FOOTERS_MAX {
            packs.clear();
        }
        packs.insert(pack.id, Arc::clone(&index));
        Ok(index)
    }

    /// Keeps a node of a tree, whose digest the caller has made or checked.
    pub(crate) fn keep_node(&self, digest: Digest, bytes: &Bytes) {
        let mut kept = lock(&self.nodes);
        if kept.nodes.insert(digest, bytes.clone()).is_some() {
            return;
        }
        kept.bytes += bytes.len();
        kept.order.push_back(digest);
        while kept.bytes > NODES_BYTES_MAX {
            let Some(oldest) = kept.order.pop_front() else { return };
            if let Some(node) = kept.nodes.remove(&oldest) {
                kept.bytes -= node.len();
            }
        }
    }

    fn find_node(&self, digest: &Digest) -> Option<Bytes> {
        lock(&self.nodes).nodes.get(digest).cloned()
    }

    fn find(&self, pack: &PackRef) -> Option<Arc<PackIndex>> {
        if let Some(index) = lock(&self.packs).get(&pack.id) {
            return Some(Arc::clone(index));
        }
        let footer = std::fs::read(self.dir.as_ref()?.join(pack.id.to_string())).ok()?;
        self.keep(pack, &footer).ok().filter(|index| index.id == pack.id)
    }
}

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
    footers: Mutex<Option<Arc<Vec<Arc<PackIndex>>>>>,
    frames: Mutex<Frames>,
}

/// A frame: its pack and where it begins there.
type FrameAt = (PackId, u32);

#[derive(Default)]
struct Frames {
    encoded: HashMap<FrameAt, Bytes>,
    order: VecDeque<FrameAt>,
    bytes: usize,
    decoded: VecDeque<(FrameAt, Arc<Vec<u8>>)>,
}

impl Frames {
    fn keep(&mut self, at: FrameAt, frame: Bytes) {
        if self.encoded.contains_key(&at) {
            return;
        }
        self.bytes += frame.len();
        self.encoded.insert(at, frame);
        self.order.push_back(at);
        while self.bytes > FRAMES_BYTES_MAX {
            let Some(oldest) = self.order.pop_front() else { return };
            if let Some(frame) = self.encoded.remove(&oldest) {
                self.bytes -= frame.len();
            }
        }
    }
}

impl Chunks {
    /// A reader of what `locations` name.
    #[must_use]
    pub fn new(remote: Remote, cache: Arc<PackCache>, locations: Locations) -> Self {
        Self { remote, cache, locations, footers: Mutex::default(), frames: Mutex::default() }
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

    /// The footers of the young packs, fetched together the first time (one round trip).
    fn footers(&self) -> Result<Arc<Vec<Arc<PackIndex>>>, ChunkError> {
        let mut slot = lock(&self.footers);
        if let Some(footers) = slot.as_ref() {
            return Ok(Arc::clone(footers));
        }
        let footers = Arc::new(self.footers_of(&self.locations.packs)?);
        *slot = Some(Arc::clone(&footers));
        Ok(footers)
    }

    /// The footers of `packs`, in their order; those that are not cached are fetched together.
    ///
    /// # Errors
    ///
    /// One could not be read or is damaged.
    pub fn footers_of(&self, packs: &[PackRef]) -> Result<Vec<Arc<PackIndex>>, ChunkError> {
        let mut footers: Vec<Option<Arc<PackIndex>>> =
            packs.iter().map(|pack| self.cache.find(pack)).collect();
        let missing: Vec<&PackRef> = packs
            .iter()
            .zip(&footers)
            .filter(|(_, footer)| footer.is_none())
            .map(|(pack, _)| pack)
            .collect();
        let wanted: Vec<(Key, Range<u64>)> = missing
            .iter()
            .map(|pack| {
                let from = pack.bytes.saturating_sub(u64::from(pack.footer_bytes));
                (self.remote.pack_key(&pack.id), from..pack.bytes)
            })
            .collect();
        let fetched = self
            .remote
            .get_ranges(&wanted, PARALLEL)
            .map_err(|source| ChunkError::Read { source })?;
        let mut fetched = missing.iter().zip(fetched);
        for footer in footers.iter_mut().filter(|footer| footer.is_none()) {
            let Some((pack, bytes)) = fetched.next() else { break };
            let index = self.cache.keep(pack, &bytes).map_err(|source| ChunkError::Damaged {
                object: self.remote.pack_key(&pack.id).to_string(),
                source,
            })?;
            *footer = Some(index);
        }
        Ok(footers.into_iter().flatten().collect())
    }

    fn index(&self, index: &IndexRef) -> Result<Arc<IndexTable>, ChunkError> {
        if let Some(table) = lock(&self.cache.indexes).get(&index.id) {
            return Ok(Arc::clone(table));
        }
        let key = self.remote.index_key(&index.id);
        let from = index.bytes.saturating_sub(u64::from(index.table_bytes));
        let bytes = self
            .remote
            .get_range(&key, from..index.bytes)
            .map_err(|source| ChunkError::Read { source })?;
        let table = IndexTable::decode_tail(&bytes, index.bytes)
            .map_err(|source| ChunkError::Damaged { object: key.to_string(), source })?;
        let table = Arc::new(table);
        lock(&self.cache.indexes).insert(index.id, Arc::clone(&table));
        Ok(table)
    }

    /// All packs that the locations name, by themselves or through an index.
    ///
    /// # Errors
    ///
    /// An index could not be read or is damaged.
    pub fn packs(&self) -> Result<Vec<PackId>, ChunkError> {
        let mut packs: Vec<PackId> = self.locations.packs.iter().map(|pack| pack.id).collect();
        for index in &self.locations.indexes {
            packs.extend(self.index(index)?.packs().iter().map(|pack| pack.id));
        }
        packs.sort_unstable();
        packs.dedup();
        Ok(packs)
    }

    /// Where a chunk lies; `None` when the locations do not have it.
    ///
    /// # Errors
    ///
    /// A footer or an index could not be read or is damaged.
    pub fn locate(&self, digest: &Digest) -> Result<Option<Place>, ChunkError> {
        for footer in self.footers()?.iter() {
            if let Some(row) = footer.find(digest) {
                return Ok(Some(Place { pack: footer.id, row: *row }));
            }
        }
        for index in &self.locations.indexes {
            let table = self.index(index)?;
            let Some(page) = table.page_of(digest) else { continue };
            let key = self.remote.index_key(&index.id);
            let bytes = self
                .remote
                .get_range(&key, page.range())
                .map_err(|source| ChunkError::Read { source })?;
            let found = table
                .lookup_page(&page, &bytes, digest)
                .map_err(|source| ChunkError::Damaged { object: key.to_string(), source })?;
            if let Some(location) = found {
                return Ok(Some(Place { pack: location.pack, row: location.row }));
            }
        }
        Ok(None)
    }

    /// The plain bytes of a chunk.
    ///
    /// # Errors
    ///
    /// It is in no location, could not be read, or is damaged.
    pub fn chunk(&self, digest: &Digest) -> Result<Bytes, ChunkError> {
        let place = self.locate(digest)?.ok_or(ChunkError::Missing { digest: *digest })?;
        let plain = self.decoded(&place)?;
        let from = place.row.position as usize;
        let chunk = plain
            .get(from..from + place.row.bytes as usize)
            .filter(|chunk| Digest::of(chunk) == *digest)
            .ok_or_else(|| self.damaged(&place, "its bytes have another digest"))?;
        Ok(Bytes::copy_from_slice(chunk))
    }

    fn damaged(&self, place: &Place, reason: &str) -> ChunkError {
        ChunkError::Damaged {
            object: self.remote.pack_key(&place.pack).to_string(),
            source: DecodeError::damaged("frame", reason),
        }
    }

    /// The encoded frame of a chunk that lies alone in it, checked against the digest, with the plain
    /// bytes; for writing it as it is.
    ///
    /// # Errors
    ///
    /// As [`chunk`](Self::chunk).
    pub fn frame(&self, place: &Place) -> Result<Bytes, ChunkError> {
        let at = (place.pack, place.row.frame_offset);
        if let Some(frame) = lock(&self.frames).encoded.get(&at) {
            return Ok(frame.clone());
        }
        let key = self.remote.pack_key(&place.pack);
        let frame = self
            .remote
            .get_range(&key, place.row.frame())
            .map_err(|source| ChunkError::Read { source })?;
        lock(&self.frames).keep(at, frame.clone());
        Ok(frame)
    }

    fn decoded(&self, place: &Place) -> Result<Arc<Vec<u8>>, ChunkError> {
        let at = (place.pack, place.row.frame_offset);
        if let Some((_, plain)) = lock(&self.frames).decoded.iter().find(|(key, _)| *key == at) {
            return Ok(Arc::clone(plain));
        }
        let frame = self.frame(place)?;
        let plain = frame::decompress(&frame, CHUNK_BYTES_MAX).map_err(|source| {
            ChunkError::Damaged { object: self.remote.pack_key(&place.pack).to_string(), source }
        })?;
        let plain = Arc::new(plain);
        let mut frames = lock(&self.frames);
        frames.decoded.push_front((at, Arc::clone(&plain)));
        frames.decoded.truncate(DECODED_MAX);
        Ok(plain)
    }

    /// Fetches the frames of these chunks together, neighbours by one request, as far as the
    /// memory for frames reaches. What cannot be fetched is left to [`chunk`](Self::chunk) to report.
    pub fn fetch(&self, digests: &[Digest]) {
        let mut wanted: Vec<(PackId, Range<u64>)> = Vec::new();
        for digest in digests.iter().filter(|digest| !digest.is_hole()) {
            if let Ok(Some(place)) = self.locate(digest) {
                let at = (place.pack, place.row.frame_offset);
                if !lock(&self.frames).encoded.contains_key(&at) {
                    wanted.push((place.pack, place.row.frame()));
                }
            }
        }
        wanted.sort_by_key(|(pack, range)| (*pack, range.start));
        wanted.dedup();
        let mut requests: Vec<(PackId, Range<u64>, Vec<Range<u64>>)> = Vec::new();
        for (pack, range) in wanted {
            match requests.last_mut() {
                Some((last, whole, parts))
                    if *last == pack
                        && range.start <= whole.end + GAP_BYTES
                        && range.end - whole.start <= REQUEST_BYTES_MAX =>
                {
                    whole.end = whole.end.max(range.end);
                    parts.push(range);
                }
                _ => requests.push((pack, range.clone(), vec![range])),
            }
        }
        let ranges: Vec<(Key, Range<u64>)> = requests
            .iter()
            .map(|(pack, whole, _)| (self.remote.pack_key(pack), whole.clone()))
            .collect();
        let Ok(fetched) = self.remote.get_ranges(&ranges, PARALLEL) else { return };
        let mut frames = lock(&self.frames);
        for ((pack, whole, parts), bytes) in requests.iter().zip(fetched) {
            for part in parts {
                let from = (part.start - whole.start) as usize;
                let to = (part.end - whole.start) as usize;
                let offset = u32::try_from(part.start).unwrap_or(u32::MAX);
                frames.keep((*pack, offset), bytes.slice(from..to));
            }
        }
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
            Self::Read { source: ReadError::NotFound { key } } => Some(key.to_string()),
            Self::Read { .. } => None,
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
