//! [`Volumes`] for the volumes of this node.

mod doctor;
mod pool;
mod status;
mod verify;

use std::io::{Read, Write};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use cove_content::document::ProjectDocument;
use cove_content::read;
use cove_content::spec::SpecChange;
use cove_content::volumes::{
    Call, Capacity, Captured, Edited, EntryEdit, EntryView, FileEdit, FileReader, FileView,
    FoundLost, Moment, NewEntry, NewVolume, Progress, Recovered, Restore, Restored, Saving,
    Snapshot, Source, Verified, VerifyLevel, VolumeError, VolumeFilter, VolumeStatus, Volumes,
};
use cove_types::{EntryId, ErrorKind, TreePath, VolumeId, wire};
use futures::stream::{self, StreamExt};
use tokio::sync::oneshot;

use crate::capture::{Asked, ForkSource};
use crate::claim::Holding;
use crate::files::Place;
use crate::in_making::Thing;
use crate::in_use::refuse_mounts;
use crate::node::{Inner, Node, ask, refresh};
use crate::save::{SaveError, bring_older};
use crate::serve::doctor::doctor;
use crate::serve::status::{Around, status, status_as_held, status_in};
use crate::serve::verify::{check, check_record, unsaved_problem};
use crate::volume::{Ended, Known, Turn, Volume};
use crate::work::{Edit, Work};
use crate::{capture, files, recover};

/// How many volumes the store is asked for the older entries of at once: a part of the calls that may ask it.
const ASKED_AT_ONCE: usize = 16;

/// Runs blocking work of a call.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, VolumeError> + Send + 'static,
) -> Result<T, VolumeError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(VolumeError::Stopping),
    }
}

/// The end of captured work.
async fn end(inner: &Inner, asked: Asked) -> Result<Ended, VolumeError> {
    let ended = match asked {
        Asked::New => Ended::default(),
        Asked::Pending(receiver) => end_of(inner, receiver).await?,
        Asked::Ended(ended) => *ended,
    };
    match ended.failure {
        Some((kind, what)) => Err(VolumeError::Refused { kind, what }),
        None => Ok(ended),
    }
}

/// Waits for the end of work, or of the node.
async fn end_of(inner: &Inner, end: oneshot::Receiver<Ended>) -> Result<Ended, VolumeError> {
    let mut ending = inner.ending.subscribe();
    tokio::select! {
        ended = end => ended.map_err(|_| VolumeError::Stopping),
        _ = ending.wait_for(|ending| *ending) => Err(VolumeError::Stopping),
    }
}

