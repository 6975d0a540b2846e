//! Many calls on one thing, and lists that change while they are read.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::future::Future;

use cove_testkit::proof;
use futures::future::join_all;
use tonic::{Code, Response, Status};

use super::{Driver, MIB, code, new, new_snapshot, pb, range};

/// So many callers want the same at once.
const CALLERS: usize = 32;

/// What each caller is told; whoever comes second is told to come again, and nothing else.
#[track_caller]
fn answers<T, F>(driver: &Driver, call: impl Fn() -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = Result<Response<T>, Status>> + Send + 'static,
{
    let calls: Vec<_> = (0..CALLERS).map(|_| driver.runtime.spawn(call())).collect();
    let mut answered = Vec::new();
    for answer in driver.runtime.block_on(join_all(calls)) {
        match answer.unwrap() {
            Ok(answer) => answered.push(answer.into_inner()),
            Err(status) => assert_eq!(status.code(), Code::Aborted, "{status:?}"),
        }
    }
    assert!(!answered.is_empty(), "one of them does it");
    answered
}

#[test]
fn one_name_or_one_id_at_once_is_one_thing() {
    let Some(driver) = Driver::start() else { return };
    let (controller, node) = (driver.controller(), driver.node());
    let mut told = BTreeSet::new();
    for round in 0..proof::rounds(2, 20) {
        let name = format!("wanted {round}");
        let made = answers(&driver, || {
            let (mut controller, request) = (controller.clone(), new(&name, 32));
            async move { controller.create_volume(request).await }
        });
        told.insert(made.len());
        let ids: BTreeSet<String> =
            made.into_iter().map(|answer| answer.volume.unwrap().volume_id).collect();
        assert_eq!(ids.len(), 1, "{ids:?}");
        let volume = driver.make(&name, 32);
        assert!(ids.contains(&volume));
        assert_eq!(driver.volumes(), [volume.as_str()]);

        let name = format!("kept {round}");
        let made = answers(&driver, || {
            let (mut controller, request) = (controller.clone(), new_snapshot(&name, &volume));
            async move { controller.create_snapshot(request).await }
        });
        let ids: BTreeSet<String> =
            made.into_iter().map(|answer| answer.snapshot.unwrap().snapshot_id).collect();
        assert_eq!(ids.len(), 1, "{ids:?}");
        let snapshot = driver.snapshot(&name, &volume).unwrap().snapshot_id;
        assert!(ids.contains(&snapshot));
        assert_eq!(driver.snapshots(), [snapshot.as_str()]);

        driver.controller_publish(&volume, false).unwrap();
        let request = driver.to_publish(&volume, "pod");
        answers(&driver, || {
            let (mut node, request) = (node.clone(), request.clone());
            async move { node.node_publish_volume(request).await }
        });
        assert_eq!(driver.mounts().len(), 1, "{:?}", driver.mounts());
        // what is in use stays, however many want it gone
        assert_eq!(code(driver.delete(&volume)), Code::FailedPrecondition);
        answers(&driver, || {
            let mut node = node.clone();
            let request = pb::NodeUnpublishVolumeRequest {
                volume_id: volume.clone(),
                target_path: request.target_path.clone(),
            };
            async move { node.node_unpublish_volume(request).await }
        });
        assert_eq!(driver.mounts(), [""; 0]);
        driver.controller_unpublish(&volume).unwrap();

        answers(&driver, || {
            let mut controller = controller.clone();
            let request = pb::DeleteVolumeRequest {
                volume_id: volume.clone(),
                ..pb::DeleteVolumeRequest::default()
            };
            async move { controller.delete_volume(request).await }
        });
        assert_eq!(driver.volumes(), [""; 0]);
        assert_eq!(driver.snapshots(), [snapshot.as_str()], "which outlives its volume");
        answers(&driver, || {
            let mut controller = controller.clone();
            let request = pb::DeleteSnapshotRequest {
                snapshot_id: snapshot.clone(),
                ..pb::DeleteSnapshotRequest::default()
            };
            async move { controller.delete_snapshot(request).await }
        });
        assert_eq!(driver.snapshots(), [""; 0]);
    }
    eprintln!("of {CALLERS} who wanted one name, so many got it at once: {told:?}");
}

#[test]
fn of_expansions_at_once_none_takes_away_what_another_gave() {
    let Some(driver) = Driver::start() else { return };
    let volume = driver.make("data", 16);
    for round in (1..).take(proof::rounds(3, 30)) {
        // the smallest last: it is to find what the others have given
        let sizes = Cell::new((16 + round * 64) * MIB);
        let told = answers(&driver, || {
            sizes.set(sizes.get() - MIB);
            let request = pb::ControllerExpandVolumeRequest {
                volume_id: volume.clone(),
                capacity_range: range(sizes.get(), 0),
                ..pb::ControllerExpandVolumeRequest::default()
            };
            let mut controller = driver.controller();
            async move { controller.controller_expand_volume(request).await }
        });
        let largest = told.iter().map(|answer| answer.capacity_bytes).max();
        assert_eq!(Some(driver.expand(&volume, 1).unwrap()), largest);
    }
}

#[test]
fn many_names_at_once_are_as_many_volumes() {
    let Some(driver) = Driver::start() else { return };
    let calls = (0..CALLERS).map(|number| {
        let mut controller = driver.controller();
        let request = new(&format!("volume {number}"), 16);
        async move { controller.create_volume(request).await }
    });
    let made = driver.runtime.block_on(join_all(calls));
    let ids: BTreeSet<String> =
        made.into_iter().map(|one| one.unwrap().into_inner().volume.unwrap().volume_id).collect();
    assert_eq!(driver.volumes(), ids.into_iter().collect::<Vec<_>>());
}

#[test]
fn lists_are_read_in_pages_while_they_change() {
    let Some(driver) = Driver::start() else { return };
    let mut volumes: Vec<String> =
        (0..9).map(|number| driver.make(&format!("volume {number}"), 16)).collect();
    volumes.sort();
    assert_eq!(driver.volumes(), volumes, "all that there are");
    let (page, token) = driver.volumes_from("", 3).unwrap();
    assert_eq!(page, volumes[..3]);
    // what the token names, what is before it and what follows
    for gone in [2, 0, 3] {
        driver.delete(&volumes[gone]).unwrap();
    }
    let added = driver.make("added", 16);
    let mut left = volumes[4..].to_vec();
    left.extend(Some(added).filter(|added| *added > volumes[2]));
    left.sort();
    let (mut seen, mut next) = (Vec::new(), token.clone());
    while !next.is_empty() {
        let (page, token) = driver.volumes_from(&next, 2).unwrap();
        assert!((1..=2).contains(&page.len()), "{page:?}");
        seen.extend(page);
        next = token;
    }
    assert_eq!(seen, left);
    assert_eq!(driver.volumes_from(&token, 0).unwrap(), (left, String::new()));

    let volume = driver.make("with snapshots", 16);
    let mut snapshots: Vec<String> = (0..5)
        .map(|number| driver.snapshot(&format!("s{number}"), &volume).unwrap().snapshot_id)
        .collect();
    snapshots.sort();
    let ids = |page: Vec<pb::Snapshot>| -> Vec<String> {
        page.into_iter().map(|one| one.snapshot_id).collect()
    };
    let (page, token_of_snapshots) = driver.snapshots_from("", 2).unwrap();
    assert_eq!(ids(page), snapshots[..2]);
    for gone in [1, 2] {
        driver.delete_snapshot(&snapshots[gone]).unwrap();
    }
    driver.delete(&volume).unwrap();
    let (page, next) = driver.snapshots_from(&token_of_snapshots, 1).unwrap();
    assert_eq!(ids(page), snapshots[3..4]);
    let (page, next) = driver.snapshots_from(&next, 1).unwrap();
    assert_eq!((ids(page), next), (snapshots[4..].to_vec(), String::new()));

    for volume in driver.volumes() {
        driver.delete(&volume).unwrap();
    }
    assert_eq!(driver.volumes_from(&token, 1).unwrap(), (Vec::new(), String::new()));
    // a token is that of its own list
    assert_eq!(code(driver.snapshots_from(&token, 1)), Code::Aborted);
    assert_eq!(code(driver.volumes_from(&token_of_snapshots, 1)), Code::Aborted);
}
