use super::*;
use crate::plan::{Snapshots, snapshot};
use crate::request;
use crate::volume_hub::SnapshotVolumes;

const E: [&str; 3] = ["abcdefghij2a", "abcdefghij2b", "abcdefghij2c"];

fn wanted(volumes: &[&str]) -> SnapshotVolumes {
    SnapshotVolumes {
        volumes: volumes.iter().map(|text| id(text)).collect(),
        name: "s".parse().unwrap(),
        is_group: volumes.len() > 1,
        operation: operation(1),
        wait_saved: false,
    }
}

fn planned(view: &View, asked: &SnapshotVolumes) -> String {
    match snapshot(view, asked) {
        Ok(Snapshots::Answer(ids)) => {
            let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
            format!("answer {}", ids.join(" "))
        }
        Ok(Snapshots::Take(taken)) => {
            let of: Vec<&str> = taken.of.iter().map(|(volume, _)| volume.as_str()).collect();
            let group = if taken.group.is_some() { " as a group" } else { "" };
            format!("take {} on {}{group}", of.join(" "), taken.node)
        }
        Err(error) => refusal(&error),
    }
}

fn three() -> View {
    with([("a", alone("a")), ("b", alone("b")), ("c", workspace("c"))])
}

fn with_snapshots(mut view: View, snapshots: &[(&str, SnapshotView)]) -> View {
    let parsed = snapshots.iter().map(|(id, view)| (id.parse().unwrap(), view.clone()));
    view.snapshots.extend(parsed);
    view
}

#[test]
fn one_volume_is_snapshotted_alone_and_several_as_a_group() {
    assert_eq!(planned(&three(), &wanted(&["c"])), "take c on a");
    assert_eq!(planned(&three(), &wanted(&["c", "a"])), "take c a on a as a group");
    let group_of_one = SnapshotVolumes { is_group: true, ..wanted(&["c"]) };
    assert_eq!(planned(&three(), &group_of_one), "take c on a as a group");
    let no_group = SnapshotVolumes { is_group: false, ..wanted(&["c", "a"]) };
    assert_eq!(planned(&three(), &no_group), "take c a on a");
}

#[test]
fn a_name_and_its_volume_are_the_answer() {
    let view = with_snapshots(three(), &[(&format!("a@{}", E[0]), named("s"))]);
    assert_eq!(planned(&view, &wanted(&["a"])), "answer a@abcdefghij2a");
    assert_eq!(
        planned(&view, &wanted(&["b"])),
        "AlreadyExists: snapshot a@abcdefghij2a is called \"s\" and is of another volume"
    );
}

#[test]
fn a_group_is_the_answer_when_it_is_of_the_same_volumes_in_the_order_of_the_request() {
    let of = |name| SnapshotView { group: Some("grp-x".into()), ..named(name) };
    let ids = [format!("a@{}", E[0]), format!("b@{}", E[1])];
    let view = with_snapshots(three(), &[(&ids[0], of("s")), (&ids[1], of("s"))]);
    assert_eq!(planned(&view, &wanted(&["b", "a"])), format!("answer {} {}", ids[1], ids[0]));
    for volumes in [&["a", "b", "c"][..], &["a", "c"], &["a"]] {
        assert!(planned(&view, &wanted(volumes)).starts_with("AlreadyExists: "), "{volumes:?}");
    }
    let left = with_snapshots(three(), &[(&ids[0], of("s"))]);
    assert!(planned(&left, &wanted(&["a", "b"])).starts_with("AlreadyExists: "), "one is deleted");
    let alone = SnapshotVolumes { is_group: false, ..wanted(&["a", "b"]) };
    assert!(planned(&view, &alone).starts_with("AlreadyExists: "));
}

#[test]
fn a_snapshot_of_a_deleted_volume_keeps_its_name() {
    let deleted = VolumeView { state: VolumeState::Deleted, ..alone("a") };
    let view = with([("a", deleted), ("b", alone("b"))]);
    let view = with_snapshots(view, &[(&format!("a@{}", E[0]), named("s"))]);
    assert_eq!(planned(&view, &wanted(&["a"])), "answer a@abcdefghij2a");
    assert!(planned(&view, &wanted(&["b"])).starts_with("AlreadyExists: "));
}

