//! The Hub as the volumes of all nodes, for projects: each call goes to the node that has the volume.

use std::io::Write;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, Weak};

use async_trait::async_trait;
use cove_content::document::ProjectDocument;
use cove_content::spec::SpecChange;
use cove_content::volumes::{
    Call, Capacity, Captured, Edited, EntryEdit, EntryView, FileEdit, FileReader, FileView, Moment,
    NewEntry, NewVolume, Progress, Recovered, Restore, Restored, Snapshot, Source, Verified,
    VerifyLevel, VolumeError, VolumeFilter, VolumeStatus, Volumes,
};
use cove_types::{Classify, EntryId, ErrorKind, TreePath, VolumeId, wire};
use futures::future::try_join_all;

use crate::hub::whoever_waits;
use crate::in_flight::{Busy, Guard};
use crate::nodes::{Node, in_time};
use crate::thing::Thing;
use crate::{Hub, HubError, plan, words};

impl Hub {
    /// All nodes, of which one has come at least.
    fn nodes(&self) -> Result<Vec<Node>, VolumeError> {
        let nodes = self.inner.nodes.all();
        if nodes.is_empty() { Err(no_node()) } else { Ok(nodes) }
    }

    /// The node that has a volume. Of one node it is that, whatever it has: it says itself what is not there.
    async fn home(&self, volume: &VolumeId) -> Result<Arc<dyn Volumes>, VolumeError> {
        let nodes = self.nodes()?;
        if let [node] = nodes.as_slice() {
            return Ok(Arc::clone(&node.volumes));
        }
        let mut silent = None;
        for node in nodes {
            match node.find(volume).await {
                Ok(Some(_)) => return Ok(node.volumes),
                Ok(None) => {}
                Err(error) => silent = Some(error),
            }
        }
        Err(silent.unwrap_or_else(|| VolumeError::NotHere { volume: volume.clone() }))
    }

    /// The node that has both volumes.
    async fn home_of_both(
        &self,
        one: &VolumeId,
        other: &VolumeId,
    ) -> Result<Arc<dyn Volumes>, VolumeError> {
        let (home, of_other) = (self.home(one).await?, self.home(other).await?);
        if Arc::ptr_eq(&home, &of_other) {
            return Ok(home);
        }
        Err(VolumeError::Refused {
            kind: ErrorKind::Precondition,
            what: format!("volumes {one} and {other} are on two nodes"),
        })
    }

    /// The node for a new volume: the one with the most room.
    async fn roomiest(&self) -> Result<Arc<dyn Volumes>, VolumeError> {
        let nodes = self.inner.nodes.all();
        if let [node] = nodes.as_slice() {
            return Ok(Arc::clone(&node.volumes));
        }
        let mut best: Option<(u64, Arc<dyn Volumes>)> = None;
        for node in nodes {
            let Ok(Capacity { available_bytes, .. }) = node.capacity().await else { continue };
            if best.as_ref().is_none_or(|(most, _)| available_bytes > *most) {
                best = Some((available_bytes, node.volumes));
            }
        }
        best.map(|(_, volumes)| volumes).ok_or_else(no_node)
    }

    /// Keeps others from a volume that is to go to the trash. Those who move it there, too, share that: they wait for one
    /// end.
    fn hold_for_trash(&self, volume: &VolumeId) -> Result<Arc<Guard<Thing>>, Busy> {
        let mut held = self.inner.trashing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = held.get(volume).and_then(Weak::upgrade) {
            return Ok(shared);
        }
        let new = Arc::new(self.inner.in_flight.begin(vec![Thing::Volume(volume.clone())])?);
        held.retain(|_, guard| guard.strong_count() > 0);
        held.insert(volume.clone(), Arc::downgrade(&new));
        Ok(new)
    }

    /// The node that keeps the store for all: the first.
    fn keeper(&self) -> Result<Arc<dyn Volumes>, VolumeError> {
        self.inner.nodes.all().into_iter().next().map(|node| node.volumes).ok_or_else(no_node)
    }
}

/// What the Hub decided, as a node would say it.
fn refused(error: &HubError) -> VolumeError {
    VolumeError::Refused { kind: error.kind(), what: error.to_string() }
}

fn no_node() -> VolumeError {
    let what = "no node answers, or none has come yet".to_owned();
    VolumeError::Refused { kind: ErrorKind::Unavailable, what }
}

