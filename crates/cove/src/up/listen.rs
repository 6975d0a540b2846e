//! Where it listens, and until when.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cove_content::volumes::Volumes;
use cove_csi::{Csi, Services};
use cove_env::Env;
use cove_hub::Hub;
use cove_hub_grpc::NodeRegistry;
use cove_node::Node;
use cove_types::{Classify, ErrorKind};
use cove_unix_grpc::{Listening, Predecessor, is_true};
use cove_workspace::Workspaces;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::STOP_WAIT;
use super::ending::Ending;
use super::home::{Home, open_own};
use crate::args::CsiFlags;
use crate::environment::{STORE_FILE, User};
use crate::failure::Failure;
use crate::output;

/// What is said of the Container Storage Interface before its socket.
pub(super) const CSI_IS_AT: &str = "the Container Storage Interface is at ";

/// How long calls that wait for the store have at the end.
const SAVE_WAIT: Duration = Duration::from_secs(3);

/// Takes the port that a flag names, so that nobody else does while the rest starts.
pub(super) fn bind_tcp(address: SocketAddr, flag: &str) -> Result<std::net::TcpListener, Failure> {
    cove_http::check_listen(address).map_err(|error| {
        Failure::caused("failed to listen", &error, error.kind())
            .hint("listen on 127.0.0.1 and put a proxy with TLS before it")
    })?;
    let bound = std::net::TcpListener::bind(address)
        .and_then(|port| port.set_nonblocking(true).map(|()| port));
    bound.map_err(|error| {
        let hint = format!("give another address with {flag}, or 127.0.0.1:0 for any free port");
        not_bound(address, &error).hint(hint)
    })
}

/// Why nobody listens at an address.
fn not_bound(address: SocketAddr, error: &std::io::Error) -> Failure {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => Failure::new(
            ErrorKind::Precondition,
            format!("another program listens on {address} already"),
        ),
        std::io::ErrorKind::AddrNotAvailable => Failure::new(
            ErrorKind::Precondition,
            format!("this machine has no address {}", address.ip()),
        ),
        _ => Failure::io(format!("failed to listen on {address}"), error),
    }
}

/// What is served.
pub(super) struct Serving<'s> {
    pub workspaces: Workspaces,
    pub hub: Hub,
    pub hub_socket: &'s Path,
    /// Where the Hub is served already.
    pub doors: Option<Doors>,
    pub csi: Option<(Csi, &'s CsiFlags)>,
    /// The node in this process.
    pub node: Option<&'s Node>,
    /// The URL of the store, where the node is in this process.
    pub store: Option<&'s str>,
}

/// What is served at unix sockets over gRPC, each in a task of its own.
pub(super) struct Doors {
    tasks: JoinSet<()>,
    /// True once all of it is to end.
    stop: watch::Sender<bool>,
}

impl Doors {
    fn new() -> Self {
        Self { tasks: JoinSet::new(), stop: watch::Sender::new(false) }
    }

    /// Serves a Hub at its socket, from now on until it ends with the others.
    ///
    /// `nodes` is how nodes come that are other processes.
    pub(super) fn of_hub(
        socket: &Path,
        hub: Hub,
        nodes: Option<Arc<dyn NodeRegistry>>,
    ) -> Result<Self, Failure> {
        let listening = open(socket, cove_hub_grpc::listen)?;
        let mut doors = Self::new();
        let (hub, until) = (Arc::new(hub), doors.ended());
        doors.tasks.spawn(async move {
            let served = match nodes {
                Some(nodes) => cove_hub_grpc::serve_with_nodes(hub, nodes, listening, until).await,
                None => cove_hub_grpc::serve(hub, listening, until).await,
            };
            if let Err(error) = served {
                tracing::error!(%error, "the Volume Hub is not served any more");
            }
        });
        Ok(doors)
    }

