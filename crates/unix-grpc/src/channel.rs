//! The calling end of a socket.

use std::path::Path;

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

/// Connects to the server at a socket, which need not be there yet: with the first call, and again with the next one
/// after the connection was lost. Needs a runtime, on which the connection lives.
#[must_use]
pub fn channel(socket: &Path, windows: Option<Windows>) -> Channel {
    let socket = socket.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { connect(&socket).await.map(TokioIo::new) }
    });
    // what the `:authority` of each call says; the address is the socket's
    let mut endpoint = Endpoint::from_static("http://localhost");
    if let Some(Windows { stream_bytes, connection_bytes, head_bytes }) = windows {
        endpoint = endpoint
            .initial_stream_window_size(stream_bytes)
            .initial_connection_window_size(connection_bytes)
            .http2_max_header_list_size(head_bytes);
    }
    endpoint.connect_with_connector_lazy(connector)
}
