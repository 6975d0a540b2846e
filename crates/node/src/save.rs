//! Bringing captured work to the object store.
//!
//! Each piece of work may be begun any number of times: an answer that was lost is found
//! in the head's list of operations, and what an earlier attempt put is named by nothing.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cove_btrfs::SubvolumePath;
use cove_content::chunks::Chunks;
use cove_content::commit::{Next, Outcome, ReadHead, after_put};
use cove_content::document::ProjectDocument;
use cove_content::entry::EntryRecord;
use cove_content::gather::gather;
use cove_content::head::{
    BACKGROUND, Commit, Create, EntryEdit, Head, HeadObject, Nonce, Op, OpAnswer, OpResult,
    Replace, RequestHash, RootFrame, Stamp, TransitionError,
};
use cove_content::incremental::IncrementalError;
use cove_content::locations::{Locations, PackRef};
use cove_content::retention::roll_off;
use cove_content::root::{NotCaptured, NotCapturedPath, Root};
use cove_content::session::{Session, SessionError};
use cove_content::store::store_tree;
use cove_content::volumes::{Progress, VolumeError};
use cove_database::{CopyRow, Finished, HeadRow, ResultRow};
use cove_objects::{Put, ReadError, Version};
use cove_types::{Classify, Digest, EntryId, EntryState, ErrorKind, OperationId, VolumeId};

use crate::capture::{complete, sub};
use crate::node::{Inner, chain, document_digest, stored_row};
use crate::volume::{Ended, Known, State, Volume};
use crate::work::{Edit, Pending, Work};

/// How often one PUT is repeated before the work waits.
const PUT_ATTEMPTS: u32 = 4;

/// Why work was not saved.
#[derive(Debug)]
pub(crate) enum SaveError {
    /// It cannot take effect, and no request of it can any more.
    Refused { kind: ErrorKind, what: String },
    /// Not now: it is tried again.
    Later { kind: ErrorKind, what: String },
    /// The volume has another owner.
    Fenced { what: String },
}

impl SaveError {
    fn later(what: &str, error: &(impl std::error::Error + Classify)) -> Self {
        Self::Later { kind: error.kind(), what: format!("{what}: {}", chain(error)) }
    }
}

impl SaveError {
    /// As whoever asks for something is told.
    pub fn for_caller(self) -> VolumeError {
        match self {
            Self::Refused { kind, what } | Self::Later { kind, what } => {
                VolumeError::Refused { kind, what }
            }
            Self::Fenced { what } => VolumeError::Refused { kind: ErrorKind::Conflict, what },
        }
    }
}

impl From<TransitionError> for SaveError {
    fn from(error: TransitionError) -> Self {
        match error {
            TransitionError::OlderNotJoined { .. } | TransitionError::NotADescendant { .. } => {
                Self::Later { kind: error.kind(), what: error.to_string() }
            }
            _ => Self::Refused { kind: error.kind(), what: error.to_string() },
        }
    }
}

fn stamp(inner: &Inner) -> Stamp {
    Stamp { time: inner.env.now(), nonce: Nonce(inner.env.random()) }
}

/// Saves one piece of work and writes down that it is saved.
pub(crate) fn save(
    inner: &Arc<Inner>,
    volume: &Volume,
    pending: &Pending,
) -> Result<Ended, SaveError> {
    let pending = complete(inner, volume, pending)
        .map_err(|error| SaveError::later("failed to finish what was begun", &error))?;
    let saved = attempt(inner, volume, &pending);
    if let Err(SaveError::Later { kind: ErrorKind::Conflict, .. }) = &saved {
        // the head is another than is remembered here: an answer was lost
        let (head, version) = read_head(inner, &volume.id)?;
        if head.holder != inner.options.node {
            return Err(SaveError::Fenced {
                what: format!("volume {} is held by another node", volume.id),
            });
        }
        let older = read_older(inner, &head)?;
        remember(inner, volume, Known { head, older, version })?;
    }
    saved
}

