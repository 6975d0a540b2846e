//! What was on the wire once stays.

use cove_unix_grpc::contract::{breaks, lines};

use crate::descriptors::{FILES, file, hub};

#[expect(clippy::disallowed_methods, reason = "the same word updates all golden files")]
#[test]
fn the_wire_breaks_no_client() {
    for name in FILES {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../api/proto/cove/hub/v1");
        let place = format!("{directory}/{name}.baseline");
        let baseline = std::fs::read_to_string(&place).unwrap_or_default();
        let now = lines(&file(name));
        let broken = breaks(baseline.lines(), now.iter().map(String::as_str));
        assert!(broken.is_empty(), "{}", broken.join("\n"));
        let now = now.join("\n") + "\n";
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(&place, &now).unwrap();
            continue;
        }
        assert!(
            baseline == now,
            "the wire has more than {place}: run this test with UPDATE_EXPECT=1"
        );
    }
}

/// What a change of the wire breaks.
fn after(change: impl Fn(&mut prost_types::FileDescriptorProto)) -> Vec<String> {
    let before = hub();
    let mut now = before.clone();
    change(&mut now);
    let (before, now) = (lines(&before), lines(&now));
    breaks(before.iter().map(String::as_str), now.iter().map(String::as_str))
}

fn message<'a>(
    file: &'a mut prost_types::FileDescriptorProto,
    name: &str,
) -> &'a mut prost_types::DescriptorProto {
    file.message_type.iter_mut().find(|message| message.name() == name).unwrap()
}

#[test]
fn a_field_that_is_removed_breaks() {
    let broken = after(|file| drop(message(file, "Snapshot").field.remove(4)));
    assert_eq!(broken, ["field cove.hub.v1.Snapshot = 5 is gone"]);
}

#[test]
fn another_number_breaks() {
    let broken = after(|file| message(file, "Snapshot").field[4].number = Some(50));
    assert_eq!(broken, ["field cove.hub.v1.Snapshot = 5 is gone"]);
}

#[test]
fn another_type_label_or_name_breaks() {
    use prost_types::field_descriptor_proto::{Label, Type};
    let broken = after(|file| message(file, "Snapshot").field[4].set_type(Type::Sint64));
    let was = "field cove.hub.v1.Snapshot = 5 was \"uint64 bytes\" and is";
    assert_eq!(broken, [format!("{was} \"sint64 bytes\"")]);
    let broken = after(|file| message(file, "Snapshot").field[4].set_label(Label::Repeated));
    assert_eq!(broken, [format!("{was} \"repeated uint64 bytes\"")]);
    let broken = after(|file| message(file, "Snapshot").field[4].name = Some("size".into()));
    assert_eq!(broken, [format!("{was} \"uint64 size\"")]);
}

#[test]
fn a_field_that_leaves_its_oneof_breaks() {
    let broken = after(|file| message(file, "Source").field[0].oneof_index = None);
    let was = "field cove.hub.v1.Source = 1 was \"string template in source\" and is";
    assert_eq!(broken, [format!("{was} \"string template\"")]);
}

#[test]
fn a_call_that_is_removed_or_becomes_a_stream_breaks() {
    let broken = after(|file| drop(file.service[0].method.remove(1)));
    assert_eq!(broken, ["rpc cove.hub.v1.VolumeHub.DeleteVolume is gone"]);
    let broken = after(|file| file.service[0].method[1].server_streaming = Some(true));
    assert_eq!(broken.len(), 1, "{broken:?}");
}

#[test]
fn a_value_that_is_renamed_breaks() {
    let broken = after(|file| file.enum_type[0].value[2].name = Some("DURABILITY_SAFE".into()));
    let was = "value cove.hub.v1.Durability = 2 was \"DURABILITY_SAVED\" and is";
    assert_eq!(broken, [format!("{was} \"DURABILITY_SAFE\"")]);
}

#[test]
fn what_is_added_breaks_nobody() {
    let broken = after(|file| {
        let mut field = message(file, "Snapshot").field[4].clone();
        (field.name, field.number) = (Some("newer".into()), Some(60));
        message(file, "Snapshot").field.push(field);
        let mut newer = message(file, "Snapshot").clone();
        newer.name = Some("Newer".into());
        file.message_type.push(newer);
    });
    assert_eq!(broken, [""; 0]);
}
