//! What is refused at the door, field by field.

use std::fmt::Debug;

use tonic::{Code, Response, Status};

use crate::pb;
use crate::world::World;

const OP: &str = "000000000123456789abcdef01234567";

/// Checks that a call is refused for its field.
async fn refused<T: Debug>(call: impl Future<Output = Result<Response<T>, Status>>, told: &str) {
    let status = call.await.expect_err(told);
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert!(status.message().starts_with(told), "wanted {told}, found {}", status.message());
}

/// Refuses each change of a lawful request with the text beside it, and does not ask the Hub.
macro_rules! refuses {
    ($world:expr, $rpc:ident, $lawful:expr, $($field:ident = $value:expr => $told:expr),+ $(,)?) => {
        let lawful = $lawful;
        $(
            let mut request = lawful.clone();
            request.$field = $value;
            refused($world.raw().$rpc(request), $told).await;
        )+
        assert_eq!($world.hub.calls(), [""; 0]);
        // it was lawful: the Hub itself is asked then
        let _ = $world.raw().$rpc(lawful).await;
        assert_eq!($world.hub.calls().len(), 1, stringify!($rpc));
    };
}

fn source(source: pb::source::Source) -> Option<pb::Source> {
    Some(pb::Source { source: Some(source) })
}

fn one(key: &str, value: &str) -> std::collections::BTreeMap<String, String> {
    [(key.to_owned(), value.to_owned())].into()
}

#[tokio::test]
async fn what_makes_volumes() {
    use pb::create_volume_request::Quota;
    use pb::source::Source;
    let world = World::start();
    let bytes = |bytes| Some(Quota::QuotaBytes(bytes));
    let many = (0..65).map(|n| (format!("k{n}"), String::new())).collect();
    let lawful = pb::CreateVolumeRequest {
        name: "x".repeat(128),
        op_id: OP.into(),
        quota: bytes(1 << 20),
        ..Default::default()
    };
    refuses!(world, create_volume, lawful,
        name = String::new() => "field \"name\" is missing",
        name = "x".repeat(129) => "field \"name\": a name has 1 to 128 bytes, found 129",
        name = "a\0".into() => "field \"name\": a name has no control characters",
        op_id = String::new() => "field \"op_id\" is missing",
        op_id = OP.to_uppercase() => "field \"op_id\": an operation id is 32 lower-case",
        op_id = OP[1..].into() => "field \"op_id\": an operation id is 32 lower-case",
        source = Some(pb::Source { source: None }) => "field \"source.source\" is missing",
        source = source(Source::Volume(String::new())) => "field \"source.volume\" is missing",
        source = source(Source::Volume("A".into())) => "field \"source.volume\": a volume id",
        source = source(Source::Snapshot("vol".into())) => "field \"source.snapshot\": a snapshot id",
        source = source(Source::Template(String::new())) => "field \"source.template\" is missing",
        quota = bytes(0) => "field \"quota_bytes\": a quota is 1 MiB to 1 EiB, found 0 bytes",
        quota = bytes((1 << 20) - 1) => "field \"quota_bytes\": a quota is 1 MiB",
        quota = bytes((1 << 60) + 1) => "field \"quota_bytes\": a quota is 1 MiB",
        labels = one("", "x") => "field \"labels\": keys of labels have 1 to 63 bytes",
        labels = one("x", &"y".repeat(64)) => "field \"labels\": keys of labels",
        labels = many => "field \"labels\": a volume has at most 64 labels",
        parameters = one("a\n", "x") => "field \"parameters\": parameters have no control",
    );

    let lawful = pb::ForkVolumeRequest {
        volume: "vol".into(),
        snapshot: "vol@abcdefghij23".into(),
        name: "copy".into(),
        op_id: OP.replace('0', "1"),
        ..Default::default()
    };
    refuses!(world, fork_volume, lawful,
        volume = String::new() => "field \"volume\" is missing",
        volume = "-".into() => "field \"volume\": a volume id",
        snapshot = "vol".into() => "field \"snapshot\": a snapshot id",
        snapshot = "other@abcdefghij23".into() =>
            "field \"snapshot\": snapshot other@abcdefghij23 is not of volume vol",
        name = String::new() => "field \"name\" is missing",
        op_id = String::new() => "field \"op_id\" is missing",
        quota_bytes = Some(0) => "field \"quota_bytes\": a quota is 1 MiB",
        labels = one("", "") => "field \"labels\": keys of labels",
    );
    world.ended().await;
}

