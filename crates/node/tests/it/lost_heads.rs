//! A head that is lost: the machine that remembers it puts it again; on any other, what the packs of its
//! volume record becomes another volume, once, whatever interrupts it, and the lost one is never written again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cove_content::volumes::{Moment, Progress, Volumes};
use cove_objects::{Fault, Key, MemoryStore, Request};
use cove_testkit::proof::Chance;
use cove_types::{EntryId, VolumeId};

use crate::home::{Home, head_key, on_both_pools};
use crate::world::{is_root, memory, until};

/// The heads in a store.
fn heads(store: &MemoryStore) -> Vec<Key> {
    store.contents().into_keys().filter(|key| key.as_str().ends_with("/head")).collect()
}

/// A project that was saved in two states, of which the first is an entry.
async fn shop(store: &Arc<MemoryStore>, is_real: bool) -> (VolumeId, EntryId) {
    let mut home = Home::new(store, is_real);
    home.up().await;
    let volume = home.create("shop").await;
    home.write(&volume, "version", "first").await;
    let first = home.snapshot(&volume).await;
    home.write(&volume, "version", "second").await;
    home.look(&volume).await;
    home.down().await;
    (volume, first)
}

/// What a recovery on an empty home makes of a lost volume, and what it says.
async fn recovered(home: &mut Home, lost: &VolumeId) -> (VolumeId, Vec<String>) {
    home.up().await;
    let (volumes, said) = home.recover().await;
    let rebuilt = volumes.into_iter().find(|volume| volume.rebuilt_from(lost).is_some());
    (rebuilt.unwrap_or_else(|| panic!("nothing was made of {lost}: {said:?}")), said)
}

/// Waits until what is to be saved has met that the head is lost.
async fn until_head_is_missed(home: &Home, volume: &VolumeId) {
    until("the head is missed", || async {
        let problems = home.status(volume).await.problems;
        match problems.iter().any(|problem| problem.what.contains("the head of this project")) {
            true => Ok(()),
            false => Err(format!("{problems:?}")),
        }
    })
    .await;
}

async fn a_lost_head_is_made_anew_as_another_volume(is_real: bool) {
    let store = memory();
    let (volume, first) = shop(&store, is_real).await;
    let key = head_key(&volume);
    let head = store.contents()[&key].clone();
    assert!(store.remove(&key));

    let mut home = Home::new(&store, is_real);
    let (rebuilt, said) = recovered(&mut home, &volume).await;
    let [said] = said.as_slice() else { panic!("{said:?}") };
    let names = format!(
        "project shop (volume {volume}): its head is missing in the store; its state of 20"
    );
    assert!(said.starts_with(&names) && said.contains(rebuilt.as_str()), "{said}");
    assert_eq!(home.text(&rebuilt, &Moment::Now, "version").await.unwrap(), "second");
    assert_eq!(home.text(&rebuilt, &Moment::Entry(first), "version").await.unwrap(), "first");
    home.assert_whole(&rebuilt).await;
    assert_eq!(heads(&store), [head_key(&rebuilt)], "the lost one is not written again");
    let document = home.status(&rebuilt).await.document;
    assert_eq!(document.slug.as_str(), "shop");
    home.write(&rebuilt, "version", "third").await;
    home.look(&rebuilt).await;

    let (volumes, said) = home.recover().await;
    assert_eq!((volumes, said), (vec![rebuilt.clone()], Vec::new()), "again");
    home.down().await;
    let mut other = Home::new(&store, is_real);
    other.up().await;
    let (volumes, said) = other.recover().await;
    assert_eq!((volumes, said), (vec![rebuilt.clone()], Vec::new()), "on another machine");
    assert_eq!(other.text(&rebuilt, &Moment::Now, "version").await.unwrap(), "third");

    store.set(&key, head);
    let (volumes, said) = other.recover().await;
    assert!(volumes.contains(&volume) && volumes.contains(&rebuilt), "it comes back: {said:?}");
    assert_eq!(other.text(&volume, &Moment::Now, "version").await.unwrap(), "second");
    let project = other.status(&volume).await.document;
    assert_ne!(project.id, other.status(&rebuilt).await.document.id);
    other.down().await;
}

