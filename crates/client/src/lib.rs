//! A client of the HTTP API.
//!
//! It reaches a Cove through its unix socket or by URL and token, speaks
//! [`cove_types::wire`] and streams bodies both ways. Work that outlives its call is
//! followed until it is on the node or saved.
//!
//! **Invariant:** a call that changes something carries one operation id from its
//! first attempt to its last, so that a lost answer never makes a second change.

mod client;
mod connection;
mod error;
pub mod routes;
mod target;
mod upload;
mod waiting;

pub use client::{Client, Download, Origin, Place, Remarks, VerifyRequest};
pub use error::ClientError;
pub use upload::{Breaker, Upload, UploadWriter};
pub use waiting::{Finished, Until, Wait};
