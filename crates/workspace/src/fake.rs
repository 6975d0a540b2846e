//! Volumes in memory, stricter than real ones.
//!
//! Trees are maps; an archive is lines `path=content` and not tar, because nothing here reads
//! tar; saving is done when [`Fake::let_save`] says so. The law of operation ids holds: an id gives
//! its first result, and another request under it is refused.

mod tree;
mod volume;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{Cursor, Read, Write};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use cove_content::chunks::ChunkError;
use cove_content::document::ProjectDocument;
use cove_content::entry::EntryRecord;
use cove_content::spec::{SpecChange, VolumeSpec};
use cove_content::volumes::{
    Call, Capacity, Captured, Edited, EntryEdit, EntryView, FileEdit, FileReader, FileView,
    FoundLost, Moment, NewEntry, NewVolume, Progress, Rebuilt, Recovered, Restore, Restored,
    Snapshot, Source, Verified, VerifyLevel, VolumeError, VolumeStatus, Volumes,
};
use cove_env::Env;
use cove_types::{
    Digest, Durability, EntryId, EntryKind, EntryState, ErrorKind, OperationId, TreePath, VolumeId,
    wire,
};
use tokio::sync::watch;

use self::tree::Tree;
use self::volume::Volume;

/// What is read where bytes are lost.
struct Damage;

impl Read for Damage {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        Err(std::io::Error::other(ChunkError::Missing { digest: Digest::HOLE }))
    }
}

/// What an operation came to.
#[derive(Debug, Clone)]
enum Outcome {
    Volume(VolumeId, Vec<String>),
    Volumes(Vec<VolumeId>),
    Snapshot(VolumeId, EntryId, Vec<EntryId>),
    Restored(VolumeId, Option<EntryId>),
    Entry(VolumeId, EntryId),
    Described(VolumeId),
}

#[derive(Debug, Default)]
struct State {
    volumes: BTreeMap<VolumeId, Volume>,
    /// What the store has, which a lost machine leaves.
    operations: HashMap<OperationId, ([u8; 8], Outcome)>,
    fail: Option<(ErrorKind, bool)>,
    /// What somebody else deletes before the next call that changes something.
    going: Option<VolumeId>,
    /// A file whose bytes from there on cannot be read.
    damaged: Option<(TreePath, u64)>,
    lost: Vec<wire::Lost>,
    /// Volumes whose heads are lost: the next recovery makes them anew, the last.
    headless: BTreeMap<VolumeId, Volume>,
    /// Whether each volume has a pack that only reading it finds damaged.
    rots: bool,
    /// Whether it is stopping.
    stops: bool,
}

/// The volumes. Cloning shares them.
#[derive(Clone)]
pub struct Fake {
    state: Arc<Mutex<State>>,
    env: Env,
    /// Whether saving ends.
    saves: Arc<watch::Sender<bool>>,
    /// Whether the look for lost volumes ends.
    looks: Arc<watch::Sender<bool>>,
}

impl std::fmt::Debug for Fake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fake")
    }
}

impl Fake {
    /// No volumes; saving ends at once.
    #[must_use]
    pub fn new(env: Env) -> Self {
        let ends = || Arc::new(watch::Sender::new(true));
        Self { state: Arc::default(), env, saves: ends(), looks: ends() }
    }

    /// Whether what is being saved, and what will be, ends.
    pub fn let_save(&self, saves: bool) {
        self.saves.send_replace(saves);
    }

    /// Has the next call that changes something fail: before it takes effect or, when
    /// `took_effect`, after it, as a lost reply does.
    pub fn fail_next(&self, kind: ErrorKind, took_effect: bool) {
        self.state().fail = Some((kind, took_effect));
    }

    /// Has somebody else delete a volume before the next call that changes something.
    pub fn delete_before_next(&self, volume: &VolumeId) {
        self.state().going = Some(volume.clone());
    }

    /// Has the bytes of a file from `at` on be lost.
    pub fn damage(&self, path: &TreePath, at: u64) {
        self.state().damaged = Some((path.clone(), at));
    }

    /// Whether each volume has a pack that only reading it finds damaged.
    pub fn rot(&self, rots: bool) {
        self.state().rots = rots;
    }

    /// Has the list of the oldest entries of a volume be lost.
    pub fn lose_entries(&self, volume: &VolumeId, count: usize) {
        if let Some(volume) = self.state().volumes.get_mut(volume) {
            volume.unread = count;
        }
    }

