//! Keeping a head small: an index over many packs takes the place of their names, and the small
//! packs among them become few.

use std::collections::HashSet;

use bytes::Bytes;
use cove_env::Env;
use cove_objects::{Key, WriteError};
use cove_types::{Classify, Digest, ErrorKind, IndexId, PackId, SessionId, VolumeId, chain};

use crate::chunks::{ChunkError, Chunks, PackCache};
use crate::decode::DecodeError;
use crate::frame::FrameChunk;
use crate::head::{HEAD_BYTES_MAX, Head, RootFrame};
use crate::index::{self, IndexTable, IndexWriter, Location, PackEntry};
use crate::locations::{Damaged, GatherPlan, IndexRef, PackRef, plan_gather};
use crate::pack::{FinishedPack, IndexRow, Pack, PackWriter, by_frame, check_frame};
use crate::remote::{Remote, put_once};
use crate::session::pack_id;

/// How often an object is sent while the answer is unknown.
const ATTEMPTS: u32 = 6;

/// How many small packs are fetched at once; together they have less than 32 MiB.
const PARALLEL: usize = 8;

/// Makes `next`, a head that is to be put, small enough for it: when it names too many packs, an
/// index is written over them, after the small ones were rewritten as few.
///
/// The order is packs, index and, by the caller, head. What was written is named by nothing until
/// the head is put, and what was read stays where it is: a failure changes nothing.
///
/// Costs a PUT for the index and one for each 16 MiB of gathered packs; a GET for each small pack
/// and for each index that is taken in, unless this computer wrote and kept it. Holds 32 MiB of
/// packs that are read, the pack that is written, and the index.
///
/// Every frame is copied as it is, after its chunks were checked against their digests. A pack
/// that is lost or damaged stays as it is: under the index when its footer is known, and else
/// among the packs that the head names; a damaged index stays beside the new one. So many may be
/// damaged as a head has room for.
///
/// # Errors
///
/// [`GatherError`].
pub fn gather(chunks: &Chunks, next: Head, env: &Env, pin: [u8; 8]) -> Result<Head, GatherError> {
    let mut damaged = Damaged::default();
    let next = match look(chunks, &next, &mut damaged)? {
        Some((plan, sources)) => write(chunks, next, (env, pin), &plan, &sources)?,
        None => next,
    };
    let is_damage = !damaged.packs.is_empty() || !damaged.indexes.is_empty();
    if is_damage && next.record().len() > HEAD_BYTES_MAX {
        let (packs, indexes) = (damaged.packs.len(), damaged.indexes.len());
        return Err(GatherError::NoRoom { volume: next.volume, packs, indexes });
    }
    Ok(next)
}

/// Writes what was planned; gives the head that names it.
fn write(
    chunks: &Chunks,
    next: Head,
    (env, pin): (&Env, [u8; 8]),
    plan: &GatherPlan,
    sources: &Sources,
) -> Result<Head, GatherError> {
    let session = env.session_id();
    let mut copy = Copy {
        remote: chunks.remote(),
        cache: chunks.cache(),
        env,
        pin,
        session,
        pack: PackWriter::new(pack_id(env, pin), &next.volume, session),
        head: next,
        seen: HashSet::new(),
        finished: Vec::new(),
    };
    let left = copy.packs(&plan.rewrite)?;
    copy.write(chunks, plan, sources, &left)
}

/// What the new index is made of besides the gathered packs.
struct Sources {
    /// The packs of the plan with their rows.
    footers: Vec<Indexed>,
    /// The indexes that are taken in, whole.
    merged: Vec<(IndexTable, Bytes)>,
}

