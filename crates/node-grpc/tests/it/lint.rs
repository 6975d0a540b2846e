//! How the wire is written.

use cove_unix_grpc::contract::{complaints, unsaid_codes};
use prost_types::DescriptorProto;

use crate::descriptors::node;

/// Whether a request carries a call, itself or in its first message.
fn has_id(request: &DescriptorProto) -> bool {
    let calls = ["Call", "TogetherCall", "NewCreate", "NewFork"];
    let is_call = |of: &str| calls.iter().any(|call| of == format!(".cove.node.v1.{call}"));
    request.field.iter().any(|field| is_call(field.type_name()))
}

#[test]
fn the_wire_is_written_as_all_are() {
    let mut complaints = complaints("cove.node.v1", &node());
    complaints.extend(unsaid_codes(&node(), has_id));
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn what_carries_a_call_is_known() {
    let requests = node().message_type.into_iter().filter(|one| one.name().ends_with("Request"));
    let with_id: Vec<_> = requests.filter(has_id).map(|one| one.name().to_owned()).collect();
    assert_eq!(
        with_id,
        [
            "CreateRequest",
            "ForkRequest",
            "SnapshotRequest",
            "RestoreRequest",
            "EditEntryRequest",
            "DescribeRequest",
            "SpecifyRequest",
            "SetTrashedRequest",
            "DeleteRequest",
            "RemoveEntryRequest",
            "SnapshotTogetherRequest",
        ]
    );
}
