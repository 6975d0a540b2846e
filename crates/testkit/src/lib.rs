//! What tests need of the world: an S3 server, one that breaks the law, a door before it that a
//! test may shut, a proxy before it that fails by plan, a disk that errs, and trees to store with
//! a comparison of trees.

mod fault_proxy;
mod faulty_disk;
mod gate;
mod lawless_store;
pub mod proof;
mod s3_server;
pub mod trees;

pub use fault_proxy::{Class, Fault, FaultPlan, FaultProxy, Seen, Verb};
pub use faulty_disk::{FaultyDisk, Step, When};
pub use gate::Gate;
pub use lawless_store::{Keeps, LawlessStore};
pub use s3_server::S3Server;

/// Waits until something is so, a minute at most.
#[cfg(test)]
#[track_caller]
fn wait_until(is_so: impl Fn() -> bool) {
    let step = std::time::Duration::from_millis(10);
    let mut left = 6_000;
    while !is_so() {
        assert!(left > 0, "it did not come to it");
        left -= 1;
        std::thread::park_timeout(step);
    }
}
