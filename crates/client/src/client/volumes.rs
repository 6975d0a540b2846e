//! Volumes, whoever made them.

use cove_types::{VolumeId, wire};

use super::Client;
use crate::target::Target;
use crate::{ClientError, routes};

impl Client {
    /// All volumes.
    ///
    /// # Errors
    ///
    /// As every call: [`ClientError`].
    pub async fn volumes(&self) -> Result<wire::VolumesReply, ClientError> {
        self.get(Target::new(routes::VOLUMES, &[])).await
    }

    /// One volume.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn volume(&self, volume: &VolumeId) -> Result<wire::VolumeReply, ClientError> {
        self.get(Target::new(routes::VOLUME, &[volume.as_str()])).await
    }
}
