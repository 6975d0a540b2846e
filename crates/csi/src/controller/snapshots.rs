//! Snapshots of volumes.
//!
//! One that is captured is ready to use: volumes are made of it on its node at once, and of what is stored, which
//! follows, anywhere.
//!
//! Whoever makes a volume of a snapshot asks for as much as its size at least, and gives up where that is more than the
//! claim has. The sizes of files, added up, can be: holes count, and what is compressed counts whole. A volume as large
//! as the source always holds what is in it, so that the size is at most that.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use cove_hub::volume_hub::{Page, PageRequest, Snapshot, SnapshotFilter, SnapshotVolumes, Volume};
use cove_types::{SnapshotId, VolumeId};
use cove_unix_grpc::field::wire_instant;

use super::Controller;
use crate::csi::Driver;
use crate::paging;
use crate::proto as pb;
use crate::request::{labels, name, required, snapshot_id, volume_id};
use crate::status::{CallError, signed};

/// The volumes that snapshots are of, as far as they are there still.
#[derive(Debug, Default)]
pub(crate) struct Sources(BTreeMap<VolumeId, Volume>);

impl Sources {
    /// Looks up those whose snapshots have a size. Costs a report, or for several volumes a list of all.
    pub(crate) async fn find(driver: &Driver, snapshots: &[Snapshot]) -> Result<Self, CallError> {
        let sized = snapshots.iter().filter(|snapshot| snapshot.bytes > 0);
        let wanted: BTreeSet<&VolumeId> = sized.map(|snapshot| &snapshot.id.volume).collect();
        let found = match wanted.first() {
            None => Vec::new(),
            Some(volume) if wanted.len() == 1 => {
                driver.find_volume(volume).await?.into_iter().collect()
            }
            Some(_) => driver.list_volumes().await?,
        };
        let found = found.into_iter().filter(|volume| wanted.contains(&volume.id));
        Ok(Self(found.map(|volume| (volume.id.clone(), volume)).collect()))
    }

    /// How large a volume of a snapshot has to be at least, in bytes; 0 where that is not known.
    fn size_bytes(&self, snapshot: &Snapshot) -> u64 {
        let source = self.0.get(&snapshot.id.volume);
        source.map_or(0, |source| snapshot.bytes.min(source.quota_bytes.unwrap_or(u64::MAX)))
    }
}

/// A snapshot, as it is sent.
pub(crate) fn snapshot(snapshot: &Snapshot, sources: &Sources) -> pb::Snapshot {
    pb::Snapshot {
        size_bytes: signed(sources.size_bytes(snapshot)),
        snapshot_id: snapshot.id.to_string(),
        source_volume_id: snapshot.id.volume.to_string(),
        creation_time: Some(wire_instant(snapshot.created_at)),
        ready_to_use: true,
        group_snapshot_id: snapshot.group.clone().unwrap_or_default(),
        accessible_topology: Vec::new(),
    }
}

/// Looks at the parameters of a snapshot: it has none but what Kubernetes tells.
pub(crate) fn check_parameters(parameters: &HashMap<String, String>) -> Result<(), CallError> {
    labels(parameters).map(|_| ())
}

