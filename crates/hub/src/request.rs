//! What follows from a request alone: its hash, its calls and the ids that it makes.

use cove_content::head::RequestHash;
use cove_content::json::canonical;
use cove_content::volumes::{Call, Progress};
use cove_types::{OperationId, VolumeId, VolumeName, escape_bytes, unescape_text};
use serde_json::{Value, json};

use crate::volume_hub::{CreateVolume, VolumeSource};

/// Who the Hub is to nodes.
pub(crate) const PRINCIPAL: &str = "hub";

/// The volume that an operation makes.
pub(crate) fn volume_of(operation: &OperationId) -> VolumeId {
    VolumeId::derive(PRINCIPAL, operation, 0)
}

/// The group that an operation makes.
pub(crate) fn group_of(operation: &OperationId) -> String {
    let volume = VolumeId::derive("hub group", operation, 0);
    volume.as_str().replacen("vol-", "grp-", 1)
}

/// The operation under which a node does the part of `operation` that is one volume's, where it does
/// [all of it](whole_of) with another volume's.
pub(crate) fn part_of(operation: &OperationId, volume: &VolumeId) -> OperationId {
    let mut random = [0; 12];
    random.copy_from_slice(&operation.step(volume.as_str()).0[4..]);
    OperationId::new(u32::MAX, random)
}

/// The operation under which a node does what `operation` asks: that itself, but for a caller that has seen no head, as
/// callers of the Container Storage Interface never have.
///
/// It follows from the caller's alone, whichever call it is and of whichever volume, so that a repetition is the same
/// operation for the node, and another request under it is seen to be another. A head calls operations too old whose
/// callers had last seen it before what it has forgotten; for who has seen none, this one says that all was seen, so
/// that no head does. After a head has forgotten it, it is a new one: so it is not for what destroys when it is done a
/// second time.
pub(crate) fn whole_of(operation: &OperationId) -> OperationId {
    match operation.seq() {
        0 => operation.with_seq(u32::MAX),
        _ => *operation,
    }
}

/// The call to a node.
pub(crate) fn call(operation: OperationId, kind: &str, asked: &Value) -> Call {
    let request = hash(kind, asked).0;
    Call { operation, principal: PRINCIPAL.into(), request, progress: Progress::default() }
}

fn hash(kind: &str, asked: &Value) -> RequestHash {
    RequestHash::of(&canonical(&json!([kind, asked])))
}

/// What tells whether two volumes of a name were asked for alike: all but the size, which may have grown.
pub(crate) fn asked(request: &CreateVolume) -> RequestHash {
    let asked = json!({
        "labels": request.labels,
        "parameters": request.parameters,
        "source": request.source.as_ref().map(source),
    });
    hash("volume", &asked)
}

/// All that tells a request for a volume from another under the same operation id.
pub(crate) fn wanted(request: &CreateVolume) -> Value {
    json!({
        "labels": request.labels,
        "limit_bytes": request.quota.limit_bytes,
        "name": request.name,
        "parameters": request.parameters,
        "required_bytes": request.quota.required_bytes,
        "source": request.source.as_ref().map(source),
    })
}

/// A source as JSON.
fn source(source: &VolumeSource) -> Value {
    match source {
        VolumeSource::Template(name) => json!({ "template": name }),
        VolumeSource::Volume(volume) => json!({ "volume": volume }),
        VolumeSource::Snapshot(snapshot) => json!({ "snapshot": snapshot }),
    }
}

/// The message of the entry that a snapshot of a name is. No control character of the name is in it, since a head
/// holds none.
pub(crate) fn message_of(name: &VolumeName) -> String {
    escape_bytes(name.as_str().as_bytes())
}

/// The name of the snapshot whose entry has a message.
pub(crate) fn name_in(message: &str) -> String {
    let bytes = unescape_text(message).ok();
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_else(|| message.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_snapshots_name_is_read_as_it_was_written(name in "(?s).{1,40}") {
            prop_assume!(name.parse::<VolumeName>().is_ok());
            let message = message_of(&name.parse().unwrap());
            prop_assert!(!message.chars().any(char::is_control), "a head takes it");
            prop_assert!(message.len() <= cove_content::entry::MESSAGE_BYTES_MAX);
            prop_assert_eq!(name_in(&message), name);
        }

        #[test]
        fn each_volume_has_a_part_of_its_own_that_no_head_calls_too_old(bytes: [u8; 16]) {
            let operation = OperationId(bytes);
            let (a, b) = ("vol-a".parse().unwrap(), "vol-b".parse().unwrap());
            let part = part_of(&operation, &a);
            prop_assert_eq!(part.seq(), u32::MAX);
            prop_assert_ne!(part, part_of(&operation, &b));
            prop_assert_ne!(part, operation);
        }
    }

    #[test]
    fn the_longest_name_of_a_snapshot_fits_into_a_message() {
        let name: VolumeName = "\r".repeat(128).parse().unwrap();
        assert_eq!(message_of(&name).len(), 512);
    }

    #[test]
    fn a_message_that_nobody_escaped_is_the_name_as_it_is() {
        assert_eq!(name_in("back\\slash"), "back\\slash");
    }

    #[test]
    fn a_caller_that_has_seen_a_head_keeps_its_operation() {
        let seen = OperationId::new(3, [7; 12]);
        assert_eq!(whole_of(&seen), seen);
        let blind = OperationId::new(0, [7; 12]);
        assert_eq!(whole_of(&blind), OperationId::new(u32::MAX, [7; 12]), "too old for no head");
        assert_eq!(Some(whole_of(&blind)), blind.twin());
    }

    #[test]
    fn a_group_and_the_volume_of_one_operation_have_two_names() {
        let operation = OperationId::new(0, [7; 12]);
        let group = group_of(&operation);
        assert!(group.starts_with("grp-") && group.len() == 28, "{group}");
        assert_ne!(group[4..], volume_of(&operation).as_str()[4..]);
    }
}
