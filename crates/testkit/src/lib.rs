//! What tests need of the world: an S3 server, one that breaks the law, a door before it that a
//! test may shut, a disk that errs, and trees to store with a comparison of trees.

mod faulty_disk;
mod gate;
mod lawless_store;
pub mod proof;
mod s3_server;
pub mod trees;

pub use faulty_disk::{FaultyDisk, Step, When};
pub use gate::Gate;
pub use lawless_store::{Keeps, LawlessStore};
pub use s3_server::S3Server;
