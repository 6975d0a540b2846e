//! Taking a store over after the machine that held it, or a part of it, is lost.

mod adopt;
mod anew;
mod copy;
mod found;
mod lost;
mod rebuild;

pub(crate) use copy::ensure_place;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use cove_btrfs::SubvolumePath;
use cove_content::claim::Take;
use cove_content::document::ProjectDocument;
use cove_content::head::{
    Head, HeadObject, HeadState, Nonce, OlderEntries, OpAnswer, RequestHash, Stamp,
};
use cove_content::volumes::{Progress, Rebuilt, VolumeError};
use cove_database::{DatabaseError, Finished};
use cove_objects::{ReadError, Version};
use cove_types::{Classify, ErrorKind, OperationId, ProjectId, VolumeId, chain, wire};

use crate::claim::{Holding, claim_store};
use crate::node::{Inner, is_other_state, reread_heads_alone};
use crate::recover::adopt::adopt_local;
use crate::recover::copy::{copy_here, hold_to_its_quota};
use crate::recover::found::{Rescue, remember_with_found, unknown};
use crate::recover::lost::Subject;
use crate::recover::rebuild::{Damaged, Seen};
use crate::save::{
    SaveError, bring_older, keep_unknown, put_head, read_older, remember, result_row, unread,
};
use crate::volume::{Ended, Known, Volume};
use crate::work::{Pending, Work};

/// How often a head is sealed anew that changes meanwhile.
const SEALS_MAX: u32 = 4;

/// Takes the store and makes a copy of every volume that it names, as far as it can be read. Volumes whose heads
/// are lost, or damaged, are left to [`Recovery::look_for_lost`].
///
/// What is on this disk and belongs to a volume is never deleted or overwritten: it is its copy, or
/// becomes an entry. May be repeated: what is here already is left alone.
///
/// # Errors
///
/// The store is held by somebody who lives (`Precondition`), or does not answer. What of a volume
/// cannot be recovered is no error but is named.
pub(crate) fn recover(
    inner: &Arc<Inner>,
    take: bool,
    progress: &Progress,
) -> Result<(Recovered, Recovery), VolumeError> {
    let how = if take { Take::Force } else { Take::Recover };
    let store = Arc::clone(inner.remote.store());
    let (me, signs) = (&inner.options.holder, &inner.signs);
    let holding = inner.wait(claim_store(&store, &inner.env, me, how, signs))?;
    inner.set_holding(holding.clone());
    if let Holding::HeldByAnother { age_seconds, .. } = holding {
        return Err(VolumeError::Refused {
            kind: ErrorKind::Precondition,
            what: format!(
                "the store is held by another Cove{}",
                crate::claim::last_seen(age_seconds)
            ),
        });
    }
    reread_heads_alone(inner);
    let mut named = list_heads(inner)
        .map_err(|error| VolumeError::failed("failed to list the volumes in the store", error))?;
    // of two heads that name one project, the one that is in use here keeps it
    named.sort_by_key(|id| inner.find_volume(id).is_none());
    let mut recovery = Recovery {
        inner: Arc::clone(inner),
        named: Vec::new(),
        projects: HashMap::new(),
        seen: Seen::default(),
        damaged: BTreeMap::new(),
        recovered: Recovered::default(),
    };
    let total = named.len() as u64;
    for (number, id) in named.iter().enumerate() {
        progress.update(|progress| {
            "recovering".clone_into(&mut progress.step);
            progress.done_files = number as u64;
            progress.total_files = Some(total);
        });
        let volume = recovery.volume(id);
        recovery.recovered.volumes.extend(volume);
    }
    let mut recovered = std::mem::take(&mut recovery.recovered);
    // before any other is made here
    recovered.lost.extend(unknown(inner, &named));
    recovery.named = named;
    Ok((recovered, recovery))
}

/// The volumes that have an object in the place of their head; what is not a head's name is none of ours.
fn list_heads(inner: &Inner) -> Result<Vec<VolumeId>, ReadError> {
    let named = inner.remote.volumes()?;
    Ok(named.into_iter().filter_map(|(volume, _)| volume).collect())
}

/// What a recovery has found.
#[derive(Default)]
pub(crate) struct Recovered {
    pub volumes: Vec<Arc<Volume>>,
    pub lost: Vec<wire::Lost>,
    /// Volumes that were made from the packs of lost ones; they are among `volumes`.
    pub rebuilt: Vec<Rebuilt>,
    /// Snapshots that were in no head and are being saved.
    pub rescues: Vec<Rescue>,
}