fn attempt(inner: &Arc<Inner>, volume: &Volume, pending: &Pending) -> Result<Ended, SaveError> {
    bring_older(inner, volume)?;
    let answer = volume.state().known.as_ref().map(|known| {
        (known.head.find_op(&pending.operation, &RequestHash(pending.request)), known.clone())
    });
    if let Some((OpAnswer::First(result), known)) = answer
        && !matches!(pending.work, Work::Background | Work::Create { .. } | Work::Fork { .. })
    {
        return finish(inner, volume, pending, &known, Ended::from(result), false);
    }
    match &pending.work {
        Work::Create { document, remarks } => {
            if volume.state().known.is_none() {
                create_head(inner, volume, pending, document)?;
            }
            let ended = Ended { remarks: remarks.clone(), ..Ended::default() };
            commit(inner, volume, pending, ended, false, |head, root, _, stamp, op| {
                head.commit(plain(head, root), op, stamp)
            })
        }
        Work::Background => {
            commit(inner, volume, pending, Ended::default(), true, |head, root, _, stamp, op| {
                head.commit(plain(head, root), op, stamp)
            })
        }
        Work::Snapshot { entry, keep } | Work::RestorePaths { before: entry, keep, .. } => {
            let ended = Ended { entry: Some(entry.id), ..Ended::default() };
            commit(inner, volume, pending, ended, false, |head, root, made, stamp, op| {
                let record = EntryRecord { root: root.clone(), ..entry.clone() };
                made.rolled_off = rolled_off(head, &record, *keep);
                let commit = Commit {
                    add: vec![record],
                    trash: made.rolled_off.clone(),
                    ..plain(head, root)
                };
                head.commit(commit, op, stamp)
            })
        }
        Work::EditEntry { entry, edit } => {
            let ended = Ended { entry: Some(*entry), ..Ended::default() };
            change_head(inner, volume, pending, ended, |known, stamp, op| {
                let edit = entry_edit(known, entry, edit)?;
                known.next(|head| head.edit_entry(entry, edit.clone(), Some(op.clone()), stamp))
            })
        }
        Work::Describe { document } => {
            let ended =
                change_head(inner, volume, pending, Ended::default(), |known, stamp, op| {
                    let (mut next, older) = known.next(|head| head.record_op(op.clone(), stamp))?;
                    next.document = Some(document.clone());
                    Ok((next, older))
                })?;
            volume.state().document = Some(document.clone());
            Ok(ended)
        }
        Work::SetTrashed { trashed } => {
            change_head(inner, volume, pending, Ended::default(), |known, stamp, op| {
                known.next(|head| head.set_trashed(*trashed, Some(op.clone()), stamp))
            })
        }
        Work::Restore { entry, before, keep, .. } => {
            restore(inner, volume, pending, entry, before, *keep)
        }
        Work::Fork { entry, targets, .. } => fork(inner, volume, pending, entry.as_ref(), targets),
        Work::Rescue { entry } => {
            let ended = Ended { entry: Some(entry.id), ..Ended::default() };
            let is_there = volume
                .state()
                .known
                .as_ref()
                .is_some_and(|known| known.find_entry(&entry.id).is_some());
            // a state beside the present one, which is left alone
            commit(inner, volume, pending, ended, false, |head, root, _, stamp, op| {
                let record = EntryRecord { root, ..entry.clone() };
                if is_there {
                    let locations = head.locations.clone();
                    head.replace_entry_root(&record.id, record.root.clone(), locations, op, stamp)
                } else {
                    head.add_entry(record, &[], op, stamp)
                }
            })
        }
    }
}

fn elapsed_ms(inner: &Inner, entry: &EntryRecord) -> u64 {
    let elapsed = inner.env.now().as_millisecond() - entry.time.as_millisecond();
    u64::try_from(elapsed).unwrap_or(0).max(entry.captured_ms)
}

/// A commit of `root` that brings no entry; its locations come later.
fn plain(head: &Head, root: Root) -> Commit {
    Commit {
        root,
        locations: head.locations.clone(),
        root_frame: head.root_frame,
        add: Vec::new(),
        trash: Vec::new(),
    }
}

fn rolled_off(head: &Head, new: &EntryRecord, keep: u32) -> Vec<EntryId> {
    let live: Vec<EntryRecord> =
        head.entries.iter().filter(|entry| entry.is_live()).cloned().collect();
    roll_off(&live, keep, new, &[])
}

fn entry_edit(known: &Known, entry: &EntryId, edit: &Edit) -> Result<EntryEdit, TransitionError> {
    Ok(match edit {
        Edit::Pin(pinned) => EntryEdit { pinned: Some(*pinned), ..EntryEdit::default() },
        Edit::Label(label) => EntryEdit { label: Some(label.clone()), ..EntryEdit::default() },
        Edit::Undelete { keep } => {
            let record = known.find_entry(entry).ok_or_else(|| TransitionError::NoSuchEntry {
                volume: known.head.volume.clone(),
                entry: *entry,
            })?;
            let counted = known
                .entries()
                .filter(|other| other.is_live() && !other.pinned && other.kind.is_asked_for())
                .count();
            let is_over = record.kind.is_asked_for() && counted as u64 >= u64::from(*keep);
            EntryEdit {
                state: Some(EntryState::Live),
                pinned: is_over.then_some(true),
                ..EntryEdit::default()
            }
        }
    })
}

fn op(pending: &Pending, entries: Vec<EntryId>) -> Op {
    Op {
        id: pending.operation,
        request: RequestHash(pending.request),
        kind: match pending.work {
            Work::Background => BACKGROUND.to_owned(),
            _ => pending.work.kind().to_owned(),
        },
        result: OpResult::Done { entries, tree: None },
    }
}

