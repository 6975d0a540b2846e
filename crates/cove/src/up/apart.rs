//! Hub and node in two processes of one machine.
//!
//! A node tells the Hub every few seconds that it is there and where its socket is; a Hub that was started anew
//! knows it within that time. Either may be killed at any moment and started again. A Hub has one node for now: the
//! one that came first, until that Hub ends.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use cove_content::volumes::Volumes;
use cove_env::Env;
use cove_hub::{Hub, HubError, VolumeHub};
use cove_hub_grpc::{HubClient, NodeRegistration, NodeRegistry};
use cove_node_grpc::NodeClient;
use cove_types::{Classify, ErrorKind, NodeId, chain};
use cove_workspace::Workspaces;
use tokio::sync::watch;

use super::ending::Ending;
use super::home::{Home, Part};
use super::own_node::OwnNode;
use super::pool::Opened;
use super::{
    Chores, STOP_WAIT, STOPPED_EARLY, begin, csi_of, database_failure, listen,
    open_server_database, own_node, pool, watch_for_signals,
};
use crate::args::{HubArgs, UpArgs};
use crate::environment::STORE_FILE;
use crate::failure::Failure;
use crate::output;

/// How often a node says that it is there.
const REGISTER_EVERY: Duration = Duration::from_secs(2);
/// After how many attempts without an answer a node says that it has none. A Hub that is started with it, or anew, is
/// there before.
const TOLD_AFTER: u32 = 2;
/// How long a Hub waits before it asks a node again that does not answer yet.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// Runs the Hub and the projects until it is told to stop.
///
/// # Errors
///
/// It could not start.
pub fn run_hub(args: HubArgs) -> anyhow::Result<ExitCode> {
    begin();
    let home = Home::open(&args.home, Part::Hub)?;
    listen::refuse_equal_hub(&args.socket, &home)?;
    let port = listen::bind_tcp(args.http_listen, "--http-listen")?;
    let (runtime, mut ending) = watch_for_signals()?;
    let served = runtime.block_on(serve_hub(&args, &home, port, &mut ending));
    runtime.shutdown_timeout(STOP_WAIT);
    served.map(|()| ExitCode::SUCCESS)
}

/// Runs a node until it is told to stop.
///
/// # Errors
///
/// It could not start; nothing that it mounted or attached stays so.
pub fn run_node(args: UpArgs, hub: PathBuf) -> anyhow::Result<ExitCode> {
    begin();
    let home = Home::open(&args.home, Part::Node)?;
    listen::refuse_equal_csi(&args.csi, &home)?;
    let (runtime, mut ending) = watch_for_signals()?;
    let opened = pool::open_pool(&args)?;
    let served = runtime.block_on(serve_node(&args, &home, &opened, &hub, &mut ending));
    runtime.shutdown_timeout(STOP_WAIT);
    opened.close();
    served.map(|()| ExitCode::SUCCESS)
}

/// The node that has come to a Hub.
struct Registry {
    hub: Hub,
    /// As it came last.
    known: watch::Sender<Option<NodeRegistration>>,
}

impl NodeRegistry for Registry {
    fn register(&self, node: NodeRegistration) -> Result<(), HubError> {
        let mut registered = Ok(());
        self.known.send_if_modified(|known| {
            let replaced = match admit(known.as_ref(), &node) {
                Ok(Admitted::Known) => return false,
                Ok(Admitted::First) => None,
                Ok(Admitted::InPlaceOf(other)) => Some(other),
                Err(error) => {
                    registered = Err(error);
                    return false;
                }
            };
            tracing::info!(node = %node.node, socket = %node.socket.display(), "a node has come");
            let volumes: Arc<dyn Volumes> = Arc::new(NodeClient::unix(node.socket.clone()));
            self.hub.put_node(node.node.clone(), volumes);
            if let Some(other) = replaced.filter(|other| *other != node.node) {
                self.hub.remove_node(&other);
            }
            *known = Some(node);
            true
        });
        registered
    }
}

/// What a node is to a Hub to which it comes.
#[derive(Debug, PartialEq, Eq)]
enum Admitted {
    /// The one that it knows.
    Known,
    /// The first one.
    First,
    /// The one that it knows, which was started anew and was called so before.
    InPlaceOf(NodeId),
}

