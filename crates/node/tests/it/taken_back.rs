//! Two Coves that take one store from each other.

use cove_content::head::HeadObject;
use cove_content::volumes::{Moment, NewEntry, Progress, VolumeError, Volumes};
use cove_database::NodeDatabase;
use cove_objects::{Fault, Request};
use cove_types::{Classify, EntryKind, ErrorKind};

use crate::door::Door;
use crate::home::{Home, head_key, new_entry, on_both_pools};
use crate::world::{World, is_root, memory, until};

on_both_pools!(
    a_store_that_is_taken_back_brings_the_others_state_and_keeps_ones_own,
    what_was_captured_before_the_store_was_lost_is_saved_when_it_is_taken_back,
    a_recovery_that_breaks_off_and_a_restart_save_nothing_over_the_others_state,
    what_another_has_saved_since_is_not_taken_away,
);

async fn a_store_that_is_taken_back_brings_the_others_state_and_keeps_ones_own(is_real: bool) {
    let store = memory();
    let (mut a, mut b) = (Home::new(&store, is_real), Home::new(&store, is_real));
    a.up().await;
    let volume = a.create("shop").await;
    a.write(&volume, "file", "first").await;
    a.snapshot(&volume).await;
    b.up().await;
    let (found, lost) = b.recover().await;
    assert_eq!((found.len(), lost), (1, Vec::new()));
    for round in 0..3 {
        for (name, home, other) in [("b", &b, &a), ("a", &a, &b)] {
            let theirs = home.text(&volume, &Moment::Now, "file").await.unwrap();
            let text = format!("of {name} in round {round}");
            home.write(&volume, "file", &text).await;
            home.snapshot(&volume).await;
            // the other does not know yet that it has lost the store, and writes on
            let late = format!("late in round {round}, beside {text}");
            other.write(&volume, "file", &late).await;
            let (found, lost) = other.recover().await;
            assert_eq!((found.as_slice(), lost), (std::slice::from_ref(&volume), Vec::new()));
            assert_eq!(other.text(&volume, &Moment::Now, "file").await.unwrap(), text);
            let texts = other.texts(&volume, "file").await;
            for text in [&theirs, &text, &late] {
                assert!(texts.contains(text), "{text} is lost: {texts:?}");
            }
            other.assert_whole(&volume).await;
        }
    }
    for home in [&mut a, &mut b] {
        home.down().await;
    }
}

async fn what_was_captured_before_the_store_was_lost_is_saved_when_it_is_taken_back(is_real: bool) {
    let store = memory();
    let (mut a, mut b) = (Home::new(&store, is_real), Home::new(&store, is_real));
    a.up().await;
    let volume = a.create("shop").await;
    a.write(&volume, "file", "first").await;
    a.look(&volume).await;
    b.up().await;
    b.recover().await;
    b.write(&volume, "file", "of b").await;
    b.look(&volume).await;
    a.write(&volume, "file", "captured").await;
    let captured = a.capture(&a.call(u32::MAX), &volume).await;
    let refused = captured.saved.await.unwrap_err();
    assert!(refused.to_string().contains("another Cove"), "{refused}");
    a.write(&volume, "file", "late").await;
    let (_, lost) = a.recover().await;
    assert_eq!(lost, [""; 0]);
    a.node().wait_saved(&volume).await.unwrap();
    a.look(&volume).await;
    assert_eq!(a.text(&volume, &Moment::Now, "file").await.unwrap(), "of b");
    let texts = a.texts(&volume, "file").await;
    for text in ["captured", "late", "of b"] {
        assert!(texts.contains(&text.to_owned()), "{text} is lost: {texts:?}");
    }
    a.assert_whole(&volume).await;
    // and what is saved is so for whoever comes next
    a.down().await;
    let mut c = Home::new(&store, is_real);
    c.up().await;
    c.recover().await;
    assert_eq!(c.text(&volume, &Moment::Now, "file").await.unwrap(), "of b");
    for home in [&mut b, &mut c] {
        home.down().await;
    }
}

async fn a_recovery_that_breaks_off_and_a_restart_save_nothing_over_the_others_state(
    is_real: bool,
) {
    let store = memory();
    let (mut a, mut b) = (Home::new(&store, is_real), Home::new(&store, is_real));
    a.up().await;
    let volume = a.create("shop").await;
    a.write(&volume, "file", "first").await;
    a.look(&volume).await;
    b.up().await;
    b.recover().await;
    b.write(&volume, "file", "of b").await;
    b.look(&volume).await;
    b.down().await;
    a.write(&volume, "file", "late").await;
    // heads are taken, and nothing that is stored beside them
    store.fail_when(|request: &Request| {
        matches!(request, Request::PutIfAbsent(_)).then_some(Fault::BeforeEffect)
    });
    let (_, lost) = a.recover().await;
    assert!(!lost.is_empty(), "it broke off");
    store.heal();
    a.down().await;
    a.up().await;
    // whatever is captured by itself before somebody asks again
    let now = (volume.clone(), Moment::Now);
    let _ = a.node().diff(now.clone(), now).await;
    let (_, lost) = a.recover().await;
    assert_eq!(lost, [""; 0]);
    a.look(&volume).await;
    let texts = a.texts(&volume, "file").await;
    for text in ["late", "of b"] {
        assert!(texts.contains(&text.to_owned()), "{text} is lost: {texts:?}");
    }
    a.assert_whole(&volume).await;
    a.down().await;
}

