//! What a node remembers of one volume while it runs.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::Duration;

use cove_content::document::ProjectDocument;
use cove_content::entry::{ENTRIES_MAX, EntryRecord};
use cove_content::head::{Head, HeadState, OlderEntries, OpResult, TransitionError};
use cove_content::root::{NotCaptured, NotCapturedPath, Root};
use cove_content::spec::VolumeSpec;
use cove_content::volumes::{EntryView, NewEntry, VolumeError};
use cove_database::{CopyRow, StoredRow};
use cove_objects::Version;
use cove_types::{
    Digest, Durability, EntryId, EntryKind, ErrorKind, OperationId, VolumeId, VolumeName,
};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, oneshot};

use crate::capture::Looked;
use crate::work::{Edit, Pending, Work};

/// The head as it was last acknowledged, with the entries that it only names.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub head: Head,
    pub older: OlderEntries,
    pub version: Version,
}

impl Known {
    /// Whether the entries that the head only names are here too.
    pub fn is_whole(&self) -> bool {
        self.is_loaded() && self.older.unread.is_empty()
    }

    /// Whether it is known of all entries that the head only names that they are here or cannot be read.
    pub fn is_loaded(&self) -> bool {
        self.head.entries.len() + self.older.count() == self.head.entry_count()
    }

    /// How many entries are in lists that cannot be read.
    pub fn unread(&self) -> u32 {
        self.older.unread.iter().map(|list| list.count).fold(0, u32::saturating_add)
    }

    /// All entries, the newest first.
    pub fn entries(&self) -> impl Iterator<Item = &EntryRecord> {
        self.head.entries.iter().chain(&self.older.entries)
    }

    pub fn find_entry(&self, id: &EntryId) -> Option<&EntryRecord> {
        self.entries().find(|entry| entry.id == *id)
    }

    /// The entry `id`.
    ///
    /// # Errors
    ///
    /// It is not in the timeline, or may be in a list that cannot be read.
    pub fn get_entry(&self, id: &EntryId) -> Result<&EntryRecord, VolumeError> {
        let missing = || match self.unread() {
            0 => VolumeError::NoEntry { entry: *id },
            count => VolumeError::EntriesUnread { count },
        };
        self.find_entry(id).ok_or_else(missing)
    }

    /// Applies a transition, with the older entries joined where it needs them. Gives the next head,
    /// still to be spilled, and the older entries that are not in it.
    pub fn next(
        &self,
        transition: impl Fn(&Head) -> Result<Head, TransitionError>,
    ) -> Result<(Head, OlderEntries), TransitionError> {
        self.next_of(transition, |head| Some(head))
    }

    /// The same with transitions after which there may be no head: `head_of` finds it.
    pub fn next_of<T>(
        &self,
        transition: impl Fn(&Head) -> Result<T, TransitionError>,
        head_of: impl Fn(&mut T) -> Option<&mut Head>,
    ) -> Result<(T, OlderEntries), TransitionError> {
        match transition(&self.head) {
            Err(
                TransitionError::OlderNotJoined { volume }
                | TransitionError::OlderUnread { volume, .. },
            ) => {
                let joined = self
                    .head
                    .join(&self.older)
                    .map_err(|_| TransitionError::OlderNotJoined { volume })?;
                let mut next = transition(&joined)?;
                let head = head_of(&mut next);
                let older = head.map(|head| head.name_again(self.head.older.as_ref()));
                Ok((next, older.unwrap_or_default()))
            }
            next => Ok((next?, self.older.clone())),
        }
    }
}

/// How a piece of work ended, for those who wait and for the database.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Ended {
    /// The entry that was made, or that was restored from.
    #[serde(default)]
    pub entry: Option<EntryId>,
    /// Entries that went to the trash.
    #[serde(default)]
    pub rolled_off: Vec<EntryId>,
    /// What could not be taken as it was.
    #[serde(default)]
    pub remarks: Vec<String>,
    /// Why it did not take effect, if it did not.
    #[serde(default)]
    pub failure: Option<(ErrorKind, String)>,
}

impl Ended {
    /// What is told of work that another owner of the volume keeps from being saved. It is not "failed":
    /// a PUT of ours may have taken effect before.
    pub fn fenced() -> Self {
        let what = "another Cove has taken the volume over: whether this took effect there is not known, \
                    and what is not saved is kept on this node";
        Self { failure: Some((ErrorKind::Precondition, what.to_owned())), ..Self::default() }
    }

