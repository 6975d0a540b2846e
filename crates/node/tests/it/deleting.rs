//! Volumes that are deleted for ever, and entries of them that are kept alone.

use std::collections::BTreeSet;

use cove_btrfs::SubvolumePath;
use cove_content::head::{HeadObject, HeadState};
use cove_content::spec::SpecChange;
use cove_content::volumes::{
    Captured, Moment, NewEntry, Restore, Snapshot, VolumeError, VolumeFilter, Volumes,
};
use cove_database::{DiscardedRow, NodeDatabase};
use cove_objects::{Fault, Request};
use cove_types::{Classify, EntryId, EntryKind, ErrorKind, VolumeId};

use crate::home::{Home, head_key, new_entry, on_both_pools};
use crate::world::{memory, until};

on_both_pools!(
    nothing_is_left_of_a_deleted_volume,
    what_is_kept_alone_outlives_its_volume_its_machine_and_goes_with_the_last,
    a_delete_whose_answer_is_lost_ends_and_one_that_is_interrupted_goes_on,
    what_was_captured_before_is_saved_before,
    a_volume_that_is_deleted_before_it_is_saved_is_gone_after_a_restart,
    an_entry_that_is_taken_out_is_gone_for_good_and_holds_no_state,
    what_is_asked_while_a_volume_is_deleted_ends_before_it_or_is_refused,
    what_is_kept_alone_is_found_by_its_message_wherever_it_is,
    what_is_deleted_is_told_as_deleted_until_it_is_gone,
    what_restores_swapped_out_goes_with_its_volume,
);

/// An entry of the kind that is kept alone.
async fn keep_alone(home: &Home, volume: &VolumeId, name: &str) -> Captured<Snapshot> {
    let entry = NewEntry { kind: EntryKind::Csi, message: Some(name.into()), ..new_entry() };
    home.node().snapshot(home.call(u32::MAX), volume.clone(), entry).await.unwrap()
}

async fn kept_alone(home: &Home, volume: &VolumeId, name: &str) -> EntryId {
    keep_alone(home, volume, name).await.saved.await.unwrap().entry.record.id
}

async fn delete(home: &Home, volume: &VolumeId) {
    let deleted = home.node().delete(home.call(u32::MAX), volume.clone()).await.unwrap();
    deleted.saved.await.unwrap();
}

async fn remove(home: &Home, volume: &VolumeId, entry: EntryId) {
    home.node().remove_entry(home.call(u32::MAX), volume.clone(), entry).await.unwrap();
}

fn object(home: &Home, volume: &VolumeId) -> HeadObject {
    HeadObject::decode_of(volume, &home.store.contents()[&head_key(volume)]).unwrap()
}

/// The volumes that are not deleted, and the others.
async fn listed(home: &Home) -> (Vec<VolumeId>, Vec<VolumeId>) {
    let all = home.node().list().await.unwrap();
    let (deleted, live): (Vec<_>, Vec<_>) = all.into_iter().partition(|status| status.is_deleted);
    let ids = |all: Vec<cove_content::volumes::VolumeStatus>| {
        all.into_iter().map(|status| status.volume).collect()
    };
    (ids(live), ids(deleted))
}

/// Found are entries of volumes that live and that are deleted, those that wait to be saved and those that a head
/// only names; not those of other kinds or messages, nor what is gone.
async fn what_is_kept_alone_is_found_by_its_message_wherever_it_is(is_real: bool) {
    let mut home = Home::new(&memory(), is_real);
    home.up().await;
    let (shop, other) = (home.create("shop").await, home.create("other").await);
    let old = kept_alone(&home, &shop, "wanted").await;
    for number in 0..20 {
        home.write(&shop, "file", &number.to_string()).await;
        kept_alone(&home, &shop, "unwanted").await;
    }
    home.snapshot(&shop).await;
    let of_other = kept_alone(&home, &other, "wanted").await;
    let gone = kept_alone(&home, &other, "wanted").await;
    remove(&home, &other, gone).await;
    delete(&home, &other).await;
    home.down().await;
    home.up().await;
    let both = [(shop.clone(), old), (other.clone(), of_other)];
    assert_eq!(found(&home, "wanted").await, both.into());
    assert_eq!(found(&home, "wante").await, [].into());
    let waits = keep_alone(&home, &shop, "late").await;
    assert_eq!(found(&home, "late").await, [(shop.clone(), waits.value.entry.record.id)].into());
    waits.saved.await.unwrap();

    let find = |ids: &[&VolumeId], names: &[&str]| {
        let ids = ids.iter().map(|id| (*id).clone()).collect();
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let (node, filter) = (home.node(), VolumeFilter { ids, names });
        async move {
            let found = node.find(&filter).await.unwrap();
            found.into_iter().map(|status| status.volume).collect::<Vec<_>>()
        }
    };
    let slug = home.status(&shop).await.document.slug.to_string();
    assert_eq!(find(&[&other], &[]).await, std::slice::from_ref(&other));
    assert_eq!(find(&[], &[&slug]).await, std::slice::from_ref(&shop));
    let mut both = [shop.clone(), other.clone()];
    both.sort();
    assert_eq!(find(&[&other], &[&slug]).await, both);
    assert!(find(&[], &["nobody"]).await.is_empty());
    home.down().await;
}

