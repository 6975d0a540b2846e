//! The volumes of a node over gRPC: a server and a client.
//!
//! [`serve`] puts [`Volumes`](cove_content::volumes::Volumes) on a unix socket, [`NodeClient`] is those of another
//! process. The wire is `api/proto/cove/node/v1/node.proto`.
//!
//! **Invariant:** what comes from the other side becomes a type of the domain or is refused at the door, with the
//! name of the field that is wrong; generated types do not leave this crate. Bytes and lists whose end was not said
//! are never taken as whole.

mod client;
mod connection;
mod failure;
mod field;
mod list;
mod pb;
mod pieces;
mod reply;
mod request;
mod server;
mod service;
mod steps;
mod word;

pub use client::NodeClient;
pub use cove_unix_grpc::{Listening, ServeError, listen};
pub use server::serve;
