//! Connections that are lost in the middle, and answers that end too early.

use std::io::{self, Cursor, Read};

use cove_content::volumes::{FileEdit, FileReader, Moment, Source, VolumeError, Volumes};
use cove_types::{Classify, ErrorKind};

use crate::pb;
use crate::proxy::Proxy;
use crate::raw::{Ending, RawNode, framed};
use crate::world::{
    SOON, World, call, create, document, drain, new_entry, new_volume, noise, operation, path,
    volume,
};

fn is_unknown(error: &VolumeError, n: u8) {
    assert!(
        matches!(error, VolumeError::Unknown { operation: found } if *found == operation(n)),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_connection_is_lost_is_unknown_and_its_id_finds_out() {
    let world = World::start();
    create(&world.client(), 1, "a", b"a".to_vec()).await;
    world.volumes.let_go_on(false);
    let proxy = Proxy::before(&world.socket);
    let client = proxy.client();
    let begun = *world.volumes.begun.borrow();
    let lost = tokio::spawn(async move {
        client.snapshot(call(2), volume(1), new_entry()).await.map(|captured| captured.value)
    });
    world.begun(begun + 1).await;
    proxy.cut();
    is_unknown(&lost.await.unwrap().unwrap_err(), 2);
    world.volumes.let_go_on(true);
    let again = world.client().snapshot(call(2), volume(1), new_entry()).await.unwrap();
    again.saved.await.unwrap();
    assert_eq!(world.client().entries(&volume(1)).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_captured_and_loses_its_connection_is_saved_all_the_same() {
    let world = World::start();
    create(&world.client(), 1, "a", b"a".to_vec()).await;
    world.volumes.fake.let_save(false);
    let proxy = Proxy::before(&world.socket);
    let captured = proxy.client().snapshot(call(2), volume(1), new_entry()).await.unwrap();
    assert!(captured.value.entry.record.saved_ms.is_none());
    proxy.cut();
    let lost = tokio::time::timeout(SOON, captured.saved).await.unwrap();
    is_unknown(&lost.unwrap_err(), 2);
    world.volumes.fake.let_save(true);
    let again = world.client().snapshot(call(2), volume(1), new_entry()).await.unwrap();
    let saved = again.saved.await.unwrap();
    assert!(saved.entry.record.saved_ms.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_whose_connection_is_lost_can_be_made_again() {
    let world = World::start();
    create(&world.client(), 1, "a", b"a".to_vec()).await;
    world.volumes.fake.let_save(false);
    let proxy = Proxy::before(&world.socket);
    let client = proxy.client();
    client.capacity().await.unwrap();
    let waits = tokio::spawn(async move { client.wait_saved(&volume(1)).await });
    while !world.volumes.calls().iter().any(|call| call.starts_with("wait_saved")) {
        tokio::task::yield_now().await;
    }
    proxy.cut();
    let lost = waits.await.unwrap().unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::Unavailable);
    assert!(lost.to_string().starts_with("the connection to the node at /"), "{lost}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_whose_connection_is_lost_breaks_off() {
    let world = World::start();
    create(&world.client(), 1, "a", b"a".to_vec()).await;
    let proxy = Proxy::before(&world.socket);
    world.volumes.read_next(|| FileReader::Stream(Box::new(io::repeat(7))));
    let client = proxy.client();
    let (_, mut reader) = client.read(&volume(1), &Moment::Now, &path("a"), None).await.unwrap();
    let begun = tokio::task::spawn_blocking(move || {
        reader.read_exact(&mut [0; 1000]).unwrap();
        reader
    });
    let reader = begun.await.unwrap();
    proxy.cut();
    let (_, ended) = drain(reader).await;
    let error = ended.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
    assert!(error.to_string().starts_with("the connection to the node at /"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_whose_connection_is_lost_fails() {
    let world = World::start();
    let proxy = Proxy::before(&world.socket);
    let (goes, on) = std::sync::mpsc::channel::<()>();
    world.volumes.export_next(move |to| {
        to.write_all(&noise(300_000)).unwrap();
        let _ = on.recv_timeout(SOON);
        Ok(Vec::new())
    });
    let client = proxy.client();
    let (wrote, mut written) = tokio::sync::mpsc::unbounded_channel();
    let export = tokio::spawn(async move {
        client.export(&volume(1), &Moment::Now, &path("/"), Box::new(Told(wrote))).await
    });
    written.recv().await.unwrap();
    proxy.cut();
    let lost = tokio::time::timeout(SOON, export).await.unwrap().unwrap().unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::Unavailable, "{lost}");
    drop(goes);
}

/// Says when it is written to.
struct Told(tokio::sync::mpsc::UnboundedSender<()>);

impl io::Write for Told {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(()).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Gives some bytes, says so, and no more until somebody lets it.
struct Stuck {
    bytes: Cursor<Vec<u8>>,
    stuck: Option<tokio::sync::oneshot::Sender<()>>,
    free: std::sync::mpsc::Receiver<()>,
}

impl Read for Stuck {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.bytes.read(buffer)?;
        if read == 0 {
            if let Some(stuck) = self.stuck.take() {
                let _ = stuck.send(());
            }
            let _ = self.free.recv_timeout(SOON);
        }
        Ok(read)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_in_and_loses_its_connection_is_nothing() {
    let world = World::start();
    create(&world.client(), 1, "a", b"before".to_vec()).await;
    let proxy = Proxy::before(&world.socket);
    let client = proxy.client();
    let (stuck, is_stuck) = tokio::sync::oneshot::channel();
    let (free, held) = std::sync::mpsc::channel();
    let bytes = Cursor::new(noise(300_000));
    let content = Stuck { bytes, stuck: Some(stuck), free: held };
    let put = FileEdit::Put(path("a"), Box::new(content));
    let edit = tokio::spawn(async move { client.edit(&volume(1), put).await });
    is_stuck.await.unwrap();
    world.begun(3).await;
    proxy.cut();
    let lost = edit.await.unwrap().unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::TimedOut, "{lost}");
    let ended = world.volumes.end_of_reading(2).await;
    assert_eq!(ended, "ConnectionAborted: the stream broke off");
    drop(free);
    let (found, _) = crate::world::read(&world.client(), &volume(1), "a").await;
    assert_eq!(found, b"before");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_says_no_end_has_said_nothing() {
    use futures::stream::iter;
    let world = World::start();
    create(&world.client(), 1, "a", b"before".to_vec()).await;
    let mut raw = world.raw();
    let edit = pb::new_edit::Edit::Put(b"a".to_vec().into());
    let edit = pb::NewEdit { volume: "vol-1".into(), edit: Some(edit) };
    let parts = [
        pb::edit_request::Part::Edit(edit),
        pb::edit_request::Part::Piece(b"half".to_vec().into()),
    ];
    let parts = parts.map(|part| pb::EditRequest { part: Some(part) });
    let error = raw.edit(iter(parts)).await.map(drop).unwrap_err();
    assert_eq!(error.message(), "the stream broke off");
    assert_eq!(world.volumes.end_of_reading(2).await, "ConnectionAborted: the stream broke off");
    let call = pb::Call {
        op_id: operation(3).to_string(),
        principal: "ada".into(),
        request: vec![3; 8].into(),
    };
    let target = pb::NewVolume {
        volume: "vol-3".into(),
        document_json: document("x").encode().into(),
        spec_json: Default::default(),
    };
    let create = pb::NewCreate { call: Some(call), target: Some(target), has_archive: true };
    let parts = [
        pb::create_request::Part::Create(create),
        pb::create_request::Part::Piece(b"a=b\n".to_vec().into()),
    ];
    let parts = parts.map(|part| pb::CreateRequest { part: Some(part) });
    let mut steps = raw.create(iter(parts)).await.unwrap().into_inner();
    let error = steps.message().await.unwrap_err();
    assert_eq!(error.message(), "the archive breaks off");
    let (found, _) = crate::world::read(&world.client(), &volume(1), "a").await;
    assert_eq!(found, b"before");
    assert_eq!(world.volumes.fake.count(), 1);
}

/// Asks a node that answers too little.
async fn asks(frames: Vec<Vec<u8>>, ending: Ending) -> Vec<VolumeError> {
    let node = RawNode::answers(frames, ending);
    let client = node.client();
    let archive = Source::Archive(Box::new(Cursor::new(noise(300_000))));
    vec![
        client.create(call(7), new_volume(1), archive).await.map(drop).unwrap_err(),
        client.describe(call(7), volume(1), document("x")).await.unwrap_err(),
        client.remove_entry(call(7), volume(1), "abcdefghij23".parse().unwrap()).await.unwrap_err(),
        client.list().await.unwrap_err(),
        client.read(&volume(1), &Moment::Now, &path("a"), None).await.map(drop).unwrap_err(),
        client
            .export(&volume(1), &Moment::Now, &path("a"), Box::new(io::sink()))
            .await
            .unwrap_err(),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_its_last_word_is_none() {
    for ending in [Ending::ok(), Ending::Bare] {
        let errors = asks(Vec::new(), ending).await;
        for error in &errors[..3] {
            is_unknown(error, 7);
        }
        for error in &errors[3..] {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        }
    }
    // half of a message, too
    let half = framed(&pb::ListResponse { is_last: true, ..Default::default() });
    for error in &asks(vec![half[..5].to_vec()], Ending::Bare).await[..3] {
        assert!(matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::Internal), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_and_a_file_without_their_ends_are_not_whole() {
    for ending in [Ending::ok(), Ending::Bare] {
        let files = pb::ListFilesResponse {
            files: vec![pb::File { path: b"a".to_vec().into(), kind: 1, ..Default::default() }],
            is_last: false,
        };
        let node = RawNode::answers(vec![framed(&files)], ending.clone());
        let listed = node.client().files(&volume(1), &Moment::Now, &path("/"), true).await;
        assert_eq!(listed.unwrap_err().kind(), ErrorKind::Unavailable);

        let file = Some(files.files[0].clone());
        let opened = pb::read_response::Part::Opened(pb::Opened { file, whole: None });
        let piece = pb::read_response::Part::Piece(b"half".to_vec().into());
        let frames = [opened, piece].map(|part| framed(&pb::ReadResponse { part: Some(part) }));
        let node = RawNode::answers(frames.into(), ending);
        let (found, ended) = crate::world::read(&node.client(), &volume(1), "a").await;
        assert_eq!(found, b"half");
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    }
}

#[tokio::test]
async fn nobody_at_the_socket_is_unavailable_and_nothing_was_sent() {
    let home = tempfile::tempdir().unwrap();
    let client = cove_node_grpc::NodeClient::unix(home.path().join("node.sock"));
    let error = client.snapshot(call(1), volume(1), new_entry()).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().starts_with("no node answers at /"), "{error}");
    let checks = client.doctor().await;
    assert!(!checks[0].ok && checks[0].what.starts_with("no node answers at /"), "{checks:?}");
}
