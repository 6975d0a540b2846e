//! Volumes in memory, without files, stricter than real ones.
//!
//! The law of operation ids holds for each head: an id gives its first result, another request under it is refused,
//! also of another volume, and one of a caller that has not seen the head lately is too old.

mod serving;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cove_content::document::ProjectDocument;
use cove_content::entry::{ENTRIES_MAX, EntryRecord};
use cove_content::root::{Counts, NotCaptured, Root};
use cove_content::spec::VolumeSpec;
use cove_content::volumes::{Call, EntryView, NewEntry, VolumeError, VolumeStatus};
use cove_env::Env;
use cove_types::{
    Consistency, Digest, Durability, EntryId, EntryKind, EntryState, ErrorKind, OperationId,
    SnapshotId, VolumeId, wire,
};
use serde_json::Map;
use tokio::sync::watch::Sender;

/// A volume in memory.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    document: ProjectDocument,
    pub(crate) spec: VolumeSpec,
    /// What its files are held to.
    pub(crate) limit_bytes: Option<u64>,
    pub(crate) bytes: u64,
    /// So many of the bytes are of what it began as, and its quota is not charged for them.
    shared_bytes: u64,
    /// So many entries nobody can read, which is known once they were asked for.
    pub(crate) unread_entries: u32,
    is_read: bool,
    seq: u32,
    ops_from: u32,
    operations: HashMap<OperationId, ([u8; 8], Vec<EntryId>)>,
    entries: Vec<EntryRecord>,
    is_saved: bool,
    is_deleted: bool,
    pub(crate) trashed_at: Option<jiff::Timestamp>,
    pub(crate) path: Option<PathBuf>,
    /// How many changes it took.
    pub(crate) writes: u32,
}

#[derive(Debug, Default)]
struct State {
    volumes: BTreeMap<VolumeId, Held>,
    /// Those of which nothing is left: their ids are never used again.
    tombstones: BTreeSet<VolumeId>,
    services: BTreeSet<(VolumeId, String)>,
    /// Under which ids something was done to which volume.
    used: HashMap<OperationId, (VolumeId, [u8; 8])>,
    /// How often all volumes were asked for.
    lists: usize,
    mounted: BTreeSet<VolumeId>,
    is_silent: bool,
    /// Whether another Cove holds the store.
    is_foreign: bool,
    /// Whether a quota that is written down cannot be set.
    keeps_no_quota: bool,
    free_bytes: u64,
}

/// The volumes of a node. Cloning shares them.
#[derive(Clone)]
pub(crate) struct Fake {
    state: Arc<Mutex<State>>,
    env: Env,
    /// Whether saving ends.
    saves: Arc<Sender<bool>>,
    /// Whether calls that change something go on.
    goes_on: Arc<Sender<bool>>,
    /// Whether it says what it has.
    answers: Arc<Sender<bool>>,
    /// Whether the store says what older entries there are.
    reads: Arc<Sender<bool>>,
}

impl Fake {
    pub(crate) fn new(env: Env) -> Self {
        let state = State { free_bytes: 1 << 30, ..State::default() };
        let state = Arc::new(Mutex::new(state));
        let open = || Arc::new(Sender::new(true));
        Self { state, env, saves: open(), goes_on: open(), answers: open(), reads: open() }
    }

    /// Whether what is captured is saved.
    pub(crate) fn let_save(&self, saves: bool) {
        self.saves.send_replace(saves);
    }

    /// Whether calls that change something go on, or wait before they take effect.
    pub(crate) fn let_go_on(&self, goes_on: bool) {
        self.goes_on.send_replace(goes_on);
    }

    /// Whether it answers nobody.
    pub(crate) fn silence(&self, is_silent: bool) {
        self.state().is_silent = is_silent;
    }

    pub(crate) fn set_free(&self, free_bytes: u64) {
        self.state().free_bytes = free_bytes;
    }

    pub(crate) fn mount(&self, volume: &VolumeId) {
        self.state().mounted.insert(volume.clone());
    }

    /// How many wait until something is saved.
    pub(crate) fn waiting(&self) -> usize {
        self.saves.receiver_count()
    }

    /// Whether it gives no answer at all, not even that it does not.
    pub(crate) fn hang(&self, hangs: bool) {
        self.answers.send_replace(!hangs);
    }

    /// Whether its store gives no answer when it is asked for older entries.
    pub(crate) fn hang_store(&self, hangs: bool) {
        self.reads.send_replace(!hangs);
    }

    /// Whether another Cove holds its store: what is here can be looked at, and nothing is made.
    pub(crate) fn let_another_hold(&self, is_foreign: bool) {
        self.state().is_foreign = is_foreign;
    }

