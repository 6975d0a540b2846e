//! Volumes: made, deleted, changed and listed.

use std::collections::{BTreeMap, HashMap};

use cove_content::spec::QUOTA_BYTES;
use cove_hub::in_flight::InFlight;
use cove_hub::published::Published;
use cove_hub::volume_hub::{
    CreateVolume, ModifyVolume, PageRequest, QuotaRange, Volume, VolumeReport, VolumeSource,
};
use cove_types::VolumeId;

use super::Controller;
use crate::capability::{access, check_all};
use crate::health::{as_field, health};
use crate::paging;
use crate::proto as pb;
use crate::proto::volume_content_source::{
    SnapshotSource, Type as Source, VolumeSource as SourceVolume,
};
use crate::request::{
    TOPOLOGY_NODE, is_reached, labels, mutable_parameters, name, node_id, quota_range, required,
    source, topology, volume_id,
};
use crate::status::{CallError, excerpt, signed};
use crate::thing::Thing;

/// A volume, as it is sent. One that nothing limits has no known capacity.
pub(super) fn volume(volume: &Volume) -> pb::Volume {
    let source = match &volume.source {
        None | Some(VolumeSource::Template(_)) => None,
        Some(VolumeSource::Volume(id)) => {
            Some(Source::Volume(SourceVolume { volume_id: id.to_string() }))
        }
        Some(VolumeSource::Snapshot(id)) => {
            Some(Source::Snapshot(SnapshotSource { snapshot_id: id.to_string() }))
        }
    };
    pb::Volume {
        capacity_bytes: volume.quota_bytes.map_or(0, signed),
        volume_id: volume.id.to_string(),
        volume_context: HashMap::new(),
        content_source: source.map(|source| pb::VolumeContentSource { r#type: Some(source) }),
        accessible_topology: vec![topology(&volume.node)],
    }
}

/// The nodes that a volume is published on, as they are sent.
fn published_nodes(volume: &Volume) -> Vec<String> {
    Published::of(&volume.labels).map(|published| published.node.to_owned()).into_iter().collect()
}

/// What is to be done for a volume to be as large as is asked for.
#[derive(Debug, PartialEq, Eq)]
enum Expansion {
    /// It is, with so many bytes.
    Done(u64),
    /// It is to have so many.
    Grow(u64),
}

/// A volume that is larger already stays as it is, and so does one that nothing limits: it is larger than anything, and
/// than any limit, too.
fn expansion(present: Option<u64>, wanted: QuotaRange) -> Result<Expansion, CallError> {
    let least = wanted.required_bytes.or(wanted.limit_bytes).unwrap_or(*QUOTA_BYTES.start());
    match (present, wanted.limit_bytes) {
        (None, None) => Ok(Expansion::Done(least)),
        (None, Some(limit)) => Err(CallError::OutOfRange {
            what: format!("nothing limits it, and limit_bytes are {limit}"),
        }),
        (Some(present), Some(limit)) if present > limit => Err(CallError::OutOfRange {
            what: format!("it has {present} bytes, more than limit_bytes, which are {limit}"),
        }),
        (Some(present), _) if present >= least => Ok(Expansion::Done(present)),
        (Some(_), _) => Ok(Expansion::Grow(least)),
    }
}

/// Looks whether a volume has what it is said to have.
fn check_same(
    request: &pb::ValidateVolumeCapabilitiesRequest,
    volume: &Volume,
) -> Result<(), CallError> {
    if let Some(key) = request.volume_context.keys().min() {
        let why = format!("the volume's context is empty, found \"{}\"", excerpt(key));
        return Err(CallError::Invalid { field: "volume_context", why });
    }
    for (key, value) in mutable_parameters(&request.mutable_parameters)? {
        let present = volume.parameters.get(&key);
        if present != Some(&value) {
            let present = present.map_or("not set", |present| present.as_str());
            let why = format!("\"{key}\" of the volume is {present}, found {value}");
            return Err(CallError::Invalid { field: "mutable_parameters", why });
        }
    }
    Ok(())
}

impl Controller {
    /// What a call about a volume finds.
    async fn report(&self, id: &str) -> Result<VolumeReport, CallError> {
        self.0.report(&volume_id("volume_id", id)?).await
    }

    /// A volume of a name, new or as it was asked for before.
    pub(super) async fn create(
        &self,
        request: pb::CreateVolumeRequest,
    ) -> Result<pb::CreateVolumeResponse, CallError> {
        let name = name(&request.name)?;
        check_all(&request.volume_capabilities)?;
        let quota = request.capacity_range.as_ref().map(quota_range).transpose()?;
        let labels = labels(&request.parameters)?;
        let parameters = mutable_parameters(&request.mutable_parameters)?;
        let source = source(request.volume_content_source.as_ref())?;
        let node = &self.0.options.node;
        if !is_reached(node, request.accessibility_requirements.as_ref()) {
            let what =
                format!("volumes are made on node {node}, which is not where this is wanted");
            return Err(CallError::Exhausted { what });
        }
        let wanted = CreateVolume {
            name,
            operation: self.0.env.operation_id(0),
            source,
            quota: quota.unwrap_or_default(),
            labels,
            parameters,
            wait_saved: false,
        };
        let (made, _) = self.0.hub.create_volume(wanted).await?;
        Ok(pb::CreateVolumeResponse { volume: Some(volume(&made)) })
    }

    /// Deletes a volume that is neither mounted nor published.
    pub(super) async fn delete(
        &self,
        request: pb::DeleteVolumeRequest,
    ) -> Result<pb::DeleteVolumeResponse, CallError> {
        let deleted = pb::DeleteVolumeResponse {};
        let id = match volume_id("volume_id", &request.volume_id) {
            Err(error) if error.is_absence() => return Ok(deleted),
            id => id?,
        };
        let under_way = |calls: &InFlight<_>| calls.begin([Thing::from(&id)]);
        let _under_way = (under_way(&self.0.changing)?, under_way(&self.0.mounting)?);
        let Some(found) = self.0.find_volume(&id).await? else { return Ok(deleted) };
        if let Some(published) = Published::of(&found.labels) {
            let what = format!("volume {id} is in use: it is published on node {}", published.node);
            return Err(CallError::Precondition { what });
        }
        let operation = self.0.env.operation_id(found.seq);
        match self.0.hub.delete_volume(id, operation).await.map_err(CallError::from) {
            Err(error) if !error.is_absence() => Err(error),
            _ => Ok(deleted),
        }
    }

    /// Says whether a volume can be used as is asked.
    pub(super) async fn validate(
        &self,
        request: pb::ValidateVolumeCapabilitiesRequest,
    ) -> Result<pb::ValidateVolumeCapabilitiesResponse, CallError> {
        required("volume_id", &request.volume_id)?;
        if request.volume_capabilities.is_empty() {
            return Err(CallError::Missing { field: "volume_capabilities" });
        }
        let found = self.report(&request.volume_id).await?.volume;
        let checked = check_all(&request.volume_capabilities)
            .and_then(|()| labels(&request.parameters).map(|_| ()))
            .and_then(|()| check_same(&request, &found));
        match checked {
            Ok(()) => Ok(pb::ValidateVolumeCapabilitiesResponse {
                confirmed: Some(pb::validate_volume_capabilities_response::Confirmed {
                    volume_context: request.volume_context,
                    volume_capabilities: request.volume_capabilities,
                    parameters: request.parameters,
                    mutable_parameters: request.mutable_parameters,
                }),
                message: String::new(),
            }),
            Err(CallError::Invalid { why, .. }) => Ok(pb::ValidateVolumeCapabilitiesResponse {
                confirmed: None,
                message: as_field(&why),
            }),
            Err(error) => Err(error),
        }
    }

    /// The volumes, in the order of their ids.
    pub(super) async fn list(
        &self,
        request: pb::ListVolumesRequest,
    ) -> Result<pb::ListVolumesResponse, CallError> {
        let fetch = |page: PageRequest| async {
            let refused = paging::refused(!page.token.is_empty());
            self.0.hub.list_volumes(page).await.map_err(refused)
        };
        let page = paging::page(request.max_entries, request.starting_token, fetch).await?;
        let entry = |found: &Volume| pb::list_volumes_response::Entry {
            volume: Some(volume(found)),
            status: Some(pb::list_volumes_response::VolumeStatus {
                published_node_ids: published_nodes(found),
            }),
        };
        let entries = page.items.iter().map(entry).collect();
        Ok(pb::ListVolumesResponse { entries, next_token: page.next_token })
    }

    /// One volume.
    pub(super) async fn get(
        &self,
        request: pb::ControllerGetVolumeRequest,
    ) -> Result<pb::ControllerGetVolumeResponse, CallError> {
        let found = self.report(&request.volume_id).await?.volume;
        let status = pb::controller_get_volume_response::VolumeStatus {
            published_node_ids: published_nodes(&found),
        };
        let volume = Some(volume(&found));
        Ok(pb::ControllerGetVolumeResponse { volume, status: Some(status) })
    }

    /// The volumes with problems, in the order of their ids. A token is the id of the last one that was told. Costs a
    /// list of all volumes, and a report of each that is looked at.
    pub(super) async fn list_health(
        &self,
        request: pb::ControllerListVolumeHealthRequest,
    ) -> Result<pb::ControllerListVolumeHealthResponse, CallError> {
        let most = paging::entries_max(request.max_entries)?;
        let token = Some(request.starting_token.as_str()).filter(|token| !token.is_empty());
        let after: Option<VolumeId> =
            token.map(|token| token.parse().map_err(|_| CallError::BadToken)).transpose()?;
        let mut told = pb::ControllerListVolumeHealthResponse::default();
        for volume in self.0.list_volumes().await? {
            if after.as_ref().is_some_and(|after| volume.id <= *after) {
                continue;
            }
            let found = match self.0.report(&volume.id).await {
                Ok(report) => health(&report),
                Err(error) if error.is_absence() => continue,
                Err(error) => return Err(error),
            };
            if found.health_statuses.is_empty() {
                continue;
            }
            if most.is_some_and(|most| told.entries.len() >= most) {
                told.next_token =
                    told.entries.last().map_or(String::new(), |last| last.volume_id.clone());
                break;
            }
            told.entries.push(found);
        }
        Ok(told)
    }

    /// The problems of one volume.
    pub(super) async fn get_health(
        &self,
        request: pb::ControllerGetVolumeHealthRequest,
    ) -> Result<pb::ControllerGetVolumeHealthResponse, CallError> {
        let report = self.report(&request.volume_id).await?;
        Ok(pb::ControllerGetVolumeHealthResponse { volume_health: Some(health(&report)) })
    }

    /// The room for new volumes: of a node when one is named, and none for volumes that cannot be had.
    pub(super) async fn capacity(
        &self,
        request: pb::GetCapacityRequest,
    ) -> Result<pb::GetCapacityResponse, CallError> {
        let capabilities = &request.volume_capabilities;
        let can_be_had = match capabilities.is_empty() {
            true => Ok(()),
            false => check_all(capabilities),
        };
        let can_be_had = can_be_had.and_then(|()| labels(&request.parameters).map(|_| ()));
        let available = match can_be_had {
            Ok(()) => self.available(request.accessible_topology.as_ref()).await?,
            Err(CallError::Invalid { .. }) => 0,
            Err(error) => return Err(error),
        };
        Ok(pb::GetCapacityResponse {
            available_capacity: signed(available),
            maximum_volume_size: None,
            minimum_volume_size: Some(signed(*QUOTA_BYTES.start())),
        })
    }

    async fn available(&self, place: Option<&pb::Topology>) -> Result<u64, CallError> {
        let node = match place.filter(|place| !place.segments.is_empty()) {
            None => None,
            Some(place) => match place.segments.get(TOPOLOGY_NODE) {
                Some(text) => match node_id("accessible_topology", text) {
                    Err(error) if error.is_absence() => return Ok(0),
                    node => Some(node?),
                },
                None => return Ok(0),
            },
        };
        match self.0.hub.capacity(node).await.map_err(CallError::from) {
            Ok(capacity) => Ok(capacity.available_bytes),
            Err(error) if error.is_absence() => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Gives a volume exactly as many bytes as are asked for, when it has fewer. They can be used at once. One call at
    /// a time on each volume: of two that find the same size, the later one could take away what the other gave.
    pub(super) async fn expand(
        &self,
        request: pb::ControllerExpandVolumeRequest,
    ) -> Result<pb::ControllerExpandVolumeResponse, CallError> {
        required("volume_id", &request.volume_id)?;
        let range = request.capacity_range.as_ref();
        let range = quota_range(range.ok_or(CallError::Missing { field: "capacity_range" })?)?;
        if request.volume_capability.is_some() {
            access("volume_capability", request.volume_capability.as_ref())?;
        }
        let id = volume_id("volume_id", &request.volume_id)?;
        let _under_way = self.0.changing.begin([Thing::from(&id)])?;
        let found = self.0.report(&id).await?.volume;
        let bytes = match expansion(found.quota_bytes, range)? {
            Expansion::Done(bytes) => bytes,
            Expansion::Grow(bytes) => {
                let change = ModifyVolume {
                    volume: found.id,
                    operation: self.0.env.operation_id(found.seq),
                    quota_bytes: Some(Some(bytes)),
                    labels: None,
                    parameters: BTreeMap::new(),
                };
                self.0.hub.modify_volume(change).await?;
                bytes
            }
        };
        let capacity_bytes = signed(bytes);
        Ok(pb::ControllerExpandVolumeResponse { capacity_bytes, node_expansion_required: false })
    }

    /// Changes how a volume is kept. Whether it exists is said before what of its parameters is wrong. One call at a
    /// time on each volume: one that finds what it asks for would be done although an earlier one is still to come.
    pub(super) async fn modify(
        &self,
        request: pb::ControllerModifyVolumeRequest,
    ) -> Result<pb::ControllerModifyVolumeResponse, CallError> {
        let id = volume_id("volume_id", &request.volume_id)?;
        let _under_way = self.0.changing.begin([Thing::from(&id)])?;
        let found = self.0.report(&id).await?.volume;
        let parameters = mutable_parameters(&request.mutable_parameters)?;
        let is_so = parameters.iter().all(|(key, value)| found.parameters.get(key) == Some(value));
        if !is_so {
            let change = ModifyVolume {
                volume: found.id,
                operation: self.0.env.operation_id(found.seq),
                quota_bytes: None,
                labels: None,
                parameters,
            };
            self.0.hub.modify_volume(change).await?;
        }
        Ok(pb::ControllerModifyVolumeResponse {})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(required_bytes: Option<u64>, limit_bytes: Option<u64>) -> QuotaRange {
        QuotaRange { required_bytes, limit_bytes }
    }

    #[test]
    fn a_volume_grows_to_exactly_what_is_asked_for() {
        let grown = expansion(Some(5), wanted(Some(7), None)).unwrap();
        assert_eq!(grown, Expansion::Grow(7));
        assert_eq!(expansion(Some(5), wanted(None, Some(9))).unwrap(), Expansion::Grow(9));
    }

    #[test]
    fn a_volume_that_is_large_enough_stays_as_it_is() {
        assert_eq!(expansion(Some(7), wanted(Some(5), None)).unwrap(), Expansion::Done(7));
        assert_eq!(expansion(Some(7), wanted(Some(7), Some(7))).unwrap(), Expansion::Done(7));
        assert_eq!(expansion(None, wanted(Some(5), None)).unwrap(), Expansion::Done(5));
    }

    #[test]
    fn a_volume_does_not_shrink() {
        let refused = expansion(Some(9), wanted(Some(5), Some(8))).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::OutOfRange);
        for least in [None, Some(5)] {
            let refused = expansion(None, wanted(least, Some(8))).unwrap_err();
            assert_eq!(refused.code(), tonic::Code::OutOfRange, "{refused}");
        }
    }
}
