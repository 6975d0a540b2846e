//! What there is.

use std::collections::BTreeMap;

use cove_content::volumes::{Capacity, VolumeFilter};
use cove_types::{EntryKind, NodeId, SnapshotId, VolumeId};

use crate::hub::Inner;
use crate::nodes::{NONE_HAS_COME, Observed};
use crate::paging::page;
use crate::plan::{self, VolumeState};
use crate::volume_hub::{
    EnsureCached, Page, PageRequest, Placement, Resolve, Snapshot, SnapshotFilter, Volume,
    VolumeReport,
};
use crate::{HubError, words};

impl Inner {
    pub(super) async fn ensure_cached(&self, wanted: &EnsureCached) -> Result<Placement, HubError> {
        let observed = self.nodes.observe(&wanted.volume).await?;
        plan::ensure_cached(&observed.view, wanted)
    }

    pub(super) async fn volume_status(&self, volume: &VolumeId) -> Result<VolumeReport, HubError> {
        let (node, status) = self.get_live(volume).await?;
        Ok(words::report(&node, &status))
    }

    pub(super) async fn resolve_volume(&self, what: &Resolve) -> Result<Volume, HubError> {
        let name = match what {
            Resolve::Name(name) => name.clone(),
            Resolve::Project(slug) => slug.to_string(),
        };
        let called = VolumeFilter { names: [name].into(), ..VolumeFilter::default() };
        let mut observed = self.nodes.observe_some(&called).await?;
        let volume = plan::resolve(&observed.view, what)?;
        let found = observed.statuses.remove(&volume);
        let (node, status) = found.ok_or(HubError::NoVolume { volume })?;
        Ok(words::volume(&node, &status))
    }

    pub(super) async fn list_volumes(
        &self,
        wanted: &PageRequest,
    ) -> Result<Page<Volume>, HubError> {
        let observed = self.whole("list the volumes").await?;
        let volumes = live(&observed).map(|(id, report)| (id.clone(), report.volume));
        page(volumes, wanted)
    }

    /// All volumes that are in use.
    pub(crate) async fn reports(&self) -> Result<BTreeMap<VolumeId, VolumeReport>, HubError> {
        let observed = self.whole("list the volumes").await?;
        Ok(live(&observed).map(|(id, report)| (id.clone(), report)).collect())
    }

    pub(super) async fn list_snapshots(
        &self,
        filter: &SnapshotFilter,
        wanted: &PageRequest,
    ) -> Result<Page<Snapshot>, HubError> {
        let of_one = filter.volume.as_ref().or(filter.snapshot.as_ref().map(|id| &id.volume));
        let mut observed = match of_one {
            Some(volume) => self.nodes.observe(volume).await?,
            None => self.nodes.observe_all().await?,
        };
        let is_there = of_one.is_some_and(|volume| observed.statuses.contains_key(volume));
        if !is_there {
            observed.view.check_whole("list the snapshots")?;
        }
        // those of a volume in the trash are there when it comes back
        let shown = |id: &&VolumeId| {
            observed
                .view
                .volumes
                .get(*id)
                .is_some_and(|volume| volume.state != VolumeState::Trashed)
        };
        let of: Vec<VolumeId> = observed.statuses.keys().filter(shown).cloned().collect();
        match &filter.snapshot {
            Some(snapshot) if of.contains(&snapshot.volume) => {
                self.nodes.observe_snapshot(&mut observed, snapshot).await?;
                observed.view.find_snapshot(snapshot)?;
            }
            _ => self.nodes.observe_entries(&mut observed, of.clone()).await?,
        }
        if filter.group.is_some() {
            self.check_read(of).await?;
        }
        let snapshots = observed.entries.iter().filter_map(|(id, entry)| {
            let is_named = entry.record.kind == EntryKind::Csi;
            let snapshot = words::snapshot(&id.volume, entry);
            (is_named || !filter.only_named)
                .then_some(snapshot)
                .filter(|snapshot| is_wanted(filter, id, snapshot))
                .map(|snapshot| (id.clone(), snapshot))
        });
        page(snapshots, wanted)
    }

    /// Refuses to call snapshots all that a group has while one that nobody can read may be of it. To be asked after
    /// the entries were: then it is known whether there are such.
    async fn check_read(&self, of: Vec<VolumeId>) -> Result<(), HubError> {
        let wanted = VolumeFilter { ids: of.into_iter().collect(), ..VolumeFilter::default() };
        let observed = self.nodes.observe_some(&wanted).await?;
        observed.view.volumes.iter().try_for_each(|(id, volume)| {
            volume.check_read(|| format!("look for snapshots of the group in volume {id}"))
        })
    }

    pub(super) async fn capacity(&self, node: Option<&NodeId>) -> Result<Capacity, HubError> {
        let all = self.nodes.all();
        if all.is_empty() {
            return Err(plan::unavailable("look what room there is", NONE_HAS_COME));
        }
        if let Some(node) = node.filter(|node| all.iter().all(|other| other.id != **node)) {
            return Err(HubError::NoNode { node: node.clone() });
        }
        let mut sum = Capacity { available_bytes: 0, total_bytes: 0 };
        for node in all.iter().filter(|other| node.is_none_or(|node| other.id == *node)) {
            let capacity = node.capacity().await.map_err(|source| HubError::Volumes {
                what: format!("look what room node {} has", node.id),
                source,
            })?;
            sum.available_bytes = sum.available_bytes.saturating_add(capacity.available_bytes);
            sum.total_bytes = sum.total_bytes.saturating_add(capacity.total_bytes);
        }
        Ok(sum)
    }

    /// All volumes, of all nodes.
    async fn whole(&self, what: &str) -> Result<Observed, HubError> {
        let observed = self.nodes.observe_all().await?;
        observed.view.check_whole(what)?;
        Ok(observed)
    }
}

/// The volumes that are in use, in the order of their ids.
fn live(observed: &Observed) -> impl Iterator<Item = (&VolumeId, VolumeReport)> {
    let statuses = observed.statuses.iter();
    let live = statuses.filter(|(id, _)| {
        observed.view.volumes.get(*id).is_some_and(|volume| volume.state == VolumeState::Live)
    });
    live.map(|(id, (node, status))| (id, words::report(node, status)))
}

fn is_wanted(filter: &SnapshotFilter, id: &SnapshotId, snapshot: &Snapshot) -> bool {
    let SnapshotFilter { volume, snapshot: this, name, group, only_named: _ } = filter;
    volume.as_ref().is_none_or(|volume| id.volume == *volume)
        && this.as_ref().is_none_or(|this| this == id)
        && (name.is_none() || snapshot.name == *name)
        && (group.is_none() || snapshot.group == *group)
}
