//! Where a new volume begins, as what, and how large it may become.

use cove_content::spec::{QUOTA_BYTES, SpecSource, VolumeSpec};
use cove_content::volumes::{Moment, VolumeFilter};
use cove_types::{ErrorKind, NodeId, OperationId, VolumeId, escape_bytes};

use super::change::check_quota;
use super::{View, VolumeView, refused, shown, unavailable};
use crate::volume_hub::{CreateVolume, QuotaRange, TEMPLATE_LABEL, VolumeSource};
use crate::{HubError, parameters, request};

/// What becomes of a request for a volume.
#[derive(Debug, Clone, PartialEq)]
pub enum Create {
    /// It is there.
    Answer(VolumeId),
    /// It is to be made.
    Make(Box<New>),
}

/// A volume that is to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct New {
    /// Its id.
    pub volume: VolumeId,
    /// Where.
    pub node: NodeId,
    /// What is asked of it.
    pub spec: VolumeSpec,
    /// What it begins as; empty without.
    pub origin: Option<Origin>,
}

/// What a volume begins as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// A volume, of which this may be deleted but an entry.
    pub volume: VolumeId,
    /// Its state.
    pub moment: Moment,
    /// The operation under which its node forks it.
    pub operation: OperationId,
}

/// The volumes that [`create`] asks for.
#[must_use]
pub fn looked_for(wanted: &CreateVolume) -> VolumeFilter {
    let mut filter = VolumeFilter {
        ids: [request::volume_of(&wanted.operation)].into(),
        names: [wanted.name.to_string()].into(),
    };
    match &wanted.source {
        None => {}
        Some(VolumeSource::Volume(volume)) => drop(filter.ids.insert(volume.clone())),
        Some(VolumeSource::Snapshot(snapshot)) => drop(filter.ids.insert(snapshot.volume.clone())),
        Some(VolumeSource::Template(template)) => {
            filter.ids.extend(template.parse::<VolumeId>());
            filter.names.insert(template.clone());
        }
    }
    filter
}

/// Decides about a volume that is wanted.
///
/// The operation binds: what it made is the answer to the same request, whatever its size is now; whether another size
/// is asked for than was then, its node tells. Then the name binds: a live volume of it that was asked for alike is the
/// answer, even if what it began as is gone.
///
/// # Errors
///
/// [`HubError`].
pub fn create(view: &View, wanted: &CreateVolume) -> Result<Create, HubError> {
    parameters::check(&wanted.parameters)?;
    let spec = VolumeSpec {
        name: Some(wanted.name.clone()),
        labels: wanted.labels.clone(),
        parameters: wanted.parameters.clone(),
        asked: Some(request::asked(wanted)),
        stands_alone: true,
        ..VolumeSpec::default()
    };
    spec.check()?;
    let range = lawful(&wanted.quota)?;
    let volume = request::volume_of(&wanted.operation);
    if let Some(answer) = existing(view, wanted, &volume, &spec)? {
        return Ok(Create::Answer(answer));
    }
    view.check_whole(&format!("look for a volume called \"{}\"", shown(&wanted.name)))?;
    let source = wanted.source.as_ref().map(|source| resolve_source(view, source)).transpose()?;
    let quota_bytes = quota(&range, source.as_ref().map(|source| source.held))?;
    let node = match &source {
        Some(source) => place_beside(view, source, range.required_bytes)?,
        None => place(view, range.required_bytes)?,
    };
    let origin = source.as_ref().map(|source| Origin {
        volume: source.volume.clone(),
        moment: source.moment.clone(),
        operation: request::whole_of(&wanted.operation),
    });
    let spec = VolumeSpec { quota_bytes, source: source.map(|source| source.told), ..spec };
    spec.check()?;
    Ok(Create::Make(Box::new(New { volume, node, spec, origin })))
}

