use cove_content::spec::SpecChange;
use cove_content::volumes::{Moment, NewEntry, VolumeError, VolumeFilter, Volumes};
use cove_types::EntryKind;

use super::*;

fn entry() -> NewEntry {
    NewEntry {
        kind: EntryKind::Manual,
        author: "ada".into(),
        message: None,
        label: None,
        cause: None,
        keep: 5,
    }
}

#[tokio::test]
async fn projects_reach_volumes_through_the_hub() {
    let env = env();
    let (a, b) = (Fake::new(env.clone()), Fake::new(env.clone()));
    b.set_free(2 << 30);
    let hub = hub(&[("a", &a), ("b", &b)], &env);
    let shop = workspace(&hub, &env, "shop").await;
    assert_eq!((a.count(), b.count()), (0, 1), "where the most room is");
    a.set_free(4 << 30);
    let mail = workspace(&hub, &env, "mail").await;
    assert_eq!((a.count(), b.count()), (1, 1));
    let ask = |n: u8| call(OperationId::new(1, [n; 12]), "test", &json!(n));
    let made = hub.snapshots_on(&shop, ask(1)).await;
    assert_eq!(b.look_entries(&shop).await, [made]);
    let both = vec![(ask(2), shop.clone()), (ask(3), mail.clone())];
    let refused = hub.snapshot_together(both, entry()).await.map(drop).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Precondition);
    let refused = hub.diff((shop.clone(), Moment::Now), (mail.clone(), Moment::Now)).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Precondition);
    hub.diff((shop.clone(), Moment::Now), (shop.clone(), Moment::Now)).await.unwrap();
    assert_eq!(hub.list().await.unwrap().len(), 2);
    let absent = hub.status(&"vol-never".parse().unwrap()).await;
    assert!(matches!(absent, Err(VolumeError::NotHere { .. })));
    a.silence(true);
    let unknown = hub.status(&"vol-never".parse().unwrap()).await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::Unavailable, "it may be where nobody answers");
    hub.status(&shop).await.unwrap();
}

