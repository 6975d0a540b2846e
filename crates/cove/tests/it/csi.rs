//! The Container Storage Interface, as Kubernetes speaks it.

mod at_once;
mod bad_input;
mod groups;
mod lost;
mod publishing;
mod room;
mod sanity;
mod session;
mod sockets;
mod sources;

use std::fs;
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cove_csi::proto as pb;
use cove_csi::proto::controller_client::ControllerClient;
use cove_csi::proto::group_controller_client::GroupControllerClient;
use cove_csi::proto::identity_client::IdentityClient;
use cove_csi::proto::node_client::NodeClient;
use cove_csi::proto::volume_capability::access_mode::Mode;
use cove_csi::proto::volume_capability::{AccessMode, AccessType, MountVolume};
use cove_csi::proto::volume_content_source::{SnapshotSource, Type, VolumeSource};
use rustix::mount::UnmountFlags;
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

use crate::harness::{Cove, Objects, Settings, poll};

const MIB: i64 = 1 << 20;

/// How long a call may take before a test gives up on it.
const PATIENCE: Duration = Duration::from_secs(60);

/// One socket for everything.
const ONE_SOCKET: [&str; 4] = ["--csi-endpoint", "unix://{dir}/csi.sock", "--node-id", "n1"];

/// A Cove that serves the interface, and its caller.
struct Driver {
    cove: Cove,
    runtime: Runtime,
    channel: Channel,
}

