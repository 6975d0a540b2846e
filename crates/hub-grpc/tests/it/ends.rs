//! Callers that vanish, and a Hub that stops.

use cove_hub::VolumeHub;
use cove_hub::volume_hub::{CreateVolume, PageRequest, QuotaRange, VolumeEvent};
use cove_types::{Classify, ErrorKind, OperationId};
use futures::StreamExt;
use tokio::io::AsyncReadExt;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

use crate::world::{SOON, World};

fn create(n: u8) -> CreateVolume {
    CreateVolume {
        name: "pvc".parse().unwrap(),
        operation: OperationId([n; 16]),
        source: None,
        quota: QuotaRange::default(),
        labels: Default::default(),
        parameters: Default::default(),
        wait_saved: false,
    }
}

/// Begins a create that stands still, and lets its caller vanish.
async fn vanish_in_between(world: &World) {
    world.hub.hold(true);
    let client = world.client();
    let call = tokio::spawn(async move { client.create_volume(create(1)).await });
    let mut begun = world.hub.begun.subscribe();
    tokio::time::timeout(SOON, begun.wait_for(|begun| *begun == 1)).await.unwrap().unwrap();
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
}

#[tokio::test]
async fn a_caller_that_vanishes_leaves_a_call_that_ends() {
    let world = World::start();
    vanish_in_between(&world).await;
    // that the server has seen it go, a second connection cannot tell; a call that was cut has no effect ever
    world.client().capacity(None).await.unwrap();
    assert_eq!(world.hub.volumes(), 0);
    world.hub.hold(false);
    let hub = std::sync::Arc::clone(&world.hub);
    world.ended().await;
    assert_eq!(hub.volumes(), 1);
    let calls = hub.calls();
    assert_eq!(calls.iter().filter(|call| call.starts_with("CreateVolume")).count(), 1);
}

#[tokio::test]
async fn a_hub_that_stops_waits_for_calls_whose_callers_are_gone() {
    let mut world = World::start();
    vanish_in_between(&world).await;
    world.ask_to_stop();
    let mut stopped = world.client().capacity(None).await;
    while stopped.is_ok() {
        tokio::task::yield_now().await;
        stopped = world.client().capacity(None).await;
    }
    assert!(!world.has_ended());
    world.hub.hold(false);
    let hub = std::sync::Arc::clone(&world.hub);
    world.ended().await;
    assert_eq!(hub.volumes(), 1);
}

#[tokio::test]
async fn whoever_waits_no_more_until_it_is_saved_leaves_nothing() {
    let world = World::start();
    let volume = world.client().create_volume(create(1)).await.unwrap().0.id;
    world.hub.saves.send_replace(false);
    let client = world.client();
    let call = tokio::spawn(async move { client.trigger_sync(volume).await });
    let begun = async {
        while world.hub.saves.receiver_count() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, begun).await.unwrap();
    call.abort();
    tokio::time::timeout(SOON, world.hub.saves.closed()).await.expect("nobody waits any more");
    world.ended().await;
}

#[tokio::test]
async fn a_call_that_panics_is_answered() {
    let world = World::start();
    let refused = world.client().capacity(Some("panics".parse().unwrap())).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Internal, "{refused}");
    world.client().capacity(None).await.unwrap();
}

