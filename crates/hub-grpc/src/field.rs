//! The fields of a message, one by one, and what is wrong with one.

use std::collections::BTreeMap;

use cove_content::spec::{VolumeSpec, check_quota_bytes};
use cove_types::VolumeName;
pub(crate) use cove_unix_grpc::field::{
    FieldError, instant, message, optional, optional_instant, optional_message, optional_path,
    path, required, text, wire_instant, wire_path,
};

/// What is called as volumes and snapshots are; empty when there is none.
pub(crate) fn optional_name(field: &str, text: String) -> Result<Option<String>, FieldError> {
    let name: Option<VolumeName> = optional(field, &text)?;
    Ok(name.map(|_| text))
}

/// A quota that a volume can have.
pub(crate) fn quota(field: &str, bytes: u64) -> Result<u64, FieldError> {
    check_quota_bytes(bytes).map_err(|law| FieldError::unlawful(field, law))?;
    Ok(bytes)
}

/// Labels and parameters, by the law of the volume that would have them.
pub(crate) fn labels_and_parameters(
    name: Option<&VolumeName>,
    labels: &BTreeMap<String, String>,
    parameters: &BTreeMap<String, String>,
) -> Result<(), FieldError> {
    let unlawful = |field: &'static str| move |law| FieldError::unlawful(field, law);
    let only = VolumeSpec { parameters: parameters.clone(), ..VolumeSpec::default() };
    only.check().map_err(unlawful("parameters"))?;
    let all = VolumeSpec { name: name.cloned(), labels: labels.clone(), ..only };
    all.check().map_err(unlawful("labels"))
}