/// A recovery under way.
pub(crate) struct Recovery {
    inner: Arc<Inner>,
    /// The volumes that have an object in the place of their head.
    named: Vec<VolumeId>,
    /// Whose project is whose.
    projects: HashMap<ProjectId, Subject>,
    /// What the heads name that were read.
    seen: Seen,
    /// Heads that are damaged, which their packs may tell.
    damaged: BTreeMap<VolumeId, Damaged>,
    recovered: Recovered,
}

/// Why a head is not known.
enum HeadError {
    /// What is there is no head of this volume.
    Damaged(String),
    Other(String),
}

impl From<HeadError> for String {
    fn from(error: HeadError) -> Self {
        match error {
            HeadError::Damaged(why) | HeadError::Other(why) => why,
        }
    }
}

impl Recovery {
    /// One volume; `None` for a tombstone and for what is lost.
    fn volume(&mut self, id: &VolumeId) -> Option<Arc<Volume>> {
        let known = self.inner.find_volume(id);
        let mut subject = known.as_ref().map_or_else(
            || Subject::unknown(id),
            |volume| {
                let state = volume.state();
                Subject::new(id, state.document.as_ref(), &state.spec())
            },
        );
        let (head, version) = match self.find_head(id) {
            Ok(Some(found)) => found,
            Ok(None) => return None,
            Err(HeadError::Damaged(why)) => {
                self.damaged.insert(id.clone(), Damaged { subject, why });
                return None;
            }
            Err(HeadError::Other(why)) => {
                self.recovered.lost.push(subject.lost(why));
                return None;
            }
        };
        self.seen.add(&head);
        let Some(document) = head.document.clone() else {
            self.recovered
                .lost
                .push(subject.lost("its head does not say which project it is".into()));
            return None;
        };
        subject = Subject::new(id, Some(&document), &head.spec);
        if let Some(other) = self.projects.get(&document.id) {
            let why = format!("{other} is the same project");
            self.recovered.lost.push(subject.lost(why));
            return None;
        }
        if head.state != HeadState::Deleted {
            self.projects.insert(document.id.clone(), subject.clone());
        }
        let here = SubvolumePath::Volume(id.clone());
        let is_here = match self.inner.pool.find(&here) {
            Ok(found) => found.is_some(),
            Err(error) => {
                self.recovered.lost.push(subject.lost(chain(&error)));
                return None;
            }
        };
        // where a head could not be read, what is here is looked at
        let is_unread = self.inner.unread().contains(id);
        let is_complete = |volume: &Arc<Volume>| is_here && volume.state().copy.is_some();
        let complete = known.filter(|volume| is_complete(volume) && !is_unread);
        let recovered = match complete {
            _ if head.state == HeadState::Deleted => {
                if is_here {
                    let files = self.inner.pool.absolute(&here);
                    let why = format!("it is deleted; its files stay in {}", files.display());
                    self.recovered.lost.push(subject.lost(why));
                }
                self.take_deleted(id, (head, version))
            }
            Some(volume) if is_still_ours(&self.inner, &head, &volume) => {
                volume.state().fenced = false;
                Ok(volume)
            }
            _ => self.take(id, (head, version), &document, is_here),
        };
        match recovered {
            Ok(volume) => {
                self.inner.unread().remove(id);
                Some(volume)
            }
            Err(why) => {
                self.recovered.lost.push(subject.lost(why));
                None
            }
        }
    }

    fn find_head(&self, id: &VolumeId) -> Result<Option<(Head, Version)>, HeadError> {
        let key = self.inner.remote.head_key(id);
        let object = self.inner.remote.get(&key).map_err(head_error)?;
        match HeadObject::decode_of(id, &object.bytes).map_err(head_error)? {
            HeadObject::Head(head) => Ok(Some((*head, object.version))),
            HeadObject::Tombstone(_) => Ok(None),
        }
    }

    /// Puts the next epoch of a head, also when what this node still owed it was faster.
    fn seal(
        &self,
        id: &VolumeId,
        mut found: (Head, Version),
    ) -> Result<(Known, OperationId), String> {
        let inner = &*self.inner;
        let mut tried = 0;
        loop {
            tried += 1;
            let (head, version) = found;
            let sealing = OperationId(inner.env.random());
            let stamp = Stamp { time: inner.env.now(), nonce: Nonce(inner.env.random()) };
            let sealed = head.seal(inner.options.node.clone(), stamp);
            let sealed = sealed.map_err(|error| chain(&error))?;
            let before = Known { head, older: OlderEntries::default(), version };
            match put_head(
                inner,
                id,
                Some(&before),
                sealed,
                OlderEntries::default(),
                Some(&sealing),
            ) {
                Ok(known) => return Ok((known, sealing)),
                Err(SaveError::Later { kind: ErrorKind::Conflict, .. }) if tried < SEALS_MAX => {
                    found = self.find_head(id)?.ok_or("it was deleted meanwhile")?;
                }
                Err(error) => return Err(said(error)),
            }
        }
    }