/// Decides whether a node may come. There is one: volumes of a second would be asked for, and missed when it is gone,
/// in every list.
fn admit(known: Option<&NodeRegistration>, node: &NodeRegistration) -> Result<Admitted, HubError> {
    match known {
        None => Ok(Admitted::First),
        Some(known) if known == node => Ok(Admitted::Known),
        // whoever serves the socket of a home is the only one there
        Some(known) if known.socket == node.socket => Ok(Admitted::InPlaceOf(known.node.clone())),
        Some(known) => {
            Err(HubError::AnotherNode { known: known.node.clone(), socket: known.socket.clone() })
        }
    }
}

async fn serve_hub(
    args: &HubArgs,
    home: &Home,
    port: std::net::TcpListener,
    ending: &mut Ending,
) -> anyhow::Result<()> {
    let env = Env::system();
    let database = open_server_database(home).await?;
    let reserve = database.reserve().clone();
    let hub = Hub::new(Vec::new(), env.clone());
    let known = watch::Sender::new(None);
    let mut coming = known.subscribe();
    let registry = Arc::new(Registry { hub: hub.clone(), known });
    // until a node has come, projects cannot be told; the Hub is served from now to the end
    let doors = listen::Doors::of_hub(&args.socket, hub.clone(), Some(registry))?;
    output::warn(&format!("the Volume Hub is at {}; waiting for a node", args.socket.display()));
    let node = tokio::select! {
        node = come(&mut coming) => Some(node),
        () = ending.wait() => None,
    };
    let started = match node {
        None => None,
        Some(node) => {
            let options = cove_workspace::Options {
                keep: args.keep,
                node: node.node,
                saved_to: node.saved_to,
            };
            let volumes: Arc<dyn Volumes> = Arc::new(hub.clone());
            let workspaces = Workspaces::new(volumes, database, env.clone(), options);
            tokio::select! {
                reconciled = reconcile(&workspaces) => {
                    reconciled?;
                    Some(workspaces)
                }
                () = ending.wait() => None,
            }
        }
    };
    let Some(workspaces) = started else {
        let _ = tokio::time::timeout(STOP_WAIT, doors.end()).await;
        output::warn(STOPPED_EARLY);
        return Ok(());
    };
    let mut chores = Chores::begin(None, Some(reserve));
    chores.0.push(tokio::spawn(follow(coming, workspaces.clone())));
    let serving = listen::Serving {
        workspaces,
        hub,
        hub_socket: &args.socket,
        doors: Some(doors),
        csi: None,
        node: None,
        store: None,
    };
    let listened = listen::listen(port, home, &env, serving, ending).await;
    chores.end().await;
    listened
}

