//! Changes of volumes and snapshots that are there.

use std::path::PathBuf;
use std::sync::Arc;

use cove_content::volumes::{Restore, VolumeFilter};
use cove_types::{OperationId, SnapshotId, VolumeId};
use futures::FutureExt;
use futures::future::ready;
use serde_json::json;

use crate::hub::{Inner, Rest};
use crate::in_flight::Busy;
use crate::nodes::Observed;
use crate::plan::{self, Delete, DeleteSnapshot, Modify};
use crate::request::{PRINCIPAL, call};
use crate::thing::Thing;
use crate::volume_hub::{ModifyVolume, RestoreVolume, RestoredVolume, Synced, Volume};
use crate::{HubError, request, words};

impl Inner {
    pub(super) async fn delete_volume(
        self: Arc<Self>,
        volume: VolumeId,
        operation: OperationId,
    ) -> Result<Rest<()>, HubError> {
        let _under_way = self.in_flight.begin(vec![Thing::Volume(volume.clone())])?;
        let observed = self.observe_meant(&volume).await?;
        let (node, operation) = match plan::delete(&observed.view, &volume, &operation)? {
            Delete::Gone => return Ok(ready(Ok(())).boxed()),
            Delete::Delete { node, operation } => (node, operation),
        };
        let call = call(operation, "delete", &json!({ "volume": volume }));
        match self.nodes.get(&node)?.delete(call, volume.clone()).await {
            // captured is enough: nobody reaches it any more
            Ok(_) => {}
            Err(error) => gone(HubError::of(format!("delete volume {volume}"), &volume, error))?,
        }
        Ok(ready(Ok(())).boxed())
    }

    /// Looks at one volume; where it is not there, also at those that are called as its id is, which may be meant.
    async fn observe_meant(&self, volume: &VolumeId) -> Result<Observed, HubError> {
        let observed = self.nodes.observe(volume).await?;
        if observed.view.volumes.contains_key(volume) {
            return Ok(observed);
        }
        let names = [volume.to_string()].into();
        let called = VolumeFilter { ids: [volume.clone()].into(), names };
        self.nodes.observe_some(&called).await
    }

    /// Nobody is kept out meanwhile: it ends when it is saved, and a repetition is the same operation for the node, so
    /// that both wait for one end.
    pub(super) async fn delete_snapshot(
        &self,
        snapshot: &SnapshotId,
        operation: &OperationId,
    ) -> Result<(), HubError> {
        let mut observed = self.observe_meant(&snapshot.volume).await?;
        self.nodes.observe_snapshot(&mut observed, snapshot).await?;
        let (node, operation) = match plan::delete_snapshot(&observed.view, snapshot, operation)? {
            DeleteSnapshot::Gone => return self.end_of_removal(&observed, snapshot).await,
            DeleteSnapshot::Remove { node, operation } => (node, operation),
        };
        let call = call(operation, "delete_snapshot", &json!({ "snapshot": snapshot }));
        let SnapshotId { volume, entry } = snapshot;
        match self.nodes.get(&node)?.remove_entry(call, volume.clone(), *entry).await {
            Ok(()) => Ok(()),
            Err(error) => gone(HubError::of(format!("delete snapshot {snapshot}"), volume, error)),
        }
    }

    /// Waits for a deletion that another call has asked for: what is to be taken out is listed no more before that is
    /// saved, and its node knows whether it is. What lies in the trash is no snapshot, and stays.
    async fn end_of_removal(
        &self,
        observed: &Observed,
        snapshot: &SnapshotId,
    ) -> Result<(), HubError> {
        let SnapshotId { volume, entry } = snapshot;
        let Some((node, _)) = observed.statuses.get(volume) else { return Ok(()) };
        let node = self.nodes.get(node)?;
        let failed = |error| HubError::of(format!("delete snapshot {snapshot}"), volume, error);
        match node.entries(volume).await {
            Ok(all) => match all.iter().find(|found| found.record.id == *entry) {
                // the other call has failed, and the entry is back
                Some(found) if found.record.is_live() => {
                    return Err(Busy(format!("snapshot {snapshot}")).into());
                }
                Some(_) => return Ok(()),
                None => {}
            },
            Err(error) => return gone(failed(error)),
        }
        // nothing is done under this one; the caller's own may be too old to ask with
        let operation = request::whole_of(&self.env.operation_id(0));
        let call = call(operation, "delete_snapshot", &json!({ "snapshot": snapshot }));
        node.remove_entry(call, volume.clone(), *entry).await.or_else(|error| gone(failed(error)))
    }

