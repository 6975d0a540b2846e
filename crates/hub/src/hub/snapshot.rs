//! New snapshots.

use std::sync::Arc;

use cove_content::retention::KEEP_MAX;
use cove_content::volumes::{
    self, Captured, EntryView, NewEntry, Saving, VolumeError, VolumeFilter,
};
use cove_types::{Durability, EntryKind, SnapshotId, VolumeId};
use futures::FutureExt;
use serde_json::json;

use crate::hub::{Inner, Rest};
use crate::in_flight::Guard;
use crate::nodes::Observed;
use crate::plan::{self, Snapshots, Taken};
use crate::request::{PRINCIPAL, call, message_of};
use crate::thing::Thing;
use crate::volume_hub::{Snapshot, SnapshotVolumes};
use crate::{HubError, words};

/// The snapshots of a name, which is kept from others.
pub(super) struct Called {
    of_name: Guard<Thing>,
    found: Vec<(VolumeId, EntryView)>,
}

fn these(wanted: &SnapshotVolumes) -> VolumeFilter {
    let ids = wanted.volumes.iter().cloned().collect();
    VolumeFilter { ids, ..VolumeFilter::default() }
}

impl Inner {
    /// Looks for snapshots of the name that is wanted, which may take as long as a store does. It leaves nothing when
    /// its future is dropped.
    pub(super) async fn look_for_snapshots(
        &self,
        wanted: &SnapshotVolumes,
    ) -> Result<Called, HubError> {
        let of_name = self.in_flight.begin(vec![Thing::SnapshotName(wanted.name.clone())])?;
        // a node that does not answer is not asked for what may take as long as its store does
        self.nodes
            .observe_some(&these(wanted))
            .await?
            .view
            .check_whole("look for a snapshot of that name")?;
        let found = self.nodes.snapshots_called(&wanted.name).await?;
        Ok(Called { of_name, found })
    }

    pub(super) async fn snapshot(
        self: Arc<Self>,
        wanted: SnapshotVolumes,
        called: Called,
    ) -> Result<Rest<Vec<Snapshot>>, HubError> {
        let Called { of_name, found } = called;
        // only now, since the look may take long
        let volumes = wanted.volumes.iter().cloned().map(Thing::Volume);
        let under_way = (of_name, self.in_flight.begin(volumes.collect::<Vec<_>>())?);
        // again: whether a volume has entries that nobody can read is known only once they were asked for
        let mut observed = self.nodes.observe_some(&these(&wanted)).await?;
        found.into_iter().for_each(|(volume, entry)| observed.insert(volume, entry));
        match plan::snapshot(&observed.view, &wanted)? {
            Snapshots::Answer(ids) => {
                drop(under_way);
                let told =
                    async move { self.answer_snapshots(ids, observed, wanted.wait_saved).await };
                Ok(told.boxed())
            }
            Snapshots::Take(taken) => {
                let of: Vec<VolumeId> = taken.of.iter().map(|(volume, _)| volume.clone()).collect();
                let captured = self.take(&wanted, taken).await?;
                drop(under_way);
                let told = async move {
                    let made = match wanted.wait_saved {
                        true => captured.saved.await.map_err(|error| {
                            not_taken("save what was snapshotted", &wanted.volumes, error)
                        })?,
                        false => captured.value,
                    };
                    let made = of.iter().zip(&made);
                    Ok(made.map(|(volume, made)| words::snapshot(volume, &made.entry)).collect())
                };
                Ok(told.boxed())
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
                // of one that is deleted, too: its snapshots are kept
                if let Some((node, _)) = observed.statuses.get(volume) {
                    self.wait_saved(node, volume).await?;
                }
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
            // it counts itself not, and nothing that counts gives way to it, whatever the volume's retention is
            keep: KEEP_MAX,
        };
        let mut calls: Vec<_> = taken
            .of
            .into_iter()
            .map(|(volume, operation)| (call(operation, "snapshot", &asked), volume))
            .collect();
        if calls.len() > 1 {
            let captured = node.snapshot_together(calls, entry).await;
            let what = "snapshot the volumes";
            return captured.map_err(|error| not_taken(what, &wanted.volumes, error));
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

/// Why a node took no snapshots, of one volume or of several at one instant.
fn not_taken(what: &str, volumes: &[VolumeId], error: VolumeError) -> HubError {
    match volumes {
        [volume] => HubError::of(what, volume, error),
        _ => HubError::of_several(what, error),
    }
}
