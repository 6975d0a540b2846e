//! What is longer than a message.

use cove_content::volumes::{FileEdit, Moment, NewVolume, Restore, Volumes};
use cove_types::{Classify, EntryId, ErrorKind};

use crate::world::{World, call, create, document, new_entry, new_volume, operation, path, volume};

/// How many files have more than 4 MiB of paths together.
const COUNT: usize = 1_500;

/// A document of nearly as much as is read of one; 100 of them are more than a message.
fn long_document() -> cove_content::document::ProjectDocument {
    let mut document = document("Shop");
    document.graph.insert("containers".into(), "x".repeat(48_000).into());
    document
}

#[tokio::test(flavor = "multi_thread")]
async fn many_long_volumes_are_made_and_listed() {
    let world = World::start();
    let client = world.client();
    create(&client, 1, "a", b"a".to_vec()).await;
    let new = |n| NewVolume { document: long_document(), ..new_volume(n) };
    let targets = (10..110).map(new).collect();
    let forked = client.fork(call(2), volume(1), Moment::Now, targets).await.unwrap();
    assert_eq!(forked.value.len(), 100);
    let saved = forked.saved.await.unwrap();
    assert!(saved.iter().all(|status| status.document == long_document()));
    let listed = client.list().await.unwrap();
    assert_eq!(listed.len(), 101);
    assert!(listed[1..].iter().all(|status| status.document == long_document()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_list_of_files_comes_whole_and_in_order() {
    let world = World::start();
    let client = world.client();
    create(&client, 1, "a", b"a".to_vec()).await;
    let deep = vec!["x".repeat(250); 12].join("/");
    let name = |n| format!("{deep}/{n:05}");
    let lines: String = (0..COUNT).map(|n| format!("{}=\n", name(n))).collect();
    let archive = std::io::Cursor::new(lines.into_bytes());
    let extracted =
        client.edit(&volume(1), FileEdit::Extract(path("d"), Box::new(archive))).await.unwrap();
    // and the directories above them
    assert_eq!(extracted.files.len(), COUNT + 12);
    let top = path(&format!("d/{deep}"));
    let listed = client.files(&volume(1), &Moment::Now, &top, false).await.unwrap();
    let wanted = (0..COUNT).map(|n| path(&format!("d/{}", name(n))));
    assert!(listed.into_iter().map(|file| file.path).eq(wanted));
    let made = client.snapshot(call(2), volume(1), new_entry()).await.unwrap();
    let entry = Moment::Entry(made.value.entry.record.id);
    let remove = FileEdit::Remove { path: path("d"), recursive: true };
    client.edit(&volume(1), remove).await.unwrap();
    let changes = client.diff((volume(1), entry), (volume(1), Moment::Now)).await.unwrap();
    assert_eq!(changes.len(), COUNT);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_too_long_is_refused_and_not_sent() {
    let world = World::start();
    let restore = Restore {
        entry: EntryId::derive(&operation(1), "snapshot"),
        paths: vec![path(&"x/".repeat(100)); 30_000],
        force: false,
        author: "ada".into(),
        keep: 1,
    };
    let refused = world.client().restore(call(1), volume(1), restore).await.map(drop).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    let text = refused.to_string();
    assert!(text.starts_with("a request has at most 4194304 bytes, found "), "{text}");
    assert_eq!(world.volumes.calls(), [""; 0]);
}
