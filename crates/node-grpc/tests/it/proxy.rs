//! A connection that can be cut.

use std::path::{Path, PathBuf};

use cove_node_grpc::NodeClient;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

/// Passes on what comes at a socket of its own.
pub struct Proxy {
    pub socket: PathBuf,
    passing: JoinHandle<()>,
    _home: tempfile::TempDir,
}

impl Proxy {
    pub fn before(server: &Path) -> Self {
        let home = tempfile::tempdir().unwrap();
        let socket = home.path().join("proxy.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let server = server.to_owned();
        let passing = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let mut far = UnixStream::connect(&server).await.unwrap();
                connections.spawn(async move {
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                });
            }
        });
        Self { socket, passing, _home: home }
    }

    pub fn client(&self) -> NodeClient {
        NodeClient::unix(&self.socket)
    }

    /// Cuts all connections, for good.
    pub fn cut(&self) {
        self.passing.abort();
    }
}