/// A snapshot by its id; those that belong to a timeline alone are found too.
pub(crate) async fn find_snapshot(
    driver: &Driver,
    id: &SnapshotId,
) -> Result<Option<Snapshot>, CallError> {
    let filter = SnapshotFilter { snapshot: Some(id.clone()), ..SnapshotFilter::default() };
    match driver.hub.list_snapshots(filter, PageRequest::default()).await.map_err(CallError::from) {
        Ok(page) => Ok(page.items.into_iter().find(|found| found.id == *id)),
        Err(error) if error.is_absence() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Deletes a snapshot, to where that is saved. One that is gone is success.
pub(crate) async fn delete_snapshot(driver: &Driver, id: SnapshotId) -> Result<(), CallError> {
    let operation = driver.operation(std::slice::from_ref(&id.volume)).await?;
    match driver.hub.delete_snapshot(id, operation).await.map_err(CallError::from) {
        Err(error) if !error.is_absence() => Err(error),
        _ => Ok(()),
    }
}

/// Which snapshots a list is to have; none when an id names nothing. Those of timelines are in no list, and found
/// by their ids.
fn filter(request: &pb::ListSnapshotsRequest) -> Option<SnapshotFilter> {
    let mut filter = SnapshotFilter { only_named: true, ..SnapshotFilter::default() };
    if !request.snapshot_id.is_empty() {
        filter.snapshot = Some(request.snapshot_id.parse().ok()?);
        filter.only_named = false;
    }
    if !request.source_volume_id.is_empty() {
        filter.volume = Some(request.source_volume_id.parse().ok()?);
    }
    Some(filter)
}

impl Controller {
    /// A snapshot of a name, new or as it was asked for before; then its source may be gone.
    pub(super) async fn create_snapshot(
        &self,
        request: pb::CreateSnapshotRequest,
    ) -> Result<pb::CreateSnapshotResponse, CallError> {
        let name = name(&request.name)?;
        let field = "source_volume_id";
        required(field, &request.source_volume_id)?;
        check_parameters(&request.parameters)?;
        let volume = volume_id(field, &request.source_volume_id)?;
        let volumes = vec![volume];
        let operation = self.0.operation(&volumes).await?;
        let wanted =
            SnapshotVolumes { volumes, name, is_group: false, operation, wait_saved: false };
        let made = self.0.hub.snapshot(wanted).await?;
        let sources = Sources::find(&self.0, &made).await?;
        let snapshot = made.first().map(|made| snapshot(made, &sources));
        Ok(pb::CreateSnapshotResponse { snapshot })
    }

    /// Deletes a snapshot.
    pub(super) async fn delete_snapshot(
        &self,
        request: pb::DeleteSnapshotRequest,
    ) -> Result<pb::DeleteSnapshotResponse, CallError> {
        let deleted = pb::DeleteSnapshotResponse {};
        let id = match snapshot_id("snapshot_id", &request.snapshot_id) {
            Err(error) if error.is_absence() => return Ok(deleted),
            id => id?,
        };
        delete_snapshot(&self.0, id).await?;
        Ok(deleted)
    }

    /// The snapshots that were asked for by name, in the order of their ids; of one volume or one id when that is said.
    pub(super) async fn list_snapshots(
        &self,
        request: pb::ListSnapshotsRequest,
    ) -> Result<pb::ListSnapshotsResponse, CallError> {
        let filter = filter(&request);
        let fetch = |page: PageRequest| {
            let filter = filter.clone();
            async {
                let none = Page { items: Vec::new(), next_token: String::new() };
                let Some(filter) = filter else { return Ok(none) };
                let refused = paging::refused(!page.token.is_empty());
                match self.0.hub.list_snapshots(filter, page).await.map_err(refused) {
                    Err(error) if error.is_absence() => Ok(none),
                    page => page,
                }
            }
        };
        let page = paging::page(request.max_entries, request.starting_token, fetch).await?;
        let sources = Sources::find(&self.0, &page.items).await?;
        let entry = |found: &Snapshot| pb::list_snapshots_response::Entry {
            snapshot: Some(snapshot(found, &sources)),
        };
        let entries = page.items.iter().map(entry).collect();
        Ok(pb::ListSnapshotsResponse { entries, next_token: page.next_token })
    }

    /// One snapshot.
    pub(super) async fn get_snapshot(
        &self,
        request: pb::GetSnapshotRequest,
    ) -> Result<pb::GetSnapshotResponse, CallError> {
        let id = snapshot_id("snapshot_id", &request.snapshot_id)?;
        let found = find_snapshot(&self.0, &id).await?;
        let found = found.ok_or_else(|| CallError::no_snapshot(&request.snapshot_id))?;
        let sources = Sources::find(&self.0, std::slice::from_ref(&found)).await?;
        Ok(pb::GetSnapshotResponse { snapshot: Some(snapshot(&found, &sources)) })
    }
}

#[cfg(test)]
mod tests {
    use cove_types::Durability;
    use jiff::Timestamp;

    use super::*;
    use crate::fake::report;

    /// What a snapshot with files of so many bytes is told to need, of a source with this quota.
    fn size_bytes(bytes: u64, quota_bytes: Option<u64>) -> u64 {
        let source = Volume { quota_bytes, ..report("vol-a").volume };
        let sources = Sources([(source.id.clone(), source)].into());
        sources.size_bytes(&of("vol-a", bytes))
    }

    fn of(volume: &str, bytes: u64) -> Snapshot {
        Snapshot {
            id: format!("{volume}@abcdefghij23").parse().unwrap(),
            name: Some("s".to_owned()),
            created_at: Timestamp::UNIX_EPOCH,
            bytes,
            durability: Durability::Saved,
            group: None,
        }
    }

    #[test]
    fn a_snapshot_needs_no_more_than_its_source_has() {
        assert_eq!(size_bytes(40, Some(100)), 40);
        assert_eq!(size_bytes(101, Some(100)), 100);
        assert_eq!(size_bytes(101, None), 101);
        assert_eq!(size_bytes(0, Some(100)), 0);
    }

    #[test]
    fn what_a_snapshot_of_a_deleted_volume_needs_is_not_known() {
        assert_eq!(Sources::default().size_bytes(&of("vol-a", 40)), 0);
    }

    #[test]
    fn a_list_by_an_id_that_is_none_is_empty() {
        let by = |snapshot_id: &str, source_volume_id: &str| {
            filter(&pb::ListSnapshotsRequest {
                snapshot_id: snapshot_id.to_owned(),
                source_volume_id: source_volume_id.to_owned(),
                ..pb::ListSnapshotsRequest::default()
            })
        };
        assert_eq!(by("none-exist-id", ""), None);
        assert_eq!(by("", "No"), None);
        assert!(by("", "").unwrap().only_named);
        assert!(!by("vol-a@abcdefghij23", "").unwrap().only_named);
    }
}
