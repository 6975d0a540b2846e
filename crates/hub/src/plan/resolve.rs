//! Which volume a name means.

use cove_types::VolumeId;

use super::View;
use crate::HubError;
use crate::volume_hub::Resolve;

/// Finds a live volume by the name that it was made under, or by its project's.
///
/// # Errors
///
/// [`HubError`].
pub fn resolve(view: &View, what: &Resolve) -> Result<VolumeId, HubError> {
    let (found, name) = match what {
        Resolve::Name(name) => (view.live_called(name).next(), name.as_str()),
        Resolve::Project(slug) => {
            let mut live = view.volumes.iter().filter(|(_, volume)| volume.is_live());
            (live.find(|(_, volume)| volume.project() == Some(slug)), slug.as_str())
        }
    };
    match found {
        Some((volume, _)) => Ok(volume.clone()),
        None => {
            let name = cove_types::escape_bytes(name.as_bytes());
            view.check_whole(&format!("look for a volume called \"{name}\""))?;
            Err(HubError::NoName { name })
        }
    }
}
