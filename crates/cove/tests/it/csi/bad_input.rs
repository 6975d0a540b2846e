//! Each field of each call with what it cannot be: the code, a text that names it, and nothing changes.

use std::collections::HashMap;
use std::fmt::Debug;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use cove_csi::proto as pb;
use cove_csi::proto::volume_capability::access_mode::Mode;
use cove_csi::proto::volume_capability::{AccessMode, AccessType, BlockVolume, MountVolume};
use prost::Message;
use prost::bytes::{Buf, BufMut};
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request, Status};

use super::{
    Driver, MIB, capability, code, from_snapshot, from_volume, new, new_snapshot, range, text,
    writer,
};
use crate::harness::run;

/// The longest text of a refusal, in bytes: it goes into a header, and whoever reads it is tired.
const TEXT_BYTES_MAX: usize = 1000;

/// What is seen of calls that are to change nothing.
struct Table<'d> {
    driver: &'d Driver,
    before: String,
    faults: Vec<String>,
    cases: usize,
}

impl<'d> Table<'d> {
    fn new(driver: &'d Driver) -> Self {
        Self { driver, before: driver.state(), faults: Vec::new(), cases: 0 }
    }

    fn unchanged(&mut self, what: &str) {
        self.cases += 1;
        let now = self.driver.state();
        if now != self.before {
            self.faults.push(format!("{what}: it changed something:\n{now}"));
            self.before = now;
        }
    }

    /// It is refused with this code and a text that has `says`.
    fn refused<T: Debug>(
        &mut self,
        what: impl AsRef<str>,
        answer: Result<T, Status>,
        expected: Code,
        says: &str,
    ) {
        let what = what.as_ref();
        match answer {
            Ok(answer) => self.faults.push(format!("{what}: not refused: {answer:?}")),
            Err(status) => {
                let said = status.message();
                let start: String = said.chars().take(300).collect();
                if status.code() != expected || !said.contains(says) {
                    let found = status.code();
                    self.faults.push(format!(
                        "{what}: {expected:?} with {says:?}, found {found:?}: {start}"
                    ));
                }
                if said.len() > TEXT_BYTES_MAX || said.chars().any(char::is_control) {
                    self.faults.push(format!("{what}: no text for a person: {start}"));
                }
                if !status.details().is_empty() {
                    self.faults.push(format!("{what}: details"));
                }
            }
        }
        self.unchanged(what);
    }

    /// It is answered, and changes nothing all the same.
    fn answered<T: Debug>(
        &mut self,
        what: impl AsRef<str>,
        answer: Result<T, Status>,
    ) -> Option<T> {
        let what = what.as_ref();
        let answer = answer
            .inspect_err(|status| self.faults.push(format!("{what}: refused: {status:?}")))
            .ok();
        self.unchanged(what);
        answer
    }

    #[track_caller]
    fn end(self) {
        let (faults, count) = (self.faults.join("\n"), self.faults.len());
        assert!(self.faults.is_empty(), "{count} of {} cases:\n{faults}", self.cases);
        eprintln!("{} cases", self.cases);
    }
}

/// A driver with a published volume, a snapshot, a group and a volume beside it.
struct World {
    driver: Driver,
    volume: String,
    beside: String,
    snapshot: String,
    group: String,
}

impl World {
    fn start() -> Option<Self> {
        let driver = Driver::start()?;
        let (volume, beside) = (driver.make("there", 16), driver.make("beside", 16));
        driver.publish(&volume, "pod");
        let snapshot = driver.snapshot("taken", &volume).unwrap().snapshot_id;
        let group = pb::CreateVolumeGroupSnapshotRequest {
            name: "together".to_owned(),
            source_volume_ids: vec![volume.clone(), beside.clone()],
            ..pb::CreateVolumeGroupSnapshotRequest::default()
        };
        let group = driver.wait(driver.group().create_volume_group_snapshot(group)).unwrap();
        let group = group.group_snapshot.unwrap().group_snapshot_id;
        Some(Self { driver, volume, beside, snapshot, group })
    }

    /// What names nothing, whatever is asked for by an id; `own` is the right kind.
    fn foreign(&self, own: &str) -> Vec<(String, String)> {
        let mut ids: Vec<(&str, String)> = vec![
            ("a foreign handle", "fake-vol-id-xxxxxxxxxx".to_owned()),
            ("a handle of another driver", "pvc-5ab1#/export/share#10.0.0.1".to_owned()),
            ("a path", "../../../etc".to_owned()),
            ("uppercase", own.to_uppercase()),
            ("a blank behind it", format!("{own} ")),
            ("a zero byte in it", format!("{own}\0")),
            ("a line feed and an escape", "a\n\u{1b}[2J".to_owned()),
            ("no ASCII", "é".repeat(64)),
            ("129 bytes", "x".repeat(129)),
            ("20,000 bytes", "x".repeat(20_000)),
            ("20,000 bytes to escape", "\n".repeat(20_000)),
        ];
        let kinds =
            [("a volume", &self.volume), ("a snapshot", &self.snapshot), ("a group", &self.group)];
        ids.extend(
            kinds.into_iter().filter(|(_, id)| *id != own).map(|(what, id)| (what, id.clone())),
        );
        ids.into_iter().map(|(what, id)| (what.to_owned(), id)).collect()
    }
}

