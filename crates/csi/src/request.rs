//! Fields of requests, as what they mean.

use std::collections::{BTreeMap, HashMap};

use cove_content::spec::{LABEL_BYTES_MAX, QUOTA_BYTES};
use cove_hub::volume_hub::{QuotaRange, VolumeSource};
use cove_types::{NodeId, SnapshotId, VolumeId, VolumeName};

use crate::proto as pb;
use crate::proto::volume_content_source::Type as Source;
use crate::status::{CallError, excerpt};

/// The topology key whose value is the node that has a volume's files.
pub const TOPOLOGY_NODE: &str = "topology.cove.csi.storage/node";

/// How the keys begin by which Kubernetes' sidecars tell what a thing is for.
const KUBERNETES: &str = "csi.storage.k8s.io/";

/// The most bytes of labels that a request brings along: with them there is room for those that are set later.
const BROUGHT_LABELS_BYTES_MAX: usize = 512;

/// What is said in a field that has to say something.
pub(crate) fn required<'a>(field: &'static str, text: &'a str) -> Result<&'a str, CallError> {
    if text.is_empty() { Err(CallError::Missing { field }) } else { Ok(text) }
}

/// The volume that a call is about: a malformed id is that of no volume.
pub(crate) fn volume_id(field: &'static str, text: &str) -> Result<VolumeId, CallError> {
    required(field, text)?.parse().map_err(|_| CallError::no_volume(text))
}

/// The snapshot that a call is about: a malformed id is that of no snapshot.
pub(crate) fn snapshot_id(field: &'static str, text: &str) -> Result<SnapshotId, CallError> {
    required(field, text)?.parse().map_err(|_| CallError::no_snapshot(text))
}

/// The node that a call is about: a malformed id is that of no node.
pub(crate) fn node_id(field: &'static str, text: &str) -> Result<NodeId, CallError> {
    let unknown = |_| CallError::Unknown { what: format!("node \"{}\"", excerpt(text)) };
    required(field, text)?.parse().map_err(unknown)
}

/// What a thing is to be called.
pub(crate) fn name(text: &str) -> Result<VolumeName, CallError> {
    let field = "name";
    required(field, text)?
        .parse()
        .map_err(|error| CallError::Invalid { field, why: format!("{error}") })
}

/// What a volume begins as; nothing when it begins empty.
pub(crate) fn source(
    source: Option<&pb::VolumeContentSource>,
) -> Result<Option<VolumeSource>, CallError> {
    let Some(source) = source else { return Ok(None) };
    match &source.r#type {
        None => Err(CallError::Missing { field: "volume_content_source.type" }),
        Some(Source::Snapshot(snapshot)) => {
            let field = "volume_content_source.snapshot.snapshot_id";
            Ok(Some(VolumeSource::Snapshot(snapshot_id(field, &snapshot.snapshot_id)?)))
        }
        Some(Source::Volume(volume)) => {
            let field = "volume_content_source.volume.volume_id";
            Ok(Some(VolumeSource::Volume(volume_id(field, &volume.volume_id)?)))
        }
    }
}

/// How large a volume is to be. One of less than a volume can have is one of the least.
pub(crate) fn quota_range(range: &pb::CapacityRange) -> Result<QuotaRange, CallError> {
    let field = "capacity_range";
    let invalid = |why: &str| CallError::Invalid { field, why: why.to_owned() };
    let out_of_range = |bytes: u64| CallError::OutOfRange {
        what: format!("a volume has 1 MiB to 1 EiB, found {bytes} bytes"),
    };
    let bytes = |bytes: i64| {
        let unsigned = u64::try_from(bytes).map_err(|_| invalid("a capacity is not negative"))?;
        Ok::<_, CallError>(Some(unsigned).filter(|bytes| *bytes > 0))
    };
    let (least, most) = (bytes(range.required_bytes)?, bytes(range.limit_bytes)?);
    if least.is_none() && most.is_none() {
        return Err(CallError::Missing { field: "capacity_range.required_bytes" });
    }
    if let (Some(least), Some(most)) = (least, most)
        && least > most
    {
        return Err(invalid("required_bytes is more than limit_bytes"));
    }
    if let Some(bytes) = most.filter(|bytes| bytes < QUOTA_BYTES.start()) {
        return Err(out_of_range(bytes));
    }
    if let Some(bytes) = least.filter(|bytes| bytes > QUOTA_BYTES.end()) {
        return Err(out_of_range(bytes));
    }
    Ok(QuotaRange {
        required_bytes: least.map(|bytes| bytes.max(*QUOTA_BYTES.start())),
        limit_bytes: most.map(|bytes| bytes.min(*QUOTA_BYTES.end())),
    })
}

