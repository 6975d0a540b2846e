//! [`Volumes`] for the volumes of this node.

mod changing;
mod doctor;
mod lookup;
mod pool;
mod status;
mod verify;
mod waiting;

use std::io::Write;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use cove_content::document::ProjectDocument;
use cove_content::read;
use cove_content::spec::SpecChange;
use cove_content::volumes::{
    Call, Capacity, Captured, Edited, EntryEdit, EntryView, FileEdit, FileReader, FileView,
    FoundLost, Moment, NewEntry, NewVolume, Progress, Recovered, Restore, Restored, Snapshot,
    Source, Verified, VerifyLevel, VolumeError, VolumeFilter, VolumeStatus, Volumes,
};
use cove_types::{EntryId, ErrorKind, TreePath, VolumeId, wire};
use futures::stream::{self, StreamExt};

use crate::capture::{Asked, ForkSource};
use crate::files::Place;
use crate::in_making::Thing;
use crate::node::{Inner, Node, ask, refresh};
use crate::serve::doctor::doctor;
use crate::serve::lookup::{find_view, not_read};
use crate::serve::status::{Around, status, status_as_held};
use crate::serve::verify::{check, check_record, unsaved_problem};
use crate::serve::waiting::{blocking, end, end_of, saving, whoever_waits};
use crate::volume::{Ended, Trouble, Volume};
use crate::work::{Edit, Work};
use crate::{capture, files, recover};

/// How many volumes the store is asked for the older entries of at once: a part of the calls that may ask it.
const ASKED_AT_ONCE: usize = 16;

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

impl Node {
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
        let named = self.take_names([&new])?;
        blocking(move || {
            let _named = named;
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
        let made = targets.iter().map(|new| Thing::Volume(new.volume.clone()));
        let things = made.chain([Thing::Operation(call.operation)]);
        let making = inner.in_making.begin(things).await;
        let mut asked = self.asked(&volume, &call).await?;
        if let Asked::New = asked {
            let named = self.take_names(&targets)?;
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
            let turns = (making, volume.turn().await);
            let (inner, targets) = (Arc::clone(&inner), targets.clone());
            asked = blocking(move || {
                let _named = named;
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
        let asked = self.change_trashed(call, &volume, trashed).await?;
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
                let inner = Arc::clone(&self.inner);
                whoever_waits(async move {
                    let turn = volume.turn().await;
                    blocking(move || capture::remove_entry(&inner, &volume, &call, entry, turn))
                        .await
                })
                .await?
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
        // what the timeline has no room for has left the queue unsaved
        let aside = volume.state().aside.first().map(|(_, trouble)| trouble.clone());
        if let Some(Trouble { kind, what, .. }) = aside {
            return Err(VolumeError::Refused { kind, what });
        }
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
            self.refuse_absent()?;
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
        if wanted.names.iter().any(|name| is_free(&name)) {
            self.refuse_new_home()?;
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