/// Names that no thing has.
fn bad_names() -> [(&'static str, String); 5] {
    [
        ("an empty name", String::new()),
        ("a name of 129 bytes", "x".repeat(129)),
        ("a name of 65 characters and 130 bytes", "é".repeat(65)),
        ("a name with a zero byte", "a\0b".to_owned()),
        ("a name of 3 MiB", "x".repeat(3 << 20)),
    ]
}

/// Capabilities that no volume has, with what is said of them.
fn bad_capabilities() -> Vec<(&'static str, pb::VolumeCapability, &'static str)> {
    let mounted = |change: fn(&mut MountVolume)| {
        let mut mount = MountVolume::default();
        change(&mut mount);
        pb::VolumeCapability { access_type: Some(AccessType::Mount(mount)), ..writer() }
    };
    let unknown = Some(AccessMode { mode: 99 });
    vec![
        ("no access type", pb::VolumeCapability { access_type: None, ..writer() }, "access_type"),
        ("no access mode", pb::VolumeCapability { access_mode: None, ..writer() }, "access_mode"),
        ("access mode UNKNOWN", capability(Mode::Unknown), "access_mode"),
        (
            "an access mode of later",
            pb::VolumeCapability { access_mode: unknown, ..writer() },
            "99",
        ),
        ("writers on two nodes", capability(Mode::MultiNodeMultiWriter), "MULTI_NODE_MULTI_WRITER"),
        (
            "one writer of several nodes",
            capability(Mode::MultiNodeSingleWriter),
            "MULTI_NODE_SINGLE",
        ),
        (
            "a block device",
            pb::VolumeCapability {
                access_type: Some(AccessType::Block(BlockVolume {})),
                ..writer()
            },
            "block",
        ),
        ("ext4", mounted(|mount| mount.fs_type = "ext4".to_owned()), "ext4"),
        ("a long type", mounted(|mount| mount.fs_type = "x".repeat(20_000)), "btrfs"),
        ("a mount group", mounted(|mount| mount.volume_mount_group = "1000".to_owned()), "group"),
        ("the flag suid", mounted(|mount| mount.mount_flags = vec!["suid".to_owned()]), "suid"),
        ("a long flag", mounted(|mount| mount.mount_flags = vec!["\n".repeat(20_000)]), "flag"),
    ]
}

fn map(key: &str, value: &str) -> HashMap<String, String> {
    HashMap::from([(key.to_owned(), value.to_owned())])
}

#[test]
fn volumes_are_not_made_of_what_is_no_request() {
    let Some(world) = World::start() else { return };
    let driver = &world.driver;
    let mut table = Table::new(driver);
    use Code::{AlreadyExists, InvalidArgument, NotFound, OutOfRange, ResourceExhausted};
    for (what, name) in bad_names() {
        table.refused(what, driver.create(new(&name, 16)), InvalidArgument, "\"name\"");
    }
    let mut with =
        |what: &str, change: &dyn Fn(&mut pb::CreateVolumeRequest), expected, says: &str| {
            let mut request = new("new", 16);
            change(&mut request);
            table.refused(what, driver.create(request), expected, says);
        };
    with(
        "no capabilities",
        &|r| r.volume_capabilities.clear(),
        InvalidArgument,
        "volume_capabilities",
    );
    for (what, bad, says) in bad_capabilities() {
        let pair = vec![writer(), bad];
        with(what, &|r| r.volume_capabilities = pair.clone(), InvalidArgument, says);
    }
    for (least, most, expected) in [
        (0, 0, InvalidArgument),
        (-1, 0, InvalidArgument),
        (0, -1, InvalidArgument),
        (i64::MIN, i64::MIN, InvalidArgument),
        (2 * MIB, MIB, InvalidArgument),
        (i64::MAX, 0, OutOfRange),
        (1, MIB - 1, OutOfRange),
        (1, 1, OutOfRange),
        (1 << 50, 0, ResourceExhausted),
    ] {
        let says = match expected {
            InvalidArgument => "capacity_range",
            _ => "bytes",
        };
        let what = format!("{least} to {most} bytes");
        with(&what, &|r| r.capacity_range = range(least, most), expected, says);
    }
    with("a parameter", &|r| r.parameters = map("tier", "hot"), InvalidArgument, "\"parameters\"");
    let long = "k".repeat(20_000);
    with("a long parameter", &|r| r.parameters = map(&long, ""), InvalidArgument, "\"parameters\"");
    let many: HashMap<_, _> = (0..20_000).map(|n| (format!("key-{n}"), "x".repeat(100))).collect();
    with("many parameters", &|r| r.parameters = many.clone(), InvalidArgument, "\"parameters\"");
    for (key, value) in [
        ("tier", "hot"),
        ("", ""),
        ("storingInterval", ""),
        ("storingInterval", "0"),
        ("storingInterval", "-5"),
        ("storingInterval", "86401"),
        ("storingInterval", "1s"),
        ("storingInterval", "060"),
        ("retention", "+5"),
        ("retention", "201"),
        ("retention", "99999999999999999999"),
        (long.as_str(), "1"),
        ("retention", long.as_str()),
    ] {
        let what = format!("{key:.40}={value:.40}");
        with(
            &what,
            &|r| r.mutable_parameters = map(key, value),
            InvalidArgument,
            "mutable_parameters",
        );
    }
    let none = pb::VolumeContentSource::default();
    with(
        "no kind of source",
        &|r| r.volume_content_source = Some(none.clone()),
        InvalidArgument,
        "volume_content_source",
    );
    with(
        "no snapshot",
        &|r| r.volume_content_source = from_snapshot(""),
        InvalidArgument,
        "snapshot_id",
    );
    with("no volume", &|r| r.volume_content_source = from_volume(""), InvalidArgument, "volume_id");
    for (what, id) in world.foreign(&world.snapshot) {
        let what = format!("as a snapshot: {what}");
        with(&what, &|r| r.volume_content_source = from_snapshot(&id), NotFound, "snapshot ");
    }
    for (what, id) in world.foreign(&world.volume) {
        let what = format!("as a volume: {what}");
        with(&what, &|r| r.volume_content_source = from_volume(&id), NotFound, "volume ");
    }
    let gone = format!("{}@aaaaaaaaaaaa", world.volume);
    with(
        "a snapshot that is gone",
        &|r| r.volume_content_source = from_snapshot(&gone),
        NotFound,
        "snapshot",
    );
    with(
        "less than the source",
        &|r| {
            r.volume_content_source = from_snapshot(&world.snapshot);
            r.capacity_range = range(0, MIB - 1);
        },
        OutOfRange,
        "bytes",
    );
    for (key, node) in
        [(cove_csi::TOPOLOGY_NODE, "n2"), ("topology.kubernetes.io/zone", "n1"), ("", "")]
    {
        let place = pb::Topology { segments: map(key, node) };
        with(
            &format!("on {key}={node}"),
            &|r| {
                r.accessibility_requirements = Some(pb::TopologyRequirement {
                    requisite: vec![place.clone()],
                    preferred: vec![],
                });
            },
            ResourceExhausted,
            "node n1",
        );
    }
    with(
        "a name that is taken",
        &|r| {
            r.name = "there".to_owned();
            r.capacity_range = range(17 * MIB, 0);
        },
        AlreadyExists,
        "there",
    );
    let same = table.answered("the same again", driver.create(new("there", 16)));
    assert_eq!(same.unwrap().volume_id, world.volume);
    table.end();
}

#[test]
fn volumes_are_not_changed_by_what_is_no_request() {
    let Some(world) = World::start() else { return };
    let driver = &world.driver;
    let mut table = Table::new(driver);
    use Code::{Aborted, FailedPrecondition, InvalidArgument, NotFound, OutOfRange};
    let volume = world.volume.clone();
    let publish = |volume: &str, node: &str, capability: Option<pb::VolumeCapability>| {
        driver.wait(driver.controller().controller_publish_volume(
            pb::ControllerPublishVolumeRequest {
                volume_id: volume.to_owned(),
                node_id: node.to_owned(),
                volume_capability: capability,
                ..pb::ControllerPublishVolumeRequest::default()
            },
        ))
    };
    let unpublish = |volume: &str, node: &str| {
        driver.wait(driver.controller().controller_unpublish_volume(
            pb::ControllerUnpublishVolumeRequest {
                volume_id: volume.to_owned(),
                node_id: node.to_owned(),
                ..pb::ControllerUnpublishVolumeRequest::default()
            },
        ))
    };
    let validate = |volume: &str, capabilities: Vec<pb::VolumeCapability>| {
        driver.wait(driver.controller().validate_volume_capabilities(
            pb::ValidateVolumeCapabilitiesRequest {
                volume_id: volume.to_owned(),
                volume_capabilities: capabilities,
                ..pb::ValidateVolumeCapabilitiesRequest::default()
            },
        ))
    };
    let expand = |volume: &str, range: Option<pb::CapacityRange>, capability| {
        driver.wait(driver.controller().controller_expand_volume(
            pb::ControllerExpandVolumeRequest {
                volume_id: volume.to_owned(),
                capacity_range: range,
                volume_capability: capability,
                ..pb::ControllerExpandVolumeRequest::default()
            },
        ))
    };
    let modify = |volume: &str, key: &str, value: &str| {
        driver.wait(driver.controller().controller_modify_volume(
            pb::ControllerModifyVolumeRequest {
                volume_id: volume.to_owned(),
                mutable_parameters: map(key, value),
                ..pb::ControllerModifyVolumeRequest::default()
            },
        ))
    };
    let get = |volume: &str| {
        let volume_id = volume.to_owned();
        driver.wait(
            driver.controller().controller_get_volume(pb::ControllerGetVolumeRequest { volume_id }),
        )
    };
    let health = |volume: &str| {
        driver.wait(driver.controller().controller_get_volume_health(
            pb::ControllerGetVolumeHealthRequest {
                volume_id: volume.to_owned(),
                ..pb::ControllerGetVolumeHealthRequest::default()
            },
        ))
    };
    let field = "\"volume_id\"";
    table.refused("delete nothing", driver.delete(""), InvalidArgument, field);
    table.refused("publish nothing", publish("", "n1", Some(writer())), InvalidArgument, field);
    table.refused(
        "publish nowhere",
        publish(&volume, "", Some(writer())),
        InvalidArgument,
        "\"node_id\"",
    );
    table.refused(
        "publish somehow",
        publish(&volume, "n1", None),
        InvalidArgument,
        "volume_capability",
    );
    table.refused("unpublish nothing", unpublish("", "n1"), InvalidArgument, field);
    table.refused("validate nothing", validate("", vec![writer()]), InvalidArgument, field);
    table.refused(
        "validate nothing of it",
        validate(&volume, vec![]),
        InvalidArgument,
        "volume_capabilities",
    );
    table.refused("expand nothing", expand("", range(32 * MIB, 0), None), InvalidArgument, field);
    table.refused(
        "expand to nothing",
        expand(&volume, None, None),
        InvalidArgument,
        "capacity_range",
    );
    table.refused("modify nothing", modify("", "retention", "5"), InvalidArgument, field);
    table.refused("get nothing", get(""), InvalidArgument, field);
    table.refused("the health of nothing", health(""), InvalidArgument, field);
    for (what, id) in world.foreign(&volume) {
        let says = "volume ";
        table.answered(format!("delete {what}"), driver.delete(&id));
        table.answered(format!("unpublish {what}"), unpublish(&id, "n1"));
        table.refused(
            format!("publish {what}"),
            publish(&id, "n1", Some(writer())),
            NotFound,
            says,
        );
        table.refused(format!("validate {what}"), validate(&id, vec![writer()]), NotFound, says);
        table.refused(
            format!("expand {what}"),
            expand(&id, range(32 * MIB, 0), None),
            NotFound,
            says,
        );
        table.refused(format!("modify {what}"), modify(&id, "retention", "5"), NotFound, says);
        table.refused(format!("get {what}"), get(&id), NotFound, says);
        table.refused(format!("health of {what}"), health(&id), NotFound, says);
    }
    for (what, node) in world.foreign("n1") {
        table.refused(
            format!("publish on {what}"),
            publish(&world.beside, &node, Some(writer())),
            NotFound,
            "node ",
        );
        table.answered(format!("unpublish from {what}"), unpublish(&volume, &node));
    }
    table.refused(
        "publish on n2",
        publish(&world.beside, "n2", Some(writer())),
        NotFound,
        "node n2",
    );
    for (what, bad, says) in bad_capabilities() {
        table.refused(
            format!("publish: {what}"),
            publish(&world.beside, "n1", Some(bad.clone())),
            InvalidArgument,
            says,
        );
        table.refused(
            format!("expand: {what}"),
            expand(&world.beside, range(32 * MIB, 0), Some(bad.clone())),
            InvalidArgument,
            says,
        );
        let lacks = bad.access_type.is_none() || bad.access_mode.is_none_or(|mode| mode.mode == 0);
        let answer = validate(&volume, vec![bad]);
        if lacks {
            table.refused(format!("validate: {what}"), answer, InvalidArgument, says);
        } else if let Some(told) = table.answered(format!("validate: {what}"), answer) {
            assert!(told.confirmed.is_none() && !told.message.is_empty(), "{what}: {told:?}");
            assert!(told.message.len() <= 128, "{what}: {told:?}");
        }
    }
    table.refused("delete what is in use", driver.delete(&volume), FailedPrecondition, "in use");
    for (least, most, expected) in [
        (0, 0, InvalidArgument),
        (-1, 0, InvalidArgument),
        (20 * MIB, 19 * MIB, InvalidArgument),
        (MIB, 2 * MIB, OutOfRange),
        (i64::MAX, i64::MAX, OutOfRange),
    ] {
        let says = if expected == OutOfRange { "bytes" } else { "capacity_range" };
        table.refused(
            format!("{least} to {most}"),
            expand(&volume, range(least, most), None),
            expected,
            says,
        );
    }
    for (key, value) in [("tier", "hot"), ("retention", "0"), ("storingInterval", "soon")] {
        table.refused(
            format!("{key}={value}"),
            modify(&volume, key, value),
            InvalidArgument,
            "mutable_parameters",
        );
    }

    table.refused("-1 volumes", driver.volumes_from("", -1), InvalidArgument, "max_entries");
    table.refused(
        "-1 snapshots",
        driver.snapshots_from("", i32::MIN),
        InvalidArgument,
        "max_entries",
    );
    for token in
        ["invalid-token", "5", "after:", "after:\0", &volume, &world.snapshot, &"x".repeat(20_000)]
    {
        table.refused(
            format!("token {token:.30}"),
            driver.volumes_from(token, 1),
            Aborted,
            "starting_token",
        );
        table.refused(
            format!("token {token:.30}"),
            driver.snapshots_from(token, 1),
            Aborted,
            "starting_token",
        );
    }
    table.end();
}

#[test]
fn snapshots_are_not_made_or_deleted_by_what_is_no_request() {
    let Some(world) = World::start() else { return };
    let driver = &world.driver;
    let mut table = Table::new(driver);
    use Code::{AlreadyExists, InvalidArgument, NotFound};
    let (volume, beside) = (&world.volume, &world.beside);
    let group = |name: &str, volumes: &[&str]| {
        driver.wait(driver.group().create_volume_group_snapshot(
            pb::CreateVolumeGroupSnapshotRequest {
                name: name.to_owned(),
                source_volume_ids: volumes.iter().map(|id| (*id).to_owned()).collect(),
                ..pb::CreateVolumeGroupSnapshotRequest::default()
            },
        ))
    };
    let get_group = |id: &str, members: &[&str]| {
        driver.wait(driver.group().get_volume_group_snapshot(pb::GetVolumeGroupSnapshotRequest {
            group_snapshot_id: id.to_owned(),
            snapshot_ids: members.iter().map(|id| (*id).to_owned()).collect(),
            ..pb::GetVolumeGroupSnapshotRequest::default()
        }))
    };
    let delete_group = |id: &str, members: &[&str]| {
        driver.wait(driver.group().delete_volume_group_snapshot(
            pb::DeleteVolumeGroupSnapshotRequest {
                group_snapshot_id: id.to_owned(),
                snapshot_ids: members.iter().map(|id| (*id).to_owned()).collect(),
                ..pb::DeleteVolumeGroupSnapshotRequest::default()
            },
        ))
    };
    let get = |id: &str| {
        driver.wait(driver.controller().get_snapshot(pb::GetSnapshotRequest {
            snapshot_id: id.to_owned(),
            ..pb::GetSnapshotRequest::default()
        }))
    };
    let list = |snapshot: &str, volume: &str| {
        driver.wait(driver.controller().list_snapshots(pb::ListSnapshotsRequest {
            snapshot_id: snapshot.to_owned(),
            source_volume_id: volume.to_owned(),
            ..pb::ListSnapshotsRequest::default()
        }))
    };
    for (what, name) in bad_names() {
        table.refused(what, driver.snapshot(&name, volume), InvalidArgument, "\"name\"");
        table.refused(what, group(&name, &[volume, beside]), InvalidArgument, "\"name\"");
    }
    table.refused("of nothing", driver.snapshot("new", ""), InvalidArgument, "source_volume_id");
    table.refused("of no volumes", group("new", &[]), InvalidArgument, "source_volume_ids");
    table.refused(
        "of an empty id",
        group("new", &[volume, ""]),
        InvalidArgument,
        "source_volume_ids",
    );
    table.refused(
        "of one twice",
        group("new", &[volume, beside, volume]),
        InvalidArgument,
        "source_volume_ids",
    );
    let many = vec![volume.as_str(); 65];
    table.refused("of 65", group("new", &many), InvalidArgument, "source_volume_ids");
    let mut request = new_snapshot("new", volume);
    request.parameters = map("tier", "hot");
    let answer = driver.wait(driver.controller().create_snapshot(request));
    table.refused("a parameter", answer, InvalidArgument, "\"parameters\"");
    let request = pb::CreateVolumeGroupSnapshotRequest {
        name: "new".to_owned(),
        source_volume_ids: vec![volume.clone()],
        parameters: map("tier", "hot"),
        ..pb::CreateVolumeGroupSnapshotRequest::default()
    };
    let answer = driver.wait(driver.group().create_volume_group_snapshot(request));
    table.refused("a parameter of a group", answer, InvalidArgument, "\"parameters\"");
    table.refused("a name of another", driver.snapshot("taken", beside), AlreadyExists, "taken");
    table.refused(
        "a name of a group",
        driver.snapshot("together", volume),
        AlreadyExists,
        "together",
    );
    table.refused("another group's name", group("together", &[volume]), AlreadyExists, "together");
    for (what, id) in world.foreign(volume) {
        table.refused(format!("of {what}"), driver.snapshot("new", &id), NotFound, "volume ");
        table.refused(format!("with {what}"), group("new", &[volume, &id]), NotFound, "volume ");
        let found = table.answered(format!("list of {what}"), list("", &id));
        assert!(found.is_none_or(|found| found.entries.is_empty()), "{what}");
    }

    table.refused("delete nothing", driver.delete_snapshot(""), InvalidArgument, "\"snapshot_id\"");
    table.refused("get nothing", get(""), InvalidArgument, "\"snapshot_id\"");
    for (what, id) in world.foreign(&world.snapshot) {
        table.answered(format!("delete {what}"), driver.delete_snapshot(&id));
        table.refused(format!("get {what}"), get(&id), NotFound, "snapshot ");
        let found = table.answered(format!("list {what}"), list(&id, ""));
        assert!(found.is_none_or(|found| found.entries.is_empty()), "{what}");
    }
    let other = format!("{beside}@{}", world.snapshot.split_once('@').unwrap().1);
    table.answered("delete an entry of another volume", driver.delete_snapshot(&other));
    table.refused("get it", get(&other), NotFound, &other);

    let field = "\"group_snapshot_id\"";
    table.refused("get no group", get_group("", &[]), InvalidArgument, field);
    table.refused("delete no group", delete_group("", &[]), InvalidArgument, field);
    for (what, id) in world.foreign(&world.group) {
        table.refused(
            format!("get {what} as a group"),
            get_group(&id, &[]),
            NotFound,
            "group snapshot ",
        );
        table.answered(format!("delete {what} as a group"), delete_group(&id, &[]));
    }
    let snapshot = world.snapshot.as_str();
    table.refused(
        "get it with another",
        get_group(&world.group, &[snapshot]),
        InvalidArgument,
        "snapshot_ids",
    );
    table.refused(
        "delete it with another",
        delete_group(&world.group, &[snapshot]),
        InvalidArgument,
        "snapshot_ids",
    );
    table.end();
}

#[test]
fn nothing_is_mounted_where_it_is_not_lawful() {
    let Some(world) = World::start() else { return };
    let driver = &world.driver;
    let pods = driver.cove.dir.path().join("pods");
    let elsewhere = driver.cove.make_dir("elsewhere");
    fs::write(pods.join("file"), "own").unwrap();
    symlink(&elsewhere, pods.join("link")).unwrap();
    symlink("nowhere", pods.join("dangling")).unwrap();
    fs::create_dir(pods.join("real")).unwrap();
    fs::create_dir(pods.join("occupied")).unwrap();
    run(Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(pods.join("occupied")), b"")
        .success();
    // one breaks a line, and one is longer than a refusal
    let deep = (0..5).fold(pods.clone(), |path, _| path.join("d".repeat(250)));
    let awkward = [pods.join("a\nb"), deep];
    for path in &awkward {
        fs::create_dir_all(path.join("mine")).unwrap();
    }
    fs::create_dir(pods.join("pod/empty")).unwrap();
    // as a pod has it that another Cove gave a volume of that id
    let other = driver.cove.make_dir("other").join("volumes").join(&world.volume).join("files");
    for directory in [&other, &pods.join("old")] {
        fs::create_dir_all(directory).unwrap();
    }
    run(Command::new("mount").arg("--bind").args([&other, &pods.join("old")]), b"").success();
    let mut table = Table::new(driver);
    use Code::{AlreadyExists, FailedPrecondition, InvalidArgument, NotFound};
    let volume = world.volume.clone();
    let dir = text(&pods);
    let stage = |volume: &str, path: &str, capability: Option<pb::VolumeCapability>| {
        driver.wait(driver.node().node_stage_volume(pb::NodeStageVolumeRequest {
            volume_id: volume.to_owned(),
            staging_target_path: path.to_owned(),
            volume_capability: capability,
            ..pb::NodeStageVolumeRequest::default()
        }))
    };
    let unstage = |volume: &str, path: &str| {
        driver.wait(driver.node().node_unstage_volume(pb::NodeUnstageVolumeRequest {
            volume_id: volume.to_owned(),
            staging_target_path: path.to_owned(),
        }))
    };
    let publish = |volume: &str, path: &str| {
        let mut request = driver.to_publish(volume, "new");
        request.target_path = path.to_owned();
        request.staging_target_path = driver.staging(&world.volume);
        driver.node_publish(request)
    };
    let unpublish = |volume: &str, path: &str| {
        driver.wait(driver.node().node_unpublish_volume(pb::NodeUnpublishVolumeRequest {
            volume_id: volume.to_owned(),
            target_path: path.to_owned(),
        }))
    };
    let stats = |volume: &str, path: &str| driver.stats(volume, path.as_ref());
    let expand = |volume: &str, path: &str| {
        driver.wait(driver.node().node_expand_volume(pb::NodeExpandVolumeRequest {
            volume_id: volume.to_owned(),
            volume_path: path.to_owned(),
            ..pb::NodeExpandVolumeRequest::default()
        }))
    };
    let health = |volume: &str| {
        driver.wait(driver.node().node_get_volume_health(pb::NodeGetVolumeHealthRequest {
            volume_id: volume.to_owned(),
            ..pb::NodeGetVolumeHealthRequest::default()
        }))
    };
    let at = |name: &str| format!("{dir}/{name}");
    let new = at("new");
    let published = at("pod");
    for (what, answer) in [
        ("stage nothing", stage("", &new, Some(writer())).map(drop)),
        ("unstage nothing", unstage("", &new).map(drop)),
        ("publish nothing", publish("", &new)),
        ("unpublish nothing", unpublish("", &new).map(drop)),
        ("the usage of nothing", stats("", &published).map(drop)),
        ("expand nothing", expand("", &published).map(drop)),
        ("the health of nothing", health("").map(drop)),
    ] {
        table.refused(what, answer, InvalidArgument, "\"volume_id\"");
    }
    table.refused(
        "stage nowhere",
        stage(&volume, "", Some(writer())),
        InvalidArgument,
        "staging_target_path",
    );
    table.refused("unstage nowhere", unstage(&volume, ""), InvalidArgument, "staging_target_path");
    table.refused("publish nowhere", publish(&volume, ""), InvalidArgument, "\"target_path\"");
    table.refused("unpublish nowhere", unpublish(&volume, ""), InvalidArgument, "\"target_path\"");
    table.refused("the usage nowhere", stats(&volume, ""), InvalidArgument, "\"volume_path\"");
    table.refused("expand nowhere", expand(&volume, ""), InvalidArgument, "\"volume_path\"");
    table.refused(
        "stage somehow",
        stage(&volume, &new, None),
        InvalidArgument,
        "volume_capability",
    );
    let mut request = driver.to_publish(&volume, "new");
    request.volume_capability = None;
    table.refused(
        "publish somehow",
        driver.node_publish(request),
        InvalidArgument,
        "volume_capability",
    );
    for (what, bad, says) in bad_capabilities() {
        table.refused(
            format!("stage: {what}"),
            stage(&volume, &new, Some(bad.clone())),
            InvalidArgument,
            says,
        );
        let mut request = driver.to_publish(&volume, "new");
        request.volume_capability = Some(bad);
        table.refused(
            format!("publish: {what}"),
            driver.node_publish(request),
            InvalidArgument,
            says,
        );
    }
    let mut request = driver.to_publish(&volume, "new");
    request.staging_target_path.clear();
    table.refused(
        "not staged",
        driver.node_publish(request),
        FailedPrecondition,
        "staging_target_path",
    );

    for (what, id) in world.foreign(&volume) {
        let says = "volume ";
        table.refused(format!("stage {what}"), stage(&id, &new, Some(writer())), NotFound, says);
        table.refused(format!("publish {what}"), publish(&id, &new), NotFound, says);
        table.refused(format!("usage of {what}"), stats(&id, &published), NotFound, says);
        table.refused(format!("expand {what}"), expand(&id, &published), NotFound, says);
        table.refused(format!("health of {what}"), health(&id), NotFound, says);
        table.answered(format!("unstage {what}"), unstage(&id, &new));
        // what is there of another volume stays
        table.answered(format!("unpublish {what}"), unpublish(&id, &published));
    }

    let long = "x".repeat(20_000);
    for (what, path) in [
        ("a relative path", "pods/new".to_owned()),
        ("a name alone", "new".to_owned()),
        ("the root", "/".to_owned()),
        ("two dots at the end", at("real/..")),
        ("two dots within", at("real/../new")),
        ("two dots at the beginning", format!("/..{new}")),
        ("a dot at the end", at("real/.")),
        ("a zero byte", at("new\0")),
        ("a name of 20,000 bytes", at(&long)),
        ("a path of 20,000 bytes", format!("/{}", "x/".repeat(10_000))),
        ("a URL", format!("file://{new}")),
    ] {
        table.refused(
            format!("stage at {what}"),
            stage(&volume, &path, Some(writer())),
            InvalidArgument,
            "staging_target_path",
        );
        table.refused(
            format!("publish at {what}"),
            publish(&volume, &path),
            InvalidArgument,
            "\"target_path\"",
        );
        table.refused(
            format!("unpublish at {what}"),
            unpublish(&volume, &path),
            InvalidArgument,
            "\"target_path\"",
        );
        table.refused(
            format!("usage at {what}"),
            stats(&volume, &path),
            NotFound,
            "mount of volume",
        );
        table.refused(
            format!("expand at {what}"),
            expand(&volume, &path),
            NotFound,
            "mount of volume",
        );
    }
    for (what, name) in [("a link", "link"), ("a link to nothing", "dangling"), ("a file", "file")]
    {
        table.refused(
            format!("stage at {what}"),
            stage(&volume, &at(name), Some(writer())),
            InvalidArgument,
            "staging_target_path",
        );
        table.refused(
            format!("publish at {what}"),
            publish(&volume, &at(name)),
            InvalidArgument,
            "\"target_path\"",
        );
        table.answered(format!("unpublish at {what}"), unpublish(&volume, &at(name)));
        table.refused(
            format!("usage at {what}"),
            stats(&volume, &at(name)),
            NotFound,
            "mount of volume",
        );
    }
    for (what, name) in [("no directory", "none/new"), ("below a file", "file/new")] {
        table.refused(
            format!("stage in {what}"),
            stage(&volume, &at(name), Some(writer())),
            FailedPrecondition,
            "does not exist",
        );
        table.refused(
            format!("publish in {what}"),
            publish(&volume, &at(name)),
            FailedPrecondition,
            "does not exist",
        );
        table.answered(format!("unpublish in {what}"), unpublish(&volume, &at(name)));
    }
    let files = driver.cove.home.join("pool/volumes").join(&volume).join("files");
    let within = |place: &Path| text(&place.join("new"));
    for (what, place) in [
        ("its own files", within(&files)),
        ("its own mount", within(Path::new(&published))),
        ("the pool", within(&driver.cove.home.join("pool"))),
        ("the home", within(&driver.cove.home)),
    ] {
        let (says, call) = ("\"target_path\"", publish(&volume, &place));
        table.refused(format!("publish in {what}"), call, InvalidArgument, says);
        let (says, call) = ("staging_target_path", stage(&volume, &place, Some(writer())));
        table.refused(format!("stage in {what}"), call, InvalidArgument, says);
    }
    for place in ["/proc/x", "/sys/x", "/dev/pts/x"] {
        let (says, call) = ("\"target_path\"", publish(&volume, place));
        table.refused(format!("publish at {place}"), call, FailedPrecondition, says);
    }
    let (says, call) = ("\"target_path\"", unpublish(&volume, "/proc/self/cwd"));
    table.refused("unpublish of the kernel's", call, FailedPrecondition, says);
    let call = publish(&volume, &text(&pods));
    table.refused("on a directory with files", call, FailedPrecondition, "has files");
    for path in awkward.each_ref().map(|path| text(path)) {
        table.refused("on files", publish(&volume, &path), FailedPrecondition, "has files");
        table.refused("of files", unpublish(&volume, &path), FailedPrecondition, "has files");
    }
    let call = unpublish(&world.beside, &at("pod/empty"));
    table.refused("unpublish in a volume", call, InvalidArgument, "is in a volume");
    table.refused("on another mount", publish(&volume, &at("occupied")), AlreadyExists, "occupied");
    table.refused("on another volume", publish(&world.beside, &published), AlreadyExists, "pod");
    let call = publish(&volume, &at("old"));
    table.refused("on one of another pool", call, AlreadyExists, "something other than volume");
    let call = stats(&volume, &at("old"));
    table.refused("usage of one of another pool", call, NotFound, "mount of volume");
    table.answered("where it is", publish(&volume, &published));
    table.answered("unpublish another mount", unpublish(&volume, &at("occupied")));
    // a pod of then ends all the same
    unpublish(&volume, &at("old")).unwrap();
    assert!(!pods.join("old").exists());
    assert_eq!(fs::read(pods.join("file")).unwrap(), b"own");
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
    table.end();
}

/// Messages as bytes, lawful or not.
#[derive(Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining()).to_vec()))
    }
}