/// What a recovery has found, once its rescues are saved or wait.
async fn found(
    inner: &Arc<Inner>,
    recovered: recover::Recovered,
) -> Result<FoundLost, VolumeError> {
    let recover::Recovered { volumes, mut lost, rebuilt, rescues } = recovered;
    for rescue in rescues {
        lost.extend(rescue.lost(inner).await);
    }
    let inner = Arc::clone(inner);
    blocking(move || {
        let mut found = Vec::new();
        for volume in &volumes {
            match status(&inner, volume) {
                Ok(status) => found.push(status),
                // what was to be deleted is
                Err(VolumeError::NotHere { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(FoundLost { volumes: found, lost, rebuilt })
    })
    .await
}

/// The future that ends when captured work is saved.
fn saving<T: Send + 'static>(
    inner: &Arc<Inner>,
    asked: Asked,
    value: impl FnOnce(&Ended) -> Result<T, VolumeError> + Send + 'static,
) -> Saving<T> {
    let inner = Arc::clone(inner);
    Box::pin(async move {
        let ended = end(&inner, asked).await?;
        value(&ended)
    })
}

impl Node {
    /// Waits until all that is captured of a volume and can be saved is.
    async fn saved(&self, volume: &Volume) -> Result<(), VolumeError> {
        // the head of a fork comes when its source is saved, and its own work after that
        while volume.state().is_empty_handed() {
            let Some(receiver) = self.inner.end_of_fork(&volume.id) else { break };
            end(&self.inner, Asked::Pending(receiver)).await?;
        }
        let waiting = volume.state().end_of_all();
        for receiver in waiting {
            end(&self.inner, Asked::Pending(receiver)).await?;
        }
        match volume.state().known {
            Some(_) => Ok(()),
            None => Err(VolumeError::Refused {
                kind: ErrorKind::Unavailable,
                what: "nothing of it is saved, and nothing is on its way".to_owned(),
            }),
        }
    }

    /// Refuses what would wait for a store that another Cove holds, and to say of what is not here that there is
    /// no such thing: it may be in that store.
    fn refuse_foreign(&self) -> Result<(), VolumeError> {
        match self.inner.holding() {
            Holding::HeldByAnother { .. } => Err(VolumeError::HeldByAnother),
            Holding::Held | Holding::Unknown { .. } => Ok(()),
        }
    }

    /// Refuses a change that would wait for a store, or for a volume, that another Cove holds.
    fn refuse_lost(&self, volume: &Volume) -> Result<(), VolumeError> {
        self.refuse_foreign()?;
        if volume.state().fenced { Err(VolumeError::HeldByAnother) } else { Ok(()) }
    }

    /// Refuses to say anything of a volume whose head could not be read here and has not come from the store again
    /// yet: it is there, and little is known of it.
    fn refuse_unread(&self, id: &VolumeId) -> Result<(), VolumeError> {
        if !self.inner.unread().contains(id) {
            return Ok(());
        }
        self.refuse_foreign().and(Err(not_read(id, "")))
    }

    fn volume(&self, id: &VolumeId) -> Result<Arc<Volume>, VolumeError> {
        self.refuse_unread(id)?;
        self.inner.get_volume(id).or_else(|error| match error {
            VolumeError::NotHere { .. } => self.refuse_foreign().and(Err(error)),
            _ => Err(error),
        })
    }

    /// A volume that has files: one of which only entries are left is not here.
    fn live_volume(&self, id: &VolumeId) -> Result<Arc<Volume>, VolumeError> {
        let volume = self.volume(id)?;
        let is_deleted = volume.state().will_be_deleted();
        if is_deleted { Err(VolumeError::NotHere { volume: id.clone() }) } else { Ok(volume) }
    }

    /// What is read at a moment: of a deleted volume its entries alone.
    fn volume_at(&self, id: &VolumeId, moment: &Moment) -> Result<Arc<Volume>, VolumeError> {
        match moment {
            Moment::Now => self.live_volume(id),
            Moment::Entry(_) => self.volume(id),
        }
    }

    /// Runs blocking work of a call that may ask the store: not many at once, since each may wait as
    /// long as the store lets it.
    async fn asking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, VolumeError> + Send + 'static,
    ) -> Result<T, VolumeError> {
        let asking = Arc::clone(&self.inner.asking).acquire_owned();
        let permit = asking.await.map_err(|_| VolumeError::Stopping)?;
        blocking(move || {
            let _permit = permit;
            work()
        })
        .await
    }

    /// Does something where a moment can be read.
    async fn at<T: Send + 'static>(
        &self,
        id: &VolumeId,
        moment: &Moment,
        work: impl FnOnce(&Inner, &Volume, &Place) -> Result<T, VolumeError> + Send + 'static,
    ) -> Result<T, VolumeError> {
        let (inner, volume) = (Arc::clone(&self.inner), self.volume_at(id, moment)?);
        let moment = moment.clone();
        let (inner_here, volume_here, moment_here) =
            (Arc::clone(&inner), Arc::clone(&volume), moment.clone());
        let done =
            blocking(move || match files::find_here(&inner_here, &volume_here, &moment_here)? {
                Some(place) => work(&inner_here, &volume_here, &place).map(Ok),
                None => Ok(Err(work)),
            });
        match done.await? {
            Ok(done) => Ok(done),
            Err(work) => {
                let work =
                    move || work(&inner, &volume, &files::find_stored(&inner, &volume, &moment)?);
                self.asking(work).await
            }
        }
    }

    /// Makes sure that an entry can be had: it is on this disk, saved or not, or known to be in the store.
    /// Asks the store for those that the head only names.
    async fn usable_entry(&self, volume: &Arc<Volume>, entry: &EntryId) -> Result<(), VolumeError> {
        let (inner, of, wanted) = (Arc::clone(&self.inner), Arc::clone(volume), *entry);
        if blocking(move || Ok(capture::local_entry(&inner, &of, &wanted).is_some())).await? {
            return Ok(());
        }
        let end = volume.state().end_of_entry(entry);
        if let Some(end) = end {
            end_of(&self.inner, end).await?;
        }
        self.known_entry(volume, entry).await?;
        let state = volume.state();
        let missing = VolumeError::NoEntry { entry: *entry };
        state.known.as_ref().map_or(Err(missing), |known| known.get_entry(entry).map(drop))
    }

    /// Asks the store for the older entries when this one is not among those that are here.
    async fn known_entry(&self, volume: &Arc<Volume>, entry: &EntryId) -> Result<(), VolumeError> {
        let is_here = || volume.state().entries().iter().any(|view| view.record.id == *entry);
        if is_here() {
            return Ok(());
        }
        self.all_entries(volume).await?;
        let known = volume.state().known.clone();
        match known {
            Some(known) if !is_here() => known.get_entry(entry).map(drop),
            _ => Ok(()),
        }
    }

    /// Asks the store for the older entries, unless they are here. What cannot be read is left out.
    async fn all_entries(&self, volume: &Arc<Volume>) -> Result<(), VolumeError> {
        if volume.state().known.as_ref().is_none_or(Known::is_loaded) {
            return Ok(());
        }
        let (inner, volume) = (Arc::clone(&self.inner), Arc::clone(volume));
        self.asking(move || bring_older(&inner, &volume).map_err(SaveError::for_caller)).await
    }

    /// Captures a change of the head alone.
    async fn change(
        &self,
        call: Call,
        volume: &Arc<Volume>,
        work: Work,
    ) -> Result<Asked, VolumeError> {
        let turn = volume.turn().await;
        let (inner, volume) = (Arc::clone(&self.inner), Arc::clone(volume));
        blocking(move || capture::change(&inner, &volume, &call, work, turn)).await
    }

    /// Extracts an archive, all of it or nothing. However long its stream takes, the turn to capture is
    /// taken only when it has ended.
    async fn extract(
        &self,
        volume: &Arc<Volume>,
        path: TreePath,
        mut stream: Box<dyn Read + Send>,
    ) -> Result<Edited, VolumeError> {
        let (inner, of) = (Arc::clone(&self.inner), Arc::clone(volume));
        let staged = blocking(move || files::stage(&inner, &of, path, &mut *stream)).await?;
        let turn = volume.turn().await;
        let (inner, volume) = (Arc::clone(&self.inner), Arc::clone(volume));
        blocking(move || {
            let merged = files::merge(&inner, &volume, &staged, turn);
            volume.state().changes.edited();
            merged
        })
        .await
    }

    /// Refuses to move a volume to the trash that somebody has mounted. One that lies there, or is on its way, is as
    /// good.
    async fn refuse_mounted(&self, volume: &Arc<Volume>, call: &Call) -> Result<(), VolumeError> {
        let is_asked = !matches!(self.asked(volume, call).await?, Asked::New);
        if is_asked || volume.state().will_be_trashed() {
            return Ok(());
        }
        let (inner, volume) = (Arc::clone(&self.inner), Arc::clone(volume));
        blocking(move || refuse_mounts(&*inner.pool, &volume.id, "", "")).await
    }

    /// Captures what was written before this call, for whoever needs it in the store.
    async fn look_at(&self, volume: &Arc<Volume>) -> Result<(), VolumeError> {
        let turn = volume.turn().await;
        let (inner, volume) = (Arc::clone(&self.inner), Arc::clone(volume));
        blocking(move || capture::look_at_one(&inner, &volume, turn)).await
    }

    /// Prepares a restore, for which the store may be asked, and carries it out in its turn.
    async fn restore_by<T: Send + 'static>(
        &self,
        volume: &Arc<Volume>,
        call: Call,
        restore: Restore,
        prepare: impl FnOnce(&Arc<Inner>, &Arc<Volume>, &Call, &Restore) -> Result<T, VolumeError>
        + Send
        + 'static,
        carry_out: impl FnOnce(
            &Arc<Inner>,
            &Arc<Volume>,
            &Call,
            &Restore,
            T,
            Turn,
        ) -> Result<Asked, VolumeError>
        + Send
        + 'static,
    ) -> Result<Asked, VolumeError> {
        let (inner, of, asked, wanted) =
            (Arc::clone(&self.inner), Arc::clone(volume), call.clone(), restore.clone());
        let prepared = self.asking(move || prepare(&inner, &of, &asked, &wanted)).await?;
        let making = self.inner.in_making.begin([Thing::Operation(call.operation)]).await;
        let turn = volume.turn().await;
        let (inner, volume) = (Arc::clone(&self.inner), Arc::clone(volume));
        blocking(move || {
            let _making = making;
            carry_out(&inner, &volume, &call, &restore, prepared, turn)
        })
        .await
    }

    /// The entry that holds the state before a restore, which is under way or has ended; none where it is in a list
    /// that the store does not give now.
    async fn state_before(
        &self,
        volume: &Arc<Volume>,
        call: &Call,
        asked: &Asked,
    ) -> Option<EntryView> {
        let ended = |asked: &Asked| match asked {
            Asked::Ended(ended) => ended.entry,
            Asked::New | Asked::Pending(_) => None,
        };
        let expected = ended(asked).unwrap_or_else(|| volume.state().entry_before(&call.operation));
        if let Ok(view) = find_view(volume, &expected) {
            return Some(view);
        }
        // it has ended since it was looked for in the queue, or its entry is one of the older ones
        let again = self.asked(volume, call).await.ok();
        let told = again.as_ref().and_then(ended).unwrap_or(expected);
        self.known_entry(volume, &told).await.ok()?;
        find_view(volume, &told).ok()
    }

    /// The volumes that a filter takes in, or all, in the order of their ids.
    async fn statuses(
        &self,
        wanted: Option<VolumeFilter>,
    ) -> Result<Vec<VolumeStatus>, VolumeError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let around = Around::look(&inner);
            let mut found = Vec::new();
            let mut volumes = inner.all_volumes();
            volumes.sort_by(|a, b| a.id.cmp(&b.id));
            for volume in volumes {
                let is_meant = {
                    let state = volume.state();
                    // what could not be read again yet is named by the doctor
                    state.document.as_ref().is_some_and(|document| {
                        let is_in = |wanted: &VolumeFilter| {
                            wanted.includes(&volume.id, state.name(), &document.slug)
                        };
                        wanted.as_ref().is_none_or(is_in)
                    })
                };
                if is_meant {
                    match status_in(&inner, &volume, &around) {
                        Ok(status) => found.push(status),
                        // it went meanwhile
                        Err(VolumeError::NotHere { .. }) => {}
                        Err(error) => return Err(error),
                    }
                }
            }
            Ok(found)
        })
        .await
    }

    async fn status_of(&self, volume: Arc<Volume>) -> Result<VolumeStatus, VolumeError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || status(&inner, &volume)).await
    }

    /// What became of an operation under this id before.
    async fn asked(&self, volume: &Arc<Volume>, call: &Call) -> Result<Asked, VolumeError> {
        let (inner, volume, call) = (Arc::clone(&self.inner), Arc::clone(volume), call.clone());
        blocking(move || capture::asked(&inner, &volume, &call)).await
    }
}

