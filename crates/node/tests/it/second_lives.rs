//! Homes that live twice: an old copy put back, two copies at once, pools that are gone.
//! Nothing that any of them saved is lost, and nothing that was on the disk is.

use std::collections::BTreeMap;

use bytes::Bytes;
use cove_content::head::{Head, HeadObject};
use cove_content::volumes::{Moment, Progress, VolumeFilter, Volumes};
use cove_database::NodeDatabase;
use cove_objects::{Fault, Key, MemoryStore, Request};
use cove_types::{Classify, EntryKind, ErrorKind, VolumeId};

use crate::home::{Home, head_key, on_both_pools, tree, volume_of};
use crate::world::{is_root, memory, until};

/// Packs that came since, and their bytes.
fn packs_since(store: &MemoryStore, before: &BTreeMap<Key, Bytes>) -> Vec<(Key, Bytes)> {
    let packs = store.contents().into_iter().filter(|(key, _)| key.as_str().contains("/packs/"));
    packs.filter(|(key, _)| !before.contains_key(key)).collect()
}

fn noise(seed: u32, words: u32) -> Vec<u8> {
    (0..words)
        .flat_map(|n| n.wrapping_mul(n ^ seed).wrapping_mul(0x9e37_79b9).to_le_bytes())
        .collect()
}

async fn an_old_copy_of_the_home_loses_nothing(is_real: bool) {
    let store = memory();
    let mut home = Home::new(&store, is_real);
    home.up().await;
    let volume = home.create("shop").await;
    home.write(&volume, "version", "v1").await;
    let one = home.snapshot(&volume).await;
    home.down().await;
    let mut old = home.copy();

    home.up().await;
    home.write(&volume, "version", "v2").await;
    let two = home.snapshot(&volume).await;
    home.write(&volume, "version", "v3").await;
    home.look(&volume).await;
    home.down().await;

    old.up().await;
    old.write(&volume, "other", "of the old home").await;
    let files = tree(&old.files(&volume).await);
    let three = old.snapshot(&volume).await;
    assert_eq!(old.text(&volume, &Moment::Entry(three), "version").await.unwrap(), "v1");
    assert_eq!(old.text(&volume, &Moment::Entry(two), "version").await.unwrap(), "v2");
    assert_eq!(old.text(&volume, &Moment::Entry(one), "version").await.unwrap(), "v1");
    let texts = old.texts(&volume, "version").await;
    assert!(texts.contains(&"v3".to_owned()), "{texts:?}");
    assert_eq!(old.rescues(&volume).await, 1);
    let problems = old.problems(&volume).await;
    assert!(problems.iter().any(|what| what.contains("another copy")), "{problems:?}");

    // what comes after it is stored from the right base
    old.write(&volume, "version", "v4").await;
    old.look(&volume).await;
    old.assert_whole(&volume).await;
    assert_eq!(old.rescues(&volume).await, 1, "one state, one rescue");
    let rescue = old.node().entries(&volume).await.unwrap();
    let rescue = rescue.into_iter().find(|view| view.record.kind == EntryKind::Rescue).unwrap();
    let pinned = cove_content::volumes::EntryEdit::Pin(true);
    let call = old.call(u32::MAX);
    old.node().edit_entry(call, volume.clone(), rescue.record.id, pinned).await.unwrap();
    assert_eq!(old.problems(&volume).await, [""; 0], "a rescue that somebody has seen");

    let mut other = Home::new(&store, false);
    other.up().await;
    let recovered = other.node().recover(true, Progress::default()).await.unwrap();
    assert!(recovered.lost.is_empty(), "{:?}", recovered.lost);
    let mut found = tree(&other.files(&volume).await);
    assert_eq!(other.text(&volume, &Moment::Now, "version").await.unwrap(), "v4");
    let mut files = files;
    for tree in [&mut files, &mut found] {
        tree.retain(|path, _| path == b"other");
    }
    assert_eq!(found, files);
    old.down().await;
    other.down().await;
}

