//! Tests of the code itself: who may know whom, and what must be written down.
//!
//! Each module holds one rule twice: as a function from facts to faults, with a
//! test that breaks it on purpose, and as a test that finds no fault in this
//! repository.

mod confinement;
mod documents;
mod errors;
mod files;
mod layers;
mod lock;
mod mission;
mod repository;
mod words;

/// Fails with one fault a line.
fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "\n  {}\n", faults.join("\n  "));
}