#[async_trait]
impl Volumes for Hub {
    async fn create(
        &self,
        call: Call,
        new: NewVolume,
        source: Source,
    ) -> Result<Captured<(VolumeStatus, Vec<String>)>, VolumeError> {
        // a repetition goes where the first one went
        let node = match self.home(&new.volume).await {
            Err(VolumeError::NotHere { .. }) => self.roomiest().await?,
            home => home?,
        };
        node.create(call, new, source).await
    }

    async fn fork(
        &self,
        call: Call,
        source: VolumeId,
        moment: Moment,
        targets: Vec<NewVolume>,
    ) -> Result<Captured<Vec<VolumeStatus>>, VolumeError> {
        self.home(&source).await?.fork(call, source, moment, targets).await
    }

    async fn snapshot(
        &self,
        call: Call,
        volume: VolumeId,
        entry: NewEntry,
    ) -> Result<Captured<Snapshot>, VolumeError> {
        self.home(&volume).await?.snapshot(call, volume, entry).await
    }

    async fn restore(
        &self,
        call: Call,
        volume: VolumeId,
        restore: Restore,
    ) -> Result<Captured<Restored>, VolumeError> {
        self.home(&volume).await?.restore(call, volume, restore).await
    }

    async fn edit_entry(
        &self,
        call: Call,
        volume: VolumeId,
        entry: EntryId,
        edit: EntryEdit,
    ) -> Result<EntryView, VolumeError> {
        self.home(&volume).await?.edit_entry(call, volume, entry, edit).await
    }

    async fn describe(
        &self,
        call: Call,
        volume: VolumeId,
        document: ProjectDocument,
    ) -> Result<VolumeStatus, VolumeError> {
        self.home(&volume).await?.describe(call, volume, document).await
    }

    async fn specify(
        &self,
        call: Call,
        volume: VolumeId,
        change: SpecChange,
        document: Option<ProjectDocument>,
    ) -> Result<Captured<VolumeStatus>, VolumeError> {
        // a program that deletes it meanwhile has to see whether it is a project's workspace
        let under_way = self.inner.in_flight.begin(vec![Thing::Volume(volume.clone())]);
        let under_way = under_way.map_err(|busy| refused(&HubError::from(busy)))?;
        let home = self.home(&volume).await?;
        let call = async move {
            let _under_way = under_way;
            home.specify(call, volume, change, document).await
        };
        self.to_its_end(call).await.unwrap_or(Err(VolumeError::Stopping))
    }

    async fn set_trashed(
        &self,
        call: Call,
        volume: VolumeId,
        trashed: bool,
    ) -> Result<VolumeStatus, VolumeError> {
        let home = self.home(&volume).await?;
        if !trashed {
            return home.set_trashed(call, volume, trashed).await;
        }
        // a program that publishes it meanwhile would have it published in the trash
        let under_way = self.hold_for_trash(&volume);
        let under_way = under_way.map_err(|busy| refused(&HubError::from(busy)))?;
        let call = async move {
            let _under_way = under_way;
            let status = in_time(home.status(&volume)).await?;
            let planned = plan::trash(&volume, words::state(&status), &status.spec);
            planned.map_err(|error| refused(&error))?;
            home.set_trashed(call, volume, trashed).await
        };
        // it ends when it is saved: nobody who stops waits for that
        whoever_waits(call).await.unwrap_or(Err(VolumeError::Stopping))
    }

    async fn delete(&self, call: Call, volume: VolumeId) -> Result<Captured<()>, VolumeError> {
        self.home(&volume).await?.delete(call, volume).await
    }

    async fn remove_entry(
        &self,
        call: Call,
        volume: VolumeId,
        entry: EntryId,
    ) -> Result<(), VolumeError> {
        self.home(&volume).await?.remove_entry(call, volume, entry).await
    }

    async fn snapshot_together(
        &self,
        calls: Vec<(Call, VolumeId)>,
        entry: NewEntry,
    ) -> Result<Captured<Vec<Snapshot>>, VolumeError> {
        let Some(((_, first), others)) = calls.split_first() else {
            return self.keeper()?.snapshot_together(calls, entry).await;
        };
        let mut home = self.home(first).await?;
        for (_, other) in others {
            home = self.home_of_both(first, other).await?;
        }
        home.snapshot_together(calls, entry).await
    }

    async fn store(&self, volume: &VolumeId) -> Result<VolumeStatus, VolumeError> {
        self.home(volume).await?.store(volume).await
    }

