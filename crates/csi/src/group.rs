//! The service GroupController: snapshots of several volumes at one instant.

use std::sync::Arc;

use cove_hub::volume_hub::{GROUP_MAX, PageRequest, Snapshot, SnapshotFilter, SnapshotVolumes};
use cove_types::{Classify, ErrorKind, SnapshotId};
use cove_unix_grpc::field::wire_instant;
use tonic::{Code, Request, Response, Status};

use crate::controller::snapshots::{
    Sources, check_parameters, delete_snapshot, find_snapshot, snapshot,
};
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
        creation_time: snapshots.first().map(|first| wire_instant(first.created_at)),
        ready_to_use: true,
    }
}

/// The snapshots of a group, and what beside those is named as one of it.
#[derive(Debug, Default)]
struct Members {
    found: Vec<Snapshot>,
    /// Those that are in no list: they are gone, or will be once that is saved.
    gone: Vec<SnapshotId>,
}

/// Why a snapshot that is named is refused.
fn not_of_group(named: &str) -> CallError {
    let why = format!("snapshot \"{}\" is not of this group", excerpt(named));
    CallError::Invalid { field: "snapshot_ids", why }
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

    /// The snapshots that are listed as those of a group; none when there is no such group, whether its id is well
    /// formed or not.
    async fn listed(&self, group: &str) -> Result<Vec<Snapshot>, CallError> {
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

    /// The snapshots of a group, of which some are named. Refused where one that is named is of another group, or of
    /// none, and where one may be among those that nobody can read.
    async fn members(&self, group: &str, named: &[String]) -> Result<Members, CallError> {
        let found = match self.listed(group).await {
            // somewhere is what nobody can read: whoever names the members needs no list to tell that it is whole
            Err(error) if error.code() == Code::DataLoss && !named.is_empty() => Vec::new(),
            listed => listed?,
        };
        let mut members = Members { found, gone: Vec::new() };
        for named in named {
            // a malformed id is that of no snapshot
            let Ok(id) = named.parse::<SnapshotId>() else { continue };
            if members.found.iter().any(|member| member.id == id) {
                continue;
            }
            match find_snapshot(&self.0, &id).await? {
                Some(member) if member.group.as_deref() == Some(group) => {
                    members.found.push(member);
                }
                Some(_) => return Err(not_of_group(named)),
                None => members.gone.push(id),
            }
        }
        Ok(members)
    }

    async fn get(
        &self,
        request: pb::GetVolumeGroupSnapshotRequest,
    ) -> Result<pb::GetVolumeGroupSnapshotResponse, CallError> {
        let id = required("group_snapshot_id", &request.group_snapshot_id)?;
        let Members { found, .. } = self.members(id, &request.snapshot_ids).await?;
        if found.is_empty() {
            let what = format!("group snapshot \"{}\"", excerpt(id));
            return Err(CallError::Unknown { what });
        }
        let is_member = |named: &&String| found.iter().any(|found| found.id.to_string() == **named);
        if let Some(other) = request.snapshot_ids.iter().find(|named| !is_member(named)) {
            return Err(not_of_group(other));
        }
        let sources = Sources::find(&self.0, &found).await?;
        let group = group(id.to_owned(), &found, &sources);
        Ok(pb::GetVolumeGroupSnapshotResponse { group_snapshot: Some(group) })
    }

    /// Deletes the members one after the other; interrupted, a repetition deletes the others. Those that are named and
    /// listed no more are asked for too: an earlier call may wait until that they are gone is saved.
    async fn delete(
        &self,
        request: pb::DeleteVolumeGroupSnapshotRequest,
    ) -> Result<pb::DeleteVolumeGroupSnapshotResponse, CallError> {
        let id = required("group_snapshot_id", &request.group_snapshot_id)?;
        let Members { found, gone } = self.members(id, &request.snapshot_ids).await?;
        for member in found.into_iter().map(|member| member.id).chain(gone) {
            delete_snapshot(&self.0, member).await?;
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