    /// Takes what is left of a deleted volume over: entries that are kept alone, of which no files are here.
    fn take_deleted(&self, id: &VolumeId, found: (Head, Version)) -> Result<Arc<Volume>, String> {
        let inner = &self.inner;
        let volume = inner.find_volume(id).unwrap_or_else(|| Arc::new(Volume::new(id.clone())));
        let capture = Arc::clone(&volume.capture);
        let _turn = capture.blocking_lock();
        if is_still_ours(inner, &found.0, &volume) && volume.state().known.is_some() {
            volume.state().fenced = false;
            return Ok(volume);
        }
        let (mut known, _) = self.seal(id, found)?;
        known.older = read_older(inner, &known.head).map_err(said)?;
        {
            let mut state = volume.state();
            state.document.clone_from(&known.head.document);
            state.saved_at = Some(known.head.time);
            (state.saving, state.fenced) = (None, false);
        }
        remember(inner, &volume, known).map_err(said)?;
        inner.adopt(&volume);
        Ok(volume)
    }

    /// Takes a volume over of which this node has no complete copy, or one that another Cove has changed
    /// since, and makes one. Files that are here and are another state than the store's become an entry
    /// and are put aside.
    fn take(
        &mut self,
        id: &VolumeId,
        (head, version): (Head, Version),
        document: &ProjectDocument,
        is_here: bool,
    ) -> Result<Arc<Volume>, String> {
        let inner = &Arc::clone(&self.inner);
        let subject = Subject::new(id, Some(document), &head.spec);
        let was_ours = head.holder == inner.options.node;
        let remembered = inner.find_volume(id);
        let is_new = remembered.is_none();
        let is_foreign =
            remembered.as_ref().is_some_and(|volume| !is_still_ours(inner, &head, volume));
        // a kept head that could not be read: nothing tells whether this copy's next state comes after the head's
        let is_unread = inner.unread().contains(id);
        let is_other =
            is_unread && remembered.as_ref().is_some_and(|volume| is_other_state(volume, &head));
        let volume = remembered.unwrap_or_else(|| Arc::new(Volume::new(id.clone())));
        // nothing looks at its files or saves what waits for it until they are those of the store
        let capture = Arc::clone(&volume.capture);
        let _turn = capture.blocking_lock();
        volume.state().fenced |= is_foreign;
        if is_foreign {
            // before the head is this node's again: from then on what waits here is done to it, also after a crash
            end_overtaken(inner, &volume, &head).map_err(said)?;
        }
        let (mut known, sealing) = self.seal(id, (head, version))?;
        if is_foreign || is_other {
            // before this node remembers the head as its own: from then on a crash, or a step below that
            // fails, leaves files here that would be saved over this state
            known.older = read_older(inner, &known.head).map_err(said)?;
            known = keep_now(inner, id, known)?;
        }
        {
            let mut state = volume.state();
            state.document.clone_from(&known.head.document);
            state.saved_at = Some(known.head.time);
            state.known = Some(known.clone());
            state.saving = None;
        }
        if let Err(error) = bring_older(inner, &volume).map_err(said) {
            self.recovered.lost.push(subject.lost_part("its older entries", error));
        }
        // from here on the project is listed, whatever of its files can be read
        let known = volume.state().known.clone().unwrap_or(known);
        if is_new {
            let rescues = remember_with_found(inner, &volume, &known, &subject)?;
            self.recovered.rescues.extend(rescues);
        } else {
            remember(inner, &volume, known).map_err(said)?;
        }
        if is_foreign {
            drop_background(inner, &volume).map_err(|error| chain(&error))?;
        }
        let count = unread(&volume);
        if count > 0 {
            let why = VolumeError::EntriesUnread { count }.to_string();
            self.recovered.lost.push(subject.lost_part("its older entries", why));
        }
        let made = match is_here {
            true => adopt_local(inner, &volume, was_ours && !is_foreign),
            false => Ok(false),
        };
        let made = made.and_then(|is_made| match is_made {
            true => Ok(hold_to_its_quota(inner, &volume, &subject).into_iter().collect()),
            // nobody reaches the files any more
            false if volume.state().will_be_deleted() => Ok(Vec::new()),
            false => copy_here(inner, &volume, sealing, &subject),
        });
        // files that could be neither kept nor replaced are never saved over the store's state
        volume.state().fenced = made.is_err() && is_foreign;
        match made {
            Ok(lost) => self.recovered.lost.extend(lost),
            Err(why) => {
                self.recovered.lost.push(subject.lost_part("its files", why));
                if is_here {
                    self.recovered.lost.extend(hold_to_its_quota(inner, &volume, &subject));
                }
            }
        }
        inner.adopt(&volume);
        Ok(volume)
    }
}

