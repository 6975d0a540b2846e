//! `cove up`: everything in one process; `cove hub` and `cove node` (`apart.rs`): the same in two.
//!
//! Wiring only: which pool, which store, which databases, and in which order they
//! start and stop.

#[cfg(target_env = "gnu")]
mod allocator;
mod apart;
mod detach;
mod disk;
mod ending;
mod home;
mod listen;
mod own_node;
mod pool;

pub use self::apart::{run_hub, run_node};

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cove_content::volumes::Volumes;
use cove_csi::Csi;
use cove_database::{DatabaseError, Reserve, ServerDatabase};
use cove_env::Env;
use cove_hub::{Hub, VolumeHub};
use cove_node::Node;
use cove_types::{Classify, ErrorKind, NodeId};
use cove_workspace::Workspaces;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use self::ending::Ending;
use self::home::{Home, Part};
use self::own_node::OwnNode;
use self::pool::Opened;
use crate::args::{CsiFlags, UpArgs};
use crate::environment;
use crate::failure::Failure;
use crate::output::{self, Output};

/// How often changes are looked for, however seldom they are stored.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// How often what is kept for removals is looked at.
const KEEP_EVERY: Duration = Duration::from_secs(10);
/// How long all running calls have.
const STOP_WAIT: Duration = Duration::from_secs(10);
/// What is said of a store that another Cove holds, after its name.
const HELD_BY_ANOTHER: &str = " is held by another Cove";
/// What is said when a signal comes before it serves.
const STOPPED_EARLY: &str = "stopped before it served";

/// Starts Cove and serves until it is told to stop; with `detach`, returns when it serves.
///
/// # Errors
///
/// It could not start; nothing that it mounted or attached stays so.
pub fn run(args: UpArgs, output: Output) -> anyhow::Result<ExitCode> {
    if args.detach {
        return detach::detach(&args, output);
    }
    begin();
    let home = Home::open(&args.home, Part::All)?;
    listen::refuse_equal_csi(&args.csi, &home)?;
    // Before the pool: a port in use is known at once, and nothing has to be taken back.
    let port = listen::bind_tcp(args.listen, "--listen")?;
    // Before the pool: from now on a signal ends this in order, and what is mounted is let go of.
    let (runtime, mut ending) = watch_for_signals()?;
    let opened = pool::open_pool(&args)?;
    let served = runtime.block_on(serve(&args, &home, &opened, port, &mut ending));
    runtime.shutdown_timeout(STOP_WAIT);
    opened.close();
    served.map(|()| ExitCode::SUCCESS)
}

/// Does what comes before all else in a process that serves.
fn begin() {
    #[cfg(target_env = "gnu")]
    allocator::give_back();
    let _ = rustls::crypto::ring::default_provider().install_default();
    tracing_subscriber::fmt()
        .with_env_filter(environment::log_filter())
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(true)
        // it would say so on standard error, and panic where that is what cannot be written
        .log_internal_errors(false)
        .init();
}

fn watch_for_signals() -> Result<(Runtime, Ending), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::io("failed to start", &error))?;
    let ending = runtime.block_on(async { Ending::watch() })?;
    Ok((runtime, ending))
}

/// What goes on beside the calls until this is ended.
#[derive(Default)]
struct Chores(Vec<JoinHandle<()>>);

impl Chores {
    /// The pool grows, room is kept, memory is given back.
    fn begin(opened: Option<&Opened>, reserve: Option<Reserve>) -> Self {
        let mut tasks = Vec::new();
        if let Some(Opened::Loop(pool)) = opened {
            tasks.push(tokio::spawn(pool::grow(Arc::clone(pool))));
        }
        tasks.extend(reserve.map(|reserve| tokio::spawn(keep(reserve))));
        #[cfg(target_env = "gnu")]
        tasks.push(tokio::spawn(allocator::keep_giving_back()));
        Self(tasks)
    }

    async fn end(self) {
        for task in self.0 {
            task.abort();
            let _ = task.await;
        }
    }
}

