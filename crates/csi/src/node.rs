//! The service Node: volumes as directories of this machine.
//!
//! What is mounted is read from the kernel for each call, and nothing of it is kept.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cove_hub::in_flight::Guard;
use cove_hub::volume_hub::{EnsureCached, VolumeReport};
use cove_types::VolumeId;
use rustix::mount::MountFlags;
use tonic::{Request, Response, Status};

use crate::capability::access;
use crate::controller::publishing::READONLY_CONTEXT;
use crate::csi::{Compat, Driver};
use crate::health::{as_field, health};
use crate::proto as pb;
use crate::proto::node_get_storage_health_response::StorageBackendHealth;
use crate::proto::node_service_capability::rpc::Type;
use crate::proto::node_service_capability::{self, Rpc};
use crate::proto::volume_usage::Unit;
use crate::request::{required, topology, volume_id};
use crate::status::{CallError, answer, excerpt, signed};
use crate::target::Target;
use crate::thing::Thing;

/// The service Node.
pub(crate) struct Node(pub(crate) Arc<Driver>);

/// What is announced to callers of any version.
const CAPABILITIES: [Type; 4] = [
    Type::StageUnstageVolume,
    Type::GetVolumeStats,
    Type::ExpandVolume,
    Type::SingleNodeMultiWriter,
];

/// What is announced beside, when callers know version 1.13.
const CAPABILITIES_1_13: [Type; 2] = [Type::GetVolumeHealth, Type::GetStorageHealth];

/// What is announced.
fn capabilities(compat: Compat) -> Vec<pb::NodeServiceCapability> {
    let newer: &[Type] = match compat {
        Compat::V1_12 => &[],
        Compat::V1_13 => &CAPABILITIES_1_13,
    };
    let capability = |rpc: &Type| pb::NodeServiceCapability {
        r#type: Some(node_service_capability::Type::Rpc(Rpc { r#type: (*rpc).into() })),
    };
    CAPABILITIES.iter().chain(newer).map(capability).collect()
}

/// Works with files and mounts, to its end although the caller goes; the volume is free for other calls then.
async fn blocking<T: Send + 'static>(
    under_way: Option<Guard<Thing>>,
    work: impl FnOnce() -> Result<T, CallError> + Send + 'static,
) -> Result<T, CallError> {
    let work = move || {
        let result = work();
        drop(under_way);
        result
    };
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(CallError::broken(error)))
}

/// What of a volume is used: of its quota, or of the pool when nothing limits it.
fn usage(report: &VolumeReport, pool_available_bytes: u64) -> pb::VolumeUsage {
    // what the quota is charged; what is shared with others is charged to whoever wrote it
    let used = report.bytes.unique;
    let (total, available) = match report.volume.quota_bytes {
        Some(quota) => (quota, quota.saturating_sub(used)),
        None => (used.saturating_add(pool_available_bytes), pool_available_bytes),
    };
    pb::VolumeUsage {
        available: signed(available),
        total: signed(total),
        used: signed(used),
        unit: Unit::Bytes.into(),
    }
}

/// The pool that the files of a volume are in: they are at `volumes/<id>/files` there.
fn pool_of(files: &Path) -> &Path {
    files.ancestors().nth(3).unwrap_or(files)
}

impl Node {
    /// The files of a volume, which is current here then.
    async fn files(&self, volume: &VolumeId) -> Result<PathBuf, CallError> {
        let node = &self.0.options.node;
        let place = self
            .0
            .hub
            .ensure_cached(EnsureCached {
                volume: volume.clone(),
                candidates: vec![node.clone()],
                budget_bytes: None,
            })
            .await?;
        if place.node == *node {
            return Ok(place.path);
        }
        let what = format!("volume {volume} is on node {}, and this is node {node}", place.node);
        Err(CallError::Precondition { what })
    }

    /// Looks that the volume is here. Makes nothing but the directory, which is the caller's.
    async fn stage(
        &self,
        request: pb::NodeStageVolumeRequest,
    ) -> Result<pb::NodeStageVolumeResponse, CallError> {
        let field = "staging_target_path";
        required("volume_id", &request.volume_id)?;
        required(field, &request.staging_target_path)?;
        access("volume_capability", request.volume_capability.as_ref())?;
        let volume = volume_id("volume_id", &request.volume_id)?;
        let under_way = self.0.mounting.begin([Thing::from(&volume)])?;
        let files = self.files(&volume).await?;
        let home = self.0.options.home.clone();
        blocking(Some(under_way), move || {
            let target = Target::get(field, &request.staging_target_path)?;
            target.refuse_within(field, &[&home, pool_of(&files)])?;
            target.ensure_directory(field)
        })
        .await?;
        Ok(pb::NodeStageVolumeResponse {})
    }

    /// Nothing is to be undone: the directory is the caller's.
    fn unstage(
        request: &pb::NodeUnstageVolumeRequest,
    ) -> Result<pb::NodeUnstageVolumeResponse, CallError> {
        required("volume_id", &request.volume_id)?;
        required("staging_target_path", &request.staging_target_path)?;
        Ok(pb::NodeUnstageVolumeResponse {})
    }