    /// What is told of work that is not done any more, since it would take away what another owner of the volume has
    /// saved. Whoever asked for it looks again.
    pub fn overtaken(volume: &VolumeId) -> Self {
        let what = format!(
            "another Cove has taken volume {volume} over since this was asked for, and what it saved there stays: \
             this is not done"
        );
        Self { failure: Some((ErrorKind::Conflict, what)), ..Self::default() }
    }
}

impl From<OpResult> for Ended {
    /// What a head's list of operations tells: the entry asked for, then what rolled off.
    fn from(result: OpResult) -> Self {
        match result {
            OpResult::Done { entries, .. } => {
                let mut entries = entries.into_iter();
                Self { entry: entries.next(), rolled_off: entries.collect(), ..Self::default() }
            }
            OpResult::Failed { kind, message } => {
                Self { failure: Some((kind, message)), ..Self::default() }
            }
        }
    }
}

/// Whether an entry stays when its volume is deleted.
pub(crate) fn is_kept_alone(record: &EntryRecord) -> bool {
    record.kind == EntryKind::Csi && record.is_live()
}

/// The turn to capture something, until it is dropped.
pub(crate) type Turn = tokio::sync::OwnedMutexGuard<()>;

/// Something that keeps a volume from being saved.
#[derive(Debug, Clone)]
pub(crate) struct Trouble {
    pub what: String,
    pub kind: ErrorKind,
    pub since: jiff::Timestamp,
}

/// What is known of changes of the files that nothing has captured yet.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// How many edits this node has done since it started.
    edits: u64,
    /// How many of them there were when the last look or capture began.
    looked: u64,
    /// Whether the last look left changes to a later one.
    is_left: bool,
}

impl Changes {
    /// An edit of this node's has come to its end.
    pub fn edited(&mut self) {
        self.edits += 1;
    }

    /// A look or a capture begins: what it is told with at its end.
    pub fn begin(&self) -> u64 {
        self.edits
    }

    /// The look or capture that began so has seen all that was there then; `is_left`: and left it.
    pub fn looked(&mut self, begun: u64, is_left: bool) {
        (self.looked, self.is_left) = (self.looked.max(begun), is_left);
    }

    /// Whether there is something, as far as is known.
    pub fn may_be_there(&self) -> bool {
        self.is_left || self.edits != self.looked
    }
}

/// What changes while a node runs.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub known: Option<Known>,
    pub document: Option<ProjectDocument>,
    /// What was asked of it when it was made, until it has a head.
    pub to_be: VolumeSpec,
    pub queue: VecDeque<Pending>,
    /// Whether an earlier run may have put a head for work in the queue and not have remembered it.
    pub is_resumed: bool,
    pub copy: Option<CopyRow>,
    pub stored: HashMap<OperationId, StoredRow>,
    /// Snapshots of work that is being captured and is not in the queue yet.
    pub held: HashMap<OperationId, u32>,
    pub waiting: HashMap<OperationId, Vec<oneshot::Sender<Ended>>>,
    pub saving: Option<Trouble>,
    pub looking: Option<Trouble>,
    /// The head that was kept could not be read.
    pub reread: Option<Trouble>,
    /// What of it is lost, until the next start.
    pub lost: Vec<Trouble>,
    /// Work for which the timeline has no room, and what is said of it.
    pub aside: Vec<(Pending, Trouble)>,
    pub saved_at: Option<jiff::Timestamp>,
    pub fenced: bool,
    /// Whether something of ours may lie beside the files, which is to go before they are captured.
    pub is_littered: bool,
    /// Whether something of the present state is lost or damaged in the store, so that the next save
    /// puts all of it anew.
    pub mend: bool,
    /// What restores of paths have replaced and programs may still write into, by their operations.
    pub replaced: HashMap<OperationId, Option<Looked>>,
    /// All that a tree does not hold, by the digest of the chunk that lists it: the head's, mostly.
    pub lacks: Option<(Digest, Vec<NotCapturedPath>)>,
    /// What is known of changes since the last capture.
    pub changes: Changes,
    /// By how many plain bytes the snapshot of work in the queue differs from the last commit.
    pub measured: Option<(OperationId, u64)>,
    /// When a look last captured it, since the machine started.
    pub stored_at: Option<Duration>,
    /// When the kernel last had no room for a snapshot of it, since the machine started, and what it said.
    pub no_room: Option<(Duration, String)>,
    /// Since when a swap file in use keeps it from being captured.
    pub swap_file: Option<jiff::Timestamp>,
    /// Since when its files are known not to be here.
    pub missing: Option<jiff::Timestamp>,
    /// Since when some of its entries are known to be in a list that cannot be read.
    pub unread: Option<jiff::Timestamp>,
    /// What it holds of its quota, and since when it is known to be as good as used up.
    pub quota: Option<(cove_btrfs::Usage, jiff::Timestamp)>,
    /// Rescue entries of damaged states that were found to be whole again.
    pub whole: HashSet<EntryId>,
}

