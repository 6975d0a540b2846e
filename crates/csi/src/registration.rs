//! How kubelet learns of the driver, without a sidecar.
//!
//! Kubelet watches a directory. It asks each socket there what it is, asks the driver's own socket for the node
//! (NodeGetInfo), and tells the registration socket what became of it. Whoever takes the socket away takes the
//! registration away.
//!
//! The socket comes to be under a temporary name, as that of [`listen`]. Kubelet does not take it for a driver: its
//! name begins with a dot, and such names are left alone. It learns of the socket when that gets its own name, and by
//! then it listens for its owner alone. What a driver that was killed left in its place is replaced in the same step,
//! which kubelet takes for a driver that is there anew, and registers again; one that runs keeps its place. A kubelet
//! that is started anew finds the socket as it is. One that has not registered the driver says so and does not come
//! again: for it the socket is made anew, in the same way and after a pause.
//!
//! A process that is killed between the two leaves a socket with a dot, on which nobody listens. Newer kubelets look
//! every 5 s at all sockets, dots or not, and ask those that are there 10 s later: a temporary one has its own name by
//! then, and one that was left does not answer.
//!
//! Source: `pkg/kubelet/pluginmanager` (`pluginwatcher`, `operationexecutor`) and `pkg/volume/csi` of Kubernetes.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cove_unix_grpc::{
    Connection, Listening, Predecessor, SOCKET_PATH_BYTES_MAX, SocketFile, connections, listen_as,
};
use futures::{Stream, StreamExt};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use crate::csi::DRIVER;
use crate::listen;
use crate::proto::registration as pb;
use crate::proto::registration::registration_server::RegistrationServer;

/// What kubelet calls a driver of this interface.
const PLUGIN_TYPE: &str = "CSIPlugin";

/// The version of the interface as kubelet compares it: it looks at the major version alone, and has known this one
/// since the interface has been stable.
const VERSION: &str = "1.0.0";

/// The largest message that is read, in bytes. Kubelet's texts are some hundred bytes.
const MESSAGE_BYTES_MAX: usize = 64 << 10;

/// What is waited before kubelet is asked again: the first time after a success, and at most. It doubles each time.
const PAUSE_FIRST: Duration = Duration::from_secs(5);
const PAUSE_MAX: Duration = Duration::from_mins(2);

/// What kubelet has said of the driver.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Registered {
    /// Nothing yet.
    #[default]
    NotYet,
    /// It uses the driver.
    Done,
    /// It does not, for this reason, and is asked again.
    Failed(String),
}

/// What kubelet has said last. Cloning is cheap, and all clones tell the same.
#[derive(Debug, Clone)]
pub struct RegistrationState(Arc<watch::Sender<Registered>>);

impl RegistrationState {
    fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Registered::NotYet)))
    }

    /// What kubelet has said last.
    #[must_use]
    pub fn get(&self) -> Registered {
        self.0.borrow().clone()
    }
}

/// The socket of the registration in a directory of kubelet's, most often `/var/lib/kubelet/plugins_registry`.
#[must_use]
pub fn registration_socket(directory: &Path) -> PathBuf {
    directory.join(format!("{DRIVER}-reg.sock"))
}

/// A registration that kubelet can ask for already. Its socket is removed when it is dropped.
#[derive(Debug)]
pub struct Registration {
    listening: Listening,
    path: PathBuf,
    /// The socket that the driver serves Node on.
    endpoint: String,
    state: RegistrationState,
}

impl Registration {
    /// Makes the socket in kubelet's directory, which must be there. `endpoint` is the socket that Node is served on:
    /// kubelet asks it at once, so that it should be there. Must be called within a runtime.
    ///
    /// # Errors
    ///
    /// As [`listen`]; one of the paths is not UTF-8, or too long for kubelet to reach (`InvalidInput`).
    pub fn listen(directory: &Path, endpoint: &Path) -> io::Result<Self> {
        let endpoint = reachable(endpoint)?;
        let path = PathBuf::from(reachable(&registration_socket(directory))?);
        let listening = listen(&path)?;
        Ok(Self { listening, path, endpoint, state: RegistrationState::new() })
    }

    /// What kubelet says of the driver, from now on.
    #[must_use]
    pub fn state(&self) -> RegistrationState {
        self.state.clone()
    }
}

/// The absolute path of a socket, as kubelet takes it.
fn reachable(path: &Path) -> io::Result<String> {
    let refused = |why: String| {
        let shown = cove_types::escape_bytes(path.as_os_str().as_encoded_bytes());
        io::Error::new(io::ErrorKind::InvalidInput, format!("{shown} {why}"))
    };
    let absolute = std::path::absolute(path)?;
    let absolute = absolute.to_str().ok_or_else(|| refused("is not UTF-8".to_owned()))?;
    match absolute.len() {
        0..=SOCKET_PATH_BYTES_MAX => Ok(absolute.to_owned()),
        length => Err(refused(format!(
            "is out of kubelet's reach: it has {length} bytes, and a socket's path at most {SOCKET_PATH_BYTES_MAX}"
        ))),
    }
}