/// What is told while it is not known again what a volume is.
fn not_read(id: &VolumeId, so: &str) -> VolumeError {
    VolumeError::Refused {
        kind: ErrorKind::Unavailable,
        what: format!(
            "what this machine remembers of volume {id} is damaged and not read from the store again yet{so}"
        ),
    }
}

fn find_view(volume: &Volume, id: &EntryId) -> Result<EntryView, VolumeError> {
    let views = volume.state().entries();
    views.into_iter().find(|view| view.record.id == *id).ok_or(VolumeError::NoEntry { entry: *id })
}

fn snapshot_of(volume: &Volume, ended: &Ended, id: &EntryId) -> Result<Snapshot, VolumeError> {
    let views = volume.state().entries();
    let find = |id: &EntryId| views.iter().find(|view| view.record.id == *id).cloned();
    let entry = find(id).ok_or(VolumeError::NoEntry { entry: *id })?;
    Ok(Snapshot { entry, rolled_off: ended.rolled_off.iter().filter_map(find).collect() })
}

#[async_trait]
impl Volumes for Node {
    async fn create(
        &self,
        call: Call,
        new: NewVolume,
        source: Source,
    ) -> Result<Captured<(VolumeStatus, Vec<String>)>, VolumeError> {
        self.refuse_foreign()?;
        self.refuse_unread(&new.volume)?;
        let inner = Arc::clone(&self.inner);
        let things = [Thing::Operation(call.operation), Thing::Volume(new.volume.clone())];
        let making = inner.in_making.begin(things).await;
        blocking(move || {
            let (volume, asked) = capture::create(&inner, &call, new, source, making)?;
            let remarks = match volume.state().queue.front().map(|pending| pending.work.clone()) {
                Some(Work::Create { remarks, .. }) => remarks,
                _ => Vec::new(),
            };
            let value = (status_as_held(&inner, &volume, &Around::look(&inner))?, remarks);
            let told = Arc::clone(&inner);
            let saved = saving(&inner, asked, move |ended| {
                Ok((status(&told, &volume)?, ended.remarks.clone()))
            });
            Ok(Captured { value, saved })
        })
        .await
    }

