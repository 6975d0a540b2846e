//! How the wire is written.

use cove_unix_grpc::contract::complaints;

use crate::descriptors::node;

#[test]
fn the_wire_is_written_as_all_are() {
    let complaints = complaints("cove.node.v1", &node());
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}
