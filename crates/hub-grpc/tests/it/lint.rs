//! How the wire is written.

use cove_unix_grpc::contract::complaints;

use crate::descriptors::hub;

const PACKAGE: &str = "cove.hub.v1";

#[test]
fn the_wire_is_written_as_all_are() {
    let complaints = complaints(PACKAGE, &hub());
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn the_check_finds_what_is_wrong() {
    let mut file = hub();
    file.package = Some("cove".into());
    file.service[0].method[0].input_type = Some(".cove.hub.v1.Volume".into());
    file.message_type[0].field[0].name = Some("volumeId".into());
    file.enum_type[0].value[0].name = Some("DURABILITY_NONE".into());
    file.enum_type[0].value[1].name = Some("ON_NODE".into());
    let source = file.source_code_info.as_mut().unwrap();
    for location in &mut source.location {
        if [&[6, 0][..], &[4, 0, 2, 1], &[5, 0, 2, 2]].contains(&&location.path[..]) {
            location.leading_comments = None;
        }
    }
    let found = complaints(PACKAGE, &file).join("\n");
    for wanted in [
        "the package is cove.hub.v1",
        "VolumeHub has no comment",
        "CreateVolume has .cove.hub.v1.Volume, not CreateVolumeRequest",
        "Volume.volumeId is not in snake_case",
        "Volume.name has no comment",
        "DURABILITY_NONE = 0",
        "ON_NODE does not begin with DURABILITY_",
        "DURABILITY_SAVED has no comment",
    ] {
        assert!(found.contains(wanted), "{wanted} is not in\n{found}");
    }
}
