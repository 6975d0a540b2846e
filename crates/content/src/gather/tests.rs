use std::sync::Mutex;

use cove_objects::{Fault, Request};
use proptest::prelude::*;

use super::*;
use crate::chunks::PackCache;
use crate::index::IndexTable;
use crate::locations::{GATHERED_PACK_BYTES, INDEXES_MAX, PACKS_MAX};
use crate::sample::volume::{Files, StoredVolume, assert_holds, read_all};
use crate::verify::{self, State, Subject};

/// Bytes that do not compress.
fn noise(volume: &StoredVolume, count: usize) -> Vec<u8> {
    let seed = volume.env.random::<32>();
    let mut bytes = vec![0; count];
    blake3::Hasher::new_keyed(&seed).finalize_xof().fill(&mut bytes);
    bytes
}

/// The tables of the only index.
fn only_index(volume: &StoredVolume) -> IndexTable {
    let [index] = volume.head.locations.indexes[..] else { panic!("{:?}", volume.head.locations) };
    volume.chunks().whole_index(&index).unwrap().0
}

/// A volume with one pack less than brings about a gathering, and the head that does.
fn due() -> (StoredVolume, Head) {
    let mut volume = StoredVolume::new();
    volume.save_often(PACKS_MAX - 1);
    volume.files.insert("last".into(), b"the last file".to_vec());
    let next = volume.store();
    assert_eq!(next.locations.packs.len(), PACKS_MAX);
    (volume, next)
}

fn check(volume: &StoredVolume, level_two: bool) -> Vec<cove_types::wire::VerifyProblem> {
    let states: Vec<State> = volume
        .history
        .iter()
        .enumerate()
        .map(|(n, (root, _))| State {
            entry: Some(crate::sample::entry_id(n as u32)),
            root: root.clone(),
        })
        .collect();
    let (stored, remembered) = (volume.cold(), volume.chunks());
    let subject = Subject { stored: &stored, remembered: &remembered, states: &states };
    let mut problems = Vec::new();
    let read = level_two.then_some((1, 1));
    verify::check(&subject, read, &mut problems, &mut cove_types::wire::Checked::default())
        .unwrap();
    problems
}

fn all_states_are_whole(volume: &StoredVolume) {
    for (root, files) in &volume.history {
        assert_holds(volume.cold(), root, files);
    }
    assert_eq!(check(volume, true), []);
}

#[test]
fn the_64th_pack_makes_one_pack_and_one_index_of_all() {
    let (mut volume, next) = due();
    let asked = std::sync::Arc::new(Mutex::new(Vec::new()));
    let writing = std::sync::Arc::clone(&asked);
    volume.store.fail_when(move |request: &Request| {
        writing.lock().unwrap().push(request.clone());
        None
    });
    let next = volume.gather(next).unwrap();
    volume.store.heal();
    volume.set(next);
    let asked = asked.lock().unwrap();
    let gets = asked.iter().filter(|request| matches!(request, Request::GetRange(..))).count();
    assert_eq!(gets, PACKS_MAX, "each pack is fetched once");
    let order: Vec<&str> = asked[gets..].iter().map(Request::key).collect();
    let [pack, index] = order[..] else { panic!("{order:?}") };
    assert!(pack.contains("/packs/") && index.contains("/indexes/"), "{order:?}");

    let table = only_index(&volume);
    let [gathered] = table.packs() else { panic!("{:?}", table.packs()) };
    assert!(pack.ends_with(&gathered.id.to_string()));
    assert_eq!(volume.head.locations.packs, []);
    all_states_are_whole(&volume);

    // what was just written is not read again
    let before = volume.store.contents().len();
    let requests = cove_objects::Store::requests(&*volume.store);
    volume.save_often(1);
    assert_eq!(volume.store.contents().len() - before, 1);
    let more = cove_objects::Store::requests(&*volume.store).total() - requests.total();
    assert_eq!(more, 1, "the next save puts a pack");
}

