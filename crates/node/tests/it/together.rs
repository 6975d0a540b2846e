//! Snapshots of several volumes at one instant.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use cove_btrfs::Pool;
use cove_content::spec::SpecChange;
use cove_content::volumes::{FileEdit, Moment, NewEntry, VolumeError, Volumes};
use cove_database::PendingRow;
use cove_types::{Classify, Consistency, Durability, EntryKind, ErrorKind, TreePath, VolumeId};

use crate::home::Home;
use crate::world::{AnyPool, World, memory};

fn entry() -> NewEntry {
    NewEntry {
        kind: EntryKind::Csi,
        author: "tester".into(),
        message: Some("together".into()),
        label: None,
        cause: Some("grp-1".into()),
        keep: 3,
    }
}

/// A program, which ends with the test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A program that counts in three files, one after the other, and never waits for a disk.
#[expect(clippy::disallowed_methods, reason = "another program is what writes")]
fn counter(files: &[std::path::PathBuf]) -> Program {
    // each number is written to all before the next is
    let script = "exec 3>>\"$1\" 4>>\"$2\" 5>>\"$3\"; i=0; \
                  while :; do i=$((i+1)); echo $i >&3; echo $i >&4; echo $i >&5; \
                  [ $i = 1 ] && echo begun; done";
    let mut child = Command::new("sh")
        .args(["-c", script, "sh"])
        .args(files)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut begun = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut begun).unwrap();
    assert_eq!(begun, "begun\n");
    Program(child)
}

