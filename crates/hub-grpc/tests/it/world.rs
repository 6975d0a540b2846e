//! A Hub on a socket of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cove_hub::HubError;
use cove_hub_grpc::{
    HubClient, NodeRegistration, NodeRegistry, ServeError, listen, serve, serve_with_nodes,
};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};

use crate::fake::Fake;
use crate::pb::volume_hub_client::VolumeHubClient;

/// How long anything may take that takes milliseconds.
pub const SOON: Duration = Duration::from_secs(20);

/// Takes every node.
struct AnyNode;

impl NodeRegistry for AnyNode {
    fn register(&self, _: NodeRegistration) -> Result<(), HubError> {
        Ok(())
    }
}

pub struct World {
    pub hub: Arc<Fake>,
    pub socket: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<Result<(), ServeError>>,
    _home: Option<tempfile::TempDir>,
}

impl World {
    pub fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let world = Self::start_at(&home.path().join("hub.sock"));
        Self { _home: Some(home), ..world }
    }

    /// One to which nodes come.
    pub fn start_with_nodes() -> Self {
        let home = tempfile::tempdir().unwrap();
        let world = Self::start_as(&home.path().join("hub.sock"), Some(Arc::new(AnyNode)));
        Self { _home: Some(home), ..world }
    }

    pub fn start_at(socket: &Path) -> Self {
        Self::start_as(socket, None)
    }

    fn start_as(socket: &Path, nodes: Option<Arc<dyn NodeRegistry>>) -> Self {
        let hub = Arc::new(Fake::new());
        let listener = listen(socket).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let served = Arc::clone(&hub);
        let served = tokio::spawn(async move {
            let until = async {
                let _ = stopped.await;
            };
            match nodes {
                Some(nodes) => serve_with_nodes(served, nodes, listener, until).await,
                None => serve(served, listener, until).await,
            }
        });
        Self { hub, socket: socket.to_owned(), stop: Some(stop), served, _home: None }
    }

    pub fn client(&self) -> HubClient {
        HubClient::unix(&self.socket)
    }

    pub fn channel(&self) -> Channel {
        channel(&self.socket)
    }

    pub fn raw(&self) -> VolumeHubClient<Channel> {
        VolumeHubClient::new(self.channel())
    }

    /// Asks it to stop.
    pub fn ask_to_stop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
    }

    pub fn has_ended(&self) -> bool {
        self.served.is_finished()
    }

    /// Waits until it has stopped.
    pub async fn ended(mut self) {
        if self.stop.is_some() {
            self.ask_to_stop();
        }
        let ended = tokio::time::timeout(SOON, &mut self.served).await;
        ended.expect("it ends soon").unwrap().unwrap();
    }
}

fn channel(socket: &Path) -> Channel {
    let socket = socket.to_owned();
    Endpoint::from_static("http://localhost").connect_with_connector_lazy(tower::service_fn(
        move |_| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        },
    ))
}
