//! A Hub in memory, which writes down what it is asked.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use cove_hub::volume_hub::*;
use cove_hub::{HubError, VolumeHub};
use cove_types::{Durability, EntryId, NodeId, OperationId, SnapshotId, VolumeId, wire};
use futures::StreamExt;
use futures::stream::BoxStream;
use jiff::Timestamp;
use tokio::sync::watch;

/// Volumes and snapshots by their ids. Refuses what a Hub refuses that knows one node, `node-a`, and panics when it is
/// asked for the room of node `panics`. Cloning shares them.
#[derive(Clone)]
pub struct Fake {
    state: Arc<Mutex<State>>,
    /// Whether creates go on.
    gate: watch::Sender<bool>,
    /// How many creates have begun.
    pub begun: watch::Sender<usize>,
    /// How many of them run.
    running: watch::Sender<usize>,
    /// Whether saving ends; who waits for it has a receiver.
    pub saves: watch::Sender<bool>,
    events: tokio::sync::broadcast::Sender<VolumeEvent>,
}

#[derive(Default)]
struct State {
    volumes: BTreeMap<VolumeId, Volume>,
    snapshots: BTreeMap<SnapshotId, Snapshot>,
    operations: BTreeMap<OperationId, String>,
    calls: Vec<String>,
    fails: Option<HubError>,
}

impl State {
    /// Writes down a call; refuses what was asked to be refused, and an operation id of another request.
    fn called(&mut self, operation: Option<OperationId>, call: String) -> Result<(), HubError> {
        self.calls.push(call.clone());
        if let Some(error) = self.fails.take() {
            return Err(error);
        }
        let Some(operation) = operation else { return Ok(()) };
        match self.operations.insert(operation, call.clone()) {
            Some(before) if before != call => Err(HubError::OtherRequest),
            _ => Ok(()),
        }
    }

    fn volume(&mut self, volume: &VolumeId) -> Result<&mut Volume, HubError> {
        let unknown = || HubError::NoVolume { volume: volume.clone() };
        self.volumes.get_mut(volume).ok_or_else(unknown)
    }
}

