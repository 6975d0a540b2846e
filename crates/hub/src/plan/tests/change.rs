use cove_content::spec::SpecChange;

use super::*;
use crate::plan::{Delete, DeleteSnapshot, Modify};
use crate::request;
use crate::volume_hub::{EnsureCached, ModifyVolume, Resolve, RestoreVolume};

fn both() -> View {
    let mut view = with([("vol-a", alone("a")), ("vol-c", workspace("c"))]);
    view.snapshots.insert("vol-a@abcdefghij2a".parse().unwrap(), named("s"));
    let entry = SnapshotView { kind: EntryKind::Manual, name: None, ..named("s") };
    view.snapshots.insert("vol-c@abcdefghij2c".parse().unwrap(), entry);
    view
}

fn ensured(view: &View, volume: &str, candidates: &[&str]) -> String {
    let candidates = candidates.iter().map(|node| node.parse().unwrap()).collect();
    let wanted = EnsureCached { volume: id(volume), candidates, budget_bytes: None };
    match ensure_cached(view, &wanted) {
        Ok(placement) => format!("{} at {}", placement.node, placement.path.display()),
        Err(error) => refusal(&error),
    }
}

#[test]
fn a_volume_is_current_on_its_node_when_that_will_do() {
    for candidates in [&[][..], &["a"], &["b", "a"], &["gone", "a"]] {
        assert_eq!(ensured(&both(), "vol-a", candidates), "a at /pool/a", "{candidates:?}");
    }
    let refused = "Precondition: of 2 candidates none is node a, which owns volume vol-a";
    assert_eq!(ensured(&both(), "vol-a", &["b", "gone"]), refused);
}

#[test]
fn a_volume_whose_files_are_not_there_is_current_nowhere() {
    let mut view = both();
    view.volumes.get_mut(&id("vol-a")).unwrap().path = None;
    let refused = "Unavailable: failed to give volume vol-a to node a: its files are not there";
    assert_eq!(ensured(&view, "vol-a", &[]), refused);
}

#[test]
fn a_volume_is_not_called_absent_while_a_node_is_silent() {
    let refused = format!("Unavailable: failed to look for volume vol-z: {SILENT}");
    assert_eq!(ensured(&silent(both()), "vol-z", &[]), refused);
    assert_eq!(ensured(&both(), "vol-z", &[]), "NotFound: volume vol-z does not exist");
    assert_eq!(ensured(&silent(both()), "vol-a", &[]), "a at /pool/a", "others are found");
    let error = delete(&silent(both()), &id("vol-z"), &operation(1)).unwrap_err();
    assert_eq!(refusal(&error), refused, "nor deleted");
    let snapshot = "vol-z@abcdefghij2a".parse().unwrap();
    let error = delete_snapshot(&silent(both()), &snapshot, &operation(1)).unwrap_err();
    assert_eq!(refusal(&error), refused);
    let error = resolve(&silent(both()), &Resolve::Name("z".into())).unwrap_err();
    assert_eq!(
        refusal(&error),
        format!("Unavailable: failed to look for a volume called \"z\": {SILENT}")
    );
}

#[test]
fn what_is_gone_is_deleted() {
    let mut view = both();
    assert_eq!(delete(&view, &id("vol-z"), &operation(1)).unwrap(), Delete::Gone);
    view.volumes.get_mut(&id("vol-a")).unwrap().state = VolumeState::Deleted;
    assert_eq!(delete(&view, &id("vol-a"), &operation(1)).unwrap(), Delete::Gone);
}

#[test]
fn a_volume_that_stands_alone_is_deleted_and_a_workspace_is_not() {
    let planned = delete(&both(), &id("vol-a"), &operation(1)).unwrap();
    let Delete::Delete { node, operation: under } = planned else { panic!("{planned:?}") };
    assert_eq!(node.as_str(), "a");
    assert_eq!(under, request::whole_of(&operation(1)));
    let mut view = both();
    for state in [VolumeState::Live, VolumeState::Trashed] {
        view.volumes.get_mut(&id("vol-c")).unwrap().state = state;
        let refused = delete(&view, &id("vol-c"), &operation(1)).unwrap_err();
        let expected = "Precondition: volume vol-c is the workspace of project c";
        assert_eq!(refusal(&refused), expected);
    }
}

const IN_USE: &str = "Precondition: volume vol-a is in use: it is published on node n; unpublish it there first, or, \
     if whoever published it is gone for good, take its label ";

