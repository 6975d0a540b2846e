//! A store that does not answer keeps nothing waiting but what it is needed for.

use std::sync::Arc;

use cove_content::volumes::{FileEdit, Moment, Progress, Volumes};
use cove_objects::Store;
use cove_testkit::proof::figure;
use cove_testkit::trees::describe;
use cove_types::{Classify, Durability, EntryId, ErrorKind, TreePath, VolumeId};
use tokio::task::JoinSet;

use crate::door::Door;
use crate::world::{DEADLINE, World, is_root, memory, until};

/// Calls of each kind: more than a runtime has threads for blocking work, which is 512.
const CALLS: usize = 600;

/// A machine that recovered one volume with one entry, so that the entry is in the store alone.
async fn recovered(
    door: &Arc<Door>,
    store: &Arc<cove_objects::MemoryStore>,
) -> (World, VolumeId, EntryId) {
    let first = World::fake("a", store).await;
    let volume = first.create().await;
    std::fs::write(first.files(&volume).await.join("file"), "of the entry").unwrap();
    let entry = first.snapshot(&volume).await;
    std::fs::write(first.files(&volume).await.join("file"), "of now").unwrap();
    first.look(&volume).await;
    first.node.stop().await;
    let world = World::behind("b", store, door).await;
    world.node.recover(true, Progress::default()).await.unwrap();
    (world, volume, entry)
}

