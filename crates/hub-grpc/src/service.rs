//! The calls: words of the wire in, words of the domain out.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use cove_hub::volume_hub::{
    CreateVolume, EnsureCached, ModifyVolume, Resolve, RestoreVolume, SnapshotVolumes,
};
use cove_hub::{HubError, VolumeHub};
use cove_unix_grpc::{Ending, is_true, refused};
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use tonic::{Request, Response, Status};
use tracing::Instrument;

use crate::field::{FieldError, optional, required};
use crate::pb;
use crate::pb::volume_hub_server::VolumeHub as Calls;
use crate::reply::wire_durability;
use crate::request::{list_snapshots, page, service, volume_operation};
use crate::status::{internal, status};

/// The Hub as the wire calls it.
pub(crate) struct Service {
    hub: Arc<dyn VolumeHub>,
    ending: Ending,
}

impl Service {
    pub(crate) fn new(hub: Arc<dyn VolumeHub>, ending: Ending) -> Self {
        Self { hub, ending }
    }

    /// Runs a call for as long as its caller waits for it. What it has begun to change goes on by itself in the Hub.
    async fn run<T>(
        &self,
        rpc: &'static str,
        call: impl Future<Output = Result<T, HubError>> + Send,
    ) -> Result<T, Status> {
        let _run = self.ending.running.one_more();
        let call = call.instrument(tracing::info_span!("hub", rpc));
        match AssertUnwindSafe(call).catch_unwind().await {
            Ok(ended) => ended.map_err(|error| status(rpc, &error)),
            // what happened the panic itself has said
            Err(_) => Err(internal(rpc, "it panicked")),
        }
    }

    /// Makes a volume for one of the two calls that do.
    async fn make(
        &self,
        rpc: &'static str,
        request: Result<CreateVolume, FieldError>,
    ) -> Result<(pb::Volume, i32), Status> {
        let request = request.map_err(refuse)?;
        let (volume, durability) = self.run(rpc, self.hub.create_volume(request)).await?;
        Ok((told(rpc, volume)?.into_inner(), wire_durability(durability)))
    }
}

/// What the Hub answered, as the wire has it. What the wire cannot tell is internal.
fn told<T, W: TryFrom<T, Error = FieldError>>(
    rpc: &'static str,
    answer: T,
) -> Result<Response<W>, Status> {
    W::try_from(answer).map(Response::new).map_err(|error| internal(rpc, &error.to_string()))
}

fn refuse(error: FieldError) -> Status {
    refused(&error)
}

#[async_trait::async_trait]
impl Calls for Service {
    async fn create_volume(
        &self,
        request: Request<pb::CreateVolumeRequest>,
    ) -> Result<Response<pb::CreateVolumeResponse>, Status> {
        let request = request.into_inner().try_into();
        let (volume, durability) = self.make("CreateVolume", request).await?;
        Ok(Response::new(pb::CreateVolumeResponse { volume: Some(volume), durability }))
    }

    async fn delete_volume(
        &self,
        request: Request<pb::DeleteVolumeRequest>,
    ) -> Result<Response<pb::DeleteVolumeResponse>, Status> {
        let pb::DeleteVolumeRequest { volume, op_id } = request.into_inner();
        let (volume, operation) = volume_operation(&volume, &op_id).map_err(refuse)?;
        let call = self.hub.delete_volume(volume, operation);
        self.run("DeleteVolume", call).await?;
        Ok(Response::new(pb::DeleteVolumeResponse {}))
    }

    async fn ensure_cached(
        &self,
        request: Request<pb::EnsureCachedRequest>,
    ) -> Result<Response<pb::EnsureCachedResponse>, Status> {
        let request = EnsureCached::try_from(request.into_inner()).map_err(refuse)?;
        let call = self.hub.ensure_cached(request);
        told("EnsureCached", self.run("EnsureCached", call).await?)
    }

    async fn trigger_sync(
        &self,
        request: Request<pb::TriggerSyncRequest>,
    ) -> Result<Response<pb::TriggerSyncResponse>, Status> {
        let volume = required("volume", &request.into_inner().volume).map_err(refuse)?;
        let call = self.hub.trigger_sync(volume);
        Ok(Response::new(self.run("TriggerSync", call).await?.into()))
    }

    async fn create_service_volume(
        &self,
        request: Request<pb::CreateServiceVolumeRequest>,
    ) -> Result<Response<pb::CreateServiceVolumeResponse>, Status> {
        let request = request.into_inner();
        let volume = required("volume", &request.volume).map_err(refuse)?;
        let name = service(request.service).map_err(refuse)?;
        let call = self.hub.create_service_volume(volume, name);
        told("CreateServiceVolume", self.run("CreateServiceVolume", call).await?)
    }

    async fn volume_status(
        &self,
        request: Request<pb::VolumeStatusRequest>,
    ) -> Result<Response<pb::VolumeStatusResponse>, Status> {
        let volume = required("volume", &request.into_inner().volume).map_err(refuse)?;
        told("VolumeStatus", self.run("VolumeStatus", self.hub.volume_status(volume)).await?)
    }

    async fn fork_volume(
        &self,
        request: Request<pb::ForkVolumeRequest>,
    ) -> Result<Response<pb::ForkVolumeResponse>, Status> {
        let request = request.into_inner().try_into();
        let (volume, durability) = self.make("ForkVolume", request).await?;
        Ok(Response::new(pb::ForkVolumeResponse { volume: Some(volume), durability }))
    }

