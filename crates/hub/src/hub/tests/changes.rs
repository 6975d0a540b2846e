use cove_types::EntryKind;

use super::*;

fn change(world: &World, volume: &VolumeId) -> ModifyVolume {
    ModifyVolume {
        volume: volume.clone(),
        operation: world.operation(),
        quota_bytes: None,
        labels: None,
        parameters: BTreeMap::new(),
    }
}

#[tokio::test]
async fn a_volume_is_deleted_once_and_for_ever() {
    let world = World::new();
    let volume = world.create("a").await;
    for _ in 0..2 {
        world.delete(&volume).await;
        assert_eq!(world.fake.count(), 0);
    }
    world.delete(&"vol-never".parse().unwrap()).await;
}

#[tokio::test]
async fn a_workspace_and_what_is_mounted_are_not_deleted() {
    let world = World::new();
    let (workspace, mounted) = (world.workspace("shop").await, world.create("a").await);
    let refused = world.hub.delete_volume(workspace.clone(), world.operation()).await;
    assert!(matches!(refused, Err(HubError::IsWorkspace { .. })), "{refused:?}");
    world.fake.mount(&mounted);
    let refused = world.hub.delete_volume(mounted, world.operation()).await;
    assert_eq!(kind(refused), ErrorKind::Precondition);
    assert_eq!(world.fake.count(), 2);
}

#[tokio::test]
async fn what_is_published_is_deleted_when_it_is_no_more() {
    let world = World::new();
    let volume = world.create("a").await;
    let published = ModifyVolume {
        labels: Some(labels([("published-rw.cove.csi.storage", "a")])),
        ..change(&world, &volume)
    };
    world.hub.modify_volume(published).await.unwrap();
    let refused = world.hub.delete_volume(volume.clone(), world.operation()).await;
    assert!(matches!(refused, Err(HubError::IsPublished { .. })), "{refused:?}");
    assert_eq!(world.fake.count(), 1);
    let taken_away = ModifyVolume { labels: Some(labels([])), ..change(&world, &volume) };
    world.hub.modify_volume(taken_away).await.unwrap();
    world.delete(&volume).await;
    assert_eq!(world.fake.count(), 0);
}

#[tokio::test]
async fn a_volume_that_is_named_by_its_name_is_not_called_deleted() {
    let world = World::new();
    let volume = world.create("intake").await;
    let named: VolumeId = "intake".parse().unwrap();
    let refused = world.hub.delete_volume(named.clone(), world.operation()).await;
    assert_eq!(
        refused.unwrap_err().to_string(),
        format!("field \"volume\": \"intake\" is the name of volume {volume}; its id is wanted")
    );
    let snapshot = "intake@abcdefghij2a".parse().unwrap();
    let refused = world.hub.delete_snapshot(snapshot, world.operation()).await;
    assert!(matches!(refused, Err(HubError::NameForId { .. })), "{refused:?}");
    world.delete(&volume).await;
    world.delete(&named).await;
}

#[tokio::test]
async fn a_volume_becomes_what_was_asked_and_is_not_written_again() {
    let world = World::new();
    let volume = world.create("a").await;
    let wanted = ModifyVolume {
        quota_bytes: Some(Some(5 << 20)),
        labels: Some(labels([("a", "b")])),
        parameters: labels([("retention", "9")]),
        ..change(&world, &volume)
    };
    let writes = world.fake.look(&volume).writes;
    let modified = world.hub.modify_volume(wanted.clone()).await.unwrap();
    assert_eq!(modified.quota_bytes, Some(5 << 20));
    assert_eq!((&modified.labels, modified.parameters.len()), (&labels([("a", "b")]), 1));
    let unsaid = ModifyVolume { operation: world.operation(), quota_bytes: None, ..wanted.clone() };
    for again in [wanted.clone(), unsaid] {
        assert_eq!(world.hub.modify_volume(again).await.unwrap(), modified);
    }
    assert_eq!(world.fake.look(&volume).writes, writes + 1);
    let more = ModifyVolume {
        quota_bytes: Some(None),
        parameters: labels([("storingInterval", "60")]),
        ..change(&world, &volume)
    };
    let modified = world.hub.modify_volume(more).await.unwrap();
    assert_eq!((modified.quota_bytes, modified.parameters.len()), (None, 2));
    assert_eq!(modified.labels.len(), 1, "what is not said stays");
}

#[tokio::test]
async fn a_quota_that_may_not_hold_yet_holds_when_it_is_asked_for_again() {
    let world = World::new();
    for is_same in [true, false] {
        let volume = world.create("a").await;
        let quota = Some(Some(5 << 20));
        let wanted = ModifyVolume { quota_bytes: quota, ..change(&world, &volume) };
        world.fake.let_set_quotas(false);
        for _ in 0..2 {
            let told = kind(world.hub.modify_volume(wanted.clone()).await);
            assert_eq!(told, ErrorKind::TimedOut);
        }
        world.fake.let_set_quotas(true);
        let operation = if is_same { wanted.operation } else { world.operation() };
        let modified = world.hub.modify_volume(ModifyVolume { operation, ..wanted }).await;
        assert_eq!(modified.unwrap().quota_bytes, Some(5 << 20));
        assert_eq!(world.fake.look(&volume).limit_bytes, Some(5 << 20), "the same call: {is_same}");
        world.delete(&volume).await;
    }
}