/// Brings the entries that the head only names, once.
pub(crate) fn bring_older(inner: &Inner, volume: &Volume) -> Result<(), SaveError> {
    let known = volume.state().known.clone();
    let Some(known) = known else { return Ok(()) };
    let Some(named) = known.head.older else { return Ok(()) };
    if known.older.len() == named.count as usize {
        return Ok(());
    }
    let older = read_older(inner, &known.head)?;
    if let Some(known) = volume.state().known.as_mut() {
        known.older = older;
    }
    Ok(())
}

fn read_older(inner: &Inner, head: &Head) -> Result<Vec<EntryRecord>, SaveError> {
    let Some(named) = head.older else { return Ok(Vec::new()) };
    let chunks = chunks_of(inner, &head.locations);
    let chunk = chunks
        .chunk(&named.digest)
        .map_err(|error| SaveError::later("failed to read older entries", &error))?;
    Head::decode_older(&chunk)
        .map_err(|error| SaveError::later("failed to read older entries", &error))
}

/// The older entries when `entry` is not among the newest: after a start nobody has them yet.
pub(crate) fn bring_entry(
    inner: &Inner,
    volume: &Volume,
    entry: &EntryId,
) -> Result<(), VolumeError> {
    let is_here = volume.state().entries().iter().any(|view| view.record.id == *entry);
    if is_here {
        return Ok(());
    }
    bring_older(inner, volume).map_err(SaveError::for_caller)
}

pub(crate) fn chunks_of(inner: &Inner, locations: &Locations) -> Chunks {
    Chunks::new(inner.remote.clone(), Arc::clone(&inner.cache), locations.clone())
}

/// Creates the head of a new volume, with the empty tree.
fn create_head(
    inner: &Inner,
    volume: &Volume,
    pending: &Pending,
    document: &ProjectDocument,
) -> Result<(), SaveError> {
    let empty = cove_content::tree::Root::empty();
    let root = Root {
        tree: empty.digest,
        level: empty.level,
        document: document_digest(document),
        ..crate::volume::unknown_root()
    };
    let create = Create {
        volume: volume.id.clone(),
        project: document.id.clone(),
        holder: inner.options.node.clone(),
        now: root,
        entries: Vec::new(),
        locations: Locations::default(),
        root_frame: None,
    };
    // the call itself takes effect with the commit that follows
    let first = Op { id: sub(&pending.operation, 2), ..op(pending, Vec::new()) };
    let mut head = Head::create(create, first, stamp(inner));
    head.document = Some(document.clone());
    let known = put_head(inner, &volume.id, None, head, Vec::new(), Some(&pending.operation))?;
    remember(inner, volume, known)
}

fn remember(inner: &Inner, volume: &Volume, known: Known) -> Result<(), SaveError> {
    let row = head_row(inner, &known)?;
    inner
        .wait(inner.database.put_head(&row))
        .map_err(|error| SaveError::later("failed to write down a head", &error))?;
    volume.state().known = Some(known);
    Ok(())
}

fn head_row(inner: &Inner, known: &Known) -> Result<HeadRow, SaveError> {
    let body = known
        .head
        .encode()
        .map_err(|error| SaveError::Later { kind: ErrorKind::Internal, what: chain(&error) })?;
    Ok(HeadRow {
        volume: known.head.volume.clone(),
        version: known.version.0.clone(),
        body,
        saved_us: inner.now_us(),
    })
}

/// One attempt to save one piece of work: from which head it begins.
struct Turn<'a> {
    inner: &'a Inner,
    volume: &'a Volume,
    pending: &'a Pending,
    known: &'a Known,
}

/// What storing a snapshot gave.
struct StoredRoot {
    root: Root,
    chunk_of_lacks: Option<Vec<u8>>,
}

/// Stores `stored/<volume>.<operation>` in a session, from what changed where that is known.
fn store_snapshot(
    inner: &Inner,
    volume: &Volume,
    known: &Known,
    pending: &Pending,
    session: &mut Session<'_>,
    chunks: &Chunks,
) -> Result<StoredRoot, SaveError> {
    let place = SubvolumePath::Stored(volume.id.clone(), pending.operation);
    let document = volume.state().document.clone();
    let digest = document.as_ref().map_or(known.head.now.document, document_digest);
    let dir = inner
        .pool
        .open(&place)
        .map_err(|error| SaveError::later("failed to open a snapshot", &error))?;
    let stored =
        match changed(&Turn { inner, volume, pending, known }, &place, &dir, session, chunks)? {
            Some(stored) => stored,
            None => store_tree(&dir, session, &Progress::default())
                .map_err(|error| SaveError::later("failed to store the files", &error))?,
        };
    let (not_captured, chunk_of_lacks) = NotCaptured::new(stored.not_captured);
    let mut root = Root {
        tree: stored.root.digest,
        level: stored.root.level,
        counts: stored.root.counts,
        not_captured,
        document: digest,
        ..crate::volume::unknown_root()
    };
    let now = &known.head.now;
    if root.tree == now.tree
        && root.document == now.document
        && root.not_captured == now.not_captured
    {
        root = now.clone();
    } else {
        root.parents = vec![now.digest()];
    }
    Ok(StoredRoot { root, chunk_of_lacks })
}

