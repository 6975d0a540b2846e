//! [`Volumes`] for what is in memory.

use std::io::Write;
use std::ops::Range;
use std::path::PathBuf;

use async_trait::async_trait;
use cove_content::document::ProjectDocument;
use cove_content::spec::{SERVICE_LAW, SpecChange, is_service};
use cove_content::volumes::{
    Call, Capacity, Captured, Edited, EntryEdit, EntryView, FileEdit, FileReader, FileView, Moment,
    NewEntry, NewVolume, Progress, Recovered, Restore, Restored, Snapshot, Source, Verified,
    VerifyLevel, VolumeError, VolumeStatus, Volumes,
};
use cove_types::{EntryId, EntryKind, ErrorKind, TreePath, VolumeId, wire};

use super::{Fake, Held, State, refuse};

impl Fake {
    /// The result now, and again once it is saved.
    fn captured<T: Send + 'static>(
        &self,
        touched: Vec<VolumeId>,
        value: impl Fn(&State) -> Result<T, VolumeError> + Send + 'static,
    ) -> Result<Captured<T>, VolumeError> {
        let now = value(&self.state())?;
        let fake = self.clone();
        let saved = Box::pin(async move {
            Self::wait(&fake.saves).await;
            fake.save(&touched);
            value(&fake.state())
        });
        Ok(Captured { value: now, saved })
    }

    fn made(&self, made: Vec<(VolumeId, EntryId)>) -> Result<Captured<Vec<Snapshot>>, VolumeError> {
        let touched = made.iter().map(|(volume, _)| volume.clone()).collect();
        self.captured(touched, move |state| {
            let views = made.iter().map(|(volume, entry)| {
                let entry = state.get(volume)?.entry(*entry)?;
                Ok(Snapshot { entry, rolled_off: Vec::new() })
            });
            views.collect()
        })
    }
}

/// What needs files.
fn no_files<T>() -> Result<T, VolumeError> {
    Err(refuse(ErrorKind::Internal, "the fake has no files"))
}

fn lawful(spec: &cove_content::spec::VolumeSpec) -> Result<(), VolumeError> {
    spec.check().map_err(|error| refuse(ErrorKind::Invalid, &error.to_string()))
}

#[async_trait]
impl Volumes for Fake {
    async fn create(
        &self,
        call: Call,
        new: NewVolume,
        _source: Source,
    ) -> Result<Captured<(VolumeStatus, Vec<String>)>, VolumeError> {
        Self::wait(&self.goes_on).await;
        let NewVolume { volume, document, spec } = new;
        {
            let mut state = self.answering()?;
            if state.is_foreign {
                return Err(VolumeError::HeldByAnother);
            }
            state.check_same(&call)?;
            let first = state.volumes.get(&volume).map(|held| held.first(&call)).transpose()?;
            if first.flatten().is_none() {
                lawful(&spec)?;
                state.check_new(&volume)?;
                let mut held = Held::new(&volume, document, spec, 0);
                held.operations.insert(call.operation, (call.request, Vec::new()));
                state.used.insert(call.operation, (volume.clone(), call.request));
                state.volumes.insert(volume.clone(), held);
            }
        }
        self.captured(vec![volume.clone()], move |state| Ok((state.status(&volume)?, Vec::new())))
    }

    async fn fork(
        &self,
        call: Call,
        source: VolumeId,
        moment: Moment,
        targets: Vec<NewVolume>,
    ) -> Result<Captured<Vec<VolumeStatus>>, VolumeError> {
        Self::wait(&self.goes_on).await;
        let ids: Vec<VolumeId> = targets.iter().map(|new| new.volume.clone()).collect();
        {
            let mut state = self.answering()?;
            state.check_same(&call)?;
            let held = state.get(&source)?;
            if held.first(&call)?.is_none() {
                let bytes = match moment {
                    Moment::Now => held.check_live(&source).map(|()| held.bytes)?,
                    Moment::Entry(entry) => held.entry(entry)?.record.root.counts.data_bytes,
                };
                for NewVolume { volume, document, spec } in targets {
                    lawful(&spec)?;
                    state.check_new(&volume)?;
                    assert!(document.forked_from.is_some(), "a fork says of what it is one");
                    let mut held = Held::new(&volume, document, spec, bytes);
                    held.operations.insert(call.operation, (call.request, Vec::new()));
                    state.volumes.insert(volume, held);
                }
                let held = state.get_mut(&source)?;
                held.operations.insert(call.operation, (call.request, Vec::new()));
                state.used.insert(call.operation, (source, call.request));
            }
        }
        self.captured(ids.clone(), move |state| ids.iter().map(|id| state.status(id)).collect())
    }

