//! The Hub in this process: observes, plans and carries out.

mod change;
mod create;
mod read;
mod snapshot;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use cove_content::volumes::{self, Capacity};
use cove_env::Env;
use cove_types::{Durability, NodeId, OperationId, SnapshotId, VolumeId};
use futures::stream::BoxStream;
use tokio::sync::watch::Sender;

use crate::in_flight::InFlight;
use crate::nodes::{Node, Nodes};
use crate::volume_hub::{
    CreateVolume, EnsureCached, ModifyVolume, Page, PageRequest, Placement, Resolve, RestoreVolume,
    RestoredVolume, Snapshot, SnapshotFilter, SnapshotVolumes, Synced, Volume, VolumeEvent,
    VolumeReport,
};
use crate::{HubError, VolumeHub};

/// The Volume Hub over the nodes that it is given. Cloning shares it.
///
/// Dropping the future of a call that changes something stops nothing: the call goes on, and what it is under way on
/// stays refused to others until it has ended. It ends once what it does is captured; who waits for more after that
/// keeps nobody out.
#[derive(Clone)]
pub struct Hub {
    pub(crate) inner: Arc<Inner>,
}

/// What all clones share.
pub(crate) struct Inner {
    pub(crate) nodes: Nodes,
    pub(crate) in_flight: InFlight,
    /// Whether it is stopping.
    pub(crate) ending: Sender<bool>,
    env: Env,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hub")
    }
}

impl Hub {
    /// A Hub over these nodes, of which the first is asked first, and those that are [put](Self::put_node) later.
    #[must_use]
    pub fn new(nodes: Vec<(NodeId, Arc<dyn volumes::Volumes>)>, env: Env) -> Self {
        let nodes = nodes.into_iter().map(|(id, volumes)| Node { id, volumes }).collect();
        let inner = Inner {
            nodes: Nodes::new(nodes),
            in_flight: InFlight::default(),
            ending: Sender::new(false),
            env,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Adds a node, or has the one of its id be reached in another way from now on.
    pub fn put_node(&self, id: NodeId, volumes: Arc<dyn volumes::Volumes>) {
        self.inner.nodes.put(Node { id, volumes });
    }

    /// Ends the streams of all who watch. Calls go on, and new ones are answered as long as nodes answer.
    pub fn shutdown(&self) {
        self.inner.ending.send_replace(true);
    }

    /// Runs a call to its end, whoever still waits for it.
    async fn to_its_end<T, F>(&self, call: impl FnOnce(Arc<Inner>) -> F) -> Result<T, HubError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, HubError>> + Send + 'static,
    {
        match tokio::spawn(call(Arc::clone(&self.inner))).await {
            Ok(result) => result,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(HubError::stopping("end the call")),
        }
    }
}

#[async_trait]
impl VolumeHub for Hub {
    async fn create_volume(&self, request: CreateVolume) -> Result<(Volume, Durability), HubError> {
        self.to_its_end(|inner| async move { inner.create_volume(request).await }).await
    }

    async fn delete_volume(
        &self,
        volume: VolumeId,
        operation: OperationId,
    ) -> Result<(), HubError> {
        self.to_its_end(|inner| async move { inner.delete_volume(volume, operation).await }).await
    }

    async fn ensure_cached(&self, request: EnsureCached) -> Result<Placement, HubError> {
        self.inner.ensure_cached(&request).await
    }

    async fn trigger_sync(&self, volume: VolumeId) -> Result<Synced, HubError> {
        self.to_its_end(|inner| async move { inner.trigger_sync(&volume).await }).await
    }

    async fn create_service_volume(
        &self,
        volume: VolumeId,
        service: String,
    ) -> Result<PathBuf, HubError> {
        self.to_its_end(|inner| async move { inner.create_service_volume(&volume, &service).await })
            .await
    }

    async fn volume_status(&self, volume: VolumeId) -> Result<VolumeReport, HubError> {
        self.inner.volume_status(&volume).await
    }

    async fn modify_volume(&self, request: ModifyVolume) -> Result<Volume, HubError> {
        self.to_its_end(|inner| async move { inner.modify_volume(request).await }).await
    }

    async fn snapshot(&self, request: SnapshotVolumes) -> Result<Vec<Snapshot>, HubError> {
        self.to_its_end(|inner| async move { inner.snapshot(request).await }).await
    }

    async fn delete_snapshot(
        &self,
        snapshot: SnapshotId,
        operation: OperationId,
    ) -> Result<(), HubError> {
        self.to_its_end(|inner| async move { inner.delete_snapshot(snapshot, operation).await })
            .await
    }

    async fn list_snapshots(
        &self,
        filter: SnapshotFilter,
        page: PageRequest,
    ) -> Result<Page<Snapshot>, HubError> {
        self.inner.list_snapshots(&filter, &page).await
    }

    async fn restore_volume(&self, request: RestoreVolume) -> Result<RestoredVolume, HubError> {
        self.to_its_end(|inner| async move { inner.restore_volume(request).await }).await
    }

    async fn resolve_volume(&self, what: Resolve) -> Result<Volume, HubError> {
        self.inner.resolve_volume(&what).await
    }

    async fn list_volumes(&self, page: PageRequest) -> Result<Page<Volume>, HubError> {
        self.inner.list_volumes(&page).await
    }

    async fn watch_volumes(
        &self,
    ) -> Result<BoxStream<'static, Result<VolumeEvent, HubError>>, HubError> {
        Ok(crate::watch::watch(Arc::clone(&self.inner)))
    }

    async fn capacity(&self, node: Option<NodeId>) -> Result<Capacity, HubError> {
        self.inner.capacity(node.as_ref()).await
    }
}