    /// Serves a node at its socket, as [`of_hub`](Self::of_hub) a Hub.
    pub(super) fn of_node(socket: &Path, node: Arc<dyn Volumes>) -> Result<Self, Failure> {
        let listening = open(socket, cove_node_grpc::listen)?;
        let mut doors = Self::new();
        let until = doors.ended();
        doors.tasks.spawn(async move {
            if let Err(error) = cove_node_grpc::serve(node, listening, until).await {
                tracing::error!(%error, "the node is not served any more");
            }
        });
        Ok(doors)
    }

    /// Resolves once all of it is to end.
    fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        is_true(self.stop.subscribe())
    }

    /// Ends all of it, when the calls that run have ended.
    pub(super) async fn end(mut self) {
        let _ = self.stop.send(true);
        // one that has panicked, which the log has, keeps nothing else from its end
        while self.tasks.join_next().await.is_some() {}
    }
}

pub(super) async fn listen(
    port: std::net::TcpListener,
    home: &Home,
    env: &Env,
    serving: Serving<'_>,
    ending: &mut Ending,
) -> anyhow::Result<()> {
    let Serving { workspaces, hub, hub_socket, doors, csi, node, store } = serving;
    let token = home.token(env)?;
    let down = Arc::new(Notify::new());
    let router = cove_http::router(
        Arc::new(workspaces),
        Arc::new(hub.clone()),
        cove_http::Options {
            token_sha256: cove_http::token_digest(&token),
            hosts: Vec::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            down: Arc::clone(&down),
            env: env.clone(),
        },
    );
    let users = home.users()?;
    // the files go with these, whatever fails
    let Listening { listener: unix, file } = open_api(home)?;
    let tcp =
        TcpListener::from_std(port).map_err(|error| Failure::io("failed to listen", &error))?;
    let address = tcp.local_addr().map_err(|error| Failure::io("failed to listen", &error))?;
    // who finds the socket answering finds the address and the store too
    write_down(home, "address", &format!("http://{address}"));
    if let Some(store) = store {
        write_down(home, STORE_FILE, store);
    }
    let mut doors = match doors {
        Some(doors) => doors,
        None => Doors::of_hub(hub_socket, hub.clone(), None)?,
    };
    if let Some((csi, flags)) = &csi {
        serve_csi(&mut doors, csi, flags)?;
    }
    let servers = (
        {
            let (router, stopping) = (router.clone(), doors.ended());
            tokio::spawn(async move {
                cove_http::serve_unix(unix, router, &users, stopping).await;
            })
        },
        tokio::spawn(cove_http::serve_tcp(tcp, router, doors.ended())),
    );
    let (api, hub_socket) = (home.dir.join("cove.sock"), hub_socket.display());
    output::warn(&format!(
        "ready on http://{address} and {}; the Volume Hub is at {hub_socket}",
        api.display()
    ));
    tokio::select! {
        () = ending.wait() => {}
        () = down.notified() => {}
    }
    let _ = doors.stop.send(true);
    hub.shutdown();
    let mut served =
        std::pin::pin!(async { (servers.0.await, servers.1.await, doors.end().await) });
    if tokio::time::timeout(SAVE_WAIT, &mut served).await.is_err() {
        // a store that is away may keep them for ever: what is captured is saved after the next start
        if let Some(node) = node {
            node.end_waiting();
        }
        let _ = tokio::time::timeout(STOP_WAIT, served).await;
    }
    drop(file);
    Ok(())
}

/// Makes a socket, with the directories above it.
fn open(
    socket: &Path,
    listen: impl FnOnce(&Path) -> std::io::Result<Listening>,
) -> Result<Listening, Failure> {
    if let Some(directory) = socket.parent() {
        std::fs::create_dir_all(directory).map_err(|error| not_made(socket, &error))?;
    }
    listen(socket).map_err(|error| {
        let failure = not_made(socket, &error);
        match error.kind() {
            std::io::ErrorKind::AddrInUse => failure.hint(
                "end that program, or give another path; what a Cove left that was killed is \
                 replaced",
            ),
            _ => failure,
        }
    })
}

