//! What volumes keep, over random histories and every interruption.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod acts;
mod archives;
mod at_once;
mod away;
mod come_back;
mod deleting;
mod disk_faults;
mod door;
mod evict;
mod found;
mod gathering;
mod holding;
mod home;
mod interruption;
mod lacks;
mod lawful;
mod looks;
mod lost_answers;
mod lost_heads;
mod mending;
mod model;
mod pool_faults;
mod requests;
mod second_lives;
mod specify;
mod sweep;
mod taken_back;
mod together;
mod watched;
mod world;
