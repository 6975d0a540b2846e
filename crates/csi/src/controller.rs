//! The service Controller: volumes and snapshots, wherever they are.

pub(crate) mod publishing;
pub(crate) mod snapshots;
mod volumes;

use std::sync::Arc;

use tonic::{Request, Response, Status};

use crate::csi::{Compat, Driver};
use crate::proto as pb;
use crate::proto::controller_service_capability::rpc::Type;
use crate::proto::controller_service_capability::{self, Rpc};
use crate::status::{CallError, answer};

/// Does something to its end although the caller goes. A retry is ABORTED until then, and finds it done afterwards.
async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, CallError>> + Send + 'static,
) -> Result<T, CallError> {
    tokio::spawn(work).await.unwrap_or_else(|error| Err(CallError::broken(error)))
}

/// The service Controller.
pub(crate) struct Controller(pub(crate) Arc<Driver>);

/// What is announced to callers of any version.
const CAPABILITIES: [Type; 14] = [
    Type::CreateDeleteVolume,
    Type::PublishUnpublishVolume,
    Type::PublishReadonly,
    Type::ListVolumes,
    Type::ListVolumesPublishedNodes,
    Type::GetVolume,
    Type::GetCapacity,
    Type::CreateDeleteSnapshot,
    Type::ListSnapshots,
    Type::GetSnapshot,
    Type::CloneVolume,
    Type::ExpandVolume,
    Type::ModifyVolume,
    Type::SingleNodeMultiWriter,
];

/// What is announced beside, when callers know version 1.13.
const CAPABILITIES_1_13: [Type; 2] = [Type::GetVolumeHealth, Type::ListVolumeHealth];

/// What is announced.
fn capabilities(compat: Compat) -> Vec<pb::ControllerServiceCapability> {
    let newer: &[Type] = match compat {
        Compat::V1_12 => &[],
        Compat::V1_13 => &CAPABILITIES_1_13,
    };
    let capability = |rpc: &Type| pb::ControllerServiceCapability {
        r#type: Some(controller_service_capability::Type::Rpc(Rpc { r#type: (*rpc).into() })),
    };
    CAPABILITIES.iter().chain(newer).map(capability).collect()
}

/// Hands each call to the function of its name. Those that take a turn (to delete, publish, unpublish, expand or modify)
/// go on to their end although the caller goes, and keep the turn until then. Others end with their callers, unless the
/// Hub goes on with what it was asked for.
#[tonic::async_trait]
impl pb::controller_server::Controller for Controller {
    async fn create_volume(
        &self,
        request: Request<pb::CreateVolumeRequest>,
    ) -> Result<Response<pb::CreateVolumeResponse>, Status> {
        answer(self.create(request.into_inner()).await)
    }

    async fn delete_volume(
        &self,
        request: Request<pb::DeleteVolumeRequest>,
    ) -> Result<Response<pb::DeleteVolumeResponse>, Status> {
        let controller = Self(Arc::clone(&self.0));
        let call = async move { controller.delete(request.into_inner()).await };
        answer(to_its_end(call).await)
    }

    async fn controller_publish_volume(
        &self,
        request: Request<pb::ControllerPublishVolumeRequest>,
    ) -> Result<Response<pb::ControllerPublishVolumeResponse>, Status> {
        let controller = Self(Arc::clone(&self.0));
        let call = async move { controller.publish(request.into_inner()).await };
        answer(to_its_end(call).await)
    }

    async fn controller_unpublish_volume(
        &self,
        request: Request<pb::ControllerUnpublishVolumeRequest>,
    ) -> Result<Response<pb::ControllerUnpublishVolumeResponse>, Status> {
        let controller = Self(Arc::clone(&self.0));
        let call = async move { controller.unpublish(request.into_inner()).await };
        answer(to_its_end(call).await)
    }

    async fn validate_volume_capabilities(
        &self,
        request: Request<pb::ValidateVolumeCapabilitiesRequest>,
    ) -> Result<Response<pb::ValidateVolumeCapabilitiesResponse>, Status> {
        answer(self.validate(request.into_inner()).await)
    }

    async fn list_volumes(
        &self,
        request: Request<pb::ListVolumesRequest>,
    ) -> Result<Response<pb::ListVolumesResponse>, Status> {
        answer(self.list(request.into_inner()).await)
    }

    async fn controller_list_volume_health(
        &self,
        request: Request<pb::ControllerListVolumeHealthRequest>,
    ) -> Result<Response<pb::ControllerListVolumeHealthResponse>, Status> {
        answer(self.list_health(request.into_inner()).await)
    }

    async fn controller_get_volume_health(
        &self,
        request: Request<pb::ControllerGetVolumeHealthRequest>,
    ) -> Result<Response<pb::ControllerGetVolumeHealthResponse>, Status> {
        answer(self.get_health(request.into_inner()).await)
    }

    async fn get_capacity(
        &self,
        request: Request<pb::GetCapacityRequest>,
    ) -> Result<Response<pb::GetCapacityResponse>, Status> {
        answer(self.capacity(request.into_inner()).await)
    }

    async fn controller_get_capabilities(
        &self,
        _: Request<pb::ControllerGetCapabilitiesRequest>,
    ) -> Result<Response<pb::ControllerGetCapabilitiesResponse>, Status> {
        let capabilities = capabilities(self.0.options.compat);
        Ok(Response::new(pb::ControllerGetCapabilitiesResponse { capabilities }))
    }

    async fn create_snapshot(
        &self,
        request: Request<pb::CreateSnapshotRequest>,
    ) -> Result<Response<pb::CreateSnapshotResponse>, Status> {
        answer(self.create_snapshot(request.into_inner()).await)
    }

    async fn delete_snapshot(
        &self,
        request: Request<pb::DeleteSnapshotRequest>,
    ) -> Result<Response<pb::DeleteSnapshotResponse>, Status> {
        answer(self.delete_snapshot(request.into_inner()).await)
    }

    async fn list_snapshots(
        &self,
        request: Request<pb::ListSnapshotsRequest>,
    ) -> Result<Response<pb::ListSnapshotsResponse>, Status> {
        answer(self.list_snapshots(request.into_inner()).await)
    }

    async fn get_snapshot(
        &self,
        request: Request<pb::GetSnapshotRequest>,
    ) -> Result<Response<pb::GetSnapshotResponse>, Status> {
        answer(self.get_snapshot(request.into_inner()).await)
    }

    async fn controller_expand_volume(
        &self,
        request: Request<pb::ControllerExpandVolumeRequest>,
    ) -> Result<Response<pb::ControllerExpandVolumeResponse>, Status> {
        let controller = Self(Arc::clone(&self.0));
        let call = async move { controller.expand(request.into_inner()).await };
        answer(to_its_end(call).await)
    }

    async fn controller_get_volume(
        &self,
        request: Request<pb::ControllerGetVolumeRequest>,
    ) -> Result<Response<pb::ControllerGetVolumeResponse>, Status> {
        answer(self.get(request.into_inner()).await)
    }

    async fn controller_modify_volume(
        &self,
        request: Request<pb::ControllerModifyVolumeRequest>,
    ) -> Result<Response<pb::ControllerModifyVolumeResponse>, Status> {
        let controller = Self(Arc::clone(&self.0));
        let call = async move { controller.modify(request.into_inner()).await };
        answer(to_its_end(call).await)
    }
}