    /// Mounts the volume at a path that is made for it.
    async fn publish(
        &self,
        request: pb::NodePublishVolumeRequest,
    ) -> Result<pb::NodePublishVolumeResponse, CallError> {
        let field = "target_path";
        required("volume_id", &request.volume_id)?;
        required(field, &request.target_path)?;
        let mut access = access("volume_capability", request.volume_capability.as_ref())?;
        if request.staging_target_path.is_empty() {
            let what = "field \"staging_target_path\" is missing: a volume is staged first";
            return Err(CallError::Precondition { what: what.to_owned() });
        }
        let context = request.publish_context.get(READONLY_CONTEXT);
        if request.readonly || context.is_some_and(|value| value == "true") {
            access.flags |= MountFlags::RDONLY;
        }
        let volume = volume_id("volume_id", &request.volume_id)?;
        let under_way = self.0.mounting.begin([Thing::from(&volume)])?;
        let files = self.files(&volume).await?;
        let (mounting, home) = (self.0.mounting.clone(), self.0.options.home.clone());
        blocking(Some(under_way), move || {
            let target = Target::get(field, &request.target_path)?;
            let _under_way = mounting.begin([Thing::from(&target)])?;
            target.publish(field, &volume, &files, access, &[&home, pool_of(&files)])
        })
        .await?;
        Ok(pb::NodePublishVolumeResponse {})
    }

    /// Takes the mount away and then the directory. Asks the Hub nothing, so that it succeeds for volumes that are
    /// gone and while the Hub is away. It excludes other calls at the path and none on the volume: a deletion lasts as
    /// long as the store does not answer, and loses nothing when a mount goes.
    async fn unpublish(
        &self,
        request: pb::NodeUnpublishVolumeRequest,
    ) -> Result<pb::NodeUnpublishVolumeResponse, CallError> {
        let field = "target_path";
        required("volume_id", &request.volume_id)?;
        required(field, &request.target_path)?;
        // a malformed id is that of no volume, of which nothing is mounted
        let volume: Option<VolumeId> = request.volume_id.parse().ok();
        let (mounting, home) = (self.0.mounting.clone(), self.0.options.home.clone());
        blocking(None, move || {
            let Some(target) = Target::find(field, &request.target_path)? else { return Ok(()) };
            let _under_way = mounting.begin([Thing::from(&target)])?;
            target.unpublish(field, volume.as_ref(), &[&home])
        })
        .await?;
        Ok(pb::NodeUnpublishVolumeResponse {})
    }

    /// Whether a volume, whose files are at `files`, is at a path: mounted, or a directory on which nothing is mounted
    /// when that will do.
    async fn is_at(
        &self,
        files: Option<PathBuf>,
        path: String,
        or_staged: bool,
    ) -> Result<bool, CallError> {
        // one that has none here is mounted nowhere
        let Some(files) = files else { return Ok(false) };
        blocking(None, move || {
            let target = match Target::find("volume_path", &path) {
                Ok(Some(target)) => target,
                Ok(None) | Err(CallError::Invalid { .. }) => return Ok(false),
                Err(error) => return Err(error),
            };
            match target.shows(&files)? {
                Some(is_there) => Ok(is_there),
                None => Ok(or_staged && target.is_directory()?),
            }
        })
        .await
    }

    /// How full the volume is.
    async fn stats(
        &self,
        request: pb::NodeGetVolumeStatsRequest,
    ) -> Result<pb::NodeGetVolumeStatsResponse, CallError> {
        required("volume_id", &request.volume_id)?;
        required("volume_path", &request.volume_path)?;
        let volume = volume_id("volume_id", &request.volume_id)?;
        let report = self.0.report(&volume).await?;
        let files = report.volume.path.clone();
        if !self.is_at(files, request.volume_path.clone(), false).await? {
            return Err(not_at(&volume, &request.volume_path));
        }
        let available = match report.volume.quota_bytes {
            Some(_) => 0,
            None => {
                let node = self.0.options.node.clone();
                self.0.hub.capacity(Some(node)).await?.available_bytes
            }
        };
        Ok(pb::NodeGetVolumeStatsResponse { usage: vec![usage(&report, available)] })
    }

    /// Tells how large the volume is: what it was expanded to holds here already.
    async fn expand(
        &self,
        request: pb::NodeExpandVolumeRequest,
    ) -> Result<pb::NodeExpandVolumeResponse, CallError> {
        required("volume_id", &request.volume_id)?;
        required("volume_path", &request.volume_path)?;
        let volume = volume_id("volume_id", &request.volume_id)?;
        let report = self.0.report(&volume).await?;
        let files = report.volume.path.clone();
        if !self.is_at(files, request.volume_path.clone(), true).await? {
            return Err(not_at(&volume, &request.volume_path));
        }
        let capacity_bytes = report.volume.quota_bytes.map_or(0, signed);
        Ok(pb::NodeExpandVolumeResponse { capacity_bytes })
    }

