//! Where volumes are, and what becomes of a request for one.
//!
//! [`VolumeHub`] is what programs ask. Start at `hub.rs`: each call observes, plans and carries out, and what is
//! planned is decided in [`plan`].
//!
//! **Invariant:** no I/O, no clock and no lock in a decision. What the Hub knows is a
//! [`View`](plan::View); if a decision needs a new fact, the fact goes into the view.
//!
//! **Invariant:** the Hub holds no volume data and no record of its own, and may be killed at any time: what there
//! is is read from the nodes, and so from heads.

mod error;
#[cfg(test)]
mod fake;
mod forwarding;
mod hub;
pub mod in_flight;
mod nodes;
mod paging;
mod parameters;
pub mod plan;
pub mod published;
mod request;
mod thing;
pub mod volume_hub;
mod watch;
mod words;

pub use error::HubError;
pub use hub::Hub;
pub use parameters::check as check_parameters;
pub use volume_hub::VolumeHub;