    async fn fork(
        &self,
        call: Call,
        source: VolumeId,
        moment: Moment,
        targets: Vec<NewVolume>,
    ) -> Result<Captured<Vec<VolumeStatus>>, VolumeError> {
        let (inner, volume) = (Arc::clone(&self.inner), self.volume(&source)?);
        self.refuse_lost(&volume)?;
        targets.iter().try_for_each(|new| self.refuse_unread(&new.volume))?;
        let mut asked = self.asked(&volume, &call).await?;
        if let Asked::New = asked {
            if let Moment::Now = moment {
                capture::refuse_source(&volume, &moment)?;
            }
            let from = match moment {
                Moment::Now => ForkSource::Now,
                Moment::Entry(entry) => {
                    self.usable_entry(&volume, &entry).await?;
                    let (inner, volume, call) =
                        (Arc::clone(&inner), Arc::clone(&volume), call.clone());
                    self.asking(move || capture::prepare_fork(&inner, &volume, &call, &entry))
                        .await?
                }
            };
            let made = targets.iter().map(|new| Thing::Volume(new.volume.clone()));
            let things = made.chain([Thing::Operation(call.operation)]);
            let making = inner.in_making.begin(things).await;
            let turns = (making, volume.turn().await);
            let (inner, targets) = (Arc::clone(&inner), targets.clone());
            asked = blocking(move || {
                capture::fork(&inner, &volume, &call, &moment, &targets, from, turns)
            })
            .await?;
        }
        let all = move |inner: &Inner| {
            let mut all = Vec::new();
            for NewVolume { volume, .. } in &targets {
                all.push(status(inner, inner.get_volume(volume)?.as_ref())?);
            }
            Ok(all)
        };
        let made = Arc::clone(&inner);
        blocking(move || {
            let value = all(&made)?;
            let told = Arc::clone(&made);
            Ok(Captured { value, saved: saving(&made, asked, move |_| all(&told)) })
        })
        .await
    }

