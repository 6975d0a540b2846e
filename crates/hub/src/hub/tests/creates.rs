use cove_content::volumes::Volumes as _;
use cove_types::Slug;

use super::*;

#[tokio::test]
async fn a_new_volume_is_told_as_it_was_asked_for() {
    let world = World::new();
    let wanted = CreateVolume {
        labels: labels([("app", "shop")]),
        parameters: labels([("retention", "9")]),
        quota: QuotaRange::exact(Some(5 << 20)),
        ..world.wanted("pvc 1/..\n2")
    };
    let (volume, durability) = world.hub.create_volume(wanted.clone()).await.unwrap();
    assert_eq!(durability, Durability::OnThisNode);
    let expected = Volume {
        id: VolumeId::derive("hub", &wanted.operation, 0),
        name: "pvc 1/..\n2".into(),
        node: "a".parse().unwrap(),
        project: None,
        quota_bytes: Some(5 << 20),
        labels: wanted.labels,
        parameters: wanted.parameters,
        source: None,
        created_at: "2026-11-26T12:00:00Z".parse().unwrap(),
        seq: 1,
        path: volume.path.clone(),
    };
    assert_eq!(volume, expected);
}

#[tokio::test]
async fn a_new_volume_has_the_document_of_the_project_that_it_may_become() {
    let world = World::new();
    let volume = world.create("pvc\r\n\t1").await;
    let document = world.fake.status(&volume).await.unwrap().document;
    assert_eq!(document.name, "pvc   1", "no control character of the name is shown");
    assert_eq!(document.slug.as_str(), volume.as_str());
    assert!(document.config.is_empty() && document.forked_from.is_none());
    ProjectDocument::decode(&document.encode()).unwrap();
}

#[test]
fn each_volume_id_is_a_lawful_slug() {
    for n in 0..=255 {
        let operation = OperationId::new(0, [n; 12]);
        let volume = VolumeId::derive("hub", &operation, 0);
        let slug: Slug = volume.as_str().parse().unwrap();
        assert!(slug.as_str().len() <= Slug::BYTES_MAX);
    }
}

#[tokio::test]
async fn whoever_repeats_gets_the_first_volume_by_name_and_by_operation() {
    let world = World::new();
    let wanted = world.wanted("pvc-1");
    let (first, _) = world.hub.create_volume(wanted.clone()).await.unwrap();
    for hub in [&world.hub, &world.restarted()] {
        assert_eq!(hub.create_volume(wanted.clone()).await.unwrap().0, first);
        let other = CreateVolume { operation: world.operation(), ..wanted.clone() };
        assert_eq!(hub.create_volume(other).await.unwrap().0, first);
    }
    assert_eq!(world.fake.count(), 1);
}

#[tokio::test]
async fn whoever_repeats_gets_the_first_volume_although_its_size_has_changed() {
    let world = World::new();
    let wanted = CreateVolume { quota: QuotaRange::exact(Some(5 << 20)), ..world.wanted("pvc-1") };
    let (first, _) = world.hub.create_volume(wanted.clone()).await.unwrap();
    let larger = ModifyVolume {
        volume: first.id.clone(),
        operation: world.operation(),
        quota_bytes: Some(Some(9 << 20)),
        labels: None,
        parameters: BTreeMap::new(),
    };
    world.hub.modify_volume(larger).await.unwrap();
    let (again, _) = world.hub.create_volume(wanted).await.unwrap();
    assert_eq!((again.id, again.quota_bytes), (first.id, Some(9 << 20)));
}

#[tokio::test]
async fn a_quota_holds_what_a_fork_of_a_fork_shares() {
    let world = World::new();
    let source = world.create("source").await;
    world.fake.change(&source, |held| held.bytes = 3 << 20);
    let fork = |name: &str, of: &VolumeId, bytes| CreateVolume {
        source: Some(VolumeSource::Volume(of.clone())),
        quota: QuotaRange::exact(bytes),
        ..world.wanted(name)
    };
    let (first, _) = world.hub.create_volume(fork("pvc-1", &source, None)).await.unwrap();
    assert_eq!(world.fake.status(&first.id).await.unwrap().bytes.unique, 0);
    let small = world.hub.create_volume(fork("pvc-2", &first.id, Some(2 << 20))).await;
    assert!(matches!(small, Err(HubError::QuotaOutOfRange { .. })), "{small:?}");
    world.hub.create_volume(fork("pvc-2", &first.id, Some(3 << 20))).await.unwrap();
}

