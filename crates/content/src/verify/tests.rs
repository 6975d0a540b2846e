use std::ops::Range;
use std::sync::Arc;

use cove_objects::{Fault as StoreFault, Key};
use cove_types::wire::{Checked, VerifyProblem};

use super::*;
use crate::chunks::PackCache;
use crate::locations::PACKS_MAX;
use crate::sample::volume::{StoredVolume, read_all};
use crate::tree;

fn states(volume: &StoredVolume) -> Vec<State> {
    let entry = |n: usize| crate::sample::entry_id(n as u32);
    let mut states: Vec<State> = volume
        .history
        .iter()
        .enumerate()
        .map(|(n, (root, _))| State { entry: Some(entry(n)), root: root.clone() })
        .collect();
    states.push(State { entry: None, root: volume.head.now.clone() });
    states.reverse();
    states
}

fn verify(
    volume: &StoredVolume,
    read: Option<(u32, u32)>,
) -> Result<(Vec<VerifyProblem>, Checked), VerifyError> {
    let states = states(volume);
    let (stored, remembered) = (volume.cold(), volume.chunks());
    let subject = Subject { stored: &stored, remembered: &remembered, states: &states };
    let (mut problems, mut checked) = (Vec::new(), Checked::default());
    check(&subject, read, &mut problems, &mut checked)?;
    Ok((problems, checked))
}

/// A volume with an index over a gathered pack and a long one, and young packs beside it.
fn volume() -> StoredVolume {
    let mut volume = StoredVolume::new();
    let mut long = vec![0; 5 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut long);
    volume.files.insert("long".into(), long);
    volume.save_often(PACKS_MAX + 3);
    volume
}

/// The objects that the head needs.
fn needed(volume: &StoredVolume) -> Vec<Key> {
    let packs = volume.chunks().packs().unwrap().packs;
    let packs = packs.iter().map(|(pack, _)| volume.remote.pack_key(pack));
    let indexes = volume.head.locations.indexes.iter();
    packs.chain(indexes.map(|index| volume.remote.index_key(&index.id))).collect()
}

/// Places in an object that mean different things, each by its first and last byte.
fn regions(volume: &StoredVolume, key: &Key, length: usize) -> Vec<usize> {
    let name = key.as_str().rsplit('/').next().unwrap();
    let young = volume.head.locations.packs.iter().find(|pack| pack.id.to_string() == name);
    let ranges: Vec<Range<usize>> = if key.as_str().contains("/packs/") {
        let footer = young.map_or(1500, |pack| pack.footer_bytes as usize);
        let trailer = length - 128;
        let mut ranges: Vec<_> =
            [0..8, 8..12, 12..16, 16..24, 24..32, 32..48, 48..64, 64..80, 80..144].into();
        ranges.extend([144..160, length / 3..length / 2, length - footer - 8..length - footer]);
        ranges.extend([length - footer..length - footer + 48, trailer - 200..trailer]);
        let fields = [0..8, 8..12, 12..16, 16..24, 24..40, 40..56, 56..88, 88..120, 120..128];
        ranges.extend(fields.map(|field| trailer + field.start..trailer + field.end));
        ranges
    } else {
        let index = volume.head.locations.indexes.iter().find(|i| i.id.to_string() == name);
        let tables = length - index.unwrap().table_bytes as usize;
        let trailer = length - 88;
        let mut ranges: Vec<_> = [0..8, 8..12, 12..16, 16..68, tables - 52..tables].into();
        ranges.extend([tables..tables + 56, trailer - 64..trailer - 32, trailer - 32..trailer]);
        let fields = [0..8, 8..12, 12..16, 16..24, 24..32, 32..48, 48..80, 80..88];
        ranges.extend(fields.map(|field| trailer + field.start..trailer + field.end));
        ranges
    };
    let mut places: Vec<usize> =
        ranges.into_iter().flat_map(|range| [range.start, range.end - 1]).collect();
    places.sort_unstable();
    places.dedup();
    places
}

