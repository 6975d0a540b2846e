//! The tables of a node and of a server, in SQLite.
//!
//! Rows and single transactions; what they mean is decided above. Moments are
//! microseconds since 1970, JSON is text, and the SQL is plain enough that
//! PostgreSQL can take the server's part later.
//!
//! **Invariant:** what a call has written when it returns `Ok` is there after a
//! power cut, whole, and what it did not finish is absent, whole (write-ahead log,
//! `synchronous = FULL`, one writer).

mod connections;
mod error;
mod node;
mod reserve;
mod server;

pub use error::DatabaseError;
pub use node::{
    CopyRow, DiscardedRow, Finished, HeadRow, NodeDatabase, PendingRow, ResultRow, StoredRow,
};
pub use reserve::{Lent, Reserve};
pub use server::{
    AuditRecord, AuditRow, OperationRow, OperationState, OperationUpdate, ProjectRow, ProjectState,
    ServerDatabase, Verified,
};
