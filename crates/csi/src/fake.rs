//! A Hub in memory, whose volumes are directories.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;
use cove_hub::volume_hub::{
    Capacity, CreateVolume, EnsureCached, ModifyVolume, Page, PageRequest, Placement, Resolve,
    RestoreVolume, RestoredVolume, Snapshot, SnapshotFilter, SnapshotVolumes, Synced, Volume,
    VolumeEvent, VolumeReport, VolumeSource,
};
use cove_hub::{HubError, VolumeHub};
use cove_types::wire::Bytes;
use cove_types::{Durability, EntryId, ErrorKind, NodeId, OperationId, SnapshotId, VolumeId};
use futures::stream::BoxStream;
use jiff::Timestamp;
use tokio::sync::Notify;

/// A volume that is well, on node `n1`, of 100 MiB of which 30 MiB are used.
pub(crate) fn report(id: &str) -> VolumeReport {
    VolumeReport {
        volume: Volume {
            id: id.parse().unwrap(),
            name: id.to_owned(),
            node: "n1".parse().unwrap(),
            project: None,
            quota_bytes: Some(100 << 20),
            labels: BTreeMap::new(),
            parameters: BTreeMap::new(),
            source: None,
            created_at: Timestamp::UNIX_EPOCH,
            seq: 1,
            path: Some(format!("/pool/volumes/{id}/files").into()),
        },
        copies: Vec::new(),
        epoch: 1,
        durability: Durability::Saved,
        unsaved_bytes: None,
        saved_at: None,
        problems: Vec::new(),
        bytes: Bytes { logical: 40 << 20, unique: 30 << 20, shared: 5 << 20 },
        snapshots: 0,
        moves: Vec::new(),
    }
}

/// The Hub. It has one node, `n1`.
#[derive(Default)]
pub(crate) struct FakeHub {
    pool: PathBuf,
    state: Mutex<State>,
    /// Whether it does not answer when it is asked for its room.
    pub(crate) is_silent: AtomicBool,
    /// How often it was asked for its room.
    pub(crate) room_asked: AtomicU32,
    /// How often it was asked for a list of volumes.
    pub(crate) lists_asked: AtomicU32,
    /// Whoever changes a volume goes through here. A test that has it holds them up.
    pub(crate) door: tokio::sync::Mutex<()>,
    /// Told when somebody comes to the door.
    pub(crate) at_door: Notify,
}

#[derive(Default)]
struct State {
    made: u32,
    volumes: BTreeMap<VolumeId, VolumeReport>,
    snapshots: BTreeMap<SnapshotId, Snapshot>,
    /// Volumes that have an entry that nobody can read.
    unread: BTreeSet<VolumeId>,
}

