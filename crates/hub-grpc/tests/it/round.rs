//! What is asked arrives, what is answered comes back.

use cove_content::spec::{RETENTION, STORING_INTERVAL};
use cove_hub::volume_hub::*;
use cove_hub::{HubError, VolumeHub};
use cove_types::{OperationId, VolumeId, chain};
use futures::StreamExt;

use crate::fake::Fake;
use crate::world::{SOON, World};

fn operation(n: u8) -> OperationId {
    OperationId([n; 16])
}

fn create(n: u8) -> CreateVolume {
    CreateVolume {
        name: format!("pvc {n}\té").parse().unwrap(),
        operation: operation(n),
        source: None,
        quota: QuotaRange::exact(Some(1 << 30)),
        labels: [("project".to_owned(), "tax-2026".to_owned()), ("empty".into(), String::new())]
            .into(),
        parameters: [(RETENTION.to_owned(), "7".to_owned())].into(),
        wait_saved: true,
    }
}

/// Asks everything that there is to ask, and writes down the answers.
async fn ask_everything(hub: &dyn VolumeHub) -> Vec<String> {
    fn said<T: std::fmt::Debug>(answer: Result<T, HubError>) -> String {
        match answer {
            Ok(answer) => format!("{answer:?}"),
            Err(error) => format!("refused: {}", chain(&error)),
        }
    }
    let mut answers = Vec::new();
    let mut say = |answer: String| answers.push(answer);

    let one = hub.create_volume(create(1)).await.unwrap().0;
    let plain = CreateVolume {
        quota: QuotaRange::default(),
        labels: Default::default(),
        parameters: Default::default(),
        wait_saved: false,
        ..create(2)
    };
    let two = hub.create_volume(plain.clone()).await.unwrap().0;
    say(format!("{one:?} {two:?}"));
    let volume = one.id.clone();
    let both = vec![two.id.clone(), one.id.clone()];
    let snapshots = |volumes: Vec<VolumeId>, is_group, n| SnapshotVolumes {
        volumes,
        name: format!("nightly {n}").parse().unwrap(),
        is_group,
        operation: operation(n),
        wait_saved: false,
    };
    let alone = hub.snapshot(snapshots(vec![volume.clone()], false, 3)).await.unwrap();
    say(format!("{alone:?}"));
    say(said(hub.snapshot(snapshots(vec![volume.clone()], true, 4)).await));
    say(said(hub.snapshot(snapshots(both.clone(), true, 5)).await));
    say(said(hub.snapshot(snapshots(both, false, 6)).await));
    let snapshot = alone[0].id.clone();

    let sources = [
        VolumeSource::Volume(volume.clone()),
        VolumeSource::Snapshot(snapshot.clone()),
        VolumeSource::Template("python".into()),
    ];
    for (n, source) in (10..).zip(sources) {
        let quota = QuotaRange { required_bytes: Some(1 << 20), limit_bytes: Some(1 << 21) };
        let request = CreateVolume { source: Some(source), quota, ..create(n) };
        say(said(hub.create_volume(request).await));
    }
    for (n, (required_bytes, limit_bytes)) in (20..).zip([
        (None, Some(1 << 30)),
        (Some(1 << 30), None),
        (Some(5), Some(5)),
        (Some(1 << 31), Some(1 << 30)),
    ]) {
        let quota = QuotaRange { required_bytes, limit_bytes };
        say(said(hub.create_volume(CreateVolume { quota, ..create(n) }).await));
    }
    say(said(hub.create_volume(CreateVolume { operation: operation(1), ..plain }).await));

    let changes = [
        (None, None),
        (Some(None), Some([("a".to_owned(), "b".to_owned())].into())),
        (Some(Some(1 << 60)), Some(Default::default())),
    ];
    for (n, (quota_bytes, labels)) in (30..).zip(changes) {
        let parameters = [(STORING_INTERVAL.to_owned(), "60".to_owned())].into();
        let (volume, operation) = (volume.clone(), operation(n));
        let request = ModifyVolume { volume, operation, quota_bytes, labels, parameters };
        say(said(hub.modify_volume(request).await));
    }

    for (candidates, budget_bytes) in
        [(vec![], None), (vec!["node-b", "node-a"], Some(0)), (vec!["node-b"], Some(u64::MAX))]
    {
        let candidates = candidates.iter().map(|node| node.parse().unwrap()).collect();
        let volume = volume.clone();
        say(said(hub.ensure_cached(EnsureCached { volume, candidates, budget_bytes }).await));
    }
    say(said(hub.trigger_sync(volume.clone()).await));
    say(said(hub.create_service_volume(volume.clone(), "postgres-16".into()).await));
    say(said(hub.volume_status(volume.clone()).await));
    say(said(hub.volume_status("nobody".parse().unwrap()).await));
    say(said(hub.resolve_volume(Resolve::Name("pvc 2\té".into())).await));
    say(said(hub.resolve_volume(Resolve::Name("none".into())).await));
    say(said(hub.resolve_volume(Resolve::Project("tax-2026".parse().unwrap())).await));

    let filters = [
        SnapshotFilter::default(),
        SnapshotFilter { volume: Some(volume.clone()), only_named: true, ..Default::default() },
        SnapshotFilter { snapshot: Some(snapshot.clone()), ..Default::default() },
        SnapshotFilter { name: Some("nightly 5".into()), ..Default::default() },
        SnapshotFilter { group: Some("group-1".into()), ..Default::default() },
    ];
    for filter in filters {
        let mut page = PageRequest { size: 2, token: String::new() };
        loop {
            let part = hub.list_snapshots(filter.clone(), page.clone()).await.unwrap();
            say(format!("{part:?}"));
            if part.next_token.is_empty() {
                break;
            }
            page.token = part.next_token;
        }
    }
    let page = PageRequest { size: 1, token: one.id.to_string() };
    say(said(hub.list_volumes(page).await));
    say(said(hub.list_volumes(PageRequest { size: 1, token: "no token".into() }).await));

    for (n, force) in [(40, true), (41, false)] {
        let request = RestoreVolume {
            volume: volume.clone(),
            snapshot: snapshot.clone(),
            operation: operation(n),
            force,
            wait_saved: !force,
        };
        say(said(hub.restore_volume(request).await));
    }
    say(said(hub.delete_snapshot(snapshot.clone(), operation(50)).await));
    say(said(hub.delete_snapshot(snapshot, operation(50)).await));
    say(said(hub.capacity(None).await));
    say(said(hub.capacity(Some("node-b".parse().unwrap())).await));

    let mut events = hub.watch_volumes().await.unwrap();
    loop {
        let event = events.next().await.unwrap().unwrap();
        say(format!("{event:?}"));
        if matches!(event, VolumeEvent::Listed) {
            break;
        }
    }
    say(said(hub.delete_volume(volume.clone(), operation(60)).await));
    say(format!("{:?}", events.next().await.unwrap().unwrap()));
    say(said(hub.delete_volume(volume, operation(60)).await));
    answers
}

