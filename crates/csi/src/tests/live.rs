//! What is mounted is mounted for real.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

use super::node::{expand, publish, stage, stats, unpublish};
use super::*;
use crate::mounts::{self, Mount};
use crate::thing::Thing;

/// Takes away whatever a test that fails leaves mounted.
struct Unmount(Vec<PathBuf>);

impl Drop for Unmount {
    fn drop(&mut self) {
        for path in &self.0 {
            while rustix::mount::unmount(path, UnmountFlags::DETACH).is_ok() {}
        }
    }
}

/// A driver whose targets below its home are unmounted at the end; none when nothing can be mounted.
async fn start(targets: &[&str]) -> Option<(Served, Unmount)> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: a live test needs root");
        return None;
    }
    let served = Served::all().await;
    let unmount = Unmount(targets.iter().map(|name| served.path(name)).collect());
    Some((served, unmount))
}

/// What is mounted at a path of which there is one mount alone.
fn mounted(path: &Path) -> Mount {
    let mut there = mounts::read().unwrap().into_iter().filter(|mount| mount.point == path);
    let mount = there.next().expect("something is mounted there");
    assert_eq!(there.next(), None);
    mount
}

#[tokio::test]
async fn a_volume_is_published_used_and_unpublished() {
    let Some((served, _unmount)) = start(&["tar get", "second"]).await else { return };
    let mut node = served.node();
    let volume = served.create("data").await.volume_id;
    let (staging, target) = (served.text("stag ing"), served.text("tar get"));
    for _ in 0..3 {
        node.node_stage_volume(stage(&volume, &staging)).await.unwrap();
    }
    for _ in 0..3 {
        node.node_publish_volume(publish(&volume, &staging, &target)).await.unwrap();
    }
    std::fs::write(served.path("tar get/file"), "data").unwrap();
    let written = served.path(&format!("pool/volumes/{volume}/files/file"));
    assert_eq!(std::fs::read(&written).unwrap(), b"data");

    let usage = node.node_get_volume_stats(stats(&volume, &target)).await.unwrap().into_inner();
    let usage = &usage.usage[0];
    assert_eq!((usage.total, usage.used), (10 * MIB, 30 * MIB));
    for path in [&target, &staging] {
        let told = node.node_expand_volume(expand(&volume, path)).await.unwrap().into_inner();
        assert_eq!(told.capacity_bytes, 10 * MIB);
    }

    let mut read_only = publish(&volume, &staging, &target);
    read_only.readonly = true;
    assert_eq!(code(node.node_publish_volume(read_only).await), Code::AlreadyExists);
    let other = served.create("other").await.volume_id;
    let taken = node.node_publish_volume(publish(&other, &staging, &target)).await;
    assert_eq!(code(taken), Code::AlreadyExists);
    assert_eq!(code(node.node_get_volume_stats(stats(&other, &target)).await), Code::NotFound);
    // what is another volume's stays
    node.node_unpublish_volume(unpublish(&other, &target)).await.unwrap();
    assert!(served.path("tar get/file").exists());

    let mut alone = publish(&volume, &staging, &served.text("second"));
    alone.volume_capability = Some(capability(Mode::SingleNodeSingleWriter, &[]));
    assert_eq!(code(node.node_publish_volume(alone).await), Code::FailedPrecondition);
    assert!(!served.path("second").exists());
    node.node_publish_volume(publish(&volume, &staging, &served.text("second"))).await.unwrap();
    // through a mount of a volume a volume is reached
    std::fs::create_dir(served.path("tar get/empty")).unwrap();
    for inside in ["tar get/new", "tar get/empty"] {
        let inside = publish(&volume, &staging, &served.text(inside));
        assert_eq!(code(node.node_publish_volume(inside).await), Code::InvalidArgument);
    }
    node.node_unpublish_volume(unpublish(&volume, &served.text("second"))).await.unwrap();

    for _ in 0..2 {
        node.node_unpublish_volume(unpublish(&volume, &target)).await.unwrap();
        assert!(!served.path("tar get").exists());
    }
    assert_eq!(std::fs::read(&written).unwrap(), b"data");
}