    /// The problems of a volume.
    async fn health(
        &self,
        request: pb::NodeGetVolumeHealthRequest,
    ) -> Result<pb::NodeGetVolumeHealthResponse, CallError> {
        let volume = volume_id("volume_id", &request.volume_id)?;
        let report = self.0.report(&volume).await?;
        Ok(pb::NodeGetVolumeHealthResponse { volume_health: Some(health(&report)) })
    }

    /// Whether this node's pool answers.
    async fn storage_health(&self) -> pb::NodeGetStorageHealthResponse {
        let problem = self.0.check_well().await.err().map(|unwell| StorageBackendHealth {
            status: pb::StorageHealthErrorType::StorageUnreachable.into(),
            reason: "PoolUnreachable".to_owned(),
            message: as_field(&unwell.told()),
            volume_capability: None,
        });
        pb::NodeGetStorageHealthResponse { backend_health: problem.into_iter().collect() }
    }
}

fn not_at(volume: &VolumeId, path: &str) -> CallError {
    CallError::Unknown { what: format!("a mount of volume {volume} at {}", excerpt(path)) }
}

/// Hands each call to the function of its name. A call gives its turn up when the caller goes while the Hub is asked; once
/// it works with files and mounts it goes on to its end, and keeps it until then.
#[tonic::async_trait]
impl pb::node_server::Node for Node {
    async fn node_stage_volume(
        &self,
        request: Request<pb::NodeStageVolumeRequest>,
    ) -> Result<Response<pb::NodeStageVolumeResponse>, Status> {
        answer(self.stage(request.into_inner()).await)
    }

    async fn node_unstage_volume(
        &self,
        request: Request<pb::NodeUnstageVolumeRequest>,
    ) -> Result<Response<pb::NodeUnstageVolumeResponse>, Status> {
        answer(Self::unstage(request.get_ref()))
    }

    async fn node_publish_volume(
        &self,
        request: Request<pb::NodePublishVolumeRequest>,
    ) -> Result<Response<pb::NodePublishVolumeResponse>, Status> {
        answer(self.publish(request.into_inner()).await)
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<pb::NodeUnpublishVolumeRequest>,
    ) -> Result<Response<pb::NodeUnpublishVolumeResponse>, Status> {
        answer(self.unpublish(request.into_inner()).await)
    }

    async fn node_get_volume_stats(
        &self,
        request: Request<pb::NodeGetVolumeStatsRequest>,
    ) -> Result<Response<pb::NodeGetVolumeStatsResponse>, Status> {
        answer(self.stats(request.into_inner()).await)
    }

    async fn node_get_volume_health(
        &self,
        request: Request<pb::NodeGetVolumeHealthRequest>,
    ) -> Result<Response<pb::NodeGetVolumeHealthResponse>, Status> {
        answer(self.health(request.into_inner()).await)
    }

    async fn node_get_storage_health(
        &self,
        _: Request<pb::NodeGetStorageHealthRequest>,
    ) -> Result<Response<pb::NodeGetStorageHealthResponse>, Status> {
        Ok(Response::new(self.storage_health().await))
    }

    async fn node_expand_volume(
        &self,
        request: Request<pb::NodeExpandVolumeRequest>,
    ) -> Result<Response<pb::NodeExpandVolumeResponse>, Status> {
        answer(self.expand(request.into_inner()).await)
    }

    async fn node_get_capabilities(
        &self,
        _: Request<pb::NodeGetCapabilitiesRequest>,
    ) -> Result<Response<pb::NodeGetCapabilitiesResponse>, Status> {
        let capabilities = capabilities(self.0.options.compat);
        Ok(Response::new(pb::NodeGetCapabilitiesResponse { capabilities }))
    }

    async fn node_get_info(
        &self,
        _: Request<pb::NodeGetInfoRequest>,
    ) -> Result<Response<pb::NodeGetInfoResponse>, Status> {
        let options = &self.0.options;
        Ok(Response::new(pb::NodeGetInfoResponse {
            node_id: options.node.to_string(),
            max_volumes_per_node: options.volumes_per_node_max.map_or(0, |most| most.get().into()),
            accessible_topology: Some(topology(&options.node)),
        }))
    }
}

#[cfg(test)]
mod tests {
    use cove_types::wire::Bytes;

    use super::*;
    use crate::fake::report;

    fn used(quota_bytes: Option<u64>, unique: u64, pool: u64) -> (i64, i64, i64) {
        let mut report = report("v");
        report.volume.quota_bytes = quota_bytes;
        report.bytes = Bytes { logical: 1000, unique, shared: 500 };
        let usage = usage(&report, pool);
        (usage.total, usage.used, usage.available)
    }

    #[test]
    fn usage_is_that_of_the_quota_and_without_one_that_of_the_pool() {
        assert_eq!(used(Some(100), 30, 0), (100, 30, 70));
        assert_eq!(used(Some(100), 130, 0), (100, 130, 0));
        assert_eq!(used(None, 30, 50), (80, 30, 50));
        assert_eq!(used(None, u64::MAX, 50), (i64::MAX, i64::MAX, 50));
    }
}