impl FakeHub {
    pub(crate) fn new(pool: PathBuf) -> Self {
        Self { pool, ..Self::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Damages the entry that a snapshot is: nobody can read it any more.
    pub(crate) fn damage(&self, snapshot: &str) {
        let id: SnapshotId = snapshot.parse().unwrap();
        let mut state = self.state();
        state.snapshots.remove(&id);
        state.unread.insert(id.volume);
    }

    pub(crate) fn change(&self, id: &str, change: impl FnOnce(&mut VolumeReport)) {
        change(self.state().volumes.get_mut(&id.parse::<VolumeId>().unwrap()).unwrap());
    }
}

/// A part of a list; a token is the last id that was sent.
fn page<T>(items: Vec<(String, T)>, request: &PageRequest) -> Result<Page<T>, HubError> {
    if !request.token.is_empty() && !request.token.starts_with("vol-") {
        return Err(HubError::BadPageToken);
    }
    let mut rest: Vec<_> = items.into_iter().filter(|(id, _)| *id > request.token).collect();
    let size = if request.size == 0 { rest.len() } else { request.size as usize };
    let is_last = rest.len() <= size;
    rest.truncate(size);
    let next_token = match rest.last() {
        Some((id, _)) if !is_last => id.clone(),
        _ => String::new(),
    };
    Ok(Page { items: rest.into_iter().map(|(_, item)| item).collect(), next_token })
}

#[async_trait]
impl VolumeHub for FakeHub {
    async fn create_volume(&self, wanted: CreateVolume) -> Result<(Volume, Durability), HubError> {
        let mut state = self.state();
        let name = wanted.name.as_str();
        let live = state.volumes.values().find(|report| report.volume.name == name);
        if let Some(VolumeReport { volume, .. }) = live {
            let quota = volume.quota_bytes;
            let field = if volume.source != wanted.source {
                Some("source")
            } else if wanted.quota.required_bytes > quota
                || wanted.quota.limit_bytes.is_some_and(|limit| quota > Some(limit))
            {
                Some("quota")
            } else {
                None
            };
            return match field {
                None => Ok((volume.clone(), Durability::Saved)),
                Some(field) => {
                    let (name, volume) = (wanted.name, volume.id.clone());
                    Err(HubError::NameTaken { name, volume, field })
                }
            };
        }
        match &wanted.source {
            Some(VolumeSource::Volume(volume)) if !state.volumes.contains_key(volume) => {
                return Err(HubError::NoVolume { volume: volume.clone() });
            }
            Some(VolumeSource::Snapshot(snapshot)) if !state.snapshots.contains_key(snapshot) => {
                return Err(HubError::NoSnapshot { snapshot: snapshot.clone() });
            }
            _ => {}
        }
        state.made += 1;
        let mut made = report(&format!("vol-{:04}", state.made));
        let path = self.pool.join(format!("volumes/{}/files", made.volume.id));
        std::fs::create_dir_all(&path).unwrap();
        made.volume = Volume {
            name: name.to_owned(),
            quota_bytes: wanted.quota.required_bytes.or(wanted.quota.limit_bytes),
            labels: wanted.labels,
            parameters: wanted.parameters,
            source: wanted.source,
            path: Some(path),
            ..made.volume
        };
        state.volumes.insert(made.volume.id.clone(), made.clone());
        Ok((made.volume, Durability::OnThisNode))
    }

    async fn delete_volume(&self, volume: VolumeId, _: OperationId) -> Result<(), HubError> {
        self.state().volumes.remove(&volume);
        Ok(())
    }

    async fn ensure_cached(&self, request: EnsureCached) -> Result<Placement, HubError> {
        let volume = self.volume_status(request.volume).await?.volume;
        let asked = request.candidates.len();
        if asked > 0 && !request.candidates.contains(&volume.node) {
            let (volume, owner) = (volume.id, volume.node);
            return Err(HubError::OwnedElsewhere { volume, owner, asked });
        }
        Ok(Placement { node: volume.node, path: volume.path.unwrap() })
    }

    async fn trigger_sync(&self, _: VolumeId) -> Result<Synced, HubError> {
        unreachable!("the driver does not ask for it")
    }

    async fn create_service_volume(&self, _: VolumeId, _: String) -> Result<PathBuf, HubError> {
        unreachable!("the driver does not ask for it")
    }

    async fn volume_status(&self, volume: VolumeId) -> Result<VolumeReport, HubError> {
        let found = self.state().volumes.get(&volume).cloned();
        found.ok_or(HubError::NoVolume { volume })
    }

    async fn modify_volume(&self, change: ModifyVolume) -> Result<Volume, HubError> {
        self.at_door.notify_one();
        let _through = self.door.lock().await;
        let mut state = self.state();
        let gone = HubError::NoVolume { volume: change.volume.clone() };
        let volume = &mut state.volumes.get_mut(&change.volume).ok_or(gone)?.volume;
        assert_eq!(change.operation.0[..4], volume.seq.to_be_bytes());
        volume.seq += 1;
        volume.quota_bytes = change.quota_bytes.unwrap_or(volume.quota_bytes);
        volume.labels = change.labels.unwrap_or_else(|| volume.labels.clone());
        volume.parameters.extend(change.parameters);
        Ok(volume.clone())
    }

    async fn snapshot(&self, wanted: SnapshotVolumes) -> Result<Vec<Snapshot>, HubError> {
        let mut state = self.state();
        let name = Some(wanted.name.as_str().to_owned());
        let live: Vec<_> =
            state.snapshots.values().filter(|snapshot| snapshot.name == name).cloned().collect();
        if let Some(first) = live.first() {
            let volumes: Vec<_> = live.iter().map(|found| found.id.volume.clone()).collect();
            if volumes == wanted.volumes {
                return Ok(live);
            }
            let (name, snapshot) = (wanted.name, first.id.clone());
            return Err(HubError::SnapshotNameTaken { name, snapshot });
        }
        let gone = wanted.volumes.iter().find(|volume| !state.volumes.contains_key(volume));
        if let Some(volume) = gone {
            return Err(HubError::NoVolume { volume: volume.clone() });
        }
        let entry = EntryId::derive(&wanted.operation, "snapshot");
        let made = wanted.volumes.into_iter().map(|volume| Snapshot {
            name: name.clone(),
            created_at: Timestamp::UNIX_EPOCH,
            bytes: state.volumes[&volume].bytes.logical,
            id: SnapshotId { volume, entry },
            durability: Durability::OnThisNode,
            group: wanted.is_group.then(|| format!("group-{}", wanted.operation)),
        });
        let made: Vec<_> = made.collect();
        state.snapshots.extend(made.iter().map(|snapshot| (snapshot.id.clone(), snapshot.clone())));
        Ok(made)
    }

    async fn delete_snapshot(&self, snapshot: SnapshotId, _: OperationId) -> Result<(), HubError> {
        // it is listed no more, and what is behind the door is that this is saved
        self.state().snapshots.remove(&snapshot);
        self.at_door.notify_one();
        let _through = self.door.lock().await;
        Ok(())
    }

    async fn list_snapshots(
        &self,
        filter: SnapshotFilter,
        request: PageRequest,
    ) -> Result<Page<Snapshot>, HubError> {
        let is_wanted = |found: &&Snapshot| {
            filter.volume.as_ref().is_none_or(|volume| found.id.volume == *volume)
                && filter.snapshot.as_ref().is_none_or(|id| found.id == *id)
                && filter.name.as_ref().is_none_or(|name| found.name.as_ref() == Some(name))
                && filter.group.as_ref().is_none_or(|group| found.group.as_ref() == Some(group))
                && (!filter.only_named || found.name.is_some())
        };
        let state = self.state();
        let may_be_unread = match &filter.snapshot {
            Some(id) => state.unread.contains(&id.volume) && !state.snapshots.contains_key(id),
            None => filter.group.is_some() && !state.unread.is_empty(),
        };
        if may_be_unread {
            let message = "entries are lost or damaged".to_owned();
            return Err(HubError::Remote { kind: ErrorKind::Corrupt, message });
        }
        let found = state.snapshots.values().filter(is_wanted);
        page(found.map(|found| (found.id.to_string(), found.clone())).collect(), &request)
    }

    async fn restore_volume(&self, _: RestoreVolume) -> Result<RestoredVolume, HubError> {
        unreachable!("the driver does not ask for it")
    }

    async fn resolve_volume(&self, _: Resolve) -> Result<Volume, HubError> {
        unreachable!("the driver does not ask for it")
    }

    async fn list_volumes(&self, request: PageRequest) -> Result<Page<Volume>, HubError> {
        self.lists_asked.fetch_add(1, Ordering::Relaxed);
        let state = self.state();
        let volumes = state.volumes.values().map(|report| report.volume.clone());
        page(volumes.map(|volume| (volume.id.to_string(), volume)).collect(), &request)
    }

    async fn watch_volumes(
        &self,
    ) -> Result<BoxStream<'static, Result<VolumeEvent, HubError>>, HubError> {
        unreachable!("the driver does not ask for it")
    }

    async fn capacity(&self, node: Option<NodeId>) -> Result<Capacity, HubError> {
        self.room_asked.fetch_add(1, Ordering::Relaxed);
        if self.is_silent.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        match node {
            Some(node) if node.as_str() != "n1" => Err(HubError::NoNode { node }),
            _ => Ok(Capacity { available_bytes: 1 << 30, total_bytes: 2 << 30 }),
        }
    }
}
