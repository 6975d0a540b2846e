//! What becomes of a request, decided from what is known.
//!
//! Each kind of request has a function here that gives its plan or says why there is none. Nothing here sends
//! anything, reads a clock or takes a lock.

mod change;
mod create;
mod ensure;
mod resolve;
mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;

use cove_content::spec::VolumeSpec;
use cove_content::volumes::VolumeError;
use cove_types::{EntryKind, ErrorKind, NodeId, Slug, SnapshotId, VolumeId};

pub use self::change::{
    Delete, DeleteSnapshot, Modify, Restore, delete, delete_snapshot, modify, restore, trash,
};
pub use self::create::{Create, New, Origin, create, looked_for};
pub use self::ensure::ensure_cached;
pub use self::resolve::resolve;
pub use self::snapshot::{Snapshots, Taken, snapshot};
use crate::HubError;
use crate::error::shown;

/// What the Hub knows when it decides.
///
/// Of what there is on the nodes that answer, the volumes and snapshots are at least those that the decision asks
/// for: [`looked_for`] says which that are for a new volume, and the request itself for the others.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// The nodes.
    pub nodes: Vec<NodeView>,
    /// The volumes, deleted and trashed ones included.
    pub volumes: BTreeMap<VolumeId, VolumeView>,
    /// Live entries.
    pub snapshots: BTreeMap<SnapshotId, SnapshotView>,
}

/// A node.
#[derive(Debug, Clone)]
pub struct NodeView {
    /// Which.
    pub node: NodeId,
    /// Whether it answers.
    pub answers: bool,
    /// Free for new volumes, in bytes; none where it was not asked or could not say.
    pub free_bytes: Option<u64>,
}

/// Whether a volume can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeState {
    /// It is in use.
    Live,
    /// It lies in the trash, from which it may come back.
    Trashed,
    /// It is deleted, and has snapshots that are kept.
    Deleted,
}

/// A volume.
#[derive(Debug, Clone)]
pub struct VolumeView {
    /// The node that takes its writes.
    pub node: NodeId,
    /// What it is called.
    pub name: String,
    /// Whether it can be used.
    pub state: VolumeState,
    /// The slug of its project, or of the one that it may become.
    pub slug: Slug,
    /// What is asked of it.
    pub spec: VolumeSpec,
    /// What its files take, in bytes: what its quota is charged, and what it shares with others, which is not.
    pub held_bytes: u64,
    /// How many entries it has that nobody can read, and that are not among the snapshots.
    pub unread_entries: u32,
    /// The directory of its files on its node, when they are there.
    pub path: Option<PathBuf>,
}

/// A live entry of a volume.
#[derive(Debug, Clone)]
pub struct SnapshotView {
    /// Why it was made: one of kind `csi` was asked for by name.
    pub kind: EntryKind,
    /// That name.
    pub name: Option<String>,
    /// The group that it is of.
    pub group: Option<String>,
    /// The least quota that holds it for sure, in bytes; none while that is not known.
    pub needs_bytes: Option<u64>,
}

impl VolumeView {
    fn is_live(&self) -> bool {
        self.state == VolumeState::Live
    }

    /// Refuses to call an entry absent that may be one of those that nobody can read.
    ///
    /// # Errors
    ///
    /// The kind is `Corrupt`.
    pub(crate) fn check_read(&self, what: impl FnOnce() -> String) -> Result<(), HubError> {
        match self.unread_entries {
            0 => Ok(()),
            count => {
                let source = VolumeError::EntriesUnread { count };
                Err(HubError::Volumes { what: what(), source })
            }
        }
    }

    /// The project whose workspace it is.
    fn project(&self) -> Option<&Slug> {
        (!self.spec.stands_alone).then_some(&self.slug)
    }
}

impl View {
    /// Refuses to call anything absent while a node does not answer, which may have it.
    ///
    /// # Errors
    ///
    /// The kind is `Unavailable`.
    pub fn check_whole(&self, what: &str) -> Result<(), HubError> {
        let silent = self.nodes.iter().find(|node| !node.answers);
        silent.map_or(Ok(()), |silent| {
            Err(unavailable(what, format!("node {} does not answer", silent.node)))
        })
    }

    /// A volume in whatever state.
    fn find(&self, volume: &VolumeId) -> Result<Option<&VolumeView>, HubError> {
        let found = self.volumes.get(volume);
        if found.is_none() {
            self.check_whole(&format!("look for volume {volume}"))?;
        }
        Ok(found)
    }

    /// A volume that is in use.
    pub(crate) fn get_live(&self, volume: &VolumeId) -> Result<&VolumeView, HubError> {
        let live = self.find(volume)?.filter(|found| found.is_live());
        live.ok_or_else(|| HubError::NoVolume { volume: volume.clone() })
    }

    /// An entry and its volume, in whatever state. None is called absent of a volume with entries that nobody can
    /// read.
    pub(crate) fn find_snapshot(
        &self,
        snapshot: &SnapshotId,
    ) -> Result<Option<(&VolumeView, &SnapshotView)>, HubError> {
        let Some(volume) = self.find(&snapshot.volume)? else { return Ok(None) };
        let found = self.snapshots.get(snapshot);
        if found.is_none() {
            volume.check_read(|| format!("look for snapshot {snapshot}"))?;
        }
        Ok(found.map(|found| (volume, found)))
    }

    /// An entry, whose volume may be deleted.
    fn get_snapshot(
        &self,
        snapshot: &SnapshotId,
    ) -> Result<(&VolumeView, &SnapshotView), HubError> {
        let found = self.find_snapshot(snapshot)?;
        let found = found.filter(|(volume, _)| volume.state != VolumeState::Trashed);
        found.ok_or_else(|| HubError::NoSnapshot { snapshot: snapshot.clone() })
    }

    fn live_called<'a>(
        &'a self,
        name: &'a str,
    ) -> impl Iterator<Item = (&'a VolumeId, &'a VolumeView)> {
        self.volumes.iter().filter(move |(_, volume)| volume.is_live() && volume.name == name)
    }
}

pub(crate) fn unavailable(what: impl Into<String>, why: impl Into<String>) -> HubError {
    refused(ErrorKind::Unavailable, what, why)
}

fn refused(kind: ErrorKind, what: impl Into<String>, why: impl Into<String>) -> HubError {
    let source = VolumeError::Refused { kind, what: why.into() };
    HubError::Volumes { what: what.into(), source }
}
