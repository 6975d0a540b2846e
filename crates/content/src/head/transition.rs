//! What may become of a head.

use cove_types::{Classify, EntryId, EntryState, ErrorKind, Label, NodeId, ProjectId, VolumeId};
use jiff::Timestamp;

use super::{
    BACKGROUND, FORMAT, Head, HeadObject, HeadState, OP_FAILURE_BYTES_MAX, OPS_BYTES_MAX, OPS_MAX,
    Op, OpRecord, OpResult, RootFrame, Stamp, Tombstone, TombstoneState, label_twice,
};
use crate::entry::{ENTRIES_MAX, EntryRecord, TRASH_TIME};
use crate::json;
use crate::locations::Locations;
use crate::root::Root;
use crate::spec::VolumeSpec;

/// Why a head does not become what is asked for.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransitionError {
    /// The volume is in the trash or deleted.
    #[error("volume {volume} is in the trash")]
    NotLive { volume: VolumeId },
    /// The new state does not come from the present one; such a change has to keep
    /// the present one as an entry.
    #[error("the new state of volume {volume} does not descend from its present one")]
    NotADescendant { volume: VolumeId },
    /// The entry that is to keep the present state holds another one.
    #[error("entry {entry} does not hold the present state of volume {volume}")]
    BeforeIsNotNow { volume: VolumeId, entry: EntryId },
    /// The operation that makes it took effect already.
    #[error("entry {entry} is there already")]
    EntryIsThere { entry: EntryId },
    /// No such entry.
    #[error("volume {volume} has no entry {entry}")]
    NoSuchEntry { volume: VolumeId, entry: EntryId },
    /// Somebody wants it kept: it does not go to the trash.
    #[error("entry {entry} is pinned")]
    EntryPinned { entry: EntryId },
    /// Two live entries would have one label.
    #[error("label \"{label}\" is taken by another entry")]
    LabelTaken { label: Label },
    /// No room for another entry; those in the trash have given way already.
    #[error("volume {volume} has 256 entries in its timeline, the most that are possible")]
    TooManyEntries { volume: VolumeId },
    /// The caller has to join the older entries first.
    #[error("the older entries of volume {volume} are not loaded")]
    OlderNotJoined { volume: VolumeId },
    /// It may be in a list that nobody can read.
    #[error(
        "whether volume {volume} has entry {entry} is not known: a list of its older entries is \
         lost or damaged"
    )]
    OlderUnread { volume: VolumeId, entry: EntryId },
    /// It changed 2³² times.
    #[error("volume {volume} has changed as often as is possible")]
    SeqExhausted { volume: VolumeId },
}

impl Classify for TransitionError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotLive { .. } | Self::EntryPinned { .. } => ErrorKind::Precondition,
            Self::EntryIsThere { .. } | Self::LabelTaken { .. } => ErrorKind::AlreadyExists,
            Self::NoSuchEntry { .. } => ErrorKind::NotFound,
            Self::TooManyEntries { .. } | Self::SeqExhausted { .. } => ErrorKind::Exhausted,
            Self::OlderUnread { .. } => ErrorKind::Corrupt,
            Self::NotADescendant { .. }
            | Self::BeforeIsNotNow { .. }
            | Self::OlderNotJoined { .. } => ErrorKind::Internal,
        }
    }
}

/// What a new volume begins with.
#[derive(Debug, Clone, PartialEq)]
pub struct Create {
    /// The volume.
    pub volume: VolumeId,
    /// Whose workspace it is.
    pub project: ProjectId,
    /// The node that may write.
    pub holder: NodeId,
    /// Its first state: the empty tree, or that of what it is forked from.
    pub now: Root,
    /// Entries that it begins with; none for most.
    pub entries: Vec<EntryRecord>,
    /// Where the chunks lie.
    pub locations: Locations,
    /// Where the root node lies.
    pub root_frame: Option<RootFrame>,
}

/// A next state that descends from the present one.
#[derive(Debug, Clone, PartialEq)]
pub struct Commit {
    /// The state: the present one, or one that names it as a parent.
    pub root: Root,
    /// Where all chunks lie, of the entries too.
    pub locations: Locations,
    /// Where the root node lies.
    pub root_frame: Option<RootFrame>,
    /// Entries that come with it, the newest first.
    pub add: Vec<EntryRecord>,
    /// Entries that go to the trash with it.
    pub trash: Vec<EntryId>,
}

