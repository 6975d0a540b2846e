use cove_types::chain;

use super::*;

fn page(size: u32, token: &str) -> PageRequest {
    PageRequest { size, token: token.into() }
}

#[tokio::test]
async fn volumes_are_listed_in_the_order_of_their_ids_although_they_are_deleted_meanwhile() {
    let world = World::new();
    let mut all = Vec::new();
    for n in 0..5 {
        all.push(world.create(&format!("pvc-{n}")).await);
    }
    all.sort();
    let ids = |page: Page<Volume>| page.items.into_iter().map(|v| v.id).collect::<Vec<_>>();
    assert_eq!(ids(world.hub.list_volumes(page(0, "")).await.unwrap()), all);
    let first = world.hub.list_volumes(page(2, "")).await.unwrap();
    assert!(first.next_token.ends_with(all[1].as_str()), "{}", first.next_token);
    world.delete(&all[1]).await;
    world.delete(&all[2]).await;
    let rest = world.hub.list_volumes(page(9, &first.next_token)).await.unwrap();
    assert_eq!((rest.next_token.as_str(), ids(rest.clone())), ("", all[3..].to_vec()));
    for token in ["no id", all[1].as_str()] {
        let refused = world.hub.list_volumes(page(0, token)).await;
        assert!(matches!(refused, Err(HubError::BadPageToken)), "{refused:?}");
    }
}

#[tokio::test]
async fn a_volume_in_the_trash_is_in_no_list() {
    let world = World::new();
    let volume = world.workspace("shop").await;
    world.snapshot(&volume, "s").await;
    world.fake.change(&volume, |held| held.trashed_at = Some(jiff::Timestamp::UNIX_EPOCH));
    assert_eq!(world.hub.list_volumes(page(0, "")).await.unwrap().items, []);
    let snapshots = world.hub.list_snapshots(SnapshotFilter::default(), page(0, "")).await;
    assert_eq!(snapshots.unwrap().items, []);
}

#[tokio::test]
async fn a_list_is_whole_or_refused() {
    let env = env();
    let (a, b) = (Fake::new(env.clone()), Fake::new(env.clone()));
    let world = World { hub: hub(&[("a", &a), ("b", &b)], &env), fake: a, env };
    let volume = world.create("pvc-1").await;
    world.snapshot(&volume, "s").await;
    b.silence(true);
    assert_eq!(kind(world.hub.list_volumes(page(0, "")).await), ErrorKind::Unavailable);
    let all = world.hub.list_snapshots(SnapshotFilter::default(), page(0, "")).await;
    assert_eq!(kind(all), ErrorKind::Unavailable);
    let of_one = SnapshotFilter { volume: Some(volume.clone()), ..SnapshotFilter::default() };
    let of_one = world.hub.list_snapshots(of_one, page(0, "")).await.unwrap();
    assert_eq!(of_one.items.len(), 1);
    world.hub.volume_status(volume).await.expect("its own node answers");
    let absent = world.hub.volume_status("vol-never".parse().unwrap()).await;
    assert_eq!(kind(absent), ErrorKind::Unavailable);
    world.fake.silence(true);
    let refused = world.hub.list_volumes(page(0, "")).await.unwrap_err();
    assert_eq!(chain(&refused), "failed to list the volumes on node b: nobody answers");
}

#[tokio::test]
async fn a_volume_is_found_by_name_and_by_project() {
    let world = World::new();
    let (alone, shop) = (world.create("pvc 1").await, world.workspace("shop").await);
    let found = async |what| world.hub.resolve_volume(what).await.map(|volume| volume.id);
    assert_eq!(found(Resolve::Name("pvc 1".into())).await.unwrap(), alone);
    assert_eq!(found(Resolve::Name("shop".into())).await.unwrap(), shop);
    assert_eq!(found(Resolve::Project("shop".parse().unwrap())).await.unwrap(), shop);
    let refused = found(Resolve::Project(alone.as_str().parse().unwrap())).await;
    assert!(matches!(refused, Err(HubError::NoProject { .. })), "{refused:?}");
    world.create("twice").await;
    world.workspace("twice").await;
    assert_eq!(kind(found(Resolve::Name("twice".into())).await), ErrorKind::Precondition);
}

#[tokio::test]
async fn a_volume_is_reported_with_its_copy() {
    let world = World::new();
    let volume = world.create("a").await;
    let report = world.hub.volume_status(volume.clone()).await.unwrap();
    assert_eq!(report.copies, [("a".parse().unwrap(), true)]);
    assert_eq!((report.epoch, report.snapshots), (1, 0));
    let wanted =
        EnsureCached { volume: volume.clone(), candidates: Vec::new(), budget_bytes: None };
    let placement = world.hub.ensure_cached(wanted.clone()).await.unwrap();
    assert_eq!(Some(placement.path), report.volume.path);
    world.fake.change(&volume, |held| held.path = None);
    assert_eq!(world.hub.volume_status(volume).await.unwrap().copies, []);
    assert_eq!(kind(world.hub.ensure_cached(wanted).await), ErrorKind::Unavailable);
}