/// Waits for the first node.
async fn come(coming: &mut watch::Receiver<Option<NodeRegistration>>) -> NodeRegistration {
    loop {
        if let Some(node) = coming.borrow_and_update().clone() {
            return node;
        }
        if coming.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Has projects say where their node is and saves, each time it comes as another than before.
async fn follow(mut coming: watch::Receiver<Option<NodeRegistration>>, workspaces: Workspaces) {
    while coming.changed().await.is_ok() {
        let NodeRegistration { node, saved_to, .. } = come(&mut coming).await;
        workspaces.put_place(node, saved_to);
    }
}

/// Makes the table of projects what the volumes are, as soon as the node answers.
async fn reconcile(workspaces: &Workspaces) -> Result<(), Failure> {
    loop {
        match workspaces.reconcile().await {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                tracing::info!(%error, "the node does not answer yet");
                tokio::time::sleep(ASK_AGAIN).await;
            }
            Err(error) => return Err(database_failure("failed to start", &error, error.kind())),
        }
    }
}

async fn serve_node(
    args: &UpArgs,
    home: &Home,
    opened: &Opened,
    hub: &Path,
    ending: &mut Ending,
) -> anyhow::Result<()> {
    let env = Env::system();
    let started = tokio::select! {
        started = own_node::start(args, home, opened, &env) => Some(started?),
        () = ending.wait() => None,
    };
    let Some(own) = started else {
        output::warn(STOPPED_EARLY);
        return Ok(());
    };
    let chores = Chores::begin(Some(opened), None);
    let node = own.node.clone();
    let served = serve_until(args, home, own, hub, &env, ending).await;
    chores.end().await;
    node.stop().await;
    served
}

/// Serves a node that has started, until it is told to stop.
async fn serve_until(
    args: &UpArgs,
    home: &Home,
    own: OwnNode,
    hub: &Path,
    env: &Env,
    ending: &mut Ending,
) -> anyhow::Result<()> {
    let OwnNode { node, id, saved_to } = own;
    let socket = home.dir.join("node.sock");
    let mut doors = listen::Doors::of_node(&socket, Arc::new(node.clone()))?;
    let client = HubClient::unix(hub);
    let asked: Arc<dyn VolumeHub> = Arc::new(client.clone());
    let csi = csi_of(asked, &id, &args.csi, home, env);
    listen::serve_csi(&mut doors, &csi, &args.csi)?;
    listen::write_down(home, STORE_FILE, &own_node::store_url(args));
    let registration = NodeRegistration { node: id.clone(), socket: socket.clone(), saved_to };
    output::warn(&format!(
        "node {id} is ready at {}, and tells the hub at {}",
        socket.display(),
        hub.display()
    ));
    let refused = tokio::select! {
        refused = register(client, registration) => Some(refused),
        () = ending.wait() => None,
    };
    let mut served = std::pin::pin!(doors.end());
    if tokio::time::timeout(STOP_WAIT, &mut served).await.is_err() {
        // a store that is away may keep them for ever: what is captured is saved after the next start
        node.end_waiting();
        let _ = tokio::time::timeout(STOP_WAIT, served).await;
    }
    let what = || format!("the hub at {} does not take this node", hub.display());
    refused.map_or(Ok(()), |error| Err(Failure::caused(what(), &error, error.kind()).into()))
}

/// Says every few seconds that this node is there, whatever becomes of the Hub. Ends only where the Hub has another
/// node and has never known this one: later pods use it.
async fn register(hub: HubClient, node: NodeRegistration) -> HubError {
    let (mut is_known, mut was_known, mut failed) = (false, false, 0_u32);
    loop {
        match hub.register_node(&node).await {
            Ok(()) => {
                if !is_known {
                    tracing::info!("the hub knows this node");
                }
                if failed >= TOLD_AFTER {
                    output::warn("the hub answers, and knows this node");
                }
                (is_known, was_known, failed) = (true, true, 0);
            }
            Err(error) if error.kind() == ErrorKind::Precondition && !was_known => return error,
            Err(error) => {
                if is_known {
                    tracing::warn!(error = chain(&error), "the hub does not know this node now");
                }
                is_known = false;
                failed = failed.saturating_add(1);
                if failed == TOLD_AFTER {
                    let every = REGISTER_EVERY.as_secs();
                    output::warn(&format!(
                        "{}; this node goes on and tries again every {every} s",
                        chain(&error)
                    ));
                }
            }
        }
        tokio::time::sleep(REGISTER_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: &str, socket: &str) -> NodeRegistration {
        let (node, saved_to) = (id.parse().unwrap(), "this_disk".into());
        NodeRegistration { node, socket: socket.into(), saved_to }
    }

    #[test]
    fn a_hub_has_the_node_that_came_first() {
        let known = node("a", "/a/node.sock");
        let admitted = |node: &NodeRegistration| {
            admit(Some(&known), node).map_err(|error| (error.kind(), error.to_string()))
        };
        assert_eq!(admit(None, &known).unwrap(), Admitted::First);
        assert_eq!(admitted(&known), Ok(Admitted::Known));
        let elsewhere = NodeRegistration { saved_to: "s3://b".into(), ..known.clone() };
        for again in [node("b", "/a/node.sock"), elsewhere] {
            assert_eq!(admitted(&again), Ok(Admitted::InPlaceOf("a".parse().unwrap())));
        }
        let refused = "node a at /a/node.sock is the node of this hub, which has one for now: end this one; to have \
                       it instead, end that one and start the hub again";
        for another in [node("b", "/b/node.sock"), node("a", "/b/node.sock")] {
            assert_eq!(admitted(&another), Err((ErrorKind::Precondition, refused.to_owned())));
        }
    }

    #[tokio::test]
    async fn a_node_that_comes_again_as_another_is_told_of_once() {
        let known = watch::Sender::new(None);
        let mut coming = known.subscribe();
        let registry = Registry { hub: Hub::new(Vec::new(), Env::system()), known };
        let first = node("a", "/a/node.sock");
        let elsewhere = NodeRegistration { saved_to: "s3://b".into(), ..first.clone() };
        for came in [first, elsewhere] {
            registry.register(came.clone()).unwrap();
            assert!(coming.has_changed().unwrap(), "{came:?}");
            assert_eq!(come(&mut coming).await, came);
            registry.register(came).unwrap();
            assert!(!coming.has_changed().unwrap(), "it says again what is known");
        }
        registry.register(node("b", "/b/node.sock")).unwrap_err();
        assert!(!coming.has_changed().unwrap(), "it was refused");
    }
}
