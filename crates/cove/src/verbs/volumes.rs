//! Volumes, whoever made them.

use cove_client::ClientError;
use cove_types::wire::Volume;
use cove_types::{ErrorKind, VolumeId};

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

    pub(super) async fn volume(&self, written: &str) -> Result<(), Failure> {
        let volume = self.resolve(written).await?;
        let reply = self.client.volume(&volume).await?;
        self.output.show(&reply, [reply.volume.id.clone()], || {
            render::volume(&reply.volume, self.env.now())
        })
    }

    /// The volume that an id or a name means; an id goes before a name. An id that none has stays as it is:
    /// who is asked for it says so.
    pub(super) async fn resolve(&self, written: &str) -> Result<VolumeId, Failure> {
        let id = written.parse::<VolumeId>().ok();
        if let Some(id) = &id {
            match self.client.volume(id).await {
                Ok(_) => return Ok(id.clone()),
                Err(ClientError::Problem(problem)) if problem.kind == ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        match (named(written, &self.client.volumes().await?.volumes)?, id) {
            (Some(found), _) => parse(found),
            (None, Some(id)) => Ok(id),
            (None, None) => {
                let shown = cove_types::escape_bytes(written.as_bytes());
                Err(Failure::new(ErrorKind::NotFound, format!("volume {shown} does not exist"))
                    .hint("`cove volume ls` lists the volumes"))
            }
        }
    }
}

/// The id of the volume that is called so. Names of volumes differ, but a project that was renamed leaves its volume
/// the name that another's may have by now.
fn named<'v>(name: &str, volumes: &'v [Volume]) -> Result<Option<&'v str>, Failure> {
    let ids: Vec<&str> = volumes
        .iter()
        .filter(|volume| volume.name == name)
        .map(|volume| volume.id.as_str())
        .collect();
    match ids[..] {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        _ => Err(Failure::new(
            ErrorKind::Invalid,
            format!("{} volumes are called {}", ids.len(), crate::failure::printable(name)),
        )
        .hint(format!("give the id of one: {}", ids.join(", ")))),
    }
}
