//! Callers that vanish, and a node that stops.

use std::io::Cursor;
use std::sync::Arc;

use cove_content::volumes::{EntryEdit, FileEdit, Source, VolumeError, Volumes};
use cove_types::{Classify, ErrorKind};
use futures::StreamExt;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

use crate::world::{SOON, World, call, create, document, new_entry, new_volume, path, volume};

/// Begins a create that stands still, and lets its caller vanish.
async fn vanish_in_between(world: &World) {
    world.volumes.let_go_on(false);
    let client = world.client();
    let call = tokio::spawn(async move {
        client.create(call(1), new_volume(1), Source::Empty).await.map(drop)
    });
    world.begun(1).await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_vanishes_leaves_a_call_that_ends() {
    let world = World::start();
    vanish_in_between(&world).await;
    world.client().capacity().await.unwrap();
    assert_eq!(world.volumes.fake.count(), 0);
    world.volumes.let_go_on(true);
    let volumes = Arc::clone(&world.volumes);
    world.ended().await;
    assert_eq!(volumes.fake.count(), 1);
    assert_eq!(volumes.calls().iter().filter(|call| call.starts_with("create")).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_vanishes_from_an_edit_leaves_one_that_ends() {
    let world = World::start();
    create(&world.client(), 1, "a", b"before".to_vec()).await;
    world.volumes.let_go_on(false);
    let client = world.client();
    let edit = tokio::spawn(async move {
        let remove = FileEdit::Remove { path: path("a"), recursive: false };
        client.edit(&volume(1), remove).await
    });
    world.begun(3).await;
    edit.abort();
    assert!(edit.await.unwrap_err().is_cancelled());
    world.volumes.let_go_on(true);
    let volumes = Arc::clone(&world.volumes);
    world.ended().await;
    let gone = volumes.file(&volume(1), &cove_content::volumes::Moment::Now, &path("a")).await;
    assert!(matches!(gone.unwrap_err(), VolumeError::NoPath { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_drops_what_is_being_saved_stops_nothing() {
    let world = World::start();
    create(&world.client(), 1, "a", b"a".to_vec()).await;
    world.volumes.fake.let_save(false);
    let client = world.client();
    drop(client.snapshot(call(2), volume(1), new_entry()).await.unwrap());
    world.volumes.fake.let_save(true);
    client.wait_saved(&volume(1)).await.unwrap();
    assert_eq!(client.entries(&volume(1)).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_waits_for_calls_whose_callers_are_gone() {
    let mut world = World::start();
    vanish_in_between(&world).await;
    world.ask_to_stop();
    let mut stopped = world.client().capacity().await;
    while stopped.is_ok() {
        tokio::task::yield_now().await;
        stopped = world.client().capacity().await;
    }
    assert!(!world.has_ended());
    world.volumes.let_go_on(true);
    let volumes = Arc::clone(&world.volumes);
    world.ended().await;
    assert_eq!(volumes.fake.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_a_store_out_of_reach_is_told_that_the_node_stops() {
    let mut world = World::start();
    create(&world.client(), 1, "a", b"a".to_vec()).await;
    world.volumes.fake.let_save(false);
    let client = world.client();
    let captured = client.snapshot(call(2), volume(1), new_entry()).await.unwrap();
    let waits = |client: cove_node_grpc::NodeClient| async move {
        client.wait_saved(&volume(1)).await.unwrap_err()
    };
    let stores = |client: cove_node_grpc::NodeClient| async move {
        client.store(&volume(1)).await.unwrap_err()
    };
    let (waits, stores) = (tokio::spawn(waits(client.clone())), tokio::spawn(stores(client)));
    let begun = |name: &str| world.volumes.calls().iter().any(|call| call.starts_with(name));
    while !begun("wait_saved") || !begun("store") {
        tokio::task::yield_now().await;
    }
    world.ask_to_stop();
    for error in
        [captured.saved.await.map(drop).unwrap_err(), waits.await.unwrap(), stores.await.unwrap()]
    {
        assert!(matches!(error, VolumeError::Stopping), "{error:?}");
    }
    world.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_goes_away_while_it_waits_for_something_to_be_saved_waits_no_longer() {
    let world = World::start();
    create(&world.client(), 1, "a", b"a".to_vec()).await;
    world.volumes.let_go_on(false);
    let client = world.client();
    let stores = tokio::spawn(async move { client.store(&volume(1)).await.map(drop) });
    let wait_for = async |count| {
        while world.volumes.waiting() != count {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, wait_for(1)).await.expect("it waits");
    stores.abort();
    assert!(stores.await.unwrap_err().is_cancelled());
    tokio::time::timeout(SOON, wait_for(0)).await.expect("nobody waits for it any more");
    world.volumes.let_go_on(true);
    world.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_goes_away_from_what_is_not_saved_yet_leaves_nothing_that_waits() {
    let world = World::start();
    create(&world.client(), 1, "a", b"a".to_vec()).await;
    let made = world.client().snapshot(call(2), volume(1), new_entry()).await.unwrap();
    let entry = made.saved.await.unwrap().entry.record.id;
    world.volumes.let_save(false);
    let unsaved = async |count| {
        while world.volumes.unsaved() != count {
            tokio::task::yield_now().await;
        }
    };
    for n in 3..7 {
        let client = world.client();
        let waits = tokio::spawn(async move {
            match n {
                3 => drop(client.edit_entry(call(n), volume(1), entry, EntryEdit::Pin(true)).await),
                4 => drop(client.describe(call(n), volume(1), document("Other")).await),
                5 => drop(client.set_trashed(call(n), volume(1), true).await),
                _ => drop(client.remove_entry(call(n), volume(1), entry).await),
            }
        });
        tokio::time::timeout(SOON, unsaved(1)).await.expect("it waits");
        waits.abort();
        assert!(waits.await.unwrap_err().is_cancelled());
        tokio::time::timeout(SOON, unsaved(0)).await.expect("nobody waits for it any more");
    }
    let status = world.client().status(&volume(1)).await.unwrap();
    assert_eq!(status.document.name, "Other", "what was captured is there");
    assert!(status.trashed_at.is_some() && status.entries == 0, "{status:?}");
    world.ended().await;
}

/// Bytes that never come.
struct Never(std::sync::mpsc::Receiver<()>);

impl std::io::Read for Never {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        let _ = self.0.recv_timeout(SOON);
        Ok(0)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_never_come_do_not_keep_a_node_that_stops() {
    let mut world = World::start();
    create(&world.client(), 1, "a", b"before".to_vec()).await;
    let client = world.client();
    let (free, held) = std::sync::mpsc::channel();
    let content = std::io::Read::chain(Cursor::new(vec![7; 300_000]), Never(held));
    let put = FileEdit::Put(path("a"), Box::new(content));
    let edit = tokio::spawn(async move { client.edit(&volume(1), put).await });
    world.begun(3).await;
    world.ask_to_stop();
    let error = edit.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "the stream broke off");
    let ended = world.volumes.end_of_reading(2).await;
    assert_eq!(ended, "ConnectionAborted: the node is stopping");
    drop(free);
    world.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_nobody_reads_does_not_keep_a_node_that_stops() {
    let world = World::start();
    let client = world.client();
    create(&client, 1, "a", b"a".to_vec()).await;
    world
        .volumes
        .read_next(|| cove_content::volumes::FileReader::Stream(Box::new(std::io::repeat(7))));
    let now = cove_content::volumes::Moment::Now;
    let (_, reader) = client.read(&volume(1), &now, &path("a"), None).await.unwrap();
    world.ended().await;
    let (_, ended) = crate::world::drain(reader).await;
    assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::ConnectionAborted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_finds_the_node_that_comes_after() {
    let home = tempfile::tempdir().unwrap();
    let deep = home.path().join("d".repeat(100)).join("e".repeat(100));
    std::fs::create_dir_all(&deep).unwrap();
    let socket = deep.join("node.sock");
    let client = cove_node_grpc::NodeClient::unix(&socket);
    let nobody = client.capacity().await.unwrap_err();
    assert_eq!(nobody.kind(), ErrorKind::Unavailable, "{nobody}");
    for _ in 0..2 {
        let world = World::start_at(&socket);
        create(&client, 1, "a", b"a".to_vec()).await;
        world.ended().await;
        let nobody = client.capacity().await.unwrap_err();
        assert_eq!(nobody.kind(), ErrorKind::Unavailable, "{nobody}");
    }
}

#[tokio::test]
async fn health_and_reflection_answer() {
    let world = World::start();
    for service in ["", "cove.node.v1.Node"] {
        let request = HealthCheckRequest { service: service.into() };
        let reply = HealthClient::new(world.channel()).check(request).await.unwrap().into_inner();
        assert_eq!(reply.status(), ServingStatus::Serving, "{service}");
    }
    let ask =
        |request| ServerReflectionRequest { host: String::new(), message_request: Some(request) };
    let requests = [
        ask(MessageRequest::FileContainingSymbol("cove.node.v1.Node".into())),
        ask(MessageRequest::FileByFilename("google/protobuf/timestamp.proto".into())),
    ];
    let mut client = ServerReflectionClient::new(world.channel());
    let replies = client.server_reflection_info(futures::stream::iter(requests)).await.unwrap();
    let replies: Vec<ServerReflectionResponse> =
        replies.into_inner().map(Result::unwrap).collect().await;
    assert_eq!(replies.len(), 2);
    for file in replies {
        let is_there = matches!(
            &file.message_response,
            Some(MessageResponse::FileDescriptorResponse(file)) if !file.file_descriptor_proto.is_empty()
        );
        assert!(is_there, "{file:?}");
    }
}
