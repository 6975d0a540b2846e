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
