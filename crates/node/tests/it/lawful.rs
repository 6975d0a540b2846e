//! What no head can hold: it is refused before anything is captured, and keeps nothing behind it from being saved.

use std::future::Future;

use cove_content::document::ProjectDocument;
use cove_content::spec::{SpecChange, VolumeSpec};
use cove_content::volumes::{
    Call, Moment, NewEntry, NewVolume, Restore, Source, VolumeError, Volumes,
};
use cove_objects::{Fault, Request};
use cove_types::{Classify, ErrorKind, TreePath, VolumeId};
use serde_json::Value;

use crate::home::{Home, new_entry, volume_of};
use crate::world::{is_root, memory, until};

/// Checks that a call is refused as unlawful, in words that begin so.
async fn refused<T>(call: impl Future<Output = Result<T, VolumeError>>, told: &str) {
    let error = call.await.map(drop).expect_err(told);
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.to_string().starts_with(told), "wanted {told}, found {error}");
}

fn long(document: &ProjectDocument) -> ProjectDocument {
    let mut long = document.clone();
    long.graph.insert("notes".into(), "x".repeat(3 << 10).into());
    long
}

fn new_volume(call: &Call, document: &ProjectDocument, spec: VolumeSpec) -> NewVolume {
    NewVolume { volume: volume_of(call), document: document.clone(), spec }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_head_can_hold_is_refused_before_anything_is_captured() {
    if !is_root("what_no_head_can_hold_is_refused…") {
        return;
    }
    let mut home = Home::new(&memory(), false);
    home.up().await;
    let volume = home.create("shop").await;
    let point = home.snapshot(&volume).await;
    let (node, document) = (home.node(), home.status(&volume).await.document);
    let (before, seq) = (home.pool().list().unwrap(), home.status(&volume).await.seq);
    let call = || home.call(seq);

    for (unlawful, told) in [
        (
            NewEntry { author: "a".repeat(201), ..new_entry() },
            "author has 201 bytes, more than 200",
        ),
        (NewEntry { cause: Some("\u{7}".into()), ..new_entry() }, "cause holds \"\\x07\""),
        (NewEntry { message: Some("m".repeat(1001)), ..new_entry() }, "message has 1001 bytes"),
    ] {
        refused(node.snapshot(call(), volume.clone(), unlawful.clone()), told).await;
        refused(node.snapshot_together(vec![(call(), volume.clone())], unlawful), told).await;
    }
    for paths in [Vec::new(), vec![TreePath::top()]] {
        let author = "\u{1b}[2J".into();
        let restore = Restore { entry: point, paths, force: true, author, keep: 3 };
        refused(node.restore(call(), volume.clone(), restore), "author holds \"\\x1b\"").await;
    }

    let told = "the project document and what is asked of its volume have";
    let mut newer = VolumeSpec::default();
    newer.unknown.insert("new".into(), "x".repeat(4 << 10).into());
    for (document, spec) in
        [(long(&document), VolumeSpec::default()), (document.clone(), newer.clone())]
    {
        let one = call();
        let new = new_volume(&one, &document, spec.clone());
        refused(node.create(one, new, Source::Empty), told).await;
        for moment in [Moment::Now, Moment::Entry(point)] {
            let one = call();
            let targets = vec![new_volume(&one, &document, spec.clone())];
            refused(node.fork(one, volume.clone(), moment, targets), told).await;
        }
    }
    refused(node.describe(call(), volume.clone(), long(&document)), told).await;
    let nothing = SpecChange::default();
    refused(node.specify(call(), volume.clone(), nothing, Some(long(&document))), told).await;

    assert_eq!(home.pool().list().unwrap(), before);
    assert_eq!(home.status(&volume).await.seq, seq);
    home.snapshot(&volume).await;
    home.down().await;
}

/// As one whose laws were others had captured it: the part of the work `at`, a JSON pointer.
async fn change_what_waits(home: &Home, call: &Call, at: &str, value: Value) {
    let database = cove_database::NodeDatabase::open(&home.path("node.db")).await.unwrap();
    let row = database.find_pending(&call.operation).await.unwrap().unwrap();
    let mut body: Value = serde_json::from_str(&row.body).unwrap();
    *body["work"].pointer_mut(at).unwrap() = value;
    database.update_pending(&call.operation, &body.to_string()).await.unwrap();
    database.close().await;
}

/// Has `home` start with three changes that wait, of which `change` makes the second one that no head can hold.
async fn wait_in_between(
    home: &mut Home,
    volume: &VolumeId,
    is_snapshot: bool,
    at: &str,
    value: Value,
) -> [Call; 3] {
    let calls = [home.call(u32::MAX), home.call(u32::MAX), home.call(u32::MAX)];
    home.store.fail_when(|request: &Request| request.is_write().then_some(Fault::BeforeEffect));
    let [first, second, third] = &calls;
    drop(home.capture(first, volume).await.saved);
    if is_snapshot {
        drop(home.capture(second, volume).await.saved);
    } else {
        let document = home.status(volume).await.document;
        let change = SpecChange { stands_alone: Some(false), ..SpecChange::default() };
        let changed = home.node().specify(second.clone(), volume.clone(), change, Some(document));
        drop(changed.await.unwrap().saved);
    }
    home.write(volume, "after", "after").await;
    drop(home.capture(third, volume).await.saved);
    home.down().await;
    change_what_waits(home, second, at, value).await;
    home.store.heal();
    home.up().await;
    calls
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_and_no_head_can_hold_fails_and_what_comes_after_it_is_saved() {
    if !is_root("what_waits_and_no_head_can_hold_fails…") {
        return;
    }
    let mut home = Home::new(&memory(), false);
    home.up().await;
    let volume = home.create("shop").await;
    let document = home.status(&volume).await.document;
    let long = serde_json::to_value(ProjectDocument {
        name: "a name".into(),
        config: [("x".to_owned(), "x".repeat(17_000).into())].into_iter().collect(),
        ..document.clone()
    });
    for (is_snapshot, at, value) in [
        (true, "/snapshot/entry/author", "a".repeat(201).into()),
        (false, "/specify/document", long.unwrap()),
    ] {
        let calls = wait_in_between(&mut home, &volume, is_snapshot, at, value).await;
        // who waits meanwhile is told of the failure
        until("all that can be saved is", || async {
            home.node().store(&volume).await.map_err(|error| error.to_string())
        })
        .await;
        for (n, call) in calls.iter().enumerate() {
            let asked = match is_snapshot || n != 1 {
                true => home.capture_or_not(call, &volume).await.map(drop),
                false => {
                    let nothing = SpecChange::default();
                    home.node().specify(call.clone(), volume.clone(), nothing, None).await.map(drop)
                }
            };
            let failed = asked.err().map(|error| error.kind());
            assert_eq!(failed, (n == 1).then_some(ErrorKind::Internal), "{n} of {at}");
        }
        assert_eq!(home.problems(&volume).await, [""; 0]);
        assert_eq!(home.status(&volume).await.document, document);
        home.snapshot(&volume).await;
    }
    home.assert_whole(&volume).await;
    home.down().await;
}