/// The volume that is the answer to a repetition.
fn existing(
    view: &View,
    wanted: &CreateVolume,
    made: &VolumeId,
    spec: &VolumeSpec,
) -> Result<Option<VolumeId>, HubError> {
    let of_operation = view.volumes.get(made);
    let is_same = |volume: &VolumeView| volume.spec.name == spec.name && is_alike(volume, spec);
    if of_operation.is_some_and(|volume| volume.is_live() && is_same(volume)) {
        return Ok(Some(made.clone()));
    }
    // a project may be called as a volume, and one may come back from the trash
    let named: Vec<_> = view.live_called(wanted.name.as_str()).collect();
    let differs = named.iter().map(|(_, volume)| difference(view, wanted, spec, volume));
    let differs: Vec<Option<&'static str>> = differs.collect();
    if let Some(alike) = differs.iter().position(Option::is_none) {
        return Ok(Some(named[alike].0.clone()));
    }
    match of_operation {
        Some(volume) if volume.is_live() => return Err(HubError::OtherRequest),
        // made, and in the trash or deleted since
        Some(_) => return Err(HubError::NoVolume { volume: made.clone() }),
        None => {}
    }
    match named.first().zip(differs.first()) {
        Some(((volume, _), Some(field))) => {
            Err(HubError::NameTaken { name: wanted.name.clone(), volume: (*volume).clone(), field })
        }
        _ => Ok(None),
    }
}

/// Whether a volume was asked for as is wanted now, but for name and size.
fn is_alike(volume: &VolumeView, spec: &VolumeSpec) -> bool {
    volume.spec.asked.is_some() && volume.spec.asked == spec.asked
}

/// In which field a volume was made otherwise than is wanted; none when it was made alike.
fn difference(
    view: &View,
    wanted: &CreateVolume,
    spec: &VolumeSpec,
    volume: &VolumeView,
) -> Option<&'static str> {
    if is_alike(volume, spec) {
        return (!is_within(&wanted.quota, volume.spec.quota_bytes)).then_some("quota");
    }
    // The hash says that something differs; what, is told by what can be seen, as far as it can.
    let source = wanted.source.as_ref().map(|source| match source {
        VolumeSource::Template(_) => resolve_source(view, source).ok().map(|source| source.told),
        VolumeSource::Volume(volume) => Some(SpecSource::Volume(volume.clone())),
        VolumeSource::Snapshot(id) => Some(SpecSource::Snapshot(id.volume.clone(), id.entry)),
    });
    Some(match source.flatten() {
        source if source != volume.spec.source => "source",
        _ if wanted.labels != volume.spec.labels => "set of labels",
        _ if wanted.parameters != volume.spec.parameters => "set of parameters",
        _ => "request",
    })
}

/// What a new volume begins as.
struct Resolved<'a> {
    of: &'a VolumeView,
    volume: &'a VolumeId,
    moment: Moment,
    told: SpecSource,
    held: Held,
}

/// What holds a source for sure, and what its volume may hold by now.
#[derive(Debug, Clone, Copy)]
struct Held {
    needs_bytes: u64,
    quota_bytes: Option<u64>,
}

/// What holds the present state of a volume: as much as it may hold is always enough, since the file system packs what
/// the sizes only add up.
fn needs_now(volume: &VolumeView) -> u64 {
    volume.held_bytes.min(volume.spec.quota_bytes.unwrap_or(u64::MAX))
}

fn resolve_source<'a>(view: &'a View, source: &'a VolumeSource) -> Result<Resolved<'a>, HubError> {
    let now = |volume: &'a VolumeId, of: &'a VolumeView| Resolved {
        of,
        volume,
        moment: Moment::Now,
        told: SpecSource::Volume(volume.clone()),
        held: Held { needs_bytes: needs_now(of), quota_bytes: of.spec.quota_bytes },
    };
    match source {
        VolumeSource::Volume(volume) => Ok(now(volume, view.get_live(volume)?)),
        VolumeSource::Snapshot(id) => {
            let (of, snapshot) = view.get_snapshot(id)?;
            // what was captured just now is about what the volume holds
            let needs_bytes = snapshot.needs_bytes.unwrap_or(of.held_bytes);
            Ok(Resolved {
                of,
                volume: &id.volume,
                moment: Moment::Entry(id.entry),
                told: SpecSource::Snapshot(id.volume.clone(), id.entry),
                held: Held { needs_bytes, quota_bytes: of.spec.quota_bytes },
            })
        }
        VolumeSource::Template(name) => {
            let is_template = |volume: &VolumeView| {
                volume.is_live()
                    && volume.spec.labels.get(TEMPLATE_LABEL).is_some_and(|value| value == "true")
            };
            let by_id = view.volumes.iter().find(|(id, _)| id.as_str() == name);
            let found =
                by_id.into_iter().chain(view.live_called(name)).find(|(_, v)| is_template(v));
            let (id, of) = found
                .ok_or_else(|| HubError::NoTemplate { name: escape_bytes(name.as_bytes()) })?;
            Ok(now(id, of))
        }
    }
}

