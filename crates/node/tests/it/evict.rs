//! A pool on which room is short: snapshots of saved entries go, and nothing else does.

use std::io::ErrorKind::StorageFull;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cove_btrfs::{FakePool, SubvolumePath};
use cove_content::volumes::{Moment, Volumes};
use cove_env::{Env, ManualClock, SeededChance};
use cove_testkit::proof::Chance;
use cove_types::{Durability, EntryId, TreePath, VolumeId};

use crate::world::{AnyPool, World, is_root, memory, until};

/// How long a look takes no further snapshot where there was no room for one.
const PAUSE: Duration = Duration::from_secs(10);

/// A world that looks and stores all the time, on a clock that stands still, and a volume whose present
/// state is saved, an entry and its base.
struct Still {
    world: World,
    clock: Arc<ManualClock>,
    volume: VolumeId,
    entry: EntryId,
    file: PathBuf,
}

impl Still {
    async fn set() -> Self {
        let clock = Arc::new(ManualClock::new("2026-01-01T00:00:00Z".parse().unwrap()));
        let env = Env::new(Arc::clone(&clock) as _, Arc::new(SeededChance::new(7)));
        let world = World::with_clock("a", &memory(), env).await;
        let volume = world.create().await;
        let file = world.files(&volume).await.join("file");
        std::fs::write(&file, "then").unwrap();
        let entry = world.snapshot(&volume).await;
        let still = Self { world, clock, volume, entry, file };
        still.is_saved().await;
        assert_eq!(still.stored(), 1, "the entry's snapshot is the base");
        still
    }

    fn pool(&self) -> &FakePool {
        let AnyPool::Fake(pool) = &self.world.pool else { unreachable!("it is a fake") };
        pool
    }

    fn stored(&self) -> usize {
        let places = self.world.pool.get().list().unwrap();
        places.iter().filter(|place| matches!(place, SubvolumePath::Stored(..))).count()
    }

    async fn is_gone(&self) {
        until("what is saved leaves this machine", || async {
            let left = self.stored();
            if left == 0 { Ok(()) } else { Err(format!("{left} are left")) }
        })
        .await;
    }

    async fn is_saved(&self) {
        until("all is saved", || async {
            let status = self.world.node.status(&self.volume).await.unwrap();
            let is_so = status.durability == Durability::Saved && status.problems.is_empty();
            if is_so { Ok(()) } else { Err(format!("{status:?}")) }
        })
        .await;
    }

    /// Waits for a problem that says this, and who acts.
    async fn is_told(&self, words: &str) -> String {
        until(words, || async {
            let status = self.world.node.status(&self.volume).await.unwrap();
            let told = status.problems.iter().find(|problem| problem.what.contains(words));
            told.map(|problem| problem.who_acts.clone()).ok_or(format!("{:?}", status.problems))
        })
        .await
    }

    /// Waits for some looks more; gives how many snapshots they took or tried to.
    async fn snapshots_of_looks(&self) -> u64 {
        let (snapshots, looks) = (self.pool().begun("snapshot"), self.pool().begun("flush"));
        until("it looks on", || async {
            let since = self.pool().begun("flush") - looks;
            if since >= 10 { Ok(()) } else { Err(format!("{since} looks")) }
        })
        .await;
        self.pool().begun("snapshot") - snapshots
    }

