use std::path::Path;

use super::*;
use crate::thing::Thing;

pub(super) fn stage(volume_id: &str, path: &str) -> pb::NodeStageVolumeRequest {
    pb::NodeStageVolumeRequest {
        volume_id: volume_id.to_owned(),
        staging_target_path: path.to_owned(),
        volume_capability: Some(writer()),
        ..Default::default()
    }
}

pub(super) fn publish(
    volume_id: &str,
    staging: &str,
    target: &str,
) -> pb::NodePublishVolumeRequest {
    pb::NodePublishVolumeRequest {
        volume_id: volume_id.to_owned(),
        staging_target_path: staging.to_owned(),
        target_path: target.to_owned(),
        volume_capability: Some(writer()),
        ..Default::default()
    }
}

pub(super) fn unpublish(volume_id: &str, target: &str) -> pb::NodeUnpublishVolumeRequest {
    pb::NodeUnpublishVolumeRequest {
        volume_id: volume_id.to_owned(),
        target_path: target.to_owned(),
    }
}

pub(super) fn stats(volume_id: &str, path: &str) -> pb::NodeGetVolumeStatsRequest {
    pb::NodeGetVolumeStatsRequest {
        volume_id: volume_id.to_owned(),
        volume_path: path.to_owned(),
        ..Default::default()
    }
}

pub(super) fn expand(volume_id: &str, path: &str) -> pb::NodeExpandVolumeRequest {
    pb::NodeExpandVolumeRequest {
        volume_id: volume_id.to_owned(),
        volume_path: path.to_owned(),
        ..Default::default()
    }
}

#[tokio::test]
async fn what_a_request_lacks_is_said_before_anything_is_done() {
    let served = Served::all().await;
    let mut node = served.node();
    let place = served.text("target");
    let mut bare = publish("vol-none", "", &place);
    bare.volume_capability = None;
    for request in [publish("", &place, &place), publish("vol-none", &place, ""), bare] {
        assert_eq!(code(node.node_publish_volume(request).await), Code::InvalidArgument);
    }
    let unstaged = node.node_publish_volume(publish("vol-none", "", &place)).await;
    assert_eq!(code(unstaged), Code::FailedPrecondition);
    let unknown = node.node_publish_volume(publish("vol-none", &place, &place)).await;
    assert_eq!(code(unknown), Code::NotFound);
    let mut bare = stage("vol-none", &place);
    bare.volume_capability = None;
    for request in [stage("", &place), stage("vol-none", ""), bare] {
        assert_eq!(code(node.node_stage_volume(request).await), Code::InvalidArgument);
    }
    assert_eq!(code(node.node_stage_volume(stage("vol-none", &place)).await), Code::NotFound);
    for (volume_id, path) in [("", place.as_str()), ("vol-none", "")] {
        let request = unpublish(volume_id, path);
        assert_eq!(code(node.node_unpublish_volume(request).await), Code::InvalidArgument);
        let request = stats(volume_id, path);
        assert_eq!(code(node.node_get_volume_stats(request).await), Code::InvalidArgument);
        let request = expand(volume_id, path);
        assert_eq!(code(node.node_expand_volume(request).await), Code::InvalidArgument);
        let request = pb::NodeUnstageVolumeRequest {
            volume_id: volume_id.to_owned(),
            staging_target_path: path.to_owned(),
        };
        assert_eq!(code(node.node_unstage_volume(request).await), Code::InvalidArgument);
    }
    assert_eq!(code(node.node_get_volume_stats(stats("vol-none", "a/b")).await), Code::NotFound);
    assert_eq!(code(node.node_expand_volume(expand("vol-none", "a/b")).await), Code::NotFound);
    let volume = served.create("data").await.volume_id;
    assert_eq!(code(node.node_get_volume_stats(stats(&volume, "a/b")).await), Code::NotFound);
    assert_eq!(code(node.node_expand_volume(expand(&volume, "a/b")).await), Code::NotFound);
    assert!(!Path::new(&place).exists());
}

#[tokio::test]
async fn unpublishing_what_is_not_there_is_success_and_deletes_nothing() {
    let served = Served::all().await;
    let mut node = served.node();
    for path in [served.text("none"), served.text("none/none")] {
        node.node_unpublish_volume(unpublish("vol-none", &path)).await.unwrap();
        node.node_unpublish_volume(unpublish("Malformed", &path)).await.unwrap();
    }
    std::fs::create_dir(served.path("full")).unwrap();
    std::fs::write(served.path("full/mine"), "kept").unwrap();
    let full = node.node_unpublish_volume(unpublish("vol-none", &served.text("full"))).await;
    assert_eq!(code(full), Code::FailedPrecondition);
    assert_eq!(std::fs::read(served.path("full/mine")).unwrap(), b"kept");
    std::os::unix::fs::symlink("full", served.path("link")).unwrap();
    node.node_unpublish_volume(unpublish("vol-none", &served.text("link"))).await.unwrap();
    assert!(served.path("full/mine").exists());
}