/// The tree by what changed since the last commit's snapshot; `None` when that cannot be told.
fn changed(
    Turn { inner, volume, pending, known }: &Turn<'_>,
    place: &SubvolumePath,
    dir: &cove_btrfs::Dir,
    session: &mut Session<'_>,
    chunks: &Chunks,
) -> Result<Option<cove_content::store::StoredTree>, SaveError> {
    let now = &known.head.now;
    let (base, tree) = match &pending.work {
        // what was swapped out descends from the base before, not from the restored state
        Work::Restore { base_before: Some(base), .. } => *base,
        Work::Restore { base_before: None, .. } => return Ok(None),
        _ => {
            let state = volume.state();
            let Some(copy) = state.copy.as_ref() else { return Ok(None) };
            (copy.base, copy.tree)
        }
    };
    if tree != now.tree {
        return Ok(None);
    }
    let base = SubvolumePath::Stored(volume.id.clone(), base);
    let changes = match inner.pool.changes(&base, place) {
        Ok(changes) => changes,
        Err(error) => {
            tracing::info!(volume = %volume.id, error = chain(&error), "storing in full");
            return Ok(None);
        }
    };
    let lacks: Vec<NotCapturedPath> = match now.not_captured.all {
        Some(digest) => {
            let listed = chunks.chunk(&digest).ok();
            match listed.and_then(|listed| NotCaptured::decode_all(&listed).ok()) {
                Some(lacks) => lacks,
                None => return Ok(None),
            }
        }
        None => now.not_captured.list.clone(),
    };
    if lacks.len() as u64 != now.not_captured.count {
        // the list was too long to be kept whole
        return Ok(None);
    }
    let names = |inode| inner.pool.names_of_inode(place, inode);
    let stored = cove_content::incremental::store_changes(
        &changes,
        dir,
        &names,
        chunks,
        cove_content::incremental::OldTree { root: &now.tree, not_captured: &lacks },
        session,
        &Progress::default(),
    );
    match stored {
        Ok(stored) => Ok(Some(stored)),
        Err(error @ IncrementalError::NeedsFullStore { .. }) => {
            tracing::info!(volume = %volume.id, error = chain(&error), "storing in full");
            Ok(None)
        }
        // what the session has put is not certain: it is not used any further
        Err(error) => Err(SaveError::later("failed to store what changed", &error)),
    }
}

/// What a transition made besides the head: the answer of the work.
struct Made {
    entry: Option<EntryId>,
    rolled_off: Vec<EntryId>,
}

impl Made {
    /// As the head's list of operations tells it: the entry asked for first.
    fn told(&self) -> Vec<EntryId> {
        self.entry.iter().chain(&self.rolled_off).copied().collect()
    }
}

/// Stores the work's snapshot and puts the head that `transition` makes of it.
///
/// `quiet`: an unchanged state is no reason for a PUT.
fn commit(
    inner: &Arc<Inner>,
    volume: &Volume,
    pending: &Pending,
    mut ended: Ended,
    quiet: bool,
    transition: impl Fn(&Head, Root, &mut Made, Stamp, Option<Op>) -> Result<Head, TransitionError>,
) -> Result<Ended, SaveError> {
    for _ in 0..PUT_ATTEMPTS {
        let known = known_of(volume)?;
        let chunks = chunks_of(inner, &known.head.locations);
        let current = RefCell::new(known);
        let before = current.borrow().clone();
        let session =
            Session::new(&chunks, &inner.env, &volume.id, inner.options.pin, Progress::default());
        let list = |packs: &[PackRef]| list_packs(inner, volume, &chunks, &current, packs);
        let mut session = session.listing(Box::new(list));
        let StoredRoot { root, chunk_of_lacks } =
            store_snapshot(inner, volume, &before, pending, &mut session, &chunks)?;
        // the same state, though perhaps with packs listed meanwhile
        let known = current.borrow().clone();
        if quiet && root == known.head.now {
            return finish(inner, volume, pending, &known, ended, true);
        }
        let stamp = stamp(inner);
        let joined = known
            .head
            .join(known.older.clone())
            .map_err(|error| SaveError::later("failed to read older entries", &error))?;
        let mut made = Made { entry: ended.entry, rolled_off: Vec::new() };
        let told = made.told();
        let mut next =
            transition(&joined, root.clone(), &mut made, stamp, Some(op(pending, told.clone())))?;
        // the head carries the whole answer, also what only the transition could tell
        if made.told() != told {
            let op = op(pending, made.told());
            next = transition(&joined, root.clone(), &mut made, stamp, Some(op))?;
        }
        let known = match put_stored(
            &Turn { inner, volume, pending, known: &known },
            session,
            next,
            chunk_of_lacks,
            &chunks,
        )? {
            Some(known) => known,
            None => continue,
        };
        ended.entry = made.entry;
        ended.rolled_off = made.rolled_off;
        return finish(inner, volume, pending, &known, ended, true);
    }
    Err(SaveError::Later {
        kind: ErrorKind::Conflict,
        what: "the head changes all the time".into(),
    })
}

