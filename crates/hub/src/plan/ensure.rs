//! On which node a volume is current.

use super::{View, unavailable};
use crate::HubError;
use crate::volume_hub::{EnsureCached, Placement};

/// Gives the node that takes the volume's writes, when it is one of the candidates or any will do.
///
/// Volumes stay where they are: candidates without the owner among them are none. The bytes that may be moved do not
/// matter yet, since none are.
///
/// # Errors
///
/// [`HubError`].
pub fn ensure_cached(view: &View, wanted: &EnsureCached) -> Result<Placement, HubError> {
    let volume = view.get_live(&wanted.volume)?;
    let asked = wanted.candidates.len();
    let node = volume.node.clone();
    if asked > 0 && !wanted.candidates.contains(&node) {
        let volume = wanted.volume.clone();
        return Err(HubError::OwnedElsewhere { volume, owner: node, asked });
    }
    match volume.path.clone() {
        Some(path) => Ok(Placement { node, path }),
        None => Err(unavailable(
            format!("give volume {} to node {node}", wanted.volume),
            "its files are not there",
        )),
    }
}
