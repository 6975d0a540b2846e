//! One id is of one request, whichever calls the two are and of whichever volumes.

use futures::future::BoxFuture;

use super::*;

/// A call that changes something, under an operation.
type Change =
    (&'static str, Box<dyn Fn(Hub, OperationId) -> BoxFuture<'static, Result<(), HubError>>>);

fn change<T, F>(what: &'static str, call: impl Fn(Hub, OperationId) -> F + 'static) -> Change
where
    F: Future<Output = Result<T, HubError>> + Send + 'static,
{
    let call = move |hub, operation| -> BoxFuture<'static, Result<(), HubError>> {
        let called = call(hub, operation);
        Box::pin(async move { called.await.map(drop) })
    };
    (what, Box::new(call))
}

/// Every changing call on a volume, its snapshot and another volume.
fn changes(world: &World, snapshot: &SnapshotId, other: &VolumeId, name: &str) -> Vec<Change> {
    let volume = snapshot.volume.clone();
    let wanted = world.wanted(name);
    let of = |source| CreateVolume { source: Some(source), ..wanted.clone() };
    let create = |what, wanted: CreateVolume| {
        change(what, move |hub: Hub, operation| {
            let wanted = CreateVolume { operation, ..wanted.clone() };
            async move { hub.create_volume(wanted).await }
        })
    };
    let take = |what, wanted: SnapshotVolumes| {
        change(what, move |hub: Hub, operation| {
            let wanted = SnapshotVolumes { operation, ..wanted.clone() };
            async move { hub.snapshot(wanted).await }
        })
    };
    let (modified, deleted, removed) = (volume.clone(), volume.clone(), snapshot.clone());
    let restore = RestoreVolume {
        volume: volume.clone(),
        snapshot: snapshot.clone(),
        operation: world.operation(),
        force: false,
        wait_saved: false,
    };
    let bytes = 1 << 20 | u64::from(name.as_bytes()[0]);
    vec![
        create("create", wanted.clone()),
        create("fork", of(VolumeSource::Volume(volume.clone()))),
        create("fork a snapshot", of(VolumeSource::Snapshot(snapshot.clone()))),
        take("snapshot", world.snapshots_of(&[&volume], name)),
        take("snapshot two", world.snapshots_of(&[&volume, other], name)),
        take("snapshot two, the other first", world.snapshots_of(&[other, &volume], name)),
        change("modify", move |hub: Hub, operation| {
            let modify = ModifyVolume {
                volume: modified.clone(),
                operation,
                quota_bytes: Some(Some(bytes)),
                labels: None,
                parameters: BTreeMap::new(),
            };
            async move { hub.modify_volume(modify).await }
        }),
        change("restore", move |hub: Hub, operation| {
            let restore = RestoreVolume { operation, ..restore.clone() };
            async move { hub.restore_volume(restore).await }
        }),
        change("delete the snapshot", move |hub: Hub, operation| {
            let snapshot = removed.clone();
            async move { hub.delete_snapshot(snapshot, operation).await }
        }),
        change("delete", move |hub: Hub, operation| {
            let volume = deleted.clone();
            async move { hub.delete_volume(volume, operation).await }
        }),
    ]
}

/// All that callers can see.
async fn seen(world: &World) -> String {
    let volumes = world.hub.list_volumes(PageRequest::default()).await.unwrap();
    let all = SnapshotFilter::default();
    let snapshots = world.hub.list_snapshots(all, PageRequest::default()).await.unwrap();
    format!("{volumes:?} {snapshots:?}")
}

/// A volume with a snapshot, and the first call on both that `index` names, done under `operation`.
async fn after(index: usize, seq: u32) -> (World, OperationId, Vec<SnapshotId>, &'static str) {
    let world = World::new();
    let (one, two) = (world.create("one").await, world.create("two").await);
    let operation = world.env.operation_id(seq);
    let mut snapshots = Vec::new();
    for volume in [&one, &two] {
        snapshots.push(world.snapshot(volume, volume.as_str()).await.id);
    }
    let (what, first) = changes(&world, &snapshots[0], &two, "first").swap_remove(index);
    first(world.hub.clone(), operation).await.unwrap();
    // what it made is a volume that the id is not for, either
    let made = crate::request::volume_of(&operation);
    if world.hub.volume_status(made.clone()).await.is_ok() {
        snapshots.push(world.snapshot(&made, made.as_str()).await.id);
    }
    if what == "delete" || what == "delete the snapshot" {
        snapshots.remove(0);
    }
    (world, operation, snapshots, what)
}