/// Names packs of a long session in the head, same tree, so that an interrupted one goes on from them.
fn list_packs(
    inner: &Inner,
    volume: &Volume,
    chunks: &Chunks,
    current: &RefCell<Known>,
    packs: &[PackRef],
) -> Result<(), SessionError> {
    let failed = |error: SaveError| match error {
        SaveError::Refused { kind, what } | SaveError::Later { kind, what } => {
            SessionError::List { kind, what }
        }
        SaveError::Fenced { what } => SessionError::List { kind: ErrorKind::Conflict, what },
    };
    let known = current.borrow().clone();
    let mut locations = known.head.locations.clone();
    locations.packs.extend_from_slice(packs);
    let gathered = gather(chunks, &locations, &inner.env)
        .map_err(|error| SessionError::List { kind: error.kind(), what: chain(&error) })?;
    let locations = gathered.unwrap_or(locations);
    let next = known
        .head
        .relocate(locations, known.head.root_frame, stamp(inner))
        .map_err(|error| failed(error.into()))?;
    let known = put_head(inner, &volume.id, Some(&known), next, known.older.clone(), None)
        .map_err(failed)?;
    remember(inner, volume, known.clone()).map_err(failed)?;
    current.replace(known);
    Ok(())
}

/// Ends a session and puts the head; `None` when another change was faster and all begins again.
fn put_stored(
    Turn { inner, volume, pending, known }: &Turn<'_>,
    mut session: Session<'_>,
    mut next: Head,
    chunk_of_lacks: Option<Vec<u8>>,
    chunks: &Chunks,
) -> Result<Option<Known>, SaveError> {
    let failed = |error: SessionError| SaveError::later("failed to store", &error);
    let document = volume.state().document.clone();
    if let Some(document) = &document {
        let bytes = document.encode();
        // only an entry needs the document apart from the head
        if next.entries.iter().any(|entry| entry.root.document == Digest::of(&bytes)) {
            session.put_meta(Digest::of(&bytes), &bytes).map_err(failed)?;
        }
        next.document = Some(document.clone());
    }
    if let Some(lacks) = chunk_of_lacks {
        session.put_meta(Digest::of(&lacks), &lacks).map_err(failed)?;
    }
    let mut older = Vec::new();
    if let Some(chunk) = next.spill(Vec::new()) {
        session.put_meta(Digest::of(&chunk), &chunk).map_err(failed)?;
        older = Head::decode_older(&chunk)
            .map_err(|error| SaveError::later("failed to move older entries", &error))?;
    }
    let packed = session.finish(&next.record()).map_err(failed)?;
    // as late as a record can say it: only the head's own PUT is still to come
    for entry in next.entries.iter_mut().filter(|entry| entry.saved_ms.is_none()) {
        entry.saved_ms = Some(elapsed_ms(inner, entry));
    }
    let mut locations = known.head.locations.clone();
    locations.packs.extend(packed.packs.iter().map(|(pack, _)| *pack));
    let tree = next.now.tree;
    next.root_frame = packed
        .find(&tree)
        .or_else(|| {
            let place = chunks.locate(&tree).ok().flatten()?;
            Some((place.pack, place.row))
        })
        .map(|(pack, row)| RootFrame { pack, offset: row.frame_offset, bytes: row.frame_bytes });
    let gathered = gather(chunks, &locations, &inner.env)
        .map_err(|error| SaveError::later("failed to gather packs", &error))?;
    next.locations = gathered.unwrap_or(locations);
    put_or_begin_again(inner, volume, known, next, older, &pending.operation)
}

