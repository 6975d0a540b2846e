//! New snapshots.

use cove_content::retention::KEEP_MAX;
use cove_content::volumes::{self, Captured, NewEntry, Saving, VolumeFilter};
use cove_types::{Durability, EntryKind, SnapshotId, VolumeId};
use futures::FutureExt;
use serde_json::json;

use crate::hub::Inner;
use crate::in_flight::Thing;
use crate::nodes::Observed;
use crate::plan::{self, Snapshots, Taken};
use crate::request::{PRINCIPAL, call, message_of};
use crate::volume_hub::{Snapshot, SnapshotVolumes};
use crate::{HubError, words};

impl Inner {
    pub(super) async fn snapshot(
        &self,
        wanted: SnapshotVolumes,
    ) -> Result<Vec<Snapshot>, HubError> {
        let volumes = wanted.volumes.iter().cloned().map(Thing::Volume);
        let things = volumes.chain([Thing::SnapshotName(wanted.name.clone())]).collect();
        let under_way = self.in_flight.begin(things)?;
        let ids = wanted.volumes.iter().cloned().collect();
        let these = VolumeFilter { ids, ..VolumeFilter::default() };
        let mut observed = self.nodes.observe_some(&these).await?;
        self.nodes.observe_snapshots_called(&mut observed, &wanted.name).await?;
        match plan::snapshot(&observed.view, &wanted)? {
            Snapshots::Answer(ids) => {
                drop(under_way);
                self.answer_snapshots(ids, observed, wanted.wait_saved).await
            }
            Snapshots::Take(taken) => {
                let of: Vec<VolumeId> = taken.of.iter().map(|(volume, _)| volume.clone()).collect();
                let captured = self.take(&wanted, taken).await?;
                drop(under_way);
                let made = match wanted.wait_saved {
                    true => captured.saved.await.map_err(|error| {
                        HubError::of("save what was snapshotted", &wanted.volumes[0], error)
                    })?,
                    false => captured.value,
                };
                let made = of.iter().zip(&made);
                Ok(made.map(|(volume, made)| words::snapshot(volume, &made.entry)).collect())
            }
        }
    }

    /// Snapshots that are there, as the answer to a repetition.
    async fn answer_snapshots(
        &self,
        ids: Vec<SnapshotId>,
        mut observed: Observed,
        wait_saved: bool,
    ) -> Result<Vec<Snapshot>, HubError> {
        if wait_saved {
            let unsaved: Vec<VolumeId> = ids
                .iter()
                .filter(|id| {
                    let entry = observed.entries.get(*id);
                    entry.is_none_or(|entry| entry.durability != Durability::Saved)
                })
                .map(|id| id.volume.clone())
                .collect();
            for volume in &unsaved {
                self.wait_saved(volume).await?;
            }
            self.nodes.observe_entries(&mut observed, unsaved).await?;
        }
        let told = ids.into_iter().map(|id| match observed.entries.get(&id) {
            Some(entry) => Ok(words::snapshot(&id.volume, entry)),
            None => Err(HubError::NoSnapshot { snapshot: id }),
        });
        told.collect()
    }

    async fn take(
        &self,
        wanted: &SnapshotVolumes,
        taken: Taken,
    ) -> Result<Captured<Vec<volumes::Snapshot>>, HubError> {
        let node = self.nodes.get(&taken.node)?;
        let asked = json!({
            "is_group": wanted.is_group,
            "name": wanted.name,
            "volumes": wanted.volumes,
        });
        let entry = NewEntry {
            kind: EntryKind::Csi,
            author: PRINCIPAL.into(),
            message: Some(message_of(&wanted.name)),
            label: None,
            cause: taken.group,
            // it counts itself not, and nothing of a timeline gives way to it
            keep: KEEP_MAX,
        };
        let mut calls: Vec<_> = taken
            .of
            .into_iter()
            .map(|(volume, operation)| (call(operation, "snapshot", &asked), volume))
            .collect();
        if calls.len() > 1 {
            let captured = node.snapshot_together(calls, entry).await;
            let of = &wanted.volumes[0];
            return captured.map_err(|error| HubError::of("snapshot the volumes", of, error));
        }
        let Some((call, volume)) = calls.pop() else {
            let saved: Saving<_> = Box::pin(async { Ok(Vec::new()) });
            return Ok(Captured { value: Vec::new(), saved });
        };
        let captured = node.snapshot(call, volume.clone(), entry).await;
        let what = format!("snapshot volume {volume}");
        let captured = captured.map_err(|error| HubError::of(what, &volume, error))?;
        let saved = captured.saved.map(|saved| saved.map(|one| vec![one]));
        Ok(Captured { value: vec![captured.value], saved: Box::pin(saved) })
    }
}