/// Whether a volume is as large as is wanted. One without a quota is larger than anything.
fn is_within(range: &QuotaRange, quota_bytes: Option<u64>) -> bool {
    let least = range.required_bytes.is_none_or(|least| quota_bytes.is_none_or(|is| is >= least));
    let most = range.limit_bytes.is_none_or(|most| quota_bytes.is_some_and(|is| is <= most));
    least && most
}

/// The part of a range that volumes can have.
fn lawful(range: &QuotaRange) -> Result<QuotaRange, HubError> {
    let QuotaRange { required_bytes, limit_bytes } = *range;
    if let Some((required, limit)) = required_bytes.zip(limit_bytes).filter(|(r, l)| r > l) {
        let what =
            format!("a quota of at least {required} bytes is more than the limit of {limit} bytes");
        return Err(HubError::QuotaOutOfRange { what });
    }
    let (least, most) = (*QUOTA_BYTES.start(), *QUOTA_BYTES.end());
    let below = limit_bytes.filter(|limit| *limit < least);
    let above = required_bytes.filter(|required| *required > most);
    below.or(above).map_or(Ok(()), check_quota)?;
    Ok(QuotaRange {
        required_bytes: required_bytes.map(|required| required.max(least)),
        limit_bytes: limit_bytes.map(|limit| limit.min(most)),
    })
}

/// The quota of a new volume: what is required, else the source's as far as the limit allows, else the limit.
///
/// `range` is [lawful]. It has to hold what the source holds.
fn quota(range: &QuotaRange, source: Option<Held>) -> Result<Option<u64>, HubError> {
    let inherited = source.and_then(|source| source.quota_bytes);
    let within = |bytes: u64| range.limit_bytes.map_or(bytes, |limit| bytes.min(limit));
    let chosen = range.required_bytes.or(inherited.map(within)).or(range.limit_bytes);
    let Some(bytes) = chosen else { return Ok(None) };
    let Some(source) = source else { return Ok(Some(bytes)) };
    match bytes >= source.needs_bytes {
        true => Ok(Some(bytes)),
        false => Err(HubError::QuotaOutOfRange {
            what: format!(
                "a quota of {bytes} bytes does not hold the {} bytes that the volume begins with",
                source.needs_bytes
            ),
        }),
    }
}

/// The node for an empty volume: the one with the most room of those that answer; of equals, the first. A volume
/// that no node has room for is not made, although nothing is kept free for it afterwards.
fn place(view: &View, required_bytes: Option<u64>) -> Result<NodeId, HubError> {
    let mut best: Option<(u64, &NodeId)> = None;
    for node in view.nodes.iter().filter(|node| node.answers) {
        if let Some(free) = node.free_bytes.filter(|free| best.is_none_or(|(most, _)| *free > most))
        {
            best = Some((free, &node.node));
        }
    }
    let what = "place the volume";
    let (free, node) = best.ok_or_else(|| unavailable(what, "no node says what room it has"))?;
    let least = required_bytes.unwrap_or(0).max(1);
    if free >= least {
        return Ok(node.clone());
    }
    let why = format!("no node has {least} bytes free: the most are {free} bytes");
    Err(refused(ErrorKind::Exhausted, what, why))
}

/// The node for a volume that begins as another: its source's, when that has room for what may be written beside what
/// the two share. Nothing is kept free for it afterwards, either.
fn place_beside(
    view: &View,
    source: &Resolved<'_>,
    required_bytes: Option<u64>,
) -> Result<NodeId, HubError> {
    let node = &source.of.node;
    let least = required_bytes.unwrap_or(0).saturating_sub(source.held.needs_bytes);
    if least == 0 {
        return Ok(node.clone());
    }
    let what = "place the volume";
    let free = view.nodes.iter().find(|view| view.node == *node).and_then(|view| view.free_bytes);
    let free = free
        .ok_or_else(|| unavailable(what, format!("node {node} does not say what room it has")))?;
    if free >= least {
        return Ok(node.clone());
    }
    let why = format!(
        "it needs {least} bytes beside what it shares with its source, and node {node} has {free} bytes free"
    );
    Err(refused(ErrorKind::Exhausted, what, why))
}