async fn two_copies_that_save_in_turn_lose_nothing(is_real: bool) {
    let store = memory();
    let mut a = Home::new(&store, is_real);
    a.up().await;
    let volume = a.create("shop").await;
    a.write(&volume, "mine", "both").await;
    a.look(&volume).await;
    a.down().await;
    let mut b = a.copy();
    a.up().await;
    b.up().await;
    let mut saved = vec!["both".to_owned()];
    for round in 0..5 {
        for (name, home) in [("a", &a), ("b", &b)] {
            let text = format!("{name} in round {round}");
            home.write(&volume, "mine", &text).await;
            home.write(&volume, &format!("{name}-{round}"), &text.repeat(5_000)).await;
            match round % 2 {
                0 => drop(home.snapshot(&volume).await),
                _ => home.look(&volume).await,
            }
            assert_eq!(home.text(&volume, &Moment::Now, "mine").await.unwrap(), text);
            // a further save without another one in between rescues nothing
            let rescues = home.rescues(&volume).await;
            home.write(&volume, "again", &text).await;
            home.look(&volume).await;
            assert_eq!(home.rescues(&volume).await, rescues, "{text}");
            saved.push(text);
        }
    }
    b.assert_whole(&volume).await;
    let texts = b.texts(&volume, "again").await;
    for text in &saved[1..] {
        assert!(texts.contains(text), "{text} is lost: {texts:?}");
    }
    // the files of both are those that each of them has
    for (name, home) in [("a", &a), ("b", &b)] {
        let files = tree(&home.files(&volume).await);
        let own = |path: &Vec<u8>| path.starts_with(format!("{name}-").as_bytes());
        assert_eq!(files.keys().filter(|path| own(path)).count(), 5);
    }
    a.down().await;
    b.down().await;
}

