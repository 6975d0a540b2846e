//! What is old goes while the node runs.

use std::sync::Arc;
use std::time::Duration;

use cove_btrfs::SubvolumePath;
use cove_content::volumes::Volumes;
use cove_env::{Env, ManualClock, SeededChance};

use crate::world::{World, is_root, memory, until};

const DAY: Duration = Duration::from_secs(24 * 3600);

#[tokio::test(flavor = "multi_thread")]
async fn what_is_old_is_removed_while_the_node_runs() {
    if !is_root("what_is_old_is_removed_while_the_node_runs") {
        return;
    }
    let clock = Arc::new(ManualClock::new("2026-01-01T00:00:00Z".parse().unwrap()));
    let env = Env::new(Arc::clone(&clock) as _, Arc::new(SeededChance::new(7)));
    let world = World::with_clock("a", &memory(), env).await;
    let volume = world.create().await;
    let entry = world.snapshot(&volume).await;
    std::fs::write(world.files(&volume).await.join("file"), "before the restore").unwrap();
    let call = world.call();
    let restored = world.restore_as(&call, &volume, &entry, &[]).await.unwrap();
    restored.saved.await.unwrap();
    let (pool, database) = (world.pool.get(), world.database().await);
    let trash = SubvolumePath::Trash(call.operation);
    assert!(pool.find(&trash).unwrap().is_some(), "what was swapped out is kept");

    // swept once, while it is young
    clock.advance(6 * DAY);
    until("looks go on", || async {
        let looked = world.node.status(&volume).await.unwrap();
        (looked.unsaved_bytes == Some(0)).then_some(()).ok_or(format!("{looked:?}"))
    })
    .await;
    assert!(pool.find(&trash).unwrap().is_some(), "for seven days");
    assert!(database.find_result(&call.operation).await.unwrap().is_some());
    clock.advance(2 * DAY);
    until("what was swapped out is removed", || async {
        let rows = database.discarded().await.unwrap();
        let found = pool.find(&trash).unwrap();
        (rows.is_empty() && found.is_none()).then_some(()).ok_or(format!("{rows:?} {found:?}"))
    })
    .await;
    clock.advance(30 * DAY);
    until("the result is forgotten", || async {
        let result = database.find_result(&call.operation).await.unwrap();
        result.is_none().then_some(()).ok_or(format!("{result:?}"))
    })
    .await;
    world.node.stop().await;
}