/// Waits until the node at a home has written down, of each of these kinds, work that is to be saved.
async fn until_pending(home: &Home, kinds: &[&str]) {
    let database = NodeDatabase::open(&home.path("node.db")).await.unwrap();
    until("the work is captured", || async {
        let rows = database.pending().await.unwrap();
        let is_there = |kind: &&str| rows.iter().any(|row| row.kind == *kind);
        kinds.iter().all(is_there).then_some(()).ok_or(format!("{} rows", rows.len()))
    })
    .await;
    database.close().await;
}

/// A delete and a move to the trash were captured while the store was away; another Cove has used both volumes since.
async fn what_another_has_saved_since_is_not_taken_away(is_real: bool) {
    let store = memory();
    let (mut a, mut b) = (Home::new(&store, is_real), Home::new(&store, is_real));
    a.up().await;
    let (shop, other) = (a.create("shop").await, a.create("other").await);
    for volume in [&shop, &other] {
        a.write(volume, "file", "first").await;
        a.snapshot(volume).await;
    }
    let kept = NewEntry { kind: EntryKind::Csi, message: Some("kept".into()), ..new_entry() };
    let kept = a.node().snapshot(a.call(u32::MAX), shop.clone(), kept).await.unwrap();
    let kept = kept.saved.await.unwrap().entry.record.id;
    store.fail_when(|_| Some(Fault::BeforeEffect));
    let (delete, trash, remove) = (a.call(u32::MAX), a.call(u32::MAX), a.call(u32::MAX));
    drop(a.node().delete(delete.clone(), shop.clone()).await.unwrap());
    let (node, call, volume) = (a.node().clone(), trash.clone(), other.clone());
    let trashing = tokio::spawn(async move { node.set_trashed(call, volume, true).await });
    let (node, volume) = (a.node().clone(), shop.clone());
    let removing = tokio::spawn(async move { node.remove_entry(remove, volume, kept).await });
    until_pending(&a, &["delete", "set_trashed", "remove_entry"]).await;
    a.down().await;
    trashing.await.unwrap().unwrap_err();
    removing.await.unwrap().unwrap_err();
    store.heal();

    b.up().await;
    b.recover().await;
    for volume in [&shop, &other] {
        b.write(volume, "file", "of b").await;
        b.snapshot(volume).await;
    }
    b.down().await;

    a.up().await;
    let (back, lost) = a.recover().await;
    assert_eq!((back.len(), lost), (2, Vec::new()));
    for _ in ["while it runs", "after a restart"] {
        for volume in [&shop, &other] {
            a.node().wait_saved(volume).await.unwrap();
            assert_eq!(a.text(volume, &Moment::Now, "file").await.unwrap(), "of b");
            let status = a.status(volume).await;
            assert!(!status.is_deleted && status.trashed_at.is_none(), "{status:?}");
        }
        // neither done nor gone already: whoever asked looks again
        let again = a.node().delete(delete.clone(), shop.clone()).await.err().unwrap();
        let trashed_again = a.node().set_trashed(trash.clone(), other.clone(), true).await;
        for told in [again, trashed_again.unwrap_err()] {
            assert_eq!(told.kind(), ErrorKind::Conflict, "{told}");
            assert!(told.to_string().contains("another Cove"), "{told}");
        }
        // what the other cannot have changed goes on
        let entries = a.node().entries(&shop).await.unwrap();
        assert!(entries.iter().all(|view| view.record.id != kept), "{entries:?}");
        a.down().await;
        a.up().await;
    }
    for volume in [&shop, &other] {
        a.look(volume).await;
        a.assert_whole(volume).await;
    }
    // who asks now knows what there is
    let deleted = a.node().delete(a.call(u32::MAX), shop.clone()).await.unwrap();
    deleted.saved.await.unwrap();
    let object = HeadObject::decode_of(&shop, &store.contents()[&head_key(&shop)]).unwrap();
    assert!(matches!(object, HeadObject::Tombstone(_)));
    a.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_delete_is_not_told_of_success_when_another_has_saved_since() {
    if !is_root("who_waits_for_a_delete_is_not_told_of_success_when_another_has_saved_since") {
        return;
    }
    let store = memory();
    let door = Door::before(&store);
    let a = World::behind("a", &store, &door).await;
    let volume = a.create().await;
    let shut = door.shut();
    let call = a.call();
    let deleted = a.node.delete(call.clone(), volume.clone()).await.unwrap();
    let b = World::fake("b", &store).await;
    b.node.recover(true, Progress::default()).await.unwrap();
    std::fs::write(b.files(&volume).await.join("file"), "of b").unwrap();
    b.snapshot(&volume).await;
    drop(shut);
    a.node.recover(true, Progress::default()).await.unwrap();
    let told = deleted.saved.await.unwrap_err();
    // the recovery, or the store before it
    let is_told = matches!(told.kind(), ErrorKind::Conflict | ErrorKind::Precondition);
    assert!(is_told && told.to_string().contains("another Cove"), "{told}");
    let again = a.node.delete(call, volume.clone()).await.err().unwrap();
    assert!(!matches!(again, VolumeError::NotHere { .. }), "{again}");
    assert_eq!(again.kind(), ErrorKind::Conflict, "{again}");
    let file = a.files(&volume).await.join("file");
    assert_eq!(std::fs::read_to_string(file).unwrap(), "of b");
    a.node.stop().await;
    b.node.stop().await;
}