/// Why there is no socket at a path.
fn not_made(socket: &Path, error: &std::io::Error) -> Failure {
    let shown = cove_types::escape_bytes(socket.as_os_str().as_encoded_bytes());
    match error.kind() {
        std::io::ErrorKind::AddrInUse => Failure::new(
            ErrorKind::Precondition,
            format!("another program listens on the socket {shown} already"),
        ),
        _ => Failure::io(format!("failed to make the socket {shown}"), error),
    }
}

/// The sockets of a home, and what is served there.
const API: (&str, &str) = ("cove.sock", "the API");
const HUB: (&str, &str) = ("hub.sock", "the Volume Hub");
const NODE: (&str, &str) = ("node.sock", "the node");

/// Refuses sockets of the Container Storage Interface that are each other's, or one of the home.
pub(super) fn refuse_equal_csi(csi: &CsiFlags, home: &Home) -> Result<(), Failure> {
    let wanted = [
        ("--csi-endpoint", csi.csi_endpoint.as_deref()),
        ("--csi-controller-endpoint", csi.csi_controller_endpoint.as_deref()),
    ];
    refuse_equal(home, &[API, HUB, NODE], &wanted).map_err(|failure| {
        failure.hint("give each a path of its own; one endpoint serves all of the interface")
    })
}

/// Refuses a socket of the Hub that is another one of the home.
pub(super) fn refuse_equal_hub(socket: &Path, home: &Home) -> Result<(), Failure> {
    refuse_equal(home, &[API, NODE], &[("--listen", Some(socket))])
        .map_err(|failure| failure.hint("leave out --listen, or give it a path of its own"))
}