#[test]
fn a_volume_that_is_published_is_neither_deleted_nor_moved_to_the_trash() {
    for label in ["published-rw.cove.csi.storage", "published-ro.cove.csi.storage"] {
        let mut view = both();
        let found = view.volumes.get_mut(&id("vol-a")).unwrap();
        found.spec.labels = labels([("other", "x"), (label, "n")]);
        let spec = found.spec.clone();
        let expected = format!("{IN_USE}{label} away with ModifyVolume");
        let refused = delete(&view, &id("vol-a"), &operation(1)).unwrap_err();
        assert_eq!(refusal(&refused), expected);
        let refused = trash(&id("vol-a"), VolumeState::Live, &spec).unwrap_err();
        assert_eq!(refusal(&refused), expected);
        trash(&id("vol-a"), VolumeState::Trashed, &spec).unwrap();
    }
    trash(&id("vol-a"), VolumeState::Live, &both().volumes[&id("vol-a")].spec).unwrap();
}

#[test]
fn the_name_of_a_volume_is_not_taken_for_an_id_of_nothing() {
    let mut view = both();
    let refused = delete(&view, &id("z"), &operation(1));
    assert_eq!(refused.unwrap(), Delete::Gone, "nothing is called so");
    for (called, volume) in [("a", "vol-a"), ("c", "vol-c")] {
        let expected = |field: &str| {
            format!(
                "Invalid: field \"{field}\": \"{called}\" is the name of volume {volume}; its id is wanted"
            )
        };
        let refused = delete(&view, &id(called), &operation(1)).unwrap_err();
        assert_eq!(refusal(&refused), expected("volume"));
        let snapshot = format!("{called}@abcdefghij2a").parse().unwrap();
        let refused = delete_snapshot(&view, &snapshot, &operation(1)).unwrap_err();
        assert_eq!(refusal(&refused), expected("snapshot"));
        view.volumes.get_mut(&id(volume)).unwrap().state = VolumeState::Trashed;
        assert_eq!(delete(&view, &id(called), &operation(1)).unwrap(), Delete::Gone);
    }
}

#[test]
fn a_snapshot_that_was_asked_for_by_name_is_deleted_and_an_entry_of_a_timeline_is_not() {
    let planned = |text: &str| delete_snapshot(&both(), &text.parse().unwrap(), &operation(1));
    let taken = planned("vol-a@abcdefghij2a").unwrap();
    let DeleteSnapshot::Remove { operation: under, .. } = taken else { panic!("{taken:?}") };
    assert_eq!(under, request::whole_of(&operation(1)));
    for gone in ["vol-a@abcdefghij2z", "vol-z@abcdefghij2a"] {
        assert_eq!(planned(gone).unwrap(), DeleteSnapshot::Gone);
    }
    assert_eq!(
        refusal(&planned("vol-c@abcdefghij2c").unwrap_err()),
        "Precondition: failed to delete snapshot vol-c@abcdefghij2c: it is an entry of a project's timeline"
    );
}

#[test]
fn a_snapshot_that_may_be_one_that_nobody_can_read_is_not_called_gone() {
    let view = damaged(both(), "vol-a");
    let planned = |text: &str| delete_snapshot(&view, &text.parse().unwrap(), &operation(1));
    assert_eq!(
        refusal(&planned("vol-a@abcdefghij2z").unwrap_err()),
        format!("Corrupt: failed to look for snapshot vol-a@abcdefghij2z: {DAMAGED}")
    );
    assert!(matches!(planned("vol-a@abcdefghij2a").unwrap(), DeleteSnapshot::Remove { .. }));
    assert_eq!(planned("vol-c@abcdefghij2z").unwrap(), DeleteSnapshot::Gone, "of another volume");
}

#[test]
fn a_volume_goes_back_to_a_snapshot_of_its_own() {
    let planned = |volume: &str, snapshot: &str| {
        let wanted = RestoreVolume {
            volume: id(volume),
            snapshot: snapshot.parse().unwrap(),
            operation: operation(1),
            force: false,
            wait_saved: false,
        };
        restore(&both(), &wanted).map(|plan| plan.keep).map_err(|error| refusal(&error))
    };
    assert_eq!(planned("vol-a", "vol-a@abcdefghij2a"), Ok(5));
    assert_eq!(planned("vol-c", "vol-c@abcdefghij2c"), Ok(200));
    let absent = Err("NotFound: snapshot vol-c@abcdefghij2c does not exist".into());
    assert_eq!(planned("vol-a", "vol-c@abcdefghij2c"), absent);
    assert_eq!(planned("vol-a", "vol-a@abcdefghij2z"), Ok(5), "the node says that it is gone");
    let gone = Err("NotFound: volume vol-z does not exist".into());
    assert_eq!(planned("vol-z", "vol-z@abcdefghij2a"), gone);
}

