//! gRPC over unix sockets: what the Hub's interface and the node's have in common.
//!
//! [`listen`] and [`channel()`] are the two ends of a socket, [`connections()`] are those who may call, [`serve`] is a
//! server on one, with `grpc.health.v1` and `grpc.reflection`; [`code`] and [`kind`] are errors as the wire has them,
//! [`field`] reads messages field by field. [`contract`] is how a wire is written and what breaks it, for tests.
//!
//! **Invariant:** whoever connects is root or the user of this process, and so is who listens where this process
//! connects; the kernel says so.

mod authority;
mod channel;
mod connections;
pub mod contract;
mod deadline;
pub mod field;
mod running;
mod server;
mod socket;
mod status;

pub use channel::{Windows, channel};
pub use connections::{Connection, connections, is_true};
pub use deadline::{Deadlines, WithDeadline};
pub use field::FieldError;
pub use running::{Run, Running};
pub use server::{Ending, ServeError, Served, serve};
pub use socket::{Listening, Predecessor, SOCKET_PATH_BYTES_MAX, SocketFile, listen, listen_as};
pub use status::{MESSAGE_BYTES_MAX, Unanswered, code, cut, kind, refused};