#[test]
fn the_gathered_pack_carries_the_head_that_names_it() {
    let (mut volume, next) = due();
    let before = volume.keys("packs");
    let next = volume.gather(next).unwrap();
    volume.set(next);
    let gathered = volume.keys("packs").into_iter().find(|key| !before.contains(key)).unwrap();
    let pack = Pack::decode(&volume.store.contents()[&gathered]).unwrap();
    assert_eq!(Head::decode(&pack.index.head_record).unwrap(), volume.head);
    assert_eq!(pack.volume, volume.head.volume);
    // the head is lost, and read from there
    let frame = volume.head.root_frame.unwrap();
    assert_eq!(
        frame.pack, pack.index.id,
        "the root node is in no pack that only an old head names"
    );
    let place = volume.cold().locate(&volume.head.now.tree).unwrap().unwrap();
    assert_eq!((place.pack, place.row.frame_offset), (frame.pack, frame.offset));
}

#[test]
fn a_pack_that_is_not_small_stays_and_its_chunks_too() {
    let mut volume = StoredVolume::new();
    let large = noise(&volume, GATHERED_PACK_BYTES as usize + 1);
    volume.files.insert("large".into(), large);
    volume.save();
    let [first] = volume.head.locations.packs[..] else { panic!() };
    volume.save_often(PACKS_MAX - 1);
    let table = only_index(&volume);
    assert_eq!(table.packs().len(), 2);
    assert!(table.packs().iter().any(|pack| pack.id == first.id));
    all_states_are_whole(&volume);
}

#[test]
fn many_packs_just_below_the_limit_become_as_few_as_hold_them() {
    let mut volume = StoredVolume::new();
    for n in 0..14 {
        volume.files = Files::from([(format!("f{n}"), noise(&volume, 3_900_000))]);
        volume.save();
    }
    volume.save_often(PACKS_MAX - 14);
    // 55 MB in packs of 16 MiB and what the last frame adds
    let table = only_index(&volume);
    assert_eq!(table.packs().len(), 4);
    all_states_are_whole(&volume);
}

#[test]
fn of_a_chunk_in_several_packs_the_gathered_one_counts_and_its_frame_is_copied_once() {
    let (mut volume, next) = due();
    let large = volume.head.locations.packs[0];
    // a second volume's pack with the same content, as a fork that was stored on its own has it
    let other = {
        let mut other = StoredVolume::new();
        other.files = volume.history[0].1.clone();
        other.store = std::sync::Arc::clone(&volume.store);
        other.remote = Remote::new(
            std::sync::Arc::clone(&volume.store) as std::sync::Arc<dyn cove_objects::Store>,
            volume.remote.runtime().clone(),
            "t".parse().unwrap(),
        );
        other.store().locations.packs[0]
    };
    let mut next = next;
    next.locations.packs.push(other);
    let next = volume.gather(next).unwrap();
    volume.set(next);
    let table = only_index(&volume);
    let [gathered] = table.packs() else { panic!("{:?}", table.packs()) };
    assert!(gathered.id != large.id && gathered.id != other.id);
    let bytes = volume.store.contents()[&volume.remote.pack_key(&gathered.id)].clone();
    let rows = Pack::decode(&bytes).unwrap().index.rows;
    assert_eq!(rows.len() as u64, table.rows);
    all_states_are_whole(&volume);
}

/// What a damaged small pack becomes.
fn damaged_source(damage: impl Fn(&StoredVolume, &Key, &PackRef)) -> (StoredVolume, PackRef) {
    let (mut volume, next) = due();
    let pack = next.locations.packs[20];
    damage(&volume, &volume.remote.pack_key(&pack.id), &pack);
    let next = volume.gather(next).unwrap();
    volume.set(next);
    // saving goes on, beyond the next gathering
    volume.save_often(PACKS_MAX + 3);
    (volume, pack)
}