    async fn entry_is_readable(&self) {
        let path = TreePath::parse("file").unwrap();
        let moment = Moment::Entry(self.entry);
        let (_, mut reader) =
            self.world.node.read(&self.volume, &moment, &path, None).await.unwrap();
        let read = tokio::task::spawn_blocking(move || {
            let mut text = String::new();
            std::io::Read::read_to_string(&mut reader, &mut text).unwrap();
            text
        });
        assert_eq!(read.await.unwrap(), "then");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_snapshot_finds_no_room_what_is_saved_goes_and_it_is_tried_again_after_a_while() {
    if !is_root("where_a_snapshot_finds_no_room_what_is_saved_goes_and_it_is_tried_again") {
        return;
    }
    let still = Still::set().await;
    still.pool().refuse(Some(("snapshot", StorageFull)));
    std::fs::write(&still.file, "changed").unwrap();
    assert_eq!(still.is_told("not looked at").await, "operator");
    still.is_gone().await;
    still.entry_is_readable().await;
    assert_eq!(still.snapshots_of_looks().await, 0, "no look tries it again at once");
    still.pool().refuse(None);
    still.clock.advance(PAUSE);
    still.is_saved().await;
    still.entry_is_readable().await;
    still.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_metadata_is_full_files_that_change_share_theirs_with_no_snapshot() {
    if !is_root("where_metadata_is_full_files_that_change_share_theirs_with_no_snapshot") {
        return;
    }
    let still = Still::set().await;
    still.pool().set_metadata_full(true);
    assert_eq!(still.is_told("the pool is full").await, "operator");
    still.snapshots_of_looks().await;
    assert_eq!(still.stored(), 1, "files that do not change keep their base");
    std::fs::write(&still.file, "changed").unwrap();
    still.is_gone().await;
    still.entry_is_readable().await;
    assert!(still.pool().begun("reclaim") > 0, "the kernel is asked to free it soon");
    assert_eq!(still.snapshots_of_looks().await, 0, "there is none for a while");
    still.clock.advance(PAUSE);
    until("it is saved all the same", || async {
        let status = still.world.node.status(&still.volume).await.unwrap();
        let is_saved = status.durability == Durability::Saved;
        if is_saved { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
    still.pool().set_metadata_full(false);
    std::fs::write(&still.file, "changed again").unwrap();
    still.is_saved().await;
    still.world.node.stop().await;
}

/// Writes what does not compress.
fn noise(path: &Path, seed: u64, bytes: usize) {
    let mut chance = Chance::new(seed);
    let content: Vec<u8> = (0..bytes / 8).flat_map(|_| chance.bits().to_le_bytes()).collect();
    std::fs::write(path, content).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn when_room_is_short_snapshots_of_saved_entries_go_and_the_entries_stay() {
    if !is_root("when_room_is_short_snapshots_of_saved_entries_go_and_the_entries_stay") {
        return;
    }
    let mut world = World::on_loop_of("a", &memory(), 1 << 30).await;
    let volume = world.create().await;
    let files = world.files(&volume).await;
    std::fs::write(files.join("small"), "first").unwrap();
    let pool = world.pool.get();
    let stored = || -> usize {
        let places = pool.list().unwrap();
        places.iter().filter(|place| matches!(place, SubvolumePath::Stored(..))).count()
    };
    let mut entries = Vec::new();
    for seed in 0..3 {
        noise(&files.join("large"), seed, 250 << 20);
        entries.push(world.snapshot(&volume).await);
        std::fs::remove_file(files.join("large")).unwrap();
    }
    world.look(&volume).await;
    let before = stored();
    // a pool that has room keeps them, also when it is looked at
    let space = pool.space().unwrap();
    assert!(space.free >= space.total / 10, "{space:?}");
    world.look_from_now_on().await;
    world.snapshot(&volume).await;
    assert_eq!(stored(), before, "the new entry's is the base, and that of the look goes");
    noise(&files.join("large"), 9, (space.free - space.total / 20) as usize);
    // the kernel frees their room at its own time
    until("the snapshots of the older entries go", || async {
        let left = stored();
        if left == before - 3 { Ok(()) } else { Err(format!("{left} of {before}")) }
    })
    .await;
    let path = TreePath::parse("small").unwrap();
    for entry in entries {
        let (_, mut reader) =
            world.node.read(&volume, &Moment::Entry(entry), &path, None).await.unwrap();
        let read = tokio::task::spawn_blocking(move || {
            let mut text = String::new();
            std::io::Read::read_to_string(&mut reader, &mut text).unwrap();
            text
        });
        assert_eq!(read.await.unwrap(), "first");
    }
    assert!(files.join("large").exists());
    world.node.stop().await;
}
