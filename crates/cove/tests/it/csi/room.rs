//! How much a volume may hold, and how much there is for all.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;

use cove_testkit::proof::Chance;
use tonic::Code;

use super::{Driver, MIB, code, from_volume, new, pb, range};
use crate::harness::{Cove, Objects, Settings, poll};
use crate::loop_disk::LoopDisk;

fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn is_no_room(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::QuotaExceeded | ErrorKind::StorageFull)
}

fn available(driver: &Driver) -> i64 {
    let told = driver.wait(driver.controller().get_capacity(pb::GetCapacityRequest::default()));
    told.unwrap().available_capacity
}

#[test]
fn a_volume_holds_what_it_was_made_for_and_what_it_is_expanded_to() {
    let Some(driver) = Driver::start() else { return };
    let volumes = [driver.make("data", 16), driver.make("other", 16)];
    let targets = volumes.each_ref().map(|volume| driver.publish(volume, volume));
    let [volume, _] = &volumes;
    let [target, other] = &targets;
    let noise = Chance::new(11).bytes(12 << 20);
    let empty = driver.stats(volume, target).unwrap();
    assert_eq!((empty.total, empty.total), (16 * MIB, empty.used + empty.available));
    assert_eq!(empty.unit, i32::from(pb::volume_usage::Unit::Bytes));
    write(&target.join("fits"), &noise).unwrap();
    let full = poll("what is written is charged", || {
        let told = driver.stats(volume, target).unwrap();
        if told.used >= 12 * MIB { Ok(told) } else { Err(format!("{told:?}")) }
    });
    assert_eq!((full.total, full.available), (16 * MIB, 16 * MIB - full.used));
    let refused = write(&target.join("more"), &noise).unwrap_err();
    assert!(is_no_room(&refused), "{refused}");
    // nobody else is hit, and what was there is whole
    write(&other.join("fits"), &noise).unwrap();
    assert!(fs::read(target.join("fits")).unwrap() == noise);
    assert_eq!(driver.stats(volume, target).unwrap().total, 16 * MIB);
    driver.snapshot("of a full one", volume).unwrap();

    assert_eq!(driver.expand(volume, 40).unwrap(), 40 * MIB);
    write(&target.join("more"), &noise).unwrap();
    let larger = driver.stats(volume, target).unwrap();
    assert_eq!((larger.total, larger.available), (40 * MIB, 40 * MIB - larger.used));
    // to the byte, and never less than it has
    let odd = pb::ControllerExpandVolumeRequest {
        volume_id: volume.clone(),
        capacity_range: range(48 * MIB + 1, 48 * MIB + 1),
        ..pb::ControllerExpandVolumeRequest::default()
    };
    let told = driver.wait(driver.controller().controller_expand_volume(odd)).unwrap();
    assert_eq!(told.capacity_bytes, 48 * MIB + 1);
    assert_eq!(driver.expand(volume, 20).unwrap(), 48 * MIB + 1);
    assert_eq!(driver.stats(volume, target).unwrap().total, 48 * MIB + 1);
    let on_node = pb::NodeExpandVolumeRequest {
        volume_id: volume.clone(),
        volume_path: super::text(target),
        ..pb::NodeExpandVolumeRequest::default()
    };
    let told = driver.wait(driver.node().node_expand_volume(on_node)).unwrap();
    assert_eq!(told.capacity_bytes, 48 * MIB + 1);
    assert!(fs::read(target.join("more")).unwrap() == noise);
    for volume in &volumes {
        driver.unpublish(volume, volume);
    }
}

