//! `cove up`: everything in one process.
//!
//! Wiring only: which pool, which store, which databases, and in which order they
//! start and stop.

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cove_btrfs::{BtrfsPool, LoopPool, Pool, PoolError};
use cove_database::{NodeDatabase, ServerDatabase};
use cove_env::Env;
use cove_node::{Holding, Node, NodeOptions, StartError};
use cove_objects::{DirectoryStore, Location, S3Config, S3Store, Store, StoreUrl, parse_url};
use cove_types::{Classify, ErrorKind, NodeId, StoreHolderId, TeamId};
use cove_workspace::Workspaces;
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use serde_json::json;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Notify;

use crate::args::UpArgs;
use crate::environment::{self, User};
use crate::failure::Failure;
use crate::output::{self, Output};

/// How often changes are looked for, however seldom they are stored.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// The smallest pool that is made when nobody says how large.
const POOL_BYTES_MIN: u64 = 4 << 30;
/// The pool grows by this, or by a quarter of itself where that is more.
const GROW_BYTES: u64 = 1 << 30;
/// How much of a pool is free before it grows, at most; a small one grows at a quarter.
const GROW_BELOW_BYTES: u64 = 2 << 30;
/// How often the room in the pool is looked at while nobody fills it, and while somebody does.
const GROW_EVERY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_millis(100));
/// Somebody fills the pool when this much went since the last look.
const FILLING_BYTES: u64 = 32 << 20;
/// How long a detached start may take: a pool's image is allocated in it.
const DETACH_WAIT: Duration = Duration::from_secs(300);
/// How long calls that wait for the store have at the end.
const SAVE_WAIT: Duration = Duration::from_secs(3);
/// How long all running calls have.
const STOP_WAIT: Duration = Duration::from_secs(10);

/// Starts Cove and serves until it is told to stop; with `detach`, returns when it serves.
///
/// # Errors
///
/// It could not start; nothing that it mounted or attached stays so.
pub fn run(args: UpArgs, output: Output) -> anyhow::Result<ExitCode> {
    if args.detach {
        return detach(&args, output);
    }
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
    let port = bind_tcp(args.listen)?;
    let opened = open_pool(&args)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::io("failed to start", &error))?;
    let served = runtime.block_on(serve(&args, &home, &opened, port));
    runtime.shutdown_timeout(STOP_WAIT);
    opened.close();
    served.map(|()| ExitCode::SUCCESS)
}

/// Cove's home: its directories and the lock that keeps a second Cove out.
struct Home {
    dir: PathBuf,
    /// Who called sudo, to whom what is made here belongs.
    caller: Option<User>,
    _lock: File,
}

impl Home {
    fn open(dir: &Path) -> Result<Self, Failure> {
        let caller = environment::caller()?;
        make_home(dir, caller)?;
        for below in ["state", "state/cache"] {
            let below = dir.join(below);
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&below)
                .map_err(|error| cannot_be_made(&below, &error))?;
        }
        let place = dir.join("lock");
        let lock = open_own(&place, caller, std::fs::OpenOptions::new().write(true))
            .map_err(|error| cannot_be_made(&place, &error))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { dir: dir.to_owned(), caller, _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(runs_already(dir)),
            Err(error) => Err(cannot_be_made(&place, &error.into())),
        }
    }

    /// The users that may call through the socket: root, who runs this, the owner of the home and
    /// who called sudo.
    fn users(&self) -> Result<Vec<u32>, Failure> {
        let own = rustix::process::geteuid().as_raw();
        let mut users = vec![0, own, self.owner()?.0];
        users.extend(self.caller.map(|caller| caller.0));
        Ok(users)
    }

    /// To whom the socket belongs: who called sudo, else the owner of the home.
    fn owner(&self) -> Result<User, Failure> {
        if let Some(caller) = self.caller {
            return Ok(caller);
        }
        let metadata = std::fs::metadata(&self.dir).map_err(|error| {
            Failure::io(format!("failed to look at {}", self.dir.display()), &error)
        })?;
        Ok(User(metadata.uid(), metadata.gid()))
    }

    /// The token that callers over TCP send; made once.
    fn token(&self, env: &Env) -> Result<String, Failure> {
        let place = self.dir.join("token");
        let failed = |error: &std::io::Error| Failure::io("failed to make the token", error);
        match std::fs::read_to_string(&place) {
            Ok(token) if !token.trim().is_empty() => return Ok(token.trim().to_owned()),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(&error)),
        }
        let secret: [u8; 32] = env.random();
        let digits: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let token = format!("cove_{digits}");
        let fresh = self.dir.join("token.tmp");
        // What an earlier start left half-made.
        let _ = std::fs::remove_file(&fresh);
        let mut file = open_own(&fresh, self.caller, std::fs::OpenOptions::new().write(true))
            .map_err(|error| failed(&error))?;
        file.write_all(token.as_bytes()).map_err(|error| failed(&error))?;
        file.write_all(b"\n").map_err(|error| failed(&error))?;
        file.sync_all().map_err(|error| failed(&error))?;
        std::fs::rename(&fresh, &place).map_err(|error| failed(&error))?;
        Ok(token)
    }
}

