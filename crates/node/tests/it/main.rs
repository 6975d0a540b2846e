//! What volumes keep, over random histories and every interruption.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod away;
mod door;
mod gathering;
mod interruption;
mod lacks;
mod mending;
mod model;
mod pool_faults;
mod requests;
mod second_lives;
mod sweep;
mod world;
