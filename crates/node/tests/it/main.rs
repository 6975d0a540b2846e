//! What volumes keep, over random histories and every interruption.

mod interruption;
mod requests;
mod world;