#[tokio::test]
async fn a_volume_is_mounted_neither_over_files_nor_where_cove_keeps_its_own() {
    let served = Served::all().await;
    let mut node = served.node();
    let volume = served.create("data").await.volume_id;
    std::fs::create_dir_all(served.path("full/mine")).unwrap();
    std::fs::create_dir(served.path("cove")).unwrap();
    let staging = served.text("staging");
    let files = format!("pool/volumes/{volume}/files");
    for path in [&files, &format!("{files}/new"), "pool/new", "pool", "cove", "cove/new"] {
        let place = served.text(path);
        let refused = node.node_publish_volume(publish(&volume, &staging, &place)).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{path}: {refused}");
        assert!(refused.message().starts_with("field \"target_path\": "), "{path}: {refused}");
        let refused = node.node_stage_volume(stage(&volume, &place)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{path}: {refused}");
        let field = "field \"staging_target_path\": ";
        assert!(refused.message().starts_with(field), "{path}: {refused}");
    }
    assert_eq!(std::fs::read_dir(served.path(&files)).unwrap().count(), 0);
    let full = served.text("full");
    let refused = node.node_publish_volume(publish(&volume, &staging, &full)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    assert!(refused.message().starts_with("field \"target_path\": "), "{refused}");
    assert!(served.path("full/mine").exists());
    // a staging path is not mounted on
    node.node_stage_volume(stage(&volume, &full)).await.unwrap();
}

#[tokio::test]
async fn one_call_at_a_time_works_at_a_place_whatever_its_volume() {
    let served = Served::all().await;
    let volume = served.create("data").await.volume_id;
    let place = served.home.path().canonicalize().unwrap().join("target");
    let turn = served.csi.0.mounting.begin([Thing::Point(place.clone())]).unwrap();
    // by another path, too
    std::os::unix::fs::symlink(".", served.path("link")).unwrap();
    for target in [served.text("target"), served.text("link/target")] {
        let request = publish(&volume, &served.text("staging"), &target);
        assert_eq!(code(served.node().node_publish_volume(request).await), Code::Aborted);
        let request = unpublish("vol-none", &target);
        assert_eq!(code(served.node().node_unpublish_volume(request).await), Code::Aborted);
    }
    assert!(!place.exists());
    drop(turn);
    let request = unpublish(&volume, &served.text("target"));
    served.node().node_unpublish_volume(request).await.unwrap();
}

#[tokio::test]
async fn a_deletion_that_lasts_keeps_out_who_mounts_and_not_who_unmounts() {
    let served = Served::all().await;
    let volume = served.create("data").await.volume_id;
    let id: cove_types::VolumeId = volume.parse().unwrap();
    let _deleting = served.csi.0.mounting.begin([Thing::from(&id)]).unwrap();
    let (mut node, place) = (served.node(), served.text("target"));
    std::fs::create_dir(&place).unwrap();
    node.node_unpublish_volume(unpublish(&volume, &place)).await.unwrap();
    assert!(!Path::new(&place).exists());
    let request = publish(&volume, &served.text("staging"), &place);
    assert_eq!(code(node.node_publish_volume(request).await), Code::Aborted);
    assert_eq!(code(node.node_stage_volume(stage(&volume, &place)).await), Code::Aborted);
    assert!(!Path::new(&place).exists());
}

#[tokio::test]
async fn a_link_in_the_place_of_a_target_is_refused_and_nothing_is_left() {
    let served = Served::all().await;
    let volume = served.create("data").await.volume_id;
    let elsewhere = served.path("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, served.path("link")).unwrap();
    std::os::unix::fs::symlink("nowhere", served.path("dangling")).unwrap();
    std::fs::write(served.path("file"), "mine").unwrap();
    for name in ["link", "dangling", "file"] {
        let request = publish(&volume, &served.text("staging"), &served.text(name));
        let refused = served.node().node_publish_volume(request).await;
        assert_eq!(code(refused), Code::InvalidArgument, "{name}");
        let refused = served.node().node_stage_volume(stage(&volume, &served.text(name))).await;
        assert_eq!(code(refused), Code::InvalidArgument, "{name}");
    }
    for path in ["relative/target", "/", "/tmp/.."] {
        let request = publish(&volume, &served.text("staging"), path);
        let refused = served.node().node_publish_volume(request).await;
        assert_eq!(code(refused), Code::InvalidArgument, "{path}");
    }
    assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 0);
    assert!(!served.path("nowhere").exists());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&served.text("")));
}
