//! The volumes of a node on a unix socket.

use std::sync::Arc;

use cove_content::volumes::Volumes;
use cove_unix_grpc::{Listening, ServeError, Served, Windows};
use tonic::service::Routes;
use tonic::transport::Server;

use crate::pb::DESCRIPTORS;
use crate::pb::node_server::{NodeServer, SERVICE_NAME};
use crate::service::Service;

/// The longest message, in bytes. The longest lawful one is a volume with the list of what its tree does not hold, which
/// has at most 1 MiB in the store and twice that here; believing a longer length would have us allocate it.
pub(crate) const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// The most calls of one connection at a time. Most of them wait for something to be saved, which can take as long
/// as the store is out of reach, and cost some KiB.
const CALLS_MAX: u32 = 1 << 12;

/// What may be unread of one stream, in bytes.
const STREAM_WINDOW: u32 = 256 << 10;

/// Of all streams together as much as of each, so that those that nobody reads do not stop the others.
pub(crate) const WINDOWS: Windows = Windows {
    stream_bytes: STREAM_WINDOW,
    connection_bytes: CALLS_MAX * STREAM_WINDOW,
    // an error with its causes, each as long as they are told
    head_bytes: 256 << 10,
};

/// Serves `volumes` on a socket from [`listen`](crate::listen) until `shutdown` ends, when its file goes, with
/// `grpc.health.v1` and `grpc.reflection` beside it. Callers are root and the user of this process; the kernel says
/// who they are.
///
/// What comes with a call and what an archive is written to block, and belong into threads that may: a worker of the
/// runtime that waits there can be the one that would bring the bytes.
///
/// At the end no call is taken any more; whoever waits for something to be saved is told that the node stops, and
/// bytes that still come in break off. A call that has begun to change something runs to its end, although its
/// caller is gone. This waits for those as long as they take, which is for ever where one waits for a store that
/// is out of reach: stop the node meanwhile, or drop this future, which leaves them to the runtime.
///
/// # Errors
///
/// [`ServeError`] when it could not begin.
pub async fn serve(
    volumes: Arc<dyn Volumes>,
    listening: Listening,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ServeError> {
    let served = Served { what: "the node", name: SERVICE_NAME, descriptors: DESCRIPTORS };
    let server = Server::builder()
        .max_concurrent_streams(CALLS_MAX)
        .initial_stream_window_size(WINDOWS.stream_bytes)
        .initial_connection_window_size(WINDOWS.connection_bytes);
    let routes = |ending| {
        let service = NodeServer::new(Service::new(volumes, ending));
        Routes::new(service.max_decoding_message_size(MESSAGE_BYTES_MAX))
    };
    cove_unix_grpc::serve(served, server, routes, listening, shutdown).await
}
