//! How the wire is written.

use cove_unix_grpc::contract::{self, complaints};
use prost_types::FileDescriptorProto;

use crate::descriptors::{FILES, file, hub};

const PACKAGE: &str = "cove.hub.v1";

#[test]
fn the_wire_is_written_as_all_are() {
    for name in FILES {
        let mut complaints = complaints(PACKAGE, &file(name));
        complaints.extend(unsaid_codes(&file(name)));
        assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    }
}

/// What is wrong with what the calls say of their codes.
fn unsaid_codes(file: &FileDescriptorProto) -> Vec<String> {
    contract::unsaid_codes(file, |request| {
        request.field.iter().any(|field| field.name() == "op_id")
    })
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

#[test]
fn a_call_that_does_not_say_its_codes_is_found() {
    let found = |comment: &str| {
        let mut file = hub();
        let source = file.source_code_info.as_mut().unwrap();
        let of_delete = source.location.iter_mut().find(|location| location.path == [6, 0, 2, 1]);
        of_delete.unwrap().leading_comments = Some(comment.to_owned());
        unsaid_codes(&file).join("\n")
    };
    let told = " Deletes.\n\n Codes: ABORTED, another call\n is under way; NOT_FOUND, never.\n";
    assert_eq!(found(told), "");
    let none = "DeleteVolume does not say its codes";
    for comment in ["", " Deletes.\n", " Codes: ABORTED, twice.\n\n Deletes.\n"] {
        assert_eq!(found(comment), none);
    }
    assert_eq!(
        found(" Deletes.\n\n Codes: NOT_THERE, it is gone; NOT_FOUND.\n"),
        "DeleteVolume does not say when it is NOT_THERE\n\
         DeleteVolume does not say when it is NOT_FOUND\n\
         DeleteVolume does not say when it is ABORTED"
    );
}
