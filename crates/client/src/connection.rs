//! One connection for one call.

use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};

use crate::ClientError;

/// Longer paths do not fit into an address of a unix socket with its NUL.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Where a Cove listens.
#[derive(Debug, Clone)]
pub enum Endpoint {
    /// A unix socket.
    Unix(PathBuf),
    /// `host:port`, reached in the clear and therefore on this machine only.
    Tcp(String),
}

impl Endpoint {
    /// Reads `http://HOST[:PORT]`.
    pub(crate) fn parse(url: &str) -> Result<Self, ClientError> {
        let refused = |what: String| ClientError::Address { what };
        let uri: hyper::Uri = url
            .parse()
            .map_err(|_| refused(format!("\"{}\" is not a URL", url.escape_default())))?;
        let host = match (uri.scheme_str(), uri.host()) {
            (Some("http"), Some(host)) => host,
            _ => {
                return Err(refused(format!(
                    "\"{}\" is not http://HOST:PORT",
                    url.escape_default()
                )));
            }
        };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let is_loopback = bare == "localhost"
            || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        if !is_loopback {
            return Err(refused(format!(
                "{host} is beyond this machine, where a token may not travel in the clear"
            )));
        }
        Ok(Self::Tcp(format!("{host}:{}", uri.port_u16().unwrap_or(80))))
    }

    /// How messages name it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Unix(path) => path.display().to_string(),
            Self::Tcp(address) => format!("http://{address}"),
        }
    }

    /// What the `Host` header says.
    pub(crate) fn host(&self) -> &str {
        match self {
            Self::Unix(_) => "localhost",
            Self::Tcp(address) => address,
        }
    }

    /// Sends one request and returns the head of its answer.
    pub(crate) async fn send(
        &self,
        request: Request<BoxBody<Bytes, io::Error>>,
    ) -> Result<Response<Incoming>, ClientError> {
        let unreachable = |source: io::Error| match source.kind() {
            io::ErrorKind::PermissionDenied => ClientError::Forbidden { at: self.name(), source },
            _ => ClientError::Unreachable { at: self.name(), source },
        };
        let lost =
            |source: hyper::Error| ClientError::Lost { at: self.name(), source: Box::new(source) };
        let mut sender = match self {
            Self::Unix(path) => {
                let stream = connect_unix(path).await.map_err(unreachable)?;
                let (sender, connection) =
                    http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
                tokio::spawn(connection);
                sender
            }
            Self::Tcp(address) => {
                let stream = TcpStream::connect(address).await.map_err(unreachable)?;
                let (sender, connection) =
                    http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
                tokio::spawn(connection);
                sender
            }
        };
        sender.send_request(request).await.map_err(lost)
    }
}

/// Connects to a socket whose path may be longer than an address holds: then its
/// directory is opened and the path goes through the descriptor.
async fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    if path.as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
        return UnixStream::connect(path).await;
    }
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::NotFound.into());
    };
    let flags =
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags, rustix::fs::Mode::empty())?;
    let mut short = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
    short.push(name);
    UnixStream::connect(short).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_does_not_travel_in_the_clear() {
        assert!(Endpoint::parse("http://127.0.0.1:7070").is_ok());
        assert!(Endpoint::parse("http://[::1]:7070/").is_ok());
        let refused = Endpoint::parse("http://example.com:7070").unwrap_err();
        assert!(refused.to_string().contains("beyond this machine"), "{refused}");
        assert!(Endpoint::parse("7070").is_err());
    }

    #[tokio::test]
    async fn a_socket_with_a_long_path_is_reached() {
        let home = tempfile::tempdir().unwrap();
        let deep = home.path().join("d".repeat(100)).join("e".repeat(100));
        std::fs::create_dir_all(&deep).unwrap();
        let directory = std::fs::File::open(&deep).unwrap();
        let bound = format!("/proc/self/fd/{}/cove.sock", directory.as_raw_fd());
        let listener = tokio::net::UnixListener::bind(bound).unwrap();
        connect_unix(&deep.join("cove.sock")).await.unwrap();
        listener.accept().await.unwrap();
    }

    #[tokio::test]
    async fn nobody_at_the_socket_is_said_so() {
        let endpoint = Endpoint::Unix("/nowhere/cove.sock".into());
        let request = Request::new(BoxBody::default());
        let refused = endpoint.send(request).await.unwrap_err();
        assert_eq!(refused.to_string(), "no Cove is running at /nowhere/cove.sock");
    }
}