async fn the_machine_that_remembers_a_head_puts_it_again(is_real: bool) {
    let store = memory();
    let (mut home, mut other) = (Home::new(&store, is_real), Home::new(&store, is_real));
    home.up().await;
    let volume = home.create("shop").await;
    let empty = home.create("empty").await;
    home.write(&volume, "version", "first").await;
    let first = home.snapshot(&volume).await;
    home.write(&volume, "version", "second").await;
    home.look(&volume).await;
    let key = head_key(&volume);
    let whole = store.contents()[&key].clone();
    let of_empty = store.contents()[&head_key(&empty)].clone();

    for harmed in [None, Some(whole[..whole.len() / 2].to_vec())] {
        match &harmed {
            None => assert!(store.remove(&key) && store.remove(&head_key(&empty))),
            Some(bytes) => store.set(&key, bytes.clone()),
        }
        // what is saved meanwhile waits for it, and has put packs
        home.write(&volume, "version", "third").await;
        let waiting = home.capture(&home.call(u32::MAX), &volume).await;
        until_head_is_missed(&home, &volume).await;
        let back = home.node().recover(false, Progress::default()).await.unwrap();
        let found = back.rest.await.unwrap();
        let anew: Vec<_> = found.rebuilt.iter().map(|anew| (&anew.lost, &anew.volume)).collect();
        assert!(anew.contains(&(&volume, &volume)), "{anew:?}");
        assert_eq!(anew.contains(&(&empty, &empty)), harmed.is_none(), "{anew:?}");
        assert_eq!((back.lost, found.lost), (Vec::new(), Vec::new()));
        assert!(store.contents()[&head_key(&empty)] == of_empty);
        waiting.saved.await.unwrap();
    }
    home.look(&volume).await;
    assert_eq!(home.ills().await, Vec::<String>::new());
    home.assert_whole(&volume).await;
    assert_eq!(home.text(&volume, &Moment::Entry(first), "version").await.unwrap(), "first");
    home.down().await;
    other.up().await;
    let (mut volumes, said) = other.recover().await;
    volumes.sort();
    let mut both = vec![volume.clone(), empty];
    both.sort();
    assert_eq!((volumes, said), (both, Vec::new()), "on another machine");
    assert_eq!(other.text(&volume, &Moment::Now, "version").await.unwrap(), "third");
    other.down().await;
}

on_both_pools!(
    a_lost_head_is_made_anew_as_another_volume,
    the_machine_that_remembers_a_head_puts_it_again,
);

