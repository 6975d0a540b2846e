//! [`Volumes`] for the volumes of this node.

mod doctor;
mod status;
mod verify;

use std::io::Write;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use cove_content::document::ProjectDocument;
use cove_content::head::HeadState;
use cove_content::read;
use cove_content::volumes::{
    Call, Captured, Edited, EntryEdit, EntryView, FileEdit, FileReader, FileView, Moment, NewEntry,
    Progress, Recovered, Restore, Restored, Saving, Snapshot, Source, Verified, VerifyLevel,
    VolumeError, VolumeStatus, Volumes,
};
use cove_types::{EntryId, ErrorKind, TreePath, VolumeId, wire};
use tokio::sync::oneshot;

use crate::capture::Asked;
use crate::claim::Holding;
use crate::files::Place;
use crate::node::{Inner, Node};
use crate::save::{SaveError, bring_entry, bring_older};
use crate::serve::doctor::doctor;
use crate::serve::status::status;
use crate::serve::verify::{check, unsaved_problem};
use crate::volume::{Ended, Volume};
use crate::work::{Edit, Work};
use crate::{capture, files, recover};

/// Runs blocking work of a call.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, VolumeError> + Send + 'static,
) -> Result<T, VolumeError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(stopping()),
    }
}

fn stopping() -> VolumeError {
    VolumeError::Refused { kind: ErrorKind::Unavailable, what: "cove is stopping".into() }
}

/// The end of captured work.
async fn end(asked: Asked) -> Result<Ended, VolumeError> {
    let ended = match asked {
        Asked::New => Ended::default(),
        Asked::Pending(receiver) => receiver.await.map_err(|_| stopping())?,
        Asked::Ended(ended) => *ended,
    };
    match ended.failure {
        Some((kind, what)) => Err(VolumeError::Refused { kind, what }),
        None => Ok(ended),
    }
}

pub(crate) fn saving<T: Send + 'static>(
    asked: Asked,
    value: impl FnOnce(&Ended) -> Result<T, VolumeError> + Send + 'static,
) -> Saving<T> {
    Box::pin(async move {
        let ended = end(asked).await?;
        value(&ended)
    })
}

impl Node {
    /// Refuses what would wait for a store that another Cove holds.
    fn refuse_foreign(&self) -> Result<(), VolumeError> {
        match self.inner.holding() {
            Holding::HeldByAnother { .. } => Err(VolumeError::HeldByAnother),
            Holding::Held | Holding::Unknown { .. } => Ok(()),
        }
    }

    fn volume(&self, id: &VolumeId) -> Result<Arc<Volume>, VolumeError> {
        self.inner.get_volume(id)
    }