fn put_or_begin_again(
    inner: &Inner,
    volume: &Volume,
    known: &Known,
    next: Head,
    older: Vec<EntryRecord>,
    operation: &OperationId,
) -> Result<Option<Known>, SaveError> {
    match put_head(inner, &volume.id, Some(known), next, older, Some(operation)) {
        Ok(known) => Ok(Some(known)),
        Err(SaveError::Later { kind: ErrorKind::Conflict, what }) => {
            // another change of this node was faster: begin again from the new head
            tracing::info!(volume = %volume.id, what, "beginning again");
            let (head, version) = read_head(inner, &volume.id)?;
            let older = read_older(inner, &head)?;
            remember(inner, volume, Known { head, older, version })?;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn known_of(volume: &Volume) -> Result<Known, SaveError> {
    // a fork is used before its head is there
    volume.state().known.clone().ok_or_else(|| SaveError::Later {
        kind: ErrorKind::Unavailable,
        what: format!("volume {} has no head yet", volume.id),
    })
}

/// A change of the head alone.
fn change_head(
    inner: &Arc<Inner>,
    volume: &Volume,
    pending: &Pending,
    ended: Ended,
    transition: impl Fn(&Known, Stamp, Op) -> Result<(Head, Vec<EntryRecord>), TransitionError>,
) -> Result<Ended, SaveError> {
    for _ in 0..PUT_ATTEMPTS {
        let known = known_of(volume)?;
        let made = ended.entry.into_iter().collect();
        let (mut next, mut older) = transition(&known, stamp(inner), op(pending, made))?;
        let chunks = chunks_of(inner, &known.head.locations);
        if let Some(chunk) = next.spill(older.clone()) {
            let mut session = Session::new(
                &chunks,
                &inner.env,
                &volume.id,
                inner.options.pin,
                Progress::default(),
            );
            let failed =
                |error: SessionError| SaveError::later("failed to store older entries", &error);
            session.put_meta(Digest::of(&chunk), &chunk).map_err(failed)?;
            let packed = session.finish(&next.record()).map_err(failed)?;
            next.locations.packs.extend(packed.packs.iter().map(|(pack, _)| *pack));
            let gathered = gather(&chunks, &next.locations, &inner.env)
                .map_err(|error| SaveError::later("failed to gather packs", &error))?;
            if let Some(gathered) = gathered {
                next.locations = gathered;
            }
            older = Head::decode_older(&chunk)
                .map_err(|error| SaveError::later("failed to move older entries", &error))?;
        }
        if let Some(known) =
            put_or_begin_again(inner, volume, &known, next, older, &pending.operation)?
        {
            return finish(inner, volume, pending, &known, ended, false);
        }
    }
    Err(SaveError::Later {
        kind: ErrorKind::Conflict,
        what: "the head changes all the time".into(),
    })
}

/// Sets the head to an entry; what was swapped out becomes another, unless it is one already.
fn restore(
    inner: &Arc<Inner>,
    volume: &Volume,
    pending: &Pending,
    entry: &EntryId,
    before: &EntryRecord,
    keep: u32,
) -> Result<Ended, SaveError> {
    let known = known_of(volume)?;
    let target = known.find_entry(entry).cloned().ok_or_else(|| SaveError::Refused {
        kind: ErrorKind::NotFound,
        what: format!("entry {entry} is not in this project's timeline"),
    })?;
    let ended = Ended { entry: Some(before.id), ..Ended::default() };
    commit(inner, volume, pending, ended, false, |head, root, made, stamp, op| {
        let replaced = head.commit(plain(head, root.clone()), None, stamp)?;
        let is_entry =
            head.entries.iter().any(|other| other.is_live() && other.root.tree == root.tree);
        let next_root = Root {
            parents: vec![root.digest()],
            document: head.now.document,
            ..target.root.clone()
        };
        if is_entry {
            made.entry = None;
            return replaced.commit(plain(&replaced, next_root), op, stamp);
        }
        let record = EntryRecord { root, ..before.clone() };
        made.rolled_off = rolled_off(head, &record, keep);
        made.rolled_off.retain(|id| *id != target.id);
        let replace = Replace {
            root: next_root,
            locations: replaced.locations.clone(),
            root_frame: None,
            before: record,
            trash: made.rolled_off.clone(),
        };
        replaced.restore_to(replace, op, stamp)
    })
}

/// Creates the heads of forks.
fn fork(
    inner: &Arc<Inner>,
    volume: &Volume,
    pending: &Pending,
    entry: Option<&EntryId>,
    targets: &[(VolumeId, ProjectDocument)],
) -> Result<Ended, SaveError> {
    if entry.is_none() {
        let now = Pending { work: Work::Background, ..pending.clone() };
        commit(inner, volume, &now, Ended::default(), true, |head, root, _, stamp, op| {
            head.commit(plain(head, root), op, stamp)
        })?;
    }
    let known = known_of(volume)?;
    let root = match entry {
        None => known.head.now.clone(),
        Some(entry) => {
            known.find_entry(entry).map(|entry| entry.root.clone()).ok_or_else(|| {
                SaveError::Refused {
                    kind: ErrorKind::NotFound,
                    what: format!("entry {entry} is not in this project's timeline"),
                }
            })?
        }
    };
    let mut finished = Finished { operations: vec![pending.operation], ..Finished::default() };
    for (target, document) in targets {
        let mut document = document.clone();
        if let Some(forked) = &mut document.forked_from {
            forked.tree = root.tree;
        }
        let create = Create {
            volume: target.clone(),
            project: document.id.clone(),
            holder: inner.options.node.clone(),
            now: Root {
                document: document_digest(&document),
                parents: vec![root.digest()],
                ..root.clone()
            },
            entries: Vec::new(),
            locations: known.head.locations.clone(),
            root_frame: if entry.is_none() { known.head.root_frame } else { None },
        };
        let mut head = Head::create(create, op(pending, Vec::new()), stamp(inner));
        head.document = Some(document.clone());
        let made = put_head(inner, target, None, head, Vec::new(), Some(&pending.operation))?;
        finished.heads.push(head_row(inner, &made)?);
        let Some(fork) = inner.find_volume(target) else { continue };
        let mut state = fork.state();
        if let Some(copy) = &mut state.copy {
            copy.tree = root.tree;
            copy.seq = made.head.seq;
            copy.unsaved_bytes = Some(0);
            finished.copies.push(copy.clone());
        }
        state.document = Some(document);
        state.saved_at = Some(inner.env.now());
        state.known = Some(made);
        drop(state);
        fork.wake.notify_one();
    }
    finished.results.push(result_row(inner, pending, &known, &Ended::default()));
    inner
        .wait(inner.database.finish(&finished))
        .map_err(|error| SaveError::later("failed to write down a fork", &error))?;
    Ok(Ended::default())
}

fn result_row(inner: &Inner, pending: &Pending, known: &Known, ended: &Ended) -> ResultRow {
    ResultRow {
        operation: pending.operation,
        volume: pending.volume.clone(),
        request: pending.request.to_vec(),
        result: serde_json::to_string(ended).unwrap_or_default(),
        seq: known.head.seq,
        at_us: inner.now_us(),
    }
}

/// Writes down, in one transaction, that work is saved, and lets go of the snapshot before.
fn finish(
    inner: &Arc<Inner>,
    volume: &Volume,
    pending: &Pending,
    known: &Known,
    ended: Ended,
    has_snapshot: bool,
) -> Result<Ended, SaveError> {
    let mut finished = Finished {
        operations: match pending.work {
            // the forks' heads are still to come
            Work::Background if is_fork(volume, pending) => Vec::new(),
            _ => vec![pending.operation],
        },
        heads: vec![head_row(inner, known)?],
        ..Finished::default()
    };
    let mut unneeded = Vec::new();
    if has_snapshot {
        let mut row = stored_row(inner, pending);
        let state = volume.state();
        let needed = needed_by_others(&state, pending);
        let is_now = !matches!(
            pending.work,
            Work::Restore { .. } | Work::RestorePaths { .. } | Work::Rescue { .. }
        );
        row.root = Some(known.head.now.tree.to_string());
        if !is_now {
            row.root = row
                .entry
                .and_then(|id| known.find_entry(&id))
                .map(|entry| entry.root.tree.to_string());
        }
        finished.stored.push(row);
        // the files are another state by now: one that a restore put there meanwhile
        let is_swapped = state.copy.as_ref().is_some_and(|copy| needed.contains(&copy.base));
        if is_now && !is_swapped {
            finished.copies.push(CopyRow {
                volume: volume.id.clone(),
                base: pending.operation,
                tree: known.head.now.tree,
                seq: known.head.seq,
                generation: pending.generation,
                unsaved_bytes: Some(0),
                looked_us: inner.now_us(),
            });
            unneeded.extend(state.copy.as_ref().map(|copy| copy.base));
        } else if let (Work::Restore { .. }, Some(copy)) = (&pending.work, &state.copy) {
            // the restored subvolume's own snapshot is the base from now on
            finished.copies.push(CopyRow { seq: known.head.seq, ..copy.clone() });
        }
    }
    if !matches!(pending.work, Work::Background) {
        finished.results.push(result_row(inner, pending, known, &ended));
    }
    inner
        .wait(inner.database.finish(&finished))
        .map_err(|error| SaveError::later("failed to write down what is saved", &error))?;
    {
        let mut state = volume.state();
        state.known = Some(known.clone());
        state.saved_at = Some(inner.env.now());
        for row in finished.stored {
            state.stored.insert(row.operation, row);
        }
        for copy in finished.copies {
            state.copy = Some(copy);
        }
        let base = state.copy.as_ref().map(|copy| copy.base);
        let needed = needed_by_others(&state, pending);
        let live: Vec<EntryId> =
            known.entries().filter(|entry| entry.is_live()).map(|entry| entry.id).collect();
        unneeded.extend(state.stored.values().filter_map(|row| {
            row.entry.is_none_or(|entry| !live.contains(&entry)).then_some(row.operation)
        }));
        unneeded.retain(|operation| {
            Some(*operation) != base
                && *operation != pending.operation
                && !needed.contains(operation)
                && state
                    .stored
                    .get(operation)
                    .is_none_or(|row| row.entry.is_none_or(|entry| !live.contains(&entry)))
        });
        unneeded.sort_unstable();
        unneeded.dedup();
        for operation in &unneeded {
            state.stored.remove(operation);
        }
    }
    for operation in unneeded {
        inner.drop_stored(&volume.id, &operation);
    }
    Ok(ended)
}

/// The snapshots that other work needs, in the queue or on its way there.
fn needed_by_others(state: &State, pending: &Pending) -> HashSet<OperationId> {
    let queued = state.queue.iter().filter(|other| other.operation != pending.operation);
    let mut needed: HashSet<OperationId> = queued
        .flat_map(|other| {
            let base = match &other.work {
                Work::Restore { base_before, .. } => base_before.map(|(base, _)| base),
                _ => None,
            };
            [Some(other.operation), Some(sub(&other.operation, 1)), base]
        })
        .flatten()
        .collect();
    needed.extend(&state.held);
    needed
}

fn is_fork(volume: &Volume, pending: &Pending) -> bool {
    volume.state().queue.iter().any(|other| {
        other.operation == pending.operation && matches!(other.work, Work::Fork { .. })
    })
}

/// Writes into the head, and then down, that work has failed for good.
pub(crate) fn record_failure(
    inner: &Arc<Inner>,
    volume: &Volume,
    pending: &Pending,
    ended: &Ended,
) -> Result<(), SaveError> {
    let Some((kind, what)) = &ended.failure else { return Ok(()) };
    let known = volume.state().known.clone();
    let Some(known) = known else {
        return inner
            .wait(inner.database.delete_pending(&pending.operation))
            .map_err(|error| SaveError::later("failed to write down a failure", &error));
    };
    let mut message = what.clone();
    message.truncate(message.char_indices().take_while(|(at, _)| *at < 190).count());
    let failed =
        Op { result: OpResult::Failed { kind: *kind, message }, ..op(pending, Vec::new()) };
    let (next, older) = known.next(|head| head.record_op(failed.clone(), stamp(inner)))?;
    let known = put_head(inner, &volume.id, Some(&known), next, older, Some(&pending.operation))?;
    finish(inner, volume, pending, &known, ended.clone(), false).map(drop)
}

pub(crate) fn read_head(inner: &Inner, volume: &VolumeId) -> Result<(Head, Version), SaveError> {
    let key = inner.remote.head_key(volume);
    let object = inner
        .remote
        .get(&key)
        .map_err(|error| SaveError::later("failed to read a head", &error))?;
    let head =
        Head::decode(&object.bytes).map_err(|error| SaveError::Fenced { what: chain(&error) })?;
    Ok((head, object.version))
}

/// Puts a head and stays with it until the store has answered for certain or the tries are used up.
pub(crate) fn put_head(
    inner: &Inner,
    volume: &VolumeId,
    known: Option<&Known>,
    next: Head,
    older: Vec<EntryRecord>,
    operation: Option<&OperationId>,
) -> Result<Known, SaveError> {
    let key = inner.remote.head_key(volume);
    let bytes = next
        .encode()
        .map_err(|error| SaveError::Later { kind: ErrorKind::Internal, what: chain(&error) })?;
    let bytes = Bytes::from(bytes);
    let mut wait = Duration::from_millis(100);
    let mut tried = 0;
    let mut last = String::new();
    loop {
        tried += 1;
        let put = match known {
            Some(known) => inner.remote.put_if_match(&key, bytes.clone(), &known.version),
            None => inner.remote.put_if_absent(&key, bytes.clone()),
        };
        let mut done = None;
        let outcome = match put {
            Ok(Put::Done(version)) => {
                done = Some(version);
                Outcome::Done
            }
            Ok(Put::Refused) => Outcome::Refused,
            Err(error) => {
                last = chain(&error);
                Outcome::Unknown
            }
        };
        if let Some(version) = done {
            return Ok(Known { head: next, older, version });
        }
        let mut version = None;
        let read = match inner.remote.get(&key) {
            Ok(object) => {
                version = Some(object.version.clone());
                match HeadObject::decode(&object.bytes) {
                    Ok(found) => ReadHead::Found(found),
                    Err(_) => ReadHead::Unknown,
                }
            }
            Err(ReadError::NotFound { .. }) => ReadHead::Absent,
            Err(error) => {
                last = chain(&error);
                ReadHead::Unknown
            }
        };
        let time_left = tried < PUT_ATTEMPTS;
        match after_put(outcome, &next, Some(&read), operation, time_left) {
            Next::Success => {
                let (ReadHead::Found(HeadObject::Head(head)), Some(version)) = (read, version)
                else {
                    return Err(SaveError::Later {
                        kind: ErrorKind::Unavailable,
                        what: "the head was saved and cannot be read".into(),
                    });
                };
                let older = read_older(inner, &head)?;
                return Ok(Known { head: *head, older, version });
            }
            Next::BeginAgain | Next::SealedForMe { .. } => {
                return Err(SaveError::Later {
                    kind: ErrorKind::Conflict,
                    what: format!("the head of volume {volume} has changed"),
                });
            }
            Next::Fenced { .. } => {
                return Err(SaveError::Fenced {
                    what: format!("volume {volume} is held by another node"),
                });
            }
            Next::Deleted { .. } => {
                return Err(SaveError::Fenced { what: format!("volume {volume} is deleted") });
            }
            Next::RepeatSame | Next::ReadAgain => {
                inner.wait(tokio::time::sleep(wait));
                wait *= 2;
            }
            Next::AnswerUnknown => {
                return Err(SaveError::Later {
                    kind: ErrorKind::Unavailable,
                    what: format!("the store does not answer: {last}"),
                });
            }
        }
    }
}