#[tokio::test(flavor = "multi_thread")]
async fn a_head_is_not_put_again_over_what_another_copy_has_saved() {
    if !is_root("a_head_is_not_put_again_over_what_another_copy_has_saved") {
        return;
    }
    let store = memory();
    let mut home = Home::new(&store, false);
    home.up().await;
    let volume = home.create("shop").await;
    home.write(&volume, "version", "first").await;
    home.look(&volume).await;
    home.down().await;
    let mut copy = home.copy();
    copy.up().await;
    copy.write(&volume, "version", "of the copy").await;
    copy.snapshot(&volume).await;
    copy.down().await;
    store.remove(&head_key(&volume));

    home.up().await;
    // what waits there has put packs at the same place of the history
    home.write(&volume, "version", "of the first").await;
    drop(home.capture(&home.call(u32::MAX), &volume).await.saved);
    until_head_is_missed(&home, &volume).await;
    let (volumes, said) = home.recover().await;
    let rebuilt = volumes.iter().find(|other| other.rebuilt_from(&volume).is_some());
    let rebuilt = rebuilt.unwrap_or_else(|| panic!("{said:?} {volumes:?}"));
    assert_eq!(heads(&store), [head_key(rebuilt)], "the lost one is not written again");
    let files = home.files(&volume).await;
    assert_eq!(std::fs::read_to_string(files.join("version")).unwrap(), "of the first");
    let texts = home.texts(rebuilt, "version").await;
    let now = home.text(rebuilt, &Moment::Now, "version").await.unwrap();
    assert!(now == "of the copy" || texts.contains(&"of the copy".into()), "{now} {texts:?}");
    home.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_gone_with_a_head_is_put_again_from_the_files() {
    if !is_root("what_is_gone_with_a_head_is_put_again_from_the_files") {
        return;
    }
    let store = memory();
    let mut home = Home::new(&store, false);
    home.up().await;
    let volume = home.create("shop").await;
    home.write(&volume, "version", "only here").await;
    home.look(&volume).await;
    let gone: Vec<Key> = store.contents().into_keys().collect();
    let is_of_volume =
        |key: &Key| key.as_str().ends_with("/head") || key.as_str().contains("/packs/");
    for key in gone.iter().filter(|key| is_of_volume(key)) {
        store.remove(key);
    }
    let (volumes, said) = home.recover().await;
    let [said] = said.as_slice() else { panic!("{said:?}") };
    assert!(said.contains("gone from the store") && volumes == [volume.clone()], "{said}");
    home.look(&volume).await;
    home.down().await;
    let mut other = Home::new(&store, false);
    other.up().await;
    let (volumes, said) = other.recover().await;
    assert_eq!((&volumes, said), (&vec![volume.clone()], Vec::new()));
    assert_eq!(other.text(&volume, &Moment::Now, "version").await.unwrap(), "only here");
    other.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_head_that_is_damaged_another_volume_is_made_and_it_stays_as_it_is() {
    if !is_root("of_a_head_that_is_damaged_another_volume_is_made_and_it_stays_as_it_is") {
        return;
    }
    let store = memory();
    let (volume, _) = shop(&store, false).await;
    let key = head_key(&volume);
    let whole = store.contents()[&key].clone();
    let mut flipped = whole.to_vec();
    flipped[whole.len() / 2] ^= 1;
    for harmed in [whole[..whole.len() / 2].to_vec(), flipped] {
        store.set(&key, harmed.clone());
        let mut home = Home::new(&store, false);
        let (rebuilt, said) = recovered(&mut home, &volume).await;
        assert!(said.len() == 1 && said[0].contains(volume.as_str()), "{said:?}");
        assert!(said[0].contains("damaged") && said[0].contains(rebuilt.as_str()), "{said:?}");
        assert_eq!(home.text(&rebuilt, &Moment::Now, "version").await.unwrap(), "second");
        let (volumes, again) = home.recover().await;
        assert_eq!((volumes.as_slice(), again.len()), ([rebuilt].as_slice(), 1), "{again:?}");
        assert_eq!(store.contents()[&key], harmed, "it is left as it is");
        home.down().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_of_a_newer_version_or_one_that_is_kept_from_us_is_not_lost() {
    if !is_root("a_head_of_a_newer_version_or_one_that_is_kept_from_us_is_not_lost") {
        return;
    }
    let store = memory();
    let (volume, _) = shop(&store, false).await;
    let key = head_key(&volume);
    let whole = store.contents()[&key].clone();
    let newer =
        String::from_utf8(whole.to_vec()).unwrap().replace("\"format\":1,", "\"format\":2,");
    assert_ne!(newer.as_bytes(), &whole[..]);
    store.set(&key, newer);
    let mut home = Home::new(&store, false);
    home.up().await;
    let (volumes, said) = home.recover().await;
    assert!(volumes.is_empty() && said.len() == 1, "{volumes:?} {said:?}");
    store.set(&key, whole);
    let asked = key.clone();
    store.fail_when(move |request: &Request| {
        matches!(request, Request::Get(key) if *key == asked).then_some(Fault::BeforeEffect)
    });
    let (volumes, said) = home.recover().await;
    assert!(volumes.is_empty() && said.len() == 1, "{volumes:?} {said:?}");
    store.heal();
    assert_eq!(heads(&store).len(), 1);
    assert_eq!(home.recover().await, (vec![volume], Vec::new()));
    home.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_packs_of_a_session_and_those_that_were_gathered_are_found() {
    if !is_root("the_packs_of_a_session_and_those_that_were_gathered_are_found") {
        return;
    }
    let store = memory();
    let mut home = Home::new(&store, false);
    home.up().await;
    let volume = home.create("shop").await;
    for number in 0..70 {
        home.write(&volume, "version", &format!("{number}")).await;
        home.look(&volume).await;
    }
    let many = home.snapshot(&volume).await;
    assert_eq!(home.head(&volume).locations.indexes.len(), 1);
    let files = home.files(&volume).await;
    std::fs::write(files.join("large"), Chance::new(7).bytes(40 << 20)).unwrap();
    home.look(&volume).await;
    home.down().await;
    store.remove(&head_key(&volume));

    let mut home = Home::new(&store, false);
    let (rebuilt, _) = recovered(&mut home, &volume).await;
    let large = std::fs::read(home.files(&rebuilt).await.join("large")).unwrap();
    assert!(large == Chance::new(7).bytes(40 << 20), "three packs of one session");
    assert_eq!(home.text(&rebuilt, &Moment::Entry(many), "version").await.unwrap(), "69");
    home.assert_whole(&rebuilt).await;
    assert_eq!(home.recover().await, (vec![rebuilt], Vec::new()), "again");
    home.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_is_found_although_its_fork_names_all_of_its_packs() {
    if !is_root("a_source_is_found_although_its_fork_names_all_of_its_packs") {
        return;
    }
    let store = memory();
    let mut home = Home::new(&store, false);
    home.up().await;
    let volume = home.create("shop").await;
    home.write(&volume, "version", "of the source").await;
    home.look(&volume).await;
    let fork = home.fork(&volume, "fork").await;
    home.write(&fork, "version", "of the fork").await;
    home.look(&fork).await;
    home.down().await;
    store.remove(&head_key(&volume));

    let mut home = Home::new(&store, false);
    let (rebuilt, _) = recovered(&mut home, &volume).await;
    assert_eq!(home.text(&rebuilt, &Moment::Now, "version").await.unwrap(), "of the source");
    assert_eq!(home.text(&fork, &Moment::Now, "version").await.unwrap(), "of the fork");
    home.down().await;
    // one that never saved anything by itself is what its source was
    store.remove(&head_key(&rebuilt));
    let mut home = Home::new(&store, false);
    let (again, _) = recovered(&mut home, &volume).await;
    assert_eq!(again, rebuilt);
    home.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interruption_anywhere_leaves_one_volume_and_no_more() {
    if !is_root("an_interruption_anywhere_leaves_one_volume_and_no_more") {
        return;
    }
    let store = memory();
    let (volume, first) = shop(&store, false).await;
    store.remove(&head_key(&volume));
    let lost = store.contents();
    // the hold, the head, its seal, and what comes after
    for failing in 0..4 {
        for fault in [Fault::BeforeEffect, Fault::AfterEffect] {
            for key in store.contents().into_keys().filter(|key| !lost.contains_key(key)) {
                store.remove(&key);
            }
            let counted = AtomicUsize::new(0);
            store.fail_when(move |request: &Request| {
                let is_late =
                    request.is_write() && counted.fetch_add(1, Ordering::SeqCst) >= failing;
                is_late.then_some(fault)
            });
            let mut home = Home::new(&store, false);
            home.up().await;
            // it may say that it was not done, or what was not
            if let Ok(back) = home.node().recover(true, Progress::default()).await {
                let _ = back.rest.await;
            }
            home.down().await;
            store.heal();
            let mut home = Home::new(&store, false);
            home.up().await;
            let (volumes, said) = home.recover().await;
            let [rebuilt] = volumes.as_slice() else { panic!("{failing} {fault:?}: {said:?}") };
            assert!(rebuilt.rebuilt_from(&volume).is_some(), "{failing} {fault:?}");
            assert_eq!(heads(&store), [head_key(rebuilt)], "{failing} {fault:?}");
            assert_eq!(home.text(rebuilt, &Moment::Now, "version").await.unwrap(), "second");
            let then = home.text(rebuilt, &Moment::Entry(first), "version").await;
            assert_eq!(then.unwrap(), "first", "{failing} {fault:?}");
            home.down().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_back_is_used_before_what_is_lost_is_looked_for() {
    if !is_root("what_came_back_is_used_before_what_is_lost_is_looked_for") {
        return;
    }
    let store = memory();
    let mut home = Home::new(&store, false);
    home.up().await;
    let (shop, blog) = (home.create("shop").await, home.create("blog").await);
    for volume in [&shop, &blog] {
        home.write(volume, "version", "saved").await;
        home.look(volume).await;
    }
    home.down().await;
    store.remove(&head_key(&blog));

    let mut home = Home::new(&store, false);
    home.up().await;
    let is_of_packs = |request: &Request| request.key().contains("/packs/");
    let looked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&looked);
    store.fail_when(move |request: &Request| {
        let is_look = matches!(request, Request::List(_)) && is_of_packs(request);
        counted.fetch_add(usize::from(is_look), Ordering::SeqCst);
        None
    });
    let back = home.node().recover(true, Progress::default()).await.unwrap();
    assert_eq!(looked.load(Ordering::SeqCst), 0, "nothing was looked for");
    let ids: Vec<_> = back.volumes.iter().map(|status| status.volume.clone()).collect();
    assert_eq!((ids, back.lost.len()), (vec![shop.clone()], 0));
    home.write(&shop, "version", "changed").await;
    home.look(&shop).await;
    // one that no head told of when the heads were read
    let fresh = home.create("fresh").await;
    home.write(&fresh, "version", "fresh").await;
    home.look(&fresh).await;

    // the store goes away, or Cove stops, while it is looked: what came back is here
    store.fail_when(move |request: &Request| {
        let is_read = matches!(request, Request::GetRange(..)) && is_of_packs(request);
        is_read.then_some(Fault::BeforeEffect)
    });
    let found = back.rest.await.unwrap();
    let [lost] = found.lost.as_slice() else { panic!("{:?}", found.lost) };
    assert!(lost.what.starts_with("projects whose heads are lost"), "{lost:?}");
    assert!(lost.why.starts_with("it could not be read what the packs record"), "{lost:?}");
    assert!(found.volumes.is_empty() && found.rebuilt.is_empty());
    store.heal();
    home.down().await;
    home.up().await;
    assert_eq!(home.text(&shop, &Moment::Now, "version").await.unwrap(), "changed");

    // two that look at once make one of it, and neither takes the fresh one for lost
    let progress = Progress::default();
    let one = home.node().recover(true, progress.clone()).await.unwrap();
    let other = home.node().recover(true, Progress::default()).await.unwrap();
    let (one, other) = tokio::join!(one.rest, other.rest);
    let told = progress.look();
    assert_eq!(told.step, cove_types::wire::LOOKING_FOR_LOST);
    assert_eq!(Some(told.done_files), told.total_files);
    let (one, other) = (one.unwrap(), other.unwrap());
    let rebuilt: Vec<_> = one.rebuilt.iter().chain(&other.rebuilt).collect();
    let [rebuilt] = rebuilt.as_slice() else { panic!("{rebuilt:?}") };
    assert_eq!(rebuilt.lost, blog);
    let lost = [one.lost, other.lost].concat();
    assert!(lost.len() == 1 && lost[0].what.contains("project blog"), "{lost:?}");
    assert_eq!(home.text(&rebuilt.volume, &Moment::Now, "version").await.unwrap(), "saved");
    let heads_there = heads(&store);
    assert_eq!(heads_there.len(), 3, "{heads_there:?}");
    home.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_head_is_lost_no_pack_is_read_that_a_head_names() {
    if !is_root("where_no_head_is_lost_no_pack_is_read_that_a_head_names") {
        return;
    }
    let store = memory();
    let (volume, _) = shop(&store, false).await;
    let mut home = Home::new(&store, false);
    home.up().await;
    home.recover().await;
    let (asked, counted) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (reads, lists) = (Arc::clone(&asked), Arc::clone(&counted));
    store.fail_when(move |request: &Request| {
        match request {
            Request::List(_) => lists.fetch_add(1, Ordering::SeqCst),
            request if request.key().contains("/packs/") => reads.fetch_add(1, Ordering::SeqCst),
            _ => 0,
        };
        None
    });
    assert_eq!(home.recover().await, (vec![volume], Vec::new()));
    assert_eq!((asked.load(Ordering::SeqCst), counted.load(Ordering::SeqCst)), (0, 2));
    store.heal();
    home.down().await;
}