/// The last whole number in a counter's file.
fn last(text: &str) -> u64 {
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.rsplit('\n').next().unwrap().parse().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_program_writes_in_order_is_in_all_of_them_up_to_one_point() {
    if !crate::world::is_root("what_one_program_writes_in_order…") {
        return;
    }
    let mut home = Home::new(&memory(), true);
    home.up().await;
    let mut volumes: Vec<VolumeId> = Vec::new();
    for name in ["a", "b", "c"] {
        volumes.push(home.create(name).await);
    }
    let mut files = Vec::new();
    for volume in &volumes {
        files.push(home.files(volume).await.join("count"));
    }
    let mut child = counter(&files);
    for _ in 0..10 {
        // in no particular order
        volumes.rotate_left(1);
        files.rotate_left(1);
        let mut calls = Vec::new();
        for volume in &volumes {
            calls.push((home.call(home.status(volume).await.seq), volume.clone()));
        }
        let taken = home.node().snapshot_together(calls.clone(), entry()).await.unwrap();
        let mut counts = Vec::new();
        for (volume, snapshot) in volumes.iter().zip(&taken.value) {
            assert_eq!(snapshot.entry.record.consistency, Consistency::Frozen);
            let moment = Moment::Entry(snapshot.entry.record.id);
            let of = files[counts.len()].parent().unwrap().to_owned();
            counts.push((of, last(&home.text(volume, &moment, "count").await.unwrap_or_default())));
        }
        // as the program writes them: a first, c last
        let of = |volume: &std::path::Path| {
            counts.iter().find(|(of, _)| of == volume).map(|(_, count)| *count).unwrap()
        };
        let mut order = Vec::new();
        for name in ["a", "b", "c"] {
            for volume in &volumes {
                let status = home.status(volume).await;
                if status.document.slug.as_str() == name {
                    order.push(of(&status.path.unwrap()));
                }
            }
        }
        assert!(order[0] > 0, "{order:?}");
        assert!(order[0] >= order[1] && order[1] >= order[2], "{order:?}");
        assert!(order[0] - order[2] <= 1, "{order:?}");
        // the same calls give what they gave
        let again = home.node().snapshot_together(calls, entry()).await.unwrap();
        let ids = |taken: &[cove_content::volumes::Snapshot]| {
            taken.iter().map(|one| one.entry.record.id).collect::<Vec<_>>()
        };
        assert_eq!(ids(&again.value), ids(&taken.value));
        taken.saved.await.unwrap();
    }
    assert!(child.0.try_wait().unwrap().is_none(), "it goes on");
    drop(child);
    for volume in &volumes {
        home.assert_whole(volume).await;
    }
    home.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_are_taken_or_none() {
    if !crate::world::is_root("all_are_taken_or_none") {
        return;
    }
    let mut home = Home::new(&memory(), false);
    home.up().await;
    let (a, b) = (home.create("a").await, home.create("b").await);
    std::fs::File::create(home.files(&a).await.join("f")).unwrap().write_all(b"a").unwrap();
    let none: VolumeId = "vol-none".parse().unwrap();
    for (others, kind) in [
        (vec![a.clone(), none], ErrorKind::NotFound),
        (vec![a.clone(), b.clone(), a.clone()], ErrorKind::Invalid),
    ] {
        let calls = others.into_iter().map(|volume| (home.call(u32::MAX), volume)).collect();
        let refused = home.node().snapshot_together(calls, entry()).await.err().unwrap();
        assert_eq!(refused.kind(), kind);
    }
    home.node().set_trashed(home.call(u32::MAX), b.clone(), true).await.unwrap();
    let calls = vec![(home.call(u32::MAX), a.clone()), (home.call(u32::MAX), b)];
    let refused = home.node().snapshot_together(calls, entry()).await.err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::Precondition);
    assert!(home.node().entries(&a).await.unwrap().is_empty());
    home.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_which_some_are_known_are_refused() {
    let mut home = Home::new(&memory(), false);
    home.up().await;
    let (a, b) = (home.create("a").await, home.create("b").await);
    let known = home.call(u32::MAX);
    let taken = vec![(known.clone(), a.clone())];
    home.node().snapshot_together(taken, entry()).await.unwrap().saved.await.unwrap();
    for first in [true, false] {
        let mut calls = vec![(known.clone(), a.clone()), (home.call(u32::MAX), b.clone())];
        if !first {
            calls.reverse();
        }
        let refused = home.node().snapshot_together(calls, entry()).await.err().unwrap();
        assert!(matches!(refused, VolumeError::OtherRequest), "{refused}");
    }
    assert_eq!(home.node().entries(&a).await.unwrap().len(), 1);
    assert!(home.node().entries(&b).await.unwrap().is_empty());
    home.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_volume_keeps_as_many_as_it_was_asked_to() {
    if !crate::world::is_root("each_volume_keeps_as_many_as_it_was_asked_to") {
        return;
    }
    let mut home = Home::new(&memory(), false);
    home.up().await;
    let (a, b) = (home.create("a").await, home.create("b").await);
    let one = SpecChange {
        parameters: [("retention".to_owned(), "1".to_owned())].into(),
        ..SpecChange::default()
    };
    let asked = home.node().specify(home.call(u32::MAX), a.clone(), one, None).await.unwrap();
    asked.saved.await.unwrap();
    for _ in 0..3 {
        let calls = vec![(home.call(u32::MAX), a.clone()), (home.call(u32::MAX), b.clone())];
        let counted = NewEntry { kind: EntryKind::Manual, ..entry() };
        home.node().snapshot_together(calls, counted).await.unwrap().saved.await.unwrap();
    }
    assert_eq!((home.status(&a).await.entries, home.status(&b).await.entries), (1, 3));
    home.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_taken_together_is_not_called_saved() {
    if !crate::world::is_root("what_could_not_be_taken_together_is_not_called_saved") {
        return;
    }
    let world = World::fake("together-not-saved", &memory()).await;
    let AnyPool::Fake(pool) = &world.pool else { unreachable!("it is a fake") };
    let (a, b) = (world.create().await, world.create().await);
    assert_eq!(world.node.status(&a).await.unwrap().durability, Durability::Saved);
    let directory = FileEdit::MakeDirectory(TreePath::parse("d").unwrap());
    world.node.edit(&a, directory).await.unwrap();
    for steps in 0.. {
        let calls =
            vec![(world.call_since(u32::MAX), a.clone()), (world.call_since(u32::MAX), b.clone())];
        pool.fail_after(steps, std::io::ErrorKind::Other);
        let Ok(taken) = world.node.snapshot_together(calls, entry()).await else {
            let durability = world.node.status(&a).await.unwrap().durability;
            assert_eq!(durability, Durability::OnThisNode, "after {steps} steps");
            continue;
        };
        taken.saved.await.unwrap();
        break;
    }
    assert_eq!(world.node.status(&a).await.unwrap().durability, Durability::Saved);
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_taken_together_leaves_nothing() {
    let world = World::fake("together-fails", &memory()).await;
    let AnyPool::Fake(pool) = &world.pool else { unreachable!("it is a fake") };
    let (a, b) = (world.create().await, world.create().await);
    let before = pool.list().unwrap();
    let mut failed = 0;
    for steps in 0.. {
        let calls =
            vec![(world.call_since(u32::MAX), a.clone()), (world.call_since(u32::MAX), b.clone())];
        pool.fail_after(steps, std::io::ErrorKind::Other);
        if world.node.snapshot_together(calls, entry()).await.is_ok() {
            break;
        }
        failed += 1;
        assert_eq!(pool.list().unwrap(), before, "after {steps} steps");
        assert!(world.node.entries(&a).await.unwrap().is_empty(), "after {steps} steps");
    }
    assert!(failed > 3, "{failed} steps can fail");
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_down_together_leaves_nothing() {
    let world = World::fake("together-not-written", &memory()).await;
    let (a, b) = (world.create().await, world.create().await);
    let (pool, database) = (world.pool.get(), world.database().await);
    let before = (pool.list().unwrap(), database.all_stored().await.unwrap());
    let calls = vec![(world.call(), a.clone()), (world.call(), b)];
    // the second operation is pending already, so that none of the rows is written
    let row = PendingRow {
        operation: calls[1].0.operation,
        volume: a.clone(),
        kind: "background".into(),
        principal: "tester".into(),
        request: calls[1].0.request.to_vec(),
        body: "{}".into(),
        created_us: 0,
    };
    database.insert_pending(&row).await.unwrap();
    let refused = world.node.snapshot_together(calls.clone(), entry()).await.err().unwrap();
    assert!(matches!(refused, VolumeError::OtherRequest), "{refused}");
    assert_eq!((pool.list().unwrap(), database.all_stored().await.unwrap()), before);
    assert!(world.node.entries(&a).await.unwrap().is_empty());
    database.delete_pending(&row.operation).await.unwrap();
    world.node.snapshot_together(calls, entry()).await.unwrap().saved.await.unwrap();
    assert_eq!(world.node.entries(&a).await.unwrap().len(), 1);
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_entry_gives_way_to_a_volume_snapshot_whatever_retention_is_by_now() {
    if !crate::world::is_root("no_entry_gives_way_to_a_volume_snapshot…") {
        return;
    }
    let mut home = Home::new(&memory(), false);
    home.up().await;
    let (a, b) = (home.create("a").await, home.create("b").await);
    let manual = NewEntry { kind: EntryKind::Manual, keep: 5, ..entry() };
    let csi = NewEntry { keep: 200, ..entry() };
    let take = async |entry: &NewEntry| {
        let taken = home.node().snapshot(home.call(u32::MAX), a.clone(), entry.clone()).await;
        taken.unwrap().saved.await.unwrap().rolled_off.len()
    };
    for _ in 0..4 {
        assert_eq!(take(&manual).await, 0);
    }
    let one = SpecChange {
        parameters: [("retention".to_owned(), "1".to_owned())].into(),
        ..SpecChange::default()
    };
    let asked = home.node().specify(home.call(u32::MAX), a.clone(), one, None).await.unwrap();
    asked.saved.await.unwrap();
    assert_eq!(take(&csi).await, 0, "by itself");
    let calls = vec![(home.call(u32::MAX), a.clone()), (home.call(u32::MAX), b)];
    let taken = home.node().snapshot_together(calls, csi).await.unwrap().saved.await.unwrap();
    assert_eq!(taken[0].rolled_off, [], "with another");
    assert_eq!(home.status(&a).await.entries, 6);
    assert_eq!(take(&manual).await, 4, "to one that counts they do");
    assert_eq!(home.status(&a).await.entries, 3);
    home.down().await;
}
