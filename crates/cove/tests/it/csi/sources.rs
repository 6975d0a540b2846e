//! Volumes that begin as snapshots or as other volumes.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileExt;

use cove_testkit::proof::Chance;
use cove_testkit::trees::{describe, difference};
use serde_json::json;
use tonic::Code;

use super::{Driver, MIB, code, from_snapshot, from_volume, new, pb};
use crate::harness::poll;

/// How much a snapshot is said to need, once it is saved and that is known.
fn size_of(driver: &Driver, snapshot: &str) -> i64 {
    poll("its size is known, once it is saved", || {
        let known = driver.wait(driver.controller().get_snapshot(pb::GetSnapshotRequest {
            snapshot_id: snapshot.to_owned(),
            ..pb::GetSnapshotRequest::default()
        }));
        let known = known.unwrap().snapshot.unwrap();
        assert!(known.ready_to_use, "{known:?}");
        if known.size_bytes > 0 { Ok(known.size_bytes) } else { Err(format!("{known:?}")) }
    })
}

#[test]
fn a_snapshot_outlives_its_volume_and_becomes_a_larger_one() {
    let Some(mut driver) = Driver::start() else { return };
    let source = driver.make("source", 64);
    let target = driver.publish(&source, "source");
    crate::story::make_project(&target);
    fs::write(target.join("large"), Chance::new(13).bytes(4 << 20)).unwrap();
    let then = describe(&target).unwrap();
    let snapshot = driver.snapshot("then", &source).unwrap();
    assert!(snapshot.ready_to_use && snapshot.creation_time.is_some(), "{snapshot:?}");
    assert_eq!(snapshot.source_volume_id, source);
    fs::write(target.join("src/app.ts"), "of later").unwrap();
    fs::remove_dir_all(target.join("node_modules")).unwrap();
    let later = describe(&target).unwrap();
    // a clone begins as its source is now, and neither changes with the other
    let mut request = new("clone", 64);
    request.volume_content_source = from_volume(&source);
    let clone = driver.create(request.clone()).unwrap();
    assert_eq!(clone.content_source, from_volume(&source));
    fs::write(target.join("only in the source"), "").unwrap();
    driver.unpublish(&source, "source");
    driver.kill9_and_start();
    let size = size_of(&driver, &snapshot.snapshot_id);
    assert!((4 * MIB..=64 * MIB).contains(&size), "{size}");

    driver.delete(&source).unwrap();
    assert_eq!(driver.volumes(), [clone.volume_id.as_str()]);
    // whoever asks again for it finds it, whose source is gone; what that could hold is not known any more
    let again = driver.snapshot("then", &source).unwrap();
    assert_eq!(again, pb::Snapshot { size_bytes: 0, ..snapshot.clone() });
    assert_eq!(code(driver.snapshot("another", &source)), Code::NotFound);
    driver.kill9_and_start();
    assert_eq!(driver.snapshots(), [snapshot.snapshot_id.as_str()]);
    // the name is its own still, and the volume's is free
    let again = driver.snapshot("then", &clone.volume_id);
    assert_eq!(code(again), Code::AlreadyExists);
    assert_eq!(driver.create(request).unwrap(), clone, "although its source is gone");

    let restored = |name: &str, mib: i64| {
        let mut request = new(name, mib);
        request.volume_content_source = from_snapshot(&snapshot.snapshot_id);
        driver.create(request)
    };
    let larger = restored("larger", 96).unwrap();
    assert_eq!(larger.capacity_bytes, 96 * MIB);
    assert_eq!(larger.content_source, from_snapshot(&snapshot.snapshot_id));
    assert_ne!(larger.volume_id, source);
    assert_eq!(code(restored("smaller", 3)), Code::OutOfRange);
    for (volume, expected) in [(&larger.volume_id, &then), (&clone.volume_id, &later)] {
        let target = driver.publish(volume, "restored");
        let differences = difference(expected, &describe(&target).unwrap());
        assert!(differences.is_empty(), "{}", differences.join("\n"));
        fs::write(target.join("src/app.ts"), "of its own").unwrap();
        driver.unpublish(volume, "restored");
    }
    let again = restored("again", 64).unwrap().volume_id;
    driver.delete_snapshot(&snapshot.snapshot_id).unwrap();
    assert_eq!(code(restored("too late", 96)), Code::NotFound);
    let target = driver.publish(&again, "restored");
    let differences = difference(&then, &describe(&target).unwrap());
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    driver.unpublish(&again, "restored");

    for volume in driver.volumes() {
        driver.delete(&volume).unwrap();
    }
    assert_eq!((driver.volumes(), driver.snapshots()), (vec![], vec![]));
    assert_eq!(driver.cove.json(&["verify", "--level", "2"])["problems"], serde_json::json!([]));
}

