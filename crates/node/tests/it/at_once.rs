//! The same call, twice at once: one makes what is asked for, and both are told of it.

use std::io::{Cursor, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use cove_btrfs::SubvolumePath;
use cove_content::document::ProjectDocument;
use cove_content::volumes::{Call, Moment, Source, VolumeError, Volumes};
use cove_testkit::proof::rounds;
use cove_types::{Classify, ErrorKind, VolumeId};
use futures::future::join_all;
use futures::poll;

use crate::world::{DEADLINE, World, is_root, memory, until};

/// An archive of nothing that comes only when it is let in.
struct Slow {
    begun: Sender<()>,
    comes: Receiver<()>,
    rest: Cursor<Vec<u8>>,
}

impl Read for Slow {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        if self.rest.position() == 0 {
            self.begun.send(()).unwrap();
            self.comes.recv().unwrap();
        }
        self.rest.read(to)
    }
}

/// A volume is saved, there are so many, and nothing is left in the pool of what was being made.
async fn made_once(world: &World, volume: &VolumeId, count: usize) {
    let status = tokio::time::timeout(DEADLINE, world.node.store(volume)).await;
    let status = status.expect("it is saved").unwrap();
    assert!(status.problems.is_empty(), "{:?}", status.problems);
    assert_eq!(world.node.list().await.unwrap().len(), count);
    let pool = world.pool.get();
    until("what was built is gone", || async {
        let places = pool.list().unwrap();
        let left: Vec<_> =
            places.iter().filter(|place| matches!(place, SubvolumePath::Incoming(_))).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_that_comes_again_while_the_first_is_slow_waits_for_it_and_is_told_the_same() {
    if !is_root("a_create_that_comes_again_while_the_first_is_slow…") {
        return;
    }
    for is_first_gone in [false, true] {
        let world = Arc::new(World::fake("a", &memory()).await);
        let call = world.call_since(0);
        let volume = VolumeId::derive("tester", &call.operation, 0);
        let create = |source: Source| {
            let (world, call, volume) = (Arc::clone(&world), call.clone(), volume.clone());
            tokio::spawn(async move { world.create_from(&call, &volume, source).await })
        };
        let (begun, begins) = channel();
        let (let_in, comes) = channel();
        let rest = Cursor::new(vec![0; 1024]);
        let first = create(Source::Archive(Box::new(Slow { begun, comes, rest })));
        tokio::task::spawn_blocking(move || begins.recv().unwrap()).await.unwrap();
        if is_first_gone {
            // as when the program that asked is killed: what it began goes on
            first.abort();
        }
        let mut second = create(Source::Empty);
        let waited = tokio::time::timeout(Duration::from_millis(500), &mut second).await;
        assert!(waited.is_err(), "it ended before the first");
        let_in.send(()).unwrap();
        let mut made = vec![second.await.unwrap().unwrap()];
        if !is_first_gone {
            made.push(first.await.unwrap().unwrap());
        }
        for made in made {
            assert_eq!(made.value.0.volume, volume);
            let saved = tokio::time::timeout(DEADLINE, made.saved).await;
            assert_eq!(saved.expect("both ends are told").unwrap().0.volume, volume);
        }
        made_once(&world, &volume, 1).await;
        world.node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_one_operation_at_once_make_one_volume() {
    if !is_root("calls_of_one_operation_at_once_make_one_volume") {
        return;
    }
    for _ in 0..rounds(20, 200) {
        let world = World::fake("a", &memory()).await;
        let call = world.call_since(0);
        let volume = VolumeId::derive("tester", &call.operation, 0);
        let made = join_all((0..4).map(|_| world.create_as(&call, &volume))).await;
        for made in made {
            let saved = tokio::time::timeout(DEADLINE, made.unwrap().saved).await;
            assert_eq!(saved.expect("each end is told").unwrap().0.volume, volume);
        }
        made_once(&world, &volume, 1).await;
        let call = world.call();
        let forks = (0..4).map(|_| world.fork_as(&call, &volume, Moment::Now, 1));
        let mut fork = None;
        for made in join_all(forks).await {
            let saved = tokio::time::timeout(DEADLINE, made.unwrap().saved).await;
            fork = Some(saved.expect("each end is told").unwrap().remove(0).volume);
        }
        made_once(&world, &fork.unwrap(), 2).await;
        world.node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_volumes_under_one_operation_at_once_one_is_made_whole() {
    if !is_root("of_two_volumes_under_one_operation_at_once_one_is_made_whole") {
        return;
    }
    for _ in 0..rounds(20, 200) {
        let world = World::fake("a", &memory()).await;
        let call = world.call_since(0);
        let other = Call { request: *b"another.", ..call.clone() };
        let volumes = [0, 1].map(|n| VolumeId::derive("tester", &call.operation, n));
        let (a, b) = tokio::join!(
            world.create_as(&call, &volumes[0]),
            world.create_as(&other, &volumes[1]),
        );
        let (made, refused) = match (a, b) {
            (Ok(made), Err(refused)) | (Err(refused), Ok(made)) => (made, refused),
            (Ok(_), Ok(_)) => panic!("one operation has made two volumes"),
            (Err(a), Err(b)) => panic!("none is made: {a}; {b}"),
        };
        assert!(matches!(refused, VolumeError::OtherRequest), "{refused}");
        let saved = tokio::time::timeout(DEADLINE, made.saved).await;
        let volume = saved.expect("its end is told").unwrap().0.volume;
        made_once(&world, &volume, 1).await;
        world.node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_its_turn_is_captured_although_nobody_waits_for_it_any_more() {
    if !is_root("what_waits_for_its_turn_is_captured_although_nobody_waits_for_it_any_more") {
        return;
    }
    let world = World::fake("turns", &memory()).await;
    let volume = world.create().await;
    let entry = world.snapshot(&volume).await;
    let document = world.node.status(&volume).await.unwrap().document;
    let other = ProjectDocument { name: "another".into(), ..document };
    let calls = [world.call(), world.call(), world.call()];
    {
        let [first, removal, change] = calls;
        let mut has_turn = Box::pin(world.snapshot_as(&first, &volume));
        let mut removes = world.node.remove_entry(removal, volume.clone(), entry);
        let mut describes = world.node.describe(change, volume.clone(), other);
        assert!(poll!(&mut has_turn).is_pending());
        assert!(poll!(&mut removes).is_pending() && poll!(&mut describes).is_pending());
    }
    until("both are captured", || async {
        let entries = world.node.entries(&volume).await.unwrap();
        let is_gone = entries.iter().all(|view| view.record.id != entry);
        let name = world.node.status(&volume).await.unwrap().document.name;
        (is_gone && name == "another").then_some(()).ok_or(format!("{is_gone} {name}"))
    })
    .await;
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_one_volumes_from_the_arrival_of_the_call_that_makes_it() {
    if !is_root("a_name_is_one_volumes_from_the_arrival_of_the_call_that_makes_it") {
        return;
    }
    let world = Arc::new(World::fake("a", &memory()).await);
    let source = world.create().await;
    let calls = [world.call_since(0), world.call_since(0)];
    let new = |call: &Call, name: &str| world.named(call, name);
    let (begun, begins) = channel();
    let (let_in, comes) = channel();
    let slow = Slow { begun, comes, rest: Cursor::new(vec![0; 1024]) };
    let first = {
        let (world, call, new) = (Arc::clone(&world), calls[0].clone(), new(&calls[0], "data"));
        tokio::spawn(
            async move { world.node.create(call, new, Source::Archive(Box::new(slow))).await },
        )
    };
    tokio::task::spawn_blocking(move || begins.recv().unwrap()).await.unwrap();
    // as a Hub asks that was started meanwhile, for a caller that repeats under an id of its own
    let create = |name: &str| {
        let call = calls[1].clone();
        world.node.create(call.clone(), new(&call, name), Source::Empty)
    };
    let fork = |name: &str| {
        let call = world.call();
        let targets = vec![new(&call, name)];
        world.node.fork(call, source.clone(), Moment::Now, targets)
    };
    let both = || async {
        let refused = [create("data").await.err(), fork("data").await.err()];
        refused.map(|error| error.map(|error| error.kind()))
    };
    assert_eq!(both().await, [Some(ErrorKind::Conflict); 2], "while it is made");
    let_in.send(()).unwrap();
    let made = first.await.unwrap().unwrap();
    assert_eq!(both().await, [Some(ErrorKind::Conflict); 2], "when it is made");
    let again = world.node.create(calls[0].clone(), new(&calls[0], "data"), Source::Empty).await;
    assert_eq!(again.unwrap().value.0.volume, made.value.0.volume, "the same call");
    fork("other").await.unwrap();
    made.saved.await.unwrap();
}