    /// Whether quotas are set that are written down, or whoever asks for one is told that it may not hold yet.
    pub(crate) fn let_set_quotas(&self, sets: bool) {
        self.state().keeps_no_quota = !sets;
    }

    /// Has a head forget all operations: those of callers that have not seen it as it is are too old.
    pub(crate) fn forget_operations(&self, volume: &VolumeId) {
        self.change(volume, |held| {
            held.operations.clear();
            held.ops_from = held.seq;
        });
        self.state().used.retain(|_, (of, _)| of != volume);
    }

    /// How often all volumes were asked for.
    pub(crate) fn lists(&self) -> usize {
        self.state().lists
    }

    /// Changes a volume as nobody here asked for.
    pub(crate) fn change(&self, volume: &VolumeId, change: impl FnOnce(&mut Held)) {
        change(self.state().volumes.get_mut(volume).unwrap());
    }

    pub(crate) fn look(&self, volume: &VolumeId) -> Held {
        self.state().volumes[volume].clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.state().volumes.len()
    }

    /// Adds an entry of a timeline.
    pub(crate) fn add_entry(&self, volume: &VolumeId, kind: EntryKind) -> EntryId {
        let id = self.env.entry_id();
        let entry = NewEntry {
            kind,
            author: "ada".into(),
            message: Some("by hand".into()),
            label: None,
            cause: Some("something".into()),
            keep: 200,
        };
        let at = self.env.now();
        self.change(volume, |held| held.add(id, &entry, at));
        id
    }