#[tokio::test]
async fn a_hub_in_another_process_is_the_same_hub() {
    let here = Fake::new();
    let answered_here = ask_everything(&here).await;
    let world = World::start();
    let client = world.client();
    let answered_there = tokio::time::timeout(SOON, ask_everything(&client)).await.unwrap();
    assert_eq!(answered_there.len(), answered_here.len());
    for (there, here) in answered_there.iter().zip(&answered_here) {
        assert_eq!(there, here);
    }
    assert_eq!(world.hub.calls(), here.calls());
    drop(client);
    world.ended().await;
}

#[tokio::test]
async fn a_list_without_a_size_is_whole_and_pages_are_never_longer_than_the_wire_has_them() {
    let world = World::start();
    let client = world.client();
    for n in 0..3 {
        client.create_volume(create(n)).await.unwrap();
    }
    world.hub.calls();
    let all = client.list_volumes(PageRequest::default()).await.unwrap();
    assert_eq!((all.items.len(), all.next_token.as_str()), (3, ""));
    let many = PageRequest { size: u32::MAX, token: String::new() };
    assert_eq!(client.list_volumes(many).await.unwrap().items.len(), 3);
    let asked = "PageRequest { size: 1000, token: \"\" }";
    assert_eq!(world.hub.calls(), [asked, asked]);
}

#[tokio::test]
async fn a_fork_is_a_volume_that_begins_as_another() {
    use crate::pb;
    let world = World::start();
    let one = world.hub.create_volume(create(1)).await.unwrap().0;
    world.hub.calls();
    let request = pb::ForkVolumeRequest {
        volume: one.id.to_string(),
        name: "copy".into(),
        op_id: operation(2).to_string(),
        ..Default::default()
    };
    let reply = world.raw().fork_volume(request.clone()).await.unwrap().into_inner();
    let source = reply.volume.unwrap().source.unwrap().source.unwrap();
    assert_eq!(source, pb::source::Source::Volume(one.id.to_string()));
    let snapshot = format!("{}@abcdefghij23", one.id);
    let op_id = operation(3).to_string();
    let request = pb::ForkVolumeRequest { snapshot: snapshot.clone(), op_id, ..request };
    let reply = world.raw().fork_volume(request).await.unwrap().into_inner();
    let source = reply.volume.unwrap().source.unwrap().source.unwrap();
    assert_eq!(source, pb::source::Source::Snapshot(snapshot));
}
