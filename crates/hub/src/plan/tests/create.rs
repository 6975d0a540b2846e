use proptest::prelude::*;

use super::*;
use crate::plan::{Create, New, create, looked_for};
use crate::request;
use crate::volume_hub::{CreateVolume, QuotaRange, VolumeSource};

const MIB: u64 = 1 << 20;

fn wanted(name: &str) -> CreateVolume {
    CreateVolume {
        name: name.parse().unwrap(),
        operation: operation(1),
        source: None,
        quota: QuotaRange::default(),
        labels: BTreeMap::new(),
        parameters: BTreeMap::new(),
        wait_saved: false,
    }
}

fn from(source: VolumeSource) -> CreateVolume {
    CreateVolume { source: Some(source), ..wanted("new") }
}

/// The volume that was made as is asked for, under another operation.
fn made(asked: &CreateVolume) -> VolumeView {
    let mut view = with([("src", alone("src"))]);
    view.volumes.extend(with([("tmpl", template())]).volumes);
    view.snapshots.insert("src@abcdefghij23".parse().unwrap(), named("s"));
    view_of(make(&view, asked))
}

fn view_of(new: New) -> VolumeView {
    VolumeView {
        name: new.spec.name.clone().unwrap().as_str().into(),
        spec: new.spec,
        ..alone("x")
    }
}

fn template() -> VolumeView {
    let mut volume = alone("tmpl");
    volume.spec.labels = labels([("template", "true")]);
    volume
}

fn make(view: &View, asked: &CreateVolume) -> New {
    match create(view, asked) {
        Ok(Create::Make(new)) => *new,
        other => panic!("{other:?}"),
    }
}

/// The plan in words: the answer, or where it is made and of what.
fn planned(view: &View, asked: &CreateVolume) -> String {
    match create(view, asked) {
        Ok(Create::Answer(volume)) => format!("answer {volume}"),
        Ok(Create::Make(new)) => {
            assert_eq!(new.volume, request::volume_of(&asked.operation));
            let origin = new.origin.map(|from| format!("{} {:?}", from.volume, from.moment));
            format!("make on {} of {}", new.node, origin.unwrap_or_else(|| "nothing".into()))
        }
        Err(error) => refusal(&error),
    }
}

#[test]
fn an_empty_volume_begins_on_the_node_with_the_most_room() {
    assert_eq!(planned(&nodes(), &wanted("new")), "make on a of nothing");
    let mut equal = nodes();
    equal.nodes[1].free_bytes = Some(10 << 30);
    assert_eq!(planned(&equal, &wanted("new")), "make on b of nothing");
}

#[test]
fn a_node_that_does_not_say_what_room_it_has_gets_no_volume() {
    let mut view = nodes();
    view.nodes[1].free_bytes = None;
    assert_eq!(planned(&view, &wanted("new")), "make on b of nothing");
    view.nodes[0].free_bytes = None;
    let refused = "Unavailable: failed to place the volume: no node says what room it has";
    assert_eq!(planned(&view, &wanted("new")), refused);
}

#[test]
fn an_empty_volume_that_no_node_has_room_for_is_not_made() {
    let mut view = nodes();
    let sized = |bytes: u64| {
        let quota = QuotaRange { required_bytes: Some(bytes), limit_bytes: None };
        CreateVolume { quota, ..wanted("new") }
    };
    assert_eq!(planned(&view, &sized(20 << 30)), "make on a of nothing");
    assert_eq!(
        planned(&view, &sized((20 << 30) + 1)),
        "Exhausted: failed to place the volume: no node has 21474836481 bytes free: the most are 21474836480 bytes"
    );
    for node in &mut view.nodes {
        node.free_bytes = Some(0);
    }
    assert_eq!(
        planned(&view, &wanted("new")),
        "Exhausted: failed to place the volume: no node has 1 bytes free: the most are 0 bytes"
    );
}