/// A next state that does not descend from the present one (restore, merge, pull).
#[derive(Debug, Clone, PartialEq)]
pub struct Replace {
    /// The state.
    pub root: Root,
    /// Where all chunks lie, of the entries too.
    pub locations: Locations,
    /// Where the root node lies.
    pub root_frame: Option<RootFrame>,
    /// The entry that keeps the present state.
    pub before: EntryRecord,
    /// Entries that go to the trash with it.
    pub trash: Vec<EntryId>,
}

/// What changes of an entry; what is `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EntryEdit {
    /// Whether retention leaves it alone.
    pub pinned: Option<bool>,
    /// Its name, or none.
    pub label: Option<Option<Label>>,
    /// What its author says, or nothing.
    pub message: Option<Option<String>>,
    /// In the timeline or in the trash.
    pub state: Option<EntryState>,
    /// How long its saving took.
    pub saved_ms: Option<u64>,
}

impl Head {
    /// The first head of a volume: epoch 1, seq 1.
    #[must_use]
    pub fn create(create: Create, op: Op, stamp: Stamp) -> Self {
        let mut head = Self {
            format: FORMAT,
            must: 0,
            may: 0,
            volume: create.volume,
            project: create.project,
            epoch: 1,
            seq: 1,
            state: HeadState::Live,
            trashed_at: None,
            holder: create.holder,
            now: create.now,
            document: None,
            spec: VolumeSpec::default(),
            entries: create.entries,
            older: None,
            unread: Vec::new(),
            locations: create.locations,
            root_frame: create.root_frame,
            ops: Vec::new(),
            ops_from: 0,
            nonce: stamp.nonce,
            time: stamp.time,
            unknown: serde_json::Map::new(),
        };
        head.remember(op);
        head
    }

    /// The next state, with the entries that come and go with it. When all entries are joined,
    /// those that were in the trash for [`TRASH_TIME`] leave the head.
    ///
    /// # Errors
    ///
    /// [`TransitionError`].
    pub fn commit(
        &self,
        commit: Commit,
        op: Option<Op>,
        stamp: Stamp,
    ) -> Result<Self, TransitionError> {
        self.check_live()?;
        if commit.root != self.now && !commit.root.parents.contains(&self.now.digest()) {
            return Err(TransitionError::NotADescendant { volume: self.volume.clone() });
        }
        let mut next = self.next(op, stamp)?;
        next.now = commit.root;
        next.locations = commit.locations;
        next.root_frame = commit.root_frame;
        next.trash_entries(&commit.trash, stamp.time)?;
        next.empty_trash(stamp.time);
        for entry in commit.add.into_iter().rev() {
            next.insert_entry(entry)?;
        }
        Ok(next)
    }

    /// Other places of the same chunks, and nothing else: what gathering and long
    /// sessions do.
    ///
    /// # Errors
    ///
    /// [`TransitionError`].
    pub fn relocate(
        &self,
        locations: Locations,
        root_frame: Option<RootFrame>,
        stamp: Stamp,
    ) -> Result<Self, TransitionError> {
        let mut next = self.next(None, stamp)?;
        next.locations = locations;
        next.root_frame = root_frame;
        Ok(next)
    }

    /// A further entry, of a state that is stored, and what it rolls off.
    ///
    /// # Errors
    ///
    /// [`TransitionError`]; [`EntryIsThere`](TransitionError::EntryIsThere) is success: an id
    /// is derived from its operation.
    pub fn add_entry(
        &self,
        entry: EntryRecord,
        trash: &[EntryId],
        op: Option<Op>,
        stamp: Stamp,
    ) -> Result<Self, TransitionError> {
        let mut next = self.next(op, stamp)?;
        next.trash_entries(trash, stamp.time)?;
        next.insert_entry(entry)?;
        Ok(next)
    }

