//! New volumes.

use std::sync::Arc;

use cove_content::document::{ForkedFrom, NAME_BYTES_MAX, ProjectDocument};
use cove_content::volumes::{Moment, NewVolume, Saving, Source, VolumeError, VolumeStatus};
use cove_types::{Digest, Durability, NodeId, ProjectId, VolumeId, VolumeName};
use futures::FutureExt;
use futures::future::ready;
use serde_json::{Map, Value};

use crate::hub::{Inner, Rest};
use crate::nodes::Observed;
use crate::plan::{self, Create, New};
use crate::request::{self, PRINCIPAL, call, volume_of, whole_of};
use crate::thing::Thing;
use crate::volume_hub::{CreateVolume, Volume, VolumeSource};
use crate::{HubError, words};

// a volume's name is one for a project, too
const _: () = assert!(VolumeName::BYTES_MAX <= NAME_BYTES_MAX);

impl Inner {
    pub(super) async fn create_volume(
        self: Arc<Self>,
        wanted: CreateVolume,
    ) -> Result<Rest<(Volume, Durability)>, HubError> {
        let made = volume_of(&wanted.operation);
        let under_way = self
            .in_flight
            .begin(vec![Thing::Name(wanted.name.clone()), Thing::Volume(made.clone())])?;
        let mut observed = self.nodes.observe_some(&plan::looked_for(&wanted)).await?;
        self.nodes.observe_room(&mut observed).await;
        if let Some(VolumeSource::Snapshot(id)) = &wanted.source {
            self.nodes.observe_snapshot(&mut observed, id).await?;
        }
        match plan::create(&observed.view, &wanted)? {
            Create::Answer(volume) => {
                if volume == made {
                    self.check_same(&wanted, &volume, &observed).await?;
                }
                drop(under_way);
                Ok(async move { self.answer(&volume, wanted.wait_saved).await }.boxed())
            }
            Create::Make(new) => {
                let node = new.node.clone();
                let (status, saved) = self.make(&wanted, *new, &observed).await?;
                drop(under_way);
                if !wanted.wait_saved {
                    let made = (words::volume(&node, &status), status.durability);
                    return Ok(ready(Ok(made)).boxed());
                }
                let saved = async move {
                    let status = saved.await.map_err(|error| {
                        let volume = &status.volume;
                        HubError::of(format!("save volume {volume}"), volume, error)
                    })?;
                    Ok((words::volume(&node, &status), Durability::Saved))
                };
                Ok(saved.boxed())
            }
        }
    }

    /// A volume that is there, as the answer to a repetition.
    async fn answer(
        &self,
        volume: &VolumeId,
        wait_saved: bool,
    ) -> Result<(Volume, Durability), HubError> {
        let (mut node, mut status) = self.get_live(volume).await?;
        if wait_saved {
            self.wait_saved(&node, volume).await?;
            (node, status) = self.get_live(volume).await?;
        }
        let durability = if wait_saved { Durability::Saved } else { status.durability };
        Ok((words::volume(&node, &status), durability))
    }

    /// Refuses another request than the one that made the volume, which differs in the size alone: a node that is asked
    /// to make once more what is there tells what became of the operation. One that has forgotten it says only that the
    /// volume is there, or that the id is too old to be known, and does not refuse. One that cannot say leaves open
    /// which request this is: then it is neither answered nor refused as another.
    async fn check_same(
        &self,
        wanted: &CreateVolume,
        volume: &VolumeId,
        observed: &Observed,
    ) -> Result<(), HubError> {
        let Some((node, status)) = observed.statuses.get(volume) else { return Ok(()) };
        let again = NewVolume {
            volume: volume.clone(),
            document: status.document.clone(),
            spec: status.spec.clone(),
        };
        let call = call(whole_of(&wanted.operation), "create", &request::wanted(wanted));
        match self.nodes.get(node)?.create(call, again, Source::Empty).await {
            Ok(_) | Err(VolumeError::Exists { .. } | VolumeError::TooOld) => Ok(()),
            Err(error) => {
                Err(HubError::of(format!("look how volume {volume} was made"), volume, error))
            }
        }
    }