impl Driver {
    /// A driver without volumes; `None` where none can run, which is said.
    fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// The same with further flags.
    fn start_with(flags: &[&'static str]) -> Option<Self> {
        let flags = [&ONE_SOCKET[..], flags].concat();
        Self::start_as(Settings { flags, ..Settings::with(Objects::Directory) })
    }

    fn start_as(settings: Settings) -> Option<Self> {
        Cove::start_with(settings).map(Self::of)
    }

    /// The caller of a Cove that runs and serves at `csi.sock`.
    fn of(cove: Cove) -> Self {
        let runtime = Runtime::new().unwrap();
        let channel = channel(&runtime, &cove.dir.path().join("csi.sock"));
        // whoever uses a volume gets there, as a container gets to what is mounted into it
        for dir in [cove.dir.path().to_owned(), cove.make_dir("pods"), cove.make_dir("staged")] {
            fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self { cove, runtime, channel }
    }

    /// Ends it at once and starts it again.
    fn kill9_and_start(&mut self) {
        self.cove.kill9();
        self.cove.up();
    }

    fn wait<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Status> {
        self.runtime.block_on(call).map(Response::into_inner)
    }

    fn identity(&self) -> IdentityClient<Channel> {
        IdentityClient::new(self.channel.clone())
    }

    fn controller(&self) -> ControllerClient<Channel> {
        ControllerClient::new(self.channel.clone())
    }

    fn group(&self) -> GroupControllerClient<Channel> {
        GroupControllerClient::new(self.channel.clone())
    }

    fn node(&self) -> NodeClient<Channel> {
        NodeClient::new(self.channel.clone())
    }

    fn create(&self, request: pb::CreateVolumeRequest) -> Result<pb::Volume, Status> {
        let made = self.wait(self.controller().create_volume(request))?;
        Ok(made.volume.expect("an answer has a volume"))
    }

    /// The id of a new volume of so many MiB.
    #[track_caller]
    fn make(&self, name: &str, mib: i64) -> String {
        self.create(new(name, mib)).unwrap().volume_id
    }

    fn delete(&self, volume: &str) -> Result<(), Status> {
        let request = pb::DeleteVolumeRequest {
            volume_id: volume.to_owned(),
            ..pb::DeleteVolumeRequest::default()
        };
        self.wait(self.controller().delete_volume(request)).map(drop)
    }

    fn snapshot(&self, name: &str, volume: &str) -> Result<pb::Snapshot, Status> {
        let made = self.wait(self.controller().create_snapshot(new_snapshot(name, volume)))?;
        Ok(made.snapshot.expect("an answer has a snapshot"))
    }

    fn delete_snapshot(&self, snapshot: &str) -> Result<(), Status> {
        let request = pb::DeleteSnapshotRequest {
            snapshot_id: snapshot.to_owned(),
            ..pb::DeleteSnapshotRequest::default()
        };
        self.wait(self.controller().delete_snapshot(request)).map(drop)
    }

    /// A page of volumes: their ids, and where the next one begins.
    fn volumes_from(&self, token: &str, max_entries: i32) -> Result<(Vec<String>, String), Status> {
        let request = pb::ListVolumesRequest { max_entries, starting_token: token.to_owned() };
        let page = self.wait(self.controller().list_volumes(request))?;
        let ids = page.entries.into_iter().map(|entry| entry.volume.unwrap().volume_id).collect();
        Ok((ids, page.next_token))
    }

    /// The ids of all volumes.
    #[track_caller]
    fn volumes(&self) -> Vec<String> {
        self.volumes_from("", 0).unwrap().0
    }

    /// A page of snapshots.
    fn snapshots_from(
        &self,
        token: &str,
        max_entries: i32,
    ) -> Result<(Vec<pb::Snapshot>, String), Status> {
        let request = pb::ListSnapshotsRequest {
            max_entries,
            starting_token: token.to_owned(),
            ..pb::ListSnapshotsRequest::default()
        };
        let page = self.wait(self.controller().list_snapshots(request))?;
        let snapshots = page.entries.into_iter().map(|entry| entry.snapshot.unwrap()).collect();
        Ok((snapshots, page.next_token))
    }

    /// The ids of all snapshots.
    #[track_caller]
    fn snapshots(&self) -> Vec<String> {
        let (snapshots, _) = self.snapshots_from("", 0).unwrap();
        snapshots.into_iter().map(|snapshot| snapshot.snapshot_id).collect()
    }

    /// Where a pod's volume of that name is mounted.
    fn target(&self, pod: &str) -> PathBuf {
        self.cove.dir.path().join("pods").join(pod)
    }

    fn staging(&self, volume: &str) -> String {
        text(&self.cove.dir.path().join("staged").join(volume))
    }

    fn controller_publish(
        &self,
        volume: &str,
        readonly: bool,
    ) -> Result<pb::ControllerPublishVolumeResponse, Status> {
        let request = pb::ControllerPublishVolumeRequest {
            volume_id: volume.to_owned(),
            node_id: "n1".to_owned(),
            volume_capability: Some(writer()),
            readonly,
            ..pb::ControllerPublishVolumeRequest::default()
        };
        self.wait(self.controller().controller_publish_volume(request))
    }

    fn controller_unpublish(&self, volume: &str) -> Result<(), Status> {
        let request = pb::ControllerUnpublishVolumeRequest {
            volume_id: volume.to_owned(),
            ..pb::ControllerUnpublishVolumeRequest::default()
        };
        self.wait(self.controller().controller_unpublish_volume(request)).map(drop)
    }

    fn node_publish(&self, request: pb::NodePublishVolumeRequest) -> Result<(), Status> {
        self.wait(self.node().node_publish_volume(request)).map(drop)
    }

    /// What publishes a volume in a pod.
    fn to_publish(&self, volume: &str, pod: &str) -> pb::NodePublishVolumeRequest {
        pb::NodePublishVolumeRequest {
            volume_id: volume.to_owned(),
            staging_target_path: self.staging(volume),
            target_path: text(&self.target(pod)),
            volume_capability: Some(writer()),
            ..pb::NodePublishVolumeRequest::default()
        }
    }

    /// Gives a pod a volume, as kubelet and the attacher do; where it is.
    #[track_caller]
    fn publish(&self, volume: &str, pod: &str) -> PathBuf {
        self.controller_publish(volume, false).unwrap();
        let request = pb::NodeStageVolumeRequest {
            volume_id: volume.to_owned(),
            staging_target_path: self.staging(volume),
            volume_capability: Some(writer()),
            ..pb::NodeStageVolumeRequest::default()
        };
        self.wait(self.node().node_stage_volume(request)).unwrap();
        self.node_publish(self.to_publish(volume, pod)).unwrap();
        self.target(pod)
    }

    fn node_unpublish(&self, volume: &str, pod: &str) -> Result<(), Status> {
        let request = pb::NodeUnpublishVolumeRequest {
            volume_id: volume.to_owned(),
            target_path: text(&self.target(pod)),
        };
        self.wait(self.node().node_unpublish_volume(request)).map(drop)
    }

    /// Takes a mount away that nobody uses: a child that another test has just forked has what is open there open
    /// too, until it becomes another program.
    #[track_caller]
    fn unmount(&self, volume: &str, pod: &str) {
        let began = std::time::Instant::now();
        let is_child = |status: &Status| {
            status.message().contains("in use") && began.elapsed() < Duration::from_secs(10)
        };
        poll("the mount is taken away", || match self.node_unpublish(volume, pod) {
            Err(status) if is_child(&status) => Err(status.message().to_owned()),
            ended => {
                ended.unwrap();
                Ok(())
            }
        });
    }

    /// Takes a pod's volume away; nothing of it is left.
    #[track_caller]
    fn unpublish(&self, volume: &str, pod: &str) {
        self.unmount(volume, pod);
        assert!(!self.target(pod).exists(), "{pod} is left");
        let request = pb::NodeUnstageVolumeRequest {
            volume_id: volume.to_owned(),
            staging_target_path: self.staging(volume),
        };
        self.wait(self.node().node_unstage_volume(request)).unwrap();
        self.controller_unpublish(volume).unwrap();
    }

    fn stats(&self, volume: &str, path: &Path) -> Result<pb::VolumeUsage, Status> {
        let request = pb::NodeGetVolumeStatsRequest {
            volume_id: volume.to_owned(),
            volume_path: text(path),
            ..pb::NodeGetVolumeStatsRequest::default()
        };
        let told = self.wait(self.node().node_get_volume_stats(request))?;
        assert_eq!(told.usage.len(), 1, "{told:?}");
        Ok(told.usage[0])
    }

    fn expand(&self, volume: &str, mib: i64) -> Result<i64, Status> {
        let request = pb::ControllerExpandVolumeRequest {
            volume_id: volume.to_owned(),
            capacity_range: range(mib * MIB, 0),
            ..pb::ControllerExpandVolumeRequest::default()
        };
        let told = self.wait(self.controller().controller_expand_volume(request))?;
        assert!(!told.node_expansion_required, "its new size holds at once");
        Ok(told.capacity_bytes)
    }

    /// What is mounted for pods, as the kernel tells: places and options.
    fn mounts(&self) -> Vec<String> {
        let all = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let (dir, pool) = (text(self.cove.dir.path()), text(&self.cove.home.join("pool")));
        let mounts = all.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            let (place, options) = (fields[4], fields[5]);
            let is_ours = place.starts_with(&format!("{dir}/")) && place != pool;
            is_ours.then(|| format!("{place} {options}"))
        });
        mounts.collect()
    }