/// Sees that whatever is read of the present state is right, or an error.
fn nothing_wrong_is_read(volume: &StoredVolume, what: &str) {
    let Ok(found) = read_all(volume.cold(), &volume.head.now) else { return };
    for (name, read) in found {
        let Ok(bytes) = read else { continue };
        assert!(bytes == volume.files[&name], "{what}: {name} has wrong bytes");
    }
}

#[test]
fn whatever_is_done_to_an_object_is_found_and_read_by_nobody() {
    let volume = volume();
    assert_eq!(verify(&volume, Some((1, 1))).unwrap().0, []);
    let young: Vec<String> =
        volume.head.locations.packs.iter().map(|pack| pack.id.to_string()).collect();
    let mut count = 0;
    for key in needed(&volume) {
        let whole = volume.store.contents()[&key].clone();
        let name = key.as_str().rsplit('/').next().unwrap().to_owned();
        let mut damages: Vec<(String, Option<Vec<u8>>)> = vec![("lost".into(), None)];
        for length in [0, 1, whole.len() / 2, whole.len() - 1] {
            damages.push((format!("cut at {length}"), Some(whole[..length].to_vec())));
        }
        damages.push(("a byte longer".into(), Some([&whole[..], &[0]].concat())));
        for at in regions(&volume, &key, whole.len()) {
            let mut bytes = whole.to_vec();
            bytes[at] ^= 0x04;
            damages.push((format!("flipped at {at}"), Some(bytes)));
        }
        for (what, bytes) in damages {
            let what = format!("{key} {what}");
            match bytes {
                None => assert!(volume.store.remove(&key)),
                Some(bytes) => volume.store.set(&key, bytes),
            }
            let (problems, _) = verify(&volume, Some((1, 1))).unwrap();
            assert!(!problems.is_empty(), "{what}: nothing is found");
            let named = |problem: &VerifyProblem| problem.object.as_deref() == Some(key.as_str());
            assert!(problems.iter().all(named), "{what}: {problems:?}");
            // without reading packs: what cannot be found any more
            let lost =
                what.ends_with("lost") && (young.contains(&name) || what.contains("/indexes/"));
            if lost {
                assert!(!verify(&volume, None).unwrap().0.is_empty(), "{what}: level 1");
            }
            nothing_wrong_is_read(&volume, &what);
            volume.store.set(&key, whole.clone());
            count += 1;
        }
    }
    assert!(count > 150, "{count} damages");
    assert_eq!(verify(&volume, Some((1, 1))).unwrap().0, []);
}

#[test]
fn the_files_that_a_damaged_frame_hits_are_named_and_no_others() {
    let mut volume = volume();
    let long = &volume.head.locations.indexes[0];
    let (table, _) = volume.chunks().whole_index(long).unwrap();
    let pack = table.packs().iter().max_by_key(|pack| pack.bytes).unwrap().id;
    volume.flip(&volume.remote.pack_key(&pack), 3 << 20);
    let (problems, _) = verify(&volume, Some((1, 1))).unwrap();
    assert_eq!(problems.len(), volume.history.len() + 1, "each state has that file");
    assert!(problems.iter().all(|problem| problem.paths == ["long"]), "{problems:?}");
    assert!(problems[0].what.ends_with("; 1 file is hit"), "{}", problems[0].what);
    // a state without it is whole
    volume.files.remove("long");
    volume.save();
    let (problems, _) = verify(&volume, Some((1, 1))).unwrap();
    assert!(problems.iter().all(|problem| problem.entry.is_some()), "{problems:?}");
}