/// Serves the registration until `shutdown` ends. The socket is removed then, before the last calls are answered, so
/// that kubelet gives the driver up and does not wait for it. Callers are those of [`serve`](crate::serve).
///
/// Each time that kubelet says that it has not registered the driver, the socket is made anew after a pause of 5 s to
/// 2 min, unless kubelet comes by itself and registers it meanwhile.
///
/// # Errors
///
/// The connections cannot be served.
pub async fn serve_registration(
    registration: Registration,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let Registration { listening, path, endpoint, state } = registration;
    let Listening { listener, file } = listening;
    let (anew, listeners) = mpsc::channel(1);
    let again = Again { said: state.0.subscribe(), path, file, anew };
    let until = async move {
        let mut again = again;
        tokio::select! {
            () = shutdown => {}
            () = again.ask() => {}
        }
        drop(again);
    };
    let service = RegistrationServer::new(Answers { endpoint, state })
        .max_decoding_message_size(MESSAGE_BYTES_MAX);
    Server::builder()
        .add_service(service)
        .serve_with_incoming_shutdown(latest(listener, listeners), until)
        .await
        .map_err(io::Error::other)
}

/// The connections of the latest listener.
fn latest(
    listener: UnixListener,
    listeners: mpsc::Receiver<UnixListener>,
) -> impl Stream<Item = io::Result<Connection>> {
    let first = connections(listener).boxed();
    futures::stream::unfold((first, listeners), |(mut from, mut listeners)| async move {
        loop {
            tokio::select! {
                Some(listener) = listeners.recv() => from = connections(listener).boxed(),
                connection = from.next() => return Some((connection?, (from, listeners))),
            }
        }
    })
}

/// Asks kubelet again when it has not registered the driver.
///
/// Kubelet holds a driver for one that it has dealt with before it registers it, and that this fails takes nothing
/// back: it calls no more until there is another socket (kubernetes#133725).
struct Again {
    said: watch::Receiver<Registered>,
    path: PathBuf,
    /// The socket's file, as long as it is to be there.
    file: SocketFile,
    /// Takes what listens from now on.
    anew: mpsc::Sender<UnixListener>,
}

impl Again {
    /// Does so until nobody says anything any more.
    async fn ask(&mut self) {
        let mut pause = PAUSE_FIRST;
        while self.said.changed().await.is_ok() {
            while !self.is_done_within(pause).await {
                tracing::info!(?pause, "kubelet is asked again to register the driver");
                pause = (2 * pause).min(PAUSE_MAX);
                match self.listen_anew().await {
                    Ok(()) => break,
                    Err(error) => tracing::warn!(%error, "no new socket for kubelet"),
                }
            }
            if *self.said.borrow() == Registered::Done {
                pause = PAUSE_FIRST;
            }
        }
    }

    /// Whether kubelet has registered the driver, now or before a pause is over. All that it has said is heard then.
    async fn is_done_within(&mut self, pause: Duration) -> bool {
        let done = self.said.wait_for(|said| *said == Registered::Done);
        tokio::time::timeout(pause, done).await.is_ok()
    }

    /// Makes the socket anew. Its name is never without one, unless somebody has taken it away; what another program
    /// has made there since, and listens at, stays (`AddrInUse`).
    async fn listen_anew(&mut self) -> io::Result<()> {
        let is_ours = self.file.is_in_place()?;
        let predecessor = if is_ours { Predecessor::GivesWay } else { Predecessor::Stays };
        let path = self.path.clone();
        // the directory may be locked for a while
        let made = tokio::task::spawn_blocking(move || listen_as(&path, predecessor, None));
        let Listening { listener, file } = made.await.map_err(io::Error::other)??;
        self.file = file;
        self.anew.send(listener).await.map_err(io::Error::other)
    }
}

/// The service Registration.
struct Answers {
    endpoint: String,
    state: RegistrationState,
}

#[tonic::async_trait]
impl pb::registration_server::Registration for Answers {
    async fn get_info(
        &self,
        _: Request<pb::InfoRequest>,
    ) -> Result<Response<pb::PluginInfo>, Status> {
        Ok(Response::new(pb::PluginInfo {
            r#type: PLUGIN_TYPE.to_owned(),
            name: DRIVER.to_owned(),
            endpoint: self.endpoint.clone(),
            supported_versions: vec![VERSION.to_owned()],
        }))
    }

    async fn notify_registration_status(
        &self,
        request: Request<pb::RegistrationStatus>,
    ) -> Result<Response<pb::RegistrationStatusResponse>, Status> {
        let pb::RegistrationStatus { plugin_registered, error } = request.into_inner();
        let endpoint = &self.endpoint;
        let registered = if plugin_registered {
            tracing::info!(endpoint, "kubelet has registered the driver");
            Registered::Done
        } else {
            tracing::error!(endpoint, error, "kubelet has not registered the driver");
            Registered::Failed(error)
        };
        self.state.0.send_replace(registered);
        Ok(Response::new(pb::RegistrationStatusResponse {}))
    }
}

#[cfg(test)]
pub(crate) mod tests;
