//! The fields of a message that only this wire has.

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use bytes::Bytes;
use cove_content::document::ProjectDocument;
use cove_content::spec::VolumeSpec;
use cove_content::volumes::Moment;
use cove_types::TreePath;
pub(crate) use cove_unix_grpc::field::{
    FieldError, message, optional, optional_instant, required, wire_instant,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A value that has to be there, as JSON and nothing else.
pub(crate) fn json<T: DeserializeOwned>(field: &str, bytes: &Bytes) -> Result<T, FieldError> {
    optional_json(field, bytes)?.ok_or_else(|| FieldError::missing(field))
}

/// A value as JSON; empty when there is none.
pub(crate) fn optional_json<T: DeserializeOwned>(
    field: &str,
    bytes: &Bytes,
) -> Result<Option<T>, FieldError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(bytes).map(Some).map_err(|law| FieldError::unlawful(field, law))
}

/// Values as JSON, each in a field of its own.
pub(crate) fn each_json<T: DeserializeOwned>(
    field: &str,
    values: &[Bytes],
) -> Result<Vec<T>, FieldError> {
    values.iter().map(|bytes| json(field, bytes)).collect()
}

/// A value as the wire has it.
pub(crate) fn wire_json(field: &str, value: &impl Serialize) -> Result<Bytes, FieldError> {
    let json = serde_json::to_vec(value).map_err(|law| FieldError::unlawful(field, law))?;
    Ok(json.into())
}

/// A list as the wire has it; empty when it is.
pub(crate) fn wire_list(field: &str, list: &[impl Serialize]) -> Result<Bytes, FieldError> {
    if list.is_empty() { Ok(Bytes::new()) } else { wire_json(field, &list) }
}

/// A project document that has to be there, in its canonical form.
pub(crate) fn document(bytes: &Bytes) -> Result<ProjectDocument, FieldError> {
    optional_document(bytes)?.ok_or_else(|| FieldError::missing("document_json"))
}

/// A project document; empty when there is none.
pub(crate) fn optional_document(bytes: &Bytes) -> Result<Option<ProjectDocument>, FieldError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let parsed = ProjectDocument::decode(bytes).map(Some);
    parsed.map_err(|law| FieldError::unlawful("document_json", law))
}

/// What is asked of a volume; empty when nothing is.
pub(crate) fn spec(bytes: &Bytes) -> Result<VolumeSpec, FieldError> {
    optional_json("spec_json", bytes).map(Option::unwrap_or_default)
}

/// What is asked of a volume, as the wire has it.
pub(crate) fn wire_spec(spec: &VolumeSpec) -> Bytes {
    if spec.is_empty() { Bytes::new() } else { spec.encode().into() }
}

/// A path of a project; empty: its root.
pub(crate) fn tree_path(field: &str, bytes: &Bytes) -> Result<TreePath, FieldError> {
    TreePath::from_bytes(bytes).map_err(|law| FieldError::unlawful(field, law))
}

/// A path as the wire has it.
pub(crate) fn wire_tree_path(path: &TreePath) -> Bytes {
    Bytes::copy_from_slice(path.as_bytes())
}

/// An absolute directory; empty when there is none.
pub(crate) fn optional_directory(
    field: &str,
    bytes: &Bytes,
) -> Result<Option<PathBuf>, FieldError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let path = PathBuf::from(OsStr::from_bytes(bytes));
    if path.is_absolute() && !bytes.contains(&0) {
        return Ok(Some(path));
    }
    Err(FieldError::unlawful(field, "a directory is absolute"))
}

/// A directory as the wire has it.
pub(crate) fn wire_directory(path: PathBuf) -> Bytes {
    path.into_os_string().into_vec().into()
}

/// A moment as the text of its entry; empty: the present state.
pub(crate) fn moment(field: &str, entry: &str) -> Result<Moment, FieldError> {
    let entry = optional(field, entry)?;
    Ok(entry.map_or(Moment::Now, Moment::Entry))
}

/// A moment as the wire has it.
pub(crate) fn wire_moment(moment: &Moment) -> String {
    match moment {
        Moment::Now => String::new(),
        Moment::Entry(entry) => entry.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_all_of_its_field_and_of_its_type() {
        for (text, told) in [
            (&b""[..], "field \"n_json\" is missing"),
            (b"1 2", "trailing characters"),
            (b"\"x\"", "invalid type"),
            (b"\xff", "expected value"),
        ] {
            let error = json::<u32>("n_json", &Bytes::copy_from_slice(text)).unwrap_err();
            assert!(error.to_string().contains(told), "{error}");
        }
        assert_eq!(json::<u32>("n_json", &Bytes::from_static(b"7")).unwrap(), 7);
    }

    #[test]
    fn a_directory_is_absolute_and_may_be_no_text() {
        let directory =
            |bytes: &'static [u8]| optional_directory("path", &Bytes::from_static(bytes));
        assert!(directory(b"volumes/x").is_err() && directory(b"/a\0b").is_err());
        assert_eq!(directory(b"").unwrap(), None);
        let path = directory(b"/pool/\xff").unwrap().unwrap();
        assert_eq!(&wire_directory(path)[..], b"/pool/\xff");
    }
}