    async fn snapshot(
        &self,
        call: Call,
        volume: VolumeId,
        entry: NewEntry,
    ) -> Result<Captured<Snapshot>, VolumeError> {
        let (inner, volume) = (Arc::clone(&self.inner), self.live_volume(&volume)?);
        self.refuse_lost(&volume)?;
        if entry.label.is_some() {
            self.all_entries(&volume).await?;
        }
        let turn = volume.turn().await;
        blocking(move || {
            let asked = capture::snapshot(&inner, &volume, &call, &entry, turn)?;
            let id = EntryId::derive(&call.operation, "snapshot");
            let value = snapshot_of(&volume, &Ended::default(), &id)?;
            let saved = saving(&inner, asked, move |ended| snapshot_of(&volume, ended, &id));
            Ok(Captured { value, saved })
        })
        .await
    }

    async fn restore(
        &self,
        call: Call,
        volume: VolumeId,
        mut restore: Restore,
    ) -> Result<Captured<Restored>, VolumeError> {
        let volume = self.live_volume(&volume)?;
        self.refuse_lost(&volume)?;
        restore.keep = volume.state().keep(restore.keep);
        let repeated = call.clone();
        let mut asked = self.asked(&volume, &call).await?;
        if let Asked::New = asked {
            capture::refuse_trashed(&volume)?;
            self.usable_entry(&volume, &restore.entry).await?;
            asked = match restore.paths.is_empty() {
                true => {
                    let (prepare, carry_out) = (capture::prepare_restore, capture::restore);
                    self.restore_by(&volume, call, restore, prepare, carry_out).await?
                }
                false => {
                    let prepare = capture::prepare_paths;
                    self.restore_by(&volume, call, restore, prepare, |a, b, c, d, source, turn| {
                        capture::restore_paths(a, b, c, d, &source, turn)
                    })
                    .await?
                }
            };
        }
        let before = self.state_before(&volume, &repeated, &asked).await;
        let value = Restored { before };
        let saved = saving(&self.inner, asked, move |ended| {
            let before = ended.entry.and_then(|id| find_view(&volume, &id).ok());
            Ok(Restored { before })
        });
        Ok(Captured { value, saved })
    }

    async fn edit_entry(
        &self,
        call: Call,
        volume: VolumeId,
        entry: EntryId,
        mut edit: EntryEdit,
    ) -> Result<EntryView, VolumeError> {
        let volume = self.live_volume(&volume)?;
        self.refuse_lost(&volume)?;
        self.known_entry(&volume, &entry).await?;
        find_view(&volume, &entry)?;
        if let EntryEdit::Label(Some(label)) = &edit {
            self.all_entries(&volume).await?;
            capture::refuse_label(&volume, label, Some(&entry))?;
        }
        if let EntryEdit::Undelete { keep } = &mut edit {
            *keep = volume.state().keep(*keep);
        }
        let work = Work::EditEntry { entry, edit: Edit::from(edit) };
        let asked = self.change(call, &volume, work).await?;
        end(&self.inner, asked).await?;
        find_view(&volume, &entry)
    }

    async fn describe(
        &self,
        call: Call,
        volume: VolumeId,
        document: ProjectDocument,
    ) -> Result<VolumeStatus, VolumeError> {
        let volume = self.live_volume(&volume)?;
        self.refuse_lost(&volume)?;
        let asked = self.change(call, &volume, Work::Describe { document }).await?;
        end(&self.inner, asked).await?;
        self.status_of(volume).await
    }

    async fn specify(
        &self,
        call: Call,
        volume: VolumeId,
        change: SpecChange,
        document: Option<ProjectDocument>,
    ) -> Result<Captured<VolumeStatus>, VolumeError> {
        let (inner, volume) = (Arc::clone(&self.inner), self.live_volume(&volume)?);
        self.refuse_lost(&volume)?;
        let turn = volume.turn().await;
        blocking(move || {
            let asked = capture::specify(&inner, &volume, &call, change, document, turn)?;
            let value = status(&inner, &volume)?;
            let told = Arc::clone(&inner);
            let saved = saving(&inner, asked, move |_| status(&told, &volume));
            Ok(Captured { value, saved })
        })
        .await
    }

