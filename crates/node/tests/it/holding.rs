//! What is known of the store: that it does not answer, and that another has it.

use std::sync::Arc;
use std::time::Duration;

use cove_content::volumes::{Progress, VolumeError, VolumeFilter, Volumes};
use cove_env::{Env, ManualClock, SeededChance};
use cove_node::Holding;
use cove_types::wire::Check;
use cove_types::{Classify, EntryId, ErrorKind, VolumeId};

use crate::door::Door;
use crate::world::{World, is_root, memory, until};

async fn check(world: &World, name: &str) -> Check {
    let checks = world.node.doctor().await;
    checks.into_iter().find(|check| check.name == name).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_hangs_is_named_and_keeps_no_start_waiting() {
    if !is_root("a_store_that_hangs_is_named_and_keeps_no_start_waiting") {
        return;
    }
    let store = memory();
    let door = Door::before(&store);
    let mut world = World::behind("a", &store, &door).await;
    let volume = world.create().await;
    assert!(check(&world, "object store").await.ok);
    let shut = door.shut();
    let captured = world.snapshot_as(&world.call(), &volume).await.unwrap();
    let saving = check(&world, "saving").await;
    assert!(saving.ok, "it is just being saved: {}", saving.what);
    assert!(saving.what.contains("being saved"), "{}", saving.what);
    let named = check(&world, "object store").await;
    assert!(!named.ok && named.what.contains("does not answer"), "{}", named.what);
    let status = world.node.status(&volume).await.unwrap();
    assert_eq!(status.store, "unreachable");
    assert!(status.problems.iter().any(|problem| problem.what.contains("does not answer")));

    drop(captured);
    // less than the 120 s for which a start waits for another Cove's hold to end
    let restarted = tokio::time::timeout(Duration::from_secs(60), world.restart()).await;
    restarted.expect("it starts without the store");
    let holding = world.node.holding();
    assert!(
        matches!(&holding, Holding::Unknown { why } if why.contains("no answer")),
        "{holding:?}"
    );
    drop(shut);
    until("the store is taken once it answers", || async {
        let holding = world.node.holding();
        if holding == Holding::Held { Ok(()) } else { Err(format!("{holding:?}")) }
    })
    .await;
    world.node.wait_saved(&volume).await.unwrap();
    until("the store is well", || async {
        let status = world.node.status(&volume).await.unwrap();
        (status.store == "reachable").then_some(()).ok_or(format!("{status:?}"))
    })
    .await;
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_another_took_is_told_to_whoever_asks() {
    if !is_root("a_store_that_another_took_is_told_to_whoever_asks") {
        return;
    }
    let clock = Arc::new(ManualClock::new("2026-01-01T00:00:00Z".parse().unwrap()));
    let env = Env::new(Arc::clone(&clock) as _, Arc::new(SeededChance::new(7)));
    let store = memory();
    let world = World::with_clock("a", &store, env).await;
    let volume = world.create().await;
    assert_eq!(world.node.status(&volume).await.unwrap().store, "reachable");
    let other = World::fake("b", &store).await;
    other.node.recover(true, Progress::default()).await.unwrap();
    let told = |status: &cove_content::volumes::VolumeStatus| {
        let told = status.problems.iter().find(|problem| problem.what.contains("another Cove"));
        told.map(|problem| problem.since.clone())
    };
    // idle, and long before the hold would be renewed
    clock.advance(Duration::from_secs(6));
    // the store may answer later than a status waits for it; the hold is renewed after 20 s alone
    let told_soon = until("it is told", || async {
        let status = world.node.status(&volume).await.unwrap();
        if status.store == "held_by_another" { Ok(status) } else { Err(status.store) }
    });
    let told_soon = tokio::time::timeout(Duration::from_secs(10), told_soon).await;
    let status = told_soon.expect("whoever asks is told, before the hold is renewed");
    let since = told(&status).expect("it is told");
    clock.advance(Duration::from_secs(60));
    let status = world.node.status(&volume).await.unwrap();
    assert_eq!(told(&status), Some(since), "since the same moment");
    let named = check(&world, "object store").await;
    assert!(!named.ok && named.what.contains("another Cove"), "{}", named.what);
    assert_eq!(named.hint.as_deref(), Some("run `cove recover` to take it over"));
    other.node.stop().await;
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_in_a_store_of_another_is_not_called_absent() {
    if !is_root("what_may_be_in_a_store_of_another_is_not_called_absent") {
        return;
    }
    let store = memory();
    let world = World::fake("a", &store).await;
    let volume = world.create().await;
    world.node.wait_saved(&volume).await.unwrap();
    let other = World::fake("b", &store).await;
    let wanted = |ids: &[&VolumeId]| VolumeFilter {
        ids: ids.iter().copied().cloned().collect(),
        ..VolumeFilter::default()
    };
    let held = |result: Result<(), VolumeError>| matches!(result, Err(VolumeError::HeldByAnother));
    let node = &other.node;
    assert!(held(node.status(&volume).await.map(drop)));
    assert!(held(node.entries(&volume).await.map(drop)));
    assert!(held(node.find(&wanted(&[&volume])).await.map(drop)));
    assert!(held(node.delete(other.call(), volume.clone()).await.map(drop)));
    let entry = EntryId::derive(&other.call().operation, "snapshot");
    assert!(held(node.remove_entry(other.call(), volume.clone(), entry).await));
    assert!(node.find(&wanted(&[])).await.unwrap().is_empty(), "nothing is asked for by its id");
    node.recover(true, Progress::default()).await.unwrap();
    assert_eq!(node.find(&wanted(&[&volume])).await.unwrap().len(), 1);
    // the other way round: what it has it tells, and of the rest it says nothing
    until("it knows that the store is lost", || async {
        let status = world.node.status(&volume).await.unwrap();
        (status.store == "held_by_another").then_some(()).ok_or(format!("{status:?}"))
    })
    .await;
    assert_eq!(world.node.find(&wanted(&[&volume])).await.unwrap().len(), 1);
    let unknown: VolumeId = "prj-unknown".parse().unwrap();
    assert!(held(world.node.find(&wanted(&[&volume, &unknown])).await.map(drop)));
    world.node.stop().await;
    other.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_home_does_not_call_absent_what_may_be_in_a_store_that_has_not_answered() {
    if !is_root("a_new_home_does_not_call_absent_what_may_be_in_a_store_that_has_not_answered") {
        return;
    }
    let store = memory();
    let door = Door::before(&store);
    let shut = door.shut();
    let mut world = World::behind("a", &store, &door).await;
    let unknown: VolumeId = "vol-aaaaaaaaaaaaaaaaaaaaaaaa".parse().unwrap();
    let ids = VolumeFilter { ids: [unknown.clone()].into(), ..VolumeFilter::default() };
    let names = VolumeFilter { names: ["data".to_owned()].into(), ..VolumeFilter::default() };
    let ask = async |world: &World| {
        let found = [world.node.find(&ids).await, world.node.find(&names).await];
        let found = found.map(|found| found.map_err(|error| error.kind()).map(|all| all.len()));
        (world.node.status(&unknown).await.map_err(|error| error.kind()).map(drop), found)
    };
    let (status, found) = ask(&world).await;
    assert_eq!((status, found), (Err(ErrorKind::Unavailable), [Err(ErrorKind::Unavailable); 2]));
    let call = world.call_since(0);
    let volume = VolumeId::derive("tester", &call.operation, 0);
    world.create_as(&call, &volume).await.expect("what is new is made without the store");
    drop(shut);
    until("the store answers", || async {
        let (status, found) = ask(&world).await;
        let is_known = status == Err(ErrorKind::NotFound) && found == [Ok(0); 2];
        is_known.then_some(()).ok_or(format!("{status:?}, {found:?}"))
    })
    .await;
    world.node.wait_saved(&volume).await.unwrap();
    // it remembers that volume, so that it has held the store
    let _shut = door.shut();
    world.restart().await;
    let (status, found) = ask(&world).await;
    assert_eq!((status, found), (Err(ErrorKind::NotFound), [Ok(0); 2]));
    world.node.stop().await;
}
