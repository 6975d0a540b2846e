//! The Container Storage Interface over the Volume Hub.
//!
//! Start at [`serve`]. Controller and GroupController speak to [`cove_hub::VolumeHub`]; Node mounts what is on this
//! machine.
//!
//! **Invariant:** the driver keeps no record of its own and may be killed at any time. What is mounted is read from
//! `/proc/self/mountinfo`, what is published from the labels of the volume, the rest from the Hub.
//!
//! **Invariant:** messages of the interface are read and written here and nowhere else; what is malformed is refused
//! before anything is asked or done, with the name of the field.

mod capability;
mod controller;
mod csi;
mod group;
mod health;
mod healthz;
mod identity;
mod mounts;
mod node;
mod paging;
pub mod proto;
mod registration;
mod request;
mod socket;
mod status;
mod target;
mod thing;
mod unwell;

pub use cove_unix_grpc::listen;
pub use csi::{Compat, Csi, DRIVER, Options, Services, serve};
pub use healthz::serve_healthz;
pub use registration::{
    Registered, Registration, RegistrationState, registration_socket, serve_registration,
};
pub use request::TOPOLOGY_NODE;
pub use socket::parse_endpoint;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;