    async fn set_trashed(
        &self,
        call: Call,
        volume: VolumeId,
        trashed: bool,
    ) -> Result<VolumeStatus, VolumeError> {
        let volume = self.live_volume(&volume)?;
        self.refuse_lost(&volume)?;
        if trashed {
            // while it is mounted somewhere, what is written there would go on being written to a project that is gone
            self.refuse_mounted(&volume, &call).await?;
            // of what fails of it, whoever asked for it is told
            let waiting = volume.state().end_of_all();
            for receiver in waiting {
                end_of(&self.inner, receiver).await?;
            }
            // what was written since the last look is not lost with the copy
            self.look_at(&volume).await?;
        }
        let turn = volume.turn().await;
        if trashed {
            // what was to be saved first may have waited for long, and somebody have mounted it meanwhile
            self.refuse_mounted(&volume, &call).await?;
        }
        let (inner, of) = (Arc::clone(&self.inner), Arc::clone(&volume));
        let work = Work::SetTrashed { trashed };
        let asked = blocking(move || capture::change(&inner, &of, &call, work, turn)).await?;
        end(&self.inner, asked).await?;
        self.status_of(volume).await
    }

    async fn delete(&self, call: Call, volume: VolumeId) -> Result<Captured<()>, VolumeError> {
        self.refuse_unread(&volume)?;
        let inner = Arc::clone(&self.inner);
        let Some(volume) = inner.find_volume(&volume) else {
            // one of which nothing is left
            let ended = blocking(move || capture::ended_here(&inner, &call)).await?;
            let Some(done) = ended else {
                self.refuse_foreign()?;
                return Err(VolumeError::NotHere { volume });
            };
            return Ok(Captured { value: (), saved: saving(&self.inner, done, |_| Ok(())) });
        };
        self.refuse_lost(&volume)?;
        if !volume.state().will_be_deleted() {
            self.all_entries(&volume).await?;
        }
        let turn = volume.turn().await;
        blocking(move || {
            let asked = capture::delete(&inner, &volume, &call, turn)?;
            Ok(Captured { value: (), saved: saving(&inner, asked, |_| Ok(())) })
        })
        .await
    }

    async fn remove_entry(
        &self,
        call: Call,
        volume: VolumeId,
        entry: EntryId,
    ) -> Result<(), VolumeError> {
        self.refuse_unread(&volume)?;
        let Some(volume) = self.inner.find_volume(&volume) else { return self.refuse_foreign() };
        self.refuse_lost(&volume)?;
        let ended = match self.known_entry(&volume, &entry).await {
            Ok(()) => None,
            // gone, or so new that its removal waits in the queue behind it
            Err(VolumeError::NoEntry { .. }) => capture::end_of_removal(&volume, &entry),
            Err(error) => return Err(error),
        };
        let asked = match ended {
            Some(asked) => asked,
            None => {
                let (inner, turn) = (Arc::clone(&self.inner), volume.turn().await);
                blocking(move || capture::remove_entry(&inner, &volume, &call, entry, turn)).await?
            }
        };
        end(&self.inner, asked).await.map(drop)
    }

