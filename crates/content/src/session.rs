//! One run of storing: chunks in, packs out.
//!
//! A session drops what the volume's locations already have, frames and packs
//! the rest and puts packs while more is being read. Nothing that it put can be
//! seen until a head names it.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cove_env::Env;
use cove_objects::WriteError;
use cove_types::{Classify, Digest, ErrorKind, PackId, SessionId, VolumeId};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::chunk::GRID_BYTES;
use crate::chunks::{ChunkError, Chunks, PackCache};
use crate::frame::{self, FrameChunk, Gatherer, PlainFrame};
use crate::locations::PackRef;
use crate::pack::{IndexRow, PackIndex, PackWriter};
use crate::remote::{Remote, put_once};
use crate::tree::{NodeSink, SinkError};
use crate::volumes::Progress;

/// How many packs are on their way at once; each holds up to 32 MiB of memory.
const UPLOADS: usize = 3;
/// With how many packs in the store a session has them listed, so that a restart goes on from them:
/// 64 MiB or more, one request for four. Together with [`UPLOADS`] it bounds what is put twice after a
/// crash, seven packs.
const LISTED_AFTER: usize = 4;
/// After how long it has them listed though there are fewer: a slow line would lose hours by a restart,
/// and one that is cut each half hour would never end.
const LISTED_WITHIN: Duration = Duration::from_secs(600);
/// How often a pack is sent while the answer is unknown.
const UPLOAD_ATTEMPTS: u32 = 6;

/// How many frames may be on their way into a pack, each of 128 KiB or, of a node that is longer, up to
/// 1 MiB.
const FRAMES_COMING: usize = 16;

/// A frame on its way into a pack.
struct ComingFrame {
    bytes: FrameBytes,
    plain_bytes: u32,
    chunks: Vec<FrameChunk>,
}

enum FrameBytes {
    There(Vec<u8>),
    /// Being compressed.
    Coming(JoinHandle<Vec<u8>>),
}

impl FrameBytes {
    fn is_there(&self) -> bool {
        match self {
            Self::There(_) => true,
            Self::Coming(frame) => frame.is_finished(),
        }
    }
}

/// Adds packs that are in the store to the volume's head, same tree.
pub type List<'a> = Box<dyn FnMut(&[PackRef]) -> Result<(), SessionError> + 'a>;

/// A run of storing one volume.
pub struct Session<'a> {
    remote: Remote,
    env: Env,
    cache: Arc<PackCache>,
    volume: VolumeId,
    id: SessionId,
    pin: [u8; 8],
    known: &'a Chunks,
    seen: HashSet<Digest>,
    data: Gatherer,
    meta: Gatherer,
    /// In the order in which they go into packs.
    frames: VecDeque<ComingFrame>,
    pack: PackWriter,
    finished: Vec<(PackRef, Arc<PackIndex>)>,
    list: Option<List<'a>>,
    /// When packs were listed last, or it began; by the clock that only goes forward.
    listed: Duration,
    /// Those of `finished` that are on their way.
    uploads: Vec<(PackId, JoinHandle<Result<(), WriteError>>)>,
    slots: Arc<Semaphore>,
    progress: Progress,
}

/// What a session put into the store and no head names yet.
#[derive(Debug, Clone, Default)]
pub struct Packed {
    /// The packs, in the order of writing.
    pub packs: Vec<(PackRef, Arc<PackIndex>)>,
}

impl Packed {
    /// Where a chunk lies that this session put; `None` when it put none of that name.
    #[must_use]
    pub fn find(&self, digest: &Digest) -> Option<(PackId, IndexRow)> {
        self.packs.iter().find_map(|(pack, index)| index.find(digest).map(|row| (pack.id, *row)))
    }
}

impl<'a> Session<'a> {
    /// Begins to store `volume`; `pin` is the writer's standing pin, `known` reads what the
    /// volume's head names now.
    #[must_use]
    pub fn new(
        known: &'a Chunks,
        env: &Env,
        volume: &VolumeId,
        pin: [u8; 8],
        progress: Progress,
    ) -> Self {
        let id = env.session_id();
        Self {
            remote: known.remote().clone(),
            env: env.clone(),
            cache: Arc::clone(known.cache()),
            volume: volume.clone(),
            id,
            pin,
            known,
            seen: HashSet::new(),
            data: Gatherer::new(),
            meta: Gatherer::new(),
            frames: VecDeque::new(),
            pack: PackWriter::new(pack_id(env, pin), volume, id),
            finished: Vec::new(),
            list: None,
            listed: env.since_boot(),
            uploads: Vec::new(),
            slots: Arc::new(Semaphore::new(UPLOADS)),
            progress,
        }
    }