#[tokio::test]
async fn what_changes_volumes() {
    let world = World::start();
    let lawful = pb::DeleteVolumeRequest { volume: "vol".into(), op_id: OP.into() };
    refuses!(world, delete_volume, lawful,
        volume = String::new() => "field \"volume\" is missing",
        volume = "../x".into() => "field \"volume\": a volume id",
        op_id = String::new() => "field \"op_id\" is missing",
        op_id = "x".into() => "field \"op_id\": an operation id",
    );

    let lawful = pb::ModifyVolumeRequest {
        volume: "vol".into(),
        op_id: OP.into(),
        quota_bytes: Some(0),
        ..Default::default()
    };
    refuses!(world, modify_volume, lawful,
        volume = String::new() => "field \"volume\" is missing",
        op_id = String::new() => "field \"op_id\" is missing",
        quota_bytes = Some(1) => "field \"quota_bytes\": a quota is 1 MiB to 1 EiB, found 1 bytes",
        labels = one("a", "b") => "field \"labels\": there are some, and set_labels is not set",
        labels = one("", "b") => "field \"labels\": keys of labels",
        parameters = one("", "b") => "field \"parameters\": keys of parameters",
    );

    let lawful = pb::RestoreVolumeRequest {
        volume: "vol".into(),
        snapshot: "vol@abcdefghij23".into(),
        op_id: OP.into(),
        ..Default::default()
    };
    refuses!(world, restore_volume, lawful,
        volume = String::new() => "field \"volume\" is missing",
        snapshot = String::new() => "field \"snapshot\" is missing",
        snapshot = "@".into() => "field \"snapshot\": a snapshot id",
        op_id = String::new() => "field \"op_id\" is missing",
    );

    let lawful = pb::CreateServiceVolumeRequest { volume: "vol".into(), service: "s".repeat(40) };
    refuses!(world, create_service_volume, lawful,
        volume = String::new() => "field \"volume\" is missing",
        service = String::new() => "field \"service\" is missing",
        service = "s".repeat(41) => "field \"service\": a service's name has 1 to 40",
        service = "-a".into() => "field \"service\": a service's name has 1 to 40",
        service = "A".into() => "field \"service\": a service's name has 1 to 40",
        service = "a/b".into() => "field \"service\": a service's name has 1 to 40",
    );

    let lawful = pb::EnsureCachedRequest { volume: "vol".into(), ..Default::default() };
    refuses!(world, ensure_cached, lawful,
        volume = String::new() => "field \"volume\" is missing",
        candidates = vec!["a".into(), String::new()] => "field \"candidates\" is missing",
        candidates = vec!["Node".into()] => "field \"candidates\": a node id",
    );

    let lawful = pb::TriggerSyncRequest { volume: "vol".into() };
    refuses!(world, trigger_sync, lawful, volume = String::new() => "field \"volume\" is missing");
    world.ended().await;
}

#[tokio::test]
async fn what_snapshots() {
    let world = World::start();
    let ids = |n: usize| (0..n).map(|n| format!("vol-{n}")).collect::<Vec<_>>();
    let lawful = pb::SnapshotRequest {
        volumes: ids(64),
        name: "nightly".into(),
        op_id: OP.into(),
        ..Default::default()
    };
    refuses!(world, snapshot, lawful,
        volumes = vec![] => "field \"volumes\" is missing",
        volumes = ids(65) => "field \"volumes\": there are 1 to 64 volumes, found 65",
        volumes = vec!["a".into(), "b".into(), "a".into()] =>
            "field \"volumes\": volume a is there more than once",
        volumes = vec![String::new()] => "field \"volumes\" is missing",
        name = String::new() => "field \"name\" is missing",
        name = "x".repeat(129) => "field \"name\": a name has 1 to 128 bytes",
        op_id = String::new() => "field \"op_id\" is missing",
    );

    let lawful =
        pb::DeleteSnapshotRequest { snapshot: "vol@abcdefghij23".into(), op_id: OP.into() };
    refuses!(world, delete_snapshot, lawful,
        snapshot = String::new() => "field \"snapshot\" is missing",
        snapshot = "vol@x".into() => "field \"snapshot\": a snapshot id",
        op_id = String::new() => "field \"op_id\" is missing",
    );

    let lawful = pb::ListSnapshotsRequest { page_size: 1000, ..Default::default() };
    refuses!(world, list_snapshots, lawful,
        volume = "A".into() => "field \"volume\": a volume id",
        snapshot = "A".into() => "field \"snapshot\": a snapshot id",
        name = "x".repeat(129) => "field \"name\": a name has",
        group = "x".repeat(129) => "field \"group\": a name has",
        page_size = 1001 => "field \"page_size\": a page has 1 to 1000 items",
    );
    world.ended().await;
}

