//! `cove up`: everything in one process.
//!
//! Wiring only: which pool, which store, which databases, and in which order they
//! start and stop.

#[cfg(target_env = "gnu")]
mod allocator;
mod detach;
mod disk;
mod ending;
mod home;
mod listen;
mod pool;

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cove_database::{DatabaseError, NodeDatabase, Reserve, ServerDatabase};
use cove_env::Env;
use cove_node::{Holding, Node, NodeOptions, StartError};
use cove_objects::{DirectoryStore, Location, S3Config, S3Store, Store, StoreUrl, parse_url};
use cove_types::{Classify, ErrorKind, NodeId, StoreHolderId, TeamId};
use cove_workspace::Workspaces;

use self::ending::Ending;
use self::home::Home;
use self::pool::Opened;
use crate::args::UpArgs;
use crate::environment;
use crate::failure::Failure;
use crate::output::Output;

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
    #[cfg(target_env = "gnu")]
    allocator::give_back();
    let _ = rustls::crypto::ring::default_provider().install_default();
    tracing_subscriber::fmt()
        .with_env_filter(environment::log_filter())
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(true)
        .init();
    cove_http::check_listen(args.listen).map_err(|error| {
        Failure::caused("failed to listen", &error, error.kind())
            .hint("listen on 127.0.0.1 and put a proxy with TLS before it")
    })?;
    let home = Home::open(&args.home)?;
    // Before the pool: a port in use is known at once, and nothing has to be taken back.
    let port = listen::bind_tcp(args.listen)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::io("failed to start", &error))?;
    // Before the pool: from now on a signal ends this in order, and what is mounted is let go of.
    let mut ending = runtime.block_on(async { Ending::watch() })?;
    let opened = pool::open_pool(&args)?;
    let served = runtime.block_on(serve(&args, &home, &opened, port, &mut ending));
    runtime.shutdown_timeout(STOP_WAIT);
    opened.close();
    served.map(|()| ExitCode::SUCCESS)
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
    let Some(Started { node, workspaces, reserve }) = started else {
        eprintln!("{STOPPED_EARLY}");
        return Ok(());
    };
    let reconciled = tokio::select! {
        reconciled = workspaces.reconcile() => Some(reconciled),
        () = ending.wait() => None,
    };
    let grower = match opened {
        Opened::Loop(pool) => Some(tokio::spawn(pool::grow(Arc::clone(pool)))),
        Opened::Given(_) => None,
    };
    let keeper = tokio::spawn(keep(reserve));
    #[cfg(target_env = "gnu")]
    let memory = Some(tokio::spawn(allocator::keep_giving_back()));
    #[cfg(not(target_env = "gnu"))]
    let memory = None;
    let listened = match reconciled {
        Some(Ok(_)) => {
            listen::listen(port, home, &env, workspaces, &node, &store_url(args), ending).await
        }
        Some(Err(error)) => Err(database_failure("failed to start", &error, error.kind()).into()),
        None => {
            eprintln!("{STOPPED_EARLY}");
            Ok(())
        }
    };
    for task in grower.into_iter().chain(memory).chain([keeper]) {
        task.abort();
        let _ = task.await;
    }
    node.stop().await;
    let _ = std::fs::remove_file(home.dir.join("cove.sock"));
    listened
}

/// What serves, before anybody can call it.
struct Started {
    node: Node,
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
    let state = home.dir.join("state");
    let failed = |error: DatabaseError| {
        let kind = match error {
            // with one letter of it damaged it is not one of ours any more
            DatabaseError::Foreign { .. } => ErrorKind::Corrupt,
            _ => error.kind(),
        };
        database_failure("failed to open Cove's databases", &error, kind)
    };
    let server_database = ServerDatabase::open(&state.join("cove.db")).await.map_err(failed)?;
    // a start on a full disk lets its user remove something, too
    let reserve = server_database.reserve().clone();
    let _room = reserve.lend();
    let node_database = NodeDatabase::open(&state.join("node.db")).await.map_err(failed)?;
    let store = open_store(args, env, &node_database).await?;
    let parse = |error: cove_types::ParseError| {
        Failure::caused("a kept name cannot be used", &error, error.kind())
    };
    let node_id: NodeId =
        kept_name(&node_database, env, "node", "node-").await?.parse().map_err(parse)?;
    let holder: StoreHolderId =
        kept_name(&node_database, env, "holder", "cove-").await?.parse().map_err(parse)?;
    let pin = kept_name(&node_database, env, "pin", "").await?;
    let pin = u64::from_str_radix(&pin, 16).unwrap_or_default().to_be_bytes();
    let team: TeamId = "home".parse().map_err(parse)?;
    let url = store_url(args);
    let pool = args.pool.clone().unwrap_or_else(|| home.dir.join("pool"));
    let saved_to = saved_to(store.location(), &url, [&home.dir, pool.as_path()]);
    let options = NodeOptions {
        node: node_id.clone(),
        holder,
        team,
        look_every: LOOK_EVERY,
        store_every: args.store_every,
        pin,
        cache: state.join("cache"),
    };
    let node = Node::start(opened.pool(), store, node_database, env.clone(), options)
        .await
        .map_err(|error| start_failure(&error))?;
    match node.holding() {
        Holding::Held => {}
        Holding::HeldByAnother { .. } => eprintln!(
            "the store {}{HELD_BY_ANOTHER}: nothing is written there until `cove recover`",
            cove_types::escape_bytes(url.as_bytes())
        ),
        Holding::Unknown { why } => eprintln!(
            "the store {} cannot be used, nothing is saved until it can: {}",
            cove_types::escape_bytes(url.as_bytes()),
            cove_types::escape_bytes(why.as_bytes())
        ),
    }
    let volumes: Arc<dyn cove_content::volumes::Volumes> = Arc::new(node.clone());
    let workspaces = Workspaces::new(
        volumes,
        server_database,
        env.clone(),
        cove_workspace::Options { keep: args.keep, node: node_id, saved_to },
    );
    Ok(Started { node, workspaces, reserve })
}

