//! Volumes, whoever made them.

use cove_types::VolumeId;

use super::{Session, parse};
use crate::failure::Failure;
use crate::render;

impl Session {
    pub(super) async fn volumes(&self) -> Result<(), Failure> {
        let reply = self.client.volumes().await?;
        let ids = reply.volumes.iter().map(|volume| volume.id.clone());
        self.output.show(&reply, ids, || match reply.volumes.is_empty() {
            true => String::new(),
            false => render::volumes(&reply.volumes, self.env.now()),
        })?;
        if reply.volumes.is_empty() {
            self.output.say("no volumes; `cove new NAME` makes a project with one");
        }
        Ok(())
    }

    pub(super) async fn volume(&self, volume: &str) -> Result<(), Failure> {
        let volume: VolumeId = parse(volume)?;
        let reply = self.client.volume(&volume).await?;
        self.output.show(&reply, [reply.volume.id.clone()], || {
            render::volume(&reply.volume, self.env.now())
        })
    }
}