#[tokio::test]
async fn the_room_is_that_of_a_node_or_of_all() {
    let env = env();
    let (a, b) = (Fake::new(env.clone()), Fake::new(env.clone()));
    a.set_free(5);
    b.set_free(7);
    let hub = hub(&[("a", &a), ("b", &b)], &env);
    let room = async |node: Option<&str>| {
        hub.capacity(node.map(|node| node.parse().unwrap())).await.map(|room| room.available_bytes)
    };
    assert_eq!(room(None).await.unwrap(), 12);
    assert_eq!(room(Some("b")).await.unwrap(), 7);
    let refused = room(Some("c")).await;
    assert!(matches!(refused, Err(HubError::NoNode { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_hub_without_nodes_says_that_none_has_come_and_takes_one_in_place_of_itself() {
    let env = env();
    let hub = hub(&[], &env);
    let refused = hub.list_volumes(page(0, "")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
    let forwarded = volumes::Volumes::list(&hub).await.unwrap_err();
    assert_eq!(forwarded.kind(), ErrorKind::Unavailable, "{forwarded}");
    for node in [None, Some("a".parse().unwrap())] {
        let refused = hub.capacity(node).await.unwrap_err();
        assert_eq!(chain(&refused), "failed to look what room there is: no node has come yet");
    }
    let forwarded = volumes::Volumes::capacity(&hub).await.unwrap_err();
    assert_eq!(forwarded.kind(), ErrorKind::Unavailable, "{forwarded}");
    let fakes = [Fake::new(env.clone()), Fake::new(env.clone())];
    for fake in &fakes {
        hub.put_node("a".parse().unwrap(), Arc::new(fake.clone()));
        assert_eq!(hub.list_volumes(page(0, "")).await.unwrap().items, []);
        let world = World { hub: hub.clone(), fake: fake.clone(), env: env.clone() };
        world.create("same").await;
    }
    assert_eq!(hub.list_volumes(page(0, "")).await.unwrap().items.len(), 1);
    let a = "a".parse().unwrap();
    for _ in 0..2 {
        hub.remove_node(&a);
        assert_eq!(kind(hub.list_volumes(page(0, "")).await), ErrorKind::Unavailable);
    }
    hub.put_node("b".parse().unwrap(), Arc::new(fakes[1].clone()));
    let volumes = hub.list_volumes(page(0, "")).await.unwrap().items;
    assert_eq!(volumes.iter().map(|volume| volume.node.as_str()).collect::<Vec<_>>(), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_hangs_is_one_that_does_not_answer() {
    let env = env();
    let (a, b) = (Fake::new(env.clone()), Fake::new(env.clone()));
    let world = World { hub: hub(&[("a", &a), ("b", &b)], &env), fake: a.clone(), env };
    let volume = world.create("pvc-1").await;
    b.hang(true);
    at_once(world.hub.volume_status(volume.clone())).await.expect("its own node answers");
    let snapshot = world.hub.snapshot(world.snapshots_of(&[&volume], "s"));
    assert_eq!(kind(at_once(snapshot).await), ErrorKind::Unavailable);
    let refused = at_once(world.hub.create_volume(world.wanted("pvc-2"))).await.unwrap_err();
    assert_eq!(
        chain(&refused),
        "failed to look for a volume called \"pvc-2\": node b does not answer"
    );
    let refused = at_once(world.hub.capacity(None)).await.unwrap_err();
    assert_eq!(
        chain(&refused),
        "failed to look what room node b has: it does not answer within 10 s"
    );
    a.hang(true);
    for refused in [
        at_once(world.hub.list_volumes(page(0, ""))).await.map(drop).unwrap_err(),
        at_once(world.hub.volume_status(volume)).await.map(drop).unwrap_err(),
    ] {
        assert_eq!(refused.kind(), ErrorKind::Unavailable);
        assert!(chain(&refused).ends_with("it does not answer within 10 s"), "{}", chain(&refused));
    }
}

#[tokio::test]
async fn a_snapshot_that_may_be_one_that_nobody_can_read_is_not_listed_as_absent() {
    let world = World::new();
    let volume = world.create("a").await;
    let there = world.snapshot(&volume, "s").await.id;
    world.fake.change(&volume, |held| held.unread_entries = 2);
    let lost = SnapshotId { volume: volume.clone(), entry: world.env.entry_id() };
    let list = |id: &SnapshotId| {
        let filter = SnapshotFilter { snapshot: Some(id.clone()), ..SnapshotFilter::default() };
        world.hub.list_snapshots(filter, page(0, ""))
    };
    assert_eq!(kind(list(&lost).await), ErrorKind::Corrupt);
    assert_eq!(list(&there).await.unwrap().items.len(), 1);
    let of_volume = SnapshotFilter { volume: Some(volume), ..SnapshotFilter::default() };
    let all = world.hub.list_snapshots(of_volume, page(0, "")).await.unwrap();
    assert_eq!(all.items.len(), 1, "a list has what can be read");
}
