//! The Hub in this process: observes, plans and carries out.

mod change;
mod create;
mod read;
mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, Weak};

use async_trait::async_trait;
use cove_content::volumes::{self, Capacity};
use cove_env::Env;
use cove_types::{Durability, NodeId, OperationId, SnapshotId, VolumeId};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use tokio::sync::watch::Sender;
use tracing::Instrument;

use crate::in_flight::{Guard, InFlight};
use crate::nodes::{Node, Nodes};
use crate::thing::Thing;
use crate::volume_hub::{
    CreateVolume, EnsureCached, ModifyVolume, Page, PageRequest, Placement, Resolve, RestoreVolume,
    RestoredVolume, Snapshot, SnapshotFilter, SnapshotVolumes, Synced, Volume, VolumeEvent,
    VolumeReport,
};
use crate::watch::Looks;
use crate::{HubError, VolumeHub};

/// The Volume Hub over the nodes that it is given. Cloning shares it.
///
/// A call that changes something goes on until what it does is captured, although its future is dropped, and what it is
/// under way on stays refused to others until then. Who waits for more, until it is saved, keeps nobody out, and leaves
/// nothing here when its future is dropped: nodes save by themselves. Nor does who waits for the look before a snapshot.
#[derive(Clone)]
pub struct Hub {
    pub(crate) inner: Arc<Inner>,
}

/// What is left of a call once what it does is captured: to wait until it is saved, and to tell.
pub(crate) type Rest<T> = BoxFuture<'static, Result<T, HubError>>;

/// What all clones share.
pub(crate) struct Inner {
    pub(crate) nodes: Nodes,
    pub(crate) in_flight: InFlight<Thing>,
    /// What keeps others from volumes that are to go to the trash, while anybody moves them there.
    pub(crate) trashing: Mutex<BTreeMap<VolumeId, Weak<Guard<Thing>>>>,
    /// Whether it is stopping.
    pub(crate) ending: Sender<bool>,
    /// What those who watch have seen.
    pub(crate) looks: Looks,
    /// How many calls run that go on whoever waits for them.
    running: Sender<usize>,
    env: Env,
}

/// A call that goes on whoever waits for it, until this is dropped.
struct Run(Arc<Inner>);

impl Run {
    fn begin(inner: &Arc<Inner>) -> Self {
        inner.running.send_modify(|running| *running += 1);
        Self(Arc::clone(inner))
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.0.running.send_modify(|running| *running -= 1);
    }
}

/// Runs a call on, whoever still waits for it; none when the runtime ends before.
pub(crate) async fn whoever_waits<F>(call: F) -> Option<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    match tokio::spawn(call.in_current_span()).await {
        Ok(ended) => Some(ended),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => None,
    }
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
            trashing: Mutex::default(),
            ending: Sender::new(false),
            looks: Looks::default(),
            running: Sender::new(0),
            env,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Adds a node, or has the one of its id be reached in another way from now on.
    pub fn put_node(&self, id: NodeId, volumes: Arc<dyn volumes::Volumes>) {
        self.inner.nodes.put(Node { id, volumes });
    }

    /// Takes a node away, as where it comes under another id. One that is gone already is as good.
    pub fn remove_node(&self, id: &NodeId) {
        self.inner.nodes.remove(id);
    }

    /// Ends the streams of all who watch. Calls go on, and new ones are answered as long as nodes answer.
    pub fn shutdown(&self) {
        self.inner.ending.send_replace(true);
    }

    /// Runs a call to its end, whoever still waits for it; none when the runtime ends before.
    pub(crate) async fn to_its_end<F>(&self, call: F) -> Option<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        let run = Run::begin(&self.inner);
        let task = async move {
            let _run = run;
            call.await
        };
        whoever_waits(task).await
    }

    /// Has a call capture what it does, whoever still waits for it, and does the rest for as long as its caller waits.
    async fn capture<T, F>(&self, call: impl FnOnce(Arc<Inner>) -> F) -> Result<T, HubError>
    where
        T: 'static,
        F: Future<Output = Result<Rest<T>, HubError>> + Send + 'static,
    {
        let captured = self.to_its_end(call(Arc::clone(&self.inner))).await;
        captured.unwrap_or_else(|| Err(HubError::stopping("end the call")))?.await
    }
}

#[async_trait]
impl VolumeHub for Hub {
    async fn create_volume(&self, request: CreateVolume) -> Result<(Volume, Durability), HubError> {
        self.capture(|inner| inner.create_volume(request)).await
    }

    async fn delete_volume(
        &self,
        volume: VolumeId,
        operation: OperationId,
    ) -> Result<(), HubError> {
        self.capture(|inner| inner.delete_volume(volume, operation)).await
    }

    async fn ensure_cached(&self, request: EnsureCached) -> Result<Placement, HubError> {
        self.inner.ensure_cached(&request).await
    }

    async fn trigger_sync(&self, volume: VolumeId) -> Result<Synced, HubError> {
        self.inner.trigger_sync(&volume).await
    }

    async fn create_service_volume(
        &self,
        volume: VolumeId,
        service: String,
    ) -> Result<PathBuf, HubError> {
        self.capture(|inner| inner.create_service_volume(volume, service)).await
    }

    async fn volume_status(&self, volume: VolumeId) -> Result<VolumeReport, HubError> {
        self.inner.volume_status(&volume).await
    }

    async fn modify_volume(&self, request: ModifyVolume) -> Result<Volume, HubError> {
        self.capture(|inner| inner.modify_volume(request)).await
    }

    async fn snapshot(&self, request: SnapshotVolumes) -> Result<Vec<Snapshot>, HubError> {
        let called = self.inner.look_for_snapshots(&request).await?;
        self.capture(|inner| inner.snapshot(request, called)).await
    }

    async fn delete_snapshot(
        &self,
        snapshot: SnapshotId,
        operation: OperationId,
    ) -> Result<(), HubError> {
        self.inner.delete_snapshot(&snapshot, &operation).await
    }

    async fn list_snapshots(
        &self,
        filter: SnapshotFilter,
        page: PageRequest,
    ) -> Result<Page<Snapshot>, HubError> {
        self.inner.list_snapshots(&filter, &page).await
    }

    async fn restore_volume(&self, request: RestoreVolume) -> Result<RestoredVolume, HubError> {
        self.capture(|inner| inner.restore_volume(request)).await
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

    async fn wait_idle(&self) {
        // the sender lives as long as this
        let _ = self.inner.running.subscribe().wait_for(|running| *running == 0).await;
    }
}
