//! Where it listens, and until when.

use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cove_env::Env;
use cove_node::Node;
use cove_types::ErrorKind;
use cove_workspace::Workspaces;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Notify;

use super::STOP_WAIT;
use super::ending::Ending;
use super::home::{Home, open_own};
use crate::environment::{STORE_FILE, User};
use crate::failure::Failure;

/// How long calls that wait for the store have at the end.
const SAVE_WAIT: Duration = Duration::from_secs(3);

/// Takes the port, so that nobody else does while the rest starts.
pub(super) fn bind_tcp(address: SocketAddr) -> Result<std::net::TcpListener, Failure> {
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

pub(super) async fn listen(
    port: std::net::TcpListener,
    home: &Home,
    env: &Env,
    workspaces: Workspaces,
    node: &Node,
    store: &str,
    ending: &mut Ending,
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
    // who finds the socket answering finds the address and the store too
    write_down(home, "address", &format!("http://{address}"));
    write_down(home, STORE_FILE, store);
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
    tokio::select! {
        () = ending.wait() => {}
        () = down.notified() => {}
    }
    let _ = stopped.send(true);
    let mut served = std::pin::pin!(async { (servers.0.await, servers.1.await) });
    if tokio::time::timeout(SAVE_WAIT, &mut served).await.is_err() {
        // a store that is away may keep them for ever: what is captured is saved after the next start
        node.end_waiting();
        let _ = tokio::time::timeout(STOP_WAIT, served).await;
    }
    Ok(())
}

/// One line for whoever looks into the home.
fn write_down(home: &Home, name: &str, line: &str) {
    let place = home.dir.join(name);
    let mut options = std::fs::OpenOptions::new();
    let file = open_own(&place, home.caller, options.write(true).truncate(true));
    let written = file.and_then(|mut file| writeln!(file, "{line}"));
    if let Err(error) = written {
        tracing::warn!(%error, name, "what others are to know of this Cove is not written down");
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
