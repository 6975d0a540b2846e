//! The driver as its callers see it: over a unix socket, with the generated clients.

mod controller;
mod live;
mod node;
mod serving;

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;

use cove_env::Env;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

use crate::capability::tests::capability;
use crate::fake::FakeHub;
use crate::proto as pb;
use crate::proto::controller_client::ControllerClient;
use crate::proto::group_controller_client::GroupControllerClient;
use crate::proto::identity_client::IdentityClient;
use crate::proto::node_client::NodeClient;
use crate::proto::volume_capability::access_mode::Mode;
use crate::{Compat, Csi, Options, Services, listen, serve};

const MIB: i64 = 1 << 20;

const ALL: Services = Services { controller: true, node: true };

/// A driver that is served, over a Hub with volumes below `home`.
struct Served {
    home: TempDir,
    hub: Arc<FakeHub>,
    csi: Csi,
    channel: Channel,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<std::io::Result<()>>,
}

fn options(compat: Compat) -> Options {
    Options {
        node: "n1".parse().unwrap(),
        compat,
        version: "1.2.3",
        volumes_per_node_max: NonZeroU32::new(2),
        home: PathBuf::new(),
    }
}

impl Served {
    async fn start(services: Services, compat: Compat) -> Self {
        Self::start_as(services, options(compat)).await
    }

    async fn start_as(services: Services, options: Options) -> Self {
        let home = tempfile::tempdir().unwrap();
        let hub = Arc::new(FakeHub::new(home.path().join("pool")));
        let options = Options { home: home.path().join("cove"), ..options };
        let csi = Csi::new(Arc::clone(&hub) as _, options, Env::system());
        let path = home.path().join("csi.sock");
        let listener = listen(&path).unwrap();
        let (stop, stopped) = oneshot::channel();
        let shutdown = async {
            let _ = stopped.await;
        };
        let ended = tokio::spawn(serve(csi.clone(), listener, services, shutdown));
        let endpoint = Endpoint::try_from(format!("unix://{}", path.display())).unwrap();
        let channel = endpoint.connect().await.unwrap();
        Self { home, hub, csi, channel, stop, ended }
    }

    async fn all() -> Self {
        Self::start(ALL, Compat::V1_12).await
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

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Makes a volume of 10 MiB.
    async fn create(&self, name: &str) -> pb::Volume {
        made(self.controller().create_volume(create(name)).await)
    }
}

fn made(response: Result<Response<pb::CreateVolumeResponse>, Status>) -> pb::Volume {
    response.unwrap().into_inner().volume.unwrap()
}

fn create(name: &str) -> pb::CreateVolumeRequest {
    pb::CreateVolumeRequest {
        name: name.to_owned(),
        capacity_range: range(10 * MIB, 0),
        volume_capabilities: vec![writer()],
        ..pb::CreateVolumeRequest::default()
    }
}

fn range(required_bytes: i64, limit_bytes: i64) -> Option<pb::CapacityRange> {
    Some(pb::CapacityRange { required_bytes, limit_bytes })
}

fn writer() -> pb::VolumeCapability {
    capability(Mode::SingleNodeWriter, &[])
}

/// The code of a refusal, which has no details.
#[track_caller]
fn code<T: std::fmt::Debug>(response: Result<Response<T>, Status>) -> Code {
    let status = response.unwrap_err();
    assert!(status.details().is_empty());
    status.code()
}