impl State {
    /// Remembers what a volume was asked to be that has no head yet.
    pub fn is_to_be(&mut self, document: &ProjectDocument, spec: &VolumeSpec) {
        self.document = Some(document.clone());
        self.to_be.clone_from(spec);
    }

    /// Remembers what its project becomes, when that changes.
    pub fn becomes(&mut self, document: Option<ProjectDocument>) {
        if document.is_some() {
            self.document = document;
        }
    }

    /// What its project is, with what waits to be saved.
    pub fn document_to_be(&self) -> Option<&ProjectDocument> {
        self.queue
            .iter()
            .rev()
            .find_map(|pending| pending.work.document())
            .or(self.document.as_ref())
    }

    /// Remembers what its project is without the document of `failed`, which did not come to be.
    pub fn stays(&mut self, failed: &OperationId) {
        let others = self.queue.iter().rev().filter(|other| other.operation != *failed);
        let waiting = others.filter_map(|other| other.work.document()).next();
        let saved = || self.known.as_ref().and_then(|known| known.head.document.as_ref());
        if let Some(document) = waiting.or_else(saved).cloned() {
            self.document = Some(document);
        }
    }

    /// How many counted entries stay: what its own parameter says, else `unsaid`.
    pub fn keep(&self, unsaid: u32) -> u32 {
        self.spec().retention().unwrap_or(unsaid)
    }

    /// How many counted entries stay beside a new one, which says how many where the volume does not. A VolumeSnapshot
    /// does not count, and what does gives way to none, whatever the volume says by now.
    pub fn keep_beside(&self, new: &NewEntry) -> u32 {
        match new.kind {
            EntryKind::Csi => new.keep,
            _ => self.keep(new.keep),
        }
    }

    /// What is asked of it, with what waits to be saved.
    pub fn spec(&self) -> VolumeSpec {
        self.queue.iter().fold(self.saved_spec().clone(), |spec, pending| match &pending.work {
            Work::Specify { change, .. } => spec.changed(change),
            _ => spec,
        })
    }

    /// The name that it was asked for under, which nothing changes.
    pub fn name(&self) -> Option<&VolumeName> {
        self.saved_spec().name.as_ref()
    }

    fn saved_spec(&self) -> &VolumeSpec {
        self.known.as_ref().map_or(&self.to_be, |known| &known.head.spec)
    }
}

/// One volume.
pub(crate) struct Volume {
    pub id: VolumeId,
    /// Held for writing while the volume's subvolume is replaced by another, for reading while files are changed.
    pub place: RwLock<()>,
    /// Held while work is captured: one at a time. Who waits for it holds no thread, and who has it asks
    /// nothing of the store, but to finish after a start a fork of an entry that is not on this disk.
    pub capture: Arc<tokio::sync::Mutex<()>>,
    state: Mutex<State>,
    /// Wakes the task that saves.
    pub wake: Notify,
    /// Whether that task runs.
    pub is_started: AtomicBool,
}

impl Volume {
    pub fn new(id: VolumeId) -> Self {
        Self {
            id,
            place: RwLock::new(()),
            capture: Arc::default(),
            state: Mutex::default(),
            wake: Notify::new(),
            is_started: AtomicBool::new(false),
        }
    }

    /// Keeps snapshots from being dropped while the work that they are taken for is not in
    /// the queue yet.
    pub fn hold(self: &Arc<Self>, operations: impl IntoIterator<Item = OperationId>) -> Held {
        let operations: Vec<OperationId> = operations.into_iter().collect();
        let mut state = self.state();
        for operation in &operations {
            *state.held.entry(*operation).or_default() += 1;
        }
        drop(state);
        Held { volume: Arc::clone(self), operations }
    }

    /// Whether work is still to be done: what it would change may have gone on without it meanwhile.
    pub fn is_queued(&self, operation: &OperationId) -> bool {
        self.state().queue.iter().any(|pending| pending.operation == *operation)
    }