#[tokio::test]
async fn those_who_watch_are_told_that_the_hub_stops() {
    let world = World::start();
    let mut events = world.client().watch_volumes().await.unwrap();
    assert!(matches!(events.next().await, Some(Ok(VolumeEvent::Listed))));
    world.ended().await;
    let error = events.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.to_string(), "the hub stops: begin again");
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn whoever_does_not_let_go_does_not_keep_the_hub() {
    let world = World::start();
    let request = HealthCheckRequest::default();
    let mut health = HealthClient::new(world.channel()).watch(request).await.unwrap().into_inner();
    assert_eq!(health.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let requests = futures::stream::pending::<ServerReflectionRequest>();
    let mut reflection = ServerReflectionClient::new(world.channel());
    let reflection = reflection.server_reflection_info(requests);
    // a stream of messages that nobody reads
    let client = world.client();
    let _events = client.watch_volumes().await.unwrap();
    let idle = tokio::net::UnixStream::connect(&world.socket).await.unwrap();
    let (ended, reflection) = tokio::join!(world.ended(), reflection);
    let ((), _) = (ended, reflection);
    assert_eq!(health.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert!(health.message().await.is_err());
    let mut idle = idle;
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(SOON, idle.read_to_end(&mut rest)).await.unwrap();
}

#[tokio::test]
async fn a_client_finds_the_hub_that_comes_after() {
    let home = tempfile::tempdir().unwrap();
    let deep = home.path().join("d".repeat(100)).join("e".repeat(100));
    std::fs::create_dir_all(&deep).unwrap();
    let socket = deep.join("hub.sock");
    let client = cove_hub_grpc::HubClient::unix(&socket);
    let nobody = client.capacity(None).await.unwrap_err();
    assert_eq!(nobody.kind(), ErrorKind::Unavailable, "{nobody}");
    for n in 0..2 {
        let world = World::start_at(&socket);
        client.create_volume(create(n)).await.unwrap();
        assert_eq!(world.hub.volumes(), 1);
        world.ended().await;
        let nobody = client.capacity(None).await.unwrap_err();
        assert_eq!(nobody.kind(), ErrorKind::Unavailable, "{nobody}");
        assert!(nobody.to_string().starts_with("no hub answers at /"), "{nobody}");
    }
}

#[tokio::test]
async fn a_connection_that_is_lost_in_between_leaves_open_what_happened() {
    let home = tempfile::tempdir().unwrap();
    let socket = home.path().join("hub.sock");
    let listener = cove_hub_grpc::listen(&socket).unwrap();
    let client = cove_hub_grpc::HubClient::unix(&socket);
    let lose = async || {
        let mut stream = listener.accept().await.unwrap();
        let mut bytes = [0; 512];
        assert!(stream.read(&mut bytes).await.unwrap() > 0);
    };
    let (error, ()) = tokio::join!(client.create_volume(create(1)), lose());
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    assert!(error.to_string().starts_with("the connection to the hub at /"), "{error}");
    let (error, ()) = tokio::join!(client.list_volumes(PageRequest::default()), lose());
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "a read has no id that finds out: {error}");
    assert!(error.to_string().starts_with("the connection to the hub at /"), "{error}");
}

/// The names of the services that a server describes.
async fn described(channel: tonic::transport::Channel) -> Vec<String> {
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(channel);
    let replies = client.server_reflection_info(futures::stream::iter([request])).await.unwrap();
    let reply = replies.into_inner().message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(services)) = reply.message_response else {
        panic!("{reply:?}")
    };
    let mut names: Vec<_> = services.service.into_iter().map(|service| service.name).collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn a_hub_to_which_nodes_come_says_how() {
    let world = World::start_with_nodes();
    let names = described(world.channel()).await;
    assert!(names.iter().any(|name| name == "cove.hub.v1.Nodes"), "{names:?}");
    let node = cove_hub_grpc::NodeRegistration {
        node: "a".parse().unwrap(),
        socket: "/run/node.sock".into(),
        saved_to: "this_disk".into(),
    };
    world.client().register_node(&node).await.unwrap();
    world.ended().await;
}

#[tokio::test]
async fn health_and_reflection_answer() {
    let world = World::start();
    for service in ["", "cove.hub.v1.VolumeHub"] {
        let request = HealthCheckRequest { service: service.into() };
        let reply = HealthClient::new(world.channel()).check(request).await.unwrap().into_inner();
        assert_eq!(reply.status(), ServingStatus::Serving, "{service}");
    }
    let ask =
        |request| ServerReflectionRequest { host: String::new(), message_request: Some(request) };
    let requests = [
        ask(MessageRequest::FileContainingSymbol("cove.hub.v1.VolumeHub".into())),
        ask(MessageRequest::FileByFilename("google/protobuf/timestamp.proto".into())),
    ];
    let mut client = ServerReflectionClient::new(world.channel());
    let replies = client.server_reflection_info(futures::stream::iter(requests)).await.unwrap();
    let replies: Vec<ServerReflectionResponse> =
        replies.into_inner().map(Result::unwrap).collect().await;
    let names = described(world.channel()).await;
    let wanted =
        ["cove.hub.v1.VolumeHub", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"];
    assert_eq!(names, wanted, "nobody serves Nodes here");
    for file in replies {
        let is_there = matches!(
            &file.message_response,
            Some(MessageResponse::FileDescriptorResponse(file)) if !file.file_descriptor_proto.is_empty()
        );
        assert!(is_there, "{file:?}");
    }
}