pub fn instant(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn node() -> NodeId {
    "node-a".parse().unwrap()
}

impl Fake {
    pub fn new() -> Self {
        Self {
            state: Arc::default(),
            gate: watch::Sender::new(true),
            begun: watch::Sender::new(0),
            running: watch::Sender::new(0),
            saves: watch::Sender::new(true),
            events: tokio::sync::broadcast::Sender::new(64),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// What it was asked since the last time.
    pub fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.state().calls)
    }

    /// Has the next call fail.
    pub fn fail(&self, error: HubError) {
        self.state().fails = Some(error);
    }

    /// Has creates stand still, or go on.
    pub fn hold(&self, hold: bool) {
        let _ = self.gate.send_replace(!hold);
    }

    pub fn volumes(&self) -> usize {
        self.state().volumes.len()
    }

    /// Makes a volume, when creates go on.
    async fn create(self, request: CreateVolume) -> Result<(Volume, Durability), HubError> {
        self.begun.send_modify(|begun| *begun += 1);
        let _ = self.gate.subscribe().wait_for(|open| *open).await;
        let mut state = self.state();
        state.called(Some(request.operation), format!("{request:?}"))?;
        let QuotaRange { required_bytes, limit_bytes } = request.quota;
        if limit_bytes.is_some_and(|limit| limit < required_bytes.unwrap_or(0).max(1 << 20)) {
            return Err(HubError::QuotaOutOfRange { what: "a quota is 1 MiB to 1 EiB".into() });
        }
        let id = VolumeId::derive("test", &request.operation, 0);
        let source = match request.source {
            Some(VolumeSource::Template(name)) => return Err(HubError::NoTemplate { name }),
            source => source,
        };
        let volume = Volume {
            id: id.clone(),
            name: request.name.to_string(),
            node: node(),
            project: request.labels.get("project").map(|slug| slug.parse().unwrap()),
            quota_bytes: request.quota.required_bytes.or(request.quota.limit_bytes),
            labels: request.labels,
            parameters: request.parameters,
            source,
            // before 1970, where nanoseconds are easily counted the wrong way
            created_at: instant("1969-12-31T23:59:58.999999999Z"),
            seq: 1,
            path: request.wait_saved.then(|| PathBuf::from("/pool/volumes/é")),
        };
        state.volumes.insert(id, volume.clone());
        let _ = self.events.send(VolumeEvent::Changed(Box::new(Self::report(volume.clone()))));
        let saved = Durability::Saved;
        Ok((volume, if request.wait_saved { saved } else { Durability::OnThisNode }))
    }

    fn report(volume: Volume) -> VolumeReport {
        let problem = |hint: Option<&str>| wire::Problem {
            what: "not saved: the store does not answer".into(),
            since: "2026-11-26T16:00:00.000001Z".into(),
            who_acts: "nobody".into(),
            hint: hint.map(ToOwned::to_owned),
        };
        VolumeReport {
            volume,
            copies: vec![(node(), true), ("node-b".parse().unwrap(), false)],
            epoch: u64::MAX,
            durability: Durability::OnThisNode,
            unsaved_bytes: Some(0),
            saved_at: Some(instant("2026-11-26T15:59:59Z")),
            problems: vec![problem(Some("wait")), problem(None)],
            bytes: wire::Bytes { logical: 1, unique: 2, shared: 3 },
            snapshots: 7,
            moves: vec![Move {
                from: node(),
                to: "node-b".parse().unwrap(),
                done_bytes: 1,
                total_bytes: u64::MAX,
            }],
        }
    }

    fn page<K: ToString + Ord, T: Clone>(
        items: impl Iterator<Item = (K, T)>,
        page: &PageRequest,
    ) -> Result<Page<T>, HubError> {
        if page.token == "no token" {
            return Err(HubError::BadPageToken);
        }
        let rest: Vec<_> = items.filter(|(id, _)| id.to_string() > page.token).collect();
        let size = if page.size == 0 { rest.len() } else { page.size as usize };
        let next_token = match rest.len() > size {
            true => rest[size - 1].0.to_string(),
            false => String::new(),
        };
        let items = rest.into_iter().take(size).map(|(_, item)| item).collect();
        Ok(Page { items, next_token })
    }
}

#[async_trait]
impl VolumeHub for Fake {
    /// Goes on although its future is dropped, as that of every Hub does.
    async fn create_volume(&self, request: CreateVolume) -> Result<(Volume, Durability), HubError> {
        self.running.send_modify(|running| *running += 1);
        let hub = self.clone();
        let create = async move {
            let created = hub.clone().create(request).await;
            hub.running.send_modify(|running| *running -= 1);
            created
        };
        tokio::spawn(create).await.unwrap()
    }

    async fn delete_volume(
        &self,
        volume: VolumeId,
        operation: OperationId,
    ) -> Result<(), HubError> {
        let mut state = self.state();
        state.called(Some(operation), format!("delete {volume}"))?;
        if state.volumes.remove(&volume).is_some() {
            let _ = self.events.send(VolumeEvent::Deleted(volume));
        }
        Ok(())
    }

    async fn ensure_cached(&self, request: EnsureCached) -> Result<Placement, HubError> {
        let mut state = self.state();
        state.called(None, format!("{request:?}"))?;
        state.volume(&request.volume)?;
        if !request.candidates.is_empty() && !request.candidates.contains(&node()) {
            return Err(HubError::OwnedElsewhere {
                volume: request.volume,
                owner: node(),
                asked: request.candidates.len(),
            });
        }
        Ok(Placement { node: node(), path: "/pool/volumes/x".into() })
    }

    async fn trigger_sync(&self, volume: VolumeId) -> Result<Synced, HubError> {
        let seq = {
            let mut state = self.state();
            state.called(None, format!("sync {volume}"))?;
            state.volume(&volume)?.seq
        };
        let _ = self.saves.subscribe().wait_for(|saves| *saves).await;
        Ok(Synced { saved_at: instant("2026-11-26T16:00:00.5Z"), seq })
    }

    async fn create_service_volume(
        &self,
        volume: VolumeId,
        service: String,
    ) -> Result<PathBuf, HubError> {
        let mut state = self.state();
        state.called(None, format!("service {volume} {service}"))?;
        state.volume(&volume)?;
        Ok(PathBuf::from("/pool/volumes/x/services").join(service))
    }

    async fn volume_status(&self, volume: VolumeId) -> Result<VolumeReport, HubError> {
        let mut state = self.state();
        state.called(None, format!("status {volume}"))?;
        state.volume(&volume).cloned().map(Self::report)
    }

    async fn modify_volume(&self, request: ModifyVolume) -> Result<Volume, HubError> {
        let mut state = self.state();
        state.called(Some(request.operation), format!("{request:?}"))?;
        let volume = state.volume(&request.volume)?;
        volume.quota_bytes = request.quota_bytes.unwrap_or(volume.quota_bytes);
        volume.labels = request.labels.unwrap_or(volume.labels.clone());
        volume.parameters.extend(request.parameters);
        Ok(volume.clone())
    }

    async fn snapshot(&self, request: SnapshotVolumes) -> Result<Vec<Snapshot>, HubError> {
        let mut state = self.state();
        state.called(Some(request.operation), format!("{request:?}"))?;
        let mut made = Vec::new();
        for volume in &request.volumes {
            state.volume(volume)?;
            let entry = EntryId::derive(&request.operation, volume.as_str());
            let id = SnapshotId { volume: volume.clone(), entry };
            let snapshot = Snapshot {
                id: id.clone(),
                name: Some(request.name.to_string()),
                created_at: instant("2026-11-26T16:00:00.123456789Z"),
                bytes: 5,
                durability: Durability::OnThisNode,
                group: request.is_group.then(|| "group-1".to_owned()),
            };
            state.snapshots.insert(id, snapshot.clone());
            made.push(snapshot);
        }
        Ok(made)
    }

    async fn delete_snapshot(
        &self,
        snapshot: SnapshotId,
        operation: OperationId,
    ) -> Result<(), HubError> {
        let mut state = self.state();
        state.called(Some(operation), format!("delete {snapshot}"))?;
        state.snapshots.remove(&snapshot);
        Ok(())
    }

    async fn list_snapshots(
        &self,
        filter: SnapshotFilter,
        page: PageRequest,
    ) -> Result<Page<Snapshot>, HubError> {
        let mut state = self.state();
        state.called(None, format!("{filter:?} {page:?}"))?;
        let is_wanted = |snapshot: &Snapshot| {
            filter.volume.as_ref().is_none_or(|volume| *volume == snapshot.id.volume)
                && filter.snapshot.as_ref().is_none_or(|id| *id == snapshot.id)
                && filter.name.as_ref().is_none_or(|name| Some(name) == snapshot.name.as_ref())
                && filter.group.as_ref().is_none_or(|group| Some(group) == snapshot.group.as_ref())
        };
        let all = state.snapshots.values().filter(|snapshot| is_wanted(snapshot));
        Self::page(all.map(|snapshot| (snapshot.id.clone(), snapshot.clone())), &page)
    }

    async fn restore_volume(&self, request: RestoreVolume) -> Result<RestoredVolume, HubError> {
        let mut state = self.state();
        state.called(Some(request.operation), format!("{request:?}"))?;
        let before = state.snapshots.get(&request.snapshot).cloned();
        let no_snapshot = || HubError::NoSnapshot { snapshot: request.snapshot.clone() };
        let before = before.ok_or_else(no_snapshot)?;
        let volume = state.volume(&request.volume)?;
        volume.seq += 1;
        Ok(RestoredVolume { volume: volume.clone(), before: request.force.then_some(before) })
    }

    async fn resolve_volume(&self, what: Resolve) -> Result<Volume, HubError> {
        let mut state = self.state();
        state.called(None, format!("{what:?}"))?;
        let found = state.volumes.values().find(|volume| match &what {
            Resolve::Name(name) => volume.name == *name,
            Resolve::Project(slug) => volume.project.as_ref() == Some(slug),
        });
        found.cloned().ok_or(HubError::NoName { name: "x".into() })
    }

    async fn list_volumes(&self, page: PageRequest) -> Result<Page<Volume>, HubError> {
        let mut state = self.state();
        state.called(None, format!("{page:?}"))?;
        Self::page(state.volumes.iter().map(|(id, volume)| (id.clone(), volume.clone())), &page)
    }

    async fn watch_volumes(
        &self,
    ) -> Result<BoxStream<'static, Result<VolumeEvent, HubError>>, HubError> {
        let mut state = self.state();
        state.called(None, "watch".into())?;
        let events = self.events.subscribe();
        let there: Vec<_> = state.volumes.values().cloned().map(Self::report).collect();
        let there = there.into_iter().map(|report| VolumeEvent::Changed(Box::new(report)));
        let there = there.chain([VolumeEvent::Listed]).map(Ok);
        let next = futures::stream::unfold(events, |mut events| async {
            events.recv().await.ok().map(|event| (Ok(event), events))
        });
        Ok(futures::stream::iter(there.collect::<Vec<_>>()).chain(next).boxed())
    }

    async fn capacity(&self, node: Option<NodeId>) -> Result<Capacity, HubError> {
        assert!(node.as_ref().is_none_or(|node| node.as_str() != "panics"), "as it was asked to");
        self.state().called(None, format!("capacity {node:?}"))?;
        match node {
            Some(node) if node.as_str() != "node-a" => Err(HubError::NoNode { node }),
            _ => Ok(Capacity { available_bytes: 1 << 40, total_bytes: u64::MAX }),
        }
    }

    async fn wait_idle(&self) {
        let _ = self.running.subscribe().wait_for(|running| *running == 0).await;
    }
}
