//! The sockets of a Cove, the Volume Hub's and the CSI driver's, for calls one after the other.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cove_csi::proto as pb;
use cove_csi::proto::controller_client::ControllerClient;
use cove_csi::proto::identity_client::IdentityClient;
use cove_csi::proto::node_client::NodeClient;
use cove_csi::proto::volume_capability::access_mode::Mode;
use cove_csi::proto::volume_capability::{AccessMode, AccessType, MountVolume};
use cove_csi::proto::volume_content_source::{Type, VolumeSource as SourceVolume};
use cove_env::Env;
use cove_hub::VolumeHub;
use cove_hub::volume_hub::{
    CreateVolume, EnsureCached, PageRequest, QuotaRange, SnapshotVolumes, TEMPLATE_LABEL, Volume,
    VolumeSource,
};
use cove_hub_grpc::HubClient;
use cove_types::VolumeId;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::interrupt;
use crate::program::Cove;
use crate::shell::milliseconds;

/// How long a call, or the opening of a socket, may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Connections to the sockets of a Cove, one to each server. What takes time is told in
/// milliseconds, from before the call until its whole answer is there.
pub struct Sockets {
    hub: HubClient,
    health: HealthClient<Channel>,
    controller: ControllerClient<Channel>,
    node: NodeClient<Channel>,
    env: Env,
    /// The connections live on it, and calls run on the thread that makes them.
    runtime: Runtime,
}