    async fn snapshot(
        &self,
        call: Call,
        volume: VolumeId,
        entry: NewEntry,
    ) -> Result<Captured<Snapshot>, VolumeError> {
        let captured = self.snapshot_together(vec![(call, volume)], entry).await?;
        let one = |mut made: Vec<Snapshot>| made.remove(0);
        let saved = captured.saved;
        Ok(Captured {
            value: one(captured.value),
            saved: Box::pin(async move { saved.await.map(one) }),
        })
    }

    async fn restore(
        &self,
        call: Call,
        volume: VolumeId,
        restore: Restore,
    ) -> Result<Captured<Restored>, VolumeError> {
        Self::wait(&self.goes_on).await;
        let at = self.env.now();
        let made = self.once(&call, &volume, |held| {
            held.check_live(&volume)?;
            let EntryView { record, known, .. } = held.entry(restore.entry)?;
            let limits = held.spec.quota_bytes.zip(record.needs_bytes(known));
            if limits.is_some_and(|(quota, needs)| quota < needs) {
                return Err(refuse(ErrorKind::Exhausted, "the quota does not hold it"));
            }
            let bytes = record.root.counts.data_bytes;
            let before = EntryId::derive(&call.operation, "before-restore");
            let entry = NewEntry {
                kind: EntryKind::BeforeRestore,
                author: restore.author,
                message: None,
                label: None,
                cause: Some(restore.entry.to_string()),
                keep: restore.keep,
            };
            held.add(before, &entry, at);
            held.bytes = bytes;
            Ok(vec![before])
        })?;
        self.captured(vec![volume.clone()], move |state| {
            let held = state.get(&volume)?;
            let before = made.first().map(|entry| held.entry(*entry)).transpose()?;
            Ok(Restored { before })
        })
    }

    async fn edit_entry(
        &self,
        _: Call,
        _: VolumeId,
        _: EntryId,
        _: EntryEdit,
    ) -> Result<EntryView, VolumeError> {
        no_files()
    }

    async fn describe(
        &self,
        call: Call,
        volume: VolumeId,
        document: ProjectDocument,
    ) -> Result<VolumeStatus, VolumeError> {
        self.once(&call, &volume, |held| {
            held.document = document;
            Ok(Vec::new())
        })?;
        self.state().status(&volume)
    }

    async fn specify(
        &self,
        call: Call,
        volume: VolumeId,
        change: SpecChange,
        document: Option<ProjectDocument>,
    ) -> Result<Captured<VolumeStatus>, VolumeError> {
        Self::wait(&self.goes_on).await;
        self.once(&call, &volume, |held| {
            held.check_live(&volume)?;
            let spec = held.spec.changed(&change);
            lawful(&spec)?;
            held.spec = spec;
            held.document = document.unwrap_or_else(|| held.document.clone());
            Ok(Vec::new())
        })?;
        if self.state().keeps_no_quota {
            return Err(VolumeError::Unknown { operation: call.operation });
        }
        self.change(&volume, |held| held.limit_bytes = held.spec.quota_bytes);
        self.captured(vec![volume.clone()], move |state| state.status(&volume))
    }

    async fn set_trashed(
        &self,
        call: Call,
        volume: VolumeId,
        trashed: bool,
    ) -> Result<VolumeStatus, VolumeError> {
        Self::wait(&self.goes_on).await;
        let at = self.env.now();
        self.once(&call, &volume, |held| {
            held.trashed_at = trashed.then_some(at);
            Ok(Vec::new())
        })?;
        self.state().status(&volume)
    }

    async fn delete(&self, call: Call, volume: VolumeId) -> Result<Captured<()>, VolumeError> {
        Self::wait(&self.goes_on).await;
        let is_mounted = self.answering()?.mounted.contains(&volume);
        self.once(&call, &volume, |held| {
            if is_mounted {
                return Err(refuse(ErrorKind::Precondition, "it is mounted"));
            }
            held.is_deleted = true;
            held.entries.retain(|entry| entry.kind == EntryKind::Csi);
            Ok(Vec::new())
        })?;
        let mut state = self.state();
        if state.get(&volume)?.entries.is_empty() {
            state.volumes.remove(&volume);
            state.tombstones.insert(volume);
        }
        Ok(Captured { value: (), saved: Box::pin(async { Ok(()) }) })
    }

    async fn remove_entry(
        &self,
        call: Call,
        volume: VolumeId,
        entry: EntryId,
    ) -> Result<(), VolumeError> {
        Self::wait(&self.goes_on).await;
        self.once(&call, &volume, |held| {
            held.entries.retain(|record| record.id != entry);
            Ok(Vec::new())
        })?;
        Self::wait(&self.saves).await;
        let mut state = self.state();
        // another that waited for the same may have been first
        let Ok(held) = state.get(&volume) else { return Ok(()) };
        if held.is_deleted && held.entries.is_empty() {
            state.volumes.remove(&volume);
            state.tombstones.insert(volume);
        }
        Ok(())
    }