#[test]
fn a_name_is_not_called_free_while_a_node_is_silent() {
    let refused = planned(&silent(nodes()), &wanted("new"));
    assert_eq!(
        refused,
        format!("Unavailable: failed to look for a volume called \"new\": {SILENT}")
    );
}

#[test]
fn what_is_found_is_the_answer_although_a_node_is_silent() {
    let view = silent(with([("vol-there", made(&wanted("new")))]));
    let again = CreateVolume { operation: operation(2), ..wanted("new") };
    assert_eq!(planned(&view, &again), "answer vol-there");
}

#[test]
fn a_name_is_told_on_one_line() {
    let mut there = made(&wanted("a\nb"));
    there.spec.asked = None;
    assert_eq!(
        planned(&with([("vol-there", there)]), &wanted("a\nb")),
        "AlreadyExists: volume vol-there is called \"a\\x0ab\" and was made with another request"
    );
}

#[test]
fn what_was_asked_for_alike_is_the_answer_although_its_source_is_gone() {
    for asked in [
        wanted("new"),
        CreateVolume { labels: labels([("a", "b")]), ..wanted("new") },
        CreateVolume { parameters: labels([("retention", "9")]), ..wanted("new") },
        from(VolumeSource::Volume(id("src"))),
        from(VolumeSource::Snapshot("src@abcdefghij23".parse().unwrap())),
        from(VolumeSource::Template("tmpl".into())),
    ] {
        let view = with([("vol-there", made(&asked))]);
        let again = CreateVolume { operation: operation(2), ..asked };
        assert_eq!(planned(&view, &again), "answer vol-there");
    }
}

#[test]
fn a_name_that_is_taken_otherwise_is_refused_with_the_field_that_differs() {
    let mut view = with([("src", alone("src")), ("other", alone("other")), ("tmpl", template())]);
    let asked = CreateVolume {
        labels: labels([("a", "b")]),
        parameters: labels([("retention", "9")]),
        quota: QuotaRange::exact(Some(5 * MIB)),
        operation: operation(2),
        ..from(VolumeSource::Volume(id("src")))
    };
    view.volumes.insert(id("vol-there"), made(&asked));
    let check = |field: &str, other: CreateVolume| {
        let expected = format!(
            "AlreadyExists: volume vol-there is called \"new\" and was made with another {field}"
        );
        assert_eq!(planned(&view, &CreateVolume { operation: operation(3), ..other }), expected);
    };
    check("source", CreateVolume { source: None, ..asked.clone() });
    let other = Some(VolumeSource::Volume(id("other")));
    check("source", CreateVolume { source: other, ..asked.clone() });
    let other = Some(VolumeSource::Template("tmpl".into()));
    check("source", CreateVolume { source: other, ..asked.clone() });
    check("set of labels", CreateVolume { labels: labels([("a", "c")]), ..asked.clone() });
    let other = labels([("retention", "8")]);
    check("set of parameters", CreateVolume { parameters: other, ..asked.clone() });
    let other = QuotaRange::exact(Some(6 * MIB));
    check("quota", CreateVolume { quota: other, ..asked });
}

#[test]
fn labels_that_changed_since_do_not_make_it_another_request() {
    let asked = CreateVolume { labels: labels([("a", "b")]), ..wanted("new") };
    let mut there = made(&asked);
    there.spec.labels = labels([("a", "c")]);
    let view = with([("vol-there", there)]);
    assert_eq!(
        planned(&view, &CreateVolume { operation: operation(2), ..asked }),
        "answer vol-there"
    );
    let changed = CreateVolume { labels: labels([("a", "c")]), ..wanted("new") };
    assert_eq!(
        planned(&view, &changed),
        "AlreadyExists: volume vol-there is called \"new\" and was made with another request"
    );
}

#[test]
fn a_project_has_its_name() {
    let view = with([("vol-shop", workspace("shop"))]);
    assert_eq!(
        planned(&view, &wanted("shop")),
        "AlreadyExists: volume vol-shop is called \"shop\" and was made with another request"
    );
}

