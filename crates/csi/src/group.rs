//! The service GroupController: snapshots of several volumes at one instant.

use std::sync::Arc;

use cove_hub::volume_hub::{GROUP_MAX, PageRequest, Snapshot, SnapshotFilter, SnapshotVolumes};
use cove_types::{Classify, ErrorKind};
use tonic::{Request, Response, Status};

use crate::controller::snapshots::{Sources, check_parameters, find_snapshot, snapshot, timestamp};
use crate::csi::Driver;
use crate::paging;
use crate::proto as pb;
use crate::proto::group_controller_service_capability::rpc::Type;
use crate::proto::group_controller_service_capability::{self, Rpc};
use crate::request::{name, required, volume_id};
use crate::status::{CallError, answer, excerpt};

/// The service GroupController.
pub(crate) struct GroupController(pub(crate) Arc<Driver>);

/// A group, as it is sent; its snapshots are one at least.
fn group(id: String, snapshots: &[Snapshot], sources: &Sources) -> pb::VolumeGroupSnapshot {
    pb::VolumeGroupSnapshot {
        group_snapshot_id: id,
        snapshots: snapshots.iter().map(|member| snapshot(member, sources)).collect(),
        creation_time: snapshots.first().map(|first| timestamp(first.created_at)),
        ready_to_use: true,
    }
}

/// Looks whether the snapshots that are named are the group's.
fn check_members(named: &[String], group: &[Snapshot]) -> Result<(), CallError> {
    let is_member = |named: &String| group.iter().any(|member| member.id.to_string() == *named);
    match named.iter().find(|named| !is_member(named)) {
        None => Ok(()),
        Some(other) => {
            let why = format!("snapshot \"{}\" is not of this group", excerpt(other));
            Err(CallError::Invalid { field: "snapshot_ids", why })
        }
    }
}

impl GroupController {
    /// A group of a name, new or as it was asked for before; then its sources may be gone.
    async fn create(
        &self,
        request: pb::CreateVolumeGroupSnapshotRequest,
    ) -> Result<pb::CreateVolumeGroupSnapshotResponse, CallError> {
        let field = "source_volume_ids";
        let name = name(&request.name)?;
        if request.source_volume_ids.is_empty() {
            return Err(CallError::Missing { field });
        }
        check_parameters(&request.parameters)?;
        if request.source_volume_ids.len() > GROUP_MAX {
            let found = request.source_volume_ids.len();
            let why = format!("a group has 1 to {GROUP_MAX} volumes, found {found}");
            return Err(CallError::Invalid { field, why });
        }
        let mut volumes = Vec::new();
        for id in &request.source_volume_ids {
            let volume = volume_id(field, id)?;
            if volumes.contains(&volume) {
                let why = format!("volume {volume} is named twice");
                return Err(CallError::Invalid { field, why });
            }
            volumes.push(volume);
        }
        let operation = self.0.operation(&volumes).await?;
        let wanted =
            SnapshotVolumes { volumes, name, is_group: true, operation, wait_saved: false };
        let snapshots = self.0.hub.snapshot(wanted).await?;
        let id = snapshots.iter().find_map(|snapshot| snapshot.group.clone());
        let id = id.ok_or_else(|| CallError::Unknown { what: "the group's id".to_owned() })?;
        let sources = Sources::find(&self.0, &snapshots).await?;
        let group_snapshot = Some(group(id, &snapshots, &sources));
        Ok(pb::CreateVolumeGroupSnapshotResponse { group_snapshot })
    }

    /// The snapshots of a group; none when there is no such group, whether its id is well formed or not.
    async fn members(&self, group: &str) -> Result<Vec<Snapshot>, CallError> {
        let filter = SnapshotFilter { group: Some(group.to_owned()), ..SnapshotFilter::default() };
        let fetch = |request: PageRequest| {
            let filter = filter.clone();
            async { Ok(self.0.hub.list_snapshots(filter, request).await?) }
        };
        match paging::page(0, String::new(), fetch).await {
            Ok(page) => Ok(page.items),
            Err(CallError::Hub(error))
                if matches!(error.kind(), ErrorKind::Invalid | ErrorKind::NotFound) =>
            {
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }

    async fn get(
        &self,
        request: pb::GetVolumeGroupSnapshotRequest,
    ) -> Result<pb::GetVolumeGroupSnapshotResponse, CallError> {
        let id = required("group_snapshot_id", &request.group_snapshot_id)?;
        let members = self.members(id).await?;
        if members.is_empty() {
            let what = format!("group snapshot \"{}\"", excerpt(id));
            return Err(CallError::Unknown { what });
        }
        check_members(&request.snapshot_ids, &members)?;
        let sources = Sources::find(&self.0, &members).await?;
        let group = group(id.to_owned(), &members, &sources);
        Ok(pb::GetVolumeGroupSnapshotResponse { group_snapshot: Some(group) })
    }

    /// Deletes the members one after the other; interrupted, a repetition deletes the others.
    async fn delete(
        &self,
        request: pb::DeleteVolumeGroupSnapshotRequest,
    ) -> Result<pb::DeleteVolumeGroupSnapshotResponse, CallError> {
        let id = required("group_snapshot_id", &request.group_snapshot_id)?;
        let members = self.members(id).await?;
        for named in request.snapshot_ids.iter().filter_map(|named| named.parse().ok()) {
            // one that is gone was a member, as far as anybody knows
            if find_snapshot(&self.0, &named).await?.is_some() {
                check_members(&[named.to_string()], &members)?;
            }
        }
        for member in members {
            let operation = self.0.operation(std::slice::from_ref(&member.id.volume)).await?;
            self.0.hub.delete_snapshot(member.id, operation).await?;
        }
        Ok(pb::DeleteVolumeGroupSnapshotResponse {})
    }
}

#[tonic::async_trait]
impl pb::group_controller_server::GroupController for GroupController {
    async fn group_controller_get_capabilities(
        &self,
        _: Request<pb::GroupControllerGetCapabilitiesRequest>,
    ) -> Result<Response<pb::GroupControllerGetCapabilitiesResponse>, Status> {
        let rpc = Rpc { r#type: Type::CreateDeleteGetVolumeGroupSnapshot.into() };
        let r#type = Some(group_controller_service_capability::Type::Rpc(rpc));
        let capabilities = vec![pb::GroupControllerServiceCapability { r#type }];
        Ok(Response::new(pb::GroupControllerGetCapabilitiesResponse { capabilities }))
    }

    async fn create_volume_group_snapshot(
        &self,
        request: Request<pb::CreateVolumeGroupSnapshotRequest>,
    ) -> Result<Response<pb::CreateVolumeGroupSnapshotResponse>, Status> {
        answer(self.create(request.into_inner()).await)
    }

    async fn delete_volume_group_snapshot(
        &self,
        request: Request<pb::DeleteVolumeGroupSnapshotRequest>,
    ) -> Result<Response<pb::DeleteVolumeGroupSnapshotResponse>, Status> {
        answer(self.delete(request.into_inner()).await)
    }

    async fn get_volume_group_snapshot(
        &self,
        request: Request<pb::GetVolumeGroupSnapshotRequest>,
    ) -> Result<Response<pb::GetVolumeGroupSnapshotResponse>, Status> {
        answer(self.get(request.into_inner()).await)
    }
}
