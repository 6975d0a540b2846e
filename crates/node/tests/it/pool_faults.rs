//! Faults of the pool at each step of each change: it is done or not begun, and the volume goes on.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use cove_btrfs::{Pool, SubvolumePath};
use cove_content::spec::SpecChange;
use cove_content::volumes::{Call, Moment, VolumeError, Volumes};
use cove_testkit::trees::{Description, describe};
use cove_types::{Classify, EntryId, ErrorKind, VolumeId};

use crate::acts::{ACTS, Act};
use crate::world::{AnyPool, World, is_root, memory, until};

/// Paths that a restore replaces, makes with a directory above, and removes.
const PATHS: [&str; 3] = ["changed", "lost/below/deep", "new"];

/// More than any act has.
const STEPS: usize = 30;

struct Scene {
    world: World,
    volume: VolumeId,
    entry: EntryId,
    files: PathBuf,
}

impl Scene {
    async fn set() -> Self {
        let world = World::fake("a", &memory()).await;
        let volume = world.create().await;
        let files = world.files(&volume).await;
        std::fs::create_dir_all(files.join("lost/below")).unwrap();
        for name in ["changed", "lost/below/deep"] {
            std::fs::write(files.join(name), "then").unwrap();
        }
        let entry = world.snapshot(&volume).await;
        std::fs::write(files.join("changed"), "now").unwrap();
        std::fs::write(files.join("new"), "now").unwrap();
        std::fs::remove_dir_all(files.join("lost")).unwrap();
        world.look(&volume).await;
        Self { world, volume, entry, files }
    }

    /// Does an act to its end, saved.
    async fn act(&self, act: Act, call: &Call) -> Result<(), VolumeError> {
        let Self { world, volume, entry, .. } = self;
        match act {
            Act::Create => {
                let made = VolumeId::derive("tester", &call.operation, 0);
                world.create_as(call, &made).await?.saved.await.map(drop)
            }
            Act::Snapshot => world.snapshot_as(call, volume).await?.saved.await.map(drop),
            Act::Restore => world.restore_as(call, volume, entry, &[]).await?.saved.await.map(drop),
            Act::RestorePaths => {
                world.restore_as(call, volume, entry, &PATHS).await?.saved.await.map(drop)
            }
            Act::ForkNow => {
                world.fork_as(call, volume, Moment::Now, 2).await?.saved.await.map(drop)
            }
            Act::ForkEntry => {
                world.fork_as(call, volume, Moment::Entry(*entry), 2).await?.saved.await.map(drop)
            }
        }
    }

    fn tree(&self) -> BTreeMap<Vec<u8>, Description> {
        describe(&self.files).unwrap()
    }

    async fn volumes(&self) -> Vec<VolumeId> {
        let all = self.world.node.list().await.unwrap();
        all.into_iter().map(|status| status.volume).collect()
    }
}

/// Lets each step of an act fail once; returns how many failed calls there were.
async fn at_each_step(act: Act, kind: io::ErrorKind) -> usize {
    let mut failed = 0;
    for step in 0.. {
        let scene = Scene::set().await;
        let AnyPool::Fake(pool) = &scene.world.pool else { unreachable!("it is a fake") };
        let (before, volumes) = (scene.tree(), scene.volumes().await);
        let seq = if act == Act::Create { 0 } else { u32::MAX };
        let call = scene.world.call_since(seq);
        pool.fail_after(step, kind);
        let ended = scene.act(act, &call).await;
        // a fault that was not met meets nothing else
        pool.fail_after(usize::MAX, kind);
        let what = format!("{act:?}, {kind:?}, step {step}");
        match &ended {
            Ok(()) => {}
            // it stands, and is done or undone in the end
            Err(VolumeError::Unknown { .. }) => {
                scene.world.node.wait_saved(&scene.volume).await.unwrap();
            }
            Err(error) => {
                failed += 1;
                assert_ne!(error.kind(), ErrorKind::Internal, "{what}: {error:?}");
                assert_eq!(scene.tree(), before, "{what}: {error:?}");
                assert_eq!(scene.volumes().await, volumes, "{what}: {error:?}");
                let views = scene.world.node.entries(&scene.volume).await.unwrap();
                assert_eq!(views.len(), 1, "{what}: {error:?}");
            }
        }
        // the same call again has the same end, and the volume goes on
        if let Err(error) = scene.act(act, &call).await {
            // a create that was captured and has failed since has failed for good
            assert_eq!(act, Act::Create, "{what}: again: {error:?}");
            assert_eq!(error.to_string(), ended.unwrap_err().to_string(), "{what}");
        }
        scene.world.snapshot(&scene.volume).await;
        let status = scene.world.node.status(&scene.volume).await.unwrap();
        assert!(status.problems.is_empty(), "{what}: {:?}", status.problems);
        nothing_is_left(&scene, &what).await;
        scene.world.node.stop().await;
        if step >= STEPS {
            break;
        }
    }
    failed
}

