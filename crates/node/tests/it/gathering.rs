//! Gathering in a volume's life: interrupted anywhere it leaves a volume that saves on, whose every
//! entry is whole; and what `verify` says of heads and entries.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cove_content::head::Head;
use cove_content::locations::PACKS_MAX;
use cove_content::volumes::{
    EntryEdit, Moment, Progress, Verified, VerifyLevel, VolumeError, Volumes,
};
use cove_objects::{Fault, Key, Request};
use cove_testkit::trees::{describe, difference};
use cove_types::{Durability, VolumeId};

use crate::world::{World, is_root, memory, until};

fn head_key(volume: &VolumeId) -> Key {
    Key::parse(&format!("teams/home/volumes/{volume}/head")).unwrap()
}

fn head(world: &World, volume: &VolumeId) -> Head {
    Head::decode(&world.store.contents()[&head_key(volume)]).unwrap()
}

async fn verify(world: &World, volume: &VolumeId, level: VerifyLevel) -> Verified {
    world.node.verify(volume, level).await.unwrap()
}

const ALL: VerifyLevel = VerifyLevel::Read { part: 1, of: 1 };

#[tokio::test(flavor = "multi_thread")]
async fn a_gathering_that_is_interrupted_at_a_request_leaves_a_volume_that_saves_on() {
    if !is_root("a_gathering_that_is_interrupted_at_a_request_leaves_a_volume_that_saves_on") {
        return;
    }
    let mut world = World::fake("a", &memory()).await;
    let volume = world.create().await;
    let files = world.files(&volume).await;
    let mut number = 0;
    let mut change = || {
        number += 1;
        std::fs::write(files.join(format!("file-{}", number % 5)), format!("{number}")).unwrap();
    };
    change();
    let first = world.snapshot(&volume).await;
    let then = describe(&files).unwrap();
    // the change's pack, a read, the gathered pack, the index, the head
    let read = [0, 20, PACKS_MAX + 1, PACKS_MAX + 2, PACKS_MAX + 3].map(|at| (false, at));
    // the same when nothing has to be read
    let kept = [0, 1, 2, 3].map(|at| (true, at));
    for fault in [Fault::BeforeEffect, Fault::AfterEffect, Fault::Exhausted] {
        for (is_kept, failing) in read.into_iter().chain(kept) {
            while head(&world, &volume).locations.packs.len() < PACKS_MAX - 1 {
                change();
                world.look(&volume).await;
            }
            change();
            if !is_kept {
                world.forget_what_will_be_gathered();
            }
            let count = Arc::new(AtomicUsize::new(0));
            let counting = Arc::clone(&count);
            world.store.fail_when(move |_: &Request| {
                (counting.fetch_add(1, Ordering::SeqCst) == failing).then_some(fault)
            });
            let what = format!("{fault:?} at request {failing}, kept: {is_kept}");
            let now = (volume.clone(), Moment::Now);
            // whether it is said to fail or not, the next one comes through
            let _ = world.node.diff(now.clone(), now.clone()).await;
            world.store.heal();
            assert!(count.load(Ordering::SeqCst) > failing, "{what}: it is not reached");
            until(&what, || async {
                let look = world.node.diff(now.clone(), now.clone()).await;
                look.map(drop).map_err(|error| error.to_string())
            })
            .await;
            change();
            world.look(&volume).await;
            let packs = head(&world, &volume).locations.packs.len();
            assert!(packs < 4, "{what}: {packs} packs are named");
            assert_eq!(verify(&world, &volume, ALL).await.problems, [], "{what}");
        }
        world.restart().await;
    }
    world.restore(&volume, &first).await;
    let lines = difference(&then, &describe(&files).unwrap());
    assert!(lines.is_empty(), "{}", lines.join("\n"));
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_lost_or_cut_or_flipped_or_another_is_found_at_level_0() {
    if !is_root("a_head_that_is_lost_or_cut_or_flipped_or_another_is_found_at_level_0") {
        return;
    }
    let world = World::fake("a", &memory()).await;
    let volume = world.create().await;
    let other = world.create().await;
    world.snapshot(&volume).await;
    let key = head_key(&volume);
    let whole = world.store.contents()[&key].clone();
    let mut damages: Vec<(String, Option<Vec<u8>>)> = vec![
        ("lost".into(), None),
        ("another volume's".into(), Some(world.store.contents()[&head_key(&other)].to_vec())),
    ];
    for at in (0..whole.len()).step_by(whole.len() / 20) {
        damages.push((format!("cut at {at}"), Some(whole[..at].to_vec())));
        let mut flipped = whole.to_vec();
        flipped[at] ^= 1;
        damages.push((format!("flipped at {at}"), Some(flipped)));
    }
    for (what, bytes) in damages {
        match bytes {
            None => assert!(world.store.remove(&key)),
            Some(bytes) => world.store.set(&key, bytes),
        }
        for level in [VerifyLevel::Agree, VerifyLevel::Located, ALL] {
            let problems = verify(&world, &volume, level).await.problems;
            assert!(
                problems.len() == 1 && problems[0].object.as_deref() == Some(key.as_str()),
                "{what} at {level:?}: {problems:?}"
            );
        }
        world.store.set(&key, whole.clone());
    }
    assert_eq!(verify(&world, &volume, ALL).await.problems, []);
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nearest_good_entry_is_named_and_lost_older_entries_are_found_at_level_0() {
    if !is_root("the_nearest_good_entry_is_named_and_lost_older_entries_are_found_at_level_0") {
        return;
    }
    let mut world = World::fake("a", &memory()).await;
    let volume = world.create().await;
    let files = world.files(&volume).await;
    let mut entries = Vec::new();
    for n in 0..20 {
        std::fs::write(files.join("file"), format!("{n}").repeat(100)).unwrap();
        entries.push(world.snapshot(&volume).await);
    }
    let at = head(&world, &volume);
    assert!(at.older.is_some(), "some entries are in the chunk of the older ones");
    // the packs come in the order of saving: that of entry 7 holds its file and its tree alone
    let packs = &at.locations.packs;
    let pack = packs[packs.len() - 20 + 7].id;
    let key = Key::parse(&format!("teams/home/packs/{pack}")).unwrap();
    let whole = world.store.contents()[&key].clone();
    world.restart().await;
    world.store.remove(&key);
    let problems = verify(&world, &volume, VerifyLevel::Located).await.problems;
    let hit = entries[7].to_string();
    assert!(!problems.is_empty());
    for problem in &problems {
        assert_eq!(problem.entry.as_deref(), Some(&*hit), "{problem:?}");
        assert_eq!(problem.object.as_deref(), Some(key.as_str()), "{problem:?}");
        let near = [entries[6].to_string(), entries[8].to_string()];
        assert!(near.contains(problem.nearest_good.as_ref().unwrap()), "{problem:?}");
    }
    world.store.set(&key, whole);

    // the chunk of the older entries, wherever it is
    let mut found = 0;
    for pack in packs {
        let key = Key::parse(&format!("teams/home/packs/{}", pack.id)).unwrap();
        let whole = world.store.contents()[&key].clone();
        world.store.remove(&key);
        let problems = verify(&world, &volume, VerifyLevel::Agree).await.problems;
        found += problems.iter().filter(|problem| problem.what.contains("older entries")).count();
        world.store.set(&key, whole);
    }
    assert_eq!(found, 1, "one pack has it");
    assert_eq!(verify(&world, &volume, ALL).await.problems, []);
    world.node.stop().await;
}

/// The packs that hold a chunk of older entries.
async fn packs_of_older(world: &World, volume: &VolumeId) -> Vec<Key> {
    let packs: Vec<_> =
        world.store.contents().into_keys().filter(|key| key.as_str().contains("/packs/")).collect();
    let mut found = Vec::new();
    for key in packs {
        let whole = world.store.contents()[&key].clone();
        world.store.remove(&key);
        let problems = verify(world, volume, VerifyLevel::Agree).await.problems;
        if problems.iter().any(|problem| problem.what.contains("older entries")) {
            found.push(key.clone());
        }
        world.store.set(&key, whole);
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_list_of_older_entries_keeps_nothing_from_being_saved_and_comes_back() {
    if !is_root("a_lost_list_of_older_entries_keeps_nothing_from_being_saved_and_comes_back") {
        return;
    }
    let mut world = World::fake("a", &memory()).await;
    let volume = world.create().await;
    let files = world.files(&volume).await;
    let mut entries = Vec::new();
    for n in 0..20 {
        std::fs::write(files.join("file"), format!("{n}").repeat(100)).unwrap();
        entries.push(world.snapshot(&volume).await);
    }
    let list = head(&world, &volume).older.unwrap();
    world.restart().await;
    let [key] = packs_of_older(&world, &volume).await.try_into().unwrap();
    let whole = world.store.contents()[&key].clone();
    world.restart().await;
    world.store.remove(&key);

    // as many as make entries move out twice
    for n in 20..45 {
        std::fs::write(files.join("file"), format!("{n}").repeat(100)).unwrap();
        match n % 5 {
            0 => world.look(&volume).await,
            _ => entries.push(world.snapshot(&volume).await),
        }
    }
    let at = head(&world, &volume);
    assert_eq!(at.unread, [list], "the list that is lost is named");
    assert!(at.older.is_some_and(|newer| newer != list));
    assert_eq!(at.entry_count(), entries.len());
    let problems = verify(&world, &volume, VerifyLevel::Agree).await.problems;
    let of_list =
        |problem: &&cove_types::wire::VerifyProblem| problem.what.contains("older entries");
    assert_eq!(problems.iter().filter(of_list).count(), 1, "{problems:?}");
    let health = world.node.status(&volume).await.unwrap();
    assert_eq!(health.unread_entries, list.count);
    assert!(health.problems.iter().any(|problem| problem.what.contains("cannot be read")));

    // what needs the list is refused as unknown, also after a start, and nothing else is
    world.restart().await;
    let edit = |entry, edit| world.node.edit_entry(world.call(), volume.clone(), entry, edit);
    let refused = edit(entries[0], EntryEdit::Pin(true)).await.unwrap_err();
    assert!(matches!(refused, VolumeError::EntriesUnread { .. }), "{refused:?}");
    let label = EntryEdit::Label(Some("v1".parse().unwrap()));
    edit(entries[30], label).await.unwrap();
    world.restore(&volume, &entries[30]).await;

    // it is there again
    world.store.set(&key, whole);
    std::fs::write(files.join("file"), "again").unwrap();
    world.look(&volume).await;
    let at = head(&world, &volume);
    assert_eq!(at.unread, []);
    let views = world.node.entries(&volume).await.unwrap();
    for (n, entry) in entries.iter().enumerate() {
        assert!(views.iter().any(|view| view.record.id == *entry), "entry {n} of {}", views.len());
    }
    edit(entries[0], EntryEdit::Pin(true)).await.unwrap();
    assert_eq!(verify(&world, &volume, ALL).await.problems, []);
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_that_was_accepted_is_saved_although_its_entry_cannot_be_read_any_more() {
    if !is_root("a_fork_that_was_accepted_is_saved_although_its_entry_cannot_be_read_any_more") {
        return;
    }
    let store = memory();
    let mut world = World::fake("a", &store).await;
    let volume = world.create().await;
    let files = world.files(&volume).await;
    let mut entries = Vec::new();
    for n in 0..20 {
        std::fs::write(files.join("file"), format!("{n}").repeat(100)).unwrap();
        entries.push(world.snapshot(&volume).await);
    }
    world.restart().await;
    let [key] = packs_of_older(&world, &volume).await.try_into().unwrap();
    store.fail_when(|request| request.is_write().then_some(cove_objects::Fault::BeforeEffect));
    let moment = Moment::Entry(entries[0]);
    let forked = world.fork_as(&world.call(), &volume, moment, 2).await.unwrap();
    let forks: Vec<VolumeId> = forked.value.iter().map(|fork| fork.volume.clone()).collect();
    std::fs::write(world.files(&forks[0]).await.join("own"), "written since").unwrap();
    world.store.remove(&key);
    world.restart().await;
    store.heal();
    for fork in &forks {
        // it is told when its source has given it a head and what it holds is stored
        world.node.wait_saved(fork).await.unwrap();
        let durability = world.node.status(fork).await.unwrap().durability;
        assert_eq!(durability, Durability::Saved, "{fork}");
    }
    world.node.stop().await;

    let other = World::fake("b", &store).await;
    other.node.recover(true, Progress::default()).await.unwrap();
    for (fork, own) in [(&forks[0], true), (&forks[1], false)] {
        let files = other.files(fork).await;
        assert_eq!(std::fs::read_to_string(files.join("file")).unwrap(), "0".repeat(100));
        assert_eq!(files.join("own").exists(), own);
    }
    other.node.stop().await;
}