/// Refuses to serve two things at one socket: the later one would take the place of the first.
fn refuse_equal(
    home: &Home,
    own: &[(&str, &'static str)],
    wanted: &[(&'static str, Option<&Path>)],
) -> Result<(), Failure> {
    let of_home = own.iter().map(|(name, what)| (whole(&home.dir.join(name)), *what));
    let mut seen: Vec<(PathBuf, &str)> = of_home.collect();
    for (flag, path) in wanted {
        let Some(path) = path else { continue };
        let place = whole(path);
        if let Some((_, other)) = seen.iter().find(|(taken, _)| *taken == place) {
            let shown = cove_types::escape_bytes(path.as_os_str().as_encoded_bytes());
            let what =
                format!("two things are to be served at the socket {shown}: {other} and {flag}");
            return Err(Failure::new(ErrorKind::Invalid, what));
        }
        seen.push((place, flag));
    }
    Ok(())
}

/// A path without links in its directory, as far as that is there.
fn whole(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    match (path.parent().map(std::fs::canonicalize), path.file_name()) {
        (Some(Ok(directory)), Some(name)) => directory.join(name),
        _ => path,
    }
}

/// Serves the Container Storage Interface at its sockets, where it is asked for.
pub(super) fn serve_csi(doors: &mut Doors, csi: &Csi, flags: &CsiFlags) -> Result<(), Failure> {
    // what can fail comes first: a socket that is found is served
    let healthz = flags.csi_healthz.map(bind_healthz).transpose()?;
    for (listening, services) in csi_sockets(flags)? {
        let (csi, until) = (csi.clone(), doors.ended());
        doors.tasks.spawn(async move {
            if let Err(error) = cove_csi::serve(csi, listening, services, until).await {
                tracing::error!(%error, "the container storage interface is not served any more");
            }
        });
    }
    // kubelet asks the driver as soon as it knows of it
    let registration = match (&flags.csi_registration, &flags.csi_endpoint) {
        (Some(directory), Some(endpoint)) => {
            let made = cove_csi::Registration::listen(directory, endpoint);
            Some(made.map_err(|error| not_registered(directory, &error))?)
        }
        _ => None,
    };
    let state = registration.as_ref().map(cove_csi::Registration::state);
    if let Some(listener) = healthz {
        let (csi, until) = (csi.clone(), doors.ended());
        let serving = async move { cove_csi::serve_healthz(listener, csi, state, until).await };
        doors.tasks.spawn(serving);
    }
    if let Some(registration) = registration {
        let until = doors.ended();
        doors.tasks.spawn(async move {
            if let Err(error) = cove_csi::serve_registration(registration, until).await {
                tracing::error!(%error, "kubelet is not answered any more");
            }
        });
    }
    if let Some(endpoint) = &flags.csi_endpoint {
        let places = places(endpoint, flags.csi_controller_endpoint.as_deref());
        output::warn(&format!("{CSI_IS_AT}{places}"));
    }
    Ok(())
}

/// Where the Container Storage Interface is served, in words.
fn places(endpoint: &Path, controller: Option<&Path>) -> String {
    let controller = controller.map(|path| format!(", its controller at {}", path.display()));
    format!("{}{}", endpoint.display(), controller.unwrap_or_default())
}

/// Why there is no socket for kubelet.
fn not_registered(directory: &Path, error: &std::io::Error) -> Failure {
    match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => {
            let shown = cove_types::escape_bytes(directory.as_os_str().as_encoded_bytes());
            let what = format!("directory {shown}, which --csi-registration names, does not exist");
            Failure::new(ErrorKind::NotFound, what)
                .hint("kubelet makes it; is this its directory, and mounted at the same path here?")
        }
        std::io::ErrorKind::AddrInUse => not_made(&cove_csi::registration_socket(directory), error)
            .hint("a node has one driver of this name: end the other one"),
        _ => Failure::io(
            format!("failed to make a socket for kubelet in {}", directory.display()),
            error,
        ),
    }
}

fn bind_healthz(address: SocketAddr) -> Result<TcpListener, Failure> {
    std::net::TcpListener::bind(address)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .and_then(TcpListener::from_std)
        .map_err(|error| not_bound(address, &error).hint("give another address with --csi-healthz"))
}

/// The sockets of the Container Storage Interface, and what each serves.
fn csi_sockets(flags: &CsiFlags) -> Result<Vec<(Listening, Services)>, Failure> {
    let Some(node) = &flags.csi_endpoint else { return Ok(Vec::new()) };
    let controller = flags.csi_controller_endpoint.as_ref();
    let mut wanted = vec![(node, Services { controller: controller.is_none(), node: true })];
    wanted.extend(controller.map(|path| (path, Services { controller: true, node: false })));
    let opened = wanted.into_iter().map(|(path, services)| {
        open(path, cove_csi::listen).map(|listening| (listening, services))
    });
    opened.collect()
}

/// One line for whoever looks into the home.
pub(super) fn write_down(home: &Home, name: &str, line: &str) {
    let place = home.dir.join(name);
    let mut options = std::fs::OpenOptions::new();
    let file = open_own(&place, home.caller, options.write(true).truncate(true));
    let written = file.and_then(|mut file| writeln!(file, "{line}"));
    if let Err(error) = written {
        tracing::warn!(%error, name, "what others are to know of this Cove is not written down");
    }
}

/// Makes the socket of the API, whatever an earlier Cove left there: the home's lock says that none runs.
fn open_api(home: &Home) -> Result<Listening, Failure> {
    let User(uid, gid) = home.owner()?;
    let owner = (rustix::process::geteuid().is_root() && uid != 0).then_some((uid, gid));
    cove_unix_grpc::listen_as(&home.dir.join("cove.sock"), Predecessor::GivesWay, owner)
        .map_err(|error| Failure::io("failed to make the socket", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn doors_end_also_where_one_has_panicked() {
        let mut doors = Doors::new();
        doors.tasks.spawn(async { panic!("as a bug does") });
        let until = doors.ended();
        let (told, other) = tokio::sync::oneshot::channel();
        doors.tasks.spawn(async move {
            until.await;
            let _ = told.send(());
        });
        doors.end().await;
        other.await.expect("the other one has ended in order");
    }
}
