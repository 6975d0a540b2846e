//! The volumes of one node.
//!
//! A [`Node`] holds a pool and an object store together: it freezes volumes,
//! stores what changed, restores, forks, and reads and writes files. Above it are
//! projects and people, which it does not know.
//!
//! **Invariant:** what a caller was told is *captured* is in the node's database
//! with its subvolume durable on disk; what it was told is *saved* is named by a head
//! whose PUT was acknowledged. Between the two stands a row of pending work that
//! no crash removes.
//!
//! **Invariant:** a volume's head is written by one task only.

mod capture;
mod claim;
mod ending_store;
mod files;
mod in_making;
mod in_use;
mod node;
mod recover;
mod save;
mod serve;
mod standstill;
mod volume;
mod work;

pub use claim::Holding;
pub use node::{Node, NodeOptions, StartError};