    pub(super) async fn modify_volume(
        self: Arc<Self>,
        wanted: ModifyVolume,
    ) -> Result<Rest<Volume>, HubError> {
        let volume = &wanted.volume;
        let _under_way = self.in_flight.begin(vec![Thing::Volume(volume.clone())])?;
        let mut observed = self.nodes.observe(volume).await?;
        let (node, status) = match plan::modify(&observed.view, &wanted)? {
            Modify::Unchanged => {
                let found = observed.statuses.remove(volume);
                found.ok_or_else(|| HubError::NoVolume { volume: volume.clone() })?
            }
            Modify::Change { node, operation, change } => {
                let call = call(operation, "modify", &json!([volume, change]));
                let volumes = self.nodes.get(&node)?;
                let changed = volumes.specify(call, volume.clone(), change, None).await;
                let what = format!("change volume {volume}");
                let changed = changed.map_err(|error| HubError::of(what, volume, error))?;
                (node, changed.value)
            }
        };
        Ok(ready(Ok(words::volume(&node, &status))).boxed())
    }

    pub(super) async fn restore_volume(
        self: Arc<Self>,
        wanted: RestoreVolume,
    ) -> Result<Rest<RestoredVolume>, HubError> {
        let RestoreVolume { volume, snapshot, operation, force, wait_saved } = wanted.clone();
        let under_way = self.in_flight.begin(vec![Thing::Volume(volume.clone())])?;
        let observed = self.nodes.observe(&volume).await?;
        let plan = plan::restore(&observed.view, &wanted)?;
        let asked = json!({ "force": force, "snapshot": snapshot, "volume": volume });
        let restore = Restore {
            entry: snapshot.entry,
            paths: Vec::new(),
            force,
            author: PRINCIPAL.into(),
            keep: plan.keep,
        };
        // the caller's operation as it is: one that a head has forgotten must not take away what was written since
        let call = call(operation, "restore", &asked);
        let of = volume.clone();
        let failed = move |error| HubError::of(format!("restore volume {of}"), &of, error);
        let restored = self.nodes.get(&plan.node)?.restore(call, volume.clone(), restore).await;
        let restored = restored.map_err(&failed)?;
        drop(under_way);
        let told = async move {
            let value = match wait_saved {
                true => restored.saved.await.map_err(failed)?,
                false => restored.value,
            };
            let (node, status) = self.get_live(&volume).await?;
            let before = value.before.map(|before| words::snapshot(&volume, &before));
            Ok(RestoredVolume { volume: words::volume(&node, &status), before })
        };
        Ok(told.boxed())
    }

    /// Nobody is kept out meanwhile: the node orders it among the rest, and it changes nothing that is read here.
    pub(super) async fn trigger_sync(&self, volume: &VolumeId) -> Result<Synced, HubError> {
        let (node, _) = self.get_live(volume).await?;
        let stored = self.nodes.get(&node)?.store(volume).await;
        let what = format!("save volume {volume}");
        let status = stored.map_err(|error| HubError::of(what.clone(), volume, error))?;
        match status.saved_at {
            Some(saved_at) => Ok(Synced { saved_at, seq: status.seq }),
            None => Err(plan::unavailable(what, "nothing of it is saved")),
        }
    }

    /// Nobody is kept out meanwhile: directories of several services may be made at once.
    pub(super) async fn create_service_volume(
        self: Arc<Self>,
        volume: VolumeId,
        service: String,
    ) -> Result<Rest<PathBuf>, HubError> {
        let (node, _) = self.get_live(&volume).await?;
        let made = self.nodes.get(&node)?.make_service_directory(&volume, &service).await;
        let what = format!("make the directory of service {service} in volume {volume}");
        let made = made.map_err(|error| HubError::of(what, &volume, error))?;
        Ok(ready(Ok(made)).boxed())
    }
}

/// What went meanwhile is deleted.
fn gone(error: HubError) -> Result<(), HubError> {
    match error {
        HubError::NoVolume { .. } | HubError::NoSnapshot { .. } => Ok(()),
        error => Err(error),
    }
}