    async fn snapshot_together(
        &self,
        calls: Vec<(Call, VolumeId)>,
        entry: NewEntry,
    ) -> Result<Captured<Vec<Snapshot>>, VolumeError> {
        let mut volumes = Vec::new();
        for (call, id) in calls {
            let volume = self.live_volume(&id)?;
            self.refuse_lost(&volume)?;
            if entry.label.is_some() {
                self.all_entries(&volume).await?;
            }
            volumes.push((volume, call));
        }
        // all take their turns in one order, so that no two wait for each other
        let mut order: Vec<usize> = (0..volumes.len()).collect();
        order.sort_by(|a, b| volumes[*a].0.id.cmp(&volumes[*b].0.id));
        if order.windows(2).any(|pair| volumes[pair[0]].0.id == volumes[pair[1]].0.id) {
            let what = "a volume is named twice".to_owned();
            return Err(VolumeError::Refused { kind: ErrorKind::Invalid, what });
        }
        let mut turns = Vec::new();
        for n in order {
            turns.push(volumes[n].0.turn().await);
        }
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let ends = capture::snapshot_together(&inner, &volumes, &entry, turns)?;
            let id = |call: &Call| EntryId::derive(&call.operation, "snapshot");
            let told = volumes
                .iter()
                .map(|(volume, call)| snapshot_of(volume, &Ended::default(), &id(call)));
            let value = told.collect::<Result<Vec<_>, _>>()?;
            let waiting = Arc::clone(&inner);
            let saved = Box::pin(async move {
                let mut saved = Vec::new();
                for ((volume, call), asked) in volumes.iter().zip(ends) {
                    let ended = end(&waiting, asked).await?;
                    saved.push(snapshot_of(volume, &ended, &id(call))?);
                }
                Ok(saved)
            });
            Ok(Captured { value, saved })
        })
        .await
    }

    async fn store(&self, volume: &VolumeId) -> Result<VolumeStatus, VolumeError> {
        let volume = self.live_volume(volume)?;
        self.refuse_lost(&volume)?;
        self.saved(&volume).await?;
        self.look_at(&volume).await?;
        self.saved(&volume).await?;
        self.status_of(volume).await
    }

    async fn make_service_directory(
        &self,
        volume: &VolumeId,
        service: &str,
    ) -> Result<PathBuf, VolumeError> {
        let (inner, volume) = (Arc::clone(&self.inner), self.live_volume(volume)?);
        let service = service.to_owned();
        blocking(move || {
            let path = files::make_service_directory(&inner, &volume, &service);
            volume.state().changes.edited();
            path
        })
        .await
    }

    async fn capacity(&self) -> Result<Capacity, VolumeError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let failed =
                |error| VolumeError::failed("failed to look up the room of the pool", error);
            let space = inner.pool.space().map_err(failed)?;
            let more = inner.pool.growable_bytes().map_err(failed)?;
            Ok(Capacity {
                available_bytes: space.unpromised().saturating_add(more),
                total_bytes: space.total.saturating_add(more),
            })
        })
        .await
    }

    async fn wait_saved(&self, volume: &VolumeId) -> Result<(), VolumeError> {
        let volume = self.volume(volume)?;
        self.saved(&volume).await?;
        let is_aside = !volume.state().aside.is_empty();
        if is_aside { Err(VolumeError::TooManyEntries) } else { Ok(()) }
    }

    async fn list(&self) -> Result<Vec<VolumeStatus>, VolumeError> {
        self.statuses(None).await
    }

    async fn find(&self, wanted: &VolumeFilter) -> Result<Vec<VolumeStatus>, VolumeError> {
        // before the look: one that comes back meanwhile is found
        let unread = self.inner.unread().clone();
        let awaited = self.inner.awaited();
        let found = self.statuses(Some(wanted.clone())).await?;
        let is_found = |id: &&VolumeId| found.iter().any(|status| status.volume == **id);
        if !wanted.ids.iter().all(|id| is_found(&id)) {
            self.refuse_foreign()?;
        }
        if let Some(id) = wanted.ids.iter().find(|id| unread.contains(*id) && !is_found(id)) {
            return Err(not_read(id, ""));
        }
        let is_called = |status: &VolumeStatus, name: &String| {
            status.spec.name.as_ref().is_some_and(|own| own.as_str() == name)
                || status.document.slug.as_str() == name
                || status.volume.as_str() == name
        };
        let is_free = |name: &&String| !found.iter().any(|status| is_called(status, name));
        if let (Some(id), Some(name)) = (awaited.iter().min(), wanted.names.iter().find(is_free)) {
            return Err(not_read(id, &format!(": it may be the one called {name}")));
        }
        Ok(found)
    }

    async fn status(&self, volume: &VolumeId) -> Result<VolumeStatus, VolumeError> {
        refresh(&self.inner).await;
        self.status_of(self.volume(volume)?).await
    }

    async fn entries(&self, volume: &VolumeId) -> Result<Vec<EntryView>, VolumeError> {
        let volume = self.volume(volume)?;
        self.all_entries(&volume).await?;
        Ok(volume.state().entries())
    }

    async fn find_entries(&self, message: &str) -> Result<Vec<(VolumeId, EntryView)>, VolumeError> {
        // before the look: one that comes back meanwhile is looked into
        let awaited = self.inner.awaited();
        let asked = self.inner.all_volumes().into_iter().map(|volume| async move {
            self.all_entries(&volume).await?;
            let entries = volume.state().entries_asked_for(message);
            Ok::<_, VolumeError>((volume, entries))
        });
        // boxed: the compiler does not see that the borrows of this stream can be sent
        let mut asked = stream::iter(asked).buffered(ASKED_AT_ONCE).boxed();
        let mut found = Vec::new();
        while let Some(answer) = asked.next().await {
            let (volume, entries) = answer?;
            found.extend(entries.into_iter().map(|entry| (volume.id.clone(), entry)));
        }
        match awaited.iter().min() {
            Some(id) if found.is_empty() => {
                Err(not_read(id, ": it may have the snapshot that is looked for"))
            }
            _ => Ok(found),
        }
    }

    async fn diff(
        &self,
        before: (VolumeId, Moment),
        after: (VolumeId, Moment),
    ) -> Result<Vec<wire::Change>, VolumeError> {
        // a tree of now is that of the last commit, so what is newer is stored first
        for (volume, moment) in [&before, &after] {
            let volume = self.volume_at(volume, moment)?;
            if *moment == Moment::Now {
                self.saved(&volume).await?;
                self.look_at(&volume).await?;
            }
            self.saved(&volume).await?;
        }
        let inner = Arc::clone(&self.inner);
        let (a, b) = (self.volume(&before.0)?, self.volume(&after.0)?);
        self.asking(move || {
            let (chunks_a, tree_a) = files::stored(&inner, &a, &before.1)?;
            let (chunks_b, tree_b) = files::stored(&inner, &b, &after.1)?;
            read::diff((&chunks_a, &tree_a), (&chunks_b, &tree_b))
                .map_err(|error| VolumeError::failed("failed to compare", error))
        })
        .await
    }

    async fn file(
        &self,
        volume: &VolumeId,
        moment: &Moment,
        path: &TreePath,
    ) -> Result<FileView, VolumeError> {
        let path = path.clone();
        self.at(volume, moment, move |_, _, place| files::file(place, &path)).await
    }

    async fn files(
        &self,
        volume: &VolumeId,
        moment: &Moment,
        path: &TreePath,
        recursive: bool,
    ) -> Result<Vec<FileView>, VolumeError> {
        let path = path.clone();
        self.at(volume, moment, move |_, _, place| files::files(place, &path, recursive)).await
    }

    async fn read(
        &self,
        volume: &VolumeId,
        moment: &Moment,
        path: &TreePath,
        range: Option<Range<u64>>,
    ) -> Result<(FileView, FileReader), VolumeError> {
        if let Moment::Now = moment {
            let here = self.live_volume(volume)?;
            if let Some(read) = files::read_at_once(&self.inner, &here, path, range.clone()) {
                return Ok(read);
            }
        }
        let path = path.clone();
        self.at(volume, moment, move |_, _, place| files::read(place, &path, range)).await
    }

    async fn export(
        &self,
        volume: &VolumeId,
        moment: &Moment,
        path: &TreePath,
        mut to: Box<dyn Write + Send>,
    ) -> Result<Vec<String>, VolumeError> {
        let path = path.clone();
        self.at(volume, moment, move |inner, volume, place| {
            files::export(inner, volume, place, &path, &mut *to)
        })
        .await
    }

    async fn edit(&self, volume: &VolumeId, edit: FileEdit) -> Result<Edited, VolumeError> {
        let (inner, volume) = (Arc::clone(&self.inner), self.live_volume(volume)?);
        let edit = match edit {
            FileEdit::Extract(path, stream) => return self.extract(&volume, path, stream).await,
            FileEdit::Put(path, content) => files::Edit::Put(path, content),
            FileEdit::MakeDirectory(path) => files::Edit::MakeDirectory(path),
            FileEdit::Remove { path, recursive } => files::Edit::Remove { path, recursive },
            FileEdit::Move { from, to } => files::Edit::Move { from, to },
        };
        blocking(move || {
            let edited = files::edit(&inner, &volume, edit);
            volume.state().changes.edited();
            edited
        })
        .await
    }

    async fn verify(&self, volume: &VolumeId, level: VerifyLevel) -> Result<Verified, VolumeError> {
        let (inner, volume) = (Arc::clone(&self.inner), self.volume(volume)?);
        self.asking(move || {
            let known = volume.state().known.clone();
            let mut verified = Verified::default();
            let Some(known) = known else {
                verified.problems.push(unsaved_problem());
                return Ok(verified);
            };
            check(&inner, &volume, &known, level, &mut verified)?;
            Ok(verified)
        })
        .await
    }

    async fn verify_store(&self) -> Result<Option<wire::VerifyProblem>, VolumeError> {
        let inner = Arc::clone(&self.inner);
        self.asking(move || check_record(&inner)).await
    }

    async fn recover(&self, take: bool, progress: Progress) -> Result<Recovered, VolumeError> {
        let (inner, shown) = (Arc::clone(&self.inner), progress.clone());
        let _only = self.inner.recovering.lock().await;
        let (back, recovery) = blocking(move || recover::recover(&inner, take, &shown)).await?;
        let FoundLost { volumes, lost, .. } = found(&self.inner, back).await?;
        let inner = Arc::clone(&self.inner);
        let rest = Box::pin(async move {
            progress.step(wire::LOOKING_FOR_LOST);
            let _only = inner.looking_for_lost.lock().await;
            let made = blocking(move || Ok(recovery.look_for_lost(&progress))).await?;
            found(&inner, made).await
        });
        Ok(Recovered { volumes, lost, rest })
    }

    async fn doctor(&self) -> Vec<wire::Check> {
        let inner = Arc::clone(&self.inner);
        ask(&inner).await;
        tokio::task::spawn_blocking(move || doctor(&inner)).await.unwrap_or_default()
    }
}