    /// The work in the queue besides one operation.
    pub fn others(&self, operation: &OperationId) -> Vec<Pending> {
        let state = self.state();
        state.queue.iter().filter(|other| other.operation != *operation).cloned().collect()
    }

    /// Takes work out of the queue until the timeline has room for it, with its snapshot, which nothing
    /// drops meanwhile. Returns what whoever waits for it is told.
    pub fn set_aside(
        &self,
        pending: &Pending,
        why: &str,
        since: jiff::Timestamp,
    ) -> (Ended, Vec<oneshot::Sender<Ended>>) {
        let what =
            format!("what a {} would save stays on this machine: {why}", pending.work.kind());
        let kind = ErrorKind::Exhausted;
        let mut state = self.state();
        state.queue.retain(|other| other.operation != pending.operation);
        state.stored.remove(&pending.operation);
        state.saving = None;
        state.aside.push((pending.clone(), Trouble { what: what.clone(), kind, since }));
        let waiting = state.waiting.remove(&pending.operation).unwrap_or_default();
        (Ended { failure: Some((kind, what)), ..Ended::default() }, waiting)
    }

    /// Takes work out of the queue of a volume that did not come to be, and tells whoever waits for it.
    pub fn give_up(&self, operation: &OperationId) {
        let what = format!("volume {} did not come to be", self.id);
        let failure = Some((ErrorKind::Precondition, what));
        let waiting = {
            let mut state = self.state();
            state.queue.retain(|other| other.operation != *operation);
            state.waiting.remove(operation).unwrap_or_default()
        };
        for waiter in waiting {
            let _ = waiter.send(Ended { failure: failure.clone(), ..Ended::default() });
        }
    }

    /// Puts the work that was set aside into the queue again, once the timeline has room.
    pub fn bring_back(&self) {
        let mut state = self.state();
        let live = state.known.as_ref().map_or(0, |known| {
            let unread = usize::try_from(known.unread()).unwrap_or(usize::MAX);
            known.entries().filter(|entry| entry.is_live()).count().saturating_add(unread)
        });
        if live < ENTRIES_MAX {
            let aside = std::mem::take(&mut state.aside);
            state.queue.extend(aside.into_iter().map(|(pending, _)| pending));
        }
    }

    /// Waits for the turn to capture something.
    pub async fn turn(&self) -> Turn {
        Arc::clone(&self.capture).lock_owned().await
    }

    /// The state; a holder only looks and changes, and never waits for anything.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A root whose content is not known yet.
pub(crate) fn unknown_root() -> Root {
    Root {
        tree: Digest::HOLE,
        level: 0,
        counts: cove_content::root::Counts::default(),
        not_captured: NotCaptured::default(),
        document: Digest::HOLE,
        parents: Vec::new(),
        must: 0,
        may: 0,
        unknown: serde_json::Map::new(),
    }
}

impl State {
    /// All entries, the newest first: what the head has, changed as the pending work will change it.
    pub fn entries(&self) -> Vec<EntryView> {
        let mut views: Vec<EntryView> = self
            .known
            .iter()
            .flat_map(Known::entries)
            .map(|record| EntryView {
                record: record.clone(),
                known: true,
                durability: Durability::Saved,
            })
            .collect();
        for pending in &self.queue {
            match &pending.work {
                Work::Snapshot { entry: record, .. }
                | Work::Restore { before: record, before_is: None, .. }
                | Work::RestorePaths { before: record, .. }
                    // Work that has just been committed is still in the queue for a moment.
                    if views.iter().all(|view| view.record.id != record.id) =>
                {
                    views.push(EntryView {
                        record: record.clone(),
                        known: false,
                        durability: Durability::OnThisNode,
                    });
                }
                Work::Delete => views.retain(|view| is_kept_alone(&view.record)),
                Work::RemoveEntry { entry } => views.retain(|view| view.record.id != *entry),
                Work::EditEntry { entry, edit: Edit::Label(label) } => {
                    if let Some(view) = views.iter_mut().find(|view| view.record.id == *entry) {
                        view.record.label.clone_from(label);
                    }
                }
                _ => {}
            }
        }
        views.sort_by(|a, b| {
            b.record.time.cmp(&a.record.time).then_with(|| b.record.id.cmp(&a.record.id))
        });
        views
    }

