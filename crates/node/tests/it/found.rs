//! Files and snapshots that are on the disk when the node's database is lost: nothing of them is.

use std::time::Duration;

use cove_btrfs::SubvolumePath;
use cove_content::volumes::{Call, EntryEdit, Moment, Volumes};
use cove_database::NodeDatabase;
use cove_objects::{Fault, MemoryStore, Request};
use cove_types::{Classify, EntryId, ErrorKind, VolumeId};

use crate::home::{Home, new_entry, on_both_pools};
use crate::world::{is_root, memory, until};

/// The entry that a call for a snapshot makes.
fn entry_of(call: &Call) -> EntryId {
    EntryId::derive(&call.operation, "snapshot")
}

/// Captures two states that the store does not take, and loses the node's database.
async fn capture_and_forget(home: &mut Home, store: &MemoryStore, volume: &VolumeId) -> [Call; 2] {
    store.fail_when(|request: &Request| request.is_write().then_some(Fault::BeforeEffect));
    let calls = [home.call(u32::MAX), home.call(u32::MAX)];
    for (call, text) in calls.iter().zip(["captured first", "captured second"]) {
        home.write(volume, "version", text).await;
        drop(home.capture(call, volume).await.saved);
    }
    home.down().await;
    store.heal();
    home.forget_node();
    calls
}

async fn snapshots_that_no_database_knows_become_entries(is_real: bool) {
    let store = memory();
    let mut home = Home::new(&store, is_real);
    home.up().await;
    let volume = home.create("shop").await;
    home.write(&volume, "version", "saved").await;
    let saved = home.snapshot(&volume).await;
    let calls = capture_and_forget(&mut home, &store, &volume).await;
    let [first, second] = calls.each_ref().map(entry_of);

    home.up().await;
    let (_, lost) = home.recover().await;
    // the second one is what the files are, which are a rescue themselves
    assert_eq!(lost.len(), 1, "{lost:?}");
    let named = format!("project shop: the label and message of entry {first}: ");
    assert!(lost[0].starts_with(&named), "{lost:?}");
    assert_eq!(home.rescued(&volume, "captured here").await, [first]);
    let problems = home.problems(&volume).await;
    assert!(problems.iter().any(|what| what.contains(first.as_str())), "{problems:?}");
    let found = home.rescued(&volume, "found here").await;
    for home_is in ["as it was recovered", "started again"] {
        for (entry, text) in
            [(saved, "saved"), (first, "captured first"), (found[0], "captured second")]
        {
            let read = home.text(&volume, &Moment::Entry(entry), "version").await;
            assert_eq!(read.unwrap(), text, "{home_is}");
        }
        home.down().await;
        home.up().await;
    }
    let (_, lost) = home.recover().await;
    assert_eq!(lost, [""; 0], "again");
    assert_eq!(home.rescued(&volume, "captured here").await, [first]);
    home.assert_whole(&volume).await;

    // whoever asks again under the same id does not get another state under it
    let again = home.node().snapshot(calls[0].clone(), volume.clone(), new_entry()).await;
    assert_eq!(again.err().unwrap().kind(), ErrorKind::Conflict);
    assert_ne!(second, first);
    home.write(&volume, "version", "after").await;
    home.look(&volume).await;
    home.down().await;

    let mut other = Home::new(&store, false);
    other.up().await;
    other.recover().await;
    let read = other.text(&volume, &Moment::Entry(first), "version").await;
    assert_eq!(read.unwrap(), "captured first", "on another machine");
    other.down().await;
}

