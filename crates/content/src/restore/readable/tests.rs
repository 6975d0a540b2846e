use std::path::Path;

use cove_btrfs::Dir;
use cove_types::Classify;

use super::*;
use crate::sample::volume::{Files, StoredVolume, path};

fn restored(volume: &StoredVolume, to: &Path) -> Result<Vec<Unreadable>, RestoreError> {
    let dir = Dir::from_path(to).unwrap();
    restore_readable(&volume.cold(), &volume.head.now.tree, &dir, &Progress::default())
}

fn names(lost: &[Unreadable], name: &str) -> bool {
    let key = Key::entry(&path(&format!("files/{name}")));
    lost.iter().any(|lost| match &lost.until {
        None => Key::entry(&lost.path) == key,
        Some(until) => {
            Key::entry(&lost.path) <= key
                && until.as_ref().is_none_or(|until| key < Key::entry(until))
        }
    })
}

fn assert_right_or_named(files: &Files, to: &Path, lost: &[Unreadable], what: &str) -> usize {
    let mut there = 0;
    for (name, bytes) in files {
        match std::fs::read(to.join("files").join(name)) {
            Ok(found) => {
                assert!(found == *bytes, "{what}: {name} has other bytes");
                there += 1;
            }
            Err(_) => {
                assert!(names(lost, name), "{what}: {name} is missing and not named: {lost:?}");
            }
        }
    }
    there
}

/// Many names, files of one chunk, of a few, and one whose chunk lists fill nodes of their own.
fn volume() -> StoredVolume {
    let mut volume = StoredVolume::new();
    for n in 0..400 {
        let text = format!("content of file {n} ").repeat(3 + n % 5);
        volume.files.insert(format!("small-{n:04}"), text.into());
    }
    let large: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
    volume.files.insert("small-0200-large".into(), large.clone());
    volume.save();
    volume.files.insert("later".into(), large[..150_000].to_vec());
    volume.save();
    volume
}

#[test]
fn what_is_damaged_is_named_and_all_the_rest_is_right() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: files belong to uid 1000");
        return;
    }
    let volume = volume();
    let (mut partial, mut nothing, mut whole) = (0, 0, 0);
    for key in volume.keys("packs") {
        let bytes = volume.store.contents()[&key].clone();
        for at in (0..bytes.len()).step_by((bytes.len() / 20).max(1)) {
            volume.flip(&key, at);
            let to = tempfile::tempdir().unwrap();
            let what = format!("byte {at} of {key}");
            match restored(&volume, to.path()) {
                Ok(lost) => {
                    let there = assert_right_or_named(&volume.files, to.path(), &lost, &what);
                    match there == volume.files.len() {
                        true => whole += 1,
                        false => partial += 1,
                    }
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}: {error:?}");
                    nothing += 1;
                }
            }
            volume.store.set(&key, bytes.clone());
        }
    }
    assert!(partial > 10, "{partial} in part, {nothing} not at all, {whole} whole");
}

#[test]
fn a_store_that_is_away_is_no_damage() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: files belong to uid 1000");
        return;
    }
    let volume = volume();
    let requests = std::sync::atomic::AtomicUsize::new(0);
    volume.store.fail_when(move |_| {
        let seen = requests.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        (seen > 1).then_some(cove_objects::Fault::BeforeEffect)
    });
    let to = tempfile::tempdir().unwrap();
    let error = restored(&volume, to.path()).unwrap_err();
    assert_ne!(error.kind(), ErrorKind::Corrupt, "{error:?}");
}