/// Whoever looks all the time sees each volume deleted from the moment on at which that was answered.
async fn what_is_deleted_is_told_as_deleted_until_it_is_gone(is_real: bool) {
    let mut home = Home::new(&memory(), is_real);
    home.up().await;
    for round in 0..if is_real { 20 } else { 300 } {
        let volume = home.create(&format!("shop-{round}")).await;
        let call = home.call(u32::MAX);
        let deleted = home.node().delete(call, volume.clone()).await.unwrap();
        loop {
            let all = home.node().list().await.unwrap();
            let Some(status) = all.into_iter().find(|status| status.volume == volume) else {
                break;
            };
            assert!(status.is_deleted, "round {round}");
        }
        deleted.saved.await.unwrap();
    }
    home.down().await;
}

/// However young it is, and whatever a program has written there since; at a start, where an earlier version left it.
async fn what_restores_swapped_out_goes_with_its_volume(is_real: bool) {
    let mut home = Home::new(&memory(), is_real);
    home.up().await;
    let is_trash = |place: &SubvolumePath| matches!(place, SubvolumePath::Trash(_));
    let trash = |home: &Home| -> usize {
        home.pool().list().unwrap().iter().filter(|place| is_trash(place)).count()
    };
    for is_kept in [false, true] {
        let volume = home.create("shop").await;
        home.write(&volume, "file", "old").await;
        let entry = home.snapshot(&volume).await;
        if is_kept {
            kept_alone(&home, &volume, "kept").await;
        }
        home.write(&volume, "file", "new").await;
        let mut late = std::fs::File::options()
            .append(true)
            .open(home.files(&volume).await.join("file"))
            .unwrap();
        home.restore(&volume, entry).await;
        std::io::Write::write_all(&mut late, b"written late").unwrap();
        late.sync_all().unwrap();
        drop(late);
        assert_eq!(trash(&home), 1);
        delete(&home, &volume).await;
        assert_eq!(trash(&home), 0, "{is_kept}");
    }
    let live = home.create("live").await;
    let gone = "vol-gone".parse().unwrap();
    let mut places = Vec::new();
    let database = NodeDatabase::open(&home.path("node.db")).await.unwrap();
    for volume in [&live, &gone] {
        let operation = home.env.operation_id(0);
        let place = SubvolumePath::Trash(operation);
        home.pool().create(&place, volume).unwrap();
        places.push(place);
        let moved_us = home.env.now().as_microsecond();
        let volume = volume.clone();
        let row = DiscardedRow { operation, volume, generation: 0, entry: None, moved_us };
        database.put_discarded(&row).await.unwrap();
    }
    home.down().await;
    home.up().await;
    let find = |place| home.pool().find(place).unwrap().is_some();
    let is_there: Vec<bool> = places.iter().map(find).collect();
    assert_eq!(is_there, [true, false]);
    assert_eq!(database.discarded().await.unwrap().len(), 1);
    database.close().await;
    home.down().await;
}

async fn found(home: &Home, message: &str) -> BTreeSet<(VolumeId, EntryId)> {
    let found = home.node().find_entries(message).await.unwrap();
    found.into_iter().map(|(volume, view)| (volume, view.record.id)).collect()
}

