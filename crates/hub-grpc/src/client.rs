//! A Hub in another process.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use cove_hub::volume_hub::{
    Capacity, CreateVolume, EnsureCached, ModifyVolume, Page, PageRequest, Placement, Resolve,
    RestoreVolume, RestoredVolume, Snapshot, SnapshotFilter, SnapshotVolumes, Synced, Volume,
    VolumeEvent, VolumeReport,
};
use cove_hub::{HubError, VolumeHub};
use cove_types::{Durability, NodeId, OperationId, ParseError, SnapshotId, VolumeId};
use cove_unix_grpc::channel;
use futures::StreamExt;
use futures::stream::BoxStream;
use prost::Message;
use tonic::transport::Channel;
use tonic::{Response, Status};

use crate::field::{FieldError, message, path};
use crate::nodes::NodeRegistration;
use crate::pb;
use crate::pb::nodes_client::NodesClient;
use crate::pb::volume_hub_client::VolumeHubClient;
use crate::reply::{durability, event};
use crate::request::{PAGE_MAX, wire_list_snapshots};
use crate::server::REQUEST_BYTES_MAX;
use crate::status::{Effect, hub_error, unlawful_reply};

/// The longest reply that is taken, in bytes: a page of volumes as large as they can be, with the longest paths.
const REPLY_BYTES_MAX: usize = 16 << 20;

/// A Hub in another process, over its unix socket. Clones share one connection.
///
/// Connects with the first call, and again with the next one after the connection was lost. A connection that cannot
/// be made is of kind `Unavailable`: nothing was sent. When one is lost in between, a call with an operation id is of
/// kind `TimedOut`: the same id finds out what became of it. The rest, which can be asked again, is of kind
/// `Unavailable`.
#[derive(Debug, Clone)]
pub struct HubClient {
    rpc: VolumeHubClient<Channel>,
    nodes: NodesClient<Channel>,
    at: Arc<str>,
}

impl HubClient {
    /// The Hub at a socket, which need not be there yet. Needs a runtime, on which the connection lives.
    #[must_use]
    pub fn unix(socket: impl Into<PathBuf>) -> Self {
        let socket: PathBuf = socket.into();
        let at = socket.display().to_string().into();
        let channel = channel(&socket, None);
        let nodes = NodesClient::new(channel.clone());
        let rpc = VolumeHubClient::new(channel).max_decoding_message_size(REPLY_BYTES_MAX);
        Self { rpc, nodes, at }
    }

    /// Tells the Hub that a node is there.
    ///
    /// # Errors
    ///
    /// The Hub does not answer (`Unavailable`), or refuses.
    pub async fn register_node(&self, node: &NodeRegistration) -> Result<(), HubError> {
        let socket = node.socket.to_str().ok_or_else(|| {
            HubError::Invalid(ParseError("the path of a node's socket is UTF-8".to_owned()))
        })?;
        let request = pb::RegisterNodeRequest {
            node: node.node.to_string(),
            socket: socket.to_owned(),
            saved_to: node.saved_to.clone(),
        };
        let mut rpc = self.nodes.clone();
        self.answer(rpc.register_node(request).await).map(drop)
    }

    fn rpc(&self) -> VolumeHubClient<Channel> {
        self.rpc.clone()
    }

    /// The reply to a call with an operation id.
    fn reply<T>(&self, answered: Result<Response<T>, Status>) -> Result<T, HubError> {
        self.reply_of(Effect::OfOperation, answered)
    }

    /// The reply to a call that may be asked again.
    fn answer<T>(&self, answered: Result<Response<T>, Status>) -> Result<T, HubError> {
        self.reply_of(Effect::Nothing, answered)
    }

    fn reply_of<T>(
        &self,
        effect: Effect,
        answered: Result<Response<T>, Status>,
    ) -> Result<T, HubError> {
        answered.map(Response::into_inner).map_err(|status| hub_error(&self.at, effect, &status))
    }
}