/// Plans, and reads what is needed for it; plans again without what is `damaged`.
fn look(
    chunks: &Chunks,
    next: &Head,
    damaged: &mut Damaged,
) -> Result<Option<(GatherPlan, Sources)>, GatherError> {
    let remote = chunks.remote();
    'plan: loop {
        let Some(plan) = plan_gather(&next.locations, damaged) else { return Ok(None) };
        let covered: Vec<PackRef> = plan.rewrite.iter().chain(&plan.index).copied().collect();
        let mut footers = Vec::new();
        for (pack, footer) in covered.iter().zip(chunks.footers_of(&covered)?) {
            match footer {
                Ok(footer) => {
                    let entry =
                        PackEntry { id: pack.id, bytes: footer.bytes, blake3: footer.blake3 };
                    footers.push((entry, footer.rows.clone()));
                }
                Err(error) => {
                    warn(&remote.pack_key(&pack.id), &error, "a pack is not indexed");
                    damaged.packs.push(pack.id);
                }
            }
        }
        if footers.len() < covered.len() {
            continue;
        }
        let mut merged = Vec::new();
        for index in &plan.merge {
            if let Some(kept) = kept_index(chunks.cache(), index) {
                merged.push(kept);
                continue;
            }
            match chunks.whole_index(index) {
                Ok(index) => merged.push(index),
                Err(error) if error.is_lasting() => {
                    warn(&remote.index_key(&index.id), &error, "an index is not merged");
                    damaged.indexes.push(index.id);
                    continue 'plan;
                }
                Err(error) => return Err(error.into()),
            }
        }
        return Ok(Some((plan, Sources { footers, merged })));
    }
}

fn warn(key: &Key, error: &ChunkError, message: &str) {
    tracing::warn!(object = %key, kind = ?error.kind(), error = %chain(error), "{message}");
}

/// Frames of small packs on their way into few.
struct Copy<'a> {
    remote: &'a Remote,
    cache: &'a PackCache,
    env: &'a Env,
    pin: [u8; 8],
    session: SessionId,
    pack: PackWriter,
    head: Head,
    seen: HashSet<Digest>,
    /// Packs that are in the store, without their bytes.
    finished: Vec<Indexed>,
}