/// What becomes a volume's labels of parameters that cannot change: what Kubernetes tells, as far as it fits.
pub(crate) fn labels(
    parameters: &HashMap<String, String>,
) -> Result<BTreeMap<String, String>, CallError> {
    let mut labels = BTreeMap::new();
    let mut bytes = 0;
    let ordered: BTreeMap<&String, &String> = parameters.iter().collect();
    for (key, value) in ordered {
        if !key.starts_with(KUBERNETES) {
            let why = format!("\"{}\" is no parameter of a volume", excerpt(key));
            return Err(CallError::Invalid { field: "parameters", why });
        }
        let is_label = [key, value].iter().all(|text| {
            (1..=LABEL_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
        });
        if is_label && bytes + key.len() + value.len() <= BROUGHT_LABELS_BYTES_MAX {
            bytes += key.len() + value.len();
            labels.insert(key.clone(), value.clone());
        }
    }
    Ok(labels)
}

/// The parameters that can change.
pub(crate) fn mutable_parameters(
    parameters: &HashMap<String, String>,
) -> Result<BTreeMap<String, String>, CallError> {
    let known = parameters.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    cove_hub::check_parameters(&known)
        .map_err(|law| CallError::Invalid { field: "mutable_parameters", why: law.to_string() })?;
    Ok(known)
}

/// Where the files of volumes on a node are reached.
pub(crate) fn topology(node: &NodeId) -> pb::Topology {
    pb::Topology { segments: HashMap::from([(TOPOLOGY_NODE.to_owned(), node.to_string())]) }
}

/// Whether a volume on `node` is reached from where it is asked for.
pub(crate) fn is_reached(node: &NodeId, wanted: Option<&pb::TopologyRequirement>) -> bool {
    let Some(wanted) = wanted else { return true };
    let mut places = wanted.requisite.iter().chain(&wanted.preferred).peekable();
    places.peek().is_none() || places.any(|place| *place == topology(node))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: i64 = 1 << 20;

    fn range(required_bytes: i64, limit_bytes: i64) -> Result<(u64, u64), String> {
        let range = quota_range(&pb::CapacityRange { required_bytes, limit_bytes });
        let of = |bytes: Option<u64>| bytes.unwrap_or(0);
        range
            .map(|range| (of(range.required_bytes), of(range.limit_bytes)))
            .map_err(|error| format!("{:?}", error.code()))
    }

    #[test]
    fn a_size_is_exactly_what_is_asked_for() {
        assert_eq!(range(MIB + 1, 0), Ok((MIB as u64 + 1, 0)));
        assert_eq!(range(0, 5 * MIB), Ok((0, 5 * MIB as u64)));
        assert_eq!(range(2 * MIB, 2 * MIB), Ok((2 * MIB as u64, 2 * MIB as u64)));
    }

    #[test]
    fn at_least_a_little_is_the_least_that_there_is() {
        assert_eq!(range(1, 0), Ok((MIB as u64, 0)));
        assert_eq!(range(1, 2 * MIB), Ok((MIB as u64, 2 * MIB as u64)));
    }

    #[test]
    fn sizes_that_no_volume_has_are_out_of_range() {
        assert_eq!(range(1, MIB - 1), Err("OutOfRange".into()));
        assert_eq!(range(i64::MAX, 0), Err("OutOfRange".into()));
    }

    #[test]
    fn a_size_that_says_nothing_or_contradicts_itself_is_invalid() {
        for (required, limit) in [(0, 0), (-1, 0), (0, -1), (2 * MIB, MIB)] {
            assert_eq!(range(required, limit), Err("InvalidArgument".into()));
        }
    }

    fn map(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_kubernetes_tells_becomes_labels_as_far_as_it_fits() {
        let long = "n".repeat(64);
        let told = map(&[
            ("csi.storage.k8s.io/pvc/name", "data"),
            ("csi.storage.k8s.io/pvc/namespace", &long),
            ("csi.storage.k8s.io/pv/name", "a\nb"),
        ]);
        let labels = labels(&told).unwrap();
        assert_eq!(
            labels.into_iter().collect::<Vec<_>>(),
            [("csi.storage.k8s.io/pvc/name".to_owned(), "data".to_owned())]
        );
        let many: HashMap<String, String> = (0..40)
            .map(|number| (format!("csi.storage.k8s.io/{number:02}"), "v".repeat(60)))
            .collect();
        assert_eq!(super::labels(&many).unwrap().len(), 6);
        let refused = super::labels(&map(&[("tier", "hot")])).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "field \"parameters\": \"tier\" is no parameter of a volume"
        );
    }

    #[test]
    fn parameters_that_can_change_are_two_numbers() {
        let lawful = map(&[("storingInterval", "60"), ("retention", "200")]);
        let known = mutable_parameters(&lawful).unwrap();
        assert_eq!((known["storingInterval"].as_str(), known["retention"].as_str()), ("60", "200"));
        for (key, value) in [
            ("storingInterval", "0"),
            ("storingInterval", "86401"),
            ("storingInterval", "060"),
            ("retention", "+5"),
            ("retention", "x"),
            ("x", "1"),
        ] {
            let refused = mutable_parameters(&map(&[(key, value)])).unwrap_err();
            assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{refused}");
        }
    }

    #[test]
    fn a_volume_is_reached_from_its_node() {
        let node = |name: &str| topology(&name.parse().unwrap());
        let wanted = |requisite: &[&str], preferred: &[&str]| pb::TopologyRequirement {
            requisite: requisite.iter().map(|name| node(name)).collect(),
            preferred: preferred.iter().map(|name| node(name)).collect(),
        };
        let a: NodeId = "a".parse().unwrap();
        assert!(is_reached(&a, None));
        assert!(is_reached(&a, Some(&wanted(&[], &[]))));
        assert!(is_reached(&a, Some(&wanted(&["b", "a"], &["b"]))));
        assert!(is_reached(&a, Some(&wanted(&[], &["a"]))));
        assert!(!is_reached(&a, Some(&wanted(&["b"], &["b"]))));
        let nowhere = pb::TopologyRequirement {
            requisite: vec![pb::Topology::default()],
            preferred: Vec::new(),
        };
        assert!(!is_reached(&a, Some(&nowhere)));
    }

    #[test]
    fn a_malformed_id_names_nothing_and_an_empty_one_is_missing() {
        use tonic::Code::{InvalidArgument, NotFound};
        let code = |error: CallError| error.code();
        assert_eq!(volume_id("volume_id", "").map_err(code), Err(InvalidArgument));
        assert_eq!(volume_id("volume_id", "No/such").map_err(code), Err(NotFound));
        assert_eq!(snapshot_id("snapshot_id", "none").map_err(code), Err(NotFound));
        assert_eq!(node_id("node_id", "N").map_err(code), Err(NotFound));
        assert!(name(&"x".repeat(128)).is_ok());
        assert_eq!(name(&"x".repeat(129)).map_err(code), Err(InvalidArgument));
    }
}
