//! Where volumes may be used.
//!
//! Publishing makes a volume current on a node and notes that in a label of the volume (`cove_hub::published`).

use std::collections::{BTreeMap, HashMap};

use cove_hub::published::Published;
use cove_hub::volume_hub::{EnsureCached, ModifyVolume, Volume};
use cove_types::NodeId;
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
        let counting = match self.0.options.volumes_per_node_max {
            Some(_) => Some(self.0.counting.lock().await),
            None => None,
        };
        let found = self.0.report(&id).await?.volume;
        let read_only = request.readonly || access.flags.contains(MountFlags::RDONLY);
        let wanted = Published { node: node.as_str(), read_only };
        let is_so = is_published(&found, wanted)?;
        if !is_so {
            self.check_count(&node).await?;
        }
        let candidates = vec![node.clone()];
        let place = EnsureCached { volume: id, candidates, budget_bytes: None };
        self.0.hub.ensure_cached(place).await?;
        if !is_so {
            self.note(&found, Some(wanted)).await?;
        }
        drop(counting);
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

    /// Looks whether one more volume may be published on a node.
    async fn check_count(&self, node: &NodeId) -> Result<(), CallError> {
        let Some(most) = self.0.options.volumes_per_node_max else { return Ok(()) };
        let volumes = self.0.list_volumes().await?;
        let is_there = |volume: &&Volume| {
            Published::of(&volume.labels).is_some_and(|published| published.node == node.as_str())
        };
        if u32::try_from(volumes.iter().filter(is_there).count()).is_ok_and(|n| n < most.get()) {
            return Ok(());
        }
        let what = format!("node {node} has {most} volumes published, and may have no more");
        Err(CallError::Exhausted { what })
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
