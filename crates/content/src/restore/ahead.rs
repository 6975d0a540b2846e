//! Reading ahead of what is built: some threads fetch, decompress and check content while one makes
//! files of it.
//!
//! One makes them, because the kernel creates no more files in one subvolume when several ask.
//!
//! **Invariant:** what was read and is in no file yet has at most [`AHEAD_BYTES_MAX`] bytes, and one
//! portion, at any size of the tree and its files.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Scope;

use cove_types::{Digest, ParseError};

use super::RestoreError;
use crate::chunks::{Checked, ChunkError, Chunks};
use crate::frame;
use crate::in_order::{Ended, Feed, InOrder};
use crate::tree::{Content, Gap, Item, KeyParts, Value, Xattrs};

/// How many threads fetch and check. On a store that is far away they wait, else for a core.
const READERS: usize = 4;
/// What may have been read and be in no file yet, in bytes.
const AHEAD_BYTES_MAX: u64 = 32 << 20;
/// A portion, whose chunks are fetched together, is not made longer than this; one chunk list may
/// alone be.
const PORTION_BYTES: u64 = 4 << 20;
/// Nor does it have more items.
const PORTION_ITEMS: usize = 512;
/// What an item counts for beside its content.
const ITEM_BYTES: u64 = 512;

/// What the walk over a tree says.
pub(super) enum Step {
    /// The next item.
    Item(Item),
    /// A part of the tree that cannot be read; the walk goes on behind it.
    Gap(Gap),
    /// The walk cannot go on.
    Broken(RestoreError),
}

/// What is to be made next.
pub(super) enum Ready {
    /// An entry or a chunk list, with what could be read of the chunks that it names, holes left
    /// out: of an entry the file's chunk and then that of its attributes.
    Item(KeyParts, Value, Vec<Piece>),
    /// An item that is not of its form.
    Formless(Item, ParseError),
    /// As of [`Step`].
    Gap(Gap),
    /// As of [`Step`].
    Broken(RestoreError),
}

/// A chunk that was asked for, or why it is not there.
pub(super) type Piece = Result<Checked, ChunkError>;

/// Steps on their way to the readers.
pub(super) struct Steps {
    feed: Feed<Vec<Step>, Vec<Ready>>,
    portion: Vec<Step>,
    bytes: u64,
}

impl Steps {
    pub(super) fn say(&mut self, step: Step) -> Result<(), Ended> {
        let bytes = match &step {
            Step::Item(item) => item.counts().map_or(0, |counts| counts.data_bytes),
            Step::Gap(_) | Step::Broken(_) => 0,
        };
        if self.portion.len() >= PORTION_ITEMS || self.bytes + bytes > PORTION_BYTES {
            self.send()?;
        }
        self.bytes += bytes + ITEM_BYTES;
        self.portion.push(step);
        Ok(())
    }

    fn send(&mut self) -> Result<(), Ended> {
        let (portion, bytes) = (std::mem::take(&mut self.portion), std::mem::take(&mut self.bytes));
        if portion.is_empty() { Ok(()) } else { self.feed.send(portion, bytes) }
    }
}

/// Begins to read what `walk` says, by threads of `scope`.
pub(super) fn begin<'scope>(
    scope: &'scope Scope<'scope, '_>,
    chunks: &'scope Chunks,
    takes_frames: &'scope AtomicBool,
    walk: impl FnOnce(&mut Steps) -> Result<(), Ended> + Send + 'scope,
) -> InOrder<Vec<Ready>> {
    let say = |feed| {
        let mut steps = Steps { feed, portion: Vec::new(), bytes: 0 };
        if walk(&mut steps).is_ok() {
            // nobody takes it when making has failed
            let _ = steps.send();
        }
    };
    let read = |portion| read(chunks, takes_frames, portion);
    InOrder::begin(scope, READERS, AHEAD_BYTES_MAX, say, read)
}

/// Fetches what a portion needs, checks it and, for a disk that takes frames, compresses what comes
/// out of a frame with others.
fn read(chunks: &Chunks, takes_frames: &AtomicBool, portion: Vec<Step>) -> Vec<Ready> {
    let mut ready: Vec<Ready> = portion.into_iter().map(decode).collect();
    let wanted: Vec<Digest> = ready.iter().flat_map(wanted).collect();
    let mut checked = chunks.checked(&wanted).into_iter();
    for made in &mut ready {
        let count = self::wanted(made).len();
        if let Ready::Item(_, _, pieces) = made {
            *pieces =
                checked.by_ref().take(count).map(|piece| framed(piece, takes_frames)).collect();
        }
    }
    ready
}

/// A chunk that lay in a frame with others, by itself in one where the disk then takes less.
fn framed(piece: Piece, takes_frames: &AtomicBool) -> Piece {
    match piece {
        Ok(Checked::Plain(plain)) if takes_frames.load(Ordering::Relaxed) => {
            let bytes = u32::try_from(plain.len()).unwrap_or(u32::MAX);
            Ok(frame::for_disk(&plain).map_or(Checked::Plain(plain), |frame| Checked::Frame {
                frame: frame.into(),
                bytes,
            }))
        }
        piece => piece,
    }
}

fn decode(step: Step) -> Ready {
    match step {
        Step::Gap(gap) => Ready::Gap(gap),
        Step::Broken(error) => Ready::Broken(error),
        Step::Item(item) => match item.decode() {
            Ok((parts, value)) => Ready::Item(parts, value, Vec::new()),
            Err(error) => Ready::Formless(item, error),
        },
    }
}

/// The chunks that an item names, holes left out.
fn wanted(ready: &Ready) -> Vec<Digest> {
    let Ready::Item(_, value, _) = ready else { return Vec::new() };
    match value {
        Value::Chunks(list) => {
            list.digests().iter().filter(|digest| !digest.is_hole()).copied().collect()
        }
        Value::Entry(entry) => {
            let mut digests = Vec::new();
            if let Content::File { chunk, .. } = &entry.content {
                digests.extend(chunk);
            }
            if let Xattrs::Chunk(digest) = &entry.xattrs {
                digests.push(*digest);
            }
            digests
        }
    }
}