    /// An entry that is pinned, labelled, put in the trash or taken out of it.
    ///
    /// # Errors
    ///
    /// [`TransitionError`].
    pub fn edit_entry(
        &self,
        id: &EntryId,
        edit: EntryEdit,
        op: Option<Op>,
        stamp: Stamp,
    ) -> Result<Self, TransitionError> {
        let mut next = self.next(op, stamp)?;
        let entry = next.entry_mut(id)?;
        if let Some(pinned) = edit.pinned {
            entry.pinned = pinned;
        }
        let named = edit.label.is_some() || edit.state == Some(EntryState::Live);
        if let Some(label) = edit.label {
            entry.label = label;
        }
        if let Some(message) = edit.message {
            entry.message = message;
        }
        if let Some(saved_ms) = edit.saved_ms {
            entry.saved_ms = Some(saved_ms);
        }
        match edit.state {
            Some(EntryState::Trashed) if entry.pinned && entry.is_live() => {
                return Err(TransitionError::EntryPinned { entry: *id });
            }
            Some(EntryState::Trashed) => trash(entry, stamp.time),
            Some(EntryState::Live) => (entry.state, entry.trashed_at) = (EntryState::Live, None),
            None => {}
        }
        if named {
            next.check_labels()?;
        }
        Ok(next)
    }

    /// A state that does not come from the present one, which `before` keeps.
    ///
    /// # Errors
    ///
    /// [`TransitionError`].
    pub fn restore_to(
        &self,
        replace: Replace,
        op: Option<Op>,
        stamp: Stamp,
    ) -> Result<Self, TransitionError> {
        self.check_live()?;
        if replace.before.root != self.now {
            let (volume, entry) = (self.volume.clone(), replace.before.id);
            return Err(TransitionError::BeforeIsNotNow { volume, entry });
        }
        let mut next = self.next(op, stamp)?;
        next.trash_entries(&replace.trash, stamp.time)?;
        next.insert_entry(replace.before)?;
        next.now = replace.root;
        next.locations = replace.locations;
        next.root_frame = replace.root_frame;
        Ok(next)
    }

    /// The entry `id` with another state: the one before a restore, once it holds the last
    /// write, or a rescue that is brought up to date.
    ///
    /// One in the trash whose files change comes back, since nobody has seen what it holds now; without
    /// its label when another entry has that by now.
    ///
    /// # Errors
    ///
    /// [`TransitionError`].
    pub fn replace_entry_root(
        &self,
        id: &EntryId,
        root: Root,
        locations: Locations,
        op: Option<Op>,
        stamp: Stamp,
    ) -> Result<Self, TransitionError> {
        let mut next = self.next(op, stamp)?;
        let entry = next.entry_mut(id)?;
        let is_back = !entry.is_live() && entry.root.tree != root.tree;
        entry.root = root;
        if is_back {
            (entry.state, entry.trashed_at) = (EntryState::Live, None);
            if label_twice(&next.entries).is_some() {
                next.entry_mut(id)?.label = None;
            }
        }
        next.locations = locations;
        Ok(next)
    }

    /// The volume in the trash, or out of it.
    ///
    /// # Errors
    ///
    /// [`TransitionError`].
    pub fn set_trashed(
        &self,
        trashed: bool,
        op: Option<Op>,
        stamp: Stamp,
    ) -> Result<Self, TransitionError> {
        if self.state == HeadState::Deleted {
            return Err(TransitionError::NotLive { volume: self.volume.clone() });
        }
        let mut next = self.next(op, stamp)?;
        if !trashed {
            (next.state, next.trashed_at) = (HeadState::Live, None);
        } else if self.state == HeadState::Live {
            (next.state, next.trashed_at) = (HeadState::Trashed, Some(stamp.time));
        }
        Ok(next)
    }

    /// What is left when the volume is deleted: a tombstone, or, when some entries are
    /// `held`, a head with these alone.
    ///
    /// # Errors
    ///
    /// [`TransitionError::OlderNotJoined`] when entries are held and there are older ones;
    /// [`OlderUnread`](TransitionError::OlderUnread) when one may be in a list that cannot be read.
    pub fn delete(
        &self,
        held: &[EntryId],
        op: Option<Op>,
        stamp: Stamp,
    ) -> Result<HeadObject, TransitionError> {
        if !held.is_empty() {
            self.check_joined()?;
            self.check_readable(held)?;
        }
        let id = op.as_ref().map(|op| op.id);
        let mut next = self.next(op, stamp)?;
        next.entries.retain(|entry| held.contains(&entry.id));
        if let Some(newest) = next.entries.first() {
            next.now = newest.root.clone();
            next.root_frame = None;
            (next.state, next.trashed_at) = (HeadState::Deleted, None);
            return Ok(HeadObject::Head(Box::new(next)));
        }
        Ok(HeadObject::Tombstone(Tombstone {
            format: FORMAT,
            volume: next.volume,
            epoch: next.epoch,
            seq: next.seq,
            state: TombstoneState::Deleted,
            lived: true,
            op: id,
            nonce: next.nonce,
            time: next.time,
        }))
    }