#[tokio::test]
async fn a_volume_is_mounted_as_is_asked() {
    let Some((served, _unmount)) = start(&["target"]).await else { return };
    let mut node = served.node();
    let volume = served.create("data").await.volume_id;
    let target = served.path("target");
    let mut request = publish(&volume, &served.text("staging"), &served.text("target"));
    request.volume_capability = Some(capability(Mode::SingleNodeWriter, &["nosuid", "noexec"]));
    request.publish_context.insert("cove.csi.storage/readonly".to_owned(), "true".to_owned());
    for _ in 0..2 {
        node.node_publish_volume(request.clone()).await.unwrap();
    }
    let refused = std::fs::write(target.join("file"), "data").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    let flags = mounted(&target).flags;
    assert!(flags.contains(MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NOEXEC));
    // the volume itself goes on being written to
    std::fs::write(served.path(&format!("pool/volumes/{volume}/files/file")), "x").unwrap();
    node.node_unpublish_volume(unpublish(&volume, &served.text("target"))).await.unwrap();
    assert!(!target.exists());
}

#[tokio::test]
async fn a_volume_that_is_read_only_is_so_for_whoever_sees_the_mount() {
    let places = ["shared/target", "seen/target", "seen", "shared"];
    let Some((served, _unmount)) = start(&places).await else { return };
    let mut node = served.node();
    let volume = served.create("data").await.volume_id;
    // as kubelet's directory is: what is mounted in a pod's is copied to that of the node
    let [shared, seen] = ["shared", "seen"].map(|name| served.path(name));
    for place in [&shared, &seen] {
        std::fs::create_dir(place).unwrap();
    }
    rustix::mount::mount("tmpfs", &shared, "tmpfs", MountFlags::empty(), None).unwrap();
    rustix::mount::mount_change(&shared, MountPropagationFlags::SHARED).unwrap();
    rustix::mount::mount_bind(&shared, &seen).unwrap();

    let mut request = publish(&volume, &served.text("staging"), &served.text("shared/target"));
    request.readonly = true;
    node.node_publish_volume(request).await.unwrap();
    for place in [shared.join("target"), seen.join("target")] {
        let refused = std::fs::write(place.join("file"), "data").unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem, "{place:?}");
        let mount = mounted(&place);
        assert!(mount.flags.contains(MountFlags::RDONLY), "{mount:?}");
    }
    let target = served.text("shared/target");
    node.node_unpublish_volume(unpublish(&volume, &target)).await.unwrap();
    assert!(!seen.join("target").exists());
}

#[tokio::test]
async fn options_that_say_two_things_are_the_same_ones_when_they_are_asked_for_again() {
    let Some((served, _unmount)) = start(&["target"]).await else { return };
    let volume = served.create("data").await.volume_id;
    for (options, flags) in [
        (&["noatime", "relatime"][..], MountFlags::NOATIME),
        (&["relatime", "nodiratime"], MountFlags::RELATIME | MountFlags::NODIRATIME),
        (
            &["noexec", "nosuid", "nodev"],
            MountFlags::NOEXEC | MountFlags::NOSUID | MountFlags::NODEV,
        ),
    ] {
        let mut request = publish(&volume, &served.text("staging"), &served.text("target"));
        request.volume_capability = Some(capability(Mode::SingleNodeWriter, options));
        for _ in 0..2 {
            served.node().node_publish_volume(request.clone()).await.unwrap();
        }
        let mount = mounted(&served.path("target"));
        assert!(mount.flags.contains(flags), "{options:?}: {mount:?}");
        let request = unpublish(&volume, &served.text("target"));
        served.node().node_unpublish_volume(request).await.unwrap();
    }
}

#[tokio::test]
async fn a_volume_that_is_mounted_under_something_else_is_not_said_to_be_gone() {
    let Some((served, _unmount)) = start(&["target"]).await else { return };
    let volume = served.create("data").await.volume_id;
    let target = served.path("target");
    let request = publish(&volume, &served.text("staging"), &served.text("target"));
    served.node().node_publish_volume(request).await.unwrap();
    rustix::mount::mount("tmpfs", &target, "tmpfs", MountFlags::empty(), None).unwrap();
    let request = unpublish(&volume, &served.text("target"));
    let refused = served.node().node_unpublish_volume(request.clone()).await;
    assert_eq!(code(refused), Code::FailedPrecondition);
    rustix::mount::unmount(&target, UnmountFlags::empty()).unwrap();
    served.node().node_unpublish_volume(request).await.unwrap();
    assert!(!target.exists());
}