#[tokio::test]
async fn what_looks() {
    use pb::resolve_volume_request::What;
    let world = World::start();
    let lawful = pb::ResolveVolumeRequest { what: Some(What::Name("x".into())) };
    refuses!(world, resolve_volume, lawful,
        what = None => "field \"what\" is missing",
        what = Some(What::Name(String::new())) => "field \"name\" is missing",
        what = Some(What::Name("x".repeat(129))) => "field \"name\": a name has",
        what = Some(What::Project(String::new())) => "field \"project\" is missing",
        what = Some(What::Project("a--b".into())) => "field \"project\": a project's name has",
    );
    let lawful = pb::VolumeStatusRequest { volume: "vol".into() };
    refuses!(world, volume_status, lawful,
        volume = String::new() => "field \"volume\" is missing",
        volume = "x".repeat(64) => "field \"volume\": a volume id",
    );
    let lawful = pb::ListVolumesRequest::default();
    refuses!(world, list_volumes, lawful, page_size = 1001 => "field \"page_size\": a page has");
    let lawful = pb::GetCapacityRequest::default();
    refuses!(world, get_capacity, lawful, node = "A".into() => "field \"node\": a node id");
    world.ended().await;
}

#[tokio::test]
async fn a_request_of_more_than_4_mib_changes_nothing() {
    use cove_hub::volume_hub::{CreateVolume, QuotaRange};
    use cove_types::Classify;
    let world = World::start();
    let request = pb::CreateVolumeRequest {
        name: "x".repeat(4 << 20),
        op_id: OP.into(),
        ..Default::default()
    };
    let status = world.raw().create_volume(request).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
    let request = CreateVolume {
        name: "x".parse().unwrap(),
        operation: OP.parse().unwrap(),
        source: None,
        quota: QuotaRange::default(),
        labels: [("x".to_owned(), "x".repeat(4 << 20))].into(),
        parameters: Default::default(),
        wait_saved: false,
    };
    let error = cove_hub::VolumeHub::create_volume(&world.client(), request).await.unwrap_err();
    assert_eq!(error.kind(), cove_types::ErrorKind::Invalid, "{error}");
    assert_eq!(world.hub.calls(), [""; 0]);
}

/// What a client of a newer version sends.
#[derive(Clone, PartialEq, prost::Message)]
struct NewerTriggerSyncRequest {
    #[prost(string, tag = "1")]
    volume: String,
    #[prost(string, tag = "900")]
    newer: String,
    #[prost(message, optional, tag = "901")]
    newer_message: Option<prost_types::Timestamp>,
    #[prost(enumeration = "pb::Durability", tag = "902")]
    newer_enum: i32,
}

#[tokio::test]
async fn fields_of_a_newer_version_are_left_out() {
    let world = World::start();
    world.hub.fail(cove_hub::HubError::BadPageToken);
    let mut rpc = tonic::client::Grpc::new(world.channel());
    rpc.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<NewerTriggerSyncRequest, pb::TriggerSyncResponse>::new();
    let request = NewerTriggerSyncRequest {
        volume: "vol".into(),
        newer: "x".into(),
        newer_message: Some(prost_types::Timestamp::default()),
        newer_enum: 7,
    };
    let path = "/cove.hub.v1.VolumeHub/TriggerSync".parse().unwrap();
    let status = rpc.unary(tonic::Request::new(request), path, codec).await.unwrap_err();
    assert_eq!(
        status.message(),
        "field \"page_token\": it is no token of this list",
        "the Hub's own words"
    );
    assert_eq!(world.hub.calls(), ["sync vol"]);
}