/// Whatever is read is right or an error, and of each state all but what `pack` held is read.
fn others_are_read(volume: &StoredVolume) -> usize {
    let mut errors = 0;
    for (root, files) in &volume.history {
        let Ok(found) = read_all(volume.cold(), root) else {
            errors += 1;
            continue;
        };
        for (name, read) in found {
            match read {
                Ok(bytes) => assert!(bytes == files[&name], "{name} has wrong bytes"),
                Err(_) => errors += 1,
            }
        }
    }
    errors
}

#[test]
fn a_damaged_small_pack_is_not_copied_and_stays_under_the_index() {
    let (volume, pack) = damaged_source(|volume, key, pack| {
        let middle = 144 + (pack.bytes - u64::from(pack.footer_bytes) - 144) / 2;
        volume.flip(key, middle as usize);
    });
    assert!(others_are_read(&volume) > 0);
    let table = only_index(&volume);
    assert!(table.packs().iter().any(|other| other.id == pack.id), "it is named");
    assert_eq!(table.packs().len(), 3, "that and two gathered ones");
    let named = volume.remote.pack_key(&pack.id).to_string();
    let problems = check(&volume, true);
    assert!(!problems.is_empty());
    assert!(problems.iter().all(|problem| problem.object.as_deref() == Some(&*named)));
}

#[test]
fn a_small_pack_that_is_lost_keeps_nothing_from_being_saved() {
    let (volume, pack) = damaged_source(|volume, key, _| {
        assert!(volume.store.remove(key));
    });
    assert!(others_are_read(&volume) > 0);
    let named = volume.remote.pack_key(&pack.id).to_string();
    assert!(only_index(&volume).packs().iter().any(|other| other.id == pack.id), "it is named");
    assert!(check(&volume, true).iter().any(|problem| problem.object.as_deref() == Some(&*named)));
}

#[test]
fn a_small_pack_whose_footer_nobody_knows_stays_young() {
    let (mut volume, next) = due();
    let pack = next.locations.packs[20];
    let key = volume.remote.pack_key(&pack.id);
    volume.flip(&key, pack.bytes as usize - 60);
    // another computer, which has cached nothing
    volume.cache = std::sync::Arc::new(PackCache::new(None));
    let next = volume.gather(next).unwrap();
    volume.set(next);
    assert_eq!(volume.head.locations.packs, [pack]);
    volume.save_often(PACKS_MAX + 3);
    assert!(volume.head.locations.packs.contains(&pack));
    assert!(others_are_read(&volume) > 0);
    let named = key.to_string();
    assert!(check(&volume, false).iter().any(|problem| problem.object.as_deref() == Some(&*named)));
}

#[test]
fn a_damaged_index_is_not_merged_and_keeps_nothing_from_being_saved() {
    let mut volume = StoredVolume::new();
    volume.save_often(PACKS_MAX);
    let [first] = volume.head.locations.indexes[..] else { panic!() };
    let key = volume.remote.index_key(&first.id);
    volume.flip(&key, 100);
    volume.save_often(2 * PACKS_MAX);
    assert_eq!(volume.head.locations.indexes.len(), 2, "the damaged one stays beside the others'");
    assert!(volume.head.locations.indexes.contains(&first));
    let named = key.to_string();
    assert!(check(&volume, false).iter().any(|problem| problem.object.as_deref() == Some(&*named)));
    assert!(others_are_read(&volume) > 0);
}