impl Sockets {
    /// Connects, once both answer.
    pub fn open(cove: &Cove) -> Result<Self> {
        let home = std::path::absolute(&cove.settings.home)?;
        let (hub, csi) = (home.join("hub.sock"), home.join("csi.sock"));
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let sockets = {
            let _context = runtime.enter();
            let driver = channel(&csi)?;
            Self {
                hub: HubClient::unix(&hub),
                health: HealthClient::new(channel(&hub)?),
                controller: ControllerClient::new(driver.clone()),
                node: NodeClient::new(driver),
                env: Env::system(),
                runtime,
            }
        };
        let began = Instant::now();
        while let Err(error) = sockets.nothing().and_then(|_| sockets.probe(&csi)) {
            interrupt::check()?;
            if began.elapsed() >= PATIENCE {
                return Err(error.context(format!("no socket answers after {PATIENCE:?}")));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(sockets)
    }

    /// Whether the driver is ready.
    fn probe(&self, csi: &Path) -> Result<()> {
        let mut identity = {
            let _context = self.runtime.enter();
            IdentityClient::new(channel(csi)?)
        };
        let (_, told) = self.call("probe the driver", identity.probe(pb::ProbeRequest {}))?;
        ensure!(told.into_inner().ready != Some(false), "the driver is not ready");
        Ok(())
    }

    fn call<T, E>(&self, what: &str, call: impl Future<Output = Result<T, E>>) -> Result<(f64, T)>
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        interrupt::check()?;
        let began = Instant::now();
        let answered = self.runtime.block_on(async { timeout(PATIENCE, call).await });
        let took = milliseconds(began);
        // The Cove has ended with it, if somebody has asked for the end.
        interrupt::check()?;
        let answer = answered.with_context(|| format!("failed to {what} within {PATIENCE:?}"))?;
        Ok((took, answer.with_context(|| format!("failed to {what}"))?))
    }

    /// A call of the Hub's server that does nothing.
    pub fn nothing(&self) -> Result<f64> {
        let mut health = self.health.clone();
        let request = HealthCheckRequest { service: String::new() };
        Ok(self.call("ask for the health", health.check(request))?.0)
    }

    /// Makes a volume; with `wait_saved`, until it is saved.
    pub fn create(
        &self,
        name: &str,
        source: Option<VolumeSource>,
        wait_saved: bool,
    ) -> Result<(f64, Volume)> {
        self.make(name, source, BTreeMap::new(), wait_saved)
    }

    /// Makes a volume of which others can be made by its name.
    pub fn create_template(&self, name: &str) -> Result<Volume> {
        let labels = BTreeMap::from([(TEMPLATE_LABEL.to_owned(), "true".to_owned())]);
        Ok(self.make(name, None, labels, true)?.1)
    }

    fn make(
        &self,
        name: &str,
        source: Option<VolumeSource>,
        labels: BTreeMap<String, String>,
        wait_saved: bool,
    ) -> Result<(f64, Volume)> {
        let wanted = CreateVolume {
            name: name.parse()?,
            operation: self.env.operation_id(0),
            source,
            quota: QuotaRange::default(),
            labels,
            parameters: BTreeMap::new(),
            wait_saved,
        };
        let (took, (volume, _)) = self.call("make a volume", self.hub.create_volume(wanted))?;
        Ok((took, volume))
    }

    /// Makes a volume by the driver, empty or as another is.
    pub fn create_by_csi(&self, name: &str, source: Option<&VolumeId>) -> Result<(f64, VolumeId)> {
        let mut controller = self.controller.clone();
        let request = pb::CreateVolumeRequest {
            name: name.to_owned(),
            volume_capabilities: vec![writer()],
            volume_content_source: source.map(content),
            ..pb::CreateVolumeRequest::default()
        };
        let (took, told) =
            self.call("make a volume by the driver", controller.create_volume(request))?;
        let made = told.into_inner().volume.context("the driver made no volume")?;
        Ok((took, made.volume_id.parse()?))
    }

    /// Waits until what a volume has is saved.
    pub fn wait_saved(&self, volume: &VolumeId) -> Result<()> {
        self.call("save a volume", self.hub.trigger_sync(volume.clone()))?;
        Ok(())
    }

    /// How often the head of a volume has changed.
    fn seq(&self, volume: &VolumeId) -> Result<u32> {
        let asked = self.hub.volume_status(volume.clone());
        Ok(self.call("look at a volume", asked)?.1.volume.seq)
    }

    /// Deletes a volume for ever.
    pub fn delete(&self, volume: &VolumeId) -> Result<()> {
        let operation = self.env.operation_id(self.seq(volume)?);
        self.call("delete a volume", self.hub.delete_volume(volume.clone(), operation))?;
        Ok(())
    }

    /// Asks for a node on which a volume is current, which its owner is.
    pub fn ensure_cached(&self, volume: &Volume) -> Result<f64> {
        let wanted = EnsureCached {
            volume: volume.id.clone(),
            candidates: vec![volume.node.clone()],
            budget_bytes: None,
        };
        let (took, place) = self.call("place a volume", self.hub.ensure_cached(wanted))?;
        ensure!(place.node == volume.node, "the owner is current, found {}", place.node);
        Ok(took)
    }

    /// Snapshots a volume; with `wait_saved`, until that is saved.
    pub fn snapshot(&self, volume: &VolumeId, name: &str, wait_saved: bool) -> Result<f64> {
        let wanted = SnapshotVolumes {
            volumes: vec![volume.clone()],
            name: name.parse()?,
            is_group: false,
            operation: self.env.operation_id(self.seq(volume)?),
            wait_saved,
        };
        Ok(self.call("snapshot a volume", self.hub.snapshot(wanted))?.0)
    }

    /// Snapshots a volume by the driver.
    pub fn snapshot_by_csi(&self, volume: &VolumeId, name: &str) -> Result<f64> {
        let mut controller = self.controller.clone();
        let request = pb::CreateSnapshotRequest {
            source_volume_id: volume.to_string(),
            name: name.to_owned(),
            ..pb::CreateSnapshotRequest::default()
        };
        let asked = controller.create_snapshot(request);
        Ok(self.call("snapshot a volume by the driver", asked)?.0)
    }

    /// Lists all volumes.
    pub fn list(&self) -> Result<(f64, Vec<Volume>)> {
        let asked = self.hub.list_volumes(PageRequest::default());
        let (took, page) = self.call("list the volumes", asked)?;
        Ok((took, page.items))
    }

    /// Has a volume staged.
    pub fn stage(&self, volume: &VolumeId, staging: &Path) -> Result<()> {
        let mut node = self.node.clone();
        let request = pb::NodeStageVolumeRequest {
            volume_id: volume.to_string(),
            staging_target_path: text(staging)?,
            volume_capability: Some(writer()),
            ..pb::NodeStageVolumeRequest::default()
        };
        self.call("stage a volume", node.node_stage_volume(request))?;
        Ok(())
    }

    /// Has a volume that is staged mounted.
    pub fn publish(&self, volume: &VolumeId, staging: &Path, target: &Path) -> Result<f64> {
        let mut node = self.node.clone();
        let request = pb::NodePublishVolumeRequest {
            volume_id: volume.to_string(),
            staging_target_path: text(staging)?,
            target_path: text(target)?,
            volume_capability: Some(writer()),
            ..pb::NodePublishVolumeRequest::default()
        };
        Ok(self.call("publish a volume", node.node_publish_volume(request))?.0)
    }

    /// Has the mount taken away.
    pub fn unpublish(&self, volume: &VolumeId, target: &Path) -> Result<()> {
        let mut node = self.node.clone();
        let request = pb::NodeUnpublishVolumeRequest {
            volume_id: volume.to_string(),
            target_path: text(target)?,
        };
        self.call("unpublish a volume", node.node_unpublish_volume(request))?;
        Ok(())
    }
}

/// Connects to a socket with the first call.
fn channel(socket: &Path) -> Result<Channel> {
    Ok(Endpoint::from_shared(format!("unix://{}", text(socket)?))?.connect_lazy())
}

fn text(path: &Path) -> Result<String> {
    Ok(path.to_str().with_context(|| format!("{} is no text", path.display()))?.to_owned())
}

/// One that writes, on one node.
fn writer() -> pb::VolumeCapability {
    pb::VolumeCapability {
        access_mode: Some(AccessMode { mode: Mode::SingleNodeWriter.into() }),
        access_type: Some(AccessType::Mount(MountVolume::default())),
    }
}

/// What a volume begins as.
fn content(source: &VolumeId) -> pb::VolumeContentSource {
    let source = SourceVolume { volume_id: source.to_string() };
    pb::VolumeContentSource { r#type: Some(Type::Volume(source)) }
}
