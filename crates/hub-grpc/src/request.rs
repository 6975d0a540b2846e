//! Requests: of the wire into those of the domain, and back.

use std::num::NonZeroU32;

use cove_content::spec::{SERVICE_LAW, check_quota_bytes, is_service};
use cove_hub::volume_hub::{
    CreateVolume, EnsureCached, GROUP_MAX, ModifyVolume, PageRequest, QuotaRange, Resolve,
    RestoreVolume, SnapshotFilter, SnapshotVolumes, VolumeSource,
};
use cove_types::{NodeId, OperationId, ParseError, SnapshotId, VolumeId, VolumeName};

use crate::field::{
    FieldError, labels_and_parameters, optional, optional_message, optional_name, quota, required,
};
use crate::pb;

/// The most items of a page: of volumes as large as they can be with paths of usual length, so many stay within
/// the 4 MiB that clients of gRPC take without being told otherwise.
pub(crate) const PAGE_MAX: u32 = 1000;

impl TryFrom<pb::Source> for VolumeSource {
    type Error = FieldError;

    fn try_from(source: pb::Source) -> Result<Self, FieldError> {
        use pb::source::Source;
        Ok(match source.source {
            None => return Err(FieldError::missing("source")),
            Some(Source::Template(name)) => {
                let name: VolumeName = required("template", &name)?;
                Self::Template(name.as_str().to_owned())
            }
            Some(Source::Volume(id)) => Self::Volume(required("volume", &id)?),
            Some(Source::Snapshot(id)) => Self::Snapshot(required("snapshot", &id)?),
        })
    }
}

impl From<VolumeSource> for pb::Source {
    fn from(source: VolumeSource) -> Self {
        use pb::source::Source;
        let source = match source {
            VolumeSource::Template(name) => Source::Template(name),
            VolumeSource::Volume(id) => Source::Volume(id.to_string()),
            VolumeSource::Snapshot(id) => Source::Snapshot(id.to_string()),
        };
        Self { source: Some(source) }
    }
}

impl From<pb::QuotaRange> for QuotaRange {
    /// Whether there is a quota in it is for the Hub to say.
    fn from(range: pb::QuotaRange) -> Self {
        let pb::QuotaRange { required_bytes, limit_bytes } = range;
        Self { required_bytes, limit_bytes }
    }
}

impl TryFrom<pb::CreateVolumeRequest> for CreateVolume {
    type Error = FieldError;

    fn try_from(request: pb::CreateVolumeRequest) -> Result<Self, FieldError> {
        use pb::create_volume_request::Quota;
        let name = required("name", &request.name)?;
        let operation = required("op_id", &request.op_id)?;
        let source = optional_message("source", request.source)?;
        let quota = match request.quota {
            None => QuotaRange::default(),
            Some(Quota::QuotaBytes(bytes)) => QuotaRange::exact(Some(quota("quota_bytes", bytes)?)),
            Some(Quota::QuotaRange(range)) => range.into(),
        };
        let pb::CreateVolumeRequest { labels, parameters, wait_saved, .. } = request;
        labels_and_parameters(Some(&name), &labels, &parameters)?;
        Ok(Self { name, operation, source, quota, labels, parameters, wait_saved })
    }
}

impl From<CreateVolume> for pb::CreateVolumeRequest {
    /// The quota is a range always: whether it is one that a volume can have is for the Hub to say, in its words.
    fn from(request: CreateVolume) -> Self {
        use pb::create_volume_request::Quota;
        let QuotaRange { required_bytes, limit_bytes } = request.quota;
        let is_open = request.quota == QuotaRange::default();
        let range = pb::QuotaRange { required_bytes, limit_bytes };
        Self {
            name: request.name.to_string(),
            op_id: request.operation.to_string(),
            source: request.source.map(Into::into),
            quota: (!is_open).then_some(Quota::QuotaRange(range)),
            labels: request.labels,
            parameters: request.parameters,
            wait_saved: request.wait_saved,
        }
    }
}

impl TryFrom<pb::ForkVolumeRequest> for CreateVolume {
    type Error = FieldError;