impl Copy<'_> {
    /// Copies all frames of `packs`, except of those that are lost or damaged; gives their names.
    fn packs(&mut self, packs: &[PackRef]) -> Result<HashSet<PackId>, GatherError> {
        let mut left = HashSet::new();
        for batch in packs.chunks(PARALLEL) {
            let kept: Vec<Option<Vec<Frame>>> =
                batch.iter().map(|pack| kept_frames(self.cache, pack)).collect();
            let is_kept = kept.iter().map(Option::is_some);
            let wanted: Vec<_> = batch
                .iter()
                .zip(is_kept)
                .filter(|(_, is_kept)| !is_kept)
                .map(|(pack, _)| (self.remote.pack_key(&pack.id), 0..pack.bytes))
                .collect();
            let mut fetched = wanted.iter().zip(self.remote.get_each(&wanted, PARALLEL));
            for (pack, kept) in batch.iter().zip(kept) {
                if let Some(frames) = kept {
                    frames.into_iter().try_for_each(|frame| self.frame(&frame))?;
                    continue;
                }
                let Some(((key, _), bytes)) = fetched.next() else { break };
                let frames =
                    bytes.map_err(|source| ChunkError::Read { source }).and_then(|bytes| {
                        checked_frames(pack, &bytes).map_err(|source| ChunkError::Damaged {
                            object: key.to_string(),
                            source,
                        })
                    });
                match frames {
                    Ok(frames) => {
                        frames.into_iter().try_for_each(|frame| self.frame(&frame))?;
                    }
                    Err(error) if error.is_lasting() => {
                        warn(key, &error, "a pack is not rewritten");
                        left.insert(pack.id);
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(left)
    }

    /// Copies a frame, unless all that is in it was copied already.
    fn frame(&mut self, frame: &Frame) -> Result<(), GatherError> {
        if frame.chunks.iter().all(|chunk| self.seen.contains(&chunk.digest)) {
            return Ok(());
        }
        if self.pack.is_full() {
            let id = pack_id(self.env, self.pin);
            let next = PackWriter::new(id, &self.head.volume, self.session);
            let full = std::mem::replace(&mut self.pack, next);
            self.put(full.finish(&[]))?;
        }
        self.seen.extend(frame.chunks.iter().map(|chunk| chunk.digest));
        self.pack.push_frame(&frame.bytes, frame.plain_bytes, &frame.chunks);
        Ok(())
    }

    fn put(&mut self, pack: FinishedPack) -> Result<(), GatherError> {
        let key = self.remote.pack_key(&pack.id);
        let entry = PackEntry { id: pack.id, bytes: pack.bytes.len() as u64, blake3: pack.blake3 };
        put(self.remote, &key, pack.bytes)?;
        self.finished.push((entry, pack.index));
        Ok(())
    }

    /// Writes the last gathered pack and the index; gives the head that names it.
    ///
    /// The pack carries that very head: the index's name and lengths follow from the rows, which
    /// are known before either is written.
    fn write(
        mut self,
        chunks: &Chunks,
        plan: &GatherPlan,
        sources: &Sources,
        left: &HashSet<PackId>,
    ) -> Result<Head, GatherError> {
        let is_kept = |pack: &PackEntry| {
            left.contains(&pack.id) || plan.rewrite.iter().all(|of_plan| of_plan.id != pack.id)
        };
        let kept: Vec<&Indexed> =
            sources.footers.iter().filter(|(pack, _)| is_kept(pack)).collect();
        let empty = PackWriter::new(PackId([0; 16]), &self.head.volume, self.session);
        let last = Some(std::mem::replace(&mut self.pack, empty)).filter(|pack| !pack.is_empty());
        // where its chunks lie is known, its length and digest when it ends
        let of_last = last.as_ref().map(|pack| {
            let entry = PackEntry { id: pack.id(), bytes: u64::MAX, blake3: Digest::HOLE };
            (entry, pack.index())
        });
        let gathered: Vec<&Indexed> = self.finished.iter().chain(&of_last).collect();

        let id = self.env.index_id();
        let mut packs: Vec<PackId> =
            gathered.iter().chain(&kept).map(|(pack, _)| pack.id).collect();
        packs
            .extend(sources.merged.iter().flat_map(|(table, _)| table.packs()).map(|pack| pack.id));
        packs.sort_unstable();
        packs.dedup();
        let mut rows = 0;
        for row in in_order(&gathered, &kept, &sources.merged) {
            row.map_err(|source| damaged(id, source))?;
            rows += 1;
        }
        let reference = index::reference(id, packs.len(), rows);

        let tree = self.head.now.tree;
        let root_frame = gathered.iter().find_map(|(pack, rows)| {
            let at = rows.binary_search_by_key(&tree, |row| row.digest).ok()?;
            let row = rows[at];
            Some(RootFrame { pack: pack.id, offset: row.frame_offset, bytes: row.frame_bytes })
        });
        self.head.root_frame = root_frame.or(self.head.root_frame);
        self.head.locations = self.head.locations.gathered(plan, reference);
        if let Some(last) = last {
            let record = self.head.record();
            self.put(last.finish(&record))?;
        }

        let gathered: Vec<&Indexed> = self.finished.iter().collect();
        let mut packs: Vec<PackEntry> =
            gathered.iter().chain(&kept).map(|(pack, _)| *pack).collect();
        packs.extend(sources.merged.iter().flat_map(|(table, _)| table.packs()).copied());
        let written = |source| GatherError::Index { source };
        let mut writer = IndexWriter::new(Vec::new(), id, packs).map_err(written)?;
        for row in in_order(&gathered, &kept, &sources.merged) {
            writer.push(&row.map_err(|source| damaged(id, source))?).map_err(written)?;
        }
        let (bytes, found) = writer.finish().map_err(written)?;
        assert_eq!(found, reference, "the index is as long as its rows say");
        let bytes = Bytes::from(bytes);
        put(self.remote, &self.remote.index_key(&id), bytes.clone())?;
        // what was just written is not read again
        chunks.cache().keep_index(&reference, &bytes).map_err(|source| damaged(id, source))?;
        chunks.cache().keep_small_index(id, &bytes);
        Ok(self.head)
    }
}

/// A pack with its rows.
type Indexed = (PackEntry, Vec<IndexRow>);

/// The rows of the new index, ascending, each chunk once: where it lies in a gathered pack, else in
/// the youngest of the others, else as an older index says.
fn in_order<'a>(
    gathered: &[&'a Indexed],
    kept: &[&'a Indexed],
    merged: &'a [(IndexTable, Bytes)],
) -> index::Merge<Box<dyn Iterator<Item = Result<Location, DecodeError>> + 'a>> {
    let mut sources: Vec<Box<dyn Iterator<Item = Result<Location, DecodeError>> + 'a>> = Vec::new();
    for (pack, rows) in gathered.iter().copied().chain(kept.iter().rev().copied()) {
        sources.push(Box::new(rows.iter().map(|row| Ok(Location { pack: pack.id, row: *row }))));
    }
    for (table, bytes) in merged {
        sources.push(Box::new(index::rows(table, bytes)));
    }
    index::merge(sources)
}

fn damaged(index: IndexId, source: DecodeError) -> GatherError {
    GatherError::Damaged { object: index.to_string(), source }
}

fn put(remote: &Remote, key: &Key, bytes: impl Into<Bytes>) -> Result<(), GatherError> {
    let put = put_once(remote.store().as_ref(), key, bytes.into(), ATTEMPTS);
    let object = key.to_string();
    remote.runtime().block_on(put).map_err(|source| GatherError::Put { object, source })
}

/// A frame as it lies in a pack.
struct Frame {
    bytes: Bytes,
    plain_bytes: u32,
    chunks: Vec<FrameChunk>,
}

/// The frames of a small pack that this computer wrote and kept, checked like those of any other.
fn kept_frames(cache: &PackCache, pack: &PackRef) -> Option<Vec<Frame>> {
    checked_frames(pack, &cache.find_small_pack(pack.id)?).ok()
}

/// A small index that this computer wrote and kept, checked like any other.
fn kept_index(cache: &PackCache, index: &IndexRef) -> Option<(IndexTable, Bytes)> {
    let bytes = cache.find_small_index(index.id)?;
    let table = index::check_whole(&bytes).ok()?;
    (table.id == index.id && bytes.len() as u64 == index.bytes).then_some((table, bytes))
}

/// The frames of a pack, of which each byte is as written and each chunk has its digest.
fn checked_frames(pack: &PackRef, bytes: &Bytes) -> Result<Vec<Frame>, DecodeError> {
    let decoded = Pack::decode(bytes)?;
    if decoded.index.id != pack.id {
        return Err(DecodeError::damaged("pack", format!("it is pack {}", decoded.index.id)));
    }
    let frame = |rows: Vec<IndexRow>| {
        let range = rows[0].frame();
        let bytes = bytes.slice(range.start as usize..range.end as usize);
        let plain_bytes = check_frame(&bytes, &rows)?;
        let chunk = |row: &IndexRow| FrameChunk {
            digest: row.digest,
            position: row.position,
            bytes: row.bytes,
        };
        Ok(Frame { bytes, plain_bytes, chunks: rows.iter().map(chunk).collect() })
    };
    by_frame(&decoded.index.rows).into_iter().map(frame).collect()
}

/// Why locations were not gathered.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum GatherError {
    /// A footer, a pack or an index could not be read.
    #[error("failed to read what is to be gathered")]
    Look(#[from] ChunkError),
    /// An index is not what it was a moment ago.
    #[error("object {object} is damaged")]
    Damaged { object: String, source: DecodeError },
    /// The rows are not those of an index.
    #[error("failed to write an index")]
    Index { source: index::WriteError },
    /// What is damaged stays named, and its names leave no room for what is new.
    #[error(
        "the head of volume {volume} has no room: it names {packs} packs and {indexes} indexes that \
         are lost or damaged, and none of them is ever dropped"
    )]
    NoRoom { volume: VolumeId, packs: usize, indexes: usize },
    /// The object may or may not be there; nothing names it.
    #[error("failed to put object {object}")]
    Put { object: String, source: WriteError },
}

impl Classify for GatherError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Look(source) => source.kind(),
            Self::Damaged { source, .. } => source.kind(),
            Self::NoRoom { .. } => ErrorKind::Corrupt,
            Self::Index { .. } => ErrorKind::Internal,
            Self::Put { source, .. } => source.kind(),
        }
    }
}

#[cfg(test)]
mod tests;
