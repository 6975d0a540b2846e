//! Looks: what has changed is known soon and stored when it is due.

use std::io::{Cursor, Write};
use std::sync::Arc;
use std::time::Duration;

use cove_btrfs::SubvolumePath;
use cove_content::entry::EntryRecord;
use cove_content::volumes::{EntryEdit, EntryView, FileEdit, VolumeStatus, Volumes};
use cove_env::{Env, ManualClock, SeededChance};
use cove_types::{Classify, Durability, EntryKind, ErrorKind, TreePath, VolumeId};

use crate::world::{World, is_root, memory, until};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn clock() -> (Arc<ManualClock>, Env) {
    let clock = Arc::new(ManualClock::new("2026-01-01T00:00:00Z".parse().unwrap()));
    (Arc::clone(&clock), Env::new(clock as _, Arc::new(SeededChance::new(7))))
}

async fn until_status(
    what: &str,
    world: &World,
    volume: &VolumeId,
    is_so: impl Fn(&VolumeStatus) -> bool,
) -> VolumeStatus {
    until(what, || async {
        let status = world.node.status(volume).await.unwrap();
        if is_so(&status) { Ok(status) } else { Err(format!("{status:?}")) }
    })
    .await
}

fn is_saved(status: &VolumeStatus) -> bool {
    status.durability == Durability::Saved && status.unsaved_bytes == Some(0)
}