#[tokio::test]
async fn an_operation_of_a_caller_that_has_seen_no_head_changes_a_volume_once() {
    let world = World::new();
    let volume = world.create("a").await;
    let quota = |bytes| ModifyVolume { quota_bytes: Some(Some(bytes)), ..change(&world, &volume) };
    let (first, later) = (quota(5 << 20), quota(6 << 20));
    world.hub.modify_volume(first.clone()).await.unwrap();
    world.hub.modify_volume(later).await.unwrap();
    let again = world.hub.modify_volume(first.clone()).await.unwrap();
    assert_eq!(again.quota_bytes, Some(6 << 20), "what came after it stays");
    let other = ModifyVolume { quota_bytes: Some(Some(7 << 20)), ..first };
    let refused = world.hub.modify_volume(other).await;
    assert!(matches!(refused, Err(HubError::OtherRequest)), "{refused:?}");
}

#[tokio::test]
async fn a_change_that_breaks_a_law_changes_nothing() {
    let world = World::new();
    let volume = world.create("a").await;
    for parameters in [labels([("retention", "0")]), labels([("colour", "red")])] {
        let wanted = ModifyVolume { parameters, ..change(&world, &volume) };
        assert_eq!(kind(world.hub.modify_volume(wanted).await), ErrorKind::Invalid);
    }
    let wanted = ModifyVolume { quota_bytes: Some(Some(1)), ..change(&world, &volume) };
    let refused = world.hub.modify_volume(wanted).await;
    assert!(matches!(refused, Err(HubError::QuotaOutOfRange { .. })), "{refused:?}");
    assert_eq!(world.fake.look(&volume).writes, 1);
    let absent = change(&world, &"vol-never".parse().unwrap());
    assert_eq!(kind(world.hub.modify_volume(absent).await), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_restore_is_done_once_for_its_operation() {
    let world = World::new();
    let volume = world.create("a").await;
    world.fake.change(&volume, |held| held.bytes = 1 << 20);
    let snapshot = world.snapshot(&volume, "s").await.id;
    world.fake.change(&volume, |held| held.bytes = 2 << 20);
    let seq = world.hub.volume_status(volume.clone()).await.unwrap().volume.seq;
    let wanted = RestoreVolume {
        volume: volume.clone(),
        snapshot,
        operation: world.env.operation_id(seq),
        force: false,
        wait_saved: true,
    };
    let restored = world.hub.restore_volume(wanted.clone()).await.unwrap();
    let before = restored.before.unwrap();
    assert_eq!((before.bytes, &before.name, &before.group), (2 << 20, &None, &None));
    assert_eq!(world.fake.look(&volume).bytes, 1 << 20);
    world.fake.change(&volume, |held| held.bytes = 7 << 20);
    let again = world.hub.restore_volume(wanted.clone()).await.unwrap();
    assert_eq!(again.before.unwrap().id, before.id);
    assert_eq!(world.fake.look(&volume).bytes, 7 << 20, "what was written since stays");
    let other = RestoreVolume { force: true, ..wanted.clone() };
    let refused = world.hub.restore_volume(other).await;
    assert!(matches!(refused, Err(HubError::OtherRequest)), "{refused:?}");
    world.hub.delete_snapshot(wanted.snapshot.clone(), world.operation()).await.unwrap();
    let again = world.hub.restore_volume(wanted.clone()).await.unwrap();
    assert_eq!(again.before.unwrap().id, before.id, "although the snapshot is gone");
    let operation = world.env.operation_id(seq + 9);
    let new = RestoreVolume { operation, ..wanted.clone() };
    let refused = world.hub.restore_volume(new.clone()).await.unwrap_err();
    assert_eq!(refused.to_string(), format!("snapshot {} does not exist", wanted.snapshot));
    world.fake.change(&volume, |held| held.unread_entries = 1);
    assert_eq!(kind(world.hub.restore_volume(new).await), ErrorKind::Corrupt, "it may be that one");
}

#[tokio::test]
async fn a_head_that_has_forgotten_restores_nothing_for_callers_that_have_seen_none() {
    let world = World::new();
    let volume = world.create("a").await;
    let snapshot = world.snapshot(&volume, "s").await.id;
    world.fake.forget_operations(&volume);
    let (operation, force, wait_saved) = (world.operation(), false, false);
    let wanted = RestoreVolume { volume, snapshot, operation, force, wait_saved };
    assert_eq!(kind(world.hub.restore_volume(wanted).await), ErrorKind::Conflict);
}

#[tokio::test]
async fn a_volume_does_not_go_back_to_what_is_anothers() {
    let world = World::new();
    let (a, b) = (world.create("a").await, world.workspace("b").await);
    let entry = world.fake.add_entry(&b, EntryKind::Manual);
    let wanted = |volume: &VolumeId| RestoreVolume {
        volume: volume.clone(),
        snapshot: SnapshotId { volume: b.clone(), entry },
        operation: world.operation(),
        force: false,
        wait_saved: false,
    };
    let refused = world.hub.restore_volume(wanted(&a)).await;
    assert!(matches!(refused, Err(HubError::NoSnapshot { .. })), "{refused:?}");
    world.hub.restore_volume(wanted(&b)).await.expect("an entry of its own timeline will do");
}

#[tokio::test]
async fn saving_answers_when_it_is_saved() {
    let world = World::new();
    let volume = world.create("a").await;
    world.fake.let_save(false);
    let hub = world.hub.clone();
    let of = volume.clone();
    let saves = tokio::spawn(async move { hub.trigger_sync(of).await });
    settle().await;
    assert!(!saves.is_finished());
    world.fake.let_save(true);
    assert_eq!(saves.await.unwrap().unwrap().seq, 1);
    let report = world.hub.volume_status(volume).await.unwrap();
    assert_eq!((report.durability, report.unsaved_bytes), (Durability::Saved, Some(0)));
}

#[tokio::test]
async fn whoever_waits_no_more_for_a_store_that_is_away_leaves_nothing() {
    let world = World::new();
    let volume = world.create("a").await;
    let snapshot = world.snapshot(&volume, "s").await.id;
    world.fake.let_save(false);
    let (hub, of) = (world.hub.clone(), volume.clone());
    let saves = tokio::spawn(async move { hub.trigger_sync(of).await.map(drop) });
    let (hub, wanted) = (world.hub.clone(), world.wanted("b"));
    let wanted = CreateVolume { wait_saved: true, ..wanted };
    let creates = tokio::spawn(async move { hub.create_volume(wanted).await.map(drop) });
    let (hub, wanted) = (world.hub.clone(), world.snapshots_of(&[&volume], "t"));
    let snapshots = tokio::spawn(async move { hub.snapshot(wanted).await.map(drop) });
    let (hub, operation) = (world.hub.clone(), world.operation());
    let deletes = tokio::spawn(async move { hub.delete_snapshot(snapshot, operation).await });
    settle().await;
    assert_eq!(world.fake.waiting(), 4);
    world.hub.wait_idle().await;
    for call in [saves, creates, snapshots, deletes] {
        assert!(!call.is_finished());
        call.abort();
    }
    settle().await;
    assert_eq!(world.fake.waiting(), 0);
    assert_eq!(world.fake.count(), 2, "what was captured is there");
}

#[tokio::test]
async fn a_call_that_nobody_waits_for_is_under_way_until_it_is_captured() {
    let world = World::new();
    world.fake.let_go_on(false);
    let (hub, wanted) = (world.hub.clone(), world.wanted("a"));
    let call = tokio::spawn(async move { hub.create_volume(wanted).await });
    settle().await;
    call.abort();
    let hub = world.hub.clone();
    let idle = tokio::spawn(async move { hub.wait_idle().await });
    settle().await;
    assert!(!idle.is_finished());
    world.fake.let_go_on(true);
    idle.await.unwrap();
    assert_eq!(world.fake.count(), 1);
}

#[tokio::test]
async fn a_service_has_a_directory_in_its_volume() {
    let world = World::new();
    let volume = world.create("a").await;
    for _ in 0..2 {
        let path = world.hub.create_service_volume(volume.clone(), "db".into()).await.unwrap();
        assert!(path.ends_with("services/db"), "{path:?}");
    }
    let refused = world.hub.create_service_volume(volume, "../db".into()).await;
    assert_eq!(kind(refused), ErrorKind::Invalid);
    let absent = world.hub.create_service_volume("vol-never".parse().unwrap(), "db".into()).await;
    assert!(matches!(absent, Err(HubError::NoVolume { .. })), "{absent:?}");
}

#[tokio::test(start_paused = true)]
async fn a_volume_whose_node_goes_in_between_is_not_called_gone() {
    let world = World::new();
    let volume = world.create("a").await;
    world.fake.hang(true);
    let (hub, of, operation) = (world.hub.clone(), volume.clone(), world.operation());
    let deletes = tokio::spawn(async move { hub.delete_volume(of, operation).await });
    settle().await;
    world.hub.remove_node(&"a".parse().unwrap());
    world.fake.hang(false);
    let refused = deletes.await.unwrap().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
    assert_eq!(cove_types::chain(&refused), "failed to reach node a: it has just gone");
    world.fake.look(&volume);
}