    /// The same state without an entry, whose bytes stay in the store. Of a deleted volume, what is left with the
    /// others, as [`delete`](Self::delete) has it.
    ///
    /// # Errors
    ///
    /// [`TransitionError`].
    pub fn remove_entry(
        &self,
        id: &EntryId,
        op: Option<Op>,
        stamp: Stamp,
    ) -> Result<HeadObject, TransitionError> {
        let mut next = self.next(op.clone(), stamp)?;
        next.entry_mut(id)?;
        if self.state == HeadState::Deleted {
            // the last one takes all of it along
            self.check_joined()?;
            let left: Vec<EntryId> =
                self.entries.iter().map(|entry| entry.id).filter(|other| other != id).collect();
            return self.delete(&left, op, stamp);
        }
        next.entries.retain(|entry| entry.id != *id);
        Ok(HeadObject::Head(Box::new(next)))
    }

    /// The same state of a volume of which something else is asked.
    ///
    /// # Errors
    ///
    /// [`TransitionError`].
    pub fn specify(
        &self,
        spec: VolumeSpec,
        op: Option<Op>,
        stamp: Stamp,
    ) -> Result<Self, TransitionError> {
        self.check_live()?;
        let mut next = self.next(op, stamp)?;
        next.spec = spec;
        Ok(next)
    }

    /// The same state with one more operation that ended, as a failure mostly.
    ///
    /// # Errors
    ///
    /// [`TransitionError`].
    pub fn record_op(&self, op: Op, stamp: Stamp) -> Result<Self, TransitionError> {
        self.next(Some(op), stamp)
    }

    /// The same state under the next epoch and its holder. The operations stay.
    ///
    /// # Errors
    ///
    /// [`TransitionError`].
    pub fn seal(&self, holder: NodeId, stamp: Stamp) -> Result<Self, TransitionError> {
        let mut next = self.next(None, stamp)?;
        let exhausted = || TransitionError::SeqExhausted { volume: self.volume.clone() };
        next.epoch = self.epoch.checked_add(1).ok_or_else(exhausted)?;
        next.holder = holder;
        Ok(next)
    }

    fn next(&self, op: Option<Op>, stamp: Stamp) -> Result<Self, TransitionError> {
        let exhausted = || TransitionError::SeqExhausted { volume: self.volume.clone() };
        let mut next = self.clone();
        next.seq = self.seq.checked_add(1).ok_or_else(exhausted)?;
        next.nonce = stamp.nonce;
        next.time = stamp.time;
        if let Some(op) = op {
            next.remember(op);
        }
        Ok(next)
    }

    /// Records that `op` takes effect with this head, and forgets the oldest beyond
    /// [`OPS_MAX`]. Where the list would be longer than [`OPS_BYTES_MAX`], the oldest failures lose
    /// their texts, and then the oldest operations are forgotten.
    fn remember(&mut self, op: Op) {
        let Op { id, request, kind, mut result } = op;
        if let OpResult::Failed { message, .. } = &mut result {
            shorten(message);
        }
        // A background commit is asked about only while it is the last one.
        self.ops
            .retain(|other| other.id != id && !(kind == BACKGROUND && other.kind == BACKGROUND));
        self.ops.push(OpRecord { id, request, kind, result, seq: self.seq });
        while self.ops.len() > OPS_MAX {
            self.forget_oldest();
        }
        while self.ops.len() > 1 && json::canonical(&self.ops).len() > OPS_BYTES_MAX {
            let before = self.ops.len() - 1;
            let said = self.ops[..before].iter_mut().find_map(|op| match &mut op.result {
                OpResult::Failed { message, .. } if !message.is_empty() => Some(message),
                _ => None,
            });
            match said {
                Some(message) => message.clear(),
                None => self.forget_oldest(),
            }
        }
    }

    fn forget_oldest(&mut self) {
        let forgotten = self.ops.remove(0);
        // Whoever had seen the head with which it took effect did not ask for it
        // afterwards; whoever had not may have.
        self.ops_from = self.ops_from.max(forgotten.seq);
    }

