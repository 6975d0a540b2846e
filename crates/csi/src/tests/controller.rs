use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;

use cove_types::VolumeId;
use cove_types::wire::Problem;

use super::*;
use crate::proto::volume_content_source::{SnapshotSource, Type as Source, VolumeSource};
use crate::request::topology;
use crate::thing::Thing;

fn delete(volume_id: &str) -> pb::DeleteVolumeRequest {
    pb::DeleteVolumeRequest { volume_id: volume_id.to_owned(), ..Default::default() }
}

fn snapshot(name: &str, volume: &str) -> pb::CreateSnapshotRequest {
    pb::CreateSnapshotRequest {
        name: name.to_owned(),
        source_volume_id: volume.to_owned(),
        ..Default::default()
    }
}

fn from(name: &str, source: Source) -> pb::CreateVolumeRequest {
    pb::CreateVolumeRequest {
        volume_content_source: Some(pb::VolumeContentSource { r#type: Some(source) }),
        ..create(name)
    }
}

fn publish(volume_id: &str, node_id: &str, readonly: bool) -> pb::ControllerPublishVolumeRequest {
    pb::ControllerPublishVolumeRequest {
        volume_id: volume_id.to_owned(),
        node_id: node_id.to_owned(),
        volume_capability: Some(writer()),
        readonly,
        ..Default::default()
    }
}

fn unpublish(volume_id: &str, node_id: &str) -> pb::ControllerUnpublishVolumeRequest {
    pb::ControllerUnpublishVolumeRequest {
        volume_id: volume_id.to_owned(),
        node_id: node_id.to_owned(),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_name_is_one_volume() {
    let served = Served::all().await;
    let first = served.create("data").await;
    assert_eq!(first.capacity_bytes, 10 * MIB);
    assert_eq!(first.accessible_topology, [topology(&"n1".parse().unwrap())]);
    assert_eq!(served.create("data").await, first);
    let larger = pb::CreateVolumeRequest { capacity_range: range(20 * MIB, 0), ..create("data") };
    assert_eq!(code(served.controller().create_volume(larger).await), Code::AlreadyExists);
}

#[tokio::test]
async fn a_volume_is_refused_with_the_code_of_the_reason() {
    let served = Served::all().await;
    let map = |key: &str, value: &str| HashMap::from([(key.to_owned(), value.to_owned())]);
    let elsewhere = pb::TopologyRequirement {
        requisite: vec![topology(&"n2".parse().unwrap())],
        preferred: Vec::new(),
    };
    let source = |id: &str| Source::Volume(VolumeSource { volume_id: id.to_owned() });
    let missing = SnapshotSource { snapshot_id: "non-existing-snapshot-id".to_owned() };
    let writers = vec![capability(Mode::MultiNodeMultiWriter, &[])];
    for (request, expected) in [
        (create(""), Code::InvalidArgument),
        (create(&"n".repeat(129)), Code::InvalidArgument),
        (
            pb::CreateVolumeRequest { volume_capabilities: Vec::new(), ..create("x") },
            Code::InvalidArgument,
        ),
        (
            pb::CreateVolumeRequest { volume_capabilities: writers, ..create("x") },
            Code::InvalidArgument,
        ),
        (
            pb::CreateVolumeRequest { parameters: map("tier", "hot"), ..create("x") },
            Code::InvalidArgument,
        ),
        (
            pb::CreateVolumeRequest { mutable_parameters: map("retention", "0"), ..create("x") },
            Code::InvalidArgument,
        ),
        (
            pb::CreateVolumeRequest { capacity_range: range(0, 1000), ..create("x") },
            Code::OutOfRange,
        ),
        (
            pb::CreateVolumeRequest { accessibility_requirements: Some(elsewhere), ..create("x") },
            Code::ResourceExhausted,
        ),
        (from("x", source("fake-vol-id")), Code::NotFound),
        (from("x", source("Malformed id")), Code::NotFound),
        (from("x", Source::Snapshot(missing)), Code::NotFound),
    ] {
        let refused = served.controller().create_volume(request.clone()).await;
        assert_eq!(code(refused), expected, "{request:?}");
    }
    let left = served.controller().list_volumes(pb::ListVolumesRequest::default()).await.unwrap();
    assert_eq!(left.into_inner().entries, []);
}

#[tokio::test]
async fn a_name_of_128_bytes_and_what_kubernetes_tells_are_kept() {
    let served = Served::all().await;
    let told = HashMap::from([("csi.storage.k8s.io/pvc/name".to_owned(), "data".to_owned())]);
    let request = pb::CreateVolumeRequest { parameters: told, ..create(&"n".repeat(128)) };
    let volume = made(served.controller().create_volume(request).await);
    served.hub.change(&volume.volume_id, |report| {
        assert_eq!(report.volume.labels["csi.storage.k8s.io/pvc/name"], "data");
    });
}

#[tokio::test]
async fn deleting_what_is_not_there_is_success_and_nothing_is_missing() {
    let served = Served::all().await;
    let volume = served.create("data").await.volume_id;
    for id in [volume.as_str(), volume.as_str(), "vol-none", "No such id"] {
        served.controller().delete_volume(delete(id)).await.unwrap();
    }
    assert_eq!(code(served.controller().delete_volume(delete("")).await), Code::InvalidArgument);
    for id in ["vol-a@abcdefghij23", "reallyfakesnapshotid"] {
        let request =
            pb::DeleteSnapshotRequest { snapshot_id: id.to_owned(), ..Default::default() };
        served.controller().delete_snapshot(request).await.unwrap();
    }
    let request = pb::DeleteSnapshotRequest::default();
    assert_eq!(code(served.controller().delete_snapshot(request).await), Code::InvalidArgument);
}

#[tokio::test]
async fn volumes_are_listed_a_page_at_a_time_and_with_their_nodes() {
    let served = Served::all().await;
    for name in ["a", "b", "c"] {
        served.create(name).await;
    }
    let list = |max_entries, starting_token: &str| pb::ListVolumesRequest {
        max_entries,
        starting_token: starting_token.to_owned(),
    };
    let ids = |page: &pb::ListVolumesResponse| -> Vec<String> {
        page.entries.iter().map(|entry| entry.volume.clone().unwrap().volume_id).collect()
    };
    let page = served.controller().list_volumes(list(2, "")).await.unwrap().into_inner();
    assert_eq!(ids(&page), ["vol-0001", "vol-0002"]);
    served.controller().delete_volume(delete("vol-0002")).await.unwrap();
    served.controller().controller_publish_volume(publish("vol-0003", "n1", false)).await.unwrap();
    let rest =
        served.controller().list_volumes(list(0, &page.next_token)).await.unwrap().into_inner();
    assert_eq!((ids(&rest), rest.next_token.as_str()), (vec!["vol-0003".to_owned()], ""));
    assert_eq!(rest.entries[0].status.clone().unwrap().published_node_ids, ["n1"]);
    let refused = served.controller().list_volumes(list(0, "invalid-token")).await;
    assert_eq!(code(refused), Code::Aborted);
    assert_eq!(code(served.controller().list_volumes(list(-1, "")).await), Code::InvalidArgument);
}

#[tokio::test]
async fn a_volume_is_published_once_and_a_node_has_so_many() {
    let served = Served::all().await;
    let mut controller = served.controller();
    for name in ["a", "b", "c"] {
        served.create(name).await;
    }
    for _ in 0..3 {
        controller.controller_publish_volume(publish("vol-0001", "n1", false)).await.unwrap();
    }
    let mut refused = async |request| code(controller.controller_publish_volume(request).await);
    assert_eq!(refused(publish("vol-0001", "n1", true)).await, Code::AlreadyExists);
    assert_eq!(refused(publish("vol-0001", "fake-node", false)).await, Code::NotFound);
    assert_eq!(refused(publish("vol-none", "n1", false)).await, Code::NotFound);
    assert_eq!(refused(publish("", "n1", false)).await, Code::InvalidArgument);
    assert_eq!(refused(publish("vol-0001", "", false)).await, Code::InvalidArgument);
    let request = pb::ControllerPublishVolumeRequest {
        volume_capability: None,
        ..publish("vol-0001", "n1", false)
    };
    assert_eq!(refused(request).await, Code::InvalidArgument);

    let read_only = controller.controller_publish_volume(publish("vol-0002", "n1", true)).await;
    let context = read_only.unwrap().into_inner().publish_context;
    assert_eq!(context["cove.csi.storage/readonly"], "true");
    let third = controller.controller_publish_volume(publish("vol-0003", "n1", false)).await;
    assert_eq!(code(third), Code::ResourceExhausted);

    let in_use = controller.delete_volume(delete("vol-0001")).await;
    assert_eq!(code(in_use), Code::FailedPrecondition);
    for node in ["n2", "n1", "n1", ""] {
        controller.controller_unpublish_volume(unpublish("vol-0001", node)).await.unwrap();
    }
    controller.controller_unpublish_volume(unpublish("vol-none", "n1")).await.unwrap();
    let missing = controller.controller_unpublish_volume(unpublish("", "n1")).await;
    assert_eq!(code(missing), Code::InvalidArgument);
    controller.controller_publish_volume(publish("vol-0003", "n1", false)).await.unwrap();
    controller.delete_volume(delete("vol-0001")).await.unwrap();
}

#[tokio::test]
async fn a_volume_that_is_slow_holds_up_no_other_and_is_counted() {
    let served = Served::all().await;
    for name in ["a", "b", "c"] {
        served.create(name).await;
    }
    let call = |volume: &str| {
        let (mut controller, request) = (served.controller(), publish(volume, "n1", false));
        async move { controller.controller_publish_volume(request).await }
    };
    let shut = served.hub.door.lock().await;
    let mut under_way = Vec::new();
    for volume in ["vol-0001", "vol-0002"] {
        under_way.push(tokio::spawn(call(volume)));
        let at_door = served.hub.at_door.notified();
        let came = tokio::time::timeout(std::time::Duration::from_secs(20), at_door).await;
        came.expect("nobody waits for another volume");
    }
    assert_eq!(code(call("vol-0003").await), Code::ResourceExhausted);
    drop(shut);
    for call in under_way {
        call.await.unwrap().unwrap();
    }
    assert_eq!(code(call("vol-0003").await), Code::ResourceExhausted);
    // one that fails counts no more
    let unpublished = unpublish("vol-0002", "n1");
    served.controller().controller_unpublish_volume(unpublished).await.unwrap();
    assert_eq!(code(call("vol-none").await), Code::NotFound);
    call("vol-0003").await.unwrap();
}

#[tokio::test]
async fn a_volume_is_expanded_to_exactly_what_is_asked_for() {
    let served = Served::all().await;
    let volume = served.create("data").await.volume_id;
    let expand = |id: &str, capacity_range| pb::ControllerExpandVolumeRequest {
        volume_id: id.to_owned(),
        capacity_range,
        ..Default::default()
    };
    let odd = 20 * MIB + 1;
    for (wanted, expected) in [(odd, odd), (odd, odd), (5 * MIB, odd)] {
        let request = expand(&volume, range(wanted, 0));
        let told = served.controller().controller_expand_volume(request).await.unwrap();
        let told = told.into_inner();
        assert_eq!((told.capacity_bytes, told.node_expansion_required), (expected, false));
    }
    for (request, expected) in [
        (expand("", range(MIB, 0)), Code::InvalidArgument),
        (expand(&volume, None), Code::InvalidArgument),
        (expand("vol-none", range(MIB, 0)), Code::NotFound),
        (expand(&volume, range(i64::MAX, 0)), Code::OutOfRange),
    ] {
        assert_eq!(code(served.controller().controller_expand_volume(request).await), expected);
    }
}

#[tokio::test]
async fn of_two_expansions_at_once_one_is_refused_and_the_volume_does_not_shrink() {
    let served = Served::all().await;
    let volume = served.create("data").await.volume_id;
    let expand = |mib: i64| {
        let request = pb::ControllerExpandVolumeRequest {
            volume_id: volume.clone(),
            capacity_range: range(mib * MIB, 0),
            ..Default::default()
        };
        let mut controller = served.controller();
        async move { controller.controller_expand_volume(request).await }
    };
    let shut = served.hub.door.lock().await;
    let first = tokio::spawn(expand(80));
    served.hub.at_door.notified().await;
    tokio::select! {
        second = expand(40) => assert_eq!(code(second), Code::Aborted),
        () = served.hub.at_door.notified() => panic!("both change what both have found"),
    }
    drop(shut);
    assert_eq!(first.await.unwrap().unwrap().into_inner().capacity_bytes, 80 * MIB);
    assert_eq!(expand(40).await.unwrap().into_inner().capacity_bytes, 80 * MIB);

    // one whose caller is gone is under way still
    let shut = served.hub.door.lock().await;
    let first = tokio::spawn(expand(120));
    served.hub.at_door.notified().await;
    first.abort();
    tokio::select! {
        second = expand(100) => assert_eq!(code(second), Code::Aborted),
        () = served.hub.at_door.notified() => panic!("both change what both have found"),
    }
    drop(shut);
    let told = loop {
        match expand(100).await {
            Ok(told) => break told.into_inner(),
            refused => assert_eq!(code(refused), Code::Aborted),
        }
    };
    assert_eq!(told.capacity_bytes, 120 * MIB);
}

#[tokio::test]
async fn parameters_are_not_said_to_be_so_while_an_earlier_change_is_still_to_come() {
    let served = Served::all().await;
    let volume = served.create("data").await.volume_id;
    let modify = |seconds: &str| {
        let request = pb::ControllerModifyVolumeRequest {
            volume_id: volume.clone(),
            mutable_parameters: HashMap::from([("storingInterval".into(), seconds.to_owned())]),
            ..Default::default()
        };
        let mut controller = served.controller();
        async move { controller.controller_modify_volume(request).await }
    };
    modify("5").await.unwrap();
    served.hub.at_door.notified().await;

    let shut = served.hub.door.lock().await;
    let first = tokio::spawn(modify("60"));
    served.hub.at_door.notified().await;
    // its caller's deadline is over
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    for _ in 0..3 {
        assert_eq!(code(modify("5").await), Code::Aborted);
    }
    drop(shut);
    loop {
        match modify("5").await {
            Ok(_) => break,
            refused => assert_eq!(code(refused), Code::Aborted),
        }
    }
    served.hub.change(&volume, |report| {
        assert_eq!(report.volume.parameters["storingInterval"], "5");
        assert_eq!(report.volume.seq, 4, "each of the three was the Hub's to make");
    });
}

#[tokio::test]
async fn a_volume_is_not_deleted_while_it_is_being_mounted_or_changed() {
    let served = Served::all().await;
    let volume = served.create("data").await.volume_id;
    let id: VolumeId = volume.parse().unwrap();
    let driver = &served.csi.0;
    for turns in [&driver.mounting, &driver.changing] {
        let turn = turns.begin([Thing::from(&id)]).unwrap();
        let refused = served.controller().delete_volume(delete(&volume)).await;
        assert_eq!(code(refused), Code::Aborted);
        drop(turn);
    }
    served.controller().delete_volume(delete(&volume)).await.unwrap();
}

#[tokio::test]
async fn parameters_change_when_they_are_known() {
    let served = Served::all().await;
    let volume = served.create("data").await.volume_id;
    let modify = |id: &str, pairs: &[(&str, &str)]| pb::ControllerModifyVolumeRequest {
        volume_id: id.to_owned(),
        mutable_parameters: pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
        ..Default::default()
    };
    let pairs = [("storingInterval", "30")];
    for request in [modify(&volume, &pairs), modify(&volume, &pairs), modify(&volume, &[])] {
        served.controller().controller_modify_volume(request).await.unwrap();
    }
    served.hub.change(&volume, |report| {
        assert_eq!(report.volume.parameters["storingInterval"], "30");
        assert_eq!(report.volume.seq, 2);
    });
    for (request, expected) in [
        (modify("", &[]), Code::InvalidArgument),
        (modify("vol-none", &[("x", "1")]), Code::NotFound),
        (modify("Non-existing", &[]), Code::NotFound),
        (modify(&volume, &[("XXX_FakeKey", "1")]), Code::InvalidArgument),
    ] {
        assert_eq!(code(served.controller().controller_modify_volume(request).await), expected);
    }
}

#[tokio::test]
async fn capabilities_are_confirmed_or_it_is_said_why_not() {
    let served = Served::all().await;
    let volume = served.create("data").await.volume_id;
    let ask = |id: &str, volume_capabilities: Vec<pb::VolumeCapability>| {
        pb::ValidateVolumeCapabilitiesRequest {
            volume_id: id.to_owned(),
            volume_capabilities,
            ..Default::default()
        }
    };
    let mut controller = served.controller();
    let told = controller.validate_volume_capabilities(ask(&volume, vec![writer()])).await.unwrap();
    assert_eq!(told.into_inner().confirmed.unwrap().volume_capabilities, [writer()]);
    let many = vec![capability(Mode::MultiNodeMultiWriter, &[])];
    let told = controller.validate_volume_capabilities(ask(&volume, many)).await.unwrap();
    let told = told.into_inner();
    assert!(told.confirmed.is_none() && !told.message.is_empty());
    served.hub.change(&volume, |report| {
        report.volume.parameters.insert("retention".to_owned(), "20".to_owned());
    });
    let map = |key: &str, value: &str| HashMap::from([(key.to_owned(), value.to_owned())]);
    let context = map("x", "y");
    let asked = |volume_context: &HashMap<_, _>, mutable_parameters| {
        pb::ValidateVolumeCapabilitiesRequest {
            volume_context: volume_context.clone(),
            mutable_parameters,
            ..ask(&volume, vec![writer()])
        }
    };
    let none = HashMap::new();
    for (request, why) in [
        (asked(&none, map("retention", "20")), ""),
        (asked(&context, HashMap::new()), "the volume's context is empty, found \"x\""),
        (asked(&none, map("retention", "21")), "\"retention\" of the volume is 20, found 21"),
        (
            asked(&none, map("storingInterval", "5")),
            "\"storingInterval\" of the volume is not set, found 5",
        ),
    ] {
        let told = controller.validate_volume_capabilities(request).await.unwrap().into_inner();
        assert_eq!((told.confirmed.is_some(), told.message.as_str()), (why.is_empty(), why));
    }
    for (request, expected) in [
        (ask("", vec![writer()]), Code::InvalidArgument),
        (ask(&volume, Vec::new()), Code::InvalidArgument),
        (ask("vol-none", vec![writer()]), Code::NotFound),
    ] {
        assert_eq!(code(controller.validate_volume_capabilities(request).await), expected);
    }
}

#[tokio::test]
async fn the_room_is_that_of_the_node_and_none_for_what_cannot_be_had() {
    let served = Served::all().await;
    let room = async |request: pb::GetCapacityRequest| {
        served.controller().get_capacity(request).await.unwrap().into_inner().available_capacity
    };
    let at = |node: &str| pb::GetCapacityRequest {
        accessible_topology: Some(topology(&node.parse().unwrap())),
        ..Default::default()
    };
    assert_eq!(room(pb::GetCapacityRequest::default()).await, 1 << 30);
    assert_eq!(room(at("n1")).await, 1 << 30);
    assert_eq!(room(at("n2")).await, 0);
    let shared = pb::GetCapacityRequest {
        volume_capabilities: vec![capability(Mode::MultiNodeMultiWriter, &[])],
        ..Default::default()
    };
    assert_eq!(room(shared).await, 0);
}

#[tokio::test]
async fn a_snapshot_is_named_once_and_makes_volumes() {
    let served = Served::all().await;
    let mut controller = served.controller();
    let volume = served.create("data").await.volume_id;
    let other = served.create("other").await.volume_id;
    let response = controller.create_snapshot(snapshot("s", &volume)).await.unwrap();
    let first = response.into_inner().snapshot.unwrap();
    assert!(first.ready_to_use && first.creation_time.is_some());
    assert_eq!(first.source_volume_id, volume);
    let again = controller.create_snapshot(snapshot("s", &volume)).await.unwrap().into_inner();
    assert_eq!(again.snapshot.unwrap(), first);
    for (request, expected) in [
        (snapshot("s", &other), Code::AlreadyExists),
        (snapshot("", &volume), Code::InvalidArgument),
        (snapshot("t", ""), Code::InvalidArgument),
        (snapshot("t", "vol-none"), Code::NotFound),
    ] {
        assert_eq!(code(controller.create_snapshot(request).await), expected);
    }
    let source = Source::Snapshot(SnapshotSource { snapshot_id: first.snapshot_id.clone() });
    let restored = made(controller.create_volume(from("restored", source.clone())).await);
    assert_eq!(restored.content_source.unwrap().r#type, Some(source));
    let source = Source::Volume(VolumeSource { volume_id: volume.clone() });
    let cloned = made(controller.create_volume(from("cloned", source.clone())).await);
    assert_eq!(cloned.content_source.unwrap().r#type, Some(source));

    let get =
        |id: &str| pb::GetSnapshotRequest { snapshot_id: id.to_owned(), ..Default::default() };
    let found = controller.get_snapshot(get(&first.snapshot_id)).await.unwrap().into_inner();
    assert_eq!(found.snapshot.as_ref(), Some(&first));
    assert_eq!(code(controller.get_snapshot(get("")).await), Code::InvalidArgument);
    assert_eq!(code(controller.get_snapshot(get("none-exist-id")).await), Code::NotFound);

    let mut count = async |snapshot_id: &str, source_volume_id: &str| {
        let request = pb::ListSnapshotsRequest {
            snapshot_id: snapshot_id.to_owned(),
            source_volume_id: source_volume_id.to_owned(),
            ..Default::default()
        };
        controller.list_snapshots(request).await.unwrap().into_inner().entries.len()
    };
    assert_eq!(count("", "").await, 1);
    assert_eq!(count(&first.snapshot_id, "").await, 1);
    assert_eq!(count("", &volume).await, 1);
    for (snapshot, volume) in [("none", ""), ("", "vol-none"), ("", &other), ("", "Malformed")] {
        assert_eq!(count(snapshot, volume).await, 0);
    }
}

#[tokio::test]
async fn a_group_is_snapshotted_found_and_deleted_together() {
    let served = Served::all().await;
    let mut group = served.group();
    let volumes = [served.create("a").await.volume_id, served.create("b").await.volume_id];
    let create = group_of;
    let response = group.create_volume_group_snapshot(create("g", &volumes)).await.unwrap();
    let first = response.into_inner().group_snapshot.unwrap();
    assert_eq!(first.snapshots.len(), 2);
    assert!(first.snapshots.iter().all(|one| one.group_snapshot_id == first.group_snapshot_id));
    let again = group.create_volume_group_snapshot(create("g", &volumes)).await.unwrap();
    assert_eq!(again.into_inner().group_snapshot.as_ref(), Some(&first));
    let twice = [volumes[0].clone(), volumes[0].clone()];
    for (request, expected) in [
        (create("", &volumes), Code::InvalidArgument),
        (create("h", &[]), Code::InvalidArgument),
        (create("h", &twice), Code::InvalidArgument),
        (create("h", &["vol-none".to_owned()]), Code::NotFound),
        (create("g", &volumes[..1]), Code::AlreadyExists),
    ] {
        assert_eq!(code(group.create_volume_group_snapshot(request).await), expected);
    }
    let other = served.controller().create_snapshot(snapshot("s", &volumes[0])).await.unwrap();
    let other = other.into_inner().snapshot.unwrap().snapshot_id;
    let get = |id: &str, snapshot_ids: Vec<String>| pb::GetVolumeGroupSnapshotRequest {
        group_snapshot_id: id.to_owned(),
        snapshot_ids,
        ..Default::default()
    };
    let id = first.group_snapshot_id.clone();
    let members: Vec<_> = first.snapshots.iter().map(|one| one.snapshot_id.clone()).collect();
    let found = group.get_volume_group_snapshot(get(&id, members.clone())).await.unwrap();
    assert_eq!(found.into_inner().group_snapshot, Some(first));
    for (request, expected) in [
        (get("", Vec::new()), Code::InvalidArgument),
        (get("none", Vec::new()), Code::NotFound),
        (get(&id, vec![other.clone()]), Code::InvalidArgument),
    ] {
        assert_eq!(code(group.get_volume_group_snapshot(request).await), expected);
    }
    let delete = |id: &str, snapshot_ids: Vec<String>| pb::DeleteVolumeGroupSnapshotRequest {
        group_snapshot_id: id.to_owned(),
        snapshot_ids,
        ..Default::default()
    };
    let mixed = group.delete_volume_group_snapshot(delete(&id, vec![other])).await;
    assert_eq!(code(mixed), Code::InvalidArgument);
    for id in [id.as_str(), id.as_str(), "Malformed"] {
        group.delete_volume_group_snapshot(delete(id, members.clone())).await.unwrap();
    }
    let missing = group.delete_volume_group_snapshot(delete("", Vec::new())).await;
    assert_eq!(code(missing), Code::InvalidArgument);
    assert_eq!(code(group.get_volume_group_snapshot(get(&id, Vec::new())).await), Code::NotFound);
}

/// A group of two volumes, and its id and those of its snapshots.
async fn group_of_two(served: &Served, name: &str) -> (String, Vec<String>) {
    let volumes = [
        served.create(&format!("{name}-a")).await.volume_id,
        served.create(&format!("{name}-b")).await.volume_id,
    ];
    let made = served.group().create_volume_group_snapshot(group_of(name, &volumes)).await.unwrap();
    let made = made.into_inner().group_snapshot.unwrap();
    let ids = made.snapshots.into_iter().map(|one| one.snapshot_id).collect();
    (made.group_snapshot_id, ids)
}

fn get_group(id: &str, snapshot_ids: &[String]) -> pb::GetVolumeGroupSnapshotRequest {
    pb::GetVolumeGroupSnapshotRequest {
        group_snapshot_id: id.to_owned(),
        snapshot_ids: snapshot_ids.to_vec(),
        ..Default::default()
    }
}

fn delete_group(id: &str, snapshot_ids: &[String]) -> pb::DeleteVolumeGroupSnapshotRequest {
    pb::DeleteVolumeGroupSnapshotRequest {
        group_snapshot_id: id.to_owned(),
        snapshot_ids: snapshot_ids.to_vec(),
        ..Default::default()
    }
}

#[tokio::test]
async fn whoever_deletes_a_group_again_waits_until_it_is_saved() {
    let served = Served::all().await;
    let (id, members) = group_of_two(&served, "g").await;
    let call = || {
        let (mut group, request) = (served.group(), delete_group(&id, &members));
        async move { group.delete_volume_group_snapshot(request).await }
    };
    let shut = served.hub.door.lock().await;
    let mut first = tokio::spawn(call());
    served.hub.at_door.notified().await;
    // what the first has not come to is deleted beside what it waits for; the last is listed no more
    let mut again = Vec::new();
    for _ in 0..2 {
        again.push(tokio::spawn(call()));
        tokio::select! {
            ended = again.last_mut().unwrap() => panic!("it is not saved: {ended:?}"),
            ended = &mut first => panic!("it is not saved: {ended:?}"),
            () = served.hub.at_door.notified() => {}
        }
    }
    drop(shut);
    first.await.unwrap().unwrap();
    for again in again {
        again.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_snapshot_of_a_group_that_nobody_can_read_is_not_called_gone() {
    let served = Served::all().await;
    let mut group = served.group();
    let (id, members) = group_of_two(&served, "g").await;
    let (other, others) = group_of_two(&served, "h").await;
    served.hub.damage(&members[0]);
    for named in [&members[..], &members[..1], &[]] {
        let found = group.get_volume_group_snapshot(get_group(&id, named)).await;
        assert_eq!(code(found), Code::DataLoss, "{named:?}");
        let deleted = group.delete_volume_group_snapshot(delete_group(&id, named)).await;
        assert_eq!(code(deleted), Code::DataLoss, "{named:?}");
    }
    // whoever names the members needs no list of all
    let found = group.get_volume_group_snapshot(get_group(&other, &others)).await.unwrap();
    assert_eq!(found.into_inner().group_snapshot.unwrap().snapshots.len(), 2);
    let mixed = [others[0].clone(), members[1].clone()];
    let refused = group.get_volume_group_snapshot(get_group(&other, &mixed)).await;
    assert_eq!(code(refused), Code::InvalidArgument);
    group.delete_volume_group_snapshot(delete_group(&other, &others)).await.unwrap();
    let found = group.get_volume_group_snapshot(get_group(&other, &others)).await;
    assert_eq!(code(found), Code::NotFound);
}

fn group_of(name: &str, ids: &[String]) -> pb::CreateVolumeGroupSnapshotRequest {
    pb::CreateVolumeGroupSnapshotRequest {
        name: name.to_owned(),
        source_volume_ids: ids.to_vec(),
        ..Default::default()
    }
}

#[tokio::test]
async fn snapshots_are_the_answer_to_their_names_although_what_they_are_of_is_gone() {
    let served = Served::all().await;
    let (mut controller, mut group) = (served.controller(), served.group());
    let volumes = [served.create("a").await.volume_id, served.create("b").await.volume_id];
    let one = controller.create_snapshot(snapshot("s", &volumes[0])).await.unwrap().into_inner();
    let one = one.snapshot.unwrap();
    let both = group.create_volume_group_snapshot(group_of("g", &volumes)).await.unwrap();
    let both = both.into_inner().group_snapshot.unwrap();
    for volume in &volumes {
        controller.delete_volume(delete(volume)).await.unwrap();
        let again = controller.create_snapshot(snapshot("s", &volumes[0])).await.unwrap();
        assert_eq!(again.into_inner().snapshot.unwrap().snapshot_id, one.snapshot_id);
        let again = group.create_volume_group_snapshot(group_of("g", &volumes)).await.unwrap();
        let again = again.into_inner().group_snapshot.unwrap();
        assert_eq!(again.group_snapshot_id, both.group_snapshot_id);
    }
    let new = controller.create_snapshot(snapshot("new", &volumes[0])).await;
    assert_eq!(code(new), Code::NotFound);
    let new = group.create_volume_group_snapshot(group_of("new", &volumes)).await;
    assert_eq!(code(new), Code::NotFound);
}

#[tokio::test]
async fn a_snapshot_needs_what_its_source_may_hold_at_most_wherever_it_is_told() {
    let served = Served::all().await;
    let mut controller = served.controller();
    // each has files of 40 MiB, which take less
    let volumes = [served.create("a").await.volume_id, served.create("b").await.volume_id];
    served.hub.change(&volumes[1], |report| report.volume.quota_bytes = Some(60 << 20));
    let group = served.group().create_volume_group_snapshot(group_of("g", &volumes)).await;
    let group = group.unwrap().into_inner().group_snapshot.unwrap();
    let sizes = |snapshots: &[pb::Snapshot]| -> Vec<i64> {
        snapshots.iter().map(|one| one.size_bytes / MIB).collect()
    };
    assert_eq!(sizes(&group.snapshots), [10, 40]);
    let id = group.group_snapshot_id;
    let get = pb::GetVolumeGroupSnapshotRequest { group_snapshot_id: id, ..Default::default() };
    let found = served.group().get_volume_group_snapshot(get).await.unwrap().into_inner();
    assert_eq!(sizes(&found.group_snapshot.unwrap().snapshots), [10, 40]);
    let snapshots = || async {
        let list = pb::ListSnapshotsRequest::default();
        let listed = served.controller().list_snapshots(list).await.unwrap().into_inner();
        listed.entries.into_iter().filter_map(|entry| entry.snapshot).collect::<Vec<_>>()
    };
    let listed = snapshots().await;
    assert_eq!(sizes(&listed), [10, 40]);
    for snapshot in &listed {
        let snapshot_id = snapshot.snapshot_id.clone();
        let get = pb::GetSnapshotRequest { snapshot_id, ..Default::default() };
        let found = controller.get_snapshot(get).await.unwrap().into_inner();
        assert_eq!(found.snapshot.as_ref(), Some(snapshot));
    }
    let made = controller.create_snapshot(snapshot("s", &volumes[0])).await.unwrap();
    assert_eq!(sizes(&[made.into_inner().snapshot.unwrap()]), [10]);
    // what a deleted one might hold is not known
    controller.delete_volume(delete(&volumes[0])).await.unwrap();
    assert_eq!(sizes(&snapshots().await), [0, 0, 40]);
}

#[tokio::test]
async fn volumes_with_problems_are_listed_a_page_at_a_time_and_looked_for_once() {
    let served = Served::all().await;
    for name in ["a", "b", "c", "d", "e", "f"] {
        let volume = served.create(name).await.volume_id;
        if !["a", "c"].contains(&name) {
            served.hub.change(&volume, |report| report.volume.path = None);
        }
    }
    let list = async |max_entries, starting_token: &str| {
        let starting_token = starting_token.to_owned();
        let request = pb::ControllerListVolumeHealthRequest {
            max_entries,
            starting_token,
            ..Default::default()
        };
        let page = served.controller().controller_list_volume_health(request).await?.into_inner();
        let ids: Vec<_> = page.entries.into_iter().map(|entry| entry.volume_id).collect();
        Ok::<_, Status>((ids, page.next_token))
    };
    let (ids, token) = list(2, "").await.unwrap();
    assert_eq!(ids, ["vol-0002", "vol-0004"]);
    assert_eq!(served.hub.lists_asked.load(Relaxed), 1);
    // a token holds although what it names is gone
    served.controller().delete_volume(delete("vol-0004")).await.unwrap();
    for most in [2, 3, 0] {
        let rest = list(most, &token).await.unwrap();
        assert_eq!(rest, (vec!["vol-0005".to_owned(), "vol-0006".to_owned()], String::new()));
    }
    assert_eq!(list(0, "No token").await.unwrap_err().code(), Code::Aborted);
    assert_eq!(list(-1, "").await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn volumes_with_problems_are_listed_as_such() {
    let served = Served::all().await;
    let mut controller = served.controller();
    for name in ["a", "b", "c"] {
        served.create(name).await;
    }
    served.hub.change("vol-0002", |report| {
        let (what, who_acts) = ("its quota is used up".to_owned(), "operator".to_owned());
        report.problems.push(Problem { what, since: String::new(), who_acts, hint: None });
    });
    let request = pb::ControllerListVolumeHealthRequest { max_entries: 1, ..Default::default() };
    let told = controller.controller_list_volume_health(request).await.unwrap().into_inner();
    assert_eq!(told.entries.len(), 1);
    assert_eq!(told.entries[0].volume_id, "vol-0002");
    let get = |id: &str| pb::ControllerGetVolumeHealthRequest {
        volume_id: id.to_owned(),
        ..Default::default()
    };
    let well = controller.controller_get_volume_health(get("vol-0001")).await.unwrap();
    assert_eq!(well.into_inner().volume_health.unwrap().health_statuses, []);
    let missing = controller.controller_get_volume_health(get("vol-none")).await;
    assert_eq!(code(missing), Code::NotFound);
    let request = pb::ControllerGetVolumeRequest { volume_id: "vol-0001".to_owned() };
    let found = controller.controller_get_volume(request).await.unwrap().into_inner();
    assert_eq!(found.volume.unwrap().capacity_bytes, 10 * MIB);
}