async fn serve(
    args: &UpArgs,
    home: &Home,
    opened: &Opened,
    port: std::net::TcpListener,
    ending: &mut Ending,
) -> anyhow::Result<()> {
    let env = Env::system();
    let started = tokio::select! {
        started = start(args, home, opened, &env) => Some(started?),
        () = ending.wait() => None,
    };
    let Some(Started { node, hub, csi, workspaces, reserve }) = started else {
        output::warn(STOPPED_EARLY);
        return Ok(());
    };
    let reconciled = tokio::select! {
        reconciled = workspaces.reconcile() => Some(reconciled),
        () = ending.wait() => None,
    };
    let chores = Chores::begin(Some(opened), Some(reserve));
    let listened = match reconciled {
        Some(Ok(_)) => {
            let serving = listen::Serving {
                workspaces,
                hub,
                hub_socket: &home.dir.join("hub.sock"),
                doors: None,
                csi: Some((csi, &args.csi)),
                node: Some(&node),
                store: Some(&own_node::store_url(args)),
            };
            listen::listen(port, home, &env, serving, ending).await
        }
        Some(Err(error)) => Err(database_failure("failed to start", &error, error.kind()).into()),
        None => {
            output::warn(STOPPED_EARLY);
            Ok(())
        }
    };
    chores.end().await;
    node.stop().await;
    listened
}

/// What serves, before anybody can call it.
struct Started {
    node: Node,
    hub: Hub,
    csi: Csi,
    workspaces: Workspaces,
    reserve: Reserve,
}

/// Keeps the room for removals, from when the disk has some.
async fn keep(reserve: Reserve) {
    loop {
        tokio::time::sleep(KEEP_EVERY).await;
        let reserve = reserve.clone();
        let _ = tokio::task::spawn_blocking(move || reserve.fill()).await;
    }
}

/// Opens the databases and the store, and starts the node on them.
async fn start(args: &UpArgs, home: &Home, opened: &Opened, env: &Env) -> anyhow::Result<Started> {
    let database = open_server_database(home).await?;
    // a start on a full disk lets its user remove something, too
    let reserve = database.reserve().clone();
    let _room = reserve.lend();
    let OwnNode { node, id, saved_to } = own_node::start(args, home, opened, env).await?;
    let volumes: Arc<dyn Volumes> = Arc::new(node.clone());
    let hub = Hub::new(vec![(id.clone(), volumes)], env.clone());
    let csi = csi_of(Arc::new(hub.clone()), &id, &args.csi, home, env);
    let options = cove_workspace::Options { keep: args.keep, node: id, saved_to };
    let workspaces = Workspaces::new(Arc::new(hub.clone()), database, env.clone(), options);
    Ok(Started { node, hub, csi, workspaces, reserve })
}

/// The driver of the Container Storage Interface for this node.
fn csi_of(hub: Arc<dyn VolumeHub>, node: &NodeId, flags: &CsiFlags, home: &Home, env: &Env) -> Csi {
    let options = cove_csi::Options {
        node: node.clone(),
        compat: flags.csi_compat,
        version: env!("CARGO_PKG_VERSION"),
        volumes_per_node_max: flags.csi_volumes_max,
        home: home.dir.clone(),
    };
    Csi::new(hub, options, env.clone())
}

async fn open_server_database(home: &Home) -> Result<ServerDatabase, Failure> {
    ServerDatabase::open(&home.dir.join("state").join("cove.db")).await.map_err(opening)
}

/// Why a database did not open.
fn opening(error: DatabaseError) -> Failure {
    let kind = match error {
        // with one letter of it damaged it is not one of ours any more
        DatabaseError::Foreign { .. } => ErrorKind::Corrupt,
        _ => error.kind(),
    };
    database_failure("failed to open Cove's databases", &error, kind)
}

/// A database that did not open or cannot be read, and how to go on when it is damaged.
fn database_failure(what: &str, error: &dyn std::error::Error, kind: ErrorKind) -> Failure {
    let failure = Failure::caused(what, error, kind);
    match kind {
        ErrorKind::Corrupt => failure.hint(
            "nothing that was saved is lost: move the damaged file out of state/ in Cove's home (with its -wal and \
             -shm), start again, and run `cove recover --take`; it brings the projects back from the \
             store and keeps the files that are on this machine. If the file is node.db and Kubernetes uses this \
             node, start with --node-id and its old id, which `kubectl get nodes -L \
             topology.cove.csi.storage/node` tells: a later start does not change it any more",
        ),
        _ => failure,
    }
}

#[expect(clippy::disallowed_methods, reason = "a program bounds its own start and end")]
fn moment() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "a program waits for its own start and end")]
fn pause(duration: Duration) {
    std::thread::sleep(duration);
}
