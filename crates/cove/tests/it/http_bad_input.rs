//! Bad input through the HTTP API: refused with the right status and in words that a person can
//! read, and nothing is changed.
//!
//! What is sent comes from the API's document, so that no call, parameter or field is left out:
//! a new one without values here fails the test that walks over them.

mod caller;
mod callers;
mod document;
mod keys;
mod random;
mod values;
mod wire;