#[tokio::test]
async fn an_operation_makes_one_volume_whatever_it_is_called() {
    let world = World::new();
    let wanted = world.wanted("pvc-1");
    world.hub.create_volume(wanted.clone()).await.unwrap();
    let renamed = CreateVolume { name: "pvc-2".parse().unwrap(), ..wanted.clone() };
    let refused = world.hub.create_volume(renamed).await;
    assert!(matches!(refused, Err(HubError::OtherRequest)), "{refused:?}");
    let labelled = CreateVolume { labels: labels([("a", "b")]), ..wanted };
    let refused = world.hub.create_volume(labelled).await;
    assert!(matches!(refused, Err(HubError::OtherRequest)), "{refused:?}");
    assert_eq!(world.fake.count(), 1);
}

#[tokio::test]
async fn a_name_that_is_taken_otherwise_is_refused() {
    let world = World::new();
    let there = world.create("pvc-1").await;
    let other = CreateVolume { labels: labels([("a", "b")]), ..world.wanted("pvc-1") };
    let refused = world.hub.create_volume(other).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
    assert_eq!(
        refused.to_string(),
        format!("volume {there} is called \"pvc-1\" and was made with another set of labels")
    );
    world.workspace("shop").await;
    assert_eq!(kind(world.hub.create_volume(world.wanted("shop")).await), ErrorKind::AlreadyExists);
}

#[tokio::test]
async fn a_name_is_free_again_when_its_volume_is_deleted_and_the_id_never_is() {
    let world = World::new();
    let wanted = world.wanted("pvc-1");
    let first = world.hub.create_volume(wanted.clone()).await.unwrap().0.id;
    world.delete(&first).await;
    let refused = world.hub.create_volume(wanted).await;
    assert!(matches!(refused, Err(HubError::NoVolume { .. })), "{refused:?}");
    assert_ne!(world.create("pvc-1").await, first);
}