#[test]
fn entries_of_timelines_have_no_names_that_bind() {
    let entry = SnapshotView { kind: EntryKind::Manual, ..named("s") };
    let view = with_snapshots(three(), &[(&format!("a@{}", E[0]), entry)]);
    assert_eq!(planned(&view, &wanted(&["a"])), "take a on a");
}

#[test]
fn a_volume_that_is_not_in_use_is_not_snapshotted() {
    for state in [VolumeState::Deleted, VolumeState::Trashed] {
        let view = with([("a", VolumeView { state, ..alone("a") }), ("b", alone("b"))]);
        assert_eq!(planned(&view, &wanted(&["b", "a"])), "NotFound: volume a does not exist");
    }
    assert_eq!(planned(&three(), &wanted(&["z"])), "NotFound: volume z does not exist");
}

#[test]
fn one_to_64_volumes_are_snapshotted_each_once() {
    let refused =
        |n: usize| format!("Invalid: 1 to 64 volumes are snapshotted at one instant, found {n}");
    assert_eq!(planned(&three(), &wanted(&[])), refused(0));
    assert_eq!(planned(&three(), &wanted(&["a"; 65])), refused(65));
    let twice = "Invalid: a volume is to be snapshotted twice at one instant";
    assert_eq!(planned(&three(), &wanted(&["a", "b", "a"])), twice);
}

#[test]
fn volumes_on_several_nodes_have_no_instant_together() {
    let mut view = three();
    view.volumes.get_mut(&id("b")).unwrap().node = "b".parse().unwrap();
    assert_eq!(
        planned(&view, &wanted(&["a", "b"])),
        "Precondition: failed to snapshot volumes at one instant: they are on several nodes"
    );
}

#[test]
fn a_name_is_not_called_free_while_a_node_is_silent() {
    let refused = planned(&silent(three()), &wanted(&["a"]));
    assert_eq!(
        refused,
        format!("Unavailable: failed to look for a snapshot called \"s\": {SILENT}")
    );
}

#[test]
fn a_name_is_not_called_free_while_its_snapshot_may_be_one_that_nobody_can_read() {
    let view = damaged(three(), "a");
    let refused = |volume: &str| {
        format!("Corrupt: failed to look for snapshots of volume {volume} called \"s\": {DAMAGED}")
    };
    assert_eq!(planned(&view, &wanted(&["a"])), refused("a"));
    assert_eq!(planned(&view, &wanted(&["b", "a"])), refused("a"));
    assert_eq!(planned(&view, &wanted(&["b"])), "take b on a", "those of others do not matter");
    let view = with_snapshots(view, &[(&format!("a@{}", E[0]), named("s"))]);
    assert_eq!(planned(&view, &wanted(&["a"])), "answer a@abcdefghij2a", "what is found is");
    // of the group that has the name, one may be among them
    let of = SnapshotView { group: Some("grp-x".into()), ..named("s") };
    let view = with_snapshots(damaged(three(), "a"), &[(&format!("b@{}", E[1]), of)]);
    assert_eq!(planned(&view, &wanted(&["a", "b"])), refused("a"));
}

#[test]
fn each_volume_of_several_has_an_operation_of_its_own_that_its_head_takes() {
    let view = three();
    let seen = OperationId::new(7, [1; 12]);
    let asked = |volumes: &[&str]| SnapshotVolumes { operation: seen, ..wanted(volumes) };
    let taken = |asked| match snapshot(&view, &asked) {
        Ok(Snapshots::Take(taken)) => taken,
        other => panic!("{other:?}"),
    };
    let of = taken(asked(&["b", "a"])).of;
    let part = request::part_of(&seen, &id("b"));
    assert_eq!(of, [(id("b"), part), (id("a"), seen)], "the first has the caller's");
    assert_eq!(taken(asked(&["a"])).of[0].1, seen, "of one it is the caller's");
    let blind = request::whole_of(&operation(1));
    assert_eq!(taken(wanted(&["b"])).of[0].1, blind, "unless that has seen no head");
}