/// Sends bytes to a call as they are.
fn send(driver: &Driver, call: &'static str, bytes: Vec<u8>) -> Result<Vec<u8>, Status> {
    let mut grpc = Grpc::new(driver.channel.clone());
    driver.wait(async {
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        grpc.unary(Request::new(bytes), PathAndQuery::from_static(call), Raw).await
    })
}

#[test]
fn messages_that_are_none_or_newer_change_nothing_else() {
    let Some(world) = World::start() else { return };
    let driver = &world.driver;
    let mut table = Table::new(driver);
    let create = "/csi.v1.Controller/CreateVolume";
    let lawful = new("there", 16).encode_to_vec();
    // field 1000 with the number 1, and field 1001 with two bytes
    let newer = [&[0xc0, 0x3e, 1][..], &[0xca, 0x3e, 2, 0, 0xff]].concat();
    for bytes in [[newer.clone(), lawful.clone()].concat(), [lawful.clone(), newer].concat()] {
        let answer = table.answered("an unknown field", send(driver, create, bytes)).unwrap();
        let told = pb::CreateVolumeResponse::decode(answer.as_slice()).unwrap();
        assert_eq!(told.volume.unwrap().volume_id, world.volume);
    }
    // whatever a field says first, the last one counts
    let twice = [new("other", 32).encode_to_vec(), lawful.clone()].concat();
    let answer = send(driver, create, twice);
    table.answered("a field twice", answer);
    for (what, bytes, says) in [
        ("no UTF-8", vec![0x0a, 1, 0xff], "CreateVolumeRequest.name"),
        ("half a message", lawful[..lawful.len() - 3].to_vec(), "CreateVolumeRequest"),
        (
            "a length that is too long",
            vec![0x0a, 0xff, 0xff, 0xff, 0x7f, b'x'],
            "CreateVolumeRequest.name",
        ),
        ("a text as a number", vec![0x08, 1], "CreateVolumeRequest.name"),
        ("noise", vec![0xff; 64], ""),
    ] {
        table.refused(what, send(driver, create, bytes), Code::Internal, says);
    }
    table.refused("nothing", send(driver, create, Vec::new()), Code::InvalidArgument, "\"name\"");
    let huge = new(&"x".repeat(5 << 20), 16);
    table.refused("5 MiB", driver.create(huge), Code::OutOfRange, "4194304");
    let secrets = (0..1000).map(|n| (n.to_string(), "s".repeat(1000))).collect();
    let request = pb::CreateVolumeRequest { secrets, ..new("there", 16) };
    table.answered("secrets that nobody asked for", driver.create(request));
    let unknown = send(driver, "/csi.v1.Controller/CreateEverything", Vec::new());
    table.refused("a call of later", unknown, Code::Unimplemented, "");
    let metadata = send(driver, "/csi.v1.SnapshotMetadata/GetMetadataAllocated", Vec::new());
    assert_eq!(code(metadata), Code::Unimplemented);
    table.end();
}