async fn nothing_is_left_of_a_deleted_volume(is_real: bool) {
    let mut home = Home::new(&memory(), is_real);
    home.up().await;
    let (volume, other) = (home.create("shop").await, home.create("other").await);
    home.write(&volume, "file", "text").await;
    home.snapshot(&volume).await;
    let files = home.files(&volume).await;
    let call = home.call(home.status(&volume).await.seq);
    let deleted = home.node().delete(call.clone(), volume.clone()).await.unwrap();
    assert!(!files.exists(), "its files go at once");
    deleted.saved.await.unwrap();
    for _ in ["while it runs", "after a restart"] {
        assert_eq!(listed(&home).await, (vec![other.clone()], Vec::new()));
        let gone = home.node().status(&volume).await.unwrap_err();
        assert!(matches!(gone, VolumeError::NotHere { .. }), "{gone}");
        let again = home.node().delete(call.clone(), volume.clone()).await.unwrap();
        again.saved.await.unwrap();
        home.down().await;
        home.up().await;
    }
    let HeadObject::Tombstone(tombstone) = object(&home, &volume) else { panic!("a head is left") };
    assert!(tombstone.lived);
    let of_it = |place: &cove_btrfs::SubvolumePath| place.to_string().contains(volume.as_str());
    assert!(!home.pool().list().unwrap().iter().any(of_it), "{:?}", home.pool().list());
    // the call that made it makes no other in its place
    let made = home.call(0);
    home.create_as(&made, "once").await.unwrap().saved.await.unwrap();
    let once = crate::home::volume_of(&made);
    delete(&home, &once).await;
    let again = home.create_as(&made, "once").await.err().unwrap();
    assert_eq!(again.kind(), ErrorKind::AlreadyExists, "{again}");
    let never = home.node().delete(home.call(0), "vol-none".parse().unwrap()).await;
    assert_eq!(never.err().unwrap().kind(), ErrorKind::NotFound);
    let (back, lost) = home.recover().await;
    assert_eq!((back, lost.len()), (vec![other], 0), "{lost:?}");
    home.down().await;
}

async fn what_is_kept_alone_outlives_its_volume_its_machine_and_goes_with_the_last(is_real: bool) {
    let store = memory();
    let mut home = Home::new(&store, is_real);
    home.up().await;
    let volume = home.create("shop").await;
    home.write(&volume, "file", "one").await;
    let one = kept_alone(&home, &volume, "one").await;
    home.write(&volume, "file", "two").await;
    home.snapshot(&volume).await;
    let two = kept_alone(&home, &volume, "two").await;
    delete(&home, &volume).await;
    assert_eq!(listed(&home).await, (Vec::new(), vec![volume.clone()]));
    let entries = home.node().entries(&volume).await.unwrap();
    let ids: Vec<EntryId> = entries.iter().map(|view| view.record.id).collect();
    assert_eq!(ids, [two, one], "those of the timeline are gone");
    for refused in [
        home.node().wait_saved(&volume).await.err(),
        home.capture_or_not(&home.call(u32::MAX), &volume).await.err(),
        home.text(&volume, &Moment::Now, "file").await.err(),
    ]
    .into_iter()
    .skip(1)
    {
        assert_eq!(refused.unwrap().kind(), ErrorKind::NotFound);
    }

    // on this machine, after a restart, and on another that has nothing but the store
    home.down().await;
    let mut other = Home::new(&store, is_real);
    for (n, home) in [&mut home, &mut other].into_iter().enumerate() {
        home.up().await;
        if n == 1 {
            let (back, lost) = home.recover().await;
            assert!(back.contains(&volume), "{back:?} {lost:?}");
        }
        assert_eq!(home.text(&volume, &Moment::Entry(one), "file").await.unwrap(), "one");
        let fork = home.fork_entry(&volume, two, &format!("fork-{n}")).await;
        assert_eq!(home.text(&fork, &Moment::Now, "file").await.unwrap(), "two");
        if n == 0 {
            home.down().await;
        }
    }
    assert!(
        matches!(object(&other, &volume), HeadObject::Head(head) if head.state == HeadState::Deleted)
    );
    remove(&other, &volume, one).await;
    assert_eq!(other.node().entries(&volume).await.unwrap().len(), 1);
    remove(&other, &volume, one).await;
    remove(&other, &volume, two).await;
    remove(&other, &volume, two).await;
    assert!(listed(&other).await.1.is_empty());
    assert!(matches!(object(&other, &volume), HeadObject::Tombstone(tombstone) if tombstone.lived));
    other.down().await;
}