    fn try_from(request: pb::ForkVolumeRequest) -> Result<Self, FieldError> {
        let volume: VolumeId = required("volume", &request.volume)?;
        let source = match optional::<SnapshotId>("snapshot", &request.snapshot)? {
            None => VolumeSource::Volume(volume),
            Some(snapshot) if snapshot.volume == volume => VolumeSource::Snapshot(snapshot),
            Some(snapshot) => {
                let law = format!("snapshot {snapshot} is not of volume {volume}");
                return Err(FieldError::unlawful("snapshot", law));
            }
        };
        let name = required("name", &request.name)?;
        let operation = required("op_id", &request.op_id)?;
        let bytes = request.quota_bytes.map(|bytes| quota("quota_bytes", bytes)).transpose()?;
        let pb::ForkVolumeRequest { labels, wait_saved, .. } = request;
        let parameters = std::collections::BTreeMap::new();
        labels_and_parameters(Some(&name), &labels, &parameters)?;
        let (source, quota) = (Some(source), QuotaRange::exact(bytes));
        Ok(Self { name, operation, source, quota, labels, parameters, wait_saved })
    }
}

impl TryFrom<pb::ModifyVolumeRequest> for ModifyVolume {
    type Error = FieldError;

    fn try_from(request: pb::ModifyVolumeRequest) -> Result<Self, FieldError> {
        let volume = required("volume", &request.volume)?;
        let operation = required("op_id", &request.op_id)?;
        let quota_bytes = match request.quota_bytes {
            None => None,
            Some(0) => Some(None),
            Some(bytes) => Some(Some(quota("quota_bytes", bytes)?)),
        };
        let pb::ModifyVolumeRequest { labels, set_labels, parameters, .. } = request;
        labels_and_parameters(None, &labels, &parameters)?;
        if !set_labels && !labels.is_empty() {
            return Err(FieldError::unlawful(
                "labels",
                "there are some, and set_labels is not set",
            ));
        }
        let labels = set_labels.then_some(labels);
        Ok(Self { volume, operation, quota_bytes, labels, parameters })
    }
}

impl TryFrom<ModifyVolume> for pb::ModifyVolumeRequest {
    type Error = ParseError;

    /// Zero means on the wire that nothing limits it, so that a quota of 0 bytes ends here.
    fn try_from(request: ModifyVolume) -> Result<Self, ParseError> {
        if request.quota_bytes == Some(Some(0)) {
            check_quota_bytes(0)?;
        }
        Ok(Self {
            volume: request.volume.to_string(),
            op_id: request.operation.to_string(),
            quota_bytes: request.quota_bytes.map(Option::unwrap_or_default),
            set_labels: request.labels.is_some(),
            labels: request.labels.unwrap_or_default(),
            parameters: request.parameters,
        })
    }
}

impl TryFrom<pb::EnsureCachedRequest> for EnsureCached {
    type Error = FieldError;

    fn try_from(request: pb::EnsureCachedRequest) -> Result<Self, FieldError> {
        let candidates = request.candidates.iter();
        Ok(Self {
            volume: required("volume", &request.volume)?,
            candidates: candidates
                .map(|node| required::<NodeId>("candidates", node))
                .collect::<Result<_, _>>()?,
            budget_bytes: request.budget_bytes,
        })
    }
}

impl From<EnsureCached> for pb::EnsureCachedRequest {
    fn from(request: EnsureCached) -> Self {
        Self {
            volume: request.volume.to_string(),
            candidates: request.candidates.iter().map(ToString::to_string).collect(),
            budget_bytes: request.budget_bytes,
        }
    }
}

impl TryFrom<pb::SnapshotRequest> for SnapshotVolumes {
    type Error = FieldError;

    fn try_from(request: pb::SnapshotRequest) -> Result<Self, FieldError> {
        let ids = request.volumes.iter();
        let volumes: Vec<VolumeId> =
            ids.map(|id| required("volumes", id)).collect::<Result<_, _>>()?;
        if volumes.is_empty() {
            return Err(FieldError::missing("volumes"));
        }
        if volumes.len() > GROUP_MAX {
            let law = format!("there are 1 to {GROUP_MAX} volumes, found {}", volumes.len());
            return Err(FieldError::unlawful("volumes", law));
        }
        let mut seen = std::collections::BTreeSet::new();
        if let Some(twice) = volumes.iter().find(|id| !seen.insert(*id)) {
            let law = format!("volume {twice} is there more than once");
            return Err(FieldError::unlawful("volumes", law));
        }
        Ok(Self {
            name: required("name", &request.name)?,
            is_group: request.is_group.unwrap_or(volumes.len() > 1),
            operation: required("op_id", &request.op_id)?,
            wait_saved: request.wait_saved,
            volumes,
        })
    }
}