#[tokio::test]
async fn a_mount_that_another_one_hides_is_not_there() {
    let places = ["kubelet", "kubelet/pod/mount"];
    let Some((served, _unmount)) = start(&places).await else { return };
    let mut node = served.node();
    let volume = served.create("data").await.volume_id;
    // a mount that is private: what is mounted below it has no copies
    let [kubelet, target] = places.map(|name| served.path(name));
    std::fs::create_dir(&kubelet).unwrap();
    rustix::mount::mount("tmpfs", &kubelet, "tmpfs", MountFlags::empty(), None).unwrap();
    rustix::mount::mount_change(&kubelet, MountPropagationFlags::PRIVATE).unwrap();
    std::fs::create_dir(kubelet.join("pod")).unwrap();
    let request = publish(&volume, &served.text("staging"), target.to_str().unwrap());
    node.node_publish_volume(request.clone()).await.unwrap();
    // the table has it still, and its path shows the directory below
    rustix::mount::mount_bind(&kubelet, &kubelet).unwrap();
    let at = target.to_str().unwrap();
    assert_eq!(code(node.node_get_volume_stats(stats(&volume, at)).await), Code::NotFound);
    node.node_publish_volume(request).await.unwrap();
    std::fs::write(target.join("file"), "of the pod").unwrap();
    let written = served.path(&format!("pool/volumes/{volume}/files/file"));
    assert_eq!(std::fs::read(&written).unwrap(), b"of the pod");

    // what shows is taken away, and what does not holds the directory
    for _ in 0..2 {
        let refused = node.node_unpublish_volume(unpublish(&volume, at)).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        let hidden = format!("volume {volume} is mounted there under the mount at ");
        assert!(refused.message().contains(&hidden), "{refused}");
        assert!(refused.message().ends_with(kubelet.to_str().unwrap()), "{refused}");
        assert!(!target.join("file").exists());
    }
    rustix::mount::unmount(&kubelet, UnmountFlags::empty()).unwrap();
    assert!(target.join("file").exists());
    node.node_unpublish_volume(unpublish(&volume, at)).await.unwrap();
    assert!(!target.exists());
}

#[tokio::test]
async fn what_is_mounted_is_taken_away_while_its_volume_is_being_deleted() {
    let Some((served, _unmount)) = start(&["target"]).await else { return };
    let mut node = served.node();
    let volume = served.create("data").await.volume_id;
    let (staging, target) = (served.text("staging"), served.text("target"));
    let request = publish(&volume, &staging, &target);
    node.node_publish_volume(request.clone()).await.unwrap();
    // as DeleteVolume holds it, for as long as the Hub has it wait for the store
    let id = volume.parse::<cove_types::VolumeId>().unwrap();
    let deleting = served.csi.0.mounting.begin([Thing::from(&id)]).unwrap();
    node.node_unpublish_volume(unpublish(&volume, &target)).await.unwrap();
    assert!(!served.path("target").exists());
    // and nothing is mounted that is about to go
    assert_eq!(code(node.node_publish_volume(request.clone()).await), Code::Aborted);
    assert!(!served.path("target").exists());
    drop(deleting);
    node.node_publish_volume(request).await.unwrap();
    node.node_unpublish_volume(unpublish(&volume, &target)).await.unwrap();
}

#[tokio::test]
async fn mounts_on_top_of_each_other_are_all_taken_away() {
    let Some((served, _unmount)) = start(&["target"]).await else { return };
    let volume = served.create("data").await.volume_id;
    let target = served.path("target");
    let request = publish(&volume, &served.text("staging"), &served.text("target"));
    served.node().node_publish_volume(request).await.unwrap();
    assert_eq!(std::fs::metadata(&target).unwrap().permissions().mode() & 0o7777, 0o755);
    let files = served.path(&format!("pool/volumes/{volume}/files"));
    rustix::mount::mount_bind(&files, &target).unwrap();
    let open = std::fs::File::open(&target).unwrap();
    let busy =
        served.node().node_unpublish_volume(unpublish(&volume, &served.text("target"))).await;
    assert_eq!(code(busy), Code::FailedPrecondition);
    drop(open);
    served.node().node_unpublish_volume(unpublish(&volume, &served.text("target"))).await.unwrap();
    assert!(!target.exists());
}

#[tokio::test]
async fn a_caller_who_is_neither_root_nor_the_driver_is_closed_on() {
    let Some((served, _unmount)) = start(&[]).await else { return };
    // as if somebody had opened the way to the socket
    for (name, mode) in [("", 0o755), ("csi.sock", 0o666)] {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(served.path(name), permissions).unwrap();
    }
    let path = served.path("csi.sock");
    let read = move || {
        rustix::thread::set_thread_uid(rustix::fs::Uid::from_raw(65534)).unwrap();
        let mut stream = std::os::unix::net::UnixStream::connect(path).unwrap();
        std::io::Read::read(&mut stream, &mut [0; 16]).unwrap()
    };
    // a thread of its own, which is somebody else from then on
    let (sent, received) = oneshot::channel();
    std::thread::spawn(move || sent.send(read()));
    assert_eq!(received.await.unwrap(), 0);
    served.identity().probe(pb::ProbeRequest {}).await.unwrap();
}
