use cove_types::EntryKind;

use super::*;

fn ids(page: &Page<Snapshot>) -> Vec<SnapshotId> {
    page.items.iter().map(|snapshot| snapshot.id.clone()).collect()
}

async fn listed(hub: &Hub, filter: SnapshotFilter) -> Vec<SnapshotId> {
    ids(&hub.list_snapshots(filter, PageRequest::default()).await.unwrap())
}

#[tokio::test]
async fn a_snapshot_is_told_as_it_is() {
    let world = World::new();
    let volume = world.create("pvc-1").await;
    world.fake.change(&volume, |held| held.bytes = 3 << 20);
    let wanted =
        SnapshotVolumes { wait_saved: false, ..world.snapshots_of(&[&volume], "back\\slash\r\n") };
    world.fake.let_save(false);
    let captured = world.hub.snapshot(wanted.clone()).await.unwrap().remove(0);
    let expected = Snapshot {
        id: captured.id.clone(),
        name: Some("back\\slash\r\n".into()),
        created_at: "2026-11-26T12:00:00Z".parse().unwrap(),
        bytes: 0,
        durability: Durability::OnThisNode,
        group: None,
    };
    assert_eq!(captured, expected);
    world.fake.let_save(true);
    let again = SnapshotVolumes { wait_saved: true, operation: world.operation(), ..wanted };
    let saved = world.hub.snapshot(again).await.unwrap().remove(0);
    assert_eq!(saved, Snapshot { bytes: 3 << 20, durability: Durability::Saved, ..expected });
}

#[tokio::test]
async fn a_name_is_bound_to_its_volume() {
    let world = World::new();
    let (a, b) = (world.create("a").await, world.create("b").await);
    let first = world.snapshot(&a, "s").await;
    let again = world.restarted().snapshot(world.snapshots_of(&[&a], "s")).await.unwrap();
    assert_eq!(again, std::slice::from_ref(&first));
    let refused = world.hub.snapshot(world.snapshots_of(&[&b], "s")).await;
    assert!(matches!(refused, Err(HubError::SnapshotNameTaken { .. })), "{refused:?}");
    world.hub.delete_snapshot(first.id.clone(), world.operation()).await.unwrap();
    assert_ne!(world.snapshot(&b, "s").await.id, first.id);
}

#[tokio::test]
async fn an_operation_makes_one_snapshot_whatever_it_is_called() {
    let world = World::new();
    let volume = world.create("a").await;
    let seen = SnapshotVolumes {
        operation: world.env.operation_id(1),
        ..world.snapshots_of(&[&volume], "s")
    };
    world.hub.snapshot(seen.clone()).await.unwrap();
    let renamed = SnapshotVolumes { name: "t".parse().unwrap(), ..seen };
    let refused = world.hub.snapshot(renamed).await;
    assert!(matches!(refused, Err(HubError::OtherRequest)), "{refused:?}");
}

#[tokio::test]
async fn an_operation_whose_snapshot_is_deleted_makes_no_other() {
    let world = World::new();
    let (a, b) = (world.create("a").await, world.create("b").await);
    for volumes in [&[&a][..], &[&a, &b]] {
        let wanted = world.snapshots_of(volumes, "s");
        for snapshot in world.hub.snapshot(wanted.clone()).await.unwrap() {
            world.hub.delete_snapshot(snapshot.id, world.operation()).await.unwrap();
        }
        let refused = world.hub.snapshot(wanted).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::NotFound);
        let of_one = matches!(refused, HubError::NoSnapshot { .. });
        assert_eq!(of_one, volumes.len() == 1, "of which of several it is, nobody says: {refused}");
        assert_eq!(listed(&world.hub, SnapshotFilter::default()).await, []);
    }
}

#[tokio::test]
async fn a_repetition_waits_until_it_is_saved_although_its_volume_is_deleted() {
    let world = World::new();
    let volume = world.create("a").await;
    world.fake.let_save(false);
    let wanted = world.snapshots_of(&[&volume], "s");
    let unsaved = SnapshotVolumes { wait_saved: false, ..wanted.clone() };
    let first = world.hub.snapshot(unsaved).await.unwrap().remove(0);
    world.delete(&volume).await;
    let hub = world.hub.clone();
    let again = tokio::spawn(async move { hub.snapshot(wanted).await });
    settle().await;
    assert!(!again.is_finished());
    world.fake.let_save(true);
    let saved = again.await.unwrap().unwrap().remove(0);
    assert_eq!((saved.id, saved.durability), (first.id, Durability::Saved));
}

