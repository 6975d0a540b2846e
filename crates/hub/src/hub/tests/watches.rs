use std::collections::BTreeSet;

use futures::StreamExt;

use super::*;

type Events = BoxStream<'static, Result<VolumeEvent, HubError>>;

/// The next event in words; `nothing` when none comes for ten seconds.
async fn next(events: &mut Events) -> String {
    let event = tokio::time::timeout(Duration::from_secs(10), events.next()).await;
    let Ok(event) = event else { return "nothing".into() };
    match event {
        Some(Ok(VolumeEvent::Changed(report))) => format!("changed {}", report.volume.id),
        Some(Ok(VolumeEvent::Deleted(volume))) => format!("deleted {volume}"),
        Some(Ok(VolumeEvent::Listed)) => "listed".into(),
        Some(Err(error)) => format!("{:?}", error.kind()),
        None => "ended".into(),
    }
}

#[tokio::test(start_paused = true)]
async fn who_watches_is_told_what_there_is_and_then_what_changes() {
    let world = World::new();
    let a = world.create("a").await;
    let mut events = world.hub.watch_volumes().await.unwrap();
    assert_eq!(next(&mut events).await, format!("changed {a}"));
    assert_eq!(next(&mut events).await, "listed");
    assert_eq!(next(&mut events).await, "nothing", "nothing has changed");
    let b = world.create("b").await;
    assert_eq!(next(&mut events).await, format!("changed {b}"));
    world.snapshot(&a, "s").await;
    assert_eq!(next(&mut events).await, format!("changed {a}"));
    world.delete(&a).await;
    assert_eq!(next(&mut events).await, format!("deleted {a}"), "although its snapshot stays");
    let shop = world.workspace("shop").await;
    assert_eq!(next(&mut events).await, format!("changed {shop}"));
    world.fake.change(&shop, |held| held.trashed_at = Some(jiff::Timestamp::UNIX_EPOCH));
    assert_eq!(next(&mut events).await, format!("deleted {shop}"));
}

#[tokio::test(start_paused = true)]
async fn watching_ends_with_the_hub_and_with_a_node_that_does_not_answer() {
    let world = World::new();
    let mut events = world.hub.watch_volumes().await.unwrap();
    assert_eq!(next(&mut events).await, "listed");
    world.fake.silence(true);
    assert_eq!(next(&mut events).await, "Unavailable");
    assert_eq!(next(&mut events).await, "ended");
    world.fake.silence(false);
    let mut events = world.hub.watch_volumes().await.unwrap();
    assert_eq!(next(&mut events).await, "listed");
    let hub = world.hub.clone();
    let waits = tokio::spawn(async move { (next(&mut events).await, next(&mut events).await) });
    settle().await;
    hub.shutdown();
    assert_eq!(waits.await.unwrap(), ("Unavailable".into(), "ended".into()));
}

#[tokio::test(start_paused = true)]
async fn one_look_serves_all_who_watch() {
    let world = World::new();
    let a = world.create("a").await;
    let mut all = Vec::new();
    for _ in 0..50 {
        all.push(world.hub.watch_volumes().await.unwrap());
    }
    let before = world.fake.lists();
    for events in &mut all {
        assert_eq!(next(events).await, format!("changed {a}"));
        assert_eq!(next(events).await, "listed");
    }
    assert_eq!(world.fake.lists(), before + 1);
    world.snapshot(&a, "s").await;
    let before = world.fake.lists();
    for events in &mut all {
        assert_eq!(next(events).await, format!("changed {a}"));
    }
    assert_eq!(world.fake.lists(), before + 1, "what has changed is seen once");
    let b = world.create("b").await;
    let mut late = world.hub.watch_volumes().await.unwrap();
    let before = world.fake.lists();
    let told = BTreeSet::from([next(&mut late).await, next(&mut late).await]);
    let both = BTreeSet::from([format!("changed {a}"), format!("changed {b}")]);
    assert_eq!(told, both, "what is told first is of after it was asked for");
    for events in &mut all {
        assert_eq!(next(events).await, format!("changed {b}"));
    }
    assert_eq!(world.fake.lists(), before + 1, "the others are told what the late one has seen");
    drop(late);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.fake.lists(), before + 1, "nobody reads");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_hangs_is_waited_for_once_by_all_who_watch() {
    let world = World::new();
    let mut all = Vec::new();
    for _ in 0..50 {
        all.push(world.hub.watch_volumes().await.unwrap());
    }
    for events in &mut all {
        assert_eq!(next(events).await, "listed");
    }
    world.fake.hang(true);
    let before = world.fake.lists();
    let told = futures::future::join_all(all.iter_mut().map(|events| events.next())).await;
    for event in told {
        assert_eq!(event.unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
    }
    assert_eq!(world.fake.lists(), before + 1);
    for events in &mut all {
        assert_eq!(next(events).await, "ended");
    }
}
