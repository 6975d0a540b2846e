//! The Hub on a unix socket.

use std::sync::Arc;

use cove_hub::VolumeHub;
use cove_unix_grpc::{Listening, ServeError, Served};
use tonic::service::Routes;
use tonic::transport::Server;

use crate::nodes::{NodeRegistry, NodesService};
use crate::pb::nodes_server::NodesServer;
use crate::pb::volume_hub_server::{SERVICE_NAME, VolumeHubServer};
use crate::pb::{HUB, HUB_AND_NODES};
use crate::service::Service;

/// The longest request, in bytes, as gRPC has it when nothing is said. A lawful one has some KiB, but for a list of
/// candidates; believing a longer length would have us allocate it.
pub(crate) const REQUEST_BYTES_MAX: usize = 4 << 20;

/// The most calls of one connection at a time.
const CALLS_MAX: u32 = 128;

/// Serves `hub` on a socket from [`listen`](crate::listen) until `shutdown` ends, when its file goes, with
/// `grpc.health.v1` and `grpc.reflection` beside it. Callers are root and the user of this process; the kernel says
/// who they are.
///
/// At the end no call is taken any more, those that watch are told that the Hub is unavailable, all others end, those
/// too whose callers are gone: a call that has begun to change something runs to its end. Waits for them as long as
/// they take; whoever drops this future leaves them to the runtime.
///
/// # Errors
///
/// [`ServeError`] when it could not begin.
pub async fn serve(
    hub: Arc<dyn VolumeHub>,
    listening: Listening,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ServeError> {
    serve_both(hub, None, listening, shutdown).await
}

/// The same with the service by which nodes come.
///
/// # Errors
///
/// [`ServeError`] when it could not begin.
pub async fn serve_with_nodes(
    hub: Arc<dyn VolumeHub>,
    registry: Arc<dyn NodeRegistry>,
    listening: Listening,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ServeError> {
    serve_both(hub, Some(registry), listening, shutdown).await
}

async fn serve_both(
    hub: Arc<dyn VolumeHub>,
    registry: Option<Arc<dyn NodeRegistry>>,
    listening: Listening,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ServeError> {
    let descriptors = if registry.is_some() { HUB_AND_NODES } else { HUB };
    let served = Served { what: "the hub", name: SERVICE_NAME, descriptors };
    let server = Server::builder().max_concurrent_streams(CALLS_MAX);
    let idle = Arc::clone(&hub);
    let routes = |ending| {
        let service = VolumeHubServer::new(Service::new(hub, ending));
        let routes = Routes::new(service.max_decoding_message_size(REQUEST_BYTES_MAX));
        match registry {
            Some(registry) => routes.add_service(NodesServer::new(NodesService(registry))),
            None => routes,
        }
    };
    cove_unix_grpc::serve(served, server, routes, listening, shutdown).await?;
    idle.wait_idle().await;
    Ok(())
}