    /// Moves an entry to the trash.
    pub(crate) fn trash_entry(&self, id: &SnapshotId) {
        self.change(&id.volume, |held| {
            let entry = held.entries.iter_mut().find(|entry| entry.id == id.entry).unwrap();
            entry.state = EntryState::Trashed;
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answering(&self) -> Result<MutexGuard<'_, State>, VolumeError> {
        let state = self.state();
        match state.is_silent {
            true => Err(refuse(ErrorKind::Unavailable, "nobody answers")),
            false => Ok(state),
        }
    }

    async fn wait(gate: &Sender<bool>) {
        // the sender lives as long as the fake
        let _ = gate.subscribe().wait_for(|open| *open).await;
    }

    /// Does a call once on a head: the first result of its id, or `act`.
    fn once(
        &self,
        call: &Call,
        volume: &VolumeId,
        act: impl FnOnce(&mut Held) -> Result<Vec<EntryId>, VolumeError>,
    ) -> Result<Vec<EntryId>, VolumeError> {
        let mut state = self.answering()?;
        state.check_same(call)?;
        let held = state.get_mut(volume)?;
        if let Some(first) = held.first(call)? {
            return Ok(first);
        }
        let made = act(held)?;
        held.seq += 1;
        held.writes += 1;
        held.is_saved = false;
        held.operations.insert(call.operation, (call.request, made.clone()));
        state.used.insert(call.operation, (volume.clone(), call.request));
        Ok(made)
    }

    fn save(&self, volumes: &[VolumeId]) {
        let mut state = self.state();
        for volume in volumes {
            if let Some(held) = state.volumes.get_mut(volume) {
                held.is_saved = true;
                held.entries.iter_mut().for_each(|entry| entry.saved_ms = Some(60));
            }
        }
    }
}

impl State {
    fn get(&self, volume: &VolumeId) -> Result<&Held, VolumeError> {
        self.volumes.get(volume).ok_or_else(|| VolumeError::NotHere { volume: volume.clone() })
    }

    fn get_mut(&mut self, volume: &VolumeId) -> Result<&mut Held, VolumeError> {
        let not_here = || VolumeError::NotHere { volume: volume.clone() };
        self.volumes.get_mut(volume).ok_or_else(not_here)
    }

    /// Refuses an operation id that was used for another request.
    fn check_same(&self, call: &Call) -> Result<(), VolumeError> {
        let seen = [Some(call.operation), call.operation.twin()];
        let mut used = seen.into_iter().flatten().filter_map(|id| self.used.get(&id));
        match used.all(|(_, request)| *request == call.request) {
            true => Ok(()),
            false => Err(VolumeError::OtherRequest),
        }
    }

    /// Refuses an id that was used.
    fn check_new(&self, volume: &VolumeId) -> Result<(), VolumeError> {
        match self.volumes.contains_key(volume) || self.tombstones.contains(volume) {
            true => Err(VolumeError::Exists { volume: volume.clone() }),
            false => Ok(()),
        }
    }

    fn status(&self, volume: &VolumeId) -> Result<VolumeStatus, VolumeError> {
        let held = self.get(volume)?;
        let entries = held.entries.iter().filter(|entry| entry.is_live()).count();
        let saved_at = held.is_saved.then_some(held.document.created_at);
        Ok(VolumeStatus {
            volume: volume.clone(),
            document: held.document.clone(),
            spec: held.spec.clone(),
            epoch: 1,
            seq: held.seq,
            path: held.path.clone().filter(|_| !held.is_deleted),
            is_deleted: held.is_deleted,
            trashed_at: held.trashed_at,
            saved_at,
            durability: durability(held.is_saved),
            unsaved_bytes: Some(if held.is_saved { 0 } else { held.bytes }),
            bytes: wire::Bytes {
                logical: held.bytes,
                unique: held.bytes.saturating_sub(held.shared_bytes),
                shared: held.shared_bytes,
            },
            entries: u32::try_from(entries).unwrap(),
            unread_entries: if held.is_read { held.unread_entries } else { 0 },
            not_captured: Vec::new(),
            not_captured_count: 0,
            problems: Vec::new(),
            store: "reachable".into(),
        })
    }
}

impl Held {
    fn new(volume: &VolumeId, document: ProjectDocument, spec: VolumeSpec, bytes: u64) -> Self {
        Self {
            document,
            limit_bytes: spec.quota_bytes,
            spec,
            bytes,
            shared_bytes: bytes,
            unread_entries: 0,
            is_read: false,
            seq: 1,
            ops_from: 0,
            operations: HashMap::new(),
            entries: Vec::new(),
            is_saved: false,
            is_deleted: false,
            trashed_at: None,
            path: Some(format!("/pool/volumes/{volume}/files").into()),
            writes: 1,
        }
    }

    /// What an operation made the first time.
    fn first(&self, call: &Call) -> Result<Option<Vec<EntryId>>, VolumeError> {
        match self.operations.get(&call.operation) {
            Some((request, made)) if *request == call.request => Ok(Some(made.clone())),
            Some(_) => Err(VolumeError::OtherRequest),
            None if call.operation.seq() < self.ops_from => Err(VolumeError::TooOld),
            None => Ok(None),
        }
    }

    fn check_live(&self, volume: &VolumeId) -> Result<(), VolumeError> {
        match (self.is_deleted, self.trashed_at) {
            (true, _) => Err(VolumeError::NotHere { volume: volume.clone() }),
            (_, Some(_)) => Err(refuse(ErrorKind::Precondition, "it is in the trash")),
            (false, None) => Ok(()),
        }
    }

    fn add(&mut self, id: EntryId, entry: &NewEntry, at: jiff::Timestamp) {
        let counts =
            Counts { logical_bytes: self.bytes, data_bytes: self.bytes, ..Counts::default() };
        let root = Root {
            tree: Digest::HOLE,
            level: 0,
            counts,
            not_captured: NotCaptured::default(),
            document: Digest::HOLE,
            parents: Vec::new(),
            must: 0,
            may: 0,
            unknown: Map::new(),
        };
        let record = EntryRecord {
            id,
            kind: entry.kind,
            author: entry.author.clone(),
            cause: entry.cause.clone(),
            message: entry.message.clone(),
            label: entry.label.clone(),
            pinned: false,
            time: at,
            captured_ms: 4,
            saved_ms: None,
            consistency: Consistency::Instant,
            state: EntryState::Live,
            trashed_at: None,
            volume_snapshot: None,
            quota_bytes: self.spec.quota_bytes,
            root,
            unknown: Map::new(),
        };
        record.check().expect("a head holds it");
        assert!(self.entries.len() < ENTRIES_MAX, "a test makes few");
        self.entries.push(record);
    }

    fn entry(&self, entry: EntryId) -> Result<EntryView, VolumeError> {
        let found = self.entries.iter().find(|record| record.id == entry);
        found.map(view).ok_or(match self.unread_entries {
            0 => VolumeError::NoEntry { entry },
            count => VolumeError::EntriesUnread { count },
        })
    }
}

/// What is known of an entry: its root only once it is saved.
fn view(record: &EntryRecord) -> EntryView {
    let is_saved = record.saved_ms.is_some();
    EntryView { record: record.clone(), known: is_saved, durability: durability(is_saved) }
}

fn durability(is_saved: bool) -> Durability {
    if is_saved { Durability::Saved } else { Durability::OnThisNode }
}

fn refuse(kind: ErrorKind, what: &str) -> VolumeError {
    VolumeError::Refused { kind, what: what.to_owned() }
}