/// A request, unless it is longer than a Hub takes.
fn sendable<T: Message>(request: T) -> Result<T, HubError> {
    let bytes = request.encoded_len();
    if bytes > REQUEST_BYTES_MAX {
        let what = format!("a request has at most {REQUEST_BYTES_MAX} bytes, found {bytes}");
        return Err(HubError::Invalid(ParseError(what)));
    }
    Ok(request)
}

/// A reply's words as those of the domain.
fn lawful<T>(parsed: Result<T, FieldError>) -> Result<T, HubError> {
    parsed.map_err(|error| unlawful_reply(&error))
}

/// Reads one page, or all when no size is asked for: the wire knows pages only.
async fn pages<T, R>(
    wanted: PageRequest,
    read: impl Fn(PageRequest) -> R,
) -> Result<Page<T>, HubError>
where
    R: Future<Output = Result<Page<T>, HubError>>,
{
    let size = if wanted.size == 0 { PAGE_MAX } else { wanted.size.min(PAGE_MAX) };
    let mut all = Vec::new();
    let mut token = wanted.token;
    loop {
        let page = read(PageRequest { size, token: token.clone() }).await?;
        if page.items.len() > size as usize {
            let law = format!("{size} items were asked for, found {}", page.items.len());
            return Err(unlawful_reply(&FieldError::unlawful("items", law)));
        }
        all.extend(page.items);
        if wanted.size != 0 || page.next_token.is_empty() {
            return Ok(Page { items: all, next_token: page.next_token });
        }
        if page.next_token == token {
            let law = "it is the one of this page";
            return Err(unlawful_reply(&FieldError::unlawful("next_page_token", law)));
        }
        token = page.next_token;
    }
}

#[async_trait]
impl VolumeHub for HubClient {
    async fn create_volume(&self, request: CreateVolume) -> Result<(Volume, Durability), HubError> {
        let request = sendable(pb::CreateVolumeRequest::from(request))?;
        let reply = self.reply(self.rpc().create_volume(request).await)?;
        let volume = lawful(message("volume", reply.volume))?;
        Ok((volume, lawful(durability("durability", reply.durability))?))
    }

    async fn delete_volume(
        &self,
        volume: VolumeId,
        operation: OperationId,
    ) -> Result<(), HubError> {
        let (volume, op_id) = (volume.to_string(), operation.to_string());
        let request = pb::DeleteVolumeRequest { volume, op_id };
        self.reply(self.rpc().delete_volume(request).await).map(|_| ())
    }

    async fn ensure_cached(&self, request: EnsureCached) -> Result<Placement, HubError> {
        let request = sendable(pb::EnsureCachedRequest::from(request))?;
        let reply = self.answer(self.rpc().ensure_cached(request).await)?;
        lawful(reply.try_into())
    }

    async fn trigger_sync(&self, volume: VolumeId) -> Result<Synced, HubError> {
        let request = pb::TriggerSyncRequest { volume: volume.to_string() };
        let reply = self.answer(self.rpc().trigger_sync(request).await)?;
        lawful(reply.try_into())
    }

    async fn create_service_volume(
        &self,
        volume: VolumeId,
        service: String,
    ) -> Result<PathBuf, HubError> {
        let volume = volume.to_string();
        let request = sendable(pb::CreateServiceVolumeRequest { volume, service })?;
        let reply = self.answer(self.rpc().create_service_volume(request).await)?;
        lawful(path("path", &reply.path))
    }

    async fn volume_status(&self, volume: VolumeId) -> Result<VolumeReport, HubError> {
        let request = pb::VolumeStatusRequest { volume: volume.to_string() };
        let reply = self.answer(self.rpc().volume_status(request).await)?;
        lawful(reply.try_into())
    }

    async fn modify_volume(&self, request: ModifyVolume) -> Result<Volume, HubError> {
        let request = sendable(pb::ModifyVolumeRequest::try_from(request)?)?;
        let reply = self.reply(self.rpc().modify_volume(request).await)?;
        lawful(message("volume", reply.volume))
    }