#[test]
fn names_of_volumes_that_are_gone_are_free() {
    for state in [VolumeState::Deleted, VolumeState::Trashed] {
        let view = with([("vol-there", VolumeView { state, ..alone("new") })]);
        assert_eq!(planned(&view, &wanted("new")), "make on a of nothing");
    }
}

#[test]
fn of_two_volumes_of_a_name_the_one_that_was_asked_for_alike_is_the_answer() {
    let view = with([("vol-a", workspace("new")), ("vol-b", made(&wanted("new")))]);
    let again = CreateVolume { operation: operation(2), ..wanted("new") };
    assert_eq!(planned(&view, &again), "answer vol-b");
}

#[test]
fn an_operation_that_made_a_volume_makes_no_other() {
    let made_by = request::volume_of(&operation(1));
    let mut view = nodes();
    view.volumes.insert(made_by.clone(), made(&wanted("old")));
    let other = "Conflict: the same operation id was used for another request";
    assert_eq!(planned(&view, &wanted("new")), other);
    let labelled = CreateVolume { labels: labels([("a", "b")]), ..wanted("old") };
    assert_eq!(planned(&view, &labelled), other);
    assert_eq!(planned(&view, &wanted("old")), format!("answer {made_by}"));
}

#[test]
fn what_its_operation_made_is_the_answer_whatever_its_size_is_now() {
    let made_by = request::volume_of(&operation(1));
    let asked = CreateVolume { quota: QuotaRange::exact(Some(5 * MIB)), ..wanted("new") };
    let mut grown = made(&asked);
    grown.spec.quota_bytes = Some(9 * MIB);
    let mut view = with([("vol-other", workspace("new"))]);
    view.volumes.insert(made_by.clone(), grown);
    assert_eq!(planned(&view, &asked), format!("answer {made_by}"));
    // to another operation its size matters
    view.volumes.remove(&id("vol-other"));
    assert_eq!(
        planned(&view, &CreateVolume { operation: operation(2), ..asked }),
        format!(
            "AlreadyExists: volume {made_by} is called \"new\" and was made with another quota"
        )
    );
}

#[test]
fn a_volume_that_its_operation_made_and_that_is_gone_is_not_made_again() {
    let made_by = request::volume_of(&operation(1));
    for state in [VolumeState::Deleted, VolumeState::Trashed] {
        let mut view = nodes();
        view.volumes.insert(made_by.clone(), VolumeView { state, ..made(&wanted("new")) });
        let refused = format!("NotFound: volume {made_by} does not exist");
        assert_eq!(planned(&view, &wanted("new")), refused);
    }
}

#[test]
fn a_fork_begins_on_the_node_of_its_source() {
    let mut view = with([("src", VolumeView { node: "b".parse().unwrap(), ..alone("src") })]);
    view.snapshots.insert("src@abcdefghij23".parse().unwrap(), named("s"));
    let volume = from(VolumeSource::Volume(id("src")));
    assert_eq!(planned(&view, &volume), "make on b of src Now");
    let snapshot = from(VolumeSource::Snapshot("src@abcdefghij23".parse().unwrap()));
    let expected = "make on b of src Entry(EntryId(abcdefghij23))";
    assert_eq!(planned(&view, &snapshot), expected);
    view.volumes.get_mut(&id("src")).unwrap().state = VolumeState::Deleted;
    assert_eq!(planned(&view, &snapshot), expected, "its snapshots outlive a volume");
    assert_eq!(planned(&view, &volume), "NotFound: volume src does not exist");
    view.volumes.get_mut(&id("src")).unwrap().state = VolumeState::Trashed;
    assert_eq!(planned(&view, &volume), "NotFound: volume src does not exist");
    assert_eq!(planned(&view, &snapshot), "NotFound: snapshot src@abcdefghij23 does not exist");
}

