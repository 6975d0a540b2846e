//! What volumes keep, over random histories and every interruption.

mod requests;
mod world;