fn runs_already(dir: &Path) -> Failure {
    Failure::new(ErrorKind::Precondition, format!("a Cove is running in {} already", dir.display()))
        .hint("use it, stop it with `cove down`, or give this one another --home")
}

/// Makes the home, 0711, and the directories above it as far as they are missing, 0755; all of them
/// the caller's under sudo.
fn make_home(dir: &Path, caller: Option<User>) -> Result<(), Failure> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|above| !above.exists()).collect();
    for above in missing.into_iter().rev() {
        let mode = if above == dir { 0o711 } else { 0o755 };
        let made = make_directory(above, mode, caller);
        made.map_err(|error| cannot_be_made(above, &error))?;
    }
    match dir.is_dir() {
        true => Ok(()),
        false => Err(Failure::new(
            ErrorKind::Precondition,
            format!("Cove's home {} is a file, not a directory", dir.display()),
        )
        .hint("give another home with --home or COVE_HOME")),
    }
}

fn make_directory(dir: &Path, mode: u32, caller: Option<User>) -> std::io::Result<()> {
    match std::fs::DirBuilder::new().mode(mode).create(dir) {
        // Somebody else made it meanwhile, and it is theirs.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        Err(error) => Err(error),
        Ok(()) => match caller {
            Some(caller) => give(&rustix::fs::open(dir, DIRECTORY, Mode::empty())?, caller),
            None => Ok(()),
        },
    }
}

/// How a directory is opened that was just made, and nothing that was put in its place.
const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Gives what was just made to a user.
fn give(made: &impl AsFd, User(uid, gid): User) -> std::io::Result<()> {
    let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
    Ok(rustix::fs::fchown(made, Some(uid), Some(gid))?)
}

/// Opens a file of the home, 0600; one that is made here is the caller's under sudo. A link is not
/// followed: the home is its user's, who is not always the one who runs this.
fn open_own(
    place: &Path,
    caller: Option<User>,
    options: &mut std::fs::OpenOptions,
) -> std::io::Result<File> {
    let flags = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0);
    options.mode(0o600).custom_flags(flags);
    match options.clone().create_new(true).open(place) {
        Ok(file) => {
            caller.map_or(Ok(()), |caller| give(&file, caller))?;
            Ok(file)
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => options.open(place),
        Err(error) => Err(error),
    }
}

/// Why a place of the home is not there, without the number of the error.
fn cannot_be_made(place: &Path, error: &std::io::Error) -> Failure {
    let kind = match error.kind() {
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
            ErrorKind::Denied
        }
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorKind::Exhausted,
        _ => ErrorKind::Precondition,
    };
    let text = error.to_string();
    let why = text.split(" (os error").next().unwrap_or_default().to_ascii_lowercase();
    Failure::new(kind, format!("{} cannot be made: {why}", place.display()))
        .hint("give another home with --home or COVE_HOME")
}