#[test]
fn a_source_that_there_is_not_is_named() {
    let absent = from(VolumeSource::Volume(id("src")));
    assert_eq!(planned(&nodes(), &absent), "NotFound: volume src does not exist");
    let absent = from(VolumeSource::Snapshot("src@abcdefghij23".parse().unwrap()));
    let view = with([("src", alone("src"))]);
    for view in [&view, &nodes()] {
        assert_eq!(planned(view, &absent), "NotFound: snapshot src@abcdefghij23 does not exist");
    }
}

#[test]
fn a_template_is_a_live_volume_that_says_so() {
    let of = |name: &str| from(VolumeSource::Template(name.into()));
    let view = with([("vol-t", template()), ("vol-n", alone("plain"))]);
    assert_eq!(planned(&view, &of("tmpl")), "make on a of vol-t Now");
    assert_eq!(planned(&view, &of("vol-t")), "make on a of vol-t Now");
    for name in ["plain", "vol-n", "absent"] {
        assert_eq!(planned(&view, &of(name)), format!("NotFound: there is no template \"{name}\""));
    }
    let mut unsaid = template();
    unsaid.spec.labels = labels([("template", "false")]);
    for volume in [unsaid, VolumeView { state: VolumeState::Deleted, ..template() }] {
        let view = with([("vol-t", volume)]);
        assert_eq!(planned(&view, &of("tmpl")), "NotFound: there is no template \"tmpl\"");
    }
}

#[test]
fn a_template_is_told_as_the_volume_that_it_is() {
    let view = with([("vol-t", template())]);
    let new = make(&view, &from(VolumeSource::Template("tmpl".into())));
    assert_eq!(new.spec.source, Some(cove_content::spec::SpecSource::Volume(id("vol-t"))));
}

#[test]
fn a_source_is_forked_under_an_operation_that_its_head_takes() {
    let view = with([("src", alone("src"))]);
    let asked = from(VolumeSource::Volume(id("src")));
    let blind = make(&view, &asked).origin.unwrap().operation;
    assert_eq!(blind, request::whole_of(&asked.operation));
    let seen = CreateVolume { operation: OperationId::new(3, [1; 12]), ..asked };
    assert_eq!(make(&view, &seen).origin.unwrap().operation, seen.operation);
}

#[test]
fn a_new_volume_stands_alone_with_all_that_was_asked() {
    let asked = CreateVolume {
        labels: labels([("a", "b")]),
        parameters: labels([("retention", "9")]),
        quota: QuotaRange::exact(Some(5 * MIB)),
        ..wanted("new")
    };
    let spec = make(&nodes(), &asked).spec;
    assert!(spec.stands_alone);
    assert_eq!(spec.name.as_ref().unwrap().as_str(), "new");
    assert_eq!((&spec.labels, &spec.parameters), (&asked.labels, &asked.parameters));
    assert_eq!(spec.quota_bytes, Some(5 * MIB));
    assert_eq!(spec.asked, Some(request::asked(&asked)));
}

