//! A pool on which room is short: snapshots of saved entries go, and nothing else does.

use std::path::Path;

use cove_btrfs::SubvolumePath;
use cove_content::volumes::{Moment, Volumes};
use cove_testkit::proof::Chance;
use cove_types::TreePath;

use crate::world::{World, is_root, memory, until};

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
    let mut world = World::on_loop("a", &memory()).await;
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