async fn nothing_is_left(scene: &Scene, what: &str) {
    let top = scene.files.parent().unwrap();
    let beside: Vec<_> = std::fs::read_dir(top).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(
        !beside.iter().any(|name| name.to_string_lossy().starts_with(".restoring")),
        "{what}: {beside:?}"
    );
    let pool = scene.world.pool.get();
    crate::world::until("what was built is gone", || async {
        let places = pool.list().unwrap();
        let left: Vec<_> =
            places.iter().filter(|place| matches!(place, SubvolumePath::Incoming(_))).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{what}: {left:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_that_cannot_be_read_is_told_and_not_taken_for_an_empty_volume() {
    let world = World::fake("uncounted", &memory()).await;
    let AnyPool::Fake(pool) = &world.pool else { unreachable!("it is a fake") };
    let volume = world.create().await;
    assert!(world.node.status(&volume).await.unwrap().problems.is_empty());
    pool.refuse(Some(("read the quota of volume", std::io::ErrorKind::Other)));
    for status in
        [world.node.status(&volume).await.unwrap(), world.node.list().await.unwrap().remove(0)]
    {
        let told =
            "what it takes on the disk could not be read: failed to read the quota of volume";
        assert!(status.problems.iter().any(|problem| problem.what.starts_with(told)));
    }
    pool.refuse(None);
    assert!(world.node.status(&volume).await.unwrap().problems.is_empty());
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_whose_step_fails_is_done_or_not_begun() {
    if !is_root("a_change_whose_step_fails_is_done_or_not_begun") {
        return;
    }
    let mut running = tokio::task::JoinSet::new();
    for act in ACTS {
        for kind in [io::ErrorKind::PermissionDenied, io::ErrorKind::Other] {
            running.spawn(async move { (act, at_each_step(act, kind).await) });
        }
    }
    for (act, failed) in running.join_all().await {
        assert!(failed > 0, "no step of {act:?} was seen to fail");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_cannot_be_saved_is_named_and_keeps_nothing_else() {
    if !is_root("work_that_cannot_be_saved_is_named_and_keeps_nothing_else") {
        return;
    }
    let mut scene = Scene::set().await;
    let store = std::sync::Arc::clone(&scene.world.store);
    store.fail_when(|request| request.is_write().then_some(cove_objects::Fault::BeforeEffect));
    let call = scene.world.call();
    let captured = scene.world.snapshot_as(&call, &scene.volume).await.unwrap();
    let gone = SubvolumePath::Stored(scene.volume.clone(), call.operation);
    // the first attempt has read the snapshot by then, and the next one looks for it again
    until("the store's failure is told", || async {
        let status = scene.world.node.status(&scene.volume).await.map_err(|e| e.to_string())?;
        (!status.problems.is_empty()).then_some(()).ok_or("no problem".to_owned())
    })
    .await;
    assert!(scene.world.pool.get().delete(&gone).unwrap(), "its snapshot is lost");
    let later = scene.world.snapshot_as(&scene.world.call(), &scene.volume).await.unwrap();
    let now = scene.tree();
    store.heal();
    let lost = captured.saved.await.unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::Corrupt, "{lost:?}");
    later.saved.await.unwrap();
    let again = scene.act(Act::Snapshot, &call).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Corrupt, "the same call again: {again:?}");
    let told = |status: &cove_content::volumes::VolumeStatus, what: &str| {
        let found = status.problems.iter().any(|problem| problem.what.contains(what));
        assert!(found, "{what}: {:?}", status.problems);
    };
    told(&scene.world.node.status(&scene.volume).await.unwrap(), "gone from this node");

    let row = cove_database::PendingRow {
        operation: scene.world.call().operation,
        volume: scene.volume.clone(),
        kind: "of_a_newer_cove".into(),
        principal: "tester".into(),
        request: vec![0; 8],
        body: "{".into(),
        created_us: 0,
    };
    scene.world.database().await.insert_pending(&row).await.unwrap();
    scene.world.restart().await;
    told(&scene.world.node.status(&scene.volume).await.unwrap(), "cannot be read");
    assert_eq!(scene.tree(), now);
    scene.act(Act::Restore, &scene.world.call()).await.unwrap();
    let pending = scene.world.database().await.pending().await.unwrap();
    assert_eq!(pending.len(), 1, "it is kept for whoever can read it: {pending:?}");
    scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_has_failed_and_is_not_undone_yet_is_not_told_as_done() {
    if !is_root("work_that_has_failed_and_is_not_undone_yet_is_not_told_as_done") {
        return;
    }
    let world = World::fake("undone", &memory()).await;
    let AnyPool::Fake(pool) = &world.pool else { unreachable!("it is a fake") };
    let volume = world.create().await;
    let (entry, call) = (Moment::Entry(world.snapshot(&volume).await), world.call());
    let fork = async || world.fork_as(&call, &volume, entry.clone(), 1).await.map(drop);
    // neither is the fork's own place cleared at its end, nor the fork taken away again
    pool.refuse(Some(("delete", io::ErrorKind::PermissionDenied)));
    for _ in 0..2 {
        let ended = fork().await;
        assert!(matches!(ended, Err(VolumeError::Unknown { .. })), "{ended:?}");
    }
    let (node, of) = (world.node.clone(), volume.clone());
    let waits = tokio::spawn(async move { node.wait_saved(&of).await });
    until("it is waited for", || async {
        let is_told = !world.node.status(&volume).await.unwrap().problems.is_empty();
        is_told.then_some(()).ok_or("nothing is said".to_owned())
    })
    .await;
    pool.refuse(None);
    let told = waits.await.unwrap().expect_err("it has failed");
    assert_eq!(told.kind(), ErrorKind::Denied, "{told:?}");
    let again = fork().await.unwrap_err();
    assert_eq!(again.to_string(), told.to_string());
    assert_eq!(world.node.list().await.unwrap().len(), 1, "it is undone");
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_quota_that_could_not_be_set_is_set_by_whoever_asks_for_it_again() {
    if !is_root("a_first_quota_that_could_not_be_set_is_set_by_whoever_asks_for_it_again") {
        return;
    }
    let world = World::fake("quota", &memory()).await;
    let AnyPool::Fake(pool) = &world.pool else { unreachable!("it is a fake") };
    let limit = |volume: &VolumeId| pool.usage(volume).unwrap().limit_bytes;
    let specify = async |call: &Call, volume: &VolumeId| {
        let change = SpecChange { quota_bytes: Some(Some(64 << 20)), ..SpecChange::default() };
        world.node.specify(call.clone(), volume.clone(), change, None).await.map(drop)
    };
    for is_same in [true, false] {
        let volume = world.create().await;
        let first = world.call();
        // it is read, set to what it is and, once it is written down, set
        pool.fail_after(2, io::ErrorKind::Other);
        let ended = specify(&first, &volume).await;
        assert!(matches!(ended, Err(VolumeError::Unknown { .. })), "{ended:?}");
        assert_eq!(limit(&volume), None);
        let again = if is_same { first } else { world.call() };
        specify(&again, &volume).await.unwrap();
        assert_eq!(limit(&volume), Some(64 << 20), "the same call: {is_same}");
    }
    world.node.stop().await;
}
