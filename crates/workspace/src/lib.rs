//! Projects and what people do with them.
//!
//! Names, timelines, forks, restores and the trash, over the trait
//! [`cove_content::volumes::Volumes`]; it reaches bytes through nothing else.
//!
//! **Invariant:** a call takes effect at most once for its key, and whoever repeats it gets
//! the first result: the key is bound to its request and operation id in the database before
//! the work begins, and the work is a task of its own that outlives its caller.

mod error;
pub mod fake;
mod listing;
mod names;
mod operations;
mod reconcile;
mod request;
mod search;
mod shape;
mod verification;
mod workspaces;

pub use error::{Failure, WorkspaceError};
pub use listing::Listing;
pub use names::FORKS_MAX;
pub use operations::Known;
pub use reconcile::Reconciled;
pub use request::{Request, Saving, Started};
pub use search::LinePattern;
pub use workspaces::{Options, Workspaces};