    /// Those of [`entries`](Self::entries) that were asked for with a message.
    pub fn entries_asked_for(&self, message: &str) -> Vec<EntryView> {
        let is_so = |record: &EntryRecord| record.message.as_deref() == Some(message);
        // most volumes have none, which is seen without a copy of their entries
        let is_none =
            !self.known.iter().flat_map(Known::entries).any(is_so) && self.queue.is_empty();
        let mut views = if is_none { Vec::new() } else { self.entries() };
        views.retain(|view| view.is_asked_for(message));
        views
    }

    /// The entry that holds the state before a restore that is in the queue, or has ended.
    pub fn entry_before(&self, operation: &OperationId) -> EntryId {
        let told = self.queue.iter().find_map(|pending| match &pending.work {
            Work::Restore { before_is, .. } if pending.operation == *operation => *before_is,
            _ => None,
        });
        told.unwrap_or_else(|| EntryId::derive(operation, "before"))
    }

    /// What the head's tree does not hold: all of it, as far as it is known here.
    pub fn not_captured(&self) -> &[NotCapturedPath] {
        let Some(known) = &self.known else { return &[] };
        let listed = &known.head.now.not_captured;
        match &self.lacks {
            Some((digest, all)) if listed.all == Some(*digest) => all,
            _ => &listed.list,
        }
    }

    /// Whether there is no head, and nothing in the queue that would bring one.
    pub fn is_empty_handed(&self) -> bool {
        self.known.is_none() && self.queue.is_empty()
    }

    /// Whether there is a head and the volume is in use.
    pub fn is_live(&self) -> bool {
        self.known.as_ref().is_some_and(|known| known.head.state == HeadState::Live)
    }

    /// Whether the volume is deleted once all that is captured is saved: nobody reaches its files any more.
    pub fn will_be_deleted(&self) -> bool {
        self.known.as_ref().is_some_and(|known| known.head.state == HeadState::Deleted)
            || self.queue.iter().any(|pending| matches!(pending.work, Work::Delete))
    }

    /// Whether the volume is in the trash once all that is captured is saved.
    pub fn will_be_trashed(&self) -> bool {
        let queued = self.queue.iter().rev().find_map(|pending| match pending.work {
            Work::SetTrashed { trashed } => Some(trashed),
            _ => None,
        });
        queued.unwrap_or_else(|| self.known.is_some() && !self.is_live())
    }

    /// Notes why the work in front is not saved, and since when nothing has been.
    pub fn troubled(&mut self, what: String, kind: ErrorKind, now: jiff::Timestamp) {
        let since = self.saving.as_ref().map_or(now, |old| old.since);
        self.saving = Some(Trouble { what, kind, since });
    }

    /// Tells how `operation`, which is in the queue, will end.
    pub fn end_of(&mut self, operation: &OperationId) -> oneshot::Receiver<Ended> {
        let (sender, receiver) = oneshot::channel();
        if self.fenced {
            let _ = sender.send(Ended::fenced());
            return receiver;
        }
        let waiting = self.waiting.entry(*operation).or_default();
        // who has gone away is remembered no longer than until the next one comes
        waiting.retain(|other| !other.is_closed());
        waiting.push(sender);
        receiver
    }

    /// Tells how all that is in the queue will end.
    pub fn end_of_all(&mut self) -> Vec<oneshot::Receiver<Ended>> {
        let operations: Vec<_> = self.queue.iter().map(|other| other.operation).collect();
        operations.iter().map(|operation| self.end_of(operation)).collect()
    }

    /// Tells how work will end that captures an entry which is not saved yet; `None` for another entry.
    pub fn end_of_entry(&mut self, entry: &EntryId) -> Option<oneshot::Receiver<Ended>> {
        let operation = self.queue.iter().find_map(|pending| match &pending.work {
            Work::Snapshot { entry: record, .. } if record.id == *entry => Some(pending.operation),
            Work::Restore { before, .. } | Work::RestorePaths { before, .. }
                if before.id == *entry =>
            {
                Some(pending.operation)
            }
            _ => None,
        })?;
        Some(self.end_of(&operation))
    }

    /// The head's sequence number; 0 before there is one.
    pub fn seq(&self) -> u32 {
        self.known.as_ref().map_or(0, |known| known.head.seq)
    }
}

/// Snapshots that nothing drops until this is.
pub(crate) struct Held {
    volume: Arc<Volume>,
    operations: Vec<OperationId>,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.volume.state();
        for operation in &self.operations {
            if let Some(holders) = state.held.get_mut(operation) {
                *holders -= 1;
                if *holders == 0 {
                    state.held.remove(operation);
                }
            }
        }
    }
}
