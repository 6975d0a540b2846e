//! Volumes that are deleted for ever, and calls that would bring them back.

use cove_content::volumes::{Call, Captured, Moment, NewVolume, Source, VolumeStatus, Volumes};
use cove_objects::{Fault, Request};
use cove_types::{Classify, ErrorKind, VolumeId};

use crate::home::{Home, head_key, on_both_pools, volume_of};
use crate::world::{is_root, memory, until};

on_both_pools!(
    a_fork_of_which_a_target_is_deleted_fails_and_its_source_saves_on,
    a_create_of_a_volume_that_is_deleted_fails_and_leaves_nothing,
);

/// A volume of which only the tombstone is left.
async fn deleted(home: &Home) -> VolumeId {
    let volume = home.create("gone").await;
    let deleted = home.node().delete(home.call(u32::MAX), volume.clone()).await.unwrap();
    deleted.saved.await.unwrap();
    volume
}

/// A fork of the present state under ids that are said, as somebody asks for it whose call is forgotten.
async fn fork(
    home: &Home,
    call: &Call,
    source: &VolumeId,
    targets: &[&VolumeId],
) -> Captured<Vec<VolumeStatus>> {
    let (document, spec) = (home.status(source).await.document, Default::default());
    let new = |id: &&VolumeId| NewVolume {
        volume: VolumeId::clone(id),
        document: document.clone(),
        spec: Clone::clone(&spec),
    };
    let targets = targets.iter().map(new).collect();
    home.node().fork(call.clone(), source.clone(), Moment::Now, targets).await.unwrap()
}

async fn a_fork_of_which_a_target_is_deleted_fails_and_its_source_saves_on(is_real: bool) {
    let mut home = Home::new(&memory(), is_real);
    home.up().await;
    let gone = deleted(&home).await;
    let source = home.create("shop").await;
    home.write(&source, "version", "v1").await;
    let call = home.call(u32::MAX);
    // what waits for the head of the fork fails with it
    home.store.fail_when(|request: &Request| request.is_write().then_some(Fault::BeforeEffect));
    let captured = fork(&home, &call, &source, &[&gone]).await;
    let of_fork = home.capture(&home.call(u32::MAX), &gone).await;
    home.store.heal();
    for error in [captured.saved.await.map(drop), of_fork.saved.await.map(drop)] {
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Precondition, "{error}");
    }
    for version in ["v2", "v3"] {
        let again = home.node().fork(call.clone(), source.clone(), Moment::Now, Vec::new()).await;
        let error = again.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Precondition, "the first result: {error}");
        home.write(&source, "version", version).await;
        home.snapshot(&source).await;
        assert_eq!(home.problems(&source).await, [""; 0]);
        let listed = home.node().list().await.unwrap();
        assert_eq!(listed.len(), 1, "{listed:?}");
        let of_gone = |place: &cove_btrfs::SubvolumePath| place.to_string().contains(gone.as_str());
        let left = home.pool().list().unwrap();
        assert!(!left.iter().any(of_gone), "{left:?}");
        home.down().await;
        home.up().await;
    }
    home.assert_whole(&source).await;
    home.down().await;
}

async fn a_create_of_a_volume_that_is_deleted_fails_and_leaves_nothing(is_real: bool) {
    let mut home = Home::new(&memory(), is_real);
    home.up().await;
    let gone = deleted(&home).await;
    let document = {
        let other = home.create("shop").await;
        home.status(&other).await.document
    };
    let before = home.pool().list().unwrap().len();
    let new = NewVolume { volume: gone.clone(), document, spec: Default::default() };
    let call = home.call(0);
    let made = home.node().create(call, new, Source::Empty).await.unwrap();
    let error = made.saved.await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Precondition, "{error}");
    assert_eq!(error.to_string(), format!("volume {gone} is deleted, and does not come back"));
    for _ in 0..2 {
        assert_eq!(home.pool().list().unwrap().len(), before);
        assert_eq!(home.node().list().await.unwrap().len(), 1);
        home.down().await;
        home.up().await;
    }
    home.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_that_is_deleted_before_the_next_of_its_call_is_saved_stays_deleted() {
    if !is_root("a_fork_that_is_deleted_before_the_next_of_its_call_is_saved…") {
        return;
    }
    let mut home = Home::new(&memory(), false);
    home.up().await;
    let source = home.create("shop").await;
    home.write(&source, "version", "v1").await;
    let call = home.call(u32::MAX);
    let (first, second) = (volume_of(&call), volume_of(&home.call(0)));
    let kept = head_key(&second);
    home.store.fail_when(move |request: &Request| {
        (request.is_write() && request.key() == kept.as_str()).then_some(Fault::BeforeEffect)
    });
    drop(fork(&home, &call, &source, &[&first, &second]).await.saved);
    until("the first fork has its head", || async {
        let is_there = home.store.contents().contains_key(&head_key(&first));
        let is_known = home.status(&first).await.saved_at.is_some();
        if is_there && is_known { Ok(()) } else { Err("it has none".to_owned()) }
    })
    .await;
    let gone = home.node().delete(home.call(u32::MAX), first.clone()).await.unwrap();
    gone.saved.await.unwrap();
    home.down().await;
    home.store.heal();
    home.up().await;
    home.node().wait_saved(&source).await.unwrap();
    home.node().wait_saved(&second).await.unwrap();
    home.write(&source, "version", "v2").await;
    home.snapshot(&source).await;
    let listed = home.node().list().await.unwrap();
    let listed: Vec<_> = listed.into_iter().map(|status| status.volume).collect();
    assert!(listed.len() == 2 && listed.contains(&second), "{listed:?}");
    assert_eq!(home.text(&second, &Moment::Now, "version").await.unwrap(), "v1");
    home.down().await;
}
