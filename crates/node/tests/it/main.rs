//! What volumes keep, over random histories and every interruption.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod interruption;
mod model;
mod requests;
mod second_lives;
mod world;