#[tokio::test]
async fn an_operation_id_is_refused_for_every_other_call() {
    let mut pairs = 0;
    // of a caller that has seen no head, and of one that has
    for seq in [0, 9] {
        for first in 0..10 {
            let (world, operation, snapshots, what) = after(first, seq).await;
            for snapshot in &snapshots {
                let other = &snapshots
                    [usize::from(snapshot == &snapshots[0]).min(snapshots.len() - 1)]
                .volume;
                for (then, second) in changes(&world, snapshot, other, "second") {
                    let is_same = (what, then) == ("restore", "restore");
                    if (is_same && snapshot == &snapshots[0])
                        || (other == &snapshot.volume && then.starts_with("snapshot two"))
                    {
                        continue;
                    }
                    let before = seen(&world).await;
                    let told = second(world.restarted(), operation).await;
                    let is_refused = matches!(told, Err(HubError::OtherRequest));
                    assert!(is_refused, "{what}, then {then} of {snapshot}: {told:?}");
                    assert_eq!(seen(&world).await, before, "{what}, then {then}");
                    pairs += 1;
                }
            }
        }
    }
    assert!(pairs > 300, "{pairs}");
}

#[tokio::test]
async fn another_quota_is_another_request_although_the_volume_has_that_quota_now() {
    let world = World::new();
    let empty = world.wanted("empty");
    let source = world.create("source").await;
    let fork = CreateVolume { source: Some(VolumeSource::Volume(source)), ..world.wanted("fork") };
    for wanted in [empty, fork] {
        let wanted = CreateVolume { quota: QuotaRange::exact(Some(5 << 20)), ..wanted };
        let (made, _) = world.hub.create_volume(wanted.clone()).await.unwrap();
        let larger = ModifyVolume {
            volume: made.id.clone(),
            operation: world.operation(),
            quota_bytes: Some(Some(9 << 20)),
            labels: None,
            parameters: BTreeMap::new(),
        };
        world.hub.modify_volume(larger).await.unwrap();
        let (again, _) = world.hub.create_volume(wanted.clone()).await.unwrap();
        assert_eq!((&again.id, again.quota_bytes), (&made.id, Some(9 << 20)));
        let ranges = [
            QuotaRange::exact(Some(9 << 20)),
            QuotaRange::default(),
            QuotaRange { required_bytes: Some(5 << 20), limit_bytes: None },
        ];
        for quota in ranges {
            let other = CreateVolume { quota, ..wanted.clone() };
            let refused = world.hub.create_volume(other).await;
            assert!(matches!(refused, Err(HubError::OtherRequest)), "{quota:?}: {refused:?}");
        }
        world.fake.forget_operations(&made.id);
        let (again, _) = world.hub.create_volume(wanted).await.unwrap();
        assert_eq!(again.id, made.id, "whoever has forgotten refuses nobody");
    }
}

#[tokio::test]
async fn whether_a_repetition_is_another_request_is_not_guessed_while_another_holds_the_store() {
    let world = World::new();
    let wanted = CreateVolume { quota: QuotaRange::exact(Some(5 << 20)), ..world.wanted("pvc-1") };
    let (made, _) = world.hub.create_volume(wanted.clone()).await.unwrap();
    let other = CreateVolume { quota: QuotaRange::exact(Some(9 << 20)), ..wanted.clone() };
    world.fake.let_another_hold(true);
    for wanted in [&wanted, &other] {
        let unknown = world.hub.create_volume(wanted.clone()).await;
        assert_eq!(kind(unknown), ErrorKind::Precondition);
    }
    world.fake.let_another_hold(false);
    let refused = world.hub.create_volume(other).await;
    assert!(matches!(refused, Err(HubError::OtherRequest)), "{refused:?}");
    assert_eq!(world.hub.create_volume(wanted).await.unwrap().0.id, made.id);
}