/// The URL of the store, given or in the home.
fn store_url(args: &UpArgs) -> String {
    let own = || format!("file://{}", args.home.join("objects").display());
    args.objects.clone().unwrap_or_else(own)
}

/// Where saved states are, in the words of the API: `this_disk` where the loss of a disk takes the
/// store and the files, in the home or in the pool, else the store's URL.
fn saved_to(location: Location, url: &str, files: [&Path; 2]) -> String {
    match (location, parse_url(url)) {
        (Location::ThisDisk, Ok(StoreUrl::Directory(dir))) if !disk::shares_a_disk(files, &dir) => {
            StoreUrl::Directory(dir).to_string()
        }
        (Location::ThisDisk, _) => "this_disk".to_owned(),
        (Location::Url(url), _) => url,
    }
}

/// Opens the store; a directory that had one before is never taken for a fresh one.
async fn open_store(
    args: &UpArgs,
    env: &Env,
    database: &NodeDatabase,
) -> Result<Arc<dyn Store>, Failure> {
    let url = parse_url(&store_url(args))
        .map_err(|error| Failure::caused("failed to use the object store", &error, error.kind()))?;
    let refused = |error: cove_objects::OpenError| {
        Failure::caused("failed to open the object store", &error, error.kind())
    };
    Ok(match url {
        StoreUrl::Directory(dir) => {
            let place = dir.display().to_string();
            let failed = |error: DatabaseError| {
                database_failure("failed to read the node's database", &error, error.kind())
            };
            let store = match database.was_held(&place).await.map_err(failed)? {
                true => DirectoryStore::open_known(&dir, env.clone()),
                false => DirectoryStore::open(&dir, env.clone()),
            };
            let store = store.map_err(|error| {
                let is_gone = matches!(error, cove_objects::OpenError::Gone { .. });
                let failure = refused(error);
                match is_gone {
                    true => failure.hint(format!(
                        "mount the disk that it lies on and start again; if it is gone for good, \
                         `mkdir -p {place}/objects` lets Cove begin an empty one"
                    )),
                    false => failure,
                }
            })?;
            let now_us = env.now().as_microsecond();
            database.put_held(&place, now_us).await.map_err(failed)?;
            Arc::new(store)
        }
        StoreUrl::S3 { bucket, prefix } => {
            let keys = environment::aws()?;
            let config = S3Config {
                bucket,
                prefix,
                region: keys.region,
                endpoint: keys.endpoint,
                access_key: keys.access_key,
                secret_key: keys.secret_key,
                session_token: keys.session_token,
                silence_max: args.store_timeout,
            };
            Arc::new(S3Store::open(config, env.clone()).map_err(refused)?)
        }
    })
}

/// A name that is made once and then kept in the node's database.
async fn kept_name(
    database: &NodeDatabase,
    env: &Env,
    name: &str,
    prefix: &str,
) -> Result<String, Failure> {
    let failed = |error: DatabaseError| {
        database_failure("failed to read the node's database", &error, error.kind())
    };
    if let Some(kept) = database.find_setting(name).await.map_err(failed)? {
        return Ok(kept);
    }
    let fresh: [u8; 8] = env.random();
    let fresh = format!("{prefix}{:016x}", u64::from_be_bytes(fresh));
    database.put_setting(name, &fresh).await.map_err(failed)?;
    Ok(fresh)
}

/// A database that did not open or cannot be read, and how to go on when it is damaged.
fn database_failure(what: &str, error: &dyn std::error::Error, kind: ErrorKind) -> Failure {
    let failure = Failure::caused(what, error, kind);
    match kind {
        ErrorKind::Corrupt => failure.hint(
            "nothing that was saved is lost: move the damaged file out of state/ in Cove's home (with its -wal and \
             -shm), start again, and run `cove recover --take`; it brings the projects back from the \
             store and keeps the files that are on this machine",
        ),
        _ => failure,
    }
}

fn start_failure(error: &StartError) -> Failure {
    let failure = Failure::caused("failed to start", error, error.kind());
    match error {
        StartError::Database(source) => database_failure("failed to start", error, source.kind()),
        StartError::Store(unfit) if unfit.kind() == ErrorKind::Precondition => failure.hint(
            "give a bucket whose server keeps If-None-Match and If-Match and whose rules take \
             nothing away, or a directory: --objects file:///DIR",
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