    /// All that a refused call could have changed.
    fn state(&self) -> String {
        let volumes = self.wait(self.controller().list_volumes(pb::ListVolumesRequest::default()));
        let mut entries = volumes.unwrap().entries;
        // two texts of one map need not be in one order
        for volume in entries.iter_mut().filter_map(|entry| entry.volume.as_mut()) {
            assert!(volume.volume_context.is_empty());
        }
        let (snapshots, _) = self.snapshots_from("", 0).unwrap();
        let made = ["pods", "staged"].map(|name| self.cove.dir.path().join(name));
        let mut made: Vec<PathBuf> = made
            .iter()
            .flat_map(|dir| fs::read_dir(dir).unwrap())
            .map(|entry| entry.unwrap().path())
            .collect();
        made.sort();
        format!("{entries:#?}\n{snapshots:#?}\n{:#?}\n{made:#?}", self.mounts())
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        for mount in self.mounts().iter().rev() {
            let place = mount.split(' ').next().unwrap_or_default();
            let _ = rustix::mount::unmount(place, UnmountFlags::DETACH);
        }
    }
}

fn channel(runtime: &Runtime, socket: &Path) -> Channel {
    let endpoint = Endpoint::try_from(format!("unix://{}", socket.display())).unwrap();
    let _within = runtime.enter();
    endpoint.timeout(PATIENCE).connect_lazy()
}

fn text(path: &Path) -> String {
    path.to_str().expect("it is text").to_owned()
}

#[expect(clippy::unnecessary_wraps, reason = "fields of messages are optional")]
fn range(required_bytes: i64, limit_bytes: i64) -> Option<pb::CapacityRange> {
    Some(pb::CapacityRange { required_bytes, limit_bytes })
}

fn capability(mode: Mode) -> pb::VolumeCapability {
    pb::VolumeCapability {
        access_mode: Some(AccessMode { mode: mode.into() }),
        access_type: Some(AccessType::Mount(MountVolume::default())),
    }
}

fn writer() -> pb::VolumeCapability {
    capability(Mode::SingleNodeWriter)
}

/// What asks for a volume of so many MiB.
fn new(name: &str, mib: i64) -> pb::CreateVolumeRequest {
    pb::CreateVolumeRequest {
        name: name.to_owned(),
        capacity_range: range(mib * MIB, 0),
        volume_capabilities: vec![writer()],
        ..pb::CreateVolumeRequest::default()
    }
}

fn new_snapshot(name: &str, volume: &str) -> pb::CreateSnapshotRequest {
    pb::CreateSnapshotRequest {
        name: name.to_owned(),
        source_volume_id: volume.to_owned(),
        ..pb::CreateSnapshotRequest::default()
    }
}

fn from_snapshot(snapshot: &str) -> Option<pb::VolumeContentSource> {
    let source = SnapshotSource { snapshot_id: snapshot.to_owned() };
    Some(pb::VolumeContentSource { r#type: Some(Type::Snapshot(source)) })
}

fn from_volume(volume: &str) -> Option<pb::VolumeContentSource> {
    let source = VolumeSource { volume_id: volume.to_owned() };
    Some(pb::VolumeContentSource { r#type: Some(Type::Volume(source)) })
}

/// The code of a refusal, which has no details.
#[track_caller]
fn code<T: std::fmt::Debug>(answer: Result<T, Status>) -> Code {
    let status = answer.expect_err("it is refused");
    assert!(status.details().is_empty(), "{status:?}");
    status.code()
}
