//! The driver, and how it is served.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex};

use cove_env::Env;
use cove_hub::VolumeHub;
use cove_hub::in_flight::InFlight;
use cove_hub::volume_hub::{PageRequest, Volume, VolumeReport};
use cove_types::{NodeId, OperationId, ParseError, VolumeId};
use cove_unix_grpc::{Deadlines, Listening, connections};
use tonic::transport::Server;

use crate::controller::Controller;
use crate::group::GroupController;
use crate::identity::Identity;
use crate::node::Node;
use crate::paging;
use crate::proto::controller_server::ControllerServer;
use crate::proto::group_controller_server::GroupControllerServer;
use crate::proto::identity_server::IdentityServer;
use crate::proto::node_server::NodeServer;
use crate::status::CallError;
use crate::thing::Thing;

/// What the driver is called.
pub const DRIVER: &str = "cove.csi.storage";

/// The largest request that is read, in bytes.
const REQUEST_BYTES_MAX: usize = 4 << 20;

/// The version of the interface whose capabilities are announced. Calls of both are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compat {
    /// 1.12: for callers that refuse capabilities that they do not know.
    V1_12,
    /// 1.13: with the health of volumes and of the node.
    V1_13,
}

impl fmt::Display for Compat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1_12 => "1.12",
            Self::V1_13 => "1.13",
        })
    }
}

impl FromStr for Compat {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        match text {
            "1.12" => Ok(Self::V1_12),
            "1.13" => Ok(Self::V1_13),
            _ => {
                let shown: String = text.chars().take(80).collect();
                let shown = shown.escape_default();
                Err(ParseError(format!("the interface is 1.12 or 1.13, found \"{shown}\"")))
            }
        }
    }
}

/// What a driver is told.
#[derive(Debug, Clone)]
pub struct Options {
    /// The node that this machine is.
    pub node: NodeId,
    /// What is announced.
    pub compat: Compat,
    /// The driver's version.
    pub version: &'static str,
    /// The most volumes that are published on a node at once; any number when none.
    pub volumes_per_node_max: Option<NonZeroU32>,
    /// The home of Cove, in which no volume is mounted for others.
    pub home: PathBuf,
}

/// Which services are served on a socket, beside Identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Services {
    /// Controller and GroupController.
    pub controller: bool,
    /// Node.
    pub node: bool,
}

/// The driver. Cloning is cheap; one may be served on several sockets.
#[derive(Clone)]
pub struct Csi(pub(crate) Arc<Driver>);

/// What the services have together.
pub(crate) struct Driver {
    pub(crate) hub: Arc<dyn VolumeHub>,
    pub(crate) options: Options,
    pub(crate) env: Env,
    /// Who changes a volume's size, its parameters or where it is published, or deletes it.
    pub(crate) changing: InFlight<Thing>,
    /// Who stages or mounts a volume, mounts or unmounts at a place, or deletes a volume.
    pub(crate) mounting: InFlight<Thing>,
    /// Held while the volumes that are published on a node are counted.
    pub(crate) counting: tokio::sync::Mutex<()>,
    /// The volumes that were counted and are being published, with their nodes.
    pub(crate) publishing: Mutex<BTreeMap<VolumeId, NodeId>>,
    /// Held while the Hub is asked what room the node has.
    pub(crate) asking: Arc<tokio::sync::Mutex<()>>,
}

impl Csi {
    /// A driver for the volumes of a Hub.
    #[must_use]
    pub fn new(hub: Arc<dyn VolumeHub>, options: Options, env: Env) -> Self {
        Self(Arc::new(Driver {
            hub,
            options,
            env,
            changing: InFlight::default(),
            mounting: InFlight::default(),
            counting: tokio::sync::Mutex::new(()),
            publishing: Mutex::default(),
            asking: Arc::default(),
        }))
    }
}

impl std::fmt::Debug for Csi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Csi").field(&self.0.options).finish()
    }
}

impl Driver {
    /// Everything that is known of a volume.
    pub(crate) async fn report(&self, volume: &VolumeId) -> Result<VolumeReport, CallError> {
        Ok(self.hub.volume_status(volume.clone()).await?)
    }

    /// A volume; none when it is gone.
    pub(crate) async fn find_volume(&self, volume: &VolumeId) -> Result<Option<Volume>, CallError> {
        match self.report(volume).await {
            Ok(report) => Ok(Some(report.volume)),
            Err(error) if error.is_absence() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All volumes, in the order of their ids.
    pub(crate) async fn list_volumes(&self) -> Result<Vec<Volume>, CallError> {
        let fetch = |page: PageRequest| async { Ok(self.hub.list_volumes(page).await?) };
        Ok(paging::page(0, String::new(), fetch).await?.items)
    }

    /// A new operation id for a call on volumes, which may be gone.
    pub(crate) async fn operation(&self, volumes: &[VolumeId]) -> Result<OperationId, CallError> {
        let mut seq = 0;
        for volume in volumes {
            seq = seq.max(self.find_volume(volume).await?.map_or(0, |volume| volume.seq));
        }
        Ok(self.env.operation_id(seq))
    }
}

/// Serves the interface on a socket from [`listen`](crate::listen) until `shutdown` ends, when the socket's file goes,
/// and the calls that were under way then are answered. Callers are root and whoever runs this process; the connections
/// of others are closed.
///
/// # Errors
///
/// The connections cannot be served.
pub async fn serve(
    csi: Csi,
    listening: Listening,
    services: Services,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let Csi(driver) = csi;
    let Listening { listener, file } = listening;
    let until = async move {
        shutdown.await;
        drop(file);
    };
    let identity = IdentityServer::new(Identity(Arc::clone(&driver)))
        .max_decoding_message_size(REQUEST_BYTES_MAX);
    let controller = services.controller.then(|| {
        ControllerServer::new(Controller(Arc::clone(&driver)))
            .max_decoding_message_size(REQUEST_BYTES_MAX)
    });
    let group = services.controller.then(|| {
        GroupControllerServer::new(GroupController(Arc::clone(&driver)))
            .max_decoding_message_size(REQUEST_BYTES_MAX)
    });
    let node = services
        .node
        .then(|| NodeServer::new(Node(driver)).max_decoding_message_size(REQUEST_BYTES_MAX));
    Server::builder()
        .layer(Deadlines)
        .add_service(identity)
        .add_optional_service(controller)
        .add_optional_service(group)
        .add_optional_service(node)
        .serve_with_incoming_shutdown(connections(listener), until)
        .await
        .map_err(io::Error::other)
}
