//! How nodes come to the Hub.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use cove_hub::HubError;
use cove_types::NodeId;
use cove_unix_grpc::refused;
use tonic::{Request, Response, Status};

use crate::field::{FieldError, required};
use crate::pb;
use crate::pb::nodes_server::Nodes;
use crate::status::status;

/// A node that says that it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRegistration {
    /// Its id.
    pub node: NodeId,
    /// The absolute path of its socket.
    pub socket: PathBuf,
    /// `this_disk`, or the URL of its object store.
    pub saved_to: String,
}

/// The longest path and the longest URL of a registration, in bytes.
const TEXT_BYTES_MAX: usize = 4095;

/// What becomes of nodes that say that they are there.
pub trait NodeRegistry: Send + Sync + 'static {
    /// Has a node be reached at its socket from now on, in place of where it was before.
    ///
    /// # Errors
    ///
    /// [`HubError`]; the node says it again.
    fn register(&self, node: NodeRegistration) -> Result<(), HubError>;
}

/// The registry as the wire calls it.
pub(crate) struct NodesService(pub(crate) Arc<dyn NodeRegistry>);

#[async_trait]
impl Nodes for NodesService {
    async fn register_node(
        &self,
        request: Request<pb::RegisterNodeRequest>,
    ) -> Result<Response<pb::RegisterNodeResponse>, Status> {
        let node = registration(request.into_inner()).map_err(|error| refused(&error))?;
        self.0.register(node).map_err(|error| status("RegisterNode", &error))?;
        Ok(Response::new(pb::RegisterNodeResponse {}))
    }
}

fn registration(request: pb::RegisterNodeRequest) -> Result<NodeRegistration, FieldError> {
    let pb::RegisterNodeRequest { node, socket, saved_to } = request;
    let node: NodeId = required("node", &node)?;
    let socket_path = PathBuf::from(&socket);
    if !socket_path.is_absolute() || socket.len() > TEXT_BYTES_MAX || socket.contains('\0') {
        return Err(FieldError::unlawful("socket", "it is an absolute path of at most 4095 bytes"));
    }
    if saved_to.is_empty() || saved_to.len() > TEXT_BYTES_MAX || saved_to.contains(char::is_control)
    {
        return Err(FieldError::unlawful("saved_to", "it is this_disk or a URL"));
    }
    Ok(NodeRegistration { node, socket: socket_path, saved_to })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_somewhere() {
        let request = |node: &str, socket: &str, saved_to: &str| pb::RegisterNodeRequest {
            node: node.into(),
            socket: socket.into(),
            saved_to: saved_to.into(),
        };
        assert!(registration(request("a", "/run/node.sock", "this_disk")).is_ok());
        for (refused, field) in [
            (request("", "/s", "this_disk"), "node"),
            (request("A", "/s", "this_disk"), "node"),
            (request("a", "s", "this_disk"), "socket"),
            (request("a", "", "this_disk"), "socket"),
            (request("a", "/s\0", "this_disk"), "socket"),
            (request("a", "/s", ""), "saved_to"),
            (request("a", "/s", "x\ny"), "saved_to"),
        ] {
            let error = registration(refused).unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
        }
    }
}