/// The snapshots of a volume that are kept.
fn snapshots(world: &World, volume: &VolumeId) -> usize {
    let places = world.pool.get().list().unwrap();
    places
        .iter()
        .filter(|place| matches!(place, SubvolumePath::Stored(of, _) if of == volume))
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_known_before_it_is_due_and_stored_when_it_is() {
    if !is_root("a_change_is_known_before_it_is_due_and_stored_when_it_is") {
        return;
    }
    let (clock, env) = clock();
    let world = World::that_looks("a", &memory(), env).await;
    let volume = world.create().await;
    let entry = world.snapshot(&volume).await;
    let saved = until_status("all is saved", &world, &volume, is_saved).await;
    let files = world.files(&volume).await;
    std::fs::write(files.join("file"), "changed").unwrap();
    let before = snapshots(&world, &volume);
    let changed =
        until_status("the change is known", &world, &volume, |status| !is_saved(status)).await;
    assert_eq!((changed.durability, changed.unsaved_bytes), (Durability::OnThisNode, None));
    assert_eq!(changed.seq, saved.seq, "nothing is stored before it is due");
    assert_eq!(snapshots(&world, &volume), before, "nor captured");
    clock.advance(DAY);
    until_status("it is stored when it is due", &world, &volume, is_saved).await;

    // what a program writes late is kept at a look, however seldom changes are stored
    let mut late = std::fs::File::options().append(true).open(files.join("file")).unwrap();
    world.restore(&volume, &entry).await;
    late.write_all(b", and late").unwrap();
    late.sync_all().unwrap();
    let rescued = || async {
        let entries = world.node.entries(&volume).await.unwrap();
        let is_rescue = |view: &&EntryView| view.record.kind == EntryKind::Rescue;
        let rescue = entries.iter().find(is_rescue).map(|view| view.record.clone());
        rescue.filter(EntryRecord::is_live).ok_or(format!("{entries:?}"))
    };
    let rescue = until("late writes are rescued", rescued).await;

    // whoever has dismissed them sees what is written still later
    let dismiss = EntryEdit::Trash;
    world.node.edit_entry(world.call(), volume.clone(), rescue.id, dismiss).await.unwrap();
    assert!(rescued().await.is_err());
    late.write_all(b", and later yet").unwrap();
    late.sync_all().unwrap();
    let back = until("later writes bring the rescue back", rescued).await;
    assert_eq!(back.id, rescue.id);
    assert_ne!(back.root.tree, rescue.root.tree);
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_is_known_at_once() {
    if !is_root("an_edit_is_known_at_once") {
        return;
    }
    // nobody looks
    let world = World::fake("a", &memory()).await;
    let volume = world.create().await;
    world.snapshot(&volume).await;
    assert!(is_saved(&world.node.status(&volume).await.unwrap()));
    let path = TreePath::from_bytes(b"file").unwrap();
    let edit = FileEdit::Put(path, Box::new(Cursor::new(b"content".to_vec())));
    world.node.edit(&volume, edit).await.unwrap();
    let status = world.node.status(&volume).await.unwrap();
    assert_eq!((status.durability, status.unsaved_bytes), (Durability::OnThisNode, None));
    world.look(&volume).await;
    assert!(is_saved(&world.node.status(&volume).await.unwrap()));
    world.node.stop().await;
}

/// A swap file in use, until it is dropped.
struct Swap(std::path::PathBuf);

impl Swap {
    fn on(path: std::path::PathBuf) -> Option<Self> {
        let script = "touch \"$0\" && chattr +C \"$0\" && chmod 600 \"$0\" && \
                      dd if=/dev/zero of=\"$0\" bs=1M count=8 status=none && \
                      mkswap -q \"$0\" && swapon \"$0\"";
        sh(script, &path).then_some(Self(path))
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        sh("swapoff \"$0\"", &self.0);
    }
}

fn sh(script: &str, path: &std::path::Path) -> bool {
    #[expect(clippy::disallowed_methods, reason = "swap files are made by programs")]
    let ended = std::process::Command::new("sh").args(["-c", script]).arg(path).status();
    ended.is_ok_and(|status| status.success())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swap_file_in_use_is_told_at_once_and_until_it_is_not() {
    if !is_root("a_swap_file_in_use_is_told_at_once_and_until_it_is_not") {
        return;
    }
    let world = World::on_loop("a", &memory()).await;
    let volume = world.create().await;
    let files = world.files(&volume).await;
    let entry = world.snapshot(&volume).await;
    let Some(swap) = Swap::on(files.join("swap")) else {
        eprintln!("SKIPPED: this machine takes no swap file");
        world.node.stop().await;
        return;
    };
    let Err(error) = world.snapshot_as(&world.call(), &volume).await else { panic!("captured") };
    assert_eq!(error.kind(), ErrorKind::Precondition);
    assert!(error.to_string().contains("a swap file in it is in use"), "{error}");
    let told = |status: &VolumeStatus| {
        let told = status.problems.iter().find(|problem| problem.what.contains("swap file"));
        told.cloned()
    };
    let problem = told(&world.node.status(&volume).await.unwrap()).expect("told at once");
    assert_eq!(problem.who_acts, "you");
    assert!(!problem.what.contains("vol-"), "{}", problem.what);
    assert!(problem.hint.is_some_and(|hint| hint.contains("swapoff")));
    // nor is anything swapped out of which no state could be captured
    std::fs::write(files.join("text"), "now").unwrap();
    let Err(error) = world.restore_as(&world.call(), &volume, &entry, &[]).await else {
        panic!("restored")
    };
    assert_eq!(error.kind(), ErrorKind::Precondition);
    assert_eq!(std::fs::read_to_string(files.join("text")).unwrap(), "now");
    // nor are files deleted that the kernel keeps
    let Err(error) = world.node.delete(world.call(), volume.clone()).await else {
        panic!("deleted")
    };
    assert_eq!(error.kind(), ErrorKind::Precondition);
    assert!(error.to_string().contains("a swap file in it is active"), "{error}");
    assert!(!world.node.status(&volume).await.unwrap().is_deleted);
    drop(swap);
    world.snapshot(&volume).await;
    assert_eq!(told(&world.node.status(&volume).await.unwrap()), None, "gone when it works");
    let deleted = world.node.delete(world.call(), volume.clone()).await.unwrap();
    assert!(!files.exists());
    deleted.saved.await.unwrap();
    world.node.stop().await;
}
