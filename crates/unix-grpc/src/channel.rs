//! The calling end of a socket.

use std::path::Path;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::socket::connect;

/// How much may be on its way unread, where callers and calls are many and some read slowly.
///
/// What is unread of one stream counts for its connection too: one stream that nobody reads stops all others
/// unless the connection's window holds the windows of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// Of one stream, in bytes.
    pub stream_bytes: u32,
    /// Of all streams of a connection, in bytes.
    pub connection_bytes: u32,
    /// The most bytes of the heads of one message; errors are told in heads.
    pub head_bytes: u32,
}

/// How often a server that owes an answer is asked for a sign of life.
const SIGN_OF_LIFE_EVERY: Duration = Duration::from_secs(10);
/// How long it has for one; its machine may be busy.
const SIGN_OF_LIFE_WITHIN: Duration = Duration::from_secs(20);

/// Connects to the server at a socket, which need not be there yet: with the first call, and again with the next one
/// after the connection was lost. A server that owes an answer and gives no sign of life for half a minute is lost, too.
/// Needs a runtime, on which the connection lives.
#[must_use]
pub fn channel(socket: &Path, windows: Option<Windows>) -> Channel {
    let socket = socket.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { connect(&socket).await.map(TokioIo::new) }
    });
    // what the `:authority` of each call says; the address is the socket's
    let mut endpoint = Endpoint::from_static("http://localhost")
        .http2_keep_alive_interval(SIGN_OF_LIFE_EVERY)
        .keep_alive_timeout(SIGN_OF_LIFE_WITHIN);
    if let Some(Windows { stream_bytes, connection_bytes, head_bytes }) = windows {
        endpoint = endpoint
            .initial_stream_window_size(stream_bytes)
            .initial_connection_window_size(connection_bytes)
            .http2_max_header_list_size(head_bytes);
    }
    endpoint.connect_with_connector_lazy(connector)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::UnixListener;
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_client::HealthClient;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_server_that_stands_still_is_lost() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("still.sock");
        let listener = UnixListener::bind(&path).unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            // what is asked goes into the kernel's queue, as to a process that is stopped
            let mut bytes = [0; 4096];
            while stream.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
        });
        let mut client = HealthClient::new(channel(&path, None));
        let asked = client.check(HealthCheckRequest::default());
        let answered = tokio::time::timeout(Duration::from_secs(120), asked).await;
        assert!(answered.expect("nobody waits for ever").is_err());
    }
}