    async fn make(
        &self,
        wanted: &CreateVolume,
        new: New,
        observed: &Observed,
    ) -> Result<(VolumeStatus, Saving<VolumeStatus>), HubError> {
        let node = self.nodes.get(&new.node)?;
        let document = self.document(wanted, &new, observed)?;
        let asked = request::wanted(wanted);
        let what = format!("create volume {}", new.volume);
        let New { volume, spec, origin, .. } = new;
        let target = NewVolume { volume: volume.clone(), document, spec };
        let Some(origin) = origin else {
            let call = call(whole_of(&wanted.operation), "create", &asked);
            let captured = node.create(call, target, Source::Empty).await;
            let captured = captured.map_err(|error| not_made(what, &volume, error))?;
            let saved = captured.saved.map(|saved| saved.map(|(status, _)| status));
            return Ok((captured.value.0, Box::pin(saved)));
        };
        let call = call(origin.operation, "create", &asked);
        let captured = node.fork(call, origin.volume.clone(), origin.moment, vec![target]).await;
        let captured = captured.map_err(|error| not_made(what, &origin.volume, error))?;
        let one = |statuses: Vec<VolumeStatus>| statuses.into_iter().next();
        let status = one(captured.value).ok_or(HubError::NoVolume { volume: volume.clone() })?;
        let not_here = move || VolumeError::NotHere { volume };
        let saved = captured.saved.map(move |saved| one(saved?).ok_or_else(not_here));
        Ok((status, Box::pin(saved)))
    }

    /// The document of the project that the volume may become. Its slug is the volume's id, which is one and which
    /// follows from 120 bits that nobody knows before: no project has it already.
    fn document(
        &self,
        wanted: &CreateVolume,
        new: &New,
        observed: &Observed,
    ) -> Result<ProjectDocument, HubError> {
        let source = new.origin.as_ref().and_then(|origin| {
            let (_, status) = observed.statuses.get(&origin.volume)?;
            Some((&origin.moment, &status.document))
        });
        let map = |of: fn(&ProjectDocument) -> &Map<String, Value>| {
            source.map(|(_, document)| of(document).clone()).unwrap_or_default()
        };
        let shown = wanted.name.as_str().chars().map(|c| if c.is_control() { ' ' } else { c });
        Ok(ProjectDocument {
            id: ProjectId::derive(PRINCIPAL, &wanted.operation, 0),
            name: shown.collect(),
            slug: new.volume.as_str().parse()?,
            config: map(|document| &document.config),
            graph: map(|document| &document.graph),
            // the node fills in the tree that it forks
            forked_from: source.map(|(moment, document)| ForkedFrom {
                project: document.id.clone(),
                entry: match moment {
                    Moment::Now => None,
                    Moment::Entry(entry) => Some(*entry),
                },
                tree: Digest::HOLE,
            }),
            created_at: self.env.now(),
            unknown: Map::new(),
        })
    }

    /// Waits until what a volume has captured is saved, also of one that is deleted.
    pub(super) async fn wait_saved(
        &self,
        node: &NodeId,
        volume: &VolumeId,
    ) -> Result<(), HubError> {
        let saved = self.nodes.get(node)?.wait_saved(volume).await;
        saved.map_err(|error| HubError::of(format!("save volume {volume}"), volume, error))
    }

    /// A volume that is in use, as its node tells it.
    pub(super) async fn get_live(
        &self,
        volume: &VolumeId,
    ) -> Result<(NodeId, VolumeStatus), HubError> {
        let mut observed = self.nodes.observe(volume).await?;
        observed.view.get_live(volume)?;
        let found = observed.statuses.remove(volume);
        found.ok_or_else(|| HubError::NoVolume { volume: volume.clone() })
    }
}

/// Why a node made no volume. An id that was used although no volume has it is that of one that is gone.
fn not_made(what: String, source: &VolumeId, error: VolumeError) -> HubError {
    match error {
        VolumeError::Exists { volume } => HubError::NoVolume { volume },
        error => HubError::of(what, source, error),
    }
}