    fn check_live(&self) -> Result<(), TransitionError> {
        match self.state {
            HeadState::Live => Ok(()),
            HeadState::Trashed | HeadState::Deleted => {
                Err(TransitionError::NotLive { volume: self.volume.clone() })
            }
        }
    }

    fn check_joined(&self) -> Result<(), TransitionError> {
        match self.older {
            None => Ok(()),
            Some(_) => Err(TransitionError::OlderNotJoined { volume: self.volume.clone() }),
        }
    }

    /// Refuses to decide about entries that may be in a list which cannot be read.
    fn check_readable(&self, ids: &[EntryId]) -> Result<(), TransitionError> {
        match ids.iter().find(|id| self.find_entry(id).is_none()) {
            Some(id) if !self.unread.is_empty() => {
                Err(TransitionError::OlderUnread { volume: self.volume.clone(), entry: *id })
            }
            _ => Ok(()),
        }
    }

    fn check_labels(&self) -> Result<(), TransitionError> {
        self.check_joined()?;
        match label_twice(&self.entries) {
            None => Ok(()),
            Some(label) => Err(TransitionError::LabelTaken { label: label.clone() }),
        }
    }

    fn entry_mut(&mut self, id: &EntryId) -> Result<&mut EntryRecord, TransitionError> {
        let volume = self.volume.clone();
        let missing = match self.older {
            None if self.unread.is_empty() => TransitionError::NoSuchEntry { volume, entry: *id },
            None => TransitionError::OlderUnread { volume, entry: *id },
            Some(_) => TransitionError::OlderNotJoined { volume },
        };
        self.entries.iter_mut().find(|entry| entry.id == *id).ok_or(missing)
    }

    fn trash_entries(&mut self, ids: &[EntryId], time: Timestamp) -> Result<(), TransitionError> {
        for id in ids {
            trash(self.entry_mut(id)?, time);
        }
        Ok(())
    }

    fn insert_entry(&mut self, entry: EntryRecord) -> Result<(), TransitionError> {
        if self.find_entry(&entry.id).is_some() {
            return Err(TransitionError::EntryIsThere { entry: entry.id });
        }
        if self.entry_count() >= ENTRIES_MAX {
            self.make_room()?;
        }
        let labelled = entry.label.is_some();
        self.entries.insert(0, entry);
        if labelled { self.check_labels() } else { Ok(()) }
    }

    /// Drops from the list what was in the trash for [`TRASH_TIME`]; the bytes stay in the
    /// store. Time is the writer's: what a wrong clock drops too early is named by no entry any
    /// more, and nothing else.
    fn empty_trash(&mut self, now: Timestamp) {
        if self.older.is_none() {
            self.entries.retain(|entry| {
                entry.is_live()
                    || entry.trashed_at.is_none_or(|since| now.duration_since(since) <= TRASH_TIME)
            });
        }
    }

    /// Drops from the list what was put in the trash first, so that another entry can come.
    fn make_room(&mut self) -> Result<(), TransitionError> {
        self.check_joined()?;
        let trashed = self.entries.iter().enumerate().filter(|(_, entry)| !entry.is_live());
        // of one moment, the older entry: the newest are first
        let first = trashed.min_by_key(|(n, entry)| (entry.trashed_at, std::cmp::Reverse(*n)));
        match first.map(|(n, _)| n) {
            Some(n) => {
                self.entries.remove(n);
                Ok(())
            }
            None => Err(TransitionError::TooManyEntries { volume: self.volume.clone() }),
        }
    }
}

/// Puts `entry` in the trash; one that is there keeps its time.
fn trash(entry: &mut EntryRecord, time: Timestamp) {
    if entry.state == EntryState::Live {
        (entry.state, entry.trashed_at) = (EntryState::Trashed, Some(time));
    }
}

/// Cuts a text to as many characters as have [`OP_FAILURE_BYTES_MAX`] bytes in JSON.
fn shorten(message: &mut String) {
    let in_json = |c: char| match c {
        '"' | '\\' | '\u{8}' | '\t' | '\n' | '\u{c}' | '\r' => 2,
        '\0'..='\u{1f}' => 6,
        c => c.len_utf8(),
    };
    let mut bytes = 0;
    let too_many = message.char_indices().find(|(_, c)| {
        bytes += in_json(*c);
        bytes > OP_FAILURE_BYTES_MAX
    });
    if let Some((end, _)) = too_many {
        message.truncate(end);
    }
}
