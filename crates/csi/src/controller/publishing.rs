//! Where volumes may be used.
//!
//! Publishing makes a volume current on a node and notes that in a label of the volume (`cove_hub::published`).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use cove_hub::published::Published;
use cove_hub::volume_hub::{EnsureCached, ModifyVolume, Volume};
use cove_types::{NodeId, VolumeId};
use rustix::mount::MountFlags;

use super::Controller;
use crate::capability::access;
use crate::proto as pb;
use crate::request::{node_id, required, volume_id};
use crate::status::CallError;
use crate::thing::Thing;

/// What the node is told of a volume that is published for reading only.
pub(crate) const READONLY_CONTEXT: &str = "cove.csi.storage/readonly";

/// Whether a volume is published as is asked already; refused when it is published otherwise.
fn is_published(volume: &Volume, wanted: Published<'_>) -> Result<bool, CallError> {
    let Some(present) = Published::of(&volume.labels) else { return Ok(false) };
    let (id, node) = (&volume.id, present.node);
    if node != wanted.node {
        let what = format!("volume {id} is published on node {node}");
        return Err(CallError::Precondition { what });
    }
    if present.read_only != wanted.read_only {
        let how = if present.read_only { "reading only" } else { "writing" };
        let what = format!("volume {id} is published on node {node} for {how}");
        return Err(CallError::Exists { what });
    }
    Ok(true)
}

/// A volume that is counted as published until this is dropped: by then its label says so, or it is not.
struct Counted<'d> {
    publishing: &'d Mutex<BTreeMap<VolumeId, NodeId>>,
    volume: VolumeId,
}

impl<'d> Counted<'d> {
    fn of(
        publishing: &'d Mutex<BTreeMap<VolumeId, NodeId>>,
        volume: VolumeId,
        node: NodeId,
    ) -> Self {
        let mut counted = publishing.lock().unwrap_or_else(PoisonError::into_inner);
        counted.insert(volume.clone(), node);
        drop(counted);
        Self { publishing, volume }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        let mut counted = self.publishing.lock().unwrap_or_else(PoisonError::into_inner);
        counted.remove(&self.volume);
    }
}

impl Controller {
    /// Makes a volume current on a node and notes that it is used there.
    pub(super) async fn publish(
        &self,
        request: pb::ControllerPublishVolumeRequest,
    ) -> Result<pb::ControllerPublishVolumeResponse, CallError> {
        required("volume_id", &request.volume_id)?;
        required("node_id", &request.node_id)?;
        let access = access("volume_capability", request.volume_capability.as_ref())?;
        let id = volume_id("volume_id", &request.volume_id)?;
        let _under_way = self.0.changing.begin([Thing::from(&id)])?;
        let node = node_id("node_id", &request.node_id)?;
        // a node that does not exist is told from one that will not do
        self.0.hub.capacity(Some(node.clone())).await?;
        let found = self.0.report(&id).await?.volume;
        let read_only = request.readonly || access.flags.contains(MountFlags::RDONLY);
        let wanted = Published { node: node.as_str(), read_only };
        let is_so = is_published(&found, wanted)?;
        let _counted = match is_so {
            true => None,
            false => self.count_in(&id, &node).await?,
        };
        let candidates = vec![node.clone()];
        let place = EnsureCached { volume: id.clone(), candidates, budget_bytes: None };
        self.0.hub.ensure_cached(place).await?;
        if !is_so {
            self.note(&found, Some(wanted)).await?;
        }
        let context = read_only.then(|| (READONLY_CONTEXT.to_owned(), "true".to_owned()));
        let publish_context: HashMap<_, _> = context.into_iter().collect();
        Ok(pb::ControllerPublishVolumeResponse { publish_context })
    }

    /// Notes that a volume is no longer used on a node, or on any when none is named.
    pub(super) async fn unpublish(
        &self,
        request: pb::ControllerUnpublishVolumeRequest,
    ) -> Result<pb::ControllerUnpublishVolumeResponse, CallError> {
        let unpublished = pb::ControllerUnpublishVolumeResponse {};
        let id = match volume_id("volume_id", &request.volume_id) {
            Err(error) if error.is_absence() => return Ok(unpublished),
            id => id?,
        };
        let _under_way = self.0.changing.begin([Thing::from(&id)])?;
        let Some(found) = self.0.find_volume(&id).await? else { return Ok(unpublished) };
        let present = Published::of(&found.labels);
        let is_there = present.is_some_and(|published| {
            request.node_id.is_empty() || published.node == request.node_id
        });
        if is_there {
            self.note(&found, None).await?;
        }
        Ok(unpublished)
    }

    /// Looks whether one more volume may be published on a node, and counts this one as such from then on. Held up by
    /// others who are counted, and not by what they do then.
    async fn count_in(
        &self,
        volume: &VolumeId,
        node: &NodeId,
    ) -> Result<Option<Counted<'_>>, CallError> {
        let Some(most) = self.0.options.volumes_per_node_max else { return Ok(None) };
        let _counting = self.0.counting.lock().await;
        // before the list: who is in it no more by then is noted there
        let mut there: BTreeSet<VolumeId> = self
            .0
            .publishing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .filter(|(_, on)| *on == node)
            .map(|(other, _)| other.clone())
            .collect();
        there.extend(self.0.list_volumes().await?.into_iter().filter_map(|volume| {
            let published = Published::of(&volume.labels);
            published.is_some_and(|on| on.node == node.as_str()).then_some(volume.id)
        }));
        if u32::try_from(there.len()).map_or(true, |count| count >= most.get()) {
            let what = format!("node {node} has {most} volumes published, and may have no more");
            return Err(CallError::Exhausted { what });
        }
        Ok(Some(Counted::of(&self.0.publishing, volume.clone(), node.clone())))
    }

    async fn note(
        &self,
        volume: &Volume,
        published: Option<Published<'_>>,
    ) -> Result<(), CallError> {
        let change = ModifyVolume {
            volume: volume.id.clone(),
            operation: self.0.env.operation_id(volume.seq),
            quota_bytes: None,
            labels: Some(Published::set(&volume.labels, published)),
            parameters: BTreeMap::new(),
        };
        self.0.hub.modify_volume(change).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::report;

    fn published(node: &str, read_only: bool) -> Published<'_> {
        Published { node, read_only }
    }

    #[test]
    fn a_volume_is_published_once() {
        let mut volume = report("v").volume;
        assert!(!is_published(&volume, published("a", false)).unwrap());
        volume.labels = Published::set(&volume.labels, Some(published("a", false)));
        assert!(is_published(&volume, published("a", false)).unwrap());
        let code = |wanted| is_published(&volume, wanted).unwrap_err().code();
        assert_eq!(code(published("a", true)), tonic::Code::AlreadyExists);
        assert_eq!(code(published("b", false)), tonic::Code::FailedPrecondition);
    }
}
