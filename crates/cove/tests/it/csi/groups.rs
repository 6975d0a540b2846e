//! Snapshots of several volumes at one instant.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use cove_csi::proto as pb;
use cove_testkit::proof;
use tonic::Code;

use super::{Driver, code, from_snapshot, new};
use crate::harness::poll;

fn new_group(name: &str, volumes: &[String]) -> pb::CreateVolumeGroupSnapshotRequest {
    pb::CreateVolumeGroupSnapshotRequest {
        name: name.to_owned(),
        source_volume_ids: volumes.to_vec(),
        ..pb::CreateVolumeGroupSnapshotRequest::default()
    }
}

/// Counts in a file of each directory, one after the other, until it is told to stop.
struct Counter {
    count: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Counter {
    fn start(files: Vec<File>) -> Self {
        let (count, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (told, ended) = (Arc::clone(&count), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            for n in 1_u64.. {
                for file in &files {
                    file.write_all_at(&n.to_le_bytes(), 0).unwrap();
                }
                told.store(n, Ordering::Relaxed);
                if ended.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        Self { count, stop, thread: Some(thread) }
    }

    fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    fn moves_on(&self) {
        let before = self.count();
        poll("the counter moves on", || match self.count() {
            now if now > before + 100 => Ok(()),
            now => Err(now.to_string()),
        });
    }

    fn stop(mut self) {
        self.end().unwrap();
    }

    fn end(&mut self) -> std::thread::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map_or(Ok(()), std::thread::JoinHandle::join)
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

#[test]
fn a_group_holds_one_instant_of_volumes_that_are_written_to() {
    let Some(driver) = Driver::start() else { return };
    let names = ["first", "second", "third"];
    let volumes = names.map(|name| driver.make(name, 32));
    let files = volumes
        .iter()
        .zip(names)
        .map(|(volume, name)| File::create(driver.publish(volume, name).join("count")).unwrap());
    let counter = Counter::start(files.collect());
    let mut last = 0;
    let rounds = proof::rounds(5, 50);
    for round in 0..rounds {
        counter.moves_on();
        let before = counter.count();
        let mut asked = volumes.clone();
        asked.rotate_left(round % 3);
        let request = new_group(&format!("group {round}"), &asked);
        let made = driver.wait(driver.group().create_volume_group_snapshot(request.clone()));
        let made = made.unwrap().group_snapshot.unwrap();
        assert!(made.ready_to_use && made.creation_time.is_some(), "{made:?}");
        let again = driver.wait(driver.group().create_volume_group_snapshot(request)).unwrap();
        let sizeless = |group: &pb::VolumeGroupSnapshot| {
            let mut group = group.clone();
            // which are known once they are saved
            group.snapshots.iter_mut().for_each(|one| one.size_bytes = 0);
            group
        };
        let again = sizeless(&again.group_snapshot.unwrap());
        assert_eq!(again, sizeless(&made), "a repetition is the same");
        let known = driver.wait(driver.group().get_volume_group_snapshot(
            pb::GetVolumeGroupSnapshotRequest {
                group_snapshot_id: made.group_snapshot_id.clone(),
                ..pb::GetVolumeGroupSnapshotRequest::default()
            },
        ));
        assert_eq!(known.unwrap().group_snapshot.unwrap().snapshots.len(), 3);

        let counts = volumes.each_ref().map(|volume| {
            let one = made.snapshots.iter().find(|one| one.source_volume_id == *volume).unwrap();
            assert_eq!(one.group_snapshot_id, made.group_snapshot_id);
            let mut request = new(&format!("of {}", one.snapshot_id), 32);
            request.volume_content_source = from_snapshot(&one.snapshot_id);
            let restored = driver.create(request).unwrap().volume_id;
            let bytes = fs::read(driver.publish(&restored, "restored").join("count")).unwrap();
            driver.unpublish(&restored, "restored");
            driver.delete(&restored).unwrap();
            u64::from_le_bytes(bytes.try_into().unwrap())
        });
        // each number is in the first before it is in the second, and in all before the next
        assert!(counts.is_sorted_by(|a, b| a >= b), "{counts:?}");
        assert!(counts[0] - counts[2] <= 1, "{counts:?}");
        assert!(counts[0] >= before && counts[0] > last, "{counts:?} after {before} and {last}");
        last = counts[0];

        let delete = || {
            driver.wait(driver.group().delete_volume_group_snapshot(
                pb::DeleteVolumeGroupSnapshotRequest {
                    group_snapshot_id: made.group_snapshot_id.clone(),
                    ..pb::DeleteVolumeGroupSnapshotRequest::default()
                },
            ))
        };
        delete().unwrap();
        delete().unwrap();
        assert_eq!(driver.snapshots(), [""; 0]);
    }
    counter.stop();
    for (volume, name) in volumes.iter().zip(names) {
        driver.unpublish(volume, name);
    }
    proof::figure("groups of one instant", rounds);
}

#[test]
fn a_group_is_whole_or_refused() {
    let Some(driver) = Driver::start() else { return };
    let volumes = ["a", "b"].map(|name| driver.make(name, 16));
    let gone = driver.make("gone", 16);
    driver.delete(&gone).unwrap();
    let create = |name: &str, volumes: &[String]| {
        driver.wait(driver.group().create_volume_group_snapshot(new_group(name, volumes)))
    };
    let [a, b] = volumes.clone();
    assert_eq!(code(create("x", &[a.clone(), gone])), Code::NotFound);
    assert_eq!(driver.snapshots(), [""; 0], "not one of it");
    let made = create("x", &volumes).unwrap().group_snapshot.unwrap();
    // the name is that of these volumes, and of a group
    assert_eq!(code(create("x", std::slice::from_ref(&a))), Code::AlreadyExists);
    assert_eq!(code(driver.snapshot("x", &a)), Code::AlreadyExists);
    assert_eq!(driver.snapshots().len(), 2);

    // it outlives its volumes, and half of it is deleted by nobody else
    for volume in [&a, &b] {
        driver.delete(volume).unwrap();
    }
    assert_eq!(driver.snapshots().len(), 2);
    let other = pb::DeleteVolumeGroupSnapshotRequest {
        group_snapshot_id: made.group_snapshot_id.clone(),
        snapshot_ids: made.snapshots.iter().map(|one| one.snapshot_id.clone()).collect(),
        ..pb::DeleteVolumeGroupSnapshotRequest::default()
    };
    driver.wait(driver.group().delete_volume_group_snapshot(other)).unwrap();
    assert_eq!(driver.snapshots(), [""; 0]);
}
