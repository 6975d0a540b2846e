use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cove_objects::Request;

use super::*;
use crate::document::ProjectDocument;
use crate::locations::{Locations, PACKS_MAX};
use crate::sample;
use crate::sample::volume::StoredVolume;

/// A volume whose head says which project it is.
fn volume() -> StoredVolume {
    let mut volume = StoredVolume::new();
    volume.head.document = Some(ProjectDocument {
        id: volume.head.project.clone(),
        name: "Shop".into(),
        slug: "shop".parse().unwrap(),
        config: serde_json::Map::new(),
        graph: serde_json::Map::new(),
        forked_from: None,
        created_at: sample::time(0),
        unknown: serde_json::Map::new(),
    });
    volume
}

/// Goes on with another volume in the same store.
fn begin_another(volume: &mut StoredVolume) -> VolumeId {
    volume.head.volume = "vol-2".parse().unwrap();
    volume.head.locations = Locations::default();
    volume.head.volume.clone()
}

#[derive(Clone)]
struct Known {
    named: HashSet<PackId>,
    lost: Option<VolumeId>,
    trusts: bool,
}

impl Known {
    /// What the present head of a volume tells.
    fn of(volume: &StoredVolume) -> Self {
        let named = volume.chunks().packs().unwrap().packs;
        let named = named.into_iter().map(|(id, _)| id).collect();
        Self { named, lost: None, trusts: true }
    }
}

impl Heads for Known {
    type Error = ReadError;

    fn retain_unnamed(&mut self, packs: &mut Vec<(PackId, u64)>) -> Result<(), ReadError> {
        packs.retain(|(id, _)| !self.named.contains(id));
        Ok(())
    }

    fn is_lost(&self, volume: &VolumeId) -> bool {
        self.lost.as_ref() == Some(volume)
    }

    fn is_trusted(&self, _: &Head) -> bool {
        self.trusts
    }
}

/// What a look finds, how many reads of packs it makes, and how many lists.
fn looked(
    volume: &StoredVolume,
    known: &Known,
    page: usize,
) -> (BTreeMap<VolumeId, Remains>, usize, usize) {
    let (reads, lists) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (read, list) = (Arc::clone(&reads), Arc::clone(&lists));
    volume.store.fail_when(move |request: &Request| {
        match request {
            Request::List(_) => list.fetch_add(1, Ordering::SeqCst),
            _ => read.fetch_add(1, Ordering::SeqCst),
        };
        None
    });
    let progress = Progress::default();
    let found = look(&volume.remote, &mut known.clone(), page, &progress).unwrap();
    volume.store.heal();
    let (told, packs) = (progress.look(), volume.keys("packs").len() as u64);
    assert_eq!((told.done_files, told.total_files), (packs, Some(packs)));
    (found, reads.load(Ordering::SeqCst), lists.load(Ordering::SeqCst))
}

#[test]
fn of_packs_that_were_gathered_together_few_are_looked_at() {
    let mut volume = volume();
    volume.save_often(4 * PACKS_MAX);
    let known = Known::of(&volume);
    let unnamed = volume.keys("packs").len() - known.named.len();
    assert!(unnamed >= 3 * PACKS_MAX, "{unnamed}");
    let (found, reads, _) = looked(&volume, &known, 10);
    assert!(found.is_empty());
    assert!(reads < unnamed / 2, "{reads} of {unnamed}");
    let (found, reads, _) = looked(&volume, &Known { trusts: false, ..known }, 10);
    assert_eq!((found.len(), reads), (0, unnamed), "of records that may name others' packs");
}

#[test]
fn a_lost_volume_is_found_whole_among_others_and_however_the_packs_are_listed() {
    let mut volume = volume();
    volume.save_often(2 * PACKS_MAX);
    let known = Known::of(&volume);
    let lost = begin_another(&mut volume);
    volume.save_often(PACKS_MAX / 2);
    let known = Known { lost: Some(lost.clone()), ..known };
    let packs = volume.keys("packs").len();
    let (all, _, lists) = looked(&volume, &Known { trusts: false, ..known.clone() }, usize::MAX);
    assert_eq!(lists, 1);
    // the last record is that of the head before, as this test writes it
    let newest = all[&lost].newest().unwrap();
    assert_eq!((all.len(), newest.head.seq), (1, volume.head.seq - 1));
    for page in [1, 7, packs - 1, packs, packs + 1] {
        let (found, _, lists) = looked(&volume, &known, page);
        assert_eq!(lists, packs / page + 1, "{page}");
        assert!(found == all, "{page}");
    }
}

#[test]
fn no_more_names_are_held_than_there_is_room_for_and_those_to_come_next() {
    let id = |n: usize| PackId((n as u128).to_be_bytes());
    let mut passed = Passed::default();
    passed.add((0..PASSED_MAX + 10).map(id));
    assert_eq!(passed.ids.len(), PASSED_MAX);
    assert!(passed.has(&id(0)) && !passed.has(&id(PASSED_MAX)));
    passed.forget_until(&id(99));
    assert!(!passed.has(&id(99)) && passed.has(&id(100)));
    passed.add((0..200).map(id));
    assert_eq!(passed.ids.len(), PASSED_MAX - 100, "what has been looked at is not to come");
}