#[tokio::test]
async fn a_fork_begins_as_its_source_with_its_quota_and_its_project() {
    let world = World::new();
    let source = world.workspace("shop").await;
    world.fake.change(&source, |held| held.bytes = 3 << 20);
    let quota = ModifyVolume {
        volume: source.clone(),
        operation: world.operation(),
        quota_bytes: Some(Some(9 << 20)),
        labels: None,
        parameters: BTreeMap::new(),
    };
    world.hub.modify_volume(quota).await.unwrap();
    let wanted = CreateVolume {
        source: Some(VolumeSource::Volume(source.clone())),
        ..world.wanted("pvc-1")
    };
    let (fork, _) = world.hub.create_volume(wanted.clone()).await.unwrap();
    assert_eq!((fork.quota_bytes, fork.project), (Some(9 << 20), None));
    assert_eq!(fork.source, Some(VolumeSource::Volume(source.clone())));
    assert_eq!(world.fake.look(&fork.id).bytes, 3 << 20);
    let of = world.fake.status(&source).await.unwrap().document;
    let document = world.fake.status(&fork.id).await.unwrap().document;
    assert_eq!((&document.config, &document.graph), (&of.config, &of.graph));
    assert_eq!(document.forked_from.unwrap().project, of.id);
    let again = world.hub.create_volume(wanted).await.unwrap().0;
    assert_eq!(again.id, fork.id);
    let small = CreateVolume {
        quota: QuotaRange::exact(Some(2 << 20)),
        source: Some(VolumeSource::Volume(source)),
        ..world.wanted("pvc-2")
    };
    let refused = world.hub.create_volume(small).await;
    assert!(matches!(refused, Err(HubError::QuotaOutOfRange { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_source_whose_head_has_forgotten_is_forked_for_callers_that_have_seen_no_head() {
    let world = World::new();
    let source = world.create("source").await;
    world.snapshot(&source, "s").await;
    world.fake.forget_operations(&source);
    let source = Some(VolumeSource::Volume(source));
    let wanted = CreateVolume { source, ..world.wanted("pvc-1") };
    world.hub.create_volume(wanted).await.unwrap();
}

#[tokio::test]
async fn a_template_is_forked_by_its_name() {
    let world = World::new();
    let wanted = CreateVolume { labels: labels([("template", "true")]), ..world.wanted("base") };
    let template = world.hub.create_volume(wanted).await.unwrap().0.id;
    let of = |name: &str, of: &str| CreateVolume {
        source: Some(VolumeSource::Template(of.into())),
        ..world.wanted(name)
    };
    let (fork, _) = world.hub.create_volume(of("pvc-1", "base")).await.unwrap();
    assert_eq!(fork.source, Some(VolumeSource::Volume(template.clone())));
    assert!(fork.labels.is_empty(), "a fork of a template is none");
    let refused = world.hub.create_volume(of("pvc-2", "pvc-1")).await;
    assert!(matches!(refused, Err(HubError::NoTemplate { .. })), "{refused:?}");
    world.delete(&template).await;
    let again = world.hub.create_volume(of("pvc-1", "base")).await.unwrap().0;
    assert_eq!(again.id, fork.id, "although the template is gone");
}

#[tokio::test]
async fn a_volume_begins_as_a_snapshot_of_one_that_is_deleted() {
    let world = World::new();
    let source = world.create("source").await;
    world.fake.change(&source, |held| held.bytes = 3 << 20);
    let snapshot = world.snapshot(&source, "s").await.id;
    world.delete(&source).await;
    let from = |name: &str, snapshot: &SnapshotId| CreateVolume {
        source: Some(VolumeSource::Snapshot(snapshot.clone())),
        ..world.wanted(name)
    };
    let (volume, _) = world.hub.create_volume(from("pvc-1", &snapshot)).await.unwrap();
    assert_eq!(volume.source, Some(VolumeSource::Snapshot(snapshot.clone())));
    assert_eq!(world.fake.look(&volume.id).bytes, 3 << 20);
    world.hub.delete_snapshot(snapshot.clone(), world.operation()).await.unwrap();
    let refused = world.hub.create_volume(from("pvc-2", &snapshot)).await;
    assert!(matches!(refused, Err(HubError::NoSnapshot { .. })), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn a_second_call_of_a_name_is_refused_at_once_and_the_first_ends_although_nobody_waits() {
    let world = World::new();
    world.fake.let_go_on(false);
    let (hub, wanted) = (world.hub.clone(), world.wanted("pvc-1"));
    let first = tokio::spawn(async move { hub.create_volume(wanted).await });
    settle().await;
    let refused = at_once(world.hub.create_volume(world.wanted("pvc-1"))).await;
    assert!(matches!(refused, Err(HubError::Busy { .. })), "{refused:?}");
    first.abort();
    settle().await;
    let refused = at_once(world.hub.create_volume(world.wanted("pvc-1"))).await;
    assert!(matches!(refused, Err(HubError::Busy { .. })), "it goes on: {refused:?}");
    world.fake.let_go_on(true);
    settle().await;
    world.create("pvc-1").await;
    assert_eq!(world.fake.count(), 1);
}

#[tokio::test]
async fn many_volumes_begin_as_one_source_at_once() {
    let world = World::new();
    let source = world.create("source").await;
    world.fake.let_go_on(false);
    let calls: Vec<_> = (0..5)
        .map(|n| {
            let source = Some(VolumeSource::Volume(source.clone()));
            let wanted = CreateVolume { source, ..world.wanted(&format!("pvc-{n}")) };
            let hub = world.hub.clone();
            tokio::spawn(async move { hub.create_volume(wanted).await })
        })
        .collect();
    settle().await;
    world.fake.let_go_on(true);
    for call in calls {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn whoever_waits_until_it_is_saved_keeps_nobody_out() {
    let world = World::new();
    world.fake.let_save(false);
    let wanted = CreateVolume { wait_saved: true, ..world.wanted("pvc-1") };
    let waits = |wanted: CreateVolume| {
        let hub = world.hub.clone();
        tokio::spawn(async move { hub.create_volume(wanted).await })
    };
    let calls = [waits(wanted.clone()), waits(wanted.clone())];
    settle().await;
    // the second may have met the first
    assert!(!calls[0].is_finished());
    let unsaved = world.hub.create_volume(CreateVolume { wait_saved: false, ..wanted.clone() });
    assert_eq!(unsaved.await.unwrap().1, Durability::OnThisNode);
    let third = waits(wanted);
    settle().await;
    assert!(!third.is_finished(), "a repetition waits, too");
    world.fake.let_save(true);
    let [first, _] = calls;
    for call in [first, third] {
        assert_eq!(call.await.unwrap().unwrap().1, Durability::Saved);
    }
}

#[tokio::test]
async fn an_empty_volume_is_made_where_the_most_room_is() {
    let env = env();
    let (a, b) = (Fake::new(env.clone()), Fake::new(env.clone()));
    b.set_free(2 << 30);
    let world = World { hub: hub(&[("a", &a), ("b", &b)], &env), fake: a.clone(), env };
    let (first, _) = world.hub.create_volume(world.wanted("pvc-1")).await.unwrap();
    assert_eq!(first.node.as_str(), "b");
    a.set_free(3 << 30);
    let (second, _) = world.hub.create_volume(world.wanted("pvc-2")).await.unwrap();
    assert_eq!(second.node.as_str(), "a");
    b.silence(true);
    assert_eq!(kind(world.hub.create_volume(world.wanted("pvc-3")).await), ErrorKind::Unavailable);
}
