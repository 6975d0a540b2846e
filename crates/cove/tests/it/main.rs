//! Cove from outside: the program that users start, on a real pool and real stores.
//!
//! Each test has a home of its own. They need root, btrfs and loop devices, and say so
//! where one of them is missing.

#![expect(
    clippy::disallowed_methods,
    reason = "these tests start the program, and wait for it in real time"
)]
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod apart;
mod archives;
mod bad_input;
mod completions;
mod contract;
mod copies;
mod csi;
mod damage;
mod damage_at_random;
mod databases;
mod fidelity;
mod files;
mod full_and_away;
mod harness;
mod http_bad_input;
mod hub;
mod interrupted;
mod json_shapes;
mod limits;
mod loop_disk;
mod losing_the_store;
mod lost_machine;
mod memory;
mod model_of_commands;
mod output;
mod process;
mod quota;
mod restore_under_use;
mod restores;
mod room;
mod s3_faults;
mod second_lives;
mod store_away;
mod story;
mod terminal;
mod uninstall;
mod workspace_files;
mod writers;