    /// Has the next recovery name something as lost.
    pub fn lose(&self, what: &str, why: &str) {
        self.state().lost.push(wire::Lost { what: what.to_owned(), why: why.to_owned() });
    }

    /// Has the head of a volume be lost.
    pub fn lose_head(&self, volume: &VolumeId) {
        let mut state = self.state();
        let lost = state.volumes.remove_entry(volume);
        state.headless.extend(lost);
    }

    /// Whether the look for volumes whose heads are lost ends.
    pub fn let_look(&self, looks: bool) {
        self.looks.send_replace(looks);
    }

    /// Puts a symbolic link that points out of the project at a path.
    pub fn link_out(&self, volume: &VolumeId, path: &TreePath) {
        if let Some(volume) = self.state().volumes.get_mut(volume) {
            volume.tree.links.insert(path.clone());
        }
    }

    /// Adds an entry of what was written after a restore, as a node finds it by itself.
    pub fn rescue(&self, volume: &VolumeId) {
        let (chance, at) = (self.env.random(), self.env.now());
        let id = EntryId::derive(&OperationId::new(0, chance), "rescue");
        let entry = NewEntry {
            kind: EntryKind::Rescue,
            author: "cove".into(),
            message: Some("late writes".into()),
            label: None,
            cause: None,
            keep: 200,
        };
        if let Some(volume) = self.state().volumes.get_mut(volume) {
            // Without a label nothing can be refused.
            drop(volume.add(id, entry, at));
        }
    }

    /// How many volumes there are, trashed ones included.
    #[must_use]
    pub fn count(&self) -> usize {
        self.state().volumes.len()
    }

    /// Changes a volume's document behind everybody's back, as another Cove does.
    pub fn rewrite(&self, volume: &VolumeId, change: impl FnOnce(&mut ProjectDocument)) {
        if let Some(volume) = self.state().volumes.get_mut(volume) {
            change(&mut volume.document);
        }
    }

    /// Ends all waiting for what is captured, as a stop does; with `false` it is started again.
    pub fn stop(&self, stops: bool) {
        self.state().stops = stops;
        self.let_save(stops);
    }

