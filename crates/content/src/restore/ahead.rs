//! Reading ahead of what is built: some threads fetch, decompress and check content while one makes
//! files of it.
//!
//! One makes them, because the kernel creates no more files in one subvolume when several ask.
//!
//! **Invariant:** what was read and is in no file yet has at most [`AHEAD_BYTES_MAX`] bytes, and one
//! portion a thread, at any size of the tree, its files and their attributes.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Scope;

use cove_types::{Digest, ParseError, TreePath};

use super::RestoreError;
use crate::chunks::{Checked, ChunkError, Chunks};
use crate::frame;
use crate::in_order::{Ended, Feed, InOrder};
use crate::tree::{Content, Counts, Gap, Item, KeyParts, Value};

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
    /// An entry or a chunk list, with what could be read of the chunks that it needs, in order.
    Item(KeyParts, Value, Vec<Piece>),
    /// An item that is not of its form.
    Formless(Item, ParseError),
    /// As of [`Step`].
    Gap(Gap),
    /// As of [`Step`].
    Broken(RestoreError),
}

/// What is to be made, and the chunks that it needs.
type Asked = (Ready, Vec<Digest>);

/// A chunk that was asked for, or why it is not there.
pub(super) type Piece = Result<Checked, ChunkError>;

/// Steps on their way to the readers.
pub(super) struct Steps {
    feed: Feed<Vec<Asked>, Vec<Ready>>,
    portion: Vec<Asked>,
    bytes: u64,
    names: Names,
}

impl Steps {
    pub(super) fn say(&mut self, step: Step) -> Result<(), Ended> {
        let (ready, bytes) = match step {
            Step::Gap(gap) => (Ready::Gap(gap), 0),
            Step::Broken(error) => (Ready::Broken(error), 0),
            Step::Item(item) => match item.decode() {
                Ok((parts, value)) => {
                    let bytes = Counts::of(&parts, &value).data_bytes;
                    (Ready::Item(parts, value, Vec::new()), bytes)
                }
                Err(error) => (Ready::Formless(item, error), 0),
            },
        };
        if self.portion.len() >= PORTION_ITEMS || self.bytes + bytes > PORTION_BYTES {
            self.send()?;
        }
        self.bytes += bytes + ITEM_BYTES;
        let wanted = self.names.wanted(&ready);
        self.portion.push((ready, wanted));
        Ok(())
    }

    fn send(&mut self) -> Result<(), Ended> {
        let (portion, bytes) = (std::mem::take(&mut self.portion), std::mem::take(&mut self.bytes));
        if portion.is_empty() { Ok(()) } else { self.feed.send(portion, bytes) }
    }
}

/// Which names of hard-linked files were met.
struct Names {
    /// The files of which a name was met; `None` where a further name may have to bring the content,
    /// because the first one cannot be made.
    linked: Option<HashSet<TreePath>>,
    /// Whether the entry that was met last is a further name, whose lists follow.
    is_further: bool,
}

impl Names {
    /// The chunks that are needed to make `ready`: none for a further name of a file, and of a
    /// directory none before its children are there.
    fn wanted(&mut self, ready: &Ready) -> Vec<Digest> {
        let Ready::Item(_, value, _) = ready else { return Vec::new() };
        match value {
            Value::Chunks(_) if self.is_further => Vec::new(),
            Value::Chunks(list) => {
                list.digests().iter().filter(|digest| !digest.is_hole()).copied().collect()
            }
            Value::Entry(entry) => {
                let first = entry.link.as_ref().zip(self.linked.as_mut());
                self.is_further = first.is_some_and(|(first, met)| !met.insert(first.clone()));
                if self.is_further || matches!(entry.content, Content::Directory) {
                    return Vec::new();
                }
                let mut digests = Vec::new();
                if let Content::File { chunk, .. } = &entry.content {
                    digests.extend(chunk);
                }
                digests.extend(entry.xattrs.chunk());
                digests
            }
        }
    }
}

/// Begins to read what `walk` says, by threads of `scope`. With `salvages` each name of a file brings its
/// content.
pub(super) fn begin<'scope>(
    scope: &'scope Scope<'scope, '_>,
    chunks: &'scope Chunks,
    takes_frames: &'scope AtomicBool,
    salvages: bool,
    walk: impl FnOnce(&mut Steps) -> Result<(), Ended> + Send + 'scope,
) -> InOrder<Vec<Ready>> {
    let say = move |feed| {
        let names = Names { linked: (!salvages).then(HashSet::new), is_further: false };
        let mut steps = Steps { feed, portion: Vec::new(), bytes: 0, names };
        if walk(&mut steps).is_ok() {
            // nobody takes it when making has failed
            let _ = steps.send();
        }
    };
    let read = |portion| read(chunks, takes_frames, portion);
    InOrder::begin(scope, READERS, AHEAD_BYTES_MAX, say, read, |ready| {
        ready.iter().map(uncounted_bytes).sum()
    })
}

/// Fetches what a portion needs, checks it and, for a disk that takes frames, compresses what comes
/// out of a frame with others.
fn read(chunks: &Chunks, takes_frames: &AtomicBool, portion: Vec<Asked>) -> Vec<Ready> {
    let wanted: Vec<Digest> = portion.iter().flat_map(|(_, wanted)| wanted).copied().collect();
    let mut checked = chunks.checked(&wanted).into_iter();
    let mut bring = |(mut ready, wanted): Asked| {
        if let Ready::Item(_, _, pieces) = &mut ready {
            let coming = checked.by_ref().take(wanted.len());
            *pieces = coming.map(|piece| framed(piece, takes_frames)).collect();
        }
        ready
    };
    portion.into_iter().map(&mut bring).collect()
}

/// What was read of an item that its counts do not tell, in bytes: a chunk of attributes, and all of
/// the name of a file whose first one lies elsewhere.
fn uncounted_bytes(ready: &Ready) -> u64 {
    let Ready::Item(parts, Value::Entry(entry), pieces) = ready else { return 0 };
    let is_counted = entry.link.as_ref().is_none_or(|first| *first == parts.path);
    let attributes = usize::from(entry.xattrs.chunk().is_some());
    let counted = if is_counted { pieces.len().saturating_sub(attributes) } else { 0 };
    let bytes = |piece: &Piece| match piece {
        Ok(Checked::Plain(plain)) => plain.len() as u64,
        Ok(Checked::Frame { frame, .. }) => frame.len() as u64,
        Err(_) => 0,
    };
    pieces[counted..].iter().map(bytes).sum()
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