    async fn make_service_directory(
        &self,
        volume: &VolumeId,
        service: &str,
    ) -> Result<PathBuf, VolumeError> {
        self.home(volume).await?.make_service_directory(volume, service).await
    }

    async fn capacity(&self) -> Result<Capacity, VolumeError> {
        let nodes = self.nodes()?;
        let asked = nodes.iter().map(Node::capacity);
        let none = Capacity { available_bytes: 0, total_bytes: 0 };
        Ok(try_join_all(asked).await?.into_iter().fold(none, |sum, one| Capacity {
            available_bytes: sum.available_bytes.saturating_add(one.available_bytes),
            total_bytes: sum.total_bytes.saturating_add(one.total_bytes),
        }))
    }

    async fn wait_saved(&self, volume: &VolumeId) -> Result<(), VolumeError> {
        self.home(volume).await?.wait_saved(volume).await
    }

    async fn list(&self) -> Result<Vec<VolumeStatus>, VolumeError> {
        let nodes = self.nodes()?;
        let asked = nodes.iter().map(|node| in_time(node.volumes.list()));
        Ok(try_join_all(asked).await?.into_iter().flatten().collect())
    }

    async fn find(&self, wanted: &VolumeFilter) -> Result<Vec<VolumeStatus>, VolumeError> {
        let nodes = self.nodes()?;
        let asked = nodes.iter().map(|node| in_time(node.volumes.find(wanted)));
        Ok(try_join_all(asked).await?.into_iter().flatten().collect())
    }

    async fn status(&self, volume: &VolumeId) -> Result<VolumeStatus, VolumeError> {
        in_time(self.home(volume).await?.status(volume)).await
    }

    async fn entries(&self, volume: &VolumeId) -> Result<Vec<EntryView>, VolumeError> {
        self.home(volume).await?.entries(volume).await
    }

    async fn find_entries(&self, message: &str) -> Result<Vec<(VolumeId, EntryView)>, VolumeError> {
        let nodes = self.nodes()?;
        let asked = nodes.iter().map(|node| node.volumes.find_entries(message));
        Ok(try_join_all(asked).await?.into_iter().flatten().collect())
    }

    async fn diff(
        &self,
        before: (VolumeId, Moment),
        after: (VolumeId, Moment),
    ) -> Result<Vec<wire::Change>, VolumeError> {
        self.home_of_both(&before.0, &after.0).await?.diff(before, after).await
    }

    async fn file(
        &self,
        volume: &VolumeId,
        moment: &Moment,
        path: &TreePath,
    ) -> Result<FileView, VolumeError> {
        self.home(volume).await?.file(volume, moment, path).await
    }

    async fn files(
        &self,
        volume: &VolumeId,
        moment: &Moment,
        path: &TreePath,
        recursive: bool,
    ) -> Result<Vec<FileView>, VolumeError> {
        self.home(volume).await?.files(volume, moment, path, recursive).await
    }

    async fn read(
        &self,
        volume: &VolumeId,
        moment: &Moment,
        path: &TreePath,
        range: Option<Range<u64>>,
    ) -> Result<(FileView, FileReader), VolumeError> {
        self.home(volume).await?.read(volume, moment, path, range).await
    }

    async fn export(
        &self,
        volume: &VolumeId,
        moment: &Moment,
        path: &TreePath,
        to: Box<dyn Write + Send>,
    ) -> Result<Vec<String>, VolumeError> {
        self.home(volume).await?.export(volume, moment, path, to).await
    }

    async fn edit(&self, volume: &VolumeId, edit: FileEdit) -> Result<Edited, VolumeError> {
        self.home(volume).await?.edit(volume, edit).await
    }

    async fn verify(&self, volume: &VolumeId, level: VerifyLevel) -> Result<Verified, VolumeError> {
        self.home(volume).await?.verify(volume, level).await
    }

    async fn verify_store(&self) -> Result<Option<wire::VerifyProblem>, VolumeError> {
        self.keeper()?.verify_store().await
    }

    async fn recover(&self, take: bool, progress: Progress) -> Result<Recovered, VolumeError> {
        self.keeper()?.recover(take, progress).await
    }

    async fn doctor(&self) -> Vec<wire::Check> {
        let mut checks = Vec::new();
        for node in self.inner.nodes.all() {
            checks.extend(node.volumes.doctor().await);
        }
        checks
    }
}