fn head_error(error: impl std::error::Error + Classify) -> HeadError {
    match error.kind() {
        ErrorKind::Corrupt => HeadError::Damaged(chain(&error)),
        _ => HeadError::Other(chain(&error)),
    }
}

/// Makes the state of a head an entry of it, unless it is one.
fn keep_now(inner: &Inner, id: &VolumeId, known: Known) -> Result<Known, String> {
    let tree = known.head.now.tree;
    if known.entries().any(|entry| entry.keeps_its_state() && entry.root.tree == tree) {
        return Ok(known);
    }
    keep_unknown(inner, id, &known).map_err(said)
}

/// Forgets what was captured for nobody in particular: the files themselves are newer.
fn drop_background(inner: &Inner, volume: &Volume) -> Result<(), DatabaseError> {
    let dropped: Vec<OperationId> = {
        let state = volume.state();
        let background = state.queue.iter().filter(|work| matches!(work.work, Work::Background));
        background.map(|work| work.operation).collect()
    };
    for operation in dropped {
        inner.wait(inner.database.delete_pending(&operation))?;
        volume.state().queue.retain(|work| work.operation != operation);
    }
    Ok(())
}

/// Ends what would take away what another Cove has saved, of which nobody knew who asked for it: a head that moved on
/// wins. Whoever waits for it is told so, and whoever asks again. Of what the head says that it took effect, the end is
/// found there.
fn end_overtaken(inner: &Inner, volume: &Volume, head: &Head) -> Result<(), SaveError> {
    let is_done = |work: &Pending| {
        let answer = head.find_op(&work.operation, &RequestHash(work.request));
        matches!(answer, OpAnswer::First(_))
    };
    let overtaken: Vec<Pending> = {
        let state = volume.state();
        let takes_away = state.queue.iter().filter(|work| takes_away(&work.work));
        takes_away.filter(|work| !is_done(work)).cloned().collect()
    };
    if overtaken.is_empty() {
        return Ok(());
    }
    let ended = Ended::overtaken(&volume.id);
    let results = overtaken.iter().map(|work| result_row(inner, work, head.seq, &ended));
    let finished = Finished {
        operations: overtaken.iter().map(|work| work.operation).collect(),
        results: results.collect::<Result<_, _>>()?,
        ..Finished::default()
    };
    inner
        .wait(inner.database.finish(&finished))
        .map_err(|error| SaveError::later("failed to write down what is not done", &error))?;
    for operation in &finished.operations {
        tracing::warn!(volume = %volume.id, %operation, "what was not saved before another Cove came is not done");
        let waiting = {
            let mut state = volume.state();
            state.queue.retain(|work| work.operation != *operation);
            state.waiting.remove(operation).unwrap_or_default()
        };
        for waiter in waiting {
            let _ = waiter.send(ended.clone());
        }
    }
    Ok(())
}

/// Whether work takes a volume away from whoever uses it. All else leaves what was saved, or makes it an entry before.
fn takes_away(work: &Work) -> bool {
    match work {
        Work::Delete | Work::SetTrashed { trashed: true } => true,
        Work::Create { .. }
        | Work::Background
        | Work::Snapshot { .. }
        | Work::EditEntry { .. }
        | Work::Describe { .. }
        | Work::Specify { .. }
        // by its id an entry is the same wherever it is, and whoever removes it waits until it is gone
        | Work::RemoveEntry { .. }
        | Work::SetTrashed { trashed: false }
        | Work::Restore { .. }
        | Work::RestorePaths { .. }
        | Work::Fork { .. }
        | Work::Rescue { .. } => false,
    }
}

/// Whether the store knows no other owner of a volume whose copy is here.
///
/// A state that another copy of this Cove saved meanwhile is met, and kept, when this one saves next.
fn is_still_ours(inner: &Inner, head: &Head, volume: &Volume) -> bool {
    let known = volume.state().known.as_ref().map(|known| known.head.epoch);
    // a change whose answer was lost leaves a newer seq of this same owner
    head.holder == inner.options.node && known.is_none_or(|epoch| head.epoch == epoch)
}

fn said(error: SaveError) -> String {
    match error {
        SaveError::Refused { what, .. }
        | SaveError::Later { what, .. }
        | SaveError::Fenced { what } => what,
    }
}