#[tokio::test]
async fn a_repetition_of_a_create_goes_where_the_first_one_went() {
    let env = env();
    let (a, b) = (Fake::new(env.clone()), Fake::new(env.clone()));
    let hub = hub(&[("a", &a), ("b", &b)], &env);
    let operation = env.operation_id(0);
    let volume = VolumeId::derive("ada", &operation, 0);
    let model = workspace(&a, &env, "model").await;
    let document = a.status(&model).await.unwrap().document;
    let new = NewVolume { volume, document, spec: VolumeSpec::default() };
    for free in [9_u64 << 30, 0] {
        a.set_free(free);
        let call = call(operation, "create", &json!(1));
        hub.create(call, new.clone(), Source::Empty).await.unwrap();
        assert_eq!((a.count(), b.count()), (2, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_volume_is_not_deleted_while_it_becomes_a_projects_workspace() {
    let world = World::new();
    let volume = world.create("a").await;
    world.fake.let_go_on(false);
    let adopted = SpecChange { stands_alone: Some(false), ..SpecChange::default() };
    let call = call(OperationId::new(1, [1; 12]), "adopt", &json!(1));
    let (hub, of) = (world.hub.clone(), volume.clone());
    let adopts = tokio::spawn(async move { hub.specify(call, of, adopted, None).await.map(drop) });
    settle().await;
    let refused = at_once(world.hub.delete_volume(volume.clone(), world.operation())).await;
    assert!(matches!(refused, Err(HubError::Busy { .. })), "{refused:?}");
    adopts.abort();
    settle().await;
    let refused = at_once(world.hub.delete_volume(volume.clone(), world.operation())).await;
    assert!(matches!(refused, Err(HubError::Busy { .. })), "it goes on: {refused:?}");
    world.fake.let_go_on(true);
    world.hub.wait_idle().await;
    let refused = at_once(world.hub.delete_volume(volume.clone(), world.operation())).await;
    assert!(matches!(refused, Err(HubError::IsWorkspace { .. })), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn a_volume_does_not_become_a_projects_workspace_while_it_is_deleted() {
    let world = World::new();
    let volume = world.create("a").await;
    world.fake.let_go_on(false);
    let (hub, of, operation) = (world.hub.clone(), volume.clone(), world.operation());
    let deletes = tokio::spawn(async move { hub.delete_volume(of, operation).await });
    settle().await;
    let adopted = SpecChange { stands_alone: Some(false), ..SpecChange::default() };
    let call = call(OperationId::new(1, [1; 12]), "adopt", &json!(1));
    let refused = at_once(world.hub.specify(call, volume.clone(), adopted, None)).await;
    let refused = refused.map(drop).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert_eq!(refused.to_string(), format!("another call on volume {volume} is under way"));
    world.fake.let_go_on(true);
    deletes.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_project_whose_volume_is_published_does_not_go_to_the_trash() {
    let world = World::new();
    let shop = world.workspace("shop").await;
    let published = labels([("published-ro.cove.csi.storage", "a")]);
    world.fake.change(&shop, |held| held.spec.labels = published);
    let ask = |n: u8| call(OperationId::new(1, [n; 12]), "test", &json!(n));
    let refused = world.hub.set_trashed(ask(1), shop.clone(), true).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Precondition);
    assert!(refused.to_string().contains("it is published on node a"), "{refused}");
    assert_eq!(world.fake.look(&shop).trashed_at, None);
    world.fake.change(&shop, |held| held.spec.labels.clear());
    for _ in 0..2 {
        world.hub.set_trashed(ask(2), shop.clone(), true).await.unwrap();
    }
    world.fake.change(&shop, |held| {
        held.spec.labels = labels([("published-ro.cove.csi.storage", "a")]);
    });
    world.hub.set_trashed(ask(2), shop.clone(), true).await.expect("it lies there");
    world.hub.set_trashed(ask(3), shop.clone(), false).await.expect("it comes back all the same");
}

#[tokio::test(start_paused = true)]
async fn a_project_does_not_go_to_the_trash_while_its_volume_is_being_published() {
    let world = World::new();
    let shop = world.workspace("shop").await;
    let publish = || ModifyVolume {
        volume: shop.clone(),
        operation: world.operation(),
        quota_bytes: None,
        labels: Some(labels([("published-ro.cove.csi.storage", "a")])),
        parameters: BTreeMap::new(),
    };
    let ask = |n: u8| call(OperationId::new(1, [n; 12]), "trash", &json!(n));
    world.fake.let_go_on(false);
    let (hub, wanted) = (world.hub.clone(), publish());
    let publishes = tokio::spawn(async move { hub.modify_volume(wanted).await });
    settle().await;
    let refused = at_once(world.hub.set_trashed(ask(1), shop.clone(), true)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused}");
    world.fake.let_go_on(true);
    publishes.await.unwrap().unwrap();
    let refused = world.hub.set_trashed(ask(2), shop.clone(), true).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Precondition, "{refused}");
    // nor the other way round
    world.fake.change(&shop, |held| held.spec.labels.clear());
    world.fake.let_go_on(false);
    let (hub, of) = (world.hub.clone(), shop.clone());
    let call = ask(3);
    let trashes = tokio::spawn(async move { hub.set_trashed(call, of, true).await.map(drop) });
    settle().await;
    trashes.abort();
    settle().await;
    let refused = at_once(world.hub.modify_volume(publish())).await;
    assert!(matches!(refused, Err(HubError::Busy { .. })), "it goes on: {refused:?}");
    at_once(world.hub.wait_idle()).await;
    // whoever wants it there, too, waits with the first
    let (hub, of) = (world.hub.clone(), shop.clone());
    let call = ask(4);
    let again = tokio::spawn(async move { hub.set_trashed(call, of, true).await.map(drop) });
    settle().await;
    assert!(!again.is_finished());
    world.fake.let_go_on(true);
    again.await.unwrap().unwrap();
    settle().await;
    let refused = world.hub.modify_volume(publish()).await;
    assert!(matches!(refused, Err(HubError::NoVolume { .. })), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn projects_do_not_wait_for_a_node_that_hangs() {
    let world = World::new();
    let shop = world.workspace("shop").await;
    world.fake.hang(true);
    let called = VolumeFilter { ids: [shop.clone()].into(), ..VolumeFilter::default() };
    for refused in [
        at_once(world.hub.list()).await.map(drop),
        at_once(world.hub.find(&called)).await.map(drop),
        at_once(world.hub.status(&shop)).await.map(drop),
    ] {
        let refused = refused.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
        assert_eq!(refused.to_string(), "it does not answer within 10 s");
    }
}

impl Hub {
    async fn snapshots_on(
        &self,
        volume: &VolumeId,
        call: cove_content::volumes::Call,
    ) -> cove_types::EntryId {
        let made = Volumes::snapshot(self, call, volume.clone(), entry()).await.unwrap();
        made.value.entry.record.id
    }
}

impl Fake {
    async fn look_entries(&self, volume: &VolumeId) -> Vec<cove_types::EntryId> {
        let entries = self.entries(volume).await.unwrap();
        entries.into_iter().map(|entry| entry.record.id).collect()
    }
}
