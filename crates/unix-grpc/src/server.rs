//! A server on a unix socket.

use std::future::pending;
use std::time::Duration;

use cove_types::{Classify, ErrorKind};
use tokio::sync::watch;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic_health::ServingStatus;

use crate::connections::{connections_until, is_true};
use crate::deadline::Deadlines;
use crate::running::Running;
use crate::socket::Listening;

/// How long connections on which nothing runs that changes anything have to end by themselves.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// Why something was not served.
#[derive(Debug, thiserror::Error)]
#[error("failed to serve {what}")]
pub struct ServeError {
    what: &'static str,
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl Classify for ServeError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Internal
    }
}

/// What is served.
#[derive(Debug, Clone, Copy)]
pub struct Served {
    /// What it is, for people: `the hub`.
    pub what: &'static str,
    /// The service's name on the wire.
    pub name: &'static str,
    /// The encoded descriptors of the wire, for reflection.
    pub descriptors: &'static [u8],
}

/// How a service takes part in the server's end.
#[derive(Debug, Clone)]
pub struct Ending {
    /// True once no call is to begin any more.
    pub stopping: watch::Receiver<bool>,
    /// The server waits for the calls that are counted here.
    pub running: Running,
}

/// Serves what `routes` makes, on a socket from [`listen`](crate::listen), until `shutdown` ends, with
/// `grpc.health.v1` and `grpc.reflection` beside it. Callers are root and the user of this process; the kernel says
/// who they are.
///
/// At the end no call is taken any more and those that are counted as running run to their ends, those too whose
/// callers are gone. Waits for them as long as they take; whoever drops this future leaves them to the runtime. All
/// others are cut off soon. The socket's file goes when the end begins.
///
/// # Errors
///
/// [`ServeError`] when it could not begin.
pub async fn serve(
    served: Served,
    server: Server,
    routes: impl FnOnce(Ending) -> Routes,
    listening: Listening,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ServeError> {
    let Served { what, name, descriptors } = served;
    let failed = |source| ServeError { what, source };
    let Listening { listener, file } = listening;
    let (stop, stopping) = watch::channel(false);
    let (cut, cutting) = watch::channel(false);
    let running = Running::new();

    let (health, health_server) = tonic_health::server::health_reporter();
    health.set_service_status(name, ServingStatus::Serving).await;
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(descriptors)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let routes = routes(Ending { stopping: stopping.clone(), running: running.clone() });
    let serving = server
        .layer(Deadlines)
        .add_routes(routes)
        .add_service(health_server)
        .add_service(reflection().build_v1().map_err(|error| failed(error.into()))?)
        .add_service(reflection().build_v1alpha().map_err(|error| failed(error.into()))?)
        .serve_with_incoming_shutdown(connections_until(listener, cutting), is_true(stopping));

    let ending = async {
        shutdown.await;
        // who comes next finds nobody, or the next server
        drop(file);
        for name in ["", name] {
            health.set_service_status(name, ServingStatus::NotServing).await;
        }
        let _ = stop.send(true);
        running.none().await;
        // whoever keeps a stream open that is not counted, or does not read, does not keep the server
        tokio::time::sleep(CLOSE_WAIT).await;
        // a call that was on its way when the others had ended
        running.none().await;
        let _ = cut.send(true);
        pending::<()>().await;
    };
    // whoever drops this drops the file before the listener, as it wants it
    tokio::select! {
        () = ending => {}
        served = serving => served.map_err(|error| failed(error.into()))?,
    }
    running.none().await;
    Ok(())
}