    /// Has `list` called with each few packs, and with those of each ten minutes, once they are in the
    /// store. Those on their way then are not waited for unless ten minutes have passed.
    #[must_use]
    pub fn listing(mut self, list: List<'a>) -> Self {
        self.list = Some(list);
        self
    }

    /// Whether this chunk need not be put: this session or the volume has it.
    ///
    /// # Errors
    ///
    /// The volume's locations could not be read.
    pub fn has(&self, digest: &Digest) -> Result<bool, SessionError> {
        Ok(self.seen.contains(digest) || self.known.has(digest)?)
    }

    /// Puts a chunk of a file, unless it is there.
    ///
    /// # Errors
    ///
    /// A pack could not be put, or the locations not be read.
    pub fn put_data(&mut self, digest: Digest, plain: &[u8]) -> Result<(), SessionError> {
        if self.has(&digest)? {
            return Ok(());
        }
        self.seen.insert(digest);
        match self.data.push(digest, plain) {
            Some(gathered) => self.compress(gathered),
            None => Ok(()),
        }
    }

    /// Puts a whole chunk of the grid as the frame that the kernel made of it; the digest is that of its
    /// plain bytes and was made by decompressing it.
    ///
    /// # Errors
    ///
    /// As [`put_data`](Self::put_data).
    pub fn put_frame(&mut self, digest: Digest, frame: Vec<u8>) -> Result<(), SessionError> {
        if self.has(&digest)? {
            return Ok(());
        }
        self.seen.insert(digest);
        let chunks = vec![FrameChunk { digest, position: 0, bytes: GRID_BYTES }];
        let bytes = FrameBytes::There(frame);
        self.frames.push_back(ComingFrame { bytes, plain_bytes: GRID_BYTES, chunks });
        self.push_frames(FRAMES_COMING)
    }

    /// Puts a chunk that is no file's: a node, a list, a document. They lie together, apart from files.
    ///
    /// # Errors
    ///
    /// As [`put_data`](Self::put_data).
    pub fn put_meta(&mut self, digest: Digest, plain: &[u8]) -> Result<(), SessionError> {
        if self.has(&digest)? {
            return Ok(());
        }
        self.seen.insert(digest);
        match self.meta.push(digest, plain) {
            Some(gathered) => self.compress(gathered),
            None => Ok(()),
        }
    }

    /// Compresses a frame on another thread; it goes into a pack after those that came before it.
    fn compress(&mut self, plain: PlainFrame) -> Result<(), SessionError> {
        let PlainFrame { plain, chunks } = plain;
        let plain_bytes = u32::try_from(plain.len()).expect("a frame has at most 1 MiB");
        let compress = move || frame::compress(&plain);
        let bytes = FrameBytes::Coming(self.remote.runtime().spawn_blocking(compress));
        self.frames.push_back(ComingFrame { bytes, plain_bytes, chunks });
        self.push_frames(FRAMES_COMING)
    }

    /// Puts frames into packs, in their order, until at most `coming` of them are left.
    fn push_frames(&mut self, coming: usize) -> Result<(), SessionError> {
        while let Some(next) = self.frames.front() {
            if self.frames.len() <= coming && !next.bytes.is_there() {
                break;
            }
            let Some(ComingFrame { bytes, plain_bytes, chunks }) = self.frames.pop_front() else {
                break;
            };
            let frame = match bytes {
                FrameBytes::There(frame) => frame,
                FrameBytes::Coming(frame) => match self.remote.runtime().block_on(frame) {
                    Ok(frame) => frame,
                    Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                    Err(_) => return Err(SessionError::Stopped),
                },
            };
            self.push_frame(&frame, plain_bytes, &chunks)?;
        }
        Ok(())
    }

    fn push_frame(
        &mut self,
        frame: &[u8],
        plain_bytes: u32,
        chunks: &[FrameChunk],
    ) -> Result<(), SessionError> {
        self.pack.push_frame(frame, plain_bytes, chunks);
        if self.pack.is_full() {
            let next = PackWriter::new(pack_id(&self.env, self.pin), &self.volume, self.id);
            let full = std::mem::replace(&mut self.pack, next);
            self.upload(full, &[])?;
            self.list_finished()?;
        }
        Ok(())
    }

    /// Has packs listed that are in the store, when there are enough of them or it is time.
    fn list_finished(&mut self) -> Result<(), SessionError> {
        if self.list.is_none() {
            return Ok(());
        }
        let is_late = self.env.since_boot().saturating_sub(self.listed) >= LISTED_WITHIN;
        self.reap(is_late)?;
        let under_way: Vec<PackId> = self.uploads.iter().map(|(id, _)| *id).collect();
        let (on_the_way, there): (Vec<_>, Vec<_>) =
            self.finished.iter().cloned().partition(|(pack, _)| under_way.contains(&pack.id));
        if there.len() < LISTED_AFTER && !is_late {
            return Ok(());
        }
        let packs: Vec<PackRef> = there.iter().map(|(pack, _)| *pack).collect();
        if let Some(list) = &mut self.list {
            list(&packs)?;
        }
        self.finished = on_the_way;
        self.listed = self.env.since_boot();
        Ok(())
    }