    async fn modify_volume(
        &self,
        request: Request<pb::ModifyVolumeRequest>,
    ) -> Result<Response<pb::ModifyVolumeResponse>, Status> {
        let request = ModifyVolume::try_from(request.into_inner()).map_err(refuse)?;
        let call = self.hub.modify_volume(request);
        let volume = told("ModifyVolume", self.run("ModifyVolume", call).await?)?.into_inner();
        Ok(Response::new(pb::ModifyVolumeResponse { volume: Some(volume) }))
    }

    async fn snapshot(
        &self,
        request: Request<pb::SnapshotRequest>,
    ) -> Result<Response<pb::SnapshotResponse>, Status> {
        let request = SnapshotVolumes::try_from(request.into_inner()).map_err(refuse)?;
        let call = self.hub.snapshot(request);
        Ok(Response::new(self.run("Snapshot", call).await?.into()))
    }

    async fn delete_snapshot(
        &self,
        request: Request<pb::DeleteSnapshotRequest>,
    ) -> Result<Response<pb::DeleteSnapshotResponse>, Status> {
        let pb::DeleteSnapshotRequest { snapshot, op_id } = request.into_inner();
        let snapshot = required("snapshot", &snapshot).map_err(refuse)?;
        let operation = required("op_id", &op_id).map_err(refuse)?;
        let call = self.hub.delete_snapshot(snapshot, operation);
        self.run("DeleteSnapshot", call).await?;
        Ok(Response::new(pb::DeleteSnapshotResponse {}))
    }

    async fn list_snapshots(
        &self,
        request: Request<pb::ListSnapshotsRequest>,
    ) -> Result<Response<pb::ListSnapshotsResponse>, Status> {
        let (filter, page) = list_snapshots(request.into_inner()).map_err(refuse)?;
        let page = self.run("ListSnapshots", self.hub.list_snapshots(filter, page)).await?;
        Ok(Response::new(pb::ListSnapshotsResponse {
            snapshots: page.items.into_iter().map(Into::into).collect(),
            next_page_token: page.next_token,
        }))
    }

    async fn restore_volume(
        &self,
        request: Request<pb::RestoreVolumeRequest>,
    ) -> Result<Response<pb::RestoreVolumeResponse>, Status> {
        let request = RestoreVolume::try_from(request.into_inner()).map_err(refuse)?;
        let call = self.hub.restore_volume(request);
        told("RestoreVolume", self.run("RestoreVolume", call).await?)
    }

    async fn resolve_volume(
        &self,
        request: Request<pb::ResolveVolumeRequest>,
    ) -> Result<Response<pb::ResolveVolumeResponse>, Status> {
        let what = Resolve::try_from(request.into_inner()).map_err(refuse)?;
        let volume = self.run("ResolveVolume", self.hub.resolve_volume(what)).await?;
        let volume = told("ResolveVolume", volume)?.into_inner();
        Ok(Response::new(pb::ResolveVolumeResponse { volume: Some(volume) }))
    }

    async fn list_volumes(
        &self,
        request: Request<pb::ListVolumesRequest>,
    ) -> Result<Response<pb::ListVolumesResponse>, Status> {
        let pb::ListVolumesRequest { page_size, page_token } = request.into_inner();
        let page = page(page_size, page_token).map_err(refuse)?;
        let page = self.run("ListVolumes", self.hub.list_volumes(page)).await?;
        let volumes = page.items.into_iter().map(pb::Volume::try_from);
        let volumes = volumes.collect::<Result<_, _>>();
        Ok(Response::new(pb::ListVolumesResponse {
            volumes: volumes.map_err(|error| internal("ListVolumes", &error.to_string()))?,
            next_page_token: page.next_token,
        }))
    }

    type WatchVolumesStream = BoxStream<'static, Result<pb::WatchVolumesResponse, Status>>;

    /// What happens is taken from the Hub as the caller takes it: what waits here is one message and what the
    /// connection's window holds, 64 KiB unless the caller wants more.
    async fn watch_volumes(
        &self,
        _: Request<pb::WatchVolumesRequest>,
    ) -> Result<Response<Self::WatchVolumesStream>, Status> {
        const RPC: &str = "WatchVolumes";
        let events = self.run(RPC, self.hub.watch_volumes()).await?;
        let events = events.map(|event| {
            let event = event.map_err(|error| status(RPC, &error))?;
            told(RPC, event).map(Response::into_inner)
        });
        let over = Status::unavailable("the hub stops: begin again");
        let until = events.take_until(is_true(self.ending.stopping.clone()));
        let until = until.chain(futures::stream::once(std::future::ready(Err(over))));
        // a status is the last that a stream says
        let mut failed = false;
        let until = until.take_while(move |event| {
            let said = !std::mem::replace(&mut failed, event.is_err());
            std::future::ready(said)
        });
        Ok(Response::new(until.boxed()))
    }

    async fn get_capacity(
        &self,
        request: Request<pb::GetCapacityRequest>,
    ) -> Result<Response<pb::GetCapacityResponse>, Status> {
        let node = optional("node", &request.into_inner().node).map_err(refuse)?;
        let capacity = self.run("GetCapacity", self.hub.capacity(node)).await?;
        Ok(Response::new(capacity.into()))
    }
}
