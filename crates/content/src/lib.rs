//! What a workspace is once it is stored.
//!
//! Chunks, packs, indexes, trees and heads; storing, restoring, comparing and
//! checking them. Deciding and encoding are synchronous and pure; object stores are
//! reached from blocking threads through one narrow place.
//!
//! **Invariant:** bytes that leave this crate towards a user were checked against
//! their digest, and a head is written only after everything that it names.

pub use decode::DecodeError;

pub mod archive;
pub mod chunk;
pub mod chunks;
pub mod claim;
pub mod commit;
mod decode;
pub mod document;
pub mod entry;
pub mod frame;
pub mod gather;
pub mod head;
mod in_order;
pub mod incremental;
pub mod index;
pub mod json;
pub mod locations;
pub mod pack;
pub mod read;
pub mod rebuild;
pub mod remote;
pub mod restore;
pub mod retention;
pub mod root;
#[cfg(test)]
mod sample;
pub mod session;
pub mod spec;
pub mod store;
pub mod tree;
pub mod verify;
pub mod volumes;