#[test]
fn damage_of_what_is_no_projects_is_found() {
    let Some(driver) = Driver::start() else { return };
    let mut volumes = Vec::new();
    for (name, seed) in [("live", 1), ("deleted", 2)] {
        let volume = driver.make(name, 64);
        let target = driver.publish(&volume, name);
        fs::write(target.join("noise"), Chance::new(seed).bytes(1 << 20)).unwrap();
        driver.unpublish(&volume, name);
        let snapshot = driver.snapshot(name, &volume).unwrap();
        size_of(&driver, &snapshot.snapshot_id);
        volumes.push(volume);
    }
    driver.delete(&volumes[1]).unwrap();
    let whole = driver.cove.json(&["verify", "--level", "2"]);
    let found = [&whole["problems"], &whole["checked"]["projects"], &whole["checked"]["volumes"]];
    assert_eq!(found, [&json!([]), &json!(0), &json!(2)], "{whole}");
    let packs = driver.cove.stored_objects().into_iter();
    let noise = packs
        .filter(|(path, bytes)| path.to_string_lossy().contains("packs") && bytes.len() > 1 << 20);
    let mut found = BTreeSet::new();
    for (pack, bytes) in noise {
        let mut damaged = bytes.clone();
        damaged[bytes.len() / 2] ^= 1;
        fs::write(&pack, damaged).unwrap();
        let reply = driver.cove.json_with(&["verify", "--level", "2"], 8, b"");
        for problem in reply["problems"].as_array().unwrap() {
            assert_eq!(problem["paths"], json!(["noise"]), "{problem}");
            found.insert(problem["volume"].as_str().unwrap().to_owned());
        }
        fs::write(&pack, bytes).unwrap();
    }
    assert_eq!(found, volumes.into_iter().collect());
}

#[test]
fn what_a_snapshot_is_said_to_need_is_enough_for_a_volume_of_it() {
    let Some(driver) = Driver::start() else { return };
    let source = driver.make("source", 64);
    let target = driver.publish(&source, "source");
    // a file of 1 GiB that takes next to nothing
    let file = fs::File::create(target.join("sparse")).unwrap();
    file.set_len(1 << 30).unwrap();
    file.write_all_at(b"at its end", (1 << 30) - 10).unwrap();
    drop(file);
    let snapshot = driver.snapshot("sparse", &source).unwrap().snapshot_id;
    driver.unpublish(&source, "source");
    assert_eq!(size_of(&driver, &snapshot), 64 * MIB, "what its volume may hold");
    assert_eq!(driver.snapshots_from("", 0).unwrap().0[0].size_bytes, 64 * MIB);
    let mut request = new("copy", 64);
    request.volume_content_source = from_snapshot(&snapshot);
    let copy = driver.create(request).unwrap().volume_id;
    let target = driver.publish(&copy, "copy");
    assert_eq!(fs::metadata(target.join("sparse")).unwrap().len(), 1 << 30);
    driver.unpublish(&copy, "copy");
}

#[test]
fn what_is_asked_for_by_one_name_is_one_thing_alone() {
    let Some(driver) = Driver::start() else { return };
    let (a, b) = (driver.make("a", 16), driver.make("b", 16));
    // names are text, and no paths
    let longest = "é".repeat(64);
    for name in ["../../etc/passwd", "a b\tc", ".", "/", longest.as_str()] {
        let volume = driver.make(name, 16);
        assert_eq!(driver.make(name, 16), volume, "{name}");
        let snapshot = driver.snapshot(name, &volume).unwrap();
        assert_eq!(driver.snapshot(name, &volume).unwrap(), snapshot, "{name}");
        assert_eq!(code(driver.snapshot(name, &a)), Code::AlreadyExists, "{name}");
        driver.delete_snapshot(&snapshot.snapshot_id).unwrap();
        driver.delete(&volume).unwrap();
    }
    assert_eq!(driver.volumes().len(), 2);
    let mut cloned = new("clone", 16);
    cloned.volume_content_source = from_volume(&a);
    let clone = driver.create(cloned.clone()).unwrap().volume_id;
    cloned.volume_content_source = from_volume(&b);
    assert_eq!(code(driver.create(cloned.clone())), Code::AlreadyExists);
    cloned.volume_content_source = None;
    assert_eq!(code(driver.create(cloned)), Code::AlreadyExists);
    let mut with_parameters = new("a", 16);
    with_parameters.mutable_parameters.insert("storingInterval".to_owned(), "60".to_owned());
    assert_eq!(code(driver.create(with_parameters)), Code::AlreadyExists);
    // a name is free again when its volume is gone, and then another volume has it
    driver.delete(&clone).unwrap();
    assert_ne!(driver.make("clone", 16), clone);
}