    async fn snapshot_together(
        &self,
        calls: Vec<(Call, VolumeId)>,
        entry: NewEntry,
    ) -> Result<Captured<Vec<Snapshot>>, VolumeError> {
        Self::wait(&self.goes_on).await;
        let at = self.env.now();
        // all or none: whether each can be is looked at first
        for (call, volume) in &calls {
            let state = self.answering()?;
            state.check_same(call)?;
            let held = state.get(volume)?;
            held.check_live(volume)?;
            held.first(call)?;
        }
        let mut made = Vec::new();
        for (call, volume) in calls {
            let entries = self.once(&call, &volume, |held| {
                let id = EntryId::derive(&call.operation, "snapshot");
                held.add(id, &entry, at);
                Ok(vec![id])
            })?;
            made.push((volume, entries[0]));
        }
        self.made(made)
    }

    async fn store(&self, volume: &VolumeId) -> Result<VolumeStatus, VolumeError> {
        self.wait_saved(volume).await?;
        self.status(volume).await
    }

    async fn make_service_directory(
        &self,
        volume: &VolumeId,
        service: &str,
    ) -> Result<PathBuf, VolumeError> {
        let mut state = self.answering()?;
        state.get(volume)?.check_live(volume)?;
        if !is_service(service) {
            return Err(refuse(ErrorKind::Invalid, SERVICE_LAW));
        }
        state.services.insert((volume.clone(), service.to_owned()));
        Ok(format!("/pool/volumes/{volume}/services/{service}").into())
    }

    async fn capacity(&self) -> Result<Capacity, VolumeError> {
        Self::wait(&self.answers).await;
        let available_bytes = self.answering()?.free_bytes;
        Ok(Capacity { available_bytes, total_bytes: available_bytes * 2 })
    }

    async fn wait_saved(&self, volume: &VolumeId) -> Result<(), VolumeError> {
        self.answering()?.get(volume)?;
        Self::wait(&self.saves).await;
        self.save(std::slice::from_ref(volume));
        Ok(())
    }

    async fn list(&self) -> Result<Vec<VolumeStatus>, VolumeError> {
        self.state().lists += 1;
        Self::wait(&self.answers).await;
        let state = self.answering()?;
        state.volumes.keys().map(|id| state.status(id)).collect()
    }

    async fn status(&self, volume: &VolumeId) -> Result<VolumeStatus, VolumeError> {
        Self::wait(&self.answers).await;
        self.answering()?.status(volume)
    }

    async fn entries(&self, volume: &VolumeId) -> Result<Vec<EntryView>, VolumeError> {
        Self::wait(&self.answers).await;
        Self::wait(&self.reads).await;
        let mut state = self.answering()?;
        let held = state.get_mut(volume)?;
        held.is_read = true;
        Ok(held.entries.iter().rev().map(super::view).collect())
    }

    async fn diff(
        &self,
        _: (VolumeId, Moment),
        _: (VolumeId, Moment),
    ) -> Result<Vec<wire::Change>, VolumeError> {
        Ok(Vec::new())
    }

    async fn file(&self, _: &VolumeId, _: &Moment, _: &TreePath) -> Result<FileView, VolumeError> {
        no_files()
    }

    async fn files(
        &self,
        _: &VolumeId,
        _: &Moment,
        _: &TreePath,
        _: bool,
    ) -> Result<Vec<FileView>, VolumeError> {
        no_files()
    }

    async fn read(
        &self,
        _: &VolumeId,
        _: &Moment,
        _: &TreePath,
        _: Option<Range<u64>>,
    ) -> Result<(FileView, FileReader), VolumeError> {
        no_files()
    }

    async fn export(
        &self,
        _: &VolumeId,
        _: &Moment,
        _: &TreePath,
        _: Box<dyn Write + Send>,
    ) -> Result<Vec<String>, VolumeError> {
        no_files()
    }

    async fn edit(&self, _: &VolumeId, _: FileEdit) -> Result<Edited, VolumeError> {
        no_files()
    }

    async fn verify(&self, _: &VolumeId, _: VerifyLevel) -> Result<Verified, VolumeError> {
        Ok(Verified::default())
    }

    async fn verify_store(&self) -> Result<Option<wire::VerifyProblem>, VolumeError> {
        Ok(None)
    }

    async fn recover(&self, _: bool, _: Progress) -> Result<Recovered, VolumeError> {
        no_files()
    }

    async fn doctor(&self) -> Vec<wire::Check> {
        Vec::new()
    }
}