    /// Sends a pack on its way, waiting for a free slot; reports what earlier ones met.
    fn upload(&mut self, pack: PackWriter, head_record: &[u8]) -> Result<(), SessionError> {
        let finished = pack.finish(head_record);
        let reference = PackRef {
            id: finished.id,
            bytes: finished.bytes.len() as u64,
            footer_bytes: finished.footer_bytes,
        };
        let footer_from = finished.bytes.len() - finished.footer_bytes as usize;
        let index = self
            .cache
            .keep(&reference, &finished.bytes[footer_from..])
            .expect("a pack that was just written reads as written");
        self.cache.keep_small_pack(finished.id, &finished.bytes);
        let runtime = self.remote.runtime().clone();
        let permit = runtime
            .block_on(Arc::clone(&self.slots).acquire_owned())
            .expect("the slots are never closed");
        let store = Arc::clone(self.remote.store());
        let key = self.remote.pack_key(&finished.id);
        let bytes = Bytes::from(finished.bytes);
        let progress = self.progress.clone();
        let upload = runtime.spawn(async move {
            let _permit = permit;
            let sent = bytes.len() as u64;
            put_once(store.as_ref(), &key, bytes, UPLOAD_ATTEMPTS).await?;
            progress.update(|progress| progress.done_bytes += sent);
            Ok(())
        });
        self.uploads.push((reference.id, upload));
        self.finished.push((reference, index));
        self.reap(false)
    }

    /// Takes the results of uploads that ended, or of all.
    fn reap(&mut self, all: bool) -> Result<(), SessionError> {
        let runtime = self.remote.runtime().clone();
        let (ended, under_way): (Vec<_>, Vec<_>) =
            self.uploads.drain(..).partition(|(_, upload)| all || upload.is_finished());
        self.uploads = under_way;
        for (_, upload) in ended {
            match runtime.block_on(upload) {
                Ok(result) => result.map_err(|source| SessionError::Put { source })?,
                Err(_) => return Err(SessionError::Stopped),
            }
        }
        Ok(())
    }

    /// Ends the session: everything is in the store when this returns. The last pack carries
    /// `head_record`, the head that is to be written with this pack added to its locations.
    ///
    /// # Errors
    ///
    /// A pack could not be put. What was put is named by nothing then.
    pub fn finish(mut self, head_record: &[u8]) -> Result<Packed, SessionError> {
        let gathered = [self.data.finish(), self.meta.finish()];
        gathered.into_iter().flatten().try_for_each(|gathered| self.compress(gathered))?;
        self.push_frames(0)?;
        if !self.pack.is_empty() {
            let next = PackWriter::new(PackId([0; 16]), &self.volume, self.id);
            let last = std::mem::replace(&mut self.pack, next);
            self.upload(last, head_record)?;
        }
        self.reap(true)?;
        Ok(Packed { packs: std::mem::take(&mut self.finished) })
    }
}

/// A fresh pack name below a standing pin.
pub(crate) fn pack_id(env: &Env, pin: [u8; 8]) -> PackId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&pin);
    id[8..].copy_from_slice(&env.random::<8>());
    PackId(id)
}

impl NodeSink for Session<'_> {
    fn put(&mut self, digest: Digest, bytes: Bytes) -> Result<(), SinkError> {
        self.put_meta(digest, &bytes).map_err(|error| {
            let kind = error.kind();
            SinkError { digest, kind, source: Box::new(error) }
        })?;
        self.cache.keep_node(digest, &bytes);
        Ok(())
    }
}

/// Why a session did not store.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum SessionError {
    /// A pack may or may not be there; nothing names it.
    #[error("failed to put a pack")]
    Put { source: WriteError },
    /// What the volume has could not be looked up.
    #[error("failed to look up what is stored already")]
    Look(#[from] ChunkError),
    /// The program is stopping.
    #[error("storing was stopped")]
    Stopped,
    /// The packs are in the store, and the head does not name them.
    #[error("failed to list packs: {what}")]
    List { kind: ErrorKind, what: String },
}

impl Classify for SessionError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Put { source } => source.kind(),
            Self::Look(source) => source.kind(),
            Self::Stopped => ErrorKind::Unavailable,
            Self::List { kind, .. } => *kind,
        }
    }
}

#[cfg(test)]
mod tests;