/// The pool that was opened, and how it is let go of.
enum Opened {
    Loop(Arc<LoopPool>),
    Given(Arc<BtrfsPool>),
}

impl Opened {
    fn pool(&self) -> Arc<dyn Pool> {
        match self {
            Self::Loop(pool) => Arc::clone(pool) as Arc<dyn Pool>,
            Self::Given(pool) => Arc::clone(pool) as Arc<dyn Pool>,
        }
    }

    fn close(self) {
        let Self::Loop(pool) = self else { return };
        // tasks that were cut off let go of the pool a moment later
        let until = moment() + STOP_WAIT;
        let mut pool = pool;
        loop {
            match Arc::try_unwrap(pool) {
                Ok(own) => {
                    if let Err(error) = own.close() {
                        tracing::warn!(error = %error, "the pool stays mounted; the next start uses it");
                    }
                    return;
                }
                Err(shared) if moment() < until => {
                    pool = shared;
                    pause(Duration::from_millis(20));
                }
                Err(_) => {
                    tracing::warn!("the pool is in use and stays mounted; the next start uses it");
                    return;
                }
            }
        }
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

fn pool_failure(error: &PoolError) -> Failure {
    let hint = match error.kind() {
        ErrorKind::Exhausted => "make room on this disk, or give a smaller --pool-bytes",
        _ => "Cove needs root, btrfs and loop devices here, or --pool DIR on a btrfs file system",
    };
    Failure::caused("failed to open the pool", error, error.kind()).hint(hint)
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

fn open_pool(args: &UpArgs) -> Result<Opened, Failure> {
    if let Some(dir) = &args.pool {
        let pool = BtrfsPool::open(dir).map_err(|error| pool_failure(&error))?;
        return Ok(Opened::Given(Arc::new(pool)));
    }
    let bytes = match args.pool_bytes {
        Some(bytes) => bytes,
        None => {
            let room = rustix::fs::statvfs(&args.home)
                .map_err(|error| Failure::io("failed to look for free space", &error.into()))?;
            (room.f_bavail.saturating_mul(room.f_frsize) / 4).max(POOL_BYTES_MIN)
        }
    };
    let pool = LoopPool::open(&args.home, bytes).map_err(|error| pool_failure(&error))?;
    Ok(Opened::Loop(Arc::new(pool)))
}

/// Opens the store; a directory that had one before is never taken for a fresh one.
async fn open_store(
    args: &UpArgs,
    env: &Env,
    database: &NodeDatabase,
) -> Result<Arc<dyn Store>, Failure> {
    let own = format!("file://{}", args.home.join("objects").display());
    let url = parse_url(args.objects.as_deref().unwrap_or(&own))
        .map_err(|error| Failure::caused("failed to use the object store", &error, error.kind()))?;
    let refused = |error: cove_objects::OpenError| {
        Failure::caused("failed to open the object store", &error, error.kind())
    };
    Ok(match url {
        StoreUrl::Directory(dir) => {
            let place = dir.display().to_string();
            let failed = |error: cove_database::DatabaseError| {
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
    let failed = |error: cove_database::DatabaseError| {
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

async fn serve(
    args: &UpArgs,
    home: &Home,
    opened: &Opened,
    port: std::net::TcpListener,
) -> anyhow::Result<()> {
    let env = Env::system();
    let state = home.dir.join("state");
    let failed = |error: cove_database::DatabaseError| {
        database_failure("failed to open Cove's databases", &error, error.kind())
    };
    let node_database = NodeDatabase::open(&state.join("node.db")).await.map_err(failed)?;
    let server_database = ServerDatabase::open(&state.join("cove.db")).await.map_err(failed)?;
    let store = open_store(args, &env, &node_database).await?;
    let parse = |error: cove_types::ParseError| {
        Failure::caused("a kept name cannot be used", &error, error.kind())
    };
    let node_id: NodeId =
        kept_name(&node_database, &env, "node", "node-").await?.parse().map_err(parse)?;
    let holder: StoreHolderId =
        kept_name(&node_database, &env, "holder", "cove-").await?.parse().map_err(parse)?;
    let pin = kept_name(&node_database, &env, "pin", "").await?;
    let pin = u64::from_str_radix(&pin, 16).unwrap_or_default().to_be_bytes();
    let team: TeamId = "home".parse().map_err(parse)?;
    let saved_to = match store.location() {
        Location::ThisDisk => "this_disk".to_owned(),
        Location::Url(url) => url,
    };
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
            "the store {saved_to} is held by another Cove: nothing is written there until `cove recover`"
        ),
        Holding::Unknown { why } => eprintln!(
            "the store {saved_to} cannot be used, nothing is saved until it can: {}",
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
    workspaces
        .reconcile()
        .await
        .map_err(|error| Failure::caused("failed to start", &error, error.kind()))?;
    let grower = match opened {
        Opened::Loop(pool) => Some(tokio::spawn(grow(Arc::clone(pool)))),
        Opened::Given(_) => None,
    };
    let listened = listen(port, home, &env, workspaces, &node).await;
    if let Some(grower) = grower {
        grower.abort();
        let _ = grower.await;
    }
    node.stop().await;
    let _ = std::fs::remove_file(home.dir.join("cove.sock"));
    listened
}

/// Takes the port, so that nobody else does while the rest starts.
fn bind_tcp(address: SocketAddr) -> Result<std::net::TcpListener, Failure> {
    let bound = std::net::TcpListener::bind(address)
        .and_then(|port| port.set_nonblocking(true).map(|()| port));
    bound.map_err(|error| {
        let failure = match error.kind() {
            std::io::ErrorKind::AddrInUse => Failure::new(
                ErrorKind::Precondition,
                format!("another program listens on {address} already"),
            ),
            std::io::ErrorKind::AddrNotAvailable => Failure::new(
                ErrorKind::Precondition,
                format!("this machine has no address {}", address.ip()),
            ),
            _ => Failure::io(format!("failed to listen on {address}"), &error),
        };
        failure.hint("give another address with --listen, or 127.0.0.1:0 for any free port")
    })
}

async fn listen(
    port: std::net::TcpListener,
    home: &Home,
    env: &Env,
    workspaces: Workspaces,
    node: &Node,
) -> anyhow::Result<()> {
    let token = home.token(env)?;
    let down = Arc::new(Notify::new());
    let router = cove_http::router(
        Arc::new(workspaces),
        cove_http::Options {
            token_sha256: cove_http::token_digest(&token),
            hosts: Vec::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            down: Arc::clone(&down),
            env: env.clone(),
        },
    );
    let users = home.users()?;
    let unix = bind_unix(home)?;
    let tcp =
        TcpListener::from_std(port).map_err(|error| Failure::io("failed to listen", &error))?;
    let address = tcp.local_addr().map_err(|error| Failure::io("failed to listen", &error))?;
    // who finds the socket answering finds the address too
    write_address(home, address);
    let (stopped, stopping) = tokio::sync::watch::channel(false);
    let ended = |mut stopping: tokio::sync::watch::Receiver<bool>| async move {
        let _ = stopping.wait_for(|stopped| *stopped).await;
    };
    let servers = (
        {
            let (router, stopping) = (router.clone(), ended(stopping.clone()));
            tokio::spawn(async move {
                cove_http::serve_unix(unix, router, &users, stopping).await;
            })
        },
        tokio::spawn(cove_http::serve_tcp(tcp, router, ended(stopping))),
    );
    eprintln!("ready on http://{address} and {}", home.dir.join("cove.sock").display());
    wait_for_the_end(&down).await?;
    let _ = stopped.send(true);
    let mut served = std::pin::pin!(async { (servers.0.await, servers.1.await) });
    if tokio::time::timeout(SAVE_WAIT, &mut served).await.is_err() {
        // a store that is away may keep them for ever: what is captured is saved after the next start
        node.end_waiting();
        let _ = tokio::time::timeout(STOP_WAIT, served).await;
    }
    Ok(())
}

/// The address for whoever looks into the home.
fn write_address(home: &Home, address: SocketAddr) {
    let place = home.dir.join("address");
    let mut options = std::fs::OpenOptions::new();
    let file = open_own(&place, home.caller, options.write(true).truncate(true));
    let written = file.and_then(|mut file| writeln!(file, "http://{address}"));
    if let Err(error) = written {
        tracing::warn!(%error, "the address is not written down");
    }
}

async fn wait_for_the_end(down: &Notify) -> Result<(), Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let on =
        |kind| signal(kind).map_err(|error| Failure::io("failed to watch for signals", &error));
    let (mut terminate, mut interrupt) =
        (on(SignalKind::terminate())?, on(SignalKind::interrupt())?);
    // a terminal that closes does not stop a Cove that serves others
    let mut hang_up = on(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            () = down.notified() => return Ok(()),
            _ = hang_up.recv() => {}
        }
    }
}

/// Binds the socket in the home, whatever an earlier Cove left there; a path too long for a socket
/// address is reached through the directory's descriptor.
fn bind_unix(home: &Home) -> Result<UnixListener, Failure> {
    let place = home.dir.join("cove.sock");
    let failed = |error: &std::io::Error| Failure::io("failed to make the socket", error);
    if std::fs::symlink_metadata(&place).is_ok_and(|found| found.file_type().is_socket()) {
        std::fs::remove_file(&place).map_err(|error| failed(&error))?;
    }
    let dir = File::open(&home.dir).map_err(|error| failed(&error))?;
    let short = {
        use std::os::fd::AsRawFd;
        PathBuf::from(format!("/proc/self/fd/{}/cove.sock", dir.as_raw_fd()))
    };
    let listener = UnixListener::bind(&short).map_err(|error| failed(&error))?;
    std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o600))
        .map_err(|error| failed(&error))?;
    let User(uid, gid) = home.owner()?;
    if rustix::process::geteuid().is_root() && uid != 0 {
        std::os::unix::fs::lchown(&place, Some(uid), Some(gid)).map_err(|error| failed(&error))?;
    }
    Ok(listener)
}

/// By how much a pool of `size` bytes grows of which `free` are left; 0 when that is enough.
fn plan_growth(size: u64, free: u64) -> u64 {
    if free < GROW_BELOW_BYTES.min(size / 4) { GROW_BYTES.max(size / 4) } else { 0 }
}

/// Gives the pool more room before it is full, as long as the host has some.
async fn grow(pool: Arc<LoopPool>) {
    let mut free_before = 0;
    let mut pace = GROW_EVERY.0;
    loop {
        tokio::time::sleep(pace).await;
        let growing = Arc::clone(&pool);
        let looked = tokio::task::spawn_blocking(move || {
            let space = growing.space()?;
            let by = plan_growth(space.total, space.free);
            let grown = match by {
                0 => None,
                // a host that has no room for the whole step may have some for a small one
                by => Some(growing.grow(by).or_else(|_| growing.grow(GROW_BYTES / 8))),
            };
            Ok::<_, PoolError>((space.free, grown))
        });
        let Ok(Ok((free, grown))) = looked.await else { continue };
        match grown {
            Some(Ok(bytes)) => tracing::info!(bytes, "the pool has grown"),
            Some(Err(error)) => tracing::debug!(%error, "the pool does not grow"),
            None => {}
        }
        let is_filling = free.saturating_add(FILLING_BYTES) < free_before;
        pace = if is_filling { GROW_EVERY.1 } else { GROW_EVERY.0 };
        free_before = free;
    }
}

/// Starts this program again in the background and waits until it serves.
fn detach(args: &UpArgs, output: Output) -> anyhow::Result<ExitCode> {
    let caller = environment::caller()?;
    make_home(&args.home, caller)?;
    // What a second one has to say is not for the log of the first.
    if environment::is_running_in(&args.home) {
        return Err(runs_already(&args.home).into());
    }
    let log_place = args.home.join("cove.log");
    let log = open_own(&log_place, caller, std::fs::OpenOptions::new().append(true))
        .map_err(|error| cannot_be_made(&log_place, &error))?;
    let begins = log.metadata().map_or(0, |metadata| metadata.len());
    let child = spawn(args, &log).map_err(|error| Failure::io("failed to start", &error))?;
    wait_until_ready(child, args, &log_place, begins, output)
}

#[expect(clippy::disallowed_methods, reason = "the program starts itself again")]
fn spawn(args: &UpArgs, log: &File) -> std::io::Result<Child> {
    let mut command = std::process::Command::new(std::env::current_exe()?);
    command.arg("up").arg("--home").arg(&args.home);
    command.arg("--listen").arg(args.listen.to_string());
    if let Some(bytes) = args.pool_bytes {
        command.arg("--pool-bytes").arg(bytes.to_string());
    }
    if let Some(pool) = &args.pool {
        command.arg("--pool").arg(pool);
    }
    if let Some(objects) = &args.objects {
        command.arg("--objects").arg(objects);
    }
    command.arg("--store-every").arg(format!("{}ms", args.store_every.as_millis()));
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log.try_clone()?);
    command.process_group(0);
    command.spawn()
}

fn wait_until_ready(
    mut child: Child,
    args: &UpArgs,
    log: &Path,
    begins: u64,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let said = || {
        let bytes = std::fs::read(log).unwrap_or_default();
        let from = usize::try_from(begins).unwrap_or(0).min(bytes.len());
        String::from_utf8_lossy(&bytes[from..]).into_owned()
    };
    let until = moment() + DETACH_WAIT;
    loop {
        let log_text = said();
        if let Some(line) = log_text.lines().find(|line| line.starts_with("ready on ")) {
            if let Some(warning) = log_text.lines().find(|line| line.starts_with("the store ")) {
                output::warn(warning);
            }
            output.say(line);
            output.say(&first_commands(log));
            let url = line.split_whitespace().nth(2).unwrap_or_default().to_owned();
            let socket = args.home.join("cove.sock");
            let cove = json!({ "url": url, "socket": socket, "home": args.home, "log": log });
            output.show(&json!({ "cove": cove }), [url], String::new)?;
            return Ok(ExitCode::SUCCESS);
        }
        if let Some(status) =
            child.try_wait().map_err(|error| Failure::io("failed to start", &error))?
        {
            let text = said();
            let from = text.find("error: ").unwrap_or(0);
            eprint!("{}", &text[from..]);
            let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
            return Ok(ExitCode::from(code));
        }
        if moment() > until {
            return Err(Failure::new(ErrorKind::TimedOut, "Cove does not serve yet")
                .hint(format!("look into {}", log.display()))
                .into());
        }
        pause(Duration::from_millis(20));
    }
}

/// What to try with a Cove that has just started.
fn first_commands(log: &Path) -> String {
    format!(
        "\nThe log is {}. Try:\n\n  cove new shop --from ./some-project\n  cove show shop\n  \
         cove snapshot shop -m \"first\"\n  cove timeline shop\n  cd \"$(cove path shop)\"",
        log.display()
    )
}

#[cfg(test)]
mod tests {
    use super::plan_growth;

    #[test]
    fn a_pool_grows_before_it_is_full_and_a_small_one_not_at_once() {
        const GIB: u64 = 1 << 30;
        assert_eq!(plan_growth(GIB, GIB * 9 / 10), 0);
        assert_eq!(plan_growth(GIB, GIB / 5), GIB);
        assert_eq!(plan_growth(100 * GIB, 3 * GIB), 0);
        assert_eq!(plan_growth(100 * GIB, GIB), 25 * GIB);
    }
}