/// A restore that was captured and not saved leaves the files of its entry in their place: the state before
/// it is replaced by them when they are saved next.
#[tokio::test(flavor = "multi_thread")]
async fn the_state_before_a_restore_that_no_database_knows_becomes_an_entry() {
    if !is_root("the_state_before_a_restore_that_no_database_knows_becomes_an_entry") {
        return;
    }
    let store = memory();
    let mut home = Home::new(&store, false);
    home.up().await;
    let volume = home.create("shop").await;
    home.write(&volume, "version", "first").await;
    let first = home.snapshot(&volume).await;
    home.write(&volume, "version", "before the restore").await;
    home.look(&volume).await;
    let name = {
        let database = NodeDatabase::open(&home.path("node.db")).await.unwrap();
        let name = database.find_setting("name").await.unwrap().unwrap();
        database.close().await;
        name
    };
    store.fail_when(|request: &Request| request.is_write().then_some(Fault::BeforeEffect));
    home.capture_restore(&volume, first).await;
    home.down().await;
    store.heal();
    home.forget_node();
    let database = NodeDatabase::open(&home.path("node.db")).await.unwrap();
    database.put_setting("name", &name).await.unwrap();
    database.close().await;

    home.up().await;
    home.recover().await;
    assert_eq!(home.text(&volume, &Moment::Now, "version").await.unwrap(), "first");
    home.look(&volume).await;
    let texts = home.texts(&volume, "version").await;
    assert!(texts.contains(&"before the restore".to_owned()), "{texts:?}");
    home.assert_whole(&volume).await;
    home.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn late_writes_that_no_database_knows_become_an_entry() {
    if !is_root("late_writes_that_no_database_knows_become_an_entry") {
        return;
    }
    let store = memory();
    let mut home = Home::new(&store, false);
    home.up().await;
    let volume = home.create("shop").await;
    home.write(&volume, "version", "first").await;
    let first = home.snapshot(&volume).await;
    for text in ["before", "before the second"] {
        home.write(&volume, "version", text).await;
        home.restore(&volume, first).await;
    }
    let trash: Vec<_> = home.pool().list().unwrap();
    let trash: Vec<_> =
        trash.into_iter().filter(|place| matches!(place, SubvolumePath::Trash(_))).collect();
    assert_eq!(trash.len(), 2);
    std::fs::write(home.pool().absolute(&trash[0]).join("files/version"), "written late").unwrap();
    home.down().await;
    home.forget_node();

    home.look_every = Duration::from_millis(20);
    home.up().await;
    let (_, lost) = home.recover().await;
    assert_eq!(lost, [""; 0]);
    let rescued = until("what was written late is an entry", || async {
        let rescued = home.rescued(&volume, "late writes").await;
        let saved = home.status(&volume).await.unsaved_bytes == Some(0);
        (rescued.len() == 1 && saved).then(|| rescued[0]).ok_or(format!("{rescued:?} {saved}"))
    })
    .await;
    let late = home.text(&volume, &Moment::Entry(rescued), "version").await.unwrap();
    assert_eq!(late, "written late");
    home.down().await;
    let database = NodeDatabase::open(&home.path("node.db")).await.unwrap();
    assert_eq!(database.discarded().await.unwrap().len(), 2, "kept as long as any others");
    database.close().await;
}

/// A snapshot that is pinned: it gives way to nothing.
async fn snapshot_for_good(home: &Home, volume: &VolumeId) {
    let entry = home.snapshot(volume).await;
    let pin = EntryEdit::Pin(true);
    home.node().edit_entry(home.call(u32::MAX), volume.clone(), entry, pin).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_for_which_the_timeline_has_no_room_stays_and_holds_nothing_up() {
    if !is_root("a_snapshot_for_which_the_timeline_has_no_room_stays_and_holds_nothing_up") {
        return;
    }
    let store = memory();
    let mut home = Home::new(&store, false);
    home.up().await;
    let volume = home.create("shop").await;
    for _ in 0..254 {
        snapshot_for_good(&home, &volume).await;
    }
    let calls = capture_and_forget(&mut home, &store, &volume).await;
    let first = entry_of(&calls[0]);
    // whoever has the store meanwhile takes what room there is
    let mut other = Home::new(&store, false);
    other.up().await;
    other.recover().await;
    for _ in 0..2 {
        snapshot_for_good(&other, &volume).await;
    }
    let Err(full) = other.capture_or_not(&other.call(u32::MAX), &volume).await else {
        panic!("there was room")
    };
    assert!(full.to_string().contains("256 entries"), "{full}");
    other.down().await;
    home.up().await;
    for _ in 0..2 {
        let (_, lost) = home.recover().await;
        assert!(lost.iter().all(|lost| lost.contains("256 entries")), "{lost:?}");
        let of_first: Vec<&String> =
            lost.iter().filter(|lost| lost.contains(first.as_str())).collect();
        for lost in of_first {
            assert!(lost.contains("stays on this machine"), "{lost}");
        }
        until("what does not fit is told", || async {
            let problems = home.problems(&volume).await;
            let is_told = problems.iter().any(|what| what.contains("256 entries"));
            is_told.then_some(()).ok_or(format!("{problems:?}"))
        })
        .await;
        home.write(&volume, "version", "goes on").await;
        // another that does not fit may be set aside just then, which who waits for it is told
        until("the present state is saved", || async {
            let now = (volume.clone(), Moment::Now);
            let look = home.node().diff(now.clone(), now).await;
            look.map(drop).map_err(|error| error.to_string())
        })
        .await;
        let stored = home.node().store(&volume).await.expect_err("what is aside is not saved");
        assert_eq!(stored.kind(), ErrorKind::Exhausted, "{stored}");
        assert!(stored.to_string().contains("stays on this machine"), "{stored}");
        let place = SubvolumePath::Stored(volume.clone(), calls[0].operation);
        let kept = home.pool().absolute(&place).join("files/version");
        assert_eq!(std::fs::read_to_string(kept).unwrap(), "captured first");
        home.down().await;
        home.up().await;
    }

    // as soon as there is room it is an entry, without another start
    let waited = home.node().wait_saved(&volume).await;
    assert!(waited.is_err_and(|error| error.to_string().contains("256 entries")));
    let entries = home.node().entries(&volume).await.unwrap();
    for view in entries.iter().filter(|view| view.record.pinned).take(2) {
        for edit in [EntryEdit::Pin(false), EntryEdit::Trash] {
            let call = home.call(u32::MAX);
            home.node().edit_entry(call, volume.clone(), view.record.id, edit).await.unwrap();
        }
    }
    until("what was set aside is saved", || async {
        let problems = home.problems(&volume).await;
        let rescues = home.rescues(&volume).await;
        (rescues > 0 && problems.iter().all(|what| !what.contains("256 entries")))
            .then_some(())
            .ok_or(format!("{rescues} {problems:?}"))
    })
    .await;
    home.node().wait_saved(&volume).await.unwrap();
    home.node().store(&volume).await.expect("all of it is saved");
    home.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_whose_volume_nobody_knows_are_named_and_stay() {
    if !is_root("files_whose_volume_nobody_knows_are_named_and_stay") {
        return;
    }
    let store = memory();
    let mut home = Home::new(&store, false);
    home.up().await;
    let volume = home.create("shop").await;
    home.write(&volume, "version", "only here").await;
    home.down().await;
    home.forget_node();
    let mut other = Home::new(&memory(), false);
    std::mem::swap(&mut other.store, &mut home.store);
    home.up().await;
    let (found, lost) = home.recover().await;
    assert_eq!(found, []);
    assert_eq!(lost.len(), 1, "{lost:?}");
    assert!(lost[0].starts_with(&format!("volume {volume}: ")), "{lost:?}");
    let files = home.pool().absolute(&SubvolumePath::Volume(volume)).join("files/version");
    assert!(lost[0].contains(files.parent().unwrap().parent().unwrap().to_str().unwrap()));
    assert_eq!(std::fs::read_to_string(files).unwrap(), "only here");
    home.down().await;
}

async fn files_that_no_database_knows_are_kept(is_real: bool) {
    let store = memory();
    let mut home = Home::new(&store, is_real);
    home.up().await;
    let volume = home.create("shop").await;
    home.write(&volume, "version", "saved").await;
    home.look(&volume).await;
    home.down().await;
    home.forget_node();

    // the head's state: simply adopted
    home.up().await;
    let ills = home.ills().await;
    assert!(ills.iter().any(|what| what.contains(volume.as_str())), "{ills:?}");
    let (found, lost) = home.recover().await;
    assert_eq!((found, lost.len()), (vec![volume.clone()], 0), "{lost:?}");
    assert_eq!(home.rescues(&volume).await, 0);
    assert_eq!(home.status(&volume).await.unsaved_bytes, Some(0));
    assert_eq!(home.text(&volume, &Moment::Now, "version").await.unwrap(), "saved");
    home.write(&volume, "version", "never saved").await;
    home.down().await;
    home.forget_node();

    // another state: an entry beside the store's
    home.up().await;
    let (_, lost) = home.recover().await;
    assert_eq!(lost, [""; 0]);
    assert_eq!(home.text(&volume, &Moment::Now, "version").await.unwrap(), "saved");
    let rescued = home.rescued(&volume, "found here").await;
    assert_eq!(rescued.len(), 1);
    let found = home.text(&volume, &Moment::Entry(rescued[0]), "version").await.unwrap();
    assert_eq!(found, "never saved");
    let problems = home.problems(&volume).await;
    assert!(problems.iter().any(|what| what.contains("on this machine")), "{problems:?}");
    home.restore(&volume, rescued[0]).await;
    assert_eq!(home.text(&volume, &Moment::Now, "version").await.unwrap(), "never saved");
    home.assert_whole(&volume).await;
    home.write(&volume, "version", "after").await;
    home.down().await;

    // the record of the copy alone is gone: the head was ours, and what is here comes after it
    let database = NodeDatabase::open(&home.path("node.db")).await.unwrap();
    database.delete_copy(&volume).await.unwrap();
    database.close().await;
    home.up().await;
    let (_, lost) = home.recover().await;
    assert_eq!(lost, [""; 0]);
    assert_eq!(home.text(&volume, &Moment::Now, "version").await.unwrap(), "after");
    home.look(&volume).await;
    home.assert_whole(&volume).await;
    home.down().await;
    let mut second = Home::new(&store, false);
    second.up().await;
    second.recover().await;
    assert_eq!(second.text(&volume, &Moment::Now, "version").await.unwrap(), "after");
    second.down().await;
}

on_both_pools!(
    files_that_no_database_knows_are_kept,
    snapshots_that_no_database_knows_become_entries,
);