fn change(volume: &str) -> ModifyVolume {
    ModifyVolume {
        volume: id(volume),
        operation: operation(1),
        quota_bytes: None,
        labels: None,
        parameters: BTreeMap::new(),
    }
}

#[test]
fn what_is_as_it_is_to_be_is_not_written() {
    let mut view = both();
    let spec = &mut view.volumes.get_mut(&id("vol-a")).unwrap().spec;
    spec.quota_bytes = Some(5 << 20);
    spec.labels = labels([("a", "b")]);
    spec.parameters = labels([("retention", "9"), ("storingInterval", "5")]);
    let same = ModifyVolume {
        quota_bytes: Some(Some(5 << 20)),
        labels: Some(labels([("a", "b")])),
        parameters: labels([("retention", "9")]),
        ..change("vol-a")
    };
    let unsaid = ModifyVolume { quota_bytes: None, ..same.clone() };
    for wanted in [unsaid, change("vol-a")] {
        assert_eq!(modify(&view, &wanted).unwrap(), Modify::Unchanged);
    }
    assert!(matches!(modify(&view, &same).unwrap(), Modify::Change { .. }), "it may not hold yet");
    let none = ModifyVolume { quota_bytes: Some(None), ..change("vol-c") };
    assert_eq!(modify(&view, &none).unwrap(), Modify::Unchanged);
    let lifted = ModifyVolume { quota_bytes: Some(None), ..same };
    let planned = modify(&view, &lifted).unwrap();
    let Modify::Change { change, operation: under, .. } = planned else { panic!("{planned:?}") };
    let expected = SpecChange {
        quota_bytes: Some(None),
        labels: lifted.labels,
        parameters: lifted.parameters,
        stands_alone: None,
    };
    assert_eq!(change, expected);
    assert_eq!(under, request::whole_of(&operation(1)));
}

#[test]
fn a_change_that_breaks_a_law_is_refused() {
    let refused = |wanted: ModifyVolume| refusal(&modify(&both(), &wanted).unwrap_err());
    let wanted = ModifyVolume { quota_bytes: Some(Some(1)), ..change("vol-a") };
    assert_eq!(refused(wanted), "Invalid: a quota is 1 MiB to 1 EiB, found 1 bytes");
    let wanted = ModifyVolume { parameters: labels([("storingInterval", "0")]), ..change("vol-a") };
    assert_eq!(
        refused(wanted),
        "Invalid: parameter storingInterval is a number of seconds, 1 to 86400, found \"0\""
    );
    let wanted = ModifyVolume { labels: Some(labels([("", "")])), ..change("vol-a") };
    assert!(refused(wanted).starts_with("Invalid: keys of labels"));
    assert_eq!(refused(change("vol-z")), "NotFound: volume vol-z does not exist");
}

#[test]
fn a_volume_is_found_by_its_name_and_a_workspace_by_its_project_too() {
    let found = |what: Resolve| resolve(&both(), &what).map_err(|error| refusal(&error));
    let project = |slug: &str| Resolve::Project(slug.parse().unwrap());
    assert_eq!(found(Resolve::Name("a".into())), Ok(id("vol-a")));
    assert_eq!(found(Resolve::Name("c".into())), Ok(id("vol-c")));
    assert_eq!(found(project("c")), Ok(id("vol-c")));
    let absent = |name: &str| Err(format!("NotFound: no volume is called \"{name}\""));
    let alone = Err("NotFound: no volume is the workspace of a project a".into());
    assert_eq!(found(project("a")), alone, "it stands alone");
    assert_eq!(found(Resolve::Name("z\u{1b}".into())), absent("z\\x1b"));
    let mut view = both();
    view.volumes.get_mut(&id("vol-a")).unwrap().state = VolumeState::Deleted;
    assert!(resolve(&view, &Resolve::Name("a".into())).is_err());
}

#[test]
fn a_name_that_two_volumes_have_finds_neither_and_the_project_its_own() {
    let mut view = both();
    view.volumes.insert(id("vol-s"), alone("c"));
    let refused = resolve(&view, &Resolve::Name("c".into())).unwrap_err();
    assert_eq!(
        refusal(&refused),
        "Precondition: there is more than one volume called \"c\": vol-c, vol-s"
    );
    assert_eq!(resolve(&view, &Resolve::Project("c".parse().unwrap())).unwrap(), id("vol-c"));
    view.volumes.get_mut(&id("vol-s")).unwrap().state = VolumeState::Trashed;
    assert_eq!(resolve(&view, &Resolve::Name("c".into())).unwrap(), id("vol-c"));
}
