//! What tests need of the world: an S3 server, and trees to store with a
//! comparison of trees.

pub mod proof;
mod s3_server;
pub mod trees;

pub use s3_server::S3Server;