async fn a_delete_whose_answer_is_lost_ends_and_one_that_is_interrupted_goes_on(is_real: bool) {
    let store = memory();
    let mut home = Home::new(&store, is_real);
    home.up().await;
    for (n, fault) in [Fault::AfterEffect, Fault::BeforeEffect].into_iter().enumerate() {
        let volume = home.create(&format!("shop-{n}")).await;
        let (key, mut is_put) = (head_key(&volume), false);
        store.fail_when(move |request| match request {
            Request::PutIfMatch(of) if *of == key && !is_put => {
                is_put = true;
                Some(fault)
            }
            _ => None,
        });
        delete(&home, &volume).await;
        store.heal();
        assert!(matches!(object(&home, &volume), HeadObject::Tombstone(_)), "{fault:?}");
    }
    // the tombstone is put, and the process ends before it knows
    for fault in [Fault::AfterEffect, Fault::BeforeEffect] {
        let volume = home.create("again").await;
        home.write(&volume, "file", "text").await;
        let key = head_key(&volume);
        store.fail_when(move |request| (request.key() == key.as_str()).then_some(fault));
        let call = home.call(u32::MAX);
        drop(home.node().delete(call.clone(), volume.clone()).await.unwrap());
        until("the request", || async {
            let problem = store.contents()[&head_key(&volume)].len() < 1_000;
            let is_there = problem || fault == Fault::BeforeEffect;
            if is_there { Ok(()) } else { Err("no tombstone".into()) }
        })
        .await;
        home.down().await;
        store.heal();
        home.up().await;
        assert!(!listed(&home).await.0.contains(&volume));
        home.node().delete(call, volume.clone()).await.unwrap().saved.await.unwrap();
        assert!(matches!(object(&home, &volume), HeadObject::Tombstone(_)), "{fault:?}");
        let of_it = |place: &cove_btrfs::SubvolumePath| place.to_string().contains(volume.as_str());
        assert!(!home.pool().list().unwrap().iter().any(of_it));
    }
    home.down().await;
}

async fn what_was_captured_before_is_saved_before(is_real: bool) {
    let store = memory();
    let mut home = Home::new(&store, is_real);
    home.up().await;
    let volume = home.create("shop").await;
    home.write(&volume, "file", "text").await;
    store.fail_when(|_| Some(Fault::BeforeEffect));
    let entry = keep_alone(&home, &volume, "kept").await.value.entry.record.id;
    let fork = home.call(u32::MAX);
    let forked = home.start_fork(&fork, &volume, "fork").await;
    drop(home.node().delete(home.call(u32::MAX), volume.clone()).await.unwrap());
    assert_eq!(listed(&home).await.0, std::slice::from_ref(&forked));
    home.down().await;
    store.heal();
    home.up().await;
    home.node().wait_saved(&forked).await.unwrap();
    home.node().wait_saved(&volume).await.unwrap();
    assert_eq!(home.text(&volume, &Moment::Entry(entry), "file").await.unwrap(), "text");
    assert_eq!(home.text(&forked, &Moment::Now, "file").await.unwrap(), "text");
    assert!(
        matches!(object(&home, &volume), HeadObject::Head(head) if head.state == HeadState::Deleted)
    );
    home.assert_whole(&forked).await;
    home.down().await;
}

async fn an_entry_that_is_taken_out_is_gone_for_good_and_holds_no_state(is_real: bool) {
    let mut home = Home::new(&memory(), is_real);
    home.up().await;
    let volume = home.create("shop").await;
    home.write(&volume, "file", "one").await;
    let one = home.snapshot(&volume).await;
    home.write(&volume, "file", "two").await;
    let two = kept_alone(&home, &volume, "two").await;
    // a program may delete it at any time: the state before a restore needs an entry of its own
    home.restore(&volume, one).await;
    remove(&home, &volume, two).await;
    assert!(home.texts(&volume, "file").await.contains(&"two".to_owned()));
    let left = home.node().entries(&volume).await.unwrap();
    assert!(left.iter().all(|view| view.record.id != two));
    home.down().await;
    home.up().await;
    let left = home.node().entries(&volume).await.unwrap();
    assert!(left.iter().all(|view| view.record.id != two));
    home.assert_whole(&volume).await;
    home.down().await;
}

