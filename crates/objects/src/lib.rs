//! Objects in memory, in a directory or in S3, with conditional writes.
//!
//! An object is some bytes under a [`Key`]. It is written whole, by
//! [`Store::put_if_absent`] or [`Store::put_if_match`], and read whole or in
//! ranges. There is no unconditional write.
//!
//! **Invariant:** "absent" ([`ReadError::NotFound`]) and "not written"
//! ([`Put::Refused`]) are said only on the store's own definite word. A time-out,
//! a 5xx, a 409, a lost connection or a failed fsync is `Unknown`: neither success
//! nor failure, until the same request is answered definitely.

#[cfg(test)]
mod contract;
mod counts;
mod directory;
mod error;
mod key;
mod location;
mod memory;
mod probe;
mod s3;
mod store;

pub use counts::Requests;
pub use directory::DirectoryStore;
pub use error::{OpenError, ReadError, WriteError};
pub use key::Key;
pub use location::{Location, StoreUrl, parse_url};
pub use memory::{Fault, MemoryStore, Request};
pub use probe::{Probe, ProbeError, Rules, probe};
pub use s3::{S3Config, S3Store, SILENCE_MAX};
pub use store::{Listed, Object, Put, Store, Version};
