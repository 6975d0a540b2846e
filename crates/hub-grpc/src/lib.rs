//! The Volume Hub over gRPC: a server and a client.
//!
//! [`serve`] puts a [`VolumeHub`](cove_hub::VolumeHub) on a unix socket, [`HubClient`] is one that is in another
//! process. The wire is `api/proto/cove/hub/v1/hub.proto`.
//!
//! **Invariant:** what comes from the other side becomes a type of the domain or is refused at the door, with the
//! name of the field that is wrong; generated types do not leave this crate.

mod client;
mod field;
mod nodes;
mod pb;
mod reply;
mod request;
mod server;
mod service;
mod status;

pub use client::HubClient;
pub use cove_unix_grpc::{Listening, ServeError, listen};
pub use nodes::{NodeRegistration, NodeRegistry};
pub use server::{serve, serve_with_nodes};