/// All are asked before any has its turn, so that each finds the volume as it was.
async fn what_is_asked_while_a_volume_is_deleted_ends_before_it_or_is_refused(is_real: bool) {
    let mut home = Home::new(&memory(), is_real);
    home.up().await;
    let mut refused = 0;
    for round in 0..12 {
        let volume = home.create(&format!("shop-{round}")).await;
        home.write(&volume, "file", "text").await;
        let kept = kept_alone(&home, &volume, "kept").await;
        let (node, of) = (home.node(), |volume: &VolumeId| (home.call(u32::MAX), volume.clone()));
        let deleting = async {
            let (call, volume) = of(&volume);
            node.delete(call, volume).await?.saved.await
        };
        let deleting_too = async {
            let (call, volume) = of(&volume);
            node.delete(call, volume).await?.saved.await
        };
        let removing = async {
            let (call, volume) = of(&volume);
            node.remove_entry(call, volume, kept).await
        };
        let removing_too = async {
            let (call, volume) = of(&volume);
            node.remove_entry(call, volume, kept).await
        };
        let capturing = async {
            home.capture_or_not(&home.call(u32::MAX), &volume).await?.saved.await.map(drop)
        };
        let specifying = async {
            let (call, volume) = of(&volume);
            let change = SpecChange { quota_bytes: Some(Some(64 << 20)), ..SpecChange::default() };
            node.specify(call, volume, change, None).await?.saved.await.map(drop)
        };
        let describing = async {
            let (call, volume) = of(&volume);
            let document = node.status(&volume).await?.document;
            node.describe(call, volume, document).await.map(drop)
        };
        let all = async {
            tokio::join!(
                biased;
                deleting, removing, capturing, specifying, describing, removing_too, deleting_too
            )
        };
        let ended = tokio::time::timeout(crate::world::DEADLINE, all).await;
        let (deleted, removed, captured, specified, described, removed_too, deleted_too) =
            ended.expect("nothing waits for ever");
        for done in [deleted, removed, removed_too, deleted_too] {
            done.unwrap();
        }
        for either in [captured, specified, described] {
            let Err(error) = either else { continue };
            assert!(matches!(error, VolumeError::NotHere { .. }), "{error}");
            refused += 1;
        }
        assert_eq!(listed(&home).await, (Vec::new(), Vec::new()));
        assert!(matches!(object(&home, &volume), HeadObject::Tombstone(_)));
    }
    assert!(refused > 0, "some come too late");
    home.down().await;
    home.up().await;
    assert_eq!(listed(&home).await, (Vec::new(), Vec::new()));
    assert!(home.pool().list().unwrap().is_empty(), "{:?}", home.pool().list());
    home.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_mounted_is_neither_deleted_nor_trashed_nor_restored() {
    if !crate::world::is_root("what_is_mounted_is_neither_deleted_nor_trashed_nor_restored") {
        return;
    }
    let mut home = Home::new(&memory(), true);
    home.up().await;
    let volume = home.create("shop").await;
    let target = tempfile::tempdir().unwrap();
    home.write(&volume, "file", "old").await;
    let entry = home.snapshot(&volume).await;
    let files = home.files(&volume).await;
    rustix::mount::mount_bind(&files, target.path()).unwrap();
    let refused = home.node().delete(home.call(u32::MAX), volume.clone()).await.err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::Precondition);
    assert!(refused.to_string().contains(target.path().to_str().unwrap()), "{refused}");
    home.write(&volume, "file", "text").await;
    let place = target.path().display();
    let told = format!(
        "volume {volume} is in use: it is mounted at {place}; unmount it there first (if by a pod, end the pod)"
    );
    let refused = home.node().set_trashed(home.call(u32::MAX), volume.clone(), true).await;
    assert_eq!(refused.unwrap_err().to_string(), told);
    let restore = |paths: Vec<cove_types::TreePath>, force| Restore {
        entry,
        paths,
        force,
        author: "tester".into(),
        keep: 3,
    };
    let whole = |force| {
        home.node().restore(home.call(u32::MAX), volume.clone(), restore(Vec::new(), force))
    };
    let refused = whole(false).await.err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::Precondition);
    assert_eq!(
        refused.to_string(),
        format!(
            "volume {volume} is in use: it is mounted at {place}, which would stay on the state before; unmount it \
             there first (if by a pod, end the pod), or restore with --force"
        )
    );
    let there = || std::fs::read_to_string(target.path().join("file")).unwrap();
    assert_eq!(there(), "text");
    // of paths the files come to where they are mounted, too
    let paths = restore(vec![cove_types::TreePath::from_bytes(b"file").unwrap()], false);
    let of_paths = home.node().restore(home.call(u32::MAX), volume.clone(), paths).await;
    of_paths.unwrap().saved.await.unwrap();
    assert_eq!(there(), "old");
    home.write(&volume, "file", "text").await;
    whole(true).await.unwrap().saved.await.unwrap();
    assert_eq!(there(), "text", "it stays on the state before");
    let refused = home.node().delete(home.call(u32::MAX), volume.clone()).await.err().unwrap();
    let told = format!(
        "volume {volume} is in use: it is mounted at {place} with a state before a restore; unmount it there first \
         (if by a pod, end the pod)"
    );
    assert_eq!((refused.kind(), refused.to_string()), (ErrorKind::Precondition, told));
    // what is mounted is none of its files any more
    let trash = |trashed| home.node().set_trashed(home.call(u32::MAX), volume.clone(), trashed);
    trash(true).await.unwrap();
    trash(false).await.unwrap();
    rustix::mount::unmount(target.path(), rustix::mount::UnmountFlags::NOFOLLOW).unwrap();
    delete(&home, &volume).await;
    home.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_mounted_while_its_project_waits_to_go_to_the_trash_stays() {
    if !crate::world::is_root("what_is_mounted_while_its_project_waits_to_go_to_the_trash_stays") {
        return;
    }
    let store = memory();
    let mut home = Home::new(&store, true);
    home.up().await;
    let volume = home.create("shop").await;
    let target = tempfile::tempdir().unwrap();
    store.fail_when(|request| request.is_write().then_some(Fault::BeforeEffect));
    home.write(&volume, "file", "text").await;
    drop(home.capture_or_not(&home.call(u32::MAX), &volume).await.unwrap());
    let (node, call) = (home.node(), home.call(u32::MAX));
    let mut trashing = Box::pin(node.set_trashed(call.clone(), volume.clone(), true));
    let brief = std::time::Duration::from_millis(500);
    tokio::time::timeout(brief, &mut trashing).await.expect_err("it waits until that is saved");
    rustix::mount::mount_bind(home.files(&volume).await, target.path()).unwrap();
    store.heal();
    let refused = tokio::time::timeout(crate::world::DEADLINE, trashing).await.unwrap();
    let refused = refused.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Precondition);
    assert!(refused.to_string().contains(target.path().to_str().unwrap()), "{refused}");
    assert_eq!(node.status(&volume).await.unwrap().trashed_at, None);
    rustix::mount::unmount(target.path(), rustix::mount::UnmountFlags::NOFOLLOW).unwrap();
    // nothing was done under that operation
    let trashed = node.set_trashed(call.clone(), volume.clone(), true).await.unwrap();
    assert!(trashed.trashed_at.is_some());
    rustix::mount::mount_bind(home.files(&volume).await, target.path()).unwrap();
    node.set_trashed(call, volume.clone(), true).await.expect("a repetition finds it done");
    rustix::mount::unmount(target.path(), rustix::mount::UnmountFlags::NOFOLLOW).unwrap();
    home.down().await;
}

