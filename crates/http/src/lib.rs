//! The HTTP API.
//!
//! Words of the wire in, words of the domain out: each call reads its request once,
//! asks [`Workspaces`](cove_workspace::Workspaces), and answers in
//! [`cove_types::wire`] or with a problem (RFC 9457).
//!
//! **Invariant:** over TCP no call is answered before its token, `Host` and `Origin`
//! were looked at; only a connection that [`serve_unix`] accepted from one of the users it was
//! told is its owner's without a token.

mod body;
mod draining;
mod guard;
mod jobs;
mod listing;
mod long;
mod openapi;
mod precondition;
mod problem;
mod reading;
mod routes;
mod server;
mod trailers;

pub use openapi::document;
pub use routes::{Options, router, token_digest};
pub use server::{ListenError, check_listen, serve_tcp, serve_unix};