async fn a_damaged_file_is_named_and_all_the_rest_comes_back(is_real: bool) {
    let store = memory();
    let mut home = Home::new(&store, false);
    home.up().await;
    let other = home.create("other").await;
    home.write(&other, "kept", "of the other").await;
    home.look(&other).await;
    let volume = home.create("cor").await;
    for n in 0..50 {
        home.write(&volume, &format!("file-{n}"), &format!("content {n}")).await;
    }
    let one = home.snapshot(&volume).await;
    let before = store.contents();
    let files = home.files(&volume).await;
    std::fs::write(files.join("big2"), noise(7, 1 << 20)).unwrap();
    home.look(&volume).await;
    let whole = tree(&files);
    home.down().await;
    let packs = packs_since(&store, &before);
    let [(key, bytes)] = packs.as_slice() else { panic!("{} packs", packs.len()) };
    let mut damaged = bytes.to_vec();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    store.set(key, damaged);

    let mut second = Home::new(&store, is_real);
    second.up().await;
    let (found, lost) = second.recover().await;
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(lost.iter().any(|lost| lost.starts_with("project cor: /big2: ")), "{lost:?}");
    assert_eq!(lost.len(), 1, "{lost:?}");
    let mut wanted = whole.clone();
    wanted.remove(b"big2".as_slice());
    assert_eq!(tree(&second.files(&volume).await), wanted);
    let rescued = second.rescued(&volume, "damage").await;
    assert_eq!(rescued.len(), 1);
    let problems = second.problems(&volume).await;
    assert!(problems.iter().any(|what| what.contains("could be read")), "{problems:?}");
    assert_eq!(second.problems(&other).await, [""; 0]);
    // what is there now is saved as it is, and the damaged state stays
    second.look(&volume).await;
    assert!(second.text(&volume, &Moment::Now, "file-7").await.is_ok());
    assert_ne!(second.head(&volume).now.tree, home.head(&volume).entries[0].root.tree);
    let (_, lost) = second.recover().await;
    assert_eq!(lost, [""; 0], "again");
    second.restore(&volume, one).await;
    second.down().await;

    // repaired, it comes back
    store.set(key, bytes.clone());
    second.up().await;
    second.assert_whole(&volume).await;
    assert_eq!(second.problems(&volume).await, [""; 0], "found whole");
    second.restore(&volume, rescued[0]).await;
    assert_eq!(tree(&second.files(&volume).await), whole);
    second.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_present_state_that_is_lost_leaves_the_newest_entry_that_is_not() {
    if !is_root("a_present_state_that_is_lost_leaves_the_newest_entry_that_is_not") {
        return;
    }
    let store = memory();
    let mut home = Home::new(&store, false);
    home.up().await;
    let volume = home.create("cor").await;
    let empty = store.contents();
    home.write(&volume, "version", "v1").await;
    home.snapshot(&volume).await;
    home.write(&volume, "version", "v2").await;
    let two = home.snapshot(&volume).await;
    let before = store.contents();
    home.write(&volume, "version", "v3").await;
    home.look(&volume).await;
    home.down().await;
    let packs = packs_since(&store, &before);
    packs.iter().for_each(|(key, _)| assert!(store.remove(key)));

    let mut second = Home::new(&store, false);
    second.up().await;
    let (found, lost) = second.recover().await;
    assert_eq!(found, std::slice::from_ref(&volume));
    assert!(lost[0].starts_with("project cor: its present state: "), "{lost:?}");
    assert!(lost[0].contains(two.as_str()), "{lost:?}");
    assert_eq!(second.text(&volume, &Moment::Now, "version").await.unwrap(), "v2");
    second.look(&volume).await;
    second.down().await;

    // nothing at all can be read: the project is there, without files
    let all = packs_since(&store, &empty);
    all.iter().for_each(|(key, _)| assert!(store.remove(key)));
    let mut third = Home::new(&store, false);
    third.up().await;
    let (found, lost) = third.recover().await;
    assert_eq!(found, std::slice::from_ref(&volume));
    assert!(lost[0].starts_with("project cor: its files: "), "{lost:?}");
    let status = third.status(&volume).await;
    assert_eq!(status.path, None);
    let problems = third.problems(&volume).await;
    assert!(problems.iter().any(|what| what.contains("not on this machine")), "{problems:?}");
    for (key, bytes) in all.iter().chain(&packs) {
        store.set(key, bytes.clone());
    }
    let damaged = third.rescued(&volume, "damage").await;
    assert_eq!(damaged.len(), 2, "one of each recovery");
    third.restore(&volume, two).await;
    assert_eq!(third.text(&volume, &Moment::Now, "version").await.unwrap(), "v2");
    let texts = third.texts(&volume, "version").await;
    assert!(texts.contains(&"v3".to_owned()), "{texts:?}");
    third.assert_whole(&volume).await;
    third.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_are_anothers_are_named_and_the_rest_comes_back() {
    if !is_root("heads_that_are_anothers_are_named_and_the_rest_comes_back") {
        return;
    }
    let store = memory();
    let mut home = Home::new(&store, false);
    home.up().await;
    let volume = home.create("shop").await;
    home.write(&volume, "file", "kept").await;
    home.look(&volume).await;
    let moved = VolumeId::derive("tester", &home.env.operation_id(0), 0);
    let twin = VolumeId::derive("tester", &home.env.operation_id(0), 0);
    let broken = VolumeId::derive("tester", &home.env.operation_id(0), 0);
    let head = home.head(&volume);
    store.set(&head_key(&moved), head.encode().unwrap());
    store.set(&head_key(&twin), Head { volume: twin.clone(), ..head }.encode().unwrap());
    store.set(&head_key(&broken), "no head at all");
    let (found, lost) = home.recover().await;
    assert_eq!(found, std::slice::from_ref(&volume), "what is in use here keeps its project");
    assert_eq!(lost.len(), 3, "{lost:?}");
    for id in [&moved, &twin, &broken] {
        assert!(lost.iter().any(|lost| lost.contains(id.as_str())), "{id}: {lost:?}");
    }
    let names_both =
        |lost: &&String| lost.contains("project shop") && lost.contains(volume.as_str());
    assert_eq!(lost.iter().filter(names_both).count(), 1, "{lost:?}");
    let is_of = format!("{moved}: the head is damaged: it is that of volume {volume}");
    assert!(lost.iter().any(|lost| lost.contains(&is_of)), "{lost:?}");
    home.down().await;

    let mut second = Home::new(&store, false);
    second.up().await;
    let (found, lost) = second.recover().await;
    assert_eq!((found.len(), lost.len()), (1, 3), "{lost:?}");
    assert_eq!(second.text(&found[0], &Moment::Now, "file").await.unwrap(), "kept");
    second.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_head_that_cannot_be_read_comes_from_the_store_again() {
    if !is_root("a_kept_head_that_cannot_be_read_comes_from_the_store_again") {
        return;
    }
    let store = memory();
    let mut home = Home::new(&store, false);
    home.up().await;
    let volume = home.create("shop").await;
    home.write(&volume, "version", "saved").await;
    home.look(&volume).await;
    home.write(&volume, "version", "not saved yet").await;
    home.down().await;
    for is_away in [false, true] {
        damage_kept_head(&home, &volume).await;
        if is_away {
            store.fail_when(|_| Some(Fault::BeforeEffect));
        }
        home.up().await;
        if is_away {
            let ills = home.ills().await;
            assert!(ills.iter().any(|what| what.contains(volume.as_str())), "{ills:?}");
            assert!(home.node().list().await.unwrap().is_empty());
            // it is there, and little is known of it
            let (node, call) = (home.node(), || home.call(u32::MAX));
            let find = |ids: &[&VolumeId], names: &[&str]| {
                let ids = ids.iter().map(|id| (*id).clone()).collect();
                let names = names.iter().map(|name| (*name).to_owned()).collect();
                async move { node.find(&VolumeFilter { ids, names }).await.map(drop) }
            };
            let entry = cove_types::EntryId::derive(&call().operation, "snapshot");
            for answer in [
                node.status(&volume).await.map(drop),
                node.entries(&volume).await.map(drop),
                node.delete(call(), volume.clone()).await.map(drop),
                node.remove_entry(call(), volume.clone(), entry).await,
                find(&[&volume], &[]).await,
                find(&[], &["shop"]).await,
                node.find_entries("wanted").await.map(drop),
            ] {
                let refused = answer.unwrap_err();
                assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
                assert!(refused.to_string().contains(volume.as_str()), "{refused}");
            }
            store.heal();
            until("the head is read again", || async {
                home.node().status(&volume).await.map_err(|error| error.to_string())
            })
            .await;
            let called = |name: &str| VolumeFilter {
                names: [name.into()].into(),
                ..VolumeFilter::default()
            };
            assert_eq!(home.node().find(&called("shop")).await.unwrap().len(), 1);
            assert!(home.node().find(&called("other")).await.unwrap().is_empty());
            assert!(home.node().find_entries("wanted").await.unwrap().is_empty());
        }
        let problems = home.problems(&volume).await;
        assert!(problems.iter().any(|what| what.contains("read from the store")), "{problems:?}");
        let text = format!("saved after {is_away}");
        home.write(&volume, "version", &text).await;
        home.look(&volume).await;
        assert_eq!(home.rescues(&volume).await, 0, "the head was this copy's own");
        home.assert_whole(&volume).await;
        home.down().await;
    }
}

/// Another Cove has deleted it: of its name nothing is known here, and nothing need be.
#[tokio::test(flavor = "multi_thread")]
async fn a_kept_head_that_cannot_be_read_keeps_no_name_once_its_volume_is_deleted() {
    if !is_root("a_kept_head_that_cannot_be_read_keeps_no_name_once_its_volume_is_deleted") {
        return;
    }
    let store = memory();
    let (mut home, mut other) = (Home::new(&store, false), Home::new(&store, false));
    home.up().await;
    let volume = home.create("shop").await;
    home.down().await;
    damage_kept_head(&home, &volume).await;
    other.up().await;
    other.recover().await;
    let deleted = other.node().delete(other.call(u32::MAX), volume.clone()).await.unwrap();
    deleted.saved.await.unwrap();
    other.down().await;
    home.up().await;
    home.recover().await;
    for _ in ["while it runs", "after a restart"] {
        let filter = VolumeFilter { ids: [volume.clone()].into(), names: ["shop".into()].into() };
        assert!(home.node().find(&filter).await.unwrap().is_empty());
        let gone = home.node().status(&volume).await.unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::NotFound, "{gone}");
        home.down().await;
        home.up().await;
    }
    home.down().await;
}

/// Of neither Cove's nor the store's record of it anything is left: what it was called is free, once all was looked for.
#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_damaged_here_and_in_the_store_keeps_no_name_after_a_recovery() {
    if !is_root("a_head_that_is_damaged_here_and_in_the_store_keeps_no_name_after_a_recovery") {
        return;
    }
    let store = memory();
    let mut home = Home::new(&store, false);
    home.up().await;
    let volume = home.create("shop").await;
    home.write(&volume, "version", "saved").await;
    home.look(&volume).await;
    home.down().await;
    damage_kept_head(&home, &volume).await;
    store.set(&head_key(&volume), &b"{"[..]);
    home.up().await;
    let other = VolumeFilter { names: ["other".into()].into(), ..VolumeFilter::default() };
    let refused = home.node().find(&other).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
    let (found, lost) = home.recover().await;
    assert_eq!(found.len(), 1, "{lost:?}");
    assert_eq!(home.text(&found[0], &Moment::Now, "version").await.unwrap(), "saved");
    assert!(home.node().find(&other).await.unwrap().is_empty());
    assert!(home.node().find_entries("wanted").await.unwrap().is_empty());
    // it is no less in doubt itself
    let refused = home.node().status(&volume).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
    home.down().await;
}

/// A recovery whose first puts of the head do not arrive, and which reads the head once more for that, keeps the state
/// that another copy saved.
#[tokio::test(flavor = "multi_thread")]
async fn a_state_of_another_copy_is_kept_where_a_kept_head_cannot_be_read() {
    if !is_root("a_state_of_another_copy_is_kept_where_a_kept_head_cannot_be_read") {
        return;
    }
    let store = memory();
    let mut home = Home::new(&store, false);
    home.up().await;
    let volume = home.create("shop").await;
    home.write(&volume, "version", "one").await;
    home.look(&volume).await;
    home.down().await;
    let mut old = home.copy();
    home.up().await;
    home.snapshot(&volume).await;
    home.write(&volume, "version", "the second").await;
    home.look(&volume).await;
    home.down().await;
    damage_kept_head(&old, &volume).await;
    store.fail_when(|_| Some(Fault::BeforeEffect));
    old.up().await;
    store.heal();
    // its first put, and the one that follows when it is found not to have arrived
    let (head, mut failures) = (head_key(&volume), 0);
    store.fail_when(move |request| {
        let fails = failures < 2 && request.is_write() && request.key() == head.as_str();
        failures += u32::from(fails);
        fails.then_some(Fault::BeforeEffect)
    });
    old.recover().await;
    old.write(&volume, "version", "three").await;
    old.look(&volume).await;
    old.assert_whole(&volume).await;
    assert_eq!(old.text(&volume, &Moment::Now, "version").await.unwrap(), "three");
    let texts = old.texts(&volume, "version").await;
    assert!(texts.contains(&"the second".to_owned()), "{texts:?}");
    old.down().await;
}

/// Has what a home remembers of a volume's head be no head.
async fn damage_kept_head(home: &Home, volume: &VolumeId) {
    let database = NodeDatabase::open(&home.path("node.db")).await.unwrap();
    let row = database.find_head(volume).await.unwrap().unwrap();
    let row = cove_database::HeadRow { body: b"{}".to_vec(), ..row };
    database.put_head(&row).await.unwrap();
    database.close().await;
}

async fn a_pool_that_is_gone_is_said_and_mended(is_real: bool) {
    let store = memory();
    let mut home = Home::new(&store, is_real);
    home.up().await;
    let volume = home.create("shop").await;
    home.write(&volume, "version", "saved").await;
    home.look(&volume).await;
    // captured, and its snapshot goes with the pool
    store.fail_when(|request: &Request| request.is_write().then_some(Fault::BeforeEffect));
    home.write(&volume, "version", "captured").await;
    drop(home.capture(&home.call(u32::MAX), &volume).await.saved);
    home.down().await;
    store.heal();
    home.lose_pool();
    home.up().await;
    let (_, lost) = home.recover().await;
    assert_eq!(lost, [""; 0]);
    until("what was captured is said to be lost", || async {
        let told = home.problems(&volume).await;
        let is_told = told.iter().any(|what| what.contains("gone from this node"));
        if is_told { Ok(()) } else { Err(format!("{told:?}")) }
    })
    .await;
    assert_eq!(home.text(&volume, &Moment::Now, "version").await.unwrap(), "saved");
    home.snapshot(&volume).await;
    home.down().await;
    home.lose_pool();
    home.up().await;
    let problems = home.problems(&volume).await;
    assert!(problems.iter().any(|what| what.contains("not on this machine")), "{problems:?}");
    let ills = home.ills().await;
    assert!(ills.iter().any(|what| what.contains("shop")), "{ills:?}");
    let (found, lost) = home.recover().await;
    assert_eq!((found, lost), (vec![volume.clone()], Vec::new()));
    assert_eq!(home.problems(&volume).await, [""; 0]);
    assert_eq!(home.ills().await, [""; 0]);
    home.write(&volume, "version", "goes on").await;
    home.look(&volume).await;
    home.assert_whole(&volume).await;
    home.down().await;
}

/// Its files went with the pool before they were saved: it fails, and whoever asks again under the same id
/// is told so, also when this node has forgotten that.
#[tokio::test(flavor = "multi_thread")]
async fn a_create_that_has_failed_for_good_fails_for_whoever_asks_again() {
    if !is_root("a_create_that_has_failed_for_good_fails_for_whoever_asks_again") {
        return;
    }
    let store = memory();
    let mut home = Home::new(&store, false);
    home.up().await;
    let call = home.call(0);
    let volume = volume_of(&call);
    store.fail_when(|request: &Request| request.is_write().then_some(Fault::BeforeEffect));
    drop(home.create_as(&call, "shop").await.unwrap().saved);
    home.down().await;
    store.heal();
    home.lose_pool();
    home.up().await;
    let tombstone = until("the store says that there never was one", || async {
        let object = store.contents().get(&head_key(&volume)).cloned();
        match object.as_deref().map(HeadObject::decode) {
            Some(Ok(HeadObject::Tombstone(tombstone))) => Ok(tombstone),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert_eq!((tombstone.lived, tombstone.op), (false, Some(call.operation)));
    let database = NodeDatabase::open(&home.path("node.db")).await.unwrap();
    until("the failure is written down", || async {
        database.find_result(&call.operation).await.unwrap().ok_or("it is not".to_owned())
    })
    .await;
    database.close().await;
    let first = home.create_as(&call, "shop").await.err().unwrap();
    let again = home.create_as(&call, "shop").await.err().unwrap();
    assert_eq!((first.kind(), first.to_string()), (again.kind(), again.to_string()));
    home.down().await;

    home.forget_node();
    home.up().await;
    home.recover().await;
    let made = home.create_as(&call, "shop").await.unwrap();
    let error = made.saved.await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Precondition, "{error}");
    assert!(home.node().list().await.unwrap().is_empty());
    assert_eq!(home.pool().list().unwrap(), [], "nothing is left of it");
    home.down().await;
}

on_both_pools!(
    an_old_copy_of_the_home_loses_nothing,
    two_copies_that_save_in_turn_lose_nothing,
    a_damaged_file_is_named_and_all_the_rest_comes_back,
    a_pool_that_is_gone_is_said_and_mended,
);