    async fn snapshot(&self, request: SnapshotVolumes) -> Result<Vec<Snapshot>, HubError> {
        let asked = request.volumes.clone();
        let request = sendable(pb::SnapshotRequest::from(request))?;
        let reply = self.reply(self.rpc().snapshot(request).await)?;
        let snapshots = reply.snapshots.into_iter().map(Snapshot::try_from);
        let snapshots: Vec<Snapshot> =
            lawful(snapshots.collect::<Result<_, _>>().map_err(|error| error.within("snapshots")))?;
        if !snapshots.iter().map(|snapshot| &snapshot.id.volume).eq(&asked) {
            let law = "they are of the volumes asked for, in their order";
            return Err(unlawful_reply(&FieldError::unlawful("snapshots", law)));
        }
        Ok(snapshots)
    }

    async fn delete_snapshot(
        &self,
        snapshot: SnapshotId,
        operation: OperationId,
    ) -> Result<(), HubError> {
        let (snapshot, op_id) = (snapshot.to_string(), operation.to_string());
        let request = pb::DeleteSnapshotRequest { snapshot, op_id };
        self.reply(self.rpc().delete_snapshot(request).await).map(|_| ())
    }

    async fn list_snapshots(
        &self,
        filter: SnapshotFilter,
        page: PageRequest,
    ) -> Result<Page<Snapshot>, HubError> {
        let filter = &filter;
        pages(page, |page| async move {
            let request = sendable(wire_list_snapshots(filter.clone(), page)?)?;
            let reply = self.answer(self.rpc().list_snapshots(request).await)?;
            let items = reply.snapshots.into_iter().map(Snapshot::try_from);
            let items = items.collect::<Result<_, _>>();
            let items = lawful(items.map_err(|error| error.within("snapshots")))?;
            Ok(Page { items, next_token: reply.next_page_token })
        })
        .await
    }

    async fn restore_volume(&self, request: RestoreVolume) -> Result<RestoredVolume, HubError> {
        let request = pb::RestoreVolumeRequest::from(request);
        let reply = self.reply(self.rpc().restore_volume(request).await)?;
        lawful(reply.try_into())
    }

    async fn resolve_volume(&self, what: Resolve) -> Result<Volume, HubError> {
        let request = sendable(pb::ResolveVolumeRequest::from(what))?;
        let reply = self.answer(self.rpc().resolve_volume(request).await)?;
        lawful(message("volume", reply.volume))
    }

    async fn list_volumes(&self, page: PageRequest) -> Result<Page<Volume>, HubError> {
        pages(page, |page| async move {
            let (page_size, page_token) = (page.size, page.token);
            let request = sendable(pb::ListVolumesRequest { page_size, page_token })?;
            let reply = self.answer(self.rpc().list_volumes(request).await)?;
            let items = reply.volumes.into_iter().map(Volume::try_from);
            let items = items.collect::<Result<_, _>>();
            let items = lawful(items.map_err(|error| error.within("volumes")))?;
            Ok(Page { items, next_token: reply.next_page_token })
        })
        .await
    }

    async fn watch_volumes(
        &self,
    ) -> Result<BoxStream<'static, Result<VolumeEvent, HubError>>, HubError> {
        let events = self.answer(self.rpc().watch_volumes(pb::WatchVolumesRequest {}).await)?;
        let at = Arc::clone(&self.at);
        let events = events.filter_map(move |reply| {
            let parsed = match reply {
                Ok(reply) => lawful(event(reply)).transpose(),
                Err(status) => Some(Err(hub_error(&at, Effect::Nothing, &status))),
            };
            std::future::ready(parsed)
        });
        Ok(events.boxed())
    }

    async fn capacity(&self, node: Option<NodeId>) -> Result<Capacity, HubError> {
        let node = node.map(|node| node.to_string()).unwrap_or_default();
        let reply = self.answer(self.rpc().get_capacity(pb::GetCapacityRequest { node }).await)?;
        Ok(reply.into())
    }
}
