//! Which volume a name means.

use cove_types::{VolumeId, escape_bytes};

use super::View;
use crate::HubError;
use crate::volume_hub::Resolve;

/// Finds a live volume by what it is called, or by its project. A name that several have is none's.
///
/// # Errors
///
/// [`HubError`].
pub fn resolve(view: &View, what: &Resolve) -> Result<VolumeId, HubError> {
    let (found, what, absent): (Vec<&VolumeId>, String, HubError) = match what {
        Resolve::Name(name) => {
            let found = view.live_called(name).map(|(volume, _)| volume).collect();
            let name = escape_bytes(name.as_bytes());
            (found, format!("volume called \"{name}\""), HubError::NoName { name })
        }
        Resolve::Project(slug) => {
            let live = view.volumes.iter().filter(|(_, volume)| volume.is_live());
            let found = live.filter(|(_, volume)| volume.project() == Some(slug));
            let absent = HubError::NoProject { project: slug.clone() };
            (found.map(|(volume, _)| volume).collect(), format!("project {slug}"), absent)
        }
    };
    match found.as_slice() {
        [volume] => Ok((*volume).clone()),
        [] => {
            view.check_whole(&format!("look for a {what}"))?;
            Err(absent)
        }
        several => {
            let volumes = several.iter().map(|volume| volume.as_str()).collect::<Vec<_>>();
            Err(HubError::SeveralCalled { what, volumes: volumes.join(", ") })
        }
    }
}