#[tokio::test]
async fn whoever_deletes_a_snapshot_again_waits_with_the_first_until_it_is_saved() {
    let world = World::new();
    let volume = world.create("a").await;
    let (snapshot, operation) = (world.snapshot(&volume, "s").await.id, world.operation());
    world.fake.let_save(false);
    let deletes = || {
        let (hub, snapshot) = (world.hub.clone(), snapshot.clone());
        tokio::spawn(async move { hub.delete_snapshot(snapshot, operation).await })
    };
    let (first, again) = (deletes(), deletes());
    settle().await;
    // of an operation of its own, when it is listed no more
    let (hub, id, other) = (world.hub.clone(), snapshot.clone(), world.operation());
    let later = tokio::spawn(async move { hub.delete_snapshot(id, other).await });
    settle().await;
    let calls = [first, again, later];
    assert!(calls.iter().all(|call| !call.is_finished()), "it is not saved: {calls:?}");
    world.fake.let_save(true);
    for call in calls {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_snapshot_that_is_gone_is_deleted_also_under_an_operation_that_is_too_old() {
    let world = World::new();
    let volume = world.create("a").await;
    let snapshot = world.snapshot(&volume, "s").await.id;
    world.hub.delete_snapshot(snapshot.clone(), world.operation()).await.unwrap();
    world.fake.forget_operations(&volume);
    world.hub.delete_snapshot(snapshot, world.env.operation_id(1)).await.unwrap();
}

#[tokio::test]
async fn what_is_not_found_in_a_damaged_volume_is_neither_gone_nor_free() {
    let world = World::new();
    let (volume, other) = (world.create("a").await, world.create("b").await);
    world.fake.change(&volume, |held| held.unread_entries = 2);
    let lost = SnapshotId { volume: volume.clone(), entry: world.env.entry_id() };
    let deleted = world.hub.delete_snapshot(lost.clone(), world.operation()).await;
    assert_eq!(kind(deleted), ErrorKind::Corrupt);
    let source = Some(VolumeSource::Snapshot(lost));
    let wanted = CreateVolume { source, ..world.wanted("c") };
    assert_eq!(kind(world.hub.create_volume(wanted).await), ErrorKind::Corrupt);
    let taken = world.restarted().snapshot(world.snapshots_of(&[&volume], "s")).await;
    assert_eq!(kind(taken), ErrorKind::Corrupt);
    world.snapshot(&other, "s").await;
}

#[tokio::test]
async fn a_head_that_has_forgotten_is_snapshotted_for_callers_that_have_seen_none() {
    let world = World::new();
    let (a, b) = (world.create("a").await, world.create("b").await);
    world.snapshot(&a, "s").await;
    world.fake.forget_operations(&a);
    world.snapshot(&a, "t").await;
    world.fake.forget_operations(&a);
    world.hub.snapshot(world.snapshots_of(&[&a, &b], "u")).await.unwrap();
    let old =
        SnapshotVolumes { operation: world.env.operation_id(1), ..world.snapshots_of(&[&a], "v") };
    assert_eq!(kind(world.hub.snapshot(old).await), ErrorKind::Conflict, "it is too old to know");
}

#[tokio::test]
async fn a_group_has_an_id_together_and_is_given_in_the_order_of_the_request() {
    let world = World::new();
    let (a, b, c) = (world.create("a").await, world.create("b").await, world.create("c").await);
    let wanted = world.snapshots_of(&[&c, &a, &b], "g");
    let group = world.hub.snapshot(wanted.clone()).await.unwrap();
    let of: Vec<&VolumeId> = group.iter().map(|snapshot| &snapshot.id.volume).collect();
    assert_eq!(of, [&c, &a, &b]);
    let id = group[0].group.clone().unwrap();
    assert!(group.iter().all(|snapshot| snapshot.group.as_ref() == Some(&id)), "{group:?}");
    let again = SnapshotVolumes { operation: world.operation(), ..wanted };
    assert_eq!(world.hub.snapshot(again).await.unwrap(), group);
    let filter = SnapshotFilter { group: Some(id), ..SnapshotFilter::default() };
    assert_eq!(listed(&world.hub, filter).await.len(), 3);
    let alone = SnapshotVolumes { is_group: false, ..world.snapshots_of(&[&a, &b], "h") };
    let alone = world.hub.snapshot(alone).await.unwrap();
    assert!(alone.iter().all(|snapshot| snapshot.group.is_none()));
}

#[tokio::test]
async fn a_group_is_not_listed_while_one_that_nobody_can_read_may_be_of_it() {
    let world = World::new();
    let (a, b, c) = (world.create("a").await, world.create("b").await, world.create("c").await);
    let group = world.hub.snapshot(world.snapshots_of(&[&a, &b], "g")).await.unwrap();
    world.fake.change(&c, |held| held.unread_entries = 1);
    let list = async |volume: Option<&VolumeId>, group| {
        let filter = SnapshotFilter { volume: volume.cloned(), group, ..Default::default() };
        world.hub.list_snapshots(filter, PageRequest::default()).await
    };
    let of_it = || group[0].group.clone();
    let refused = list(None, of_it()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Corrupt);
    assert!(refused.to_string().contains(c.as_str()), "{refused}");
    assert_eq!(ids(&list(Some(&a), of_it()).await.unwrap()), [group[0].id.clone()]);
    assert_eq!(list(None, None).await.unwrap().items.len(), 2, "others are left out");
}

#[tokio::test]
async fn of_a_group_all_are_taken_or_none() {
    let world = World::new();
    let (a, b) = (world.create("a").await, world.workspace("b").await);
    world.fake.change(&b, |held| held.trashed_at = Some(jiff::Timestamp::UNIX_EPOCH));
    let refused = world.hub.snapshot(world.snapshots_of(&[&a, &b], "g")).await;
    assert_eq!(kind(refused), ErrorKind::NotFound);
    assert_eq!(listed(&world.hub, SnapshotFilter::default()).await, []);
}

#[tokio::test]
async fn snapshots_of_deleted_volumes_are_listed_and_their_volumes_are_not() {
    let world = World::new();
    let (a, b) = (world.create("a").await, world.create("b").await);
    let (of_a, of_b) = (world.snapshot(&a, "s").await.id, world.snapshot(&b, "t").await.id);
    world.fake.add_entry(&a, EntryKind::Manual);
    world.delete(&a).await;
    let mut both = [of_a.clone(), of_b];
    both.sort();
    assert_eq!(listed(&world.hub, SnapshotFilter::default()).await, both);
    let of_one = SnapshotFilter { volume: Some(a.clone()), ..SnapshotFilter::default() };
    assert_eq!(listed(&world.hub, of_one.clone()).await, std::slice::from_ref(&of_a));
    let volumes = world.hub.list_volumes(PageRequest::default()).await.unwrap();
    assert_eq!(volumes.items.into_iter().map(|volume| volume.id).collect::<Vec<_>>(), [b]);
    assert_eq!(kind(world.hub.volume_status(a.clone()).await), ErrorKind::NotFound);
    assert_eq!(
        kind(world.hub.resolve_volume(Resolve::Name("a".into())).await),
        ErrorKind::NotFound
    );
    world.hub.delete_snapshot(of_a.clone(), world.operation()).await.unwrap();
    assert_eq!(listed(&world.hub, of_one).await, []);
    world.hub.delete_snapshot(of_a, world.operation()).await.expect("one that is gone is success");
}

#[tokio::test]
async fn entries_of_timelines_are_listed_without_names_unless_only_named_ones_are_wanted() {
    let world = World::new();
    let volume = world.workspace("shop").await;
    let entry = world.fake.add_entry(&volume, EntryKind::Manual);
    let named = world.snapshot(&volume, "s").await.id;
    let all = world.hub.list_snapshots(SnapshotFilter::default(), PageRequest::default()).await;
    let all = all.unwrap().items;
    let of_timeline = all.iter().find(|snapshot| snapshot.id.entry == entry).unwrap();
    assert_eq!((all.len(), &of_timeline.name, &of_timeline.group), (2, &None, &None));
    let only = SnapshotFilter { only_named: true, ..SnapshotFilter::default() };
    assert_eq!(listed(&world.hub, only).await, std::slice::from_ref(&named));
    for (name, found) in [("s", vec![named.clone()]), ("by hand", vec![])] {
        let filter = SnapshotFilter { name: Some(name.into()), ..SnapshotFilter::default() };
        assert_eq!(listed(&world.hub, filter).await, found);
    }
    let this = SnapshotFilter { snapshot: Some(named.clone()), ..SnapshotFilter::default() };
    assert_eq!(listed(&world.hub, this.clone()).await, [named]);
    let neither = SnapshotFilter { volume: Some("vol-other".parse().unwrap()), ..this };
    assert_eq!(listed(&world.hub, neither).await, []);
    let of_timeline = SnapshotId { volume, entry };
    let refused = world.hub.delete_snapshot(of_timeline, world.operation()).await;
    assert_eq!(kind(refused), ErrorKind::Precondition);
}

#[tokio::test]
async fn an_entry_in_the_trash_is_no_snapshot() {
    let world = World::new();
    let (a, b) = (world.create("a").await, world.create("b").await);
    let trashed = world.snapshot(&a, "s").await.id;
    world.fake.trash_entry(&trashed);
    assert_eq!(listed(&world.hub, SnapshotFilter::default()).await, []);
    world.hub.delete_snapshot(trashed.clone(), world.operation()).await.unwrap();
    let left = volumes::Volumes::entries(&world.fake, &a).await.unwrap();
    assert!(left.iter().any(|entry| entry.record.id == trashed.entry), "it may come back");
    world.snapshot(&b, "s").await;
}

#[tokio::test]
async fn pages_go_on_where_the_last_ended_although_what_it_ended_with_is_deleted() {
    let world = World::new();
    let volume = world.create("a").await;
    for n in 0..5 {
        world.snapshot(&volume, &format!("s{n}")).await;
    }
    let all = listed(&world.hub, SnapshotFilter::default()).await;
    let list = |token: String| {
        world.hub.list_snapshots(SnapshotFilter::default(), PageRequest { size: 2, token })
    };
    let first = list(String::new()).await.unwrap();
    assert_eq!(ids(&first), all[..2]);
    for id in &all[1..3] {
        world.hub.delete_snapshot(id.clone(), world.operation()).await.unwrap();
    }
    let second = list(first.next_token).await.unwrap();
    assert_eq!((ids(&second), second.next_token.as_str()), (all[3..].to_vec(), ""));
    assert!(matches!(list("x".into()).await, Err(HubError::BadPageToken)));
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_is_being_snapshotted_is_kept_from_other_calls() {
    let world = World::new();
    let (a, b) = (world.create("a").await, world.create("b").await);
    world.fake.let_go_on(false);
    let (hub, wanted) = (world.hub.clone(), world.snapshots_of(&[&a], "s"));
    let first = tokio::spawn(async move { hub.snapshot(wanted).await });
    settle().await;
    let busy = |result: Result<Vec<Snapshot>, HubError>| {
        assert!(matches!(result, Err(HubError::Busy { .. })), "{result:?}");
    };
    busy(at_once(world.hub.snapshot(world.snapshots_of(&[&b], "s"))).await);
    busy(at_once(world.hub.snapshot(world.snapshots_of(&[&b, &a], "t"))).await);
    let deleted = at_once(world.hub.delete_volume(a.clone(), world.operation())).await;
    assert!(matches!(deleted, Err(HubError::Busy { .. })), "{deleted:?}");
    world.fake.let_go_on(true);
    first.await.unwrap().unwrap();
    world.snapshot(&a, "t").await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_keeps_nobody_from_the_volumes_of_a_snapshot() {
    let world = World::new();
    let volume = world.create("a").await;
    world.fake.hang_store(true);
    let take = || {
        let (hub, wanted) = (world.hub.clone(), world.snapshots_of(&[&volume], "s"));
        tokio::spawn(async move { hub.snapshot(wanted).await })
    };
    let first = take();
    settle().await;
    assert!(!first.is_finished());
    let refused = at_once(world.hub.snapshot(world.snapshots_of(&[&volume], "s"))).await;
    assert!(matches!(refused, Err(HubError::Busy { .. })), "of one name there is one: {refused:?}");
    let larger = ModifyVolume {
        volume: volume.clone(),
        operation: world.operation(),
        quota_bytes: Some(Some(9 << 20)),
        labels: None,
        parameters: BTreeMap::new(),
    };
    at_once(world.hub.modify_volume(larger)).await.unwrap();
    world.fake.hang_store(false);
    assert_eq!(first.await.unwrap().unwrap()[0].id.volume, volume);
}

#[tokio::test(start_paused = true)]
async fn whoever_goes_away_while_a_store_hangs_leaves_no_snapshot_and_no_name() {
    let world = World::new();
    let volume = world.create("a").await;
    world.fake.hang_store(true);
    let (hub, wanted) = (world.hub.clone(), world.snapshots_of(&[&volume], "s"));
    let call = tokio::spawn(async move { hub.snapshot(wanted).await });
    settle().await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    at_once(world.hub.wait_idle()).await;
    world.fake.hang_store(false);
    settle().await;
    assert_eq!(listed(&world.hub, SnapshotFilter::default()).await, []);
    world.snapshot(&volume, "s").await;
}
