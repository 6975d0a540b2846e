//! How many requests work costs: what a user pays for and waits for.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cove_content::head::Head;
use cove_content::locations::PACKS_MAX;
use cove_content::volumes::{Moment, VerifyLevel, Volumes};
use cove_env::Env;
use cove_objects::{Key, S3Config, S3Store, SILENCE_MAX, Store};
use cove_testkit::S3Server;
use cove_testkit::proof::{figure, rounds};
use cove_types::{EntryId, TreePath, VolumeId};

use crate::watched::Watched;
use crate::world::{World, is_root, memory};

/// A store of this test's own on a real S3 server; `None` when skipping it was decided.
fn bucket() -> Option<Arc<dyn Store>> {
    static SERVER: OnceLock<Option<S3Server>> = OnceLock::new();
    let server = SERVER.get_or_init(S3Server::start).as_ref()?;
    let env = Env::system();
    let config = S3Config {
        bucket: server.bucket.clone(),
        prefix: format!("requests-{}", env.operation_id(0)),
        region: "us-east-1".into(),
        endpoint: Some(server.endpoint.clone()),
        access_key: server.access_key.clone(),
        secret_key: server.secret_key.clone(),
        session_token: None,
        silence_max: SILENCE_MAX,
    };
    Some(Arc::new(S3Store::open(config, env).unwrap()))
}

async fn costs_what_it_must(world: &World, log: &Watched) {
    let volume = world.create().await;
    let files = world.files(&volume).await;
    for n in 0..50 {
        std::fs::write(files.join(format!("file-{n}")), format!("content {n}")).unwrap();
    }
    world.look(&volume).await;
    log.take();

    world.look(&volume).await;
    assert_eq!(log.lines(), [""; 0], "a look without a change");

    std::fs::write(files.join("file-7"), "another content").unwrap();
    world.look(&volume).await;
    assert_eq!(log.lines(), ["create pack", "replace head"], "a small change");

    std::fs::write(files.join("file-8"), "yet another").unwrap();
    let first = world.snapshot(&volume).await;
    assert_eq!(log.lines(), ["create pack", "replace head"], "a snapshot of a small change");

    // the document lies in a pack since the first entry
    world.snapshot(&volume).await;
    assert_eq!(log.lines(), ["replace head"], "a named snapshot of an unchanged state");

    // what the head only names from the 17th on is named again, and moved out again once in eight
    let mut written = 0;
    for _ in 0..40 {
        world.snapshot(&volume).await;
        match log.lines() {
            lines if lines == ["replace head"] => {}
            lines => {
                assert_eq!(lines, ["create pack", "replace head"], "entries are moved out");
                written += 1;
            }
        }
    }
    assert!(written <= 5, "of 40 snapshots of an unchanged state {written} wrote older entries");

    world.look(&volume).await;
    assert_eq!(log.lines(), [""; 0], "a look after snapshots of unchanged states");

    let fork = world.fork(&volume, Moment::Now).await;
    assert_eq!(log.lines(), ["create head"], "a fork of a saved state");

    world.look(&fork).await;
    assert_eq!(log.lines(), [""; 0], "a look at an unchanged fork");

    world.fork(&volume, Moment::Entry(first)).await;
    assert_eq!(log.lines(), ["create head"], "a fork of an entry");

    let forks = world.fork_as(&world.call(), &volume, Moment::Now, 3).await.unwrap();
    forks.saved.await.unwrap();
    assert_eq!(log.lines(), ["create head"; 3], "three forks at once");

    let files = world.files(&fork).await;
    std::fs::write(files.join("file-9"), "the fork goes its own way").unwrap();
    world.look(&fork).await;
    assert_eq!(log.lines(), ["create pack", "replace head"], "a small change of a fork");
    world.node.stop().await;
}

async fn packs_named(store: &dyn Store, volume: &VolumeId) -> usize {
    let key = Key::parse(&format!("teams/home/volumes/{volume}/head")).unwrap();
    let head = store.get(&key, 1 << 20).await.unwrap();
    Head::decode(&head.bytes).unwrap().locations.packs.len()
}

