//! Bytes of files and archives, there and back.

use std::io::{self, Cursor, Read, Write};
use std::sync::{Arc, Mutex};

use cove_content::volumes::{FileEdit, FileReader, Moment, Source, VolumeError, Volumes};
use cove_types::{Classify, ErrorKind, ParseError, chain};

use crate::world::{SOON, World, call, create, drain, new_volume, noise, path, read, volume};

/// Bytes of which each read gives a few.
struct Trickle(Cursor<Vec<u8>>, usize);

impl Read for Trickle {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.1 += 1;
        if self.1.is_multiple_of(3) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let most = buffer.len().min(1 + self.1 * 7919 % 100_000);
        self.0.read(&mut buffer[..most])
    }
}

/// Bytes that cannot be read to their end.
fn broken(bytes: usize) -> impl Read + Send {
    let error =
        || io::Error::new(io::ErrorKind::StorageFull, ParseError("the disk is full".into()));
    Cursor::new(noise(bytes)).chain(Failing(Box::new(error)))
}

struct Failing(Box<dyn Fn() -> io::Error + Send>);

impl Read for Failing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err((self.0)())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_any_length_goes_there_and_comes_back() {
    let world = World::start();
    let client = world.client();
    create(&client, 1, "a", Vec::new()).await;
    for bytes in [0, 1, (128 << 10) - 1, 128 << 10, (128 << 10) + 1, 5 << 20] {
        let content = noise(bytes);
        let put = FileEdit::Put(path("a"), Box::new(Trickle(Cursor::new(content.clone()), 0)));
        client.edit(&volume(1), put).await.unwrap();
        let (found, ended) = read(&client, &volume(1), "a").await;
        ended.unwrap();
        assert!(found == content, "{bytes} bytes");
        let whole = content.clone();
        world.volumes.read_next(|| FileReader::Whole(Cursor::new(whole.into())));
        let (found, ended) = read(&client, &volume(1), "a").await;
        ended.unwrap();
        assert!(found == content, "{bytes} bytes at hand");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn few_bytes_that_are_at_hand_come_with_their_file() {
    let world = World::start();
    let client = world.client();
    create(&client, 1, "a", b"abc".to_vec()).await;
    world.volumes.read_next(|| {
        let mut read = Cursor::new(b"xabc".as_slice().to_vec().into());
        read.set_position(1);
        FileReader::Whole(read)
    });
    let (view, reader) = client.read(&volume(1), &Moment::Now, &path("a"), None).await.unwrap();
    assert_eq!(view.bytes, 3);
    let FileReader::Whole(bytes) = reader else { panic!("they are to be read") };
    assert_eq!(bytes.into_inner(), b"abc".as_slice());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_breaks_off_in_the_middle_breaks_off_there() {
    let world = World::start();
    let client = world.client();
    create(&client, 1, "a", b"abc".to_vec()).await;
    for bytes in [0, 300_000] {
        world.volumes.read_next(move || FileReader::Stream(Box::new(broken(bytes))));
        let (_, mut reader) =
            client.read(&volume(1), &Moment::Now, &path("a"), None).await.unwrap();
        let read = tokio::task::spawn_blocking(move || {
            let mut found = Vec::new();
            let first = reader.read_to_end(&mut found).unwrap_err();
            // and for good
            let second = reader.read(&mut [0; 8]).unwrap_err();
            (found, first, second)
        });
        let (found, first, second) = read.await.unwrap();
        assert!(found == noise(bytes), "{bytes} bytes");
        assert_eq!(first.kind(), io::ErrorKind::StorageFull);
        assert_eq!(chain(&first), "the disk is full");
        assert_eq!(second.kind(), io::ErrorKind::StorageFull);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_to_its_end_is_never_taken_as_whole() {
    let world = World::start();
    let client = world.client();
    create(&client, 1, "a", b"before".to_vec()).await;
    let ended = world.volumes.end_of_reading(1).await;
    assert_eq!(ended, "the end");
    for (n, bytes) in (2..).zip([0, 300_000]) {
        let put = FileEdit::Put(path("a"), Box::new(broken(bytes)));
        let error = client.edit(&volume(1), put).await.unwrap_err();
        assert_eq!(error.to_string(), "the stream broke off");
        let ended = world.volumes.end_of_reading(n).await;
        assert_eq!(ended, "StorageFull: the disk is full");
    }
    let archive = Source::Archive(Box::new(b"a=b\n".chain(broken(0))));
    let error = client.create(call(2), new_volume(2), archive).await.map(drop).unwrap_err();
    assert_eq!(error.to_string(), "the archive breaks off");
    assert_eq!(read(&client, &volume(1), "a").await.0, b"before");
    let gone = client.status(&volume(2)).await.unwrap_err();
    assert!(matches!(gone, VolumeError::NotHere { .. }), "{gone}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_comes_before_the_bytes_are_all_read() {
    let world = World::start();
    let client = world.client();
    world.volumes.fail(VolumeError::HeldByAnother);
    let endless = FileEdit::Put(path("a"), Box::new(io::repeat(7)));
    let refused = tokio::time::timeout(SOON, client.edit(&volume(1), endless)).await.unwrap();
    assert!(matches!(refused.unwrap_err(), VolumeError::HeldByAnother));
}

/// Where an export goes, and which byte is the last that it takes.
#[derive(Clone)]
struct Archive(Arc<Mutex<Vec<u8>>>, usize);

impl Write for Archive {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut taken = self.0.lock().unwrap();
        if taken.len() + bytes.len() > self.1 {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, "nobody reads"));
        }
        taken.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_comes_whole_with_its_remarks_or_fails() {
    let world = World::start();
    let client = world.client();
    let sink = |most| Archive(Arc::default(), most);
    let export = |archive: &Archive| {
        let (client, archive) = (client.clone(), Box::new(archive.clone()));
        async move {
            let (volume, top) = (volume(1), path("/"));
            let exported = client.export(&volume, &Moment::Now, &top, archive);
            tokio::time::timeout(SOON, exported).await.expect("it ends soon")
        }
    };
    let long = "é".repeat(3_000);
    let remarks = vec![long; 2_000];
    let told = remarks.clone();
    world.volumes.export_next(move |to| {
        to.write_all(&noise(5_000_001)).unwrap();
        Ok(told)
    });
    let archive = sink(usize::MAX);
    assert!(export(&archive).await.unwrap() == remarks, "the remarks are others");
    assert!(*archive.0.lock().unwrap() == noise(5_000_001), "the bytes are others");

    let failure = || VolumeError::Refused { kind: ErrorKind::Corrupt, what: "it is lost".into() };
    world.volumes.export_next(move |to| {
        to.write_all(&noise(300_000)).unwrap();
        Err(failure())
    });
    let error = export(&sink(usize::MAX)).await.unwrap_err();
    assert_eq!(format!("{error:?}"), format!("{:?}", failure()));

    let (ended, end) = std::sync::mpsc::channel();
    world.volumes.export_next(move |to| {
        let written = (0..).try_for_each(|_| to.write_all(&noise(300_000)));
        ended.send(written.as_ref().unwrap_err().kind()).unwrap();
        Err(failure())
    });
    let error = export(&sink(1 << 20)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(chain(&error), "failed to write the archive: nobody reads");
    let end = tokio::task::spawn_blocking(move || end.recv_timeout(SOON)).await.unwrap();
    assert_eq!(end.unwrap(), io::ErrorKind::BrokenPipe);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_nobody_reads_do_not_stop_other_calls() {
    let world = World::start();
    let client = world.client();
    create(&client, 1, "a", noise(2 << 20)).await;
    let (volume, path) = (volume(1), path("a"));
    let mut unread = Vec::new();
    for _ in 0..40 {
        let read = client.read(&volume, &Moment::Now, &path, None);
        unread.push(tokio::time::timeout(SOON, read).await.unwrap().unwrap().1);
    }
    let status = tokio::time::timeout(SOON, client.status(&volume)).await;
    status.unwrap().unwrap();
    let (found, ended) = drain(unread.pop().unwrap()).await;
    ended.unwrap();
    assert!(found == noise(2 << 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_let_go_of_is_let_go_of_on_the_node() {
    let world = World::start();
    let client = world.client();
    create(&client, 1, "a", b"abc".to_vec()).await;
    let (held, is_held) = std::sync::mpsc::channel::<()>();
    world.volumes.read_next(move || {
        let endless = io::repeat(7).chain(Holding(held));
        FileReader::Stream(Box::new(endless))
    });
    drop(client.read(&volume(1), &Moment::Now, &path("a"), None).await.unwrap());
    let gone = tokio::task::spawn_blocking(move || is_held.recv_timeout(SOON)).await.unwrap();
    assert_eq!(gone, Err(std::sync::mpsc::RecvTimeoutError::Disconnected));
}

/// Says by its end that it was dropped.
struct Holding(
    #[expect(dead_code, reason = "its drop is what it is for")] std::sync::mpsc::Sender<()>,
);

impl Read for Holding {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Ok(0)
    }
}