/// Each time the process ends at another point of saving: before the head, after it, and after what is in it.
async fn a_volume_that_is_deleted_before_it_is_saved_is_gone_after_a_restart(is_real: bool) {
    let store = memory();
    let mut home = Home::new(&store, is_real);
    home.up().await;
    let kept = home.create("kept").await;
    for requests in 0..6 {
        let mut left = requests;
        store.fail_when(move |request| match request {
            Request::PutIfAbsent(..) | Request::PutIfMatch(..) if left > 0 => {
                left -= 1;
                None
            }
            _ => Some(Fault::BeforeEffect),
        });
        let made = home.call(0);
        let name = format!("gone-{requests}");
        drop(home.create_as(&made, &name).await.unwrap());
        let volume = crate::home::volume_of(&made);
        let call = home.call(u32::MAX);
        drop(home.node().delete(call.clone(), volume.clone()).await.unwrap());
        home.down().await;
        store.heal();
        home.up().await;
        assert_eq!(listed(&home).await.0, vec![kept.clone()], "{requests} requests");
        let deleted = home.node().delete(call, volume.clone()).await.unwrap();
        let ended = tokio::time::timeout(std::time::Duration::from_secs(40), deleted.saved).await;
        ended.expect("it is not tried for ever").unwrap();
        assert_eq!(listed(&home).await, (vec![kept.clone()], Vec::new()), "{requests} requests");
        let of_it = |place: &cove_btrfs::SubvolumePath| {
            let text = place.to_string();
            text.contains(volume.as_str()) || text.starts_with("incoming/")
        };
        assert!(!home.pool().list().unwrap().iter().any(of_it), "{:?}", home.pool().list());
        assert!(matches!(object(&home, &volume), HeadObject::Tombstone(_)), "{requests} requests");
    }
    home.down().await;
}