    /// Has what was captured of an entry be given up.
    pub fn give_up(&self, volume: &VolumeId, entry: &str) {
        if let Some(volume) = self.state().volumes.get_mut(volume) {
            volume.entries.retain(|(record, _)| record.id.as_str() != entry);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does a call once: the first result of its id, or `act`.
    fn once(
        &self,
        call: &Call,
        act: impl FnOnce(&mut State) -> Result<Outcome, VolumeError>,
    ) -> Result<Outcome, VolumeError> {
        let mut state = self.state();
        if let Some((request, outcome)) = state.operations.get(&call.operation) {
            let first = *request == call.request;
            return if first { Ok(outcome.clone()) } else { Err(VolumeError::OtherRequest) };
        }
        if let Some(volume) = state.going.take() {
            state.volumes.remove(&volume);
        }
        let fail = state.fail.take();
        if let Some((kind, false)) = fail {
            return Err(VolumeError::Refused { kind, what: "the fake was told to fail".into() });
        }
        let outcome = act(&mut state)?;
        state.operations.insert(call.operation, (call.request, outcome.clone()));
        match fail {
            Some((ErrorKind::TimedOut, _)) => {
                Err(VolumeError::Unknown { operation: call.operation })
            }
            Some((kind, _)) => {
                Err(VolumeError::Refused { kind, what: "the fake was told to fail late".into() })
            }
            None => Ok(outcome),
        }
    }

    /// The result now, and again once saving ends.
    fn captured<T, F>(&self, touched: Vec<VolumeId>, value: F) -> Result<Captured<T>, VolumeError>
    where
        T: Send + 'static,
        F: Fn(&State) -> Result<T, VolumeError> + Send + 'static,
    {
        let now = value(&self.state())?;
        let fake = self.clone();
        let saved = async move {
            let mut saves = fake.saves.subscribe();
            // The sender lives as long as `fake`.
            let _ = saves.wait_for(|saves| *saves).await;
            let at = fake.env.now();
            let mut state = fake.state();
            if state.stops {
                return Err(VolumeError::Stopping);
            }
            for volume in &touched {
                if let Some(volume) = state.volumes.get_mut(volume) {
                    volume.saved_at = Some(at);
                    for (entry, _) in &mut volume.entries {
                        entry.saved_ms.get_or_insert(60);
                    }
                }
            }
            value(&state)
        };
        Ok(Captured { value: now, saved: Box::pin(saved) })
    }
}

impl State {
    fn get(&self, volume: &VolumeId) -> Result<&Volume, VolumeError> {
        self.volumes.get(volume).ok_or_else(|| VolumeError::NotHere { volume: volume.clone() })
    }

    fn get_mut(&mut self, volume: &VolumeId) -> Result<&mut Volume, VolumeError> {
        let not_here = || VolumeError::NotHere { volume: volume.clone() };
        self.volumes.get_mut(volume).ok_or_else(not_here)
    }

    fn status(&self, id: &VolumeId) -> Result<VolumeStatus, VolumeError> {
        let volume = self.get(id)?;
        let logical = volume.tree.files.values().map(|content| content.len() as u64).sum();
        let saved = volume.saved_at.is_some();
        Ok(VolumeStatus {
            volume: id.clone(),
            document: volume.document.clone(),
            spec: volume.spec.clone(),
            epoch: 1,
            seq: volume.seq,
            path: Some(PathBuf::from(format!("/pool/volumes/{id}/files"))),
            is_deleted: false,
            trashed_at: volume.trashed_at,
            saved_at: volume.saved_at,
            durability: if saved { Durability::Saved } else { Durability::OnThisNode },
            unsaved_bytes: Some(if saved { 0 } else { logical }),
            bytes: wire::Bytes { logical, unique: logical, shared: 0 },
            entries: u32::try_from(volume.live().count()).unwrap_or(u32::MAX),
            unread_entries: u32::try_from(volume.unread).unwrap_or(u32::MAX),
            not_captured: Vec::new(),
            not_captured_count: 0,
            problems: Vec::new(),
            store: "reachable".into(),
        })
    }

    fn entry(&self, volume: &VolumeId, entry: EntryId) -> Result<EntryView, VolumeError> {
        let found = self.get(volume)?.entries.iter().find(|(record, _)| record.id == entry);
        found.map(|(record, _)| view(record)).ok_or(VolumeError::NoEntry { entry })
    }

    fn tree(&self, volume: &VolumeId, moment: &Moment) -> Result<&Tree, VolumeError> {
        let volume = self.get(volume)?;
        match moment {
            Moment::Now => Ok(&volume.tree),
            Moment::Entry(entry) => volume.held(*entry),
        }
    }
}

fn lawful(spec: &VolumeSpec) -> Result<(), VolumeError> {
    let kind = ErrorKind::Invalid;
    spec.check().map_err(|error| VolumeError::Refused { kind, what: error.to_string() })
}

fn view(record: &EntryRecord) -> EntryView {
    let saved = record.saved_ms.is_some();
    let durability = if saved { Durability::Saved } else { Durability::OnThisNode };
    EntryView { record: record.clone(), known: true, durability }
}

/// What an id gave first was another call's.
fn other<T>() -> Result<T, VolumeError> {
    Err(VolumeError::OtherRequest)
}

#[async_trait]
impl Volumes for Fake {
    async fn create(
        &self,
        call: Call,
        new: NewVolume,
        source: Source,
    ) -> Result<Captured<(VolumeStatus, Vec<String>)>, VolumeError> {
        let NewVolume { volume, document, spec } = new;
        let outcome = self.once(&call, |state| {
            lawful(&spec)?;
            if state.volumes.contains_key(&volume) {
                return Err(VolumeError::Exists { volume: volume.clone() });
            }
            let mut tree = Tree::default();
            if let Source::Archive(archive) = source {
                tree.extract(archive, &TreePath::top())?;
            }
            state.volumes.insert(volume.clone(), Volume::new(document, spec, tree));
            Ok(Outcome::Volume(volume, Vec::new()))
        })?;
        let Outcome::Volume(volume, remarks) = outcome else { return other() };
        self.captured(vec![volume.clone()], move |state| {
            Ok((state.status(&volume)?, remarks.clone()))
        })
    }

    async fn fork(
        &self,
        call: Call,
        source: VolumeId,
        moment: Moment,
        targets: Vec<NewVolume>,
    ) -> Result<Captured<Vec<VolumeStatus>>, VolumeError> {
        let outcome = self.once(&call, |state| {
            let tree = state.tree(&source, &moment)?.clone();
            let taken = targets.iter().find(|new| state.volumes.contains_key(&new.volume));
            if let Some(NewVolume { volume, .. }) = taken {
                return Err(VolumeError::Exists { volume: volume.clone() });
            }
            let ids = targets.iter().map(|new| new.volume.clone()).collect();
            for NewVolume { volume: id, mut document, spec } in targets {
                if let Some(from) = &mut document.forked_from {
                    from.tree = tree.digest();
                }
                state.volumes.insert(id, Volume::new(document, spec, tree.clone()));
            }
            Ok(Outcome::Volumes(ids))
        })?;
        let Outcome::Volumes(ids) = outcome else { return other() };
        self.captured(ids.clone(), move |state| ids.iter().map(|id| state.status(id)).collect())
    }

    async fn snapshot(
        &self,
        call: Call,
        volume: VolumeId,
        entry: NewEntry,
    ) -> Result<Captured<Snapshot>, VolumeError> {
        let at = self.env.now();
        let outcome = self.once(&call, |state| {
            let id = EntryId::derive(&call.operation, "snapshot");
            let gone = state.get_mut(&volume)?.add(id, entry, at)?;
            Ok(Outcome::Snapshot(volume, id, gone))
        })?;
        let Outcome::Snapshot(volume, id, gone) = outcome else { return other() };
        self.captured(vec![volume.clone()], move |state| {
            let rolled_off =
                gone.iter().map(|id| state.entry(&volume, *id)).collect::<Result<_, _>>();
            Ok(Snapshot { entry: state.entry(&volume, id)?, rolled_off: rolled_off? })
        })
    }

    async fn restore(
        &self,
        call: Call,
        volume: VolumeId,
        restore: Restore,
    ) -> Result<Captured<Restored>, VolumeError> {
        let at = self.env.now();
        let outcome = self.once(&call, |state| {
            let before = EntryId::derive(&call.operation, "before-restore");
            let held = state.get_mut(&volume)?;
            let target = held.held(restore.entry)?.clone();
            let known =
                held.entries.iter().any(|(record, tree)| record.is_live() && *tree == held.tree);
            if !known {
                let entry = NewEntry {
                    kind: EntryKind::BeforeRestore,
                    author: restore.author,
                    message: None,
                    label: None,
                    cause: None,
                    keep: restore.keep,
                };
                held.add(before, entry, at)?;
            }
            if restore.paths.is_empty() {
                held.tree = target;
            } else {
                for path in &restore.paths {
                    held.tree.remove(path);
                    let back = target.files.iter().filter(|(other, _)| other.below(path).is_some());
                    let back: Vec<_> = back.map(|(p, c)| (p.clone(), c.clone())).collect();
                    held.tree.files.extend(back);
                }
            }
            held.seq += 1;
            Ok(Outcome::Restored(volume, (!known).then_some(before)))
        })?;
        let Outcome::Restored(volume, before) = outcome else { return other() };
        self.captured(vec![volume.clone()], move |state| {
            let before = before.map(|id| state.entry(&volume, id)).transpose()?;
            Ok(Restored { before })
        })
    }

    async fn edit_entry(
        &self,
        call: Call,
        volume: VolumeId,
        entry: EntryId,
        edit: EntryEdit,
    ) -> Result<EntryView, VolumeError> {
        let at = self.env.now();
        let outcome = self.once(&call, |state| {
            let held = state.get_mut(&volume)?;
            if let EntryEdit::Label(label) = &edit {
                held.free_label(label.as_ref(), entry)?;
            }
            let counted = held.live().filter(|record| record.kind.is_asked_for() && !record.pinned);
            let counted = u32::try_from(counted.count()).unwrap_or(u32::MAX);
            let record = held.record(entry)?;
            match edit {
                EntryEdit::Pin(pinned) => record.pinned = pinned,
                EntryEdit::Label(label) => record.label = label,
                EntryEdit::Trash if record.pinned => {
                    let what = format!("entry {entry} is pinned");
                    return Err(VolumeError::Refused { kind: ErrorKind::Precondition, what });
                }
                EntryEdit::Trash => {
                    record.state = EntryState::Trashed;
                    record.trashed_at = Some(at);
                }
                EntryEdit::Undelete { keep } => {
                    record.state = EntryState::Live;
                    record.trashed_at = None;
                    record.pinned |= counted >= keep;
                }
            }
            held.seq += 1;
            Ok(Outcome::Entry(volume, entry))
        })?;
        let Outcome::Entry(volume, entry) = outcome else { return other() };
        self.state().entry(&volume, entry)
    }

    async fn describe(
        &self,
        call: Call,
        volume: VolumeId,
        document: ProjectDocument,
    ) -> Result<VolumeStatus, VolumeError> {
        let outcome = self.once(&call, |state| {
            let held = state.get_mut(&volume)?;
            held.document = document;
            held.seq += 1;
            Ok(Outcome::Described(volume))
        })?;
        let Outcome::Described(volume) = outcome else { return other() };
        self.state().status(&volume)
    }

    async fn specify(
        &self,
        call: Call,
        volume: VolumeId,
        change: SpecChange,
        document: Option<ProjectDocument>,
    ) -> Result<Captured<VolumeStatus>, VolumeError> {
        let outcome = self.once(&call, |state| {
            let held = state.get_mut(&volume)?;
            let spec = held.spec.changed(&change);
            lawful(&spec)?;
            held.spec = spec;
            held.document = document.unwrap_or_else(|| held.document.clone());
            held.seq += 1;
            Ok(Outcome::Described(volume))
        })?;
        let Outcome::Described(volume) = outcome else { return other() };
        self.captured(vec![volume.clone()], move |state| state.status(&volume))
    }

    async fn set_trashed(
        &self,
        call: Call,
        volume: VolumeId,
        trashed: bool,
    ) -> Result<VolumeStatus, VolumeError> {
        let at = self.env.now();
        let outcome = self.once(&call, |state| {
            let held = state.get_mut(&volume)?;
            held.trashed_at = trashed.then_some(at);
            held.seq += 1;
            Ok(Outcome::Described(volume))
        })?;
        let Outcome::Described(volume) = outcome else { return other() };
        self.state().status(&volume)
    }

    async fn delete(&self, call: Call, volume: VolumeId) -> Result<Captured<()>, VolumeError> {
        let outcome = self.once(&call, |state| {
            state.get_mut(&volume)?;
            state.volumes.remove(&volume);
            Ok(Outcome::Described(volume))
        })?;
        let Outcome::Described(_) = outcome else { return other() };
        self.captured(Vec::new(), |_| Ok(()))
    }

    async fn remove_entry(
        &self,
        call: Call,
        volume: VolumeId,
        entry: EntryId,
    ) -> Result<(), VolumeError> {
        let outcome = self.once(&call, |state| {
            let held = state.get_mut(&volume)?;
            held.entries.retain(|(record, _)| record.id != entry);
            held.seq += 1;
            Ok(Outcome::Described(volume))
        })?;
        let Outcome::Described(_) = outcome else { return other() };
        Ok(())
    }

    async fn snapshot_together(
        &self,
        calls: Vec<(Call, VolumeId)>,
        entry: NewEntry,
    ) -> Result<Captured<Vec<Snapshot>>, VolumeError> {
        let mut values = Vec::new();
        for (call, volume) in calls {
            values.push(self.snapshot(call, volume, entry.clone()).await?.value);
        }
        self.captured(Vec::new(), move |_| Ok(values.clone()))
    }

    async fn store(&self, volume: &VolumeId) -> Result<VolumeStatus, VolumeError> {
        self.wait_saved(volume).await?;
        self.state().status(volume)
    }

    async fn make_service_directory(
        &self,
        volume: &VolumeId,
        service: &str,
    ) -> Result<PathBuf, VolumeError> {
        self.state().get(volume)?;
        Ok(PathBuf::from(format!("/pool/volumes/{volume}/services/{service}")))
    }

    async fn capacity(&self) -> Result<Capacity, VolumeError> {
        Ok(Capacity { available_bytes: 1 << 30, total_bytes: 1 << 31 })
    }

    async fn wait_saved(&self, volume: &VolumeId) -> Result<(), VolumeError> {
        let id = volume.clone();
        let captured = self.captured(vec![volume.clone()], move |state| state.status(&id))?;
        captured.saved.await.map(|_| ())
    }

    async fn list(&self) -> Result<Vec<VolumeStatus>, VolumeError> {
        let state = self.state();
        state.volumes.keys().map(|id| state.status(id)).collect()
    }

    async fn status(&self, volume: &VolumeId) -> Result<VolumeStatus, VolumeError> {
        self.state().status(volume)
    }

    async fn entries(&self, volume: &VolumeId) -> Result<Vec<EntryView>, VolumeError> {
        let state = self.state();
        let volume = state.get(volume)?;
        Ok(volume
            .entries
            .iter()
            .skip(volume.unread)
            .rev()
            .map(|(record, _)| view(record))
            .collect())
    }

    async fn diff(
        &self,
        before: (VolumeId, Moment),
        after: (VolumeId, Moment),
    ) -> Result<Vec<wire::Change>, VolumeError> {
        let state = self.state();
        let before = state.tree(&before.0, &before.1)?;
        let after = state.tree(&after.0, &after.1)?;
        let paths: BTreeSet<_> = before.files.keys().chain(after.files.keys()).collect();
        let change = |path: &TreePath| {
            let (old, new) = (before.files.get(path), after.files.get(path));
            let change = match (old, new) {
                _ if old == new => return None,
                (None, _) => wire::ChangeKind::Added,
                (_, None) => wire::ChangeKind::Removed,
                _ => wire::ChangeKind::Modified,
            };
            Some(wire::Change {
                path: path.to_string(),
                change,
                from: None,
                bytes_before: old.map(|content| content.len() as u64),
                bytes_after: new.map(|content| content.len() as u64),
                mode_before: None,
                mode_after: None,
            })
        };
        Ok(paths.into_iter().filter_map(change).collect())
    }

    async fn file(
        &self,
        volume: &VolumeId,
        moment: &Moment,
        path: &TreePath,
    ) -> Result<FileView, VolumeError> {
        self.state().tree(volume, moment)?.view(path)
    }

    async fn files(
        &self,
        volume: &VolumeId,
        moment: &Moment,
        path: &TreePath,
        recursive: bool,
    ) -> Result<Vec<FileView>, VolumeError> {
        self.state().tree(volume, moment)?.below(path, recursive)
    }

    async fn read(
        &self,
        volume: &VolumeId,
        moment: &Moment,
        path: &TreePath,
        range: Option<Range<u64>>,
    ) -> Result<(FileView, FileReader), VolumeError> {
        let state = self.state();
        let tree = state.tree(volume, moment)?;
        let view = tree.view(path)?;
        let Some(content) = tree.files.get(path) else {
            let (found, wanted) = ("a directory", "a file");
            return Err(VolumeError::WrongKind { path: path.clone(), found, wanted });
        };
        let within = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(content.len());
        let range = range.map_or(0..content.len(), |range| within(range.start)..within(range.end));
        let start = range.start as u64;
        let bytes = content.get(range).unwrap_or_default().to_vec();
        let whole = Cursor::new(bytes);
        let Some((_, at)) = state.damaged.as_ref().filter(|(damaged, _)| damaged == path) else {
            return Ok((view, FileReader::Stream(Box::new(whole))));
        };
        let left = at.saturating_sub(start);
        Ok((view, FileReader::Stream(Box::new(whole.take(left).chain(Damage)))))
    }

    async fn export(
        &self,
        volume: &VolumeId,
        moment: &Moment,
        path: &TreePath,
        mut to: Box<dyn Write + Send>,
    ) -> Result<Vec<String>, VolumeError> {
        let (tree, damaged) = {
            let state = self.state();
            (state.tree(volume, moment)?.clone(), state.damaged.clone())
        };
        tree.view(path)?;
        for (path, content) in tree.files.iter().filter(|(other, _)| other.below(path).is_some()) {
            if damaged.as_ref().is_some_and(|(damaged, _)| damaged == path) {
                let what = format!("failed to read {path}");
                return Err(VolumeError::Refused { kind: ErrorKind::Corrupt, what });
            }
            let line = format!("{path}={}\n", String::from_utf8_lossy(content));
            to.write_all(line.as_bytes()).map_err(|_| VolumeError::Refused {
                kind: ErrorKind::Unavailable,
                what: "nobody reads the archive".into(),
            })?;
        }
        let links = tree.links.iter().filter(|other| other.below(path).is_some());
        Ok(links.map(|link| format!("{link}: it is a symbolic link, left out")).collect())
    }

    async fn edit(&self, volume: &VolumeId, edit: FileEdit) -> Result<Edited, VolumeError> {
        let broke = |_| VolumeError::Refused {
            kind: ErrorKind::Unavailable,
            what: "the stream broke off".into(),
        };
        // As on a disk, others look while a body comes; it takes effect at its end, or not.
        let (edit, _stream) = match edit {
            FileEdit::Put(path, mut content) => {
                let read = tokio::task::spawn_blocking(move || {
                    let mut bytes = Vec::new();
                    content.read_to_end(&mut bytes).map(|_| (bytes, content))
                });
                let read = read.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
                let (bytes, content) = read.map_err(broke)?;
                (FileEdit::Put(path, Box::new(Cursor::new(bytes))), Some(content))
            }
            edit => (edit, None),
        };
        let mut state = self.state();
        if let Some((kind, false)) = state.fail.take() {
            return Err(VolumeError::Refused { kind, what: "the fake was told to fail".into() });
        }
        let held = state.get_mut(volume)?;
        held.saved_at = None;
        let tree = &mut held.tree;
        let files = match edit {
            FileEdit::Put(path, mut content) => {
                let mut bytes = Vec::new();
                content.read_to_end(&mut bytes).map_err(broke)?;
                tree.may_hold(&path)?;
                tree.files.insert(path.clone(), bytes);
                vec![tree.view(&path)?]
            }
            FileEdit::MakeDirectory(path) => {
                if tree.files.contains_key(&path) {
                    return Err(VolumeError::PathExists { path });
                }
                tree.directories.insert(path.clone());
                vec![tree.view(&path)?]
            }
            FileEdit::Remove { path, recursive } => {
                let view = tree.view(&path)?;
                if view.kind == "directory" && !recursive && !tree.below(&path, false)?.is_empty() {
                    return Err(VolumeError::NotEmpty { path });
                }
                tree.remove(&path);
                vec![view]
            }
            FileEdit::Move { from, to } => {
                tree.view(&from)?;
                if tree.is_directory(&to) {
                    return Err(VolumeError::PathExists { path: to });
                }
                let moved: Vec<_> = tree
                    .files
                    .iter()
                    .filter_map(|(path, content)| {
                        let path = to.join_path(&path.below(&from)?).ok()?;
                        Some((path, content.clone()))
                    })
                    .collect();
                tree.remove(&from);
                tree.files.extend(moved);
                vec![tree.view(&to)?]
            }
            FileEdit::Extract(path, archive) => {
                tree.extract(archive, &path)?;
                tree.below(&path, true)?
            }
        };
        Ok(Edited { files, remarks: Vec::new() })
    }

    async fn verify(&self, volume: &VolumeId, level: VerifyLevel) -> Result<Verified, VolumeError> {
        let state = self.state();
        let entries = state.get(volume)?.entries.len() as u64 + 1;
        let is_found = state.rots && matches!(level, VerifyLevel::Read { .. });
        let rotten = || wire::VerifyProblem::new("a pack is damaged");
        Ok(Verified {
            problems: is_found.then(rotten).into_iter().collect(),
            checked: wire::Checked { entries, ..wire::Checked::default() },
        })
    }

    async fn verify_store(&self) -> Result<Option<wire::VerifyProblem>, VolumeError> {
        Ok(None)
    }

    async fn recover(&self, _: bool, progress: Progress) -> Result<Recovered, VolumeError> {
        progress.step("recovering");
        let lost = std::mem::take(&mut self.state().lost);
        let fake = self.clone();
        let rest = Box::pin(async move {
            progress.step(wire::LOOKING_FOR_LOST);
            let mut looks = fake.looks.subscribe();
            // The sender lives as long as `fake`.
            let _ = looks.wait_for(|looks| *looks).await;
            let mut state = fake.state();
            let headless = std::mem::take(&mut state.headless);
            let made: Vec<VolumeId> = headless.keys().cloned().collect();
            state.volumes.extend(headless);
            let volumes = made.iter().map(|id| state.status(id)).collect::<Result<Vec<_>, _>>()?;
            let rebuilt = made.into_iter().map(|volume| Rebuilt {
                lost: volume.clone(),
                volume,
                recorded_at: jiff::Timestamp::UNIX_EPOCH,
            });
            Ok(FoundLost { volumes, lost: Vec::new(), rebuilt: rebuilt.collect() })
        });
        Ok(Recovered { volumes: self.list().await?, lost, rest })
    }

    async fn doctor(&self) -> Vec<wire::Check> {
        vec![wire::Check { name: "pool".into(), ok: true, what: "in memory".into(), hint: None }]
    }
}