    async fn at<T: Send + 'static>(
        &self,
        id: &VolumeId,
        moment: &Moment,
        work: impl FnOnce(&Place) -> Result<T, VolumeError> + Send + 'static,
    ) -> Result<T, VolumeError> {
        let (inner, volume, moment) = (Arc::clone(&self.inner), self.volume(id)?, moment.clone());
        blocking(move || work(&files::place(&inner, &volume, &moment)?)).await
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
        volume: VolumeId,
        document: ProjectDocument,
        source: Source,
    ) -> Result<Captured<(VolumeStatus, Vec<String>)>, VolumeError> {
        self.refuse_foreign()?;
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let (volume, asked) = capture::create(&inner, &call, &volume, document, source)?;
            let remarks = match volume.state().queue.front().map(|pending| pending.work.clone()) {
                Some(Work::Create { remarks, .. }) => remarks,
                _ => Vec::new(),
            };
            let value = (status(&inner, &volume)?, remarks);
            let saved =
                saving(asked, move |ended| Ok((status(&inner, &volume)?, ended.remarks.clone())));
            Ok(Captured { value, saved })
        })
        .await
    }

    async fn fork(
        &self,
        call: Call,
        source: VolumeId,
        moment: Moment,
        targets: Vec<(VolumeId, ProjectDocument)>,
    ) -> Result<Captured<Vec<VolumeStatus>>, VolumeError> {
        self.refuse_foreign()?;
        let (inner, volume) = (Arc::clone(&self.inner), self.volume(&source)?);
        blocking(move || {
            let asked = capture::fork(&inner, &volume, &call, &moment, &targets)?;
            let all = move |inner: &Inner| {
                targets
                    .iter()
                    .map(|(target, _)| status(inner, inner.get_volume(target)?.as_ref()))
                    .collect::<Result<Vec<_>, _>>()
            };
            let value = all(&inner)?;
            Ok(Captured { value, saved: saving(asked, move |_| all(&inner)) })
        })
        .await
    }

    async fn snapshot(
        &self,
        call: Call,
        volume: VolumeId,
        entry: NewEntry,
    ) -> Result<Captured<Snapshot>, VolumeError> {
        self.refuse_foreign()?;
        let (inner, volume) = (Arc::clone(&self.inner), self.volume(&volume)?);
        blocking(move || {
            let asked = capture::snapshot(&inner, &volume, &call, &entry)?;
            let id = EntryId::derive(&call.operation, "snapshot");
            let value = snapshot_of(&volume, &Ended::default(), &id)?;
            let saved = saving(asked, move |ended| snapshot_of(&volume, ended, &id));
            Ok(Captured { value, saved })
        })
        .await
    }

    async fn restore(
        &self,
        call: Call,
        volume: VolumeId,
        restore: Restore,
    ) -> Result<Captured<Restored>, VolumeError> {
        self.refuse_foreign()?;
        let (inner, volume) = (Arc::clone(&self.inner), self.volume(&volume)?);
        blocking(move || {
            let asked = capture::restore(&inner, &volume, &call, &restore)?;
            let id = EntryId::derive(&call.operation, "before");
            let value = Restored { before: find_view(&volume, &id).ok() };
            let saved = saving(asked, move |ended| {
                let before = ended.entry.and_then(|id| find_view(&volume, &id).ok());
                Ok(Restored { before })
            });
            Ok(Captured { value, saved })
        })
        .await
    }

    async fn edit_entry(
        &self,
        call: Call,
        volume: VolumeId,
        entry: EntryId,
        edit: EntryEdit,
    ) -> Result<EntryView, VolumeError> {
        self.refuse_foreign()?;
        let (inner, volume) = (Arc::clone(&self.inner), self.volume(&volume)?);
        let changing = Arc::clone(&volume);
        let asked = blocking(move || {
            bring_entry(&inner, &changing, &entry)?;
            find_view(&changing, &entry)?;
            if let EntryEdit::Label(Some(label)) = &edit {
                bring_older(&inner, &changing).map_err(SaveError::for_caller)?;
                let views = changing.state().entries();
                let taken = views.iter().find(|view| {
                    view.record.is_live()
                        && view.record.id != entry
                        && view.record.label.as_ref() == Some(label)
                });
                if let Some(taken) = taken {
                    let entry = taken.record.id;
                    return Err(VolumeError::LabelTaken { label: label.clone(), entry });
                }
            }
            let work = Work::EditEntry { entry, edit: Edit::from(edit) };
            capture::change(&inner, &changing, &call, work)
        })
        .await?;
        end(asked).await?;
        find_view(&volume, &entry)
    }

    async fn describe(
        &self,
        call: Call,
        volume: VolumeId,
        document: ProjectDocument,
    ) -> Result<VolumeStatus, VolumeError> {
        self.refuse_foreign()?;
        let (inner, volume) = (Arc::clone(&self.inner), self.volume(&volume)?);
        blocking(move || {
            let work = Work::Describe { document };
            let asked = capture::change(&inner, &volume, &call, work)?;
            let ended = inner.wait(end(asked));
            ended?;
            status(&inner, &volume)
        })
        .await
    }

    async fn set_trashed(
        &self,
        call: Call,
        volume: VolumeId,
        trashed: bool,
    ) -> Result<VolumeStatus, VolumeError> {
        self.refuse_foreign()?;
        if trashed {
            self.wait_saved(&volume).await?;
        }
        let (inner, volume) = (Arc::clone(&self.inner), self.volume(&volume)?);
        blocking(move || {
            if trashed {
                // what was written since the last look is not lost with the copy
                capture::look_at_one(&inner, &volume)?;
            }
            let asked = capture::change(&inner, &volume, &call, Work::SetTrashed { trashed })?;
            inner.wait(end(asked))?;
            status(&inner, &volume)
        })
        .await
    }

    async fn wait_saved(&self, volume: &VolumeId) -> Result<(), VolumeError> {
        let volume = self.volume(volume)?;
        let waiting: Vec<oneshot::Receiver<Ended>> = {
            let mut state = volume.state();
            let operations: Vec<_> = state.queue.iter().map(|other| other.operation).collect();
            let mut waiting = Vec::new();
            for operation in operations {
                let (sender, receiver) = oneshot::channel();
                state.waiting.entry(operation).or_default().push(sender);
                waiting.push(receiver);
            }
            waiting
        };
        for receiver in waiting {
            let ended = receiver.await.map_err(|_| stopping())?;
            if let Some((kind, what)) = ended.failure {
                return Err(VolumeError::Refused { kind, what });
            }
        }
        Ok(())
    }

    async fn list(&self) -> Result<Vec<VolumeStatus>, VolumeError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let mut all = Vec::new();
            for volume in inner.all_volumes() {
                let is_listed = {
                    let state = volume.state();
                    let head = state.known.as_ref().map(|known| known.head.state);
                    // what could not be read again yet is named by the doctor
                    head != Some(HeadState::Deleted) && state.document.is_some()
                };
                if is_listed {
                    all.push(status(&inner, &volume)?);
                }
            }
            all.sort_by(|a, b| a.volume.cmp(&b.volume));
            Ok(all)
        })
        .await
    }

    async fn status(&self, volume: &VolumeId) -> Result<VolumeStatus, VolumeError> {
        let (inner, volume) = (Arc::clone(&self.inner), self.volume(volume)?);
        blocking(move || status(&inner, &volume)).await
    }

    async fn entries(&self, volume: &VolumeId) -> Result<Vec<EntryView>, VolumeError> {
        let (inner, volume) = (Arc::clone(&self.inner), self.volume(volume)?);
        blocking(move || {
            bring_older(&inner, &volume).map_err(SaveError::for_caller)?;
            Ok(volume.state().entries())
        })
        .await
    }

    async fn diff(
        &self,
        before: (VolumeId, Moment),
        after: (VolumeId, Moment),
    ) -> Result<Vec<wire::Change>, VolumeError> {
        // a tree of now is that of the last commit, so what is newer is stored first
        for (volume, moment) in [&before, &after] {
            if *moment == Moment::Now {
                self.wait_saved(volume).await?;
                let (inner, looked) = (Arc::clone(&self.inner), self.volume(volume)?);
                blocking(move || capture::look_at_one(&inner, &looked)).await?;
            }
            self.wait_saved(volume).await?;
        }
        let inner = Arc::clone(&self.inner);
        let (a, b) = (self.volume(&before.0)?, self.volume(&after.0)?);
        blocking(move || {
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
        self.at(volume, moment, move |place| files::file(place, &path)).await
    }

    async fn files(
        &self,
        volume: &VolumeId,
        moment: &Moment,
        path: &TreePath,
        recursive: bool,
    ) -> Result<Vec<FileView>, VolumeError> {
        let path = path.clone();
        self.at(volume, moment, move |place| files::files(place, &path, recursive)).await
    }

    async fn read(
        &self,
        volume: &VolumeId,
        moment: &Moment,
        path: &TreePath,
        range: Option<Range<u64>>,
    ) -> Result<(FileView, FileReader), VolumeError> {
        let path = path.clone();
        self.at(volume, moment, move |place| files::read(place, &path, range)).await
    }

    async fn export(
        &self,
        volume: &VolumeId,
        moment: &Moment,
        path: &TreePath,
        mut to: Box<dyn Write + Send>,
    ) -> Result<(), VolumeError> {
        let (inner, volume) = (Arc::clone(&self.inner), self.volume(volume)?);
        let (moment, path) = (moment.clone(), path.clone());
        blocking(move || files::export(&inner, &volume, &moment, &path, &mut *to)).await
    }

    async fn edit(&self, volume: &VolumeId, edit: FileEdit) -> Result<Edited, VolumeError> {
        let (inner, volume) = (Arc::clone(&self.inner), self.volume(volume)?);
        blocking(move || files::edit(&inner, &volume, edit)).await
    }

    async fn verify(&self, volume: &VolumeId, level: VerifyLevel) -> Result<Verified, VolumeError> {
        let (inner, volume) = (Arc::clone(&self.inner), self.volume(volume)?);
        blocking(move || {
            let known = volume.state().known.clone();
            let mut verified = Verified::default();
            verified.checked.projects = 1;
            let Some(known) = known else {
                verified.problems.push(unsaved_problem());
                return Ok(verified);
            };
            check(&inner, &volume, &known, level, &mut verified)?;
            Ok(verified)
        })
        .await
    }

    async fn recover(&self, take: bool, progress: Progress) -> Result<Recovered, VolumeError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let (found, lost) = recover::recover(&inner, take, &progress)?;
            let volumes =
                found.iter().map(|volume| status(&inner, volume)).collect::<Result<Vec<_>, _>>()?;
            Ok(Recovered { volumes, lost })
        })
        .await
    }

    async fn doctor(&self) -> Vec<wire::Check> {
        let inner = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || doctor(&inner)).await.unwrap_or_default()
    }
}