#[test]
fn packs_that_are_lost_fill_the_head_before_they_keep_anything_from_being_saved() {
    let mut volume = StoredVolume::new();
    let mut lost = Vec::new();
    let mut last = None;
    for _ in 0..600 {
        volume.files.insert("file".into(), format!("{}", lost.len()).into_bytes());
        let next = volume.store();
        let packs: Vec<_> = next.locations.packs.clone();
        match volume.gather(next) {
            Ok(next) => volume.set(next),
            Err(error) => {
                last = Some(error);
                break;
            }
        }
        volume.head.encode().unwrap();
        assert!(lost.iter().all(|pack| volume.head.locations.packs.contains(pack)));
        // each save's pack is lost at once, and nobody has its footer
        for pack in packs.iter().filter(|pack| !lost.contains(pack)) {
            assert!(volume.store.remove(&volume.remote.pack_key(&pack.id)));
        }
        lost = packs;
        volume.cache = std::sync::Arc::new(PackCache::new(None));
    }
    let error = last.expect("a head is of bounded length");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(matches!(error, GatherError::NoRoom { packs, .. } if packs == lost.len()), "{error}");
    assert!(lost.len() > 3 * PACKS_MAX, "{} packs", lost.len());
}

#[test]
fn indexes_that_are_lost_keep_nothing_from_being_saved() {
    let mut volume = StoredVolume::new();
    for lost in 1..=INDEXES_MAX + 2 {
        volume.save_often(PACKS_MAX);
        let newest = *volume.head.locations.indexes.last().unwrap();
        assert!(volume.store.remove(&volume.remote.index_key(&newest.id)));
        volume.cache = std::sync::Arc::new(PackCache::new(None));
        assert_eq!(volume.head.locations.indexes.len(), lost, "each stays named");
    }
    volume.save_often(3 * PACKS_MAX);
    assert!(volume.head.locations.indexes.len() <= INDEXES_MAX + 2 + 4);
    volume.head.encode().unwrap();
}

#[test]
fn a_gathering_that_is_interrupted_anywhere_leaves_what_can_be_gathered_again() {
    let (mut volume, next) = due();
    let requests = PACKS_MAX + 2;
    for fault in [Fault::BeforeEffect, Fault::AfterEffect, Fault::Denied] {
        // one of the reads is as good as another
        for n in (0..PACKS_MAX).step_by(9).chain(PACKS_MAX..requests) {
            volume.store.fail_after(n, fault);
            let gathered = volume.gather(next.clone());
            volume.store.heal();
            match (n < PACKS_MAX, fault, gathered) {
                // an object may be asked for again, and a pack that may not be read stays
                (false, Fault::BeforeEffect | Fault::AfterEffect, Ok(head))
                | (true, Fault::Denied, Ok(head)) => {
                    let before = std::mem::replace(&mut volume.head, head);
                    assert_eq!(others_are_read(&volume), 0, "{fault:?} at request {n}");
                    volume.head = before;
                }
                (true, _, Err(error)) => assert_eq!(error.kind(), ErrorKind::Unavailable),
                (false, Fault::Denied, Err(error)) => assert_eq!(error.kind(), ErrorKind::Denied),
                (_, _, other) => panic!("{fault:?} at request {n}: {other:?}"),
            }
            assert_eq!(others_are_read(&volume), 0, "{fault:?} at request {n}: the old head");
        }
    }
    let next = volume.gather(next).unwrap();
    volume.set(next);
    volume.save_often(2);
    all_states_are_whole(&volume);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    #[test]
    fn every_state_is_whole_after_any_number_of_gatherings(
        saves in prop::collection::vec(
            prop::collection::vec((0u8..40, 0usize..400_000, any::<bool>()), 0..4),
            PACKS_MAX..3 * PACKS_MAX,
        ),
    ) {
        let mut volume = StoredVolume::new();
        for (n, changes) in saves.iter().enumerate() {
            for (name, length, is_small) in changes {
                let length = if *is_small { length / 1000 } else { *length };
                let bytes = [noise(&volume, length), vec![n as u8; length / 3]].concat();
                volume.files.insert(format!("f{name}"), bytes);
            }
            volume.files.insert("count".into(), n.to_string().into());
            volume.save();
            prop_assert!(volume.head.locations.packs.len() < PACKS_MAX);
        }
        for (root, files) in volume.history.iter().step_by(7) {
            assert_holds(volume.cold(), root, files);
        }
        prop_assert_eq!(check(&volume, true), []);
    }
}