#[test]
fn what_was_below_a_lost_node_is_named_from_memory_and_else_by_its_bounds() {
    let mut volume = StoredVolume::new();
    for n in 0..600 {
        volume.files.insert(format!("file-{n:03}"), format!("{n}").into());
    }
    volume.save();
    let tree = volume.head.now.tree;
    let root = tree::Node::read(&volume.chunks(), &tree).unwrap();
    let tree::Parts::Children(children) = root.into_parts() else { panic!("one leaf") };
    let place = volume.chunks().locate(&children[1].digest).unwrap().unwrap();
    volume.flip(&volume.remote.pack_key(&place.pack), place.row.frame_offset as usize + 20);
    let (problems, _) = verify(&volume, None).unwrap();
    // the frame has other nodes, and the document of an entry
    assert!(!problems.is_empty());
    let forgetful = Arc::new(PackCache::new(None));
    volume.cache = forgetful;
    let (blind, _) = verify(&volume, None).unwrap();
    assert_eq!(blind.len(), problems.len());
    assert!(blind[0].what.contains("it is"), "{}", blind[0].what);
    assert!(blind.iter().all(|problem| problem.paths.is_empty()));
}

#[test]
fn a_tree_that_makes_no_sense_is_found_though_all_of_it_is_there() {
    let mut volume = StoredVolume::new();
    volume.files.insert("a".into(), b"a".to_vec());
    volume.save();
    assert_eq!(verify(&volume, None).unwrap().0, []);
    let top = crate::sample::volume::path("files");
    let next = volume.store_edited(|items| items.retain(|item| item.key != tree::Key::entry(&top)));
    volume.set(next);
    let found = verify(&volume, None).unwrap().0;
    let said: Vec<(&str, &[String])> =
        found.iter().map(|problem| (problem.what.as_str(), &problem.paths[..])).collect();
    let what =
        "the tree is not of its form: its parent is not a directory of the tree; 1 file is hit";
    // of the present state and of the entry that holds it
    assert_eq!(said, [(what, &["a".to_owned()][..]); 2]);
}

#[test]
fn a_head_whose_document_is_another_than_its_state_names_contradicts_itself() {
    let mut head = crate::sample::head();
    assert_eq!(contradictions(&head), Vec::<String>::new());
    let document = crate::document::ProjectDocument {
        id: "prj-1".parse().unwrap(),
        name: "shop".into(),
        slug: "shop".parse().unwrap(),
        config: serde_json::Map::new(),
        graph: serde_json::Map::new(),
        forked_from: None,
        created_at: crate::sample::stamp(1).time,
        unknown: serde_json::Map::new(),
    };
    head.now.document = Digest::of(&document.encode());
    head.document = Some(document);
    assert_eq!(contradictions(&head), Vec::<String>::new());
    head.document.as_mut().unwrap().name = "store".into();
    let said = ["the head's document is not the one that its present state names"];
    assert_eq!(contradictions(&head), said);
}

#[test]
fn the_shares_together_read_each_object_once_and_one_finds_what_is_damaged() {
    let volume = volume();
    let (_, all) = verify(&volume, Some((1, 1))).unwrap();
    let packs = volume.chunks().packs().unwrap().packs;
    assert_eq!(all.packs_read, packs.len() as u64);
    // chunks of a file, which no share reads unless it has the pack
    let (long, _) = packs.iter().max_by_key(|(_, bytes)| *bytes).unwrap();
    volume.flip(&volume.remote.pack_key(long), 3 << 20);
    for of in [2, 3, 7] {
        let mut read = Checked::default();
        let mut finding = 0;
        for part in 1..=of {
            let (problems, checked) = verify(&volume, Some((part, of))).unwrap();
            read.packs_read += checked.packs_read;
            read.bytes_read += checked.bytes_read;
            finding += usize::from(!problems.is_empty());
        }
        assert_eq!((read.packs_read, read.bytes_read), (all.packs_read, all.bytes_read));
        assert_eq!(finding, 1, "of {of}");
    }
}

#[test]
fn a_store_that_does_not_answer_is_no_problem_but_an_error() {
    let volume = volume();
    let mut interrupted = 0;
    for n in 0..40 {
        volume.store.fail_after(n, StoreFault::BeforeEffect);
        let verified = verify(&volume, Some((1, 1)));
        volume.store.heal();
        match verified {
            Ok((problems, _)) => assert_eq!(problems, [], "after {n} requests"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable);
                interrupted += 1;
            }
        }
    }
    assert!(interrupted > 10);
}