impl From<SnapshotVolumes> for pb::SnapshotRequest {
    fn from(request: SnapshotVolumes) -> Self {
        Self {
            volumes: request.volumes.iter().map(ToString::to_string).collect(),
            name: request.name.to_string(),
            op_id: request.operation.to_string(),
            is_group: Some(request.is_group),
            wait_saved: request.wait_saved,
        }
    }
}

/// The page that a request asks for.
pub(crate) fn page(size: u32, token: String) -> Result<PageRequest, FieldError> {
    if size > PAGE_MAX {
        let law = format!("a page has 1 to {PAGE_MAX} items, or as many when 0, found {size}");
        return Err(FieldError::unlawful("page_size", law));
    }
    let size = NonZeroU32::new(size).map_or(PAGE_MAX, NonZeroU32::get);
    Ok(PageRequest { size, token })
}

/// What a request to list snapshots asks for.
pub(crate) fn list_snapshots(
    request: pb::ListSnapshotsRequest,
) -> Result<(SnapshotFilter, PageRequest), FieldError> {
    let filter = SnapshotFilter {
        volume: optional("volume", &request.volume)?,
        snapshot: optional("snapshot", &request.snapshot)?,
        name: optional_name("name", request.name)?,
        only_named: request.only_named,
        group: optional_name("group", request.group)?,
    };
    Ok((filter, page(request.page_size, request.page_token)?))
}

/// The wire's words for a filter. Empty is no filter on the wire, so that an empty name or group ends here.
pub(crate) fn wire_list_snapshots(
    filter: SnapshotFilter,
    page: PageRequest,
) -> Result<pb::ListSnapshotsRequest, ParseError> {
    let text = |text: Option<String>| match text {
        Some(empty) if empty.is_empty() => {
            Err(ParseError("a name has 1 to 128 bytes, found 0".into()))
        }
        text => Ok(text.unwrap_or_default()),
    };
    Ok(pb::ListSnapshotsRequest {
        volume: filter.volume.map(|id| id.to_string()).unwrap_or_default(),
        snapshot: filter.snapshot.map(|id| id.to_string()).unwrap_or_default(),
        name: text(filter.name)?,
        only_named: filter.only_named,
        group: text(filter.group)?,
        page_size: page.size,
        page_token: page.token,
    })
}

impl TryFrom<pb::RestoreVolumeRequest> for RestoreVolume {
    type Error = FieldError;

    fn try_from(request: pb::RestoreVolumeRequest) -> Result<Self, FieldError> {
        Ok(Self {
            volume: required("volume", &request.volume)?,
            snapshot: required("snapshot", &request.snapshot)?,
            operation: required("op_id", &request.op_id)?,
            force: request.force,
            wait_saved: request.wait_saved,
        })
    }
}

impl From<RestoreVolume> for pb::RestoreVolumeRequest {
    fn from(request: RestoreVolume) -> Self {
        Self {
            volume: request.volume.to_string(),
            snapshot: request.snapshot.to_string(),
            op_id: request.operation.to_string(),
            force: request.force,
            wait_saved: request.wait_saved,
        }
    }
}

impl TryFrom<pb::ResolveVolumeRequest> for Resolve {
    type Error = FieldError;

    fn try_from(request: pb::ResolveVolumeRequest) -> Result<Self, FieldError> {
        use pb::resolve_volume_request::What;
        match request.what {
            None => Err(FieldError::missing("what")),
            Some(What::Name(name)) => {
                let name = optional_name("name", name)?;
                name.map(Self::Name).ok_or_else(|| FieldError::missing("name"))
            }
            Some(What::Project(slug)) => Ok(Self::Project(required("project", &slug)?)),
        }
    }
}

impl From<Resolve> for pb::ResolveVolumeRequest {
    fn from(what: Resolve) -> Self {
        use pb::resolve_volume_request::What;
        let what = match what {
            Resolve::Name(name) => What::Name(name),
            Resolve::Project(slug) => What::Project(slug.to_string()),
        };
        Self { what: Some(what) }
    }
}

/// What a service is called.
pub(crate) fn service(name: String) -> Result<String, FieldError> {
    if name.is_empty() {
        return Err(FieldError::missing("service"));
    }
    match is_service(&name) {
        true => Ok(name),
        false => Err(FieldError::unlawful("service", SERVICE_LAW)),
    }
}

/// A volume and an operation, as several requests have them.
pub(crate) fn volume_operation(
    volume: &str,
    op_id: &str,
) -> Result<(VolumeId, OperationId), FieldError> {
    Ok((required("volume", volume)?, required("op_id", op_id)?))
}
