//! How many requests work costs: what a user pays for and waits for.

use std::sync::Arc;

use cove_content::head::Head;
use cove_content::locations::PACKS_MAX;
use cove_content::volumes::Moment;
use cove_objects::{Key, MemoryStore, Request, Store};
use cove_types::VolumeId;

use crate::world::{World, is_root, memory};

/// Writes down the requests that `work` makes, one line each.
struct Log(Arc<std::sync::Mutex<Vec<String>>>);

impl Log {
    fn of(store: &MemoryStore) -> Self {
        let lines = Arc::new(std::sync::Mutex::new(Vec::new()));
        let writing = Arc::clone(&lines);
        store.fail_when(move |request: &Request| {
            let verb = match request {
                Request::Get(_) => "get",
                Request::GetRange(..) => "get range of",
                Request::GetTail(..) => "get tail of",
                Request::PutIfAbsent(_) => "create",
                Request::PutIfMatch(_) => "replace",
                Request::List(_) => "list",
                Request::Delete(_) => "delete",
            };
            let kind = request.key().split('/').nth(2).unwrap_or(request.key());
            let kind = match kind {
                "volumes" => "head",
                "packs" => "pack",
                "indexes" => "index",
                other => other,
            };
            writing.lock().unwrap().push(format!("{verb} {kind}"));
            None
        });
        Self(lines)
    }

    /// What was asked since the last call.
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

async fn costs_what_it_must(world: &World) {
    let volume = world.create().await;
    let files = world.files(&volume).await;
    for n in 0..50 {
        std::fs::write(files.join(format!("file-{n}")), format!("content {n}")).unwrap();
    }
    world.look(&volume).await;
    let log = Log::of(&world.store);
    let before = world.store.requests();

    world.look(&volume).await;
    assert_eq!(log.take(), [""; 0], "a look without a change");
    assert_eq!(world.store.requests(), before, "a look without a change");

    std::fs::write(files.join("file-7"), "another content").unwrap();
    world.look(&volume).await;
    assert_eq!(log.take(), ["create pack", "replace head"], "a small change");

    std::fs::write(files.join("file-8"), "yet another").unwrap();
    let first = world.snapshot(&volume).await;
    assert_eq!(log.take(), ["create pack", "replace head"], "a snapshot of a small change");

    // the document lies in a pack since the first entry
    world.snapshot(&volume).await;
    assert_eq!(log.take(), ["replace head"], "a named snapshot of an unchanged state");

    world.look(&volume).await;
    assert_eq!(log.take(), [""; 0], "a look after snapshots of unchanged states");

    let fork = world.fork(&volume, Moment::Now).await;
    assert_eq!(log.take(), ["create head"], "a fork of a saved state");

    world.look(&fork).await;
    assert_eq!(log.take(), [""; 0], "a look at an unchanged fork");

    world.fork(&volume, Moment::Entry(first)).await;
    assert_eq!(log.take(), ["create head"], "a fork of an entry");

    let forks = world.fork_as(&world.call(), &volume, Moment::Now, 3).await.unwrap();
    forks.saved.await.unwrap();
    assert_eq!(log.take(), ["create head"; 3], "three forks at once");

    let files = world.files(&fork).await;
    std::fs::write(files.join("file-9"), "the fork goes its own way").unwrap();
    world.look(&fork).await;
    assert_eq!(log.take(), ["create pack", "replace head"], "a small change of a fork");
    world.node.stop().await;
}

fn packs_named(world: &World, volume: &VolumeId) -> usize {
    let key = Key::parse(&format!("teams/home/volumes/{volume}/head")).unwrap();
    Head::decode(&world.store.contents()[&key]).unwrap().locations.packs.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_64th_save_gathers_small_packs_and_the_next_reads_nothing() {
    if !is_root("every_64th_save_gathers_small_packs_and_the_next_reads_nothing") {
        return;
    }
    let mut world = World::fake("a", &memory()).await;
    let volume = world.create().await;
    let files = world.files(&volume).await;
    let small = ["create pack", "replace head"];
    let log = Log::of(&world.store);
    let mut number = 0;
    let mut change = || {
        number += 1;
        std::fs::write(files.join(format!("file-{}", number % 7)), format!("{number}")).unwrap();
    };
    for _ in 0..2 {
        while packs_named(&world, &volume) < PACKS_MAX - 1 {
            change();
            log.take();
            world.look(&volume).await;
            assert_eq!(log.take(), small, "a small change");
        }
        change();
        world.look(&volume).await;
        let asked = log.take();
        // the pack of the change, the packs that are gathered, the index that is merged
        let mut wanted = vec!["create pack".to_owned()];
        wanted.extend(vec!["get range of pack".to_owned(); PACKS_MAX]);
        wanted.extend(["create pack", "create index", "replace head"].map(str::to_owned));
        let merged = asked.iter().position(|request| request == "get index");
        let without: Vec<_> =
            asked.iter().filter(|request| *request != "get index").cloned().collect();
        assert_eq!(without, wanted, "the 64th pack");
        assert!(merged.is_none_or(|at| at == 1), "{asked:?}");
        assert_eq!(packs_named(&world, &volume), 0);

        change();
        world.look(&volume).await;
        assert_eq!(log.take(), small, "a small change after a gathering");
    }

    world.restart().await;
    log.take();
    change();
    world.look(&volume).await;
    let asked = log.take();
    assert!(
        asked.iter().all(|request| !request.contains("index")),
        "after a start, indexes come from the disk: {asked:?}"
    );
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_the_fake_pool_work_costs_what_it_must() {
    if is_root("on_the_fake_pool_work_costs_what_it_must") {
        costs_what_it_must(&World::fake("a", &memory()).await).await;
    }
}

mod live {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn work_costs_what_it_must() {
        if is_root("work_costs_what_it_must") {
            costs_what_it_must(&World::on_loop("a", &memory()).await).await;
        }
    }
}