async fn every_64th_save_costs_two_more(store: Arc<dyn Store>, is_real: bool) {
    let log = Watched::new(Arc::clone(&store));
    let mut world = World::of("a", Arc::clone(&log) as _, is_real).await;
    let volume = world.create().await;
    let files = world.files(&volume).await;
    let small = ["create pack", "replace head"];
    let mut number = 0;
    let mut change = || {
        number += 1;
        std::fs::write(files.join(format!("file-{}", number % 7)), format!("{number}")).unwrap();
    };
    for _ in 0..2 {
        while packs_named(&*store, &volume).await < PACKS_MAX - 1 {
            change();
            log.take();
            world.look(&volume).await;
            assert_eq!(log.lines(), small, "a small change");
        }
        change();
        world.look(&volume).await;
        // the pack of the change, and what was gathered into one
        let wanted = ["create pack", "create pack", "create index", "replace head"];
        assert_eq!(log.lines(), wanted, "the 64th pack");
        assert_eq!(packs_named(&*store, &volume).await, 0);

        change();
        world.look(&volume).await;
        assert_eq!(log.lines(), small, "a small change after a gathering");
    }

    world.restart().await;
    log.take();
    change();
    world.look(&volume).await;
    let asked = log.lines();
    assert!(
        asked.iter().all(|request| !request.contains("index")),
        "after a start, indexes come from the disk: {asked:?}"
    );
    let verified = world.node.verify(&volume, VerifyLevel::Read { part: 1, of: 1 }).await.unwrap();
    assert_eq!(verified.problems, []);
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_the_fake_pool_every_64th_save_costs_two_more() {
    if is_root("on_the_fake_pool_every_64th_save_costs_two_more") {
        every_64th_save_costs_two_more(memory(), false).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_the_fake_pool_work_costs_what_it_must() {
    if is_root("on_the_fake_pool_work_costs_what_it_must") {
        let log = Watched::new(memory());
        costs_what_it_must(&World::of("a", Arc::clone(&log) as _, false).await, &log).await;
    }
}

mod live {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn work_costs_what_it_must() {
        if !is_root("work_costs_what_it_must") {
            return;
        }
        let Some(store) = bucket() else { return };
        let log = Watched::new(store);
        let world = World::of("a", Arc::clone(&log) as _, true).await;
        costs_what_it_must(&world, &log).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn every_64th_save_costs_two_more() {
        if !is_root("every_64th_save_costs_two_more") {
            return;
        }
        let Some(store) = bucket() else { return };
        super::every_64th_save_costs_two_more(store, true).await;
    }

    /// Files of a few bytes, each of them another, and so as many chunks.
    fn write_files(dir: &Path, count: usize) {
        for number in 0..count {
            let dir = dir.join(format!("dir-{}", number / 1_000));
            if number % 1_000 == 0 {
                std::fs::create_dir(&dir).unwrap();
            }
            std::fs::write(dir.join(format!("file-{number}")), format!("of {count}: {number}"))
                .unwrap();
        }
    }

    /// The most trips of a read of one file at an entry, on a machine that knows the project's head and nothing
    /// else: what a recovery reads, of indexes too, it has lost again.
    async fn trips_of_a_cold_read(chunks: usize) -> Option<usize> {
        let store = bucket()?;
        let world = World::of("a", Arc::clone(&store), true).await;
        let volume = world.create().await;
        let empty = world.snapshot(&volume).await;
        let files = world.files(&volume).await;
        tokio::task::spawn_blocking(move || write_files(&files, chunks)).await.unwrap();
        let full = world.snapshot(&volume).await;
        // as many young packs as there can be, so that as many footers are read
        let files = world.files(&volume).await;
        for number in 0..60 {
            std::fs::write(files.join("changing"), format!("{number}")).unwrap();
            world.look(&volume).await;
        }
        let many = world.snapshot(&volume).await;
        // what a recovery copies is what there is now: nothing
        world.restore(&volume, &empty).await;
        world.node.stop().await;

        let mut most = 0;
        for entry in [full, many] {
            let log = Watched::new(Arc::clone(&store));
            let mut world = World::of("b", Arc::clone(&log) as _, true).await;
            let recovered = world.node.recover(true, Default::default()).await.unwrap();
            assert!(recovered.lost.is_empty(), "{:?}", recovered.lost);
            world.restart_with_an_empty_cache().await;
            log.take();
            log.each_takes(Duration::from_millis(50));
            let number = chunks / 2;
            let text = read(&world, &volume, entry, number).await;
            assert_eq!(text, format!("of {chunks}: {number}"));
            let asked = log.take();
            assert!(asked.trips <= 12, "{} trips: {:?}", asked.trips, asked.lines);
            let name = format!("requests of a cold read of one of {chunks} chunks");
            figure(&name, format!("{} in {} round trips", asked.lines.len(), asked.trips));
            most = most.max(asked.trips);
            world.node.stop().await;
        }
        Some(most)
    }

    async fn read(world: &World, volume: &VolumeId, entry: EntryId, number: usize) -> String {
        let path = format!("dir-{}/file-{number}", number / 1_000);
        let path = TreePath::from_bytes(path.as_bytes()).unwrap();
        let read = world.node.read(volume, &Moment::Entry(entry), &path, None).await;
        let (_, mut reader) = read.unwrap();
        let read = tokio::task::spawn_blocking(move || {
            let mut text = String::new();
            std::io::Read::read_to_string(&mut reader, &mut text).unwrap();
            text
        });
        read.await.unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_cold_read_of_one_file_takes_few_round_trips_at_any_size() {
        if !is_root("a_cold_read_of_one_file_takes_few_round_trips_at_any_size") {
            return;
        }
        for chunks in [1_000, rounds(20_000, 1_000_000)] {
            if trips_of_a_cold_read(chunks).await.is_none() {
                return;
            }
        }
    }
}