#[test]
fn a_name_is_a_size_within_what_is_asked_for() {
    let Some(driver) = Driver::start() else { return };
    let sized = |least: i64, most: i64| {
        let mut request = new("data", 0);
        request.capacity_range = range(least, most);
        driver.create(request)
    };
    let made = sized(20 * MIB, 30 * MIB).unwrap();
    assert_eq!(made.capacity_bytes, 20 * MIB);
    for (least, most) in [(20 * MIB, 30 * MIB), (20 * MIB, 20 * MIB), (10 * MIB, 0), (0, 20 * MIB)]
    {
        assert_eq!(sized(least, most).unwrap(), made, "{least} to {most}");
    }
    for (least, most) in [(21 * MIB, 0), (0, 19 * MIB), (20 * MIB + 1, 30 * MIB)] {
        assert_eq!(code(sized(least, most)), Code::AlreadyExists, "{least} to {most}");
    }
    assert_eq!(driver.expand(&made.volume_id, 25).unwrap(), 25 * MIB);
    // a repetition that comes late finds what has grown since
    assert_eq!(sized(20 * MIB, 30 * MIB).unwrap().volume_id, made.volume_id);
    let source = made.volume_id;
    let clone = |name: &str, mib: i64| {
        let mut request = new(name, mib);
        request.volume_content_source = from_volume(&source);
        driver.create(request)
    };
    assert_eq!(clone("clone", 100).unwrap().capacity_bytes, 100 * MIB);
    assert_eq!(driver.volumes().len(), 2);
}

#[test]
fn a_full_pool_has_a_scheduler_look_elsewhere_and_hurts_no_volume() {
    let flags = super::ONE_SOCKET.to_vec();
    let settings = Settings { flags, ..Settings::with(Objects::Directory) };
    let Some(mut cove) = Cove::prepare(settings) else { return };
    // a pool grows until 2 GiB of its disk are left
    let disk = LoopDisk::mount(3 << 30);
    cove.home = disk.path().join("home");
    cove.up();
    let driver = Driver::of(cove);
    let room = available(&driver);
    eprintln!("{} MiB are available on a disk of 3 GiB", room / MIB);
    assert!((64 * MIB..=1024 * MIB).contains(&room), "{room}");
    let elsewhere = pb::GetCapacityRequest {
        accessible_topology: Some(pb::Topology {
            segments: [(cove_csi::TOPOLOGY_NODE.to_owned(), "n2".to_owned())].into(),
        }),
        ..pb::GetCapacityRequest::default()
    };
    let told = driver.wait(driver.controller().get_capacity(elsewhere)).unwrap();
    assert_eq!(told.available_capacity, 0);

    // what could never be used here is refused, and so is a place that this is not
    let too_large = driver.create(new("too large", 10 << 10));
    assert_eq!(code(too_large), Code::ResourceExhausted);
    let large = driver.make("large", room / MIB);
    let small = driver.make("small", 16);
    let target = driver.publish(&large, "large");
    let beside = driver.publish(&small, "small");
    let noise = Chance::new(12).bytes(4 << 20);
    let mut filled = 0;
    // whoever is faster than the pool grows is refused before it has grown all that it can
    let left = poll("the pool is full", || {
        let refused = loop {
            match write(&target.join(format!("fill-{filled}")), &noise) {
                Ok(()) => filled += 1,
                Err(error) => break error,
            }
        };
        assert!(is_no_room(&refused), "{refused}");
        let left = available(&driver);
        if left < 128 * MIB { Ok(left) } else { Err(format!("{refused}, {left} bytes are left")) }
    });
    assert!(filled > 10, "{filled} files of 4 MiB");
    eprintln!("{filled} files of 4 MiB fill it up to {left} bytes");
    assert_eq!(code(driver.create(new("one more", 128))), Code::ResourceExhausted);
    assert_eq!(driver.volumes().len(), 2);
    // the others are read, listed, unpublished and deleted as ever
    fs::read_dir(&beside).unwrap();
    assert!(fs::read(target.join("fill-0")).unwrap() == noise);
    driver.unpublish(&small, "small");
    driver.delete(&small).unwrap();
    driver.unpublish(&large, "large");
    driver.delete(&large).unwrap();
    let made = poll("there is room again", || match driver.create(new("one more", 128)) {
        Ok(made) => Ok(made.volume_id),
        Err(status) if status.code() == Code::ResourceExhausted => Err(format!("{status:?}")),
        Err(status) => panic!("{status:?}"),
    });
    let target = driver.publish(&made, "made");
    write(&target.join("file"), &noise).unwrap();
    driver.unpublish(&made, "made");
}