/// Goes on with files and captures of a volume, which need no store.
async fn goes_on(world: &World, volume: &VolumeId) {
    let file = TreePath::from_bytes(b"file").unwrap();
    let (view, _) = world.node.read(volume, &Moment::Now, &file, None).await.unwrap();
    assert_eq!(view.bytes, 6);
    let captured = world.snapshot_as(&world.call(), volume).await.unwrap();
    let entry = captured.value.entry.record.id;
    let read = world.node.file(volume, &Moment::Entry(entry), &file).await.unwrap();
    assert_eq!(read.bytes, 6, "an entry that is here alone");
    let status = world.node.status(volume).await.unwrap();
    assert_eq!(status.durability, Durability::OnThisNode, "what is captured is not saved");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_wait_for_the_store_hold_no_threads() {
    if !is_root("calls_that_wait_for_the_store_hold_no_threads") {
        return;
    }
    let store = memory();
    let door = Door::before(&store);
    let (world, volume, entry) = recovered(&door, &store).await;
    let other = world.create().await;
    let document = world.node.status(&volume).await.unwrap().document;
    let _opened = door.shut();
    let mut calls = JoinSet::new();
    for n in 0..3 * CALLS {
        let (node, volume, other) = (world.node.clone(), volume.clone(), other.clone());
        let (call, document) = (world.call(), document.clone());
        let at = (Moment::Entry(entry), TreePath::from_bytes(b"file").unwrap());
        calls.spawn(async move {
            match n % 3 {
                0 => node.describe(call, volume, document).await.map(drop),
                1 => node.set_trashed(call, other, false).await.map(drop),
                _ => node.file(&volume, &at.0, &at.1).await.map(drop),
            }
        });
    }
    let database = world.database().await;
    until("all calls are captured", || async {
        let pending = database.pending().await.unwrap().len();
        (pending >= 2 * CALLS).then_some(()).ok_or(format!("{pending} are"))
    })
    .await;
    tokio::time::timeout(DEADLINE, goes_on(&world, &volume))
        .await
        .expect("files are read and snapshots captured beside calls that wait");

    let began = world.env.since_boot();
    tokio::time::timeout(DEADLINE, world.node.stop()).await.expect("the node stops");
    let ended = tokio::time::timeout(DEADLINE, calls.join_all()).await.expect("the calls end");
    let kinds: Vec<Option<ErrorKind>> =
        ended.into_iter().map(|ended| ended.err().map(|error| error.kind())).collect();
    assert_eq!(kinds, vec![Some(ErrorKind::Unavailable); 3 * CALLS]);
    let ended_in = world.env.since_boot() - began;
    figure("calls that wait, ended with the node", format!("{} in {ended_in:?}", 3 * CALLS));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_is_not_saved_yet_is_restored_and_forked() {
    if !is_root("an_entry_that_is_not_saved_yet_is_restored_and_forked") {
        return;
    }
    for whole in [true, false] {
        let store = memory();
        let mut world = World::fake("a", &store).await;
        let volume = world.create().await;
        let files = world.files(&volume).await;
        std::fs::write(files.join("file"), "then").unwrap();
        store.fail_when(|request| request.is_write().then_some(cove_objects::Fault::BeforeEffect));
        let then = describe(&files).unwrap();
        let captured = world.snapshot_as(&world.call(), &volume).await.unwrap();
        let entry = captured.value.entry.record.id;
        std::fs::write(files.join("file"), "later").unwrap();
        let forked = world.fork_as(&world.call(), &volume, Moment::Entry(entry), 1).await.unwrap();
        let fork = forked.value[0].volume.clone();
        let paths: &[&str] = if whole { &[] } else { &["file"] };
        let call = world.call();
        let restored = world.restore_as(&call, &volume, &entry, paths).await.unwrap();
        let before = restored.value.before.unwrap().record.id;
        for volume in [&volume, &fork] {
            let found = std::fs::read(world.files(volume).await.join("file")).unwrap();
            assert_eq!(found, b"then");
        }
        world.restart().await;
        store.heal();
        world.node.wait_saved(&volume).await.unwrap();
        for volume in [&volume, &fork] {
            world.look(volume).await;
        }
        world.node.stop().await;
        let other = World::fake("b", &store).await;
        other.node.recover(true, Progress::default()).await.unwrap();
        let found = describe(&other.files(&fork).await).unwrap();
        assert_eq!(found, then, "the fork on another machine");
        let found = std::fs::read(other.files(&volume).await.join("file")).unwrap();
        assert_eq!(found, b"then");
        other.restore(&volume, &before).await;
        let found = std::fs::read(other.files(&volume).await.join("file")).unwrap();
        assert_eq!(found, b"later", "the state before");
        other.node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_entry_that_is_told_to_hold_the_state_before_a_restore_is_there_when_it_is_saved() {
    const NAME: &str =
        "the_entry_that_is_told_to_hold_the_state_before_a_restore_is_there_when_it_is_saved";
    if !is_root(NAME) {
        return;
    }
    let store = memory();
    let world = World::fake("a", &store).await;
    let volume = world.create().await;
    let file = world.files(&volume).await.join("file");
    std::fs::write(&file, "first").unwrap();
    let first = world.snapshot(&volume).await;
    for is_away in [false, true] {
        if is_away {
            store.fail_when(|request| {
                request.is_write().then_some(cove_objects::Fault::BeforeEffect)
            });
        }
        // what is an entry already is told as that, and what is none as one of its own
        for (text, is_entry) in [("second", true), ("third", false), ("first", true)] {
            let file = world.files(&volume).await.join("file");
            std::fs::write(&file, format!("{text} {is_away}")).unwrap();
            let captured = world.snapshot_as(&world.call(), &volume).await.unwrap();
            let mut entry = captured.value.entry.record.id;
            if !is_away {
                // what is saved while a restore is being built is not known to be the files of now
                captured.saved.await.unwrap();
            }
            if !is_entry {
                std::fs::write(&file, "written since").unwrap();
            }
            let restored = world.restore_as(&world.call(), &volume, &first, &[]).await.unwrap();
            let told = restored.value.before.unwrap().record.id;
            assert_eq!(told == entry, is_entry, "{text}");
            entry = told;
            let again = world.restore_as(&world.call(), &volume, &entry, &[]).await.unwrap();
            let told_again = again.value.before.unwrap().record.id;
            assert_eq!(told_again, first, "nothing was written since the restore of the first");
            if is_away {
                store.heal();
            }
            for (saved, told) in [(restored.saved, told), (again.saved, first)] {
                let before = saved.await.unwrap().before.unwrap();
                assert_eq!(before.record.id, told, "{text}");
            }
            let views = world.node.entries(&volume).await.unwrap();
            assert!(views.iter().any(|view| view.record.id == entry && view.record.is_live()));
        }
    }
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_saved_after_a_restore_has_swapped_it_out_is_not_taken_for_the_files_of_now() {
    if !is_root(
        "what_is_saved_after_a_restore_has_swapped_it_out_is_not_taken_for_the_files_of_now",
    ) {
        return;
    }
    let store = memory();
    let world = World::fake("a", &store).await;
    let volume = world.create().await;
    let files = world.files(&volume).await;
    std::fs::write(files.join("file"), "then").unwrap();
    let entry = world.snapshot(&volume).await;
    std::fs::write(files.join("file"), "later").unwrap();
    store.fail_when(|request| request.is_write().then_some(cove_objects::Fault::BeforeEffect));
    let captured = world.snapshot_as(&world.call(), &volume).await.unwrap();
    let restored = world.restore_as(&world.call(), &volume, &entry, &[]).await.unwrap();
    store.heal();
    captured.saved.await.unwrap();
    restored.saved.await.unwrap();
    let saved = world.node.status(&volume).await.unwrap();
    assert_eq!((saved.durability, saved.unsaved_bytes), (Durability::Saved, Some(0)));
    let puts = store.requests().puts;
    world.look(&volume).await;
    assert_eq!(store.requests().puts, puts, "nothing has changed since the restore");
    world.node.stop().await;
}

/// Each volume whose older entries are in the store alone costs a wait; whoever looks for one in all of them does not
/// wait for one after the other.
#[tokio::test(flavor = "multi_thread")]
async fn the_older_entries_of_several_volumes_are_asked_for_at_once() {
    if !is_root("the_older_entries_of_several_volumes_are_asked_for_at_once") {
        return;
    }
    // more than one volume has requests at once
    const VOLUMES: usize = 12;
    let store = memory();
    let door = Door::before(&store);
    let mut world = World::behind("a", &store, &door).await;
    for _ in 0..VOLUMES {
        let volume = world.create().await;
        for _ in 0..=cove_content::head::ENTRIES_IN_HEAD_MAX {
            world.snapshot(&volume).await;
        }
    }
    world.restart_with_an_empty_cache().await;
    let opened = door.shut();
    let node = world.node.clone();
    let looking = tokio::spawn(async move { node.find_entries("nobody's").await });
    until("all of them are asked for", || async {
        match door.waiting() {
            waiting if waiting >= VOLUMES => Ok(()),
            waiting => Err(format!("{waiting} requests wait")),
        }
    })
    .await;
    drop(opened);
    assert!(looking.await.unwrap().unwrap().is_empty());
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saved_volume_is_called_saved_while_a_change_of_its_head_alone_waits() {
    if !is_root("a_saved_volume_is_called_saved_while_a_change_of_its_head_alone_waits") {
        return;
    }
    for kind in ["remove_entry", "set_trashed"] {
        let store = memory();
        let world = World::fake("a", &store).await;
        let volume = world.create().await;
        let entry = world.snapshot(&volume).await;
        let saved = world.node.status(&volume).await.unwrap();
        assert_eq!((saved.durability, saved.unsaved_bytes), (Durability::Saved, Some(0)));
        store.fail_when(|request| request.is_write().then_some(cove_objects::Fault::BeforeEffect));
        let (node, call, of) = (world.node.clone(), world.call(), volume.clone());
        let waiting = tokio::spawn(async move {
            match kind {
                "remove_entry" => node.remove_entry(call, of, entry).await,
                _ => node.set_trashed(call, of, true).await.map(drop),
            }
        });
        let database = world.database().await;
        until("it is captured", || async {
            let pending = database.pending().await.unwrap();
            let is_there = pending.iter().any(|row| row.kind == kind);
            is_there.then_some(()).ok_or(format!("{pending:?}"))
        })
        .await;
        let waits = world.node.status(&volume).await.unwrap();
        assert_eq!((waits.durability, waits.unsaved_bytes), (Durability::Saved, Some(0)), "{kind}");
        store.heal();
        waiting.await.unwrap().unwrap();
        world.node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_takes_out_again_an_entry_that_no_head_has_yet_waits_too() {
    if !is_root("whoever_takes_out_again_an_entry_that_no_head_has_yet_waits_too") {
        return;
    }
    let store = memory();
    let world = World::fake("a", &store).await;
    let volume = world.create().await;
    store.fail_when(|request| request.is_write().then_some(cove_objects::Fault::BeforeEffect));
    let captured = world.snapshot_as(&world.call(), &volume).await.unwrap();
    let entry = captured.value.entry.record.id;
    let remove = || {
        let (node, call, of) = (world.node.clone(), world.call(), volume.clone());
        tokio::spawn(async move { node.remove_entry(call, of, entry).await })
    };
    let first = remove();
    let database = world.database().await;
    until("the removal is captured", || async {
        let pending = database.pending().await.unwrap();
        let is_there = pending.iter().any(|row| row.kind == "remove_entry");
        is_there.then_some(()).ok_or(format!("{pending:?}"))
    })
    .await;
    let mut again = remove();
    let early = tokio::time::timeout(std::time::Duration::from_millis(200), &mut again).await;
    assert!(early.is_err(), "nothing says yet that it is gone: {early:?}");
    store.heal();
    first.await.unwrap().unwrap();
    again.await.unwrap().unwrap();
    let left = world.node.entries(&volume).await.unwrap();
    assert!(left.iter().all(|view| view.record.id != entry), "{left:?}");
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_fork_of_now_has_captured_is_not_called_saved_before_it_is() {
    if !is_root("what_a_fork_of_now_has_captured_is_not_called_saved_before_it_is") {
        return;
    }
    let store = memory();
    let world = World::fake("a", &store).await;
    let volume = world.create().await;
    store.fail_when(|request| request.is_write().then_some(cove_objects::Fault::BeforeEffect));
    let directory = FileEdit::MakeDirectory(TreePath::from_bytes(b"made").unwrap());
    world.node.edit(&volume, directory).await.unwrap();
    let forked = world.fork_as(&world.call(), &volume, Moment::Now, 1).await.unwrap();
    let status = world.node.status(&volume).await.unwrap();
    assert_eq!((status.durability, status.unsaved_bytes), (Durability::OnThisNode, None));
    store.heal();
    forked.saved.await.unwrap();
    let status = world.node.status(&volume).await.unwrap();
    assert_eq!((status.durability, status.unsaved_bytes), (Durability::Saved, Some(0)));
    world.node.stop().await;
}