fn quota_of(required: Option<u64>, limit: Option<u64>, source: Option<VolumeView>) -> String {
    let quota = QuotaRange { required_bytes: required, limit_bytes: limit };
    let name = source.as_ref().map(|_| VolumeSource::Volume(id("src")));
    let mut view = with(source.map(|source| ("src", source)));
    view.nodes[0].free_bytes = Some(u64::MAX);
    match create(&view, &CreateVolume { quota, source: name, ..wanted("new") }) {
        Ok(Create::Make(new)) => new.spec.quota_bytes.map_or("none".into(), |q| q.to_string()),
        Ok(other) => panic!("{other:?}"),
        Err(error @ HubError::QuotaOutOfRange { .. }) => format!("refused: {error}"),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_new_volume_gets_what_is_required_or_its_sources_quota_or_the_limit() {
    let source = |quota_bytes| {
        let mut source = alone("src");
        source.spec.quota_bytes = quota_bytes;
        Some(source)
    };
    let five = Some(5 * MIB);
    assert_eq!(quota_of(None, None, None), "none");
    assert_eq!(quota_of(five, Some(6 * MIB), None), "5242880");
    assert_eq!(quota_of(None, five, None), "5242880");
    assert_eq!(quota_of(None, None, source(five)), "5242880");
    assert_eq!(quota_of(Some(4 * MIB), None, source(five)), "4194304");
    assert_eq!(quota_of(None, Some(9 * MIB), source(five)), "5242880");
    assert_eq!(quota_of(None, Some(3 * MIB), source(five)), "3145728", "not above the limit");
    assert_eq!(quota_of(None, None, source(None)), "none");
    assert_eq!(quota_of(None, Some(9 * MIB), source(None)), "9437184");
}

#[test]
fn a_quota_that_no_volume_can_have_is_refused() {
    let law = |bytes: u64| format!("refused: a quota is 1 MiB to 1 EiB, found {bytes} bytes");
    for bytes in [0, MIB - 1, (1 << 60) + 1] {
        assert_eq!(quota_of(Some(bytes), Some(bytes), None), law(bytes));
    }
    assert_eq!(quota_of(Some((1 << 60) + 1), None, None), law((1 << 60) + 1));
    assert_eq!(quota_of(None, Some(MIB - 1), None), law(MIB - 1));
    for bytes in [MIB, 1 << 60] {
        assert_eq!(quota_of(Some(bytes), None, None), bytes.to_string());
    }
    assert_eq!(
        quota_of(Some(3 * MIB), Some(2 * MIB), None),
        "refused: a quota of at least 3145728 bytes is more than the limit of 2097152 bytes"
    );
}

#[test]
fn of_a_range_that_reaches_further_than_quotas_do_a_volume_gets_one_that_it_can_have() {
    let (mib, eib) = (MIB.to_string(), (1_u64 << 60).to_string());
    assert_eq!(quota_of(Some(1), Some(1 << 30), None), mib);
    assert_eq!(quota_of(Some(0), None, None), mib);
    assert_eq!(quota_of(None, Some(1 << 61), None), eib);
    assert_eq!(quota_of(Some(1 << 60), Some(u64::MAX), None), eib);
}

#[test]
fn a_clone_that_its_node_has_no_room_for_is_not_made() {
    let mut view = with([("src", alone("src"))]);
    view.snapshots.insert("src@abcdefghij23".parse().unwrap(), named("s"));
    let sized = |source: &VolumeSource, bytes: u64| CreateVolume {
        quota: QuotaRange { required_bytes: Some(bytes), limit_bytes: None },
        ..from(source.clone())
    };
    let sources = [
        (VolumeSource::Volume(id("src")), 2 * MIB),
        (VolumeSource::Snapshot("src@abcdefghij23".parse().unwrap()), 3 * MIB),
    ];
    for (source, shared) in sources {
        let fits = (20 << 30) + shared;
        assert!(planned(&view, &sized(&source, fits)).starts_with("make on a of src"));
        let refused = planned(&view, &sized(&source, fits + 1));
        assert_eq!(
            refused,
            "Exhausted: failed to place the volume: it needs 21474836481 bytes beside what it shares with its source, \
             and node a has 21474836480 bytes free"
        );
        let mut unsaid = view.clone();
        unsaid.nodes[1].free_bytes = None;
        assert_eq!(
            planned(&unsaid, &sized(&source, fits)),
            "Unavailable: failed to place the volume: node a does not say what room it has"
        );
        assert!(
            planned(&unsaid, &from(source)).starts_with("make on a of src"),
            "it grows to no size"
        );
    }
}

#[test]
fn a_quota_holds_what_the_volume_begins_with_or_as_much_as_its_source_may_hold() {
    let source = |quota_bytes, held_bytes| {
        let mut source = VolumeView { held_bytes, ..alone("src") };
        source.spec.quota_bytes = quota_bytes;
        Some(source)
    };
    let refused = "refused: a quota of 3145728 bytes does not hold the 4194304 bytes that the volume begins with";
    assert_eq!(quota_of(Some(3 * MIB), None, source(None, 4 * MIB)), refused);
    assert_eq!(quota_of(Some(3 * MIB), None, source(Some(5 * MIB), 4 * MIB)), refused);
    assert_eq!(quota_of(Some(4 * MIB), None, source(None, 4 * MIB)), "4194304");
    assert_eq!(quota_of(Some(3 * MIB), None, source(Some(3 * MIB), 4 * MIB)), "3145728");
}

#[test]
fn a_quota_holds_what_the_snapshot_holds() {
    let mut view = with([("src", alone("src"))]);
    view.snapshots.insert("src@abcdefghij23".parse().unwrap(), named("s"));
    let asked = CreateVolume {
        quota: QuotaRange::exact(Some(2 * MIB)),
        ..from(VolumeSource::Snapshot("src@abcdefghij23".parse().unwrap()))
    };
    assert_eq!(
        planned(&view, &asked),
        "Invalid: a quota of 2097152 bytes does not hold the 3145728 bytes that the volume begins with"
    );
    // nor does it matter that its volume may hold less by now
    view.volumes.get_mut(&id("src")).unwrap().spec.quota_bytes = Some(2 * MIB);
    let inherits = CreateVolume { quota: QuotaRange::default(), ..asked.clone() };
    for asked in [&asked, &inherits] {
        assert_eq!(
            planned(&view, asked),
            "Invalid: a quota of 2097152 bytes does not hold the 3145728 bytes that the volume begins with"
        );
    }
    view.volumes.get_mut(&id("src")).unwrap().spec.quota_bytes = None;
    // before it is saved it holds what its volume does
    let unknown = SnapshotView { needs_bytes: None, ..named("s") };
    view.snapshots.insert("src@abcdefghij23".parse().unwrap(), unknown);
    assert_eq!(planned(&view, &asked), "make on a of src Entry(EntryId(abcdefghij23))");
    view.volumes.get_mut(&id("src")).unwrap().held_bytes = 2 * MIB + 1;
    assert_eq!(
        planned(&view, &asked),
        "Invalid: a quota of 2097152 bytes does not hold the 2097153 bytes that the volume begins with"
    );
}

#[test]
fn a_snapshot_that_may_be_one_that_nobody_can_read_is_not_called_absent() {
    let mut view = damaged(with([("src", alone("src"))]), "src");
    let asked = from(VolumeSource::Snapshot("src@abcdefghij23".parse().unwrap()));
    assert_eq!(
        planned(&view, &asked),
        format!("Corrupt: failed to look for snapshot src@abcdefghij23: {DAMAGED}")
    );
    view.snapshots.insert("src@abcdefghij23".parse().unwrap(), named("s"));
    assert_eq!(planned(&view, &asked), "make on a of src Entry(EntryId(abcdefghij23))");
}

#[test]
fn a_volume_that_is_there_is_as_large_as_is_wanted_within_the_range() {
    let check = |is: Option<u64>, required_bytes, limit_bytes| {
        let mut there = made(&wanted("new"));
        there.spec.quota_bytes = is;
        let quota = QuotaRange { required_bytes, limit_bytes };
        let view = with([("vol-there", there)]);
        planned(&view, &CreateVolume { quota, operation: operation(2), ..wanted("new") })
            == "answer vol-there"
    };
    let (three, five) = (Some(3 * MIB), Some(5 * MIB));
    assert!(check(five, three, None) && check(five, five, five) && check(three, None, five));
    assert!(!check(three, five, None) && !check(five, None, three));
    assert!(check(None, None, None) && check(five, None, None));
    assert!(check(None, five, None), "what nothing limits is large enough");
    assert!(!check(None, None, five), "and larger than any limit");
}

#[test]
fn what_breaks_a_law_is_refused_before_anything_is_looked_at() {
    let view = silent(nodes());
    let asked = CreateVolume { parameters: labels([("size", "1")]), ..wanted("new") };
    assert!(planned(&view, &asked).starts_with("Invalid: parameter \"size\""));
    let asked = CreateVolume { labels: labels([("", "1")]), ..wanted("new") };
    assert!(planned(&view, &asked).starts_with("Invalid: keys of labels"));
}

fn id_slug(volume: &str) -> Slug {
    volume.parse().unwrap()
}

fn sources() -> impl Strategy<Value = Option<VolumeSource>> {
    prop_oneof![
        Just(None),
        Just(Some(VolumeSource::Volume(id("src")))),
        Just(Some(VolumeSource::Template("tmpl".into()))),
        Just(Some(VolumeSource::Snapshot("src@abcdefghij23".parse().unwrap()))),
    ]
}

proptest! {
    /// Whatever is asked, the volume that is made is the answer to whoever asks again, under the same operation
    /// or another, and is within what was asked for.
    #[test]
    fn what_is_made_is_the_answer_to_a_repetition(
        source in sources(),
        required_bytes in prop::option::of(0..8 * MIB),
        limit_bytes in prop::option::of(0..8 * MIB),
        quota_bytes in prop::option::of(MIB..8 * MIB),
        label in "[a-z]{0,3}",
        repeats: bool,
    ) {
        let mut view = with([("src", alone("src")), ("tmpl", template())]);
        view.volumes.get_mut(&id("src")).unwrap().spec.quota_bytes = quota_bytes;
        view.snapshots.insert("src@abcdefghij23".parse().unwrap(), named("s"));
        let quota = QuotaRange { required_bytes, limit_bytes };
        let labels = labels([("l", label.as_str())]);
        let mut asked = CreateVolume { source, quota, labels, ..wanted("new") };
        if let Ok(Create::Make(new)) = create(&view, &asked) {
            prop_assert!(new.spec.check().is_ok());
            let volume = new.volume.clone();
            view.volumes.insert(volume.clone(), view_of(*new));
            if !repeats {
                asked.operation = operation(2);
            }
            prop_assert_eq!(create(&view, &asked).unwrap(), Create::Answer(volume));
        }
    }

    /// What [`looked_for`] leaves out decides nothing: of volumes of all kinds with two names among them, those that
    /// it takes in give the plan that all of them give.
    #[test]
    fn what_is_not_looked_for_decides_nothing(
        source in sources(),
        others in prop::collection::vec(
            ("src|tmpl|vol-[ab]", "src|tmpl|new|old", any::<bool>(), any::<bool>(), 0..3u8),
            0..6,
        ),
        is_made: bool,
    ) {
        let mut view = nodes();
        view.snapshots.insert("src@abcdefghij23".parse().unwrap(), named("s"));
        let asked = CreateVolume { source, ..wanted("new") };
        for (volume, name, is_named, is_template, state) in others {
            let mut other = if is_template { template() } else { alone(&name) };
            other.state = [VolumeState::Live, VolumeState::Trashed, VolumeState::Deleted][usize::from(state)];
            if is_named {
                other.spec.name = Some(name.parse().unwrap());
                other.slug = id_slug(&volume);
            } else {
                other.slug = name.parse().unwrap();
            }
            other.name = name;
            let id = if is_made && volume == "vol-a" {
                request::volume_of(&asked.operation)
            } else {
                id(&volume)
            };
            view.volumes.insert(id, other);
        }
        let filter = looked_for(&asked);
        let mut seen = view.clone();
        seen.volumes
            .retain(|id, volume| filter.includes(id, volume.spec.name.as_ref(), &volume.slug));
        prop_assert_eq!(planned(&seen, &asked), planned(&view, &asked));
    }
}
